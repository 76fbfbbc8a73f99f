"""Around the best place: a polynomial through a handful of solves on the final plan, and from it the place, its error, and how flat it is.

Each replicate has values of its own at the same places, so its gradient at the common optimum tells how far its own optimum would be:
the spread over replicates is the sampling error of the place, and the coarser resolution's gradient that of discretisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import optimize

from ..spread import spread
from .trials import GAIN, Trial

REACH = 2.5  # spacings around the centre in which the polynomial is taken to be right
SHAPE = 0.25  # error of the vertex, of its change when cubic and quartic terms are left out
RECENTRED = 2
Try = Callable[[np.ndarray], Trial]


@dataclass(frozen=True)
class Optimum:
    """In the unit cube.

    Attributes:
        u, se: the place and its standard error `(n,)`.
        value: what the polynomial says there.
        at_bound: the numbers that the bounds hold, `(n,)`.
        unsure: numbers in which no minimum is seen, `(n,)`.
    """

    u: np.ndarray
    se: np.ndarray
    value: float
    at_bound: np.ndarray
    unsure: np.ndarray
    heights: Heights | None = None

    def flat(self, rise: float) -> list[tuple[float, float]]:
        """How far each number may go alone until the value has risen by `rise`."""
        if self.heights is None:
            return [(float(u), float(u)) for u in self.u]
        return [self.heights.within(i, rise) for i in range(len(self.u))]


class Polynomial:
    """`1, x_i, x_i x_j`, and of each number alone also `x_i^3, x_i^4`: as many as `stencil` has places."""

    def __init__(self, size: int):
        self.size, self.pairs = size, list(combinations(range(size), 2))

    def rows(self, x: np.ndarray) -> np.ndarray:
        x = np.atleast_2d(x)
        mixed = [x[:, [i]] * x[:, [j]] for i, j in self.pairs]
        return np.concatenate([np.ones((len(x), 1)), x, x**2, *mixed, x**3, x**4], 1)

    @property
    def curved(self) -> np.ndarray:
        """Which terms are of second order at most, the first ones."""
        return np.arange(1 + 4 * self.size + len(self.pairs)) < 1 + 2 * self.size + len(self.pairs)

    def gradient(self, terms: np.ndarray, x: np.ndarray) -> np.ndarray:
        n, p = self.size, len(self.pairs)
        steep = terms[1 : 1 + n] + 2 * terms[1 + n : 1 + 2 * n] * x
        steep = steep + 3 * terms[1 + 2 * n + p : 1 + 3 * n + p] * x**2 + 4 * terms[1 + 3 * n + p :] * x**3
        for term, (i, j) in zip(terms[1 + 2 * n : 1 + 2 * n + p], self.pairs, strict=True):
            steep[i] += term * x[j]
            steep[j] += term * x[i]
        return steep

    def bend(self, terms: np.ndarray, x: np.ndarray) -> np.ndarray:
        n, p = self.size, len(self.pairs)
        found = np.diag(2 * terms[1 + n : 1 + 2 * n] + 6 * terms[1 + 2 * n + p : 1 + 3 * n + p] * x + 12 * terms[1 + 3 * n + p :] * x**2)
        for term, (i, j) in zip(terms[1 + 2 * n : 1 + 2 * n + p], self.pairs, strict=True):
            found[i, j] = found[j, i] = term
        return found

    def least(self, terms: np.ndarray, start: np.ndarray, box: list[tuple[float, float]]) -> np.ndarray:
        scale = max(float(np.abs(terms[1:]).max()), 1e-300)
        height = lambda x: float(self.rows(x)[0] @ terms) / scale
        slope = lambda x: self.gradient(terms, x) / scale
        return optimize.minimize(height, start, jac=slope, method="L-BFGS-B", bounds=box, options={"gtol": 1e-9, "ftol": 1e-14}).x


@dataclass(frozen=True)
class Heights:
    """The polynomial `terms` around its least value `best` within `box`, in spacings from the centre."""

    polynomial: Polynomial
    terms: np.ndarray
    best: np.ndarray
    box: list[tuple[float, float]]
    centre: np.ndarray
    spacing: np.ndarray

    def along(self, i: int, count: int = 41) -> tuple[np.ndarray, np.ndarray]:
        """Places of number `i` in the unit cube, the others at their best, and the values there."""
        x = np.linspace(*self.box[i], count)
        values = self.polynomial.rows(np.where(np.arange(len(self.best)) == i, x[:, None], self.best)) @ self.terms
        return np.clip(self.centre[i] + self.spacing[i] * x, 0.0, 1.0), values

    def within(self, i: int, rise: float) -> tuple[float, float]:
        """How far number `i` may go alone in the unit cube until the value has risen by `rise`; beyond the box by its curvature."""
        axis, best = np.eye(len(self.best))[i], self.best
        floor = float(self.polynomial.rows(best)[0] @ self.terms)
        bent = max(float(self.polynomial.bend(self.terms, best)[i, i]), 1e-300)
        found = []
        for sign, end in zip((-1.0, 1.0), self.box[i], strict=True):
            way = np.linspace(0.0, end - best[i], 201)
            over = np.flatnonzero(self.polynomial.rows(best + way[:, None] * axis) @ self.terms - floor > rise)
            far = sign * min(np.sqrt(2.0 * rise / bent), 1.0 / self.spacing[i])
            far = way[over[0]] if len(over) else max(far, way[-1], key=abs)
            found.append(float(np.clip(self.centre[i] + self.spacing[i] * (best[i] + far), 0.0, 1.0)))
        return found[0], found[1]


def stencil(size: int) -> np.ndarray:
    """One and two spacings along each number, and one corner of each pair: `(places, size)`, the centre first."""
    places = [np.zeros(size)]
    for i in range(size):
        places += [s * np.eye(size)[i] for s in (-1.0, 1.0, -2.0, 2.0)]
    places += [np.eye(size)[i] + np.eye(size)[j] for i, j in combinations(range(size), 2)]
    return np.array(places)


def optimum(attempt: Try, centre: np.ndarray, spacing: np.ndarray) -> Optimum:
    """The least value near `centre (n,)` within the cube, by solves `spacing (n,)` apart; moved where it is found at their edge."""
    spacing = np.minimum(spacing, 0.24)
    for moved in range(RECENTRED + 1):
        centre = np.clip(centre, 2 * spacing, 1.0 - 2 * spacing)
        x = stencil(len(centre))
        trials = [attempt(centre + spacing * place) for place in x]
        good = np.array([one.good for one in trials])
        if not good.all():  # diverges next to the optimum: nearer, and away from there
            spacing = 0.5 * spacing
            centre = centre - spacing * np.sign((x[~good]).sum(0)) * (0.5 if moved else 1.0)
            continue
        found = _fit(trials, x, centre, spacing)
        offset = (found.u - centre) / spacing
        beyond = (np.abs(offset) > 2.0) & (found.u > 1e-9) & (found.u < 1.0 - 1e-9)
        if moved == RECENTRED or not beyond.any():
            return found
        centre = centre + spacing * np.round(offset)
    return _place_alone(attempt, centre)


def _place_alone(attempt: Try, centre: np.ndarray) -> Optimum:
    """Where solves next to the best diverge: it alone, with no error of its place."""
    trial, nothing = attempt(centre), np.full(len(centre), np.nan)
    no = np.zeros(len(centre), bool)
    return Optimum(centre, nothing, trial.value, no, ~no)


def _fit(trials: list[Trial], x: np.ndarray, centre: np.ndarray, spacing: np.ndarray) -> Optimum:
    size = len(centre)
    polynomial = Polynomial(size)
    solve = np.linalg.pinv(polynomial.rows(x))
    values = np.array([one.value for one in trials])
    each = np.array([one.each for one in trials]) if min(len(one.each) for one in trials) > 1 else None
    terms = solve @ values
    box = [(max(-REACH, -c / h), min(REACH, (1.0 - c) / h)) for c, h in zip(centre, spacing, strict=True)]
    start = x[int(np.argmin(values))]
    best = polynomial.least(terms, start, box)
    edge = np.array([min(b - low, high - b) < 1e-6 for b, (low, high) in zip(best, box, strict=True)])
    u = centre + spacing * best
    bound = edge & ((u < 1e-6) | (u > 1.0 - 1e-6))
    free = ~edge
    se = np.zeros(size)
    if free.any():
        bend = polynomial.bend(terms, best)[np.ix_(free, free)]
        reach = _inverse(bend)
        steep = lambda parts: np.array([polynomial.gradient(part, best)[free] @ reach for part in parts])
        if each is not None:
            se[free] = spread(steep((solve @ each).T))
        else:  # independent errors: more than there are
            noise = solve * np.array([one.se for one in trials])
            slopes = np.array([polynomial.gradient(column, best)[free] for column in noise.T])
            se[free] = np.sqrt(((slopes @ reach) ** 2).sum(0))
        coarser = solve @ (values - np.array([one.coarser for one in trials])) / GAIN
        errors = solve @ np.array([one.discretisation for one in trials])  # what is told of them where changes cross zero
        se[free] = np.hypot(se[free], np.abs(steep([coarser, errors])).max(0))
        plain = np.where(polynomial.curved, terms, 0.0)
        inner = np.abs(x).max(1) <= 1.0
        plain[polynomial.curved] = np.linalg.pinv(polynomial.rows(x[inner])[:, polynomial.curved]) @ values[inner]
        se[free] = np.hypot(se[free], SHAPE * np.abs(polynomial.least(plain, best, box) - best)[free])
    heights = Heights(polynomial, terms, best, box, centre, spacing)
    return Optimum(u, se * spacing, float(polynomial.rows(best)[0] @ terms), bound, edge & ~bound, heights)


def _inverse(bend: np.ndarray) -> np.ndarray:
    """Of a curvature: what is flat within rounding stays finite."""
    values, vectors = np.linalg.eigh(bend)
    return (vectors / np.maximum(values, 1e-9 * max(float(values.max()), 1e-300))) @ vectors.T


def spacing_from(trials: list[Trial], units: np.ndarray, best: np.ndarray, rise: float) -> np.ndarray:
    """How far apart solves should be for their differences to stand out: where a value rises by about `rise`, told by the rough solves
    nearest to the best place, `units (m, n)`."""
    size = len(best)
    good = np.array([one.good for one in trials])
    values = np.array([one.value for one in trials])[good]
    x = units[good] - best
    usual = np.full(size, 0.06)
    if len(x) < 2 * size + 1:
        return usual
    near = np.argsort(np.abs(x).max(1))[: max(3 * size + 1, 4)]
    rows = np.concatenate([np.ones((len(near), 1)), x[near], 0.5 * x[near] ** 2], 1)
    bent = np.linalg.lstsq(rows, values[near], rcond=None)[0][1 + size :]
    return np.clip(np.where(bent > 0, np.sqrt(2.0 * rise / np.maximum(bent, 1e-300)), usual), 0.02, 0.12)
