"""Where exceptions on a page end: in words on it, never in a log alone.

The page's own callbacks are wrapped (`guarded`). What is not, however it came to be there, reaches one of two nets: Panel's handler of
exceptions in events, and the loggers to which Bokeh, Panel and Tornado give what they catch.
"""

from __future__ import annotations

import functools
import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bokeh.core.serialization import UnknownReferenceError

LOGGERS = ("bokeh", "panel", "tornado")
MESSAGES = "bokeh.server.protocol_handler"  # logs what a browser says and nobody can take


def where(e: BaseException) -> str:
    """An exception in a few words, with the place it comes from."""
    first = (str(e).strip().splitlines() or [""])[0][:200]
    frames = traceback.extract_tb(e.__traceback__)
    at = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(e).__name__}{at}{': ' if first else ''}{first}"


def words(e: BaseException) -> str:
    """What happened, for whoever looks at the page."""
    return (
        f"The explorer made a mistake, and what it showed is gone because it could be wrong. Choose again, or load the page again."
        f" ({where(e)})"
    )


def guarded(what: Callable, fault: Callable[[Exception], None]) -> Callable:
    """`what`, whose exceptions are told to `fault`."""

    @functools.wraps(what)
    def turn(*arguments: Any) -> Any:
        try:
            return what(*arguments)
        except Exception as e:
            fault(e)
            return None

    return turn


class Net(logging.Handler):
    """Hears of exceptions that a library has caught and logged."""

    def __init__(self, fault: Callable[[BaseException], None]):
        super().__init__(logging.ERROR)
        self.fault = fault

    def emit(self, record: logging.LogRecord) -> None:
        e = record.exc_info[1] if record.exc_info else None
        if e is not None:
            self.fault(e)


def of_what_is_there(record: logging.LogRecord) -> bool:
    """A browser may still tell of a picture that was taken off the page at the same moment: then there is nothing to do, or to log."""
    return not (record.exc_info and isinstance(record.exc_info[1], UnknownReferenceError))


def catch_all(fault: Callable[[BaseException], None]) -> Callable[[], None]:
    """Let everything that no page has caught itself be told to `fault`; returns what ends that."""
    import panel as pn

    net = Net(fault)
    for name in LOGGERS:
        logging.getLogger(name).addHandler(net)
    logging.getLogger(MESSAGES).addFilter(of_what_is_there)
    before, pn.config.exception_handler = pn.config.exception_handler, fault

    def end() -> None:
        pn.config.exception_handler = before
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(net)
        logging.getLogger(MESSAGES).removeFilter(of_what_is_there)

    return end
