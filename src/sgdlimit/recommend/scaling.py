"""Columns standardised, on all samples or on some and applied to others: what is left out of training must not enter their means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray

VARIES = 1e-9  # of a column's deviation over all samples, below which it is constant on some

CONSTANT = 4 * np.finfo(float).eps  # spread of a column, times its largest value, that rounding alone makes
EXTREME = 1e100  # scale of numbers whose squares are hard to hold


@dataclass(frozen=True)
class Scaling:
    """What is taken from columns `(d,)` and by what they are divided; `varies` tells which are not constant."""

    mean: Array
    scale: Array
    varies: Array

    @classmethod
    def of(cls, X: Array, standardise: bool, whole: Array) -> Scaling:
        """Of the samples `X`; `whole (d,)` are the columns' deviations over all."""
        deviation = X.std(0)
        varies = deviation > VARIES * whole
        return cls(X.mean(0), np.where(varies, deviation, 1.0) if standardise else np.ones_like(deviation), varies)

    def __call__(self, X: Array) -> Array:
        """A column that does not vary where training sees it is zero everywhere."""
        return np.where(self.varies, (X - self.mean) / self.scale, 0.0)


def standardised(X: Array) -> tuple[Array, Array, Array]:
    """Columns with mean zero and variance one, their means and standard deviations.

    The first row is subtracted before the mean is taken, which keeps all digits of columns far from zero (times in milliseconds), and
    powers of two before the squares, which would leave the range of numbers.
    """
    unit = 2.0 ** np.floor(np.log2(np.maximum(np.abs(X).max(0), 5e-324)))
    first = X[0] / unit
    moved = X / unit - first
    middle = moved.mean(0)
    moved -= middle
    spread = np.sqrt(np.mean(moved**2, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return moved / spread, (first + middle) * unit, spread * unit


def varies(X: Array) -> Array:
    """Whether values differ by more than rounding."""
    low, high = X.min(0), X.max(0)
    return high / 2 - low / 2 > CONSTANT / 2 * np.maximum(np.abs(low), np.abs(high))
