"""A heat map to draw: one description, which `paper` and `interactive` draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Array = np.ndarray
Mark = Literal["hatched", "dot", "cross"]

WIDE = 12.0  # from this ratio on of the largest number to the least, colours are logarithmic
EMPTY = "#e8e8e4"  # of cells without a number, on pages
BEST = "#D1184B"  # of the line along the best numbers, and of what is chosen


@dataclass(frozen=True)
class Axis:
    """An axis as it is drawn; `label` may have TeX."""

    name: str
    label: str
    log: bool
    values: Array

    @property
    def text(self) -> str:
        """The label without TeX."""
        return self.label.replace(r"$\eta$", "η").replace("$", "")

    @property
    def edges(self) -> Array:
        """Edges of the cells around increasing values, halfway between them on the axis's scale."""
        x = np.log(self.values) if self.log else np.asarray(self.values, float)
        if len(x) == 1:
            edges = x + np.array([-0.5, 0.5])
        else:
            middle = 0.5 * (x[1:] + x[:-1])
            edges = np.concatenate([[2 * x[0] - middle[0]], middle, [2 * x[-1] - middle[-1]]])
        return np.exp(edges) if self.log else edges


@dataclass(frozen=True)
class Scale:
    """Colours of numbers: `colours` from `low` to `high`, by names that Matplotlib has. With `more`, numbers beyond have the last one."""

    low: float
    high: float
    colours: Literal["viridis", "viridis_r", "RdBu_r"]
    log: bool = False
    more: bool = False


def least_bright(values: Sequence[Array]) -> Scale:
    """For numbers of which the least is the best. What is far above the bulk, as next to a border beyond which they are infinite, takes
    the last colour."""
    found = np.concatenate([one[np.isfinite(one)] for one in values])
    if not len(found):
        return Scale(0.0, 1.0, "viridis_r")
    low, most = float(found.min()), float(found.max())
    high = min(most, low + 3 * (float(np.median(found)) - low))
    if high <= low:
        high = low + 1e-9 + 1e-3 * abs(low)
    return Scale(low, high, "viridis_r", low > 0 and high / low > WIDE, most > high)


def either_sign(values: Array) -> Scale:
    """Around white for zero where some are clearly negative, or else from zero to the most."""
    most, least = float(np.nanmax(values)), float(np.nanmin(values))
    size = max(abs(most), abs(least), 1e-12)
    if least < -0.02 * size:
        return Scale(-size, size, "RdBu_r")
    return Scale(min(least, 0.0), max(most, 1e-12), "viridis")


@dataclass(frozen=True)
class Heat:
    """A number over a plane, on a grid of cells or at single points.

    Attributes:
        x, y: the axes; of a grid, increasing.
        value: `(rows, columns)`, or `(points,)`; NaN where there is none.
        scale: its colours.
        triangle: whether there are numbers where `y <= x` alone, on a grid with equal axes.
        smooth: whether colours may run into each other, between many narrow cells.
        marks: where cells or points are marked: "hatched", as there can be no number, with a "dot" or a "cross"; of the shape of `value`.
        border: a dashed line where this changes its sign, `(rows, columns)`.
        line: heights of a line across, `(columns,)`, and whether it is closed there, or open as at an end of `y`.
    """

    x: Axis
    y: Axis
    value: Array
    scale: Scale
    triangle: bool = False
    smooth: bool = False
    marks: Mapping[Mark, Array] = field(default_factory=dict)
    border: Array | None = None
    line: tuple[Array, Array] | None = None

    @property
    def grid(self) -> bool:
        return self.value.ndim == 2

    def places(self, where: Array) -> tuple[Array, Array]:
        """`x, y` of the cells, row by row, or points chosen."""
        if not self.grid:
            return self.x.values[where], self.y.values[where]
        rows, columns = np.nonzero(where)
        return self.x.values[columns], self.y.values[rows]

    def marked(self, mark: Mark) -> tuple[Array, Array]:
        """`x, y` of what is marked so."""
        return self.places(self.marks.get(mark, np.zeros(self.value.shape, bool)))
