"""Which pictures a result makes: one panel for each distinct entry of its curves, and how the panel's axis is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import xarray as xr

from ..errors import InputError
from ..show.heat import Axis, Heat, either_sign
from ..show.looks import BAND, Curve
from .schema import ALONG, CURVES, entries

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PANELS = 20
CURVES_DRAWN = ("test_risk", "train_risk", "trained", "overlap", "self_overlap")  # in this order, where there are any


class Shown(Protocol):
    """What has curves: a `Solution` or a `Simulation`."""

    @property
    def dataset(self) -> xr.Dataset: ...


Pairs = Mapping[str, tuple[Shown | None, Shown | None]]  # theory and real runs of each dynamics, by its name


@dataclass(frozen=True)
class Panel:
    """One observable's entry: where it stands in the dataset and how its axis is called (`label` in TeX, `text` plain)."""

    curve: str
    index: dict[str, int]
    label: str
    text: str

    def values(self, result: Shown) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Times, curve and standard error `(time,)`."""
        ds = result.dataset
        return ds["time"].values, ds[self.curve].isel(self.index).values, ds[f"{self.curve}_se"].isel(self.index).values

    def drawn(self, results: Pairs) -> list[Curve]:
        """What to draw here of all results, real runs after their theory."""
        found = []
        for i, (name, (theory, runs)) in enumerate(results.items()):
            if theory is not None:
                found.append(Curve(*self.values(theory), i, name))
            if runs is not None:
                found.append(Curve(*self.values(runs), i, name, measured=True).thinned(i, len(results)))
        return found


def panels(results: Pairs) -> list[Panel]:
    """What to draw: both risks, then every distinct entry of both overlaps, diagonals first where there are too many."""
    return panels_of(first(results).dataset)


def panels_of(ds: Any) -> list[Panel]:
    """What to draw of a dataset of these sizes; it may be empty."""
    found = [_panel(ds, curve, index) for curve in CURVES_DRAWN if curve not in ALONG or curve in ds for _, index in entries(ds, curve)]
    if len(found) <= MOST_PANELS:
        return found
    return sorted(found, key=lambda panel: len(set(panel.index.values())) > 1)[:MOST_PANELS]


def first(results: Pairs) -> Shown:
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
    single = all(ds.sizes[dim] == 1 for dim in (CURVES | ALONG)[curve][1:])
    if curve == "trained":
        i = "".join("" if single else str(i + 1) for i in index.values())
        return Panel(curve, index, rf"trained $a_{{{i}}}$", f"trained a{i}")
    a, b = ("", "") if single else (str(i + 1) for i in index.values())
    if curve == "overlap":
        return Panel(curve, index, rf"overlap $\mathrm{{E}}[w_{{{a}}} \, r^\star_{{{b}}}\!]$", f"overlap E[w{a} r*{b}]")
    if a == b:
        return Panel(curve, index, rf"self-overlap $\mathrm{{E}}[w_{{{a}}}^2]$", f"self-overlap E[w{a}²]")
    return Panel(curve, index, rf"self-overlap $\mathrm{{E}}[w_{{{a}}} w_{{{b}}}]$", f"self-overlap E[w{a} w{b}]")


def draw(axis: Axes, panel: Panel, results: Pairs) -> Axes:
    """Draw one observable of all results into `axis`."""
    from ..show import paper

    for curve in panel.drawn(results):
        paper.curve(axis, curve, named=False)
    axis.set_ylabel(panel.label)
    axis.margins(x=0.02)
    return axis


def kernel(ds: xr.Dataset, name: str, entry: tuple[int, int]) -> Heat:
    """A two-time kernel's entry `(student, student_)` over both times, the earlier one upwards; the response is zero before its kick."""
    times = ds["time"].values
    value, triangle = ds[name].isel(student=entry[0], student_=entry[1]).values.T, name == "response"
    x, y = (Axis("time", label, False, times) for label in ("time $t$", "earlier time $s$" if triangle else "time $s$"))
    return Heat(x, y, value, either_sign(np.triu(value) if triangle else value), triangle, smooth=True)


def caption(results: Pairs) -> str:
    """What a line and a point are, in one sentence."""
    notes = []
    if any(theory is not None for theory, _ in results.values()):
        notes.append(f"Lines: theory, band ±{BAND:g} standard errors.")
    runs = [runs.dataset.attrs for _, runs in results.values() if runs is not None]
    if runs:
        sizes = ", ".join(sorted({str(attrs["n_features"]) for attrs in runs if "n_features" in attrs}))
        notes.append("Points: real runs" + (f" at d = {sizes}" if sizes else "") + f", mean ±{BAND:g} standard errors.")
    return " ".join(notes)
