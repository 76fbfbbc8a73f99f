"""What `.plot()` and notebooks show of one result.

Fonts and frames are left to the user's Matplotlib settings; colours, dashes and markers are those of `show`.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import xarray as xr

from ..errors import nearest, refuse
from ..show import html, paper, words
from ..show.looks import Curve
from .panels import Panel, caption, draw, panels
from .schema import KERNELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DEFAULT = ("test_risk", "train_risk")
MOST_PANELS = 6  # in a notebook

# Which look a curve got in which axes, so that real runs get that of their theory, and another dynamics another one.
_GIVEN: WeakKeyDictionary[Any, dict[tuple[str, ...], int]] = WeakKeyDictionary()


def curves(ds: xr.Dataset, names: Sequence[str], ax: Axes | None, who: str, label: str | None, measured: bool) -> Axes:
    """Curves over time, see `Result.plot`; `who` is what the legend calls the result, `label` what the user does."""
    known = [str(name) for name, value in ds.data_vars.items() if f"{name}_se" in ds and name not in KERNELS and "time" in value.dims]
    for name in names:
        if name in KERNELS:
            raise refuse("curves", "be curves over one time", name, "sl.plot.two_time(solution) draws the two-time kernels")
        if name not in known:
            raise refuse("curves", "be in `result.dataset` with a standard error", name, nearest(str(name), known))
    drawn = [(name, index, text) for name in names or DEFAULT for index, text in _entries(ds, name)]
    axis = paper.axes(ax)
    given = _GIVEN.setdefault(axis, {})
    for name, index, text in drawn:
        called = who if label is not None and len(drawn) == 1 else f"{text}, {who}"
        values = ds["time"].values, ds[name].isel(index).values, ds[f"{name}_se"].isel(index).values
        number = given.setdefault((who, text), len(given))
        paper.curve(axis, Curve(*values, number, f"{called}, real runs" if measured else called, measured).thinned(0, 1))
    axis.set_xlabel("time $t$")
    if not axis.get_ylabel():
        axis.set_ylabel(drawn[0][2] if len(drawn) == 1 else _common(names or DEFAULT))
    axis.legend(frameon=False, fontsize="small" if len(given) > 3 else None)
    return axis


def _entries(ds: xr.Dataset, name: str) -> list[tuple[dict[str, int], str]]:
    """The entries of a curve, of a symmetric matrix each once, with what to call them; directions count from one, as papers do."""
    value, spoken = ds[name], name.replace("_", " ")
    dims = [str(dim) for dim in value.dims if dim != "time"]
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


# --- in a notebook -----------------------------------------------------------------------------------------------------------


def page(result: Any) -> str:
    """Of a `Result`: curves, status, settings and diagnostics."""
    kind = "Real runs" if result.measured else "Theory"
    settings = dict(result.dataset.attrs)
    title = f"{kind}: {result.training}".removesuffix(": ")
    settings = {name: value for name, value in settings.items() if name not in ("dynamics", "average")}
    colour = html.GOOD if result.status.code == "done" else html.BAD
    settings.setdefault("horizon", float(result.dataset["time"].values[-1]))
    told = words.flat({"settings": settings, "diagnostics": dict(result.diagnostics)})
    verdict = html.verdict(result.status.code, result.status.message, colour)
    return html.frame(html.title(title), verdict, _pictures(result), html.more("Settings and diagnostics", told))


def _pictures(result: Any) -> str:
    """The first panels, small; nothing without Matplotlib."""
    if find_spec("matplotlib") is None:
        return ""
    results: Any = {"": (None, result) if result.measured else (result, None)}
    every = panels(results)
    shown, left = every[:MOST_PANELS], len(every) - MOST_PANELS
    columns = 2 if len(shown) <= 4 else 3

    def small(figure: Any) -> None:
        axes = figure.subplots(-(-len(shown) // columns), columns, squeeze=False, sharex=True).ravel()
        for axis, panel in zip(axes, shown, strict=False):
            draw(axis, panel, results)
        for i, axis in enumerate(axes):
            if i >= len(shown):
                axis.set_axis_off()
            elif i + columns >= len(shown):
                axis.set_xlabel("time $t$")
                axis.tick_params(labelbottom=True)

    note = caption(results) + (f" {left} more curves are in .dataset." if left > 0 else "")
    height = 1.7 * -(-len(shown) // columns) + 0.3
    return html.svg(small, (6.4, height), _spoken(result, shown)) + f"<div style='opacity:.75;font-size:.88em'>{escape(note)}</div>"


def _spoken(result: Any, shown: Sequence[Panel]) -> str:
    """The picture in words, for those who do not see it: each curve's last value."""
    values = ((panel.text, *panel.values(result)[1:]) for panel in shown)
    return "At the end: " + ", ".join(f"{text} {words.spoken(float(value[-1]), float(se[-1]))}" for text, value, se in values if len(value))
