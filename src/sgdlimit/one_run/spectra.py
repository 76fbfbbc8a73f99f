"""Where in the spectrum of the curvature a sample's row lies, without all of its eigenvectors: for one output and many features.

`X^T C X` has a few eigenvectors of its own, for strong directions and clusters, and a bulk. The first are found in a Krylov space. What is
left of a row lies in the bulk as that of any other does, but for its own curvature: its first moments there, which two products tell, tilt
the spectrum of all to its own by polynomials orthogonal in it. Where curvature changes, moments change as its own part of them does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import eigh, qr

from ..compiling import jit

WIDTH, STEPS = 16, 8  # of the Krylov space: directions at once, and products with them
OWN = 0.05  # of its eigenvalue: a vector that is turned by less is an eigenvector
GROUPS, BULK = 32, 16  # of eigenvectors of like eigenvalue, and of those of the bulk
LEAST = 1e-6  # of a row, what is taken to be left of it
ROUNDING = 1e-5  # of the whole curvature: less of it is no bulk
PARTS = 3  # blocks of columns, of which a symmetric product needs no more than half and the diagonal


class Spectra(NamedTuple):
    """`leading (g, n)`: squares of every row along groups of eigenvectors, of which there are `sizes (g,)`. What is left of it has the
    squared `length (n,)`, in a bulk of `counts (m,)` directions with eigenvalues `values (m,)`. There a row's mean eigenvalue and mean
    square are `beyond (2, n)` times those of `others (2,)` with its own curvature added; all this where curvatures were `weights (n,)`."""

    leading: np.ndarray
    sizes: np.ndarray
    length: np.ndarray
    values: np.ndarray
    counts: np.ndarray
    others: np.ndarray
    beyond: np.ndarray
    weights: np.ndarray


def find_spectra(rows: np.ndarray, norms: np.ndarray, weights: np.ndarray) -> Spectra | None:
    """Of curvatures `weights (n,)`, none of them negative; none where beside the eigenvectors that were found there is no bulk."""
    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        matrix = np.asarray(_curvature(rows, weights.astype(np.float32)))
        if not np.isfinite(matrix).all():
            raise np.linalg.LinAlgError("not finite")
        values, counts, vectors = _krylov(matrix)
        (rest, leading), (counts, _) = (np.split(part, [len(values) - vectors.shape[1]]) for part in (values, counts))
        bulk = matrix - (vectors * leading.astype(np.float32)) @ vectors.T
        moments = np.asarray(_moments(rows, bulk)).astype(float)
    squares = (rows @ vectors).astype(float) ** 2
    length = np.maximum(norms - squares.sum(1), LEAST * norms)
    moments = np.maximum(moments, 0.0) / np.maximum(length, 1e-300)
    rest, own, whole = np.maximum(rest, 0.0), weights * length, float(np.trace(bulk))
    counts *= (rows.shape[1] - len(leading)) / max(counts.sum(), 1e-300)
    to = _alike(rest, counts * rest, BULK)
    first = own @ (moments[0] - own) / own.sum()
    others = np.array([first, own @ (moments[1] - 2.0 * own * first - own**2) / own.sum()])
    if len(to) < BULK // 2 or whole < ROUNDING * np.trace(matrix) or not (others > 0).all():
        return None
    rest *= whole / (counts @ rest)
    many, which = to @ counts, _alike(leading, leading, GROUPS)
    beyond = moments / _with_own(others, own)
    return Spectra(which @ squares.T, which.sum(1), length, to @ (counts * rest) / many, many, others, beyond, weights)


def squares_of(spectra: Spectra, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squares of every row `(g, n)` along groups of directions, where its curvature is of late `weights (n,)`; and how many a group has."""
    own = weights * spectra.length
    scale = own.sum() / (spectra.weights @ spectra.length)
    first, second = _with_own(spectra.others * np.array([scale, scale**2]), own) * spectra.beyond
    values = spectra.values * scale
    mass = spectra.counts * values / (spectra.counts @ values)
    mean, square = mass @ values, mass @ values**2
    straight, bent = values - mean, values**2 - square
    spread = mass @ straight**2
    slope = mass @ (bent * straight) / spread
    bent -= slope * straight
    tilt = 1.0 + np.outer(straight / spread, first - mean)
    tilt += np.outer(bent / (mass @ bent**2), second - square - slope * (first - mean))
    bulk = np.maximum(tilt, 0.0) * mass[:, None]
    bulk *= spectra.length / bulk.sum(0)
    return np.concatenate([bulk, spectra.leading]).astype(np.float32), np.concatenate([spectra.counts, spectra.sizes]).astype(np.float32)


def _with_own(others: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Moments `(2, n)` of a unit row in the curvature of others and its own, `A + own u u^T`."""
    return np.stack([others[0] + own, others[1] + 2.0 * own * others[0] + own**2])


def _alike(values: np.ndarray, mass: np.ndarray, groups: int) -> np.ndarray:
    """Groups of like value and like mass, `(group, value)` with ones and zeros."""
    order = np.argsort(values)
    middle = np.cumsum(mass[order]) - 0.5 * mass[order]
    group = np.empty(len(values), int)
    group[order] = np.unique((middle / max(mass.sum(), 1e-300) * groups).astype(int), return_inverse=True)[1]
    return (np.arange(group.max(initial=-1) + 1)[:, None] == group).astype(float)


def _krylov(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a symmetric matrix in a space of random directions: all approximate eigenvalues `(q,)`, of how many each stands for, and, last in
    order, those of them that are its own, as vectors `(d, found)`."""
    d = len(matrix)
    width, steps = min(WIDTH, d), min(STEPS, d // min(WIDTH, d))
    space, images = np.empty((d, width * steps), np.float32, order="F"), np.empty((d, width * steps), np.float32, order="F")
    block = _orthogonal(np.random.default_rng(0).standard_normal((d, width)).astype(np.float32))[0]
    for step in range(steps):
        here, before = slice(step * width, (step + 1) * width), slice(0, (step + 1) * width)
        space[:, here] = block
        images[:, here] = block = matrix @ block
        left = np.eye(width, dtype=np.float32)
        for _ in range(2):  # once is not enough where a few eigenvalues are far above the others, or none are left
            block, scale = _orthogonal(block - space[:, before] @ (space[:, before].T @ block))
            left = scale @ left
    small = space.T @ images
    values, inner = eigh(0.5 * (small + small.T), driver="evd", overwrite_a=True, check_finite=False)
    found = np.linalg.norm(left @ inner[-width:], axis=0) < OWN * values
    order = np.argsort(found, kind="stable")
    stands_for = np.sum(inner[:width] ** 2, 0, dtype=float) * d / width
    return values[order].astype(float), stands_for[order], space @ inner[:, found]


def _orthogonal(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    factors: Any = qr(block, mode="economic", overwrite_a=True, check_finite=False)
    return factors


@jit
def _curvature(rows: Any, weights: Any) -> Any:
    """`X^T diag(weights) X`."""
    parts = jnp.array_split(rows * jnp.sqrt(weights)[:, None], PARTS, axis=1)
    half = {(i, j): parts[i].T @ parts[j] for i in range(PARTS) for j in range(i, PARTS)}
    return jnp.block([[half[i, j] if i <= j else half[j, i].T for j in range(PARTS)] for i in range(PARTS)])


@jit
def _moments(rows: Any, matrix: Any) -> Any:
    """Of every row `x^T A x` and `x^T A^2 x`, `(2, n)`."""
    image = rows @ matrix
    return jnp.stack([jnp.sum(rows * image, 1), jnp.sum(image**2, 1)])
