"""Gradient flow at finite size: an adaptive Runge-Kutta method of order 8 (SciPy's DOP853) on a compiled right-hand side."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import DOP853

from ..compiling import jit
from ..functions import Static
from ..learning.dynamics import GradientFlow
from ..learning.problem import Problem
from .along import along_of, begun, flat, parted, start_of, telling
from .averaging import rate_of
from .beside import Streams, of_all
from .data import Data, penalty_gradient, smooth_penalty
from .optimisers import PLAIN, Extras

RTOL = 1e-5  # far below the scatter between runs; float32 rows allow about 1e-6
# Rows per piece: read from memory once, used twice (X theta, then X^T l); and the most entries of all rows that a cache holds anyway.
ROWS, CACHED = 16, 2**18


class FlowPath:
    """`dTheta/dt = F`, `F = -X^T l / delta - h(Theta)`, or with a velocity `V` of memory `tau` `dV/dt = (F - V) / tau`, `dTheta/dt = V`;
    with an average its integral as one more variable. What is trained along has the force `-rate (mean of grad_a L + h_a(a))`. Output
    times are interpolated by the method's own polynomial."""

    fresh, beside = False, True

    def __init__(
        self,
        problem: Problem,
        dynamics: GradientFlow,
        n: int,
        d: int,
        batch_size: int,
        design: str,
        times: np.ndarray,
        extras: Extras = PLAIN,
    ):
        self.problem, self.times, self.shape = problem, times, (problem.k, d)
        self.memory = dynamics.optimizer.memory if dynamics.optimizer is not None else 0.0
        self.averaged, self.rate = extras.average is not None, rate_of(extras.average)
        self.diagnostics = {"steps": 0, "relative_tolerance": RTOL}

    def run(self, data: Data, rng: Streams) -> Iterator[tuple[float, np.ndarray, list[int]]]:
        """Yield `(time, rows as State.shown() has them, which output times this is)` at every output time and after every step."""
        scale = np.sqrt(np.trace(self.problem.self_overlap_start) + np.trace(self.problem.rho)) or 1.0

        first = flat(data.start, start_of(self.problem, data.start.shape[:-2]))
        start = np.zeros((*first.shape[:-1], 1 + self.averaged + (self.memory > 0), first.shape[-1]))  # weights, their integral, velocity
        start[..., 0, :] = first
        shown = lambda variables: variables.reshape(start.shape)[..., : 1 + self.averaged, :]
        yield 0.0, shown(start.ravel()), np.flatnonzero(self.times == 0).tolist()
        if self.times[-1] == 0:
            return
        change = partial(self._change, data, start.shape)
        solver = DOP853(change, 0.0, start.ravel(), float(self.times[-1]), rtol=RTOL, atol=RTOL * scale)
        while solver.status == "running":
            solver.step()
            if solver.status == "failed":  # no step is small enough: the flow ends in finite time
                yield float(solver.t), np.full_like(shown(start.ravel()), np.nan), []
                return
            self.diagnostics["steps"] = max(self.diagnostics["steps"], int(solver.nfev))
            due = np.flatnonzero((self.times > solver.t_old) & (self.times <= solver.t))
            between = solver.dense_output() if (self.times[due] < solver.t).any() else lambda t: solver.y
            for i in due:
                yield float(self.times[i]), shown(between(self.times[i])), [int(i)]
            yield float(solver.t), shown(solver.y), []

    def _change(self, data: Data, shape: tuple[int, ...], t: float, state: np.ndarray) -> np.ndarray:
        """The time derivative of all variables."""
        variables = state.reshape(shape)
        theta, a = parted(variables[..., 0, :], self.problem, self.shape[1])
        force = flat(
            *_force(
                theta,
                a,
                data.rows,
                data.labels,
                1 / self.problem.sample_ratio,
                self.problem.ridge,
                along_of(self.problem),
                gradient=Static(self.problem.slopes.gradient),
                smooth=smooth_penalty(self.problem),
            )
        )
        weights, last = variables[..., 0, :], variables[..., -1, :]
        change = [last if self.memory else force]
        if self.averaged:
            change.append(weights - self.rate * variables[..., 1, :])
        if self.memory:
            change.append((force - last) / self.memory)
        return np.stack(change, -2).ravel()


@partial(jit, static_argnames=("gradient", "smooth"))
def _force(theta, a, rows, *given, **functions):
    return of_all(rows, partial(_forced, **functions), (0, 0, 0, 0, None, None, None))(theta, a, rows, *given)


def _forced(theta, a, rows, labels, weight, ridge, along, *, gradient, smooth):
    """`-X^T l / delta - h(theta)`, and that of `a`; products in float32, as the rows, sums over pieces in float64."""
    n = len(rows)
    single = theta.astype(rows.dtype)

    def pull(x, y):
        r = (x @ single.T).astype(theta.dtype)
        other = None if along is None else jax.vmap(telling(along.slope, a))(r, y).sum(0)
        return (jax.vmap(telling(gradient, a))(r, y).astype(rows.dtype).T @ x).astype(theta.dtype), other

    def add(j, total):
        cut = lambda part: jax.lax.dynamic_slice_in_dim(part, j * ROWS, ROWS)
        return jax.tree.map(jnp.add, total, pull(cut(rows), jax.tree.map(cut, labels)))

    total, rest = (jnp.zeros_like(theta), begun(along, a, n)), 0
    if rows.size > CACHED:
        total, rest = jax.lax.fori_loop(0, n // ROWS, add, total), n // ROWS * ROWS
    if rest < n:
        total = jax.tree.map(jnp.add, total, pull(rows[rest:], jax.tree.map(lambda y: y[rest:], labels)))
    force, other = total
    return -weight * force - penalty_gradient(theta, ridge, smooth), None if along is None else -along.rate * other / n
