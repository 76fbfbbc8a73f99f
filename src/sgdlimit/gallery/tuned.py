"""What the claims on tuned numbers share: trainings whose numbers theory has tuned, and real runs with these numbers and beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

import sgdlimit as sl

from ..learning.dynamics import Dynamics
from ..learning.problem import Problem
from ..settings.sections import Section
from .approach import ALLOWED_BIAS
from .claims import Check, Numbers
from .figures import band, points
from .measure import Positive, Repeats, Rtol, Seed, last, simulated
from .statistics import LEVEL, bound, pooled

Made = tuple[Problem, Dynamics]


class Tuning(Section):
    """What all of these experiments have."""

    place = ("experiment",)
    steps: Annotated[list[Positive], Field(min_length=2, max_length=2)]  # from ... to
    beside: Annotated[float, Field(gt=1)] = 2.0  # real runs are also made at the best step times and over this
    rtol: Rtol = 0.01
    seed: Seed = 0
    n_features: Annotated[int, Field(ge=10)]
    repeats: Repeats

    @property
    def bounds(self) -> dict[str, tuple[float, float, str]]:
        return {"step": (self.steps[0], self.steps[1], "log")}


@dataclass(frozen=True)
class Training:
    """A training with numbers to tune. `x` is its place in pictures; of `bounds` one is that of `step`."""

    name: str
    x: float
    problem: Problem
    make: Callable[..., Made]
    bounds: dict[str, tuple[float, float, str]]
    epochs: int
    at: str = "end"


def shuffled(problem: Problem) -> Callable[[float], Made]:
    """Reshuffled SGD with a step."""
    return lambda step: (problem, sl.SGD(step, "reshuffle"))


def tuned(one: Training, e: Tuning, i: int) -> Numbers:
    """The best numbers of a training, and its risk in theory and in real runs: at the best numbers and at other steps."""
    best = sl.tune(one.problem, one.make, one.bounds, epochs=one.epochs, at=one.at, rtol=e.rtol, seed=e.seed)
    real = {}
    for j, factor in enumerate((1.0, 1 / e.beside, e.beside)):
        numbers = best.parameters | {"step": best.parameters["step"] * factor}
        problem, dynamics = one.make(**numbers)
        # The same part of the epochs, as the step is what differs; with the seeds of the best step's runs, so that they have its data.
        end = best.time * factor
        runs = simulated(problem, dynamics, end, e.n_features, e.repeats, e.seed + 1 + i, times=[0.0, end])
        real[("best", "below", "above")[j]] = last(runs)["test_risk"]
    theory = {"value": best.value, "se": best.value_se}
    flat = {name: list(ends) for name, ends in best.flat.items()}
    epoch = best.parameters["step"] * one.problem.sample_ratio
    return {
        "name": one.name, "x": one.x, "epochs": one.epochs, "at": one.at, "stopped": best.time / epoch, "notes": list(best.notes),
        "parameters": best.parameters, "parameters_se": best.parameters_se, "flat": flat, "theory": theory, "runs": real,
    }  # fmt: skip


def followed(numbers: Numbers) -> tuple[list[Check], float]:
    """Real runs at the numbers that theory found, against its risk there and against other steps; and how far they are at most."""
    members = numbers["members"]
    t, d = bound(3 * len(members), degrees=pooled(numbers["repeats"])), numbers["n_features"]
    checks, worst, least = [], 0.0, np.inf
    for member in members:
        theory, real = member["theory"], member["runs"]["best"]
        gap = max(abs(real["value"] - theory["value"]) - ALLOWED_BIAS / d * theory["value"], 0.0)
        worst = max(worst, gap / np.hypot(real["se"], theory["se"]))
        for kind in ("below", "above"):
            other = member["runs"][kind]
            least = min(least, (other["value"] - real["value"]) / np.hypot(other["se"], real["se"]))
    checks.append(Check(f"real runs at the tuned numbers from theory beyond a bias of {ALLOWED_BIAS:g}/d, furthest", float(worst), t, "se"))
    what = f"real runs at steps {numbers['beside']:g} times smaller or larger worse than at the tuned step, least"
    checks.append(Check(what, float(least), t, "se", least=True))
    return checks, float(worst)


def above(one: Numbers, other: Numbers) -> tuple[float, float]:
    """How much more risk one has than another, `{value, se}`, and the error of that."""
    return one["value"] - other["value"], float(np.hypot(one["se"], other["se"]))


def worse(what: str, one: Numbers, other: Numbers, z: float, t: float) -> list[Check]:
    """That one training has more risk than another, in theory and in real runs."""
    checks = []
    for kind, least in (("theory", z), ("real runs", t)):
        gap, se = above(one["theory"], other["theory"]) if kind == "theory" else above(one["runs"]["best"], other["runs"]["best"])
        checks.append(Check(f"{what}, {kind}", gap / se, least, "se", least=True))
    return checks


def bounds_of(numbers: Numbers, count: int) -> tuple[float, float, str]:
    """Of `count` comparisons: for theory and for real runs, and their law in words."""
    z, t = bound(count), bound(count, degrees=pooled(numbers["repeats"]))
    law = (
        f"Level {LEVEL:g}: real runs Student t with {numbers['repeats'] - 1} degrees of freedom, theory normal, over {count} comparisons"
        f" (Bonferroni: {t:.2f} and {z:.2f} se); real runs against theory and beside it over {3 * len(numbers['members'])}."
    )
    return z, t, law


def described(e: Tuning, members: list[Numbers]) -> Numbers:
    return {"n_features": e.n_features, "repeats": e.repeats, "beside": e.beside, "members": members}


def column(members: list[Numbers], *path: str) -> np.ndarray:
    """One number of every training."""
    found = []
    for member in members:
        at: Any = member
        for key in path:
            at = at[key]
        found.append(at)
    return np.array(found, dtype=float)


def risk(members: list[Numbers], *path: str) -> dict[str, np.ndarray]:
    """That of every training, `{value, se}`."""
    return {key: column(members, *path, key) for key in ("value", "se")}


def number(members: list[Numbers], name: str) -> dict[str, np.ndarray]:
    """The best number of this name of every training, `{value, se}`."""
    return {"value": column(members, "parameters", name), "se": column(members, "parameters_se", name)}


def drawn(axis: Any, members: list[Numbers], i: int, label: str) -> None:
    """Test risks at the best numbers, theory as a line and real runs as points."""
    x, real = column(members, "x"), risk(members, "runs", "best")
    band(axis, x, risk(members, "theory"), i)
    points(axis, x, real["value"], real["se"], i, label)


def more(one: Numbers, other: Numbers) -> str:
    """How much more risk a training has than another, in theory."""
    return f"{100 * (one['theory']['value'] / other['theory']['value'] - 1):.0f}%"


def table(numbers: Numbers) -> list[list[str]]:
    names = list(dict.fromkeys(name for member in numbers["members"] for name in member["parameters"]))
    times = f"{numbers['beside']:g}"
    kinds = {"best": "real runs", "below": f"at step / {times}", "above": f"at step x {times}"}
    rows = [["training", *names, "stopped after", "test risk, theory", *kinds.values()]]
    for member in numbers["members"]:
        cells = [
            f"{member['parameters'][name]:.3g} ± {member['parameters_se'][name]:.1g}" if name in member["parameters"] else "—"
            for name in names
        ]
        risks = [member["theory"], *(member["runs"][kind] for kind in kinds)]
        spoken = (f"{risk['value']:.4f} ± {risk['se']:.4f}" for risk in risks)
        rows.append([member["name"], *cells, f"{member['stopped']:.3g} epochs", *spoken])
    return rows


def with_ratio(problem: Problem, ratio: float) -> Problem:
    return replace(problem, sample_ratio=ratio)
