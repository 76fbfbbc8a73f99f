"""Whether there are learning curves at all: means of fresh samples that are infinite, asked before and while they are computed.

At first the label and the mean of the loss, cheaply; the means of the gradient, of its square and of the second derivative where a first
answer has errors that look like it, since nothing else costs so much time in vain.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache

import numpy as np

from ...errors import SolveError
from ...learning.means import Functions, check_finite, moments, why_infinite
from ...learning.problem import Problem
from ...learning.risk import loss_alone

SUSPICIOUS = 0.05  # error of a first answer, relative to its curve's scale


class _Start:
    """A problem, equal to others that have the same fresh samples at the start."""

    def __init__(self, problem: Problem):
        self.problem = problem
        arrays = (problem.self_overlap_start, problem.overlap_start, problem.rho)
        noise = problem.noise if isinstance(problem.noise, Hashable) else id(problem.noise)
        self.key = (problem.slopes.loss, problem.labels, noise, *(np.ascontiguousarray(array).tobytes() for array in arrays))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Start) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def check_start(problem: Problem) -> None:
    """Refuse a label that is not a number on some samples, and a loss without a mean.

    Raises:
        InputError: the label or the loss is NaN or infinite on fresh samples.
        SolveError: the mean of the loss is infinite.
    """
    hashable = isinstance(problem.loss, Hashable) and isinstance(problem.label, Hashable)
    why = (_start if hashable else _start.__wrapped__)(_Start(problem))
    if why is not None:
        raise _none(why)


@lru_cache(maxsize=256)
def _start(start: _Start) -> str | None:
    functions = loss_alone(start.problem)
    check_finite(start.problem, functions)
    return _at_start(start.problem, functions, thorough=False)


def check_moments(problem: Problem, error: float) -> None:
    """Where a first answer has such an `error`: whether the theory's other means exist.

    Raises:
        SolveError: one is infinite.
    """
    if not error <= SUSPICIOUS:
        why = _at_start(problem, moments(problem.slopes), thorough=True)
        if why is not None:
            raise _none(why)


def _at_start(problem: Problem, functions: Functions, thorough: bool) -> str | None:
    return why_infinite(problem, functions, problem.self_overlap_start, problem.overlap_start, thorough)


def _none(why: str) -> SolveError:
    return SolveError(f"there are no learning curves: {why} (a loss that grows more slowly, or noise with lighter tails)")
