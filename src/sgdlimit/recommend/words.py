"""Grammar of the sentences: one sample, two samples; column a is, 2 columns (a, b) are."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

SHOWN = 4


def counted(number: int | str, noun: str, plural: str = "") -> str:
    """`1 sample`, `2 samples`; a number may come as it is to be shown."""
    return f"{number} {noun if str(number) == '1' else plural or noun + 's'}"


def some(names: Iterable[object]) -> str:
    """The first names, and how many there are."""
    names = [str(name) for name in names]
    return ", ".join(names[:SHOWN]) + (f", ..., {len(names)} in all" if len(names) > SHOWN else "")


def quoted(words: Iterable[object]) -> str:
    return some(f"`{word}`" for word in words)


def column(name: str) -> str:
    """`column age`; what is called `column 3` for want of a name is not called so twice."""
    return name if name.startswith("column ") else f"column {name}"


def columns(names: Sequence[str], one: str = "is", several: str = "are") -> str:
    """The start of a sentence on columns, with the verb that agrees."""
    if len(names) == 1:
        return f"{column(names[0]).capitalize() if names[0].startswith('column ') else 'Column ' + names[0]} {one}"
    return f"{len(names)} columns ({some(names)}) {several}"


def was(number: int) -> str:
    return "was" if number == 1 else "were"


def listed(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def keeping(names: Sequence[str]) -> str:
    """How to use columns that were left out."""
    return f"--keep {shlex.quote(names[0]) if len(names) == 1 else 'COLUMN'} uses {'it' if len(names) == 1 else 'one'} all the same"


def is_(number: int | str) -> str:
    return "is" if str(number) == "1" else "are"
