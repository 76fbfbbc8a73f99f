"""Paths of some samples and coordinates of every run, kept for their laws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import xarray as xr

from ..learning.problem import Problem
from ..results import PATHS_KEPT, Kept, path_dataset
from .data import Data, samples


class Keeper:
    """Collects at most `PATHS_KEPT` samples and coordinates over all repeats, an equal share of each, chosen at random.

    The choice has a random stream of its own: what is kept does not change a run.
    """

    def __init__(self, problem: Problem, design: str, repeats: int, seed: int, fresh: bool):
        self.problem, self.design, self.seed, self.fresh = problem, design, seed, fresh
        self.share = max(1, PATHS_KEPT // repeats)
        self.repeats: list[tuple[dict[str, np.ndarray], Any, dict[str, np.ndarray]]] = []

    def add(self, data: Data, thetas: np.ndarray) -> None:
        """The next repeat's, from its weights `(time, k, d)` at the output times it reached."""
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(len(self.repeats), 2)))
        if self.fresh:  # the training's own are used once and gone; the run is over, so its room is free
            rows, labels = samples(self.problem, self.design, np.asarray(data.rows).copy(), data.teacher.T, rng, data.eigenvalues)
            data = replace(data, rows=rows, labels=labels)
        rows = np.asarray(data.rows)
        some = rng.permutation(len(rows))[: self.share]
        picked = rows[some].astype(float)
        products = picked @ thetas.reshape(-1, thetas.shape[2]).T  # one large one, not one for each time
        r, r_star = products.reshape(len(picked), *thetas.shape[:2]), picked @ data.teacher.T
        y = jax.tree.map(lambda part: np.asarray(part)[some], data.labels)
        features = rng.permutation(thetas.shape[2])[: self.share]
        coordinates = {"theta": np.moveaxis(thetas[:, :, features], 2, 0), "theta_star": data.teacher[:, features].T}
        if data.eigenvalues is not None:
            coordinates["eigenvalue"] = data.eigenvalues[features]
        self.repeats.append(({"r": r, "r_star": r_star}, y, coordinates))

    def kept(self, times: np.ndarray) -> Kept:
        """All repeats together at `times`, those that every repeat reached."""
        sets: tuple[list[xr.Dataset], list[xr.Dataset]] = [], []
        for repeat, (drawn, y, coordinates) in enumerate(self.repeats):
            for into, values, labels in zip(sets, (drawn, coordinates), (y, None), strict=True):
                cut = {name: value[:, : len(times)] if value.ndim == 3 else value for name, value in values.items()}
                number = np.full(len(next(iter(cut.values()))), repeat)
                into.append(path_dataset(times, cut | {"repeat": number}, labels))
        return Kept(*(xr.concat(one, "path") for one in sets))
