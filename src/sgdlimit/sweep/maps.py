"""Figures of a sweep: maps with contours and the best values' ridge, sections along an axis, and curves over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..show.looks import BAND, COLOURS
from ..show.looks import look as looks_of
from ..show.paper import save, style
from .reading import Axis, Panel, Reading, best, cell_edges, read, ridge, sorted_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOUR_MAP = "viridis_r"
RIDGE = "#D1184B"
LEVELS = 9  # contours of a map
LINES = 6  # curves of a panel
WIDE = 12.0  # from this ratio on of the largest value to the least, colours are logarithmic


def draw_all(
    store: Path,
    out: Path | None = None,
    show: str = "test_risk",
    at: float | None = None,
    reach: float | None = None,
    fix: Sequence[str] = (),
) -> list[Path]:
    """Draw what the store has and write PNG and SVG; `reading.read` says what the arguments are. Returns the files."""
    reading = sorted_axes(read(store, show, at, reach, fix))
    if not any(np.isfinite(panel.value).any() for panel in reading.panels):
        raise InputError(
            f"`DIR.zarr` must have values to draw, but {reading.quantity} is nowhere in `{store}` (another --show, --at or --reach?)"
        )
    figures = {"map": phase_map(reading)} if len(reading.axes) == 2 else {}
    if reading.grid or len(reading.axes) == 1:
        figures["sections"] = sections(reading)
    if reading.grid:
        figures["curves"] = curves(reading)
    folder = out or store.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise InputError(f"`--out` must be a directory that can be made, but `{folder}` cannot: {e.strerror}") from None
    written = []
    for name, figure in figures.items():
        for kind in ("png", "svg"):
            written.append(folder / f"{store.stem}-{name}.{kind}")
            save(figure, written[-1])
    return written


# --- maps --------------------------------------------------------------------------------------------------------------------


def phase_map(reading: Reading) -> Figure:
    """A heat map over two axes for each dynamics, with contours, on common colours.

    The line follows the best value for each place of the horizontal axis, open where it is at the map's end. Beyond the dashed one a risk
    ends above its start; hatched is where training diverges. Dots are less accurate than was asked for, crosses failed. Points that are no
    grid are drawn as such, with contours between them.
    """
    with style():
        figure, axes = _panels(len(reading.panels), (2.75, 2.45), legend=True)
        norm = _norm(reading)
        mesh: Any = None
        for axis, panel in zip(axes, reading.panels, strict=True):
            mesh = _map(axis, panel, reading, norm) if reading.grid else _points(axis, panel, reading, norm)
            for which, one in (("x", reading.axes[1]), ("y", reading.axes[0])):
                _scale(axis, which, one)
            axis.set(xlabel=reading.axes[1].label, title=panel.title)
        axes[0].set_ylabel(reading.axes[0].label)
        bar = figure.colorbar(mesh, ax=list(axes), label=reading.quantity, pad=0.015, extend=_extend(reading, norm))
        bar.outline.set_linewidth(0.6)
        if _norm_is_log(norm):
            _plain(bar.ax.yaxis, norm.vmax / norm.vmin)
        _legend(figure, reading)
    return figure


def _map(axis: Axes, panel: Panel, reading: Reading, norm: Any) -> Any:
    y, x = reading.axes
    diverged = panel.code == "diverged"
    value = np.ma.masked_invalid(np.where(diverged, np.nan, panel.value))
    mesh = axis.pcolormesh(cell_edges(x), cell_edges(y), value, cmap=COLOUR_MAP, norm=norm, rasterized=True)
    if min(value.shape) > 1 and value.count() > 3:
        _contours(axis, x.values, y.values, value, norm)
    if (worse := _worse(panel, reading)) is not None:
        axis.contour(x.values, y.values, worse, levels=[0.0], colors="black", linewidths=1.2, linestyles="dashed")
    _hatched(axis, x, y, diverged)
    for code, marker in (("inaccurate", "."), ("failed", "x")):
        rows, columns = np.nonzero((panel.code == code) & (np.isfinite(panel.value) | (code == "failed")))
        axis.scatter(x.values[columns], y.values[rows], s=14, marker=marker, color="black", linewidths=0.8, zorder=3)
    at, inside = ridge(panel, y, reading.most)
    if np.isfinite(at).any() and len(y.values) > 2:
        axis.plot(x.values, at, color="white", linewidth=3.0, zorder=4, solid_capstyle="round")
        axis.plot(x.values, at, color=RIDGE, linewidth=1.6, zorder=5)
        axis.scatter(x.values[~inside], at[~inside], s=14, facecolor="white", edgecolor=RIDGE, linewidths=1.0, zorder=6)
    axis.set(xlim=cell_edges(x)[[0, -1]], ylim=cell_edges(y)[[0, -1]])
    return mesh


def _worse(panel: Panel, reading: Reading) -> Any:
    """How much higher a risk is than at the start, if that changes its sign within the map."""
    gain = np.ma.masked_invalid(np.where(panel.code == "diverged", np.nan, panel.value - panel.curves[..., 0]))
    crossed = reading.grid and reading.risk and min(gain.shape) > 1 and gain.count() > 3 and gain.min() < 0 < gain.max()
    return gain if crossed else None


def _points(axis: Axes, panel: Panel, reading: Reading, norm: Any) -> Any:
    y, x = reading.axes
    known = np.isfinite(panel.value) & (panel.code != "diverged")
    at = [np.log(one.values) if one.log else one.values for one in (x, y)]
    if known.sum() > 3:
        import matplotlib.tri as tri

        try:  # a mesh on the scales drawn, not on the values, which may differ by orders
            mesh = tri.Triangulation(at[0][known], at[1][known])
            placed = tri.Triangulation(x.values[known], y.values[known], mesh.triangles)
            axis.tricontour(placed, panel.value[known], levels=_levels(norm), colors="0.35", linewidths=0.6)
        except (RuntimeError, ValueError):  # all on one line
            pass
    drawn = axis.scatter(x.values[known], y.values[known], c=panel.value[known], cmap=COLOUR_MAP, norm=norm, s=26, linewidths=0)
    looks: dict[str, dict[str, Any]] = {"diverged": {"marker": "s", "facecolor": "0.92", "edgecolor": "0.55", "hatch": "//////"}}
    looks |= {"inaccurate": {"marker": ".", "color": "black"}, "failed": {"marker": "x", "color": "black"}}
    for code, look in looks.items():
        marked = panel.code == code
        axis.scatter(x.values[marked], y.values[marked], s=14 if code != "diverged" else 26, linewidths=0.6, zorder=3, **look)
    for which, one, values in (("x", x, at[0]), ("y", y, at[1])):
        room = 0.05 * np.ptp(values) * np.array([-1, 1]) + [values.min(), values.max()]
        getattr(axis, f"set_{which}lim")(*(np.exp(room) if one.log else room))
    return drawn


def _hatched(axis: Axes, x: Axis, y: Axis, diverged: np.ndarray) -> None:
    """Cells in which training diverges, and the border around them."""
    from matplotlib.collections import LineCollection, PolyCollection

    if not diverged.any():
        return
    right, up = cell_edges(x), cell_edges(y)
    corners = lambda i, j: [(right[j], up[i]), (right[j + 1], up[i]), (right[j + 1], up[i + 1]), (right[j], up[i + 1])]
    cells = [corners(i, j) for i, j in np.argwhere(diverged)]
    axis.add_collection(PolyCollection(cells, facecolor="0.94", edgecolor="none", zorder=1.5))
    axis.add_collection(PolyCollection(cells, facecolor="none", edgecolor="0.6", hatch="/////", linewidth=0, zorder=1.6))
    padded = np.pad(diverged, 1, mode="edge")
    border = [[(right[j], up[i]), (right[j + 1], up[i])] for i, j in np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1])]
    border += [[(right[j], up[i]), (right[j], up[i + 1])] for i, j in np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1])]
    axis.add_collection(LineCollection(border, color="black", linewidth=1.2, zorder=2, capstyle="projecting"))


def _contours(axis: Axes, x: np.ndarray, y: np.ndarray, value: Any, norm: Any) -> None:
    drawn = axis.contour(x, y, value, levels=_levels(norm), colors="black", linewidths=0.5, alpha=0.65)
    axis.clabel(drawn, fontsize=7, fmt="%.3g", inline_spacing=2)


def _norm(reading: Reading) -> Any:
    """Colours for all panels. What is far above the bulk, next to the border of divergence, takes the last colour."""
    from matplotlib.colors import LogNorm, Normalize

    values = np.concatenate([panel.value[np.isfinite(panel.value) & (panel.code != "diverged")] for panel in reading.panels])
    low, high = float(values.min()), float(values.max())
    high = min(high, low + 3 * (float(np.median(values)) - low)) if high > low else low
    if high <= low:
        high = low + 1e-9 + 1e-3 * abs(low)
    if low > 0 and high / low > WIDE:
        return LogNorm(low, high)
    return Normalize(low, high)


def _levels(norm: Any) -> np.ndarray:
    from matplotlib.ticker import MaxNLocator

    if _norm_is_log(norm):
        return np.geomspace(norm.vmin, norm.vmax, LEVELS + 2)[1:-1]
    levels = MaxNLocator(LEVELS).tick_values(norm.vmin, norm.vmax)
    return levels[(levels > norm.vmin) & (levels < norm.vmax)]


def _extend(reading: Reading, norm: Any) -> str:
    beyond = any((panel.value[np.isfinite(panel.value) & (panel.code != "diverged")] > norm.vmax).any() for panel in reading.panels)
    return "max" if beyond else "neither"


def _legend(figure: Figure, reading: Reading) -> None:
    """What marks mean, those that are there."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    codes = {code for panel in reading.panels for code in np.unique(panel.code).tolist()}
    handles: list[Any] = []
    if reading.grid and len(reading.axes[0].values) > 2:
        handles.append(Line2D([], [], color=RIDGE, linewidth=1.6, label=f"best {reading.axes[0].name.replace('_', ' ')}"))
    if len(reading.axes) == 2 and any(_worse(panel, reading) is not None for panel in reading.panels):
        handles.append(Line2D([], [], color="black", linewidth=1.2, linestyle="dashed", label="no better than the start"))
    if "diverged" in codes:
        handles.append(Patch(facecolor="0.94", edgecolor="0.6", hatch="/////", label="diverges"))
    if "inaccurate" in codes:
        handles.append(Line2D([], [], color="black", marker=".", linestyle="none", label="less accurate than asked for"))
    if "failed" in codes:
        handles.append(Line2D([], [], color="black", marker="x", linestyle="none", label="failed"))
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, title=reading.held or None)
    elif reading.held:
        figure.suptitle(reading.held, fontsize=9.5)


# --- lines -------------------------------------------------------------------------------------------------------------------


def sections(reading: Reading) -> Figure:
    """The value along the first axis: over one axis a line for each dynamics, over two a panel for each, with lines at some places of the
    second axis. Bands are standard errors; a star is the best value, crosses on the axis are where training diverges."""
    with style():
        single, norm = len(reading.axes) == 1, _norm(reading)
        figure, axes = _panels(1 if single else len(reading.panels), (3.4, 2.5), legend=not single)
        for number, panel in enumerate(reading.panels):
            axis = axes[0 if single else number]
            if single:
                look = {key: value for key, value in looks_of(number).items() if key != "marker"}
                _section(axis, reading, panel, ..., look | {"label": panel.title})
            else:
                for look, column in _chosen(reading.axes[1]):
                    _section(axis, reading, panel, (slice(None), column), look)
                axis.set_title(panel.title)
        for axis in axes:
            axis.set_xlabel(reading.axes[0].label)
            _scale(axis, "x", reading.axes[0])
            if _norm_is_log(norm):
                axis.set_yscale("log")
                _plain(axis.yaxis, norm.vmax / norm.vmin)
        axes[0].set_ylabel(reading.quantity)
        if single and len(reading.panels) > 1:
            axes[0].legend(frameon=False)
        elif not single:
            _legend_lines(figure, axes, reading.axes[1], reading.held)
    return figure


def _section(axis: Axes, reading: Reading, panel: Panel, take: Any, look: dict[str, Any]) -> None:
    x, value, se, code = reading.axes[0].values, panel.value[take], panel.se[take], panel.code[take]
    order = np.argsort(x)  # random designs come in any
    x, value, se, code = x[order], value[order], se[order], code[order]
    value = np.where(code == "diverged", np.nan, value)
    axis.fill_between(x, value - BAND * se, value + BAND * se, color=look["color"], alpha=0.2, linewidth=0)
    axis.plot(x, value, linewidth=1.4, marker="o" if len(x) <= 30 else "", markersize=2.6, **look)
    rough = code == "inaccurate"
    axis.scatter(x[rough], value[rough], s=16, facecolor="white", edgecolor=look["color"], linewidths=0.9, zorder=3)
    if np.isfinite(value).any():
        i = int(best(Panel("", value[:, None], se[:, None], code[:, None], value, se), reading.most)[0])
        axis.scatter(x[i], value[i], s=60, marker="*", color=look["color"], edgecolor="white", linewidths=0.6, zorder=4)
    gone = code == "diverged"
    axis.scatter(
        x[gone], np.full(gone.sum(), 0.985), s=12, marker="x", color=look["color"], linewidths=0.8, transform=axis.get_xaxis_transform()
    )


def curves(reading: Reading) -> Figure:
    """The curve over time for some values of the first axis; a cross is where one ends because training diverges. Of a second axis the
    middle is shown."""
    with style():
        figure, axes = _panels(len(reading.panels), (2.9, 2.4), legend=True)
        middle = () if len(reading.axes) == 1 else (len(reading.axes[1].values) // 2,)
        for axis, panel in zip(axes, reading.panels, strict=True):
            for look, row in _chosen(reading.axes[0]):
                value, se = panel.curves[(row, *middle)], panel.curves_se[(row, *middle)]
                axis.fill_between(reading.clock.values, value - BAND * se, value + BAND * se, color=look["color"], alpha=0.2, linewidth=0)
                axis.plot(reading.clock.values, value, linewidth=1.4, **look)
                known = np.flatnonzero(np.isfinite(value))
                if len(known) and panel.code[(row, *middle)] == "diverged":
                    axis.scatter(reading.clock.values[known[-1]], value[known[-1]], s=20, marker="x", color=look["color"], zorder=3)
            axis.set(xlabel=reading.clock.label, title=panel.title)
            axis.set_ylim(*_bulk(panel, middle))
        axes[0].set_ylabel(reading.curve)
        at = [f"{second.name} = {second.values[i]:.3g}" for second, i in zip(reading.axes[1:], middle, strict=True)]
        _legend_lines(figure, axes, reading.axes[0], ", ".join([*at, *([reading.held] if reading.held else [])]))
    return figure


def _bulk(panel: Panel, middle: tuple[int, ...]) -> tuple[float | None, float | None]:
    """Limits that a curve which blows up does not stretch."""
    shown = panel.curves[(slice(None), *middle)]
    calm = shown[(panel.code[(slice(None), *middle)] != "diverged") & np.isfinite(shown).any(-1)]
    if not len(calm) or not (panel.code == "diverged").any():
        return None, None
    low, high = float(np.nanmin(calm)), float(np.nanmax(calm))
    return low - 0.05 * (high - low), high + 0.25 * (high - low)


def _chosen(axis: Axis) -> list[tuple[dict[str, Any], int]]:
    """A look and an index for some of an axis's values, coloured in their order."""
    import matplotlib as mpl

    places = np.unique(np.linspace(0, len(axis.values) - 1, min(LINES, len(axis.values))).round().astype(int))
    shades = mpl.colormaps["viridis"](np.linspace(0.0, 0.9, len(places))) if len(places) > 2 else COLOURS
    return [({"color": shades[n], "label": f"{axis.values[i]:.3g}"}, int(i)) for n, i in enumerate(places)]


def _legend_lines(figure: Figure, axes: Sequence[Axes], axis: Axis, held: str) -> None:
    handles, labels = axes[0].get_legend_handles_labels()
    title = axis.label + (f"   ({held})" if held else "")
    figure.legend(handles, labels, loc="outside upper center", ncols=len(handles), frameon=False, title=title, title_fontsize=9.5)


# --- common ------------------------------------------------------------------------------------------------------------------


def _panels(count: int, size: tuple[float, float], legend: bool) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] * count + 1.0, size[1] + (0.75 if legend else 0.35)))
    figure.set_layout_engine("constrained", w_pad=0.05, h_pad=0.05, wspace=0.03)
    axes = figure.subplots(1, count, squeeze=False, sharex=True, sharey=True)[0]
    return figure, list(axes)


def _scale(axis: Axes, which: str, drawn: Axis) -> None:
    """A logarithmic axis where asked for, with plain numbers as labels."""
    if not drawn.log:
        return
    getattr(axis, f"set_{which}scale")("log")
    _plain(getattr(axis, f"{which}axis"), drawn.values.max() / drawn.values.min())


def _plain(axis: Any, range_: float) -> None:
    """Ticks of a logarithmic axis as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0) if range_ < 300 else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _norm_is_log(norm: Any) -> bool:
    from matplotlib.colors import LogNorm

    return isinstance(norm, LogNorm)
