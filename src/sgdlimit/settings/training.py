"""The `[[dynamics]]` tables of a settings file: the kinds of training, of optimisers and of step schedules."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from .. import schedules
from ..errors import InputError, nearest, refuse
from ..learning.adam import Adam
from ..learning.dynamics import SGD, SME, Dynamics, GradientFlow, MiniBatchGD, OnlineSGD, Step
from ..learning.optimisers import Momentum, Optimizer
from .sections import Section, refusal


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._=+-]*", value):
        raise ValueError(f"must be letters, digits, spaces or . _ = + -, but is {value!r} (it becomes part of a file's name)")
    return value


Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
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


class WarmupStableDecaySpec(Section):
    place = ("step", "warmup_stable_decay")
    kind: Literal["warmup_stable_decay"]
    start: float
    end: float
    duration: float
    decay: float
    warmup: float = 0.0


class KnotsSpec(Section):
    place = ("step", "knots")
    kind: Literal["knots"]
    times: list[float]
    steps: list[float]


SCHEDULES: dict[str, tuple[type[Section], Callable[..., Step]]] = {
    "exponential": (ExponentialSpec, schedules.Exponential),
    "inverse_time": (InverseTimeSpec, schedules.InverseTime),
    "linear": (LinearSpec, schedules.Linear),
    "cosine": (CosineSpec, schedules.Cosine),
    "warmup_stable_decay": (WarmupStableDecaySpec, schedules.WarmupStableDecay),
    "knots": (KnotsSpec, schedules.Knots),
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


# --- optimisers ----------------------------------------------------------------------------------------------------------


class MomentumSpec(Section):
    place = ("optimizer", "momentum")
    kind: Literal["momentum"]
    memory: float
    nesterov: bool = False

    def build(self) -> Optimizer:
        return Momentum(self.memory, self.nesterov)


class AdamSpec(Section):
    """`second_memory = inf` is a mean from the start on."""

    place = ("optimizer", "adam")
    kind: Literal["adam"]
    memory: float = 0.0
    second_memory: Annotated[float, Field(allow_inf_nan=True)] = 0.0
    decay: float = 0.0
    eps: float = 0.0

    def build(self) -> Optimizer:
        return Adam(self.memory, self.second_memory, self.decay, self.eps)


OptimizerSpec = Annotated[MomentumSpec | AdamSpec, Field(discriminator="kind")]

# --- dynamics ------------------------------------------------------------------------------------------------------------

NAMES = {SGD: "SGD", SME: "SME", GradientFlow: "gradient flow", OnlineSGD: "online SGD", MiniBatchGD: "mini-batch GD"}


def title_of(dynamics: Dynamics) -> str:
    """What a dynamics is called where a file gives it no name: all that is trained with, without numbers."""
    name = NAMES[type(dynamics)]
    if isinstance(dynamics, SGD) and dynamics.sampling == "reshuffle":
        name += " reshuffled"
    if isinstance(dynamics, MiniBatchGD) and dynamics.fraction == 1:
        name = "full-batch GD"
    optimizer, own = dynamics.optimizer, []
    if isinstance(optimizer, Adam):
        own.append("AdamW" if optimizer.decay else "Adam")
    elif isinstance(optimizer, Momentum):
        own.append("Nesterov momentum" if optimizer.nesterov else "momentum")
    own += ["noise"] if dynamics.temperature else []
    own += ["clipping"] if dynamics.clip is not None else []
    listed = " and ".join(filter(None, [", ".join(own[:-1]), *own[-1:]]))
    return f"{name} with {listed}" if own else name


class TrainedSpec(Section):
    """What every dynamics may have."""

    place = ("dynamics",)
    name: Annotated[str, AfterValidator(_name)] | None = None
    optimizer: OptimizerSpec | None = None
    temperature: float = 0.0
    clip: float | None = None

    def own(self) -> dict[str, Any]:
        optimizer = None if self.optimizer is None else self.optimizer.build()
        return {"optimizer": optimizer, "temperature": self.temperature, "clip": self.clip}


RATE = ("learning_rate", "batch_size", "n_features")
OF_SGD, OF_ADAM = ("momentum", "nesterov", "dampening"), ("betas", "eps", "weight_decay")  # a script's own numbers, as PyTorch calls them


class SteppedSpec(TrainedSpec):
    """A dynamics with a step: `step` as a number or a schedule and an `optimizer`, or a script's learning rate with the momentum of
    `torch.optim.SGD`, or with the betas of `torch.optim.Adam` and `AdamW`."""

    step: Any = None
    learning_rate: Positive | None = None
    batch_size: Count | None = None
    n_features: Count | None = None
    feature_variance: Positive | None = None
    momentum: float | None = None
    nesterov: bool | None = None
    dampening: float | None = None
    betas: list[float] | None = None
    eps: NotNegative | None = None
    weight_decay: NotNegative | None = None

    def stepped(self) -> dict[str, Any]:
        """Step, optimiser, temperature and clip of the dynamics."""
        given = [name for name in (*RATE, "feature_variance", *OF_SGD, *OF_ADAM) if getattr(self, name) is not None]
        if self.step is not None:
            if given:
                fix = "drop one of them" if given[0] in RATE else "beside a step it is the optimizer's"
                raise InputError(f"`step` must be given alone, but `{given[0]}` is there too ({fix})")
            return {"step": _step(self.step), **self.own()}
        if not given:
            raise InputError("`step` must be given, but is missing (or give learning_rate, batch_size and n_features)")
        missing = [name for name in RATE if name not in given]
        if missing:
            raise InputError(
                f"`{missing[0]}` must be given next to `{given[0]}`, but is missing (step = learning_rate * n_features / batch_size)"
            )
        if self.optimizer is not None:
            raise InputError(
                "`optimizer` must go with a `step`, but `learning_rate` is there (beside it momentum or betas say the optimizer)"
            )
        read = self._read([name for name in given if name in OF_SGD], [name for name in given if name in OF_ADAM])
        return {**self.own(), "step": read.step, "optimizer": read.optimizer}

    def _read(self, of_sgd: list[str], of_adam: list[str]) -> SGD:
        """The dynamics of a script's optimiser."""
        rate = [getattr(self, name) for name in RATE] + [1.0 if self.feature_variance is None else self.feature_variance]
        if of_sgd and of_adam:
            fix = "momentum is SGD's, betas are Adam's"
            raise InputError(f"`{of_adam[0]}` must be of one optimizer with `{of_sgd[0]}`, but is of another ({fix})")
        said = {name: getattr(self, name) for name in (*of_sgd, *of_adam)}
        if not of_adam:
            return SGD.from_learning_rate(*rate, **said)
        if self.betas is None:
            fix = "AdamW's; SGD's weight decay is the problem's penalty, a ridge of strength weight_decay / feature_variance"
            raise InputError(f"`betas` must be given next to `{of_adam[0]}`, but is missing ({fix})")
        return Adam.from_learning_rate(*rate, **said)


class SGDSpec(SteppedSpec):
    place = ("dynamics", "sgd")
    kind: Literal["sgd"]
    sampling: Literal["replacement", "reshuffle"] = "replacement"

    def build(self) -> Dynamics:
        return SGD(sampling=self.sampling, **self.stepped())


class SMESpec(SteppedSpec):
    place = ("dynamics", "sme")
    kind: Literal["sme"]

    def build(self) -> Dynamics:
        return SME(**self.stepped())


class FlowSpec(TrainedSpec):
    place = ("dynamics", "gradient_flow")
    kind: Literal["gradient_flow"]

    def build(self) -> Dynamics:
        return GradientFlow(**self.own())


class OnlineSpec(SteppedSpec):
    place = ("dynamics", "online_sgd")
    kind: Literal["online_sgd"]

    def build(self) -> Dynamics:
        return OnlineSGD(**self.stepped())


class MiniBatchSpec(TrainedSpec):
    """Its batch is a fraction of the data, so a learning rate has no batch size to go with: `step` alone."""

    place = ("dynamics", "mini_batch_gd")
    kind: Literal["mini_batch_gd"]
    step: Any
    fraction: float

    def build(self) -> Dynamics:
        return MiniBatchGD(_step(self.step), self.fraction, **self.own())


DynamicsSpec = Annotated[SGDSpec | SMESpec | FlowSpec | OnlineSpec | MiniBatchSpec, Field(discriminator="kind")]
