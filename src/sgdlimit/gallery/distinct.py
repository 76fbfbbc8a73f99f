"""SGD, its diffusion approximation and gradient flow are three different limits for non-linear models."""

from __future__ import annotations

from itertools import combinations
from typing import Annotated, Any

import numpy as np
from pydantic import Field

import sgdlimit as sl

from ..settings.config import ProblemSpec
from ..settings.sections import Section, within
from .approach import ALLOWED_BIAS
from .claims import Check, Claim, Numbers, Progress, Verdict
from .figures import band, legend, panels, points
from .measure import CURVES, LABELS, WORDS, Positive, Repeats, beyond, build, differences, series, simulated, solved
from .statistics import LEVEL, bound, pooled

NAMES = ("SGD", "SME", "gradient flow")
TIMES = 9


class One(Section):
    place = ("problems",)
    name: str
    step: Positive
    horizon: Positive
    problem: ProblemSpec


class Both(Section):
    place = ("experiment",)
    rtol: Annotated[float, Field(gt=0, lt=1)] = 0.005
    seed: Annotated[int, Field(ge=0)] = 0
    n_features: Annotated[int, Field(ge=10)]
    repeats: Repeats


class Settings(Section):
    problems: Annotated[list[One], Field(min_length=1)]
    experiment: Both

    def check(self) -> None:
        for i, one in enumerate(self.problems):
            with within(("problems", i)):
                build(one.problem)


def measure(settings: Settings, tell: Progress) -> Numbers:
    e, found, done = settings.experiment, [], 0
    total = 2 * len(NAMES) * len(settings.problems)
    for i, one in enumerate(settings.problems):
        problem, times = build(one.problem), np.linspace(0.0, one.horizon, TIMES)
        parts = {}
        for j, (name, dynamics) in enumerate(zip(NAMES, (sl.SGD(one.step), sl.SME(one.step), sl.GradientFlow()), strict=True)):
            tell(done / total, f"{one.name}, {name}, theory")
            theory = solved(problem, dynamics, one.horizon, rtol=e.rtol, seed=e.seed + j, times=times)
            tell((done + 1) / total, f"{one.name}, {name}, real runs")
            runs = simulated(problem, dynamics, one.horizon, e.n_features, e.repeats, e.seed + 10 * i + j, times=times)
            parts[name] = {"theory": series(theory), "runs": series(runs)}
            done += 2
        found.append({"name": one.name, "step": one.step, "dynamics": parts})
    return {"n_features": e.n_features, "repeats": e.repeats, "problems": found}


def _furthest(one: Numbers, other: Numbers) -> tuple[float, float, str, float]:
    """Largest distance of two sets of curves: in standard errors, relative, which curve, when."""
    best = (0.0, 0.0, CURVES[0], 0.0)
    for name in CURVES:
        gap, se = differences(one, other, name)
        z = np.divide(np.abs(gap), se, out=np.zeros_like(gap), where=se > 0)
        at = int(np.argmax(z))
        if z[at] > best[0]:
            best = (float(z[at]), float(gap[at]), name, one["time"][at])
    return best


def judge(numbers: Numbers) -> Verdict:
    problems, checks, spoken, own = numbers["problems"], [], [], 0.0
    pairs = list(combinations(NAMES, 2))
    count = len(CURVES) * (TIMES - 1) * len(problems) * (len(pairs) + len(NAMES))
    z, t = bound(count), bound(count, degrees=pooled(numbers["repeats"]))
    for found in problems:
        parts = found["dynamics"]
        for a, b in pairs:
            gaps = {}
            for kind, least in (("theory", z), ("runs", t)):
                far, _, curve, time = _furthest(parts[a][kind], parts[b][kind])
                what = {"theory": "theories", "runs": "real runs"}[kind]
                checks.append(
                    Check(f"{found['name']}: {what} of {a} and {b} apart ({WORDS[curve]}, t = {time:.3g})", far, least, "se", least=True)
                )
                gaps[kind] = far
            spoken.append(f"{found['name']}, {a} and {b}: {gaps['theory']:.0f} se in theory, {gaps['runs']:.0f} in real runs")
        for name in NAMES:
            theory, runs = parts[name]["theory"], parts[name]["runs"]
            worst = max(float(beyond(theory, runs, curve, ALLOWED_BIAS / numbers["n_features"]).max()) for curve in CURVES)
            own = max(own, worst)
            checks.append(
                Check(
                    f"{found['name']}: real runs of {name} from their own theory beyond a bias of {ALLOWED_BIAS:g}/d, furthest curve",
                    worst,
                    t,
                    "se",
                )
            )
    summary = (
        f"all three differ, on every problem ({'; '.join(spoken)}), while the real runs of each stay by their own theory ({own:.1f} se)."
    )
    law = (
        f"Level {LEVEL:g} over {count} comparisons (Bonferroni): theory normal ({z:.2f} se), real runs Student t with"
        f" {numbers['repeats'] - 1} degrees of freedom ({t:.2f} se)."
    )
    return Verdict(tuple(checks), summary, law)


def draw(numbers: Numbers) -> Any:
    shown = ("test_risk", "train_risk", "self_overlap")
    with panels(len(shown), len(numbers["problems"]), width=2.75, height=2.4) as (figure, axes):
        for row, found in zip(axes, numbers["problems"], strict=True):
            for axis, curve in zip(row, shown, strict=True):
                for i, name in enumerate(NAMES):
                    part = found["dynamics"][name]
                    band(axis, part["theory"]["time"], part["theory"][curve], i, name)
                    runs = part["runs"]
                    points(axis, runs["time"], runs[curve]["value"], runs[curve]["se"], i)
                axis.set(xlabel="time $t$", ylabel=f"{found['name']}: {LABELS[curve]}" if axis is row[0] else LABELS[curve])
        legend(figure, axes[0, 0], 3)
    return figure


def table(numbers: Numbers) -> list[list[str]]:
    rows = [["problem", "pair", "kind", "distance", "of scale", "curve", "at t"]]
    for found in numbers["problems"]:
        for a, b in combinations(NAMES, 2):
            for kind, what in (("theory", "theory"), ("runs", "real runs")):
                far, relative, curve, time = _furthest(found["dynamics"][a][kind], found["dynamics"][b][kind])
                rows.append([found["name"], f"{a}, {b}", what, f"{far:.1f} se", f"{100 * relative:+.1f} %", WORDS[curve], f"{time:.3g}"])
    return rows


CLAIM = Claim(
    name="distinct",
    title="SGD, SME and gradient flow are three different limits",
    words="At one and the same scaling of the step, SGD, its diffusion approximation (the stochastic modified equation, with the same"
    " drift and the same covariance of the noise) and gradient flow have different limits when the model is not linear: single jumps of"
    " size η are not averaged out, and neither is their noise.",
    source="Fan and Wang, arXiv 2601.21093; SME: Nishiyama and Imaizumi, arXiv 2602.06320.",
    settings=Settings,
    measure=measure,
    judge=judge,
    draw=draw,
    table=table,
    caption="Lines: theory, band ±2 standard errors. Points: real runs, mean ±2 standard errors.",
)
