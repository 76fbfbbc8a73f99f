"""The model's response corrected by samples that are left out exactly."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

PRIOR = np.array([0.5, 0.5])  # how far scales are expected from one and zero, where no sample tells
AT_LEAST = 0.01  # of an exact shift: what is not told from rounding and from the linearisation


class Fit(NamedTuple):
    """`scales (2,)` of the model's shift and of its faded part, their covariance, and how samples scatter around it, relatively."""

    scales: np.ndarray
    cov: np.ndarray
    scatter: float


def fit_scales(modelled: np.ndarray, exact: np.ndarray, metric: np.ndarray) -> Fit:
    """By what the model's shifts `(2, q, k)` are multiplied to be those of samples left out exactly `(q, k)`.

    Deviations count as the loss sees them, in a `metric (k, k)` of the outputs: where one output has a small part in the loss, as much of
    its shift is small. They count relatively, so that a sample of large leverage has one voice.
    """
    if not (np.isfinite(modelled).all() and np.isfinite(exact).all() and np.isfinite(metric).all()):
        return Fit(np.full(2, np.nan), np.full((2, 2), np.nan), np.nan)
    values, vectors = np.linalg.eigh(metric)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    modelled, exact = modelled @ root, exact @ root
    size = np.sum(modelled[0] ** 2, 1)
    middle = float(np.median(size))
    if middle == 0.0:
        return Fit(np.array([1.0, 0.0]), np.zeros((2, 2)), 0.0)
    weights = 1.0 / np.sqrt(size + middle)
    a = (modelled * weights[:, None]).reshape(2, -1)
    b = (exact * weights[:, None]).reshape(-1)
    prior, noise = np.array([1.0, 0.0]), 1.0
    scales = prior
    for _ in range(3):  # the noise is that of the fit itself
        cov = np.linalg.inv(a @ a.T / noise + np.diag(PRIOR**-2.0))
        scales = cov @ (a @ b / noise + prior / PRIOR**2)
        noise = float(np.sum((b - scales @ a) ** 2)) / max(len(exact) - 2, 1) + AT_LEAST**2 * float(b @ b) / len(exact)
        noise = max(noise, 1e-300)
    whole = float(b @ b)
    return Fit(scales, cov, float(np.sqrt(np.sum((b - scales @ a) ** 2) / whole)) if whole > 0 else 0.0)
