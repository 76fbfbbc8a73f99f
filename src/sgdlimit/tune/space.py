"""What is tuned: numbers with bounds, on a log or linear scale, as points of the unit cube."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import number
from ..errors import InputError, Words, nearest, refuse
from ..learning.dynamics import Dynamics, GradientFlow
from ..learning.problem import Problem
from ..theory.paired import Setting
from ..theory.samples.draws import jump_intensity

SCALES = ("linear", "log")
MOST = 8  # numbers that are tuned together


@dataclass(frozen=True)
class Axis:
    """One number: where it may lie, and on which scale it is looked for."""

    name: str
    low: float
    high: float
    scale: str = "linear"

    def number(self, u: float) -> float:
        u = min(max(float(u), 0.0), 1.0)
        if self.scale == "log":
            return min(max(self.low * (self.high / self.low) ** u, self.low), self.high)
        return self.low + u * (self.high - self.low)

    def unit(self, x: float) -> float:
        if self.scale == "log":
            return math.log(x / self.low) / math.log(self.high / self.low)
        return (x - self.low) / (self.high - self.low)

    def slope(self, u: float) -> float:
        """Of the number in its place, for errors."""
        return self.number(u) * math.log(self.high / self.low) if self.scale == "log" else self.high - self.low


def axes_of(bounds: Any) -> tuple[Axis, ...]:
    """`{"step": (0.1, 5.0, "log"), "ridge": (0.0, 1.0)}`, checked; two numbers are a linear scale."""
    usual = '{"step": (0.1, 5.0, "log")}'
    if not isinstance(bounds, Mapping) or not bounds:
        raise refuse("bounds", "be a dict of at least one number's bounds", bounds, usual)
    if len(bounds) > MOST:
        raise refuse("bounds", f"be of at most {MOST} numbers", Words(f"of {len(bounds)}"), "the others can be held, or tuned afterwards")
    return tuple(_axis(str(name), given) for name, given in bounds.items())


def _axis(name: str, given: Any) -> Axis:
    field = f"bounds.{name}"
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) not in (2, 3):
        raise refuse(field, 'be (low, high) or (low, high, "log")', given)
    low, high = number(field, given[0]), number(field, given[1])
    scale = given[2] if len(given) == 3 else "linear"
    if scale not in SCALES:
        raise refuse(field, "have the scale 'log' or 'linear'", scale, nearest(str(scale), SCALES))
    if not low < high:
        raise refuse(field, "be (low, high) with low below high", given)
    if scale == "log" and low <= 0:
        raise refuse(field, "be positive on a log scale", given, "a linear scale may begin at zero")
    return Axis(name, low, high, scale)


@dataclass(frozen=True)
class Clock:
    """How long is trained: up to a `horizon` in time `t`, or for so many `epochs`."""

    horizon: float | None = None
    epochs: float | None = None

    def __post_init__(self):
        if (self.horizon is None) == (self.epochs is None):
            both = "both are given" if self.epochs is not None else "neither is given"
            raise InputError(f"`epochs` must be given, or else `horizon`, but {both} (an epoch lasts step * sample_ratio of the time t)")
        for name in ("horizon", "epochs"):
            value = getattr(self, name)
            if value is not None and number(name, value) <= 0:
                raise refuse(name, "be positive", value)

    def end(self, problem: Problem, dynamics: Any) -> float:
        """The horizon of a dynamics."""
        if self.epochs is None:
            return float(self.horizon or 0.0)
        if isinstance(dynamics, GradientFlow):
            raise refuse("epochs", "be None for GradientFlow, which has no steps", self.epochs, "give the horizon, the time t")
        return end_of_epochs(problem, dynamics, float(self.epochs))

    def __str__(self) -> str:
        if self.epochs is None:
            return f"up to t = {self.horizon:g}"
        return f"for {self.epochs:g} epoch{'' if self.epochs == 1 else 's'}"


def end_of_epochs(problem: Problem, dynamics: Any, epochs: float) -> float:
    """The time after so many epochs, each of which lasts `step * sample_ratio`; with a schedule as `theory` counts jumps."""
    step: Any = dynamics.step
    if isinstance(step, float):
        return epochs * step * problem.sample_ratio
    from scipy.optimize import brentq

    missing: Any = lambda end: float(jump_intensity(problem, dynamics, end)[1][-1]) - epochs
    end = epochs * float(step(0.0)) * problem.sample_ratio
    for _ in range(60):
        if missing(end) >= 0.0:
            break
        end *= 2.0
    else:
        raise refuse("epochs", "end, but the steps grow too fast", epochs)
    return float(brentq(missing, 0.0 if missing(0.5 * end) >= 0.0 else 0.5 * end, end, xtol=1e-12 * end, rtol=1e-12))  # pyright: ignore


class Family:
    """`make` of the user's, with the problem where it leaves that as it is: numbers to a setting of the theory."""

    def __init__(self, problem: Problem, make: Callable[..., Any], axes: Sequence[Axis], clock: Clock, name: str = ""):
        if not isinstance(problem, Problem):
            raise refuse("problem", "be a sl.Problem", problem)
        if not callable(make):
            raise refuse("make", "be a function of the numbers", make, "lambda step: sl.SGD(step)")
        self.problem, self.make, self.axes, self.clock, self.name = problem, make, tuple(axes), clock, name
        names = [axis.name for axis in axes]
        try:
            inspect.signature(make).bind(**dict.fromkeys(names))
        except (TypeError, ValueError) as e:
            if isinstance(e, TypeError):
                raise InputError(
                    f"`make` must take the numbers of `bounds` by their names ({', '.join(names)}), but does not: {e}"
                ) from None

    def schedule(self, numbers: Mapping[str, float]) -> Any:
        """Of the step, if that is what the numbers stand for."""
        return None

    def numbers(self, u: Any) -> dict[str, float]:
        return {axis.name: axis.number(place) for axis, place in zip(self.axes, np.atleast_1d(u), strict=True)}

    def setting(self, numbers: Mapping[str, float]) -> Setting:
        made = self.make(**numbers)
        problem, dynamics = made if isinstance(made, tuple) and len(made) == 2 else (self.problem, made)
        if not (isinstance(problem, Problem) and isinstance(dynamics, Dynamics)):
            raise refuse("make", "return a dynamics, or a problem and a dynamics", made, "lambda step: sl.SGD(step)")
        return problem, dynamics, self.clock.end(problem, dynamics)

    def extremes(self) -> list[Setting]:
        """The middle of the cube, and the ends of each axis through it."""
        middle = np.full(len(self.axes), 0.5)
        places = [middle]
        for i in range(len(self.axes)):
            for end in (0.0, 1.0):
                places.append(np.where(np.arange(len(middle)) == i, end, middle))
        return [self.setting(self.numbers(place)) for place in places]
