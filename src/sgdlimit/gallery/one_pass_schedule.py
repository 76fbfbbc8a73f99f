"""The best schedule of one pass over linear data, against its known form."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field
from scipy import integrate, optimize

import sgdlimit as sl

from ..errors import refuse
from ..learning.problem import Problem
from ..models import linear_regression
from ..settings.sections import Section
from .approach import ALLOWED_BIAS
from .claims import Check, Claim, Numbers, Progress, Verdict
from .figures import exact, logarithmic, look, panels, points
from .measure import Positive
from .scheduled import HEAD, Schedules, cells, gain_gap, risk_gap, scheduled
from .statistics import LEVEL, bound

NEAR = 0.002  # part of the least risk by which a schedule through few knots may be above it
STEPS = 0.1  # part by which its steps may be off between the ends


class Lengths(Schedules):
    noise: Positive
    teacher: Positive
    start: Positive
    samples: Annotated[list[Positive], Field(min_length=2)]


class Settings(Section):
    experiment: Lengths

    def check(self) -> None:
        if sorted(set(self.experiment.samples)) != self.experiment.samples:
            raise refuse("experiment.samples", "increase", self.experiment.samples)


def _problem(e: Lengths, samples: float) -> Problem:
    m = linear_regression(e.noise)
    return sl.Problem(m.loss, m.label, m.noise, samples, sl.GaussianTeacher([[e.teacher]]), sl.Init([[0.0]], [[e.start]]))


def known(noise: float, start: float, samples: float, parts: Any) -> Numbers:
    """The best steps at `parts` of one pass, the least risk after it, and the best constant step with its own.

    Over `a` samples a feature the excess of a label's mean square falls as `de/da = -2 s e + s^2 (e + noise^2)` under the step `s`. Since
    the fall at any `e` is fastest for `s = e / (e + noise^2)`, and what is left at the end rises with the `e` of any time before, dynamic
    programming chooses this step always.
    """
    square = noise**2
    excess = integrate.solve_ivp(lambda a, e: -(e**2) / (e + square), (0.0, samples), [start], dense_output=True, rtol=1e-10, atol=1e-12)
    along = excess.sol(samples * np.asarray(parts))[0]

    def constant(step: float) -> float:
        rate, floor = 2 * step - step**2, step * square / (2 - step)
        return floor + (start - floor) * np.exp(-rate * samples)

    least: Any = optimize.minimize_scalar(constant, bounds=(1e-3, 1.99), method="bounded", options={"xatol": 1e-8})
    return {
        "steps": (along / (along + square)).tolist(), "risk": float(0.5 * (excess.y[0][-1] + square)),
        "constant": float(least.x), "constant_risk": float(0.5 * (least.fun + square)),
    }  # fmt: skip


def measure(settings: Settings, tell: Progress) -> Numbers:
    e, members = settings.experiment, []
    for i, samples in enumerate(e.samples):
        tell(i / len(e.samples), f"{samples:g} samples a feature")
        found = scheduled(_problem(e, samples), sl.OnlineSGD, 1, e, i)
        members.append({"samples": samples, "known": known(e.noise, e.start + e.teacher, samples, found["passed"])} | found)
    law = {"noise": e.noise, "start": e.start + e.teacher}
    return {"n_features": e.n_features, "pairs": e.pairs, "members": members} | law


def judge(numbers: Numbers) -> Verdict:
    members, d = numbers["members"], numbers["n_features"]
    count = 6 * len(members)
    z, t = bound(count), bound(count, degrees=numbers["pairs"] - 1)
    off, high, constant, gains = [], [], [], []
    for m in members:
        inner = np.abs(np.array(m["steps"]) / np.array(m["known"]["steps"]) - 1)[3:-3]
        off.append(float(inner.max()))
        gap = m["theory"]["value"] - m["known"]["risk"]
        high.append(max(gap - NEAR * m["known"]["risk"], -gap, 0.0) / m["theory"]["se"])
        constant.append(abs(m["constant"] / m["known"]["constant"] - 1))
        true = m["known"]["constant_risk"] - m["known"]["risk"]
        gains.append(max(abs(m["gain"]["value"] - true) - NEAR * m["known"]["risk"], 0.0) / m["gain"]["se"])
    bias = f"beyond a bias of {ALLOWED_BIAS:g}/d, furthest"
    checks = (
        Check(f"risk of the schedule found from the least that is known, {NEAR:.1%} of it allowed above, furthest", max(high), z, "se"),
        Check("its steps from those known, largest part", max(off), STEPS),
        Check("best constant step from that known, largest part", float(max(constant)), 0.5 * STEPS),
        Check(f"gain over the constant from that known beyond {NEAR:.1%} of the risk, furthest", max(gains), z, "se"),
        Check(
            "gain of real runs over the constant, least",
            min(m["real_gain"]["value"] / m["real_gain"]["se"] for m in members),
            t,
            "se",
            True,
        ),
        Check(f"gain of real runs from that of theory {bias}", max(gain_gap(m, d) for m in members), t, "se"),
        Check(f"risk of real runs with the schedule from theory {bias}", max(risk_gap(m, d) for m in members), t, "se"),
    )
    above = ", ".join(f"{100 * (m['theory']['value'] / m['known']['risk'] - 1):+.2f}%" for m in members)
    spoken = ", ".join(
        f"{100 * m['gain']['value'] / m['theory']['value']:.1f}% (real runs {100 * m['real_gain']['value'] / m['theory']['value']:.1f} ±"
        f" {100 * m['real_gain']['se'] / m['theory']['value']:.1f}%)"
        for m in members
    )
    summary = (
        f"with {', '.join(format(m['samples'], 'g') for m in members)} samples a feature the schedule found has {above} of risk over"
        f" the least possible, and its steps are those known to {100 * max(off):.0f}%. Over the best constant step it gains {spoken}."
    )
    law = (
        f"Level {LEVEL:g} over {count} comparisons (Bonferroni): theory normal ({z:.2f} se), real runs Student t with"
        f" {numbers['pairs'] - 1} degrees of freedom ({t:.2f} se), their gains on the same data."
    )
    return Verdict(checks, summary, law)


def draw(numbers: Numbers) -> Any:
    with panels(2, height=2.75) as (figure, ((left, right),)):
        for i, m in enumerate(numbers["members"]):
            how, x = look(i), np.array(m["passed"])
            exact(left, x, m["known"]["steps"], "known" if not i else None)
            left.plot(x, m["steps"], color=how["color"], dashes=how["dashes"], linewidth=1.4, label=f"{m['samples']:g} samples a feature")
        left.set(xlabel="part of the pass", ylabel=r"best step $\eta$", ylim=(0, None))
        left.legend(frameon=False, fontsize=8.5)
        x = np.array([m["samples"] for m in numbers["members"]])
        some = numbers["members"]
        scale = np.array([100 / m["known"]["risk"] for m in some])
        fine = np.geomspace(x[0] / 1.3, x[-1] * 1.3, 40)
        noise, start = numbers["noise"], numbers["start"]
        curve = [known(noise, start, float(a), [1.0]) for a in fine]
        exact(right, fine, [100 * (one["constant_risk"] / one["risk"] - 1) for one in curve], "known")
        gain, se, real, error = (
            scale * np.array([m[name][key] for m in some]) for name in ("gain", "real_gain") for key in ("value", "se")
        )
        points(right, x / 1.04, gain, se, 0, "theory, tuned")
        points(right, x * 1.04, real, error, 1, "real runs")
        logarithmic(right, x)
        right.set(xlabel="samples a feature", ylabel="gain over best constant step (%)", ylim=(0, None))
        right.legend(frameon=False, fontsize=8.5)
    return figure


def table(numbers: Numbers) -> list[list[str]]:
    rows = [["samples a feature", "least risk known", *HEAD]]
    return rows + [[f"{m['samples']:g}", f"{m['known']['risk']:.5f}", *cells(m)] for m in numbers["members"]]


CLAIM = Claim(
    name="one-pass-schedule",
    title="One pass: the best schedule is the known one",
    words="For the linear model without a ridge dynamic programming has an answer for one pass over fresh samples: at any time the best"
    " step is the excess error over the whole, e / (e + noise²), in units where a feature's variance is 1. Theory tuned through a few"
    " knots finds it, its risk, and what it gains over the best constant step.",
    source="For one pass Mignacco and Mori, arXiv 2507.07907, and Bordelon and Mori, arXiv 2602.04774.",
    settings=Settings,
    measure=measure,
    judge=judge,
    draw=draw,
    table=table,
    caption="(a) The best steps over the part of the pass: known (wide) and found by tuning the theory (lines). (b) What they gain over the"
    " best constant step, in parts of the risk: known (wide), by tuning, and in pairs of real runs on the same data (±2 standard errors).",
)
