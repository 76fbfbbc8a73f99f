"""Numbers trained along with the weights where equations close (one pass, discrete steps): against equations written out again for SciPy
and NumPy, and against training loops with PyTorch's rules."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import sgdlimit as sl
from marks import cases
from problems import CURVES
from sgdlimit.theory import closed_forms

ALL = (*CURVES, "trained")
TIMES = np.linspace(0.0, 3.0, 7)


def _offset_loss(r, y, a):
    return 0.5 * (r[0] + a[0] - y) ** 2


def _offset_label(r_star, z):
    return r_star[0] + 1.0 + 0.3 * z


def intercept(**changes):
    """A linear model whose labels have an offset of one."""
    problem = sl.Problem(
        loss=_offset_loss,
        label=_offset_label,
        noise=sl.Normal(),
        sample_ratio=2.0,
        teacher=sl.GaussianTeacher(cov=[[2.0]]),
        init=sl.Init(overlap=[[0.3]], cov=[[0.2]]),
        trained=sl.Trained(start=[-0.5], rate=0.8),
    )
    return replace(problem, **changes)


def _head(r, y, a):
    return 0.5 * (a[0] * jnp.tanh(r[0]) + a[1] - y) ** 2


def _relu_with_bias(r, y, a):
    return 0.5 * (jnp.maximum(r[0] + a[0], 0.0) - y) ** 2


def _label(r_star, z):
    return 1.5 * jnp.tanh(r_star[0]) + 0.4 + 0.3 * z


def network(loss=_head, start=(0.5, 0.0), **changes):
    problem = sl.Problem(
        loss=loss,
        label=_label,
        noise=sl.Normal(),
        sample_ratio=1.5,
        teacher=sl.GaussianTeacher(cov=[[2.25]]),
        init=sl.Init(overlap=[[0.2]], cov=[[1.0]]),
        penalty=sl.Ridge(0.05),
        trained=sl.Trained(start),
    )
    return replace(problem, **changes)


def gaps(found, truth):
    """The largest difference of each curve, relative to its scale."""
    return {name: np.abs(found[name].values - np.reshape(values, found[name].shape)).max() / np.abs(values).max()
            for name, values in truth.items()}  # fmt: skip


# --- one pass ------------------------------------------------------------------------------------------------------------


def saad_solla(heads, q, m, rho, second, step, noise, rates, ridges, times):
    """Committee of erf units with a trained second layer `heads`, whose averages are in closed form (Saad and Solla, Phys. Rev. E 52)."""
    k, total = len(q), len(q) + len(rho)
    student = range(k)

    def slopes(t, z):
        a, q, m = z[:k], z[k : k + k * k].reshape(k, k), z[k + k * k :].reshape(k, -1)
        c = np.block([[q, m], [m.T, rho]])
        out = np.concatenate([a, -second])  # the error is the sum of all units with these weights, less the noise
        one = 1.0 + np.diag(c)

        def i2(i, j):
            return 2 / np.pi * np.arcsin(c[i, j] / np.sqrt(one[i] * one[j]))

        def i3(i, b, j):
            size = one[i] * one[j] - c[i, j] ** 2
            return 2 / np.pi / np.sqrt(size) * (c[b, j] * one[i] - c[i, b] * c[i, j]) / one[i]

        def i4(i, j, u, v):
            size = one[i] * one[j] - c[i, j] ** 2
            inner = lambda x, y, cxy: (size * cxy - c[j, x] * c[j, y] * one[i] - c[i, x] * c[i, y] * one[j]
                                       + c[i, j] * (c[i, x] * c[j, y] + c[i, y] * c[j, x]))  # fmt: skip
            ratio = inner(u, v, c[u, v]) / np.sqrt(inner(u, u, one[u]) * inner(v, v, one[v]))
            return 4 / np.pi**2 / np.sqrt(size) * np.arcsin(ratio)

        everyone = range(total)
        push = np.array([[a[i] * sum(out[j] * i3(i, b, j) for j in everyone) for b in everyone] for i in student])
        noisy = lambda i, j: noise**2 * 2 / np.pi / np.sqrt(one[i] * one[j] - c[i, j] ** 2)
        errors = lambda i, j: sum(out[u] * out[v] * i4(i, j, u, v) for u in everyone for v in everyone) + noisy(i, j)
        square = np.array([[a[i] * a[j] * errors(i, j) for j in student] for i in student])
        pull = np.array([sum(out[j] * i2(i, j) for j in everyone) for i in student])
        dq = -push[:, :k] - push[:, :k].T - 2 * ridges[0] * q + step * square
        dm = -push[:, k:] - ridges[0] * m
        return np.concatenate([-rates * (pull + ridges[1] * a), dq.ravel(), dm.ravel()])

    start = np.concatenate([heads, np.ravel(q), np.ravel(m)])
    found = solve_ivp(slopes, (0.0, times[-1]), start, "RK45", times, rtol=1e-8, atol=1e-10).y.T
    return {
        "trained": found[:, :k],
        "self_overlap": found[:, k : k + k * k].reshape(-1, k, k),
        "overlap": found[:, k + k * k :].reshape(len(times), k, -1),
    }


def test_one_pass_of_a_trained_second_layer_by_saad_and_solla():
    erf = lambda x: jax.scipy.special.erf(x / np.sqrt(2.0))
    rho, second, noise = np.array([[1.2, 0.3], [0.3, 0.8]]), np.array([1.0, -0.6]), 0.2
    heads, rates = np.array([0.4, 0.3]), np.array([1.0, 0.5])
    problem = sl.Problem(
        loss=lambda r, y, a: 0.5 * (a[0] * erf(r[0]) + a[1] * erf(r[1]) - y) ** 2,
        label=lambda r_star, z: 1.0 * erf(r_star[0]) - 0.6 * erf(r_star[1]) + noise * z,
        noise=sl.Normal(),
        sample_ratio=1.0,
        teacher=sl.GaussianTeacher(rho),
        init=sl.Init(overlap=[[0.2, 0.0], [0.0, 0.1]], cov=[[0.5, 0.1], [0.1, 0.6]]),
        penalty=sl.Ridge(0.02),
        trained=sl.Trained(heads, rates, penalty=sl.Ridge(0.05)),
    )
    times = np.linspace(0.0, 8.0, 9)
    found = sl.solve(problem, sl.OnlineSGD(1.2), 8.0, rtol=2e-3, times=times).dataset
    truth = saad_solla(heads, problem.self_overlap_start, problem.overlap_start, rho, second, 1.2, noise, rates, (0.02, 0.05), times)
    assert max(gaps(found, truth).values()) < 3e-3
    assert abs(found["trained"].values[-1] - heads).min() > 0.05  # it has gone somewhere


def linear_by_euler(problem, dynamics, times, dt=1e-4):
    """The intercept's linear model in one pass behind an optimiser, by Euler's rule: moments of weight and velocity, and the offset."""
    optimizer, eta, gains = dynamics.optimizer, dynamics.step, isinstance(dynamics.optimizer, sl.Adam)
    memory, decay = optimizer.memory, getattr(optimizer, "decay", 0.0)
    second = getattr(optimizer, "second_memory", 1.0)
    rho, noise, along = problem.rho[0, 0], 0.09, problem.trained
    a, v, (rate,), pull = along.start[0], 0.0, along.rate, along.penalty.strength
    q, m, P, Q, Y = problem.self_overlap_start[0, 0], problem.overlap_start[0, 0], 0.0, 0.0, 0.0
    squares, found = np.zeros(2), []
    for i in range(round(times[-1] / dt) + 1):
        if np.abs(times - i * dt).min() < dt / 2:
            found.append((a, q, m))
        offset = a - 1.0
        error, force = q - 2 * m + rho + offset**2 + noise, -(offset + pull * a)
        gain = np.ones(2)
        if gains:
            squares = squares + dt * (np.array([error, error - offset**2 + along.batch_size * force**2]) - squares / second)
            sizes = squares / -(second * np.expm1(-(i + 1) * dt / second))
            gain = 1.0 / np.sqrt(sizes) / -np.expm1(-(i + 1) * dt / memory)
        # V = (theta's velocity before gain), with P = E[V theta], Q = E[V^2], Y = E[V r*]
        dP = gain[0] * Q - decay * P + (-P - q + m) / memory
        dQ = (-2 * Q - 2 * P + 2 * Y) / memory + eta * error / memory**2
        dY = (-Y - m + rho) / memory
        dv = (force - v) / memory
        q, m = q + dt * (2 * gain[0] * P - 2 * decay * q), m + dt * (gain[0] * Y - decay * m)
        a = a + dt * rate * (gain[1] * v - decay * a)
        P, Q, Y, v = P + dt * dP, Q + dt * dQ, Y + dt * dY, v + dt * dv
    return dict(zip(("trained", "self_overlap", "overlap"), np.array(found).T, strict=True))


@pytest.mark.parametrize("optimizer", [sl.Momentum(0.5), sl.Adam(0.3, 1.0, decay=0.2), sl.Adam(0.05, 0.2)], ids=str)
def test_the_optimisers_of_one_pass_by_euler(optimizer):
    problem = intercept(trained=sl.Trained([-0.5], 0.8, penalty=sl.Ridge(0.1), batch_size=4.0))
    dynamics = sl.OnlineSGD(0.6, optimizer=optimizer)
    found = sl.solve(problem, dynamics, 3.0, rtol=2e-3, times=TIMES).dataset
    assert max(gaps(found, linear_by_euler(problem, dynamics, TIMES)).values()) < 3e-3


def test_a_short_memory_is_none_and_a_spectrum_changes_nothing_in_that():
    problem = network(spectrum=sl.Spectrum([0.4, 1.6], [0.5, 0.5]))
    how = {"horizon": 3.0, "rtol": 0.01, "times": TIMES}
    plain, short = (sl.solve(problem, sl.OnlineSGD(0.7, optimizer=optimizer), **how).dataset for optimizer in (None, sl.Momentum(1e-7)))
    for name in ALL:
        np.testing.assert_allclose(short[name], plain[name], atol=2e-5, err_msg=name)


# --- training in steps ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [None, sl.Momentum(1.0), sl.Momentum(1.0, nesterov=True)], ids=str)
def test_full_batches_train_an_intercept_as_the_spectrum_of_the_data_says(optimizer):
    """Errors of all samples follow `e -> e - step X X^T e - rate h mean(e)`: the mean one meets `X X^T` by its spectral law alone."""
    problem, dynamics = intercept(), sl.MiniBatchGD(0.25, 1.0, optimizer=optimizer)
    length, steps, rate = 0.25 * 2.0, 12, 0.8
    values, weights = closed_forms.marchenko_pastur(problem.sample_ratio, 40)
    eigenvalues, part = np.append(2.0 * values, 0.0), np.sqrt(np.append(weights / 2.0, 0.5))  # X X^T has n of them, of which n - d are zero
    beta = 0.0 if optimizer is None else 1.0 - length / optimizer.memory
    ahead = optimizer is not None and optimizer.nesterov
    # What weights make of the errors' part along the ones, and the offset; each has PyTorch's buffer.
    by_weights, offset, buffers, found = np.zeros_like(part), -1.5, [0.0, 0.0], []
    for _ in range(steps + 1):
        found.append(offset + 1.0)
        error = by_weights + offset * part
        forces = -0.25 * eigenvalues * error, -rate * length * part @ error
        buffers = [beta * old + (1.0 - beta) * force for old, force in zip(buffers, forces, strict=True)]
        moved = [beta * new + (1.0 - beta) * force if ahead else new for new, force in zip(buffers, forces, strict=True)]
        by_weights, offset = by_weights + moved[0], offset + moved[1]
    found_here = sl.solve(problem, dynamics, steps * length, rtol=0.01, times=np.arange(steps + 1) * length).dataset
    np.testing.assert_allclose(found_here["trained"].values[:, 0], found, atol=5 * found_here["trained_se"].values.max() + 1e-6)
    assert found_here["trained_se"].values.max() < 5e-3


# --- both, against training loops ------------------------------------------------------------------------------------------------


def compiled(problem, clip):
    """Gradients in weights and numbers, loss and labels of many samples."""

    def clipped(r, y, a):
        by_r, by_a = jax.grad(problem.loss, (0, 2))(r, y, a)
        return by_r * jnp.minimum(1.0, clip / jnp.linalg.norm(by_r)), by_a

    slopes, risk = (jax.vmap(f, (0, 0, None)) for f in (clipped, problem.loss))
    return tuple(map(jax.jit, (slopes, risk, jax.vmap(problem.label))))


def script(problem, functions, optimizer, rates, betas, batch, d, marks, rng, n=None, row=False):
    """PyTorch's SGD(momentum) or AdamW, on fresh samples or (`n`) on batches of so many, in features of variance one: state at `marks`.
    `rates` are learning rates of weights and of numbers, `row` one gain for each student row."""
    k, spectrum = problem.k, problem.spectrum
    sizes = np.ones(d) if spectrum is None else np.repeat(spectrum.eigenvalues, spectrum.counts(d))
    star = rng.standard_normal((d, 1)) @ np.linalg.cholesky(problem.rho) / np.sqrt(d)
    W = star @ problem.init.overlap.T + rng.standard_normal((d, k)) @ np.linalg.cholesky(problem.init.cov) / np.sqrt(d)
    parameters = [W, np.array(problem.trained.start)]
    slopes, risk, label = functions
    decay = getattr(optimizer, "decay", 0.0)

    def draw(count):
        x = rng.standard_normal((count, d)) * np.sqrt(sizes)
        return x, np.asarray(label(x @ star, rng.standard_normal(count)))

    first, second, found = [0.0, 0.0], [0.0, 0.0], []
    x, y = draw(n or batch)
    for i in range(marks[-1] + 1):
        W, a = parameters
        if i in marks:
            train = np.mean(risk(x @ W, y, a)) if n else np.nan
            found.append(((W.T * sizes) @ W, (W.T * sizes) @ star, a, train))
        if n:
            which = np.sort(rng.choice(n, batch, replace=False))
            use, labels = x[which], y[which]
        else:
            use, labels = draw(batch)
        by_r, by_a = map(np.asarray, slopes(use @ W, labels, a))
        gradients = [use.T @ by_r / batch + problem.ridge * W, by_a.mean(0)]
        for j, gradient in enumerate(gradients):
            first[j] = betas[0] * first[j] + (1 - betas[0]) * gradient
            step = first[j]
            if isinstance(optimizer, sl.Adam):
                square = (gradient**2).mean(0) if row and j == 0 else gradient**2
                second[j] = betas[1] * second[j] + (1 - betas[1]) * square
                step = step / (1 - betas[0] ** (i + 1)) / np.sqrt(second[j] / (1 - betas[1] ** (i + 1)))
            parameters[j] = (1 - rates[j] * decay) * parameters[j] - rates[j] * step
    return found


def against_script(problem, dynamics, batch, d, length, marks, runs=10, n=None):
    """The theory's dataset and the curves of runs, of which `length` is a step's; learning rates are those of the docs."""
    optimizer = dynamics.optimizer
    gains, memories = isinstance(optimizer, sl.Adam), [getattr(optimizer, name, 0.0) for name in ("memory", "second_memory")]
    betas = [1.0 - length / memory if memory else 0.0 for memory in memories]
    lr = length / np.sqrt(batch) if gains else length
    rate = np.array(problem.trained.rate)
    if gains:  # PyTorch's decay is times the learning rate
        optimizer = replace(optimizer, decay=optimizer.decay * np.sqrt(batch))
    seeds, functions = np.random.SeedSequence(7).spawn(runs), compiled(problem, dynamics.clip or np.inf)
    with jax.enable_x64(True):
        rngs, how = map(np.random.default_rng, seeds), (optimizer, (lr, lr * rate), betas, batch, d, marks)
        each = [script(problem, functions, *how, rng, n, n is not None) for rng in rngs]
    curves = {
        name: np.array([[mark[j] for mark in run] for run in each])
        for j, name in enumerate(("self_overlap", "overlap", "trained", "train_risk"))
    }
    found = sl.solve(problem, dynamics, marks[-1] * length, rtol=0.02, times=np.array(marks) * length)
    return found, {name: values for name, values in curves.items() if np.isfinite(values).all()}


def agree(found, curves):
    """Within five joint standard errors of ten runs and 1%, for their size."""
    for name, runs in curves.items():
        mean, error = runs.mean(0).reshape(found[name].shape), runs.std(0, ddof=1).reshape(found[name].shape) / np.sqrt(len(runs))
        allowed = 5 * np.hypot(error, found[name + "_se"].values) + 0.01 * np.abs(mean).max()
        assert (np.abs(found[name].values - mean) <= allowed).all(), name


@pytest.mark.parametrize("optimizer", [None, sl.Momentum(0.4), sl.Adam(0.1, 0.6, decay=0.1)], ids=str)
def test_one_pass_against_a_training_loop(optimizer):
    batch, d, eta = 8, 800, 0.6
    length = eta * batch / d
    trained, spectrum = sl.Trained([0.5, 0.0], [1.0, 0.6], batch_size=batch), sl.Spectrum([0.4, 1.6], [0.5, 0.5])
    problem = network(penalty=None, trained=trained, spectrum=spectrum)
    found, curves = against_script(problem, sl.OnlineSGD(eta, optimizer=optimizer), batch, d, length, [0, 100, 200, 400])
    agree(found.dataset, curves)


CASES = {
    "a head and an intercept": (network(), {}),
    "with momentum": (network(), {"optimizer": sl.Momentum(1.5)}),
    "clipped": (network(), {"clip": 0.3}),
    "with Adam": (network(trained=sl.Trained([0.5, 0.0], 0.7, batch_size=450)), {"optimizer": sl.Adam(1.0, 2.0, decay=0.2)}),
    "a kink": (network(_relu_with_bias, (0.3,)), {}),
    "a spectrum": (network(spectrum=sl.Spectrum([0.4, 1.6], [0.5, 0.5])), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_steps_against_a_training_loop(case):
    problem, more = CASES[case]
    d, n, batch = 600, 900, 450
    found, curves = against_script(problem, sl.MiniBatchGD(0.5, 0.5, **more), batch, d, 0.5 * batch / d, [0, 2, 5, 10], n=n)
    assert "train_risk" in curves
    agree(found.dataset, curves)


# --- what is left as it was, laws and averages ----------------------------------------------------------------------------------


DYNAMICS = (
    sl.OnlineSGD(0.7),
    sl.OnlineSGD(0.7, optimizer=sl.Momentum(0.4)),
    sl.OnlineSGD(0.7, optimizer=sl.Adam(0.1, 0.6, decay=0.1)),
    sl.MiniBatchGD(0.5, 0.5),
    sl.MiniBatchGD(0.5, 0.5, optimizer=sl.Adam(1.0, 2.0, decay=0.1)),
)


def _fixed_head(r, y):
    return _head(r, y, (0.5, 0.1))


@pytest.mark.parametrize("dynamics", cases([DYNAMICS[0], *DYNAMICS[2:]], evidence=[DYNAMICS[2]]), ids=str)
def test_numbers_that_do_not_move_are_constants(dynamics):
    moving = network(trained=sl.Trained([0.5, 0.1], 0.0))
    fixed = replace(moving, loss=_fixed_head, trained=None)
    one, other = (sl.solve(problem, dynamics, 3.0, rtol=0.02, times=TIMES).dataset for problem in (moving, fixed))
    for name in (*CURVES, "correlation", "response"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-10, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(one["trained"], np.broadcast_to([0.5, 0.1], (7, 2)), rtol=1e-15)  # a mean of eight
    assert "trained" not in other


def _as_ridge(a):
    return 0.15 * jnp.sum(a**2)


@pytest.mark.parametrize("dynamics", cases(DYNAMICS[::2], evidence=[DYNAMICS[2]]), ids=str)
def test_a_smooth_penalty_of_numbers_is_a_ridge_where_it_is_one(dynamics):
    ridge, smooth = sl.Ridge(0.3), sl.SmoothPenalty(_as_ridge)
    one, other = (
        sl.solve(network(trained=sl.Trained([0.5, 0.1], 1.0, penalty)), dynamics, 3.0, rtol=0.05, times=TIMES).dataset
        for penalty in (ridge, smooth)
    )
    np.testing.assert_allclose(one["trained"], other["trained"], rtol=1e-9)


def test_paths_of_samples_are_told_the_numbers():
    problem = network()
    found = sl.solve(problem, sl.MiniBatchGD(0.5, 0.5), 3.0, rtol=0.01, times=TIMES)
    paths, a = found.sample_paths(4000, seed=1), found.dataset["trained"].values
    losses = jax.vmap(jax.vmap(problem.loss, (0, None, 0)), (0, 0, None))(paths["r"].values, paths["y"].values, a)
    error = np.std(losses, 0) / np.sqrt(4000)
    assert (np.abs(np.mean(losses, 0) - found.dataset["train_risk"].values) <= 4 * error + 1e-6).all()


def test_numbers_are_averaged_like_weights():
    """Of the loop: all parameters averaged over the steps so far; one pass: the exponential decay of the linear model's offset."""
    memory, rate = 0.7, 0.8
    online = sl.solve(intercept(), sl.OnlineSGD(0.5), 3.0, rtol=0.01, times=TIMES).averaged(sl.ExponentialAverage(memory)).dataset
    late = TIMES[1:]  # of 1 - 1.5 e^{-rate t}
    mix = (np.exp(-rate * late) - np.exp(-late / memory)) / (1.0 - rate * memory) / -np.expm1(-late / memory)
    np.testing.assert_allclose(online["trained"].values[1:, 0], 1.0 - 1.5 * mix, atol=1e-3)
    problem = network()
    solved = sl.solve(problem, sl.MiniBatchGD(0.5, 0.5), 3.0, rtol=0.01, times=TIMES)
    average = solved.averaged(sl.TailAverage(0.5)).dataset
    paths = solved.averaged(sl.TailAverage(0.5)).sample_paths(4000, seed=1)
    a = average["trained"].values
    losses = jax.vmap(jax.vmap(problem.loss, (0, None, 0)), (0, 0, None))(paths["r"].values, paths["y"].values, a)
    error = np.std(losses, 0) / np.sqrt(4000)
    assert (np.abs(np.mean(losses, 0) - average["train_risk"].values) <= 4 * error + 1e-6).all()


def _without_end(r, y, a):
    return 0.5 * (r[0] - y) ** 2 - (a[0] + 1.0) ** 4


@pytest.mark.parametrize("dynamics", [*DYNAMICS[:2], DYNAMICS[3]], ids=str)  # Adam's steps are as long as ever
def test_numbers_that_run_away_end_it(dynamics):
    """Of a loss that asks for no end, while the weights learn as they do; `a' = 8 (a + 1)^3` ends at a finite time."""
    problem = intercept(loss=_without_end, trained=sl.Trained([1.0], 2.0))
    found = sl.solve(problem, dynamics, 3.0, rtol=0.05, on_failure="return")
    assert found.status.code == "diverged"
    assert all(np.isfinite(found.dataset[name]).all() for name in ALL)
    assert found.dataset["trained"].values.max() < 1e7
