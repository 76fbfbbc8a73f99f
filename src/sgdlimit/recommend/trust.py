"""How close the data are to what the theory assumes, assumption by assumption, each with its number, and what follows.

The theory is of many independent features of moderate tails, mixed by a covariance: squared row norms then hardly vary, the sample's
eigenvalues follow the Marchenko-Pastur equation, and a prediction is a Gaussian variable. The thresholds were set on data
made to break one assumption at a time (tests/test_recommend_trust.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .data import Data
from .estimate import STRONGEST, Estimate, share_at
from .words import counted, is_

Grade = Literal["good", "care", "bad"]
Array = np.ndarray

VERDICTS = {
    "good": "use it",
    "care": "use with care",
    "bad": "do not use it",
}
SAMPLE = 2000  # rows looked at


@dataclass(frozen=True)
class Check:
    """One assumption: its number, the values up to which it is good and bearable, and the finding in a sentence."""

    name: str
    value: float
    good: float
    care: float
    grade: Grade
    text: str


@dataclass(frozen=True)
class Trust:
    """All checks and the verdict: the worst grade of any."""

    checks: list[Check]

    @property
    def grade(self) -> Grade:
        grades = {check.grade for check in self.checks}
        return "bad" if "bad" in grades else "care" if "care" in grades else "good"

    @property
    def verdict(self) -> str:
        return VERDICTS[self.grade]

    @property
    def reasons(self) -> str:
        """The verdict and what led to it, in one sentence."""
        worst = [check.text for check in self.checks if check.grade == self.grade]
        if self.grade == "good":
            return "Use it: the data are as the theory assumes in all that was checked."
        start = "Use with care" if self.grade == "care" else "Do not use the theory here"
        return f"{start}: " + "; ".join(text[0].lower() + text[1:].rstrip(".") for text in worst) + "."


def assess(data: Data, estimate: Estimate, rng: np.random.Generator) -> Trust:
    """Hold every assumption against the data."""
    X = data.X if data.n <= SAMPLE else data.X[rng.choice(data.n, SAMPLE, replace=False)]
    checks = [
        _features(data.d),
        _ratio(data.n / data.d),
        _directions(data.d, estimate),
        _norms(X, estimate),
        _tails(X),
        _repeats(X),
        _copies(data.X),
    ]
    checks += [_spectrum(estimate), _held_out(estimate)]
    if data.classes:
        checks.append(_linearity(data, estimate))
    return Trust(checks)


def _grade(value: float, good: float, care: float) -> Grade:
    """`good` and `care` are bounds from above, or from below where `good > care`."""
    if good > care:
        value, good, care = -value, -good, -care
    return "good" if value <= good else "care" if value <= care else "bad"


def _check(name: str, value: float, good: float, care: float, text: str) -> Check:
    return Check(name, float(value), good, care, _grade(value, good, care), text)


def _features(d: int) -> Check:
    return _check("features", d, 200, 40, f"There {is_(d)} {counted(d, 'feature')}; the theory is for some hundred and more.")


def _ratio(ratio: float) -> Check:
    shown = f"{ratio:.3g}"
    name, text = (
        "samples per feature",
        f"There {is_(shown)} {counted(shown, 'sample')} per feature; predictions were tested from 0.3 to 20.",
    )
    low, high = _check(name, ratio, 0.3, 0.1, text), _check(name, ratio, 20.0, 100.0, text)
    return low if low.grade != "good" else high


def _directions(d: int, e: Estimate) -> Check:
    value = d / float(e.weights @ e.eigenvalues**2)
    return _check(
        "directions that matter",
        value,
        25,
        6,
        f"The variance is spread over about {counted(f'{value:.0f}', 'direction')}; averages need a few dozen.",
    )


def _norms(X: Array, e: Estimate) -> Check:
    """Spread of squared row norms beyond that of Gaussian features with this spectrum."""
    norms = (X**2).mean(1)
    spread = float(norms.var() / norms.mean() ** 2)
    gaussian = 2.0 * float(e.weights @ e.eigenvalues**2) / X.shape[1]
    value = np.sqrt(max(spread - gaussian, 0.0))
    return _check("row norms", value, 0.35, 1.0, f"Squared row norms vary by {value:.0%} more than such features would let them.")


def _tails(X: Array) -> Check:
    spread = X.std(0)
    z = (X - X.mean(0)) / np.where(spread > 0, spread, 1.0)
    value = float(np.quantile(np.square(np.square(z)).mean(0), 0.9))  # a power of four takes ten times as long
    return _check("tails", value, 10.0, 60.0, f"A tenth of the columns have a kurtosis of {value:.3g} or more (3 is Gaussian).")


def _repeats(X: Array) -> Check:
    """Mean share of a column's commonest value: sparse features are mostly zero."""
    columns = X[:, :: max(1, X.shape[1] // 200)]
    value = float(np.mean([np.unique(column, return_counts=True)[1].max() / len(column) for column in columns.T]))
    return _check("sparsity", value, 0.6, 0.95, f"In the mean column {value:.0%} of the entries are the same value.")


def _copies(X: Array) -> Check:
    """Fraction of samples that are there more than once: held-out errors are then no errors on fresh samples."""
    keys = np.round(X @ np.random.default_rng(0).standard_normal(X.shape[1]), 9)
    value = 1.0 - len(np.unique(keys)) / len(keys)
    return _check("copies", value, 0.01, 0.1, f"{value:.1%} of the samples are copies of others; the theory takes them as independent.")


def _spectrum(e: Estimate) -> Check:
    value = e.spectrum_residual
    return _check("spectrum", value, 0.02, 0.1, f"The Marchenko-Pastur equation is met to {value:.2%} by the spectrum found.")


def _held_out(e: Estimate) -> Check:
    value = e.held_out_residual
    return _check("held-out errors", value, 0.05, 0.2, f"Ridge regression's leave-one-out errors are predicted to {value:.1%}.")


def _linearity(data: Data, e: Estimate) -> Check:
    """Labels that are more linear in the features than any logistic law of a Gaussian prediction allows."""
    value = e.linear_share / share_at(STRONGEST, 0.0)
    return _check(
        "classes", value, 0.9, 1.1,
        f"The labels are {e.linear_share:.0%} linear in the features, {value:.2f} times what classes cut from a Gaussian score can be: "
        "above 1 they are clusters, whose risk is small and known poorly.",
    )  # fmt: skip
