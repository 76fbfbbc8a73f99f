"""The limit from real runs: means over runs of two sizes, extrapolated in `1/d`. No kernels.

Where training is long and chaotic a march amplifies what its few samples get wrong, for each kernel feeds on the others. Runs of finite
size are consistent whatever they are, and their means miss the limit by `b/d + O(d^-2)`. Two sizes a factor four apart take `b` away.
What is left is taken to be a part of what they took away, and is in the error.

Beyond the paper. Held against the closed form of ridge regression in `tests/test_by_runs.py`, and against kernels where these are cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import InputError
from ..learning.dynamics import SGD, SME, Dynamics, GradientFlow
from ..learning.problem import Problem
from ..learning.risk import TestRisk
from ..results import Solution
from ..spread import envelope, pooled, student
from .accuracy.budget import Budget, OutOfTime
from .accuracy.outcome import Replicated, scales, solution

NAME = "runs"
LONGER = "kernels would take longer: what few samples get wrong grows with time"
LOST = "a few samples out of thousands would make the averages that kernels ask for"
APART = 4  # the larger size over the smaller one
ADDED, EXTRAPOLATED = (1.0 / (APART - 1.0), 1.0 / (APART - 1.0)), (APART / (APART - 1.0), 1.0 / (APART - 1.0))  # weights of their means
SMALLEST, LARGEST = 256, 2**14  # of the larger one: where it begins, and the most
# Part of a size by which another may be larger that has nearly whole numbers of samples, and features of each eigenvalue; and what of such
# a number hardly matters.
SEARCHED, WHOLE = 0.6, 1e-3
# Runs of the larger size that plan the others: the worst of what eight tell of their spread, over times and curves, is too large more often
# than too small. Of the smaller size there are twice as many, which costs least.
FIRST = 32
MOST = 2**14  # runs of the larger size
# Of a curve's scale: what the time steps of a diffusion miss, see `simulate.sme`; and of `rtol`, for it: smaller ones miss less.
STEPPED, STEP_SHARE = 3e-3, 0.3
ROUNDING = 1e-12
# Seconds from which on runs are tried, the part of them that this may take, and that in which they are to be done: both costs are foreseen.
WORTH, TRIED, SURE = 2.5, 0.15, 0.55
# Of what the extrapolation adds, where the smaller size is the smallest there is; `1/d^2` beside `1/d` makes it less for larger ones.
REMAINDER = 0.25
SURELY = 2.5  # standard errors by which what it adds is more than chance, for a larger size to be taken
SHARE = 0.35  # of `rtol`, for that remainder
AIM = 0.8  # of `rtol`, for the spread over runs
AGAIN, MORE = 1.1, 4  # times what is missing, when a plan fell short, and times as many runs at most
# Times what predictions are at the start, where curvatures are looked at, and by how much the farther one is larger where a gradient grows
# faster than linearly: by their ratio, or its square.
FAR, FARTHER, LINEAR = 8.0, 64.0, 1.5
NEARBY = 0.1  # of the horizon, over which an error in time is taken together
# Seconds of one core for a number of a pass over the data, a step of a run alone or beside others (a sweep has one for every sample), a
# feature of every sample that is drawn, the loss at one time of a sample, or of one of the test risk's few points, and a run.
PASS = {SGD: 7.6e-10, SME: 4e-10, GradientFlow: 9e-11}
ALONE, BESIDE, DRAWN, SEEN, RUN = 7e-7, 5e-8, 2.5e-9, 8e-9, 2e-4


@dataclass
class Size:
    """All runs of one size: how they go on, and of those so far how many there are, of how many asked for, their curves, mean, the variance
    of one of them, what the points of their test risks miss, when the first of them blew up and how many steps they take."""

    features: int
    every: Iterator[tuple[dict[str, np.ndarray], Callable, float | None, int]]
    runs: int = 0
    wanted: int = 0
    curves: list[dict[str, np.ndarray]] = field(default_factory=list)
    mean: dict[str, np.ndarray] = field(default_factory=dict)
    variance: dict[str, np.ndarray] = field(default_factory=dict)
    missed: Any = 0.0
    ended: float | None = None
    steps: int = 0

    def more(self, runs: int) -> None:
        """Go on until there are so many, or as many as the budget allows."""
        from ..simulate.repeats import together

        done, self.wanted, corrected = self.runs, max(runs, self.runs), None
        try:
            while done < runs:
                some = next(self.every, None)
                if some is None:  # the time was up before
                    raise OutOfTime
                curves, corrected, self.ended, self.steps = some
                self.curves.append(curves)
                done += len(curves["test_risk"])
        except OutOfTime:
            if done == self.runs:
                raise
        if corrected is not None:
            self.runs, self.curves = done, [together(self.curves)]
            self.mean = {name: values.mean(0) for name, values in self.curves[0].items()}
            self.mean["test_risk"], self.missed = corrected(self.mean)
            self.variance = {name: values.var(0, ddof=1) for name, values in self.curves[0].items()}


@dataclass(frozen=True)
class RunsLaw:
    """What runs do not tell, in a sentence."""

    def _refuse(self, *_: Any) -> Any:
        raise InputError(
            "`solution` must have kernels for paths and averages, but its curves are extrapolated from real runs (solve with"
            " method='kernels', or take the paths and averages of simulate)"
        )

    samples = coordinates = averaged = _refuse


class Runs:
    """Runs of one problem at two sizes, as many as it takes."""

    def __init__(
        self,
        problem: Problem,
        dynamics: Dynamics,
        horizon: float,
        rtol: float,
        seed: int,
        outputs: np.ndarray,
        report: Callable,
        budget: Budget,
    ):
        self.problem, self.dynamics, self.horizon, self.rtol, self.seed = problem, dynamics, float(horizon), rtol, int(seed)
        self.outputs, self.report, self.budget = outputs, report, budget
        self.begin(SMALLEST)

    def begin(self, larger: int) -> None:
        """With no runs, at about this size."""
        small = self._whole(larger // APART)
        self.small, self.large = (Size(features, self._every(features)) for features in (small, APART * small))

    def _whole(self, features: int) -> int:
        """A size not much larger at which samples, and features to each eigenvalue, are nearly whole numbers: what they miss is no power
        of `1/d`."""
        least = 2 * (self.problem.k + self.problem.k_star) + 10
        some = np.arange(max(features, least), max(int((1.0 + SEARCHED) * features), least) + 1)
        off = np.array([self._unequal(int(d)) for d in some])
        return int(some[np.argmax(off <= max(WHOLE, off.min()))])

    def _unequal(self, features: int) -> float:
        """How much the ratio of samples to features, and the weights of eigenvalues, are off at this size."""
        n = self.problem.sample_ratio * features
        off = abs(round(n) - n) / n
        spectrum = self.problem.spectrum
        if spectrum is None:
            return off
        try:
            counts = spectrum.counts(features)
        except InputError:  # too few features
            return np.inf
        return off + float(spectrum.eigenvalues @ np.abs(counts / features - spectrum.weights))

    def _every(self, features: int) -> Iterator[tuple[dict[str, np.ndarray], Callable, float | None, int]]:
        """Runs of a size, as many as are asked for."""
        from ..simulate.core import for_means  # a solve seldom needs them

        seed = int(np.random.SeedSequence(self.seed, spawn_key=(0x2075, features)).generate_state(1)[0])

        def told(fraction: float, words: str) -> None:
            self.budget.watch()
            wanted = (self.large if features == self.large.features else self.small).wanted
            self.report(min(fraction * 2 * MOST / wanted, 0.99), f"{wanted} runs of {features} features")

        yield from for_means(self.problem, self.dynamics, self.horizon, features, 2 * MOST, seed, self.outputs, self.rtol, self.step, told)

    def more(self, runs: int) -> None:
        """More runs, so that the larger size has so many and the smaller one twice as many."""
        self.small.more(2 * runs)
        self.large.more(runs)

    def pilot(self, seconds: float = np.inf) -> bool:
        """The first runs, at a size large enough for eigenvalues to have features; not where they take longer than so many `seconds`."""
        while not np.isfinite(self._unequal(self.small.features)) and self.large.features < LARGEST:
            self.begin(2 * self.large.features)
        if not self.small.runs:
            self.small.more(2)
        if self._costs(self.large.features, FIRST) > seconds:
            return False
        self.more(FIRST)
        return True

    def arrive(self) -> bool:
        """Whether there is a limit at all times, for gradients grow at most linearly, and the first runs come to the horizon."""
        risk = TestRisk(self.problem, 0)
        if risk.curvature(FARTHER) > LINEAR * risk.curvature(FAR):
            return False
        try:
            return bool(self.large.runs or self.pilot()) and self._ended is None
        except (OutOfTime, InputError):
            return False

    def cheaper(self, seconds: float, rtol: float) -> bool:
        """Whether they are as accurate as `rtol` for less than so many seconds of one core; their plans are cautious, those of kernels are
        not."""
        if seconds < WORTH:
            return False
        try:
            if not self.large.runs and not self.pilot(TRIED * seconds):
                return False
        except (OutOfTime, InputError):
            return False
        features, runs = self.planned(rtol)
        return self._ended is None and runs < MOST and self._costs(features, runs) < SURE * seconds

    @property
    def estimate(self) -> Replicated:
        """The limit, with its errors."""
        reached = min(len(size.mean["train_risk"]) for size in (self.small, self.large))
        times = self.outputs[:reached]
        curves, errors = {}, {}
        for name in self.large.mean:
            large, small = (size.mean[name][:reached] for size in (self.large, self.small))
            added = (large - small) / (APART - 1.0)
            curves[name] = large + added
            errors[name] = np.hypot(self._spread(name, times), self._remainder * envelope(added, times, NEARBY * self.horizon))
        for name, size in scales(self.problem, curves).items():
            errors[name] = np.hypot(errors[name], self._stepped * size) * (errors[name] > ROUNDING * size)
        if times[0] == 0.0:  # a training sample is a fresh one
            for part in (curves, errors):
                part["train_risk"][0] = part["test_risk"][0]
        effort = {"n_features": self.large.features, "runs": self.large.runs, "smaller_runs": self.small.runs}
        return Replicated(times, curves, errors, {}, effort, self._ended, law=RunsLaw())

    @property
    def _remainder(self) -> float:
        """Of what the extrapolation adds, the part that it may miss."""
        return REMAINDER * SMALLEST / max(self.large.features, SMALLEST)

    @property
    def _order(self) -> int:
        """Of what the time steps of runs miss, in their length; zero where they miss nothing."""
        if isinstance(self.dynamics, SME):
            return 2 if self.dynamics.plain else 1
        return int(isinstance(self.dynamics, GradientFlow) and self.dynamics.temperature > 0.0)

    @property
    def step(self) -> float:
        """Of the usual steps, so much."""
        return min(1.0, (STEP_SHARE * self.rtol / STEPPED) ** (1 / self._order)) if self._order else 1.0

    @property
    def _stepped(self) -> float:
        """What the time steps of runs miss, as a part of a curve's scale."""
        return STEPPED * self.step**self._order if self._order else 0.0

    @property
    def _ended(self) -> float | None:
        """When the first of all runs blew up."""
        return min((size.ended for size in (self.small, self.large) if size.ended is not None), default=None)

    def _spread(self, name: str, times: np.ndarray, weights: tuple[float, float] = EXTRAPOLATED) -> np.ndarray:
        """Standard error, over runs, of the larger size's mean times the first weight less the smaller one's times the second."""
        parts = []
        for size, weight in zip((self.large, self.small), weights, strict=True):
            one = size.variance[name][: len(times)] * student(size.runs) ** 2 / size.runs
            if name == "test_risk":
                one = one + size.missed[: len(times)] ** 2
            parts.append(weight**2 * one)
        return pooled(np.sqrt(sum(parts)), times, self.horizon)

    def _costs(self, features: int, runs: int) -> float:
        """Seconds of one core for so many runs of the larger size and twice as many of the smaller one, by sizes and not by clocks."""
        return runs * (self._seconds(features) + 2.0 * self._seconds(features // APART))

    def _seconds(self, features: int) -> float:
        """Of one run, by how many steps others took."""
        from ..simulate.beside import most
        from ..simulate.repeats import FEW

        known = self.large if self.large.runs else self.small
        n, k, steps = self.problem.sample_ratio * features, self.problem.k, known.steps
        visit = PASS[type(self.dynamics)] * k * features + (BESIDE if most(round(n), features, k) > 1 else ALONE)
        visits = steps * features / known.features if isinstance(self.dynamics, SGD) else steps * n
        return RUN + DRAWN * n * features + SEEN * k * len(self.outputs) * (n + FEW) + visits * visit

    def planned(self, rtol: float) -> tuple[int, int]:
        """For `rtol` the larger size, for the remainder to be small enough, and how many runs of it, for the spread."""
        found = self.estimate
        times, size = found.times, scales(self.problem, found.curves)
        worst = lambda part: max(float(part(name).max()) / size[name] for name in found.curves)
        chance = lambda name: SURELY * self._spread(name, times, ADDED)
        added = worst(lambda name: np.abs(found.curves[name] - self.large.mean[name][: len(times)]) - chance(name))
        spread = worst(lambda name: self._spread(name, times))
        features, runs, part = self.large.features, self.large.runs, self._remainder
        while part * added > SHARE * rtol and features < LARGEST and self._fits(2 * features):
            features, part, added, spread = 2 * features, part / 2.0, added / 2.0, spread / np.sqrt(2.0)
        needed = int(np.ceil(runs * (spread / student(runs) / (AIM * rtol)) ** 2))
        return features, min(max(needed, FIRST), MOST)

    def _fits(self, features: int) -> bool:
        """Whether there are memory, and time, for runs of so many features."""
        from ..simulate.core import plan

        if self._costs(features, FIRST) > self.budget.left:
            return False
        try:
            plan(self.problem, self.dynamics, self.horizon, features, times=self.outputs)
        except InputError:
            return False
        return True

    def answers(self) -> Iterator[Replicated]:
        """The pilot's, and each better one until the promise is kept.

        Raises:
            OutOfTime: the budget is spent.
        """
        if not self.large.runs:
            self.pilot()
        while True:
            found = self.estimate
            yield found
            error = found.worst(self.problem)
            if error <= self.rtol or self.large.runs >= MOST or found.ended is not None:
                return
            features, runs = self.planned(self.rtol)
            if features > self.large.features:
                self.begin(features)
                runs = FIRST
            else:
                runs = min(int(np.ceil(AGAIN * self.large.runs * (error / self.rtol) ** 2)), MORE * self.large.runs, MOST)
            self.more(runs)


def better(runs: Runs, found: Solution, began: tuple[float, float]) -> Solution:
    """The limit from runs where that is more accurate than what kernels have `found`."""
    other = solve(runs, LONGER, began)
    return other if other.diagnostics["error"] < found.diagnostics["error"] else found


def solve(runs: Runs, why: str, began: tuple[float, float]) -> Solution:
    """The limit from runs whose pilot is done, or not yet."""
    found = min(runs.budget.in_time(runs.answers()), key=lambda one: one.worst(runs.problem))  # the last, but where a budget ended them
    large = found.effort["n_features"]  # of this answer: larger ones may have been begun, and not been done in time
    found = replace(found, more={"method_why": why, "features": f"{large // APART} and {large}, extrapolated"})
    return solution(found, runs.problem, runs.dynamics, runs.horizon, runs.rtol, runs.seed, NAME, began)
