"""Figures for papers: theory as lines with bands, real runs as points with bars, one colour, dash and marker per dynamics.

    figure = plot.curves({"SGD": (theory, runs), "gradient flow": (other, None)})
    plot.save(figure, "curves.png")

`weights` and `margins` show laws, `two_time` the kernels.

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

from .errors import InputError, refuse
from .files import replacing
from .results import CURVES, Result, Simulation, Solution
from .results.compare import entries
from .results.laws import DRAWN, chosen_times, drawn, signs

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
BINS = 50

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
    return panels_of(first(results).dataset)


def panels_of(ds: Any) -> list[Panel]:
    """What to draw of a dataset of these sizes; it may be empty."""
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
    with _style():
        from .show.picture import Picture

        figure = Picture(figsize=(6.8, 2.9))
        figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.05, wspace=0.06)
        times = ds["time"].values
        index = "" if ds.sizes["student"] == 1 else f"_{{{entry[0] + 1}{entry[1] + 1}}}"
        for axis, name, symbol in zip(figure.subplots(1, 2), ("correlation", "response"), "CR", strict=True):
            values = ds[name].isel(student=entry[0], student_=entry[1]).values
            if name == "response":  # nothing before the kick: drawn mirrored, so that colours meet the diagonal, and covered
                values = np.tril(values) + np.tril(values, -1).T
            most = float(np.abs(values).max())
            colours = {"cmap": "RdBu_r", "vmin": -most, "vmax": most} if values.min() < -0.02 * most else {"cmap": "viridis"}
            mesh = axis.pcolormesh(times, times, values.T, shading="gouraud", rasterized=True, **colours)
            if name == "response":
                axis.fill(times[[0, 0, -1]], times[[0, -1, -1]], color="white", linewidth=0)
            axis.locator_params(nbins=5)
            axis.set(xlabel="time $t$", ylabel="earlier time $s$" if name == "response" else "time $s$", aspect="equal")
            axis.set_title(f"{name} ${symbol}{index}(t, s)$", fontsize=10)
            figure.colorbar(mesh, ax=axis, shrink=0.82).outline.set_linewidth(0.6)
    return figure


def _laws(theory, runs, times: np.ndarray, n: int, show: Any, label: Any) -> Figure:
    """A grid of densities; `show` picks what of the paths to draw, `(path, time, student)`, with a place for an index in `label`."""
    limit = show(drawn(theory, times, n)) if theory is not None else {}
    real = show(drawn(runs, times, n))["theory"] if runs is not None else None
    label = label() if callable(label) else label
    one = next(iter(limit.values())) if limit else real
    assert one is not None
    k = one.shape[2]
    with _style():
        from .show.picture import Picture

        figure = Picture(figsize=(2.25 * len(times) + 0.5, 1.8 * k + 0.8))
        figure.set_layout_engine("constrained", w_pad=0.04, h_pad=0.05)
        axes = figure.subplots(k, len(times), squeeze=False, sharex="row", sharey="row")
        for i in range(k):
            edges = _edges([*limit.values(), *([real] if real is not None else [])], i)
            for j, axis in enumerate(axes[i]):
                _densities(axis, {name: values[:, j, i] for name, values in limit.items()}, None if real is None else real[:, j, i], edges)
                axis.set_xlabel(label.replace("{}", "" if k == 1 else f"_{i + 1}"))
                if i == 0:
                    axis.set_title(f"$t = {times[j]:.3g}$", fontsize=10)
            axes[i, 0].set_ylabel("density")
            axes[i, 0].set_ylim(bottom=0)  # when all of the row is drawn: it ends the automatic choice of the top
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=3, frameon=False)
    return figure


def _edges(drawn: list[np.ndarray], student: int) -> np.ndarray:
    """Bins that hold all but a few in a thousand of all times, and are narrow against the narrowest law."""
    values = np.concatenate([one[:, :, student].ravel() for one in drawn])
    low, high = np.quantile(values, [0.001, 0.999])
    margin = 0.06 * (high - low) or 0.5
    inner = min(np.diff(np.quantile(one[:, j, student], [0.25, 0.75]))[0] for one in drawn for j in range(one.shape[1]))
    bins = int(np.clip(5 * (high - low) / max(inner, 1e-12), BINS, 3 * BINS))
    return np.linspace(low - margin, high + margin, bins + 1)


def _densities(axis: Axes, limit: Mapping[str, np.ndarray], real: np.ndarray | None, edges: np.ndarray) -> None:
    if real is not None:
        # Densities of all that was drawn, what lies outside the bins included.
        share = np.histogram(real, edges)[0] / (len(real) * np.diff(edges))
        axis.stairs(share, edges, fill=True, color=COLOURS[0], alpha=0.3, linewidth=0, label="real runs")
    places = np.linspace(edges[0], edges[-1], 401)
    looks = {"theory": {"color": COLOURS[1], "linewidth": 1.4}, "fresh": {"color": "0.35", "linewidth": 1.0, "dashes": DASHES[1]}}
    for name, values in limit.items():
        axis.plot(places, _density(values, places), label={"fresh": "theory, fresh sample"}.get(name, name), **looks[name])
    axis.set_xlim(edges[0], edges[-1])


def _density(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Kernel density estimate with Abramson's local widths, narrow at a peak and wide in the tails; a third wider than Silverman's
    rule, for a smooth line: the local widths take most of the bias away."""
    from scipy.stats import gaussian_kde, iqr

    spread = float(values.std())
    if spread == 0.0:
        return np.full(len(places), np.nan)  # all of it at one point
    inner = float(iqr(values)) / 1.34
    width = 1.2 * (min(spread, inner) if inner > 1e-3 * spread else spread) * len(values) ** -0.2
    pilot = np.interp(values, places, gaussian_kde(values, width / spread)(places))
    pilot = np.maximum(pilot, 1e-3 * pilot.max())
    widths = width * np.sqrt(np.exp(np.log(pilot).mean()) / pilot)
    kernels = np.exp(-0.5 * ((places[:, None] - values) / widths) ** 2) / widths
    return kernels.mean(1) / np.sqrt(2.0 * np.pi)


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
