"""The step at which training of the linear model diverges: closed form, solver and real runs."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

import sgdlimit as sl

from ..learning.problem import Problem
from ..models import linear_regression
from ..settings.sections import Section
from ..theory.closed.linear import linear_model, stability_limit
from .claims import Check, Claim, Numbers, Progress, Verdict
from .figures import band, exact, guide, panels, points
from .measure import Positive, Repeats, series, solved
from .statistics import LEVEL, bound, fit, pooled

# Allowance for finite size in the critical step, relative and over d: with E|x|^4 = 1 + 2/d for Gaussian rows it is 2/d lower.
FINITE = 5.0

Ratio = Annotated[float, Field(gt=0.5, lt=2.0)]


class Threshold(Section):
    place = ("experiment",)
    sample_ratio: Positive
    ridges: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)]
    steps: Annotated[list[Ratio], Field(min_length=4)]  # relative to the limit of stability
    start: Positive  # of the window in time over which growth is measured
    end: Positive
    seed: Annotated[int, Field(ge=0)] = 0
    n_features: Annotated[int, Field(ge=10)]
    repeats: Repeats
    noise: Positive  # of the two trainings shown beside
    shown: Annotated[list[Ratio], Field(min_length=2, max_length=2)]
    rtol: Annotated[float, Field(gt=0, lt=1)] = 0.02


class Settings(Section):
    experiment: Threshold


def problem_of(ratio: float, ridge: float, noise: float, teacher: float) -> Problem:
    m = linear_regression(noise)
    return sl.Problem(m.loss, m.label, m.noise, ratio, sl.GaussianTeacher([[teacher]]), sl.Init([[0.0]], [[1.0]]), sl.Ridge(ridge))


def growth(problem: Problem, dynamics: sl.SGD, window: list[float], d: int, repeats: int, seed: int) -> Numbers:
    """How fast the train risk of a linear model with labels of zero grows over the window, in the closed form and in real runs."""
    step: Any = dynamics.step
    closed = linear_model(problem.sample_ratio, step, problem.ridge, 0.0, 1.0, 0.0, window, optimizer=dynamics.optimizer)["train_risk"]
    runs = sl.simulate(problem, dynamics, window[1], d, repeats=repeats, seed=seed, times=window)
    risk, se = (runs.dataset[name].values for name in ("train_risk", "train_risk_se"))
    whole, length = len(risk) == 2, window[1] - window[0]
    return {
        "step": step,
        "limit_growth": float(np.log(closed[1] / closed[0]) / length),
        "growth": float(np.log(risk[1] / risk[0]) / length) if whole else float("nan"),
        "growth_se": float(np.hypot(*(se / risk)) / length) if whole else float("nan"),
        "status": str(runs.status),
    }


def measure(settings: Settings, tell: Progress) -> Numbers:
    e = settings.experiment
    total, done, found = len(e.ridges) * len(e.steps) + 4, 0, []
    window = [e.start, e.end]
    for j, ridge in enumerate(e.ridges):
        critical = stability_limit(e.sample_ratio, ridge)
        # Labels of zero: the curves are then those of a disturbance, which decays below the limit and grows above it.
        problem, rows = problem_of(e.sample_ratio, ridge, 0.0, 0.0), []
        for i, part in enumerate(e.steps):
            tell(done / total, f"ridge {ridge:g}, step {part:g} of the limit")
            rows.append(growth(problem, sl.SGD(part * critical), window, e.n_features, e.repeats, e.seed + 1 + i + 100 * j))
            done += 1
        found.append({"ridge": ridge, "critical": critical, "steps": rows})
    ridge = e.ridges[0]
    trainings = []
    problem = problem_of(e.sample_ratio, ridge, e.noise, 1.0)
    for i, part in enumerate(e.shown):
        step = part * stability_limit(e.sample_ratio, ridge)
        times = np.linspace(0.0, e.end, 13)
        tell(done / total, f"training at {part:g} of the limit")
        theory = solved(problem, sl.SGD(step), e.end, rtol=e.rtol, seed=e.seed, times=times)
        runs = sl.simulate(problem, sl.SGD(step), e.end, e.n_features, repeats=e.repeats, seed=e.seed + 51 + i, times=times)
        closed = linear_model(e.sample_ratio, step, ridge, e.noise**2, 1.0, 1.0, times)["train_risk"].tolist()
        trainings.append(
            {"part": part, "step": step, "exact": closed, "times": times.tolist(), "theory": series(theory), "runs": series(runs)}
        )
        done += 2
    return {
        "sample_ratio": e.sample_ratio,
        "repeats": e.repeats,
        "n_features": e.n_features,
        "window": window,
        "ridges": found,
        "trainings": trainings,
    }


def crossing(found: Numbers, growth: str) -> tuple[float, float]:
    """Step at which the growth changes sign, relative to the limit of stability, with its error; by a parabola in the step."""
    x = np.array([row["step"] / found["critical"] - 1.0 for row in found["steps"]])
    y = np.array([row[growth] for row in found["steps"]])
    se = np.array([row["growth_se"] for row in found["steps"]])
    known = np.isfinite(y) & np.isfinite(se)
    columns = np.stack([np.ones_like(x), x, x**2], 1)[known]
    if known.sum() < 4:
        return float("nan"), float("nan")
    found_fit = fit(columns, y[known], se[known])
    roots = np.roots(found_fit.values[::-1])
    real = roots[np.abs(roots.imag) < 1e-9].real
    if not len(real):
        return float("nan"), float("nan")
    root = float(real[np.argmin(np.abs(real))])
    weighted = columns / se[known, None]
    gradient = np.array([1.0, root, root**2])
    error = np.sqrt(gradient @ np.linalg.inv(weighted.T @ weighted) @ gradient) / abs(
        found_fit.values[1] + 2.0 * found_fit.values[2] * root
    )
    return 1.0 + root, float(error)


def stops_decaying(label: str, found: Numbers, allowed: float, z: float) -> tuple[list[Check], float, float]:
    """Checks that real runs stop decaying where the closed form does, and that this is the limit of stability; and where they do, relative
    to it, with its error."""
    where, error = crossing(found, "growth")
    limit_where, _ = crossing(found, "limit_growth")
    what = (
        f"{label}: step at which growth of real runs changes sign, {where:.3f} ± {error:.3f} of the limit's ({limit_where:.3f}),"
        f" apart beyond {FINITE:g}/d"
    )
    beyond = max(abs(where - limit_where) - allowed, 0.0)
    window = f"{label}: the window's step from the stability limit {found['critical']:.3f}, relative"
    return (
        [
            Check(what, beyond / error if error > 0 else float("nan"), z, "se"),
            Check(window, abs(limit_where - 1), 0.02),
        ],
        where,
        error,
    )


def judge(numbers: Numbers) -> Verdict:
    checks, spoken = [], []
    steps = sum(len(found["steps"]) for found in numbers["ridges"])
    degrees = pooled(numbers["repeats"])
    z, t = bound(len(numbers["ridges"])), bound(steps, degrees=degrees)
    for found in numbers["ridges"]:
        label, allowed = f"ridge {found['ridge']:g}", FINITE / numbers["n_features"]
        crossed, where, error = stops_decaying(label, found, allowed, z)
        checks += crossed
        first, *_, final = found["steps"]
        slope = (final["limit_growth"] - first["limit_growth"]) / (final["step"] - first["step"]) * found["critical"]
        gaps = [max(abs(row["growth"] - row["limit_growth"]) - allowed * slope, 0.0) / row["growth_se"] for row in found["steps"]]
        worst = float("nan") if np.isnan(gaps).any() else max(gaps)
        checks.append(
            Check(
                f"{label}: growth of real runs from the closed form's beyond a shift of the step by {FINITE:g}/d, furthest step",
                worst,
                t,
                "se",
            )
        )
        spoken.append(
            f"{where * found['critical']:.3f} ± {error * found['critical']:.3f} where {found['critical']:.3f} is claimed (ridge"
            f" {found['ridge']:g})"
        )
    below, above = sorted(numbers["trainings"], key=lambda training: training["part"])
    for kind, what in (("theory", "the solver"), ("runs", "real runs")):
        checks.append(
            Check(f"{what} at {below['part']:g} of the limit called diverging (1 yes, 0 no)", float(below[kind]["code"] == "diverged"), 0)
        )
        checks.append(
            Check(
                f"{what} at {above['part']:g} of the limit called diverging (1 yes, 0 no)",
                float(above[kind]["code"] == "diverged"),
                1,
                least=True,
            )
        )
    summary = (
        f"real runs stop decaying and start growing at a step of {' and '.join(spoken)}; at {below['part']:g} of it solver and real runs"
        f" settle, at {above['part']:g} both say that they diverge."
    )
    law = (
        f"Growth over t = {numbers['window'][0]:g} to {numbers['window'][1]:g}; its zero by a parabola, a finite-size shift of"
        f" {FINITE:g}/d allowed (rows have E|x|^4 = 1 + 2/d), normal, level {LEVEL:g} over {len(numbers['ridges'])} comparisons"
        f" (Bonferroni: {z:.2f} se); single steps Student t with {degrees:.0f} degrees of freedom ({t:.2f} se)."
    )
    return Verdict(tuple(checks), summary, law)


def draw(numbers: Numbers) -> Any:
    with panels(2, height=2.85) as (figure, ((left, right),)):
        for i, found in enumerate(numbers["ridges"]):
            step = [row["step"] for row in found["steps"]]
            label = rf"$\lambda = {found['ridge']:g}$"
            points(
                left,
                step,
                [row["growth"] for row in found["steps"]],
                [row["growth_se"] for row in found["steps"]],
                i,
                f"real runs, {label}",
            )
            guide(left, step, [row["limit_growth"] for row in found["steps"]], i, f"closed form, {label}")
            left.plot(
                [found["critical"]],
                [0.0],
                marker="*",
                color="black",
                markersize=9,
                linestyle="none",
                zorder=4,
                label=None if i else "limit of stability",
            )
        low, high = left.get_xlim()
        guide(left, [low, high], [0, 0])
        left.set(xlabel=r"step $\eta$", ylabel="growth rate of the train risk", xlim=(low, high))
        left.legend(frameon=False, fontsize=8, handlelength=2.4)
        for i, training in enumerate(numbers["trainings"]):
            label = rf"$\eta = {training['step']:.3g}$, {training['part']:g} of the limit"
            theory, runs = training["theory"], training["runs"]
            band(right, theory["time"], theory["train_risk"], i, label)
            points(right, runs["time"], runs["train_risk"]["value"], runs["train_risk"]["se"], i)
            exact(right, training["times"], training["exact"], "closed form" if i else None)
        right.set(xlabel="time $t$", ylabel="train risk", yscale="log")
        right.legend(frameon=False, fontsize=8, handlelength=2.8)
    return figure


def table(numbers: Numbers) -> list[list[str]]:
    rows = [["ridge", "step", "of the limit", "growth, closed form", "growth, real runs"]]
    for found in numbers["ridges"]:
        for row in found["steps"]:
            growth, exact_growth = (0.0 if abs(row[key]) < 5e-5 else row[key] for key in ("growth", "limit_growth"))
            parts = f"{row['step'] / found['critical']:.3f}", f"{exact_growth:+.4f}", f"{growth:+.4f} ± {row['growth_se']:.4f}"
            cells = [f"{row['step']:.3f}", *parts]
            rows.append([f"{found['ridge']:g}", *cells])
    return rows


CLAIM = Claim(
    name="divergence",
    title="The step at which training diverges",
    words="For least squares with ridge λ, SGD stays bounded up to the step at which η ∫ a²/(2(a + λ)) μ(da) = 1, μ the Marchenko-Pastur"
    " law of the data's spectrum: η = 2 without a ridge, whatever n/d, and more with one. Below it a disturbance decays, above it grows"
    " exponentially.",
    source="Fan and Wang, arXiv 2601.21093; closed form: Paquette, Lee, Pedregosa and Paquette, arXiv 2102.04396.",
    settings=Settings,
    measure=measure,
    judge=judge,
    draw=draw,
    table=table,
    caption="Left: growth rate of the train risk from a random start with labels of zero; real runs ±2 standard errors. Right: two"
    " trainings on noisy labels; solver (dashes, band), closed form (wide) and real runs (points).",
)
