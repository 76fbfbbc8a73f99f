"""One replicate of `discrete`: its paths and kernels, followed step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import jax
import numpy as np

from ...checks import root
from ...compiling import jit
from ...learning.problem import Problem
from ..accuracy.outcome import largest_size
from ..gaussian import GrowingFactor
from ..samples.differences import difference, distance, middle, signed, sizes, two_sided

# Share of its variance below which a new direction of the noise is left out. Full batches with short steps are smooth, and the factor
# of many nearly dependent increments amplifies rounding: over 150 steps of `tanh_regression` single replicates ran off by half at
# 1e-10; none did at 1e-8 or 1e-6, nor at 1e-6 over 300 steps.
PIVOT = 1e-6
DISTANCES = 0.1, 0.2  # of the differences of a loss with kinks, in standard deviations of w
COLUMNS = 16  # directions differenced at a time, as many and twice and four times as many ...: few programs to compile


class Points(NamedTuple):
    """What is random about `P` samples."""

    gauss: np.ndarray  # (k_star + k + T k, P): standard normals of teacher, start and the directions of the noise
    y: np.ndarray  # labels, paths first
    chosen: np.ndarray  # (T, P): whether a step's batch has the sample


@dataclass(frozen=True)
class Marched:
    """One replicate, up to the last step before it diverged.

    Attributes:
        R: response `(n, n, k, k)`, `R(i, j)` of the weights after `i` steps to a kick after `j`.
        L: weights in independent standard normals, `(n, k, dims)`.
        train: train risk `(n,)`.
        classes: with a spectrum `B (m, n, k, k_star)` of every eigenvalue, and theta without its teacher in independent normals
            `(m, n, k, dims)`.
        begun: averages before the first step, as `witness.START` has them.
    """

    R: np.ndarray
    L: np.ndarray
    train: np.ndarray
    begun: np.ndarray
    classes: tuple[np.ndarray, np.ndarray] | None = None


@lru_cache(maxsize=32)
def _functions(loss: Callable) -> Callable:
    """Loss, gradient and second derivative over paths, paths last."""
    one = lambda r, y: (loss(r, y), jax.grad(loss)(r, y), jax.hessian(loss)(r, y))
    return jit(jax.vmap(one, in_axes=(-1, 0), out_axes=-1))


@lru_cache(maxsize=32)
def _difference(loss: Callable) -> Callable:
    """`difference` of the gradient at `r (k, P)` along `chi (k, D, P)` at distances `size (D,)`."""
    gradient = jax.vmap(jax.grad(loss), in_axes=(-1, 0), out_axes=-1)
    return jit(lambda r, y, here, chi, size: difference(lambda q: gradient(q, y), here, r, chi, size))


def march(problem: Problem, fraction: float, etas: np.ndarray, points: Points, share: float = DISTANCES[0]) -> Marched:
    """Follow one replicate through the steps of sizes `etas (T,)`; stop early where it diverges. `share` is the distance of
    the differences of a loss with kinks, in standard deviations of w."""
    kind = _Steps if problem.anisotropic is None else _SpectralSteps
    steps, functions, limit = kind(problem, fraction, etas, points, share), _functions(problem.loss), largest_size(problem)
    train, begun = [], np.zeros(0)
    for i in range(len(etas) + 1):
        with jax.enable_x64(True):
            r = steps.preactivations(i)
            value, l, H = (np.asarray(x) for x in functions(r, points.y))  # noqa: E741
        if not (np.vdot(steps.L[i], steps.L[i]) < limit and np.isfinite(value).all() and np.isfinite(H).all()):
            break
        train.append(value.mean())
        if not i:
            parts = l @ l.T / l.shape[1], l @ points.gauss[: problem.k_star].T / l.shape[1], H.mean(-1)
            begun = np.concatenate([[value.mean()], *(part.ravel() for part in parts)])
        if i < len(etas):
            steps.take(i, r, l, H)
    n = len(train)
    classes = (steps.B[:, :n], steps.parts[:, :n]) if isinstance(steps, _SpectralSteps) else None
    return Marched(steps.R[:n, :n], steps.L[:n], np.array(train), begun, classes)


class _Steps:
    """Kernels and paths of one replicate; what is known grows by a row per step. `P` paths come last."""

    def __init__(self, problem: Problem, fraction: float, etas: np.ndarray, points: Points, share: float = DISTANCES[0]):
        k, k_star, steps, paths = problem.k, problem.k_star, len(etas), points.gauss.shape[1]
        self.k, self.k_star, self.paths, self.points, self.etas = k, k_star, paths, points, etas
        self.ridge, self.spread = problem.ridge, root(problem.init.cov)
        self.means = etas * fraction * problem.sample_ratio  # delta E[m_i | past]
        self.R = np.zeros((steps + 1, steps + 1, k, k))
        self.R[np.arange(steps + 1), np.arange(steps + 1)] = np.eye(k)
        self.L = np.zeros((steps + 1, k, len(points.gauss)))
        self.L[0, :, :k_star] = problem.init.overlap @ root(problem.rho)
        self.L[0, :, k_star : k_star + k] = self.spread
        self.noise = GrowingFactor(1, steps, k, PIVOT)
        self.filled = k_star + k  # normals in use; the noise takes the next one for each new direction, so the best Sobol dimensions
        self.kicks = np.zeros((steps, k, paths))  # G_j
        self.unit, self.difference, self.distance = np.eye(k), None, distance(problem, share)
        if problem.kinks:
            self.unit, self.difference = np.asarray(two_sided(self.unit)), _difference(problem.loss)
        self.columns = self.unit.shape[1]
        self.shifts = np.zeros((steps, self.columns))  # distances of differences
        self.pushed = np.zeros((steps, k, steps, self.columns, paths))  # m_u H_u chi(u, j): u, row, j, column, path

    def _row(self, i: int) -> np.ndarray:
        """`R(i, j+1)` over `j < i` as one matrix `(k, i k)`."""
        return self.R[i, 1 : i + 1].transpose(1, 0, 2).reshape(self.k, i * self.k)

    def preactivations(self, i: int) -> np.ndarray:
        """`r_i (k, P)`."""
        w = self.L[i, :, : self.filled] @ self.points.gauss[: self.filled]
        return w - self._row(i) @ self.kicks[:i].reshape(i * self.k, self.paths)

    def _chi(self, i: int) -> np.ndarray:
        """`chi(i, j)` for `j <= i`, `(k, i + 1, k, P)`; with kinks on both sides, `2k` columns."""
        k, columns, width = self.k, self.columns, len(self.etas)
        pushed = self.pushed.reshape(width * k, width * columns * self.paths)[: i * k, : i * columns * self.paths]
        past = self._direct(i) - (self._row(i) @ pushed).reshape(k, i, columns, self.paths)
        return np.concatenate([past, np.broadcast_to(self.unit[:, None, :, None], (k, 1, columns, self.paths))], 1)

    def _direct(self, i: int) -> np.ndarray | float:
        """What the directions `j < i` do to `w_i`, as many columns as `chi` has, `(k, i, k, 1)`."""
        return (self.R[i, :i] @ self.unit).transpose(1, 0, 2)[..., None]

    def _turned(self, i: int, r: np.ndarray, l: np.ndarray, H: np.ndarray, chi: np.ndarray) -> np.ndarray:  # noqa: E741
        """`H chi`, or the difference that stands for it."""
        if self.difference is None:
            return np.stack([sum(H[a, c] * chi[c] for c in range(self.k)) for a in range(self.k)])
        self.shifts[i] = np.asarray(signed(sizes(self.distance, self.L[i])))
        size = (i + 1) * self.columns
        room = COLUMNS * 2 ** int(np.ceil(np.log2(max(size / COLUMNS, 1.0))))
        padded, shifts = np.zeros((self.k, room, self.paths)), np.ones(room)
        padded[:, :size], shifts[:size] = chi.reshape(self.k, size, self.paths), self.shifts[: i + 1].reshape(size)
        with jax.enable_x64(True):
            found = np.asarray(self.difference(r, self.points.y, l, padded, shifts))
        return found[:, :size].reshape(chi.shape)

    def take(self, i: int, r: np.ndarray, l: np.ndarray, H: np.ndarray) -> None:  # noqa: E741
        """Step `i`, from pre-activations `r (k, P)`, gradients `l (k, P)` and second derivatives `H (k, k, P)` at its start."""
        k, mean, eta = self.k, self.means[i], self.etas[i]
        chi = self._chi(i)
        h_chi = self._turned(i, r, l, H, chi)
        row = np.zeros((1, k, i + 1, k))
        row[0, :, :i] = mean * (l @ self.kicks[:i].reshape(i * k, self.paths).T).reshape(k, i, k) / self.paths
        row[0, :, i] = mean * eta * (l @ l.T) / self.paths
        self.noise.extend(i, row)
        self.kicks[i] = eta * self.points.chosen[i] * l
        self.pushed[i, :, : i + 1] = eta * self.points.chosen[i] * h_chi
        turned = h_chi.mean(-1)
        turned = turned if self.columns == k else np.asarray(middle(turned, 2))
        self._arrive(i, turned, (l @ self.points.gauss[: self.k_star].T) / self.paths)

    def _noise_factor(self, i: int) -> np.ndarray:
        """Of the noise of steps up to `i`, without directions that it does not have."""
        size = (i + 1) * self.k
        return self.noise.factor[0, : i + 1, :, : i + 1].reshape(size, size)[:, self.noise.live[0, : i + 1].ravel()]

    def _arrive(self, i: int, h_chi: np.ndarray, l_gstar: np.ndarray) -> None:
        """Kernels after step `i`, from `E[H chi] (k, i + 1, k)` and `E[l g*^T]`."""
        k, k_star, mean, factor = self.k, self.k_star, self.means[i], self._noise_factor(i)
        keep = 1.0 - mean * self.ridge  # the step's length is `mean`
        self.R[i + 1, : i + 1] = keep * self.R[i, : i + 1] - mean * h_chi.transpose(1, 0, 2)
        self.L[i + 1, :, :k_star] = keep * self.L[i, :, :k_star] - mean * l_gstar
        self.filled = k_star + k + factor.shape[1]
        self.L[i + 1, :, k_star : k_star + k] = self.R[i + 1, 0] @ self.spread
        self.L[i + 1, :, k_star + k : self.filled] = self._row(i + 1) @ factor


class _SpectralSteps(_Steps):
    """The same for anisotropic data; `states` and the rest as in `spectral.SpectralCoordinates`, with a leading axis of eigenvalues."""

    def __init__(self, problem: Problem, fraction: float, etas: np.ndarray, points: Points, share: float = DISTANCES[0]):
        super().__init__(problem, fraction, etas, points, share)
        spectrum, k, k_star, steps = problem.spectrum, self.k, self.k_star, len(etas)
        assert spectrum is not None
        self.eigenvalues, self.share = spectrum.eigenvalues, spectrum.weights * spectrum.eigenvalues
        self.moments = spectrum.teacher_moments(problem.teacher.cov)
        self.inverse = np.linalg.pinv(root(problem.rho), rcond=1e-8, hermitian=True)
        self.B = np.zeros((len(spectrum), steps + 1, k, k_star))
        self.B[:, 0] = problem.init.overlap
        self.responses = np.zeros((len(spectrum), steps + 1, k, steps + 1, k))
        self.parts = np.zeros((len(spectrum), steps + 1, k, k + steps * k))  # theta without its teacher in independent normals
        self.apart = GrowingFactor(1, steps + 1, k, PIVOT)
        self._enter(0)

    def _direct(self, i: int) -> np.ndarray | float:
        return 0.0

    def _arrive(self, i: int, h_chi: np.ndarray, l_gstar: np.ndarray) -> None:
        mean = self.means[i]
        keep, pull = 1.0 - mean * self.ridge, mean * self.eigenvalues
        J = h_chi.transpose(1, 0, 2)[: i + 1]
        outside = (l_gstar - np.einsum("jab,jbc->ac", J, self.L[: i + 1, :, : self.k_star])) @ self.inverse
        on_teacher = np.einsum("jab,mjbc->mac", J, self.B[:, : i + 1]) + outside
        on_response = np.einsum("jab,mjbsc->masc", J, self.responses[:, : i + 1, :, : i + 1], optimize=True)
        self.B[:, i + 1] = keep * self.B[:, i] - pull[:, None, None] * on_teacher
        self.responses[:, i + 1, :, : i + 1] = keep * self.responses[:, i, :, : i + 1] - pull[:, None, None, None] * on_response
        self._enter(i + 1)

    def _enter(self, i: int) -> None:
        """R, and w in independent normals, after `i` steps."""
        k, k_star, m = self.k, self.k_star, len(self.share)
        self.responses[:, i, :, i] = np.eye(k)
        self.R[i, : i + 1] = np.einsum("m,masb->sab", self.share, self.responses[:, i, :, : i + 1])
        self.L[i, :, :k_star] = np.einsum("m,mac,mcd->ad", self.share, self.B[:, i], self.moments) @ self.inverse
        self.parts[:, i, :, :k] = self.responses[:, i, :, 0] @ self.spread
        if i:
            factor = self._noise_factor(i - 1)
            row = self.responses[:, i, :, 1 : i + 1].reshape(m, k, i * k)
            self.parts[:, i, :, k : k + factor.shape[1]] = np.sqrt(self.eigenvalues)[:, None, None] * (row @ factor)
        rows = np.einsum("m,mad,mjbd->ajb", self.share, self.parts[:, i], self.parts[:, : i + 1], optimize=True)
        rows += np.einsum("m,mac,mcd,mjbd->ajb", self.share, self.B[:, i], self.moments, self.B[:, : i + 1], optimize=True)
        rows -= np.einsum("ac,jbc->ajb", self.L[i, :, :k_star], self.L[: i + 1, :, :k_star])
        self.apart.extend(i, rows[None])
        size = (i + 1) * k
        factor = self.apart.factor[0, i, :, : i + 1].reshape(k, size)[:, self.apart.live[0, : i + 1].ravel()]
        self.filled = k_star + factor.shape[1]
        self.L[i, :, k_star:] = 0.0
        self.L[i, :, k_star : self.filled] = factor
