"""Laws of weights and margins as numbers that a page draws."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..results import Simulation, Solution
from ..results.laws import chosen_times, drawn, signs
from ..show.densities import density, histogram
from ..show.densities import edges as edges_of

PATHS = 6000  # behind a picture
PLACES = 201


def pictures(theory: Solution, runs: Simulation | None) -> dict[str, Any]:
    """Per law, "weight" and "margin" (of labels -1 and 1) or "pre-activation": for every time and student direction the density of theory
    `x, y`, that of a fresh sample `fresh` (None for weights), and the histogram of real runs `edges, share` (None without)."""
    times = chosen_times(theory, runs)
    coordinates, samples = drawn(theory, times, PATHS)
    real = drawn(runs, times, PATHS) if runs is not None else None
    sign = signs(samples)
    found: dict[str, Any] = {"times": times.tolist()}
    found["weight"] = _pictures(coordinates["theta"].values, None, None if real is None else real[0]["theta"].values)
    name, factor = ("pre-activation", 1.0) if sign is None else ("margin", sign[:, None, None])
    measured = None
    if real is not None:
        own = signs(real[1])
        measured = real[1]["r"].values * (1.0 if own is None else own[:, None, None])
    found[name] = _pictures(factor * samples["r"].values, factor * samples["w"].values, measured)
    return found


def _pictures(theory: np.ndarray, fresh: np.ndarray | None, real: np.ndarray | None) -> list[list[dict[str, Any]]]:
    """A row for every direction, a column for every time, from `(path, time, student)`."""
    rows = []
    for i in range(theory.shape[2]):
        edges = edges_of([one for one in (theory, fresh, real) if one is not None], i)
        places = np.linspace(edges[0], edges[-1], PLACES)
        row = []
        for j in range(theory.shape[1]):
            one: dict[str, Any] = {"x": places, "y": density(theory[:, j, i], places), "fresh": None, "edges": None, "share": None}
            if fresh is not None:
                one["fresh"] = density(fresh[:, j, i], places)
            if real is not None:
                one["edges"] = edges
                one["share"] = histogram(real[:, j, i], edges)
            row.append(one)
        rows.append(row)
    return rows
