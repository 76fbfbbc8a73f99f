"""The problem that the data look like, in numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .estimate import STRONGEST, Estimate, offset_for, strength

if TYPE_CHECKING:
    from ..learning.problem import Problem

Array = np.ndarray


@dataclass(frozen=True)
class Setting:
    """The problem in numbers: what `Problem` is built from.

    Attributes:
        loss: "squared" or "logistic".
        estimate: of the data the problem is for; of labels with variance one for "squared".
        sample_ratio: `n / d`.
        size: standard deviation of `r*`.
        offset: intercept of the teacher; zero for "squared".
        clusters: whether the labels are more linear in the features than any logistic law of a Gaussian score allows.
        intercept: of the student at the start, the log-odds of the classes. It is trained along, which `train` does as well.
    """

    loss: str
    estimate: Estimate
    n: int
    d: int
    size: float
    offset: float
    clusters: bool = False
    intercept: float = 0.0

    @classmethod
    def of(cls, loss: str, estimate: Estimate, n: int, d: int, label_mean: float = 0.0) -> Setting:
        if loss == "squared":
            return cls(loss, estimate, n, d, float(np.sqrt(estimate.signal.sum())), 0.0)
        size, offset = 0.0, 0.0
        for _ in range(30):  # the intercept that gives the mean label depends on the size, and the other way round
            offset = offset_for(label_mean, size)
            size = strength(estimate.linear_share, offset)
        return cls(loss, estimate, n, d, size, offset, size >= STRONGEST, float(2.0 * np.arctanh(label_mean)))

    @property
    def sample_ratio(self) -> float:
        return self.n / self.d

    @property
    def curvature(self) -> float:
        """Largest curvature of the loss, which is that at the start for balanced classes."""
        return 1.0 if self.loss == "squared" else 0.25

    def problem(self, ridge: float = 0.0) -> Problem:
        """The learning problem, from a start at zero."""
        from ..learning.problem import Problem
        from ..learning.spectrum import Spectrum
        from ..learning.trained import Trained
        from ..learning.weights import GaussianTeacher, Init, Ridge

        e = self.estimate
        loss, label, noise = _model(self.loss, float(np.sqrt(e.noise)), self.offset)
        spectrum = None if len(e.eigenvalues) == 1 else Spectrum(e.eigenvalues, e.weights, e.teacher)
        teacher = GaussianTeacher([[max(self.size, 1e-6) ** 2]])
        # Of balanced classes, and of labels without a mean, an intercept stays zero. Features have variance one, so its rate is one.
        trained = Trained([self.intercept]) if self.offset else None
        penalty = Ridge(ridge) if ridge else None
        return Problem(loss, label, noise, self.sample_ratio, teacher, Init([[0.0]], [[0.0]]), penalty, spectrum, trained=trained)


@lru_cache(maxsize=16)
def _model(loss: str, noise: float, offset: float) -> tuple[Callable, Callable, Any]:
    """Loss, label and noise; the same functions for the same numbers, so that what is compiled for one solution serves the next."""
    import jax.numpy as jnp

    from ..learning.noise import NoNoise, Normal, Uniform
    from ..models.scalars import softplus

    if loss == "squared":
        law = Normal() if noise > 0 else NoNoise()
        return lambda r, y: 0.5 * (r[0] - y) ** 2, lambda r_star, z: r_star[0] + noise * z, law
    label = lambda r_star, z: jnp.where(r_star[0] + offset > jnp.log(z) - jnp.log1p(-z), 1.0, -1.0)
    if not offset:
        return lambda r, y: softplus(-y * r[0]), label, Uniform()
    return lambda r, y, a: softplus(-y * (r[0] + a[0])), label, Uniform()
