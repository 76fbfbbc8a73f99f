"""Coordinates drawn from the law of (teacher row, start, noise of U): what a penalty that is not quadratic needs.

A coordinate is linear under a ridge, and second moments say all. Otherwise eq. (2) is sampled: a particle has a teacher
row from the teacher's own law, a start, and one normal k-vector a cell. Scrambled Sobol points, stratified in the teacher
row, and mapped linearly so that all their second moments are exact: what is linear in a particle has no sampling error.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special
from scipy.stats import qmc

from ...checks import root
from ...learning.dynamics import Dynamics
from ...learning.problem import Problem
from ...learning.spectrum import Spectrum
from ...learning.weights import EmpiricalTeacher, SparseTeacher, Teacher
from ..grids import merge

TINY = 2.0**-40  # keeps uniform numbers off 0 and 1
SPARE = 4  # particles for each of their dimensions, at least: exact moments move every particle little
OFTEN = 0.5  # share of the particles that have a non-zero row of a sparse teacher: about half of the second moments is theirs


class Particles(NamedTuple):
    """`P` coordinates: `weight (P,)` sums to one, `gstar (P, k_star)` with `theta* = root(rho) g*`, `start (P, k)` and
    `cells (P, N, B k)` with second moments one, `B` normals of each for a cell; with a spectrum the `eigenvalue (P,)` of each, which second
    moments then are weighed by, and its number `which (P,)`."""

    weight: np.ndarray
    gstar: np.ndarray
    start: np.ndarray
    cells: np.ndarray
    eigenvalue: np.ndarray | None = None
    which: np.ndarray | None = None


def blocks_of(problem: Problem, dynamics: Dynamics, natural: bool) -> int:
    """How many normals of each row a cell has: white noise of its own is not that of the samples where eigenvalues differ; and behind a
    filter independent increments are passed on unevenly, see `filters`."""
    kinds = 2 if dynamics.temperature and problem.anisotropic is not None else 1
    return kinds * (1 if dynamics.plain or natural else 2)


def draw_particles(problem: Problem, cells: int, least: int, seed: np.random.SeedSequence, blocks: int = 1) -> Particles:
    """Draw at least `least` particles for `cells` cells, with so many `blocks` of normals for each."""
    k, k_star, spectrum = problem.k, problem.k_star, problem.spectrum
    head = k_star + 1
    dims = head + k + cells * k * blocks
    size = 2 ** int(np.ceil(np.log2(max(least, SPARE * (k_star + k + cells * k * blocks)))))
    points = qmc.Sobol(dims + (spectrum is not None), rng=np.random.default_rng(seed)).random(size)
    points = np.clip(points, TINY, 1.0 - TINY)
    rows, weight = _teacher_rows(problem.teacher, points[:, :head])
    eigenvalue, which, matter = None, None, weight
    if spectrum is not None:
        which, weight = _classes(spectrum, points[:, dims], weight)
        rows = np.einsum("pij,pj->pi", spectrum.teacher_maps(problem.teacher.cov)[which], rows)
        eigenvalue = spectrum.eigenvalues[which]
        matter = weight * eigenvalue
    inverse = np.linalg.pinv(root(problem.rho), rcond=1e-8, hermitian=True)
    gstar = _whiten(rows @ inverse, matter)
    normals = special.ndtri(points[:, head:dims])
    normals = _whiten(normals - gstar @ (gstar.T @ (matter[:, None] * normals)), matter)
    return Particles(weight, gstar, normals[:, :k], normals[:, k:].reshape(size, cells, blocks * k), eigenvalue, which)


def lay_particles(particles: Particles, nodes: np.ndarray, finest: np.ndarray, smooth: bool) -> Particles:
    """Particles on the grid `nodes`, their noise merged like a sample's."""
    return particles._replace(cells=merge(particles.cells, nodes, finest, smooth))


def _classes(spectrum: Spectrum, place: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which eigenvalue each particle has, and its weight: one in two by what an eigenvalue's features do to pre-activations."""
    share = 0.5 * spectrum.weights * (1.0 + spectrum.eigenvalues)
    which = np.minimum(np.searchsorted(np.cumsum(share), place), len(spectrum) - 1)
    total = np.zeros(len(spectrum))
    np.add.at(total, which, weight)
    weight = weight * (spectrum.weights / np.where(total > 0, total, 1.0))[which]
    return which, weight / (weight @ spectrum.eigenvalues[which])


def _teacher_rows(teacher: Teacher, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows `(P, k_star)` and their weights `(P,)` from uniform numbers `(P, 1 + k_star)`, the first of which says which
    part of the law a row is from."""
    even = np.full(len(points), 1.0 / len(points))
    if isinstance(teacher, EmpiricalTeacher):
        rows = teacher.rows[np.argsort(teacher.rows[:, 0] if teacher.rows.shape[1] == 1 else np.linalg.norm(teacher.rows, axis=1))]
        return rows[(points[:, 0] * len(rows)).astype(int)], even
    normal = special.ndtri(points[:, 1:]) @ root(teacher.cov)
    if not isinstance(teacher, SparseTeacher) or teacher.density == 1.0:
        return normal, even
    share = max(teacher.density, OFTEN)
    filled = points[:, 0] < share
    weight = np.where(filled, teacher.density / filled.sum(), (1.0 - teacher.density) / (~filled).sum())
    return np.where(filled[:, None], normal / np.sqrt(teacher.density), 0.0), weight


def _whiten(rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Map `rows (P, m)` linearly, by the map nearest the identity, to second moment one (on the directions they have)."""
    moment = rows.T @ (weight[:, None] * rows)
    return rows @ np.linalg.pinv(root(moment), rcond=1e-7, hermitian=True)
