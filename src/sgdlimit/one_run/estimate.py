"""What `OneRun` answers: an estimate of the test risk, what it rests on, and the best of several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import Words, refuse
from .trust import broken


@dataclass(frozen=True)
class LeftOutRisk:
    """The test risk at one moment of a training, from its own samples.

    Attributes:
        risk, standard_error: mean loss of the predictions that the samples would have had, had each been left out, and its error as an
            estimate of this training's expected loss on a new sample: the spread over samples and over pairs of them, and what the
            response leaves open or misses where samples are left out exactly.
        left_out: these predictions, `(n,)` or `(n, k)` as given.
        losses: the loss of each `(n,)`; the largest belong to outliers and wrong labels, see `ranking`.
        train_risk: mean loss of the predictions given.
        step: how many batches the training had had.
        warnings: why not to trust this, in sentences; empty if nothing speaks against it.
        diagnostics: numbers behind it: `scale` of the response (1 where the model needs no correction), `scatter` of samples left out
            exactly around it, `bend` of the loss, `unexplained` part of the predictions, `copies` among the rows, `overshoot` of a kick.
    """

    risk: float
    standard_error: float
    left_out: np.ndarray = field(repr=False)
    losses: np.ndarray = field(repr=False)
    train_risk: float
    step: int
    warnings: tuple[str, ...]
    diagnostics: dict[str, float] = field(repr=False)
    labels: Any = field(repr=False, default=None)
    pairs: np.ndarray = field(repr=False, default_factory=lambda: np.zeros((0, 0)))  # (n, q), see `of_pairs`
    who: np.ndarray = field(repr=False, default_factory=lambda: np.zeros(0, int))  # the q samples left out exactly

    @property
    def trusted(self) -> bool:
        return not self.warnings

    @property
    def verdict(self) -> str:
        """Whether to trust this, in words."""
        if self.warnings:
            return "do not trust this: " + "; ".join(self.warnings)
        return "nothing speaks against it"

    def __str__(self) -> str:
        risk = f"left-out risk {self.risk:.4g} +- {self.standard_error:.2g} after {self.step} batches (train {self.train_risk:.4g})"
        return f"{risk}: {self.verdict}"

    @property
    def ranking(self) -> np.ndarray:
        """Indices of the samples, the largest left-out loss first: wrong labels and outliers come first."""
        return np.argsort(-self.losses, kind="stable")

    def mean(self, observable: Callable[[Any, Any], Any]) -> tuple[float, float]:
        """Mean of `observable(r, y) -> number` over the left-out predictions and its standard error over samples: the accuracy, a
        calibration bin, any score of one sample, in JAX. What is no mean over samples, as an AUC, is computed from `left_out`."""
        r = np.asarray(self.left_out, dtype=float).reshape(len(self.left_out), -1)
        with jax.enable_x64(True):
            try:
                values = np.asarray(jax.vmap(observable)(jnp.asarray(r), self.labels), dtype=float)
            except Exception as e:
                must = f"map r ({r.shape[1]},) and the label of a sample to a number with JAX operations"
                raise refuse("observable", must, Words(f"one that fails: {str(e).splitlines()[0]}")) from None
        if values.shape != (len(r),):
            raise refuse("observable", "return a number", Words(f"an array of shape {values.shape[1:]}"), "one call per entry")
        return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))

    def minus(self, other: LeftOutRisk) -> tuple[float, float]:
        """This risk minus that of another training on the same samples, or of this one at another time, and the standard error of the
        difference: samples that are hard for both count for neither.

        Raises:
            InputError: the other has another number of samples.
        """
        if not isinstance(other, LeftOutRisk) or len(other.losses) != len(self.losses):
            raise refuse("other", f"be an estimate from the same {len(self.losses)} samples", Words(type(other).__name__))
        return paired(self, other)


def of_pairs(pairs: np.ndarray, who: np.ndarray) -> float:
    """The part of the error that comes of each sample having trained the weights that the others are judged by.

    `pairs (n, q)` is what leaving out each of `who (q,)` does to the loss of sample `i`. Its mean over `i` moves the expected loss of the
    weights alike and is no error. What is left is one of every ordered pair of samples, of which there are as many as samples squared: its
    mean square, and as either of a pair acts on the other alike, a correlation.
    """
    q = len(who)
    if q < 2:
        return 0.0
    others = np.ones(pairs.shape, bool)
    others[who, np.arange(q)] = False
    among = np.where(others, pairs - np.sum(pairs, axis=0, where=others) / (len(pairs) - 1), 0.0)
    upper = np.triu_indices(q, 1)
    one, other = among[who][upper], among[who].T[upper]
    size = np.sqrt(np.sum(one**2) * np.sum(other**2))
    alike = float(np.sum(one * other) / size) if size > 0 else 0.0
    return float(np.sqrt(np.sum(among**2) / np.sum(others) * (1.0 + alike)))


def of_model(missed: np.ndarray) -> float:
    """How far the model's losses are off on average, as far as it is no chance, from what they miss `(q,)` where samples are left out
    exactly."""
    q = len(missed)
    return float(np.sqrt(max(missed.mean() ** 2 - missed.var(ddof=1) / q, 0.0))) if q > 1 else 0.0


def paired(one: LeftOutRisk, other: LeftOutRisk) -> tuple[float, float]:
    """Difference of two risks and its standard error: what samples and pairs do in both counts once; the errors of the responses are
    independent."""
    apart = one.losses - other.losses
    response = np.hypot(one.diagnostics["response_error"], other.diagnostics["response_error"])
    both, of_one, of_other = np.intersect1d(one.who, other.who, return_indices=True)
    if len(both) > 1:
        pairs = of_pairs(one.pairs[:, of_one] - other.pairs[:, of_other], both)
    else:
        pairs = float(np.hypot(of_pairs(one.pairs, one.who), of_pairs(other.pairs, other.who)))
    return float(apart.mean()), float(np.hypot(np.hypot(apart.std(ddof=1) / np.sqrt(len(apart)), pairs), response))


@dataclass(frozen=True)
class Best:
    """Where a training should have stopped.

    Attributes:
        step, risk, standard_error: of the estimate with the least left-out risk.
        first, last: the range of steps around it whose risk is not told apart from the least: less than two standard errors of the
            paired difference above it.
        estimate: the estimate itself; `ended` tells that it is the last one so far, so that training on may be better.
    """

    step: int
    risk: float
    standard_error: float
    first: int
    last: int
    ended: bool
    estimate: LeftOutRisk = field(repr=False)

    def __str__(self) -> str:
        flat = f"not told apart from steps {self.first} to {self.last}" if self.last > self.first else "told apart from all others"
        more = "; it is the last one, training on may be better" if self.ended else ""
        return f"least left-out risk {self.risk:.4g} +- {self.standard_error:.2g} after {self.step} batches, {flat}{more}"


def best_of(history: list[LeftOutRisk]) -> Best:
    """The best of some estimates in the order of training; those whose response is in doubt count only where there are no others."""
    finite = [one for one in history if np.isfinite(one.risk)] or history
    some = [one for one in finite if not broken(one.diagnostics)] or finite
    place = int(np.argmin([one.risk for one in some]))
    least = some[place]
    near = [i for i, one in enumerate(some) if i == place or (gap := paired(one, least))[0] <= 2 * gap[1]]
    first = last = place
    while first - 1 in near:
        first -= 1
    while last + 1 in near:
        last += 1
    ended = least is history[-1]
    return Best(least.step, least.risk, least.standard_error, some[first].step, some[last].step, ended, least)
