"""Coordinates under a ridge behind an optimiser's filter: eq. (2) with `dV = (dF - V dt) / tau`, `dTheta = g V dt - w Theta dt`.

As in `coordinates` everything is linear, `theta_t = M_t g* + P(t) xi + int R(t,s) dU_s`, but the response `P` to the start, which has no
velocity, is not the response `R(t,0)` to a kick at zero. The force on each of them is

    f = -lam theta - E[l_t g*^T],    -lam P - E[H_t chi_t[P]],    -lam R - E[H_t chi_t[R(., s)]].

It is taken to be linear over a cell, and the filter then is followed exactly, so a memory may be as short as one likes. For `R = S - b E`
(see `filters`) the force has a part `(lam + Gamma) b E(t - s)` that is not: the filter answers it with `p(t) E(t - s)`, where `p' =
(lam + Gamma) b / tau`, which leaves

    V = (1/tau + p) E + y,    tau y' = -y - lam S - (E[H chi] + Gamma b E),    S' = g y - w S + (g p + b' + w b - (b - g) / tau) E.

Since a kick of the force that comes a moment later differs by a small displacement, `g P(t,s) = R - tau dR/ds`: `P` takes the place of the
direction at time zero, and `R(t,0)` follows from it.
"""

from __future__ import annotations

import numpy as np

from ...learning.problem import Problem
from ..averages import Averages, Layer
from ..gaussian import psd_factor, rescaling
from .balance import Balance, Pushed
from .coordinates import FORGOTTEN, RidgeCoordinates
from .exponentials import first_moment, mean_decay
from .filters import Filter


class FilteredCoordinates(RidgeCoordinates):
    """`RidgeCoordinates` behind a filter.

    Attributes:
        R: the smooth part `S` of the response, `(S, N + 1, N + 1, k, k)`.
        P: response to the start, `(S, N + 1, k, k)`.
        y, p: velocities of the present node and of the next one, see above; their columns are the teacher's, the start's, and of each node.
    """

    def __init__(self, problem: Problem, replicates: int, cells: int, balanced: bool, filter: Filter, smooth: bool, warmth: float = 0.0):
        """`balanced` as in `RidgeCoordinates`; noise that is `smooth` has no independent increments."""
        super().__init__(problem, replicates, cells, balanced, warmth)
        k = problem.k
        self.filter, self.smooth = filter, smooth
        self.balance = Balance(problem.self_overlap_start, replicates, cells, self.ridge, filter)
        self.P = np.zeros((replicates, cells + 1, k, k))
        self.P[:, 0] = np.eye(k)
        velocities = lambda columns: np.zeros((cells + 1, replicates, columns, k, k))
        self.y, self.p = velocities(cells + 1), velocities(cells + 1)  # of the start (column 0) and of kicks
        self.taught = np.zeros((cells + 1, replicates, k, problem.k_star))  # velocity of M
        self.white_root = np.zeros((replicates, cells, k, k))  # of the noise of each cell, were it white
        self.laid = np.zeros((replicates, cells + 1 if balanced else 0, k, k + 2 * cells * k))  # the normals of w, without the teacher's
        self.node = 0

    def normals(self, node: int) -> np.ndarray:
        """theta at a node in independent standard normals `(g*, xi, a k-vector per cell, another one)`: `(S, k, k_star + k + 2 N k)`. The
        last ones are of how unevenly the filter has passed on a cell's noise."""
        held = self._layer(node)[:, None]
        lead = self.filter.lead[:, node, None]
        missed = (self.filter.missed(node, self.smooth) if node else np.zeros(0))[:, None, None]
        uneven, slanted = (
            (part(node) if not self.smooth else np.zeros(node))[:, None, None] for part in (self.filter.uneven, self.filter.slanted)
        )
        teacher = self.M[:, node]
        rest = self._parts(node, self.P[:, node], self.R[:, node], -missed * lead, -uneven * lead, slanted)
        if not self.balanced:
            return np.concatenate([teacher, rest], 2)
        moving = self._parts(node, self.y[node][:, 0], self._velocities(node), missed * held, uneven * held, slanted)
        balance, gram = self.balance.q[:, node] - teacher @ np.swapaxes(teacher, 1, 2), rest @ np.swapaxes(rest, 1, 2)
        self.gaps[:, node] = gram - balance
        if node:
            scale = rescaling(gram, balance)
            rest, moving = scale @ rest, scale @ moving
        self.moving = np.concatenate([self.taught[node], moving], 2)
        self.laid[:, node] = rest
        return np.concatenate([teacher, rest], 2)

    def _parts(
        self, node: int, start: np.ndarray, response: np.ndarray, layer: np.ndarray, uneven: np.ndarray, slanted: np.ndarray
    ) -> np.ndarray:
        """What a start and responses `(S, n, k, k)`, with `layer` more in the mean over a cell and `uneven` in it, make of the normals.
        What is `slanted` of a response between nodes is uneven, too."""
        replicates, k = self.R.shape[0], self.R.shape[-1]
        noise = np.zeros((replicates, k, 2, self.cells * k))
        if node:
            met = 0.5 * (response[:, :node] + response[:, 1 : node + 1]) + layer
            factor = self.noise.factor[:, :node, :, :node].reshape(replicates, node * k, node * k)
            uneven = uneven + slanted * (response[:, 1 : node + 1] - response[:, :node])
            noise[:, :, 0, : node * k] = np.swapaxes(met, 1, 2).reshape(replicates, k, node * k) @ factor
            noise[:, :, 1, : node * k] = np.swapaxes(uneven @ self.white_root[:, :node], 1, 2).reshape(replicates, k, node * k)
        return np.concatenate([start @ self.spread, noise.reshape(replicates, k, -1)], 2)

    def _velocities(self, node: int) -> np.ndarray:
        """Responses of V at a node to kicks at nodes, without the `_layer` of each times `E`, `(S, node + 1, k, k)`."""
        held = self.filter.held(node) * self.filter.correction(node)
        V = self.y[node][:, : node + 1] + self.p[node][:, : node + 1] * held[:, None, None]
        if node:
            first = self.filter.clock[1]
            V[:, 0] = np.exp(-first) * V[:, 1] - np.expm1(-first) * self.y[node][:, 0] * self.filter.gain[:, :2].mean(1)[:, None, :]
        return V - self.filter.back[:, node, None] * self.filter.held(node)[:, None, None]

    def _layer(self, node: int) -> np.ndarray:
        """What a kick makes of V at first, `(S, k, k)`, but for a part that lines between nodes meet well, as with `Filter.lead`."""
        return self.filter.back[:, node] + self.filter.correction(node) / self.filter.memory * np.eye(self.R.shape[-1])

    def _pushed(self, node: int, step: float, averages: Averages, moving: np.ndarray) -> Pushed:
        """Averages for the balance; `moving` is V of a training sample, but for what its own kicks did, in the normals behind w."""
        noise = step * averages.l_l + self.warmth
        if averages.l_w is None:
            l_v = averages.l_normals @ np.swapaxes(moving, 1, 2)
        else:
            l_v = self._by_parts(node, noise, averages, moving)
        if node:
            V = self._velocities(node)
            l_v = l_v - np.einsum("scij,sclj->sil", averages.l_kicks[:, :node], 0.5 * (V[:, :node] + V[:, 1:]))
            # Within a memory l itself returns from a kick: a cell's mean kick would not do.
            l_v = l_v - averages.l_held @ np.swapaxes(self._layer(node), 1, 2)
        return Pushed(averages.l_r, l_v, noise)

    def _by_parts(self, node: int, noise: np.ndarray, averages: Averages, moving: np.ndarray) -> np.ndarray:
        """`E[l v^T]` for V in the normals behind w: `E[dl / dw_s]` times the covariance of `w_s` with V. Noise of this rate leaves a brief
        part of it, `tau b noise layer^T E / 2`, which lines between nodes would not meet."""
        stars = averages.l_gstar.shape[-1]
        l_v = averages.l_gstar @ np.swapaxes(moving[..., :stars], 1, 2)
        l_v = l_v + np.einsum("snia,snad,sjd->sij", averages.l_w, self.laid, moving[..., stars:], optimize=True)
        brief = averages.l_w_late - np.einsum("snij,n->sij", averages.l_w[:, : node + 1], self.filter.held(node))
        both = self.filter.lead[:, node] @ noise @ np.swapaxes(self._layer(node), 1, 2)
        return l_v + 0.5 * self.filter.memory * brief @ both

    def advance(self, node: int, spacing: float, step: np.ndarray, before: Averages, after: Averages, row: np.ndarray) -> None:
        self.node = node
        self.add_noise(node, row)  # first: velocities are read off the noise, and what moves fast is as good as they are
        self.filter.follow(node, step, before.l_l, after.l_l)
        white = 0.5 * spacing * (step[0] * before.l_l + step[1] * after.l_l) + spacing * self.warmth
        self.white_root[:, node] = psd_factor(white)
        tau, w, lam, k = self.filter.memory, self.filter.decay, self.ridge, self.R.shape[-1]
        answer, z = self.filter.answer(node), spacing / tau
        gain = self.filter.gain[:, node : node + 2]
        if not node:
            self.filter.lay(0, lam * np.eye(k) + before.h)
            self.R[:, 0, 0] = self.filter.lead[:, 0]
        self.filter.lay(node + 1, lam * np.eye(k) + after.h)
        middle = gain.mean(1)  # (S, k)

        def forward(now, y, force0, force1, more=0.0):
            """`now` and its velocity at the next node; forces without the ridge, with the sign of a loss."""
            g = middle.reshape(len(middle), *[1] * (now.ndim - 3), k, 1)
            pull = lam * now + force0
            flown = answer.begun * y - answer.first * pull - answer.last * force1
            then = ((1.0 - 0.5 * spacing * w) * now + g * flown + more) / (1.0 + 0.5 * spacing * w + g * lam * answer.last)
            return then, answer.forgot * y - answer.early * pull - answer.late * (lam * then + force1)

        self.M[:, node + 1], self.taught[node + 1] = forward(self.M[:, node], self.taught[node], before.l_gstar, after.l_gstar)
        self.P[:, node + 1], self.y[node + 1][:, 0] = forward(self.P[:, node], self.y[node][:, 0], before.h_chi[:, 0], after.h_chi[:, 0])
        now = slice(1, node + 1)
        E = self.filter.held(node)[now]
        lead, bend = self.filter.lead[:, node : node + 2], self.filter.bend[:, node : node + 2]  # (S, 2, k, k)
        local = lambda at, b, E: at.h_chi[:, now] + (at.h @ b)[:, None] * E[:, None, None]
        force0 = local(before, lead[:, 0], E)
        # The first pass takes the averages to stand still, which the smooth part does.
        force1 = force0 if after is before else local(after, lead[:, 1], np.exp(-z) * E)
        resting = lam * np.eye(k) + 0.5 * (before.h + after.h)
        self.p[node + 1][:, now] = self.p[node][:, now] + z * (resting @ lead.mean(1))[:, None]
        steady = w * lead + ((lead[:, 1] - lead[:, 0]) / spacing)[:, None] - bend
        m0, m1 = (scaled(gain[:, i] * self.filter.correction(node + i), self.p[node + i][:, now]) + steady[:, i : i + 1] for i in range(2))
        more = (tau * E)[:, None, None] * (m0 * -np.expm1(-z) + (m1 - m0) * z * first_moment(z))
        more = more + (E * self.filter.rushed(node))[:, None, None] * lead.mean(1)[:, None]
        late, last = self._echo(node, after) if node and after is not before else (0.0, 0.0)
        if node:
            more[:, -1] += middle[:, :, None] * last
        self.R[:, node + 1, now], self.y[node + 1][:, now] = forward(self.R[:, node, now], self.y[node][:, now], force0, force1, more)
        if node:
            self.y[node + 1][:, node] += late
        self.R[:, node + 1, node + 1] = lead[:, 1]
        self.R[:, node + 1, 0] = self._from_start(node + 1)
        if self.balanced:
            self._balance(node, spacing, step, before, after)
        self.R[:, node + 1, : self.first] = 0.0
        if self.first:
            self.P[:, node + 1] = 0.0

    def _echo(self, node: int, after: Averages) -> tuple[np.ndarray, np.ndarray]:
        """What samples return of a kick at the start of cell `node` does not grow linearly over it: what that leaves of the velocity, and
        of how far it moves, for a gain of one, `(S, k, k)` each."""
        late, last = self.filter.echoed(node)
        R = self.R[:, node + 1, node] - self.filter.held(node + 1)[node] * self.filter.lead[:, node + 1]
        returned = after.h_chi[:, node] - after.h @ R
        return late * returned, last * returned

    def _balance(self, node: int, spacing: float, step: np.ndarray, before: Averages, after: Averages) -> None:
        if after is before:
            self.begun = ended = self._pushed(node, step[0], before, self.moving)
        else:
            self.normals(node + 1)  # velocities as they are now: those of the first pass answer another force
            ended = self._pushed(node + 1, step[1], after, self.moving)
        self.balance.advance(node, spacing, self.begun, ended)

    def _from_start(self, node: int) -> np.ndarray:
        """S(node, 0) from the response to the start, and that to a kick at the next node."""
        E, first = self.filter.held(node), self.filter.clock[1]
        lead = self.filter.lead[:, node]
        moved = self.P[:, node] * self.filter.gain[:, :2].mean(1)[:, None, :]  # of a kick's own time: the columns
        later = self.R[:, node, 1] - lead * E[1]
        if self.filter.corrected:  # infinite at zero: what has the right mean over the first cell
            return 2.0 * (mean_decay(first) * later + moved + self.filter.missed(node, smooth=True)[0] * lead) - self.R[:, node, 1]
        return np.exp(-first) * later - np.expm1(-first) * moved + lead * E[0]

    def directions(self) -> np.ndarray:
        return self._seen(0)

    def forget(self, node: int) -> int:
        acts = (np.abs(self.R[:, node, : node + 1]) > FORGOTTEN).any((0, 2, 3)) | (self.filter.held(node) > FORGOTTEN)
        acts[0] |= (np.abs(self.P[:, node]) > FORGOTTEN).any()
        acts |= (self.filter.memory * np.abs(self.y[node][:, : node + 1]) > FORGOTTEN).any((0, 2, 3))
        self.first = max(self.first, int(np.argmax(acts)))
        return self.first

    def forcing(self, node: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As in `RidgeCoordinates`, of the smooth parts; the direction at time zero is that of the start."""
        start, arrived = self._seen(node), self._seen(node + 1)
        end = arrived.copy()
        end[:, :, node + 1] = 0.0
        return start, end, arrived

    def _seen(self, node: int) -> np.ndarray:
        seen = np.moveaxis(self.R[:, node], 1, 2).copy()
        if not self.first:
            seen[:, :, 0] = self.P[:, node]
        return seen

    def bridge(self, spacing: float, gamma: np.ndarray, rate: np.ndarray) -> np.ndarray:
        return (rate + self.warmth) * self.filter.roughness(self.node)

    def kernel(self, nodes: int) -> np.ndarray:
        return self.filter.smooth(super().kernel(nodes), self.P * self.filter.gain[:, 0, None, None, :])

    def layer(self, node: int) -> Layer | None:
        return self.filter.layer(node)


def scaled(gain: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """`diag(gain) matrices`, `gain (S, k)`, `matrices (S, X, k, k)`."""
    return gain[:, None, :, None] * matrices
