"""One causal pass through time: coordinates and sample paths marched together, second order in the node spacing.

Per cell: predict the kernels' next row, carry the paths across and average, correct by the trapezoid rule, carry and
average again. The loop knows neither the dynamics (see `sample`) nor the optimiser nor the law of a coordinate (see `coordinates`). The
kernels' algebra is small and stays in NumPy; the paths live on JAX's device and never leave it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np

from ..compiling import on_host
from .averages import Averages
from .gaussian import psd_factor
from .samples.sample import Cell, ahead, blank
from .weights.along import Along
from .weights.coordinates import Coordinates
from .weights.noise import noise_row


class Program(Protocol):
    """What the march asks of the compiled work on samples; every array has a leading axis of replicates. What a sample carries along
    (`paths`) and its draws are the program's own."""

    def reach(self, directions: int) -> int:
        """How many nodes are remembered at first, and by which memory grows, where there are so many directions."""
        ...

    def prepare(self, cell: Cell, span: Any, step: float, draws: Any, *start_of: Any) -> None:
        """Begin to compile what crosses a cell like this one, beside what `begin` asks for: `draws` and others are its arguments."""
        ...

    def begin(
        self, draws: Any, rho_root: np.ndarray, normals: np.ndarray, directions: np.ndarray, numbers: np.ndarray | None
    ) -> tuple[Any, Any, Any]:
        """Labels, samples and averages at time zero; `numbers (S, p)` are those trained along, if there are any."""
        ...

    def cross(self, paths: Any, draws: Any, cell: Cell, node: int, span: Any, step: float) -> tuple[Any, Any, Any]:
        """Averages at the next node, second moments of the cell's kicks where they are estimated by themselves, and the samples there."""
        ...

    def again(self, paths: Any, arrival: Any) -> Any:
        """Samples from which the cell is crossed once more, after `cross` has given `arrival`."""
        ...

    def settle(self, paths: Any, arrival: Any, cell: Cell, node: int) -> Any:
        """Samples at the next node after the last pass over the cell."""
        ...

    def resume(self, paths: Any, draws: Any, arrived: np.ndarray, node: int, span: Any, before: Averages) -> Averages:
        """Averages on the other side of a node, where they may differ: at the end of an epoch."""
        ...

    def look(self, paths: Any, back: int, reach: int) -> Any:
        """Remember `reach` nodes, without the first `back` of those so far."""
        ...


@dataclass
class Marched:
    """Kernels on the nodes reached, with a leading axis of replicates.

    Attributes:
        nodes: times `(n,)`; fewer than asked for if the march was stopped.
        R: response `(S, n, n, k, k)`.
        L: w at the nodes in independent standard normals, `(S, n, k, dims)`; the teacher's come first.
        train: train risk `(S, n)`.
        begun: averages at time zero.
        gap: how two estimates of `E[theta theta^T]` differ, `(S, n, k, k)`; see `Coordinates.gap`.
        trained: numbers trained along, `(S, n, p)`.
    """

    nodes: np.ndarray
    R: np.ndarray
    L: np.ndarray
    train: np.ndarray
    begun: Averages
    gap: np.ndarray
    trained: np.ndarray


@dataclass
class Seen:
    """What has happened to the samples in one cell, for a witness to do it again; leading axes of replicates.

    Attributes:
        node: the node before the cell.
        paths: samples there; for events the same as `arrival`.
        arrival: and at the next node.
        cell, span, step: what they were told of the cell.
        spreads: `Cell.spread` of it and of all cells before.
        after, moments: averages and second moments of kicks at the next node.
        numbers: what is trained along at the nodes so far, `(S, node + 2, p)`.
    """

    node: int
    draws: Any
    paths: Any
    arrival: Any
    cell: Cell
    span: Any
    step: float
    spreads: list[np.ndarray]
    after: Averages
    moments: np.ndarray | None
    numbers: np.ndarray | None = None


def _window(array: np.ndarray, axis: int, first: int, size: int) -> np.ndarray:
    """`size` entries of `axis` from `first` on, zeros beyond its end."""
    piece = array[(slice(None),) * axis + (slice(first, first + size),)]
    if piece.shape[axis] == size:
        return piece
    return np.pad(piece, [(0, size - n if i == axis else 0) for i, n in enumerate(piece.shape)])


def _spread_out(piece: np.ndarray, first: int, size: int) -> np.ndarray:
    """The inverse of `_window` along the second axis: zeros where it did not look."""
    if piece.shape[1] == size:
        return piece
    array = np.zeros((len(piece), size, *piece.shape[2:]))
    array[:, first : first + piece.shape[1]] = piece[:, : size - first]
    return array


@dataclass
class Party:
    """Samples that go together, from node to node."""

    program: Program
    draws: Any
    spans: list
    whole: Callable[[Averages], Averages]  # what makes averages of all nodes of those of remembered ones
    paths: Any = None
    arrival: Any = None
    before: Any = None  # averages at the present node,
    after: Any = None  # at the next one,
    moments: Any = None  # and second moments of kicks there, where they are estimated by themselves

    def begin(self, step: float, layer: Any, *start_of: Any) -> None:
        normals, directions, numbers = start_of[1:]
        self.program.prepare(blank(normals, directions, layer, numbers), self.spans[0], step, self.draws, *start_of)
        y, self.paths, start = self.program.begin(self.draws, *start_of)
        self.draws, self.before = self.draws._replace(y=y), self.whole(on_host(start))

    def look(self, back: int, reach: int) -> None:
        self.paths = self.program.look(self.paths, back, reach)

    def cross(self, cell: Cell, node: int, step: float) -> None:
        """Come to the end of a cell, once more if it has been crossed before."""
        after, moments, self.arrival = self.program.cross(self.paths, self.draws, cell, node, self.spans[node], step)
        self.paths = self.program.again(self.paths, self.arrival)
        after, self.moments = on_host((after, moments))
        self.after = self.whole(after)

    def settle(self, cell: Cell, node: int) -> None:
        """Go on from there."""
        self.paths = self.program.settle(self.paths, self.arrival, cell, node)
        self.draws = ahead(self.draws, cell)
        self.before = self.program.resume(self.paths, self.draws, cell.arrived, node + 1, self.spans[node], self.after)


def _over(parties: list[Party], name: str) -> Any:
    """The mean of what all have of this name."""
    return jax.tree.map(lambda *parts: sum(parts) / len(parts), *(getattr(party, name) for party in parties))


def _cross(parties: list[Party], cell: Cell, node: int, step: float) -> Averages:
    """Averages over all at the end of a cell that they cross."""
    for party in parties:
        party.cross(cell, node, step)
    return _over(parties, "after")


def _still(before: Averages, node: int, kick: float) -> Averages:
    """What a first pass over a cell takes averages to be at its end: as before it, its own kick smooth and `kick` times the gradient."""
    still = before._replace(l_kicks=before.l_kicks.copy())
    still.l_kicks[:, node] = kick * before.l_l
    return still


def march(
    program: Program,
    coordinates: Coordinates,
    parties: list[tuple[Any, list]],
    nodes: np.ndarray,
    step: np.ndarray,
    rho_root: np.ndarray,
    sample_ratio: float,
    natural: bool,
    limit: float,
    smooth: bool = True,
    watch: Callable[[], object] = lambda: None,
    look: Callable[[Seen], object] = lambda seen: None,
    along: Along | None = None,
    scouts: list[tuple[Any, list]] | None = None,
) -> Marched:
    """March all replicates together over `nodes`; stop early where a self-overlap's trace passes `limit`. `watch` is called at every
    node: what it raises ends the march. `look` is shown every cell that has been crossed.

    `parties` are draws and spans of equally many samples each. `step (n,)` is eta at the nodes. With `natural` the noise's covariance is
    the second moment of the kicks themselves, `delta E[G_c G_c'^T]`: positive semi-definite to rounding, noisy when kicks are rare, and
    the right one when they are many or smooth. `smooth` says that averages are smooth functions of time, so that what later nodes remember
    of early cells can be smoothed, see `noise`; a natural covariance is of low rank, which smoothing would destroy. `along` are the numbers
    that are trained along. `scouts` are parties of few samples for the first pass over every cell: by what averages over them change in it,
    those over all do, who then cross it once.
    """
    noise = lambda node, before, after: noise_row(
        nodes, node, step[[node, node + 1]], before, after, smooth and not natural, coordinates.white
    )
    L = [coordinates.normals(0)]
    directions = coordinates.directions()
    first, grows = 0, program.reach(directions.shape[2])
    reach = grows  # the nodes that are remembered
    near = lambda array, axis: _window(array, axis, first, reach)
    whole = lambda averages: averages._replace(h_chi=_spread_out(averages.h_chi, first, directions.shape[2]))
    begins = rho_root, L[0], near(directions, 2), None if along is None else along.a[:, 0]
    everybody, few = ([Party(program, *party, whole) for party in some] for some in (parties, scouts or []))
    for party in everybody + few:
        party.begin(step[:2].mean(), coordinates.layer(0), *begins)
    before = begun = _over(everybody, "before")
    train, gap, spreads = [begun.risk], [coordinates.gap(0)], []
    for node in range(len(nodes) - 1):
        watch()
        if node + 2 - first > reach:
            back, first = first, coordinates.forget(node)
            if node + 2 - first > reach - grows // 4:
                reach += grows
            for party in everybody + few:
                party.look(first - back, reach)
        spacing, etas = nodes[node + 1] - nodes[node], step[[node, node + 1]]
        after, row = before, noise(node, before, _still(before, node, spacing / sample_ratio))
        for group in (few or everybody, everybody):
            coordinates.advance(node, spacing, etas, before, after, row)
            numbers = None if along is None else along.advance(node, spacing, before, after)
            rate = 0.5 * (etas[0] * before.l_l + etas[1] * after.l_l)
            spread = psd_factor(spacing * coordinates.bridge(spacing, 0.5 * (before.h + after.h), rate))
            response, forcing = near(coordinates.R[:, node + 1], 1), (near(part, 2) for part in coordinates.forcing(node))
            normals, earliest = coordinates.normals(node + 1), np.full(len(rate), first)
            cell = Cell(normals, earliest, response, spread, *forcing, layer=coordinates.layer(node), numbers=numbers)
            after = _cross(group, cell, node, etas.mean())
            if group is few:
                after = jax.tree.map(lambda now, then, seen: now + (seen - then), before, _over(few, "before"), after)
            row = np.moveaxis(sample_ratio * _over(group, "moments")[:, : node + 1], 1, 2) if natural else noise(node, before, after)
        spreads.append(spread)
        numbers, one = None if along is None else along.a[:, : node + 2], everybody[0]
        look(Seen(node, one.draws, one.paths, one.arrival, cell, one.spans[node], etas.mean(), spreads, one.after, one.moments, numbers))
        if few:  # what they foresaw fluctuates more than what all say
            _cross(few, cell, node, etas.mean())
            coordinates.advance(node, spacing, etas, before, after, row)
            cell = cell if along is None else cell._replace(numbers=along.advance(node, spacing, before, after))
        else:  # no correction more: the kernels stay those that the paths have seen, which matters more than their own order
            coordinates.add_noise(node, row)
        for party in everybody + few:
            party.settle(cell, node)
        before = _over(everybody, "before")
        L.append(coordinates.normals(node + 1))
        gap.append(coordinates.gap(node + 1))
        train.append(before.risk)
        size = np.einsum("sim,sim->s", L[-1], L[-1])
        if not ((size < limit) & np.isfinite(before.risk)).all():
            break
    n = len(L) if np.isfinite(L[-1]).all() and np.isfinite(train[-1]).all() else len(L) - 1  # within one cell to infinity
    L, train, gap = L[:n], train[:n], gap[:n]
    trained = np.zeros((len(L[0]), n, 0)) if along is None else along.a[:, :n]
    return Marched(nodes[:n], coordinates.kernel(n), np.stack(L, 1), np.stack(train, 1), begun, np.stack(gap, 1), trained)
