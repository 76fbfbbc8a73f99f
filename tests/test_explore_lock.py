"""The explorer's page in a session of Bokeh's server, without a browser: what is drawn changes only under the document's lock."""

import asyncio
import threading
from typing import Any

import pytest
from bokeh.core.types import ID
from bokeh.document import Document, without_document_lock
from bokeh.protocol import Protocol
from bokeh.server.contexts import ApplicationContext
from panel.io.application import build_applications
from panel.io.state import set_curdoc
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.ioloop import IOLoop

from sgdlimit.app.serve import _page
from sgdlimit.app.site import Site
from sgdlimit.app.turns import Turns
from test_explore_faults import Desk, box, choose, move, press

# Their new names are not known to the oldest Panel that is allowed.
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")


class Browser:
    """Says what a browser says, and hears nothing."""

    protocol, _socket = Protocol(), None

    def __init__(self, session):
        self.session = session
        session.subscribe(self)

    async def send_patch_document(self, event):
        pass

    async def says(self, *events):
        """In one message."""
        await self.session.with_document_locked(self.session.document.apply_json_patch, {"events": list(events)}, setter=self.session)


async def until(is_so, visit):
    for _ in range(400):
        if is_so() or visit.broken:
            break
        await asyncio.sleep(0.05)
    assert visit.broken == ""
    assert is_so()


def change(model, attribute, value):
    return {"kind": "ModelChanged", "model": model.ref, "attr": attribute, "new": value}


def event(name, **values):
    said = {"type": "event", "name": name, "values": {"type": "map", "entries": list(values.items())}}
    return {"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": said}


def in_a_browser(address, what):
    """Let `what(visit, browser)` happen to the page of this address, which a browser has loaded."""
    site = Site(Desk())

    async def all_of_it():
        (application,) = build_applications(lambda: _page(site)).values()
        context = ApplicationContext(application, io_loop=IOLoop.current(), url="/")
        request = HTTPServerRequest(start_line=RequestStartLine("GET", address, "HTTP/1.1"), headers=HTTPHeaders(Host="localhost"))
        session: Any = await context.create_session_if_needed(ID("session"), request)
        browser = Browser(session)
        await browser.says(event("document_ready"))
        (visit,) = site.visits.values()
        await until(lambda: visit.loaded, visit)
        await what(visit, browser)
        session.unsubscribe(browser)
        session.destroy()

    asyncio.run(all_of_it())


def curves(visit):
    return visit.views.curves.of(theory=True)


def test_a_text_that_is_no_problem_takes_the_curves_away_when_enter_is_pressed():
    """Panel takes an event that comes while it waits for more changes without the lock."""

    async def enter(visit, browser):
        assert set(curves(visit)) == {"online"}
        (model,) = (model for model in browser.session.document.models if "weights" in model.tags)
        for text, drawn in (("1, two", set()), ("1, -0.5", {"online"})):
            await browser.says(change(model, "value", text), event("enter-pressed", model=model.ref, value_input=text))
            await until(lambda drawn=drawn: set(curves(visit)) == drawn, visit)
            assert visit.refused.startswith("" if drawn else "`weights` must be numbers")
            assert bool(visit.refused) != bool(drawn)

    in_a_browser("/?model=committee&show=online", enter)


@pytest.mark.parametrize("act", [move, choose, box, press], ids=lambda act: act.__name__)
def test_whatever_is_chosen_without_the_lock_is_drawn_under_it(act):
    async def acts(visit, browser):
        acted = []
        for times in range(1, 4):
            browser.session.document.add_next_tick_callback(without_document_lock(lambda: acted.append(act(visit))))
            await until(lambda times=times: len(acted) == times and visit.controls.read(visit.choices) == visit.choices, visit)
            await until(lambda: curves(visit) == {kind: visit.choices.key(kind, {}) for kind in visit.choices.shown}, visit)

    in_a_browser("/?model=linear_regression&show=online", acts)


def test_answers_are_heard_in_the_order_in_which_they_came(monkeypatch):
    """Bokeh calls back in another one when the machine is busy: a first answer was drawn over the last, and stayed."""
    document, callbacks, faults, heard = Document(), [], [], []
    monkeypatch.setattr(document, "add_next_tick_callback", callbacks.append)
    with set_curdoc(document):
        turns = Turns(lambda: None, faults.append, lambda: True)
    turns.made()
    hear = turns.turn(heard.append)
    desk = threading.Thread(target=lambda: [hear(what) for what in ("coarse", "sharper", "answer")])
    desk.start()
    desk.join()
    for callback in reversed(callbacks):
        callback()
    assert (heard, faults) == (["coarse", "sharper", "answer"], [])
