"""Whether an average over a fresh sample exists: its pre-activations `(w, r*)` are Gaussian, its label noise has a law of its own.

No law and no loss is known here by name. All that is random is written in independent normal scores `s`, a component of the noise as
`ppf(Phi(s))`, so that the density is `exp(-|s|^2 / 2)` whatever the law. An average is infinite where the function grows as fast as the
density falls, along some ray (`tails`), or like one over the distance from a surface (`poles`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from ..checks import root
from ..compiling import jit
from ..errors import InputError
from ..functions import key
from .noise import draws_of
from .problem import Problem
from .slopes import Slopes
from .slopes import slopes as slopes_of

FAR = 20.0  # scores go so far; beyond, quantile functions are wrong more often than an average is (Student's t is, from 1e-150 on)
UPPER = 7.0  # a uniform number just below 1 is rounded to parts of 1e-16, which spoils scores beyond
ROUNDED = 2.0**-40  # a quantile that changes by less over a fourth of a score is rounded
RAYS, ROUNDS = 512, (0.3, 0.1)  # directions tried, and how far the best of them are varied
FRACTIONS = 0.8 ** np.arange(6)  # of the way out: where a ray is looked at, from the end
ASIDE = 1e-6
BORDER = 2e-3  # an exponent that near to one, or beyond, counts as too large
LINES, CUTS, MAXIMA, HALVINGS = 64, 64, 2, 44
NEAR, NEARER = 2.0**-12, 2.0**-30  # distances from a maximum, in parts of a line, between which a pole shows
POLE = 0.95
BATCH = 2**11  # samples at a time: one shape, one compilation
BULK = 2**14  # samples on which label and loss must be finite


class Scores:
    """The label noise of a problem as a function of independent normal scores `s (P, size of one draw)`.

    Attributes:
        reach: `(2, size)`, how far down and up the scores of each component tell something.
    """

    def __init__(self, problem: Problem):
        self.problem, self.size = problem, problem.noise_size
        self.centre = self._symmetry()
        self.reach = np.full((2, self.size), FAR)
        self.reach[1, np.isnan(self.centre)] = UPPER
        if self.size:
            for side, sign in enumerate((-1.0, 1.0)):
                self.reach[side] = np.minimum(self.reach[side], self._resolved(sign))

    def __call__(self, s: np.ndarray) -> np.ndarray:
        """Noise `(P, *shape of one draw)`."""
        if not self.size:
            return np.zeros((len(s), *self.problem.noise.shape))
        mirrored = (s > 0) & ~np.isnan(self.centre)
        u = np.minimum(special.ndtr(np.where(mirrored, -s, s)), 1.0 - 2.0**-53)
        with np.errstate(all="ignore"):
            z = draws_of(self.problem.noise, u).reshape(u.shape)
            return np.where(mirrored, self.centre - z, z).reshape(len(s), *self.problem.noise.shape)

    def _symmetry(self) -> np.ndarray:
        """`ppf(u) + ppf(1 - u)` of every component `(size,)` where it is the same for all u, else NaN: the far end of a symmetric law
        is known from the near one, without the rounding of numbers close to 1."""
        if not self.size:
            return np.zeros(0)
        u = np.repeat(2.0 ** -np.array([[1.0], [3.0], [8.0], [20.0], [40.0]]), self.size, 1)
        low, high = (draws_of(self.problem.noise, v).reshape(v.shape) for v in (u, 1.0 - u))
        total = low + high
        same = (np.abs(total - total[0]) <= 1e-6 * (np.abs(low) + np.abs(total[0]))).all(0)
        return np.where(same, total[0], np.nan)

    def _resolved(self, sign: float) -> np.ndarray:
        """The first score `(size,)` from which on a quantile is rounded: it still changes, but hardly, or is not finite. That of a law
        with finitely many values does not change at all."""
        grid = np.arange(3.0, FAR + 0.5, 0.25)
        z = self(sign * np.repeat(grid[:, None], self.size, 1)).reshape(len(grid), self.size)
        with np.errstate(all="ignore"):
            change = np.abs(np.diff(z, axis=0))
        bad = ((change > 0) & (change < ROUNDED * np.abs(z[:-1]))) | ~np.isfinite(z[1:])
        return np.where(bad.any(0), grid[np.argmax(bad, 0)], FAR)


Functions = Callable[[Any, Any, Any], dict[str, Any]]  # of `w, r_star, y`, to arrays by the names that words give them


def why_infinite(
    problem: Problem, functions: Functions, self_overlap: np.ndarray, overlap: np.ndarray, thorough: bool = True
) -> str | None:
    """Words where an average over a fresh sample is infinite, None where all exist.

    Arguments:
        functions: `f(w, r_star, y) -> {what: array}` in JAX; `moments(problem.slopes)` are those that the theory needs. One compilation
            for each.
        self_overlap, overlap: `E[w w^T] (k, k)` and `E[w r*^T] (k, k_star)`.
        thorough: look for poles, too, which takes most of the time.

    Returns:
        For example "the mean of the loss over fresh samples is infinite: it grows too fast for the tails of the label noise".

    An exponent is the growth of `log |f|` along a ray relative to the fall of the probability beyond; it is measured where both are
    extreme, to parts in a thousand. A mean within that of the border, of some hundred times the typical value, counts as infinite.
    """
    found = Sizes(problem, functions, self_overlap, overlap)
    exponent, ray = tails(found)
    power = poles(found) if thorough else np.full(len(found.names), -np.inf)
    for i, name in enumerate(found.names):
        noise = (ray[i, found.head :] ** 2).sum() > 0.5
        if exponent[i] > 1.0 - BORDER:
            why = f"it grows too fast for the tails of the {'label noise' if noise else 'pre-activations'}"
        elif power[i] > POLE:
            why = "it has a pole"
        else:
            continue
        return f"the mean of {name} over fresh samples is infinite: {why}"
    return None


def check_finite(problem: Problem, functions: Functions) -> None:
    """Refuse a label, or functions at the start, that are NaN or infinite on some fresh samples.

    Raises:
        InputError: names which, and on how many.
    """
    found = Sizes(problem, functions, problem.self_overlap_start, problem.overlap_start)
    sizes, label = found.all_sizes(np.random.default_rng(0xF1).standard_normal((BULK, found.head + found.scores.size)))
    share = lambda part: float(1.0 - np.isfinite(part).mean())
    if share(label):
        raise InputError(
            f"`label` must be finite, but is NaN or infinite on {share(label):.2g} of fresh samples"
            " (a log or square root of a negative number?)"
        )
    for name, size in zip(found.names, sizes.T, strict=True):
        if share(size):
            raise InputError(
                f"`loss` must be finite, but {name} is NaN or infinite on {share(size):.2g} of fresh samples at the start"
                " (jnp.logaddexp and jax.nn.log_softmax are the stable forms)"
            )


@lru_cache(maxsize=32)
def moments(slopes: Slopes) -> Functions:
    """What must have a mean for there to be learning curves: the loss, `l l^T`, `l r*^T`, `l w^T` and `H`."""
    own = slopes == slopes_of(slopes.loss)
    pushed, turned = ("the gradient of the loss", "the second derivative of the loss") if own else ("the update", "its derivative")

    def functions(w, r_star, y):
        gradient = slopes.gradient(w, y)
        return {
            "the loss": slopes.loss(w, y),
            pushed: gradient,
            turned: slopes.hessian(w, y),
            "the square of " + pushed if not own else "the squared gradient of the loss": gradient**2,
            f"{pushed} times r*": jnp.outer(gradient, r_star),
            f"{pushed} times r": jnp.outer(gradient, w),
        }

    return functions


class Sizes:
    """Sizes of functions of a fresh sample, as functions of the scores `s (P, D)`: those behind `r*`, then `w`, then the noise."""

    def __init__(self, problem: Problem, functions: Functions, self_overlap: np.ndarray, overlap: np.ndarray):
        self.scores, self.maps = Scores(problem), joint_root(problem, self_overlap, overlap)
        self.head = self.maps.shape[1]
        self.program, names = _sizes(key(functions), key(problem.labels), problem.k)
        with jax.enable_x64(True):
            shapes = [jax.ShapeDtypeStruct(shape, float) for shape in ((1, len(self.maps)), (1, *problem.noise.shape))]
            jax.eval_shape(self.program, *shapes)  # which fills in the names
        self.names = tuple(names)

    def all_sizes(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The largest absolute entry of every function `(P, F)` and of the label `(P,)`."""
        padded = np.pad(s, ((0, -len(s) % BATCH), (0, 0)), mode="edge")
        pre, z = padded[:, : self.head] @ self.maps.T, self.scores(padded[:, self.head :])
        with jax.enable_x64(True), np.errstate(all="ignore"):
            parts = [self.program(pre[i : i + BATCH], z[i : i + BATCH]) for i in range(0, len(pre), BATCH)]
        sizes, labels = (np.concatenate(part)[: len(s)] for part in zip(*parts, strict=True))
        return sizes, labels

    def __call__(self, s: np.ndarray) -> np.ndarray:
        return self.all_sizes(s)[0]


@lru_cache(maxsize=32)
def _sizes(functions: Functions, label: Callable, k: int) -> tuple[Callable, list[str]]:
    """What gives the largest absolute entry of every function and of the label at pre-activations `[w, r*] (P, k + k_star)` and noise,
    and the functions' names once it was traced."""
    names: list[str] = []
    size = lambda part: jnp.stack([jnp.abs(jnp.asarray(leaf, float)).max() for leaf in jax.tree.leaves(part)]).max()

    def one(pre, z):
        y = label(pre[k:], z)
        parts = functions(pre[:k], pre[k:], y)
        names[:] = parts
        return jnp.stack([size(part) for part in parts.values()]), size(y)

    return jit(jax.vmap(one)), names


def joint_root(problem: Problem, self_overlap: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    """What takes normals, teacher's first, to `[w, r*]`: `(k + k_star, k_star + k)`."""
    rho_root = root(problem.rho)
    m = overlap @ np.linalg.pinv(rho_root, hermitian=True)
    rest = self_overlap - m @ m.T
    top = np.concatenate([m, root(0.5 * (rest + rest.T))], 1)
    return np.concatenate([top, np.concatenate([rho_root, np.zeros((problem.k_star, problem.k))], 1)])


def tails(sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """The largest exponent of each function over all rays `(F,)`, and the ray's direction `(F, D)`."""
    rng, number = np.random.default_rng(0x7A11), len(sizes.names)
    typical = _typical(sizes, rng)
    rays = _first_rays(rng, sizes.maps, sizes.scores.size)
    best, at = np.full(number, -np.inf), np.zeros((number, rays.shape[1]))
    for width in (*ROUNDS, 0.0):
        found = _exponents(sizes, rays, typical)
        first = np.argsort(-found, 0)[: max(RAYS // (8 * number), 1)]
        better = found[first[0], np.arange(number)] > best
        best = np.where(better, found[first[0], np.arange(number)], best)
        at[better] = rays[first[0]][better]
        chosen = rays[np.resize(first.ravel(), RAYS)]
        rays = _units(chosen + width * rng.standard_normal(chosen.shape) / np.sqrt(rays.shape[1]))
    return best, at


def tail_exponents(sizes: Sizes) -> np.ndarray:
    """The largest exponent over all functions `(2, size of one draw)` in the lower and the upper tail of each component of the noise."""
    noise = np.pad(np.eye(sizes.scores.size), ((0, 0), (sizes.head, 0)))
    if not len(noise):
        return np.zeros((2, 0))
    found = _exponents(sizes, np.concatenate([-noise, noise]), _typical(sizes, np.random.default_rng(0x7A11)), False)
    return found.max(1).reshape(2, -1)


def _typical(sizes: Sizes, rng: np.random.Generator) -> np.ndarray:
    """What a tenth of the samples exceed, `(F,)`: below, growth says nothing of the mean."""
    found = sizes(rng.standard_normal((RAYS, sizes.head + sizes.scores.size)))
    return np.array([np.quantile(one[np.isfinite(one)], 0.9) if np.isfinite(one).any() else 0.0 for one in found.T]) + 1e-300


def _first_rays(rng: np.random.Generator, maps: np.ndarray, noise: int) -> np.ndarray:
    """Directions `(RAYS, D)`: along every axis, along pre-activations with and without noise, and anywhere."""
    head, dims = maps.shape[1], maps.shape[1] + noise
    padded = np.pad(maps, ((0, 0), (0, noise)))
    known = np.concatenate([np.eye(dims), padded])
    mixed = rng.standard_normal((RAYS, len(maps))) * (rng.random((RAYS, len(maps))) < 0.5)
    along = _units(mixed @ padded)
    also = rng.random(RAYS) < 0.5
    along[also, head:] += (rng.standard_normal((RAYS, noise)) * (rng.random((RAYS, noise)) < 0.5))[also]
    anywhere = rng.standard_normal((RAYS, dims))
    rays = np.concatenate([known, -known, along[: RAYS // 2], anywhere])
    rays = rays[np.linalg.norm(rays, axis=1) > 1e-9]
    return _units(rays[:RAYS] if 2 * len(known) < RAYS // 2 else rays)


def _units(rays: np.ndarray) -> np.ndarray:
    return rays / np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-300)


def _exponents(sizes: Sizes, rays: np.ndarray, typical: np.ndarray, extrapolate: bool = True) -> np.ndarray:
    """Growth of `log |f|` relative to the fall of `log Phi(-|s|)` far out on every ray, `(rays, F)`.

    What is lost on the way out, like the exponent `c / R` of `exp(c R)` whatever `c`, is lost for good if `extrapolate` is.
    """
    # Exactly along an axis the other scores are zero, where a function may be anything.
    rays = rays + ASIDE * np.random.default_rng(0xA51D).standard_normal(rays.shape)
    tail = rays[:, sizes.head :]
    side = np.where(tail > 0, sizes.scores.reach[1], sizes.scores.reach[0])
    out = np.minimum(FAR, np.min(side / np.maximum(np.abs(tail), 1e-9), 1, initial=np.inf))
    radii = out[:, None] * FRACTIONS
    found = sizes((radii[..., None] * rays[:, None]).reshape(-1, rays.shape[1])).reshape(*radii.shape, -1)
    with np.errstate(all="ignore"):
        height = np.log(np.maximum(found, typical))
        fall = -special.log_ndtr(-radii)[..., None]
        slope = (height[:, :-1] - height[:, 1:]) / (fall[:, :-1] - fall[:, 1:])
        slope = np.where(np.isfinite(height[:, :-1]), slope, np.nan)
    # Of two neighbouring pieces the smaller slope, lest a zero of f passes for growth; the farthest two on which f is finite.
    both = np.minimum(slope[:, :-1], slope[:, 1:])
    if extrapolate:
        middle = 0.5 * (radii[:, :-1] + radii[:, 1:])[..., None]
        with np.errstate(all="ignore"):
            end = (middle[:, :-1] * slope[:, :-1] - middle[:, 1:] * slope[:, 1:]) / (middle[:, :-1] - middle[:, 1:])
        both = np.minimum(both, end)
    known = np.isfinite(both)
    farthest = np.argmax(known, 1)
    value = np.take_along_axis(both, farthest[:, None], 1)[:, 0]
    return np.where(known.any(1), value, np.where(np.isposinf(found[:, -2]), np.inf, -np.inf))  # no number from near the bulk on


def poles(sizes: Sizes) -> np.ndarray:
    """The largest power of one over the distance from a surface with which each function grows, `(F,)`.

    Lines through the bulk meet a surface; from one on, what is near it has no mean.
    """
    rng, number = np.random.default_rng(0x901E), len(sizes.names)
    typical = _typical(sizes, rng)
    start, end = 3.0 * rng.standard_normal((2, LINES, sizes.head + sizes.scores.size))
    at = lambda line, x: sizes(start[line] + x[:, None] * (end - start)[line])
    cuts = np.linspace(0.0, 1.0, CUTS + 1)
    line = np.repeat(np.arange(LINES), CUTS + 1)
    with np.errstate(all="ignore"):
        found = at(line, np.tile(cuts, LINES)).reshape(LINES, CUTS + 1, -1)
        inner = np.where((found[:, 1:-1] >= found[:, :-2]) & (found[:, 1:-1] >= found[:, 2:]), found[:, 1:-1], -np.inf)
        chosen = np.argsort(-inner, 1)[:, :MAXIMA] + 1  # (LINES, MAXIMA, F)
        line = np.broadcast_to(np.arange(LINES)[:, None, None], chosen.shape).ravel()
        which = np.broadcast_to(np.arange(number), chosen.shape).ravel()
        value = lambda x: at(line, x)[np.arange(len(line)), which]
        x, width = cuts[chosen].ravel(), 1.0 / CUTS
        here = value(x)
        for _ in range(HALVINGS):
            width *= 0.5
            for move in (-width, width):
                there = value(x + move)
                higher = there > here
                x, here = np.where(higher, x + move, x), np.where(higher, there, here)
        # From both sides, or a jump passes for a pole.
        near, nearer = (np.maximum(np.minimum(value(x - by), value(x + by)), typical[which]) for by in (NEAR, NEARER))
        power = np.log(nearer / near) / np.log(NEAR / NEARER)
    power = np.where(np.isfinite(power), power, -np.inf)
    return np.array([power[which == i].max(initial=-np.inf) for i in range(number)])
