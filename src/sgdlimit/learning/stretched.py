"""Fresh samples with weights: more of them than their law has where the function to be averaged grows.

An average over points that are drawn by the law itself misses what is rare and large, and so does the spread over randomisations that
should tell its error: with Student's t of 2.2 degrees of freedom a squared error has a mean and no variance, and half of the mean lies
beyond all of a hundred thousand points. Here points go as far as the mean does:

- a component of the noise in whose tail the function grows like a power of the tail's probability `t`, `f ~ t^-b`, is drawn by
  `t = v^(1/a)` with `a = 1 - b`, for which `f` times the weight stays bounded;
- all other normal scores are `g + c g^3` of normals `g`, with the `c` for which `f` times the weight varies least, often zero.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from .labels import TINY, classes_of
from .means import FAR, Functions, Sizes, tail_exponents
from .problem import Problem

LIGHT = 0.1  # tails with smaller exponents are left to the cubic
STEEPEST, FLATTEST = 0.02, 0.3  # exponents `a` of what is drawn
SHARE = 0.25  # of the points that a heavy tail gets, at most; all together get half
CUBICS = (0.0, 0.01, 0.04)
PILOT = 2**11
NEWTON = 12
GAIN = 0.8  # a larger cubic must vary less by this factor: smooth weights are one more thing to integrate


class Points(NamedTuple):
    """Normals `g (P, k_star + k)` of teacher and student, noise `z (P, ...)`, and weights `(P,)` whose mean is near one: those by which
    points are too many or too few, and the same times what the function gains beyond the end of what can be represented."""

    g: np.ndarray
    z: np.ndarray
    weight: np.ndarray
    beyond: np.ndarray


class Stretch:
    """How a problem's fresh samples are drawn for one function.

    Attributes:
        exponents: `(2, size of one draw)` of the lower and upper tail of every component of the noise.
        cubic: the `c` above.
    """

    def __init__(self, problem: Problem, functions: Functions):
        self.problem, self.classes = problem, classes_of(problem)
        self.head = problem.k_star + problem.k
        # A student that has learnt something shows how the function grows also where training starts from nothing.
        size = np.diag(problem.rho).max() * np.eye(problem.k)
        self.sizes = Sizes(problem, functions, problem.self_overlap_start + size, problem.overlap_start)
        self.scores = self.sizes.scores
        self.exponents = np.zeros((2, problem.noise_size))
        if self.classes is None:
            self.exponents = np.where((found := tail_exponents(self.sizes)) > LIGHT, found, 0.0)
        self.cubic = 0.0
        rng = np.random.default_rng(0x57E7)
        u = np.clip(rng.random((PILOT, self.head + problem.noise_size)), TINY, 1.0 - TINY)
        vary = [self._variance(cubic, u) for cubic in CUBICS]
        best = int(np.argmin(vary))
        self.cubic = CUBICS[best] if vary[best] < GAIN * vary[0] and self._finite_afar(rng) else 0.0

    @property
    def dims(self) -> int:
        """Uniform numbers of a sample."""
        return self.head + self.problem.noise_size

    def __call__(self, u: np.ndarray) -> Points:
        """The samples of uniform numbers `u (P, dims)`."""
        u = np.clip(u, TINY, 1.0 - TINY)
        if self.classes is not None:
            k_star = self.problem.k_star
            gstar, z = self.classes.draw(u[:, 0], u[:, self.head])
            xi, log_weight = stretched(special.ndtri(u[:, k_star : self.head]), self.cubic)
            weight = np.exp(log_weight.sum(1))
            return Points(np.concatenate([gstar[:, None], xi], 1), z, weight, weight)
        s, log_weight, log_beyond = self._scores(u, self.cubic)
        weight = np.exp(log_weight)
        return Points(s[:, : self.head], self.scores(s[:, self.head :]), weight, weight * np.exp(log_beyond))

    def _scores(self, u: np.ndarray, cubic: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores `(P, D)`, the logarithm of their weights, and of what the function gains beyond the last score that tells something."""
        s, log_weight = stretched(special.ndtri(u), cubic)
        s[:, self.head :] = np.clip(s[:, self.head :], -self.scores.reach[0], self.scores.reach[1])
        log_beyond = np.zeros(len(u))
        share = min(SHARE, 0.5 / max(np.count_nonzero(self.exponents), 1))
        for i in np.flatnonzero(self.exponents.any(0)):
            column, reach = self.head + i, self.scores.reach[:, i]
            s[:, column], log_weight[:, column], tail = in_tails(u[:, column], self.exponents[:, i], share)
            for side, sign in enumerate((-1.0, 1.0)):
                past = sign * s[:, column] > reach[side]
                log_beyond[past] += self.exponents[side, i] * (special.log_ndtr(-reach[side]) - tail[past])
                s[past, column] = sign * reach[side]
        return s, log_weight.sum(1), log_beyond

    def _finite_afar(self, rng: np.random.Generator) -> bool:
        """Whether the function is finite where a cubic takes the farthest points."""
        rays = rng.standard_normal((PILOT // 8, self.head + self.scores.size))
        rays[:, self.head :] = 0.0
        return bool(np.isfinite(self.sizes(FAR * rays / np.linalg.norm(rays, axis=1, keepdims=True))).all())

    def _variance(self, cubic: float, u: np.ndarray) -> float:
        """Second moment of the function times the weights."""
        s, log_weight, log_beyond = self._scores(u, cubic)
        found = self.sizes(s)[:, 0] * np.exp(log_weight + log_beyond)
        with np.errstate(over="ignore"):
            return float(np.mean(np.where(np.isfinite(found), found, 0.0) ** 2))


def stretched(g: np.ndarray, cubic: float) -> tuple[np.ndarray, np.ndarray]:
    """`g + cubic g^3` of normals `g`, and the logarithm of the weight that makes normals of it."""
    if not cubic:
        return g, np.zeros_like(g)
    s = g + cubic * g**3
    return s, np.log1p(3.0 * cubic * g**2) - 0.5 * (s**2 - g**2)


def in_tails(v: np.ndarray, exponents: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normal scores drawn with a `share` of the density `a t^(a - 1)` of the probability `t` of each heavy tail, from uniform numbers
    `v (P,)`; the logarithms of the weights and of the probability of the tail that begins there."""
    share_of = np.where(exponents > 0, share, 0.0)
    power = np.clip(1.0 - exponents, STEEPEST, FLATTEST)
    middle = 1.0 - share_of.sum()
    upper = v > _below(np.log(0.5), middle, share_of, power)[0]
    x, log_weight = np.empty_like(v), np.empty_like(v)
    for side, of in enumerate((~upper, upper)):
        order = [side, 1 - side]
        p, a = share_of[order], power[order]
        x[of] = _solve(np.log(np.where(upper, 1.0 - v, v)[of]), middle, p, a)
        log_weight[of] = -_below(x[of], middle, p, a)[1]
    return np.where(upper, -1.0, 1.0) * special.ndtri_exp(x), log_weight, x


def _below(x: np.ndarray | float, middle: float, p: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is drawn below the probability `t = exp(x)` of the first tail, and the logarithm of its density there."""
    x, rest = np.asarray(x), np.log1p(-np.exp(x))
    below = middle * np.exp(x) + p[0] * np.exp(a[0] * x) - p[1] * np.expm1(a[1] * rest)
    with np.errstate(divide="ignore"):
        parts = np.log(middle), np.log(p[0] * a[0]) + (a[0] - 1.0) * x, np.log(p[1] * a[1]) + (a[1] - 1.0) * rest
    return below, np.logaddexp(np.logaddexp(parts[0], parts[1]), parts[2])


def _solve(log_v: np.ndarray, middle: float, p: np.ndarray, a: np.ndarray) -> np.ndarray:
    """`x` below which `v` is drawn, by Newton's method in logarithms: the function is convex, and the start to the right of its zero."""
    x = np.minimum(log_v, np.log(0.5))
    for _ in range(NEWTON):
        below, log_density = _below(x, middle, p, a)
        x = np.minimum(x - (np.log(below) - log_v) * below * np.exp(-log_density - x), np.log(0.5))
    return x
