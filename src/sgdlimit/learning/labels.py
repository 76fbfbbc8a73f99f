"""Teacher and label of quasi-random samples: where labels are classes, the class is drawn first and the teacher given it.

Points that fill space evenly integrate a jump badly unless it lies along their axes: with `y = 1` where `z < p(r*)` the border runs across
the plane of `r*` and `z`, and the error of an average is that of `N^-0.7` with a large constant. Drawn the other way round,
`y` from its own law and then `r*` from the law it has given `y`, the border is a line `u = P(y)` and all else is smooth.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import NamedTuple

import jax
import numpy as np
from scipy import special

from ..compiling import jit
from ..functions import key
from .noise import NoiseLaw, draws_of
from .problem import Problem

CELLS = 2**10  # of the teacher's pre-activation, equally likely
POINTS = 2**9  # of the noise, equally likely
MOST = 64  # different labels that count as classes
TINY = 2.0**-40  # keeps uniform numbers off 0 and 1


class Classes(NamedTuple):
    """The joint law of `C` classes and of the teacher's pre-activation, whose cells are equally likely."""

    at: Callable[[np.ndarray, np.ndarray], np.ndarray]  # labels `(P,)` of normals `g* (P,)` and noise `(P, *shape of one draw)`
    noise: np.ndarray  # (POINTS, *shape of one draw)
    values: np.ndarray  # (C,): the labels
    mass: np.ndarray  # (C, CELLS + 1): probability of a class and of a pre-activation up to the edge of a cell
    example: np.ndarray  # (C, CELLS): number of a noise point that gives the class in the middle of the cell

    def draw(self, teacher: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`g* (P,)` and noise `(P, *shape)` from uniform numbers `(P,)`, of which `noise` chooses the class."""
        below = np.cumsum(self.mass[:, -1])
        chosen = np.searchsorted(below[:-1], noise * below[-1], side="right")
        u = np.empty(len(teacher))
        for c, mass in enumerate(self.mass):
            of = chosen == c
            u[of] = np.interp(teacher[of] * mass[-1], mass, np.linspace(0.0, 1.0, CELLS + 1))
        gstar = special.ndtri(np.clip(u, TINY, 1.0 - TINY))
        example = self.example[chosen, np.minimum((u * CELLS).astype(int), CELLS - 1)]
        for i in np.flatnonzero(self.at(gstar, self.noise[example]) != self.values[chosen]):  # near the end of what gives the class
            fits = np.flatnonzero(self.at(np.full(POINTS, gstar[i]), self.noise) == self.values[chosen[i]])
            example[i] = fits[len(fits) // 2] if len(fits) else example[i]
        return gstar, self.noise[example]


def samples(problem: Problem, teacher: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normals `g* (P, k_star)` behind the teacher's pre-activations and label noise `(P, *shape of one draw)` from uniform numbers
    `teacher (P, k_star)` and `noise (P, size of one draw)`. Where labels are classes, the noise is any that gives the label."""
    if not problem.noise_size:
        return special.ndtri(teacher), np.zeros((len(teacher), *problem.noise.shape))
    classes = classes_of(problem)
    if classes is None:
        return special.ndtri(teacher), problem.noise_from_uniform(noise)
    gstar, z = classes.draw(teacher[:, 0], noise[:, 0])
    return gstar[:, None], z


def classes_of(problem: Problem) -> Classes | None:
    """The law of the labels where they are classes of one noise and one teacher direction."""
    if not problem.k_star == problem.noise_size == 1:
        return None
    known = _classes if isinstance(problem.noise, Hashable) else _classes.__wrapped__
    return known(key(problem.label), problem.noise, float(np.sqrt(problem.rho[0, 0])))


@lru_cache(maxsize=32)
def _classes(label: Callable, noise: NoiseLaw, size: float) -> Classes | None:
    """Of the pre-activation `size * g*`; None where labels are not classes."""
    middles = lambda n: (np.arange(n) + 0.5) / n
    z, gstar = draws_of(noise, middles(POINTS)[:, None]), special.ndtri(middles(CELLS))

    def at(gstar, z):
        with jax.enable_x64(True):
            return np.asarray(over_samples(label)(size * gstar[:, None], z))

    def table(every):
        g, draws = gstar[::every], z[::every]
        y = at(np.repeat(g, len(draws)), np.tile(draws, (len(g), *[1] * (draws.ndim - 1))))
        return y.reshape(len(g), len(draws), *y.shape[1:])

    with jax.enable_x64(True):
        if not jax.tree_util.treedef_is_leaf(jax.tree.structure(jax.eval_shape(label, np.zeros(1), np.zeros(noise.shape)))):
            return None  # a label of several parts
    few = table(2**4)
    if few.ndim > 2 or len(np.unique(few)) > MOST:
        return None
    labels = table(1)
    values = np.unique(labels)
    if len(values) > MOST:
        return None
    mass, example = np.zeros((len(values), CELLS + 1)), np.zeros((len(values), CELLS), int)
    for c, value in enumerate(values):
        gives = labels == value
        count = gives.sum(1)
        mass[c, 1:] = np.cumsum(count) / gives.size
        example[c] = np.argmax(np.cumsum(gives, 1) > count[:, None] // 2, 1)  # the middle one
    return Classes(at, z, values, mass, example)


@lru_cache(maxsize=32)
def over_samples(label: Callable) -> Callable:
    """The label over samples `r_star (P, k_star), z (P, ...)`, compiled."""
    return jit(jax.vmap(label))
