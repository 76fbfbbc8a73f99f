"""The repeats of a simulation: draw data, follow the path, look at what it shows. Small runs go several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ..errors import InputError
from ..learning.problem import Problem
from ..learning.risk import RANDOMISATIONS, TestRisk
from .along import parted
from .averaging import Averager
from .beside import Streams, most, stacked
from .data import Data, allocate, draw_each
from .left_out import LeftOut
from .observe import overlaps, train_risk
from .paths import Keeper

LEFT_OUT = "left_out_risk"
RULES = "test_risk_rules"  # the test risk of a repeat on every randomisation of the points, which are the same for all repeats
FEW = 256  # points that tell how a repeat's test risk differs from that of a mean
DIVERGED = 1000.0  # a run has diverged when its self-overlap exceeds this many times that of start and teacher together


@contextmanager
def precise() -> Iterator[None]:
    """Doubles for the weights; the CPU, because a step is too small for a GPU to be faster."""
    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]), np.errstate(all="ignore"):
        yield


@dataclass
class Repeats:
    """Runs of `(n, d) = size` samples and features by one `path`. Where there is a `left_out`, it collects what runs say of their own
    samples; where there is no `keeper`, means alone are asked for, within about `rtol`, and samples lie evenly."""

    problem: Problem
    path: Any
    times: np.ndarray
    size: tuple[int, int]
    design: str
    seed: int
    averager: Averager | None
    keeper: Keeper | None
    left_out: list[LeftOut] | None
    rtol: float = 0.01
    # Where there is no `keeper`: the test risk of the mean of the first repeats, and by few points of each randomisation `(.., time)`; and
    # how many repeats are compared with it by each.
    middle: tuple[np.ndarray, np.ndarray] | None = None

    def __post_init__(self) -> None:
        with precise():
            self.test = TestRisk(self.problem, self.seed)
            self.test.check_finite()
        self.compared = np.zeros(RANDOMISATIONS)

    def run(self, repeats: int, progress: Callable | None) -> Iterator[tuple[dict[str, np.ndarray], float | None]]:
        """After each repeat, or several of them, the curves `(repeat, time, ...)` of all so far up to the last output time that every one
        reached, and when the first one diverged."""
        found: list[dict[str, np.ndarray]] = []
        for curves, ended in self.each(repeats, progress):
            found.append(curves)
            yield together(found), ended

    def each(self, repeats: int, progress: Callable | None) -> Iterator[tuple[dict[str, np.ndarray], float | None]]:
        """As `run`, of each repeat, or several of them, alone; it may end before those that came earlier."""
        n, d = self.size
        at_once = together_of(self.path, n, d, repeats, self.left_out is not None)
        rows = allocate(at_once * n, d).reshape(at_once, n, d)
        kept, ended, done = len(self.times), None, 0
        seeds = np.random.SeedSequence(self.seed)
        while done < repeats:
            now = seeds.spawn(min(at_once, repeats - done))
            with precise():
                states, blown, data = self._followed(now, rows, kept, self._tell(progress, done, len(now), repeats))
                if blown is not None and (ended is None or blown < ended):
                    ended = blown
                kept = states.shape[1]
                if not kept:
                    raise InputError(
                        f"`times` must start before the training diverges at t = {ended:.3g}, but starts at {self.times[0]:g}"
                        " (0 always works)"
                    )
                curves = self._curves(states, data)
            done += len(now)
            yield curves, ended

    def _tell(self, progress: Callable | None, done: int, now: int, repeats: int) -> Callable[[float], object]:
        if progress is None:
            return lambda t: None
        which = f"run {done + 1}" if now == 1 else f"runs {done + 1} to {done + now}"
        horizon = self.times[-1] or 1.0
        return lambda t: progress((done + now * t / horizon) / repeats, f"{which} of {repeats}: t = {t:.3g}")

    def _followed(self, children: list, rows: np.ndarray, kept: int, tell: Callable) -> tuple[np.ndarray, float | None, list[Data]]:
        """Weights and what is trained along `(repeat, time, size + p)` at the first `kept` output times as far as all of these repeats got,
        averaged if they are to be, when one of them left the limit, and their data."""
        streams = [[np.random.Generator(np.random.SFC64(s)) for s in child.spawn(2)] for child in children]
        data = draw_each(self.problem, self.design, rows[: len(streams)], [draws for draws, _ in streams], evenly=self.keeper is None)
        if len(data) > 1:
            rng: Streams = tuple(steps for _, steps in streams)
            running = self.path.run(beside_one_another(rows[: len(data)], data), rng)
        elif self.left_out is None:
            running = self.path.run(data[0], streams[0][1])
        else:
            self.left_out.append(LeftOut(self.path.problem, self.path.dynamics, data[0], self.seed))
            running = self.left_out[-1].watch(self.path.run(data[0], streams[0][1], self.left_out[-1].told))
        followed = kept if self.averager is None else self.averager.place[kept - 1] + 1
        shown, ends, blown = follow(running, followed, self.problem, self.size[1], tell)
        shown = shown if len(data) > 1 else shown[:, None]
        each = (shown[:, i] if self.averager is None else self.averager(shown[:, i], ends) for i in range(len(data)))
        return np.stack([one[:, 0] for one in each]), blown, data

    def _curves(self, states: np.ndarray, data: list[Data]) -> dict[str, np.ndarray]:
        """All curves `(repeat, time, ...)`."""
        thetas, numbers = parted(states, self.problem, self.size[1])
        each = [overlaps(theta, one.teacher, one.eigenvalues) for theta, one in zip(thetas, data, strict=True)]
        self_overlap, overlap = (np.stack(part) for part in zip(*each, strict=True))
        rules = None if self.keeper is None else self._rules(self_overlap, overlap, numbers)
        risk = self._beside_the_middle(self_overlap, overlap, numbers) if rules is None else rules.mean(-1)
        along = [None] * len(data) if numbers is None else numbers
        trained = lambda i: train_risk(self.problem, data[i], thetas[i], along[i])
        found = {
            "self_overlap": self_overlap,
            "overlap": overlap,
            "train_risk": risk if self.path.fresh else np.stack([trained(i) for i in range(len(data))]),
            "test_risk": risk,
            **({} if rules is None else {RULES: rules}),
            **({} if numbers is None else {"trained": numbers}),
        }
        if self.left_out is not None:
            found[LEFT_OUT] = self.left_out[-1].curves(states.shape[1])[None]
        if self.keeper is not None:
            for one, theta in zip(data, thetas, strict=True):
                self.keeper.add(one, theta)
        return found

    def _rules(self, self_overlap: np.ndarray, overlap: np.ndarray, numbers: np.ndarray | None) -> np.ndarray:
        """The test risk on every randomisation of the points `(repeat, time, randomisation)`."""
        along = [None] * len(overlap) if numbers is None else numbers
        return np.stack([self.test.each(*one).T for one in zip(self_overlap, overlap, along, strict=True)])

    def _beside_the_middle(self, self_overlap: np.ndarray, overlap: np.ndarray, numbers: np.ndarray | None) -> np.ndarray:
        """The test risk `(repeat, time)`: that of the mean of the first repeats and, by few points, how each differs from it. Those that
        come together share the points, others have others."""
        repeats, times = self_overlap.shape[:2]
        flat = lambda part: part.reshape(-1, *part.shape[2:])
        these = flat(self_overlap), flat(overlap), None if numbers is None else flat(numbers)
        which = int(np.count_nonzero(self.compared) if not self.compared.all() else np.argmin(self.compared))
        each = self.test.at(*these, which=which, few=FEW).reshape(repeats, times)
        if self.middle is None:
            mean = self_overlap.mean(0), overlap.mean(0), None if numbers is None else numbers.mean(0)
            self.middle = self.test.within(self.rtol, *mean)[0], self._by_few(*mean)
        self.compared[which] += repeats
        middle, few = self.middle
        return middle[:times] + (each - few[which, :times])

    def _by_few(self, *mean: Any) -> np.ndarray:
        """The test risk on few points of each randomisation `(RANDOMISATIONS, time)`."""
        return np.array([self.test.at(*mean, which=which, few=FEW) for which in range(RANDOMISATIONS)])

    def corrected(self, means: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The mean test risk of all repeats so far, whose `means` these are, and its error, `(time,)` each: by many points at their mean
        overlaps, which may be far from those of the first repeats, and by few how they differ from that."""
        assert self.middle is not None
        at = means["self_overlap"], means["overlap"], means.get("trained")
        times = len(means["test_risk"])
        with precise():
            risk, error = self.test.within(self.rtol, *at)
            middle, few = (part[..., :times] for part in self.middle)
            moved = self.compared @ (self._by_few(*at) - few) / self.compared.sum()
        return means["test_risk"] + (risk - middle) - moved, error


def together(found: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Curves of several repeats as those of all, as far as each of them goes."""
    kept = min(curves["test_risk"].shape[1] for curves in found)
    return {name: np.concatenate([curves[name][:, :kept] for curves in found]) for name in found[0]}


def together_of(path: Any, n: int, d: int, repeats: int, left_out: bool) -> int:
    """How many runs a path follows at once: equal parts of all, for each number of runs is a program of its own."""
    at_once = most(n, d, path.problem.k) if path.beside and not left_out else 1
    return -(-repeats // -(-repeats // at_once))


def beside_one_another(rows: np.ndarray, data: list[Data]) -> Data:
    """The data of several repeats, whose rows are these `(repeat, n, d)`."""
    labels = stacked([one.labels for one in data])
    teacher, start = (np.stack([getattr(one, name) for one in data]) for name in ("teacher", "start"))
    return Data(jax.device_put(rows, may_alias=True), labels, teacher, start, data[0].eigenvalues)


def follow(states: Iterator, followed: int, problem: Problem, d: int, tell: Callable) -> tuple[np.ndarray, np.ndarray, float | None]:
    """What a path shows `(time, 1 or 2, size + p)`, of several runs `(time, repeat, 1 or 2, size + p)`, at as many of the first `followed`
    times as it reached, when these steps end `(time,)`, and the time at which a run left the limit, or None."""
    limit = DIVERGED * d * (float(np.trace(problem.self_overlap_start) + np.trace(problem.rho)) or 1.0)
    shown, ends, reached = None, np.empty(followed), 0
    for t, state, outputs in states:
        shown = np.empty((followed, *state.shape)) if shown is None else shown
        weights = state[..., 0, : problem.k * d]
        if not (np.square(weights).sum(-1) <= limit).all():  # also when it is not a number
            return shown[:reached], ends[:reached], t
        for output in outputs:
            if output < followed:
                shown[output], ends[output] = state, t
                reached = output + 1
        tell(t)
        if reached == followed:  # an earlier run ended here
            break
    assert shown is not None  # a path shows its start
    return shown[:reached], ends[:reached], None
