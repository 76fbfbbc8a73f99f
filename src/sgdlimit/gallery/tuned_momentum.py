"""What momentum adds to a tuned step."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

import sgdlimit as sl

from ..errors import refuse
from ..learning.problem import Problem
from ..settings.training import Count
from .claims import Check, Claim, Numbers, Progress, Verdict
from .figures import band, panels, points
from .measure import OneProblem
from .tuned import Training, Tuning, above, bounds_of, column, described, followed, number, risk, shuffled, table, tuned, worse

GAIN = 0.01  # part of the risk that a momentum may gain, at most


class Memories(Tuning):
    epochs: Count
    memories: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=3)]


class Settings(OneProblem):
    experiment: Memories

    def check(self) -> None:
        memories = self.experiment.memories
        if sorted(set(memories)) != memories or memories[0] != 0:
            raise refuse("experiment.memories", "increase from 0, which is no momentum", memories)
        self.build()


def with_memory(problem: Problem, memory: float) -> Any:
    """Reshuffled SGD with a step, and momentum."""
    if not memory:
        return shuffled(problem)
    return lambda step: (problem, sl.SGD(step, "reshuffle", optimizer=sl.Momentum(memory)))


def measure(settings: Settings, tell: Progress) -> Numbers:
    problem, e = settings.build(), settings.experiment
    members = []
    for i, memory in enumerate(e.memories):
        name = f"memory {memory:g}" if memory else "no momentum"
        tell(i / len(e.memories), name)
        members.append(tuned(Training(name, memory, problem, with_memory(problem, memory), e.bounds, e.epochs), e, i))
    return described(e, members)


def judge(numbers: Numbers) -> Verdict:
    plain, *others = numbers["members"]
    z, t, law = bounds_of(numbers, 2 * len(others) + 2)
    checks, worst = followed(numbers)
    spoken = []
    for one in others:
        for kind, most in (("theory", z), ("real runs", t)):
            gap, se = above(plain["theory"], one["theory"]) if kind == "theory" else above(plain["runs"]["best"], one["runs"]["best"])
            gain = max(gap - GAIN * plain["theory"]["value"], 0.0) / se
            checks.append(Check(f"{one['name']}: gain over none beyond {GAIN:.0%} of the risk, {kind}", gain, most, "se"))
        gap, se = above(one["theory"], plain["theory"])
        scale = 100 / plain["theory"]["value"]
        spoken.append(f"{scale * gap:+.1f} ± {scale * se:.1f}% with memory {one['x']:g}")
    checks += worse(f"{others[-1]['name']} worse than none", others[-1], plain, z, t)
    summary = (
        f"after {plain['epochs']} epochs, each with its best step, the test risk is {plain['theory']['value']:.4f} without momentum, and"
        f" {', '.join(spoken)} off that. Real runs at the tuned steps are within {worst:.1f} se of theory."
    )
    return Verdict(tuple(checks), summary, law)


def draw(numbers: Numbers) -> Any:
    members = numbers["members"]
    x = column(members, "x")
    with panels(2, height=2.75) as (figure, ((left, right),)):
        for i, (kind, label) in enumerate((("best", "at the best step"), ("below", "at half of it"), ("above", "at twice of it"))):
            real = risk(members, "runs", kind)
            points(left, x, real["value"], real["se"], i, label)
        band(left, x, risk(members, "theory"), 0)
        low, high = left.get_ylim()
        left.set(xlabel=r"memory of the momentum $\tau$ (time $t$)", ylabel="test risk", ylim=(low, high + 0.35 * (high - low)))
        left.legend(frameon=False, fontsize=8.5, loc="upper left", ncols=2)
        step = number(members, "step")
        band(right, x, step, 0)
        points(right, x, step["value"], step["se"], 0)
        right.set(xlabel=r"memory of the momentum $\tau$ (time $t$)", ylabel=r"best step $\eta$", ylim=(0, None))
    return figure


CLAIM = Claim(
    name="tuned-momentum",
    title="To a tuned step momentum adds nothing",
    words="Momentum is compared at equal numbers of epochs, and with the step tuned for each memory. What it gains at a given step is what"
    " a better step gains too: at the best step no memory lowers the test risk, and one of half an epoch or more raises it.",
    source="Beyond the paper: OPTIMISERS section 2 of this project, tuned by theory, reshuffled epochs.",
    settings=Settings,
    measure=measure,
    judge=judge,
    draw=draw,
    table=table,
    caption="(a) Test risk over the memory: theory at the best step of each (line and band), real runs at that step and at half and twice"
    " of it (points, ±2 standard errors). (b) The best steps.",
)
