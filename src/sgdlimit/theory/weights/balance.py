"""The balance of `E[theta theta^T]` behind a filter (OPTIMISERS section 2), from sums over samples alone.

With `P = E[V theta^T]`, for a sample of the training set `x^T theta = r` and `x^T V = v`, and so

    q' = g P + (g P)^T - 2 w q
    tau P' = -P + tau VV g - lam q - E[l r^T]
    tau VV' = -2 VV - lam (P + P^T) - E[l v^T] - E[v l^T] + (eta E[l l^T] + 2 T) / tau

Averages and gains are linear over a cell, and what decays with the memory is followed exactly. As that goes to zero `q` has the
balance of plain training.
"""

from __future__ import annotations

from math import exp
from typing import NamedTuple

import numpy as np

from .filters import Filter

TURNS = 4  # of the part of a cell that is implicit, the ridge's


class Pushed(NamedTuple):
    """Averages at a node, `(S, k, k)` each."""

    l_r: np.ndarray  # E[l r^T]
    l_v: np.ndarray  # E[l v^T]
    noise: np.ndarray  # eta E[l l^T] + 2 T


class Balance:
    """`q`, `P` and `VV (S, N + 1, k, k)` at the nodes reached."""

    def __init__(self, start: np.ndarray, replicates: int, cells: int, ridge: float, filter: Filter):
        self.ridge, self.filter = ridge, filter
        self.q, self.P, self.VV = (np.zeros((replicates, cells + 1, *start.shape)) for _ in range(3))
        self.q[:, 0] = start

    def advance(self, node: int, spacing: float, before: Pushed, after: Pushed) -> None:
        """Node `node + 1` from the averages at both ends."""
        tau, lam, w = self.filter.memory, self.ridge, self.filter.decay
        z = spacing / tau
        once, twice = -np.expm1(-z), -np.expm1(-2.0 * z)
        both = lambda matrix: matrix + np.swapaxes(matrix, 1, 2)
        g = self.filter.gain[:, node : node + 2].mean(1)[:, :, None]
        right = np.swapaxes(g, 1, 2)
        q0, P0, VV0 = self.q[:, node], self.P[:, node], self.VV[:, node]
        q1, P1 = q0, P0
        for _ in range(TURNS if lam or w else 1):
            jolt = [-lam * both(P) - both(at.l_v) + at.noise / tau for P, at in ((P0, before), (P1, after))]
            first, last = (0.5 * part for part in _slow(*jolt, 2.0 * z))
            rush = VV0 - first
            pull = [-lam * q - w * tau * P - at.l_r for q, P, at in ((q0, P0, before), (q1, P1, after))]
            begun, ended = _slow(pull[0] + tau * first * right, pull[1] + tau * last * right, z)
            left = P0 - begun
            P1 = left * exp(-z) + ended + tau * rush * right * (exp(-z) - exp(-2.0 * z))
            flown = left * tau * once + 0.5 * spacing * (begun + ended) + tau * rush * right * tau * (once - 0.5 * twice)
            q1 = ((1.0 - spacing * w) * q0 + both(g * flown)) / (1.0 + spacing * w)
        self.q[:, node + 1], self.P[:, node + 1] = q1, P1
        self.VV[:, node + 1] = rush * exp(-2.0 * z) + last


def _slow(first: np.ndarray, last: np.ndarray, z: float) -> tuple[np.ndarray, np.ndarray]:
    """What is slow of the answer of a filter with `z` memories in a cell to a force linear over it, at both ends; the rest decays."""
    lag = (last - first) / z
    return first - lag, last - lag
