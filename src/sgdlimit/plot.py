"""Figures for papers: theory as lines with bands, real runs as points with bars, one colour, dash and marker per dynamics.

    figure = plot.curves({"SGD": (theory, runs), "gradient flow": (other, None)})
    plot.save(figure, "curves.png")

`weights` and `margins` show laws, `two_time` the kernels.

Matplotlib's object interface is used throughout, so nothing here opens a window or changes the user's settings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError, refuse
from .results import Simulation, Solution
from .results.laws import DRAWN, chosen_times, drawn, signs
from .results.panels import Pairs, Panel, caption, draw, kernel, panels
from .show.densities import density, edges, histogram
from .show.looks import COLOURS, DASHES
from .show.paper import colour_bar, heat, legend_above, save, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Panel", "caption", "curves", "draw", "margins", "panels", "save", "two_time", "weights"]


def curves(results: Pairs, title: str | None = None) -> Figure:
    """One panel per observable, one legend above all.

    Arguments:
        results: `{name: (theory, runs)}`, either may be None. All of one problem.
        title: above the legend; papers want none.

    Returns:
        matplotlib Figure; `save` writes it.
    """
    with style():
        from .show.picture import Picture

        shown = panels(results)
        columns = 2 if len(shown) <= 4 else min((3, 4), key=lambda c: -len(shown) % c)
        rows = math.ceil(len(shown) / columns)
        figure = Picture(figsize=(3.0 * columns + 0.4, 2.2 * rows + (1.0 if title else 0.75)))
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
        legend_above(figure, list(results))
        figure.supxlabel(caption(results), fontsize=8.5, color="0.35")
        if title:
            figure.suptitle(title)
    return figure


# --- laws ------------------------------------------------------------------------------------------------------------------


def weights(theory: Solution | None, runs: Simulation | None = None, times: Any = None, n: int = DRAWN) -> Figure:
    """The law of a weight: histograms of real runs under theory's density, a column per time and a row per student direction.

    Arguments:
        theory, runs: of one problem and dynamics, from this session; either may be None.
        times: output times of both; by default three of those they share.
        n: theory's paths behind its density, and at most as many of the runs.

    Returns:
        matplotlib Figure; `save` writes it.
    """
    at = chosen_times(theory, runs, times)
    show = lambda paths: {"theory": paths[0]["theta"].values}
    return _laws(theory, runs, at, n, show, r"weight $\theta{}$")


def margins(theory: Solution | None, runs: Simulation | None = None, times: Any = None, n: int = DRAWN) -> Figure:
    """The law of a training sample's margin `y r` (labels -1 and 1), or else of its pre-activation `r`; dashed that of a fresh
    sample, from which it departs as training fits the noise. Arguments as for `weights`."""
    at, found = chosen_times(theory, runs, times), []

    def show(paths):
        sign = signs(paths[1])
        found.append(sign is not None)
        factor = 1.0 if sign is None else sign[:, None, None]
        return {name: factor * paths[1][key].values for name, key in (("theory", "r"), ("fresh", "w")) if key in paths[1]}

    return _laws(theory, runs, at, n, show, lambda: r"margin $y \, r{}$" if all(found) else "pre-activation $r{}$")


def two_time(solution: Solution, entry: tuple[int, int] = (0, 0)) -> Figure:
    """Heat maps of correlation and response at two times, of one entry of their matrices; the response is zero before its kick.

    Arguments:
        solution: what `solve` returned, or a file of it.
        entry: student directions `(student, student_)`, counted from zero.

    Returns:
        matplotlib Figure; `save` writes it.
    """
    ds = solution.dataset
    if "correlation" not in ds or ds.sizes["time"] < 2:
        raise InputError("`solution` must have two-time kernels, but has none (it must come from solve, with two times or more)")
    if not all(0 <= i < ds.sizes["student"] for i in entry):
        raise refuse("entry", f"be two numbers below {ds.sizes['student']}, the student directions", entry)
    with style():
        from .show.picture import Picture

        figure = Picture(figsize=(6.8, 2.9))
        figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.05, wspace=0.06)
        index = "" if ds.sizes["student"] == 1 else f"_{{{entry[0] + 1}{entry[1] + 1}}}"
        for axis, name, symbol in zip(figure.subplots(1, 2), ("correlation", "response"), "CR", strict=True):
            drawn = kernel(ds, name, entry)
            mesh = heat(axis, drawn)
            axis.locator_params(nbins=5)
            axis.set(xlabel=drawn.x.label, ylabel=drawn.y.label, aspect="equal")
            axis.set_title(f"{name} ${symbol}{index}(t, s)$", fontsize=10)
            colour_bar(figure, mesh, drawn.scale, ax=axis, shrink=0.82)
    return figure


def _laws(theory, runs, times: np.ndarray, n: int, show: Any, label: Any) -> Figure:
    """A grid of densities; `show` picks what of the paths to draw, `(path, time, student)`, with a place for an index in `label`."""
    limit = show(drawn(theory, times, n)) if theory is not None else {}
    real = show(drawn(runs, times, n))["theory"] if runs is not None else None
    label = label() if callable(label) else label
    one = next(iter(limit.values())) if limit else real
    assert one is not None
    k = one.shape[2]
    with style():
        from .show.picture import Picture

        figure = Picture(figsize=(2.25 * len(times) + 0.5, 1.8 * k + 0.8))
        figure.set_layout_engine("constrained", w_pad=0.04, h_pad=0.05)
        axes = figure.subplots(k, len(times), squeeze=False, sharex="row", sharey="row")
        for i in range(k):
            bins = edges([*limit.values(), *([real] if real is not None else [])], i)
            for j, axis in enumerate(axes[i]):
                _densities(axis, {name: values[:, j, i] for name, values in limit.items()}, None if real is None else real[:, j, i], bins)
                axis.set_xlabel(label.replace("{}", "" if k == 1 else f"_{i + 1}"))
                if i == 0:
                    axis.set_title(f"$t = {times[j]:.3g}$", fontsize=10)
            axes[i, 0].set_ylabel("density")
            axes[i, 0].set_ylim(bottom=0)  # when all of the row is drawn: it ends the automatic choice of the top
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=3, frameon=False)
    return figure


def _densities(axis: Axes, limit: Mapping[str, np.ndarray], real: np.ndarray | None, bins: np.ndarray) -> None:
    if real is not None:
        axis.stairs(histogram(real, bins), bins, fill=True, color=COLOURS[0], alpha=0.3, linewidth=0, label="real runs")
    places = np.linspace(bins[0], bins[-1], 401)
    looks = {"theory": {"color": COLOURS[1], "linewidth": 1.4}, "fresh": {"color": "0.35", "linewidth": 1.0, "dashes": DASHES[1]}}
    for name, values in limit.items():
        axis.plot(places, density(values, places), label={"fresh": "theory, fresh sample"}.get(name, name), **looks[name])
    axis.set_xlim(bins[0], bins[-1])
