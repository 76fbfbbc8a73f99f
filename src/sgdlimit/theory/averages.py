"""What samples and coordinates say to each other: averages at a node, and sums over what nodes remember."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

Array = Any

BLOCK = 4  # nodes whose deposits are summed in one sweep over the paths


class Averages(NamedTuple):
    """Plain-law averages at one node; a leading axis of nodes once collected."""

    l_gstar: Array  # E[l g*^T] (k, k_star), with r* = root(rho) g*
    l_kicks: Array  # E[l_t G_c^T] with the total kick G_c of every earlier cell (N, k, k)
    l_l: Array  # E[l l^T] (k, k)
    l_r: Array  # E[l r^T] (k, k)
    h: Array  # E[H] (k, k): Gamma
    h_chi: Array  # E[H chi] per direction (X, k, k)
    risk: Array  # E[L]
    # Behind a filter only: E[l_t held_t^T] (k, k) with what it holds back of a sample's kicks; and of paths E[l g^T] (k, dims) with the
    # normals behind w, of histories E[dl_t / dw_s] (N + 1, k, k), gathered at nodes, and (k, k) times `E(t - s)`, see `weights.filters`.
    l_held: Any = None
    l_normals: Any = None
    l_w: Any = None
    l_w_late: Any = None
    pull: Any = None  # (2, p): mean and mean square of the loss's gradient in numbers that are trained along; None without any


class Layer(NamedTuple):
    """What samples are told of an optimiser's filter over one cell, see `weights.filters`."""

    gain: Array  # (2, k, k): what of a kick is held back at first, at both ends
    clock: Array  # (2,): time at both ends, in units of the memory
    recoil: Array  # (k,): what a smooth kick spread over the cell does to its own sample within the cell
    apart: (
        Array  # (2,): standard deviations, for a diffusion's noise of one in the cell, of what its kicks do apart from their mean effect:
    )
    # on average within the cell, and on what is held back at its end
    begins: Array  # (): one where directions are kicks, each with a layer of its own; zero where they are hats


def times(matrix: Array, vector: Array) -> Array:
    """`matrix (i, j[, P])` times `vector (j, ..., P)` for small i and j: unrolled over j, so that it stays elementwise over
    paths (a batched product or a reduction over j is several times slower)."""
    extra = vector.ndim - 1 - (matrix.ndim - 2)
    columns = matrix.reshape(matrix.shape[:2] + (1,) * extra + matrix.shape[2:])
    total = columns[:, 0] * vector[0]
    for j in range(1, vector.shape[0]):
        total = total + columns[:, j] * vector[j]
    return total


def feedback(row: Array, deposit: Array, upto: Array) -> Array:
    """`sum_a row[a] deposit[a]` over nodes `a <= upto`, `row (A, i, j)`, `deposit (A, j, ...)`; it costs what is filled."""
    return feedback_of(lambda block: lax.dynamic_slice_in_dim(deposit, block * BLOCK, BLOCK, 0), row, deposit.shape[1:], 0, upto)


def feedback_of(part: Callable[[Array], Array], row: Array, shape: tuple[int, ...], first: int, upto: Array) -> Array:
    """`feedback` of deposits that `part(block)` gives, from the block `first` on."""

    def add(block, total):
        deposit, weight = part(block), lax.dynamic_slice_in_dim(row, block * BLOCK, BLOCK, 0)
        for b in range(BLOCK):
            total = total + times(weight[b], deposit[b])
        return total

    return lax.fori_loop(first, upto // BLOCK + 1, add, jnp.zeros(shape))


def products(left: Array, table: Array, upto: Array) -> Array:
    """`sum_p left[i, p] table[c, j, p]` `(N, i, j)` for the entries `c < upto` of `table (N, j, P)`, zero for those after; it costs what is
    filled."""
    n, size = len(table), BLOCK if len(table) % BLOCK == 0 else 1

    def put(block, total):
        part = lax.dynamic_slice_in_dim(table, block * size, size, 0)
        return lax.dynamic_update_slice_in_dim(total, jnp.einsum("ip,cjp->cij", left, part), block * size, 0)

    return lax.fori_loop(0, -(-upto // size), put, jnp.zeros((n, len(left), table.shape[1])))


def known_row(response: Array, here: Array, nodes: int) -> Array:
    """`response (X, k, k)` up to the node `here`, `(nodes, k, k)`, zero beyond."""
    known = jnp.arange(len(response)) <= here
    return jnp.pad(response * known[:, None, None], [(0, nodes - len(known)), (0, 0), (0, 0)])


def shared(deposit: Array, early: Array, late: Array, here: Array) -> Array:
    """A deposit with what a cell has left on the nodes `here` and after it."""
    early = early + lax.dynamic_index_in_dim(deposit, here, 0, False)
    deposit = lax.dynamic_update_index_in_dim(deposit, early, here, 0)
    return lax.dynamic_update_index_in_dim(deposit, late, here + 1, 0)


def forgotten(array: Array, axis: int, size: int, back: Array) -> Array:
    """`size` entries of `axis`, without the first `back` of those so far; zeros for those to come."""
    array = jnp.pad(array, [(0, max(size - n, 0) if i == axis else 0) for i, n in enumerate(array.shape)])
    late = jnp.arange(array.shape[axis]) < array.shape[axis] - back
    kept = jnp.where(late.reshape(-1, *[1] * (array.ndim - 1 - axis)), jnp.roll(array, -back, axis), 0.0)
    return lax.slice_in_dim(kept, 0, size, axis=axis)
