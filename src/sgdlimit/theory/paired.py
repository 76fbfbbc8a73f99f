"""Solves of problems that differ in numbers alone, on one plan and common random numbers: their differences are smooth functions of these
numbers, and much better known than each of them. One plan also means one compiled program.

What `solve` plans for one problem (`plan_by_solve`) serves its neighbours; `first_plan` serves a whole range roughly.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..compiling import hurried
from ..errors import SolveError
from ..learning.dynamics import Dynamics, MiniBatchGD, OnlineSGD
from ..learning.problem import Problem
from ..learning.slopes import as_trained
from ..results import Solution
from .accuracy.estimates import Answer
from .accuracy.existence import check_start
from .accuracy.outcome import diverged, dominated
from .accuracy.plans import Plan
from .accuracy.search import Search
from .checks import check
from .samples.engines import choose, reshuffled
from .solve import solution_of, solve

ROUGH_CELLS = 32  # from which on what the march does not survive is taken to diverge, as in a search's pilots
MOST_ROUGH = 64
REPLICATES = (
    8  # at least, of a plan that serves many problems: all are judged by the spread of the same ones, and of few it may be small by luck
)
Setting = tuple[Problem, Dynamics, float]  # with its horizon


@dataclass(frozen=True)
class Common:
    """What all solves of a family share. `plan` is None where the equations are closed: then `rtol` alone decides.

    Attributes:
        stage: with `seed`, the random numbers.
        method: an engine's name.
    """

    plan: Plan | None
    stage: int
    rtol: float
    seed: int
    method: str


@dataclass(frozen=True)
class Paired:
    """One solve of a family.

    Attributes:
        times: output times `(T,)`.
        curves, errors: as in a dataset, time first; `discretisation` is a part of the errors.
        each: curves of every replicate `(S, T, ...)`; of closed equations None.
        coarser: curves of the next coarser resolution, for the discretisation's part of a difference.
        ended: where training diverges, as a part of the horizon; `words` says how. There are no curves then.
    """

    times: np.ndarray
    curves: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]
    discretisation: dict[str, np.ndarray]
    each: dict[str, np.ndarray] | None
    coarser: dict[str, np.ndarray] | None
    ended: float | None
    words: str
    cpu_seconds: float


def closed(dynamics: Dynamics) -> bool:
    """Whether the theory of a dynamics has equations of its own, without replicates to pair."""
    return isinstance(dynamics, (OnlineSGD, MiniBatchGD))


def one_method(settings: Sequence[Setting], method: str = "auto") -> str:
    """The engine that suits all: numbers of jumps may call for different ones, and paths can be had with any number of them."""
    stepped = [one for one in settings if not closed(one[1])]
    if method != "auto" or not stepped or reshuffled(stepped[0][1]):
        return method
    found = {choose(problem, dynamics, horizon, method)[0] for problem, dynamics, horizon in stepped}
    return found.pop() if len(found) == 1 else "paths"


def first_plan(settings: Sequence[Setting], rtol: float, seed: int, method: str) -> Common:
    """A rough plan, whose grid is fine enough for all of the `settings`."""
    if closed(settings[0][1]):
        return Common(None, 0, rtol, seed, method)
    planners = [_search(one, seed, method).planner for one in settings]
    pilots = [planner.pilot(rtol) for planner in planners]
    most = int(np.argmax([pilot.cells for pilot in pilots]))
    cells = min(max(pilots[most].cells, ROUGH_CELLS), MOST_ROUGH, planners[most].most_cells)
    plan = planners[most].enough(replace(pilots[most], cells=cells, replicates=max(pilots[most].replicates, REPLICATES)))
    return Common(planners[most].affordable(plan, plan.replicates), 0, rtol, seed, method)


def plan_by_solve(setting: Setting, rtol: float, seed: int, method: str) -> Common:
    """The plan that a solve ends with, and the random numbers it has then."""
    return planned(setting, rtol, seed, method)[0]


@hurried()
def planned(setting: Setting, rtol: float, seed: int, method: str) -> tuple[Common, Paired | None]:
    """The same, and the solve, as it is on that plan; none of closed equations, which need no plan, and where training diverges."""
    if closed(setting[1]):
        return Common(None, 0, rtol, seed, method), None
    began, search = time.process_time(), _search(setting, seed, method)
    answer: Answer = deque(search.estimates(rtol), maxlen=1).pop()
    whole = search.outputs[-1] >= setting[2] * (1.0 - 1e-9)
    found = _paired(search.outputs, answer, time.process_time() - began) if whole else None
    return Common(answer.plan, search.stage, rtol, seed, method), found


def enough(common: Common) -> Common:
    """With so many replicates that their spread can be trusted."""
    if common.plan is None or common.plan.replicates >= REPLICATES:
        return common
    return replace(common, plan=replace(common.plan, replicates=REPLICATES))


def _paired(outputs: np.ndarray, answer: Answer, seconds: float) -> Paired:
    parts = answer.curves, answer.errors, answer.discretisation, answer.each, answer.coarser
    return Paired(outputs, *parts, None, "", seconds)


@hurried()
def solve_on(common: Common, setting: Setting, watch: Callable[[], object] = lambda: None) -> Paired:
    """One solve of a family. A training that diverges has `words`, as has one whose averages do not exist."""
    began, (problem, dynamics, horizon) = time.process_time(), setting
    outputs = check(problem, dynamics, horizon, common.rtol, common.seed, None, common.method, "return")
    seconds = lambda: time.process_time() - began
    nothing = lambda share, words: Paired(outputs, {}, {}, {}, None, None, share, words, seconds())
    try:
        if common.plan is None:
            return _closed(common, setting, seconds)
        check_start(as_trained(problem, dynamics))
        search = _search(setting, common.seed, common.method, watch)
        answer = search.on(common.plan, common.stage)
        if answer is None:
            ended = float(search.ended or 0.0)
            return nothing(ended / horizon, str((dominated if search.unbounded else diverged)(ended, 0.0)).partition(":")[0])
        return _paired(outputs, answer, seconds())
    except SolveError as e:
        return nothing(0.0, str(e).partition(" (")[0])


def solution_on(common: Common, setting: Setting) -> Solution:
    """The solution that a solve of the family is; where it misses `rtol`, or a witness disagrees, that of a solve of its own.

    Raises:
        SolveError: that did not reach `rtol`, either.
    """
    problem, dynamics, horizon = setting
    if common.plan is not None:
        began = time.perf_counter(), time.process_time()
        search = _search(setting, common.seed, common.method)
        answer = search.on(common.plan, common.stage)
        if answer is not None:
            why = choose(problem, dynamics, horizon, common.method)[1]
            found = solution_of(search, answer, horizon, common.rtol, why, began)
            if found.status.code == "done":
                return found
    return solve(problem, dynamics, horizon, rtol=common.rtol, seed=common.seed, method=common.method)


def _closed(common: Common, setting: Setting, seconds: Callable[[], float]) -> Paired:
    problem, dynamics, horizon = setting
    found = solve(problem, dynamics, horizon, rtol=common.rtol, seed=common.seed, on_failure="return")
    ds = found.dataset
    times, ended = ds["time"].values, None
    if times[-1] < horizon * (1.0 - 1e-9):
        ended = float(times[-1]) / horizon
    names = ("self_overlap", "overlap", "train_risk", "test_risk")
    curves, errors = ({name: ds[name + ending].values for name in names} for ending in ("", "_se"))
    none = {name: np.zeros_like(error) for name, error in errors.items()}
    return Paired(times, curves, errors, none, None, None, ended, "" if ended is None else str(found.status).partition(":")[0], seconds())


def _search(setting: Setting, seed: int, method: str, watch: Callable[[], object] = lambda: None) -> Search:
    problem, dynamics, horizon = setting
    outputs = check(problem, dynamics, horizon, 0.5, seed, None, method, "return")
    engine = choose(problem, dynamics, float(horizon), method)[0]
    return Search(as_trained(problem, dynamics), dynamics, float(horizon), seed, outputs, engine, lambda *_: None, watch=watch)
