"""What a visitor may choose, and within which bounds; the same as an address and as a settings file."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from ..errors import InputError, nearest, refuse
from .presets import (
    AVERAGE_MEMORY,
    AVERAGES,
    BEGIN,
    FEATURES,
    MEMORY,
    MOST_UNITS,
    OPTIMIZERS,
    PRESETS,
    RATE,
    SECOND,
    START,
    TRAINING,
    Field,
)

RTOL = 0.01
REPEATS = 8
LESS = "a larger step or n/d, or a shorter horizon"
MOST_JUMPS = 200.0  # of a sample: the theory's work grows with them
MOST_EPOCHS = 40.0  # of reshuffled data
MOST_ENTRIES = 4e7  # of a simulation's data, in numbers
MOST_UPDATES = 1.5e10  # of a simulation's weights, over all steps and repeats

DYNAMICS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"kind": "sgd"}),
    "reshuffle": ("SGD reshuffled", {"kind": "sgd", "sampling": "reshuffle"}),
    "sme": ("SME", {"kind": "sme"}),
    "flow": ("gradient flow", {"kind": "gradient_flow"}),
    "online": ("online SGD", {"kind": "online_sgd"}),
}
CHEAPEST = ("flow", "sme", "sgd", "reshuffle", "online")  # asked for first: a coarse answer of all that can be is there soonest
FIXED, AVERAGED = "fixed ", "averaged "  # before a dynamics' name: with fixed numbers beside those trained along, and of averaged weights
COMPANIONS = {FIXED: "numbers fixed", AVERAGED: "averaged"}
VIEWS = ("curves", "laws", "two-times", "sweep")
DEFAULT = "tanh_regression"
FIELDS = (*TRAINING, MEMORY, SECOND, AVERAGE_MEMORY, RATE, *START)  # of every problem
SAID = ("show", "optimizer", "average", "beside", "d", "view")  # of an address besides numbers and parameters
DIGITS = ".10g"  # of a number in an address


@dataclass(frozen=True)
class Opened:
    """Settings that were opened with the command: a file's tables, checked there."""

    name: str
    raw: dict[str, Any]

    def numbers(self) -> dict[str, float]:
        """Where the sliders stand; a table that is no plain number keeps what the file has."""
        problem, run = self.raw["problem"], self.raw["run"]
        penalty = problem.get("penalty")
        found = {"ratio": problem["sample_ratio"], "horizon": run["horizon"]}
        if penalty is None or penalty.get("kind") == "ridge":
            found["ridge"] = 0.0 if penalty is None else penalty["strength"]
        steps = [one.get("step") for one in self.raw["dynamics"] if isinstance(one.get("step"), int | float)]
        found |= {"step": steps[0]} if steps else {}
        plain = {"teacher": _get(problem, "teacher", "cov"), "start": _get(problem, "init", "cov", default=1.0),
                 "overlap": _get(problem, "init", "overlap", default=0.0)}  # fmt: skip
        found |= {name: value for name, value in plain.items() if isinstance(value, int | float)}
        found |= {one.name: value for one in (MEMORY, SECOND) if math.isfinite(value := self.optimizer().get(one.name, math.inf))}
        return {name: float(value) for name, value in found.items()}

    def optimizer(self) -> dict[str, Any]:
        """The first optimiser of the file, with all that no slider has; empty if there is none."""
        return next((one["optimizer"] for one in self.raw["dynamics"] if one.get("optimizer")), {})

    def besides(self) -> dict[str, Any]:
        """Noise and clipping of the first dynamics that has any, which no slider has."""
        found = ({name: one[name] for name in ("temperature", "clip") if one.get(name)} for one in self.raw["dynamics"])
        return next(filter(None, found), {})


def parted(kind: str) -> tuple[str, str]:
    """What stands before a dynamics' name, and the name: `("fixed ", "sgd")`, or `("", "sgd")`."""
    before = next((one for one in COMPANIONS if kind.startswith(one)), "")
    return before, kind.removeprefix(before)


def _get(table: Mapping[str, Any], *path: str, default: Any = None) -> Any:
    for key in path:
        table = table.get(key, {}) if isinstance(table, Mapping) else {}
    return default if isinstance(table, Mapping) else table


def _text(value: Any) -> str:
    """A part of an address."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:{DIGITS}}" if isinstance(value, float) else str(value)


def _written(value: Any) -> Any:
    """A number, or each of a list, as an address has it."""
    if isinstance(value, list):
        return [_written(x) for x in value]
    return float(f"{value:{DIGITS}}") if isinstance(value, float) else value


@dataclass(frozen=True)
class Choices:
    """One state of the page. `numbers` has those of `FIELDS`; `parameters` the model's own.

    Numbers are as an address has them, so that a page loaded again is the same: a slider's steps of a tenth add up to 2.4000000000000004.
    """

    model: str = DEFAULT
    numbers: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    shown: tuple[str, ...] = ("sgd", "sme", "flow")
    optimizer: str = "plain"
    average: str = "none"
    beside: bool = False  # the same with fixed numbers, where some are trained along
    d: int = 1000
    view: str = "curves"

    def __post_init__(self):
        for name in ("numbers", "parameters"):
            object.__setattr__(self, name, {key: _written(value) for key, value in getattr(self, name).items()})

    @classmethod
    def of(cls, model: str, opened: Mapping[str, Opened], keep: Choices | None = None) -> Choices:
        """Where a visit to this problem begins; what is shown and how stays."""
        base = keep or cls()
        if model in opened:
            optimizer = opened[model].optimizer().get("kind", "plain")
            return replace(base, model=model, numbers={**BEGIN, **opened[model].numbers()}, parameters={}, optimizer=optimizer)
        preset = PRESETS[model]
        shown = tuple(kind for kind in base.shown if not (preset.kinks and kind in ("sme", "flow"))) or ("sgd",)
        return replace(base, model=model, numbers={**BEGIN, **preset.begin}, parameters=dict(preset.defaults), shown=shown)

    @property
    def trained(self) -> int:
        """How many numbers are trained along, as far as the page chooses it."""
        return PRESETS[self.model].trained(self.parameters) if self.model in PRESETS else 0

    @property
    def lines(self) -> tuple[str, ...]:
        """What is solved: the dynamics shown, and the same with fixed numbers or of averaged weights where these are asked for."""
        wanted = {FIXED: self.beside and self.trained > 0, AVERAGED: self.average != "none"}
        return self.shown + tuple(before + kind for before in COMPANIONS if wanted[before] for kind in self.shown)

    # --- bounds ----------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises InputError where a number is out of bounds, or the whole asks for too much."""
        for one in FIELDS:
            one.check(self.numbers[one.name])
        for one in PRESETS[self.model].fields if self.model in PRESETS else ():
            one.check(self.parameters[one.name])
        FEATURES.check(self.d)
        weights = self.parameters.get("weights")
        if weights is not None and not 1 <= len(weights) <= MOST_UNITS:
            raise refuse("weights", f"be one to {MOST_UNITS} numbers on this page", weights, "a settings file takes more")

    def refusal(self, kind: str) -> str:
        """Why this dynamics is not solved here; empty if it is."""
        n, kind = self.numbers, parted(kind)[1]
        if kind == "flow" and self.optimizer == "adam":
            return "Adam divides by the noise of the gradient, of which a flow has none"
        jumps = n["horizon"] / (n["step"] * n["ratio"])
        if kind == "sgd" and jumps > MOST_JUMPS:
            return f"a sample is drawn {jumps:.0f} times up to the horizon, and this page follows at most {MOST_JUMPS:g} ({LESS})"
        if kind == "reshuffle" and jumps > MOST_EPOCHS:
            return f"the horizon spans {jumps:.0f} epochs, and this page follows at most {MOST_EPOCHS:g} of reshuffled data ({LESS})"
        return ""

    def refuse_simulation(self) -> str:
        """Why no real runs are made of this; empty if they are."""
        n = self.numbers
        entries, updates = n["ratio"] * self.d**2, REPEATS * n["horizon"] * self.d**2 / n["step"]
        if entries > MOST_ENTRIES:
            return f"the data would have {entries:.2g} numbers, and this page draws at most {MOST_ENTRIES:.2g} (fewer features or samples)"
        if updates > MOST_UPDATES:
            allowed = f"and this page allows {MOST_UPDATES:.2g}"
            return f"the runs would change {updates:.2g} weights, {allowed} (fewer features, a larger step or a shorter horizon)"
        return ""

    def sizes(self) -> Any:
        """A dataset at no times, of as many directions and numbers trained along as the problem has; None where that is not known before
        it is solved."""
        import numpy as np
        import xarray as xr

        if self.model not in PRESETS:
            return None
        k, p = PRESETS[self.model].directions(self.parameters), self.trained
        curves = {"trained": (("time", "parameter"), np.empty((0, p)))} if p else {}
        return xr.Dataset(curves, coords={name: range(k) for name in ("student", "student_", "teacher")})

    # --- as settings ----------------------------------------------------------------------------------------------------

    def settings(self, opened: Mapping[str, Opened], kinds: tuple[str, ...] | None = None) -> dict[str, Any]:
        """The tables of a settings file that `sgdlimit run` takes. `kinds` are all with fixed numbers, all averaged, or neither."""
        n, source = self.numbers, opened.get(self.model)
        before = parted(kinds[0])[0] if kinds else ""
        problem: dict[str, Any] = copy.deepcopy(source.raw["problem"]) if source else {"model": self.model}
        if source is None:
            given = PRESETS[self.model].parameters(self.parameters)
            problem["parameters"] = {name: value for name, value in given.items() if value is not None}
            if self.trained:
                problem["trained"] = {"rate": 0.0 if before == FIXED else n["rate"]}
            if "df" in self.parameters and self.parameters["df"] is None and self.model == "huber":
                problem["parameters"]["df"] = 1000.0  # a settings file cannot say None; so many degrees are normal to a thousandth
        problem["sample_ratio"] = n["ratio"]
        own = source.numbers() if source else n
        if "ridge" in own:
            problem["penalty"] = {"kind": "ridge", "strength": n["ridge"]}
        if "teacher" in own:
            problem["teacher"] = {**problem.get("teacher", {"kind": "gaussian"}), "cov": n["teacher"]}
        start = dict(problem.get("init", {}))
        start |= {key: n[name] for key, name in (("overlap", "overlap"), ("cov", "start")) if name in own}
        problem["init"] = start
        dynamics = []
        optimizer = self._optimizer(source)
        solved = kinds or [kind for kind in self.shown if not (kind == "flow" and self.optimizer == "adam")]
        for kind in (parted(one)[1] for one in solved):
            step = {} if kind == "flow" else {"step": n["step"]}
            dynamics.append({**DYNAMICS[kind][1], **step, **optimizer})
        return {
            "title": f"{source.name if source else self.model}, n/d = {n['ratio']:g}, step {n['step']:g}{self._trained_by()}",
            "problem": problem,
            "dynamics": dynamics,
            "run": {"horizon": n["horizon"], "rtol": RTOL},
            "simulation": {"n_features": self.d, "repeats": REPEATS, **({"average": self._average()} if before == AVERAGED else {})},
        }

    def _average(self) -> dict[str, Any]:
        memory = {"memory": self.numbers["average_memory"]} if self.average == "exponential" else {"fraction": 0.5}
        return {"kind": self.average, **memory}

    def _optimizer(self, source: Opened | None) -> dict[str, Any]:
        """What a dynamics' table says of how it is trained; of the file's own it keeps what no slider has."""
        besides = source.besides() if source else {}
        if self.optimizer == "plain":
            return besides
        given = source.optimizer() if source else {}
        given = given if given.get("kind") == self.optimizer else {}
        kept = {name for name, value in given.items() if value == math.inf}
        moved = {one.name: self.numbers[one.name] for one in OPTIMIZERS[self.optimizer][1] if one.name not in kept}
        return {"optimizer": {"kind": self.optimizer, **given, **moved}, **besides}

    def title(self, kind: str) -> str:
        """A dynamics as `sgdlimit run` calls it."""
        before, kind = parted(kind)
        named = DYNAMICS[kind][0] + ("" if self.optimizer == "plain" else f" with {OPTIMIZERS[self.optimizer][0]}")
        return named + (f", {COMPANIONS[before]}" if before else "")

    def _trained_by(self) -> str:
        """The optimiser with its numbers, in words that go on; empty without one."""
        name, fields = OPTIMIZERS[self.optimizer]
        numbers = " and ".join(f"{self.numbers[one.name]:g}" for one in fields)
        return f", {name} of memory {numbers}" if fields else ""

    def key(self, kind: str, opened: Mapping[str, Opened]) -> str:
        """Equal for equal theory; the problem's name is its first part."""
        tables = self.settings(opened, (kind,))
        average = [tables["simulation"]["average"]] if "average" in tables["simulation"] else []
        return json.dumps([self.model, tables["problem"], tables["dynamics"], tables["run"], *average], sort_keys=True)

    def runs_key(self, kind: str, opened: Mapping[str, Opened]) -> str:
        """Equal for equal real runs."""
        tables = self.settings(opened, (kind,))
        return json.dumps([self.model, *(tables[part] for part in ("problem", "dynamics", "run", "simulation"))], sort_keys=True)

    def words(self) -> str:
        """Problem and numbers, as they stand under a picture."""
        preset = PRESETS.get(self.model)
        own = [(one.label.split(" (")[0], self.parameters[one.name]) for one in preset.fields] if preset else []
        own = [(name.split(":")[0], "normal" if value is None else f"{value:g}") for name, value in own]
        for name in preset.texts if preset else ():
            value = self.parameters[name]
            own.append((name, value if isinstance(value, str) else ", ".join(f"{x:g}" for x in value)))
        hidden = {MEMORY, SECOND, *(() if self.trained else (RATE,)), *(() if self.average == "exponential" else (AVERAGE_MEMORY,))}
        own += [(label, "yes" if self.parameters[name] else "no") for name, label in (preset.switches.items() if preset else ())]
        own += [(one.label, f"{self.numbers[one.name]:g}") for one in FIELDS if one not in hidden]
        own += [("average of the weights", AVERAGES[self.average][0])] if self.average != "none" else []
        told = f"{preset.title if preset else f'{self.model} (opened)'}. " + "; ".join(f"{name} {value}" for name, value in own)
        return told + self._trained_by().replace(",", ";")

    # --- as an address -----------------------------------------------------------------------------------------------------

    def address(self) -> str:
        """The query of an address that brings this state back."""
        said: dict[str, Any] = {"model": self.model, **{one.name: self.numbers[one.name] for one in FIELDS}}
        said |= {name: ",".join(map(_text, value)) if isinstance(value, list) else value for name, value in self.parameters.items()}
        said |= {"show": ",".join(self.shown)} | {name: getattr(self, name) for name in SAID if name != "show"}
        return "?" + "&".join(f"{name}={quote(_text(value), safe=',.-')}" for name, value in said.items())

    @classmethod
    def read(cls, query: Mapping[str, str], opened: Mapping[str, Opened]) -> tuple[Choices, list[str]]:
        """From the parts of an address; what cannot be read is left at its default and told, a sentence each."""
        complaints: list[str] = []
        known = [*PRESETS, *opened]
        model = query.get("model", next(iter(opened), DEFAULT))
        if model not in known:
            complaints.append(f"{refuse('model', 'be a problem of this page', model[:60], nearest(model[:60], known))}.")
            model = DEFAULT
        found = cls.of(model, opened)
        numbers, parameters = dict(found.numbers), dict(found.parameters)
        preset = PRESETS.get(model)
        fields: dict[str, tuple[Field, dict[str, Any]]] = {one.name: (one, numbers) for one in FIELDS}
        fields |= {one.name: (one, parameters) for one in (preset.fields if preset else ())}
        choices: dict[str, Any] = {}
        for name, text in query.items():
            try:
                if name in fields:
                    one, into = fields[name]
                    into[name] = one.read(text)
                elif preset and name in preset.texts:
                    parameters[name] = read_text(name, text, preset.texts[name])
                elif preset and name in preset.switches:
                    parameters[name] = _one_of(name, text, ("false", "true")) == "true"
                elif name == "average":
                    choices["average"] = _one_of("average", text, tuple(AVERAGES))
                elif name == "beside":
                    choices["beside"] = _one_of(name, text, ("false", "true")) == "true"
                elif name == "d":
                    choices["d"] = FEATURES.read(text)
                elif name == "show":
                    choices["shown"] = _shown(text)
                elif name == "optimizer":
                    choices["optimizer"] = _one_of("optimizer", text, tuple(OPTIMIZERS))
                elif name == "view":
                    choices["view"] = _one_of("view", text, VIEWS)
                elif name != "model":
                    raise refuse("address", "name settings of this page", name[:60], nearest(name[:60], [*fields, *SAID]))
            except InputError as e:
                complaints.append(f"{e}.")
        made = replace(found, numbers=numbers, parameters=parameters, **choices)
        try:
            made.check()
        except InputError as e:
            return found, [*complaints, f"{e}."]
        return made, complaints


def read_text(name: str, text: str, known: tuple[str, ...]) -> Any:
    """A parameter that is no number: one of a few words, or numbers with commas between."""
    if known:
        return _one_of(name, text, known)
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise refuse(name, "be numbers with commas between", text[:60], "1, -0.5") from None
    if not 1 <= len(values) <= MOST_UNITS or not all(math.isfinite(x) and abs(x) <= 100 for x in values):
        raise refuse(name, f"be one to {MOST_UNITS} numbers of size at most 100 on this page", text[:60], "a settings file takes any")
    return values


def _one_of(name: str, text: str, known: tuple[str, ...]) -> str:
    if text not in known:
        raise refuse(name, "be one of " + ", ".join(known), text[:60])
    return text


def _shown(text: str) -> tuple[str, ...]:
    named = [part for part in text.split(",") if part]
    for one in named:
        _one_of("show", one, tuple(DYNAMICS))
    return tuple(kind for kind in DYNAMICS if kind in named)
