"""What stands behind the explorer's page; `test_explore_page` has the page itself."""

import inspect
import json
import math
import os
import signal
import threading
from dataclasses import replace
from urllib.parse import parse_qsl

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdlimit as sl
from fakes import theory as made_up_theory
from sgdlimit import models
from sgdlimit.app.choices import FIELDS, FIXED, REPEATS, Choices, Opened
from sgdlimit.app.desk import Desk
from sgdlimit.app.presets import AVERAGES, OPTIMIZERS, PRESETS
from sgdlimit.app.serve import files
from sgdlimit.app.shared import carried
from sgdlimit.app.writing import toml
from sgdlimit.errors import InputError
from sgdlimit.learning.noise import draws_of
from sgdlimit.results.panels import panels_of
from sgdlimit.settings import config

CURVES = ("test_risk", "train_risk", "overlap", "self_overlap")

# --- what may be chosen ---------------------------------------------------------------------------------------------------


def test_every_named_model_is_on_the_page_with_its_parameters():
    own = {build: name for name, build in reversed(models.MODELS.items())}  # the first name of each
    assert set(PRESETS) == set(own.values())
    for name, preset in PRESETS.items():
        made = models.build(name, {key: value for key, value in preset.parameters(preset.defaults).items() if value is not None})
        assert {one.name for one in preset.fields} | set(preset.texts) | set(preset.switches) == set(preset.defaults)
        assert made.k == made.k_star == preset.directions(preset.defaults)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", PRESETS)
def test_an_address_and_a_settings_file_say_the_same(name, optimizer, tmp_path):
    preset = PRESETS[name]
    begun = Choices.of(name, {})
    numbers = {**begun.numbers, "step": 0.123, "ratio": 3.3, "horizon": 0.7, "memory": 0.8, "second_memory": 7.0}
    moved = replace(begun, numbers=numbers, d=200, view="laws", optimizer=optimizer)
    read, complaints = Choices.read(dict(part.split("=") for part in moved.address()[1:].replace("%20", " ").split("&")), {})
    assert (read, complaints) == (moved, [])
    (tmp_path / "settings.toml").write_text(toml(moved.settings({})))
    job = config.read(tmp_path / "settings.toml")
    assert job.problem.sample_ratio == 3.3
    solved = [kind for kind in moved.shown if not moved.refusal(kind)]
    assert [part.name for part in job.parts] == [moved.title(kind) for kind in solved]
    expected = {"plain": None, "momentum": sl.Momentum(0.8), "adam": sl.Adam(0.8, 7.0)}[optimizer]
    assert [part.dynamics.optimizer for part in job.parts] == [expected] * len(solved)
    assert ("memory 0.8" in moved.words()) == (optimizer != "plain")
    assert preset.kinks == job.problem.kinks


ALONG = [name for name, preset in PRESETS.items() if preset.along]


def switched(name, on=True, **numbers):
    begun = Choices.of(name, {})
    return replace(
        begun, parameters={**begun.parameters, **dict.fromkeys(PRESETS[name].switches, on)}, numbers={**begun.numbers, **numbers}
    )


def problem_of(choices, kind="sgd"):
    return config._problem(config._settings(choices.settings({}, (kind,))).problem, None)


def test_whatever_trains_numbers_along_can_be_switched_on():
    """Of every named model, whichever of its parameters is true or false."""
    for name, preset in PRESETS.items():
        taken = inspect.signature(models.MODELS[name]).parameters
        assert set(preset.switches) == {key for key, one in taken.items() if one.default is False}
        trained = problem_of(switched(name)).trained
        assert (trained is not None) == (name in ALONG)
        assert "teacher_intercept" not in taken or "teacher_intercept" in preset.defaults


@pytest.mark.parametrize("name", ALONG)
def test_what_is_trained_along_is_in_the_address_the_file_and_the_pictures(name, tmp_path):
    for on in (True, False):
        moved = replace(switched(name, on, rate=0.4), beside=True)
        read, complaints = Choices.read(dict(parse_qsl(moved.address()[1:], keep_blank_values=True)), {})
        assert (read, complaints) == (moved, [])
        (tmp_path / "settings.toml").write_text(toml(moved.settings({})))
        trained = config.read(tmp_path / "settings.toml").problem.trained
        on = on or not PRESETS[name].switches
        assert (0 if trained is None else len(trained)) == moved.trained
        assert (moved.trained > 0) == on
        drawn = [panel.text for panel in panels_of(moved.sizes()) if panel.curve == "trained"]
        assert drawn == [f"trained a{i + 1}" if moved.trained > 1 else "trained a" for i in range(moved.trained)]
        assert moved.lines == (*moved.shown, *(FIXED + kind for kind in moved.shown if on))
        assert ("rate of what is trained along 0.4" in moved.words()) == on
        if on:
            assert set(trained.rate) == {0.4}
            fixed = problem_of(moved, "fixed sgd")
            assert set(fixed.trained.rate) == {0.0}
            assert fixed.trained.start == trained.start
            assert moved.key("fixed sgd", {}) != moved.key("sgd", {})
            assert moved.title("fixed sgd") == "SGD, numbers fixed"


@pytest.mark.parametrize(("name", "expected"), [("tail", sl.TailAverage(0.5)), ("exponential", sl.ExponentialAverage(0.6))])
def test_an_average_is_in_the_address_and_in_settings_of_its_own(name, expected, tmp_path):
    begun = with_numbers(switched("logistic"), average_memory=0.6)
    moved = replace(begun, average=name, beside=True, shown=("sgd", "flow"))
    assert Choices.read(dict(parse_qsl(moved.address()[1:])), {}) == (moved, [])
    assert moved.lines == ("sgd", "flow", "fixed sgd", "fixed flow", "averaged sgd", "averaged flow")
    (tmp_path / "settings.toml").write_text(toml(moved.settings({}, ("averaged sgd",))))
    job = config.read(tmp_path / "settings.toml")
    assert job.settings.simulation.arguments()["average"] == expected
    assert "average" not in moved.settings({})["simulation"]
    assert moved.key("averaged sgd", {}) != moved.key("sgd", {}) == begun.key("sgd", {})
    assert moved.title("averaged sgd") == "SGD, averaged"
    assert AVERAGES[name][0] in moved.words()
    assert ("memory of the average 0.6" in moved.words()) == (name == "exponential")


def test_a_page_loaded_again_is_the_same():
    tenths = sum([0.1] * 24)  # a slider's steps add up to 2.4000000000000004
    begun = Choices.of("committee", {})
    parameters = {name: [0.1 + 0.2, -tenths] if isinstance(value, list) else value for name, value in begun.parameters.items()}
    moved = replace(begun, numbers={**begun.numbers, "step": tenths}, parameters=parameters)
    again, complaints = Choices.read(dict(parse_qsl(moved.address()[1:])), {})
    assert not complaints
    assert again == moved != begun
    assert again.key("sgd", {}) == moved.key("sgd", {})


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("model=nothing", "`model` must be a problem of this page, but is 'nothing'"),
        ("step=abc", "`step` must be a number, but is 'abc'"),
        ("step=nan", "`step` must be a number, but is nan"),
        ("step=-1", "`step` must lie between 0.001 and 50"),
        ("horizon=1e9", "`horizon` must lie between"),
        ("d=1000000", "`d` must lie between 50 and 4000"),
        ("show=sgd,adam", "`show` must be one of sgd, reshuffle"),
        ("optimizer=sgd", "`optimizer` must be one of plain, momentum, adam"),
        ("memory=-1", "`memory` must lie between 0 and 40"),
        ("average=swa", "`average` must be one of none, tail, exponential, but is 'swa'"),
        ("average_memory=0", "`average_memory` must lie between 0.001 and 40"),
        ("beside=1", "`beside` must be one of false, true, but is '1'"),
        ("model=probit&intercept=yes", "`intercept` must be one of false, true, but is 'yes'"),
        ("model=softmax&teacher_intercept=1e3", "`teacher_intercept` must lie between -20 and 20"),
        ("plugin=/etc/passwd", "`address` must name settings of this page, but is 'plugin'"),
        ("model=committee&weights=1,2,3,4,5,6", "`weights` must be one to 3 numbers"),
        ("model=committee&activation=__import__", "`activation` must be one of tanh"),
        ("noise=", "`noise` must be a number, but is ''"),
    ],
)
def test_what_an_address_cannot_mean_is_said_and_left_at_its_default(query, words):
    parts = dict(part.split("=") for part in query.split("&"))
    read, complaints = Choices.read(parts, {})
    assert len(complaints) == 1
    assert words in complaints[0]
    read.check()
    assert read == Choices.of(parts["model"] if parts.get("model") in PRESETS else "tanh_regression", {})


def test_what_is_too_much_is_refused_in_words():
    begun = Choices.of("tanh_regression", {})
    many = replace(begun, numbers={**begun.numbers, "step": 0.01, "ratio": 0.5, "horizon": 10.0}, d=4000)
    assert "2000 times" in many.refusal("sgd")
    assert "2000 epochs" in many.refusal("reshuffle")
    assert many.refusal("flow") == ""
    assert "weights" in many.refuse_simulation()
    assert "numbers" in replace(begun, numbers={**begun.numbers, "ratio": 8.0}, d=4000).refuse_simulation()


@pytest.mark.parametrize("name", ["huber", "quantile", "amplitude_retrieval"])
def test_numbers_of_a_loss_may_travel_with_the_noise(name):
    """Then one compiled program serves them all; the curves are those of the plain problem, within joint errors."""
    choices = Choices.of(name, {})
    choices = replace(choices, parameters={**choices.parameters, "width": 0.6})
    problem = config._problem(config._settings(choices.settings({}, ("flow",))).problem, None)
    other = replace(choices, parameters={**choices.parameters, "width": 0.9})
    shared, also = (carried(config._problem(config._settings(one.settings({}, ("flow",))).problem, None)) for one in (choices, other))
    assert shared.loss is also.loss
    assert shared.label is also.label
    r, y = np.array([0.3]), (np.float64(-0.4), np.array(shared.noise.numbers))
    assert float(shared.loss(r, y)) == pytest.approx(float(problem.loss(r, y[0])), rel=1e-6)
    u = np.random.default_rng(0).random((5, shared.noise_size))
    np.testing.assert_allclose(shared.noise_from_uniform(u)[:, 0], problem.noise_from_uniform(u[:, 0]))
    if name == "huber":
        limit, same = (sl.solve(one, sl.GradientFlow(), 0.5, rtol=0.1) for one in (problem, shared))
        for curve in CURVES:
            apart = np.abs(limit.dataset[curve] - same.dataset[curve]).values
            assert (apart <= 4 * np.hypot(limit.dataset[f"{curve}_se"], same.dataset[f"{curve}_se"]).values + 1e-12).all()


@pytest.mark.parametrize("name", [name for name in ALONG if name != "committee"])
def test_numbers_of_a_teacher_may_travel_with_the_noise(name):
    """So no stop of a slider waits for a program of its own, with numbers trained along or without."""
    (slider,) = (one.name for one in PRESETS[name].fields if one.name.startswith(("teacher_", "student_")))
    for on in (True, False):
        begun = switched(name, on)
        moved = [replace(begun, parameters={**begun.parameters, slider: value}) for value in (0.7, 1.2)]
        plain, (one, other) = problem_of(moved[0]), (carried(problem_of(choices)) for choices in moved)
        assert one.loss == other.loss == plain.loss
        assert one.label == other.label
        u = np.random.default_rng(0).random((20, math.prod(plain.noise.shape)))
        longer = np.concatenate([u, np.full((20, math.prod(one.noise.shape) - u.shape[1]), 0.5)], 1)
        r_star = np.linspace(-2, 2, 20)[:, None] * np.linspace(1, 0.3, plain.k_star)
        expected, found = (
            np.array(jax.vmap(which.label)(jnp.array(r_star), jnp.array(draws_of(which.noise, x))))
            for which, x in ((plain, u), (one, longer))
        )
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # Panel renames its arguments
def test_the_controls_show_what_is_trained_along():
    from sgdlimit.app.controls import Controls

    begun = Choices.of("probit", {})
    controls = Controls(begun, {}, [], "", lambda: None, lambda: None, lambda: None)
    assert not {"rate", "beside"} & set(controls.fields)
    (label,) = controls.fields["intercept"].options
    controls.fields["intercept"].value = [label]
    begun = controls.read(begun)
    assert begun == switched("probit")
    controls.put(begun)
    controls.fields["rate"].value, controls.fields["teacher_intercept"].value = 0.3, -1.0
    controls.fields["beside"].value = controls.fields["beside"].options
    begun = controls.read(begun)
    assert (begun.beside, begun.numbers["rate"], begun.parameters["teacher_intercept"]) == (True, 0.3, -1.0)
    assert begun.lines == ("sgd", "sme", "flow", "fixed sgd", "fixed sme", "fixed flow")
    controls.put(begun)
    assert controls.read(begun) == begun


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # Panel renames its arguments
def test_the_controls_show_the_memories_that_act():
    from sgdlimit.app.controls import Controls

    begun, moves = Choices.of("logistic", {}), []
    controls = Controls(begun, {}, [], "", lambda: moves.append(1), lambda: None, lambda: None)
    for optimizer, (_, fields) in OPTIMIZERS.items():
        controls.optimizer.value = optimizer
        begun = controls.read(begun)
        assert begun.optimizer == optimizer
        controls.put(begun)
        assert [widget.name for widget in controls.memories.objects] == [one.label for one in fields]
        for number, one in enumerate(fields):
            controls.fields[one.name].value = 0.3 + number
            begun = controls.read(begun)
            assert begun.numbers[one.name] == pytest.approx(0.3 + number)
    for name, (_, fields) in AVERAGES.items():
        controls.average.value = name
        begun = controls.read(begun)
        controls.put(begun)
        assert (begun.average, [widget.name for widget in controls.averaging.objects]) == (name, [one.label for one in fields])
    assert len(moves) == 6  # two optimisers, two memories that were elsewhere, and two averages; what is put is no move
    assert controls.read(begun) == begun


# --- what is opened -------------------------------------------------------------------------------------------------------


def test_files_that_are_opened(tmp_path):
    made_up_theory().save(tmp_path / "theory.nc")
    (tmp_path / "mine.toml").write_text(toml(Choices.of("logistic", {}).settings({})))
    opened, results, sweeps = files([tmp_path / "theory.nc", tmp_path / "mine.toml"])
    assert (list(opened), [name.rsplit("/", 1)[-1] for name in results], sweeps) == (["mine"], ["theory"], {})
    choices, complaints = Choices.read({"model": "mine", "step": "0.5"}, opened)
    assert complaints == []
    assert choices.numbers["teacher"] == 4.0
    assert choices.settings(opened)["problem"]["model"] == "logistic"
    assert choices.settings(opened)["dynamics"][0] == {"kind": "sgd", "step": 0.5}
    for name, words in (("none.nc", "does not exist"), ("x.csv", "must be a .nc result, a .toml settings file or the .zarr store")):
        with pytest.raises(InputError, match=words):
            files([tmp_path / name])


def test_an_opened_problem_keeps_what_no_slider_has():
    raw = Choices.of("committee", {}).settings({})
    raw["problem"]["teacher"] = {"kind": "gaussian", "cov": [[1.5, 0.3], [0.3, 1.0]]}
    raw["problem"]["penalty"] = {"kind": "smooth_l1", "strength": 0.1, "width": 0.2}
    opened = {"mine": Opened("mine", raw)}
    problem = Choices.of("mine", opened).settings(opened)["problem"]
    assert problem["teacher"]["cov"] == [[1.5, 0.3], [0.3, 1.0]]
    assert problem["penalty"]["kind"] == "smooth_l1"


def test_an_opened_optimiser_is_chosen_and_keeps_what_no_slider_has(tmp_path):
    raw = Choices.of("logistic", {}).settings({}, ("sme", "sgd"))
    raw["dynamics"][1]["optimizer"] = {"kind": "adam", "memory": 0.2, "second_memory": float("inf"), "decay": 0.1}
    (tmp_path / "mine.toml").write_text(toml(raw))
    opened, *_ = files([tmp_path / "mine.toml"])
    choices = Choices.of("mine", opened)
    assert (choices.optimizer, choices.numbers["memory"]) == ("adam", 0.2)
    moved = with_numbers(choices, memory=0.3)
    assert moved.settings(opened, ("sgd",))["dynamics"][0]["optimizer"] == {**opened["mine"].optimizer(), "memory": 0.3}
    assert opened["mine"].optimizer()["decay"] == 0.1
    assert "optimizer" not in replace(moved, optimizer="plain").settings(opened, ("sgd",))["dynamics"][0]
    # A script's own numbers stand on the sliders as well.
    del raw["dynamics"][0]["step"]
    raw["dynamics"][0] |= {"learning_rate": 0.005, "batch_size": 10, "n_features": 500, "momentum": 0.9, "clip": 2.0}
    (tmp_path / "mine.toml").write_text(toml({**raw, "dynamics": raw["dynamics"][:1]}))
    opened, *_ = files([tmp_path / "mine.toml"])
    (part,) = config._parts(config._settings(Choices.of("mine", opened).settings(opened, ("sme",))).dynamics)
    script = sl.SGD.from_learning_rate(0.005, 10, 500, momentum=0.9)
    assert part.dynamics.step == pytest.approx(script.step)
    assert part.dynamics.optimizer.memory == pytest.approx(script.optimizer.memory)
    assert part.dynamics.clip == 2.0


# --- the process that computes ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def desk():
    made = Desk()
    yield made
    made.close()


class Heard:
    """What was heard of a job."""

    def __init__(self):
        self.all, self.over, self.coarse = [], threading.Event(), threading.Event()

    def __call__(self, what, value):
        self.all.append((what, value))
        if what in ("coarse", "answer"):
            self.coarse.set()
        if what in ("answer", "failed"):
            self.over.set()


def order(choices, kind, what="theory"):
    key = (choices.runs_key if what == "simulation" else choices.key)(kind, {})
    return {"kind": what, "settings": choices.settings({}, (kind,)), "key": key}


def ask(desk, choices, kind, what="theory"):
    heard = Heard()
    heard.ticket = desk.ask(order(choices, kind, what), heard)
    return heard


def with_numbers(choices, **numbers):
    return replace(choices, numbers={**choices.numbers, **numbers})


FLOW = Choices.of("linear_regression", {})


def test_two_who_ask_get_answers_and_one_who_leaves_stops_nobody(desk):
    one, two = ask(desk, FLOW, "flow"), ask(desk, FLOW, "flow")
    desk.drop(one.ticket)
    assert two.over.wait(60)
    assert two.all[-1][0] == "answer"
    assert not one.over.is_set()
    assert ask(desk, FLOW, "flow").over.is_set()  # known by now
    assert desk.busy() == 0


def test_a_page_that_cannot_listen_silences_nobody(desk):
    def deaf(what, value):
        raise RuntimeError("this page is gone")

    shorter = with_numbers(FLOW, horizon=3.0)
    desk.ask(order(shorter, "flow"), deaf)
    heard = ask(desk, with_numbers(FLOW, horizon=3.5), "flow")
    assert heard.over.wait(60)
    assert ask(desk, shorter, "flow").over.wait(60)


def test_an_answer_says_what_it_is_of_and_laws_that_were_let_go_come_back(desk):
    heard = ask(desk, FLOW, "flow")
    assert heard.over.wait(60)
    assert heard.all[-1][1].dataset.attrs["of"] == FLOW.key("flow", {})
    heard = Heard()  # of an answer that the process has not kept
    desk.ask({**order(FLOW, "flow", "laws"), "key": "let go", "runs": "let go too"}, heard)
    assert heard.over.wait(120)
    what, pictures = heard.all[-1]
    assert (what, pictures["runs"]) == ("answer", False)
    assert np.isfinite(pictures["weight"][0][-1]["y"]).all()


def test_real_runs_are_told_as_they_come_and_once_more_in_the_end(desk):
    """Small ones all at once."""
    for d, so_far in ((100, [REPEATS]), (800, range(2, REPEATS + 1))):
        heard = ask(desk, replace(FLOW, d=d), "flow", "simulation")
        assert heard.over.wait(120)
        told = [(what, value.dataset.attrs["repeats"]) for what, value in heard.all if what != "progress"]
        assert told == [*(("coarse", repeats) for repeats in so_far), ("answer", REPEATS)]


def test_keys_tell_apart_what_must_not_be_taken_for_one_another():
    other = replace(FLOW, d=200)
    assert FLOW.key("flow", {}) == other.key("flow", {})
    assert FLOW.runs_key("flow", {}) != other.runs_key("flow", {})
    every = [Choices.of(name, {}) for name in PRESETS]
    assert len({one.key("online", {}) for one in every}) == len({one.words() for one in every}) == len(PRESETS)


def test_an_optimiser_makes_other_curves(desk):
    plain, momentum = FLOW, with_numbers(replace(FLOW, optimizer="momentum"), memory=0.5)
    answers = {}
    for choices in (plain, momentum):
        heard = ask(desk, choices, "flow")
        assert heard.over.wait(120)
        assert heard.all[-1][0] == "answer"
        answers[choices.optimizer] = heard.all[-1][1].dataset
    assert answers["momentum"].attrs["dynamics"] == "GradientFlow(optimizer=Momentum(memory=0.5))"
    assert answers["momentum"].attrs["of"] == momentum.key("flow", {}) != plain.key("flow", {})
    early = {"time": 5}
    assert answers["momentum"].test_risk.isel(early) > answers["plain"].test_risk.isel(early)  # the velocity is at rest at first
    assert "Adam divides by the noise" in replace(momentum, optimizer="adam").refusal("flow")
    assert with_numbers(plain, memory=1.0).key("flow", {}) == plain.key("flow", {})


@pytest.mark.parametrize("name", ["tail", "exponential"])
def test_averages_are_made_of_what_was_solved(desk, name):
    """The self-overlap of an average is a mean of the correlation over both times, taken here with the trapezoidal rule."""
    choices, kind = replace(FLOW, average=name), "averaged flow"
    heard, base = Heard(), ask(desk, choices, "flow")
    assert base.over.wait(60)
    desk.ask({**order(choices, kind, "average"), "from": choices.key("flow", {})}, heard)
    assert heard.over.wait(120)
    assert heard.all[-1][0] == "answer", heard.all[-1]
    (_, found), solved = heard.all[-1], base.all[-1][1].dataset
    assert (heard.all[-1][0], found.dataset.attrs["of"]) == ("answer", choices.key(kind, {}))
    times = solved.time.values
    weights = (times >= times[-1] / 2 - 1e-9) if name == "tail" else np.exp(times - times[-1])
    weights = (
        weights
        * np.gradient(times)
        * np.where((times == times[weights > 0][0]) | (times == times[-1]), 0.5 if name == "tail" else 1.0, 1.0)
    )
    expected = np.einsum("t,s,tsij->ij", weights, weights, solved.correlation.values) / weights.sum() ** 2
    np.testing.assert_allclose(found.dataset.self_overlap.values[-1], expected, rtol=0.03)
    again = Heard()  # known by now, to all visitors
    desk.ask({**order(choices, kind, "average"), "from": choices.key("flow", {})}, again)
    assert again.over.is_set()


@pytest.mark.evidence
def test_numbers_trained_along_beside_the_same_held_fixed(desk):
    choices = replace(switched("logistic", horizon=2.0), beside=True)
    choices = replace(choices, parameters={**choices.parameters, "teacher_intercept": 2.0})
    answers = {}
    for kind in ("flow", "fixed flow"):
        heard = ask(desk, choices, kind)
        assert heard.over.wait(240)
        assert heard.all[-1][0] == "answer", heard.all[-1]
        answers[kind] = heard.all[-1][1].dataset
        assert answers[kind].attrs["of"] == choices.key(kind, {})
        assert [panel.text for panel in panels_of(answers[kind])] == [panel.text for panel in panels_of(choices.sizes())]
    trained, fixed = answers.values()
    assert (fixed.trained == 0).all()
    assert trained.trained.values[-1, 0] > 0.3
    assert trained.test_risk[-1] < fixed.test_risk[-1] - 0.02
    # Held fixed at zero is the model without an intercept.
    without = ask(desk, replace(choices, parameters={**choices.parameters, "intercept": False}), "flow")
    assert without.over.wait(240)
    apart = np.abs(without.all[-1][1].dataset.test_risk - fixed.test_risk)
    assert (apart <= 3 * fixed.test_risk_se + 1e-3).all()


def test_a_wrong_setting_and_a_lost_process_are_told_in_words(desk):
    settings = FLOW.settings({}, ("flow",))
    settings["problem"]["model"] = "plugin:os"
    heard = Heard()
    desk.ask({"kind": "theory", "settings": settings, "key": "plugin"}, heard)
    assert heard.over.wait(60)
    assert heard.all[-1][0] == "failed"
    assert "must name a built-in model unless a plugin is given" in heard.all[-1][1]
    before = desk.process.pid
    os.kill(before, signal.SIGKILL)
    heard = ask(desk, with_numbers(FLOW, step=0.7, ridge=0.3), "flow")  # asked of the dead or of its successor
    assert heard.over.wait(120)
    assert heard.all[-1][0] == "answer"
    assert desk.process.pid != before


def test_fields_have_sound_ends():
    for one in (*FIELDS, *(one for preset in PRESETS.values() for one in preset.fields)):
        assert one.least <= one.start < one.end <= one.most
    assert json.loads(json.dumps(Choices.of("softmax", {}).settings({}))) == Choices.of("softmax", {}).settings({})
