"""Named models: each makes a valid problem, its label has the law it says, and unknown names get the nearest one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import sgdlimit as sl
from sgdlimit import models


def problem(m, scale=1.0):
    return sl.Problem(
        loss=m.loss,
        label=m.label,
        noise=m.noise,
        sample_ratio=2.0,
        teacher=sl.GaussianTeacher(scale * np.eye(m.k_star)),
        init=sl.Init(overlap=np.zeros((m.k, m.k_star)), cov=np.eye(m.k)),
        penalty=m.penalty,
    )


@pytest.mark.parametrize("name", sorted(models.MODELS))
def test_every_model_makes_a_problem_and_says_what_it_is(name):
    m = models.build(name)
    p = problem(m)
    assert (p.k, p.k_star) == (m.k, m.k_star)
    assert "loss" in models.MODELS[name].__doc__
    assert "label" in models.MODELS[name].__doc__ or "class" in models.MODELS[name].__doc__


@pytest.mark.parametrize(
    ("name", "probability"),
    [("logistic", lambda r: 1 / (1 + np.exp(-r))), ("probit", stats.norm.cdf)],
)
def test_binary_labels_have_the_law_they_say(name, probability):
    m = models.build(name)
    r_star = np.array([-1.5, 0.0, 0.7])
    u = (np.arange(4000) + 0.5) / 4000  # equispaced quantiles: the mean is exact to 1/8000, no random draw needed
    labels = jax.vmap(lambda r: jax.vmap(lambda z: m.label(r[None], z))(jnp.asarray(m.noise.ppf(u))))(jnp.asarray(r_star))
    np.testing.assert_allclose((np.asarray(labels) > 0).mean(axis=1), probability(r_star), atol=3e-4)


def test_softmax_classes_have_the_softmax_law():
    m = models.softmax(classes=3)
    rng = np.random.default_rng(1)
    z = m.noise.ppf(rng.random((20_000, 3)))
    r_star = jnp.array([0.5, -0.3, 0.1])
    counts = np.asarray(jax.vmap(lambda z: m.label(r_star, z))(jnp.asarray(z))).sum(axis=0)
    # Law: multinomial. Level 1e-4, seed 1.
    assert (
        stats.chisquare(counts, 20_000 * np.asarray(jax.nn.softmax(r_star), float) / np.asarray(jax.nn.softmax(r_star), float).sum()).pvalue
        > 1e-4
    )


def test_pseudo_huber_is_quadratic_near_zero_and_linear_far_away():
    loss = models.huber(width=2.0).loss
    assert float(loss(jnp.array([1e-3]), 0.0)) == pytest.approx(0.5e-6, rel=1e-3)
    assert float(jax.grad(loss)(jnp.array([1e4]), 0.0)[0]) == pytest.approx(2.0, rel=1e-3)


def test_no_noise_spends_no_random_dimension():
    assert problem(models.tanh_regression(noise=0)).noise_size == 0
    assert problem(models.logistic(temperature=0)).noise_size == 0


def test_reference_committee():
    m = models.build("committee", {"weights": [1.0, -0.5], "noise": 0.2})
    r = jnp.array([0.3, 0.8])
    expected = np.tanh(0.3) - 0.5 * np.tanh(0.8)
    assert float(m.label(r, 1.0)) == pytest.approx(expected + 0.2, rel=1e-5)
    assert float(m.loss(r, 0.0)) == pytest.approx(0.5 * expected**2, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("tanh_regresion", {}, r"`model` must be a known model, but is 'tanh_regresion' \(did you mean `tanh_regression`\?\)"),
        ("logistic", {"temprature": 1}, r"`parameters` must name parameters of the model `logistic`, but is 'temprature' \(did you mean"),
        ("linear_regression", {"noise": -1}, r"`parameters.noise` must not be negative, but is -1"),
        ("softmax", {"classes": 1}, r"`parameters.classes` must be an integer of at least 2, but is 1"),
        ("committee", {"weights": 3.0}, r"`parameters.weights` must be a list of numbers, but is 3.0"),
        ("huber", {"df": 0}, r"`parameters.df` must be positive, but is 0"),
    ],
)
def test_wrong_names_and_parameters_get_words(name, parameters, message):
    with pytest.raises(sl.InputError, match=message):
        models.build(name, parameters)


def test_a_new_model_is_one_function(monkeypatch):
    monkeypatch.setattr(models, "MODELS", dict(models.MODELS))

    @models.model("alias")
    def mine(gain: float):
        return {"loss": lambda r, y: (r[0] - y) ** 2, "label": lambda r_star, z: gain * r_star[0], "noise": sl.NoNoise()}

    assert problem(models.build("alias", {"gain": 2.0})).k == 1
    with pytest.raises(sl.InputError, match=r"`parameters.gain` must be given for the model `mine`, but is missing"):
        models.build("mine")
