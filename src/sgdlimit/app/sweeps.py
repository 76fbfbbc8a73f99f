"""A sweep's store on the page: a map of one number per point, and the curves of the point that is clicked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import panel as pn
from bokeh.models import HoverTool, TapTool

from ..errors import InputError
from ..results import CURVES
from ..show.interactive import dynamics_look, frame, heat
from ..show.looks import BAND
from ..sweep.reading import Reading, heat_maps, read, sorted_axes
from .figures import card


class SweepView:
    """Chooses a store, a curve and a dynamics; draws the map and the curves of one point."""

    def __init__(
        self,
        stores: Mapping[str, Path],
        css: dict[str, Any],
        notice: Callable[[list[str]], None],
        guard: Callable[[Callable], Callable],
    ):
        self.stores, self.notice, self.guard = stores, notice, guard
        narrow = {**css, "max_width": 260}
        self.store = pn.widgets.Select(name="Store", options=list(stores), tags=["store"], **narrow)
        self.quantity = pn.widgets.Select(
            name="Value at the end", options={n.replace("_", " "): n for n in ("test_risk", *sorted(set(CURVES) - {"test_risk"}))},
            tags=["quantity"], **narrow,
        )  # fmt: skip
        self.part = pn.widgets.Select(name="Dynamics", options=[], tags=["part"], **narrow)
        self.silent = False
        self.left, self.right = pn.Column(sizing_mode="stretch_width"), pn.Column(sizing_mode="stretch_width")
        grid = {"display": "grid", "grid-template-columns": "repeat(auto-fit, minmax(min(100%, 24rem), 1fr))", "gap": "10px"}
        self.view = pn.Column(
            pn.FlexBox(self.store, self.quantity, self.part, sizing_mode="stretch_width"),
            pn.Column(self.left, self.right, styles=grid, sizing_mode="stretch_width"),
            sizing_mode="stretch_width",
        )
        read, draw = guard(self.read), guard(self.draw)
        for widget in (self.store, self.quantity):
            widget.param.watch(lambda event: read(), "value")
        self.part.param.watch(lambda event: None if self.silent else draw(), "value")
        self.read()

    def read(self) -> None:
        try:
            self.reading: Reading = sorted_axes(read(self.stores[self.store.value], self.quantity.value))
            if len(self.reading.axes) == 1:
                raise InputError("`DIR.zarr` must have two axes for a map, but has one (sgdlimit plot draws its curves)")
        except InputError as e:
            self.notice([f"{self.store.value}: {e}."])
            self.clear()
            return
        titles = [panel.title for panel in self.reading.panels]
        self.silent = True
        self.part.param.update(options=titles, value=self.part.value if self.part.value in titles else titles[0])
        self.silent = False
        self.draw()

    def clear(self) -> None:
        self.left.objects, self.right.objects = [], []

    def draw(self) -> None:
        reading, which = self.reading, [panel.title for panel in self.reading.panels].index(self.part.value)
        panel, drawn = reading.panels[which], heat_maps(reading)[which]
        kinds = {"x_axis_type": "log" if drawn.x.log else "linear", "y_axis_type": "log" if drawn.y.log else "linear"}
        title = f"{panel.title}: {reading.quantity}" + (f" ({reading.held})" if reading.held else "")
        plot = frame(drawn.x.text, drawn.y.text, 400, title=title, **kinds)
        shown = heat(plot, drawn, {"se": panel.se, "ended": panel.code})
        numbers = [("value", "@value{0.0000} ± @se{0.0000}"), ("ended", "@ended")]
        numbers = [(drawn.x.text, "@x{0.000}"), (drawn.y.text, "@y{0.000}"), *numbers]
        plot.add_tools(TapTool(renderers=[shown]), HoverTool(renderers=[shown], tooltips=[*numbers]))
        self.index, self.source = list(np.ndindex(drawn.value.shape)), shown.data_source
        choose = self.guard(self.choose)
        self.source.selected.on_change("indices", lambda attribute, old, new: choose(new))
        self.left.objects = [card(plot)]
        self.right.objects = [
            pn.pane.HTML("<p>Click a point of the map for its curves. Hatched: training diverges.</p>", styles={"color": "var(--soft)"})
        ]

    def choose(self, indices: list[int]) -> None:
        """Draw the curves of all dynamics at the point that was clicked."""
        if not indices:
            return
        reading, at = self.reading, self.index[indices[0]]
        if not any(np.isfinite(panel.curves[at]).any() for panel in reading.panels):
            codes = {str(panel.code[at]) for panel in reading.panels}
            words = (
                "Nothing of this point is computed yet."
                if codes == {""}
                else "This point has no curves: training diverges at once, or it failed."
            )
            self.right.objects = [pn.pane.HTML(f"<p>{words}</p>", styles={"color": "var(--soft)"})]
            return
        y, x = reading.axes
        place = (y.values[at[0]], x.values[at[-1]])
        title = f"{y.text} = {place[0]:.4g}, {x.text} = {place[1]:.4g}"
        plot = frame(reading.clock.label.replace("$", ""), reading.curve.replace("_", " "), 400, title=title)
        for i, panel in enumerate(reading.panels):
            colour, dash, _ = dynamics_look(i)
            value, se = panel.curves[at], panel.curves_se[at]
            plot.varea(reading.clock.values, value - BAND * se, value + BAND * se, color=colour, alpha=0.2)
            plot.line(reading.clock.values, value, color=colour, line_dash=dash, width=2, legend_label=panel.title)
        plot.legend.update(background_fill_alpha=0.6, border_line_color=None, click_policy="hide")
        self.right.objects = [card(plot)]
