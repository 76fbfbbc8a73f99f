"""Labels that are classes are drawn before the teacher: the same law, and averages with less spread."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats
from scipy.stats import qmc

import sgdlimit as sl
from problems import committee, logistic, tanh_regression
from sgdlimit.learning import labels
from sgdlimit.learning.risk import TestRisk


def problem(label, noise, cov=4.0):
    loss = lambda r, y: 0.5 * (r[0] - y) ** 2
    teacher, init = sl.GaussianTeacher(cov=[[cov]]), sl.Init(overlap=[[0.0]], cov=[[0.5]])
    return sl.Problem(loss, label, noise, sample_ratio=2.0, teacher=teacher, init=init, penalty=sl.Ridge(0.1))


def drawn(p, seed=0, paths=2**13):
    u = qmc.Sobol(2, rng=np.random.default_rng(seed)).random(paths)
    gstar, z = labels.samples(p, u[:, :1], u[:, 1:])
    return gstar[:, 0], np.asarray(labels.over_samples(p.label)(gstar * np.sqrt(p.rho[0, 0]), z)), u


def test_teacher_and_class_have_their_joint_law():
    p, middles = logistic(), (np.arange(2**16) + 0.5) / 2**16
    classes = labels._classes(p.label, p.noise, 2.0)
    np.testing.assert_array_equal(classes.values, [-1.0, 1.0])
    for c, value in enumerate(classes.values):
        share = classes.mass[c, -1]
        gstar, z = classes.draw(middles, np.full(len(middles), 0.25 + 0.5 * c))
        assert (classes.at(gstar, z) == value).all()
        for power in range(4):  # E[g^p p(y | g)] by quadrature
            density = lambda g, power=power, value=value: g**power * stats.norm.pdf(g) * special.expit(2.0 * value * g)
            assert share * np.mean(gstar**power) == pytest.approx(integrate.quad(density, -9, 9, epsabs=1e-10)[0], abs=2e-4)


def test_counts_are_classes_and_their_noise_gives_them():
    counts = lambda r_star, z: jnp.floor(jnp.exp(0.4 * r_star[0]) * z * 3.0)
    p = problem(counts, sl.Uniform(), cov=1.0)
    gstar, y, u = drawn(p)
    classes = labels._classes(p.label, p.noise, 1.0)
    below = np.cumsum(classes.mass[:, -1])
    assert len(classes.values) > 5
    np.testing.assert_array_equal(y, classes.values[np.searchsorted(below[:-1], u[:, 1], side="right")])
    rng = np.random.default_rng(1)
    g = rng.normal(size=10**6)
    direct = np.floor(np.exp(0.4 * g) * rng.random(10**6) * 3.0)
    for value in range(4):  # 10^6 independent draws have an error of 1e-3 times the root of the share: five of them, and that of the points
        share = np.mean(direct == value)
        assert np.mean(y == value) == pytest.approx(share, abs=6e-3 * np.sqrt(share))
        assert np.mean(gstar * (y == value)) == pytest.approx(np.mean(g * (direct == value)), abs=6e-3 * np.sqrt(share))


@pytest.mark.parametrize("p", [tanh_regression(), problem(lambda r_star, z: r_star[0] + z, sl.Normal()), committee()])
def test_other_labels_are_left_alone(p):
    u = np.random.default_rng(0).random((64, p.k_star + 1))
    gstar, z = labels.samples(p, u[:, :-1], u[:, -1:])
    np.testing.assert_array_equal(gstar, special.ndtri(u[:, :-1]))
    np.testing.assert_array_equal(z, p.noise_from_uniform(u[:, -1:]))


def test_noise_that_cannot_be_hashed_will_do():
    class Mine:
        __hash__ = None  # type: ignore[assignment]
        shape = ()

        def ppf(self, u):
            return np.asarray(u)

    p, same = problem(logistic().label, Mine()), problem(logistic().label, sl.Uniform())
    for one, other in zip(drawn(p), drawn(same), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_test_risk_of_a_classifier_fluctuates_less(monkeypatch):
    at = np.array([[[2.0]]]), np.array([[[2.0]]])
    spread = lambda: np.std([TestRisk(logistic(), seed)(*at)[0][0] for seed in range(12)])
    classes = spread()
    monkeypatch.setattr(labels, "_classes", lambda *of: None)
    assert 4.0 * classes < spread()
