"""A sweep's store as pictures need it: one number per point, how each point ended, and which axis is drawn where."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ..errors import InputError, nearest, refuse
from ..show.heat import Axis, Heat, Mark, Scale, least_bright
from .store import CLOCKS, PREFIX

BEST_IS_MOST = ("angle", "overlap")  # of the rest, the least is best


@dataclass(frozen=True)
class Panel:
    """One dynamics over the axes drawn, first `y` and then `x` (if there are two), or over points.

    Attributes:
        title: the dynamics; says so where the numbers are of real runs.
        value, se: what is drawn, and its standard error (NaN where there is none).
        code: how each computation ended; empty where there is none.
        curves, curves_se: `(..., clock)`, the curve over time behind the value.
    """

    title: str
    value: np.ndarray
    se: np.ndarray
    code: np.ndarray
    curves: np.ndarray
    curves_se: np.ndarray


@dataclass(frozen=True)
class Reading:
    """What pictures show; `held` says which axes are held fixed and where."""

    axes: tuple[Axis, ...]
    panels: tuple[Panel, ...]
    grid: bool
    clock: Axis
    quantity: str  # what the value is, for a label
    curve: str  # and the curve's own name
    most: bool  # whether the largest value is the best
    risk: bool  # whether it is a risk, which training may leave higher than it was
    held: str


def read(path: Path, show: str = "test_risk", at: float | None = None, reach: float | None = None, fix: Sequence[str] = ()) -> Reading:
    """Read what is there of a sweep, finished or not.

    Arguments:
        path: the store.
        show: a curve, by the name that theory has in the store; of a matrix its first entry.
        at: the time, epoch or fraction at which it is read, the last one if None.
        reach: read instead when the curve first falls to this value.
        fix: `NAME=VALUE` for axes held fixed. Of more than two the last ones are held in their middle.

    Raises:
        InputError: no sweep is there, or it has no such curve, time or axis.
    """
    ds = _opened(path)
    scales = json.loads(ds.attrs["axes"])
    grid = ds.attrs["design"] == "grid"
    clock = next(name for name in CLOCKS if name in ds.dims)
    names, held = list(scales), []
    for name, value in map(_fixed, fix):
        if name not in names:
            raise refuse("--fix", "name an axis", name, nearest(name, names))
        if not grid:
            raise refuse("--fix", "be left out where points are no grid", f"{name}={value:g}")
        found = float(ds[name].sel({name: value}, method="nearest"))
        ds, held = ds.sel({name: found}), [*held, f"{name} = {found:.3g}"]
        names.remove(name)
    for name in names[2:] if grid else []:
        found = float(ds[name][ds.sizes[name] // 2])
        ds, held = ds.sel({name: found}), [*held, f"{name} = {found:.3g}"]
    names = names[:2]
    if not names:
        raise InputError("`--fix` must leave an axis to draw, but leaves none")
    # What one chooses in training goes upwards, and the best of it is sought for each value of the other.
    names.sort(key=lambda name: not scales[name]["field"].startswith("dynamics."))
    axes = tuple(Axis(name, _label(name), scales[name]["scale"] == "log", ds[name].values) for name in names)
    along = [*names, clock] if grid else ["point", clock]
    times = Axis(clock, CLOCKS[clock], False, ds[clock].values)
    panels = []
    for part in ds["dynamics"].values.tolist() if "dynamics" in ds.dims else [""]:
        panels += _panel(ds.sel(dynamics=part) if part else ds, part, show, along, times, at, reach)
    if not panels:
        known = sorted(str(name) for name in ds.data_vars if clock in ds[name].dims and not str(name).endswith("_se"))
        raise refuse("--show", "name a curve of the store", show, nearest(show, known) if show not in known else "nothing is computed yet")
    spoken = show.replace("_", " ")
    if reach is not None:
        quantity = f"{CLOCKS[clock]} to {spoken} {reach:g}"
    else:
        quantity = f"{spoken} at {_short(clock)} {_at(times, at)[1]:.3g}" if at is not None else f"{spoken} at the end"
    most = show in BEST_IS_MOST and reach is None
    risk = show.endswith("risk") and reach is None
    return Reading(axes, tuple(panels), grid, times, quantity, spoken, most, risk, ", ".join(held))


def _opened(path: Path) -> xr.Dataset:
    if not path.is_dir():
        raise InputError(f"`DIR.zarr` must be the store of a sweep, but `{path}` does not exist (sgdlimit sweep makes one)")
    try:
        ds = xr.open_zarr(path)
    except (OSError, ValueError, KeyError) as e:
        raise InputError(f"`DIR.zarr` must be the store of a sweep, but `{path}` cannot be read: {e}") from None
    if "axes" not in ds.attrs or "design" not in ds.attrs:
        raise InputError(f"`DIR.zarr` must be the store of a sweep, but `{path}` is another Zarr store")
    return ds


def _panel(ds: xr.Dataset, part: str, show: str, along: list[str], clock: Axis, at: float | None, reach: float | None) -> list[Panel]:
    """Theory where there is any of this dynamics, or else real runs."""
    for kind, prefix in PREFIX.items():
        name = prefix + show
        if name not in ds or clock.name not in ds[name].dims or f"{prefix}status_code" not in ds:
            continue
        code = ds[f"{prefix}status_code"].transpose(*along[:-1]).values
        if (code == "").all():
            continue
        matrix = {dim: 0 for dim in ds[name].dims if dim not in along}
        curves, se = (ds[one].isel(matrix).transpose(*along).values for one in (name, f"{name}_se"))
        if reach is None:
            place = _at(clock, at)[0]
            value, error = curves[..., place], se[..., place]
        else:
            value = np.apply_along_axis(lambda curve: _first_below(clock.values, curve, reach), -1, curves)
            error = np.full_like(value, np.nan)
        title = f"{part or 'theory'}" if kind == "theory" else f"{part}, real runs".removeprefix(", ")
        return [Panel(title, value, error, code, curves, se)]
    return []


def _at(clock: Axis, at: float | None) -> tuple[int, float]:
    place = len(clock.values) - 1 if at is None else int(np.argmin(np.abs(clock.values - at)))
    if at is not None and not clock.values[0] <= at <= clock.values[-1] * (1 + 1e-9):
        raise refuse("--at", f"lie between {clock.values[0]:g} and {clock.values[-1]:g}", at, clock.label)
    return place, float(clock.values[place])


def _first_below(times: np.ndarray, curve: np.ndarray, level: float) -> float:
    """When a curve first falls to a level, linear between the times it is known at; NaN if it does not."""
    below = np.flatnonzero(curve <= level)
    if not len(below):
        return float("nan")
    i = int(below[0])
    if i == 0:
        return float(times[0])
    part = (curve[i - 1] - level) / (curve[i - 1] - curve[i])
    return float(times[i - 1] + part * (times[i] - times[i - 1]))


def _fixed(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        raise refuse("--fix", "be NAME=VALUE", text, "for example sample_ratio=2") from None


def _label(name: str) -> str:
    known = {"step": r"step $\eta$", "sample_ratio": r"samples per feature $n/d$", "horizon": "horizon $t$"}
    return known.get(name, name.replace("_", " "))


def _short(clock: str) -> str:
    return {"time": "t =", "epoch": "epoch", "fraction": "fraction"}[clock]


def best(panel: Panel, most: bool) -> np.ndarray:
    """Index of the best value along the first axis, for each place of the second `(columns,)`; -1 where there is none."""
    value = np.where(panel.code == "diverged", np.nan, -panel.value if most else panel.value)
    value = np.where(np.isfinite(value), value, np.inf)
    return np.where(np.isfinite(value).any(0), value.argmin(0), -1)


def ridge(panel: Panel, axis: Axis, most: bool) -> tuple[np.ndarray, np.ndarray]:
    """Where along the first axis the best value is, for each place of the second `(columns,)`, between its neighbours by a parabola; and
    whether it is inside, not at an end of the axis, beyond which there may be better. NaN where there is none."""
    at = best(panel, most)
    place = np.log(axis.values) if axis.log else axis.values
    found, inside = np.full(len(at), np.nan), np.zeros(len(at), bool)
    for column, i in enumerate(at):
        if i < 0:
            continue
        found[column] = place[i]
        near = panel.value[i - 1 : i + 2, column] if i > 0 else np.array([])
        if len(near) == 3:
            inside[column] = True
            if np.isfinite(near).all() and (panel.code[i - 1 : i + 2, column] != "diverged").all():
                a, b, _ = np.polyfit(place[i - 1 : i + 2] - place[i], near, 2)
                if a != 0:
                    found[column] = place[i] + np.clip(-0.5 * b / a, place[i - 1] - place[i], place[i + 1] - place[i])
    return (np.exp(found) if axis.log else found), inside


def sorted_axes(reading: Reading) -> Reading:
    """The same with every axis of a grid in increasing order: a list may have any."""
    if not reading.grid:
        return reading
    orders = [np.argsort(axis.values) for axis in reading.axes]
    axes = tuple(replace(axis, values=axis.values[order]) for axis, order in zip(reading.axes, orders, strict=True))
    take: Any = np.ix_(*orders)
    panels = tuple(Panel(p.title, p.value[take], p.se[take], p.code[take], p.curves[take], p.curves_se[take]) for p in reading.panels)
    return replace(reading, axes=axes, panels=panels)


def heat_maps(reading: Reading) -> list[Heat]:
    """A map of each panel, over two axes, on common colours.

    The line follows the best value for each place of the horizontal axis, open where it is at the map's end. Beyond the border a risk ends
    above its start; hatched is where training diverges. Dots are less accurate than was asked for, crosses failed.
    """
    (y, x), scale = reading.axes, value_scale(reading)
    found = []
    for panel in reading.panels:
        failed = panel.code == "failed"
        rough = (panel.code == "inaccurate") & np.isfinite(panel.value)
        line = ridge(panel, y, reading.most) if reading.grid and len(y.values) > 2 else None
        line = line if line is not None and np.isfinite(line[0]).any() else None
        marks: dict[Mark, np.ndarray] = {"hatched": panel.code == "diverged", "dot": rough, "cross": failed}
        found.append(Heat(x, y, _reached(panel), scale, marks=marks, border=_worse(reading, panel), line=line))
    return found


def value_scale(reading: Reading) -> Scale:
    """Of the values of all panels."""
    return least_bright([_reached(panel) for panel in reading.panels])


def _reached(panel: Panel) -> np.ndarray:
    """Values where training does not diverge."""
    return np.where(panel.code == "diverged", np.nan, panel.value)


def _worse(reading: Reading, panel: Panel) -> np.ndarray | None:
    """How much higher a risk is than at the start, if that changes its sign within the map."""
    if not reading.grid or not reading.risk or min(panel.value.shape) < 2:
        return None
    gain = _reached(panel) - panel.curves[..., 0]
    crossed = np.isfinite(gain).sum() > 3 and np.nanmin(gain) < 0 < np.nanmax(gain)
    return gain if crossed else None
