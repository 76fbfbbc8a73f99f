"""DP-SGD: what clipping costs against what its noise costs, and the clip that is best between them."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from pydantic import Field

import sgdlimit as sl

from .approach import ALLOWED_BIAS
from .claims import Check, Claim, Numbers, Progress, Verdict
from .figures import band, guide, logarithmic, panels, points
from .measure import CURVES, WORDS, Experiment, OneProblem, Positive, Repeats, blocks, last, solved
from .statistics import LEVEL, bound, exponent, pooled

CURVATURE = 0.15  # allowance for orders beyond the correction, in the exponent
DRAWS = 400  # by which the error of theory's best clip is found

Place = tuple[float, float, float, float]


class Clips(Experiment):
    step: Positive
    fraction: Annotated[float, Field(gt=0, le=1)]  # of the data in a batch
    noise_multipliers: Annotated[list[Positive], Field(min_length=2)]  # beside none
    clips: Annotated[list[Positive], Field(min_length=4)]  # of the gradient l, for features of norm one
    n_features: Annotated[int, Field(ge=10)]
    block: Repeats
    repeats: Annotated[int, Field(ge=3)]


class Settings(OneProblem):
    experiment: Clips


def measure(settings: Settings, tell: Progress) -> Numbers:
    problem, e = settings.build(), settings.experiment
    noises, clips = [0.0, *sorted(e.noise_multipliers)], sorted(e.clips)
    rows, d = [], e.n_features
    for i, noise in enumerate(noises):
        for j, clip in enumerate(clips):
            tell((i * len(clips) + j) / (len(noises) * len(clips)), f"noise multiplier {noise:g}, clip {clip:g}")
            # Opacus' numbers for features of norm one; the temperature depends on the batch's part of the data alone.
            private = sl.dp_noise(noise, clip, round(e.fraction * problem.sample_ratio * d), d, step=e.step, feature_variance=1.0 / d)
            dynamics = sl.MiniBatchGD(e.step, e.fraction, temperature=private["temperature"], clip=private["clip"])
            theory = last(solved(problem, dynamics, e.horizon, e.rtol, e.seed, [0.0, e.horizon]))
            runs = blocks(problem, dynamics, [e.horizon], d, e.block, e.repeats, e.seed + 1)
            rows.append({"noise": noise, "clip": clip, "temperature": private["temperature"], "theory": theory, "runs": runs.tolist()})
    return {"n_features": d, "repeats": e.repeats, "noises": noises, "clips": clips, "horizon": e.horizon, "rows": rows}


def of(numbers: Numbers, noise: float, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A curve over the clips at this noise: theory with its error `(clip,)`, and all blocks of real runs `(block, clip)`."""
    rows = [row for row in numbers["rows"] if row["noise"] == noise]
    value, se = (np.array([row["theory"][name][key] for row in rows]) for key in ("value", "se"))
    return value, se, np.array([row["runs"] for row in rows])[:, :, CURVES.index(name)].T


def _error(values: np.ndarray) -> np.ndarray:
    return values.std(0, ddof=1) / np.sqrt(len(values))


def vertex(clips: Any, risk: np.ndarray, at: int) -> float:
    """Logarithm of the clip at which the parabola through the three points around number `at` has its lowest point."""
    x, y = np.log(np.asarray(clips)[at - 1 : at + 2]), risk[at - 1 : at + 2]
    two, one, _ = np.polyfit(x, y, 2)
    return float(-one / (2.0 * two))


def best(numbers: Numbers, noise: float) -> Place:
    """Logarithms of the best clip in the limit and in real runs, each before its error; NaN where it is at an end of the clips."""
    value, se, real = of(numbers, noise, "test_risk")
    at, clips = int(np.argmin(value)), numbers["clips"]
    if not 0 < at < len(clips) - 1:
        return np.nan, np.nan, np.nan, np.nan
    drawn = [vertex(clips, value + se * z, at) for z in np.random.default_rng(0).standard_normal((DRAWS, len(value)))]
    count = len(real)
    left_out = np.array([vertex(clips, (real.sum(0) - one) / (count - 1), at) for one in real])  # jackknife
    error = np.sqrt((count - 1) / count * np.sum((left_out - left_out.mean()) ** 2))
    return vertex(clips, value, at), float(np.std(drawn)), vertex(clips, real.mean(0), at), float(error)


def judge(numbers: Numbers) -> Verdict:
    clips, noises, allowed = numbers["clips"], numbers["noises"], ALLOWED_BIAS / numbers["n_features"]
    count = len(CURVES) * len(clips) * len(noises) + 5 * len(noises)
    z, t, checks, spoken, found = bound(count), bound(count, degrees=pooled(numbers["repeats"])), [], [], []
    for noise in noises:
        label, off = f"noise multiplier {noise:g}", []
        for name in CURVES:
            value, se, real = of(numbers, noise, name)
            gap = np.abs(real.mean(0) - value) - allowed * np.abs(value).max()
            off.append(float(np.max(np.maximum(gap, 0.0) / np.hypot(se, _error(real)))))
        checks.append(Check(f"{label}: real runs from the limit beyond {ALLOWED_BIAS:g}/d, furthest clip and curve", max(off), t, "se"))
        if not noise:
            value, se, real = of(numbers, noise, "test_risk")
            fall = real[:, :-1] - real[:, 1:]
            falls = ((value[:-1] - value[1:]) / np.hypot(se[:-1], se[1:])).min(), (fall.mean(0) / _error(fall)).min()
            for kind, one, least in zip(("the limit", "real runs"), falls, (z, t), strict=True):
                checks.append(Check(f"{label}: fall of the test risk of {kind} from one clip to the next, least", one, least, "se", True))
            continue
        more, told, place = _between(numbers, noise, z, t)
        checks += more
        spoken.append(told)
        found.append(place)
    down = [(a[0] - b[0]) / np.hypot(a[1], b[1]) for a, b in pairwise(found)]
    checks.append(Check("fall of the limit's best clip from one noise to the next, least", min(down), z, "se", least=True))
    down = [(a[2] - b[2]) / np.hypot(a[3], b[3]) for a, b in pairwise(found)]
    checks.append(Check("fall of the best clip of real runs from one noise to the next, least", min(down), t, "se", least=True))
    summary = (
        "without noise a larger clip is always better; with it there is a best clip, which falls with the noise: "
        f"{'; '.join(spoken)}. What noise costs goes with the square of small clips."
    )
    law = (
        f"Level {LEVEL:g} over {count} comparisons (Bonferroni): theory normal ({z:.2f} se), real runs Student t with"
        f" {pooled(numbers['repeats']):.0f} degrees of freedom ({t:.2f} se); real runs of all clips are on the same data. The best clip is"
        f" the lowest point of the parabola in its logarithm through the lowest three of the limit; its error by jackknife over blocks of"
        f" runs, in theory by draws. Exponents of the noise's cost by c x^p e^(b x), {CURVATURE:g} allowed for higher orders."
    )
    return Verdict(tuple(checks), summary, law)


def _between(numbers: Numbers, noise: float, z: float, t: float) -> tuple[list[Check], str, Place]:
    """Checks of one noise: that the best clip lies between the ends, the same in theory and real runs, and how the noise's cost begins."""
    label, place = f"noise multiplier {noise:g}", best(numbers, noise)
    value, se, real = of(numbers, noise, "test_risk")
    at, checks = int(np.argmin(value)), []
    for kind, least in (("the limit", 2 * z), ("real runs", t)):
        over = []
        for end in {0, len(value) - 1} - {at}:
            gap = real[:, end] - real[:, at]
            limit = (value[end] - value[at]) / np.hypot(se[end], se[at])
            over.append(limit if kind == "the limit" else gap.mean() / _error(gap))
        checks.append(
            Check(f"{label}: test risk of {kind} at the end of the clips above the best, less far end", min(over), least, "se", True)
        )
    apart = abs(place[0] - place[2]) / np.hypot(place[1], place[3])
    checks.append(Check(f"{label}: best clip of real runs from that of the limit", apart, t, "se"))
    cost, error = _cost(numbers, noise)
    slope = exponent(np.array(numbers["clips"]), cost, error, correction=True)
    p, spread = slope.values[1], slope.errors[1]
    checks.append(Check(f"{label}: distance of the exponent {p:.2f} ± {spread:.2f} of its cost from 2", abs(p - 2), z * spread + CURVATURE))
    told = [f"{np.exp(a):.3f} ± {np.exp(a) * b:.3f}" for a, b in (place[:2], place[2:])]
    return checks, f"at noise multiplier {noise:g} it is {told[0]} in theory and {told[1]} in real runs", place


def _cost(numbers: Numbers, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """What the noise adds to the limit's test risk at each clip, with its error."""
    (value, se, _), (silent, error, _) = (of(numbers, one, "test_risk") for one in (noise, 0.0))
    return value - silent, np.hypot(se, error)


def draw(numbers: Numbers) -> Any:
    clips = np.array(numbers["clips"])
    with panels(2, height=3.0) as (figure, ((left, right),)):
        silent, error, real = of(numbers, 0.0, "test_risk")
        for i, noise in enumerate(numbers["noises"]):
            value, se, runs = of(numbers, noise, "test_risk")
            band(left, clips, {"value": value.tolist(), "se": se.tolist()}, i, rf"$\sigma = {noise:g}$" if noise else "no noise")
            points(left, clips, runs.mean(0), _error(runs), i)
            if noise:
                cost, se = _cost(numbers, noise)
                band(right, clips, {"value": cost.tolist(), "se": se.tolist()}, i, rf"noise, $\sigma = {noise:g}$")
                points(right, clips, (runs - real).mean(0), _error(runs - real), i)
                if np.isfinite(place := best(numbers, noise)[0]):
                    left.axvline(np.exp(place), color="0.85", linewidth=0.8, zorder=0)
        over = real[:, :-1] - real[:, -1:]
        band(right, clips[:-1], {"value": (silent[:-1] - silent[-1]).tolist(), "se": error[:-1].tolist()}, 0, "clipping")
        points(right, clips[:-1], over.mean(0), _error(over), 0)
        start = _cost(numbers, numbers["noises"][-1])[0][0]
        guide(right, clips[:3], 2.5 * start * (clips[:3] / clips[0]) ** 2)
        right.annotate("slope 2", (clips[1], 2.5 * start * (clips[1] / clips[0]) ** 2), (-6, 6), textcoords="offset points", ha="right",
                       fontsize=8.5, color="0.35")  # fmt: skip
        logarithmic(left, clips)
        logarithmic(right, clips, y=True, bottom=2e-4)
        left.set(xlabel="clip $c$", ylabel=f"test risk at $t = {numbers['horizon']:g}$")
        right.set(xlabel="clip $c$", ylabel="cost in test risk")
        left.set_ylim(top=min(left.get_ylim()[1], 2.2 * silent.max()))
        for axis in (left, right):
            axis.legend(frameon=False, fontsize=8.5, handlelength=2.4)
    return figure


def table(numbers: Numbers) -> list[list[str]]:
    rows = [["noise multiplier", "curve", *(f"clip {clip:g}, {kind}" for clip in numbers["clips"] for kind in ("theory", "real runs"))]]
    for noise in numbers["noises"]:
        for name in ("test_risk", "train_risk"):
            value, se, real = of(numbers, noise, name)
            cells = zip(value, se, real.mean(0), _error(real), strict=True)
            spoken = [f"{one:.4f} ± {spread:.4f}" for a, b, c, d in cells for one, spread in ((a, b), (c, d))]
            rows.append([f"{noise:g}", WORDS[name], *spoken])
    return rows


CLAIM = Claim(
    name="private",
    title="DP-SGD has a best clip, between what clipping and what its noise costs",
    words="DP-SGD shortens the gradient of each sample to a length c and adds noise of standard deviation σc to their sum. A small clip"
    " makes small steps, a large one much noise, whose cost goes with c² as c is small: at a given noise multiplier σ, which is what"
    " privacy asks for, one clip between is best, and it falls as σ grows. Without noise no clip is large enough.",
    source="DP-SGD: Abadi et al., arXiv 1607.00133. Its limit is that of batches of a fixed fraction (Gerbelot et al., arXiv 2210.06591)"
    " with a clipped gradient and a temperature, derived for this project.",
    settings=Settings,
    measure=measure,
    judge=judge,
    draw=draw,
    table=table,
    caption="Test risk over the clip, which is of the gradient for features of norm one (left), and what clipping costs against the largest"
    " clip and noise against none (right). Theory (lines and bands) and real runs (points, ±2 standard errors). Vertical lines: best"
    " clips.",
)
