"""One visitor's page: what is chosen, what has been asked for, and what is drawn. It computes nothing itself.

Every callback is a turn (`turns`): it ends with `settle`, which takes away whatever is not of what is chosen now, and an exception in it
ends in `fault`, which takes away everything and says so. So nothing on the page can be of other settings than its controls show.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ..errors import InputError, SolveError
from ..results import Result, Solution
from ..results.panels import panels_of
from . import faults
from .choices import AVERAGED, CHEAPEST, DYNAMICS, FIXED, Choices, parted
from .controls import Controls
from .downloads import Shown
from .figures import OF
from .legend import Line
from .site import Site
from .turns import Turns
from .views import Views

TOO_COARSE = 0.5  # an error, relative to the curve's scale, with which a first answer is no help


class Visit:
    """The page of one visitor."""

    def __init__(self, site: Site, query: Mapping[str, str]):
        self.site, self.loaded, self.token = site, False, secrets.token_urlsafe(18)
        turns = Turns(self.settle, self.fault, lambda: self.token in site.visits)
        self.doc, self.turn, self.soon = turns.doc, turns.turn, turns.soon
        self.choices, complaints = Choices.read(query, site.opened)
        self.generation, self.asking, self.broken, self.refused = 0, False, "", ""
        self.theory: dict[str, Line] = {}
        self.runs: dict[str, Line] = {}
        self.simulated: Choices | None = None
        self.law_job: int | None = None
        turn = self.turn
        self.controls = Controls(
            self.choices, site.opened, list(site.results), f"download/{self.token}",
            turn(self.moved), turn(self.begin_runs), turn(self.show_saved),
        )  # fmt: skip
        self.views = Views(site.results, site.sweeps, self.choices.view, turn(self.turned), turn(self.look), turn)
        self.views.notice(complaints)
        site.visits[self.token] = self
        turn(self.begin)()
        turns.made()

    # --- turns -----------------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Leave nothing that is not of what is chosen now."""
        if self.asking or self.broken:
            return
        opened = self.site.opened
        theory = {kind: self.choices.key(kind, opened) for kind, line in self.theory.items() if line.state != "failed"}
        runs = {
            kind: self.choices.runs_key(kind, opened) for kind in self.runs if kind in self.theory and self.runs[kind].state != "failed"
        }
        waiting = {kind for kind, line in self.theory.items() if line.job is not None or line.state == "waiting"}
        self.views.keep(theory, runs, waiting, self._law_key(self.views.law_of.value))
        self.status()

    def fault(self, e: BaseException) -> None:
        """Something was raised where nothing should be: nothing is vouched for any more, and that is said."""
        self.broken = faults.words(e)
        self.generation += 1  # what was asked before is not heard any more
        self.asking = False
        with suppress(Exception):
            self.drop(self.theory)
        with suppress(Exception):
            self.drop(self.runs)
        with suppress(Exception):
            self._drop_laws()
        self.theory, self.runs, self.simulated = {}, {}, None
        self.views.fail(self.broken)

    # --- choosing --------------------------------------------------------------------------------------------------------------

    def moved(self) -> None:
        """A control has moved."""
        if self.broken:
            self.recover()
            return
        try:
            chosen = self.controls.read(self.choices)
        except InputError as e:
            self._refuse(f"{e}.")
            return
        self.refused = ""
        self.views.notice([])
        opened, before = self.site.opened, self.choices
        self.choices = chosen
        fields = lambda choices: (choices.model, choices.optimizer, choices.average, choices.trained > 0)
        if fields(chosen) != fields(before):
            self.controls.put(chosen)  # there are others
        keys = lambda choices: [choices.key(kind, opened) for kind in choices.lines]
        if keys(chosen) != keys(before) or not self.theory:
            self.begin()
            return
        if chosen.d != before.d:
            self.forget_runs()
        self.tell_address()

    def _refuse(self, words: str) -> None:
        """The controls stand at something that is no problem: nothing that was there before is of it."""
        self.refused = words
        self.generation += 1
        self.drop(self.theory)
        self.theory = {}
        self.forget_runs()
        self.views.notice([words])

    def recover(self) -> None:
        """Begin anew after a mistake, with what the controls say, or if nothing can be made of that, with what was chosen last."""
        self.refused = ""
        with suppress(Exception):
            self.choices = self.controls.read(self.choices)
        self.begin()

    def turned(self, view: str) -> None:
        """Another view is open."""
        self.choices = replace(self.choices, view=view)
        self.views.opened(view)
        self.tell_address()
        self.look()

    def arrived(self) -> None:
        """The browser has the page."""
        self.loaded = True
        self.tell_address()

    def tell_address(self) -> None:
        """In the browser's own line, in place of what was there: a move of a slider is no page to go back to."""
        self.controls.address.value = self.choices.address() if self.loaded else ""

    # --- asking ----------------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Ask for the theory of what is chosen now; what was asked before is not wanted any more."""
        self.generation += 1
        self.asking = True  # some answers are told at once, while others are yet to be asked for
        self.drop(self.theory)
        self._drop_laws()
        made = self._mend()
        if self.simulated is not None and not self._same_runs(self.simulated):
            self.forget_runs()
        self.tell_address()
        self.theory = {kind: Line() for kind in self.choices.lines}
        if made and self.loaded:
            self.soon(self.turn(self._ask_all), self.generation)  # what is drawn in the same turn as its picture does not reach the browser
        else:
            self._ask_all(self.generation)

    def _ask_all(self, generation: int) -> None:
        """Draw what is known already, and ask for the rest."""
        if generation != self.generation:
            return
        for kind, line in self.runs.items():
            if kind in self.theory and line.result is not None:
                self._draw(kind, line.result, theory=False)
        self.views.offer(self.choices.shown, None, False)
        for kind in [*CHEAPEST, *(FIXED + kind for kind in CHEAPEST)]:
            if kind not in self.theory:
                continue
            line = self.theory[kind]
            line.words = self.choices.refusal(kind)
            if line.words:
                line.state = "failed"
            else:
                self.ask(line, self._order("theory", kind), functools.partial(self.heard_theory, self.generation, kind))
            if line.state == "failed":  # nobody will hear of it
                self._ask_average(kind)
        self.asking = False

    def _ask_average(self, kind: str) -> None:
        """Of a dynamics whose theory is over: the average is made of it."""
        if (line := self.theory.get(AVERAGED + kind)) is None:
            return
        if self.theory[kind].state == "failed":
            line.take("failed", self.theory[kind].words)
            return
        order = {**self._order("average", AVERAGED + kind), "from": self.choices.key(kind, self.site.opened)}
        self.ask(line, order, functools.partial(self.heard_theory, self.generation, AVERAGED + kind))

    def _mend(self) -> bool:
        """Empty pictures of what is chosen, so that answers only have to fill them; whether they had to be made."""
        if self.broken:
            self.broken = ""
            self.views.notice([])
            self.controls.put(self.choices)
            self.views.open(self.choices.view)
            if self.views.sweep is not None:
                self.views.sweep.read()
        sizes = self.choices.sizes()
        made = sizes is not None and self.views.fit(panels_of(sizes), self.choices.lines, self.runs)
        if made:
            self.show_saved()
        return made

    def begin_runs(self) -> None:
        """Ask for real runs of all that is shown."""
        if self.broken:
            self.recover()
        words = self.refused.rstrip(".") or self.choices.refuse_simulation()
        if words:
            self.views.notice([f"No real runs: {words}."])
            return
        self.forget_runs()
        self.simulated = self.choices
        for kind in self.choices.shown:
            line = self.runs[kind] = Line()
            self.ask(line, self._order("simulation", kind), functools.partial(self.heard_runs, self.simulated, kind))

    def forget_runs(self) -> None:
        self.drop(self.runs)
        self.runs, self.simulated = {}, None

    def _order(self, what: str, kind: str) -> dict[str, Any]:
        """A job for the desk; the answer says what it is `of`."""
        opened = self.site.opened
        key = self.choices.key(kind, opened)
        of = self.choices.runs_key(kind, opened) if what == "simulation" else key
        return {"kind": what, "settings": self.choices.settings(opened, (kind,)), "key": key, "of": of}

    def ask(self, line: Line, order: dict[str, Any], hear: Callable[[str, Any], None]) -> None:
        try:
            line.job = self.site.desk.ask(order, self.turn(hear))
        except (InputError, SolveError) as e:
            line.state, line.words = "failed", f"{e}."

    def drop(self, lines: Mapping[str, Line]) -> None:
        for line in lines.values():
            if line.job is not None:
                self.site.desk.drop(line.job)
                line.job = None

    def leave(self) -> None:
        """The visitor is gone."""
        self.generation += 1
        self.site.visits.pop(self.token, None)
        self.drop(self.theory)
        self.drop(self.runs)
        self._drop_laws()

    def _drop_laws(self) -> None:
        if self.law_job is not None:
            self.site.desk.drop(self.law_job)
            self.law_job = None
            self.views.tell_laws("")

    def _same_runs(self, other: Choices) -> bool:
        return all(self.choices.runs_key(kind, self.site.opened) == other.runs_key(kind, self.site.opened) for kind in DYNAMICS)

    # --- hearing -------------------------------------------------------------------------------------------------------------

    def heard_theory(self, generation: int, kind: str, what: str, value: Any) -> None:
        if generation != self.generation:
            return
        line = self.theory[kind]
        if what == "coarse" and value.diagnostics["error"] > TOO_COARSE:
            line.words = f"the first answer is only known to {value.diagnostics['error']:.0%}; a better one is on its way"
            return
        line.take(what, value)
        if what in ("coarse", "answer"):
            self._draw(kind, value, theory=True)
        if what in ("answer", "failed"):
            self._ask_average(kind)
        if what == "answer":
            self.look()

    def heard_runs(self, simulated: Choices, kind: str, what: str, value: Any) -> None:
        if simulated is not self.simulated:
            return
        line = self.runs[kind]
        line.take(what, value)
        if what in ("coarse", "answer"):
            self._draw(kind, value, theory=False)
        if what == "answer":
            self.look()

    def _draw(self, kind: str, result: Result, theory: bool) -> None:
        wanted = (self.choices.key if theory else self.choices.runs_key)(kind, self.site.opened)
        if result.dataset.attrs.get(OF) != wanted:
            raise RuntimeError("an answer belongs to other settings than those chosen")
        if self.views.fit(panels_of(result.dataset), self.theory, self.runs):  # not what was expected
            self.soon(self.turn(self._draw_all), self.generation) if self.loaded else self._draw_all(self.generation)
            return
        self.views.draw(kind, result, theory)

    def _draw_all(self, generation: int) -> None:
        """Everything that is known, into new pictures."""
        if generation != self.generation:
            return
        self.show_saved()
        for theory, lines in ((True, self.theory), (False, self.runs)):
            for kind, line in lines.items():
                if line.result is not None:
                    self.views.draw(kind, line.result, theory)

    def show_saved(self) -> None:
        unfit = self.views.show_saved(self.controls.saved.value)
        if unfit:
            self.views.notice([f"{', '.join(unfit)}: of other numbers of directions than this problem, so not drawn here."])

    # --- laws and kernels ------------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Fill the view that is open with what there is."""
        views, view = self.views, self.choices.view
        line = self.theory.get(views.law_of.value)
        if line is None or line.result is None or view not in ("laws", "two-times"):
            return
        views.offer(self.choices.shown, line.result.dataset.sizes["student"], view == "two-times")
        if view == "two-times":
            views.draw_kernels(line.result)
        elif line.state not in ("waiting", "coarse"):
            self._ask_laws(views.law_of.value)

    def _law_key(self, kind: str) -> tuple[str | None, str | None]:
        """What laws of this dynamics are of: theory, and real runs, where they are there."""
        opened = self.site.opened
        theory, runs = self.theory.get(kind), self.runs.get(kind)
        done = runs is not None and runs.job is None and runs.result is not None
        there = theory is not None and theory.state != "failed"
        return (self.choices.key(kind, opened) if there else None), (self.choices.runs_key(kind, opened) if done else None)

    def _ask_laws(self, kind: str) -> None:
        self._drop_laws()
        of, generation = self._law_key(kind), self.generation
        self.views.tell_laws("drawing paths from the laws …")

        def heard(what: str, value: Any) -> None:
            if generation != self.generation or what == "progress":
                return
            self.law_job = None
            if of != self._law_key(self.views.law_of.value):
                return  # another dynamics is looked at, and has been asked for
            if what != "answer":
                self.views.tell_laws(str(value), bad=True)
                return
            lost = of[1] is not None and not value["runs"]
            self.views.tell_laws("The paths of the real runs are not kept any more; simulate again for their histograms." if lost else "")
            self.views.draw_laws(value, (str(of[0]), of[1]))

        try:
            order = {**self._order("laws", kind), "runs": of[1]}
            self.law_job = self.site.desk.ask(order, self.turn(heard))
        except (InputError, SolveError) as e:
            self.views.tell_laws(f"{e}.", bad=True)

    # --- what is shown ---------------------------------------------------------------------------------------------------------

    def status(self) -> None:
        of = "" if self.refused else self.choices.words()
        self.views.status(self.choices, self.theory, self.runs, self.controls.saved.value, of, self.generation)

    def shown(self) -> Shown:
        """What a file of this moment holds."""
        if self.broken:
            raise InputError("`curves` must be there to be saved, but the page has told of a mistake and shows none (choose again)")
        if self.refused:
            raise InputError(self.refused.rstrip("."))
        drawn: dict[str, tuple[Any, Any]] = {}
        others: dict[str, Any] = {}
        for kind in self.choices.lines:
            if kind not in self.theory:
                continue
            theory, runs = (lines[kind].result if kind in lines else None for lines in (self.theory, self.runs))
            if theory is not None or runs is not None:
                drawn[self.choices.title(kind)] = theory, runs
            if parted(kind)[0]:
                others[self.choices.title(kind)] = self.choices.settings(self.site.opened, (kind,))
        kernels = None
        line = self.theory.get(self.views.law_of.value)
        if self.choices.view == "two-times" and self.views.two_times is not None and line is not None and isinstance(line.result, Solution):
            entry = self.views.direction.value
            kernels = line.result, entry if isinstance(entry, tuple) else (0, 0)
        return Shown(self.choices.settings(self.site.opened), drawn, kernels, others)
