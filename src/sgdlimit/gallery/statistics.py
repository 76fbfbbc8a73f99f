"""Fits and thresholds of the verdicts. Standard errors are taken as known where they come from many repeats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, stats

LEVEL = 0.01


def bound(count: int, level: float = LEVEL, degrees: float = np.inf) -> float:
    """How many standard errors chance explains, two-sided, over `count` comparisons together (Bonferroni): normal, or Student's t
    with `degrees` of freedom."""
    return float(stats.t.isf(level / (2 * max(count, 1)), degrees))


def pooled(sizes: Any) -> float:
    """Degrees of freedom of a bound that is to hold for means of these numbers of repeats: those of the fewest."""
    return float(max(min(np.ravel(sizes)) - 1, 1))


@dataclass(frozen=True)
class Fit:
    """Weighted least squares: coefficients, their standard errors, and the misfit."""

    values: np.ndarray
    errors: np.ndarray
    misfit: float
    freedom: int

    @property
    def chance(self) -> float:
        """Probability of a larger misfit if the form is right; 1 where nothing is left to fit."""
        return float(stats.chi2.sf(self.misfit, self.freedom)) if self.freedom else 1.0


def fit(columns: Any, y: Any, errors: Any) -> Fit:
    """`y = columns c` with known `errors`; `columns (n, m)`."""
    columns, y, errors = (np.asarray(x, dtype=float) for x in (columns, y, errors))
    weighted, target = columns / errors[:, None], y / errors
    inverse = np.linalg.pinv(weighted)
    values = inverse @ target
    misfit = float(((weighted @ values - target) ** 2).sum())
    return Fit(values, np.sqrt((inverse**2).sum(1)), misfit, len(y) - columns.shape[1])


def limit(x: Any, y: Any, errors: Any, powers: Any) -> Fit:
    """`y = y0 + sum_j c_j x^-p_j`: its first value is `y0`, where `y` goes as `x` grows."""
    x = np.asarray(x, dtype=float)
    return fit(np.stack([np.ones_like(x), *(x**-p for p in powers)], 1), y, errors)


def exponent(x: Any, y: Any, errors: Any, correction: bool = False) -> Fit:
    """`y = +-c x^p`, or `+-c x^p e^(b x)` with the first correction, by weighted least squares; values are `log c, p` (and `b`), NaN where
    the search for them fails."""
    x, y, errors = (np.asarray(v, dtype=float) for v in (x, y, errors))
    columns = np.stack([np.ones_like(x), np.log(x)] + ([x] if correction else []), 1)
    sign = np.sign(y[np.argmax(np.abs(y / errors))])
    seen = sign * y > 0.5 * errors  # for a first guess, by the logarithms
    guess = fit(columns[seen], np.log(np.abs(y[seen])), errors[seen] / np.abs(y[seen])).values
    form = lambda c: sign * np.exp(np.minimum(columns @ c, 300.0))  # a search that runs away shall end, not overflow
    slopes_at: Any = lambda c: columns * (form(c) / errors)[:, None]
    try:
        found = optimize.least_squares(lambda c: (form(c) - y) / errors, guess, slopes_at, method="lm")
        values = found.x if found.success else np.full_like(guess, np.nan)
    except ValueError:  # it ran away to what is not finite
        values = np.full_like(guess, np.nan)
    spread = np.sqrt((np.linalg.pinv(slopes_at(values)) ** 2).sum(1)) if np.isfinite(values).all() else values
    return Fit(values, spread, float((((form(values) - y) / errors) ** 2).sum()), len(y) - columns.shape[1])


def crossing(time: Any, value: Any, se: Any, level: float) -> tuple[float, float]:
    """When a curve first goes through a level, by straight lines between its points, and the error of that: the curve's over its slope.
    NaN for one that does not."""
    time, value, se = (np.asarray(v, dtype=float) for v in (time, value, se))
    above = value > level
    (turns,) = np.nonzero(above[1:] != above[:-1])
    if not len(turns):
        return float("nan"), float("nan")
    i = turns[0]
    slope = (value[i + 1] - value[i]) / (time[i + 1] - time[i])
    part = (level - value[i]) / (value[i + 1] - value[i])
    return float(time[i] + (level - value[i]) / slope), float(((1 - part) * se[i] + part * se[i + 1]) / abs(slope))
