"""The explorer as a person has it: a browser that chooses, moves and clicks everything, planted faults, and what is left over."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import sgdlimit as sl
from fakes import runs as made_up_runs
from fakes import theory as made_up_theory
from sgdlimit.app.choices import DYNAMICS, Choices
from sgdlimit.app.controls import BESIDE
from sgdlimit.app.presets import AVERAGES, OPTIMIZERS, PRESETS, RATE, START, TRAINING
from sgdlimit.app.serve import files
from sgdlimit.app.shared import carried
from sgdlimit.results.panels import MOST_PANELS
from sgdlimit.settings import config
from sgdlimit.theory import shapes
from sgdlimit.theory.solve import refinements
from test_sweep import AXES, filled, valley

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
             "--no-first-run"]  # fmt: skip
PATIENCE = 120_000  # milliseconds: the machine may be shared
WIDTHS = (1280, 420)
SECONDS = 20.0  # of processor time, ten of two cores, in which a problem that is chosen must be drawn
CURVES = ("test_risk", "train_risk", "overlap", "self_overlap")


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
    fault = folder / "fault"
    fault.touch()
    command = [sys.executable, Path(__file__).with_name("faulty_explorer.py"), "saved.nc", "measured.nc", "swept.zarr", "--port", "0"]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "SGDLIMIT_FAULT": str(fault)}
    )
    process.fault = fault
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


def visit(browser, address, width=1280, **options):
    page = browser.new_page(viewport={"width": width, "height": 900}, **options)
    page.set_default_timeout(PATIENCE)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(address)
    ready(page)
    page.wait_for_function("() => location.search.includes('view=')")
    return page


def ready(page):
    page.wait_for_selector(".chips[data-state=ready]")


def generation(page):
    return int(page.locator(".chips").get_attribute("data-generation"))


PLOTTED = """() => {
    const found = {}, models = Bokeh.documents.flatMap(document => [...document._all_models.values()]);
    // A document keeps models for a while that no view shows any more.
    const figures = models.filter(one => one.type === "Figure" && Bokeh.index.find_one(one)?.el?.isConnected);
    for (const figure of figures) {
        const view = Bokeh.index.find_one(figure);
        for (const tool of figure.toolbar.tools.filter(one => one.type === "HoverTool" && one.tooltips[0][0] === "")) {
            const line = tool.renderers[0], {data: column, tags} = line.data_source;
            // What the view has, which is what is painted, may be less than what the document has.
            if (column.time?.length && Bokeh.index.find_one(line)?.glyph.data_size === column.time.length)
                (found[tool.tooltips[0][1]] ??= []).push(
                    {time: [...column.time], value: [...column.value], se: [...column.se], of: tags[0]});
        }
    }
    return found;
}"""


def chosen(page):
    """What the page's address says is chosen."""
    found, complaints = Choices.read(query(page), {})
    assert complaints == []
    return found


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
    choices = chosen(page)
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


@pytest.mark.evidence
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


@pytest.mark.evidence
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


# --- what a person clicks -----------------------------------------------------------------------------------------------------

CONTROLS = """() => {
    const owners = new Map(), found = new Set();
    for (const document of Bokeh.documents)
        for (const model of document._all_models.values()) {
            const view = Bokeh.index.find_one(model);
            if (view && view.el) owners.set(view.el, model);
        }
    const control = "a[href], button, input, select, textarea, summary, [role=button], [tabindex]:not([tabindex='-1']), "
        + "[contenteditable], .noUi-handle, .bk-tab, .bk-btn";
    const name = (one, owner) => {
        if (one.matches("input[type=checkbox]")) return one.closest("label").innerText.trim();
        if (one.matches("a, .bk-tab")) return one.innerText.trim();
        return one.title || "";
    };
    const walk = (one, owner, above) => {
        owner = owners.get(one) ?? owner;
        const pointed = getComputedStyle(one).cursor === "pointer" && above !== "pointer";
        if ((one.matches(control) || pointed) && one.checkVisibility({visibilityProperty: true})) {
            const type = (owner?.type ?? one.tagName).split(".").pop();
            const words = [type, owner?.tags?.[0] ?? owner?.name ?? "", owner ? name(one, owner) : ""];
            const said = words.filter(part => part).join(" ");
            one.setAttribute("data-control", said);
            found.add(said);
        }
        for (const inner of [...(one.shadowRoot?.children ?? []), ...one.children]) walk(inner, owner, getComputedStyle(one).cursor);
    };
    walk(document.body, null, "");
    for (const [element, figure] of owners)
        if (figure.type === "Figure" && element.checkVisibility() && figure.toolbar.tools.some(tool => tool.type === "TapTool"))
            found.add("Figure map");
    return [...found];
}"""


class Person:
    """Uses the controls of a page, and keeps a list of those used and of those seen."""

    def __init__(self, page):
        self.page, self.used, self.seen = page, set(), set()
        self.look()

    def look(self):
        self.seen |= set(self.page.evaluate(CONTROLS))

    def at(self, control):
        one = self.page.locator(f'[data-control="{control}"]').filter(visible=True)  # not those in views that were left
        if not one.count():  # the page has made it since the last look
            self.look()
        assert control in self.seen, (control, sorted(self.seen))
        self.used.add(control)
        return one.first

    def until(self, is_so, words):
        for _ in range(PATIENCE // 100):
            if is_so():
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(words)

    def moves(self, control, act, parameter):
        """Do something to a control, and see the address follow."""
        before = query(self.page)[parameter]
        act(self.at(control))
        self.until(lambda: query(self.page)[parameter] != before, f"{control} does not change {parameter} = {before}")

    def slides(self, name):
        self.moves(f"Slider {name}", lambda one: one.press("ArrowRight"), name)

    def writes(self, control, name, text):
        def act(one):
            one.fill(text)
            one.press("Enter")

        self.moves(control, act, name)

    def field(self, one):
        """Both ways to change a number."""
        if one.optional:
            self.writes(f"Spinner {one.name}", one.name, "4.5")
        elif one.whole:
            self.slides(one.name)
        else:
            self.slides(one.name)
            other = [text for steps in (3, 4) if (text := f"{one.start + steps * one.step:g}") != query(self.page)[one.name]]
            self.writes(f"Spinner {one.name}", one.name, other[0])


def vouched(page, panels=None):
    """Wait until all that is drawn is of what the address says, and painted in as many pictures as asked, which a browser does one by one;
    then what is drawn."""
    for _ in range(PATIENCE // 100):
        choices, drawn = chosen(page), page.evaluate(PLOTTED)
        keys = {choices.key(kind, {}) for kind in choices.lines} | {choices.runs_key(kind, {}) for kind in choices.shown}
        mine = {name: curves for name, curves in drawn.items() if not str(curves[0]["of"]).startswith("saved")}
        whole = panels is None or all(len(curves) == panels for curves in mine.values())
        if mine and whole and all(one["of"] in keys for curves in mine.values() for one in curves):
            return choices, mine
        page.wait_for_timeout(100)
    raise AssertionError(
        (page.url, [(len(curves), curves[0]["of"]) for curves in drawn.values()], page.locator("[role=alert]").all_inner_texts())
    )


def query(page):
    """The parts of the page's address."""
    return {name: urllib.parse.unquote(value) for name, value in (part.split("=") for part in page.url.split("?")[1].split("&"))}


@cache
def truth(address):
    """What `solve` says of what is chosen there: a first, coarse answer, from the programs that the page has compiled."""
    choices, _ = Choices.read(json.loads(address), {})
    (kind,) = choices.shown
    settings = config._settings(choices.settings({}, (kind,)))
    (part,) = config._parts(settings.dynamics)
    times, horizon = np.linspace(0.0, settings.run.horizon, 41), settings.run.horizon
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "_few", True)
        problem = carried(config._problem(settings.problem, None))
        return next(iter(refinements(problem, part.dynamics, horizon, 0.01, 7, times, "auto", lambda *_: None, lambda: None)))


def compare(page, panels):
    """The numbers on the page against `solve` for what its address says."""
    choices, drawn = vouched(page, panels)
    limit = truth(json.dumps(query(page))).dataset
    (curves,) = drawn.values()
    for curve, one in zip(CURVES[:2], curves[:2], strict=True):
        expected, se = limit[curve].values, limit[f"{curve}_se"].values
        np.testing.assert_allclose(one["time"], limit["time"].values)
        allowed = 4 * np.hypot(se, one["se"]) + 5e-3 * np.abs(expected).max()
        assert (np.abs(np.array(one["value"]) - expected) <= allowed).all(), (choices.model, curve)


def spent(process):
    return sum(map(seconds, family(process.pid)[0]))


@pytest.mark.journey
@pytest.mark.parametrize("width", WIDTHS)
def test_every_problem_in_turn_and_every_control(browser, process, tmp_path, width):
    page = visit(browser, f"{process.address}?model=softmax&show=online&d=100", width)
    person = Person(page)
    for name, preset in PRESETS.items():
        before, began = page.evaluate(PLOTTED), spent(process)
        person.at("CustomSelect model").select_option(label=preset.title)
        page.wait_for_function("name => location.search.includes(`model=${name}&`)", arg=name)
        choices = chosen(page)
        assert choices == Choices.of(name, {}, choices)
        k = preset.directions(choices.parameters)
        panels = min(2 + choices.trained + k * k + k * (k + 1) // 2, MOST_PANELS)
        _, drawn = vouched(page, panels)
        assert spent(process) - began <= SECONDS, name
        assert drawn["online SGD, theory"] != before["online SGD, theory"]
        person.look()
        compare(page, panels)
        unfit = ["saved, measured: of other numbers of directions than this problem, so not drawn here."] if k > 1 else []
        assert page.locator("[role=alert]").all_inner_texts() == unfit
        for one in preset.fields:
            person.field(one)
        for text, known in preset.texts.items():
            if known:
                person.moves(f"CustomSelect {text}", lambda one, known=known: one.select_option(label=known[1]), text)
            else:
                person.writes(f"TextInput {text}", text, "0.5, -1")
        vouched(page)
        use_what_is_trained_along(page, person, preset)
    use_views_of_two_directions(page, person)
    person.at("CustomSelect model").select_option(label=PRESETS["linear_regression"].title)
    person.until(lambda: "model=linear_regression" in page.url, "no linear regression")
    use_what_every_problem_has(page, person)
    use_downloads(page, person, tmp_path)
    use_views(page, person)
    use_tools(page, person)
    assert person.used == person.seen
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert page.problems == []
    page.close()


def use_what_is_trained_along(page, person, preset):
    for name, label in preset.switches.items():
        person.moves(f"CheckboxGroup {name} {label}", lambda one: one.click(), name)
    if not preset.along:
        return
    person.field(RATE)
    for is_so in (True, False):  # the next problem would have it as well
        person.moves(f"CheckboxGroup beside {BESIDE}", lambda one: one.click(), "beside")
        person.until(lambda is_so=is_so: ("online SGD, numbers fixed, theory" in vouched(page)[1]) == is_so, "fixed numbers beside")


def use_what_every_problem_has(page, person):
    for one in TRAINING:
        person.field(one)
    for kind, (title, fields) in [*OPTIMIZERS.items(), *[*OPTIMIZERS.items()][:1]]:
        person.at("CustomSelect optimizer").select_option(label=title)
        person.until(lambda kind=kind: f"optimizer={kind}&" in page.url, title)
        for one in fields:
            person.field(one)
    for kind, (title, fields) in [*AVERAGES.items(), *[*AVERAGES.items()][:1]]:
        person.at("CustomSelect average").select_option(label=title)
        person.until(lambda kind=kind: f"average={kind}&" in page.url, title)
        for one in fields:
            person.field(one)
        person.until(lambda kind=kind: ("online SGD, averaged, theory" in vouched(page)[1]) == (kind != "none"), f"no average: {title}")
    person.at("Card more").click()
    for one in START:
        person.field(one)
    legend = page.locator(".chip b")
    for kind, (title, _) in DYNAMICS.items():
        for _ in range(1 if kind == "flow" else 2):
            person.moves(f"CheckboxGroup show {title}", lambda one: one.click(), "show")
            is_so = kind in chosen(page).shown
            person.until(lambda title=title, is_so=is_so: (title in legend.all_inner_texts()) == is_so, title)
    for saved in ("saved", "measured"):
        for is_so in (False, True):
            person.at(f"CheckboxGroup saved {saved}").click()
            person.until(lambda saved=saved, is_so=is_so: (saved in legend.all_inner_texts()) == is_so, saved)
    person.slides("d")
    person.at("Button simulate").click()
    person.until(lambda: any("real runs" in name for name in vouched(page)[1]), "no real runs")


def use_downloads(page, person, folder):
    for name, start in (("TOML", b"# From the explorer"), ("NetCDF", b"PK"), ("PNG", b"\x89PNG")):
        with page.expect_download() as waiting:
            person.at(f"HTML {name}").click()
        waiting.value.save_as(folder / name)
        assert (folder / name).read_bytes().startswith(start)


OF = """column => Bokeh.documents.flatMap(document => [...document._all_models.values()])
    .filter(model => model.data && model.data[column] && model.data[column].length).map(model => model.tags[0])"""


def use_views(page, person):
    """Laws and kernels say which dynamics they are of, and it is the one that is chosen."""

    def drawn(column, kind):
        key = chosen(page).key(kind, {})
        person.until(lambda: (of := page.evaluate(OF, column)) and set(of) == {key}, f"no {column} of {kind}")

    person.moves("Tabs views Laws", lambda one: one.click(), "view")
    for kind in ("online", "flow"):
        person.at("CustomSelect law of").select_option(label=DYNAMICS[kind][0])
        drawn("fresh", kind)
    person.moves("Tabs views Two times", lambda one: one.click(), "view")
    drawn("image", "flow")
    person.moves("Tabs views Sweep", lambda one: one.click(), "view")
    title = page.evaluate(TITLE)
    person.at("CustomSelect quantity").select_option(label="overlap")
    person.until(lambda: page.evaluate(TITLE) not in (None, title), "no other quantity")
    for name in ("store", "part"):  # there is one of each
        one = person.at(f"CustomSelect {name}")
        one.select_option(label=one.locator("option").first.inner_text())
    person.at("CustomSelect quantity").select_option(label="test risk")
    person.until(lambda: page.evaluate(TITLE) == title, "not the first quantity again")
    page.locator('[data-control="Figure"]').first.scroll_into_view_if_needed()
    page.wait_for_function(PIXEL, arg=[4.0, 2.0])
    page.mouse.click(*page.evaluate(PIXEL, [4.0, 2.0]))
    page.wait_for_function(POINT)
    person.used |= {"Figure map"}
    person.moves("Tabs views Curves", lambda one: one.click(), "view")


TITLE = """() => Bokeh.documents.flatMap(d => [...d._all_models.values()])
    .find(m => m.type === "Figure" && m.title.text.includes("at the end"))?.title.text"""


def use_views_of_two_directions(page, person):
    person.at("CustomSelect model").select_option(label=PRESETS["committee"].title)
    person.until(lambda: "model=committee" in page.url, "no committee")
    person.moves("Tabs views Two times", lambda one: one.click(), "view")
    images = """() => JSON.stringify(Bokeh.documents.flatMap(document => [...document._all_models.values()])
        .filter(model => model.data && model.data.image && model.data.image.length).map(model => [...model.data.image[0]].slice(0, 99)))"""
    person.until(lambda: page.evaluate(images) != "[]", "no kernels")
    before = page.evaluate(images)
    person.at("CustomSelect direction").select_option(label="1, 2")
    person.until(lambda: page.evaluate(images) not in ("[]", before), "no other direction")
    person.moves("Tabs views Curves", lambda one: one.click(), "view")


def use_tools(page, person):
    """The tools of a picture are there while the pointer is over it."""
    person.at("Figure").hover()
    page.wait_for_selector(".bk-OnOffButton")
    for name in ("Pan", "Box Zoom", "Wheel Zoom"):
        one = person.at(f"Toolbar {name}")
        active = "active" in one.get_attribute("class")
        one.click()
        person.until(lambda one=one, active=active: ("active" in one.get_attribute("class")) != active, name)
    person.at("Toolbar Reset").click()
    with page.expect_download() as waiting:
        person.at("Toolbar Save").click()
    assert waiting.value.suggested_filename == "test-risk.png"


# --- faults -----------------------------------------------------------------------------------------------------------------------

FAULTS = {  # what is planted where, and what a person does to come there; `test_explore_faults` has all the others
    "page.Visit.moved": "move",
    "figures.Curves.show": "move",
    "controls.Controls._fill": "choose",
    "sweeps.SweepView.draw": "quantity",
}


@pytest.mark.journey
def test_a_fault_anywhere_is_told_in_words_and_takes_everything_away(browser, process):
    page = visit(browser, f"{process.address}?model=linear_regression&show=online&d=100&view=sweep")
    person = Person(page)
    acts = {
        "move": lambda: person.at("Slider ratio").press("ArrowRight"),
        "choose": lambda: person.at("CustomSelect model").select_option(index=int(chosen(page).model == "tanh_regression")),
        "quantity": lambda: person.at("CustomSelect quantity").select_option(label="overlap"),
    }
    for name, act in FAULTS.items():
        vouched(page)
        process.fault.write_text(name)
        acts[act]()
        page.wait_for_selector(f"[role=alert]:has-text('planted in {name}')")
        assert "what it showed is gone" in page.locator("[role=alert]").inner_text()
        person.until(lambda: page.evaluate(PLOTTED) == {}, f"curves are left after {name}")
        person.until(lambda: page.locator(".chip, .caption").count() == 0, f"a legend is left after {name}")
        answer = page.request.get(page.locator("a.button").nth(2).evaluate("link => link.href"))
        assert answer.status == 409
        process.fault.write_text("")
        acts["move"]()
        page.wait_for_selector(".chips[data-state=working], .chips[data-state=ready]")
        person.until(lambda: page.locator("[role=alert]").count() == 0, f"words about {name} are left")
    page.close()


@pytest.mark.journey
def test_a_fault_of_the_worker_or_of_a_file_takes_away_what_it_would_have_made(browser, process):
    page = visit(browser, f"{process.address}?model=linear_regression&show=online&ratio=1.3")
    person = Person(page)
    process.fault.write_text("worker._job downloads.Shown.some")
    assert page.evaluate(PLOTTED)
    person.at("HTML PNG").click()
    page.wait_for_selector("[role=alert]:has-text('No file could be made: RuntimeError')")
    person.at("Slider ratio").press("ArrowRight")
    page.wait_for_selector("text=The computation failed: RuntimeError: planted in worker._job")
    assert "online SGD, theory" not in page.evaluate(PLOTTED)
    assert page.locator(".chip.failed").inner_text().split() == ["online", "SGD", "not", "solved"]
    process.fault.write_text("")
    page.close()


@pytest.mark.journey
def test_what_is_no_problem_shows_no_curves_of_another(browser, process):
    page = visit(browser, f"{process.address}?model=committee&show=online")
    person = Person(page)
    vouched(page)
    weights, told = person.at("TextInput weights"), page.locator("[role=alert]:has-text('`weights` must be numbers')")
    for text, is_there in (("1, two", False), ("1, -0.5", True)):
        weights.fill(text)
        weights.press("Enter")
        person.until(lambda is_there=is_there: bool(page.evaluate(PLOTTED).get("online SGD, theory")) == is_there, text)
        person.until(lambda is_there=is_there: (told.count() == 0) == is_there, f"words about {text}")
        link = page.locator("a.button").first.evaluate("link => link.href")
        assert page.request.get(link).status == (200 if is_there else 409)
    page.close()


@pytest.mark.journey
def test_a_fault_in_the_browser_is_told_too(browser, server):
    page = visit(browser, f"{server}?model=linear_regression&show=online&ratio=1.3")
    results = page.locator("main .chips")
    assert results.is_visible()
    page.evaluate("() => setTimeout(() => { throw new Error('planted') })")
    page.wait_for_selector("main [role=alert]:has-text('Something failed in this browser')")
    assert not results.is_visible()
    page.close()


def test_what_no_page_has_caught_is_heard_of_all_the_same():
    import logging

    import panel as pn

    from sgdlimit.app import faults

    heard = []
    end = faults.catch_all(heard.append)
    try:
        for name in ("bokeh.server.protocol_handler", "tornado.application", "panel"):
            logger = logging.getLogger(name)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(logging, "lastResort", None)
                try:
                    raise RuntimeError(name)
                except RuntimeError as e:
                    logger.error("caught", exc_info=True)
                    caught = e
            assert heard.pop() is caught
        pn.state._handle_exception(caught)
        assert heard == [caught]
    finally:
        end()
    logging.getLogger("bokeh").error("nothing to tell", exc_info=False)
    assert heard == [caught]


@pytest.mark.journey
def test_a_server_that_is_gone_is_told(browser, process):
    """The last test here: it ends the server."""
    page = visit(browser, f"{process.address}?model=linear_regression&show=online")
    process.send_signal(signal.SIGINT)
    page.wait_for_selector("main [role=alert]:has-text('The connection to the explorer is lost')")
    assert not page.locator("main .chips").is_visible()
    page.close()
