"""Overlaps and train risk of simulated weights."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ..compiling import jit
from ..functions import Static
from ..learning.problem import Problem
from .data import Data

CHUNK_VALUES = 2**21  # pre-activations held at once for the train risk


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
