"""The explorer's page without a browser: curves beside those of a dynamics, with fixed numbers or averaged."""

import io
import zipfile

import pytest
from bokeh.document import Document
from panel.io.state import set_curdoc

from fakes import theory
from sgdlimit.app.choices import AVERAGED, FIXED
from sgdlimit.app.downloads import FILES
from sgdlimit.app.figures import DASH_OF
from sgdlimit.app.page import Visit
from sgdlimit.app.serve import files
from sgdlimit.app.site import Site
from sgdlimit.errors import InputError
from sgdlimit.results import Solution
from sgdlimit.settings import config

# Their new names are not known to the oldest Panel that is allowed.
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")


class Desk:
    """Answers at once, with made-up curves of as many numbers trained along as the settings have: slower ones where they are held fixed."""

    full = False

    def ask(self, order, hear):
        if self.full:
            raise InputError("`the page` must wait")
        read = config._settings(order["settings"])
        trained = config._problem(read.problem, None).trained
        speed = (1.0 if trained is None else 0.1 + trained.rate[0]) / (2.0 if read.simulation.average else 1.0)
        made = theory(dynamics="SGD(step=1.5)", speed=speed, trained=0 if trained is None else len(trained))
        made.dataset.attrs |= {"of": order["key"]}
        hear("answer", Solution(made.dataset, made.status, {"error": 0.01}))

    def drop(self, ticket):
        pass


@pytest.fixture
def visit(tmp_path):
    """Probit regression with two saved results, one with a number trained along."""
    theory().save(tmp_path / "plain.nc")
    theory(trained=1).save(tmp_path / "along.nc")
    _, results, _ = files([tmp_path / "plain.nc", tmp_path / "along.nc"])
    with set_curdoc(Document()):
        yield Visit(Site(Desk(), results=results), {"model": "probit", "show": "sgd,online"})


def switch(visit, name, on):
    widget = visit.controls.fields[name]
    widget.value = widget.options if on else []
    assert visit.broken == ""


def pictures(visit):
    return [panel.text for panel in visit.views.curves.panels]


def length(visit, kind):
    """Of what is drawn of this kind in each picture."""
    return [len(source.data["time"]) for source, _ in visit.views.curves.theory[kind]]


def test_fixed_curves_stand_beside_those_trained_along_in_the_same_colour(visit):
    plain = pictures(visit)
    assert "trained a" not in plain
    switch(visit, "intercept", True)
    assert sorted(pictures(visit)) == sorted(["trained a", *plain])
    assert set(visit.views.curves.of(theory=True)) >= {"sgd", "online"}
    switch(visit, "beside", True)
    curves, chosen = visit.views.curves, visit.choices
    drawn = {kind: of for kind, of in curves.of(theory=True).items() if "saved" not in kind}
    assert drawn == {kind: chosen.key(kind, {}) for kind in ("sgd", "online", "fixed sgd", "fixed online")}
    for kind in ("sgd", "online"):
        for (_, (line, band)), (_, (other, behind)) in zip(curves.theory[kind], curves.theory[f"fixed {kind}"], strict=True):
            assert (other.glyph.line_color, behind.glyph.fill_color) == (line.glyph.line_color, band.glyph.fill_color)
            assert other.glyph.line_dash == DASH_OF[FIXED] != line.glyph.line_dash
    ends = [curves.theory[kind][0][0].data["value"][-1] for kind in ("sgd", "fixed sgd")]
    assert ends[0] < ends[1]
    assert visit.views.chips.object.count("numbers fixed ±1.0%") == 2
    switch(visit, "beside", False)
    assert not any(kind.startswith("fixed") for kind in visit.views.curves.of(theory=True))
    assert "numbers fixed" not in visit.views.chips.object
    switch(visit, "beside", True)
    switch(visit, "intercept", False)  # then there is nothing to hold fixed
    assert pictures(visit) == plain
    assert set(visit.theory) == {"sgd", "online"}


def test_averages_stand_beside_the_last_weights_and_fail_with_them(visit):
    visit.controls.average.value = "tail"
    assert visit.broken == ""
    curves, chosen = visit.views.curves, visit.choices
    kinds = ("sgd", "online", "averaged sgd", "averaged online")
    assert {kind: of for kind, of in curves.of(theory=True).items() if "saved" not in kind} == {
        kind: chosen.key(kind, {}) for kind in kinds
    }
    line, other = (curves.theory[kind][0] for kind in ("sgd", "averaged sgd"))
    assert other[1][0].glyph.line_color == line[1][0].glyph.line_color
    assert other[1][0].glyph.line_dash == DASH_OF[AVERAGED]
    assert other[0].data["value"][-1] > line[0].data["value"][-1]
    assert visit.views.chips.object.count("averaged ±1.0%") == 2
    assert "theory-sgd-averaged.nc" in zipfile.ZipFile(io.BytesIO(FILES["curves.zip"][0](visit.shown()))).namelist()
    visit.controls.fields["step"].value = 0.005  # SGD with replacement is too much now
    assert [visit.theory[kind].state for kind in kinds] == ["failed", "done"] * 2
    assert set(visit.views.curves.of(theory=True)) & set(kinds) == {"online", "averaged online"}
    visit.site.desk.full = True
    visit.controls.fields["ratio"].value = 2.5
    assert {visit.theory[kind].state for kind in kinds} == {"failed"}
    visit.site.desk.full = False
    visit.controls.average.value = "none"
    assert set(visit.theory) == {"sgd", "online"}
    assert set(visit.views.curves.of(theory=True)) & set(kinds) == {"online"}


def test_saved_results_are_drawn_where_they_have_curves(visit):
    by_name = {name.rsplit("/", 1)[-1]: f"saved {name}" for name in visit.views.saved}
    switch(visit, "intercept", True)
    where = pictures(visit).index("trained a")
    for name, there in (("plain", False), ("along", True)):
        drawn = length(visit, by_name[name])
        assert drawn.pop(where) == (21 if there else 0)
        assert set(drawn) == {21}
    assert visit.views.words.object == ""
    switch(visit, "intercept", False)
    assert all(set(length(visit, kind)) == {21} for kind in by_name.values())
    assert visit.views.words.object == ""


def test_each_file_of_the_archive_has_its_own_settings(visit, tmp_path):
    switch(visit, "intercept", True)
    switch(visit, "beside", True)
    archive = zipfile.ZipFile(io.BytesIO(FILES["curves.zip"][0](visit.shown())))
    assert {"theory-sgd.nc", "theory-sgd-numbers-fixed.nc"} <= set(archive.namelist())
    archive.extractall(tmp_path)
    opened, _, _ = files([tmp_path / "theory-sgd.nc", tmp_path / "theory-sgd-numbers-fixed.nc"])
    assert sorted(one.raw["problem"]["trained"]["rate"] for one in opened.values()) == [0.0, 1.0]
    assert FILES["curves.png"][0](visit.shown()).startswith(b"\x89PNG")
