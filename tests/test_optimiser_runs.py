"""Real runs with optimisers: `torch.optim`'s arithmetic step by step, noise and averages against what is known, real PyTorch's curves."""

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

import sgdlimit as sl
from problems import CURVES, REFERENCE, tanh_regression
from sgdlimit.learning.averages import weights
from sgdlimit.simulate import sgd
from sgdlimit.simulate.flow import FlowPath
from sgdlimit.simulate.mini_batch import MiniBatchPath
from sgdlimit.simulate.optimisers import Extras
from test_simulate import draw

LR, BATCH, D = 0.01, 6, 40  # 60 samples: ten batches
TIMES = np.array([0.0, 0.05, 0.4, 1.0])


# --- step by step ----------------------------------------------------------------------------------------------------------


class Torch:
    """`torch.optim.NAME(theta, lr=lr, **settings)` in double precision."""

    def __init__(self, name, lr=LR, **settings):
        self.name, self.lr, self.settings = name, lr, settings

    def begin(self, theta):
        torch = pytest.importorskip("torch")
        self.theta = torch.tensor(theta, requires_grad=True)
        self.optimizer = getattr(torch.optim, self.name)([self.theta], lr=self.lr, **self.settings)
        self.read = self.optimizer

    def step(self, gradient):
        torch = pytest.importorskip("torch")
        self.theta.grad = torch.tensor(gradient)
        self.optimizer.step()
        return self.theta.detach().numpy()


class ByHand(Torch):
    """The same in NumPy, after PyTorch's documentation."""

    def begin(self, theta):
        defaults = {"SGD": {"momentum": 0.0, "nesterov": False}, "Adam": {"betas": (0.9, 0.999), "eps": 1e-8}, "RMSprop": {"eps": 1e-8}}
        self.group = {"lr": self.lr, "weight_decay": 0.0, **defaults["Adam" if "Adam" in self.name else self.name], **self.settings}
        self.read = type(self.name, (), {"param_groups": [self.group]})()
        self.theta, self.first, self.second, self.steps = theta.copy(), 0.0, 0.0, 0

    def step(self, gradient):
        g, lr, decay = self.group, self.lr, self.group["weight_decay"]
        if self.name == "AdamW":
            self.theta = self.theta * (1.0 - lr * decay)
        else:
            gradient = gradient + decay * self.theta
        self.steps += 1
        if self.name == "SGD":
            self.first = g["momentum"] * self.first + gradient
            self.theta = self.theta - lr * (gradient + g["momentum"] * self.first if g["nesterov"] else self.first)
            return self.theta
        (a, b), j = g.get("betas") or (0.0, g["alpha"]), self.steps if self.name != "RMSprop" else np.inf
        self.first, self.second = a * self.first + (1 - a) * gradient, b * self.second + (1 - b) * gradient**2
        self.theta = self.theta - lr * self.first / (1 - a**j) / (np.sqrt(self.second / (1 - b**j)) + g["eps"])
        return self.theta


OPTIMISERS = {
    "plain": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9, "weight_decay": 0.3}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "adam": ("Adam", {"betas": (0.8, 0.99), "weight_decay": 0.3}),
    "adamw": ("AdamW", {"weight_decay": 0.3, "eps": 0.01}),
    "no first moment": ("Adam", {"betas": (0.0, 0.9)}),
    "rmsprop": ("RMSprop", {"alpha": 0.8, "weight_decay": 0.3}),
}
BY = [pytest.param(ByHand, id="by hand"), pytest.param(Torch, id="torch", marks=pytest.mark.torch)]


def case(ridge):
    c = tanh_regression()
    return sl.Problem(c.loss, c.label, c.noise, c.sample_ratio, c.teacher, c.init, sl.Ridge(ridge) if ridge else None)


def followed(problem, optimiser, batches, states):
    """Weights `(1, d)` after as many steps of an optimiser's loop: features of variance one, and the mean over the batch."""
    drawn = draw(problem, D)
    x, y = np.asarray(drawn.rows, float) * np.sqrt(D), np.asarray(drawn.labels)
    theta = drawn.start / np.sqrt(D)
    optimiser.begin(theta)
    found = [theta]
    for _ in range(states):
        chosen = next(batches)
        s = np.tanh(x[chosen] @ theta[0])
        theta = optimiser.step(((s - y[chosen]) * (1 - s**2) @ x[chosen] / len(chosen))[None])
        found.append(theta.copy())
    return drawn, np.array(found) * np.sqrt(D)


def shown(path, drawn):
    with jax.enable_x64(True):
        return {output: np.array(theta) for _, theta, due in path.run(drawn, np.random.default_rng(3)) for output in due}


def indices(sampling, n, batch):
    rng = np.random.default_rng(3)
    while True:
        if sampling == "replacement":
            yield rng.integers(n, size=(1, batch), dtype=np.int32)[0]
        else:
            yield from rng.permutation(n).reshape(-1, batch)


@pytest.mark.parametrize("kind", BY)
@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("sampling", ["replacement", "reshuffle"])
def test_a_run_is_the_loop_of_the_optimiser_it_was_read_from(kind, name, sampling):
    optimiser = kind(OPTIMISERS[name][0], **OPTIMISERS[name][1])
    problem = case(0.0 if optimiser.name == "AdamW" else optimiser.settings.get("weight_decay", 0.0))
    drawn, states = followed(problem, optimiser, indices(sampling, 60, BATCH), 600)
    dynamics = sl.dynamics_of(optimiser.read, BATCH, D, sampling=sampling, penalty=problem.penalty)
    with jax.enable_x64(True):
        path = sgd.SGDPath(problem, dynamics, 60, D, BATCH, "gaussian", TIMES)
    assert 5 < path.diagnostics["steps"] < 600
    for output, theta in shown(path, drawn).items():
        np.testing.assert_allclose(theta, states[path.outputs[output]], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", BY)
@pytest.mark.parametrize("nesterov", [False, True])
def test_mini_batches_have_momentum_and_look_ahead(kind, nesterov):
    optimiser, size = kind("SGD", momentum=0.8, nesterov=nesterov), 30
    rng = np.random.default_rng(3)
    batches = (np.sort(rng.choice(60, size, replace=False, shuffle=False)) for _ in range(30))
    drawn, states = followed(case(0.0), optimiser, batches, 30)
    step = LR * D / ((1 - 0.8) * size)
    memory = step * size / D / (1 - 0.8)
    dynamics = sl.MiniBatchGD(step, 0.5, optimizer=sl.Momentum(memory, nesterov))
    with jax.enable_x64(True):
        path = MiniBatchPath(case(0.0), dynamics, 60, D, 1, "gaussian", TIMES)
    for output, theta in shown(path, drawn).items():
        np.testing.assert_allclose(theta, states[path.outputs[output]], rtol=1e-4, atol=1e-5)  # products in single precision


class Transform(NamedTuple):
    """What optax calls a `GradientTransformation`."""

    init: object
    update: object


HEAVY_BALL = Transform(
    lambda theta: jnp.zeros_like(theta), lambda gradient, b, theta=None: (-LR * (0.9 * b + gradient), 0.9 * b + gradient)
)


def test_an_optax_optimiser_trains_in_units_of_features_of_variance_one():
    """With features of variance 1, mean losses and the penalty in the gradient, heavy ball is `sl.Momentum` of that learning rate."""
    dynamics = sl.SGD.from_learning_rate(LR, BATCH, D, momentum=0.9)
    run = lambda given, **more: sl.simulate(case(0.3), given, 1.0, D, batch_size=BATCH, repeats=2, **more).dataset
    ours, theirs = run(dynamics), run(sl.SGD(dynamics.step), optimizer=HEAVY_BALL)
    for name in CURVES:
        np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-8, atol=1e-10)
    mini = sl.MiniBatchGD(0.2, 0.5)
    assert np.isfinite(sl.simulate(case(0.3), mini, 1.0, D, repeats=2, optimizer=HEAVY_BALL).dataset["test_risk"]).all()


@pytest.mark.torch
@pytest.mark.parametrize(("name", "settings"), [("Adagrad", {}), ("RMSprop", {"alpha": 0.9}), ("Adamax", {})])
def test_optax_is_pytorch(name, settings):
    optax = pytest.importorskip("optax")
    theirs = {
        "Adagrad": lambda: optax.adagrad(LR, initial_accumulator_value=0.0, eps=1e-10),
        "RMSprop": lambda: optax.rmsprop(LR, 0.9, eps_in_sqrt=False),
        "Adamax": lambda: optax.adamax(LR),
    }[name]()
    drawn, states = followed(case(0.0), Torch(name, **settings), indices("replacement", 60, BATCH), 60)
    with jax.enable_x64(True):
        path = sgd.SGDPath(case(0.0), sl.SGD(0.5), 60, D, BATCH, "gaussian", TIMES, Extras(transform=theirs))
    for output, theta in shown(path, drawn).items():
        np.testing.assert_allclose(theta, states[path.outputs[output]], rtol=1e-6, atol=1e-8)


# --- noise, where it is known ----------------------------------------------------------------------------------------------

HEAT, PULL, LAST = 0.3, 1.4, 1.2
NOTHING = sl.Problem(lambda r, y: 0.0 * r[0], lambda r_star, z: r_star[0], sl.NoNoise(), 1.5, sl.GaussianTeacher([[1.0]]),
                     sl.Init([[0.5]], [[0.5]]), sl.Ridge(PULL))  # fmt: skip


def stirred(memory, times):
    """`E[theta^2]` of `dV = (-PULL theta dt + sqrt(2 HEAT) dB - V dt) / memory`, `dtheta = V dt`, from rest, or without a memory."""
    if not memory:
        fade = np.exp(-2 * PULL * times)
        return 0.75 * fade + HEAT / PULL * (1 - fade)
    drift = np.array([[0.0, 1.0], [-PULL / memory, -1.0 / memory]])
    rate = np.kron(drift, np.eye(2)) + np.kron(np.eye(2), drift)
    whole = np.block([[rate, np.array([[0.0], [0.0], [0.0], [2 * HEAT / memory**2]])], [np.zeros((1, 5))]])
    return np.array([(expm(whole * t) @ [0.75, 0.0, 0.0, 0.0, 1.0])[0] for t in times])


@pytest.mark.parametrize("memory", [0.0, 0.05, 0.7])
@pytest.mark.parametrize("kind", ["SGD", "OnlineSGD", "MiniBatchGD", "SME", "GradientFlow"])
def test_noise_is_of_its_temperature(kind, memory):
    """Weights that feel a ridge and noise alone: the mean square of 400 x 8 Gaussian ones has a relative error of 2.5%; four of them, and
    what a step of 0.02 or less does."""
    step = {"SGD": (2.0,), "OnlineSGD": (2.0,), "MiniBatchGD": (0.02 / (0.5 * 1.5), 0.5), "SME": (2.0,), "GradientFlow": ()}[kind]
    dynamics = getattr(sl, kind)(*step, temperature=HEAT, optimizer=sl.Momentum(memory))
    times = np.linspace(0.0, LAST, 4)
    runs = sl.simulate(NOTHING, dynamics, LAST, 400, batch_size=4, repeats=8, seed=5, times=times).dataset["self_overlap"].values.ravel()
    np.testing.assert_allclose(runs, stirred(memory, times), rtol=0.1 + 0.03 * (kind == "MiniBatchGD"))


def test_a_gain_measures_noise_with_the_gradient():
    """Noise alone under RMSProp, as a script has it that adds noise to its gradients: the gain is `(2 T / step)^(-1/2)`, so the mean square
    grows by `2 T t gain^2 = step t`. As above; 1/60 of the steps have few squares to measure."""
    flat = sl.Problem(NOTHING.loss, NOTHING.label, NOTHING.noise, 1.5, NOTHING.teacher, NOTHING.init)
    makes = {"SGD": (1.0, np.inf), "OnlineSGD": (1.0, np.inf), "SME": (1.0, 0.0), "MiniBatchGD": (0.5, 0.0)}
    for kind, (step, memory) in makes.items():
        more = {"fraction": 0.5} if kind == "MiniBatchGD" else {}
        dynamics = getattr(sl, kind)(step, optimizer=sl.Adam(0.0, memory), temperature=HEAT, **more)
        runs = sl.simulate(flat, dynamics, 1.5, 400, repeats=8).dataset["self_overlap"].values.ravel()
        np.testing.assert_allclose(runs[-1], 0.75 + 1.5 * step, rtol=0.1)


# --- diffusions ------------------------------------------------------------------------------------------------------------

SHARED = {"horizon": 2.0, "n_features": 150, "repeats": 4, "seed": 3, "times": np.linspace(0.0, 2.0, 5)}


def test_a_short_memory_is_none():
    """The same data, other noise: 5 joint standard errors of 4 runs each, and 1%."""
    for make in (sl.GradientFlow, lambda **more: sl.SME(1.0, **more)):
        plain, short = (sl.simulate(case(0.3), make(optimizer=o), **SHARED).dataset for o in (None, sl.Momentum(2e-3)))
        for name in CURVES:
            room = 0.01 * np.abs(plain[name]).max() + 5 * np.hypot(plain[name + "_se"], short[name + "_se"])
            if make is sl.GradientFlow:
                room = 0.01 * np.abs(plain[name]).max()
            assert (np.abs(short[name] - plain[name]) < room).all(), name


@pytest.mark.parametrize("optimizer", [sl.Momentum(0.5), sl.Adam(0.2, 0.7, 0.1), sl.Adam(0.0, 0.5)], ids=["momentum", "adam", "rmsprop"])
def test_the_sme_is_near_sgd_and_does_not_depend_on_its_steps(optimizer, monkeypatch):
    """At a small step SGD and its diffusion approximation have one limit. 6 joint standard errors of 4 runs at d = 150 (the data are the
    same, what is compared is smaller than what is said), and 2%. Half the internal step changes less than the noise between runs."""
    sme = sl.simulate(case(0.3), sl.SME(0.2, optimizer=optimizer), **SHARED).dataset
    run = sl.simulate(case(0.3), sl.SGD(0.2, optimizer=optimizer), batch_size=2, **SHARED).dataset
    for name in CURVES:
        room = 0.02 * np.abs(run[name]).max() + 6 * np.hypot(run[name + "_se"], sme[name + "_se"])
        assert (np.abs(sme[name] - run[name]) < room).all(), name


def test_heavy_ball_flow_is_exact_for_the_linear_model():
    """Residual by residual: `tau u'' + u' = -(a + ridge) u + ...` by the exponential of one matrix, on the data of the run."""
    problem = sl.Problem(lambda r, y: 0.5 * (r[0] - y) ** 2, lambda r_star, z: r_star[0] + 0.3 * z, sl.Normal(), 1.5,
                         sl.GaussianTeacher([[1.0]]), sl.Init([[0.2]], [[0.5]]), sl.Ridge(0.1))  # fmt: skip
    tau, drawn = 0.6, draw(problem, 30)
    x, y = np.asarray(drawn.rows, float), np.asarray(drawn.labels)
    with jax.enable_x64(True):
        path = FlowPath(problem, sl.GradientFlow(optimizer=sl.Momentum(tau)), len(x), 30, 1, "gaussian", np.array([0.7, 2.0]),
                        Extras(average=sl.ExponentialAverage(0.4)))  # fmt: skip
    pull, push = x.T @ x / 1.5 + 0.1 * np.eye(30), x.T @ y / 1.5
    zero, one = np.zeros((30, 30)), np.eye(30)
    whole = np.block([
        [zero, one, zero, zero[:, :1]],
        [-pull / tau, -one / tau, zero, push[:, None] / tau],
        [one, zero, -one / 0.4, zero[:, :1]],
        [np.zeros((1, 91))],
    ])  # fmt: skip
    for output, theta in shown(path, drawn).items():
        t = [0.7, 2.0][output]
        exact = expm(whole * t) @ np.concatenate([drawn.start[0], np.zeros(60), [1.0]])
        np.testing.assert_allclose(theta, [exact[:30], exact[60:90]], atol=2e-4)


# --- averages --------------------------------------------------------------------------------------------------------------


PATHS = [
    sl.SGD(0.5),
    sl.OnlineSGD(0.5),
    sl.MiniBatchGD(0.013, 0.5),
    sl.GradientFlow(),
    sl.SME(0.5),
    sl.SME(0.5, optimizer=sl.Momentum(0.3)),
]


@pytest.mark.parametrize("average", [sl.ExponentialAverage(0.3), sl.TailAverage(0.4)], ids=repr)
@pytest.mark.parametrize("dynamics", PATHS, ids=repr)
def test_averages_are_those_of_the_path(dynamics, average):
    """Weights averaged along the run against those of a run that shows them at many times: 1% of the self-overlap, and of a coordinate
    the size of a jump, for steps that end beside the times."""
    if isinstance(dynamics, sl.SME) and average == sl.TailAverage(0.4):
        pytest.skip("the SME's steps end where tails begin, so it is another path")
    times = np.linspace(0.0, 1.0, 101)
    runs = lambda **more: sl.simulate(case(0.3), dynamics, 1.0, 60, repeats=2, seed=1, times=times, **more)
    theta = runs().kept("coordinates").theta.values[:, :, 0]
    found = runs(average=average)
    assert found.dataset.attrs["average"] == repr(average)
    np.testing.assert_allclose(found.kept("coordinates").theta.values[:, :, 0], theta @ weights(average, times).T, atol=0.1)
    mean = (theta @ weights(average, times).T) ** 2
    np.testing.assert_allclose(found.dataset["self_overlap"].values.ravel(), mean.mean(0), rtol=0.01)


def test_what_a_time_counts_for():
    times = np.linspace(0.0, 2.0, 401)
    for average, exact in (
        (sl.ExponentialAverage(0.5), lambda t: (t - 0.5 * (1 - np.exp(-t / 0.5))) / (1 - np.exp(-t / 0.5))),
        (sl.TailAverage(0.25), lambda t: 0.875 * t),
    ):
        found = weights(average, times)
        np.testing.assert_allclose(found.sum(1), 1.0)
        np.testing.assert_allclose((found @ times)[1:], exact(times[1:]), rtol=1e-9)
        np.testing.assert_allclose((weights(average, times[[0, 7, 60, 150, 400]]) @ times[[0, 7, 60, 150, 400]])[-1], exact(2.0), rtol=1e-9)


# --- real PyTorch's curves -------------------------------------------------------------------------------------------------

# `torch.optim` at d = 2000, 12 runs (`data/reference`); its overlaps are imposed at the start as ours are, its test risk is by a quadrature
# that is 0.15% off at the start.
TORCH = {
    "momentum": (sl.SGD(1.5, optimizer=sl.Momentum(1.0)), 4, {}),
    "adam": (sl.Adam.from_learning_rate(0.5 / 2000 * 8**0.5, 8, 2000, eps=1e-12), 8, {}),
    "noise": (sl.SGD(1.5, temperature=0.1), 4, {}),
    "average": (sl.SGD(1.5), 4, {"average": sl.ExponentialAverage(1.0)}),
}


@pytest.mark.parametrize("name", TORCH)
def test_real_runs_of_pytorch(name):
    """8 runs at d = 1000, Adam's at 2000, whose memories are in steps: 3 joint standard errors of the mean and 1%, 2% of the overlap, which
    is small, for the finite size (a few parts in a thousand here and there) and 84 comparisons of curves that move together."""
    stored = json.loads((REFERENCE / f"tanh_{name}-torch.json").read_text())
    dynamics, batch, more = TORCH[name]
    times = np.array(stored["times"])
    d = 2000 if name == "adam" else 1000
    problem = case(0.0 if name == "adam" else 0.05)
    runs = sl.simulate(problem, dynamics, times[-1], d, batch_size=batch, repeats=8, seed=1, times=times, **more).dataset
    for curve, short in zip(CURVES, ("q", "m", "train", "test"), strict=True):
        mean, error = (np.array(stored[short][part]) for part in ("mean", "se"))
        joint = np.hypot(error, runs[curve + "_se"])
        room = 3 * joint + (0.02 if curve == "overlap" else 0.01) * np.abs(mean).max()
        assert (np.abs(runs[curve] - mean) <= room).all(), curve
