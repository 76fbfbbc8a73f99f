"""How it is trained. A dynamics holds only what the user names; `theory` and `simulate` know how to run it.

Time is `t` of THEORY section 1: one SGD step advances it by `step * batch_size / n_features`, so one epoch lasts
`step * sample_ratio`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import Words, nearest, refuse

Step = float | Callable[[float], float]
SAMPLINGS = ("replacement", "reshuffle")


@dataclass(frozen=True)
class SGD:
    """Mini-batch SGD on a data set that is seen many times (Fan and Wang, arXiv 2601.21093).

    `step` is eta, which multiplies the sum of gradients over the batch; the limit does not depend on the batch size as
    long as it is small against `n`. A function `t -> step` is a schedule.

    `sampling` is "replacement" (every sample of every batch is a fresh draw, the case of the paper) or "reshuffle" (every epoch
    goes through all samples once in a new random order, as data loaders do; beyond the paper). The last batch of an epoch is
    kept when it is not full, the default of data loaders, so that an epoch always lasts `step * sample_ratio`.
    """

    step: Step
    sampling: str = "replacement"

    def __post_init__(self):
        object.__setattr__(self, "step", check_step(self.step))
        if self.sampling not in SAMPLINGS:
            raise refuse("sampling", "be 'replacement' or 'reshuffle'", self.sampling, nearest(str(self.sampling), SAMPLINGS))

    def __repr__(self) -> str:
        return f"SGD(step={self.step!r}" + (")" if self.sampling == "replacement" else f", sampling={self.sampling!r})")

    @classmethod
    def from_learning_rate(
        cls, lr: float, batch_size: int, n_features: int, feature_variance: float = 1.0, sampling: str = "replacement"
    ) -> SGD:
        """The dynamics of a practitioner's loop `theta -= lr * mean over the batch of grad` on features of the given
        variance: `step = lr * n_features * feature_variance / batch_size`."""
        for name, value in (("lr", lr), ("batch_size", batch_size), ("n_features", n_features), ("feature_variance", feature_variance)):
            if not (isinstance(value, (int, float, np.number)) and math.isfinite(value) and value > 0):
                raise refuse(name, "be positive", value)
        return cls(lr * n_features * feature_variance / batch_size, sampling)

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


@dataclass(frozen=True)
class OnlineSGD:
    """One-pass SGD: every sample is used once (Saad and Solla, Phys. Rev. E 52, 4225; the limit of many samples of SGD).

    A step advances the time by `step * batch_size / n_features`, so `t / step` samples per feature are seen by time `t`; the
    problem's `sample_ratio` plays no part. Every training sample is a fresh one: train and test risk are the same.
    """

    step: Step

    def __post_init__(self):
        object.__setattr__(self, "step", check_step(self.step))


@dataclass(frozen=True)
class MiniBatchGD:
    """Gradient descent on batches that are a fixed fraction of the data (Gerbelot et al., arXiv 2210.06591).

    Every step takes a uniformly random subset of `fraction * n` samples; `fraction = 1` is full-batch gradient descent. `step`
    multiplies the sum of gradients over the batch, so one step lasts `step * fraction * sample_ratio`; a loop with the mean
    over the batch and learning rate `lr` on features of variance 1 has `step = lr / (fraction * sample_ratio)`. Time is
    discrete: what is asked for between two steps is the state after the nearest whole one, in theory and simulation.
    """

    step: Step
    fraction: float

    def __post_init__(self):
        object.__setattr__(self, "step", check_step(self.step))
        object.__setattr__(self, "fraction", _fraction(self.fraction))


Dynamics = SGD | SME | GradientFlow | OnlineSGD | MiniBatchGD


def _fraction(value: float) -> float:
    try:
        fraction = float(value)
    except (TypeError, ValueError):
        raise refuse("fraction", "be a number", value) from None
    if not 0 < fraction <= 1 or isinstance(value, bool):
        raise refuse("fraction", "lie in (0, 1]", value, "the part of the data in a batch; 1 is full-batch gradient descent")
    return fraction


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
