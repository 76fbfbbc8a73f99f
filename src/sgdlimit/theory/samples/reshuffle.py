"""SGD that goes through its data in a new order every epoch: a sample jumps once in each, at a uniform time (THEORY section 2).

Time is told by the *mass*, the integrated rate `int dt / (eta delta)`: it is one for an epoch, also under a schedule, and a jump is
uniform in it. Histories, and how they are carried from jump to jump, are those of `events`; a history has exactly one jump in every
whole epoch. What differs is what is averaged. Where a jump is forced at `t` there is no other in the epoch of `t`, so the
averages that drive the kernels go over histories without their jump in it. Nothing in an epoch correlates with what the same epoch
did before, and the pull has no memory of it: `K = Rl = 0` there. Risks are averages over the samples as they are, with their jump.

All slopes of the kernels jump at the end of an epoch. Nodes lie on all of them, and the march has the averages of both sides there.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import special
from scipy.stats import qmc

from ...compiling import jit, on_host
from ...learning.dynamics import SGD
from ...learning.labels import TINY, samples
from ...learning.problem import Problem
from ...learning.slopes import Slopes
from ..averages import Averages
from ..grids import GRADING
from ..shapes import room
from .draws import Jumps, jump_intensity
from .events import EventProgram, Histories, Past, average, bare
from .histories import History, lay_out_histories
from .kicks import path_functions

Array = Any

SHORTEST = 1e-6  # part of an epoch below which what is left of the last one counts as none
GROUP = 4  # cells of the finest resolution to one of the coarsest: an epoch has a multiple of them
EARLY = 2  # more such groups, at least, in a first epoch at whose start much happens
SHARED = 16  # epochs that histories have room for where shapes are few, see `shapes.few`
EDGE = 1e-9  # what keeps jumps off the ends of an epoch


class EpochSpan(NamedTuple):
    """`events.Span` of one cell, with the number of whole epochs before it, and whether one ends with it."""

    first: Array
    count: Array
    before: Array
    jumps: Array
    epochs: Array
    last: bool


def epoch_ends(problem: Problem, dynamics: SGD, horizon: float) -> np.ndarray:
    """When epochs end before the horizon; for a constant step these are the multiples of `step * sample_ratio`."""
    times, mass = jump_intensity(problem, dynamics, horizon)
    whole = int(np.ceil(mass[-1] - SHORTEST)) - 1
    return np.interp(np.arange(1.0, whole + 1.0), mass, times)


def epoch_nodes(ends: np.ndarray, horizon: float, cells: int, grading: float = GRADING) -> np.ndarray:
    """About `cells` cells spaced like `grids.spaced`, but with nodes on all `ends`: at least four cells to an epoch, and to the first one
    twelve where much happens at its start; at two and at four times the spacing still so."""
    u = np.concatenate([[0.0], (ends / horizon) ** (1.0 / grading), [1.0]])
    width = np.diff(u)
    groups = np.ones(len(width), int)
    for _ in range(max(cells // GROUP - len(width), EARLY if grading > GRADING else 0)):
        groups[np.argmax(width / groups)] += 1
    inner = [np.linspace(a, b, GROUP * n + 1)[1:-1] for a, b, n in zip(u[:-1], u[1:], groups, strict=True)]
    return np.union1d(horizon * np.concatenate(inner) ** grading, np.concatenate([[0.0], ends, [horizon]]))


def epoch_jumps(place: np.ndarray, problem: Problem, dynamics: SGD, horizon: float) -> Jumps:
    """Jump times from their places in their epochs, `(P, epochs)` uniform in `[0, 1]`."""
    times, mass = jump_intensity(problem, dynamics, horizon)
    at = np.arange(place.shape[1]) + np.clip(place, EDGE, 1.0 - EDGE)
    return Jumps(np.where(at < mass[-1], np.interp(at, mass, times), np.inf))


def draw_epochs(problem: Problem, dynamics: SGD, horizon: float, paths: int, seed: np.random.SeedSequence) -> History:
    """`paths` histories (a power of two), from Sobol points in the order of time."""
    jumps = len(epoch_ends(problem, dynamics, horizon)) + 1
    k, k_star, n_noise = problem.k, problem.k_star, problem.noise_size
    head = k_star + n_noise + k
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a number of points that is not a power of two
        points = qmc.Sobol(head + jumps * (1 + k), scramble=True, rng=np.random.default_rng(seed)).random(paths)
    points = np.clip(points, TINY, 1.0 - TINY)
    events = points[:, head:].reshape(paths, jumps, 1 + k)
    gstar, noise = samples(problem, points[:, :k_star], points[:, k_star : k_star + n_noise])
    unused = room(jumps, SHARED, 4) - jumps
    at = epoch_jumps(events[:, :, 0], problem, dynamics, horizon).times.T
    return History(
        gstar=gstar.T,
        noise=noise,
        shift=points[:, k_star + n_noise : head].T,
        normal=np.pad(np.moveaxis(special.ndtri(events[:, :, 1:]), 0, 2), ((0, unused), (0, 0), (0, 0))),
        at=np.pad(at, ((0, unused), (0, 0)), constant_values=np.inf),
    )


def lay_out_epochs(
    problem: Problem, dynamics: SGD, drawn: list[History], nodes: np.ndarray, cells: int, ends: np.ndarray
) -> tuple[Histories, list[EpochSpan]]:
    """`histories.lay_out_histories` on a grid with nodes on all `ends`."""
    histories, spans = lay_out_histories(problem, dynamics, drawn, nodes, cells)
    epoch = np.searchsorted(ends, 0.5 * (nodes[1:] + nodes[:-1]))
    last = np.diff(epoch, append=epoch[-1]) > 0
    return histories, [EpochSpan(*span, np.int32(e), bool(is_last)) for span, e, is_last in zip(spans, epoch, last, strict=True)]


class ReshuffleProgram(EventProgram):
    """`EventProgram` with the averages of reshuffled SGD: they belong to the epoch of a cell and leave out the jumps in it, but for the
    risk, which is that of all samples as they are."""

    nothing = EpochSpan(0, 0, 0, 0, 0, False)

    def __init__(self, slopes: Slopes, label: Callable, kinks: bool = False, filtered: bool = False):
        super().__init__(slopes, label, kinks, filtered)
        of_all = partial(average, path_functions(slopes, "jump"), kinks)
        self._average = jit(jax.vmap(of_all, in_axes=(0, 0, 0, None, None, None)))

    def once_more(self, past: Past, draws: Histories, arrived, node: int, span: EpochSpan) -> Averages:
        return self._average(past, bare(draws), arrived, np.int32(node), np.int32(span.jumps), np.int32(span.epochs))

    def resume(self, past: Past, draws: Histories, arrived: Array, node: int, span: EpochSpan, before: Averages) -> Averages:
        """Averages on the other side of `node`: where an epoch ends all its jumps are behind."""
        return on_host(self.once_more(past, draws, arrived, node, span._replace(epochs=span.epochs + 1))) if span.last else before
