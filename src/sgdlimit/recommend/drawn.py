"""Curves of the estimated problem at the data's own size: SGD on features, teacher and labels drawn from it.

Its mean over draws is what the limit's equations give when `n` and `d` grow, with what is left of `1/d` at this size; the test risk
needs no samples, since predictions on fresh ones are Gaussian. For least squares gradient flow is known exactly, both on a draw and on
average (`linear`), and what a draw's flow is off by is taken out of its training.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from .linear import POINTS, Curves, LinearTwin, growth, spread_out
from .train import losses
from .trials import Trials, summary

if TYPE_CHECKING:
    from .predict import Setting

Array = np.ndarray

MOST = 1000  # samples or features of a draw: beyond, both shrink at their ratio
DRAWS = {"squared": 3, "logistic": 6}
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True)
class Draw:
    """One data set of the problem; `values` are the eigenvalues of its features, its axes."""

    setting: Setting
    X: Array
    y: Array
    values: Array
    teacher: Array

    @classmethod
    def of(cls, setting: Setting, n: int, d: int, rng: np.random.Generator) -> Draw:
        values, energies = spread_out(setting.estimate, d)
        # What was estimated is the energy of the teacher at hand along each eigenvalue, not of others like it: only signs are open.
        teacher = rng.choice([-1.0, 1.0], d) * np.sqrt(energies / energies.sum() / values) * setting.size
        X = rng.standard_normal((n, d), dtype=np.float32) * np.sqrt(values, dtype=np.float32)
        r = X @ teacher
        if setting.loss == "logistic":
            y = np.where(rng.random(n) < expit(r + setting.offset), 1.0, -1.0)
        else:
            y = r + np.sqrt(setting.estimate.noise) * rng.standard_normal(n)
        return cls(setting, X, y, values, teacher)

    def measure(self, w: Array, b: Array) -> tuple[Array, Array]:
        with np.errstate(over="ignore", invalid="ignore"):
            return losses(self.setting.loss, self.X @ w + b, self.y).mean(0), self.test_risk(w.astype(float), b.astype(float))

    def test_risk(self, w: Array, b: Array) -> Array:
        """Mean loss on fresh samples: `r` and `r*` are jointly Gaussian. Labels enter the logistic loss as `log(1 + e^r) - r (y + 1)/2`."""
        size = self.teacher**2 @ self.values
        overlap, norm = (self.values * self.teacher) @ w, self.values @ w**2
        if self.setting.loss == "squared":
            return 0.5 * (norm - 2.0 * overlap + size + self.setting.estimate.noise + b**2)
        positive = expit(np.sqrt(size) * _NODES + self.setting.offset)
        mean, slope = _WEIGHTS @ positive, _WEIGHTS @ (_NODES * positive) / np.sqrt(size)
        log = _WEIGHTS @ np.logaddexp(0.0, b + np.sqrt(norm) * _NODES[:, None])
        return log - b * mean - overlap * slope

    def flow(self, times: Array, ridges: Array) -> tuple[Array, Array]:
        """Risks of gradient flow on this draw without an intercept at times `(C, T)`, least squares."""
        s, rotation, seen = self._axes
        learnt = growth(s + ridges[:, None, None], times[:, :, None]) * seen
        off = learnt @ rotation.T - self.teacher
        test = 0.5 * (off**2 @ self.values + self.setting.estimate.noise)
        train = 0.5 * ((s * learnt**2).sum(-1) - 2.0 * learnt @ seen + self.y @ self.y / len(self.X))
        return train, test

    @cached_property
    def _axes(self) -> tuple[Array, Array, Array]:
        """Eigenvalues and eigenvectors of the features' sample covariance, and their products with the labels along them."""
        X, n = self.X.astype(float), len(self.X)
        s, rotation = np.linalg.eigh(X.T @ X / n)
        return np.maximum(s, 0.0), rotation, rotation.T @ (X.T @ self.y / n)


class DrawnPredictor:
    """Risks by epoch of steps and ridges, averaged over draws; `predict.Curved`."""

    measured = False

    def __init__(self, setting: Setting, proxy: LinearTwin, seed: int):
        self.setting, self.proxy = setting, proxy
        self.notes: list[str] = []
        self.ridges: list[float] | None = None
        shrink = min(1.0, MOST / max(setting.n, setting.d))
        n, d = max(round(shrink * setting.n), 8), max(round(shrink * setting.d), 2)
        rng = np.random.default_rng(seed)
        self.draws = [Draw.of(setting, n, d, rng) for _ in range(DRAWS[setting.loss])]
        self.trials = Trials(setting.loss, self.draws, setting.curvature * setting.estimate.largest, seed)

    @property
    def largest_step(self) -> float:
        """Above which nothing is gained: near the limit of stability; for logistic, at a gradient that is bounded, far above."""
        return 0.9 * self.proxy.stability_limit() / self.setting.curvature

    def risks(self, steps: Array, ridges: Array, epochs: int) -> tuple[Array, Array]:
        return self._corrected(steps, ridges, *self.trials.run(steps, ridges, epochs))

    def curves(self, step: float, ridge: float, epochs: int, order: str) -> Curves:
        if self.setting.loss == "squared" and order == "replacement":
            return self._averaged(step, ridge, epochs)
        steps, ridges = np.array([step]), np.array([ridge])
        return summary(*self._corrected(steps, ridges, *self.trials.run(steps, ridges, epochs, order, patient=True)))

    def _corrected(self, steps: Array, ridges: Array, train: Array, test: Array) -> tuple[Array, Array]:
        """With a draw's own gradient flow of least squares replaced by the mean flow."""
        if self.setting.loss == "squared":
            times = steps[:, None] * self.setting.sample_ratio * np.arange(train.shape[-1])
            mean = self.proxy.flows(times, ridges)
            own = np.array([draw.flow(times, ridges) for draw in self.draws]).swapaxes(0, 1)
            train, test = train * mean[0] / own[0], test * mean[1] / own[1]
        return train, test

    def _averaged(self, step: float, ridge: float, epochs: int) -> Curves:
        """Least squares under sampling with replacement, exactly."""
        axis, dense = np.arange(epochs + 1.0), np.concatenate([[0.0], np.geomspace(1e-3 * epochs, epochs, POINTS)])
        times = dense * step * self.setting.sample_ratio
        found = self.proxy.sgd(step, ridge, times, self.proxy.flow(times, ridge))
        train, test = (np.interp(axis, dense, risks) for risks in (found.train, found.test))
        return Curves(axis, train, test, 0.0 * train, 0.0 * test)
