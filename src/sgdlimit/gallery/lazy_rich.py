"""Lazy against rich: what the rate of the head does to the overlap of the first layer."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from .along import Settings, apart, drawn, entry, followed, law, measure, when
from .claims import Check, Claim, Numbers, Verdict
from .figures import BAND, band, guide, legend, logarithmic, look, marks, panels, points
from .statistics import bound, pooled

FINITE = 5.0  # allowance for finite size, relative and over d


def cosine(curves: Numbers, rho: float) -> Numbers:
    """Between the first layer and the teacher over time, `{value, se}`."""
    overlap, square = entry(curves, "overlap", 0, 0), entry(curves, "self_overlap", 0, 0)
    value = overlap["value"] / np.sqrt(square["value"] * rho)
    se = np.hypot(overlap["se"] / np.sqrt(square["value"] * rho), value * square["se"] / (2 * square["value"]))
    return {"value": value, "se": se}


def learnt(numbers: Numbers, member: Numbers, kind: str) -> tuple[float, float]:
    """The cosine when the test risk comes down to the level, and its error; NaN where it does not."""
    curves = member[kind]
    time, error = when(curves, "test_risk", numbers["level"])
    found, times = cosine(curves, numbers["rho"][0][0]), curves["time"]
    if not np.isfinite(time):
        return float("nan"), float("nan")
    value, se = (np.interp(time, times, found[key]) for key in ("value", "se"))
    slope = np.interp(time, times, np.gradient(found["value"], times))
    return float(value), float(np.hypot(se, slope * error))


def judge(numbers: Numbers) -> Verdict:
    checks, worst = followed(numbers)
    trained, fixed = numbers["members"][1:], numbers["members"][0]
    found = [(m["rate"], learnt(numbers, m, "theory"), learnt(numbers, m, "runs")) for m in trained]
    count = 3 * len(found) + 1
    z, t = bound(count), bound(count, degrees=pooled(numbers["repeats"]))
    for rate, theory, real in found:
        checks.append(apart(f"rate {rate:g}: cosine at equal risk of real runs from theory beyond {FINITE:g}/d of it", theory, real,
                            FINITE / numbers["n_features"], t))  # fmt: skip
    for kind, place, least in (("theory", 1, z), ("real runs", 2, t)):
        for slow, fast in pairwise(found):
            below = (slow[place][0] - fast[place][0]) / np.hypot(slow[place][1], fast[place][1])
            checks.append(
                Check(f"cosine at equal risk at rate {fast[0]:g} below that at rate {slow[0]:g}, {kind}", float(below), least, "se", True)
            )
    risk = entry(fixed["runs"], "test_risk")
    stays = float(np.min((risk["value"] - numbers["level"]) / np.maximum(risk["se"], 1e-12)))
    checks.append(Check("fixed head: least height of real runs above that risk, at any time", stays, t, "se", least=True))
    spoken = ", ".join(f"{theory[0]:.3f} (real runs {real[0]:.3f} ± {real[1]:.3f}) at rate {rate:g}" for rate, theory, real in found)
    last = cosine(fixed["runs"], numbers["rho"][0][0])
    summary = (
        f"when the test risk has come down to {numbers['level']:g}, the cosine between first layer and teacher is {spoken}. With a fixed"
        f" head the first layer comes to {last['value'][-1]:.3f}, and the risk only to {risk['value'][-1]:.2f}. All curves of real runs"
        f" are within {worst:.1f} se of theory."
    )
    more = f" Cosines and risks: Student t for real runs, normal between theories, over {count} comparisons ({t:.2f} and {z:.2f} se)."
    return Verdict(tuple(checks), summary, law(numbers, more))


def draw(numbers: Numbers) -> Any:
    rho = numbers["rho"][0][0]
    with panels(3, width=2.9, height=2.8) as (figure, ((left, middle, right),)):
        for i, member in enumerate(numbers["members"]):
            drawn(left, member, "test_risk", i, f"rate {member['rate']:g}" if member["rate"] else "fixed head")
            theory, runs = (cosine(member[kind], rho) for kind in ("theory", "runs"))
            some = slice(i % 4, None, 4)
            risk = entry(member["theory"], "test_risk")["value"]
            band(middle, risk, theory, i)
            points(middle, entry(member["runs"], "test_risk")["value"][some], runs["value"][some], runs["se"][some], i)
        guide(left, [0, numbers["members"][0]["theory"]["time"][-1]], [numbers["level"]] * 2)
        middle.axvline(numbers["level"], color="0.45", dashes=(4, 2), linewidth=1.1, zorder=1)
        middle.invert_xaxis()
        left.set(xlabel="time $t$", ylabel="test risk", ylim=(0, None))
        middle.set(xlabel="test risk", ylabel="cosine (first layer, teacher)")
        rates = np.array([m["rate"] for m in numbers["members"][1:]])
        theory, real = (np.array([learnt(numbers, m, kind) for m in numbers["members"][1:]]) for kind in ("theory", "runs"))
        right.plot(rates, theory[:, 0], color="0.3", linewidth=1.2, zorder=1)
        for i, (rate, (value, se)) in enumerate(zip(rates, real, strict=True), 1):
            right.errorbar(rate, value, BAND * se, **marks(look(i)))
        logarithmic(right, rates)
        right.set(xlabel="rate of the head", ylabel=f"cosine at test risk {numbers['level']:g}")
        legend(figure, left, 5)
    return figure


def table(numbers: Numbers) -> list[list[str]]:
    rows = [
        [
            "rate of the head",
            "time to that risk, theory",
            "cosine then, theory",
            "real runs",
            "last cosine, theory",
            "last test risk, theory",
        ]
    ]
    spoken = lambda value, se: f"{value:.4f} ± {se:.4f}" if np.isfinite(value) else "—"
    for member in numbers["members"]:
        last, risk = cosine(member["theory"], numbers["rho"][0][0]), entry(member["theory"], "test_risk")
        found = [when(member["theory"], "test_risk", numbers["level"]), *(learnt(numbers, member, kind) for kind in ("theory", "runs"))]
        rows.append(
            [f"{member['rate']:g}", *(spoken(*one) for one in found), *(spoken(one["value"][-1], one["se"][-1]) for one in (last, risk))]
        )
    return rows


CLAIM = Claim(
    name="lazy-rich",
    title="Lazy and rich: the faster the head, the less the first layer learns",
    words="One unit with a head that starts small, and a teacher with a large one. For the same risk a slow head leaves the work to the"
    " first layer, which has to turn towards the teacher (rich); a fast one does it itself, with the features as they are (lazy). So at"
    " equal test risk the overlap of the first layer falls with the rate of the head.",
    source="Beyond the paper: OPTIMISERS section 4 of this project. Lazy and rich: Chizat, Oyallon and Bach, arXiv 1812.07956.",
    settings=Settings,
    measure=measure,
    judge=judge,
    draw=draw,
    table=table,
    caption="(a) Test risk over time, (b) cosine over test risk, (c) cosine at the test risk of the dashed line. Theory (lines and bands)"
    " and real runs (points, ±2 standard errors).",
)
