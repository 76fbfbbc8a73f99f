"""Named losses and labels, for TOML files and quick starts.

A model is one function: its arguments are its parameters, it returns a `Model`, and `@model` gives it a name.

    from sgdlimit import models
    m = models.tanh_regression(noise=0.3)
    sl.Problem(loss=m.loss, label=m.label, noise=m.noise, sample_ratio=1.5, ...)

Conventions are those of `sgdlimit.Problem`: `loss(r, y)`, or `loss(r, y, a)` with numbers that are trained along, with `r (k,)`,
`label(r_star, z)` with `r_star (k_star,)`.

Programs are compiled for a loss and a label, known by identity or, if they compare, by value. So a model hands out the same functions
for other numbers wherever it can: the size of the noise is in its law, and numbers of a loss or a label are `With` it.
"""

from __future__ import annotations

from .classification import calibrated, hinge, logistic, probit, softmax
from .networks import ACTIVATIONS, committee, two_layer
from .registry import MODELS, Model, With, as_model, build, call_model, model
from .regression import (
    absolute,
    amplitude_retrieval,
    huber,
    linear_regression,
    phase_retrieval,
    poisson_regression,
    pseudo_huber,
    quantile,
    tanh_regression,
)

__all__ = [
    "ACTIVATIONS",
    "MODELS",
    "Model",
    "With",
    "absolute",
    "amplitude_retrieval",
    "as_model",
    "build",
    "calibrated",
    "call_model",
    "committee",
    "hinge",
    "huber",
    "linear_regression",
    "logistic",
    "model",
    "phase_retrieval",
    "poisson_regression",
    "probit",
    "pseudo_huber",
    "quantile",
    "softmax",
    "tanh_regression",
    "two_layer",
]
