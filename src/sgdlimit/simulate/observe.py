"""Overlaps and train risk of simulated weights."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ..compiling import jit
from ..functions import Static
from ..learning.problem import Problem
from .along import told
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


def train_risk(problem: Problem, data: Data, thetas: np.ndarray, numbers: np.ndarray | None = None) -> np.ndarray:
    """Mean loss over the data `(time,)` for weights `(time, k, d)` and numbers `(time, p)` that are trained along, if there are any."""
    length = chunk_length(len(data.rows), problem.k, len(thetas))
    risks = []
    for first in range(0, len(thetas), length):
        here = slice(first, first + length)
        part, along = thetas[here].astype(np.float32), None if numbers is None else numbers[here]
        full = lambda part: np.concatenate([part, np.repeat(part[-1:], length - len(part), axis=0)])  # one shape, one compilation
        given = full(part), data.rows, data.labels, None if along is None else full(along)
        risks.append(np.asarray(_train_risk(*given, loss=Static(problem.slopes.loss)))[: len(part)])
    return np.concatenate(risks)


@partial(jit, static_argnames="loss")
def _train_risk(thetas, rows, labels, numbers=None, *, loss):
    times, k, d = thetas.shape
    r = (rows @ thetas.reshape(times * k, d).T).reshape(len(rows), times, k).astype(float)
    at_times = lambda r, y: jax.vmap(lambda r, a: loss(r, told(y, a)))(r, numbers)
    return jnp.mean(jax.vmap(at_times)(r, labels).astype(float), axis=0)
