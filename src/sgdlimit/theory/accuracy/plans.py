"""How much to compute: cells, paths and replicates, from what a pilot tells of its errors, within the memory there is."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ...learning.dynamics import GradientFlow
from ...learning.problem import Problem
from ...learning.risk import TestRisk
from ...learning.weights import SmoothPenalty
from ...spread import student
from ..samples.engines import Engine
from ..shapes import patient, room, roomy
from ..weights.penalised import penalty_curvature
from ..weights.spectral import most_cells
from .outcome import MAX_REPLICATES, SLOPE

COARSENINGS = (1, 2, 4)  # resolutions of a replicate, as node spacings relative to the finest
DISCRETISATION_SHARE = 0.4  # of the tolerance, that a finer grid is made for
COARSE = 0.7  # from which on a grid is the wrong one,
FLUCTUATES = 0.5  # unless it is less than this part of the sampling error: differences of resolutions are told by samples, too
STAYS = 0.55  # up to which a grid is kept: a finer one begins anew, and what this leaves for sampling is a tenth less
MAX_CELLS = 512
LEAST_SHARED = 16  # cells of a first grid where shapes are few, see `shapes.few`
HURRIED = 4
LOOSE = 0.02  # rtol from which on half of the pilot's paths are enough
EDGE_CELLS = 64  # a first grid has at most so many for the fastest rate, whose part of the curves is soon over
FASTER = 4.0  # than isotropic data, at most, a first grid supposes anisotropic ones to be: few features move faster
# A flow's error falls with the fourth power of its cells, which take little while they are so few: a third more of them.
CHEAP_CELLS, MORE_CELLS = 32, 4.0 / 3.0
MAX_PATHS = 2**15
PILOT_REPLICATES = 4
REPLICATES = 8  # at least, of what is not a pilot: four tell their spread badly, and the error is wider for it
MOST_REPLICATES = 32  # of a plan: more paths each are a little better than more of them, but another program to compile
# Of `rtol`: the sampling error that a plan is made for, more replicates of one that fell short, and more where these tell their spread.
AIM, AIM_AGAIN, AIM_CLOSELY = 0.8, 0.9, 0.97
TELLING = 32  # replicates that do
MORE = 4  # times the paths, at most, where a plan fell short: under heavy tails a single replicate may say that far more are needed
THREADS = 2  # SGDLIMIT_THREADS sets another number; results do not depend on it
GROUP = 4  # replicates marched together, where memory allows
MEMORY = 3 * 2**30  # bytes that all paths marched at a time may take


@dataclass(frozen=True)
class Plan:
    """How much to spend: cells of the finest resolution, paths per replicate (a power of two), replicates."""

    cells: int
    paths: int
    replicates: int

    def kept(self, before: Plan) -> int:
        """How many replicates of the plan before are of use: all of those with as many cells and paths, or none."""
        return before.replicates if (self.cells, self.paths) == (before.cells, before.paths) else 0


@dataclass(frozen=True)
class Found:
    """What a plan is made from: the plan before, and the largest errors it gave, relative to each curve's scale."""

    plan: Plan
    sampling: float
    discretisation: float
    total: float


def cells_at_most(problem: Problem) -> int:
    """Cells of the finest grid, for which there is memory."""
    return MAX_CELLS if problem.anisotropic is None else min(MAX_CELLS, most_cells(problem, MEMORY // (GROUP * THREADS)))


class Planner:
    """Plans for one problem up to the horizon of `engine`."""

    def __init__(self, problem: Problem, engine: Engine, test_risk: TestRisk, most: int):
        self.problem, self.engine, self.test_risk, self.most_cells = problem, engine, test_risk, most

    def pilot(self, rtol: float) -> Plan:
        """The first one: few cells and paths."""
        paths = self.engine.pilot if rtol < LOOSE else self.engine.pilot // 2
        if not patient() and (self.problem.kinks or self.problem.k > 1):
            paths //= HURRIED  # where a first answer is waited for: all paths tell the response, or there is much of it
        return self.affordable(self.enough(Plan(self.first_cells(), paths, PILOT_REPLICATES)), PILOT_REPLICATES)

    def finer(self, plan: Plan) -> Plan:
        """A pilot with twice the cells."""
        return self.affordable(self.enough(replace(plan, cells=2 * plan.cells)), PILOT_REPLICATES)

    def coarse(self, found: Found, rtol: float) -> bool:
        """Whether the discretisation is what is left of the error."""
        return found.discretisation > max(COARSE * rtol, FLUCTUATES * found.sampling)

    def wider(self, plan: Plan) -> Plan:
        """The plan for a grid that was too coarse."""
        return self.affordable(self.enough(replace(plan, cells=self._wider(plan.cells, 1.4))), MAX_REPLICATES)

    def first_cells(self) -> int:
        """Cells of at most a relaxation time at the start, where rates are the curvature of the loss times the eigenvalues of the samples'
        covariance."""
        spectrum = self.problem.anisotropic
        faster = 1.0 if spectrum is None else min(spectrum.roughness, FASTER)  # the mean rate of a pre-activation
        if spectrum is not None and isinstance(self.problem.penalty, SmoothPenalty):  # particles are stepped without exponentials
            faster = float(spectrum.eigenvalues.max())
        mean, penalty = self.test_risk.curvature() * faster, penalty_curvature(self.problem)
        few = self.engine.horizon * (mean + penalty) < 2 and not self.problem.kinks  # whose curvature the second derivative does not tell
        edge = 1.0 if spectrum is not None else (1.0 + self.problem.sample_ratio**-0.5) ** 2  # of Marchenko and Pastur's law
        relaxations = max(self.engine.horizon * (mean + penalty), min(self.engine.horizon * (mean * edge + penalty), EDGE_CELLS))
        cells = int(np.clip(4 * roomy(math.ceil(0.25 * relaxations), 4), 8 if few else 12, self.most_cells))
        if isinstance(self.engine.dynamics, GradientFlow) and cells <= CHEAP_CELLS and not few:
            cells = 4 * roomy(math.ceil(MORE_CELLS * cells / 4), 4)
        return room(cells, LEAST_SHARED)

    def after(self, pilot: Found, rtol: float) -> Plan:
        """Cells from the extrapolation's order, replicates and paths from the spread."""
        if pilot.total <= rtol:
            return pilot.plan
        excess, stays = pilot.discretisation / (DISCRETISATION_SHARE * rtol), pilot.discretisation <= STAYS * rtol
        cells = pilot.plan.cells if stays else self._wider(pilot.plan.cells, excess ** (1 / 3.5))
        return self._sampled(replace(pilot.plan, cells=cells), pilot, AIM * rtol, MAX_PATHS)

    def more(self, found: Found, rtol: float) -> Plan:
        """The plan with more replicates, or paths, where their spread is what is left of the error; the same one where there are none."""
        surely = AIM_AGAIN if found.plan.replicates < TELLING else AIM_CLOSELY
        aim = surely * np.sqrt(rtol**2 - min(found.discretisation, COARSE * rtol) ** 2)
        plan = self._sampled(found.plan, found, aim, min(MORE * found.plan.paths, MAX_PATHS))
        if plan.paths > found.plan.paths:
            return plan
        more = max(plan.replicates, found.plan.replicates + GROUP)
        if more > TELLING > found.plan.replicates:
            more = TELLING  # few tell their spread badly: others are planned by these
        return replace(found.plan, replicates=min(more, MAX_REPLICATES))

    def missing(self, plan: Plan, found: Found, rtol: float) -> float:
        """How many times a plan it would take, by the spread that was found, where it has all replicates and paths that there may be."""
        spread = found.sampling / student(found.plan.replicates) * np.sqrt(found.plan.replicates / plan.replicates)
        return max(1.0, spread * (found.plan.paths / plan.paths) ** SLOPE / rtol) ** 2

    def _sampled(self, plan: Plan, found: Found, aim: float, most_paths: int) -> Plan:
        """As many replicates as have this error, and where these would be too many more paths for each."""
        spread = found.sampling / student(found.plan.replicates) * np.sqrt(found.plan.replicates)
        most = MOST_REPLICATES if patient() and found.plan.replicates < MOST_REPLICATES else MAX_REPLICATES
        paths = plan.paths
        while (replicates := _replicates(spread, aim)) > most and paths < most_paths:
            paths, spread = 2 * paths, spread / 2**SLOPE
        plan = replace(plan, paths=paths, replicates=min(max(replicates, REPLICATES), MAX_REPLICATES))
        return self.affordable(self.enough(plan), MAX_REPLICATES)

    def enough(self, plan: Plan) -> Plan:
        """The plan with as many cells as a grid of about so many has, and enough paths for them."""
        plan = replace(plan, cells=len(self.engine.nodes(plan.cells)) - 1)
        least = max(self.engine.per_cell * plan.cells, 1)
        return replace(plan, paths=max(plan.paths, 2 ** math.ceil(math.log2(least))))

    def affordable(self, plan: Plan, replicates: int) -> Plan:
        """The plan within `MEMORY`: fewer paths each, and for that more replicates, up to so many."""
        most = 2 ** int(np.log2(max(self.room_for(plan.cells), 64)))
        if plan.paths <= most:
            return plan
        return replace(plan, paths=most, replicates=min(plan.replicates * plan.paths // most, replicates))

    def room_for(self, cells: int) -> float:
        """How many paths may be marched in one group."""
        return MEMORY / (self.engine.path_bytes(cells) * THREADS)

    def _wider(self, cells: int, factor: float) -> int:
        """More cells, a multiple of four: they are halved twice."""
        return min(4 * roomy(math.ceil(cells * factor / 4), 4), self.most_cells)


def _replicates(spread: float, error: float) -> int:
    """How many replicates of this spread have such a standard error of their mean: groups of them; one more than there can be where these
    would not do."""
    return next((n for n in range(GROUP, MAX_REPLICATES + 1, GROUP) if student(n) * spread <= error * np.sqrt(n)), MAX_REPLICATES + 1)
