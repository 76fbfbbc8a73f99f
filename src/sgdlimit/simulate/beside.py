"""Several runs of one size beside one another: where a run is small, what it takes is asking for its steps, and many are asked for at once.

Arrays of such runs have an axis of runs before all others, one run alone has none; `rng` is then a tuple of their generators. Each run
draws what it would draw alone, so that curves are the same to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# How many runs of at most so many weights, and the most bytes of their rows. A step of 128 features takes .7 microseconds alone, .14 beside
# 15 others and .10 beside 63; of 256 features .8, .34 and .30. What SME asks of a sample takes 1.1 alone, .2 beside 15 and .1 beside 63;
# of 520 features 1.6 and .6.
MANY, BYTES = {160: 64, 400: 32, 700: 16}, 2**28

Streams = np.random.Generator | tuple[np.random.Generator, ...]


def most(n: int, d: int, k: int) -> int:
    """How many runs of `n` samples and `d` features are worth following at once."""
    together = next((runs for weights, runs in MANY.items() if d * k <= weights), 1)
    return max(1, min(together, BYTES // (4 * n * d)))


def each(rng: Streams) -> tuple[np.random.Generator, ...]:
    return rng if isinstance(rng, tuple) else (rng,)


def normals(rng: Streams, size: int | tuple[int, ...]) -> np.ndarray:
    """Standard normals of every run."""
    drawn = [one.standard_normal(size) for one in each(rng)]
    return np.stack(drawn) if isinstance(rng, tuple) else drawn[0]


def stacked(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: (np if isinstance(leaves[0], np.ndarray) else jnp).stack(leaves), *trees)


def of_all(rows: Any, work: Callable, axes: tuple) -> Callable:
    """`work` on one run as work on all those whose rows these are; `axes` are 0 for arguments that each run has its own of."""
    return jax.vmap(work, in_axes=axes) if rows.ndim == 3 else work
