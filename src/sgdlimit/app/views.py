"""What a page shows: curves, laws, two-time kernels, the legend, and words. Everything drawn knows the settings it is of."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import panel as pn

from ..results import Result, Solution
from ..results.panels import Panel, panels_of
from .choices import DYNAMICS, VIEWS, Choices, parted
from .figures import Curves, Laws, TwoTimes, alike, card
from .layout import cards, grid, plain, styled
from .legend import Line, chips, names

TITLES: dict[str, str] = dict(zip(VIEWS, ("Curves", "Laws", "Two times", "Sweep"), strict=True))


class Views:
    """The right-hand side of the page.

    Arguments:
        saved: results that were opened with the command.
        sweeps: stores of sweeps, likewise.
        view: which is open at first.
        turned, looked: called when another view is opened, and when another dynamics or direction is chosen in one.
        guard: wraps callbacks that are not the page's own.
    """

    def __init__(
        self,
        saved: Mapping[str, Result],
        sweeps: Mapping[str, Path],
        view: str,
        turned: Callable[[str], None],
        looked: Callable[[], None],
        guard: Callable[[Callable], Callable],
    ):
        self.saved, self.silent, css = saved, False, styled()
        self.curves: Curves | None = None
        self.laws: Laws | None = None  # made when they are looked at: most visits look at curves
        self.two_times: TwoTimes | None = None
        self.words, self.chips, self.caption, self.law_words = (pn.pane.HTML("", **css) for _ in range(4))
        self.plots = pn.Column(**grid(22))
        self.law_plots, self.two_time_plots = pn.Column(**plain()), pn.Column(**plain())
        self.law_of = pn.widgets.Select(name="Dynamics", options=[], tags=["law of"], **{**css, "max_width": 260})
        self.direction = pn.widgets.Select(
            name="Direction", options={"1": 0}, value=0, visible=False, tags=["direction"], **{**css, "max_width": 140}
        )
        for widget in (self.law_of, self.direction):
            widget.param.watch(lambda event: None if self.silent else looked(), "value")
        pages = [("curves", self.plots), ("laws", self.law_plots), ("two-times", self.two_time_plots)]
        self.sweep: Any = None
        if sweeps:
            from .sweeps import SweepView  # for few visits

            self.sweep = SweepView(sweeps, css, self.notice, guard)
            pages.append(("sweep", self.sweep.view))
        self.known = [name for name, _ in pages]
        self.tabs = pn.Tabs(
            *((TITLES[name], part) for name, part in pages), sizing_mode="stretch_width", stylesheets=css["stylesheets"], tags=["views"]
        )
        self.open(view)
        self.tabs.param.watch(lambda event: turned(self.known[event.new]), "active")
        self.chooser = pn.FlexBox(self.law_of, self.direction, sizing_mode="stretch_width")
        self.opened(view)
        self.view = pn.Column(self.words, self.chips, self.caption, self.chooser, self.law_words, self.tabs, **plain())

    def open(self, view: str) -> None:
        self.tabs.active = self.known.index(view) if view in self.known else 0

    def opened(self, view: str) -> None:
        self.chooser.visible = self.law_words.visible = view in ("laws", "two-times")

    # --- curves ------------------------------------------------------------------------------------------------------------------

    def fit(self, panels: list[Panel], theory: Iterable[str], runs: Iterable[str]) -> bool:
        """Have pictures of this shape for these dynamics; true where they had to be made, and what was drawn is gone.

        They must be on the page before anything is drawn into them: what comes between the two does not reach the browser.
        """
        now = self.curves
        if now is not None and now.of_shape(panels) and set(theory) <= set(now.theory) and set(runs) <= set(now.runs):
            return False
        of_theory, of_runs = list(theory), list(runs)
        for name, result in self.saved.items():
            if alike(panels, panels_of(result.dataset)):
                (of_theory if isinstance(result, Solution) else of_runs).append(f"saved {name}")
        self.curves = Curves(names(self.saved), panels, of_theory, of_runs)
        self.plots.objects = [card(plot) for plot in self.curves.plots]
        return True

    def draw(self, kind: str, result: Result, theory: bool) -> None:
        """Draw an answer into pictures of its shape."""
        assert self.curves is not None
        self.curves.show(kind, result, theory)

    def show_saved(self, chosen: list[str]) -> list[str]:
        """Draw the saved results that are chosen; which of them cannot be."""
        unfit = []
        if self.curves is None:
            return unfit
        for name, result in self.saved.items():
            theory, kind = isinstance(result, Solution), f"saved {name}"
            if name in chosen and alike(self.curves.panels, panels_of(result.dataset)):
                self.curves.show(kind, result, theory)
            else:
                self.curves.clear(kind, theory)
                unfit += [name] if name in chosen else []
        return unfit

    # --- laws and kernels -----------------------------------------------------------------------------------------------------------

    def offer(self, shown: tuple[str, ...], k: int | None, pairs: bool) -> None:
        """Let laws be chosen of what is shown, and of as many directions as there are."""
        self.silent = True
        try:
            ready = {title: kind for kind, (title, _) in DYNAMICS.items() if kind in shown}
            if ready != self.law_of.options:
                kept = self.law_of.value if self.law_of.value in ready.values() else next(iter(ready.values()), None)
                self.law_of.param.update(options=ready, value=kept)
            if k is not None:
                options: dict[str, Any] = {f"{i + 1}": i for i in range(k)}
                if pairs:
                    options = {f"{i + 1}, {j + 1}": (i, j) for i in range(k) for j in range(k)}
                if options != self.direction.options:
                    self.direction.param.update(options=options, value=next(iter(options.values())), visible=k > 1)
        finally:
            self.silent = False

    def draw_kernels(self, result: Result) -> None:
        if "correlation" not in result.dataset or result.dataset.sizes["time"] < 2:
            self.tell_laws("There are no two times to draw: the curves end at once.")
            if self.two_times is not None:
                self.two_times.clear()
            return
        self.tell_laws("")
        if self.two_times is None:
            self.two_times = TwoTimes()
            self.two_time_plots.objects = [cards(self.two_times.plots, 22)]
        self.two_times.show(result, self.direction.value)

    def draw_laws(self, pictures: Mapping[str, Any], of: tuple[str, str | None]) -> None:
        if self.laws is None:
            self.laws = Laws()
            self.law_plots.objects = [cards(self.laws.plots, 15)]
        self.laws.show(pictures, self.direction.value if isinstance(self.direction.value, int) else 0, of)

    # --- what may stay -----------------------------------------------------------------------------------------------------------

    def keep(self, theory: Mapping[str, str], runs: Mapping[str, str], waiting: set[str], laws: tuple[str | None, str | None]) -> None:
        """Take away whatever is not of these settings: keys of `Choices`, by dynamics, and those of the laws looked at. Curves of theory
        that is `waiting` for those of other numbers of the same problem stay, and are pale."""
        if self.curves is not None:
            for kind, of in list(self.curves.of(theory=True).items()):
                if parted(kind)[1] not in DYNAMICS or of == theory.get(kind):
                    continue
                if kind in waiting and json.loads(of)[0] == json.loads(theory[kind])[0]:
                    self.curves.fade(kind)
                else:
                    self.curves.clear(kind, theory=True)
            for kind, of in list(self.curves.of(theory=False).items()):
                if kind in DYNAMICS and of != runs.get(kind):
                    self.curves.clear(kind, theory=False)
        if self.laws is not None and self.laws.of and self.laws.of != laws:
            self.laws.clear()
        if self.two_times is not None and self.two_times.of and self.two_times.of != (laws[0], self.direction.value):
            self.two_times.clear()

    def clear(self) -> None:
        """Nothing that was drawn or counted is on the page any more."""
        self.curves = self.laws = self.two_times = None
        for part in (self.plots, self.law_plots, self.two_time_plots):
            part.objects = []
        self.law_words.object = self.caption.object = ""
        self.chips.object = "<div class='chips' role='status' data-state='failed'></div>"
        if self.sweep is not None:
            self.sweep.clear()

    def fail(self, words: str) -> None:
        """An exception: say so, and show nothing."""
        alert = f"<p class='bad' role='alert'>{html.escape(words)}</p>"
        try:
            self.clear()
            self.words.object = alert
        except Exception:  # even that failed: the parts themselves cannot be trusted
            with suppress(Exception):
                self.view.objects = [pn.pane.HTML(alert, **styled())]

    # --- words --------------------------------------------------------------------------------------------------------------------

    def notice(self, sentences: list[str]) -> None:
        """What could not be done, above the results."""
        self.words.object = "".join(f"<p class='bad' role='alert'>{html.escape(one)}</p>" for one in sentences)

    def tell_laws(self, words: str, bad: bool = False) -> None:
        self.law_words.object = f"<p class='{'bad' if bad else 'soft'}'>{html.escape(words)}</p>" if words else ""

    def status(self, choices: Choices, theory: Mapping[str, Line], runs: Mapping[str, Line], chosen: list[str], of: str, turn: int) -> None:
        """The legend, which also tells how each dynamics stands, and the settings `of` the curves in words."""
        found, told = chips(theory, runs, self.saved, chosen)
        state = "working" if any(line.job for line in (*theory.values(), *runs.values())) else "ready"
        said = "".join(f"<p class='soft'>{html.escape(one)}</p>" for one in told)
        about = f"data-state='{state}' data-generation='{turn}' data-model='{html.escape(choices.model, quote=True)}'"
        self.chips.object = f"<div class='chips' role='status' {about}>{found}</div>{said}"
        pale = "; pale: of the settings before" if self.curves is not None and self.curves.pale else ""
        self.caption.object = f"<p class='soft caption'>{html.escape(of)}{pale}</p>" if of else ""
