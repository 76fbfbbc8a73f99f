"""What is random about a sample: normals, label noise and the events that drive it, drawn ahead as scrambled Sobol points.

Jump times are exact and belong to no grid. Several time resolutions share one set of draws: a coarse cell's normal is
the sum of its fine cells', so that their difference is the discretisation error and hardly any sampling noise.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import special, stats
from scipy.stats import qmc

from ..dynamics import SGD, SME, Dynamics, step_at
from ..problem import Problem
from .differences import grid_distance
from .particles import Particles
from .sample import Draws

TINY = 2.0**-40  # keeps uniform numbers off 0 and 1
GRADING = 1.5
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


def spaced(horizon: float, cells: int) -> np.ndarray:
    """Nodes `(cells + 1,)`, closer at the start: training is fast first and slow later. Every second one is again such a grid."""
    return horizon * np.linspace(0.0, 1.0, cells + 1) ** GRADING


def jump_intensity(problem: Problem, dynamics: SGD, horizon: float) -> tuple[np.ndarray, np.ndarray]:
    """Times and the mean number of jumps `int nu dt` up to them, `nu = 1 / (eta(t) delta)`."""
    times = np.linspace(0.0, horizon, 2 if not callable(dynamics.step) else 2049)
    rate = 1.0 / (step_at(dynamics, times) * problem.sample_ratio)
    mass = np.concatenate([[0.0], np.cumsum(0.5 * (rate[1:] + rate[:-1]) * np.diff(times))])
    return times, mass


def draw(problem: Problem, dynamics: Dynamics, horizon: float, cells: int, paths: int, seed: np.random.SeedSequence) -> Randomness:
    """Draw `paths` samples (a power of two) for at most `cells` cells.

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
        points = qmc.Sobol(head + n_events + cells * k, scramble=True, rng=np.random.default_rng(sobol_seed)).random(paths)
    points = np.clip(points, TINY, 1.0 - TINY)
    event_columns, cell_columns = _interleave(head, n_events, cells * k)
    normal = special.ndtri(points[:, np.concatenate([np.arange(k_star + k), cell_columns]).astype(int)])
    noise = problem.noise_from_uniform(points[:, k_star + k : head]) if n_noise else np.zeros((paths, *problem.noise.shape))
    jumps = diffusion = None
    if mass is not None:
        jumps = poisson_jumps(points[:, event_columns], mass, np.random.default_rng(bridge_seed.spawn(1)[0]))
    elif n_events:
        diffusion = special.ndtri(points[:, event_columns])
    return Randomness(
        normal[:, :k_star],
        normal[:, k_star : k_star + k],
        noise,
        normal[:, k_star + k :].reshape(paths, cells, k),
        jumps,
        diffusion,
        bridge_seed,
        horizon,
    )


def _interleave(head: int, events: int, normals: int) -> tuple[np.ndarray, np.ndarray]:
    """Sobol columns of events and of cell normals, in turn from the first free one."""
    order = np.argsort(np.concatenate([np.arange(events) * 1.0, np.arange(normals) + 0.5]), kind="stable")
    place = np.empty(events + normals, int)
    place[order] = np.arange(events + normals)
    return head + place[:events], head + place[events:]


def poisson_jumps(points: np.ndarray, mass: tuple[np.ndarray, np.ndarray], rng: np.random.Generator) -> Jumps:
    """Poisson jump times: the first coordinate gives their number, the others their places."""
    times, cumulated = mass
    number = stats.poisson.ppf(points[:, 0], cumulated[-1]).astype(int)
    most = int(number.max(initial=0))
    place = points[:, 1 : most + 1]
    if place.shape[1] < most:
        place = np.concatenate([place, rng.random((len(points), most - place.shape[1]))], 1)
    at = np.interp(place * cumulated[-1], cumulated, times)
    return Jumps(np.sort(np.where(np.arange(most) < number[:, None], at, np.inf), 1))


def lay_out(
    problem: Problem, dynamics: Dynamics, randomness: Randomness, nodes: np.ndarray, slots: int | None = None
) -> tuple[Draws, np.ndarray]:
    """Lay draws on the grid `nodes (N' + 1,)`, where `N` is a multiple of `N'`; also the event slots each cell uses.

    `y` of the result holds the label noise; the solver turns it into labels. Padded to `N` cells and `slots` slots.
    """
    paths, cells, k = randomness.cells.shape
    spacing = np.diff(nodes)
    smooth = randomness.jumps is None and randomness.diffusion is None
    finest = spaced(randomness.horizon, cells)
    normals = _merge(randomness.cells, nodes, finest, smooth)
    gauss = np.zeros((randomness.teacher.shape[1] + k + cells * k, paths))
    filled = np.concatenate([randomness.teacher, randomness.start, normals.reshape(paths, -1)], 1).T
    gauss[: len(filled)] = filled
    rng = np.random.default_rng(randomness.seed)
    apart = grid_distance(problem, len(spacing), cells)
    if randomness.jumps is not None:
        where, noise, bridge, used = _lay_jumps(dynamics, randomness.jumps, nodes, cells, k, slots, rng)
        return Draws(gauss, randomness.noise, where, np.zeros((cells, 1, paths)), noise, bridge, apart), used
    where = np.full((cells, 1, paths), 0.5)
    drift = np.zeros((cells, 1, paths))
    drift[: len(spacing)] = (spacing / problem.sample_ratio)[:, None, None]
    noise = np.zeros((cells, 1, paths))
    bridge = np.zeros((cells, 1, k, paths))
    if randomness.diffusion is not None:
        variance = step_at(dynamics, 0.5 * (nodes[1:] + nodes[:-1])) / problem.sample_ratio * spacing
        noise[: len(spacing), 0] = (_merge(randomness.diffusion[:, :, None], nodes, finest)[..., 0] * np.sqrt(variance)).T
        bridge[: len(spacing)] = rng.standard_normal((len(spacing), 1, k, paths))
    return Draws(gauss, randomness.noise, where, drift, noise, bridge, apart), np.ones(cells, np.int32)


def lay_particles(particles: Particles, nodes: np.ndarray, finest: np.ndarray, smooth: bool) -> Particles:
    """Particles on the grid `nodes`, their noise merged like a sample's."""
    return particles._replace(cells=_merge(particles.cells, nodes, finest, smooth))


def _merge(normals: np.ndarray, nodes: np.ndarray, finest: np.ndarray, smooth: bool = False) -> np.ndarray:
    """Normals `(P, N, k)` of the cells of the grid `finest` to those of the coarse grid `nodes`, which are some of its nodes.

    Brownian increments add up. A smooth process has ever less new in each cell, the first ones its value and derivatives
    at the start, so there the first normals mean the same on every grid.
    """
    if smooth:
        return normals[:, : len(nodes) - 1]
    paths, fine, k = normals.shape
    cells = len(nodes) - 1
    widths = np.diff(finest).reshape(cells, fine // cells)
    weights = np.sqrt(widths / widths.sum(1, keepdims=True))
    return np.einsum("pcmk,cm->pck", normals.reshape(paths, cells, fine // cells, k), weights)


def _lay_jumps(dynamics: Dynamics, jumps: Jumps, nodes: np.ndarray, cells: int, k: int, slots: int | None, rng: np.random.Generator):
    """Sort jumps into cells, each at its slot: the first of its path in the cell, the second, ..."""
    at = jumps.times
    paths, most = at.shape
    cell = np.where(np.isfinite(at), np.searchsorted(nodes, at, side="right") - 1, cells)
    slot = np.zeros_like(cell)
    for j in range(1, most):
        slot[:, j] = np.where(cell[:, j] == cell[:, j - 1], slot[:, j - 1] + 1, 0)
    real = cell < len(nodes) - 1
    path = np.broadcast_to(np.arange(paths)[:, None], cell.shape)[real]
    cell, slot, at = cell[real], slot[real], at[real]
    used = np.zeros(cells, np.int32)
    np.maximum.at(used, cell, slot.astype(np.int32) + 1)
    depth = max(slots or 1, int(used.max(initial=0)), 1)
    where = np.ones((cells, depth, paths))
    noise = np.zeros((cells, depth, paths))
    bridge = np.zeros((cells, depth, k, paths))
    where[cell, slot, path] = (at - nodes[cell]) / np.diff(nodes)[cell]
    noise[cell, slot, path] = step_at(dynamics, at)
    bridge[cell, slot, :, path] = rng.standard_normal((len(at), k))
    return where, noise, bridge, used
