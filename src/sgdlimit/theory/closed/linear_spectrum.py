"""The linear model on anisotropic data: curves from random-matrix theory, without the equations of a sample or of a coordinate.

As for isotropic data (`linear`) the flow is `theta_t = e(A) xi + h(A) theta* + f(A) X^T z / delta` (`modes`), and the curves are
traces with the covariance `Lambda` and the teacher's `T`, diagonal in the same basis. All are integrals over a contour around the
eigenvalues of `A`, of the resolvent
`Q(z) = (A - z)^-1`, whose limits are (Silverstein; Hachem, Loubaton and Najim, arXiv math/0507172; Couillet and Liao, *Random Matrix
Methods for Machine Learning*, 2.4)

    Q(z) ~ G(z) = (Lambda / (1 + g) - z)^-1,      g(z) = mean Lambda G(z) / delta
    Q(z) Lambda Q(z') ~ G Lambda G' / (1 - c),    c = mean Lambda^2 G G' / (delta (1 + g) (1 + g'))

SGD's noise adds the Volterra equation of homogenised SGD (Paquette, Paquette, Adlam and Pennington, arXiv 2205.07069).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...errors import refuse
from ...learning.optimisers import Optimizer
from .modes import Parameters, curves, kicked, memory_of, modes

Array = np.ndarray

DIGITS, MOST = 14, 2048  # of the contour: its errors fall geometrically with the number of points, which is at most so many
GRID = 2048  # intervals of the Volterra equation, whose order is raised to four by halving
RESOLVED, FINEST = 8, 2**15  # intervals for a memory, at least, and of all


class Law(NamedTuple):
    """Features of eigenvalue `eigenvalues (m,)` as fractions `weights (m,)`, with teacher's second moments `teacher (m,)`."""

    eigenvalues: Array
    weights: Array
    teacher: Array


def linear_spectrum(
    sample_ratio: float,
    step: float,
    ridge: float,
    noise_variance: float,
    start_variance: float,
    eigenvalues: Any,
    weights: Any,
    teacher: Any,
    times: Any,
    start_overlap: float = 0.0,
    optimizer: Optimizer | None = None,
    temperature: float = 0.0,
) -> dict[str, Array]:
    """Curves of the linear model under SGD and SME (the same), or gradient flow for `step = 0`.

    Arguments:
        sample_ratio, step, ridge, noise_variance, start_variance, start_overlap, optimizer, temperature: as in `linear.linear_model`; the
            step is constant, and a memory at least a four-thousandth of the last time.
        eigenvalues, weights: `(m,)` of the feature covariance, of mean one.
        teacher: `(m,)`, `E[theta*^2]` at each eigenvalue.
        times: `(T,)`, not negative.

    Returns:
        `self_overlap`, `overlap`, `train_risk`, `test_risk`, each `(T,)`: second moments of pre-activations, and risks.
    """
    law = Law(*(np.asarray(x, dtype=float) for x in (eigenvalues, weights, teacher)))
    p = Parameters(sample_ratio, step, ridge, noise_variance, start_variance, start_overlap, memory_of(optimizer), temperature)
    t = np.atleast_1d(np.asarray(times, dtype=float))
    contour = _Contour(law, sample_ratio, ridge, float(t.max(initial=0.0)))
    q, m = _flow(contour, law, p, t)
    residual = _flow_residual(contour, law, p, t)
    if step or temperature:
        fine = _grid(p.memory, max(float(t.max(initial=0.0)), 1e-12))
        kernels = _noise_kernels(contour, law, p, fine)
        driven = _flow_residual(contour, law, p, fine)
        grown = [_volterra(fine[::s], driven[::s], [kernel[::s] for kernel in kernels], step, temperature) for s in (1, 2)]
        at = [np.array([np.interp(t, fine[::s], values) for values in pair]) for s, pair in zip((1, 2), grown, strict=True)]
        added = at[0] + (at[0] - at[1]) / 3.0
        q, residual = q + added[0], residual + added[1]
    rho = float(law.weights @ (law.eigenvalues * law.teacher))
    return curves(q, m, residual, rho, noise_variance)


class _Contour:
    """Points `z (N,)` around the eigenvalues of `A` with the weights of `-1/(2 pi i)` times an integral, `G (N, m)` and `1 + g (N,)`."""

    def __init__(self, law: Law, sample_ratio: float, ridge: float, longest: float):
        # An ellipse around the roots of the eigenvalues, shifted: it has many points near zero, where the slow ones are. To the left of
        # zero exponentials grow, so it stays within a few of their ranges there.
        top = float(law.eigenvalues.max()) * (1.0 + sample_ratio**-0.5) ** 2
        shift = min(0.25 * top, 4.0 / max(longest, 1e-9))
        low, high = np.sqrt(shift), np.sqrt(1.1 * top + shift)
        reach = 1.0 + np.sqrt(low / (high - low))
        count = min(2 * int(0.5 * DIGITS * np.log(10.0) / np.log(reach)) + 64, MOST)
        circle = reach * np.exp(2j * np.pi * (np.arange(count) + 0.5) / count)
        u = 0.5 * (high + low) + 0.25 * (high - low) * (circle + 1.0 / circle)
        self.z = u**2 - shift
        self.weights = -2.0 * u * 0.25 * (high - low) * (circle - 1.0 / circle) / count
        self.G, self.one = _resolvent(law, sample_ratio, self.z)
        self.sample_ratio = sample_ratio

    def single(self, weight: Array, functions: Array) -> Array:
        """`mean of weight * diagonal of F(A)` for functions given at the points, `(T, N)`; `weight (m,)` includes the fractions."""
        return np.real(functions @ (self.weights * (self.G @ weight)))

    def double(self, law: Law, weight: Array, functions: Array) -> Array:
        """`mean of weight * diagonal of F(A) Lambda F(A)`."""
        G, share = self.G, law.weights * law.eigenvalues
        between = (G * (weight * law.eigenvalues)) @ G.T
        loop = (G * (share * law.eigenvalues)) @ G.T / (self.sample_ratio * self.one[:, None] * self.one)
        kernel = self.weights[:, None] * self.weights * between / (1.0 - loop)
        return np.real(np.einsum("tn,nk,tk->t", functions, kernel, functions, optimize=True))


def _resolvent(law: Law, sample_ratio: float, z: Array) -> tuple[Array, Array]:
    """`G (N, m)` and `1 + g (N,)`, by Newton's method along the way from far above the axis, where the solution is unique."""
    g = np.zeros(len(z), complex)
    up = np.where(np.imag(z) >= 0, 1.0, -1.0) * 1j
    for lift in [*(float(np.abs(z).max()) * 2.0 ** -np.arange(0.0, 24.0)), 0.0]:
        at = z + lift * up
        for _ in range(50):
            inverse = 1.0 / (law.eigenvalues / (1.0 + g)[:, None] - at[:, None])
            value = inverse @ (law.weights * law.eigenvalues) / sample_ratio
            slope = (inverse**2) @ (law.weights * law.eigenvalues**2) / (sample_ratio * (1.0 + g) ** 2)
            change = (value - g) / (1.0 - slope)
            g = g + change
            if np.abs(change).max() < 1e-14 * (1.0 + np.abs(g).max()):
                break
    return 1.0 / (law.eigenvalues / (1.0 + g)[:, None] - z[:, None]), 1.0 + g


def _flow(contour: _Contour, law: Law, p: Parameters, t: Array) -> tuple[Array, Array]:
    """Self-overlap and overlap of the flow, `(T,)` each."""
    decay, integral, aligned = modes(contour.z, p.ridge, p.start_overlap, t, p.memory)
    share, noise = law.weights * law.eigenvalues, p.noise_variance / p.sample_ratio
    q = contour.single(share, p.start_variance * decay**2 + noise * integral**2 * contour.z)
    return q + contour.double(law, law.weights * law.teacher, aligned), contour.single(share * law.teacher, aligned)


def _flow_residual(contour: _Contour, law: Law, p: Parameters, t: Array) -> Array:
    """Twice the train risk of the flow, `(T,)`."""
    z, (decay, integral, aligned) = contour.z, modes(contour.z, p.ridge, p.start_overlap, t, p.memory)
    fit, noise = integral * z, p.noise_variance / p.sample_ratio
    residual = contour.single(law.weights, p.start_variance * decay**2 * z + noise * (fit**2 - 2.0 * fit)) + p.noise_variance
    return residual + contour.single(law.weights * law.teacher, (aligned - 1.0) ** 2 * z)


def _grid(memory: float, last: float) -> Array:
    """Times of the Volterra equation, close enough for a memory."""
    intervals = GRID if not memory else max(GRID, 2 * int(np.ceil(0.5 * RESOLVED * last / memory)))
    if intervals > FINEST:
        must = f"have a memory of at least {RESOLVED * last / FINEST:.2g} for the closed form on anisotropic data up to t = {last:g}"
        raise refuse("optimizer", must, memory, "a shorter one makes no difference that shows: None")
    return np.linspace(0.0, last, intervals + 1)


def _noise_kernels(contour: _Contour, law: Law, p: Parameters, t: Array) -> list[Array]:
    """What a unit of noise adds after a time: that of samples `mean Lambda A g(t)^2` to the self-overlap and `mean A^2 g(t)^2` to twice the
    train risk, and that of a temperature `mean Lambda g(t)^2` and `mean A g(t)^2`."""
    z, share = contour.z, law.weights * law.eigenvalues
    square = kicked(z + p.ridge, t[:, None], p.memory) ** 2
    return [contour.single(weight, power * square) for power in (z, 1.0) for weight, power in ((share, power), (law.weights, power * z))]


def _volterra(t: Array, driven: Array, kernels: list[Array], step: float, temperature: float) -> tuple[Array, Array]:
    """`D = driven + step int to_residual(t - s) D(s) ds` by the trapezoid rule; what noise adds to q and to D."""
    h, (to_q, to_residual, *heat) = t[1], kernels
    heated = [2.0 * temperature * h * (np.cumsum(kernel) - 0.5 * (kernel + kernel[0])) for kernel in heat]
    D = driven + heated[1]
    for i in range(1, len(t)):
        past = 0.5 * to_residual[i] * D[0] + to_residual[1:i] @ D[i - 1 : 0 : -1]
        D[i] = (D[i] + step * h * past) / (1.0 - 0.5 * step * h * to_residual[0])
    added = np.array([step * h * (to_q[: i + 1][::-1] @ D[: i + 1] - 0.5 * (to_q[i] * D[0] + to_q[0] * D[i])) for i in range(len(t))])
    return added + heated[0], D - driven
