"""`simulate(left_out=True)` behind Adam and beside trained numbers: against retraining, by the same loops, without each of some samples."""

from collections import deque
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdlimit as sl
from marks import cases
from sgdlimit.learning.trained import Labelled
from sgdlimit.simulate.along import parted
from sgdlimit.simulate.core import LEFT_OUT, plan
from sgdlimit.simulate.data import allocate, draw
from sgdlimit.simulate.left_out import LeftOut

# A label has a weight, which is one; at zero the sample is left out of all batches, which stay what they are.


def _head_loss(r, y, a):
    return y["weight"] * 0.5 * (a[0] * jnp.tanh(r[0]) - y["value"]) ** 2


def _tanh_label(r_star, z):
    return {"value": jnp.tanh(r_star[0]) + 0.3 * z, "weight": 1.0 + 0.0 * z}


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
    "three intercepts, Adam": (SOFTMAX, sl.Adam.from_learning_rate(0.01, 8, 100), 3.0, 8),
}  # fmt: skip
LONGER = sorted({*CASES} - {"head", "intercept, AdamW", "Adam, batches, spectrum"})


@pytest.mark.parametrize("case", cases(CASES, LONGER))
def test_left_out_predictions_are_those_of_retraining(case):
    """Numbers that are trained along are retrained, too, though `LeftOut` takes them as they were."""
    problem, dynamics, horizon, batch = CASES[case]
    d, who = 100, 40
    _, n, _, path = plan(problem, dynamics, horizon, d, batch, times=[0, horizon], left_out=True)
    rows, rng = allocate(n, d), lambda: np.random.default_rng(1)
    with jax.enable_x64(True):
        data = draw(problem, "gaussian", rows, np.random.default_rng(0))
        one = LeftOut(path.problem, path.dynamics, data, 0)
        last(one.watch(path.run(data, rng(), one.told)))
        found, now = one.found[1], one.run.labels
        rest = np.setdiff1d(np.arange(n), one.run.who)[:who]
        exact, theirs = [], []
        for i in rest:
            labels = {name: np.array(part) for name, part in data.labels.items()}
            labels["weight"][i] = 0.0
            (theta,), numbers = parted(last(path.run(replace(data, labels=labels), rng()))[:1], problem, d)
            exact.append(theta @ rows[i])
            theirs.append(numbers)
        given = jax.tree.map(lambda part: np.asarray(part)[rest], data.labels)
        losses = lambda r, y: float(jax.vmap(path.problem.slopes.loss)(np.array(r), y).mean())
        true = losses(exact, given if problem.trained is None else Labelled(given, np.concatenate(theirs)))
        left_out = found.left_out.reshape(n, -1)[rest]
        ours = losses(left_out, jax.tree.map(lambda part: np.asarray(part)[rest], now))
    assert np.corrcoef(np.ravel(exact), left_out.ravel())[0, 1] > 0.98
    assert abs(ours / true - 1) < 0.03
    assert found.risk > 1.3 * found.train_risk  # leaving out must matter
    assert found.diagnostics["unexplained"] < 1e-4  # the optimiser is followed
    assert found.trusted, found.verdict


def last(states):
    """The last state of a path."""
    return deque(states, maxlen=1).pop()[1]


@pytest.mark.parametrize("case", cases(["head", "intercept, AdamW", "three intercepts, Adam"], ["head", "three intercepts, Adam"]))
def test_the_risk_is_the_test_risk_of_the_runs(case):
    """Twelve runs, seed 1: beyond 3.3 errors of their mean once in 1000; the reported error is that of one run over the root of twelve."""
    problem, dynamics, horizon, batch = CASES[case]
    ds = sl.simulate(problem, dynamics, horizon, 100, batch, repeats=12, seed=1, times=[0, horizon], left_out=True).dataset.isel(time=-1)
    assert abs(ds[LEFT_OUT] - ds.test_risk) < 3.3 * ds[f"{LEFT_OUT}_se"]
    assert ds[LEFT_OUT] > ds.train_risk + 0.5 * (ds.test_risk - ds.train_risk)
