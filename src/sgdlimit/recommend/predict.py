"""Train and test risk as functions of step and time, for the problem that the data look like.

A sweep would take hundreds of solutions. Risks are smooth in the step, so a few do: under sampling with replacement, least squares is
averaged exactly (`linear`) and other losses are solved at three steps of the stochastic modified equation, which is what SGD
becomes at the small steps of interest, with a parabola in the step between them. What reshuffling changes is the ratio
of its theory to that with replacement at one or two steps; its logarithm vanishes with the step, and is interpolated likewise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from ..dynamics import SGD, SME
from ..errors import SolveError
from ..problem import GaussianTeacher, Init, NoNoise, Normal, Problem, Ridge, Uniform
from ..results import Solution
from ..spectrum import Spectrum
from ..theory import solve
from .drawn import DrawnPredictor
from .estimate import STRONGEST, Estimate, offset_for, strength
from .linear import POINTS, Curves, LinearTwin

Array = np.ndarray
Report = Callable[[float, str], None]

RTOL = 0.05  # of the curves' scale; errors are a few times less at the times that matter
STEPS = (0.1, 0.4, 1.0)  # of the sweep, times one over the mean curvature at the best time
RESHUFFLED = (0.25, 0.7)  # of the reshuffled theory, likewise
MOST_EPOCHS = 24  # of a reshuffled solution: its nodes follow the epochs
LONGEST = 80.0  # horizon that is solved; nodes follow it
FEWEST_SHARE = 1e-4  # signal below which there is nothing to learn


@dataclass(frozen=True)
class Setting:
    """The problem in numbers: what `Problem` is built from.

    Attributes:
        loss: "squared" or "logistic".
        estimate: of the data the problem is for; of labels with variance one for "squared".
        sample_ratio: `n / d`.
        size: standard deviation of `r*`.
        offset: intercept of the teacher, which the student has too; zero for "squared".
        positive: fraction of labels +1.
        clusters: whether the labels are more linear in the features than any logistic law of a Gaussian score allows: they are then taken
            as two Gaussian clouds.
    """

    loss: str
    estimate: Estimate
    n: int
    d: int
    size: float
    offset: float
    positive: float = 0.5
    clusters: bool = False

    @classmethod
    def of(cls, loss: str, estimate: Estimate, n: int, d: int, label_mean: float = 0.0) -> Setting:
        if loss == "squared":
            return cls(loss, estimate, n, d, float(np.sqrt(estimate.signal.sum())), 0.0)
        size, offset = 0.0, 0.0
        for _ in range(30):  # the intercept that gives the mean label depends on the size, and the other way round
            offset = offset_for(label_mean, size)
            size = strength(estimate.linear_share, offset)
        return cls(loss, estimate, n, d, size, offset, 0.5 * (1.0 + label_mean), size >= STRONGEST)

    @property
    def sample_ratio(self) -> float:
        return self.n / self.d

    @property
    def curvature(self) -> float:
        """Largest curvature of the loss, which is that at the start for balanced classes."""
        return 1.0 if self.loss == "squared" else 0.25

    def problem(self, ridge: float = 0.0) -> Problem:
        """The learning problem, from a start at zero."""
        e = self.estimate
        loss, label, noise = _model(self.loss, float(np.sqrt(e.noise)), self.offset)
        spectrum = None if len(e.eigenvalues) == 1 else Spectrum(e.eigenvalues, e.weights, e.teacher)
        teacher = GaussianTeacher([[max(self.size, 1e-6) ** 2]])
        return Problem(loss, label, noise, self.sample_ratio, teacher, Init([[0.0]], [[0.0]]), Ridge(ridge) if ridge else None, spectrum)


@lru_cache(maxsize=16)
def _model(loss: str, noise: float, offset: float) -> tuple[Callable, Callable, Any]:
    """Loss, label and noise; the same functions for the same numbers, so that what is compiled for one solution serves the next."""
    import jax.numpy as jnp

    if loss == "squared":
        law = Normal() if noise > 0 else NoNoise()
        return lambda r, y: 0.5 * (r[0] - y) ** 2, lambda r_star, z: r_star[0] + noise * z, law
    label = lambda r_star, z: jnp.where(r_star[0] + offset > jnp.log(z) - jnp.log1p(-z), 1.0, -1.0)
    return lambda r, y: jnp.logaddexp(0.0, -y * (r[0] + offset)), label, Uniform()


class Curved(Protocol):
    """What the advice needs of a predictor."""

    setting: Setting
    ridge: float
    times: Array
    largest_step: float
    best_time: float
    notes: list[str]

    def reshuffle(self, step: float) -> Curves: ...
    def replacement(self, step: float) -> Curves: ...


def predictor(setting: Setting, ridge: float, most_epochs: int, seed: int, report: Report) -> Curved:
    """Theory where it can be solved, training on drawn data where it would take too long."""
    longest = lambda step: most_epochs * step * setting.sample_ratio
    found = Predictor(setting, ridge, longest, seed, report)
    horizon = found.needed()
    if not setting.clusters and (setting.loss == "squared" or horizon <= LONGEST):
        found.solve()
        return found
    why = "the classes are two clusters, which it does not know" if setting.clusters else f"it would have to be solved to t = {horizon:.0f}"
    note = f"Curves are from training on data drawn from the estimated problem, not from the theory: {why}."
    return DrawnPredictor(setting, ridge, most_epochs, seed, report, [note])


class Predictor:
    """Risks at any step up to `largest_step` and any time up to `horizon`, both kinds of sampling.

    Attributes:
        times: `(T,)`, from 0 to the horizon, on which `replacement` and `reshuffle` give their curves.
        best_time: where the test risk of a small step is least.
        notes: what could not be computed, in words.
    """

    def __init__(self, setting: Setting, ridge: float, longest: Callable[[float], float], seed: int, report: Report):
        """`longest(step)` is the time that the epochs allowed take."""
        self.setting, self.ridge, self.seed, self.report = setting, ridge, seed, report
        self.notes: list[str] = []
        self._with_replacement: Callable[[float], Curves]
        proxy = LinearTwin(setting.estimate, setting.n, setting.d, seed)
        self.proxy = proxy
        long = np.concatenate([[0.0], np.geomspace(1e-3, 1e4, 300)])
        _, test = proxy.flow(long, ridge if setting.loss == "squared" else ridge / 0.2)
        self.linear_time = float(long[np.argmax(test <= 1.002 * test.min())])
        self.longest = longest

    def needed(self) -> float:
        """Horizon that a small step needs to reach its best risk."""
        curvature = 1.0 if self.setting.loss == "squared" else self._mean_curvature()
        return min(2.2 * self.linear_time / curvature, self.longest(STEPS[-1] / curvature))

    def solve(self) -> None:
        """Compute what `replacement` and `reshuffle` interpolate."""
        self._begin(self.longest)
        self._reshuffle()

    # --- with replacement ----------------------------------------------------------------------------------------------------

    def _begin(self, longest: Callable[[float], float]) -> None:
        if self.setting.loss == "squared":
            self.relative = 1.0
            self.largest_step = 0.9 * self.proxy.stability_limit(self.ridge)
            horizon = min(3.0 * self.linear_time, longest(self.largest_step))
            self.times = np.concatenate([[0.0], np.geomspace(1e-3 * horizon, horizon, POINTS)])
            self.flow = self.proxy.flow(self.times, self.ridge)
            self._with_replacement = lambda step: self.proxy.sgd(step, self.ridge, self.times, self.flow)
        else:
            self._solve_sweep(longest)
        test = self.replacement(1e-3 * self.largest_step).test
        self.best_time = float(self.times[np.argmin(test)])

    def replacement(self, step: float) -> Curves:
        return self._with_replacement(step)

    def _solve_sweep(self, longest: Callable[[float], float]) -> None:
        """Three steps of the stochastic modified equation, again with a longer horizon where risks still fall at its end."""
        mean_curvature = self._mean_curvature()
        self.relative = 1.0 / mean_curvature
        steps = np.array(STEPS) * self.relative
        self.largest_step = float(1.5 * steps[-1])
        horizon = self.needed()
        for attempt in range(3):
            self.times = np.concatenate([[0.0], np.geomspace(2e-3 * horizon, horizon, 60)])
            solved = []
            for i, step in enumerate(steps):
                self.report((0.25 * attempt + 0.2 * i / 3), f"theory at step {step:.3g}")
                solved.append(self._curves(self._solve(SME(float(step)), horizon)))
            if np.argmin(solved[0].test) < len(self.times) - 1 or horizon >= longest(steps[-1]):
                break
            horizon = min(2.0 * horizon, longest(steps[-1]))
        fits = {name: np.polyfit(steps, np.array([getattr(one, name) for one in solved]), 2) for name in ("train", "test")}
        errors = {name: np.max([getattr(one, name) for one in solved], 0) for name in ("train_se", "test_se")}

        def at(step: float) -> Curves:
            train, test = (fit[0] * step**2 + fit[1] * step + fit[2] for fit in (fits["train"], fits["test"]))
            return Curves(self.times, train, test, errors["train_se"], errors["test_se"])

        self._with_replacement = at

    def _mean_curvature(self) -> float:
        """Curvature of the logistic loss on predictions as strong as the signal found: a little under 1/4."""
        z = np.random.default_rng(0).standard_normal(4000) * 0.7 * self.setting.size + self.setting.offset
        return float(np.mean(0.25 / np.cosh(0.5 * z) ** 2))

    def _solve(self, dynamics: Any, horizon: float, times: Array | None = None) -> Solution:
        problem = self.setting.problem(self.ridge)
        times = self.times if times is None else times
        return solve(problem, dynamics, horizon, rtol=RTOL, seed=self.seed, times=times, on_failure="return")

    @staticmethod
    def _curves(solution: Solution) -> Curves:
        data = solution.dataset
        names = ("time", "train_risk", "test_risk", "train_risk_se", "test_risk_se")
        return Curves(*(np.asarray(data[name].values, dtype=float) for name in names))

    # --- reshuffled ----------------------------------------------------------------------------------------------------------

    def _reshuffle(self) -> None:
        """Logarithms of the ratio of reshuffled risks to those with replacement, at one or two steps."""
        delta = self.setting.sample_ratio
        self.log_ratios: list[tuple[float, Array, Array]] = []
        horizon = min(1.6 * self.best_time, float(self.times[-1]))
        for i, factor in enumerate(RESHUFFLED):
            step = factor * self.relative
            epochs = int(np.ceil(horizon / (step * delta)))
            if step > self.largest_step:
                continue
            if epochs > MOST_EPOCHS:
                if factor == RESHUFFLED[-1]:
                    self.notes.append(
                        f"Reshuffling was not solved: {epochs} epochs are too many. Curves are those with replacement, a little above."
                    )
                continue
            self.report(0.6 + 0.2 * i, f"reshuffled theory at step {step:.3g}")
            ends = np.arange(epochs + 1) * step * delta
            ends[-1] = ends[-1] * (1.0 - 1e-9)
            try:
                one = self._curves(self._solve(SGD(float(step), "reshuffle"), float(ends[-1]), ends))
            except SolveError as e:
                self.notes.append(f"Reshuffling was not solved at step {step:.3g}: {e}")
                continue
            if len(one.times) < 2:
                continue
            base = self.replacement(step)
            logs = []
            for name in ("train", "test"):
                ratio = np.log(getattr(one, name) / np.interp(one.times, self.times, getattr(base, name)))
                ratio[0] = 0.0
                logs.append(np.interp(self.times, one.times, ratio))
            self.log_ratios.append((step, *logs))

    def reshuffle(self, step: float) -> Curves:
        """Curves under reshuffling; those with replacement where it was not solved."""
        base = self.replacement(step)
        if not self.log_ratios:
            return base
        factors = []
        for which in (1, 2):
            steps = np.array([entry[0] for entry in self.log_ratios])
            logs = np.array([entry[which] for entry in self.log_ratios]) / steps[:, None]
            slope = (
                logs[0]
                if len(steps) == 1
                else logs[0] + (logs[1] - logs[0]) * np.clip((step - steps[0]) / (steps[1] - steps[0]), -1.0, 1.5)
            )
            factors.append(np.exp(np.minimum(slope * step, 0.0)))
        return Curves(base.times, base.train * factors[0], base.test * factors[1], base.train_se, base.test_se)
