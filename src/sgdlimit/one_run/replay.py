"""Steps of a training once more, with all samples and without each of some: one compiled loop."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..compiling import jit

Array = Any
ROUNDING = 1e-4  # of a gradient: smaller changes tell nothing


class Kind(NamedTuple):
    """What programs differ by: whether there is a velocity or decay, a division by the gradients' size, and that by one for a row."""

    moving: bool
    scaled: bool
    by_row: bool


class State(NamedTuple):
    """Trainings `(q + 1, k, d)`: `shift` of the weights without each of `q` samples from those with all, and last of those from the start.
    Adam's `velocity` and `square` are each training's own, a plain velocity is shifted as the weights are. `start (2,)`: what decay leaves
    of the weights at the start, and of their velocity."""

    shift: Array
    velocity: Array
    square: Array
    start: Array


class Uses(NamedTuple):
    """Uses of samples one after the other: which `sample (u,)`, and its `prediction (u, k)`."""

    sample: Array
    prediction: Array


class Steps(NamedTuple):
    """Some steps: where their uses begin `place (s,)` and how many they are `size (s,)`, the numbers of the optimiser `(s, 8)`, those of a
    `record.Step` and its `Scale`; and what is trained along before each `(s, p)`, or none."""

    place: Array
    size: Array
    numbers: Array
    trained: Array | None


class Seen(NamedTuple):
    """By how much the weights' own way moved the prediction at every use, `ways (u, k)`; at every step what is left of the `start (s,)`,
    and the mean `gain (s, k)` of every output; over all, how much of the others' forces the linear continuation of the loss misses, and
    all of it: `bend (2,)`; and squared gradients of features, with Adam's relative gain and without: `along (2, d)`."""

    ways: Array
    start: Array
    gain: Array
    bend: Array
    along: Array


@partial(jit, static_argnames=("gradient", "kind", "widest"))
def carry(
    state: State, uses: Uses, steps: Steps, count: Any, rows: Any, labels: Any, who: Any, decay: Any, theta: Any,
    *, gradient: Any, kind: Kind, widest: int,
):  # fmt: skip
    """The state after the first `count` steps of up to `widest` uses, what was seen there, and the loss's gradients `(u, k)` and Hessians
    `(u, k, k)` at the uses. Each training takes its own gradients, at its
    own predictions, and one without a sample none of that: nothing is linear here but for the weights' own way, which took the gradients
    told of. Where a step has fewer uses than others, those of the next one are read, and do not count."""
    (u, k), d, s = uses.prediction.shape, rows.shape[1], len(steps.size)
    slope = lambda r, labels: gradient(r, labels).astype(rows.dtype)  # a loss may have constants in double precision
    of_trainings = jax.vmap(jax.vmap(slope), (0, None))
    pick = lambda part, rows: part.at[rows].get(mode="promise_in_bounds")
    labels = jax.tree.map(lambda part: pick(part, uses.sample), labels)
    if steps.trained is not None:
        labels = labels._replace(a=pick(steps.trained, jnp.searchsorted(steps.place, jnp.arange(u), side="right") - 1))
    slopes = jax.vmap(lambda *one: (slope(*one), jax.jacfwd(slope)(*one)))(uses.prediction, labels)

    def step(number, carried):
        state, seen = carried
        at, put = partial(jax.lax.dynamic_index_in_dim, index=number, keepdims=False), jax.lax.dynamic_update_index_in_dim
        place, size, numbers = (at(part) for part in (steps.place, steps.size, steps.numbers))
        sliced = lambda part: jax.lax.dynamic_slice_in_dim(part, place, widest)
        (sample, r), (told, hessian), of_samples = jax.tree.map(sliced, (tuple(uses), slopes, labels))
        x = pick(rows, sample)
        changes = (state.shift.reshape(-1, d) @ x.T).reshape(-1, k, widest)
        own = changes[:-1].swapaxes(1, 2)
        counts = (jnp.arange(widest) < size)[:, None]
        others = counts & (sample[:, None] != who[:, None, None])
        further = of_trainings(r + own, of_samples) - told
        push = jnp.concatenate([jnp.where(others, further, -told), told[None]]) * counts
        straight = jnp.einsum("qba,bca->qbc", own, hessian)
        bend = jnp.stack([
            jnp.sum(jnp.where(others, further - straight, 0.0) ** 2),
            jnp.sum(jnp.where(others, further, 0.0) ** 2) + ROUNDING**2 * len(who) * jnp.sum((told * counts) ** 2),
        ])  # fmt: skip
        push /= jnp.maximum(size, 1)
        pull = (push.swapaxes(1, 2).reshape(-1, widest) @ x).reshape(state.shift.shape)
        ways = jax.lax.dynamic_update_slice_in_dim(seen.ways, changes[-1].T, place, 0)
        seen = seen._replace(ways=ways, bend=seen.bend + bend)
        if kind.moving or kind.scaled:
            seen = seen._replace(start=put(seen.start, state.start[0], number, 0))
        if not kind.scaled:
            return (_moved if kind.moving else _pulled)(state, pull, numbers, decay), seen
        following, gain, along = _scaled(state, pull, numbers, decay, theta, kind.by_row)
        return following, seen._replace(gain=put(seen.gain, gain, number, 0), along=seen.along + along)

    empty = Seen(*(jnp.zeros(shape, rows.dtype) for shape in ((u, k), s, (s, k), 2, (2, d))))
    empty = empty._replace(start=empty.start + 1)
    return *jax.lax.fori_loop(np.uint32(0), count, step, (state, empty)), slopes


def _pulled(state: State, pull: Array, numbers: Array, _: Array) -> State:
    """A step without velocity and decay."""
    rate, _, gain, *_ = numbers
    return state._replace(shift=state.shift - rate * gain * pull)


def _moved(state: State, pull: Array, numbers: Array, decay: Array) -> State:
    """A step of SGD with momentum and decay."""
    rate, momentum, gain, *_ = numbers
    velocity = momentum * state.velocity + gain * (pull + decay * state.shift)
    start_velocity = momentum * state.start[1] + gain * decay * state.start[0]
    start = jnp.stack([state.start[0] - rate * start_velocity, start_velocity])
    return State(state.shift - rate * velocity, velocity, state.square, start)


def _scaled(state: State, pull: Array, numbers: Array, decay: Array, theta: Array, by_row: bool) -> tuple[State, Array, Array]:
    """A step of Adam, the mean gain of every output where its gradient is `(k,)`, and what `Seen.along` sums. `theta (k, d)` are the
    weights at the start, where their decay is in the gradient that it sees. What it divides by is used when the gradient of its batch
    has it, and where a batch has few samples, or all of them, a sample's part is not nothing."""
    rate, momentum, gain, shrink, kept, weight, root, eps = numbers
    gradient = pull + decay * state.shift
    whole = gradient[-1:] + decay * state.start[0] * theta
    gradient = jnp.concatenate([gradient[:-1] + whole, whole])
    velocity = momentum * state.velocity + gain * gradient
    squared = gradient**2
    square = kept * state.square + weight * (squared.mean(2, keepdims=True) if by_row else squared)
    size = root * jnp.sqrt(square) + eps
    gains = jnp.where(size > 0, 1.0 / jnp.where(size > 0, size, 1.0), 0.0)
    moved = rate * velocity * gains
    moved = jnp.concatenate([moved[:-1] - moved[-1:], moved[-1:]])
    shift = (1.0 - shrink) * state.shift - moved
    weights, own = squared[-1], jnp.broadcast_to(gains[-1], squared[-1].shape)
    tiny = jnp.finfo(weights.dtype).tiny
    mean = jnp.sum(own * weights, 1) / jnp.maximum(jnp.sum(weights, 1), tiny)
    along = jnp.stack([jnp.sum(weights * own / jnp.maximum(mean, tiny)[:, None], 0), jnp.sum(weights, 0)])
    return State(shift, velocity, square, state.start * (1.0 - shrink)), mean, along
