"""The Gaussian processes of eq. (1) and (2), sampled row by row through a factor that survives rank deficiency."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import get_blas_funcs

TRIANGULAR_SOLVE: Any = get_blas_funcs("trsv", dtype=np.float64)
PIVOT = 1e-10  # a pivot below this fraction of its variance is rounding: the process is rank-deficient there
GROWN = 1e-6  # likewise in a factor that grows row by row: what one small pivot is off by, later ones feed on


class GrowingFactor:
    """Lower-triangular factors `(S, n, k, n, k)` of `S` growing covariances of `n` items of `k` variables each.

    A pivot below `pivot` of its variance counts as zero: an unpivoted factor blows up once the process is numerically
    rank-deficient, as smooth flows are (THEORY section 5, point 1). Where the process is smooth the covariances fed here
    are second moments of actual samples, positive semi-definite to rounding, which is what makes small pivots harmless.
    """

    def __init__(self, replicates: int, items: int, k: int, pivot: float = GROWN):
        self.items = items
        self.k = k
        self.pivot = pivot
        self.factor = np.zeros((replicates, items, k, items, k))
        self.live = np.zeros((replicates, items, k), bool)
        # The factor with infinity where a pivot counts as zero and one where there is none yet, for substitution.
        self.solvable = np.zeros((replicates, items * k, items * k))
        self.solvable[:, np.arange(items * k), np.arange(items * k)] = 1.0

    def extend(self, item: int, rows: np.ndarray) -> None:
        """Set item number `item` (a new one, or the last one again) from its covariance `rows (S, k, item + 1, k)` with the
        items so far and itself."""
        replicates, size = len(rows), item * self.k
        here, diagonal = slice(size, size + self.k), np.arange(size, size + self.k)
        past = np.zeros((replicates, self.k, self.solvable.shape[1]))
        past[:, :, :size] = rows[:, :, :item].reshape(replicates, self.k, size)
        for triangle, known in zip(self.solvable, past, strict=True):
            for row in known:  # in place: a triangular solve without LAPACK, which spends longer waking its threads
                TRIANGULAR_SOLVE(triangle.T, row, lower=0, trans=1, overwrite_x=1)
        block = rows[:, :, item]
        past, new = _within(past[:, :, :size], block)
        factor, live = _small_factors(new, self.pivot * _diagonals(block))
        self.factor[:, item, :, :item] = past.reshape(replicates, self.k, item, self.k)
        self.factor[:, item, :, item], self.live[:, item] = factor, live
        self.solvable[:, here, :size], self.solvable[:, here, here] = past, factor
        self.solvable[:, diagonal, diagonal] = np.where(live, _diagonals(factor), np.inf)


def _within(past: np.ndarray, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What earlier items make of a new one, `(S, k, n)`, with no more variance than it has, `block (S, k, k)`, and what is new in it,
    `(S, k, k)`.

    Errors of estimates, taken for real, make it more where hardly anything is new, and then grow from item to item. Rounding is no such
    error: where a direction has no variance, as that of equal scores under a softmax, it is neither cut nor divided by.
    """
    explained = past @ np.swapaxes(past, 1, 2)
    new = block - explained
    least = new[:, 0, 0] if new.shape[1] == 1 else np.linalg.eigvalsh(new)[:, 0]
    for s in np.flatnonzero(least < -PIVOT * np.trace(block, axis1=1, axis2=2)):
        half = psd_root(block[s])
        inverse = np.linalg.pinv(half, rcond=np.sqrt(PIVOT), hermitian=True)
        share, vectors = np.linalg.eigh(inverse @ explained[s] @ inverse)
        past[s] = half @ (vectors / np.sqrt(np.maximum(share, 1.0))) @ vectors.T @ inverse @ past[s]
        new[s] = block[s] - past[s] @ past[s].T
    return past, new


def _diagonals(matrices: np.ndarray) -> np.ndarray:
    return np.einsum("...ii->...i", matrices)


def _small_factors(matrices: np.ndarray, smallest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cholesky factors of small matrices `(S, k, k)` that skip pivots below `smallest (S, k)`, and which pivots are there `(S, k)`."""
    factors, good = np.zeros(matrices.shape), np.zeros(smallest.shape, bool)
    for a in range(matrices.shape[1]):
        for b in range(a):
            rest = matrices[:, a, b] - (factors[:, a, :b] * factors[:, b, :b]).sum(1)
            factors[:, a, b] = np.where(good[:, b], rest / np.where(good[:, b], factors[:, b, b], 1.0), 0.0)
        pivot = matrices[:, a, a] - (factors[:, a, :a] ** 2).sum(1)
        good[:, a] = pivot > np.maximum(smallest[:, a], 1e-300)
        factors[:, a, a] = np.sqrt(np.where(good[:, a], pivot, 0.0))
    return factors, good


def psd_root(matrices: np.ndarray) -> np.ndarray:
    """Symmetric square roots of positive semi-definite matrices `(..., k, k)`; rounding below zero counts as zero."""
    if matrices.shape[-1] == 1:  # by far the most, at every node
        return np.sqrt(np.maximum(matrices, 0.0))
    values, vectors = np.linalg.eigh(0.5 * (matrices + np.swapaxes(matrices, -1, -2)))
    return (vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]) @ np.swapaxes(vectors, -1, -2)


def rescaling(have: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Maps `(..., k, k)` that give what has the covariance `have` that of `want`, where it has any."""
    roots = psd_root(have)
    if roots.shape[-1] == 1:
        return psd_root(want) * np.where(roots > 0.0, 1.0 / np.where(roots > 0.0, roots, 1.0), 0.0)
    return psd_root(want) @ np.linalg.pinv(roots, rcond=1e-7, hermitian=True)


def psd_factor(matrices: np.ndarray) -> np.ndarray:
    """Lower-triangular factors of positive semi-definite matrices `(S, k, k)`, as `GrowingFactor` has them."""
    return _small_factors(matrices, PIVOT * _diagonals(matrices))[0]
