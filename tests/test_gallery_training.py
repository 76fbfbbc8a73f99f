"""The gallery's claims on what is trained along, one run and tuned numbers: small ones through the command, wrong ones told as wrong."""

import copy
import inspect
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import sgdlimit as sl
from sgdlimit import cli, schedules
from sgdlimit.gallery import claims, find, imbalance, one_pass_schedule, statistics

ROOT = Path(__file__).parent.parent
SETTINGS = Path(claims.__file__).parent / "settings"
FILES = ["figure.png", "figure.svg", "numbers.json", "page.html", "settings.toml"]
NAMES = (
    "trained-head", "lazy-rich", "imbalance", "one-run", "one-pass-schedule", "best-schedule", "tuned-momentum",
    "ridge-or-stopping", "reuse",
)  # fmt: skip


def numbers_of(name):
    return json.loads((ROOT / "tests" / "data" / "gallery.json").read_text())[name]


# --- parts -----------------------------------------------------------------------------------------------------------------


def test_a_crossing_has_the_error_of_the_curve_over_its_slope():
    time, value = [0.0, 1.0, 3.0], [2.0, 1.0, 0.0]
    assert statistics.crossing(time, value, [0.1, 0.1, 0.3], 0.5) == pytest.approx((2.0, 0.4))
    assert statistics.crossing(time, value, [0.1, 0.1, 0.3], 1.5) == pytest.approx((0.5, 0.1))
    assert np.isnan(statistics.crossing(time, value, [0.1, 0.1, 0.3], -1.0)).all()
    assert statistics.crossing(time, [0.0, 2.0, 0.0], [0.0, 0.0, 0.0], 1.0)[0] == 0.5  # the first of two


def test_an_intercept_alone_takes_what_its_equation_takes():
    # By Euler steps of 1e-4 from zero: their error is of that order.
    a, rare, taken = 0.0, 1 / 21, 0
    while a > -1.5:
        a, taken = a + 1e-4 * (rare - 1 / (1 + np.exp(-a))), taken + 1
    assert imbalance.alone(-1.5, rare) == pytest.approx(1e-4 * taken, rel=1e-3)
    # One positive to twenty negatives of the settings' teacher: 400,000 draws, seed 0; four standard errors are 0.0013.
    rng = np.random.default_rng(0)
    drawn = (2 * rng.standard_normal(400_000) - 4.5 + rng.logistic(size=400_000) > 0).mean()
    assert imbalance.share(4.0, -4.5) == pytest.approx(drawn, abs=1.3e-3)


def test_no_schedule_of_one_pass_has_less_risk_than_the_known_one():
    """Dynamic programming over a grid of times, by Euler steps of 0.002 samples a feature: from every excess of a grid the best of 81
    constant steps, which between its points is off by 1e-4 of the risk."""
    known, (noise, start, samples) = one_pass_schedule.known(0.7, 1.5, 4.0, [0.0, 0.5, 1.0]), (0.7, 1.5, 4.0)
    left = np.linspace(0.01, 1.6, 1600)
    value, steps, da = left.copy(), np.linspace(0.05, 0.95, 81)[:, None], 0.002
    moved = left + da * (steps**2 * (left + noise**2) - 2 * steps * left)
    for _ in range(round(samples / da)):
        value = np.interp(moved, left, value).min(0)
    assert known["risk"] == pytest.approx(0.5 * (np.interp(start, left, value) + noise**2), rel=1e-3)
    assert known["risk"] < known["constant_risk"]


def test_where_no_schedule_gains_it_says_so():
    numbers = copy.deepcopy(numbers_of("best-schedule"))
    level = copy.deepcopy(numbers["members"][2]) | {
        "epochs": 30,
        "gain": {"value": 1e-5, "se": 2e-5},
        "real_gain": {"value": 0.0, "se": 0.0},
    }
    level["knots"] = [level["constant"]] * 3
    verdict = find("best-schedule").judge({**numbers, "members": [*numbers["members"], level]})
    assert verdict.holds
    assert "In 30 replaced epochs none gains more than its error" in verdict.sentence


# --- doctored numbers ------------------------------------------------------------------------------------------------------


def changed(numbers, *path, by):
    """A copy in which the value(s) at `path` are what `by` makes of them; `*` is every entry of a list."""
    found = copy.deepcopy(numbers)
    ends = [found]
    for key in path[:-1]:
        ends = [one for end in ends for one in (end if key == "*" else [end[key]])]
    for end in ends:
        end[path[-1]] = by(np.asarray(end[path[-1]], dtype=float)).tolist()
    return found


def times(factor):
    return lambda value: factor * value


def plus(more):
    return lambda value: value + more


M = "members"
# What to change in the numbers of a real run, and the words that must then be among what fails.
WRONG = {
    "trained-head": [
        ((M, 0, "runs", "test_risk", "value"), times(0.7), "fixed head: least height"),
        ((M, 1, "runs", "overlap", "value"), plus(0.1), "rate 0.03: real runs from theory"),
        ((M, 2, "runs", "time"), times(1.2), "time of escape of real runs from theory"),
        ((M, 3, "theory", "test_risk", "value"), times(0.8), "escapes at rates 0.3 and 3 apart"),
        ((M, 2, "theory", "time"), times(2.0), "escape at rate 0.3 before that at rate 0.03"),
        ((M, 3, "runs", "test_risk", "value"), plus(1.0), "rate 3: time of escape"),
    ],
    "lazy-rich": [
        ((M, 1, "runs", "trained", "value"), plus(0.1), "rate 0.1: real runs from theory"),
        ((M, 4, "theory", "overlap", "value"), times(1.1), "cosine at equal risk at rate 3 below that at rate 1, theory"),
        ((M, 2, "runs", "overlap", "value"), times(0.9), "cosine at equal risk of real runs from theory"),
        ((M, 0, "runs", "test_risk", "value"), times(0.8), "fixed head"),
    ],
    "imbalance": [
        ((M, 0, "runs", "test_risk", "value", ), lambda v: v[0] - 0.1 * np.arange(len(v)) / len(v), "rise of the test risk"),
        ((M, 2, "runs", "time"), times(1.2), "time taken by real runs"),
        ((M, 1, "theory", "time"), times(0.7), "exponent"),
        (("alone",), times(1.5), "that of an intercept alone"),
        ((M, 3, "runs", "test_risk", "value"), plus(0.05), "last test risk of real runs below that of the next slower"),
    ],
    "one-run": [
        (("runs", "left_out"), times(0.93), "mean left-out risk from the test risk"),
        (("runs", "error"), times(0.3), "covered by two errors"),
        (("runs", "error"), times(4.0), "errors are not merely large"),
        (("runs", "train"), times(2.0), "test risk over train risk"),
        (("runs", "held_error"), times(0.7), "spread at the end over that of"),
        (("runs", "kept"), times(0.95), "better than by held-out data"),
        (("runs", "left_out"), times(-1.0), "what stopping by the left-out risk costs"),
    ],
    "one-pass-schedule": [
        ((M, 1, "theory", "value"), times(1.01), "risk of the schedule found"),
        ((M, 1, "theory", "value"), times(0.99), "risk of the schedule found"),
        ((M, 0, "steps"), times(1.2), "its steps from those known"),
        ((M, 0, "constant"), times(0.9), "best constant step from that known"),
        ((M, 1, "real_gain", "value"), times(0.5), "gain of real runs from that of theory"),
        ((M, 1, "gain", "value"), times(0.5), "gain over the constant from that known"),
        ((M, 1, "runs", "value"), times(1.1), "risk of real runs"),
    ],
    "best-schedule": [
        ((M, 0, "gain", "se"), plus(0.01), "schedules found"),
        ((M, 1, "gain", "value"), times(0.01), "of these, gains over the best constant step"),
        ((M, 1, "gain", "value"), times(4.0), "gain beyond 3%"),
        ((M, 2, "real_gain", "value"), times(-1.0), "gain of real runs with a schedule"),
        ((M, 1, "knots"), times(3.0), "last step over the best constant one"),
        ((M, 2, "theory", "value"), times(0.9), "replaced worse than reshuffled"),
        (("fresh", "value"), times(1.02), "one-pass theory"),
        ((M, 0, "runs", "value"), times(1.1), "risk of real runs"),
    ],
    "tuned-momentum": [
        ((M, 1, "theory", "value"), times(0.9), "gain over none beyond 1% of the risk, theory"),
        ((M, 2, "runs", "best", "value"), times(0.8), "gain over none beyond 1% of the risk, real runs"),
        ((M, 0, "runs", "below", "value"), times(0.9), "worse than at the tuned step"),
        ((M, 0, "theory", "value"), times(1.2), "worse than none, theory"),
    ],
    "ridge-or-stopping": [
        ((M, 1, "theory", "value"), times(1.5), "worse than a ridge"),
        ((M, 0, "stopped"), times(0.5), "part of the epochs after which stopping is best"),
        ((M, 3, "runs", "best", "value"), times(1.1), "real runs at the tuned numbers from theory"),
        ((M, 1, "runs", "best", "value"), times(1.2), "worse than a ridge after 3"),
    ],
    "reuse": [
        ((M, 1, "theory", "value"), times(0.7), "2 passes worse than 1 over more samples, theory"),
        ((M, 2, "runs", "best", "value"), times(0.7), "one pass worse than 2"),
        ((M, 1, "theory", "value"), times(1.2), "part of the gain of fresh samples"),
        ((M, "*", "runs", "above", "value"), times(0.7), "worse than at the tuned step"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "path", "by", "words"), [(name, *one) for name, changes in WRONG.items() for one in changes])
def test_doctored_numbers_are_told_as_wrong(name, path, by, words):
    numbers, claim = numbers_of(name), find(name)
    assert claim.judge(numbers).holds
    verdict = claim.judge(changed(numbers, *path, by=by))
    assert not verdict.holds
    assert any(words in check.what for check in verdict.checks if not check.holds), verdict.sentence


# --- the command -------------------------------------------------------------------------------------------------------------

SMALL = {"rtol": "0.3", "repeats": "3", "n_features": "24", "pairs": "2", "runs": "4", "horizon": "0.6", "level": "1.5"}
# One unit, so that both heads train by one program.
HEAD = "weights = [0.5], teacher_weights = [3.0], noise = 0.2, trained_head = true"
MORE = {
    "trained-head": {
        "parameters": f"{{ {HEAD} }}", "teacher": '{ kind = "gaussian", cov = 1.0 }', "init": "{ overlap = 0.5, cov = 1.0 }", "step": "0.3",
        "dynamics": '"replacement"', "sample_ratio": "2.0", "rates": "[0.0, 0.3, 3.0]",
    },
    "lazy-rich": {"rates": "[0.0, 0.3, 3.0]"},
    "imbalance": {"rates": "[0.0, 1.0, 4.0]", "level": "-0.1"},
    "one-run": {"epochs": "[1, 2, 3]"},
}  # fmt: skip


def tiny(name):
    """A claim's settings with so few runs of so few features that they show nothing, but take their whole way."""
    text = (SETTINGS / f"{name}.toml").read_text().split("[fast]")[0]
    for key, value in (SMALL | MORE.get(name, {})).items():
        text = re.sub(rf"^{key} = .*", f"{key} = {value}", text, flags=re.M)
    short = {"passes": "[1, 2, 4]", "memories": "[0.0, 0.3, 1.5]", "samples": "[2.0, 8.0]", "reshuffled": "[1, 3]", "replaced": "[3]"}
    for key, value in short.items():
        text = re.sub(rf"^{key} = .*", f"{key} = {value}", text, flags=re.M)
    return text if name != "ridge-or-stopping" else re.sub(r"^epochs = .*", "epochs = [1, 2]", text, flags=re.M)


@pytest.fixture
def nothing_solved(monkeypatch):
    """Theory has few real runs in its place, and `sl.tune` and `sl.tune_schedule` say what they would say; all are asked as they can be."""
    solve, tune, tune_schedule = (inspect.signature(function) for function in (sl.solve, sl.tune, sl.tune_schedule))

    def runs_instead(*arguments, **options):
        asked = solve.bind(*arguments, **options).arguments
        return sl.simulate(*arguments, n_features=24, repeats=3, seed=asked["seed"], times=asked["times"])

    def at_once(*arguments, **options):
        asked = tune.bind(*arguments, **options).arguments
        numbers = {name: 0.5 * (low + high) for name, (low, high, *_) in asked["bounds"].items()}
        asked["make"](**numbers)
        ratio = asked["problem"].sample_ratio
        end, errors = numbers["step"] * ratio * asked["epochs"], dict.fromkeys(numbers, 0.1)
        value = 0.3 + 0.1 / (ratio * asked["epochs"] ** 0.5)
        flat = dict.fromkeys(numbers, (0.1, 1.0))
        return SimpleNamespace(parameters=numbers, parameters_se=errors, value=value, value_se=0.01, flat=flat, time=end, notes=())

    def schedule_at_once(*arguments, **options):
        asked = tune_schedule.bind(*arguments, **options).arguments
        end = 0.5 * asked["problem"].sample_ratio * asked["epochs"]
        schedule = schedules.Knots(list(np.linspace(0.0, end, asked["knots"])), list(np.linspace(0.6, 0.4, asked["knots"])))
        rival = SimpleNamespace(numbers={"step": 0.5}, above=0.01, above_se=0.001)
        gain = {"gain": 0.01, "gain_se": 0.001}
        return SimpleNamespace(schedule=schedule, horizon=end, value=0.3, value_se=0.01, rivals=(rival,), **gain)

    monkeypatch.setattr(sl, "solve", runs_instead)
    monkeypatch.setattr(sl, "tune", at_once)
    monkeypatch.setattr(sl, "tune_schedule", schedule_at_once)


@pytest.mark.parametrize("name", NAMES)
def test_the_command_runs_the_claim(name, nothing_solved, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(tiny(name))
    result = CliRunner().invoke(cli.app, ["gallery", name, "--settings", "tiny.toml", "--out", "out"])
    assert result.exit_code in (0, 1), result.output  # what is so small may say anything
    assert "Traceback" not in result.output
    assert "Pages:" in result.output, result.output
    assert sorted(p.name for p in Path("out", name).iterdir()) == FILES


@pytest.mark.parametrize(
    ("name", "was", "put", "words"),
    [
        ("imbalance", "rates = [0.0, 0.25", "rates = [0.1, 0.25", "`experiment.rates` must increase from 0"),
        ("lazy-rich", "trained_head = true", "trained_head = false", "`problem.model` must train numbers along"),
        ("one-run", "epochs = [1, 2, 4", "epochs = [2, 2, 4", "`experiment.epochs` must increase"),
        ("tuned-momentum", "memories = [0.0", "memories = [0.1", "`experiment.memories` must increase from 0"),
        ("ridge-or-stopping", "[experiment]", '[problem.penalty]\nkind = "ridge"\nstrength = 0.1\n[experiment]',
         "`problem.penalty` must be left out"),
        ("best-schedule", "reshuffled = [1,", "reshuffled = [2,", "`experiment.reshuffled` must begin with 1"),
        ("best-schedule", "replaced = [1,", "replaced = [2,", "`experiment.replaced` must be some of `reshuffled`"),
        ("one-pass-schedule", "samples = [2.0, 8.0, 32.0]", "samples = [8.0, 2.0]", "`experiment.samples` must increase"),
    ],
)  # fmt: skip
def test_mistakes_get_one_sentence(name, was, put, words, tmp_path):
    text = (SETTINGS / f"{name}.toml").read_text()
    assert was in text
    (tmp_path / "wrong.toml").write_text(text.replace(was, put, 1))
    with pytest.raises(sl.InputError, match=re.escape(words)):
        claims.plan(name, path=tmp_path / "wrong.toml")
