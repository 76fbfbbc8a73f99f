"""Tuning by theory: places and values against closed forms, schedules, derivatives, files that continue, and the command."""

import json
import pickle
import re
import threading
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from distributed import KilledWorker
from scipy.integrate import solve_ivp
from scipy.optimize import minimize, minimize_scalar
from typer.testing import CliRunner

import sgdlimit as sl
from problems import linear
from sgdlimit import cli, schedules
from sgdlimit.learning.dynamics import step_at
from sgdlimit.settings import config
from sgdlimit.sweep import work
from sgdlimit.theory import closed_forms, paired, shapes
from sgdlimit.theory.samples.draws import jump_intensity
from sgdlimit.tune import file, forms, local, pool, search, surface, trials
from sgdlimit.tune.space import Axis, Clock, Family, end_of_epochs

PARAMETERS = {"sample_ratio": 2.0, "noise_variance": 0.25, "start_variance": 0.5, "teacher_variance": 1.0}
PROBLEM = linear(ridge=0.1, **PARAMETERS)
EXAMPLE = Path(__file__).parent.parent / "examples" / "tune.toml"


def with_ridge(step, ridge):
    return replace(PROBLEM, penalty=sl.Ridge(ridge)), sl.SGD(step)


def curves(step, ridge, times):
    return closed_forms.linear_model(step=step, ridge=ridge, times=times, **PARAMETERS)


def risk(step, ridge, end):
    return curves(step, ridge, [end])["test_risk"][0]


@pytest.fixture
def exact(monkeypatch):
    """The closed form in the place of the theory, with replicates whose values are off, and tilted in the step, by 0.3% each."""
    rng = np.random.default_rng(8)
    off, tilt = 0.003 * rng.standard_normal((2, 8))
    asked = []

    def solve_on(common, setting):
        asked.append(setting)
        problem, dynamics, horizon = setting
        times = np.linspace(0.0, horizon, 21)
        found = {name: value for name, value in curves(dynamics.step, problem.ridge, times).items() if "risk" in name}
        wrong = 1.0 + off + tilt * np.log(horizon)
        each = {name: wrong[:, None] * value for name, value in found.items()}
        means = {name: values.mean(0) for name, values in each.items()}
        errors = {name: values.std(0, ddof=1) / 8**0.5 for name, values in each.items()}
        nothing = {name: np.zeros_like(value) for name, value in found.items()}
        return paired.Paired(times, means, errors, nothing, each, means, None, "done", 0.0)

    monkeypatch.setattr(trials, "solve_on", solve_on)
    return asked


@pytest.fixture(scope="module")
def solution():
    return sl.solve(PROBLEM, sl.SGD(0.5), 1.0, rtol=0.1, seed=3)


@pytest.fixture
def answered(monkeypatch, solution):
    """What the answer is solved to does not matter."""
    for name in ("numbers", "schedule"):
        monkeypatch.setattr(import_module(f"sgdlimit.tune.{name}"), "solution_on", lambda *_: solution)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """The step after two epochs, with the file that keeps what was tried."""
    path = tmp_path_factory.mktemp("tuned") / "trials.json"
    told = []
    call = lambda: sl.tune(PROBLEM, sl.SGD, {"step": (0.05, 3.0, "log")}, epochs=1, rtol=0.03, checkpoint=path,
                           progress=lambda fraction, text: told.append((fraction, text)))  # fmt: skip
    return call(), call, path, told


# --- numbers -------------------------------------------------------------------------------------------------------------------


def test_the_best_step_is_that_of_the_closed_form(tuned):
    best = tuned[0]
    exact = minimize_scalar(lambda step: risk(step, 0.1, 2 * step), bounds=(0.1, 1.9), method="bounded", options={"xatol": 1e-8})
    # One number, at a fixed seed: beyond three standard errors in one of 370 calls.
    assert abs(best.parameters["step"] - exact.x) < 3 * best.parameters_se["step"]
    assert best.parameters_se["step"] < 0.05 * exact.x
    assert abs(best.value - exact.fun) < 3 * best.value_se
    assert len(best.table) + 1 < 20
    low, high = best.flat["step"]
    rises = [risk(step, 0.1, 2 * step) - exact.fun for step in (low, high)]
    np.testing.assert_allclose(rises, best.value_se, rtol=0.4)  # a polynomial's, around a place that has an error


@pytest.mark.parametrize(
    ("clock", "at"), [({"epochs": 1}, "end"), pytest.param({"epochs": 3}, "best", marks=pytest.mark.evidence), ({"horizon": 2.0}, "end")]
)
def test_step_and_ridge_together(clock, at, exact):
    """Under 20 solves, the last one of the answer; the closed form has its least value within the errors of the place and the value."""
    bounds = {"step": (0.2, 2.5, "log"), "ridge": (0.003, 2.0, "log")}
    best = sl.tune(PROBLEM, with_ridge, bounds, at=at, rtol=0.03, **clock)

    def true(x):
        step, ridge = np.exp(np.clip(x, *np.log([ends[:2] for ends in bounds.values()]).T))
        end = clock.get("horizon") or 2 * step * clock["epochs"]
        return curves(step, ridge, np.linspace(0.0, end, 201) if at == "best" else [end])["test_risk"].min()

    least = minimize(true, np.log([0.9, 0.2]), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-12})
    for name, place in zip(("step", "ridge"), np.exp(least.x), strict=True):
        low, high, _ = bounds[name]
        assert abs(best.parameters[name] - np.clip(place, low, high)) < 3 * best.parameters_se[name] + 1e-6
        assert best.parameters_se[name] < 0.1 * place
    assert abs(best.value - least.fun) < 3 * best.value_se
    assert len(best.table) + 1 < 20
    assert len(exact) == len(best.table)


def test_it_says_what_it_found(tuned):
    best, _, _, told = tuned
    assert re.search(r"The least test risk at the end, trained for 1 epoch: 0\.3", str(best))
    assert "flat within one standard error from" in str(best)
    assert {"step", "value", "value_se", "status"} <= set(best.table.columns)
    assert best.table.size > 0
    assert told[-1][0] <= 1.0
    assert any("solves, best 0.3" in text for _, text in told)
    assert "<table" in best._repr_html_()
    assert best.figure().axes[0].get_xlabel() == "step"
    figure = pytest.importorskip("matplotlib.figure").Figure()
    assert best.plot(figure.subplots()).get_xscale() == "log"


def test_what_was_tried_is_not_solved_again(tuned, monkeypatch):
    best, call, path, _ = tuned
    monkeypatch.setattr(trials, "solve_on", lambda *_: pytest.fail("solved again"))
    monkeypatch.setattr(trials, "planned", lambda *_: pytest.fail("planned again"))
    again = call()
    assert again.parameters == best.parameters
    assert again.trials.drop_vars("cpu_seconds").equals(best.trials.drop_vars("cpu_seconds"))
    with pytest.raises(sl.InputError, match="`checkpoint` must belong to the same tuning"):
        sl.tune(PROBLEM, sl.SGD, {"step": (0.05, 2.0, "log")}, epochs=1, rtol=0.03, checkpoint=path)
    path.with_name("torn.json").write_text("{")
    with pytest.raises(sl.InputError, match="`checkpoint` must be a file that tune wrote"):
        sl.tune(PROBLEM, sl.SGD, {"step": (0.05, 2.0, "log")}, epochs=1, rtol=0.03, checkpoint=path.with_name("torn.json"))


def test_it_is_saved_and_read(tuned, tmp_path):
    best = tuned[0]
    best.save(tmp_path / "best.nc")
    found = sl.load(tmp_path / "best.nc")
    assert isinstance(found, sl.Tuned)
    assert str(found) == str(best)
    assert found.trials.equals(best.trials)
    assert found.solution.dataset.equals(best.solution.dataset)


@pytest.mark.evidence
def test_what_diverges_is_a_bad_place_in_words():
    diverging = replace(PROBLEM, penalty=None)
    best = sl.tune(diverging, sl.SGD, {"step": (0.3, 5.0, "log")}, epochs=1, rtol=0.1)
    assert 0.5 < best.parameters["step"] < 1.4
    bad = best.table[best.table.status != "done"]
    assert bad.status.str.contains("diverge").all()
    assert bad.step.min() > 2.0  # beyond the limit of stability
    assert "diverge" in str(best)


def test_where_everything_diverges_it_says_so(monkeypatch):
    gone = paired.Paired(np.zeros(1), {}, {}, {}, None, None, 0.3, "diverged at t = 0.9", 0.0)
    monkeypatch.setattr(trials, "solve_on", lambda *_: gone)
    with pytest.raises(sl.SolveError, match=r"it diverges at all 5 tried \(diverged at t = 0.9; widen them"):
        sl.tune(PROBLEM, sl.SGD, {"step": (4.0, 5.0)}, epochs=1, rtol=0.1)


def test_an_optimum_at_a_bound_is_told(exact):
    best = sl.tune(PROBLEM, sl.SGD, {"step": (0.1, 0.4)}, epochs=1, rtol=0.1)
    assert best.parameters["step"] == pytest.approx(0.4)
    assert "step is at its upper bound" in str(best)


BAD = {
    "no bounds": (lambda: sl.tune(PROBLEM, sl.SGD, {}, epochs=1), "`bounds` must be a dict of at least one number's bounds"),
    "one end": (lambda: sl.tune(PROBLEM, sl.SGD, {"step": (1.0,)}, epochs=1), "`bounds.step` must be (low, high) or"),
    "upside down": (lambda: sl.tune(PROBLEM, sl.SGD, {"step": (2.0, 1.0)}, epochs=1), "`bounds.step` must be (low, high) with low below"),
    "log of zero": (lambda: sl.tune(PROBLEM, sl.SGD, {"step": (0.0, 1.0, "log")}, epochs=1), "`bounds.step` must be positive on a log"),
    "scale": (lambda: sl.tune(PROBLEM, sl.SGD, {"step": (0.1, 1.0, "lag")}, epochs=1), "`bounds.step` must have the scale 'log' or"),
    "no clock": (lambda: sl.tune(PROBLEM, sl.SGD, {"step": (0.1, 1.0)}), "`epochs` must be given, or else `horizon`, but neither is"),
    "two clocks": (lambda: sl.tune(PROBLEM, sl.SGD, {"step": (0.1, 1.0)}, epochs=1, horizon=1.0), "`epochs` must be given, or else"),
    "no epoch": (lambda: sl.tune(PROBLEM, sl.SGD, {"step": (0.1, 1.0)}, epochs=0), "`epochs` must be positive, but is 0"),
    "names": (lambda: sl.tune(PROBLEM, lambda eta: sl.SGD(eta), {"step": (0.1, 1.0)}, epochs=1), "`make` must take the numbers of"),
    "made": (lambda: sl.tune(PROBLEM, lambda step: step, {"step": (0.1, 1.0)}, epochs=1), "`make` must return a dynamics, or"),
    "no function": (lambda: sl.tune(PROBLEM, sl.SGD(1.0), {"step": (0.1, 1.0)}, epochs=1), "`make` must be a function of the numbers"),
    "objective": (lambda: sl.tune(PROBLEM, sl.SGD, {"step": (0.1, 1.0)}, "risk", epochs=1), "`objective` must be 'test_risk' or"),
    "at": (lambda: sl.tune(PROBLEM, sl.SGD, {"step": (0.1, 1.0)}, at="last", epochs=1), "`at` must be 'end' or 'best'"),
    "rtol": (lambda: sl.tune(PROBLEM, sl.SGD, {"step": (0.1, 1.0)}, epochs=1, rtol=2.0), "`rtol` must lie in (0, 1)"),
    "flow": (lambda: sl.tune(PROBLEM, lambda ridge: sl.GradientFlow(), {"ridge": (0.1, 1.0)}, epochs=1), "`epochs` must be None for Gra"),
    "a number of theirs": (lambda: sl.tune(PROBLEM, sl.SGD, {"step": (-1.0, 1.0)}, epochs=1), "`step` must be positive"),
    "a dynamics": (lambda: sl.tune_schedule(PROBLEM, sl.SGD(1.0), epochs=1), "`dynamics` must be a function of a step"),
    "no step": (lambda: sl.tune_schedule(PROBLEM, sl.GradientFlow, epochs=1), "`dynamics` must be a function of a step"),
    "one knot": (lambda: sl.tune_schedule(PROBLEM, sl.SGD, epochs=1, knots=1), "`knots` must be a whole number from 2 to 12"),
    "steps": (lambda: sl.tune_schedule(PROBLEM, sl.SGD, epochs=1, steps=1.0), "`steps` must be (low, high)"),
    "no parameters": (lambda: sl.sensitivity(PROBLEM, sl.SGD, {}, epochs=1), "`parameters` must be a dict of numbers"),
    "a large difference": (lambda: sl.sensitivity(PROBLEM, sl.SGD, {"step": 1.0}, epochs=1, step=0.7), "`step` must lie in (0, 0.5)"),
    "knots apart": (lambda: schedules.Knots([0.0, 0.0], [1.0, 1.0]), "`step.times` must increase"),
    "steps missing": (lambda: schedules.Knots([0.0, 1.0], [1.0]), "`step.steps` must have one step for each of two times or more"),
    "a long decay": (lambda: schedules.WarmupStableDecay(1.0, 0.1, 2.0, 2.5), "`step.decay` must lie in [0, duration - warmup]"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_bad_input(kind):
    call, sentence = BAD[kind]
    with pytest.raises(sl.InputError, match=re.escape(sentence)):
        call()


# --- parts -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_surface_goes_through_its_values_and_knows_how_it_bends(size):
    rng = np.random.default_rng(size)
    x = rng.random((10 * size, size))
    heights = np.cos(2.0 * x).prod(1) + 0.1 * x[:, 0]
    fine = np.arange(len(x)) % 3 == 0
    found = surface.Surface(x, heights - 0.2 * ~fine, fine)  # rough values are lower
    np.testing.assert_allclose(found(x)[fine], heights[fine], atol=1e-3)
    at, h = np.full(size, 0.4), 1e-4
    value = lambda place: found(place[None])[0]
    numeric = [(value(at + h * e) - value(at - h * e)) / (2 * h) for e in np.eye(size)]
    np.testing.assert_allclose(found.slope(at), numeric, atol=1e-6)
    np.testing.assert_allclose(found.slope_of(at, found.heights - found.mean), found.slope(at), atol=1e-9)
    numeric = [(found.slope(at + h * e) - found.slope(at - h * e)) / (2 * h) for e in np.eye(size)]
    np.testing.assert_allclose(found.bend(at), numeric, atol=1e-5)
    np.testing.assert_allclose(found.slope(at)[0], -2 * np.sin(0.8) * np.cos(0.8) ** (size - 1) + 0.1, atol=0.1)


def test_what_a_solve_tells_of_the_slope_is_what_it_lessens_its_spread_by():
    rng = np.random.default_rng(4)
    x, at, more = rng.random((12, 2)), np.array([0.5, 0.3]), np.array([[0.7, 0.2]])
    found = surface.Surface(x, np.cos(3 * x).sum(1))
    told, before = found.told(at, more)[0], found.slope_spread(at)
    found.places, found.heights, found.fine = np.concatenate([x, more]), np.append(found.heights, found(more)), np.zeros(13, bool)
    variance = found.variance
    found._fit(np.log([*found.lengths, found.rugged, 1.0]))  # the same surface, with what it expects there
    np.testing.assert_allclose(found.slope_spread(at) * variance / found.variance, before - np.outer(told, told), atol=1e-6 * variance)


def made_trial(numbers, value, each=()):
    return trials.Trial("", numbers, value, 0.01, 0.0, 1.0, list(each), value, 1.0, 1.0, None, "done", 8, 8, len(each), 0, 0.0)


def test_the_error_of_a_place_is_that_of_its_replicates():
    """Each replicate's parabola has its least value elsewhere, normal with spread 0.02: the place of eight lies within two of its standard
    errors in 95.4% of all; of 40 fewer than 33 do in one of 2400."""
    rng, inside = np.random.default_rng(5), 0
    for _ in range(40):
        own = 0.5 + 0.02 * rng.standard_normal((8, 2))
        attempts = lambda places, own=own: [made_trial({}, 1 + rise.mean(), 1 + rise) for u in places for rise in [((u - own) ** 2).sum(1)]]
        seen = search.search(attempts, 2, 0, 1e-4, 4)
        found = local.optimum(attempts, seen, np.array([0.45, 0.6]), np.array([0.05, 0.05]), 4, True)
        inside += int(abs(found.u[0] - 0.5) < 2 * found.se[0])
    assert inside >= 33


def test_the_best_time_is_between_output_times():
    measure, times = trials.Measure("test_risk", "best"), np.linspace(0.0, 2.0, 11) ** 1.5
    curve = 1.0 + (times - 0.77) ** 2
    weights = measure.weights(times, curve)
    assert [weights @ times, weights @ curve] == pytest.approx([0.77, 1.0])
    assert trials.Measure("test_risk", "end").weights(times, curve) @ times == times[-1]


def test_shapes_are_few_in_one_thread_alone():
    seen = {}
    with shapes.few_here():
        other = threading.Thread(target=lambda: seen.update(other=shapes.patient()))
        other.start()
        other.join()
        seen["here"] = shapes.patient()
    assert seen == {"here": False, "other": True}
    assert shapes.patient()


def test_the_threads_of_a_search_round_as_the_one_that_asks(monkeypatch):
    class Asked(Exception):
        pass

    def run_levels(*_):
        raise Asked(shapes.patient())

    monkeypatch.setattr("sgdlimit.theory.accuracy.search.run_levels", run_levels)
    common = paired.first_plan([(PROBLEM, sl.SGD(0.5), 1.0)], 0.1, 0, "auto")
    for few, patient in ((shapes.few_here, False), (nullcontext, True)):
        with few(), pytest.raises(Asked, match=str(patient)):
            paired.solve_on(common, (PROBLEM, sl.SGD(0.5), 1.0))


def test_a_solve_on_the_plan_of_another_is_that_solve():
    setting = PROBLEM, sl.SGD(0.5), 1.0
    common = paired.plan_by_solve(setting, 0.1, 3, "auto")
    one, other = paired.solve_on(common, setting), sl.solve(*setting, rtol=0.1, seed=3).dataset
    np.testing.assert_array_equal(one.curves["test_risk"], other["test_risk"].values)
    np.testing.assert_allclose(one.each["test_risk"].mean(0), one.curves["test_risk"], rtol=1e-12)
    assert paired.solution_on(common, setting).dataset["test_risk"].equals(other["test_risk"])


# --- schedules ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_knots_are_smooth_positive_and_spend_equal_parts_of_the_epochs(seed):
    steps = np.exp(np.random.default_rng(seed).uniform(-2, 2, 6))
    schedule = forms.knots(6.0, steps)
    assert [schedule(t) for t in schedule.times] == pytest.approx(steps)
    t = np.linspace(0.0, schedule.times[-1], 20001)
    values = np.array([schedule(float(x)) for x in t])
    assert values.min() > 0
    assert schedule(-1.0) == schedule(0.0)
    assert schedule(2 * t[-1]) == pytest.approx(steps[-1])
    passed = np.concatenate([[0.0], np.cumsum(np.diff(t) * 0.5 * (1 / values[1:] + 1 / values[:-1]))])
    np.testing.assert_allclose(np.interp(schedule.times, t, passed), np.linspace(0.0, 6.0, 6), atol=2e-3)
    slopes = np.diff(np.log(values)) / np.diff(t)[0]  # which has no jumps
    assert np.abs(np.diff(slopes)).max() < 0.02 * np.ptp(slopes)
    assert values.max() < steps.max() * 1.0001


def test_every_form_lasts_for_its_epochs():
    for form in [*forms.rivals(1.3), forms.knotted(4, 1.3), forms.constant(0.1, 2.0)]:
        numbers = {axis.name: axis.number(0.6) for axis in form.axes}
        dynamics = sl.SGD(form.step(3 * PROBLEM.sample_ratio, numbers), sampling="reshuffle")
        end = end_of_epochs(PROBLEM, dynamics, 3)
        assert jump_intensity(PROBLEM, dynamics, end)[1][-1] == pytest.approx(3, abs=1e-8)
        duration = getattr(dynamics.step, "duration", None) or getattr(dynamics.step, "times", (end,))[-1]
        assert end == pytest.approx(duration, rel=2e-3)
        assert step_at(dynamics, np.linspace(0.0, end, 11)).min() > 0


def test_schedules_go_through_a_file(tmp_path):
    schedule = schedules.Knots([0.0, 1.0, 2.5], [1.0, 2.0, 0.25])
    text = EXAMPLE.read_text().partition("[tune]")[0].replace('sampling = "reshuffle"', schedule.settings())
    (tmp_path / "knots.toml").write_text(text.replace("rtol = 0.01", "horizon = 2.0"))
    assert config.read(tmp_path / "knots.toml").parts[0].dynamics.step == schedule
    stable = schedules.WarmupStableDecay(2.0, 0.5, 4.0, 1.0, 0.5)
    assert [stable(t) for t in (0.0, 0.25, 0.5, 3.0, 3.5, 4.0, 9.0)] == pytest.approx([0.5, 1.25, 2.0, 2.0, 1.25, 0.5, 0.5])


def test_the_best_schedule_of_one_pass_is_the_greedy_one(monkeypatch):
    """Linear model without a ridge: the excess `e` of a sample falls fastest for `step = e / (e + noise)`, at every time, and so does what
    is left of it at the end: `de/da = -e^2 / (e + noise)` over `a` samples per feature."""

    def solve_on(common, setting):  # de/dt = -2 e + step (e + noise)
        _, dynamics, horizon = setting
        slope = lambda t, e: -2.0 * e + step_at(dynamics, np.array(t)) * (e + 0.5)
        times = np.linspace(0.0, horizon, 5)
        found = {"test_risk": 0.5 * (solve_ivp(slope, (0.0, horizon), [1.5], t_eval=times, rtol=1e-8, atol=1e-10).y[0] + 0.5)}
        errors = {"test_risk": np.full(5, 1e-5)}
        return paired.Paired(times, found, errors, errors, None, None, None, "done", 0.0)

    monkeypatch.setattr(trials, "solve_on", solve_on)
    problem = linear(sample_ratio=2.0, ridge=0.0, noise_variance=0.5, start_variance=0.5, teacher_variance=1.0)
    best = sl.tune_schedule(problem, sl.OnlineSGD, epochs=2, knots=4, rivals=False, rtol=0.05)
    excess = solve_ivp(lambda a, e: -(e**2) / (e + 0.5), (0.0, 4.0), [1.5], rtol=1e-10, atol=1e-12).y[0]
    least = 0.5 * (excess[-1] + 0.5)
    assert least - 3 * best.value_se < best.value < least * 1.002  # which an exact solve of the schedule found has
    assert best.schedule.steps[0] == pytest.approx(0.75, rel=0.05)
    assert best.rivals[0].value > 1.01 * least


def test_one_pass_is_tuned_without_replicates_to_pair():
    best = sl.tune(PROBLEM, sl.OnlineSGD, {"step": (0.1, 1.5, "log")}, epochs=1, rtol=0.05)
    known = {name: value for name, value in PARAMETERS.items() if name != "sample_ratio"}
    after = lambda step: closed_forms.online_linear(step=step, ridge=0.1, times=[2 * step], **known)["test_risk"][0]
    least = minimize_scalar(after, bounds=(0.1, 1.5), method="bounded")
    assert abs(best.parameters["step"] - least.x) < 3 * best.parameters_se["step"] < 0.2
    assert abs(best.value - least.fun) < 3 * best.value_se


def test_a_schedule_beats_its_rivals_and_is_kept(exact, tmp_path):
    call = lambda: sl.tune_schedule(PROBLEM, lambda step: sl.SGD(step), epochs=1, knots=2, rtol=0.03, steps=(0.2, 2.0),
                                    checkpoint=tmp_path / "trials.json")  # fmt: skip
    best = call()
    assert [one.name for one in best.rivals] == ["constant", "cosine", "linear", "1/t", "warm-up, stable, decay"]
    constant = best.rivals[0]
    assert constant.above > 3 * constant.above_se  # the steps of the best one fall
    assert best.schedule.steps[0] > best.schedule.steps[1]
    assert set(best.comparison["form"].values) == {"2 knots", *(one.name for one in best.rivals)}
    assert "above the best" in str(best)
    assert best.plot(best.figure().axes[0]).get_xlabel() == "epoch"
    assert "<pre" in best._repr_html_()
    best.save(tmp_path / "best.nc")
    found = sl.load(tmp_path / "best.nc")
    assert (str(found), found.schedule, found.rivals) == (str(best), best.schedule, best.rivals)
    assert call().schedule == best.schedule


def test_a_schedule_that_only_fits_what_is_random_is_not_given(monkeypatch, answered):
    """Steps that fall or rise cost something, but the eight replicates have slopes from which they seem to gain: some thousandths, as much
    as they lose on other replicates."""

    def solve_on(common, setting):
        _, dynamics, horizon = setting
        times, step = np.linspace(0.0, horizon, 5), dynamics.step
        tilt = 0.0 if isinstance(step, float) else np.log(step(0.0) / step(horizon))
        slopes = 0.02 * np.random.default_rng([common.seed, 5]).standard_normal(8)
        each = {"test_risk": (1.0 + np.log(horizon / 2.0) ** 2 + 0.05 * tilt**2 + slopes * tilt)[:, None] + 0.0 * times}
        mean = {"test_risk": each["test_risk"].mean(0)}
        error = {"test_risk": np.full(5, 0.001)}
        return paired.Paired(times, mean, error, {"test_risk": np.zeros(5)}, each, mean, None, "done", 0.0)

    monkeypatch.setattr(trials, "solve_on", solve_on)
    best = sl.tune_schedule(PROBLEM, sl.SGD, epochs=1, knots=2, rivals=False, rtol=0.1, steps=(0.2, 2.0))
    assert "so the constant is given" in str(best)
    assert best.schedule.steps[0] == best.schedule.steps[1] == pytest.approx(best.rivals[0].numbers["step"])
    assert best.gain < 2 * best.gain_se
    assert best.rivals[0].above == 0.0
    tried = best.trials.where(best.trials.form == "2 knots", drop=True)
    assert tried.value.min() < best.trials.value.where(best.trials.form == "constant").min() - 0.0005  # which it did seem to gain


# --- derivatives -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clock", [{"epochs": 1.0}, {"horizon": 2.0}], ids=["epochs", "horizon"])
def test_derivatives_are_those_of_the_closed_form(clock):
    known = {"step": 0.7, "ridge": 0.1} if "epochs" in clock else {"step": 0.7}
    make = with_ridge if "epochs" in clock else sl.SGD
    slopes = sl.sensitivity(PROBLEM, make, known, rtol=0.1, **clock)
    end = lambda step: clock.get("horizon") or clock["epochs"] * step * PARAMETERS["sample_ratio"]
    at = lambda step, ridge=0.1: curves(step, ridge, np.linspace(0.0, end(step), 41))
    inside, total = 0, 0
    for name, value in known.items():
        more, less = (at(**{**known, name: value + sign * 1e-4}) for sign in (1, -1))
        for curve in ("self_overlap", "overlap", "train_risk", "test_risk"):
            exact = (more[curve] - less[curve]) / 2e-4
            found, se = (slopes[curve + ending].sel(parameter=name).values.reshape(-1) for ending in ("", "_se"))
            gap = np.abs(found - exact)
            assert (gap <= 5 * se + 1e-6).all(), (name, curve)
            inside, total = inside + int((gap <= 2 * se + 1e-6).sum()), total + len(gap)
    assert inside >= 0.8 * total  # points of a curve err together, so of few curves more may be beyond two standard errors


def test_an_error_of_a_derivative_is_not_small_by_luck():
    """Four replicates whose values, and so whose slopes, cross at half time, where their spread is none."""
    times, own = np.linspace(0.0, 2.0, 41), np.array([-1.0, -0.5, 0.5, 1.0])
    here = lambda x: {"test_risk": x * (1.0 + own[:, None] * np.cos(np.pi * times / 2))}
    at = lambda x: paired.Paired(
        times, {n: v.mean(0) for n, v in here(x).items()}, {}, {}, here(x), {"test_risk": x + 0 * times}, None, "", 0
    )
    value, se = import_module("sgdlimit.tune.sensitivity")._extrapolated([(h, at(1 + h), at(1 - h)) for h in (0.1, 0.05)], "test_risk")
    np.testing.assert_allclose(value, 1.0)
    assert se[20] > 0.1 * se[0]


# --- the command -------------------------------------------------------------------------------------------------------------


def small(tune="epochs = 1", bounds='"dynamics.step" = { from = 0.4, to = 3.0, scale = "log" }'):
    text = EXAMPLE.read_text().replace("rtol = 0.01", "rtol = 0.1").partition("[tune]")[0]
    return f"{text}[tune]\n{tune}\n" + (f"\n[tune.bounds]\n{bounds}\n" if bounds else "")


def sgdlimit(*arguments, code=0):
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def test_the_example_is_in_order():
    said = sgdlimit("check", EXAMPLE)
    assert "trained SGD reshuffled, for 3 epochs step from 0.2 to 5, log ridge from 0.001 to 1, log" in said
    assert "has a [tune] (sgdlimit tune" in sgdlimit("run", EXAMPLE, code=2)


def test_the_command_tunes_and_continues(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my.toml").write_text(small())
    said = sgdlimit("tune", "my.toml", "--out", "out")
    assert "The least test risk at the end, trained for 1 epoch" in said
    assert "Report: out/report.html" in said
    names = ["report.html", "settings.json", "trials.json", "tuned.nc", "tuned.png", "tuned.svg"]
    assert sorted(path.name for path in Path("out").iterdir()) == names
    page = Path("out/report.html").read_text()
    assert "flat within one standard error" in page
    assert "<svg" in page
    best = sl.load("out/tuned.nc")
    # A tuning that was interrupted has some of its trials.
    kept = json.loads(Path("out/trials.json").read_text())
    some = dict(list(kept["done"].items())[:-3])
    Path("out/trials.json").write_text(json.dumps({**kept, "done": some}))
    for name in ("tuned.nc", "tuned.png", "report.html"):
        Path("out", name).unlink()
    solved = []
    monkeypatch.setattr(trials, "solve_on", lambda *given, real=trials.solve_on: solved.append(given) or real(*given))
    sgdlimit("tune", "my.toml", "--out", "out")
    assert len(solved) == 3
    assert sl.load("out/tuned.nc").parameters == best.parameters
    Path("my.toml").write_text(small("epochs = 2"))
    assert "holds results of others (give --force" in sgdlimit("tune", "my.toml", "--out", "out", code=2)


class Inline:
    """Dask's client, as far as it is used, with a worker that is here."""

    def __init__(self):
        self.sizes = []

    def map(self, function, *columns, pure):
        tasks = [pickle.loads(pickle.dumps(task)) for task in zip(*columns, strict=True)]
        self.sizes.append(len(tasks))
        return [function(*task) for task in tasks]

    def gather(self, futures):
        return futures


@pytest.mark.parametrize("what", ["numbers", "schedule"])
def test_workers_give_the_same(what, tmp_path, exact, monkeypatch, answered):
    monkeypatch.setattr(pool, "solve_on", lambda *given: trials.solve_on(*given))
    monkeypatch.setattr(work, "prepare", lambda: None)
    tune = small() if what == "numbers" else small("epochs = 1\nknots = 2\nrivals = false", "")
    text = tune.replace('"tanh_regression"', '"ridge_regression"').replace('sampling = "reshuffle"', "")
    (tmp_path / "my.toml").write_text(text)
    job, client = file.read(tmp_path / "my.toml"), Inline()
    alone = job.run(None, None)
    solved = len(exact)
    together = job.run(None, None, pool.Pool(client, job))
    assert together.value == alone.value
    assert together.trials.equals(alone.trials)
    assert client.sizes[0] == search.SCANNED
    assert len(exact) == 2 * solved


def test_workers_that_are_gone_are_told_in_words():
    class Gone(Inline):
        def gather(self, futures):
            raise KilledWorker("solve", "worker", 3)

        def map(self, *given, pure):
            return []

    family = Family(PROBLEM, sl.SGD, [Axis("step", 0.1, 1.0)], Clock(horizon=1.0))
    common = paired.Common(None, 0, 0.1, 0, "auto")
    with pytest.raises(sl.SolveError, match="The workers are gone: what was tried is kept"):
        pool.Pool(Gone(), None)(family, [{"step": 0.5}], common, trials.Measure("test_risk", "end"))


FILES = {
    "no section": (small().partition("[tune]")[0], "must have a [tune] section with bounds"),
    "no bounds": (small(bounds=""), "`tune.bounds` must be given, but is missing"),
    "no clock": (small(tune=""), "`tune.epochs` must be given, but is missing"),
    "both clocks": (small().replace("rtol = 0.1 ", "rtol = 0.1\nhorizon = 2.0 "), "`tune.epochs` must be given alone"),
    "both": (small("epochs = 1\nknots = 4"), "`tune.knots` must be given alone"),
    "misspelt": (small("epoch = 1"), "`tune.epoch` must be a known setting, but is not one (did you mean `epochs`?)"),
    "objective": (small('epochs = 1\nobjective = "risk"'), "`tune.objective` must be one of test_risk, train_risk, but is 'risk'"),
    "dynamics": (small('epochs = 1\ndynamics = "SME"'), "`tune.dynamics` must name a dynamics of the file, but is 'SME'"),
    "bound": (small(bounds='"dynamics.step" = { from = 1.0 }'), "`tune.bounds.dynamics.step.to` must be given, but is missing"),
    "field": (small(bounds='"dynamics.stop" = { from = 1.0, to = 2.0 }'), "`tune.bounds` must name numeric fields"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_in_a_file(kind, tmp_path):
    text, sentence = FILES[kind]
    (tmp_path / "my.toml").write_text(text)
    assert sentence in sgdlimit("check" if kind != "no section" else "tune", tmp_path / "my.toml", code=2)


def test_a_file_tunes_a_schedule(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(file, "tune_schedule", lambda problem, train, *given, **options: asked.append((train(0.5), given, options)))
    (tmp_path / "my.toml").write_text(small("epochs = 2\nknots = 4\nrivals = false", bounds=""))
    file.read(tmp_path / "my.toml").run(None, None)
    ((dynamics, given, options),) = asked
    assert dynamics == sl.SGD(0.5, sampling="reshuffle")
    assert given == (2.0, 4, "test_risk", "end")
    assert (options["rivals"], options["rtol"]) == (False, 0.1)


def test_axes_and_clocks():
    axis = Axis("step", 0.1, 10.0, "log")
    assert [axis.number(0.5), axis.unit(1.0)] == pytest.approx([1.0, 0.5])
    assert Clock(epochs=2).end(PROBLEM, sl.SGD(0.5)) == 2.0
    assert Clock(horizon=3.0).end(PROBLEM, sl.GradientFlow()) == 3.0
