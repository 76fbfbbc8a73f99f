"""Sizes of arrays rounded up to few, so that problems that differ in numbers alone share compiled programs.

Compiling takes seconds and a solve a fraction of one: a sweep over many problems would spend its time on compilation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_few = False
_here: ContextVar[bool] = ContextVar("few", default=False)


def few() -> None:
    """From now on this process rounds to powers of two: for one that answers many different problems at once, where waiting for a
    compilation is worse than some work too much. Results change as they do with other plans, within their errors."""
    global _few
    _few = True


@contextmanager
def few_here() -> Iterator[None]:
    """As `few`, for what is done inside alone: other threads of the process keep their sizes."""
    token = _here.set(True)
    try:
        yield
    finally:
        _here.reset(token)


def room(size: int, least: int = 1, growth: int = 2) -> int:
    """The size itself, or where `few` has asked for it the least of `least`, `growth * least`, ... that it fits in."""
    if patient():
        return size
    while least < size:
        least *= growth
    return least


def patient() -> bool:
    """Whether another plan may have other sizes only because they cost less to compute with."""
    return not (_few or _here.get())


def roomy(size: int, parts: int) -> int:
    """The least size from `size` on, of those with `parts` (a power of two) to each doubling: for 2 they are 4, 6, 8, 12, 16, ..."""
    parts = parts if patient() else 1
    step = max(2 ** ((max(size, 2) - 1).bit_length() - 1) // parts, 1)
    return -(-size // step) * step
