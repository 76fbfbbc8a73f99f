"""Does the gradient of a loss, or what stands for it, jump? (hinge, absolute value, relu; the perceptron rule)

JAX differentiates such a loss without complaint, but its second derivative misses what sits at the jump, and the limit
equations need all of it: `theory.samples.differences` has what stands in its place. Which losses need that is found here. Lines are laid
through the space of pre-activations and cut into intervals, and every interval is halved again and again towards where
`grad(b) - grad(a)` is least explained by the second derivative times `b - a`. For a continuous gradient, however steep, what is
left of that difference vanishes with the interval; a jump stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import root
from ..compiling import jit
from ..errors import refuse
from ..functions import key
from .dynamics import SME, Dynamics, GradientFlow
from .slopes import Slopes

Problem = Any  # a `problem.Problem`; that asks here for its kinks, so it stands above

LINES, INTERVALS = 32, 16
HALVINGS = 32  # down to 1e-10 of a line: what changes there jumps as far as the theory is concerned
REACH = 3.0  # lines reach this many standard deviations of start, teacher and unit weights together
# A jump counts beyond these fractions of the gradient: where it is, typical, and largest. Below is rounding, or what no accuracy
# of the theory resolves; where a unit saturates the gradient itself is rounding, so the largest must count, too.
LOCAL, LARGEST = 1e-4, 1e-6
AT_REST = {
    GradientFlow: "its samples come to rest on the kink; SGD with a small step is near it",
    SME: "its noise jumps at the kink, and short steps do not cure what that does to a discretisation",
}
LABELS = 512
NARROW, SHARE, SELDOM = 0.1, 0.3, 0.1  # a start below, and the scale that replaces it, in units of the teacher's; a share of jumps


class _Ends(NamedTuple):
    """One end of every interval: where on its line `(L, I)`, gradient `(L, I, k)` and its derivative along the line."""

    where: np.ndarray
    gradient: np.ndarray
    slope: np.ndarray


def gradient_jumps(problem: Problem) -> bool:
    """Whether `loss` has a gradient, or `update` values, with jumps, on lines that cover what a student starts from and may grow to."""
    with jax.enable_x64(True), np.errstate(all="ignore"):
        lines = _lines(problem)
        derivatives = _derivatives(problem.slopes, key(problem.labels))

        def at(where: np.ndarray) -> _Ends:
            return _Ends(where, *map(np.asarray, derivatives(where, *lines)))

        cuts = np.broadcast_to(np.linspace(0.0, 1.0, INTERVALS + 1), (LINES, INTERVALS + 1))
        left, right = at(cuts[:, :-1]), at(cuts[:, 1:])
        for _ in range(HALVINGS):
            middle = at(0.5 * (left.where + right.where))
            to_left = _unexplained(left, middle) > _unexplained(middle, right)
            left, right = _choose(to_left, left, middle), _choose(to_left, middle, right)
        size = np.linalg.norm(left.gradient, axis=-1) + np.linalg.norm(right.gradient, axis=-1)
        size = np.where(np.isfinite(size), size, 0.0)
        # NaN, beyond a loss's domain, compares as no jump.
        return bool((_unexplained(left, right) > LOCAL * (size + np.median(size)) + LARGEST * size.max()).any())


def refuse_kinks(problem: Problem, dynamics: Dynamics, refused: tuple[type, ...]) -> None:
    """Refuse a problem with kinks under one of the dynamics `refused`, or at a start from which no limit tells what it does.

    In continuous time a sample can reach the kink and stay: under the flow it rests there with a gradient that is none of the
    loss's (a Filippov solution), and the SME's noise is another one from there on, so every step in time leaves an error of the
    order of its root. Jumps have neither.
    """
    if isinstance(dynamics, refused):
        jumping = "a loss whose gradient jumps (hinge, absolute value, relu)" if problem.update is None else "an update that jumps"
        must = f"be SGD, OnlineSGD or MiniBatchGD for {jumping}"
        raise refuse("dynamics", must, dynamics, f"{AT_REST[type(dynamics)]}; a smooth loss such as pseudo_huber or softplus works")
    if stuck(problem):
        must = "be positive where the gradient of the loss jumps at r = 0"
        raise refuse("init.cov", must, problem.init.cov, "all samples start on the kink; 0.01 moves them off")


def least_scale(problem: Problem) -> np.ndarray:
    """What a standard deviation of w, zero or tiny at the start, counts for at least where differences of the gradient are taken, `(k,)`.

    Zero where there is no need: where the start is spread out, or where the gradient jumps just there, for most labels (a relu
    student near zero). Else, as for hinge or absolute value, the labels spread the kink, and the teacher's scale measures it.
    """
    scale = np.full(problem.k, np.sqrt(np.diag(problem.rho).max()))
    narrow = np.diag(problem.self_overlap_start) < (NARROW * scale) ** 2
    return np.where(narrow & (_jump_at_zero(problem) < SELDOM), SHARE * scale, 0.0)


def stuck(problem: Problem) -> bool:
    """Whether training starts from a single point where the gradient jumps: what it does then no limit tells."""
    return bool(((np.diag(problem.self_overlap_start) <= 0) & (_jump_at_zero(problem) >= SELDOM)).any())


def _jump_at_zero(problem: Problem) -> np.ndarray:
    """Change of the gradient across `r_a = 0` at the start, relative to its size, for each row a `(k,)`, on average over labels."""
    rng = np.random.default_rng(0x418)
    u = rng.random((LABELS, problem.noise_size)) if problem.noise_size else np.full((LABELS, math.prod(problem.noise.shape)), 0.5)
    r_star = rng.standard_normal((LABELS, problem.k_star)) @ root(problem.rho).T
    r = r_star @ problem.init.overlap.T + rng.standard_normal((LABELS, problem.k)) @ root(problem.init.cov)
    tiny = 1e-3 * np.sqrt(np.diag(problem.rho).max()) * np.eye(problem.k)
    with jax.enable_x64(True):
        labels, slope = _over_samples(problem.slopes, key(problem.labels))
        y = labels(r_star, problem.noise_from_uniform(u))
        at = lambda a, side: np.asarray(slope(np.where(np.arange(problem.k) == a, side * tiny[a], r), y))
        ends = [(at(a, 1.0), at(a, -1.0)) for a in range(problem.k)]
    size = lambda part: np.linalg.norm(part, axis=1).mean()
    return np.array([size(above - below) / max(size(above) + size(below), 1e-300) for above, below in ends])


def _unexplained(left: _Ends, right: _Ends) -> np.ndarray:
    """Size `(L, I)` of the gradient's change that its derivative does not account for."""
    width = (right.where - left.where)[..., None]
    return np.linalg.norm(right.gradient - left.gradient - 0.5 * width * (left.slope + right.slope), axis=-1)


def _choose(yes: np.ndarray, one: _Ends, other: _Ends) -> _Ends:
    return _Ends(*(np.where(yes.reshape(yes.shape + (1,) * (a.ndim - 2)), a, b) for a, b in zip(one, other, strict=True)))


def _lines(problem: Problem) -> tuple[np.ndarray, ...]:
    """Start and direction `(L, k)` of the lines, with a teacher's pre-activation and a noise draw for each."""
    rng = np.random.default_rng(0x417)
    u = rng.random((LINES, problem.noise_size)) if problem.noise_size else np.full((LINES, math.prod(problem.noise.shape)), 0.5)
    r_star = rng.standard_normal((LINES, problem.k_star)) @ root(problem.rho).T
    scale = np.sqrt(np.diag(problem.self_overlap_start) + np.diag(problem.rho).max() + 1.0)
    start, end = REACH * scale * rng.standard_normal((2, LINES, problem.k))
    return start, end - start, r_star, problem.noise_from_uniform(u)


@lru_cache(maxsize=64)
def _over_samples(slopes: Slopes, label: Callable) -> tuple[Callable, Callable]:
    """The label and the gradient, compiled once: every grid asks for them."""
    return jit(jax.vmap(label)), jit(jax.vmap(slopes.gradient))


@lru_cache(maxsize=64)
def _derivatives(slopes: Slopes, label: Callable) -> Callable:
    """Compiled once per slopes and label: gradient and its derivative along the line, at `where (L, I)` on it."""

    def line(where, start, along, r_star, z):
        y = label(r_star, z)

        def gradient(s):
            r = start + s * along
            return jnp.where(
                jnp.isfinite(slopes.loss(r, y)), slopes.gradient(r, y), jnp.nan
            )  # beyond the loss's domain JAX may still give a number

        return jax.vmap(lambda s: jax.jvp(gradient, (s,), (jnp.ones_like(s),)))(where)

    return jit(jax.vmap(line))
