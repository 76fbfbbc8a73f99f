"""From a good place to a better one, for many numbers, as a schedule has: SciPy's COBYQA, on common random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import optimize

from ..errors import SolveError
from .trials import Trial

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
