"""Errors with words: what is wrong, with which field, and the usual fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import numpy as np


class InputError(ValueError):
    """The input is wrong. The message is one sentence: field, what it must be, what it was, usual fix."""


class SolveError(RuntimeError):
    """The computation did not reach what was promised; `result` holds what there is."""

    def __init__(self, message: str, result: Any = None):
        super().__init__(message)
        self.result = result


class Words(str):
    """A description in place of a value: `refuse` shows it without quotes."""

    __repr__ = str.__str__


def refuse(field: str, must: str, value: object, fix: str = "") -> InputError:
    """Build the one sentence every refused field gets, e.g.
    "`sample_ratio` must be positive, but is -1.5 (it is n/d; 1.5 means ...)"."""
    shown = repr(value.tolist() if isinstance(value, np.ndarray | np.generic) else value)
    if len(shown) > 120:
        shown = shown[:117] + "..."
    return InputError(f"`{field}` must {must}, but is {shown}" + (f" ({fix})" if fix else ""))


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest known one, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else "known: " + ", ".join(known)
