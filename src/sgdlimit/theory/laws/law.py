"""Laws of weights and samples whose weights are Gaussian given the teacher's: of one pass, and of training in steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import jax
import numpy as np
import xarray as xr

from ...checks import root
from ...compiling import jit
from ...learning.averages import Average, step_weights, weights
from ...learning.clock import Clock
from ...learning.dynamics import Dynamics
from ...learning.labels import TINY
from ...learning.problem import Problem
from ...learning.slopes import Slopes
from ...learning.trained import Labelled
from ...results import Solution, path_dataset
from ..gaussian import psd_root
from ..grids import spaced
from .averaged import Followed, Kernels, averaged


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
    fresh: ClassVar[bool] = True  # whether every sample is a fresh one, `r = w`

    def coordinates(self, curves: xr.Dataset, n: int, seed: int) -> xr.Dataset:
        """`theta = Cs rho^-1 theta* + Gaussian` with the covariance that is left of `C`; `theta*` is a draw of the teacher's own law.
        For anisotropic data the same with kernels of each eigenvalue."""
        problem, rng = self.problem, np.random.default_rng(seed)
        rho = problem.rho
        teacher, which = teacher_rows(problem, n, rng)
        if problem.anisotropic is not None:
            theta = theta_of(*self.classes(curves), teacher, which, rng)
        else:
            process = Process.of(curves["correlation"].values, curves["overlap"].values, rho)
            normals = rng.standard_normal((n, process.S.shape[-1]))
            gstar = teacher @ np.linalg.pinv(root(rho), rcond=1e-8, hermitian=True)
            theta = np.einsum("tim,pm->pti", process.M, gstar) + np.tensordot(normals, process.S, (1, 2))
        return path_dataset(curves["time"].values, {"theta": theta, "theta_star": teacher} | eigenvalues_of(problem, which))

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

    def averaged(self, solution: Solution, average: Average) -> Solution:
        """As `Solution.averaged`."""
        return averaged(self, solution, average)

    def followed(self, times: np.ndarray) -> Followed:
        """The law along nodes, all of the output `times` among them, close enough for averages."""
        raise NotImplementedError

    def weigh(self, average: Average, nodes: np.ndarray, times: np.ndarray) -> np.ndarray:
        """What each of the `nodes (n,)` counts for in the averages at `times (T,)`, `(T, n)`."""
        return weights(average, nodes, times)

    def _labelled(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Any]:
        """`g* (n, k_star)`, `r* (n, k_star)` and labels of `n` samples."""
        problem = self.problem
        g = rng.standard_normal((n, problem.k_star))
        r_star = g @ root(problem.rho)
        return g, r_star, jax.device_get(labeller(problem.label)(r_star, drawn_noise(problem, n, rng)))


AVERAGED_CELLS = 128  # of one pass, over which averages are taken


@dataclass(frozen=True)
class OnePassLaw(Law):
    """One-pass training. `again` follows the equations to other times: it gives kernels there, the response and their own law."""

    again: Callable[[np.ndarray], tuple[Kernels, np.ndarray, Law]]

    def followed(self, times: np.ndarray) -> Followed:
        nodes = np.union1d(times, spaced(float(times[-1]), AVERAGED_CELLS))
        kernels, R, law = self.again(nodes)
        return Followed(law, kernels, R, np.searchsorted(kernels.nodes, times))


@dataclass(frozen=True)
class SpectralLaw(OnePassLaw):
    """One-pass training on anisotropic data, with the kernels of every eigenvalue at the output times."""

    B: np.ndarray
    remainder: np.ndarray

    def classes(self, curves: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
        return self.B, self.remainder


def teacher_rows(problem: Problem, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
    """`n` rows of the teacher, and which eigenvalue each is of."""
    rows, spectrum = problem.teacher.draw(rng, n), problem.spectrum
    if spectrum is None:
        return rows, None
    which = rng.choice(len(spectrum), n, p=spectrum.weights)
    return np.einsum("nij,nj->ni", spectrum.teacher_maps(problem.teacher.cov)[which], rows), which


def eigenvalues_of(problem: Problem, which: np.ndarray | None) -> dict[str, np.ndarray]:
    return {} if which is None or problem.spectrum is None else {"eigenvalue": problem.spectrum.eigenvalues[which]}


def theta_of(B: np.ndarray, remainder: np.ndarray, teacher: np.ndarray, which: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """theta `(n, T, k)` of coordinates with `teacher (n, k_star)` rows and eigenvalues number `which (n,)`."""
    assert which is not None
    steps, k = B.shape[1:3]
    theta = np.einsum("ntij,nj->nti", B[which], teacher)
    for i in np.unique(which):
        mine = which == i
        spread = psd_root(remainder[i].transpose(0, 2, 1, 3).reshape(steps * k, steps * k))
        theta[mine] += (rng.standard_normal((mine.sum(), steps * k)) @ spread).reshape(-1, steps, k)
    return theta


def drawn_noise(problem: Problem, n: int, rng: np.random.Generator) -> np.ndarray:
    if not problem.noise_size:
        return np.zeros((n, *problem.noise.shape))
    return problem.noise_from_uniform(np.clip(rng.random((n, problem.noise_size)), TINY, 1.0 - TINY))


@lru_cache(maxsize=32)
def labeller(label: Callable) -> Callable:
    compiled = jit(jax.vmap(label))

    def labels(r_star: np.ndarray, z: np.ndarray) -> Any:
        with jax.enable_x64(True):
            return compiled(r_star, z)

    return labels


@lru_cache(maxsize=32)
def gradients_of(slopes: Slopes) -> Callable:
    return jit(jax.vmap(slopes.gradient))


# --- training in steps ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepLaw(Law):
    """`MiniBatchGD`, with the kernels after every step: `C, R (n, n, k, k)`, `overlap (n, k, k_star)`, and the numbers `trained (n, p)`
    along, if there are any."""

    clock: Clock
    C: np.ndarray
    R: np.ndarray
    overlap: np.ndarray
    by_eigenvalue: tuple[np.ndarray, np.ndarray] | None = None  # as `classes`, after every step
    trained: np.ndarray | None = None
    fresh: ClassVar[bool] = False

    def followed(self, times: np.ndarray) -> Followed:
        """All steps; what is asked for is there."""
        which = self.clock.nearest(times)
        count = int(which[-1]) + 1
        R, last = self.R[:count, :count], count - 1
        if not self.dynamics.plain:  # a kick moves by the step after it
            after = np.minimum(np.arange(count) + 1, last)
            R = R[:, after] * np.tril(np.ones((count, count)), -1)[:, :, None, None]
        ends = np.array([self.clock.time(step) for step in range(count)])
        trained = None if self.trained is None else self.trained[:count]
        return Followed(self, Kernels(ends, self.C[:count, :count], self.overlap[:count], trained), R, which, continuous=False)

    def weigh(self, average: Average, nodes: np.ndarray, times: np.ndarray) -> np.ndarray:
        return step_weights(average, nodes, self.clock.nearest(times), self.clock.nearest(average.starts(times)))

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
                    seen = y if self.trained is None else Labelled(y, np.broadcast_to(self.trained[i], (n, self.trained.shape[1])))
                    slope = np.asarray(gradients_of(self.problem.slopes)(r[i], seen))
                kicks[i] = etas[i] * chosen[i][:, None] * slope
        shown = lambda paths: np.moveaxis(paths[which], 0, 1)
        return path_dataset(curves["time"].values, {"r": shown(r), "w": shown(w), "r_star": r_star}, y)


# --- training in continuous time ----------------------------------------------------------------------------------------------
