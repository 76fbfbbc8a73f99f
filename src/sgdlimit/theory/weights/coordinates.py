"""A coordinate's law, eq. (2), and through it the Gaussian process of a sample.

With a ridge everything is linear: `theta_t = M_t g* + R(t,0) xi + int R(t,s) dU_s` with independent Gaussian parts, so
`C = E[theta theta^T]` is a Gram matrix, positive semi-definite whatever the errors of `R` and of the noise's covariance.
The kernel equations then need first derivatives only,

    d/dt M_t     = -lam M_t - E[l_t g*^T]                     (r* = root(rho) g*)
    d/dt R(t,s)  = -lam R(t,s) - E[H_t chi(t,s)]
    d/dt C(t,t)  = -2 lam C(t,t) - E[l_t r_t^T] - E[r_t l_t^T] + eta E[l_t l_t^T]

which are THEORY's equations for `Cs` and `R`: the first because `dTheta = -h dt - X^T dG` and `x^T theta* = r*`, the
second because a kick of theta at `s` moves every `w_t` by `R(t,s)` and `chi` is what a sample makes of it, the third because
`x^T theta = r` for a sample of the training set. The Gram matrix follows from the first two. The third is much the better estimate of
its diagonal, and the matrix is scaled to it.

Every array has a leading axis of replicates; `N` cells, `N + 1` nodes.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ...checks import root
from ...learning.problem import Problem
from ...learning.spectrum import Spectrum
from ..averages import Averages, Layer
from ..gaussian import GrowingFactor, rescaling

FORGOTTEN = 1e-3  # a response below this acts no more


class Coordinates(Protocol):
    """What the march asks of the law of a coordinate; `RidgeCoordinates` says what each answer is."""

    R: np.ndarray
    noise: GrowingFactor  # of the covariance of U's increments
    white: float  # rate of the white noise on theta that is part of U

    def normals(self, node: int) -> np.ndarray: ...
    def advance(self, node: int, spacing: float, step: np.ndarray, before: Averages, after: Averages, row: np.ndarray) -> None: ...
    def add_noise(self, node: int, row: np.ndarray) -> None: ...
    def directions(self) -> np.ndarray: ...
    def forcing(self, node: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...
    def forget(self, node: int) -> int: ...
    def bridge(self, spacing: float, gamma: np.ndarray, rate: np.ndarray) -> np.ndarray: ...
    def gap(self, node: int) -> np.ndarray: ...
    def kernel(self, nodes: int) -> np.ndarray: ...
    def layer(self, node: int) -> Layer | None: ...


def bridge_variance(spectrum: Spectrum | None, spacing: float, gamma: np.ndarray) -> np.ndarray | float:
    """Variance `(S, 1, 1)` of w inside a cell relative to a Brownian bridge of rate `eta E[l l^T]`: `mean lambda^2` with a spectrum, less
    where an eigenvalue forgets within the cell (the ratio is that of the middle of an Ornstein-Uhlenbeck bridge of rate `lambda Gamma`)."""
    if spectrum is None:
        return 1.0
    size = np.maximum(np.trace(gamma, axis1=1, axis2=2) / gamma.shape[1], 0.0)
    half = np.maximum(0.5 * spacing * spectrum.eigenvalues * size[:, None], 1e-6)
    return np.sum(spectrum.weights * spectrum.eigenvalues**2 * np.tanh(half) / half, 1)[:, None, None]


class RidgeCoordinates:
    """Coordinates under a ridge; rows of nodes are filled as the march goes on.

    Attributes:
        R: response `(S, N + 1, N + 1, k, k)`, zero for `s > t`.
        M: `(S, N + 1, k, k_star)`, so that `E[theta_t theta*^T] = M_t root(rho)`.
        q: self-overlap by the third equation, `(S, N + 1, k, k)`.
        noise: factor of the covariance of the noise increment of each cell.
    """

    def __init__(self, problem: Problem, replicates: int, cells: int, balanced: bool, warmth: float = 0.0):
        """`balanced` scales the Gram matrix to `q`. `warmth` is the rate of white noise of its own, `2 T`."""
        k, k_star = problem.k, problem.k_star
        self.ridge, self.warmth, self.white = problem.ridge, warmth * np.eye(k), warmth
        self.spread = root(problem.init.cov)
        self.cells, self.balanced = cells, balanced
        self.R = np.zeros((replicates, cells + 1, cells + 1, k, k))
        self.R[:, 0, 0] = np.eye(k)
        self.M = np.zeros((replicates, cells + 1, k, k_star))
        self.M[:, 0] = problem.init.overlap @ root(problem.rho)
        self.q = np.zeros((replicates, cells + 1, k, k))
        self.q[:, 0] = problem.self_overlap_start
        self.gaps = np.zeros((replicates, cells + 1, k, k))
        self.noise = GrowingFactor(replicates, cells, k)
        self.first = 0  # the earliest node that is not forgotten

    def normals(self, node: int) -> np.ndarray:
        """theta at a node in independent standard normals `(g*, xi, one k-vector per cell)`: `(S, k, k_star + k + N k)`.

        A noise increment spread evenly over its cell meets the mean response of the cell's two ends.
        """
        replicates, k = self.R.shape[0], self.R.shape[-1]
        met = 0.5 * (self.R[:, node, :node] + self.R[:, node, 1 : node + 1])
        noise = np.zeros((replicates, k, self.cells * k))
        if node:
            factor = self.noise.factor[:, :node, :, :node].reshape(replicates, node * k, node * k)
            noise[:, :, : node * k] = np.swapaxes(met, 1, 2).reshape(replicates, k, node * k) @ factor
        teacher = self.M[:, node]
        rest = np.concatenate([self.R[:, node, 0] @ self.spread, noise], 2)
        balance, gram = self.q[:, node] - teacher @ np.swapaxes(teacher, 1, 2), rest @ np.swapaxes(rest, 1, 2)
        self.gaps[:, node] = gram - balance
        if node and self.balanced:
            rest = rescaling(gram, balance) @ rest
        return np.concatenate([teacher, rest], 2)

    def advance(self, node: int, spacing: float, step: np.ndarray, before: Averages, after: Averages, row: np.ndarray) -> None:
        """Rows `node + 1` by the trapezoid rule from the averages at both ends (the first end's twice: Euler), and the cell's noise from
        its `row` as in `add_noise`; `step (2,)`."""
        self.add_noise(node, row)

        def forward(now, rate, slope0, slope1):
            decay = 0.5 * spacing * rate
            return ((1.0 - decay) * now - 0.5 * spacing * (slope0 + slope1)) / (1.0 + decay)

        known = slice(None), slice(0, node + 1)
        self.R[:, node + 1, : node + 1] = forward(self.R[:, node, : node + 1], self.ridge, before.h_chi[known], after.h_chi[known])
        self.R[:, node + 1, : self.first] = 0.0
        self.R[:, node + 1, node + 1] = np.eye(self.R.shape[-1])
        self.M[:, node + 1] = forward(self.M[:, node], self.ridge, before.l_gstar, after.l_gstar)
        loss = lambda at, eta: at.l_r + np.swapaxes(at.l_r, 1, 2) - eta * at.l_l - self.warmth
        self.q[:, node + 1] = forward(self.q[:, node], 2.0 * self.ridge, loss(before, step[0]), loss(after, step[1]))

    def add_noise(self, node: int, row: np.ndarray) -> None:
        """The noise increment of cell `node`, from its covariances `row (S, k, node + 1, k)` with those up to it."""
        self.noise.extend(node, row)

    def directions(self) -> np.ndarray:
        """The response's directions at time zero, `(S, k, X, k)`: a unit kick of theta at node `x` moves `w_t` by `R(t, t_x)`."""
        return np.moveaxis(self.R[:, 0], 1, 2)

    def forget(self, node: int) -> int:
        """The earliest node whose kicks still act at `node`; what came before is forgotten from now on."""
        acts = (np.abs(self.R[:, node, : node + 1]) > FORGOTTEN).any((0, 2, 3))
        self.first = max(self.first, int(np.argmax(acts)))
        return self.first

    def forcing(self, node: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How the directions move `w` at the start and end of cell `node`, and at the next node itself."""
        start, arrived = np.moveaxis(self.R[:, node], 1, 2), np.moveaxis(self.R[:, node + 1], 1, 2)
        end = arrived.copy()
        end[:, :, node + 1] = 0.0  # that direction starts at the next node
        return start, end, arrived

    def bridge(self, spacing: float, gamma: np.ndarray, rate: np.ndarray) -> np.ndarray:
        """Rate `(S, k, k)` of the Brownian bridge that w is inside a cell, where `eta E[l l^T]` is `rate`."""
        return rate + self.warmth

    def gap(self, node: int) -> np.ndarray:
        """What the Gram matrix makes of `E[theta theta^T]` at a node less what the balance does, `(S, k, k)`: a witness, since they
        share little (`E[H chi]` and the noise's covariance there, `E[l r]` and `E[l l]` here)."""
        return self.gaps[:, node]

    def kernel(self, nodes: int) -> np.ndarray:
        """The response between the first `nodes`, `(S, n, n, k, k)`; behind a filter its part that is smooth, see `filters`."""
        return self.R[:, :nodes, :nodes]

    def layer(self, node: int) -> Layer | None:
        """What samples must know of the optimiser's filter over cell `node`; None without one."""
        return None
