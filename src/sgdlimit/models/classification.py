"""Labels that are classes."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ..checks import number as _number
from ..checks import positive as _positive
from ..errors import refuse
from ..learning.noise import Gumbel, Logistic, Normal, Scaled
from .registry import Model, integer, model, sized


def _sign(r_star, z):
    return jnp.where(r_star[0] + z > 0, 1.0, -1.0)


@model()
def logistic(temperature: float = 1.0) -> Model:
    """Logistic regression: loss `log(1 + exp(-y r))`, label `+1` with probability `1 / (1 + exp(-r* / temperature))`,
    else `-1`. `temperature = 0` labels by the sign of `r*`."""
    temperature = _number("parameters.temperature", temperature)
    if temperature < 0:
        raise refuse("parameters.temperature", "not be negative", temperature, "1 is the logistic law, 0 labels by the sign")
    return Model(_logistic_loss, _sign, sized("temperature", temperature, Logistic()))


def _logistic_loss(r, y):
    return jnp.logaddexp(0.0, -y * r[0])


def _hinge(r, y):
    return jnp.maximum(0.0, 1.0 - y * r[0])


@model("svm")
def hinge(noise: float = 0.5) -> Model:
    """A linear classifier with the hinge loss `max(0, 1 - y r)`, whose gradient jumps at the margin; label `sign(r* + noise z)`, `z`
    normal. With a ridge it is the support vector machine."""
    return Model(_hinge, _sign, sized("noise", noise, Normal()))


def _probit_loss(r, y):
    return -jax.scipy.special.log_ndtr(y * r[0])


@model()
def probit(noise: float = 1.0) -> Model:
    """Probit regression: loss `-log Phi(y r)`, label `sign(r* + noise z)`, `z` normal, so `+1` has probability
    `Phi(r* / noise)`."""
    return Model(_probit_loss, _sign, sized("noise", noise, Normal()))


@model()
def softmax(classes: int = 3, temperature: float = 1.0) -> Model:
    """Multi-class cross-entropy: loss `-log softmax(r)[class]`, class drawn from `softmax(r* / temperature)`
    (`argmax(r* + temperature z)`, `z` Gumbel), one-hot; `k = k_star = classes`."""
    classes = integer("parameters.classes", classes, 2)
    temperature = _positive("parameters.temperature", temperature, "1 draws the class from the softmax of r*")

    law = Scaled(Gumbel(shape=(classes,)), temperature)
    return Model(_cross_entropy, _largest, law, k=classes, k_star=classes)


def _cross_entropy(r, y):
    return -jnp.sum(y * jax.nn.log_softmax(r))


def _largest(r_star, z):
    return jax.nn.one_hot(jnp.argmax(r_star + z), len(r_star), dtype=r_star.dtype)
