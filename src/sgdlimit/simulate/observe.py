"""Overlaps and risks of simulated weights."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special
from scipy.stats import qmc

from ..checks import root
from ..compiling import jit
from ..learning.noise import NoNoise
from ..learning.problem import Problem
from .data import Data, Static

TEST_POINTS = 2**14
CHUNK_VALUES = 2**21  # pre-activations held at once for the train risk


class TestSet:
    """`E L(w, y)` over `(w, r_star)` Gaussian with the run's own overlaps, on fixed scrambled Sobol points with label noise.

    For Gaussian data this is the risk on a fresh sample given the weights, exactly. For the other designs it is so up to the
    central limit theorem, the same one that makes the limit universal. The points are the same at all times and in all
    repeats: no Monte-Carlo noise enters the curves, and their common integration error is of the order of 1e-4. An unbounded loss of
    heavy-tailed noise is the exception: with three degrees of freedom and a squared loss the points miss 2% of the risk.
    """

    __test__ = False  # not a test for pytest to collect

    def __init__(self, problem: Problem):
        k, k_star, size = problem.k, problem.k_star, problem.noise_size
        u = np.clip(qmc.Sobol(k_star + k + size, rng=np.random.default_rng(0)).random(TEST_POINTS), 2.0**-40, 1 - 2.0**-40)
        noise = np.full((TEST_POINTS, math.prod(problem.noise.shape)), 0.5) if isinstance(problem.noise, NoNoise) else u[:, k_star + k :]
        self.problem = problem
        self.r_star = special.ndtri(u[:, :k_star]) @ root(problem.rho)
        self.normals = special.ndtri(u[:, k_star : k_star + k])
        self.labels = jit(jax.vmap(problem.label))(self.r_star, problem.noise_from_uniform(noise))

    def risk(self, self_overlap: np.ndarray, overlap: np.ndarray) -> np.ndarray:
        """Test risk `(time,)` from `self_overlap (time, k, k)` and `overlap (time, k, k_star)`."""
        regress = overlap @ np.linalg.pinv(self.problem.rho, hermitian=True)
        rest = self_overlap - regress @ overlap.transpose(0, 2, 1)
        values, vectors = np.linalg.eigh((rest + rest.transpose(0, 2, 1)) / 2)
        spread = vectors * np.sqrt(np.maximum(values, 0))[:, None, :]
        return np.asarray(_test_risk(regress, spread, self.r_star, self.normals, self.labels, loss=Static(self.problem.loss)))


@partial(jit, static_argnames="loss")
def _test_risk(regress, spread, r_star, normals, labels, *, loss):
    def one(at):
        w = r_star @ at[0].T + normals @ at[1].T
        return jnp.mean(jax.vmap(loss)(w, labels).astype(float))

    return jax.lax.map(one, (regress, spread))


def overlaps(thetas: np.ndarray, teacher: np.ndarray, eigenvalues: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """`theta theta^T / d (time, k, k)` and `theta theta*^T / d (time, k, k_star)` of weights `(time, k, d)`, each feature weighed by its
    eigenvalue `(d,)`."""
    d = thetas.shape[-1]
    weighed = thetas if eigenvalues is None else thetas * eigenvalues
    return weighed @ thetas.transpose(0, 2, 1) / d, weighed @ teacher.T / d


def chunk_length(n: int, k: int, times: int) -> int:
    """Output times whose train risk is computed in one matrix product: the data are read once for all of them."""
    return max(1, min(times, CHUNK_VALUES // (n * k)))


def train_risk(problem: Problem, data: Data, thetas: np.ndarray) -> np.ndarray:
    """Mean loss over the data `(time,)` for weights `(time, k, d)`."""
    length = chunk_length(len(data.rows), problem.k, len(thetas))
    risks = []
    for first in range(0, len(thetas), length):
        part = thetas[first : first + length].astype(np.float32)
        full = np.concatenate([part, np.repeat(part[-1:], length - len(part), axis=0)])  # one shape, one compilation
        risks.append(np.asarray(_train_risk(full, data.rows, data.labels, loss=Static(problem.loss)))[: len(part)])
    return np.concatenate(risks)


@partial(jit, static_argnames="loss")
def _train_risk(thetas, rows, labels, *, loss):
    times, k, d = thetas.shape
    r = (rows @ thetas.reshape(times * k, d).T).reshape(len(rows), times, k).astype(float)
    return jnp.mean(jax.vmap(lambda r, y: jax.vmap(lambda r: loss(r, y))(r))(r, labels).astype(float), axis=0)
