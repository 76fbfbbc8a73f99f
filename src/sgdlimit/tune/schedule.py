"""`tune_schedule`: the best step as a smooth function of time at a fixed number of epochs, against other forms, each at its own best."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from ..errors import refuse
from ..learning.problem import Problem
from ..learning.risk import TestRisk
from ..results.tuned import Rival, TunedSchedule
from ..spread import spread
from ..theory.accuracy.checkpoint import identify
from ..theory.paired import Common, first_plan, one_method, solution_on
from . import forms
from .descend import Height, descend, nearby
from .forms import Form
from .numbers import MOST_ROUGH, ROUGH, check_rtol, finer
from .space import Clock, Family, axes_of
from .trials import GAIN, Kept, Measure, Trial, Trials

MOST_KNOTS = 12
DRAWN = 101  # times of a rival's schedule that are kept for pictures
USUAL = (0.05, 4.0)  # constant steps looked at, over the curvature of the risk at the start
RADIUS, FINAL = 0.12, 0.012  # of the range of a knot's step, a factor of 360


class FormFamily(Family):
    """Schedules of one form, as the settings of the theory."""

    def __init__(self, problem: Problem, train: Callable[..., Any], form: Form, clock: Clock):
        lasting = float(clock.epochs or 0.0) * problem.sample_ratio
        self.schedule = lambda numbers: form.step(lasting, numbers)
        super().__init__(problem, lambda **numbers: train(self.schedule(numbers)), form.axes, clock, form.name)


def tune_schedule(
    problem: Problem,
    dynamics: Callable[..., Any],
    epochs: float,
    knots: int = 6,
    objective: str = "test_risk",
    at: str = "end",
    *,
    rivals: bool = True,
    steps: Sequence[float] | None = None,
    rtol: float = 0.01,
    seed: int = 0,
    method: str = "auto",
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[float, str], object] | None = None,
) -> TunedSchedule:
    """The step as a function of time with which theory has the least risk after a fixed number of epochs.

        best = sl.tune_schedule(problem, sl.SGD, epochs=3, knots=6)
        theory = sl.solve(problem, sl.SGD(best.schedule), best.horizon)

    The logarithm of the step is smooth through `knots` values at evenly spread parts of the epochs (`sl.schedules.Knots`). These are tuned
    from the best constant step on by SciPy's COBYQA, with solves on common random numbers; on the clock of epochs the times of jumps do not
    depend on the steps, so that the risk is a smooth function of them.

    Arguments:
        problem: what is learnt.
        dynamics: from a step to what trains: `sl.SGD`, or `lambda step: sl.SGD(step, sampling="reshuffle")`. `GradientFlow` has no step.
        epochs: how long is trained, also under the rivals: the number of gradients is what is given, not the time `t`.
        knots: how many values are tuned, two to twelve.
        objective, at: as of `tune`.
        rivals: also tune a constant step, cosine, linear, `1/t` and warm-up-stable-decay, each by itself; else the constant alone.
        steps: `(low, high)` of the constant steps looked at; by default 0.05 to 4 over the curvature of the risk at the start.
        rtol, seed, method, checkpoint, progress: as of `tune`.

    Returns:
        TunedSchedule: `schedule`, `horizon`, `value` with `value_se`, `rivals`, `comparison` (a dataset), `table` and `solution`. `print`
        tells it in words.

    Raises:
        InputError: an argument is wrong.
        SolveError: training diverges wherever it was tried, or the answer was not reached to `rtol`.
    """
    if isinstance(knots, bool) or not isinstance(knots, (int, np.integer)) or not 2 <= knots <= MOST_KNOTS:
        raise refuse("knots", f"be a whole number from 2 to {MOST_KNOTS}", knots)
    if not isinstance(problem, Problem):
        raise refuse("problem", "be a sl.Problem", problem)
    try:
        dynamics(1.0)
    except TypeError:
        raise refuse("dynamics", "be a function of a step", dynamics, 'sl.SGD, or lambda step: sl.SGD(step, "reshuffle")') from None
    clock, measure, rtol = Clock(epochs=epochs), Measure(objective, at), check_rtol(rtol)
    low, high = _steps(problem, steps, seed)
    tuning = _Tuning(problem, dynamics, clock, measure, rtol, int(seed), method, checkpoint, progress or (lambda fraction, text: None))
    return tuning.run(forms.constant(low, high), int(knots), rivals)


def _steps(problem: Problem, steps: Any, seed: int) -> tuple[float, float]:
    """The range of constant steps."""
    if steps is None:
        curvature = max(TestRisk(problem, seed).curvature(), 1e-6)
        return USUAL[0] / curvature, USUAL[1] / curvature
    if isinstance(steps, str) or not isinstance(steps, Sequence) or len(steps) != 2:
        raise refuse("steps", "be (low, high)", steps)
    (axis,) = axes_of({"steps": (*steps, "log")})
    return axis.low, axis.high


class _Tuning:
    """One call of `tune_schedule`."""

    def __init__(self, problem, train, clock, measure, rtol, seed, method, checkpoint, report):
        self.problem, self.train, self.clock, self.measure, self.rtol, self.seed = problem, train, clock, measure, rtol, seed
        self.method, self.report, self.checkpoint = method, report, checkpoint

    def family(self, form: Form) -> FormFamily:
        return FormFamily(self.problem, self.train, form, self.clock)

    def run(self, constant: Form, count: int, with_rivals: bool) -> TunedSchedule:
        first = self.family(constant)
        extremes = first.extremes()
        self.trials = Trials(self.measure, Kept(self.checkpoint, self._identity(extremes[0], constant, count)))
        expected = 15 + 14 * count + (80 if with_rivals else 0)
        self.trials.tell = lambda text: self.report(min(0.95 * len(self.trials.done) / expected, 0.95), text)
        self.method = one_method(extremes, self.method)
        self.rough = first_plan(extremes, max(self.rtol, min(ROUGH * self.rtol, MOST_ROUGH)), self.seed, self.method)
        place = descend(lambda u: self._try(first, u, self.rough), 1, self.seed)
        step = first.numbers(place)["step"]
        self.rough = first_plan([first.setting({"step": 1.5 * step})], self.rough.rtol, self.seed, self.method)  # on a grid for its horizon
        best = self.family(forms.knotted(count, step))
        start = np.array([axis.unit(step) for axis in best.axes])
        numbers = self._descend(best, start, 12 * count)
        fine = finer(self.trials, best, numbers, self.rough, self.rtol)
        numbers = self._polish(best, numbers, fine, 4 * count)
        found = self.trials.at(best, numbers, fine)
        others = [(first, self._polish(first, self._descend(first, place, 5), fine, 8))]
        for form in forms.rivals(step) if with_rivals else []:
            family = self.family(form)
            middle = np.array([0.5 if axis.name != "start" else axis.unit(step) for axis in form.axes])
            others.append((family, self._polish(family, self._descend(family, middle, 9 * len(middle)), fine, 8)))
        against = tuple(_rival(family, numbers, self.trials.at(family, numbers, fine), found) for family, numbers in others)
        problem, dynamics, horizon = best.setting(numbers)
        self.report(0.97, "solving with the best schedule")
        solution = solution_on(fine, (problem, dynamics, horizon))
        self.report(1.0, "done")
        return self._told(best.schedule(numbers), horizon, solution, against)

    def _try(self, family: FormFamily, u: np.ndarray, plan: Common) -> Trial:
        return self.trials.at(family, family.numbers(u), plan)

    def _descend(self, family: FormFamily, start: np.ndarray, most: int) -> dict[str, float]:
        """The best numbers of the rough plan, from `start`."""
        attempt = lambda u: self._try(family, u, self.rough)
        height = Height(attempt, [*self.trials.done, attempt(start)])
        return family.numbers(nearby(height, start, RADIUS, FINAL, most))

    def _polish(self, family: FormFamily, numbers: dict[str, float], fine: Common, most: int) -> dict[str, float]:
        """The best numbers of the final plan, near those of the rough one."""
        if (fine.plan, fine.stage) == (self.rough.plan, self.rough.stage) and fine.plan is not None:
            return numbers
        attempt = lambda u: self._try(family, u, fine)
        start = np.array([axis.unit(numbers[axis.name]) for axis in family.axes])
        height = Height(attempt, [*self.trials.done, attempt(start)])
        return family.numbers(nearby(height, start, 0.5 * RADIUS, FINAL, most))

    def _identity(self, setting: Any, constant: Form, count: int) -> str:
        if self.checkpoint is None:
            return ""
        told = identify(setting[0], setting[1], setting[2], self.rtol, self.seed, np.zeros(1), self.method)
        told |= {"steps": repr(constant.axes), "knots": str(count), "clock": repr(self.clock), "measure": repr(self.measure)}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:24]

    def _told(self, schedule: Any, horizon: float, solution: Any, against: tuple[Rival, ...]) -> TunedSchedule:
        ds, curve = solution.dataset, self.measure.curve
        weights = self.measure.weights(ds["time"].values, ds[curve].values)
        return TunedSchedule(
            schedule=schedule,
            epochs=float(self.clock.epochs or 0.0),
            horizon=horizon,
            value=float(ds[curve].values @ weights),
            value_se=float(ds[curve + "_se"].values @ np.abs(weights)),
            rivals=against,
            objective=curve,
            at=self.measure.at,
            time=float(ds["time"].values @ weights),
            trials=self.trials.dataset(),
            solution=solution,
        )


def _brief(schedule: Any) -> str:
    """A schedule in words, with few digits."""
    if isinstance(schedule, float):
        return f"{schedule:.4g}"
    values = ((one.name, getattr(schedule, one.name), one.default) for one in fields(schedule))
    told = (f"{name}={value:.4g}" for name, value, usual in values if value != usual)
    return f"{type(schedule).__name__}({', '.join(told)})"


def _rival(family: FormFamily, numbers: dict[str, float], trial: Trial, best: Trial) -> Rival:
    """A form at its best numbers against the best schedule, paired."""
    above = trial.value - best.value
    if len(trial.each) == len(best.each) > 1:
        noise = float(spread(np.array(trial.each) - np.array(best.each)))
    else:
        noise = float(np.hypot(trial.se, best.se))
    noise = float(np.hypot(noise, (above - (trial.coarser - best.coarser)) / GAIN))
    schedule: Any = family.schedule(numbers)
    constant = isinstance(schedule, float)
    times = np.linspace(0.0, trial.horizon, 2 if constant else DRAWN).tolist()
    return Rival(
        name=family.name,
        schedule=_brief(schedule),
        numbers=dict(numbers),
        value=trial.value,
        value_se=trial.se,
        above=above,
        above_se=noise,
        times=tuple(times),
        steps=tuple(schedule if constant else schedule(t) for t in times),
    )
