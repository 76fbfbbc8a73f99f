"""Fill `page.html`. Everything a user wrote is escaped; nothing on the page is fetched from anywhere."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import replacing
from ..plot import Panel, caption, panels
from .compare import Comparison
from .result import Result, Simulation, Solution


@dataclass(frozen=True)
class Entry:
    """One dynamics of a run: its name, what was computed, and how the two compare."""

    name: str
    theory: Solution | None
    runs: Simulation | None = None
    comparison: Comparison | None = None


def write(path: str | os.PathLike[str], title: str, entries: Sequence[Entry], settings: Mapping[str, Any], footer: str = "") -> None:
    """Write `page(...)`; the file appears whole or not at all."""
    text = page(title, entries, settings, footer)
    with replacing(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def page(title: str, entries: Sequence[Entry], settings: Mapping[str, Any], footer: str = "") -> str:
    """The whole page as HTML.

    Arguments:
        title: heading.
        entries: one per dynamics, of one problem.
        settings: nested; shown as a table of dotted names.
        footer: one sentence at the end, e.g. the version and the fingerprint of the settings.
    """
    from bokeh.embed import components
    from bokeh.resources import Resources
    from jinja2 import ChoiceLoader, Environment, PackageLoader
    from markupsafe import Markup

    from ..show.interactive import draw

    results = {entry.name: (entry.theory, entry.runs) for entry in entries}
    shown = panels(results)
    script, (legend, *figures) = components(draw(results))
    template = Environment(
        loader=ChoiceLoader([PackageLoader("sgdlimit.results", "."), PackageLoader("sgdlimit.show", ".")]), autoescape=True
    ).get_template("report.html")
    return template.render(
        title=title,
        resources=Markup(Resources(mode="inline", components=["bokeh"]).render()),
        script=Markup(script),
        legend=Markup(legend),
        figures=[Markup(figure) for figure in figures],
        has_runs=any(entry.runs is not None for entry in entries),
        caption=caption(results),
        observables=[panel.text for panel in shown],
        finals=[row for entry in entries for row in finals(entry, shown)],
        verdicts=[entry for entry in entries if entry.comparison is not None],
        ended=[_ended(f"{entry.name}, {kind}", result) for entry in entries for kind, result in _both(entry)],
        settings=list(flat(settings)),
        footer=footer,
    )


def _both(entry: Entry) -> list[tuple[str, Result]]:
    return [(kind, result) for kind, result in (("theory", entry.theory), ("real runs", entry.runs)) if result is not None]


def finals(entry: Entry, shown: list[Panel], brief: bool = False) -> list[dict[str, Any]]:
    """Values at the last time, in words: one row for theory, one for real runs."""
    rows = []
    for kind, result in _both(entry):
        cells = [spoken(float(value[-1]), float(se[-1]), brief) for _, value, se in (panel.values(result) for panel in shown)]
        rows.append({"name": f"{entry.name}, {kind}", "time": f"{float(result.dataset['time'][-1]):.3g}", "cells": cells})
    return rows


def _ended(name: str, result: Result) -> dict[str, str]:
    told = dict(result.diagnostics)
    seconds = seconds_of(result)
    known = ("seconds", "wall_seconds")
    return {
        "name": name,
        "code": result.status.code,
        "status": str(result.status),
        "seconds": "" if seconds is None else f"{seconds:.1f}",
        "diagnostics": "; ".join(f"{key} {_short(value)}" for key, value in told.items() if key not in known),
    }


def seconds_of(result: Result) -> float | None:
    """Wall time of a result, if it says so."""
    told = result.diagnostics
    return next((float(told[key]) for key in ("wall_seconds", "seconds") if key in told), None)


def spoken(value: float, se: float, brief: bool = False) -> str:
    """`0.2372 ± 0.0011`, or briefly `0.2372(11)`: two digits of the error."""
    if not se > 0 or not math.isfinite(value):
        return f"{value:.4g}"
    digits = min(max(1 - math.floor(math.log10(se)), 0), 8)
    if brief and se < 1:
        return f"{value:.{digits}f}({round(se * 10**digits)})"
    return f"{value:.{digits}f} ± {se:.{digits}f}"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} {_short(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_short(v) for v in value[:8]) + (", ..." if len(value) > 8 else "") + "]"
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
            rows.append((name, _short(value)))
    return rows
