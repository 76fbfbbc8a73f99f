"""How it is trained. A dynamics holds only what the user names; `theory` and `simulate` know how to run it.

Time is `t` of THEORY section 1: one SGD step advances it by `step * batch_size / n_features`, so one epoch lasts
`step * sample_ratio`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .errors import Words, refuse

Step = float | Callable[[float], float]


@dataclass(frozen=True)
class SGD:
    """Mini-batch SGD drawing samples with replacement (Fan and Wang, arXiv 2601.21093).

    `step` is eta, which multiplies the sum of gradients over the batch; the limit does not depend on the batch size as
    long as it is small against `n`. A function `t -> step` is a schedule.
    """

    step: Step

    def __post_init__(self):
        object.__setattr__(self, "step", check_step(self.step))

    @classmethod
    def from_learning_rate(cls, lr: float, batch_size: int, n_features: int, feature_variance: float = 1.0) -> SGD:
        """The dynamics of a practitioner's loop `theta -= lr * mean over the batch of grad` on features of the given
        variance: `step = lr * n_features * feature_variance / batch_size`."""
        for name, value in (("lr", lr), ("batch_size", batch_size), ("n_features", n_features), ("feature_variance", feature_variance)):
            if not (isinstance(value, (int, float, np.number)) and math.isfinite(value) and value > 0):
                raise refuse(name, "be positive", value)
        return cls(step=lr * n_features * feature_variance / batch_size)

    def learning_rate(self, batch_size: int, n_features: int, feature_variance: float = 1.0) -> float:
        """The inverse of `from_learning_rate`, for a constant step."""
        if callable(self.step):
            raise refuse("step", "be a constant to be turned into one learning rate", self.step)
        return self.step * batch_size / (n_features * feature_variance)


@dataclass(frozen=True)
class SME:
    """The stochastic modified equation: SGD's diffusion approximation with the same drift and noise covariance
    (Fan and Wang, arXiv 2601.21093; Nishiyama and Imaizumi, arXiv 2602.06320)."""

    step: Step

    def __post_init__(self):
        object.__setattr__(self, "step", check_step(self.step))


@dataclass(frozen=True)
class GradientFlow:
    """Gradient flow, the limit of a small step (Celentano, Cheng and Montanari, arXiv 2112.07572)."""


Dynamics = SGD | SME | GradientFlow


def check_step(step: Step) -> Step:
    """A positive number, or a function of time that gives positive numbers."""
    if callable(step):
        try:
            value = float(step(0.0))
        except Exception as e:
            raise refuse("step", "be a number or a function t -> step", Words(f"a function that fails at t = 0: {e}")) from None
        if not (math.isfinite(value) and value > 0):
            raise refuse("step", "be positive at all times", Words(f"{value} at t = 0"))
        return step
    try:
        value = float(step)
    except (TypeError, ValueError):
        raise refuse("step", "be a number or a function t -> step", step) from None
    if not (math.isfinite(value) and value > 0) or isinstance(step, bool):
        raise refuse("step", "be positive", step, "learning rate times n_features / batch_size; see SGD.from_learning_rate")
    return value


def step_at(dynamics: Dynamics, times: np.ndarray) -> np.ndarray:
    """Step `eta(t)` at the given times; zero for gradient flow."""
    times = np.asarray(times, dtype=float)
    if isinstance(dynamics, GradientFlow):
        return np.zeros_like(times)
    if not callable(dynamics.step):
        return np.full_like(times, dynamics.step)
    values = np.array([float(dynamics.step(float(t))) for t in times.ravel()]).reshape(times.shape)
    bad = ~(np.isfinite(values) & (values > 0))
    if bad.any():
        raise refuse("step", "be positive at all times", Words(f"{values[bad][0]} at t = {times[bad][0]:.4g}"))
    return values


def check_schedule(dynamics: Dynamics, horizon: float) -> None:
    """Refuse a schedule that is not positive somewhere on the way: its steps would never arrive."""
    if not isinstance(dynamics, GradientFlow) and callable(dynamics.step):
        step_at(dynamics, np.linspace(0.0, horizon, 401))
