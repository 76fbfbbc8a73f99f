"""The limit from real runs: means over runs of two sizes, extrapolated in `1/d`. No kernels.

Where training is long and chaotic a march amplifies what its few samples get wrong, for each kernel feeds on the others. Runs of finite
size are consistent whatever they are, and their means miss the limit by `b/d + O(d^-2)`. Two sizes a factor four apart take `b` away.
What is left is taken to be a part of what they took away, and is in the error.

Beyond the paper. Held against the closed form of ridge regression in `tests/test_by_runs.py`, and against kernels where these are cheap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import InputError
from ..learning.dynamics import SGD, SME, Dynamics, GradientFlow
from ..learning.problem import Problem
from ..results import Solution, curves_of
from ..spread import envelope, pooled, student
from .accuracy.budget import Budget, OutOfTime
from .accuracy.outcome import Replicated, scales, solution

NAME = "runs"
APART = 4  # the larger size over the smaller one
SMALLEST, LARGEST = 512, 2**14  # of the larger one: where it begins, and the most
SEARCHED = 0.25  # part of a size by which another is taken that has nearly whole numbers of samples, and of features to each eigenvalue
FIRST = 8  # runs of the larger size that plan the others; of the smaller one there are twice as many, which costs least
TELLING = 32  # runs that tell their spread: the worst of what eight tell, over times and curves, is too large more often than too small
MOST = 2**14  # runs of the larger size
STEPPED = 3e-3  # of a curve's scale: what the time steps of a diffusion miss, see `simulate.sme`
ROUNDING = 1e-12
WORTH, TRIED, RATHER = 20.0, 0.15, 0.5  # seconds from which on runs are tried, the part of them that this may take, and what they must save
REMAINDER = 0.25  # of what the extrapolation adds
SHARE = 0.35  # of `rtol`, for that remainder
AIM = 0.8  # of `rtol`, for the spread over runs
AGAIN, MORE = 1.1, 4  # times what is missing, when a plan fell short, and times as many runs at most
NEARBY = 0.1  # of the horizon, over which an error in time is taken together
# Seconds of one core for a number of a pass over the data, of a step, of a feature of every sample that is drawn, and of a run.
PASS = {SGD: 3e-9, SME: 1.6e-9, GradientFlow: 3e-10}
STEP, DRAWN, RUN = 1e-6, 1e-8, 1.5e-2


@dataclass
class Size:
    """All runs of one size: how many, their mean, and the variance of one of them."""

    features: int
    runs: int = 0
    batches: int = 0
    mean: dict[str, np.ndarray] = field(default_factory=dict)
    variance: dict[str, np.ndarray] = field(default_factory=dict)
    ended: float | None = None
    steps: int = 0

    def add(self, dataset: Any, runs: int, ended: float | None, steps: int) -> None:
        """A batch of runs, as far as all of them got."""
        reached = min([dataset.sizes["time"], *(len(values) for values in self.mean.values())])
        before, freedom = self.runs, (self.runs - self.batches, runs - 1)
        for name in curves_of(dataset):
            mean, variance = dataset[name].values[:reached], runs * dataset[f"{name}_se"].values[:reached] ** 2
            if before:
                mean = (before * self.mean[name][:reached] + runs * mean) / (before + runs)
                variance = (freedom[0] * self.variance[name][:reached] + freedom[1] * variance) / sum(freedom)
            self.mean[name], self.variance[name] = mean, variance
        self.runs, self.batches, self.steps = before + runs, self.batches + 1, steps
        if ended is not None:
            self.ended = ended if self.ended is None else min(ended, self.ended)


@dataclass(frozen=True)
class RunsLaw:
    """What runs do not tell, in a sentence."""

    def _refuse(self, *_: Any) -> Any:
        raise InputError(
            "`solution` must have kernels for paths and averages, but its curves are extrapolated from real runs (solve with another"
            " `method`, or take the paths and averages of simulate)"
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
        self.drawn = 0  # batches of random numbers
        self.begin(SMALLEST)

    def begin(self, larger: int) -> None:
        """With no runs, at about this size."""
        self.small = Size(self._whole(larger // APART))
        self.large = Size(APART * self.small.features)

    def _whole(self, features: int) -> int:
        """A size not much larger at which samples, and features to each eigenvalue, are nearly whole numbers: what they miss is no power
        of `1/d`."""
        least = 2 * (self.problem.k + self.problem.k_star) + 10
        some = np.arange(max(features, least), max(int((1.0 + SEARCHED) * features), least) + 1)
        return int(some[np.argmin([self._unequal(int(d)) for d in some])])

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

    def _run(self, size: Size, runs: int) -> None:
        """So many more runs of a size, or as many as the budget allows."""
        from ..simulate.core import trainings  # a solve seldom needs them

        seed = int(np.random.SeedSequence(self.seed, spawn_key=(0x2075, self.drawn)).generate_state(1)[0])
        self.drawn += 1

        def told(fraction: float, words: str) -> None:
            self.budget.watch()
            self.report(0.99 * fraction, f"{runs} runs of {size.features} features")

        made, done = None, 1
        every = trainings(
            self.problem, self.dynamics, self.horizon, size.features, repeats=runs, seed=seed, times=self.outputs, progress=told
        )
        try:
            for so_far in every:
                made, done = so_far, done + 1
        except OutOfTime:
            if made is None:
                raise
        assert made is not None
        found = made()
        reached = found.dataset["time"].values
        ended = float(self.outputs[len(reached)]) if len(reached) < len(self.outputs) else None
        size.add(found.dataset, done, ended, int(found.diagnostics["steps"]))

    def more(self, runs: int) -> None:
        """More runs, so that the larger size has so many and the smaller one twice as many."""
        for size, wanted in ((self.small, 2 * runs), (self.large, runs)):
            if wanted > size.runs:
                self._run(size, max(wanted - size.runs, 2))

    def pilot(self, seconds: float = np.inf) -> bool:
        """The first runs, at a size large enough for eigenvalues to have features; not where they take longer than so many `seconds`."""
        while not np.isfinite(self._unequal(self.small.features)) and self.large.features < LARGEST:
            self.begin(2 * self.large.features)
        if not self.small.runs:
            self._run(self.small, 2)
        if self._costs(self.large.features, FIRST) > seconds:
            return False
        self.more(FIRST)
        return True

    def cheaper(self, seconds: float) -> bool:
        """Whether they keep the promise for clearly less than so many seconds of one core."""
        if seconds < WORTH:
            return False
        try:
            if not self.large.runs and not self.pilot(TRIED * seconds):
                return False
        except (OutOfTime, InputError):
            return False
        features, runs = self.planned()
        return self._ended is None and runs < MOST and self._costs(features, runs) < RATHER * seconds

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
            errors[name] = np.hypot(self._spread(name, times), REMAINDER * envelope(added, times, NEARBY * self.horizon))
        for name, size in scales(self.problem, curves).items():
            errors[name] = np.hypot(errors[name], self._stepped * size) * (errors[name] > ROUNDING * size)
        if times[0] == 0.0:  # a training sample is a fresh one
            for part in (curves, errors):
                part["train_risk"][0] = part["test_risk"][0]
        effort = {"n_features": self.large.features, "runs": self.large.runs, "smaller_runs": self.small.runs}
        return Replicated(times, curves, errors, {}, effort, self._ended, law=RunsLaw())

    @property
    def _stepped(self) -> float:
        """What the time steps of runs miss, as a part of a curve's scale."""
        return STEPPED if isinstance(self.dynamics, SME) or (self.dynamics.temperature and isinstance(self.dynamics, GradientFlow)) else 0.0

    @property
    def _ended(self) -> float | None:
        """When the first of all runs blew up."""
        return min((size.ended for size in (self.small, self.large) if size.ended is not None), default=None)

    def _spread(self, name: str, times: np.ndarray) -> np.ndarray:
        """Standard error of the extrapolated mean, over runs."""
        parts = []
        for size, weight in ((self.large, APART / (APART - 1.0)), (self.small, 1.0 / (APART - 1.0))):
            one = size.variance[name][: len(times)] * student(size.runs - size.batches + 1) ** 2 / size.runs
            parts.append(weight**2 * one)
        return pooled(np.sqrt(sum(parts)), times, self.horizon)

    def _costs(self, features: int, runs: int) -> float:
        """Seconds of one core for so many runs of the larger size and twice as many of the smaller one, by sizes and not by clocks."""
        return runs * (self._seconds(features) + 2.0 * self._seconds(features // APART))

    def _seconds(self, features: int) -> float:
        """Of one run, by how many steps others took."""
        known = self.large if self.large.runs else self.small
        n, k, steps = self.problem.sample_ratio * features, self.problem.k, known.steps
        each = PASS[type(self.dynamics)] * k * features
        taken = steps * features / known.features * (STEP + each) if isinstance(self.dynamics, SGD) else steps * n * each
        return RUN + DRAWN * n * features + taken

    def planned(self) -> tuple[int, int]:
        """The larger size, for the remainder to be small enough, and how many runs of it, for the spread."""
        found = self.estimate
        size = scales(self.problem, found.curves)
        worst = lambda part: max(float(part(name).max()) / size[name] for name in found.curves)
        added = worst(lambda name: np.abs(found.curves[name] - self.large.mean[name][: len(found.times)]))
        spread = worst(lambda name: self._spread(name, found.times))
        features, runs = self.large.features, self.large.runs
        while REMAINDER * added > SHARE * self.rtol and features < LARGEST and self._fits(2 * features):
            features, added, spread = 2 * features, added / 2.0, spread / np.sqrt(2.0)
        needed = int(np.ceil(runs * (spread / (AIM * self.rtol)) ** 2))
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
        yield self.estimate
        features, runs = self.planned()
        if features > self.large.features:
            self.begin(features)
        runs = min(runs, TELLING)
        while True:
            self.more(max(runs, self.large.runs))
            found = self.estimate
            yield found
            error = found.worst(self.problem)
            if error <= self.rtol or self.large.runs >= MOST or found.ended is not None:
                return
            runs = min(int(np.ceil(AGAIN * self.large.runs * (error / self.rtol) ** 2)), MORE * self.large.runs, MOST)


def better(runs: Runs, found: Solution, began: tuple[float, float]) -> Solution:
    """The limit from runs where that is more accurate than what kernels have `found`."""
    other = solve(runs, "kernels would take longer: what few samples get wrong grows with time", began)
    return other if other.diagnostics["error"] < found.diagnostics["error"] else found


def solve(runs: Runs, why: str, began: tuple[float, float]) -> Solution:
    """The limit from runs whose pilot is done, or not yet."""
    found = deque(runs.budget.in_time(runs.answers()), maxlen=1).pop()
    large = found.effort["n_features"]  # of this answer: larger ones may have been begun, and not been done in time
    found = replace(found, more={"method_why": why, "features": f"{large // APART} and {large}, extrapolated"})
    return solution(found, runs.problem, runs.dynamics, runs.horizon, runs.rtol, runs.seed, NAME, began)
