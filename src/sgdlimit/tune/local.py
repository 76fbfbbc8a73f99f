"""Around the best place: a handful of solves on the final plan, and from them the place, its error, and how flat it is.

Each replicate has values of its own at the same places, so its slope at the common optimum tells how far its own optimum would be: the
spread over replicates is the sampling error of the place, the coarser resolution's slope that of discretisation, and what slope the
surface may have there, for all that its solves say, that of its shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..spread import spread
from .search import Attempts, Seen
from .trials import GAIN

NEARER = 2  # times that the solves are moved together where training diverges between them
NEAR = 0.75  # spacings from the next solve, where the surface is taken to be right without one
CLOSEST, WIDEST = 0.02, 0.12  # spacings, of the cube
FAR = 2.5  # spacings from the next solve, where the surface is not taken to be right
DOUBT = 2.0  # times what the surface says of its own shape: its lengths are told by few solves
ENOUGH = 0.5  # times the rest of a place's error, that of the surface's shape
CANDIDATES = 256
AT_END = 1e-3  # of the cube, where a number is held by its bounds


@dataclass(frozen=True)
class Optimum:
    """In the unit cube.

    Attributes:
        u, se: the place and its standard error `(n,)`.
        at_bound: the numbers that the bounds hold, `(n,)`.
        unsure: numbers in which no minimum is seen, `(n,)`.
        seen: all solves and the surface through them.
    """

    u: np.ndarray
    se: np.ndarray
    at_bound: np.ndarray
    unsure: np.ndarray
    seen: Seen

    def along(self, i: int, reach: float, count: int = 41) -> tuple[np.ndarray, np.ndarray]:
        """Places of number `i` around the best, the others at theirs, and the values there."""
        x = np.linspace(max(self.u[i] - reach, 0.0), min(self.u[i] + reach, 1.0), count)
        return x, self.seen.value(np.where(np.arange(len(self.u)) == i, x[:, None], self.u))

    def flat(self, i: int, rise: float) -> tuple[float, float]:
        """How far number `i` may go alone until the value has risen by `rise`."""
        floor, found = float(self.seen.value(self.u[None])[0]), []
        for end in (0.0, 1.0):
            way = np.linspace(self.u[i], end, 1001)
            over = np.flatnonzero(self.seen.value(np.where(np.arange(len(self.u)) == i, way[:, None], self.u)) - floor > rise)
            found.append(float(way[over[0]] if len(over) else end))
        return found[0], found[1]


def optimum(attempts: Attempts, seen: Seen, centre: np.ndarray, spacing: np.ndarray, most: int, same: bool) -> Optimum:
    """The least value, by solves `spacing (n,)` apart and then where it is expected: at most `most`, or as many as a stencil has.

    Arguments:
        seen: solves of the rough plan; those of the final one are added.
        centre: the best place so far `(n,)`.
        same: whether both plans are the same.
    """
    last = len(seen.trials)
    if not same:
        _around(attempts, seen, centre, spacing)
    while True:
        now = _Place(seen)
        away = (np.abs(seen.places[now.final] - now.best) / spacing).max(1).min()
        told = away <= NEAR and (now.shape <= ENOUGH * now.rest).all() and not now.doubted.any()
        if told or len(seen.trials) - last >= most:
            unsure = ~now.bound & (away > FAR or now.flat)
            if unsure.any():  # no further than what was tried
                values = np.where(now.final, [one.value for one in seen.trials], np.inf)
                return Optimum(seen.places[int(np.argmin(values))], np.full(len(unsure), np.nan), now.bound & False, ~now.bound, seen)
            return Optimum(now.best, np.hypot(now.shape, now.rest), now.bound, unsure, seen)
        if away > NEAR:
            place = now.best
        elif now.doubted.any():  # is it less inside the bound?
            place = now.best + np.where(now.doubted, np.where(now.best < 0.5, spacing, -spacing), 0.0)
        else:
            place = now.telling(spacing)
        seen.add([place], attempts([place]), not same)


def _around(attempts: Attempts, seen: Seen, centre: np.ndarray, spacing: np.ndarray) -> None:
    """The centre, and a solve next to it along each number, towards the middle."""
    side = np.where(centre > 0.5, -1.0, 1.0)
    for _ in range(NEARER + 1):
        places = [centre, *(centre + side * spacing * axis for axis in np.eye(len(centre)))]
        trials = attempts(places)
        seen.add(places, trials, True)
        if all(one.good for one in trials):
            return
        spacing = 0.5 * spacing


class _Place:
    """The least value of the surface: `best (n,)`; which numbers the bounds hold, and of which that is `doubted`; and the errors of its
    place: `shape`, of the surface, and the `rest`, sampling and discretisation."""

    def __init__(self, seen: Seen):
        self.seen, self.surface = seen, seen.surface
        # One plan for all: then values of all change together.
        self.final = (seen.fine if seen.fine.any() else np.ones(len(seen.trials), bool)) & np.array([one.good for one in seen.trials])
        self.best = best = self.surface.least(seen.rng)
        slope = self.surface.slope(best)
        self.bound = ((best < AT_END) & (slope > 0)) | ((best > 1.0 - AT_END) & (slope < 0))
        unknown = np.sqrt(np.maximum(np.diag(self.surface.slope_spread(best)), 0.0))
        self.doubted = self.bound & (np.abs(slope) < 2.0 * DOUBT * unknown)
        free, size = ~self.bound, len(best)
        self.reach, self.shape, self.rest, self.flat = np.zeros((size, size)), np.zeros(size), np.zeros(size), False
        if free.any():
            values, vectors = np.linalg.eigh(self.surface.bend(best)[np.ix_(free, free)])
            self.flat = bool((values <= 0).any())
            self.reach[np.ix_(free, free)] = (vectors / np.maximum(values, 1e-6 * float(np.abs(values).max()))) @ vectors.T
            moved = self.reach @ self.surface.slope_spread(best) @ self.reach
            self.shape, self.rest = DOUBT * np.sqrt(np.maximum(np.diag(moved), 0.0)), self._rest()

    def _rest(self) -> np.ndarray:
        trials = [one for one, use in zip(self.seen.trials, self.final, strict=True) if use]
        values = np.array([one.value for one in trials])
        if min(len(one.each) for one in trials) > 1:
            sampling = spread(self._moved(np.array([one.each for one in trials]).T - values))
        else:  # independent errors: more than there are
            sampling = np.sqrt((self._moved(np.diag([one.se for one in trials])) ** 2).sum(0))
        coarser = np.array([(one.value - one.coarser) / GAIN for one in trials])
        discretisation = np.abs(self._moved(np.array([coarser, [one.discretisation for one in trials]]))).max(0)
        return np.hypot(sampling, discretisation)

    def _moved(self, changes: np.ndarray) -> np.ndarray:
        """How far the place moves with values that change by `(..., solves of the final plan)`."""
        heights = np.zeros((*changes.shape[:-1], len(self.final)))
        heights[..., self.final] = changes * self.seen.steepness[self.final]
        return self.surface.slope_of(self.best, heights) @ self.reach

    def telling(self, spacing: np.ndarray) -> np.ndarray:
        """A place of which a solve tells the most of where the best one is."""
        cloud = 2.0 * spacing * self.seen.rng.uniform(-1.0, 1.0, (CANDIDATES, len(spacing)))
        places = np.clip(self.best + cloud, 0.0, 1.0)
        lessened = self.surface.told(self.best, places) @ self.reach
        return places[int(np.argmax((lessened / np.maximum(self.rest, 1e-6)) ** 2 @ np.ones(len(spacing))))]


def spacing_from(seen: Seen, centre: np.ndarray, rise: float) -> np.ndarray:
    """How far apart solves should be for their differences to stand out: where the surface rises by about `rise` along each number."""
    found = np.full(len(centre), WIDEST)
    for i in range(len(centre)):
        for h in np.geomspace(CLOSEST, WIDEST, 13):
            low, middle, high = seen.value(np.clip(centre + np.outer([-h, 0.0, h], np.eye(len(centre))[i]), 0.0, 1.0))
            if max(low, high) - middle > rise:
                found[i] = h
                break
    return found
