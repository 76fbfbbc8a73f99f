"""Forms of a schedule at a fixed number of epochs. How long these last depends on the steps, `dt = step * sample_ratio` for each epoch, so
a form is given over a part of the training, and its times are then made to fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..schedules import Cosine, InverseTime, Knots, Linear, WarmupStableDecay
from .space import Axis

POINTS = 2049
WARMUP = 0.02  # part of the time of warm-up, stable, decay that its first part takes
SLOWEST, FASTEST = 1 / 60, 6.0  # of the best constant step, that a schedule may have
TURNS = 200
CLOSE = 1e-11


@dataclass(frozen=True)
class Form:
    """A family of schedules: `make(duration, **numbers)`, the same curve for every duration but for the unit of time."""

    name: str
    axes: tuple[Axis, ...]
    make: Callable[..., Any]

    def step(self, lasting: float, numbers: dict[str, float]) -> Any:
        """With the duration after which `lasting`, the mean step times so much, is spent: `int dt / step = lasting`."""
        shape: Any = self.make(1.0, **numbers)
        if isinstance(shape, float):
            return shape
        grid = np.linspace(0.0, 1.0, POINTS)
        spent = np.array([1.0 / shape(float(t)) for t in grid])
        return self.make(lasting / float(np.trapezoid(spent, grid)), **numbers)


def rivals(step: float) -> list[Form]:
    """What people use, each with the numbers that are tuned; `step` is the best constant one."""
    start, end = Axis("start", step / 4, step * FASTEST, "log"), Axis("end", step * SLOWEST, step * 2, "log")
    return [
        Form("cosine", (start, end), lambda duration, start, end: Cosine(start, end, duration)),
        Form("linear", (start, end), lambda duration, start, end: Linear(start, end, duration)),
        Form("1/t", (start, Axis("time", 0.02, 10.0, "log")), lambda duration, start, time: InverseTime(start, time * duration)),
        Form(
            "warm-up, stable, decay",
            (start, end, Axis("decay", 0.02, 0.9)),
            lambda duration, start, end, decay: WarmupStableDecay(start, end, duration, decay * duration, WARMUP * duration),
        ),
    ]


class Knotted(Form):
    """Steps at evenly spread parts of the epochs, smooth between."""

    def step(self, lasting: float, numbers: dict[str, float]) -> Knots:
        return knots(lasting, list(numbers.values()))


def constant(low: float, high: float) -> Form:
    return Form("constant", (Axis("step", low, high, "log"),), lambda duration, step: step)


def knotted(count: int, step: float) -> Form:
    """So many knots around the best constant step."""
    axes = tuple(Axis(f"step_{i + 1}", step * SLOWEST, step * FASTEST, "log") for i in range(count))
    return Knotted(f"{count} knots", axes, constant)


def knots(lasting: float, steps: Any) -> Knots:
    """Steps at evenly spread parts of the epochs. When these are depends on the steps between, so the times are found by turns: each piece
    is stretched until it spends its share of `lasting`."""
    steps = np.asarray(steps, dtype=float)
    share = lasting / (len(steps) - 1)
    lengths = share * np.sqrt(steps[1:] * steps[:-1])
    nodes, weights = np.polynomial.legendre.leggauss(12)
    for _ in range(TURNS):
        times = np.concatenate([[0.0], np.cumsum(lengths)])
        schedule = Knots(times.tolist(), steps.tolist())
        at = times[:-1, None] + 0.5 * lengths[:, None] * (nodes + 1.0)
        spent = 0.5 * lengths * (np.array([[1.0 / schedule(t) for t in row] for row in at.tolist()]) @ weights)
        if np.abs(spent / share - 1.0).max() < CLOSE:
            break
        lengths = lengths * (share / spent)
    return schedule
