"""The Gaussian processes of eq. (1) and (2), sampled row by row through a factor that survives rank deficiency."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax

Array = Any

PIVOT = 1e-10  # a pivot below this fraction of its variance is rounding: the process is rank-deficient there


def extend_factor(factor: Array, live: Array, item: Array, row: Array) -> tuple[Array, Array]:
    """Append one item of `k` variables to a Cholesky factor that skips null pivots.

    `factor (n, k, n, k)` lower triangular, `live (n, k)` its non-null pivots, `row (k, n, k)` the covariance of the new
    variables with every item up to and including `item` (what lies beyond is ignored). A pivot below `PIVOT` of its
    variance counts as zero: an unpivoted factor blows up once the process is numerically rank-deficient, as smooth
    flows are (THEORY section 5, point 1). The covariances fed here are second moments of actual samples wherever the
    process is smooth, hence positive semi-definite to rounding, which is what makes the small pivots harmless.
    """
    n, k = live.shape
    triangle = factor.reshape(n * k, n * k)
    alive = live.reshape(n * k)
    triangle = triangle + jnp.diag(jnp.where(alive, 0.0, 1.0 - jnp.diagonal(triangle)))
    block = lax.dynamic_index_in_dim(row, item, 1, False)
    earlier = (row * (jnp.arange(n) < item)[None, :, None]).reshape(k, n * k)
    past = lax.linalg.triangular_solve(triangle, earlier.T, left_side=True, lower=True)
    past = jnp.where(alive[:, None], past, 0.0).T
    inner, good = _small_factor(block - past @ past.T, PIVOT * jnp.diagonal(block))
    full = lax.dynamic_update_slice(past, inner, (jnp.zeros((), item.dtype), item * k)).reshape(k, n, k)
    return lax.dynamic_update_index_in_dim(factor, full, item, 0), lax.dynamic_update_index_in_dim(live, good, item, 0)


def _small_factor(matrix: Array, smallest: Array) -> tuple[Array, Array]:
    """Cholesky factor of a `(k, k)` matrix (small k, unrolled) that skips pivots below `smallest (k,)`."""
    k = matrix.shape[0]
    factor, good = jnp.zeros((k, k)), jnp.zeros(k, bool)
    for a in range(k):
        new = jnp.zeros(k)
        for b in range(a):
            value = (matrix[a, b] - jnp.dot(new, factor[b])) / jnp.where(good[b], factor[b, b], 1.0)
            new = new.at[b].set(jnp.where(good[b], value, 0.0))
        pivot = matrix[a, a] - jnp.dot(new, new)
        fine = pivot > jnp.maximum(smallest[a], 1e-300)
        factor = factor.at[a].set(new.at[a].set(jnp.where(fine, jnp.sqrt(jnp.where(fine, pivot, 1.0)), 0.0)))
        good = good.at[a].set(fine)
    return factor, good


def psd_root(matrix: Array) -> Array:
    """A square root of a small positive semi-definite matrix; rounding below zero counts as zero."""
    if matrix.shape[0] == 1:
        return jnp.sqrt(jnp.maximum(matrix, 0.0))
    values, vectors = jnp.linalg.eigh(matrix)
    return vectors * jnp.sqrt(jnp.maximum(values, 0.0))
