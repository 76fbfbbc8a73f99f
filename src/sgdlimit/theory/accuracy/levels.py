"""Replicates at one time resolution: march them, and read their curves at the output times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.interpolate import make_interp_spline

from ...checks import root
from ...learning.dynamics import Dynamics, step_at
from ...learning.problem import Problem
from ..march import Marched, Seen, march
from ..samples.engines import Engine
from ..weights.along import along_of
from ..weights.coordinates import Coordinates, RidgeCoordinates
from ..weights.filtered import FilteredCoordinates
from ..weights.filtered_penalised import FilteredParticles
from ..weights.filtered_spectral import FilteredSpectralCoordinates
from ..weights.filters import Filter
from ..weights.particles import Particles, lay_particles
from ..weights.penalised import SampledCoordinates
from ..weights.spectral import SpectralCoordinates
from .outcome import largest_size
from .replicates import Drawn
from .witness import flat

NONE = np.zeros(0)
EARLY = 1e-3  # part of a memory
RESOLVED = 0.02  # a spline misses this part of the first slope of `exp(-t / tau)` on cells of half a memory, which it meets well
NOISY, LARGEST = 1.5, 0.2  # pivots that count as zero, of their variance: up to so many times cells over paths, at most


@dataclass(frozen=True)
class Level:
    """Kernels and averages on the nodes of one resolution, of one replicate (or their mean)."""

    nodes: np.ndarray  # (n,)
    R: np.ndarray  # (n, n, k, k)
    C: np.ndarray  # (n, n, k, k)
    overlap: np.ndarray  # (n, k, k_star)
    train: np.ndarray  # (n,)
    begun: np.ndarray = field(
        default_factory=lambda: NONE
    )  # averages at time zero, see `witness.flat`; like the next one for witnesses, not for curves
    gap: np.ndarray = field(default_factory=lambda: NONE)  # (n, k, k): how two estimates of E[theta theta^T] differ
    trained: np.ndarray = field(default_factory=lambda: NONE)  # (n, p): numbers trained along

    @property
    def self_overlap(self) -> np.ndarray:
        return np.einsum("aaij->aij", self.C)


class Bends(NamedTuple):
    """Where curves are not smooth."""

    ends: np.ndarray = NONE  # of epochs, where they have kinks
    memory: float = 0.0  # of a velocity that is at rest at the start: curves take so long to move, which may be less than a cell
    step: float = 0.0  # noise of `step E[l l^T] + warmth` a unit of time is then in the velocity, of a sample's own kicks
    warmth: float = 0.0
    sample_ratio: float = np.inf  # `step E[l l^T] / sample_ratio` more


SMOOTH = Bends()


def bends_of(problem: Problem, dynamics: Dynamics, ends: np.ndarray = NONE) -> Bends:
    """A velocity that is corrected for its start is not at rest. Behind a spectrum every eigenvalue has noise of its own: it is left to the
    spline."""
    optimizer = dynamics.optimizer
    if optimizer is None or optimizer.gains or not optimizer.memory:
        return Bends(ends)
    if problem.anisotropic is not None:
        return Bends(ends, optimizer.memory)
    step = float(step_at(dynamics, np.zeros(1))[0])
    return Bends(ends, optimizer.memory, step, 2.0 * dynamics.temperature, problem.sample_ratio)


def mean_level(levels: list[Level]) -> Level:
    """The mean over replicates."""
    mean = lambda name: np.mean([getattr(level, name) for level in levels], 0)
    return Level(levels[0].nodes, *(mean(name) for name in ("R", "C", "overlap", "train")), trained=mean("trained"))


def run_levels(
    engine: Engine,
    drawn: list[Drawn],
    nodes: np.ndarray,
    cells: int,
    watch: Callable[[], object] = lambda: None,
    look: Callable[[Seen], object] = lambda seen: None,
    scouts: int = 0,
) -> list[Level]:
    """March replicates on `nodes`, whose number of cells divides that their randomness was drawn for, in arrays with room for `cells`;
    `watch` and `look` as for `march`. Of each replicate's samples the first `scouts` go ahead."""
    problem = engine.problem
    rho_root = root(problem.rho)
    with jax.enable_x64(True), np.errstate(all="ignore"):  # what diverges is cut off below
        coordinates = coordinates_of(engine, drawn, nodes, cells)
        if not engine.natural:  # covariances are averages over paths, and their errors are most of a pivot as small as this
            coordinates.noise.pivot = min(NOISY * (len(nodes) - 1) / drawn[0].paths, LARGEST)
        got = march(
            engine.program,
            coordinates,
            _parties(engine, drawn, nodes, cells, drawn[0].paths),
            nodes,
            step_at(engine.dynamics, nodes),
            rho_root,
            problem.sample_ratio,
            engine.natural,
            largest_size(problem),
            smooth=not len(engine.ends),
            watch=watch,
            look=look,
            along=along_of(problem, engine.dynamics, nodes, len(drawn), cells),
            scouts=_parties(engine, drawn, nodes, cells, scouts),
        )
        return _read(got, rho_root)


def _parties(engine: Engine, drawn: list[Drawn], nodes: np.ndarray, cells: int, paths: int) -> list[tuple[Any, list]]:
    """Draws and spans of the first `paths` samples of every replicate, as many at a time as a first estimate has: however many there are,
    that one's programs serve."""
    size = engine.pilot
    parts = [[one.samples.part(first, min(first + size, paths)) for one in drawn] for first in range(0, paths, size)]
    laid = [engine.lay_out(part, nodes, cells) for part in parts]
    return [(jax.device_put(draws), spans) for draws, spans in laid]


def coordinates_of(engine: Engine, drawn: list[Drawn], nodes: np.ndarray, cells: int) -> Coordinates:
    finest = engine.nodes(cells)
    warmth = 2.0 * engine.dynamics.temperature
    particles = [lay_particles(one.particles, nodes, finest, engine.natural) for one in drawn if one.particles is not None]
    if particles:
        return particles_of(engine, particles, nodes, cells)
    balanced = engine.balanced
    if not engine.dynamics.plain:
        ends = at_nodes(nodes, engine.ends)
        filter = Filter(engine.dynamics, nodes, len(drawn), engine.problem.k, cells, engine.problem.anisotropic)
        if engine.problem.anisotropic is not None:
            return FilteredSpectralCoordinates(engine.problem, len(drawn), cells, filter, engine.natural, ends, warmth)
        balanced = balanced and not filter.corrected
        return FilteredCoordinates(engine.problem, len(drawn), cells, balanced, filter, engine.natural, warmth)
    if engine.problem.anisotropic is None:
        return RidgeCoordinates(engine.problem, len(drawn), cells, balanced, warmth)
    return SpectralCoordinates(engine.problem, len(drawn), cells, balanced, at_nodes(nodes, engine.ends), warmth)


def particles_of(engine: Engine, particles: list[Particles], nodes: np.ndarray, cells: int) -> SampledCoordinates:
    """Coordinates under a smooth penalty, of particles on these nodes."""
    problem, dynamics, ends = engine.problem, engine.dynamics, at_nodes(nodes, engine.ends)
    warmth = 2.0 * dynamics.temperature
    if dynamics.plain:
        return SampledCoordinates(problem, particles, cells, engine.natural, ends, warmth)
    filter = Filter(dynamics, nodes, len(particles), problem.k, cells, problem.anisotropic)
    return FilteredParticles(problem, particles, cells, filter, engine.natural, ends, warmth)


def _read(got: Marched, rho_root: np.ndarray) -> list[Level]:
    C = np.einsum("saim,sbjm->sabij", got.L, got.L, optimize=True)
    overlap = got.L[..., : len(rho_root)] @ rho_root.T
    # One layout in memory, which sums are taken along: a replicate read from a checkpoint must give the same bits.
    arrays = [np.ascontiguousarray(array) for array in (got.R, C, overlap, got.train, flat(got.begun), got.gap, got.trained)]
    return [Level(got.nodes, *parts) for parts in zip(*arrays, strict=True)]


def curves_at(level: Level, times: np.ndarray, bends: Bends = SMOOTH) -> dict[str, np.ndarray]:
    """Overlaps and train risk at `times`, by cubic splines over the nodes, or over those between neighbouring ends of epochs; the first
    one follows a velocity at rest."""

    def spline(values: np.ndarray, noise: np.ndarray | float | None = None) -> np.ndarray:
        out = np.empty((len(times), *values.shape[1:]))
        memory = bends.memory
        for piece, inside in _pieces(level.nodes, times, bends.ends):
            x, t = level.nodes[piece], times[inside]
            weights = _weights(tuple(x), tuple(t), memory)
            out[inside] = np.einsum("tn,n...->t...", weights, values[piece])
            if memory and noise is not None:  # which the weights would miss
                out[inside] += np.multiply.outer(_bow(t, memory) - weights @ _bow(x, memory), noise)
            memory = 0.0
        return out

    white, risky = _noise(level, bends)
    found = {"self_overlap": spline(level.self_overlap, white), "overlap": spline(level.overlap), "train_risk": spline(level.train, risky)}
    return found | ({"trained": spline(level.trained)} if level.trained.size else {})


def _noise(level: Level, bends: Bends) -> tuple[np.ndarray | None, float | None]:
    """What noise makes of the self-overlap `(k, k)` and of the train risk in a unit of time at the start, as if there were no velocity;
    of a sample's own kicks as if its curvature did not depend on how large they are. None without a velocity, or where it is not known."""
    if not bends.memory or not level.begun.size:
        return None, None
    k = level.C.shape[-1]
    l_l, h = (part.reshape(k, k) for part in (level.begun[1 : 1 + k * k], level.begun[-k * k :]))
    white = bends.step * l_l + bends.warmth * np.eye(k)
    return white, 0.5 * float(np.sum(h * (white + bends.step * l_l / bends.sample_ratio)))


def _bow(t: np.ndarray, memory: float) -> np.ndarray:
    """Noise that goes through a velocity at rest moves squares by `t - 2 tau (1 - e) + tau (1 - e^2) / 2` with `e = exp(-t / tau)`: but
    for what is smooth, and a layer as that of `_weights`, this, which begins with no slope."""
    e = np.exp(-t / memory)
    return memory * (e - 0.5 * e**2)


@lru_cache(maxsize=512)
def _weights(nodes: tuple[float, ...], times: tuple[float, ...], memory: float = 0.0) -> np.ndarray:
    """Weights `(T, n)` of the values at the nodes in the cubic spline at `times`; many curves share them.

    Behind a velocity at rest with this memory a curve is `s(t) + c tau exp(-t / tau)`, `s` the spline, with a `c` that leaves no slope at
    zero: the spline alone would miss the layer where it is shorter than the first cells, and ring over some of them. Where it is longer
    there is little to add, and what there is would be made of the values' sampling errors."""
    x, t = np.array(nodes), np.array(times)
    spline = make_interp_spline(x, np.eye(len(x)), k=min(3, len(x) - 1))
    weights = spline(t)
    if memory:
        layer = lambda at: memory * np.exp(-at / memory)
        slope = spline.derivative()(0.0)
        missed = 1.0 + slope @ layer(x)
        weights = weights + np.outer(layer(t) - weights @ layer(x), slope * missed / (missed**2 + RESOLVED**2))
    return weights


def kernels_at(level: Level, times: np.ndarray, bends: Bends = SMOOTH) -> dict[str, np.ndarray]:
    """Correlation and response `(time, time_, k, k)`; the response is zero before its kick."""
    lower = np.tril(np.ones((len(times), len(times)), bool))[:, :, None, None]
    c, r = np.split(_lower_at(level.nodes, np.concatenate([level.C, level.R], -1), times, bends.ends), 2, axis=-1)
    return {"correlation": np.where(lower, c, np.swapaxes(np.swapaxes(c, 0, 1), 2, 3)), "response": np.where(lower, r, 0.0)}


def kicked(S: np.ndarray, times: np.ndarray, dynamics: Dynamics) -> np.ndarray:
    """The response to kicks behind a filter `(T, T, k, k)`, of whose part that a level has at `times` this is `S`. An optimiser that
    corrects its velocity for the start lets a kick at zero move infinitely much: there it is one that comes a little later."""
    if not dynamics.memory:
        return S
    shown = np.maximum(times, EARLY * dynamics.memory)
    filter = Filter(dynamics, np.append(0.0, shown), 1, S.shape[-1], len(times))
    out = S.copy()
    for i in range(len(times)):
        part = filter.excess(i + 1)[1:] - filter.held(i + 1)[1:]
        out[i, : i + 1] += part[:, None, None] * S[i, i]
    return out


def resolved(
    at: Callable[[Level, np.ndarray, Bends], dict[str, np.ndarray]], levels: Sequence[Level], times: np.ndarray, bends: Bends
) -> list[dict[str, np.ndarray]]:
    """`curves_at` or `kernels_at` of nested resolutions, each with every second node of the one before.

    Between ends of epochs there may be few nodes. There only the finest resolution is interpolated, and of each other one its small
    difference from the one before, so that interpolation does not pass for an error in time that can be extrapolated.
    """
    if not len(bends.ends):
        return [at(level, times, bends) for level in levels]
    found = [at(levels[0], times, bends)]
    for finer, coarser in pairwise(levels):
        apart = at(_apart(finer, coarser), times, bends)
        found.append({name: found[-1][name] - apart[name] for name in apart})
    return found


def _apart(finer: Level, coarser: Level) -> Level:
    """The difference of two resolutions on the nodes of the coarser one."""
    n = min(len(coarser.nodes), (len(finer.nodes) + 1) // 2)
    parts = ((getattr(finer, name), getattr(coarser, name)) for name in ("overlap", "train", "trained"))
    squares = ((getattr(finer, name), getattr(coarser, name)) for name in ("R", "C"))
    overlap, train, trained = (fine[::2][:n] - coarse[:n] for fine, coarse in parts)
    R, C = (fine[::2, ::2][:n, :n] - coarse[:n, :n] for fine, coarse in squares)
    return Level(coarser.nodes[:n], R, C, overlap, train, trained=trained)


def _spline(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return make_interp_spline(x, y, k=min(3, len(x) - 1))


def at_nodes(nodes: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Which nodes the `ends` before the last are, up to rounding."""
    within = ends[ends < nodes[-1] * (1.0 - 1e-9)]
    return np.array([np.argmin(np.abs(nodes - end)) for end in within], int)


def _pieces(nodes: np.ndarray, times: np.ndarray, ends: np.ndarray) -> list[tuple[slice, np.ndarray]]:
    """The nodes between neighbouring `ends`, which are nodes, and the numbers of the `times` there."""
    breaks = np.array([0, *at_nodes(nodes, ends), len(nodes) - 1])
    piece = np.searchsorted(nodes[breaks[1:-1]], times)
    return [(slice(a, b + 1), np.flatnonzero(piece == i)) for i, (a, b) in enumerate(pairwise(breaks))]


def _lower_at(nodes: np.ndarray, kernel: np.ndarray, times: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """A kernel known for `s <= t` at other times: in triangles where both are between the same `ends`, else in rectangles."""
    out = np.zeros((len(times), len(times), *kernel.shape[2:]))
    pieces = _pieces(nodes, times, ends)
    for i, (late, inside) in enumerate(pieces):
        start = nodes[late.start]
        out[np.ix_(inside, inside)] = _triangle_at(nodes[late] - start, kernel[late, late], times[inside] - start)
        for early, before in pieces[:i]:
            rows = _spline(nodes[late], kernel[late, early])(times[inside])
            out[np.ix_(inside, before)] = np.swapaxes(_spline(nodes[early], np.swapaxes(rows, 0, 1))(times[before]), 0, 1)
    return out


def _triangle_at(nodes: np.ndarray, kernel: np.ndarray, times: np.ndarray) -> np.ndarray:
    """A kernel known for `s <= t` from zero on at other times: smooth there but kinked on the diagonal, so it is interpolated in `s`
    along each row and then in `t` at fixed `s/t`, which never crosses the diagonal and leaves it the spline of its own nodes."""
    weights = _weights(tuple(nodes), tuple(times))  # of each row at each time
    part = np.where(times[:, None] > 0, np.minimum(times, times[:, None]) / np.where(times > 0, times, 1.0)[:, None], 1.0)
    out = np.zeros((len(times), len(times), *kernel.shape[2:]))
    out += weights[:, 0, None, None, None] * kernel[0, 0]
    for i in range(1, len(nodes)):
        met = np.abs(weights[:, i]) > 1e-12
        out[met] += weights[met, i, None, None, None] * _spline(nodes[: i + 1], kernel[i, : i + 1])(part[met] * nodes[i])
    return out
