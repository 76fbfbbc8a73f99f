"""Step schedules `t -> step` that can be written down: in a TOML file, in a saved result, in a report.

Any function of time will do for `sl.SGD(step=...)`; these print as what they are. Time is `t` of THEORY section 1.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from .checks import number as _number
from .checks import positive as _positive
from .errors import Words, refuse


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


@dataclass(frozen=True)
class WarmupStableDecay:
    """Linear warm-up from `end` to `start` over `warmup`, `start` until `decay` before the `duration`, then linearly down to `end`."""

    start: float
    end: float
    duration: float
    decay: float
    warmup: float = 0.0

    def __post_init__(self):
        _check_ramp(self)
        if not 0 <= _number("step.decay", self.decay) <= self.duration - self.warmup:
            raise refuse("step.decay", "lie in [0, duration - warmup]", self.decay, "how long the step falls at the end")

    def __call__(self, t: float) -> float:
        rising = t / self.warmup if t < self.warmup else 1.0
        falling = min((t - self.duration + self.decay) / self.decay, 1.0) if t > self.duration - self.decay else 0.0
        if not self.decay:
            falling = 0.0
        return self.end + (self.start - self.end) * (rising - falling)


@dataclass(frozen=True)
class Knots:
    """`steps` at `times`, and between them smooth: the logarithm of the step is the monotone cubic of Fritsch and Carlson, so the step is
    positive and between its neighbours. Before the first knot and after the last it is constant."""

    times: Sequence[float]
    steps: Sequence[float]

    def __post_init__(self):
        for name in ("times", "steps"):
            given = getattr(self, name)
            if isinstance(given, str) or not hasattr(given, "__len__"):
                raise refuse(f"step.{name}", "be a list of numbers", given)
            check = _number if name == "times" else _positive
            object.__setattr__(self, name, tuple(check(f"step.{name}", one) for one in given))
        if len(self.times) < 2 or len(self.times) != len(self.steps):
            many = Words(f"{len(self.times)} times and {len(self.steps)} steps")
            raise refuse("step.steps", "have one step for each of two times or more", many)
        if any(b <= a for a, b in zip(self.times, self.times[1:], strict=False)):
            raise refuse("step.times", "increase", list(self.times))
        object.__setattr__(self, "_pieces", _cubics(self.times, [math.log(one) for one in self.steps]))

    def __call__(self, t: float) -> float:
        t = min(max(t, self.times[0]), self.times[-1])
        i = min(bisect_right(self.times, t), len(self.times) - 1) - 1
        a, b, c, d = self._pieces[i]  # pyright: ignore[reportAttributeAccessIssue]
        s = t - self.times[i]
        return math.exp(((a * s + b) * s + c) * s + d)

    def __repr__(self) -> str:
        times, steps = (", ".join(f"{one:.6g}" for one in part) for part in (self.times, self.steps))
        return f"Knots(times=({times}), steps=({steps}))"

    def settings(self) -> str:
        """The line of a settings file's `[[dynamics]]`."""
        return f'step = {{ kind = "knots", times = {list(self.times)}, steps = {list(self.steps)} }}'


def _cubics(times: Sequence[float], values: Sequence[float]) -> tuple[tuple[float, ...], ...]:
    """For each piece the coefficients of the powers of what has passed since its start, the highest first."""
    from scipy.interpolate import PchipInterpolator

    return tuple(map(tuple, PchipInterpolator(times, values).c.T.tolist()))


def _check_ramp(schedule: Linear | Cosine | WarmupStableDecay) -> None:
    for name in ("start", "end", "duration"):
        _positive(f"step.{name}", getattr(schedule, name), "a step is positive at all times" if name == "end" else "")
    if not 0 <= _number("step.warmup", schedule.warmup) < schedule.duration:
        raise refuse("step.warmup", "lie in [0, duration)", schedule.warmup)
