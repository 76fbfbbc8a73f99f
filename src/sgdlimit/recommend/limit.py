"""The recommended training in the limit of many samples and features, from the theory's equations.

What is expected elsewhere in this package is for data of the user's own size; this is the same problem without fluctuations, with the
solver's own error. Compiling the equations' programs takes longer than all the rest, so it is only done when asked for.
"""

from __future__ import annotations

import numpy as np

from ..errors import SolveError
from ..learning.dynamics import SGD
from ..theory import solve
from .linear import Curves
from .setting import Setting

RTOL = 0.05  # of the curves' scale; errors are a few times less at the times that matter
MOST_EPOCHS = 24  # nodes follow the epochs
LONGEST = 80.0  # and the time


def in_the_limit(setting: Setting, step: float, ridge: float, epochs: int, seed: int) -> Curves | str:
    """Risks after 0, 1, 2, ... epochs of reshuffled training, as many as can be solved; or why there are none."""
    epoch = step * setting.sample_ratio
    count = int(min(epochs, MOST_EPOCHS, LONGEST / epoch))
    if count < 1:
        return f"an epoch lasts {epoch:.3g} units of the theory's time, which is too long to be solved"
    ends = np.arange(count + 1) * epoch
    ends[-1] *= 1.0 - 1e-9  # before the next epoch's order is drawn
    try:
        found = solve(
            setting.problem(ridge), SGD(step, "reshuffle"), float(ends[-1]), rtol=RTOL, seed=seed, times=ends, on_failure="return"
        )
    except SolveError as e:
        return str(e)
    data = found.dataset
    axis = np.arange(len(data.time), dtype=float)
    return Curves(axis, *(np.asarray(data[name].values, float) for name in ("train_risk", "test_risk", "train_risk_se", "test_risk_se")))
