"""Noise of SME that is drawn more often than it comes: its weights make up for it, and it tells heavy tails better."""

from __future__ import annotations

import numpy as np
import pytest

import sgdlimit as sl
from problems import CURVES, linear
from sgdlimit.theory import closed_forms
from sgdlimit.theory.samples import tilted
from sgdlimit.theory.samples.engines import PathEngine

TEACHER, START = sl.GaussianTeacher(cov=[[1.0]]), sl.Init(overlap=[[0.0]], cov=[[1.0]])
NUMBERS = {"sample_ratio": 0.6, "ridge": 0.1, "noise_variance": 0.25, "start_variance": 1.0, "teacher_variance": 1.0}


def test_weights_make_up_for_what_is_shifted():
    """Of plain random numbers, 2^18 samples: each moment within 4.5 standard errors, with Bonferroni's correction for 36 of them one false
    alarm in some thousand seeds."""
    rng = np.random.default_rng(3)
    spread = rng.uniform(0.2, 0.6, 12)
    normals, weight = tilted.tilted(rng.random(2**18), rng.standard_normal((2**18, 12)), spread, 1.3)
    grown = np.cumprod((1.0 - 0.5 * spread * normals) ** 2, 1) / np.cumprod(1.0 + 0.25 * spread**2)
    for name, values, right in (("mean", normals, 0.0), ("square", normals**2, 1.0), ("growth", grown, 1.0)):
        weighed = values * weight[:, None] - right
        z = weighed.mean(0) / (weighed.std(0) / 512)
        assert np.abs(z).max() < 4.5, (name, z)
    assert weight.max() <= 1.01 / tilted.UNSHIFTED
    assert np.abs(normals.mean(0)).min() > 20 / 512


def test_ridge_by_sme_near_stability():
    """Against the closed form, eight seeds: over forty 5% of points lie beyond two reported errors, and one answer's points go
    together. Without the shifts it is 20%, the farthest 7 errors off, for four times the computing."""
    times, z = np.linspace(0.0, 5.0, 9), []
    right = closed_forms.linear_model(step=1.3, times=times, **NUMBERS)
    for seed in range(100, 108):
        found = sl.solve(linear(**NUMBERS), sl.SME(1.3), 5.0, rtol=0.03, times=times, seed=seed).dataset
        errors = [(found[c].values.ravel() - right[c])[1:] / found[c + "_se"].values.ravel()[1:] for c in CURVES]
        z.append(np.abs(errors))
    far = np.mean(np.array(z) > 2.0)
    assert far < 0.13, np.array(z).max(2)


@pytest.mark.parametrize(("name", "parameters", "tilted"), [("linear_regression", {}, True), ("probit", {"noise": 0.5}, True),
                                                            ("logistic", {}, False), ("tanh_regression", {}, False)])  # fmt: skip
def test_only_where_gradients_grow_without_bound(name, parameters, tilted):
    model = sl.models.build(name, parameters)
    problem = sl.Problem(model.loss, model.label, model.noise, sample_ratio=1.0, teacher=TEACHER, init=START)
    assert (PathEngine(problem, sl.SME(1.2), 3.0).tilt is not None) == tilted
    assert PathEngine(problem, sl.SME(0.05), 3.0).tilt is None
    assert PathEngine(problem, sl.GradientFlow(), 3.0).tilt is None
