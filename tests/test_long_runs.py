"""What long trainings ask of the solver: resolutions that share their randomness, and a noise covariance that keeps its innovations."""

import numpy as np
import pytest

import sgdlimit as sl
from problems import CASES
from sgdlimit.theory.gaussian import GROWN, GrowingFactor
from sgdlimit.theory.grids import spaced
from sgdlimit.theory.samples.draws import draw, lay_out
from sgdlimit.theory.weights.noise import pieces, smoothed


@pytest.mark.parametrize("dynamics", [sl.SGD(4.0), sl.SME(4.0)])
def test_bridges_of_all_resolutions_are_of_one_motion(dynamics):
    # Whatever the grid: standard normals, independent of each other and of their cell's own increment. Some 10^5 of them: correlations and
    # variances are known to 0.003 or so, and 0.015 is five standard errors of each.
    problem, horizon, cells, paths = CASES["logistic"].build(), 300.0, 64, 4096
    drawn, finest = draw(problem, dynamics, horizon, cells, paths, np.random.SeedSequence(1)), spaced(horizon, cells)
    for every in (1, 2, 4):
        draws, _ = lay_out(problem, dynamics, drawn, finest[::every])
        count = cells // every
        if draws.earlier is None:
            there = np.broadcast_to(np.arange(cells)[:, None] < count, (cells, paths))
            cell = np.broadcast_to(np.arange(cells)[:, None], there.shape)
        else:
            there = np.isfinite(drawn.jumps.times.T)
            cell = np.sum(np.arange(len(there))[:, None, None] >= draws.earlier[1 : count + 1], 1).clip(0, count - 1)
        bridge = draws.bridge[:, 0]
        own = draws.gauss[2:][cell, np.arange(paths)]
        assert bridge[there].mean() == pytest.approx(0.0, abs=0.015)
        assert bridge[there].var() == pytest.approx(1.0, abs=0.02)
        assert np.mean((bridge * own)[there]) == pytest.approx(0.0, abs=0.015)
        assert np.mean((bridge[1:] * bridge[:-1])[there[1:]]) == pytest.approx(0.0, abs=0.015)


def test_smoothing_keeps_what_is_smooth_and_averages_noise():
    nodes = spaced(10.0, 200)
    widths, s = np.diff(nodes), nodes[:-1] + 0.5 * np.diff(nodes)
    true = widths / (1.0 + s)
    row = np.append(true, 7.0)[None, None, :, None]
    # Pieces of a fifth of the distance: the error is (1/5)^2 / 8 of a curvature of two.
    assert smoothed(row, nodes)[0, 0, :-1, 0] == pytest.approx(true, rel=1e-2)
    assert smoothed(row, nodes)[0, 0, -1, 0] == 7.0  # the cell's own is left alone
    errors = np.random.default_rng(0).standard_normal((400, 1, 201, 1)) * np.append(np.sqrt(widths), 1.0)[None, None, :, None]
    kept = np.mean((smoothed(errors, nodes) ** 2 / np.append(widths, 1.0)[None, None, :, None])[:, 0, :-1, 0])
    assert kept == pytest.approx(len(pieces(200)) / 200, rel=0.1)  # as many degrees of freedom as pieces


def test_short_grids_are_not_smoothed():
    row = np.random.default_rng(0).standard_normal((2, 1, 21, 1))
    assert (smoothed(row, spaced(1.0, 20)) == row).all()


@pytest.mark.parametrize("k", [1, 2])
def test_a_growing_factor_is_the_cholesky_factor(k):
    a = np.random.default_rng(0).standard_normal((3, 30 * k, 35 * k))
    matrix = a @ np.swapaxes(a, 1, 2)
    factor = GrowingFactor(3, 30, k)
    for item in range(30):
        rows = matrix.reshape(3, 30, k, 30, k)[:, item, :, : item + 1]
        factor.extend(item, 0.5 * rows)  # set once, and again
        factor.extend(item, rows)
    assert factor.factor.reshape(3, 30 * k, 30 * k) == pytest.approx(np.linalg.cholesky(matrix), abs=1e-9)
    assert factor.live.all()


def test_a_direction_without_variance_is_not_divided_by():
    """Kicks that add up to zero, as those of a softmax do, and fade smoothly, so that hardly anything is new in one: rounding in their
    factor, taken for an error to be cut, had grown to 1e26 times the covariance. What is left out are pivots, one for every row."""
    rng = np.random.default_rng(0)
    n, k, paths = 32, 3, 400
    kicks = np.exp(-rng.lognormal(0.0, 0.7, (k, paths)) * np.linspace(0.0, 2.0, n)[:, None, None]) * rng.standard_normal((k, paths))
    kicks -= kicks.mean(1, keepdims=True)
    covariance = np.einsum("cip,djp->cidj", kicks, kicks)[None] / paths
    factor = GrowingFactor(1, n, k)
    for item in range(n):
        factor.extend(item, covariance[:, item, :, : item + 1])
    root = factor.factor.reshape(n * k, n * k)
    assert root @ root.T == pytest.approx(covariance.reshape(n * k, n * k), abs=n * k * GROWN * covariance.max())


def test_three_epochs_agree_with_the_event_engine():
    """Against the event engine, which has no noise of cells to factor: independent seeds, 4 joint standard errors, one false alarm in some
    thousand runs."""
    case = CASES["logistic"]
    problem = case.build()
    horizon = 3 * case.step * problem.sample_ratio
    times = np.linspace(0.0, horizon, 7)
    found = [
        sl.solve(problem, sl.SGD(case.step), horizon, rtol=0.02, seed=seed, method=method, times=times)
        for seed, method in ((1, "events"), (2, "paths"))
    ]
    a, b = (solution.dataset for solution in found)
    for curve in ("self_overlap", "overlap", "train_risk", "test_risk"):
        gap = np.abs(a[curve] - b[curve]).values
        assert (gap <= 4 * np.hypot(a[curve + "_se"], b[curve + "_se"]).values + 1e-9).all(), curve
