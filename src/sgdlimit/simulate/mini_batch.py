"""Gradient descent on batches that are a fixed fraction of the data: a matrix product per step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ..compiling import jit
from ..errors import refuse
from ..functions import Static
from ..learning.clock import mini_batch_clock
from ..learning.dynamics import MiniBatchGD
from ..learning.problem import Problem
from .along import along_of, begun, start_of, telling
from .data import Data, penalty_gradient, smooth_penalty
from .left_out import Told
from .optimisers import PLAIN, Extras, begin, move, numbers_of, rule_of

ROWS = 16  # rows per piece: read from memory once, used twice (X theta, then X^T l)


class MiniBatchPath:
    """Every step takes `round(fraction n)` samples without replacement, independently of the other steps' batches.

    An output time shows the state after the nearest whole step, the same one as in theory.
    """

    fresh, beside = False, False

    def __init__(
        self,
        problem: Problem,
        dynamics: MiniBatchGD,
        n: int,
        d: int,
        batch_size: int,
        design: str,
        times: np.ndarray,
        extras: Extras = PLAIN,
    ):
        self.problem, self.dynamics, self.n, self.d, self.size = problem, dynamics, n, d, round(dynamics.fraction * n)
        self.rule, self.numbers = rule_of(dynamics, extras, "row"), numbers_of(dynamics, extras)
        if not self.size:
            raise refuse("fraction", f"take at least one of {n} samples", dynamics.fraction, f"at least {1 / n:.2g}")
        self.clock = mini_batch_clock(dynamics, problem.sample_ratio, float(times[-1]))
        self.outputs = self.clock.nearest(times)
        self.diagnostics = {"steps": int(self.outputs[-1]), "time_resolution": self.clock.first, "samples_per_step": self.size}

    def run(self, data: Data, rng: np.random.Generator, told: Told | None = None) -> Iterator[tuple[float, np.ndarray, list[int]]]:
        """Yield `(time, State.shown(), which output times this is)` at the start and after every step; before, `told` hears of it."""
        state = begin(self.rule, data.start, rng, start_of(self.problem))
        chosen = np.arange(-(-self.size // ROWS) * ROWS, dtype=np.int32) % self.n
        for here in range(int(self.outputs[-1]) + 1):
            yield self.clock.time(here), state.shown(), np.flatnonzero(self.outputs == here).tolist()
            if here == self.outputs[-1]:
                return
            if self.size < self.n:
                chosen[: self.size] = np.sort(rng.choice(self.n, self.size, replace=False, shuffle=False))
            eta = float(np.ravel(self.clock.etas(here, here + 1))[0])
            if told is not None:
                batch = chosen[: self.size]
                numbers = None if state.numbers is None else np.array(state.numbers)
                told(batch, np.asarray(data.rows)[batch] @ np.asarray(state.theta, np.float32).T, eta, numbers)
            state = _step(
                state,
                self.numbers,
                data.rows,
                data.labels,
                jnp.array(chosen),
                float(self.size),
                eta,
                self.problem.ridge,
                along_of(self.problem),
                gradient=Static(self.problem.slopes.gradient),
                smooth=smooth_penalty(self.problem),
                rule=self.rule,
            )


@partial(jit, static_argnames=("gradient", "smooth", "rule"))
def _step(state, numbers, rows, labels, chosen, size, eta, ridge, along, *, gradient, smooth, rule):
    """A step by `X^T l` over the first `size` of the samples `chosen`, without an optimiser `theta - eta (X^T l + size / d h(theta))`;
    products in float32, as the rows, sums over pieces in float64."""
    theta, a = state.theta, state.numbers
    single, share = theta.astype(rows.dtype), size / theta.shape[1]

    def add(piece, sums):
        total, other = sums
        here = piece * ROWS + jnp.arange(ROWS)
        which = jax.lax.dynamic_slice_in_dim(chosen, piece * ROWS, ROWS)
        x, y = rows[which], jax.tree.map(lambda a: a[which], labels)
        r = (x @ single.T).astype(theta.dtype)
        slope = jnp.where(here[:, None] < size, jax.vmap(telling(gradient, a))(r, y), 0.0)
        if along is not None:
            other += jnp.where(here[:, None] < size, jax.vmap(telling(along.slope, a))(r, y), 0.0).sum(0)
        return total + (slope.astype(rows.dtype).T @ x).astype(theta.dtype), other

    total, other = jax.lax.fori_loop(0, len(chosen) // ROWS, add, (jnp.zeros_like(theta), begun(along, a, size)))
    pull = total + share * penalty_gradient(theta, ridge, smooth)
    if not rule.plain:
        return move(rule, numbers, state, pull, eta * share, size, along, other)
    state = state._replace(theta=theta - eta * pull)
    return state if along is None else state._replace(along=state.along._replace(theta=a - along.rate * (eta * share / size) * other))
