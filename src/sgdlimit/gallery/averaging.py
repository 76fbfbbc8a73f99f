"""What averaging the weights gains over the last ones, against the step."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

import sgdlimit as sl

from .approach import ALLOWED_BIAS
from .claims import Check, Claim, Numbers, Progress, Verdict
from .figures import band, guide, logarithmic, panels, points
from .measure import CURVES, WORDS, Experiment, OneProblem, Positive, Repeats, blocks, last, solved, summary
from .statistics import LEVEL, bound, pooled


class Averages(Experiment):
    steps: Annotated[list[Positive], Field(min_length=3)]
    tail: Annotated[float, Field(gt=0, le=1)]  # part of the time over which weights are averaged
    memory: Positive  # of the exponential average
    n_features: Annotated[int, Field(ge=10)]
    block: Repeats
    repeats: Annotated[int, Field(ge=3)]


class Settings(OneProblem):
    experiment: Averages


def measure(settings: Settings, tell: Progress) -> Numbers:
    problem, e = settings.build(), settings.experiment
    kinds = {"tail": sl.TailAverage(e.tail), "recent": sl.ExponentialAverage(e.memory)}
    rows, end = [], [e.horizon]
    for i, step in enumerate(sorted(e.steps)):
        tell(i / len(e.steps), f"step {step:g}, theory")
        limit = solved(problem, sl.SGD(step), e.horizon, e.rtol, e.seed + i, [0.0, e.horizon], "kernels")
        theory = {"last": last(limit), **{kind: last(limit.averaged(average)) for kind, average in kinds.items()}}
        tell((i + 0.4) / len(e.steps), f"step {step:g}, real runs")
        real = lambda average, step=step, i=i: blocks(
            problem, sl.SGD(step), end, e.n_features, e.block, e.repeats, e.seed + 1000 * (i + 1), average=average
        )
        plain = real(None)
        runs, gains = {"last": summary(plain)}, {}
        for kind, average in kinds.items():
            averaged = real(average)
            runs[kind], gains[kind] = summary(averaged), summary(plain - averaged)
        rows.append({"step": step, "theory": theory, "runs": runs, "gains": gains})
    names = {"last": "last weights", "tail": f"mean of the last {100 * e.tail:g}%", "recent": f"mean of memory {e.memory:g}"}
    return {"horizon": e.horizon, "n_features": e.n_features, "repeats": e.repeats, "names": names, "rows": rows}


def gains(numbers: Numbers, kind: str, curve: str = "test_risk") -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What an average gains at each step relative to the last weights, in the limit with its error and in real runs with theirs."""
    found = []
    for row in numbers["rows"]:
        plain, averaged, real = row["theory"]["last"][curve], row["theory"][kind][curve], row["gains"][kind][curve]
        numbers_of = plain["value"] - averaged["value"], np.hypot(plain["se"], averaged["se"]), real["value"], real["se"]
        found.append(np.array(numbers_of) / abs(plain["value"]))
    value, se, real, error = np.array(found).T
    return value, se, real, error


def judge(numbers: Numbers) -> Verdict:
    rows, names = numbers["rows"], numbers["names"]
    kinds, allowed = [kind for kind in names if kind != "last"], ALLOWED_BIAS / numbers["n_features"]
    count = len(CURVES) * len(rows) * len(names) + 3 * len(kinds)
    z, t, checks, spoken = bound(count), bound(count, degrees=pooled(numbers["repeats"])), [], []
    steps = [row["step"] for row in rows]
    for kind in kinds:
        off = []
        for curve in CURVES:
            value, se, real, error = gains(numbers, kind, curve)
            off.append(float(np.max(np.maximum(np.abs(real - value) - allowed, 0.0) / np.hypot(se, error))))
        what = f"{names[kind]}: gain of real runs from the limit's beyond {ALLOWED_BIAS:g}/d, furthest step and curve"
        checks.append(Check(what, max(off), t, "se"))
        value, se, real, error = gains(numbers, kind)
        checks.append(Check(f"{names[kind]}: gain at step {steps[-1]:g}", value[-1] / se[-1], 2 * z, "se", least=True))
        checks.append(Check(f"{names[kind]}: gain of real runs at step {steps[-1]:g}", real[-1] / error[-1], 2 * t, "se", least=True))
        rise = (np.diff(value) / np.hypot(se[1:], se[:-1])).min()
        checks.append(Check(f"{names[kind]}: rise of the gain from one step to the next, least", rise, z, "se", least=True))
        spoken.append(
            f"{names[kind]} {', '.join(f'{100 * v:+.2f} ± {100 * s:.2f}%' for v, s in zip(value, se, strict=True))} in theory and"
            f" {', '.join(f'{100 * v:+.2f} ± {100 * s:.2f}%' for v, s in zip(real, error, strict=True))} in real runs"
        )
    value, se, real, error = gains(numbers, "tail")
    checks.append(Check(f"{names['tail']}: loss at step {steps[0]:g}", -value[0] / se[0], z, "se", least=True))
    checks.append(Check(f"{names['tail']}: loss of real runs at step {steps[0]:g}", -real[0] / error[0], t, "se", least=True))
    low, high = (row["theory"]["tail"]["test_risk"] for row in (rows[0], rows[-1]))
    left = high["value"] - low["value"]
    what = f"{names['tail']}: test risk at step {steps[-1]:g} above that at {steps[0]:g}"
    checks.append(Check(what, left / np.hypot(high["se"], low["se"]), 2 * z, "se", least=True))
    plain = rows[-1]["theory"]["last"]["test_risk"]["value"] - rows[0]["theory"]["last"]["test_risk"]["value"]
    summary_ = (
        f"the gain in test risk rises with the step: at steps {', '.join(f'{step:g}' for step in steps)} it is {'; '.join(spoken)}. Of what"
        f" the largest step costs over the smallest, {plain:.3f}, averages leave {left:.3f}: the mean of the weights itself is shifted."
    )
    law = (
        f"Level {LEVEL:g} over {count} comparisons (Bonferroni): theory normal ({z:.2f} se), real runs Student t with"
        f" {pooled(numbers['repeats']):.0f} degrees of freedom ({t:.2f} se). Real runs are averaged along their own way, so that gains are"
        f" differences on the same runs, in blocks of one seed."
    )
    return Verdict(tuple(checks), summary_, law)


def draw(numbers: Numbers) -> Any:
    rows, names = numbers["rows"], numbers["names"]
    steps = np.array([row["step"] for row in rows])
    with panels(2, height=2.9) as (figure, ((left, right),)):
        for i, (kind, label) in enumerate(names.items()):
            theory, runs = ([row[which][kind]["test_risk"] for row in rows] for which in ("theory", "runs"))
            band(left, steps, {key: [one[key] for one in theory] for key in ("value", "se")}, i, label)
            points(left, steps, [one["value"] for one in runs], [one["se"] for one in runs], i)
            if kind != "last":
                value, se, real, error = gains(numbers, kind)
                band(right, steps, {"value": (100 * value).tolist(), "se": (100 * se).tolist()}, i, label)
                points(right, steps, 100 * real, 100 * error, i)
        for axis in (left, right):
            logarithmic(axis, steps)
            axis.set_xlabel(r"step $\eta$")
        guide(right, steps[[0, -1]], [0, 0])
        left.set_ylabel(f"test risk at $t = {numbers['horizon']:g}$")
        right.set_ylabel("gain over the last weights (%)")
        left.legend(frameon=False, fontsize=8.5, handlelength=2.8)
    return figure


def table(numbers: Numbers) -> list[list[str]]:
    names = numbers["names"]
    rows = [["step", "curve", *(f"{label}, {kind}" for label in names.values() for kind in ("theory", "real runs"))]]
    for row in numbers["rows"]:
        for curve in CURVES:
            cells = [row[which][kind][curve] for kind in names for which in ("theory", "runs")]
            rows.append([f"{row['step']:g}", WORDS[curve], *(f"{one['value']:.4f} ± {one['se']:.4f}" for one in cells)])
    return rows


CLAIM = Claim(
    name="averaging",
    title="Averaging pays with large steps and costs with small ones",
    words="An average of the weights over time has less of the gradient's noise, which grows with the step, and lags behind, which does"
    " not. So its gain over the last weights rises with the step, from a loss where training is still on its way. It does not make up for"
    " a large step: for a loss that is not quadratic the mean of the weights is shifted by the noise, too.",
    source="Ruppert; Polyak and Juditsky, SIAM J. Control Optim. 30, 838. The limit of averaged weights is derived for this project from"
    " the two-time correlation of Fan and Wang, arXiv 2601.21093; the shift: Dieuleveut, Durmus and Bach, arXiv 1707.06386.",
    settings=Settings,
    measure=measure,
    judge=judge,
    draw=draw,
    table=table,
    caption="Test risk of the last weights and of two averages (left) and what averages gain (right), at one time, over the step. Theory"
    " (lines and bands) and real runs (points, ±2 standard errors).",
)
