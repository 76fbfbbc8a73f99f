"""One self-contained HTML page per run: curves to explore, settings, verdicts, how it ended and how long it took."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..show.page import render
from ..show.page import write as keep
from ..show.words import flat, short, spoken
from .compare import Comparison
from .panels import Pairs, Panel, caption, panels
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
    keep(path, page(title, entries, settings, footer))


def page(title: str, entries: Sequence[Entry], settings: Mapping[str, Any], footer: str = "") -> str:
    """The whole page as HTML.

    Arguments:
        title: heading.
        entries: one per dynamics, of one problem.
        settings: nested; shown as a table of dotted names.
        footer: one sentence at the end, e.g. the version and the fingerprint of the settings.
    """
    results = {entry.name: (entry.theory, entry.runs) for entry in entries}
    shown = panels(results)
    return render(
        "sgdlimit.results",
        "report.html",
        pictures(results, shown),
        title=title,
        has_runs=any(entry.runs is not None for entry in entries),
        caption=caption(results),
        observables=[panel.text for panel in shown],
        finals=[row for entry in entries for row in finals(entry, shown)],
        verdicts=[entry for entry in entries if entry.comparison is not None],
        ended=[_ended(f"{entry.name}, {kind}", result) for entry in entries for kind, result in _both(entry)],
        settings=list(flat(settings)),
        footer=footer,
    )


def pictures(results: Pairs, shown: Sequence[Panel]) -> list[Any]:
    """The legend, then a Bokeh figure for each panel; they share the time. A click on the legend hides a dynamics in all of them."""
    from ..show import interactive

    legend, switches = interactive.legend(list(results))
    shared, drawn = None, [legend]
    for panel in shown:
        plot = interactive.frame("time t", panel.text, 310, **({} if shared is None else {"x_range": shared}))
        shared = shared or plot.x_range
        for curve in panel.drawn(results):
            for renderer in interactive.curve(plot, curve):
                switches[curve.name or ""].js_link("visible", renderer, "visible")
        drawn.append(plot)
    return drawn


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
        "diagnostics": "; ".join(f"{key} {short(value)}" for key, value in told.items() if key not in known),
    }


def seconds_of(result: Result) -> float | None:
    """Wall time of a result, if it says so."""
    told = result.diagnostics
    return next((float(told[key]) for key in ("wall_seconds", "seconds") if key in told), None)
