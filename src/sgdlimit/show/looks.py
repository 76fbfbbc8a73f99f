"""How dynamics are told apart and errors shown, in print and on interactive pages alike; `paper` and `interactive` draw it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

# Okabe and Ito's palette, which the colour-blind can tell apart; yellow is left out, too pale for a line on paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ((), (5, 1.6), (1.2, 1.4), (6, 1.5, 1.2, 1.5), (3, 1.2), (8, 2), (1, 3))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
BAND = 2.0  # standard errors in a band or a bar
MOST_POINTS = 14


def look(i: int) -> dict[str, Any]:
    """Colour, dashes and marker number `i`."""
    return {"color": COLOURS[i % len(COLOURS)], "dashes": DASHES[i % len(DASHES)], "marker": MARKERS[i % len(MARKERS)]}


@dataclass(frozen=True)
class Curve:
    """A curve to draw: of theory a line with its band, of real runs points with their bars, both of `BAND` standard errors.

    Attributes:
        x, value, se: `(n,)`.
        number: whose look it has.
        name: for a legend or below the pointer.
        measured: whether it is of real runs.
    """

    x: np.ndarray
    value: np.ndarray
    se: np.ndarray
    number: int
    name: str | None = None
    measured: bool = False

    @property
    def low(self) -> np.ndarray:
        return self.value - BAND * self.se

    @property
    def high(self) -> np.ndarray:
        return self.value + BAND * self.se

    def thinned(self, which: int, among: int) -> Curve:
        """Of real runs the points that are drawn, see `points_shown`; theory as it is."""
        if not self.measured:
            return self
        keep = points_shown(len(self.x), which, among)
        return Curve(self.x[keep], self.value[keep], self.se[keep], self.number, self.name, True)


def points_shown(count: int, which: int, among: int) -> np.ndarray:
    """Indices of the points drawn: few enough to tell apart, those of each dynamics shifted against the others'."""
    every = max(1, math.ceil(count / MOST_POINTS))
    return np.arange(round(which * every / max(among, 1)), count, every)
