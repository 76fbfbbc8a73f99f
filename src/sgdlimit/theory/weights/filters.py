"""What an optimiser makes of the force: a filter with a memory, and a gain (OPTIMISERS section 1; beyond the paper).

    dV = (dF - V dt) / tau        dTheta = g(t) V dt - w Theta dt

Only coordinates see it. A kick of the force at `s` reaches theta as `R(t,s)`, which is zero at `t = s` and rises within the memory, however
short that is against a cell. So the response is carried as

    R(t,s) = S(t,s) - g(t) E(t - s),      E(t) = exp(-t / tau),

with a part `S` that is as smooth as the response without memory, `S(t,t) = g(t)`, and one that is known exactly. A sample needs one more
number for the second, `int E dG`. As `tau` goes to zero all that is left is `S`, and every formula is the one of plain training.
"""

from __future__ import annotations

import math

import numpy as np

from ...learning.dynamics import Dynamics
from ..averages import Layer

SHORTEST = 1e-9  # part of a cell below which a memory is none: exponents must stay finite


class Filter:
    """The filter and gain of one march; the gain follows the averages.

    Attributes:
        memory: tau; for plain training it is None where a filter is expected.
        decay: w, the decoupled decay.
        gain: `(S, N + 1, k)` at the nodes reached.
        clock: nodes in units of the memory.
    """

    def __init__(self, dynamics: Dynamics, nodes: np.ndarray, replicates: int, k: int, cells: int):
        optimizer = dynamics.optimizer
        assert optimizer is not None
        self.nodes = nodes
        self.memory = max(optimizer.memory, SHORTEST * float(nodes[1] - nodes[0]))
        self.clock = nodes / self.memory
        self.gains = optimizer.gains
        self.decay, self.second, self.small = (getattr(optimizer, name, 0.0) for name in ("decay", "second_memory", "eps"))
        self.gain = np.ones((replicates, cells + 1, k))
        self.square = np.zeros((replicates, cells + 1, k))  # the mean squared gradient, before the correction for its start

    def follow(self, node: int, before: np.ndarray, after: np.ndarray) -> None:
        """Gains at both ends of cell `node`, from `E[l l^T] (S, k, k)` there."""
        if not self.gains:
            return
        square = [np.einsum("sii->si", at) for at in (before, after)]
        if node == 0:
            self.gain[:, 0] = self._gain(square[0]) * self._rush()
        h = self.nodes[node + 1] - self.nodes[node]
        z = h / self.second if self.second else math.inf
        late = late_share(z)
        forgot = math.exp(-z)
        if self.second == math.inf:  # a plain mean: the sum so far
            self.square[:, node + 1] = self.square[:, node] + 0.5 * h * (square[0] + square[1])
            mean = self.square[:, node + 1] / self.nodes[node + 1]
        else:
            filled = forgot * self.square[:, node] + (1.0 - forgot - late) * square[0] + late * square[1]
            self.square[:, node + 1] = filled
            mean = filled / -math.expm1(-self.nodes[node + 1] / self.second) if self.second else filled
        self.gain[:, node + 1] = self._gain(mean) / -math.expm1(-self.clock[node + 1])

    def _gain(self, square: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return 1.0 / (np.sqrt(np.maximum(square, 0.0)) + self.small)

    def _rush(self) -> float:
        """The correction of the velocity for its start, `1 / (1 - E(t))`, is infinite at zero. In its place what, linear over the first
        cell, takes the weights as far under a constant force."""
        h = float(self.nodes[1] - self.nodes[0])
        z = h / self.memory
        end = -1.0 / math.expm1(-z)
        # int_0^1 (a + (end - a) x) (1 - e^-zx) dx = 1
        whole, moment = 1.0 - mean_decay(z), 0.5 - first_moment(z)
        return max((1.0 - end * moment) / (whole - moment), 1.0)

    def layer(self, node: int) -> Layer:
        """For the samples, over cell `node`."""
        gain = self.gain[:, node : node + 2]
        z = self.clock[node + 1] - self.clock[node]
        recoil = gain.mean(1) * max(1.0 - 2.0 * late_share(z) / z if z > 1e-3 else z / 3.0, 1e-9)
        return Layer(gain, np.broadcast_to(self.clock[node : node + 2], (len(gain), 2)), recoil)

    def held(self, node: int) -> np.ndarray:
        """`E` at a node since each node up to it."""
        return np.exp(self.clock[: node + 1] - self.clock[node])

    def roughness(self, node: int) -> np.ndarray:
        """Variance `(S, k, k)` of w inside cell `node` relative to a Brownian bridge: that of a velocity which forgets, on average."""
        gain = self.gain[:, node : node + 2].mean(1)
        return gain[:, :, None] * gain[:, None, :] * _bridge(float(self.clock[node + 1] - self.clock[node]))

    def missed(self, node: int, smooth: bool) -> tuple[np.ndarray, np.ndarray]:
        """What noise increments spread over the cells before `node` have not passed on there, as a part of the gain `(node,)`: the mean of
        `E` over a cell. And what is left of them in the velocity, times the memory. In the last cell independent increments have
        `1 - E` and `E` in mean square and product, unless they are `smooth`."""
        E, z = self.held(node), np.diff(self.clock[: node + 1])
        missed = (E[1:] - E[:-1]) / z
        left = missed.copy()
        if not smooth:
            last = float(z[-1])
            passed = math.sqrt(_square(last))
            missed[-1], left[-1] = 1.0 - passed, (mean_decay(last) - mean_decay(2.0 * last)) / passed
        return missed, left


# --- averages of exponentials over a cell of `z` memories --------------------------------------------------------------------


def mean_decay(z: float) -> float:
    """`int_0^1 e^-zx dx`."""
    return -math.expm1(-z) / z if z > 1e-8 else 1.0 - 0.5 * z


def first_moment(z: float) -> float:
    """`int_0^1 x e^-zx dx`."""
    return (mean_decay(z) - math.exp(-z)) / z if z > 1e-3 else 0.5 - z / 3.0 + z * z / 8.0


def late_share(z: float) -> float:
    """Weight at the end of a cell of what is linear over it, in the filter's answer there: `1 - int e^-zx`."""
    if z == math.inf:
        return 1.0
    return 1.0 - mean_decay(z) if z > 1e-3 else 0.5 * z - z * z / 6.0


def _square(z: float) -> float:
    """`int_0^1 (1 - e^-zx)^2 dx`."""
    if z < 0.02:
        return z * z / 3.0 - z**3 / 4.0 + 7.0 * z**4 / 60.0
    return 1.0 - 2.0 * mean_decay(z) + mean_decay(2.0 * z)


def _bridge(z: float) -> float:
    """Variance inside a cell of the integral of an Ornstein-Uhlenbeck velocity, given its ends, against that of a Brownian bridge, both
    averaged over the cell: with `D(t) = t - tau (1 - E(t))` the mean square of an increment, `(1-x) D(xh) + x D((1-x)h) - x(1-x) D(h)`."""
    if z < 0.1:
        return z * z / 15.0 - z**3 / 40.0
    return 1.0 - 5.0 / z + 12.0 / z**2 - 12.0 / z**3 + math.exp(-z) * (12.0 / z**3 - 1.0 / z)
