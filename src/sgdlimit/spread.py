"""Standard errors from few replicates."""

from __future__ import annotations

import numpy as np
from scipy import stats

POOLED = 0.15  # of the horizon, over which spreads are taken together
MOST_TOGETHER = 4.0  # times as many degrees of freedom as one of these times has, at most


def student(replicates: int, together: float = 1.0) -> float:
    """Widens a standard error from few replicates so that two of it cover what two of a known one would; it has `together` times as many
    degrees of freedom."""
    return float(stats.t.isf(stats.norm.sf(2.0), together * (replicates - 1))) / 2.0


def spread(each: np.ndarray, together: float = 1.0) -> np.ndarray:
    """Standard error of the mean over replicates, the first axis; zero, without rounding, where all are the same. `together` as in
    `student`."""
    return np.where(np.ptp(each, 0) > 0, student(len(each), together) * each.std(0, ddof=1) / np.sqrt(len(each)), 0.0)


def envelope(error: np.ndarray, times: np.ndarray, reach: float) -> np.ndarray:
    """The largest size of an error `(T, ...)` at times within `reach`, since it crosses zero where what it stands for does not; at the
    start there is none."""
    near = np.abs(times[:, None] - times) <= reach
    return np.array([np.abs(error[row]).max(0) for row in near]) * (times > 0.0).reshape(-1, *[1] * (error.ndim - 1))


def pooled(error: np.ndarray, times: np.ndarray, horizon: float) -> np.ndarray:
    """Root mean square of a spread `(T, ...)` over nearby times, at most half as early or late: of few replicates it is by chance too small
    at some time, and it changes smoothly."""
    return np.array([np.sqrt((error[row] ** 2).mean(0)) for row in _near(times, horizon)])


def along(each: np.ndarray, times: np.ndarray, horizon: float) -> np.ndarray:
    """`pooled` standard error `(T, ...)` of the mean over replicates of curves `(S, T, ...)`. Nearby times whose fluctuations are not the
    same know it together as well as more replicates would."""
    return pooled(spread(each, together(each, times, horizon)), times, horizon)


def together(each: np.ndarray, times: np.ndarray, horizon: float) -> float:
    """How many times as many degrees of freedom as at one of them variances over nearby times have, for replicates of a curve
    `(S, T, ...)`: `(tr C)^2 / tr C^2` of the fluctuations' covariance `C` there, without the bias of few replicates, on average."""
    apart = (each - each.mean(0)).reshape(*each.shape[:2], -1)
    free, whole, squared = len(each) - 1.0, 0.0, 0.0
    for row in _near(times, horizon)[times > 0.0]:
        grams = np.einsum("ate,bte->eab", apart[:, row], apart[:, row]) / free
        sizes, squares = np.einsum("eaa->e", grams) ** 2, np.sum(grams**2, (1, 2))
        squared += (own := np.sum(squares - sizes / free) / (1.0 + 1.0 / free - 2.0 / free**2))
        whole += np.sum(sizes) - 2.0 * own / free
    return float(np.clip(whole / squared, 1.0, MOST_TOGETHER)) if squared > 0.0 else 1.0


def _near(times: np.ndarray, horizon: float) -> np.ndarray:
    """Which times `(T, T)` are near each."""
    reach = np.minimum(POOLED * horizon, 0.5 * times)
    return (np.abs(times[:, None] - times) <= reach[:, None]) & ((times > 0.0) | (times[:, None] == 0.0))
