"""Learning rates that `recommend` gives for other optimisers: their trainings end where plain SGD's does."""

import numpy as np
import pytest
from scipy.special import expit

import sgdlimit as sl
from sgdlimit.recommend.others import BETA, typical_gradient


def table(loss, n, d, seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    r = X @ rng.standard_normal(d) * (2.0 / np.sqrt(d))
    y = np.where(rng.random(n) < expit(r), 1.0, -1.0) if loss == "logistic" else r + rng.standard_normal(n)
    return X, y


def loop(loss, X, y, fresh, rate, batch, decay, epochs, optimizer, seed):
    """A training script's own: PyTorch's arithmetic of SGD with momentum and of Adam. The test risk at the end."""
    rng = np.random.default_rng(seed)
    w, v, s, steps = np.zeros(X.shape[1]), 0.0, 0.0, 0
    for _ in range(epochs):
        order = rng.permutation(len(X))
        for at in range(0, len(X), batch):
            x, t = X[order[at : at + batch]], y[order[at : at + batch]]
            r = x @ w
            slope = -t * expit(-t * r) if loss == "logistic" else r - t
            gradient, steps = x.T @ slope / len(t) + decay * w, steps + 1
            if optimizer == "adam":
                v, s = 0.9 * v + 0.1 * gradient, 0.999 * s + 0.001 * gradient**2
                gradient = v / (1 - 0.9**steps) / (np.sqrt(s / (1 - 0.999**steps)) + 1e-8)
            elif optimizer == "momentum":
                v = BETA * v + gradient
                gradient = v
            w = w - rate * gradient
    r = fresh[0] @ w
    return float(np.mean(np.logaddexp(0.0, -fresh[1] * r) if loss == "logistic" else 0.5 * (r - fresh[1]) ** 2))


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_other_optimisers_end_where_plain_sgd_does(loss):
    # Twelve orders of the samples: the mean test risk within 3%, some thousandths of which are chance.
    n, d = 400, 60
    X, y = table(loss, n + 4000, d, seed=3)
    fresh, X, y = (X[n:], y[n:]), X[:n], y[:n]
    X = (X - X.mean(0)) / X.std(0)
    y = y if loss == "logistic" else y - y.mean()
    found = sl.recommend(X, y, loss=loss, max_epochs=40)
    rates = {"plain": found.learning_rate, "momentum": found.others.momentum, "adam": found.others.adam}
    a = found.advice
    risk = {
        name: np.mean([loop(loss, X, y, fresh, rate, a.batch_size, a.weight_decay, a.epochs, name, seed) for seed in range(12)])
        for name, rate in rates.items()
    }
    start = np.log(2.0) if loss == "logistic" else 0.5 * np.mean(fresh[1] ** 2)
    assert risk["plain"] < 0.9 * start
    for name in ("momentum", "adam"):
        assert risk[name] == pytest.approx(risk["plain"], rel=0.03), risk
    assert f"{found.others.adam:.3g} with Adam" in str(found)


def test_what_does_not_train_has_no_size():
    X, y = table("squared", 100, 20, seed=1)
    assert typical_gradient("squared", X, y, 5.0, 4, 0.0, 3, 0) is None
