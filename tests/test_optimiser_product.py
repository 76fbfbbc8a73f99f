"""Every dynamics with every optimiser on every kind of problem, from a settings file on: it is solved, or refused in one sentence."""

import re
from itertools import product

import numpy as np
import pytest
from typer.testing import CliRunner

import sgdlimit as sl
from marks import cases
from sgdlimit import cli
from sgdlimit.settings import config
from sgdlimit.settings.training import title_of
from sgdlimit.theory.checks import check_theory

DYNAMICS = {
    "sgd": {"kind": "sgd"},
    "reshuffled": {"kind": "sgd", "sampling": "reshuffle"},
    "sme": {"kind": "sme"},
    "flow": {"kind": "gradient_flow"},
    "online": {"kind": "online_sgd"},
    "mini-batch": {"kind": "mini_batch_gd", "fraction": 0.5},
}
OPTIMISERS = {
    "none": {},
    "momentum": {"optimizer": {"kind": "momentum", "memory": 0.1}},
    "adam": {"optimizer": {"kind": "adam", "memory": 0.02, "second_memory": 0.5, "decay": 0.1}},
    "noise": {"temperature": 0.1, "clip": 1.0},
    "warm adam": {"optimizer": {"kind": "adam", "memory": 0.02, "second_memory": 0.5}, "temperature": 0.1},
    "all": {"optimizer": {"kind": "momentum", "memory": 0.1}, "temperature": 0.1, "clip": 1.0},
}
RIDGE, SMOOTH = {"kind": "ridge", "strength": 0.05}, {"kind": "smooth_l1", "strength": 0.05}
CASES = {
    "ridge": {"model": "tanh_regression", "penalty": RIDGE},
    "smooth": {"model": "tanh_regression", "penalty": SMOOTH},
    "spectrum": {"model": "tanh_regression", "penalty": RIDGE, "spectrum": {"eigenvalues": [1.5, 0.5]}},
    "both": {"model": "tanh_regression", "penalty": SMOOTH, "spectrum": {"eigenvalues": [1.5, 0.5]}},
    "schedule": {"model": "tanh_regression", "penalty": RIDGE},
    "kink": {"model": "hinge", "penalty": RIDGE},
}
SENTENCE = r"`[\w.\[\]]+` must [^\n]+, but is [^\n]+"


@pytest.fixture(scope="module")
def problems():
    common = {"sample_ratio": 1.5, "teacher": {"kind": "gaussian", "cov": 2.25}}
    specs = {name: config.ProblemSpec.model_validate(common | case) for name, case in CASES.items()}
    return {name: config._problem(spec, None) for name, spec in specs.items()}


def dynamics_of(name, optimiser, case):
    high = 0.2 if name == "mini-batch" else 1.0  # of whose steps some must fit
    scheduled = {"kind": "linear", "start": high, "end": 0.5 * high, "duration": 0.2}
    step = {} if name == "flow" else {"step": scheduled if case == "schedule" else high}
    tables = {"problem": {"model": "x", "sample_ratio": 1.5, "teacher": {"kind": "gaussian", "cov": 1.0}}, "run": {"horizon": 1.0}}
    settings = config._settings({**tables, "dynamics": [DYNAMICS[name] | OPTIMISERS[optimiser] | step]})
    (part,) = config._parts(settings.dynamics)
    assert part.name == title_of(part.dynamics)
    return part.dynamics


def refused(name, optimiser, case):
    """The field that is to blame, of what has no theory; empty for what has."""
    if name == "flow" and "adam" in optimiser:
        return "optimizer"
    if case == "kink" and name in ("sme", "flow"):
        return "problem.loss|loss|dynamics"
    return "penalty" if case in ("smooth", "both") and name in ("online", "mini-batch") else ""


@pytest.mark.parametrize(("name", "optimiser", "case"), [*product(DYNAMICS, OPTIMISERS, CASES)])
def test_every_combination_has_a_theory_or_is_refused_in_a_sentence(problems, name, optimiser, case):
    field = refused(name, optimiser, case)
    if not field:
        check_theory(problems[case], dynamics_of(name, optimiser, case))
        return
    with pytest.raises(sl.InputError) as caught:
        check_theory(problems[case], dynamics_of(name, optimiser, case))
    assert re.match(SENTENCE, str(caught.value)), str(caught.value)
    assert re.search(rf"`[^`]*({field})`", str(caught.value)), str(caught.value)


# Each dynamics with each optimiser, each optimiser on each kind of problem, and one of each sort of coordinates and samples: programs
# are compiled for seconds each, so not all of them.
SOLVED = [
    ("sgd", "momentum", "ridge"),
    ("sgd", "all", "schedule"),
    ("sgd", "adam", "spectrum"),
    ("sgd", "warm adam", "both"),
    ("reshuffled", "momentum", "kink"),
    ("reshuffled", "adam", "smooth"),
    ("sme", "noise", "smooth"),
    ("sme", "adam", "schedule"),
    ("flow", "momentum", "spectrum"),
    ("flow", "momentum", "smooth"),
    ("flow", "all", "ridge"),
    ("online", "adam", "kink"),
    ("online", "all", "spectrum"),
    ("mini-batch", "momentum", "kink"),
    ("mini-batch", "adam", "spectrum"),
    ("mini-batch", "noise", "schedule"),
]


@pytest.mark.parametrize(
    ("name", "optimiser", "case"), cases(SOLVED, evidence=[("sme", "noise", "smooth"), ("reshuffled", "adam", "smooth")])
)
def test_one_of_each_pair_is_solved(problems, name, optimiser, case, tmp_path):
    dynamics = dynamics_of(name, optimiser, case)
    solution = sl.solve(problems[case], dynamics, 0.2, rtol=0.3, times=[0.0, 0.1, 0.2])
    assert solution.status.code == "done", str(solution.status)
    solution.save(tmp_path / "theory.nc")
    again = sl.load(tmp_path / "theory.nc")
    assert again.dataset.attrs["dynamics"] == repr(dynamics)
    assert str(again) == str(solution)
    np.testing.assert_array_equal(again.dataset.test_risk, solution.dataset.test_risk)
    if case != "schedule":
        assert eval(again.dataset.attrs["dynamics"], vars(sl) | {one: getattr(sl, one) for one in sl.__all__}) == dynamics


RUN = """
[problem]
model = "tanh_regression"
sample_ratio = 1.5
teacher = { kind = "gaussian", cov = 2.25 }
[[dynamics]]
kind = "mini_batch_gd"
fraction = 0.5
step = 0.1
optimizer = { kind = "adam", memory = 0.1, second_memory = 0.5 }
[run]
horizon = 0.2
rtol = 0.3
[simulation]
n_features = 60
repeats = 2
average = { kind = "tail", fraction = 0.5 }
"""


def test_a_run_tells_of_its_optimiser_and_compares_averages_with_averages(tmp_path):
    (tmp_path / "mine.toml").write_text(RUN)
    done = CliRunner().invoke(cli.app, ["run", str(tmp_path / "mine.toml"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    runs = sl.load(tmp_path / "out" / "simulation-mini-batch-gd-with-adam.nc")
    theory = sl.load(tmp_path / "out" / "theory-mini-batch-gd-with-adam.nc")
    assert theory.dataset.attrs["average"] == runs.dataset.attrs["average"] == "TailAverage(fraction=0.5)"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "optimizer.second_memory" in page
    assert "mini-batch GD with Adam, averaged weights" in page
    assert "Theory and simulation" in page
