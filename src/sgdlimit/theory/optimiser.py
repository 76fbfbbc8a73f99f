"""What an optimiser makes of the force: the averages and the noise that samples give, before coordinates move by them.

Only coordinates see it, so a sample keeps its equation whatever the optimiser is. A filter (momentum) or a gain (an adaptive step) is
one class more with explicit state; samples, coordinates and the march stay as they are.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ..learning.dynamics import Dynamics
from .averages import Averages


class Optimiser(Protocol):
    """What the march asks of an optimiser."""

    def motion(self, node: int, spacing: float, before: Averages, after: Averages) -> tuple[Averages, Averages]:
        """The averages that move the coordinates across cell `node`, of those at its two ends; the first end's twice where they are."""
        ...

    def noise(self, node: int, row: np.ndarray) -> np.ndarray:
        """The covariances `(S, k, node + 1, k)` of the noise in the coordinates' motion over cell `node`, of those of the force."""
        ...


class Plain:
    """The force itself moves the coordinates."""

    def motion(self, node: int, spacing: float, before: Averages, after: Averages) -> tuple[Averages, Averages]:
        return before, after

    def noise(self, node: int, row: np.ndarray) -> np.ndarray:
        return row


def optimiser_of(dynamics: Dynamics) -> Optimiser:
    """The optimiser of a dynamics, with the state it has at the start of a march."""
    return Plain()
