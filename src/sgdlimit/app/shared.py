"""Problems whose losses and labels differ in numbers alone, as problems of one loss and label: what is compiled for one serves the others.

A slider would otherwise wait for a compilation at every stop. The numbers travel with the noise: a draw is longer by them, the label
takes its own, hands on those of the loss, and the loss takes them from there.
"""

from __future__ import annotations

import math
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
    """Noise of a law, its draws as rows, followed by constants."""

    law: NoiseLaw
    numbers: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (math.prod(self.law.shape) + len(self.numbers),)

    def ppf(self, u):
        u = np.asarray(u, dtype=float).reshape(-1, *self.shape)
        own = u.shape[1] - len(self.numbers)
        return np.concatenate([self.law.ppf(u[:, :own]), np.broadcast_to(self.numbers, (len(u), len(self.numbers)))], 1)


@lru_cache(maxsize=64)
def _label(fn: Callable, shape: tuple[int, ...], own: int, handed_on: int) -> Callable:
    """A label of noise of this shape, with so many numbers of its own, and so many that it hands on to the loss."""
    size = math.prod(shape)

    def label(r_star, z):
        y = fn(r_star, z[:size].reshape(shape), *(z[size + i] for i in range(own)))
        return (y, z[size + own :]) if handed_on else y

    return label


@lru_cache(maxsize=64)
def _loss(fn: Callable, count: int) -> Callable:
    return lambda r, y: fn(r, y[0], *(y[1][i] for i in range(count)))


def carried(problem: Problem) -> Problem:
    """The same problem with the numbers of its loss and label in its noise; as it is where these have none. A loss that takes numbers
    trained along, `loss(r, y, a)`, has no others."""
    loss, label = _split(problem.loss), _split(problem.label)
    if not (loss.numbers or label.numbers):
        return problem
    return replace(
        problem,
        loss=_loss(loss.fn, len(loss.numbers)) if loss.numbers else problem.loss,
        label=_label(label.fn, problem.noise.shape, len(label.numbers), len(loss.numbers)),
        noise=_Carrying(problem.noise, (*label.numbers, *loss.numbers)),
    )


def _split(fn: Any) -> With:
    return fn if isinstance(fn, With) else With(fn, ())
