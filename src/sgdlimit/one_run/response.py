"""The response of every sample's prediction to kicks of its own, with its own curvature taken out (OPTIMISERS section 7).

In the eigenvectors of the curvature `X^T diag(C) X` that the samples had when they were used, a kick fades direction by direction,
each at its own rate at each time: `chi_i(t, s) = sum_j (v_j^T x_i)^2 E_j(t, s)`. What is wanted is the same for a training without the
sample, `R_i = chi_i + int R_i c_i chi_i`, a triangular system in time for every sample.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import eigh, get_blas_funcs

from .record import Record
from .spectra import Spectra, find_spectra, squares_of

CELLS = 24  # of the time since the start
TOWARDS_NOW = 1.5  # how much finer they are near the present, where responses change most
OVERSHOOT = 0.9  # a kick that moves its own sample further than this is taken as one that does so
BLOCK = 2048  # samples whose response is computed at once
GROUPS = 32  # of eigenvectors of like eigenvalue, which fade together
TOGETHER = 1500  # weights up to which outputs are not taken apart
MANY = 500  # features from which all eigenvectors take longer than what is left of rows beside some
EMPTY = 1e-6  # of the largest eigenvalue: directions without curvature


class Basis(NamedTuple):
    """Where curvature is nearly diagonal: of groups of its eigenvectors `v (k, d)`, the sums `squares (m, n, k, k)` of `(v x) (v x)^T` for
    every row, how many a group has, `sizes (m,)`, the squared lengths of the rows, `norms (n,)`, and from how many uses it was found; and
    where not all eigenvectors were, what was."""

    squares: np.ndarray
    sizes: np.ndarray
    norms: np.ndarray
    uses: int
    spectra: Spectra | None = None


class Curvature(NamedTuple):
    """Curvature as it acts on the weights, of every use `(u, k, k)` and of every sample in `total (n, k, k)`, and by how much a gradient
    moves them: at every step, `pace (step,)`, and one sample's at every use, `amplitudes (u, k)`; all in `units (k,)` of the outputs."""

    values: np.ndarray
    total: np.ndarray
    pace: np.ndarray
    amplitudes: np.ndarray
    units: np.ndarray


def curvature(record: Record, norms: np.ndarray) -> Curvature:
    """What every use adds to the curvature.

    A jump by the factor `1 - z` along a sample's own row is what `exp(-z')` with `z' = -log(1 - z)` does smoothly: between two jumps of
    a sample its curvature does not act on itself, and then it does all at once. A step of all samples is no such jump.
    """
    uses, k, steps, n = record.uses, record.k, record.steps, len(norms)
    pace = record.pace()
    units = record.units()
    amplitudes = (record.amplitudes(pace) / units).astype(np.float32)
    values = uses.hessian * amplitudes[:, :, None] * units.astype(np.float32)
    if k == 1:
        size = np.maximum(values[:, 0, 0], 0.0)
    else:
        trace, square = np.trace(values, axis1=1, axis2=2), np.sum(values**2, axis=(1, 2))
        size = np.divide(square, trace, out=np.zeros_like(trace), where=trace > 0)
    own = size * norms.astype(np.float32)[uses.sample]  # in single precision: there are many uses, and this is done anew at every estimate
    if steps.momentum.any():
        own *= (1.0 / (1.0 - steps.momentum)).astype(np.float32)[uses.step]
    longer = np.where(own > 1e-6, -np.log1p(-np.minimum(own, OVERSHOOT)) / np.maximum(own, 1e-6), 1.0)
    part = (steps.size / n).astype(np.float32)[uses.step]
    values *= (part + (1.0 - part) * longer)[:, None, None]
    total = np.stack([np.bincount(uses.sample, values[:, a, b], n) for a in range(k) for b in range(k)], -1).reshape(n, k, k)
    return Curvature(values, total, pace.mean(1), amplitudes, units)


def find_basis(record: Record, curved: Curvature, rows: np.ndarray, norms: np.ndarray, quick: bool = False) -> Basis:
    """Eigenvectors of the curvature of all uses so far, `sum_i x_i x_i^T (x) C_i`, in groups of like eigenvalue and like weight. For many
    outputs, of its part that is diagonal in the mean Hessian's eigenvectors. A `quick` one of many features needs not all of them."""
    (n, k), d, weights = curved.total.shape[:2], rows.shape[1], curved.total[:, 0, 0]
    if quick and k == 1 and MANY <= d <= n and weights.any() and (weights >= 0).all():
        spectra = find_spectra(rows, norms, weights)
        if spectra is not None:
            return renewed(Basis(np.empty(0), np.empty(0), norms, len(record.uses.sample), spectra), curved)
    total = curved.total
    values, blocks = _along(rows, norms, 0.5 * (total + total.swapaxes(1, 2)).astype(np.float32))
    order = np.argsort(values)
    mass = np.cumsum(np.maximum(values[order], 0.0), dtype=float)
    filled = values[order] > EMPTY * values.max()
    sorted_groups = np.where(filled, 1 + np.minimum((mass / max(mass[-1], 1e-300) * GROUPS).astype(int), GROUPS - 1), 0)
    group = np.empty(len(values), int)
    group[order] = np.unique(sorted_groups, return_inverse=True)[1]
    sizes = np.bincount(group).astype(np.float32)
    squares = np.zeros((len(sizes), *total.shape), np.float32)
    first = 0
    for along, classes in blocks:
        here = group[first : (first := first + along[0].shape[1])]
        belongs = (here[:, None] == np.arange(len(sizes))).astype(np.float32)
        for a, b in np.ndindex(len(along), len(along)):
            summed = ((along[a] * along[b]) @ belongs).T
            if classes is None:
                squares[:, :, a, b] = summed
            else:
                squares += summed[:, :, None, None] * np.outer(classes, classes).astype(np.float32)
    return Basis(squares, sizes, norms, len(record.uses.sample))


def renewed(basis: Basis, curved: Curvature) -> Basis:
    """A basis of before where curvature is what it is now, if it knows how its squares follow it."""
    if basis.spectra is None:
        return basis
    squares, sizes = squares_of(basis.spectra, np.maximum(curved.total[:, 0, 0], 0.0))
    return basis._replace(squares=squares[:, :, None, None], sizes=sizes)


def _along(rows: np.ndarray, norms: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, list[tuple[list[np.ndarray], np.ndarray | None]]]:
    """Eigenvalues of `sum_i x_i x_i^T (x) C_i`, and in blocks of them the rows along the eigenvectors, a column each: an array for every
    output; or one for all, of eigenvectors that are the same but for a factor `(k,)`."""
    k = total.shape[1]
    if k == 1:
        values, along = _eigen(rows, norms, total[:, 0, 0])
        return values, [([along], None)]
    if k * rows.shape[1] <= TOGETHER:
        parts = [[(rows.T * total[:, a, b]) @ rows for b in range(k)] for a in range(k)]
        values, vectors = _eigenvectors(np.block(parts))
        return values, [([rows @ part for part in np.split(vectors, k)], None)]
    classes = np.linalg.eigh(total.mean(0))[1].T
    found = [_eigen(rows, norms, np.einsum("nab,a,b->n", total, u, u)) for u in classes]
    return np.concatenate([values for values, _ in found]), [([along], u) for (_, along), u in zip(found, classes, strict=True)]


def _eigen(rows: np.ndarray, norms: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of `X^T diag(weights) X` and the rows along its eigenvectors, a column each. With fewer rows than features there are as
    many of them, and one column for the length of what they leave of the rows."""
    n, d = rows.shape
    if d <= n:
        values, vectors = _eigenvectors(_weighed(rows, weights))
        return values, rows @ vectors
    half = np.sqrt(np.maximum(weights, 0.0))[:, None] * rows
    values, vectors = _eigenvectors(half @ half.T)
    kept = values > EMPTY * values.max()
    along = rows @ (half.T @ (vectors[:, kept] / np.sqrt(values[kept])))
    left = np.sqrt(np.maximum(norms - np.sum(along**2, 1), 0.0)).astype(np.float32)
    return np.append(values[kept], 0.0), np.column_stack([along, left])


def _weighed(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`X^T diag(weights) X`, by half the work where no weight is negative; the upper triangle then, which is what is read."""
    if (weights < 0).any():
        return (rows.T * weights) @ rows
    half = (rows * np.sqrt(weights)[:, None]).T
    (syrk,) = get_blas_funcs(["syrk"], (half,))
    return syrk(1.0, half).T


def _eigenvectors(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of a symmetric matrix in single precision, which NumPy would do in double."""
    if not np.isfinite(matrix).all():
        raise np.linalg.LinAlgError("not finite")
    return eigh(matrix, driver="evd", lower=True, overwrite_a=True, check_finite=False)


def shift(record: Record, basis: Basis, curved: Curvature, decay: float) -> np.ndarray:
    """By how much leaving it out changes the prediction of each sample, as far as the model of the response goes, `(2, n, k)`: all of it,
    and with every kick counted by how far responses to kicks of its age have faded, from 0 to 1."""
    uses, k, norms = record.uses, record.k, basis.norms
    n, nodes = len(norms), _nodes(record, curved.pace)
    cells, lengths = len(nodes) - 1, np.diff(nodes)
    cell_of_step = np.searchsorted(nodes, np.arange(len(curved.pace)), side="right") - 1
    at = cell_of_step[uses.step] * n + uses.sample
    by_cell = lambda weights: np.bincount(at, weights, cells * n).reshape(cells, n)
    rates, share = np.zeros((cells, len(basis.sizes))), np.zeros(cells)
    for a, b in np.ndindex(k, k):
        spent = by_cell(curved.values[:, a, b])
        rates += spent.astype(np.float32) @ basis.squares[:, :, b, a].T
        share += spent @ norms if a == b else 0.0
    share = share / share.sum() if share.sum() != 0 else lengths / lengths.sum()
    over, here = _fading(rates / basis.sizes, lengths, nodes, record, curved.pace, decay)

    kicks = uses.gradient * curved.amplitudes
    part_of_step = (np.arange(1, len(cell_of_step) + 1) - nodes[cell_of_step]) / lengths[cell_of_step]  # a kick acts when its step ends
    part = part_of_step[uses.step]
    given = np.zeros((cells + 1, n, k))
    for a in range(k):
        late = by_cell(kicks[:, a] * part)
        given[:-1, :, a] += by_cell(kicks[:, a]) - late
        given[1:, :, a] += late
    found, left = np.empty((cells + 1, n, k)), np.zeros(cells + 1)
    for first in range(0, n, BLOCK):
        some = slice(first, first + BLOCK)
        responses = _without_own(basis.squares[:, some], curved.total[some], share, over, here)
        found[:, some] = np.einsum("snab,snb->sna", responses, given[:, some], optimize=True)
        left += np.einsum("snaa->s", responses)
    faded = 1.0 - left / np.abs(left).max()
    return np.stack([found.sum(0), np.einsum("s,sna->na", faded, found)]) * curved.units


def _nodes(record: Record, pace: np.ndarray) -> np.ndarray:
    """Steps at which time is cut, even in what training has done to the predictions, and finer towards the present."""
    steps = len(pace)
    done = np.append(0.0, np.cumsum(pace)) / pace.sum()
    wanted = 1.0 - np.linspace(1.0, 0.0, CELLS + 1) ** TOWARDS_NOW
    nodes = np.searchsorted(done, wanted - 1e-9)
    memory = 1.0 / (1.0 - record.steps.momentum[-1])
    if memory > 1.0:  # a velocity answers late
        nodes = np.append(nodes, steps - np.round(memory * np.array([0.3, 0.7, 1.2, 2.0, 3.0, 5.0])))
    return np.unique(np.append(nodes, [0, steps]).clip(0, steps).astype(int))


def _fading(rates, lengths, nodes, record: Record, pace, decay: float) -> tuple[list[np.ndarray], np.ndarray]:
    """What is left of a kick at a node: on average over each later cell, by cell `(nodes before, m)`, and now `(node, m)`."""
    mean = lambda values: np.add.reduceat(values, nodes[:-1]) / lengths
    pace, momentum = mean(pace), mean(record.steps.momentum)
    decays = pace * decay + (1.0 - momentum) * mean(record.steps.shrink)  # a velocity makes more of its part
    a = rates / lengths[:, None] + decays[:, None]
    if not momentum.any():  # what is left is a product over cells
        power, average = _kept(a, lengths[:, None])
        here = np.cumprod(np.concatenate([power, np.ones_like(a[:1])])[::-1], axis=0)[::-1]
        before, over = np.zeros_like(a[:0]), []
        for kept, mean_kept in zip(power, average, strict=True):
            before = np.concatenate([before, np.ones_like(a[:1])])
            over.append((before * mean_kept).astype(np.float32))
            before = before * kept
        return over, here.astype(np.float32)
    state = np.zeros((0, rates.shape[1], 2))
    over = []
    for c, length in enumerate(lengths):
        state = np.concatenate([state, np.broadcast_to([1.0, -1.0], (1, rates.shape[1], 2))])
        power, average = _transition(a[c], momentum[c], int(length))
        over.append(np.einsum("mb,smb->sm", average, state).astype(np.float32))
        state = np.einsum("mab,smb->sma", power, state)
        if c + 1 < len(pace) and pace[c] > 0:
            state[..., 1] *= pace[c + 1] / pace[c]
    return over, np.concatenate([state[..., 0], np.ones((1, rates.shape[1]))]).astype(np.float32)


def _kept(a: np.ndarray, steps: Any) -> tuple[np.ndarray, np.ndarray]:
    """`(1 - a)^steps`, and the mean over the steps of what there was before each."""
    near, power = np.abs(a) < 1e-9, (1.0 - a) ** steps
    return power, np.where(near, 1.0, (1.0 - power) / np.where(near, 1.0, a * steps))


def _transition(a: np.ndarray, momentum: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """`M^steps (..., 2, 2)` of `u <- momentum u + a theta`, `theta <- theta - u`, and the mean over the steps of the row of `theta`, by
    the eigenvalues of `M`, whose determinant is the momentum."""
    if momentum == 0.0:
        (kept, average), none = _kept(a, steps), np.zeros_like(a)
        last = (1.0 - a) ** (steps - 1)
        power = np.stack([np.stack([kept, none], -1), np.stack([last * a, none], -1)], -2)
        return power, np.stack([average, none], -1)
    trace = 1.0 - a + momentum
    root = np.sqrt((trace**2 - 4.0 * momentum).astype(complex))
    root = np.where(np.abs(root) < 1e-7, 1e-7, root)
    roots = np.stack([0.5 * (trace + root), 0.5 * (trace - root)])
    last = roots ** (steps - 1)
    near = np.abs(roots - 1.0) < 1e-9
    sums = np.where(near, steps, (last * roots - 1.0) / np.where(near, 1.0, roots - 1.0))
    difference = lambda pair: ((pair[0] - pair[1]) / root).real
    here, before = difference(last * roots), difference(last)
    through, through_before = difference(sums), difference(sums) - before
    rows = [[(1.0 - a) * here - momentum * before, -momentum * here], [a * here, momentum * here - momentum * before]]
    average = [(1.0 - a) * through + 1.0 - momentum * through_before, -momentum * through]
    return np.stack([np.stack(row, -1) for row in rows], -2), np.stack(average, -1) / steps


def _without_own(squares, total, share, over, here) -> np.ndarray:
    """`R (node, n, k, k)` of some samples: the response of a training without the sample, from the latest node back.

    `R_s = chi_s + sum_cells (R_left + R_right) / 2 C_cell chi_cell`, where `C` is the sample's own curvature in a cell."""
    (groups, n, k), cells = squares.shape[:3], len(over)
    flat = squares.reshape(groups, -1)
    quadratic = lambda fading: (fading @ flat).reshape(-1, n, k, k)
    times = (lambda a, b: a * b) if k == 1 else np.matmul
    now = quadratic(here)
    kind = np.float32 if k == 1 else np.float64  # systems of equations are solved in double precision
    total, identity, share = total.astype(kind), np.eye(k, dtype=kind), share.astype(kind)
    found = np.empty((cells + 1, n, k, k), kind)
    found[-1] = now[-1]
    felt = np.empty((cells, n, k, k), kind)  # (R_left + R_right) / 2 C
    for s in range(cells - 1, -1, -1):
        chi = quadratic(np.stack([over[c][s] for c in range(s, cells)]))
        own = share[s] * total
        if k == 1:
            later = np.einsum("cn,cn->n", felt[s + 1 :, :, 0, 0], chi[1:, :, 0, 0])[:, None, None]
        else:
            later = np.matmul(felt[s + 1 :], chi[1:]).sum(0)
        right = now[s] + later + 0.5 * times(times(found[s + 1], own), chi[0])
        keeps = identity - 0.5 * times(own, chi[0])
        found[s] = right / keeps if k == 1 else np.linalg.solve(keeps.swapaxes(1, 2), right.swapaxes(1, 2)).swapaxes(1, 2)
        felt[s] = 0.5 * times(found[s] + found[s + 1], own)
    return found
