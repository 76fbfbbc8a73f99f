"""One causal pass through time: coordinates and sample paths marched together, second order in the node spacing.

Per cell: predict the kernels' next row, carry the paths across and average, correct by the trapezoid rule, carry and
average again. The loop knows neither the dynamics (see `sample`) nor the law of a coordinate (see `coordinates`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from . import coordinates as law
from .sample import Averages, Draws, Functions, Grid, average, cross_cell, empty_paths, settle

Array = Any


class Marched(NamedTuple):
    """Kernels and averages on the nodes; rows beyond `n_cells` are zero."""

    R: Array  # (N + 1, N + 1, k, k)
    L: Array  # (N + 1, k, k_star + k + N k): w at the nodes in independent standard normals
    averages: Averages


def _noise_row(grid: Grid, node: Array, before: Averages, after: Averages, kicks: Array, ratio: Array, natural: bool) -> Array:
    """Covariance `(k, N, k)` of the noise increment of cell `node` with those up to it: `d Cov(U) = delta E[dG dG^T]`.

    Averaged over the jump's intensity, `E[l_t G_c^T] dt` plus `eta E[l l^T] dt` on the diagonal; or, `natural`, as the
    second moment of the kicks themselves, which is positive semi-definite to rounding. The natural form is noisy when
    kicks are rare and the right one when they are many or smooth.
    """
    at = lambda array, i: lax.dynamic_index_in_dim(array, i, 0, False)
    if natural:
        own = at(kicks, node)
        return ratio * jnp.einsum("ip,cjp->icj", own, kicks) / kicks.shape[-1]
    dt = at(grid.spacing, node)
    row = 0.5 * dt * (before.l_kicks + after.l_kicks)
    inner = at(after.l_kicks, node)
    white = at(grid.step, node) * before.l_l + at(grid.step, node + 1) * after.l_l
    return jnp.moveaxis(lax.dynamic_update_index_in_dim(row, 0.5 * dt * (inner + inner.T + white), node, 0), 0, 1)


def march(functions: Functions, natural: bool, start: law.Start, grid: Grid, draws: Draws) -> Marched:
    """March from node 0 to `grid.n_cells`."""
    k, k_star = start.M.shape
    cells = grid.spacing.shape[0]
    put = lambda array, x, i: lax.dynamic_update_index_in_dim(array, x, i, 0)
    state = law.begin(start, cells)
    zero = jnp.zeros((), jnp.int32)
    L0 = law.normals(state, zero)
    paths = empty_paths(k, cells, cells + 1, L0 @ draws.gauss)
    chi = jnp.zeros_like(paths.tangent_memory).at[:, 0].set(jnp.eye(k)[:, :, None])
    first = average(functions, paths.w, chi, draws, paths.kicks, k_star)
    L = jnp.zeros((cells + 1, *L0.shape)).at[0].set(L0)
    collected = jax.tree.map(lambda x: jnp.zeros((cells + 1, *x.shape)).at[0].set(x), first)

    def cell(node, carry):
        state, paths, L, collected, before = carry
        dt = lax.dynamic_index_in_dim(grid.spacing, node, 0, False)
        eta = [lax.dynamic_index_in_dim(grid.step, i, 0, False) for i in (node, node + 1)]

        def one_pass(_, inner):
            state, after, row, *_ = inner
            state = law.add_noise(law.advance(state, grid, node, before, after), node, row)
            w = law.normals(state, node + 1) @ draws.gauss
            rate = 0.5 * (eta[0] * before.l_l + eta[1] * after.l_l)
            response = lax.dynamic_index_in_dim(state.R, node + 1, 0, False)
            arrival = cross_cell(functions.kick, paths, draws, grid, node, w, response, rate, law.forcing(state, node))
            kicks = put(paths.kicks, arrival.early + arrival.late, node)
            after = average(functions, arrival.r, arrival.chi, draws, kicks, k_star)
            row = _noise_row(grid, node, before, after, kicks, start.sample_ratio, natural)
            return state, after, row, w, arrival

        # The predictor takes the averages to stand still and the kick to be smooth.
        smooth = dt / start.sample_ratio
        still = before._replace(l_kicks=put(before.l_kicks, smooth * before.l_l, node))
        row = _noise_row(grid, node, before, still, paths.kicks, start.sample_ratio, False)
        shapes = jax.eval_shape(one_pass, 0, (state, before, row, paths.w, None))[4]
        blank = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        state, after, row, w, arrival = lax.fori_loop(0, 2, one_pass, (state, before, row, paths.w, blank))
        state = law.add_noise(state, node, row)
        L = put(L, law.normals(state, node + 1), node + 1)
        collected = jax.tree.map(lambda all, one: put(all, one, node + 1), collected, after)
        return state, settle(paths, node, w, arrival), L, collected, after

    state, _, L, collected, _ = lax.fori_loop(0, grid.n_cells, cell, (state, paths, L, collected, first))
    return Marched(state.R, L, collected)
