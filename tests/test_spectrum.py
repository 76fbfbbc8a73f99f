"""Anisotropic data: the spectrum itself, theory against exact curves, against real runs, and in the limits where it is something else."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import sgdlimit as sl
from problems import CURVES, committee, linear, tanh_regression
from sgdlimit.settings import config
from sgdlimit.theory import closed_forms

THREE = sl.Spectrum([3.0, 0.8, 0.32], weights=[0.2, 0.3, 0.5], teacher=[1.0, 2.0, 4.0])
POWER = sl.Spectrum.power_law(0.9, 0.4, n_features=200, size=12)
TIMES = np.linspace(0.0, 3.0, 11)
LINEAR = {"sample_ratio": 2.0, "ridge": 0.05, "noise_variance": 0.25, "start_variance": 0.5, "start_overlap": 0.2}


def with_spectrum(problem, spectrum):
    return dataclasses.replace(problem, spectrum=spectrum)


def exact(spectrum, step, times=TIMES):
    teacher = np.ones(len(spectrum)) if spectrum.teacher is None else spectrum.teacher
    return closed_forms.linear_spectrum(
        LINEAR["sample_ratio"], step, LINEAR["ridge"], LINEAR["noise_variance"], LINEAR["start_variance"],
        spectrum.eigenvalues, spectrum.weights, teacher, times, LINEAR["start_overlap"],
    )  # fmt: skip


# --- the spectrum -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: sl.Spectrum([3.0, 1.0]), "`spectrum.eigenvalues` must average to 1 with the weights, but is [3, 1] with mean 2"),
        (lambda: sl.Spectrum([-1.0, 3.0]), "`spectrum.eigenvalues` must not be negative"),
        (lambda: sl.Spectrum([[1.0]]), "`spectrum.eigenvalues` must be a list of numbers"),
        (lambda: sl.Spectrum([1.0, 1.0], [0.5, 0.3]), "`spectrum.weights` must add up to 1, but is [0.5, 0.3] with sum 0.8"),
        (lambda: sl.Spectrum([1.0, 1.0], [1.0]), "`spectrum.weights` must have one entry for each of the 2 eigenvalues"),
        (lambda: sl.Spectrum([1.0, 1.0], [1.0, 0.0]), "`spectrum.weights` must be positive"),
        (lambda: sl.Spectrum([1.0, 1.0], teacher=[1.0]), "`spectrum.teacher` must be 2 factors"),
        (lambda: sl.Spectrum([1.0, 1.0], teacher=[1.0, -1.0]), "`spectrum.teacher` must not be negative"),
        (lambda: sl.Spectrum([1.0, 1.0], teacher=[[[1.0, 2.0], [2.0, 1.0]]] * 2), "`spectrum.teacher` must not be negative"),
        (lambda: sl.Spectrum([1.0, np.nan]), "`spectrum.eigenvalues` must be finite"),
        (lambda: with_spectrum(tanh_regression(), [1.0]), "`spectrum` must be sl.Spectrum"),
        (lambda: with_spectrum(tanh_regression(), sl.Spectrum([1.0], teacher=[np.eye(2)])), "`spectrum.teacher` must have matrices (1, 1)"),
        (lambda: sl.Spectrum.power_law(-1.0), "`exponent` must not be negative"),
        (lambda: sl.Spectrum.from_data(np.zeros((30, 4))), "`X` must vary"),
        (lambda: sl.Spectrum.from_data(np.ones((3, 4))), "`X` must have shape (n, d) with at least 20 rows"),
        (lambda: POWER.counts(60), "`n_features` must be enough for the 12 eigenvalues of the spectrum, but is 60"),
    ],
)
def test_mistakes_get_words(make, words):
    with pytest.raises(sl.InputError) as e:
        make()
    assert str(e.value).startswith(words)


def test_normalised_keeps_ratios_and_tells_the_mean():
    s = sl.Spectrum.normalised([6.0, 2.0], weights=[10, 30])
    np.testing.assert_allclose(s.eigenvalues, [2.0, 2.0 / 3.0])
    np.testing.assert_allclose(s.weights, [0.25, 0.75])
    assert s.feature_variance == pytest.approx(3.0)


def test_a_power_law_in_groups_is_the_one_without():
    # Eigenvalue sums are exact; what a group's mean loses of the second moment is small.
    whole, grouped = (sl.Spectrum.power_law(1.2, 0.5, n_features=300, size=size) for size in (300, 24))
    assert len(whole) == 300
    assert len(grouped) <= 24
    np.testing.assert_allclose(whole.eigenvalues[1:] / whole.eigenvalues[:-1], (np.arange(1, 300) / np.arange(2, 301)) ** 1.2)
    for s in (whole, grouped):
        assert (s.weights * s.eigenvalues) @ s.teacher == pytest.approx(1.0)
    assert grouped.roughness == pytest.approx(whole.roughness, rel=0.01)


@pytest.mark.parametrize(("spectrum", "rows"), [(sl.Spectrum([1.0]), 400), (THREE, 400), (THREE, 120), (POWER, 400)])
def test_the_population_is_found_from_its_sample(spectrum, rows):
    # One data set of 200 features each. The sample's own second moment of eigenvalues is 1 + d/n where the population's is 1.
    rng = np.random.default_rng(5)
    values = np.repeat(spectrum.eigenvalues, spectrum.counts(200))
    X = 3.0 + rng.standard_normal((rows, 200)) * np.sqrt(2.0 * values)
    found, sample = sl.Spectrum.from_data(X), np.linalg.eigvalsh(np.cov(X.T))
    truth = np.mean(values**2) / np.mean(values) ** 2
    assert found.feature_variance == pytest.approx(2.0, rel=0.05)
    assert found.roughness == pytest.approx(truth, rel=0.12)
    assert np.mean(sample**2) / np.mean(sample) ** 2 - truth > 0.3


# --- exact curves -------------------------------------------------------------------------------------------------------


def test_known_curves_of_one_eigenvalue_are_the_isotropic_ones():
    # 2e-6 is what the Volterra equation's grid leaves; the flow is exact.
    for step, tolerance in ((0.0, 1e-11), (0.8, 2e-6)):
        one = closed_forms.linear_spectrum(0.7, step, 0.1, 0.25, 0.5, [1.0], [1.0], [1.3], TIMES, 0.2)
        known = closed_forms.linear_model(0.7, step, 0.1, 0.25, 0.5, 1.3, TIMES, 0.2)
        for name in CURVES:
            np.testing.assert_allclose(one[name], known[name], atol=tolerance)


@pytest.mark.parametrize("spectrum", [THREE, POWER], ids=["three", "power"])
def test_known_curves_are_those_of_large_random_matrices(spectrum):
    # Traces over eigenvectors of d = 400, averaged over 6 matrices; the limit is approached like 1/d: 4 standard errors plus 1/d.
    d, delta, ridge = 400, LINEAR["sample_ratio"], LINEAR["ridge"]
    s2, v0, m0 = (LINEAR[name] for name in ("noise_variance", "start_variance", "start_overlap"))
    counts = spectrum.counts(d)
    values, teacher = np.repeat(spectrum.eigenvalues, counts), np.repeat(spectrum.teacher, counts)
    values = values / values.mean()
    rng, rows, times = np.random.default_rng(0), [], np.array([0.3, 1.0, 3.0])
    for _ in range(6):
        X = rng.standard_normal((int(delta * d), d)) * np.sqrt(values / d)
        a, U = np.linalg.eigh(X.T @ X / delta)
        row = []
        for t in times:
            e = np.exp(-(a + ridge) * t)
            f = (1 - e) / (a + ridge)
            h = m0 * e + f * a
            H = (U * h) @ U.T
            seen = (U**2).T @ values
            q = np.mean(seen * (v0 * e**2 + s2 / delta * f**2 * a)) + np.sum(H**2 * np.outer(values, teacher)) / d
            taught = np.mean((U**2).T @ teacher * (h - 1) ** 2 * a)
            residual = np.mean(v0 * e**2 * a + s2 / delta * ((f * a) ** 2 - 2 * f * a)) + taught + s2
            row.append((q, np.mean(np.diag(H) * values * teacher), residual / 2))
        rows.append(row)
    mean, error = np.mean(rows, 0), np.std(rows, 0, ddof=1) / np.sqrt(6)
    known = closed_forms.linear_spectrum(
        delta, 0.0, ridge, s2, v0, *np.array([values, np.full(d, 1 / d), teacher]), times, m0
    )  # fmt: skip
    for i, name in enumerate(CURVES[:3]):
        assert (np.abs(known[name] - mean[:, i]) < 4 * error[:, i] + mean[:, i].max() / d).all(), name


@pytest.mark.parametrize("spectrum", [pytest.param(THREE, marks=pytest.mark.evidence), POWER], ids=["three", "power"])
def test_theory_meets_the_known_curves(spectrum):
    # All points of the four curves: at least nine of ten within two reported standard errors, and none beyond what was promised.
    problem = with_spectrum(linear(teacher_variance=1.0, **LINEAR), spectrum)
    z = []
    for dynamics in (sl.GradientFlow(), *([sl.SGD(0.5), sl.SME(0.5)] if spectrum is THREE else [])):
        data = sl.solve(problem, dynamics, 3.0, rtol=0.03, seed=3, times=TIMES).dataset
        known = exact(spectrum, getattr(dynamics, "step", 0.0))
        for name in CURVES:
            gap, error = data[name].values.ravel() - known[name], data[name + "_se"].values.ravel()
            assert np.abs(gap).max() < 0.03 * np.abs(known[name]).max(), (dynamics, name)
            z += list(gap[error > 0] / error[error > 0])
    assert np.mean(np.abs(z) < 2.0) > 0.9


def test_online_meets_its_ordinary_differential_equations():
    # Of the linear model, eigenvalue by eigenvalue: moments of theta and theta*, and E[l^2] = q - 2 m + rho + s2 with their means.
    lam, p, strength = THREE.eigenvalues, THREE.weights, THREE.teacher
    step, ridge, s2, v0, m0 = 0.7, LINEAR["ridge"], LINEAR["noise_variance"], LINEAR["start_variance"], LINEAR["start_overlap"]
    rho = p @ (lam * strength)

    def slope(t, state):
        q, m = state.reshape(2, 3)
        error = p @ (lam * (q - 2 * m)) + rho + s2
        return np.concatenate([-2 * (ridge + lam) * q + 2 * lam * m + step * lam * error, -(ridge + lam) * m + lam * strength])

    start = np.concatenate([m0**2 * strength + v0, m0 * strength])
    q, m = solve_ivp(slope, (0.0, 3.0), start, t_eval=TIMES, rtol=1e-10, atol=1e-12).y.reshape(2, 3, -1)
    problem = with_spectrum(linear(teacher_variance=1.0, **LINEAR), THREE)
    data = sl.solve(problem, sl.OnlineSGD(step), 3.0, rtol=0.005, seed=0, times=TIMES).dataset
    known = {"self_overlap": (p * lam) @ q, "overlap": (p * lam) @ m}
    known["test_risk"] = 0.5 * (known["self_overlap"] - 2 * known["overlap"] + rho + s2)
    for name, values in known.items():
        assert (np.abs(data[name].values.ravel() - values) < 3 * data[name + "_se"].values.ravel() + 1e-5).all(), name


# --- limits -------------------------------------------------------------------------------------------------------------


def test_equal_eigenvalues_are_isotropic_data_to_the_last_bit():
    problem = tanh_regression()
    for dynamics in (sl.SGD(1.0), sl.MiniBatchGD(0.4, 0.5)):
        one, other = (sl.solve(with_spectrum(problem, s), dynamics, 1.0, rtol=0.1).dataset for s in (None, sl.Spectrum([1.0, 1.0])))
        for name in CURVES:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("dynamics", [sl.SGD(1.0), sl.MiniBatchGD(0.4, 0.5)], ids=lambda d: type(d).__name__)
def test_nearly_equal_eigenvalues_are_nearly_isotropic_data(dynamics):
    # Equations of their own that must have the isotropic limit, on other grids and samples: 4 joint standard errors at every point.
    near = sl.Spectrum([1.0 + 1e-6, 1.0 - 1e-6])
    assert with_spectrum(tanh_regression(), near).anisotropic is near
    one, other = (
        sl.solve(with_spectrum(tanh_regression(), s), dynamics, 1.0, rtol=0.05, seed=2, times=[0, 0.5, 1]).dataset for s in (None, near)
    )
    for name in CURVES:
        joint = np.hypot(one[name + "_se"].values, other[name + "_se"].values)
        assert (np.abs(one[name].values - other[name].values) <= 4 * joint + 1e-9).all(), name


def test_a_smooth_penalty_that_is_a_ridge_is_one():
    # Particles of every eigenvalue against the equations of second moments: 4 joint standard errors.
    ridge = with_spectrum(tanh_regression(), THREE)
    smooth = dataclasses.replace(ridge, penalty=sl.SmoothPenalty(lambda theta: 0.025 * jnp.sum(theta**2)))
    one, other = (sl.solve(problem, sl.GradientFlow(), 1.0, rtol=0.05, seed=2, times=[0, 0.5, 1]).dataset for problem in (ridge, smooth))
    for name in CURVES:
        joint = np.hypot(one[name + "_se"].values, other[name + "_se"].values)
        assert (np.abs(one[name].values - other[name].values) <= 4 * joint + 1e-9).all(), name


# --- real runs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dynamics",
    [sl.SGD(1.2), pytest.param(sl.GradientFlow(), marks=pytest.mark.evidence), sl.OnlineSGD(0.8), sl.MiniBatchGD(0.5, 0.5)],
    ids=lambda d: type(d).__name__,
)
def test_theory_meets_real_runs(dynamics):
    # 8 runs at d = 500, every time: 3 joint standard errors plus 1% of the curve's scale for the finite size.
    problem, times = with_spectrum(tanh_regression(), THREE), [0.0, 0.5, 1.5, 3.0]
    theory = sl.solve(problem, dynamics, 3.0, rtol=0.03, seed=1, times=times)
    runs = sl.simulate(problem, dynamics, 3.0, n_features=500, repeats=8, seed=1, times=times)
    for name in CURVES:
        a, b = (result.dataset[name].values for result in (theory, runs))
        joint = np.hypot(*(result.dataset[name + "_se"].values for result in (theory, runs)))
        assert (np.abs(a - b) <= 3 * joint + 0.01 * np.abs(b).max()).all(), name
    # The weights of each eigenvalue: second moments over 20000 theoretical and 4000 real ones, which are not independent within a run.
    ours, theirs = theory.coordinate_paths(20_000, seed=2), runs.coordinate_paths(4000)
    np.testing.assert_allclose(np.unique(ours.eigenvalue), np.sort(THREE.eigenvalues))
    for value in THREE.eigenvalues:
        moments = []
        for paths in (ours, theirs):
            theta = paths.theta.values[np.isclose(paths.eigenvalue, value, rtol=1e-3), -1, 0]
            moments.append(np.mean(theta**2))
        assert moments[0] == pytest.approx(moments[1], rel=0.12)


def test_two_directions_and_a_matrix_for_each_eigenvalue():
    # A committee whose two teachers live at different eigenvalues: theory against 8 runs, as above.
    problem = with_spectrum(
        committee(), sl.Spectrum([2.0, 0.5], [1 / 3, 2 / 3], teacher=[[[1.5, 0.0], [0.0, 0.2]], [[0.3, 0.1], [0.1, 2.0]]])
    )
    times = [0.0, 1.0, 2.0]
    theory = sl.solve(problem, sl.SGD(1.0), 2.0, rtol=0.03, seed=1, times=times).dataset
    runs = sl.simulate(problem, sl.SGD(1.0), 2.0, n_features=600, repeats=8, seed=1, times=times).dataset
    for name in CURVES:
        joint = np.hypot(theory[name + "_se"].values, runs[name + "_se"].values)
        assert (np.abs(theory[name] - runs[name]).values <= 3 * joint + 0.01 * np.abs(runs[name]).values.max()).all(), name


def test_runs_have_the_spectrum_and_the_moments_they_should():
    problem = with_spectrum(tanh_regression(), THREE)
    data = sl.simulate(problem, sl.SGD(1.0, sampling="reshuffle"), 0.1, n_features=200, repeats=3, times=[0.0, 0.1])
    np.testing.assert_allclose(data.dataset["self_overlap"][0], problem.self_overlap_start, rtol=1e-9)
    np.testing.assert_allclose(data.dataset["overlap"][0], problem.overlap_start, atol=1e-9)
    assert problem.rho[0, 0] == pytest.approx(2.25 * 1.72)
    paths = data.coordinate_paths(600)
    for value, strength, weight in zip(THREE.eigenvalues, THREE.teacher, THREE.weights, strict=True):
        mine = np.isclose(paths.eigenvalue, value)
        assert mine.mean() == pytest.approx(weight)
        assert np.mean(paths.theta_star.values[mine] ** 2) == pytest.approx(2.25 * strength, rel=1e-6)
    distance = data.dataset["distance_to_teacher"].values[0]
    assert distance == pytest.approx(1.0 + 2.25 * 1.72)


def test_a_settings_file_may_have_a_spectrum(tmp_path):
    text = """
        problem.model = "tanh_regression"
        problem.sample_ratio = 1.5
        problem.teacher = { kind = "gaussian", cov = 2.25 }
        problem.spectrum = SPECTRUM
        dynamics = [{ kind = "gradient_flow" }]
        run.horizon = 1.0
    """

    def read(spectrum):
        (tmp_path / "s.toml").write_text(text.replace("SPECTRUM", spectrum))
        return config.read(tmp_path / "s.toml").problem.spectrum

    given = read("{ eigenvalues = [3.0, 0.8, 0.32], weights = [0.2, 0.3, 0.5], teacher = [1.0, 2.0, 4.0] }")
    np.testing.assert_array_equal(given.eigenvalues, THREE.eigenvalues)
    law = read("{ power_law = { exponent = 0.9, teacher_exponent = 0.4, n_features = 200, size = 12 } }")
    np.testing.assert_array_equal(law.teacher, POWER.teacher)
    for spectrum, words in (
        ("{ eigenvalues = [3.0, 1.0] }", "s.toml, line 5: `problem.spectrum.eigenvalues` must average to 1"),
        ("{ weights = [1.0] }", "s.toml, line 5: `problem.spectrum.eigenvalues` must be given, or else `power_law`, but neither is"),
        ("{ power_law = { exponent = 1.0 }, weights = [1.0] }", "`problem.spectrum.weights` must be left out with a power_law"),
        ("{ power_law = { exponent = -1.0 } }", "`problem.spectrum.power_law.exponent` must be at least 0"),
    ):
        with pytest.raises(sl.InputError, match="spectrum") as e:
            read(spectrum)
        assert words in str(e.value)
