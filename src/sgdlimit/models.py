"""Named losses and labels, for TOML files and quick starts.

A model is one function: its arguments are its parameters, it returns a `Model`, and `@model` gives it a name.

    from sgdlimit import models
    m = models.tanh_regression(noise=0.3)
    sl.Problem(loss=m.loss, label=m.label, noise=m.noise, sample_ratio=1.5, ...)

Conventions are those of `sgdlimit.learning.problem`: `loss(r, y)` with `r (k,)`, `label(r_star, z)` with `r_star (k_star,)`.

Programs are compiled for a loss and a label, known by identity or, if they compare, by value. So a model hands out the same functions
for other numbers wherever it can: the size of the noise is in its law, and numbers of a loss are `With` it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from .checks import array as _array
from .checks import number as _number
from .checks import positive as _positive
from .errors import InputError, nearest, refuse
from .learning.problem import Gumbel, Logistic, NoiseLaw, NoNoise, Normal, Penalty, Scaled, StudentT, Uniform


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


@dataclass(frozen=True)
class With:
    """A loss with numbers of its own: `loss(r, y)` is `fn(r, y, *numbers)`. Equal ones compare so."""

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


# --- regression --------------------------------------------------------------------------------------------------------


def _sized(name: str, size: float, law: NoiseLaw) -> NoiseLaw:
    """Noise of a law so many times; of size zero it spends no random dimension."""
    size = _number(f"parameters.{name}", size)
    if size < 0:
        raise refuse(f"parameters.{name}", "not be negative", size, "a standard deviation; 0 is no noise")
    return Scaled(law, size) if size > 0 else NoNoise(law.shape)


def _half_square(r, y):
    return 0.5 * (r[0] - y) ** 2


def _plus(r_star, z):
    return r_star[0] + z


@model("ridge_regression")
def linear_regression(noise: float = 0.5) -> Model:
    """Least squares on a linear teacher: loss `(r - y)^2 / 2`, label `r* + noise z`, `z` normal.

    With `penalty = Ridge(...)` this is ridge regression; its curves have a closed form.
    """
    return Model(_half_square, _plus, _sized("noise", noise, Normal()))


def _tanh_loss(r, y):
    return 0.5 * (jnp.tanh(r[0]) - y) ** 2


def _tanh_label(r_star, z):
    return jnp.tanh(r_star[0]) + z


@model()
def tanh_regression(noise: float = 0.3) -> Model:
    """A saturating unit, non-convex: loss `(tanh r - y)^2 / 2`, label `tanh r* + noise z`, `z` normal."""
    return Model(_tanh_loss, _tanh_label, _sized("noise", noise, Normal()))


def _noise(noise: float, df: float | None) -> NoiseLaw:
    """Label noise: Student t with `df` degrees of freedom, normal where none are given."""
    if df is None:
        return _sized("noise", noise, Normal())
    return _sized("noise", noise, StudentT(_positive("parameters.df", df, "degrees of freedom of the noise; 3 has heavy tails")))


def _pseudo_huber(r, y, width):
    u = (r[0] - y) / width
    # u^2 / (1 + sqrt(1 + u^2)) is sqrt(1 + u^2) - 1 without its cancellation near zero.
    return width**2 * u**2 / (1.0 + jnp.sqrt(1.0 + u**2))


@model("pseudo_huber")
def huber(noise: float = 0.5, df: float | None = 3.0, width: float = 1.0) -> Model:
    """Robust regression under heavy-tailed noise: smooth (pseudo-)Huber loss `width^2 (sqrt(1 + ((r - y)/width)^2) - 1)`,
    label `r* + noise z`, `z` Student t with `df` degrees of freedom (normal for None)."""
    width = _positive("parameters.width", width, "where the loss turns from quadratic to linear")
    return Model(With(_pseudo_huber, (width,)), _plus, _noise(noise, df))


pseudo_huber = huber


def _smooth_pinball(r, y, level, width):
    u = y - r[0]
    return level * u + width * jnp.logaddexp(0.0, -u / width)


def _pinball(r, y, level):
    u = y - r[0]
    return level * u + jnp.maximum(-u, 0.0)


@model("quantile_regression")
def quantile(level: float = 0.5, noise: float = 0.5, df: float | None = None, width: float = 0.1) -> Model:
    """Regression to a quantile of the label: smoothed pinball loss `level u + width log(1 + exp(-u / width))` with `u = y - r`,
    which is `level u` for `u >> width` and `-(1 - level) u` for `u << -width`, and exactly these for `width = 0`; label
    `r* + noise z`, `z` normal, or Student t with `df` degrees of freedom."""
    level = _number("parameters.level", level)
    if not 0 < level < 1:
        raise refuse("parameters.level", "lie in (0, 1)", level, "0.5 is the median, 0.9 the quantile that one label in ten exceeds")
    law = _noise(noise, df)
    width = _width(width, "over which the kink at r = y is rounded; 0 leaves it")
    return Model(With(_smooth_pinball, (level, width)) if width > 0 else With(_pinball, (level,)), _plus, law)


def _width(value: float, fix: str) -> float:
    width = _number("parameters.width", value)
    if width < 0:
        raise refuse("parameters.width", "not be negative", value, fix)
    return width


def _absolute(r, y):
    return jnp.abs(r[0] - y)


@model("median_regression")
def absolute(noise: float = 0.5, df: float | None = None) -> Model:
    """Regression to the median: loss `|r - y|`, whose gradient jumps at the label; label `r* + noise z`, `z` normal, or Student t with
    `df` degrees of freedom."""
    return Model(_absolute, _plus, _noise(noise, df))


def _intensity_loss(r, y):
    return 0.25 * (r[0] ** 2 - y) ** 2


def _intensity(r_star, z):
    return r_star[0] ** 2 + z


@model()
def phase_retrieval(noise: float = 0.1) -> Model:
    """The teacher up to its sign, from intensities: loss `(r^2 - y)^2 / 4`, label `r*^2 + noise z`, `z` normal.

    A start without overlap stays without: give `init` some. The loss grows as `r^4`, so SGD takes small steps only.
    """
    return Model(_intensity_loss, _intensity, _sized("noise", noise, Normal()))


def _smooth_amplitude_loss(r, y, width):
    return 0.5 * (jnp.sqrt(r[0] ** 2 + width**2) - y) ** 2


def _amplitude_loss(r, y):
    return 0.5 * (jnp.abs(r[0]) - y) ** 2


def _amplitude(r_star, z):
    return jnp.abs(r_star[0]) + z


@model()
def amplitude_retrieval(noise: float = 0.1, width: float = 0.1) -> Model:
    """Phase retrieval from amplitudes: loss `(sqrt(r^2 + width^2) - y)^2 / 2`, label `|r*| + noise z`, `z` normal.

    `width` rounds the kink of `|r|` at zero, where it is not 0. It bears larger steps than the intensities'.
    """
    law = _sized("noise", noise, Normal())
    width = _width(width, "over which |r| is rounded at zero; 0 leaves the kink")
    return Model(With(_smooth_amplitude_loss, (width,)) if width > 0 else _amplitude_loss, _amplitude, law)


def _poisson_loss(r, y):
    return jnp.exp(r[0]) - y * r[0]


@dataclass(frozen=True)
class _Count:
    """A Poisson count of mean `exp(r*)` of at most `most`, by inversion of a uniform number."""

    most: int

    def __call__(self, r_star: Any, z: Any) -> Any:
        # Weights of the counts 0 ... most, normalised as a softmax: no mean is so large or small that they vanish. Comparing with
        # the last sum bounds the count by where the sums stop growing, when they round to a little less than one.
        counts = np.arange(self.most + 1)
        log_factorial = jnp.asarray(special.gammaln(counts + 1.0), r_star.dtype)
        below = jnp.cumsum(jax.nn.softmax(counts * r_star[0] - log_factorial))
        return jnp.sum(below[:-1] < z * below[-1]).astype(r_star.dtype)


@model("poisson")
def poisson_regression(most: int = 100) -> Model:
    """Counts with the canonical log link: loss `exp(r) - y r`, label a Poisson count of mean `exp(r*)`, conditioned on at most
    `most`, drawn from one uniform number by inversion.

    `exp` has heavy tails: with `r*` of variance 1 one mean in a thousand is above 22, and with variance 4 above 480. Training
    bears small steps only, and a learning curve's average may rest on few samples; keep teacher and start well below variance 1.
    """
    return Model(_poisson_loss, _Count(_integer("parameters.most", most, 1, "the largest count there can be")), Uniform())


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
    return Model(loss, label, _sized("noise", noise, Normal()), k=len(out), k_star=len(out_star))


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


def _integer(name: str, value: Any, least: int, fix: str = "") -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise refuse(name, f"be an integer of at least {least}", value, fix)
    return value


# --- classification ----------------------------------------------------------------------------------------------------


def _sign(r_star, z):
    return jnp.where(r_star[0] + z > 0, 1.0, -1.0)


@model()
def logistic(temperature: float = 1.0) -> Model:
    """Logistic regression: loss `log(1 + exp(-y r))`, label `+1` with probability `1 / (1 + exp(-r* / temperature))`,
    else `-1`. `temperature = 0` labels by the sign of `r*`."""
    temperature = _number("parameters.temperature", temperature)
    if temperature < 0:
        raise refuse("parameters.temperature", "not be negative", temperature, "1 is the logistic law, 0 labels by the sign")
    return Model(_logistic_loss, _sign, _sized("temperature", temperature, Logistic()))


def _logistic_loss(r, y):
    return jnp.logaddexp(0.0, -y * r[0])


def _hinge(r, y):
    return jnp.maximum(0.0, 1.0 - y * r[0])


@model("svm")
def hinge(noise: float = 0.5) -> Model:
    """A linear classifier with the hinge loss `max(0, 1 - y r)`, whose gradient jumps at the margin; label `sign(r* + noise z)`, `z`
    normal. With a ridge it is the support vector machine."""
    return Model(_hinge, _sign, _sized("noise", noise, Normal()))


def _probit_loss(r, y):
    return -jax.scipy.special.log_ndtr(y * r[0])


@model()
def probit(noise: float = 1.0) -> Model:
    """Probit regression: loss `-log Phi(y r)`, label `sign(r* + noise z)`, `z` normal, so `+1` has probability
    `Phi(r* / noise)`."""
    return Model(_probit_loss, _sign, _sized("noise", noise, Normal()))


@model()
def softmax(classes: int = 3, temperature: float = 1.0) -> Model:
    """Multi-class cross-entropy: loss `-log softmax(r)[class]`, class drawn from `softmax(r* / temperature)`
    (`argmax(r* + temperature z)`, `z` Gumbel), one-hot; `k = k_star = classes`."""
    classes = _integer("parameters.classes", classes, 2)
    temperature = _positive("parameters.temperature", temperature, "1 draws the class from the softmax of r*")

    law = Scaled(Gumbel(shape=(classes,)), temperature)
    return Model(_cross_entropy, _largest, law, k=classes, k_star=classes)


def _cross_entropy(r, y):
    return -jnp.sum(y * jax.nn.log_softmax(r))


def _largest(r_star, z):
    return jax.nn.one_hot(jnp.argmax(r_star + z), len(r_star), dtype=r_star.dtype)
