"""Seconds that a solve may take: kept, with the best answer that there is by then, and words."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sgdlimit as sl
from problems import linear, tanh_regression
from sgdlimit.theory import closed_forms

KNOWN = {"sample_ratio": 2.0, "ridge": 0.1, "noise_variance": 0.25, "start_variance": 0.5, "teacher_variance": 1.0}
TIMES = np.linspace(0.0, 4.0, 9)


def test_a_budget_is_kept_and_what_comes_back_is_right():
    sl.solve(linear(**KNOWN), sl.SGD(0.8), 4.0, rtol=0.019, times=TIMES)  # compiled, for the first answer
    began = time.perf_counter()
    found = sl.solve(linear(**KNOWN), sl.SGD(0.8), 4.0, rtol=1e-5, times=TIMES, budget=6.0)
    assert time.perf_counter() - began < 9.0  # three seconds more are allowed
    assert found.status.code == "inaccurate"
    assert "was not met within the budget of 6 s" in found.status.message
    exact = closed_forms.linear_model(step=0.8, times=TIMES, **KNOWN)
    worst = found.diagnostics["error"]
    assert 1e-5 < worst < 0.02
    for name in ("self_overlap", "overlap", "train_risk", "test_risk"):  # eight strongly correlated points: four standard errors
        gap = np.abs(found.dataset[name].values.reshape(len(TIMES), -1)[:, 0] - exact[name])
        assert (gap <= 4.0 * found.dataset[f"{name}_se"].values.reshape(len(TIMES), -1)[:, 0] + 1e-9).all(), name


def test_what_a_budget_allows_is_the_same_as_without():
    one, other = (sl.solve(tanh_regression(), sl.SGD(1.5), 1.0, rtol=0.05, times=[0.0, 1.0], budget=budget) for budget in (None, 300.0))
    assert one.dataset.drop_attrs().equals(other.dataset.drop_attrs())
    assert "budget" not in other.status.message


def test_a_budget_that_is_too_small_for_any_answer_is_said():
    # A loss of its own, so that nothing is compiled yet.
    problem = replace(tanh_regression(), loss=lambda r, y: 0.25 * (r[0] - y) ** 2 + 0.25 * (r[0] + y) ** 2)
    with pytest.raises(sl.SolveError, match=r"`budget` must allow for a first answer, but 0\.01 s are spent"):
        sl.solve(problem, sl.SGD(0.5), 1.0, budget=0.01)


@pytest.mark.parametrize(
    ("budget", "dynamics"), [(0.0, sl.SGD(1.0)), (-1.0, sl.SGD(1.0)), ("a minute", sl.SGD(1.0)), (5.0, sl.MiniBatchGD(0.5, 0.5))]
)
def test_what_is_no_budget_is_said(budget, dynamics):
    with pytest.raises(sl.InputError, match="`budget` must be"):
        sl.solve(tanh_regression(), dynamics, 1.0, budget=budget)


def test_one_pass_has_a_budget_too():
    found = sl.solve(tanh_regression(), sl.OnlineSGD(1.0), 1.0, rtol=0.05, times=[0.0, 1.0], budget=200.0)
    assert found.status.code == "done"


def test_a_settings_file_has_one_and_a_sweep_none(tmp_path):
    from sgdlimit.settings import config
    from sgdlimit.sweep import plan

    text = (Path(__file__).parent.parent / "examples" / "quickstart.toml").read_text().replace("[run]\n", "[run]\nbudget = 60\n")
    (tmp_path / "one.toml").write_text(text)
    assert config.read(tmp_path / "one.toml").settings.run.budget == 60.0
    (tmp_path / "many.toml").write_text(text + '\n[sweep]\naxes = { "problem.sample_ratio" = [0.5, 1.0] }\n')
    with pytest.raises(sl.InputError, match=r"`run\.budget` must be left out of a sweep"):
        plan.read(tmp_path / "many.toml", None)
