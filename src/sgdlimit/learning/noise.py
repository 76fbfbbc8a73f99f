"""Laws of the label noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from scipy import special

from ..checks import positive as _positive
from ..errors import refuse


@runtime_checkable
class NoiseLaw(Protocol):
    """Any object with a `shape` (of one draw) and `ppf` (quantile function, elementwise on arrays in (0, 1))."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def ppf(self, u: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Normal:
    """Standard normal noise; `shape` is that of one draw `z`."""

    shape: tuple[int, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "shape", _shape(self.shape))

    def ppf(self, u):
        return special.ndtri(u)


@dataclass(frozen=True)
class Uniform:
    """Uniform noise on (0, 1)."""

    shape: tuple[int, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "shape", _shape(self.shape))

    def ppf(self, u):
        return np.asarray(u)


@dataclass(frozen=True)
class Gumbel:
    """Standard Gumbel noise: `argmax(r_star + z)` is then a softmax draw."""

    shape: tuple[int, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "shape", _shape(self.shape))

    def ppf(self, u):
        return -np.log(-np.log(u))


@dataclass(frozen=True)
class StudentT:
    """Student's t noise with `df` degrees of freedom (heavy tails)."""

    df: float
    shape: tuple[int, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "df", _positive("noise.df", self.df, "degrees of freedom; 3 has heavy tails"))
        object.__setattr__(self, "shape", _shape(self.shape))

    def ppf(self, u):
        return special.stdtrit(self.df, u)


@dataclass(frozen=True)
class NoNoise:
    """No noise: `z` is zero and no random dimension is spent on it."""

    shape: tuple[int, ...] = ()

    def ppf(self, u):
        return np.zeros_like(u)


@dataclass(frozen=True)
class Logistic:
    """Standard logistic noise: `r_star + z > 0` then has the probability `1 / (1 + exp(-r_star))`."""

    shape: tuple[int, ...] = ()

    def ppf(self, u):
        return special.logit(u)


@dataclass(frozen=True)
class Scaled:
    """The noise of another law, `size` times. A size that is in the law is not in the label: what is compiled for a label serves
    noise of every size."""

    law: NoiseLaw
    size: float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.law.shape

    def ppf(self, u):
        return self.size * self.law.ppf(u)


def draws_of(noise: NoiseLaw, u: np.ndarray) -> np.ndarray:
    """Turn uniform numbers `(n, size of one draw)` into draws `(n, *shape)`."""
    return np.asarray(noise.ppf(u), dtype=float).reshape(len(u), *noise.shape)


def _shape(value: Any) -> tuple[int, ...]:
    try:
        shape = tuple(int(n) for n in value)
    except TypeError:
        raise refuse("noise.shape", "be a tuple of sizes", value, "() for one number, (3,) for three") from None
    if any(n <= 0 for n in shape):
        raise refuse("noise.shape", "have positive sizes", value)
    return shape
