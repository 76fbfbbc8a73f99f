"""What a training loop told: which rows each batch had, what they were predicted, and what the loss makes of that."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from ..compiling import jit
from ..errors import refuse
from ..functions import Static
from ..learning.slopes import Slopes

ROOM = 2**15  # uses for which there is room at once
CHUNK = 4096  # samples a compiled call takes: one program for everything


class Scale(NamedTuple):
    """What Adam divides a step by: `root sqrt(s) + eps` with `s = kept s + weight gradient^2`, of every weight or, `by_row`, of the mean
    over an output's weights."""

    kept: float
    weight: float
    root: float
    eps: float
    by_row: bool = False


class Step(NamedTuple):
    """One step of the weights: `v = momentum v + gain (mean gradient + decay theta)`, `theta -= rate v / scale + shrink theta`."""

    rate: float
    momentum: float
    gain: float
    scale: Scale | None = None
    shrink: float = 0.0


class Steps(NamedTuple):
    """Numbers of all steps so far, each `(step,)`: those of `Step`, and the size of the batch."""

    rate: np.ndarray
    momentum: np.ndarray
    gain: np.ndarray
    shrink: np.ndarray
    size: np.ndarray


class Uses(NamedTuple):
    """All uses of samples so far, one after the other: which `sample (u,)` in which `step (u,)`, its `prediction (u, k)`, and the loss's
    `gradient (u, k)` and `hessian (u, k, k)` there."""

    sample: np.ndarray
    step: np.ndarray
    prediction: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray


class Record:
    """Batches as they come; they are laid out when that is asked for, and what the loss makes of them is known when they are replayed."""

    def __init__(self, slopes: Slopes, labels: Any, n: int, k: int, flat: bool = False):
        self.slopes, self.labels, self.n, self.k, self.flat = slopes, labels, n, k, flat
        self.told: list[Step] = []
        self.steps = Steps(*np.zeros((5, 0)))
        self.batches: list[int] = []  # their sizes
        self.numbers: list[np.ndarray] = []  # that are trained along, before each step, if there are any
        self.gains: list[np.ndarray] = []  # of each output, `(k,)`, at every step that had a scale; known when it has been carried out
        self.closed = 0
        none, empty = np.zeros(0, np.int64), np.zeros((0, k), np.float32)
        self.uses = Uses(none, none, empty, empty, np.zeros((0, k, k), np.float32))
        self._full: list[tuple[np.ndarray, np.ndarray]] = []  # samples and predictions not laid out yet: as many as there was room for,
        self._samples, self._predictions, self._end = np.zeros(0, np.int64), np.zeros(0, np.float32), 0  # and those that fill it now

    def add(self, indices: Any, predictions: Any, step: Step, numbers: np.ndarray | None = None) -> bool:
        """A batch `(b,)`, and predictions `(b, k)`, or `(b,)` where they come `flat`; false for what is none. This is done at every step of
        a loop that takes ten microseconds. Arrays are copied, since the loop may use them again."""
        if type(indices) is not np.ndarray or type(predictions) is not np.ndarray:
            return False
        if indices.dtype.kind not in "iu" or predictions.dtype.kind != "f" or indices.ndim != 1:
            return False
        size, begin, k = len(indices), self._end, self.k
        if predictions.shape != (indices.shape if self.flat else (size, k)):
            return False
        end = begin + size
        if end > len(self._samples):
            self._make_room(size)
            begin, end = 0, size
        self._end = end
        self._samples[begin:end] = indices
        self._predictions[begin * k : end * k] = predictions if self.flat else predictions.reshape(-1)
        self.batches.append(size)
        self.told.append(step)
        if numbers is not None:
            self.numbers.append(numbers)
        return True

    def _make_room(self, size: int) -> None:
        self._full.append(self._filled())
        many = max(ROOM, size)
        self._samples, self._predictions = np.empty(many, np.int64), np.empty(many * self.k, np.float32)

    def _filled(self) -> tuple[np.ndarray, np.ndarray]:
        return self._samples[: self._end], self._predictions[: self._end * self.k]

    def close(self) -> tuple[int, int]:
        """Lay out what is new; the first new step, and the first new use."""
        first, begin = self.closed, len(self.uses.sample)
        if first < len(self.batches):
            sample, prediction = (np.concatenate(parts) for parts in zip(*self._full, self._filled(), strict=True))
            prediction = prediction.reshape(-1, self.k)
            if len(sample) and not 0 <= sample.min() <= sample.max() < self.n:
                raise refuse("indices", f"be between 0 and {self.n - 1}", [int(sample.min()), int(sample.max())], "rows of X")
            sizes = self.batches[first:]
            self.steps = Steps(*np.column_stack([self.steps, np.vstack([_numbers(self.told[first:]), sizes])]))
            step = np.repeat(np.arange(first, len(self.batches)), sizes)
            slopes = np.empty_like(prediction), np.empty((len(prediction), self.k, self.k), np.float32)  # for `learn`
            parts = zip(self.uses, (sample, step, prediction, *slopes), strict=True)
            self.uses = Uses(*(np.concatenate(pair) for pair in parts))
            self._full, self._end = [], 0
        self.closed = len(self.batches)
        return first, begin

    def learn(self, begin: int, gradient: np.ndarray, hessian: np.ndarray) -> None:
        """Slopes of the loss at the uses from one on."""
        end = begin + len(gradient)
        self.uses.gradient[begin:end] = gradient
        self.uses.hessian[begin:end] = hessian

    def pace(self) -> np.ndarray:
        """By how much a mean gradient moves the weights at once, `(step, 1)` or, where outputs have gains of their own, `(step, k)`. A
        velocity is used later: what counts is the rate then."""
        rate, momentum, gain, *_ = self.steps
        rates = rate[:, None] * np.array(self.gains) if self.gains else rate[:, None].copy()
        if momentum.any() and np.ptp(rates, axis=0).any():
            for here in range(len(rates) - 2, -1, -1):
                rates[here] += momentum[here] * (rates[here + 1] - rates[here])
        return rates * gain[:, None]

    def metric(self) -> np.ndarray:
        """The mean Hessian's positive part `(k, k)`, up to a factor: in which directions of the outputs the loss sees a shift."""
        hessian = np.sum(self.uses.hessian, axis=0, dtype=float)
        if not np.isfinite(hessian).all():
            return hessian
        values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
        values = np.maximum(values, 0.0)
        return (vectors * values) @ vectors.T / values.max() if values.max() > 0 else np.eye(self.k)

    def units(self) -> np.ndarray:
        """Of outputs `(k,)`, in which their gains are about the same: `r / units` is trained by the gradient in it as if there were none,
        and its curvature is symmetric."""
        mean = np.mean(self.gains, axis=0) if self.gains else np.ones(self.k)
        return np.sqrt(np.where(mean > 0, mean, 1.0))  # an output may have had no gradient

    def amplitudes(self, pace: np.ndarray, some: slice = slice(None)) -> np.ndarray:
        """The same for a gradient of one sample, at every use or at some, `(u, 1)` or `(u, k)`."""
        return (pace / np.maximum(self.steps.size, 1)[:, None])[self.uses.step[some]]


def _numbers(told: list[Step]) -> np.ndarray:
    """Of steps, `(4, step)`; they are often one and the same."""
    some = told[:1] if told[0] is told[-1] and told.count(told[0]) == len(told) else told
    numbers = np.array([(step.rate, step.momentum, step.gain, step.shrink) for step in some]).T
    return np.broadcast_to(numbers, (4, len(told)))


def pick(labels: Any, rows: np.ndarray) -> Any:
    """The labels of some samples."""
    return jax.tree.map(lambda part: part[rows], labels)


def evaluate(slopes: Slopes, r: np.ndarray, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Loss `(m,)` and gradient `(m, k)` of predictions `r (m, k)`."""
    m, k = r.shape
    found = np.empty(m), np.empty((m, k))
    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        for first in range(0, m, CHUNK):
            rows = np.arange(first, first + CHUNK).clip(max=m - 1)
            parts = _evaluate(r[rows].astype(float), pick(labels, rows), loss=Static(slopes.loss), gradient=Static(slopes.gradient))
            for into, part in zip(found, parts, strict=True):
                into[first : first + CHUNK] = np.asarray(part)[: m - first]
    return found


@partial(jit, static_argnames=("loss", "gradient"))
def _evaluate(r, labels, *, loss, gradient):
    return jax.vmap(loss)(r, labels), jax.vmap(gradient)(r, labels)
