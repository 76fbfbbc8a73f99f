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
    which is not symmetric then. Where numbers are trained along, `y` is a `trained.Labelled`, and `pull (p,)` is the gradient of `loss` in
    them.
    """

    loss: Callable[[Array, Any], Array]
    gradient: Callable[[Array, Any], Array]
    hessian: Callable[[Array, Any], Array]
    pull: Callable[[Array, Any], Array] | None = None

    def __hash__(self) -> int:
        return id(self.gradient)

    def __eq__(self, other: object) -> bool:
        return self is other


@lru_cache(maxsize=64)
def _slopes(loss: Callable, update: Callable | None, along: bool) -> Slopes:
    pull = None
    if along:
        loss, update = _of_labelled(loss), None if update is None else _of_labelled(update)
        pull = lambda r, seen: jax.grad(lambda a: loss(r, seen._replace(a=a)))(seen.a)
    if update is None:
        return Slopes(loss, jax.grad(loss), jax.hessian(loss), pull)
    return Slopes(loss, update, jax.jacfwd(update), pull)


def _of_labelled(function: Callable) -> Callable:
    return lambda r, seen: function(r, seen.y, seen.a)


def slopes(loss: Callable, update: Callable | None = None, along: bool = False) -> Slopes:
    """Of a problem's `loss`, with its `update` in the place of the gradient; `along` tells that both take trained numbers as well."""
    return _slopes(key(loss), None if update is None else key(update), along)


@lru_cache(maxsize=64)
def _first_gradient(loss: Callable) -> Callable:
    return jax.grad(loss)


@lru_cache(maxsize=64)
def clipped(update: Callable, most: float) -> Callable:
    """`update(r, ...) (k,)`, shortened to a norm of `most` where it is longer."""

    def short(r, *labels):
        pushed = update(r, *labels)
        square = jnp.sum(pushed**2)
        far = square > most**2
        return pushed * jnp.where(far, most / jnp.sqrt(jnp.where(far, square, 1.0)), 1.0)

    return short


def as_trained(problem: Problem, dynamics: Dynamics) -> Problem:
    """The problem whose `update` is what the dynamics makes of each sample's: clipped, if it clips. Theory and simulation go on with it,
    and never see `clip`. The functions in it are the same objects for the same arguments, as is the problem where nothing is clipped."""
    if dynamics.clip is None:
        return problem
    update = _first_gradient(key(problem.loss)) if problem.update is None else key(problem.update)
    return replace(problem, update=clipped(update, dynamics.clip))


@lru_cache(maxsize=64)
def _at(function: Callable, numbers: tuple[float, ...]) -> Callable:
    """A function of `r`, `y` and `a` at one `a`."""
    return lambda r, y: function(r, y, jnp.array(numbers))


def still(problem: Problem) -> Problem:
    """The problem itself, or where no rate is positive the one in whose functions these numbers are constants: it is solved and trained to
    the last bit as if the loss had never had them."""
    trained = problem.trained
    if trained is None or any(trained.rate):
        return problem
    held = lambda function: _at(key(function), trained.start)
    update = None if problem.update is None else held(problem.update)
    return replace(problem, loss=held(problem.loss), update=update, trained=None)
