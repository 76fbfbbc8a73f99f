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
from .record import Record, Scale, Step, evaluate, pick
from .scales import Fit, fit_scales
from .tangents import Tangents

LEFT_OUT = 15  # samples left out exactly, to correct the response of all others by; with the weights' own way they fill a register
GROWTH = 1.2  # eigenvectors are found again when there are so many times as many uses: where they change, so does the estimate a little
WORSE = 1.3  # or when samples left out exactly scatter so many times as much around them as when they were found,
TOLERATED = 0.02  # and by more than this
LOOKED_AT = 2**16  # uses, of which the size of steps is told


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
    `4 (k^2 + 2 k + 4)` more for every use of a sample. An estimate carries 15 samples through the batches since the last one, which takes
    as long as the loop, and finds the eigenvectors of a matrix of `m` by `m`: 0.04 seconds for 2000 rows of 600 features, 2.5 for 4000
    rows of 3000, from there on eight times as much for twice as many. The first one compiles for a quarter of a second.

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
        self.who = np.sort(rng.permutation(len(self.rows))[:LEFT_OUT])
        self.history: list[LeftOutRisk] = []
        self._record: Record | None = None
        self._tangents: Tangents | None = None
        self._basis: response.Basis | None = None
        self._scatter = 0.0
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
        rate = self.learning_rate if learning_rate is None else positive("learning_rate", learning_rate)
        if self.adam is not None:
            step = self.adam.step(rate, self.weight_decay)
        else:
            step = self._usual if learning_rate is None else Step(rate, self.momentum, 1.0)
        self.record_step(indices, predictions, step)

    def record_step(self, indices: Any, predictions: Any, step: Step, numbers: np.ndarray | None = None) -> None:
        """`step`, for an optimiser that changes as it goes, and numbers `(p,)` that are trained along."""
        indices, predictions = _copy("indices", indices), _copy("predictions", predictions)
        if indices.ndim != 1 or indices.dtype.kind not in "iu":
            raise refuse("indices", "be the rows of a batch (b,)", Words(f"{indices.dtype} of shape {indices.shape}"))
        record, b = self._record, len(indices)
        if record is None or predictions.dtype.kind != "f" or predictions.shape != ((b,) if self._flat else (b, record.k)):
            predictions = self._shaped("predictions", predictions, b)
            predictions, record = predictions[:, 0] if self._flat else predictions, self._record
        assert record is not None
        record.add(indices, predictions, step, numbers)

    def estimate(self, predictions: Any) -> LeftOutRisk:
        """The test risk now.

        Arguments:
            predictions: of all samples with the weights of now, `X @ theta`, `(n,)` or `(n, k)`.

        Returns:
            LeftOutRisk: `risk`, `standard_error`, `left_out`, and whether to trust it. It is kept for `best`.

        Raises:
            InputError: shapes or numbers are wrong.
        """
        r = self._shaped("predictions", _copy("predictions", predictions), len(self.rows))
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
            self._record, self._flat = Record(self.slopes, self.labels, len(self.rows), r.shape[1]), flat
            coupled = self.weight_decay if self.adam is None else 0.0
            self._tangents = Tangents(self.rows, self.who, r.shape[1], coupled, self.start)
            _check_memory(self.rows, r.shape[1])
            _try(self.slopes, r.shape[1], self.labels)
        elif r.shape[1] != self._record.k:
            raise refuse(name, f"have {self._record.k} entries a row, as those before", Words(f"of shape {r.shape}"))
        return r

    def _estimate(self, r: np.ndarray) -> LeftOutRisk:
        record, tangents = self._record, self._tangents
        assert record is not None
        assert tangents is not None
        with np.errstate(all="ignore"):  # a training that diverges is told in words
            tangents.replay(record, *record.close())
            moved_by = tangents.moved()
            exact = moved_by[self.who, np.arange(len(self.who))]
            modelled, fit = self._fitted(exact)
            shift = np.einsum("p,pna->na", fit.scales, modelled)
            by_model = r[self.who] + shift[self.who]
            shift[self.who] = exact
            moved, n = r + shift, len(r)
            everything = [np.arange(n), np.arange(n), self.who]
            losses, slope = evaluate(self.slopes, np.concatenate([moved, r, by_model]), pick(self.labels, np.concatenate(everything)))
            losses, train, doubles = np.split(losses, [n, 2 * n])
            slope = slope[:n]
            steep = np.einsum("na,pna->p", slope, modelled) / n
            spread = losses.std(ddof=1) / np.sqrt(n)
            response_error = float(np.sqrt(steep @ fit.cov @ steep + of_model(losses[self.who] - doubles) ** 2))
            pairs = np.einsum("na,nqa->nq", slope, moved_by)
            risk, standard_error = float(losses.mean()), float(np.sqrt(spread**2 + of_pairs(pairs, self.who) ** 2 + response_error**2))
        measured = {
            "risk": risk,
            "scale": float(fit.scales[0]),
            "scale_faded": float(fit.scales.sum()),
            "scatter": fit.scatter,
            "response_error": response_error,
            "alone": float(losses.max() / losses.sum()) if losses.sum() > 0 else 0.0,
            **self._measured(),
        }
        left_out = moved[:, 0] if self._flat else moved
        step = len(record.batches)
        known = trust.warnings(measured), measured, self.labels, pairs, self.who
        return LeftOutRisk(risk, standard_error, left_out, losses, float(train.mean()), step, *known)

    def _fitted(self, exact: np.ndarray) -> tuple[np.ndarray, Fit]:
        """What the response's model says of leaving out each sample `(2, n, k)`, and how it is scaled to samples left out exactly. The
        eigenvectors of before serve until there is much more to know, or the exact ones scatter more around them."""
        record, tangents = self._record, self._tangents
        assert record is not None
        assert tangents is not None
        uses, metric = len(record.uses.sample), record.metric()
        if not uses:
            modelled = np.zeros((2, len(self.rows), record.k))
            return modelled, fit_scales(modelled[:, self.who], exact, metric)
        if self._basis is not None and uses < GROWTH * self._basis.uses:
            curved = response.curvature(record, self._basis.norms)
            modelled = response.shift(record, self._basis, curved, tangents.decay)
            fit = fit_scales(modelled[:, self.who], exact, metric)
            if fit.scatter < max(WORSE * self._scatter, TOLERATED) or uses == self._basis.uses:
                return modelled, fit
        try:
            rows, norms = self._features()
            curved = response.curvature(record, norms)
            self._basis = response.find_basis(record, curved, rows, norms)
            modelled = response.shift(record, self._basis, curved, tangents.decay)
        except np.linalg.LinAlgError:  # not finite
            modelled = np.full((2, len(self.rows), record.k), np.nan)
        fit = fit_scales(modelled[:, self.who], exact, metric)
        self._scatter = fit.scatter
        return modelled, fit

    def _features(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and their squared lengths as the optimiser sees them: with features in units in which their gain is the same."""
        assert self._tangents is not None
        gains = self._tangents.axes()
        if gains is None:
            return self.rows, self.norms
        rows = self.rows * np.sqrt(gains).astype(np.float32)
        return rows, np.einsum("nd,nd->n", rows, rows).astype(float)

    def _measured(self) -> dict[str, float]:
        """Numbers about the training so far, for the verdict."""
        record, tangents = self._record, self._tangents
        assert record is not None
        assert tangents is not None
        if self._copies is None:
            self._copies = trust.copies(self.rows, self.norms)
        share = lambda part, whole: float(np.sqrt(part / whole)) if whole > 0 else 0.0
        uses = record.uses
        norms = self.norms if self._basis is None else self._basis.norms
        some = slice(None, None, 1 + len(uses.sample) // LOOKED_AT)
        size = np.sqrt(np.sum((uses.hessian[some] * record.amplitudes(record.pace(), some)[:, :, None]) ** 2, axis=(1, 2)))
        size *= norms[uses.sample[some]]
        return {
            "features": float(min(self.rows.shape)),
            "tangents": float(len(self.who)),
            "copies": self._copies,
            "bend": share(tangents.bent, tangents.straight),
            "unexplained": share(tangents.missed, tangents.explained),
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


def _copy(name: str, value: Any) -> np.ndarray:
    """A copy, since a loop may use its arrays again."""
    if type(value) is np.ndarray:
        return value.copy()
    try:
        return np.array(value)
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
