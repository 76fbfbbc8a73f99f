"""The problem that the data look like, in numbers, and what foresees training on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .data import Data
from .drawn import DrawnPredictor
from .estimate import STRONGEST, Estimate, offset_for, strength
from .folds import FoldsPredictor
from .linear import Curves, LinearTwin
from .trust import Trust

if TYPE_CHECKING:
    from ..problem import Problem

Array = np.ndarray
Report = Callable[[float, str], None]

FEWEST_SHARE = 1e-4  # signal below which the theory has nothing to learn
DOUBTFUL = ("row norms", "tails", "held-out errors")  # a few samples may then decide what is best,
CHEAP = 2e5  # and so many numbers are soon trained on


@dataclass(frozen=True)
class Setting:
    """The problem in numbers: what `Problem` is built from.

    Attributes:
        loss: "squared" or "logistic".
        estimate: of the data the problem is for; of labels with variance one for "squared".
        sample_ratio: `n / d`.
        size: standard deviation of `r*`.
        offset: intercept of the teacher, which the student has too; zero for "squared".
        clusters: whether the labels are more linear in the features than any logistic law of a Gaussian score allows.
    """

    loss: str
    estimate: Estimate
    n: int
    d: int
    size: float
    offset: float
    clusters: bool = False

    @classmethod
    def of(cls, loss: str, estimate: Estimate, n: int, d: int, label_mean: float = 0.0) -> Setting:
        if loss == "squared":
            return cls(loss, estimate, n, d, float(np.sqrt(estimate.signal.sum())), 0.0)
        size, offset = 0.0, 0.0
        for _ in range(30):  # the intercept that gives the mean label depends on the size, and the other way round
            offset = offset_for(label_mean, size)
            size = strength(estimate.linear_share, offset)
        return cls(loss, estimate, n, d, size, offset, size >= STRONGEST)

    @property
    def sample_ratio(self) -> float:
        return self.n / self.d

    @property
    def curvature(self) -> float:
        """Largest curvature of the loss, which is that at the start for balanced classes."""
        return 1.0 if self.loss == "squared" else 0.25

    def problem(self, ridge: float = 0.0) -> Problem:
        """The learning problem, from a start at zero."""
        from ..problem import GaussianTeacher, Init, Problem, Ridge
        from ..spectrum import Spectrum

        e = self.estimate
        loss, label, noise = _model(self.loss, float(np.sqrt(e.noise)), self.offset)
        spectrum = None if len(e.eigenvalues) == 1 else Spectrum(e.eigenvalues, e.weights, e.teacher)
        teacher = GaussianTeacher([[max(self.size, 1e-6) ** 2]])
        return Problem(loss, label, noise, self.sample_ratio, teacher, Init([[0.0]], [[0.0]]), Ridge(ridge) if ridge else None, spectrum)


@lru_cache(maxsize=16)
def _model(loss: str, noise: float, offset: float) -> tuple[Callable, Callable, Any]:
    """Loss, label and noise; the same functions for the same numbers, so that what is compiled for one solution serves the next."""
    import jax.numpy as jnp

    from ..problem import NoNoise, Normal, Uniform

    if loss == "squared":
        law = Normal() if noise > 0 else NoNoise()
        return lambda r, y: 0.5 * (r[0] - y) ** 2, lambda r_star, z: r_star[0] + noise * z, law
    label = lambda r_star, z: jnp.where(r_star[0] + offset > jnp.log(z) - jnp.log1p(-z), 1.0, -1.0)
    return lambda r, y: jnp.logaddexp(0.0, -y * (r[0] + offset)), label, Uniform()


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
