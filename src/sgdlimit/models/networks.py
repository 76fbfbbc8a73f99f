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
from .registry import Model, model, sized

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": jnp.tanh,
    "erf": lambda r: jax.scipy.special.erf(r / math.sqrt(2.0)),
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
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
) -> Model:
    """A two-layer network with fixed second layer: loss `(sum_a weights[a] f(r_a) - y)^2 / 2`, label
    `sum_b teacher_weights[b] f*(r*_b) + noise z`, `z` normal; `k = len(weights)`, `k_star = len(teacher_weights)`.

    `activation` is `f`: tanh, erf (`erf(r / sqrt 2)`), sigmoid, softplus, gelu, silu (or swish), and with a kink at zero relu,
    leaky_relu (slope 0.01 below zero) and abs. The teacher has the student's
    weights and activation where it is not given its own.
    """
    out = _weights("weights", weights)
    out_star = out if teacher_weights is None else _weights("teacher_weights", teacher_weights)
    f = _activation("activation", activation)
    f_star = f if teacher_activation is None else _activation("teacher_activation", teacher_activation)
    loss, label = _Committee(tuple(out.tolist()), f), _CommitteeLabel(tuple(out_star.tolist()), f_star)
    return Model(loss, label, sized("noise", noise, Normal()), k=len(out), k_star=len(out_star))


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


def _activation(name: str, value: str) -> Callable[[Any], Any]:
    if isinstance(value, str) and value in ACTIVATIONS:
        return ACTIVATIONS[value]
    raise refuse(f"parameters.{name}", "be a known activation", value, nearest(str(value), ACTIVATIONS))


def _weights(name: str, value: Sequence[float]) -> np.ndarray:
    weights = _array(f"parameters.{name}", value)
    if weights.ndim != 1 or weights.size == 0:
        raise refuse(f"parameters.{name}", "be a list of numbers", value, "one per unit, such as [1.0, -0.5]")
    return weights
