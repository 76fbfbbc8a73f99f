"""The law of the weights: the teacher's rows, the student's start, the penalty on a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..checks import array as _array
from ..checks import number as _number
from ..checks import psd as _psd
from ..checks import root
from ..errors import refuse

Array = Any


@dataclass(frozen=True)
class GaussianTeacher:
    """Teacher rows `theta* ~ N(0, cov)`, `cov (k_star, k_star)`."""

    cov: Array

    def __post_init__(self):
        object.__setattr__(self, "cov", _psd("teacher.cov", self.cov))

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """`n` rows, `(n, k_star)`."""
        return rng.standard_normal((n, len(self.cov))) @ root(self.cov).T


@dataclass(frozen=True)
class SparseTeacher:
    """A row is `N(0, cov / density)` with probability `density`, else zero; `cov` is its second moment."""

    density: float
    cov: Array

    def __post_init__(self):
        density = _number("teacher.density", self.density)
        if not 0 < density <= 1:
            raise refuse("teacher.density", "lie in (0, 1]", self.density, "the fraction of non-zero teacher rows")
        object.__setattr__(self, "density", density)
        object.__setattr__(self, "cov", _psd("teacher.cov", self.cov))

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        rows = rng.standard_normal((n, len(self.cov))) @ root(self.cov / self.density).T
        return rows * (rng.random((n, 1)) < self.density)


@dataclass(frozen=True)
class EmpiricalTeacher:
    """Teacher rows drawn from the given ones, `rows (m, k_star)`; `cov` is their second moment."""

    rows: Array
    cov: np.ndarray = field(init=False, repr=False)

    def __post_init__(self):
        rows = _array("teacher.rows", self.rows)
        if rows.ndim != 2 or 0 in rows.shape:
            raise refuse("teacher.rows", "have shape (m, k_star)", rows.shape, "one row per feature; use rows[:, None] for one direction")
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "cov", _psd("teacher.rows", rows.T @ rows / len(rows)))

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return self.rows[rng.integers(len(self.rows), size=n)]


Teacher = GaussianTeacher | SparseTeacher | EmpiricalTeacher


@dataclass(frozen=True)
class Init:
    """Start `theta_0 = overlap theta* + N(0, cov)`: `overlap (k, k_star)`, `cov (k, k)`."""

    overlap: Array
    cov: Array

    def __post_init__(self):
        overlap = _array("init.overlap", self.overlap)
        if overlap.ndim != 2:
            raise refuse("init.overlap", "be a matrix (k, k_star)", overlap.shape, "[[0.0]] is a start without knowledge of the teacher")
        object.__setattr__(self, "overlap", overlap)
        object.__setattr__(self, "cov", _psd("init.cov", self.cov))
        if len(self.cov) != len(overlap):
            raise refuse(
                "init.cov",
                f"be ({len(overlap)}, {len(overlap)}) like the {len(overlap)} rows of `init.overlap`",
                self.cov.shape,
                "k student directions in both",
            )


@dataclass(frozen=True)
class Ridge:
    """Penalty `strength |theta|^2 / 2` on every row."""

    strength: float

    def __post_init__(self):
        strength = _number("penalty.strength", self.strength)
        if strength < 0:
            raise refuse("penalty.strength", "not be negative", self.strength, "0 is no penalty")
        object.__setattr__(self, "strength", strength)


@dataclass(frozen=True)
class SmoothPenalty:
    """Penalty `fn(theta)` on every row `theta (k,)`, twice differentiable in JAX."""

    fn: Callable[[Array], Array]

    def __post_init__(self):
        if not callable(self.fn):
            raise refuse("penalty.fn", "be a function of a row theta (k,)", self.fn)


Penalty = Ridge | SmoothPenalty | None
