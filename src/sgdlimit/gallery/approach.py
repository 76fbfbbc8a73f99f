"""A family of trainings that approaches another one as a parameter goes to zero: what the small step and the many samples share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..learning.dynamics import Dynamics
from ..learning.problem import Problem
from .claims import Check, Numbers, Progress, Verdict
from .figures import band, guide, logarithmic, panels, points
from .measure import CURVES, LABELS, WORDS, Experiment, Repeats, series, simulated, solved
from .statistics import LEVEL, bound, exponent, limit, pooled

CURVATURE = 0.1  # allowance for orders in the parameter beyond the correction, in the exponent
ALLOWED_BIAS = 5.0  # of real runs, relative and over d; `finite-size` measures it


class Real(Experiment):
    """Real runs of one size beside the theory."""

    n_features: int
    repeats: Repeats


@dataclass(frozen=True)
class Family:
    """How a family and what it approaches are spoken of: `of` says where one member is, `zero` where the goal is."""

    goal: str
    parameter: str  # in tables
    symbol: str  # of an axis
    zero: str
    in_units: str  # of which the exponent is one, where that is not plain
    of: Callable[[float], str]
    label: Callable[[float], str]

    def judge(self, numbers: Numbers) -> Verdict:
        far = max(member["parameter"] for member in numbers["members"])
        return judged(
            numbers,
            lambda widest, largest, exponents: (
                f"at {self.zero} no distance from {self.goal} is left in any curve (errors of that statement at most {widest}), while at"
                f" {self.of(far)} the test risks are up to {largest:.0f} se apart; the distance falls with exponent {exponents}"
                f"{self.in_units} (1 is claimed)."
            ),
        )

    def draw(self, numbers: Numbers) -> Any:
        return drawn(numbers, self.symbol, self.goal, self.label)

    def table(self, numbers: Numbers) -> list[list[str]]:
        return table(numbers, self.parameter)


def follow(e: Real, goal: tuple[Problem, Dynamics], members: Sequence[tuple[float, Problem, Dynamics]], tell: Progress) -> Numbers:
    """Theory of the goal and of each member, and real runs of the members; `members` are `(parameter, problem, dynamics)`."""
    times = np.linspace(0.0, e.horizon, 13)
    total, found = len(members) + 1, []
    tell(0.0, "goal")
    target = solved(*goal, e.horizon, rtol=e.rtol, seed=e.seed, times=times)
    for i, (parameter, problem, dynamics) in enumerate(members):
        tell((i + 1) / total, f"member {i + 1} of {len(members)}")
        theory = solved(problem, dynamics, e.horizon, rtol=e.rtol, seed=e.seed + 1 + i, times=times)
        runs = simulated(problem, dynamics, e.horizon, e.n_features, e.repeats, e.seed + 101 + i, times=times[[0, 3, 6, 9, 12]])
        found.append({"parameter": parameter, "theory": series(theory), "runs": series(runs)})
    return {"n_features": e.n_features, "repeats": e.repeats, "goal": series(target), "members": found}


def _gaps(numbers: Numbers, name: str, which: str = "theory") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parameter, and the member's last value minus the goal's, relative to the goal's, with its error."""
    goal, members = numbers["goal"][name], numbers["members"]
    scale = abs(goal["value"][-1])
    x, value, se = (
        np.array(v) for v in zip(*((m["parameter"], m[which][name]["value"][-1], m[which][name]["se"][-1]) for m in members), strict=True)
    )
    return x, (value - goal["value"][-1]) / scale, np.hypot(se, goal["se"][-1]) / scale


def judged(numbers: Numbers, said: Callable[[str, float, str], str]) -> Verdict:
    """Checks that theory reaches the goal, at first order, and that real runs follow; `said(largest error, distance, exponents)`."""
    count = 2 * len(CURVES)
    z, checks, spoken, widest = bound(count), [], [], 0.0
    for name in CURVES:
        x, gap, se = _gaps(numbers, name)
        far = limit(1.0 / x, gap, se, (1.0, 2.0))
        widest = max(widest, far.errors[0])
        checks.append(Check(f"{WORDS[name]}: distance left at parameter zero", abs(far.values[0]) / far.errors[0], z, "se"))
        clear = np.abs(gap) > 3.0 * se
        if clear.sum() >= 3:
            slope = exponent(x, gap, se, correction=True)
            p, error = slope.values[1], slope.errors[1]
            checks.append(Check(f"{WORDS[name]}: distance of the exponent {p:.2f} ± {error:.2f} from 1", abs(p - 1), z * error + CURVATURE))
            spoken.append(f"{p:.2f} ± {error:.2f} ({WORDS[name]})")
    checks.append(Check("curves whose distance is clear at three parameters or more", len(spoken), 1, least=True))
    t = bound(len(CURVES) * len(numbers["members"]), degrees=pooled(numbers["repeats"]))
    for member in numbers["members"]:
        worst = 0.0
        for name in CURVES:
            theory, runs = member["theory"][name], member["runs"][name]
            allowed = ALLOWED_BIAS / numbers["n_features"] * max(np.abs(theory["value"]))
            gap = abs(runs["value"][-1] - theory["value"][-1])
            worst = max(worst, max(gap - allowed, 0.0) / np.hypot(runs["se"][-1], theory["se"][-1]))
        checks.append(
            Check(
                f"parameter {member['parameter']:.3g}: real runs from theory beyond a bias of {ALLOWED_BIAS:g}/d, furthest curve",
                worst,
                t,
                "se",
            )
        )
    _, gap, se = _gaps(numbers, "test_risk")
    largest = float(np.max(np.abs(gap / se)))
    law = (
        f"Theory: normal, level {LEVEL:g} over {count} comparisons (Bonferroni: {z:.2f} se), distances at the last time fitted by"
        f" c0 + c1 x + c2 x^2 and their exponents by c x^p e^(b x), {CURVATURE:g} allowed for still higher orders."
        f" Real runs: Student t, {numbers['repeats'] - 1} degrees of freedom ({t:.2f} se)."
    )
    return Verdict(tuple(checks), said(f"{100 * widest:.1f}%", largest, ", ".join(spoken)), law)


def drawn(numbers: Numbers, symbol: str, goal: str, label: Callable[[float], str]) -> Any:
    """Left the test risk of all members over time, right the distance from the goal over the parameter."""
    members = sorted(numbers["members"], key=lambda m: -m["parameter"])
    shown = [members[0], members[len(members) // 2], members[-1]] if len(members) > 3 else members
    with panels(2, height=2.95) as (figure, ((left, right),)):
        for i, member in enumerate(shown):
            band(left, member["theory"]["time"], member["theory"]["test_risk"], i, label(member["parameter"]))
            runs = member["runs"]
            points(left, runs["time"], runs["test_risk"]["value"], runs["test_risk"]["se"], i)
        band(left, numbers["goal"]["time"], numbers["goal"]["test_risk"], 6, goal)
        left.set(xlabel="time $t$", ylabel="test risk")
        left.legend(frameon=False, fontsize=8.5, handlelength=2.8)
        lowest, seen = [], []
        for i, name in enumerate(CURVES):
            x, gap, se = _gaps(numbers, name)
            clear = np.abs(gap) > 2 * se
            points(right, x[clear], np.abs(gap[clear]), se[clear], i, LABELS[name])
            far = limit(1.0 / x, gap, se, (1.0, 2.0))
            fine = np.geomspace(x.min(), x.max(), 60)
            line = np.abs(far.values @ np.stack([np.ones_like(fine), fine, fine**2]))
            guide(right, fine, line, i)
            seen += np.abs(gap[clear]).tolist()
            lowest.append(np.abs(far.values[1]))
        x = np.array([m["parameter"] for m in members])
        wide = np.array([x.min() / 1.15, x.max() * 1.15])
        height = max(lowest) * 1.9
        guide(right, wide, height * wide)
        right.annotate("slope 1", (wide[0], height * wide[0]), (0, 14), textcoords="offset points", fontsize=8.5, color="0.35")
        right.set(xlabel=symbol, ylabel=f"distance from {goal} / its value")
        logarithmic(right, sorted(x), y=True, bottom=min(seen) / 3)
        right.legend(frameon=False, fontsize=8.5, loc="lower right")
    return figure


def table(numbers: Numbers, parameter: str) -> list[list[str]]:
    x, _, _ = _gaps(numbers, CURVES[0])
    rows = [["curve", *(f"{parameter} = {v:.3g}" for v in x), f"{parameter} → 0"]]
    for name in CURVES:
        _, gap, se = _gaps(numbers, name)
        far = limit(1.0 / x, gap, se, (1.0, 2.0))
        cells = [f"{100 * g:.2f} ± {100 * s:.2f} %" for g, s in zip(gap, se, strict=True)]
        rows.append([WORDS[name], *cells, f"{100 * far.values[0]:.2f} ± {100 * far.errors[0]:.2f} %"])
    return rows
