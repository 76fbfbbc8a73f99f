"""Adam and its kin: a gain that follows the size of the gradient (OPTIMISERS section 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import refuse
from .dynamics import SGD
from .optimisers import Optimizer, all_positive, memory_of, share


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam, AdamW (`decay`) and RMSProp (`memory = 0, corrected = False`); beyond the paper, held against `torch.optim`.

    With batches that are small against the data a feature's squared gradient is its noise, the same for all features: the gain is one
    number for each student row, `1 / (sqrt(A) + eps)` with `A` the mean of the squared derivative of the loss over the training samples,
    averaged over `second_memory` and corrected for its start, like the velocity. With a spectrum each eigenvalue has its own gain, of its
    own squared gradient: `lambda A`, and what white noise adds for all.

    Arguments:
        memory: time constant of the velocity, `step * batch_size / (n_features * (1 - beta1))`.
        second_memory: that of the squared gradient, with `beta2`; infinite for a plain mean from the start on.
        decay: decoupled weight decay, a rate in units of `t`.
        eps: in units of `sqrt(A)`.
        corrected: whether `A` is corrected for its start at zero. PyTorch's RMSProp does not: it makes long steps until `second_memory` is
            over, and a quarter of the self-overlap with `alpha = 0.99`, batch 8 and 2000 features. In real runs with steps alone so far.

    On `MiniBatchGD`, whose batch is a part of the data, the squared gradient has a signal that differs between features; there `A` is the
    mean over the features of a row, as in Adam-mini (arXiv 2406.16793).
    """

    memory: float = 0.0
    second_memory: float = 0.0
    decay: float = 0.0
    eps: float = 0.0
    corrected: bool = True
    gains = True

    def __post_init__(self):
        per = "step * batch_size / (n_features * (1 - beta{}))"
        object.__setattr__(self, "memory", memory_of("optimizer.memory", self.memory, "for beta1: " + per.format(1)))
        if self.second_memory != math.inf:
            object.__setattr__(
                self, "second_memory", memory_of("optimizer.second_memory", self.second_memory, "for beta2: " + per.format(2))
            )
        object.__setattr__(self, "decay", memory_of("optimizer.decay", self.decay, "the rate at which weights decay by themselves"))
        object.__setattr__(self, "eps", memory_of("optimizer.eps", self.eps, "it is added to the root of the mean squared gradient"))
        if not isinstance(self.corrected, bool):
            raise refuse("optimizer.corrected", "be True or False", self.corrected)
        if not self.corrected and self.second_memory == math.inf:
            raise refuse("optimizer.second_memory", "be finite where it is not corrected for its start", self.second_memory)

    def __repr__(self) -> str:
        more = "".join(f", {name}={getattr(self, name)!r}" for name in ("decay", "eps") if getattr(self, name))
        more += "" if self.corrected else ", corrected=False"
        return f"Adam(memory={self.memory!r}, second_memory={self.second_memory!r}{more})"

    @classmethod
    def from_learning_rate(
        cls,
        lr: float,
        batch_size: int,
        n_features: int,
        feature_variance: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        sampling: str = "replacement",
        eps: float = 1e-8,
    ) -> SGD:
        """The `SGD` of `torch.optim.Adam(lr=lr, betas=betas)` or, with `weight_decay`, of `torch.optim.AdamW`, on mean losses over
        batches of `batch_size` and features of the given variance.

        `step = lr n_features sqrt(feature_variance / batch_size)`, a memory is `step batch_size / (n_features (1 - beta))`, the decay
        `weight_decay / sqrt(feature_variance batch_size)`. `torch.optim.Adam(weight_decay=c)` puts its decay into the gradient: that is
        a penalty of the problem, `sl.Ridge(c / feature_variance)`.
        """
        all_positive(lr=lr, batch_size=batch_size, n_features=n_features, feature_variance=feature_variance)
        try:
            first, second = betas
        except (TypeError, ValueError):
            raise refuse("betas", "be two numbers in [0, 1)", betas, "(0.9, 0.999) is usual") from None
        first, second = (share(f"betas[{i}]", beta, "(0.9, 0.999) is usual") for i, beta in enumerate((first, second)))
        step = lr * n_features * math.sqrt(feature_variance / batch_size)
        advance = step * batch_size / n_features
        memory = advance / (1.0 - first) if first else 0.0
        # The squared gradient of a parameter is feature_variance / batch_size times the squared derivative of the loss.
        small = eps * math.sqrt(batch_size / feature_variance)
        decay = weight_decay / math.sqrt(feature_variance * batch_size)
        return SGD(step, sampling, optimizer=cls(memory, advance / (1.0 - second) if second else 0.0, decay, small))
