"""Class imbalance: how long the intercept takes, and what it does to the risk meanwhile."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from scipy import integrate

from .along import Settings, apart, drawn, entry, followed, law, measure, when
from .claims import Check, Claim, Numbers, Verdict
from .figures import guide, legend, panels
from .statistics import bound, exponent, pooled

FINITE = 5.0  # allowance for finite size in a time, relative and over d
EXPONENT = 0.1  # and for what the weights do to the intercept: in the exponent,
RULE = 0.25  # and of the closed form for an intercept alone


def alone(level: float, rare: float) -> float:
    """How long an intercept of rate 1 takes to `level` where no features are seen: `da/dt = rare - 1 / (1 + exp(-a))`."""
    return float(integrate.quad(lambda a: 1.0 / (rare - 1.0 / (1.0 + np.exp(-a))), 0.0, level)[0])


def share(rho: float, intercept: float) -> float:
    """Of the rare class, with a logistic teacher of this strength and intercept."""
    x, weights = np.polynomial.hermite_e.hermegauss(80)
    return float(weights @ (1.0 / (1.0 + np.exp(-(np.sqrt(rho) * x + intercept)))) / weights.sum())


def measured(settings: Settings, tell: Any) -> Numbers:
    numbers = measure(settings, tell)
    rare = share(numbers["rho"][0][0], settings.problem.parameters["teacher_intercept"])
    return numbers | {"rare": rare, "alone": alone(numbers["level"], rare)}


def taken(numbers: Numbers) -> list[tuple[float, tuple[float, float], tuple[float, float]]]:
    """Of each trained intercept: its rate, and how long it takes in theory and in real runs."""
    level = numbers["level"]
    return [(m["rate"], when(m["theory"], "trained", level, 0), when(m["runs"], "trained", level, 0)) for m in numbers["members"][1:]]


def rise(curves: Numbers) -> tuple[float, float]:
    """The last test risk without an intercept minus the first, and its error."""
    risk = entry(curves, "test_risk")
    return float(risk["value"][-1] - risk["value"][0]), float(np.hypot(risk["se"][-1], risk["se"][0]))


def judge(numbers: Numbers) -> Verdict:
    checks, worst = followed(numbers)
    found, none = taken(numbers), numbers["members"][0]
    count = 2 * len(found) + 3
    z, t = bound(count), bound(count, degrees=pooled(numbers["repeats"]))
    for rate, theory, real in found:
        checks.append(apart(f"rate {rate:g}: time taken by real runs from theory beyond {FINITE:g}/d of it", theory, real,
                            FINITE / numbers["n_features"], t))  # fmt: skip
    rates, times, errors = (np.array(v) for v in zip(*((rate, *theory) for rate, theory, _ in found), strict=True))
    slope = exponent(rates, times, errors) if np.isfinite(times).all() else None
    power, error = (np.nan, np.nan) if slope is None else (slope.values[1], slope.errors[1])
    checks.append(
        Check(f"exponent {power:.3f} ± {error:.3f} of the time taken over the rate, from -1", abs(power + 1), z * error + EXPONENT)
    )
    rule = numbers["alone"]
    off = max(abs(rate * time / rule - 1) for rate, time in zip(rates, times, strict=True))
    checks.append(Check(f"rate times time taken from that of an intercept alone, {rule:.2f}, largest part", float(off), RULE))
    checks.append(
        Check("no intercept: real runs' rise of the test risk over its start", (up := rise(none["runs"]))[0] / up[1], t, "se", least=True)
    )
    last = [entry(m["runs"], "test_risk") for m in numbers["members"]]
    steps = [(a["value"][-1] - b["value"][-1]) / np.hypot(a["se"][-1], b["se"][-1]) for a, b in pairwise(last)]
    checks.append(
        Check("last test risk of real runs below that of the next slower intercept, least", float(min(steps)), t, "se", least=True)
    )
    spoken = ", ".join(f"{theory[0]:.1f} (real runs {real[0]:.1f} ± {real[1]:.1f}) at rate {rate:g}" for rate, theory, real in found)
    summary = (
        f"the intercept comes to {numbers['level']:g}, half-way to the classes' log-odds, at t = {spoken}: {rule:.1f} over its rate, as"
        f" alone, to {100 * off:.0f}%. Without an intercept the test risk rises by {up[0]:.3f} ± {up[1]:.3f} to {last[0]['value'][-1]:.2f};"
        f" with it, it falls to {', '.join(format(one['value'][-1], '.3f') for one in last[1:])}."
        f" All curves of real runs are within {worst:.1f} se of theory."
    )
    more = f" Times and risks: Student t, the exponent normal, over {count} comparisons ({t:.2f} and {z:.2f} se)."
    return Verdict(tuple(checks), summary, law(numbers, more))


def draw(numbers: Numbers) -> Any:
    with panels(2, height=2.9) as (figure, ((left, right),)):
        for i, member in enumerate(numbers["members"]):
            label = f"rate {member['rate']:g}" if member["rate"] else "no intercept"
            drawn(left, member, "trained", i, label, (0,))
            drawn(right, member, "test_risk", i)
        end = numbers["members"][0]["theory"]["time"][-1]
        guide(left, [0, end], [numbers["level"]] * 2)
        left.set(xlabel="time $t$ = learning rate $\\times$ updates", ylabel="intercept $a$")
        right.set(xlabel="time $t$ = learning rate $\\times$ updates", ylabel="test risk")
        legend(figure, left, 4)
    return figure


def table(numbers: Numbers) -> list[list[str]]:
    rows = [["rate", "time taken, theory", "real runs", "times rate", "last intercept", "last test risk, theory", "real runs"]]
    for member in numbers["members"]:
        times = [when(member[kind], "trained", numbers["level"], 0) for kind in ("theory", "runs")]
        risks = [entry(member[kind], "test_risk") for kind in ("theory", "runs")]
        cells = [f"{t:.2f} ± {se:.2f}" if np.isfinite(t) else "never" for t, se in times]
        product = f"{times[0][0] * member['rate']:.2f}" if np.isfinite(times[0][0]) else "—"
        a = entry(member["theory"], "trained", 0)["value"][-1]
        rows.append([f"{member['rate']:g}", *cells, product, f"{a:.2f}", *(f"{r['value'][-1]:.4f} ± {r['se'][-1]:.4f}" for r in risks)])
    return rows


CLAIM = Claim(
    name="imbalance",
    title="A rare class: the risk waits for the intercept",
    words="Logistic regression with one positive to twenty negatives. The intercept starts at zero and has to come to the log-odds of the"
    " classes, -3; half of that takes a time of about 6 over its rate, which at the weights' own learning rate (rate 1) and for"
    " standardised features is 6 / (learning rate) updates, whatever the batch. Until then the risk is that of the missing intercept:"
    " without any, the weights learn to make up for it and the test risk rises; a faster intercept is better throughout.",
    source="Beyond the paper: OPTIMISERS section 4 of this project.",
    settings=Settings,
    measure=measured,
    judge=judge,
    draw=draw,
    table=table,
    caption="Intercept and test risk over time, theory (lines and bands) and real runs (points, ±2 standard errors). Dashed: half of the"
    " classes' log-odds.",
)
