"""Averages over a fresh sample: `(w, r*)` Gaussian with blocks self-overlap, overlap and rho, label noise on its own."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import qmc

from ..checks import root
from ..compiling import Program, hurried, jit
from ..functions import key
from ..spread import spread
from .means import Functions, check_finite, why_infinite
from .problem import Problem
from .slopes import Slopes
from .stretched import Points, Stretch
from .trained import anywhere, told

BLOCK = 2**10  # points that a program takes at a time, and enough for the small difference between neighbouring overlaps
POINTS = 2**12  # of each randomisation of the Sobol points, where no accuracy is asked for
MORE, MOST_POINTS = 4, 2**18  # times as many where these do not do, and at most
SHARE = 0.3  # of what is promised, that the rule may take
SLOWEST = 0.8  # more points that leave more than this part of the error are the last ones
RANDOMISATIONS = 8  # their spread is the rule's own error; four tell it badly
RARE = 2.0**-40
EXTRAPOLATED = 1e-3  # error of what is beyond the last noise that can be represented, of itself


@lru_cache(maxsize=32)
def _mean(function: Callable, label: Callable) -> Program:
    """Weighted mean of `function(w, r_star, y)` over points, for every row of `coefficients (T, k, k_star + k)` of w in the normals `g`,
    and of `numbers (T, p)` that are trained along, if there are any."""

    def at(coefficients, numbers, rho_root, g, z, weight):
        r_star = g[:, : len(rho_root)] @ rho_root.T
        y = jax.vmap(label)(r_star, z)

        def one(row):
            matrix, a = row
            values = jax.vmap(function)(g @ matrix.T, r_star, told(y, a)).astype(float)
            # What is as rare as this may lie beyond the function's domain.
            return weight @ jnp.where(jnp.isfinite(values) | (weight * len(g) > RARE), values, 0.0)

        return jax.lax.map(one, (coefficients, numbers))

    return jit(at)


@lru_cache(maxsize=32)
def _largest_curvature(slopes: Slopes, label: Callable) -> Callable:
    def at(matrix, rho_root, g, z, weight):
        y = jax.vmap(label)(g[:, : len(rho_root)] @ rho_root.T, z)
        hessian = jax.vmap(slopes.hessian)(g @ matrix.T, y)
        return jnp.linalg.norm(jnp.einsum("p,pab->ab", weight, hessian), 2)  # an update's need not be symmetric

    return jit(at)


@lru_cache(maxsize=32)
def _named(function: Callable, name: str) -> Functions:
    return lambda w, r_star, y: {name: jnp.asarray(function(w, r_star, y), float)}


@lru_cache(maxsize=32)
def _of_sample(loss: Callable) -> Callable:
    return lambda w, r_star, y: loss(w, y)


def loss_alone(problem: Problem) -> Functions:
    """The loss as `means` takes functions, the same object as `TestRisk` has: they share compiled programs."""
    return _named(key(_of_sample(key(problem.slopes.loss))), "the loss")


class FreshMean:
    """Average of `function(w, r_star, y)` over a fresh sample at given overlaps, with the quadrature's own standard error.

    Eight independent scramblings of the Sobol points, drawn where the function asks for them (`stretched`), have the same mean whatever
    they miss least; their spread is the error. What `name` calls the function stands in words.
    """

    def __init__(self, problem: Problem, function: Callable, seed: int, name: str = "the observable"):
        self.problem, self.rho_root = problem, root(problem.rho)
        self.function, self.label = key(function), anywhere(key(problem.labels))
        self.functions = _named(self.function, name)
        stretch = Stretch(problem, self.functions)
        seeds = np.random.SeedSequence(seed, spawn_key=(0x7E57,)).spawn(RANDOMISATIONS)
        self.rules = [qmc.Sobol(stretch.dims, rng=np.random.default_rng(child)) for child in seeds]
        self.stretch = stretch
        self.points: list[list[Points]] = [[] for _ in self.rules]  # in blocks
        self.extend(BLOCK)

    def extend(self, points: int) -> None:
        """Go on with the points of each randomisation, to so many at least."""
        for rule, known in zip(self.rules, self.points, strict=True):
            known += [self.stretch(rule.random(BLOCK)) for _ in range(points // BLOCK - len(known))]

    def prepare(self, times: int) -> None:
        """Begin to compile what averages at so many times ask for."""
        points, trained = self.points[0][0], self.problem.trained
        numbers = None if trained is None else np.zeros((times, len(trained.start)))
        coefficients = np.zeros((times, self.problem.k, points.g.shape[1]))
        program = _mean(self.function, self.label)
        work = lambda: program.compile(coefficients, numbers, self.rho_root, points.g, points.z, points.weight)
        with hurried():
            program.beside((coefficients, points), work)

    def coefficients(self, self_overlap: np.ndarray, overlap: np.ndarray) -> np.ndarray:
        """w in the normals `(g*, xi)`: `w = M g* + root(self_overlap - M M^T) xi` with `M = overlap rho^(-1/2)`."""
        m = overlap @ np.linalg.pinv(self.rho_root, hermitian=True)
        rest = self_overlap - m @ np.swapaxes(m, -1, -2)
        values, vectors = np.linalg.eigh(0.5 * (rest + np.swapaxes(rest, -1, -2)))
        spread = (vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]) @ np.swapaxes(vectors, -1, -2)
        return np.concatenate([m, spread], -1)

    def at(
        self,
        self_overlap: np.ndarray,
        overlap: np.ndarray,
        trained: np.ndarray | None = None,
        which: int = 0,
        few: int = 0,
        beyond: bool = True,
    ) -> np.ndarray:
        """Average `(T,)` on all points of one randomisation, or a `few` of its first block; without what is `beyond` the last noise if so
        asked."""
        blocks = [Points(*(part[:few] for part in self.points[which][0]))] if few else self.points[which]
        found, shares = [], [points.weight.sum() for points in blocks]
        with jax.enable_x64(True), hurried():  # the same program for all who ask
            program = _mean(self.function, self.label)
            coefficients = self.coefficients(self_overlap, overlap)
            for points, share in zip(blocks, shares, strict=True):
                weight = (points.beyond if beyond else points.weight) / share
                found.append(np.asarray(program(coefficients, trained, self.rho_root, points.g, points.z, weight)))
        return np.average(found, 0, shares)

    def each(self, self_overlap: np.ndarray, overlap: np.ndarray, trained: np.ndarray | None = None) -> np.ndarray:
        """Average on every randomisation, `(RANDOMISATIONS, T)`."""
        self.extend(POINTS)
        return self._each(self_overlap, overlap, trained)

    def _each(self, self_overlap: np.ndarray, overlap: np.ndarray, trained: np.ndarray | None) -> np.ndarray:
        """As `each`, on the points there are."""
        return np.array([self.at(self_overlap, overlap, trained, which) for which in range(RANDOMISATIONS)])

    def error(self, each: np.ndarray, self_overlap: np.ndarray, overlap: np.ndarray, trained: np.ndarray | None = None) -> np.ndarray:
        """Standard error `(T,)` of the mean of what `each` randomisation gives at these overlaps."""
        if not any((points.beyond != points.weight).any() for blocks in self.points for points in blocks):
            return spread(each)
        inside = np.mean([self.at(self_overlap, overlap, trained, which, beyond=False) for which in range(RANDOMISATIONS)], 0)
        return np.hypot(spread(each), EXTRAPOLATED * (each.mean(0) - inside))

    def __call__(self, self_overlap: np.ndarray, overlap: np.ndarray, trained: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Average `(T,)` and its standard error `(T,)` at `self_overlap (T, k, k)`, `overlap (T, k, k_star)`, and of a problem with numbers
        that are trained along `trained (T, p)`."""
        self.extend(POINTS)
        return self._estimate(self_overlap, overlap, trained)

    def _estimate(self, self_overlap: np.ndarray, overlap: np.ndarray, trained: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """As the call, on the points there are."""
        each = self._each(self_overlap, overlap, trained)
        return each.mean(0), self.error(each, self_overlap, overlap, trained)

    def within(
        self, rtol: float, self_overlap: np.ndarray, overlap: np.ndarray, trained: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As the call, with as many points as leave little of `rtol` times the largest average, or as there is use for."""
        mean, error = self._estimate(self_overlap, overlap, trained)
        while (before := error.max()) > SHARE * rtol * np.abs(mean).max() and (points := BLOCK * len(self.points[0])) < MOST_POINTS:
            self.extend(MORE * points)
            mean, error = self._estimate(self_overlap, overlap, trained)
            if points >= POINTS and error.max() > SLOWEST * before:  # of fewer it may be by chance
                break
        return mean, error

    def infinite(self, self_overlap: np.ndarray, overlap: np.ndarray) -> tuple[np.ndarray, str]:
        """Where the average is infinite `(T,)`, and words for it. It is taken to be so from some size of w on."""
        why = lambda t: why_infinite(self.problem, self.functions, self_overlap[t], overlap[t])
        order = np.argsort(np.trace(self_overlap, axis1=1, axis2=2), kind="stable")
        found = np.zeros(len(order), bool)
        words = why(order[-1])
        if words is None:
            return found, ""
        first = bisect_left(range(len(order)), True, key=lambda i: why(order[i]) is not None)
        found[order[first:]] = True
        return found, words

    def check_finite(self) -> None:
        """Refuse a label, or a function at the start, that is NaN or infinite on some samples."""
        check_finite(self.problem, self.functions)

    def shift(self, self_overlap: np.ndarray, overlap: np.ndarray, trained: np.ndarray | None = None) -> Callable[..., np.ndarray]:
        """The change of the average from these overlaps (and numbers) to neighbouring ones, on few common points."""
        here = self.at(self_overlap, overlap, trained, few=BLOCK)
        return lambda q, m, a=None: self.at(q, m, a, few=BLOCK) - here


class TestRisk(FreshMean):
    """Test risk of a problem at given overlaps, with the quadrature's own standard error."""

    __test__ = False  # not a test class

    def __init__(self, problem: Problem, seed: int):
        super().__init__(problem, _of_sample(key(problem.slopes.loss)), seed, "the loss")

    def curvature(self, stretched: float = 1.0) -> float:
        """Size of `E[H]` at the start, or where predictions are so many times as large."""
        g, z, weight, _ = self.points[0][0]
        overlaps = stretched**2 * self.problem.self_overlap_start, stretched * self.problem.overlap_start
        matrix = self.coefficients(*(overlap[None] for overlap in overlaps))[0]
        with jax.enable_x64(True):
            program = _largest_curvature(self.problem.slopes, key(self.problem.labels))
            return float(program(matrix, self.rho_root, g, z, weight / weight.sum()))
