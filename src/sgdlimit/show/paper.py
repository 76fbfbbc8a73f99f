"""Matplotlib: axes, curves with bands, heat maps, bars against what chance explains, and figures in the style of a paper.

Matplotlib's object interface is used throughout, so nothing here changes the user's settings.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, refuse
from ..files import replacing
from .heat import BEST, Heat, Mark, Scale
from .looks import BAND, COLOURS, Curve, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GOOD, BAD = COLOURS[2], COLOURS[1]
LEVELS = 9  # contours of a heat map


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


# --- heat maps ---------------------------------------------------------------------------------------------------------------


def heat(axis: Axes, drawn: Heat) -> Any:
    """A heat map with contours, marks and lines; returns what `colour_bar` takes."""
    if drawn.smooth:
        return _smooth(axis, drawn)
    known = drawn.marks.get("hatched")
    value = np.ma.masked_invalid(drawn.value if known is None else np.where(known, np.nan, drawn.value))
    mesh = (_cells if drawn.grid else _points)(axis, drawn, value)
    if drawn.border is not None:
        axis.contour(drawn.x.values, drawn.y.values, np.ma.masked_invalid(drawn.border), levels=[0.0], **BORDER)
    shapes: dict[Mark, str] = {"dot": ".", "cross": "x"}
    for mark, shape in shapes.items():
        axis.scatter(*drawn.marked(mark), s=14, marker=shape, color="black", linewidths=0.8, zorder=3)
    if drawn.line is not None:
        x, (at, closed) = drawn.x.values, drawn.line
        axis.plot(x, at, color="white", linewidth=3.0, zorder=4, solid_capstyle="round")
        axis.plot(x, at, color=BEST, linewidth=1.6, zorder=5)
        axis.scatter(x[~closed], at[~closed], s=14, facecolor="white", edgecolor=BEST, linewidths=1.0, zorder=6)
    for which, one in (("x", drawn.x), ("y", drawn.y)):
        if one.log:
            getattr(axis, f"set_{which}scale")("log")
            plain_ticks(getattr(axis, f"{which}axis"), one.values.max() / one.values.min())
    return mesh


BORDER: dict[str, Any] = {"colors": "black", "linewidths": 1.2, "linestyles": "dashed"}


def colour_bar(figure: Figure, mesh: Any, scale: Scale, label: str = "", **place: Any) -> None:
    bar = figure.colorbar(mesh, label=label, extend="max" if scale.more else "neither", **place)
    bar.outline.set_linewidth(0.6)  # pyright: ignore[reportCallIssue]
    if scale.log:
        plain_ticks(bar.ax.yaxis, scale.high / scale.low)


def _colours(scale: Scale) -> dict[str, Any]:
    from matplotlib.colors import LogNorm, Normalize

    return {"cmap": scale.colours, "norm": (LogNorm if scale.log else Normalize)(scale.low, scale.high)}


def _smooth(axis: Axes, drawn: Heat) -> Any:
    """Of a triangle the mirrored half is drawn too, so that colours meet the diagonal, and covered."""
    x, y, value = drawn.x.values, drawn.y.values, drawn.value
    if drawn.triangle:
        value = np.triu(value) + np.triu(value, 1).T
    mesh = axis.pcolormesh(x, y, value, shading="gouraud", rasterized=True, **_colours(drawn.scale))
    if drawn.triangle:
        axis.fill(x[[0, 0, -1]], y[[0, -1, -1]], color="white", linewidth=0)
    return mesh


def _cells(axis: Axes, drawn: Heat, value: Any) -> Any:
    x, y = drawn.x, drawn.y
    mesh = axis.pcolormesh(x.edges, y.edges, value, rasterized=True, **_colours(drawn.scale))
    if min(value.shape) > 1 and value.count() > 3:
        lines = axis.contour(x.values, y.values, value, levels=_levels(drawn.scale), colors="black", linewidths=0.5, alpha=0.65)
        axis.clabel(lines, fontsize=7, fmt="%.3g", inline_spacing=2)
    if "hatched" in drawn.marks:
        _hatched(axis, drawn, drawn.marks["hatched"])
    axis.set(xlim=x.edges[[0, -1]], ylim=y.edges[[0, -1]])
    return mesh


def _points(axis: Axes, drawn: Heat, value: Any) -> Any:
    x, y, known = drawn.x, drawn.y, ~np.ma.getmaskarray(value)
    at = [np.log(one.values) if one.log else one.values for one in (x, y)]
    if known.sum() > 3:
        import matplotlib.tri as tri

        try:  # a mesh on the scales drawn, not on the values, which may differ by orders
            mesh = tri.Triangulation(at[0][known], at[1][known])
            placed = tri.Triangulation(x.values[known], y.values[known], mesh.triangles)
            axis.tricontour(placed, value[known], levels=_levels(drawn.scale), colors="0.35", linewidths=0.6)
        except (RuntimeError, ValueError):  # all on one line
            pass
    dots = axis.scatter(x.values[known], y.values[known], c=value[known], s=26, linewidths=0, **_colours(drawn.scale))
    axis.scatter(*drawn.marked("hatched"), s=26, linewidths=0.6, zorder=3, marker="s", facecolor="0.92", edgecolor="0.55", hatch="//////")
    for which, one, values in (("x", x, at[0]), ("y", y, at[1])):
        room = 0.05 * np.ptp(values) * np.array([-1, 1]) + [values.min(), values.max()]
        getattr(axis, f"set_{which}lim")(*(np.exp(room) if one.log else room))
    return dots


def _hatched(axis: Axes, drawn: Heat, where: np.ndarray) -> None:
    """Cells without a number, and the border around them."""
    from matplotlib.collections import LineCollection, PolyCollection

    if not where.any():
        return
    right, up = drawn.x.edges, drawn.y.edges
    corners = lambda i, j: [(right[j], up[i]), (right[j + 1], up[i]), (right[j + 1], up[i + 1]), (right[j], up[i + 1])]
    cells = [corners(i, j) for i, j in np.argwhere(where)]
    axis.add_collection(PolyCollection(cells, facecolor="0.94", edgecolor="none", zorder=1.5))
    axis.add_collection(PolyCollection(cells, facecolor="none", edgecolor="0.6", hatch="/////", linewidth=0, zorder=1.6))
    padded = np.pad(where, 1, mode="edge")
    border = [[(right[j], up[i]), (right[j + 1], up[i])] for i, j in np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1])]
    border += [[(right[j], up[i]), (right[j], up[i + 1])] for i, j in np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1])]
    axis.add_collection(LineCollection(border, color="black", linewidth=1.2, zorder=2, capstyle="projecting"))


def _levels(scale: Scale) -> np.ndarray:
    from matplotlib.ticker import MaxNLocator

    if scale.log:
        return np.geomspace(scale.low, scale.high, LEVELS + 2)[1:-1]
    levels = np.asarray(MaxNLocator(LEVELS).tick_values(scale.low, scale.high))
    return levels[(levels > scale.low) & (levels < scale.high)]


def heat_marks(maps: Sequence[Heat], words: Mapping[str, str]) -> list[Any]:
    """What a legend shows of what the maps have, called by `words` for "line", "border" and the marks."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    there = {mark for one in maps for mark, where in one.marks.items() if where.any()}
    there |= {name for one in maps for name in ("line", "border") if getattr(one, name) is not None}
    looks: dict[str, Any] = {
        "line": lambda label: Line2D([], [], color=BEST, linewidth=1.6, label=label),
        "border": lambda label: Line2D([], [], color="black", linewidth=1.2, linestyle="dashed", label=label),
        "hatched": lambda label: Patch(facecolor="0.94", edgecolor="0.6", hatch="/////", label=label),
        "dot": lambda label: Line2D([], [], color="black", marker=".", linestyle="none", label=label),
        "cross": lambda label: Line2D([], [], color="black", marker="x", linestyle="none", label=label),
    }
    return [look(words[name]) for name, look in looks.items() if name in there]


def plain_ticks(axis: Any, range_: float) -> None:
    """Ticks of a logarithmic axis as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0) if range_ < 300 else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


# --- figures -----------------------------------------------------------------------------------------------------------------


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
