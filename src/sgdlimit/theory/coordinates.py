"""A coordinate's law, eq. (2), and through it the Gaussian process of a sample.

With a ridge everything is linear: `theta_t = M_t g* + R(t,0) xi + int R(t,s) dU_s` with independent Gaussian parts, so
`C = E[theta theta^T]` is a Gram matrix, positive semi-definite whatever the errors of `R` and of the noise's covariance.
The kernel equations then need first derivatives only,

    d/dt M_t     = -lam M_t - E[l_t g*^T]                     (r* = root(rho) g*)
    d/dt R(t,s)  = -lam R(t,s) - E[H_t chi(t,s)]

which are THEORY's equations for `Cs` and `R`: the first because `dTheta = -h dt - X^T dG` and `x^T theta* = r*`, the
second because a kick of theta at `s` moves every `w_t` by `R(t,s)` and `chi` is what a sample makes of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from .gaussian import extend_factor
from .sample import Averages, Forcing, Grid

Array = Any


class Start(NamedTuple):
    """The start `theta_0 = M g* + spread xi`, the ridge and n/d."""

    M: Array  # (k, k_star)
    spread: Array  # (k, k)
    ridge: Array  # ()
    sample_ratio: Array  # ()


class Linear(NamedTuple):
    """Coordinates under a ridge; rows of nodes are filled as the march goes on."""

    start: Start
    R: Array  # (N + 1, N + 1, k, k), s <= t
    M: Array  # (N + 1, k, k_star)
    V: Array  # (N, k, N, k): factor of the covariance of the noise increment of each cell
    live: Array  # (N, k): its non-null pivots


def begin(start: Start, cells: int) -> Linear:
    """Coordinates at time zero, with room for `cells` cells."""
    k, k_star = start.M.shape
    return Linear(
        start=start,
        R=jnp.zeros((cells + 1, cells + 1, k, k)).at[0, 0].set(jnp.eye(k)),
        M=jnp.zeros((cells + 1, k, k_star)).at[0].set(start.M),
        V=jnp.zeros((cells, k, cells, k)),
        live=jnp.zeros((cells, k), bool),
    )


def normals(state: Linear, node: Array) -> Array:
    """theta at a node in independent standard normals `(g*, xi, one k-vector per cell)`: `(k, k_star + k + N k)`.

    A noise increment spread evenly over its cell meets the mean response of the cell's two ends.
    """
    cells, k = state.live.shape
    row = lax.dynamic_index_in_dim(state.R, node, 0, False)
    met = 0.5 * (row[:-1] + row[1:]) * (jnp.arange(cells) < node)[:, None, None]
    noise = jnp.einsum("cij,cjdm->idm", met, state.V).reshape(k, cells * k)
    return jnp.concatenate([lax.dynamic_index_in_dim(state.M, node, 0, False), row[0] @ state.start.spread, noise], 1)


def advance(state: Linear, grid: Grid, node: Array, before: Averages, after: Averages) -> Linear:
    """Rows `node + 1` of `R` and `M` by the trapezoid rule from the averages at both ends (twice the first end's: Euler)."""
    at = lambda array, i: lax.dynamic_index_in_dim(array, i, 0, False)
    dt, decay = at(grid.spacing, node), 0.5 * at(grid.spacing, node) * state.start.ridge
    nodes, k = state.R.shape[0], state.R.shape[2]
    step = lambda now, slope0, slope1: ((1.0 - decay) * now - 0.5 * dt * (slope0 + slope1)) / (1.0 + decay)
    # A direction that starts at `node` has no row of its own before: its slope there is E[H], in both averages' terms.
    row = step(at(state.R, node), before.h_chi, after.h_chi)
    row = jnp.where((jnp.arange(nodes) <= node)[:, None, None], row, 0.0)
    row = lax.dynamic_update_index_in_dim(row, jnp.eye(k), node + 1, 0)
    m = step(at(state.M, node), before.l_gstar, after.l_gstar)
    return state._replace(
        R=lax.dynamic_update_index_in_dim(state.R, row, node + 1, 0),
        M=lax.dynamic_update_index_in_dim(state.M, m, node + 1, 0),
    )


def add_noise(state: Linear, node: Array, row: Array) -> Linear:
    """Extend the noise by the increment of cell `node`, of covariance `row (k, N, k)` with the cells so far."""
    V, live = extend_factor(state.V, state.live, node, row)
    return state._replace(V=V, live=live)


def forcing(state: Linear, node: Array) -> Forcing:
    """Directions of the response: a unit kick of theta at node `x` moves `w_t` by `R(t, t_x)`."""
    rows = jnp.moveaxis(lax.dynamic_slice_in_dim(state.R, node, 2, 0), 1, 2)  # (2, k, X, k)
    old = (jnp.arange(state.R.shape[0]) <= node)[None, :, None]
    return Forcing(rows[0], rows[1] * old, rows[1])
