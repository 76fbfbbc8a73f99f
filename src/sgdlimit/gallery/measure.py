"""What the claims measure: the four curves of a problem with one direction, in theory and in real runs of many sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import Field

import sgdlimit as sl

from ..errors import SolveError, refuse
from ..learning.dynamics import Dynamics
from ..learning.problem import Problem
from ..results import Result
from ..settings.config import ProblemSpec, _problem
from ..settings.sections import Section
from ..settings.training import Positive
from .claims import Numbers

CURVES = ("test_risk", "train_risk", "overlap", "self_overlap")
LABELS = {
    "test_risk": "test risk", "train_risk": "train risk", "overlap": r"overlap $\mathrm{E}[w \, r^\star\!]$",
    "self_overlap": r"self-overlap $\mathrm{E}[w^2]$",
}  # fmt: skip
WORDS = {name: name.replace("_", " ").replace("self o", "self-o") for name in CURVES}

Sizes = Annotated[list[Annotated[int, Field(ge=10)]], Field(min_length=3)]
Repeats = Annotated[int, Field(ge=2)]
Seed = Annotated[int, Field(ge=0)]
Rtol = Annotated[float, Field(gt=0, lt=1)]


class Experiment(Section):
    """What all claims have: how long, how accurate, and the random seed."""

    place = ("experiment",)
    horizon: Positive
    rtol: Rtol = 0.005
    seed: Seed = 0


class OneProblem(Section):
    """Settings with one problem, of one student and one teacher direction."""

    problem: ProblemSpec

    def check(self) -> None:
        self.build()

    def build(self) -> Problem:
        return build(self.problem)


def build(spec: ProblemSpec, field: str = "problem") -> Problem:
    """The problem of a settings table."""
    problem = _problem(spec, None)
    if (problem.k, problem.k_star) != (1, 1):
        raise refuse(f"{field}.model", "have one student and one teacher direction", spec.model, "tanh_regression and logistic are such")
    return problem


def curves(result: Result) -> dict[str, dict[str, list[float]]]:
    """`{curve: {value, se}}` over the result's times."""
    ds = result.dataset
    flat = lambda name: ds[name].values.reshape(ds.sizes["time"], -1)[:, 0].tolist()
    return {name: {"value": flat(name), "se": flat(f"{name}_se")} for name in CURVES}


def series(result: Result) -> Numbers:
    """Curves with their times and how the result ended."""
    return {"time": result.dataset["time"].values.tolist(), "status": str(result.status), "code": result.status.code, **curves(result)}


def solved(problem: Problem, dynamics: Dynamics, horizon: float, rtol: float, seed: int, times: Any, method: str = "auto") -> sl.Solution:
    """Theory as accurate as it gets: verdicts rest on the errors it reports, whether or not they are those asked for."""
    return _whole(sl.solve(problem, dynamics, horizon, rtol=rtol, seed=seed, times=times, method=method, on_failure="return"), times)


def simulated(problem: Problem, dynamics: Dynamics, horizon: float, d: int, repeats: int, seed: int, times: Any) -> sl.Simulation:
    """Real runs at all of `times`."""
    return _whole(sl.simulate(problem, dynamics, horizon, d, repeats=repeats, seed=seed, times=times), times)


R = TypeVar("R", bound=Result)


def _whole(result: R, times: Any) -> R:
    """The result, if it reached the last time: what claims compare needs all of a curve."""
    if len(result.dataset["time"]) < len(times):
        raise SolveError(f"The settings must describe a stable training, but {result.dataset.attrs['dynamics']} {result.status}")
    return result


def grown(
    problem: Problem,
    dynamics: Callable[[int], Dynamics],
    end: float,
    sizes: Sequence[int],
    repeats: Sequence[int],
    seed: int,
    tell: Callable[[int], Any],
    design: str = "gaussian",
) -> list[Numbers]:
    """Real runs of growing size at their last time: for each size its curves' means with standard errors; `dynamics(d)` may
    depend on it. Sizes have seeds of their own: with one seed, small data would be a part of the large."""
    rows = []
    for i, (d, count) in enumerate(zip(sizes, repeats, strict=True)):
        tell(i)
        runs = sl.simulate(problem, dynamics(d), end, d, repeats=count, design=design, seed=seed + i, times=[end])
        rows.append({"n_features": d, "repeats": count, "n_samples": runs.dataset.attrs["n_samples"], **last(runs)})
    return rows


def blocks(problem: Problem, dynamics: Dynamics, times: Any, d: int, size: int, count: int, seed: int, **how: Any) -> np.ndarray:
    """Real runs in `count` blocks of `size` runs of one seed: the curves' means over a block and the times, `(count, curve)`.

    Blocks of one seed share data, start and draws whatever the dynamics, so that their differences scatter far less than they do."""
    found = []
    for i in range(count):
        runs = sl.simulate(problem, dynamics, float(times[-1]), d, repeats=size, seed=seed + i, times=times, **how)
        values = curves(_whole(runs, times))
        found.append([float(np.mean(values[name]["value"])) for name in CURVES])
    return np.array(found)


def summary(values: np.ndarray) -> Numbers:
    """Means over blocks `(count, curve)` with their errors."""
    mean, error = values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))
    return {name: {"value": float(v), "se": float(s)} for name, v, s in zip(CURVES, mean, error, strict=True)}


def last(result: Result) -> Numbers:
    """Curves at the last time: `{curve: {value, se}}`."""
    return {name: {key: both[-1] for key, both in curve.items()} for name, curve in curves(result).items()}


def check_sizes(experiment: Any) -> None:
    """Each size has its number of runs, and sizes grow."""
    sizes, repeats = experiment.n_features, experiment.repeats
    if len(sizes) != len(repeats):
        raise refuse("experiment.repeats", f"have one number for each of the {len(sizes)} sizes of `n_features`", repeats)
    if sorted(set(sizes)) != sizes:
        raise refuse("experiment.n_features", "increase", sizes)


def differences(theory: Numbers, real: Numbers, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Real minus theory of one curve, in units of the theory's largest value, and its standard error."""
    a, b = theory[name], real[name]
    scale = float(np.max(np.abs(a["value"])))
    gap = (np.asarray(b["value"]) - np.asarray(a["value"])) / scale
    return gap, np.hypot(b["se"], a["se"]) / scale


def beyond(theory: Numbers, real: Numbers, name: str, allowed: float) -> np.ndarray:
    """How far real runs are from theory in one curve, in standard errors, beyond an `allowed` part of the theory's largest value; without
    an error everything beyond it is infinitely far."""
    gap, se = differences(theory, real, name)
    rest = np.maximum(np.abs(gap) - allowed, 0.0)
    return np.divide(rest, se, out=np.where(rest > 1e-9, np.inf, 0.0), where=se > 0)
