"""What follows from the overlaps: gap, angle, distance, accuracy and a user's own averages, in theory and in real runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdlimit as sl
from fakes import curves
from sgdlimit import models
from sgdlimit.results.derived import DERIVED, derive

COV = np.array([[1.5, 0.3], [0.3, 1.0]])
TIMES = np.linspace(0.0, 0.6, 4)


def sign_problem():
    """Labels without noise: the accuracy is `1 - angle / pi`, the angle in radians."""
    m = models.probit(noise=0)
    return sl.Problem(
        m.loss, m.label, m.noise, 3.0, sl.GaussianTeacher([[2.0]]), sl.Init(overlap=[[0.2]], cov=[[0.25]]), penalty=sl.Ridge(0.05)
    )


@pytest.fixture(scope="module")
def solved():
    return sl.solve(sign_problem(), sl.SGD(1.0), horizon=0.6, rtol=0.05, times=TIMES)


@pytest.fixture(scope="module")
def simulated():
    return sl.simulate(sign_problem(), sl.SGD(1.0), horizon=0.6, n_features=200, repeats=4, times=TIMES)


# --- derived from the curves -------------------------------------------------------------------------------------------


def test_values_are_what_they_say():
    given = curves(TIMES, k=2, k_star=2)
    values, _ = derive(given, {name: np.zeros_like(v) for name, v in given.items()}, COV)
    q, m = given["self_overlap"], given["overlap"]
    np.testing.assert_allclose(values["generalisation_gap"], given["test_risk"] - given["train_risk"])
    for a in range(2):
        for b in range(2):
            np.testing.assert_allclose(values["angle"][:, a, b], m[:, a, b] / np.sqrt(q[:, a, a] * COV[b, b]))
    np.testing.assert_allclose(values["distance_to_teacher"], np.trace(q - 2 * m + COV, axis1=1, axis2=2))


def test_errors_are_those_of_the_repeats():
    # Small scatter of repeats: the linear error is the scatter of the observable itself. Deterministic, seed 3.
    rng = np.random.default_rng(3)
    means = curves(TIMES, k=2, k_star=2)
    repeats = {name: v + 1e-4 * rng.standard_normal((6, *v.shape)) for name, v in means.items()}
    means = {name: v.mean(0) for name, v in repeats.items()}
    errors = {name: v.std(0, ddof=1) / np.sqrt(6) for name, v in repeats.items()}
    _, linear = derive(means, errors, COV, repeats)
    _, bound = derive(means, errors, COV)
    each = [derive({name: v[i] for name, v in repeats.items()}, errors, COV)[0] for i in range(6)]
    for name in DERIVED:
        scatter = np.std([one[name] for one in each], axis=0, ddof=1) / np.sqrt(6)
        np.testing.assert_allclose(linear[name], scatter, rtol=1e-2)
        assert (linear[name] <= bound[name] * (1 + 1e-9)).all()  # without the repeats: never less


def test_a_student_of_size_zero_has_no_angle_and_other_widths_no_distance():
    given = curves(TIMES, k=1, k_star=2)
    given["self_overlap"] = given["self_overlap"] * 0.0
    errors = {name: np.zeros_like(v) for name, v in given.items()}
    values, sizes = derive(given, errors, COV)
    assert np.isnan(values["angle"]).all()
    assert np.isnan(sizes["angle"]).all()
    assert "distance_to_teacher" not in values


def test_they_are_in_theory_and_simulation_and_comparisons_do_not_count_them(solved, simulated, tmp_path):
    for result in (solved, simulated):
        for name, dims in DERIVED.items():
            assert result.dataset[name].dims == result.dataset[f"{name}_se"].dims == dims
            assert np.isfinite(result.dataset[f"{name}_se"]).all()
        result.save(tmp_path / "result.nc")
        assert "angle" in sl.load(tmp_path / "result.nc").dataset
    report = sl.compare(solved, simulated)
    assert [row.observable for row in report.table] == ["self_overlap", "overlap", "train_risk", "test_risk"]
    for name in DERIVED:  # chance and a bias of 20 / d; seeds fixed
        gap = np.abs(solved.dataset[name] - simulated.dataset[name])
        error = np.hypot(solved.dataset[f"{name}_se"], simulated.dataset[f"{name}_se"])
        assert (gap <= 4.5 * error + 0.1 * np.abs(solved.dataset[name]).max()).all()


def test_every_dynamics_has_them():
    p = sign_problem()
    for dynamics in (sl.OnlineSGD(0.5), sl.MiniBatchGD(0.1, 0.5)):
        for result in (
            sl.solve(p, dynamics, horizon=0.3, rtol=0.1, times=[0.0, 0.3]),
            sl.simulate(p, dynamics, horizon=0.3, n_features=50, repeats=2, times=[0.0, 0.3]),
        ):
            assert set(DERIVED) <= set(result.dataset)
            if isinstance(dynamics, sl.OnlineSGD):
                assert (result.dataset["generalisation_gap"] == 0).all()
                assert (result.dataset["generalisation_gap_se"] == 0).all()


# --- a user's own ------------------------------------------------------------------------------------------------------


def test_accuracy_of_noiseless_signs_is_one_minus_the_angle(solved, simulated):
    for result in (solved, simulated):
        found = sl.observe(sign_problem(), result, sl.accuracy)
        assert found.dims == ("time",)
        exact = 1.0 - np.arccos(result.dataset["angle"].values[:, 0, 0]) / np.pi
        # The same overlaps on both sides: what is left is the integration, of 4 randomisations of 4,096 points.
        np.testing.assert_allclose(found, exact, atol=2e-3)
        # The overlaps' own error, by the derivative of the exact formula: of the same size, and never much less.
        sine = np.sqrt(1.0 - result.dataset["angle"].values[:, 0, 0] ** 2)
        by_angle = result.dataset["angle_se"].values[:, 0, 0] / (np.pi * sine)
        assert (found["se"] > 0.8 * by_angle).all()


def test_the_loss_observed_is_the_test_risk(solved):
    p = sign_problem()
    found = sl.observe(p, solved, lambda r, r_star, y: p.loss(r, y))
    np.testing.assert_allclose(found, solved.dataset["test_risk"], atol=1e-4)


def test_second_moments_observed_are_the_overlaps():
    m = models.committee(weights=[1.0, -0.5, 0.3], teacher_weights=[1.0, 0.5])
    init = sl.Init(overlap=[[0.3, 0.0], [0.0, 0.2], [0.1, 0.1]], cov=0.5 * np.eye(3))
    p = sl.Problem(m.loss, m.label, m.noise, 2.0, sl.GaussianTeacher(COV), init)
    runs = sl.simulate(p, sl.SGD(0.2), horizon=0.2, n_features=50, repeats=2, times=[0.0, 0.2])
    found = sl.observe(p, runs, lambda r, r_star, y: r[0] * r[1] + r[2] * r_star[1])
    data = runs.dataset
    np.testing.assert_allclose(found, data["self_overlap"][:, 0, 1] + data["overlap"][:, 2, 1], atol=2e-3)
    # Linear in two overlaps: the error is the sum of theirs, and the integration's.
    expected = data["self_overlap_se"].values[1, 0, 1] + data["overlap_se"].values[1, 2, 1]
    assert float(found["se"][1]) == pytest.approx(expected, rel=0.1)


def test_one_hot_accuracy_starts_at_chance():
    m = models.softmax(classes=3)
    p = sl.Problem(m.loss, m.label, m.noise, 2.0, sl.GaussianTeacher(np.eye(3)), sl.Init(np.zeros((3, 3)), 0.3 * np.eye(3)))
    runs = sl.simulate(p, sl.SGD(1.0), horizon=0.5, n_features=100, repeats=2, times=[0.0, 0.5])
    found = sl.observe(p, runs, sl.accuracy)
    assert float(found[0]) == pytest.approx(1 / 3, abs=6e-3)
    assert float(found[1]) > 0.35


@pytest.mark.parametrize(
    ("observable", "words"),
    [
        (lambda r, r_star, y: r, r"`observable` must return a number, but is an array of shape \(1,\)"),
        (lambda r, y: r[0], r"`observable` must map r \(1,\), r_star \(1,\) and what `label` returns to a number with JAX .*, but failed"),
        (lambda r, r_star, y: jnp.log(r[0]), r"`observable` must be finite, but its average is NaN or infinite"),
        (lambda r, r_star, y: r[1] * y, r"`observable` must ask for entries that there are, but asks for entry 1 of 1 \(r has k = 1"),
        (3, r"`observable` must be a function of r, r_star and y, but is 3"),
    ],
)  # fmt: skip
def test_wrong_observables_get_words(solved, observable, words):
    with pytest.raises(sl.InputError, match=words):
        sl.observe(sign_problem(), solved, observable)


def test_accuracy_wants_classes_and_the_right_problem(solved):
    m = models.linear_regression()
    p = sl.Problem(m.loss, m.label, m.noise, 2.0, sl.GaussianTeacher([[1.0]]), sl.Init([[0.0]], [[1.0]]))
    with pytest.raises(sl.InputError, match=r"`label` must be a class for the accuracy, but is .* \(-1 or 1 with k = 1, or one-hot"):
        sl.observe(p, solved, sl.accuracy)
    m = models.committee()
    p = sl.Problem(m.loss, m.label, m.noise, 2.0, sl.GaussianTeacher(np.eye(2)), sl.Init(np.zeros((2, 2)), np.eye(2)))
    with pytest.raises(sl.InputError, match=r"`result` must be of 2 student and 2 teacher directions, but is of 1 and 1"):
        sl.observe(p, solved, jax.nn.relu)


# --- on the training samples ---------------------------------------------------------------------------------------------


def confident(r, r_star, y):
    return jnp.where(y * r[0] > 1.0, 1.0, 0.0)


def test_the_loss_observed_on_the_train_side_is_the_train_risk(solved, simulated):
    p = sign_problem()
    loss = lambda r, r_star, y: p.loss(r, y)
    found = sl.observe(p, solved, loss, side="train")
    assert float(found[0]) == pytest.approx(float(sl.observe(p, solved, loss)[0]), abs=1e-12)  # nothing is trained on yet
    error = np.hypot(found["se"], solved.dataset["train_risk_se"])
    assert (np.abs(found - solved.dataset["train_risk"]) < 4.0 * error + 1e-4).all()  # seeds fixed; three times
    assert (found[-1] < sl.observe(p, solved, loss)[-1] - 5 * found["se"][-1]).all()
    # Real runs keep all of their 600 samples: the mean is that of the risk, repeat by repeat.
    found = sl.observe(p, simulated, loss, side="train")
    np.testing.assert_allclose(found, simulated.dataset["train_risk"], rtol=1e-5)
    np.testing.assert_allclose(found["se"], simulated.dataset["train_risk_se"], rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("observable", [sl.accuracy, confident])
def test_train_side_of_theory_and_runs_agree(solved, simulated, observable):
    p = sign_problem()
    limit, real = (sl.observe(p, result, observable, side="train") for result in (solved, simulated))
    # Four repeats: Student t with 3 degrees of freedom, level 0.01 over 4 times; a bias of order 1/d. Seeds fixed.
    assert (np.abs(limit - real) < 9.0 * np.hypot(limit["se"], real["se"]) + 2.0 / 200).all()
    fresh = sl.observe(p, solved, observable)
    assert float(limit[-1] - fresh[-1]) > 5 * float(np.hypot(limit["se"], fresh["se"])[-1])  # it is not the test side's number


def test_one_pass_trains_on_fresh_samples(tmp_path):
    p = sign_problem()
    theory = sl.solve(p, sl.OnlineSGD(0.5), horizon=0.3, rtol=0.1, times=[0.0, 0.3])
    np.testing.assert_array_equal(sl.observe(p, theory, sl.accuracy, side="train"), sl.observe(p, theory, sl.accuracy))


def test_labels_of_several_parts_reach_the_observable_as_they_were():
    m = models.logistic()
    label = lambda r_star, z: {"sign": m.label(r_star, z), "weight": 1.0 + jnp.abs(r_star[0])}
    loss = lambda r, y: y["weight"] * m.loss(r, y["sign"])
    p = sl.Problem(loss, label, m.noise, 2.0, sl.GaussianTeacher([[1.0]]), sl.Init([[0.0]], [[0.5]]))
    runs = sl.simulate(p, sl.SGD(0.3), horizon=0.2, n_features=50, repeats=2, times=[0.0, 0.2])
    found = sl.observe(p, runs, lambda r, r_star, y: loss(r, y), side="train")
    np.testing.assert_allclose(found, runs.dataset["train_risk"], rtol=1e-5)


def test_the_train_side_needs_paths_and_a_known_name(solved, simulated, tmp_path):
    p = sign_problem()
    with pytest.raises(sl.InputError, match=r"`side` must be 'test' or 'train', but is 'tain' \(did you mean `train`\?\)"):
        sl.observe(p, solved, sl.accuracy, side="tain")
    for result, words in ((solved, "`solution` must come from solve"), (simulated, "`runs` must come from simulate")):
        result.save(tmp_path / "result.nc")
        with pytest.raises(sl.InputError, match=words):
            sl.observe(p, sl.load(tmp_path / "result.nc"), sl.accuracy, side="train")
