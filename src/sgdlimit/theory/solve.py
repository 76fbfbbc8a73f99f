"""`solve`: choose nodes, samples and replicates until the promised accuracy is met, or say that it is not.

Each replicate is an independent scrambling of the Sobol points, marched at three nested resolutions with common random
numbers. Two of them extrapolate the second-order error away, the third tells what is left of it; the spread over
replicates is the sampling error.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ..dynamics import SGD, SME, Dynamics, GradientFlow, MiniBatchGD, OnlineSGD, step_at
from ..errors import SolveError, nearest, refuse
from ..kinks import refuse_kinks
from ..problem import Problem, SmoothPenalty
from ..results import Solution, Status, build_dataset, judge_growth, output_times
from . import discrete, online
from .checkpoint import Checkpoint, identify
from .differences import WORDS
from .engines import ENGINES, Drawn, Engine, choose, draw_all, engine_of, reshuffled
from .laws import PathLaw
from .levels import Level, curves_at, kernels_at, mean_level, resolved, run_levels
from .outcome import MAX_REPLICATES, attributes, diverged, dominated, keep_promise, scales, spread, student
from .march import Seen
from .penalised import penalty_curvature, runs_away
from .recomputed import again, worst
from .reshuffle import epoch_ends
from .risk import TestRisk
from .shapes import patient, room, roomy
from .spectral import most_cells
from .witness import Witnesses

Progress = Callable[[float, str], None] | None

COARSENINGS = (1, 2, 4)  # resolutions of a replicate, as node spacings relative to the finest
EXTRAPOLATED_GAIN = 7.0  # error of an extrapolated curve against its change from the next coarser one: third order at least
# Anisotropic data have several scales at once: the gain is smaller, and differences of resolutions cross zero more often (NEARBY).
# No curve is taken to be better than this part of the worst one, for each feeds on the others.
ANISOTROPIC_GAIN, ANISOTROPIC_NEARBY, ANISOTROPIC_SHARED = 2.5, 0.3, 0.25
DISCRETISATION_SHARE = 0.4  # of the tolerance
MAX_CELLS = 512
LEAST_SHARED = 16  # cells of a first grid where shapes are few, see `shapes.few`
HURRIED = 4
LOOSE = 0.02  # rtol from which on half of the pilot's paths are enough
EDGE_CELLS = 64  # a first grid has at most so many for the fastest rate, whose part of the curves is soon over
FASTER = 4.0  # than isotropic data, at most, a first grid supposes anisotropic ones to be: few features move faster
MAX_PATHS = 2**15
REPLICATES = 8
UNSOUND = 1.0  # sampling error of a pilot, as a part of its curve's scale, from which on there is nothing to refine
CUTS = 8
NEARBY = 0.1  # fraction of the horizon
THREADS = 2  # SGDLIMIT_THREADS sets another number; results do not depend on it
GROUP = 4  # replicates marched together, where memory allows
PATHS_PER_CELL = 24  # with fewer, the noise's covariance over so many cells fluctuates too much to have a factor, see `noise`
MEMORY = 3 * 2**30  # bytes that all paths marched at a time may take


@dataclass(frozen=True)
class Plan:
    """How much to spend: cells of the finest resolution, paths per replicate (a power of two), replicates."""

    cells: int
    paths: int
    replicates: int


@dataclass
class Estimate:
    """Curves at the output times with their errors, the share of each error, and what they took."""

    plan: Plan
    curves: dict[str, np.ndarray]
    sampling: dict[str, np.ndarray]
    discretisation: dict[str, np.ndarray]
    scales: dict[str, float]
    levels: list[list[Level]]

    @property
    def errors(self) -> dict[str, np.ndarray]:
        return {name: np.hypot(self.sampling[name], self.discretisation[name]) for name in self.curves}

    def sound(self) -> bool:
        """Whether there is anything to be read off: averages are finite, and not all of them sampling error."""
        return bool(np.nan_to_num(self.worst(self.sampling), nan=np.inf) < UNSOUND)

    def sound_until(self, outputs: np.ndarray) -> float:
        """The last time `(T,)` up to which the sampling error is a part of what curves have been by then; between the output times, where
        that is before the second of them, as if errors grew in proportion."""
        share = np.zeros(len(outputs))
        for name, values in self.curves.items():
            size = np.maximum.accumulate(np.abs(values).reshape(len(outputs), -1).max(1))
            floor = np.abs(values[0]).max() if name != "overlap" else self.scales[name]
            error = self.sampling[name].reshape(len(outputs), -1).max(1) / np.maximum(np.nan_to_num(size, nan=np.inf), max(floor, 1e-12))
            share = np.maximum(share, np.nan_to_num(error, nan=np.inf))
        lost = int(np.argmax(share > UNSOUND / 4))
        if share[lost] <= UNSOUND / 4:
            return float(outputs[-1]) / 2
        return float(outputs[lost - 1]) if lost > 1 else float(outputs[1] * 0.5)

    def worst(self, part: dict[str, np.ndarray]) -> float:
        """Largest error relative to its curve's scale."""
        return max(float(np.max(part[name])) / self.scales[name] for name in self.curves)


def solve(
    problem: Problem,
    dynamics: Dynamics,
    horizon: float,
    rtol: float = 0.01,
    seed: int = 0,
    times: Any = None,
    method: str = "auto",
    on_failure: Literal["raise", "return"] = "raise",
    progress: Progress = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Solution:
    """Learning curves in the limit `n, d -> infinity` with `n/d` fixed (Fan and Wang, arXiv 2601.21093).

    Arguments:
        problem: what is learnt.
        dynamics: `SGD` with either sampling, `SME`, `GradientFlow`, `OnlineSGD` or `MiniBatchGD`.
        horizon: last time `t`; one SGD step of batch `b` advances `t` by `step * b / d`, an epoch by `step * n / d`.
        rtol: promised standard error, sampling and discretisation together, relative to each curve's scale (its largest
            absolute value over entries and times; for an overlap at least a tenth of what Cauchy-Schwarz allows).
        seed: the same seed gives the same numbers.
        times: output times in `[0, horizon]`; 41 equally spaced ones by default. `MiniBatchGD` shows the state after the nearest step.
        method: how samples are carried: "events" (SGD only, from jump to jump), "paths" (from node to node), or "auto", which
            chooses by cost; `diagnostics["method_why"]` says why. Reshuffled SGD goes by "events"; `OnlineSGD` and `MiniBatchGD` have
            one method each.
        on_failure: what to do when `rtol` cannot be met: "raise" a `SolveError` that carries the result, or "return" it.
        progress: called with (fraction done, what is being done).
        checkpoint: a file that keeps finished replicates, made if it does not exist. The same call continues from it after a kill
            and gives the same numbers bit for bit; it is kept at the end, so that one more call answers at once. Not for
            `OnlineSGD` and `MiniBatchGD`.

    Returns:
        Solution. A training that diverges is a result: its status says when, its curves end there.

    Raises:
        InputError: an argument is wrong, or the checkpoint belongs to another solve.
        SolveError: `rtol` was not met; `.result` is the Solution there is (None where the weights run away or training diverges at once).
    """
    began = time.perf_counter(), time.process_time()
    outputs = _check(problem, dynamics, horizon, rtol, seed, times, method, on_failure)
    if checkpoint is not None and isinstance(dynamics, (OnlineSGD, MiniBatchGD)):
        raise refuse("checkpoint", f"be None for {type(dynamics).__name__}", checkpoint, "its theory is not computed in parts to keep")
    report = progress or (lambda fraction, text: None)
    if isinstance(dynamics, (OnlineSGD, MiniBatchGD)):
        return keep_promise(_closed(problem, dynamics, horizon, rtol, seed, outputs, report), on_failure)
    engine, why = choose(problem, dynamics, float(horizon), method)
    store = None if checkpoint is None else Checkpoint(checkpoint, identify(problem, dynamics, horizon, rtol, seed, outputs, engine))
    run = _Run(problem, dynamics, float(horizon), int(seed), outputs, engine, report, store)
    estimate = deque(run.estimates(rtol), maxlen=1).pop()
    report(1.0, "done")
    return keep_promise(run.solution(estimate, horizon, rtol, why, began), on_failure)


def refinements(
    problem: Problem,
    dynamics: Dynamics,
    horizon: float,
    rtol: float = 0.01,
    seed: int = 0,
    times: Any = None,
    method: str = "auto",
    progress: Progress = None,
    watch: Callable[[], object] = lambda: None,
) -> Iterator[Solution]:
    """What `solve` knows as it goes on: its first, coarse answer, and each better one up to the last. Arguments and errors are those of
    `solve`; an answer less accurate than `rtol` has the status "inaccurate". `watch` is called often, from any thread: what it raises
    ends the solve (of `MiniBatchGD` before it has begun only)."""
    began = time.perf_counter(), time.process_time()
    outputs = _check(problem, dynamics, horizon, rtol, seed, times, method, "return")
    report = progress or (lambda fraction, text: None)
    watch()
    if isinstance(dynamics, OnlineSGD):
        yield from online.refinements(problem, dynamics, horizon, rtol, seed, outputs, report, watch)
        return
    if isinstance(dynamics, MiniBatchGD):
        yield discrete.solve(problem, dynamics, horizon, rtol, seed, outputs, report)
        return
    engine, why = choose(problem, dynamics, float(horizon), method)
    run = _Run(problem, dynamics, float(horizon), int(seed), outputs, engine, report, watch=watch)
    for estimate in run.estimates(rtol):
        yield run.solution(estimate, horizon, rtol, why, began)


def _closed(problem, dynamics, horizon, rtol, seed, outputs, report) -> Solution:
    """Of a dynamics whose theory has its own way to `rtol`."""
    module: Any = online if isinstance(dynamics, OnlineSGD) else discrete
    return module.solve(problem, dynamics, horizon, rtol, seed, outputs, report)


def check_theory(problem: Problem, dynamics: Dynamics) -> None:
    """Refuse what can be simulated but not solved."""
    if isinstance(dynamics, (OnlineSGD, MiniBatchGD)) and isinstance(problem.penalty, SmoothPenalty):
        raise refuse("penalty", f"be a Ridge or None for the theory of {type(dynamics).__name__}", problem.penalty,
                     "its equations close for no other; simulate takes any")  # fmt: skip
    if problem.kinks:
        refuse_kinks(problem, dynamics, (SME, GradientFlow))


def check_epochs(problem: Problem, dynamics: Dynamics, horizon: float) -> None:
    """Refuse more epochs of reshuffled data than can be followed: each takes some cells, and the work grows with their number cubed."""
    if not reshuffled(dynamics):
        return
    most = MAX_CELLS // COARSENINGS[-1]
    number = len(epoch_ends(problem, dynamics, horizon)) + 1
    if number > most:
        raise refuse("horizon", f"span at most {most} epochs of reshuffled data for the theory", horizon,
                     f"it spans {number}, as an epoch lasts step * sample_ratio; simulate takes any")  # fmt: skip


def _check(problem, dynamics, horizon, rtol, seed, times, method, on_failure) -> np.ndarray:
    if not isinstance(problem, Problem):
        raise refuse("problem", "be a sl.Problem", problem)
    if not isinstance(dynamics, Dynamics):
        raise refuse("dynamics", "be SGD, SME, GradientFlow, OnlineSGD or MiniBatchGD", dynamics, "for example sl.SGD(step=1.5)")
    check_theory(problem, dynamics)
    if not (isinstance(rtol, (int, float)) and 0 < rtol < 1):
        raise refuse("rtol", "lie in (0, 1)", rtol, "0.01 asks for errors below 1% of each curve's scale")
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
        raise refuse("seed", "be a whole number, zero or more", seed)
    methods = ("auto", *ENGINES)
    if method not in methods:
        raise refuse("method", "be " + " or ".join(map(repr, methods)), method, nearest(str(method), methods))
    if method == "events" and not isinstance(dynamics, SGD):
        raise refuse("method", "be 'auto' or 'paths' for a dynamics without jumps", method)
    if method == "paths" and reshuffled(dynamics):
        raise refuse("method", "be 'auto' or 'events' for a reshuffled SGD", method, "a path has few jumps, one in each epoch")
    if on_failure not in ("raise", "return"):
        raise refuse("on_failure", "be 'raise' or 'return'", on_failure, nearest(str(on_failure), ("raise", "return")))
    outputs = output_times(horizon, times)
    step_at(dynamics, outputs)  # a schedule must be positive all along
    check_epochs(problem, dynamics, float(horizon))
    return outputs


def _status(estimate: Estimate, rtol: float, run: _Run) -> Status:
    error, ended = estimate.worst(estimate.errors), run.ended
    if run.witnesses.faults:
        return Status("inaccurate", f"a witness inside solve disagrees, and the answer is not vouched for: {run.witnesses.faults[0]}")
    if ended is not None and run.unbounded:
        return dominated(ended, error)
    if ended is not None:
        return diverged(ended, error)
    if error > rtol:
        part = "discretisation" if estimate.worst(estimate.discretisation) > estimate.worst(estimate.sampling) else "sampling"
        return Status(
            "inaccurate",
            f"rtol = {rtol:g} was not met: the largest error is {error:.2%} of its curve's scale, mostly of {part}, with "
            f"{estimate.plan.cells} cells, {estimate.plan.paths} paths and {estimate.plan.replicates} replicates "
            "(ask for a larger rtol or a shorter horizon)",
        )
    grown = judge_growth(np.arange(len(estimate.curves["test_risk"])), estimate.curves["test_risk"])
    return grown or Status("done", f"done: the largest error is {error:.2%} of its curve's scale, rtol = {rtol:g} is met")


def _threads() -> int:
    """How many groups of replicates are marched at a time: a worker of many takes one, or they would wait for each other."""
    asked = os.environ.get("SGDLIMIT_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) > 0 else THREADS


class _Run:
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
    ):
        self.problem, self.dynamics, self.horizon, self.seed, self.outputs = problem, dynamics, horizon, seed, outputs
        self.method, self.report, self.checkpoint = method, report, checkpoint
        self.watch = watch
        self.ended: float | None = None  # when training diverges
        self.unbounded, self.cuts = False, 0  # whether it ends because averages stop to exist, and how often the horizon came nearer for it
        self.pilot_cells = 0
        self.test_risk = TestRisk(problem, seed)
        self.witnesses = Witnesses(problem, seed)
        self.gain, self.nearby = EXTRAPOLATED_GAIN, NEARBY
        if problem.anisotropic is not None:
            self.gain, self.nearby = ANISOTROPIC_GAIN, ANISOTROPIC_NEARBY
        self.most_cells = MAX_CELLS if problem.anisotropic is None else min(MAX_CELLS, most_cells(problem, MEMORY // (GROUP * THREADS)))

    @property
    def engine(self) -> Engine:
        """For the horizon as it stands."""
        return engine_of(self.method, self.problem, self.dynamics, self.horizon)

    # --- plans -----------------------------------------------------------------------------------------------------------

    def estimates(self, rtol: float) -> Iterator[Estimate]:
        """The pilot's, rough ones first, and if it does not keep the promise each better one until one does or the means are spent."""
        pilots = self.pilots(rtol)
        pilot = next(pilots)
        while True:
            self.pilot_cells = pilot.plan.cells
            yield pilot
            if (better := next(pilots, None)) is None:
                break
            pilot = better
        hopeless = self.unbounded or self.witnesses.faults  # more samples would only show greater ones, or be as wrong
        plan = pilot.plan if hopeless else self._plan(pilot, rtol)
        if plan != pilot.plan:
            yield from self.refine(pilot, plan, rtol)

    def _moved(self, first: Estimate, last: Estimate) -> None:
        """Widen errors where the answer moved from the first plan to this one by more than both promised."""
        joint = {name: np.hypot(error, first.errors[name]) for name, error in last.errors.items()}
        for name, size in self.witnesses.moved(first.curves, last.curves, joint, last.scales).items():
            np.maximum(last.discretisation[name], size, out=last.discretisation[name])

    def solution(self, estimate: Estimate, horizon: float, rtol: float, why: str, began: tuple[float, float]) -> Solution:
        """An estimate with its kernels and law, as `solve` hands it out."""
        problem, dynamics, levels = self.problem, self.dynamics, estimate.levels
        fine, middle = (mean_level([one[i] for one in levels]) for i in range(2))
        attrs = attributes(problem, dynamics, horizon, rtol, self.seed)
        return Solution(
            build_dataset(self.outputs, estimate.curves, estimate.errors, self._kernels(fine, middle), attrs, problem.rho),
            _status(estimate, rtol, self),
            {
                "method": self.method,
                "method_why": why,
                "cells": estimate.plan.cells,
                "paths": estimate.plan.paths,
                "replicates": estimate.plan.replicates,
                "sampling_error": estimate.worst(estimate.sampling),
                "discretisation_error": estimate.worst(estimate.discretisation),
                "error": estimate.worst(estimate.errors),
                "rtol": rtol,
                "pilot_cells": self.pilot_cells,
                "wall_seconds": time.perf_counter() - began[0],
                "cpu_seconds": time.process_time() - began[1],
            }
            | ({"kinks": WORDS} if problem.kinks else {})
            | {"witnesses": self.witnesses.words},
            PathLaw(problem, dynamics, fine, middle, self.engine.ends),
        )

    def pilots(self, rtol: float) -> Iterator[Estimate]:
        """Cheap first estimates, the last of them on enough cells for the others to be planned by it; they also find the time of
        divergence, if there is one."""
        paths = self.engine.pilot if rtol < LOOSE else self.engine.pilot // 2
        if not patient() and (self.problem.kinks or self.problem.k > 1):
            paths //= HURRIED  # where a first answer is waited for: all paths tell the response, or there is much of it
        plan = self._affordable(self._enough(Plan(self._first_cells(), paths, 4)), 4)
        while True:
            self.report(0.0, f"pilot with {plan.cells} cells")
            levels = self._replicates(plan, 0)
            reached = min(level.nodes[-1] for replicate in levels for level in replicate)
            if reached >= self.horizon:
                estimate = self._estimate(plan, levels)
                if not estimate.sound() and plan.cells >= 32:
                    self._cut(estimate)
                    continue
                yield estimate
                if estimate.worst(estimate.discretisation) < 0.25 or plan.cells >= self.most_cells or self.witnesses.faults:
                    return
                plan = self._affordable(self._enough(replace(plan, cells=2 * plan.cells)), 4)
            elif plan.cells < 32:
                plan = replace(plan, cells=2 * plan.cells)  # the cells may be too wide for the march
            elif runs_away(self.problem):
                raise SolveError("the weights run away at once, as the penalty pushes large ones outwards faster than linearly "
                                 "(let `penalty.fn` fall no faster than theta^2)")  # fmt: skip
            elif reached == 0.0:
                raise SolveError(f"training diverges at once, within t = {4 * self.horizon / plan.cells:.2g} (ask for a shorter horizon)")
            elif reached < 0.7 * self.horizon:
                self.horizon = 1.2 * reached
            else:
                self.ended = reached
                self.horizon = reached * (1.0 - 4.0 / plan.cells)
                kept = self.outputs[self.outputs <= self.horizon]
                self.outputs = kept if len(kept) > 1 else np.linspace(0.0, self.horizon, 11)

    def _cut(self, estimate: Estimate) -> None:
        """Go only as far as averages exist: from some time on a few samples out of thousands make all of them, and more only show greater
        ones, as with a gradient that grows faster than its argument, whose samples overshoot further at each visit."""
        until = estimate.sound_until(self.outputs)
        first = self.outputs[self.outputs > 0.0][0]
        if self.cuts == CUTS or until < first * 1e-3:
            raise SolveError(
                f"no curves can be told: already before t = {max(until, first):.2g} averages over {estimate.plan.paths} samples are made by a few "
                "of them, so that the limit's means are infinite or training diverges at once (a loss whose gradient is bounded or grows "
                "linearly, or a smaller step)"
            )
        self.cuts += 1
        self.horizon, self.ended, self.unbounded = until, until, True
        kept = self.outputs[self.outputs <= until]
        self.outputs = kept if len(kept) > 1 else np.linspace(0.0, until, 11)

    def refine(self, pilot: Estimate, plan: Plan, rtol: float) -> Iterator[Estimate]:
        """Spend what the pilot says it takes; then check, and spend more where it was not enough."""
        stage, levels = 0, pilot.levels
        if (plan.cells, plan.paths) != (pilot.plan.cells, pilot.plan.paths):
            stage, levels = 1, []
        while True:
            levels = levels + self._replicates(plan, stage, done=len(levels))
            estimate = self._estimate(plan, levels)
            self._moved(pilot, estimate)
            yield estimate
            if estimate.worst(estimate.errors) <= rtol or self.witnesses.doubt:
                break
            if estimate.worst(estimate.discretisation) > 0.7 * rtol:
                if plan.cells >= self.most_cells:
                    break
                wider = self._enough(replace(plan, cells=self._wider(plan.cells, 1.4)))
                plan, stage, levels = self._affordable(wider, MAX_REPLICATES), stage + 1, []
            elif plan.replicates < MAX_REPLICATES:
                plan = replace(plan, replicates=2 * plan.replicates)
            else:
                break

    def _first_cells(self) -> int:
        """Cells of at most a relaxation time at the start, where rates are the curvature of the loss times the eigenvalues of the samples'
        covariance."""
        spectrum = self.problem.anisotropic
        faster = 1.0 if spectrum is None else min(spectrum.roughness, FASTER)  # the mean rate of a pre-activation
        if spectrum is not None and isinstance(self.problem.penalty, SmoothPenalty):  # particles are stepped without exponentials
            faster = float(spectrum.eigenvalues.max())
        mean, penalty = self.test_risk.curvature() * faster, penalty_curvature(self.problem)
        few = self.horizon * (mean + penalty) < 2 and not self.problem.kinks  # whose curvature the second derivative does not tell
        edge = 1.0 if spectrum is not None else (1.0 + self.problem.sample_ratio**-0.5) ** 2  # of Marchenko and Pastur's law
        relaxations = max(self.horizon * (mean + penalty), min(self.horizon * (mean * edge + penalty), EDGE_CELLS))
        return room(int(np.clip(4 * roomy(math.ceil(0.25 * relaxations), 4), 8 if few else 12, self.most_cells)), LEAST_SHARED)

    def _plan(self, pilot: Estimate, rtol: float) -> Plan:
        """Cells from the extrapolation's order, paths from the spread over replicates, which falls like paths^-0.6."""
        if pilot.worst(pilot.errors) <= rtol:
            return pilot.plan
        excess = pilot.worst(pilot.discretisation) / (DISCRETISATION_SHARE * rtol)
        cells = pilot.plan.cells if excess <= 1 else self._wider(pilot.plan.cells, excess ** (1 / 3.5))
        spread = pilot.worst(pilot.sampling) / student(pilot.plan.replicates) * np.sqrt(pilot.plan.replicates / REPLICATES)
        short = spread * student(REPLICATES) / (0.7 * rtol)
        if not patient() and spread * student(MAX_REPLICATES) * np.sqrt(REPLICATES / MAX_REPLICATES) <= 0.7 * rtol:
            return self._affordable(self._enough(Plan(cells, pilot.plan.paths, REPLICATES)), MAX_REPLICATES)  # then doubled
        paths = pilot.plan.paths * 2.0 ** np.ceil(np.log2(max(short, 1.0)) / 0.6)
        more = 2 * pilot.plan.replicates  # more of the pilot's kind are cheaper than better ones from the start
        if cells == pilot.plan.cells and spread * student(more) * np.sqrt(REPLICATES / more) <= 0.7 * rtol:
            return replace(pilot.plan, replicates=more)
        plan = self._affordable(self._enough(Plan(cells, int(min(paths, MAX_PATHS)), REPLICATES)), MAX_REPLICATES)
        same = (plan.cells, plan.paths) == (pilot.plan.cells, pilot.plan.paths)
        return replace(plan, replicates=min(more, plan.replicates)) if same else plan  # then doubled: four tell the spread badly

    def _enough(self, plan: Plan) -> Plan:
        """The plan with enough paths for its cells."""
        if self.engine.natural or self.method == "events":
            return plan
        return replace(plan, paths=max(plan.paths, 2 ** math.ceil(math.log2(PATHS_PER_CELL * plan.cells))))

    def _affordable(self, plan: Plan, replicates: int) -> Plan:
        """The plan within `MEMORY`: fewer paths each, and for that more replicates, up to so many; with as many cells as a grid has."""
        plan = replace(plan, cells=len(self.engine.nodes(plan.cells)) - 1)
        most = 2 ** int(np.log2(max(self._room(plan.cells), 64)))
        if plan.paths <= most:
            return plan
        return replace(plan, paths=most, replicates=min(plan.replicates * plan.paths // most, replicates))

    def _room(self, cells: int) -> float:
        """How many paths may be marched in one group."""
        return MEMORY / (self.engine.path_bytes(cells) * THREADS)

    def _wider(self, cells: int, factor: float) -> int:
        """More cells, a multiple of four: they are halved twice."""
        return min(4 * roomy(math.ceil(cells * factor / 4), 4), self.most_cells)

    # --- replicates --------------------------------------------------------------------------------------------------------

    def _replicates(self, plan: Plan, stage: int, done: int = 0) -> list[list[Level]]:
        """Replicates `done` to `plan.replicates`, each at every resolution. Their random numbers depend on seed, stage and
        number only, not on the order in which threads take them."""
        engine = self.engine
        nodes = engine.nodes(plan.cells)
        cells = engine.capacity(len(nodes) - 1)

        def group(indices: range) -> list[list[Level]]:
            seeds = [np.random.SeedSequence(self.seed, spawn_key=(stage, index)) for index in indices]
            drawn = [draw_all(engine, cells, plan.paths, seed) for seed in seeds]
            looks = [lambda seen: None for _ in COARSENINGS]
            if indices.start == done:  # once for every program that is compiled
                looks[0] = self._look(engine, drawn, nodes, stage)
            resolutions = [
                run_levels(engine, drawn, nodes[::c], cells, self.watch, look) for c, look in zip(COARSENINGS, looks, strict=True)
            ]
            return [list(levels) for levels in zip(*resolutions, strict=True)]

        work = group
        if self.checkpoint is not None:
            place = f"stage={stage}/cells={plan.cells}/paths={plan.paths}/horizon={self.horizon!r}"
            work = self.checkpoint.kept(group, place, len(COARSENINGS))
        results = []
        size = int(np.clip(self._room(cells) / plan.paths, 1, GROUP))
        groups = [range(a, min(a + size, plan.replicates)) for a in range(done, plan.replicates, size)]
        with ThreadPoolExecutor(_threads()) as pool:
            for index, levels in enumerate(pool.map(work, groups)):
                results += levels
                self.report((index + 1) / len(groups) * 0.99, f"{plan.cells} cells, {plan.paths} paths")
        return results

    def _look(self, engine: Engine, drawn: list[Drawn], nodes: np.ndarray, stage: int) -> Callable[[Seen], None]:
        """Witness of a group's draws, and of a handful of its samples in a random cell that has a past."""
        rng = np.random.default_rng([self.seed, stage, 0x100C])
        replicate, node = int(rng.integers(len(drawn))), int(rng.integers(len(nodes) // 4, len(nodes) - 1))
        samples = drawn[replicate].samples
        self.witnesses.draws([one.samples for one in drawn], engine.jumps)

        def look(seen: Seen) -> None:
            if seen.node == node:
                pairs = again(self.problem, engine, samples, seen, replicate, rng)
                self.witnesses.handful(worst(pairs), float(nodes[node + 1]))

        return look

    # --- estimates -----------------------------------------------------------------------------------------------------------

    @np.errstate(all="ignore")  # what is not finite is told in words
    def _estimate(self, plan: Plan, replicates: list[list[Level]]) -> Estimate:
        """Mean over replicates, with the error's two parts."""
        each = [resolved(curves_at, levels, self.outputs, self.engine.ends) for levels in replicates]
        fine, middle, coarse = zip(*each, strict=True)
        stack = lambda curves, name: np.array([c[name] for c in curves])
        extrapolated, previous, gained = {}, {}, {}
        for name in fine[0]:
            f, m, c = stack(fine, name), stack(middle, name), stack(coarse, name)
            extrapolated[name] = f + (f - m) / 3.0
            previous[name] = m + (m - c) / 3.0
            gained[name] = np.abs((f - m).mean(0)) / 3.0
        curves, sampling, discretisation = {}, {}, {}
        for name, values in extrapolated.items():
            curves[name] = values.mean(0)
            sampling[name] = spread(values)
            # The coarsest grid may be too coarse to tell; what the extrapolation gained then bounds what it missed.
            change = np.abs(curves[name] - previous[name].mean(0)) / self.gain
            discretisation[name] = self._envelope(np.minimum(change, gained[name]))
        self._overlaps_agree(replicates, scales(self.problem, curves)["self_overlap"], discretisation["self_overlap"])
        self._test_risk(extrapolated, previous, curves, sampling, discretisation)
        self.witnesses.start(np.array([one[0].begun for one in replicates]))
        if self.outputs[0] == 0.0:  # the overlaps are given, and a training sample is a fresh one
            for part in (sampling, discretisation):
                part["self_overlap"][0] = part["overlap"][0] = 0.0
            for part in (curves, sampling, discretisation):
                part["train_risk"][0] = part["test_risk"][0]
        estimate = Estimate(plan, curves, sampling, discretisation, scales(self.problem, curves), replicates)
        if self.problem.anisotropic is not None:
            floor = ANISOTROPIC_SHARED * estimate.worst(discretisation) * (self.outputs > 0.0)
            for name, error in discretisation.items():
                np.maximum(error, estimate.scales[name] * floor.reshape(-1, *[1] * (error.ndim - 1)), out=error)
        return estimate

    def _overlaps_agree(self, replicates: list[list[Level]], scale: float, discretisation: np.ndarray) -> None:
        """Widen the self-overlap's error where its two estimates differ by more than theirs."""
        fine, middle, coarse = (np.array([one[i].gap for one in replicates]) for i in range(3))
        n = min(fine.shape[1] // 4, middle.shape[1] // 2, coarse.shape[1] - 1) + 1
        if not fine.any() or n < 2:
            return
        trace = lambda gaps: np.trace(gaps, axis1=2, axis2=3)
        f, m, c = trace(fine[:, ::4][:, :n]), trace(middle[:, ::2][:, :n]), trace(coarse[:, :n])
        gaps, before = f + (f - m) / 3.0, m + (m - c) / 3.0
        bias = np.maximum(np.abs((gaps - before).mean(0)), np.abs((f - m).mean(0)) / 3.0)
        nodes = replicates[0][2].nodes[:n]
        beyond = self.witnesses.overlaps(gaps, bias, scale * self.problem.k)
        at = np.interp(self.outputs, nodes, np.maximum.accumulate(beyond)) / self.problem.k
        np.maximum(discretisation, at[:, None, None], out=discretisation)

    def _test_risk(self, extrapolated, previous, curves, sampling, discretisation) -> None:
        """The test risk is a function of the overlaps, evaluated well at their mean and cheaply at each replicate's."""
        mean, own = self.test_risk(curves["self_overlap"], curves["overlap"])
        shift = self.test_risk.shift(curves["self_overlap"], curves["overlap"])
        each = np.array([shift(q, m) for q, m in zip(extrapolated["self_overlap"], extrapolated["overlap"], strict=True)])
        curves["test_risk"] = mean + each.mean(0)
        sampling["test_risk"] = np.hypot(spread(each), own)
        before = shift(previous["self_overlap"].mean(0), previous["overlap"].mean(0))
        discretisation["test_risk"] = self._envelope(np.abs(before) / self.gain)

    def _envelope(self, error: np.ndarray) -> np.ndarray:
        """The largest error `(T, ...)` nearby in time: differences of two resolutions cross zero where their errors do not."""
        near = np.abs(self.outputs[:, None] - self.outputs) <= self.nearby * self.horizon
        return np.array([error[row].max(0) for row in near]) * (self.outputs > 0.0).reshape(-1, *[1] * (error.ndim - 1))

    def _kernels(self, fine: Level, middle: Level) -> dict[str, np.ndarray]:
        """Two-time kernels at the output times, extrapolated like the curves."""
        one, other = resolved(kernels_at, (fine, middle), self.outputs, self.engine.ends)
        return {name: one[name] + (one[name] - other[name]) / 3.0 for name in one}
