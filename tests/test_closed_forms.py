"""The linear model's closed forms against methods that share nothing with them but the equations of THEORY section 3."""

import numpy as np
import pytest

from problems import CURVES, reference
from sgdlimit.theory import closed_forms as cf

# sample_ratio, step, ridge, noise, start variance, teacher variance, start overlap
SETTINGS = [
    (2.0, 0.8, 0.1, 0.25, 0.5, 1.0, 0.0),
    (0.6, 1.2, 0.0, 0.3, 0.5, 1.0, 0.4),
    (1.0, 1.5, 0.05, 0.1, 1.0, 2.0, 0.0),
    (1.0, 0.5, 0.0, 0.1, 1.0, 2.0, -0.3),
    (3.0, 0.0, 0.0, 0.5, 0.3, 1.0, 0.2),
]
HORIZON = 3.0


def curves(setting, times, solve=cf.linear_model):
    ratio, step, ridge, noise, start, teacher, overlap = setting
    return solve(ratio, step, ridge, noise, start, teacher, times, overlap)


def stepped(eigenvalues, weights, setting, steps):
    """Train risk, self-overlap and overlap at the horizon: averages over eigenvalues of `A`, Volterra equation by the trapezoid rule."""
    ratio, step, ridge, noise, start, teacher, overlap = setting
    t = np.linspace(0.0, HORIZON, steps + 1)[:, None]
    rate = eigenvalues + ridge
    e = np.exp(-rate * t)
    f = np.where(rate > 1e-12, (1 - e) / np.maximum(rate, 1e-12), t)
    aligned = overlap * e + f * eigenvalues
    q = (start * e**2 + teacher * aligned**2 + noise / ratio * f**2 * eigenvalues) @ weights
    flow = start * e**2 * eigenvalues + teacher * (aligned - 1) ** 2 * eigenvalues
    flow += noise / ratio * ((f * eigenvalues) ** 2 - 2 * f * eigenvalues)
    residual = flow @ weights + noise
    k1, k2 = (eigenvalues * e**2) @ weights, (eigenvalues**2 * e**2) @ weights
    h = HORIZON / steps
    for i in range(1, steps + 1):
        past = k2[1:i] @ residual[i - 1 : 0 : -1] + 0.5 * k2[i] * residual[0]
        residual[i] = (residual[i] + step * h * past) / (1 - 0.5 * step * h * k2[0])
    trapezoid = np.full(steps + 1, h)
    trapezoid[[0, -1]] = h / 2
    return np.array([residual[-1] / 2, q[-1] + step * (trapezoid * k1[::-1]) @ residual, teacher * aligned[-1] @ weights])


def at_horizon(setting):
    c = curves(setting, [HORIZON])
    return np.array([c["train_risk"][0], c["self_overlap"][0], c["overlap"][0]])


@pytest.mark.parametrize("delta", [0.3, 1.0, 4.0])
def test_gauss_rule_has_the_moments_of_the_law(delta):
    nodes, weights = cf.marchenko_pastur(delta, 60)
    g = 1 / delta
    narayana = [1, 1, 1 + g, 1 + 3 * g + g**2, 1 + 6 * g + 6 * g**2 + g**3]
    np.testing.assert_allclose([weights @ nodes**p for p in range(5)], narayana, rtol=1e-12)
    assert weights[nodes == 0].sum() == pytest.approx(max(0.0, 1 - delta), abs=1e-12)
    assert nodes.max() <= (1 + np.sqrt(g)) ** 2


@pytest.mark.parametrize("setting", SETTINGS)
def test_time_stepping_converges_to_it_at_second_order(setting):
    # The order tells that the limit of the stepping, not something near it, is the closed form.
    rule = cf.marchenko_pastur(setting[0], 120)
    errors = np.array([np.abs(stepped(*rule, setting, n) - at_horizon(setting)) for n in (100, 200, 400)])
    if setting[1] == 0:
        assert errors.max() < 1e-12
    else:
        np.testing.assert_allclose(np.log2(errors[:-1, :2] / errors[1:, :2]), 2.0, atol=0.05)
        assert errors[:, 2].max() < 1e-12


@pytest.mark.parametrize("setting", SETTINGS)
def test_eigenvalues_of_random_matrices_give_it(setting):
    # 8 matrices, seed 0. Linear statistics of eigenvalues spread like 1/d and their mean is off by O(1/d): 4 standard errors for
    # 15 comparisons (level 0.1% by Student's t with 7 degrees would be 5.4, of a spread that is itself small) plus 2/d.
    d, rng = 400, np.random.default_rng(0)
    n = round(setting[0] * d)
    runs = []
    for _ in range(8):
        x = rng.standard_normal((n, d)) / np.sqrt(d)
        runs.append(stepped(np.linalg.eigvalsh(x.T @ x / setting[0]).clip(0), np.full(d, 1 / d), setting, 600))
    exact = at_horizon(setting)
    tolerance = 5.4 * np.std(runs, axis=0, ddof=1) / np.sqrt(8) + 2 / d * np.abs(exact)
    assert (np.abs(np.mean(runs, axis=0) - exact) < tolerance).all()


@pytest.mark.parametrize("dynamics", ["sgd", "sme", "gf"])
def test_stored_simulations_of_the_ridge_problem(dynamics):
    # 3 standard errors plus 1% of the curve's scale for the finite size of the simulations, as for the theory itself.
    stored = reference("ridge_regression", dynamics)
    ours = curves((2.0, 0.0 if dynamics == "gf" else 0.8, 0.1, 0.25, 0.5, 1.0, 0.0), stored.times)
    for name in CURVES:
        mean, se = stored.mean[name].reshape(-1), stored.se[name].reshape(-1)
        assert (np.abs(ours[name] - mean) <= 3 * se + 0.01 * np.abs(mean).max()).all(), name


def test_many_samples_give_the_online_limit():
    times = np.linspace(0.0, 5.0, 7)
    setting = (1e9, 1.1, 0.1, 0.3, 0.5, 1.2, 0.3)
    online = cf.online_linear(*setting[1:6], times, setting[6])
    for name, value in curves(setting, times).items():
        np.testing.assert_allclose(value, online[name], atol=1e-8, err_msg=name)


@pytest.mark.parametrize("delta", [0.5, 1.0, 2.5])
def test_long_flow_ends_in_ridge_regression(delta):
    ridge, noise, teacher = 0.2, 0.4, 1.3
    c = curves((delta, 0.0, ridge, noise, 0.7, teacher, 0.5), [200.0])
    g = 1 / delta
    b = ridge + 1 - g
    stieltjes = (np.sqrt(b**2 + 4 * g * ridge) - b) / (2 * g * ridge)
    slope = -stieltjes * (1 + g * stieltjes) / np.sqrt(b**2 + 4 * g * ridge)  # its derivative in the ridge
    # int a/(a + ridge), int a^2/(a + ridge)^2, int a/(a + ridge)^2
    one = 1 - ridge * stieltjes
    square = 1 - 2 * ridge * stieltjes - ridge**2 * slope
    mixed = stieltjes + ridge * slope
    assert c["overlap"][0] == pytest.approx(teacher * one, rel=1e-12)
    assert c["self_overlap"][0] == pytest.approx(teacher * square + noise / delta * mixed, rel=1e-12)


def test_flow_interpolates_noise_below_one_sample_per_feature():
    c = curves((0.5, 0.0, 0.0, 0.3, 0.2, 1.0, 0.0), [400.0])
    assert c["train_risk"][0] < 1e-12
    assert c["overlap"][0] == pytest.approx(0.5, rel=1e-10)


def test_stability_limit():
    assert [cf.stability_limit(delta) for delta in (0.4, 1.0, 3.0)] == [2.0, 2.0, 2.0]
    for delta in (0.4, 1.0, 3.0):
        nodes, weights = cf.marchenko_pastur(delta, 300)
        assert cf.stability_limit(delta, 0.3) == pytest.approx(2 / (weights @ (nodes**2 / (nodes + 0.3))), rel=1e-10)
        assert cf.stability_limit(delta, 1e-9) == pytest.approx(2.0, rel=1e-8)
        limit = cf.stability_limit(delta, 0.3)
        early, late = curves((delta, 0.98 * limit, 0.3, 0.2, 0.5, 1.0, 0.0), [200.0, 400.0])["train_risk"]
        assert late == pytest.approx(early, rel=0.1)
        early, late = curves((delta, 1.02 * limit, 0.3, 0.2, 0.5, 1.0, 0.0), [200.0, 400.0])["train_risk"]
        assert late > 1.5 * early


@pytest.mark.parametrize("setting", SETTINGS)
def test_kernels_agree_with_the_curves_and_are_a_law(setting):
    times = np.linspace(0.0, 4.0, 9)
    kernels = curves(setting, times, cf.linear_kernels)
    correlation, response = kernels["correlation"], kernels["response"]
    np.testing.assert_allclose(np.diag(correlation), curves(setting, times)["self_overlap"], rtol=1e-12)
    np.testing.assert_allclose(correlation, correlation.T, rtol=1e-13)
    assert np.linalg.eigvalsh(correlation)[0] > -1e-12
    np.testing.assert_allclose(np.diag(response), 1.0, rtol=1e-13)
    assert (response[np.triu_indices(9, 1)] == 0).all()


def test_noise_decays_like_the_mean_in_the_later_time():
    # With one eigenvalue (online limit) and nothing but the noise of SGD, C(t, s) = R(t, s) C(s, s).
    kernels = cf.linear_kernels(1e9, 1.0, 0.1, 0.5, 0.0, 0.0, [1.0, 2.5])
    assert kernels["correlation"][1, 0] == pytest.approx(kernels["response"][1, 0] * kernels["correlation"][0, 0], rel=1e-8)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("setting", [SETTINGS[0], SETTINGS[1]])
def test_descent_with_short_steps_is_flow_and_sgd(setting, full):
    # Steps of length h: full batches tend to the flow, ever smaller ones with a fixed step to SGD, at first order in h.
    ratio, step, ridge, noise, start, teacher, overlap = setting
    limit = curves((ratio, 0.0 if full else step, *setting[2:]), [HORIZON])
    errors = []
    for steps in (400, 800):
        size, fraction = (HORIZON / steps / ratio, 1.0) if full else (step, HORIZON / steps / ratio / step)
        c = cf.linear_descent(ratio, size, fraction, ridge, noise, start, teacher, steps, overlap)
        assert c["time"][-1] == pytest.approx(HORIZON)
        errors.append([c[name][-1] - limit[name][0] for name in CURVES])
    coarse, fine = np.abs(errors[0]).max(), np.abs(2 * np.array(errors[1]) - errors[0]).max()
    assert coarse < 0.01
    assert fine < 0.05 * coarse


@pytest.mark.parametrize("fraction", [1.0, 0.4])
@pytest.mark.parametrize("setting", [SETTINGS[0], SETTINGS[1]])
def test_descent_on_random_matrices(setting, fraction):
    # 16 data sets of d = 300 with a falling step, seed 1, `A`'s own trainings: 5 standard errors of their mean plus 2/d of the scale.
    ratio, _, ridge, noise, start, teacher, overlap = setting
    d, rng, steps, step = 300, np.random.default_rng(1), 6, lambda t: 0.5 / (1 + t)
    n, runs = round(ratio * d), []
    for _ in range(16):
        x, z = rng.standard_normal((n, d)) / np.sqrt(d), np.sqrt(noise) * rng.standard_normal(n)
        star, xi = np.linalg.qr(rng.standard_normal((d, 2)))[0].T * np.sqrt(d)
        star, t, run = np.sqrt(teacher) * star, 0.0, []
        theta = overlap * star + np.sqrt(start) * xi
        for _ in range(steps + 1):
            residual = x @ (theta - star) - z
            run.append([theta @ theta / d, theta @ star / d, 0.5 * np.mean(residual**2)])
            batch = rng.choice(n, round(fraction * n), replace=False)
            length = step(t) * fraction * ratio
            theta = (1 - length * ridge) * theta - step(t) * x[batch].T @ residual[batch]
            t += length
        runs.append(run)
    c = cf.linear_descent(ratio, step, fraction, ridge, noise, start, teacher, steps, overlap)
    exact = np.stack([c[name] for name in CURVES[:3]], 1)
    gap = np.abs(np.mean(runs, axis=0) - exact)
    assert (gap < 5 * np.std(runs, axis=0, ddof=1) / 4 + 2 / d * np.abs(exact).max(axis=0)).all()


def test_schedules():
    # A constant schedule is a constant step; a warm-up is held against the trapezoid rule (second order, extrapolated).
    setting, times = SETTINGS[2], [2.5, 0.0, 1.0]
    for name, value in curves((1.0, lambda t: 1.5, *setting[2:]), times).items():
        np.testing.assert_allclose(value, curves(setting, times)[name], rtol=1e-8, err_msg=name)
    warm_up = lambda t: 1.5 * t / (0.5 + t)
    ours = curves((1.0, warm_up, *setting[2:]), [HORIZON])["train_risk"][0]
    nodes, weights = cf.marchenko_pastur(1.0, 80)
    flow = lambda t: 2 * curves((1.0, 0.0, *setting[2:]), t)["train_risk"]
    by_steps = []
    for n in (200, 400):
        t = np.linspace(0.0, HORIZON, n + 1)
        eta, residual = np.array([warm_up(s) for s in t]), flow(t)
        k2 = (nodes**2 * np.exp(-2 * (nodes + 0.05) * t[:, None])) @ weights
        for i in range(1, n + 1):
            past = k2[1:i] @ (eta * residual)[i - 1 : 0 : -1] + 0.5 * k2[i] * eta[0] * residual[0]
            residual[i] = (residual[i] + t[1] * past) / (1 - 0.5 * eta[i] * t[1] * k2[0])
        by_steps.append(residual[-1] / 2)
    assert (4 * by_steps[1] - by_steps[0]) / 3 == pytest.approx(ours, rel=1e-6)


def test_negative_times_are_refused():
    with pytest.raises(ValueError, match="times"):
        curves(SETTINGS[0], [-0.1])
