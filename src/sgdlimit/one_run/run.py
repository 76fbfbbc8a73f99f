"""`OneRun`: listens to a training loop, and says at any moment what its test risk is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ..checks import available_bytes, number, positive
from ..errors import InputError, Words, refuse
from ..learning.optimisers import share
from ..learning.slopes import Slopes, slopes
from . import response, trust
from .estimate import Best, LeftOutRisk, best_of, of_model, of_pairs
from .model import Model
from .record import Record, Scale, Step, evaluate, pick
from .tangents import Tangents

LEFT_OUT = 7  # samples left out exactly, to correct the response of all others by, and as many again
LITTLE = 2**24  # where that takes no time: numbers of features in all uses so far
SHARE = 0.08  # or where what the response leaves open has a larger part in the squared error
LOOKED_AT = 2**14  # uses, of which the size of steps is told


class OneRun:
    """The test risk of a training from the training itself, without held-out data (OPTIMISERS section 7).

    It stands beside a loop of one's own, for any student that is a function of `X theta`: linear and logistic models, softmax, the last
    layer of a network on fixed features. The loop tells of every batch; an estimate takes what the samples would have been predicted,
    had each been left out of the training.

        run = sl.OneRun(X, y, loss, learning_rate=0.1)
        for batch in batches:
            r = X[batch] @ theta
            run.step(batch, r)
            theta -= 0.1 * X[batch].T @ slope(r, y[batch]) / len(batch)
        print(run.estimate(X @ theta))

    Arguments:
        X: features `(n, d)`, as the loop takes them. An intercept that is trained is a column of ones.
        y: labels, `n` of them along the first axis: `(n,)`, one-hot `(n, classes)`, or any tree of such arrays.
        loss: `loss(r, y)` of one sample in JAX, `r (k,)`, twice differentiable nearly everywhere.
        learning_rate, momentum, weight_decay: those of `torch.optim.SGD`, on the mean loss of a batch. A schedule passes its learning
            rate to `step`.
        betas, eps: those of `torch.optim.AdamW`, where that trains; `weight_decay` is then its own, and `momentum` stays zero.
        seed: of which samples are left out exactly.

    Memory is at most `4 (3 n d + 4 m^2 + 300 n k^2)` bytes with `m = min(n, d)`, or `k d` for `k` outputs and up to 1500 weights, and
    `4 (k^2 + 2 k + 4)` more for every use of a sample. An estimate carries 7 or 14 samples through the batches since the last one, which
    takes 0.7 or 1.4 times as long as the loop, and finds where rows lie in the spectrum of a matrix of `m` by `m`: 0.02 seconds for 2000
    rows of 600 features, 0.8 for 4000 rows of 3000, from there on eight times as much for twice as many. The first one compiles for half a
    second.

    Raises:
        InputError: an argument is out of range, or an estimate does not fit into memory.
    """

    def __init__(
        self,
        X: Any,
        y: Any,
        loss: Callable[[Any, Any], Any] | Slopes,
        learning_rate: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        *,
        betas: tuple[float, float] | None = None,
        eps: float = 1e-8,
        seed: int = 0,
    ):
        _check_memory(X, 1)
        self.rows = _rows(X)
        self.labels = _labels(y, len(self.rows))
        if not callable(loss) and not isinstance(loss, Slopes):
            raise refuse("loss", "be a function of r and y", loss, "lambda r, y: 0.5 * (r[0] - y) ** 2")
        self.slopes = loss if isinstance(loss, Slopes) else slopes(loss)
        self.learning_rate = positive("learning_rate", learning_rate, "that of the loop, for the mean loss of a batch")
        self.momentum = _momentum(momentum)
        self.weight_decay = number("weight_decay", weight_decay)
        if self.weight_decay < 0:
            raise refuse("weight_decay", "not be negative", weight_decay, "as PyTorch's")
        self.adam = None if betas is None else _adam(betas, eps, momentum)
        self._usual = Step(self.learning_rate, self.momentum, 1.0)
        self.start: np.ndarray | None = None  # weights `(k, d)`, where the optimiser must know them
        self.norms = np.einsum("nd,nd->n", self.rows, self.rows).astype(float)
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(LEFT_OUT,)))  # not the stream that a loop shuffles by
        self._order = rng.permutation(len(self.rows))
        self.who = np.sort(self._order[:LEFT_OUT])
        self.history: list[LeftOutRisk] = []
        self._record: Record | None = None
        self._tangents: list[Tangents] = []
        self._model = Model(self.rows, self.norms)
        self._open = np.inf  # what the response left open of the squared error, at last
        self._flat = True  # predictions come as (n,)
        self._copies: float | None = None

    def step(self, indices: Any, predictions: Any, learning_rate: float | None = None) -> None:
        """Tell of a batch, once for every update of the weights.

        Arguments:
            indices: its rows `(b,)`.
            predictions: theirs before the update, `X[indices] @ theta`, `(b,)` or `(b, k)`.
            learning_rate: of this step, where a schedule changes it.

        Raises:
            InputError: shapes or numbers are wrong.
        """
        if learning_rate is None and self.adam is None:
            step = self._usual
        else:
            rate = self.learning_rate if learning_rate is None else positive("learning_rate", learning_rate)
            step = Step(rate, self.momentum, 1.0) if self.adam is None else self.adam.step(rate, self.weight_decay)
        if self._record is None or not self._record.add(indices, predictions, step):
            self.record_step(indices, predictions, step)

    def record_step(self, indices: Any, predictions: Any, step: Step, numbers: np.ndarray | None = None) -> None:
        """`step`, for an optimiser that changes as it goes, and numbers `(p,)` that are trained along."""
        indices, predictions = _array("indices", indices), _array("predictions", predictions)
        if indices.ndim != 1 or indices.dtype.kind not in "iu":
            raise refuse("indices", "be the rows of a batch (b,)", Words(f"{indices.dtype} of shape {indices.shape}"))
        predictions = self._shaped("predictions", predictions, len(indices)).astype(float, copy=False)
        assert self._record is not None
        self._record.add(indices, predictions[:, 0] if self._flat else predictions, step, numbers)

    def estimate(self, predictions: Any) -> LeftOutRisk:
        """The test risk now.

        Arguments:
            predictions: of all samples with the weights of now, `X @ theta`, `(n,)` or `(n, k)`.

        Returns:
            LeftOutRisk: `risk`, `standard_error`, `left_out`, and whether to trust it. It is kept for `best`.

        Raises:
            InputError: shapes or numbers are wrong.
        """
        r = self._shaped("predictions", _array("predictions", predictions).copy(), len(self.rows))
        found = self._estimate(r)
        self.history.append(found)
        return found

    def best(self) -> Best:
        """Which of the estimates so far has the least left-out risk, and how flat it is around it.

        Raises:
            InputError: there is no estimate yet.
        """
        if not self.history:
            raise InputError("`estimate` must have been called before `best`, but has not (call it once an epoch)")
        return best_of(self.history)

    def _shaped(self, name: str, r: np.ndarray, rows: int) -> np.ndarray:
        """Predictions `(rows, k)`; the first ones tell `k`."""
        if r.ndim not in (1, 2) or len(r) != rows or r.dtype.kind not in "fiu":
            raise refuse(
                name, f"be numbers of shape ({rows},) or ({rows}, k)", Words(f"{r.dtype} of shape {r.shape}"), "X[indices] @ theta"
            )
        flat = r.ndim == 1
        r = r.reshape(rows, -1)
        if self._record is None:
            self._record, self._flat = Record(self.slopes, self.labels, len(self.rows), r.shape[1], flat), flat
            coupled = self.weight_decay if self.adam is None else 0.0
            self._tangents = [Tangents(self.rows, self.who, r.shape[1], coupled, self.start)]
            _check_memory(self.rows, r.shape[1])
            _try(self.slopes, r.shape[1], self.labels)
        elif r.shape[1] != self._record.k:
            raise refuse(name, f"have {self._record.k} entries a row, as those before", Words(f"of shape {r.shape}"))
        return r

    def _estimate(self, r: np.ndarray) -> LeftOutRisk:
        record = self._record
        assert record is not None
        with np.errstate(all="ignore"):  # a training that diverges is told in words
            new = record.close()
            little = len(record.uses.sample) * self.rows.shape[1] <= LITTLE
            if not little and self._open < SHARE / 4:  # so that half as many leave less than what is asked for
                del self._tangents[1:]
                self.who = self._tangents[0].who
            for some in self._tangents:
                some.replay(record, *new)
            if little:
                self._more_left_out(record)
            while True:
                found = self._judged(record, r)
                if not self._refined(record, found):
                    return found

    def _refined(self, record: Record, found: LeftOutRisk) -> bool:
        """Find the response more closely, where what it leaves open matters; false where it does not, or is as close as it gets."""
        whole = found.standard_error**2
        self._open = found.diagnostics["response_error"] ** 2 / whole if whole > 0 else 0.0
        return self._open > SHARE and (self._model.refine() or self._more_left_out(record))

    def _more_left_out(self, record: Record) -> bool:
        """Leave out as many samples again, from the start; false where that has been done."""
        first, others = self._tangents[0], np.sort(self._order[LEFT_OUT : 2 * LEFT_OUT])
        if len(self._tangents) > 1 or not len(others):
            return False
        self._tangents.append(Tangents(self.rows, others, first.k, first.decay, self.start))
        self._tangents[-1].replay(record, 0, 0)
        self.who = np.concatenate([self.who, others])
        return True

    def _judged(self, record: Record, r: np.ndarray) -> LeftOutRisk:
        first, who, n = self._tangents[0], self.who, len(r)
        moved_by = np.concatenate([some.moved() for some in self._tangents], axis=1)
        exact = moved_by[who, np.arange(len(who))]
        modelled, fit = self._model.fitted(record, first.decay, first.axes(), who, exact)
        shift = np.einsum("p,pna->na", fit.scales, modelled)
        by_model = r[who] + shift[who]
        shift[who] = exact
        moved = r + shift
        everything = [np.arange(n), np.arange(n), who]
        losses, slope = evaluate(self.slopes, np.concatenate([moved, r, by_model]), pick(self.labels, np.concatenate(everything)))
        losses, train, doubles = np.split(losses, [n, 2 * n])
        slope = slope[:n]
        steep = np.einsum("na,pna->p", slope, modelled) / n
        spread = losses.std(ddof=1) / np.sqrt(n)
        response_error = float(np.sqrt(steep @ fit.cov @ steep + of_model(losses[who] - doubles) ** 2))
        pairs = np.einsum("na,nqa->nq", slope, moved_by)
        risk, standard_error = float(losses.mean()), float(np.sqrt(spread**2 + of_pairs(pairs, who) ** 2 + response_error**2))
        measured = {
            "risk": risk,
            "scale": float(fit.scales[0]),
            "scale_faded": float(fit.scales.sum()),
            "scatter": fit.scatter,
            "response_error": response_error,
            "alone": float(losses.max() / losses.sum()) if losses.sum() > 0 else 0.0,
            **self._measured(record),
        }
        left_out = moved[:, 0] if self._flat else moved
        known = trust.warnings(measured), measured, self.labels, pairs, who
        return LeftOutRisk(risk, standard_error, left_out, losses, float(train.mean()), len(record.batches), *known)

    def _measured(self, record: Record) -> dict[str, float]:
        """Numbers about the training so far, for the verdict."""
        if self._copies is None:
            self._copies = trust.copies(self.rows, self.norms)
        share = lambda part, whole: float(np.sqrt(part / whole)) if whole > 0 else 0.0
        uses = record.uses
        norms = self.norms if self._model.basis is None else self._model.basis.norms
        some = slice(None, None, 1 + len(uses.sample) // LOOKED_AT)
        size = np.sqrt(np.sum((uses.hessian[some] * record.amplitudes(record.pace(), some)[:, :, None]) ** 2, axis=(1, 2)))
        size *= norms[uses.sample[some]]
        return {
            "features": float(min(self.rows.shape)),
            "tangents": float(len(self.who)),
            "copies": self._copies,
            "bend": share(sum(some.bent for some in self._tangents), sum(some.straight for some in self._tangents)),
            "unexplained": share(self._tangents[0].missed, self._tangents[0].explained),
            "overshoot": float(np.quantile(size, 0.9)) if len(size) else 0.0,
        }


def _try(slopes: Slopes, k: int, labels: Any) -> None:
    """Try the loss on shapes, so that a mistake gets words."""
    one = jax.tree.map(lambda part: part[0], labels)
    with jax.enable_x64(True):
        try:
            shape = jax.eval_shape(slopes.loss, np.zeros(k), one).shape
        except Exception as e:
            must = f"map r ({k},) and the label of a sample to a number with JAX operations"
            raise refuse("loss", must, Words(f"one that fails: {str(e).splitlines()[0]}")) from None
    if shape != ():
        raise refuse("loss", "return a number", Words(f"an array of shape {shape}"), "r is (k,): r[0] for one output")


def _array(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except Exception as e:
        raise refuse(name, "be an array", Words(f"none: {str(e).splitlines()[0]}"), "of a PyTorch tensor its .detach().numpy()") from None


def _momentum(value: Any) -> float:
    found = number("momentum", value)
    if not 0 <= found < 1:
        raise refuse("momentum", "be at least 0 and below 1", value, "as PyTorch's")
    return found


class _AdamW:
    """Steps of `torch.optim.AdamW`, which knows how many there were."""

    def __init__(self, betas: tuple[float, float], eps: float):
        self.betas, self.eps = np.array(betas), eps
        self.left = np.ones(2)  # what of the start is left in either mean

    def step(self, rate: float, decay: float) -> Step:
        self.left *= self.betas
        first, second = self.betas
        scale = Scale(second, 1.0 - second, 1.0 / np.sqrt(1.0 - self.left[1]), self.eps)
        return Step(rate / (1.0 - self.left[0]), first, 1.0 - first, scale, rate * decay)


def _adam(betas: Any, eps: Any, momentum: float) -> _AdamW:
    try:
        first, second = betas
    except (TypeError, ValueError):
        raise refuse("betas", "be two numbers in [0, 1)", betas, "(0.9, 0.999) is usual") from None
    if momentum:
        raise refuse("momentum", "be zero beside betas", momentum, "the first of betas is Adam's")
    found = [share(f"betas[{i}]", beta, "(0.9, 0.999) is usual") for i, beta in enumerate((first, second))]
    if (small := number("eps", eps)) < 0:
        raise refuse("eps", "not be negative", eps, "as PyTorch's")
    return _AdamW((found[0], found[1]), small)


def needed_bytes(n: int, d: int, k: int) -> int:
    """Memory at the peak of an estimate: three arrays as the rows, four as the curvature, and what samples and nodes of time take."""
    weights = k * d if k == 1 or k * d <= response.TOGETHER else d
    return 4 * (3 * n * d + 4 * min(n, weights) ** 2 + 300 * n * k**2)


def _check_memory(X: Any, k: int) -> None:
    shape = np.shape(X)
    if len(shape) != 2:
        return
    needed, available = needed_bytes(*shape, k), available_bytes()
    if needed > available:
        shown = f"of shape {shape}: an estimate takes {needed / 2**30:.3g} GiB, and {available / 2**30:.3g} GiB are available"
        raise refuse("X", "leave the estimate in memory", Words(shown), "fewer features, or fewer rows")


def _rows(X: Any) -> np.ndarray:
    try:
        rows = np.ascontiguousarray(X, dtype=np.float32)
    except (TypeError, ValueError):
        raise refuse("X", "be an array of numbers (n, d)", Words(type(X).__name__)) from None
    if rows.ndim != 2 or rows.shape[0] < 2 or rows.shape[1] < 1:
        raise refuse("X", "be an array (n, d) with at least two rows", Words(f"of shape {rows.shape}"))
    if not np.isfinite(rows).all():
        raise refuse("X", "be finite", Words("not everywhere"), "as float32")
    return np.asarray(jax.device_put(rows, jax.local_devices(backend="cpu")[0]))  # where compiled programs take it without a copy


def _labels(y: Any, n: int) -> Any:
    labels = jax.tree.map(np.asarray, y) if isinstance(y, dict | tuple) else np.asarray(y)
    for part in jax.tree.leaves(labels):
        if part.ndim < 1 or len(part) != n or part.dtype.kind not in "fiub":
            raise refuse("y", f"be {n} labels, as X has rows", Words(f"{part.dtype} of shape {part.shape}"))
    return labels
