"""What notebooks show, and `.plot()`: the numbers are the results', what users wrote is escaped, nothing is fetched, axes come back."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

import sgdlimit as sl
from fakes import runs, theory
from sgdlimit import plot
from sgdlimit.recommend import drawing
from sgdlimit.results import Status
from sgdlimit.results.compare import Comparison, Row
from sgdlimit.results.laws import LawComparison, LawRow
from sgdlimit.show import html as notebook
from sgdlimit.show import looks

LAWS = LawComparison(
    False, "The laws DISAGREE.", (LawRow("theta", 1.0, 0.2, 0.1, 0.3, False), LawRow("r", 1.0, 0.05, 0.1, 0.1, True)), 0.01, 9
)


class Page(HTMLParser):
    """Tags that are opened and closed, attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.loads, self.text = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action") and not value.startswith("#")]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def shown(value):
    html = value._repr_html_()
    page = Page(html)
    assert not page.open
    assert not page.loads
    assert not {"script", "style", "link", "img", "iframe"} & set(page.tags)  # a notebook's page stays as it is
    assert len(html) < 100_000
    return html, page


def svg(html):
    return ElementTree.fromstring(re.search(r"<svg.*</svg>", html, re.S)[0])


@pytest.mark.parametrize("result", [theory(), runs()], ids=["theory", "runs"])
def test_results_show_curves_status_and_settings(result):
    before = dict(mpl.rcParams)
    html, page = shown(result)
    assert dict(mpl.rcParams) == before
    assert "SGD(step=1.5)" in page.text
    assert page.text.index("done") < page.text.index("Settings and diagnostics")
    assert "n_features" in page.text if isinstance(result, sl.Simulation) else "diagnostics.seconds" in page.text
    picture = svg(html)
    last = float(result.dataset.test_risk[-1])
    assert f"test risk {last:.4f} ±" in picture.get("aria-label")
    # Ink is the page's, and there is no paper.
    assert "currentColor" in html
    assert notebook.INK not in html
    assert isinstance(result, sl.Simulation) or "#ffffff" not in html  # runs have points filled with white


def test_the_drawn_line_is_the_curve():
    """Read back from the picture: heights of the first line against the curve's values."""
    limit = theory()
    picture = svg(limit._repr_html_())
    lines = [one for one in picture.iter() if looks.COLOURS[0].lower() in (one.get("style") or "") and "fill: none" in one.get("style")]
    numbers = np.array(re.findall(r"-?\d+\.?\d*", lines[0].get("d")), dtype=float).reshape(-1, 2)
    x, y = numbers.T
    value = limit.dataset.test_risk.values
    # Matplotlib drops points on straight pieces, so the times are read from x.
    times = np.interp(x, [x[0], x[-1]], limit.dataset.time.values[[0, -1]])
    slope, start = np.polyfit(y, np.interp(times, limit.dataset.time.values, value), 1)
    assert slope < 0
    np.testing.assert_allclose(start + slope * y, np.interp(times, limit.dataset.time.values, value), atol=0.003)


def test_many_directions_show_some_and_say_so():
    html, page = shown(theory(k=3, k_star=3))
    assert "11 more curves are in .dataset" in page.text
    assert len(html) < 80_000


def test_what_users_wrote_is_escaped():
    evil = "<img src=x onerror=alert(1)>"
    html, _ = shown(theory(dynamics=evil, status=Status("diverged", f"diverged {evil}")))
    assert evil not in html
    assert html.count("&lt;img src=x") >= 2
    html, _ = shown(Comparison(False, evil, (Row(evil, 1, 1, 1, 0.1, 1, False),), 1, 0.01, 0.01))
    assert evil not in html


def test_what_went_wrong_does_not_look_like_what_went_well():
    assert notebook.GOOD in shown(theory())[0]
    for bad in (theory(status=Status("inaccurate", "rtol = 0.01 was not met")), theory(status=Status("diverged", "diverged at t = 1"))):
        html, page = shown(bad)
        assert notebook.BAD in html
        assert notebook.GOOD not in html
        assert bad.status.message in page.text


def test_curves_that_end_early_or_are_not_numbers_are_shown():
    limit = theory()
    limit.dataset["test_risk"][5:] = np.nan
    shown(limit)
    shown(theory(times=(0.0,)))


def test_comparisons_show_their_verdict_and_table():
    limit, real = theory(k=2, k_star=2), runs(k=2, k_star=2, bias=0.2)
    found = sl.compare(limit, real)
    html, page = shown(found)
    assert found.verdict in page.text
    assert page.tags.count("tr") == 1 + len(found.table)
    assert f"{found.table[-1].relative:.2%}" in page.text
    assert notebook.BAD in html
    html, page = shown(LAWS)
    assert "0.2000" in page.text
    assert page.text.count("NO") == 1


def test_without_matplotlib_the_words_remain():
    code = """
import sys
sys.path.insert(0, "tests")
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "matplotlib" else find(name, *rest)
from fakes import theory
html = theory()._repr_html_()
assert "Settings and diagnostics" in html and "<svg" not in html
assert not any(name.startswith("matplotlib") for name in sys.modules)
"""
    root = __file__.rpartition("/tests/")[0]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


# --- plot ------------------------------------------------------------------------------------------------------------------


def axis():
    return Figure().subplots()


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_risks_are_drawn_if_nothing_is_named():
    limit, ax = theory(), axis()
    assert limit.plot(ax=ax) is ax
    assert labels(ax) == ["test risk, SGD(step=1.5)", "train risk, SGD(step=1.5)"]
    for line, name in zip(ax.lines, ("test_risk", "train_risk"), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), limit.dataset[name])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time $t$", "risk")
    band = ax.collections[1].get_paths()[0].vertices
    np.testing.assert_allclose(band[:, 1].max(), (limit.dataset.train_risk + 2 * limit.dataset.train_risk_se).max())


def test_real_runs_get_the_colours_of_their_theory_and_others_their_own():
    ax = axis()
    theory().plot(ax=ax)
    runs().plot(ax=ax)
    theory(dynamics="GradientFlow()", speed=2.0).plot("test_risk", ax=ax)
    of = {line.get_label(): line.get_color() for line in ax.lines} | {bars.get_label(): bars.lines[0].get_color() for bars in ax.containers}
    assert of["test risk, SGD(step=1.5)"] == of["test risk, SGD(step=1.5), real runs"] == looks.COLOURS[0]
    assert of["train risk, SGD(step=1.5)"] == of["train risk, SGD(step=1.5), real runs"] == looks.COLOURS[1]
    assert of["test risk, GradientFlow()"] == looks.COLOURS[2]
    other = axis()
    theory(dynamics="GradientFlow()").plot(ax=other)
    assert other.lines[0].get_color() == looks.COLOURS[0]  # other axes begin anew


def test_every_entry_of_a_matrix_once():
    ax = theory(k=2, k_star=2).plot("self_overlap", "overlap", ax=axis(), label="SGD")
    assert labels(ax) == [
        "self overlap 1,1, SGD", "self overlap 1,2, SGD", "self overlap 2,2, SGD",
        "overlap 1,1, SGD", "overlap 1,2, SGD", "overlap 2,1, SGD", "overlap 2,2, SGD",
    ]  # fmt: skip
    assert labels(theory().plot("test_risk", ax=axis(), label="mine")) == ["mine"]


def test_new_axes_are_of_pyplot():
    from matplotlib import pyplot

    mpl.use("Agg")
    ax = theory().plot()
    try:
        assert pyplot.gcf() is ax.figure
    finally:
        pyplot.close(ax.figure)


@pytest.mark.parametrize(
    ("names", "ax", "words"),
    [
        (("test_rsk",), None, "`curves` must be in `result.dataset` with a standard error, but is 'test_rsk' (did you mean `test_risk`?)"),
        (("correlation",), None, "`curves` must be curves over one time, but is 'correlation' (sl.plot.two_time"),
        ((), "axes", "`ax` must be Matplotlib axes, but is 'axes'"),
    ],
)
def test_mistakes_get_words(names, ax, words):
    with pytest.raises(sl.InputError, match=re.escape(words)):
        theory().plot(*names, ax=ax)


def test_comparisons_are_bars_against_what_chance_explains():
    found = sl.compare(theory(), runs(bias=0.2))
    ax = found.plot(axis())
    bars = {text.get_text(): patch.get_width() for text, patch in zip(ax.get_yticklabels(), ax.patches, strict=True)}
    for row in found.table:
        assert bars[f"{row.observable.replace('_', ' ')}, t = {row.time:.3g}"] == pytest.approx(row.excess)
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [row.allowed for row in found.table])
    assert "does not agree" in labels(ax)
    endless = Comparison(False, "", (Row("overlap", np.inf, np.inf, 0.0, 0.5, 0.0, False),), 1, 0.01, 0.01).plot(axis())
    assert np.isfinite(endless.get_xlim()).all()


def test_laws_are_bars_too():
    ax = LAWS.plot(axis())
    assert sorted(patch.get_width() for patch in ax.patches) == [0.05, 0.2]
    assert set(labels(ax)) == {"agrees", "does not agree", "chance explains"}


def recommendation(measured=False):
    """As much of a `Recommendation` as is drawn."""
    epochs = np.arange(6)
    expected = {"epoch": epochs} | {name + end: 1.0 / (1 + epochs) + shift + i for i, name in enumerate(("test", "train"))
                                    for end, shift in (("", 0.0), ("_low", -0.1), ("_high", 0.1))}  # fmt: skip
    trained = SimpleNamespace(test=np.full((2, 6), 0.5), train=np.full((2, 6), 0.25))
    return SimpleNamespace(expected=expected, verification=SimpleNamespace(trained=trained) if measured else None, scale=2.0,
                           advice=SimpleNamespace(epochs=3), loss="squared")  # fmt: skip


def test_recommendations_are_expected_and_measured_risks():
    ax = drawing.curves(recommendation(), axis())
    assert labels(ax) == ["test risk, expected", "train risk, expected", "stop after 3"]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), recommendation().expected["train"])
    ax = drawing.curves(recommendation(measured=True), axis())
    points = next(line for line in ax.lines if line.get_label() == "test risk, measured")
    assert set(points.get_ydata()) == {1.0}  # scaled to the label's units


def test_figures_show_themselves_in_notebooks():
    assert plot.curves({"SGD": (theory(), None)})._repr_png_().startswith(b"\x89PNG")
