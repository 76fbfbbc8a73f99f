"""Paths of SGD's samples by NumPy, from jump to jump: all paths at their first jump, then all at their second.

The same numbers as from node to node (`samples.sample.cross_cell`), up to rounding. Where jumps are few this takes less than the compiler
needs for a program that crosses cells: the loss's gradient comes from the one that checked the problem.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...learning.problem import Problem, labelled_values_at
from ..averages import Layer
from ..samples.sample import Draws

Array = np.ndarray

FEW = 16  # jumps of a path times student directions: the work grows with their square


class JumpPaths:
    """Paths that know `R (n, n, k, k)` on all nodes, the root `spread (N, k, k)` of the variance of w inside each cell, an optimiser's
    `layers` of all cells, if there is one, and the `numbers (n, p)` that are trained along, if there are any."""

    def __init__(self, problem: Problem, R: Array, spread: Array, layers: Layer | None, numbers: Array | None):
        self.problem, self.R, self.spread, self.layers, self.numbers = problem, R, spread, layers, numbers

    def __call__(self, draws: Draws, w: Array, r_star: Array, outputs: Array) -> tuple[Array, Any]:
        """`r (T, P, k)` at the nodes `outputs` of paths with `w (n, P, k)` at all nodes; labels."""
        assert draws.earlier is not None
        n, paths, k = w.shape
        most = int(draws.earlier[-1].max(initial=0))
        cell = np.minimum((draws.earlier[1:] <= np.arange(most)[:, None, None]).sum(1), n - 2)  # (J, P)
        place, kicks = draws.where[:most], np.zeros((most, paths, k))
        early, late, path = np.zeros(w.shape), np.zeros(w.shape), np.arange(paths)
        at = lambda r, x, cell: labelled_values_at(self.problem, r, r_star, draws.y, self._numbers(x, cell))
        y = at(w[0], np.zeros(paths), np.zeros(paths, int))[0]
        before = w[0]
        for j in range(most):
            before = self._arrived(draws, w, before, cell, place, j)
            r = before - self._fed(cell, place, kicks, j)
            kicks[j] = draws.noise[j][:, None] * at(r, place[j], cell[j])[2]
            early[cell[j], path] += (1.0 - place[j])[:, None] * kicks[j]
            late[cell[j] + 1, path] += place[j][:, None] * kicks[j]
        # A node has not seen the cell that begins there.
        seen, known = self.R[outputs], (np.arange(n) < outputs[:, None])[..., None, None]
        met = np.einsum("tnab,npb->tpa", seen * known, early, optimize=True) + np.einsum("tnab,npb->tpa", seen, late, optimize=True)
        return w[outputs] - met + self._held_back(outputs, cell, place, kicks), y

    def _numbers(self, x: Array, cell: Array) -> Array | None:
        """What is trained along, as it is at places `x` of cells."""
        if self.numbers is None:
            return None
        return (1.0 - x)[:, None] * self.numbers[cell] + x[:, None] * self.numbers[cell + 1]

    def _arrived(self, draws: Draws, w: Array, before: Array, cell: Array, place: Array, j: int) -> Array:
        """w at jump `j`: a bridge from the jump before, if that is in the same cell, else from the node."""
        path, x = np.arange(w.shape[1]), place[j]
        again = cell[j] == cell[j - 1] if j else np.zeros(len(x), bool)
        since, start = np.where(again, place[j - 1], 0.0), np.where(again[:, None], before, w[cell[j], path])
        left = np.maximum(1.0 - since, 1e-12)
        rough = np.sqrt(np.maximum((x - since) * (1.0 - x) / left, 0.0))
        new = np.einsum("pab,bp->pa", self.spread[cell[j]], draws.bridge[j])
        return start + ((x - since) / left)[:, None] * (w[cell[j] + 1, path] - start) + rough[:, None] * new

    def _fed(self, cell: Array, place: Array, kicks: Array, j: int) -> Array | float:
        """What the jumps before jump `j` make of w there: R in triangles, less what a filter holds back."""
        if not j:
            return 0.0
        here, there, x = cell[j], cell[:j], place[j][:, None, None]
        u = place[:j, :, None, None]
        met = lambda node: (1.0 - u) * self.R[node, there] + u * self.R[node, there + 1]
        first, late, last = self.R[here, here], self.R[here + 1, here], self.R[here + 1, here + 1]
        response = np.where(
            (there == here)[..., None, None], first + x * (late - first) + u * (last - late), (1.0 - x) * met(here) + x * met(here + 1)
        )
        fed = np.einsum("jpab,jpb->pa", response, kicks[:j])
        if self.layers is None:
            return fed
        ages = self._age(cell[: j + 1], place[: j + 1])
        held = np.einsum("jp,jpb->pb", np.exp(ages[:j] - ages[j]), kicks[:j])
        gain = (1.0 - x) * self.layers.gain[here, 0] + x * self.layers.gain[here, 1]
        return fed - np.einsum("pab,pb->pa", gain, held)

    def _held_back(self, outputs: Array, cell: Array, place: Array, kicks: Array) -> Array | float:
        """What a filter has not passed on at the nodes `outputs`, `(T, P, k)`."""
        if self.layers is None:
            return 0.0
        clock = np.append(self.layers.clock[:, 0], self.layers.clock[-1, 1])[outputs]
        over = self._age(cell, place) - clock[:, None, None]
        held = np.einsum("tjp,jpb->tpb", np.exp(np.minimum(over, 0.0)) * (cell < outputs[:, None, None]), kicks, optimize=True)
        return np.einsum("tab,tpb->tpa", self.R[outputs, outputs], held)

    def _age(self, cell: Array, place: Array) -> Array:
        """Times of jumps in units of the filter's memory."""
        assert self.layers is not None
        return self.layers.clock[cell, 0] + place * (self.layers.clock[cell, 1] - self.layers.clock[cell, 0])
