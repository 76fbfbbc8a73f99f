"""Where the least value lies, roughly: a scan of the unit cube, then SciPy's Brent for one number, COBYQA for several, on one plan.

Random numbers are common, so what they minimise is smooth, and few evaluations do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import optimize
from scipy.stats import qmc

from ..errors import SolveError
from .trials import Trial

SCANNED = 5  # places of one number
FINAL = 0.02  # of the cube, how near the search comes before the finer plan takes over
Try = Callable[[np.ndarray], Trial]


class Height:
    """What the optimiser sees: the value, logarithmic where all are positive, so that what is about to diverge does not hide the rest. A
    training that diverges is worse than all that do not, and the more so the earlier it does."""

    def __init__(self, attempt: Try, seen: Sequence[Trial]):
        good = [one.value for one in seen if one.good]
        if not good:
            words = next((one.words for one in seen if one.words), "no value")
            raise SolveError(
                f"`bounds` must have numbers at which training stays bounded, but it diverges at all {len(seen)} tried ({words}; "
                "widen them towards smaller steps)"
            )
        self.attempt, self.log = attempt, min(good) > 0
        heights = [self._of(value) for value in good]
        self.top, self.spread = max(heights), max(max(heights) - min(heights), 0.1 * abs(max(heights)), 1e-6)

    def _of(self, value: float) -> float:
        return math.log(max(value, 1e-300)) if self.log else value

    def __call__(self, u: np.ndarray) -> float:
        return self.height(self.attempt(np.clip(np.atleast_1d(u), 0.0, 1.0)))

    def height(self, trial: Trial) -> float:
        if not trial.good:
            return self.top + self.spread * (2.0 - (trial.ended or 0.0))
        return min(self._of(trial.value), self.top + self.spread)


def scan(attempt: Try, size: int, seed: int) -> tuple[list[np.ndarray], list[Trial]]:
    """Evenly spread places, and what is found there."""
    if size == 1:
        places = [np.array([(i + 0.5) / SCANNED]) for i in range(SCANNED)]
    else:
        count = 2 ** math.ceil(math.log2(3 * size))
        rng = np.random.default_rng([seed, 0x7C4E])
        places = list(0.05 + 0.9 * qmc.Sobol(size, rng=rng).random(count))
    return places, [attempt(place) for place in places]


def descend(attempt: Try, size: int, seed: int) -> np.ndarray:
    """The best place of the rough plan."""
    places, seen = scan(attempt, size, seed)
    height = Height(attempt, seen)
    best = int(np.argmin([height.height(one) for one in seen]))
    if size == 1:
        return bracketed(height, np.sort(np.concatenate(places)))
    return nearby(height, places[best], 0.15, FINAL * 1.5, 9 * size)


def bracketed(height: Height, places: np.ndarray, most: int = 4) -> np.ndarray:
    """One number, by Brent's method between the neighbours of the best place scanned."""
    places = np.concatenate([[0.0], places, [1.0]])
    heights = np.array([np.inf, *(height(np.array([u])) for u in places[1:-1]), np.inf])
    i = int(np.argmin(heights))
    for end in (0, len(places) - 1):  # an end of the range is looked at where the best is next to it
        if abs(i - end) == 1:
            heights[end] = height(np.array([places[end]]))
    i = int(np.argmin(heights))
    if i in (0, len(places) - 1):
        return np.array([places[i]])
    triple = tuple(float(u) for u in places[i - 1 : i + 2])
    if not heights[i] < min(heights[i - 1], heights[i + 1]):
        return np.array([places[i]])
    options = {"maxiter": most, "xtol": FINAL}
    seen = dict(zip(triple, heights[i - 1 : i + 2], strict=True))
    known = lambda u: seen[u] if u in seen else height(np.array([u]))
    found: Any = optimize.minimize_scalar(known, bracket=triple, method="brent", options=options)
    return np.array([float(np.clip(found.x, 0.0, 1.0))])


def nearby(height: Callable[[np.ndarray], float], start: np.ndarray, radius: float, final: float, most: int) -> np.ndarray:
    """Several numbers, by COBYQA's models of the second order around `start`, within the cube."""
    best = [height(start), start]

    def told(u: np.ndarray) -> float:
        value = height(u)
        if value < best[0]:
            best[:] = value, np.clip(u, 0.0, 1.0)
        return value

    options = {"initial_tr_radius": radius, "final_tr_radius": final, "maxfev": most}
    optimize.minimize(told, start, method="COBYQA", bounds=[(0.0, 1.0)] * len(start), options=options)
    return np.array(best[1], dtype=float)
