"""Errors with words: what is wrong, with which field, and the usual fix."""

from __future__ import annotations

import difflib
import os
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


def quiet_compiler() -> None:
    """Let XLA print nothing but what ends the process, unless the user has asked for more; before JAX is read, or it has no effect. For
    commands: their users hear of errors by exceptions. Some releases call it an error, for every program from the cache, that it was tuned
    with "prefer-no-gather", which no machine has (https://github.com/openxla/xla/issues/44565)."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":  # which JAX itself sets: a process that has it hands it on to its commands
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
