"""Least squares at the data's own n and d: curves of SGD averaged over teacher, noise and order of samples, for one draw of features.

The features are drawn from the estimated spectrum; everything else is averaged exactly in the eigenbasis of their covariance
`S = X^T X / n`, where gradient flow is a set of exponentials and the noise of SGD one Volterra equation for the train risk (Paquette,
Lee, Pedregosa and Paquette, arXiv 2102.04396; Collins-Woodfin and Paquette, arXiv 2304.06847). Sums over eigenvalues fluctuate by
1/d, so one draw is the law for most purposes. A spectrum over four orders of magnitude needs no nodes in time here, and batches of
any size are as easy as small ones.

Risks are halves of squared errors, as in `models.linear_regression`; time is `t` of THEORY section 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .estimate import Estimate

Array = np.ndarray

MOST_SAMPLES, MOST_FEATURES, MOST_NUMBERS = 4000, 1000, 2e6  # of the draw: beyond, samples and features shrink at their ratio
POINTS = 240  # of time, on which the Volterra equation is stepped


@dataclass(frozen=True)
class Curves:
    """Risks `(T,)` at times `(T,)` with their errors; `each` are the test risks `(sets, T)` that `test` is the mean of, if any."""

    times: Array
    train: Array
    test: Array
    train_se: Array
    test_se: Array
    each: Array | None = None


class LinearTwin:
    """A draw of features with the estimated spectrum, and what averages over teacher and noise need of it."""

    def __init__(self, estimate: Estimate, n: int, d: int, seed: int):
        shrink = min(1.0, MOST_SAMPLES / n, MOST_FEATURES / d, (MOST_NUMBERS / n / d) ** 0.5)
        self.n, self.d = max(round(shrink * n), 8), max(round(shrink * d), 2)
        self.full_n, self.full_d = n, d
        rng = np.random.default_rng(seed)
        values, energies = self.values, self.energies = spread_out(estimate, self.d)
        self.X = rng.standard_normal((self.n, self.d), dtype=np.float32) * np.sqrt(values, dtype=np.float32)
        rotation: Array
        X = self.X.astype(float)
        self.s, rotation = np.linalg.eigh(X.T @ X / self.n)
        self.s, self.rotation = np.maximum(self.s, 0.0), rotation
        teacher = energies / values  # second moment of each coordinate of the teacher
        self.noise = estimate.noise
        self.total = float(energies.sum()) + self.noise
        self.lambda_of = (rotation.T**2) @ values  # diagonal of the population covariance in the sample's eigenbasis
        self.teacher_of = (rotation.T**2) @ teacher
        # Single precision is the draw's own, and in half the time.
        single = rotation.astype(np.float32)
        self.crossed = ((single.T * values.astype(np.float32)) @ single).astype(float) * ((single.T * teacher.astype(np.float32)) @ single)

    def flow(self, times: Array, ridge: float) -> tuple[Array, Array]:
        """Squared errors of gradient flow, train and test, `(T,)`."""
        gain = growth(self.s + ridge, times[:, None])
        return self._errors(self.s * gain, gain)  # first how much of an eigenvector's signal is learnt

    def _errors(self, fit: Array, gain: Array) -> tuple[Array, Array]:
        left = 1.0 - fit
        test = np.einsum("ti,ti->t", left @ self.crossed, left)
        test += self.noise / self.n * (gain**2 * self.s) @ self.lambda_of + self.noise
        train = left**2 @ (self.s * self.teacher_of) + self.noise * ((left**2 - 1.0).sum(1) / self.n + 1.0)
        return train, test

    def sgd(self, step: float, ridge: float, times: Array, flow: tuple[Array, Array]) -> Curves:
        """SGD in small batches at `times`, which increase from 0 and are dense; `flow` is that of the same times and ridge.

        `u_i' = -2 (s_i + ridge) u_i + step s_i D / d`, `D = flow + sum_i s_i u_i`: over a spacing, `D` is taken as linear.
        """
        rate = 2.0 * (self.s + ridge)
        u = np.zeros_like(self.s)
        train, test = flow[0].copy(), flow[1].copy()
        for i, h in enumerate(np.diff(times)):
            x = rate * h
            decay, first = np.exp(-x), h * _phi(x)
            second = h * _psi(x)  # weight of the later end
            drive = step / self.d * self.s
            u = decay * u + drive * (first - second) * train[i]
            before = flow[0][i + 1] + self.s @ u
            # The new train error feeds back on itself, linearly.
            own = self.s @ (drive * second)
            train[i + 1] = before / (1.0 - own) if own < 1.0 else np.inf
            if not np.isfinite(train[i + 1]) or train[i + 1] > 1e3 * self.total:
                train[i + 1 :] = test[i + 1 :] = np.inf
                break
            u = u + drive * second * train[i + 1]
            test[i + 1] = flow[1][i + 1] + self.lambda_of @ u
        return Curves(times, 0.5 * train, 0.5 * test, np.zeros_like(train), np.zeros_like(test))

    def batches(self, rate: float, fraction: float, ridge: float, steps: int, every: int) -> Curves:
        """Steps of learning rate `rate` with batches of a `fraction` of the samples, drawn anew each time; exact at any batch.

        Values after every `every` of `steps` steps; times are `rate` a step, as for the flow.
        """
        size = max(fraction * self.full_n, 1.0)
        keep = 1.0 - rate * (self.s + ridge)
        kick = rate**2 * self.s * (1.0 - fraction) / size * self.full_d / self.d
        whole = self.s + ridge
        power, u = np.ones_like(self.s), np.zeros_like(self.s)
        rows: list[tuple[Array, Array]] = []
        with np.errstate(over="ignore", invalid="ignore"):
            for number in range(steps + 1):
                gain = np.where(whole > 0, (1.0 - power) / np.where(whole > 0, whole, 1.0), number * rate)
                left = 1.0 - self.s * gain
                train = left**2 @ (self.s * self.teacher_of) + self.noise * ((left**2 - 1.0).sum() / self.n + 1.0) + self.s @ u
                if number % every == 0:
                    rows.append((gain, u))
                if not train < 1e6 * self.total:
                    break
                power, u = keep * power, keep**2 * u + kick * train
            gains, us = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
            train, test = self._errors(self.s * gains, gains)
            train, test = train + us @ self.s, test + us @ self.lambda_of
        times = rate * every * np.arange(len(rows))
        return Curves(times, 0.5 * train, 0.5 * test, np.zeros_like(train), np.zeros_like(test))

    def stability_limit(self, ridge: float = 0.0) -> float:
        """Largest step of SGD in small batches that stays bounded: `step sum_i s_i^2 / (2 (s_i + ridge)) / d = 1` (THEORY section 3)."""
        whole = self.s + ridge
        return float(2.0 * self.d / np.where(whole > 0, self.s**2 / np.where(whole > 0, whole, 1.0), 0.0).sum())


def spread_out(estimate: Estimate, d: int) -> tuple[Array, Array]:
    """`d` eigenvalues in the fractions of the estimate, each the mean of its share of them, and the signal along each."""
    shares = np.linspace(0.0, 1.0, d + 1)
    ends = np.append(0.0, np.cumsum(estimate.weights))
    portions = lambda parts: np.diff(np.interp(shares, ends / ends[-1], np.append(0.0, np.cumsum(parts))))
    values = portions(estimate.weights * estimate.eigenvalues)
    return values / values.mean(), portions(estimate.signal)


def growth(rate: Array, time: Array) -> Array:
    """`(1 - e^(-rate time)) / rate`: how far flow has come along an eigenvector, in units of its gradient at the start."""
    return time * _phi(rate * time)


def _phi(x: Array) -> Array:
    """`(1 - e^-x) / x`."""
    safe = np.where(x < 1e-12, 1.0, x)
    return np.where(x < 1e-12, 1.0, -np.expm1(-safe) / safe)


def _psi(x: Array) -> Array:
    """`int_0^1 a e^{-x (1 - a)} da = (1 - phi(x)) / x`."""
    safe = np.where(x < 1e-4, 1.0, x)
    return np.where(x < 1e-4, 0.5 - x / 6.0, (1.0 - _phi(safe)) / safe)
