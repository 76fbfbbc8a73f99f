"""Between the web server and the process that computes: hands jobs over, brings answers back, and replaces the process if it dies."""

from __future__ import annotations

import itertools
import multiprocessing
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError, SolveError

Hear = Callable[[str, Any], None]  # ("progress" | "coarse" | "answer" | "failed", value)

THEORY = ("theory", "average")  # jobs whose answers are the same for all visitors
MOST = 60  # jobs of all visitors at a time
PATIENCE = 30.0  # seconds in which a cancelled job must end, or the process is replaced
REMEMBERED = 100  # final answers, of which each is some tens of kilobytes
STARTS = 2  # how often a process may die before it is ready
LIVES = 2  # how often a job is tried when the process dies
LOST = "The computing process ended without an answer, probably out of memory (fewer features or a shorter horizon need less)."


@dataclass
class Asked:
    """A job that is out, who hears of it (by ticket), the last coarse answer, and since when nobody wants it any more."""

    order: dict[str, Any]
    hears: dict[int, Hear]
    coarse: Any = None
    tries: int = 1
    dropped: float | None = None


@dataclass
class Desk:
    """One process, and what it has been asked. Safe to call from any thread; `hear` is called from the desk's own, or at once."""

    asked: dict[int, Asked] = field(default_factory=dict)
    answers: OrderedDict[str, Any] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.lock, self.numbers, self.closed = threading.RLock(), itertools.count(1), False
        self.jobs: dict[int, int] = {}  # by ticket
        self.starts = 0
        self._start()
        threading.Thread(target=self._watch, daemon=True).start()

    # --- for a page ----------------------------------------------------------------------------------------------------------

    def ask(self, order: dict[str, Any], hear: Hear) -> int | None:
        """Ask for a job, `{"kind": ..., "key": ..., "settings": ...}`; returns a ticket to `drop` it with. Theory that another visitor
        waits for is not computed twice, and None is returned where the answer was known and has been told.

        Raises:
            InputError: too much is asked already.
            SolveError: there is no process to compute any more.
        """
        with self.lock:
            theory = order["kind"] in THEORY
            if theory and order["key"] in self.answers:
                self.answers.move_to_end(order["key"])
                hear("answer", self.answers[order["key"]])
                return None
            if self.starts >= STARTS:
                raise SolveError(LOST)
            ticket = next(self.numbers)
            for number, job in self.asked.items():
                if theory and job.dropped is None and (job.order["kind"], job.order["key"]) == (order["kind"], order["key"]):
                    job.hears[ticket], self.jobs[ticket] = hear, number
                    if job.coarse is not None:
                        hear("coarse", job.coarse)
                    return ticket
            if len(self.asked) >= MOST:
                raise InputError("`the page` must wait, but too much is being computed for all visitors together (try again in a while)")
            self.asked[ticket] = Asked({**order, "number": ticket}, {ticket: hear})
            self.jobs[ticket] = ticket
            self._send(("do", self.asked[ticket].order))
        return ticket

    def drop(self, ticket: int) -> None:
        """Whoever has this ticket does not want the answer any more."""
        with self.lock:
            number = self.jobs.pop(ticket, None)
            job = None if number is None else self.asked.get(number)
            if job is None:
                return
            job.hears.pop(ticket, None)
            if not job.hears and job.dropped is None:
                job.dropped = time.monotonic()
                self._send(("drop", number))

    def busy(self) -> int:
        """How many jobs are not over, those included that are cancelled and have not ended yet."""
        return len(self.asked)

    def close(self) -> None:
        """End the process. A listener that waits for it hears the end of the pipe."""
        with self.lock:
            self.closed = True
            self._send(("stop", None))
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
        self.listener.join(5)
        self.pipe.close()

    # --- the process ---------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        from .worker import run

        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=run, args=(theirs,), daemon=True, name="sgdlimit explore")
        self.process.start()
        theirs.close()
        self.listener = threading.Thread(target=self._listen, args=(self.pipe,), daemon=True)
        self.listener.start()

    def _send(self, message: Any) -> None:
        with suppress(OSError, ValueError):  # it died: what is out is given to its successor
            self.pipe.send(message)

    def _listen(self, pipe: Any) -> None:
        while True:
            try:
                number, what, value = pipe.recv()
            except (EOFError, OSError):
                break
            except Exception:  # what came cannot be read: nobody knows what else is wrong with the process
                self.process.kill()
                break
            with self.lock:
                if what == "ready":
                    self.starts = 0
                job = self.asked.get(number)
                if job is None:
                    continue
                if what in ("answer", "failed", "cancelled"):
                    self._over(number)
                if what == "coarse":
                    job.coarse = value
                if what == "answer" and job.order["kind"] in THEORY:
                    self.answers[job.order["key"]] = value
                    while len(self.answers) > REMEMBERED:
                        self.answers.popitem(last=False)
                hears = list(job.hears.values())
            for hear in hears:
                with suppress(Exception):  # one page's trouble, which it tells itself, is not that of others
                    hear(what, value)
        if not self.closed:
            self._replace()

    def _over(self, number: int) -> Asked:
        job = self.asked.pop(number)
        for ticket in job.hears:
            self.jobs.pop(ticket, None)
        return job

    def _replace(self) -> None:
        """The process is gone. What is still wanted is given to a new one, but not what has seen two of them die."""
        with self.lock:
            self.process.join(1)
            self.starts += 1
            if self.starts < STARTS:
                self._start()
            lost = []
            for number, job in list(self.asked.items()):
                if job.dropped is not None or job.tries >= LIVES or self.starts >= STARTS:
                    lost.append(self._over(number))
                else:
                    job.tries += 1
                    self._send(("do", job.order))
        for job in lost:
            for hear in job.hears.values():
                with suppress(Exception):
                    hear("failed", LOST)

    def _watch(self) -> None:
        """A cancelled job that does not end is ended with its process: the last resort."""
        while not self.closed:
            time.sleep(1.0)
            now = time.monotonic()
            with self.lock:
                late = any(job.dropped is not None and now - job.dropped > PATIENCE for job in self.asked.values())
            if late and not self.closed:
                self.process.kill()
