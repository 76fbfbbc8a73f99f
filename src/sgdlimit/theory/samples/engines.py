"""Two ways to carry samples through time, under one interface: what they draw, how it is laid on a grid, what is compiled.

`EventEngine` (SGD) conditions on `w` at a path's own jumps; `PathEngine` carries `w` from node to node and knows every
dynamics but one. They share no sampling code, so each is a witness of the other. `ReshuffleEngine` is the first of them for
reshuffled SGD: at four cells an epoch it is the cheaper one however many epochs there are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any, Protocol, TypeGuard

import jax
import numpy as np
from scipy import stats

from ...learning.dynamics import SGD, SME, Dynamics, GradientFlow, step_at
from ...learning.problem import Problem
from ...learning.risk import TestRisk
from ...learning.slopes import Slopes
from ...learning.trained import anywhere
from ...learning.weights import SmoothPenalty
from ..grids import spaced
from ..shapes import patient, room, roomy
from . import turns
from .anchored import taught
from .draws import Randomness, draw, grading, jump_intensity, lay_out, with_room
from .events import EventProgram
from .histories import History, draw_histories, lay_out_histories
from .reshuffle import GROUP, SHARED, ReshuffleProgram, draw_epochs, epoch_ends, epoch_nodes, lay_out_epochs
from .sample import SampleProgram, share_of
from .tilted import FAR, HEAVY, MOST

FED_BACK = 400  # cells whose pushes take a path, fed back, as long as all else of a cell
REMEMBERED = 192  # nodes whose response a path carries at most, usually: earlier ones are forgotten
RARE = 1e-8  # probability of more jumps than there is room for: more room is made then, and a program compiled for it
# Where a path may be conditioned on all its jumps, which is quadratic in their number times that of student directions. It pays where a few
# samples would else make all averages, since a gradient without bound overshoots (from this `step c` on, `c` the curvature far out), and
# where a spectrum has directions that are much faster than the others. Elsewhere paths from node to node take .2 to 1 of it.
FOLLOWED, OVERSHOOTS, ROUGH = 4.5, 1.2, 4.0
HARDLY = 0.1  # part of the gradient at the start that is along the teacher: below, what a few samples get wrong decides when it is found
CONDITIONED = 2  # directions up to which that tells more for its cost: of three a softmax is told ten times as well by paths
FEW = 256  # jumps of a path
# Seconds for each jump and cell of a history, also where there is one in every epoch, and for each cell of a path.
LANDED, SHUFFLED, CROSSED = 7e-7, 1.8e-7, 1.3e-6
STEPS = 257  # times at which a schedule is looked at for its largest step
SHORT = 64  # cells of trainings whose programs are shared
LEAST_SHARED = 64  # that there is room for where shapes are few, see `shapes.few`


class Engine(Protocol):
    """How samples of one problem are driven up to a horizon: all that the rest of the theory asks of it. A new way to drive them is one
    such class, and a line of `engine_of` and `choose`.

    Attributes:
        name: that `solve(method=...)` and diagnostics use.
        program: the compiled work on samples, see `march.Program`.
        natural: whether the noise's covariance is best estimated from the kicks themselves.
        balanced: whether the self-overlap is taken from the balance with `E[l r]`, see `coordinates`.
        ends: of epochs, where curves have kinks; none elsewhere.
        pilot: paths of a replicate of the first estimate; more march in parties of so many.
        scouts: of how many samples one goes ahead of a march that is dear, see `march`; zero where none does.
        per_cell: paths that a cell takes, at least: with fewer the noise's covariance over so many cells fluctuates too much to have a
            factor, see `noise`.
        jumps: mean and variance of a path's number of jumps.
    """

    @property
    def problem(self) -> Problem: ...
    @property
    def dynamics(self) -> Dynamics: ...
    @property
    def horizon(self) -> float: ...
    @property
    def program(self) -> Any: ...
    @property
    def name(self) -> str: ...
    @property
    def natural(self) -> bool: ...
    @property
    def balanced(self) -> bool: ...
    @property
    def ends(self) -> np.ndarray: ...
    @property
    def pilot(self) -> int: ...
    @property
    def scouts(self) -> int: ...
    @property
    def per_cell(self) -> int: ...
    @property
    def jumps(self) -> tuple[float, float]: ...

    def nodes(self, cells: int) -> np.ndarray:
        """The grid of about so many cells; every second and every fourth node is one for half and a quarter of them."""
        ...

    def capacity(self, cells: int) -> int:
        """How many cells there is room for on a grid of so many."""
        ...

    def path_bytes(self, cells: int) -> int:
        """Memory of one path with all that belongs to it."""
        ...

    def path_seconds(self, cells: int) -> float:
        """What one path takes at all resolutions, roughly, on one core: by sizes and not by clocks, so that choices made by it are the
        same everywhere."""
        ...

    def draw(self, cells: int, paths: int, seed: np.random.SeedSequence) -> Any:
        """One replicate's random numbers; they do not depend on the grid."""
        ...

    def lay_out(self, drawn: list[Any], nodes: np.ndarray, cells: int) -> tuple[Any, list]:
        """Draws of all replicates on a grid, and for each of its cells what the program needs to find its events."""
        ...


class EventEngine:
    """From jump to jump; see `events`."""

    name = "events"
    natural = False
    balanced = True
    ends = np.zeros(0)  # of epochs, where curves have kinks
    pilot = 1024  # paths of a replicate of the first estimate
    per_cell = 0  # the covariance of what conditioning leaves is smooth
    landed = LANDED

    def __init__(self, problem: Problem, dynamics: Dynamics, horizon: float):
        assert isinstance(dynamics, SGD)
        self.problem, self.dynamics, self.horizon = problem, dynamics, horizon
        self.program = _event_program(problem.slopes, anywhere(problem.labels), problem.kinks, not dynamics.plain)

    def nodes(self, cells: int) -> np.ndarray:
        return spaced(self.horizon, cells, grading(self.dynamics))

    @property
    def scouts(self) -> int:
        """One in 32 would foresee hardly less. Behind a spectrum whose rates are far apart what few foresee misses more than they save, and
        particles under a penalty would be carried once more, which takes as long."""
        simple = self.problem.anisotropic is None and not isinstance(self.problem.penalty, SmoothPenalty)
        return 16 if simple else 0

    @property
    def jumps(self) -> tuple[float, float]:
        mean = float(jump_intensity(self.problem, self.dynamics, self.horizon)[1][-1])
        return mean, mean

    def capacity(self, cells: int) -> int:
        return cells

    def path_bytes(self, cells: int) -> int:
        """Memory of one path with all that belongs to it: two tables over its jumps, and copies while a cell is crossed."""
        jumps = jump_intensity(self.problem, self.dynamics, self.horizon)[1][-1]
        return int(self._table_bytes * (self.problem.k * (jumps + 5.0 * np.sqrt(jumps) + 2.0)) ** 2)

    def path_seconds(self, cells: int) -> float:
        return self.landed * self.problem.k**2 * cells * (self.jumps[0] + 3.0)

    @property
    def _table_bytes(self) -> int:
        """Of both tables and their copies for one pair of items; with kinks one of the tables has both sides."""
        return 96 if self.problem.kinks else 64

    def draw(self, cells: int, paths: int, seed: np.random.SeedSequence) -> History:
        return draw_histories(self.problem, self.dynamics, self.horizon, paths, seed)

    def lay_out(self, drawn: list[History], nodes: np.ndarray, cells: int) -> tuple[Any, list]:
        return lay_out_histories(self.problem, self.dynamics, drawn, nodes, cells)


class ReshuffleEngine(EventEngine):
    """From jump to jump, with one jump in every epoch; see `reshuffle`."""

    per_cell = 12  # kinks at the ends of epochs forbid to smooth it
    landed = SHUFFLED

    def __init__(self, problem: Problem, dynamics: Dynamics, horizon: float):
        assert isinstance(dynamics, SGD)
        self.problem, self.dynamics, self.horizon = problem, dynamics, horizon
        self.program = _reshuffle_program(problem.slopes, anywhere(problem.labels), problem.kinks, not dynamics.plain)
        self.ends = epoch_ends(problem, dynamics, horizon)

    def nodes(self, cells: int) -> np.ndarray:
        return epoch_nodes(self.ends, self.horizon, cells, grading(self.dynamics))

    @property
    def jumps(self) -> tuple[float, float]:
        mean = super().jumps[0]
        return mean, (mean % 1.0) * (1.0 - mean % 1.0)  # only that of the last epoch may be missing

    def path_bytes(self, cells: int) -> int:
        return self._table_bytes * (self.problem.k * (len(self.ends) + 1)) ** 2

    def capacity(self, cells: int) -> int:
        """How many cells there is room for: histories know no grid, so there may be more than the grid has, for other numbers of epochs.
        Not where coordinates are sampled or gradients differenced, which go by the finest grid."""
        return cells if self.problem.kinks or isinstance(self.problem.penalty, SmoothPenalty) else room(cells, GROUP * SHARED, 4)

    def draw(self, cells: int, paths: int, seed: np.random.SeedSequence) -> History:
        return draw_epochs(self.problem, self.dynamics, self.horizon, paths, seed)

    def lay_out(self, drawn: list[History], nodes: np.ndarray, cells: int) -> tuple[Any, list]:
        return lay_out_epochs(self.problem, self.dynamics, drawn, nodes, cells, self.ends)


class PathEngine:
    """From node to node; see `sample`."""

    name = "paths"
    ends = np.zeros(0)
    pilot = 2048  # more than of histories, for the last Gaussian is sampled, too
    scouts = 0  # the train risk of paths that have seen what few foresaw misses up to twice as much

    def __init__(self, problem: Problem, dynamics: Dynamics, horizon: float):
        self.problem, self.dynamics, self.horizon = problem, dynamics, horizon
        self.all_tell = problem.kinks or not self.balanced  # differences across kinks fluctuate more than derivatives
        self.program = _sample_program(
            problem.slopes, anywhere(problem.labels), drive_of(dynamics), problem.kinks, not dynamics.plain, self.all_tell
        )

    def nodes(self, cells: int) -> np.ndarray:
        return spaced(self.horizon, cells, grading(self.dynamics))

    def capacity(self, cells: int) -> int:
        """For the next power of two, so that neighbouring grids share their programs: a table with empty rows takes little, but few long
        trainings are alike. Not where coordinates are sampled or gradients differenced, which go by the finest grid."""
        fixed = self.problem.kinks or isinstance(self.problem.penalty, SmoothPenalty) or cells > SHORT
        return cells if fixed else 1 << (cells - 1).bit_length()

    @property
    def balanced(self) -> bool:
        """A smooth flow's Gram matrix keeps its own diagonal where it has modes or particles, which know the noise's order."""
        simple = self.problem.anisotropic is None and not isinstance(self.problem.penalty, SmoothPenalty)
        return simple or not isinstance(self.dynamics, GradientFlow)

    @property
    def jumps(self) -> tuple[float, float]:
        if not isinstance(self.dynamics, SGD):
            return 0.0, 0.0
        mean = float(jump_intensity(self.problem, self.dynamics, self.horizon)[1][-1])
        return mean, mean

    @property
    def natural(self) -> bool:
        """Whether the noise's covariance is best estimated from the kicks themselves: smooth ones, where there is no other noise."""
        return isinstance(self.dynamics, GradientFlow) and not self.dynamics.temperature

    @property
    def per_cell(self) -> int:
        return 0 if self.natural else 24

    def path_bytes(self, cells: int) -> int:
        """Its draws, as drawn, laid out and on the device; its kicks; and its share of the response of those followed: with kinks its own,
        on both sides."""
        k, events = self.problem.k, cells if self.room is None else self.room
        if self.problem.kinks:
            response = 4 * (k * min(cells + 4, REMEMBERED)) ** 2
        else:
            left, come_from = turns.parts_of(drive_of(self.dynamics), not self.dynamics.plain)
            response = cells * k * left * k * come_from // self.share(cells)
        own = 2 * cells * k + response
        return 8 * (3 * (cells * (k + 1) + events * (k + 2)) + own)

    def share(self, cells: int) -> int:
        """One path in how many tells the response."""
        return share_of(self.problem.k, cells, drive_of(self.dynamics), self.all_tell)

    def path_seconds(self, cells: int) -> float:
        return CROSSED * self.problem.k * cells * (1.0 + cells / FED_BACK)

    def draw(self, cells: int, paths: int, seed: np.random.SeedSequence) -> Randomness:
        return draw(self.problem, self.dynamics, self.horizon, cells, paths, seed, self.tilt)

    def lay_out(self, drawn: list[Randomness], nodes: np.ndarray, cells: int) -> tuple[Any, list]:
        laid = [lay_out(self.problem, self.dynamics, one, nodes, cells) for one in drawn]
        draws = [draws for draws, _ in laid]
        if self.room is not None:
            most = max(self.room, *(len(one.where) for one in draws))
            draws = [with_room(one, most) for one in draws]
        return jax.tree.map(lambda *parts: np.stack(parts), *draws), list(np.max([used for _, used in laid], 0))

    @cached_property
    def tilt(self) -> float | None:
        """The curvature for which noise is tilted; None where it need not be."""
        if not isinstance(self.dynamics, SME):
            return None
        step = _largest_step(self.dynamics, self.horizon)
        curvature = TestRisk(self.problem, 0).curvature(FAR)
        return min(curvature, MOST / step) if step * curvature > HEAVY else None

    @cached_property
    def room(self) -> int | None:
        """For the jumps of one path: so much that one compiled program serves all replicates, and similar problems. Where jumps are few
        their room costs less than another program."""
        if not isinstance(self.dynamics, SGD):
            return None
        mean = jump_intensity(self.problem, self.dynamics, self.horizon)[1][-1]
        most = int(stats.poisson.isf(RARE, mean)) + 1
        return roomy(max(most, 4), 1 if most <= FEW else 4) if patient() else room(most, LEAST_SHARED, 8)


ENGINES: dict[str, type[EventEngine] | type[PathEngine]] = {"events": EventEngine, "paths": PathEngine}


def engine_of(method: str, problem: Problem, dynamics: Dynamics, horizon: float) -> Engine:
    """The engine of that name for a dynamics."""
    return (ReshuffleEngine if reshuffled(dynamics) else ENGINES[method])(problem, dynamics, horizon)


def reshuffled(dynamics: Dynamics) -> TypeGuard[SGD]:
    """Whether samples come in a new order in every epoch."""
    return isinstance(dynamics, SGD) and dynamics.sampling == "reshuffle"


def drive_of(dynamics: Dynamics) -> str:
    """How events kick a sample, a `drive` of `kicks.path_functions`."""
    return {SGD: "jump", SME: "diffusion", GradientFlow: "flow"}[type(dynamics)]


def choose(problem: Problem, dynamics: Dynamics, horizon: float, method: str) -> tuple[str, str]:
    """The engine's name for `method`, and why."""
    if reshuffled(dynamics):
        number = len(epoch_ends(problem, dynamics, horizon)) + 1
        return "events", f"one jump a path in each of {number} epochs: conditioning on all of them is exact and the cheapest"
    if method not in ("auto", "kernels"):
        return method, "asked for"
    if not isinstance(dynamics, SGD):
        return "paths", "the dynamics has no jumps"
    jumps = float(jump_intensity(problem, dynamics, horizon)[1][-1])
    number = f"{jumps:.3g} jumps a path on average"
    if problem.k > CONDITIONED or jumps * problem.k > FOLLOWED:
        directions = f" in {problem.k} directions" if problem.k > CONDITIONED else ""
        return "paths", f"{number}{directions}: too many to condition on all of them"
    if problem.anisotropic is not None and problem.anisotropic.roughness > ROUGH:
        return "events", f"{number}, and few directions of the data are much faster than the others"
    # Behind a filter two jumps within a memory push twice the same way: what is rare then is the jumps themselves.
    if dynamics.plain and _largest_step(dynamics, horizon) * TestRisk(problem, 0).curvature(FAR) > OVERSHOOTS:
        return "events", f"{number}, and samples overshoot: averages are less noisy conditioned on all jumps"
    if taught(problem) < HARDLY:
        return "events", f"{number}, and the start hardly knows the teacher: averages are less noisy conditioned on all jumps"
    return "paths", f"{number}: averages from node to node cost less than conditioned on all of them"


def _largest_step(dynamics: SGD | SME, horizon: float) -> float:
    return float(step_at(dynamics, np.linspace(0.0, horizon, STEPS)).max())


@lru_cache(maxsize=32)
def _event_program(slopes: Slopes, label: Callable, kinks: bool, filtered: bool) -> EventProgram:
    return EventProgram(slopes, label, kinks, filtered)


@lru_cache(maxsize=32)
def _reshuffle_program(slopes: Slopes, label: Callable, kinks: bool, filtered: bool) -> ReshuffleProgram:
    return ReshuffleProgram(slopes, label, kinks, filtered)


@lru_cache(maxsize=32)
def _sample_program(slopes: Slopes, label: Callable, drive: str, kinks: bool, filtered: bool, all_tell: bool) -> SampleProgram:
    return SampleProgram(slopes, label, drive, kinks, filtered, all_tell)
