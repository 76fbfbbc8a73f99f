"""The limit does not depend on the batch exponent below one; at one it is another limit, that of batches of a fixed fraction."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field
from scipy.interpolate import CubicSpline

import sgdlimit as sl

from ..learning.problem import Problem
from .approach import ALLOWED_BIAS
from .claims import Check, Claim, Numbers, Progress, Verdict
from .figures import guide, legend, logarithmic, look, panels, points
from .measure import CURVES, LABELS, WORDS, Experiment, OneProblem, Positive, Repeats, Sizes, check_sizes, curves, grown, last, solved
from .statistics import LEVEL, bound, exponent, limit, pooled

LEAST = 0.01  # part of the data in a batch from which the theory of its fraction is solved: its steps are counted one by one
CURVATURE = 0.25  # allowance for the next order, relative to the exponent


class Batches(Experiment):
    step: Positive
    exponents: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2)]
    fraction: Annotated[float, Field(gt=0, le=1)]
    n_features: Sizes
    repeats: list[Repeats]


class Settings(OneProblem):
    experiment: Batches

    def check(self) -> None:
        check_sizes(self.experiment)
        self.build()


def measure(settings: Settings, tell: Progress) -> Numbers:
    problem, e = settings.build(), settings.experiment
    # Batches of a fixed fraction end a step at the last time; for others a run shows the state after the nearest whole step, so theory
    # goes a little beyond and is read off where the run was.
    length = e.step * e.fraction * problem.sample_ratio
    end = max(round(e.horizon / length), 1) * length
    grid = np.linspace(0.0, 1.35 * end, 28)
    tell(0.0, "theory")
    theory = {"time": grid.tolist(), **curves(solved(problem, sl.SGD(e.step), float(grid[-1]), rtol=e.rtol, seed=e.seed, times=grid))}
    total, found, own = (len(e.exponents) + 1) * len(e.n_features), {}, {}
    for i, alpha in enumerate([*e.exponents, 1.0]):
        dynamics = lambda d, alpha=alpha: sl.SGD(e.step) if alpha == 0 else sl.MiniBatchGD(e.step, _fraction(e, problem, alpha, d))
        progress = lambda j, i=i, alpha=alpha: tell((i * len(e.n_features) + j) / total, f"alpha = {alpha:g}, d = {e.n_features[j]}")
        rows = grown(problem, dynamics, end, e.n_features, e.repeats, e.seed + 1 + 100 * i, progress)
        for row in rows:
            n = row["n_samples"]
            lasts = e.step * problem.sample_ratio * (1 / n if alpha == 0 else _fraction(e, problem, alpha, row["n_features"]))
            row["time"] = round(end / lasts) * lasts
        found[f"{alpha:g}"] = rows
        if alpha > 0 and _fraction(e, problem, alpha, e.n_features[-1]) >= LEAST:
            tell((i + 1) * len(e.n_features) / total, f"alpha = {alpha:g}, theory of the fraction")
            own[f"{alpha:g}"] = last(solved(problem, dynamics(e.n_features[-1]), end, rtol=e.rtol, seed=e.seed, times=[0.0, end]))
    return {"time": end, "fraction": e.fraction, "theory": theory, "own": own, "runs": found}


def _fraction(e: Batches, problem: Problem, alpha: float, d: int) -> float:
    """Part of the data in a batch of `n^alpha` samples; for `alpha = 1` the fixed one."""
    n = round(problem.sample_ratio * d)
    return e.fraction if alpha == 1 else round(n**alpha) / n


def _deviations(numbers: Numbers, alpha: str, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples `n`, and the runs' deviation from SGD's limit at the time they show, relative to the limit, with its error."""
    rows, theory = numbers["runs"][alpha], numbers["theory"]
    times = [row["time"] for row in rows]
    value, se = (CubicSpline(theory["time"], theory[name][key])(times) for key in ("value", "se"))
    n, mean, error = (
        np.array(v, dtype=float) for v in zip(*((r["n_samples"], r[name]["value"], r[name]["se"]) for r in rows), strict=True)
    )
    scale = abs(float(value[-1]))
    return n, (mean - value) / scale, np.hypot(error, se) / scale


def _powers(alpha: float) -> tuple[float, ...]:
    """Orders in `n` beyond the limit: a batch is a step of length `n^(alpha - 1)` in time, and its square where that is large."""
    return (1 - alpha,) if alpha < 0.5 else (1 - alpha, 2 * (1 - alpha))


def judge(numbers: Numbers) -> Verdict:
    below = [alpha for alpha in numbers["runs"] if float(alpha) < 1]
    count = 2 * len(below) * len(CURVES) + (1 + len(numbers["own"])) * len(CURVES)
    degrees = pooled([row["repeats"] for rows in numbers["runs"].values() for row in rows])
    z, checks, spoken, widest = bound(count), [], [], 0.0
    t = bound(count, degrees=degrees)
    for alpha in below:
        worst = 0.0
        for name in CURVES:
            n, gap, se = _deviations(numbers, alpha, name)
            far = limit(n, gap, se, _powers(float(alpha)))
            worst = max(worst, abs(far.values[0]) / far.errors[0])
            widest = max(widest, far.errors[0])
        checks.append(Check(f"alpha = {alpha}: deviation left at infinite d, largest of {len(CURVES)} curves", worst, z, "se"))
        name, (n, gap, se) = max(
            ((name, _deviations(numbers, alpha, name)) for name in CURVES), key=lambda x: np.sum((x[1][1] / x[1][2]) ** 2)
        )
        if float(alpha) >= 0.5 and (np.abs(gap) > 3 * se).sum() >= 3:
            slope = exponent(n, gap, se)
            p, error, claimed = -slope.values[1], slope.errors[1], 1 - float(alpha)
            checks.append(
                Check(f"alpha = {alpha}: distance of the exponent {p:.2f} ± {error:.2f} ({WORDS[name]}) from {claimed:g}", abs(p - claimed),
                      z * error + CURVATURE * claimed)
            )  # fmt: skip
            spoken.append(f"{p:.2f} ± {error:.2f} at alpha = {alpha} ({claimed:g} is claimed)")
    far, own = [], []
    for name in CURVES:
        _, gap, se = _deviations(numbers, "1", name)
        far.append(abs(gap[-1]) / se[-1])
    checks.append(Check("alpha = 1: distance from SGD's limit at the largest d, furthest curve", max(far), 2 * t, "se", least=True))
    for alpha, theory in numbers["own"].items():
        row, beyond = numbers["runs"][alpha][-1], []
        for name in CURVES:
            allowed = ALLOWED_BIAS / row["n_features"] * abs(theory[name]["value"])
            gap = max(abs(row[name]["value"] - theory[name]["value"]) - allowed, 0.0)
            beyond.append(gap / np.hypot(row[name]["se"], theory[name]["se"]))
        own.append(max(beyond))
        what = f"alpha = {alpha}: largest d from the theory of that fraction of the data, beyond a bias of {ALLOWED_BIAS:g}/d, furthest"
        " curve"
        checks.append(Check(what, own[-1], t, "se"))
    summary = (
        f"for alpha = {', '.join(below)} no deviation from one common limit is left at infinite d (errors of that statement at most"
        f" {100 * widest:.1f}% of the limit)"
        + (f"; the deviation vanishes with exponent {' and '.join(spoken)}" if spoken else "")
        + f". At alpha = 1 it stays: {max(far):.0f} se at the largest d, as the theory of a fixed fraction {numbers['fraction']:g} says"
        f" ({own[-1]:.1f} se from it)."
    )
    law = (
        f"Normal, level {LEVEL:g} over {count} comparisons (Bonferroni: {z:.2f} se); single sizes Student t with {degrees:.0f} degrees of"
        f" freedom ({t:.2f} se). Deviations fitted by c0 + c1 n^(alpha-1), for alpha of 1/2 and more with its square; exponents by"
        f" c n^-p, {CURVATURE:.0%} allowed for higher orders."
    )
    return Verdict(tuple(checks), summary, law)


def draw(numbers: Numbers) -> Any:
    shown = ("test_risk", "self_overlap")
    with panels(2) as (figure, (axes,)):
        for axis, name in zip(axes, shown, strict=True):
            for i, alpha in enumerate(numbers["runs"]):
                n, gap, se = _deviations(numbers, alpha, name)
                d = np.array([row["n_features"] for row in numbers["runs"][alpha]]) * (1 + 0.04 * (i - 2))
                label = rf"$\kappa = n^{{{alpha}}}$" if float(alpha) < 1 else rf"$\kappa = {numbers['fraction']:g}\, n$"
                points(axis, d, 100 * gap, 100 * se, i, "$\\kappa = 1$" if float(alpha) == 0 else label)
                fine = np.geomspace(n[0] / 1.15, n[-1] * 1.3, 100)
                if float(alpha) < 1:
                    far = limit(n, gap, se, _powers(float(alpha)))
                    terms = np.stack([np.ones_like(fine), *(fine**-p for p in _powers(float(alpha)))])
                    how = look(i)
                    axis.plot(fine * d[0] / n[0], 100 * far.values @ terms, color=how["color"], dashes=how["dashes"], linewidth=1.1)
                else:
                    spline = CubicSpline(numbers["theory"]["time"], numbers["theory"][name]["value"])(numbers["time"])
                    height = 100 * (numbers["own"]["1"][name]["value"] - spline) / abs(spline)
                    axis.plot(
                        fine[[0, -1]] * d[0] / n[0], [height, height], color=look(i)["color"], dashes=look(i)["dashes"], linewidth=1.1
                    )
            guide(axis, [d[0] / 1.2, d[-1] * 1.3], [0, 0])
            logarithmic(axis, [row["n_features"] for row in numbers["runs"]["1"]])
            axis.set(xlabel="features $d$", ylabel=f"{LABELS[name]} from limit (%)")
        legend(figure, axes[0], 5)
    return figure


def table(numbers: Numbers) -> list[list[str]]:
    rows = numbers["runs"]
    sizes = [row["n_features"] for row in next(iter(rows.values()))]
    head = ["alpha", "curve", *(f"d = {d}" for d in sizes), "d → ∞"]
    body = []
    for alpha in rows:
        for name in ("test_risk", "self_overlap"):
            n, gap, se = _deviations(numbers, alpha, name)
            last = "—"
            if float(alpha) < 1:
                far = limit(n, gap, se, _powers(float(alpha)))
                last = f"{100 * far.values[0]:.2f} ± {100 * far.errors[0]:.2f} %"
            body.append([alpha, WORDS[name], *(f"{100 * g:.2f} ± {100 * s:.2f} %" for g, s in zip(gap, se, strict=True)), last])
    return [head, *body]


CLAIM = Claim(
    name="batch-size",
    title="The limit does not depend on the batch size",
    words="Batches of κ = n^α samples have one and the same limit for every α in [0, 1), at equal step on the sum over the batch and in"
    " the time that counts samples. At finite size a batch is a step of length κ/d in time, so the deviation vanishes like n^(α-1). At α"
    " = 1, batches of a fixed fraction of the data, steps stay finite and the limit is another one.",
    source="Fan and Wang, arXiv 2601.21093 (α < 1); Gerbelot et al., arXiv 2210.06591 (α = 1).",
    settings=Settings,
    measure=measure,
    judge=judge,
    draw=draw,
    table=table,
    caption="Deviation of real runs from the limit of SGD. Points: mean over runs ±2 standard errors, shifted a little against each other."
    " Lines: fits with the claimed exponents; for a fixed fraction, the theory of mini-batch descent.",
)
