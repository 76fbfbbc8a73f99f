"""Histories from jump to jump, once more by NumPy; see `recomputed`."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ...checks import root
from ...learning.problem import Problem, values_at
from ..gaussian import PIVOT
from ..march import Seen
from ..samples.engines import Engine
from ..samples.histories import History
from ..samples.sample import ahead

Array = np.ndarray
Pairs = dict[str, tuple[Array, Array]]

HISTORIES = 4  # looked at


def of_replicate(group: Any, replicate: int, names: tuple[str, ...]) -> list[Array]:
    """Fields of one replicate; on the CPU without a copy."""
    return [np.asarray(getattr(group, name))[replicate] for name in names]


def _second(a: Array, b: Array, weight: Array) -> Array:
    """`E[a b^T]` of `a (n, i)`, `b (n, j)` with `weight (n,)`."""
    return (a * weight[:, None]).T @ b


class RecomputedHistories:
    """Histories from jump to jump. `m` jumps of one history, `k` rows; a jump's items are its rows."""

    def __init__(self, problem: Problem, engine: Engine, samples: History, seen: Seen, s: int, rng: np.random.Generator):
        self.problem, self.engine, self.seen, self.s, self.samples = problem, engine, seen, s, samples
        past = of_replicate(seen.arrival, s, ("normals", "response", "start", "end", "kick"))
        self.normals, self.response, self.start, self.end, self.kick = past
        drawn = of_replicate(seen.draws, s, ("gstar", "points", "normal", "eta", "cell", "place"))
        self.gstar, self.points, self.normal, self.eta, self.cell, self.place = drawn
        self.node = seen.node + 1
        order = rng.permutation(self.gstar.shape[1])
        jumped = (self.cell[:, order] < self.node).any(0)  # without a jump there is little to carry
        self.chosen = order[np.argsort(~jumped, kind="stable")][:HISTORIES]
        self.rho_root = root(problem.rho)
        self.gain: Any = None  # of an optimiser's filter; None without one
        self.clock: Any = None
        if seen.cell.layer is not None:
            self.gain, self.clock, self.begins = of_replicate(seen.arrival, s, ("gain", "clock", "begins"))
        self.trained = None if seen.numbers is None else seen.numbers[s]
        self.bridges = [(spread @ np.swapaxes(spread, 1, 2))[s] for spread in seen.spreads]

    def pairs(self) -> Pairs:
        histories = [_OneHistory(self, p) for p in self.chosen]
        most = max(len(one.at) for one in histories)
        for j in range(most):  # all histories together, so that the user's functions are called once a jump
            there = [one for one in histories if j < len(one.at)]
            r = np.array([one.arrive(j) for one in there])
            _, l, H = self.values(r, there, self._numbers(j, there))  # noqa: E741
            for one, gradient, second in zip(there, l, H, strict=True):
                one.leave(j, gradient, second)
        ours = np.concatenate([one.kicks for one in histories])
        theirs = np.concatenate([self.kick[: len(one.at), :, one.number] for one in histories])
        risk = float(self._now(histories)[1].mean())  # of all as they are
        last = self.seen.span.epochs if hasattr(self.seen.span, "epochs") else most  # reshuffled: averages are those before the epoch
        return {"the kicks": (ours, theirs), **self._averages([one.until(int(last)) for one in histories], risk)}

    def _now(self, histories: list[_OneHistory]) -> tuple[Array, Array, Array, Array]:
        """`r (histories Q, k)` at the node, the loss there and its derivatives."""
        r = np.concatenate([one.now() for one in histories])
        a = None if self.trained is None else self.trained[self.node]
        return r, *self.values(r, [one for one in histories for _ in range(len(self.points))], a)

    def values(self, r: Array, histories: list[_OneHistory], a: Array | None) -> tuple[Array, Array, Array]:
        which = [one.number for one in histories]
        return values_at(self.problem, r, self.gstar[:, which].T @ self.rho_root, self.samples.noise[which], a)

    def _numbers(self, j: int, histories: list[_OneHistory]) -> Array | None:
        """What is trained along when each history makes jump `j`, `(histories, p)`."""
        if self.trained is None:
            return None
        cells, x = np.array([one.cells[j] for one in histories]), np.array([one.place[j] for one in histories])[:, None]
        return (1.0 - x) * self.trained[cells] + x * self.trained[cells + 1]

    def _averages(self, histories: list[_OneHistory], risk: float) -> Pairs:
        """Of the chosen histories alone, by NumPy and by the program, with their `risk`."""
        q = len(self.points)
        r, _, l, H = self._now(histories)  # noqa: E741
        even = np.full(len(r), 1.0 / len(r))
        g = np.repeat(self.gstar[:, [one.number for one in histories]].T, q, 0)
        ours = {"E[l g*]": _second(l, g, even), "E[l l]": _second(l, l, even), "E[l r]": _second(l, r, even), "E[L]": np.array(risk)}
        names = {"E[l g*]": "l_gstar", "E[l l]": "l_l", "E[l r]": "l_r", "E[L]": "risk", "E[l G]": "l_kicks"}
        each = np.split(l, len(histories)), np.split(H, len(histories))
        kicks = np.zeros((len(self.start), self.problem.k, self.problem.k))
        for one, gradients in zip(histories, each[0], strict=True):
            np.add.at(kicks, one.cells, gradients.mean(0)[:, None] * one.kicks[:, None] / len(histories))
        ours["E[l G]"] = kicks
        if self.gain is not None:
            left = np.array([one.held_now() for one in histories])
            ours["E[l held]"] = np.mean([np.outer(gradients.mean(0), x) for gradients, x in zip(each[0], left, strict=True)], 0)
            names |= {"E[l held]": "l_held"}
        if not self.problem.kinks:
            chi = [one.response_now(np.asarray(self.seen.cell.arrived)[self.s]) for one in histories]
            ours["E[H]"] = H.mean(0)
            ours["E[H chi]"] = np.mean([np.einsum("ab,bxc->xac", h.mean(0), c) for h, c in zip(each[1], chi, strict=True)], 0)
            names |= {"E[H]": "h", "E[H chi]": "h_chi"}
        program: Any = self.engine.program
        weight = np.zeros(np.asarray(self.seen.draws.weight).shape)
        weight[self.s, self.chosen] = 1.0 / len(self.chosen)
        masked = ahead(self.seen.draws._replace(weight=weight), self.seen.cell)
        theirs = jax.device_get(program.once_more(self.seen.arrival, masked, self.seen.cell.arrived, self.node, self.seen.span))
        return {name: (ours[name], getattr(theirs, field)[self.s]) for name, field in names.items()}


class _OneHistory:
    """What has happened to one history by the end of the cell."""

    def __init__(self, all_: RecomputedHistories, number: int):
        self.of, self.number, self.k = all_, number, all_.problem.k
        self.at = np.flatnonzero(all_.cell[:, number] < all_.node)
        self.cells, self.place = all_.cell[self.at, number], all_.place[self.at, number]
        self.rows = self._between(all_.normals)  # (m, k, dims): w at the jumps without the bridge
        self.kicks = np.zeros((len(self.at), self.k))
        self.slopes = np.zeros((len(self.at), self.k, self.k))
        size = len(self.at) * self.k
        self.factor = _factor(self._covariance().reshape(size, size))
        teacher = self.rows[..., : len(all_.gstar)] @ all_.gstar[:, number]
        self.normal = all_.normal[self.at, :, number].reshape(size)
        self.w = teacher + (self.factor @ self.normal).reshape(-1, self.k)
        self.known = len(self.at)

    def _between(self, at_nodes: Array) -> Array:
        """Linear interpolation of what is known at the nodes to the jumps."""
        x = self.place.reshape(-1, *[1] * (at_nodes.ndim - 1))
        return (1.0 - x) * at_nodes[self.cells] + x * at_nodes[self.cells + 1]

    def _covariance(self) -> Array:
        """Of w at the jumps, apart from the teacher, `(m, k, m, k)`."""
        rest = self.rows[..., len(self.of.gstar) :]
        found = np.einsum("iad,jbd->iajb", rest, rest)
        for i, (cell, x) in enumerate(zip(self.cells, self.place, strict=True)):
            for j in np.flatnonzero(self.cells == cell):
                low, high = sorted((x, self.place[j]))
                found[i, :, j] += low * (1.0 - high) * self.of.bridges[cell]
        return found

    def _response(self, row: Array) -> Array:
        """`R(t, .)` at the jumps from its values at the nodes, `(m, k, k)`."""
        return self._between(np.concatenate([row, np.zeros_like(row[:1])]))

    def _response_to(self, j: int) -> Array:
        """`R` at jump `j` to the kicks of the jumps before it, `(j, k, k)`."""
        cell, x, eye = self.cells[j], self.place[j], np.eye(self.k)
        R = self.of.response
        found = (1.0 - x) * self._response(R[cell])[:j] + x * self._response(R[cell + 1])[:j]
        same = self.cells[:j] == cell
        first, last = (eye, eye) if self.of.gain is None else (self.of.gain[cell], self.of.gain[cell + 1])
        late = R[cell + 1, cell]
        found[same] = first + x * (late - first) + self.place[:j][same][:, None, None] * (last - late)
        return found if self.of.gain is None else found - self._layer(self._clock(j), self._gain(j), np.arange(j))

    def _clock(self, j: Any) -> Any:
        return (1.0 - self.place[j]) * self.of.clock[self.cells[j]] + self.place[j] * self.of.clock[self.cells[j] + 1]

    def _gain(self, j: int) -> Array:
        return (1.0 - self.place[j]) * self.of.gain[self.cells[j]] + self.place[j] * self.of.gain[self.cells[j] + 1]

    def _layer(self, clock: float, gain: Array, jumps: Array) -> Array:
        """`g E` of the filter at a time since each of `jumps`, `(jumps, k, k)`."""
        return np.exp(self._clock(jumps) - clock)[:, None, None] * gain

    def _response_here(self) -> Array:
        """`R` at the node to the kicks of all jumps, `(m, k, k)`."""
        of, found = self.of, self._response(self.of.response[self.of.node])
        return found if of.gain is None else found - self._layer(of.clock[of.node], of.gain[of.node], np.arange(len(self.at)))

    def held_now(self) -> Array:
        """What the filter has not passed on at the node, `int E dG (k,)`."""
        return np.exp(self._clock(np.arange(len(self.at))) - self.of.clock[self.of.node]) @ self.kicks

    def _begun(self, clock: float, gain: Array, upto: int) -> Array:
        """What a filter still holds back at a time of kicks at the nodes after the first and up to `upto`, `(k, X, k)`."""
        out = np.zeros((self.k, len(self.of.clock), self.k))
        for node in range(1, upto + 1):
            out[:, node] = self.of.begins * np.exp(self.of.clock[node] - clock) * gain
        return out

    def arrive(self, j: int) -> Array:
        """`r` just before jump `j`, eq. (1)."""
        return self.w[j] - np.einsum("iab,ib->a", self._response_to(j), self.kicks[:j])

    def leave(self, j: int, gradient: Array, second: Array) -> None:
        eta = self.of.eta[self.at[j], self.number]
        self.kicks[j], self.slopes[j] = eta * gradient, eta * second

    def until(self, jumps: int) -> _OneHistory:
        """As if it had only its first jumps."""
        m = min(jumps, len(self.at))
        for name in ("at", "cells", "place", "rows", "kicks", "slopes", "w"):
            setattr(self, name, getattr(self, name)[:m])
        self.factor, self.normal = self.factor[: m * self.k, : m * self.k], self.normal[: m * self.k]
        return self

    def now(self) -> Array:
        """`r (Q, k)` at the node: the points of what is left of w given the jumps."""
        stars, of = len(self.of.gstar), self.of
        here = of.normals[of.node]
        rest = here[:, stars:]
        items = np.einsum("iad,bd->bia", self.rows[..., stars:], rest).reshape(self.k, -1)
        b = _substitute(self.factor, items)
        mean = here[:, :stars] @ of.gstar[:, self.number] + b @ self.normal
        mean = mean - np.einsum("iab,ib->a", self._response_here(), self.kicks)
        left = _factor(rest @ rest.T - b @ b.T, 0.0)
        return mean + of.points[:, :, self.number] @ left.T

    def response_now(self, arrived: Array) -> Array:
        """How each direction moves `r` at the node, `(k, X, k)`: forward from jump to jump."""
        moved: list[Array] = []
        for j in range(len(self.at)):
            x, c = self.place[j], self.cells[j]
            a = (1.0 - x) * self.of.start[c] + x * self.of.end[c]
            if self.of.gain is not None:
                a = a - self._begun(self._clock(j), self._gain(j), c)
            for i, R in enumerate(self._response_to(j)):
                a = a - np.einsum("ab,bxc->axc", R @ self.slopes[i], moved[i])
            moved.append(a)
        if self.of.gain is not None:
            arrived = arrived - self._begun(self.of.clock[self.of.node], self.of.gain[self.of.node], self.of.node)
        for R, slope, a in zip(self._response_here(), self.slopes, moved, strict=True):
            arrived = arrived - np.einsum("ab,bxc->axc", R @ slope, a)
        return arrived


def _factor(matrix: Array, pivot: float = PIVOT) -> Array:
    """Lower-triangular factor; a pivot below that part of its variance counts as zero."""
    factor = np.zeros_like(matrix)
    for a, row in enumerate(matrix):
        for b in range(a):
            if factor[b, b] > 0:
                factor[a, b] = (row[b] - factor[a, :b] @ factor[b, :b]) / factor[b, b]
        left = row[a] - factor[a, :a] @ factor[a, :a]
        factor[a, a] = np.sqrt(left) if left > pivot * row[a] + 1e-300 else 0.0
    return factor


def _substitute(factor: Array, rows: Array) -> Array:
    """Coefficients `b` with `b factor^T = rows`, none on null pivots."""
    b = np.zeros_like(rows)
    for a in range(len(factor)):
        if factor[a, a] > 0:
            b[:, a] = (rows[:, a] - b[:, :a] @ factor[a, :a]) / factor[a, a]
    return b
