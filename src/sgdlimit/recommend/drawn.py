"""Curves of the estimated problem at the data's own size: SGD on features, teacher and labels drawn from it.

Its mean over draws is what the limit's equations give when `n` and `d` grow, with what is left of `1/d` at this size; the test risk
needs no samples, since predictions on fresh ones are Gaussian. One draw of features serves several of teacher and labels: sums over
features fluctuate by `1/d`, over labels by its root. For least squares gradient flow is known exactly, both on a draw and on average
(`linear`), and what a draw's flow is off by is taken out of its training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, roots_hermitenorm

from .linear import POINTS, Curves, LinearTwin, growth
from .train import losses
from .trials import Trials, summary

if TYPE_CHECKING:
    from .setting import Setting

Array = np.ndarray

DRAWS = {"squared": 3, "logistic": 4}  # of teacher and labels
TIMES, FIRST, LAST = 80, 1e-2, 1e4  # of flow: number, the first over that of the largest eigenvalue, the last
NOTHING = 1e-12  # of the largest risk
_NODES, _WEIGHTS = roots_hermitenorm(80)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True)
class Draw:
    """Data sets `X (n, d)`, `y (n, L)` of the problem, with the features of `twin` and teachers `(d, L)`; a `trials.Stage`."""

    setting: Setting
    twin: LinearTwin
    y: Array
    teacher: Array

    @classmethod
    def of(cls, setting: Setting, twin: LinearTwin, count: int, rng: np.random.Generator) -> Draw:
        # What was estimated is the energy of the teacher at hand along each eigenvalue, not of others like it: only signs are open.
        scale = np.sqrt(twin.energies / twin.energies.sum() / twin.values) * setting.size
        teacher = rng.choice([-1.0, 1.0], (twin.d, count)) * scale[:, None]
        r = twin.X @ teacher
        if setting.loss == "logistic":
            y = np.where(rng.random(r.shape) < expit(r + setting.offset), 1.0, -1.0)
        else:
            y = r + np.sqrt(setting.estimate.noise) * rng.standard_normal(r.shape)
        return cls(setting, twin, y, teacher)

    @property
    def X(self) -> Array:
        return self.twin.X

    def train_risk(self, w: Array, b: Array) -> Array:
        r = (self.X @ w.reshape(len(w), -1)).reshape(len(self.X), *b.shape) + b
        return np.stack([losses(self.setting.loss, r[:, i], self.y[:, i]).mean(0) for i in range(len(b))])

    def test_risk(self, w: Array, b: Array) -> Array:
        """Mean loss on fresh samples: `r` and `r*` are jointly Gaussian. Labels enter the logistic loss as `log(1 + e^r) - r (y + 1)/2`."""
        values, w, b = self.twin.values, w.astype(float), b.astype(float)
        size = self.setting.size**2
        overlap = np.einsum("dl,dlc->lc", values[:, None] * self.teacher, w)
        norm = np.einsum("d,dlc->lc", values, w**2)
        if self.setting.loss == "squared":
            return 0.5 * (norm - 2.0 * overlap + size + self.setting.estimate.noise + b**2)
        positive = expit(np.sqrt(size) * _NODES + self.setting.offset)
        mean, slope = _WEIGHTS @ positive, _WEIGHTS @ (_NODES * positive) / np.sqrt(size)
        log = np.logaddexp(0.0, b[..., None] + np.sqrt(norm)[..., None] * _NODES) @ _WEIGHTS
        return log - b * mean - overlap * slope

    def flow(self, times: Array, ridge: float) -> tuple[Array, Array]:
        """Risks `(L, T)` of gradient flow on these data without an intercept, train and test, least squares."""
        twin, n = self.twin, len(self.X)
        seen = twin.rotation.T @ (self.X.T @ self.y / n)
        gain = growth(twin.s + ridge, times[:, None])
        train, test = np.empty((2, self.y.shape[1], len(times)))
        for i, (own, y) in enumerate(zip(seen.T, self.y.T, strict=True)):
            learnt = gain * own
            off = learnt @ twin.rotation.T - self.teacher[:, i]
            test[i] = 0.5 * (off**2 @ twin.values + self.setting.estimate.noise)
            train[i] = 0.5 * (learnt**2 @ twin.s - 2.0 * learnt @ own + y @ y / n)
        return train, test


class DrawnPredictor:
    """Risks by epoch of steps and ridges, averaged over draws; `predict.Curved`."""

    measured = False
    more = 2

    def __init__(self, setting: Setting, proxy: LinearTwin, seed: int):
        self.setting, self.proxy = setting, proxy
        self.notes: list[str] = []
        self.ridges: list[float] | None = None
        self.draw = Draw.of(setting, proxy, DRAWS[setting.loss], np.random.default_rng([seed, 1]))
        self.times = np.append(0.0, np.geomspace(FIRST / proxy.s.max(), LAST, TIMES))
        self.floor = 0.5 * float(proxy.flow(self.times, 0.0)[1].min()) if setting.loss == "squared" else 0.0
        self._ratios: dict[float, list[Array]] = {}
        self.trials = Trials(setting.loss, [self.draw], setting.curvature * setting.estimate.largest, seed)

    @property
    def largest_step(self) -> float:
        """Above which nothing is gained: least squares without noise in the labels converges fastest at half the limit of stability."""
        return 0.5 * self.proxy.stability_limit() / self.setting.curvature

    @property
    def start_step(self) -> float:
        return 0.5 * self.largest_step

    @property
    def certain_step(self) -> float:
        return self.start_step

    def batch_size(self, step: float) -> None:
        """The theory is of small batches, whichever."""

    def trains(self, step: float, ridge: float, epochs: int) -> bool:
        """Below the limit of stability, which the steps are."""
        return True

    def ridge_gains(self, ridges: Array, epochs: int) -> Array:
        """By gradient flow of least squares, which small steps follow."""
        if self.setting.loss == "logistic":
            return np.full(len(ridges), np.inf)
        times = self.times[self.times <= self.largest_step * self.setting.sample_ratio * epochs]
        return 1.0 - np.array([0.5 * self.proxy.flow(times, ridge)[1].min() for ridge in ridges]) / self.floor

    def risks(self, steps: Array, ridges: Array, epochs: int) -> Array:
        test = self.trials.run(steps, ridges, epochs)
        if self.setting.loss == "logistic":
            return test
        reached = np.flatnonzero(np.isfinite(test).any(axis=(0, 1)))[-1] + 1
        times = steps[:, None] * self.setting.sample_ratio * np.arange(reached)
        for ridge in np.unique(ridges):
            chosen = ridges == ridge
            test[:, chosen, :reached] *= self._correction(times[chosen], ridge)[1]
        return test

    def curves(self, step: float, ridge: float, epochs: int, order: str) -> Curves:
        if self.setting.loss == "squared" and order == "replacement":
            return self._averaged(step, ridge, epochs)
        train, test = self.trials.curves(step, ridge, epochs, order)
        if self.setting.loss == "squared":
            factors = self._correction(step * self.setting.sample_ratio * np.arange(epochs + 1.0), ridge)
            train, test = train * factors[0], test * factors[1]
        return summary(train, test)

    def _correction(self, times: Array, ridge: float) -> tuple[Array, Array]:
        """Train and test risks `(L, *times.shape)` of the mean gradient flow over those of the draw's own, least squares."""
        if ridge not in self._ratios:
            mean, own = self.proxy.flow(self.times, ridge), self.draw.flow(self.times, ridge)
            self._ratios[ridge] = [_ratio(0.5 * m, o) for m, o in zip(mean, own, strict=True)]
        train, test = (np.stack([np.interp(times, self.times, one) for one in ratios]) for ratios in self._ratios[ridge])
        return train, test

    def _averaged(self, step: float, ridge: float, epochs: int) -> Curves:
        """Least squares under sampling with replacement, exactly."""
        axis, dense = np.arange(epochs + 1.0), np.concatenate([[0.0], np.geomspace(1e-3 * epochs, epochs, POINTS)])
        times = dense * step * self.setting.sample_ratio
        found = self.proxy.sgd(step, ridge, times, self.proxy.flow(times, ridge))
        train, test = (np.interp(axis, dense, risks) for risks in (found.train, found.test))
        return Curves(axis, train, test, 0.0 * train, 0.0 * test)


def _ratio(over: Array, under: Array) -> Array:
    """One where a risk vanishes to rounding: flow fits the labels of fewer samples than features."""
    there = under > NOTHING * under.max()
    return np.where(there, over / np.where(there, under, 1.0), 1.0)
