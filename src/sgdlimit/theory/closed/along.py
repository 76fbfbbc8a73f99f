"""Numbers `a (p,)` that are trained along, as the compiled equations of one pass are told of them (OPTIMISERS section 4).

Each sample moves `a` by a part in `n`, so it follows its mean force `F = -(E[grad_a L] + h_a(a))`, and to the weights it is a loss that
changes slowly: nothing more responds. White noise moves it by a part `d^(-1/2)`, which is nothing, and clipping is of the weights' alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...functions import key
from ...learning.trained import Trained, over_rows

Array = Any

RAN_AWAY = 1e6  # numbers beyond this multiple of one and of where they start have diverged


class Told(NamedTuple):
    """What a compiled program is told, so that one serves all starts and rates."""

    start: Array  # (p,)
    rate: Array  # (p,)
    ridge: float
    batch_size: float


def told_of(trained: Trained | None) -> Told | None:
    if trained is None:
        return None
    return Told(np.array(trained.start), np.array(trained.rate), trained.ridge, trained.batch_size)


def within(start: Array, a: Array) -> Array:
    """Whether numbers `a (..., p)` have not run away, `(...)`."""
    return abs(a).max(-1) < RAN_AWAY * (1.0 + abs(start).max())


def penalty_of(trained: Trained | None) -> Callable | None:
    """The smooth penalty, which is compiled into a program."""
    return None if trained is None or trained.smooth is None else key(trained.smooth)


def force(told: Told, penalty: Callable | None, a: Array, mean: Array) -> Array:
    """`F (..., p)` at `a`, of the mean of the loss's gradient there."""
    pull = mean + told.ridge * a
    return -(pull if penalty is None else pull + over_rows(penalty)(a))
