"""What an optimiser makes of the force of one step after another, as PyTorch has it (OPTIMISERS section 1, in discrete time).

A step of length `h` brings the force `f` (for the plain gradient the displacement itself), and with `beta = max(0, 1 - h / memory)`

    v' = beta v + (1 - beta) f / h,      theta' = theta + h v',          with Nesterov theta + (1 - beta) f + beta h v'
    theta' = (1 - w h) theta + h gain v' / (1 - beta^i)                  with Adam

which is `buf = beta buf + grad; theta -= lr buf` of `torch.optim.SGD` for `lr = (1 - beta)` times the step, whatever its schedule.
Everything linear in the force passes the same filter: overlaps and responses, whose columns are kicks.

Numbers `a (p,)` trained along take the same step, `a += rate h F` without an optimiser, by their force `F = -(E[grad_a L] + h_a(a))`:
a batch is a part of the data, whose mean gradient has no noise left in the limit. Hence Adam's `A` of each is the average of
`batch_size F^2`, and with `rate h / sqrt(batch_size)` for the learning rate this is PyTorch's step; `eps` is in units of that root. A
decay lasts `rate` times that of the weights, as the script's is times the learning rate.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ...learning.optimisers import Optimizer
from ...learning.trained import Trained
from .along import within

Array = np.ndarray


class StepFilter:
    """The filter and gain of one training at its current step.

    Attributes:
        gains: whether the optimiser is an Adam, which wants to know how large forces are before it moves by them.
    """

    def __init__(self, optimizer: Optimizer | None, k: int):
        self.memory = 0.0 if optimizer is None else optimizer.memory
        self.gains = optimizer is not None and optimizer.gains
        self.ahead = bool(getattr(optimizer, "nesterov", False))
        self.second_memory, decay, self.eps = (float(getattr(optimizer, name, 0.0)) for name in ("second_memory", "decay", "eps"))
        self.decay: Any = decay
        self.length, self.forgotten, self.squared, self.weighed = 0.0, 1.0, np.zeros(k), 0.0
        self.gain = np.ones(k)

    def step(self, length: float) -> None:
        """Go on to a step of a length."""
        self.beta = _kept(length, self.memory)
        self.carried = self.beta * (length / self.length if self.length else 0.0)
        self.length, self.forgotten = length, self.forgotten * self.beta

    def measure(self, square: Array) -> None:
        """Learn the mean square of the force over this step `(k,)`, in units of what a sample's gradient adds to it."""
        kept = _kept(self.length, self.second_memory)
        self.squared = kept * self.squared + self.length * square
        self.weighed = kept * self.weighed + self.length
        size = (np.sqrt(np.maximum(self.squared, 0.0) / self.weighed) + self.eps) * (1.0 - self.forgotten)
        self.gain = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)  # without a force nothing moves

    def __call__(self, at: Array, velocity: Array, force: Array, axis: int = -2) -> tuple[Array, Array]:
        """Weights and velocity (times the step's length) after the step, of what they were and of the force; student rows along `axis`."""
        velocity = self.carried * velocity + (1.0 - self.beta) * force
        if self.gains:
            shape = [1] * force.ndim
            shape[axis] = len(self.gain)
            return (1.0 - self.length * self.decay) * at + self.gain.reshape(shape) * velocity, velocity
        moved = self.beta * velocity + (1.0 - self.beta) * force if self.ahead else velocity
        return at + moved, velocity


class Along:
    """What is trained along in one training.

    Attributes:
        a: after every step, `(steps + 1, p)`.
    """

    def __init__(self, trained: Trained, optimizer: Optimizer | None, steps: int):
        self.trained, self.rate, self.filter = trained, np.array(trained.rate), StepFilter(optimizer, len(trained))
        self.filter.decay *= self.rate  # it is the learning rate's times the script's
        self.a, self.velocity = np.zeros((steps + 1, len(trained))), np.zeros(len(trained))
        self.a[0] = trained.start

    def diverged(self, i: int) -> bool:
        return not within(self.a[0], self.a[i])

    def step(self, i: int, length: float, mean: Array) -> None:
        """Take step `i`, by the mean `(p,)` of the loss's gradient at its start."""
        with jax.enable_x64(True):
            force = -(mean + np.asarray(self.trained.pull(self.a[i])))
        self.filter.step(length)
        if self.filter.gains:
            self.filter.measure(self.trained.batch_size * force**2)
        self.a[i + 1], self.velocity = self.filter(self.a[i], self.velocity, self.rate * length * force, axis=-1)


def _kept(length: float, memory: float) -> float:
    return max(0.0, 1.0 - length / memory) if memory else 0.0


def optimizer_of(dynamics: Any) -> Optimizer | None:
    """None where the force itself moves the weights."""
    optimizer = dynamics.optimizer
    return optimizer if optimizer is not None and (optimizer.gains or optimizer.memory) else None
