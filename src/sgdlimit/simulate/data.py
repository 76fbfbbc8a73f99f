"""One draw of a learning problem at finite size: rows, labels, teacher and start (THEORY section 1).

Arrays are laid out for the loops that read them: rows `(n, d)` in float32, which halves what a step must fetch from
memory and costs only a relative 1e-7 per entry, once; weights `(k, d)` in float64, because they collect up to millions of
small increments.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from ..errors import InputError, nearest, refuse
from ..problem import NoNoise, Problem, SmoothPenalty, root

BLOCK = 32  # rows filled at once: 32 rows of a few thousand features stay in cache between drawing and scaling


# --- designs: fill float32 rows with independent entries of mean 0 and variance 1/d --------------------------------------


def _gaussian(rng: np.random.Generator, rows: np.ndarray) -> None:
    rng.standard_normal(out=rows, dtype=np.float32)
    rows *= np.float32(rows.shape[1] ** -0.5)


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


class Static:
    """A user's function as a static argument of `jax.jit`: known by identity, so that all repeats, and all calls with the
    same problem, share one compilation, and functions without a hash are welcome."""

    def __init__(self, fn: Callable | None):
        self.fn = fn

    def __hash__(self) -> int:
        return id(self.fn)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and other.fn is self.fn

    def __call__(self, *args):
        assert self.fn is not None
        return self.fn(*args)


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
    """Rows `(n, d)` float32, labels (n first), teacher `(k_star, d)` and start `(k, d)` in float64."""

    rows: Any
    labels: Any
    teacher: np.ndarray
    start: np.ndarray


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


def draw(problem: Problem, design: str, rows: np.ndarray, rng: np.random.Generator) -> Data:
    """Fill `rows` and draw everything else.

    The second moments of teacher and start are imposed on the draw, not only in expectation: `T^T T / d` is the
    teacher's `cov` and the start's overlaps are exactly those of the problem. The limit does not have the `O(d^{-1/2})`
    scatter this removes, which would otherwise be the largest noise at early times.
    """
    d = rows.shape[1]
    teacher = impose(problem.teacher.draw(rng, d), problem.teacher.cov, "teacher")
    start = rng.standard_normal((d, problem.k))
    start -= teacher @ np.linalg.lstsq(teacher, start, rcond=None)[0]
    start = teacher @ problem.init.overlap.T + impose(start, problem.init.cov, "start")
    return Data(*samples(problem, design, rows, teacher, rng), np.ascontiguousarray(teacher.T), np.ascontiguousarray(start.T))


def samples(problem: Problem, design: str, rows: np.ndarray, teacher: np.ndarray, rng: np.random.Generator) -> tuple[Any, Any]:
    """Fill `rows` with fresh samples and label them by the teacher `(d, k_star)`."""
    size = math.prod(problem.noise.shape) if isinstance(problem.noise, NoNoise) else problem.noise_size
    z = problem.noise_from_uniform(np.maximum(rng.random((len(rows), size)), 2.0**-54))
    for first in range(0, len(rows), BLOCK):
        DESIGNS[design](rng, rows[first : first + BLOCK])
    labels = _labels(rows @ teacher.astype(np.float32), z, label=Static(problem.label))
    # may_alias: no copy of the largest array. It is only filled again when the work on these samples is done.
    return jax.device_put(rows, may_alias=True), labels


@partial(jax.jit, static_argnames="label")
def _labels(r_star, z, *, label):
    return jax.vmap(label)(r_star.astype(float), z)


def impose(rows: np.ndarray, cov: np.ndarray, what: str) -> np.ndarray:
    """Map the columns of `rows (d, m)` linearly, by the map nearest the identity, so that `rows^T rows / d == cov`. A zero
    row stays zero, so sparse teachers stay sparse; `cov` may be singular."""
    half = root(rows.T @ rows / len(rows))
    inverse = np.linalg.pinv(half, rcond=1e-7, hermitian=True)
    mapped = rows @ (inverse @ root(half @ cov @ half) @ inverse)
    if not np.allclose(mapped.T @ mapped / len(rows), cov, atol=1e-8 * (1e-300 + np.abs(cov).max())):
        raise InputError(
            f"`n_features` must be larger: {len(rows)} rows of the {what} leave directions of its second moment empty"
            " (a sparse teacher needs several non-zero rows per direction)"
        )
    return mapped


# --- memory ----------------------------------------------------------------------------------------------------------------


def available_bytes() -> int:
    """Memory this process may still take: what the system calls available, or less where a container sets a limit."""
    limits = []
    try:
        with open("/proc/meminfo") as f:
            limits += [int(line.split()[1]) * 1024 for line in f if line.startswith("MemAvailable:")]
    except OSError:
        pass
    try:
        with open("/sys/fs/cgroup/memory.max") as f:
            limits.append(int(f.read()))
    except (OSError, ValueError):
        pass
    if not limits:
        import os

        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(limits)


def check_memory(needed: int, n: int, d: int) -> None:
    available = available_bytes()
    if needed > available:
        raise InputError(
            f"`n_features` must leave the simulation in memory: {d} features and {n} samples need {needed / 2**30:.3g} GiB,"
            f" and {available / 2**30:.3g} GiB are available (fewer features; the limit is usually reached by 4000)"
        )
