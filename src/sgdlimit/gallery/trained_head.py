"""A committee whose head is trained leaves the plateau that a fixed head keeps."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from .along import Settings, apart, drawn, entry, followed, law, measure, when
from .claims import Check, Claim, Numbers, Verdict
from .figures import guide, legend, panels
from .statistics import bound, pooled

# Allowance for finite size in a time of escape, relative and over d: the plateau is left by an instability, which multiplies a bias of the
# start for as long as the plateau lasts.
FINITE = 20.0
SLOW = 0.3  # rates up to this are slow: the plateau waits for the head; beyond, the head waits for the units
ALIKE = 0.1  # part by which times of escape of faster heads may differ


def escapes(numbers: Numbers) -> list[tuple[float, tuple[float, float], tuple[float, float]]]:
    """Of each trained head: its rate, and the times at which theory and real runs leave the plateau."""
    level = numbers["level"]
    return [(m["rate"], when(m["theory"], "test_risk", level), when(m["runs"], "test_risk", level)) for m in numbers["members"][1:]]


def judge(numbers: Numbers) -> Verdict:
    checks, worst = followed(numbers)
    found, fixed = escapes(numbers), numbers["members"][0]
    count = 3 * len(found) + 1
    z, t = bound(count), bound(count, degrees=pooled(numbers["repeats"]))
    risk = entry(fixed["runs"], "test_risk")
    stays = float(np.min((risk["value"] - numbers["level"]) / np.maximum(risk["se"], 1e-12)))
    checks.append(Check("fixed head: least height of real runs above the level, at any time", stays, t, "se", least=True))
    for rate, theory, real in found:
        checks.append(apart(f"rate {rate:g}: time of escape of real runs from theory beyond {FINITE:g}/d of it", theory, real,
                            FINITE / numbers["n_features"], t))  # fmt: skip
    for (slow, one, _), (fast, other, _) in pairwise(found):
        gap, se = one[0] - other[0], float(np.hypot(one[1], other[1]))
        if slow < SLOW:
            checks.append(Check(f"escape at rate {fast:g} before that at rate {slow:g}, theory", gap / se, z, "se", least=True))
        else:
            what = f"escapes at rates {slow:g} and {fast:g} apart beyond {ALIKE:.0%}, theory"
            checks.append(Check(what, max(abs(gap) - ALIKE * one[0], 0.0) / se if np.isfinite(gap) else np.nan, z, "se"))
    spoken = ", ".join(f"{theory[0]:.1f} (real runs {real[0]:.1f} ± {real[1]:.1f}) at rate {rate:g}" for rate, theory, real in found)
    summary = (
        f"with a fixed head the test risk is still {risk['value'][-1]:.3f} at t = {fixed['runs']['time'][-1]:g}; trained heads bring it"
        f" below {numbers['level']:g} at t = {spoken}. All curves of real runs are within {worst:.1f} se of theory."
    )
    more = f" Times of escape: Student t, and normal between theories, over {count} comparisons ({t:.2f} and {z:.2f} se)."
    return Verdict(tuple(checks), summary, law(numbers, more))


def draw(numbers: Numbers) -> Any:
    with panels(2, height=2.9) as (figure, ((left, right),)):
        for i, member in enumerate(numbers["members"]):
            label = f"rate {member['rate']:g}" if member["rate"] else "fixed head"
            drawn(left, member, "test_risk", i, label)
            drawn(right, member, "trained", i, index=(0,))
        end = numbers["members"][0]["theory"]["time"][-1]
        guide(left, [0, end], [numbers["level"]] * 2)
        plateau = max(entry(m["theory"], "test_risk")["value"][8] for m in numbers["members"])
        left.set(xlabel="time $t$", ylabel="test risk", ylim=(0, 2.2 * plateau))
        right.set(xlabel="time $t$", ylabel="weight $a_1$ of the head")
        legend(figure, left, 4)
    return figure


def table(numbers: Numbers) -> list[list[str]]:
    rows = [["rate of the head", "escape, theory", "escape, real runs", "last test risk, theory", "last test risk, real runs"]]
    for member in numbers["members"]:
        times = [when(member[kind], "test_risk", numbers["level"]) for kind in ("theory", "runs")]
        risks = [entry(member[kind], "test_risk") for kind in ("theory", "runs")]
        cells = [f"{t:.2f} ± {se:.2f}" if np.isfinite(t) else "never" for t, se in times]
        rows.append([f"{member['rate']:g}", *cells, *(f"{r['value'][-1]:.4f} ± {r['se'][-1]:.4f}" for r in risks)])
    return rows


CLAIM = Claim(
    name="trained-head",
    title="A trained head leaves the plateau of a fixed one",
    words="A committee of two units with a fixed head, as theorists have it, and a teacher with a stronger one: both units learn the same"
    " and the risk stays on a plateau. A head that is trained along, as in every script, grows, and the units part: the plateau is left."
    " A slow head is waited for; a fast one (rate 0.3 and more) has to wait for the units, and a still faster one gains nothing. One pass"
    " over fresh samples; the head's rate is 1 where it has the weights' own learning rate.",
    source="Beyond the paper: OPTIMISERS section 4 of this project. Fixed heads: Saad and Solla, Phys. Rev. E 52, 4225 (1995).",
    settings=Settings,
    measure=measure,
    judge=judge,
    draw=draw,
    table=table,
    caption="Test risk and the head's first weight over time, theory (lines and bands) and real runs (points, ±2 standard errors)."
    " Dashed: the level at which the plateau counts as left.",
)
