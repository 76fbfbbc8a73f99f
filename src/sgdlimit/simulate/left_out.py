"""The test risk of a real run from its own samples, each left out in turn (OPTIMISERS section 7): `OneRun` beside every repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..errors import refuse
from ..learning.adam import Adam
from ..learning.dynamics import SGD, Dynamics, MiniBatchGD
from ..learning.problem import Problem
from ..learning.trained import Labelled
from ..learning.weights import SmoothPenalty
from ..one_run import LeftOutRisk, OneRun
from ..one_run.record import Scale, Step
from .along import parted
from .data import Data
from .optimisers import has_memory, kept_after

# Rows of a batch, their predictions before the step, its size, and what is trained along as it is then.
Told = Callable[[np.ndarray, np.ndarray, float, np.ndarray | None], None]


def check_left_out(problem: Problem, dynamics: Dynamics, left_out: Any, average: Any, optimizer: Any) -> None:
    """Refuse runs whose samples cannot be left out."""
    if not isinstance(left_out, bool):
        raise refuse("left_out", "be True or False", left_out)
    if not left_out:
        return
    if not isinstance(dynamics, SGD | MiniBatchGD):
        raise refuse("dynamics", "be SGD or MiniBatchGD for left_out", dynamics, "it follows the batches of a training")
    if optimizer is not None:
        raise refuse("optimizer", "be None for left_out", optimizer, "sl.Momentum and sl.Adam go into the dynamics, and are followed")
    if getattr(dynamics.optimizer, "gains", False) and dynamics.temperature:
        raise refuse("temperature", "be zero for left_out with Adam", dynamics.temperature, "its gain measures a noise that is not seen")
    if getattr(dynamics.optimizer, "nesterov", False):
        raise refuse("optimizer.nesterov", "be False for left_out", True, "Momentum without it has the same limit for small batches")
    if isinstance(problem.penalty, SmoothPenalty):
        raise refuse("penalty", "be a Ridge or None for left_out", problem.penalty, "its curvature is that of the weights, not of samples")
    if average is not None:
        raise refuse("average", "be None for left_out", average, "it is for the weights of the moment")


class LeftOut:
    """What one repeat says of its own test risk.

    Numbers that are trained along are taken as they were in the run. Leaving out sample `i` moves them by `O(1/n)`, by the gradient of its
    own loss, and all predictions by as little; its own, by its kicks along its row, by `O(1)`. So what is missed of `test - train risk` is
    what `p` numbers have of it beside `k d` weights.
    """

    def __init__(self, problem: Problem, dynamics: Dynamics, data: Data, seed: int):
        self.problem, self.rows, self.labels, self.d = problem, np.asarray(data.rows), data.labels, data.start.shape[1]
        labels = self._with(None if problem.trained is None else np.array(problem.trained.start))
        self.run = OneRun(self.rows, labels, problem.slopes, 1.0, weight_decay=problem.ridge / self.d, seed=seed)
        self.optimiser = dynamics.optimizer if has_memory(dynamics) else None
        self.gains, self.by_row = self.optimiser is not None and self.optimiser.gains, isinstance(dynamics, MiniBatchGD)
        self.weights = np.zeros(2)  # of Adam's means
        if self.gains:
            self.run.start = data.start.astype(np.float32)
        self.found: dict[int, LeftOutRisk] = {}

    def _with(self, numbers: np.ndarray | None) -> Any:
        """The labels, with what is trained along beside them."""
        if numbers is None:
            return self.labels
        return Labelled(self.labels, np.broadcast_to(numbers, (len(self.rows), len(numbers))))

    def told(self, indices: np.ndarray, predictions: np.ndarray, eta: float, numbers: np.ndarray | None = None) -> None:
        """A step by `eta` times the sum over the batch, or by what the optimiser makes of it."""
        step = self._adaptive(eta, len(indices)) if self.gains else self._heavy_ball(eta * len(indices))
        self.run.record_step(indices, predictions, step, numbers)

    def _heavy_ball(self, rate: float) -> Step:
        """A velocity forgets over `memory`."""
        momentum = float(kept_after(rate / self.d, self.optimiser.memory)) if self.optimiser is not None else 0.0
        return Step(rate, momentum, 1.0 - momentum)

    def _adaptive(self, eta: float, batch: int) -> Step:
        """The numbers of `optimisers._adaptive`, whose force is `-d` times the mean gradient."""
        adam, dt = self.optimiser, eta * batch / self.d
        assert isinstance(adam, Adam)
        first, second = (float(kept_after(dt, memory)) for memory in (adam.memory, adam.second_memory))
        self.weights = np.array([first, second]) * self.weights + dt
        whole = self.weights[1] if adam.corrected else max(dt, adam.second_memory)
        scale = Scale(second, dt * self.d * batch, 1.0 / np.sqrt(whole), adam.eps, self.by_row)
        return Step(dt * self.d / self.weights[0], first, dt, scale, dt * adam.decay)

    def watch(self, states: Iterator[tuple[float, np.ndarray, list[int]]]) -> Iterator[tuple[float, np.ndarray, list[int]]]:
        """The states of a path as they are, with an estimate at every output time."""
        for t, state, outputs in states:
            (theta,), numbers = parted(state[:1], self.problem, self.d)
            if outputs and np.isfinite(theta).all():
                self.run.labels = self._with(None if numbers is None else numbers[0])
                estimate = self.run.estimate(self.rows @ theta.astype(np.float32).T)
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
