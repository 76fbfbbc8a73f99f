"""With many samples SGD sees each at most once: it is online SGD, and the distance falls like `d/n`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

import sgdlimit as sl

from . import approach
from .claims import Claim, Numbers, Progress
from .measure import OneProblem, Positive


class Ratios(approach.Real):
    step: Positive
    sample_ratios: Annotated[list[Positive], Field(min_length=4)]


class Settings(OneProblem):
    experiment: Ratios


def measure(settings: Settings, tell: Progress) -> Numbers:
    problem, e = settings.build(), settings.experiment
    members = [(1.0 / ratio, replace(problem, sample_ratio=ratio), sl.SGD(e.step)) for ratio in e.sample_ratios]
    return approach.follow(e, (problem, sl.OnlineSGD(e.step)), members, tell)


FAMILY = approach.Family(
    goal="online SGD",
    parameter="d/n",
    symbol="features per sample $d/n$",
    zero="infinite n/d",
    in_units=" in d/n",
    of=lambda x: f"n/d = {1 / x:.3g}",
    label=lambda x: f"SGD, $n/d = {1 / x:.3g}$",
)

CLAIM = Claim(
    name="many-samples",
    title="Many samples give online SGD",
    words="As n/d grows at fixed time and step, a sample is hardly ever seen twice, and the limit of multi-pass SGD becomes that of"
    " one-pass (online) SGD, train and test risk alike. The number of repeated visits falls like d/n, and so does the distance.",
    source="Fan and Wang, arXiv 2601.21093; online SGD: Saad and Solla, Phys. Rev. E 52, 4225.",
    settings=Settings,
    measure=measure,
    judge=FAMILY.judge,
    draw=FAMILY.draw,
    table=FAMILY.table,
    caption="Left: test risk, theory (lines) and real runs (points). Right: distance of SGD's limit from that of online SGD at the last"
    " time, relative to the latter, with fits c0 + c1 x + c2 x², x = d/n. Bars and bands: ±2 standard errors.",
)
