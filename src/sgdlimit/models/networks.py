"""Networks of several units."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import array as _array
from ..errors import nearest, refuse
from ..learning.noise import Normal
from ..learning.trained import Trained
from .registry import Model, With, flag, model, sized
from .scalars import erf, softplus

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": jnp.tanh,
    "erf": lambda r: erf(r / math.sqrt(2.0)),
    "sigmoid": jax.nn.sigmoid,
    "softplus": softplus,
    "gelu": lambda r: jax.nn.gelu(r, approximate=False),
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "abs": jnp.abs,
}


@model()
def committee(
    weights: Sequence[float] = (1.0, -0.5),
    teacher_weights: Sequence[float] | None = None,
    noise: float = 0.2,
    activation: str = "tanh",
    teacher_activation: str | None = None,
    trained_head: bool = False,
) -> Model:
    """A two-layer network: loss `(sum_a weights[a] f(r_a) - y)^2 / 2`, label
    `sum_b teacher_weights[b] f*(r*_b) + noise z`, `z` normal; `k = len(weights)`, `k_star = len(teacher_weights)`. The second layer is
    fixed, or with a `trained_head` starts from `weights`.

    `activation` is `f`: tanh, erf (`erf(r / sqrt 2)`), sigmoid, softplus, gelu, silu (or swish), and with a kink at zero relu,
    leaky_relu (slope 0.01 below zero) and abs. The teacher has the student's
    weights and activation where it is not given its own.
    """
    out = _weights("weights", weights)
    out_star = out if teacher_weights is None else _weights("teacher_weights", teacher_weights)
    f = _activation("activation", activation)
    f_star = f if teacher_activation is None else _activation("teacher_activation", teacher_activation)
    label, law, sizes = _CommitteeLabel(tuple(out_star.tolist()), f_star), sized("noise", noise, Normal()), (len(out), len(out_star))
    if flag("trained_head", trained_head):
        return Model(_Head(f), label, law, *sizes, trained=Trained(out))
    return Model(_Committee(tuple(out.tolist()), f), label, law, *sizes)


@model()
def two_layer(
    weights: Sequence[float] = (1.0, -0.5),
    biases: Sequence[float] | None = None,
    teacher_weights: Sequence[float] | None = None,
    teacher_biases: Sequence[float] | None = None,
    noise: float = 0.2,
    activation: str = "relu",
    teacher_activation: str | None = None,
) -> Model:
    """A two-layer network with biases inside its units, all of it trained: loss `(sum_a v_a f(r_a + b_a) - y)^2 / 2`, label
    `sum_b v*_b f*(r*_b + b*_b) + noise z`, `z` normal. The second layer `v` starts from `weights` and `b` from `biases`, zero where none
    are given; of the numbers that are trained along the first `k` are `v`, the others `b`. `v*` and `b*` are `teacher_weights` and
    `teacher_biases`. Activations, and the teacher's weights where none are given, are as of `committee`.
    """
    out = _weights("weights", weights)
    out_star = out if teacher_weights is None else _weights("teacher_weights", teacher_weights)
    bias, bias_star = _biases("biases", biases, out), _biases("teacher_biases", teacher_biases, out_star)
    f = _activation("activation", activation)
    f_star = f if teacher_activation is None else _activation("teacher_activation", teacher_activation)
    label = With(_TwoLayerLabel(f_star), tuple(map(float, [*out_star, *bias_star])))
    start = Trained(np.concatenate([out, bias]))
    return Model(_TwoLayer(f), label, sized("noise", noise, Normal()), len(out), len(out_star), trained=start)


@dataclass(frozen=True)
class _Committee:
    weights: tuple[float, ...]
    activation: Callable[[Any], Any]

    def output(self, r: Any) -> Any:
        return jnp.dot(jnp.asarray(self.weights, r.dtype), self.activation(r))

    def __call__(self, r: Any, y: Any) -> Any:
        return 0.5 * (self.output(r) - y) ** 2


class _CommitteeLabel(_Committee):
    def __call__(self, r: Any, y: Any) -> Any:
        return self.output(r) + y


@dataclass(frozen=True)
class _Head:
    """A committee's loss, whose second layer is trained along."""

    activation: Callable[[Any], Any]

    def __call__(self, r: Any, y: Any, a: Any) -> Any:
        return 0.5 * (jnp.dot(a, self.activation(r)) - y) ** 2


@dataclass(frozen=True)
class _TwoLayer:
    activation: Callable[[Any], Any]

    def __call__(self, r: Any, y: Any, a: Any) -> Any:
        return 0.5 * (_network(self.activation, r, a) - y) ** 2


@dataclass(frozen=True)
class _TwoLayerLabel:
    activation: Callable[[Any], Any]

    def __call__(self, r_star: Any, z: Any, *numbers: Any) -> Any:
        return _network(self.activation, r_star, jnp.asarray(numbers, r_star.dtype)) + z


def _network(f, r, numbers):
    """Of a second layer `numbers[:k]` on units with biases `numbers[k:]`."""
    return jnp.dot(numbers[: len(r)], f(r + numbers[len(r) :]))


def _biases(name: str, value: Sequence[float] | None, weights: np.ndarray) -> np.ndarray:
    if value is None:
        return np.zeros(len(weights))
    biases = _weights(name, value)
    if len(biases) != len(weights):
        raise refuse(f"parameters.{name}", f"be one for each of {len(weights)} units", value)
    return biases


def _activation(name: str, value: str) -> Callable[[Any], Any]:
    if isinstance(value, str) and value in ACTIVATIONS:
        return ACTIVATIONS[value]
    raise refuse(f"parameters.{name}", "be a known activation", value, nearest(str(value), ACTIVATIONS))


def _weights(name: str, value: Sequence[float]) -> np.ndarray:
    weights = _array(f"parameters.{name}", value)
    if weights.ndim != 1 or weights.size == 0:
        raise refuse(f"parameters.{name}", "be a list of numbers", value, "one per unit, such as [1.0, -0.5]")
    return weights
