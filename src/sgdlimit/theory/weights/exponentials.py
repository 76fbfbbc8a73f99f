"""Averages of exponentials over a cell of `z` memories."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

CLOSED = 2.0  # memories from which on closed forms keep their digits
POINTS, WEIGHTS = (part / 2.0 + shift for part, shift in zip(np.polynomial.legendre.leggauss(16), (0.5, 0.0), strict=True))


def mean_decay(z: float) -> float:
    """`int_0^1 e^-zx dx`."""
    return -math.expm1(-z) / z if z > 1e-8 else 1.0 - 0.5 * z


def first_moment(z: float) -> float:
    """`int_0^1 x e^-zx dx`."""
    return (mean_decay(z) - math.exp(-z)) / z if z > 1e-3 else 0.5 - z / 3.0 + z * z / 8.0


def powers_met(z: Any) -> np.ndarray:
    """`int_0^1 x^n z e^(-z (1 - x)) dx` for `n` of 0, 1, 2, `(3, *z.shape)`: what a velocity at rest makes of a force `x^n`."""
    z = np.asarray(z, dtype=float)[..., None]
    small, large = np.minimum(z, CLOSED), np.maximum(z, CLOSED)
    by_points = [((WEIGHTS * POINTS**n * small * np.exp(small * (POINTS - 1.0))).sum(-1)) for n in range(3)]
    large, none = large[..., 0], -np.expm1(-large[..., 0])
    one = 1.0 - none / large
    return np.where(z[..., 0] <= CLOSED, by_points, [none, one, 1.0 - 2.0 * one / large])


def late_share(z: float) -> float:
    """Weight at the end of a cell of what is linear over it, in the filter's answer there: `1 - int e^-zx`."""
    if z == math.inf:
        return 1.0
    return 1.0 - mean_decay(z) if z > 1e-3 else 0.5 * z - z * z / 6.0


def echo(z: float) -> tuple[float, float]:
    """Of what samples return of a kick at a cell's start: they respond to it only once the filter has passed it on, and theta to them once
    more, so that it grows like `int (1 - E(x - u)) (1 - E(u)) du = x - 2 + (2 + x) E`. Velocity at the end of the cell and the way to
    there under a force of this shape that ends with one, with the memory as unit of time."""
    if z < 1e-2:
        return 0.25 * z, 0.05 * z * z
    E = math.exp(-z)
    shape = z - 2.0 + (2.0 + z) * E
    if z < 1.0:
        x = z * POINTS
        force = x - 2.0 + (2.0 + x) * np.exp(-x)
        velocity, area = z * float(WEIGHTS @ (np.exp(x - z) * force)), z * float(WEIGHTS @ force)
    else:
        velocity, area = z - 3.0 + (3.0 + 2.0 * z + 0.5 * z * z) * E, 0.5 * z * z - 2.0 * z + 3.0 - (3.0 + z) * E
    return velocity / shape, (area - velocity) / shape


def recoil(z: float) -> float:
    """What of a kick spread over a cell moves its own sample, on average over the rest of the cell."""
    return max(1.0 - 2.0 * late_share(z) / z if z > 1e-3 else z / 3.0, 1e-9)


def fluctuations(z: float) -> tuple[float, float]:
    """`Layer.apart`: standard deviations of what noise of one in a cell does to its own sample within it, beyond a recoil of its mean size,
    and of what the filter holds back of it at the end, beyond the mean."""
    held = math.sqrt(unevenness(z))
    if z < 0.1:
        return z / 6.0, held
    pulled = lambda z: mean_decay(z) - first_moment(z)
    return math.sqrt(max(0.5 - 2.0 * pulled(z) + pulled(2.0 * z) - 0.5 * recoil(z) ** 2, 0.0)), held


def unevenness(z: float) -> float:
    """Variance of `e^-zx` over `x` in [0, 1]."""
    if z < 0.02:
        return z * z / 12.0 - z**3 / 12.0
    return mean_decay(2.0 * z) - mean_decay(z) ** 2


def slant(z: float) -> float:
    """Covariance of `x` and `e^(z x)` over `x` in [0, 1], over the standard deviation of the latter."""
    if z < 1e-3:
        return math.sqrt(1.0 / 12.0)
    return (0.5 * mean_decay(z) - first_moment(z)) / math.sqrt(unevenness(z))
