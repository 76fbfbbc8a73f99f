"""Standardised on some samples, applied to others: what is left out of training must not enter its means and deviations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray

VARIES = 1e-9  # of a column's deviation over all samples, below which it is constant on some


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
