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

STIFF = 0.5  # rate times the largest curvature of the batches taken
MOST_BATCH = 64
SHARE = 1 / 32  # of the samples, in a batch at most
LINGER = 1.5  # a training goes on to so many times the epoch where its risk was as good as least, or more where curves are noisy,
SETTLED = 0.002  # to within this,
EXTRA = 3  # and by so many epochs
FOLDS = 10  # of the user's samples


class Stage(Protocol):
    """Features `X (n, d)` with `L` sets of labels `y (n, L)`, each a training set, and their measure."""

    @property
    def X(self) -> Array: ...

    @property
    def y(self) -> Array: ...

    def train_risk(self, w: Array, b: Array) -> Array:
        """`(L, C)`, of weights `(d, L, C)` and intercepts `(L, C)`."""
        ...

    def test_risk(self, w: Array, b: Array) -> Array:
        """Likewise, on fresh samples."""
        ...


@dataclass(frozen=True)
class Trials:
    """Stages of one problem.

    Attributes:
        loss: "squared" or "logistic".
        stages: alike in size.
        stiffness: curvature of the loss times the largest eigenvalue of the features.
        seed: of the order of samples.
        patience: steps by which a training goes on past its best,
        linger: and to how many times its epoch.
        smallest: batch.
    """

    loss: str
    stages: Sequence[Stage]
    stiffness: float
    seed: int
    patience: int = 0
    linger: float = LINGER
    smallest: int = 2

    def run(self, steps: Array, ridges: Array, epochs: int) -> Array:
        """Test risks `(sets, C, epochs + 1)` of `C` pairs of step and ridge on all sets of labels.

        Those that are past their best are not run to the end, and are NaN from there on; infinite where they diverge.
        """
        sizes, n = self._sizes(steps), self.stages[0].X.shape[0]
        test = np.full((self._sets, len(steps), epochs + 1), np.nan)
        for size in np.unique(sizes):
            chosen = np.flatnonzero(sizes == size)
            extra = max(EXTRA, self.patience * int(size) // n)
            for epoch, trained in enumerate(self._together(steps[chosen], ridges[chosen], int(size), epochs, "reshuffle")):
                test[:, chosen, epoch] = self._measured("test_risk", *trained)
                if all(_done(row, extra, self.linger) for row in test[:, chosen, : epoch + 1].mean(0)):
                    break
        return test

    def curves(self, step: float, ridge: float, epochs: int, order: str) -> tuple[Array, Array]:
        """Train and test risks `(sets, epochs + 1)` of one step and ridge, to the end."""
        steps = np.array([step])
        trained = self._together(steps, np.array([ridge]), int(self._sizes(steps)[0]), epochs, order)
        rows = [[self._measured(name, *now)[:, 0] for name in ("train_risk", "test_risk")] for now in trained]
        train, test = np.array(rows).transpose(1, 2, 0)
        return train, test

    @property
    def _sets(self) -> int:
        return sum(stage.y.shape[1] for stage in self.stages)

    def _sizes(self, steps: Array) -> Array:
        """Batches that are small at these steps."""
        n, d = self.stages[0].X.shape
        most = np.clip(SHARE * n, self.smallest, MOST_BATCH)
        return 2 ** np.floor(np.log2(np.clip(STIFF * d / (steps * self.stiffness), self.smallest, most))).astype(int)

    def size(self, step: float) -> int:
        """Of the batches at this step."""
        return int(self._sizes(np.array([step]))[0])

    def _together(self, steps: Array, ridges: Array, size: int, epochs: int, order: str) -> Iterator[tuple[Array, Array]]:
        """Weights `(stages, d, L, C)` and intercepts `(stages, L, C)` after each epoch, all in step."""
        X, y = (np.stack([getattr(stage, name) for stage in self.stages]) for name in ("X", "y"))
        rngs = [np.random.default_rng([self.seed, number]) for number in range(len(self.stages))]
        count, labels = len(steps), y.shape[2]
        rates = np.tile(steps * size / X.shape[2], labels)
        trained = descend(self.loss, X, np.repeat(y, count, 2), rates, np.tile(ridges, labels), size, rngs, order)
        for w, b in islice(trained, epochs + 1):
            yield w.reshape(*w.shape[:2], labels, count), b.reshape(len(X), labels, count)

    def _measured(self, name: str, w: Array, b: Array) -> Array:
        """Risks `(sets, C)`."""
        with np.errstate(over="ignore", invalid="ignore"):
            risks = np.concatenate([getattr(stage, name)(*own) for stage, *own in zip(self.stages, w, b, strict=True)])
        return np.where(np.isfinite(risks) & (risks < INFINITE), risks, np.inf)


def summary(train: Array, test: Array) -> Curves:
    """Means and standard errors over sets of the risks of one training, `(sets, T)`, by epoch."""
    with np.errstate(invalid="ignore"):
        errors = standard_error(train), standard_error(test)
    return Curves(np.arange(train.shape[-1], dtype=float), train.mean(0), test.mean(0), *errors, test)


def standard_error(each: Array) -> Array:
    """Of the mean over stages, the first axis; the same samples cut anew into folds tell nothing more."""
    return each.std(0, ddof=1) / min(len(each), FOLDS) ** 0.5 if len(each) > 1 else 0.0 * each[0]


def _done(test: Array, extra: int, linger: float) -> bool:
    """Whether a curve has diverged, or has lingered where it was as good as least, by `extra` epochs at least."""
    if not np.isfinite(test[-1]):
        return True
    first = int(np.argmax(test <= (1.0 + SETTLED) * test.min()))
    return len(test) - 1 >= linger * first + extra
