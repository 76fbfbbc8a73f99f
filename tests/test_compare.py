"""`compare` calls equal laws equal at its level, sees what it should see, and never divides by a zero error."""

import numpy as np
import pytest
from scipy import stats

import sgdlimit as sl
from fakes import runs, theory
from sgdlimit.results import Simulation, Status
from sgdlimit.theory.accuracy.outcome import scales


def test_false_alarms_stay_below_the_level():
    # Law: independent normal scatter, 4 repeats, known theory; seeds 0-399; level 0.1. Bonferroni keeps the rate below it; the
    # count exceeds the binomial's 99.9% quantile with probability below 0.1%.
    alarms = sum(not sl.compare(theory(se=0.0), runs(repeats=4, seed=s), level=0.1, bias=0.0).agree for s in range(400))
    assert alarms <= stats.binom(400, 0.1).ppf(0.999)
    assert alarms >= stats.binom(400, 0.05).ppf(0.001)  # nor is the correction far too strong: 1 - exp(-0.1) is about 0.095


@pytest.mark.parametrize("k", [1, 2])
def test_a_real_difference_is_seen_and_named(k):
    comparison = sl.compare(theory(k=k, k_star=k), runs(k=k, k_star=k, sigma=0.002, repeats=16, speed=1.1))
    assert not comparison.agree
    assert "DISAGREE in" in comparison.verdict
    assert "test_risk" in str(comparison)
    assert {row.observable for row in comparison.table} >= ({"overlap"} if k == 1 else {"overlap[0,1]", "self_overlap[0,1]"})


def test_finite_size_bias_is_allowed_for_and_said():
    biased = runs(sigma=1e-4, bias=0.001, n_features=2000)
    assert not sl.compare(theory(se=1e-5), biased, bias=0.0).agree
    comparison = sl.compare(theory(se=1e-5), biased)
    assert comparison.agree
    assert comparison.allowance == pytest.approx(0.01)
    assert "beyond a finite-size bias of 1.00% of scale" in comparison.verdict


def test_an_exact_start_without_error_is_compared_without_division():
    equal = theory(times=[0.0], se=0.0)
    assert sl.compare(equal, runs(times=[0.0])).agree
    assert not sl.compare(equal, runs(times=[0.0], bias=0.5)).agree


def symmetric(result, noise):
    """The same result for a teacher of which the student learns nothing: an overlap of zero but for `noise`."""
    dataset = result.dataset.copy(deep=True).assign_attrs(result.dataset.attrs | {"teacher_size": 1.0})
    dataset["overlap"][:] = noise
    return type(result)(dataset, result.status, result.diagnostics)


def test_an_overlap_that_is_zero_by_symmetry_is_measured_against_what_it_could_be(tmp_path):
    at = np.linspace(0.001, -0.002, 21).reshape(-1, 1, 1)
    limit, real = symmetric(theory(), 1e-4), symmetric(runs(sigma=0.003), at)
    bound = np.sqrt(limit.dataset["self_overlap"].values.max())
    for one, other in ((limit, real), (limit, symmetric(runs(sigma=0.003), at))):
        row = next(row for row in sl.compare(one, other).table if row.observable == "overlap")
        assert row.relative == pytest.approx(0.0021 / (0.1 * bound))
    real.save(tmp_path / "runs.nc")
    del limit.dataset.attrs["teacher_size"]  # as a file of an earlier version: either side may know
    assert sl.compare(limit, sl.load(tmp_path / "runs.nc")).table == sl.compare(symmetric(limit, 1e-4), real).table


def test_compare_and_solve_mean_the_same_by_a_scale():
    problem = sl.Problem(
        lambda r, y: 0.5 * (r[0] - y) ** 2, lambda r_star, z: r_star[0] ** 2, sl.NoNoise(), 2.0, sl.GaussianTeacher([[2.25]]),
        sl.Init([[0.0]], [[1.0]]),
    )  # fmt: skip
    limit = sl.solve(problem, sl.OnlineSGD(0.1), 0.5, rtol=0.05)
    real = sl.simulate(problem, sl.OnlineSGD(0.1), 0.5, n_features=100, repeats=2)
    assert limit.dataset.attrs["teacher_size"] == real.dataset.attrs["teacher_size"] == 2.25
    found = scales(problem, {name: limit.dataset[name].values for name in ("self_overlap", "overlap", "train_risk", "test_risk")})
    assert np.abs(limit.dataset["overlap"]).max() < 0.01 < found["overlap"]
    gap = float(np.abs(real.dataset["overlap"] - limit.dataset["overlap"]).max())
    row = next(row for row in sl.compare(limit, real).table if row.observable == "overlap")
    assert row.relative == pytest.approx(gap / found["overlap"])


def test_different_times_are_interpolated():
    comparison = sl.compare(theory(np.linspace(0, 4, 401)), runs(np.linspace(0, 4, 11), sigma=0.005))
    assert comparison.agree
    assert comparison.comparisons == 10 * 4 + 4


def test_a_weak_test_says_so():
    weak = sl.compare(theory(), runs(sigma=0.5, repeats=3))
    assert weak.agree
    assert "the runs scatter too much for a sharp test" in weak.verdict
    assert "scatter too much" not in sl.compare(theory(), runs()).verdict


def test_what_diverged_is_compared_up_to_there():
    ended = Status("diverged", "diverged at t = 2")
    comparison = sl.compare(theory(), runs(np.linspace(0, 2, 11), status=ended))
    assert comparison.agree
    assert "; simulation diverged, compared up to t = 2." in comparison.verdict
    holed = runs()
    holed.dataset["train_risk"][-3:] = np.nan
    assert sl.compare(theory(), Simulation(holed.dataset, ended, {})).agree


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((theory(k=2, k_star=1), runs()), {}, "`runs` must have 2 student directions like `theory`, but has 1"),
        ((theory(k_star=2), runs()), {}, "`runs` must have 2 teacher directions like `theory`, but has 1"),
        ((theory([0.0, 1.0]), runs([2.0, 3.0])), {}, "`runs` must share times with `theory`, but they have none in common"),
        ((runs(), theory()), {}, "`theory` must be a Solution, but is"),
        ((theory(), runs()), {"level": 0.0}, r"`level` must lie in \(0, 1\), but is 0.0"),
        ((theory(), runs()), {"bias": -1.0}, "`bias` must not be negative, but is -1.0"),
    ],
)
def test_mismatches_get_words(arguments, options, message):
    with pytest.raises(sl.InputError, match=message):
        sl.compare(*arguments, **options)
