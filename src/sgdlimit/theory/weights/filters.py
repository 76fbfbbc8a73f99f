"""What an optimiser makes of the force: a filter with a memory, and a gain (OPTIMISERS section 1; beyond the paper).

    dV = (dF - V dt) / tau        dTheta = g(t) V dt - w Theta dt

Only coordinates see it. A kick of the force at `s` reaches theta as `R(t,s)`, which is zero at `t = s` and rises within the memory, however
short that is against a cell. So the response is carried as

    R(t,s) = S(t,s) - b(t) E(t - s),      E(t) = exp(-t / tau),

with a part `S` that is as smooth as the response without memory, `S(t,t) = b(t)`, and one that is known exactly. A sample needs one more
number for the second, `int E dG`. As `tau` goes to zero `b` is the gain, all that is left is `S`, and every formula is the one of plain
training. Any `b` is exact at the nodes; what it decides is how well `S` is interpolated between them. While a kick is being passed on,
theta already returns at the rate `A = lam + Gamma`: `R = g (1 - E) - g A g (t - 2 tau + (2 tau + t) E)` to first order in it. With
`b = g + 2 tau g A g` all of it that is not brief is a line down to the diagonal, and errors are of second order in the cell whatever the
memory; `b = g` leaves one of `tau` times the cell. Likewise for the velocity, which a kick turns by `-A g` within a memory.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ...learning.dynamics import Dynamics
from ...learning.spectrum import Spectrum
from ..averages import Layer
from .exponentials import (
    CLOSED,
    POINTS,
    WEIGHTS,
    echo,
    first_moment,
    fluctuations,
    late_share,
    mean_decay,
    powers_met,
    recoil,
    slant,
    unevenness,
)

SHORTEST = 1e-9  # part of a cell below which a memory is none: exponents must stay finite
SETTLED = 20.0  # memories after which the correction of a velocity for its start is none to rounding of a part in 1e9
FADED = 8.0  # memories after which a kick has passed on all it does


class Answer(NamedTuple):
    """What the filter makes over a cell of a velocity `v0` at its start and of a force linear from `f0` to `f1`: the velocity at its end
    `forgot v0 + early f0 + late f1`, and what that moves over the cell, `begun v0 + first f0 + last f1`."""

    forgot: float
    early: float
    late: float
    begun: float
    first: float
    last: float


class Reply(NamedTuple):
    """`Answer` to a force that is a polynomial in the part `x` of the time crossed: the velocity then is `forgot v0 + then @ c`, and what
    that moves `begun v0 + moved @ c`, for a force `c[0] + c[1] x + c[2] x^2`."""

    forgot: float
    begun: float
    then: np.ndarray  # (3,)
    moved: np.ndarray  # (3,)


class Passed(NamedTuple):
    """What the filter makes over a cell of an increment spread over it, and of how unevenly the increment was, both of one: how far they
    move, and the velocity at the end."""

    moved: tuple[float, float]
    velocity: tuple[float, float]


class Filter:
    """The filter and gain of one march; the gain follows the averages. With a `spectrum` Adam has a gain for each of its eigenvalues, whose
    features have a squared gradient of their own; a sample meets their mean.

    Adam's velocity is divided by `1 - E(t)`, to correct for its start. The quotient is a velocity as well, whose memory `tau (1 - E(t))`
    grows from zero: so the gain stays regular, and all that is singular is how much the first kicks move.

    Attributes:
        memory: tau.
        decay: w, the decoupled decay.
        gain: `(S, N + 1, k)` at the nodes reached, as a sample meets it.
        each: of every eigenvalue, `(S, m, N + 1, k)`; `m = 1` where they are alike.
        lead: `b (S, N + 1, k, k)` there.
        back: `A g`, and bend: `2 g A g`, as far as they are of use.
        clock: nodes in units of the memory.
        corrected: whether the velocity is corrected for its start.
        settled: the first node from which on that makes no difference.
    """

    def __init__(self, dynamics: Dynamics, nodes: np.ndarray, replicates: int, k: int, cells: int, spectrum: Spectrum | None = None):
        optimizer = dynamics.optimizer
        assert optimizer is not None
        self.nodes = nodes
        self.memory = max(optimizer.memory, SHORTEST * float(nodes[1] - nodes[0]))
        self.clock = nodes / self.memory
        self.gains, self.warmth = optimizer.gains, 2.0 * dynamics.temperature
        self.corrected = optimizer.gains and optimizer.memory > 0.0
        self.settled = int(np.searchsorted(self.clock, SETTLED)) if self.corrected else 0
        self.decay, self.second, self.small = (getattr(optimizer, name, 0.0) for name in ("decay", "second_memory", "eps"))
        apart = spectrum if optimizer.gains else None
        self.eigenvalues = np.ones(1) if apart is None else apart.eigenvalues
        self.share = np.ones(1) if apart is None else apart.weights * apart.eigenvalues
        self.each = np.ones((replicates, len(self.share), cells + 1, k))
        self.gain = np.ones((replicates, cells + 1, k))
        self.lead = self.gain[..., None] * np.eye(k)
        self.back, self.bend = np.zeros_like(self.lead), np.zeros_like(self.lead)
        self.square = np.zeros_like(self.each)  # the mean squared gradient, before the correction for its start

    def follow(self, node: int, step: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
        """Gains at both ends of cell `node`, from `E[l l^T] (S, k, k)` and the `step (2,)` there. White noise is part of the gradients,
        and the same for all features."""
        if self.gains:
            sizes = [self.eigenvalues[:, None] * np.einsum("sii->si", at)[:, None] for at in (before, after)]
            self.meet(node, [size + self.warmth / eta for size, eta in zip(sizes, step, strict=True)])

    def meet(self, node: int, square: list[np.ndarray]) -> None:
        """`follow`, from the mean squared gradients `(S, m, k)` at both ends of the cell."""
        if not self.gains:
            return
        if node == 0:
            self._set_gain(0, square[0])
        h, end = self.nodes[node + 1] - self.nodes[node], self.nodes[node + 1]
        if self.second == math.inf:  # a plain mean: the sum so far
            self.square[:, :, node + 1] = self.square[:, :, node] + 0.5 * h * (square[0] + square[1])
            mean = self.square[:, :, node + 1] / end
        elif self.second:
            z = h / self.second
            filled = math.exp(-z) * self.square[:, :, node] + (-math.expm1(-z) - late_share(z)) * square[0] + late_share(z) * square[1]
            self.square[:, :, node + 1] = filled
            mean = filled / -math.expm1(-end / self.second)
        else:
            mean = square[1]
        self._set_gain(node + 1, mean)

    def lay(self, node: int, rate: np.ndarray) -> None:
        """`b` at a node, where theta returns at the `rate (S, k, k)`. A memory that lasts longer than this is well resolved, and one that
        is corrected for its start is another one at each time."""
        gain = self.gain[:, node, :, None] * np.eye(rate.shape[-1])
        if not self.corrected:
            back = rate @ gain
            long = self.memory * np.linalg.norm(back, 2, axis=(1, 2))[:, None, None]
            self.back[:, node] = back / (1.0 + long**2)
            self.bend[:, node] = 2.0 * gain @ back / (1.0 + 4.0 * long**2)
        self.lead[:, node] = gain + self.memory * self.bend[:, node]

    def _set_gain(self, node: int, square: np.ndarray) -> None:
        with np.errstate(divide="ignore"):
            self.each[:, :, node] = 1.0 / (np.sqrt(np.maximum(square, 0.0)) + self.small)
        self.gain[:, node] = np.einsum("m,smi->si", self.share, self.each[:, :, node])

    def correction(self, node: int) -> float:
        """`1 / (1 - E)` of the velocity at a node after the first."""
        return -1.0 / math.expm1(-self.clock[node]) if self.corrected and node else 1.0

    def answer(self, node: int) -> Answer:
        """Over cell `node`."""
        h = self.nodes[node + 1] - self.nodes[node]
        z = h / self.memory
        late = late_share(z)
        if not self._starting(node):
            fresh, last = -math.expm1(-z), 0.5 * h - self.memory * late
            first = 0.5 * h - self.memory * (fresh - late)
            return Answer(1.0 - fresh, fresh - late, late, self.memory * fresh, first, last)
        # The memory grows like tau (1 - E(t)): what is kept from s to t is (e^s - 1) / (e^t - 1), in units of tau.
        a, b = float(self.clock[node]), float(self.clock[node + 1])
        forgot = math.exp(-z) * math.expm1(-a) / math.expm1(-b)
        lag = lambda at: (1.0 - np.exp(a - at) - (at - a) * np.exp(-at)) / -np.expm1(-at)  # int of what is kept, up to there
        late = 1.0 - float(lag(b)) / z
        begun = self.memory * math.expm1(a) * self._log(a, b) if a else 0.0
        last = 0.5 * h - h * float(WEIGHTS @ lag(a + z * POINTS)) / z
        return Answer(forgot, 1.0 - forgot - late, late, begun, h - begun - last, last)

    def echoed(self, node: int) -> tuple[float, float]:
        """How much later than a force that grows linearly over cell `node` one acts that grows like `echo`, to the same value: what
        `Answer.late` and `Answer.last` have in excess of it."""
        z = float(self.clock[node + 1] - self.clock[node])
        if self._starting(node):
            return 0.0, 0.0
        late, last = echo(z)
        return late_share(z) - late, 0.5 * (self.nodes[node + 1] - self.nodes[node]) - self.memory * (late_share(z) + last)

    def reply(self, start: float, end: float) -> Reply:
        """Between any two times."""
        h, a, b = end - start, start / self.memory, end / self.memory
        z = b - a
        then = powers_met(z)
        moved = h * (
            1.0 / np.arange(1.0, 4.0) - then / z
            if z > CLOSED
            else WEIGHTS * POINTS ** np.arange(3)[:, None] @ -np.expm1(z * (POINTS - 1.0))
        )
        forgot, begun = math.exp(-z), h * mean_decay(z)
        if not self.corrected or a >= SETTLED:
            return Reply(forgot, begun, then, moved)
        forgot *= math.expm1(-a) / math.expm1(-b)
        begun = self.memory * math.expm1(a) * self._log(a, b) if a else 0.0
        near = min(1.0, SETTLED / z)  # beyond which the correction is none
        for low, high in ((0.0, 0.2 * near), (0.2 * near, near)):
            x = low + (high - low) * POINTS
            weight = h * (high - low) * WEIGHTS / np.expm1(a + z * x)
            moved = moved + np.array([weight @ (x**n * powers_met(z * x)[n]) for n in range(3)])
        return Reply(forgot, begun, then / -math.expm1(-b), moved)

    def passed(self, node: int, smooth: bool) -> Passed:
        """Over cell `node`. How far a kick moves and what velocity it leaves depend on when in the cell it comes; noise of independent
        increments fluctuates with both. Smooth noise meets their means."""
        z = float(self.clock[node + 1] - self.clock[node])
        rate = self.correction(node + 1) / self.memory
        held, uneven = mean_decay(z), 0.0 if smooth else math.sqrt(unevenness(z))
        if not self._starting(node):
            return Passed((1.0 - held, -uneven), (rate * held, rate * uneven))
        mean, square, both = self._free(node, node + 1)
        if smooth:
            return Passed((mean, 0.0), (rate * held, 0.0))
        along = (both - mean * held) / uneven
        return Passed((math.sqrt(max(square - along**2, 0.0)), along), (rate * held, rate * uneven))

    def from_start(self, node: int, later: np.ndarray, moved: np.ndarray, gain: np.ndarray) -> np.ndarray:
        """`R(node, 0)` from that of a kick at the next node and from what a displacement at zero by its gain has `moved`; `gain` is that of
        the layer."""
        first = float(self.clock[1])
        if not self.corrected:
            return np.exp(-first) * later - np.expm1(-first) * moved
        # Infinite: what has the right mean over the first cell.
        E, missed = self.held(node), self.missed(node, smooth=True)[0]
        return 2.0 * (mean_decay(first) * later + moved) - later + gain * (2.0 * missed - E[0] - E[1])

    def _starting(self, node: int) -> bool:
        return self.corrected and node < self.settled

    @staticmethod
    def _log(a: float, b: float) -> float:
        """`int_a^b ds / (e^s - 1)`."""
        return math.log(math.expm1(-b) / math.expm1(-a))

    def rushed(self, node: int) -> float:
        """What the correction adds over cell `node` to how far a kick at its start moves: `int E(t - t_node) dt / (tau (e^t - 1))`."""
        if not self._starting(node) or not node:
            return 0.0
        a, b = float(self.clock[node]), float(self.clock[node + 1])
        return math.exp(a) * (math.exp(-b) - math.exp(-a) + self._log(a, b))

    def layer(self, node: int) -> Layer:
        """For the samples, over cell `node`."""
        lead = self.lead[:, node : node + 2]
        z = self.clock[node + 1] - self.clock[node]
        clock = np.broadcast_to(self.clock[node : node + 2], (len(lead), 2))
        apart = np.broadcast_to(fluctuations(float(z)), (len(lead), 2))
        return Layer(lead, clock, self.gain[:, node : node + 2].mean(1) * recoil(float(z)), apart, np.ones(len(lead)))

    def held(self, node: int) -> np.ndarray:
        """`E` at a node since each node up to it."""
        return np.exp(self.clock[: node + 1] - self.clock[node])

    def held_between(self, node: int) -> np.ndarray:
        """`E` at each node up to this one (rows) since each (columns); none for the one at zero, whose direction is that of the start."""
        clock = self.clock[: node + 1]
        E = np.tril(np.exp(np.minimum(clock - clock[:, None], 0.0)))
        E[:, 0] = 0.0
        return E

    def lines(self, node: int, begun: int) -> np.ndarray:
        """For a layer that begins at each node (columns; none at zero) what hats have in the place of `E` in an integral up to `node`:
        half of what the lines on both sides end with. The hat of the first node of an epoch that has `begun` has only its rising half."""
        z = np.diff(self.clock[: node + 1])
        whole, moment = (np.array([f(float(x)) for x in z]) for f in (mean_decay, first_moment))
        E = self.held_between(node)
        rising, falling = np.zeros_like(E), np.zeros_like(E)
        falling[:-1] = (4.0 * whole - 6.0 * moment)[:, None] * E[:-1]
        rising[1:] = (6.0 * moment - 2.0 * whole)[:, None] * E[:-1]
        lines = 0.5 * (rising + falling)
        lines[node] = rising[node]
        if begun:
            lines[begun] = rising[begun]
        return lines

    def rush(self, node: int) -> float:
        """By how much the correction of the velocity for its start is faster over cell `node`, under a constant force."""
        if not self._starting(node):
            return 1.0
        a, b = float(self.clock[node]), float(self.clock[node + 1])
        return (b - a) / (b - a + math.exp(-b) - math.exp(-a))

    def roughness(self, node: int, weights: np.ndarray | None = None) -> np.ndarray:
        """Variance `(S, k, k)` of the Brownian bridge that w is inside cell `node` relative to that of plain training: that of the
        increment over the cell, so that with it the variance of w is linear in time, as between the nodes. It is less where the filter has
        only begun to pass noise on. With a spectrum noise counts for each eigenvalue by these `weights (m,)`."""
        gain = self.each[:, :, node : node + 2].mean(2)
        counts = np.ones(1) if weights is None or gain.shape[1] == 1 else weights / weights.sum()
        begun = 1.0 if self.corrected else -math.expm1(-0.5 * float(self.clock[node] + self.clock[node + 1]))
        return np.einsum("m,smi,smj->sij", counts, gain, gain) * late_share(float(self.clock[node + 1] - self.clock[node])) * begun**2

    def missed(self, node: int, smooth: bool) -> np.ndarray:
        """What noise increments spread over the cells before `node` have not passed on there, as a part of the gain `(node,)`: the mean of
        `E` over a cell. With a correction for the start the first kicks move much and very unequally: independent increments (not `smooth`
        ones) then meet the mean square."""
        E, z = self.held(node), np.diff(self.clock[: node + 1])
        missed = (E[1:] - E[:-1]) / z
        for cell in range(0 if smooth else min(self.settled, node)):
            mean, square, _ = self._free(cell, node)
            if cell:  # what linear interpolation has for the mean
                mean = 0.5 * sum(self._moved(self.clock[i], node) + E[i] for i in (cell, cell + 1)) - missed[cell]
            missed[cell] -= math.sqrt(square) - mean
        return missed

    def uneven(self, node: int) -> np.ndarray:
        """Standard deviation of `E` over the independent increments within each cell before `node`, `(node,)`: what the filter passes on of
        a cell depends on where in it the noise was. It is the same at all later nodes but for its decay, and so is one normal more."""
        spread = self._uneven[:node].copy()
        spread[: min(self.settled, node)] = 0.0  # see `missed`
        return spread * self.held(node)[1:]

    @cached_property
    def _uneven(self) -> np.ndarray:
        """Of every cell."""
        return np.sqrt([unevenness(float(z)) for z in np.diff(self.clock)])

    @cached_property
    def _slants(self) -> np.ndarray:
        """Of every cell."""
        return np.array([slant(float(z)) for z in np.diff(self.clock)])

    def slanted(self, node: int) -> np.ndarray:
        """What a line over each cell before `node` that rises by one has of the same normal, `(node,)`: the correlation of the two, times
        the line's deviation."""
        slanted = self._slants[:node].copy()
        slanted[: min(self.settled, node)] = 0.0  # see `missed`
        return slanted

    def smooth(self, R: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """`S (S, n, n, k, k)` without what the correction for the start adds, so that it may be interpolated: a kick at zero then moves
        what a displacement by its gain does, `moved (S, N + 1, k, k)`."""
        if not self.corrected:
            return R
        out = R.copy()
        for node in range(1, R.shape[1]):
            excess = self.excess(node)[1:, None] * self.gain[:, node, None]
            out[:, node, 1 : node + 1] -= excess[..., None] * np.eye(R.shape[-1])
            out[:, node, 0] = moved[:, node]
        return out

    def excess(self, node: int) -> np.ndarray:
        """What the correction for the start adds at a node to `R` of kicks at the nodes up to it, as a part of the gain. For a kick at
        zero, where it is infinite, what has the right mean over the first cell, with the next one's."""
        out = np.zeros(node + 1)
        if self.corrected and node:
            E = self.held(node)
            out[1:] = self._moved(self.clock[1 : node + 1], node) - (1.0 - E[1:])
            out[0] = 2.0 * (self._free(0, node)[0] - 1.0 + self.missed(node, smooth=True)[0]) - out[1]
        return out

    def _moved(self, u: np.ndarray, node: int) -> np.ndarray:
        """What a corrected velocity alone makes at `node` of a kick at `u > 0`, `e^u log((1 - e^-t) / (1 - e^-u))`."""
        early, t = np.minimum(u, SETTLED), self.clock[node]
        moved = np.exp(early) * np.log1p(np.maximum(np.exp(-early) - np.exp(-t), 0.0) / -np.expm1(-early))
        return np.where(u < SETTLED, moved, -np.expm1(u - t))

    def _free(self, cell: int, node: int) -> tuple[float, float, float]:
        """Mean and mean square of `_moved` over the kicks of a cell, and its mean times `E` at the cell's end."""
        a, b = (float(self.clock[i]) for i in (cell, cell + 1))
        middle = min(b, a + FADED)
        mean = square = both = 0.0
        for low, high in ((a, middle), (middle, b)):
            if high > low:
                u = low + (high - low) * POINTS**2  # dense where the logarithm is infinite
                moved = self._moved(u, node)
                weight = 2.0 * POINTS * WEIGHTS * (high - low) / (b - a)
                mean, square = mean + float(weight @ moved), square + float(weight @ moved**2)
                both += float(weight @ (moved * np.exp(u - b)))
        return mean, square, both
