"""`tune_schedule`: the best step as a smooth function of time at a fixed number of epochs, against other forms, each at its own best."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from ..errors import refuse
from ..learning.problem import Problem
from ..learning.risk import TestRisk
from ..results.tuned import Rival, TunedSchedule
from ..show.words import spoken
from ..spread import spread
from ..theory.accuracy.checkpoint import identify
from ..theory.paired import Common, first_plan, one_method, solution_on
from . import forms
from .descend import Height, nearby
from .forms import Form
from .numbers import MOST_ROUGH, ROUGH, WORTH, check_rtol, finer
from .search import search
from .space import Clock, Family, axes_of
from .trials import GAIN, Kept, Measure, Together, Trial, Trials

MOST_KNOTS = 12
DRAWN = 101  # times of a rival's schedule that are kept for pictures
USUAL = (0.05, 4.0)  # constant steps looked at, over the curvature of the risk at the start
FRESH = 7919  # added to the seed for random numbers that nothing was tuned on
SURE = 2.0  # errors that a gain is beyond
CLEAR, LITTLE, MOST_LOOKS = 3.0, 3e-4, 8  # more replicates until a gain is clear, or its error little of the risk
RADIUS, FINAL = 0.12, 0.012  # of the range of a knot's step, a factor of 360


class FormFamily(Family):
    """Schedules of one form, as the settings of the theory."""

    def __init__(self, problem: Problem, train: Callable[..., Any], form: Form, clock: Clock):
        self.form, self.lasting = form, float(clock.epochs or 0.0) * problem.sample_ratio
        super().__init__(problem, lambda **numbers: train(self.schedule(numbers)), form.axes, clock, form.name)

    def schedule(self, numbers: Mapping[str, float]) -> Any:
        return self.form.step(self.lasting, dict(numbers))


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
    together: Together | None = None,
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
        rtol, seed, method, checkpoint, progress, together: as of `tune`.

    The forms are compared on random numbers on which none was tuned. A schedule that gains no more than two errors over the best constant
    step is not given, but the constant is, and `notes` say so. To establish small gains takes a small `rtol`: 0.5% of the risk takes 0.005.

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
    tuning.together = together
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
        self.together: Together | None = None

    def family(self, form: Form) -> FormFamily:
        return FormFamily(self.problem, self.train, form, self.clock)

    def run(self, constant: Form, count: int, with_rivals: bool) -> TunedSchedule:
        first = self.family(constant)
        extremes = first.extremes()
        self.trials = Trials(self.measure, Kept(self.checkpoint, self._identity(extremes[0], constant, count)), self.together)
        expected = 25 + 14 * count + (80 if with_rivals else 0)
        self.trials.tell = lambda text: self.report(min(0.95 * len(self.trials.done) / expected, 0.95), text)
        self.method = one_method(extremes, self.method)
        self.rough = first_plan(extremes, max(self.rtol, min(ROUGH * self.rtol, MOST_ROUGH)), self.seed, self.method)
        seen = search(self.trials.attempts(first, self.rough), 1, self.seed, WORTH * self.rtol, 4)
        step = first.numbers(seen.surface.least(seen.rng))["step"]
        self.rough = first_plan([first.setting({"step": 1.5 * step})], self.rough.rtol, self.seed, self.method)  # on a grid for its horizon
        best = self.family(forms.knotted(count, step))
        flat = lambda step: {axis.name: float(step) for axis in best.axes}
        numbers = self._descend(best, flat(step), 12 * count)
        fine = finer(self.trials, best, numbers, self.trials.at(best, numbers, self.rough), self.rough, self.rtol)
        others = [(first, self._polish(first, self._descend(first, {"step": step}, 5), fine, 8))]
        for form in forms.rivals(step) if with_rivals else []:
            family = self.family(form)
            middle = {axis.name: step if axis.name == "start" else axis.number(0.5) for axis in form.axes}
            others.append((family, self._polish(family, self._descend(family, middle, 9 * len(middle)), fine, 8)))
        step = others[0][1]["step"]
        starts = [numbers, flat(step), *(_at_knots(family.schedule(at), best) for family, at in others[1:])]
        self.trials.all_at(best, starts, fine)
        numbers = self._polish(best, min(starts, key=lambda at: self._height(best, at, fine)), fine, 4 * count)
        return self._judged(best, numbers, flat(step), others, fine)

    def _judged(self, best: FormFamily, numbers: dict, flat: dict, others: list, fine: Common) -> TunedSchedule:
        """The schedule, if it gains more over the constant than its error; else the constant. On other random numbers than those that it
        was tuned on, which flatter it."""
        notes, (constant, step), looks = [], others[0], 1
        while True:
            found = self._fresh(best, numbers, fine, looks)
            gain, error = paired_rise(self._fresh(constant, step, fine, looks), found)
            if fine.plan is None or looks == MOST_LOOKS or abs(gain) > CLEAR * error or error < LITTLE * abs(found.value):
                break
            looks *= 2
        if not gain > SURE * error:
            told = spoken(gain, error)
            notes.append(f"No schedule found gains more than its error ({told}) over the constant step, so the constant is given.")
            found, numbers = self._fresh(best, flat, fine, looks), flat
        trials = [self._fresh(family, at, fine, looks) for family, at in others]
        trials[0] = found if numbers is flat else trials[0]
        against = tuple(_rival(family, at, trial, found) for (family, at), trial in zip(others, trials, strict=True))
        better = [one for one in against if one.above < -SURE * one.above_se]
        notes += [f"{one.name} has less risk still, by {spoken(-one.above, one.above_se)}." for one in better]
        setting = best.setting(numbers)
        self.report(0.97, "solving with the best schedule")
        solution = solution_on(self._unseen(fine, 0), setting)
        self.report(1.0, "done")
        return self._told(best.schedule(numbers), setting[2], solution, against, gain=gain, gain_se=error, notes=tuple(notes))

    def _unseen(self, fine: Common, i: int) -> Common:
        """The final plan with random numbers on which nothing was tuned."""
        return fine if fine.plan is None else replace(fine, seed=self.seed + FRESH * (i + 1))

    def _fresh(self, family: FormFamily, numbers: dict[str, float], fine: Common, looks: int) -> Trial:
        """A form on so many times the replicates of the final plan."""
        return together([self.trials.at(family, numbers, self._unseen(fine, i)) for i in range(looks)])

    def _height(self, family: FormFamily, numbers: dict[str, float], plan: Common) -> float:
        trial = self.trials.at(family, numbers, plan)
        return trial.value if trial.good else np.inf

    def _try(self, family: FormFamily, u: np.ndarray, plan: Common) -> Trial:
        return self.trials.at(family, family.numbers(u), plan)

    def _descend(self, family: FormFamily, numbers: dict[str, float], most: int) -> dict[str, float]:
        """The best numbers of the rough plan, from these on."""
        return self._nearby(family, numbers, self.rough, RADIUS, most)

    def _polish(self, family: FormFamily, numbers: dict[str, float], fine: Common, most: int) -> dict[str, float]:
        """The best numbers of the final plan, near those of the rough one."""
        if (fine.plan, fine.stage) == (self.rough.plan, self.rough.stage) and fine.plan is not None:
            return numbers
        return self._nearby(family, numbers, fine, 0.5 * RADIUS, most)

    def _nearby(self, family: FormFamily, numbers: dict[str, float], plan: Common, radius: float, most: int) -> dict[str, float]:
        attempt = lambda u: self._try(family, u, plan)
        start = np.clip([axis.unit(numbers[axis.name]) for axis in family.axes], 0.0, 1.0)
        height = Height(attempt, [*self.trials.done, attempt(start)])
        return family.numbers(nearby(height, start, radius, FINAL, most))

    def _identity(self, setting: Any, constant: Form, count: int) -> str:
        if self.checkpoint is None:
            return ""
        told = identify(setting[0], setting[1], setting[2], self.rtol, self.seed, np.zeros(1), self.method)
        told |= {"steps": repr(constant.axes), "knots": str(count), "clock": repr(self.clock), "measure": repr(self.measure)}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:24]

    def _told(self, schedule: Any, horizon: float, solution: Any, against: tuple[Rival, ...], **told: Any) -> TunedSchedule:
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
            **told,
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


def _at_knots(schedule: Any, best: FormFamily) -> dict[str, float]:
    """What another form's schedule is at evenly spread parts of the epochs."""
    duration = schedule.duration if hasattr(schedule, "duration") else schedule.time
    times = np.linspace(0.0, duration, DRAWN)
    steps = np.array([schedule(float(t)) for t in times])
    passed = np.concatenate([[0.0], np.cumsum(0.5 * (1.0 / steps[1:] + 1.0 / steps[:-1]) * np.diff(times))])
    parts = np.linspace(0.0, passed[-1], len(best.axes))
    return {axis.name: float(np.exp(np.interp(part, passed, np.log(steps)))) for axis, part in zip(best.axes, parts, strict=True)}


def together(trials: list[Trial]) -> Trial:
    """One solve on the replicates of several."""
    mean = lambda name: float(np.mean([getattr(one, name) for one in trials]))
    sampling = np.sqrt(max(mean("se") ** 2 - mean("discretisation") ** 2, 0.0) / len(trials))
    each = [value for one in trials for value in one.each]
    parts = {name: mean(name) for name in ("value", "coarser", "discretisation")}
    return replace(trials[0], each=each, se=float(np.hypot(sampling, parts["discretisation"])), **parts)


def paired_rise(one: Trial, other: Trial) -> tuple[float, float]:
    """By how much a trial is above another on the same random numbers, and the error of that."""
    above = one.value - other.value
    if len(one.each) == len(other.each) > 1:
        noise = float(spread(np.array(one.each) - np.array(other.each)))
    else:
        noise = float(np.hypot(one.se, other.se))
    return above, float(np.hypot(noise, (above - (one.coarser - other.coarser)) / GAIN))


def _rival(family: FormFamily, numbers: dict[str, float], trial: Trial, best: Trial) -> Rival:
    """A form at its best numbers against the best schedule, paired."""
    above, noise = paired_rise(trial, best)
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
