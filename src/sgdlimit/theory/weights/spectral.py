"""Coordinates of anisotropic data under a ridge: eq. (2) for each eigenvalue of the feature covariance (THEORY section 4).

A coordinate of eigenvalue `lambda` meets the square bracket of eq. (2) times `lambda` and the noise times its root. So

    theta = B_lambda theta* + R_lambda(t,0) xi + sqrt(lambda) int R_lambda(t,s) dU_s

    d/dt B      = -lam B - lambda ( J[B] + Rs )               Rs = (E[l_t g*^T] - J[M]) root(rho)^-1
    d/dt R(.,s) = -lam R - lambda J[R(., s)]
    J[f](t)     = E[H_t chi_t[f]] = Gamma_t f(t) + int_0^t Rl(t,s) f(s) ds

and a sample sees the means with weight `lambda`: `M = E[w g*^T]` (`r* = root(rho) g*`), `R = mean lambda R_lambda`,
`C = mean lambda C_lambda`.
As for particles (`penalised`), the sample program is asked for `J` of the hat function of every node. Along one eigenvalue the rate
`lam + lambda Gamma` is followed by its exponential, because the largest eigenvalues may be fast on any grid.

`C` is again a Gram matrix. The plain mean of `theta theta^T` obeys a balance that involves samples only,

    d/dt E[theta theta^T] = -2 lam E[theta theta^T] - E[l_t r_t^T] - E[r_t l_t^T] + eta E[l_t l_t^T]

and where training is noisy it is much the better estimate; the parts of all eigenvalues that do not come from the teacher are scaled to it.

Every array has a leading axis of replicates, then eigenvalues `m`; `N` cells, `N + 1` nodes.
"""

from __future__ import annotations

import numpy as np

from ...checks import root
from ...learning.problem import Problem
from ..averages import Averages, Layer
from ..gaussian import GrowingFactor, rescaling
from .coordinates import bridge_variance

Array = np.ndarray
NO_ENDS = np.zeros(0, int)


class SpectralCoordinates:
    """Coordinates of every eigenvalue; rows of nodes are filled as the march goes on.

    Attributes:
        R: mean response of a sample's pre-activation `(S, N + 1, N + 1, k, k)`, zero for `s > t`.
        M: `(S, N + 1, k, k_star)`, so that `E[w_t r*^T] = M_t root(rho)`.
        q: the plain mean of `theta theta^T`, by its balance, `(S, N + 1, k, k)`.
    """

    def __init__(self, problem: Problem, replicates: int, cells: int, balanced: bool, ends: Array = NO_ENDS, warmth: float = 0.0):
        """`balanced` scales the Gram matrix to `q`; a smooth flow keeps its own, as in `RidgeCoordinates`. `ends` are nodes across which
        samples have no memory of what came after the one before: the hat of such a node is cut in two."""
        spectrum = problem.spectrum
        assert spectrum is not None
        k, k_star, m = problem.k, problem.k_star, len(spectrum)
        self.k, self.k_star, self.cells, self.balanced, self.ridge = k, k_star, cells, balanced, problem.ridge
        self.ends = ends
        # White noise on theta is not noise of the samples, and not times the root of the eigenvalue: it has normals of its own.
        self.warmth, self.white = warmth, 0.0
        self.known = True  # whether `q` has a balance
        self.kicked = np.eye(k)  # what a kick has moved at once
        self.widths = np.zeros(cells)
        self.spectrum, self.eigenvalues, self.weights = spectrum, spectrum.eigenvalues, spectrum.weights
        self.share = self.weights * self.eigenvalues  # of a pre-activation's variance
        self.moments = spectrum.teacher_moments(problem.teacher.cov)
        self.spread = root(problem.init.cov)
        self.inverse = np.linalg.pinv(root(problem.rho), rcond=1e-8, hermitian=True)
        self.R = np.zeros((replicates, cells + 1, cells + 1, k, k))
        self.R[:, 0, 0] = np.eye(k)
        self.M = np.zeros((replicates, cells + 1, k, k_star))
        # B in the first columns and R(., s) in the others, with rows (node, i): a bracket is one matrix product.
        self.states = np.zeros((replicates, m, (cells + 1) * k, k_star + (cells + 1) * k))
        self.states[:, :, :k, :k_star] = problem.init.overlap
        self.states[:, :, :k, k_star : k_star + k] = np.eye(k)
        self.q = np.zeros((replicates, cells + 1, k, k))
        self.q[:] = problem.init.overlap @ np.einsum("m,mij->ij", self.weights, self.moments) @ problem.init.overlap.T + problem.init.cov
        self.gaps = np.zeros((replicates, cells + 1, k, k))
        self.noise = GrowingFactor(replicates, cells, k)
        self.apart = GrowingFactor(replicates, cells + 1, k)
        self.met = np.zeros((replicates, m, cells, 2))
        # theta without its teacher in independent normals: xi, and one k-vector a cell.
        self.parts = np.zeros((replicates, cells + 1, k, m, k + cells * k * self._blocks()))
        self.before: tuple[Array, Array] = np.zeros(0), np.zeros(0)
        self._arrive(0)

    def _blocks(self) -> int:
        """How many normals there are for each cell."""
        return 2 if self.warmth else 1

    # --- what the march asks ------------------------------------------------------------------------------------------------

    def normals(self, node: int) -> Array:
        """w at a node in independent standard normals `(g*, what is new at each node)`: `(S, k, k_star + k + N k)`."""
        return np.concatenate([self.M[:, node], self.apart.factor[:, node].reshape(len(self.R), self.k, -1)], 2)

    def advance(self, node: int, spacing: float, step: Array, before: Averages, after: Averages, row: Array) -> None:
        """Rows `node + 1`: exact along the rate, the rest of the bracket linear in time between its values at both ends; and the cell's
        noise from its `row` as in `add_noise`."""
        k, k_star = self.k, self.k_star
        known, columns = slice(0, (node + 1) * k), slice(0, k_star + (node + 1) * k)
        then = slice((node + 1) * k, (node + 2) * k)
        self.widths[node] = spacing
        predicting = after is before
        if predicting:
            self.before = self._push(node, before, self._begun(node)), before.h
        rest, gamma = self.before
        free, first, second = self._free(node, spacing, 0.5 * (gamma + after.h), columns)
        base = free - first @ rest
        self.states[:, :, then, k_star + (node + 1) * k : k_star + (node + 2) * k] = self.kicked
        if predicting:
            self.states[:, :, then, columns] = base
            self.M[:, node + 1] = self._mean_overlap(base[..., :k_star])
        else:
            self._correct(node, base + second @ rest, self.eigenvalues[:, None, None] * second, after, known, then, columns)
        self._follow(node, rest, None if predicting else after)
        self.R[:, node + 1, : node + 2] = self._mean_response(node + 1)
        lost = lambda at, eta: at.l_r + np.swapaxes(at.l_r, 1, 2) - eta * at.l_l
        drift = 0.5 * spacing * (lost(before, step[0]) + lost(after, step[1])) - spacing * self.warmth * np.eye(k)
        self.q[:, node + 1] = ((1.0 - spacing * self.ridge) * self.q[:, node] - drift) / (1.0 + spacing * self.ridge)
        self.add_noise(node, row)

    def _push(self, node: int, averages: Averages, begun: int) -> Array:
        """The bracket at a node without `Gamma`, times the eigenvalues, on B and R: `(S, m, k, k_star + (node + 1) k)`."""
        rest = self._rest(node, averages, begun)
        rest[..., : self.k_star] += self._outside(node, averages.l_gstar, averages.h_chi)
        return self.eigenvalues[:, None, None] * rest

    def _free(self, node: int, spacing: float, gamma: Array, columns: slice) -> tuple[Array, Array, Array]:
        """What rows become over cell `node` without the rest of the bracket, and what that takes from them: all of it that stands still,
        and of its growth over the cell."""
        decay, first, second, rate = self._exponentials(spacing, gamma)
        self.met[:, :, node] = meeting(rate, smooth=not self.balanced)
        return decay @ self.states[:, :, node * self.k : (node + 1) * self.k, columns], first, second

    def _follow(self, node: int, rest: Array, after: Averages | None) -> None:
        """Whatever else of the state follows once rows `node + 1` are known."""

    def add_noise(self, node: int, row: Array) -> None:
        """The noise increment of cell `node`, from its covariances `row (S, k, node + 1, k)` with those up to it; then w at its end."""
        self.noise.extend(node, row)
        self._arrive(node + 1)

    def directions(self) -> Array:
        """The hats at time zero, `(S, k, X, k)`: a unit of direction `x` moves `w` by the hat of node `x`."""
        return self._hat(0)

    def forget(self, node: int) -> int:
        """The earliest node whose kicks still act at `node`: none is forgotten, since hats tell more than the mean response."""
        return 0

    def forcing(self, node: int) -> tuple[Array, Array, Array]:
        """How the hats move `w` at the start and end of cell `node`, and at the next node itself."""
        return self._hat(node), self._hat(node + 1), self._hat(node + 1)

    def bridge(self, spacing: float, gamma: Array, rate: Array) -> Array:
        """As `RidgeCoordinates.bridge`."""
        return rate * bridge_variance(self.spectrum, spacing, gamma) + self.warmth * np.eye(self.k)

    def kernel(self, nodes: int) -> np.ndarray:
        return self.R[:, :nodes, :nodes]

    def layer(self, node: int) -> Layer | None:
        return None

    def gap(self, node: int) -> Array:
        """As in `RidgeCoordinates`; the mean over all features."""
        return self.gaps[:, node]

    # --- brackets -------------------------------------------------------------------------------------------------------------

    def _exponentials(self, spacing: float, gamma: Array) -> tuple[Array, Array, Array, Array]:
        """`e^-x`, `dt phi_1(x)`, `dt phi_2(x)` as matrices `(S, m, k, k)` for `x = (lam + lambda Gamma) dt`, and the mean `x (S, m)`."""
        values, vectors = np.linalg.eigh(0.5 * (gamma + np.swapaxes(gamma, 1, 2)))
        x = spacing * (self.ridge + self.eigenvalues[:, None] * values[:, None, :])
        small = np.abs(x) < 1e-3
        safe = np.where(small, 1.0, x)
        first = np.where(small, 1.0 - x / 2.0 + x**2 / 6.0, -np.expm1(-safe) / safe)
        second = np.where(small, 0.5 - x / 6.0 + x**2 / 24.0, (1.0 - first) / safe)
        back = np.swapaxes(vectors, 1, 2)[:, None]
        turn = lambda f: (vectors[:, None] * f[:, :, None, :]) @ back
        return turn(np.exp(-x)), spacing * turn(first), spacing * turn(second), x.mean(-1)

    def _bracket_row(self, node: int, averages: Averages, begun: int) -> tuple[Array, Array]:
        """`J` without `Gamma` on the states as a matrix `(S, k, (node + 1) k)`, and what of it `R(., s)` does not meet, with an axis of
        eigenvalues: a response that starts at a node misses the rising half of its hat (see `SampledCoordinates._pull`)."""
        replicates, k = len(self.R), self.k
        J = averages.h_chi[:, : node + 1].copy()
        left = 0.5 * J
        left[:, begun] = J[:, begun]
        left[:, 0] = 0.0
        left[:, node] = J[:, node] - averages.h if node else 0.0
        J[:, node] -= averages.h
        flat = lambda x: np.swapaxes(x, 1, 2).reshape(replicates, k, -1)
        return flat(J), flat(left)[:, None]

    def _begun(self, node: int) -> int:
        return int(max(self.ends[self.ends <= node], default=0))

    def _rest(self, node: int, averages: Averages, begun: int) -> Array:
        """The bracket at a node without `Gamma` and `Rs`, on B and R: `(S, m, k, k_star + (node + 1) k)`."""
        J, left = self._bracket_row(node, averages, begun)
        rows = (node + 1) * self.k
        rest = J[:, None] @ self.states[:, :, :rows, : self.k_star + rows]
        rest[..., self.k_star :] -= left
        return rest

    def _outside(self, node: int, l_gstar: Array, h_chi: Array) -> Array:
        """`Rs (S, 1, k, k_star)` at a node."""
        pulled = np.einsum("saij,sajl->sil", h_chi[:, : node + 1], self.M[:, : node + 1])
        return ((l_gstar - pulled) @ self.inverse)[:, None]

    def _correct(self, node: int, base: Array, second: Array, after: Averages, known: slice, then: slice, columns: slice) -> None:
        """Solve for row `node + 1`, whose own bracket is linear in it."""
        k, k_star = self.k, self.k_star
        J, left = self._bracket_row(node + 1, after, self._begun(node))
        rest = J[:, None, :, : (node + 1) * k] @ self.states[:, :, known, columns]
        rest[..., k_star:] -= left[..., : (node + 1) * k]
        own = np.linalg.inv(np.eye(k) + second @ J[:, None, :, (node + 1) * k :])
        solved = own @ (base - second @ rest)
        c = own @ second
        # M at the node is a mean of B, and Rs depends on it.
        gain = after.h_chi[:, node + 1]
        pulled = np.einsum("saij,sajl->sil", after.h_chi[:, : node + 1], self.M[:, : node + 1])
        known_part = after.l_gstar - pulled
        turned = self.inverse @ self.moments @ self.inverse
        right = self._mean_overlap(solved[..., :k_star]) - np.einsum("m,smij,sjl,mlp->sip", self.share, c, known_part, turned)
        matrix = np.einsum("m,smia,saj,mlp->sipjl", self.share, c, gain, turned).reshape(len(c), k * k_star, k * k_star)
        M = np.linalg.solve(np.eye(k * k_star) - matrix, right.reshape(len(c), -1, 1)).reshape(right.shape)
        solved[..., :k_star] -= c @ ((known_part - gain @ M) @ self.inverse)[:, None]
        self.states[:, :, then, columns] = solved
        self.M[:, node + 1] = M

    def _mean_overlap(self, B: Array) -> Array:
        """`E[w g*^T] (S, k, k_star)` from `B (S, m, k, k_star)`."""
        return np.einsum("m,smij,mjl->sil", self.share, B, self.moments) @ self.inverse

    def _mean_response(self, node: int) -> Array:
        """`R(node, s) (S, node + 1, k, k)`."""
        rows, k, k_star = slice(node * self.k, (node + 1) * self.k), self.k, self.k_star
        R = np.einsum("m,smix->six", self.share, self.states[:, :, rows, k_star : k_star + (node + 1) * k])
        return np.moveaxis(R.reshape(len(R), k, node + 1, k), 1, 2)

    # --- covariances -----------------------------------------------------------------------------------------------------------

    def _parts(self, node: int) -> list[Array]:
        """theta without its teacher at a node in independent normals: of the start `(S, m, k, k)`; and for each cell so far
        `(S, m, k, node k)` of the samples' noise and, where there is such, of white noise."""
        k, first = self.k, self.k_star
        start = self.states[:, :, node * k : (node + 1) * k, first : first + k]
        parts = [start @ self.spread]
        if node:
            mean = self._met(node)
            factor = self.noise.factor[:, None, :node, :, :node].reshape(len(mean), 1, node * k, node * k)
            parts.append(np.sqrt(self.eigenvalues)[:, None, None] * (mean.reshape(*mean.shape[:3], node * k) @ factor))
            if self.warmth:
                size = np.sqrt(self.warmth * self.widths[:node])
                parts.append((mean * size[:, None]).reshape(*mean.shape[:3], node * k))
        return parts

    def _met(self, node: int) -> Array:
        """What noise spread over each cell before `node` meets there, `(S, m, k, node, k)`."""
        k, first = self.k, self.k_star
        cells = self.states[:, :, node * k : (node + 1) * k, first : first + (node + 1) * k]
        return self._weighed(cells.reshape(*cells.shape[:3], node + 1, k), node)

    def _weighed(self, cells: Array, node: int) -> Array:
        met = self.met[:, :, None, :node, :, None]
        return met[..., 0, :] * cells[..., :-1, :] + met[..., 1, :] * cells[..., 1:, :]

    def _arrive(self, node: int) -> None:
        """The covariance of w at a node, apart from the teacher, with w at all nodes so far."""
        k, k_star, replicates = self.k, self.k_star, len(self.R)
        if not node:
            self.M[:, 0] = self._mean_overlap(self.states[:, :, :k, :k_star])
        parts = self._spread_out(self._parts(node))
        B = self.states[:, :, : (node + 1) * k, :k_star].reshape(replicates, -1, node + 1, k, k_star)
        taught = np.einsum("m,smij,mjl,smpl->sip", self.weights, B[:, :, node], self.moments, B[:, :, node])
        balance = self.q[:, node] - taught
        gram = np.einsum("m,smid,smjd->sij", self.weights, parts, parts, optimize=True)
        self.gaps[:, node] = (gram - balance) * self.known
        if node and self.balanced:
            parts = rescaling(gram, balance)[:, None] @ parts
        self.parts[:, node] = np.swapaxes(parts, 1, 2)
        past = self.parts[:, : node + 1].reshape(replicates, (node + 1) * k, -1)
        weighed = (self.share[:, None] * self.parts[:, node]).reshape(replicates, k, -1)
        rows = (weighed @ np.swapaxes(past, 1, 2)).reshape(replicates, k, node + 1, k)
        rows += np.einsum("m,smij,mjl,smapl->siap", self.share, B[:, :, node], self.moments, B, optimize=True)
        rows -= np.einsum("sij,sapj->siap", self.M[:, node], self.M[:, : node + 1])
        self.apart.extend(node, rows)

    def _spread_out(self, parts: list[Array]) -> Array:
        """All parts in one array with room for all cells, so that each normal keeps its place."""
        out = np.zeros((*parts[0].shape[:3], self.parts.shape[-1]))
        out[..., : self.k] = parts[0]
        for i, part in enumerate(parts[1:]):
            first = (1 + i * self.cells) * self.k
            out[..., first : first + part.shape[-1]] = part
        return out

    def laws(self, nodes: Array) -> tuple[Array, Array]:
        """At these nodes the mean over replicates of `B (m, n, k, k_star)`, and the covariance of theta without its teacher
        `(m, n, n, k, k)`."""
        B = self.states[..., : self.k_star].reshape(len(self.R), -1, self.cells + 1, self.k, self.k_star)[:, :, nodes]
        parts = self.parts[:, nodes]
        return B.mean(0), np.einsum("stimd,sujmd->mtuij", parts, parts, optimize=True) / len(parts)

    def _hat(self, node: int) -> Array:
        hat = np.zeros((len(self.R), self.k, self.cells + 1, self.k))
        hat[:, :, node] = np.eye(self.k)
        return hat


def most_cells(problem: Problem, memory: int) -> int:
    """How many cells the kernels of all eigenvalues of one replicate have room for in so many bytes: a multiple of four."""
    assert problem.spectrum is not None
    return 4 * int(max(0.25 * (memory / (16 * len(problem.spectrum))) ** 0.5 / problem.k, 4))


def meeting(x: Array, smooth: bool) -> Array:
    """How a noise increment spread over a cell meets the responses of the cell's two ends, `(S, m, 2)`, for the rate times the cell's
    length `x (S, m)`. It meets their mean where `x` is small. A response that falls like `e^-x` within the cell has mean
    `(1 - e^-x)/x` and mean square `(1 - e^-2x)/2x`: the first counts for smooth increments, the second for independent ones.
    """
    x = np.maximum(x, 1e-4)
    fallen = -np.expm1(-x)
    mean = fallen / x if smooth else np.sqrt(-np.expm1(-2.0 * x) / (2.0 * x))
    earlier = (1.0 - mean) / fallen
    return np.stack([earlier, 1.0 - earlier], -1)
