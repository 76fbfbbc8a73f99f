"""One draw of a learning problem at finite size: rows, labels, teacher and start (THEORY section 1).

Arrays are laid out for the loops that read them: rows `(n, d)` in float32, which halves what a step must fetch from
memory and costs only a relative 1e-7 per entry, once; weights `(k, d)` in float64, because they collect up to millions of
small increments.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
from scipy import special
from scipy.stats import qmc

from ..checks import available_bytes, root
from ..compiling import jit
from ..errors import InputError, nearest, refuse
from ..functions import Static
from ..learning.noise import NoNoise
from ..learning.problem import Problem
from ..learning.weights import SmoothPenalty

TINY = 2.0**-54
# Rows filled at once: 32 of a few thousand features, or as much of shorter ones, stay in cache between drawing and scaling.
BLOCK, WIDE = 32, 2048


# --- designs: fill float32 rows with independent entries of mean 0 and variance 1/d --------------------------------------


def _gaussian(rng: np.random.Generator, rows: np.ndarray) -> None:
    rng.standard_normal(out=rows, dtype=np.float32)
    rows *= np.float32(rows.shape[1] ** -0.5)


def _from_table(rng: np.random.Generator, rows: np.ndarray) -> None:
    """Gaussian entries to within a 65536th of their law, in a third of the time. Means over runs ask for no more: the limit is the same
    for all laws of entries."""
    which = rng.integers(2**16, size=rows.shape, dtype=np.uint16)
    np.take(_table(rows.shape[1]), which, out=rows, mode="wrap")  # the mode that is not checked, entry by entry


@lru_cache(maxsize=4)
def _table(d: int) -> np.ndarray:
    """Quantiles of the normal law, with its variance `1/d`."""
    normal = special.ndtri((np.arange(2**16) + 0.5) / 2**16)
    return (normal / np.sqrt(np.mean(normal**2) * d)).astype(np.float32)


def _rademacher(rng: np.random.Generator, rows: np.ndarray) -> None:
    scale = rows.shape[1] ** -0.5
    signs = np.unpackbits(rng.integers(0, 256, size=-(-rows.size // 8), dtype=np.uint8), count=rows.size)
    np.multiply(signs.reshape(rows.shape), np.float32(2 * scale), out=rows)
    rows -= np.float32(scale)


def _uniform(rng: np.random.Generator, rows: np.ndarray) -> None:
    rng.random(out=rows, dtype=np.float32)
    rows -= np.float32(0.5)
    rows *= np.float32((12 / rows.shape[1]) ** 0.5)


DESIGNS: dict[str, Callable[[np.random.Generator, np.ndarray], None]] = {
    "gaussian": _gaussian,
    "rademacher": _rademacher,
    "uniform": _uniform,
}


def check_design(design: Any) -> str:
    if not isinstance(design, str) or design not in DESIGNS:
        raise refuse("design", "be the name of a law of the entries", design, nearest(str(design), DESIGNS))
    return design


# --- functions of the user, as static arguments of compiled code ----------------------------------------------------------


def smooth_penalty(problem: Problem) -> Static:
    return Static(problem.penalty.fn if isinstance(problem.penalty, SmoothPenalty) else None)


def penalty_gradient(theta, ridge, smooth: Static):
    """`h(theta)` of THEORY section 1 for weights `(k, d)`."""
    gradient = ridge * theta
    if smooth.fn is not None:
        gradient += jax.vmap(jax.grad(smooth.fn), in_axes=1, out_axes=1)(theta)
    return gradient


def pick(labels, i):
    """The label of sample `i`; labels may be any tree of arrays."""
    return jax.tree.map(lambda y: jax.lax.dynamic_index_in_dim(y, i, keepdims=False), labels)


# --- one data set --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """Rows `(n, d)` float32, labels (n first), teacher `(k_star, d)` and start `(k, d)` in float64, and `eigenvalues (d,)` of the
    features where there is a spectrum: rows are scaled by their roots."""

    rows: Any
    labels: Any
    teacher: np.ndarray
    start: np.ndarray
    eigenvalues: np.ndarray | None = None


def n_samples(problem: Problem, n_features: int) -> int:
    n = round(problem.sample_ratio * n_features)
    if n < 1:
        raise refuse(
            "n_features",
            f"give at least one sample at sample_ratio = {problem.sample_ratio:g}",
            n_features,
            f"at least {math.ceil(1 / problem.sample_ratio)}",
        )
    return n


def allocate(n: int, d: int) -> np.ndarray:
    """Room for the rows, aligned to 64 bytes so that JAX reads it in place. It is used again for every repeat: asking the
    system for fresh pages costs as much time as drawing the normals."""
    room = np.empty(4 * n * d + 64, dtype=np.uint8)
    shift = -room.ctypes.data % 64
    return room[shift : shift + 4 * n * d].view(np.float32).reshape(n, d)


def draw_each(problem: Problem, design: str, rows: np.ndarray, streams: list[np.random.Generator], evenly: bool = False) -> list[Data]:
    """Fill `rows (runs, n, d)` and draw everything else, with a generator for each run.

    The second moments of teacher and start are imposed on the draw, not only in expectation: `T^T T / d` is the
    teacher's `cov` and the start's overlaps are exactly those of the problem. The limit does not have the `O(d^{-1/2})`
    scatter this removes, which would otherwise be the largest noise at early times. With a spectrum this holds of the
    pre-activations, and of the features of one eigenvalue as far as there are enough of them.

    Where samples are to lie `evenly`, what a run begins with, each sample's label noise, teacher's and start's pre-activations, are the
    points of a Sobol sequence moved at random (Cranley and Patterson 1976). A sample has the law that it has, and so has the limit; runs
    scatter less. Held against plain ones in `tests/test_by_runs.py`.
    """
    drawn = []
    for room, rng in zip(rows, streams, strict=True):
        eigenvalues, teacher, start = (
            _anisotropic(problem, room.shape[1], rng) if problem.spectrum else (None, *_isotropic(problem, room.shape[1], rng))
        )
        basis = np.concatenate([teacher, start], 1) if evenly else None
        drawn.append((eigenvalues, teacher, start, *_filled(problem, design, room, teacher, rng, eigenvalues, basis)))
    labels = _labels(*(np.concatenate([one[i] for one in drawn]) for i in (3, 4)), label=Static(problem.label))
    n, made = rows.shape[1], []
    for i, (room, (eigenvalues, teacher, start, *_)) in enumerate(zip(rows, drawn, strict=True)):
        own = labels if len(drawn) == 1 else jax.tree.map(lambda y, i=i: np.asarray(y)[i * n : (i + 1) * n], labels)
        made.append(Data(_put(room), own, np.ascontiguousarray(teacher.T), np.ascontiguousarray(start.T), eigenvalues))
    return made


def _isotropic(problem: Problem, d: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Teacher `(d, k_star)` and start `(d, k)`."""
    teacher = impose(problem.teacher.draw(rng, d), problem.teacher.cov, "teacher")
    start = rng.standard_normal((d, problem.k))
    start -= teacher @ np.linalg.lstsq(teacher, start, rcond=None)[0]
    return teacher, teacher @ problem.init.overlap.T + impose(start, problem.init.cov, "start")


def _anisotropic(problem: Problem, d: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues `(d,)`, teacher `(d, k_star)` and start `(d, k)`: what is a mean over features for isotropic data is one with the
    eigenvalues here."""
    spectrum = problem.spectrum
    assert spectrum is not None
    counts = spectrum.counts(d)
    which = np.repeat(np.arange(len(spectrum)), counts)
    eigenvalues = spectrum.eigenvalues[which]
    eigenvalues = eigenvalues * (d / eigenvalues.sum())  # whole numbers of features miss the mean by a little
    moments = spectrum.teacher_moments(problem.teacher.cov)
    teacher = np.einsum("dij,dj->di", spectrum.teacher_maps(problem.teacher.cov)[which], problem.teacher.draw(rng, d))
    noise = rng.standard_normal((d, problem.k))
    for i, last in enumerate(np.cumsum(counts)):
        here = slice(last - counts[i], last)
        teacher[here] = _near(teacher[here], moments[i])
        noise[here] = _near(_without(noise[here], teacher[here]), np.eye(problem.k))
    scale = np.sqrt(eigenvalues)[:, None]
    teacher = impose(teacher, problem.rho, "teacher", scale)
    noise = impose(_without(noise, teacher, scale), problem.init.cov, "start", scale)
    return eigenvalues, teacher, teacher @ problem.init.overlap.T + noise


def _near(rows: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """The rows of one eigenvalue mapped to second moment `cov`, or only to its trace where they are too few."""
    try:
        return impose(rows, cov, "") if len(rows) > 2 * rows.shape[1] else _sized(rows, cov)
    except InputError:
        return _sized(rows, cov)


def _sized(rows: np.ndarray, cov: np.ndarray) -> np.ndarray:
    size = np.vdot(rows, rows)
    return rows * np.sqrt(np.trace(cov) * len(rows) / size) if size > 0 else rows


def _without(rows: np.ndarray, teacher: np.ndarray, scale: np.ndarray | float = 1.0) -> np.ndarray:
    """What of `rows` is not along the teacher's, if that leaves something."""
    if len(rows) <= 2 * (rows.shape[1] + teacher.shape[1]):
        return rows
    return rows - teacher @ np.linalg.lstsq(scale * teacher, scale * rows, rcond=None)[0]


def samples(
    problem: Problem, design: str, rows: np.ndarray, teacher: np.ndarray, rng: np.random.Generator, eigenvalues: np.ndarray | None = None
) -> tuple[Any, Any]:
    """Fill `rows` with fresh samples and label them by the teacher `(d, k_star)`."""
    labels = _labels(*_filled(problem, design, rows, teacher, rng, eigenvalues), label=Static(problem.label))
    return _put(rows), labels


def _put(rows: np.ndarray) -> Any:
    """May be the same memory, and no copy of the largest array. It is only filled again when the work on these samples is done."""
    return jax.device_put(rows, may_alias=True)


def _filled(problem, design, rows, teacher, rng, eigenvalues, basis=None) -> tuple[np.ndarray, np.ndarray]:
    """Fill `rows`; the teacher's pre-activations `(n, k_star)` and label noise of each. With a `basis (d, m)` whose products with rows are
    to lie evenly, the teacher's first among them."""
    size = math.prod(problem.noise.shape) if isinstance(problem.noise, NoNoise) else problem.noise_size
    if basis is None:
        uniform = rng.random((len(rows), size))
    else:
        points = (_even_points(len(rows), size + basis.shape[1]) + rng.random(size + basis.shape[1])) % 1.0
        uniform, products = points[:, :size], special.ndtri(np.clip(points[:, size:], TINY, 1.0 - TINY))
    z = problem.noise_from_uniform(np.maximum(uniform, TINY))
    scale = np.ones(rows.shape[1], np.float32) if eigenvalues is None else np.sqrt(eigenvalues).astype(np.float32)
    fill = _from_table if basis is not None and design == "gaussian" else DESIGNS[design]
    together = max(BLOCK, BLOCK * WIDE // rows.shape[1])
    for first in range(0, len(rows), together):
        block = rows[first : first + together]
        fill(rng, block)
        if eigenvalues is not None:
            block *= scale
    if basis is not None:
        q = np.linalg.qr(scale[:, None] * basis)[0].astype(np.float32)
        rows += ((products * len(q) ** -0.5).astype(np.float32) - rows @ (q / scale[:, None])) @ (scale[:, None] * q).T
    return rows @ teacher.astype(np.float32), z


@lru_cache(maxsize=8)
def _even_points(n: int, dims: int) -> np.ndarray:
    """The first `n` of a Sobol sequence, of which every run moves a copy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a number of points that is not a power of two
        return qmc.Sobol(dims, scramble=False).random(n)


@partial(jit, static_argnames="label")
def _labels(r_star, z, *, label):
    return jax.vmap(label)(r_star.astype(float), z)


def impose(rows: np.ndarray, cov: np.ndarray, what: str, scale: np.ndarray | float = 1.0) -> np.ndarray:
    """Map the columns of `rows (d, m)` linearly, by the map nearest the identity, so that `rows^T rows / d == cov`, of the rows times
    `scale (d, 1)` if given. A zero row stays zero, so sparse teachers stay sparse; `cov` may be singular."""

    def moment(x: np.ndarray) -> np.ndarray:
        scaled = scale * x
        return scaled.T @ scaled / len(x)

    if rows.shape[1] == 1 and (size := moment(rows)[0, 0]) > 0.0:  # the same without matrices, which many small runs wait for
        return rows * np.sqrt(cov[0, 0] / size)
    half = root(moment(rows))
    inverse = np.linalg.pinv(half, rcond=1e-7, hermitian=True)
    mapped = rows @ (inverse @ root(half @ cov @ half) @ inverse)
    if not np.allclose(moment(mapped), cov, atol=1e-8 * (1e-300 + np.abs(cov).max())):
        raise InputError(
            f"`n_features` must be larger: {len(rows)} rows of the {what} leave directions of its second moment empty"
            " (a sparse teacher needs several non-zero rows per direction)"
        )
    return mapped


# --- memory ----------------------------------------------------------------------------------------------------------------


def check_memory(needed: int, n: int, d: int) -> None:
    available = available_bytes()
    if needed > available:
        raise InputError(
            f"`n_features` must leave the simulation in memory: {d} features and {n} samples need {needed / 2**30:.3g} GiB,"
            f" and {available / 2**30:.3g} GiB are available (fewer features; the limit is usually reached by 4000)"
        )
