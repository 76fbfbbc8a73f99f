"""What the claims on schedules share: one that theory has tuned, and what it gains over the tuned constant step, in real runs too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from pydantic import Field

import sgdlimit as sl

from ..learning.dynamics import Dynamics
from ..learning.problem import Problem
from ..settings.sections import Section
from .approach import ALLOWED_BIAS
from .claims import Numbers
from .measure import Positive, Rtol, Seed, last, simulated, solved

DRAWN = 61
AT_ONCE = 2  # real runs of one seed: as few as their errors allow


class Schedules(Section):
    """What all of these experiments have."""

    place = ("experiment",)
    knots: Annotated[int, Field(ge=2, le=12)]
    steps: Annotated[list[Positive], Field(min_length=2, max_length=2)]  # of constant steps, from ... to
    rtol: Rtol = 0.01
    told: Rtol | None = None  # of the risk that theory tells of a schedule found, where it is to be told better than it was searched for
    seed: Seed = 0
    n_features: Annotated[int, Field(ge=10)]
    pairs: Annotated[int, Field(ge=2)]  # of real runs, two at a time, with the schedule and with the constant step on the same data


def scheduled(problem: Problem, train: Callable[[Any], Dynamics], epochs: float, e: Schedules, i: int) -> Numbers:
    """The best schedule, the best constant step, and their risks in theory and in real runs."""
    found = sl.tune_schedule(problem, train, epochs, e.knots, rivals=False, steps=e.steps, rtol=e.rtol, seed=e.seed)
    (constant,) = found.rivals
    times = np.linspace(0.0, found.horizon, DRAWN)
    steps = np.array([found.schedule(float(t)) for t in times])
    passed = np.concatenate([[0.0], np.cumsum(np.diff(times) * 0.5 * (1 / steps[1:] + 1 / steps[:-1]))])
    step = constant.numbers["step"]
    best, other = [], []
    for j in range(e.pairs):
        seed = e.seed + 1 + 1000 * i + j
        for runs, dynamics, end in (
            (best, train(found.schedule), found.horizon),
            (other, train(step), epochs * step * problem.sample_ratio),
        ):
            one = simulated(problem, dynamics, end, e.n_features, AT_ONCE, seed, times=[0.0, end])
            runs.append(float(one.dataset["test_risk"].values[-1]))
    told = {"value": found.value, "se": found.value_se}
    if e.told is not None:
        again = solved(problem, train(found.schedule), found.horizon, rtol=e.told, seed=e.seed, times=[0.0, found.horizon])
        told = last(again)["test_risk"]
    mean = lambda values: {"value": float(np.mean(values)), "se": float(np.std(values, ddof=1) / np.sqrt(len(values)))}
    return {
        "epochs": epochs, "passed": (passed * epochs / passed[-1]).tolist(), "steps": steps.tolist(),
        "knots": [float(found.schedule(t)) for t in found.schedule.times], "constant": step,
        "theory": told, "gain": {"value": found.gain, "se": found.gain_se},
        "runs": mean(best), "real_gain": mean(np.subtract(other, best)),
    }  # fmt: skip


def has_schedule(member: Numbers) -> bool:
    """Whether there is one that gains, or the constant step is given in its place."""
    return max(member["knots"]) > min(member["knots"]) * (1.0 + 1e-9)


def risk_gap(member: Numbers, d: int) -> float:
    """How far real runs with the schedule are from theory, in standard errors, beyond a bias of order 1/d."""
    theory, real = member["theory"], member["runs"]
    rest = max(abs(real["value"] - theory["value"]) - ALLOWED_BIAS / d * theory["value"], 0.0)
    return rest / float(np.hypot(theory["se"], real["se"]))


def gain_gap(member: Numbers, d: int) -> float:
    """How far the gain of real runs is from that of theory, in standard errors, beyond a bias of order 1/d of it."""
    theory, real = member["gain"], member["real_gain"]
    rest = max(abs(real["value"] - theory["value"]) - ALLOWED_BIAS / d * abs(theory["value"]), 0.0)
    return rest / float(np.hypot(theory["se"], real["se"]))


def cells(member: Numbers) -> list[str]:
    """A training's part of a table, see `HEAD`."""
    spoken = lambda one, scale=1.0, digits=4: f"{scale * one['value']:.{digits}f} ± {scale * one['se']:.{digits}f}"
    scale = 100 / member["theory"]["value"]
    steps = ", ".join(f"{step:.2f}" for step in member["knots"])
    gains = (f"{spoken(member[kind], scale, 2)} %" for kind in ("gain", "real_gain"))
    return [steps, f"{member['constant']:.3f}", spoken(member["theory"]), spoken(member["runs"]), *gains]


HEAD = ["steps at the knots", "best constant step", "test risk, theory", "real runs", "gain over the constant, theory", "real runs"]
