"""Regression of Gaussian variables on others of each history: small Cholesky factors and forward substitution, histories last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

Array = Any


def small_root(matrix: Array) -> Array:
    """Cholesky factor of `matrix (k, k, P)`, small k; what is negative by rounding counts as zero."""
    k = matrix.shape[0]
    rows: list[list[Array]] = []
    for a in range(k):
        row: list[Array] = []
        for b in range(a):
            rest = matrix[a, b] - sum((row[c] * rows[b][c] for c in range(b)), jnp.zeros_like(matrix[a, b]))
            row.append(jnp.where(rows[b][b] > 0, rest / jnp.where(rows[b][b] > 0, rows[b][b], 1.0), 0.0))
        row.append(jnp.sqrt(jnp.maximum(matrix[a, a] - sum((v * v for v in row), jnp.zeros_like(matrix[a, a])), 0.0)))
        rows.append(row + [jnp.zeros_like(row[0])] * (k - 1 - a))
    return jnp.stack([jnp.stack(row) for row in rows])


def in_stages(body: Callable[[int], Callable], size: int, upto: Array, state: Array, axis: int) -> Array:
    """`state = body(width)(i, state)` for `i < upto`, where step `i` needs only the entries up to `i` of `axis`: early steps
    are run on the first half of it, since the work is in what they read."""
    half = -(-size // 2)
    part = lax.fori_loop(0, jnp.minimum(upto, half), body(half), lax.slice_in_dim(state, 0, half, axis=axis))
    state = lax.dynamic_update_slice_in_dim(state, part, 0, axis)
    return lax.fori_loop(half, upto, body(size), state)


def regress(cov: Array, factor: Callable[[Array, int], Array], inverse: Array, items: Array) -> Array:
    """Coefficients `(c, Jk, P)` of `c` variables on the normals behind the items, from their covariances `cov (c, Jk, P)`
    with the items' values: forward substitution through the first `items` of them; `factor(i, n)` is row `i (n, P)`."""

    def body(width):
        def column(i, b):
            known = (b * factor(i, width)).sum(1)
            value = (lax.dynamic_index_in_dim(cov, i, 1, False) - known) * lax.dynamic_index_in_dim(inverse, i, 0, False)
            return lax.dynamic_update_index_in_dim(b, value, i, 1)

        return column

    return in_stages(body, cov.shape[1], items, jnp.zeros_like(cov), 1)
