"""Numbers that real runs train along with the weights (OPTIMISERS section 4): what their programs take of them, and what becomes of labels,
sums and states where there are none, which is None.

A step that lasts `dt` moves them by `a -= rate dt (mean over the batch of grad_a L + h_a(a))`. With an optimiser that is `rate dt` times
what it makes of this gradient, so PyTorch's numbers follow from the rates of `trained.Trained`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..functions import Static
from ..learning.problem import Problem
from ..learning.trained import Labelled


@partial(jax.tree_util.register_dataclass, data_fields=["rate", "ridge", "batch"], meta_fields=["slope", "smooth"])
@dataclass(frozen=True)
class Along:
    """How numbers `a (p,)` are trained: `slope(r, labelled) (p,)` is the gradient of the loss, `ridge` and `smooth` their penalty, `rate
    (p,)` and `batch` as `Trained` has them. Programs are compiled for the functions and take the rest."""

    rate: Any
    ridge: Any
    batch: Any
    slope: Static
    smooth: Static

    def penalty(self, a: Any) -> Any:
        """Gradient `(p,)` of the penalty."""
        pull = self.ridge * a
        return pull if self.smooth.fn is None else pull + jax.grad(self.smooth.fn)(a)


def along_of(problem: Problem) -> Along | None:
    trained = problem.trained
    if trained is None:
        return None
    return Along(np.array(trained.rate), trained.ridge, trained.batch_size, Static(problem.slopes.pull), Static(trained.smooth))


def start_of(problem: Problem, runs: tuple[int, ...] = ()) -> Any:
    """`a` at time zero, `(p,)`, for so many runs beside one another."""
    return None if problem.trained is None else jnp.broadcast_to(jnp.array(problem.trained.start), (*runs, len(problem.trained)))


def told(y: Any, a: Any) -> Any:
    """A user's label with `a` beside it, as the functions of `Problem.slopes` take it."""
    return y if a is None else Labelled(y, a)


def telling(function: Callable, a: Any) -> Callable:
    """`function(r, labelled)` as one of `r` and the user's label."""
    return lambda r, y: function(r, told(y, a))


def begun(along: Along | None, a: Any, share: Any) -> Any:
    """What sums over a batch begin with: the pull of the penalty `(p,)`, so many times."""
    return None if along is None else share * along.penalty(a)


def added(along: Along | None, pull: Any, r: Any, labelled: Any) -> Any:
    """The pull `(p,)` with that of one more sample."""
    return None if along is None else pull + along.slope(r, labelled)


def flat(theta: Any, a: Any) -> np.ndarray:
    """Weights and what is trained along as one row of what a path yields, for every run beside others."""
    runs = np.shape(theta)[:-2]
    parts = [np.asarray(part) for part in (theta, a) if part is not None]
    return np.concatenate([part.reshape(*runs, -1) for part in parts], -1)


def row(theta: Any, a: Any) -> Any:
    """`flat` of one run, in a program."""
    return jnp.concatenate([part.ravel() for part in (theta, a) if part is not None])


def parted(states: np.ndarray, problem: Problem, d: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Weights `(time, k, d)` and numbers `(time, p)` that are trained along, or None, of `states (time, k d + p)`; of several runs too."""
    size = problem.k * d
    thetas = states[..., :size].reshape(*states.shape[:-1], problem.k, d)
    return thetas, None if problem.trained is None else states[..., size:]
