"""Where the least value lies, roughly: evenly spread solves, then one at a time where the surface through them promises most."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.spatial.distance import pdist
from scipy.stats import qmc

from ..errors import SolveError
from .surface import Surface
from .trials import Trial

SCANNED = 5  # places of one number; of several, three times as many as numbers
CUBES = 100  # Latin ones, of which the one is taken whose places are furthest apart
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
        self.level = 1.0  # what rough values are multiplied with to be at the height of the finer ones
        self.rng = np.random.default_rng([seed, 0x5EA7])

    def add(self, places: Sequence[np.ndarray], trials: Sequence[Trial], fine: bool) -> None:
        if fine and not self.fine.any() and trials[0].good:
            self.level = trials[0].value / float(self.value(np.array(places[:1]))[0])
        self.places = np.concatenate([self.places, places])
        self.trials += trials
        self.fine = np.concatenate([self.fine, np.full(len(trials), fine)])
        good = np.array([one.good for one in self.trials])
        if not good.any():
            words = next((one.words for one in self.trials if one.words), "no value")
            raise SolveError(
                f"`bounds` must have numbers at which training stays bounded, but it diverges at all {len(self.trials)} tried ({words}; "
                "widen them towards smaller steps)"
            )
        values = np.where(self.fine, 1.0, self.level) * np.array([one.value for one in self.trials])
        self.least = float(values[good].min())
        self.scale = max(float(np.quantile(values[good], FAR)) - self.least, 1e-3 * abs(self.least), 1e-12)
        rise = np.where(good, values - self.least, 0.0) / self.scale
        early = np.array([ENDED * (1.0 - (one.ended or 0.0)) for one in self.trials])
        self.heights = np.where(good, rise / (1.0 + rise), 1.0 + early)
        self.surface = Surface(self.places, self.heights, self.fine)

    def value(self, places: np.ndarray) -> np.ndarray:
        """What the surface says at `places (p, n)`."""
        height = np.minimum(self.surface(places), TOP)
        return self.least + self.scale * height / (1.0 - height)

    @property
    def steepness(self) -> np.ndarray:
        """Of heights in values, at every solve."""
        return np.maximum(1.0 - self.heights, 0.0) ** 2 / self.scale


def scattered(size: int, seed: int) -> list[np.ndarray]:
    """Evenly spread places."""
    if size == 1:
        return [np.array([(i + 0.5) / SCANNED]) for i in range(SCANNED)]
    rng = np.random.default_rng([seed, 0x7C4E])
    cubes = [qmc.LatinHypercube(size, rng=rng).random(3 * size) for _ in range(CUBES)]
    return list(max(cubes, key=lambda cube: pdist(cube).min()))


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
