"""SGD with replacement or reshuffled every epoch: one compiled loop over single samples."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..compiling import jit
from ..errors import refuse
from ..functions import Static
from ..learning.clock import Clock
from ..learning.dynamics import SGD, OnlineSGD, step_at
from ..learning.problem import Problem
from .along import added, along_of, begun, row, start_of, told
from .beside import Streams, each, of_all
from .data import Data, penalty_gradient, pick, smooth_penalty
from .left_out import Told
from .optimisers import PLAIN, Extras, Numbers, Rule, State, begin, begin_each, move, numbers_of, rule_of

MAX_INDICES = 2**18  # sample indices drawn ahead at once
CHECKS = 40  # a run is looked at (has it diverged?) at least about this often
LASTS = "step * batch_size / n_features"
EACH = (0, 0, 0, None, None, None, None)  # what each of several runs has of its own: rows, labels, indices
LEAST = 4096  # samples that are asked for at once, and at stops between them: each call costs as much as hundreds of small steps


class SGDPath:
    """Batches of `batch_size` samples; step `j` advances the time by `step(t_j) * |batch| / d`. Reshuffled, an epoch ends with
    the samples that are left, however few.

    An output time shows the state after the nearest whole number of steps, so curves have the time resolution of one step.
    """

    fresh = False

    def __init__(
        self,
        problem: Problem,
        dynamics: SGD,
        n: int,
        d: int,
        batch_size: int,
        design: str,
        times: np.ndarray,
        extras: Extras = PLAIN,
    ):
        self.problem, self.dynamics, self.batch_size, self.n, self.d = problem, dynamics, batch_size, n, d
        self.rule, self.numbers = rule_of(dynamics, extras), numbers_of(dynamics, extras)
        check_first_step(dynamics, d, batch_size, times)
        shares = batch_size / d
        if dynamics.sampling == "reshuffle":
            shares = np.diff(np.append(np.arange(0, n, batch_size), n)) / d
        self.clock = Clock(dynamics, shares, float(times[-1]), LASTS)
        self.outputs = self.clock.nearest(times)
        total = int(self.outputs[-1])
        # Output times, and stops between those that are far apart; every stop costs as much as a hundred small steps.
        self.capacity = max(1, min(max(1, MAX_INDICES // batch_size), -(-total // CHECKS)))
        self.stops = stops(self.outputs, self.capacity)
        self.diagnostics = {"steps": total, "time_resolution": self.clock.first}

    @property
    def beside(self) -> bool:
        """Whether several runs may be followed at once: not where their states have keys or parts that only their makers know."""
        return not self.rule.noisy and self.rule.transform is None

    def run(self, data: Data, rng: Streams, hears: Told | None = None) -> Iterator[tuple[float, np.ndarray, list[int]]]:
        """Yield `(time, State.shown(), which output times this is)` at every stop; before, `hears` is told of the batches."""
        alone = isinstance(rng, np.random.Generator)
        start, here = start_of(self.problem), 0
        state = begin(self.rule, data.start, rng, start) if alone else begin_each(self.rule, data.start, start)
        kind = _Replacement if self.dynamics.sampling == "replacement" else _Reshuffle
        batches = [kind(one, self.n, self.batch_size) for one in each(rng)]
        capacity, pieces = self.capacity, [[int(stop)] for stop in self.stops]
        if hears is None:
            most = (LEAST if alone else MAX_INDICES // len(batches)) // self.batch_size
            capacity = max(capacity, min(int(self.outputs[-1]), most))
            pieces = in_pieces(self.stops, capacity)
        indices = np.zeros((len(batches), capacity, self.batch_size), np.int32)
        filled = np.zeros(capacity, np.int32)
        sizes = np.zeros(capacity)
        marks = np.zeros(1 + max(len(piece) for piece in pieces), np.int32)
        for piece in pieces:
            end = int(piece[-1])
            if count := end - here:
                for one, drawn in zip(batches, indices, strict=True):
                    one.fill(drawn[:count], filled[:count])  # as many for each
                sizes[:count] = self.clock.etas(here, end)
            marks[1 : len(piece) + 1] = np.array(piece) - here
            marks[len(piece) + 1 :] = count
            these = indices[0] if alone else indices
            state, shown, seen = steps(self.problem, self.rule, self.numbers, state, marks, data, these, filled, sizes, hears is not None)
            if hears is not None:
                predictions, a = np.asarray(seen.predictions), None if seen.numbers is None else np.asarray(seen.numbers)
                for j in range(count):
                    before = None if a is None else a[j]
                    hears(indices[0, j, : filled[j]], predictions[j, : filled[j]], float(sizes[j]), before)
            here, shown = end, np.asarray(shown)
            for i, stop in enumerate(piece):
                yield self.clock.time(int(stop)), shown[..., i, :, :], np.flatnonzero(self.outputs == stop).tolist()


def check_first_step(dynamics: SGD | OnlineSGD, d: int, batch_size: int, times: np.ndarray) -> None:
    """Refuse a run that ends before its first step does."""
    end = float(times[-1])
    first = float(step_at(dynamics, np.zeros(1))[0]) * batch_size / d
    if first > end > 0:
        most = int(end / first * batch_size)
        field, value, fix = (
            ("batch_size", batch_size, f"at most {most} here") if most else ("n_features", d, "more features make steps shorter")
        )
        raise refuse(field, f"let a step end within t = {end:g} (it lasts {LASTS} = {first:.3g})", value, fix)


def stops(outputs: np.ndarray, capacity: int) -> np.ndarray:
    """Numbers of steps at which to stop: all outputs, and never more than `capacity` steps apart."""
    gaps = zip(np.append(0, outputs), outputs, strict=False)
    return np.unique([*outputs, *(stop for a, b in gaps for stop in range(a, b, capacity))])


def in_pieces(stops: np.ndarray, most: int) -> list[list[int]]:
    """Neighbouring stops together as far as there are at most so many steps from the one before to the last of them."""
    pieces, here = [[]], 0
    for stop in stops:
        if pieces[-1] and stop - here > most:
            here = pieces[-1][-1]
            pieces.append([])
        pieces[-1].append(int(stop))
    return pieces


class Seen(NamedTuple):
    """What is recorded before each step: its samples' predictions `(capacity, batch, k)`, and the numbers `(capacity, p)` that are trained
    along, or None."""

    predictions: Any
    numbers: Any


class _Replacement:
    """Every sample of every batch is drawn anew."""

    def __init__(self, rng: np.random.Generator, n: int, batch_size: int):
        self.rng, self.n = rng, n

    def fill(self, indices: np.ndarray, filled: np.ndarray) -> None:
        """Next batches, one a row of `indices`, and how many samples each has."""
        indices[:] = self.rng.integers(self.n, size=indices.shape, dtype=np.int32)
        filled[:] = indices.shape[1]


class _Reshuffle:
    """Every epoch goes through a new random order; its last batch has what is left."""

    def __init__(self, rng: np.random.Generator, n: int, batch_size: int):
        self.rng, self.n, self.place = rng, n, n
        self.order = np.zeros(-(-n // batch_size) * batch_size, np.int32)  # whole batches; what is beyond `n` is never used

    def fill(self, indices: np.ndarray, filled: np.ndarray) -> None:
        """As `_Replacement.fill`; the epoch goes on from one call to the next."""
        batch, row = indices.shape[1], 0
        while row < len(indices):
            if self.place >= self.n:
                self.order[: self.n] = self.rng.permutation(self.n)
                self.place = 0
            count = min(len(indices) - row, -(-(self.n - self.place) // batch))
            starts = self.place + batch * np.arange(count)
            indices[row : row + count] = self.order[self.place : self.place + batch * count].reshape(count, batch)
            filled[row : row + count] = np.minimum(batch, self.n - starts)
            self.place += batch * count
            row += count


def steps(
    problem: Problem,
    rule: Rule,
    numbers: Numbers,
    state: State,
    marks: np.ndarray,
    data: Data,
    indices: np.ndarray,
    filled: np.ndarray,
    sizes: np.ndarray,
    recorded: bool = False,
) -> tuple[State, Any, Any]:
    """The first steps of `indices (capacity, batch)`, of which `filled (capacity,)` are samples, with `sizes (capacity,)`, up to the last
    of `marks (m + 1,)`; the rows `(m, 1 or 2, size)` of `State.shown` after each but the first, which is zero; and what is `Seen`, if the
    steps are `recorded`. Of several runs, whose arrays have an axis more, the same steps of each."""
    given = (marks, data.rows, data.labels, jnp.array(indices), jnp.array(filled), jnp.array(sizes), problem.ridge, along_of(problem))
    functions = {"gradient": Static(problem.slopes.gradient), "smooth": smooth_penalty(problem), "recorded": recorded}
    if rule.plain:
        theta, a, shown, seen = _steps(state.theta, state.numbers, *given, **functions)
        return state._replace(theta=theta, along=None if a is None else state.along._replace(theta=a)), shown, seen
    return _optimised_steps(state, numbers, *given, **functions, rule=rule)


@partial(jit, static_argnames=("gradient", "smooth", "recorded", "rule"))
def _optimised_steps(state, numbers, marks, rows, *given, **functions):
    return of_all(rows, partial(_by_an_optimiser, **functions), (0, None, None, *EACH))(state, numbers, marks, rows, *given)


def _by_an_optimiser(state, numbers, marks, rows, labels, indices, filled, sizes, ridge, along, *, gradient, smooth, recorded, rule):
    """All steps, as an optimiser makes them of the gradients of a batch."""
    d = state.theta.shape[1]

    def step(j, carried):
        state, seen = carried
        theta, a, batch = state.theta, state.numbers, filled[j].astype(state.theta.dtype)
        seen = _seen_along(seen, j, a)

        def add(b, sums):
            pull, other, seen = sums
            i = indices[j, b]
            x = jax.lax.dynamic_index_in_dim(rows, i, keepdims=False).astype(theta.dtype)
            r, y = jnp.sum(theta * x, axis=1), told(pick(labels, i), a)
            seen = _seen(seen, j, b, r)
            return pull + gradient(r, y).astype(theta.dtype)[:, None] * x, added(along, other, r, y), seen

        sums = (batch / d * penalty_gradient(theta, ridge, smooth), begun(along, a, batch), seen)
        pull, other, seen = jax.lax.fori_loop(0, filled[j], add, sums)
        return move(rule, numbers, state, pull, sizes[j] * batch / d, batch, along, other), seen

    (state, seen), shown = _between(
        marks, step, (state, _unseen(state.theta, state.numbers, indices, recorded)), lambda carried: carried[0].rows()
    )
    return state, shown, seen


def _between(marks, step, carried, rows):
    """Steps from each of `marks` to the next, and `rows` of what is carried there."""

    def go_on(i, everything):
        carried, shown = everything
        carried = jax.lax.fori_loop(marks[i], marks[i + 1], step, carried)
        return carried, shown.at[i].set(rows(carried))

    like = jax.eval_shape(rows, carried)
    return jax.lax.fori_loop(0, len(marks) - 1, go_on, (carried, jnp.zeros((len(marks) - 1, *like.shape), like.dtype)))


def _unseen(theta, a, indices, recorded):
    """Room for what is recorded, if it is."""
    if not recorded:
        return None
    numbers = None if a is None else jnp.zeros((len(indices), *a.shape), a.dtype)
    return Seen(jnp.zeros((*indices.shape, len(theta)), theta.dtype), numbers)


def _seen(seen, j, b, r):
    """With the prediction of the sample `b` of step `j`, where they are recorded."""
    return None if seen is None else seen._replace(predictions=seen.predictions.at[j, b].set(r))


def _seen_along(seen, j, a):
    """With what is trained along as it is before step `j`."""
    return seen if seen is None or a is None else seen._replace(numbers=seen.numbers.at[j].set(a))


@partial(jit, static_argnames=("gradient", "smooth", "recorded"))
def _steps(theta, a, marks, rows, *given, **functions):
    return of_all(rows, partial(_plainly, **functions), (0, 0, None, *EACH))(theta, a, marks, rows, *given)


def _plainly(theta, a, marks, rows, labels, indices, filled, sizes, ridge, along, *, gradient, smooth, recorded):
    """All steps: `theta -= eta sum_i x_i l_i + eta kappa / d h(theta)`, a dot product and an update per sample; `a` beside. `marks` are an
    argument, so all segments of all repeats share one compilation."""
    d = theta.shape[1]

    def step(j, state):
        theta, a, seen = state
        eta, seen = sizes[j], _seen_along(seen, j, a)

        def add(b, sums):
            change, pull, seen = sums
            i = indices[j, b]
            x = jax.lax.dynamic_index_in_dim(rows, i, keepdims=False).astype(theta.dtype)
            r, y = jnp.sum(theta * x, axis=1), told(pick(labels, i), a)
            seen = _seen(seen, j, b, r)
            push = gradient(r, y)
            return change + (eta * push).astype(theta.dtype)[:, None] * x, added(along, pull, r, y), seen

        sums = ((eta * filled[j] / d) * penalty_gradient(theta, ridge, smooth), begun(along, a, filled[j]), seen)
        change, pull, seen = add(0, sums) if indices.shape[1] == 1 else jax.lax.fori_loop(0, filled[j], add, sums)
        return theta - change, None if along is None else a - along.rate * (eta / d) * pull, seen

    (theta, a, seen), shown = _between(
        marks, step, (theta, a, _unseen(theta, a, indices, recorded)), lambda carried: row(*carried[:2])[None]
    )
    return theta, a, shown, seen
