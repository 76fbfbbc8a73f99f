"""The covariance of the noise increment of a cell with those before it, from averages over paths.

Its row for a late cell has as many entries as there are cells before, each with a sampling error of its own, and the factor of the
whole covariance takes them for real: of a cell's innovation it loses about the number of cells over that of paths, until nothing is left
and the process lives on its early normals alone. But the entries are a smooth function of the earlier time: it is fitted by
straight pieces, short near both ends, where it changes.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..averages import Averages

FINE = 5  # straight pieces are one cell long up to so many cells from either end, and then grow in proportion to that distance


def noise_row(
    nodes: np.ndarray, node: int, step: np.ndarray, before: Averages, after: Averages, smooth: bool, warmth: float = 0.0
) -> np.ndarray:
    """Covariance `(S, k, node + 1, k)` of the noise increment of cell `node` with those up to it, averaged over the jump's
    intensity: `E[l_t G_c^T] dt`, and `eta E[l l^T] dt + warmth dt` more on the diagonal."""
    spacing = nodes[node + 1] - nodes[node]
    row = 0.5 * spacing * (before.l_kicks[:, : node + 1] + after.l_kicks[:, : node + 1])
    inner = after.l_kicks[:, node]
    white = step[0] * before.l_l + step[1] * after.l_l + 2.0 * warmth * np.eye(before.l_l.shape[-1])
    row[:, node] = 0.5 * spacing * (inner + np.swapaxes(inner, 1, 2) + white)
    row = np.moveaxis(row, 1, 2)
    return smoothed(row, nodes) if smooth else row


def smoothed(row: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """The same row, its part of earlier cells fitted by straight pieces as a density in time, cells weighed by their widths."""
    cells = row.shape[2] - 1
    fitted = _fit(nodes[: cells + 1].tobytes())
    if fitted is None:
        return row
    values, hats = fitted
    out = row.copy()
    out[:, :, :cells] = np.moveaxis(np.moveaxis(row[:, :, :cells], 2, 3) @ values @ hats, 3, 2)
    return out


@lru_cache(maxsize=8)
def _fit(nodes: bytes) -> tuple[np.ndarray, np.ndarray] | None:
    """What takes a row to its values where the pieces meet, and these to the smoothed row: `(cells, E)` and `(E, cells)`; None for a
    row too short to be smoothed. Asked for several times at each node, and by all replicates."""
    widths = np.diff(np.frombuffer(nodes))
    cells = len(widths)
    ends = pieces(cells)
    if len(ends) == cells:
        return None
    hats = np.array([np.interp(np.arange(cells), ends, hat) for hat in np.eye(len(ends))])
    weighted = hats * widths
    return np.linalg.solve(weighted @ hats.T, hats).T, weighted  # fits densities times widths, which is what a row has


def pieces(cells: int) -> np.ndarray:
    """The cells at which straight pieces meet, the first and the last of them included."""
    ends = [0] if cells else []
    while ends and ends[-1] < cells - 1:
        far = max(min(ends[-1], cells - 1 - ends[-1]) // FINE, 1)
        ends.append(min(ends[-1] + far, cells - 1))
    return np.array(ends)
