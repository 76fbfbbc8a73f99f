"""Which learning rate goes with which batch: Adam's with the square root of the size, that of SGD with the size itself."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

import sgdlimit as sl

from ..learning.dynamics import SGD
from . import pairs
from .claims import Claim, Numbers, Progress, Verdict
from .measure import OneProblem, Positive

RULES = {"lr ~ sqrt(batch)": 0.5, "lr ~ batch": 1.0}
OWN = {"Adam": "lr ~ sqrt(batch)", "SGD": "lr ~ batch"}
MATH = {"lr ~ sqrt(batch)": r"\sqrt{\kappa}", "lr ~ batch": r"\kappa"}


class Batched(pairs.Growing):
    batch: Annotated[int, Field(ge=2)]
    adam: Positive  # lr n_features of batches of one
    sgd: Positive
    memory: Positive  # samples per feature that Adam's velocity remembers, whatever the batch
    second_memory: Positive


class Settings(OneProblem):
    experiment: Batched

    def check(self) -> None:
        self.experiment.check()
        self.build()


def trained(e: Batched, name: str, batch: int, rule: str) -> tuple[SGD, float]:
    """The dynamics of this optimiser and its step, where `lr n_features` is that of batches of one times a power of the batch. Memories
    last equally many samples: 1 - beta goes with the batch, as is part of either rule."""
    rate = (e.adam if name == "Adam" else e.sgd) * batch ** RULES[rule]
    if name == "SGD":
        return sl.SGD(rate / batch), rate / batch
    step = rate / batch**0.5
    return sl.SGD(step, optimizer=sl.Adam(e.memory * step, e.second_memory * step)), step


def measure(settings: Settings, tell: Progress) -> Numbers:
    e = settings.experiment
    trainings, compared = {}, []
    for name, own in OWN.items():
        for batch, rule in ((1, own), *((e.batch, rule) for rule in RULES)):
            how, step = trained(e, name, batch, rule)
            key = f"{name}, batch 1" if batch == 1 else f"{name}, batch {batch}, {rule}"
            trainings[key] = pairs.Training(how, step * e.samples_per_feature, batch, adaptive=name == "Adam")
            if batch > 1:
                label = rf"{name}, $\mathrm{{lr}} \propto {MATH[rule]}$"
                compared.append(pairs.Pair(f"{name} with {rule}", label, key, f"{name}, batch 1", alike=rule == own))
    return {"batch": e.batch, **pairs.follow(settings.build(), trainings, compared, e, tell)}


def judge(numbers: Numbers) -> Verdict:
    return pairs.judged(
        numbers,
        lambda exponents, distances: (
            f"batches of {numbers['batch']} train as batches of one do, as d grows, if the learning rate of Adam goes with their square"
            f" root and that of SGD with their size: the difference vanishes for {exponents} (1 is claimed, for Adam beside a logarithm)."
            f" By the other's rule it stays: {distances}."
        ),
    )


CLAIM = Claim(
    name="adam-batch",
    title="Adam's learning rate goes with the square root of the batch, SGD's with the batch",
    words="A batch of κ samples averages the gradient's noise, and Adam divides by the size of that noise: at equal numbers of samples it"
    " is the same training if lr grows like √κ, where SGD needs lr to grow like κ (1-β goes with κ for both, so that memories last equally"
    " many samples). By its own rule a larger batch has the same limit, and the difference at finite size vanishes like κ/d, for"
    " Adam times log(d/κ), since its first steps divide by what few samples say; by the other's rule it is another training.",
    source="Square-root rule: Malladi, Lyu, Panigrahi and Arora, arXiv 2205.10287; its limit is beyond the paper (Fan and Wang, arXiv"
    " 2601.21093), derived for this project.",
    settings=Settings,
    measure=measure,
    judge=judge,
    draw=lambda numbers: pairs.draw(numbers, "batch 1", 4, ("overlap", "self_overlap")),
    table=pairs.table,
    caption="Distance of real runs with larger batches from those with batches of one, on the same data and after equally many samples,"
    " relative to the limit. Points: ±2 standard errors. Lines: for each optimiser's own rule fits, c1/d + c2/d² for SGD and c1 log(d/κ)/d"
    " + c2/d for Adam; for the other's rule the difference of the limits.",
)
