"""When the steps of a discrete training end, in time `t` of THEORY section 1; theory and simulation read the same clock."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import refuse
from .dynamics import Dynamics, MiniBatchGD, step_at

MAX_STEPS = 10**8  # of single samples: some minutes per run at d = 4000
GRID = 1001  # times at which a schedule is checked before it is followed


class Clock:
    """The size `eta` of every step and the time after it: a step advances the time by `eta` times its share.

    Arguments:
        shares: `batch / d` of each step of one epoch; the steps after it repeat them. A single number is a cycle of one step.
        end: last time of interest.
        lasts: how a step's length is made up, for people.
        most: more steps than this are refused.
    """

    def __init__(self, dynamics: Dynamics, shares: Any, end: float, lasts: str, most: int = MAX_STEPS):
        self.shares = np.atleast_1d(np.asarray(shares, dtype=float))
        # Over a grid first: a schedule that reaches zero would never reach the end.
        etas = step_at(dynamics, np.linspace(0.0, end, GRID))
        if end * np.mean(1 / etas) / self.shares.mean() > most + 0.5:
            average = etas.mean() * self.shares.mean()
            raise refuse("step", f"reach t = {end:g} within {most:,} steps", getattr(dynamics, "step", None),
                         f"a step lasts {lasts}, here {average:.2g} on average")  # fmt: skip
        self.first = float(etas[0] * self.shares[0])
        self.cycle = np.concatenate([[0.0], np.cumsum(self.shares)]) * etas[0]
        self.eta, self.sizes, self.ends = float(etas[0]), None, None
        if not isinstance(getattr(dynamics, "step", None), float):
            sizes, ends = [], [0.0]
            while ends[-1] < end:
                sizes.append(float(step_at(dynamics, np.array(ends[-1]))))
                ends.append(ends[-1] + sizes[-1] * self.shares[(len(sizes) - 1) % len(self.shares)])
                if len(sizes) > 2 * most:
                    raise refuse("step", f"reach t = {end:g} within {most:,} steps", getattr(dynamics, "step", None), "it nearly vanishes")
            self.sizes, self.ends = np.array(sizes), np.array(ends)

    def nearest(self, times: np.ndarray) -> np.ndarray:
        """How many steps end nearest to each time."""
        if self.ends is not None:
            return np.searchsorted(0.5 * (self.ends[1:] + self.ends[:-1]), times, side="right")
        epochs = np.floor(times / self.cycle[-1])
        within = np.searchsorted(0.5 * (self.cycle[1:] + self.cycle[:-1]), times - epochs * self.cycle[-1], side="right")
        return epochs.astype(int) * len(self.shares) + within

    def time(self, step: int) -> float:
        """When step number `step` (counted from one; zero is the start) ends."""
        if self.ends is not None:
            return float(self.ends[step])
        return step // len(self.shares) * float(self.cycle[-1]) + float(self.cycle[step % len(self.shares)])

    def etas(self, first: int, stop: int) -> np.ndarray | float:
        """Sizes of the steps `first <= j < stop`."""
        return self.eta if self.sizes is None else self.sizes[first:stop]


def mini_batch_clock(dynamics: MiniBatchGD, sample_ratio: float, end: float, most: int = MAX_STEPS) -> Clock:
    """The clock of `MiniBatchGD`, whose steps last `step * fraction * sample_ratio`."""
    clock = Clock(dynamics, dynamics.fraction * sample_ratio, end, "step * fraction * sample_ratio", most)
    if clock.first > end > 0:
        raise refuse("step", f"let a step end within t = {end:g}", dynamics.step,
                     f"a step lasts step * fraction * sample_ratio, here {clock.first:.3g}")  # fmt: skip
    return clock
