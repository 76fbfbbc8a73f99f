"""What a process saves that is a command and nothing else, before it reads its libraries."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def without_dask() -> None:
    """Where Dask is installed, xarray reads it, for a second, before it makes its first dataset and before it writes one: for a process
    that has no use for it. Not where xarray has been read: it would look for a Dask that it has found."""
    if "dask" not in sys.modules and "xarray" not in sys.modules:
        sys.modules["dask"] = None  # pyright: ignore[reportArgumentType]


@contextmanager
def reading() -> Iterator[None]:
    """While libraries are read: what they make stays, so looking for garbage in it would only cost time, then and later."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
