"""Bokeh: empty frames, curves with bands, a legend that hides and shows, numbers under the pointer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bokeh.models import ColumnDataSource, HoverTool, Legend, LegendItem
from bokeh.plotting import figure

from .looks import COLOURS, Curve

DASHES = ("solid", "dashed", "dotted", "dotdash", [3, 2], [8, 3], [1, 4])
MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "plus", "x")
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
