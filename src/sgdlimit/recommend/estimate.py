"""What the data say about the problem: eigenvalues of the feature covariance, signal along each of them, noise.

Everything is read off two functions of the Gram matrix `K = X X^T / n`, the same that leave-one-out and generalised
cross-validation of ridge regression are made of, at a range of ridges `tau`:

    v(tau) = tr (K + tau)^-1 / n                g(tau) = y^T (K + tau)^-1 y / n

With `gamma = d/n`, population eigenvalues `lambda` of law `h`, and labels of linear signal energy `p(lambda)` and remaining variance `s2`,

    1/v - tau = gamma sum_k h_k lambda_k / (1 + lambda_k v)          (Marchenko and Pastur; Silverstein)
    g / v     = s2 + sum_k p_k / (1 + lambda_k v)                    (Hastie, Montanari, Rosset, Tibshirani, arXiv 1903.08560)

and both are linear in what is not known once `v` has been measured. The first is solved for a law that is not negative as El Karoui
does (Annals of Statistics 36, 2757, 2008): it undoes the spread that few samples give the eigenvalues, which is what shrinkage is
for. The second is solved in the same way. Signal along eigenvalues too small to be seen counts as noise, as it does in training.

Labels of two classes follow `P(y = 1) = 1 / (1 + exp(-(r* + b)))`. Their regression on Gaussian features is along the teacher
(Brillinger 1982), so the same equations give the teacher's shape; its size follows from how much of the labels' variance is linear.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, lsq_linear, nnls
from scipy.special import roots_hermitenorm

Array = np.ndarray

RIDGES = 48  # values of tau at which the data are read
SMALLEST_RIDGE = 1e-3  # relative to the mean eigenvalue: training sees no smaller eigenvalues
SPIKES = 12  # of the largest eigenvalues, how many may be read one by one
APART = 1.12  # where they exceed the next by so much
GRID = 72  # candidate eigenvalues
FEWEST_SHARE = 0.2  # of a feature: lighter eigenvalues are left out
STRONGEST = 8.0  # standard deviation of r*, beyond which logistic labels are as good as without noise
FOLDS = 5
ROWS_READ = 6000


@dataclass(frozen=True)
class Resolvent:
    """`v(tau)` and `g(tau)` of data `X (n, d)` with mean feature variance one, by one eigendecomposition."""

    eigenvalues: Array  # (min(n, d),) of X^T X / n
    energies: Array  # (min(n, d),) squared projections of y on the eigenvectors of K, over n
    rest: float  # |y|^2 / n outside of them
    n: int
    d: int

    @classmethod
    def of(cls, X: Array, y: Array) -> Resolvent:
        """Of centred data: means took one degree of freedom, so `n` is one less, and the Gram matrix loses its constant vector."""
        n, d = len(X) - 1, X.shape[1]
        if d <= n:
            values, vectors = np.linalg.eigh(X.T @ X / n)
            values = np.maximum(values, 0.0)
            seen = values > 1e-10 * values[-1]
            energies = np.where(seen, (vectors.T @ (X.T @ y)) ** 2 / np.where(seen, values, 1.0), 0.0) / n**2
        else:
            values, vectors = np.linalg.eigh(X @ X.T / n)
            values, vectors = np.maximum(values[1:], 0.0), vectors[:, 1:]
            energies = (vectors.T @ y) ** 2 / n
        return cls(values, energies, max(float(y @ y / n - energies.sum()), 0.0), n, d)

    @property
    def ridges(self) -> Array:
        return np.geomspace(SMALLEST_RIDGE, 3.0 * self.eigenvalues[-1], RIDGES)

    def spikes(self) -> Array:
        """Population eigenvalues behind the largest sample ones that stand alone, decreasing: `-1/v` of the others at each
        (Bai and Ding, Random Matrices: Theory and Applications 1, 1150011, 2012)."""
        values, found = self.eigenvalues[::-1], []
        for i in range(min(SPIKES, len(values) - 2)):
            if values[i] < APART * values[i + 1]:
                break
            others = np.delete(values, i)
            v = ((1.0 / (values[i] - others)).sum() + (self.n - len(values)) / values[i]) / self.n
            if not 0.5 / values[i] < v < 3.0 / values[i]:
                break
            found.append(1.0 / v)
        return np.sort(np.array(found))[::-1]

    def shrunk(self, tau: Array) -> Array:
        """`1 - tau v(tau) = sum_i s_i / (s_i + tau) / n`, without cancellation, `(T,)`."""
        return (self.eigenvalues / (self.eigenvalues + tau[:, None])).sum(1) / self.n

    def v(self, tau: Array) -> Array:
        return (1.0 - self.shrunk(tau)) / tau

    def g(self, tau: Array) -> Array:
        return (self.energies / (self.eigenvalues + tau[:, None])).sum(1) + self.rest / tau

    def held_out(self, tau: Array) -> Array:
        """Squared error of ridge regression on fresh samples by generalised cross-validation (Golub, Heath and Wahba 1979)."""
        squares = (self.energies / (self.eigenvalues + tau[:, None]) ** 2).sum(1) + self.rest / tau**2
        return squares / self.v(tau) ** 2


@dataclass(frozen=True)
class Estimate:
    """The problem that the data look like, in units where the mean feature variance is one.

    Attributes:
        eigenvalues: `(m,)`, increasing, with weighted mean one.
        weights: `(m,)`, their fractions of the features.
        signal: `(m,)`, variance of the labels along each of them.
        noise: variance of the labels that is not linear in the features.
        spectrum_residual: relative misfit of the first equation, root mean square over ridges.
        signal_residual: of the second.
        held_out_residual: prediction of ridge regression's error on fresh samples against leave-one-out, likewise.
        largest: largest eigenvalue of the sample covariance, which full-batch steps meet.
    """

    eigenvalues: Array
    weights: Array
    signal: Array
    noise: float
    spectrum_residual: float
    signal_residual: float
    held_out_residual: float
    largest: float

    @property
    def linear_share(self) -> float:
        """Part of the labels' variance that is linear in the features: what the best linear predictor would explain."""
        return float(self.signal.sum() / (self.signal.sum() + self.noise))

    def uncertainty(self, n: int) -> float:
        """Relative standard error of an expected risk: of a variance measured on `n` samples, and the misfit to leave-one-out errors."""
        return float(np.hypot(np.sqrt(2.0 / n), self.held_out_residual))

    @property
    def teacher(self) -> Array:
        """Factor `(m,)` of the teacher's second moment along each eigenvalue; `sum(weights * eigenvalues * teacher) = 1`."""
        total = self.signal.sum()
        if not total > 0:
            return np.ones_like(self.weights)
        return self.signal / total / (self.weights * self.eigenvalues)


def estimate(X: Array, y: Array, rng: np.random.Generator) -> Estimate:
    """Eigenvalues, signal and noise of centred data `X (n, d)`, `y (n,)`; of many rows a random part is read."""
    if len(X) > ROWS_READ:
        rows = np.sort(rng.choice(len(X), ROWS_READ, replace=False))
        X, y = X[rows], y[rows]
    return read(Resolvent.of(X, y))


def read(seen: Resolvent) -> Estimate:
    """Solve the two equations for laws that are not negative."""
    tau = seen.ridges
    v = seen.v(tau)
    gamma = seen.d / seen.n
    left = seen.shrunk(tau) / v
    mean = float(seen.eigenvalues.sum() / seen.d)
    spikes = seen.spikes()
    share = len(spikes) / seen.d
    grid = np.geomspace(0.3 * SMALLEST_RIDGE, 1.02 * seen.eigenvalues[-1 - len(spikes)], GRID)
    kernel = lambda at: gamma * at / (1.0 + at * v[:, None]) / left[:, None]
    firm = 100.0  # two things are known better than the rest: fractions sum to one, eigenvalues have this mean
    known = np.concatenate([kernel(spikes).sum(1) / seen.d, [firm * share, firm * spikes.sum() / seen.d / mean]])
    wanted = np.concatenate([np.ones(RIDGES), [firm, firm]]) - known
    law = _positive(np.vstack([kernel(grid), firm * np.ones(GRID), firm * grid / mean]), wanted)
    atoms, weights = _merge(grid, law, seen.d)
    atoms, weights = np.append(atoms, spikes[::-1]), np.append(weights * (1.0 - share), np.full(len(spikes), 1.0 / seen.d))
    misfit = gamma * (weights * atoms / (1.0 + atoms * v[:, None])).sum(1) / left - 1.0

    # Along an eigenvector that stands alone the signal is what is seen there, but for the noise's share.
    held_out, level = seen.held_out(tau), seen.g(tau) / v
    alone = np.maximum(seen.energies[::-1][: len(spikes)] - held_out.min() / seen.n, 0.0)[::-1]
    reach = lambda at: 1.0 / (1.0 + at * v[:, None])
    bulk = atoms[: len(atoms) - len(spikes)]
    design = np.column_stack([np.ones(RIDGES), reach(bulk)]) / level[:, None]
    rest = 1.0 - (reach(atoms[len(bulk) :]) @ alone) / level
    found = _positive(design, rest)
    signal_misfit = design @ found - rest
    total = seen.energies.sum() + seen.rest
    found *= max(total - alone.sum(), 0.0) / max(found.sum(), 1e-12 * total)
    noise, signal = float(found[0]), np.append(found[1:], alone)
    foreseen = ridge_error(atoms, weights, signal, noise, gamma, tau)
    scale = float((weights * atoms).sum())
    rms = lambda x: float(np.sqrt(np.mean(np.square(x))))
    return Estimate(
        atoms / scale, weights, signal, noise, rms(misfit), rms(signal_misfit), rms(foreseen / held_out - 1.0), seen.eigenvalues[-1] / scale
    )


def _positive(matrix: Array, wanted: Array) -> Array:
    """Least squares with no negative entry."""
    try:
        return nnls(matrix, wanted, maxiter=30 * matrix.shape[1])[0]
    except RuntimeError:  # it goes round in circles on nearly equal columns
        return np.maximum(lsq_linear(matrix, wanted, (0.0, np.inf)).x, 0.0)


def _merge(grid: Array, law: Array, d: int) -> tuple[Array, Array]:
    """Neighbouring candidates that share one eigenvalue become one, with their fractions and mean kept."""
    kept = np.flatnonzero(law > FEWEST_SHARE / d)
    groups = np.split(kept, np.flatnonzero(np.diff(kept) > 1) + 1)
    weights = np.array([law[group].sum() for group in groups])
    atoms = np.array([(law[group] * grid[group]).sum() for group in groups]) / weights
    return atoms, weights / weights.sum()


def _root(f: Callable[[float], float], low: float, high: float) -> float:
    """Where `f` vanishes between two places of different sign."""
    return float(brentq(f, low, high))  # pyright: ignore[reportArgumentType]


def companion(atoms: Array, weights: Array, gamma: float, tau: Array) -> Array:
    """`v(tau)` of the population law: the fixed point of the first equation, `(T,)`."""
    out = []
    for one in np.asarray(tau, dtype=float):
        f = lambda u, one=one: np.exp(-u) - one - gamma * (weights * atoms / (1.0 + atoms * np.exp(u))).sum()
        out.append(np.exp(_root(f, -np.log(one + gamma * (weights * atoms).sum()) - 1e-9, -np.log(one) + 1e-9)))
    return np.array(out)


def ridge_error(atoms: Array, weights: Array, signal: Array, noise: float, gamma: float, tau: Array) -> Array:
    """Squared error on fresh samples of ridge regression with `tau`, in the limit (Hastie and others, arXiv 1903.08560), `(T,)`."""
    v = companion(atoms, weights, gamma, tau)[:, None]
    bias = (signal / (1.0 + atoms * v) ** 2).sum(1)
    overlap = gamma * (weights * (atoms * v / (1.0 + atoms * v)) ** 2).sum(1)
    return (bias + noise) / (1.0 - overlap)


def strength(linear_share: float, offset: float = 0.0) -> float:
    """Standard deviation of `r*` whose logistic labels (`+1` or `-1`, intercept `offset`) have this share of their variance linear in `r*`;
    at most `STRONGEST`, which more linear labels than any logistic law gives would need."""
    if linear_share <= 0:
        return 0.0
    if share_at(STRONGEST, offset) <= linear_share:
        return STRONGEST
    return _root(lambda s: share_at(s, offset) - linear_share, 1e-6, STRONGEST)


_NODES, _WEIGHTS = roots_hermitenorm(201)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def share_at(size: float, offset: float) -> float:
    """Share of the variance of logistic labels that is linear in `r* ~ N(0, size^2)`."""
    mean_label = np.tanh(0.5 * (size * _NODES + offset))
    mean = _WEIGHTS @ mean_label
    return float((_WEIGHTS @ (_NODES * mean_label)) ** 2 / max(1.0 - mean**2, 1e-12))


def offset_for(mean: float, size: float) -> float:
    """Intercept of the teacher at which labels `+1` or `-1` have this mean."""
    at = lambda b: _WEIGHTS @ np.tanh(0.5 * (size * _NODES + b)) - mean
    reach = 10.0 + 10.0 * size
    return _root(at, -reach, reach)
