"""Labels that are classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import array as _array
from ..checks import number as _number
from ..checks import positive as _positive
from ..errors import Words, refuse
from ..learning.noise import Gumbel, Logistic, Normal, Scaled
from ..learning.trained import Trained
from .registry import Model, With, flag, integer, model, sized
from .scalars import log_normal_cdf, softplus


def _sign(r_star, z):
    return jnp.where(r_star[0] + z > 0, 1.0, -1.0)


@dataclass(frozen=True)
class _WithIntercept:
    """A loss of `r + a`, where `a (k,)` is trained along."""

    loss: Callable[[Any, Any], Any]

    def __call__(self, r: Any, y: Any, a: Any) -> Any:
        return self.loss(r + a, y)


@dataclass(frozen=True)
class _Shifted:
    """A label of `r* +` the teacher's intercepts."""

    label: Callable[[Any, Any], Any]

    def __call__(self, r_star: Any, z: Any, *intercepts: Any) -> Any:
        return self.label(r_star + jnp.asarray(intercepts, r_star.dtype), z)


def _with_intercepts(plain: Model, intercept: bool, teacher_intercept: float | Sequence[float]) -> Model:
    """The same model whose student has an intercept for each direction, trained from zero, and whose teacher has a fixed one."""
    fixed = np.atleast_1d(_array("parameters.teacher_intercept", teacher_intercept))
    if fixed.shape not in ((1,), (plain.k_star,)):
        must = "be a number" + (f" or {plain.k_star} of them" if plain.k_star > 1 else "")
        raise refuse("parameters.teacher_intercept", must, Words(f"of shape {fixed.shape}"))
    label = With(_Shifted(plain.label), tuple(map(float, np.broadcast_to(fixed, plain.k_star)))) if fixed.any() else plain.label
    if not flag("intercept", intercept):
        return replace(plain, label=label)
    return replace(plain, label=label, loss=_WithIntercept(plain.loss), trained=Trained(np.zeros(plain.k)))


@model()
def logistic(temperature: float = 1.0, intercept: bool = False, teacher_intercept: float = 0.0) -> Model:
    """Logistic regression: loss `log(1 + exp(-y (r + a)))`, label `+1` with probability `1 / (1 + exp(-(r* + b*) / temperature))`, else
    `-1`. `temperature = 0` labels by the sign of `r* + b*`. The intercept `a` is trained from 0 where there is an `intercept`, else 0;
    `b*` is the `teacher_intercept`, which makes one class rarer than the other."""
    return _with_intercepts(Model(_logistic_loss, _sign, _logistic_noise(temperature)), intercept, teacher_intercept)


@model()
def calibrated(temperature: float = 1.0, start: float = 1.0) -> Model:
    """Logistic regression that trains its own temperature: loss `log(1 + exp(-y r exp(-a)))`, where `exp(a)` is the temperature, `start` at
    first; label as of `logistic`. Only a penalty on the weights tells the two apart."""
    start = _positive("parameters.start", start, "the student's temperature; 1 leaves logits as they are")
    return Model(_calibrated_loss, _sign, _logistic_noise(temperature), trained=Trained([np.log(start)]))


def _logistic_noise(temperature):
    temperature = _number("parameters.temperature", temperature)
    if temperature < 0:
        raise refuse("parameters.temperature", "not be negative", temperature, "1 is the logistic law, 0 labels by the sign")
    return sized("temperature", temperature, Logistic())


def _calibrated_loss(r, y, a):
    return softplus(-y * r[0] * jnp.exp(-a[0]))


def _logistic_loss(r, y):
    return softplus(-y * r[0])


def _hinge(r, y):
    return jnp.maximum(0.0, 1.0 - y * r[0])


@model("svm")
def hinge(noise: float = 0.5, intercept: bool = False, teacher_intercept: float = 0.0) -> Model:
    """A linear classifier with the hinge loss `max(0, 1 - y (r + a))`, whose gradient jumps at the margin; label
    `sign(r* + b* + noise z)`, `z` normal. With a ridge it is the support vector machine. Intercepts are those of `logistic`."""
    return _with_intercepts(Model(_hinge, _sign, sized("noise", noise, Normal())), intercept, teacher_intercept)


def _probit_loss(r, y):
    return -log_normal_cdf(y * r[0])


@model()
def probit(noise: float = 1.0, intercept: bool = False, teacher_intercept: float = 0.0) -> Model:
    """Probit regression: loss `-log Phi(y (r + a))`, label `sign(r* + b* + noise z)`, `z` normal, so `+1` has probability
    `Phi((r* + b*) / noise)`. Intercepts are those of `logistic`."""
    return _with_intercepts(Model(_probit_loss, _sign, sized("noise", noise, Normal())), intercept, teacher_intercept)


@model()
def softmax(classes: int = 3, temperature: float = 1.0, intercept: bool = False, teacher_intercept: float | Sequence[float] = 0.0) -> Model:
    """Multi-class cross-entropy: loss `-log softmax(r + a)[class]`, class drawn from `softmax((r* + b*) / temperature)`
    (`argmax(r* + b* + temperature z)`, `z` Gumbel), one-hot; `k = k_star = classes`. Intercepts are those of `logistic`, one per class."""
    classes = integer("parameters.classes", classes, 2)
    temperature = _positive("parameters.temperature", temperature, "1 draws the class from the softmax of r*")

    law = Scaled(Gumbel(shape=(classes,)), temperature)
    return _with_intercepts(Model(_cross_entropy, _largest, law, k=classes, k_star=classes), intercept, teacher_intercept)


def _cross_entropy(r, y):
    return -jnp.sum(y * jax.nn.log_softmax(r))


def _largest(r_star, z):
    return jax.nn.one_hot(jnp.argmax(r_star + z), len(r_star), dtype=r_star.dtype)
