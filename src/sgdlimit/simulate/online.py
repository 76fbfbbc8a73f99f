"""One-pass SGD: blocks of fresh samples, drawn, used once and overwritten."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..learning.clock import Clock
from ..learning.dynamics import OnlineSGD
from ..learning.problem import Problem
from .along import start_of
from .data import Data, samples
from .optimisers import PLAIN, Extras, begin, numbers_of, rule_of
from .sgd import LASTS, check_first_step, steps, stops

HELD = 512  # samples drawn at once: a few megabytes


class OnlinePath:
    """Batches of `batch_size` samples that nobody has seen. An output time shows the state after the nearest whole step."""

    fresh, beside = True, False

    @staticmethod
    def rows_held(batch_size: int) -> int:
        """Samples in memory: whole batches."""
        return batch_size * max(1, HELD // batch_size)

    def __init__(
        self,
        problem: Problem,
        dynamics: OnlineSGD,
        n: int,
        d: int,
        batch_size: int,
        design: str,
        times: np.ndarray,
        extras: Extras = PLAIN,
    ):
        self.problem, self.batch_size, self.held, self.design = problem, batch_size, n, design
        self.rule, self.numbers = rule_of(dynamics, extras), numbers_of(dynamics, extras)
        check_first_step(dynamics, d, batch_size, times)
        self.clock = Clock(dynamics, batch_size / d, float(times[-1]), LASTS)
        self.outputs = self.clock.nearest(times)
        self.diagnostics = {"steps": int(self.outputs[-1]), "time_resolution": self.clock.first}

    def run(self, data: Data, rng: np.random.Generator) -> Iterator[tuple[float, np.ndarray, list[int]]]:
        """Yield `(time, State.shown(), which output times this is)` at every stop. Overwrites the rows of `data`."""
        capacity = self.held // self.batch_size
        order = np.arange(self.held, dtype=np.int32).reshape(capacity, self.batch_size)
        filled, sizes = np.full(capacity, self.batch_size, np.int32), np.zeros(capacity)
        rows, teacher = np.array(data.rows), np.ascontiguousarray(data.teacher.T)
        state, here, used = begin(self.rule, data.start, rng, start_of(self.problem)), 0, 0
        for stop in stops(self.outputs, capacity):
            while here < stop:
                if used == capacity:
                    fresh, labels = samples(self.problem, self.design, rows, teacher, rng, data.eigenvalues)
                    data, used = replace(data, rows=fresh, labels=labels), 0
                count = min(int(stop) - here, capacity - used)
                sizes[:count] = self.clock.etas(here, here + count)
                shifted = np.roll(order, -used, axis=0)
                marks = np.array([0, count], np.int32)
                state, *_ = steps(self.problem, self.rule, self.numbers, state, marks, data, shifted, filled, sizes)
                state.theta.block_until_ready()  # the rows are overwritten next
                here, used = here + count, used + count
            yield self.clock.time(here), state.shown(), np.flatnonzero(self.outputs == here).tolist()
