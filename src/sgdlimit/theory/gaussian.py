"""The Gaussian processes of eq. (1) and (2), sampled row by row through a factor that survives rank deficiency."""

from __future__ import annotations

import numpy as np

PIVOT = 1e-10  # a pivot below this fraction of its variance is rounding: the process is rank-deficient there


class GrowingFactor:
    """Lower-triangular factors `(S, n, k, n, k)` of `S` growing covariances of `n` items of `k` variables each.

    A pivot below `pivot` of its variance counts as zero: an unpivoted factor blows up once the process is numerically
    rank-deficient, as smooth flows are (THEORY section 5, point 1). Where the process is smooth the covariances fed here
    are second moments of actual samples, positive semi-definite to rounding, which is what makes small pivots harmless.
    """

    def __init__(self, replicates: int, items: int, k: int, pivot: float = PIVOT):
        self.items = items
        self.k = k
        self.pivot = pivot
        self.factor = np.zeros((replicates, items, k, items, k))
        self.live = np.zeros((replicates, items, k), bool)

    def extend(self, item: int, rows: np.ndarray) -> None:
        """Set item number `item` (a new one, or the last one again) from its covariance `rows (S, k, item + 1, k)` with the
        items so far and itself."""
        replicates, size = len(rows), item * self.k
        triangle = self.factor[:, :item, :, :item].reshape(replicates, size, size)
        alive = self.live[:, :item].reshape(replicates, size)
        known = np.swapaxes(rows[:, :, :item].reshape(replicates, self.k, size), 1, 2)
        # Forward substitution for all replicates at once; LAPACK one by one spends longer waking its threads.
        past = np.zeros((replicates, size, self.k))
        for i in range(size):
            rest = known[:, i] - (triangle[:, i, None, :i] @ past[:, :i])[:, 0]
            past[:, i] = np.where(alive[:, i, None], rest / np.where(alive[:, i], triangle[:, i, i], 1.0)[:, None], 0.0)
        past = np.swapaxes(past, 1, 2)
        self.factor[:, item, :, :item] = past.reshape(replicates, self.k, item, self.k)
        for s in range(replicates):
            block = rows[s, :, item]
            self.factor[s, item, :, item], self.live[s, item] = _small_factor(block - past[s] @ past[s].T, self.pivot * np.diag(block))


def _small_factor(matrix: np.ndarray, smallest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cholesky factor of a small matrix `(k, k)` that skips pivots below `smallest (k,)`."""
    k = len(matrix)
    factor, good = np.zeros((k, k)), np.zeros(k, bool)
    for a in range(k):
        for b in range(a):
            if good[b]:
                factor[a, b] = (matrix[a, b] - factor[a, :b] @ factor[b, :b]) / factor[b, b]
        pivot = matrix[a, a] - factor[a, :a] @ factor[a, :a]
        good[a] = pivot > max(smallest[a], 1e-300)
        factor[a, a] = np.sqrt(pivot) if good[a] else 0.0
    return factor, good


def psd_root(matrices: np.ndarray) -> np.ndarray:
    """Symmetric square roots of positive semi-definite matrices `(..., k, k)`; rounding below zero counts as zero."""
    values, vectors = np.linalg.eigh(0.5 * (matrices + np.swapaxes(matrices, -1, -2)))
    return (vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]) @ np.swapaxes(vectors, -1, -2)
