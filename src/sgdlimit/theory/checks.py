"""What `solve` refuses, in a sentence, before anything is computed."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import nearest, refuse
from ..learning.dynamics import SGD, SME, Dynamics, GradientFlow, MiniBatchGD, OnlineSGD, step_at
from ..learning.kinks import refuse_kinks
from ..learning.problem import Problem
from ..learning.weights import SmoothPenalty
from ..results import output_times
from .accuracy.plans import COARSENINGS, MAX_CELLS
from .samples.engines import ENGINES, reshuffled
from .samples.reshuffle import epoch_ends

MOST_EPOCHS = MAX_CELLS // COARSENINGS[-1]  # of reshuffled data, that are followed


def check_theory(problem: Problem, dynamics: Dynamics) -> None:
    """Refuse what can be simulated but not solved."""
    if isinstance(dynamics, (OnlineSGD, MiniBatchGD)) and isinstance(problem.penalty, SmoothPenalty):
        raise refuse("penalty", f"be a Ridge or None for the theory of {type(dynamics).__name__}", problem.penalty,
                     "its equations close for no other; simulate takes any")  # fmt: skip
    if dynamics.optimizer is not None and not getattr(dynamics.optimizer, "corrected", True):
        raise refuse("optimizer.corrected", "be True for the theory", False, "simulate takes steps that begin with a mean of zero")
    if problem.kinks:
        refuse_kinks(problem, dynamics, (SME, GradientFlow))


def too_many_epochs(problem: Problem, dynamics: Dynamics, horizon: float) -> int:
    """How many epochs of reshuffled data there are, if more than can be followed (each takes some cells, and the work grows with their
    number cubed), or zero."""
    number = len(epoch_ends(problem, dynamics, horizon)) + 1 if reshuffled(dynamics) else 0
    return number if number > MOST_EPOCHS else 0


def check_epochs(problem: Problem, dynamics: Dynamics, horizon: float) -> None:
    """Refuse more epochs of reshuffled data than can be followed."""
    if number := too_many_epochs(problem, dynamics, horizon):
        raise refuse("horizon", f"span at most {MOST_EPOCHS} epochs of reshuffled data here", horizon,
                     f"it spans {number}, as an epoch lasts step * sample_ratio; solve takes any, by real runs")  # fmt: skip


def check(
    problem: Any, dynamics: Any, horizon: Any, rtol: Any, seed: Any, times: Any, method: Any, on_failure: Any, by_runs: bool = False
) -> np.ndarray:
    """The output times, if all arguments of `solve` are right, or those of what cannot go `by_runs`."""
    if not isinstance(problem, Problem):
        raise refuse("problem", "be a sl.Problem", problem)
    if not isinstance(dynamics, Dynamics):
        raise refuse("dynamics", "be SGD, SME, GradientFlow, OnlineSGD or MiniBatchGD", dynamics, "for example sl.SGD(step=1.5)")
    check_theory(problem, dynamics)
    if not (isinstance(rtol, (int, float)) and 0 < rtol < 1):
        raise refuse("rtol", "lie in (0, 1)", rtol, "0.01 asks for errors below 1% of each curve's scale")
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
        raise refuse("seed", "be a whole number, zero or more", seed)
    methods = ("auto", *ENGINES, *(["kernels", "runs"] if by_runs else []))
    if method not in methods:
        raise refuse("method", "be " + " or ".join(map(repr, methods)), method, nearest(str(method), methods))
    if method == "events" and not isinstance(dynamics, SGD):
        raise refuse("method", "be 'auto' or 'paths' for a dynamics without jumps", method)
    if method == "runs" and isinstance(dynamics, (OnlineSGD, MiniBatchGD)):
        raise refuse("method", f"be 'auto' for {type(dynamics).__name__}", method, "its equations are closed, or go from step to step")
    if method == "paths" and reshuffled(dynamics):
        raise refuse("method", "be 'auto' or 'events' for a reshuffled SGD", method, "a path has few jumps, one in each epoch")
    if on_failure not in ("raise", "return"):
        raise refuse("on_failure", "be 'raise' or 'return'", on_failure, nearest(str(on_failure), ("raise", "return")))
    outputs = output_times(horizon, times)
    step_at(dynamics, outputs)  # a schedule must be positive all along
    if not by_runs or method in ("events", "kernels"):
        check_epochs(problem, dynamics, float(horizon))
    return outputs
