"""Everything that is tried: each set of numbers is solved once on a plan, told, and kept in a file if one is named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ..errors import InputError, nearest, refuse
from ..files import replacing
from ..theory.accuracy.plans import Plan
from ..theory.paired import Common, Paired, planned, solve_on
from .space import Family

OBJECTIVES = ("test_risk", "train_risk")
WHEN = ("end", "best")
GAIN = 7.0  # error of an extrapolated difference against its change from the next coarser resolution, as of curves


@dataclass(frozen=True)
class Measure:
    """What is to be small: a curve, at the end of training or where it is least along it."""

    curve: str
    at: str

    def __post_init__(self):
        if self.curve not in OBJECTIVES:
            raise refuse("objective", "be " + " or ".join(map(repr, OBJECTIVES)), self.curve, nearest(str(self.curve), OBJECTIVES))
        if self.at not in WHEN:
            raise refuse("at", "be 'end' or 'best'", self.at, nearest(str(self.at), WHEN))

    def weights(self, times: np.ndarray, values: np.ndarray) -> np.ndarray:
        """What to multiply values at the output times with and sum: one at the end, or the parabola through the three least. How the best
        time moves with the numbers changes the value at second order only, so all replicates are read at one time."""
        weights = np.zeros(len(times))
        i = len(times) - 1 if self.at == "end" else int(np.argmin(values))
        weights[i] = 1.0
        if self.at == "end" or i in (0, len(times) - 1):
            return weights
        t, f = times[i - 1 : i + 2] - times[i], values[i - 1 : i + 2]
        bent, steep, _ = np.polyfit(t, f, 2)
        if bent <= 0:
            return weights
        s = float(np.clip(-steep / (2 * bent), t[0], t[2]))
        weights[i - 1 : i + 2] = [
            (s - t[1]) * (s - t[2]) / ((t[0] - t[1]) * (t[0] - t[2])),
            (s - t[0]) * (s - t[2]) / ((t[1] - t[0]) * (t[1] - t[2])),
            (s - t[0]) * (s - t[1]) / ((t[2] - t[0]) * (t[2] - t[1])),
        ]
        return weights

    def __str__(self) -> str:
        return self.curve.replace("_", " ") + (" at the end" if self.at == "end" else " at its best time")


@dataclass(frozen=True)
class Trial:
    """One solve.

    Attributes:
        form: of a schedule, if that is what is tuned.
        numbers: what was tried.
        value, se: of the objective; NaN where training diverges.
        discretisation: a part of `se`.
        scale: the largest the curve is.
        each: of every replicate `(S,)`, empty where there are none to pair.
        coarser: of the next coarser resolution.
        time, horizon: when it was read, and where training ends.
        ended: the part of the horizon after which training diverges, or None; `words` says how.
        cells, paths, replicates, stage: the plan.
    """

    form: str
    numbers: dict[str, float]
    value: float
    se: float
    discretisation: float
    scale: float
    each: list[float]
    coarser: float
    time: float
    horizon: float
    ended: float | None
    words: str
    cells: int
    paths: int
    replicates: int
    stage: int
    cpu_seconds: float

    @property
    def good(self) -> bool:
        return self.ended is None and bool(np.isfinite(self.value))


def read(measure: Measure, found: Paired, form: str, numbers: dict[str, float], horizon: float, common: Common) -> Trial:
    """The objective of a solve."""
    plan = common.plan or Plan(0, 0, 0)
    rest: dict[str, Any] = {"cells": plan.cells, "paths": plan.paths, "replicates": plan.replicates, "stage": common.stage}
    rest |= {"cpu_seconds": found.cpu_seconds, "horizon": horizon, "form": form, "numbers": dict(numbers)}
    if found.ended is not None or not found.curves:
        none = dict.fromkeys(("value", "se", "discretisation", "scale", "coarser"), np.nan)
        return Trial(each=[], time=0.0, ended=found.ended or 0.0, words=found.words, **none, **rest)
    values = found.curves[measure.curve]
    weights = measure.weights(found.times, values)
    each = [] if found.each is None else [float(one @ weights) for one in found.each[measure.curve]]
    value = float(values @ weights)
    se, gap = (float(part[measure.curve] @ np.abs(weights)) for part in (found.errors, found.discretisation))
    return Trial(
        value=value,
        se=se,
        discretisation=gap,
        scale=float(np.abs(values).max()),
        each=each,
        coarser=value if found.coarser is None else float(found.coarser[measure.curve] @ weights),
        time=float(found.times @ weights),
        ended=None,
        words="done",
        **rest,
    )


class Kept:
    """A file of what is done, for the same call to continue from; without a path it is in memory alone."""

    def __init__(self, path: str | os.PathLike[str] | None, identity: str):
        self.path, self.identity = None if path is None else Path(path), identity
        self.done: dict[str, Any] = {}
        if self.path is None:
            return
        if not self.path.parent.is_dir():
            raise InputError(f"`checkpoint` must be in an existing directory, but `{self.path.parent}` is not one (make it first)")
        if not self.path.exists():
            return
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            self.done = dict(found["done"])
            same = found["identity"] == identity
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise InputError(f"`checkpoint` must be a file that tune wrote, but `{self.path}` is not: {e} (use another path)") from None
        if not same:
            raise InputError(
                f"`checkpoint` must belong to the same tuning, but `{self.path}` is of another (use another path or delete it)"
            )

    def __call__(self, key: str, compute: Callable[[], Any]) -> Any:
        if key not in self.done:
            self.done[key] = compute()
            if self.path is not None:
                with replacing(self.path) as temporary:
                    temporary.write_text(json.dumps({"identity": self.identity, "done": self.done}), encoding="utf-8")
        return self.done[key]


Together = Callable[[Family, list[dict[str, float]], Common, Measure], list[Trial]]


@dataclass
class Trials:
    """All solves of a tuning, in order; equal ones are done once. What need not wait is done `together`, if that is given."""

    measure: Measure
    kept: Kept
    together: Together | None = None
    tell: Callable[[str], object] = lambda text: None
    done: list[Trial] = field(default_factory=list)
    _found: dict[str, Trial] = field(default_factory=dict)

    def at(self, family: Family, numbers: dict[str, float], common: Common) -> Trial:
        key = _key(family, numbers, common)
        if key not in self._found:
            setting = family.setting(numbers)
            compute = lambda: asdict(read(self.measure, solve_on(common, setting), family.name, numbers, setting[2], common))
            self._take(key, self.kept(key, compute))
        return self._found[key]

    def all_at(self, family: Family, numbers: Sequence[dict[str, float]], common: Common) -> list[Trial]:
        """Solves that do not need each other's answers."""
        if self.together is not None:
            keys = {_key(family, one, common): one for one in numbers}
            asked = {key: one for key, one in keys.items() if key not in self._found and key not in self.kept.done}
            found = self.together(family, list(asked.values()), common, self.measure) if asked else []
            for key, trial in zip(asked, found, strict=True):
                self.kept(key, lambda trial=trial: asdict(trial))
        return [self.at(family, one, common) for one in numbers]

    def attempts(self, family: Family, common: Common) -> Callable[[Sequence[np.ndarray]], list[Trial]]:
        """The same at places of the unit cube."""
        return lambda places: self.all_at(family, [family.numbers(u) for u in places], common)

    def plan(self, family: Family, numbers: dict[str, float], rtol: float, seed: int, method: str) -> Common:
        """What a solve of these numbers plans; that is a trial, too."""

        def compute() -> dict[str, Any]:
            setting = family.setting(numbers)
            common, found = planned(setting, rtol, seed, method)
            solved = None if found is None else asdict(read(self.measure, found, family.name, numbers, setting[2], common))
            return {"common": asdict(common), "trial": solved}

        kept = self.kept(f"plan {family.name} {numbers!r} {rtol!r} {seed} {method}", compute)
        plan = kept["common"]["plan"]
        common = Common(**{**kept["common"], "plan": None if plan is None else Plan(**plan)})
        key = _key(family, numbers, common)
        if kept["trial"] is not None and key not in self._found:
            self._take(key, kept["trial"])
        return common

    def _take(self, key: str, trial: dict[str, Any]) -> None:
        self._found[key] = Trial(**trial)
        self.done.append(self._found[key])
        self._say()

    def _say(self) -> None:
        good = [one for one in self.done if one.good]
        best = min(good, key=lambda one: one.value, default=None)
        told = "all diverge so far" if best is None else f"best {best.value:.4g} at " + spoken(best.numbers)
        self.tell(f"{len(self.done)} solves, {told}")

    def dataset(self) -> xr.Dataset:
        """A row a solve."""
        names = list(dict.fromkeys(name for one in self.done for name in one.numbers))
        column = lambda name: ("trial", [getattr(one, name) for one in self.done])
        columns: dict[str, Any] = {"form": column("form")} if any(one.form for one in self.done) else {}
        for name in names:
            columns[name] = ("trial", [one.numbers.get(name, np.nan) for one in self.done])
        columns |= {"value": column("value"), "value_se": column("se")}
        # A number of the user's may be called like one of these: the number stays.
        told = ("time", "horizon", "cells", "paths", "replicates", "cpu_seconds")
        columns |= {name: column(name) for name in told if name not in columns}
        columns["status"] = column("words")
        return xr.Dataset(columns, {"trial": np.arange(len(self.done))})


def _key(family: Family, numbers: dict[str, float], common: Common) -> str:
    same = common if common.plan is None else replace(common, rtol=0.5)  # the accuracy asked for is not that of a plan
    return f"{family.name} {numbers!r} {same!r}"


def spoken(numbers: dict[str, float]) -> str:
    return ", ".join(f"{name} = {value:.4g}" for name, value in numbers.items())
