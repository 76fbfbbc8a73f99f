"""The response of a smooth loss, read backwards through what cells do to a path.

What the kernels ask of the response is `E[H_t chi_t[f]]` for every direction `f` in which w may be shifted, and `chi` is linear in `f`. A
cell turns what the response would be at its two ends, did the cell do nothing (behind a filter also what is held back of it), into
pushes, which it leaves on the nodes beside it; later nodes are fed these back through `R`. So a cell is a small matrix for each path,
its turn, and `chi_t` is a sum over cells of a row times the direction's values there. That row is the same for all directions: it is
found from `t` backwards, path by path, and only its mean over paths meets the directions.

It takes as many products as to follow every direction forwards, `n^2 / 2` of a path at node `n`, but as products of matrices, strips of
nodes by paths; and what is kept of a path grows with its nodes, not with their square. To follow 192 directions over as many cells took
7.4 ms a path, this takes .4.

Layout: paths last, in chunks small enough for the cache. `o` pushes and what is held back, `x` what these come from, `i` rows of `H`,
`j, m` student rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from ..averages import forgotten, known_row
from .held import spread_evenly

Array = Any

# Nodes gone through one by one between two products of matrices; all of them where they are few; nodes that a product sums over.
STRIP, FEW, WIDE = 8, 16, 32
CHUNK = 256  # paths
# What a turn leaves, and what that is the answer to: pushes on both nodes, of the response at both ends; with what is held back, of itself
# too. Where all of a cell's push comes in its middle and both nodes share it: that push, of the response there; and what is then held back.
ENDS, HELD, EVEN, SPREAD = (2, 2), (3, 3), (1, 1), (2, 1)


class Turns(NamedTuple):
    """What cells have done to the response of the first Q paths, from the earliest remembered node on, in `G` chunks of `C` paths."""

    of: Array  # (G, A, o, k, x, k, C): each settled cell's turn, zero for those to come
    rows: Array  # (A, A, k, k): R(t, .) at each node, with what a push on the node itself does there
    forced: Array  # (A, 2, k, X, k): how each direction moves w at the start and end of each settled cell
    kept: Array  # (A, 2, k, k): what is seen in its middle of what is held back, and what of it still is at its end; for `SPREAD`


class Row(NamedTuple):
    """What the next node makes of the past."""

    response: Array  # (A, k, k): R(next, .)
    own: Array  # (k, k): what a push on the node itself does there
    held: Array | None  # (k, k): and what is held back of one; None without a filter
    kept: Array  # (2, k, k): `Turns.kept` of the cell before


def parts_of(drive: str, filtered: bool) -> tuple[int, int]:
    """What the turns of a drive, see `kicks`, have."""
    if drive == "jump":
        return HELD if filtered else ENDS
    return SPREAD if filtered else EVEN


def nodes_for(directions: int) -> int:
    """Room for the nodes that so many directions begin at."""
    size = STRIP if directions <= WIDE else WIDE
    return -(-directions // size) * size


def strip_of(nodes: int) -> int:
    """Nodes gone through one by one between products: few are one strip, whose program is smaller."""
    return nodes if nodes <= FEW else STRIP


def blank(k: int, directions: int, followed: int, parts: tuple[int, int]) -> Turns:
    """Before the first cell."""
    nodes, chunk = nodes_for(directions), _chunk(followed)
    left, come_from = parts
    of = jnp.zeros((followed // chunk, nodes, left, k, come_from, k, chunk))
    return Turns(of, jnp.zeros((nodes, nodes, k, k)), jnp.zeros((nodes, 2, k, directions, k)), jnp.zeros((nodes, 2, k, k)))


def _chunk(followed: int) -> int:
    return CHUNK if followed % CHUNK == 0 else followed


def asked(turns: Turns) -> tuple[Array, Array, Array | None]:
    """What a turn is the answer to, `(k, x, k, Q)` each: a response of one at the cell's start, at its end, and of what is held back."""
    chunks, _, left, k, come_from, _, chunk = turns.of.shape
    one = lambda part: jnp.zeros((k, come_from, k, chunks * chunk)).at[:, part].set(jnp.eye(k)[..., None])
    held = {HELD: lambda: one(2), SPREAD: lambda: jnp.zeros_like(one(0))}.get((left, come_from), lambda: None)
    return one(0), one(min(come_from - 1, 1)), held()


def turned(pushes: Array, late: Array, held: Array | None) -> Array:
    """The turn `(o, k, x, k, Q)` of a cell that answers what is `asked` by these `pushes (k, x, k, Q)`, the part of them that comes `late`,
    and what is then `held` back."""
    both = [pushes] if pushes.shape[1] == 1 else [pushes - late, late]
    return jnp.stack([*both, *([] if held is None else [held])])


def row_of(turns: Turns, cell: Any, here: Array) -> Row:
    """Of the `sample.Cell` number `here`."""
    known = known_row(cell.response, here, len(turns.rows))
    k = known.shape[-1]
    if cell.layer is None:
        own, held, kept = jnp.eye(k), None, jnp.zeros((2, k, k))
    else:
        rate = cell.layer.clock[1] - cell.layer.clock[0]
        own = held = cell.layer.gain[1]
        kept = jnp.stack([0.5 * (cell.layer.gain[0] + cell.layer.gain[1]) * spread_evenly(rate), jnp.exp(-rate) * jnp.eye(k)])
    return Row(lax.dynamic_update_index_in_dim(known, own, here + 1, 0), own, held, kept)


def slopes(turns: Turns, turn: Array, cell: Any, second: Array, here: Array) -> tuple[Array, Array]:
    """`E[H] (k, k)` and `E[H chi] (X, k, k)` at the end of cell `here`, whose `turn` is this, where `H` is `second (k, k, Q)`. The same
    paths tell both: where `H` is large `chi` is small."""
    h, row = second.mean(-1), row_of(turns, cell, here)
    felt = _felt(turns, _apart(turns, turn), row, _apart(turns, jnp.moveaxis(second, 1, 0)), here)
    forced = lax.dynamic_update_index_in_dim(turns.forced, jnp.stack([cell.start, cell.end]), here, 0)
    h_chi = jnp.einsum("ij,jxm->xim", h, cell.arrived) + jnp.einsum(
        "aeji,aejxm->xim", jnp.broadcast_to(felt[:, : ends_of(turn)], (len(forced), 2, *h.shape)), forced
    )
    if row.held is None:
        return h, h_chi
    # A kick that begins at a node is held back there; the start, which is the first direction until it is forgotten, is none.
    kick = cell.layer.begins * (jnp.arange(len(h_chi)) + cell.first > 0)
    return h, h_chi - kick[:, None, None] * jnp.swapaxes(felt[: len(h_chi), -1], 1, 2)


def ends_of(turn: Array) -> int:
    """At how many places of a cell the response is asked for: both ends, or its middle."""
    return min(turn.shape[2], 2)


def settle(turns: Turns, turn: Array, cell: Any, here: Array) -> Turns:
    """With the cell `here`, after its last pass."""
    row, put = row_of(turns, cell, here), lax.dynamic_update_index_in_dim
    return Turns(
        put(turns.of, _apart(turns, turn), here, 1),
        put(turns.rows, row.response, here + 1, 0),
        put(turns.forced, jnp.stack([cell.start, cell.end]), here, 0),
        put(turns.kept, row.kept, here, 0),
    )


def look(turns: Turns, back: Array, reach: int) -> Turns:
    """Remember `reach` nodes, without the first `back` of those so far."""
    nodes = nodes_for(reach)
    return Turns(
        forgotten(turns.of, 1, nodes, back),
        forgotten(forgotten(turns.rows, 0, nodes, back), 1, nodes, back),
        forgotten(forgotten(turns.forced, 0, nodes, back), 3, reach, back),
        forgotten(turns.kept, 0, nodes, back),
    )


def _apart(turns: Turns, array: Array) -> Array:
    """Paths `(..., Q)` in chunks."""
    return jnp.moveaxis(array.reshape(*array.shape[:-1], len(turns.of), -1), -2, 0)


@custom_vmap
def _felt(turns: Turns, turn: Array, row: Row, slope: Array, here: Array) -> Array:
    """Mean over paths of what is felt at the end of cell `here` of what each cell is the answer to, `(A, x, j, i)`."""
    alone = turns, turn, row, slope, here
    return _felt_of_all(1, jax.tree.map(lambda _: False, alone), *alone)[0][0]


@_felt.def_vmap
def _felt_of_all(replicates: int, batched: Any, *each: Any) -> tuple[Array, bool]:
    """One chunk of one replicate after the other. Each takes from the table of turns what it asks for: to cut out its own would take longer
    than all products."""
    alike = lambda array, has: array if has else jnp.broadcast_to(array, (replicates, *jnp.shape(array)))
    turns, turn, row, slope, here = jax.tree.map(alike, each, tuple(batched))
    chunks = turns.of.shape[1]

    def of_chunk(number: Array) -> Array:
        s, chunk = number // chunks, number % chunks
        mine = jax.tree.map(lambda array: array[s], row)
        of = lambda node: turns.of[s, chunk, node]
        rows = lambda node, first, size: lax.dynamic_slice(turns.rows, (s, node, first, 0, 0), (1, *size, *turns.rows.shape[3:]))[0]
        return _backwards(of, rows, lambda node: turns.kept[s, node], turn[s, chunk], mine, slope[s, chunk], here[s])

    felt = lax.map(of_chunk, jnp.arange(replicates * chunks))
    return felt.reshape(replicates, chunks, *felt.shape[1:]).mean(1), True


def _before(turn: Array, early: Array, late: Array, held: Array | None, kept: Array) -> Array:
    """What is felt of what a cell is the answer to, `(x, j, i, C)`, and before it of what is held back, from what is felt of its pushes."""
    middle = turn.shape[2] == 1
    felt = jnp.concatenate([*([0.5 * (early + late)] if middle else [early, late]), *([] if held is None else [held])])
    turn = turn.reshape(-1, *turn.shape[2:])
    found = jnp.asarray(sum(turn[m][:, :, None, :] * felt[m] for m in range(len(felt))))
    if not middle:
        return found
    return jnp.stack([0.5 * found[0], *([] if held is None else [_fed(kept[0], found[0]) + _fed(kept[1], held)])])


def _fed(response: Array, felt: Array) -> Array:
    """What is felt of a push that `response (..., j, m)` feeds back where `felt (j, i, C)` is."""
    return sum(response[..., j, :, None, None] * felt[j] for j in range(len(felt)))


def _backwards(of: Callable, rows: Callable, kept: Callable, last: Array, row: Row, slope: Array, here: Array) -> Array:
    """`_felt` for one chunk, with `slope (j, i, C)`; `of` gives a cell's turn, `rows` rows of `R` and `kept` its `Turns.kept`.

    A push on node `a` is felt wherever a later node is fed it back. What is felt of it in the end, `(m, i, C)`, is known once all later
    cells are: those of later strips by products of matrices, those of the same strip one after the other.
    """
    nodes, ends, k, chunk = len(row.response), ends_of(last), last.shape[1], last.shape[-1]
    wide = min(WIDE, nodes)
    at = lambda array, node: lax.dynamic_index_in_dim(array, node, 0, False)

    held, answers = None, jnp.zeros((nodes, ends + (row.held is not None), k, k))
    if row.held is not None:
        held = _fed(row.held, slope)
        answers = answers.at[here + 1, -1].set(held.mean(-1))
    late = -_fed(row.own, slope)
    felt = _before(last, -_fed(at(row.response, here), slope), late, held, row.kept)
    held = None if held is None else felt[-1]
    answers = answers.at[here].set(felt.mean(-1))
    ahead, start = slope + felt[ends - 1], felt[0]
    strip = strip_of(nodes)

    def through(first: Array, at_nodes: Array, answers: Array, late: Array, held: Array | None) -> tuple:
        """One strip, from the node `first` on. `at_nodes` is what is felt at each node of what it is fed back; the last cell has its own
        `start`, the next node `ahead`."""
        pushes = -_fed(lax.dynamic_slice_in_dim(row.response, first, strip, 0), ahead) - _fed(rows(here, first, (1, strip))[0], start)

        def add(block: Array, pushes: Array) -> Array:
            response = rows(block * wide, first, (wide, strip))
            return pushes - jnp.einsum("rajm,rjic->amic", response, lax.dynamic_slice_in_dim(at_nodes, block * wide, wide, 0))

        if strip < nodes:
            pushes = lax.fori_loop(first // wide, here // wide + 1, add, pushes)

        def cell(back: Array, state: tuple) -> tuple:
            pushes, at_nodes, answers, late, held = state
            place = strip - 1 - back
            node = first + place
            felt = _before(of(node), at(pushes, place), late, held, kept(node))
            response = rows(node, first, (2, strip))
            if ends == 1:
                pushes = pushes - _fed(response.sum(0), felt[0])
            else:
                pushes = pushes - _fed(response[0], felt[0]) - _fed(response[1], felt[1])
            if strip < nodes:
                both = lax.dynamic_slice_in_dim(at_nodes, node, 2, 0) + felt[:ends]
                at_nodes = lax.dynamic_update_slice_in_dim(at_nodes, both, node, 0)
            answers = lax.dynamic_update_index_in_dim(answers, at(answers, node) + felt.mean(-1), node, 0)
            settled = node < here  # cells to come hold nothing back, but pass on what is
            return pushes, at_nodes, answers, at(pushes, place), None if held is None else jnp.where(settled, felt[-1], held)

        return lax.fori_loop(0, strip, cell, (pushes, at_nodes, answers, late, held))[1:]

    if strip == nodes:
        return through(jnp.zeros((), here.dtype), jnp.zeros(0), answers, late, held)[1]
    begun = jnp.zeros((nodes, k, k, chunk)), answers, late, held
    return lax.fori_loop(0, here // strip + 1, lambda number, state: through((here // strip - number) * strip, *state), begun)[1]
