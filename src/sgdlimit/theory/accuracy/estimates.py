"""Errors of replicates at three nested resolutions: two extrapolate the second-order error away, the third tells what is left of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...learning.dynamics import Dynamics
from ...learning.problem import Problem
from ...learning.risk import TestRisk
from ...results import Status, judge_growth
from ...spread import along, envelope
from ..grids import GRADING
from ..samples.draws import grading
from .budget import Budget
from .levels import Bends, Level, curves_at, kernels_at, kicked, resolved
from .outcome import diverged, dominated, doubted, scales
from .plans import Found, Plan
from .witness import Witnesses

EXTRAPOLATED_GAIN = 7.0  # error of an extrapolated curve against its change from the next coarser one: third order at least
# Anisotropic data have several scales at once, as has a velocity corrected for its start: the gain is smaller, and differences of
# resolutions cross zero more often (NEARBY).
# No curve is taken to be better than this part of the worst one, for each feeds on the others.
ANISOTROPIC_GAIN, ANISOTROPIC_NEARBY, ANISOTROPIC_SHARED = 2.5, 0.3, 0.25
UNSOUND = 1.0  # sampling error of a pilot, as a part of its curve's scale, from which on there is nothing to refine
NEARBY = 0.1  # fraction of the horizon


def multiscale(problem: Problem, dynamics: Dynamics) -> bool:
    """Whether curves have several scales of time at once: of anisotropic data, or of a velocity corrected for its start."""
    return problem.anisotropic is not None or grading(dynamics) > GRADING


@dataclass
class Answer:
    """Curves at the output times with their errors, the share of each error, and what they took.

    `each` are the curves of every replicate, `(S, T, ...)`, of which `curves` are the means, and `coarser` those of the next coarser
    resolutions: what differences between problems on common random numbers are judged by, see `paired`.
    """

    plan: Plan
    curves: dict[str, np.ndarray]
    sampling: dict[str, np.ndarray]
    discretisation: dict[str, np.ndarray]
    scales: dict[str, float]
    levels: list[list[Level]]
    each: dict[str, np.ndarray]
    coarser: dict[str, np.ndarray]

    @property
    def errors(self) -> dict[str, np.ndarray]:
        return {name: np.hypot(self.sampling[name], self.discretisation[name]) for name in self.curves}

    def sound(self) -> bool:
        """Whether there is anything to be read off: averages are finite, and not all of them sampling error."""
        return bool(np.nan_to_num(self.worst(self.sampling), nan=np.inf) < UNSOUND)

    def sound_until(self, outputs: np.ndarray) -> float:
        """The last time `(T,)` up to which the sampling error is a part of what curves have been by then; between the output times, where
        that is before the second of them, as if errors grew in proportion."""
        share = np.zeros(len(outputs))
        for name, values in self.curves.items():
            size = np.maximum.accumulate(np.abs(values).reshape(len(outputs), -1).max(1))
            floor = np.abs(values[0]).max() if name != "overlap" else self.scales[name]
            error = self.sampling[name].reshape(len(outputs), -1).max(1) / np.maximum(np.nan_to_num(size, nan=np.inf), max(floor, 1e-12))
            share = np.maximum(share, np.nan_to_num(error, nan=np.inf))
        lost = int(np.argmax(share > UNSOUND / 4))
        if share[lost] <= UNSOUND / 4:
            return float(outputs[-1]) / 2
        return float(outputs[lost - 1]) if lost > 1 else float(outputs[1] * 0.5)

    def worst(self, part: dict[str, np.ndarray]) -> float:
        """Largest error relative to its curve's scale."""
        return max(float(np.max(part[name])) / self.scales[name] for name in self.curves)

    @property
    def found(self) -> Found:
        """What the next plan is made from."""
        return Found(self.plan, self.worst(self.sampling), self.worst(self.discretisation), self.worst(self.errors))


class Estimator:
    """Estimates for one problem at `outputs (T,)` up to a horizon, for a promise of `rtol`; curves have these `bends`, several `scales` of
    time (`multiscale`), or only differences of resolutions that are as `uneven` as then."""

    def __init__(
        self,
        problem: Problem,
        test_risk: TestRisk,
        witnesses: Witnesses,
        outputs: np.ndarray,
        horizon: float,
        rtol: float,
        bends: Bends,
        scales: bool,
        uneven: bool,
    ):
        self.problem, self.test_risk, self.witnesses, self.uneven = problem, test_risk, witnesses, uneven or scales
        self.outputs, self.horizon, self.rtol, self.bends = outputs, horizon, rtol, bends
        self.gain = ANISOTROPIC_GAIN if scales else EXTRAPOLATED_GAIN
        self.nearby = ANISOTROPIC_NEARBY if self.uneven else NEARBY

    @np.errstate(all="ignore")  # what is not finite is told in words
    def estimate(self, plan: Plan, replicates: list[list[Level]]) -> Answer:
        """Mean over replicates, with the error's two parts."""
        each = [resolved(curves_at, levels, self.outputs, self.bends) for levels in replicates]
        fine, middle, coarse = zip(*each, strict=True)
        stack = lambda curves, name: np.array([c[name] for c in curves])
        extrapolated, previous, gained = {}, {}, {}
        for name in fine[0]:
            f, m, c = stack(fine, name), stack(middle, name), stack(coarse, name)
            extrapolated[name] = f + (f - m) / 3.0
            previous[name] = m + (m - c) / 3.0
            gained[name] = np.abs((f - m).mean(0)) / 3.0
        curves, sampling, discretisation = {}, {}, {}
        for name, values in extrapolated.items():
            curves[name] = values.mean(0)
            sampling[name] = along(values, self.outputs, self.horizon)
            # The coarsest grid may be too coarse to tell; what the extrapolation gained then bounds what it missed.
            change = np.abs(curves[name] - previous[name].mean(0)) / self.gain
            discretisation[name] = self._envelope(np.minimum(change, gained[name]))
        self._overlaps_agree(replicates, scales(self.problem, curves)["self_overlap"], discretisation["self_overlap"])
        self._test_risk(extrapolated, previous, curves, sampling, discretisation)
        self.witnesses.start(np.array([one[0].begun for one in replicates]))
        if self.outputs[0] == 0.0:  # the overlaps are given, and a training sample is a fresh one
            for part in (sampling, discretisation):
                for name in ("self_overlap", "overlap", "trained"):
                    if name in part:
                        part[name][0] = 0.0
            for part in (curves, sampling, discretisation):
                part["train_risk"][0] = part["test_risk"][0]
        coarser = {name: values.mean(0) for name, values in previous.items()}
        estimate = Answer(plan, curves, sampling, discretisation, scales(self.problem, curves), replicates, extrapolated, coarser)
        if self.uneven:
            floor = ANISOTROPIC_SHARED * estimate.worst(discretisation) * (self.outputs > 0.0)
            for name, error in discretisation.items():
                np.maximum(error, estimate.scales[name] * floor.reshape(-1, *[1] * (error.ndim - 1)), out=error)
        return estimate

    def _overlaps_agree(self, replicates: list[list[Level]], scale: float, discretisation: np.ndarray) -> None:
        """Widen the self-overlap's error where its two estimates differ by more than theirs."""
        fine, middle, coarse = (np.array([one[i].gap for one in replicates]) for i in range(3))
        n = min(fine.shape[1] // 4, middle.shape[1] // 2, coarse.shape[1] - 1) + 1
        if not fine.any() or n < 2:
            return
        trace = lambda gaps: np.trace(gaps, axis1=2, axis2=3)
        f, m, c = trace(fine[:, ::4][:, :n]), trace(middle[:, ::2][:, :n]), trace(coarse[:, :n])
        gaps, before = f + (f - m) / 3.0, m + (m - c) / 3.0
        bias = np.maximum(np.abs((gaps - before).mean(0)), np.abs((f - m).mean(0)) / 3.0)
        nodes = replicates[0][2].nodes[:n]
        beyond = self.witnesses.overlaps(gaps, bias, scale * self.problem.k)
        at = np.interp(self.outputs, nodes, np.maximum.accumulate(beyond)) / self.problem.k
        np.maximum(discretisation, at[:, None, None], out=discretisation)

    def _test_risk(self, extrapolated, previous, curves, sampling, discretisation) -> None:
        """The test risk is a function of the overlaps, evaluated well at their mean and cheaply at each replicate's."""
        names = [name for name in ("self_overlap", "overlap", "trained") if name in curves]
        mean, own = self.test_risk.within(self.rtol, *(curves[name] for name in names))
        shift = self.test_risk.shift(*(curves[name] for name in names))
        each = np.array([shift(*parts) for parts in zip(*(extrapolated[name] for name in names), strict=True)])
        curves["test_risk"] = mean + each.mean(0)
        sampling["test_risk"] = np.hypot(along(each, self.outputs, self.horizon), own)
        before = shift(*(previous[name].mean(0) for name in names))
        extrapolated["test_risk"], previous["test_risk"] = mean + each, (mean + before)[None]
        discretisation["test_risk"] = self._envelope(np.abs(before) / self.gain)

    def _envelope(self, error: np.ndarray) -> np.ndarray:
        """The largest error `(T, ...)` nearby in time: differences of two resolutions cross zero where their errors do not."""
        return envelope(error, self.outputs, self.nearby * self.horizon)

    def kernels(self, fine: Level, middle: Level, dynamics: Dynamics) -> dict[str, np.ndarray]:
        """Two-time kernels at the output times, extrapolated like the curves."""
        one, other = resolved(kernels_at, (fine, middle), self.outputs, self.bends)
        found = {name: one[name] + (one[name] - other[name]) / 3.0 for name in one}
        if not dynamics.plain:
            found["response"] = kicked(found["response"], self.outputs, dynamics)
        return found


def status(estimate: Answer, rtol: float, ended: float | None, unbounded: bool, faults: list[str], budget: Budget) -> Status:
    """How it ended, in words; `ended` is the time of divergence, if there is one, or where averages stop to exist (`unbounded`); `faults`
    are those that witnesses found."""
    error = estimate.worst(estimate.errors)
    if faults and ended is None:  # on its way to infinity, rounding grows with all else
        return doubted(faults)
    if ended is not None and unbounded:
        return dominated(ended, error)
    if ended is not None:
        return diverged(ended, error, estimate.curves)
    if error > rtol:
        part = "discretisation" if estimate.worst(estimate.discretisation) > estimate.worst(estimate.sampling) else "sampling"
        return Status(
            "inaccurate",
            f"rtol = {rtol:g} was not met{budget.words}: the largest error is {error:.2%} of its curve's scale, mostly of {part}, with "
            f"{estimate.plan.cells} cells, {estimate.plan.paths} paths and {estimate.plan.replicates} replicates "
            "(ask for a larger rtol or a shorter horizon)",
        )
    grown = judge_growth(np.arange(len(estimate.curves["test_risk"])), estimate.curves["test_risk"])
    return grown or Status("done", f"done: the largest error is {error:.2%} of its curve's scale, rtol = {rtol:g} is met")
