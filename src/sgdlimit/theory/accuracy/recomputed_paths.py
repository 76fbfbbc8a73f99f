"""Paths from node to node, once more by NumPy; see `recomputed`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ...checks import root
from ...learning.dynamics import SME
from ...learning.problem import Problem, values_at
from ..march import Seen
from ..samples.engines import Engine
from .recomputed_histories import Pairs, of_replicate

Array = np.ndarray

PATHS = 16  # looked at
SHIFT = 1e-5  # of the differences that stand for the slope of an event


class RecomputedPaths:
    """Paths from node to node; `p` of them last, as in `sample`."""

    def __init__(self, problem: Problem, engine: Engine, samples: Any, seen: Seen, s: int, rng: np.random.Generator):
        self.problem, self.engine, self.seen, self.s, self.samples = problem, engine, seen, s, samples
        self.followed = seen.paths.w.shape[-1] if problem.kinks else seen.arrival.response.shape[-1]  # paths that tell the response
        self.rng, order, earlier = rng, rng.permutation(self.followed), seen.draws.earlier
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

    def values(self, r: Array, which: Any, x: Any = 1.0) -> tuple[Array, Array, Array]:
        """Of `r (k, n)`, paths last, at the places `x` of the cell."""
        a = None
        if self.seen.numbers is not None:
            now, later = self.seen.numbers[self.s, self.seen.node :]
            a = now + np.asarray(x)[..., None] * (later - now)
        loss, l, H = values_at(self.problem, r.T, self.samples.teacher[which] @ self.rho_root, self.samples.noise[which], a)  # noqa: E741
        return loss, l.T, np.moveaxis(H, 0, 2)

    def _taken(self, group: Any, *names: str) -> list[Array]:
        return [part[..., self.chosen] for part in of_replicate(group, self.s, names)]

    def _cell(self) -> Pairs:
        """The chosen paths across the cell."""
        kinks, R = self.problem.kinks, self.cell.response[: self.here + 1]
        w, memory, deposit = self._taken(self.seen.paths, "w", "memory", "deposit")
        arrived = self.cell.normals @ of_replicate(self.seen.draws, self.s, ("gauss",))[0][:, self.chosen]
        later = np.einsum("aij,ajp->ip", R, deposit[: self.here + 1])
        asked, behind, kicks, turns, before = self._asked(), 0.0, [], [], 0.0
        held = 0.0 if self.layer is None else self._taken(self.seen.paths, "held")[0]
        shake, late, later_turn = self._shaken(), 0.0, 0.0
        for x, drift, noise, normal in self._events():
            left = np.maximum(1.0 - behind, 1e-12)
            spread = np.sqrt(np.maximum((x - behind) * (1.0 - x) / left, 0.0))
            w = w + (x - behind) / left * (arrived - w) + spread * (self.cell.spread @ normal)
            behind = x
            r = w - (1.0 - x) * memory - x * later - self._met(kicks, x) + self._left(held, x)
            if shake is not None:
                _, l, H = self.values(r, self.chosen, x)  # noqa: E741
                r = r + self._gain(x, shake[0] * l)
            kick, slope = self._kick(r, drift, noise, x)
            if not kinks:
                chi = (1.0 - x) * asked[0] + x * asked[1] - self._met(turns, x) + self._left(asked[2], x)
                if shake is not None:
                    chi = chi + self._gain(x, shake[0] * np.einsum("ijp,jxcp->ixcp", H, chi))
                    _, l, H = self.values(r, self.chosen, x)  # noqa: E741
                    late, later_turn = shake[1] * l, shake[1] * np.einsum("ijp,jxcp->ixcp", H, chi)
                turns.append((x, np.einsum("ijp,jxcp->ixcp", slope, chi)))
            kicks.append((x, kick))
            before = before + kick
        end = np.ones(len(self.chosen))
        theirs = dict(zip(("w", "memory", "early", "late"), self._taken(self.seen.arrival, "w", "memory", "early", "late"), strict=True))
        found = {
            "w": (arrived, theirs["w"]),
            "the kicks": (before + np.zeros_like(w), theirs["early"] + theirs["late"]),
            "the feedback": (
                later + self._met(kicks, end, True) - self._left(held, end, True) - self._ended(late),
                self._fed(theirs["memory"]),
            ),
        }
        if not kinks:
            found["the turns"] = (
                self._turned(turns, later_turn, asked[2]),
                self._full(self._taken(self.seen.arrival, "response")[0], self._kept()),
            )
        return found

    def _asked(self) -> tuple[Array, Array, Array]:
        """What a turn is the answer to, `(k, x, k, n)` each: a response at the start, at the end and held back."""
        k, parts = self.problem.k, 2 if self.layer is None else 3
        one = np.zeros((3, k, parts, k, len(self.chosen)))
        for part in range(parts):
            one[part, :, part] = np.eye(k)[..., None]
        return one[0], one[1], one[2]

    def _full(self, turn: Array, kept: Array) -> Array:
        """A turn `(o, k, x, k, n)` of both ends and what is held back, also where only that of the middle is stored."""
        k = self.problem.k
        if turn.shape[2] > 1:
            return turn
        seen = [0.5 * np.eye(k), 0.5 * np.eye(k), kept[0]][: len(turn) + 1]
        push, *held = (np.stack([np.einsum("ijn,jm->imn", part[:, 0], one) for one in seen], 1) for part in turn)
        if held:
            held[0][:, 2] += kept[1][..., None]
        return np.stack([0.5 * push, 0.5 * push, *held])

    def _kept(self) -> Array:
        """Of what is held back, what is seen in the middle of the cell and what still is at its end, `(2, k, k)`."""
        k = self.problem.k
        if self.layer is None:
            return np.zeros((2, k, k))
        z = self.layer.clock[1] - self.layer.clock[0]
        return np.stack([self.layer.gain.mean(0) * (-np.expm1(-z) / z), np.exp(-z) * np.eye(k)])

    def _turned(self, pushes: list[tuple[Array, Array]], late: Any, held: Array) -> Array:
        """What comes of it: pushes on the nodes before and after, and what is then held back."""
        after = sum(x * push for x, push in pushes) + np.zeros_like(held)
        before = sum((1.0 - x) * push for x, push in pushes) + np.zeros_like(held)
        if self.layer is None:
            return np.stack([before, after])
        z = self.layer.clock[1] - self.layer.clock[0]
        kept = lambda x: -np.expm1(-z) / z if self.seen.draws.earlier is None else np.exp(-z * (1.0 - x))
        left = np.exp(-z) * held + sum(kept(x) * push for x, push in pushes) + late
        return np.stack([before, after, left])

    def _forwards(self, x: int) -> Array:
        """The response `(k, k, Q)` to direction `x` at the end of the cell, from cell to cell."""
        of, rows, forced, kept = of_replicate(self.seen.paths.response, self.s, ("of", "rows", "forced", "kept"))
        (last,) = of_replicate(self.seen.arrival, self.s, ("response",))
        full = lambda c: self._full(np.moveaxis(of[:, c], 0, -2).reshape(last.shape), kept[c])
        k, q, layer = self.problem.k, self.followed, self.layer
        own = np.eye(k) if layer is None else layer.gain[1]
        pushes, memory, held = np.zeros((self.here + 2, k, k, q)), np.zeros((k, k, q)), np.zeros((k, k, q))
        begins = np.zeros((k, k, 1)) if layer is None else layer.begins * np.eye(k)[..., None]
        if x == 0 and int(self.cell.first) > 0:
            held = held - begins
        for c in range(max(x - 1, 0), self.here + 1):
            now = c == self.here
            row = self.cell.response if now else rows[c + 1]
            start, end = (self.cell.start, self.cell.end) if now else forced[c]
            turn = self._full(last, self._kept()) if now else full(c)
            later = np.einsum("aij,ajmq->imq", row[: c + 1], pushes[: c + 1])
            came = np.stack([start[:, x, :, None] - memory, end[:, x, :, None] - later, held][: len(turn)])
            early, late, *left = np.einsum("oixjq,xjmq->oimq", turn, came)
            pushes[c] += early
            pushes[c + 1] = late
            at_end = own if now else rows[c + 1, c + 1]
            memory = later + np.einsum("ij,jmq->imq", row[c], early) + np.einsum("ij,jmq->imq", at_end, late)
            held = left[0] - begins * (c + 1 == x) if left else held
        chi = self.cell.arrived[:, x, :, None] - memory
        return chi if layer is None else chi + np.einsum("ij,jmq->imq", own, held)

    def _fed(self, memory: Array, all_: bool = False) -> Array:
        """The program's feedback at the end of the cell, of the chosen paths or of all."""
        if self.layer is None:
            return memory
        held_back = of_replicate(self.seen.arrival, self.s, ("held",))[0] if all_ else self._taken(self.seen.arrival, "held")[0]
        return memory - self._gain(1.0, held_back)

    def _gain(self, x: Array | float, held: Array) -> Array:
        """What the filter's layer makes of kicks `held (k, ...)`."""
        first, last = (np.tensordot(gain, held, 1) for gain in self.layer.gain)
        return (1.0 - x) * first + x * last

    def _shaken(self) -> Array | None:
        """Of a diffusion behind a filter: noise of the cell that acts besides its mean effect, `(2, n)`."""
        apart = self.seen.draws.apart
        return None if apart is None else np.asarray(apart)[self.s, self.seen.node][:, self.chosen] * self.layer.apart[:, None]

    def _ended(self, held: Any) -> Array | float:
        """What is held back of it at the end of the cell."""
        return 0.0 if isinstance(held, float) else self._gain(1.0, held)

    def _left(self, held: Any, x: Array, ends: bool = False) -> Array | float:
        """What the filter has not passed on at `x` of kicks before the cell; of those of a flow, which meet it all over the cell, the mean,
        but where it `ends`."""
        if self.layer is None:
            return 0.0
        z = self.layer.clock[1] - self.layer.clock[0]
        spread = self.seen.draws.earlier is None and not ends
        return self._gain(x, (-np.expm1(-z) / z if spread else np.exp(-x * z)) * held)

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
            first, last = g
            smooth = apply(first) + x * apply(self.late - first) + place * apply(last - self.late)
            total = total + smooth - self._gain(x, E * kick)
        return total

    def _events(self) -> list[tuple[Array, Array, Array, Array]]:
        """Place, drift, noise and the bridge's normals of the cell's events; one that a path does not have does nothing."""
        draws, node, n = self.seen.draws, self.seen.node, len(self.chosen)
        where, drift, noise, bridge = of_replicate(draws, self.s, ("where", "drift", "noise", "bridge"))
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

    def _kick(self, r: Array, drift: Array, noise: Array, x: Array) -> tuple[Array, Array]:
        """`G (k, n)` and its derivative `(k, k, n)`, by differences where it is a flow's."""
        if self.seen.draws.earlier is not None:
            _, l, H = self.values(r, self.chosen, x)  # noqa: E741
            return noise * l, noise * H
        k, n = r.shape
        shifts = np.concatenate([np.zeros((k, 1)), SHIFT * np.eye(k), -SHIFT * np.eye(k)], 1)  # (k, 1 + 2k)
        many = (r[:, None] + shifts[:, :, None]).reshape(k, -1)
        repeat = lambda array: np.tile(array, shifts.shape[1])
        moved = many - self._flow(many, repeat(drift), repeat(noise), repeat(self.chosen), repeat(x))
        kick = (moved / self.recoil).reshape(k, -1, n)
        return kick[:, 0], (kick[:, 1 : k + 1] - kick[:, k + 1 :]) / (2.0 * SHIFT)

    def _flow(self, r: Array, drift: Array, noise: Array, which: Array, x: Array) -> Array:
        """The map of a cell's `dm`: of flow by Runge and Kutta, of SME half the drift, the noise, half the drift (Stratonovich)."""

        def down(q: Array) -> Array:
            return -self.recoil * self.values(q, which, x)[1]

        def corrected(q: Array) -> Array:
            _, l, H = self.values(q, which, x)  # noqa: E741
            return -self.recoil * (l + 0.5 * self.seen.step * np.einsum("ijp,jp->ip", H, self.recoil * l))

        if not isinstance(self.engine.dynamics, SME):
            return _runge_kutta(down, r, drift)
        half = lambda q: q + 0.5 * drift * corrected(q + 0.25 * drift * corrected(q))
        return half(_runge_kutta(down, half(r), noise))

    def _averages(self) -> Pairs:
        """Over all paths at the end of the cell."""
        w, memory = of_replicate(self.seen.arrival, self.s, ("w", "memory"))
        kicks = of_replicate(self.seen.paths, self.s, ("kicks",))[0].copy()
        early, late = of_replicate(self.seen.arrival, self.s, ("early", "late"))
        kicks[self.seen.node] = early + late
        r, n = w - self._fed(memory, True), w.shape[1]
        loss, l, H = self.values(r, slice(None))  # noqa: E741
        q = self.followed
        weight = np.ones(n) if self.samples.weight is None else self.samples.weight
        share = weight[:q] / weight[:q].sum()
        mean = lambda a, b: np.tensordot(a * weight, b, (-1, -1)) / n
        after, held = self.seen.after, self._held({"l": l, "r": r, "loss": loss[None]}, weight)
        found = {
            "E[l g*]": (held("l_gstar", "l", "g"), after.l_gstar[self.s]),
            "E[l G]": (np.moveaxis(mean(l, kicks), 0, 1), after.l_kicks[self.s]),
            "E[l l]": (held("l_l", "l", "l"), after.l_l[self.s]),
            "E[l r]": (held("l_r", "l", "r"), after.l_r[self.s]),
            "E[L]": (held("risk", "loss", "one")[0, 0], after.risk[self.s]),
        }
        if self.layer is not None:
            found["E[l held]"] = mean(l, of_replicate(self.seen.arrival, self.s, ("held",))[0]), after.l_held[self.s]
        if self.seen.moments is not None:
            found["E[G G]"] = np.moveaxis(mean(kicks[self.seen.node], kicks), 0, 1), self.seen.moments[self.s]
        if not self.problem.kinks:
            found["E[H]"] = H[..., :q] @ share, after.h[self.s]
            x = int(self.rng.integers(self.here + 2))
            ours = np.einsum("ijp,jmp->im", H[..., :q] * share, self._forwards(x))
            found["E[H chi]"] = ours, after.h_chi[self.s, int(self.cell.first) + x]
        return found

    def _held(self, now: dict[str, Array], weight: Array) -> Callable[[str, str, str], Array]:
        """Means of products of what samples are, by their names, held to what is known of them at the start."""
        always = {"g": self.samples.teacher.T, "one": np.ones((1, len(weight)))}
        now, then, known = now | always, {}, self.samples.known
        if known is not None:
            r = np.asarray(self.seen.paths.start.r)[self.s]
            a = None if self.seen.numbers is None else self.seen.numbers[self.s, 0]
            loss, l, _ = values_at(self.problem, r.T, self.samples.teacher @ self.rho_root, self.samples.noise, a)  # noqa: E741
            then = {"l": l.T, "r": r, "loss": loss[None]} | always

        def mean(name: str, left: str, right: str) -> Array:
            product = now[left][:, None] * now[right]
            found = (product * weight).mean(-1)
            if known is None:
                return found
            first = then[left][:, None] * then[right]
            off = first - (first * weight).mean(-1)[..., None]
            variance = (off * off * weight).mean(-1)
            slope = np.where(variance > 0.0, (off * product * weight).mean(-1) / np.where(variance > 0.0, variance, 1.0), 0.0)
            return found + slope * (getattr(known, name) - (first * weight).mean(-1))

        return mean


def _runge_kutta(field: Callable[[Array], Array], r: Array, h: Array) -> Array:
    a = field(r)
    b = field(r + 0.5 * h * a)
    c = field(r + 0.5 * h * b)
    return r + h / 6.0 * (a + 2.0 * b + 2.0 * c + field(r + h * c))
