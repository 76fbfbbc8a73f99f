"""Numbers that are trained along with the weights: an intercept, a second layer, a temperature (OPTIMISERS section 4).

    da = -rate (E[grad_a L(r_t, y; a_t)] + h_a(a)) dt

with the mean over training samples when they are used. Each sample moves `a` by a part in `n`, so `a` follows its mean, and to a sample it
is a loss that changes slowly. Inside the package a label therefore comes with `a` as it is then, as one `Labelled`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import array, positive
from ..errors import refuse
from .weights import Penalty, Ridge, SmoothPenalty

Array = Any


@dataclass(frozen=True)
class Trained:
    """Numbers `a (p,)` that a loss takes as its third argument, `loss(r, y, a)`, and that the same batches train.

    Arguments:
        start: `a` at time zero, `(p,)`.
        rate: `c`, a number or `(p,)`: how fast `a` moves per unit of `t`. With the weights' own learning rate and features of variance `v`
            it is `1 / v`, behind Adam `1 / sqrt(v)`; zero holds a number fixed.
        penalty: `Ridge`, `SmoothPenalty` (of `a (p,)`) or None.
        batch_size: of the script's optimiser, for Adam alone, which divides by the root of `Var(grad) + batch_size (mean of grad)^2`: the
            mean of a weight's gradient is nothing beside its noise, that of `a` is not.

    Raises:
        InputError: names the field, what it must be, and what it was.
    """

    start: Any
    rate: Any = 1.0
    penalty: Penalty = None
    batch_size: float = 1.0

    def __post_init__(self):
        start = np.atleast_1d(array("trained.start", self.start))
        if start.ndim != 1 or not start.size:
            raise refuse("trained.start", "be a list of numbers, one for each that is trained", self.start, "trained=sl.Trained([0.0])")
        rate = array("trained.rate", self.rate)
        if rate.shape not in ((), (1,), start.shape) or (rate < 0).any():
            fix = "1 / (variance of a feature) with the weights' own learning rate"
            raise refuse("trained.rate", f"be a number or {start.size} of them, none negative", self.rate, fix)
        if not (self.penalty is None or isinstance(self.penalty, (Ridge, SmoothPenalty))):
            raise refuse("trained.penalty", "be Ridge, SmoothPenalty or None", self.penalty, "sl.Ridge(0.05)")
        object.__setattr__(self, "start", tuple(map(float, start)))
        object.__setattr__(self, "rate", tuple(map(float, np.broadcast_to(rate, start.shape))))
        object.__setattr__(self, "batch_size", positive("trained.batch_size", self.batch_size, "samples in a step"))

    def __len__(self) -> int:
        return len(self.start)

    @property
    def ridge(self) -> float:
        """Strength of the ridge; zero without a penalty or with a smooth one."""
        return self.penalty.strength if isinstance(self.penalty, Ridge) else 0.0

    @property
    def smooth(self) -> Callable[[Array], Array] | None:
        """The smooth penalty, if it is one."""
        return self.penalty.fn if isinstance(self.penalty, SmoothPenalty) else None

    def pull(self, a: Array) -> Array:
        """Gradient `(..., p)` of the penalty at `a (..., p)`."""
        return a * self.ridge if self.smooth is None else over_rows(self.smooth)(a)


@lru_cache(maxsize=32)
def over_rows(fn: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The gradient of `fn(a (p,))` at `a (..., p)`."""
    return jnp.vectorize(jax.grad(fn), signature="(p)->(p)")


class Labelled(NamedTuple):
    """A label, and what is trained along as it is when the sample is looked at."""

    y: Any
    a: Array


@dataclass(frozen=True)
class Labelling:
    """A user's `label`, whose labels come with these numbers beside them."""

    label: Callable[[Array, Any], Any]
    numbers: tuple[float, ...]

    def __call__(self, r_star: Array, z: Any) -> Labelled:
        return Labelled(self.label(r_star, z), jnp.array(self.numbers))

    def anywhere(self) -> Labelling:
        """The same for all numbers: for what is compiled once and told the numbers as they go (`told`)."""
        return Labelling(self.label, (0.0,) * len(self.numbers))


def anywhere(label: Callable) -> Callable:
    """`label`, with no numbers of its own."""
    return label.anywhere() if isinstance(label, Labelling) else label


def told(y: Any, a: Array | None) -> Any:
    """Labels (of one sample or many) with the numbers `a (p,)` or `(..., p)` beside them; None where nothing is trained along."""
    return y if a is None else y._replace(a=jnp.broadcast_to(a, y.a.shape))


def own(y: Any) -> Any:
    """A user's labels, without the numbers beside them."""
    return y.y if isinstance(y, Labelled) else y
