"""Matplotlib: axes, curves with bands, bars against what chance explains, and figures in the style of a paper.

Matplotlib's object interface is used throughout, so nothing here changes the user's settings.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, refuse
from ..files import replacing
from .looks import BAND, Curve, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GOOD, BAD = "#009E73", "#D55E00"


@contextmanager
def style() -> Iterator[None]:
    """Serif text with matching mathematics, thin frames; the caller's settings come back afterwards."""
    import matplotlib as mpl

    with mpl.rc_context({
        "font.family": "STIXGeneral", "mathtext.fontset": "stix", "font.size": 9.5, "axes.labelsize": 10, "legend.fontsize": 9.5,
        "axes.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False, "axes.formatter.use_mathtext": True,
        "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.direction": "out", "ytick.direction": "out",
        "xtick.major.size": 3, "ytick.major.size": 3, "svg.fonttype": "path", "svg.hashsalt": "sgdlimit",
    }):  # fmt: skip
        yield


def axes(ax: Axes | None) -> Axes:
    """`ax`, or the axes of a new pyplot figure."""
    if ax is None:
        from matplotlib import pyplot

        return pyplot.subplots(figsize=(5.4, 3.5), layout="constrained")[1]
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise refuse("ax", "be Matplotlib axes", ax, "fig, ax = pyplot.subplots(); result.plot(ax=ax)")
    return ax


def curve(axis: Axes, drawn: Curve, named: bool = True) -> None:
    """A line with its band, or points with their bars; `named` in the legend of these axes."""
    how, label = look(drawn.number), drawn.name if named else None
    if drawn.measured:
        axis.errorbar(drawn.x, drawn.value, BAND * drawn.se, label=label, **marks(how))
        return
    axis.fill_between(drawn.x, drawn.low, drawn.high, color=how["color"], alpha=0.22, linewidth=0)
    axis.plot(drawn.x, drawn.value, color=how["color"], dashes=how["dashes"], linewidth=1.4, label=label)


def marks(look: dict[str, Any]) -> dict[str, Any]:
    """Points with bars as Matplotlib's `errorbar` takes them."""
    return {
        "color": look["color"], "marker": look["marker"], "linestyle": "none", "markersize": 3.8, "markerfacecolor": "white",
        "markeredgewidth": 0.9, "elinewidth": 0.9, "capsize": 1.8, "capthick": 0.9, "zorder": 3,
    }  # fmt: skip


def dots(look: dict[str, Any]) -> dict[str, Any]:
    """Points without bars as `plot` takes them."""
    return {key: value for key, value in marks(look).items() if key not in ("elinewidth", "capsize", "capthick")}


def bars(rows: Sequence[tuple[str, float, float, bool]], axis: Axes, what: str) -> Axes:
    """One bar a row `(name, value, bound, whether it agrees)`, with a mark where chance ends; what has no bound, as an exact start has,
    ends at the frame."""
    names, values, bounds, agree = (list(column) for column in zip(*rows, strict=True))
    places = np.arange(len(rows))
    finite = [x for x in (*values, *bounds) if np.isfinite(x)]
    most = 1.15 * max(finite, default=0.0) or 1.0
    for good, label in ((True, "agrees"), (False, "does not agree")):
        which = [i for i in places if bool(agree[i]) == good]
        if which:
            widths = [min(values[i], most) for i in which]
            axis.barh(which, widths, 0.5, label=label, color=GOOD if good else BAD, edgecolor="white", hatch="" if good else "///")
    axis.plot(bounds, places, linestyle="none", marker="|", markersize=14, markeredgewidth=1.6, color="0.45", label="chance explains")
    axis.set(xlim=(0.0, most), xlabel=what, yticks=places, ylim=(len(rows) - 0.4, -0.6))
    axis.set_yticklabels(names)
    axis.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return axis


def legend_above(figure: Figure, names: Sequence[str]) -> None:
    """The dynamics, in one line above all panels."""
    from matplotlib.lines import Line2D

    shape: dict[str, Any] = {"linewidth": 1.4, "markersize": 3.8, "markerfacecolor": "white", "markeredgewidth": 0.9}
    handles = [Line2D([], [], label=name, **shape, **look(i)) for i, name in enumerate(names)]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 5), frameon=False, handlelength=2.6)


def save(figure: Figure, path: str | os.PathLike[str], dpi: float = 200) -> None:
    """Write a figure (PNG, SVG or PDF, by the name's ending); the file appears whole or not at all.

    Raises:
        InputError: another ending, or a directory that does not exist.
    """
    path = Path(path)
    kind = path.suffix[1:].lower()
    if kind not in ("png", "svg", "pdf"):
        raise refuse("path", "end in .png, .svg or .pdf", str(path))
    if not path.parent.is_dir():
        raise InputError(f"`path` must be in an existing directory, but `{path.parent}` is not one (make it first)")
    # Without a date the same results give the same file.
    metadata = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    with replacing(path) as temporary, style():
        figure.savefig(temporary, format=kind, dpi=dpi, metadata=metadata)
