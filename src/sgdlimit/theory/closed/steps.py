"""One replicate of `discrete`: its paths and kernels, followed step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np

from ...checks import root
from ...compiling import jit
from ...learning.dynamics import MiniBatchGD
from ...learning.problem import Problem
from ...learning.slopes import Slopes
from ...learning.trained import told
from ..accuracy.outcome import largest_size
from ..gaussian import GrowingFactor
from ..samples.differences import difference, distance, middle, signed, sizes, two_sided
from .stepped import Along, StepFilter

# Share of its variance below which a new direction of the noise is left out. Full batches with short steps are smooth, and the factor
# of many nearly dependent increments amplifies rounding: over 150 steps of `tanh_regression` single replicates ran off by half at
# 1e-10; none did at 1e-8 or 1e-6, nor at 1e-6 over 300 steps.
PIVOT = 1e-6
DISTANCES = 0.1, 0.2  # of the differences of a loss with kinks, in standard deviations of w
COLUMNS = 16  # directions differenced at a time, as many and twice and four times as many ...: few programs to compile


class Points(NamedTuple):
    """What is random about `P` samples."""

    gauss: np.ndarray  # (k_star + k + T k, P): standard normals of teacher, start and the directions of the noise
    y: Any  # labels, paths first
    chosen: np.ndarray  # (T, P): whether a step's batch has the sample


@dataclass(frozen=True)
class Marched:
    """One replicate, up to the last step before it diverged.

    Attributes:
        R: response `(n, n, k, k)`, `R(i, j)` of the weights after `i` steps to a kick of the force in the step before `j`, which moves
            weights after `j`; `R(i, 0)` to the start.
        L: weights in independent standard normals, `(n, k, dims)`.
        train: train risk `(n,)`.
        classes: with a spectrum `B (m, n, k, k_star)` of every eigenvalue, and theta without its teacher in independent normals
            `(m, n, k, dims)`.
        begun: averages before the first step, as `witness.START` has them.
        trained: what is trained along, `(n, p)`.
    """

    R: np.ndarray
    L: np.ndarray
    train: np.ndarray
    begun: np.ndarray
    classes: tuple[np.ndarray, np.ndarray] | None = None
    trained: np.ndarray | None = None


@lru_cache(maxsize=32)
def _functions(slopes: Slopes) -> Callable:
    """Loss, gradient and second derivative over paths, paths last, and the gradient in what is trained along, if there is anything."""
    one = lambda r, y: tuple(f(r, y) for f in slopes if f is not None)
    return jit(jax.vmap(one, in_axes=(-1, 0), out_axes=-1))


@lru_cache(maxsize=32)
def _difference(slopes: Slopes) -> Callable:
    """`difference` of the gradient at `r (k, P)` along `chi (k, D, P)` at distances `size (D,)`."""
    gradient = jax.vmap(slopes.gradient, in_axes=(-1, 0), out_axes=-1)
    return jit(lambda r, y, here, chi, size: difference(lambda q: gradient(q, y), here, r, chi, size))


def march(problem: Problem, dynamics: MiniBatchGD, etas: np.ndarray, points: Points, share: float = DISTANCES[0]) -> Marched:
    """Follow one replicate through the steps of sizes `etas (T,)`; stop early where it diverges. `share` is the distance of
    the differences of a loss with kinks, in standard deviations of w."""
    kind = _Steps if problem.anisotropic is None else _SpectralSteps
    steps, functions, limit = kind(problem, dynamics, etas, points, share), _functions(problem.slopes), largest_size(problem)
    train, begun = [], np.zeros(0)
    for i in range(len(etas) + 1):
        with jax.enable_x64(True):
            r = steps.preactivations(i)
            value, l, H, *pull = (np.asarray(x) for x in functions(r, steps.labels(i)))  # noqa: E741
        if not (np.vdot(steps.L[i], steps.L[i]) < limit and np.isfinite(value).all() and np.isfinite(H).all()):
            break
        if steps.along is not None and steps.along.diverged(i):
            break
        train.append(value.mean())
        if not i:
            parts = l @ l.T / l.shape[1], l @ points.gauss[: problem.k_star].T / l.shape[1], H.mean(-1)
            begun = np.concatenate([[value.mean()], *(part.ravel() for part in parts)])
        if i < len(etas):
            steps.take(i, r, l, H)
            if steps.along is not None:
                steps.along.step(i, steps.means[i], pull[0].mean(-1))
    n = len(train)
    classes = (steps.B[:, :n], steps.parts[:, :n]) if isinstance(steps, _SpectralSteps) else None
    trained = None if steps.along is None else steps.along.a[:n]
    return Marched(steps.R[:n, :n], steps.L[:n], np.array(train), begun, classes, trained)


class _Steps:
    """Kernels and paths of one replicate; what is known grows by a row per step. `P` paths come last."""

    def __init__(self, problem: Problem, dynamics: MiniBatchGD, etas: np.ndarray, points: Points, share: float = DISTANCES[0]):
        k, k_star, steps, paths = problem.k, problem.k_star, len(etas), points.gauss.shape[1]
        self.k, self.k_star, self.paths, self.points, self.etas = k, k_star, paths, points, etas
        self.ridge, self.spread = problem.ridge, root(problem.init.cov)
        self.means = etas * dynamics.fraction * problem.sample_ratio  # delta E[m_i | past], and the length of a step
        self.along = None if problem.trained is None else Along(problem.trained, dynamics.optimizer, steps)
        self.filter, self.heat = StepFilter(dynamics.optimizer, k), 2.0 * dynamics.temperature * self.means
        self.R = np.zeros((steps + 1, steps + 1, k, k))
        self.R[0, 0] = np.eye(k)
        self.M_moved, self.R_moved = np.zeros((k, k_star)), np.zeros((steps + 1, k, k))  # velocities
        self.L = np.zeros((steps + 1, k, len(points.gauss)))
        self.L[0, :, :k_star] = problem.init.overlap @ root(problem.rho)
        self.L[0, :, k_star : k_star + k] = self.spread
        self.noise = GrowingFactor(1, steps, k, PIVOT)
        self.filled = k_star + k  # normals in use; the noise takes the next one for each new direction, so the best Sobol dimensions
        self.kicks = np.zeros((steps, k, paths))  # G_j
        self.unit, self.difference, self.distance = np.eye(k), None, distance(problem, share)
        if problem.kinks:
            self.unit, self.difference = np.asarray(two_sided(self.unit)), _difference(problem.slopes)
        self.columns = self.unit.shape[1]
        self.shifts = np.zeros((steps, self.columns))  # distances of differences
        self.pushed = np.zeros((steps, k, steps, self.columns, paths))  # m_u H_u chi(u, j): u, row, j, column, path

    def _row(self, i: int) -> np.ndarray:
        """`R(i, j+1)` over `j < i` as one matrix `(k, i k)`."""
        return self.R[i, 1 : i + 1].transpose(1, 0, 2).reshape(self.k, i * self.k)

    def labels(self, i: int) -> Any:
        """As the loss takes them at step `i`."""
        return told(self.points.y, None if self.along is None else self.along.a[i])

    def preactivations(self, i: int) -> np.ndarray:
        """`r_i (k, P)`."""
        w = self.L[i, :, : self.filled] @ self.points.gauss[: self.filled]
        return w - self._row(i) @ self.kicks[:i].reshape(i * self.k, self.paths)

    def _chi(self, i: int) -> np.ndarray:
        """`chi(i, j)` for `j <= i`, `(k, i + 1, k, P)`; with kinks on both sides, `2k` columns."""
        k, columns, width = self.k, self.columns, len(self.etas)
        pushed = self.pushed.reshape(width * k, width * columns * self.paths)[: i * k, : i * columns * self.paths]
        past = self._direct(i) - (self._row(i) @ pushed).reshape(k, i, columns, self.paths)
        return np.concatenate([past, np.broadcast_to(self._own(i)[:, None, :, None], (k, 1, columns, self.paths))], 1)

    def _direct(self, i: int) -> np.ndarray | float:
        """What the directions `j < i` do to `w_i`, as many columns as `chi` has, `(k, i, k, 1)`."""
        return (self.R[i, :i] @ self.unit).transpose(1, 0, 2)[..., None]

    def _own(self, i: int) -> np.ndarray:
        """What the newest direction does to `w_i`."""
        return self.R[i, i] @ self.unit

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
            found = np.asarray(self.difference(r, self.labels(i), l, padded, shifts))
        return found[:, :size].reshape(chi.shape)

    def take(self, i: int, r: np.ndarray, l: np.ndarray, H: np.ndarray) -> None:  # noqa: E741
        """Step `i`, from pre-activations `r (k, P)`, gradients `l (k, P)` and second derivatives `H (k, k, P)` at its start."""
        k, mean, eta = self.k, self.means[i], self.etas[i]
        chi = self._chi(i)
        h_chi = self._turned(i, r, l, H, chi)
        row = np.zeros((1, k, i + 1, k))
        row[0, :, :i] = mean * (l @ self.kicks[:i].reshape(i * k, self.paths).T).reshape(k, i, k) / self.paths
        row[0, :, i] = mean * eta * (l @ l.T) / self.paths + self._heat(i)
        self.noise.extend(i, row)
        self.kicks[i] = eta * self.points.chosen[i] * l
        self.pushed[i, :, : i + 1] = eta * self.points.chosen[i] * h_chi
        turned = h_chi.mean(-1)
        turned = turned if self.columns == k else np.asarray(middle(turned, 2))
        self._arrive(i, turned, (l @ self.points.gauss[: self.k_star].T) / self.paths)

    def _heat(self, i: int) -> np.ndarray | float:
        """What the temperature adds to the noise of a step."""
        return self.heat[i] * np.eye(self.k) if self.heat[i] else 0.0

    def _noise_factor(self, i: int) -> np.ndarray:
        """Of the noise of steps up to `i`, without directions that it does not have."""
        size = (i + 1) * self.k
        return self.noise.factor[0, : i + 1, :, : i + 1].reshape(size, size)[:, self.noise.live[0, : i + 1].ravel()]

    def _arrive(self, i: int, h_chi: np.ndarray, l_gstar: np.ndarray) -> None:
        """Kernels after step `i`, from `E[H chi] (k, i + 1, k)` and `E[l g*^T]`."""
        k, k_star, mean, factor = self.k, self.k_star, self.means[i], self._noise_factor(i)
        M, force = self.L[i, :, :k_star], np.zeros((i + 2, k, k))
        on_teacher = -mean * (self.ridge * M + l_gstar)  # the step's length is `mean`
        force[: i + 1] = -mean * (self.ridge * self.R[i, : i + 1] + h_chi.transpose(1, 0, 2))
        force[i + 1] = np.eye(k)
        self.filter.step(mean)
        if self.filter.gains:
            noise = force[1:].transpose(1, 0, 2).reshape(k, (i + 1) * k) @ factor
            square = (on_teacher**2).sum(1) + ((force[0] @ self.spread) ** 2).sum(1) + (noise**2).sum(1)
            self.filter.measure(square / (self.etas[i] * mean))
        self.L[i + 1, :, :k_star], self.M_moved = self.filter(M, self.M_moved, on_teacher)
        here = slice(0, i + 2)
        self.R[i + 1, here], self.R_moved[here] = self.filter(self.R[i, here], self.R_moved[here], force)
        self.filled = k_star + k + factor.shape[1]
        self.L[i + 1, :, k_star : k_star + k] = self.R[i + 1, 0] @ self.spread
        self.L[i + 1, :, k_star + k : self.filled] = self._row(i + 1) @ factor


class _SpectralSteps(_Steps):
    """The same for anisotropic data; `states` and the rest as in `spectral.SpectralCoordinates`, with a leading axis of eigenvalues."""

    def __init__(self, problem: Problem, dynamics: MiniBatchGD, etas: np.ndarray, points: Points, share: float = DISTANCES[0]):
        super().__init__(problem, dynamics, etas, points, share)
        spectrum, k, k_star, steps = problem.spectrum, self.k, self.k_star, len(etas)
        assert spectrum is not None
        self.eigenvalues, self.share, self.weights = spectrum.eigenvalues, spectrum.weights * spectrum.eigenvalues, spectrum.weights
        self.moments = spectrum.teacher_moments(problem.teacher.cov)
        self.inverse = np.linalg.pinv(root(problem.rho), rcond=1e-8, hermitian=True)
        self.B = np.zeros((len(spectrum), steps + 1, k, k_star))
        self.B[:, 0] = problem.init.overlap
        self.responses = np.zeros((len(spectrum), steps + 1, k, steps + 1, k))
        self.responses[:, 0, :, 0] = np.eye(k)
        self.B_moved, self.moved = np.zeros((len(spectrum), k, k_star)), np.zeros((len(spectrum), k, steps + 1, k))  # velocities
        # theta without its teacher in independent normals; those of a temperature are the last
        self.parts = np.zeros((len(spectrum), steps + 1, k, k + (2 if self.heat.any() else 1) * steps * k))
        self.apart = GrowingFactor(1, steps + 1, k, PIVOT)
        self._enter(0)

    def _direct(self, i: int) -> np.ndarray | float:
        return 0.0

    def _own(self, i: int) -> np.ndarray:
        return self.unit

    def _heat(self, i: int) -> np.ndarray | float:
        return 0.0  # the same for all eigenvalues, unlike the samples' noise

    def _arrive(self, i: int, h_chi: np.ndarray, l_gstar: np.ndarray) -> None:
        mean, here = self.means[i], slice(0, i + 2)
        pull = mean * self.eigenvalues
        J = h_chi.transpose(1, 0, 2)[: i + 1]
        outside = (l_gstar - np.einsum("jab,jbc->ac", J, self.L[: i + 1, :, : self.k_star])) @ self.inverse
        on_teacher = np.einsum("jab,mjbc->mac", J, self.B[:, : i + 1]) + outside
        on_teacher = -mean * self.ridge * self.B[:, i] - pull[:, None, None] * on_teacher
        force = np.zeros((len(pull), self.k, i + 2, self.k))
        force[:, :, : i + 1] = np.einsum("jab,mjbsc->masc", J, self.responses[:, : i + 1, :, : i + 1], optimize=True)
        force *= -pull[:, None, None, None]
        force -= mean * self.ridge * self.responses[:, i, :, here]
        force[:, :, i + 1] = np.eye(self.k)
        self.filter.step(mean)
        if self.filter.gains:
            self.filter.measure(self._square(i, on_teacher, force) / (self.etas[i] * mean))
        self.B[:, i + 1], self.B_moved = self.filter(self.B[:, i], self.B_moved, on_teacher)
        self.responses[:, i + 1, :, here], self.moved[:, :, here] = self.filter(
            self.responses[:, i, :, here], self.moved[:, :, here], force, axis=1
        )
        self._enter(i + 1)

    def _square(self, i: int, on_teacher: np.ndarray, force: np.ndarray) -> np.ndarray:
        """Mean square over features of the force of step `i`, `(k,)`."""
        square = np.einsum("mac,mcd,mad->ma", on_teacher, self.moments, on_teacher)
        return self.weights @ (square + (self._normals(i + 1, force) ** 2).sum(2))

    def _normals(self, i: int, row: np.ndarray) -> np.ndarray:
        """What has responses `row (m, k, i + 1, k)` to the start and to the noise of `i` steps, in independent normals."""
        m, k = row.shape[:2]
        parts = np.zeros((m, *self.parts.shape[2:]))
        parts[:, :, :k] = row[:, :, 0] @ self.spread
        if i:
            factor, kicks = self._noise_factor(i - 1), row[:, :, 1 : i + 1]
            noise = kicks.reshape(m, k, i * k) @ factor
            parts[:, :, k : k + factor.shape[1]] = np.sqrt(self.eigenvalues)[:, None, None] * noise
            if self.heat.any():
                heat = kicks * np.sqrt(self.heat[:i])[:, None]
                parts[:, :, -len(self.heat) * k :][:, :, : i * k] = heat.reshape(m, k, i * k)
        return parts

    def _enter(self, i: int) -> None:
        """R, and w in independent normals, after `i` steps."""
        k, k_star = self.k, self.k_star
        self.R[i, : i + 1] = np.einsum("m,masb->sab", self.share, self.responses[:, i, :, : i + 1])
        self.L[i, :, :k_star] = np.einsum("m,mac,mcd->ad", self.share, self.B[:, i], self.moments) @ self.inverse
        self.parts[:, i] = self._normals(i, self.responses[:, i, :, : i + 1])
        rows = np.einsum("m,mad,mjbd->ajb", self.share, self.parts[:, i], self.parts[:, : i + 1], optimize=True)
        rows += np.einsum("m,mac,mcd,mjbd->ajb", self.share, self.B[:, i], self.moments, self.B[:, : i + 1], optimize=True)
        rows -= np.einsum("ac,jbc->ajb", self.L[i, :, :k_star], self.L[: i + 1, :, :k_star])
        self.apart.extend(i, rows[None])
        size = (i + 1) * k
        factor = self.apart.factor[0, i, :, : i + 1].reshape(k, size)[:, self.apart.live[0, : i + 1].ravel()]
        self.filled = k_star + factor.shape[1]
        self.L[i, :, k_star:] = 0.0
        self.L[i, :, k_star : self.filled] = factor
