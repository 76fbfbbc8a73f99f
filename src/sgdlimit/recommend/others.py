"""Learning rates of other optimisers for the training that is recommended (docs/optimisers.md).

A velocity that forgets by `1 - beta` a step adds up to a learning rate `1 / (1 - beta)` times as large; the limit of stability and the
noise are those of plain SGD. Adam divides by the root of what it remembers of each parameter's squared gradient, of a batch's noise and of
its mean; so its rate is that of SGD times this root, averaged over the epochs such that as many of them go as far.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
from scipy.special import expit

from .advise import Advice
from .data import Data
from .train import MOST_STEPS, MOST_WORK, descend

Array = np.ndarray

BETA, SECOND = 0.9, 0.999  # of the velocity and of the squared gradients, as scripts usually have them
LONG = 0.25  # of the epochs: a velocity that remembers longer delays the training it is to replace


@dataclass(frozen=True)
class OtherRates:
    """At the recommended batch size.

    Attributes:
        momentum: learning rate of `torch.optim.SGD(momentum=0.9)`.
        memory: epochs that its velocity remembers.
        adam: learning rate of `torch.optim.Adam` with its usual betas; None where columns are not standardised, since it would divide by
            the size of each, which is another training, and where nothing could be measured.
    """

    momentum: float
    memory: float
    adam: float | None


def other_rates(loss: str, data: Data, advice: Advice, seed: int) -> OtherRates:
    row = next(row for row in advice.batches if row.batch_size == advice.batch_size)
    memory = row.batch_size / (data.n * (1.0 - BETA))
    adam = None
    if data.standardised:
        size = typical_gradient(loss, data.X, data.y, row.learning_rate, row.batch_size, advice.weight_decay, advice.epochs, seed)
        adam = None if size is None else row.learning_rate * size * data.label_scale  # its steps are in the label's own unit
    return OtherRates((1.0 - BETA) * row.learning_rate, memory, adam)


def typical_gradient(loss: str, X: Array, y: Array, rate: float, batch_size: int, decay: float, epochs: int, seed: int) -> float | None:
    """What Adam divides a weight's gradient by: the root of the squared gradients remembered, their mean over the weights, and of the root
    the harmonic mean over the epochs of a training; None if that does not train."""
    n, d = X.shape
    epochs = int(np.clip(min(MOST_STEPS * batch_size / n, MOST_WORK / (n * d)), 1, epochs))
    rng = np.random.default_rng([seed, 0x0A])
    squares, sizes = [], []
    with np.errstate(over="ignore", invalid="ignore"):
        for w, b in islice(descend(loss, X[None], y[None], np.array([rate]), np.array([decay]), batch_size, [rng]), epochs + 1):
            r = X @ w[0, :, 0] + b[0, 0]
            slope = -y * expit(-y * r) if loss == "logistic" else r - y
            mean, square = (X.T @ slope / n) ** 2, np.square(X).T @ slope**2 / n
            squares.append(float(np.mean(mean + (square - mean) / batch_size)))
            sizes.append(float(np.mean(slope**2)))
        kept, remembered, weight, inverse = SECOND ** (n / batch_size), 0.0, 0.0, []  # of squares, an epoch later
        for now, later in pairwise(squares):
            remembered, weight = kept * remembered + (1.0 - kept) * 0.5 * (now + later), kept * weight + 1.0 - kept
            inverse.append(np.sqrt(weight / max(remembered, 1e-300)))
        found = 1.0 / float(np.mean(inverse))
    return found if np.isfinite(found) and sizes[-1] <= sizes[0] else None
