"""What stands behind the explorer's page; `test_explore_page` has the page itself."""

import json
import os
import signal
import threading
from dataclasses import replace
from urllib.parse import parse_qsl

import numpy as np
import pytest

import sgdlimit as sl
from fakes import theory as made_up_theory
from sgdlimit import models
from sgdlimit.app.choices import DYNAMICS, REPEATS, Choices, Opened, toml
from sgdlimit.app.desk import Desk
from sgdlimit.app.presets import PRESETS, START, TRAINING
from sgdlimit.app.serve import files
from sgdlimit.app.shared import carried
from sgdlimit.errors import InputError
from sgdlimit.settings import config

CURVES = ("test_risk", "train_risk", "overlap", "self_overlap")

# --- what may be chosen ---------------------------------------------------------------------------------------------------


def test_every_named_model_is_on_the_page_with_its_parameters():
    own = {build: name for name, build in reversed(models.MODELS.items())}  # the first name of each
    assert set(PRESETS) == set(own.values())
    for name, preset in PRESETS.items():
        made = models.build(name, {key: value for key, value in preset.defaults.items() if value is not None})
        assert {one.name for one in preset.fields} | set(preset.texts) == set(preset.defaults)
        assert made.k >= 1


@pytest.mark.parametrize("name", PRESETS)
def test_an_address_and_a_settings_file_say_the_same(name, tmp_path):
    preset = PRESETS[name]
    begun = Choices.of(name, {})
    moved = replace(begun, numbers={**begun.numbers, "step": 0.123, "ratio": 3.3, "horizon": 0.7}, d=200, view="laws")
    read, complaints = Choices.read(dict(part.split("=") for part in moved.address()[1:].replace("%20", " ").split("&")), {})
    assert (read, complaints) == (moved, [])
    (tmp_path / "settings.toml").write_text(toml(moved.settings({})))
    job = config.read(tmp_path / "settings.toml")
    assert job.problem.sample_ratio == 3.3
    assert [part.slug for part in job.parts] == [DYNAMICS[kind][0].lower().replace(" ", "-") for kind in moved.shown]
    assert preset.kinks == job.problem.kinks


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
    return {"kind": what, "settings": choices.settings({}, (kind,)), "key": choices.key(kind, {})}


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
    heard = ask(desk, replace(FLOW, d=100), "flow", "simulation")
    assert heard.over.wait(120)
    told = [(what, value.dataset.attrs["repeats"]) for what, value in heard.all if what != "progress"]
    assert told == [("coarse", repeats) for repeats in range(2, REPEATS + 1)] + [("answer", REPEATS)]


def test_keys_tell_apart_what_must_not_be_taken_for_one_another():
    other = replace(FLOW, d=200)
    assert FLOW.key("flow", {}) == other.key("flow", {})
    assert FLOW.runs_key("flow", {}) != other.runs_key("flow", {})
    every = [Choices.of(name, {}) for name in PRESETS]
    assert len({one.key("online", {}) for one in every}) == len({one.words() for one in every}) == len(PRESETS)


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
    for one in (*TRAINING, *START, *(one for preset in PRESETS.values() for one in preset.fields)):
        assert one.least <= one.start < one.end <= one.most
    assert json.loads(json.dumps(Choices.of("softmax", {}).settings({}))) == Choices.of("softmax", {}).settings({})
