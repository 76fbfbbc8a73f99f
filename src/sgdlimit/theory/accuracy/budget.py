"""What a solve may take on the clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from ...checks import positive
from ...errors import SolveError

RESERVE = 1.0  # seconds, or a tenth of what there is: for what is done with an answer


class OutOfTime(Exception):
    """The budget is spent. What is there by then is the answer."""


class Budget:
    """Seconds of wall time from now on; None is as many as it takes."""

    def __init__(self, seconds: float | None):
        self.seconds = None if seconds is None else positive("budget", seconds, "seconds that solve may take; None is as many as it takes")
        self.spent = self.ends = float("inf")
        if self.seconds is not None:
            self.spent = self.ends = time.perf_counter() + self.seconds
            self.keep(min(RESERVE, 0.1 * self.seconds))
        self.short = False  # whether something was left out for it

    def keep(self, seconds: float) -> None:
        """Leave so many for what is done with an answer, if that is more than is left for it yet."""
        self.ends = min(self.ends, self.spent - seconds)

    @property
    def left(self) -> float:
        return self.ends - time.perf_counter()

    @property
    def words(self) -> str:
        """That it fell short, for a sentence; empty if it did not."""
        return f" within the budget of {self.seconds:g} s" if self.short else ""

    def in_time(self, answers: Iterator[Any], needed: bool = True) -> Iterator[Any]:
        """Those that come before it is spent.

        Raises:
            SolveError: there is none, but one is `needed`.
        """
        try:
            for answer in answers:
                needed = False
                yield answer
        except OutOfTime:
            if needed:
                raise SolveError(
                    f"`budget` must allow for a first answer, but {self.seconds:g} s are spent before it is there (more seconds, a larger"
                    " rtol or a shorter horizon)"
                ) from None

    def watch(self) -> None:
        """Called often.

        Raises:
            OutOfTime: nothing is left.
        """
        if self.left <= 0.0:
            self.short = True
            raise OutOfTime

    def allows(self, seconds: float) -> bool:
        """Whether so much is left; if not, that is remembered."""
        enough = seconds <= self.left
        self.short |= not enough
        return enough
