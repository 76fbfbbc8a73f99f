"""`solve`: check, choose how samples are carried, search for the accuracy promised, report."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Literal

from ..compiling import hurried
from ..errors import refuse
from ..learning.dynamics import Dynamics, MiniBatchGD, OnlineSGD
from ..learning.problem import Problem
from ..learning.slopes import as_trained, still
from ..results import Solution, build_dataset
from . import by_runs
from .accuracy.budget import Budget
from .accuracy.checkpoint import Checkpoint, identify
from .accuracy.estimates import Answer, status
from .accuracy.existence import check_start
from .accuracy.levels import mean_level
from .accuracy.outcome import attributes, keep_promise, with_still
from .accuracy.search import Search
from .checks import check, too_many_epochs
from .closed import discrete, online
from .laws.paths import PathLaw
from .samples.differences import WORDS
from .samples.engines import choose

Progress = Callable[[float, str], None] | None


@hurried()
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
    budget: float | None = None,
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
        method: how samples are carried: "events" (SGD only, from jump to jump), "paths" (from node to node), "runs" (real runs of two
            sizes, extrapolated in `1/d`: no kernels, see `by_runs`), "kernels", which chooses between the first two, or "auto", which
            chooses by cost; `diagnostics["method_why"]` says why. Reshuffled SGD goes by "events", from 129 epochs on by "runs";
            `OnlineSGD` and `MiniBatchGD` have one method each.
        on_failure: what to do when `rtol` cannot be met: "raise" a `SolveError` that carries the result, or "return" it.
        progress: called with (fraction done, what is being done).
        checkpoint: a file that keeps finished replicates, made if it does not exist. The same call continues from it after a kill
            and gives the same numbers bit for bit; it is kept at the end, so that one more call answers at once. Not for
            `OnlineSGD` and `MiniBatchGD`.
        budget: seconds that it may take on the clock, compilation included. Where `rtol` takes longer the result is the best answer there
            is by then, with the errors it has and the status "inaccurate", and nothing is raised. Not for `MiniBatchGD`.

    Returns:
        Solution. A training that diverges is a result: its status says when, its curves end there.

    Raises:
        InputError: an argument is wrong, or the checkpoint belongs to another solve.
        SolveError: `rtol` was not met, or a witness disagrees (see `accuracy.witness`); `.result` is the Solution there is. It is None
            where there is none: a mean of the limit is infinite, the weights run away, or training diverges at once.
    """
    began = time.perf_counter(), time.process_time()
    limits = Budget(budget)
    outputs = check(problem, dynamics, horizon, rtol, seed, times, method, on_failure, by_runs=True)
    given, problem = problem, as_trained(still(problem), dynamics)
    check_start(problem)
    if checkpoint is not None and isinstance(dynamics, (OnlineSGD, MiniBatchGD)):
        raise refuse("checkpoint", f"be None for {type(dynamics).__name__}", checkpoint, "its theory is not computed in parts to keep")
    if budget is not None and isinstance(dynamics, MiniBatchGD):
        raise refuse("budget", "be None for MiniBatchGD", budget, "its theory takes all steps in one piece; a larger rtol takes less")
    report = progress or (lambda fraction, text: None)
    on_failure = on_failure if budget is None else "return"
    if isinstance(dynamics, OnlineSGD):
        every = online.refinements(problem, dynamics, horizon, rtol, seed, outputs, report, limits.watch)
        found = deque(limits.in_time(every), maxlen=1).pop()
    elif isinstance(dynamics, MiniBatchGD):
        found = discrete.solve(problem, dynamics, horizon, rtol, seed, outputs, report)
    else:
        runs = by_runs.Runs(given, dynamics, horizon, rtol, seed, outputs, report, limits)
        found = _by_runs(runs, method, checkpoint, began) or _searched(runs, problem, method, checkpoint, began)
        report(1.0, "done")
    return keep_promise(with_still(found, given), on_failure)


def _by_runs(runs: by_runs.Runs, method: str, checkpoint: Any, began: tuple[float, float]) -> Solution | None:
    """The limit from real runs, where they are asked for or the only way; else None."""
    epochs = too_many_epochs(runs.problem, runs.dynamics, runs.horizon)
    if method != by_runs.NAME and not epochs:
        return None
    if checkpoint is not None:
        raise refuse("checkpoint", "be None for real runs", checkpoint, "they are not computed in parts to keep")
    why = "asked for" if method == by_runs.NAME else f"{epochs} epochs of reshuffled data are too many to follow"
    return by_runs.solve(runs, why, began)


def _searched(runs: by_runs.Runs, problem: Problem, method: str, checkpoint: Any, began: tuple[float, float]) -> Solution:
    """The limit from kernels, or from `runs` if these may replace them and do."""
    dynamics, horizon, rtol, seed, outputs = runs.dynamics, runs.horizon, runs.rtol, runs.seed, runs.outputs
    engine, why = choose(problem, dynamics, horizon, method)
    store = None if checkpoint is None else Checkpoint(checkpoint, identify(problem, dynamics, horizon, rtol, seed, outputs, engine))
    rival = runs if method == "auto" else None
    search = Search(problem, dynamics, horizon, seed, outputs, engine, runs.report, store, budget=runs.budget, rival=rival)
    found = solution_of(search, deque(search.estimates(rtol), maxlen=1).pop(), horizon, rtol, why, began)
    if search.lost:
        return by_runs.solve(runs, by_runs.LOST, began)
    return by_runs.better(runs, found, began) if search.beaten else found


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
    outputs = check(problem, dynamics, horizon, rtol, seed, times, method, "return")
    given, problem = problem, as_trained(still(problem), dynamics)
    check_start(problem)
    report = progress or (lambda fraction, text: None)
    watch()
    if isinstance(dynamics, OnlineSGD):
        for found in online.refinements(problem, dynamics, horizon, rtol, seed, outputs, report, watch):
            yield with_still(found, given)
        return
    if isinstance(dynamics, MiniBatchGD):
        yield with_still(discrete.solve(problem, dynamics, horizon, rtol, seed, outputs, report), given)
        return
    engine, why = choose(problem, dynamics, float(horizon), method)
    search = Search(problem, dynamics, float(horizon), int(seed), outputs, engine, report, watch=watch)
    for estimate in search.estimates(rtol):
        yield with_still(solution_of(search, estimate, horizon, rtol, why, began), given)


def solution_of(search: Search, estimate: Answer, horizon: float, rtol: float, why: str, began: tuple[float, float]) -> Solution:
    """An estimate with its kernels and law, as `solve` hands it out."""
    problem, dynamics, levels = search.problem, search.dynamics, estimate.levels
    fine, middle, coarse = (mean_level([one[i] for one in levels]) for i in range(3))
    attrs = attributes(problem, dynamics, horizon, rtol, search.seed)
    return Solution(
        build_dataset(
            search.outputs,
            estimate.curves,
            estimate.errors,
            search.estimator.kernels(fine, middle, dynamics),
            attrs,
            problem.rho,
        ),
        status(estimate, rtol, search.ended, search.unbounded, search.witnesses.faults, search.budget),
        {
            "method": search.method,
            "method_why": why,
            "cells": estimate.plan.cells,
            "paths": estimate.plan.paths,
            "replicates": estimate.plan.replicates,
            "sampling_error": estimate.worst(estimate.sampling),
            "discretisation_error": estimate.worst(estimate.discretisation),
            "error": estimate.worst(estimate.errors),
            "rtol": rtol,
            "pilot_cells": search.pilot_cells,
            "wall_seconds": time.perf_counter() - began[0],
            "cpu_seconds": time.process_time() - began[1],
        }
        | ({"kinks": WORDS} if problem.kinks else {})
        | {"witnesses": search.witnesses.words},
        PathLaw(problem, dynamics, fine, middle, search.engine.ends, coarse),
    )
