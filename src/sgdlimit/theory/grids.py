"""Grids of nodes in time, nested by halving, and normals that mean the same on all of them."""

from __future__ import annotations

import numpy as np

GRADING = 1.5
STEEP = 2.5  # where much happens at once


def spaced(horizon: float, cells: int, grading: float = GRADING) -> np.ndarray:
    """Nodes `(cells + 1,)`, closer at the start: training is fast first and slow later. Every second one is again such a grid."""
    return horizon * np.linspace(0.0, 1.0, cells + 1) ** grading


def merge(normals: np.ndarray, nodes: np.ndarray, finest: np.ndarray, smooth: bool = False) -> np.ndarray:
    """Normals `(P, N, k)` of the cells of the grid `finest` to those of the coarse grid `nodes`, which are some of its nodes.

    Brownian increments add up. A smooth process has ever less new in each cell, the first ones its value and derivatives
    at the start, so there the first normals mean the same on every grid.
    """
    if smooth:
        return normals[:, : len(nodes) - 1]
    paths, fine, k = normals.shape
    cells = len(nodes) - 1
    widths = np.diff(finest).reshape(cells, fine // cells)
    weights = np.sqrt(widths / widths.sum(1, keepdims=True))
    return np.einsum("pcmk,cm->pck", normals.reshape(paths, cells, fine // cells, k), weights)
