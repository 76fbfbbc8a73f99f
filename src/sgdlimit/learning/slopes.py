"""The loss, how it pushes a sample, and how that changes: what compiled programs are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..functions import key
from .dynamics import Dynamics

Array = Any
Problem = Any  # a `problem.Problem`; that asks here for its slopes, so it stands above


class Slopes(NamedTuple):
    """Of one sample, each a function of `r (k,)` and `y`. The same functions of a user always give the same object, so that what is
    compiled for it serves all problems that have them.

    `gradient (k,)` is that of `loss`, or what a user puts in its place (OPTIMISERS section 5); `hessian (k, k)` is its derivative in `r`,
    which is not symmetric then.
    """

    loss: Callable[[Array, Any], Array]
    gradient: Callable[[Array, Any], Array]
    hessian: Callable[[Array, Any], Array]

    def __hash__(self) -> int:
        return id(self.gradient)

    def __eq__(self, other: object) -> bool:
        return self is other


@lru_cache(maxsize=64)
def _slopes(loss: Callable, update: Callable | None) -> Slopes:
    if update is None:
        return Slopes(loss, jax.grad(loss), jax.hessian(loss))
    return Slopes(loss, update, jax.jacfwd(update))


def slopes(loss: Callable, update: Callable | None = None) -> Slopes:
    """Of a problem's `loss`, with its `update` in the place of the gradient."""
    return _slopes(key(loss), None if update is None else key(update))


@lru_cache(maxsize=64)
def clipped(update: Callable, most: float) -> Callable:
    """`update(r, y) (k,)`, shortened to a norm of `most` where it is longer."""

    def short(r, y):
        pushed = update(r, y)
        square = jnp.sum(pushed**2)
        far = square > most**2
        return pushed * jnp.where(far, most / jnp.sqrt(jnp.where(far, square, 1.0)), 1.0)

    return short


def as_trained(problem: Problem, dynamics: Dynamics) -> Problem:
    """The problem whose `update` is what the dynamics makes of each sample's: clipped, if it clips. Theory and simulation go on with it,
    and never see `clip`. The functions in it are the same objects for the same arguments, as is the problem where nothing is clipped."""
    if dynamics.clip is None:
        return problem
    return replace(problem, update=clipped(problem.slopes.gradient, dynamics.clip))
