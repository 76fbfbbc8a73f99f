"""SGD's sample from jump to jump: a path with `j` jumps needs only the joint law of `w` at those jumps and at `t` (eq. 1).

Nothing lives on the grid but the kernels. A history is a teacher's pre-activation, a label, jump times and one normal per
jump; given it, `w_t` is Gaussian with the mean and variance of a regression on `w` at the jumps, and what is left of it is
integrated over a few points per history, a lattice shifted at random (THEORY section 5, points 3 and 4). So a history stands
for all paths that agree at their own jumps, and few are needed.

Every average attached to a jump at `s` comes from the jumps the history has: by Mecke's formula the sum over them is the
intensity times the average with a jump forced at `s`, and the numbers of jumps are stratified.

The covariance of `w` between nodes is that of the linear interpolation of its node values plus a Brownian bridge of rate
`eta E[l l^T]`; `R` is interpolated in triangles. Both are second order and have the kinks on the diagonal built in.

Layout: histories last. `J` jumps of `k` variables each, flattened to `Jk` items where they are conditioned on; `i, j` jumps,
`a, b, c` student rows, `p` histories.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...compiling import jit
from ...learning.slopes import Slopes
from ...learning.trained import told
from ..averages import Averages, times
from ..gaussian import PIVOT
from .differences import difference, middle, signed, sizes, two_sided
from .kicks import Functions, path_functions
from .regression import in_stages, regress, small_root
from .sample import Cell, ahead, labels_across

Array = Any


class Histories(NamedTuple):
    """What is random about `P` samples, and where their jumps fall on a grid of `N` cells."""

    gstar: Array  # (k_star, P): r* = root(rho) g*
    y: Any  # label noise, then labels; histories first
    weight: Array  # (P,): probability of what a history stands for; adds up to one
    points: Array  # (Q, k, P): standard normals behind what is left of w at a node
    normal: Array  # (J, k, P): standard normals behind w at the jumps
    eta: Array  # (J, P): step at the jump; zero where there is no such jump
    cell: Array  # (J, P): the jump's cell; N where there is no such jump
    place: Array  # (J, P): and its place in it, in [0, 1]
    path: Array  # (B, E): jumps in batches, by cell and without a history twice in one: their history (P where unused)
    jump: Array  # (B, E): and their number
    distance: Array  # (2, k): of finite differences, for a loss with kinks; see `differences`
    order: Any = None  # (L,): all jumps by cell, `jump P + history` (J P where unused), where most of the room for them is empty


class Span(NamedTuple):
    """The jumps of one cell, the same for all replicates: its first batch, how many batches, the largest number of jumps a
    history has before each batch `(B,)`, and at the cell's end."""

    first: Array
    count: Array
    before: Array
    jumps: Array


class Past(NamedTuple):
    """Kernels at the nodes and, per history, what its jumps so far leave behind."""

    normals: Array  # (N + 1, k, dims): w at the nodes in independent normals, the teacher's first
    response: Array  # (N + 1, N + 1, k, k)
    start: Array  # (N, k, X, k): how each direction of the response moves w at the start of a cell
    end: Array  # (N, k, X, k): and at its end
    factor: Array  # (Jk, Jk, P): Cholesky factor of w at the jumps given g*
    inverse: Array  # (Jk, P): inverses of its pivots; zero for a null pivot or a jump yet to come
    kick: Array  # (J, k, P): G = eta l
    slope: Array  # (J, k, k, P): eta H
    turn: Array  # (J, J, k, k, P): -d r_j / d w_i at earlier jumps i; with kinks (J, J, k, 2k, P): d G_j / d w_i on both sides
    gain: Any = None  # (N + 1, k, k): `Layer.gain` at the nodes,
    clock: Any = None  # (N + 1,): and their times in units of its memory; None without one
    begins: Any = None  # (): `Layer.begins`


def _along(row: Array, cell: Array, place: Array) -> Array:
    """A row of kernel values at the nodes `(N + 1, a, b)` at the jumps `cell, place (J, P)`: `(J, a, b, P)`."""
    padded = jnp.concatenate([row, jnp.zeros_like(row[:1])])
    pick = lambda at: jnp.moveaxis(padded.at[at].get(mode="promise_in_bounds"), 1, -1)
    x = place[:, None, None]
    return (1.0 - x) * pick(cell) + x * pick(jnp.minimum(cell + 1, row.shape[0]))


def _age(past: Past, cell: Array, place: Array) -> Array:
    """Times `(J, P)` of the jumps in units of the filter's memory."""
    return _along(past.clock[:, None, None], cell, place)[:, 0, 0]


def _kept(past: Past, clock: Array, gain: Array, cell: Array, place: Array) -> Array:
    """What a filter has not passed on at `clock (...)` of the jumps before it, `b E (J, k, k, ...)`, with `gain (k, k, ...)` there."""
    return gain * jnp.exp(-jnp.maximum(clock - _age(past, cell, place), 0.0))[:, None, None]


def _through(response: Array, slope: Array, turn: Callable[[Array, int], Array], jumps: Array) -> Array:
    """`-d r_t / d w_i (J, k, k, P)` at every jump from `R(t, u_i)` and `eta H_i`: directly, and through the jumps between;
    `turn(m, n)` is `-d r_m / d w_i` for the first `n` of them."""
    direct = jax.vmap(times)(response, slope)

    def body(width):
        return lambda m, total: total - jax.vmap(times, (None, 0))(lax.dynamic_index_in_dim(direct, m, 0, False), turn(m, width))

    return in_stages(body, direct.shape[0], jumps, direct, 0)


def _carried(response: Array, turn: Callable[[Array, int], Array], jumps: Array) -> Array:
    """`-d r_t / d w_i (J, k, 2k, P)` on both sides of every jump, from `R(t, u_m)` and the differences `turn(m, n)` of kick `m` in `w`
    at the first `n` jumps."""
    body = lambda width: (
        lambda m, total: total + jax.vmap(times, (None, 0))(lax.dynamic_index_in_dim(response, m, 0, False), turn(m, width))
    )
    j, k, _, p = response.shape
    return in_stages(body, j, jumps, jnp.zeros((j, k, 2 * k, p)), 0)


def _distances(past: Past, draws: Histories, cell: Array, place: Array) -> Array:
    """Distances `(J, 2k, P)` at which the jumps `cell, place (J, P)` are shifted: in proportion to what w is there."""
    return signed(_along(sizes(draws.distance, past.normals)[:, :, None], cell, place)[:, :, 0], 1)


def _differences(functions: Functions, past: Past, draws: Histories, response, turn, r: Array, l: Array, node, jumps):  # noqa: E741
    """`d l_t / d w_i` at every jump, weighted, `(J, k, k, P)`, and `E[d l_t / d w_t] (k, k)`, from `r, l (Q, k, P)`."""
    k = r.shape[1]
    own = two_sided(jnp.eye(k))[None, :, :, None] * jnp.ones(r.shape[-1])
    chi = jnp.moveaxis(jnp.concatenate([-_carried(response, turn, jumps), own]), 0, 1)
    here = jnp.broadcast_to(sizes(draws.distance, past.normals[node])[None, :, None], (1, k, r.shape[-1]))
    size = jnp.concatenate([_distances(past, draws, draws.cell, draws.place), signed(here, 1)])

    def add(q, total):
        return total + difference(lambda x: functions.gradient(x, draws.y), l[q], r[q], chi, size)

    total = lax.fori_loop(0, len(r), add, jnp.zeros_like(chi))
    moved = jnp.moveaxis(middle(total, 2), 1, 0) * (draws.weight / len(r))
    return moved[:-1], moved[-1].sum(-1)


class EventProgram:
    """The compiled work on histories for one loss; the interface is that of `sample.SampleProgram`.

    Every array has a leading axis of replicates.
    """

    nothing = Span(0, 0, 0, 0)  # before the first cell

    def __init__(self, slopes: Slopes, label: Callable, kinks: bool = False, filtered: bool = False):
        functions = path_functions(slopes, "jump")

        def begin(draws: Histories, rho_root: Array, normals: Array, directions: Array, numbers: Any) -> tuple[Any, Past]:
            """Labels, and the past at time zero, where direction `x` has the response `directions (k, X, k)`."""
            (k_star, _), (k, dims), (j, p), x = draws.gstar.shape, normals.shape, draws.cell.shape, directions.shape[1]
            cells = (dims - k_star - k) // (2 * k if filtered else k)
            past = Past(
                normals=jnp.zeros((cells + 1, k, dims)).at[0].set(normals),
                response=jnp.zeros((cells + 1, cells + 1, k, k)).at[0, 0].set(jnp.eye(k)),
                start=jnp.zeros((cells, k, x, k)),
                end=jnp.zeros((cells, k, x, k)),
                factor=jnp.zeros((j * k, j * k, p)),
                inverse=jnp.zeros((j * k, p)),
                kick=jnp.zeros((j, k, p)),
                slope=jnp.zeros((0 if kinks else j, k, k, p)),
                turn=jnp.zeros((j, j, k, 2 * k if kinks else k, p)),
            )
            if filtered:
                past = past._replace(gain=jnp.zeros((cells + 1, k, k)), clock=jnp.zeros(cells + 1), begins=jnp.zeros(()))
            return told(jax.vmap(label)((rho_root @ draws.gstar).T, draws.y), numbers), past

        def cross(past: Past, draws: Histories, cell: Cell, node, span: Span) -> Past:
            """The past at the next node."""
            past = past._replace(
                normals=past.normals.at[node + 1].set(cell.normals),
                response=past.response.at[node + 1].set(cell.response),
                start=past.start.at[node].set(cell.start),
                end=past.end.at[node].set(cell.end),
            )
            if cell.layer is not None:
                both = node + jnp.arange(2)
                past = past._replace(gain=past.gain.at[both].set(cell.layer.gain), clock=past.clock.at[both].set(cell.layer.clock))
                past = past._replace(begins=cell.layer.begins)
            carry = lambda batch, at: land(functions, kinks, at, draws, cell, node, span.first + batch, span.before)
            return lax.fori_loop(0, span.count, carry, past)

        self._begin = jit(jax.vmap(begin, in_axes=(0, None, 0, 0, 0)))
        # Donated: the past is large, and a cell changes a small part of it.
        self._cross = jit(jax.vmap(cross, in_axes=(0, 0, 0, None, None)), donate_argnums=0)
        self._average = jit(jax.vmap(partial(average, functions, kinks), in_axes=(0, 0, 0, None, None)))
        # A second pass over a cell writes over the first; all nodes are remembered, and nothing moves.
        self.again = lambda past, arrival: arrival
        self.settle = lambda past, arrival, cell, node: arrival
        self.reach = lambda directions: directions
        self.look = lambda past, back, reach: past

    def prepare(self, cell: Cell, span: Span, step: float, draws: Histories, *start_of: Any) -> None:
        """Compile what `cross` will ask for beside what `begin` does."""

        def crossed() -> None:
            y, past = self._begin.shapes(bare(draws), *start_of)
            self._cross.compile(past, draws._replace(y=y), cell, np.int32(0), Span(*span[:4]))

        self._begin.beside((draws, cell), crossed)

    def begin(self, draws: Histories, rho_root, normals, directions, numbers=None) -> tuple[Any, Past, Averages]:
        """Labels, the past and the averages at time zero."""
        y, past = self._begin(bare(draws), rho_root, normals, directions, numbers)
        return y, past, self.once_more(past, draws._replace(y=y), directions, 0, self.nothing)

    def cross(self, past: Past, draws: Histories, cell: Cell, node: int, span: Span, step: float) -> tuple[Averages, None, Past]:
        """Averages at the next node, second moments of kicks (not estimated by themselves here), and the past there."""
        past = self._cross(past, draws, cell, np.int32(node), Span(*span[:4]))
        return self.once_more(past, ahead(draws, cell), cell.arrived, node + 1, span), None, past

    def resume(self, past: Past, draws: Histories, arrived, node: int, span: Span, before: Averages) -> Averages:
        """The averages from which the next cell starts."""
        return before

    def once_more(self, past: Past, draws: Histories, arrived, node: int, span: Any) -> Averages:
        """The averages that `cross` had at `node`, the end of its cell, by the same program: for other weights of the histories."""
        return self._average(past, bare(draws), arrived, np.int32(node), np.int32(span.jumps))


def bare(draws: Histories) -> Histories:
    """Without the batches of jumps, whose sizes would need a program of their own."""
    return draws._replace(path=None, jump=None)


def _regressed(past: Past, draws: Histories, node: Array, jumps: Array) -> Array:
    """What the normals behind the first `jumps` tell of w at a node, `(k, Jk, P)`."""
    rest = past.normals[:, :, len(draws.gstar) :]
    cov = _along(jnp.einsum("ad,nbd->nab", rest[node], rest), draws.cell, draws.place)
    row = lambda i, n: lax.dynamic_index_in_dim(past.factor[:, :n], i, 0, False)
    items, (k, _) = past.inverse.shape, cov.shape[1:3]
    return regress(jnp.moveaxis(cov, 0, 1).reshape(k, *items), row, past.inverse, jumps * k)


def _samples(past: Past, draws: Histories, node: Array, b: Array, response: Array, kicks: Array) -> Array:
    """`r (Q, k, P)` at a node and the points of the last Gaussian, from what jumps tell of w and what their `kicks` do."""
    here, rest = jnp.split(past.normals[node], [len(draws.gstar)], 1)
    mean = here @ draws.gstar + (b * draws.normal.reshape(b.shape[1:])).sum(1) - (response * kicks[:, None]).sum((0, 2))
    left = (rest @ rest.T)[:, :, None] - (b[:, None] * b[None]).sum(2)
    return mean + jax.vmap(times, (None, 0))(small_root(left), draws.points)


def average(functions: Functions, kinks: bool, past: Past, draws: Histories, arrived: Array, node, jumps, known=None) -> Averages:
    """Averages at a node; its kernels, and what all jumps before it did, are in `past`. If only the first `known` of these `jumps` are to
    be seen, the risk still is that of samples with all of them."""
    (j, k, p), kicks, seen = past.kick.shape, past.kick, 1.0
    if known is not None:
        seen = (jnp.arange(j) < known)[:, None, None]
        past = past._replace(kick=kicks * seen, slope=past.slope * seen[: len(past.slope), :, :, None])
    b = _regressed(past, draws, node, jumps)
    response = _along(past.response[node], draws.cell, draws.place)
    if past.clock is not None:
        response = response - _kept(past, past.clock[node], past.gain[node][..., None], draws.cell, draws.place)
    as_they_are = r = _samples(past, draws, node, b, response, kicks)
    if known is not None:
        b, jumps = (b.reshape(k, j, k, p) * seen).reshape(b.shape), known
        r = _samples(past, draws, node, b, response, past.kick)
    over = lambda f: jax.vmap(f, (0, None))(r, draws.y)
    l = over(functions.gradient)  # noqa: E741
    second = lambda a, b: jnp.einsum("qap,qbp,p->ab", a, b, draws.weight) / len(a)
    weighted = draws.weight * l.mean(0)
    turn = lambda m, n: lax.dynamic_index_in_dim(past.turn[:, :n], m, 0, False)
    # What the jumps of the past contribute, collected by cell; a response's direction moves w linearly within a cell.
    if kinks:
        passed, gamma = _differences(functions, past, draws, response, turn, r, l, node, jumps)
    else:
        h = over(functions.hessian).mean(0)
        gamma = h @ draws.weight
        passed = -jax.vmap(times, (None, 0))(draws.weight * h, _through(response, past.slope, turn, jumps))
    x = draws.place[:, None, None]
    parts = [weighted[None, :, None] * past.kick[:, None], (1.0 - x) * passed, x * passed]
    if past.clock is not None:
        parts.append(jax.vmap(jax.vmap(jnp.matmul, -1, -1))(passed, _new(past, draws)))
    stacked, where = jnp.moveaxis(jnp.stack(parts, 1), -1, 1).reshape(j * p, len(parts), k, k), draws.cell.reshape(-1)
    if draws.order is not None:
        some = {"mode": "fill", "fill_value": 0}
        stacked, where = stacked.at[draws.order].get(**some), where.at[draws.order].get(mode="fill", fill_value=len(past.start))
    sums = jax.ops.segment_sum(stacked, where, len(past.start), indices_are_sorted=draws.order is not None)
    kicks, early, late, *held = jnp.moveaxis(sums, 1, 0)
    moved = jnp.einsum("nab,nbxc->xac", early, past.start) + jnp.einsum("nab,nbxc->xac", late, past.end)
    moved = moved + jnp.einsum("ab,bxc->xac", gamma, arrived)
    brief: dict[str, Array] = {}
    if past.clock is not None:  # the layers of directions that start at nodes
        layers = past.begins * _layers(past.clock, node)
        moved = moved.at[: len(layers)].add(-jnp.einsum("nab,xn->xab", held[0], layers[:, : len(held[0])]))
        moved = moved.at[: len(layers)].add(-layers[:, node][:, None, None] * (gamma @ past.gain[node]))
        E = jnp.exp(-jnp.maximum(past.clock[node] - _age(past, draws.cell, draws.place), 0.0))[:, None]
        brief = {
            "l_held": weighted @ (E * past.kick).sum(0).T,
            "l_w": jnp.zeros_like(past.gain).at[:-1].set(early).at[1:].add(late).at[node].add(gamma),
            "l_w_late": gamma + (E[:, None] * passed).sum((0, 3)),
        }
    return Averages(
        l_gstar=weighted @ draws.gstar.T,
        l_kicks=kicks,
        l_l=second(l, l),
        l_r=second(l, r),
        h=gamma,
        h_chi=moved,
        risk=jax.vmap(functions.loss, (0, None))(as_they_are, draws.y).mean(0) @ draws.weight,
        pull=None if functions.pull is None else jnp.mean(over(lambda r, y: functions.pulled(r, y, draws.weight)), 0),
        **brief,
    )


def _new(past: Past, draws: Histories) -> Array:
    """What is left at the jumps of a layer that began at the start of their cells, `b e^-(u - t_c) (J, k, k, P)`."""
    inside = _age(past, draws.cell, draws.place) - _along(past.clock[:, None, None], draws.cell, jnp.zeros_like(draws.place))[:, 0, 0]
    return _along(past.gain, draws.cell, draws.place) * jnp.exp(-jnp.maximum(inside, 0.0))[:, None, None]


def _layers(clock: Array, node: Array) -> Array:
    """`E` at each node since each direction began, `(N + 1, N + 1)`, up to `node`; the direction at time zero, that of the start, has no
    layer."""
    number = jnp.arange(len(clock))
    begun = (number[:, None] > 0) & (number[:, None] <= number) & (number <= node)
    return jnp.where(begun, jnp.exp(-jnp.maximum(clock - clock[:, None], 0.0)), 0.0)


def _response(past: Past, node, x: Array, cell: Array, place: Array, inside: Array, ends: Callable[[Callable], Array]) -> Array:
    """`R` at the places `x (E,)` of cell `node` to kicks at the jumps `cell, place (J, E)`, in triangles for those `inside` the cell:
    `(J, k, k, E)`; `ends` interpolates a row of nodes to the jumps, and between both ends of the cell."""
    eye, late = jnp.eye(past.kick.shape[1]), past.response[node + 1, node]
    if past.clock is None:
        triangle = eye[..., None] + (x - place)[:, None, None] * (late - eye)[..., None]
    else:
        g0, g1 = (past.gain[at][..., None] for at in (node, node + 1))
        triangle = g0 + x * (late[..., None] - g0) + place[:, None, None] * (g1 - late[..., None])
    response = jnp.where(inside[:, None, None], triangle, ends(lambda at: past.response[at]))
    if past.clock is None:
        return response
    across = lambda values: (1.0 - x) * values[node][..., None] + x * values[node + 1][..., None]
    return response - _kept(past, across(past.clock), across(past.gain), cell, place)


def land(functions: Functions, kinks: bool, past: Past, draws: Histories, to: Cell, node, batch, before) -> Past:
    """Carry one batch of histories through a jump in the cell from `node` on."""
    path, jump = draws.path[batch], draws.jump[batch]
    take = lambda array: jnp.take(array, path, axis=-1, mode="clip")
    (j, k, _), k_star, e = past.kick.shape, len(draws.gstar), len(path)
    number = jnp.arange(j)[:, None]
    own = lambda array: (array * (number == jump).reshape((j,) + (1,) * (array.ndim - 2) + (e,))).sum(0)
    cell, place = take(draws.cell), take(draws.place)
    x, eta, most = own(place), own(take(draws.eta)), before[batch]
    inside = (number < jump) & (cell == node)
    first, last = past.normals[node], past.normals[node + 1]
    rest, bridge = past.normals[:, :, k_star:], to.spread @ to.spread.T
    across = lambda a, b: (1.0 - x) * a + x * b
    ends = lambda row: across(*(_along(row(at), cell, place) for at in (node, node + 1)))
    # w at the jump, given w at the earlier ones.
    cov = ends(lambda at: jnp.einsum("ad,nbd->nab", rest[at], rest))
    cov = cov + bridge[:, :, None] * jnp.where(inside, place * (1.0 - x), 0.0)[:, None, None]
    row = lambda i, n: take(lax.dynamic_index_in_dim(past.factor[:, :n], i, 0, False))
    # What a first pass over the cell left at this jump and later ones is not to be seen.
    inverse = jnp.where(jnp.repeat(number < jump, k, 0), take(past.inverse), 0.0)
    b = regress(jnp.moveaxis(cov, 0, 1).reshape(k, j * k, e), row, inverse, most * k)
    cross = rest[node] @ rest[node + 1].T
    variance = (1.0 - x) ** 2 * (rest[node] @ rest[node].T)[..., None] + x**2 * (rest[node + 1] @ rest[node + 1].T)[..., None]
    variance = variance + x * (1.0 - x) * (cross + cross.T + bridge)[..., None]
    root = small_root(variance - (b[:, None] * b[None]).sum(2))
    normal = take(draws.normal)
    teacher = across(first[:, :k_star, None], last[:, :k_star, None])
    w = times(teacher, take(draws.gstar)) + (b * normal.reshape(1, j * k, e)).sum(1) + times(root, own(normal))
    response = _response(past, node, x, cell, place, inside, ends)
    response = response * (number < jump)[:, None, None]
    eye = jnp.eye(k)
    r = w - (response * take(past.kick)[:, None]).sum((0, 2))
    y = labels_across(jax.tree.map(lambda leaf: jnp.take(leaf, path, axis=0, mode="clip"), draws.y), to.numbers)(x)
    turn = lambda m, n: take(lax.dynamic_index_in_dim(past.turn[:, :n], m, 0, False))
    l = functions.gradient(r, y)  # noqa: E741
    if kinks:
        here = (number == jump)[:, None, None]
        chi = jnp.where(here, two_sided(eye)[..., None], -_carried(response, turn, most))
        turned = eta * difference(lambda q: functions.gradient(q, y), l, r, jnp.moveaxis(chi, 0, 1), _distances(past, draws, cell, place))
        slope, through = past.slope, jnp.moveaxis(turned, 0, 1)
    else:
        through = _through(response, take(past.slope), turn, most)
        slope = past.slope.at[jump, :, :, path].set(jnp.moveaxis(eta * functions.hessian(r, y), -1, 0), mode="drop")
    # Leave behind what later jumps and nodes need.
    rows = b + jnp.einsum("abe,je->ajbe", root, number == jump).reshape(k, j * k, e)
    factor, inverse = past.factor, past.inverse
    for a in range(k):
        factor = factor.at[jump * k + a, :, path].set(rows[a].T, mode="drop")
        sound = root[a, a] ** 2 > PIVOT * variance[a, a] + 1e-300
        inverse = inverse.at[jump * k + a, path].set(jnp.where(sound, 1.0 / jnp.where(sound, root[a, a], 1.0), 0.0), mode="drop")
    return past._replace(
        factor=factor,
        inverse=inverse,
        kick=past.kick.at[jump, :, path].set((eta * l).T, mode="drop"),
        slope=slope,
        turn=past.turn.at[jump, :, :, :, path].set(jnp.moveaxis(through, -1, 0), mode="drop"),
    )
