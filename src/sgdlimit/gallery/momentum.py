"""Momentum at a fixed `beta` is plain SGD at `lr / (1 - beta)` in the limit; with a memory that lasts a part of an epoch it is not."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

import sgdlimit as sl

from . import pairs
from .claims import Claim, Numbers, Progress, Verdict
from .measure import OneProblem, Positive

PLAIN, CRITICAL = "plain SGD", "fixed memory"


class Momenta(pairs.Growing):
    step: Positive  # lr n_features / ((1 - beta) batch_size)
    betas: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)]
    memory: Positive  # of the critical scaling


class Settings(OneProblem):
    experiment: Momenta

    def check(self) -> None:
        self.experiment.check()
        self.build()


def measure(settings: Settings, tell: Progress) -> Numbers:
    e = settings.experiment
    end, plain, critical = e.step * e.samples_per_feature, sl.SGD(e.step), sl.SGD(e.step, optimizer=sl.Momentum(e.memory))
    trainings = {PLAIN: pairs.Training(plain, end)}
    compared = []
    for beta in e.betas:
        # A PyTorch script's numbers: its learning rate is that of plain SGD times 1 - beta.
        real = lambda d, beta=beta: sl.SGD.from_learning_rate((1.0 - beta) * e.step / d, 1, d, momentum=beta)
        trainings[f"beta = {beta:g}"] = pairs.Training(plain, end, real=real)
        compared.append(pairs.Pair(f"beta = {beta:g}", rf"momentum $\beta = {beta:g}$", f"beta = {beta:g}", PLAIN, alike=True))
    trainings[CRITICAL] = pairs.Training(critical, end)
    compared.append(pairs.Pair(f"memory {e.memory:g}", rf"momentum, memory $\tau = {e.memory:g}$", CRITICAL, PLAIN, alike=False))
    return {"memory": e.memory, **pairs.follow(settings.build(), trainings, compared, e, tell)}


def judge(numbers: Numbers) -> Verdict:
    return pairs.judged(
        numbers,
        lambda exponents, distances: (
            f"with growing d momentum comes to plain SGD at lr/(1 - beta), and nothing of the difference is left at infinite d: it vanishes"
            f" at {exponents} (1 is claimed). At fixed memory it stays: {distances}."
        ),
    )


CLAIM = Claim(
    name="momentum",
    title="Momentum is a rescaled learning rate only while its memory is short",
    words="At a fixed β the velocity forgets within 1/(1-β) steps, which is no time at all when d is large: heavy-ball momentum then has"
    " the limit of plain SGD at the learning rate lr/(1-β), and differs from it by a part 1/d. At the critical scaling, where 1-β shrinks"
    " like 1/d and the memory stays a fixed part of an epoch, the limit is another one, which the theory with a velocity has.",
    source="Beyond the paper: its equations (Fan and Wang, arXiv 2601.21093) behind a filter; derived for this project.",
    settings=Settings,
    measure=measure,
    judge=judge,
    draw=lambda numbers: pairs.draw(numbers, "plain SGD's", 3),
    table=pairs.table,
    caption="Distance of real runs with momentum from plain SGD's on the same data with the same draws, relative to plain SGD's limit."
    " Points: ±2 standard errors. Lines: fits c1/d + c2/d² at a fixed β, and the difference of the limits at a fixed memory.",
)
