"""The recommendation put to the test: training for real at the recommended settings, held against the expected curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import train
from .advise import Advice
from .train import Trained
from .words import counted

Array = np.ndarray


@dataclass(frozen=True)
class Verification:
    """Measured against expected, after each epoch of `epoch_axis (T,)`.

    Attributes:
        trained: risks of every seed.
        deviation: expected over measured mean, less one, at the stopping epoch: `test` and `train`.
        largest: the largest such deviation of the test risk from the first epoch on.
    """

    trained: Trained
    batch_size: int
    learning_rate: float
    held_out: int
    deviation: dict[str, float]
    largest: float

    @property
    def sentence(self) -> str:
        test, train_ = self.deviation["test"], self.deviation["train"]
        runs = f"{counted(len(self.trained.test), 'time')} ({self.trained.backend}, batches of {self.batch_size})"
        what = f"Trained {runs}, measured on {self.held_out} samples held out"
        if not np.isfinite(self.trained.test).all():
            return f"{what}: training diverged."
        return (
            f"{what}: at the stopping epoch the expected test risk is {test:+.1%} off the measured mean, the train risk {train_:+.1%}; "
            f"along the curve the test risk is off by at most {self.largest:.1%}."
        )


def verify(
    loss: str, data: tuple[Array, Array], fresh: tuple[Array, Array], advice: Advice, repeats: int, backend: str, seed: int
) -> Verification:
    """Train `repeats` times on `data` at the recommended step, batch and weight decay, and measure on `fresh`."""
    row = next(row for row in advice.batches if row.batch_size == advice.batch_size)
    epochs = int(advice.epoch_axis[-1])
    seeds = range(seed, seed + repeats)
    done = train.train(loss, data, fresh, row.learning_rate, row.batch_size, advice.weight_decay, epochs, seeds, train.pick(backend))
    with np.errstate(invalid="ignore"):
        off = {name: getattr(advice.reshuffle, name) / getattr(done, name).mean(0) - 1.0 for name in ("train", "test")}
    largest = float(np.max(np.abs(off["test"][1:]))) if epochs else 0.0
    at = {name: float(values[min(advice.epochs, epochs)]) for name, values in off.items()}
    return Verification(done, row.batch_size, row.learning_rate, len(fresh[1]), at, largest)
