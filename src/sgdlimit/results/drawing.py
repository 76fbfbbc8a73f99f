"""What `.plot()` of a result draws: one kind of result into one pair of axes, the user's own or new ones of pyplot.

Fonts and frames are left to the user's Matplotlib settings; colours, dashes and markers are those of `plot`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from ..errors import nearest, refuse
from ..plot import BAND, _look, _points, points_shown
from .compare import Comparison
from .laws import LawComparison
from .result import KERNELS, Result, Simulation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..recommend import Recommendation

DEFAULT = ("test_risk", "train_risk")
GOOD, BAD = "#009E73", "#D55E00"

# Which colour a curve got in which axes, so that real runs get that of their theory, and another dynamics another one.
_GIVEN: WeakKeyDictionary[Any, dict[tuple[str, ...], int]] = WeakKeyDictionary()


def axes(ax: Axes | None) -> Axes:
    """`ax`, or the axes of a new pyplot figure."""
    if ax is None:
        from matplotlib import pyplot

        return pyplot.subplots(figsize=(5.4, 3.5), layout="constrained")[1]
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise refuse("ax", "be Matplotlib axes", ax, "fig, ax = pyplot.subplots(); result.plot(ax=ax)")
    return ax


def curves(result: Result, names: Sequence[str], ax: Axes | None = None, label: str | None = None) -> Axes:
    """Curves over time, see `Result.plot`."""
    ds = result.dataset
    known = [str(name) for name, value in ds.data_vars.items() if f"{name}_se" in ds and name not in KERNELS and "time" in value.dims]
    for name in names:
        if name in KERNELS:
            raise refuse("curves", "be curves over one time", name, "sl.plot.two_time(solution) draws the two-time kernels")
        if name not in known:
            raise refuse("curves", "be in `result.dataset` with a standard error", name, nearest(str(name), known))
    drawn = [(name, index, text) for name in names or DEFAULT for index, text in _entries(ds, name)]
    axis, who = axes(ax), ds.attrs.get("dynamics", type(result).__name__) if label is None else label
    given = _GIVEN.setdefault(axis, {})
    for name, index, text in drawn:
        look = _look(given.setdefault((who, text), len(given)))
        time, value, se = ds["time"].values, ds[name].isel(index).values, ds[f"{name}_se"].isel(index).values
        called = who if label is not None and len(drawn) == 1 else f"{text}, {who}"
        if isinstance(result, Simulation):
            keep = points_shown(len(time), 0, 1)
            axis.errorbar(time[keep], value[keep], BAND * se[keep], label=f"{called}, real runs", **_points(look))
        else:
            axis.fill_between(time, value - BAND * se, value + BAND * se, color=look["color"], alpha=0.22, linewidth=0)
            axis.plot(time, value, color=look["color"], dashes=look["dashes"], linewidth=1.4, label=called)
    axis.set_xlabel("time $t$")
    if not axis.get_ylabel():
        axis.set_ylabel(drawn[0][2] if len(drawn) == 1 else _common(names or DEFAULT))
    axis.legend(frameon=False, fontsize="small" if len(given) > 3 else None)
    return axis


def _entries(ds: Any, name: str) -> list[tuple[dict[str, int], str]]:
    """The entries of a curve, of a symmetric matrix each once, with what to call them; directions count from one, as papers do."""
    value, spoken = ds[name], name.replace("_", " ")
    dims = [dim for dim in value.dims if dim != "time"]
    sizes = [value.sizes[dim] for dim in dims]
    found = []
    for place in np.ndindex(*sizes):
        if dims == ["student", "student_"] and place[0] > place[1]:
            continue
        where = "" if all(size == 1 for size in sizes) else " " + ",".join(str(i + 1) for i in place)
        found.append((dict(zip(dims, place, strict=True)), spoken + where))
    return found


def _common(names: Sequence[str]) -> str:
    return "risk" if all(name.endswith("risk") for name in names) else ", ".join(name.replace("_", " ") for name in names)


def comparison(found: Comparison, ax: Axes | None = None) -> Axes:
    """How much of what chance explains each observable uses up, see `Comparison.plot`."""
    rows = [(f"{row.observable.replace('_', ' ')}, t = {row.time:.3g}", row.excess, row.allowed, row.agree) for row in found.table]
    return _bars(rows, axes(ax), f"joint standard errors beyond {found.allowance:.2%} of scale")


def law_comparison(found: LawComparison, ax: Axes | None = None) -> Axes:
    """Distances between laws, see `LawComparison.plot`."""
    rows = [(f"{row.law}, t = {row.time:.3g}", row.ks, row.allowed, row.agree) for row in found.table]
    return _bars(rows, axes(ax), "Kolmogorov-Smirnov distance")


def _bars(rows: Sequence[tuple[str, float, float, bool]], axis: Axes, what: str) -> Axes:
    """One bar a row, with a mark where chance ends; what has no bound, as an exact start has, ends at the frame."""
    names, values, bounds, agree = (list(column) for column in zip(*rows, strict=True))
    places = np.arange(len(rows))
    finite = [x for x in (*values, *bounds) if np.isfinite(x)]
    most = 1.15 * max(finite, default=0.0) or 1.0
    for good, label in ((True, "agrees"), (False, "does not agree")):
        which = [i for i in places if bool(agree[i]) == good]
        if which:
            widths = [min(values[i], most) for i in which]
            axis.barh(which, widths, 0.5, label=label, color=GOOD if good else BAD, edgecolor="white", hatch="" if good else "///")
    axis.plot(bounds, places, linestyle="none", marker="|", markersize=14, markeredgewidth=1.6, color="0.45", label="chance explains")
    axis.set(xlim=(0.0, most), xlabel=what, yticks=places, ylim=(len(rows) - 0.4, -0.6))
    axis.set_yticklabels(names)
    axis.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return axis


def recommendation(found: Recommendation, ax: Axes | None = None) -> Axes:
    """Expected risks by epoch, see `Recommendation.plot`."""
    axis, expected = axes(ax), found.expected
    for i, name in enumerate(("test", "train")):
        look = _look(i)
        axis.fill_between(
            expected["epoch"], expected[f"{name}_low"], expected[f"{name}_high"], color=look["color"], alpha=0.22, linewidth=0
        )
        axis.plot(
            expected["epoch"], expected[name], color=look["color"], dashes=look["dashes"], linewidth=1.4, label=f"{name} risk, expected"
        )
        if found.verification is not None:
            measured = found.scale * getattr(found.verification.trained, name)[:, : len(expected["epoch"])]
            mean = np.where(np.isfinite(measured).all(0), measured.mean(0), np.nan)
            keep = points_shown(len(mean), i, 2)
            axis.plot(expected["epoch"][keep], mean[keep], label=f"{name} risk, measured", **_dots(look))
    axis.axvline(found.advice.epochs, color="0.5", linestyle=":", linewidth=1.2, label=f"stop after {found.advice.epochs}")
    axis.locator_params(axis="x", integer=True)
    axis.set(xlabel="epoch", ylabel="log-loss" if found.loss == "logistic" else "half squared error")
    axis.legend(frameon=False)
    return axis


def _dots(look: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in _points(look).items() if key not in ("elinewidth", "capsize", "capthick")}
