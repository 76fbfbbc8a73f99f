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
from .data import Data, penalty_gradient, smooth_penalty

RTOL = 1e-5  # far below the scatter between runs; float32 rows allow about 1e-6
ROWS = 16  # rows per piece: read from memory once, used twice (X theta, then X^T l)


class FlowPath:
    """`dTheta/dt = -X^T l / delta - h(Theta)`; output times are interpolated by the method's own polynomial."""

    fresh = False

    def __init__(self, problem: Problem, dynamics: GradientFlow, n: int, d: int, batch_size: int, design: str, times: np.ndarray):
        self.problem, self.times, self.shape = problem, times, (problem.k, d)
        self.diagnostics = {"steps": 0, "relative_tolerance": RTOL}

    def run(self, data: Data, rng: np.random.Generator) -> Iterator[tuple[float, np.ndarray, list[int]]]:
        """Yield `(time, weights (k, d), which output times this is)` at every output time and after every step."""
        scale = np.sqrt(np.trace(self.problem.self_overlap_start) + np.trace(self.problem.rho)) or 1.0

        def velocity(t: float, flat: np.ndarray) -> np.ndarray:
            theta = jnp.asarray(flat.reshape(self.shape))
            return np.asarray(
                _velocity(
                    theta,
                    data.rows,
                    data.labels,
                    1 / self.problem.sample_ratio,
                    self.problem.ridge,
                    loss=Static(self.problem.loss),
                    smooth=smooth_penalty(self.problem),
                )
            ).ravel()

        yield 0.0, data.start, np.flatnonzero(self.times == 0).tolist()
        if self.times[-1] == 0:
            return
        solver = DOP853(velocity, 0.0, data.start.ravel(), float(self.times[-1]), rtol=RTOL, atol=RTOL * scale)
        while solver.status == "running":
            solver.step()
            if solver.status == "failed":  # no step is small enough: the flow ends in finite time
                yield float(solver.t), np.full(self.shape, np.nan), []
                return
            self.diagnostics["steps"] = max(self.diagnostics["steps"], int(solver.nfev))
            due = np.flatnonzero((self.times > solver.t_old) & (self.times <= solver.t))
            between = solver.dense_output() if (self.times[due] < solver.t).any() else lambda t: solver.y
            for i in due:
                yield float(self.times[i]), between(self.times[i]).reshape(self.shape), [int(i)]
            yield float(solver.t), solver.y.reshape(self.shape), []


@partial(jit, static_argnames=("loss", "smooth"))
def _velocity(theta, rows, labels, weight, ridge, *, loss, smooth):
    """`-X^T l / delta - h(theta)`; products in float32, as the rows, sums over pieces in float64."""
    n = len(rows)
    single = theta.astype(rows.dtype)

    def pull(x, y):
        r = (x @ single.T).astype(theta.dtype)
        return (jax.vmap(jax.grad(loss))(r, y).astype(rows.dtype).T @ x).astype(theta.dtype)

    def add(j, total):
        cut = lambda a: jax.lax.dynamic_slice_in_dim(a, j * ROWS, ROWS)
        return total + pull(cut(rows), jax.tree.map(cut, labels))

    total = jax.lax.fori_loop(0, n // ROWS, add, jnp.zeros_like(theta))
    if n % ROWS:
        rest = n // ROWS * ROWS
        total += pull(rows[rest:], jax.tree.map(lambda y: y[rest:], labels))
    return -weight * total - penalty_gradient(theta, ridge, smooth)
