"""Coordinates of anisotropic data behind an optimiser's filter: eq. (2) for each eigenvalue, with its velocity.

For eigenvalue `lambda` the bracket's own rate, the filter and the gain `g(lambda)` make a linear system of theta and V, which is followed
by its matrix exponential; the rest of the bracket is linear over a cell, as without a filter (see `spectral`). `g` is the same for all
where the optimiser does not divide by the size of each feature's gradient (OPTIMISERS section 3): that is `lambda E[l^2]` and what white
noise adds, whatever the eigenvalue.

A response `R = S - g E` (see `filters`) is not linear over a cell where the memory is short. In the integral over the past its part `E`
is taken by the line that has its area and its first moment in each cell.
"""

from __future__ import annotations

import numpy as np

from ...learning.problem import Problem
from ..averages import Averages, Layer
from ..gaussian import psd_factor
from .coordinates import bridge_variance
from .filters import Filter
from .spectral import NO_ENDS, SpectralCoordinates, meeting

Array = np.ndarray

BRIEF = 1e-4  # part of a cell that the memory is at least taken to be: the exponential of the system must keep its digits


class FilteredSpectralCoordinates(SpectralCoordinates):
    """`SpectralCoordinates` behind a filter. Columns and rows of `states` are those of theta; the column of a kick at time zero holds the
    response to the start. `velocities` are V of the present node and the next one."""

    def __init__(
        self, problem: Problem, replicates: int, cells: int, filter: Filter, smooth: bool, ends: Array = NO_ENDS, warmth: float = 0.0
    ):
        self.filter, self.smooth = filter, smooth
        assert problem.spectrum is not None
        self.white_root = np.zeros((replicates, cells, problem.k, problem.k))  # of the samples' noise in each cell, were it white
        super().__init__(problem, replicates, cells, False, ends, warmth)
        self.kicked, self.known = np.zeros((self.k, self.k)), False
        self.velocities = {0: np.zeros((replicates, len(self.eigenvalues), self.k, self.k_star + self.k))}
        self.flown: tuple[Array, ...] = ()  # how V at the end of the present cell comes about

    def _blocks(self) -> int:
        return super()._blocks() * (1 if self.smooth else 2)

    # --- the filter's own --------------------------------------------------------------------------------------------------------

    def advance(self, node: int, spacing: float, step: Array, before: Averages, after: Averages, row: Array) -> None:
        self.filter.follow(node, step, before.l_l, after.l_l)
        self.white_root[:, node] = psd_factor(0.5 * spacing * (step[0] * before.l_l + step[1] * after.l_l))
        for at in range(node, node + 2):  # what is smooth of each eigenvalue is met by lines of its own, see `_lines`
            self.filter.lay(at, np.zeros((len(self.R), self.k, self.k)))
        if not node:
            self.R[:, 0, 0] = self.filter.lead[:, 0]
        super().advance(node, spacing, step, before, after, row)

    def kernel(self, nodes: int) -> np.ndarray:
        first, k = self.k_star, self.k
        P = self.states[..., first : first + k].reshape(len(self.R), -1, self.cells + 1, k, k)
        gain = self.filter.each[:, :, 0]  # of a kick at zero, `(S, m, k)`
        moved = np.einsum("m,smnij,smj->snij", self.share, P, np.broadcast_to(gain, (*P.shape[:2], k)), optimize=True)
        return self.filter.smooth(super().kernel(nodes), moved)

    def normals(self, node: int) -> Array:
        """As of `SpectralCoordinates`, with as many normals more as samples have behind a filter; none of them is used."""
        normals = super().normals(node)
        return np.concatenate([normals, np.zeros((*normals.shape[:2], self.cells * self.k))], 2)

    def layer(self, node: int) -> Layer | None:
        return self.filter.layer(node)._replace(begins=np.zeros(len(self.R)))

    def bridge(self, spacing: float, gamma: Array, rate: Array) -> Array:
        rough = rate * bridge_variance(self.spectrum, spacing, gamma) * self.filter.roughness(self.node, self.share * self.eigenvalues)
        return rough + self.warmth * np.eye(self.k) * self.filter.roughness(self.node, self.share)

    def _free(self, node: int, spacing: float, gamma: Array, columns: slice) -> tuple[Array, Array, Array]:
        self.node = node
        k, rows = self.k, slice(node * self.k, (node + 1) * self.k)
        kept, first, second, rate = self._system(node, spacing, gamma)
        # Where the rate is fast, noise of a cell meets responses that fall within it, once the filter has let them.
        self.met[:, :, node] = meeting(rate, self.smooth)
        both = np.concatenate([self.states[:, :, rows, columns], self.velocities[node]], 2)
        moved = kept @ both
        self.flown = moved[:, :, k:], first[:, :, k:], second[:, :, k:]
        return moved[:, :, :k], first[:, :, :k], second[:, :, :k]

    def _follow(self, node: int, rest: Array, after: Averages | None) -> None:
        moved, first, second = self.flown
        ended = rest
        if after is not None:
            ended = self._push(node + 1, after, self._begun(node))[..., : rest.shape[-1]]
        V = moved - (first - second) @ rest - second @ ended
        kick = np.broadcast_to(np.eye(self.k) / self._memory(node + 1), (*V.shape[:2], self.k, self.k))
        self.velocities = {node: self.velocities[node], node + 1: np.concatenate([V, kick], 3)}

    def _memory(self, node: int) -> float:
        """The filter's, as the system of cell `node` has it; a kick at that node moves as far only if it has the same."""
        return max(self.filter.memory, BRIEF * float(np.diff(self.filter.nodes[node : node + 2]).sum()))

    def _system(self, node: int, spacing: float, gamma: Array) -> tuple[Array, Array, Array, Array]:
        """Over cell `node`, of theta and V `(S, m, 2k, 2k)`: what is kept; and how a force of one, and one that grows to one, moves both,
        `(S, m, 2k, k)`. Also `x (S, m)`, the mean rate of plain training times the cell's length."""
        k, memory = self.k, self._memory(node)
        gain = self.filter.each[:, :, node : node + 2].mean(2) * self.filter.rush(node)
        pull = self.ridge * np.eye(k) + self.eigenvalues[:, None, None] * 0.5 * (gamma + np.swapaxes(gamma, 1, 2))[:, None]
        matrix = np.zeros((*pull.shape[:2], 4 * k, 4 * k))
        theta, velocity = slice(0, k), slice(k, 2 * k)
        matrix[..., theta, theta] = -self.filter.decay * spacing * np.eye(k)
        matrix[..., theta, velocity] = spacing * gain[..., None] * np.eye(k)
        matrix[..., velocity, theta] = -pull * spacing / memory
        matrix[..., velocity, velocity] = -spacing / memory * np.eye(k)
        matrix[..., velocity, 2 * k : 3 * k] = spacing / memory * np.eye(k)
        matrix[..., 2 * k : 3 * k, 3 * k :] = np.eye(k)
        flow = _exponential(matrix)
        both = slice(0, 2 * k)
        rate = spacing * np.einsum("smii->sm", pull) / k
        return flow[..., both, both], flow[..., both, 2 * k : 3 * k], flow[..., both, 3 * k :], rate

    # --- responses ----------------------------------------------------------------------------------------------------------------

    def _bracket_row(self, node: int, averages: Averages, begun: int) -> tuple[Array, Array]:
        """As of `SpectralCoordinates`; what `R(., s)` does not meet, with the layers' part."""
        flat, left = super()._bracket_row(node, averages, begun)
        replicates, k, gain = len(self.R), self.k, self.filter.each[:, :, : node + 1]
        rows = flat.reshape(replicates, 1, k, node + 1, k)
        left = left.reshape(rows.shape) * gain[:, :, None]
        apart = self.filter.held_between(node) - self.filter.lines(node, begun)
        left = left - np.swapaxes(np.swapaxes(rows * gain[:, :, None], -1, -2) @ apart, -1, -2)
        return flat, left.reshape(*left.shape[:3], -1)

    def _mean_response(self, node: int) -> Array:
        cells = self._smooth(node)
        return np.moveaxis(np.einsum("m,smixj->sixj", self.share, cells), 1, 2)

    def _smooth(self, node: int) -> Array:
        """`S(node, .)` of each eigenvalue, `(S, m, k, node + 1, k)`."""
        k, first = self.k, self.k_star
        R = self.states[:, :, node * k : (node + 1) * k, first : first + (node + 1) * k]
        R = R.reshape(*R.shape[:3], node + 1, k).copy()
        if node:
            R[..., 0, :] = self._from_start(node, R)
        held = self.filter.held(node)[:, None] * np.eye(k)[:, None]  # (k, node + 1, k)
        return R + self.filter.each[:, :, node, :, None, None] * held

    def _from_start(self, node: int, R: Array) -> Array:
        """R(node, 0) of each eigenvalue, from the response to the start (in its place) and to a kick at the next node."""
        moved = R[..., 0, :] * self.filter.each[:, :, None, :2].mean(3)
        return self.filter.from_start(node, R[..., 1, :], moved, self.filter.each[:, :, node, :, None] * np.eye(self.k))

    def _met(self, node: int) -> Array:
        missed = self.filter.missed(node, self.smooth)
        gain = self.filter.each[:, :, node, :, None, None]
        return self._weighed(self._smooth(node), node) - gain * missed[:, None] * np.eye(self.k)[:, None]

    def _parts(self, node: int) -> list[Array]:
        """As of `SpectralCoordinates`, and how unevenly the filter has passed on the noise of each cell."""
        parts = super()._parts(node)
        if node and not self.smooth:
            spread = self.filter.uneven(node)[:, None] * np.eye(self.k)[:, None]  # (k, node, k)
            uneven = np.broadcast_to(self.filter.each[:, :, node, :, None, None] * spread, (*parts[0].shape[:2], *spread.shape))
            flat = lambda matrix: matrix.reshape(*matrix.shape[:3], node * self.k)
            white = np.einsum("smiaj,sajl->smial", uneven, self.white_root[:, :node])
            parts.append(np.sqrt(self.eigenvalues)[:, None, None] * flat(white))
            if self.warmth:
                parts.append(flat(uneven * np.sqrt(self.warmth * self.widths[:node])[:, None]))
        return parts


def _exponential(matrices: Array) -> Array:
    """Matrix exponentials of a stack of small matrices: scaled until a Taylor polynomial is exact to rounding, and squared again."""
    size = np.abs(matrices).sum(-1).max(initial=0.0)
    squarings = max(int(np.ceil(np.log2(max(size, 1e-300) / 0.25))), 0)
    small = matrices / 2.0**squarings
    term = total = np.broadcast_to(np.eye(matrices.shape[-1]), matrices.shape).copy()
    for order in range(1, 13):
        term = term @ small / order
        total = total + term
    for _ in range(squarings):
        total = total @ total
    return total
