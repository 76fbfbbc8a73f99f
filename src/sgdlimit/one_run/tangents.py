"""Some samples left out exactly, to first order: what the weights would be without them is carried along, batch by batch.

With the difference `delta_i` of the weights without sample `i` and with it, a step is that of the weights themselves,

    delta_i <- delta_i - rate / b [ sum_{j in batch, j != i} x_j H_j x_j^T delta_i - (i in batch) x_i l_i ] - rate decay delta_i

in which the sample's own curvature does not occur. A product with all of them costs little more than one with the weights alone.

Adam divides by the root of the mean squared gradient, which a sample changes by a part in `n`; but it is used when the gradient of its
batch has it, and where a batch has few samples, or all of them, that is not nothing. So every `delta_i` has the moments of its own
training there, and the optimiser is followed exactly; only the loss is linear.
"""

from __future__ import annotations

import numpy as np

from .record import Record, Scale, Step, evaluate

PIECE = 4096  # uses whose forces are laid out at once, or those of one batch
ROUNDING = 1e-4  # of a gradient: smaller changes tell nothing
WATCHED = 24  # steps of every replay in which the loss's gradient is compared with its linear continuation


class Tangents:
    """Differences of the weights without each sample of `who (q,)`, and the weights' own way from the start, which shows whether the
    batches told of are what moved them.

    `bent / straight`: how much of the others' forces the linear continuation of the loss misses, and all of it (sums of squares);
    `missed / explained`: how much of the predictions the weights' own way leaves unexplained, and what it explains.
    """

    def __init__(self, rows: np.ndarray, who: np.ndarray, k: int, decay: float, theta: np.ndarray | None = None):
        self.rows, self.who, self.k, self.decay = rows, who, k, decay
        n, d = rows.shape
        self.column = np.full(n, -1)
        self.column[who] = np.arange(len(who))
        self.delta = np.zeros((d, (len(who) + 1) * k), np.float32)  # the last k columns: the weights' own way
        self.velocity = np.zeros_like(self.delta)
        self.theta = theta  # the weights at the start `(k, d)`, where their decay is in the gradient that Adam sees
        self.square = np.zeros((), np.float32)  # of gradients, as Adam sums them
        self.along = np.zeros((2, d))  # squared gradients, with Adam's relative gain and without
        self.start, self.start_velocity = 1.0, 0.0  # what decay leaves of the weights at the start
        self.base = np.full((n, k), np.nan)  # predictions at the start, as they follow from a sample's first use
        self.bent = self.straight = self.missed = self.explained = 0.0

    def moved(self) -> np.ndarray:
        """By how much leaving out each of `who` changes the predictions of all samples, `(n, q, k)`."""
        return (self.rows @ self.delta[:, : -self.k]).reshape(len(self.rows), len(self.who), self.k)

    def replay(self, record: Record, first: int, begin: int) -> None:
        """Carry all through the steps from `first` on, whose uses are those from `begin` on."""
        k, uses, last, delta = self.k, record.uses, len(record.batches), self.delta
        watched = set(np.linspace(first, last - 1, min(last - first, WATCHED)).astype(int).tolist())
        ways, starts, seen, place = np.empty((len(uses.sample) - begin, k), np.float32), [], [], begin
        pull = np.empty_like(delta)
        per_piece = max(1, PIECE * (last - first) // max(len(ways), 1))
        for opening in range(first, last, per_piece):
            numbers = range(opening, min(opening + per_piece, last))
            size = sum(len(record.batches[number]) for number in numbers)
            apply, bias = self._forces(record, slice(place, place + size), numbers)
            moved, here = np.empty_like(bias), 0
            these = slice(opening, opening + per_piece)
            for number, batch, step in zip(numbers, record.batches[these], record.told[these], strict=True):
                some = slice(here, here := here + len(batch))
                x = self.rows.take(batch, axis=0)
                changes = np.matmul(x, delta, out=moved[some])
                push = changes * apply[some] if k == 1 else self._turned(changes, apply[some], self.column[batch])
                push += bias[some]
                np.matmul(x.T, push, out=pull)
                if number in watched:
                    seen.append((place + some.start, changes.copy()))
                starts.append(self.start)
                if step.scale is not None:
                    record.gains.append(self._scaled(pull, step, step.scale))
                elif step.momentum or self.decay:
                    self._move(pull, step)
                else:
                    delta -= pull
            ways[place - begin : place - begin + size] = moved[:, -k:]
            place += size
        sizes = [len(batch) for batch in record.batches[first:]]
        self._explain(uses.sample[begin:], uses.prediction[begin:], ways, np.repeat(starts, sizes))
        self._watch(record, seen)

    def _forces(self, record: Record, here: slice, numbers: range) -> tuple[np.ndarray, np.ndarray]:
        """Of some uses, what turns the changes of predictions into pushes and what is added to them, a column for each of `delta`'s; for
        `k > 1` the first has the Hessians. A tangent's own sample pushes back what it gave, and has no curvature."""
        uses, k, q = record.uses, self.k, len(self.who)
        sizes = np.array([len(record.batches[number]) for number in numbers])
        amounts = [_amount(record.told[number]) for number in numbers]
        amount = np.repeat(np.array(amounts) / np.maximum(sizes, 1), sizes).astype(np.float32)[:, None]
        gradient, hessian = uses.gradient[here] * amount, uses.hessian[here] * amount[:, :, None]
        bias = np.zeros((len(gradient), (q + 1) * k), np.float32)
        bias[:, q * k :] = gradient
        column = self.column[uses.sample[here]]
        mine = np.flatnonzero(column >= 0)
        bias[mine[:, None], column[mine, None] * k + np.arange(k)] = -gradient[mine]
        if k > 1:
            return hessian, bias
        apply = np.repeat(hessian[:, 0], q + 1, axis=1)
        apply[:, q] = 0.0
        apply[mine, column[mine]] = 0.0
        return apply, bias

    def _turned(self, moved: np.ndarray, hessian: np.ndarray, column: np.ndarray) -> np.ndarray:
        """`k` columns of each tangent, through the Hessians."""
        push = np.matmul(moved.reshape(len(moved), -1, self.k), hessian.swapaxes(1, 2))
        mine = np.flatnonzero(column >= 0)
        push[mine, column[mine]] = push[:, -1] = 0.0
        return push.reshape(moved.shape)

    def _move(self, pull: np.ndarray, step: Step) -> None:
        """A step of the optimiser for all columns, in place. Without momentum, pushes have the rate in them."""
        if self.decay:
            self.start_velocity = step.momentum * self.start_velocity + step.gain * self.decay * self.start
            self.start -= step.rate * self.start_velocity
            pull += np.float32(step.gain * self.decay * (1.0 if step.momentum else step.rate)) * self.delta
        if step.momentum:
            self.velocity *= np.float32(step.momentum)
            self.velocity += pull
            pull = np.float32(step.rate) * self.velocity
        self.delta -= pull

    def _scaled(self, pull: np.ndarray, step: Step, scale: Scale) -> np.ndarray:
        """The same of Adam. Its columns are trainings of their own here, and what comes out are again their differences from the one with
        all samples. Returns the mean gain of every output `(k,)`, where its gradient is."""
        cut = lambda columns: columns.reshape(len(columns), -1, self.k)
        gradient, delta = cut(pull), cut(self.delta)
        if self.decay:
            gradient += np.float32(self.decay) * delta
            if self.theta is not None:
                gradient[:, -1] += np.float32(self.decay * self.start) * self.theta.T
        gradient[:, :-1] += gradient[:, -1:]
        velocity = cut(self.velocity)
        velocity *= np.float32(step.momentum)
        velocity += np.float32(step.gain) * gradient
        squared = gradient**2
        if scale.by_row:
            squared = squared.mean(0, keepdims=True)
        self.square = np.float32(scale.weight) * squared + np.float32(scale.kept) * self.square
        size = np.float32(scale.root) * np.sqrt(self.square) + np.float32(scale.eps)
        gain = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
        moved = np.float32(step.rate) * velocity * gain
        moved[:, :-1] -= moved[:, -1:]
        delta *= np.float32(1.0 - step.shrink)
        delta -= moved
        self.start *= 1.0 - step.shrink
        weights, own = gradient[:, -1].astype(float) ** 2, np.broadcast_to(gain[:, -1], gradient[:, -1].shape)
        gains = np.sum(own * weights, 0) / np.maximum(np.sum(weights, 0), 1e-300)
        self.along += np.sum(weights * own / np.maximum(gains, 1e-300), 1), np.sum(weights, 1)
        return gains

    def axes(self) -> np.ndarray | None:
        """Gain of every feature `(d,)` over that of all, where Adam trains."""
        if not self.along.any():
            return None
        return np.divide(self.along[0], self.along[1], out=np.ones(self.along.shape[1]), where=self.along[1] > 0)

    def _explain(self, sample: np.ndarray, prediction: np.ndarray, ways: np.ndarray, starts: np.ndarray) -> None:
        """What is left of a prediction without the weights' own way is that of the start, the same at every use."""
        rest = prediction.astype(float) - ways
        known = ~np.isnan(self.base[sample, 0])
        first = np.full(len(self.rows), -1)
        first[sample[::-1]] = np.arange(len(sample))[::-1]  # the last one written stays
        order = first[first >= 0]
        fresh = order[~known[order]]
        self.base[sample[fresh]] = rest[fresh] / starts[fresh, None]
        again = np.ones(len(sample), bool)
        again[fresh] = False
        self.missed += float(np.sum((rest[again] - starts[again, None] * self.base[sample[again]]) ** 2))
        self.explained += float(np.sum(ways[again].astype(float) ** 2))

    def _watch(self, record: Record, seen: list[tuple[int, np.ndarray]]) -> None:
        """Compare changes of the gradient with what they would be without the linear continuation, on all samples but a tangent's own.
        `seen`: changes of predictions in some batches, and the first use of each."""
        if not seen:
            return
        uses, k, q = record.uses, self.k, len(self.who)
        here = np.concatenate([np.arange(place, place + len(moved)) for place, moved in seen])
        own = np.concatenate([moved[:, : q * k] for _, moved in seen]).reshape(len(here), q, k)
        r = np.repeat(uses.prediction[here], q, axis=0).astype(float) + own.reshape(-1, k)
        labels = record.labels_at(np.repeat(uses.sample[here], q), np.repeat(uses.step[here], q))
        _, gradient, _ = evaluate(record.slopes, r, labels)
        difference = gradient.reshape(own.shape) - uses.gradient[here][:, None]
        straight = own @ uses.hessian[here].swapaxes(1, 2)
        others = self.column[uses.sample[here]][:, None] != np.arange(q)
        self.bent += float(np.sum((difference - straight)[others] ** 2))
        self.straight += float(np.sum(difference[others] ** 2) + ROUNDING**2 * q * np.sum(uses.gradient[here] ** 2))


def _amount(step: Step) -> float:
    """What of a step is in the pushes already: a velocity takes the rate afterwards, Adam everything."""
    if step.scale is not None:
        return 1.0
    return step.gain * (1.0 if step.momentum else step.rate)
