"""`tune`: a rough search on one plan, then a handful of solves on the plan that the best of them needs, then a solve of the answer."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from ..checks import number
from ..errors import refuse
from ..learning.problem import Problem
from ..results.tuned import Tuned
from ..theory.accuracy.checkpoint import identify
from ..theory.paired import Common, enough, first_plan, one_method, solution_on
from ..theory.shapes import few_here
from .local import Optimum, optimum, spacing_from
from .search import search
from .space import Axis, Clock, Family, axes_of
from .trials import Kept, Measure, Together, Trial, Trials

ROUGH = 5.0  # times the final rtol, for the search
MOST_ROUGH = 0.1
RISE = 0.25  # times the final rtol: by how much values rise between the last solves
DRAWN = 0.25  # of the bounds, how far the surface is drawn
WORTH = 0.03  # times the final rtol: a rough solve is made if it is expected to lower the value by more


def tune(
    problem: Problem,
    make: Callable[..., Any],
    bounds: Mapping[str, Any],
    objective: str = "test_risk",
    at: str = "end",
    *,
    epochs: float | None = None,
    horizon: float | None = None,
    rtol: float = 0.01,
    seed: int = 0,
    method: str = "auto",
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[float, str], object] | None = None,
    together: Together | None = None,
) -> Tuned:
    """The numbers at which theory has the least risk: any of the problem and the dynamics.

        best = sl.tune(problem, lambda step: sl.SGD(step), {"step": (0.1, 5.0, "log")}, epochs=3)

    Solves have common random numbers, so that they differ by what the numbers do and little else, and few of them are enough, some ten for
    one number, at most 19 for two: spread ones and those where a smooth surface through all promises most, on a rough plan, then some
    around the best on the plan that `rtol` takes there.

    Arguments:
        problem: what is learnt.
        make: from numbers, by the names of `bounds`, to a dynamics, or to `(problem, dynamics)`, such as `lambda step, ridge:
            (dataclasses.replace(problem, penalty=sl.Ridge(ridge)), sl.SGD(step))`. Problems that keep the loss and the label, as the
            same functions, share what is compiled.
        bounds: `{"step": (low, high, "log")}`; without a scale, or with "linear", it is linear.
        objective: "test_risk" or "train_risk".
        at: "end" of training, or "best": at the time where it is least, as with early stopping.
        epochs: how long is trained. An epoch lasts `step * sample_ratio`.
        horizon: or up to which time `t`.
        rtol: accuracy of the last solves, as of `solve`.
        seed: the same seed gives the same numbers.
        method: as of `solve`.
        checkpoint: a file that keeps what is tried. The same call continues from it and gives the same numbers.
        progress: called with (fraction done, the number of solves and the best so far).
        together: what does solves that need not wait for each other at the same time, as `sgdlimit tune --workers` has them done; by
            default one is done after the other. The numbers are the same.

    Returns:
        Tuned: `parameters` and their errors `parameters_se`, `value` with `value_se`, `table` (a row a solve), `flat` (how far each number
        may go alone until the value rises by one standard error) and `solution`, solved at the best numbers. `print` tells it in words.

    Raises:
        InputError: an argument is wrong, or numbers within the bounds are none of the problem or the dynamics.
        SolveError: training diverges wherever it was tried, or the answer was not reached to `rtol`.
    """
    axes, clock, measure = axes_of(bounds), Clock(horizon, epochs), Measure(objective, at)
    family = Family(problem, make, axes, clock)
    rtol, report = check_rtol(rtol), progress or (lambda fraction, text: None)
    extremes = family.extremes()
    kept = Kept(checkpoint, "" if checkpoint is None else _identity(family, measure, rtol, seed, method))
    most = most_solves(len(axes))
    trials = Trials(measure, kept, together)
    trials.tell = lambda text: report(min(0.95 * len(trials.done) / most, 0.95), text)
    with nullcontext() if clock.epochs is not None else few_here():  # numbers of jumps vary with the step, and sizes with them
        chosen = one_method(extremes, method)
        plan = first_plan(extremes, max(rtol, min(ROUGH * rtol, MOST_ROUGH)), seed, chosen)
        seen = search(trials.attempts(family, plan), len(axes), seed, WORTH * rtol, 4 * len(axes))
        searched, centre = len(trials.done), seen.surface.least(seen.rng)
        near = min((one for one in seen.trials if one.good), key=lambda one: one.value)
        fine = finer(trials, family, family.numbers(centre), near, plan, rtol)
        spacing = spacing_from(seen, centre, RISE * rtol * abs(seen.least))
        left = most - 1 - len(trials.done)
        found = optimum(trials.attempts(family, fine), seen, centre, spacing, left, (fine.plan, fine.stage) == (plan.plan, plan.stage))
        made = family.setting(family.numbers(found.u))
        report(0.97, "solving at the best numbers")
        solution = solution_on(fine, made)
        report(1.0, "done")
    return _told(family, trials, found, solution, measure, searched)


def most_solves(size: int) -> int:
    """Of so many numbers, with the one of the answer."""
    return 15 if size == 1 else 9 * size + 1


def finer(trials: Trials, family: Family, numbers: dict[str, float], near: Trial, rough: Common, rtol: float) -> Common:
    """The plan for the last solves: the rough one where it is accurate enough, as `near` tells, with nothing compiled anew; else what a
    solve of `numbers` plans, on no fewer cells."""
    if rough.plan is None or near.se <= rtol * near.scale:
        return replace(rough, rtol=rtol)
    planned = enough(trials.plan(family, numbers, rtol, rough.seed, rough.method))
    assert planned.plan is not None
    return replace(planned, plan=replace(planned.plan, cells=max(planned.plan.cells, rough.plan.cells)))


def _told(family: Family, trials: Trials, found: Optimum, solution: Any, measure: Measure, searched: int) -> Tuned:
    ds = solution.dataset
    weights = measure.weights(ds["time"].values, ds[measure.curve].values)
    numbers = family.numbers(found.u)
    value_se = float(ds[measure.curve + "_se"].values @ np.abs(weights))
    ends = [found.flat(i, value_se) for i in range(len(found.u))]
    errors = {axis.name: float(axis.slope(u) * se) for axis, u, se in zip(family.axes, found.u, found.se, strict=True)}
    flat = {axis.name: (axis.number(low), axis.number(high)) for axis, (low, high) in zip(family.axes, ends, strict=True)}
    return Tuned(
        parameters=numbers,
        parameters_se=errors,
        value=float(ds[measure.curve].values @ weights),
        value_se=value_se,
        flat=flat,
        time=float(ds["time"].values @ weights),
        objective=measure.curve,
        at=measure.at,
        trained=str(family.clock),
        notes=tuple(_notes(family.axes, found)),
        searched=searched,
        profiles=_profiles(family, found),
        scales={axis.name: (axis.low, axis.high, axis.scale) for axis in family.axes},
        trials=trials.dataset(),
        solution=solution,
    )


def _profiles(family: Family, found: Optimum) -> dict[str, tuple[list[float], list[float]]]:
    """By name numbers, and the objective at them with the others at their best."""
    drawn = {axis.name: (axis, *found.along(i, DRAWN)) for i, axis in enumerate(family.axes)}
    return {name: ([axis.number(u) for u in places], values.tolist()) for name, (axis, places, values) in drawn.items()}


def _notes(axes: tuple[Axis, ...], found: Optimum) -> list[str]:
    """What the numbers do not say by themselves."""
    notes = []
    for axis, held, unsure, u in zip(axes, found.at_bound, found.unsure, found.u, strict=True):
        if held:
            which = "lower" if u < 0.5 else "upper"
            notes.append(f"{axis.name} is at its {which} bound: beyond it the risk may be less.")
        elif unsure:
            notes.append(f"{axis.name}: no minimum is seen next to the best value tried, so its error is not known.")
    return notes


def check_rtol(rtol: Any) -> float:
    if not (isinstance(rtol, (int, float)) and 0 < rtol < 1):
        raise refuse("rtol", "lie in (0, 1)", rtol, "0.01 asks for errors below 1% of each curve's scale")
    return number("rtol", rtol)


def _identity(family: Family, measure: Measure, rtol: float, seed: int, method: str) -> str:
    """All that the numbers depend on, for a file to continue from. Functions are told apart by what they make in the middle."""
    problem, dynamics, horizon = family.extremes()[0]
    told = identify(problem, dynamics, horizon, rtol, seed, np.zeros(1), method)
    told |= {"bounds": repr(family.axes), "clock": repr(family.clock), "measure": repr(measure)}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:24]
