"""Two ways to carry samples, from jump to jump and from node to node, are two witnesses of one limit; and the choice between them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdlimit as sl
from problems import CASES, CURVES
from sgdlimit.theory.samples.directions import fed_back


@pytest.mark.parametrize(("problem", "horizon"), [("tanh_regression", 3.0), ("committee", 2.0)])
def test_events_and_paths_agree(problem, horizon):
    # Independent seeds; 4 joint standard errors at each of some 60 to 150 strongly correlated points: one false alarm in about 1000 runs.
    case = CASES[problem]
    found = [
        sl.solve(case.build(), sl.SGD(case.step), horizon, rtol=0.01, seed=seed, method=method, times=np.linspace(0.0, horizon, 13))
        for seed, method in ((1, "events"), (2, "paths"))
    ]
    assert [solution.diagnostics["method"] for solution in found] == ["events", "paths"]
    a, b = (solution.dataset for solution in found)
    for curve in CURVES:
        joint = np.hypot(a[curve + "_se"].values, b[curve + "_se"].values)
        gap = np.abs(a[curve].values - b[curve].values)
        assert (gap <= 4 * joint + 1e-9).all(), f"{curve}: {np.max(gap / (joint + 1e-12)):.1f} joint standard errors"


def _even(r, y):
    return 0.5 * (jnp.tanh(r[0]) ** 2 - y) ** 2


def test_the_choice_is_told_with_its_reason():
    case, linear = CASES["tanh_regression"], CASES["ridge_regression"]
    rough = replace(case.build(), spectrum=sl.Spectrum.power_law(1.0, 6))
    told = {
        name: sl.solve(problem, dynamics, 0.5, rtol=0.3).diagnostics
        for name, problem, dynamics in (
            ("few", case.build(), sl.SGD(case.step)),
            ("many", case.build(), sl.SGD(0.05)),
            ("flow", case.build(), sl.GradientFlow()),
            ("near stability", linear.build(), sl.SGD(1.3)),
            ("rough", rough, sl.SGD(0.5)),
        )
    }
    even = replace(case.build(), loss=_even, label=lambda r_star, z: jnp.tanh(r_star[0]) ** 2, init=sl.Init([[0.05]], [[0.5]]))
    told["blind"] = sl.solve(even, sl.SGD(case.step), 0.5, rtol=0.3).diagnostics
    assert {name: one["method"] for name, one in told.items()} == {
        "few": "paths",
        "many": "paths",
        "flow": "paths",
        "near stability": "events",
        "rough": "events",
        "blind": "events",
    }
    assert "cost less" in told["few"]["method_why"]
    assert "too many" in told["many"]["method_why"]
    assert "no jumps" in told["flow"]["method_why"]
    assert "overshoot" in told["near stability"]["method_why"]
    assert "much faster" in told["rough"]["method_why"]
    assert "hardly knows" in told["blind"]["method_why"]


def test_events_need_jumps():
    with pytest.raises(sl.InputError, match="`method` must be 'auto' or 'paths'"):
        sl.solve(CASES["tanh_regression"].build(), sl.GradientFlow(), 1.0, method="events")


@pytest.mark.parametrize("method", ["events", "paths"])
def test_a_seed_gives_its_numbers(method):
    # Another seed: 4 joint standard errors at each of 21 strongly correlated points.
    case = CASES["tanh_regression"]
    solve = lambda seed: sl.solve(case.build(), sl.SGD(case.step), 1.0, rtol=0.05, seed=seed, method=method, times=np.linspace(0.0, 1.0, 6))
    first, again, other = (solve(seed).dataset for seed in (3, 3, 4))
    for curve in CURVES:
        np.testing.assert_array_equal(first[curve].values, again[curve].values)
        np.testing.assert_array_equal(first[curve + "_se"].values, again[curve + "_se"].values)
        gap, joint = np.abs(first[curve] - other[curve]).values, np.hypot(first[curve + "_se"].values, other[curve + "_se"].values)
        assert gap.max() > 0.0
        assert (gap <= 4 * joint + 1e-9).all()


def test_a_hat_is_fed_back_from_the_cell_in_which_it_rises():
    # A hat moves w before its own node, so that it has a deposit on the node before: also where a strip of directions begins.
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        row, deposit = rng.standard_normal((36, 2, 2)), rng.standard_normal((36, 2, 36, 2, 5))
        deposit *= (np.arange(36)[:, None] >= np.arange(36) - 1)[:, None, :, None, None]
        for upto in (14, 15, 16, 30, 35):
            got = fed_back(row * (np.arange(36) <= upto)[:, None, None], deposit, upto)
            np.testing.assert_allclose(got, np.einsum("aij,ajxcp->ixcp", row[: upto + 1], deposit[: upto + 1]), atol=1e-12)
