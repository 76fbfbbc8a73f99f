"""A deliberately plain solver of the limit, the baseline of the benchmark and an independent witness of the real one.

It is what one writes from the equations for one paper: an Euler grid in time, Monte Carlo over everything random (`w`, `r*`, `z`
and the driving increments), the closed kernel equations of THEORY section 2 for a ridge, marched causally. It is not made worse
than that on purpose: arrays instead of loops over paths, the Gaussian `w` extended row by row with a Cholesky factor that drops
vanishing pivots, and averages taken over the intensity of the newest increment (`E[m_t | past]`) instead of its draw. Increments
before the newest are used as drawn, because the path depends on them.

On the grid everything is the exact limit of Euler-discretised training, so its only errors are Euler's (first order) and sampling.

    r_i = w_i - sum_{j < i} R(i, j+1) m_j l_j
    J(i, j) = d r_i / d w_j = -sum_{j <= u < i} R(i, u+1) m_u H_u J(u, j),    J(i, i) = I
    Gamma_i = delta E[m_i H_i],  Rl(i, j) = delta E[m_i H_i J(i, j)],  K(i, j) = delta E[m_i m_j l_i l_j^T]
    Rs_i = (delta E[m_i l_i r*^T] - Gamma_i Cs_i - sum_{j < i} Rl(i, j) Cs_j) rho^{-1}
    theta_{i+1} = (1 - h lam) theta_i - [Gamma_i theta_i + sum_{j < i} Rl(i, j) theta_j + Rs_i theta*] + U_i,   E[U_i U_j^T] = K(i, j)
"""

from __future__ import annotations

import functools

import jax
import numpy as np
from scipy.linalg import solve_triangular

import sgdlimit as sl
from sgdlimit.learning.dynamics import step_at

PIVOT = 1e-9


def plain_solve(problem: sl.Problem, dynamics, horizon: float, n_nodes: int, n_paths: int, seed: int = 0):
    """March `n_nodes` equidistant times from 0 to `horizon` with `n_paths` sample paths.

    Returns:
        times `(T,)` and the curves `self_overlap (T, k, k)`, `overlap (T, k, k*)`, `train_risk (T,)`, `test_risk (T,)`.
        Memory is `8 (T k)^2 n_paths` bytes: the derivative of every path in every earlier `w`.
    """
    rng = np.random.default_rng(seed)
    k, k_star, delta, lam, rho = problem.k, problem.k_star, problem.sample_ratio, problem.ridge, problem.teacher.cov
    if isinstance(problem.penalty, sl.SmoothPenalty):
        raise ValueError("the plain solver takes a ridge only")
    steps, paths = n_nodes - 1, n_paths
    times = np.linspace(0.0, horizon, n_nodes)
    h = times[1]
    eta = step_at(dynamics, times)
    m, newest, newest_square = _increments(dynamics, rng, eta, h / delta, steps, paths)

    C = np.zeros((n_nodes, n_nodes, k, k))
    R = np.zeros((n_nodes, n_nodes, k, k))
    Cs = np.zeros((n_nodes, k, k_star))
    K = np.zeros((n_nodes, n_nodes, k, k))
    C[0, 0], Cs[0], R[0, 0] = problem.self_overlap_start, problem.overlap_start, np.eye(k)

    gaussian = _Gaussian(rng, paths)
    r_star = gaussian.extend(np.zeros((0, k_star)), rho)
    z = problem.noise_from_uniform(rng.random((paths, problem.noise_size)) if problem.noise_size else np.zeros((paths, 1)))
    with jax.enable_x64(True):
        y = jax.vmap(problem.label)(r_star, z)
    losses, loss = _compiled(problem.loss)

    mg = np.zeros((n_nodes, paths, k))  # m_j l_j
    mHJ = np.zeros((steps, k, steps, k, paths))  # m_u H_u J(u, j), indices u, row, j, column, path
    train, test = np.zeros(n_nodes), np.zeros(n_nodes)
    for i in range(n_nodes):
        past = np.concatenate([Cs[i].T, *C[i, :i].transpose(0, 2, 1)])  # E[(r*, w_0, ..., w_{i-1}) w_i^T]
        w = gaussian.extend(past, C[i, i])
        r = w - np.einsum("jac,jpc->pa", R[i, 1 : i + 1], mg[:i])
        with jax.enable_x64(True):
            value, g, H = (np.asarray(x) for x in losses(r, y))
            train[i], test[i] = value.mean(), np.asarray(loss(w, y)).mean()
        if i == steps:
            break

        # Averages over the sample's path.
        rows = R[i, 1 : i + 1].transpose(1, 0, 2).reshape(k, i * k)
        J = -(rows @ mHJ[:i].reshape(i * k, steps * k * paths)[:, : i * k * paths]).reshape(k, i, k, paths)
        HJ = np.einsum("pac,cjbp->ajbp", H, J, optimize=True)
        Rl = delta * newest[i] * HJ.mean(-1).transpose(1, 0, 2)
        mHJ[i, :, :i] = m[i] * HJ
        mHJ[i, :, i] = (m[i][:, None, None] * H).transpose(1, 2, 0)
        mg[i] = m[i][:, None] * g
        Gamma = delta * newest[i] * H.mean(0)
        drift = delta * newest[i] * g.T @ r_star / paths
        K[i, :i] = delta * newest[i] * np.einsum("pa,jpb->jab", g, mg[:i], optimize=True) / paths
        K[i, i] = delta * newest_square[i] * g.T @ g / paths
        Rs = (drift - Gamma @ Cs[i] - np.einsum("jac,jcb->ab", Rl, Cs[:i])) @ np.linalg.inv(rho)

        # One step of the coordinate's kernels.
        keep = (1.0 - h * lam) * np.eye(k) - Gamma

        def forward(F, keep=keep, Rl=Rl, i=i):
            """The homogeneous part of (2) applied to `F[u, ...]`, rows `u <= i`."""
            return np.einsum("ac,...cb->...ab", keep, F[i]) - np.einsum("uac,u...cb->...ab", Rl, F[:i], optimize=True)

        Cs[i + 1] = (1.0 - h * lam) * Cs[i] - drift
        R[i + 1, : i + 1] = forward(R[: i + 1, : i + 1])
        R[i + 1, i + 1] = np.eye(k)
        C[i + 1, : i + 1] = forward(C[: i + 1, : i + 1]) - Rs @ Cs[: i + 1].transpose(0, 2, 1)
        C[i + 1, : i + 1] += np.einsum("vac,jvbc->jab", K[i, :i], R[: i + 1, 1 : i + 1], optimize=True)
        C[: i + 1, i + 1] = C[i + 1, : i + 1].transpose(0, 2, 1)
        corner = forward(C[: i + 1, i + 1]) - Rs @ Cs[i + 1].T
        corner += np.einsum("vac,vbc->ab", K[i, : i + 1], R[i + 1, 1 : i + 2])
        C[i + 1, i + 1] = 0.5 * (corner + corner.T)
    return times, {"self_overlap": C[np.arange(n_nodes), np.arange(n_nodes)], "overlap": Cs, "train_risk": train, "test_risk": test}


@functools.lru_cache(maxsize=8)
def _compiled(loss):
    """`(L, l, H)` and `L` for arrays of samples, compiled once per loss."""
    return jax.jit(jax.vmap(lambda r, y: (loss(r, y), jax.grad(loss)(r, y), jax.hessian(loss)(r, y)))), jax.jit(jax.vmap(loss))


def _increments(dynamics, rng, eta, mean, steps, paths):
    """Drawn increments `m (steps, paths)` over one cell, their means and mean squares `(steps,)`; `mean` is `h / delta`."""
    if isinstance(dynamics, sl.SGD):
        m = np.stack([e * rng.poisson(mean / e, paths) for e in eta[:steps]])
    elif isinstance(dynamics, sl.SME):
        m = np.stack([mean + np.sqrt(e * mean) * rng.standard_normal(paths) for e in eta[:steps]])
    elif isinstance(dynamics, sl.GradientFlow):
        m = np.full((steps, paths), mean)
    else:
        raise ValueError(f"the plain solver does not know {dynamics}")
    return m, np.full(steps, mean), eta[:steps] * mean + mean**2


class _Gaussian:
    """Samples of a growing Gaussian vector: one row of a Cholesky factor per component, pivots that vanish dropped."""

    def __init__(self, rng, paths):
        self.rng, self.normals = rng, np.zeros((paths, 0))
        self.factor = np.zeros((0, 0))
        self.pivots: list[int] = []

    def extend(self, past, own):
        """Draw components with covariance `past (size, c)` with all before and `own (c, c)` among themselves: `(paths, c)`."""
        drawn = []
        for c in range(own.shape[0]):
            known = np.concatenate([past[:, c], own[:c, c]])
            kept = self.factor[self.pivots]
            row = solve_triangular(kept, known[self.pivots], lower=True) if self.pivots else np.zeros(0)
            pivot = own[c, c] - row @ row
            if pivot > PIVOT * own[c, c]:
                self.pivots.append(len(self.factor))
                row = np.append(row, np.sqrt(pivot))
                self.factor = np.pad(self.factor, ((0, 0), (0, 1)))
                self.normals = np.column_stack([self.normals, self.rng.standard_normal(len(self.normals))])
            self.factor = np.vstack([self.factor, row])
            drawn.append(self.normals @ row)
        return np.stack(drawn, axis=1)
