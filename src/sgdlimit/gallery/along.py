"""What the claims on numbers that are trained along share: one problem at several rates of these numbers, in theory and in real runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

import sgdlimit as sl

from ..errors import refuse
from ..learning.dynamics import Dynamics
from ..learning.problem import Problem
from ..results import Result
from ..settings.config import ProblemSpec, _problem
from ..settings.sections import Section
from .approach import ALLOWED_BIAS
from .claims import Check, Numbers, Progress
from .figures import band, points
from .measure import CURVES, Experiment, Positive, Repeats, beyond, simulated, solved
from .statistics import LEVEL, bound, crossing, pooled

ALL = (*CURVES, "trained")
POINTS, EVERY = 33, 4  # output times, and of which every so many are compared: neighbours hang together
DYNAMICS = {"one pass": sl.OnlineSGD, "replacement": sl.SGD, "reshuffle": lambda step: sl.SGD(step, "reshuffle")}


class Rates(Experiment):
    step: Positive
    dynamics: Literal["one pass", "replacement", "reshuffle"]
    rates: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=3)]
    level: float  # a curve of each claim is followed until it goes through this
    n_features: Annotated[int, Field(ge=10)]
    repeats: Repeats


class Settings(Section):
    problem: ProblemSpec
    experiment: Rates

    def check(self) -> None:
        rates = self.experiment.rates
        if sorted(set(rates)) != rates or rates[0] != 0:
            raise refuse("experiment.rates", "increase from 0, where the numbers are held fixed", rates)
        self.build()

    def build(self) -> Problem:
        problem = _problem(self.problem, None)
        if problem.trained is None:
            raise refuse(
                "problem.model", "train numbers along", self.problem.model, "logistic with intercept = true, or a committee's head"
            )
        return problem

    def train(self) -> Dynamics:
        return DYNAMICS[self.experiment.dynamics](self.experiment.step)


def measure(settings: Settings, tell: Progress) -> Numbers:
    problem, e = settings.build(), settings.experiment
    times, members = np.linspace(0.0, e.horizon, POINTS), []
    law = {"seed": e.seed, "times": times}
    for i, rate in enumerate(e.rates):
        tell(i / len(e.rates), f"rate {rate:g}")
        assert problem.trained is not None
        one = replace(problem, trained=replace(problem.trained, rate=rate))
        theory = solved(one, settings.train(), e.horizon, rtol=e.rtol, **law)
        runs = simulated(one, settings.train(), e.horizon, e.n_features, e.repeats, e.seed + 1 + i, times=times)
        members.append({"rate": rate, "theory": whole(theory), "runs": whole(runs)})
    return {
        "level": e.level, "step": e.step, "epoch": None if e.dynamics == "one pass" else e.step * problem.sample_ratio,
        "rho": problem.teacher.cov.tolist(), "n_features": e.n_features, "repeats": e.repeats, "members": members,
    }  # fmt: skip


def whole(result: Result) -> Numbers:
    """All curves in all their directions, `(time, ...)`, with the numbers that were trained along."""
    ds = result.dataset
    return {"time": ds["time"].values.tolist()} | {
        name: {"value": ds[name].values.tolist(), "se": ds[f"{name}_se"].values.tolist()} for name in ALL
    }


def entry(curves: Numbers, name: str, *index: int) -> Numbers:
    """One entry of a curve over time, `{value, se}`."""
    return {key: np.asarray(curves[name][key])[(slice(None), *index)] for key in ("value", "se")}


def when(curves: Numbers, name: str, level: float, *index: int) -> tuple[float, float]:
    """When one entry of a curve goes through a level, and the error of that."""
    one = entry(curves, name, *index)
    return crossing(curves["time"], one["value"], one["se"], level)


def comparisons(numbers: Numbers) -> tuple[int, float]:
    """How many values of curves are compared, and their bound in standard errors."""
    shapes = [np.shape(numbers["members"][0]["theory"][name]["value"][EVERY::EVERY]) for name in ALL]
    count = len(numbers["members"]) * sum(int(np.prod(shape)) for shape in shapes)
    return count, bound(count, degrees=pooled(numbers["repeats"]))


def followed(numbers: Numbers) -> tuple[list[Check], float]:
    """Real runs of every rate against their own theory, in all curves, and how far they are at most."""
    _, t = comparisons(numbers)
    checks, allowed = [], ALLOWED_BIAS / numbers["n_features"]
    for member in numbers["members"]:
        names = ALL if member["rate"] else CURVES  # numbers that are held fixed say nothing
        worst = max(beyond(member["theory"], member["runs"], name, allowed)[EVERY::EVERY].max() for name in names)
        what = f"rate {member['rate']:g}: real runs from theory beyond a bias of {ALLOWED_BIAS:g}/d, furthest curve"
        checks.append(Check(what, float(worst), t, "se"))
    return checks, max(check.value for check in checks)


def apart(what: str, theory: tuple[float, float], real: tuple[float, float], allowed: float, t: float) -> Check:
    """A time of theory against that of real runs, of which an `allowed` part may differ; a time that one of them lacks fails."""
    gap = max(abs(real[0] - theory[0]) - allowed * theory[0], 0.0) if np.isfinite([real[0], theory[0]]).all() else np.nan
    return Check(what, gap / float(np.hypot(real[1], theory[1])), t, "se")


def law(numbers: Numbers, more: str = "") -> str:
    count, t = comparisons(numbers)
    return (
        f"Level {LEVEL:g}: curves of real runs Student t with {numbers['repeats'] - 1} degrees of freedom over {count} comparisons"
        f" (Bonferroni: {t:.2f} se).{more}"
    )


def drawn(axis: Any, member: Numbers, name: str, i: int, label: str | None = None, index: tuple[int, ...] = (), wide: float = 1.0) -> None:
    """One entry of a curve, theory as a line and real runs as points, over time in units of `wide`."""
    line, dots = entry(member["theory"], name, *index), entry(member["runs"], name, *index)
    band(axis, np.asarray(member["theory"]["time"]) / wide, line, i, label)
    some = slice(i % EVERY, None, EVERY)  # of neighbouring curves at different times
    points(axis, np.asarray(member["runs"]["time"])[some] / wide, dots["value"][some], dots["se"][some], i)
