"""What a notebook shows of a result: curves, how it ended, and settings, as one light piece of HTML.

Nothing is fetched or run, everything written by a user is escaped, and lines and words take the colour of the page's text, so that they
are read on dark pages as well. Without Matplotlib the picture is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..results import Result, Simulation
from ..results.compare import Comparison
from ..results.laws import LawComparison

if TYPE_CHECKING:
    from ..recommend import Recommendation

INK = "#010203"  # stands for the colour of the page's text until a picture is written
GOOD, BAD, DOUBT = "#159a6c", "#e0622b", "#b98a00"  # readable on white and on black
MOST_PANELS = 6


def result(found: Result) -> str:
    """Of a `Solution` or `Simulation`: curves, status, settings and diagnostics."""
    from ..results.report import flat

    kind = "Real runs" if isinstance(found, Simulation) else "Theory"
    settings = dict(found.dataset.attrs)
    title = f"{kind}: {settings.pop('dynamics', '')}".removesuffix(": ")
    colour = GOOD if found.status.code == "done" else BAD
    settings.setdefault("horizon", float(found.dataset["time"].values[-1]))
    told = flat({"settings": settings, "diagnostics": dict(found.diagnostics)})
    verdict = _verdict(found.status.code, found.status.message, colour)
    return _frame(_title(title), verdict, _curves(found), _more("Settings and diagnostics", told))


def comparison(found: Comparison) -> str:
    """Of a `Comparison`: the verdict and its table."""
    head = ("observable", "of scale", "deviation", "beyond bias", "chance", "at t", "agrees")
    rows = [
        (row.observable.replace("_", " "), f"{row.relative:.2%}", f"{row.deviation:.2f} se", f"{row.excess:.2f} se",
         f"{row.allowed:.1f} se", f"{row.time:.3g}", "yes" if row.agree else "NO")
        for row in found.table
    ]  # fmt: skip
    return _frame(_title("Theory against real runs"), _agreement(found), _table(head, rows))


def law_comparison(found: LawComparison) -> str:
    """Of a `LawComparison`: the verdict and its table."""
    head = ("law of", "at t", "Kolmogorov-Smirnov", "chance", "Wasserstein", "agrees")
    rows = [
        (row.law, f"{row.time:.3g}", f"{row.ks:.4f}", f"{row.allowed:.4f}", f"{row.wasserstein:.4f} sd", "yes" if row.agree else "NO")
        for row in found.table
    ]
    return _frame(_title("Laws of weights and samples, theory against real runs"), _agreement(found), _table(head, rows))


def recommendation(found: Recommendation) -> str:
    """Of a `Recommendation`: the advice, how far to trust it, expected curves, and rates for batch sizes."""
    from ..recommend.report import data_lines, sentences, short, shown_rows

    first, *rest = sentences(found)
    colour = {"good": GOOD, "care": DOUBT, "bad": BAD}[found.trust.grade]
    rows = [
        (str(row.batch_size), short(row.learning_rate), short(row.limit), str(row.epochs),
         "recommended" if row.batch_size == found.advice.batch_size else "" if row.useful else "too large to be useful")
        for row in shown_rows(found)
    ]  # fmt: skip
    table = _table(("batch size", "learning rate", "limit", "epochs", ""), rows)
    lines = "".join(f"<p style='margin:.3em 0'>{escape(line)}</p>" for line in (*data_lines(found), *rest) if not line.startswith("Trust:"))
    details = f"<details><summary style='cursor:pointer'>In full</summary>{lines}</details>"
    return _frame(_title(first), _verdict(found.trust.verdict, found.trust.reasons, colour), _one(found), table, details)


# --- pieces ----------------------------------------------------------------------------------------------------------------


def _frame(*parts: str) -> str:
    return f"<div class='sgdlimit' style='max-width:44rem;line-height:1.45'>{''.join(parts)}</div>"


def _title(text: str) -> str:
    return f"<div style='font-weight:600'>{escape(text)}</div>"


def _verdict(code: str, text: str, colour: str) -> str:
    """A sentence behind a coloured rule; its code is left out where the sentence begins with it."""
    said = text if text.lower().startswith(code.lower()) else f"{code}: {text}"
    return f"<div style='border-left:3px solid {colour};padding-left:.7em;margin:.4em 0'>{escape(said)}</div>"


def _agreement(found: Comparison | LawComparison) -> str:
    return _verdict("", found.verdict, GOOD if found.agree else BAD)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column to the left, numbers to the right; it scrolls where the page is narrow."""
    rule = "border:0;border-bottom:1px solid rgba(128,128,128,.35)"
    cell = f"padding:.15em .9em .15em 0;{rule};background:none;white-space:nowrap;text-align:"
    place = lambda i: f"{cell}{'right' if i else 'left'}"
    line = lambda tag, cells: "<tr>" + "".join(f"<{tag} style='{place(i)}'>{escape(one)}</{tag}>" for i, one in enumerate(cells)) + "</tr>"
    body = "".join(line("td", row) for row in rows)
    style = "border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.92em;margin:.4em 0"
    return f"<div style='overflow-x:auto'><table style='{style}'><thead>{line('th', head)}</thead><tbody>{body}</tbody></table></div>"


def _more(summary: str, told: Iterable[tuple[str, str]]) -> str:
    """Names and values behind a summary to be opened."""
    rows = "".join(f"<dt style='opacity:.75'>{escape(name)}</dt><dd style='margin:0'>{escape(value)}</dd>" for name, value in told)
    grid = "display:grid;grid-template-columns:max-content 1fr;gap:.1em 1em;font-size:.88em;margin:.4em 0;overflow-wrap:anywhere"
    return f"<details><summary style='cursor:pointer'>{escape(summary)}</summary><dl style='{grid}'>{rows}</dl></details>"


def _curves(found: Result) -> str:
    """The first panels of `plot.panels`, small."""
    if find_spec("matplotlib") is None:
        return ""
    from .. import plot

    results: Any = {"": (None, found) if isinstance(found, Simulation) else (found, None)}
    shown = plot.panels(results)
    panels, left = shown[:MOST_PANELS], len(shown) - MOST_PANELS
    columns = 2 if len(panels) <= 4 else 3

    def draw(figure: Any) -> None:
        axes = figure.subplots(-(-len(panels) // columns), columns, squeeze=False, sharex=True).ravel()
        for axis, panel in zip(axes, panels, strict=False):
            plot.draw(axis, panel, results)
        for i, axis in enumerate(axes):
            if i >= len(panels):
                axis.set_axis_off()
            elif i + columns >= len(panels):
                axis.set_xlabel("time $t$")
                axis.tick_params(labelbottom=True)

    note = plot.caption(results) + (f" {left} more curves are in .dataset." if left > 0 else "")
    height = 1.7 * -(-len(panels) // columns) + 0.3
    return _svg(draw, (6.4, height), _spoken(found, panels)) + f"<div style='opacity:.75;font-size:.88em'>{escape(note)}</div>"


def _spoken(found: Result, panels: Sequence[Any]) -> str:
    """The picture in words, for those who do not see it: each curve's last value."""
    from ..results.report import spoken

    values = ((panel.text, *panel.values(found)[1:]) for panel in panels)
    return "At the end: " + ", ".join(f"{text} {spoken(float(value[-1]), float(se[-1]))}" for text, value, se in values if len(value))


def _one(found: Recommendation) -> str:
    if find_spec("matplotlib") is None:
        return ""
    from ..results import drawing

    return _svg(lambda figure: drawing.recommendation(found, figure.subplots()), (5.6, 2.7), "Expected risks by epoch")


def _svg(draw: Any, size: tuple[float, float], words: str) -> str:
    """What `draw(figure)` draws, as an inline picture without a background, in the ink of the page."""
    import io

    import matplotlib as mpl
    from matplotlib.figure import Figure

    from ..plot import _style

    with _style():
        mpl.rcParams.update(dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK))
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        with io.StringIO() as file:
            figure.savefig(file, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
            text = file.getvalue()
    # A style sheet would hold for the whole page, so what it says of lines goes to the picture's own style.
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", text[text.index("<svg") :], flags=re.S)
    text = text.replace(INK, "currentColor")
    text = re.sub(r"\b([1-9]\d*\.\d{2})\d+", r"\1", text)  # places to a hundredth of a point; the small numbers are sizes of letters
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # names that no part refers to
    text = re.sub(r">\s+<", "><", text)
    opening = re.sub(r'\b(width|height)="[^"]*pt" ?', "", text[: text.index(">")])
    style = f"width:100%;max-width:{size[0] * 100:.0f}px;height:auto;display:block;stroke-linejoin:round;stroke-linecap:butt"
    return f'{opening} role="img" aria-label="{escape(words)}" style="{style}"{text[text.index(">") :]}'
