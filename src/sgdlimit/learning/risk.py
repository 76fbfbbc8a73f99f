"""Averages over a fresh sample: `(w, r*)` Gaussian with blocks self-overlap, overlap and rho, label noise on its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import qmc

from ..checks import root
from ..compiling import jit
from ..spread import spread
from .labels import TINY, fresh
from .problem import Problem

POINTS = 2**12  # of each randomisation of the Sobol points
RANDOMISATIONS = 8  # their spread is the rule's own error; four tell it badly
FEW = 2**10  # points for the small difference between neighbouring overlaps


@lru_cache(maxsize=32)
def _risk(loss: Callable, label: Callable) -> Callable:
    """E L(w, y) over points, for every row of `coefficients (T, k, k_star + k)` of w in the normals `g`."""

    def at(coefficients, rho_root, g, z):
        y = jax.vmap(label)(g[:, : len(rho_root)] @ rho_root.T, z)
        one = lambda matrix: jax.vmap(loss)(g @ matrix.T, y).mean()
        return jax.lax.map(one, coefficients)

    return jit(at)


@lru_cache(maxsize=32)
def _largest_curvature(loss: Callable, label: Callable) -> Callable:
    def at(matrix, rho_root, g, z):
        y = jax.vmap(label)(g[:, : len(rho_root)] @ rho_root.T, z)
        hessian = jax.vmap(jax.hessian(loss))(g @ matrix.T, y)
        return jnp.abs(jnp.linalg.eigvalsh(hessian.mean(0))).max()

    return jit(at)


class TestRisk:
    """Test risk of a problem at given overlaps, with the quadrature's own standard error."""

    __test__ = False  # not a test class

    def __init__(self, problem: Problem, seed: int):
        self.problem, self.rho_root = problem, root(problem.rho)
        dims = problem.k_star + problem.k + problem.noise_size
        self.points = []
        for child in np.random.SeedSequence(seed, spawn_key=(0x7E57,)).spawn(RANDOMISATIONS):
            u = np.clip(qmc.Sobol(dims, rng=np.random.default_rng(child)).random(POINTS), TINY, 1.0 - TINY)
            self.points.append(fresh(problem, u))

    def coefficients(self, self_overlap: np.ndarray, overlap: np.ndarray) -> np.ndarray:
        """w in the normals `(g*, xi)`: `w = M g* + root(self_overlap - M M^T) xi` with `M = overlap rho^(-1/2)`."""
        m = overlap @ np.linalg.pinv(self.rho_root, hermitian=True)
        rest = self_overlap - m @ np.swapaxes(m, -1, -2)
        values, vectors = np.linalg.eigh(0.5 * (rest + np.swapaxes(rest, -1, -2)))
        spread = (vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]) @ np.swapaxes(vectors, -1, -2)
        return np.concatenate([m, spread], -1)

    def _at(self, coefficients: np.ndarray, g: np.ndarray, z: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(_risk(self.problem.loss, self.problem.label)(coefficients, self.rho_root, g, z))

    def __call__(self, self_overlap: np.ndarray, overlap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Risk `(T,)` and its standard error `(T,)` at `self_overlap (T, k, k)`, `overlap (T, k, k_star)`."""
        at = self.coefficients(self_overlap, overlap)
        each = np.array([self._at(at, g, z) for g, z in self.points])
        return each.mean(0), spread(each)

    def shift(self, self_overlap: np.ndarray, overlap: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """The change of the risk from these overlaps to neighbouring ones, on few common points."""
        g, z = self.points[0][0][:FEW], self.points[0][1][:FEW]
        here = self._at(self.coefficients(self_overlap, overlap), g, z)
        return lambda q, m: self._at(self.coefficients(q, m), g, z) - here

    def curvature(self) -> float:
        """Size of `E[H]` at the start."""
        g, z = self.points[0][0][:FEW], self.points[0][1][:FEW]
        matrix = self.coefficients(self.problem.self_overlap_start[None], self.problem.overlap_start[None])[0]
        with jax.enable_x64(True):
            return float(_largest_curvature(self.problem.loss, self.problem.label)(matrix, self.rho_root, g, z))
