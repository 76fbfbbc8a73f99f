"""The linear model along one eigenvalue of `A`, which its closed forms share, on isotropic data and on others.

With `e = exp(-(a + lam) t)` and `f = (1 - e)/(a + lam)` the flow is `theta_t = e xi + h theta* + f X^T z / delta` with
`h = start_overlap e + f a` along an eigenvector of `A = X^T X / delta` with eigenvalue `a`. Through momentum (OPTIMISERS section 2) the
same with the solution of `tau e'' + e' + (a + lam) e = 0` that starts at one and at rest; a kick of the force decays like `g = df/dt`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...errors import refuse
from ...learning.optimisers import Optimizer

Array = np.ndarray


class Parameters(NamedTuple):
    """As the arguments of `linear.linear_model`; `memory` is its optimiser's."""

    sample_ratio: float
    step: Any
    ridge: float
    noise_variance: float
    start_variance: float
    start_overlap: float
    memory: float = 0.0
    temperature: float = 0.0


def memory_of(optimizer: Optimizer | None) -> float:
    """Of the velocity; refuses what does not act linearly."""
    if optimizer is None:
        return 0.0
    if optimizer.gains:
        raise refuse("optimizer", "be a Momentum or None for the closed forms of the linear model", optimizer,
                     "Adam's gain follows the training, so that nothing is linear; sl.solve takes it")  # fmt: skip
    return optimizer.memory


class Modes(NamedTuple):
    """`e`, `f` and `h`, `(T, N)` each, of eigenvalues `a (N,)`."""

    decay: Array
    integral: Array
    aligned: Array


def modes(a: Array, ridge: float, start_overlap: float, times: Array, memory: float = 0.0) -> Modes:
    """Of real eigenvalues, or of the complex points of a contour around them."""
    t = times[:, None]
    if memory:
        decay, integral, _ = moved(a + ridge, t, memory)
    else:
        x = (a + ridge) * t
        decay, integral = np.exp(-x), t * phi(x)
    return Modes(decay, integral, start_overlap * decay + integral * a)


def kicked(rate: Array, t: Array, memory: float = 0.0) -> Array:
    """`g(t)`, what is left of a unit kick of the force after `t`, at the rate `a + lam`."""
    return moved(rate, t, memory)[2] if memory else np.exp(-rate * t)


def moved(rate: Array, t: Array, memory: float) -> tuple[Array, Array, Array]:
    """`e`, `f` and `g` at a rate through a velocity. All three are even in the gap of the two exponents, so that nothing happens where it
    vanishes and motion turns into oscillation."""
    root = np.sqrt(1.0 - 4.0 * memory * rate + 0j)
    faster = 2.0 / (1.0 + root)  # the slow exponent in units of -rate
    x, falling = faster * rate * t, t * phi(root / memory * t)
    slow = np.exp(-x)
    e, f, g = 1.0 * slow + slow * faster * rate * falling, faster * (t * phi(x) - slow * falling), slow * falling / memory
    return (e, f, g) if np.iscomplexobj(rate) else (e.real, f.real, g.real)


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
