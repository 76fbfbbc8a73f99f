"""SGD with replacement: one compiled loop over single samples."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ..dynamics import SGD, step_at
from ..errors import InputError
from ..problem import Problem
from .data import Data, Static, penalty_gradient, pick, smooth_penalty

MAX_INDICES = 2**18  # sample indices drawn ahead at once
CHECKS = 100  # a run is looked at (has it diverged?) at least this often


class SGDPath:
    """Batches of `batch_size` samples with replacement; step `j` advances the time by `step(t_j) * batch_size / d`.

    An output time shows the state after the nearest whole number of steps, so curves have the time resolution of one step.
    """

    def __init__(self, problem: Problem, dynamics: SGD, n: int, d: int, batch_size: int, times: np.ndarray):
        self.problem, self.batch_size, self.n, self.d = problem, batch_size, n, d
        end = float(times[-1])
        first = float(step_at(dynamics, np.zeros(1))[0]) * batch_size / d
        if first > end > 0:
            raise InputError(
                f"`batch_size` must be at most {int(end * d * batch_size / (first * d))} so that a step ends within t = {end:g},"
                f" but is {batch_size} (one step lasts step * batch_size / n_features = {first:.3g}; or more features)"
            )
        self.outputs, self.sizes, self.ends = _clock(dynamics, batch_size / d, times)
        capacity = max(1, min(MAX_INDICES // batch_size, -(-len(self.sizes) // CHECKS)))
        self.stops = np.unique(np.concatenate([self.outputs, np.arange(0, len(self.sizes) + 1, capacity)]))
        self.capacity = capacity
        self.diagnostics = {"steps": len(self.sizes), "time_resolution": first}

    def run(self, data: Data, rng: np.random.Generator) -> Iterator[tuple[float, np.ndarray, list[int]]]:
        """Yield `(time, weights (k, d), which output times this is)` at every stop."""
        theta, here = jnp.asarray(data.start), 0
        indices = np.zeros((self.capacity, self.batch_size), np.int32)
        sizes = np.zeros(self.capacity)
        for stop in self.stops:
            count = int(stop) - here
            if count:
                indices[:count] = rng.integers(self.n, size=(count, self.batch_size), dtype=np.int32)
                sizes[:count] = self.sizes[here:stop]
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
            yield float(self.ends[here]), np.asarray(theta), np.flatnonzero(self.outputs == here).tolist()


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


def _clock(dynamics: SGD, fraction: float, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps taken at each output time (the nearest whole number), the size `eta` of every step, and the time after
    0, 1, ... steps. `fraction` is `batch_size / d`."""
    end = float(times[-1])
    if callable(dynamics.step):
        sizes, ends = [], [0.0]
        while ends[-1] < end:
            sizes.append(float(step_at(dynamics, np.array(ends[-1]))))
            ends.append(ends[-1] + sizes[-1] * fraction)
        sizes, ends = np.array(sizes), np.array(ends)
    else:
        count = int(np.ceil(end / (dynamics.step * fraction) * (1 - 1e-12)))
        sizes = np.full(count, dynamics.step)
        ends = np.arange(count + 1) * (dynamics.step * fraction)
    right = np.clip(np.searchsorted(ends, times), 1, max(len(ends) - 1, 1))
    outputs = right - (times - ends[right - 1] < ends[np.minimum(right, len(ends) - 1)] - times)
    outputs = np.where(times == 0, 0, outputs)
    return outputs, sizes[: outputs[-1]], ends
