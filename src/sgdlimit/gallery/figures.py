"""Parts of figures that several claims share, in the house style of `show`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..show.looks import BAND, COLOURS, DASHES, look
from ..show.paper import marks, style
from .claims import Numbers

__all__ = [
    "BAND",
    "COLOURS",
    "DASHES",
    "band",
    "exact",
    "guide",
    "legend",
    "logarithmic",
    "look",
    "marks",
    "panel_letters",
    "panels",
    "points",
]


@contextmanager
def panels(columns: int, rows: int = 1, width: float = 3.35, height: float = 2.75, **share: Any) -> Iterator[tuple[Any, np.ndarray]]:
    """A figure and its axes `(rows, columns)`, drawn in the house style."""
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width * columns, height * rows))
        figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.05, hspace=0.04, wspace=0.04)
        axes = figure.subplots(rows, columns, squeeze=False, **share)
        yield figure, axes
        panel_letters(axes.ravel())


def panel_letters(axes: Any) -> None:
    if len(axes) > 1:
        for letter, axis in zip("abcdefgh", axes, strict=False):
            axis.set_title(f"({letter})", loc="left", fontsize=9.5)


def points(axis: Any, x: Any, y: Any, se: Any, i: int, label: str | None = None) -> None:
    """Measured points with bars of two standard errors."""
    axis.errorbar(x, y, BAND * np.asarray(se), label=label, **marks(look(i)))


def band(axis: Any, x: Any, curve: Numbers, i: int, label: str | None = None) -> None:
    """A curve of theory with its band of two standard errors."""
    value, se, how = np.asarray(curve["value"]), np.asarray(curve["se"]), look(i)
    axis.fill_between(x, value - BAND * se, value + BAND * se, color=how["color"], alpha=0.22, linewidth=0)
    axis.plot(x, value, color=how["color"], dashes=how["dashes"], linewidth=1.4, label=label)


def guide(axis: Any, x: Any, y: Any, i: int | None = None, label: str | None = None) -> None:
    """A thin line: a fit or a slope to compare with."""
    colour, dashes = ("0.45", (4, 2)) if i is None else (COLOURS[i], DASHES[i])
    axis.plot(x, y, color=colour, dashes=dashes, linewidth=1.1, label=label, zorder=1)


def legend(figure: Any, axis: Any, columns: int = 4) -> None:
    """One legend above all panels."""
    handles, names = axis.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=columns, frameon=False, handlelength=2.6)


def exact(axis: Any, x: Any, y: Any, label: str | None = None) -> None:
    """A curve known exactly: wide and pale, under what is drawn over it."""
    axis.plot(x, y, color="0.55", alpha=0.4, linewidth=4.5, solid_capstyle="butt", zorder=1, label=label)


def logarithmic(axis: Any, x: Any = None, y: bool = False, bottom: float | None = None) -> None:
    """Logarithmic axes with plain numbers: at the values `x` below; on the left at 1, 2, 5, over many decades at 1 alone."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    plain = FuncFormatter(lambda value, _: f"{value:g}")
    if x is not None:
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(FixedLocator(list(x)))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(plain)
    if y:
        axis.set_yscale("log")
        axis.set_ylim(bottom=bottom)
        low, high = axis.get_ylim()
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 50 * low else (1.0,)))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter(plain)
