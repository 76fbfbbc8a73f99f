"""What `.plot()` and notebooks show of a recommendation."""

from __future__ import annotations

from html import escape
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from ..show import html, paper
from ..show.looks import look, points_shown
from .findings import Findings
from .report import data_lines, sentences, short, shown_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def curves(found: Findings, ax: Axes | None = None) -> Axes:
    """Expected risks by epoch, see `Recommendation.plot`."""
    axis, expected = paper.axes(ax), found.expected
    for i, name in enumerate(("test", "train")):
        how = look(i)
        axis.fill_between(expected["epoch"], expected[f"{name}_low"], expected[f"{name}_high"], color=how["color"], alpha=0.22, linewidth=0)
        axis.plot(
            expected["epoch"], expected[name], color=how["color"], dashes=how["dashes"], linewidth=1.4, label=f"{name} risk, expected"
        )
        if found.verification is not None:
            measured = found.scale * getattr(found.verification.trained, name)[:, : len(expected["epoch"])]
            mean = np.where(np.isfinite(measured).all(0), measured.mean(0), np.nan)
            keep = points_shown(len(mean), i, 2)
            axis.plot(expected["epoch"][keep], mean[keep], label=f"{name} risk, measured", **paper.dots(how))
    axis.axvline(found.advice.epochs, color="0.5", linestyle=":", linewidth=1.2, label=f"stop after {found.advice.epochs}")
    axis.locator_params(axis="x", integer=True)
    axis.set(xlabel="epoch", ylabel="log-loss" if found.loss == "logistic" else "half squared error")
    axis.legend(frameon=False)
    return axis


def html_of(found: Findings) -> str:
    """The advice, how far to trust it, expected curves, and rates for batch sizes."""
    first, *rest = sentences(found)
    colour = {"good": html.GOOD, "care": html.DOUBT, "bad": html.BAD}[found.trust.grade]
    rows = [
        (str(row.batch_size), short(row.learning_rate), short(row.limit), str(row.epochs),
         "recommended" if row.batch_size == found.advice.batch_size else "" if row.useful else "too large to be useful")
        for row in shown_rows(found)
    ]  # fmt: skip
    table = html.table(("batch size", "learning rate", "limit", "epochs", ""), rows)
    lines = "".join(f"<p style='margin:.3em 0'>{escape(line)}</p>" for line in (*data_lines(found), *rest) if not line.startswith("Trust:"))
    details = f"<details><summary style='cursor:pointer'>In full</summary>{lines}</details>"
    picture = (
        ""
        if find_spec("matplotlib") is None
        else html.svg(lambda figure: curves(found, figure.subplots()), (5.6, 2.7), "Expected risks by epoch")
    )
    return html.frame(html.title(first), html.verdict(found.trust.verdict, found.trust.reasons, colour), picture, table, details)
