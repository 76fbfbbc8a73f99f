"""Curves measured by cross-validation, for data that no theory here describes: few features, clusters, heavy tails.

The samples are cut into folds; on each in turn is measured what was trained on the others, which alone make means and deviations of
columns. Trainings last as many steps as they would on all samples, so a fold's epochs are translated by the time they take.

Steps are compared with every left-out sample counted as generalised cross-validation does (`leverage`), since one sample that stands
alone would decide the comparison otherwise; the curves that are shown count all alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .data import Data
from .leverage import leverage, weights
from .linear import Curves
from .scaling import Scaling
from .train import losses, trains
from .trials import Trials, summary

Array = np.ndarray

MANY, FEW = 10, 5  # folds: more of small data, whose curves depend on how many are left out
SMALL = 6e5  # numbers in the data, above which there are few folds,
MOST_NUMBERS = 6e6  # in all training sets together: of larger data only some folds are trained on,
CUT_AGAIN = 4e5  # up to as many numbers smaller data are cut anew, since one run of each step is noisy,
MOST_ROUNDS = 4  # so many times
MOST_ROWS = 20_000
PRECISE = 1e6  # numbers in all training sets, up to which they are double: labels may be known to the last digit
PATIENCE, LINGER = 8_000, 3.0  # steps that a training goes on past its best, and to how many times its epoch: curves are noisy, and
# those of a large step first rise
RIDGES = [1e-3, 1e-2, 1e-1]
USUAL, LARGEST = 2.0, 16.0  # step, times one over the curvature: where rows of the usual length diverge, and what is tried at most


@dataclass(frozen=True)
class Fold:
    """A part of the samples to train on, and the rest, `(X, y)`, with the weights `(m,)` of their losses."""

    loss: str
    X: Array
    y: Array
    held_out: tuple[Array, Array]
    weights: Array

    def train_risk(self, w: Array, b: Array) -> Array:
        return self._losses(w, b, self.X, self.y).mean(0)[None]

    def test_risk(self, w: Array, b: Array) -> Array:
        return (self.weights @ self._losses(w, b, *self.held_out) / len(self.weights))[None]

    def _losses(self, w: Array, b: Array, X: Array, y: Array) -> Array:
        return losses(self.loss, X @ w[:, 0] + b[0], y[:, 0])


class FoldsPredictor:
    """Risks by epoch of steps and ridges, averaged over folds; `predict.Curved`."""

    measured = True
    floor = 0.0
    more = 4

    def __init__(self, loss: str, data: Data, curvature: float, largest: float, seed: int):
        """`largest` is the largest eigenvalue of features of variance one."""
        rng = np.random.default_rng(seed)
        rows = np.sort(rng.permutation(data.n)[:MOST_ROWS])
        X, y = data.X[rows] / np.sqrt(data.feature_variance), data.y[rows]
        count, folds = how_many(X.size)
        counted = weights(leverage(X))
        self.loss, self.curvature, self.seed = loss, curvature, seed
        self.X, self.y = X, y
        self.share = 1.0 - 1.0 / folds
        size = len(rows) - -(-len(rows) // folds)  # as many in every fold
        parts = _parts(y, loss == "logistic", folds, count, rng)
        stages = [_fold(loss, X, y, out, size, data.standardised, counted) for out in parts]
        if X.size * count > PRECISE:
            stages = [_single(stage) for stage in stages]
        self.trials = Trials(loss, stages, curvature * largest, seed, PATIENCE, LINGER, 1)  # to choose with,
        alike = [replace(stage, weights=np.ones_like(stage.weights)) for stage in stages]
        self.shown = Trials(loss, alike, curvature * largest, seed, PATIENCE, LINGER, 1)  # and to tell what to expect
        self.ridges: list[float] | None = RIDGES
        self.notes = [
            "The theory does not describe these data well (see the assumptions), so steps were swept and curves measured by training on "
            f"parts of them: {count} times on {folds - 1} of {folds} parts of {len(rows)} samples, measured on the part left; steps were "
            "compared with every sample left out counted by (1 - leverage)^2."
        ]

    @property
    def largest_step(self) -> float:
        return LARGEST / self.curvature

    @property
    def start_step(self) -> float:
        return USUAL / self.curvature

    @property
    def certain_step(self) -> float:
        """Up to which every single sample's step shortens the way to its own minimum, also the longest's."""
        longest = float(np.square(self.X).sum(1).max()) + 1.0
        return min(2.0 * self.X.shape[1] / (self.curvature * longest), self.start_step)

    def ridge_gains(self, ridges: Array, epochs: int) -> Array:
        return np.full(len(ridges), np.inf)

    def risks(self, steps: Array, ridges: Array, epochs: int) -> Array:
        return self._translated(self.trials.run(steps, ridges, self._count(epochs)), epochs)

    def curves(self, step: float, ridge: float, epochs: int, order: str) -> Curves:
        return summary(*(self._translated(risks, epochs) for risks in self.shown.curves(step, ridge, self._count(epochs), order)))

    def batch_size(self, step: float) -> int:
        """That of the trials: what is advised is what was tried."""
        return self.trials.size(step)

    def trains(self, step: float, ridge: float, epochs: int) -> bool:
        """Whether the training on all samples trains, too."""
        return trains(
            self.loss, self.X, self.y, step * self.batch_size(step) / self.X.shape[1], self.batch_size(step), ridge, epochs, self.seed
        )

    def _count(self, epochs: int) -> int:
        """A fold's epochs in the time of so many of all samples."""
        return int(np.ceil(epochs / self.share))

    def _translated(self, risks: Array, epochs: int) -> Array:
        place = np.arange(epochs + 1) / self.share
        low = np.minimum(place.astype(int), risks.shape[-1] - 2)
        part = place - low
        with np.errstate(invalid="ignore"):
            found = (1.0 - part) * risks[..., low] + np.where(part > 0, part * risks[..., low + 1], 0.0)
        return found


def how_many(numbers: int) -> tuple[int, int]:
    """Training sets for data of so many numbers, and folds."""
    folds = MANY if numbers <= SMALL else FEW
    if folds * numbers > MOST_NUMBERS:
        return max(int(MOST_NUMBERS / numbers), 2), folds
    return folds * int(np.clip(CUT_AGAIN / folds / numbers, 1, MOST_ROUNDS)), folds


def _parts(y: Array, classes: bool, folds: int, count: int, rng: np.random.Generator) -> list[Array]:
    """Samples left out in turn; every fold has its share of both classes."""
    order, parts = np.arange(len(y)), []
    for number in range(count):
        if number % folds == 0:
            order = rng.permutation(order)
            if classes:
                order = order[np.argsort(y[order], kind="stable")]
        parts.append(order[number % folds :: folds])
    return parts


def _fold(loss: str, X: Array, y: Array, out: Array, size: int, standardise: bool, counted: Array) -> Fold:
    """Trained on `size` samples that are not `out`."""
    kept = np.setdiff1d(np.arange(len(y)), out)[:size]
    scaled = Scaling.of(X[kept], standardise, X.std(0))
    return Fold(loss, scaled(X[kept]), y[kept, None], (scaled(X[out]), y[out, None]), counted[out])


def _single(fold: Fold) -> Fold:
    single = lambda values: values.astype(np.float32)
    return replace(fold, X=single(fold.X), held_out=(single(fold.held_out[0]), fold.held_out[1]))
