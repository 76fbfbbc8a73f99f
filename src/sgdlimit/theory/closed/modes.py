"""The linear model along one eigenvalue of `A`, which its closed forms share, on isotropic data and on others.

With `e = exp(-(a + lam) t)` and `f = (1 - e)/(a + lam)` the flow is `theta_t = e xi + h theta* + f X^T z / delta` with
`h = start_overlap e + f a` along an eigenvector of `A = X^T X / delta` with eigenvalue `a`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Array = np.ndarray


class Modes(NamedTuple):
    """`e`, `f` and `h`, `(T, N)` each, of eigenvalues `a (N,)`."""

    decay: Array
    integral: Array
    aligned: Array


def modes(a: Array, ridge: float, start_overlap: float, times: Array) -> Modes:
    """Of real eigenvalues, or of the complex points of a contour around them."""
    x = (a + ridge) * times[:, None]
    decay, integral = np.exp(-x), times[:, None] * phi(x)
    return Modes(decay, integral, start_overlap * decay + integral * a)


def curves(q: Array, m: Array, residual: Array, teacher_size: float, noise_variance: float) -> dict[str, Array]:
    """The four curves from self-overlap, overlap and twice the train risk; `teacher_size` is `E[r*^2]`."""
    return {
        "self_overlap": q,
        "overlap": m,
        "train_risk": 0.5 * residual,
        "test_risk": 0.5 * (q - 2.0 * m + teacher_size + noise_variance),
    }


def phi(x: Array) -> Array:
    """`(1 - e^{-x}) / x`, 1 at zero."""
    safe = np.where(x == 0, 1.0, x)
    return np.where(x == 0, 1.0, -np.expm1(-safe) / safe)
