"""SGD with replacement: one compiled loop over single samples."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ..dynamics import SGD, step_at
from ..errors import refuse
from ..problem import Problem
from .data import Data, Static, penalty_gradient, pick, smooth_penalty

MAX_INDICES = 2**18  # sample indices drawn ahead at once
CHECKS = 40  # a run is looked at (has it diverged?) at least about this often
MAX_STEPS = 10**8  # some minutes per run at d = 4000
GRID = 1001  # times at which a schedule is checked before it is followed


class SGDPath:
    """Batches of `batch_size` samples with replacement; step `j` advances the time by `step(t_j) * batch_size / d`.

    An output time shows the state after the nearest whole number of steps, so curves have the time resolution of one step.
    """

    def __init__(self, problem: Problem, dynamics: SGD, n: int, d: int, batch_size: int, times: np.ndarray):
        self.problem, self.batch_size, self.n, self.d = problem, batch_size, n, d
        end = float(times[-1])
        first = float(step_at(dynamics, np.zeros(1))[0]) * batch_size / d
        if first > end > 0:
            most = int(end / first * batch_size)
            field, value, fix = (
                ("batch_size", batch_size, f"at most {most} here") if most else ("n_features", d, "more features make steps shorter")
            )
            raise refuse(field, f"let a step end within t = {end:g} (it lasts step * batch_size / n_features = {first:.3g})", value, fix)
        self.clock = _Clock(dynamics, batch_size / d, end)
        self.outputs = self.clock.nearest(times)
        total = int(self.outputs[-1])
        # Output times, and stops between those that are far apart; every stop costs as much as a hundred small steps.
        capacity = max(1, min(max(1, MAX_INDICES // batch_size), -(-total // CHECKS)))
        gaps = zip(np.append(0, self.outputs), self.outputs, strict=False)
        self.stops = np.unique([*self.outputs, *(stop for a, b in gaps for stop in range(a, b, capacity))])
        self.capacity = capacity
        self.diagnostics = {"steps": total, "time_resolution": first}

    def run(self, data: Data, rng: np.random.Generator) -> Iterator[tuple[float, np.ndarray, list[int]]]:
        """Yield `(time, weights (k, d), which output times this is)` at every stop."""
        theta, here = jnp.asarray(data.start), 0
        indices = np.zeros((self.capacity, self.batch_size), np.int32)
        sizes = np.zeros(self.capacity)
        for stop in self.stops:
            count = int(stop) - here
            if count:
                indices[:count] = rng.integers(self.n, size=(count, self.batch_size), dtype=np.int32)
                sizes[:count] = self.clock.etas(here, int(stop))
                theta = _steps(
                    theta,
                    count,
                    data.rows,
                    data.labels,
                    jnp.array(indices),
                    jnp.array(sizes),
                    self.problem.ridge,
                    loss=Static(self.problem.loss),
                    smooth=smooth_penalty(self.problem),
                )
            here = int(stop)
            yield self.clock.time(here), np.asarray(theta), np.flatnonzero(self.outputs == here).tolist()


@partial(jax.jit, static_argnames=("loss", "smooth"))
def _steps(theta, count, rows, labels, indices, sizes, ridge, *, loss, smooth):
    """The first `count` steps: `theta -= eta sum_i x_i l_i + eta kappa / d h(theta)`, a dot product and an update per sample.
    `count` is an argument, so all segments of all repeats share one compilation."""
    d, batch = theta.shape[1], indices.shape[1]

    def step(j, theta):
        eta = sizes[j]

        def add(b, change):
            i = indices[j, b]
            x = jax.lax.dynamic_index_in_dim(rows, i, keepdims=False).astype(theta.dtype)
            gradient = jax.grad(loss)(jnp.sum(theta * x, axis=1), pick(labels, i))
            return change + (eta * gradient).astype(theta.dtype)[:, None] * x

        return theta - jax.lax.fori_loop(0, batch, add, (eta * batch / d) * penalty_gradient(theta, ridge, smooth))

    return jax.lax.fori_loop(0, count, step, theta)


class _Clock:
    """The size `eta` of every step and the time after each; `fraction` is `batch_size / d`."""

    def __init__(self, dynamics: SGD, fraction: float, end: float):
        # Over a grid first: a schedule that reaches zero would never reach the end.
        etas = step_at(dynamics, np.linspace(0.0, end, GRID))
        if end * np.mean(1 / etas) / fraction > MAX_STEPS:
            raise refuse("horizon", f"be reached within {MAX_STEPS:.0e} steps", end,
                         f"a step lasts step * batch_size / n_features, here {etas.mean() * fraction:.2g} on average")  # fmt: skip
        self.length = float(etas[0]) * fraction
        self.sizes = self.ends = None
        if callable(dynamics.step):
            sizes, ends = [], [0.0]
            while ends[-1] < end:
                sizes.append(float(step_at(dynamics, np.array(ends[-1]))))
                ends.append(ends[-1] + sizes[-1] * fraction)
                if len(sizes) > MAX_STEPS:
                    raise refuse("step", f"reach t = {end:g} within {MAX_STEPS:.0e} steps", dynamics.step, "it nearly vanishes somewhere")
            self.sizes, self.ends = np.array(sizes), np.array(ends)
        else:
            self.eta = dynamics.step

    def nearest(self, times: np.ndarray) -> np.ndarray:
        """How many steps end nearest to each time."""
        if self.ends is None:
            return np.rint(times / self.length).astype(int)
        middles = (self.ends[1:] + self.ends[:-1]) / 2
        return np.searchsorted(middles, times, side="right")

    def time(self, step: int) -> float:
        return step * self.length if self.ends is None else float(self.ends[step])

    def etas(self, first: int, stop: int) -> np.ndarray | float:
        """Sizes of the steps `first <= j < stop`."""
        return self.eta if self.sizes is None else self.sizes[first:stop]
