"""Trainings of linear students in plain NumPy, with and without each of some samples, shared by tests and benchmarks of `OneRun`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import sgdlimit as sl

# Loss in JAX; the same and its slope in NumPy, for predictions (..., k) and labels (...) or (..., k).
huber = lambda m: np.where(np.abs(m) < 1, 0.5 * m**2, np.abs(m) - 0.5)
softmax = lambda r: np.exp(r - r.max(-1, keepdims=True)) / np.exp(r - r.max(-1, keepdims=True)).sum(-1, keepdims=True)
units = lambda r: np.tanh(r[..., 0]) - 0.5 * np.tanh(r[..., 1])
LOSSES = {
    "square": (lambda r, y: 0.5 * (r[0] - y) ** 2, lambda r, y: 0.5 * (r[..., 0] - y) ** 2, lambda r, y: r - y[..., None]),
    "logistic": (
        lambda r, y: jnp.logaddexp(0.0, -y * r[0]),
        lambda r, y: np.logaddexp(0.0, -y * r[..., 0]),
        lambda r, y: -y[..., None] / (1 + np.exp(y[..., None] * r)),
    ),
    "huber": (
        lambda r, y: jnp.where(jnp.abs(r[0] - y) < 1, 0.5 * (r[0] - y) ** 2, jnp.abs(r[0] - y) - 0.5),
        lambda r, y: huber(r[..., 0] - y),
        lambda r, y: np.clip(r - y[..., None], -1, 1),
    ),
    "softmax": (
        lambda r, y: jax.nn.logsumexp(r) - r @ y,
        lambda r, y: -np.log((softmax(r) * y).sum(-1)),
        lambda r, y: softmax(r) - y,
    ),
    "two units": (
        lambda r, y: 0.5 * (jnp.tanh(r[0]) - 0.5 * jnp.tanh(r[1]) - y) ** 2,
        lambda r, y: 0.5 * (units(r) - y) ** 2,
        lambda r, y: (units(r) - y)[..., None] * (1 - np.tanh(r) ** 2) * np.array([1.0, -0.5]),
    ),
}


def data(loss, n, d, seed, power=0.0, fresh=4000):
    """Training and fresh samples of a linear teacher on Gaussian features, isotropic or with eigenvalues `j^-power`."""
    rng = np.random.default_rng(seed)
    scale = np.arange(1, d + 1) ** (-power / 2)
    X = rng.standard_normal((n + fresh, d)) * scale / np.sqrt(np.mean(scale**2))
    r_star = X @ rng.standard_normal((d, 3)) * 2 / np.sqrt(d)
    if loss == "softmax":
        y = np.eye(3)[(r_star + rng.gumbel(size=r_star.shape)).argmax(1)]
    elif loss == "logistic":
        y = np.where(rng.random(n + fresh) < 1 / (1 + np.exp(-r_star[:, 0])), 1.0, -1.0)
    elif loss == "two units":
        y = units(0.6 * r_star) + 0.3 * rng.standard_normal(n + fresh)
    else:
        y = r_star[:, 0] + 0.7 * rng.standard_normal(n + fresh)
    return X[:n], y[:n], X[n:], y[n:]


def batches(n, size, epochs, seed=0, replacement=False):
    rng = np.random.default_rng(seed)
    orders = [rng.integers(n, size=n) if replacement else rng.permutation(n) for _ in range(epochs)]
    return [order[i : i + size] for order in orders for i in range(0, n, size)]


def start(loss, y, d):
    """Weights before the training `(d, k)`: zero, but for a committee, whose units are told apart by theirs."""
    if loss == "two units":
        return np.random.default_rng(0).standard_normal((d, 2)) / np.sqrt(2 * d)
    return np.zeros((d, y.shape[1] if y.ndim == 2 else 1))


def train(X, y, loss, order, rates, momentum=0.0, decay=0.0, without=(), run=None, betas=None):
    """Weights `(1 + left out, d, k)`: PyTorch's SGD on all samples, or its AdamW where there are `betas`, and in the same order of batches
    without each of some. `run` is told of the first training."""
    slope = LOSSES[loss][2]
    theta = np.repeat(start(loss, y, X.shape[1])[None], 1 + len(without), axis=0)
    velocity, square = np.zeros_like(theta), np.zeros_like(theta)
    for t, (batch, rate) in enumerate(zip(order, np.broadcast_to(rates, len(order)), strict=True), 1):
        r = np.einsum("bd,wdk->wbk", X[batch], theta)
        if run is not None:
            run.step(batch, r[0] if r.shape[2] > 1 else r[0, :, 0], learning_rate=rate)
        push = slope(r, y[batch][None].repeat(len(r), 0))
        push[1:] *= (batch != np.array(without, int)[:, None])[..., None]
        gradient = np.einsum("bd,wbk->wdk", X[batch], push) / len(batch)
        if betas is None:
            velocity = momentum * velocity + gradient + decay * theta
            theta = theta - rate * velocity
        else:
            first, second = betas
            velocity, square = first * velocity + (1 - first) * gradient, second * square + (1 - second) * gradient**2
            size = np.sqrt(square / (1 - second**t)) + 1e-8
            theta = (1 - rate * decay) * theta - rate * velocity / (1 - first**t) / size
    return theta


def predictions(X, theta):
    r = X @ theta
    return r if r.shape[1] > 1 else r[:, 0]


def told(X, y, loss, order, rates, momentum=0.0, decay=0.0, seed=0, betas=None):
    """A training with a `OneRun` beside it, and the final weights."""
    run = sl.OneRun(X, y, LOSSES[loss][0], float(np.max(rates)), momentum, decay, seed=seed, betas=betas)
    return run, train(X, y, loss, order, rates, momentum, decay, run=run, betas=betas)[0]


def against_retraining(X, y, loss, order, rate, momentum=0.0, who=60, betas=None):
    """Correlation of left-out predictions with exact ones, and the ratio of their mean losses, over samples that `OneRun` has not left out
    exactly; and the estimate."""
    run, theta = told(X, y, loss, order, rate, momentum, betas=betas)
    found = run.estimate(predictions(X, theta))
    rest = np.setdiff1d(np.arange(len(X)), run.who)
    rest = np.random.default_rng(3).permutation(rest)[:who]
    exact = np.einsum("qd,qdk->qk", X[rest], train(X, y, loss, order, rate, momentum, 0.0, rest, betas=betas)[1:])
    modelled = found.left_out[rest].reshape(exact.shape)
    value = LOSSES[loss][1]
    return np.corrcoef(exact.ravel(), modelled.ravel())[0, 1], value(modelled, y[rest]).mean() / value(exact, y[rest]).mean(), found
