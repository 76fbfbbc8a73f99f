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


def check_theory(problem: Problem, dynamics: Dynamics) -> None:
    """Refuse what can be simulated but not solved."""
    if isinstance(dynamics, (OnlineSGD, MiniBatchGD)) and isinstance(problem.penalty, SmoothPenalty):
        raise refuse("penalty", f"be a Ridge or None for the theory of {type(dynamics).__name__}", problem.penalty,
                     "its equations close for no other; simulate takes any")  # fmt: skip
    if dynamics.optimizer is not None and not getattr(dynamics.optimizer, "corrected", True):
        raise refuse("optimizer.corrected", "be True for the theory", False, "simulate takes steps that begin with a mean of zero")
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


def check(problem: Any, dynamics: Any, horizon: Any, rtol: Any, seed: Any, times: Any, method: Any, on_failure: Any) -> np.ndarray:
    """The output times, if all arguments of `solve` are right."""
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
