"""Weights averaged over time, `sum_j a(t, j) theta_j` (OPTIMISERS section 6), from the two-time kernels of their law.

All that is quadratic or linear in weights follows at once, `q = a C a^T` and `m = a Cs`, and from these the test risk; numbers that
are trained along are averaged like any other parameter. The train risk is a mean over sample paths whose pre-activations are averaged,
less the best multiples of three deviations whose means are known: those of `L` at a fresh sample's averaged `w`, and at `r` and `w` now.

*Errors.* What the curves' own errors do to an average, at most `sum_j a(t, j) error_j`, whatever their correlation in time; with it what is
left of the kernels' discretisation, what the rule along time misses, and what the paths fluctuate.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import numpy as np
import xarray as xr

from ...compiling import jit
from ...learning.averages import Average, cell_weights
from ...learning.problem import Problem
from ...learning.risk import TestRisk
from ...learning.slopes import Slopes
from ...learning.trained import Labelled
from ...results import ALONG, CURVES, KERNELS, Solution, Status, build_dataset, curves_of, judge_growth, labels_of, with_numbers
from ...spread import envelope
from ..accuracy.outcome import scales

PATHS, MOST_PATHS = 2**12, 2**16  # of samples: drawn at once, and at most
AIM = 0.4  # what paths may add to the error of the train risk, as a part of `rtol`
RISKS = ("train_risk", "test_risk")
STATE = ("self_overlap", "overlap", "trained")  # what a test risk is of

Curves = dict[str, np.ndarray]


class Kernels(NamedTuple):
    """On nodes `(n,)` in time: `C (n, n, k, k)`, `overlap (n, k, k_star)` and the numbers `trained (n, p)` along, if there are any."""

    nodes: np.ndarray
    C: np.ndarray
    overlap: np.ndarray
    trained: np.ndarray | None = None

    def some(self, which: np.ndarray) -> Kernels:
        trained = None if self.trained is None else self.trained[which]
        return Kernels(self.nodes[which], self.C[np.ix_(which, which)], self.overlap[which], trained)

    def averaged(self, weights: np.ndarray) -> Curves:
        """Overlaps, and numbers trained along, of averages with `weights (T, n)`."""
        found = {
            "self_overlap": np.einsum("ta,tb,abij->tij", weights, weights, self.C, optimize=True),
            "overlap": np.tensordot(weights, self.overlap, 1),
        }
        return found if self.trained is None else found | {"trained": weights @ self.trained}


@dataclass(frozen=True)
class Followed:
    """A law along the nodes that averages are taken over.

    Attributes:
        law: draws paths along the nodes.
        kernels: with the discretisation error extrapolated away.
        R: response `(n, n, k, k)`; it may jump on its diagonal.
        outputs: which nodes the output times are.
        levels: the same kernels on fewer nodes at the three resolutions that tell what is left of that error, if there is one.
        gain, nearby: how it is told, as in `accuracy.estimates`.
        continuous: whether time is; else weights move at nodes only.
    """

    law: Any
    kernels: Kernels
    R: np.ndarray
    outputs: np.ndarray
    levels: Sequence[Kernels] = ()
    gain: float = 1.0
    nearby: float = 0.0
    continuous: bool = True

    @property
    def curves(self) -> xr.Dataset:
        """What a law draws paths along the nodes from."""
        values = {"correlation": self.kernels.C, "response": self.R}
        data = {name: (dims, values[name]) for name, dims in KERNELS.items()} | {"overlap": (CURVES["overlap"], self.kernels.overlap)}
        if self.kernels.trained is not None:
            data["trained"] = (ALONG["trained"], self.kernels.trained)
        return xr.Dataset(data, {"time": self.kernels.nodes})


class Averaging(Protocol):
    """What a law says for averages."""

    fresh: ClassVar[bool]  # whether every sample is a fresh one

    @property
    def problem(self) -> Problem: ...
    def followed(self, times: np.ndarray) -> Followed: ...
    def weigh(self, average: Average, nodes: np.ndarray, times: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class AveragedLaw:
    """Paths of averaged weights, from paths along the nodes and `weights (T, n)` of these."""

    followed: Followed
    weights: np.ndarray

    def samples(self, curves: xr.Dataset, n: int, seed: int) -> xr.Dataset:
        return self._averaged(self.followed.law.samples(self.followed.curves, n, seed), curves)

    def coordinates(self, curves: xr.Dataset, n: int, seed: int) -> xr.Dataset:
        return self._averaged(self.followed.law.coordinates(self.followed.curves, n, seed), curves)

    def _averaged(self, paths: xr.Dataset, curves: xr.Dataset) -> xr.Dataset:
        moving = {str(name): values for name, values in paths.data_vars.items() if "time" in values.dims}
        found = {name: (values.dims, np.matmul(self.weights, values.values)) for name, values in moving.items()}
        return paths.drop_vars([*moving, "time"]).assign(found).assign_coords(time=curves["time"])


def averaged(law: Averaging, solution: Solution, average: Average) -> Solution:
    """The solution of the averaged weights, see `Solution.averaged`."""
    began = time.perf_counter()
    data, problem = solution.dataset, law.problem
    times, seed, rtol = data["time"].values, int(data.attrs["seed"]), float(data.attrs["rtol"])
    followed = law.followed(times)
    nodes = followed.kernels.nodes
    of = AveragedLaw(followed, law.weigh(average, nodes, times))
    curves = followed.kernels.averaged(of.weights)
    missed = _rule(law, followed, average, times, curves), _discretisation(law, followed, average, times)
    errors = {name: np.hypot(*(_envelope(part[name], times, followed.nearby) for part in missed)) for name in curves}
    curves["test_risk"], errors["test_risk"] = _test_risk(TestRisk(problem, seed), rtol, curves, missed, times, followed.nearby)
    carried = _carried(of.weights, nodes, data)
    errors = {name: np.hypot(error, carried[name]) for name, error in errors.items()}
    paths = 0
    curves["train_risk"], errors["train_risk"] = curves["test_risk"], errors["test_risk"]
    if not law.fresh:
        known = [(curves["test_risk"], errors["test_risk"])] + [(data[name].values, data[f"{name}_se"].values) for name in RISKS]
        curves["train_risk"], errors["train_risk"], paths = _train_risk(problem, of, known, carried["train_risk"], AIM * rtol, seed)
        for part in (curves, errors):  # a training sample is a fresh one at the start
            part["train_risk"] = np.where(times == 0.0, part["test_risk"], part["train_risk"])
    size = scales(problem, curves)
    for name, least in scales(problem, {name: data[name].values for name in curves}).items():
        errors[name] = np.maximum(errors[name], carried[name] * size[name] / least)
    worst = {name: float(errors[name].max()) / size[name] for name in curves}
    kernels = {
        "correlation": np.einsum("ta,sb,abij->tsij", of.weights, of.weights, followed.kernels.C, optimize=True),
        "response": _response(followed, of.weights, average, times),
    }
    found = build_dataset(times, curves, errors, kernels, {**data.attrs, "average": repr(average)}, problem.rho)
    if "trained" in data and "trained" not in found:  # numbers that no rate moves
        found = with_numbers(found, data["trained"].values[0])
    effort = {"method": f"averages of {solution.diagnostics['method']}", "nodes": len(nodes), "paths": paths, "error": max(worst.values()),
              "rtol": rtol, "wall_seconds": time.perf_counter() - began}  # fmt: skip
    return Solution(found, _status(solution.status, curves, times, max(worst.values()), rtol), effort, of)


def _rule(law: Averaging, followed: Followed, average: Average, times: np.ndarray, curves: Curves) -> Curves:
    """What the rule along time misses, of second order: a third of its change from every second node."""
    if not followed.continuous:
        return {name: np.zeros_like(values) for name, values in curves.items()}
    kernels = followed.kernels
    fewer = kernels.some(every_second(len(kernels.nodes)))
    coarse = fewer.averaged(law.weigh(average, fewer.nodes, times))
    return {name: (coarse[name] - values) / 3.0 for name, values in curves.items()}


def _discretisation(law: Averaging, followed: Followed, average: Average, times: np.ndarray) -> Curves:
    """What is left of the kernels' discretisation error, as `accuracy.estimates` tells it for curves."""
    if not followed.levels:
        return dict.fromkeys(STATE, np.zeros(1))
    fine, middle, coarse = (one.averaged(law.weigh(average, one.nodes, times)) for one in followed.levels)
    left = {}
    for name in fine:
        gained = (fine[name] - middle[name]) / 3.0
        change = fine[name] + gained - middle[name] - (middle[name] - coarse[name]) / 3.0
        left[name] = np.sign(change) * np.minimum(np.abs(change) / followed.gain, np.abs(gained))
    return left


def every_second(count: int) -> np.ndarray:
    """Numbers of the nodes left, with the last one."""
    return np.unique(np.append(np.arange(0, count, 2), count - 1))


def _envelope(error: np.ndarray, times: np.ndarray, nearby: float) -> np.ndarray:
    """The largest size of an error `(T, ...)` nearby in time, for it changes its sign; at the start there is none."""
    if len(error) < len(times):
        return np.abs(error)
    return envelope(error, times, nearby * times[-1])


def _test_risk(
    test_risk: TestRisk, rtol: float, curves: Curves, missed: Sequence[Curves], times: np.ndarray, nearby: float
) -> tuple[np.ndarray, np.ndarray]:
    """At the averages' overlaps, and what these miss."""
    state = [name for name in STATE if name in curves]
    at = [curves[name] for name in state]
    (mean, own), shift = test_risk.within(rtol, *at), test_risk.shift(*at)
    moved = [shift(*(curves[name] - part[name] for name in state)) for part in missed if any(part[name].any() for name in state)]
    return mean, np.sqrt(own**2 + sum(_envelope(one, times, nearby) ** 2 for one in moved))


def _carried(weights: np.ndarray, nodes: np.ndarray, data: xr.Dataset) -> Curves:
    """What the curves' own errors do to an average, `(T, ...)`."""
    between = _linear(nodes, data["time"].values)
    return {name: np.tensordot(weights @ between, data[f"{name}_se"].values, 1) for name in curves_of(data)}


def _linear(nodes: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Linear interpolation from `times (T,)` to `nodes (n,)` as a matrix; constant beyond."""
    return np.stack([np.interp(nodes, times, unit) for unit in np.eye(len(times))], 1)


def _train_risk(
    problem: Problem, of: AveragedLaw, known: Sequence[tuple[np.ndarray, np.ndarray]], carried: np.ndarray, aim: float, seed: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Train risk `(T,)` of averages, its standard error, and how many paths it took to bring their part below `aim` of its scale. `known`
    are mean and error of the controls."""
    means, errors = (np.stack(part, 1) for part in zip(*known, strict=True))
    values, seeds = np.zeros((len(of.weights), 0, 1 + means.shape[1])), np.random.SeedSequence([seed, 0xA7E])
    while True:
        drawn = PATHS if not values.shape[1] else values.shape[1]
        paths = of.followed.law.samples(of.followed.curves, drawn, int(seeds.spawn(1)[0].generate_state(1)[0]))
        values = np.concatenate([values, _losses(problem, of, paths)], 1)
        mean, shares, spread = _controlled(values, means)
        risk = mean + (shares * means).sum(1)
        if spread.max() <= aim * np.abs(risk).max() or values.shape[1] >= MOST_PATHS:
            return risk, np.hypot(spread, np.maximum((np.abs(shares) * errors).sum(1), carried)), values.shape[1]


def _controlled(values: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean `(T,)` of the first of `values (T, P, 1 + c)` less the best multiples `(T, c)` of the others, these, and its standard error."""
    centred = values - values.mean(1, keepdims=True)
    second = np.swapaxes(centred, 1, 2) @ centred
    shares = (np.linalg.pinv(second[:, 1:, 1:], rcond=1e-10, hermitian=True) @ second[:, 1:, :1])[:, :, 0]
    rest = values[..., 0] - (values[..., 1:] @ shares[:, :, None])[..., 0]
    return rest.mean(1), shares, rest.std(1, ddof=1 + means.shape[1]) / np.sqrt(values.shape[1])


def _losses(problem: Problem, of: AveragedLaw, paths: xr.Dataset) -> np.ndarray:
    """`L` at averages of `r` and of `w`, and at `r` and `w` now, `(T, P, 4)`."""
    both, now = [paths[name].values for name in ("r", "w")], of.followed.outputs
    at = [np.matmul(of.weights, one) for one in both] + [one[:, now] for one in both]
    with jax.enable_x64(True):
        y = labels_of(paths, problem.label, problem.k_star, problem.noise.shape)
        trained = of.followed.kernels.trained
        if trained is not None:
            y = Labelled(y, np.stack([of.weights @ trained] * 2 + [trained[now]] * 2))
        return np.asarray(_program(problem.slopes)(np.stack(at), y))


@lru_cache(maxsize=32)
def _program(slopes: Slopes) -> Any:
    """The loss at `r (s, P, T, k)` of paths with labels `y`, `(T, P, s)`; beside these stand numbers `(s, T, p)` that are trained along, if
    there are any."""
    beside = lambda labels, numbers: labels if slopes.pull is None else Labelled(labels, numbers)
    times = jax.vmap(slopes.loss, (0, beside(None, 0)))
    samples = jax.vmap(times, (0, beside(0, None)), 1)
    return jit(jax.vmap(samples, (0, beside(None, 0)), 2))


def _response(followed: Followed, weights: np.ndarray, average: Average, times: np.ndarray) -> np.ndarray:
    """Of averages at the output times to a kick at each, `(T, T, k, k)`: there is none before it."""
    outputs = followed.outputs
    found = np.einsum("ta,asij->tsij", weights, followed.R[:, outputs], optimize=True)
    if followed.continuous:  # a path that is linear between nodes would begin to rise in the cell before a kick
        before = np.pad(cell_weights(average, followed.kernels.nodes, times)[1], ((0, 0), (1, 0)))[:, outputs]
        found -= before[:, :, None, None] * followed.R[outputs, outputs]
    return found


def _status(status: Status, curves: Curves, times: np.ndarray, error: float, rtol: float) -> Status:
    """How it ended, in words: as the solution did, or not as accurate."""
    if status.code != "done":
        return Status(status.code, f"averaged weights of a training of which this is said: {status}")
    if error > rtol:
        words = f"rtol = {rtol:g} was not met: the largest error of averaged weights is {error:.2%} of its curve's scale"
        return Status("inaccurate", f"{words} (average a solution with a smaller rtol)")
    words = f"done: the largest error of averaged weights is {error:.2%} of its curve's scale, rtol = {rtol:g} is met"
    return judge_growth(times, curves["test_risk"]) or Status("done", words)
