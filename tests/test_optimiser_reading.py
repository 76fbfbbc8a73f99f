"""Optimisers of training scripts as dynamics, and what is refused in a sentence; DP-SGD's noise."""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

import sgdlimit as sl
from problems import tanh_regression
from sgdlimit.learning.dynamics import step_at
from sgdlimit.learning.slopes import as_trained

PATTERN = r"`[^`]+` must .+, but .+"
ADAM = {"lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False, "maximize": False}


def optimiser(name, *groups):
    """What PyTorch's optimisers are to a reader: a class name and parameter groups."""
    return type(name, (), {"param_groups": [{"params": object(), **group} for group in groups]})()


class Hyper(NamedTuple):
    """The state of an optimiser wrapped by `optax.inject_hyperparams`."""

    hyperparams: dict


def test_numbers_of_scripts():
    read = lambda o, **more: sl.dynamics_of(o, 16, 1000, **more)
    assert read(optimiser("SGD", {"lr": 0.02, "momentum": 0.9, "nesterov": True, "dampening": 0.0, "weight_decay": 0.0})) == (
        sl.SGD.from_learning_rate(0.02, 16, 1000, momentum=0.9, nesterov=True)
    )
    decayed = optimiser("SGD", {"lr": 0.02, "weight_decay": 0.1}, {"lr": 0.02, "weight_decay": 0.1})
    assert read(decayed, feature_variance=2.0, penalty=sl.Ridge(0.05)) == sl.SGD.from_learning_rate(0.02, 16, 1000, 2.0)
    adam, adamw = sl.Adam.from_learning_rate(0.001, 16, 1000), sl.Adam.from_learning_rate(0.001, 16, 1000, weight_decay=0.1)
    assert read(optimiser("Adam", ADAM)) == adam
    assert read(optimiser("AdamW", ADAM | {"weight_decay": 0.1})) == adamw
    assert read(optimiser("Adam", ADAM | {"weight_decay": 0.1, "decoupled_weight_decay": True})) == adamw
    assert read(optimiser("Adam", ADAM), sampling="reshuffle").sampling == "reshuffle"
    rms = read(optimiser("RMSprop", {"lr": 0.001, "alpha": 0.99, "eps": 1e-8, "momentum": 0, "centered": False, "weight_decay": 0}))
    step = 0.001 * 1000 / 16**0.5
    assert rms == sl.SGD(step, optimizer=sl.Adam(0.0, step * 16 / 1000 / (1.0 - 0.99), 0.0, 1e-8 * 4, corrected=False))
    shown = {"learning_rate": np.float32(0.001), "b1": np.float32(0.9), "b2": np.float32(0.999), "eps": np.float32(1e-8)}
    assert read(Hyper(shown), kind="adam") == adam
    assert read(Hyper(shown | {"weight_decay": 0.1}), kind="adamw") == adamw


@pytest.mark.torch
def test_optax_shows_its_numbers_where_they_are_injected():
    optax, read = pytest.importorskip("optax"), lambda o: sl.dynamics_of(o, 16, 1000)
    shown = lambda make, **numbers: read(optax.inject_hyperparams(make)(**numbers))
    assert shown(optax.sgd, learning_rate=0.02, momentum=0.9) == sl.SGD.from_learning_rate(0.02, 16, 1000, momentum=0.9)
    assert shown(optax.adam, learning_rate=0.001) == sl.Adam.from_learning_rate(0.001, 16, 1000)
    assert shown(optax.adamw, learning_rate=0.001, weight_decay=0.1) == sl.Adam.from_learning_rate(0.001, 16, 1000, weight_decay=0.1)
    assert not shown(optax.rmsprop, learning_rate=0.001).optimizer.corrected
    for make in (optax.amsgrad, optax.lamb, optax.adamax, optax.lion):  # some with the parameters of Adam
        with pytest.raises(sl.InputError, match="`kind` must be one of"):
            shown(make, learning_rate=0.1)
    with pytest.raises(sl.InputError, match=r"`optimizer\.centered` must be False"):
        shown(optax.rmsprop, learning_rate=0.1, centered=True)
    with pytest.raises(sl.InputError, match=r"optax.adam\(0.001\) hides them"):
        read(optax.adam(0.001))


REFUSED = {
    "unknown": (optimiser("NAdam", ADAM), "`optimizer` must be torch.optim's SGD, Adam, AdamW or RMSprop"),
    "no optimiser": (3, "`optimizer` must be torch.optim's SGD"),
    "amsgrad": (optimiser("Adam", ADAM | {"amsgrad": True}), "`optimizer.amsgrad` must be False"),
    "maximise": (optimiser("Adam", ADAM | {"maximize": True}), "`optimizer.maximize` must be False"),
    "centred": (optimiser("RMSprop", {"lr": 1.0, "alpha": 0.9, "eps": 0.0, "centered": True}), "`optimizer.centered` must be False"),
    "momentum of steps": (optimiser("RMSprop", {"lr": 1.0, "alpha": 0.9, "eps": 0.0, "momentum": 0.9}), "`optimizer.momentum` must be 0"),
    "two kinds of group": (optimiser("Adam", ADAM, ADAM | {"lr": 0.1}), "`optimizer.lr` must be the same in all groups, but is 0.001 and"),
    "coupled decay": (optimiser("SGD", {"lr": 0.1, "weight_decay": 0.3}), r"`optimizer.weight_decay` must be .*sl.Ridge\(0.3"),
    "no learning rate": (optimiser("SGD", {"momentum": 0.9}), "`optimizer.lr` must be a number, but is None"),
    "optax of no name": (Hyper({"learning_rate": 0.1}), "`kind` must be one of sgd"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_limit_is_refused(name):
    given, words = REFUSED[name]
    with pytest.raises(sl.InputError, match=words) as told:
        sl.dynamics_of(given, 16, 1000)
    assert "\n" not in str(told.value)


def simulate(dynamics=None, **more):
    return sl.simulate(tanh_regression(), dynamics or sl.SGD(1.0), 0.5, 50, repeats=2, **more)


WRONG = {
    "average a number": lambda: simulate(average=1.0),
    "no memory": lambda: sl.ExponentialAverage(0.0),
    "all of the tail": lambda: sl.TailAverage(1.5),
    "none of the tail": lambda: sl.TailAverage(0.0),
    "optimiser of ours": lambda: simulate(optimizer=sl.Momentum(0.5)),
    "optax for a flow": lambda: simulate(sl.GradientFlow(), optimizer=TRANSFORM),
    "two optimisers": lambda: simulate(sl.SGD(1.0, optimizer=sl.Momentum(0.5)), optimizer=TRANSFORM),
    "RMSprop's start under the SME": lambda: simulate(sl.SME(1.0, optimizer=sl.Adam(0.0, 1.0, corrected=False))),
    "mean from the start, not corrected": lambda: sl.Adam(0.0, np.inf, corrected=False),
    "RMSprop's start in theory": lambda: sl.solve(tanh_regression(), sl.SGD(1.0, optimizer=sl.Adam(0.0, 1.0, corrected=False)), 0.5),
    "noise of no step": lambda: sl.dp_noise(1.0, 1.0, 16, 1000),
    "noise of a schedule": lambda: sl.dp_noise(1.0, 1.0, 16, 1000, step=lambda t: 1.0),
    "negative noise": lambda: sl.dp_noise(-1.0, 1.0, 16, 1000, lr=0.1),
    "a batch of more than all": lambda: sl.dp_epsilon(1.0, 300, 200, 1.0),
    "epochs before the start": lambda: sl.dp_epsilon(1.0, 30, 200, -1.0),
    "all may be lost": lambda: sl.dp_epsilon(1.0, 30, 200, 1.0, delta=1.0),
    "privacy by another order": lambda: sl.dp_epsilon(1.0, 30, 200, 1.0, sampling="poisson"),
}
TRANSFORM = type("T", (), {"init": lambda theta: theta, "update": lambda g, s, p: (g, s)})


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_gets_one_sentence(name):
    with pytest.raises(sl.InputError, match=PATTERN) as told:
        WRONG[name]()
    assert "\n" not in str(told.value)


def test_a_step_of_dp_sgd():
    """The plain loop on raw gradients, clipped and with noise of known size, is a step of the dynamics: same clipping sample by sample,
    same variance of the noise on a weight."""
    sigma, norm, batch, d, variance, lr = 0.7, 1.3, 16, 100, 2.0, 0.3
    found = sl.dp_noise(sigma, norm, batch, d, lr=lr, feature_variance=variance)
    dynamics = replace(sl.SGD.from_learning_rate(lr, batch, d, variance), **found)
    rng = np.random.default_rng(0)
    x, problem = rng.choice([-1.0, 1.0], (batch, d)) * np.sqrt(variance), as_trained(tanh_regression(), dynamics)
    scaled = x / np.sqrt(variance * d)
    r, y = rng.standard_normal((batch, 1)), 3.0 * rng.standard_normal(batch)
    raw = np.asarray(jax.vmap(tanh_regression().gradient)(jnp.asarray(r), jnp.asarray(y))) * x
    size = np.linalg.norm(raw, axis=1, keepdims=True)
    assert 0 < (size > norm).sum() < batch
    clipped = raw * np.minimum(1.0, norm / size)
    ours = np.asarray(jax.vmap(problem.gradient)(jnp.asarray(r), jnp.asarray(y)))
    theirs = lr / batch * clipped.sum(0) * np.sqrt(variance * d)  # theta is the script's weight times this
    step = step_at(dynamics, np.zeros(()))
    np.testing.assert_allclose(step * (ours * scaled).sum(0), theirs, rtol=1e-5)
    spread = lr / batch * sigma * norm * np.sqrt(variance * d)
    np.testing.assert_allclose(np.sqrt(2 * dynamics.temperature * step * batch / d), spread)
    assert sl.dp_noise(sigma, norm, batch, d, step=step, feature_variance=variance) == pytest.approx(found)


@pytest.mark.torch
def test_epsilon_of_epochs_is_that_of_one_gaussian():
    """Reshuffled epochs, and full batches, are compositions of Gaussian mechanisms, which are one of mean `sqrt(epochs) / sigma` (Balle and
    Wang, arXiv 1805.06530, Theorem 8); chance of being drawn only adds privacy, as the moments accountant's 1.26 does not know all of
    (Abadi et al., arXiv 1607.00133: q = .01, sigma = 4, 10,000 steps)."""
    pytest.importorskip("dp_accounting")
    mu, delta = 20**0.5 / 3.0, 1e-5
    lost = lambda epsilon: norm.cdf(mu / 2 - epsilon / mu) - np.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu) - delta
    exact = brentq(lost, 0.0, 50.0)
    assert sl.dp_epsilon(3.0, 100, 1000, 20, delta, "reshuffle") == pytest.approx(exact, rel=1e-3)
    assert sl.dp_epsilon(3.0, 1000, 1000, 20, delta) == pytest.approx(exact, rel=1e-3)
    assert sl.dp_epsilon(3.0, 100, 1000, 20, delta) < 0.9 * exact
    assert 0.8 < sl.dp_epsilon(4.0, 600, 60_000, 100, delta) < 1.26
    assert sl.dp_epsilon(3.0, 100, 1000, 0) == 0.0
    assert sl.dp_epsilon(0.0, 100, 1000, 1) == np.inf


# --- update and clip in real runs ------------------------------------------------------------------------------------------


def test_runs_follow_an_update_and_its_clipping():
    """A clipped gradient written as an update is the same run as `clip`, whatever the dynamics; and the loss is only reported."""
    p = tanh_regression()

    def short(r, y):
        l = (jnp.tanh(r) - y) * (1.0 - jnp.tanh(r) ** 2)  # noqa: E741
        return jnp.clip(l, -0.3, 0.3)

    written = replace(p, update=short)
    for dynamics in (sl.SGD(1.0), sl.MiniBatchGD(0.1, 0.5), sl.SME(1.0, optimizer=sl.Momentum(0.2)), sl.GradientFlow()):
        run = lambda problem, dynamics: sl.simulate(problem, dynamics, 0.5, 60, repeats=2).dataset["self_overlap"].values
        plain, ours, theirs = run(p, dynamics), run(p, replace(dynamics, clip=0.3)), run(written, dynamics)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
        assert np.abs(ours - plain).max() > 1e-3


def test_the_perceptron_rule_learns():
    """`theta += y x` on mistakes: no gradient of any loss, the classification error is what is reported and falls."""
    problem = sl.Problem(
        lambda r, y: jnp.where(y * r[0] < 0, 1.0, 0.0), lambda r_star, z: jnp.sign(r_star[0]), sl.NoNoise(), 2.0,
        sl.GaussianTeacher([[1.0]]), sl.Init([[0.0]], [[1.0]]), update=lambda r, y: jnp.where(y * r < 0, -y, 0.0),
    )  # fmt: skip
    assert problem.kinks
    risk = sl.simulate(problem, sl.SGD(1.0), 4.0, 200, repeats=4).dataset["test_risk"].values
    assert risk[0] == pytest.approx(0.5, abs=0.01)
    assert risk[-1] < 0.35


def test_adam_has_a_gain_for_each_eigenvalue():
    """Unstandardised features: `torch.optim.Adam` knows each one's own size. The SME, whose gain is `lambda^(-1/2)` times one number,
    against steps: 5 joint standard errors of 8 runs and 3%, for the first steps. With one gain for all the self-overlap is off by 30%."""
    p, spectrum = tanh_regression(), sl.Spectrum([3.0, 0.8, 0.32], weights=[0.2, 0.3, 0.5])
    problem = replace(p, spectrum=spectrum, penalty=None)
    run = lambda dynamics: sl.simulate(problem, dynamics, 1.0, 400, batch_size=4, repeats=8, times=[0.0, 0.5, 1.0]).dataset
    optimizer = sl.Adam(0.05, 0.5)
    steps, diffusion = run(sl.SGD(0.2, optimizer=optimizer)), run(sl.SME(0.2, optimizer=optimizer))
    for name in ("self_overlap", "overlap", "test_risk"):
        room = 0.03 * np.abs(steps[name]).max() + 5 * np.hypot(steps[name + "_se"], diffusion[name + "_se"])
        assert (np.abs(steps[name] - diffusion[name]) < room).all(), name
