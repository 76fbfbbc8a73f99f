"""Momentum, Adam, noise and clipping where equations close (one pass, discrete steps, the linear model): against the equations written out
again for SciPy, and against real runs in NumPy."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm

import sgdlimit as sl
from problems import CASES, CURVES, closed_forms, linear

LINEAR = {"ridge": 0.1, "noise_variance": 0.25, "start_variance": 0.5, "teacher_variance": 1.0, "start_overlap": 0.3}
TIMES = np.linspace(0.0, 3.0, 7)


# --- one pass ------------------------------------------------------------------------------------------------------------


def linear_one_pass(step, memory, temperature):
    """Self-overlap, overlap and response of the linear model in one pass: `C, P, Q`, `m, v` and 1 by one matrix (OPTIMISERS section 2)."""
    lam, noise, start, rho, c = LINEAR.values()
    C, P, Q, m, v, one = range(6)
    A = np.zeros((6, 6))
    A[C, P] = 2 / memory
    A[P, [P, Q, C, m]] = -1 / memory, 1 / memory, -(1 + lam), 1
    A[Q, [Q, P, v]] = -2 / memory, -2 * (1 + lam), 2
    A[Q, [C, m, one]] += step, -2 * step, step * (rho + noise) + 2 * temperature
    A[m, v] = 1 / memory
    A[v, [v, m, one]] = -1 / memory, -(1 + lam), rho
    states = np.array([expm(t * A) @ [c * c * rho + start, 0, 0, c * rho, 0, 1.0] for t in TIMES])
    kicked = np.array([expm(t * np.array([[0, 1 / memory], [-(1 + lam), -1 / memory]]))[0, 1] for t in TIMES])
    return states[:, C], states[:, m], kicked


@pytest.mark.parametrize("memory", [2.0, 0.3, 0.01, 1e-4])
def test_momentum_of_the_linear_model_in_one_pass(memory):
    dynamics = sl.OnlineSGD(0.8, optimizer=sl.Momentum(memory), temperature=0.05)
    found = sl.solve(linear(2.0, **LINEAR), dynamics, 3.0, rtol=1e-3, times=TIMES).dataset
    q, m, kicked = linear_one_pass(0.8, memory, 0.05)
    for name, truth in (("self_overlap", q), ("overlap", m)):
        gap = np.abs(found[name].values.ravel() - truth)
        assert (gap <= 5 * found[name + "_se"].values.ravel() + 1e-9).all()
        assert gap.max() < 1e-3 * truth.max()
    np.testing.assert_allclose(found["response"].values[:, 0, 0, 0], kicked, atol=3e-3)
    np.testing.assert_allclose(np.einsum("ttij->tij", found["correlation"].values), found["self_overlap"], atol=1e-9)
    assert np.linalg.eigvalsh(found["correlation"].values[..., 0, 0])[0] > -1e-9


@pytest.mark.evidence
def test_no_memory_is_the_gradient_itself():
    problem, how = CASES["committee"].build(), {"horizon": 3.0, "rtol": 0.01, "times": TIMES}
    plain, none, short, ahead = (
        sl.solve(problem, sl.OnlineSGD(1.0, optimizer=optimizer), **how).dataset
        for optimizer in (None, sl.Momentum(0.0), sl.Momentum(1e-7), sl.Momentum(1e-7, nesterov=True))
    )
    for name in (*CURVES, "correlation"):
        np.testing.assert_array_equal(none[name], plain[name])
        np.testing.assert_allclose(short[name], plain[name], atol=1e-5)
        np.testing.assert_array_equal(ahead[name], short[name])
    below = np.tril_indices(len(TIMES), -1)
    np.testing.assert_allclose(short["response"].values[below], plain["response"].values[below], atol=1e-5)
    assert (np.einsum("ttij->tij", short["response"].values) == 0).all()


def adam_by_quadrature(step, adam, temperature):
    """`tanh_regression` under Adam, from equations written out for one unit, averages by Gauss-Hermite rules, time by SciPy's Radau."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    g, x = np.meshgrid(nodes, nodes, indexing="ij")
    both = np.outer(weights, weights) / (2 * np.pi)
    rho, ridge, noise = 2.25, 0.05, 0.09

    def averages(q, m):
        w = m / np.sqrt(rho) * g + np.sqrt(max(q - m * m / rho, 1e-30)) * x
        star, tanh = np.tanh(np.sqrt(rho) * g), np.tanh(w)
        slope, gap = 1 - tanh**2, tanh - np.tanh(np.sqrt(rho) * g)
        bend = np.sum(both * (slope**2 - 2 * tanh * slope * (tanh - star)))
        pull = np.sum(both * slope * gap * g) * np.sqrt(rho)
        return bend, (pull - bend * m) / rho, np.sum(both * slope**2 * (gap**2 + noise))

    def rates(t, z):
        q, p, v, m, u, total = z
        bend, outside, square = averages(q, m)
        memory, second = adam.memory, adam.second_memory
        gain = 1 / np.sqrt(max(total, 1e-12) / (-second * np.expm1(-t / second))) / (1 - np.exp(-t / memory))
        force = lambda a, b: -(ridge + bend) * a - outside * b
        return [
            2 * gain * p - 2 * adam.decay * q,
            v * gain - adam.decay * p + (force(q, m) - p) / memory,
            2 * (force(p, u) - v) / memory + (step * square + 2 * temperature) / memory**2,
            gain * u - adam.decay * m,
            (force(m, rho) - u) / memory,
            square + 2 * temperature / step - total / second,
        ]

    early = 1e-6
    bend, outside, square = averages(1.0, 0.0)
    rate, noise_rate = early / adam.memory, step * square + 2 * temperature
    force, gain = -(ridge + bend), 1 / np.sqrt(noise_rate / step)
    begun = [
        1.0,
        (force + noise_rate * gain) * rate,
        noise_rate * early / adam.memory**2,
        0.0,
        -outside * rho * rate,
        noise_rate / step * early,
    ]
    return solve_ivp(rates, (early, 3.0), begun, "LSODA", TIMES[1:], first_step=early / 10, rtol=1e-7, atol=1e-10).y[[0, 3]]


@pytest.mark.parametrize("adam", [sl.Adam(0.3, 1.0, decay=0.1), sl.Adam(0.02, 0.02)], ids=str)
def test_adam_in_one_pass_by_quadrature(adam):
    problem = CASES["tanh_regression"].build()
    found = sl.solve(problem, sl.OnlineSGD(0.6, optimizer=adam, temperature=0.05), 3.0, rtol=2e-3, times=TIMES).dataset
    for name, truth in zip(("self_overlap", "overlap"), adam_by_quadrature(0.6, adam, 0.05), strict=True):
        np.testing.assert_allclose(found[name].values.ravel()[1:], truth, atol=2e-3 * truth.max(), err_msg=name)


def trained(problem, lr, beta, batch, features, steps, marks, rng, weight_decay=0.0):
    """Second moments of pre-activations under PyTorch's SGD(momentum=beta) or, with two betas, its AdamW, one pass; `marks` are steps."""
    k, d = problem.k, features
    spectrum = problem.spectrum
    sizes = np.ones(d) if spectrum is None else np.repeat(spectrum.eigenvalues, spectrum.counts(d))
    basis = np.linalg.qr(rng.standard_normal((d, problem.k_star + k)) * np.sqrt(sizes)[:, None])[0] / np.sqrt(sizes)[:, None]
    star = basis[:, : problem.k_star] @ np.linalg.cholesky(problem.rho).T  # exactly the second moments of the limit
    theta = star @ problem.init.overlap.T + basis[:, problem.k_star :] @ np.linalg.cholesky(problem.init.cov).T
    gradient, label = jax.jit(jax.vmap(jax.grad(problem.loss))), jax.jit(jax.vmap(problem.label))
    first, second, found = np.zeros((d, k)), np.zeros((d, k)), []
    for i in range(steps + 1):
        if i in marks:
            found.append(np.concatenate([theta.T @ (sizes[:, None] * theta), theta.T @ (sizes[:, None] * star)], 1))
        x = rng.standard_normal((batch, d)) * np.sqrt(sizes)
        y = label(x @ star, problem.noise_from_uniform(rng.random((batch, problem.noise_size))).reshape(batch))
        push = x.T @ np.asarray(gradient(x @ theta, y)) / batch
        if np.ndim(beta):
            first = beta[0] * first + (1 - beta[0]) * push
            second = beta[1] * second + (1 - beta[1]) * push**2
            corrected = first / (1 - beta[0] ** (i + 1)), second / (1 - beta[1] ** (i + 1))
            theta = (1 - lr * weight_decay) * theta - lr * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
        else:
            first = beta * first + push
            theta = theta - lr * first
    return np.array(found)


TWO = sl.Spectrum([2.5, 0.25], weights=[1 / 3, 2 / 3])
ONE_PASS = {
    "momentum": (CASES["committee"], None, 0.01 * 8 / 1500, 0.99),
    "momentum, spectrum": (CASES["tanh_regression"], TWO, 0.01 * 8 / 1500, 0.99),
    "Adam": (CASES["tanh_regression"], None, 0.6 * np.sqrt(8) / 1500, (0.95, 0.995)),
    "Adam, spectrum": (CASES["tanh_regression"], TWO, 0.5 * np.sqrt(8) / 1500, (0.95, 0.995)),
}


@pytest.mark.parametrize("case", ONE_PASS)
def test_one_pass_meets_real_runs(case):
    # 4 runs at d = 1500, batch 8: 3 joint standard errors with Student's t, and 2% for the finite size (1% at d = 6000).
    known, spectrum, lr, beta = ONE_PASS[case]
    problem = replace(known.build(), penalty=None, spectrum=spectrum)
    if np.ndim(beta):
        dynamics = sl.Adam.from_learning_rate(lr, 8, 1500, betas=beta, weight_decay=0.05)
    else:
        dynamics = sl.SGD.from_learning_rate(lr, 8, 1500, momentum=beta)
    advance = dynamics.step * 8 / 1500
    marks = np.round(TIMES / advance).astype(int)
    runs = [trained(problem, lr, beta, 8, 1500, marks[-1], marks, np.random.default_rng([3, i]), 0.05) for i in range(4)]
    theory = sl.solve(problem, sl.OnlineSGD(dynamics.step, optimizer=dynamics.optimizer), 3.01, rtol=0.005, times=marks * advance).dataset
    limit = np.concatenate([theory["self_overlap"].values, theory["overlap"].values], 2)
    mean, error = np.mean(runs, 0), np.std(runs, axis=0, ddof=1) / 2
    for part in (slice(0, problem.k), slice(problem.k, None)):
        gap = np.abs(mean - limit)[..., part]
        assert (gap <= 3 * 1.6 * error[..., part] + 0.02 * np.abs(limit[..., part]).max()).all(), gap.max()


def test_what_runs_away_with_momentum_says_so():
    problem = linear(2.0, **LINEAR)
    found = sl.solve(problem, sl.OnlineSGD(3.0, optimizer=sl.Momentum(0.5)), 60.0, rtol=0.1)
    assert found.status.code == "diverged"
    assert 1 < found.dataset.sizes["time"] < 41
    quartic = sl.Problem(lambda r, y: -(r[0] ** 4), problem.label, problem.noise, 2.0, problem.teacher, problem.init)
    found = sl.solve(quartic, sl.OnlineSGD(1.0, optimizer=sl.Momentum(0.5)), 50.0, times=[25.0, 50.0])
    assert found.status.code == "diverged"
    assert found.dataset["time"].values[-1] < 10


@pytest.mark.evidence
def test_noise_and_clipping_in_one_pass():
    # Linear model: a temperature adds int 2 T e^{-2 (1 + lam) s} ds to the noise of SGD, whose own factor is 1 - eta/2 less. Clipped at
    # its corner a squared error pushes like a Huber loss.
    problem, how = linear(2.0, **LINEAR), {"horizon": 3.0, "rtol": 1e-3, "times": TIMES}
    plain, warm, tight = (sl.solve(problem, sl.OnlineSGD(0.8, **more), **how).dataset for more in ({}, {"temperature": 0.1}, {"clip": 0.5}))
    rate = 2 * 1.1 - 0.8
    np.testing.assert_allclose(
        (warm["self_overlap"] - plain["self_overlap"]).values.ravel(), 0.2 * -np.expm1(-rate * TIMES) / rate, atol=1e-3
    )
    huber = replace(problem, loss=lambda r, y: jnp.where(jnp.abs(r[0] - y) < 0.5, 0.5 * (r[0] - y) ** 2, 0.5 * jnp.abs(r[0] - y) - 0.125))
    other = sl.solve(huber, sl.OnlineSGD(0.8), **how).dataset
    np.testing.assert_allclose(tight["self_overlap"], other["self_overlap"], atol=2e-3)
    np.testing.assert_allclose(tight["overlap"], other["overlap"], atol=2e-3)
    assert (tight["test_risk"] > other["test_risk"]).all()  # the loss that is reported is not clipped


# --- discrete steps --------------------------------------------------------------------------------------------------------

RATIO, STEPS = 2.0, 14


def matrix_runs(step, fraction, memory, nesterov, temperature, seeds=8, d=400):
    """The linear model on random matrices, in the loop that PyTorch's SGD(momentum, nesterov) is: self-overlap, overlap, train risk."""
    lam, noise, start, rho, c = LINEAR.values()
    n, runs = round(RATIO * d), []
    for seed in range(seeds):
        rng = np.random.default_rng([4, seed])
        x, z = rng.standard_normal((n, d)) / np.sqrt(d), np.sqrt(noise) * rng.standard_normal(n)
        star, xi = np.linalg.qr(rng.standard_normal((d, 2)))[0].T * np.sqrt(d)
        star = np.sqrt(rho) * star
        theta, run = c * star + np.sqrt(start) * xi, []
        length = step * fraction * RATIO
        beta, buffer = 1 - length / memory, np.zeros(d)
        for _ in range(STEPS + 1):
            residual = x @ (theta - star) - z
            run.append([theta @ theta / d, theta @ star / d, 0.5 * np.mean(residual**2)])
            batch = rng.choice(n, round(fraction * n), replace=False)
            push = step * x[batch].T @ residual[batch] + length * lam * theta + np.sqrt(2 * temperature * length) * rng.standard_normal(d)
            buffer = beta * buffer + push
            theta = theta - (1 - beta) * (push + beta * buffer if nesterov else buffer)
        runs.append(run)
    return np.mean(runs, 0), np.std(runs, axis=0, ddof=1) / np.sqrt(seeds)


@pytest.mark.parametrize(
    ("nesterov", "fraction", "temperature"), [(False, 1.0, 0.0), (True, 1.0, 0.1), (False, 0.5, 0.1), (True, 0.5, 0.0)]
)
def test_momentum_in_steps(nesterov, fraction, temperature):
    # Exact curves against random matrices (5 standard errors and 2/d), and the theory against them (5 of its standard errors).
    step, memory = 0.4 if fraction == 1 else 0.6, 2.0
    optimizer = sl.Momentum(memory, nesterov)
    values = list(LINEAR.values())
    truth = closed_forms.linear_descent(RATIO, step, fraction, *values[:4], STEPS, values[4], optimizer, temperature)
    mean, error = matrix_runs(step, fraction, memory, nesterov, temperature)
    exact = np.stack([truth[name] for name in CURVES[:3]], 1)
    assert (np.abs(mean - exact) < 5 * error + 2 / 400 * np.abs(exact).max(0)).all()
    dynamics = sl.MiniBatchGD(step, fraction, optimizer=optimizer, temperature=temperature)
    found = sl.solve(linear(RATIO, **LINEAR), dynamics, truth["time"][-1], rtol=0.01, times=truth["time"]).dataset
    for name in CURVES:
        gap, se = np.abs(found[name].values.ravel() - truth[name]), found[name + "_se"].values.ravel()
        assert (gap <= 5 * se + 1e-9).all(), name
    other = closed_forms.linear_descent(
        RATIO, step, fraction, *values[:4], STEPS, values[4], sl.Momentum(memory, not nesterov), temperature
    )
    assert np.abs(other["train_risk"] - truth["train_risk"]).max() > 0.03 * truth["train_risk"].max()  # in steps looking ahead matters


def test_no_memory_in_steps_is_the_gradient_itself():
    problem = CASES["tanh_regression"].build()
    plain, none, short = (
        sl.solve(problem, sl.MiniBatchGD(0.6, 0.5, optimizer=optimizer), 2.0, rtol=0.05).dataset
        for optimizer in (None, sl.Momentum(0.0, nesterov=True), sl.Momentum(0.4))
    )
    for name in CURVES:
        np.testing.assert_allclose(none[name], plain[name], atol=1e-12)
        np.testing.assert_allclose(short[name], plain[name], atol=1e-12)  # forgotten within a step
    assert np.isfinite(short["response"]).all()


def adam_in_steps(problem, dynamics, steps, rng, d):
    """Adam-mini of rows: one second moment each, the mean over features of the squared gradient, with PyTorch's corrections."""
    spectrum, k = problem.spectrum, problem.k
    sizes = np.ones(d) if spectrum is None else np.repeat(spectrum.eigenvalues, spectrum.counts(d))
    n = round(problem.sample_ratio * d)
    basis = np.linalg.qr(rng.standard_normal((d, problem.k_star + k)) * np.sqrt(sizes)[:, None])[0] / np.sqrt(sizes)[:, None] * np.sqrt(d)
    star = basis[:, : problem.k_star] @ np.linalg.cholesky(problem.rho).T
    theta = star @ problem.init.overlap.T + basis[:, problem.k_star :] @ np.linalg.cholesky(problem.init.cov).T
    x = rng.standard_normal((n, d)) * np.sqrt(sizes / d)
    y = jax.vmap(problem.label)(x @ star, problem.noise_from_uniform(rng.random((n, problem.noise_size))).reshape(n))
    loss, gradient = jax.jit(jax.vmap(problem.loss)), jax.jit(jax.vmap(jax.grad(problem.loss)))
    adam, eta, h = dynamics.optimizer, dynamics.step, dynamics.step * dynamics.fraction * problem.sample_ratio
    betas = [max(0.0, 1 - h / memory) for memory in (adam.memory, adam.second_memory)]
    first, second, found = np.zeros((d, k)), np.zeros(k), []
    for i in range(steps + 1):
        r = x @ theta
        found.append(
            [*np.ravel(theta.T @ (sizes[:, None] * theta) / d), *np.ravel(theta.T @ (sizes[:, None] * star) / d), loss(r, y).mean()]
        )
        batch = rng.choice(n, round(dynamics.fraction * n), replace=False)
        push = eta * x[batch].T @ np.asarray(gradient(r, y))[batch] + h * problem.ridge * theta
        push += np.sqrt(2 * dynamics.temperature * h) * rng.standard_normal((d, k))
        first = betas[0] * first + (1 - betas[0]) * push
        second = betas[1] * second + (1 - betas[1]) * np.mean(push**2, 0) / (eta * h)
        gain = 1 / (np.sqrt(second / (1 - betas[1] ** (i + 1))) + adam.eps) / (1 - betas[0] ** (i + 1))
        theta = (1 - h * adam.decay) * theta - gain * first
    return np.array(found)


@pytest.mark.parametrize(
    ("name", "spectrum", "fraction"), [("tanh_regression", None, 0.5), ("committee", None, 1.0), ("tanh_regression", TWO, 0.3)]
)
def test_adam_in_steps_meets_real_runs(name, spectrum, fraction):
    # 6 runs at d = 1000: 3 joint standard errors with Student's t, and 1.5% for the finite size, at every step.
    problem = replace(CASES[name].build(), spectrum=spectrum)
    dynamics = sl.MiniBatchGD(0.25 / fraction, fraction, optimizer=sl.Adam(1.0, 2.0, decay=0.1, eps=0.02), temperature=0.05)
    h, steps = 0.25 * problem.sample_ratio, 9
    runs = [adam_in_steps(problem, dynamics, steps, np.random.default_rng([5, i]), 1000) for i in range(6)]
    times = h * np.arange(steps + 1)
    found = sl.solve(problem, dynamics, times[-1], rtol=0.01, times=times).dataset
    limit = [found[curve].values.reshape(len(times), -1) for curve in CURVES[:3]]
    mean, error = np.mean(runs, 0), np.std(runs, axis=0, ddof=1) / np.sqrt(6)
    first = 0
    for part in limit:
        here = slice(first, first := first + part.shape[1])
        gap = np.abs(mean[:, here] - part)
        assert (gap <= 3 * 1.3 * error[:, here] + 0.015 * np.abs(part).max()).all(), (gap / np.abs(part).max()).max(0)


def test_paths_and_heat_of_steps_with_a_spectrum():
    # What the temperature adds to weights is the same for all eigenvalues, and adds up.
    problem, how = replace(linear(RATIO, **LINEAR), spectrum=TWO), {"rtol": 0.02, "times": 0.3 * RATIO * np.arange(7)}
    cold, warm = (sl.solve(problem, sl.MiniBatchGD(0.3, 1.0, optimizer=sl.Momentum(1.0), temperature=T), 3.6, **how) for T in (0.0, 0.2))
    added = np.mean([heat_of(problem, i, 0.2) for i in range(30)], 0)
    limit = (warm.dataset["self_overlap"] - cold.dataset["self_overlap"]).values.ravel()
    np.testing.assert_allclose(limit, added, atol=0.04 * limit.max())  # of 60 runs, each spreads by 10%
    paths = warm.coordinate_paths(4000, seed=1)
    weighed = (paths["eigenvalue"].values[:, None] * paths["theta"].values[..., 0] ** 2).mean(0)
    np.testing.assert_allclose(weighed, warm.dataset["self_overlap"].values.ravel(), rtol=0.15)


def heat_of(problem, seed, temperature, d=600):
    """What a temperature adds to the self-overlap under full batches with momentum at memory 1 and step 0.3, after each of six steps.
    Training is linear: over noise of both signs, and none, what is linear in it cancels."""
    rng, h = np.random.default_rng([6, seed]), 0.3 * RATIO
    sizes = np.repeat(problem.spectrum.eigenvalues, problem.spectrum.counts(d))
    star = np.sqrt(LINEAR["teacher_variance"]) * rng.standard_normal(d)
    theta = (LINEAR["start_overlap"] * star + np.sqrt(LINEAR["start_variance"]) * rng.standard_normal(d))[:, None] * np.ones(3)
    x = rng.standard_normal((round(RATIO * d), d)) * np.sqrt(sizes / d)
    y = x @ star + np.sqrt(LINEAR["noise_variance"]) * rng.standard_normal(len(x))
    velocity, found = np.zeros((d, 3)), []
    for _ in range(7):
        found.append(sizes @ theta**2 @ [0.5, -1.0, 0.5] / d)
        push = 0.3 * x.T @ (y[:, None] - x @ theta) - h * LINEAR["ridge"] * theta
        push += np.sqrt(2 * temperature * h) * np.outer(rng.standard_normal(d), [1, 0, -1])
        velocity = (1 - h) * velocity + h * push
        theta = theta + velocity
    return np.array(found)


# --- the linear model ------------------------------------------------------------------------------------------------------

STEP = 0.8
VALUES = (STEP, *list(LINEAR.values())[:4])  # as closed_forms.linear_model has them after sample_ratio


@pytest.mark.parametrize(("ratio", "memory", "temperature"), [(2.0, 0.5, 0.1), (0.6, 2.0, 0.0), (1.0, 0.05, 0.05)])
def test_linear_model_with_momentum_by_two_methods(ratio, memory, temperature):
    # Moments of every eigenvalue, and a contour around all of them with the Volterra equation; a schedule goes by SciPy.
    how = {"start_overlap": 0.3, "optimizer": sl.Momentum(memory), "temperature": temperature}
    one = closed_forms.linear_model(ratio, *VALUES, TIMES, **how)
    scheduled = closed_forms.linear_model(ratio, lambda t: STEP, *VALUES[1:], TIMES, **how)
    law = [1.0], [1.0], [VALUES[4]]
    other = closed_forms.linear_spectrum(ratio, *VALUES[:4], *law, TIMES, **how)
    for name in CURVES:
        np.testing.assert_allclose(other[name], one[name], atol=1e-7)
        np.testing.assert_allclose(scheduled[name], one[name], atol=1e-8)
    kernels = closed_forms.linear_kernels(ratio, *VALUES, TIMES, **how)
    np.testing.assert_allclose(np.diag(kernels["correlation"]), one["self_overlap"], rtol=1e-12)
    assert np.linalg.eigvalsh(kernels["correlation"])[0] > -1e-12
    assert np.abs(np.diag(kernels["response"])).max() < 1e-12  # through a velocity no kick arrives at once


def test_linear_momentum_has_the_limits_that_it_must():
    # No memory; many samples; short full batches are the heavy-ball flow and short small ones SGD, at first order in their length.
    how = {"start_overlap": 0.3, "temperature": 0.1}
    plain, short = (closed_forms.linear_model(RATIO, *VALUES, TIMES, **how, optimizer=o) for o in (None, sl.Momentum(1e-6)))
    many, online = (
        f(*VALUES, TIMES, **how, optimizer=sl.Momentum(0.7))
        for f in (lambda *a, **b: closed_forms.linear_model(1e9, *a, **b), closed_forms.online_linear)
    )
    for name in CURVES:
        np.testing.assert_allclose(short[name], plain[name], atol=1e-5)
        np.testing.assert_allclose(many[name], online[name], atol=1e-8)
    momentum = sl.Momentum(0.7)
    for full in (True, False):
        limit = closed_forms.linear_model(RATIO, 0.0 if full else STEP, *VALUES[1:], TIMES, 0.3, momentum)
        gaps = []
        for steps in (300, 600):
            size, fraction = (3.0 / steps / RATIO, 1.0) if full else (STEP, 3.0 / steps / RATIO / STEP)
            found = closed_forms.linear_descent(RATIO, size, fraction, *VALUES[1:], steps, 0.3, momentum)
            gaps.append(np.array([found[name][:: steps // 6] - limit[name] for name in CURVES]))
        assert np.abs(2 * gaps[1] - gaps[0]).max() < 0.05 * np.abs(gaps[0]).max() < 0.05 * 0.02


def test_momentum_moves_neither_the_noise_floor_nor_the_limit_of_stability():
    far = np.array([80.0])
    floors = [closed_forms.linear_model(3.0, *VALUES, far, 0.3, sl.Momentum(memory), 0.1) for memory in (0.0, 0.3, 3.0)]
    for name in CURVES:
        for other in floors[1:]:
            np.testing.assert_allclose(other[name], floors[0][name], rtol=1e-7)
    limit = closed_forms.stability_limit(3.0, VALUES[1])
    for memory in (0.3, 3.0):
        below, above = (
            closed_forms.linear_model(3.0, factor * limit, *VALUES[1:], [40.0, 80.0], 0.3, sl.Momentum(memory))["train_risk"]
            for factor in (0.85, 1.15)
        )
        assert below[1] < 1.1 * below[0]
        assert above[1] > 2 * above[0]


@pytest.mark.parametrize("spectrum", [None, TWO], ids=["isotropic", "spectrum"])
def test_linear_momentum_meets_real_runs(spectrum):
    # SGD of batches of two with replacement, 8 runs at d = 300: 5 standard errors and 3/d of the scale.
    memory, temperature, d = 0.6, 0.05, 300
    rho, c = LINEAR["teacher_variance"], LINEAR["start_overlap"]
    runs = [real_momentum(spectrum, memory, temperature, np.random.default_rng([8, i]), d) for i in range(8)]
    how = {"start_overlap": c, "optimizer": sl.Momentum(memory), "temperature": temperature}
    if spectrum is None:
        truth = closed_forms.linear_model(RATIO, *VALUES, TIMES, **how)
    else:
        law = spectrum.eigenvalues, spectrum.weights, [rho, rho]
        truth = closed_forms.linear_spectrum(RATIO, *VALUES[:4], *law, TIMES, **how)
    exact = np.stack([truth[name] for name in CURVES[:3]], 1)
    gap, error = np.abs(np.mean(runs, 0) - exact), np.std(runs, axis=0, ddof=1) / np.sqrt(8)
    assert (gap < 5 * error + 3 / d * exact.max(0)).all()


def real_momentum(spectrum, memory, temperature, rng, d):
    lam, noise, start, rho, c = LINEAR.values()
    sizes = np.ones(d) if spectrum is None else np.repeat(spectrum.eigenvalues, spectrum.counts(d))
    n, h = round(RATIO * d), 2 * STEP / d
    x = rng.standard_normal((n, d)) * np.sqrt(sizes / d)
    star, xi = np.linalg.qr(rng.standard_normal((d, 2)) * np.sqrt(sizes)[:, None])[0].T / np.sqrt(sizes) * np.sqrt(d)
    star = np.sqrt(rho) * star
    y, theta, velocity = x @ star + np.sqrt(noise) * rng.standard_normal(n), c * star + np.sqrt(start) * xi, np.zeros(d)
    marks, found = np.round(TIMES / h).astype(int), []
    for i in range(marks[-1] + 1):
        if i in marks:
            found.append([sizes @ theta**2 / d, (sizes * theta) @ star / d, 0.5 * np.mean((x @ theta - y) ** 2)])
        batch = rng.integers(n, size=2)
        push = -STEP * x[batch].T @ (x[batch] @ theta - y[batch]) - h * lam * theta
        push += np.sqrt(2 * temperature * h) * rng.standard_normal(d)
        velocity = (1 - h / memory) * velocity + h / memory * push
        theta = theta + velocity
    return np.array(found)


def test_closed_forms_refuse_what_they_are_not_for():
    with pytest.raises(
        sl.InputError, match=r"`optimizer` must be a Momentum or None for the closed forms of the linear model, but is Adam"
    ):
        closed_forms.linear_model(RATIO, *VALUES, TIMES, optimizer=sl.Adam())
    with pytest.raises(sl.InputError, match=r"`optimizer` must have a memory of at least"):
        closed_forms.linear_spectrum(RATIO, *VALUES[:4], [1.0], [1.0], [1.0], TIMES, optimizer=sl.Momentum(1e-6))
