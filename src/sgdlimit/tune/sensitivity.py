"""`sensitivity`: how curves change with numbers, by differences of two sizes on common random numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import xarray as xr

from ..checks import number
from ..errors import SolveError, refuse
from ..learning.problem import Problem
from ..results.schema import CURVES, LONG_NAMES
from ..spread import along
from ..theory.paired import Common, Paired, enough, one_method, plan_by_solve, solve_on
from ..theory.shapes import few_here
from .numbers import check_rtol
from .space import Axis, Clock, Family
from .trials import GAIN

SHARE = 0.1  # of a number, the larger difference to either side
SMALLEST = 1e-3  # and of a number that is zero
REST = 0.5  # error of an extrapolated derivative, of what the extrapolation changed


def sensitivity(
    problem: Problem,
    make: Callable[..., Any],
    parameters: Mapping[str, float],
    *,
    epochs: float | None = None,
    horizon: float | None = None,
    rtol: float = 0.01,
    seed: int = 0,
    method: str = "auto",
    step: float = SHARE,
    progress: Callable[[float, str], object] | None = None,
) -> xr.Dataset:
    """Derivatives of learning curves with respect to numbers of the problem and the dynamics.

        slopes = sl.sensitivity(problem, lambda step: sl.SGD(step), {"step": 1.5}, horizon=4.0)
        slopes["test_risk"].sel(parameter="step")

    Central differences of two sizes on common random numbers, extrapolated to size zero: they are much better known than the curves.

    Arguments:
        problem, make: as of `tune`.
        parameters: the numbers, and their values there.
        epochs, horizon: how long is trained. With epochs derivatives are at fixed parts of the training, which a larger step takes longer
            for: then the times of jumps do not depend on it. With a horizon they are at fixed `t`.
        rtol: accuracy of the solves, as of `solve`.
        seed, method: as of `solve`.
        step: the larger difference to either side, as a part of each number.
        progress: called with (fraction done, what is being done).

    Returns:
        Dataset over `parameter` and `time` (that of the parameters themselves) of `d curve / d parameter`, each with its standard error
        `<name>_se`: spread over replicates, discretisation, and the differences' own.

    Raises:
        InputError: an argument is wrong.
        SolveError: training diverges there.
    """
    clock, rtol, report = Clock(horizon, epochs), check_rtol(rtol), progress or (lambda fraction, text: None)
    if not isinstance(parameters, Mapping) or not parameters:
        raise refuse("parameters", "be a dict of numbers", parameters, '{"step": 1.5}')
    if not 0 < number("step", step) < 0.5:
        raise refuse("step", "lie in (0, 0.5)", step, "0.1 takes differences of a tenth of each number")
    here = {str(name): number(f"parameters.{name}", value) for name, value in parameters.items()}
    family = Family(problem, make, [Axis(name, value, value) for name, value in here.items()], clock)
    with nullcontext() if clock.epochs is not None else few_here():
        setting = family.setting(here)
        chosen = one_method([setting], method)
        report(0.0, "planning")
        common = enough(plan_by_solve(setting, rtol, seed, chosen))
        found = {}
        for i, (name, value) in enumerate(here.items()):
            size = step * abs(value) if value else SMALLEST
            report((i + 0.5) / len(here), name)
            found[name] = _slope(family, here, name, size, common)
        middle = solve_on(common, setting)
    return _dataset(found, middle.times)


def _slope(family: Family, here: dict[str, float], name: str, size: float, common: Common) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Derivative and error of every curve by one number."""
    pairs = []
    for h in (size, 0.5 * size):
        ends = []
        for sign in (1.0, -1.0):
            numbers = {**here, name: here[name] + sign * h}
            solved = solve_on(common, family.setting(numbers))
            if solved.ended is not None:
                raise SolveError(
                    f"derivatives need curves on both sides, but at {name} = {numbers[name]:.4g} training ends: {solved.words}"
                )
            ends.append(solved)
        pairs.append((h, *ends))
    return {curve: _extrapolated(pairs, curve) for curve in CURVES}


def _extrapolated(pairs: list[tuple[float, Paired, Paired]], curve: str) -> tuple[np.ndarray, np.ndarray]:
    (h, *wide), (g, *narrow) = pairs
    slope = lambda of: [(of(more) - of(less)) / (2 * size) for size, more, less in ((h, *wide), (g, *narrow))]
    to_zero = lambda two: two[1] + (two[1] - two[0]) / 3.0
    two = slope(lambda one: one.curves[curve])
    value = to_zero(two)
    if pairs[0][1].each is not None:
        times = pairs[0][1].times / pairs[0][1].times[-1]
        noise = along(to_zero(slope(lambda one: one.each[curve])), times, 1.0)
        coarser = value - to_zero(slope(lambda one: one.coarser[curve]))
        noise = np.hypot(noise, _nearby(coarser / GAIN))
    else:
        noise = np.hypot(*(one.errors[curve] for one in narrow)) / (2 * g)
    return value, np.hypot(noise, _nearby(REST * (two[1] - two[0]) / 3.0))


def _nearby(error: np.ndarray) -> np.ndarray:
    """The largest nearby in time: differences of two sizes cross zero where errors do not."""
    size = np.abs(error)
    reach = max(len(size) // 10, 1)
    return np.array([size[max(i - reach, 0) : i + reach + 1].max(0) for i in range(len(size))])


def _dataset(found: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]], times: np.ndarray) -> xr.Dataset:
    data: dict[str, Any] = {}
    for curve, dims in CURVES.items():
        for ending, which in (("", 0), ("_se", 1)):
            stacked = np.stack([slopes[curve][which] for slopes in found.values()])
            told = (
                f"derivative of the {LONG_NAMES[curve]}" if not ending else f"standard error of the derivative of the {LONG_NAMES[curve]}"
            )
            data[curve + ending] = (("parameter", *dims), stacked, {"long_name": told})
    k, k_star = data["overlap"][1].shape[2:]
    coords = {"parameter": list(found), "time": times, "student": np.arange(k), "student_": np.arange(k), "teacher": np.arange(k_star)}
    return xr.Dataset(data, coords)
