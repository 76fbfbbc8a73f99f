"""Some samples left out exactly, to first order: what the weights would be without them is carried along, batch by batch.

With the difference `delta_i` of the weights without sample `i` and with it, a step is that of the weights themselves,

    delta_i <- delta_i - rate / b [ sum_{j in batch, j != i} x_j H_j x_j^T delta_i - (i in batch) x_i l_i ] - rate decay delta_i

in which the sample's own curvature does not occur. A product with all of them costs little more than one with the weights alone.
"""

from __future__ import annotations

import numpy as np

from .record import Record, Step, evaluate, pick

WATCHED = 48  # steps of every replay in which the loss's gradient is compared with its linear continuation


class Tangents:
    """Differences of the weights without each sample of `who (q,)`, and the weights' own way from the start, which shows whether the
    batches told of are what moved them.

    `bent / straight`: how much of the others' forces the linear continuation of the loss misses, and all of it (sums of squares);
    `missed / moved`: how much of the predictions the weights' own way leaves unexplained, and what it explains.
    """

    def __init__(self, rows: np.ndarray, who: np.ndarray, k: int, decay: float):
        self.rows, self.who, self.k, self.decay = rows, who, k, decay
        n, d = rows.shape
        self.column = np.full(n, -1)
        self.column[who] = np.arange(len(who))
        self.delta = np.zeros((d, (len(who) + 1) * k), np.float32)  # the last k columns: the weights' own way
        self.velocity = np.zeros_like(self.delta)
        self.start, self.start_velocity = 1.0, 0.0  # what decay leaves of the weights at the start
        self.base = np.full((n, k), np.nan)  # predictions at the start, as they follow from a sample's first use
        self.bent = self.straight = self.missed = self.moved = 0.0

    def shift(self) -> np.ndarray:
        """By how much leaving it out changes the prediction of each of `who`, `(q, k)`."""
        delta = self.delta[:, : -self.k].reshape(len(self.delta), len(self.who), self.k)
        return np.einsum("qd,dqa->qa", self.rows[self.who], delta, optimize=True).astype(float)

    def replay(self, record: Record, first: int, begin: int) -> None:
        """Carry all through the steps from `first` on, whose uses are those from `begin` on."""
        q, k, uses = len(self.who), self.k, record.uses
        new = len(record.batches) - first
        watched = set(np.linspace(0, new - 1, min(new, WATCHED)).astype(int).tolist())
        ways, starts, seen = np.empty((len(uses.sample) - begin, k), np.float32), [], []
        place = begin
        for number in range(new):
            batch, step = record.batches[first + number], record.steps[first + number]
            here = slice(place, place + len(batch))
            x, gradient = self.rows[batch], uses.gradient[here]
            moved = x @ self.delta
            push = np.empty_like(moved)
            push[:, q * k :] = gradient
            own, force = (part[:, : q * k].reshape(-1, q, k) for part in (moved, push))
            force[...] = own * uses.hessian[here] if k == 1 else own @ uses.hessian[here].swapaxes(1, 2)
            mine = np.flatnonzero(self.column[batch] >= 0)
            force[mine, self.column[batch[mine]]] = -gradient[mine]
            if number in watched:
                seen.append((here, own, force))
            ways[place - begin : place - begin + len(batch)] = moved[:, q * k :]
            starts.append(self.start)
            self._move(x.T @ push, step, len(batch))
            place += len(batch)
        self._explain(uses.sample[begin:], uses.prediction[begin:], ways, np.repeat(starts, [len(b) for b in record.batches[first:]]))
        for here, own, force in seen:
            self._watch(record, here, own, force)

    def _move(self, pull: np.ndarray, step: Step, size: int) -> None:
        """A step of the optimiser for all columns, in place."""
        pull *= np.float32(step.gain / max(size, 1))
        if self.decay:
            pull += np.float32(step.gain * self.decay) * self.delta
            self.start_velocity = step.momentum * self.start_velocity + step.gain * self.decay * self.start
            self.start -= step.rate * self.start_velocity
        if step.momentum:
            self.velocity *= np.float32(step.momentum)
            self.velocity += pull
            self.delta -= np.float32(step.rate) * self.velocity
        else:
            pull *= np.float32(step.rate)
            self.delta -= pull

    def _explain(self, sample: np.ndarray, prediction: np.ndarray, ways: np.ndarray, starts: np.ndarray) -> None:
        """What is left of a prediction without the weights' own way is that of the start, the same at every use."""
        rest = prediction.astype(float) - ways
        known = ~np.isnan(self.base[sample, 0])
        order = np.unique(sample, return_index=True)[1]
        fresh = order[~known[order]]
        self.base[sample[fresh]] = rest[fresh] / starts[fresh, None]
        again = np.ones(len(sample), bool)
        again[fresh] = False
        self.missed += float(np.sum((rest[again] - starts[again, None] * self.base[sample[again]]) ** 2))
        self.moved += float(np.sum(ways[again].astype(float) ** 2))

    def _watch(self, record: Record, here: slice, own: np.ndarray, force: np.ndarray) -> None:
        """Compare forces with what they would be without the linear continuation, on all samples but a tangent's own."""
        uses, (b, q, k) = record.uses, own.shape
        r = np.repeat(uses.prediction[here], q, axis=0).astype(float) + own.reshape(-1, k)
        labels = pick(record.labels, np.repeat(uses.sample[here], q))
        _, gradient, _ = evaluate(record.slopes, r, labels)
        difference = gradient.reshape(b, q, k) - uses.gradient[here][:, None]
        others = self.column[uses.sample[here]][:, None] != np.arange(q)
        self.bent += float(np.sum((difference - force)[others] ** 2))
        self.straight += float(np.sum(difference[others] ** 2))
