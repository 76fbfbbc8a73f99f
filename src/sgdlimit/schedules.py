"""Step schedules `t -> step` that can be written down: in a TOML file, in a saved result, in a report.

Any function of time will do for `sl.SGD(step=...)`; these print as what they are. Time is `t` of THEORY section 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .checks import number as _number
from .checks import positive as _positive
from .errors import refuse


@dataclass(frozen=True)
class Exponential:
    """`start * 2^(-t / half_life)`, never below `floor`."""

    start: float
    half_life: float
    floor: float = 0.0

    def __post_init__(self):
        _positive("step.start", self.start)
        _positive("step.half_life", self.half_life, "the time in which the step halves")
        _number("step.floor", self.floor)

    def __call__(self, t: float) -> float:
        return max(self.start * 2.0 ** (-t / self.half_life), self.floor)


@dataclass(frozen=True)
class InverseTime:
    """`start / (1 + t / time)^power`: the slow decay of stochastic approximation."""

    start: float
    time: float
    power: float = 1.0

    def __post_init__(self):
        _positive("step.start", self.start)
        _positive("step.time", self.time, "the time after which the step has fallen to start / 2^power")
        _positive("step.power", self.power, "1/2 to 1 are usual")

    def __call__(self, t: float) -> float:
        return self.start / (1.0 + t / self.time) ** self.power


@dataclass(frozen=True)
class Linear:
    """Linear warm-up from `end` to `start` over `warmup`, then linearly down to `end` at `duration`, where it stays.

    With `start = end` it is constant.
    """

    start: float
    end: float
    duration: float
    warmup: float = 0.0

    def __post_init__(self):
        _check_ramp(self)

    def __call__(self, t: float) -> float:
        rising = t / self.warmup if t < self.warmup else 1.0
        falling = min((t - self.warmup) / (self.duration - self.warmup), 1.0) if t > self.warmup else 0.0
        return self.end + (self.start - self.end) * (rising - falling)


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up from `end` to `start` over `warmup`, then half a cosine from `start` down to `end` at `duration`."""

    start: float
    end: float
    duration: float
    warmup: float = 0.0

    def __post_init__(self):
        _check_ramp(self)

    def __call__(self, t: float) -> float:
        if t < self.warmup:
            return self.end + (self.start - self.end) * t / self.warmup
        done = min((t - self.warmup) / (self.duration - self.warmup), 1.0)
        return self.end + (self.start - self.end) * 0.5 * (1.0 + math.cos(math.pi * done))


def _check_ramp(schedule: Linear | Cosine) -> None:
    for name in ("start", "end", "duration"):
        _positive(f"step.{name}", getattr(schedule, name), "a step is positive at all times" if name == "end" else "")
    if not 0 <= _number("step.warmup", schedule.warmup) < schedule.duration:
        raise refuse("step.warmup", "lie in [0, duration)", schedule.warmup)
