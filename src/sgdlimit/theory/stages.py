"""Runge and Kutta's steps of a user's field for a compiled program, and what a step does to a small change of where it starts.

The stages are a loop: a field written out for each is compiled for each, and what fuses loops computes what stages share once for every
use. Of a loss with a quotient and a root SME's programs took three times as long so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Array = Any


def _stages(field: Callable, r: Array, h: Array, reach: tuple[float, ...], share: tuple[float, ...]) -> Array:
    def one(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        total, slope = state
        slope = field(r + jnp.array(reach)[i] * h * slope)
        return total + jnp.array(share)[i] * slope, slope

    return r + h * lax.fori_loop(0, len(reach), one, (jnp.zeros_like(r), jnp.zeros_like(r)))[0]


# `(field, r, h) -> r` at `h` later; of fourth and of second order.
runge_kutta = partial(_stages, reach=(0.0, 0.5, 0.5, 1.0), share=(1 / 6, 1 / 3, 1 / 3, 1 / 6))
midpoint = partial(_stages, reach=(0.0, 0.5), share=(0.0, 1.0))


def with_jacobian(move: Callable) -> Callable:
    """`move(r)` and its Jacobian, in one pass."""

    def twice(r: Array) -> tuple[Array, Array]:
        after = move(r)
        return after, after

    def both(r: Array) -> tuple[Array, Array]:
        jacobian, after = jax.jacfwd(twice, has_aux=True)(r)
        return after, jacobian

    return both
