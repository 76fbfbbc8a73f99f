"""`simulate(left_out=True)` behind Adam and beside trained numbers: against retraining, by the same loops, without each of some samples."""

from collections import deque
from dataclasses import replace

import jax
import numpy as np
import pytest

import sgdlimit as sl
from marks import cases
from sgdlimit.learning.trained import Labelled
from sgdlimit.simulate.along import parted
from sgdlimit.simulate.core import LEFT_OUT, plan
from sgdlimit.simulate.data import allocate, draw_each
from sgdlimit.simulate.left_out import LeftOut
from weighed import CASES

LONGER = sorted({*CASES} - {"head", "intercept, AdamW", "Adam, batches, spectrum", "two units, Adam, batches"})


@pytest.mark.parametrize("case", cases(CASES, LONGER))
def test_left_out_predictions_are_those_of_retraining(case):
    """Numbers that are trained along are retrained, too, though `LeftOut` takes them as they were."""
    problem, dynamics, horizon, batch = CASES[case]
    d, who = 100, 40
    _, n, _, path = plan(problem, dynamics, horizon, d, batch, times=[0, horizon], left_out=True)
    rows, rng = allocate(n, d), lambda: np.random.default_rng(1)
    with jax.enable_x64(True):
        data = draw_each(problem, "gaussian", rows[None], [np.random.default_rng(0)])[0]
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
