"""Adam on standardised features, however correlated, is SGD with one adaptive step; on features of unequal variance it preconditions."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

import sgdlimit as sl

from ..errors import refuse
from ..learning.problem import Problem
from . import pairs
from .claims import Claim, Numbers, Progress, Verdict
from .measure import OneProblem, Positive, solved

ONE, STANDARDISED, UNEQUAL = "SGD with one adaptive step", "standardised features", "features of unequal variance"
KNOTS = 41
SHORT = 1e-5  # memory of a velocity that is none: much shorter than a step of real runs
ROUNDS = 4  # until the adaptive step agrees with the risk that it leads to; each takes a twentieth of the error or less


class Features(pairs.Growing):
    adam: Positive  # lr n_features, for batches of one
    second_memory: Positive  # samples per feature that its mean square remembers


class Settings(OneProblem):
    experiment: Features

    def check(self) -> None:
        self.experiment.check()
        if self.problem.model not in ("linear_regression", "ridge_regression"):
            fix = "the squared gradient that Adam divides by is then twice the train risk"
            raise refuse("problem.model", "be linear_regression", self.problem.model, fix)
        if self.problem.spectrum is None:
            raise refuse("problem.spectrum", "be given", None, "isotropic features are neither correlated nor of unequal variance")
        self.build()


def measure(settings: Settings, tell: Progress) -> Numbers:
    problem, e = settings.build(), settings.experiment
    adam = sl.SGD(e.adam, optimizer=sl.Adam(SHORT, e.second_memory * e.adam))
    tell(0.0, "the adaptive step")
    one, end = adaptive(problem, e)
    last, real = e.adam * e.samples_per_feature, lambda d: sl.SGD(e.adam)
    shared, own = (lru_cache(lambda d, own=own: Turned.of(d, e, own)) for own in (False, True))
    trainings = {
        ONE: pairs.Training(one, last, real=real, adaptive=True, transform=shared, limit_end=end),
        STANDARDISED: pairs.Training(one, last, real=real, adaptive=True, transform=own, limit_end=end),
        UNEQUAL: pairs.Training(adam, last, adaptive=True),
    }
    compared = [
        pairs.Pair(STANDARDISED, "standardised, correlated", STANDARDISED, ONE, alike=True),
        pairs.Pair(UNEQUAL, "unequal variances", UNEQUAL, ONE, alike=False),
    ]
    return pairs.follow(problem, trainings, compared, e, tell)


def adaptive(problem: Problem, e: Features) -> tuple[sl.SGD, float]:
    """SGD whose step is Adam's over the root of the mean square of the gradient so far, and the time it takes: the mean square is twice the
    train risk, which the step leads to."""
    seen = np.linspace(0.0, e.samples_per_feature, KNOTS)
    square = np.full(KNOTS, 1.0)
    for _ in range(ROUNDS):
        step = e.adam / np.sqrt(_remembered(seen, square, e.second_memory))
        time = np.append(0.0, np.cumsum(0.5 * (step[1:] + step[:-1]) * np.diff(seen)))
        dynamics = sl.SGD(sl.schedules.Knots(tuple(time.tolist()), tuple(step.tolist())))
        found = solved(problem, dynamics, float(time[-1]), e.rtol, e.seed, time)
        square = 2.0 * found.dataset["train_risk"].values
    return dynamics, float(time[-1])


def _remembered(seen: np.ndarray, square: np.ndarray, memory: float) -> np.ndarray:
    """The exponential mean of a curve's past at each point, corrected for its start."""
    found = [square[0]]
    for i in range(1, len(seen)):
        weights = np.exp((seen[: i + 1] - seen[i]) / memory)
        found.append(np.trapezoid(weights * square[: i + 1], seen[: i + 1]) / np.trapezoid(weights, seen[: i + 1]))
    return np.array(found)


class Turned(NamedTuple):
    """Adam, without a velocity, as optax would have it, on features that are turned: `x' = Q x` has variance one in each entry, whatever
    the eigenvalues are, and all of them are correlated. `x'` is a stationary process on a ring, `Q` its Fourier transform. With a mean
    square of all parameters together in the place of each one's `own` it is SGD with one adaptive step."""

    init: Any
    update: Any

    @classmethod
    def of(cls, d: int, e: Features, own: bool) -> Turned:
        import jax.numpy as jnp

        basis, rate, kept = fourier(d, e.seed), e.adam / d, max(1.0 - 1.0 / (e.second_memory * d), 0.0)

        def update(gradient: Any, state: Any, parameters: Any) -> Any:
            square, weight = state
            turned = gradient @ basis.T
            new = turned**2 if own else jnp.full_like(turned, jnp.mean(turned**2))
            square, weight = kept * square + new, kept * weight + 1.0
            size = jnp.sqrt(square / weight)
            return -rate * jnp.where(size > 0, turned / jnp.where(size > 0, size, 1.0), 0.0) @ basis, (square, weight)

        return cls(lambda parameters: (jnp.zeros_like(parameters), jnp.zeros((), parameters.dtype)), update)


def fourier(d: int, seed: int) -> np.ndarray:
    """An orthogonal matrix `(d, d)` whose column pairs `2k, 2k + 1` are a frequency's two waves, in random order: squares of a pair's
    entries add up to `2 / d` in every row, so that eigenvalues that come in pairs give every row the same variance."""
    waves = np.arange(1, (d + 1) // 2)
    order = np.random.default_rng(seed).permutation(waves)
    lone = [0] if d % 2 else [0, d // 2]
    frequency = np.concatenate([np.stack([order, d - order], 1).ravel(), lone])
    angle = 2.0 * np.pi * np.outer(np.arange(d), frequency) / d
    return (np.cos(angle) + np.sin(angle)) / np.sqrt(d)


def judge(numbers: Numbers) -> Verdict:
    return pairs.judged(
        numbers,
        lambda exponents, distances: (
            f"nothing of the difference between Adam and SGD with one adaptive step is left at infinite d where features are standardised,"
            f" and it vanishes for {exponents} (1 is claimed, beside a logarithm). Where they are not it stays: {distances}."
        ),
    )


CLAIM = Claim(
    name="adam-features",
    title="On standardised features Adam is SGD with one adaptive step",
    words="Adam divides the gradient of each parameter by its own size. With batches small against the data that size is the gradient's"
    " noise, which depends on the feature's variance alone: on standardised features all parameters are divided by the same number,"
    " however strongly the features are correlated, and Adam is SGD with one step that adapts to the risk. It preconditions only what has"
    " unequal variances: a feature of variance λ then has a step λ^(-1/2) times as long.",
    source="Beyond the paper: its equations (Fan and Wang, arXiv 2601.21093) with a gain; derived for this project.",
    settings=Settings,
    measure=measure,
    judge=judge,
    draw=lambda numbers: pairs.draw(numbers, "one step's", 2, ("overlap", "train_risk")),
    table=pairs.table,
    caption="Distance of real runs with Adam from SGD with one adaptive step on the same data, relative to the latter's limit: for features"
    " of variance one that are a stationary process on a ring, and for the same data in Fourier components, whose variances are unequal."
    " Points: ±2 standard errors. Lines: fit c1 log(d)/d + c2/d, and the difference of the limits.",
)
