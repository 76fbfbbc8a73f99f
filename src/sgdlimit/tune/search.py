"""Where the least value lies, roughly: evenly spread solves, then one at a time where the surface through them promises most."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import qmc

from ..errors import SolveError
from .surface import Surface
from .trials import Trial

SCANNED = 5  # places of one number; of several, three times as many as numbers
FAR = 0.75  # quantile of the values that is halfway up
TOP = 0.95  # heights from which on values are not told apart
ENDED = 0.3  # how much higher than all that train to the end what diverges at once is
Attempts = Callable[[Sequence[np.ndarray]], list[Trial]]


class Seen:
    """Solves, at places of the unit cube, of a rough and perhaps a finer plan, and the surface through them.

    The surface has heights between zero, the least value, and one, so that what is about to diverge does not hide the rest. A training
    that diverges is higher than all that do not, and the more so the earlier it does.
    """

    def __init__(self, size: int, seed: int):
        self.places, self.trials, self.fine = np.zeros((0, size)), list[Trial](), np.zeros(0, bool)
        self.rng = np.random.default_rng([seed, 0x5EA7])

    def add(self, places: Sequence[np.ndarray], trials: Sequence[Trial], fine: bool) -> None:
        self.places = np.concatenate([self.places, places])
        self.trials += trials
        self.fine = np.concatenate([self.fine, np.full(len(trials), fine)])
        values = np.array([one.value for one in self.trials if one.good])
        if not len(values):
            words = next((one.words for one in self.trials if one.words), "no value")
            raise SolveError(
                f"`bounds` must have numbers at which training stays bounded, but it diverges at all {len(self.trials)} tried ({words}; "
                "widen them towards smaller steps)"
            )
        self.least = float(values.min())
        self.scale = max(float(np.quantile(values, FAR)) - self.least, 1e-3 * abs(self.least), 1e-12)
        self.surface = Surface(self.places, np.array([self._height(one) for one in self.trials]), self.fine)

    def _height(self, trial: Trial) -> float:
        if not trial.good:
            return 1.0 + ENDED * (1.0 - (trial.ended or 0.0))
        rise = (trial.value - self.least) / self.scale
        return rise / (1.0 + rise)

    def value(self, places: np.ndarray) -> np.ndarray:
        """What the surface says at `places (p, n)`."""
        height = np.minimum(self.surface(places), TOP)
        return self.least + self.scale * height / (1.0 - height)

    @property
    def steepness(self) -> np.ndarray:
        """Of heights in values, at every solve; of what diverges none."""
        heights = np.array([self._height(one) if one.good else 1.0 for one in self.trials])
        return np.maximum(1.0 - heights, 0.0) ** 2 / self.scale


def scattered(size: int, seed: int) -> list[np.ndarray]:
    """Evenly spread places."""
    if size == 1:
        return [np.array([(i + 0.5) / SCANNED]) for i in range(SCANNED)]
    cube = qmc.LatinHypercube(size, optimization="random-cd", rng=np.random.default_rng([seed, 0x7C4E]))
    return list(cube.random(3 * size))


def search(attempts: Attempts, size: int, seed: int, worth: float, most: int) -> Seen:
    """Spread solves, and at most so many more: until the next is expected to lower the value by less than `worth`, a part of it."""
    seen, places = Seen(size, seed), scattered(size, seed)
    seen.add(places, attempts(places), False)
    for _ in range(most):
        place, gain = seen.surface.promising(seen.rng)
        if gain * seen.scale < worth * abs(seen.least):
            break
        seen.add([place], attempts([place]), False)
    return seen
