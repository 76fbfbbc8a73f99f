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

    def measure(self, w: Array, b: Array) -> tuple[Array, Array]:
        with np.errstate(over="ignore", invalid="ignore"):
            train, test = (losses(self.loss, X @ w + b, y).mean(0) for X, y in ((self.X, self.y), self.held_out))
        return train, test


class FoldsPredictor:
    """Risks by epoch of steps and ridges, averaged over folds; `predict.Curved`."""

    measured = True

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
            stages.append(Fold(loss, X[kept], y[kept], (X[part], y[part])))
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

    def risks(self, steps: Array, ridges: Array, epochs: int) -> tuple[Array, Array]:
        return self._risks(steps, ridges, epochs, "reshuffle", False)

    def curves(self, step: float, ridge: float, epochs: int, order: str) -> Curves:
        train, test = self._risks(np.array([step]), np.array([ridge]), epochs, order, True)
        return summary(train, test)

    def _risks(self, steps: Array, ridges: Array, epochs: int, order: str, patient: bool) -> tuple[Array, Array]:
        count = int(np.ceil(epochs / self.share))
        place = np.arange(epochs + 1) / self.share
        low = np.minimum(place.astype(int), count - 1)
        with np.errstate(invalid="ignore"):
            train, test = (
                risks[..., low] + (place - low) * (risks[..., low + 1] - risks[..., low])
                for risks in self.trials.run(steps, ridges, count, order, patient)
            )
        return train, test
