"""What is computed at a point: a base, as a settings file says it or as Python objects, with some of its numbers replaced.

A recipe goes to the workers, once as bytes. It hands out the same functions for equal settings, so that what is compiled for one
point serves the others.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .. import models
from ..errors import InputError, nearest, refuse
from ..learning.dynamics import Dynamics
from ..learning.problem import Problem
from ..learning.weights import Ridge
from ..settings import config
from ..settings.sections import known_keys
from ..theory.accuracy.checkpoint import identify

RIDGE = "problem.penalty.ridge"  # whatever penalty the base has, a ridge of this strength
Values = Mapping[str, float | int]
_MODELS: dict[Any, models.Model] = {}  # by plugin, name and parameters


@dataclass(frozen=True)
class Work:
    """One computation: what, by which dynamics, until when, and the settings of `solve` and `simulate`."""

    problem: Problem
    dynamics: Dynamics
    horizon: float
    rtol: float
    simulation: dict[str, Any] | None


@dataclass(frozen=True)
class SettingsRecipe:
    """The base of a TOML file; `plugin` is the text of a plugin and `plugin_name` its file, which a worker may not have."""

    raw: dict[str, Any]
    plugin: str | None = None
    plugin_name: str = ""

    def settings(self, values: Values, epochs: float | None = None) -> config.Settings:
        """The settings at a point, checked."""
        raw = copy.deepcopy(self.raw)
        for field, value in values.items():
            _set(raw, field, value)
        if epochs is not None:
            raw["run"] = {**raw.get("run", {}), "horizon": 1.0}  # each dynamics has its own
        return config._settings(raw)

    def names(self, values: Values, epochs: float | None) -> list[str]:
        return [part.name for part in config._parts(self.settings(values, epochs).dynamics)]

    def build(self, values: Values, part: int, epochs: float | None) -> Work:
        """Raises InputError if the settings at this point are not in order."""
        settings = self.settings(values, epochs)
        if settings.run.budget is not None:
            raise refuse("run.budget", "be left out of a sweep", settings.run.budget, "a larger rtol makes its points cheaper")
        problem = config._problem(settings.problem, self._module, self._model)
        parts = [one.dynamics for one in config._parts(settings.dynamics)]
        horizon = settings.run.horizon if epochs is None else _epochs(epochs, parts, part, problem)
        simulation = None if settings.simulation is None else settings.simulation.arguments()
        return Work(problem, parts[part], horizon, settings.run.rtol, simulation)

    def describe(self, values: Values, epochs: float | None) -> dict[str, Any]:
        return {"settings": {**self.raw, "title": ""}, "plugin": self.plugin}

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def _module(self) -> Any:
        if self.plugin is None:
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(self.plugin_name).name
            path.write_text(self.plugin, encoding="utf-8")
            return config.load_plugin(path)

    def _model(self, spec: config.ProblemSpec, module: Any) -> models.Model:
        key = (module, spec.model, json.dumps(spec.parameters, sort_keys=True))
        if key not in _MODELS:
            _MODELS[key] = config._model(spec, module)
        return _MODELS[key]


@dataclass(frozen=True)
class ObjectRecipe:
    """A base of Python objects: `parts` are dynamics by name, `run` has horizon and rtol, `simulation` the settings of `simulate`."""

    problem: Problem
    parts: dict[str, Dynamics]
    run: dict[str, Any]
    simulation: dict[str, Any] | None = None

    def names(self, values: Values, epochs: float | None) -> list[str]:
        return list(self.parts)

    def build(self, values: Values, part: int, epochs: float | None) -> Work:
        problem, run, simulation = self.problem, dict(self.run), dict(self.simulation) if self.simulation is not None else None
        parts = dict(self.parts)
        for field, value in values.items():
            head, _, rest = field.partition(".")
            if field == RIDGE:
                problem = replace(problem, penalty=Ridge(value))
            elif head == "problem":
                problem = _replaced(problem, rest, value, field)
            elif head == "dynamics":
                parts = _replaced_in(parts, rest, value, field)
            elif head == "run" and rest in ("horizon", "rtol", "seed"):
                run[rest] = value
            elif head == "simulation" and simulation is not None:
                simulation[rest] = value
            else:
                raise _unknown(field)
        dynamics = list(parts.values())
        horizon = run.get("horizon") if epochs is None else _epochs(epochs, dynamics, part, problem)
        if horizon is None:
            raise InputError("`run.horizon` must be given, but is missing (time t; or give epochs)")
        return Work(problem, dynamics[part], horizon, run.get("rtol", 0.01), simulation)

    def describe(self, values: Values, epochs: float | None) -> dict[str, Any]:
        """Functions are told apart by their values at fixed points."""
        parts = {}
        for i, name in enumerate(self.parts):
            work = self.build(values, i, epochs)
            parts[name] = identify(work.problem, work.dynamics, work.horizon, work.rtol, 0, np.zeros(1), "")
        return {"settings": {"dynamics": parts, "run": self.run, "simulation": self.simulation}, "plugin": None}


Recipe = SettingsRecipe | ObjectRecipe


def object_recipe(base: Mapping[str, Any]) -> ObjectRecipe:
    """From `{"problem": Problem, "dynamics": SGD(1.5) or a list or {name: ...}, "run": {...}, "simulation": {...}}`."""
    for key in base:
        if key not in ("problem", "dynamics", "run", "simulation"):
            raise refuse("base", "have the keys problem, dynamics, run and simulation", key)
    given = base.get("dynamics")
    if isinstance(given, Dynamics):
        given = [given]
    if isinstance(given, list | tuple):
        given = {repr(one) if len(given) > 1 else type(one).__name__: one for one in given}
    if not (isinstance(given, Mapping) and given and all(isinstance(one, Dynamics) for one in given.values())):
        raise refuse("base.dynamics", "be a dynamics, a list of them, or {name: dynamics}", given, "for example sl.SGD(step=1.5)")
    sections = {name: base.get(name) for name in ("run", "simulation")}
    for name, section in sections.items():
        if not (section is None or isinstance(section, Mapping)):
            raise refuse(f"base.{name}", "be a dict", section, 'such as {"horizon": 4.0, "rtol": 0.03}')
    simulated = ("n_features", "batch_size", "repeats", "design", "average", "left_out")
    known = {"run": ("horizon", "rtol", "seed", "times"), "simulation": simulated}
    for name, section in sections.items():
        for key in section or {}:
            if key not in known[name]:
                raise InputError(f"`base.{name}.{key}` must be a known setting, but is not one ({nearest(str(key), known[name])})")
    simulation = None if sections["simulation"] is None else dict(sections["simulation"])
    return ObjectRecipe(base["problem"], {str(name): one for name, one in given.items()}, dict(sections["run"] or {}), simulation)


def _epochs(epochs: float, parts: list[Dynamics], part: int, problem: Problem) -> float:
    """The time that so many epochs last; a dynamics without steps is followed for those of the first that has them."""
    stepped = [one for one in [parts[part], *parts] if hasattr(one, "step")]
    if not stepped:
        raise InputError("`sweep.epochs` must go with a dynamics that has steps, but there is none (give run.horizon)")
    step = stepped[0].step  # pyright: ignore[reportAttributeAccessIssue]
    if callable(step):
        raise refuse("sweep.epochs", "go with constant steps", step, "with a schedule give run.horizon, the time t")
    return epochs * step * problem.sample_ratio


# --- replacing one number ------------------------------------------------------------------------------------------------


def _set(raw: dict[str, Any], field: str, value: float) -> None:
    """Put a number where the file has, or could have, `field`. Whether there is such a field the settings' own check tells."""
    head, *rest = field.split(".")
    if field == RIDGE:
        raw.setdefault("problem", {})["penalty"] = {"kind": "ridge", "strength": value}
    elif head == "dynamics" and rest and isinstance(raw.get("dynamics"), list):
        for table in _tables(raw["dynamics"], rest, field):
            called = len(rest) > 1 and rest[0] not in table and rest[0] in (table.get("name"), table.get("kind"))
            _put(table, rest[1:] if called else rest, value, field)
    elif head in ("problem", "run", "simulation") and rest:
        _put(raw.setdefault(head, {}), rest, value, field)
    else:
        raise _unknown(field)


def _tables(dynamics: list[dict[str, Any]], rest: list[str], field: str) -> list[dict[str, Any]]:
    """The `[[dynamics]]` that `dynamics.step` or `dynamics.NAME.step` means."""
    named = [table for table in dynamics if len(rest) > 1 and rest[0] in (table.get("name"), table.get("kind"))]
    # A step that only varies is not in the file; then a dynamics that has its own keeps it. Every one but flow needs one.
    needs = lambda table: rest == ["step"] and table.get("kind") != "gradient_flow" and not {"step", "learning_rate"} & set(table)
    could = lambda table: rest[0] in known_keys(("dynamics", str(table.get("kind"))))  # a temperature that no file has is zero
    found = named or list(filter(needs, dynamics)) or [table for table in dynamics if rest[0] in table] or list(filter(could, dynamics))
    if not found:
        raise _unknown(field, [key for table in dynamics for key in known_keys(("dynamics", str(table.get("kind"))))])
    if rest[0] == "optimizer" and len(rest) > 1:
        return [table for table in found if rest[1] in known_keys(("optimizer", _kind(table)))] or found
    return found


def _kind(table: dict[str, Any]) -> str:
    optimizer = table.get("optimizer")
    return str(optimizer.get("kind")) if isinstance(optimizer, dict) else ""


def _put(table: Any, path: list[str], value: float, field: str) -> None:
    for key in path[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise _unknown(field)
    there = table.get(path[-1])
    if isinstance(there, str | bool | dict):
        raise refuse(f"sweep.axes.{field}", "name a numeric field", field, f"it is {there!r}")
    table[path[-1]] = value


def _replaced(owner: Any, path: str, value: float, field: str) -> Any:
    """A copy of a dataclass with the attribute at `path` replaced; a matrix by that number times the identity, a list of numbers by as many
    of that one."""
    name, _, rest = path.partition(".")
    if not (is_dataclass(owner) and name in (known := [one.name for one in fields(owner) if one.init])):
        raise _unknown(field, known if is_dataclass(owner) else ())
    there = getattr(owner, name)
    if rest:
        return replace(owner, **{name: _replaced(there, rest, value, field)})  # pyright: ignore[reportArgumentType]
    if isinstance(there, np.ndarray) and there.ndim == 2:
        return replace(owner, **{name: value * np.eye(*there.shape)})  # pyright: ignore[reportArgumentType]
    several = isinstance(there, tuple)
    return replace(owner, **{name: (value,) * len(there) if several else value})  # pyright: ignore[reportArgumentType]


def _replaced_in(parts: dict[str, Dynamics], path: str, value: float, field: str) -> dict[str, Dynamics]:
    name, _, rest = path.partition(".")
    chosen = [name] if name in parts else [one for one, dynamics in parts.items() if _has(dynamics, path)]
    if not chosen:
        raise _unknown(field)
    return {**parts, **{one: _replaced(parts[one], rest if name in parts else path, value, field) for one in chosen}}


def _has(owner: Any, path: str) -> bool:
    """Whether there is a number at `path`, or could be: an optimizer may have no memory, and a dynamics no optimizer."""
    name, _, rest = path.partition(".")
    return hasattr(owner, name) and (not rest or _has(getattr(owner, name), rest))


def _unknown(field: str, known: Any = ()) -> InputError:
    hint = nearest(field.rpartition(".")[2], known) if known else "for example problem.sample_ratio, dynamics.step or run.horizon"
    return refuse("sweep.axes", "name numeric fields of problem, dynamics, run or simulation", field, hint)
