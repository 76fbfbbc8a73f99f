"""Curves from training on drawn data, where the theory would need too many nodes: long training over a wide spectrum.

Features, teacher and labels are drawn from the estimated problem at the data's own size, and SGD is run on them at several steps. It is
what the theory is the limit of, with the fluctuations of one draw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from . import train
from .linear import MOST, Curves, spread_out

if TYPE_CHECKING:
    from .predict import Report, Setting

Array = np.ndarray

FACTORS = np.geomspace(0.03, 3.0, 7)  # steps, times one over the curvature
FRESH = 4000
STIFF = 0.25  # rate times the largest curvature of the batches taken
MOST_BATCH = 32
EVERY = {"reshuffle": 1, "replacement": 3}  # of the steps, which are run


class DrawnPredictor:
    """Risks between the steps that were run, by interpolation in the logarithm of the step; interface of `predict.Predictor`."""

    def __init__(self, setting: Setting, ridge: float, most_epochs: int, seed: int, report: Report, notes: list[str]):
        self.setting, self.ridge, self.notes = setting, ridge, notes
        self.relative = 1.0 / setting.curvature
        shrink = min(1.0, MOST / max(setting.n, setting.d))
        self.n, self.d = max(round(shrink * setting.n), 8), max(round(shrink * setting.d), 2)
        data, fresh = self._draw(np.random.default_rng(seed))
        self.steps = FACTORS * self.relative
        self.largest_step = float(self.steps[-1])
        self.times = np.concatenate([[0.0], np.geomspace(1e-3, 1.0, 160)]) * most_epochs * self.largest_step * setting.sample_ratio
        self.curves = {}
        for order in ("reshuffle", "replacement"):
            rows = []
            for i, step in enumerate(self.steps[:: EVERY[order]]):
                report(
                    0.5 * (order == "replacement") + 0.5 * i * EVERY[order] / len(self.steps),
                    f"training on drawn data at step {step:.3g}, {order}",
                )
                rows.append(self._run(float(step), data, fresh, most_epochs, order, seed))
            self.curves[order] = np.array(rows)  # (steps, train and test, times)
        self.best_time = float(self.times[np.argmin(self.reshuffle(float(self.steps[0])).test)])

    def _draw(self, rng: np.random.Generator) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        values, energies = spread_out(self.setting.estimate, self.d)
        z = rng.standard_normal((self.n + FRESH, self.d))
        if self.setting.clusters:
            X, y = self._clusters(z, values, energies, rng)
        else:
            teacher = rng.standard_normal(self.d) * np.sqrt(energies / energies.sum()) * self.setting.size
            r, X = z @ teacher, z * np.sqrt(values)
            y = np.where(rng.random(len(r)) < expit(r + self.setting.offset), 1.0, -1.0)
        return (X[: self.n], y[: self.n]), (X[self.n :], y[self.n :])

    def _clusters(self, z: Array, values: Array, energies: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Two Gaussian clouds whose mixture has the covariance and the linear share that were estimated: the setting of linear
        discriminant analysis. In units of the covariance the means lie along one direction, in which clouds are thinner."""
        share = min(self.setting.estimate.linear_share, 0.99)
        y = np.where(rng.random(len(z)) < self.setting.positive, 1.0, -1.0)
        code = y - y.mean()
        along = np.sqrt(energies / energies.sum()) * rng.choice([-1.0, 1.0], self.d)
        z += np.outer(np.sqrt(share) * code / code.std() - (1.0 - np.sqrt(1.0 - share)) * (z @ along), along)
        return z * np.sqrt(values), y

    def _run(self, step: float, data, fresh, epochs: int, order: str, seed: int) -> Array:
        """Train and test risk on the common times; a step's curve is held at its last epoch beyond it."""
        batch = int(np.clip(STIFF * self.d / (step * self.setting.curvature * self.setting.estimate.largest), 2, MOST_BATCH))
        done = train.train(self.setting.loss, data, fresh, step * batch / self.d, batch, self.ridge, epochs, [seed], order=order)
        ends = np.arange(epochs + 1) * step * self.setting.sample_ratio
        return np.array([np.interp(self.times, ends, risks[0]) for risks in (done.train, done.test)])

    def _at(self, order: str, step: float) -> Curves:
        steps = self.steps[:: EVERY[order]]
        place = np.interp(np.log(step), np.log(steps), np.arange(len(steps)))
        low = min(int(place), len(steps) - 2)
        part = place - low
        with np.errstate(invalid="ignore"):
            train_, test = (1.0 - part) * self.curves[order][low] + part * self.curves[order][low + 1]
        noise = 1.0 / np.sqrt(FRESH)
        return Curves(self.times, train_, test, 0.0 * train_, noise * test)

    def reshuffle(self, step: float) -> Curves:
        return self._at("reshuffle", step)

    def replacement(self, step: float) -> Curves:
        return self._at("replacement", step)
