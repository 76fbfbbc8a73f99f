"""Second moments of the linear model's modes with a velocity or a temperature: one linear system for all eigenvalues.

Along an eigenvector of `A` with eigenvalue `a` the force is `phi - (a + lam) theta` with `phi = a theta* + X^T z / delta`, and its noise
has the variance `eta a D + 2 T` a time, `D` twice the train risk. With `y = tau V` as in `filtered`, `C = E[theta^2]`, `P = E[y theta]`,
`Q = E[y^2]`, `c = E[theta phi]`, `p = E[y phi]`:

    C' = 2 P/tau              P' = (Q - P)/tau - (a + lam) C + c             c' = p/tau
    Q' = -2 Q/tau - 2 (a + lam) P + 2 p + eta a D + 2 T                     p' = -p/tau - (a + lam) c + E[phi^2]
    D  = s2 + sum of weight (a C - 2 c + a rho)

The matrix is constant for a constant step. Its exponential takes the moments from one output time to the next.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from .modes import Parameters

Array = np.ndarray
C, P, Q, c, p = range(5)


class Moments:
    """At the times `(T,)`, each `(T, size)`: `C`, `P` and `c`; and `residual (T,)`, `D`."""

    def __init__(self, nodes: Array, weights: Array, parameters: Parameters, teacher_variance: float, times: Array):
        self.size, self.parameters = len(nodes), parameters
        rho, noise = teacher_variance, parameters.noise_variance / parameters.sample_ratio
        self.still, self.by_step = self._matrices(nodes, weights, rho, noise)
        overlap, state = parameters.start_overlap, np.zeros((5, self.size))
        state[C] = overlap**2 * rho + parameters.start_variance
        state[c] = overlap * rho * nodes
        order = np.argsort(times, kind="stable")
        found = self._follow(np.append(state.ravel(), 1.0), times[order])[np.argsort(order)]
        parts = found[:, :-1].reshape(len(times), 5, self.size)
        self.C, self.P, self.c = parts[:, C], parts[:, P], parts[:, c]
        self.residual = parameters.noise_variance + (nodes * (self.C + rho) - 2.0 * self.c) @ weights

    def _matrices(self, nodes: Array, weights: Array, rho: float, noise: float) -> tuple[Array, Array]:
        """Of the moments and one: without the noise of SGD, and what the step multiplies."""
        size, lam, memory = self.size, self.parameters.ridge, self.parameters.memory
        matrix, each = np.zeros((5 * size + 1, 5 * size + 1)), np.arange(size)
        put = lambda row, column, values: matrix.__setitem__((row * size + each, column * size + each), values)
        rate, one = nodes + lam, slice(-1, None)
        put(C, P, 2.0 / memory)
        put(P, Q, 1.0 / memory)
        put(P, P, -1.0 / memory)
        put(P, C, -rate)
        put(P, c, 1.0)
        put(Q, Q, -2.0 / memory)
        put(Q, P, -2.0 * rate)
        put(Q, p, 2.0)
        put(c, p, 1.0 / memory)
        put(p, p, -1.0 / memory)
        put(p, c, -rate)
        matrix[Q * size : (Q + 1) * size, one] = 2.0 * self.parameters.temperature
        matrix[p * size : (p + 1) * size, one] = (rho * nodes**2 + noise * nodes)[:, None]
        residual = np.zeros(5 * size + 1)
        residual[C * size : (C + 1) * size] = weights * nodes
        residual[c * size : (c + 1) * size] = -2.0 * weights
        residual[-1] = self.parameters.noise_variance + rho * weights @ nodes
        by_step = np.zeros_like(matrix)
        by_step[Q * size : (Q + 1) * size] = nodes[:, None] * residual
        return matrix, by_step

    def _follow(self, state: Array, times: Array) -> Array:
        step: Any = self.parameters.step
        if callable(step):
            last = max(float(times.max(initial=0.0)), 1e-12)
            slope = lambda t, x: self.still @ x + step(t) * (self.by_step @ x)
            jacobian = lambda t, x: self.still + step(t) * self.by_step
            solved = solve_ivp(slope, (0.0, last), state, "LSODA", times, jac=jacobian, rtol=1e-9, atol=1e-12, max_step=last / 50)
            return solved.y.T
        rows, before, known = [], 0.0, {}
        for t in times:
            gap = round(t - before, 14)
            if gap not in known:
                known[gap] = expm(gap * (self.still + step * self.by_step))
            state, before = known[gap] @ state, t
            rows.append(state)
        return np.array(rows)
