"""Curves measured by cross-validation, for data that no theory here describes: few features, clusters, heavy tails.

The samples are cut into folds; on each in turn is measured what was trained on the others. Trainings last as many steps as they
would on all samples, so a fold's epochs are translated by the time they take.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .data import Data
from .linear import Curves
from .train import losses
from .trials import FOLDS, Trials, summary

Array = np.ndarray

MOST_NUMBERS = 6e6  # in all training sets together: of larger data only some folds are trained on,
MOST_ROUNDS = 4  # smaller data are cut anew so many times, since one run of each step is noisy
MOST_ROWS = 20_000
RIDGES = [1e-3, 1e-2, 1e-1]
LARGEST = 2.0  # step, times one over the curvature


@dataclass(frozen=True)
class Fold:
    """A part of the samples to train on, and the rest."""

    loss: str
    X: Array
    y: Array
    held_out: tuple[Array, Array]

    def train_risk(self, w: Array, b: Array) -> Array:
        return self._risk(w, b, self.X, self.y)

    def test_risk(self, w: Array, b: Array) -> Array:
        return self._risk(w, b, *self.held_out)

    def _risk(self, w: Array, b: Array, X: Array, y: Array) -> Array:
        return losses(self.loss, X @ w[:, 0] + b[0], y[:, 0]).mean(0)[None]


class FoldsPredictor:
    """Risks by epoch of steps and ridges, averaged over folds; `predict.Curved`."""

    measured = True
    floor = 0.0

    def __init__(self, loss: str, data: Data, curvature: float, largest: float, seed: int):
        """`largest` is the largest eigenvalue of features of variance one."""
        rng = np.random.default_rng(seed)
        order = rng.permutation(data.n)[:MOST_ROWS]
        X, y = (data.X / np.sqrt(data.feature_variance)).astype(np.float32), data.y
        count = int(np.clip(MOST_NUMBERS / (len(order) * data.d), 1, MOST_ROUNDS * FOLDS))
        stages = []
        for number in range(count):
            if number % FOLDS == 0:
                order = rng.permutation(order)
                if loss == "logistic":  # every fold has its share of both classes
                    order = order[np.argsort(y[order], kind="stable")]
            part = order[number % FOLDS :: FOLDS]
            kept = np.setdiff1d(order, part)[: len(order) - -(-len(order) // FOLDS)]  # as many in every fold
            stages.append(Fold(loss, X[kept], y[kept, None], (X[part], y[part, None])))
        self.ridges: list[float] | None = RIDGES
        self.share = 1.0 - 1.0 / FOLDS
        self.curvature = curvature
        self.trials = Trials(loss, stages, curvature * largest, seed)
        self.notes = [
            "The theory does not describe these data (see the assumptions), so steps were swept and curves measured by training on parts "
            f"of them: {count} times on four fifths of {len(order)} samples, measured on the fifth left."
        ]

    @property
    def largest_step(self) -> float:
        return LARGEST / self.curvature

    @property
    def start_step(self) -> float:
        return self.largest_step

    def ridge_gains(self, ridges: Array, epochs: int) -> Array:
        return np.full(len(ridges), np.inf)

    def risks(self, steps: Array, ridges: Array, epochs: int) -> Array:
        return self._translated(self.trials.run(steps, ridges, self._count(epochs)), epochs)

    def curves(self, step: float, ridge: float, epochs: int, order: str) -> Curves:
        return summary(*(self._translated(risks, epochs) for risks in self.trials.curves(step, ridge, self._count(epochs), order)))

    def _count(self, epochs: int) -> int:
        """A fold's epochs in the time of so many of all samples."""
        return int(np.ceil(epochs / self.share))

    def _translated(self, risks: Array, epochs: int) -> Array:
        place = np.arange(epochs + 1) / self.share
        low = np.minimum(place.astype(int), risks.shape[-1] - 2)
        with np.errstate(invalid="ignore"):
            return risks[..., low] + (place - low) * (risks[..., low + 1] - risks[..., low])
