"""One-pass SGD, mini-batch descent and reshuffling: theory against known answers, an independent solver, and real runs."""

import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import erf
from scipy.integrate import solve_ivp

import sgdlimit as sl
from problems import CASES, CURVES, closed_forms, linear
from sgdlimit import schedules
from sgdlimit.theory.closed import discrete

LINEAR = {"ridge": 0.1, "noise_variance": 0.25, "start_variance": 0.5, "teacher_variance": 1.0, "start_overlap": 0.3}


def gaps(solution, truth):
    """Deviations from the truth in standard errors, of all points that have an error; the others must be exact."""
    z = []
    for name in CURVES:
        se, gap = solution.dataset[name + "_se"].values.ravel(), solution.dataset[name].values.ravel() - truth[name]
        np.testing.assert_allclose(gap[se == 0], 0.0, atol=1e-9, err_msg=name)
        z.append(gap[se > 0] / se[se > 0])
    return np.concatenate(z)


# --- one pass ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0.8, schedules.Cosine(1.5, 0.2, 3.0, warmup=1.0)], ids=["constant", "schedule"])
def test_online_linear_model(step):
    # Four curves of 9 dependent points, 8 scramblings: 5 standard errors, and a promise kept.
    times = np.linspace(0.0, 4.0, 9)
    solution = sl.solve(linear(2.0, **LINEAR), sl.OnlineSGD(step), 4.0, rtol=1e-3, times=times)
    truth = closed_forms.linear_model(1e9, step, *list(LINEAR.values())[:4], times, LINEAR["start_overlap"])
    assert np.abs(gaps(solution, truth)).max() < 5
    for name in CURVES:
        assert np.abs(solution.dataset[name].values.ravel() - truth[name]).max() < 1e-3 * np.abs(truth[name]).max()
    kernels = closed_forms.linear_kernels(1e9, step, *list(LINEAR.values())[:4], times, LINEAR["start_overlap"])
    for name, kernel in kernels.items():
        np.testing.assert_allclose(solution.dataset[name].values[..., 0, 0], kernel, atol=2e-3 * kernel.max(), err_msg=name)


def saad_solla(step, ridge, sigma, q, m, rho, times):
    """Overlaps of the soft committee `sum_i erf(r_i / sqrt 2)` with label noise, from the closed forms of Saad and Solla, Phys. Rev. E
    52, 4225 (1995), appendix: `I3 = E[g'(u) v g(w)]`, `I4 = E[g'(u) g'(v) g(x) g(y)]`, `g = erf(. / sqrt 2)`."""
    k, k_star = m.shape
    sign = np.concatenate([np.ones(k), -np.ones(k_star)])  # the residual is sum_a sign_a g(h_a) - sigma z

    def i3(c, u, v, w):
        lam = (1 + c[u, u]) * (1 + c[w, w]) - c[u, w] ** 2
        return 2 / np.pi / np.sqrt(lam) * (c[v, w] * (1 + c[u, u]) - c[u, v] * c[u, w]) / (1 + c[u, u])

    def i4(c, u, v, x, y):
        lam4 = (1 + c[u, u]) * (1 + c[v, v]) - c[u, v] ** 2
        lam0 = lam4 * c[x, y] - c[v, x] * c[v, y] * (1 + c[u, u]) - c[u, x] * c[u, y] * (1 + c[v, v])
        lam0 += c[u, v] * (c[u, x] * c[v, y] + c[u, y] * c[v, x])
        one = lambda x: lam4 * (1 + c[x, x]) - c[v, x] ** 2 * (1 + c[u, u]) - c[u, x] ** 2 * (1 + c[v, v]) + 2 * c[u, v] * c[u, x] * c[v, x]
        return 4 / np.pi**2 / np.sqrt(lam4) * np.arcsin(lam0 / np.sqrt(one(x) * one(y)))

    def slope(t, flat):
        q, m = flat[: k * k].reshape(k, k), flat[k * k :].reshape(k, k_star)
        c = np.block([[q, m], [m.T, rho]])
        n = k + k_star
        pull = np.array([[sum(sign[a] * i3(c, i, v, a) for a in range(n)) for v in range(n)] for i in range(k)])  # E[l_i h_v]
        noise = np.zeros((k, k))
        for i in range(k):
            for j in range(k):
                noise[i, j] = sum(sign[a] * sign[b] * i4(c, i, j, a, b) for a in range(n) for b in range(n))
                noise[i, j] += sigma**2 * 2 / np.pi / np.sqrt((1 + q[i, i]) * (1 + q[j, j]) - q[i, j] ** 2)
        dq = -2 * ridge * q - pull[:, :k] - pull[:, :k].T + step * noise
        return np.concatenate([dq.ravel(), (-ridge * m - pull[:, k:]).ravel()])

    solved = solve_ivp(slope, (0, times[-1]), np.concatenate([q.ravel(), m.ravel()]), t_eval=times, rtol=1e-8, atol=1e-10)
    return solved.y[: k * k].T.reshape(-1, k, k), solved.y[k * k :].T.reshape(-1, k, k_star)


@pytest.mark.evidence
def test_online_committee_is_that_of_saad_and_solla():
    g = lambda r: erf(r / jnp.sqrt(2.0))
    problem = sl.Problem(
        loss=lambda r, y: 0.5 * (jnp.sum(g(r)) - y) ** 2,
        label=lambda r_star, z: jnp.sum(g(r_star)) + 0.2 * z,
        noise=sl.Normal(),
        sample_ratio=1.0,
        teacher=sl.GaussianTeacher([[1.5, 0.3], [0.3, 1.0]]),
        init=sl.Init([[0.3, 0.0], [0.0, 0.1]], [[0.5, 0.1], [0.1, 0.4]]),
        penalty=sl.Ridge(0.05),
    )
    times = np.linspace(0.0, 10.0, 11)
    q, m = saad_solla(0.9, 0.05, 0.2, problem.self_overlap_start, problem.overlap_start, problem.teacher.cov, times)
    solution = sl.solve(problem, sl.OnlineSGD(0.9), 10.0, rtol=2e-3, times=times).dataset
    assert np.abs(solution["self_overlap"] - q).max() < 0.003 * np.abs(q).max()
    assert np.abs(solution["overlap"] - m).max() < 0.003 * np.abs(m).max()
    assert np.abs(q[-1] - q[0]).max() > 0.3


def test_online_kernels_of_two_units():
    # The response in closed form is checked above for one unit; here symmetry, the diagonal, and that C is a covariance.
    solution = sl.solve(CASES["committee"].build(), sl.OnlineSGD(1.0), 3.0, rtol=0.01, times=np.linspace(0, 3, 7)).dataset
    c, r = solution["correlation"].values, solution["response"].values
    np.testing.assert_allclose(c, c.transpose(1, 0, 3, 2), atol=1e-12)
    np.testing.assert_allclose(np.einsum("ttij->tij", c), solution["self_overlap"], atol=1e-9)
    assert np.linalg.eigvalsh(c.transpose(0, 2, 1, 3).reshape(14, 14))[0] > -1e-9
    np.testing.assert_allclose(np.einsum("ttij->tij", r), np.broadcast_to(np.eye(2), (7, 2, 2)))
    assert (r[np.triu_indices(7, 1)] == 0).all()


# --- discrete steps --------------------------------------------------------------------------------------------------------

DESCENT = {
    "full batch": (2.0, 0.35, 1.0),
    "full batch, fewer samples than features": (0.6, 0.6, 1.0),
    "half batch": (2.0, 0.4, 0.5),
    "tenth, fewer samples than features": (0.6, 1.2, 0.1),
    "falling step": (1.0, lambda t: 0.9 / (1 + t), 0.7),
}


@pytest.mark.parametrize("case", DESCENT)
def test_descent_on_the_linear_model(case):
    # Every step's four curves, 8 replicates. Points of one replicate are strongly dependent: 5 standard errors.
    ratio, step, fraction = DESCENT[case]
    truth = closed_forms.linear_descent(ratio, step, fraction, *list(LINEAR.values())[:4], 14, LINEAR["start_overlap"])
    solution = sl.solve(linear(ratio, **LINEAR), sl.MiniBatchGD(step, fraction), truth["time"][-1], rtol=0.01, times=truth["time"])
    assert solution.status.code == "done"
    z = gaps(solution, truth)
    assert np.abs(z).max() < 5
    assert np.mean(z**2) < 4
    for name in CURVES:
        assert solution.dataset[name + "_se"].max() <= 0.01 * np.abs(truth[name]).max() * 1.05


def test_descent_errors_are_true():
    # Twelve seeds of one problem, each with its own reported errors: per seed the mean square deviation of all points, which a seed's
    # points share. Errors are widened for few replicates, so it is about 0.8 on average; its mean over 12 seeds has a spread of 0.25.
    ratio, step, fraction = DESCENT["half batch"]
    truth = closed_forms.linear_descent(ratio, step, fraction, *list(LINEAR.values())[:4], 10, LINEAR["start_overlap"])
    solve = lambda seed: sl.solve(linear(ratio, **LINEAR), sl.MiniBatchGD(step, fraction), truth["time"][-1], 0.03, seed, truth["time"])
    assert 0.3 < np.mean([np.mean(gaps(solve(seed), truth) ** 2) for seed in range(12)]) < 1.8


def test_descent_kernels():
    # Full batch, as in `linear_descent`: `theta_i = e_i xi + (c e_i + f_i a) theta* + f_i X^T z / delta` and `R(i, j) = int e_{i - j}`.
    ratio, step, steps = 0.6, 0.5, 8
    a, weights = closed_forms.marchenko_pastur(ratio, 20)
    h, i = step * ratio, np.arange(steps + 1)[:, None]
    e = (1 - h * (a + 0.1)) ** i
    f = (1 - e) / (a + 0.1)
    aligned = 0.3 * e + f * a
    correlation = (0.5 * e * weights) @ e.T + (aligned * weights) @ aligned.T + (0.25 / ratio * f * a * weights) @ f.T
    solution = sl.solve(linear(ratio, **LINEAR), sl.MiniBatchGD(step, 1.0), h * steps, rtol=0.003, times=h * np.arange(steps + 1)).dataset
    response = np.array([[weights @ e[t - s] if t >= s else 0.0 for s in range(steps + 1)] for t in range(steps + 1)])
    np.testing.assert_allclose(solution["correlation"].values[..., 0, 0], correlation, atol=0.01 * correlation.max())
    np.testing.assert_allclose(solution["response"].values[..., 0, 0], response, atol=0.01)


def test_many_short_steps_stay_together():
    # 150 full-batch steps of a smooth training: the noise of one is almost a function of that of those before. Independent replicates
    # of 256 paths spread by 2.5%; with a pivot of 1e-10, whose factor amplifies rounding, by 18%.
    problem, steps = CASES["tanh_regression"].build(), 150
    dynamics, ends = sl.MiniBatchGD(4.0 / 1.5 / steps, 1.0), []
    for index in range(6):
        points = discrete.draw(problem, dynamics, steps, 256, np.random.SeedSequence(index))
        ends.append(np.sum(discrete.march(problem, dynamics, np.full(steps, dynamics.step), points).L[-1] ** 2))
    assert np.std(ends) < 0.06 * np.mean(ends)


def test_output_times_show_the_nearest_step():
    # Steps end at 0, 0.5, 1, 1.5: theory and simulation show the same ones, in order and without a second run.
    problem, dynamics, times = linear(2.0, **LINEAR), sl.MiniBatchGD(0.25, 1.0), [0.0, 0.2, 0.3, 0.7, 0.8, 1.4]
    truth = closed_forms.linear_descent(2.0, 0.25, 1.0, *list(LINEAR.values())[:4], 3, LINEAR["start_overlap"])
    for result in (
        sl.solve(problem, dynamics, 1.4, rtol=0.01, times=times),
        sl.simulate(problem, dynamics, 1.4, 400, repeats=4, times=times),
    ):
        np.testing.assert_array_equal(result.dataset["time"], times)
        np.testing.assert_allclose(result.dataset["test_risk"], truth["test_risk"][[0, 0, 1, 1, 2, 3]], rtol=0.03)


def test_diverging_theories_say_so():
    problem = linear(2.0, **LINEAR)
    for dynamics, horizon in ((sl.OnlineSGD(3.0), 60.0), (sl.MiniBatchGD(0.6, 1.0), 60.0), (sl.MiniBatchGD(1.2, 0.5), 60.0)):
        solution = sl.solve(problem, dynamics, horizon, rtol=0.1)
        assert solution.status.code == "diverged"
        assert "1000 times" in str(solution.status)
        assert 1 < solution.dataset.sizes["time"] < 41
        assert all(np.isfinite(values).all() for values in solution.dataset.values())


@pytest.mark.evidence
def test_theories_that_grow_or_have_no_bound_say_so():
    problem = linear(2.0, **LINEAR)
    growing = sl.solve(problem, sl.OnlineSGD(2.5), 8.0, rtol=0.1)
    assert "still grows" in str(growing.status)
    quartic = sl.Problem(lambda r, y: -(r[0] ** 4), problem.label, problem.noise, 2.0, problem.teacher, problem.init)
    for dynamics in (sl.OnlineSGD(1.0), sl.MiniBatchGD(1.0, 0.5)):
        solution = sl.solve(quartic, dynamics, 50.0, times=[25.0, 50.0])  # both after the end
        assert solution.status.code == "diverged"
        assert solution.dataset["time"].values[-1] < 10


# --- theory and real runs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dynamics", "horizon"),
    [
        ("tanh_regression", sl.OnlineSGD(1.5), 4.0),
        pytest.param("committee", sl.OnlineSGD(lambda t: 1.5 / (1 + 0.3 * t)), 6.0, marks=pytest.mark.evidence),
        ("tanh_regression", sl.MiniBatchGD(0.6, 0.5), 4.0),
        ("tanh_regression", sl.MiniBatchGD(lambda t: 1.0 / (1 + t), 0.3), 4.0),
        pytest.param("logistic", sl.MiniBatchGD(0.9, 1.0), 12.0, marks=pytest.mark.evidence),
        ("committee", sl.MiniBatchGD(0.5, 0.5), 6.0),
    ],
    ids=["online tanh", "online committee", "half batches", "falling step", "full batch logistic", "committee"],
)
def test_theory_meets_simulation(name, dynamics, horizon):
    # 8 runs at d = 1500: 3 joint standard errors (that of the runs widened to Student's t with 7 degrees) plus 1% of the curve's scale
    # for the finite size and the many comparisons, at every time and entry.
    problem, times = CASES[name].build(), np.linspace(0.0, horizon, 9)
    theory = sl.solve(problem, dynamics, horizon, rtol=0.01, seed=1, times=times)
    runs = sl.simulate(problem, dynamics, horizon, 1500, repeats=8, seed=1, times=times)
    assert theory.status.code == runs.status.code == "done"
    for curve in CURVES:
        gap = np.abs(theory.dataset[curve].values - runs.dataset[curve].values)
        joint = np.hypot(theory.dataset[curve + "_se"].values, 1.3 * runs.dataset[curve + "_se"].values)
        assert (gap <= 3 * joint + 0.01 * np.abs(runs.dataset[curve].values).max()).all(), (curve, gap.max())


# --- what is refused and what is not needed ------------------------------------------------------------------------------------


def test_what_has_no_theory_is_refused():
    smooth = sl.SmoothPenalty(lambda theta: 0.1 * jnp.sum(jnp.sqrt(theta**2 + 0.01)))
    p = linear(2.0, **LINEAR)
    problem = sl.Problem(p.loss, p.label, p.noise, 2.0, p.teacher, p.init, smooth)
    for dynamics in (sl.OnlineSGD(0.5), sl.MiniBatchGD(0.2, 1.0)):
        with pytest.raises(sl.InputError, match=f"`penalty` must be a Ridge or None for the theory of {type(dynamics).__name__}, but is"):
            sl.solve(problem, dynamics, 1.0)
        assert sl.simulate(problem, dynamics, 1.0, 50, repeats=2).status.code == "done"
    with pytest.raises(sl.InputError, match=r"`step` must reach t = 50 within 512 steps, but is 0\.01"):
        sl.solve(p, sl.MiniBatchGD(0.01, 1.0), 50.0)


def test_paths_fit_into_memory():
    assert [discrete.most_paths(size) for size in (0, 10, 200, discrete.MAX_SIZE)] == [2**15, 2**15, 2**11, discrete.FEWEST]


def test_only_the_online_theory_needs_diffrax():
    code = """
import sys
sys.modules["diffrax"] = None
import sgdlimit as sl
from problems import linear
problem = linear(2.0, 0.1, 0.25, 0.5, 1.0)
print(sl.solve(problem, sl.MiniBatchGD(0.2, 1.0), 1.0, rtol=0.1).status, sl.simulate(problem, sl.OnlineSGD(0.5), 1.0, 50).status)
try:
    sl.solve(problem, sl.OnlineSGD(0.5), 1.0)
except sl.InputError as e:
    print(e)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    assert "unless diffrax is installed, but is OnlineSGD" in done.stdout
