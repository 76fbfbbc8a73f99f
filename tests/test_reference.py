"""The theory against stored simulations of real training (tests/data/reference), and against a solver that shares no code with it."""

import importlib.util
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import sgdlimit as sl
from marks import cases
from problems import CASES, CURVES, DYNAMICS, closed_forms, dynamics, reference


# Paths in several directions take longest.
@pytest.mark.parametrize(
    ("problem", "name"), cases(product(CASES, DYNAMICS), evidence=[("committee", "sme"), ("committee", "gf"), ("tanh_regression", "sme")])
)
def test_theory_meets_simulation(problem, name):
    # Every entry at every stored time: 3 joint standard errors plus 1% of the curve's scale for the simulations' finite size (a few
    # parts in a thousand) and for the many comparisons.
    case, stored = CASES[problem], reference(problem, name)
    data = sl.solve(case.build(), dynamics(name, case.step), case.horizon, rtol=0.01, seed=1, times=stored.times).dataset
    for curve in CURVES:
        mean = stored.mean[curve]
        joint = np.hypot(data[curve + "_se"].values, stored.se[curve])
        gap = np.abs(data[curve].values - mean)
        assert gap.shape == mean.shape
        worst = np.unravel_index(np.argmax(gap / (3 * joint + 0.01 * np.abs(mean).max())), gap.shape)
        assert (gap <= 3 * joint + 0.01 * np.abs(mean).max()).all(), (
            f"{curve} at {worst}: {data[curve].values[worst]} against {mean[worst]}"
        )


def _plain_solve():
    path = Path(__file__).parents[1] / "benchmarks" / "plain_solver.py"
    spec = importlib.util.spec_from_file_location("plain_solver", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.plain_solve


@pytest.mark.parametrize("name", DYNAMICS)
def test_plain_solver_of_the_benchmark_is_right(name):
    # A baseline that is wrong would make any rival look good. 8 seeds of 1500 paths; Richardson's combination of the steps h and h/2
    # removes the first-order bias, leaving about a fifth of it, measured below 2% at h = 0.1: 4 standard errors plus 1%.
    case, solve = CASES["ridge_regression"], _plain_solve()
    truth = closed_forms.linear_model(2.0, 0.0 if name == "gf" else case.step, 0.1, 0.25, 0.5, 1.0, [2.0])
    runs = {n: [solve(case.build(), dynamics(name, case.step), 2.0, n, 1500, seed)[1] for seed in range(8)] for n in (21, 41)}
    for curve in CURVES:
        coarse, fine = (np.array([run[curve].ravel()[-1] for run in runs[n]]) for n in (21, 41))
        spread = np.hypot(2 * fine.std(ddof=1), coarse.std(ddof=1)) / np.sqrt(8)
        assert abs(2 * fine.mean() - coarse.mean() - truth[curve][0]) < 4 * spread + 0.01 * truth[curve][0], curve
