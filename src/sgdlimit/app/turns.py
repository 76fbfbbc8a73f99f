"""Turns of one page: its callbacks, each under the lock of the page's document.

Bokeh takes changes of what is drawn only under that lock, and Panel calls back with it or without: an event that comes while it waits for
more changes, like Enter after a text, is without. So a turn that has no lock is put off until it has one, whoever calls.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import panel as pn
from panel.io.state import set_curdoc

from . import faults


class Turns:
    """Of the page that is made now, in this thread.

    Arguments:
        settle: what every turn ends with.
        fault: told of an exception in one.
        is_there: whether the visitor still is.
    """

    def __init__(self, settle: Callable[[], None], fault: Callable[[BaseException], None], is_there: Callable[[], bool]):
        self.settle, self.fault, self.is_there = settle, fault, is_there
        self.doc: Any = pn.state.curdoc
        self.waiting: deque[Callable[[], None]] = deque()
        self.thread = threading.get_ident()
        self.locked: int | None = self.thread  # the thread that has the lock; nobody needs one while the page is made

    def made(self) -> None:
        """The page is: from now on its document has a session, which needs the lock."""
        self.locked = None

    def turn(self, what: Callable) -> Callable:
        """`what` as a turn, now or as soon as there is the lock. It may be called from any thread."""

        def whole(*arguments: Any) -> None:
            here = threading.get_ident()
            if here == self.locked or (here == self.thread and self.doc.session_context is None):
                what(*arguments)
                self.settle()
            else:
                self.soon(turned, *arguments)

        turned = faults.guarded(functools.wraps(what)(whole), self.fault)
        return turned

    def soon(self, what: Callable[..., None], *arguments: Any) -> None:
        """Under the lock, when what is done now is done, in the order in which it was asked for: Bokeh may call back in another one, and a
        first answer drawn after the last would stay. It may be called from any thread."""

        def whole() -> None:
            next_one = self.waiting.popleft()  # not always this one
            self.locked = threading.get_ident()
            try:
                with set_curdoc(self.doc):
                    next_one()
            finally:
                self.locked = None

        if self.is_there():
            self.waiting.append(functools.partial(what, *arguments))
            with suppress(RuntimeError):  # the visitor is gone in this moment
                self.doc.add_next_tick_callback(faults.guarded(whole, self.fault))
