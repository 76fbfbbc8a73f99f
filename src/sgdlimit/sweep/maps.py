"""Figures of a sweep: maps with contours and the best values' ridge, sections along an axis, and curves over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..show.heat import Axis
from ..show.looks import BAND, COLOURS
from ..show.looks import look as looks_of
from ..show.paper import colour_bar, heat, heat_marks, plain_ticks, save, style
from .reading import Panel, Reading, best, heat_maps, read, sorted_axes, value_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = 6  # curves of a panel


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
    """A heat map over two axes for each dynamics, with contours, see `reading.heat_maps`. Points that are no grid are drawn as such, with
    contours between them."""
    with style():
        figure, axes = _panels(len(reading.panels), (2.75, 2.45), legend=True)
        maps = heat_maps(reading)
        mesh: Any = None
        for axis, panel, one in zip(axes, reading.panels, maps, strict=True):
            mesh = heat(axis, one)
            axis.set(xlabel=reading.axes[1].label, title=panel.title)
        axes[0].set_ylabel(reading.axes[0].label)
        colour_bar(figure, mesh, maps[0].scale, reading.quantity, ax=list(axes), pad=0.015)
        words = {
            "line": f"best {reading.axes[0].name.replace('_', ' ')}",
            "border": "no better than the start",
            "hatched": "diverges",
            "dot": "less accurate than asked for",
            "cross": "failed",
        }
        if handles := heat_marks(maps, words):
            figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, title=reading.held or None)
        elif reading.held:
            figure.suptitle(reading.held, fontsize=9.5)
    return figure


# --- lines -------------------------------------------------------------------------------------------------------------------


def sections(reading: Reading) -> Figure:
    """The value along the first axis: over one axis a line for each dynamics, over two a panel for each, with lines at some places of the
    second axis. Bands are standard errors; a star is the best value, crosses on the axis are where training diverges."""
    with style():
        single, scale = len(reading.axes) == 1, value_scale(reading)
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
            if (along := reading.axes[0]).log:
                axis.set_xscale("log")
                plain_ticks(axis.xaxis, along.values.max() / along.values.min())
            if scale.log:
                axis.set_yscale("log")
                plain_ticks(axis.yaxis, scale.high / scale.low)
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
