"""What `.plot()`, a page and notebooks show of tuned numbers and of a tuned schedule."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..show import html, paper, words
from ..show.looks import BAND, Curve, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LAST = "solves around the best"
FIRST = "rough search"
SHOWN = 4.0  # times the rise to the second best half, what is drawn of the objective


def along(tuned: Any, ax: Any = None) -> Any:
    """The objective along each number, see `Tuned.plot`."""
    names = list(tuned.parameters)
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots(1, len(names), figsize=(4.2 * len(names) + 0.8, 3.4), layout="constrained", sharey=True)[1]
    axes = list(np.ravel(np.asarray(ax, dtype=object)))
    if len(axes) != len(names):
        raise InputError(f"`ax` must be as many axes as numbers were tuned, {len(names)}, but is {len(axes)}")
    for axis, name in zip(axes, names, strict=True):
        _number(paper.axes(axis), tuned, name)
    axes[0].set_ylabel(tuned.objective.replace("_", " "))
    above = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "ncols": 2, "columnspacing": 1.4}  # curves reach every corner
    axes[0].legend(frameon=False, fontsize="small", **above)
    return ax


def _number(axis: Axes, tuned: Any, name: str) -> None:
    rows = tuned.trials
    x, value, se = (rows[key].values for key in (name, "value", "value_se"))
    rough, good = np.arange(len(x)) < tuned.searched, np.isfinite(value)
    top = value[good].min() + SHOWN * max(float(np.median(value[good]) - value[good].min()), 4 * tuned.value_se)
    low, high = tuned.flat[name]
    if low < high:
        axis.axvspan(low, high, color="0.5", alpha=0.15, linewidth=0, label="flat within one standard error")
    shown = good & (value <= top)
    if name in tuned.profiles:
        axis.plot(
            *tuned.profiles[name],
            color=look(0)["color"],
            linewidth=1.2,
            label="the others at their best" if len(tuned.scales) > 1 else None,
        )
    axis.plot(x[shown & rough], value[shown & rough], label=FIRST, **paper.dots(look(4)))
    last = Curve(x[shown & ~rough], value[shown & ~rough], se[shown & ~rough], 0, LAST, measured=True)
    paper.curve(axis, last)
    if (~good).any():
        axis.plot(x[~good], np.full((~good).sum(), 1.0), "x", transform=axis.get_xaxis_transform(), color="0.4", clip_on=False,
                  label="diverges")  # fmt: skip
    axis.axvline(tuned.parameters[name], color="0.35", linestyle=":", linewidth=1.2)
    if tuned.scales[name][2] == "log":
        axis.set_xscale("log")
        paper.plain_ticks(axis.xaxis, tuned.scales[name][1] / tuned.scales[name][0])
    axis.set_xlim(*tuned.scales[name][:2])
    axis.set_xlabel(name)


def schedules(tuned: Any, ax: Axes | None = None) -> Axes:
    """The best schedule over the epochs, see `TunedSchedule.plot`."""
    axis = paper.axes(ax)
    times = np.linspace(0.0, tuned.horizon, 401)
    steps = np.array([tuned.schedule(float(t)) for t in times])
    drawn = [(f"{len(tuned.schedule.times)} knots", times, steps)]
    drawn += [(one.name, np.array(one.times), np.array(one.steps)) for one in tuned.rivals]
    for i, (name, times, steps) in enumerate(drawn):
        how = look(i)
        epochs = _epochs(times, steps, tuned.epochs)
        axis.plot(epochs, steps, color=how["color"], dashes=how["dashes"], linewidth=1.1 if i else 1.8, zorder=2 if i else 3, label=name)
        if not i:
            axis.plot(np.interp(tuned.schedule.times, times, epochs), tuned.schedule.steps, **paper.dots(how))
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    paper.plain_ticks(axis.yaxis, high / low)
    axis.set(xlabel="epoch", ylabel="step")
    axis.legend(frameon=False, fontsize="small")
    return axis


def _epochs(times: np.ndarray, steps: np.ndarray, total: float) -> np.ndarray:
    """How many epochs have passed at `times`; `total` at the last."""
    passed = np.concatenate([[0.0], np.cumsum(0.5 * (1.0 / steps[1:] + 1.0 / steps[:-1]) * np.diff(times))])
    return total * passed / passed[-1]


def figure(tuned: Any) -> Figure:
    """In the style of a paper."""
    from ..show.picture import Picture

    with paper.style():
        count = len(getattr(tuned, "parameters", "1"))
        made = Picture(figsize=(3.3 * count + 1.6, 2.8), layout="constrained")
        axes = made.subplots(1, count, squeeze=False, sharey=True)[0]
        tuned.plot(axes if count > 1 else axes[0])
    return made


# --- in a notebook, and on a page --------------------------------------------------------------------------------------------


def page_of_numbers(tuned: Any) -> str:
    first, *rest = str(tuned).splitlines()
    rows = [
        (name, words.spoken(value, tuned.parameters_se[name]), *(f"{end:.4g}" for end in tuned.flat[name]))
        for name, value in tuned.parameters.items()
    ]
    table = html.table(("number", "best", "flat from", "to"), rows)
    return html.frame(html.title(first), _verdict(tuned), picture(tuned), table, _lines(rest[len(rows) :]))


def page_of_schedule(tuned: Any) -> str:
    first, *_, last = str(tuned).splitlines()
    rows = [(one.name, words.spoken(one.value, one.value_se), words.spoken(one.above, one.above_se)) for one in tuned.rivals]
    table = html.table(("form, each tuned", "value", "above the best"), rows) if rows else ""
    settings = f"<pre style='white-space:pre-wrap'>{escape(tuned.schedule.settings())}</pre>"
    return html.frame(html.title(first), _verdict(tuned), picture(tuned), table, settings, _lines([last]))


def picture(tuned: Any) -> str:
    """An inline picture; nothing without Matplotlib."""
    if find_spec("matplotlib") is None:
        return ""
    count = len(getattr(tuned, "parameters", "1"))

    def draw(made: Any) -> None:
        axes = made.subplots(1, count, squeeze=False, sharey=True)[0]
        tuned.plot(axes if count > 1 else axes[0])

    return html.svg(draw, (2.6 * count + 2.4, 2.8), f"Bars are {BAND:g} standard errors. {tuned}")


def _verdict(tuned: Any) -> str:
    status = tuned.solution.status
    return html.verdict(status.code, status.message, html.GOOD if status.code == "done" else html.BAD)


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"<p style='margin:.3em 0;opacity:.8'>{escape(line.strip())}</p>" for line in lines)
