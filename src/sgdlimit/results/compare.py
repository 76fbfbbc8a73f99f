"""Theory against real runs: how far apart, in joint standard errors and relative to each curve, and one verdict.

Deviations are judged with Student's t, because a simulation's standard error comes from a few repeats, and with
Bonferroni's correction for the number of comparisons: curves at neighbouring times are strongly dependent, and it holds
under any dependence. Real runs at finite `d` also differ from the limit by a bias of order `1/d`, which no number of repeats
removes; `bias / d` of each curve's scale is allowed for it, and said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr

from ..checks import number
from ..errors import InputError, refuse
from .derived import scales
from .result import TEACHER_SIZE, Result, Simulation, Solution
from .schema import curves_of, entries
from .verdict import Verdict

# Measured on the reference problems at d = 2000 and 4000: a few parts in a thousand at d = 4000.
BIAS = 20.0
WORDS = {"student": "student directions", "teacher": "teacher directions", "parameter": "trained numbers"}
SHARP = 0.05  # a difference above this fraction of a curve's scale that chance still explains makes a weak test


@dataclass(frozen=True)
class Row:
    """One entry of an observable, at its worst time.

    `deviation` is the largest one in joint standard errors; `excess` the largest part of one beyond the allowed finite-size
    bias, at `time`, and `allowed` how much of it chance explains there. `relative` is the largest difference as a fraction of the
    curve's scale (its largest absolute value; of the whole matrix for overlaps, and at least a tenth of an overlap's bound).
    """

    observable: str
    deviation: float
    excess: float
    allowed: float
    relative: float
    time: float
    agree: bool


@dataclass(frozen=True)
class Comparison(Verdict):
    """`agree`, `verdict` (one sentence) and `table` (one `Row` per observable); `str()` shows them all.

    `plot()` draws for each observable, at the time where it uses up most of what is allowed, its joint standard errors beyond the
    finite-size bias, with a mark at what chance explains.
    """

    agree: bool
    verdict: str
    table: tuple[Row, ...]
    comparisons: int
    level: float
    allowance: float

    title: ClassVar[str] = "Theory against real runs"
    head: ClassVar[tuple[str, ...]] = ("observable", "of scale", "deviation", "beyond bias", "chance", "at t", "agrees")

    @property
    def measure(self) -> str:
        return f"joint standard errors beyond {self.allowance:.2%} of scale"

    def cells(self) -> list[tuple[str, ...]]:
        return [
            (row.observable, f"{row.relative:.2%}", f"{row.deviation:.2f} se", f"{row.excess:.2f} se",
             f"{row.allowed:.1f} se", f"{row.time:.3g}", "yes" if row.agree else "NO")
            for row in self.table
        ]  # fmt: skip

    def bars(self) -> list[tuple[str, float, float, bool]]:
        return [(f"{row.observable.replace('_', ' ')}, t = {row.time:.3g}", row.excess, row.allowed, row.agree) for row in self.table]


def compare(theory: Solution, runs: Simulation, level: float = 0.01, bias: float = BIAS) -> Comparison:
    """Hold a theory's curves against real runs.

    Arguments:
        theory: what `solve` returned.
        runs: what `simulate` returned for the same problem and dynamics. Its output times are used, as far as both go; the
            theory is interpolated linearly between its own times where they differ.
        level: chance that equal laws are called different, over all comparisons together.
        bias: allowance for finite size: `bias / n_features` of a curve's scale, on top of chance.

    Returns:
        Comparison. Where both standard errors are zero (an imposed start) only the allowance counts.

    Raises:
        InputError: the two have different numbers of directions, or no time in common.
    """
    level = number("level", level)
    if not 0 < level < 1:
        raise refuse("level", "lie in (0, 1)", level, "0.01 calls equal laws different once in a hundred comparisons")
    if number("bias", bias) < 0:
        raise refuse("bias", "not be negative", bias, "0 allows for no finite-size bias")
    limit, real = _aligned(theory, runs)
    allowance = bias / float(real.attrs.get("n_features", np.inf))
    degrees = max(int(real.attrs.get("repeats", 2)) - 1, 1)
    teacher = next((float(one.dataset.attrs[TEACHER_SIZE]) for one in (theory, runs) if TEACHER_SIZE in one.dataset.attrs), 0.0)
    curves = curves_of(limit, real)
    scale = scales({curve: limit[curve].values for curve in curves}, teacher)
    deviations = [
        (name, _Deviation.of(limit, real, curve, index, degrees, scale[curve])) for curve in curves for name, index in entries(real, curve)
    ]
    count = sum(int((d.error > 0).sum()) for _, d in deviations)
    rows = tuple(d.row(name, real["time"].values, level / max(count, 1), allowance) for name, d in deviations)
    agree = all(row.agree for row in rows)
    return Comparison(
        agree, _verdict(rows, agree, count, level, allowance, float(real["time"][-1]), theory, runs), rows, count, level, allowance
    )


@dataclass(frozen=True)
class _Deviation:
    """One entry at the shared times: difference, joint standard error, its degrees of freedom, and the curve's scale."""

    difference: np.ndarray
    error: np.ndarray
    degrees: np.ndarray
    scale: float

    @classmethod
    def of(cls, limit: xr.Dataset, real: xr.Dataset, curve: str, index: dict[str, int], degrees: int, scale: float) -> _Deviation:
        theory, runs = (ds[curve].isel(index).values for ds in (limit, real))
        se, se_runs = (ds[f"{curve}_se"].isel(index).values for ds in (limit, real))
        joint = np.hypot(se, se_runs)
        # Welch and Satterthwaite, the theory's own error taken as known: it covers discretisation, too.
        with np.errstate(divide="ignore", invalid="ignore"):
            welch = np.where(se_runs > 0, degrees * (joint / se_runs) ** 4, np.inf)
        return cls(np.abs(runs - theory), joint, welch, scale)

    def row(self, name: str, times: np.ndarray, level: float, allowance: float) -> Row:
        """The worst time: the one that uses up most of what is allowed there."""
        excess = np.maximum(self.difference - allowance * self.scale, 0.0)
        known = self.error > 0
        from scipy import stats  # not on import: what only draws starts sooner

        allowed = np.where(known, stats.t.isf(level / 2, self.degrees), 0.0)
        deviation, beyond = (np.divide(x, self.error, out=np.zeros_like(x), where=known) for x in (self.difference, excess))
        # Without an error there is no chance; rounding still is.
        beyond = np.where(~known & (excess > 1e-9 * self.scale), np.inf, beyond)
        used = np.divide(beyond, allowed, out=np.where(beyond > 0, np.inf, 0.0), where=allowed > 0)
        worst = int(np.argmax(used)) if used.max() > 0 else int(np.argmax(deviation))
        relative, agree = float(self.difference.max() / self.scale), bool(used.max() <= 1)
        return Row(name, float(deviation.max()), float(beyond[worst]), float(allowed[worst]), relative, float(times[worst]), agree)


def _aligned(theory: Solution, runs: Simulation) -> tuple[xr.Dataset, xr.Dataset]:
    """Both at the runs' times, as far as both go and are finite."""
    for name, value, kind in (("theory", theory, Solution), ("runs", runs, Simulation)):
        if not isinstance(value, kind):
            raise refuse(name, f"be a {kind.__name__}", value, "compare(solve(...), simulate(...))")
    limit, real = (result.dataset[[v for c in curves_of(result.dataset) for v in (c, f"{c}_se")]] for result in (theory, runs))
    for dim in ("student", "teacher", "parameter"):
        if limit.sizes.get(dim, 0) != real.sizes.get(dim, 0):
            raise InputError(
                f"`runs` must have {limit.sizes.get(dim, 0)} {WORDS[dim]} like `theory`, but has {real.sizes.get(dim, 0)}"
                " (are they of the same problem?)"
            )
    limit, real = (_finite(ds) for ds in (limit, real))
    last = limit["time"].values[-1] * (1 + 1e-9)
    real = real.isel(time=(real["time"].values >= limit["time"].values[0]) & (real["time"].values <= last))
    if real.sizes["time"] == 0:
        raise InputError("`runs` must share times with `theory`, but they have none in common (use the same horizon)")
    return _at(limit, real["time"].values), real


def _finite(ds: xr.Dataset) -> xr.Dataset:
    ok = np.ones(ds.sizes["time"], dtype=bool)
    for values in ds.data_vars.values():
        ok &= np.isfinite(values.values.reshape(len(ok), -1)).all(axis=1)
    if not ok.any():
        raise InputError("`theory` and `runs` must have finite curves, but one has none")
    return ds.isel(time=ok)


def _at(ds: xr.Dataset, times: np.ndarray) -> xr.Dataset:
    """Linear interpolation in time; exact where the times are the same."""
    own = ds["time"].values
    if len(own) == len(times) and np.allclose(own, times, rtol=1e-9, atol=1e-12):
        return ds
    after = np.clip(np.searchsorted(own, times), min(1, len(own) - 1), len(own) - 1)
    before = np.maximum(after - 1, 0)
    gap = np.where(after > before, own[after] - own[before], 1.0)
    weight = xr.DataArray(np.clip((times - own[before]) / gap, 0.0, 1.0), dims="time")
    left, right = (ds.isel(time=index).drop_vars("time") for index in (before, after))
    return ((1 - weight) * left + weight * right).assign_coords(time=times)


def _verdict(rows, agree: bool, count: int, level: float, allowance: float, last: float, theory: Result, runs: Result) -> str:
    worst = max(rows, key=lambda row: (not row.agree, row.excess / row.allowed if row.allowed else row.excess))
    furthest, largest = (max(rows, key=lambda row: getattr(row, key)) for key in ("relative", "deviation"))
    spoken = "agree" if agree else f"DISAGREE in {_listed([row.observable for row in rows if not row.agree])}"
    text = (
        f"Theory and simulation {spoken}: the largest difference is {furthest.relative:.2%} of a curve's scale ({furthest.observable})"
        f" and the largest deviation {largest.deviation:.1f} joint standard errors ({largest.observable}); beyond a finite-size bias of"
        f" {allowance:.2%} of scale it is {worst.excess:.1f} ({worst.observable}, t = {worst.time:.3g}), where chance alone explains"
        f" {worst.allowed:.1f} (level {level:g} over {count} comparisons, Student t with Bonferroni)"
    )
    if agree and furthest.relative > SHARP:
        text += "; the runs scatter too much for a sharp test (more repeats or features help)"
    diverged = [who for who, result in (("theory", theory), ("simulation", runs)) if result.status.code == "diverged"]
    if diverged:
        text += f"; {' and '.join(diverged)} diverged, compared up to t = {last:.3g}"
    return text + "."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
