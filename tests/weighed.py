"""Problems whose samples can be left out of real runs by their weight, shared by tests and benchmarks of `left_out`."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

import sgdlimit as sl

# A label has a weight, which is one; at zero the sample is left out of all batches, which stay what they are.


def _head_loss(r, y, a):
    return y["weight"] * 0.5 * (a[0] * jnp.tanh(r[0]) - y["value"]) ** 2


def _tanh_label(r_star, z):
    return {"value": jnp.tanh(r_star[0]) + 0.3 * z, "weight": 1.0 + 0.0 * z}


def _committee_loss(r, y):
    return y["weight"] * 0.5 * (jnp.tanh(r[0]) - 0.5 * jnp.tanh(r[1]) - y["value"]) ** 2


def _committee_label(r_star, z):
    return {"value": jnp.tanh(r_star[0]) - 0.5 * jnp.tanh(r_star[1]) + 0.3 * z, "weight": 1.0 + 0.0 * z}


def _logistic_loss(r, y):
    return y["weight"] * jnp.logaddexp(0.0, -y["value"] * r[0])


def _intercept_loss(r, y, a):
    return y["weight"] * jnp.logaddexp(0.0, -y["value"] * (r[0] + a[0]))


def _logistic_label(r_star, z):
    return {"value": jnp.where(z < 1.0 / (1.0 + jnp.exp(-r_star[0] - 1.0)), 1.0, -1.0), "weight": 1.0 + 0.0 * z}


def _softmax_loss(r, y, a):
    return y["weight"] * (jax.nn.logsumexp(r + a) - (r + a) @ y["value"])


def _softmax_label(r_star, z):
    chosen = jnp.sum(z > jnp.cumsum(jax.nn.softmax(r_star))[:-1])
    return {"value": jax.nn.one_hot(chosen, 3), "weight": 1.0 + 0.0 * z}


def _problem(loss, label, noise, teacher, start, k=1, **more):
    init = sl.Init(overlap=np.zeros((k, k)), cov=start * np.eye(k))
    return sl.Problem(loss, label, noise, 2.0, sl.GaussianTeacher(cov=teacher * np.eye(k)), init, **more)


HEAD = _problem(_head_loss, _tanh_label, sl.Normal(), 2.25, 1.0, trained=sl.Trained([0.5]))
COMMITTEE = _problem(_committee_loss, _committee_label, sl.Normal(), 1.5, 0.5, 2)
LOGISTIC = _problem(_logistic_loss, _logistic_label, sl.Uniform(), 4.0, 0.25)
INTERCEPT = _problem(_intercept_loss, _logistic_label, sl.Uniform(), 4.0, 0.25, trained=sl.Trained([0.0]))
SOFTMAX = _problem(_softmax_loss, _softmax_label, sl.Uniform(), 4.0, 0.01, 3, trained=sl.Trained([0.0, 0.0, 0.0]))
SPECTRUM = sl.Spectrum([0.25, 1.75], [0.5, 0.5])
RESHUFFLED = {"sampling": "reshuffle"}

CASES = {  # problem, dynamics, horizon, batch
    "head": (HEAD, sl.SGD(1.0, **RESHUFFLED), 6.0, 4),
    "head, momentum, schedule": (HEAD, sl.SGD(sl.schedules.Exponential(1.2, 4.0), optimizer=sl.Momentum(0.3)), 6.0, 4),
    "head, batches, spectrum": (replace(HEAD, spectrum=SPECTRUM), sl.MiniBatchGD(0.3, 0.25), 6.0, 1),
    "three intercepts": (SOFTMAX, sl.SGD(1.0), 6.0, 4),
    "intercept, AdamW": (INTERCEPT, sl.Adam.from_learning_rate(0.01, 8, 100, weight_decay=0.3, **RESHUFFLED), 4.0, 8),
    "Adam, ridge": (replace(LOGISTIC, penalty=sl.Ridge(0.1)), sl.Adam.from_learning_rate(0.01, 8, 100), 4.0, 8),
    "Adam, single samples": (LOGISTIC, sl.Adam.from_learning_rate(0.005, 1, 100, betas=(0.9, 0.9)), 2.0, 1),
    "RMSProp": (LOGISTIC, sl.SGD(0.5, optimizer=sl.Adam(0.0, 0.5, corrected=False)), 3.0, 4),
    "Adam, batches, spectrum": (
        replace(LOGISTIC, spectrum=SPECTRUM), sl.MiniBatchGD(0.05, 0.25, optimizer=sl.Adam(0.2, 1.0)), 4.0, 1,
    ),
    "two units, Adam, batches": (COMMITTEE, sl.MiniBatchGD(0.1, 0.25, optimizer=sl.Adam(0.3, 1.0)), 2.0, 1),
    "two units, Adam": (COMMITTEE, sl.Adam.from_learning_rate(0.002, 8, 100), 2.0, 8),
    "three intercepts, Adam": (SOFTMAX, sl.Adam.from_learning_rate(0.01, 8, 100), 3.0, 8),
}  # fmt: skip
