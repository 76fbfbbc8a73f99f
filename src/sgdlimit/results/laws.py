"""Laws of weights and margins, theory against real runs: Kolmogorov-Smirnov and Wasserstein distances, and one verdict.

Both sides are samples: theory draws independent paths, of real runs some coordinates and training samples are taken. Those of
one run depend on each other, more weakly the larger it is, and a run of finite size differs from the limit by a little of
order `1/d`; a small part of a large run shows neither. Hence the default of 2000 taken, from `d` in the thousands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from ..checks import array, number
from ..errors import InputError, refuse
from .result import Simulation, Solution
from .verdict import Verdict

DRAWN = 20_000  # theory's paths
TIMES = 3  # compared by default


@dataclass(frozen=True)
class LawRow:
    """One law at one time: the largest distance `ks` between distribution functions, how much of it chance explains, and the
    Wasserstein-1 distance in units of theory's standard deviation."""

    law: str
    time: float
    ks: float
    allowed: float
    wasserstein: float
    agree: bool


@dataclass(frozen=True)
class LawComparison(Verdict):
    """`agree`, `verdict` (one sentence) and `table` (a `LawRow` for each law and time); `str()` shows them all.

    `plot()` draws for each law and time the Kolmogorov-Smirnov distance, with a mark at what chance explains; `sl.plot.weights` and
    `sl.plot.margins` draw the laws themselves.
    """

    agree: bool
    verdict: str
    table: tuple[LawRow, ...]
    level: float
    taken: int

    title: ClassVar[str] = "Laws of weights and samples, theory against real runs"
    head: ClassVar[tuple[str, ...]] = ("law of", "at t", "Kolmogorov-Smirnov", "chance", "Wasserstein", "agrees")
    measure: ClassVar[str] = "Kolmogorov-Smirnov distance"

    def cells(self) -> list[tuple[str, ...]]:
        return [
            (row.law, f"{row.time:.3g}", f"{row.ks:.4f}", f"{row.allowed:.4f}", f"{row.wasserstein:.4f} sd", "yes" if row.agree else "NO")
            for row in self.table
        ]

    def bars(self) -> list[tuple[str, float, float, bool]]:
        return [(f"{row.law}, t = {row.time:.3g}", row.ks, row.allowed, row.agree) for row in self.table]


def laws(theory: Solution, runs: Simulation, times: Any = None, n: int = 2000, level: float = 0.01, seed: int = 0) -> LawComparison:
    """Hold the laws of weights `theta_i(t)`, of training pre-activations `r_i(t)` and, for labels -1 and 1, of margins
    `y r_i(t)` against real runs.

    Arguments:
        theory: what `solve` returned, in this session.
        runs: what `simulate` returned for the same problem and dynamics, in this session.
        times: output times of both; by default three of those they share.
        n: coordinates and samples taken of the runs, over all repeats; all there are if fewer.
        level: chance that equal laws are called different, over all laws and times together (Bonferroni).
        seed: of what is drawn and taken.

    Returns:
        LawComparison.

    Raises:
        InputError: a time is not an output time of both, or one of the results comes from a file.
    """
    level = number("level", level)
    if not 0 < level < 1:
        raise refuse("level", "lie in (0, 1)", level, "0.01 calls equal laws different once in a hundred comparisons")
    at = chosen_times(theory, runs, times)
    limit, real = drawn(theory, at, DRAWN, seed), drawn(runs, at, n, seed)
    pairs = [(name, a, b) for (name, a), (_, b) in zip(variables(*limit), variables(*real), strict=True)]
    taken = min(len(values) for _, _, values in pairs)
    from scipy import stats  # not on import: what only draws starts sooner

    allowed = float(stats.kstwobign.isf(level / (len(pairs) * len(at))) * np.sqrt(1.0 / taken + 1.0 / DRAWN))
    rows = tuple(_row(name, float(t), a[:, i], b[:, i], allowed) for name, a, b in pairs for i, t in enumerate(at))
    agree, worst = all(row.agree for row in rows), max(rows, key=lambda row: row.ks)
    furthest = max(rows, key=lambda row: row.wasserstein)
    return LawComparison(agree, _verdict(agree, worst, furthest, level, len(rows)), rows, level, taken)


def _row(name: str, time: float, limit: np.ndarray, real: np.ndarray, allowed: float) -> LawRow:
    from scipy import stats

    ks = float(np.asarray(stats.ks_2samp(limit, real, method="asymp").statistic))  # pyright: ignore[reportAttributeAccessIssue]
    distance = float(stats.wasserstein_distance(limit, real)) / (float(limit.std()) or 1.0)
    return LawRow(name, time, ks, allowed, distance, ks <= allowed)


def _verdict(agree: bool, worst: LawRow, furthest: LawRow, level: float, count: int) -> str:
    return (
        f"The laws {'agree' if agree else 'DISAGREE'}: the largest Kolmogorov-Smirnov distance is {worst.ks:.4f} ({worst.law}, t ="
        f" {worst.time:.3g}), where chance alone explains {worst.allowed:.4f} (level {level:g} over {count} comparisons, Bonferroni), and"
        f" the largest Wasserstein distance {furthest.wasserstein:.3f} standard deviations ({furthest.law}, t = {furthest.time:.3g})."
    )


def drawn(result: Solution | Simulation, times: np.ndarray, n: int, seed: int = 0) -> tuple[xr.Dataset, xr.Dataset]:
    """Paths of coordinates and of samples at `times`; of real runs at most as many as are kept."""
    most = dict.fromkeys(("coordinates", "samples"), n)
    if isinstance(result, Simulation) and result.law is not None:
        most = {what: min(n, getattr(result.law, what).sizes["path"]) for what in most}
    own = result.dataset["time"].values
    index = [int(np.argmin(np.abs(own - t))) for t in times]
    coordinates, samples = result.coordinate_paths(most["coordinates"], seed), result.sample_paths(most["samples"], seed)
    return coordinates.isel(time=index), samples.isel(time=index)


def variables(coordinates: xr.Dataset, samples: xr.Dataset) -> Iterator[tuple[str, np.ndarray]]:
    """What has a law to compare, `(name, values (path, time))`."""
    k = coordinates.sizes["student"]
    sign = signs(samples)
    index = lambda i: "" if k == 1 else f"[{i}]"
    for i in range(k):
        yield f"theta{index(i)}", coordinates["theta"].values[:, :, i]
    for i in range(k):
        yield f"r{index(i)}", samples["r"].values[:, :, i]
    if sign is not None:
        for i in range(k):
            yield f"y r{index(i)}", sign[:, None] * samples["r"].values[:, :, i]


def signs(samples: xr.Dataset) -> np.ndarray | None:
    """Labels `(path,)` where they are -1 and 1: then `y r` is a margin."""
    y = samples["y"].values if "y" in samples else np.zeros(0)
    return y.astype(float) if y.ndim == 1 and y.size and np.isin(y, (-1, 1)).all() else None


def chosen_times(theory: Solution | None, runs: Simulation | None, times: Any = None) -> np.ndarray:
    """`times` if all results have them; by default `TIMES` that they share, evenly from the first after the start to the last."""
    given = [result for result in (theory, runs) if result is not None]
    for name, value, kind in (("theory", theory, Solution), ("runs", runs, Simulation)):
        if value is not None and not isinstance(value, kind):
            raise refuse(name, f"be a {kind.__name__}", value)
    if not given:
        raise InputError("`theory` or `runs` must be given, but both are None")
    own = [result.dataset["time"].values for result in given]
    has = lambda t: all(np.isclose(t, one, rtol=1e-9, atol=1e-12).any() for one in own)
    if times is not None:
        times = np.atleast_1d(array("times", times))
        if not all(has(t) for t in times):
            raise refuse("times", "be output times of both results", times, "ask solve and simulate for the same times")
        return times
    shared = np.array([t for t in own[0] if t > 0 and has(t)])
    if not len(shared):
        raise InputError("`runs` must share a time after the start with `theory`, but they have none in common (use the same horizon)")
    return shared[np.unique([int(np.argmin(np.abs(shared - t))) for t in shared[-1] * np.arange(1, TIMES + 1) / TIMES])]
