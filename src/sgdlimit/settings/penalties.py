"""The tables of a penalty, and of numbers that are trained along:

[problem.trained]
start = [0.5, -0.2]                 # what is not given is the model's own; a number stands for all of them
rate = 1.0
penalty = { kind = "ridge", strength = 0.05 }
batch_size = 4                      # for Adam alone
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field

from ..errors import InputError
from ..learning.trained import Trained
from ..learning.weights import Penalty, Ridge, SmoothPenalty
from .sections import Section
from .training import Positive


class RidgeSpec(Section):
    place = ("penalty", "ridge")
    kind: Literal["ridge"]
    strength: float

    def build(self) -> Penalty:
        return Ridge(self.strength)


class SmoothL1Spec(Section):
    """`strength * sum(sqrt(theta^2 + width^2))`: the lasso's penalty, rounded over `width`."""

    place = ("penalty", "smooth_l1")
    kind: Literal["smooth_l1"]
    strength: Annotated[float, Field(ge=0)]
    width: Positive = 0.1

    def build(self) -> Penalty:
        return _smooth_l1(self.strength, self.width)


@lru_cache(maxsize=32)
def _smooth_l1(strength: float, width: float) -> SmoothPenalty:
    """One function for equal penalties: what is compiled for it serves again."""
    import jax.numpy as jnp

    return SmoothPenalty(lambda theta: strength * jnp.sum(jnp.sqrt(theta**2 + width**2)))


class TrainedSpec(Section):
    """What is other than the model has it; a number stands for so many as the model trains."""

    place = ("problem", "trained")
    start: float | list[float] | None = None
    rate: float | list[float] | None = None
    penalty: Annotated[RidgeSpec | SmoothL1Spec, Field(discriminator="kind")] | None = None
    batch_size: Positive | None = None

    def build(self, own: Trained | None) -> Trained:
        start = self.start
        if start is None and own is None:
            raise InputError("`trained.start` must be given for a model that trains no numbers by itself, but is missing (start = [0.0])")
        if isinstance(start, float | int) and own is not None:
            start = [start] * len(own)
        given = {"start": start, "rate": self.rate, "penalty": self.penalty and self.penalty.build(), "batch_size": self.batch_size}
        said = {name: value for name, value in given.items() if value is not None}
        return Trained(**said) if own is None else replace(own, **said)
