"""Bokeh: empty frames, curves with bands, heat maps, a legend that hides and shows, numbers under the pointer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.models import ColorBar, ColumnDataSource, HoverTool, Legend, LegendItem, LinearColorMapper, LogColorMapper, SaveTool
from bokeh.palettes import RdBu11, Viridis256, interp_palette
from bokeh.plotting import figure

from .heat import BEST, EMPTY, Heat, Mark, Scale
from .looks import COLOURS, Curve

DASHES = ("solid", "dashed", "dotted", "dotdash", [3, 2], [8, 3], [1, 4])
MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "plus", "x")
PALETTES = {"viridis": Viridis256, "viridis_r": Viridis256[::-1], "RdBu_r": interp_palette(RdBu11, 256)}
COLUMNS = ("time", "value", "se", "low", "high")
FONT = "ui-sans-serif, system-ui, sans-serif"


def legend(names: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """A figure of nothing but the legend, and per dynamics the renderer that a click on its name hides or shows."""
    plot = figure(height=36, sizing_mode="stretch_width", toolbar_location=None, tools="", outline_line_color=None)
    plot.axis.visible = plot.grid.visible = False
    plot.background_fill_alpha = plot.border_fill_alpha = 0
    switches, items = {}, []
    for i, name in enumerate(names):
        colour, dash, marker = dynamics_look(i)
        line: Any = plot.line([0], [0], line_color=colour, line_width=2, line_dash=dash)
        mark: Any = plot.scatter([0], [0], line_color=colour, fill_color="white", size=6, marker=marker)
        switches[name] = line
        items.append(LegendItem(label=name, renderers=[line, mark]))
    box = Legend(items=items, click_policy="hide", orientation="horizontal", location="center", border_line_color=None, spacing=18)
    box.label_text_font = FONT
    box.background_fill_alpha = 0
    plot.add_layout(box, "above")
    return plot, switches


def frame(x: str, y: str, height: int, **options: Any) -> Any:
    """An empty picture with axes named `x` and `y`, as all pages have them; `options` are those of Bokeh's `figure`."""
    plot = figure(
        height=height,
        sizing_mode="stretch_width",
        tools="pan,box_zoom,wheel_zoom,reset,save",
        active_scroll=None,
        toolbar_location="below",
        x_axis_label=x,
        y_axis_label=y,
        **options,
    )
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    called = options.get("title", "").strip() or y or x or "picture"
    for tool in plot.select(type=SaveTool):
        tool.update(filename=re.sub(r"\W+", "-", called).strip("-"))  # the browser would ask for a name otherwise
    plot.outline_line_color = None
    plot.background_fill_alpha = plot.border_fill_alpha = 0
    for axis in plot.axis:
        axis.axis_label_text_font = axis.major_label_text_font = FONT
        axis.axis_label_text_font_style = "normal"
        axis.minor_tick_line_color = None
    plot.grid.grid_line_color = "#e8e8e4"
    return plot


def dynamics_look(i: int) -> tuple[str, Any, str]:
    """Colour, dash and marker of the dynamics number `i`."""
    return COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)]


def curve(plot: Any, drawn: Curve, source: ColumnDataSource | None = None) -> list[Any]:
    """A line with its band, or points with their bars; returns what was drawn. `source` is filled with `data` and may be again later."""
    source = source or ColumnDataSource(data(drawn))
    return (runs_renderers if drawn.measured else theory_renderers)(plot, drawn.number, drawn.name or "", source)


def theory_renderers(plot: Any, i: int, name: str, source: ColumnDataSource) -> list[Any]:
    """A line with its band, of the dynamics number `i`."""
    colour, dash, _ = dynamics_look(i)
    line = plot.line("time", "value", source=source, color=colour, width=2, line_dash=dash)
    band = plot.varea("time", "low", "high", source=source, color=colour, alpha=0.2)
    plot.add_tools(hover(line, f"{name}, theory"))
    return [line, band]


def runs_renderers(plot: Any, i: int, name: str, source: ColumnDataSource) -> list[Any]:
    """Points with their bars."""
    colour, _, marker = dynamics_look(i)
    bars = plot.segment("time", "low", "time", "high", source=source, color=colour)
    points = plot.scatter("time", "value", source=source, color=colour, fill_color="white", size=6, marker=marker)
    plot.add_tools(hover(points, f"{name}, real runs"))
    return [points, bars]


def data(drawn: Curve) -> dict[str, Any]:
    """What a line with its band, or points with their bars, are drawn from."""
    return dict(zip(COLUMNS, (drawn.x, drawn.value, drawn.se, drawn.low, drawn.high), strict=True))


def hover(renderer: Any, name: str, numbers: Any = (("t", "@time{0.000}"), ("value", "@value{0.00000} ± @se{0.00000}"))) -> HoverTool:
    """Numbers under the pointer, below a name."""
    return HoverTool(renderers=[renderer], tooltips=[("", name), *numbers], visible=False)


# --- heat maps ---------------------------------------------------------------------------------------------------------------


class Image:
    """A heat map in a frame, of evenly spaced cells on equal axes: empty at first, and filled again and again."""

    def __init__(self, plot: Any, name: str, numbers: Any):
        self.plot, self.source = plot, ColumnDataSource(NOTHING)
        self.mapper = LinearColorMapper(palette=PALETTES["viridis"], low=0, high=1, nan_color="rgba(0,0,0,0)")
        drawn = plot.image("image", x="x", y="y", dw="dw", dh="dh", source=self.source, color_mapper=self.mapper)
        plot.grid.visible = False
        plot.add_tools(hover(drawn, name, numbers))
        _colour_bar(plot, self.mapper)

    def fill(self, drawn: Heat, tag: str) -> None:
        image = np.array(drawn.value, float)
        if drawn.triangle:
            image[np.tril_indices(len(image), -1)] = np.nan
        self.mapper.update(**_colours(drawn.scale))
        low, high = drawn.x.edges[[0, -1]]
        self.source.update(data={"image": [image], "x": [low], "y": [low], "dw": [high - low], "dh": [high - low]}, tags=[tag])
        for which in (self.plot.x_range, self.plot.y_range):
            which.update(start=low, end=high)

    def clear(self) -> None:
        self.source.update(data=NOTHING, tags=[])


NOTHING: dict[str, Any] = {"image": [], "x": [], "y": [], "dw": [], "dh": []}


def heat(plot: Any, drawn: Heat, more: Mapping[str, np.ndarray]) -> Any:
    """A heat map of cells or points that can be chosen, in their order in `value`; `more` is, like it, for numbers below the pointer next
    to `x`, `y` and `value`. Returns what was drawn."""
    everywhere = np.ones(drawn.value.shape, bool)
    x, y = drawn.places(everywhere)
    data: dict[str, Any] = {"x": x, "y": y, "value": drawn.value.ravel(), **{name: part.ravel() for name, part in more.items()}}
    source = ColumnDataSource(data | (_corners(drawn, everywhere) if drawn.grid else {}))
    mapper = (LogColorMapper if drawn.scale.log else LinearColorMapper)(nan_color=EMPTY, **_colours(drawn.scale))
    looks: dict[str, Any] = {"line_color": None, "selection_line_color": BEST, "selection_line_width": 3, "nonselection_fill_alpha": 1.0}
    looks["fill_color"] = {"field": "value", "transform": mapper}
    hatched = drawn.marks.get("hatched", ~everywhere)
    if drawn.grid:
        shown = plot.quad("left", "right", "top", "bottom", source=source, **looks)
        lost = {"fill_color": EMPTY, "hatch_pattern": "/", "hatch_color": "#8c8c86", "line_color": None}
        plot.quad("left", "right", "top", "bottom", source=ColumnDataSource(_corners(drawn, hatched)), **lost)
    else:
        shown = plot.scatter("x", "y", source=source, size=11, **looks)
    marks: tuple[tuple[Mark, str, int], ...] = (("dot", "circle", 4), ("cross", "x", 7))
    for mark, shape, size in marks:
        if len((at := drawn.marked(mark))[0]):
            plot.scatter(*at, marker=shape, size=size, color="black")
    if drawn.border is not None:
        plot.contour(drawn.x.values, drawn.y.values, drawn.border, [0.0], line_color="black", line_width=1.5, line_dash="dashed")
    if drawn.line is not None:
        at, closed = drawn.line
        plot.line(drawn.x.values, at, color=BEST, width=2)
        plot.scatter(drawn.x.values[~closed], at[~closed], color=BEST, fill_color="white", size=6)
    plot.grid.visible = False
    _colour_bar(plot, mapper)
    return shown


def _corners(drawn: Heat, where: np.ndarray) -> dict[str, Any]:
    rows, columns = np.nonzero(where)
    right, up = drawn.x.edges, drawn.y.edges
    return {"left": right[columns], "right": right[columns + 1], "bottom": up[rows], "top": up[rows + 1]}


def _colours(scale: Scale) -> dict[str, Any]:
    return {"palette": PALETTES[scale.colours], "low": scale.low, "high": scale.high}


def _colour_bar(plot: Any, mapper: Any) -> None:
    bar = ColorBar(color_mapper=mapper, width=10, bar_line_color=None, background_fill_alpha=0, major_tick_line_color=None)
    plot.add_layout(bar, "right")
