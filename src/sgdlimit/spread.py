"""Standard errors from few replicates."""

from __future__ import annotations

import numpy as np
from scipy import stats

POOLED = 0.15  # of the horizon, over which spreads are taken together


def student(replicates: int) -> float:
    """Widens a standard error from few replicates so that two of it cover what two of a known one would."""
    return float(stats.t.isf(stats.norm.sf(2.0), replicates - 1)) / 2.0


def spread(each: np.ndarray) -> np.ndarray:
    """Standard error of the mean over replicates, the first axis; zero, without rounding, where all are the same."""
    return np.where(np.ptp(each, 0) > 0, student(len(each)) * each.std(0, ddof=1) / np.sqrt(len(each)), 0.0)


def envelope(error: np.ndarray, times: np.ndarray, reach: float) -> np.ndarray:
    """The largest size of an error `(T, ...)` at times within `reach`, since it crosses zero where what it stands for does not; at the
    start there is none."""
    near = np.abs(times[:, None] - times) <= reach
    return np.array([np.abs(error[row]).max(0) for row in near]) * (times > 0.0).reshape(-1, *[1] * (error.ndim - 1))


def pooled(error: np.ndarray, times: np.ndarray, horizon: float) -> np.ndarray:
    """Root mean square of a spread `(T, ...)` over nearby times, at most half as early or late: of few replicates it is by chance too small
    at some time, and it changes smoothly."""
    reach = np.minimum(POOLED * horizon, 0.5 * times)
    near = (np.abs(times[:, None] - times) <= reach[:, None]) & ((times > 0.0) | (times[:, None] == 0.0))
    return np.array([np.sqrt((error[row] ** 2).mean(0)) for row in near])
