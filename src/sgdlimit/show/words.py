"""Numbers and settings in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def spoken(value: float, se: float, brief: bool = False) -> str:
    """`0.2372 ± 0.0011`, or briefly `0.2372(11)`: two digits of the error."""
    if not se > 0 or not math.isfinite(value):
        return f"{value:.4g}"
    digits = min(max(1 - math.floor(math.log10(se)), 0), 8)
    if brief and se < 1:
        return f"{value:.{digits}f}({round(se * 10**digits)})"
    return f"{value:.{digits}f} ± {se:.{digits}f}"


def short(value: Any) -> str:
    """One setting or diagnostic."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} {short(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(short(v) for v in value[:8]) + (", ..." if len(value) > 8 else "") + "]"
    return str(value)


def flat(settings: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Nested settings as `(dotted name, value)`; what was not given is left out."""
    rows = []
    for key, value in settings.items():
        name = f"{above}.{key}" if above else str(key)
        if isinstance(value, Mapping):
            rows += flat(value, name)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for i, item in enumerate(value):
                rows += flat(item, f"{name}[{i}]")
        elif value is not None and value != "":
            rows.append((name, short(value)))
    return rows


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of plain text: the first to the left, numbers to the right."""
    wide = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    line = lambda cells: "  ".join(
        cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(zip(cells, wide, strict=True))
    )
    return "\n".join(line(cells).rstrip() for cells in (head, *rows))
