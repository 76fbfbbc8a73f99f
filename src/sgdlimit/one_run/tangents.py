"""Some samples left out exactly: what the weights would be without them is carried along, batch by batch.

With the difference `delta_i` of the weights without sample `i` and with it, a step is that of the weights themselves,

    delta_i <- delta_i - rate / b [ sum_{j in batch, j != i} x_j (l_j(r_j + x_j^T delta_i) - l_j(r_j)) - (i in batch) x_i l_i ]
               - rate decay delta_i

in which the sample's own curvature does not occur. A product with all of them costs little more than one with the weights alone. The
gradient `l_j` is taken where that training is: a loss that is not convex moves it to where the linear continuation is none.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ..functions import Static
from .record import Record
from .replay import Kind, Seen, State, Steps, Uses, carry

PIECE = 16384  # uses that are laid out at once, or those of one batch


class Tangents:
    """Differences of the weights without each sample of `who (q,)`, and the weights' own way from the start, which shows whether the
    batches told of are what moved them.

    `bent / straight`: how much of the others' forces the linear continuation of the loss misses, and all of it (sums of squares);
    `missed / explained`: how much of the predictions the weights' own way leaves unexplained, and what it explains.
    """

    def __init__(self, rows: np.ndarray, who: np.ndarray, k: int, decay: float, theta: np.ndarray | None = None):
        self.rows, self.who, self.k, self.decay = rows, who, k, decay
        n, d = rows.shape
        self.theta = np.zeros((k, d), np.float32) if theta is None else theta  # at the start, if their decay is in Adam's gradient
        zeros = np.zeros((len(who) + 1, k, d), np.float32)
        self.state = State(zeros, zeros, np.zeros_like(zeros), np.array([1.0, 0.0], np.float32))
        self.along = np.zeros((2, d))  # squared gradients, with Adam's relative gain and without
        self.base = np.full((n, k), np.nan, np.float32)  # predictions at the start, as they follow from a sample's first use
        self.bent = self.straight = self.missed = self.explained = 0.0

    def moved(self) -> np.ndarray:
        """By how much leaving out each of `who` changes the predictions of all samples, `(n, q, k)`."""
        shift = np.asarray(self.state.shift)[:-1]
        return (self.rows @ shift.reshape(-1, self.rows.shape[1]).T).reshape(len(self.rows), len(self.who), self.k)

    def replay(self, record: Record, first: int, begin: int) -> None:
        """Carry all through the steps from `first` on, whose uses are those from `begin` on."""
        sizes, place = record.steps.size[first:].astype(np.int32), begin
        if not len(sizes):
            return
        scale = record.told[first].scale
        moving = self.decay > 0 or bool(record.steps.momentum[first:].any())
        kind = Kind(moving, scale is not None, scale is not None and scale.by_row)
        if kind.by_row:
            self.state = self.state._replace(square=self.state.square[:, :, :1])
        widest = max(1, int(record.steps.size.max()))  # so far: the same program serves what has no wider one
        per_piece = max(1, PIECE // widest)
        how = {"gradient": Static(record.slopes.gradient), "kind": kind, "widest": widest}
        ways, starts = [], []
        with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
            rows, labels = jax.device_put(self.rows), jax.tree.map(_single, record.labels)
            alike = rows, labels, self.who.astype(np.int32), np.float32(self.decay), self.theta
            for opening in range(0, len(sizes), per_piece):
                some = sizes[opening : opening + per_piece]
                uses, steps = _laid_out(record, some, place, first + opening, (per_piece, widest))
                self.state, seen, slopes = carry(self.state, uses, steps, np.uint32(len(some)), *alike, **how)
                seen = Seen(*map(np.asarray, seen))
                ways.append(seen.ways[: some.sum()])
                record.learn(place, *(np.asarray(part)[: some.sum()] for part in slopes))  # the same without any samples
                starts.append(np.repeat(seen.start[: len(some)], some) if kind.moving or kind.scaled else np.ones(some.sum(), np.float32))
                if kind.scaled and len(record.gains) == first + opening:
                    record.gains += list(seen.gain[: len(some)])
                self.along += seen.along
                self.bent += float(seen.bend[0])
                self.straight += float(seen.bend[1])
                place += int(some.sum())
        self._explain(record.uses.sample[begin:], record.uses.prediction[begin:], np.concatenate(ways), np.concatenate(starts))

    def axes(self) -> np.ndarray | None:
        """Gain of every feature `(d,)` over that of all, where Adam trains."""
        if not self.along.any():
            return None
        return np.divide(self.along[0], self.along[1], out=np.ones(self.along.shape[1]), where=self.along[1] > 0)

    def _explain(self, sample: np.ndarray, prediction: np.ndarray, ways: np.ndarray, starts: np.ndarray) -> None:
        """What is left of a prediction without the weights' own way is that of the start, the same at every use."""
        rest, some = prediction - ways, slice(None)
        if np.isnan(self.base).any():
            known = ~np.isnan(self.base[sample, 0])
            first = np.full(len(self.rows), -1)
            first[sample[::-1]] = np.arange(len(sample))[::-1]  # the last one written stays
            order = first[first >= 0]
            fresh = order[~known[order]]
            self.base[sample[fresh]] = rest[fresh] / starts[fresh, None]
            some = np.ones(len(sample), bool)
            some[fresh] = False
        missed = rest[some] - starts[some, None] * self.base[sample[some]]
        self.missed += float(np.sum(missed**2, dtype=float))
        self.explained += float(np.sum(ways[some] ** 2, dtype=float))


def _laid_out(record: Record, sizes: np.ndarray, place: int, first: int, shape: tuple[int, int]) -> tuple[Uses, Steps]:
    """Steps from `first` on, whose uses are those from `place` on, as many and as wide as a program of some `shape` takes."""
    many, (s, widest) = len(sizes), shape
    end = place + int(sizes.sum())
    sample, prediction = record.uses.sample[place:end].astype(np.int32), record.uses.prediction[place:end]
    uses = Uses(_filled(sample, s * widest), _filled(prediction, s * widest))
    numbers = np.zeros((many, 8), np.float32)
    numbers[:, :4] = np.stack(record.steps[:4], axis=1)[first : first + many]
    if record.told[first].scale is not None:
        numbers[:, 4:] = [step.scale[:4] for step in record.told[first : first + many] if step.scale is not None]
    trained = _filled(_single(record.numbers[first : first + many]), s) if record.numbers else None
    places = np.full(s, end - place, np.int32)
    places[:many] = np.cumsum(sizes) - sizes
    return uses, Steps(places, _filled(sizes, s), _filled(numbers, s), trained)


def _filled(part: np.ndarray, many: int) -> np.ndarray:
    """With zeros behind it."""
    whole = np.zeros((many, *part.shape[1:]), part.dtype)
    whole[: len(part)] = part
    return whole


def _single(part: Any) -> np.ndarray:
    part = np.asarray(part)
    return part.astype(np.float32) if part.dtype.kind == "f" else part
