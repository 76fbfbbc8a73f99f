"""Witnesses inside `solve`: what must agree, whatever the problem is, and shares no code with what it is held against.

- *The start.* At time zero the march's own averages (risk, `E[l l^T]`, `E[l r*^T]`, `E[H]`) are those of fresh samples at known overlaps:
  plain quadrature tells them.
- *The draws.* Each normal and the time to a path's first jump fill their law evenly, and jumps are as many as their intensity says.
- *A handful of samples*, carried again by NumPy over a random cell (`recomputed`), and the averages at its end.
- *The two estimates of the self-overlap*, by the Gram matrix of the noise and by the balance of `E[l r]` and `E[l l]`.
- *The first answer and the last*: they may differ by what both report as their errors.

What fails is said in words. The first three are facts about the program or about means that samples do not tell; then the answer is not
vouched for. The others widen the reported error by what they found.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import special
from scipy.stats import qmc

from ...checks import root
from ...learning.problem import Problem, values_at
from ...spread import spread
from ..averages import Averages
from ..samples.histories import History

RULES, POINTS = 8, 256  # each of so many points
# In joint standard errors. On random problems two thirds of what is allowed was seen at most; see benchmarks/README.md, "Witnesses".
FAR = 8.0
MOVED = 6.0  # joint standard errors between answers
COUNTED = 5.0  # standard deviations of a number of jumps, were paths independent
SMALL = 1e-3  # of a quantity's size: what no promise is about
ROUNDING = 1e-4  # of an array's size: what carrying the same samples in another order of operations may change
TINY = 2.0**-40

START = ("the loss", "E[l l^T]", "E[l r*^T]", "E[H]")


def flat(averages: Averages) -> np.ndarray:
    """Averages at time zero in one row for each replicate, in the order of `START`: `(S, 1 + k k + k k_star + k k)`."""
    parts = (averages.risk, averages.l_l, averages.l_gstar, averages.h)
    return np.concatenate([np.asarray(part).reshape(len(averages.risk), -1) for part in parts], 1)


def start_by_quadrature(problem: Problem, seed: int) -> np.ndarray:
    """The same row as `flat` by each of `RULES` randomised rules over fresh samples at the overlaps of the start."""
    rng = np.random.default_rng([seed, 0x51A7])
    k, k_star, noise = problem.k, problem.k_star, problem.noise_size
    u = np.concatenate([qmc.Sobol(k_star + k + noise, rng=rng).random(POINTS) for _ in range(RULES)])
    u = np.clip(u, TINY, 1.0 - TINY)
    g = special.ndtri(u[:, : k_star + k])
    half = root(problem.rho)
    known = problem.overlap_start @ np.linalg.pinv(half, hermitian=True)
    values, vectors = np.linalg.eigh(problem.self_overlap_start - known @ known.T)
    r = g[:, :k_star] @ known.T + g[:, k_star:] @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    z = problem.noise_from_uniform(u[:, k_star + k :]) if noise else np.zeros((len(u), *problem.noise.shape))
    loss, l, H = values_at(problem, r, g[:, :k_star] @ half, z)  # noqa: E741
    outer = lambda a, b: np.einsum("hni,hnj->hij", a, b).reshape(RULES, -1) / POINTS
    by_rule = lambda array: array.reshape(RULES, POINTS, *array.shape[1:])
    l, teacher = by_rule(l), by_rule(g[:, :k_star])  # noqa: E741
    mean = lambda array: by_rule(array).mean(1).reshape(RULES, -1)
    return np.concatenate([mean(loss), outer(l, l), outer(l, teacher), mean(H)], 1)


@dataclass
class Witnesses:
    """Of one solve. `faults` are sentences; `seen` says what was compared and how far apart it was, in units of what is allowed."""

    problem: Problem
    seed: int
    faults: list[str] = field(default_factory=list)
    seen: dict[str, float] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.Lock)  # replicates are marched on several threads

    def __post_init__(self):
        self.fresh: np.ndarray | None = None
        self.latest: dict[str, float] = {}  # of what belongs to one estimate

    @property
    def words(self) -> str:
        """For a result's diagnostics."""
        return "; ".join(f"{name} {size:.2g}" for name, size in sorted(self.seen.items())) + " of what is allowed"

    @property
    def doubt(self) -> bool:
        """Whether anything disagrees, so that to spend more is no cure."""
        return bool(self.faults) or any(not size <= 1.0 for size in self.latest.values())

    def note(self, name: str, size: float, words: str) -> None:
        """`size` is in units of what is allowed: more than one is a fault."""
        with self.lock:
            self.seen[name] = max(self.seen.get(name, 0.0), size)
            if not size <= 1.0:
                self.faults.append(words)

    def start(self, begun: np.ndarray) -> None:
        """Averages at time zero of all replicates, one row each."""
        if self.fresh is None:
            self.fresh = start_by_quadrature(self.problem, self.seed)
        k, k_star = self.problem.k, self.problem.k_star
        ours, mine = begun.mean(0), self.fresh.mean(0)
        error = np.hypot(spread(begun), spread(self.fresh))
        first = 0
        for name, size in zip(START, (1, k * k, k * k_star, k * k), strict=True):
            part = slice(first, first + size)
            first += size
            if name == "E[H]" and self.problem.kinks:
                continue
            scale = np.abs(mine[part]).max()
            allowed = FAR * error[part] + SMALL * scale + 1e-12
            share = np.abs(ours[part] - mine[part]) / allowed
            worst = int(np.argmax(share)) if np.isfinite(share).all() else int(np.argmin(np.isfinite(share)))
            at = first - size + worst
            self.note(
                "the start",
                float(share[worst]) if np.isfinite(share[worst]) else np.inf,
                f"at t = 0 the mean of {name} over the samples of the march is {ours[at]:.6g}, and {mine[at]:.6g} by plain quadrature,"
                f" where {allowed[worst]:.2g} is allowed between them (heavy tails have such means, or a compiled program is wrong)",
            )

    def draws(self, drawn: list[Any], jumps: tuple[float, float]) -> None:
        """Draws of the replicates of a group, before they are laid on a grid; `jumps` are the mean and the variance of their number. Points
        that fill space evenly fill each of their dimensions evenly, so that only the ends of a law fluctuate. Normals are looked at in the
        first replicate alone: all are made by one program, and these are the largest arrays of a march."""
        one = drawn[0]
        paths = one.at.shape[1] if isinstance(one, History) else len(one.cells)
        normals = one.normal[: len(one.at)] if isinstance(one, History) else np.moveaxis(one.cells, 0, 2)
        for name, found, right in (("mean", normals.mean(-1), 0.0), ("mean square", (normals**2).mean(-1), 1.0)):
            found = found[normals.any((-1, -2))]  # room to spare is filled with zeros
            gap = found.ravel()[np.argmax(np.abs(found - right))] - right if found.size else 0.0
            words = f"the normals of {paths} paths have the {name} {right + gap:.3g} instead of {right:g}"
            self.note("the draws", abs(gap) / (0.05 + 20.0 / paths), words)
        times = [samples.at.T if isinstance(samples, History) else getattr(samples.jumps, "times", np.zeros((1, 0))) for samples in drawn]
        number, (mean, variance) = np.array([np.isfinite(at).sum(1).mean() for at in times]), jumps
        allowed = COUNTED * np.sqrt(variance / (paths * len(number))) + 0.01 * mean + 1e-6
        words = f"{paths} paths have {number.mean():.4g} jumps on average instead of {mean:.4g}"
        self.note("the draws", abs(float(number.mean()) - mean) / allowed, words)

    def handful(self, found: tuple[float, str], time: float) -> None:
        """What `recomputed.worst` found."""
        size, name = found
        self.note(
            "a handful of samples",
            size / ROUNDING,
            f"a handful of samples carried again by NumPy to t = {time:.3g} differ in {name} by {size:.2g} of its size from what the"
            " compiled program says (this is a fault of the program or of its compiler: please report it, with the versions of jax and"
            " jaxlib)",
        )

    def overlaps(self, gaps: np.ndarray, bias: np.ndarray, scale: float) -> np.ndarray:
        """How much the two estimates of the self-overlap differ beyond their errors, `(n,)`: `gaps (S, n)` of the replicates, extrapolated,
        with the extrapolation's own error `bias (n,)`."""
        allowed = FAR * spread(gaps) + bias + 10 * SMALL * scale
        beyond = np.maximum(np.abs(gaps.mean(0)) - allowed, 0.0)
        share = np.abs(gaps.mean(0)) / allowed
        self.latest["the two self-overlaps"] = self.seen["the two self-overlaps"] = float(share.max(initial=0.0))
        return beyond

    def moved(
        self, first: Mapping[str, np.ndarray], last: Mapping[str, np.ndarray], error: Mapping[str, np.ndarray], scales: Mapping[str, float]
    ):
        """How far each curve moved from the first answer to the last, where beyond `MOVED` joint errors and what no promise is about."""
        found, most = {}, 0.0
        for name, curve in last.items():
            allowed = MOVED * error[name] + SMALL * scales[name]
            share = np.abs(curve - first[name]) / allowed
            most = max(most, float(share.max(initial=0.0)))
            found[name] = np.where(share > 1.0, np.abs(curve - first[name]), 0.0)
        self.latest["the first answer"] = self.seen["the first answer"] = most
        return found
