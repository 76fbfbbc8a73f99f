"""A sweep, checked: its points, what is computed at each, on which grid of times, and what makes it this sweep and no other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import scipy

from ..errors import InputError, nearest, refuse
from ..learning.problem import Problem
from ..results import output_times
from ..settings import config as files
from ..settings.sections import placed
from ..simulate.core import plan as plan_simulation
from ..theory.checks import check_theory
from ..version import __version__
from .design import Design, SweepSpec, lay, read_section
from .recipe import ObjectRecipe, Recipe, SettingsRecipe, Work, object_recipe

Kind = Literal["theory", "simulation"]
KINDS: tuple[Kind, ...] = ("theory", "simulation")
POINTS = 41  # output times where none are given


def versions() -> str:
    """What bits depend on besides the settings."""
    return f"sgdlimit {__version__}, jax {jax.__version__}, numpy {np.__version__}, scipy {scipy.__version__}"


@dataclass(frozen=True)
class Unit:
    """One computation of a sweep: theory or real runs, of which dynamics, at which point."""

    kind: Kind
    part: int
    index: tuple[int, ...]


@dataclass(frozen=True)
class Shared:
    """What all points share, and workers get. Curves are kept along `clock`: "time", where all points have the same output times,
    "epoch", or the "fraction" of a horizon that varies; `grid` holds its values."""

    recipe: Recipe
    clock: str
    grid: np.ndarray
    epochs: float | None
    seed: int

    def times(self, work: Work) -> np.ndarray:
        """Output times of a computation."""
        scale = {"time": 1.0, "epoch": work.horizon / (self.epochs or 1.0), "fraction": work.horizon}[self.clock]
        return np.minimum(self.grid * scale, work.horizon)


@dataclass(frozen=True)
class Plan:
    """`wanted[kind]` tells for each dynamics of `parts` whether it is computed; `sizes` are `k`, `k_star` and how many numbers are trained
    along."""

    title: str
    shared: Shared
    design: Design
    parts: tuple[str, ...]
    wanted: dict[Kind, tuple[bool, ...]]
    sizes: tuple[int, int, int]
    described: dict[str, Any]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return tuple(kind for kind in KINDS if any(self.wanted[kind]))

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self.described, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def units(self) -> Iterator[Unit]:
        """All computations, in the order of the store."""
        for kind in self.kinds:
            for part, wanted in enumerate(self.wanted[kind]):
                if wanted:
                    yield from (Unit(kind, part, index) for index in self.design.indices())

    def in_order(self, units: list[Unit]) -> list[Unit]:
        """The order in which to compute: one of each sort that is likely to share compiled programs first, with unlike ones next to each
        other, so that workers that begin together compile different ones, and find the others' in the cache."""
        first, rest, seen = [], [], set()
        for unit in units:
            key = self._sort(unit)
            (rest if key in seen else first).append(unit)
            seen.add(key)
        first.sort(key=self._sort, reverse=True)
        bits = (len(first) - 1).bit_length()
        apart = sorted(range(len(first)), key=lambda i: f"{i:0{bits}b}"[::-1])  # neighbours in a list halved again and again
        return [first[i] for i in apart] + rest

    def _sort(self, unit: Unit) -> Any:
        """A guess at what decides on sizes: the number of jumps and the horizon, in halves of octaves, and all that is compiled in."""
        values = self.design.at(unit.index)
        plain = ("problem.sample_ratio", "run.horizon", "dynamics.step", "run.rtol", "run.seed", "dynamics.temperature")
        plain += ("problem.trained.rate", "problem.trained.start")
        plain += tuple(f"dynamics.optimizer.{name}" for name in ("memory", "second_memory", "decay", "eps"))
        octave = lambda field: round(2 * np.log2(values[field])) if values.get(field, 0) > 0 else 0
        horizon = octave("run.horizon")
        if self.shared.epochs is not None:
            horizon = octave("dynamics.step") + octave("problem.sample_ratio")
        jumps = horizon - octave("dynamics.step") - octave("problem.sample_ratio")
        return unit.kind, unit.part, jumps, horizon, tuple(v for f, v in values.items() if f not in plain)


def read(path: str | Path, plugin: str | Path | None = None, axes: Mapping[str, Any] | None = None, **options: Any) -> Plan:
    """The sweep of a TOML file; `axes` and `options` of a call go before its `[sweep]`.

    Raises:
        InputError: one sentence with the field, what it must be, what it was, and its line.
    """
    path = Path(path)
    raw, text = files.parse(path)
    section = raw.pop("sweep", None)
    if section is None and axes is None:
        raise InputError(f"`{path}` must have a [sweep] section with axes, but has none (sgdlimit run takes a file without)")
    if plugin is not None:
        files.load_plugin(Path(plugin))
    recipe = SettingsRecipe(raw, Path(plugin).read_text(encoding="utf-8") if plugin else None, str(plugin or ""))
    with placed(path, text):
        return make(recipe, _section(section, axes, options), str(raw.get("title") or path.stem))


def from_base(base: Any, axes: Mapping[str, Any] | None, plugin: str | Path | None = None, **options: Any) -> Plan:
    """The sweep over a base given in Python: settings as a file has them, with their own axes if none are given, or a problem and
    dynamics."""
    if not isinstance(base, Mapping):
        raise refuse("base", "be a file, its tables as a dict, or a dict with a problem and dynamics", base)
    if isinstance(base.get("problem"), Problem):
        if plugin is not None:
            raise refuse("plugin", "be None where the base has a problem", plugin)
        recipe: Recipe = object_recipe(base)
    else:
        raw = dict(base)
        section = raw.pop("sweep", None)
        text = Path(plugin).read_text(encoding="utf-8") if plugin else None
        return make(SettingsRecipe(raw, text, str(plugin or "")), _section(section, axes, options), str(raw.get("title", "")))
    return make(recipe, _section(None, axes, options), "")


def _section(section: Any, axes: Mapping[str, Any] | None, options: Mapping[str, Any]) -> SweepSpec:
    given = {name: value for name, value in options.items() if value is not None}
    given |= {} if axes is None else {"axes": dict(axes)}
    return read_section(given if section is None else section if not given else {**section, **given})


def make(recipe: Recipe, spec: SweepSpec, title: str) -> Plan:
    """Lay the points and check what can be checked before any of them is computed."""
    run = recipe.run if isinstance(recipe, ObjectRecipe) else recipe.raw.get("run", {})
    run = run if isinstance(run, Mapping) else {}
    seed = run.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise refuse("run.seed", "be an integer of at least 0", seed)
    design = lay(spec, seed)
    moving = "run.horizon" in [axis.field for axis in design.axes]
    if spec.epochs is not None and (moving or "horizon" in run):
        raise InputError("`sweep.epochs` must be given alone, but `run.horizon` is there too (drop one of them)")
    if run.get("times") is not None and (spec.epochs is not None or moving):
        raise InputError("`run.times` must be left out where the horizon differs between points, but is given")
    first = design.at(tuple(0 for _ in design.shape))
    names = recipe.names(first, spec.epochs)
    work = recipe.build(first, 0, spec.epochs)
    wanted: dict[Kind, tuple[bool, ...]] = {
        "theory": _chosen("theory", spec.theory, names),
        "simulation": _chosen("simulation", work.simulation is not None if spec.simulation is None else spec.simulation, names),
    }
    if not any(map(any, wanted.values())):
        raise InputError("`sweep` must ask for theory or simulation, but asks for neither")
    if any(wanted["simulation"]) and work.simulation is None:
        raise InputError("`simulation` must be given for real runs, but is missing (add a [simulation] table with n_features)")
    if spec.epochs is not None:
        clock, grid = "epoch", np.linspace(0.0, spec.epochs, POINTS)
    elif moving:
        clock, grid = "fraction", np.linspace(0.0, 1.0, POINTS)
    else:
        clock, grid = "time", output_times(work.horizon, run.get("times"))
    described = {
        "versions": versions(),
        **recipe.describe(first, spec.epochs),
        "sweep": {**design.describe(), "epochs": spec.epochs, "seed": seed, **{kind: list(wanted[kind]) for kind in KINDS}},
    }
    shared = Shared(recipe, clock, grid, spec.epochs, seed)
    along = 0 if work.problem.trained is None else len(work.problem.trained)
    plan = Plan(title, shared, design, tuple(names), wanted, (work.problem.k, work.problem.k_star, along), described)
    _check(plan)
    return plan


def _chosen(kind: str, asked: bool | list[str], names: list[str]) -> tuple[bool, ...]:
    if isinstance(asked, bool):
        return (asked,) * len(names)
    for name in asked:
        if name not in names:
            raise refuse(f"sweep.{kind}", "name dynamics of the file", name, nearest(name, names))
    return tuple(name in asked for name in names)


def _check(plan: Plan) -> None:
    """Refusals that the ends of the axes bring to light."""
    for number, values in enumerate(plan.design.corners()):
        try:
            for part in range(len(plan.parts)):
                work = plan.shared.recipe.build(values, part, plan.shared.epochs)
                if plan.wanted["theory"][part]:
                    check_theory(work.problem, work.dynamics)
                if plan.wanted["simulation"][part] and number == 0:
                    plan_simulation(
                        work.problem, work.dynamics, work.horizon, seed=0, times=plan.shared.times(work), **(work.simulation or {})
                    )
        except InputError as e:
            if number == 0:
                raise
            at = ", ".join(f"{field} = {value:g}" for field, value in values.items())
            raise InputError(f"`sweep.axes` must lead to settings that are in order, but at {at} they are not: {e}") from None
