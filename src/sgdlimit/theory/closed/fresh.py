"""What the equations of one pass ask of a fresh sample, and the eigenvalues of the features between which they are shared out."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...checks import root
from ...learning.problem import Problem
from ...learning.slopes import Slopes
from ...learning.trained import Labelled

Array = Any


def averages_at(
    slopes: Slopes, kinks: bool, g: Array, y: Any, weight: Array, M: Array, q: Array, a: Array | None = None
) -> tuple[Array, Array, Array, Array, Array, tuple[Array, Array] | None]:
    """Averages over points `g (P, k_star + k)` of the given weights `(P,)`: `E[l g*^T]`, `E[l xi^T] S^T`, `E[l l^T]`, `Gamma`, `E[L]`;
    where numbers `a (p,)` are trained along, mean and mean square of the loss's gradient in them, `(p,)` each."""
    each = lambda f: jax.vmap(f)
    if a is not None:
        y, each = y._replace(a=a), lambda f: jax.vmap(f, (0, Labelled(0, None)))
    values, vectors = jnp.linalg.eigh(q - M @ M.T)
    spread_of_w = (vectors * jnp.sqrt(jnp.maximum(values, 0.0))) @ vectors.T
    k_star = M.shape[1]
    w = g[:, :k_star] @ M.T + g[:, k_star:] @ spread_of_w
    l = each(slopes.gradient)(w, y)  # noqa: E741
    weighted = weight[:, None] * l
    if kinks:
        l_xi = weighted.T @ g[:, k_star:]
        gamma, l_rest = l_xi @ jnp.linalg.pinv(spread_of_w, hermitian=True), l_xi @ spread_of_w
    else:
        gamma = jnp.einsum("p,pab->ab", weight, each(slopes.hessian)(w, y))
        l_rest = gamma @ (q - M @ M.T)
    along = None
    if slopes.pull is not None:
        pull = each(slopes.pull)(w, y)
        along = (weight[:, None] * pull).sum(0), (weight[:, None] * pull**2).sum(0)  # not as products, which would write it out
    return weighted.T @ g[:, :k_star], l_rest, weighted.T @ l, gamma, weight @ each(slopes.loss)(w, y), along


class Classes(NamedTuple):
    """The eigenvalues, `m` of them."""

    eigenvalues: Array  # (m, 1, 1)
    share: Array  # (m,): of a pre-activation's variance
    moments: Array  # (m, k_star, k_star): second moments of the teacher
    inverse: Array  # (k_star, k_star): root(rho)^-1

    def seen(self, B: Array, C: Array) -> tuple[Array, Array]:
        """`M (S, k, k_star)` and `q (S, k, k)` of a pre-activation, from those of every eigenvalue, `(S, m, ...)`."""
        M = jnp.einsum("m,smij,mjl->sil", self.share, B, self.moments) @ self.inverse
        return M, jnp.einsum("m,smij->sij", self.share, C)


def classes_of(problem: Problem) -> Classes:
    """Those of a problem's spectrum; isotropic data have one."""
    spectrum = problem.anisotropic
    inverse = np.linalg.pinv(root(problem.rho), rcond=1e-8, hermitian=True)
    if spectrum is None:
        return Classes(np.ones((1, 1, 1)), np.ones(1), problem.rho[None], inverse)
    moments = spectrum.teacher_moments(problem.teacher.cov)
    return Classes(spectrum.eigenvalues[:, None, None], spectrum.weights * spectrum.eigenvalues, moments, inverse)


def starts(problem: Problem, classes: Classes) -> tuple[np.ndarray, np.ndarray]:
    """`B (m, k, k_star)` and `C (m, k, k)` at time zero."""
    B = np.broadcast_to(problem.init.overlap, (len(classes.share), problem.k, problem.k_star))
    return B, B @ classes.moments @ np.swapaxes(B, 1, 2) + problem.init.cov
