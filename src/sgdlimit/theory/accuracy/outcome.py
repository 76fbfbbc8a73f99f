"""From replicates to a `Solution`: what all engines of `solve` share about errors, scales, words and the dataset."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...errors import SolveError
from ...learning.dynamics import Dynamics
from ...learning.problem import Problem
from ...results import Solution, Status, build_dataset, derived, judge_growth, with_numbers

DIVERGED = 1e3  # a self-overlap beyond this multiple of its start's and the teacher's scale has diverged
MAX_REPLICATES = 128
SLOPE = 0.6  # the spread over replicates falls like paths^-SLOPE
WAIT = 1.0 / SLOPE  # so that much more often must they double


def scales(problem: Problem, curves: Mapping[str, np.ndarray]) -> dict[str, float]:
    """What `rtol` is relative to, see `derived.scales`."""
    return derived.scales(curves, float(np.diag(problem.rho).max()))


def largest_size(problem: Problem) -> float:
    """Trace of the self-overlap at which a training counts as diverged."""
    return DIVERGED * float(np.trace(problem.self_overlap_start) + np.trace(problem.rho))


def attributes(problem: Problem, dynamics: Dynamics, horizon: float, rtol: float, seed: int) -> dict[str, str | float | int]:
    """What a dataset says of how it came about."""
    return {
        "dynamics": repr(dynamics),
        "sample_ratio": problem.sample_ratio,
        "penalty": repr(problem.penalty),
        "horizon": float(horizon),
        "rtol": float(rtol),
        "seed": int(seed),
        **({} if problem.spectrum is None else {"spectrum": repr(problem.spectrum)}),
    }


@dataclass
class Replicated:
    """Curves of replicates without discretisation error, their mean, and what they took.

    Attributes:
        times: output times `(T,)`.
        curves, errors: means over replicates and their standard errors, time first.
        kernels: `correlation` and `response` `(T, T, k, k)`.
        effort: how much was spent, in numbers; part of the diagnostics and of the words when it was not enough.
        ended: time of divergence, if there is one.
        law: what draws paths from the limit's laws, see `laws`.
        faults: what witnesses found, in words.
    """

    times: np.ndarray
    curves: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]
    kernels: dict[str, np.ndarray]
    effort: dict[str, int]
    ended: float | None = None
    more: dict[str, Any] = field(default_factory=dict)
    law: Any = None
    faults: Sequence[str] = ()

    def tell(self, witnesses: Any) -> None:
        """What a solve's `witness.Witnesses` saw."""
        self.faults, self.more = witnesses.faults, self.more | {"witnesses": witnesses.words}

    def worst(self, problem: Problem) -> float:
        """Largest error relative to its curve's scale."""
        size = scales(problem, self.curves)
        return max(float(np.max(self.errors[name])) / size[name] for name in self.curves)


def more_points(points: int, error: float, rtol: float, most: int) -> int:
    """How many points a replicate needs for `rtol` when `points` gave `error`; a power of two times `points`."""
    doublings = np.ceil(np.log2(max(error / (0.7 * rtol), 1.0)) * WAIT)
    return int(min(points * 2.0**doublings, most))


def solution(
    found: Replicated, problem: Problem, dynamics: Dynamics, horizon: float, rtol: float, seed: int, method: str, began: tuple[float, float]
) -> Solution:
    """The Solution of replicates; `began` are wall and process seconds at the start."""
    error = found.worst(problem)
    diagnostics = {
        "method": method,
        **found.effort,
        "sampling_error": error,
        "error": error,
        "rtol": rtol,
        **found.more,
        "wall_seconds": time.perf_counter() - began[0],
        "cpu_seconds": time.process_time() - began[1],
    }
    attrs = attributes(problem, dynamics, horizon, rtol, seed)
    dataset = build_dataset(found.times, found.curves, found.errors, found.kernels, attrs, problem.rho)
    return Solution(dataset, _status(found, error, rtol), diagnostics, found.law)


def _status(found: Replicated, error: float, rtol: float) -> Status:
    if found.faults:
        return doubted(found.faults)
    if found.ended is not None:
        return diverged(found.ended, error, found.curves)
    if error > rtol:
        spent = " and ".join(f"{value} {name}" for name, value in found.effort.items())
        return Status(
            "inaccurate",
            f"rtol = {rtol:g} was not met: the largest error is {error:.2%} of its curve's scale, with {spent} (ask for a larger rtol)",
        )
    grown = judge_growth(found.times, found.curves["test_risk"])
    return grown or Status("done", f"done: the largest error is {error:.2%} of its curve's scale, rtol = {rtol:g} is met")


def doubted(faults: Sequence[str]) -> Status:
    """An answer on which witnesses disagree, in words."""
    return Status("inaccurate", f"a witness inside solve disagrees, and the answer is not vouched for: {faults[0]}")


def diverged(ended: float, error: float, curves: Collection[str] = ()) -> Status:
    """A training that blows up, in words."""
    passed = f"the self-overlap passed {DIVERGED:g} times its starting scale"
    return Status(
        "diverged",
        f"diverged at t = {ended:.4g}: {passed}{', or numbers trained along ran away' if 'trained' in curves else ''}; "
        "the curves up to there are kept, "
        f"with errors up to {error:.2%} of their scale (a smaller step or a penalty usually cures it)",
    )


def dominated(ended: float, error: float) -> Status:
    """A training whose averages stop to exist, in words."""
    return Status(
        "diverged",
        f"no curves beyond t = {ended:.4g}: from there on a few samples out of thousands make the averages, so that the limit's means are "
        f"infinite or training diverges; the curves up to there are kept, with errors up to {error:.2%} of their scale (a loss whose "
        "gradient is bounded or grows linearly, or a smaller step)",
    )


def with_still(found: Solution, problem: Problem) -> Solution:
    """The solution with the numbers of the problem that no rate moves, which nothing has computed."""
    if problem.trained is None or "trained" in found.dataset:
        return found
    return replace(found, dataset=with_numbers(found.dataset, problem.trained.start))


def keep_promise(found: Solution, on_failure: str) -> Solution:
    """Raise if the accuracy asked for was not reached and the caller wants to know it that way."""
    if found.status.code == "inaccurate" and on_failure == "raise":
        raise SolveError(f"{found.status} (on_failure='return' gives what there is)", found)
    return found
