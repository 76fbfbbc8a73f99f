"""What is random about a sample: normals, label noise and the events that drive it, drawn ahead as scrambled Sobol points.

Jump times are exact and belong to no grid. Several time resolutions share one set of draws: a coarse cell's normal is
the sum of its fine cells', so that their difference is the discretisation error and hardly any sampling noise.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
from scipy import special, stats
from scipy.stats import qmc

from ...learning.dynamics import SGD, SME, Dynamics, step_at
from ...learning.labels import TINY, samples
from ...learning.problem import Problem
from ..grids import GRADING, STEEP, merge, spaced
from .anchored import Products, known_start
from .differences import grid_distance
from .sample import Draws
from .tilted import tilted

FILTER = 1000  # of the random numbers that only a sample behind a filter has
LEAP = 4  # jump times beyond the mean number plus this many standard deviations are not worth a Sobol dimension


@dataclass(frozen=True)
class Jumps:
    """Jump times of every path, `(P, J)` in increasing order, padded with infinity."""

    times: np.ndarray


@dataclass(frozen=True)
class Randomness:
    """One replicate's draws, before they are laid on a grid; `N` is the finest number of cells."""

    teacher: np.ndarray  # (P, k_star)
    start: np.ndarray  # (P, k)
    noise: np.ndarray  # (P, *shape of one draw)
    cells: np.ndarray  # (P, N, k)
    jumps: Jumps | None
    diffusion: np.ndarray | None  # (P, N)
    seed: np.random.SeedSequence  # of the bridge's normals
    horizon: float
    grading: float  # of its grids
    weight: np.ndarray | None = None  # (P,): see `tilted`
    known: Products | None = None  # see `anchored`

    def part(self, first: int, last: int) -> Randomness:
        """Its paths from the `first` to before the `last`, with a bridge of their own."""
        names = ("teacher", "start", "noise", "cells", "diffusion", "weight")
        some = {name: None if (part := getattr(self, name)) is None else part[first:last] for name in names}
        jumps = None if self.jumps is None else Jumps(self.jumps.times[first:last])
        seed = np.random.SeedSequence(self.seed.entropy, spawn_key=(*self.seed.spawn_key, first)) if first else self.seed
        return replace(self, **some, jumps=jumps, seed=seed)


def grading(dynamics: Dynamics) -> float:
    """How much closer the nodes are at the start. A velocity that is corrected for its start lets the first kicks move most, the more the
    earlier they come."""
    optimizer = dynamics.optimizer
    return STEEP if optimizer is not None and optimizer.gains and optimizer.memory else GRADING


def jump_intensity(problem: Problem, dynamics: SGD, horizon: float) -> tuple[np.ndarray, np.ndarray]:
    """Times and the mean number of jumps `int nu dt` up to them, `nu = 1 / (eta(t) delta)`."""
    times = np.linspace(0.0, horizon, 2 if not callable(dynamics.step) else 2049)
    rate = 1.0 / (step_at(dynamics, times) * problem.sample_ratio)
    mass = np.concatenate([[0.0], np.cumsum(0.5 * (rate[1:] + rate[:-1]) * np.diff(times))])
    return times, mass


def draw(
    problem: Problem,
    dynamics: Dynamics,
    horizon: float,
    cells: int,
    paths: int,
    seed: np.random.SeedSequence,
    curvature: float | None = None,
) -> Randomness:
    """Draw `paths` samples (a power of two) for at most `cells` cells; of SME tilted as for this `curvature`.

    Dimensions come in the order of time, because the first of a Sobol sequence are its best.
    """
    sobol_seed, bridge_seed = seed.spawn(2)
    k, k_star, n_noise = problem.k, problem.k_star, problem.noise_size
    head = k_star + k + n_noise
    mass = None
    n_events = 0
    if isinstance(dynamics, SGD):
        mass = jump_intensity(problem, dynamics, horizon)
        mean = mass[1][-1]
        n_events = 2 + int(mean + LEAP * np.sqrt(mean))
    elif isinstance(dynamics, SME):
        n_events = cells
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a number of points that is not a power of two
        ahead = 0 if curvature is None else 1
        points = qmc.Sobol(ahead + head + n_events + cells * k, scramble=True, rng=np.random.default_rng(sobol_seed)).random(paths)
    points = np.clip(points, TINY, 1.0 - TINY)
    first, points = points[:, 0], points[:, ahead:]
    event_columns, cell_columns = _interleave(head, n_events, cells * k)
    normal = special.ndtri(points[:, np.concatenate([np.arange(k_star, k_star + k), cell_columns]).astype(int)])
    gstar, noise = samples(problem, points[:, :k_star], points[:, k_star + k : head])
    jumps = diffusion = weight = None
    if mass is not None:
        jumps = poisson_jumps(points[:, event_columns], mass, np.random.default_rng(bridge_seed.spawn(1)[0]))
    elif n_events:
        diffusion = special.ndtri(points[:, event_columns])
        if curvature is not None:
            variance = _noise_variance(problem, dynamics, spaced(horizon, cells, grading(dynamics)))
            diffusion, weight = tilted(first, diffusion, np.sqrt(variance), curvature)
    return Randomness(
        gstar,
        normal[:, :k],
        noise,
        normal[:, k:].reshape(paths, cells, k),
        jumps,
        diffusion,
        bridge_seed,
        horizon,
        grading(dynamics),
        weight,
        known_start(problem, paths, seed) if k > 1 else None,
    )


def _noise_variance(problem: Problem, dynamics: Dynamics, nodes: np.ndarray) -> np.ndarray:
    """Of a sample's own noise in every cell, as it multiplies its gradient."""
    return step_at(dynamics, 0.5 * (nodes[1:] + nodes[:-1])) / problem.sample_ratio * np.diff(nodes)


def _interleave(head: int, events: int, normals: int) -> tuple[np.ndarray, np.ndarray]:
    """Sobol columns of events and of cell normals, in turn from the first free one."""
    order = np.argsort(np.concatenate([np.arange(events) * 1.0, np.arange(normals) + 0.5]), kind="stable")
    place = np.empty(events + normals, int)
    place[order] = np.arange(events + normals)
    return head + place[:events], head + place[events:]


def poisson_jumps(points: np.ndarray, mass: tuple[np.ndarray, np.ndarray], rng: np.random.Generator) -> Jumps:
    """Poisson jump times: the first coordinate gives their number, the others their places."""
    times, cumulated = mass
    number = poisson_numbers(points[:, 0], float(cumulated[-1]))
    most = int(number.max(initial=0))
    place = points[:, 1 : most + 1]
    if place.shape[1] < most:
        place = np.concatenate([place, rng.random((len(points), most - place.shape[1]))], 1)
    at = np.interp(place * cumulated[-1], cumulated, times)
    return Jumps(np.sort(np.where(np.arange(most) < number[:, None], at, np.inf), 1))


def poisson_numbers(points: np.ndarray, mean: float) -> np.ndarray:
    """`stats.poisson.ppf(points, mean)` by a table: the smallest numbers that are not exceeded with these probabilities."""
    most = int(stats.poisson.isf(TINY, mean)) + 1
    return np.searchsorted(stats.poisson.cdf(np.arange(most + 1), mean), points)


def lay_out(
    problem: Problem, dynamics: Dynamics, randomness: Randomness, nodes: np.ndarray, room: int | None = None
) -> tuple[Draws, np.ndarray]:
    """Lay draws on the grid `nodes (N' + 1,)`, where `N` is a multiple of `N'`; also how many events a cell has at most, one for each.

    `y` of the result holds the label noise; the solver turns it into labels. Padded to `room` cells, or `N`.
    """
    paths, finest_cells, k = randomness.cells.shape
    cells = room or finest_cells
    spacing = np.diff(nodes)
    smooth = randomness.jumps is None and randomness.diffusion is None and not dynamics.temperature
    finest = spaced(randomness.horizon, finest_cells, randomness.grading)
    normals = merge(randomness.cells, nodes, finest, smooth)
    gauss = np.zeros((randomness.teacher.shape[1] + k + cells * k * (1 if dynamics.plain else 2), paths))
    filled = np.concatenate([randomness.teacher, randomness.start, normals.reshape(paths, -1)], 1).T
    gauss[: len(filled)] = filled
    if not dynamics.plain:
        seed = np.random.SeedSequence(randomness.seed.entropy, spawn_key=(*randomness.seed.spawn_key, FILTER))
        more = k * len(spacing)
        gauss[len(gauss) - cells * k :][:more] = np.random.default_rng(seed).standard_normal((more, paths))
    rng = np.random.default_rng(randomness.seed)
    apart = grid_distance(problem, len(spacing), cells)
    if randomness.jumps is not None:
        return _lay_jumps(dynamics, randomness, gauss, nodes, cells, rng, apart)
    where = np.full((cells, paths), 0.5)
    drift, noise, bridge = np.zeros((cells, 1)), np.zeros((cells, paths)), np.zeros((cells, k, paths))
    drift[: len(spacing), 0] = spacing / problem.sample_ratio
    if randomness.diffusion is not None:
        variance = _noise_variance(problem, dynamics, nodes)
        noise[: len(spacing)] = (merge(randomness.diffusion[:, :, None], nodes, finest)[..., 0] * np.sqrt(variance)).T
        bridge[: len(spacing)] = _middles(randomness, nodes, finest, rng)
    uneven = None
    if randomness.diffusion is not None and not dynamics.plain:
        uneven = np.zeros((cells, 2, paths))
        uneven[: len(spacing)] = rng.standard_normal((len(spacing), 2, paths)) * np.sqrt(variance)[:, None, None]
    return Draws(gauss, randomness.noise, where, drift, noise, bridge, None, apart, uneven, randomness.weight, randomness.known), np.ones(
        cells, np.int32
    )


def with_room(draws: Draws, events: int) -> Draws:
    """The same draws with room for so many events of each path."""
    padded = lambda array: np.pad(array, [(0, events - len(array)), *[(0, 0)] * (array.ndim - 1)])
    return draws._replace(where=padded(draws.where), noise=padded(draws.noise), bridge=padded(draws.bridge))


def _lay_jumps(
    dynamics: Dynamics,
    randomness: Randomness,
    gauss: np.ndarray,
    nodes: np.ndarray,
    room: int,
    rng: np.random.Generator,
    apart: np.ndarray,
) -> tuple[Draws, np.ndarray]:
    """Jumps as events: the place of each in its cell of the grid, and how many a path has had before each node."""
    assert randomness.jumps is not None
    at = randomness.jumps.times.T
    paths, cells, k = randomness.cells.shape
    real = np.isfinite(at)
    cell, where = _places(at, real, nodes)
    noise = np.zeros(at.shape)
    noise[real] = step_at(dynamics, at[real])
    counted = np.zeros((room + 1, paths), np.int32)
    np.add.at(counted, (cell[real] + 1, np.nonzero(real)[1]), 1)
    bridge = rng.standard_normal((len(at), k, paths))
    if len(nodes) <= cells:
        bridge = _coarser(randomness, at, real, bridge, nodes)
    earlier = np.cumsum(counted, 0, dtype=np.int32)
    still = np.zeros((1, 1))
    return Draws(gauss, randomness.noise, where, still, noise, bridge, earlier, apart, known=randomness.known), counted[1:].max(1)


def _places(at: np.ndarray, real: np.ndarray, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cell of each event, and its place in it."""
    cell, where = np.full(at.shape, len(nodes) - 2), np.ones(at.shape)
    cell[real] = np.searchsorted(nodes, at[real], side="right") - 1
    where[real] = (at[real] - nodes[cell[real]]) / np.diff(nodes)[cell[real]]
    return cell, where


def _brownian(randomness: Randomness, finest: np.ndarray) -> np.ndarray:
    """The Brownian motion `(N + 1, k, P)` at the nodes of the finest grid, that the normals of its cells are the increments of."""
    steps = np.sqrt(np.diff(finest))[:, None, None] * np.moveaxis(randomness.cells, 0, 2)
    return np.concatenate([np.zeros((1, *steps.shape[1:])), np.cumsum(steps, 0)])


def _coarser(randomness: Randomness, at: np.ndarray, real: np.ndarray, bridge: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """The bridge's normals on the coarse grid `nodes` of the motion that has the normals `bridge (J, k, P)` on the finest one.

    Where a cell outlasts the memory of `w`, most of what moves `w` at a jump is the bridge: with normals of its own each resolution would
    fluctuate by itself, and the extrapolation would add up their fluctuations.
    """
    finest = spaced(randomness.horizon, randomness.cells.shape[1], randomness.grading)
    motion = _brownian(randomness, finest)
    path = np.arange(at.shape[1])
    cell, place = _places(at, real, finest)
    width = np.diff(finest)
    apart, values = np.zeros(bridge.shape[1:]), np.empty_like(bridge)
    for j in range(len(at)):
        kept, spread = _given_earlier(cell, place, j)
        apart = kept * apart + spread * bridge[j]  # from the straight line over the cell, for a cell of unit length
        start, end = (motion[cell[j] + i, :, path].T for i in (0, 1))
        values[j] = start + place[j] * (end - start) + np.sqrt(width[cell[j]]) * apart
    motion = motion[:: (len(finest) - 1) // (len(nodes) - 1)]
    cell, place = _places(at, real, nodes)
    width, before, normals = np.diff(nodes), np.zeros(bridge.shape[1:]), np.empty_like(bridge)
    for j in range(len(at)):
        start, end = (motion[cell[j] + i, :, path].T for i in (0, 1))
        apart = (values[j] - start - place[j] * (end - start)) / np.sqrt(width[cell[j]])
        kept, spread = _given_earlier(cell, place, j)
        normals[j] = (apart - kept * before) / np.maximum(spread, TINY)
        before = apart
    return np.where(real[:, None], normals, 0.0)


def _given_earlier(cell: np.ndarray, place: np.ndarray, j: int) -> tuple[np.ndarray, np.ndarray]:
    """What a Brownian bridge over a cell keeps of its value at the event before number `j`, and the standard deviation of what is new."""
    again = (cell[j] == cell[j - 1]) if j else np.zeros(cell.shape[1], bool)
    earlier = np.where(again, place[j - 1], 0.0)
    left = np.maximum(1.0 - earlier, TINY)
    kept = np.where(again, (1.0 - place[j]) / left, 0.0)
    return kept, np.sqrt(np.maximum((place[j] - earlier) * (1.0 - place[j]) / left, 0.0))


def _middles(randomness: Randomness, nodes: np.ndarray, finest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The bridge's normals in the middles of cells, `(N', k, P)`: of a coarse cell they follow from its fine ones, see `_coarser`."""
    paths, cells, k = randomness.cells.shape
    every = cells // (len(nodes) - 1)
    if every == 1:
        return rng.standard_normal((cells, k, paths))
    motion = _brownian(randomness, finest)
    place = ((finest[every // 2 :: every] - nodes[:-1]) / np.diff(nodes))[:, None, None]
    start, end = motion[:-1:every], motion[every::every]
    apart = motion[every // 2 :: every] - start - place * (end - start)
    return apart / np.sqrt(np.diff(nodes)[:, None, None] * place * (1.0 - place))
