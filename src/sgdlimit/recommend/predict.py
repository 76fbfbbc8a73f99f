"""What foresees training on the problem that the data look like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from .data import Data
from .drawn import DrawnPredictor
from .folds import FoldsPredictor
from .linear import Curves, LinearTwin
from .setting import Setting
from .trust import Trust

Array = np.ndarray
Report = Callable[[float, str], None]

FEWEST_SHARE = 1e-4  # signal below which the theory has nothing to learn
DOUBTFUL = ("row norms", "tails", "held-out errors")  # a few samples may then decide what is best,
CHEAP = 2e5  # and so many numbers are soon trained on


class Curved(Protocol):
    """What the advice needs of a predictor.

    Attributes:
        measured: whether curves are measured on the data themselves, and their errors all there is.
        largest_step: above which no step is worth a trial.
        floor: least test risk of gradient flow without a ridge; zero where it is not known.
        start_step: the largest that is tried at first.
        certain_step: down to which all are tried; below training cannot diverge.
        more: steps tried at a time below, and how many of the smallest must gain nothing.
        ridges: to try beside zero; None for those that the estimate asks for.
        notes: what is to be told of where the curves are from.
    """

    measured: bool
    notes: list[str]
    ridges: list[float] | None
    floor: float
    more: int

    @property
    def largest_step(self) -> float: ...

    @property
    def start_step(self) -> float: ...

    @property
    def certain_step(self) -> float: ...

    def batch_size(self, step: float) -> int | None:
        """Of the batches that this step was tried with, if that was one size."""
        ...

    def trains(self, step: float, ridge: float, epochs: int) -> bool:
        """Whether training on the user's own samples ends below the risk that it starts from, where it is to be tried."""
        ...

    def ridge_gains(self, ridges: Array, epochs: int) -> Array:
        """By how much each ridge lowers the best test risk as far as is known without a trial; infinite where nothing is known."""
        ...

    def risks(self, steps: Array, ridges: Array, epochs: int) -> Array:
        """Test risks `(sets, C, epochs + 1)` of `C` pairs of step and ridge after 0, 1, 2, ... epochs of reshuffled training on several
        data sets; NaN past their best, infinite where training diverges."""
        ...

    def curves(self, step: float, ridge: float, epochs: int, order: str) -> Curves:
        """Mean risks after 0, 1, 2, ... epochs, to the end, of one step and ridge; `order` is "reshuffle" or "replacement"."""
        ...


def predictor(setting: Setting, proxy: LinearTwin, data: Data, trust: Trust, seed: int) -> Curved:
    """The estimated problem, or the data themselves where no estimated problem is like them, or where that is in doubt and they are
    small enough to be measured on."""
    doubted = any(check.name in DOUBTFUL and check.grade != "good" for check in trust.checks) and data.X.size <= CHEAP
    if trust.grade == "bad" or doubted or setting.clusters or setting.estimate.linear_share < FEWEST_SHARE:
        return FoldsPredictor(setting.loss, data, setting.curvature, setting.estimate.largest, seed)
    return DrawnPredictor(setting, proxy, seed)
