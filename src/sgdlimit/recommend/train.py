"""Training for real: the loop that practitioners run, in PyTorch, scikit-learn or plain NumPy, all with the same start and the same steps.

Weights start at zero, the intercept at the mean of the labels (the log-odds of the classes), and both are trained; the penalty is on
the weights alone. A batch's gradient is its mean, an epoch goes through all samples once in a new order, its last batch may be short.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import islice
from typing import Any

import numpy as np
from scipy.special import expit

from ..errors import InputError, nearest, refuse

Array = np.ndarray
BACKENDS = ("numpy", "torch", "sklearn")
INFINITE = 1e12  # a risk beyond is a run that has diverged
ORDERS = 3  # of the samples, in which it is tried whether a training trains,
MOST_STEPS, MOST_WORK = 200_000, 2e9  # for so many steps, and numbers of the features read
ROUNDING = 1e-6  # relative, of a risk
CACHED = 2**16  # numbers that are shuffled at a time: few enough to be near when they are used


@dataclass(frozen=True)
class Trained:
    """Risks `(seeds, epochs + 1)` after each epoch, the start first; infinite where a run has diverged."""

    train: Array
    test: Array
    backend: str


def losses(loss: str, r: Array, y: Array) -> Array:
    """Of predictions `r`, `(n,)` or `(n, C)` for `C` models, on labels `y` `(n,)`."""
    y = y.reshape(-1, *(1,) * (r.ndim - 1)).astype(r.dtype)
    return np.logaddexp(0.0, -y * r) if loss == "logistic" else 0.5 * (r - y) ** 2


def start_intercept(loss: str, y: Array) -> Array:
    """Of labels along the first axis."""
    mean = np.mean(y, 0)
    return np.log1p(mean) - np.log1p(-mean) if loss == "logistic" else mean


def pick(backend: str) -> str:
    """The first of PyTorch and NumPy that is there, or the one asked for.

    Raises:
        InputError: the one asked for is not installed.
    """
    if backend == "auto":
        return "torch" if find_spec("torch") else "numpy"
    if backend not in BACKENDS:
        raise refuse("backend", "be auto, numpy, torch or sklearn", backend, nearest(backend, BACKENDS))
    if backend != "numpy" and find_spec(backend) is None:
        name = {"torch": "PyTorch (pip install torch)", "sklearn": "scikit-learn (pip install scikit-learn)"}[backend]
        raise InputError(f"`backend` must be one that is installed, but {name} is not (numpy always is)")
    return backend


def train(
    loss: str, data: tuple[Array, Array], fresh: tuple[Array, Array], rate: float, batch_size: int, decay: float, epochs: int,
    seeds: Any, backend: str = "numpy", order: str = "reshuffle",
) -> Trained:  # fmt: skip
    """Train once per seed on `data = (X, y)` and measure after every epoch on it and on `fresh`.

    `order` is "reshuffle", or "replacement" (NumPy alone), where an epoch draws as many samples as there are. `rate` is the learning rate
    of the mean loss, `decay` the weight decay. scikit-learn takes one sample a step, so its rate is divided by the batch size, which is
    the same training as long as batches are small.
    """
    loop = {"numpy": partial(_numpy, order=order), "torch": _torch, "sklearn": _sklearn}[backend]
    rows = [loop(loss, data, fresh, rate, batch_size, decay, epochs, int(seed)) for seed in seeds]
    risks = np.array(rows)
    return Trained(risks[:, :, 0], risks[:, :, 1], backend)


def descend(
    loss: str, X: Array, y: Array, rates: Array, decays: Array, batch_size: int, rngs: Sequence[np.random.Generator],
    order: str = "reshuffle",
) -> Iterator[tuple[Array, Array]]:  # fmt: skip
    """Weights `(sets, d, C)` and intercepts `(sets, C)` after 0, 1, 2, ... epochs of `C` trainings on each of some data sets `X`
    `(sets, n, d)`, `y` `(sets, n)`, or `(sets, n, C)` where every training has labels of its own. What is yielded is overwritten by the
    next epoch.

    Those on one set see the same batches and differ in their `rates` and `decays` (`(C,)`): a product with all their weights at once costs
    little more than one with a single training's. Every set has its generator. Precision is that of `X`.
    """
    rates, decays, labels = (np.asarray(part, X.dtype) for part in (rates, decays, y))
    labels = labels if labels.ndim == 3 else labels[:, :, None]
    sets, n, d = X.shape
    w = np.zeros((sets, d, len(rates)), X.dtype)
    b = np.zeros((sets, len(rates)), X.dtype) + np.array([start_intercept(loss, part) for part in labels], X.dtype)
    shrinks, block = bool(decays.any()), batch_size * max(1, CACHED // (sets * d * batch_size))
    shuffled = np.empty((sets, min(block, n), d), X.dtype)
    while True:
        yield w, b
        rows = [rng.permutation(n) if order == "reshuffle" else rng.integers(n, size=n) for rng in rngs]
        targets = np.stack([part[chosen] for part, chosen in zip(labels, rows, strict=True)])
        with np.errstate(over="ignore", invalid="ignore"):
            for at in range(0, n, batch_size):
                if at % block == 0:
                    for own, part, chosen in zip(shuffled, X, rows, strict=True):
                        np.take(part, chosen[at : at + block], 0, out=own[: n - at], mode="clip")  # all rows are there: nothing to clip
                t = targets[:, at : at + batch_size]
                x = shuffled[:, at % block : at % block + t.shape[1]]
                r = x @ w
                r += b[:, None]
                slope = (-t * expit(-t * r) if loss == "logistic" else r - t) * (rates / t.shape[1])
                if shrinks:
                    w *= 1.0 - rates * decays
                w -= x.swapaxes(1, 2) @ slope
                b -= slope.sum(1)


def trains(loss: str, X: Array, y: Array, rate: float, batch_size: int, decay: float, epochs: int, seed: int) -> bool:
    """Whether training on these samples ends, in each of a few orders of them, below the risk that it starts from."""
    n, d = X.shape
    epochs = int(np.clip(min(MOST_STEPS * batch_size / n, MOST_WORK / (n * d)), 1, epochs))
    start = float(losses(loss, np.full(n, start_intercept(loss, y)), y).mean())
    rngs = [np.random.default_rng([seed, number]) for number in range(ORDERS)]
    features, labels = (np.broadcast_to(part, (ORDERS, *part.shape)) for part in (X, y))
    trained = descend(loss, features, labels, np.array([rate]), np.array([decay]), batch_size, rngs)
    with np.errstate(over="ignore", invalid="ignore"):
        for epoch, (w, b) in enumerate(islice(trained, epochs + 1)):
            if epoch == epochs or not np.isfinite(w).all():
                return all(losses(loss, X @ v[:, 0] + a[0], y).mean() <= start * (1.0 + ROUNDING) for v, a in zip(w, b, strict=True))
    raise AssertionError("the loop ends in its last epoch")


def _numpy(loss, data, fresh, rate, batch_size, decay, epochs, seed, order="reshuffle") -> list[tuple[float, float]]:
    X, y = data
    risks: list[tuple[float, float]] = []
    trained = descend(loss, X[None], y[None], np.array([rate]), np.array([decay]), batch_size, [np.random.default_rng(seed)], order)
    for w, b in islice(trained, epochs + 1):
        with np.errstate(over="ignore", invalid="ignore"):
            risks.append(_risks(loss, data, fresh, w[0, :, 0], float(b[0, 0])))
        if not risks[-1][0] < INFINITE:
            break
    return risks + [(np.inf, np.inf)] * (epochs + 1 - len(risks))


def _risks(loss: str, data: tuple[Array, Array], fresh: tuple[Array, Array], w: Array, b: float) -> tuple[float, float]:
    found = [float(losses(loss, X @ w + b, y).mean()) for X, y in (data, fresh)]
    return tuple(value if np.isfinite(value) and value < INFINITE else np.inf for value in found)  # pyright: ignore[reportReturnType]


def _torch(loss, data, fresh, rate, batch_size, decay, epochs, seed) -> list[tuple[float, float]]:
    import torch  # pyright: ignore[reportMissingImports]
    from torch.utils.data import DataLoader, TensorDataset  # pyright: ignore[reportMissingImports]

    generator = torch.Generator().manual_seed(seed)
    X, y = (torch.as_tensor(part, dtype=torch.float32) for part in data)
    model = torch.nn.Linear(X.shape[1], 1)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.fill_(float(start_intercept(loss, data[1])))
    optimizer = torch.optim.SGD([{"params": [model.weight], "weight_decay": decay}, {"params": [model.bias]}], lr=rate)
    loader = DataLoader(TensorDataset(X, y), batch_size=batch_size, shuffle=True, generator=generator)
    measured = lambda: _risks(loss, data, fresh, model.weight.detach().numpy()[0].astype(float), model.bias.item())
    risks = [measured()]
    for _ in range(epochs):
        for x, t in loader:
            optimizer.zero_grad()
            r = model(x)[:, 0]
            value = torch.nn.functional.softplus(-t * r).mean() if loss == "logistic" else 0.5 * ((r - t) ** 2).mean()
            value.backward()
            optimizer.step()
        risks.append(measured())
        if not risks[-1][0] < INFINITE:
            break
    return risks + [(np.inf, np.inf)] * (epochs + 1 - len(risks))


def _sklearn(loss, data, fresh, rate, batch_size, decay, epochs, seed) -> list[tuple[float, float]]:
    from sklearn.linear_model import SGDClassifier, SGDRegressor  # pyright: ignore[reportMissingImports]

    X, y = data
    make: Any = SGDClassifier if loss == "logistic" else SGDRegressor
    name = "log_loss" if loss == "logistic" else "squared_error"
    w, b = np.zeros(X.shape[1]), float(start_intercept(loss, y))
    risks = [_risks(loss, data, fresh, w, b)]
    for epoch in range(epochs):
        model = make(
            loss=name,
            learning_rate="constant",
            eta0=rate / batch_size,
            alpha=decay,
            max_iter=1,
            tol=None,
            random_state=seed * 100_003 + epoch,
        )
        try:
            model.fit(X, y, coef_init=w, intercept_init=b)
        except ValueError:  # its weights have run away
            break
        w, b = model.coef_.ravel(), float(model.intercept_[0])
        risks.append(_risks(loss, data, fresh, w, b))
    return risks + [(np.inf, np.inf)] * (epochs + 1 - len(risks))
