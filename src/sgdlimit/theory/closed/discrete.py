"""`MiniBatchGD`: the limit of a training in discrete steps, eq. (1) and (2) step by step (Gerbelot et al., arXiv 2210.06591).

In the driving law of THEORY section 2 ("general driving law") a sample's `m_j` is `eta_j` with probability `b`, the fraction,
else 0. Step `j` lasts `h_j = eta_j b delta`, and

    r_i         = w_i - sum_{j < i} R(i, j+1) G_j,                              G_j = m_j l(r_j, y)
    chi(i, j)   = R(i, j) - sum_{j <= u < i} R(i, u+1) m_u H_u chi(u, j)
    M_{i+1}     = (1 - h_i lam) M_i - delta E[m_i l_i g*^T]                     (r* = root(rho) g*)
    R(i+1, j)   = (1 - h_i lam) R(i, j) - delta E[m_i H_i chi(i, j)],           R(j, j) = I
    theta_i     = M_i g* + R(i, 0) xi + sum_{j < i} R(i, j+1) U_j,              E[U_i U_j^T] = delta E[G_i G_j^T]

are exact: there is no grid in time that is not the training's own, so sampling is the only error. `C = E[theta theta^T]` is a Gram
matrix, as in `coordinates`. Averages go over the intensity `E[m_i | past] = eta_i b` of the newest increment, not over its draw.

With kinks `H chi` is the difference of `differences`, marched at two distances on the same points: their extrapolation is what is
reported, and what it gained counts as an error.

With a spectrum (THEORY section 4) every eigenvalue has its own `R` and overlap, whose bracket is times the eigenvalue; `chi(., j)` is
then that of a unit of theta at step `j` alone, from which the bracket of any trajectory follows.

Cost and memory of a path grow with the square of the number of steps, because `chi` is kept for every pair of steps.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import jax
import numpy as np
from scipy import special
from scipy.stats import qmc

from ...checks import root
from ...compiling import jit
from ...learning.clock import Clock, mini_batch_clock
from ...learning.dynamics import MiniBatchGD
from ...learning.labels import TINY, over_samples, samples
from ...learning.problem import Problem
from ...learning.risk import TestRisk
from ...results import Solution
from ...spread import spread
from ..accuracy.outcome import MAX_REPLICATES, Replicated, largest_size, more_points, solution
from ..gaussian import GrowingFactor
from ..laws.law import StepLaw
from ..samples.differences import WORDS, difference, distance, middle, signed, sizes, two_sided

# Paths of a replicate. The equations are not linear in the averages, so few paths have a bias of their own: measured on the linear model
# up to 1.3 standard errors of 8 replicates at 2^8, below 0.9 at 2^10, not seen at 2^12.
FEWEST, MOST = 2**9, 2**15
ENOUGH = 2**12  # where training diverges
REPLICATES = 8
BYTES = 2**30  # for the derivatives of all paths of one replicate
# Share of its variance below which a new direction of the noise is left out. Full batches with short steps are smooth, and the factor
# of many nearly dependent increments amplifies rounding: over 150 steps of `tanh_regression` single replicates ran off by half at
# 1e-10; none did at 1e-8 or 1e-6, nor at 1e-6 over 300 steps.
PIVOT = 1e-6
DISTANCES = 0.1, 0.2  # of the differences of a loss with kinks, in standard deviations of w
GAIN = 7.0  # error of the extrapolation to distance zero against its change of a curve
COLUMNS = 16  # directions differenced at a time, as many and twice and four times as many ...: few programs to compile
MAX_SIZE = int((BYTES / 8 / FEWEST) ** 0.5)  # steps times directions


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
    """

    R: np.ndarray
    L: np.ndarray
    train: np.ndarray
    classes: tuple[np.ndarray, np.ndarray] | None = None


def solve(
    problem: Problem, dynamics: MiniBatchGD, horizon: float, rtol: float, seed: int, outputs: np.ndarray, report: Callable
) -> Solution:
    """The limit at the output times, each the state after the nearest whole step."""
    began = time.perf_counter(), time.process_time()
    clock = clock_of(problem, dynamics, float(outputs[-1]))
    steps = int(clock.nearest(outputs)[-1])
    etas = np.broadcast_to(clock.etas(0, steps), steps)
    test_risk = TestRisk(problem, seed)
    most = most_paths(steps * _columns(problem))
    paths, replicates, stage, marched, farther = FEWEST, REPLICATES, 0, [], []
    while True:
        for index in range(len(marched), replicates):
            report(index / replicates * 0.99, f"{steps} steps, {paths} paths")
            points = draw(problem, dynamics, steps, paths, np.random.SeedSequence(seed, spawn_key=(stage, index)))
            marched.append(march(problem, dynamics.fraction, etas, points))
            if problem.kinks:
                farther.append(march(problem, dynamics.fraction, etas, points, DISTANCES[1]))
        found = _estimate(problem, clock, outputs, marched, farther, test_risk)
        found.effort |= {"paths": paths, "replicates": replicates}
        error = found.worst(problem)
        if found.ended is not None:  # averages diverge, too, and more paths are of little help
            most = min(most, ENOUGH)
        wanted = more_points(paths, error, rtol, most)
        stuck = wanted <= paths and (replicates == MAX_REPLICATES or found.ended is not None)
        if error <= rtol or stuck:
            found.law = _law(problem, dynamics, clock, marched)
            return solution(found, problem, dynamics, horizon, rtol, seed, "discrete steps", began)
        if wanted > paths:
            paths, stage, marched, farther = wanted, stage + 1, [], []
        else:
            replicates = min(2 * replicates, MAX_REPLICATES)


def clock_of(problem: Problem, dynamics: MiniBatchGD, end: float) -> Clock:
    """When steps end up to time `end`; refuses more of them than there is memory for."""
    return mini_batch_clock(dynamics, problem.sample_ratio, end, MAX_SIZE // _columns(problem))


def _columns(problem: Problem) -> int:
    """Derivatives kept for each pair of steps and row: those of a loss with kinks on both sides."""
    return 2 * problem.k if problem.kinks else problem.k


def most_paths(size: int) -> int:
    """How many paths of `size` steps times directions there is memory for, a power of two."""
    return int(np.clip(2 ** np.floor(np.log2(BYTES / 8 / max(size, 1) ** 2)), FEWEST, MOST))


def draw(problem: Problem, dynamics: MiniBatchGD, steps: int, paths: int, seed: np.random.SeedSequence) -> Points:
    """Draw `paths` samples (a power of two) as scrambled Sobol points, whose dimensions come in the order of time.

    Their spread is 3 to 10 times below that of independent draws for 1024 paths. Half as many points with their mirror images are
    worse in all cases tried (three of the reference problems, full batch and half), by up to a factor two.
    """
    k, k_star, n_noise = problem.k, problem.k_star, problem.noise_size
    head = k_star + k + n_noise
    each = k + (dynamics.fraction < 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        u = np.clip(qmc.Sobol(head + each * steps, rng=np.random.default_rng(seed)).random(paths), TINY, 1.0 - TINY)
    gstar, z = samples(problem, u[:, :k_star], u[:, k_star + k : head])
    later = u[:, head:].reshape(paths, steps, each)
    normals = np.concatenate([u[:, k_star : k_star + k], later[:, :, :k].reshape(paths, steps * k)], 1)
    gauss = np.concatenate([gstar, special.ndtri(normals)], 1).T
    with jax.enable_x64(True):
        y = over_samples(problem.label)(gauss[:k_star].T @ root(problem.rho), z)
    chosen = np.ones((steps, paths), bool) if dynamics.fraction == 1 else np.less(later[:, :, -1].T, dynamics.fraction)
    return Points(np.ascontiguousarray(gauss), y, chosen)


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
    train = []
    for i in range(len(etas) + 1):
        with jax.enable_x64(True):
            r = steps.preactivations(i)
            value, l, H = (np.asarray(x) for x in functions(r, points.y))  # noqa: E741
        if not (np.vdot(steps.L[i], steps.L[i]) < limit and np.isfinite(value).all() and np.isfinite(H).all()):
            break
        train.append(value.mean())
        if i < len(etas):
            steps.take(i, r, l, H)
    n = len(train)
    classes = (steps.B[:, :n], steps.parts[:, :n]) if isinstance(steps, _SpectralSteps) else None
    return Marched(steps.R[:n, :n], steps.L[:n], np.array(train), classes)


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


def _curves(problem: Problem, marched: list[Marched], which: np.ndarray) -> dict[str, np.ndarray]:
    """Curves of every replicate, the first axis, after the steps `which`."""
    weights = [one.L[which] for one in marched]
    return {
        "self_overlap": np.array([np.einsum("tim,tjm->tij", L, L) for L in weights]),
        "overlap": np.array([L[:, :, : problem.k_star] @ root(problem.rho) for L in weights]),
        "train_risk": np.array([one.train[which] for one in marched]),
    }


def _estimate(
    problem: Problem, clock: Clock, outputs: np.ndarray, marched: list[Marched], farther: list[Marched], test_risk: TestRisk
) -> Replicated:
    """Means over replicates at the output times, as far as all of them got, extrapolated to distance zero where there are
    replicates at the larger one."""
    reached = min(len(one.train) for one in marched + farther) - 1
    which = clock.nearest(outputs)
    ended = None
    if reached < which[-1]:
        ended = clock.time(reached + 1)
        outputs = outputs[which <= reached]
        if len(outputs) < 2:
            outputs = np.linspace(0.0, clock.time(reached), 11) if reached else np.zeros(1)
        which = clock.nearest(outputs)
    each = _curves(problem, marched, which)
    gained = {name: np.zeros_like(values) for name, values in each.items()}
    if farther:
        gained = {name: (each[name] - values) / 3.0 for name, values in _curves(problem, farther, which).items()}
    each = {name: values + gained[name] for name, values in each.items()}
    curves = {name: values.mean(0) for name, values in each.items()}
    errors = {name: np.hypot(spread(values), np.abs(gained[name].mean(0)) / GAIN) for name, values in each.items()}
    curves["test_risk"], own = test_risk(curves["self_overlap"], curves["overlap"])
    shift = test_risk.shift(curves["self_overlap"], curves["overlap"])
    shifts = np.array([shift(q, m) for q, m in zip(each["self_overlap"], each["overlap"], strict=True)])
    curves["test_risk"] = curves["test_risk"] + shifts.mean(0)
    errors["test_risk"] = np.hypot(spread(shifts), own)
    if farther:
        before = shift(*(curves[name] - gained[name].mean(0) for name in ("self_overlap", "overlap")))
        errors["test_risk"] = np.hypot(errors["test_risk"], before / GAIN)
    start = which == 0  # where a training sample is a fresh one
    for part in (curves, errors):
        part["train_risk"] = np.where(start, part["test_risk"], part["train_risk"])
    weights = [one.L[which] for one in marched]
    kernels = {
        "correlation": np.mean([np.einsum("sim,tjm->stij", L, L) for L in weights], 0),
        "response": np.mean([one.R[np.ix_(which, which)] for one in marched], 0),
    }
    return Replicated(outputs, curves, errors, kernels, {"steps": reached}, ended, {"kinks": WORDS} if farther else {})


def _law(problem: Problem, dynamics: MiniBatchGD, clock: Clock, marched: list[Marched]) -> StepLaw:
    """The mean kernels after every step that all replicates reached."""
    reached = min(len(one.train) for one in marched)
    weights = [one.L[:reached] for one in marched]
    C = np.mean([np.einsum("sim,tjm->stij", L, L, optimize=True) for L in weights], 0)
    overlap = np.mean([L[:, :, : problem.k_star] @ root(problem.rho) for L in weights], 0)
    by_eigenvalue = None
    classes = [one.classes for one in marched if one.classes is not None]
    if classes:
        parts = [part[:, :reached] for _, part in classes]
        remainder = np.mean([np.einsum("mtid,mujd->mtuij", part, part, optimize=True) for part in parts], 0)
        by_eigenvalue = np.mean([B[:, :reached] for B, _ in classes], 0), remainder
    return StepLaw(problem, dynamics, clock, C, np.mean([one.R[:reached, :reached] for one in marched], 0), overlap, by_eigenvalue)
