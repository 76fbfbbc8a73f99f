"""The page's pictures, in Bokeh: made once for a shape of problem, filled anew whenever an answer comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import panel as pn
from bokeh.core.validation import silence
from bokeh.core.validation.warnings import MISSING_RENDERERS
from bokeh.models import ColumnDataSource, DataRange1d, Range1d

from ..results import Result
from ..results.panels import Panel, kernel, panels_of
from ..results.schema import ALONG
from ..show.interactive import COLUMNS, DASHES, Image, data, dynamics_look, frame, runs_renderers, theory_renderers
from ..show.looks import COLOURS, Curve
from .choices import AVERAGED, COMPANIONS, FIXED, parted

silence(MISSING_RENDERERS)  # pictures are on the page before their curves are

HEIGHT = 290
FADED = 0.3  # of curves that belong to earlier settings
OF = "of"  # attribute of an answer's dataset: the settings it belongs to
OUTSIDE = 4.0  # a curve that runs away is drawn up to so many times what the others reach


DASH_OF = {FIXED: [10, 3, 2, 3, 2, 3], AVERAGED: [14, 4]}  # of curves that have the colour of those beside them


def alike(panels: list[Panel], others: list[Panel]) -> bool:
    """Of the same directions, whatever is trained along with them."""
    texts, more = ([panel.text for panel in some if panel.curve not in ALONG] for some in (panels, others))
    return texts == more


class Curves:
    """Both risks and all overlaps of one shape of problem; theory and runs of every name have their own look.

    Lines and points are made with the pictures, and only filled later: whatever is added to one picture on a page lets the browser lay out
    all of them anew, which for the seventeen of three directions took it eight seconds. So they are made for `theory` and `runs` alone,
    not for all that a page offers.
    """

    def __init__(self, names: Mapping[str, str], panels: list[Panel], theory: Iterable[str], runs: Iterable[str]):
        self.names, self.panels = dict(names), panels
        self.plots: list[Any] = []
        self.pale: set[str] = set()
        shared = None
        for panel in panels:
            plot = frame("time t", panel.text, HEIGHT, **({} if shared is None else {"x_range": shared}))
            shared = shared or plot.x_range
            plot.y_range = DataRange1d(only_visible=True, range_padding=0.06)
            self.plots.append(plot)
        self.theory = {kind: self._lines(kind, theory_renderers) for kind in theory}
        self.runs = {kind: self._lines(kind, runs_renderers) for kind in runs}

    def _lines(self, kind: str, renderers: Callable) -> list[tuple[Any, list[Any]]]:
        """A source and its renderers in each picture."""
        found = []
        for plot in self.plots:
            source = ColumnDataSource({key: [] for key in COLUMNS})
            drawn = renderers(plot, self._number(kind), self._called(kind), source)
            if before := parted(kind)[0]:
                drawn[0].glyph.line_dash = DASH_OF[before]
            found.append((source, drawn))
        return found

    def _number(self, kind: str) -> int:
        return list(self.names).index(parted(kind)[1])

    def _called(self, kind: str) -> str:
        before, kind = parted(kind)
        return self.names[kind] + (f", {COMPANIONS[before]}" if before else "")

    def of_shape(self, panels: list[Panel]) -> bool:
        return [panel.text for panel in self.panels] == [panel.text for panel in panels]

    def of(self, theory: bool) -> dict[str, str]:
        """The settings that what is drawn belongs to, by name. They are written on the sources of the curves themselves."""
        drawn = self.theory if theory else self.runs
        return {kind: parts[0][0].tags[0] for kind, parts in drawn.items() if parts and parts[0][0].tags}

    def show(self, kind: str, result: Result, theory: bool) -> None:
        which, there = self._number(kind), {panel.text for panel in panels_of(result.dataset)}
        for panel, (source, lines) in zip(self.panels, (self.theory if theory else self.runs)[kind], strict=True):
            if panel.text not in there:  # a saved result of fixed numbers
                continue
            curve = Curve(*panel.values(result), which, self._called(kind), not theory)
            filled = _bounded(data(curve.thinned(which, len(self.names))), result)
            source.update(tags=[result.dataset.attrs.get(OF, kind)], data=filled)
            _fade(lines, 1.0)
        if theory:
            self.pale.discard(kind)

    def fade(self, kind: str) -> None:
        """What theory has drawn belongs to earlier settings."""
        self.pale.add(kind)
        for _, renderers in self.theory.get(kind, ()):
            _fade(renderers, FADED)

    def clear(self, kind: str, theory: bool) -> None:
        if theory:
            self.pale.discard(kind)
        for source, _ in (self.theory if theory else self.runs).get(kind, ()):
            source.update(data={key: [] for key in source.data}, tags=[])


def _bounded(data: dict[str, np.ndarray], result: Result) -> dict[str, np.ndarray]:
    """Of a training that diverges only what shares an axis with the rest."""
    if result.status.code != "diverged" or not len(data["value"]):
        return data
    most = OUTSIDE * max(float(np.abs(data["value"][0])), 0.25)
    beyond = np.flatnonzero(np.abs(data["value"]) > most)
    end = beyond[0] if len(beyond) else len(data["value"])
    return {key: values[:end] for key, values in data.items()}


def _fade(renderers: list[Any], alpha: float) -> None:
    for one in renderers:
        glyph = one.glyph
        if hasattr(glyph, "fill_alpha") and not hasattr(glyph, "line_color"):
            glyph.fill_alpha = 0.2 * alpha
        else:
            for name in ("line_alpha", "fill_alpha"):
                if hasattr(glyph, name):
                    setattr(glyph, name, alpha)


class TwoTimes:
    """Heat maps of correlation and response of one dynamics."""

    def __init__(self) -> None:
        self.of: tuple[str, Any] | None = None  # settings and entry
        self.images: dict[str, Image] = {}
        for name, symbol, y in (("correlation", "C(t, s)", "time s"), ("response", "R(t, s)", "earlier time s")):
            ranges: dict[str, Any] = {"x_range": Range1d(start=0, end=1), "y_range": Range1d(start=0, end=1), "match_aspect": False}
            plot = frame("time t", y, 380, title=f"{name} {symbol}", **ranges)
            self.images[name] = Image(plot, name, [("t, s", "$x{0.00}, $y{0.00}"), ("value", "@image{0.0000}")])

    @property
    def plots(self) -> list[Any]:
        return [image.plot for image in self.images.values()]

    def clear(self) -> None:
        self.of = None
        for image in self.images.values():
            image.clear()

    def show(self, result: Result, entry: tuple[int, int]) -> None:
        self.of = result.dataset.attrs[OF], entry
        for name, image in self.images.items():
            image.fill(kernel(result.dataset, name, entry), self.of[0])


class Laws:
    """Densities of weights and margins at three times, of one dynamics and direction."""

    TIMES = 3

    def __init__(self) -> None:
        self.of: tuple[str, str | None] | None = None  # settings of theory and of real runs
        self.rows: dict[str, list[tuple[Any, ColumnDataSource, ColumnDataSource]]] = {"weight": [], "sample": []}
        for law, row in self.rows.items():
            for j in range(self.TIMES):
                plot = frame("", "density" if j == 0 else "", 230, title=" ")
                plot.y_range = DataRange1d(start=0)
                lines = ColumnDataSource({"x": [], "y": [], "fresh": []})
                boxes = ColumnDataSource({"left": [], "right": [], "top": []})
                last = j == self.TIMES - 1
                named = lambda name, last=last: {"legend_label": name} if last else {}
                looks = {"fill_color": COLOURS[0], "fill_alpha": 0.3, "line_alpha": 0}
                plot.quad("left", "right", "top", 0, source=boxes, **looks, **named("real runs"))
                plot.line("x", "y", source=lines, color=COLOURS[1], width=2, **named("theory"))
                if law == "sample":
                    plot.line("x", "fresh", source=lines, color="#555555", width=1.5, line_dash=DASHES[1], **named("fresh sample"))
                if last:
                    plot.legend.update(background_fill_alpha=0.6, border_line_color=None, label_text_font_size="11px", spacing=0, padding=2)
                row.append((plot, lines, boxes))

    @property
    def plots(self) -> list[Any]:
        return [plot for row in self.rows.values() for plot, _, _ in row]

    def clear(self) -> None:
        self.of = None
        for row in self.rows.values():
            for plot, lines, boxes in row:
                lines.data, lines.tags, boxes.data = {"x": [], "y": [], "fresh": []}, [], {"left": [], "right": [], "top": []}
                plot.title.text = ""

    def show(self, pictures: Mapping[str, Any], direction: int, of: tuple[str, str | None]) -> None:
        self.clear()
        self.of = of
        sample = next(name for name in pictures if name not in ("times", "weight"))
        for law, name, symbol in (
            ("weight", "weight", "weight θ"),
            ("sample", sample, {"margin": "margin y r"}.get(sample, "pre-activation r")),
        ):
            for j, (plot, lines, boxes) in enumerate(self.rows[law]):
                if j >= len(pictures["times"]):
                    continue
                one = pictures[name][min(direction, len(pictures[name]) - 1)][j]
                fresh = one["fresh"] if one["fresh"] is not None else np.full(len(one["x"]), np.nan)
                lines.data, lines.tags = {"x": one["x"], "y": one["y"], "fresh": fresh}, [of[0]]
                edges, share = one["edges"], one["share"]
                boxes.data = (
                    {"left": [], "right": [], "top": []} if edges is None else {"left": edges[:-1], "right": edges[1:], "top": share}
                )
                plot.title.text = f"t = {pictures['times'][j]:.3g}"
                plot.xaxis.axis_label = symbol


def legend(names: Mapping[str, str]) -> list[tuple[str, str, Any, str]]:
    """Name, colour, dash and marker of each dynamics."""
    return [(name, *dynamics_look(i)) for i, name in enumerate(names.values())]


def card(plot: Any) -> Any:
    """A picture on its own ground, which is light on a dark page too: its lines and letters are made for paper."""
    styles = {
        "background": "var(--card)",
        "border": "1px solid var(--rule)",
        "border-radius": "4px",
        "padding": "4px 2px 0",
        "min-width": "0",
    }
    return pn.Column(pn.pane.Bokeh(plot, sizing_mode="stretch_width"), sizing_mode="stretch_width", styles=styles)
