"""Paths have the moments of the solution they come from, and the laws of real runs."""

from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import sgdlimit as sl
from fakes import runs, theory
from problems import CASES
from sgdlimit import plot

TIMES = (0.0, 0.3, 0.7, 1.5)
# A level for every test here as a whole, corrected by Bonferroni for its comparisons; seeds are fixed.
LEVEL = 1e-3
DYNAMICS = {
    "sgd": sl.SGD(1.5),
    "sme": sl.SME(1.5),
    "flow": sl.GradientFlow(),
    "online": sl.OnlineSGD(1.5),
    "mini-batch": sl.MiniBatchGD(0.2, 0.5),
    "reshuffled": sl.SGD(0.5, "reshuffle"),
}


@lru_cache
def problem(name):
    return CASES[name].build()


@lru_cache
def solved(name, dynamics, times=TIMES, rtol=0.02):
    return sl.solve(problem(name), dynamics, times[-1], rtol=rtol, seed=0, times=times)


def assert_means(values, truth, se, what):
    """`values (path, ...)` are independent with mean `truth`, which has a standard error of its own."""
    own = values.std(0) / np.sqrt(len(values))
    error = np.hypot(own, se)
    z = np.abs(values.mean(0) - truth)[error > 1e-12] / error[error > 1e-12]
    assert z.max() < stats.norm.isf(LEVEL / 2 / z.size), f"{what}: {z.max():.2f} standard errors"


def assert_moments(solution, loss):
    curves = solution.dataset
    samples, coordinates = solution.sample_paths(20000, seed=1), solution.coordinate_paths(20000, seed=1)
    for what, paths, star in (("w", samples.w, samples.r_star), ("theta", coordinates.theta, coordinates.theta_star)):
        square = np.einsum("pti,ptj->ptij", paths.values, paths.values)
        assert_means(square, curves.self_overlap.values, curves.self_overlap_se.values, what)
        cross = np.einsum("pti,pj->ptij", paths.values, star.values)
        assert_means(cross, curves.overlap.values, curves.overlap_se.values, what)
        two = np.einsum("pti,psj->ptsij", paths.values, paths.values)
        assert_means(two, curves.correlation.values, curves.self_overlap_se.values.max(), f"correlation of {what}")
    risk = jax.vmap(jax.vmap(loss, (0, None)))(samples.r.values, samples.y.values)
    assert_means(np.asarray(risk), curves.train_risk.values, curves.train_risk_se.values, "train risk")


@pytest.mark.parametrize("kind", DYNAMICS)
def test_second_moments_and_train_risk_are_the_solutions(kind):
    assert_moments(solved("tanh_regression", DYNAMICS[kind]), problem("tanh_regression").loss)


def test_two_directions():
    assert_moments(solved("committee", sl.SGD(1.0), (0.0, 0.5, 1.0), 0.1), problem("committee").loss)


# Simulated coordinates and samples of one run depend on each other a little; 1000 of 8000 or more hardly do.
@pytest.mark.parametrize(
    ("name", "dynamics"),
    [
        ("tanh_regression", sl.SGD(1.5)),
        ("tanh_regression", sl.SME(1.5)),
        ("tanh_regression", sl.GradientFlow()),
        ("logistic", sl.SGD(4.0)),
        ("tanh_regression", sl.SGD(0.5, "reshuffle")),
    ],
    ids=["sgd", "sme", "flow", "logistic", "reshuffled"],
)
def test_laws_are_those_of_real_runs(name, dynamics):
    real = sl.simulate(problem(name), dynamics, TIMES[-1], n_features=2000, repeats=4, seed=3, times=TIMES)
    found = sl.laws(solved(name, dynamics), real, n=1000, level=LEVEL)
    assert found.agree, str(found)
    assert {row.law for row in found.table} == {"theta", "r"} | ({"y r"} if name == "logistic" else set())
    assert found.taken == 1000
    # The test sees what there is to see: a fresh sample's law is another one.
    samples = solved(name, dynamics).sample_paths(4000)
    margin = lambda paths: (samples.y * paths if name == "logistic" else np.abs(samples.y - np.tanh(paths))).values
    assert stats.ks_2samp(margin(samples.r[:, -1, 0]), margin(samples.w[:, -1, 0])).pvalue < 1e-6


def sparse(penalty):
    return replace(problem("ridge_regression"), teacher=sl.SparseTeacher(density=0.1, cov=[[1.0]]), penalty=penalty)


SMOOTH = sl.SmoothPenalty(lambda row: 0.2 * jnp.sum(jnp.sqrt(row**2 + 0.01)))


@pytest.mark.parametrize("penalty", [sl.Ridge(0.1), pytest.param(SMOOTH, marks=pytest.mark.evidence)], ids=["ridge", "smooth"])
def test_a_sparse_teacher_shows_in_the_law_of_the_weights(penalty):
    solution = sl.solve(sparse(penalty), sl.SGD(0.8), 2.0, rtol=0.2, seed=0, times=[0.0, 2.0])
    theta = solution.coordinate_paths(4000).theta.values[:, -1, 0]
    assert stats.kurtosis(theta) > 4.0  # zero for a Gaussian, with a standard error of 0.08 here
    real = sl.simulate(sparse(penalty), sl.SGD(0.8), 2.0, n_features=2000, repeats=2, seed=0, times=[0.0, 2.0])
    simulated = real.coordinate_paths(1000).theta.values[:, -1, 0]
    assert stats.ks_2samp(theta, simulated).pvalue > LEVEL
    normal = np.random.default_rng(0).normal(0.0, theta.std(), 4000)
    assert stats.ks_2samp(normal, simulated).pvalue < LEVEL


def test_a_difference_is_seen_and_named():
    solution = solved("tanh_regression", sl.SGD(1.5))
    other = replace(problem("tanh_regression"), init=sl.Init(overlap=[[0.0]], cov=[[0.6]]))
    found = sl.laws(solution, sl.simulate(other, sl.SGD(1.5), TIMES[-1], n_features=1000, repeats=4, times=TIMES), times=[0.3])
    assert not found.agree
    assert "The laws DISAGREE" in str(found)


def test_paths_repeat_with_their_seed_and_are_labelled():
    solution = solved("tanh_regression", sl.SGD(1.5))
    a, b, c = (solution.sample_paths(10, seed=seed) for seed in (1, 1, 2))
    assert a.equals(b)
    assert not a.equals(c)
    assert (a.r.dims, a.r_star.dims, a.y.dims) == (("path", "time", "student"), ("path", "teacher"), ("path",))
    np.testing.assert_array_equal(a.time, TIMES)
    assert solution.coordinate_paths(10).theta.shape == (10, 4, 1)


def test_files_hold_no_laws_and_say_so(tmp_path):
    solution = solved("tanh_regression", sl.SGD(1.5))
    real = sl.simulate(problem("tanh_regression"), sl.SGD(1.5), 0.2, n_features=60, repeats=2)
    for result, message in ((solution, "`solution` must come from solve"), (real, "`runs` must come from simulate")):
        result.save(tmp_path / "a.nc")
        for paths in ("sample_paths", "coordinate_paths"):
            with pytest.raises(sl.InputError, match=message):
                getattr(sl.load(tmp_path / "a.nc"), paths)(5)
            with pytest.raises(sl.InputError, match="`n` must be a whole number, at least 1, but is 0"):
                getattr(result, paths)(0)
    with pytest.raises(sl.InputError, match="`n` must be at most 120, the coordinates kept, but is 1000"):
        real.coordinate_paths(1000)
    with pytest.raises(sl.InputError, match="`times` must be output times of both results"):
        sl.laws(solution, real, times=[0.123])
    with pytest.raises(sl.InputError, match="`theory` must be a Solution"):
        sl.laws(real, real)


def test_pictures_of_laws(tmp_path):
    solution = solved("committee", sl.SGD(1.0), (0.0, 0.5, 1.0), 0.1)
    real = sl.simulate(problem("committee"), sl.SGD(1.0), 1.0, n_features=200, repeats=2, times=(0.0, 0.5, 1.0))
    figures = (plot.weights(solution, real), plot.margins(solution, real, times=[1.0], n=2000), plot.weights(None, real))
    for number, (figure, columns) in enumerate(zip(figures, (2, 1, 2), strict=True)):
        assert len(figure.axes) == 2 * columns
        for axis in figure.axes:
            for line in axis.lines:  # densities add up to one
                assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(1.0, abs=0.02)
        plot.save(figure, tmp_path / f"{number}.png")
    plot.save(plot.two_time(solution, entry=(0, 1)), tmp_path / "kernels.pdf")
    with pytest.raises(sl.InputError, match="`solution` must have two-time kernels"):
        plot.two_time(theory())
    with pytest.raises(sl.InputError, match="`runs` must come from simulate"):
        plot.weights(None, runs())
