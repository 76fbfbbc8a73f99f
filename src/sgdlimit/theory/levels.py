"""One replicate at one time resolution: run the compiled march, and read its curves at the output times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import RectBivariateSpline, make_interp_spline

from ..dynamics import Dynamics, step_at
from ..problem import Problem, root
from . import coordinates as law
from .draws import Randomness, drive_of, lay_out
from .march import Marched, march
from .sample import Draws, Grid, path_functions

DIVERGED = 1e3  # a self-overlap beyond this multiple of its start's and the teacher's scale has diverged


@dataclass(frozen=True)
class Level:
    """Kernels and averages on the nodes of one resolution, as NumPy arrays."""

    nodes: np.ndarray  # (n,)
    R: np.ndarray  # (n, n, k, k)
    L: np.ndarray  # (n, k, dims): w at the nodes in independent standard normals, the teacher's g* first
    train: np.ndarray  # (n,)

    @property
    def self_overlap(self) -> np.ndarray:
        return np.einsum("aim,ajm->aij", self.L, self.L)

    @property
    def correlation(self) -> np.ndarray:
        return np.einsum("aim,bjm->abij", self.L, self.L)


@lru_cache(maxsize=32)
def _compiled(loss: Callable, label: Callable, drive: str, natural: bool) -> Callable[..., Marched]:
    functions = path_functions(loss, drive)

    def run(rho_root: Any, start: law.Start, grid: Grid, draws: Draws) -> Marched:
        r_star = rho_root @ draws.gauss[: len(rho_root)]
        return march(functions, natural, start, grid, draws._replace(y=jax.vmap(label)(r_star.T, draws.y)))

    return jax.jit(run)


def run_level(problem: Problem, dynamics: Dynamics, randomness: Randomness, nodes: np.ndarray, natural: bool, slots: int) -> Level:
    """March one replicate on `nodes`, whose number of cells divides the number the randomness was drawn for."""
    cells = randomness.cells.shape[1]
    draws, used = lay_out(problem, dynamics, randomness, nodes, slots)
    rho_root = root(problem.teacher.cov)
    step = step_at(dynamics, nodes)
    pad = lambda values, size: np.concatenate([values, np.zeros(size - len(values))])
    with jax.enable_x64(True):
        start = law.Start(
            M=problem.init.overlap @ rho_root,
            spread=root(problem.init.cov),
            ridge=np.asarray(problem.ridge),
            sample_ratio=np.asarray(problem.sample_ratio),
        )
        grid = Grid(pad(np.diff(nodes), cells), pad(step, cells + 1), used, np.asarray(len(nodes) - 1, np.int32))
        run = _compiled(problem.loss, problem.label, drive_of(dynamics), natural)
        got = jax.device_get(run(rho_root, start, grid, draws))
    n = len(nodes)
    return Level(nodes, got.R[:n, :n], got.L[:n], got.averages.risk[:n])


def divergence(problem: Problem, level: Level) -> float | None:
    """Time at which the self-overlap leaves all bounds, or None."""
    with np.errstate(all="ignore"):
        size = np.trace(level.self_overlap, axis1=1, axis2=2)
        bad = ~(size < DIVERGED * (size[0] + np.trace(problem.teacher.cov)))
    return float(level.nodes[np.argmax(bad)]) if bad.any() else None


def curves_at(problem: Problem, level: Level, times: np.ndarray) -> dict[str, np.ndarray]:
    """Overlaps and train risk at `times`, by cubic splines over the nodes."""
    rho_root = root(problem.teacher.cov)
    overlap = level.L[:, :, : problem.k_star] @ rho_root.T
    degree = min(3, len(level.nodes) - 1)
    spline = lambda values: make_interp_spline(level.nodes, values, k=degree)(times)
    return {"self_overlap": spline(level.self_overlap), "overlap": spline(overlap), "train_risk": spline(level.train)}


def kernels_at(level: Level, times: np.ndarray) -> dict[str, np.ndarray]:
    """Correlation and response `(time, time_, k, k)`; the response is zero before its kick."""
    lower = np.tril(np.ones((len(times), len(times)), bool))[:, :, None, None]
    c = _triangle_at(level.nodes, level.correlation, times)
    r = _triangle_at(level.nodes, level.R, times)
    return {"correlation": np.where(lower, c, np.swapaxes(np.swapaxes(c, 0, 1), 2, 3)), "response": np.where(lower, r, 0.0)}


def _triangle_at(nodes: np.ndarray, kernel: np.ndarray, times: np.ndarray) -> np.ndarray:
    """A kernel known for `s <= t` at other times: smooth there but kinked on the diagonal, so it is continued smoothly a
    few nodes beyond before the spline."""
    n, k = len(nodes), kernel.shape[-1]
    smooth = np.where(np.tril(np.ones((n, n), bool))[:, :, None, None], kernel, 0.0)
    for i in range(n):
        for j in range(i + 1, n):
            if j > i + 3:
                smooth[i, j] = smooth[i, i + 3]
            elif i >= 3:
                smooth[i, j] = _continue(nodes[i - 3 : i + 1], smooth[i, i - 3 : i + 1], nodes[j])
            else:  # too early to continue in s: continue in t
                later = slice(j, min(j + 4, n))
                smooth[i, j] = _continue(nodes[later], smooth[later, j], nodes[i])
    degree = min(3, n - 1)
    out = np.empty((len(times), len(times), k, k))
    for a in range(k):
        for b in range(k):
            out[:, :, a, b] = RectBivariateSpline(nodes, nodes, smooth[:, :, a, b], kx=degree, ky=degree)(times, times)
    return out


def _continue(x: np.ndarray, y: np.ndarray, at: float) -> np.ndarray:
    """The polynomial through `y (n, ...)` at `x (n,)`, evaluated at one more place."""
    weights = [np.prod([(at - x[m]) / (x[i] - x[m]) for m in range(len(x)) if m != i]) for i in range(len(x))]
    return np.tensordot(weights, y, 1)
