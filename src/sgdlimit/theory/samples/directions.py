"""The response of a loss with kinks: every direction followed forwards on both sides, path by path.

What a path does to a direction is no linear map of it then (see `differences`), so each has its own pushes, deposited on the nodes and fed
back as the path's own kicks are. Layout as in `sample`; the two signs of a direction are twice as many columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from ..averages import BLOCK, feedback_of, forgotten, shared
from .differences import difference, middle, signed, sizes, two_sided
from .kicks import Functions

Array = Any

STRIP = 16  # directions whose deposits are summed together


class Directions(NamedTuple):
    """What later nodes need of the directions' past, in all paths."""

    deposit: Array  # (A, k, X, 2k, P): pushes shared between the nodes beside them
    memory: Array  # (k, X, 2k, P): feedback at the present node
    apart: Array  # (X, 2k): distances at which w is shifted along each direction
    held: Array | None  # (k, X, 2k, P): pushes that an optimiser's filter has not passed on, less the directions' own layer


class Pushed(NamedTuple):
    """Directions at the end of a cell."""

    memory: Array
    early: Array  # pushes deposited on the node before the cell
    late: Array  # and on the node after it
    apart: Array
    held: Array | None


def blank(own: Array, directions: int, paths: int, filtered: bool) -> Directions:
    """At time zero, where the distance is `own (2k,)`."""
    columns = len(own) // 2, directions, len(own), paths
    padded = -(-directions // BLOCK) * BLOCK
    apart, held = jnp.broadcast_to(own, (directions, len(own))), jnp.zeros(columns) if filtered else None
    return Directions(jnp.zeros((padded, *columns)), jnp.zeros(columns), apart, held)


def fed_back(row: Array, deposit: Array, upto: Array) -> Array:
    """`feedback` for the deposits `(A, k, X, k, Q)` of directions, in strips: a direction has none before its own node but those of a
    hat, which rises in the cell before it."""
    _, k, x, m, q = deposit.shape

    def strip(first: int) -> Array:
        size = BLOCK, k, min(STRIP, x - first), m, q
        part = lambda block: lax.dynamic_slice(deposit, (block * BLOCK, 0, first, 0, 0), size)
        return feedback_of(part, row, size[1:], max(first - 1, 0) // BLOCK, upto)

    return jnp.concatenate([strip(first) for first in range(0, x, STRIP)], 1)


def asked(was: Directions, row: Array, distance: Array, cell: Any, here: Array) -> tuple[Array, Array, Array | None, Array]:
    """The response at both ends of cell `here`, did the cell do nothing, what is held back of it, and the distances."""
    memory = fed_back(row, was.deposit, here)
    apart = was.apart.at[here + 1].set(signed(sizes(distance, cell.normals)))  # a hat that arrives there moves w in this cell
    return two_sided(cell.start)[..., None] - was.memory, two_sided(cell.end)[..., None] - memory, was.held, apart


def arrived(cell: Any, here: Array, asked_for: tuple, within: Callable, t0: Array, t1: Array, held: Array | None) -> Pushed:
    """At the end of cell `here`, whose pushes are `t0`, `t1` of them late."""
    _, ahead, _, apart = asked_for
    memory = two_sided(cell.end)[..., None] - ahead + within(jnp.ones(()), t0, t1)
    if held is not None:  # a direction that is a kick has a layer of its own; added: a hat that rises there has pushed already
        held = held.at[:, here + 1].add(-cell.layer.begins * two_sided(jnp.eye(len(held)))[..., None])
    return Pushed(memory, t0 - t1, t1, apart, held)


def slopes(
    functions: Functions,
    r: Array,
    l: Array,  # noqa: E741
    y: Any,
    weighed: Callable,
    chi: Array,
    apart: Array,
    own: Array,
) -> tuple[Array, Array]:
    """`E[H] (k, k)` and `E[H chi] (X, k, k)`, where the gradient is `l` and the distance at the node `own (2k,)`."""
    k, p = r.shape
    unit = jnp.broadcast_to(two_sided(jnp.eye(k))[..., None], (k, 2 * k, p))
    quotient = lambda chi, size: weighed(difference(lambda x: functions.gradient(x, y), l, r, chi, size)).mean(-1)
    return middle(quotient(unit, own), 1), jnp.moveaxis(middle(quotient(chi, apart), 2), 1, 0)


def settle(was: Directions, now: Pushed, here: Array) -> Directions:
    """After the last pass over cell `here`."""
    return Directions(shared(was.deposit, now.early, now.late, here), now.memory, now.apart, now.held)


def look(was: Directions, back: Array, reach: int, padded: int) -> Directions:
    """Remember `reach` nodes, without the first `back` of those so far."""
    apart = forgotten(was.apart, 0, reach, back)
    return Directions(
        forgotten(forgotten(was.deposit, 0, padded, back), 2, reach, back),
        forgotten(was.memory, 1, reach, back),
        jnp.where(apart == 0.0, 1.0, apart),  # of directions yet to start, which move nothing
        None if was.held is None else forgotten(was.held, 1, reach, back),
    )
