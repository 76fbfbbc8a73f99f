"""Many trainings side by side on small stages, and what they tell of a sweep over steps and weight decays.

A stage is a training set with a way to measure: data drawn from the estimated problem, whose test risk is an exact Gaussian average
(`drawn`), or a part of the user's own samples with the rest to measure on (`folds`). Time is that of the theory: a step
`eta` is a learning rate `eta * batch / d` for features of variance one, so that any batch serves, and large ones are cheap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np

from .linear import Curves
from .train import INFINITE, descend

Array = np.ndarray

STIFF = 0.25  # rate times the largest curvature of the batches taken
MOST_BATCH = 32
LINGER = 1.5  # a training goes on to so many times the epoch where its risk was as good as least,
SETTLED = 0.002  # to within this,
EXTRA = 3  # and by so many epochs
FOLDS = 5  # of the user's samples


class Stage(Protocol):
    """A training set and its measure."""

    @property
    def X(self) -> Array: ...

    @property
    def y(self) -> Array: ...

    def measure(self, w: Array, b: Array) -> tuple[Array, Array]:
        """Train and test risks `(C,)` of weights `(d, C)` and intercepts `(C,)`."""
        ...


@dataclass(frozen=True)
class Trials:
    """Stages of one problem.

    Attributes:
        loss: "squared" or "logistic".
        stages: alike in size.
        stiffness: curvature of the loss times the largest eigenvalue of the features.
        seed: of the order of samples.
    """

    loss: str
    stages: Sequence[Stage]
    stiffness: float
    seed: int

    def run(self, steps: Array, ridges: Array, epochs: int, order: str = "reshuffle", patient: bool = False) -> tuple[Array, Array]:
        """Train and test risks `(stages, C, epochs + 1)` of `C` pairs of step and ridge.

        Those that are past their best are not run to the end unless `patient`, and are NaN from there on; infinite where they diverge.
        """
        d = self.stages[0].X.shape[1]
        sizes = 2 ** np.floor(np.log2(np.clip(STIFF * d / (steps * self.stiffness), 2, MOST_BATCH))).astype(int)
        train, test = np.full((2, len(self.stages), len(steps), epochs + 1), np.nan)
        for size in np.unique(sizes):
            chosen = np.flatnonzero(sizes == size)
            for epoch, (fit, fresh) in enumerate(self._together(steps[chosen], ridges[chosen], int(size), epochs, order)):
                train[:, chosen, epoch], test[:, chosen, epoch] = fit, fresh
                if not patient and all(_done(row) for row in test[:, chosen, : epoch + 1].mean(0)):
                    break
        return train, test

    def _together(self, steps: Array, ridges: Array, size: int, epochs: int, order: str) -> Iterator[tuple[Array, ...]]:
        """Risks `(stages, C)` after each epoch, all stages in step."""
        X, y = (np.stack([getattr(stage, name) for stage in self.stages]) for name in ("X", "y"))
        rngs = [np.random.default_rng([self.seed, number]) for number in range(len(self.stages))]
        trained = descend(self.loss, X, y, steps * size / X.shape[2], ridges, size, rngs, order)
        for w, b in islice(trained, epochs + 1):
            risks = [stage.measure(*own) for stage, *own in zip(self.stages, w, b, strict=True)]
            yield tuple(_bounded(np.array([risk[which] for risk in risks])) for which in (0, 1))


def summary(train: Array, test: Array) -> Curves:
    """Means and standard errors over stages of the risks of one training, `(stages, 1, T)`, by epoch."""
    train, test = train[:, 0], test[:, 0]
    with np.errstate(invalid="ignore"):
        errors = standard_error(train), standard_error(test)
    return Curves(np.arange(train.shape[-1], dtype=float), train.mean(0), test.mean(0), *errors)


def standard_error(each: Array) -> Array:
    """Of the mean over stages, the first axis; the same samples cut anew into folds tell nothing more."""
    return each.std(0, ddof=1) / min(len(each), FOLDS) ** 0.5 if len(each) > 1 else 0.0 * each[0]


def _bounded(risks: Array) -> Array:
    return np.where(np.isfinite(risks) & (risks < INFINITE), risks, np.inf)


def _done(test: Array) -> bool:
    """Whether a curve has diverged, or has lingered where it was as good as least."""
    if not np.isfinite(test[-1]):
        return True
    first = int(np.argmax(test <= (1.0 + SETTLED) * test.min()))
    return len(test) - 1 >= LINGER * first + EXTRA
