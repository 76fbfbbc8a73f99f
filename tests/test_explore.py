"""The explorer in a real browser, and what stands behind it without one."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sgdlimit as sl
from fakes import runs as made_up_runs
from fakes import theory as made_up_theory
from sgdlimit import config, models
from sgdlimit.app.choices import DYNAMICS, Choices, Opened, toml
from sgdlimit.app.desk import Desk
from sgdlimit.app.presets import PRESETS, START, TRAINING
from sgdlimit.app.serve import files
from sgdlimit.app.shared import carried
from sgdlimit.errors import InputError
from test_sweep import AXES, filled, valley

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
             "--no-first-run"]  # fmt: skip
PATIENCE = 120_000  # milliseconds: the machine may be shared
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


def resident(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- the page ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    """A server that has two results and a sweep open; its `address` is told."""
    folder = tmp_path_factory.mktemp("explore")
    made_up_theory().save(folder / "saved.nc")
    made_up_runs().save(folder / "measured.nc")
    filled(folder / "swept.zarr", AXES, valley)
    command = [sys.executable, "-m", "sgdlimit", "explore", "saved.nc", "measured.nc", "swept.zarr", "--port", "0"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("Explorer: http://localhost:"), line + (process.stderr.read() if process.stderr else "")
    process.address = line.split()[1]
    yield process
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "Traceback" not in err, err


@pytest.fixture
def server(process):
    return process.address


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM.exists():
        pytest.skip(f"The explorer's page is not tried: there is no Chromium at {CHROMIUM}.")
    api = pytest.importorskip("playwright.sync_api", reason="The explorer's page is not tried: Playwright is not installed.")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield opened
        opened.close()


def visit(browser, address, **options):
    page = browser.new_page(viewport={"width": 1280, "height": 900}, **options)
    page.set_default_timeout(PATIENCE)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(address)
    ready(page)
    return page


def ready(page):
    page.wait_for_selector(".chips[data-state=ready]")


def generation(page):
    return int(page.locator(".chips").get_attribute("data-generation"))


PLOTTED = """() => {
    const found = {}, models = Bokeh.documents.flatMap(document => [...document._all_models.values()]);
    for (const model of models.filter(one => one.type === "HoverTool" && one.tooltips[0][0] === "")) {
        const column = model.renderers[0].data_source.data;
        if (column.time && column.time.length)
            (found[model.tooltips[0][1]] ??= []).push({time: [...column.time], value: [...column.value], se: [...column.se]});
    }
    return found;
}"""


def test_the_page_from_first_curves_to_a_file_that_runs(browser, server, tmp_path):
    page = visit(browser, f"{server}?model=linear_regression&step=0.5&horizon=2&show=sgd,flow&d=100")
    assert page.locator(".chip b").all_inner_texts() == ["SGD", "gradient flow", "saved", "measured"]
    # A slider moves by the keyboard, the address follows, and the new curves are sharp in the end.
    before = generation(page)
    handle = page.locator(".noUi-handle").nth(1)
    handle.focus()
    handle.press("ArrowRight")
    page.wait_for_selector(f".chips[data-state=ready][data-generation='{before + 1}']")
    assert "step=0.55" in page.url
    errors = [float(x) for x in re.findall(r"±<?([\d.]+)%", " ".join(page.locator(".chip.done").all_inner_texts()))]
    assert len(errors) == 2
    assert max(errors) <= 1.0
    # What is plotted is what solve says, within the errors of both.
    choices, complaints = Choices.read(dict(part.split("=") for part in page.url.split("?")[1].split("&")), {})
    assert complaints == []
    problem = config._problem(config._settings(choices.settings({}, ("sgd",))).problem, None)
    limit = sl.solve(problem, sl.SGD(0.55), 2.0, rtol=0.01, seed=1)
    plotted = page.evaluate(PLOTTED)
    for curve, drawn in zip(CURVES, plotted["SGD, theory"], strict=True):
        expected, se = limit.dataset[curve].values.reshape(-1), limit.dataset[f"{curve}_se"].values.reshape(-1)
        np.testing.assert_allclose(drawn["time"], limit.dataset["time"].values)
        scale = np.abs(expected).max()
        assert (np.abs(np.array(drawn["value"]) - expected) <= 3 * np.hypot(se, drawn["se"]) + 2e-3 * scale).all(), curve
    assert {"saved, theory", "measured, real runs", "gradient flow, theory"} <= set(plotted)
    # Real runs come beside.
    page.get_by_role("button", name="Simulate").click()
    page.wait_for_selector("text=8 of 8 real runs")
    ready(page)
    measured = page.evaluate(PLOTTED)["SGD, real runs"]
    assert len(measured) == 4
    assert abs(measured[0]["value"][-1] - plotted["SGD, theory"][0]["value"][-1]) < 0.3 * plotted["SGD, theory"][0]["value"][0]
    # The file runs, and says what the page showed.
    with page.expect_download() as waiting:
        page.get_by_role("link", name="TOML").click()
    path = tmp_path / "settings.toml"
    waiting.value.save_as(path)
    done = subprocess.run([sys.executable, "-m", "sgdlimit", "check", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "SGD, gradient flow" in done.stdout
    assert config.read(path).parts[0].dynamics == sl.SGD(0.55)
    with page.expect_download() as waiting:
        page.get_by_role("link", name="NetCDF").click()
    waiting.value.save_as(tmp_path / "curves.zip")
    with zipfile.ZipFile(tmp_path / "curves.zip") as archive:
        archive.extractall(tmp_path)
    assert sl.load(tmp_path / "theory-sgd.nc").dataset["test_risk"].values[-1] == pytest.approx(plotted["SGD, theory"][0]["value"][-1])
    assert files([tmp_path / "theory-sgd.nc"])[0]  # the settings are in it
    with page.expect_download() as waiting:
        page.get_by_role("link", name="PNG").click()
    waiting.value.save_as(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    # Laws and kernels of what was solved.
    page.get_by_role("tab", name="Laws").or_(page.locator(".bk-tab", has_text="Laws")).first.click()
    page.wait_for_function("() => location.search.includes('view=laws')")
    page.wait_for_function(
        "() => Bokeh.documents.some(d => [...d._all_models.values()].some(m => m.data && m.data.fresh && m.data.fresh.length > 100))"
    )
    page.locator(".bk-tab", has_text="Two times").click()
    page.wait_for_function(
        "() => Bokeh.documents.some(d => [...d._all_models.values()].some(m => m.data && m.data.image && m.data.image.length === 1))"
    )
    # The address brings it all back.
    again = visit(browser, page.url)
    assert again.evaluate("() => location.search") == page.evaluate("() => location.search")
    assert again.evaluate(PLOTTED)["SGD, theory"][0]["value"] == pytest.approx(plotted["SGD, theory"][0]["value"])
    assert page.problems == again.problems == []
    page.close()
    again.close()


def family(pid):
    """The process, its children and theirs: which they are, their memory in bytes, and their threads."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    threads = sum(len(list(Path(f"/proc/{one}/task").iterdir())) for one in found)
    return set(found), sum(map(resident, found)), threads


def test_fifty_moves_leave_no_work_and_little_memory(browser, process):
    page = visit(browser, f"{process.address}?model=linear_regression&show=flow&ratio=2")
    handle = page.locator(".noUi-handle").nth(2)
    handle.focus()
    handle.press("ArrowRight")
    page.wait_for_function("() => location.search.includes('ratio=2.1')")
    ready(page)
    processes, memory, threads = family(process.pid)
    before = generation(page)
    for move in range(50):
        shown = generation(page)
        handle.press("ArrowRight")
        if move % 2:  # the others are overtaken by the next, and may reach the server together with it
            page.wait_for_selector(f".chips:not([data-generation='{shown}'])")
    page.wait_for_function("() => location.search.includes('ratio=7.1')")
    ready(page)
    assert generation(page) >= before + 25
    for _ in range(60):  # what an overtaken move compiles is not broken off, and may end after the last move's answer
        spent = sum(map(seconds, processes))
        page.wait_for_timeout(1000)
        if sum(map(seconds, processes)) - spent < 0.2:
            break
    else:
        raise AssertionError("a minute after the last move there is still work")
    after = family(process.pid)
    assert after[0] == processes
    assert after[1] - memory < 200e6
    assert after[2] <= threads
    assert page.problems == []
    page.close()


PIXEL = """([x, y]) => {
    const models = Bokeh.documents.flatMap(document => [...document._all_models.values()]);
    const model = models.find(one => one.type === "Figure" && one.title.text.includes("at the end"));
    const view = model && Bokeh.index.find_one(model);
    if (!view || !view.frame) return null;
    const box = view.el.getBoundingClientRect();
    return [box.x + view.frame.x_scale.compute(x), box.y + view.frame.y_scale.compute(y)];
}"""
POINT = """() => {
    const figures = Bokeh.documents.flatMap(d => [...d._all_models.values()]).filter(m => m.type === "Figure");
    const found = figures.find(m => m.title && m.title.text.startsWith("step"));
    if (!found) return null;
    const line = found.renderers.find(r => r.glyph.type === "Line").data_source.data;
    return {title: found.title.text, x: [...line.x], y: [...line.y]};
}"""


def test_a_click_on_the_map_of_a_sweep_shows_the_curves_of_that_point(browser, server):
    page = visit(browser, f"{server}?model=linear_regression&show=flow&view=sweep")
    step, ratio = 2.0, 4.0
    page.wait_for_function(PIXEL, arg=[ratio, step])
    page.mouse.click(*page.evaluate(PIXEL, [ratio, step]))
    page.wait_for_function(POINT)
    shown = page.evaluate(POINT)
    assert re.findall(r"= ([\d.]+)", shown["title"]) == ["2", "4"]
    expected = valley({"dynamics.step": step, "problem.sample_ratio": ratio}, np.array(shown["x"]))
    np.testing.assert_allclose(shown["y"], expected, rtol=1e-5)
    page.close()


def test_two_visitors_at_once_and_an_address_that_makes_no_sense(browser, server):
    one = browser.new_page()
    one.set_default_timeout(PATIENCE)
    one.goto(f"{server}?model=linear_regression&show=flow&ratio=3.1&nonsense=1&step=fast")
    two = visit(browser, f"{server}?model=linear_regression&show=flow&ratio=0.9")
    ready(one)
    said = one.locator("[role=alert]").all_inner_texts()
    assert any("`step` must be a number, but is 'fast'" in words for words in said)
    assert any("'nonsense'" in words for words in said)
    assert two.locator("[role=alert]").count() == 0
    first, second = (page.evaluate(PLOTTED)["gradient flow, theory"][0]["value"][-1] for page in (one, two))
    assert first != second
    one.close()
    two.close()


def test_at_four_hundred_pixels_nothing_is_cut_off(browser, server):
    page = visit(browser, f"{server}?model=linear_regression&show=flow", color_scheme="dark")
    page.set_viewport_size({"width": 400, "height": 900})
    page.wait_for_timeout(500)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 400
    page.close()


def test_foreign_pages_may_not_speak_to_it(server):
    with urllib.request.urlopen(server) as answer:
        token = re.search(r'"token":"([^"]+)"', answer.read().decode())
    assert token is not None
    host = server.removeprefix("http://").rstrip("/")
    for origin, expected in (("http://evil.example", 403), (f"http://{host}", 101)):
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.request("GET", "/ws", headers={
            "Origin": origin, "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": f"bokeh, {token[1]}",
        })  # fmt: skip
        with connection.getresponse() as answer:
            assert answer.status == expected, origin
        connection.close()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(server + "download/guessed/settings.toml")
    refused.value.close()
    assert refused.value.code == 404


def test_fields_have_sound_ends():
    for one in (*TRAINING, *START, *(one for preset in PRESETS.values() for one in preset.fields)):
        assert one.least <= one.start < one.end <= one.most
    assert json.loads(json.dumps(Choices.of("softmax", {}).settings({}))) == Choices.of("softmax", {}).settings({})
