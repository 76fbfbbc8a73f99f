"""The best schedule of the step for some epochs, with replacement and reshuffled, and what it gains over the best constant step."""

from __future__ import annotations

from itertools import product
from typing import Annotated, Any

import numpy as np
from pydantic import Field

import sgdlimit as sl

from ..errors import refuse
from ..settings.training import Count
from .approach import ALLOWED_BIAS
from .claims import Check, Claim, Numbers, Progress, Verdict
from .figures import BAND, legend, logarithmic, look, panels, points
from .measure import OneProblem, last, solved
from .scheduled import HEAD, Schedules, cells, gain_gap, has_schedule, risk_gap, scheduled
from .statistics import LEVEL, bound

LITTLE = 0.03  # part of the risk that the best schedule gains, at most
CLEAR = 0.005  # part of the risk below which the error of a gain has to be for the schedule to be judged: else it is not found
LEAST = 3  # trainings that have to be, and as many whose gain theory tells from none
KINDS = {"reshuffled": lambda step: sl.SGD(step, "reshuffle"), "replaced": lambda step: sl.SGD(step)}


Epochs = Annotated[list[Count], Field(min_length=1)]


class Lengths(Schedules):
    reshuffled: Epochs
    replaced: Epochs


class Settings(OneProblem):
    experiment: Lengths

    def check(self) -> None:
        e = self.experiment
        for kind in KINDS:
            lengths = getattr(e, kind)
            if sorted(set(lengths)) != lengths:
                raise refuse(f"experiment.{kind}", "increase", lengths)
        if e.reshuffled[0] != 1:
            raise refuse("experiment.reshuffled", "begin with 1, where reshuffled data are fresh", e.reshuffled)
        if not set(e.replaced) <= set(e.reshuffled):
            raise refuse("experiment.replaced", "be some of `reshuffled`, as the two are compared", e.replaced)
        self.build()


def measure(settings: Settings, tell: Progress) -> Numbers:
    problem, e = settings.build(), settings.experiment
    pairs = [(epochs, kind) for epochs in e.reshuffled for kind in KINDS if epochs in getattr(e, kind)]
    members = []
    for i, (epochs, kind) in enumerate(pairs):
        tell(i / len(pairs), f"{epochs} epochs, {kind}")
        members.append({"kind": kind} | scheduled(problem, KINDS[kind], epochs, e, i))
    # One reshuffled epoch is one pass over fresh samples, whose equations are solved by another method.
    step = members[0]["constant"]
    end = step * problem.sample_ratio
    once = solved(problem, sl.OnlineSGD(step), end, rtol=min(e.rtol, 0.01), seed=e.seed, times=[0.0, end])
    return {"n_features": e.n_features, "pairs": e.pairs, "fresh": last(once)["test_risk"], "members": members}


def judge(numbers: Numbers) -> Verdict:
    members, d = numbers["members"], numbers["n_features"]
    count = 5 * len(members) + 1
    z, t = bound(count), bound(count, degrees=numbers["pairs"] - 1)
    told = [m for m in members if m["gain"]["se"] <= CLEAR * m["theory"]["value"]]
    found = [m for m in told if has_schedule(m)]
    clear = [m for m in found if m["gain"]["value"] > z * m["gain"]["se"]]
    gained = min((m["real_gain"]["value"] / m["real_gain"]["se"] for m in found), default=np.nan)
    most = max((m["gain"]["value"] - LITTLE * m["theory"]["value"]) / m["gain"]["se"] for m in members)
    falls = max((m["knots"][-1] / m["constant"] for m in found), default=np.nan)
    pairs = [(a, b) for a, b in product(found, found) if a["epochs"] == b["epochs"] and (a["kind"], b["kind"]) == tuple(KINDS)]
    gaps = [(b["theory"]["value"] - a["theory"]["value"]) / np.hypot(a["theory"]["se"], b["theory"]["se"]) for a, b in pairs]
    first = members[0]
    once = first["theory"]["value"] + first["gain"]["value"] - numbers["fresh"]["value"]
    error = float(np.hypot(np.hypot(first["theory"]["se"], first["gain"]["se"]), numbers["fresh"]["se"]))
    bias = f"beyond a bias of {ALLOWED_BIAS:g}/d, furthest"
    checks = (
        Check(f"schedules found, with an error of their gain below {CLEAR:.1%} of the risk", len(found), LEAST, least=True),
        Check(f"of these, gains over the best constant step beyond {z:.2f} se in theory", len(clear), LEAST, least=True),
        Check("gain of real runs with a schedule that was found, least", gained, t, "se", least=True),
        Check(f"gain beyond {LITTLE:.0%} of the risk, theory, most", float(most), z, "se"),
        Check(f"gain of real runs from that of theory {bias}", max((gain_gap(m, d) for m in found), default=np.nan), t, "se"),
        Check(f"risk of real runs with the schedule from theory {bias}", max(risk_gap(m, d) for m in members), t, "se"),
        Check("last step over the best constant one, largest", float(falls), 1.0),
        Check("replaced worse than reshuffled at its best schedule, theory, least", float(min(gaps, default=np.nan)), z, "se", least=True),
        Check("one reshuffled epoch at the best constant step from one-pass theory", abs(once) / error, z, "se"),
    )
    spoken = ", ".join(
        f"{100 * m['gain']['value'] / m['theory']['value']:.1f}% (real runs {100 * m['real_gain']['value'] / m['theory']['value']:.1f} ±"
        f" {100 * m['real_gain']['se'] / m['theory']['value']:.1f}%) in {m['epochs']} {m['kind']} epoch{'s' if m['epochs'] > 1 else ''}"
        for m in found
    )
    named = lambda those: ", ".join(f"{m['epochs']} {m['kind']}" for m in those)
    level, missing = [m for m in told if not has_schedule(m)], [m for m in members if m not in told]
    none = f" In {named(level)} epochs none gains more than its error, below {CLEAR:.1%} of the risk." if level else ""
    lost = f" Those for {named(missing)} epochs were not found at this accuracy." if missing else ""
    summary = f"over the best constant step the best schedule gains {spoken}; each ends below that step.{none}{lost}"
    law = (
        f"Level {LEVEL:g} over {count} comparisons (Bonferroni): theory normal ({z:.2f} se), its gains on common random numbers; real runs"
        f" Student t with {numbers['pairs'] - 1} degrees of freedom ({t:.2f} se), their gains on the same data."
    )
    return Verdict(checks, summary, law)


def draw(numbers: Numbers) -> Any:
    lengths = sorted({member["epochs"] for member in numbers["members"]})
    highest = max(max(member["steps"]) for member in numbers["members"])
    with panels(3, width=2.75, height=2.9) as (figure, ((*axes, right),)):
        for axis, kind in zip(axes, KINDS, strict=True):
            for member in numbers["members"]:
                if member["kind"] == kind:
                    how = look(lengths.index(member["epochs"]))
                    part = np.array(member["passed"]) / member["epochs"]
                    label = f"{member['epochs']} epoch{'s' if member['epochs'] > 1 else ''}"
                    axis.plot(part, member["steps"], color=how["color"], dashes=how["dashes"], linewidth=1.4, label=label)
                    axis.plot([0, 1], [member["constant"]] * 2, color=how["color"], linewidth=0.9, alpha=0.55)
            axis.set(
                xlabel="part of the epochs",
                ylabel=rf"step $\eta$, {kind}",
                ylim=(0, 1.05 * highest),
            )
        for i, kind in enumerate(KINDS):
            some = [member for member in numbers["members"] if member["kind"] == kind]
            scale = np.array([100 / member["theory"]["value"] for member in some])
            x = np.array([member["epochs"] for member in some], dtype=float)
            gain, se, real, error = (
                scale * np.array([m[name][key] for m in some]) for name in ("gain", "real_gain") for key in ("value", "se")
            )
            how = look(5 + i)
            right.errorbar(x, gain, BAND * se, color=how["color"], linewidth=1.2, capsize=0)
            points(right, x * (1.04 if i else 0.96), real, error, 5 + i, kind)
        right.axhline(0, color="0.85", linewidth=0.8, zorder=0)
        logarithmic(right, lengths)
        right.set(xlabel="epochs", ylabel="gain over constant step (%)")
        right.legend(frameon=False, fontsize=8.5)
        legend(figure, axes[0], 4)
    return figure


def table(numbers: Numbers) -> list[list[str]]:
    return [["epochs", "samples", *HEAD], *([str(m["epochs"]), m["kind"], *cells(m)] for m in numbers["members"])]


CLAIM = Claim(
    name="best-schedule",
    title="The best schedule, and how little it gains",
    words="For a given number of epochs theory finds the best step as a function of time, with replacement and reshuffled. It is large"
    " until past the middle and small at the end, and gains a few parts in a hundred of the risk at most over the best constant step: a"
    " tuned constant is hard to beat.",
    source="Beyond the paper; for one pass Mignacco and Mori, arXiv 2507.07907, and Bordelon and Mori, arXiv 2602.04774.",
    settings=Settings,
    measure=measure,
    judge=judge,
    draw=draw,
    table=table,
    caption="(a, b) Best steps over the part of the epochs that has passed; thin and level: the best constant ones. (c) What the schedule"
    " gains over the constant step, in parts of the test risk: theory (lines, ±2 standard errors) and pairs of real runs on the same data"
    " (points).",
)
