"""Data that are not isotropic: the eigenvalues of the feature covariance, and how strong the teacher is along each (THEORY section 4).

A feature of eigenvalue `lambda` has variance `lambda / d`, and `mean(lambda) = 1`, so that `|x|^2` is still about 1 and a step means
what it means for isotropic data. Pre-activations are `r = Theta^T x`: overlaps are their second moments, `mean of lambda theta theta^T`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import optimize

from ..checks import array, number, positive, root
from ..errors import InputError, Words, refuse

ROUNDED = 1e-4  # weights and means this far from one are decimals cut short, and are made exact
FEWEST_ROWS = 20


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of the feature covariance, as fractions of the features.

    Arguments:
        eigenvalues: `(m,)`, not negative, of mean one with the weights. `Spectrum.normalised` divides any others by their mean.
        weights: `(m,)`, the fraction of features of each eigenvalue, adding up to one; equal by default.
        teacher: the second moment of the teacher's rows at each eigenvalue, relative to the problem's teacher law: a factor `(m,)`, so that
            it is `factor * teacher.cov`, or a matrix `(m, k_star, k_star)`, `root(cov) matrix root(cov)`. The same at all by default.
        feature_variance: the mean variance of the features before they were scaled to one, for `SGD.from_learning_rate`.

    A row of eigenvalue number `i` is a row of the problem's teacher law times the root of its matrix, so a sparse teacher is sparse
    at each eigenvalue.

    Raises:
        InputError: a field has the wrong shape or sign, weights do not add up to one, or the mean eigenvalue is not one. It is not
            rescaled in silence, because step, ridge and teacher are all relative to it.
    """

    eigenvalues: Any
    weights: Any = None
    teacher: Any = None
    feature_variance: float = 1.0

    def __post_init__(self):
        values = _eigenvalues(self.eigenvalues)
        weights = _weights(self.weights, len(values))
        if abs(weights.sum() - 1.0) > ROUNDED:
            fix = "fractions of the features; sl.Spectrum.normalised takes numbers of features, too"
            raise refuse("spectrum.weights", "add up to 1", Words(f"{_short(weights)} with sum {weights.sum():.6g}"), fix)
        weights = weights / weights.sum()
        mean = float(weights @ values)
        if abs(mean - 1.0) > ROUNDED:
            fix = "divide them by it, as sl.Spectrum.normalised does; step, ridge and teacher are for features of mean variance one"
            raise refuse("spectrum.eigenvalues", "average to 1 with the weights", Words(f"{_short(values)} with mean {mean:.6g}"), fix)
        for name, value in (("eigenvalues", values / mean), ("weights", weights), ("teacher", _teacher(self.teacher, len(values)))):
            if value is not None:
                value.setflags(write=False)
            object.__setattr__(self, name, value)
        object.__setattr__(self, "feature_variance", positive("spectrum.feature_variance", self.feature_variance))

    def __len__(self) -> int:
        return len(self.eigenvalues)

    def __repr__(self) -> str:
        teacher = "" if self.teacher is None else ", teacher given at each"
        top, low = self.eigenvalues.max(), self.eigenvalues.min()
        return f"Spectrum({len(self)} eigenvalues from {low:.4g} to {top:.4g}{teacher})"

    @property
    def isotropic(self) -> bool:
        """Whether all eigenvalues are one: a sample cannot tell such features apart."""
        return bool(np.abs(self.eigenvalues - 1.0).max() < 1e-12)

    @property
    def roughness(self) -> float:
        """`mean of lambda^2`, one for isotropic data: what the noise of a step does to the self-overlap, and the mean rate of learning."""
        return float(self.weights @ self.eigenvalues**2)

    def teacher_moments(self, cov: np.ndarray) -> np.ndarray:
        """`E[theta* theta*^T] (m, k_star, k_star)` at each eigenvalue, for a teacher law of second moment `cov`."""
        half = root(cov)
        return half @ self._relative(len(cov)) @ half

    def teacher_maps(self, cov: np.ndarray) -> np.ndarray:
        """`(m, k_star, k_star)`, by which a row `(k_star,)` of a teacher law of second moment `cov` is multiplied at each eigenvalue."""
        half, inverse = root(cov), np.linalg.pinv(root(cov), rcond=1e-8, hermitian=True)
        return np.stack([half @ root(relative) @ inverse for relative in self._relative(len(cov))])

    def _relative(self, k_star: int) -> np.ndarray:
        factor = np.ones(len(self)) if self.teacher is None else self.teacher
        return factor[:, None, None] * np.eye(k_star) if factor.ndim == 1 else factor

    def counts(self, n_features: int) -> np.ndarray:
        """How many of `n_features` features have each eigenvalue, `(m,)`: the nearest whole numbers that add up.

        Raises:
            InputError: so few features cannot share the eigenvalues out.
        """
        share = self.weights * n_features
        counts = np.floor(share).astype(int)
        counts[np.argsort(counts - share, kind="stable")[: n_features - counts.sum()]] += 1
        mean = float(counts @ self.eigenvalues) / n_features
        if abs(mean - 1.0) > 0.05:
            enough = int(np.ceil(1.0 / self.weights[self.weights * self.eigenvalues > 0.02].min(initial=1.0)))
            fix = f"each eigenvalue needs a feature: {max(enough, 2 * n_features)} or more"
            raise refuse("n_features", f"be enough for the {len(self)} eigenvalues of the spectrum", n_features, fix)
        return counts

    @classmethod
    def normalised(cls, eigenvalues: Any, weights: Any = None, teacher: Any = None) -> Spectrum:
        """The spectrum of eigenvalues of any mean and weights of any sum: both are divided by it. `feature_variance` is the mean
        eigenvalue before, which `SGD.from_learning_rate` takes; a teacher's weights grow by its root."""
        values = _eigenvalues(eigenvalues)
        weights = _weights(weights, len(values))
        mean = float(weights @ values / weights.sum())
        if mean <= 0:
            raise refuse("spectrum.eigenvalues", "have a positive mean", eigenvalues)
        return cls(values / mean, weights / weights.sum(), teacher, mean)

    @classmethod
    def power_law(cls, exponent: float, teacher_exponent: float = 0.0, n_features: int = 1000, size: int = 32) -> Spectrum:
        """The `i`-th of `n_features` eigenvalues is proportional to `i^-exponent`, the teacher's second moment to `i^-teacher_exponent`.

        Arguments:
            exponent: not negative; 0 is isotropic. Above 1 the first features hold most of the variance, however many there are.
            teacher_exponent: of the second moment `E[theta_i*^2]`, scaled so that the second moment of `r*` remains the teacher's `cov`.
                In the words of kernel regression `exponent` is the capacity, and `exponent + teacher_exponent` the source exponent
                (Bordelon, Canatar and Pehlevan, arXiv 2002.02561; Cui et al., arXiv 2105.15004).
            n_features: how many the law is for: it sets the largest eigenvalue.
            size: most groups of neighbours that share their mean: 1, 2, 3, ... and wider and wider.
        """
        exponent, slope = number("exponent", exponent), number("teacher_exponent", teacher_exponent)
        for name, value, least in (("n_features", n_features, 2), ("size", size, 2)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
                raise refuse(name, f"be a whole number, at least {least}", value)
        if exponent < 0:
            raise refuse("exponent", "not be negative", exponent, "eigenvalues fall like i^-exponent")
        place = np.arange(1.0, n_features + 1)
        values = place**-exponent
        values /= values.mean()
        strength = place**-slope
        strength /= np.mean(values * strength)
        edges = _edges(int(n_features), int(size))
        groups = [slice(a, b) for a, b in pairwise(edges)]
        # A group's teacher keeps its part of the pre-activation's second moment.
        teacher = [values[at] @ strength[at] / values[at].sum() for at in groups]
        return cls([values[at].mean() for at in groups], np.diff(edges) / n_features, teacher if slope else None)

    @classmethod
    def from_data(cls, X: Any, size: int = 64) -> Spectrum:
        """The spectrum of the population that the rows `X (n, d)` are a sample of.

        Eigenvalues of a sample spread further than the population's, the more so the smaller `n/d`. This is undone by the least-squares
        solution of the Marchenko-Pastur equation (Silverstein) for a population on a grid (El Karoui, Annals of Statistics 36, 2757).
        Columns are centred and not scaled; standardise them before if training does. `feature_variance` is their mean variance.

        Arguments:
            X: numbers, one row a sample; at least 20 rows.
            size: points of the grid; few of them get a weight.

        Raises:
            InputError: too few rows, values that are not finite, or columns that are all constant.
        """
        X = array("X", X)
        if X.ndim != 2 or X.shape[0] < FEWEST_ROWS or X.shape[1] < 2:
            raise refuse(
                "X", f"have shape (n, d) with at least {FEWEST_ROWS} rows and 2 columns", Words(f"of shape {X.shape}"), "a row a sample"
            )
        rows, columns = len(X) - 1, X.shape[1]
        found = np.zeros(columns)
        singular = np.linalg.svd(X - X.mean(0), compute_uv=False)
        found[: len(singular)] = singular**2 / rows
        scale = float(found.mean())
        if not scale > 1e-14 * (1.0 + float(np.abs(X).max()) ** 2):
            raise InputError("`X` must vary, but all its columns are constant")
        values, weights = _population(found / scale, columns / rows, size)
        spectrum = cls.normalised(values, weights)
        object.__setattr__(spectrum, "feature_variance", scale)
        return spectrum


def _population(sample: np.ndarray, ratio: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and weights of the population from those `sample (d,)` of mean one, `ratio = d / n`.

    With the companion Stieltjes transform `v(z) = -(1 - ratio)/z + ratio * mean 1/(sample - z)` the law `H` of the population solves
    `ratio * int lambda / (1 + lambda v(z)) H(d lambda) = z + 1/v(z)`, which is linear in `H`.
    """
    top = float(sample.max())
    floor = max(1e-3 * float(np.median(sample[sample > 1e-12 * top])), 1e-6 * top)
    low = max(0.2 * float(sample[sample > 1e-10 * top].min()), floor)
    grid = np.concatenate([[0.0], np.geomspace(low, 1.05 * top, size - 1)])
    # Points above the support, closer to the axis where eigenvalues are small: they see every scale.
    real = np.concatenate([np.geomspace(low, 1.2 * top, 2 * size), [-low, -1.0, -top]])
    z = real + 1j * np.maximum(0.3 * np.abs(real), 2.0 * np.abs(real) / np.sqrt(len(sample)))
    v = -(1.0 - ratio) / z + ratio * np.mean(1.0 / (sample - z[:, None]), 1)
    left = ratio * grid / (1.0 + grid * v[:, None])
    right = z + 1.0 / v
    weigh = 1.0 / np.maximum(np.abs(right), 1e-12)
    left, right = left * weigh[:, None], right * weigh
    heavy = 1e2 * np.sqrt(len(z))
    rows = np.concatenate([left.real, left.imag, heavy * np.ones((1, size)), heavy * grid[None]])
    weights, _ = optimize.nnls(rows, np.concatenate([right.real, right.imag, [heavy, heavy]]))
    kept = weights > 1e-7 * weights.sum()
    return grid[kept], weights[kept]


def _edges(count: int, size: int) -> np.ndarray:
    """Edges of at most `size` groups of `count` places: each the same factor wider than the one before, none empty."""
    low, high = 1.0, float(count)  # the ratio of neighbouring edges
    for _ in range(60):
        middle = np.sqrt(low * high)
        low, high = (low, middle) if len(_places(count, middle)) <= size + 1 else (middle, high)
    return _places(count, high)


def _places(count: int, ratio: float) -> np.ndarray:
    def walk() -> Iterator[int]:
        at = 0
        while at < count:
            yield at
            at = max(at + 1, round((at + 1) * ratio) - 1)

    return np.array([*walk(), count])


def _eigenvalues(value: Any) -> np.ndarray:
    values = array("spectrum.eigenvalues", value)
    if values.ndim != 1 or values.size == 0:
        raise refuse("spectrum.eigenvalues", "be a list of numbers", Words(f"of shape {values.shape}"), "[3.0, 0.8, 0.32]")
    if (values < 0).any():
        raise refuse("spectrum.eigenvalues", "not be negative", value, "they are variances")
    return values


def _weights(value: Any, size: int) -> np.ndarray:
    if value is None:
        return np.full(size, 1.0 / size)
    weights = array("spectrum.weights", value)
    if weights.shape != (size,):
        raise refuse("spectrum.weights", f"have one entry for each of the {size} eigenvalues", Words(f"of shape {weights.shape}"))
    if (weights <= 0).any():
        raise refuse("spectrum.weights", "be positive", value, "leave out an eigenvalue that no feature has")
    return weights


def _teacher(value: Any, size: int) -> np.ndarray | None:
    if value is None:
        return None
    teacher = array("spectrum.teacher", value).copy()
    if teacher.shape[:1] != (size,) or teacher.ndim not in (1, 3) or teacher.shape[1:2] != teacher.shape[2:]:
        must = f"be {size} factors, one for each eigenvalue, or {size} matrices (k_star, k_star)"
        raise refuse("spectrum.teacher", must, Words(f"of shape {teacher.shape}"))
    lowest = teacher if teacher.ndim == 1 else np.linalg.eigvalsh(teacher)[:, 0]
    if teacher.ndim == 3 and not np.allclose(teacher, np.swapaxes(teacher, 1, 2), atol=1e-10 * (1 + np.abs(teacher).max())):
        raise refuse("spectrum.teacher", "be symmetric matrices", value, "each is a second moment")
    if (lowest < -1e-10 * (1 + np.abs(teacher).max())).any():
        raise refuse("spectrum.teacher", "not be negative", value, "each is a second moment")
    if not np.abs(teacher).max() > 0:
        raise refuse("spectrum.teacher", "be positive somewhere", value, "it is relative to the problem's teacher")
    return teacher


def _short(values: np.ndarray) -> str:
    shown = ", ".join(f"{value:.4g}" for value in values[:6])
    return f"[{shown}{', ...' if len(values) > 6 else ''}]"
