"""Learning curves known exactly: the linear model with a ridge, and its online limit (THEORY section 3).

The linear model has loss `(r - y)^2 / 2` and label `y = r* + sqrt(noise_variance) z` with one direction each (`k = k* = 1`).
Its curves are averages over the Marchenko-Pastur law of `A = X^T X / delta`, and the noise of SGD adds a Volterra equation
for the train risk (Paquette, Lee, Pedregosa and Paquette, arXiv 2102.04396; here the case of Fan and Wang, arXiv
2601.21093). Both are solved without a grid in time: the law is replaced by a Gauss rule, which turns the Volterra
equation into a linear system of equations with constant coefficients.

Everything here is NumPy and float64; time is `t` of THEORY section 1 (one epoch lasts `step * sample_ratio`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp
from scipy.linalg import eigh_tridiagonal, expm

from ...learning.optimisers import Optimizer
from .linear_momentum import Moments
from .modes import Parameters, curves, kicked, memory_of, modes, moved, phi

Array = np.ndarray


def marchenko_pastur(sample_ratio: float, size: int) -> tuple[Array, Array]:
    """Gauss rule of the eigenvalue law of `X^T X / delta`, `X (n, d)` with entries of variance `1/d`, `n/d = delta`.

    The law's three-term recurrence is constant after its first row (the limit of the bidiagonal form of a Gaussian matrix), so
    the rule is exact for polynomials of degree `2 size - 1` at every `delta`: the atom at zero for `delta < 1` and the hard
    edge at `delta = 1` need no special treatment, and averages of exponentials converge faster than geometrically.

    Returns:
        nodes `(size,)`, increasing and not negative, and weights `(size,)`, which sum to 1.
    """
    gamma = 1.0 / sample_ratio
    diagonal = np.full(size, 1.0 + gamma)
    diagonal[0] = 1.0
    nodes, vectors = eigh_tridiagonal(diagonal, np.full(size - 1, math.sqrt(gamma)))
    return np.where(nodes < 1e-13 * (1.0 + gamma), 0.0, nodes), vectors[0] ** 2


def linear_model(
    sample_ratio: float,
    step: float | Callable[[float], float],
    ridge: float,
    noise_variance: float,
    start_variance: float,
    teacher_variance: float,
    times: Any,
    start_overlap: float = 0.0,
    optimizer: Optimizer | None = None,
    temperature: float = 0.0,
) -> dict[str, Array]:
    """Curves of the linear model under SGD and SME (the same), or gradient flow for `step = 0`.

    Arguments:
        sample_ratio: `delta = n/d`.
        step: `eta`, or a schedule `t -> eta`, which is integrated to a relative 1e-10. Above `stability_limit` the curves grow without
            bound, which is then what is returned.
        ridge: `lam` of the penalty `lam theta^2 / 2`.
        noise_variance: variance of the label noise.
        start_variance, start_overlap: the start is `theta_0 = start_overlap theta* + N(0, start_variance)`.
        teacher_variance: `rho = E[theta*^2]`.
        times: `(T,)`, not negative, in any order.
        optimizer: `Momentum` or None.
        temperature: as of the dynamics.

    Returns:
        `self_overlap`, `overlap`, `train_risk`, `test_risk`, each `(T,)`, accurate to about 1e-12 of their scale (1e-9 with a velocity).
        Source: THEORY section 3, with a general start overlap added; momentum and temperature are beyond the paper (OPTIMISERS section 2).

    Raises:
        InputError: an optimiser that does not act linearly.
    """
    p = Parameters(sample_ratio, step, ridge, noise_variance, start_variance, start_overlap, memory_of(optimizer), temperature)
    model = _Linear(p, teacher_variance, times)
    m = teacher_variance * model.aligned @ model.weights
    if model.moments is not None:
        return curves(model.moments.C @ model.weights, m, model.moments.residual, teacher_variance, noise_variance)
    q = model.flow() + model.excess @ np.sqrt(model.weights)
    residual = model.flow_residual() + model.excess @ (np.sqrt(model.weights) * model.nodes)
    return curves(q, m, residual, teacher_variance, noise_variance)


def linear_kernels(
    sample_ratio: float,
    step: float | Callable[[float], float],
    ridge: float,
    noise_variance: float,
    start_variance: float,
    teacher_variance: float,
    times: Any,
    start_overlap: float = 0.0,
    optimizer: Optimizer | None = None,
    temperature: float = 0.0,
) -> dict[str, Array]:
    """Two-time kernels of the linear model, arguments as in `linear_model`.

    Returns:
        `correlation (T, T)`, `C(t, s) = E[theta_t theta_s]`, and `response (T, T)`, `R(t, s) = int g(t - s) mu(da)` for `s <= t` and 0 for
        `s > t`, where `g(t) = e^{-(a + lam) t}`, or what momentum makes of it. The response is that of the mean, so it is the same for
        SGD, SME and gradient flow.
    """
    p = Parameters(sample_ratio, step, ridge, noise_variance, start_variance, start_overlap, memory_of(optimizer), temperature)
    model = _Linear(p, teacher_variance, times)
    a, w, t = model.nodes, model.weights, model.times
    gap = (t[:, None] - t[None, :])[..., None]
    left = kicked(a + ridge, np.abs(gap), p.memory)
    response = np.where(gap[..., 0] >= 0, left @ w, 0.0)
    earlier = lambda part: np.where(gap >= 0, part[None, :, :], part[:, None, :])
    if model.moments is not None:
        decay, integral = moved(a + ridge, np.abs(gap), p.memory)[:2]
        parts = decay * earlier(model.moments.C) + left * earlier(model.moments.P) + integral * earlier(model.moments.c)
        return {"correlation": parts @ w, "response": response}
    e, f, aligned = model.decay, model.integral, model.aligned
    correlation = (start_variance * e * w) @ e.T + (teacher_variance * aligned * w) @ aligned.T
    correlation += (noise_variance / sample_ratio * f * w * a) @ f.T
    # Noise injected until the earlier of the two times decays at the rate of the mean afterwards.
    correlation += (left * earlier(model.excess)) @ np.sqrt(w)
    return {"correlation": correlation, "response": response}


def stability_limit(sample_ratio: float, ridge: float = 0.0) -> float:
    """Largest step `eta` for which SGD on the linear model stays bounded: `eta int a^2 / (2 (a + lam)) mu(da) = 1` (THEORY section 3).

    It is 2 without a ridge at every `sample_ratio`; a ridge raises it. Momentum does not change it, since `int g^2 dt = 1 / (2 (a + lam))`
    whatever its memory. The integral is `(1 - lam + lam^2 g) / 2` with the
    Stieltjes transform `g = int mu(da) / (a + lam)`, known in closed form.
    """
    if ridge == 0:
        return 2.0
    gamma = 1.0 / sample_ratio
    b = ridge + 1.0 - gamma
    disc = math.sqrt(b * b + 4.0 * gamma * ridge)
    g = 2.0 / (b + disc) if b > 0 else (disc - b) / (2.0 * gamma * ridge)
    return 2.0 / (1.0 - ridge + ridge * ridge * g)


def online_linear(
    step: float,
    ridge: float,
    noise_variance: float,
    start_variance: float,
    teacher_variance: float,
    times: Any,
    start_overlap: float = 0.0,
    optimizer: Optimizer | None = None,
    temperature: float = 0.0,
) -> dict[str, Array]:
    """Curves of one-pass SGD on the linear model, the limit `sample_ratio -> infinity` of `linear_model` (THEORY section 3).

    `q' = -2 (lam + 1) q + 2 m + eta D + 2 T`, `m' = -(lam + 1) m + rho`, `D = q - 2 m + rho + noise_variance`, solved by the exponential of
    a matrix; with `Momentum` the moments of `linear_momentum` at the one eigenvalue that is left. A fresh sample at every step makes
    train and test risk equal.

    Returns:
        `self_overlap`, `overlap`, `train_risk`, `test_risk`, each `(T,)`.
    """
    t = np.atleast_1d(np.asarray(times, dtype=float))
    rho, memory = teacher_variance, memory_of(optimizer)
    if memory:
        p = Parameters(np.inf, step, ridge, noise_variance, start_variance, start_overlap, memory, temperature)
        found = Moments(np.ones(1), np.ones(1), p, rho, t)
        return curves(found.C[:, 0], found.c[:, 0], found.residual, rho, noise_variance)
    # Columns act on (q, m, 1).
    generator = np.array(
        [
            [-2.0 * (ridge + 1.0) + step, 2.0 - 2.0 * step, step * (rho + noise_variance) + 2.0 * temperature],
            [0.0, -(ridge + 1.0), rho],
            [0.0, 0.0, 0.0],
        ]
    )
    start = np.array([start_overlap**2 * rho + start_variance, start_overlap * rho, 1.0])
    state = expm(t[:, None, None] * generator) @ start
    q, m = state[:, 0], state[:, 1]
    return curves(q, m, q - 2.0 * m + rho + noise_variance, rho, noise_variance)


def linear_descent(
    sample_ratio: float,
    step: float | Callable[[float], float],
    fraction: float,
    ridge: float,
    noise_variance: float,
    start_variance: float,
    teacher_variance: float,
    steps: int,
    start_overlap: float = 0.0,
    optimizer: Optimizer | None = None,
    temperature: float = 0.0,
) -> dict[str, Array]:
    """Curves of the linear model under `MiniBatchGD(step, fraction)` after each of `steps` steps, eigenvalue by eigenvalue.

    A step of length `h = eta b delta` takes an eigenvector of `A` with eigenvalue `a` from `e, f` to `(1 - h (a + lam)) e` and
    `(1 - h (a + lam)) f + h`, with `theta = e xi + (start_overlap e + f a) theta* + f X^T z / delta` as for the flow; this is all for
    `fraction = 1`. Otherwise the choice of the batch adds the variance `u`, `u -> (1 - h (a + lam))^2 u + a eta h (1 - b) D`, with `D`
    twice the train risk: the discrete form of SGD's Volterra equation; a temperature adds `2 T h`. Averages of polynomials in `a` by a
    Gauss rule are exact. With `Momentum` each has a velocity, in units of a step: `e` a pair, `u` a 2 x 2 matrix, and the step a matrix.

    Returns:
        `time`, when each step ends (`T = steps + 1`, the start first), and `self_overlap`, `overlap`, `train_risk`, `test_risk`, `(T,)`.
    """
    a, weights = marchenko_pastur(sample_ratio, steps + 2)
    rho, noise, memory = teacher_variance, noise_variance / sample_ratio, memory_of(optimizer)
    e, f, u, time, before = np.stack([np.ones_like(a), np.zeros_like(a)]), np.zeros((2, len(a))), np.zeros((2, 2, len(a))), 0.0, np.inf
    rows = []
    for _ in range(steps + 1):
        aligned, fit = start_overlap * e[0] + f[0] * a, f[0] * a
        q = weights @ (start_variance * e[0] ** 2 + rho * aligned**2 + noise * f[0] * fit + u[0, 0])
        m = rho * weights @ aligned
        signal = start_variance * e[0] ** 2 + rho * (aligned - 1.0) ** 2 + u[0, 0]
        residual = weights @ (signal * a + noise * (fit**2 - 2.0 * fit)) + noise_variance
        rows.append((time, q, m, 0.5 * residual, 0.5 * (q - 2.0 * m + rho + noise_variance)))
        eta = step(time) if callable(step) else step
        h = eta * fraction * sample_ratio
        beta = max(0.0, 1.0 - h / memory) if memory else 0.0
        # How a force and the velocity move both.
        force = np.array([(1.0 - beta) * (1.0 + beta if getattr(optimizer, "nesterov", False) else 1.0), 1.0 - beta])
        kept = beta * h / before
        carried = np.array([[1.0, kept * (beta if getattr(optimizer, "nesterov", False) else 1.0)], [0.0, kept]])
        one = carried[:, :, None] - h * force[:, None, None] * np.array([1.0, 0.0])[:, None] * (a + ridge)
        e, f = np.einsum("ijn,jn->in", one, e), np.einsum("ijn,jn->in", one, f) + h * force[:, None]
        u = np.einsum("ijn,jkn,lkn->iln", one, u, one)
        u = u + np.outer(force, force)[:, :, None] * (a * eta * h * (1.0 - fraction) * residual + 2.0 * temperature * h)
        time, before = time + h, h
    return dict(zip(("time", "self_overlap", "overlap", "train_risk", "test_risk"), np.array(rows).T, strict=True))


class _Linear:
    """The linear model at the nodes of the Gauss rule: everything is `(T, size)`, time first.

    The flow is that of `modes`. The noise of SGD and of a temperature adds the variance `u(t) = int_0^t e^{-2 (a + lam)(t - s)}
    (eta a D(s) + 2 T) ds`; `excess` is `sqrt(weight) u`. With a velocity all second moments are `moments`.
    """

    def __init__(self, parameters: Parameters, teacher_variance: float, times: Any):
        self.parameters, self.teacher_variance = parameters, teacher_variance
        t = np.atleast_1d(np.asarray(times, dtype=float))
        if (t < 0).any():
            raise ValueError(f"`times` must not be negative, but reaches {t.min():g}")
        self.times = t
        # e^{-2 a t} over a support of length 4/sqrt(delta) has Chebyshev coefficients like exp(-k^2 / 2z) beyond exp's own.
        z = 4.0 * t.max(initial=0.0) / math.sqrt(parameters.sample_ratio)
        self.nodes, self.weights = marchenko_pastur(parameters.sample_ratio, 40 + math.ceil(5.0 * math.sqrt(z)))
        self.decay, self.integral, self.aligned = modes(self.nodes, parameters.ridge, parameters.start_overlap, t, parameters.memory)
        self.moments = None
        if parameters.memory:
            self.moments = Moments(self.nodes, self.weights, parameters, teacher_variance, t)
        else:
            self.excess = self._excess() if parameters.step or parameters.temperature else np.zeros_like(self.decay)

    def flow(self) -> Array:
        """`q_gf(t)`, the self-overlap of the flow, `(T,)`."""
        p = self.parameters
        second = p.start_variance * self.decay**2 + self.teacher_variance * self.aligned**2
        second += p.noise_variance / p.sample_ratio * self.integral**2 * self.nodes
        return second @ self.weights

    def flow_residual(self) -> Array:
        """`D_gf(t)`, twice the train risk of the flow, `(T,)`."""
        a, p = self.nodes, self.parameters
        fit = self.integral * a
        signal = p.start_variance * self.decay**2 + self.teacher_variance * (self.aligned - 1.0) ** 2
        noise = p.noise_variance / p.sample_ratio * (fit**2 - 2.0 * fit)
        return (signal * a + noise) @ self.weights + p.noise_variance

    def _excess(self) -> Array:
        """Solve `u' = -2 (a + lam) u + eta a D + 2 T`, `D = D_gf + sum w a u` exactly.

        In `v = sqrt(w) u` the matrix `-2 diag(a + lam) + eta b b^T`, `b = sqrt(w) a`, is symmetric; `D_gf` is a sum of exponentials,
        each of which convolves with an eigenmode in closed form.
        """
        a, w, t, p = self.nodes, self.weights, self.times, self.parameters
        step, rate = p.step, a + p.ridge
        share = np.divide(a, rate, out=np.zeros_like(a), where=rate > 0)
        noise, rho = p.noise_variance / p.sample_ratio, self.teacher_variance
        # D_gf = constant + sum_j once_j e_j + twice_j e_j^2, from f a = share (1 - e).
        offset, slope = share - 1.0, p.start_overlap - share
        constant = p.noise_variance + w @ (rho * a * offset**2 + noise * (share**2 - 2.0 * share))
        once = w * (2.0 * rho * a * offset * slope + 2.0 * noise * share * (1.0 - share))
        twice = w * (a * (p.start_variance + rho * slope**2) + noise * share**2)
        amplitudes = np.concatenate([[constant], once, twice])
        rates = np.concatenate([[0.0], rate, 2.0 * rate])

        b, heat = np.sqrt(w) * a, 2.0 * p.temperature * np.sqrt(w)
        if callable(step):

            def slope_of(s: float, v: Array) -> Array:
                decay = np.exp(-rate * s)
                residual = constant + once @ decay + twice @ decay**2 + b @ v
                return -2.0 * rate * v + step(s) * b * residual + heat

            order = np.argsort(t)
            span = (0.0, max(float(t.max(initial=0.0)), 1e-12))
            solved = solve_ivp(slope_of, span, np.zeros_like(b), "DOP853", t[order], rtol=1e-10, atol=1e-13, max_step=span[1] / 50)
            return solved.y.T[np.argsort(order)]
        modes, basis = np.linalg.eigh(np.diag(-2.0 * rate) + step * np.outer(b, b))
        # int_0^t e^{mode (t - s)} e^{-rate s} ds, from the larger exponent so that nothing cancels or overflows early.
        mode, lower = modes[:, None], -rates[None, :]
        top, gap = np.maximum(mode, lower), np.abs(mode - lower)
        convolved = (s * np.exp(top * s) * phi(gap * s) for s in t)
        driven = [part @ amplitudes * (step * (basis.T @ b)) + part[:, 0] * (basis.T @ heat) for part in convolved]
        return np.stack(driven) @ basis.T
