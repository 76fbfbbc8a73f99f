"""Replicates at one time resolution: march them, and read their curves at the output times."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import jax
import numpy as np
from scipy.interpolate import make_interp_spline

from ..dynamics import step_at
from ..problem import root
from .coordinates import Coordinates, RidgeCoordinates
from .draws import lay_particles
from .engines import Drawn, Engine
from .march import Marched, march
from .outcome import largest_size
from .penalised import SampledCoordinates
from .spectral import SpectralCoordinates


@dataclass(frozen=True)
class Level:
    """Kernels and averages on the nodes of one resolution, of one replicate (or their mean)."""

    nodes: np.ndarray  # (n,)
    R: np.ndarray  # (n, n, k, k)
    C: np.ndarray  # (n, n, k, k)
    overlap: np.ndarray  # (n, k, k_star)
    train: np.ndarray  # (n,)

    @property
    def self_overlap(self) -> np.ndarray:
        return np.einsum("aaij->aij", self.C)


def mean_level(levels: list[Level]) -> Level:
    """The mean over replicates."""
    mean = lambda name: np.mean([getattr(level, name) for level in levels], 0)
    return Level(levels[0].nodes, *(mean(name) for name in ("R", "C", "overlap", "train")))


def run_levels(engine: Engine, drawn: list[Drawn], nodes: np.ndarray, cells: int) -> list[Level]:
    """March replicates on `nodes`, whose number of cells divides the `cells` their randomness was drawn for."""
    problem = engine.problem
    rho_root = root(problem.rho)
    draws, spans = engine.lay_out([one.samples for one in drawn], nodes, cells)
    with jax.enable_x64(True), np.errstate(all="ignore"):  # what diverges is cut off below
        got = march(
            engine.program,
            _coordinates(engine, drawn, nodes, cells),
            jax.device_put(draws),
            spans,
            nodes,
            step_at(engine.dynamics, nodes),
            rho_root,
            problem.sample_ratio,
            engine.natural,
            largest_size(problem),
        )
        return _read(got, rho_root)


def _coordinates(engine: Engine, drawn: list[Drawn], nodes: np.ndarray, cells: int) -> Coordinates:
    particles = [lay_particles(one.particles, nodes, engine.horizon, engine.natural) for one in drawn if one.particles is not None]
    if particles:
        return SampledCoordinates(engine.problem, particles, cells)
    kind = RidgeCoordinates if engine.problem.anisotropic is None else SpectralCoordinates
    return kind(engine.problem, len(drawn), cells, balanced=not engine.natural)


def _read(got: Marched, rho_root: np.ndarray) -> list[Level]:
    C = np.einsum("saim,sbjm->sabij", got.L, got.L, optimize=True)
    overlap = got.L[..., : len(rho_root)] @ rho_root.T
    # One layout in memory, which sums are taken along: a replicate read from a checkpoint must give the same bits.
    arrays = [np.ascontiguousarray(array) for array in (got.R, C, overlap, got.train)]
    return [Level(got.nodes, *parts) for parts in zip(*arrays, strict=True)]


def curves_at(level: Level, times: np.ndarray) -> dict[str, np.ndarray]:
    """Overlaps and train risk at `times`, by cubic splines over the nodes."""
    weights = _spline(tuple(level.nodes), tuple(times))
    spline = lambda values: np.einsum("tn,n...->t...", weights, values)
    return {"self_overlap": spline(level.self_overlap), "overlap": spline(level.overlap), "train_risk": spline(level.train)}


@lru_cache(maxsize=8)
def _spline(nodes: tuple[float, ...], times: tuple[float, ...]) -> np.ndarray:
    """Weights `(T, n)` of the values at the nodes in the cubic spline at `times`; many curves share them."""
    return make_interp_spline(nodes, np.eye(len(nodes)), k=min(3, len(nodes) - 1))(times)


def kernels_at(level: Level, times: np.ndarray) -> dict[str, np.ndarray]:
    """Correlation and response `(time, time_, k, k)`; the response is zero before its kick."""
    lower = np.tril(np.ones((len(times), len(times)), bool))[:, :, None, None]
    c = _triangle_at(level.nodes, level.C, times)
    r = _triangle_at(level.nodes, level.R, times)
    return {"correlation": np.where(lower, c, np.swapaxes(np.swapaxes(c, 0, 1), 2, 3)), "response": np.where(lower, r, 0.0)}


def _triangle_at(nodes: np.ndarray, kernel: np.ndarray, times: np.ndarray) -> np.ndarray:
    """A kernel known for `s <= t` at other times: smooth there but kinked on the diagonal, so it is interpolated in `s` along each row
    and then in `t` at fixed `s/t`, which never crosses the diagonal and leaves it the spline of its own nodes."""
    spline = lambda x, y: make_interp_spline(x, y, k=min(3, len(x) - 1))
    weights = _spline(tuple(nodes), tuple(times))
    part = np.where(times[:, None] > 0, np.minimum(times, times[:, None]) / np.where(times > 0, times, 1.0)[:, None], 1.0)
    out = np.zeros((len(times), len(times), *kernel.shape[2:]))
    out += weights[:, 0, None, None, None] * kernel[0, 0]
    for i in range(1, len(nodes)):
        met = np.abs(weights[:, i]) > 1e-12
        out[met] += weights[met, i, None, None, None] * spline(nodes[: i + 1], kernel[i, : i + 1])(part[met] * nodes[i])
    return out
