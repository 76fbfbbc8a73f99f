"""What a model is, its name, and how one of a file or a plugin is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ..checks import number as _number
from ..errors import InputError, nearest, refuse
from ..learning.noise import NoiseLaw, NoNoise, Scaled
from ..learning.trained import Trained
from ..learning.weights import Penalty


@dataclass(frozen=True)
class Model:
    """What a model gives to a `Problem`: loss, label and the law of the label's noise.

    `k` and `k_star` are the numbers of student and teacher directions it is made for. A plugin's model may bring its own
    `penalty` (a file's `[problem.penalty]` goes before it). Where it has `trained`, its loss takes these numbers as a third argument; what
    a file's `[problem.trained]` says goes before that.
    """

    loss: Callable[..., Any]
    label: Callable[[Any, Any], Any]
    noise: NoiseLaw
    k: int = 1
    k_star: int = 1
    penalty: Penalty = None
    trained: Trained | None = None


@dataclass(frozen=True)
class With:
    """A loss with numbers of its own: `loss(r, y)` is `fn(r, y, *numbers)`, or a label in the same way. Equal ones compare so."""

    fn: Callable[..., Any]
    numbers: tuple[float, ...]

    def __call__(self, r: Any, y: Any) -> Any:
        return self.fn(r, y, *self.numbers)


MODELS: dict[str, Callable[..., Model]] = {}
F = TypeVar("F", bound=Callable[..., Any])


def model(*names: str) -> Callable[[F], F]:
    """Register a function under its own name and under `names`, for `[problem] model = "NAME"` in a TOML file."""

    def register(build: F) -> F:
        for name in (build.__name__, *names):
            MODELS[name] = build
        return build

    return register


def build(name: str, parameters: Mapping[str, Any] | None = None) -> Model:
    """The model of this name, with these parameters.

    Raises:
        InputError: an unknown name or parameter (with the nearest known one), or a parameter out of its range.
    """
    if name not in MODELS:
        raise refuse("model", "be a known model", name, nearest(name, MODELS))
    return call_model(MODELS[name], name, parameters or {})


def call_model(make: Callable[..., Any], name: str, parameters: Mapping[str, Any]) -> Model:
    """Call a model's function with parameters from a file: unknown and missing ones get words."""
    signature = inspect.signature(make).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.values())
    for key in parameters:
        if key not in signature and not takes_any:
            hint = nearest(key, signature) if signature else f"`{name}` takes none"
            raise refuse("parameters", f"name parameters of the model `{name}`", key, hint)
    for key, parameter in signature.items():
        if parameter.default is inspect.Parameter.empty and parameter.kind is not inspect.Parameter.VAR_KEYWORD and key not in parameters:
            raise InputError(f"`parameters.{key}` must be given for the model `{name}`, but is missing")
    return as_model(make(**parameters), name)


def as_model(made: Any, name: str) -> Model:
    """What a plugin may return for a `Model`: one of these, a mapping with its fields, or `(loss, label, noise)`."""
    if isinstance(made, Model):
        return made
    if isinstance(made, Mapping) and {"loss", "label", "noise"} <= set(made) <= set(Model.__dataclass_fields__):
        return Model(**made)
    if isinstance(made, tuple) and len(made) == 3:
        return Model(*made)
    raise refuse("model", "return loss, label and noise, as a dict with these keys or a tuple of the three", made, f"the model is `{name}`")


def sized(name: str, size: float, law: NoiseLaw) -> NoiseLaw:
    """Noise of a law so many times; of size zero it spends no random dimension."""
    size = _number(f"parameters.{name}", size)
    if size < 0:
        raise refuse(f"parameters.{name}", "not be negative", size, "a standard deviation; 0 is no noise")
    return Scaled(law, size) if size > 0 else NoNoise(law.shape)


def flag(name: str, value: bool) -> bool:
    """True or false among the parameters."""
    if not isinstance(value, bool):
        raise refuse(f"parameters.{name}", "be true or false", value)
    return value


def integer(name: str, value: Any, least: int, fix: str = "") -> int:
    """A whole number among the parameters."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise refuse(name, f"be an integer of at least {least}", value, fix)
    return value
