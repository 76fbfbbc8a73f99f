"""Which points a sweep has: its axes, and the design laid over them.

    [sweep]
    design = "grid"                     # or "list", "random", "latin_hypercube"
    epochs = 20                         # in place of run.horizon: each point trains so many epochs

    [sweep.axes]
    "dynamics.step" = { from = 0.1, to = 3.0, points = 20, scale = "log" }
    "problem.sample_ratio" = [0.5, 1.0, 2.0]

An axis names a numeric field of the settings as the file has it. A grid takes all combinations and has one dimension per axis; a
"list" takes the first values of all axes, the second ones, and so on; the other two draw `points` of them between each axis's ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field, ValidationError

from ..errors import InputError, refuse
from ..settings.sections import Section, refusal
from ..settings.training import Count, Positive

INTEGERS = ("n_features", "batch_size", "repeats", "seed", "classes", "most")  # fields whose values must be whole
TAKEN = ("time", "epoch", "fraction", "student", "student_", "teacher", "dynamics", "point", "horizon", "seconds", "status", "status_code")
MOST_POINTS = 10**7

Scale = Literal["linear", "log"]


class AxisSpec(Section):
    place = ("sweep", "axes")
    model_config = ConfigDict(populate_by_name=True)
    start: Annotated[float, Field(alias="from")]
    to: float
    points: Annotated[int, Field(ge=2)] | None = None
    scale: Scale = "linear"


class SweepSpec(Section):
    place = ("sweep",)
    axes: dict[str, Any]
    design: Literal["grid", "list", "random", "latin_hypercube"] = "grid"
    points: Count | None = None
    epochs: Positive | None = None
    theory: bool | list[str] = True
    simulation: bool | list[str] | None = None


@dataclass(frozen=True)
class Axis:
    """One field that varies: its `name` in the store, and its values in the order of the axis (of the points, in other designs)."""

    field: str
    name: str
    values: tuple[float | int, ...]
    scale: Scale = "linear"


@dataclass(frozen=True)
class Design:
    """The points of a sweep. In a grid the last axis varies fastest; elsewhere the only dimension is `point`."""

    kind: str
    axes: tuple[Axis, ...]

    @property
    def grid(self) -> bool:
        return self.kind == "grid"

    @property
    def dims(self) -> tuple[str, ...]:
        return tuple(axis.name for axis in self.axes) if self.grid else ("point",)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(axis.values) for axis in self.axes) if self.grid else (len(self.axes[0].values),)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def indices(self) -> Iterator[tuple[int, ...]]:
        return product(*map(range, self.shape))

    def at(self, index: tuple[int, ...]) -> dict[str, float | int]:
        """The point's values by field."""
        places = index if self.grid else index * len(self.axes)
        return {axis.field: axis.values[i] for axis, i in zip(self.axes, places, strict=True)}

    def corners(self) -> Iterator[dict[str, float | int]]:
        """Points at which a mistake in an axis shows: the least and the largest value of each, with the first of the others."""
        first = self.at(tuple(0 for _ in self.shape))
        yield first
        for axis in self.axes:
            for value in {min(axis.values), max(axis.values)} - {first[axis.field]}:
                yield {**first, axis.field: value}

    def describe(self) -> dict[str, Any]:
        return {"design": self.kind, "axes": {axis.field: list(axis.values) for axis in self.axes}}


def read_section(raw: Any) -> SweepSpec:
    """The `[sweep]` section of a file, checked but for its axes."""
    try:
        return SweepSpec.model_validate(raw)
    except ValidationError as e:
        raise refusal(e, ("sweep",)) from None


def lay(spec: SweepSpec, seed: int) -> Design:
    """The points that a section asks for; `seed` draws those of the random designs.

    Raises:
        InputError: an axis or the design is wrong, in words.
    """
    if not spec.axes:
        raise InputError(
            '`sweep.axes` must have at least one entry, but is empty ("dynamics.step" = { from = 0.1, to = 3.0, points = 20 })'
        )
    drawn = spec.design in ("random", "latin_hypercube")
    if drawn and spec.points is None:
        raise InputError(f"`sweep.points` must be given for the {spec.design} design, but is missing (how many points to draw)")
    if not drawn and spec.points is not None:
        raise refuse("sweep.points", "be left out of a grid or a list", spec.points, "each axis says its own; random designs draw so many")
    names = _names(list(spec.axes))
    entries = {field: _entry(field, value) for field, value in spec.axes.items()}
    if drawn:
        axes = _drawn(spec, entries, names, seed)
    else:
        axes = [
            Axis(field, names[field], _values(field, entry), entry.scale if isinstance(entry, AxisSpec) else _guess_scale(entry))
            for field, entry in entries.items()
        ]
    if spec.design == "list" and len({len(axis.values) for axis in axes}) > 1:
        counts = ", ".join(f"{axis.name} {len(axis.values)}" for axis in axes)
        raise InputError(
            f"`sweep.axes` must have one number of values for the list design, but has {counts} (a grid takes all combinations)"
        )
    design = Design(spec.design, tuple(axes))
    if design.size > MOST_POINTS:
        raise refuse("sweep.axes", f"make at most {MOST_POINTS:,} points", design.size)
    return design


def _entry(field: str, value: Any) -> AxisSpec | list:
    place = f"sweep.axes.{field}"
    if isinstance(value, AxisSpec):
        return value
    if isinstance(value, Mapping):
        try:
            entry = AxisSpec.model_validate(dict(value))
        except ValidationError as e:
            raise InputError(str(refusal(e, ("sweep", "axes"))).replace("sweep.axes", place, 1)) from None
        if entry.to == entry.start:
            raise refuse(f"{place}.to", "differ from `from`", entry.to, "a list with one value holds a field fixed")
        if entry.scale == "log" and not (entry.start > 0 and entry.to > 0):
            raise refuse(place, "lie above zero on a logarithmic scale", [entry.start, entry.to], 'scale = "linear" takes any')
        return entry
    value = value.tolist() if isinstance(value, np.ndarray) else list(value) if isinstance(value, tuple | range) else value
    numbers = isinstance(value, list) and all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in value)
    if not numbers or not value:
        raise refuse(place, "be a list of numbers, or a table with from, to and points", value)
    if len(set(value)) < len(value):
        raise refuse(place, "have each value once", value)
    return value


def _values(field: str, entry: AxisSpec | list) -> tuple[float | int, ...]:
    if isinstance(entry, list):
        return tuple(_number(field, value) for value in entry)
    if entry.points is None:
        raise InputError(
            f"`sweep.axes.{field}.points` must be given, but is missing (how many values from {entry.start:g} to {entry.to:g})"
        )
    spaced = np.geomspace if entry.scale == "log" else np.linspace
    values = tuple(_number(field, value) for value in spaced(entry.start, entry.to, entry.points).tolist())
    if len(set(values)) < len(values):
        raise refuse(f"sweep.axes.{field}.points", "leave each whole number once", entry.points, "ask for fewer points")
    return values


def _drawn(spec: SweepSpec, entries: dict[str, AxisSpec | list], names: dict[str, str], seed: int) -> list[Axis]:
    from scipy.stats import qmc

    rng, size = np.random.default_rng([seed, 0x5EE9]), (spec.points or 0, len(entries))
    unit = qmc.LatinHypercube(size[1], rng=rng).random(size[0]) if spec.design == "latin_hypercube" else rng.random(size)
    axes = []
    for column, (field, entry) in zip(unit.T, entries.items(), strict=True):
        if isinstance(entry, list) or entry.points is not None:
            raise refuse(
                f"sweep.axes.{field}", f"have from and to, and no points of its own, in the {spec.design} design", spec.axes[field]
            )
        low, high = np.log([entry.start, entry.to]) if entry.scale == "log" else (entry.start, entry.to)
        values = low + column * (high - low)
        values = np.exp(values) if entry.scale == "log" else values
        axes.append(Axis(field, names[field], tuple(_number(field, value) for value in values.tolist()), entry.scale))
    return axes


def _number(field: str, value: float) -> float | int:
    return round(value) if field.rpartition(".")[2] in INTEGERS else float(value)


def _guess_scale(values: list) -> Scale:
    """Whether a picture of listed values wants a logarithmic axis: they are positive and grow by factors."""
    if len(values) < 3 or min(values) <= 0:
        return "linear"
    spread = lambda gaps: float(np.std(gaps) / np.abs(np.mean(gaps)))
    return "log" if spread(np.diff(np.log(values))) < spread(np.diff(values)) else "linear"


def _names(fields: list[str]) -> dict[str, str]:
    """Short names for the store: the last part of a field, or more of it where that is taken."""
    short = {field: field.rpartition(".")[2] for field in fields}
    clear = lambda name: list(short.values()).count(name) == 1 and name not in TAKEN
    return {field: name if clear(name) else field.replace(".", "_").replace("[", "_").replace("]", "") for field, name in short.items()}
