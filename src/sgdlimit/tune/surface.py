"""A smooth surface through few values: a Gaussian process on the unit cube, and where a solve promises most.

Random numbers are common to all solves of a plan, so values are smooth in the numbers, and a surface that is as smooth says from a dozen of
them where the least value is. Solves of a finer plan have another surface, which differs by one that is smaller and changes more slowly.

Sources: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, chapters 2, 5 and 9.4; what is expected to be gained: Jones,
Schonlau and Welch, J. Global Optimization 13, 1998; two accuracies: Kennedy and O'Hagan, Biometrika 87, 2000.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import linalg, optimize
from scipy.stats import norm, qmc

# Before any value is seen: middles, and spreads of the logarithms.
LENGTH, LENGTH_SPREAD = 0.6, 0.8  # on which a value changes
RUGGED, RUGGED_SPREAD = 1e-6, 2.0  # of the variance, what is not smooth: numbers of jumps vary where the horizon is fixed
FINER, FINER_SPREAD = 0.01, 2.0  # of the variance, that of the finer plan's difference
TREND = 20.0, 2.0  # times the variance, and length: almost a parabola, so that one sees where it goes on falling
SLOWER = 2.0  # times the length, on which that changes
OFF = 1.0, 30.0  # times the variance, and length, of what is common to all of it
CANDIDATES, CLOSER = 256, (0.15, 0.05, 0.015)


class Surface:
    """Through `heights (m,)` at `places (m, n)`, of which some are `fine (m,)`, of the finer plan, as is all that is asked of it once there
    are such; with one length for each number, the most likely ones."""

    def __init__(self, places: np.ndarray, heights: np.ndarray, fine: np.ndarray | None = None):
        self.places, self.heights = np.atleast_2d(places), np.asarray(heights, dtype=float)
        self.fine = np.zeros(len(self.heights), bool) if fine is None else np.asarray(fine, bool)
        size = self.places.shape[1]
        middle = np.log([*[LENGTH] * size, RUGGED, FINER])
        spread = np.array([*[LENGTH_SPREAD] * size, RUGGED_SPREAD, FINER_SPREAD])
        bounds = [tuple(np.log([0.05, 5.0]))] * size + [tuple(np.log([1e-9, 1e-2])), tuple(np.log([1e-6, 1.0]))]

        def unlikely(x: np.ndarray) -> tuple[float, np.ndarray]:
            try:
                told, slope = self._fit(x), self._unlikelier(x)
            except linalg.LinAlgError:
                return 1e6, np.zeros(len(x))
            away = (x - middle) / spread
            return told + 0.5 * float(away @ away), slope + away / spread

        starts = [middle, middle - np.log([*[3.0] * size, 1.0, 1.0])]
        found = [optimize.minimize(unlikely, x, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60}) for x in starts]
        self._fit(min(found, key=lambda one: one.fun).x)

    def _fit(self, x: np.ndarray) -> float:
        """The surface of these logarithms, and minus that of its likelihood, with the likeliest mean and variance."""
        self.lengths, self.rugged = np.exp(x[:-2]), np.exp(x[-2])
        everywhere = np.ones(len(self.fine))
        self.parts = [(1.0, self.lengths, everywhere), (*TREND, everywhere)]
        if self.fine.any():
            fine = self.fine.astype(float)
            self.parts += [(float(np.exp(x[-1])), SLOWER * self.lengths, fine), (*OFF, fine)]
        self.close = [size * _close(self.places, self.places, lengths) * on * on[:, None] for size, lengths, on in self.parts]
        self.factor = linalg.cho_factor(sum(self.close) + self.rugged * np.eye(len(self.heights)), lower=True)
        ones = linalg.cho_solve(self.factor, everywhere)
        self.mean = float(ones @ self.heights / ones.sum())
        rest = self.heights - self.mean
        self.pull = linalg.cho_solve(self.factor, rest)
        self.variance = max(float(rest @ self.pull) / len(rest), 1e-300)
        return float(0.5 * len(rest) * np.log(self.variance) + np.log(np.diag(self.factor[0])).sum())

    def _unlikelier(self, x: np.ndarray) -> np.ndarray:
        """The slope of what `_fit` returns."""
        weight = 0.5 * (linalg.cho_solve(self.factor, np.eye(len(self.pull))) - np.outer(self.pull, self.pull) / self.variance)
        slope = np.zeros(len(x))
        for i, (_, lengths, _) in enumerate(self.parts):
            if i % 2 == 0:  # of lengths that are looked for
                apart = (self.places[:, None] - self.places[None]) / lengths
                slope[:-2] += np.einsum("ab,abi->i", weight * self.close[i], apart**2)
        slope[-2] = self.rugged * np.trace(weight)
        slope[-1] = (weight * self.close[2]).sum() if len(self.parts) > 2 else 0.0
        return slope

    def _near(self, x: np.ndarray) -> np.ndarray:
        return sum(size * _close(np.atleast_2d(x), self.places, lengths) * on for size, lengths, on in self.parts)  # pyright: ignore

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The expected heights at `x (p, n)`."""
        return self.mean + self._near(x) @ self.pull

    def error(self, x: np.ndarray) -> np.ndarray:
        near = self._near(x)
        known = (near * linalg.cho_solve(self.factor, near.T).T).sum(1)
        return np.sqrt(self.variance * np.maximum(sum(part[0] for part in self.parts) - known, 0.0))

    def _leaning(self, x: np.ndarray) -> np.ndarray:
        """How what is near changes with the place `x (n,)`: `(n, m)`."""
        apart = self.places - x
        near = [(size * on * _close(x[None], self.places, lengths)[0])[:, None] / lengths**2 for size, lengths, on in self.parts]
        return (np.sum([part * apart for part in near], 0)).T

    def slope(self, x: np.ndarray) -> np.ndarray:
        """At one place `x (n,)`."""
        return self._leaning(x) @ self.pull

    def slope_of(self, x: np.ndarray, heights: np.ndarray) -> np.ndarray:
        """Slopes `(..., n)` at one place if to all heights these `(..., m)` were added."""
        return heights @ linalg.cho_solve(self.factor, self._leaning(x).T)

    def slope_spread(self, x: np.ndarray) -> np.ndarray:
        """Covariance `(n, n)` of what the slope at one place may be."""
        leaning = self._leaning(x)
        before = np.diag(sum(size / lengths**2 * np.ones(len(x)) for size, lengths, _ in self.parts))
        return self.variance * (before - leaning @ linalg.cho_solve(self.factor, leaning.T))

    def bend(self, x: np.ndarray) -> np.ndarray:
        """Second derivatives `(n, n)` at one place."""
        found = np.zeros((len(x), len(x)))
        for size, lengths, on in self.parts:
            apart, pull = (self.places - x) / lengths**2, size * on * _close(x[None], self.places, lengths)[0] * self.pull
            found += (apart.T * pull) @ apart - np.eye(len(x)) * pull.sum() / lengths**2
        return found

    def told(self, x: np.ndarray, places: np.ndarray) -> np.ndarray:
        """By how much a solve at each of `places (p, n)` lessens the covariance of the slope at `x (n,)`: its square roots `(p, n)`."""
        near, parts = self._near(places), self.parts
        apart = [(places - x) / lengths**2 * size * _close(x[None], places, lengths)[0][:, None] for size, lengths, _ in parts]
        common = sum(apart) - near @ linalg.cho_solve(self.factor, self._leaning(x).T)  # pyright: ignore
        open_ = self.error(places) ** 2 / self.variance + self.rugged
        return self.variance**0.5 * common / np.sqrt(open_)[:, None]

    def gain(self, x: np.ndarray) -> np.ndarray:
        """By how much a solve at `x (p, n)` is expected to be below the least height that is known."""
        below, error = self.heights.min() - self(x), np.maximum(self.error(x), 1e-300)
        return below * norm.cdf(below / error) + error * norm.pdf(below / error)

    def promising(self, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """Where a solve is expected to gain most, and how much."""
        place = _highest(self.gain, self._around(rng), rng)
        return place, float(self.gain(place[None])[0])

    def least(self, rng: np.random.Generator) -> np.ndarray:
        """Where the surface is lowest."""
        start = _highest(lambda x: -self(x), self._around(rng), rng)
        height = lambda x: float(self(x[None])[0]) / self.variance**0.5
        slope = lambda x: self.slope(x) / self.variance**0.5
        found = optimize.minimize(height, start, jac=slope, method="L-BFGS-B", bounds=[(0.0, 1.0)] * len(start), options={"ftol": 1e-14})
        return found.x if height(found.x) <= height(start) else start

    def _around(self, rng: np.random.Generator) -> np.ndarray:
        size, best = self.places.shape[1], self.places[int(np.argmin(self.heights))]
        everywhere = qmc.Sobol(size, rng=rng).random(CANDIDATES)
        return np.concatenate([everywhere, *[_cloud(best, radius, rng) for radius in CLOSER], best[None]])


def _close(x: np.ndarray, y: np.ndarray, lengths: np.ndarray | float) -> np.ndarray:
    return np.exp(-0.5 * (((x[:, None] - y[None]) / lengths) ** 2).sum(-1))


def _cloud(centre: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    return np.clip(centre + radius * rng.standard_normal((CANDIDATES // 4, len(centre))), 0.0, 1.0)


def _highest(what: Callable[[np.ndarray], np.ndarray], candidates: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The best candidate, by ever smaller clouds around it."""
    best = candidates[int(np.argmax(what(candidates)))]
    for radius in (*CLOSER, 0.005):
        candidates = np.concatenate([best[None], _cloud(best, radius, rng)])
        best = candidates[int(np.argmax(what(candidates)))]
    return best
