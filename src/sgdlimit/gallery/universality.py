"""The limit is the same for all designs with independent entries: Gaussian, signs, uniform."""

from __future__ import annotations

from itertools import combinations
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

import sgdlimit as sl

from ..settings.training import Count
from .claims import Check, Claim, Numbers, Progress, Verdict
from .figures import guide, legend, logarithmic, panels, points
from .measure import CURVES, LABELS, WORDS, Experiment, OneProblem, Positive, Repeats, Sizes, check_sizes, grown, last, solved
from .statistics import LEVEL, bound, limit

Design = Literal["gaussian", "rademacher", "uniform"]


class Designs(Experiment):
    step: Positive
    designs: Annotated[list[Design], Field(min_length=2)]
    n_features: Sizes
    repeats: list[Repeats]
    law_features: Annotated[int, Field(ge=100)]  # size of the runs whose laws are compared
    law_repeats: Repeats
    law_paths: Count


class Settings(OneProblem):
    experiment: Designs

    def check(self) -> None:
        check_sizes(self.experiment)
        self.build()


def measure(settings: Settings, tell: Progress) -> Numbers:
    problem, e = settings.build(), settings.experiment
    dynamics, total = sl.SGD(e.step), len(e.designs) * (len(e.n_features) + 1)
    tell(0.0, "theory")
    theory = solved(problem, dynamics, e.horizon, rtol=e.rtol, seed=e.seed, times=[0.0, e.horizon])
    found: Numbers = {}
    for i, design in enumerate(e.designs):
        at = i * (len(e.n_features) + 1)
        progress = lambda j, at=at, design=design: tell((at + j) / total, f"{design}, d = {e.n_features[j]}")
        rows = grown(problem, lambda d: dynamics, e.horizon, e.n_features, e.repeats, e.seed + 1 + 100 * i, progress, design=design)
        tell((at + len(e.n_features)) / total, f"{design}, laws")
        runs = sl.simulate(
            problem,
            dynamics,
            e.horizon,
            e.law_features,
            repeats=e.law_repeats,
            design=design,
            seed=e.seed + 90 + 100 * i,
            times=[e.horizon],
        )
        laws = sl.laws(theory, runs, times=[e.horizon], n=e.law_paths, level=LEVEL / len(e.designs), seed=e.seed + i)
        found[design] = {
            "runs": rows,
            "laws": [{"law": row.law, "ks": row.ks, "allowed": row.allowed, "wasserstein": row.wasserstein} for row in laws.table],
        }
    return {"time": e.horizon, "theory": last(theory), "law_features": e.law_features, "designs": found}


def _gaps(numbers: Numbers, design: str, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sizes, and real minus theory relative to theory, with its error."""
    theory, rows = numbers["theory"][name], numbers["designs"][design]["runs"]
    d, mean, se = (np.array(v, dtype=float) for v in zip(*((r["n_features"], r[name]["value"], r[name]["se"]) for r in rows), strict=True))
    scale = abs(theory["value"])
    return d, (mean - theory["value"]) / scale, np.hypot(se, theory["se"]) / scale


def judge(numbers: Numbers) -> Verdict:
    designs = numbers["designs"]
    pairs = list(combinations(designs, 2))
    count = len(CURVES) * (len(designs) + len(pairs))
    z, checks, widest, most = bound(count), [], 0.0, 0.0
    fits = {(design, name): limit(*_gaps(numbers, design, name), (1.0,)) for design in designs for name in CURVES}
    for design in designs:
        left = {name: abs(fits[design, name].values[0]) / fits[design, name].errors[0] for name in CURVES}
        widest = max(widest, *(fits[design, name].errors[0] for name in CURVES))
        worst = max(left, key=lambda name: left[name])
        checks.append(Check(f"{design}: distance from theory left at infinite d, furthest curve ({WORDS[worst]})", left[worst], z, "se"))
    for a, b in pairs:
        apart = {}
        for name in CURVES:
            one, other = fits[a, name], fits[b, name]
            apart[name] = abs(one.values[0] - other.values[0]) / np.hypot(one.errors[0], other.errors[0])
        worst = max(apart, key=lambda name: apart[name])
        checks.append(Check(f"{a} and {b}: distance left at infinite d, furthest curve ({WORDS[worst]})", apart[worst], z, "se"))
    for design, found in designs.items():
        row = max(found["laws"], key=lambda row: row["ks"] / row["allowed"])
        most = max(most, *(one["ks"] for one in found["laws"]))
        checks.append(Check(f"{design}: Kolmogorov-Smirnov distance of the law of {row['law']} from theory's", row["ks"], row["allowed"]))
    early, a, b, curve = max(_first_apart(numbers, a, b, name) for a, b in pairs for name in CURVES)
    summary = (
        "in no curve and for no design is a distance from theory, or from another design, left at infinite d (errors of that statement"
        f" at most {100 * widest:.1f}%), and the laws of weights and pre-activations at d = {numbers['law_features']} are theory's"
        f" (Kolmogorov-Smirnov distance at most {most:.3f}). At d = {next(iter(designs.values()))['runs'][0]['n_features']} they still"
        f" differ: {curve} of {a} and {b} by {early:.1f} se."
    )
    law = (
        f"Normal, level {LEVEL:g} over {count} comparisons (Bonferroni: {z:.2f} se); distances fitted by c0 + c1/d, c0 judged."
        f" Laws: Kolmogorov-Smirnov, level {LEVEL:g} over all."
    )
    return Verdict(tuple(checks), summary, law)


def _first_apart(numbers: Numbers, a: str, b: str, name: str) -> tuple[float, str, str, str]:
    """How many standard errors two designs differ by at the smallest size, and in what."""
    (_, one, one_se), (_, other, other_se) = (_gaps(numbers, design, name) for design in (a, b))
    return float(abs(one[0] - other[0]) / np.hypot(one_se[0], other_se[0])), a, b, WORDS[name]


def draw(numbers: Numbers) -> Any:
    with panels(2, 2, height=2.35) as (figure, axes):
        for axis, name in zip(axes.ravel(), CURVES, strict=True):
            for i, design in enumerate(numbers["designs"]):
                d, gap, se = _gaps(numbers, design, name)
                points(axis, d * (1 + 0.05 * (i - 1)), 100 * gap, 100 * se, i, {"rademacher": "signs"}.get(design, design))
                far, fine = limit(d, gap, se, (1.0,)), np.geomspace(d[0], d[-1], 80)
                guide(axis, fine, 100 * far.values @ np.stack([np.ones_like(fine), 1 / fine]), i)
            guide(axis, [d[0] / 1.2, d[-1] * 1.2], [0, 0])
            logarithmic(axis, d)
            axis.set(ylabel=f"{LABELS[name]} from theory (%)")
        for axis in axes[-1]:
            axis.set_xlabel("features $d$")
        legend(figure, axes[0, 0], 3)
    return figure


def table(numbers: Numbers) -> list[list[str]]:
    designs = numbers["designs"]
    sizes = [row["n_features"] for row in next(iter(designs.values()))["runs"]]
    rows = [["design", "curve", *(f"d = {d}" for d in sizes), "d → ∞"]]
    for design in designs:
        for name in CURVES:
            d, gap, se = _gaps(numbers, design, name)
            far = limit(d, gap, se, (1.0,))
            cells = [f"{100 * g:.2f} ± {100 * s:.2f} %" for g, s in zip(gap, se, strict=True)]
            rows.append([design, WORDS[name], *cells, f"{100 * far.values[0]:.2f} ± {100 * far.errors[0]:.2f} %"])
    return rows


CLAIM = Claim(
    name="universality",
    title="Designs are universal",
    words="The limit needs independent entries of mean 0 and variance 1/d, not Gaussian ones: signs and uniform entries give the same"
    " curves and the same laws of weights and pre-activations. What differs is the way there, of order 1/d.",
    source="Fan and Wang, arXiv 2601.21093.",
    settings=Settings,
    measure=measure,
    judge=judge,
    draw=draw,
    table=table,
    caption="Distance of real runs from theory, relative to it, at the last time. Points: mean over runs ±2 standard errors, shifted a"
    " little against each other. Lines: fits c0 + c1/d.",
)
