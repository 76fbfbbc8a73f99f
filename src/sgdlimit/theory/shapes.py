"""Sizes of arrays rounded up to few, so that problems that differ in numbers alone share compiled programs.

Compiling takes seconds and a solve a fraction of one: a sweep over many problems would spend its time on compilation.
"""

from __future__ import annotations


def roomy(size: int, parts: int) -> int:
    """The least size from `size` on, of those with `parts` (a power of two) to each doubling: for 2 they are 4, 6, 8, 12, 16, ..."""
    step = max(2 ** ((max(size, 2) - 1).bit_length() - 1) // parts, 1)
    return -(-size // step) * step
