"""Real runs with numbers that are trained along: an optimiser's loop step by step, PyTorch's curves, and what a rate of zero is."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import sgdlimit as sl
from problems import CURVES, REFERENCE, tanh_regression
from sgdlimit import models
from sgdlimit.simulate import sgd
from sgdlimit.simulate.averaging import Averager
from sgdlimit.simulate.flow import FlowPath
from sgdlimit.simulate.mini_batch import MiniBatchPath
from sgdlimit.simulate.optimisers import Extras
from test_optimiser_runs import BATCH, BY, LR, OPTIMISERS, TIMES, D, Transform, indices
from test_simulate import draw

START = (0.5, -0.2)


def loss(r, y, a):
    """A unit with a bias and a second layer."""
    return 0.5 * (a[0] * jnp.tanh(r[0] + a[1]) - y) ** 2


def case(ridge=0.0, rate=1.0, penalty=None, **trained):
    c = tanh_regression()
    along = sl.Trained(START, rate, penalty, **trained)
    return sl.Problem(loss, c.label, c.noise, c.sample_ratio, c.teacher, c.init, sl.Ridge(ridge) if ridge else None, trained=along)


def gradients(x, y, theta, a):
    """Of the mean loss, in weights `(d,)` and in `a`; by hand."""
    unit = np.tanh(x @ theta + a[1])
    miss, slope = a[0] * unit - y, a[0] * (1 - unit**2)
    return (miss * slope) @ x / len(y), np.array([miss @ unit, miss @ slope]) / len(y)


def followed(problem, optimisers, batches, states, variance=1.0):
    """Weights and `a`, `(steps, d + p)` in units of the package, along the loop of one optimiser for each."""
    drawn = draw(problem, D)
    scale = np.sqrt(D * variance)
    x, y = np.asarray(drawn.rows, float) * scale, np.asarray(drawn.labels)
    theta, a = drawn.start[0] / scale, np.array(START)
    for optimiser, at in zip(optimisers, (theta, a), strict=True):
        optimiser.begin(at)
    found = [np.append(theta * scale, a)]
    for _ in range(states):
        chosen = next(batches)
        pulls = gradients(x[chosen], y[chosen], theta, a)
        theta, a = (optimiser.step(pull) for optimiser, pull in zip(optimisers, pulls, strict=True))
        found.append(np.append(theta * scale, a))
    return drawn, np.array(found)


def shown(path, drawn):
    with jax.enable_x64(True):
        return {output: np.array(state) for _, state, due in path.run(drawn, np.random.default_rng(3)) for output in due}


# --- step by step ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BY)
@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize(("variance", "own"), [(1.0, 3.0), (4.0, 1.0)], ids=["a learning rate of its own", "features of variance 4"])
@pytest.mark.parametrize("sampling", ["replacement", "reshuffle"])
def test_a_run_is_the_loop_of_its_optimiser(kind, name, variance, own, sampling):
    """The rate is the ratio of the learning rates over the variance of the features, or for Adam its root; with the latter `eps`, and
    AdamW's decay, are those of features of variance one, so they are left out."""
    name, settings = OPTIMISERS[name]
    adam = name != "SGD"
    if adam and variance != 1.0:
        settings = {**settings, "eps": 0.0, **({"weight_decay": 0.0} if name == "AdamW" else {})}
    lr = LR / variance
    optimisers = kind(name, lr=lr, **settings), kind(name, lr=own * lr, **settings)
    decay = 0.0 if name == "AdamW" else settings.get("weight_decay", 0.0)
    problem = case(decay / variance, own / np.sqrt(variance) if adam else own / variance, sl.Ridge(decay))
    drawn, states = followed(problem, optimisers, indices(sampling, 60, BATCH), 600, variance)
    dynamics = sl.dynamics_of(optimisers[0].read, BATCH, D, variance, sampling=sampling, penalty=problem.penalty)
    with jax.enable_x64(True):
        path = sgd.SGDPath(problem, dynamics, 60, D, BATCH, "gaussian", TIMES)
    assert 5 < path.diagnostics["steps"] < 600
    for output, state in shown(path, drawn).items():
        np.testing.assert_allclose(state[0], states[path.outputs[output]], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("optimizer", [None, sl.Momentum(0.2, nesterov=True)], ids=["plain", "nesterov"])
def test_mini_batches(optimizer):
    """A step lasts `step * fraction * n / d` for `a` as for the weights; products are in single precision."""
    size, rng, (kind, *_) = 30, np.random.default_rng(3), BY[0].values
    step = 0.02 if optimizer is None else 0.1
    last = step * size / D
    settings = {"momentum": 1 - last / 0.2, "nesterov": True} if optimizer else {}
    lr = last * (last / 0.2 if optimizer else 1.0)
    batches = (np.sort(rng.choice(60, size, replace=False, shuffle=False)) for _ in range(100))
    drawn, states = followed(case(), [kind("SGD", lr=lr, **settings), kind("SGD", lr=2 * lr, **settings)], batches, 70)
    with jax.enable_x64(True):
        path = MiniBatchPath(case(rate=2.0), sl.MiniBatchGD(step, 0.5, optimizer=optimizer), 60, D, 1, "gaussian", TIMES)
    for output, state in shown(path, drawn).items():
        np.testing.assert_allclose(state[0], states[path.outputs[output]], rtol=1e-4, atol=1e-5)


def test_an_optax_optimiser_trains_one_more_leaf():
    ball = Transform(
        lambda both: jax.tree.map(jnp.zeros_like, both),
        lambda pulls, b, both=None: (
            jax.tree.map(lambda pull, b: -LR * (0.9 * b + pull), pulls, b),
            jax.tree.map(lambda pull, b: 0.9 * b + pull, pulls, b),
        ),
    )
    problem = case(0.3, (2.0, 0.0), sl.Ridge(0.1))
    dynamics = sl.SGD.from_learning_rate(LR, BATCH, D, momentum=0.9)
    run = lambda given, **more: sl.simulate(problem, given, 1.0, D, batch_size=BATCH, repeats=2, **more).dataset
    ours, theirs = run(dynamics), run(sl.SGD(dynamics.step), optimizer=ball)
    for name in (*CURVES, "trained"):
        np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-8, atol=1e-10)
    assert (ours["trained"][:, 1] == START[1]).all()


# --- equations -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [0.0, 0.6])
def test_the_flow_is_the_solution_of_its_equations(tau):
    """Against SciPy's own method on gradients by hand, weights and `a` and their averages."""
    average, rate = sl.ExponentialAverage(0.4), np.array([2.0, 0.5])
    problem = case(0.1, rate, sl.Ridge(0.2))
    drawn = draw(problem, 30)
    x, y = np.asarray(drawn.rows, float), np.asarray(drawn.labels)
    times = np.array([0.7, 2.0])
    optimizer = sl.Momentum(tau) if tau else None
    with jax.enable_x64(True):
        path = FlowPath(problem, sl.GradientFlow(optimizer=optimizer), len(x), 30, 1, "gaussian", times, Extras(average))

    def force(at):
        pull, other = gradients(x, y, at[:30], at[30:])
        return -np.append(30 * pull + 0.1 * at[:30], rate * (other + 0.2 * at[30:]))

    def change(t, state):
        at, integral, velocity = state.reshape(3, 32)
        moved = velocity if tau else force(at)
        return np.concatenate([moved, at - integral / 0.4, (force(at) - velocity) / tau if tau else 0 * at])

    start = np.concatenate([drawn.start[0], START, np.zeros(64)])
    exact = solve_ivp(change, (0, 2.0), start, t_eval=times, rtol=1e-9, atol=1e-9).y.T
    for output, state in shown(path, drawn).items():
        np.testing.assert_allclose(state, exact[output].reshape(3, 32)[:2], atol=3e-4)


SHARED = {"horizon": 2.0, "n_features": 200, "repeats": 4, "seed": 3, "times": np.linspace(0.0, 2.0, 5)}


@pytest.mark.parametrize(
    "optimizer", [None, sl.Momentum(0.5), sl.Adam(0.2, 0.7, 0.1), sl.Adam(0.0, 0.5)], ids=["plain", "momentum", "adam", "rmsprop"]
)
def test_the_sme_is_near_sgd(optimizer):
    """At a small step SGD and its diffusion approximation have one limit, for batches of the size in `Trained`. 6 joint standard errors of
    4 runs at d = 200 (the data are the same, what is compared is smaller than what is said) and 2%."""
    problem = case(0.3, (2.0, 0.7), batch_size=4)
    sme = sl.simulate(problem, sl.SME(0.2, optimizer=optimizer), **SHARED).dataset
    run = sl.simulate(problem, sl.SGD(0.2, optimizer=optimizer), batch_size=4, **SHARED).dataset
    assert (np.abs(run["trained"][-1] - np.array(START)) > 0.01).all()
    for name in (*CURVES, "trained"):
        room = 0.02 * np.abs(run[name]).max() + 6 * np.hypot(run[f"{name}_se"], sme[f"{name}_se"])
        assert (np.abs(sme[name] - run[name]) < room).all(), name


def pulled(target):
    """A loss whose second number feels none of the data."""
    return lambda r, y, a: loss(r, y, jnp.array(START)) + 0.5 * (a[1] - target) ** 2


TO_ONE, TO_NINE = pulled(1), pulled(9)  # each one, so that its programs are shared
ALONE = {"rate": (0.0, 3.0), "penalty": sl.SmoothPenalty(lambda a: 0.25 * jnp.sum(a**2))}


@pytest.mark.parametrize("temperature", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["SGD", "reshuffled", "OnlineSGD", "MiniBatchGD", "SME", "GradientFlow"])
def test_noise_and_clipping_are_of_the_weights_alone(kind, temperature):
    """A number that feels none of the data, `da = -3 (a - 1 + a / 2) dt`: to the length of a step, which is up to 0.008."""
    quiet = replace(case(**ALONE), loss=TO_ONE)
    step = {"MiniBatchGD": (0.01, 0.5), "GradientFlow": ()}.get(kind, (0.5,))
    more = {"sampling": "reshuffle"} if kind == "reshuffled" else {}
    clip = {} if kind == "GradientFlow" else {"clip": 0.01}
    dynamics = getattr(sl, {"reshuffled": "SGD"}.get(kind, kind))(*step, temperature=temperature, **more, **clip)
    times = np.linspace(0.0, 1.0, 5)
    data = sl.simulate(quiet, dynamics, 1.0, 60, repeats=2, times=times)
    exact = 2 / 3 + (START[1] - 2 / 3) * np.exp(-4.5 * times)
    np.testing.assert_allclose(data.dataset["trained"][:, 1], exact, atol=0.02)
    np.testing.assert_array_equal(data.dataset["trained"][:, 0], START[0])


@pytest.mark.parametrize("kind", ["SGD", "OnlineSGD", pytest.param("SME", marks=pytest.mark.evidence), "MiniBatchGD"])
def test_a_gain_measures_the_mean_with_the_batch(kind):
    """The same number under RMSProp without memories: its gradient is all mean, so it moves by `rate / sqrt(batch)`, whatever the gradient,
    less what decays. A batch of `MiniBatchGD` is what it takes, and that of the SME what `Trained` says."""
    quiet = replace(case(batch_size=4, **ALONE), loss=TO_NINE)
    step = (0.01, 0.5) if kind == "MiniBatchGD" else (0.5,)
    dynamics = getattr(sl, kind)(*step, optimizer=sl.Adam(0.0, 0.0, decay=0.2))
    times = np.linspace(0.0, 1.0, 5)
    data = sl.simulate(quiet, dynamics, 1.0, 80, batch_size=4, repeats=2, times=times).dataset
    speed = 3.0 / np.sqrt(60 if kind == "MiniBatchGD" else 4)
    exact = speed / 0.6 + (START[1] - speed / 0.6) * np.exp(-0.6 * times)
    np.testing.assert_allclose(data["trained"][:, 1], exact, atol=0.04)


def test_a_flow_with_noise_moves_numbers_as_without():
    """Heat so small that it does nothing: the diffusion's steps, Heun's or through a memory, against the flow's."""
    problem = case(0.3, (2.0, 0.7), sl.Ridge(0.1))
    for optimizer in (None, sl.Momentum(0.5)):
        flow, warm = (sl.simulate(problem, sl.GradientFlow(optimizer=optimizer, temperature=T), **SHARED).dataset for T in (0.0, 1e-12))
        for name in (*CURVES, "trained"):
            np.testing.assert_allclose(warm[name], flow[name], atol=2e-3)


@pytest.mark.parametrize("dynamics", [sl.SGD(0.5), sl.OnlineSGD(0.5), sl.MiniBatchGD(0.013, 0.5), sl.SME(0.5)], ids=repr)
def test_averages_are_those_of_the_path(dynamics):
    """`a` averaged along a run against the averages of the `a` that it shows at many times: a step's length of the change."""
    average, times = sl.ExponentialAverage(0.3), np.linspace(0.0, 1.0, 101)
    runs = lambda **more: sl.simulate(case(0.3), dynamics, 1.0, 60, repeats=2, seed=1, times=times, **more).dataset["trained"].values
    plain, averaged = runs(), runs(average=average)
    weights = np.array([np.exp((times - t) / 0.3) * (times <= t) for t in times])
    weights[:, 0] *= 0.5
    np.fill_diagonal(weights, np.where(times > 0, 0.5, 1.0))
    np.testing.assert_allclose(averaged, weights @ plain / weights.sum(1, keepdims=True), atol=0.01)
    assert np.abs(averaged - plain).max() > 0.02
    assert Averager(average, times).reached(101) == 101


# --- what holds for all ----------------------------------------------------------------------------------------------------

ALL = [
    sl.SGD(0.8),
    sl.SGD(0.8, sampling="reshuffle", optimizer=sl.Adam(0.1, 0.7, 0.1)),
    sl.OnlineSGD(0.8, optimizer=sl.Momentum(0.3)),
    sl.MiniBatchGD(0.2, 0.5),
    sl.GradientFlow(),
    sl.SME(0.8),
    sl.SME(0.8, optimizer=sl.Momentum(0.3)),
]


def at_rest(r, y):
    return 0.5 * (START[0] * jnp.tanh(r[0] + START[1]) - y) ** 2


@pytest.mark.parametrize("dynamics", ALL, ids=repr)
def test_numbers_at_rest_are_constants_of_the_loss(dynamics, tmp_path):
    """To the last bit; and a file has them."""
    moving = case(0.3, 0.0, sl.Ridge(0.3))
    fixed = replace(moving, loss=at_rest, trained=None)
    given = {"horizon": 0.6, "n_features": 60, "batch_size": 2, "repeats": 2, "seed": 1, "times": [0.0, 0.3, 0.6]}
    runs, theirs = sl.simulate(moving, dynamics, **given), sl.simulate(fixed, dynamics, **given)
    for name in CURVES:
        np.testing.assert_array_equal(runs.dataset[name], theirs.dataset[name])
        np.testing.assert_array_equal(runs.dataset[f"{name}_se"], theirs.dataset[f"{name}_se"])
    np.testing.assert_array_equal(runs.dataset["trained"], np.broadcast_to(START, (3, 2)))
    np.testing.assert_array_equal(runs.dataset["trained_se"], 0.0)
    runs.save(tmp_path / "runs.nc")
    assert sl.load(tmp_path / "runs.nc").dataset.identical(runs.dataset)


@pytest.mark.parametrize("dynamics", ALL, ids=repr)
def test_a_run_has_its_numbers_in_file_and_dataset(dynamics, tmp_path):
    runs = sl.simulate(case(0.3), dynamics, 0.6, 60, batch_size=2, repeats=2, seed=1, times=[0.0, 0.3, 0.6])
    data = runs.dataset
    assert data["trained"].dims == ("time", "parameter")
    np.testing.assert_array_equal(data["trained"][0], START)
    np.testing.assert_array_equal(data["trained_se"][0], 0.0)
    assert (np.abs(data["trained"][-1] - data["trained"][0]) > 0.002).all()
    assert (data["trained_se"][-1] > 0).all()
    runs.save(tmp_path / "runs.nc")
    assert sl.load(tmp_path / "runs.nc").dataset.identical(data)


def test_risks_are_those_of_the_numbers_of_the_moment():
    """A large rate brings `a[0]` to its best at once, and both risks fall with it."""
    data = sl.simulate(case(rate=(50.0, 0.0)), sl.GradientFlow(), 1.0, 400, repeats=2, times=[0.0, 1.0]).dataset
    before, after = data["train_risk"].values
    assert after < 0.9 * before
    np.testing.assert_allclose(data["test_risk"][0], before, rtol=0.1)
    assert data["test_risk"][1] < 0.95 * data["test_risk"][0]


@pytest.mark.evidence
def test_observables_take_the_numbers_of_the_time():
    """A classifier with an intercept: its accuracy is that of `sign(r + a)`, on a fresh sample a Gaussian integral, of samples kept a
    mean; and the error bar has that of `a`."""
    m = models.logistic(intercept=True, teacher_intercept=2.0)
    problem = sl.Problem(m.loss, m.label, m.noise, 1.5, sl.GaussianTeacher([[1.0]]), sl.Init([[0.5]], [[0.3]]), trained=m.trained)
    runs = sl.simulate(problem, sl.SGD(1.0), 1.0, 150, repeats=3, times=[0.0, 1.0])
    hit = lambda r, r_star, y, a: jnp.where((r[0] + a[0]) * y > 0, 1.0, 0.0)
    for side in ("test", "train"):
        found, same = (sl.observe(problem, runs, one, side=side) for one in (sl.accuracy, hit))
        np.testing.assert_array_equal(found, same)
        np.testing.assert_array_equal(found.se, same.se)
    kept, a = runs.kept("samples"), runs.dataset["trained"].values[:, 0]
    np.testing.assert_allclose(found, ((kept.r[..., 0] + a) * kept.y.values[:, None] > 0).mean("path"), atol=1e-12)
    g = np.random.default_rng(0).standard_normal((2, 10**6))
    q, m = (float(runs.dataset[name][-1, 0, 0]) for name in ("self_overlap", "overlap"))
    up = 1 / (1 + np.exp(-(g[0] + 2)))
    exact = np.where(m * g[0] + np.sqrt(q - m**2) * g[1] + a[-1] > 0, up, 1 - up)
    fresh = sl.observe(problem, runs, sl.accuracy)
    assert abs(fresh[-1] - exact.mean()) < 4 * np.hypot(exact.std() / 1e3, 1e-3)
    size = sl.observe(problem, runs, lambda r, r_star, y, a: a[0])
    np.testing.assert_allclose(size, a)
    np.testing.assert_allclose(size.se, runs.dataset["trained_se"][:, 0], rtol=1e-6)
    with pytest.raises(sl.InputError, match=r"`observable` must map .* returns and a \(1,\) to a number"):
        sl.observe(problem, runs, lambda r, r_star, y: r[0])
    with pytest.raises(sl.InputError, match="`result` must be of 1 numbers trained along, but is of 0"):
        sl.observe(problem, sl.simulate(tanh_regression(), sl.SGD(1.0), 0.6, 60, repeats=2), sl.accuracy)


def test_real_runs_of_pytorch():
    """`torch.optim.SGD` on `a tanh(r)` at d = 2000, 12 runs; 8 runs at d = 1000: 3 joint standard errors of the mean and 1%, 2% of the
    overlap, which is small, for the finite size, as in `test_optimiser_runs`."""
    stored = json.loads((REFERENCE / "tanh_head-torch.json").read_text())
    times = np.array(stored["times"])
    head = replace(tanh_regression(), loss=lambda r, y, a: 0.5 * (a[0] * jnp.tanh(r[0]) - y) ** 2, trained=sl.Trained([0.5], 2.0))
    runs = sl.simulate(head, sl.SGD(1.5), times[-1], 1000, batch_size=4, repeats=8, seed=1, times=times).dataset
    for curve, short in zip((*CURVES, "trained"), ("q", "m", "train", "test", "a"), strict=True):
        mean, error = (np.array(stored[short][part]).reshape(runs[curve].shape) for part in ("mean", "se"))
        room = 3 * np.hypot(error, runs[f"{curve}_se"]) + (0.02 if curve == "overlap" else 0.01) * np.abs(mean).max()
        assert (np.abs(runs[curve] - mean) <= room).all(), curve
