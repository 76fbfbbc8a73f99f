"""What an optimiser makes of the gradient: a memory of it, and a gain (OPTIMISERS section 1).

Samples push the weights with a force `dF = -h(Theta) dt - X^T dG`. An optimiser is a filter and a gain,

    dV = (dF - V dt) / memory        dTheta = gain V dt - decay Theta dt

and all its times are in units of `t`. Beyond the paper; checked against PyTorch's own optimisers, see `docs/optimisers.md`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import number
from ..errors import refuse


class Optimizer:
    """What dynamics take. `memory` is the time constant of its velocity; `gains` tells whether it has a gain of its own."""

    memory: float
    gains = False


def memory_of(name: str, value: Any, fix: str) -> float:
    """A memory: zero or more."""
    found = number(name, value)
    if found < 0:
        raise refuse(name, "not be negative", value, fix)
    return found


@dataclass(frozen=True)
class Momentum(Optimizer):
    """Heavy-ball momentum, `torch.optim.SGD(momentum=beta)`: the velocity forgets with time constant `memory`, in units of `t`.

    A step advances `t` by `step * batch_size / n_features`, and `memory` is that over `1 - beta`; `SGD.from_learning_rate` says both
    from a learning rate. As `memory` goes to zero this is plain SGD.

    `nesterov`: look ahead by a step. It matters to `MiniBatchGD` alone: elsewhere a step is infinitely short, and the limit the same.
    """

    memory: float
    nesterov: bool = False

    def __post_init__(self):
        fix = "the time over which the velocity is forgotten: step * batch_size / (n_features * (1 - beta))"
        object.__setattr__(self, "memory", memory_of("optimizer.memory", self.memory, fix))
        if not isinstance(self.nesterov, bool):
            raise refuse("optimizer.nesterov", "be True or False", self.nesterov)

    def __repr__(self) -> str:
        return f"Momentum(memory={self.memory!r}" + (", nesterov=True)" if self.nesterov else ")")


# --- a training script's own numbers ---------------------------------------------------------------------------------------


def all_positive(**named: Any) -> None:
    for name, value in named.items():
        if not (isinstance(value, (int, float, np.number)) and math.isfinite(value) and value > 0):
            raise refuse(name, "be positive", value)


def share(name: str, value: Any, fix: str) -> float:
    """A number in `[0, 1)`."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 <= value < 1:
        raise refuse(name, "lie in [0, 1)", value, fix)
    return float(value)
