"""The limit from real runs of two sizes: against closed forms and kernels, and where `solve` takes them by itself."""

import itertools
from collections import deque
from dataclasses import replace
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

import sgdlimit as sl
from problems import CURVES, deviations, hinge, random_linear, tanh_regression
from sgdlimit.learning.slopes import still
from sgdlimit.simulate.core import plan
from sgdlimit.simulate.paths import Keeper
from sgdlimit.simulate.repeats import Repeats
from sgdlimit.theory import by_runs
from sgdlimit.theory.accuracy.budget import Budget, OutOfTime
from sgdlimit.theory.accuracy.plans import Planner
from sgdlimit.theory.accuracy.search import Search
from sgdlimit.theory.by_runs import Runs, Size


@pytest.mark.parametrize("index", [3, 11])  # SGD and a flow, with momentum
def test_runs_extrapolate_to_the_closed_form(index):
    # Seeds 1 to 6, each with some 160 points of four curves that are correlated in time, so that a seed is one draw or two. Over 33 such
    # problems 97 to 99% of points are within two errors; of six seeds nine tenths are, but in one of a hundred tests.
    known, z = random_linear(index, momentum=True), []
    for seed in range(1, 7):
        found = sl.solve(known.problem, known.dynamics, known.horizon, rtol=0.03, seed=seed, method="runs")
        assert found.status.code == "done"
        assert found.diagnostics["method"] == "runs"
        z.append(deviations(known, found))
    assert np.mean(np.abs(z) <= 2.0) >= 0.85
    assert np.abs(z).max() < 5.0


def _agree(one: sl.Solution, other: sl.Solution, times: float) -> None:
    for name in [*CURVES, *(["trained"] if "trained" in one.dataset else [])]:
        error = np.hypot(one.dataset[name + "_se"].values, other.dataset[name + "_se"].values)
        assert (np.abs(one.dataset[name].values - other.dataset[name].values) <= times * error + 1e-9).all(), name


def _pseudo_huber(theta):
    return 0.05 * jnp.sum(jnp.sqrt(1.0 + theta**2))


def _moved(r, y, a):
    return 0.5 * (jnp.tanh(r[0]) + a[0] - y) ** 2


@pytest.mark.parametrize(
    ("problem", "dynamics"),
    [
        (replace(tanh_regression(), spectrum=sl.Spectrum([1.6, 0.4]), penalty=sl.SmoothPenalty(_pseudo_huber)), sl.SGD(1.0, "reshuffle")),
        (replace(tanh_regression(), loss=_moved, trained=sl.Trained([0.5])), sl.GradientFlow(temperature=0.05)),
        (hinge(), sl.SGD(lambda t: 1.0 / (1.0 + t), optimizer=sl.Momentum(0.2))),
    ],
    ids=["spectrum", "trained along", "kinks"],
)
def test_runs_and_kernels_agree(problem, dynamics):
    # Five correlated points a curve, five joint errors.
    call = lambda **how: sl.solve(problem, dynamics, 1.0, rtol=0.05, times=np.linspace(0.0, 1.0, 5), seed=2, on_failure="return", **how)
    _agree(call(method="runs"), call(), 5.0)


def test_many_epochs_are_solved_by_runs_and_say_so():
    problem = tanh_regression()
    epoch = 0.05 * problem.sample_ratio
    found = sl.solve(problem, sl.SGD(0.05, "reshuffle"), 140 * epoch, rtol=0.1, times=[0.0, 140 * epoch])
    assert found.status.code == "done"
    assert found.diagnostics["method_why"] == "140 epochs of reshuffled data are too many to follow"
    flow = sl.solve(problem, sl.GradientFlow(), 140 * epoch, rtol=0.02, times=[0.0, 140 * epoch])  # small steps of SGD are near the flow
    np.testing.assert_allclose(found.dataset.test_risk[-1], flow.dataset.test_risk[-1], rtol=0.15)


def test_progress_is_that_of_the_runs_asked_for():
    said = []
    tell = lambda *words: said.append(words)
    sl.solve(tanh_regression(), sl.SGD(1.0), 0.5, rtol=0.2, times=[0.0, 0.5], method="runs", progress=tell)
    shares = [share for share, words in said if f"{by_runs.FIRST} runs of" in words]
    assert 0.0 <= shares[0] < 0.5 < shares[-1] < 1.0
    assert shares == sorted(shares)


def test_there_are_no_kernels_and_a_sentence_says_so():
    found = sl.solve(tanh_regression(), sl.SGD(1.0), 0.5, rtol=0.2, times=[0.0, 0.5], method="runs")
    assert "correlation" not in found.dataset
    for ask in (lambda: found.sample_paths(3), lambda: found.coordinate_paths(3), lambda: found.averaged(sl.TailAverage(0.5))):
        with pytest.raises(sl.InputError, match="must have kernels for paths and averages, but its curves are extrapolated from real runs"):
            ask()
    assert "correlation" in sl.solve(tanh_regression(), sl.SGD(1.0), 0.5, rtol=0.2, times=[0.0, 0.5], method="kernels").dataset


def test_solve_tries_runs_where_they_are_cheaper(monkeypatch):
    tried = []
    monkeypatch.setattr(by_runs, "better", lambda runs, found, began: tried.append(found.diagnostics["error"]) or found)
    call = lambda **how: sl.solve(tanh_regression(), sl.SGD(1.0), 1.0, rtol=0.003, times=[0.0, 1.0], on_failure="return", **how)
    assert call().status.code == "done"
    assert not tried  # a second of work
    monkeypatch.setattr(by_runs, "WORTH", 0.0)
    monkeypatch.setattr(by_runs, "TRIED", 1e9)
    assert call().status.code == "done"
    assert not tried  # they were dearer
    monkeypatch.setattr(Runs, "_costs", lambda *_: 0.0)
    assert call().status.code == "inaccurate"
    assert tried[0] > 0.003  # the pilot's, which no plan has made better
    tried.clear()
    assert call(method="kernels").status.code == "done"
    assert not tried  # never


@pytest.mark.parametrize(("known", "method"), [(0.5, "runs"), (0.0, "kernels")])
def test_the_more_accurate_answer_is_returned(known, method):
    runs = Runs(tanh_regression(), sl.SGD(1.0), 1.0, 0.2, 0, np.array([0.0, 1.0]), lambda *_: None, Budget(None))
    kernels = SimpleNamespace(diagnostics={"error": known, "method": "kernels"})
    assert by_runs.better(runs, kernels, (0.0, 0.0)).diagnostics["method"] == method


def test_the_choice_goes_by_sizes():
    runs = Runs(tanh_regression(), sl.SGD(1.0), 1.0, 0.003, 0, np.array([0.0, 1.0]), lambda *_: None, Budget(None))
    assert not runs.cheaper(by_runs.WORTH - 1.0, 0.003)
    assert not runs.large.runs  # not even tried
    assert runs.cheaper(1e4, 0.003)
    assert not runs.cheaper(by_runs.WORTH, 0.003)  # they would take longer


def test_what_kernels_cannot_tell_runs_do_where_there_is_a_limit(monkeypatch):
    """Of a gradient that grows at most linearly all averages exist: a pilot that loses them is too small, and nothing is infinite."""
    monkeypatch.setattr("sgdlimit.theory.accuracy.estimates.UNSOUND", 1e-3)
    monkeypatch.setattr(Planner, "first_cells", lambda self: 32)
    call = lambda problem, **how: sl.solve(problem, sl.SGD(1.0), 1.0, rtol=0.05, times=[0.0, 1.0], on_failure="return", **how)
    found = call(tanh_regression())
    assert found.status.code == "done"
    assert found.dataset.time[-1] == 1.0
    assert found.diagnostics["method_why"] == by_runs.LOST
    assert "a few samples out of thousands make the averages" in call(tanh_regression(), method="kernels").status.message
    retrieval = replace(tanh_regression(), loss=lambda r, y: 0.25 * (r[0] ** 2 - y**2) ** 2)
    runs = Runs(retrieval, sl.SGD(0.1), 0.1, 0.05, 0, np.array([0.0, 0.1]), lambda *_: None, Budget(None))
    assert not runs.arrive()
    assert not runs.large.runs  # not even tried


def test_where_the_budget_is_short_runs_are_asked_for_what_it_allows(monkeypatch):
    asked = []
    monkeypatch.setattr(Runs, "cheaper", lambda self, seconds, rtol: asked.append(rtol) or rtol > 2e-4)
    found = sl.solve(tanh_regression(), sl.SGD(1.0), 1.0, rtol=1e-4, times=[0.0, 1.0], budget=6.0)
    np.testing.assert_allclose(np.diff(np.log(asked)), np.log(1.3))
    assert asked[0] == 1e-4
    assert asked[-1] > 2e-4
    assert found.diagnostics["method_why"] == by_runs.LONGER
    # And again where more replicates would not do: then for what these would reach.
    asked.clear()
    monkeypatch.setattr(Runs, "cheaper", lambda self, seconds, rtol: asked.append((seconds, rtol)) or (len(asked) > 1 and seconds < 6.0))
    monkeypatch.setattr(Search, "_affordable", lambda self, pilot, rtol: replace(pilot.plan, replicates=8))
    found = sl.solve(tanh_regression(), sl.SGD(1.0), 1.0, rtol=1e-5, times=[0.0, 1.0], budget=6.0)
    assert asked[-1][1] > 1e-5
    assert found.diagnostics["wall_seconds"] < 9.0


@pytest.mark.parametrize(
    ("dynamics", "shorter"), [(sl.SME(1.0), 0.1**0.5), (sl.SME(1.0, optimizer=sl.Momentum(0.2)), 0.1), (sl.SGD(1.0), 1.0)]
)
def test_the_steps_of_a_diffusion_keep_up_with_the_promise(dynamics, shorter):
    begun = [Runs(tanh_regression(), dynamics, 1.0, rtol, 0, np.array([0.0, 1.0]), lambda *_: None, Budget(None)) for rtol in (0.01, 0.001)]
    assert [runs.step for runs in begun] == [1.0, pytest.approx(shorter)]
    for runs in begun:
        runs.small.more(2)
    loose, tight = (runs.small.steps for runs in begun)
    assert tight == pytest.approx(loose / shorter, rel=0.2)
    assert begun[1]._stepped <= by_runs.STEP_SHARE * 0.001 * (1.0 + 1e-9)


def test_a_budget_ends_them_with_what_there_is():
    call = lambda budget: sl.solve(tanh_regression(), sl.SGD(1.0), 1.0, rtol=1e-4, times=[0.0, 1.0], method="runs", budget=budget)
    found = call(6.0)
    assert found.status.code == "inaccurate"
    assert found.diagnostics["wall_seconds"] < 9.0
    large = found.diagnostics["n_features"]
    assert found.diagnostics["features"] == f"{large // by_runs.APART} and {large}, extrapolated"  # also where larger ones were begun
    with pytest.raises(sl.SolveError, match="`budget` must allow for a first answer"):
        call(0.01)


def test_runs_of_one_size_go_on():
    """Two batches of runs, as they come: all that are there count, and what ends early is kept."""
    values = np.random.default_rng(3).standard_normal((12, 4))
    exact = lambda means: (means["test_risk"], np.zeros(4))
    batches = iter([({"test_risk": values[:5]}, exact, None, 10), ({"test_risk": values[5:]}, exact, 3.0, 10)])
    size = Size(100, batches)
    size.more(4)
    assert size.runs == 5
    size.more(6)
    assert (size.runs, size.ended, size.steps) == (12, 3.0, 10)
    np.testing.assert_allclose(size.mean["test_risk"], values.mean(0))
    np.testing.assert_allclose(size.variance["test_risk"], values.var(0, ddof=1))


def _out_of_time():
    yield {"test_risk": np.ones((3, 2))}, lambda means: (means["test_risk"], np.zeros(2)), None, 10
    raise OutOfTime


def test_runs_end_with_the_budget():
    size = Size(100, _out_of_time())
    size.more(8)
    assert size.runs == 3
    with pytest.raises(OutOfTime):
        Size(100, itertools.islice(_out_of_time(), 1, None)).more(8)


def _spread(evenly: bool) -> np.ndarray:
    """Runs' test risks late in a training."""
    problem = still(tanh_regression())
    times, n, _, path = plan(problem, sl.GradientFlow(), 1.0, 60, repeats=400, times=np.array([0.0, 1.0]))
    keeper = None if evenly else Keeper(problem, "gaussian", 400, 0, False)
    curves, _ = deque(Repeats(problem, path, times, (n, 60), "gaussian", 0, None, keeper, None).run(400, None), maxlen=1).pop()
    return curves["test_risk"][:, -1]


def test_samples_that_lie_evenly_have_the_same_limit_and_scatter_less():
    # Seeds 0; 400 runs each. A variance is known to 7%, and the ratio of two is below .85 by more than two standard errors of .1.
    even, plain = (_spread(evenly) for evenly in (True, False))
    assert even.var() < 0.85 * plain.var()
    apart, error = even.mean() - plain.mean(), np.hypot(even.std(), plain.std()) / 20.0
    assert abs(apart) < 4.0 * error + 0.01 * plain.mean()  # they may miss the limit by other amounts of order 1/d


def test_sizes_have_whole_numbers_of_samples():
    problem = replace(tanh_regression(), sample_ratio=0.37, spectrum=sl.Spectrum([1.5, 0.5]))
    runs = Runs(problem, sl.SGD(1.0), 1.0, 0.01, 0, np.array([0.0, 1.0]), lambda *_: None, Budget(None))
    assert runs.small.features % 2 == 0
    n = 0.37 * runs.small.features
    assert abs(round(n) - n) < 1e-3 * n
    assert runs.large.features == 4 * runs.small.features


def test_runs_that_blow_up_are_told():
    known = random_linear(3)
    found = sl.solve(replace(known.problem, penalty=None), sl.SGD(60.0), 300.0, rtol=0.1, method="runs")
    assert found.status.code == "diverged"
    assert found.dataset.time[-1] < 300.0
