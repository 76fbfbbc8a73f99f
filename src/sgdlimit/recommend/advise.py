"""From curves to advice: the step, its learning rate for each batch size, the epoch to stop, and the limits of all three."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from .estimate import ridge_error
from .linear import Curves, LinearTwin
from .predict import Curved, Report, Setting
from .predict import predictor as build

Array = np.ndarray

TOLERANCE = 0.002  # of the test risk: gains below are not worth an epoch
CLUSTERED = 0.05  # the same where classes are clusters, whose risk is small and known poorly
RIDGE_GAIN = 0.01  # by which a penalty must lower the best test risk to be recommended
STIFF = 0.25  # rate times the largest curvature up to which batches are small: beyond, noise and epochs grow with them
SWEEP = 40  # steps tried
RIDGES = np.geomspace(1e-3, 3.0, 15)


@dataclass(frozen=True)
class BatchRow:
    """A batch size, its learning rate in the user's units, and the epochs it takes to the same test risk."""

    batch_size: int
    learning_rate: float
    limit: float
    epochs: int
    useful: bool


@dataclass(frozen=True)
class Advice:
    """What to do, in the user's units where not said otherwise.

    Attributes:
        step: `eta` of the theory.
        epochs: where to stop.
        weight_decay: penalty on the weights, zero if early stopping alone is as good.
        batches: learning rate, limit and epochs for each batch size.
        batch_size: the one recommended, the largest useful power of two up to 64.
        largest_batch: beyond it a larger batch takes more epochs.
        limit_step: above it training diverges (least squares) or is unstable at the start (logistic), in small batches.
        best_risk: least test risk of any step within the epochs allowed.
        epoch_axis: `(T,)` epochs of the curves.
        reshuffle, replacement: expected risks at the recommended step, of both kinds of sampling.
        sweep: per step `(steps,)` the best test risk and its epoch.
    """

    step: float
    epochs: int
    weight_decay: float
    ridge: float
    batch_size: int
    batches: list[BatchRow]
    largest_batch: int
    limit_step: float
    best_risk: float
    epoch_axis: Array
    reshuffle: Curves
    replacement: Curves
    sweep: tuple[Array, Array, Array]
    best_ridge: float
    ridge_gain: float
    at_end: bool


def advise(setting: Setting, most_epochs: int, feature_variance: float, seed: int, report: Report) -> tuple[Advice, Curved]:
    """Sweep step and time in the theory. `feature_variance` turns steps into learning rates."""
    longest = lambda step: most_epochs * step * setting.sample_ratio
    proxy = LinearTwin(setting.estimate, setting.n, setting.d, seed)
    ridge, gain, static = choose_ridge(setting, proxy, longest)
    predictor = build(setting, ridge, most_epochs, seed, report)
    report(0.95, "choosing step and batch")
    steps, risks, stops = sweep(predictor, most_epochs)
    least = float(np.nanmin(risks))
    step, epochs = _cheapest(predictor, steps, least, most_epochs)
    rows, useful = batch_rows(setting, proxy, step, ridge, epochs, feature_variance)
    size = max((row.batch_size for row in rows if row.useful and row.batch_size <= 64), default=1)
    axis = np.arange(min(max(2 * epochs, epochs + 3), most_epochs) + 1)
    ends = axis * step * setting.sample_ratio
    ends, axis = ends[ends <= predictor.times[-1] * (1 + 1e-9)], axis[ends <= predictor.times[-1] * (1 + 1e-9)]
    at = lambda curves: Curves(
        axis.astype(float), *(np.interp(ends, curves.times, getattr(curves, name)) for name in ("train", "test", "train_se", "test_se"))
    )
    advice = Advice(
        step=step,
        epochs=epochs,
        weight_decay=ridge * feature_variance,
        ridge=ridge,
        batch_size=size,
        batches=rows,
        largest_batch=useful,
        limit_step=proxy.stability_limit(ridge / setting.curvature) / setting.curvature,
        best_risk=least,
        epoch_axis=axis,
        reshuffle=at(predictor.reshuffle(step)),
        replacement=at(predictor.replacement(step)),
        sweep=(steps, risks, stops),
        best_ridge=static * feature_variance,
        ridge_gain=gain,
        at_end=epochs >= most_epochs,
    )
    return advice, predictor


def choose_ridge(setting: Setting, proxy: LinearTwin, longest: Callable[[float], float]) -> tuple[float, float, float]:
    """The ridge to train with, what it gains over early stopping alone, and the ridge that is best when training goes on for ever.

    Decided by least squares on the labels, which for classes is exact only in which ridge is how much better than stopping; the
    logistic loss is less curved, so its ridge is less by the same factor.
    """
    e = setting.estimate
    if setting.clusters:  # least squares knows nothing of them
        return 0.0, 0.0, 0.0
    errors = ridge_error(e.eigenvalues, e.weights, e.signal, e.noise, setting.d / setting.n, RIDGES)
    curvature = 1.0 if setting.loss == "squared" else 0.2
    static = float(RIDGES[np.argmin(errors)])
    horizon = longest(0.3 / curvature) * curvature
    times = np.concatenate([[0.0], np.geomspace(1e-4 * horizon, horizon, 160)])
    least = {ridge: float(proxy.flow(times, ridge)[1].min()) for ridge in (0.0, 0.3 * static, static)}
    gain = {ridge: 1.0 - value / least[0.0] for ridge, value in least.items()}
    best = max(gain, key=lambda ridge: gain[ridge])
    return (best * curvature if gain[best] > RIDGE_GAIN else 0.0), gain[best], static * curvature


def sweep(predictor: Curved, most_epochs: int) -> tuple[Array, Array, Array]:
    """Best test risk under reshuffling of each step, and the epoch where it is reached, at whole epochs."""
    steps = np.geomspace(0.01 * predictor.largest_step, predictor.largest_step, SWEEP)
    risks, stops = np.full(SWEEP, np.nan), np.full(SWEEP, np.nan)
    for i, step in enumerate(steps):
        found = _at_epochs(predictor, float(step), most_epochs)
        if len(found) > 1 and np.isfinite(found).any():
            stops[i] = 1 + int(np.nanargmin(found[1:]))
            risks[i] = found[int(stops[i])]
    return steps, risks, stops


def _at_epochs(predictor: Curved, step: float, most_epochs: int) -> Array:
    """Test risk after 0, 1, 2, ... epochs, as far as the curves go."""
    epoch = step * predictor.setting.sample_ratio
    count = int(min(most_epochs, np.floor(predictor.times[-1] / epoch * (1 + 1e-9))))
    curves = predictor.reshuffle(step)
    return np.interp(np.arange(count + 1) * epoch, curves.times, curves.test)


def _cheapest(predictor: Curved, steps: Array, least: float, most_epochs: int) -> tuple[float, int]:
    """Fewest epochs within the tolerance of the least risk, and of the steps that do so the one that is best then."""
    tolerance = CLUSTERED if predictor.setting.clusters else TOLERANCE
    best: tuple[int, float, float] | None = None
    for step in steps:
        found = _at_epochs(predictor, float(step), most_epochs)
        good = np.flatnonzero(found[1:] <= (1.0 + tolerance) * least)
        if len(good):
            epochs = int(good[0]) + 1
            candidate = (epochs, float(found[epochs]), float(step))
            best = candidate if best is None or candidate < best else best
    assert best is not None  # the step of the least risk is one of them
    return best[2], best[0]


def batch_rows(setting: Setting, proxy: LinearTwin, step: float, ridge: float, epochs: int, variance: float) -> tuple[list[BatchRow], int]:
    """Learning rates for batches of 1, 2, 4, ... samples.

    The batch size matters only through `rate / batch_size` while batches are small. What ends this is the largest eigenvalue of the
    sample covariance: a rate beyond one over its curvature takes that direction past its minimum, whatever the batch, so that
    from there on the rate stays and epochs grow with the batch.
    """
    top = setting.estimate.largest
    cap = 1.0 / (setting.curvature * top + ridge)
    rows, useful = [], 1
    sizes = [2**i for i in range(int(np.log2(setting.n)) + 1)]
    for size in sizes:
        scaled = step * size / setting.d
        limit = rate_limit(proxy, setting.curvature, ridge, size, setting.n, setting.d)
        rate = min(scaled, cap, 0.5 * limit)
        later = scaled / rate
        good = bool(size == 1 or (scaled <= STIFF * cap and size <= 0.1 * setting.n))
        useful = size if good else useful
        rows.append(BatchRow(size, float(rate / variance), limit / variance, int(np.ceil(epochs * later - 1e-9)), good))
    return rows, useful


def rate_limit(proxy: LinearTwin, curvature: float, ridge: float, size: int, n: int, d: int) -> float:
    """Learning rate, for features of variance one, above which training with batches of `size` is unstable in the quadratic
    approximation: `sum_i (rate s_i)^2 (1 - size/n) / size / (1 - (1 - rate s_i)^2) = 1`, and at most `2 / max s_i`."""
    s = curvature * proxy.s
    whole = s + ridge
    top = 2.0 / float(whole.max())
    share = (1.0 - size / n) / size * d / proxy.d

    def excess(rate: float) -> float:
        lost = 2.0 * rate * whole - (rate * whole) ** 2
        return share * float(np.where(lost > 0, (rate * s) ** 2 / np.where(lost > 0, lost, 1.0), 0.0).sum()) - 1.0

    if excess(top * (1 - 1e-9)) <= 0:
        return top
    return float(brentq(excess, 1e-12 * top, top * (1 - 1e-9)))  # pyright: ignore[reportArgumentType]
