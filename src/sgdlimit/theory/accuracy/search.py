"""One search for the accuracy promised: a pilot, a plan made from it, replicates until the errors are small enough or the means are spent.

Each replicate is an independent scrambling of the Sobol points, marched at three nested resolutions with common random numbers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from itertools import count
from threading import Event
from typing import Protocol

import numpy as np

from ...compiling import hurried
from ...errors import SolveError
from ...learning.dynamics import Dynamics, GradientFlow
from ...learning.problem import Problem
from ...learning.risk import TestRisk
from ..march import Seen
from ..samples.engines import Engine, engine_of
from ..weights.penalised import runs_away
from .budget import Budget, OutOfTime
from .checkpoint import Checkpoint
from .estimates import Answer, Estimator, multiscale
from .existence import check_moments
from .levels import Level, bends_of, run_levels
from .plans import COARSENINGS, GROUP, MAX_REPLICATES, PILOT_REPLICATES, REPLICATES, THREADS, Found, Plan, Planner, cells_at_most
from .recomputed import again, worst
from .replicates import Drawn, draw_all
from .witness import Witnesses

LOOSER = 1.3  # by so much is `rtol` larger at a time, where the budget does not allow for it
# Bytes passed over, times the student's directions, from which on programs are compiled well; before, soon. What is unrolled over many
# directions takes twice as long when it was compiled soon.
HEAVY = 2e10
IN_THE_END = 1.6  # times what a pilot's few replicates foresee is what it takes: 1.3 to 2.9 on random problems
# Seconds of a replicate, roughly, from which on a few of its samples go ahead: below, their programs cost more than they save.
SCOUTED = 0.1
CUTS = 8  # how often the horizon comes nearer where averages do not exist


def threads() -> int:
    """How many groups of replicates are marched at a time: a worker of many takes one, or they would wait for each other."""
    asked = os.environ.get("SGDLIMIT_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) > 0 else THREADS


class Rival(Protocol):
    """Another way to the limit."""

    def cheaper(self, seconds: float, rtol: float) -> bool:
        """Whether it is as accurate as `rtol` for less than so many seconds of one core. If so the search ends, with what it has."""
        ...

    def arrive(self) -> bool:
        """Whether it comes to the horizon where samples seem to make averages that do not exist. If so the search ends, too."""
        ...


class Search:
    """One call of `solve`: what stays fixed while plans are tried."""

    def __init__(
        self,
        problem: Problem,
        dynamics: Dynamics,
        horizon: float,
        seed: int,
        outputs: np.ndarray,
        method: str,
        report: Callable,
        checkpoint: Checkpoint | None = None,
        watch: Callable[[], object] = lambda: None,
        budget: Budget | None = None,
        rival: Rival | None = None,
    ):
        self.problem, self.dynamics, self.horizon, self.seed, self.outputs = problem, dynamics, horizon, seed, outputs
        self.method, self.report, self.checkpoint = method, report, checkpoint
        self.budget = budget or Budget(None)
        self.watch = lambda: (watch(), self.budget.watch())
        self.ended: float | None = None  # when training diverges
        self.unbounded, self.cuts = False, 0  # whether averages stop to exist there, and how often the horizon came nearer for it
        self.rtol = np.inf  # what is promised, if anything
        self.pilot_cells = 0
        self.stage = 0  # of the random numbers of the last answer
        # Paths, cells of the finest level, and seconds that the one with half of them took, of computing and on the clock.
        self.pace = 1.0, 1.0, 0.0, 0.0
        self.compiling = 0.0  # seconds that a first level takes more than it takes again
        self.test_risk = TestRisk(problem, seed)
        self.witnesses = Witnesses(problem, seed)
        self.most_cells = cells_at_most(problem)
        self._engine: Engine | None = None
        self.rival = rival
        self.beaten = self.lost = False  # whether the rival is cheaper, or alone knows averages

    @property
    def engine(self) -> Engine:
        """For the horizon as it stands."""
        if self._engine is None or self._engine.horizon != self.horizon:
            self._engine = engine_of(self.method, self.problem, self.dynamics, self.horizon)
        return self._engine

    @property
    def planner(self) -> Planner:
        return Planner(self.problem, self.engine, self.test_risk, self.most_cells)

    @property
    def estimator(self) -> Estimator:
        bends = bends_of(self.problem, self.dynamics, self.engine.ends)
        # Cells about as long as a velocity's memory are between two regimes, and a flow has no other noise that would hide it.
        uneven = isinstance(self.dynamics, GradientFlow) and not self.dynamics.plain
        several = multiscale(self.problem, self.dynamics)
        return Estimator(self.problem, self.test_risk, self.witnesses, self.outputs, self.horizon, self.rtol, bends, several, uneven)

    def estimates(self, rtol: float) -> Iterator[Answer]:
        """The pilot's, rough ones first, and if it does not keep the promise each better one until one does or the means are spent."""
        self.rtol = rtol
        pilots = self.budget.in_time(self.pilots(rtol))
        pilot = next(pilots)
        while True:
            self.pilot_cells = pilot.plan.cells
            yield pilot
            if (better := next(pilots, None)) is None:
                break
            pilot = better
        if self.beaten:
            return
        hopeless = self.unbounded or self.witnesses.faults  # more samples would only show greater ones, or be as wrong
        if not hopeless and self._beaten(self.planner.after(pilot.found, rtol), pilot.found, rtol):
            return
        plan = pilot.plan if hopeless else self._affordable(pilot, rtol)
        if plan != pilot.plan and not self.beaten:
            self.report(0.0, self._price(plan, rtol))
            yield from self.budget.in_time(self.refine(pilot, plan, rtol), needed=False)

    def _beaten(self, plan: Plan, found: Found, rtol: float) -> bool:
        """Whether the rival is the cheaper way to `rtol` than a plan made of what was `found`."""
        seconds = self.engine.path_seconds(plan.cells) * plan.paths * (plan.replicates - plan.kept(found.plan))
        if found.plan.replicates <= PILOT_REPLICATES:
            seconds *= IN_THE_END
        seconds *= self.planner.missing(plan, found, rtol)
        self.beaten = self.rival is not None and seconds > 0.0 and self.rival.cheaper(seconds, rtol)
        return self.beaten

    def _outdone(self, found: Found) -> bool:
        """Whether the rival is more accurate after the time that is left than more replicates would be."""
        plan = found.plan
        more = self.budget.left / self._on_the_clock(replace(plan, replicates=plan.replicates + 1), plan)
        reached = float(np.hypot(found.discretisation, found.sampling * np.sqrt(plan.replicates / (plan.replicates + more))))
        self.beaten = self.rival is not None and self.rival.cheaper(self.budget.left, reached)
        return self.beaten

    def _affordable(self, pilot: Answer, rtol: float) -> Plan:
        """The plan for `rtol`, or for the smallest larger one that the budget allows; the pilot's own where there is none, or for which the
        rival is cheaper."""
        while rtol < pilot.found.total:
            plan = self.planner.after(pilot.found, rtol)
            if self.budget.allows(self._on_the_clock(plan, pilot.plan)):
                return plan
            rtol *= LOOSER
            if self._beaten(self.planner.after(pilot.found, rtol), pilot.found, rtol):
                break
        return pilot.plan

    def _on_the_clock(self, plan: Plan, before: Plan) -> float:
        """Seconds that a plan will take after another, whose programs are compiled."""
        kept = plan.kept(before)
        return self._share(replace(plan, replicates=plan.replicates - kept)) * self.pace[3] + (0.0 if kept else self.compiling)

    def _share(self, plan: Plan) -> float:
        """Work of a plan as a multiple of that of `pace`: it goes with paths and replicates, and for each node with the nodes before it."""
        paths, cells, *_ = self.pace
        share = plan.paths * plan.replicates / paths * (plan.cells / cells) ** 2
        return share * sum(COARSENINGS[1] / c for c in COARSENINGS)

    def on(self, plan: Plan, stage: int) -> Answer | None:
        """The answer on a plan and random numbers that are given, those of another search say; None where training does not arrive at the
        horizon, and then `ended` says when it diverges."""
        levels = self._replicates(plan, stage)
        reached = _reached(levels)
        if reached < self.horizon:
            self.ended = reached
            return None
        answer = self.estimator.estimate(plan, levels)
        if not answer.sound():
            self.ended, self.unbounded = answer.sound_until(self.outputs), True
            return None
        return answer

    def _price(self, plan: Plan, rtol: float) -> str:
        """What a plan takes, from what a level of the pilot took once its program was compiled."""
        seconds = self._share(plan) * self.pace[2]
        told = f"about {seconds:.2g} s" if seconds < 120 else f"about {seconds / 60:.2g} minutes"
        cheaper = "" if seconds < 600 else f"; four times the rtol takes about a tenth of it ({seconds / 600:.2g} minutes)"
        return f"rtol = {rtol:g} takes {plan.replicates} times {plan.paths} paths on {plan.cells} cells, {told} of computing{cheaper}"

    def _told(self, plan: Plan, levels: list[list[Level]]) -> Answer:
        """The answer of these replicates; the last one will take as long."""
        began = time.perf_counter()
        answer = self.estimator.estimate(plan, levels)
        self.budget.keep(time.perf_counter() - began)
        return answer

    def _moved(self, first: Answer, last: Answer) -> None:
        """Widen errors where the answer moved from the first plan to this one by more than both promised."""
        joint = {name: np.hypot(error, first.errors[name]) for name, error in last.errors.items()}
        for name, size in self.witnesses.moved(first.curves, last.curves, joint, last.scales).items():
            np.maximum(last.discretisation[name], size, out=last.discretisation[name])

    def pilots(self, rtol: float) -> Iterator[Answer]:
        """Cheap first estimates, the last of them on enough cells for the others to be planned by it; they also find the time of
        divergence, if there is one."""
        plan = self.planner.pilot(rtol)
        self.test_risk.prepare(len(self.outputs))
        while True:
            self.report(0.0, f"pilot with {plan.cells} cells")
            levels = self._replicates(plan, 0)
            reached = _reached(levels)
            if reached >= self.horizon:
                estimate = self._told(plan, levels)
                if not estimate.sound() and plan.cells >= 32:
                    check_moments(self.problem, np.inf)
                    if self.rival is not None and self.rival.arrive():  # averages exist, but so few samples do not tell them
                        self.beaten = self.lost = True
                        yield estimate
                        return
                    self._cut(estimate)
                    continue
                check_moments(self.problem, estimate.worst(estimate.sampling))
                yield estimate
                if estimate.worst(estimate.discretisation) < 0.25 or plan.cells >= self.most_cells or self.witnesses.faults:
                    return
                plan = self.planner.finer(plan)
            elif plan.cells < 32:
                plan = replace(plan, cells=2 * plan.cells)  # the cells may be too wide for the march
            elif runs_away(self.problem):
                raise SolveError("the weights run away at once, as the penalty pushes large ones outwards faster than linearly "
                                 "(let `penalty.fn` fall no faster than theta^2)")  # fmt: skip
            elif reached == 0.0:
                check_moments(self.problem, np.inf)
                raise SolveError(f"training diverges at once, within t = {4 * self.horizon / plan.cells:.2g} (ask for a shorter horizon)")
            elif reached < 0.7 * self.horizon:
                self.horizon = 1.2 * reached
            else:
                self.ended = reached
                self._shorten(reached * (1.0 - 4.0 / plan.cells))

    def _cut(self, estimate: Answer) -> None:
        """Go only as far as averages exist: from some time on a few samples out of thousands make all of them, and more only show greater
        ones, as with a gradient that grows faster than its argument, whose samples overshoot further at each visit."""
        until = estimate.sound_until(self.outputs)
        first = self.outputs[self.outputs > 0.0][0]
        if self.cuts == CUTS or until < first * 1e-3:
            raise SolveError(
                f"no curves can be told: already before t = {max(until, first):.2g} averages over {estimate.plan.paths} samples are made by"
                " a few of them, so that the limit's means are infinite or training diverges at once (a loss whose gradient is bounded or"
                " grows linearly, or a smaller step)"
            )
        self.cuts += 1
        self.ended, self.unbounded = until, True
        self._shorten(until)

    def _shorten(self, horizon: float) -> None:
        """Go only as far as that."""
        kept = self.outputs[self.outputs <= horizon]
        self.horizon, self.outputs = horizon, kept if len(kept) > 1 else np.linspace(0.0, horizon, 11)

    def refine(self, pilot: Answer, plan: Plan, rtol: float) -> Iterator[Answer]:
        """Spend what the pilot says it takes, but first no more replicates than tell their spread well; then check, and spend more where it
        was not enough."""
        levels = pilot.levels
        plan = replace(plan, replicates=min(plan.replicates, REPLICATES))
        if not plan.kept(pilot.plan):
            self.stage, levels = 1, []
        while True:
            levels = levels + self._replicates(plan, self.stage, done=len(levels))
            if (reached := _reached(levels)) < self.horizon:  # samples run away that are too rare for the pilot
                self.ended, self.unbounded = reached, True
                self._shorten(reached * (1.0 - 4.0 / plan.cells))
                yield from self.pilots(rtol)
                return
            plan = replace(plan, replicates=len(levels))  # fewer where the budget was spent
            estimate = self._told(plan, levels)
            self._moved(pilot, estimate)
            yield estimate
            if estimate.worst(estimate.errors) <= rtol or self.witnesses.doubt or self.budget.left <= 0.0:
                break
            done, coarse = plan, self.planner.coarse(estimate.found, rtol)
            if coarse and plan.cells >= self.most_cells:
                break
            plan = self.planner.wider(plan) if coarse else self.planner.more(estimate.found, rtol)
            if plan == done or self._beaten(plan, estimate.found, rtol):
                break
            if not self.budget.allows(self._on_the_clock(plan, done)):
                if self._outdone(estimate.found) or coarse:
                    break
                plan = replace(done, replicates=MAX_REPLICATES)  # as many as there is time for
            if not plan.kept(done):
                if not coarse:
                    self.report(0.0, self._price(plan, rtol))
                    plan = replace(plan, replicates=min(plan.replicates, REPLICATES))
                self.stage, levels = self.stage + 1, []

    def _replicates(self, plan: Plan, stage: int, done: int = 0) -> list[list[Level]]:
        """Replicates `done` to `plan.replicates`, each at every resolution. Their random numbers depend on seed, stage and
        number only, not on the order in which threads take them."""
        engine, scouts = self.engine, self._scouts(plan)
        nodes = engine.nodes(plan.cells)
        cells = engine.capacity(len(nodes) - 1)
        compiled, nodes_begun = Event(), count()

        def watch() -> None:
            self.watch()
            if next(nodes_begun):  # one cell has been crossed, by programs that are compiled now
                compiled.set()

        def group(indices: range) -> list[list[Level]]:
            seeds = [np.random.SeedSequence(self.seed, spawn_key=(stage, index)) for index in indices]
            drawn = [draw_all(engine, len(nodes) - 1, plan.paths, seed) for seed in seeds]
            looks: list[Callable[[Seen], None]] = [lambda seen: None for _ in COARSENINGS]
            if indices.start == done:  # once for every program that is compiled
                looks[0] = self._look(engine, drawn, nodes, stage)
            resolutions, first = [], 0.0
            for c, look in zip(COARSENINGS, looks, strict=True):
                began = time.process_time(), time.perf_counter()
                resolutions.append(run_levels(engine, drawn, nodes[::c], cells, watch, look, scouts))
                spent = time.process_time() - began[0], time.perf_counter() - began[1]
                if c == COARSENINGS[0]:
                    first = spent[1]
                if c == COARSENINGS[1]:  # compiled by the one before
                    at_once = min(len(groups), threads())  # groups that the process has computed for
                    self.pace = plan.paths * len(drawn), len(nodes) - 1, spent[0] / at_once, spent[1]
                    self.compiling = max(self.compiling, first - 2.0 * spent[1])
            return [list(levels) for levels in zip(*resolutions, strict=True)]

        work = group
        if self.checkpoint is not None:
            place = f"stage={stage}/cells={plan.cells}/paths={plan.paths}/horizon={self.horizon!r}"
            work = self.checkpoint.kept(group, place, len(COARSENINGS))

        def in_turn(indices: range) -> list[list[Level]]:
            """The first group goes ahead: threads that start together compile the same programs."""
            if indices.start != done:
                compiled.wait()
                return work(indices)
            try:
                return work(indices)
            finally:
                compiled.set()

        results = []
        size = int(np.clip(self.planner.room_for(cells) / plan.paths, 1, GROUP))
        groups = [range(a, min(a + size, plan.replicates)) for a in range(done, plan.replicates, size)]
        heavy = (
            self.problem.k * engine.path_bytes(cells) * plan.paths * plan.replicates * cells > HEAVY
        )  # by sizes, not clocks: same numbers
        with ThreadPoolExecutor(threads()) as pool, hurried(not heavy):
            here = [copy_context() for _ in groups]  # threads of the pool round sizes and compile as this one does
            try:
                for index, levels in enumerate(pool.map(lambda context, indices: context.run(in_turn, indices), here, groups)):
                    results += levels
                    self.report((index + 1) / len(groups) * 0.99, f"{plan.cells} cells, {plan.paths} paths")
            except OutOfTime:
                if done + len(results) < PILOT_REPLICATES:
                    raise
        return results

    def _scouts(self, plan: Plan) -> int:
        """How many of a replicate's samples go ahead of it."""
        dear = self.engine.path_seconds(plan.cells) * plan.paths > SCOUTED
        return plan.paths // self.engine.scouts if self.engine.scouts and dear else 0

    def _look(self, engine: Engine, drawn: list[Drawn], nodes: np.ndarray, stage: int) -> Callable[[Seen], None]:
        """Witness of a group's draws, and of a handful of its samples in a random cell that has a past."""
        rng = np.random.default_rng([self.seed, stage, 0x100C])
        replicate, node = int(rng.integers(len(drawn))), int(rng.integers(len(nodes) // 4, len(nodes) - 1))
        samples = drawn[replicate].samples.part(0, engine.pilot)  # the party that is shown
        self.witnesses.draws([one.samples for one in drawn], engine.jumps)

        def look(seen: Seen) -> None:
            if seen.node == node:
                pairs = again(self.problem, engine, samples, seen, replicate, rng)
                self.witnesses.handful(worst(pairs), float(nodes[node + 1]))

        return look


def _reached(levels: list[list[Level]]) -> float:
    """The last time that all replicates have."""
    return float(min(level.nodes[-1] for replicate in levels for level in replicate))
