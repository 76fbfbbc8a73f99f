"""Named losses and labels, for TOML files and quick starts.

A model is one function: its arguments are its parameters, it returns a `Model`, and `@model` gives it a name.

    from sgdlimit import models
    m = models.tanh_regression(noise=0.3)
    sl.Problem(loss=m.loss, label=m.label, noise=m.noise, sample_ratio=1.5, ...)

Conventions are those of `sgdlimit.problem`: `loss(r, y)` with `r (k,)`, `label(r_star, z)` with `r_star (k_star,)`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from .errors import InputError, nearest, refuse
from .problem import Gumbel, NoiseLaw, NoNoise, Normal, Penalty, StudentT, Uniform, _array, _number, _positive


@dataclass(frozen=True)
class Model:
    """What a model gives to a `Problem`: loss, label and the law of the label's noise.

    `k` and `k_star` are the numbers of student and teacher directions it is made for. A plugin's model may bring its own
    `penalty` (a file's `[problem.penalty]` goes before it).
    """

    loss: Callable[[Any, Any], Any]
    label: Callable[[Any, Any], Any]
    noise: NoiseLaw
    k: int = 1
    k_star: int = 1
    penalty: Penalty = None


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


# --- regression --------------------------------------------------------------------------------------------------------


def _gaussian(name: str, noise: float) -> tuple[float, NoiseLaw]:
    """Size and law of normal label noise; size zero spends no random dimension on it."""
    size = _number(f"parameters.{name}", noise)
    if size < 0:
        raise refuse(f"parameters.{name}", "not be negative", noise, "a standard deviation; 0 is no noise")
    return size, (Normal() if size > 0 else NoNoise())


@model("ridge_regression")
def linear_regression(noise: float = 0.5) -> Model:
    """Least squares on a linear teacher: loss `(r - y)^2 / 2`, label `r* + noise z`, `z` normal.

    With `penalty = Ridge(...)` this is ridge regression; its curves have a closed form.
    """
    size, law = _gaussian("noise", noise)
    return Model(lambda r, y: 0.5 * (r[0] - y) ** 2, lambda r_star, z: r_star[0] + size * z, law)


@model()
def tanh_regression(noise: float = 0.3) -> Model:
    """A saturating unit, non-convex: loss `(tanh r - y)^2 / 2`, label `tanh r* + noise z`, `z` normal."""
    size, law = _gaussian("noise", noise)
    return Model(lambda r, y: 0.5 * (jnp.tanh(r[0]) - y) ** 2, lambda r_star, z: jnp.tanh(r_star[0]) + size * z, law)


@model()
def huber(noise: float = 0.5, df: float = 3.0, width: float = 1.0) -> Model:
    """Robust regression under heavy-tailed noise: smooth (pseudo-)Huber loss `width^2 (sqrt(1 + ((r - y)/width)^2) - 1)`,
    label `r* + noise z`, `z` Student t with `df` degrees of freedom."""
    size, _ = _gaussian("noise", noise)
    width = _positive("parameters.width", width, "where the loss turns from quadratic to linear")
    law = StudentT(_positive("parameters.df", df, "degrees of freedom of the noise; 3 has heavy tails"))

    def loss(r, y):
        u = (r[0] - y) / width
        # u^2 / (1 + sqrt(1 + u^2)) is sqrt(1 + u^2) - 1 without its cancellation near zero.
        return width**2 * u**2 / (1.0 + jnp.sqrt(1.0 + u**2))

    return Model(loss, lambda r_star, z: r_star[0] + size * z, law)


@model()
def committee(weights: Sequence[float] = (1.0, -0.5), teacher_weights: Sequence[float] | None = None, noise: float = 0.2) -> Model:
    """A two-layer network with fixed second layer: loss `(sum_a weights[a] tanh r_a - y)^2 / 2`, label
    `sum_b teacher_weights[b] tanh r*_b + noise z`, `z` normal; `k = len(weights)`, `k_star = len(teacher_weights)`
    (the student's own weights if not given)."""
    out, out_star = (
        _weights(*given) for given in (("weights", weights), ("teacher_weights", weights if teacher_weights is None else teacher_weights))
    )
    size, law = _gaussian("noise", noise)

    def loss(r, y):
        return 0.5 * (jnp.dot(jnp.asarray(out, r.dtype), jnp.tanh(r)) - y) ** 2

    def label(r_star, z):
        return jnp.dot(jnp.asarray(out_star, r_star.dtype), jnp.tanh(r_star)) + size * z

    return Model(loss, label, law, k=len(out), k_star=len(out_star))


def _weights(name: str, value: Sequence[float]) -> np.ndarray:
    weights = _array(f"parameters.{name}", value)
    if weights.ndim != 1 or weights.size == 0:
        raise refuse(f"parameters.{name}", "be a list of numbers", value, "one per unit, such as [1.0, -0.5]")
    return weights


# --- classification ----------------------------------------------------------------------------------------------------


@model()
def logistic(temperature: float = 1.0) -> Model:
    """Logistic regression: loss `log(1 + exp(-y r))`, label `+1` with probability `1 / (1 + exp(-r* / temperature))`,
    else `-1`. `temperature = 0` labels by the sign of `r*`."""
    temperature = _number("parameters.temperature", temperature)
    if temperature < 0:
        raise refuse("parameters.temperature", "not be negative", temperature, "1 is the logistic law, 0 labels by the sign")

    def label(r_star, z):
        logit = jnp.log(z) - jnp.log1p(-z) if temperature > 0 else 0.0
        return jnp.where(r_star[0] > temperature * logit, 1.0, -1.0)

    return Model(_logistic_loss, label, Uniform() if temperature > 0 else NoNoise())


def _logistic_loss(r, y):
    return jnp.logaddexp(0.0, -y * r[0])


@model()
def probit(noise: float = 1.0) -> Model:
    """Probit regression: loss `-log Phi(y r)`, label `sign(r* + noise z)`, `z` normal, so `+1` has probability
    `Phi(r* / noise)`."""
    size, law = _gaussian("noise", noise)
    return Model(lambda r, y: -jax.scipy.special.log_ndtr(y * r[0]), lambda r_star, z: jnp.where(r_star[0] + size * z > 0, 1.0, -1.0), law)


@model()
def softmax(classes: int = 3, temperature: float = 1.0) -> Model:
    """Multi-class cross-entropy: loss `-log softmax(r)[class]`, class drawn from `softmax(r* / temperature)`
    (`argmax(r* + temperature z)`, `z` Gumbel), one-hot; `k = k_star = classes`."""
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 2:
        raise refuse("parameters.classes", "be an integer of at least 2", classes)
    temperature = _positive("parameters.temperature", temperature, "1 draws the class from the softmax of r*")

    def label(r_star, z):
        return jax.nn.one_hot(jnp.argmax(r_star + temperature * z), classes, dtype=r_star.dtype)

    return Model(lambda r, y: -jnp.sum(y * jax.nn.log_softmax(r)), label, Gumbel(shape=(classes,)), k=classes, k_star=classes)
