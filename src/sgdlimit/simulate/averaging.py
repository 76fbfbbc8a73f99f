"""Weights averaged over time, in real runs: their integral with weights that forget is carried along, and averages are made of it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..learning.averages import Average
from .along import flat

SAME = 1e-9  # times that differ by less than this part of the last are one


def rate_of(average: Average | None) -> float:
    return 0.0 if average is None else average.rate


def accumulate(integral: Any, before: Any, after: Any, dt: Any, rate: Any) -> Any:
    """`int exp(-rate (t - s)) theta_s ds` a step later. A time shows the state after the nearest whole step, so half of the step counts
    for either end."""
    length = jnp.where(rate > 0, -jnp.expm1(-rate * dt) / jnp.where(rate > 0, rate, 1.0), dt)
    return jnp.exp(-rate * dt) * integral + length * 0.5 * (before + after)


class History:
    """Weights and numbers trained along that a path moves step by step, and their integrals where they are averaged."""

    def __init__(self, average: Average | None, *start: Any):
        self.average, self.state = average, start
        self.integral = None if average is None else jax.tree.map(jnp.zeros_like, start)

    def add(self, dt: float, *state: Any) -> None:
        """What they are a time `dt` later."""
        if self.average is not None:
            rate = self.average.rate
            self.integral = jax.tree.map(
                lambda integral, before, after: accumulate(integral, before, after, dt, rate), self.integral, self.state, state
            )
        self.state = state

    def shown(self) -> np.ndarray:
        """What a path yields, see `along.flat`: a row, with that of the integrals below where there is an average."""
        return np.stack([flat(*parts) for parts in (self.state, self.integral) if parts is not None], -2)


class Averager:
    """From states and their integrals below, `(time, 2k, d)`, at the times that a path is followed at to averages `(time, k, d)` at those
    asked for."""

    def __init__(self, average: Average, times: np.ndarray):
        self.average, self.times = average, times
        begins, apart = average.starts(times), SAME * float(times[-1])
        followed = np.unique(np.concatenate([times, begins]))
        self.followed = followed[np.append(True, np.diff(followed) > apart)]
        self.place, self.begin = (np.searchsorted(self.followed, when - apart) for when in (times, begins))

    def reached(self, followed: int) -> int:
        """How many of the times asked for are among the first that were `followed`."""
        return int(np.count_nonzero(self.place < followed))

    def __call__(self, states: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Averages `(time, k, d)` of `states (followed, 2k, d)` at the times `ends (followed,)` of the steps shown."""
        k, rate = states.shape[1] // 2, self.average.rate
        found = []
        for place, begin in zip(self.place[: self.reached(len(states))], self.begin, strict=False):
            length = ends[place] - ends[begin]
            if length <= 0:
                found.append(states[place, :k])
                continue
            past = np.exp(-rate * length) * states[begin, k:]
            size = -np.expm1(-rate * length) / rate if rate else length
            found.append((states[place, k:] - past) / size)
        return np.array(found).reshape(-1, k, states.shape[2])
