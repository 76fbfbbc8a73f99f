"""Two trainings on the same data with the same draws, as real runs grow: do they come together, or stay apart as their limits are?

Of two trainings that share data, start and the order of samples the difference scatters far less than either, so that it can be followed
over orders of magnitude.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ..errors import refuse
from ..learning.dynamics import Dynamics
from ..learning.problem import Problem
from ..settings.sections import Section
from .claims import Check, Numbers, Progress, Verdict
from .figures import guide, legend, logarithmic, panels, points
from .measure import CURVES, LABELS, WORDS, Repeats, Rtol, Seed, Sizes, blocks, check_sizes, last, solved, summary
from .statistics import LEVEL, Fit, bound, exponent, fit, pooled

CURVATURE = 0.15  # allowance for orders beyond 1/d, in the exponent


class Growing(Section):
    """Real runs of growing size, in `repeats` blocks of `block` runs of one seed: what is compared are the means of blocks."""

    place = ("experiment",)
    samples_per_feature: Annotated[int, Field(gt=0)]  # seen until the end: a whole number, so that whole steps end there
    rtol: Rtol = 0.005
    seed: Seed = 0
    n_features: Sizes
    block: list[Repeats]
    repeats: list[Annotated[int, Field(ge=3)]]

    def check(self) -> None:
        check_sizes(self)
        if len(self.block) != len(self.n_features):
            raise refuse("experiment.block", f"have one number for each of the {len(self.n_features)} sizes of `n_features`", self.block)


@dataclass(frozen=True)
class Training:
    """One way to train up to time `end`: `limit` in theory (up to `limit_end`, where that counts time otherwise), and `real(d)` in real
    runs of `d` features and `batch` samples a step.

    `transform(d)`: an optax optimiser that trains real runs in the place of the dynamics' own. `adaptive`: the first steps have a gain of
    few samples, wrong by a part `1/j` at step `j`; together they add `log(d/batch)` steps.
    """

    limit: Dynamics
    end: float
    batch: int = 1
    real: Callable[[int], Dynamics] | None = None
    adaptive: bool = False
    transform: Callable[[int], Any] | None = None
    limit_end: float | None = None

    def of(self, d: int) -> Dynamics:
        return self.limit if self.real is None else self.real(d)


@dataclass(frozen=True)
class Pair:
    """Trainings `one` and `other` and what is claimed of them: that they come together (`alike`), or stay apart. `label` is for figures,
    `name` for sentences."""

    name: str
    label: str
    one: str
    other: str
    alike: bool


def follow(problem: Problem, trainings: dict[str, Training], pairs: Sequence[Pair], e: Growing, tell: Progress) -> Numbers:
    """Real runs of all trainings at all sizes, the limits of all of them, and the differences of the pairs."""
    limits, steps = {}, len(trainings) * (len(e.n_features) + 1)
    for i, (name, one) in enumerate(trainings.items()):
        tell(i / steps, f"{name}, theory")
        if one.limit not in limits:
            ends = one.limit_end or one.end
            limits[one.limit] = last(solved(problem, one.limit, ends, e.rtol, e.seed + i, [0.0, ends]))
    means = {name: [] for name in trainings}
    for j, (d, size, count) in enumerate(zip(e.n_features, e.block, e.repeats, strict=True)):
        for i, (name, one) in enumerate(trainings.items()):
            tell((len(trainings) * (j + 1) + i) / steps, f"{name}, d = {d}")
            seed = e.seed + 1000 * (j + 1)
            how = {"batch_size": one.batch, "optimizer": None if one.transform is None else one.transform(d)}
            means[name].append(blocks(problem, one.of(d), [one.end], d, size, count, seed, **how))
    rows = lambda each: [{"n_features": d, "repeats": len(x), **summary(x)} for d, x in zip(e.n_features, each, strict=True)]
    logs = {name: one.batch if one.adaptive else 0 for name, one in trainings.items()}
    found = {name: {"limit": limits[one.limit], "log": logs[name], "rows": rows(means[name])} for name, one in trainings.items()}
    gaps = []
    for pair in pairs:
        a, b = found[pair.one]["limit"], found[pair.other]["limit"]
        same = trainings[pair.one].limit == trainings[pair.other].limit
        theory = {name: _apart(a[name], b[name], same) for name in CURVES}
        each = [x - y for x, y in zip(means[pair.one], means[pair.other], strict=True)]
        told = {"name": pair.name, "label": pair.label, "other": pair.other, "alike": pair.alike, "log": logs[pair.one]}
        gaps.append({**told, "limit": theory, "rows": rows(each)})
    return {"trainings": found, "pairs": gaps}


def _apart(one: Numbers, other: Numbers, same: bool) -> Numbers:
    return {"value": 0.0, "se": 0.0} if same else {"value": one["value"] - other["value"], "se": float(np.hypot(one["se"], other["se"]))}


# --- from the numbers ------------------------------------------------------------------------------------------------------


def of(numbers: Numbers, pair: Numbers, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    """Sizes, the difference of real runs with its error, and that of the limits with its own, relative to the other's limit."""
    scale = abs(numbers["trainings"][pair["other"]]["limit"][name]["value"])
    d, value, se = _columns(pair["rows"], name)
    theory = pair["limit"][name]
    return d, value / scale, se / scale, theory["value"] / scale, theory["se"] / scale


def _columns(rows: Sequence[Numbers], name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    d, value, se = zip(*((row["n_features"], row[name]["value"], row[name]["se"]) for row in rows), strict=True)
    return np.array(d, dtype=float), np.array(value), np.array(se)


def _leading(d: np.ndarray, log: float) -> np.ndarray:
    """How a deviation falls with `d`: like `1/d`, for an adaptive step of batches of `log` samples like `log(d/batch)/d`."""
    return np.log(d / log) / d if log else 1.0 / d


def _orders(d: np.ndarray, log: float) -> np.ndarray:
    """What deviations are fitted by beyond their limit, `(d, 2)`: the leading order and the next."""
    return np.stack([_leading(d, log), 1.0 / d if log else d**-2.0], 1)


def _far(d: np.ndarray, gap: np.ndarray, se: np.ndarray, log: float) -> Fit:
    """Its first value is the deviation at infinite `d`."""
    return fit(np.column_stack([np.ones_like(d), _orders(d, log)]), gap, se)


def judged(numbers: Numbers, said: Callable[[str, str], str]) -> Verdict:
    """Whether pairs do as is claimed and every training goes to its own limit; `said(exponents, distances)` is what then may be said."""
    count = len(CURVES) * (2 * len(numbers["pairs"]) + len(numbers["trainings"]))
    degrees = pooled([row["repeats"] for pair in numbers["pairs"] for row in pair["rows"]])
    t, checks, exponents, distances = bound(count, degrees=degrees), [], [], []
    for pair in numbers["pairs"]:
        found, spoken = (_together if pair["alike"] else _parted)(numbers, pair, t)
        checks += found
        (exponents if pair["alike"] else distances).append(spoken)
    for name, one in numbers["trainings"].items():
        left = []
        for curve in CURVES:
            d, value, se = _columns(one["rows"], curve)
            theory = one["limit"][curve]
            far = _far(d, value - theory["value"], se, one["log"])
            left.append(abs(far.values[0]) / np.hypot(far.errors[0], theory["se"]))
        checks.append(Check(f"{name}: real runs from their own limit at infinite d, furthest curve", max(left), t, "se"))
    law = (
        f"Student t with {degrees:.0f} degrees of freedom, level {LEVEL:g} over {count} comparisons (Bonferroni: {t:.2f} se). Real runs of"
        f" a pair share data, start and draws; differences of the means of blocks of runs, fitted by c0 + c1/d + c2/d^2; exponents by least"
        f" squares of c d^-p of the curve with the clearest difference, {CURVATURE:g} allowed for higher orders."
    )
    if any(pair["log"] for pair in numbers["pairs"]):
        law += " With an adaptive step c0 + c1 log(d/batch)/d + c2/d, and exponents of what is divided by the logarithm."
    return Verdict(tuple(checks), said("; ".join(exponents), "; ".join(distances)), law)


def _together(numbers: Numbers, pair: Numbers, t: float) -> tuple[list[Check], str]:
    """Checks that a pair has one limit, and is on its way there like 1/d."""
    left, clear = [], []
    for name in CURVES:
        d, gap, se, _, _ = of(numbers, pair, name)
        far = _far(d, gap, se, pair["log"])
        left.append(abs(far.values[0]) / far.errors[0])
        clear.append(float(np.sum((gap / se) ** 2)))
    name = CURVES[int(np.argmax(clear))]
    d, gap, se, _, _ = of(numbers, pair, name)
    per = d * _leading(d, pair["log"])
    slope = exponent(d, gap / per, se / per)
    p, error = -slope.values[1], slope.errors[1]
    checks = [
        Check(f"{pair['name']}: difference left at infinite d, furthest curve", max(left), t, "se"),
        Check(f"{pair['name']}: difference at the smallest d ({WORDS[name]})", abs(gap[0]) / se[0], t, "se", least=True),
        Check(f"{pair['name']}: distance of the exponent {p:.2f} ± {error:.2f} ({WORDS[name]}) from 1", abs(p - 1), t * error + CURVATURE),
    ]
    return checks, f"{pair['name']} with exponent {p:.2f} ± {error:.2f} ({WORDS[name]})"


def _parted(numbers: Numbers, pair: Numbers, t: float) -> tuple[list[Check], str]:
    """Checks that a pair stays apart, as far as its limits are."""
    found = {}
    for name in CURVES:
        d, gap, se, theory, error = of(numbers, pair, name)
        far = _far(d, gap, se, pair["log"])
        value, spread = far.values[0], far.errors[0]
        found[name] = abs(value) / spread, abs(value - theory) / np.hypot(spread, error), (value, spread, theory, error)
    sizes, off = ([one[i] for one in found.values()] for i in (0, 1))
    name = max(found, key=lambda curve: found[curve][0])
    value, spread, theory, error = (100 * number for number in found[name][2])
    checks = [
        Check(f"{pair['name']}: difference at infinite d, clearest curve", max(sizes), 2 * t, "se", least=True),
        Check(f"{pair['name']}: difference at infinite d from that of the limits, furthest curve", max(off), t, "se"),
    ]
    return checks, (f"{pair['name']} by {value:.2f} ± {spread:.2f}% of the {WORDS[name]}, where theory has {theory:.2f} ± {error:.2f}%")


def draw(numbers: Numbers, whose: str, columns: int = 2, shown: Sequence[str] = ("test_risk", "train_risk")) -> Any:
    """Differences over the size, both logarithmic: what vanishes with its fit, what stays with that of the limits."""
    with panels(2, height=3.0) as (figure, (axes,)):
        for axis, name in zip(axes, shown, strict=True):
            d, lowest, highest = of(numbers, numbers["pairs"][0], name)[0], np.inf, 0.0
            fine = np.geomspace(d[0] / 1.15, d[-1] * 1.15, 60)
            for i, pair in enumerate(numbers["pairs"]):
                _, gap, se, theory, _ = of(numbers, pair, name)
                clear = np.abs(gap) > 2.0 * se
                points(axis, d[clear], 100 * np.abs(gap[clear]), 100 * se[clear], i, pair["label"])
                line = 0.0 * fine + theory
                if pair["alike"]:
                    line = _orders(fine, pair["log"]) @ fit(_orders(d, pair["log"]), gap, se).values
                    highest = max(highest, 100 * abs(line[0]))
                guide(axis, fine, 100 * np.abs(line), i)
                lowest = min([lowest, *(100 * (np.abs(gap) - se)[clear])])
            guide(axis, fine, 2.2 * highest * fine[0] / fine)
            middle = (fine[30], 2.2 * highest * fine[0] / fine[30])
            axis.annotate("slope $-1$", middle, (4, 4), textcoords="offset points", fontsize=8.5, color="0.35")
            logarithmic(axis, d, y=True, bottom=0.7 * lowest if np.isfinite(lowest) else None)
            axis.set(xlabel="features $d$", ylabel=f"{LABELS[name]} from {whose} (%)")
        legend(figure, axes[0], columns)
    return figure


def table(numbers: Numbers) -> list[list[str]]:
    sizes = [row["n_features"] for row in numbers["pairs"][0]["rows"]]
    rows = [["difference", "curve", *(f"d = {d}" for d in sizes), "d → ∞", "of the limits"]]
    for pair in numbers["pairs"]:
        for name in CURVES:
            d, gap, se, theory, error = of(numbers, pair, name)
            far = _far(d, gap, se, pair["log"])
            cells = [f"{100 * g:.2f} ± {100 * s:.2f} %" for g, s in zip([*gap, far.values[0]], [*se, far.errors[0]], strict=True)]
            rows.append([pair["name"], WORDS[name], *cells, "0" if theory == error == 0 else f"{100 * theory:.2f} ± {100 * error:.2f} %"])
    return rows
