"""Named models: each makes a valid problem, its label has the law it says, and unknown names get the nearest one."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import sgdlimit as sl
from sgdlimit import models
from sgdlimit.models import registry


def problem(m, scale=1.0):
    return sl.Problem(
        loss=m.loss,
        label=m.label,
        noise=m.noise,
        sample_ratio=2.0,
        teacher=sl.GaussianTeacher(scale * np.eye(m.k_star)),
        init=sl.Init(overlap=np.zeros((m.k, m.k_star)), cov=np.eye(m.k)),
        penalty=m.penalty,
        trained=m.trained,
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


@pytest.mark.parametrize("mean", [1e-4, 0.3, 4.0, 60.0])
def test_counts_have_the_poisson_law(mean):
    m = models.poisson_regression(most=200)
    u = (np.arange(4000) + 0.5) / 4000  # equispaced quantiles: frequencies are exact to 1/4000
    with jax.enable_x64(True):
        counts = np.asarray(jax.vmap(lambda z: m.label(jnp.log(jnp.array([mean])), z))(jnp.asarray(u)))
    np.testing.assert_array_equal(counts, stats.poisson.ppf(u, mean))


@pytest.mark.parametrize("log_mean", [-800.0, 800.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_counts_are_bounded_whatever_the_mean_and_precision(log_mean, dtype):
    m = models.poisson_regression(most=30)
    with jax.enable_x64(True):
        u = jnp.asarray([2.0**-40, 0.5, 1 - 2.0**-40], dtype)
        counts = np.asarray(jax.vmap(lambda z: m.label(jnp.asarray([log_mean], dtype), z))(u))
        moderate = float(m.label(jnp.zeros(1, dtype), u[2]))
    assert counts.dtype == dtype
    np.testing.assert_array_equal(counts, 0.0 if log_mean < 0 else 30.0)
    assert moderate < 20  # the last quantile in single precision is where its sums stop growing, not the bound


def test_probit_is_stable_far_out():
    loss = models.probit().loss
    with jax.enable_x64(True):
        for y_r in (-40.0, -3.0, 0.0, 5.0, 40.0):
            r = jnp.array([y_r])
            assert float(loss(r, 1.0)) == pytest.approx(-stats.norm.logcdf(y_r), rel=1e-9, abs=1e-300)
            assert np.isfinite(jax.hessian(loss)(r, 1.0)).all()


def test_phase_retrieval_does_not_know_the_sign():
    for m in (models.phase_retrieval(noise=0.1), models.amplitude_retrieval(noise=0.1)):
        for r in (jnp.array([0.7]), jnp.array([-0.7])):
            assert float(m.label(r, 1.0)) == float(m.label(-r, 1.0))
            assert float(m.loss(r, 0.3)) == float(m.loss(-r, 0.3))
    assert float(models.phase_retrieval().loss(jnp.array([2.0]), 3.0)) == pytest.approx(0.25)
    assert float(models.amplitude_retrieval(width=1e-3).loss(jnp.array([-2.0]), 3.0)) == pytest.approx(0.5, rel=1e-5)


def test_quantile_is_the_pinball_away_from_its_kink_and_its_minimum_is_the_quantile():
    m = models.quantile(level=0.9, noise=1.0, width=0.01)
    assert float(m.loss(jnp.array([0.0]), 2.0)) == pytest.approx(1.8, rel=1e-5)
    assert float(m.loss(jnp.array([2.0]), 0.0)) == pytest.approx(0.2, rel=1e-5)
    z = jnp.asarray(m.noise.ppf((np.arange(4000) + 0.5) / 4000))
    slope = jax.vmap(jax.grad(m.loss), (None, 0))(jnp.array([stats.norm.ppf(0.9)]), z).mean()
    assert abs(float(slope)) < 1e-3


def test_the_losses_with_kinks_are_the_exact_ones():
    r = jnp.array([0.4])
    assert float(models.hinge().loss(r, 1.0)) == pytest.approx(0.6)
    assert float(models.hinge().loss(r, -1.0)) == pytest.approx(1.4)
    assert float(models.hinge().loss(jnp.array([1.2]), 1.0)) == 0.0
    assert float(models.hinge(noise=0.5).label(jnp.array([0.3]), -0.35)) == -1.0
    assert float(models.absolute().loss(r, 1.0)) == pytest.approx(0.6)
    exact = models.quantile(level=0.9, width=0)
    assert float(exact.loss(r, 1.4)) == pytest.approx(0.9)
    assert float(exact.loss(r, -0.6)) == pytest.approx(0.1)
    assert float(models.amplitude_retrieval(width=0).loss(-r, 1.0)) == pytest.approx(0.18)


@pytest.mark.parametrize(
    ("name", "f"),
    [
        ("tanh", np.tanh),
        ("erf", lambda r: 2 * stats.norm.cdf(r) - 1),
        ("sigmoid", lambda r: 1 / (1 + np.exp(-r))),
        ("softplus", lambda r: np.log1p(np.exp(r))),
        ("gelu", lambda r: r * stats.norm.cdf(r)),
        ("silu", lambda r: r / (1 + np.exp(-r))),
        ("swish", lambda r: r / (1 + np.exp(-r))),
        ("relu", lambda r: np.maximum(r, 0)),
        ("leaky_relu", lambda r: np.where(np.asarray(r) > 0, r, 0.01 * np.asarray(r))),
        ("abs", np.abs),
    ],
)
def test_activations_of_committees(name, f):
    m = models.committee(weights=[1.0, -0.5, 2.0], teacher_weights=[0.7], noise=0.1, activation=name, teacher_activation="tanh")
    assert (m.k, m.k_star) == (3, 1)
    r = np.array([0.3, 0.8, -1.2])
    assert float(m.label(jnp.array([0.5]), 0.1)) == pytest.approx(0.7 * np.tanh(0.5) + 0.1, rel=1e-5)
    assert m.noise.ppf(stats.norm.cdf(1.0)) == pytest.approx(0.1)
    assert float(m.loss(jnp.asarray(r), 0.2)) == pytest.approx(0.5 * (np.dot([1.0, -0.5, 2.0], f(r)) - 0.2) ** 2, rel=1e-4)
    # The teacher is like the student where nothing else is said.
    same = models.committee(weights=[1.0], noise=0, activation=name)
    assert float(same.label(jnp.array([0.5]), 0.0)) == pytest.approx(f(0.5), rel=1e-5)


@pytest.mark.parametrize("classes", [2, 5])
def test_softmax_takes_any_number_of_classes(classes):
    p = problem(models.softmax(classes=classes))
    assert (p.k, p.k_star, p.noise_size) == (classes, classes, classes)


def test_every_named_model_has_a_row():
    table = (Path(__file__).parent.parent / "docs" / "models.md").read_text()
    rows = "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("|"))
    for name in models.MODELS:
        assert f"`{name}`" in rows, name


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
    assert float(m.label(r, 0.2)) == pytest.approx(expected + 0.2, rel=1e-5)
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
        ("quantile", {"level": 1}, r"`parameters.level` must lie in \(0, 1\), but is 1"),
        ("quantile", {"width": -0.1}, r"`parameters.width` must not be negative, but is -0.1"),
        ("amplitude_retrieval", {"width": -1}, r"`parameters.width` must not be negative, but is -1"),
        ("absolute", {"df": 0}, r"`parameters.df` must be positive, but is 0"),
        ("hinge", {"noise": -1}, r"`parameters.noise` must not be negative, but is -1"),
        ("poisson", {"most": 0}, r"`parameters.most` must be an integer of at least 1, but is 0"),
        ("committee", {"activation": "rellu"}, r"must be a known activation, but is 'rellu' \(did you mean `relu`\?\)"),
        ("committee", {"teacher_activation": "geluu"}, r"`parameters.teacher_activation` must be .* \(did you mean `gelu`\?\)"),
        ("committee", {"activation": 3}, r"`parameters.activation` must be a known activation, but is 3"),
        ("committee", {"activation": ["tanh"]}, r"`parameters.activation` must be a known activation, but is \['tanh'\]"),
    ],
)
def test_wrong_names_and_parameters_get_words(name, parameters, message):
    with pytest.raises(sl.InputError, match=message):
        models.build(name, parameters)


def test_a_new_model_is_one_function(monkeypatch):
    monkeypatch.setattr(registry, "MODELS", dict(models.MODELS))

    @models.model("alias")
    def mine(gain: float):
        return {"loss": lambda r, y: (r[0] - y) ** 2, "label": lambda r_star, z: gain * r_star[0], "noise": sl.NoNoise()}

    assert problem(models.build("alias", {"gain": 2.0})).k == 1
    with pytest.raises(sl.InputError, match=r"`parameters.gain` must be given for the model `mine`, but is missing"):
        models.build("mine")
