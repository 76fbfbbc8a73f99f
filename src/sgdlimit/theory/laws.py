"""The laws behind the curves: paths of a training sample, eq. (1), and of a coordinate, eq. (2), given the solved kernels.

A solution keeps a law in memory, never in its file: a law holds the user's functions. Nothing is averaged here. `w` is drawn from
`C` and `Cs`, on a grid that has every output time as a node, and carried with `R` exactly as `sample` carries it when the
kernels are solved; a coordinate under a ridge is Gaussian given its teacher row. Paths are independent of each other, so
their own statistics apply to them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ..clock import Clock
from ..compiling import jit
from ..dynamics import SGD, Dynamics, step_at
from ..problem import Problem, SmoothPenalty, root
from ..results import path_dataset
from .draws import Randomness, jump_intensity, poisson_jumps, spaced
from .engines import Drawn, Engine, PathEngine, drive_of, engine_of
from .gaussian import psd_root
from .labels import TINY
from .levels import NONE, Level, at_nodes, curves_at, kernels_at, resolved
from .march import march
from .outcome import largest_size
from .particles import Particles, draw_particles
from .penalised import SampledCoordinates
from .reshuffle import epoch_ends, epoch_jumps
from .sample import BLOCK, Cell, Draws, Paths, cross_cell, path_functions
from .spectral import SpectralCoordinates

FINER = 4  # cells of a path's grid for each cell of the solution's finest resolution
FEWEST_CELLS, MOST_CELLS = 64, 512
CHUNK = 2048  # paths carried at once
PARTICLES = 2**12  # coordinates drawn under a smooth penalty
PARTICLE_CELLS = 32
CLASS_PATHS, CLASS_REPLICATES = 2**11, 4  # of the march that tells the kernels of each eigenvalue


@dataclass(frozen=True)
class Process:
    """`(w, r*)` at `n` times in independent standard normals: `r* = root(rho) g*`, `w_t = M_t g* + S_t xi`.

    Attributes:
        M: `(n, k, k_star)`.
        S: `(n, k, n k)`.
    """

    M: np.ndarray
    S: np.ndarray

    @classmethod
    def of(cls, C: np.ndarray, overlap: np.ndarray, rho: np.ndarray) -> Process:
        """From `C (n, n, k, k)` and `Cs (n, k, k_star)`. What is not positive semi-definite of an interpolated `C` counts as zero, and the
        variance at each time is kept."""
        n, k = overlap.shape[:2]
        M = overlap @ np.linalg.pinv(root(rho), rcond=1e-8, hermitian=True)
        rest = C - np.einsum("tim,sjm->tsij", M, M)
        S = psd_root(rest.transpose(0, 2, 1, 3).reshape(n * k, n * k)).reshape(n, k, n * k)
        want, have = psd_root(np.einsum("ttij->tij", rest)), psd_root(S @ np.swapaxes(S, 1, 2))
        return cls(M, want @ np.linalg.pinv(have, rcond=1e-7, hermitian=True) @ S)


@dataclass(frozen=True)
class Law:
    """Laws of one solution whose weights are Gaussian given the teacher's."""

    problem: Problem
    dynamics: Dynamics

    def coordinates(self, curves: xr.Dataset, n: int, seed: int) -> xr.Dataset:
        """`theta = Cs rho^-1 theta* + Gaussian` with the covariance that is left of `C`; `theta*` is a draw of the teacher's own law.
        For anisotropic data the same with kernels of each eigenvalue."""
        problem, rng = self.problem, np.random.default_rng(seed)
        rho = problem.rho
        teacher, which = _teacher_rows(problem, n, rng)
        if problem.anisotropic is not None:
            theta = _of_classes(*self.classes(curves), teacher, which, rng)
        else:
            process = Process.of(curves["correlation"].values, curves["overlap"].values, rho)
            normals = rng.standard_normal((n, process.S.shape[-1]))
            gstar = teacher @ np.linalg.pinv(root(rho), rcond=1e-8, hermitian=True)
            theta = np.einsum("tim,pm->pti", process.M, gstar) + np.tensordot(normals, process.S, (1, 2))
        return path_dataset(curves["time"].values, {"theta": theta, "theta_star": teacher} | _eigenvalue(problem, which))

    def classes(self, curves: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
        """Of every eigenvalue `B (m, T, k, k_star)`, `theta = B theta* + Gaussian`, and the Gaussian's covariance `(m, T, T, k, k)`."""
        raise NotImplementedError

    def samples(self, curves: xr.Dataset, n: int, seed: int) -> xr.Dataset:
        """One-pass training: every sample is a fresh one, `r = w`."""
        rng = np.random.default_rng(seed)
        process = Process.of(curves["correlation"].values, curves["overlap"].values, self.problem.rho)
        g, r_star, y = self._labelled(n, rng)
        w = np.einsum("tim,pm->pti", process.M, g) + np.tensordot(rng.standard_normal((n, process.S.shape[-1])), process.S, (1, 2))
        return path_dataset(curves["time"].values, {"r": w, "w": w, "r_star": r_star}, y)

    def _labelled(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Any]:
        """`g* (n, k_star)`, `r* (n, k_star)` and labels of `n` samples."""
        problem = self.problem
        g = rng.standard_normal((n, problem.k_star))
        r_star = g @ root(problem.rho)
        return g, r_star, jax.device_get(_labels(problem.label)(r_star, _noise(problem, n, rng)))


@dataclass(frozen=True)
class SpectralLaw(Law):
    """One-pass training on anisotropic data, with the kernels of every eigenvalue at the output times."""

    B: np.ndarray
    remainder: np.ndarray

    def classes(self, curves: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
        return self.B, self.remainder


def _teacher_rows(problem: Problem, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
    """`n` rows of the teacher, and which eigenvalue each is of."""
    rows, spectrum = problem.teacher.draw(rng, n), problem.spectrum
    if spectrum is None:
        return rows, None
    which = rng.choice(len(spectrum), n, p=spectrum.weights)
    return np.einsum("nij,nj->ni", spectrum.teacher_maps(problem.teacher.cov)[which], rows), which


def _eigenvalue(problem: Problem, which: np.ndarray | None) -> dict[str, np.ndarray]:
    return {} if which is None or problem.spectrum is None else {"eigenvalue": problem.spectrum.eigenvalues[which]}


def _of_classes(
    B: np.ndarray, remainder: np.ndarray, teacher: np.ndarray, which: np.ndarray | None, rng: np.random.Generator
) -> np.ndarray:
    """theta `(n, T, k)` of coordinates with `teacher (n, k_star)` rows and eigenvalues number `which (n,)`."""
    assert which is not None
    steps, k = B.shape[1:3]
    theta = np.einsum("ntij,nj->nti", B[which], teacher)
    for i in np.unique(which):
        mine = which == i
        spread = psd_root(remainder[i].transpose(0, 2, 1, 3).reshape(steps * k, steps * k))
        theta[mine] += (rng.standard_normal((mine.sum(), steps * k)) @ spread).reshape(-1, steps, k)
    return theta


def _noise(problem: Problem, n: int, rng: np.random.Generator) -> np.ndarray:
    if not problem.noise_size:
        return np.zeros((n, *problem.noise.shape))
    return problem.noise_from_uniform(np.clip(rng.random((n, problem.noise_size)), TINY, 1.0 - TINY))


@lru_cache(maxsize=32)
def _labels(label: Callable) -> Callable:
    compiled = jit(jax.vmap(label))

    def labels(r_star: np.ndarray, z: np.ndarray) -> Any:
        with jax.enable_x64(True):
            return compiled(r_star, z)

    return labels


@lru_cache(maxsize=32)
def _gradients(loss: Callable) -> Callable:
    return jit(jax.vmap(jax.grad(loss)))


# --- training in steps ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepLaw(Law):
    """`MiniBatchGD`, with the kernels after every step: `C, R (n, n, k, k)`, `overlap (n, k, k_star)`."""

    clock: Clock
    C: np.ndarray
    R: np.ndarray
    overlap: np.ndarray
    by_eigenvalue: tuple[np.ndarray, np.ndarray] | None = None  # as `classes`, after every step

    def classes(self, curves: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
        assert self.by_eigenvalue is not None
        which = self.clock.nearest(curves["time"].values)
        B, remainder = self.by_eigenvalue
        return B[:, which], remainder[:, which][:, :, which]

    def samples(self, curves: xr.Dataset, n: int, seed: int) -> xr.Dataset:
        """`r_i = w_i - sum_{j < i} R(i, j+1) G_j`, step by step."""
        rng, which = np.random.default_rng(seed), self.clock.nearest(curves["time"].values)
        steps = int(which[-1])
        reached = slice(0, steps + 1)
        process = Process.of(self.C[reached, reached], self.overlap[reached], self.problem.rho)
        g, r_star, y = self._labelled(n, rng)
        normals = rng.standard_normal((n, process.S.shape[-1]))
        w = np.einsum("tim,pm->tpi", process.M, g) + np.moveaxis(np.tensordot(normals, process.S, (1, 2)), 1, 0)
        etas = np.broadcast_to(self.clock.etas(0, steps), steps)
        chosen = rng.random((steps, n)) < self.dynamics.fraction  # pyright: ignore[reportAttributeAccessIssue]
        r, kicks = w.copy(), np.zeros((steps, n, w.shape[2]))
        for i in range(steps + 1):
            r[i] -= np.einsum("jab,jpb->pa", self.R[i, 1 : i + 1], kicks[:i])
            if i < steps:
                with jax.enable_x64(True):
                    slope = np.asarray(_gradients(self.problem.loss)(r[i], y))
                kicks[i] = etas[i] * chosen[i][:, None] * slope
        shown = lambda paths: np.moveaxis(paths[which], 0, 1)
        return path_dataset(curves["time"].values, {"r": shown(r), "w": shown(w), "r_star": r_star}, y)


# --- training in continuous time ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PathLaw(Law):
    """SGD, SME and gradient flow, with mean kernels on the nodes of the finest resolution and of the next one; of reshuffled SGD
    when epochs end."""

    fine: Level
    middle: Level
    ends: np.ndarray

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
        """`C, R (n, n, k, k)` and `Cs (n, k, k_star)` at `nodes`, with the second-order error extrapolated away."""
        both = lambda at: resolved(at, (self.fine, self.middle), nodes, self.ends)
        fine, middle = (kernels | curves for kernels, curves in zip(both(kernels_at), both(curves_at), strict=True))
        C, R, overlap = (fine[name] + (fine[name] - middle[name]) / 3.0 for name in ("correlation", "response", "overlap"))
        R[np.arange(len(nodes)), np.arange(len(nodes))] = np.eye(R.shape[-1])
        return C, R, overlap

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
        now, after = np.arange(len(nodes) - 1), np.arange(1, len(nodes))
        cross = C[after, now]
        # The increment's variance is that of the bridge up to second order in the spacing.
        self.spread = psd_root(C[after, after] + C[now, now] - cross - np.swapaxes(cross, 1, 2))
        self.steps = step_at(law.dynamics, 0.5 * (nodes[1:] + nodes[:-1]))
        self.engine = PathEngine(problem, law.dynamics, float(nodes[-1]))
        self.program = _path_program(problem.loss, drive_of(law.dynamics))

    def __call__(self, paths: int, outputs: np.ndarray, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], Any]:
        """`r, w (paths, T, k)` at the nodes `outputs`, `r_star (paths, k_star)`, and labels."""
        problem, cells = self.law.problem, len(self.nodes) - 1
        randomness = _independent(problem, self.law.dynamics, float(self.nodes[-1]), cells, paths, rng)
        stacked, used = self.engine.lay_out([randomness], self.nodes, cells)
        r_star = randomness.teacher @ root(problem.rho)
        y = jax.device_get(_labels(problem.label)(r_star, randomness.noise))
        draws = Draws(*(None if part is None else part[0] for part in stacked))._replace(y=y)
        with jax.enable_x64(True):
            w, r = jax.device_get(
                self.program(draws, self.normals, self.R, self.spread, np.array(used, np.int32), self.steps, np.asarray(outputs))
            )
        return {"r": np.moveaxis(r, 2, 0), "w": np.moveaxis(w, 2, 0), "r_star": r_star}, y


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
    return Randomness(normals(problem.k_star), normals(k), _noise(problem, paths, rng), normals(cells, k), jumps, diffusion, seed, horizon)


@lru_cache(maxsize=32)
def _path_program(loss: Callable, drive: str) -> Callable:
    """Carry paths over all cells: `w, r (T, k, P)` at the nodes `outputs`. The response's directions of `cross_cell` are left empty."""
    kick = path_functions(loss, drive).kick

    def run(draws: Draws, normals, R, spread, slots, steps, outputs):
        cells, k, _ = spread.shape
        w = normals[0] @ draws.gauss
        padded = -(-(cells + 1) // BLOCK) * BLOCK
        paths = Paths(
            w=w,
            kicks=jnp.zeros((0, *w.shape)),
            deposit=jnp.zeros((padded, *w.shape)),
            memory=jnp.zeros_like(w),
            tangent_deposit=jnp.zeros((padded, k, 0, *w.shape)),
            tangent_memory=jnp.zeros((k, 0, *w.shape)),
            apart=jnp.zeros((0, 0)),
        )
        none = jnp.zeros((k, 0, k))

        def cross(paths, cell):
            node, normals, response, spread, slots, step = cell
            arrival, r, _ = cross_cell(kick, paths, draws, Cell(normals, 0, response[:-1], spread, none, none, none), node, slots, step)
            deposit = paths.deposit.at[node].add(arrival.early).at[node + 1].set(arrival.late)
            return paths._replace(w=arrival.w, deposit=deposit, memory=arrival.memory), (arrival.w, r)

        _, later = jax.lax.scan(cross, paths, (jnp.arange(cells), normals[1:], R[1:], spread, slots, steps))
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
    coordinates = SpectralCoordinates(problem, len(drawn), cells, balanced=not engine.natural, ends=at_nodes(nodes, ends))
    with jax.enable_x64(True), np.errstate(all="ignore"):
        march(engine.program, coordinates, jax.device_put(draws), spans, nodes, step_at(dynamics, nodes), root(problem.rho),
              problem.sample_ratio, engine.natural, largest_size(problem))  # fmt: skip
    return coordinates.laws(outputs)


def _particles(
    problem: Problem, dynamics: Dynamics, times: np.ndarray, cells: int, seed: int, ends: np.ndarray
) -> tuple[np.ndarray, Particles]:
    """Coordinates under a smooth penalty from one more march, on a grid with the output times: `theta (P, T, k)` of the particles."""
    nodes, outputs, engine = _once_more(problem, dynamics, times, cells, ends)
    cells = len(nodes) - 1
    seeds = np.random.SeedSequence(seed).spawn(2)
    drawn = Drawn(engine.draw(cells, 2**11, seeds[0]), draw_particles(problem, cells, PARTICLES, seeds[1]))
    draws, spans = engine.lay_out([drawn.samples], nodes, cells)
    rho_root, particles = root(problem.rho), drawn.particles
    assert particles is not None
    with jax.enable_x64(True), np.errstate(all="ignore"):
        coordinates = SampledCoordinates(problem, [particles], cells, at_nodes(nodes, ends))
        steps = step_at(dynamics, nodes)
        march(engine.program, coordinates, jax.device_put(draws), spans, nodes, steps, rho_root, problem.sample_ratio, engine.natural,
              largest_size(problem))  # fmt: skip
        apart = np.asarray(coordinates.population.apart[0])[outputs]
    theta = np.einsum("tim,pm->pti", coordinates.M[0, outputs], particles.gstar) + np.moveaxis(apart, 2, 0)
    return theta, particles
