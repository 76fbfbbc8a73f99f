"""From curves to advice: the step, its learning rate for each batch size, the epoch to stop, and the limits of all three."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from .estimate import ridge_error
from .linear import Curves, LinearTwin
from .predict import Curved, Report
from .setting import Setting
from .trials import standard_error

Array = np.ndarray

TOLERANCE = 0.002  # of the test risk: gains below are not worth an epoch
RIDGE_GAIN = 0.01  # by which a penalty must lower the best test risk to be recommended, and by two standard errors
STIFF = 0.25  # rate times the largest curvature up to which batches are small: beyond, noise and epochs grow with them
UP = 2  # steps tried at a time above
FINE = 2.0**0.5  # between neighbouring steps of the sweep
FIRST, MOST_MORE = 6, 24  # steps tried at once, the largest first, and below those
NEAR, DOWN = 0.02, 4.0  # of the least risk, and of its step, within which a smaller one may be as good where few samples measure
WINDOW = 0.15  # of an epoch, over which measured curves are averaged
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
        limit_step: above it training diverges (least squares) or is unstable at the start (logistic), in small batches; where steps were
            swept on the data, the smallest that diverged, infinite if none did.
        best_risk: least test risk of any step within the epochs allowed.
        epoch_axis: `(T,)` epochs of the curves.
        reshuffle, replacement: expected risks at the recommended step, of both kinds of sampling.
        sweep: steps `(S,)`, the best test risk of each and its epoch, at the weight decay recommended; infinite where training diverged.
        start_risk: before training, as the sweep measures.
        best_ridge: weight decay that is best for training without a stop.
        ridge_gain: by how much the best weight decay tried lowers the best test risk.
        at_end: whether the stopping epoch is the last allowed.
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
    start_risk: float
    best_ridge: float
    ridge_gain: float
    at_end: bool


def advise(
    setting: Setting, proxy: LinearTwin, predictor: Curved, most_epochs: int, feature_variance: float, report: Report
) -> Advice:  # fmt: skip
    """Sweep steps, ridges and epochs. `feature_variance` turns steps into learning rates."""
    static = static_ridge(setting)
    ridges = np.array(predictor.ridges or [0.3 * static, static])
    gains = predictor.ridge_gains(ridges, most_epochs)
    tried = swept = sweep(predictor, ridges[gains > RIDGE_GAIN], most_epochs, report)
    ridge, gain = swept.best_ridge() if (gains > RIDGE_GAIN).any() else (0.0, float(gains.max()))
    report(0.87, "training on all samples")
    step, epochs = swept.chosen(ridge)
    while not predictor.trains(step, ridge, epochs):
        swept = swept.below(step, ridge)
        step, epochs = swept.chosen(ridge) if (swept.ridges == ridge).any() else (0.5 * step, epochs)
    report(0.9, "choosing the batch")
    limit = rates_limit(setting, proxy, ridge, tried.limit_step if predictor.measured else None)
    rows, useful = batch_rows(setting, step, ridge, epochs, feature_variance, limit, predictor.batch_size(step))
    size = predictor.batch_size(step) or max((row.batch_size for row in rows if row.useful and row.batch_size <= 64), default=1)
    shown = min(max(2 * epochs, epochs + 3), most_epochs)
    reshuffle, replacement = (predictor.curves(step, ridge, shown, order) for order in ("reshuffle", "replacement"))
    return Advice(
        step=step,
        epochs=epochs,
        weight_decay=ridge * feature_variance,
        ridge=ridge,
        batch_size=size,
        batches=rows,
        largest_batch=useful,
        limit_step=tried.limit_step if predictor.measured else proxy.stability_limit(ridge / setting.curvature) / setting.curvature,
        best_risk=float(np.min(tried.risks[tried.ridges == ridge])),
        epoch_axis=np.arange(shown + 1),
        reshuffle=reshuffle,
        replacement=replacement,
        sweep=tried.with_ridge(ridge),
        start_risk=float(tried.test[:, 0].mean()),
        best_ridge=static * feature_variance,
        ridge_gain=gain,
        at_end=epochs >= most_epochs,
    )


def static_ridge(setting: Setting) -> float:
    """The ridge that is best when training goes on for ever, by least squares on the labels; the logistic loss is less curved, so its ridge
    is less by the same factor."""
    e = setting.estimate
    errors = ridge_error(e.eigenvalues, e.weights, e.signal, e.noise, setting.d / setting.n, RIDGES)
    return float(RIDGES[np.argmin(errors)]) * (1.0 if setting.loss == "squared" else 0.2)


@dataclass(frozen=True)
class Sweep:
    """Trainings by step and ridge `(C,)` on several stages: their test risks `(stages, C, epochs + 1)`, and of their mean the least and its
    epoch `(C,)`; whether they were measured on the user's few samples."""

    steps: Array
    ridges: Array
    each: Array
    measured: bool = False

    @property
    def test(self) -> Array:
        return self.each.mean(0)

    @property
    def known(self) -> Array:
        """Mean test risks after 1, 2, ... epochs; infinite past the best, and everywhere for what diverged on some stage."""
        diverged = np.asarray(np.isinf(self.each).any((0, 2)))
        test = self.test[:, 1:]
        test = np.where(np.isfinite(test), smoothed(test) if self.measured else test, np.inf)
        return np.where(diverged[:, None], np.inf, test)

    @property
    def stops(self) -> Array:
        return 1 + np.argmin(self.known, 1)

    @property
    def risks(self) -> Array:
        return self.known.min(1)

    @property
    def limit_step(self) -> float:
        """The smallest above all that were stable."""
        stable, without = np.isfinite(self.risks), self.ridges == 0.0
        above = self.steps[without & ~stable & (self.steps > self.steps[without & stable].max(initial=0.0))]
        return float(above.min(initial=np.inf))

    def below(self, step: float, ridge: float) -> Sweep:
        """Without the steps from this one on at this ridge."""
        kept = (self.steps < step) | (self.ridges != ridge)
        return Sweep(self.steps[kept], self.ridges[kept], self.each[:, kept], self.measured)

    def chosen(self, ridge: float) -> tuple[float, int]:
        """Step and epochs."""
        return self.careful(ridge) if self.measured else self.cheapest(ridge)

    def best_ridge(self) -> tuple[float, float]:
        """The ridge whose best training gains the most over the best without, if that is enough, and the gain."""
        least = {ridge: int(np.argmin(np.where(self.ridges == ridge, self.risks, np.inf))) for ridge in np.unique(self.ridges)}
        without = self.risks[least[0.0]]
        best = min(least, key=lambda ridge: self.risks[least[ridge]])
        if not without > 0:
            return 0.0, 0.0  # nothing is left to gain
        gain = 1.0 - self.risks[least[best]] / without
        # Stages are the same for both, so it is their difference whose spread matters.
        pair = [self.each[:, least[ridge], self.stops[least[ridge]]] for ridge in (0.0, best)]
        noise = standard_error(pair[0] - pair[1]) / without
        return (float(best) if gain > max(RIDGE_GAIN, 2.0 * noise) else 0.0), float(gain)

    def cheapest(self, ridge: float) -> tuple[float, int]:
        """Fewest epochs within the tolerance of the least risk, and of the steps that do so the one that is best then."""
        chosen = self.ridges == ridge
        test = self.known[chosen]
        good = test <= (1.0 + TOLERANCE) * test.min()
        epoch = int(np.argmax(good.any(0)))
        return float(self.steps[chosen][np.argmin(test[:, epoch])]), epoch + 1

    def careful(self, ridge: float) -> tuple[float, int]:
        """The smallest step that comes within one standard error of the least risk, and near it, and its fewest epochs as good as any.

        The rule of one standard error (Breiman, Friedman, Olshen and Stone, Classification and Regression Trees, 1984) where risks are
        measured on few samples: of what cannot be told apart, the training with the least noise of its own. Where a few samples carry the
        risk that error is large and says little, so that no more than `NEAR` is given away; and a quarter of the step has a quarter of
        the noise, so that still smaller ones only take longer.
        """
        chosen = self.ridges == ridge
        each, test = self.each[:, chosen, 1:], self.known[chosen]
        best = np.unravel_index(np.argmin(test), test.shape)
        with np.errstate(invalid="ignore"):
            good = test - test[best] <= standard_error(each - each[:, *best, None, None])
        good &= test <= (1.0 + NEAR) * test[best]
        good &= (self.steps[chosen] >= self.steps[chosen][best[0]] / DOWN)[:, None]
        good[best] = True
        smallest = min(np.flatnonzero(good.any(1)), key=lambda i: self.steps[chosen][i])
        curve = test[smallest]
        return float(self.steps[chosen][smallest]), int(np.argmax(curve <= (1.0 + TOLERANCE) * curve.min())) + 1

    def with_ridge(self, ridge: float) -> tuple[Array, Array, Array]:
        """Steps, increasing, least risks and their epochs."""
        chosen = np.flatnonzero(self.ridges == ridge)
        chosen = chosen[np.argsort(self.steps[chosen])]
        return self.steps[chosen], self.risks[chosen], self.stops[chosen].astype(float)


def sweep(predictor: Curved, ridges: Array, most_epochs: int, report: Report) -> Sweep:
    """Train at ever smaller steps, at least down to where no training can diverge, until they gain nothing: noise is small by then, and
    halving a step doubles the epochs. Then with `ridges` at the best step found so and at half of it."""
    found: list[Sweep] = []

    def attempt(steps: Array, ridge: Array) -> None:
        report(0.85 * (1.0 - 0.8 ** len(found)), f"training at steps from {steps.max():.3g} down to {steps.min():.3g}")
        found.append(Sweep(steps, ridge, predictor.risks(steps, ridge, most_epochs), predictor.measured))

    start, more, tried = predictor.start_step, predictor.more, 0
    first = max(FIRST, 1 + int(np.ceil(np.log(start / predictor.certain_step) / np.log(FINE))))
    while tried < first + MOST_MORE:
        count = more if tried else first
        attempt(start * FINE ** -np.arange(tried, tried + count, dtype=float), np.zeros(count))
        tried += count
        risks = np.concatenate([one.risks for one in found])
        gained = not np.isfinite(risks[:-more]).any() or risks[-more:].min() <= (1.0 - TOLERANCE) * risks[:-more].min()
        # Half the step has half the noise, so that no more than half of what is above the flow is to be gained.
        if not gained or risks[-1] - predictor.floor <= 2.0 * TOLERANCE * risks[-1]:
            break
    above = start
    while above < 0.99 * predictor.largest_step and _joined(found).chosen(0.0)[0] >= above:  # little noise: large steps are the quickest
        above *= FINE**UP
        attempt(above * FINE ** -np.arange(UP, dtype=float), np.zeros(UP))
    if not len(ridges):
        return _joined(found)
    near = _joined(found).chosen(0.0)[0] * np.array([1.0, 0.5])
    attempt(np.repeat(near, len(ridges)), np.tile(ridges, len(near)))
    return _joined(found)


def smoothed(test: Array) -> Array:
    """Risks `(C, T)` after 1, 2, ... epochs, each the mean of those known within `WINDOW` of its epoch: which of neighbouring epochs is the
    least is luck of the samples' order, and the next training has another."""
    epochs = np.arange(1, test.shape[1] + 1)
    first, last = np.floor(epochs / (1.0 + WINDOW)).astype(int), np.ceil(epochs * (1.0 + WINDOW)).astype(int) - 1
    first, last = np.minimum(first, epochs - 1), np.clip(last, epochs, len(epochs))
    known = np.isfinite(test)
    sums = np.pad(np.cumsum(np.where(known, test, 0.0), 1), ((0, 0), (1, 0)))
    counts = np.pad(np.cumsum(known, 1), ((0, 0), (1, 0)))
    return (sums[:, last] - sums[:, first]) / np.maximum(counts[:, last] - counts[:, first], 1)


def _joined(parts: list[Sweep]) -> Sweep:
    joined = lambda name, axis: np.concatenate([getattr(one, name) for one in parts], axis)
    return Sweep(joined("steps", 0), joined("ridges", 0), joined("each", 1), parts[0].measured)


def rates_limit(setting: Setting, proxy: LinearTwin, ridge: float, limit_step: float | None) -> Callable[[int], float]:
    """Learning rate, for features of variance one, above which training with batches of so many samples is unstable: where steps were
    swept on the data, the smallest step that diverged, for least squares up to where the steepest direction does in any batches."""
    n, d = setting.n, setting.d
    if limit_step is None:
        return lambda size: rate_limit(proxy, setting.curvature, ridge, size, n, d)
    steepest = 2.0 / (setting.estimate.largest + ridge) if setting.loss == "squared" else np.inf
    return lambda size: min(limit_step * size / d, steepest)


def batch_rows(
    setting: Setting, step: float, ridge: float, epochs: int, variance: float, limit: Callable[[int], float], tried: int | None
) -> tuple[list[BatchRow], int]:
    """Learning rates for batches of 1, 2, 4, ... samples.

    The batch size matters only through `rate / batch_size` while batches are small. What ends this is the largest eigenvalue of the
    sample covariance: a rate beyond one over its curvature takes that direction past its minimum, whatever the batch, so that
    from there on the rate stays and epochs grow with the batch. Batches up to `tried` are as small as those that were trained with.
    """
    cap = 1.0 / (setting.curvature * setting.estimate.largest + ridge)
    rows, useful = [], 1
    sizes = [2**i for i in range(int(np.log2(setting.n)) + 1)]
    for size in sizes:
        scaled, most = step * size / setting.d, limit(size)
        small = size <= (tried or 0)
        rate = scaled if small else min(scaled, cap, 0.5 * most)
        good = bool(size == 1 or small or (scaled <= STIFF * cap and size <= 0.1 * setting.n))
        useful = size if good else useful
        rows.append(BatchRow(size, float(rate / variance), most / variance, int(np.ceil(epochs * scaled / rate - 1e-9)), good))
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
