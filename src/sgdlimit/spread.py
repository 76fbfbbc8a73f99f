"""Standard errors from few replicates."""

from __future__ import annotations

import numpy as np
from scipy import stats


def student(replicates: int) -> float:
    """Widens a standard error from few replicates so that two of it cover what two of a known one would."""
    return float(stats.t.isf(stats.norm.sf(2.0), replicates - 1)) / 2.0


def spread(each: np.ndarray) -> np.ndarray:
    """Standard error of the mean over replicates, the first axis; zero, without rounding, where all are the same."""
    return np.where(np.ptp(each, 0) > 0, student(len(each)) * each.std(0, ddof=1) / np.sqrt(len(each)), 0.0)
