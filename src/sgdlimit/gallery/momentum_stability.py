"""For the linear model momentum moves neither the largest stable step nor the noise floor; what is left of this for another loss."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

import sgdlimit as sl

from ..theory.closed.linear import linear_model, stability_limit
from .approach import ALLOWED_BIAS
from .claims import Check, Claim, Numbers, Progress, Verdict
from .divergence import FINITE, Ratio, growth, problem_of, stops_decaying
from .figures import guide, logarithmic, panels, points
from .measure import (
    CURVES,
    LABELS,
    WORDS,
    Experiment,
    OneProblem,
    Positive,
    Repeats,
    blocks,
    curves,
    last,
    series,
    simulated,
    solved,
    summary,
)
from .statistics import LEVEL, bound, pooled

LATE = 60.0, 100.0  # times at which the floors of one pass and of the closed form are read off
WINDOW = np.linspace(0.75, 1.0, 4)  # parts of the horizon over which floors of real runs are averaged


class Floors(Experiment):
    memories: Annotated[list[Positive], Field(min_length=2)]  # beside none
    sample_ratio: Positive  # of the linear model
    ridge: Annotated[float, Field(ge=0)]
    noise: Positive
    steps: Annotated[list[Ratio], Field(min_length=4)]  # relative to the limit of stability
    start: Positive  # of the window in time over which growth is measured
    end: Positive
    floor: Annotated[
        float, Field(gt=0, lt=1)
    ]  # the step at which floors of the linear model are measured, relative to the limit of stability
    step: Positive  # of the other loss
    n_features: Annotated[int, Field(ge=10)]
    block: Repeats
    repeats: Repeats


class Settings(OneProblem):
    experiment: Floors


def measure(settings: Settings, tell: Progress) -> Numbers:
    e, found = settings.experiment, []
    critical = stability_limit(e.sample_ratio, e.ridge)
    silent, linear = (problem_of(e.sample_ratio, e.ridge, noise, teacher) for noise, teacher in ((0.0, 0.0), (e.noise, 1.0)))
    memories = [0.0, *e.memories]
    times = e.horizon * WINDOW
    shown = np.linspace(0.0, e.horizon, 13)
    for j, memory in enumerate(memories):
        optimizer = sl.Momentum(memory) if memory else None
        train = lambda step, optimizer=optimizer: sl.SGD(step, optimizer=optimizer)
        real = lambda problem, step, seed, train=train: blocks(problem, train(step), times, e.n_features, e.block, e.repeats, e.seed + seed)
        tell(j / len(memories), f"memory {memory:g}: growth")
        rows = [
            growth(silent, train(part * critical), [e.start, e.end], e.n_features, e.repeats, e.seed + 1 + i + 100 * j)
            for i, part in enumerate(e.steps)
        ]
        step = e.floor * critical
        tell((j + 0.3) / len(memories), f"memory {memory:g}: floors of the linear model")
        at = np.concatenate([shown, times, [LATE[1]]])
        closed = linear_model(e.sample_ratio, step, e.ridge, e.noise**2, 1.0, 1.0, at, optimizer=optimizer)
        runs = simulated(linear, train(step), e.horizon, e.n_features, e.repeats, e.seed + 31, shown)
        tell((j + 0.6) / len(memories), f"memory {memory:g}: floors of the other loss")
        one = {
            "memory": memory, "critical": critical, "steps": rows,
            "way": {"time": shown.tolist(), "exact": closed["train_risk"][: len(shown)].tolist(), "runs": series(runs)["train_risk"]},
            "floor": {name: float(closed[name][-1]) for name in CURVES},
            "closed": {name: float(np.mean(closed[name][len(shown) : -1])) for name in CURVES},
            "linear": real(linear, step, 1000).tolist(),
            "other": real(settings.build(), e.step, 2000).tolist(),
            "one_pass": _one_pass(settings, optimizer),
        }  # fmt: skip
        if memory in (0.0, memories[-1]):
            one["theory"] = _late(settings, train(e.step), times)
        found.append(one)
    return {"window": [e.start, e.end], "n_features": e.n_features, "repeats": e.repeats, "memories": found}


def _one_pass(settings: Settings, optimizer: Any) -> Numbers:
    e = settings.experiment
    return last(solved(settings.build(), sl.OnlineSGD(e.step, optimizer=optimizer), LATE[0], e.rtol / 5, e.seed, [0.0, LATE[0]]))


def _late(settings: Settings, dynamics: sl.SGD, times: np.ndarray) -> Numbers:
    """The limit's floor, averaged over the window."""
    e = settings.experiment
    found = curves(solved(settings.build(), dynamics, e.horizon, e.rtol, e.seed, np.append(0.0, times)))
    return {name: {key: float(np.mean(found[name][key][1:])) for key in ("value", "se")} for name in CURVES}


def _moved(numbers: Numbers, kind: str, i: int, name: str) -> tuple[float, float, float]:
    """How far memory number `i` moves a floor of real runs, with its error, and the floor without momentum."""
    own, plain = (np.array(numbers["memories"][j][kind]) for j in (i, 0))
    gap = summary(own - plain)[name]
    return gap["value"], gap["se"], abs(float(plain[:, CURVES.index(name)].mean()))


def judge(numbers: Numbers) -> Verdict:
    found, allowed = numbers["memories"], ALLOWED_BIAS / numbers["n_features"]
    others = range(1, len(found))
    count = len(CURVES) * (2 * len(others) + 3) + len(found)
    z, t, checks, spoken = bound(count), bound(count, degrees=pooled(numbers["repeats"])), [], []
    for i, one in enumerate(found):
        label = f"linear, memory {one['memory']:g}"
        crossed, where, error = stops_decaying(label, one, FINITE / numbers["n_features"], z)
        checks += crossed
        spoken.append(f"{where * one['critical']:.3f} ± {error * one['critical']:.3f} (memory {one['memory']:g})")
        if i:
            apart = max(abs(one["floor"][name] / found[0]["floor"][name] - 1) for name in CURVES)
            checks.append(Check(f"{label}: the closed form's floors from those without, relative", apart, 1e-6))
            beyond = []
            for name in CURVES:
                gap, se, scale = _moved(numbers, "linear", i, name)
                beyond.append(max(abs(gap - one["closed"][name] + found[0]["closed"][name]) - allowed * scale, 0.0) / se)
            checks.append(
                Check(f"{label}: floors of real runs from those without, beyond a bias of {ALLOWED_BIAS:g}/d", max(beyond), t, "se")
            )
            gaps = [_theory_moved(numbers, "one_pass", i, name) for name in CURVES]
            checks.append(
                Check(f"one pass, memory {one['memory']:g}: floors from those without", max(abs(g) / s for g, s in gaps), z, "se")
            )
    more, told = _repeated(numbers, z, t, allowed)
    summary_ = (
        f"least squares stop decaying at a step of {', '.join(spoken)}, where {found[0]['critical']:.3f} is claimed for all, and end on one"
        f" noise floor. For the other loss, which is not linear, the floor of one pass does not depend on momentum either, but with samples"
        f" seen again {told}."
    )
    law = (
        f"Level {LEVEL:g} over {count} comparisons (Bonferroni): theory normal ({z:.2f} se), real runs Student t with"
        f" {pooled(numbers['repeats']):.0f} degrees of freedom ({t:.2f} se); floors are differences between blocks of runs on the same data"
        f" with the same draws, averaged over the last quarter of the time. The step at which growth changes sign by a parabola, a shift of"
        f" {FINITE:g}/d allowed."
    )
    return Verdict((*checks, *more), summary_, law)


def _theory_moved(numbers: Numbers, kind: str, i: int, name: str) -> tuple[float, float]:
    own, plain = (numbers["memories"][j][kind][name] for j in (i, 0))
    return own["value"] - plain["value"], float(np.hypot(own["se"], plain["se"]))


def _repeated(numbers: Numbers, z: float, t: float, allowed: float) -> tuple[list[Check], str]:
    """Checks that momentum moves the floors of the other loss where samples are seen again, as far as theory says."""
    i = len(numbers["memories"]) - 1
    memory = f"memory {numbers['memories'][i]['memory']:g}"
    real = {name: _moved(numbers, "other", i, name) for name in CURVES}
    theory = {name: _theory_moved(numbers, "theory", i, name) for name in CURVES}
    name = max(CURVES, key=lambda one: abs(real[one][0]) / real[one][1])
    off = [max(abs(real[one][0] - theory[one][0]) - allowed * real[one][2], 0.0) / np.hypot(real[one][1], theory[one][1]) for one in CURVES]
    far = max(abs(gap) / se for gap, se in theory.values())
    checks = [
        Check(
            f"other loss, {memory}: floors of real runs from those without ({WORDS[name]})",
            abs(real[name][0]) / real[name][1],
            t,
            "se",
            True,
        ),
        Check(f"other loss, {memory}: floors of the limit from those without, furthest curve", far, z, "se", least=True),
        Check(f"other loss, {memory}: what momentum does to floors, real runs from the limit beyond {ALLOWED_BIAS:g}/d", max(off), t, "se"),
    ]
    (gap, se, scale), (limit, error) = real[name], theory[name]
    return checks, (
        f"{memory} moves the {WORDS[name]} by {100 * gap / scale:.1f} ± {100 * se / scale:.1f}% ({100 * limit / scale:.1f} ±"
        f" {100 * error / scale:.1f}% in theory)"
    )


def draw(numbers: Numbers) -> Any:
    found = numbers["memories"]
    with panels(3, width=2.75, height=3.0) as (figure, ((left, middle, right),)):
        for i, one in enumerate(found):
            label = rf"$\tau = {one['memory']:g}$" if one["memory"] else "no momentum"
            step = [row["step"] for row in one["steps"]]
            points(left, step, [row["growth"] for row in one["steps"]], [row["growth_se"] for row in one["steps"]], i, label)
            guide(left, step, [row["limit_growth"] for row in one["steps"]], i)
            way = one["way"]
            guide(middle, way["time"], way["exact"], i)
            points(middle, way["time"], way["runs"]["value"], way["runs"]["se"], i, label)
        left.plot([found[0]["critical"]], [0.0], marker="*", color="black", markersize=9, linestyle="none", zorder=4)
        guide(left, left.get_xlim(), [0, 0])
        left.set(xlabel=r"step $\eta$, linear model", ylabel="growth rate of the train risk")
        left.legend(frameon=False, fontsize=8, handlelength=1.2)
        middle.set(xlabel="time $t$, linear model", ylabel="train risk")
        logarithmic(middle, y=True)
        _floors(right, numbers)
    return figure


def _floors(axis: Any, numbers: Numbers) -> None:
    """How far each memory moves the floor, in percent of that without, over the memory."""
    found, name = numbers["memories"], "self_overlap"
    memories = [one["memory"] for one in found[1:]]
    others = range(1, len(found))
    cases = {"linear": "linear", "one_pass": "tanh, one pass", "other": "tanh, samples again"}
    for k, (kind, label) in enumerate(cases.items()):
        scale = _moved(numbers, "other" if kind == "one_pass" else kind, 1, name)[2]
        rows = [_theory_moved(numbers, kind, i, name) if kind == "one_pass" else _moved(numbers, kind, i, name)[:2] for i in others]
        value, se = 100 * np.array(rows).T / scale
        points(axis, np.array(memories) * (1 + 0.04 * (k - 1)), value, se, k + 3, label)
    limit, error = _theory_moved(numbers, "theory", len(memories), name)
    scale = found[0]["theory"][name]["value"]
    points(axis, [1.1 * memories[-1]], [100 * limit / scale], [100 * error / scale], 6, "the same, theory")
    guide(axis, [0.0, 1.15 * memories[-1]], [0, 0])
    axis.set(xlabel=r"memory $\tau$", ylabel=f"floor of the {LABELS[name]},\nfrom that without (%)", xlim=(0, 1.2 * memories[-1]))
    axis.legend(frameon=False, fontsize=8, handlelength=1.2)


def table(numbers: Numbers) -> list[list[str]]:
    found = numbers["memories"]
    rows = [["memory", "curve", "linear, closed form", "linear, real runs", "one pass, theory", "samples again, real runs"]]
    for one in found:
        means = {kind: summary(np.array(one[kind])) for kind in ("linear", "other")}
        for name in CURVES:
            cells = [f"{means[kind][name]['value']:.4f} ± {means[kind][name]['se']:.4f}" for kind in ("linear", "other")]
            theory = f"{one['one_pass'][name]['value']:.4f} ± {one['one_pass'][name]['se']:.4f}"
            rows.append([f"{one['memory']:g}", WORDS[name], f"{one['closed'][name]:.4f}", cells[0], theory, cells[1]])
    return rows


CLAIM = Claim(
    name="momentum-stability",
    title="Momentum moves neither the largest stable step nor the noise floor of least squares",
    words="Whatever its memory, a velocity passes the same total of each mode's noise on: ∫ g² = 1/(2(a + λ)) for the response g of a mode"
    " with eigenvalue a. So for the linear model the largest stable step and the noise that is left at the end are those of plain SGD, and"
    " only the way there changes. For another loss the same floor is left in one pass, because the velocity of a state at rest tells"
    " nothing of a fresh sample; where samples are seen again it does, and momentum moves the floor by some per cent.",
    source="Beyond the paper: its equations (Fan and Wang, arXiv 2601.21093) behind a filter; plain SGD: Paquette, Lee, Pedregosa and"
    " Paquette, arXiv 2102.04396.",
    settings=Settings,
    measure=measure,
    judge=judge,
    draw=draw,
    table=table,
    caption="(a) Growth rate of a disturbance of the linear model, real runs (points) and closed form (lines), and the limit of stability"
    " (star). (b) Noisy labels: closed form and real runs. (c) How momentum moves the floor: real runs, and theory for one pass. Bars: ±2"
    " standard errors.",
)
