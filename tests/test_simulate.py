"""Real runs: each dynamics against a second way to the same numbers, the draws against their laws, and what is refused."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

import sgdlimit as sl
from problems import CURVES, committee, linear, reference, tanh_regression
from sgdlimit.learning.risk import TestRisk
from sgdlimit.results import judge_growth
from sgdlimit.simulate import core, data, observe, online, sgd, sme
from sgdlimit.simulate.mini_batch import MiniBatchPath

SQUARE = linear(2.0, 0.0, 0.25, 0.5, 1.0)


def draw(problem, d, design="gaussian", seed=0):
    with jax.enable_x64(True):
        n = data.n_samples(problem, d)
        return data.draw_each(problem, design, data.allocate(n, d)[None], [np.random.default_rng(seed)])[0]


# --- the linear model, whose limit is known -------------------------------------------------------------------------------


def ridge_limit(delta, lam, eta, v0, rho, s2, times, diffusing):
    """THEORY section 3 by quadrature over the Marchenko-Pastur law (delta > 1) and a trapezoid rule for the Volterra equation."""
    low, high = (1 - delta**-0.5) ** 2, (1 + delta**-0.5) ** 2
    angle = (np.arange(400) + 0.5) * np.pi / 400
    a = (low + high) / 2 + (high - low) / 2 * np.cos(angle)
    weight = delta / (2 * np.pi * a) * ((high - low) / 2 * np.sin(angle)) ** 2 * np.pi / 400
    mean = lambda values: values @ weight
    t = np.linspace(0, times[-1], 2001)
    h, e = t[1], np.exp(-np.outer(t, a + lam))
    f = (1 - e) / (a + lam)
    q = mean(v0 * e**2 + rho * (f * a) ** 2 + s2 / delta * f**2 * a)
    residual = mean(v0 * e**2 * a + rho * (f * a - 1) ** 2 * a + s2 / delta * (f * a) ** 2 - 2 * s2 / delta * f * a) + s2
    m = mean(rho * f * a)
    if diffusing:
        k1, k2 = mean(a * e**2), mean(a**2 * e**2)
        for i in range(1, len(t)):
            past = k2[i] * residual[0] / 2 + k2[i - 1 : 0 : -1] @ residual[1:i]
            residual[i] = (residual[i] + eta * h * past) / (1 - eta * h * k2[0] / 2)
        q = q + eta * h * (np.convolve(k1, residual)[: len(t)] - (k1 * residual[0] + k1[0] * residual) / 2)
    at = np.searchsorted(t, np.asarray(times) - 1e-9)
    return {"self_overlap": q[at], "overlap": m[at], "train_risk": residual[at] / 2, "test_risk": ((q - 2 * m + rho + s2) / 2)[at]}


@pytest.mark.parametrize("dynamics", [sl.SGD(0.8), sl.SME(0.8), sl.GradientFlow(), sl.OnlineSGD(0.8)], ids=lambda d: type(d).__name__)
def test_ridge_meets_the_closed_form(dynamics):
    # 16 runs at d = 800, seed 5: t law with 15 degrees of freedom, and 0.5% of the curve's scale for the finite size. 5 standard errors
    # are a level of 2e-4 for each of the 20 (strongly correlated) comparisons.
    times = [0.0, 0.5, 1.0, 2.0, 4.0]
    result = sl.simulate(linear(2.0, 0.1, 0.25, 0.5, 1.0), dynamics, 4.0, 800, repeats=16, seed=5, times=times)
    delta = 1e6 if isinstance(dynamics, sl.OnlineSGD) else 2.0
    truth = ridge_limit(delta, 0.1, 0.8, 0.5, 1.0, 0.25, times, diffusing=not isinstance(dynamics, sl.GradientFlow))
    assert result.status.code == "done"
    for name in CURVES:
        gap = np.abs(result.dataset[name].values.ravel() - truth[name])
        allowed = 5 * result.dataset[name + "_se"].values.ravel() + 0.005 * np.abs(truth[name]).max()
        assert (gap < allowed).all(), (name, gap, allowed)


@pytest.mark.parametrize("variant", ["sgd", "sgd-batch63", "sgd-rademacher", "sgd-reshuffle", "sme", "gf"])
def test_reference_runs(variant):
    # Runs of another program at d = 4000 and 2000; here 8 at d = 1000, seed 2: 4 joint standard errors and 1% for the finite size.
    stored = reference("tanh_regression", variant)
    sampling = "reshuffle" if variant == "sgd-reshuffle" else "replacement"
    dynamics = {"sgd": sl.SGD(1.5, sampling), "sme": sl.SME(1.5), "gf-": sl.GradientFlow()}[(variant + "-")[:3]]
    options = {"sgd-batch63": {"batch_size": 31}, "sgd-rademacher": {"design": "rademacher"}, "sgd-reshuffle": {"batch_size": 7}}.get(
        variant, {}
    )
    runs = sl.simulate(tanh_regression(), dynamics, 4.0, 1000, seed=2, times=stored.times, **options).dataset
    for name in CURVES:
        gap = np.abs(runs[name].values - stored.mean[name])
        joint = np.hypot(runs[name + "_se"].values, stored.se[name])
        assert (gap <= 4 * joint + 0.01 * np.abs(stored.mean[name]).max()).all(), (name, gap.max())


# --- SGD, step by step -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1.3, lambda t: 2 / (1 + t)], ids=["constant", "schedule"])
@pytest.mark.parametrize(("batch", "sampling"), [(1, "replacement"), (4, "replacement"), (7, "reshuffle")])
def test_sgd_is_the_plain_loop(batch, sampling, step):
    # 60 samples are eight batches of seven and one of four.
    def batches(n, rng):
        while sampling == "replacement":
            yield rng.integers(n, size=(1, batch), dtype=np.int32)[0]
        while True:
            order = rng.permutation(n)
            yield from (order[i : i + batch] for i in range(0, n, batch))

    build = lambda problem, n, d, times: sgd.SGDPath(problem, sl.SGD(step, sampling), n, d, batch, "gaussian", times)
    as_the_plain_loop(build, batches, step)


@pytest.mark.parametrize("step", [0.2, lambda t: 0.4 / (1 + t)], ids=["constant", "schedule"])
@pytest.mark.parametrize("fraction", [1.0, 0.35])
def test_mini_batches_are_the_plain_loop(fraction, step):
    def batches(n, rng):
        while True:
            yield np.arange(n) if fraction == 1 else rng.choice(n, round(fraction * n), replace=False, shuffle=False)

    build = lambda problem, n, d, times: MiniBatchPath(problem, sl.MiniBatchGD(step, fraction), n, d, 1, "gaussian", times)
    as_the_plain_loop(build, batches, step, rtol=1e-5)  # matrix products in single precision


def as_the_plain_loop(build, batches, step, rtol=1e-10):
    """Committee loss and a smooth penalty, both differentiated by hand here; same data, same indices."""
    c = committee()
    penalty = sl.SmoothPenalty(lambda row: 0.3 * jnp.sum(jnp.sqrt(row**2 + 0.1)))
    problem = sl.Problem(c.loss, c.label, c.noise, c.sample_ratio, c.teacher, c.init, penalty)
    d, times = 30, np.array([0.0, 0.23, 0.9, 1.03])
    drawn = draw(problem, d)
    x, y, theta = np.asarray(drawn.rows, float), np.asarray(drawn.labels), drawn.start.copy()
    with jax.enable_x64(True):
        path = build(problem, len(x), d, times)
        got = {
            output: (t, state.reshape(drawn.start.shape)) for t, state, due in path.run(drawn, np.random.default_rng(3)) for output in due
        }

    t, clock, states, drawing = 0.0, [0.0], [theta], batches(len(x), np.random.default_rng(3))
    while t < 1.2:
        eta, chosen = step(t) if callable(step) else step, next(drawing)
        kick = np.zeros_like(theta)
        for i in chosen:
            r = np.tanh(theta @ x[i])
            residual = r[0] - 0.5 * r[1] - y[i]
            kick += np.outer(residual * np.array([1.0, -0.5]) * (1 - r**2), x[i])
        theta = theta - eta * kick - eta * len(chosen) / d * 0.3 * theta / np.sqrt(theta**2 + 0.1)
        t += eta * len(chosen) / d
        clock.append(t)
        states.append(theta)
    nearest = [int(np.argmin(np.abs(np.array(clock) - time))) for time in times]
    for output, j in enumerate(nearest):
        assert got[output][0] == pytest.approx(clock[j])
        np.testing.assert_allclose(got[output][1], states[j], rtol=rtol, atol=rtol / 100)


def test_an_epoch_has_every_sample_once():
    whole, parts = (sgd._Reshuffle(np.random.default_rng(4), 10, 4) for _ in range(2))
    indices, filled = np.zeros((9, 4), int), np.zeros(9, int)
    whole.fill(indices, filled)
    np.testing.assert_array_equal(filled, [4, 4, 2] * 3)
    epochs = [np.concatenate([indices[j][: filled[j]] for j in range(e, e + 3)]) for e in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    again = np.zeros((9, 4), int)
    for a, b in ((0, 2), (2, 3), (3, 7), (7, 9)):
        parts.fill(again[a:b], filled[a:b])
    for j in range(9):
        np.testing.assert_array_equal(again[j][: filled[j]], indices[j][: filled[j]])


def test_an_epoch_lasts_step_times_ratio():
    # 120 samples in 60 features, epochs of 18 batches of seven, the last of one sample.
    run = sl.simulate(SQUARE, sl.SGD(0.7, "reshuffle"), 2.8, 60, batch_size=7, repeats=2)
    assert run.diagnostics["steps"] == 2 * 18


def test_online_samples_are_few_at_a_time_and_never_the_same(monkeypatch):
    said = []
    monkeypatch.setattr(online, "samples", lambda *a: said.append(data.samples(*a)) or said[-1])
    runs = sl.simulate(SQUARE, sl.OnlineSGD(0.1), 4.0, 40, batch_size=3, repeats=2, times=[0.0, 1.0, 4.0])
    assert runs.diagnostics["steps"] == round(4.0 * 40 / 3 / 0.1)
    assert runs.dataset.attrs["n_samples"] == 3 * runs.diagnostics["steps"]
    assert len(said) == 2 * (runs.dataset.attrs["n_samples"] // 510)  # blocks after the first of each repeat
    assert runs.diagnostics["memory_bytes"] < 5e6
    np.testing.assert_array_equal(runs.dataset["train_risk"], runs.dataset["test_risk"])
    few = sl.simulate(SQUARE, sl.OnlineSGD(0.1), 4.0, 40, batch_size=3, repeats=2, times=[4.0])
    np.testing.assert_allclose(few.dataset["overlap"].values[-1], runs.dataset["overlap"].values[-1], rtol=1e-12)


def test_output_times_do_not_change_the_run():
    few, many = (sl.simulate(SQUARE, sl.SGD(0.7), 2.0, 80, repeats=2, times=times).dataset for times in ([2.0], np.linspace(0, 2, 7)))
    np.testing.assert_allclose(few["self_overlap"].values[-1], many["self_overlap"].values[-1], rtol=1e-12)
    np.testing.assert_allclose(many["time"].values, np.linspace(0, 2, 7))


# --- SME: the order of the scheme and its limit ----------------------------------------------------------------------------


def second_moment_map(problem, rows, h, eta, forward):
    """The linear map of `E[theta theta^T]` that one sweep makes for the loss `r^2/2`: exact expectation over the kicks (the change is
    quadratic in each, so four Hermite nodes are enough)."""
    n, d = rows.shape
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    total = np.zeros((d * d, d * d))
    for choice in itertools.product(range(4), repeat=n):
        kicks = nodes[list(choice)]
        one = lambda start, kicks=kicks: sme._sweep(
            jnp.asarray(start[None]), None, jnp.asarray(rows), jnp.zeros(n), jnp.sum(jnp.asarray(rows) ** 2, axis=1), jnp.asarray(kicks),
            jnp.zeros(()), h, eta, 1 / problem.sample_ratio, problem.ridge, None, forward,
            gradient=data.Static(problem.slopes.gradient), smooth=data.smooth_penalty(problem),
        )[0]  # fmt: skip
        matrix = np.stack([np.asarray(one(unit))[0] for unit in np.eye(d)], axis=1)
        total += np.prod(weights[list(choice)] / weights.sum()) * np.kron(matrix, matrix)
    return total


def test_sme_is_of_weak_order_two():
    # Three correlated samples in two dimensions: the second moments of the linear equation obey a closed linear equation.
    problem, eta = linear(1.5, 0.3, 0.25, 0.5, 1.0), 1.2
    rows = np.array([[1.0, 0.2], [0.6, -0.9], [-0.3, 0.7]])
    drift = -rows.T @ rows / 1.5 - 0.3 * np.eye(2)
    rate = np.kron(drift, np.eye(2)) + np.kron(np.eye(2), drift)
    rate += eta / 1.5 * sum(np.kron(np.outer(x, x), np.outer(x, x)) for x in rows)
    exact, errors = expm(rate), []
    with jax.enable_x64(True):
        for h in (0.25, 0.125, 0.0625):
            there, back = (second_moment_map(problem, rows, h, eta, forward) for forward in (True, False))
            errors.append(np.abs(np.linalg.matrix_power(back @ there, round(0.5 / h)) - exact).max())
    assert errors[-1] < 2e-3
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (orders > 1.8).all(), orders


# --- draws -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("design", sorted(data.DESIGNS))
def test_designs(design):
    # 300 x 203 independent entries: mean and variance within 4.5 standard errors, kurtosis of the right law, rows uncorrelated.
    rows = np.asarray(draw(linear(300 / 203, 0.0, 0.25, 0.5, 1.0), 203, design).rows, float) * np.sqrt(203)
    kurtosis = {"gaussian": 3.0, "rademacher": 1.0, "uniform": 1.8}[design]
    assert abs(rows.mean()) < 4.5 / np.sqrt(rows.size)
    assert abs((rows**2).mean() - 1) < 4.5 * np.sqrt((kurtosis - 1) / rows.size) + 1e-6
    assert abs((rows**4).mean() - kurtosis) < 4.5 * np.sqrt(96 / rows.size)
    assert abs((rows[1:] * rows[:-1]).mean()) < 4.5 / np.sqrt(rows.size)


@pytest.mark.parametrize("cov", [[[1.0, 0.9], [0.9, 1.0]], [[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])
def test_second_moments_are_imposed(cov):
    teacher = sl.SparseTeacher(density=0.3, cov=[[1.5, 0.3], [0.3, 1.0]])
    c = committee()
    problem = sl.Problem(c.loss, c.label, c.noise, 2.0, teacher, sl.Init([[0.5, 0.0], [0.0, 0.1]], cov))
    drawn = draw(problem, 100)
    np.testing.assert_allclose(drawn.teacher @ drawn.teacher.T / 100, teacher.cov, rtol=1e-9)
    np.testing.assert_allclose(drawn.start @ drawn.start.T / 100, problem.self_overlap_start, atol=1e-9)
    np.testing.assert_allclose(drawn.start @ drawn.teacher.T / 100, problem.overlap_start, atol=1e-9)
    assert 0.5 < (drawn.teacher == 0).all(axis=0).mean() < 0.9


def test_singular_teacher():
    problem = sl.Problem(committee().loss, lambda r, z: r[0] - r[1], sl.NoNoise(), 2.0, sl.GaussianTeacher([[1.0, 1.0], [1.0, 1.0]]),
                         sl.Init(np.zeros((2, 2)), np.eye(2)))  # fmt: skip
    drawn = draw(problem, 50)
    np.testing.assert_allclose(drawn.teacher[0], drawn.teacher[1], atol=1e-9)
    assert np.isfinite(sl.simulate(problem, sl.SGD(0.5), 0.5, 50, repeats=2).dataset["test_risk"]).all()


def test_seeds():
    run = lambda **kw: sl.simulate(SQUARE, sl.SGD(0.7), 1.0, 60, **{"repeats": 2, "seed": 7} | kw).dataset["train_risk"].values
    np.testing.assert_array_equal(run(), run())
    assert not np.array_equal(run()[1:], run(seed=8)[1:])
    # The first repeats do not depend on how many follow: means over 2 and 3 give the third, which must differ from both.
    two, three, four = run(), run(repeats=3), run(repeats=4)
    third, fourth = 3 * three - 2 * two, 4 * four - 3 * three
    assert third.min() > 0
    assert not np.allclose(third, fourth)
    np.testing.assert_allclose(four, (2 * two + third + fourth) / 4)


# --- observables -----------------------------------------------------------------------------------------------------------


def test_risks_are_those_of_the_weights():
    # 200000 fresh samples, label noise included: the quasi-random test risk within 4 standard errors; the train risk in double precision.
    problem, d = committee(), 50
    drawn, rng = draw(problem, d), np.random.default_rng(1)
    thetas = np.stack([drawn.start, drawn.start + 0.3 * rng.standard_normal((2, d))])
    q, m = observe.overlaps(thetas, drawn.teacher)
    with jax.enable_x64(True):
        (test, _), train = TestRisk(problem, 0)(q, m), observe.train_risk(problem, drawn, thetas)
    loss = lambda r, y: 0.5 * (np.tanh(r[:, 0]) - 0.5 * np.tanh(r[:, 1]) - y) ** 2
    x = rng.standard_normal((200_000, d)) / np.sqrt(d)
    s = np.tanh(x @ drawn.teacher.T)
    y = s[:, 0] - 0.5 * s[:, 1] + 0.2 * rng.standard_normal(len(x))
    for j, theta in enumerate(thetas):
        fresh = loss(x @ theta.T, y)
        assert abs(test[j] - fresh.mean()) < 4 * fresh.std() / np.sqrt(len(x))
        here = loss(np.asarray(drawn.rows, float) @ theta.T, np.asarray(drawn.labels)).mean()
        assert train[j] == pytest.approx(here, rel=1e-5)


def test_test_risk_is_nearly_exact():
    risk, error = TestRisk(SQUARE, 0)(np.array([[[0.5]], [[2.0]]]), np.array([[[0.0]], [[1.2]]]))
    np.testing.assert_allclose(risk, [(0.5 + 1 + 0.25) / 2, (2.0 - 2.4 + 1 + 0.25) / 2], rtol=5e-4)
    assert (error < 5e-4).all()


def test_train_risk_in_pieces(monkeypatch):
    whole = sl.simulate(SQUARE, sl.GradientFlow(), 1.0, 40, repeats=2, times=np.linspace(0, 1, 5)).dataset["train_risk"].values
    monkeypatch.setattr(observe, "CHUNK_VALUES", 160)
    pieces = sl.simulate(SQUARE, sl.GradientFlow(), 1.0, 40, repeats=2, times=np.linspace(0, 1, 5)).dataset["train_risk"].values
    np.testing.assert_allclose(pieces, whole, rtol=1e-5)


# --- problems of every kind ------------------------------------------------------------------------------------------------

THREE = sl.Problem(
    loss=lambda r, y: -jax.nn.log_softmax(r)[y],  # an integer label
    label=lambda r_star, z: jnp.argmax(r_star + z),
    noise=sl.Gumbel(shape=(3,)),
    sample_ratio=2.0,
    teacher=sl.GaussianTeacher(cov=np.eye(3)),
    init=sl.Init(overlap=np.zeros((3, 3)), cov=0.2 * np.eye(3)),
)
SIGN = sl.Problem(
    loss=lambda r, y: jnp.logaddexp(0.0, -y * r[0]),
    label=lambda r_star, z: jnp.sign(r_star[0] + z),
    noise=sl.StudentT(3),
    sample_ratio=0.7,
    teacher=sl.EmpiricalTeacher(np.sign(np.sin(np.arange(1, 200)))[:, None]),
    init=sl.Init(overlap=[[0.1]], cov=[[0.5]]),
    penalty=sl.SmoothPenalty(lambda theta: 0.1 * jnp.sum(jnp.sqrt(theta**2 + 0.01))),
)


@pytest.mark.parametrize(
    "dynamics",
    [
        sl.SGD(lambda t: 1 / (1 + t)),
        sl.SGD(1.0, "reshuffle"),
        sl.SME(lambda t: 1 / (1 + t)),
        sl.GradientFlow(),
        sl.OnlineSGD(lambda t: 1 / (1 + t)),
        sl.MiniBatchGD(lambda t: 1 / (1 + t), 0.3),
    ],
    ids=["SGD", "reshuffled", "SME", "flow", "online", "batches"],
)
@pytest.mark.parametrize("problem", [THREE, SIGN], ids=["three classes", "sign, smooth penalty"])
def test_learns(problem, dynamics, tmp_path):
    result = sl.simulate(problem, dynamics, 2.0, 60, repeats=2, times=[0.0, 1.0, 2.0])
    assert result.status.code == "done"
    assert all(np.isfinite(values).all() for values in result.dataset.values())
    assert result.dataset["train_risk"].values[-1] < result.dataset["train_risk"].values[0]
    result.save(tmp_path / "runs.nc")
    assert sl.load(tmp_path / "runs.nc").diagnostics["steps"] == result.diagnostics["steps"] > 0


def test_says_what_was_run():
    before, said = jax.config.jax_enable_x64, []
    result = sl.simulate(SQUARE, sl.SGD(0.7), 1.0, 60, batch_size=5, repeats=3, design="uniform", progress=lambda *a: said.append(a))
    attrs = {"dynamics": "SGD(step=0.7)", "n_features": 60, "n_samples": 120, "batch_size": 5, "repeats": 3, "design": "uniform", "seed": 0,
             "teacher_size": 1.0}  # fmt: skip
    assert result.dataset.attrs == attrs
    assert result.diagnostics["steps"] == round(60 / 0.7 / 5)
    assert result.diagnostics["memory_bytes"] > 4 * 60 * 120
    fractions = [fraction for fraction, _ in said]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1, abs=0.05)
    assert "3 of 3" in said[-1][1]
    assert jax.config.jax_enable_x64 == before
    np.testing.assert_allclose(result.dataset["overlap_se"].values[0], 0, atol=1e-12)


def test_interrupt_propagates():
    def stop(fraction, text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sl.simulate(SQUARE, sl.SGD(0.7), 1.0, 60, repeats=2, progress=stop)


# --- divergence is a result --------------------------------------------------------------------------------------------------


def test_still_growing():
    result = sl.simulate(SQUARE, sl.SGD(2.5), 8.0, 400, repeats=3)
    assert result.status.code == "diverged"
    assert "since t = " in str(result.status)
    assert result.dataset.sizes["time"] == 41


@pytest.mark.parametrize(
    "dynamics", [sl.SGD(2.5), sl.SME(2.5), sl.OnlineSGD(3.0), sl.MiniBatchGD(0.6, 1.0)], ids=["SGD", "SME", "online", "descent"]
)
def test_diverged(dynamics):
    result = sl.simulate(SQUARE, dynamics, 60.0, 200, repeats=3)
    assert result.status.code == "diverged"
    assert "1000 times" in str(result.status)
    assert 1 < result.dataset.sizes["time"] < 41
    assert all(np.isfinite(values).all() for values in result.dataset.values())


@pytest.mark.parametrize("dynamics", [sl.SGD(1.0), sl.SME(1.0), sl.GradientFlow()], ids=["SGD", "SME", "flow"])
def test_explodes_in_finite_time(dynamics):
    problem = sl.Problem(lambda r, y: -(r[0] ** 4), SQUARE.label, SQUARE.noise, 2.0, SQUARE.teacher, SQUARE.init)
    result = sl.simulate(problem, dynamics, 50.0, 50, repeats=2, times=[0.0, 25.0, 50.0])
    assert result.status.code == "diverged"
    assert result.dataset["time"].values.tolist() == [0.0]
    with pytest.raises(sl.InputError, match="must start before the training diverges"):
        sl.simulate(problem, dynamics, 50.0, 50, repeats=2, times=[50.0])


def test_judgement_of_growth():
    t = np.linspace(0, 10, 41)
    assert judge_growth(t, 1 + 0 * t) is None
    assert judge_growth(t, np.exp(-t)) is None
    assert judge_growth(t, 3 - 2 * np.exp(-3 * t)) is None  # overfitted, but settled
    assert judge_growth(t, 1 + 4 * t * np.exp(-t / 2)) is None  # turned
    status = judge_growth(t, 1 + 0.1 * (t - 2) ** 2 - 0.4)
    assert status is not None
    assert status.code == "diverged"
    assert "since t = 4.25" in status.message
    assert judge_growth(t[:1], t[:1] + 1) is None
    assert judge_growth(t[:2], np.array([1.0, 5.0])) is not None


# --- what is refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"problem": 3}, "`problem` must be an sl.Problem"),
        ({"dynamics": "sgd"}, "`dynamics` must be one that can be simulated.*known: SGD, SME, GradientFlow"),
        ({"dynamics": sl.SGD}, "`dynamics` must be"),
        ({"horizon": -1.0}, "`horizon` must be positive"),
        ({"times": [0.0, 2.0]}, "`times` must lie in"),
        ({"n_features": 4}, "`n_features` must be a whole number, at least 10"),
        ({"n_features": 60.0}, "`n_features` must be a whole number"),
        ({"n_features": 10**7}, "`n_features` must leave the simulation in memory.*GiB.*fewer features"),
        ({"batch_size": 0}, "`batch_size` must be a whole number, at least 1"),
        ({"batch_size": 121}, "`batch_size` must be at most the number of samples, 120"),
        ({"batch_size": 100}, "`batch_size` must let a step end within t = 1.*at most 85"),
        ({"dynamics": sl.SGD(100.0)}, "`n_features` must let a step end"),
        ({"repeats": 1}, "`repeats` must be a whole number, at least 2.*standard error"),
        ({"repeats": True}, "`repeats` must be"),
        ({"seed": -1}, "`seed` must be"),
        ({"seed": 0.5}, "`seed` must be"),
        ({"design": "gausian"}, "did you mean `gaussian`"),
        ({"design": None}, "`design` must be"),
        ({"dynamics": sl.SGD(lambda t: 1 - 2 * t)}, "`step` must be positive at all times"),
        ({"dynamics": sl.SME(lambda t: 1 - 2 * t)}, "`step` must be positive at all times"),
        ({"dynamics": sl.OnlineSGD(lambda t: 1 - 2 * t)}, "`step` must be positive at all times"),
        ({"dynamics": sl.OnlineSGD(100.0)}, "`n_features` must let a step end"),
        ({"dynamics": sl.MiniBatchGD(1.0, 1.0)}, r"`step` must let a step end within t = 1, but is 1.0 \(a step lasts .* here 2\)"),
        ({"dynamics": sl.MiniBatchGD(1.0, 0.001)}, "`fraction` must take at least one of 120 samples, but is 0.001"),
        ({"dynamics": sl.MiniBatchGD(1e-9, 1.0)}, "`step` must reach t = 1 within 100,000,000 steps, but is 1e-09"),
    ],
)
def test_refusals(change, words):
    arguments = {"problem": SQUARE, "dynamics": sl.SGD(0.7), "horizon": 1.0, "n_features": 60, "repeats": 2} | change
    with pytest.raises(sl.InputError, match=words):
        sl.simulate(**arguments)


def test_too_few_samples_or_rows():
    few = sl.Problem(SQUARE.loss, SQUARE.label, SQUARE.noise, 0.01, SQUARE.teacher, SQUARE.init)
    with pytest.raises(sl.InputError, match="at least one sample"):
        sl.simulate(few, sl.SGD(0.7), 1.0, 20, repeats=2)
    empty = sl.Problem(SQUARE.loss, SQUARE.label, SQUARE.noise, 2.0, sl.SparseTeacher(1e-6, [[1.0]]), SQUARE.init)
    with pytest.raises(sl.InputError, match=r"`n_features` must be larger.*teacher"):
        sl.simulate(empty, sl.SGD(0.7), 1.0, 20, repeats=2)


def test_every_path_is_a_dynamics():
    assert set(core.PATHS) == {sl.SGD, sl.SME, sl.GradientFlow, sl.OnlineSGD, sl.MiniBatchGD}
