"""The laws behind the curves: paths of a training sample, eq. (1), and of a coordinate, eq. (2), given the solved kernels.

A solution keeps a law in memory, never in its file: a law holds the user's functions. Nothing is averaged here. `w` is drawn from
`C` and `Cs`, on a grid that has every output time as a node, and carried with `R` exactly as `sample` carries it when the
kernels are solved; a coordinate under a ridge is Gaussian given its teacher row. Paths are independent of each other, so
their own statistics apply to them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ...checks import root
from ...compiling import jit
from ...learning.dynamics import SGD, Dynamics, step_at
from ...learning.labels import TINY
from ...learning.problem import Problem
from ...learning.slopes import Slopes
from ...learning.trained import anywhere, own, told
from ...learning.weights import SmoothPenalty
from ...results import path_dataset
from ..accuracy.estimates import ANISOTROPIC_GAIN, ANISOTROPIC_NEARBY, EXTRAPOLATED_GAIN, NEARBY, multiscale
from ..accuracy.levels import NONE, Bends, Level, at_nodes, bends_of, curves_at, kernels_at, particles_of, resolved
from ..accuracy.outcome import largest_size
from ..averages import BLOCK, Layer
from ..gaussian import psd_root
from ..grids import spaced
from ..march import march
from ..samples.draws import Randomness, jump_intensity, poisson_jumps
from ..samples.engines import Engine, PathEngine, drive_of, engine_of
from ..samples.kicks import path_functions
from ..samples.reshuffle import epoch_ends, epoch_jumps
from ..samples.sample import Cell, Draws, Paths, cross_cell
from ..weights.along import along_of
from ..weights.filtered_spectral import FilteredSpectralCoordinates
from ..weights.filters import Filter
from ..weights.particles import Particles, blocks_of, draw_particles
from ..weights.spectral import SpectralCoordinates
from .averaged import Followed, Kernels, every_second
from .jumps import FEW, JumpPaths
from .law import Law, Process, drawn_noise, labeller

FINER = 4  # cells of a path's grid for each cell of the solution's finest resolution
FEWEST_CELLS, MOST_CELLS = 64, 512
CHUNK = 2048  # paths carried at once
PARTICLES = 2**12  # coordinates drawn under a smooth penalty
PARTICLE_CELLS = 32
CLASS_PATHS, CLASS_REPLICATES = 2**11, 4  # of the march that tells the kernels of each eigenvalue


@dataclass(frozen=True)
class PathLaw(Law):
    """SGD, SME and gradient flow, with mean kernels on the nodes of the finest resolution and of the next one; of reshuffled SGD
    when epochs end."""

    fine: Level
    middle: Level
    ends: np.ndarray
    coarse: Level | None = None
    fresh: ClassVar[bool] = False

    def samples(self, curves: xr.Dataset, n: int, seed: int) -> xr.Dataset:
        """Carry paths over a grid finer than the solution's, its kernels extrapolated like the curves."""
        times = curves["time"].values
        if times[-1] == 0.0:
            return Law(self.problem, self.dynamics).samples(curves, n, seed)
        nodes, outputs = grid(times, len(self.fine.nodes) - 1, kinks=self.ends)
        carry, rng = _Carry(self, nodes), np.random.default_rng(seed)
        size = min(n, CHUNK)
        chunks = [carry(size, outputs, rng) for _ in range(-(-n // size))]
        values = {name: np.concatenate([chunk[0][name] for chunk in chunks])[:n] for name in chunks[0][0]}
        y = jax.tree.map(lambda *parts: np.concatenate(parts)[:n], *[chunk[1] for chunk in chunks])
        return path_dataset(times, values, y)

    def kernels(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`C, R (n, n, k, k)` and `Cs (n, k, k_star)` at `nodes`; kept, since averages and paths ask for the same ones."""
        key = nodes.tobytes()
        if key not in self._kept:
            self._kept.clear()
            self._kept[key] = self._kernels(nodes)
        return self._kept[key]

    @property
    def bends(self) -> Bends:
        return bends_of(self.problem, self.dynamics, self.ends)

    @cached_property
    def _kept(self) -> dict[bytes, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        return {}

    def _kernels(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `kernels`, with the second-order error extrapolated away."""
        both = lambda at: resolved(at, (self.fine, self.middle), nodes, self.bends)
        fine, middle = (kernels | curves for kernels, curves in zip(both(kernels_at), both(curves_at), strict=True))
        C, R, overlap = (fine[name] + (fine[name] - middle[name]) / 3.0 for name in ("correlation", "response", "overlap"))
        if self.dynamics.plain:
            R[np.arange(len(nodes)), np.arange(len(nodes))] = np.eye(R.shape[-1])
            return C, R, overlap
        filter = Filter(self.dynamics, nodes, 1, R.shape[-1], len(nodes) - 1)
        for i in range(len(nodes)):
            R[i, : i + 1] += filter.excess(i)[:, None, None] * R[i, i]
        return C, R, overlap

    def numbers(self, nodes: np.ndarray) -> np.ndarray | None:
        """What is trained along at `nodes`, `(n, p)`."""
        if self.problem.trained is None:
            return None
        fine, middle = (one["trained"] for one in resolved(curves_at, (self.fine, self.middle), nodes, self.bends))
        return fine + (fine - middle) / 3.0

    def followed(self, times: np.ndarray) -> Followed:
        nodes, outputs = grid(times, len(self.fine.nodes) - 1, kinks=self.ends)
        C, R, overlap = self.kernels(nodes)
        several = multiscale(self.problem, self.dynamics)
        gain, nearby = (ANISOTROPIC_GAIN, ANISOTROPIC_NEARBY) if several else (EXTRAPOLATED_GAIN, NEARBY)
        levels = self._levels(nodes[every_second(len(nodes))])
        return Followed(self, Kernels(nodes, C, overlap, self.numbers(nodes)), self._kicked(R, nodes), outputs, levels, gain, nearby)

    def _kicked(self, R: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        """The response to kicks, of `R` as `kernels` has it: less what a filter holds back."""
        if self.dynamics.plain or len(nodes) == 1:
            return R
        filter, out = Filter(self.dynamics, nodes, 1, R.shape[-1], len(nodes) - 1), R.copy()
        for i in range(len(nodes)):
            out[i, : i + 1] -= filter.held(i)[:, None, None] * R[i, i]
        return out

    def _levels(self, nodes: np.ndarray) -> list[Kernels]:
        """All three resolutions on `nodes`."""
        if self.coarse is None:
            return []
        three = (resolved(at, (self.fine, self.middle, self.coarse), nodes, self.bends) for at in (kernels_at, curves_at))
        return [
            Kernels(nodes, kernels["correlation"], curves["overlap"], curves.get("trained")) for kernels, curves in zip(*three, strict=True)
        ]

    def coordinates(self, curves: xr.Dataset, n: int, seed: int) -> xr.Dataset:
        if not isinstance(self.problem.penalty, SmoothPenalty):
            return super().coordinates(curves, n, seed)
        times, cells = curves["time"].values, len(self.fine.nodes) - 1
        theta, particles = _particles(self.problem, self.dynamics, times, cells, seed, self.ends)
        drawn = np.random.default_rng(seed).choice(len(theta), n, p=particles.weight / particles.weight.sum())
        values = {"theta": theta[drawn], "theta_star": (particles.gstar @ root(self.problem.rho))[drawn]}
        if particles.eigenvalue is not None:
            values["eigenvalue"] = particles.eigenvalue[drawn]
        return path_dataset(times, values)

    def classes(self, curves: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
        """From one more march, on a grid with the output times."""
        return _march_classes(self.problem, self.dynamics, curves["time"].values, len(self.fine.nodes) - 1, self.ends)


def grid(
    times: np.ndarray, cells: int, finer: int = FINER, fewest: int = FEWEST_CELLS, kinks: np.ndarray = NONE
) -> tuple[np.ndarray, np.ndarray]:
    """Nodes that include zero, all output `times` and the `kinks` before the last, and which nodes the times are; between them
    spaced like the solution's."""
    end = float(times[-1])
    own = spaced(end, int(np.clip(finer * cells, fewest, MOST_CELLS)))
    near = np.abs(kinks[:, None] - times).min(1) if len(kinks) else kinks
    fixed = np.union1d(np.append(times, kinks[(kinks < end) & (near > 1e-9 * end)]), [0.0])
    apart = np.abs(own - fixed[np.clip(np.searchsorted(fixed, own), 0, len(fixed) - 1)]) > 1e-3 * own[1]
    apart &= np.abs(own - fixed[np.clip(np.searchsorted(fixed, own) - 1, 0, None)]) > 1e-3 * own[1]
    nodes = np.union1d(fixed, own[apart])
    return nodes, np.searchsorted(nodes, times)


class _Carry:
    """Carries paths of one law over `nodes`."""

    def __init__(self, law: PathLaw, nodes: np.ndarray):
        self.law, self.nodes, problem = law, nodes, law.problem
        C, self.R, overlap = law.kernels(nodes)
        process = Process.of(C, overlap, problem.rho)
        self.normals = np.concatenate([process.M, process.S], 2)
        if not law.dynamics.plain:  # normals that samples have besides
            self.normals = np.pad(self.normals, ((0, 0), (0, 0), (0, (len(nodes) - 1) * problem.k)))
        now, after = np.arange(len(nodes) - 1), np.arange(1, len(nodes))
        cross = C[after, now]
        # The increment's variance is that of the bridge up to second order in the spacing.
        self.spread = psd_root(C[after, after] + C[now, now] - cross - np.swapaxes(cross, 1, 2))
        self.layers = None if law.dynamics.plain else self._filter()
        self.steps = step_at(law.dynamics, 0.5 * (nodes[1:] + nodes[:-1]))
        self.engine = PathEngine(problem, law.dynamics, float(nodes[-1]))
        self.numbers = law.numbers(nodes)
        self.few = self.engine.jumps[0] * problem.k <= FEW and isinstance(law.dynamics, SGD)

    def _filter(self) -> Layer:
        """Of all cells."""
        filter = Filter(self.law.dynamics, self.nodes, 1, self.R.shape[-1], len(self.nodes) - 1)
        filter.gain[0], filter.lead[0] = np.einsum("aaii->ai", self.R), np.einsum("aaij->aij", self.R)
        layers = [filter.layer(cell) for cell in range(len(self.nodes) - 1)]
        return jax.tree.map(lambda *parts: np.concatenate(parts), *layers)

    def __call__(self, paths: int, outputs: np.ndarray, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], Any]:
        """`r, w (paths, T, k)` at the nodes `outputs`, `r_star (paths, k_star)`, and labels."""
        problem, cells = self.law.problem, len(self.nodes) - 1
        randomness = _independent(problem, self.law.dynamics, float(self.nodes[-1]), cells, paths, rng)
        stacked, used = self.engine.lay_out([randomness], self.nodes, cells)
        r_star = randomness.teacher @ root(problem.rho)
        draws = Draws(*(None if part is None else part[0] for part in stacked))
        if self.few:
            w = np.moveaxis(self.normals @ draws.gauss, 1, 2)
            carry = JumpPaths(problem, self.R, self.spread, self.layers, self.numbers)
            r, y = carry(draws, w, r_star, np.asarray(outputs))
            return {"r": np.swapaxes(r, 0, 1), "w": np.swapaxes(w[outputs], 0, 1), "r_star": r_star}, own(y)
        y = jax.device_get(labeller(anywhere(problem.labels))(r_star, randomness.noise))
        program, draws = _path_program(problem.slopes, drive_of(self.law.dynamics)), draws._replace(y=y)
        with jax.enable_x64(True):
            steps = np.array(used, np.int32), self.steps, self.layers
            w, r = jax.device_get(program(draws, self.normals, self.R, self.spread, *steps, self.numbers, np.asarray(outputs)))
        return {"r": np.moveaxis(r, 2, 0), "w": np.moveaxis(w, 2, 0), "r_star": r_star}, own(y)


def _independent(problem: Problem, dynamics: Dynamics, horizon: float, cells: int, paths: int, rng: np.random.Generator) -> Randomness:
    """Independent draws, where `draws.draw` has Sobol points: a user's paths shall be independent."""
    k, jumps, diffusion = problem.k, None, None
    normals = lambda *shape: rng.standard_normal((paths, *shape))
    if isinstance(dynamics, SGD):
        if dynamics.sampling == "reshuffle":
            number = len(epoch_ends(problem, dynamics, horizon)) + 1
            jumps = epoch_jumps(rng.random((paths, number)), problem, dynamics, horizon)
        else:
            mass = jump_intensity(problem, dynamics, horizon)
            jumps = poisson_jumps(np.clip(rng.random((paths, 1)), TINY, 1.0 - TINY), mass, rng)
    elif drive_of(dynamics) == "diffusion":
        diffusion = normals(cells)
    seed = np.random.SeedSequence(int(rng.integers(2**63)))
    return Randomness(
        normals(problem.k_star), normals(k), drawn_noise(problem, paths, rng), normals(cells, k), jumps, diffusion, seed, horizon, 1.0
    )


@lru_cache(maxsize=32)
def _path_program(slopes: Slopes, drive: str) -> Callable:
    """Carry paths over all cells: `w, r (T, k, P)` at the nodes `outputs`. The response's directions of `cross_cell` are left empty."""
    functions = path_functions(slopes, drive)

    def run(draws: Draws, normals, R, spread, slots, steps, layers, numbers, outputs):
        cells, k, _ = spread.shape
        w = normals[0] @ draws.gauss
        padded = -(-(cells + 1) // BLOCK) * BLOCK
        paths = Paths(
            w=w,
            kicks=jnp.zeros((0, *w.shape)),
            deposit=jnp.zeros((padded, *w.shape)),
            memory=jnp.zeros_like(w),
            response=None,
            held=None if layers is None else jnp.zeros_like(w),
        )
        none = jnp.zeros((k, 0, k))

        def cross(paths, cell):
            node, normals, response, spread, slots, step, layer, now, later = cell
            to = Cell(normals, 0, response[:-1], spread, none, none, none, layer, later)
            arrival, r = cross_cell(functions, paths, draws._replace(y=told(draws.y, now)), to, node, slots, step)
            deposit = paths.deposit.at[node].add(arrival.early).at[node + 1].set(arrival.late)
            return paths._replace(w=arrival.w, deposit=deposit, memory=arrival.memory, held=arrival.held), (arrival.w, r)

        now, later = (None, None) if numbers is None else (numbers[:-1], numbers[1:])
        _, later = jax.lax.scan(cross, paths, (jnp.arange(cells), normals[1:], R[1:], spread, slots, steps, layers, now, later))
        return tuple(jnp.concatenate([w[None], part])[outputs] for part in later)

    return jit(run)


def _once_more(
    problem: Problem, dynamics: Dynamics, times: np.ndarray, cells: int, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Engine]:
    """The grid of one more march, which of its nodes are the output times, and what carries samples over it."""
    nodes, outputs = grid(np.union1d(times, [1e-9 * times[-1] or 1e-9]) if times[-1] == 0 else times, cells, 1, PARTICLE_CELLS, ends)
    return nodes, outputs[: len(times)], engine_of("paths", problem, dynamics, float(nodes[-1]))


def _march_classes(problem: Problem, dynamics: Dynamics, times: np.ndarray, cells: int, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `Law.classes`."""
    nodes, outputs, engine = _once_more(problem, dynamics, times, cells, ends)
    cells = len(nodes) - 1
    drawn: list[Any] = [engine.draw(cells, CLASS_PATHS, seed) for seed in np.random.SeedSequence(0).spawn(CLASS_REPLICATES)]
    draws, spans = engine.lay_out(drawn, nodes, cells)
    where, warmth = at_nodes(nodes, ends), 2.0 * dynamics.temperature
    if dynamics.plain:
        coordinates = SpectralCoordinates(problem, len(drawn), cells, not engine.natural, where, warmth)
    else:
        filter = Filter(dynamics, nodes, len(drawn), problem.k, cells, problem.anisotropic)
        coordinates = FilteredSpectralCoordinates(problem, len(drawn), cells, filter, engine.natural, where, warmth)
    with jax.enable_x64(True), np.errstate(all="ignore"):
        march(engine.program, coordinates, [(jax.device_put(draws), spans)], nodes, step_at(dynamics, nodes), root(problem.rho),
              problem.sample_ratio, engine.natural, largest_size(problem),
              along=along_of(problem, dynamics, nodes, len(drawn), cells))  # fmt: skip
    return coordinates.laws(outputs)


def _particles(
    problem: Problem, dynamics: Dynamics, times: np.ndarray, cells: int, seed: int, ends: np.ndarray
) -> tuple[np.ndarray, Particles]:
    """Coordinates under a smooth penalty from one more march, on a grid with the output times: `theta (P, T, k)` of the particles."""
    nodes, outputs, engine = _once_more(problem, dynamics, times, cells, ends)
    cells = len(nodes) - 1
    seeds = np.random.SeedSequence(seed).spawn(2)
    particles = draw_particles(problem, cells, PARTICLES, seeds[1], blocks_of(problem, dynamics, engine.natural))
    draws, spans = engine.lay_out([engine.draw(cells, 2**11, seeds[0])], nodes, cells)
    with jax.enable_x64(True), np.errstate(all="ignore"):
        coordinates = particles_of(engine, [particles], nodes, cells)
        march(engine.program, coordinates, [(jax.device_put(draws), spans)], nodes, step_at(dynamics, nodes), root(problem.rho),
              problem.sample_ratio, engine.natural, largest_size(problem), along=along_of(problem, dynamics, nodes, 1, cells))  # fmt: skip
        apart = np.asarray(coordinates.population.apart[0])[outputs]
    theta = np.einsum("tim,pm->pti", coordinates.M[0, outputs], particles.gstar) + np.moveaxis(apart, 2, 0)
    return theta, particles
