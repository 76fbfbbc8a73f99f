"""One visitor's page: what is chosen, what has been asked for, and what is drawn. It computes nothing itself."""

from __future__ import annotations

import functools
import html
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import panel as pn
from panel.io.state import set_curdoc

from ..errors import InputError, SolveError
from ..results import Result, Simulation, Solution
from ..results.panels import Panel, panels_of
from .choices import (
    CHEAPEST,
    DYNAMICS,
    FEATURES,
    MOST_UNITS,
    PRESETS,
    REPEATS,
    RTOL,
    START,
    TRAINING,
    VIEWS,
    Choices,
    Field,
    Opened,
    read_text,
)
from .desk import Desk
from .figures import Curves, Laws, TwoTimes, card, legend

HERE = Path(__file__).parent
NO_SCROLLING = ".scroll-button { display: none !important; }"  # a column's button would take the first cell of a grid
TOO_COARSE = 0.5  # an error, relative to the curve's scale, with which a first answer is no help
TITLES: dict[str, str] = dict(zip(VIEWS, ("Curves", "Laws", "Two times", "Sweep"), strict=True))


@dataclass(frozen=True)
class Site:
    """What all visits share: the desk, what was opened with the command, and the visits by their tokens."""

    desk: Desk
    opened: Mapping[str, Opened] = field(default_factory=dict)
    results: Mapping[str, Result] = field(default_factory=dict)
    sweeps: Mapping[str, Path] = field(default_factory=dict)
    visits: dict[str, Visit] = field(default_factory=dict)


@dataclass
class Line:
    """How one dynamics stands: its job, its answer, and the words for it."""

    job: int | None = None
    result: Result | None = None
    state: str = "waiting"  # waiting, coarse, done, diverged, failed
    words: str = ""
    fraction: float = 0.0


class Visit:
    """The page of one visitor."""

    def __init__(self, site: Site, query: Mapping[str, str]):
        self.site, self.thread, self.loaded = site, threading.get_ident(), False
        self.doc: Any = pn.state.curdoc
        self.token = secrets.token_urlsafe(18)
        site.visits[self.token] = self
        self.choices, complaints = Choices.read(query, site.opened)
        self.generation, self.silent, self.asking = 0, False, False
        self.theory: dict[str, Line] = {}
        self.runs: dict[str, Line] = {}
        self.simulated: Choices | None = None
        self.law_job: int | None = None
        self.pictures: dict[str, Any] | None = None
        self._controls()
        self._results()
        self.notice(complaints)
        self.begin()
        if self.site.results:
            self._show_saved()

    # --- the controls --------------------------------------------------------------------------------------------------------

    def _controls(self) -> None:
        css = {"stylesheets": [(HERE / "widgets.css").read_text(encoding="utf-8")], "sizing_mode": "stretch_width", "margin": (3, 0)}
        self.css = css
        problems = {preset.title: name for name, preset in PRESETS.items()}
        problems |= {f"{name} (opened)": name for name in self.site.opened}
        self.model = pn.widgets.Select(name="Problem", options=problems, value=self.choices.model, **css)
        self.model.param.watch(self._model_changed, "value")
        self.sliders: dict[str, Any] = {}
        self.training = pn.Column(*(self._slider(one) for one in TRAINING), **_plain())
        self.start = pn.Column(*(self._slider(one) for one in START), **_plain())
        self.parameters = pn.Column(**_plain())
        names = {title: kind for kind, (title, _) in DYNAMICS.items()}
        self.shown = pn.widgets.CheckBoxGroup(name="Dynamics", options=names, value=list(self.choices.shown), **css)
        self.shown.param.watch(self._changed, "value")
        self.d = pn.widgets.IntSlider(name=FEATURES.label, start=int(FEATURES.start), end=int(FEATURES.end), step=int(FEATURES.step),
                                      value=self.choices.d, **css)  # fmt: skip
        self.d.param.watch(self._changed, "value")
        self.simulate = pn.widgets.Button(name=f"Simulate {REPEATS} real runs", button_type="primary", **css)
        self.simulate.on_click(lambda event: self.begin_runs())
        self.links = pn.pane.HTML(self._links(), **css)
        self._fill_parameters()
        more = pn.Card(self.start, title="Teacher and start", collapsed=True, header_color="var(--ink)", header_background="transparent",
                       **{**css, "margin": (8, 0)})  # fmt: skip
        group = lambda title: pn.pane.HTML(f"<h2>{title}</h2>", **{**css, "margin": (10, 0, 0, 0)})
        parts = [self.model, self.parameters, self.training, more, group("Dynamics"), self.shown]
        if self.site.results:
            known = list(self.site.results)
            self.saved = pn.widgets.CheckBoxGroup(name="Saved results", options=known, value=known, **css)
            self.saved.param.watch(lambda event: self._show_saved(), "value")
            parts += [group("Saved results"), self.saved]
        parts += [group("Real runs"), self.d, self.simulate, group("Download"), self.links]
        self.address = pn.widgets.TextInput(visible=False)
        self.address.jscallback(value="if (source.value) window.history.replaceState({}, '', source.value)")
        self.controls = pn.Column(*parts, self.address, **_plain())

    def _slider(self, one: Field) -> Any:
        value = {**self.choices.parameters, **self.choices.numbers}[one.name]
        if one.optional:
            widget: Any = pn.widgets.FloatInput(name=one.label, value=value, start=one.least, end=one.most, step=one.step, **self.css)
        elif one.whole:
            widget = pn.widgets.IntSlider(
                name=one.label, start=int(one.start), end=int(max(one.end, value)), step=int(one.step), value=value, **self.css
            )
        else:
            widget = pn.widgets.EditableFloatSlider(
                name=one.label, start=min(one.start, value), end=max(one.end, value), step=one.step, value=value,
                fixed_start=one.least, fixed_end=one.most, format="0.[0000]", **self.css,
            )  # fmt: skip
            for part in (widget._slider, widget._value_edit, widget._label):  # the parts of a composite have styles of their own
                part.stylesheets = self.css["stylesheets"]
        widget.param.watch(self._changed, "value")
        self.sliders[one.name] = widget
        return widget

    def _fill_parameters(self) -> None:
        preset = PRESETS.get(self.choices.model)
        widgets = [self._slider(one) for one in preset.fields] if preset else []
        for name, known in preset.texts.items() if preset else ():
            value = self.choices.parameters[name]
            if known:
                widget: Any = pn.widgets.Select(name=name, options=list(known), value=value, **self.css)
            else:
                widget = pn.widgets.TextInput(name=f"{name} (up to {MOST_UNITS})", value=", ".join(f"{x:g}" for x in value), **self.css)
            widget.param.watch(self._changed, "value")
            self.sliders[name] = widget
            widgets.append(widget)
        self.parameters.objects = widgets

    def _model_changed(self, event: Any) -> None:
        if self.silent:
            return
        self.put(Choices.of(event.new, self.site.opened, self.choices))
        self.begin()

    def put(self, choices: Choices) -> None:
        """Show other choices on the controls, without an event for each."""
        self.choices, self.silent = choices, True
        try:
            own = {one.name for preset in PRESETS.values() for one in preset.fields} | {n for p in PRESETS.values() for n in p.texts}
            self.sliders = {name: one for name, one in self.sliders.items() if name not in own}
            self.model.value = choices.model
            self._fill_parameters()
            for name, value in choices.numbers.items():
                one = self.sliders[name]
                one.update(start=min(one.start, value), end=max(one.end, value))
                one.value = value
            self.shown.value, self.d.value = list(choices.shown), choices.d
        finally:
            self.silent = False

    def _changed(self, event: Any) -> None:
        """A control has moved."""
        if self.silent:
            return
        values = {name: widget.value for name, widget in self.sliders.items()}
        preset, parameters = PRESETS.get(self.choices.model), dict(self.choices.parameters)
        try:
            for name in parameters:
                known = preset.texts.get(name) if preset else None
                parameters[name] = values[name] if known is None else read_text(name, str(values[name]), known)
            numbers = {name: float(values[name]) for name in self.choices.numbers}
            chosen = replace(self.choices, numbers=numbers, parameters=parameters, shown=_in_order(self.shown.value), d=int(self.d.value))
            chosen.check()
        except InputError as e:
            self.notice([f"{e}."])
            return
        self.notice([])
        theory = [chosen.key(kind, self.site.opened) for kind in chosen.shown]
        same = theory == [self.choices.key(kind, self.site.opened) for kind in self.choices.shown]
        self.choices = chosen
        if same:
            self.tell_address()
        else:
            self.begin()

    # --- asking ----------------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Ask for the theory of what is chosen now; what was asked before is not wanted any more."""
        self.generation += 1
        self.asking = True  # some answers are told at once, while others are yet to be asked for
        self.drop(self.theory)
        if self.simulated is not None and not self._same_problem(self.simulated):
            self.forget_runs()
        self.tell_address()
        before, self.theory = self.theory, {}
        for kind in DYNAMICS:
            if kind in self.choices.shown:
                line = self.theory[kind] = Line(result=None)
                if self.curves is not None and kind in before:
                    self.curves.fade(kind)
                line.words = self.choices.refusal(kind)
                if line.words:
                    line.state = "failed"
                    self._clear(kind)
            else:
                self._clear(kind)
        for kind in CHEAPEST:
            if kind not in self.theory or self.theory[kind].words:
                continue
            settings = self.choices.settings(self.site.opened, (kind,))
            order = {"kind": "theory", "settings": settings, "key": self.choices.key(kind, self.site.opened)}
            self.ask(self.theory[kind], order, functools.partial(self.heard_theory, self.generation, kind))
        self.asking = False
        self.status()

    def begin_runs(self) -> None:
        """Ask for real runs of all that is shown."""
        words = self.choices.refuse_simulation()
        if words:
            self.notice([f"No real runs: {words}."])
            return
        self.forget_runs()
        self.simulated = self.choices
        for kind in self.choices.shown:
            line = self.runs[kind] = Line()
            order = {"kind": "simulation", "settings": self.choices.settings(self.site.opened, (kind,)),
                     "key": self.choices.key(kind, self.site.opened)}  # fmt: skip
            self.ask(line, order, functools.partial(self.heard_runs, self.simulated, kind))
        self.status()

    def forget_runs(self) -> None:
        self.drop(self.runs)
        if self.curves is not None:
            for kind in self.runs:
                self.curves.clear(kind, theory=False)
        self.runs, self.simulated = {}, None

    def ask(self, line: Line, order: dict[str, Any], hear: Callable[[str, Any], None]) -> None:
        try:
            line.job = self.site.desk.ask(order, lambda what, value: self.later(hear, what, value))
        except (InputError, SolveError) as e:
            line.state, line.words = "failed", f"{e}."

    def drop(self, lines: Mapping[str, Line]) -> None:
        for line in lines.values():
            if line.job is not None:
                self.site.desk.drop(line.job)
                line.job = None

    def arrived(self) -> None:
        """The browser has the page."""
        self.loaded = True
        self.tell_address()

    def leave(self) -> None:
        """The visitor is gone."""
        self.generation += 1
        self.drop(self.theory)
        self.drop(self.runs)
        if self.law_job is not None:
            self.site.desk.drop(self.law_job)
        self.site.visits.pop(self.token, None)

    def later(self, what: Callable[..., None], *arguments: Any) -> None:
        """On this page's own turn: the desk calls from its own thread, unless it knows the answer already."""

        def turn() -> None:
            with set_curdoc(self.doc):
                what(*arguments)

        if self.thread == threading.get_ident():
            what(*arguments)  # told at once, on the page's own turn
        elif self.token in self.site.visits:
            self.doc.add_next_tick_callback(turn)

    # --- hearing -------------------------------------------------------------------------------------------------------------

    def heard_theory(self, generation: int, kind: str, what: str, value: Any) -> None:
        if generation != self.generation:
            return
        line = self.theory[kind]
        if what == "coarse" and value.diagnostics["error"] > TOO_COARSE:
            line.words = f"the first answer is only known to {value.diagnostics['error']:.0%}; a better one is on its way"
            self.status()
            return
        self._take(line, what, value)
        if what in ("coarse", "answer"):
            self._draw(kind, value, theory=True)
            if what == "answer":
                self.look()
        elif what == "failed":
            self._clear(kind)
        self.status()

    def heard_runs(self, simulated: Choices, kind: str, what: str, value: Any) -> None:
        if simulated is not self.simulated:
            return
        self._take(self.runs[kind], what, value)
        if what in ("coarse", "answer"):
            self._draw(kind, value, theory=False)
            if what == "answer":
                self.look()
        self.status()

    def _take(self, line: Line, what: str, value: Any) -> None:
        if what == "progress":
            line.fraction = value[0]
            return
        line.job = None if what != "coarse" else line.job
        line.fraction = 0.0
        if what == "failed":
            line.state, line.words = "failed", value
            return
        line.result = value
        line.state = "coarse" if what == "coarse" else value.status.code
        line.words = value.status.message if value.status.code in ("diverged", "inaccurate") and what == "answer" else ""

    # --- the results -----------------------------------------------------------------------------------------------------------

    def _results(self) -> None:
        self.curves: Curves | None = None
        self.plots = pn.Column(styles=_grid(22), stylesheets=[NO_SCROLLING], sizing_mode="stretch_width")
        sizes = self.choices.sizes()
        if sizes is not None:  # empty pictures are part of the page, so that the first answer only has to add its lines
            self._frames(panels_of(sizes))
        self.chips = pn.pane.HTML("", **self.css)
        self.words = pn.pane.HTML("", **self.css)
        self.laws: Laws | None = None  # made when they are looked at: most visits look at curves
        self.two_times: TwoTimes | None = None
        self.law_of = pn.widgets.Select(name="Dynamics", options=[], **{**self.css, "max_width": 260})
        self.direction = pn.widgets.Select(name="Direction", options={"1": 0}, value=0, visible=False, **{**self.css, "max_width": 140})
        for widget in (self.law_of, self.direction):
            widget.param.watch(lambda event: None if self.silent else self.look(), "value")
        self.law_words = pn.pane.HTML("", **self.css)
        self.law_plots, self.two_time_plots = pn.Column(**_plain()), pn.Column(**_plain())
        chooser = pn.FlexBox(self.law_of, self.direction, sizing_mode="stretch_width")
        laws = pn.Column(self.law_words, self.law_plots, **_plain())
        views = [("curves", self.plots), ("laws", laws), ("two-times", self.two_time_plots)]
        if self.site.sweeps:
            from .sweeps import SweepView  # for few visits

            self.sweep = SweepView(self.site.sweeps, self.css, self.notice)
            views.append(("sweep", self.sweep.view))
        self.views = [name for name, _ in views]
        self.tabs = pn.Tabs(
            *((TITLES[name], view) for name, view in views), sizing_mode="stretch_width", stylesheets=self.css["stylesheets"]
        )
        self.tabs.active = self.views.index(self.choices.view) if self.choices.view in self.views else 0
        self.chooser = chooser
        chooser.visible = self.choices.view in ("laws", "two-times")
        self.tabs.param.watch(self._turned, "active")
        self.results = pn.Column(self.words, self.chips, chooser, self.tabs, **_plain())

    def _turned(self, event: Any) -> None:
        self.choices = replace(self.choices, view=self.views[event.new])
        self.chooser.visible = self.choices.view in ("laws", "two-times")
        self.tell_address()
        self.look()

    def _frames(self, panels: list[Panel]) -> Curves:
        names = {kind: title for kind, (title, _) in DYNAMICS.items()} | {f"saved {name}": name for name in self.site.results}
        self.curves = Curves(names, panels)
        self.plots.objects = [card(plot) for plot in self.curves.plots]
        return self.curves

    def _draw(self, kind: str, result: Result, theory: bool) -> None:
        with self.doc.models.freeze():  # or every part of a line would count the whole page's parts anew
            curves = self.curves
            if curves is None or not curves.fits(result):
                curves = self._frames(panels_of(result.dataset))
                self._show_saved()
                for other, lines in ((True, self.theory), (False, self.runs)):
                    for one, line in lines.items():
                        if line.result is not None and line.result is not result and curves.fits(line.result):
                            curves.show(one, line.result, other)
            curves.show(kind, result, theory)

    def _clear(self, kind: str) -> None:
        if self.curves is not None:
            self.curves.clear(kind, theory=True)

    def _show_saved(self) -> None:
        if self.curves is None:
            return
        unfit = []
        for name, result in self.site.results.items():
            theory = isinstance(result, Solution)
            if name in self.saved.value and self.curves.fits(result):
                self.curves.show(f"saved {name}", result, theory)
            else:
                self.curves.clear(f"saved {name}", theory)
                unfit += [name] if name in self.saved.value else []
        if unfit:
            self.notice([f"{', '.join(unfit)}: of other numbers of directions than this problem, so not drawn here."])
        self.status()

    def look(self) -> None:
        """Fill the view that is open with what there is."""
        ready = {title: kind for kind, (title, _) in DYNAMICS.items() if kind in self.theory}
        if ready != self.law_of.options:
            self.silent = True
            kept = self.law_of.value if self.law_of.value in ready.values() else next(iter(ready.values()), None)
            self.law_of.param.update(options=ready, value=kept)
            self.silent = False
        line = self.theory.get(self.law_of.value)
        if line is None or line.result is None or self.choices.view not in ("laws", "two-times"):
            return
        k, pairs = line.result.dataset.sizes["student"], self.choices.view == "two-times"
        options: dict[str, Any] = {f"{i + 1}": i for i in range(k)}
        if pairs:
            options = {f"{i + 1}, {j + 1}": (i, j) for i in range(k) for j in range(k)}
        if options != self.direction.options:
            self.silent = True
            self.direction.param.update(options=options, value=next(iter(options.values())), visible=k > 1)
            self.silent = False
        if pairs:
            if self.two_times is None:
                self.two_times = TwoTimes()
                self.two_time_plots.append(_cards(self.two_times.plots, 22))
            self.two_times.show(line.result, self.direction.value)
        elif line.state not in ("waiting", "coarse"):
            self._ask_laws(self.law_of.value)

    def _ask_laws(self, kind: str) -> None:
        if self.law_job is not None:
            self.site.desk.drop(self.law_job)
        self.law_words.object = "<p class='soft'>drawing paths from the laws …</p>"
        order = {"kind": "laws", "key": self.choices.key(kind, self.site.opened), "runs": kind in self.runs,
                 "settings": self.choices.settings(self.site.opened, (kind,))}  # fmt: skip
        generation = self.generation

        def heard(what: str, value: Any) -> None:
            if generation != self.generation or what == "progress":
                return
            self.law_job = None
            if what == "answer":
                self.law_words.object = ""
                if self.laws is None:
                    self.laws = Laws()
                    self.law_plots.append(_cards(self.laws.plots, 15))
                self.laws.show(value, self.direction.value if isinstance(self.direction.value, int) else 0)
            else:
                self.law_words.object = f"<p class='bad'>{html.escape(str(value))}</p>"

        try:
            self.law_job = self.site.desk.ask(order, lambda what, value: self.later(heard, what, value))
        except (InputError, SolveError) as e:
            self.notice([f"{e}."])

    # --- words -----------------------------------------------------------------------------------------------------------------

    def notice(self, sentences: list[str]) -> None:
        """What could not be done, above the results."""
        self.words.object = "".join(f"<p class='bad' role='alert'>{html.escape(one)}</p>" for one in sentences)

    def status(self) -> None:
        """The legend, which also tells how each dynamics stands."""
        if self.asking:
            return
        chips, told = [], []
        looks = legend({kind: title for kind, (title, _) in DYNAMICS.items()} | {f"saved {name}": name for name in self.site.results})
        for kind, (title, colour, dash, marker) in zip([*DYNAMICS, *self.site.results], looks, strict=True):
            line, runs = self.theory.get(kind), self.runs.get(kind)
            if kind in self.site.results:
                if kind in self.saved.value:
                    runs_saved = isinstance(self.site.results[kind], Simulation)
                    chips.append(_chip(title, colour, dash, "saved", "done", 1.0, marker if runs_saved else ""))
                continue
            if line is None:
                continue
            words, fraction = _stands(line)
            chips.append(_chip(title, colour, dash, words, line.state, fraction))
            if line.words:
                told.append(f"{title}: {line.words}")
            if runs is not None:
                repeats = 0 if runs.result is None else runs.result.dataset.attrs["repeats"]
                at = f"{repeats} of {REPEATS} real runs" if runs.state != "failed" else "no real runs"
                chips.append(_chip("", colour, dash, at, runs.state, runs.fraction if runs.job else 1.0, marker))
                if runs.words:
                    told.append(f"{title}, real runs: {runs.words}")
        working = any(line.job for line in (*self.theory.values(), *self.runs.values()))
        said = "".join(f"<p class='soft'>{html.escape(one)}</p>" for one in told)
        state = "working" if working else "ready"
        self.chips.object = (
            f"<div class='chips' role='status' data-state='{state}' data-generation='{self.generation}'>{''.join(chips)}</div>{said}"
        )

    def tell_address(self) -> None:
        """In the browser's own line, in place of what was there: a move of a slider is no page to go back to."""
        self.address.value = self.choices.address() if self.loaded else ""

    def _links(self) -> str:
        link = lambda name, text: f"<a class='button' download href='download/{self.token}/{name}'>{text}</a>"
        return f"<div class='links'>{link('settings.toml', 'TOML')}{link('curves.zip', 'NetCDF')}{link('curves.png', 'PNG')}</div>"

    def _same_problem(self, other: Choices) -> bool:
        mine, theirs = (c.settings(self.site.opened, ("sgd", "flow")) for c in (self.choices, other))
        return all(mine[part] == theirs[part] for part in ("problem", "dynamics", "run", "simulation"))

    def drawn(self) -> dict[str, tuple[Solution | None, Simulation | None]]:
        """What the curves show, by name, as `plot.curves` takes it."""
        found: dict[str, tuple[Any, Any]] = {}
        for kind, (title, _) in DYNAMICS.items():
            theory, runs = (lines[kind].result if kind in lines else None for lines in (self.theory, self.runs))
            if theory is not None or runs is not None:
                found[title] = theory, runs
        return found


def _plain() -> dict[str, Any]:
    return {"sizing_mode": "stretch_width", "margin": 0}


def _grid(narrowest: int) -> dict[str, str]:
    """As many columns as there is room for, each at least so many letters wide."""
    columns = f"repeat(auto-fit, minmax(min(100%, {narrowest}rem), 1fr))"
    return {"display": "grid", "grid-template-columns": columns, "gap": "10px"}


def _cards(plots: list[Any], narrowest: int) -> Any:
    return pn.Column(*map(card, plots), styles=_grid(narrowest), stylesheets=[NO_SCROLLING], sizing_mode="stretch_width")


def _in_order(kinds: list[str]) -> tuple[str, ...]:
    return tuple(kind for kind in DYNAMICS if kind in kinds)


def _stands(line: Line) -> tuple[str, float]:
    """How a dynamics stands, in a few words, and how far it is."""
    if line.state == "failed":
        return "not solved", 1.0
    if line.result is None:
        return "…", line.fraction
    error = line.result.diagnostics["error"]
    if line.state == "coarse":
        return f"±{error:.1%}, sharpening to {RTOL:.0%}", line.fraction
    if line.state == "diverged":
        return "diverges", 1.0
    return f"±{error:.1%}" if error >= 1e-3 else "±<0.1%", 1.0


SHAPES = {  # of the markers of real runs, as paths around (14, 6)
    "circle": "M10.5 6a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z",
    "square": "M11 3h6v6h-6z",
    "triangle": "M14 2l4 7h-8z",
    "diamond": "M14 1.5l3 4.5l-3 4.5l-3 -4.5z",
    "inverted_triangle": "M14 10l4 -7h-8z",
    "plus": "M14 2v8M10 6h8",
    "x": "M11 3l6 6M17 3l-6 6",
}


def _chip(title: str, colour: str, dash: Any, words: str, state: str, fraction: float, marker: str = "") -> str:
    dashes = {"solid": "", "dashed": "6 3", "dotted": "2 3", "dotdash": "2 3 6 3"}
    pattern = dashes[dash] if isinstance(dash, str) else " ".join(map(str, dash))
    if marker:
        drawn = SHAPES.get(marker, SHAPES["circle"])
        mark = f"<path d='{drawn}' fill='#fff' stroke='{colour}' stroke-width='1.5'/>"
    else:
        mark = f"<line x1='1' y1='6' x2='27' y2='6' stroke='{colour}' stroke-width='2.5' stroke-dasharray='{pattern}'/>"
    name = f"<b>{html.escape(title)}</b> " if title else ""
    bar = f"<i style='width:{100 * min(max(fraction, 0.0), 1.0):.0f}%'></i>"
    return f"<span class='chip {state}'><svg width='28' height='12' aria-hidden='true'>{mark}</svg>{name}{html.escape(words)}{bar}</span>"
