"""The test risk of a real run from its own samples, each left out in turn (OPTIMISERS section 7): `OneRun` beside every repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..errors import refuse
from ..learning.dynamics import SGD, Dynamics, MiniBatchGD
from ..learning.problem import Problem
from ..learning.weights import SmoothPenalty
from ..one_run import LeftOutRisk, OneRun
from ..one_run.record import Step
from .data import Data
from .optimisers import has_memory, kept_after

Told = Callable[[np.ndarray, np.ndarray, float], None]  # rows of a batch, their predictions before the step, its size


def check_left_out(problem: Problem, dynamics: Dynamics, left_out: Any, average: Any, optimizer: Any) -> None:
    """Refuse runs whose samples cannot be left out."""
    if not isinstance(left_out, bool):
        raise refuse("left_out", "be True or False", left_out)
    if not left_out:
        return
    if not isinstance(dynamics, SGD | MiniBatchGD):
        raise refuse("dynamics", "be SGD or MiniBatchGD for left_out", dynamics, "it follows the batches of a training")
    if getattr(dynamics.optimizer, "gains", False) or optimizer is not None:
        fix = "the gain of the others depends on the gradients of all samples"
        raise refuse("optimizer", "be None or sl.Momentum for left_out", dynamics.optimizer if optimizer is None else optimizer, fix)
    if getattr(dynamics.optimizer, "nesterov", False):
        raise refuse("optimizer.nesterov", "be False for left_out", True, "Momentum without it has the same limit for small batches")
    if isinstance(problem.penalty, SmoothPenalty):
        raise refuse("penalty", "be a Ridge or None for left_out", problem.penalty, "its curvature is that of the weights, not of samples")
    if problem.trained is not None:
        raise refuse("trained", "be None for left_out", problem.trained, "what a sample does to these numbers is not followed")
    if average is not None:
        raise refuse("average", "be None for left_out", average, "it is for the weights of the moment")


class LeftOut:
    """What one repeat says of its own test risk."""

    def __init__(self, problem: Problem, dynamics: Dynamics, data: Data, seed: int):
        self.rows, self.dynamics, self.shape = np.asarray(data.rows), dynamics, data.start.shape
        self.d = self.shape[1]
        self.run = OneRun(self.rows, data.labels, problem.slopes, 1.0, weight_decay=problem.ridge / self.d, seed=seed)
        self.memory = float(dynamics.optimizer.memory) if dynamics.optimizer is not None and has_memory(dynamics) else 0.0
        self.found: dict[int, LeftOutRisk] = {}

    def told(self, indices: np.ndarray, predictions: np.ndarray, eta: float) -> None:
        """A step by `eta` times the sum over the batch; a velocity forgets over `memory`."""
        rate = eta * len(indices)
        momentum = float(kept_after(rate / self.d, self.memory)) if self.memory else 0.0
        self.run.record_step(indices, predictions, Step(rate, momentum, 1.0 - momentum))

    def watch(self, states: Iterator[tuple[float, np.ndarray, list[int]]]) -> Iterator[tuple[float, np.ndarray, list[int]]]:
        """The states of a path as they are, with an estimate at every output time."""
        for t, state, outputs in states:
            theta = state[0].reshape(self.shape).astype(np.float32)
            if outputs and np.isfinite(theta).all():
                estimate = self.run.estimate(self.rows @ theta.T)
                self.found |= dict.fromkeys(outputs, estimate)
            yield t, state, outputs

    def curves(self, times: int) -> np.ndarray:
        """Risk and standard error `(time, 2)` at the first output times."""
        return np.array([(self.found[i].risk, self.found[i].standard_error) for i in range(times)]).reshape(-1, 2)


def summary(each: list[LeftOut], times: int) -> str:
    """In words, at how many output times of how many runs something speaks against the estimate, and what."""
    found = [one.found[i] for one in each for i in range(times)]
    doubtful = [one for one in found if not one.trusted]
    if not doubtful:
        return "nothing speaks against the left-out risk"
    return f"do not trust the left-out risk at {len(doubtful)} of {len(found)} output times: {'; '.join(doubtful[-1].warnings)}"
