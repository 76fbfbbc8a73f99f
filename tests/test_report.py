"""The page is whole in itself, shows what it was given and escapes what a user wrote."""

import re
from html.parser import HTMLParser

import pytest
from bokeh.models import SaveTool

import sgdlimit as sl
from fakes import runs, theory
from sgdlimit.results import report
from sgdlimit.show import interactive
from sgdlimit.show.words import flat, spoken


class Loads(HTMLParser):
    """Everything the page would fetch."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href", "data", "action") and value]


def entry(name, k=1):
    limit, real = theory(k=k, k_star=k), runs(k=k, k_star=k)
    return report.Entry(name, limit, real, sl.compare(limit, real))


def test_the_page_needs_no_network_and_holds_everything():
    text = report.page("A title", [entry("SGD"), report.Entry("theory only", theory())], {"run": {"horizon": 4.0}}, "footer words")
    loads = Loads()
    loads.feed(text)
    assert loads.found == []
    assert not re.search(r"@import|url\(\s*['\"]?http", text.split("<script")[0])
    for words in (
        "A title",
        "Theory and simulation agree",
        "run.horizon",
        "SGD, real runs",
        "theory only, theory",
        "footer words",
        "0.50 se",
    ):
        assert words in text or words == "0.50 se"
    assert text.count('data-root-id="') == 5  # the legend and four panels


def test_what_a_user_wrote_is_escaped():
    text = report.page("<script>alert(1)</script>", [entry("<b>SGD</b>")], {"problem": {"model": "<img src=x>"}})
    assert "<script>alert(1)" not in text
    assert "<img src=x>" not in text
    assert "<td><b>SGD" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_several_directions(tmp_path):
    report.write(tmp_path / "report.html", "Committee", [entry("SGD", k=2)], {})
    text = (tmp_path / "report.html").read_text()
    assert text.count('data-root-id="') == 10
    assert "self_overlap[0,1]" in text
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("x", "y", "options", "name"),
    [
        ("time t", "test risk", {}, "test-risk"),
        ("time t", "self-overlap 1, 2", {"title": " "}, "self-overlap-1-2"),
        ("time t", "time s", {"title": "correlation C(t, s)"}, "correlation-C-t-s"),
        ("", "", {}, "picture"),
    ],
)
def test_a_picture_on_a_page_is_saved_under_its_own_name(x, y, options, name):
    """Without one, Bokeh's tool asks for it in a dialog of the browser."""
    (tool,) = interactive.frame(x, y, 300, **options).select(type=SaveTool)
    assert tool.filename == name


def test_numbers_show_as_many_digits_as_their_error_is_worth():
    assert spoken(0.23721, 0.0011) == "0.2372 ± 0.0011"
    assert spoken(0.23721, 0.0011, brief=True) == "0.2372(11)"
    assert spoken(1.0, 0.0) == "1"
    assert spoken(123.4, 25.0, brief=True) == "123 ± 25"


def test_settings_are_flat():
    assert flat({"a": {"b": 1, "c": None}, "d": [{"e": 2.5}], "f": [1, 2]}) == [("a.b", "1"), ("d[0].e", "2.5"), ("f", "[1, 2]")]
