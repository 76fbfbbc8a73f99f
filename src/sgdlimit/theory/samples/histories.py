"""Jump histories for `events`: scrambled Sobol points in the order of time, laid on a grid in batches of jumps."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import special, stats
from scipy.stats import qmc

from ...learning.dynamics import SGD, step_at
from ...learning.labels import TINY, samples
from ...learning.problem import Problem
from ..shapes import room, roomy
from .differences import grid_distance
from .draws import jump_intensity
from .events import Histories, Span

POINTS = 8  # of the last Gaussian, per history
BATCH = 128  # jumps carried through together
RARE = 1e-5  # as likely as this, a history has more jumps than are followed
LEAST_SHARED = 512  # batches there is room for where shapes are few, see `shapes.few`
GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class History:
    """One replicate's histories before they are laid on a grid; `J` jumps at most."""

    gstar: np.ndarray  # (k_star, P)
    noise: np.ndarray  # (P, *shape of one draw)
    shift: np.ndarray  # (k, P): of the lattice of points of the last Gaussian
    normal: np.ndarray  # (J, k, P)
    at: np.ndarray  # (J, P): jump times in increasing order, infinity where there are fewer

    def part(self, first: int, last: int) -> History:
        """Those from the `first` to before the `last`."""
        late = (part[..., first:last] for part in (self.shift, self.normal, self.at))
        return History(self.gstar[:, first:last], self.noise[first:last], *late)


def draw_histories(problem: Problem, dynamics: SGD, horizon: float, paths: int, seed: np.random.SeedSequence) -> History:
    """`paths` histories (a power of two).

    Jumps come one after the other, as exponential waiting times, so the first Sobol dimensions decide what happens first.
    """
    times, mass = jump_intensity(problem, dynamics, horizon)
    jumps = int(stats.poisson.isf(RARE, mass[-1])) + 1
    k, k_star, n_noise = problem.k, problem.k_star, problem.noise_size
    head = k_star + n_noise + k
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a number of points that is not a power of two
        points = qmc.Sobol(head + jumps * (1 + k), scramble=True, rng=np.random.default_rng(seed)).random(paths)
    points = np.clip(points, TINY, 1.0 - TINY)
    events = points[:, head:].reshape(paths, jumps, 1 + k)
    waited = np.cumsum(-np.log1p(-events[:, :, 0]), 1).T
    gstar, noise = samples(problem, points[:, :k_star], points[:, k_star : k_star + n_noise])
    unused = roomy(max(jumps, 4), 2) - jumps  # other numbers of jumps share the compiled program
    return History(
        gstar=gstar.T,
        noise=noise,
        shift=points[:, k_star + n_noise : head].T,
        normal=np.pad(np.moveaxis(special.ndtri(events[:, :, 1:]), 0, 2), ((0, unused), (0, 0), (0, 0))),
        at=np.pad(np.where(waited < mass[-1], np.interp(waited, mass, times), np.inf), ((0, unused), (0, 0)), constant_values=np.inf),
    )


def lattice(shift: np.ndarray) -> np.ndarray:
    """Normals `(Q, k, P)` behind a rank-one lattice of points, shifted for every history by `shift (k, P)`: unbiased, and
    as good as a Gauss rule for smooth functions."""
    generator = np.append(1.0 / POINTS, (GOLDEN * np.arange(1, len(shift))) % 1.0)
    points = (np.arange(POINTS)[:, None] * generator)[:, :, None] + shift
    return special.ndtri(np.clip(points % 1.0, TINY, 1.0 - TINY))


def lay_out_histories(problem: Problem, dynamics: SGD, drawn: list[History], nodes: np.ndarray, cells: int) -> tuple[Histories, list[Span]]:
    """Lay replicates on the grid `nodes (N' + 1,)`, at most `cells` cells; also where each cell's jumps are.

    `y` of the result holds the label noise; the solver turns it into labels.
    """
    placed = [_place(one.at, nodes, cells) for one in drawn]
    batches = [_batches(cell, cells) for cell, _ in placed]
    counts = np.max([count for _, _, _, count in batches], 0)
    first = np.concatenate([[0], np.cumsum(counts)])
    paths = drawn[0].at.shape[1]
    # Room to spare: other resolutions, replicates of other seeds and other problems share the compiled program.
    usual = 1.3 * np.isfinite(drawn[0].at).sum() / BATCH + 4 * cells
    batch_room = room(roomy(max(int(first[-1]), int(usual), 64), 1), LEAST_SHARED, 4)
    path = np.full((len(drawn), batch_room, BATCH), paths, np.int32)
    jump = np.zeros((len(drawn), batch_room, BATCH), np.int32)
    for s, (cell, batch, lane, _) in enumerate(batches):
        paths_of, jumps_of = cell
        where = first[placed[s][0][jumps_of, paths_of]] + batch
        path[s, where, lane], jump[s, where, lane] = paths_of, jumps_of
    eta = [np.where(np.isfinite(one.at), step_at(dynamics, np.where(np.isfinite(one.at), one.at, 0.0)), 0.0) for one in drawn]
    weight = np.full((len(drawn), paths), 1.0 / paths)
    stack = lambda name: np.stack([getattr(one, name) for one in drawn])
    histories = Histories(
        gstar=stack("gstar"),
        y=stack("noise"),
        weight=weight,
        points=np.stack([lattice(one.shift) for one in drawn]),
        normal=stack("normal"),
        eta=np.stack(eta),
        cell=np.stack([cell for cell, _ in placed]).astype(np.int32),
        place=np.stack([place for _, place in placed]),
        path=path,
        jump=jump,
        distance=np.stack([grid_distance(problem, len(nodes) - 1, cells)] * len(drawn)),
        order=_order([cell for cell, _ in placed], cells),
    )
    before = jump.max((0, 2)).astype(np.int32)
    jumps = np.max([[(one.at < end).sum(0).max() for end in nodes[1:]] for one in drawn], 0)
    return histories, [Span(np.int32(first[c]), np.int32(counts[c]), before, np.int32(jumps[c])) for c in range(len(nodes) - 1)]


def _order(placed: list[np.ndarray], cells: int) -> np.ndarray | None:
    """`Histories.order` of all replicates, where that is worth it."""
    real = max(int((cell < cells).sum()) for cell in placed)
    space = BATCH * roomy(-(-real // BATCH) + 1, 4)
    if 2 * space > placed[0].size:
        return None
    order = np.full((len(placed), space), placed[0].size, np.int32)
    for row, cell in zip(order, placed, strict=True):
        where = np.flatnonzero(cell.ravel() < cells)
        row[: len(where)] = where[np.argsort(cell.ravel()[where], kind="stable")]
    return order


def _place(at: np.ndarray, nodes: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Cell (`cells` where there is no jump) and place in it of every jump."""
    real = np.isfinite(at)
    cell = np.clip(np.searchsorted(nodes, at, side="right") - 1, 0, len(nodes) - 2)
    place = (np.where(real, at, 0.0) - nodes[cell]) / np.diff(nodes)[cell]
    return np.where(real, cell, cells), np.where(real, place, 0.0)


def _batches(cell: np.ndarray, cells: int):
    """Sort jumps into batches: those of a cell that are the first of their history in it, the second, ...

    Returns `(paths, jumps)`, their batch within the cell, their lane in the batch, and the number of batches of each cell.
    """
    slot = np.zeros_like(cell)
    for j in range(1, len(cell)):
        slot[j] = np.where(cell[j] == cell[j - 1], slot[j - 1] + 1, 0)
    jumps, paths = np.nonzero(cell < cells)
    c, s = cell[jumps, paths], slot[jumps, paths]
    order = np.lexsort((jumps, s, c))  # within a batch by number: the work grows with the largest
    jumps, paths, c, s = jumps[order], paths[order], c[order], s[order]
    starts = np.flatnonzero(np.concatenate([[True], (np.diff(c) != 0) | (np.diff(s) != 0)])) if len(c) else np.zeros(0, int)
    sizes = np.diff(np.append(starts, len(c)))
    rank = np.arange(len(c)) - np.repeat(starts, sizes)
    needed = -(-sizes // BATCH)
    before = np.cumsum(needed) - needed  # batches of earlier groups, of which those of the same cell count
    counts = np.zeros(cells, int)
    np.add.at(counts, c[starts], needed)
    earlier_cells = np.cumsum(counts) - counts
    within = before - earlier_cells[c[starts]]
    return (paths, jumps), np.repeat(within, sizes) + rank // BATCH, rank % BATCH, counts
