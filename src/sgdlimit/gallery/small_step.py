"""SGD with a small step is gradient flow: the distance falls like the step."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

import sgdlimit as sl

from . import approach
from .claims import Claim, Numbers, Progress
from .measure import OneProblem, Positive


class Steps(approach.Real):
    steps: Annotated[list[Positive], Field(min_length=4)]


class Settings(OneProblem):
    experiment: Steps


def measure(settings: Settings, tell: Progress) -> Numbers:
    problem, e = settings.build(), settings.experiment
    return approach.follow(e, (problem, sl.GradientFlow()), [(step, problem, sl.SGD(step)) for step in e.steps], tell)


FAMILY = approach.Family(
    goal="gradient flow",
    parameter="η",
    symbol=r"step $\eta$",
    zero="step zero",
    in_units="",
    of=lambda step: f"step {step:g}",
    label=lambda step: rf"SGD, $\eta = {step:g}$",
)

CLAIM = Claim(
    name="small-step",
    title="A small step gives gradient flow",
    words="As the step η goes to zero at fixed time, SGD's limit becomes that of gradient flow. The noise of a step enters the curves at"
    " first order, so the distance falls like η.",
    source="Fan and Wang, arXiv 2601.21093; gradient flow: Celentano, Cheng and Montanari, arXiv 2112.07572.",
    settings=Settings,
    measure=measure,
    judge=FAMILY.judge,
    draw=FAMILY.draw,
    table=FAMILY.table,
    caption="Left: test risk, theory (lines) and real runs (points). Right: distance of SGD's limit from that of gradient flow at the last"
    " time, relative to the latter, with fits c0 + c1 η + c2 η². Bars and bands: ±2 standard errors.",
)
