"""The `[[dynamics]]` tables of a settings file: the kinds of training and of step schedules."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationError

from .. import schedules
from ..errors import InputError, nearest, refuse
from ..learning.dynamics import SGD, SME, Dynamics, GradientFlow, MiniBatchGD, OnlineSGD, Step
from .sections import Section, refusal


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._=+-]*", value):
        raise ValueError(f"must be letters, digits, spaces or . _ = + -, but is {value!r} (it becomes part of a file's name)")
    return value


Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]

# --- schedules -----------------------------------------------------------------------------------------------------------


class ExponentialSpec(Section):
    place = ("step", "exponential")
    kind: Literal["exponential"]
    start: float
    half_life: float
    floor: float = 0.0


class InverseTimeSpec(Section):
    place = ("step", "inverse_time")
    kind: Literal["inverse_time"]
    start: float
    time: float
    power: float = 1.0


class LinearSpec(Section):
    place = ("step", "linear")
    kind: Literal["linear"]
    start: float
    end: float
    duration: float
    warmup: float = 0.0


class CosineSpec(Section):
    place = ("step", "cosine")
    kind: Literal["cosine"]
    start: float
    end: float
    duration: float
    warmup: float = 0.0


SCHEDULES: dict[str, tuple[type[Section], Callable[..., Step]]] = {
    "exponential": (ExponentialSpec, schedules.Exponential),
    "inverse_time": (InverseTimeSpec, schedules.InverseTime),
    "linear": (LinearSpec, schedules.Linear),
    "cosine": (CosineSpec, schedules.Cosine),
}


def _step(value: Any) -> Step:
    if not isinstance(value, dict):
        return value
    kind = value.get("kind")
    if kind not in SCHEDULES:
        raise refuse("step.kind", "be a known schedule", kind, nearest(str(kind), SCHEDULES))
    spec, make = SCHEDULES[kind]
    try:
        return make(**spec.model_validate(value).model_dump(exclude={"kind"}))
    except ValidationError as e:
        raise refusal(e, ("step", kind)) from None


# --- dynamics ------------------------------------------------------------------------------------------------------------


class SteppedSpec(Section):
    """A dynamics with a step: `step` as a number or a schedule, or a practitioner's learning rate."""

    place = ("dynamics",)
    name: Annotated[str, AfterValidator(_name)] | None = None
    step: Any = None
    learning_rate: Positive | None = None
    batch_size: Count | None = None
    n_features: Count | None = None
    feature_variance: Positive | None = None

    def step_value(self) -> Step:
        by_rate = {name: getattr(self, name) for name in ("learning_rate", "batch_size", "n_features")}
        given = [name for name, value in by_rate.items() if value is not None]
        if self.step is not None:
            if given or self.feature_variance is not None:
                raise InputError(f"`step` must be given alone, but `{(given or ['feature_variance'])[0]}` is there too (drop one of them)")
            return _step(self.step)
        if not given:
            raise InputError("`step` must be given, but is missing (or give learning_rate, batch_size and n_features)")
        missing = [name for name in by_rate if name not in given]
        if missing:
            raise InputError(
                f"`{missing[0]}` must be given next to `{given[0]}`, but is missing (step = learning_rate * n_features / batch_size)"
            )
        variance = 1.0 if self.feature_variance is None else self.feature_variance
        return SGD.from_learning_rate(by_rate["learning_rate"], by_rate["batch_size"], by_rate["n_features"], variance).step


class SGDSpec(SteppedSpec):
    place = ("dynamics", "sgd")
    kind: Literal["sgd"]
    sampling: Literal["replacement", "reshuffle"] = "replacement"

    @property
    def title(self) -> str:
        return "SGD" if self.sampling == "replacement" else "SGD reshuffled"

    def build(self) -> Dynamics:
        return SGD(self.step_value(), self.sampling)


class SMESpec(SteppedSpec):
    place = ("dynamics", "sme")
    title: ClassVar[str] = "SME"
    kind: Literal["sme"]

    def build(self) -> Dynamics:
        return SME(self.step_value())


class FlowSpec(Section):
    place = ("dynamics", "gradient_flow")
    title: ClassVar[str] = "gradient flow"
    kind: Literal["gradient_flow"]
    name: Annotated[str, AfterValidator(_name)] | None = None

    def build(self) -> Dynamics:
        return GradientFlow()


class OnlineSpec(SteppedSpec):
    place = ("dynamics", "online_sgd")
    title: ClassVar[str] = "online SGD"
    kind: Literal["online_sgd"]

    def build(self) -> Dynamics:
        return OnlineSGD(self.step_value())


class MiniBatchSpec(Section):
    """Its batch is a fraction of the data, so a learning rate has no batch size to go with: `step` alone."""

    place = ("dynamics", "mini_batch_gd")
    kind: Literal["mini_batch_gd"]
    name: Annotated[str, AfterValidator(_name)] | None = None
    step: Any
    fraction: float

    @property
    def title(self) -> str:
        return "full-batch GD" if self.fraction == 1 else "mini-batch GD"

    def build(self) -> Dynamics:
        return MiniBatchGD(_step(self.step), self.fraction)


DynamicsSpec = Annotated[SGDSpec | SMESpec | FlowSpec | OnlineSpec | MiniBatchSpec, Field(discriminator="kind")]
