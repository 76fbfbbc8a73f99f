"""Labels that are numbers or counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from ..checks import number as _number
from ..checks import positive as _positive
from ..errors import refuse
from ..learning.noise import NoiseLaw, Normal, StudentT, Uniform
from .registry import Model, With, integer, model, sized
from .scalars import softplus


def _half_square(r, y):
    return 0.5 * (r[0] - y) ** 2


def _plus(r_star, z):
    return r_star[0] + z


@model("ridge_regression")
def linear_regression(noise: float = 0.5) -> Model:
    """Least squares on a linear teacher: loss `(r - y)^2 / 2`, label `r* + noise z`, `z` normal.

    With `penalty = Ridge(...)` this is ridge regression; its curves have a closed form.
    """
    return Model(_half_square, _plus, sized("noise", noise, Normal()))


def _tanh_loss(r, y):
    return 0.5 * (jnp.tanh(r[0]) - y) ** 2


def _tanh_label(r_star, z):
    return jnp.tanh(r_star[0]) + z


@model()
def tanh_regression(noise: float = 0.3) -> Model:
    """A saturating unit, non-convex: loss `(tanh r - y)^2 / 2`, label `tanh r* + noise z`, `z` normal."""
    return Model(_tanh_loss, _tanh_label, sized("noise", noise, Normal()))


def _noise(noise: float, df: float | None) -> NoiseLaw:
    """Label noise: Student t with `df` degrees of freedom, normal where none are given."""
    if df is None:
        return sized("noise", noise, Normal())
    return sized("noise", noise, StudentT(_positive("parameters.df", df, "degrees of freedom of the noise; 3 has heavy tails")))


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
    return level * u + width * softplus(-u / width)


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
    return Model(_intensity_loss, _intensity, sized("noise", noise, Normal()))


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
    law = sized("noise", noise, Normal())
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
    return Model(_poisson_loss, _Count(integer("parameters.most", most, 1, "the largest count there can be")), Uniform())
