"""The explorer's page without a browser: whatever function of it raises, it says so, shows nothing, and begins anew."""

import importlib
import inspect
import itertools

import pytest
from bokeh.document import Document
from bokeh.models import Div
from panel.io.state import set_curdoc

from fakes import theory
from faulty_explorer import PAGE
from marks import cases
from sgdlimit.app.page import Visit
from sgdlimit.app.site import Site
from sgdlimit.errors import InputError
from sgdlimit.results import Solution

# Their new names are not known to the oldest Panel that is allowed.
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")


class Desk:
    """Answers at once, with made-up curves that say what they are of."""

    def ask(self, order, hear):
        made = theory(dynamics="SGD(step=1.5)")
        made.dataset.attrs |= {"of": order.get("of", order["key"]), "repeats": 8}
        hear("answer", Solution(made.dataset, made.status, {"error": 0.01}))

    def drop(self, ticket):
        pass


class Faults:
    """All functions of the page, which tell that they were called, and raise where they are named."""

    def __init__(self, patch):
        self.called, self.named = set(), ""
        for module in (importlib.import_module(f"sgdlimit.app.{name}") for name in PAGE):
            classes = [one for one in vars(module).values() if inspect.isclass(one) and one.__module__ == module.__name__]
            for owner in (module, *classes):
                for name, one in list(vars(owner).items()):
                    if inspect.isfunction(one) and one.__module__ == module.__name__ and not name.startswith("__"):
                        patch.setattr(owner, name, self.wrapped(one, f"{module.__name__.rpartition('.')[2]}.{one.__qualname__}"))

    def wrapped(self, function, name):
        def maybe(*arguments, **options):
            self.called.add(name)
            if name == self.named:
                raise RuntimeError(f"planted in {name}")
            return function(*arguments, **options)

        return maybe


def press(visit):
    visit.controls.simulate.clicks += 1


def turn(visit):
    visit.views.tabs.active = 2 - visit.views.tabs.active


def move(visit):
    slider = visit.controls.fields["ratio"]
    slider.value = 2.5 if slider.value != 2.5 else 3.5


def choose(visit):
    visit.controls.model.value = "probit" if visit.controls.model.value != "probit" else "linear_regression"


def box(visit):
    boxes = [["online"], ["flow", "online"], ["online", "sgd"]]  # in turn: new pictures for a line that there was no room for, or none
    visit.controls.shown.value = boxes[(boxes.index(sorted(visit.controls.shown.value)) + 1) % 3]


ACTS = (move, choose, box, press, turn)
# A fault in what tells of a fault leaves the words; what is only asked of a page, by a download, is no part of a turn.
TELLING = {"page.Visit.fault", "page.Visit.shown", "turns.Turns.turn", "views.Views.fail", "site.Site.fault"}


def everything_shown(visit):
    return [part for part in (visit.views.plots, visit.views.law_plots, visit.views.two_time_plots) if part.objects]


@pytest.mark.parametrize("act", cases(ACTS, evidence=[choose, box, move]), ids=lambda act: act.__name__)
def test_whatever_raises_is_told_and_takes_everything_away(act):
    document = Document()
    with pytest.MonkeyPatch.context() as patch, set_curdoc(document):
        faults = Faults(patch)
        visit = Visit(Site(Desk()), {"model": "linear_regression", "show": "online"})
        assert visit.views.curves.of(theory=True) == {"online": visit.choices.key("online", {})}
        faults.called.clear()
        act(visit)
        assert visit.broken == ""
        places = sorted(faults.called - TELLING)
        assert len(places) > 5, places
        for place in places:
            faults.named = place
            for _ in itertools.takewhile(lambda _, visit=visit: not visit.broken, range(3)):
                act(visit)
            faults.named = ""
            assert f"planted in {place}" in visit.broken, place
            told = " ".join(part.object for part in visit.views.view.objects if isinstance(getattr(part, "object", None), str))
            assert f"planted in {place}" in told
            assert "class='chip " not in told
            assert not everything_shown(visit) or visit.views.view.objects[0].object == told, place
            with pytest.raises(InputError, match="has told of a mistake"):
                visit.shown()
            if len(visit.views.view.objects) == 1:  # told by the last resort: the page must be loaded again
                visit = Visit(visit.site, {"model": "linear_regression", "show": "online"})
            move(visit)
            assert visit.broken == "", place
            assert set(visit.views.curves.of(theory=True).values()) == {visit.choices.key(kind, {}) for kind in visit.choices.shown}
            document.add_root(part := Div())  # no change is left half made, which would keep new parts from the browser
            assert part.id in document.models, place
            document.remove_root(part)
