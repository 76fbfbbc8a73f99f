"""How it is trained. A dynamics holds only what the user names; `theory` and `simulate` know how to run it.

Time is `t` of THEORY section 1: one SGD step advances it by `step * batch_size / n_features`, so one epoch lasts
`step * sample_ratio`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from ..checks import number, positive
from ..errors import Words, nearest, refuse
from .optimisers import Momentum, Optimizer, all_positive, share

Step = float | Callable[[float], float]
SAMPLINGS = ("replacement", "reshuffle")
OWN = {"optimizer": None, "temperature": 0.0, "clip": None}  # of every dynamics, by keyword; their values where nothing is said


@dataclass(frozen=True, kw_only=True, repr=False)
class _Trained:
    """What every dynamics may have besides (OPTIMISERS sections 1 and 5).

    `optimizer`: `Momentum` or `Adam`; None is the plain gradient. `temperature`: white noise of covariance `2 temperature dt` on the
    weights (in the velocity with an optimiser), as of Langevin dynamics. `clip`: the gradient `l` of a sample, in units where its features
    have norm one, becomes `l min(1, clip / |l|)`.
    """

    optimizer: Optimizer | None = None
    temperature: float = 0.0
    clip: float | None = None

    def __post_init__(self):
        if self.optimizer is not None and not isinstance(self.optimizer, Optimizer):
            known = "sl.Momentum(memory=0.8) or sl.Adam(memory=0.04, second_memory=4.0); sl.dynamics_of reads PyTorch's"
            raise refuse("optimizer", "be a Momentum, an Adam or None", self.optimizer, known)
        temperature = number("temperature", self.temperature)
        if temperature < 0:
            raise refuse("temperature", "not be negative", self.temperature, "0 is no noise of its own")
        object.__setattr__(self, "temperature", temperature)
        if self.clip is not None:
            object.__setattr__(self, "clip", positive("clip", self.clip, "None clips nothing"))

    @property
    def plain(self) -> bool:
        """Whether the force itself moves the weights."""
        return self.optimizer is None or not (self.optimizer.gains or self.optimizer.memory)

    @property
    def memory(self) -> float:
        """Of the optimiser's velocity; zero without one."""
        return 0.0 if self.optimizer is None else self.optimizer.memory

    def __repr__(self) -> str:
        said = [(one.name, getattr(self, one.name), one.default) for one in fields(self) if one.name not in OWN]
        said += [(name, getattr(self, name), default) for name, default in OWN.items()]
        told = (f"{name}={value!r}" for name, value, default in said if value != default)
        return f"{type(self).__name__}({', '.join(told)})"


@dataclass(frozen=True, repr=False)
class SGD(_Trained):
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
        super().__post_init__()
        object.__setattr__(self, "step", check_step(self.step))
        if self.sampling not in SAMPLINGS:
            raise refuse("sampling", "be 'replacement' or 'reshuffle'", self.sampling, nearest(str(self.sampling), SAMPLINGS))

    @classmethod
    def from_learning_rate(
        cls,
        lr: float,
        batch_size: int,
        n_features: int,
        feature_variance: float = 1.0,
        sampling: str = "replacement",
        momentum: float = 0.0,
        nesterov: bool = False,
        dampening: float = 0.0,
        temperature: float = 0.0,
        clip: float | None = None,
    ) -> SGD:
        """The dynamics of `torch.optim.SGD(lr, momentum, dampening, nesterov)` on the mean loss over batches of `batch_size` and features
        of the given variance; without momentum of the loop `theta -= lr * mean over the batch of grad`.

        `step = lr n_features feature_variance (1 - dampening) / ((1 - momentum) batch_size)` and `memory = step batch_size /
        (n_features (1 - momentum))`. PyTorch's `weight_decay=c` is in the gradient: a penalty of the problem `sl.Ridge(c /
        feature_variance)`.
        """
        all_positive(lr=lr, batch_size=batch_size, n_features=n_features, feature_variance=feature_variance)
        beta = share("momentum", momentum, "0.9 is usual; 0 is none")
        damped = share("dampening", dampening, "0 is PyTorch's own")
        if nesterov and (not beta or damped):
            raise refuse("nesterov", "be False without a momentum, or with a dampening", nesterov, "as in PyTorch")
        step = lr * n_features * feature_variance / batch_size
        if not beta:
            return cls(step, sampling, temperature=temperature, clip=clip)
        step *= (1.0 - damped) / (1.0 - beta)
        # One step advances t by lr v (1 - dampening) / (1 - beta), whatever the dampening does to the step's size.
        memory = step * batch_size / (n_features * (1.0 - beta))
        return cls(step, sampling, optimizer=Momentum(memory, bool(nesterov)), temperature=temperature, clip=clip)

    def learning_rate(self, batch_size: int, n_features: int, feature_variance: float = 1.0) -> float:
        """The inverse of `from_learning_rate`, for a constant step and no dampening: what PyTorch's optimiser would be given."""
        if callable(self.step):
            raise refuse("step", "be a constant to be turned into one learning rate", self.step)
        if self.optimizer is not None and self.optimizer.gains:
            return self.step * (batch_size / feature_variance) ** 0.5 / n_features
        kept = 1.0 if self.optimizer is None or not self.optimizer.memory else self.step * batch_size / (n_features * self.optimizer.memory)
        return self.step * batch_size / (n_features * feature_variance) * min(kept, 1.0)


@dataclass(frozen=True, repr=False)
class SME(_Trained):
    """The stochastic modified equation: SGD's diffusion approximation with the same drift and noise covariance
    (Fan and Wang, arXiv 2601.21093; Nishiyama and Imaizumi, arXiv 2602.06320)."""

    step: Step

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "step", check_step(self.step))


@dataclass(frozen=True, repr=False)
class GradientFlow(_Trained):
    """Gradient flow, the limit of a small step (Celentano, Cheng and Montanari, arXiv 2112.07572); with `Momentum` the heavy-ball
    flow. There is no gradient noise, so nothing for `Adam` to measure it by."""

    def __post_init__(self):
        super().__post_init__()
        if self.optimizer is not None and self.optimizer.gains:
            raise refuse("optimizer", "be a Momentum or None for GradientFlow", self.optimizer,
                         "Adam divides by the noise of the gradient, of which a flow has none")  # fmt: skip


@dataclass(frozen=True, repr=False)
class OnlineSGD(_Trained):
    """One-pass SGD: every sample is used once (Saad and Solla, Phys. Rev. E 52, 4225; the limit of many samples of SGD).

    A step advances the time by `step * batch_size / n_features`, so `t / step` samples per feature are seen by time `t`; the
    problem's `sample_ratio` plays no part. Every training sample is a fresh one: train and test risk are the same.
    """

    step: Step

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "step", check_step(self.step))


@dataclass(frozen=True, repr=False)
class MiniBatchGD(_Trained):
    """Gradient descent on batches that are a fixed fraction of the data (Gerbelot et al., arXiv 2210.06591).

    Every step takes a uniformly random subset of `fraction * n` samples; `fraction = 1` is full-batch gradient descent. `step`
    multiplies the sum of gradients over the batch, so one step lasts `step * fraction * sample_ratio`; a loop with the mean
    over the batch and learning rate `lr` on features of variance 1 has `step = lr / (fraction * sample_ratio)`. Time is
    discrete: what is asked for between two steps is the state after the nearest whole one, in theory and simulation.
    """

    step: Step
    fraction: float

    def __post_init__(self):
        super().__post_init__()
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
