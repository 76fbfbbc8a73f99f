"""The response of a loss with kinks, by finite differences of whole paths.

What the limit asks of the second derivative is the mean of the derivative of `l(r_t)` in a shift of `w` along a direction `f`,

    E[H_t chi_t[f]] = d/de E[l(r_t)] for w -> w + e f          (Gamma_t, Rl(t,s) and all products in between: THEORY section 2)

With kinks the derivative of one path is not the derivative of the mean: what a path does when it is carried across a kink,
at `t` or at any jump before it, is lost. The mean is smooth all the same, so both sides are followed at a finite distance `+-e`,
beside the path itself and on the same random numbers:

    chi[+-](t) = f(t) - sum_u R(t,u) m_u D[+-](u),      D[+-] = (l(r +- e chi[+-]) - l(r)) / (+-e)

which is the derivative with `H chi` replaced by a difference. Its error is of second order in `e`, and `e` is proportional to the
spacing of the nodes: the extrapolation over resolutions takes both away, and the reported error of discretisation has both. (On the
absolute loss halving all `e` moved no curve by more than its sampling error, 0.05%.)

Layout: paths last, the two signs in turn as twice as many columns: `(..., 2k, P)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...learning.kinks import least_scale
from ...learning.problem import Problem

Array = Any

WORDS = "the gradient of the loss jumps: responses are differences over whole paths, on both sides of each kink"  # for diagnostics

# The finest distance in standard deviations of w, at `USUAL` cells, and at most. The variance of a difference is inverse to its
# distance, its error after extrapolation goes with the fourth power.
DISTANCE, USUAL, FARTHEST = 0.12, 16, 0.17
SMALLEST = 1e-6


def grid_distance(problem: Problem, cells: int, finest: int) -> np.ndarray:
    """`distance` on a grid of `cells` cells when the finest of its three resolutions has `finest`."""
    return distance(problem, min(DISTANCE * (USUAL / finest) ** 0.5, FARTHEST) * finest / cells)


def distance(problem: Problem, share: float) -> np.ndarray:
    """What `sizes` needs to know, `(2, k)`: the share of a standard deviation of w, and the least standard deviation."""
    least = least_scale(problem) if problem.kinks else np.zeros(problem.k)
    return np.stack([np.full(problem.k, share), least])


def sizes(distance: Array, normals: Array) -> Array:
    """Distances `(..., k)` for `w (..., k, dims)` in independent normals."""
    return distance[0] * jnp.sqrt((normals**2).sum(-1) + distance[1] ** 2)


def two_sided(columns: Array, axis: int = -1) -> Array:
    """Directions of both signs from directions `(..., k, ...)` along `axis`."""
    return jnp.concatenate([columns, columns], axis)


def signed(sizes: Array, axis: int = -1) -> Array:
    """Distances of both signs from positive ones along `axis`."""
    sizes = jnp.maximum(sizes, SMALLEST)
    return jnp.concatenate([sizes, -sizes], axis)


def middle(two: Array, axis: int) -> Array:
    """The mean of both sides along `axis`: the central difference."""
    k = two.shape[axis] // 2
    first, second = (jax.lax.slice_in_dim(two, a, a + k, axis=axis) for a in (0, k))
    return 0.5 * (first + second)


def difference(function: Callable[[Array], Array], here: Array, r: Array, chi: Array, size: Array) -> Array:
    """`(f(r + e chi) - f(r)) / e` for every direction: `r (k, P)`, `here = f(r)`, `chi (k, ..., P)`, `size (...)` or `(..., P)`."""
    shape, p = chi.shape[1:-1], r.shape[-1]
    sizes = jnp.broadcast_to(size if size.ndim > len(shape) else size[..., None], (*shape, p)).reshape(-1, p)
    one = lambda c, e: (function(r + e * c) - here) / e
    return jax.vmap(one, (1, 0), 1)(chi.reshape(len(chi), -1, p), sizes).reshape(len(here), *shape, p)
