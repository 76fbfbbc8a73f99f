"""A sample's path, eq. (1): `r_t = w_t - int R(t,s) dG_s`, its response `chi`, and averages over paths.

How a sample is driven is all that tells the dynamics apart here: a cell between two nodes has events, each at its own
exact place, and `kicks` says how an event kicks the sample. SGD's events are its Poisson jumps; flow and SME have one
event in the middle of each cell, the exact map of the cell's `dm` (a Strang splitting, of weak order two).

Between nodes `w` is the linear interpolation of its node values plus a Brownian bridge of variance rate
`eta E[l l^T]`; this is second order in the node spacing and has the diagonal kink of `C` built in. `R(t,u)` of a kick
at `u` is interpolated in triangles, so its feedback is a deposit on the two nodes beside it, and a path's cost does
not depend on how many jumps it has had.

Layout: paths last. `i, j, m` student rows, `a` nodes, `x` directions of the response, `p` paths. The response is told by the
first `Q` paths only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...compiling import jit
from ...learning.slopes import Slopes
from ...learning.trained import told
from ..averages import BLOCK, Averages, Layer, feedback, forgotten, known_row, products, shared, times
from . import directions, turns
from .anchored import Products, Start, anchored, begun, means
from .differences import difference, signed, sizes, two_sided
from .directions import Directions
from .held import Held, triangle
from .kicks import Functions, path_functions
from .turns import Turns

Array = Any

# Nodes remembered at first, and by which memory grows: more take a program compiled anew, but directions that are followed each take room.
REACH, REACH_OF_DIRECTIONS = 256, 64
LONG = 64  # cells of a long flow
# One path in so many, at least so many, tells the response: of one direction, of several, and of a long flow.
SHARE, SHARE_OF_SEVERAL, SHARE_OF_LONG, LEAST = 4, 8, 2, 128


def share_of(k: int, cells: int, drive: str, all_of_them: bool) -> int:
    """One path in how many tells the response, whose work goes with the cube of the directions `k`. It hardly adds to the curves'
    fluctuations, unless the self-overlap comes from it (then `all_of_them` tell it), or what is wrong with it adds up for long and there
    is no noise beside it."""
    if all_of_them:
        return 1
    if k > 1:
        return SHARE_OF_SEVERAL
    return SHARE_OF_LONG if drive == "flow" and cells > LONG else SHARE


def followed(paths: int, share: int) -> int:
    """How many of so many paths tell the response, one in `share`."""
    return max(paths // share, min(paths, LEAST))


class Draws(NamedTuple):
    """What is random about `P` samples, drawn ahead, for `N` cells; a path has `E` events in the order of time."""

    gauss: Array  # (k_star + k + N k, P): standard normals behind r* and w at the nodes; behind a filter N k more
    y: Any  # labels, paths first
    where: Array  # (E, P): place of an event in its cell, in [0, 1]
    drift: Array  # (E, 1): the part of an event's `dm` that is smooth in time; one zero for jumps
    noise: Array  # (E, P): its random part
    bridge: Array  # (E, k, P): standard normals of `w` between nodes
    earlier: Array | None  # (N + 1, P): events of a path before each node; None where every cell has one
    distance: Array  # (2, k): of finite differences, for a loss with kinks; see `differences`
    apart: Array | None = None  # (N, 2, P): of a diffusion behind a filter, noise as in `noise` but for `Layer.apart`
    weight: Array | None = None  # (P,): of mean one, by which averages weigh paths; None where all are alike. See `tilted`
    known: Products | None = None  # at time zero over many more samples; see `anchored`


class Paths(NamedTuple):
    """All that later nodes need of the past."""

    w: Array  # (k, P) at the present node
    kicks: Array  # (N, k, P): total kick in each cell
    deposit: Array  # (A, k, P): kicks shared between the nodes beside them, from the earliest remembered on; A is X in whole blocks
    memory: Array  # (k, P): feedback at the present node
    response: Any  # `Turns` of the first Q paths, with kinks `Directions` of all; None where it is not asked for
    held: Any = None  # (k, P): kicks that an optimiser's filter has not passed on, `int E dG`; None without a filter
    start: Start | None = None  # where averages are held to what is known of it


class Arrival(NamedTuple):
    """Paths at the end of a cell."""

    w: Array
    memory: Array
    early: Array  # kicks deposited on the node before the cell
    late: Array  # and on the node after it
    held: Array | None
    response: Any  # of the first Q paths: the turn of the cell, with kinks `Pushed`; None where it is not asked for


class Cell(NamedTuple):
    """What the kernels say of one cell, from `node` to the next, as far back as is remembered."""

    normals: Array  # (k, k_star + k + N k): w at the next node in the normals of `Draws.gauss`
    first: Array  # (): the earliest node that is remembered; `response` and directions begin there
    response: Array  # (X, k, k): R(next, .)
    spread: Array  # (k, k): root of the bridge's variance over the cell
    start: Array  # (k, X, k): how each direction of the response moves w at the cell's start,
    end: Array  # (k, X, k): at its end (linear between),
    arrived: Array  # (k, X, k): and what remains of it at the next node itself
    layer: Layer | None = None  # of an optimiser's filter; then `response` and directions are their smooth parts
    numbers: Array | None = None  # (p,): what is trained along, at the next node


def blank(normals: Any, directions: Any, layer: Layer | None, numbers: Any) -> Cell:
    """A cell that has the shapes of others, with a leading axis of replicates: of `normals (S, k, dims)` and `directions (S, k, X, k)`."""
    s, k, x, _ = directions.shape
    none = np.zeros_like(directions)
    return Cell(normals, np.zeros(s, int), np.zeros((s, x, k, k)), np.zeros((s, k, k)), none, none, none, layer, numbers)


def _event(draws: Draws, node: Array, slot: Array) -> tuple[Array, Array, Array, Array]:
    """Place, drift, noise `(P,)` and the bridge's normal `(k, P)` of the event number `slot` of every path in cell `node`; one that
    is not there comes at the cell's end and does nothing."""
    at = lambda array, i: lax.dynamic_index_in_dim(array, i, 0, False)
    if draws.earlier is None:
        x, noise, normal = (at(array, node) for array in (draws.where, draws.noise, draws.bridge))
        return x, jnp.broadcast_to(at(draws.drift, node), x.shape), noise, normal
    number = at(draws.earlier, node) + slot
    there = number < at(draws.earlier, node + 1)
    number = jnp.minimum(number, len(draws.where) - 1)
    of = lambda array: jnp.take_along_axis(array, number[None], 0, mode="promise_in_bounds")[0]
    normal = jnp.stack([of(draws.bridge[:, i]) for i in range(draws.bridge.shape[1])])
    return jnp.where(there, of(draws.where), 1.0), jnp.zeros(number.shape), jnp.where(there, of(draws.noise), 0.0), normal


def cross_cell(
    functions: Functions, paths: Paths, draws: Draws, cell: Cell, node: Array, slots: Array, step: Array
) -> tuple[Arrival, Array]:
    """Carry every path from `node` to the next; also `r (k, P)` there."""
    at = lambda array, i: lax.dynamic_index_in_dim(array, i, 0, False)
    here, kinks = node - cell.first, isinstance(paths.response, Directions)
    labels = labels_across(draws.y, cell.numbers)
    row = known_row(cell.response, here, len(paths.deposit))
    within, recoil = triangle(at(row, here), cell.layer), None if cell.layer is None else cell.layer.recoil
    w = cell.normals @ draws.gauss
    memory = feedback(row, paths.deposit, here)
    asked = _asked(paths, row, draws, cell, here)
    behind, ahead, answers_held, *apart = asked

    def event(slot, state):
        place, w_now, s0, s1, t0, t1, held = state
        x, drift, noise, normal = _event(draws, node, slot)
        left = jnp.maximum(1.0 - place, 1e-12)
        w_now = w_now + (x - place) / left * (w - w_now)
        w_now = w_now + jnp.sqrt(jnp.maximum((x - place) * (1.0 - x) / left, 0.0)) * times(cell.spread, normal)
        y = labels(x)
        r = w_now - (1.0 - x) * paths.memory - x * memory - within(x, s0, s1)
        chi = (1.0 - few(x)) * behind + few(x) * ahead - within(few(x), t0, t1)
        if filter is not None:
            held = filter.until(held, place, x)
            r, chi = filter.seen(r, chi, held, x)
            if draws.apart is not None:
                r, chi, held = filter.shaken(r, chi, x, at(draws.apart, node), functions, y)
        # Barriers: else the loss is evaluated anew for every direction that its slope meets.
        size = functions.kick(r, y, drift, noise, step, recoil).size
        if kinks:
            some = lambda r: functions.kick(r, few_labels(y), few(drift), few(noise), step, recoil).size
            push = difference(some, few(size), few(r), chi, *apart)
        else:
            turn, chi = lax.optimization_barrier((functions.kick(few(r), few_labels(y), few(drift), few(noise), step, recoil).slope, chi))
            push = times(turn, chi)
        push = lax.optimization_barrier(push)
        held = held if filter is None else filter.added(held, size, push)
        return x, w_now, s0 + size, s1 + x * size, t0 + push, t1 + few(x) * push, held

    none, tangent_none = jnp.zeros_like(memory), jnp.zeros_like(behind)
    q = behind.shape[-1]
    few = lambda tree: jax.tree.map(lambda leaf: leaf[..., :q], tree)
    few_labels = lambda y: jax.tree.map(lambda leaf: leaf[:q], y)
    filter = None if cell.layer is None else Held(cell.layer, (paths.held, answers_held), few, draws.earlier is not None)
    held = None if filter is None else filter.start()
    state = (jnp.zeros_like(w[0]), paths.w, none, none, tangent_none, tangent_none, held)
    place, _, s0, s1, t0, t1, held = lax.fori_loop(0, slots, event, state)
    memory = memory + within(jnp.ones(()), s0, s1)
    r, held = w - memory, (None, None) if filter is None else filter.ended(held, place, s0, t0)
    if filter is not None:
        r = filter.at_end(r, held[0])
    response = None
    if kinks:
        response = directions.arrived(cell, here, asked, within, t0, t1, held[1])
    elif paths.response is not None:
        response = turns.turned(t0, t1, held[1])
    return Arrival(w, memory, s0 - s1, s1, held[0], response), r


def _asked(paths: Paths, row: Array, draws: Draws, cell: Cell, here: Array) -> tuple:
    """Whose pushes are asked for, `(k, X, k, Q)` each: a response at the cell's start and end, did the cell do nothing, and what is held
    back of it; with kinks also the distances by which w is shifted. See `turns` and `directions`."""
    if isinstance(paths.response, Turns):
        return turns.asked(paths.response)
    if isinstance(paths.response, Directions):
        return directions.asked(paths.response, row, draws.distance, cell, here)
    none = jnp.zeros((len(paths.w), 0, len(paths.w), 0))
    return none, none, none


def ahead(draws: Any, cell: Cell) -> Any:
    """Draws of all replicates, with what is trained along as it is at the end of a cell."""
    return draws if cell.numbers is None else draws._replace(y=told(draws.y, cell.numbers[:, None]))


def labels_across(y: Any, numbers: Array | None) -> Callable[[Array], Any]:
    """Labels at places `x (P,)` of a cell, where numbers trained along go from those beside the labels `y` to `numbers` at its end."""
    if numbers is None:
        return lambda x: y
    return lambda x: told(y, (1.0 - x)[:, None] * y.a + x[:, None] * numbers)


def weigh(draws: Draws) -> Callable[[Array], Array]:
    """Arrays `(..., P)` times the weights of the paths."""
    return (lambda array: array) if draws.weight is None else (lambda array: array * draws.weight)


def average(functions: Functions, r: Array, draws: Draws, paths: Paths, held: Array | None, slopes: Callable, cells: Any = 0) -> Averages:
    """Averages over `paths` whose samples are at `r` at one node, with kicks of so many `cells` in their table. `held` is that of a filter;
    `slopes` gives `E[H]` and `E[H chi]` from `l`."""
    n = r.shape[-1]
    gstar = draws.gauss[: draws.gauss.shape[0] - r.shape[0] * (1 + len(paths.kicks) * (1 if held is None else 2))]
    l, loss = lax.optimization_barrier((functions.gradient(r, draws.y), functions.loss(r, draws.y)))  # noqa: E741
    weighed = weigh(draws)(l)
    found = means(l, r, loss, gstar, (weighed, weigh(draws)(loss)))
    if paths.start is not None:
        found = anchored(found, paths.start, l, r, loss, gstar, weigh(draws))
    h, h_chi = slopes(l)
    return Averages(
        l_gstar=found.l_gstar,
        l_kicks=products(weighed, paths.kicks, cells) / n,
        l_l=found.l_l,
        l_r=found.l_r,
        h=h,
        h_chi=h_chi,
        risk=found.risk,
        l_normals=None if held is None else jnp.einsum("ip,dp->id", weighed, draws.gauss) / n,
        l_held=None if held is None else jnp.einsum("ip,jp->ij", weighed, held) / n,
        pull=functions.pulled(r, draws.y, None if draws.weight is None else draws.weight / n),
    )


def _slopes_at_start(functions: Functions, paths: Paths, draws: Draws, moved: Array, l: Array, followed: int) -> tuple[Array, Array]:  # noqa: E741
    """`E[H] (k, k)` and `E[H chi] (X, k, k)` at time zero, where directions have the response `moved (k, X, k)`."""
    if isinstance(paths.response, Directions):
        chi = jnp.broadcast_to(two_sided(moved)[..., None], paths.response.memory.shape)
        apart = paths.response.apart
        return directions.slopes(functions, paths.w, l, draws.y, weigh(draws), chi, apart, apart[0])
    h = _second(functions, paths.w, draws, followed).mean(-1)
    return h, jnp.einsum("ij,jxm->xim", h, moved)


def _slopes(
    functions: Functions,
    paths: Paths,
    draws: Draws,
    cell: Cell,
    arrival: Arrival,
    r: Array,
    l: Array,  # noqa: E741
    node: Array,
) -> tuple[Array, Array]:
    """The same at the end of a cell."""
    here, now = node - cell.first, arrival.response
    if isinstance(now, directions.Pushed):
        chi = two_sided(cell.arrived)[..., None] - now.memory
        chi = chi if cell.layer is None else chi + times(cell.layer.gain[1], now.held)
        return directions.slopes(functions, r, l, draws.y, weigh(draws), chi, now.apart, now.apart[here + 1])
    second = _second(functions, r, draws, now.shape[-1])
    return turns.slopes(paths.response, now, cell, second, here)


def _second(functions: Functions, r: Array, draws: Draws, followed: int) -> Array:
    """`H (k, k, Q)` of the first paths, times their weights."""
    second = functions.hessian(r[..., :followed], jax.tree.map(lambda leaf: leaf[:followed], draws.y))
    if draws.weight is not None:
        second = second * (draws.weight[:followed] / draws.weight[:followed].mean())
    return lax.optimization_barrier(second)


def settle(paths: Paths, arrival: Arrival, cell: Cell, node: Array) -> Paths:
    """Paths at the next node after the last pass over the cell."""
    here = node - cell.first
    if isinstance(paths.response, Directions):
        response = directions.settle(paths.response, arrival.response, here)
    else:
        response = turns.settle(paths.response, arrival.response, cell, here)
    return Paths(
        w=arrival.w,
        kicks=lax.dynamic_update_index_in_dim(paths.kicks, arrival.early + arrival.late, node, 0),
        deposit=shared(paths.deposit, arrival.early, arrival.late, here),
        memory=arrival.memory,
        response=response,
        held=arrival.held,
        start=paths.start,
    )


def look(paths: Paths, back: Array, reach: int) -> Paths:
    """Remember `reach` nodes, without the first `back` of those so far."""
    padded = -(-reach // BLOCK) * BLOCK
    if isinstance(paths.response, Directions):
        response = directions.look(paths.response, back, reach, padded)
    else:
        response = turns.look(paths.response, back, reach)
    return paths._replace(deposit=forgotten(paths.deposit, 0, padded, back), response=response)


class SampleProgram:
    """The compiled work on paths for one loss and drive; every array has a leading axis of replicates."""

    def __init__(self, slopes: Slopes, label: Callable, drive: str, kinks: bool = False, filtered: bool = False, all_tell: bool = True):
        functions = path_functions(slopes, drive)

        def begin(draws: Draws, rho_root: Array, normals: Array, moved: Array, numbers: Any) -> tuple[Any, Paths, Averages]:
            """Labels, paths and averages at time zero, where direction `x` has the response `moved (k, X, k)`."""
            k_star = rho_root.shape[0]
            y = told(jax.vmap(label)((rho_root @ draws.gauss[:k_star]).T, draws.y), numbers)
            draws = draws._replace(y=y)
            w = normals @ draws.gauss
            k, x, _ = moved.shape
            cells, p = ((len(draws.gauss) - k_star) // k - 1) // (2 if filtered else 1), w.shape[-1]
            q = followed(p, share_of(k, cells, drive, all_tell))
            own = signed(sizes(draws.distance, normals)) if kinks else None
            parts = turns.parts_of(drive, filtered)
            response = turns.blank(k, x, q, parts) if own is None else directions.blank(own, x, p, filtered)
            paths = Paths(
                w=w,
                kicks=jnp.zeros((cells, k, p)),
                deposit=jnp.zeros((-(-x // BLOCK) * BLOCK, k, p)),
                memory=jnp.zeros((k, p)),
                response=response,
                held=jnp.zeros((k, p)) if filtered else None,
            )
            if draws.known is not None:
                at = functions.gradient(w, y), w, functions.loss(w, y), draws.gauss[:k_star]
                paths = paths._replace(start=begun(*at, weigh(draws), draws.known))

            slopes = lambda l: _slopes_at_start(functions, paths, draws, moved, l, q)  # noqa: E741
            return y, paths, average(functions, w, draws, paths, paths.held, slopes)

        def cross(paths: Paths, draws: Draws, cell: Cell, node, slots, step) -> tuple[Averages, Array | None, Arrival]:
            """Averages at the next node, for a flow the second moments of the cell's kick with every cell's `(N, k, k)`, the paths."""
            arrival, r = cross_cell(functions, paths, draws, cell, node, slots, step)
            draws, kick = draws._replace(y=told(draws.y, cell.numbers)), arrival.early + arrival.late
            slopes = lambda l: _slopes(functions, paths, draws, cell, arrival, r, l, node)  # noqa: E741
            after = average(functions, r, draws, paths, arrival.held, slopes, node)
            # The cell's own kick is not in the table yet: to copy that twice a cell would take longer than all averages.
            inner = jnp.einsum("ip,jp->ij", functions.gradient(r, draws.y), weigh(draws)(kick)) / kick.shape[-1]
            after = after._replace(l_kicks=after.l_kicks.at[node].set(inner))
            if drive != "flow":
                return after, None, arrival
            moments = products(kick, paths.kicks, node).at[node].set(jnp.einsum("ip,jp->ij", kick, kick))
            return after, moments / kick.shape[-1], arrival

        self.again = lambda paths, arrival: paths
        self.resume = lambda paths, draws, arrived, node, span, before: before
        self.look = jit(lambda paths, back, reach: jax.vmap(lambda one: look(one, back, reach))(paths), static_argnums=2)
        self.reach = lambda directions: min(directions, REACH_OF_DIRECTIONS if kinks else REACH)
        self._start = jit(jax.vmap(begin, in_axes=(0, None, 0, 0, 0)))
        self.cross = jit(jax.vmap(cross, in_axes=(0, 0, 0, None, None, None)))
        self.settle = jit(jax.vmap(settle, in_axes=(0, 0, 0, None)), donate_argnums=0)

    def begin(self, draws: Draws, *start_of: Any) -> tuple[Any, Paths, Averages]:
        """Labels, paths and averages at time zero."""
        return self._start(bare(draws), *start_of)

    def prepare(self, cell: Cell, span: Any, step: float, draws: Draws, *start_of: Any) -> None:
        """Compile what crosses cells beside what `begin` does."""

        def work() -> None:
            y, paths, _ = self._start.shapes(bare(draws), *start_of)
            crossing = paths, draws._replace(y=y), cell, 0, span, step
            arrival = self.cross.shapes(*crossing)[2]
            self._start.beside((draws, arrival), lambda: self.settle.compile(paths, arrival, cell, 0))
            self.cross.compile(*crossing)

        self._start.beside((draws, cell), work)


def bare(draws: Draws) -> Draws:
    """Without events, whose number would need a program of its own."""
    return draws._replace(where=None, drift=None, noise=None, bridge=None)
