"""A handful of samples carried again by plain NumPy, as a witness of the compiled programs.

Only the user's functions are compiled here, in the small program that checked the problem (`problem.values_at`). Everything else
is written out from the equations and not from the programs: of `events` the whole past of some histories, from their draws and the
kernels on, and the averages that the compiled program makes of just these; of `sample` some paths over one cell, and the averages over
all paths at its end. What is returned are pairs of arrays, ours and the program's.

With kinks, responses are differences of whole paths and are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ...checks import root
from ...learning.dynamics import SME
from ...learning.problem import Problem, values_at
from ..gaussian import PIVOT
from ..march import Seen
from ..samples.engines import Engine
from ..samples.histories import History

Array = np.ndarray
Pairs = dict[str, tuple[Array, Array]]

HISTORIES, PATHS = 4, 16  # looked at
SHIFT = 1e-5  # of the differences that stand for the slope of an event
FAR = 1e6  # numbers beyond are on their way to infinity, where rounding is all there is


def again(problem: Problem, engine: Engine, samples: Any, seen: Seen, replicate: int, rng: np.random.Generator) -> Pairs:
    """What NumPy and what the program make of the same samples at the end of a cell, by name. `samples` are the replicate's draws."""
    events = isinstance(samples, History)
    with np.errstate(all="ignore"):
        return (_Events if events else _Paths)(problem, engine, samples, seen, replicate, rng).pairs()


def worst(pairs: Pairs) -> tuple[float, str]:
    """The largest difference relative to the size of its array, and its name."""
    found = [(0.0, "")]
    if all(np.abs(ours).max(initial=0.0) < FAR for ours, _ in pairs.values()):
        for name, (ours, theirs) in pairs.items():
            size, gap = float(np.abs(ours).max(initial=0.0)), float(np.abs(ours - theirs).max(initial=0.0))
            found.append((gap / max(size, 1e-9) if np.isfinite(gap) else np.inf, name))
    return max(found)


def _of(group: Any, replicate: int, names: tuple[str, ...]) -> list[Array]:
    """Fields of one replicate; on the CPU without a copy."""
    return [np.asarray(getattr(group, name))[replicate] for name in names]


def _second(a: Array, b: Array, weight: Array) -> Array:
    """`E[a b^T]` of `a (n, i)`, `b (n, j)` with `weight (n,)`."""
    return (a * weight[:, None]).T @ b


class _Events:
    """Histories from jump to jump. `m` jumps of one history, `k` rows; a jump's items are its rows."""

    def __init__(self, problem: Problem, engine: Engine, samples: History, seen: Seen, s: int, rng: np.random.Generator):
        self.problem, self.engine, self.seen, self.s, self.samples = problem, engine, seen, s, samples
        self.normals, self.response, self.start, self.end, self.kick = _of(seen.arrival, s, ("normals", "response", "start", "end", "kick"))
        self.gstar, self.points, self.normal, self.eta, self.cell, self.place = _of(
            seen.draws, s, ("gstar", "points", "normal", "eta", "cell", "place")
        )
        self.node = seen.node + 1
        order = rng.permutation(self.gstar.shape[1])
        jumped = (self.cell[:, order] < self.node).any(0)  # without a jump there is little to carry
        self.chosen = order[np.argsort(~jumped, kind="stable")][:HISTORIES]
        self.rho_root = root(problem.rho)
        self.gain: Any = None  # of an optimiser's filter; None without one
        self.clock: Any = None
        if seen.cell.layer is not None:
            self.gain, self.clock, self.begins = _of(seen.arrival, s, ("gain", "clock", "begins"))
        self.bridges = [(spread @ np.swapaxes(spread, 1, 2))[s] for spread in seen.spreads]

    def pairs(self) -> Pairs:
        histories = [_OneHistory(self, p) for p in self.chosen]
        most = max(len(one.at) for one in histories)
        for j in range(most):  # all histories together, so that the user's functions are called once a jump
            there = [one for one in histories if j < len(one.at)]
            r = np.array([one.arrive(j) for one in there])
            _, l, H = self.values(r, there)  # noqa: E741
            for one, gradient, second in zip(there, l, H, strict=True):
                one.leave(j, gradient, second)
        ours = np.concatenate([one.kicks for one in histories])
        theirs = np.concatenate([self.kick[: len(one.at), :, one.number] for one in histories])
        last = self.seen.span.epochs if hasattr(self.seen.span, "epochs") else most  # reshuffled: averages are those before the epoch
        return {"the kicks": (ours, theirs), **self._averages([one.until(int(last)) for one in histories])}

    def values(self, r: Array, histories: list[_OneHistory]) -> tuple[Array, Array, Array]:
        which = [one.number for one in histories]
        return values_at(self.problem, r, self.gstar[:, which].T @ self.rho_root, self.samples.noise[which])

    def _averages(self, histories: list[_OneHistory]) -> Pairs:
        """Of the chosen histories alone, by NumPy and by the program."""
        q = len(self.points)
        r = np.concatenate([one.now() for one in histories])  # (histories Q, k)
        loss, l, H = self.values(r, [one for one in histories for _ in range(q)])  # noqa: E741
        even = np.full(len(r), 1.0 / len(r))
        g = np.repeat(self.gstar[:, [one.number for one in histories]].T, q, 0)
        ours = {"E[l g*]": _second(l, g, even), "E[l l]": _second(l, l, even), "E[l r]": _second(l, r, even), "E[L]": np.mean(loss)}
        names = {"E[l g*]": "l_gstar", "E[l l]": "l_l", "E[l r]": "l_r", "E[L]": "risk", "E[l G]": "l_kicks"}
        each = np.split(l, len(histories)), np.split(H, len(histories))
        kicks = np.zeros((len(self.start), self.problem.k, self.problem.k))
        for one, gradients in zip(histories, each[0], strict=True):
            np.add.at(kicks, one.cells, gradients.mean(0)[:, None] * one.kicks[:, None] / len(histories))
        ours["E[l G]"] = kicks
        if not self.problem.kinks:
            chi = [one.response_now(np.asarray(self.seen.cell.arrived)[self.s]) for one in histories]
            ours["E[H]"] = H.mean(0)
            ours["E[H chi]"] = np.mean([np.einsum("ab,bxc->xac", h.mean(0), c) for h, c in zip(each[1], chi, strict=True)], 0)
            names |= {"E[H]": "h", "E[H chi]": "h_chi"}
        program: Any = self.engine.program
        weight = np.zeros(np.asarray(self.seen.draws.weight).shape)
        weight[self.s, self.chosen] = 1.0 / len(self.chosen)
        masked = self.seen.draws._replace(weight=weight)
        theirs = jax.device_get(program.once_more(self.seen.arrival, masked, self.seen.cell.arrived, self.node, self.seen.span))
        return {name: (ours[name], getattr(theirs, field)[self.s]) for name, field in names.items()}


class _OneHistory:
    """What has happened to one history by the end of the cell."""

    def __init__(self, all_: _Events, number: int):
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
        first, last = (eye, eye) if self.of.gain is None else (np.diag(self.of.gain[cell]), np.diag(self.of.gain[cell + 1]))
        late = R[cell + 1, cell]
        found[same] = first + x * (late - first) + self.place[:j][same][:, None, None] * (last - late)
        return found if self.of.gain is None else found - self._layer(self._clock(j), self._gain(j), np.arange(j))

    def _clock(self, j: Any) -> Any:
        return (1.0 - self.place[j]) * self.of.clock[self.cells[j]] + self.place[j] * self.of.clock[self.cells[j] + 1]

    def _gain(self, j: int) -> Array:
        return (1.0 - self.place[j]) * self.of.gain[self.cells[j]] + self.place[j] * self.of.gain[self.cells[j] + 1]

    def _layer(self, clock: float, gain: Array, jumps: Array) -> Array:
        """`g E` of the filter at a time since each of `jumps`, `(jumps, k, k)`."""
        return np.exp(self._clock(jumps) - clock)[:, None, None] * np.diag(gain)

    def _response_here(self) -> Array:
        """`R` at the node to the kicks of all jumps, `(m, k, k)`."""
        of, found = self.of, self._response(self.of.response[self.of.node])
        return found if of.gain is None else found - self._layer(of.clock[of.node], of.gain[of.node], np.arange(len(self.at)))

    def _begun(self, clock: float, gain: Array, upto: int) -> Array:
        """What a filter still holds back at a time of kicks at the nodes after the first and up to `upto`, `(k, X, k)`."""
        out = np.zeros((self.k, len(self.of.clock), self.k))
        for node in range(1, upto + 1):
            out[:, node] = self.of.begins * np.exp(self.of.clock[node] - clock) * np.diag(gain)
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


class _Paths:
    """Paths from node to node; `p` of them last, as in `sample`."""

    def __init__(self, problem: Problem, engine: Engine, samples: Any, seen: Seen, s: int, rng: np.random.Generator):
        self.problem, self.engine, self.seen, self.s, self.samples = problem, engine, seen, s, samples
        self.followed = np.asarray(seen.paths.tangent_memory).shape[-1]  # paths that tell the response
        order, earlier = rng.permutation(self.followed), seen.draws.earlier
        if earlier is not None:  # where nothing happens there is little to carry
            before, after = np.asarray(earlier)[s][seen.node : seen.node + 2, order]
            order = order[np.argsort(after == before, kind="stable")]
        self.chosen = order[:PATHS]
        self.cell = jax.tree.map(lambda part: np.asarray(part)[s], seen.cell)
        self.layer = self.cell.layer
        self.here = seen.node - int(self.cell.first)
        self.rho_root = root(problem.rho)
        self.recoil = np.ones((problem.k, 1)) if self.layer is None else self.layer.recoil[:, None]
        self.late = self.cell.response[self.here]  # R at the cell's end to a kick at its start

    def pairs(self) -> Pairs:
        return {**self._cell(), **self._averages()}

    def values(self, r: Array, which: Any) -> tuple[Array, Array, Array]:
        """Of `r (k, n)`, paths last."""
        loss, l, H = values_at(self.problem, r.T, self.samples.teacher[which] @ self.rho_root, self.samples.noise[which])  # noqa: E741
        return loss, l.T, np.moveaxis(H, 0, 2)

    def _taken(self, group: Any, *names: str) -> list[Array]:
        return [part[..., self.chosen] for part in _of(group, self.s, names)]

    def _cell(self) -> Pairs:
        """The chosen paths across the cell."""
        kinks, R = self.problem.kinks, self.cell.response[: self.here + 1]
        w, memory, deposit = self._taken(self.seen.paths, "w", "memory", "deposit")
        arrived = self.cell.normals @ _of(self.seen.draws, self.s, ("gauss",))[0][:, self.chosen]
        later = np.einsum("aij,ajp->ip", R, deposit[: self.here + 1])
        tangent, tangent_later = np.zeros(0), np.zeros(0)
        if not kinks:
            tangent, pushes = self._taken(self.seen.paths, "tangent_memory", "tangent_deposit")
            tangent_later = np.einsum("aij,ajxcp->ixcp", R, pushes[: self.here + 1])
        behind, kicks, turns, before = 0.0, [], [], 0.0
        held, tangent_held = 0.0, 0.0
        if self.layer is not None:
            held, tangent_held = self._taken(self.seen.paths, "held", "tangent_held")
        shake, late, tangent_late = self._shaken(), 0.0, 0.0
        for x, drift, noise, normal in self._events():
            left = np.maximum(1.0 - behind, 1e-12)
            spread = np.sqrt(np.maximum((x - behind) * (1.0 - x) / left, 0.0))
            w = w + (x - behind) / left * (arrived - w) + spread * (self.cell.spread @ normal)
            behind = x
            r = w - (1.0 - x) * memory - x * later - self._met(kicks, x) + self._left(held, x)
            if shake is not None:
                _, l, H = self.values(r, self.chosen)  # noqa: E741
                r = r + self._gain(x, r) * shake[0] * l
            kick, slope = self._kick(r, drift, noise)
            if not kinks:
                chi = (1.0 - x) * (self.cell.start[..., None] - tangent) + x * (self.cell.end[..., None] - tangent_later)
                chi = chi - self._met(turns, x) + self._left(tangent_held, x)
                if shake is not None:
                    chi = chi + self._gain(x, chi) * shake[0] * np.einsum("ijp,jxcp->ixcp", H, chi)
                    _, l, H = self.values(r, self.chosen)  # noqa: E741
                    late, tangent_late = shake[1] * l, shake[1] * np.einsum("ijp,jxcp->ixcp", H, chi)
                turns.append((x, np.einsum("ijp,jxcp->ixcp", slope, chi)))
            kicks.append((x, kick))
            before = before + kick
        end = np.ones(len(self.chosen))
        theirs = dict(zip(("w", "memory", "early", "late"), self._taken(self.seen.arrival, "w", "memory", "early", "late"), strict=True))
        found = {
            "w": (arrived, theirs["w"]),
            "the kicks": (before + np.zeros_like(w), theirs["early"] + theirs["late"]),
            "the feedback": (
                later + self._met(kicks, end, True) - self._left(held, end) - self._ended(late),
                self._fed(theirs["memory"], "held"),
            ),
        }
        if not kinks:
            ours = self._arrived() - tangent_later - self._met(turns, end, True) + self._left(tangent_held, end) + self._ended(tangent_late)
            theirs = self._fed(self._taken(self.seen.arrival, "tangent_memory")[0], "tangent_held")
            found["the response"] = ours, self.cell.arrived[..., None] - theirs
        return found

    def _arrived(self) -> Array:
        """What moves w at the next node; behind a filter a kick there has not moved anything yet."""
        arrived = self.cell.arrived[..., None].copy()
        if self.layer is not None:
            arrived[:, self.here + 1] -= self.layer.begins * np.diag(self.layer.gain[1])[..., None]
        return arrived

    def _fed(self, memory: Array, held: str, all_: bool = False) -> Array:
        """The program's feedback at the end of the cell, of the chosen paths or of all."""
        if self.layer is None:
            return memory
        held_back = _of(self.seen.arrival, self.s, (held,))[0] if all_ else self._taken(self.seen.arrival, held)[0]
        return memory - self._gain(1.0, held_back) * held_back

    def _gain(self, x: Array | float, like: Array) -> Array:
        first, last = (gain.reshape(-1, *[1] * (like.ndim - 1)) for gain in self.layer.gain)
        return (1.0 - x) * first + x * last

    def _shaken(self) -> Array | None:
        """Of a diffusion behind a filter: noise of the cell that acts besides its mean effect, `(2, n)`."""
        apart = self.seen.draws.apart
        return None if apart is None else np.asarray(apart)[self.s, self.seen.node][:, self.chosen] * self.layer.apart[:, None]

    def _ended(self, held: Any) -> Array | float:
        """What is held back of it at the end of the cell."""
        return 0.0 if isinstance(held, float) else self._gain(1.0, held) * held

    def _left(self, held: Any, x: Array) -> Array | float:
        """What the filter has not passed on at `x` of kicks before the cell."""
        if self.layer is None:
            return 0.0
        return self._gain(x, held) * np.exp(-x * (self.layer.clock[1] - self.layer.clock[0])) * held

    def _met(self, kicks: list[tuple[Array, Array]], x: Array, ends: bool = False) -> Array | float:
        """What the cell's own kicks so far do at the place `x`, or where it `ends`: `R` in the diagonal triangle."""
        if self.layer is None:
            along = lambda kick: np.tensordot(self.late - np.eye(len(self.late)), kick, 1)
            return sum((kick + (x - place) * along(kick) for place, kick in kicks), 0.0)
        g, z, total = self.layer.gain, self.layer.clock[1] - self.layer.clock[0], 0.0
        spread = ends and self.seen.draws.earlier is None  # kicks of a flow come all over the cell
        for place, kick in kicks:
            E = -np.expm1(-z) / z if spread else np.exp(-z * (x - place))
            apply = lambda matrix, kick=kick: np.tensordot(matrix, kick, 1)
            first, last = np.diag(g[0]), np.diag(g[1])
            smooth = apply(first) + x * apply(self.late - first) + place * apply(last - self.late)
            total = total + smooth - self._gain(x, kick) * E * kick
        return total

    def _events(self) -> list[tuple[Array, Array, Array, Array]]:
        """Place, drift, noise and the bridge's normals of the cell's events; one that a path does not have does nothing."""
        draws, node, n = self.seen.draws, self.seen.node, len(self.chosen)
        where, drift, noise, bridge = _of(draws, self.s, ("where", "drift", "noise", "bridge"))
        if draws.earlier is None:
            one = (array[node][..., self.chosen] for array in (where, noise, bridge))
            place, size, normal = one
            return [(place, np.broadcast_to(drift[node], n), size, normal)]
        first, last = np.asarray(draws.earlier)[self.s][node : node + 2][:, self.chosen]
        events = []
        for slot in range(int((last - first).max(initial=0))):
            there, number = first + slot < last, np.minimum(first + slot, len(where) - 1)
            place, size = (np.where(there, array[number, self.chosen], none) for array, none in ((where, 1.0), (noise, 0.0)))
            events.append((place, np.zeros(n), size, bridge[number, :, self.chosen].T))
        return events

    def _kick(self, r: Array, drift: Array, noise: Array) -> tuple[Array, Array]:
        """`G (k, n)` and its derivative `(k, k, n)`, by differences where it is a flow's."""
        if self.seen.draws.earlier is not None:
            _, l, H = self.values(r, self.chosen)  # noqa: E741
            return noise * l, noise * H
        k, n = r.shape
        shifts = np.concatenate([np.zeros((k, 1)), SHIFT * np.eye(k), -SHIFT * np.eye(k)], 1)  # (k, 1 + 2k)
        many = (r[:, None] + shifts[:, :, None]).reshape(k, -1)
        repeat = lambda array: np.tile(array, shifts.shape[1])
        moved = many - self._flow(many, repeat(drift), repeat(noise), repeat(self.chosen))
        kick = (moved / self.recoil).reshape(k, -1, n)
        return kick[:, 0], (kick[:, 1 : k + 1] - kick[:, k + 1 :]) / (2.0 * SHIFT)

    def _flow(self, r: Array, drift: Array, noise: Array, which: Array) -> Array:
        """The map of a cell's `dm`: of flow by Runge and Kutta, of SME half the drift, the noise, half the drift (Stratonovich)."""

        def down(q: Array) -> Array:
            return -self.recoil * self.values(q, which)[1]

        def corrected(q: Array) -> Array:
            _, l, H = self.values(q, which)  # noqa: E741
            return -self.recoil * (l + 0.5 * self.seen.step * np.einsum("ijp,jp->ip", H, self.recoil * l))

        if not isinstance(self.engine.dynamics, SME):
            return _runge_kutta(down, r, drift)
        half = lambda q: q + 0.5 * drift * corrected(q + 0.25 * drift * corrected(q))
        return half(_runge_kutta(down, half(r), noise))

    def _averages(self) -> Pairs:
        """Over all paths at the end of the cell."""
        w, memory = _of(self.seen.arrival, self.s, ("w", "memory"))
        kicks = _of(self.seen.paths, self.s, ("kicks",))[0].copy()
        early, late = _of(self.seen.arrival, self.s, ("early", "late"))
        kicks[self.seen.node] = early + late
        r, n = w - self._fed(memory, "held", True), w.shape[1]
        loss, l, H = self.values(r, slice(None))  # noqa: E741
        mean = lambda a, b: np.tensordot(a, b, (-1, -1)) / n
        g, after, q = self.samples.teacher.T, self.seen.after, self.followed
        found = {
            "E[l g*]": (mean(l, g), after.l_gstar[self.s]),
            "E[l G]": (np.moveaxis(mean(l, kicks), 0, 1), after.l_kicks[self.s]),
            "E[l l]": (mean(l, l), after.l_l[self.s]),
            "E[l r]": (mean(l, r), after.l_r[self.s]),
            "E[L]": (loss.mean(), after.risk[self.s]),
        }
        if self.seen.moments is not None:
            found["E[G G]"] = np.moveaxis(mean(kicks[self.seen.node], kicks), 0, 1), self.seen.moments[self.s]
        if not self.problem.kinks:
            memory = _of(self.seen.arrival, self.s, ("tangent_memory",))[0]
            chi = self.cell.arrived[..., None] - self._fed(memory, "tangent_held", True)
            first = int(self.cell.first)
            theirs = after.h_chi[self.s, first : first + chi.shape[1]]
            found["E[H]"] = H[..., :q].mean(-1), after.h[self.s]
            found["E[H chi]"] = (np.einsum("ijp,jxcp->xic", H[..., :q], chi) / q)[: len(theirs)], theirs
        return found


def _runge_kutta(field: Callable[[Array], Array], r: Array, h: Array) -> Array:
    a = field(r)
    b = field(r + 0.5 * h * a)
    c = field(r + 0.5 * h * b)
    return r + h / 6.0 * (a + 2.0 * b + 2.0 * c + field(r + h * c))
