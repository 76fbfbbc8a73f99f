"""Between the web server and the process that computes: hands jobs over, brings answers back, and replaces the process if it dies."""

from __future__ import annotations

import itertools
import multiprocessing
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError

Hear = Callable[[str, Any], None]  # ("progress" | "coarse" | "answer" | "failed", value)

MOST = 60  # jobs of all visitors at a time
PATIENCE = 30.0  # seconds in which a cancelled job must end, or the process is replaced
REMEMBERED = 100  # final answers, of which each is some tens of kilobytes
LIVES = 2  # how often a job is tried when the process dies


@dataclass
class Asked:
    """A job that is out, who hears of it, and since when it is not wanted any more."""

    order: dict[str, Any]
    hear: Hear
    tries: int = 1
    dropped: float | None = None


@dataclass
class Desk:
    """One process, and what it has been asked. Safe to call from any thread; `hear` is called from the desk's own."""

    asked: dict[int, Asked] = field(default_factory=dict)
    answers: OrderedDict[str, Any] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.lock, self.numbers, self.closed = threading.RLock(), itertools.count(1), False
        self._start()
        threading.Thread(target=self._watch, daemon=True).start()

    # --- for a page ----------------------------------------------------------------------------------------------------------

    def ask(self, order: dict[str, Any], hear: Hear) -> int | None:
        """Ask for a job; None where the answer was known and has been told. Raises InputError where too much is asked already."""
        remembered = order["kind"] == "theory" and self.answers.get(order["key"])
        if remembered:
            hear("answer", remembered)
            return None
        with self.lock:
            if len(self.asked) >= MOST:
                raise InputError("`the page` must wait, but too much is being computed for all visitors together (try again in a while)")
            number = next(self.numbers)
            self.asked[number] = Asked({**order, "number": number}, hear)
            self._send(("do", self.asked[number].order))
        return number

    def drop(self, number: int) -> None:
        """It is not wanted any more."""
        with self.lock:
            job = self.asked.get(number)
            if job is not None and job.dropped is None:
                job.dropped = time.monotonic()
                self._send(("drop", number))

    def busy(self) -> int:
        """How many jobs are not over, those included that are cancelled and have not ended yet."""
        return len(self.asked)

    def close(self) -> None:
        with self.lock:
            self.closed = True
            self.pipe.close()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()

    # --- the process ---------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        from .worker import run

        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=run, args=(theirs,), daemon=True, name="sgdlimit explore")
        self.process.start()
        theirs.close()
        threading.Thread(target=self._listen, args=(self.pipe,), daemon=True).start()

    def _send(self, message: Any) -> None:
        try:
            self.pipe.send(message)
        except (OSError, ValueError):
            pass  # it died: what is out is given to its successor

    def _listen(self, pipe: Any) -> None:
        while True:
            try:
                number, what, value = pipe.recv()
            except (EOFError, OSError):
                break
            with self.lock:
                job = self.asked.get(number)
                if job is None:
                    continue
                if what in ("answer", "failed", "cancelled"):
                    del self.asked[number]
                if what == "answer" and job.order["kind"] == "theory":
                    self.answers[job.order["key"]] = value
                    while len(self.answers) > REMEMBERED:
                        self.answers.popitem(last=False)
            if job.dropped is None and what != "cancelled":
                job.hear(what, value)
        if not self.closed:
            self._replace()

    def _replace(self) -> None:
        """The process is gone. What is still wanted is given to a new one, but not what has killed two."""
        with self.lock:
            self.process.join(1)
            self._start()
            lost = []
            for number, job in list(self.asked.items()):
                if job.dropped is not None or job.tries >= LIVES:
                    lost.append(self.asked.pop(number))
                else:
                    job.tries += 1
                    self._send(("do", job.order))
        for job in lost:
            if job.dropped is None:
                job.hear(
                    "failed",
                    "The computing process ended without an answer, probably out of memory (fewer features or a shorter horizon need less).",
                )

    def _watch(self) -> None:
        """A cancelled job that does not end is ended with its process: the last resort."""
        while not self.closed:
            time.sleep(1.0)
            now = time.monotonic()
            with self.lock:
                late = any(job.dropped is not None and now - job.dropped > PATIENCE for job in self.asked.values())
            if late and not self.closed:
                self.process.kill()
