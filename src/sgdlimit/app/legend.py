"""How each dynamics stands: its job, its answer, and the words and signs for them above the curves."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..results import Result, Simulation
from .choices import COMPANIONS, DYNAMICS, REPEATS, RTOL
from .figures import DASH_OF, legend

SHAPES = {  # of the markers of real runs, as paths around (14, 6)
    "circle": "M10.5 6a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z",
    "square": "M11 3h6v6h-6z",
    "triangle": "M14 2l4 7h-8z",
    "diamond": "M14 1.5l3 4.5l-3 4.5l-3 -4.5z",
    "inverted_triangle": "M14 10l4 -7h-8z",
    "plus": "M14 2v8M10 6h8",
    "x": "M11 3l6 6M17 3l-6 6",
}


@dataclass
class Line:
    """How one dynamics stands: its job, its answer, and the words for it."""

    job: int | None = None
    result: Result | None = None
    state: str = "waiting"  # waiting, coarse, done, diverged, failed
    words: str = ""
    fraction: float = 0.0

    def take(self, what: str, value: Any) -> None:
        """What was heard of the job: "progress", "coarse", "answer" or "failed"."""
        if what == "progress":
            self.fraction = value[0]
            return
        self.job = None if what != "coarse" else self.job
        self.fraction = 0.0
        if what == "failed":
            self.result, self.state, self.words = None, "failed", value
            return
        self.result = value
        self.state = "coarse" if what == "coarse" else value.status.code
        self.words = value.status.message if value.status.code in ("diverged", "inaccurate") and what == "answer" else ""


def names(saved: Mapping[str, Result]) -> dict[str, str]:
    """What may be drawn, by its name on the page: the dynamics, then the saved results."""
    return {kind: title for kind, (title, _) in DYNAMICS.items()} | {f"saved {name}": name for name in saved}


def chips(theory: Mapping[str, Line], runs: Mapping[str, Line], saved: Mapping[str, Result], chosen: list[str]) -> tuple[str, list[str]]:
    """The legend as HTML, and sentences about what did not go as asked."""
    found, told = [], []
    looks = legend(names(saved))
    for kind, (title, colour, dash, marker) in zip([*DYNAMICS, *saved], looks, strict=True):
        if kind in saved:
            if kind in chosen:
                found.append(_chip(title, colour, dash, "saved", "done", 1.0, marker if isinstance(saved[kind], Simulation) else ""))
            continue
        if (line := theory.get(kind)) is None:
            continue
        words, fraction = _stands(line)
        found.append(_chip(title, colour, dash, words, line.state, fraction))
        told += [f"{title}: {line.words}"] if line.words else []
        for before, called in COMPANIONS.items():
            if (other := theory.get(before + kind)) is not None:
                words, fraction = _stands(other)
                found.append(_chip("", colour, DASH_OF[before], f"{called} {words}", other.state, fraction))
                told += [f"{title}, {called}: {other.words}"] if other.words and other.words != line.words else []
        if (made := runs.get(kind)) is not None:
            repeats = 0 if made.result is None else made.result.dataset.attrs["repeats"]
            at = f"{repeats} of {REPEATS} real runs" if made.state != "failed" else "no real runs"
            found.append(_chip("", colour, dash, at, made.state, made.fraction if made.job else 1.0, marker))
            told += [f"{title}, real runs: {made.words}"] if made.words else []
    return "".join(found), told


def _stands(line: Line) -> tuple[str, float]:
    """How a dynamics stands, in a few words, and how far it is."""
    if line.state == "failed":
        return "not solved", 1.0
    if line.result is None:
        return "…", line.fraction
    error = line.result.diagnostics["error"]
    if line.state == "coarse":
        return f"±{error:.1%}, sharpening to {RTOL:.0%}", line.fraction
    if line.state == "diverged":
        return "diverges", 1.0
    return f"±{error:.1%}" if error >= 1e-3 else "±<0.1%", 1.0


def _chip(title: str, colour: str, dash: Any, words: str, state: str, fraction: float, marker: str = "") -> str:
    dashes = {"solid": "", "dashed": "6 3", "dotted": "2 3", "dotdash": "2 3 6 3"}
    pattern = dashes[dash] if isinstance(dash, str) else " ".join(map(str, dash))
    if marker:
        drawn = SHAPES.get(marker, SHAPES["circle"])
        mark = f"<path d='{drawn}' fill='#fff' stroke='{colour}' stroke-width='1.5'/>"
    else:
        mark = f"<line x1='1' y1='6' x2='27' y2='6' stroke='{colour}' stroke-width='2.5' stroke-dasharray='{pattern}'/>"
    name = f"<b>{html.escape(title)}</b> " if title else ""
    bar = f"<i style='width:{100 * min(max(fraction, 0.0), 1.0):.0f}%'></i>"
    return f"<span class='chip {state}'><svg width='28' height='12' aria-hidden='true'>{mark}</svg>{name}{html.escape(words)}{bar}</span>"
