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

Array = np.ndarray
Report = Callable[[float, str], None]

FEWEST_SHARE = 1e-4  # signal below which there is nothing to learn


class Curved(Protocol):
    """What the advice needs of a predictor.

    Attributes:
        measured: whether curves are measured on the data themselves, and their errors all there is.
        largest_step: above which no step is worth a trial.
        floor: least test risk of gradient flow without a ridge; zero where it is not known.
        start_step: the largest that is tried at first.
        ridges: to try beside zero; None for those that the estimate asks for.
        notes: what is to be told of where the curves are from.
    """

    measured: bool
    notes: list[str]
    ridges: list[float] | None
    floor: float

    @property
    def largest_step(self) -> float: ...

    @property
    def start_step(self) -> float: ...

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


def predictor(setting: Setting, proxy: LinearTwin, data: Data, trusted: bool, seed: int) -> Curved:
    """The estimated problem, or the data themselves where no estimated problem is like them."""
    if trusted and not setting.clusters:
        return DrawnPredictor(setting, proxy, seed)
    return FoldsPredictor(setting.loss, data, setting.curvature, setting.estimate.largest, seed)
