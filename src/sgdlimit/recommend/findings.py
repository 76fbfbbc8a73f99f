"""What is known of data, of training on them and of how far to trust it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .advise import Advice
from .estimate import Estimate
from .linear import Curves
from .others import OtherRates
from .setting import Setting
from .trust import Trust
from .verify import Verification

BAND = 2.0  # standard errors
Array = np.ndarray


@dataclass(frozen=True)
class Findings:
    """All that `recommend` found out, in numbers; `Recommendation` tells and draws it.

    Attributes:
        loss, n, d, feature_variance: of the data as trained on.
        told: what was done to the data.
        estimate: eigenvalues, signal and noise.
        setting: the problem in numbers; `setting.problem()` is the `sl.Problem`.
        advice: step, learning rates, batch sizes, epochs, curves.
        trust: the assumptions and the verdict.
        limit: the recommended training in the limit of many samples and features, where it was asked for.
        verification: real training, where it was asked for.
        scale: by which risks are multiplied to be in the units of the label.
        band: relative standard error of the expected test and train risk from what the data leave open.
        standardised: whether columns were divided by their standard deviation.
        others: learning rates of other optimisers.
        measured: whether the curves are from cross-validation, for data that the theory does not describe.
    """

    loss: str
    target: str
    n: int
    d: int
    feature_variance: float
    told: list[str]
    notes: list[str]
    estimate: Estimate
    setting: Setting
    advice: Advice
    trust: Trust
    limit: Curves | None
    verification: Verification | None
    scale: float
    band: float
    standardised: bool
    measured: bool
    seconds: dict[str, float]
    others: OtherRates

    @property
    def learning_rate(self) -> float:
        """At the recommended batch size."""
        return next(row.learning_rate for row in self.advice.batches if row.batch_size == self.advice.batch_size)

    @property
    def expected(self) -> dict[str, Array]:
        """Curves per epoch in the units of the label: `epoch`, and `train`, `test`, `replacement_test`, each also with `_low` and
        `_high`, a band of two standard errors from the theory and from what the data leave open."""
        a = self.advice
        out: dict[str, Array] = {"epoch": a.epoch_axis}
        for name, values, se in (
            ("train", a.reshuffle.train, a.reshuffle.train_se),
            ("test", a.reshuffle.test, a.reshuffle.test_se),
            ("replacement_test", a.replacement.test, a.replacement.test_se),
        ):
            finite = np.isfinite(values)
            wide = BAND * np.where(finite, np.hypot(se, self.band * np.where(finite, values, 0.0)), 0.0)
            low = np.maximum(values - wide, 0.0)  # no loss here is negative
            out |= {name: self.scale * values, f"{name}_low": self.scale * low, f"{name}_high": self.scale * (values + wide)}
        return out
