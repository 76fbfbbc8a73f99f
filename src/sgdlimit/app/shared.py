"""Problems whose losses differ in numbers alone, as problems of one loss: what is compiled for one serves the others.

A slider would otherwise wait for a compilation at every stop. The numbers travel with the noise: a draw is longer by them, the label
hands them on, and the loss takes them from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from ..learning.noise import NoiseLaw
from ..learning.problem import Problem
from ..models import With


@dataclass(frozen=True)
class _Carrying:
    """Noise of a law of single draws, followed by constants."""

    law: NoiseLaw
    numbers: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (1 + len(self.numbers),)

    def ppf(self, u):
        u = np.asarray(u, dtype=float).reshape(-1, *self.shape)
        return np.concatenate([self.law.ppf(u[:, :1]), np.broadcast_to(self.numbers, (len(u), len(self.numbers)))], 1)


@lru_cache(maxsize=64)
def _label(label: Callable) -> Callable:
    return lambda r_star, z: (label(r_star, z[0]), z[1:])


@lru_cache(maxsize=64)
def _loss(fn: Callable, count: int) -> Callable:
    return lambda r, y: fn(r, y[0], *(y[1][i] for i in range(count)))


def carried(problem: Problem) -> Problem:
    """The same problem with the numbers of its loss in its noise; as it is where the loss has none."""
    loss: Any = problem.loss
    if not isinstance(loss, With) or problem.noise.shape != ():
        return problem
    return replace(
        problem, loss=_loss(loss.fn, len(loss.numbers)), label=_label(problem.label), noise=_Carrying(problem.noise, loss.numbers)
    )
