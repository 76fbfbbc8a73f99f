"""At a fixed number of gradient evaluations: reuse `n` samples `E` times, or take `E n` fresh ones."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ..settings.training import Count
from .claims import Check, Claim, Numbers, Progress, Verdict
from .figures import logarithmic, look, panels, points
from .measure import OneProblem
from .tuned import (
    Training,
    Tuning,
    above,
    bounds_of,
    column,
    described,
    drawn,
    followed,
    more,
    number,
    shuffled,
    table,
    tuned,
    with_ratio,
    worse,
)

WORTH = 0.5  # part of the gain of fresh samples that a second pass should have, at least


class Passes(Tuning):
    passes: Annotated[list[Count], Field(min_length=3)]


class Settings(OneProblem):
    experiment: Passes


def measure(settings: Settings, tell: Progress) -> Numbers:
    problem, e = settings.build(), settings.experiment
    pairs = [(passes, epochs) for passes in e.passes for epochs in dict.fromkeys((passes, 1))]
    members = []
    for i, (passes, epochs) in enumerate(pairs):
        ratio = problem.sample_ratio / passes
        name = f"n/d = {ratio:g}, {epochs} pass{'es' if epochs > 1 else ''}"
        tell(i / len(pairs), name)
        fewer = with_ratio(problem, ratio)
        members.append(tuned(Training(name, ratio, fewer, shuffled(fewer), e.bounds, epochs), e, i))
    return described(e, members)


def parts(numbers: Numbers) -> tuple[list[Numbers], list[Numbers]]:
    """The trainings with all the gradients, over fewer and fewer samples, and those with one pass over the same samples."""
    members = numbers["members"]
    first = members[0]
    again = [member for member in members if member["epochs"] > 1]
    return [first, *again], [first, *(member for member in members[1:] if member["epochs"] == 1)]


def worth(numbers: Numbers, i: int) -> tuple[float, float]:
    """What part of the gain of as many fresh samples the further passes have, and its error."""
    full, once = parts(numbers)
    gained, se = above(once[i]["theory"], full[i]["theory"])
    fresh, fresh_se = above(once[i]["theory"], full[0]["theory"])
    return gained / fresh, float(np.hypot(se, gained / fresh * fresh_se) / fresh)


def judge(numbers: Numbers) -> Verdict:
    full, once = parts(numbers)
    z, t, law = bounds_of(numbers, 4 * (len(full) - 1) + 1)
    checks, worst = followed(numbers)
    for fresher, one in pairwise(full):
        checks += worse(f"{one['epochs']} passes worse than {fresher['epochs']} over more samples", one, fresher, z, t)
    for one, again in zip(once[1:], full[1:], strict=True):
        checks += worse(f"one pass worse than {again['epochs']} over the same samples", one, again, z, t)
    part, se = worth(numbers, 1)
    checks.append(Check("part of the gain of fresh samples in a second pass, that much surely", part - z * se, WORTH, least=True))
    rises = [more(one, full[0]) for one in full[1:]]
    parted = [f"{100 * worth(numbers, i + 1)[0]:.0f}%" for i in range(len(full) - 1)]
    counts = ", ".join(f"{one['epochs']}" for one in full[1:])
    summary = (
        f"at equal numbers of gradients, each with its best step, {counts} passes over as many times fewer samples have"
        f" {', '.join(rises)} more risk than one over all. Of what as many fresh samples would gain over a single pass, they gain"
        f" {', '.join(parted)}. Real runs at the tuned steps are within {worst:.1f} se of theory."
    )
    return Verdict(tuple(checks), summary, law)


def draw(numbers: Numbers) -> Any:
    full, once = parts(numbers)
    with panels(2, height=2.9) as (figure, ((left, right),)):
        for i, (members, label) in enumerate(((full, "same number of gradients"), (once, "one pass"))):
            drawn(left, members, i, label)
            how, x, step = look(i), column(members, "x"), number(members, "step")
            right.plot(x, step["value"], color=how["color"], dashes=how["dashes"], linewidth=1.2)
            points(right, x, step["value"], step["se"], i)
        for one in full[1:]:
            left.annotate(
                f"{one['epochs']} passes",
                (one["x"], one["theory"]["value"]),
                (8, 5),
                textcoords="offset points",
                fontsize=8.5,
            )
        for axis in (left, right):
            logarithmic(axis, sorted(column(full, "x")))
            axis.set(xlabel=r"different samples a feature, $n/d$")
        left.set(ylabel="test risk at the best step")
        right.set(ylabel=r"best step $\eta$", ylim=(0, None))
        left.legend(frameon=False, fontsize=8.5)
    return figure


CLAIM = Claim(
    name="reuse",
    title="Data again, or fresh data",
    words="With a fixed number of gradient evaluations, n samples may be used E times, or E n samples once. Fresh samples are better, for"
    " each at its own best step; but a second pass has most of what as many fresh samples would gain, later ones less and less.",
    source="Beyond the paper: tuned by theory, reshuffled epochs.",
    settings=Settings,
    measure=measure,
    judge=judge,
    draw=draw,
    table=table,
    caption="(a) Test risk at the best step over the number of different samples: theory (lines and bands) and real runs at the steps it"
    " found (points, ±2 standard errors). (b) The best steps.",
)
