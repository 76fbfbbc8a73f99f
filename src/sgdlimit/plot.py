"""Figures for papers: theory as lines with bands, real runs as points with bars, one colour, dash and marker per dynamics.

    figure = plot.curves({"SGD": (theory, runs), "gradient flow": (other, None)})
    plot.save(figure, "curves.png")

Matplotlib's object interface is used throughout, so nothing here opens a window or changes the user's settings.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .compare import entries
from .errors import InputError, refuse
from .files import replacing
from .results import CURVES, Result, Simulation, Solution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which the colour-blind can tell apart; yellow is left out, too pale for a line on paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ((), (5, 1.6), (1.2, 1.4), (6, 1.5, 1.2, 1.5), (3, 1.2), (8, 2), (1, 3))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
BAND = 2.0  # standard errors in a band or a bar
MOST_PANELS = 20
MOST_POINTS = 14

Results = Mapping[str, tuple[Solution | None, Simulation | None]]


@dataclass(frozen=True)
class Panel:
    """One observable's entry: where it stands in the dataset and how its axis is called (`label` in TeX, `text` plain)."""

    curve: str
    index: dict[str, int]
    label: str
    text: str

    def values(self, result: Result) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Times, curve and standard error `(time,)`."""
        ds = result.dataset
        return ds["time"].values, ds[self.curve].isel(self.index).values, ds[f"{self.curve}_se"].isel(self.index).values


def panels(results: Results) -> list[Panel]:
    """What to draw: both risks, then every distinct entry of both overlaps, diagonals first where there are too many."""
    ds = first(results).dataset
    found = [
        _panel(ds, curve, index) for curve in ("test_risk", "train_risk", "overlap", "self_overlap") for _, index in entries(ds, curve)
    ]
    if len(found) <= MOST_PANELS:
        return found
    return sorted(found, key=lambda panel: len(set(panel.index.values())) > 1)[:MOST_PANELS]


def first(results: Results) -> Result:
    """Any one of the results; all are of one problem."""
    given = [result for pair in results.values() for result in pair if result is not None]
    if not given:
        raise InputError("`results` must hold at least one Solution or Simulation, but is empty")
    return given[0]


def _panel(ds: Any, curve: str, index: dict[str, int]) -> Panel:
    if not index:
        name = curve.replace("_", " ")
        return Panel(curve, index, name, name)
    # One direction needs no indices; several count from one, as papers do.
    single = all(ds.sizes[dim] == 1 for dim in CURVES[curve][1:])
    a, b = ("", "") if single else (str(i + 1) for i in index.values())
    if curve == "overlap":
        return Panel(curve, index, rf"overlap $\mathrm{{E}}[w_{{{a}}} \, r^\star_{{{b}}}\!]$", f"overlap E[w{a} r*{b}]")
    if a == b:
        return Panel(curve, index, rf"self-overlap $\mathrm{{E}}[w_{{{a}}}^2]$", f"self-overlap E[w{a}²]")
    return Panel(curve, index, rf"self-overlap $\mathrm{{E}}[w_{{{a}}} w_{{{b}}}]$", f"self-overlap E[w{a} w{b}]")


def curves(results: Results, title: str | None = None) -> Figure:
    """One panel per observable, one legend above all.

    Arguments:
        results: `{name: (theory, runs)}`, either may be None. All of one problem.
        title: above the legend; papers want none.

    Returns:
        matplotlib Figure; `save` writes it.
    """
    with _style():
        from matplotlib.figure import Figure

        shown = panels(results)
        columns = 2 if len(shown) <= 4 else min((3, 4), key=lambda c: -len(shown) % c)
        rows = math.ceil(len(shown) / columns)
        figure = Figure(figsize=(3.0 * columns + 0.4, 2.2 * rows + (1.0 if title else 0.75)))
        figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.05, hspace=0.04, wspace=0.03)
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
        for axis, panel in zip(axes, shown, strict=False):
            draw(axis, panel, results)
        for axis in axes[len(shown) :]:
            axis.set_axis_off()
        for i, axis in enumerate(axes[: len(shown)]):
            if i + columns >= len(shown):
                axis.set_xlabel("time $t$")
                axis.tick_params(labelbottom=True)
        _legend(figure, results)
        if title:
            figure.suptitle(title)
    return figure


def draw(axis: Axes, panel: Panel, results: Results) -> Axes:
    """Draw one observable of all results into `axis`."""
    for i, (theory, runs) in enumerate(results.values()):
        look = _look(i)
        if theory is not None:
            time, value, se = panel.values(theory)
            axis.fill_between(time, value - BAND * se, value + BAND * se, color=look["color"], alpha=0.22, linewidth=0)
            axis.plot(time, value, color=look["color"], dashes=look["dashes"], linewidth=1.4)
        if runs is not None:
            time, value, se = panel.values(runs)
            keep = points_shown(len(time), i, len(results))
            axis.errorbar(time[keep], value[keep], BAND * se[keep], **_points(look))
    axis.set_ylabel(panel.label)
    axis.margins(x=0.02)
    return axis


def points_shown(count: int, which: int, among: int) -> np.ndarray:
    """Indices of the points drawn: few enough to tell apart, those of each dynamics shifted against the others'."""
    every = max(1, math.ceil(count / MOST_POINTS))
    return np.arange(round(which * every / max(among, 1)), count, every)


def _look(i: int) -> dict[str, Any]:
    return {"color": COLOURS[i % len(COLOURS)], "dashes": DASHES[i % len(DASHES)], "marker": MARKERS[i % len(MARKERS)]}


def _points(look: dict[str, Any]) -> dict[str, Any]:
    return {
        "color": look["color"], "marker": look["marker"], "linestyle": "none", "markersize": 3.8, "markerfacecolor": "white",
        "markeredgewidth": 0.9, "elinewidth": 0.9, "capsize": 1.8, "capthick": 0.9, "zorder": 3,
    }  # fmt: skip


def _legend(figure: Figure, results: Results) -> None:
    """The dynamics above, and below what a line and a point are."""
    from matplotlib.lines import Line2D

    shape: dict[str, Any] = {"linewidth": 1.4, "markersize": 3.8, "markerfacecolor": "white", "markeredgewidth": 0.9}
    handles = [Line2D([], [], label=name, **shape, **_look(i)) for i, name in enumerate(results)]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 5), frameon=False, handlelength=2.6)
    figure.supxlabel(caption(results), fontsize=8.5, color="0.35")


def caption(results: Results) -> str:
    """What a line and a point are, in one sentence."""
    notes = []
    if any(theory is not None for theory, _ in results.values()):
        notes.append(f"Lines: theory, band ±{BAND:g} standard errors.")
    runs = [runs.dataset.attrs for _, runs in results.values() if runs is not None]
    if runs:
        sizes = ", ".join(sorted({str(attrs["n_features"]) for attrs in runs if "n_features" in attrs}))
        notes.append("Points: real runs" + (f" at d = {sizes}" if sizes else "") + f", mean ±{BAND:g} standard errors.")
    return " ".join(notes)


def save(figure: Figure, path: str | os.PathLike[str], dpi: float = 200) -> None:
    """Write a figure (PNG, SVG or PDF, by the name's ending); the file appears whole or not at all.

    Raises:
        InputError: another ending, or a directory that does not exist.
    """
    path = Path(path)
    kind = path.suffix[1:].lower()
    if kind not in ("png", "svg", "pdf"):
        raise refuse("path", "end in .png, .svg or .pdf", str(path))
    if not path.parent.is_dir():
        raise InputError(f"`path` must be in an existing directory, but `{path.parent}` is not one (make it first)")
    # Without a date the same results give the same file.
    metadata = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    with replacing(path) as temporary, _style():
        figure.savefig(temporary, format=kind, dpi=dpi, metadata=metadata)


@contextmanager
def _style() -> Iterator[None]:
    """Serif text with matching mathematics, thin frames; the caller's settings come back afterwards."""
    import matplotlib as mpl

    with mpl.rc_context({
        "font.family": "STIXGeneral", "mathtext.fontset": "stix", "font.size": 9.5, "axes.labelsize": 10, "legend.fontsize": 9.5,
        "axes.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False, "axes.formatter.use_mathtext": True,
        "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.direction": "out", "ytick.direction": "out",
        "xtick.major.size": 3, "ytick.major.size": 3, "svg.fonttype": "path", "svg.hashsalt": "sgdlimit",
    }):  # fmt: skip
        yield
