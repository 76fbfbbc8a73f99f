"""The same samples in one group or several, in small blocks or one large: whether compiled programs give the same answer.

A march is recorded on few samples. Its kernels are then replayed on many others, all at once and in blocks: averages over all of them
must be the means over the blocks, to rounding. Shared by `test_shapes.py` and `benchmarks/shapes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import sgdlimit as sl
from sgdlimit.compiling import jit
from sgdlimit.learning import risk as fresh
from sgdlimit.learning.slopes import slopes
from sgdlimit.simulate.data import Static
from sgdlimit.simulate.observe import _train_risk
from sgdlimit.theory.accuracy.levels import run_levels
from sgdlimit.theory.accuracy.replicates import draw_all
from sgdlimit.theory.averages import Averages
from sgdlimit.theory.closed import steps
from sgdlimit.theory.closed.fresh import averages_at
from sgdlimit.theory.samples.engines import Engine, engine_of
from sgdlimit.theory.samples.sample import followed

BLOCK = 256  # samples: up to k = 10, k^2 of them are fewer than the 65,536 entries from which work is cut in pieces
CELLS = 4
HORIZON = 1.5
KINDS: dict[str, tuple[sl.Dynamics, str]] = {  # a sample jumps every other time, or in each of two epochs
    "SGD, events": (sl.SGD(2.0), "events"),
    "reshuffled, events": (sl.SGD(0.5, sampling="reshuffle"), "events"),
    "SGD, paths": (sl.SGD(2.0), "paths"),
    "SME, paths": (sl.SME(2.0), "paths"),
    "flow, paths": (sl.GradientFlow(), "paths"),
}


@cache  # programs are shared by problems with the same functions
def committee(k: int, kinks: bool = False) -> sl.Problem:
    """`k` units that learn `k` units, so that all directions meet in the loss; or with absolute values, where its gradient jumps."""
    unit = jnp.abs if kinks else jnp.tanh
    sum_of = lambda r: jnp.sum(unit(r)) / np.sqrt(k)
    near = 0.8 * np.eye(k) + 0.2
    return sl.Problem(
        loss=lambda r, y: 0.5 * (sum_of(r) - y) ** 2,
        label=lambda r_star, z: sum_of(r_star) + 0.3 * z,
        noise=sl.Normal(),
        sample_ratio=1.5,
        teacher=sl.GaussianTeacher(cov=near),
        init=sl.Init(overlap=0.2 * np.eye(k), cov=0.5 * near),
        penalty=sl.Ridge(0.05),
    )


def largest_difference(some: Any, other: Any) -> float:
    """Of corresponding arrays, each relative to its largest entry; infinite where one is not finite."""
    pairs = list(zip(jax.tree.leaves(some), jax.tree.leaves(other), strict=True))
    if not all(np.isfinite(part).all() for pair in pairs for part in pair):
        return np.inf
    return max(float(np.max(np.abs(a - b), initial=0.0) / max(np.max(np.abs(b), initial=0.0), 1e-300)) for a, b in pairs)


# --- a march and its kernels -------------------------------------------------------------------------------------------------


@dataclass
class Recorder:
    """Stands in for an engine's program and keeps the kernels that a march hands to it."""

    program: Any
    start: tuple = ()
    cells: tuple = ()  # (kernels, node, step), twice for every cell

    def begin(self, draws, rho_root, *kernels):
        self.start = (rho_root, *jax.tree.map(np.array, kernels))
        return self.program.begin(draws, rho_root, *kernels)

    def cross(self, at, draws, cell, node, span, step):
        self.cells += ((jax.tree.map(np.array, cell), node, step),)
        return self.program.cross(at, draws, cell, node, span, step)

    def __getattr__(self, name: str) -> Any:  # all else is the program's
        return getattr(self.program, name)

    def of(self, which: slice) -> Recorder:
        """Of some replicates."""
        some = lambda tree: jax.tree.map(lambda array: array[which], tree)
        return replace(self, start=(self.start[0], *some(self.start[1:])), cells=tuple((some(cell), *where) for cell, *where in self.cells))


@dataclass
class Marched:
    """One march of `replicates` groups of `BLOCK` samples: together, alone, and its kernels."""

    engine: Engine
    recorder: Recorder
    groups: float  # largest difference of marches together from those alone

    @property
    def path_bytes(self) -> int:
        """What one more sample takes."""
        return self.engine.path_bytes(_grid(self.engine)[1])


def march(kind: str, problem: sl.Problem, replicates: int) -> Marched:
    """Replicates together, recorded, and each alone."""
    engine = engine_of(KINDS[kind][1], problem, KINDS[kind][0], HORIZON)
    nodes, cells = _grid(engine)
    drawn = [draw_all(engine, len(nodes) - 1, BLOCK, child) for child in np.random.SeedSequence(0).spawn(replicates)]
    recorded = copy(engine)
    recorded.program = Recorder(engine.program)
    together = [vars(one) for one in run_levels(recorded, drawn, nodes, cells)]
    alone = [vars(run_levels(engine, [one], nodes, cells)[0]) for one in drawn] if replicates > 1 else together
    return Marched(engine, recorded.program, largest_difference(together, alone))


def _grid(engine: Engine) -> tuple[np.ndarray, int]:
    nodes = engine.nodes(CELLS)
    return nodes, engine.capacity(len(nodes) - 1)


def replay(recorder: Recorder, draws: Any, spans: list) -> list[Any]:
    """All averages along the recorded kernels, over other samples, in the order in which a march asks for them."""
    program = recorder.program
    y, paths, start = program.begin(draws, *recorder.start)
    draws, found = draws._replace(y=y), [start]
    for passes in zip(recorder.cells[::2], recorder.cells[1::2], strict=True):
        at = paths
        for cell, node, step in passes:
            after, moments, arrival = program.cross(at, draws, cell, node, spans[node], step)
            at = program.again(paths, arrival)
            found += [jax.device_get(after), moments]
        paths = program.settle(paths, arrival, cell, node)
        found.append(program.resume(paths, draws, cell.arrived, node + 1, spans[node], found[-2]))
    return jax.device_get(found)


# --- samples all at once, and in blocks --------------------------------------------------------------------------------------


def blocks_against_all(marched: Marched, paths: int, replicates: int) -> float:
    """The largest difference of the averages over `paths` samples from the means over their blocks."""
    engine, recorder = marched.engine, marched.recorder
    whole, parts = _samples(engine, paths, replicates)
    with jax.enable_x64(True):
        got = replay(recorder.of(slice(0, replicates)), *whole)
        each: list[list] = [[] for _ in range(replicates)]
        for s, draws, spans in parts:
            each[s].append(replay(recorder.of(slice(s, s + 1)), draws, spans))
    told = None if engine.name == "events" else _told(engine, paths) // _told(engine, BLOCK)
    means = [[_mean(blocks, told) for blocks in zip(*replicate, strict=True)] for replicate in each]
    return largest_difference(got, jax.tree.map(lambda *parts: np.concatenate(parts), *means))


def _mean(blocks: tuple, told: int | None) -> Any:
    """Over blocks; the response is told by the first ones only."""
    over = lambda blocks: jax.tree.map(lambda *parts: np.mean(parts, 0), *blocks)
    mean = over(blocks)
    return mean._replace(h=over(blocks[:told]).h, h_chi=over(blocks[:told]).h_chi) if isinstance(mean, Averages) else mean


def _samples(engine: Engine, paths: int, replicates: int) -> tuple[tuple, Iterator[tuple]]:
    """`(draws, spans)` of all samples together, and `(replicate, draws, spans)` of every block."""
    nodes, cells = _grid(engine)
    drawn: list[Any] = [engine.draw(len(nodes) - 1, paths, child) for child in np.random.SeedSequence(1).spawn(replicates)]
    blocks = np.arange(paths).reshape(-1, BLOCK)
    if engine.name == "events":
        parts = ((s, *engine.lay_out([one.part(which[0], which[-1] + 1)], nodes, cells)) for s, one in enumerate(drawn) for which in blocks)
        return engine.lay_out(drawn, nodes, cells), parts
    drawn = [replace(one, known=None) for one in drawn]  # what averages are held to is not linear in the samples
    draws, spans = engine.lay_out(drawn, nodes, cells)  # the bridge's normals are drawn here, so these are cut afterwards
    axis = {"y": 1, "drift": None, "distance": None}
    some = lambda tree, which: tree._replace(**{name: _take(part, which, axis.get(name, -1)) for name, part in tree._asdict().items()})
    of = lambda s: jax.tree.map(lambda part: part[s : s + 1], draws)
    parts = ((s, some(of(s), which), spans) for s in range(replicates) for which in blocks)
    return (some(draws, _told_first(engine, blocks)), spans), parts


def _take(array: Any, which: np.ndarray, axis: int | None) -> Any:
    return array if array is None or axis is None else np.take(array, which, axis)


def _told_first(engine: Engine, blocks: np.ndarray) -> np.ndarray:
    """All samples, in such an order that those that tell the response are the ones that do so in the first blocks."""
    told = _told(engine, BLOCK)
    many = _told(engine, blocks.size) // told
    return np.concatenate([blocks[:many, :told].ravel(), blocks[:many, told:].ravel(), blocks[many:].ravel()])


def _told(engine: Engine, paths: int) -> int:
    return followed(paths, engine.share(_grid(engine)[1]))


# --- averages that need no march ---------------------------------------------------------------------------------------------


def points_against_all(problem: sl.Problem, paths: int, replicates: int) -> dict[str, float]:
    """The same for the averages of one pass, the functions of training in steps, the test risk and the train risk of real runs."""
    k, k_star, rng = problem.k, problem.k_star, np.random.default_rng(2)
    g, z = rng.standard_normal((replicates, paths, k_star + k)), rng.standard_normal((replicates, paths))
    M = 0.3 * rng.standard_normal((replicates, k, k_star))
    q = M @ np.swapaxes(M, 1, 2) + 0.5 * np.eye(k)
    rows, thetas = (rng.standard_normal(shape).astype(np.float32) for shape in ((paths, 32), (3, k, 32)))
    loss, label = problem.loss, problem.label
    cut = lambda array, axis: np.split(array, paths // BLOCK, axis)
    with jax.enable_x64(True):
        y = np.asarray(jit(jax.vmap(jax.vmap(label)))(g[..., :k_star], z))
        one_pass = jit(jax.vmap(partial(averages_at, slopes(loss), False)))
        in_steps, risk = steps._functions(slopes(loss)), fresh._mean(fresh._of_sample(loss), label)
        even = lambda g: np.full(g.shape[:-1], 1.0 / g.shape[-2])
        at = np.concatenate([M, np.broadcast_to(np.eye(k), q.shape)], 2)
        train = lambda rows, y: _train_risk(thetas, rows, y, loss=Static(loss))
        paths_last = np.ascontiguousarray(g[0, :, :k].T)
        return {
            "one pass": _against(lambda g, y: one_pass(g, y, even(g), M, q), (g, y), cut, 1),
            "training in steps": largest_difference(
                in_steps(paths_last, y[0]),
                [np.concatenate(part, -1) for part in zip(*map(in_steps, cut(paths_last, 1), cut(y[0], 0)), strict=True)],
            ),
            "test risk": _against(lambda g, z: risk(at, None, np.eye(k_star), g, z, even(g)), (g[0], z[0]), cut, 0),
            "train risk of real runs": _against(train, (rows, y[0]), cut, 0),
        }


def _against(average: Callable, samples: tuple, cut: Callable, axis: int) -> float:
    parts = [jax.device_get(average(*part)) for part in zip(*(cut(one, axis) for one in samples), strict=True)]
    return largest_difference(jax.device_get(average(*samples)), jax.tree.map(lambda *each: np.mean(each, 0), *parts))
