"""Nesterov's look-ahead is heavy-ball momentum in the limit, but where steps stay long it is not."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

import sgdlimit as sl

from . import pairs
from .claims import Claim, Numbers, Progress, Verdict
from .measure import OneProblem, Positive

HEAVY, AHEAD = "heavy ball", "Nesterov"


class Looks(pairs.Growing):
    step: Positive
    memory: Positive
    fraction: Annotated[float, Field(gt=0, le=1)]  # of the data in the batches whose steps stay long


class Settings(OneProblem):
    experiment: Looks

    def check(self) -> None:
        self.experiment.check()
        self.build()


def measure(settings: Settings, tell: Progress) -> Numbers:
    e = settings.experiment
    heavy, ahead = (sl.Momentum(e.memory, nesterov=nesterov) for nesterov in (False, True))
    end, one = e.step * e.samples_per_feature, sl.SGD(e.step, optimizer=heavy)
    long = f"batches of {e.fraction:g} n"
    trainings = {
        HEAVY: pairs.Training(one, end),
        AHEAD: pairs.Training(one, end, real=lambda d: sl.SGD(e.step, optimizer=ahead)),
        f"{HEAVY}, {long}": pairs.Training(sl.MiniBatchGD(e.step, e.fraction, optimizer=heavy), end),
        f"{AHEAD}, {long}": pairs.Training(sl.MiniBatchGD(e.step, e.fraction, optimizer=ahead), end),
    }
    compared = [
        pairs.Pair("batches of one", r"batches of one, $\kappa = 1$", AHEAD, HEAVY, alike=True),
        pairs.Pair(long, rf"$\kappa = {e.fraction:g}\, n$", f"{AHEAD}, {long}", f"{HEAVY}, {long}", alike=False),
    ]
    return pairs.follow(settings.build(), trainings, compared, e, tell)


def judge(numbers: Numbers) -> Verdict:
    return pairs.judged(
        numbers,
        lambda exponents, distances: (
            f"nothing of the difference between Nesterov's momentum and the heavy ball is left at infinite d, and it vanishes at"
            f" {exponents} (1 is claimed). Where steps stay long it stays: {distances}."
        ),
    )


CLAIM = Claim(
    name="nesterov",
    title="Nesterov's momentum is the heavy ball where steps are short",
    words="Nesterov's momentum takes its step from where the velocity leads, one step ahead. With batches small against the data a step is"
    " a part 1/d of the time, so the limit is that of heavy-ball momentum with the same memory, and real runs differ by a part 1/d. With"
    " batches of a fixed fraction of the data steps stay long, and the two are different trainings.",
    source="Beyond the paper: its equations (Fan and Wang, arXiv 2601.21093) behind a filter; steps of a fixed fraction: Gerbelot et al.,"
    " arXiv 2210.06591, with a velocity.",
    settings=Settings,
    measure=measure,
    judge=judge,
    draw=lambda numbers: pairs.draw(numbers, "the heavy ball's"),
    table=pairs.table,
    caption="Distance of real runs with Nesterov's momentum from those of the heavy ball on the same data with the same draws, relative to"
    " the heavy ball's limit. Points: ±2 standard errors. Lines: fit c1/d + c2/d² for batches of one, the difference of the limits for"
    " batches of a fixed fraction.",
)
