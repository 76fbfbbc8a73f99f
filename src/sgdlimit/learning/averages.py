"""Weights averaged over the time of training (OPTIMISERS section 6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..checks import positive
from ..errors import refuse
from .optimisers import share


@dataclass(frozen=True)
class ExponentialAverage:
    """`int_0^t exp(-(t - s) / memory) theta_s ds` over the same without `theta`: what `swa_utils.AveragedModel` of PyTorch has with
    `get_ema_multi_avg_fn(decay)`, once the start is forgotten. `memory` is in units of `t`: a step's length over `1 - decay`."""

    memory: float

    def __post_init__(self):
        fix = "the time over which weights are forgotten: step * batch_size / (n_features * (1 - decay))"
        object.__setattr__(self, "memory", positive("average.memory", self.memory, fix))

    @property
    def rate(self) -> float:
        """At which weights of the past are forgotten."""
        return 1.0 / self.memory

    def starts(self, times: np.ndarray) -> np.ndarray:
        """From when on the average at each time is taken."""
        return np.zeros_like(times)


@dataclass(frozen=True)
class TailAverage:
    """The mean of the weights over the last `fraction` of the time since the start (Polyak-Ruppert averaging for `fraction = 1`)."""

    fraction: float = 0.5

    def __post_init__(self):
        fix = "the part of the time since the start, to its end; 1 averages from the start on"
        object.__setattr__(self, "fraction", 1.0 if self.fraction == 1 else share("average.fraction", self.fraction, fix))
        if self.fraction == 0:
            raise refuse("average.fraction", "be positive", self.fraction, fix)

    @property
    def rate(self) -> float:
        """At which weights of the past are forgotten: within the tail they are not."""
        return 0.0

    def starts(self, times: np.ndarray) -> np.ndarray:
        """From when on the average at each time is taken."""
        return (1.0 - self.fraction) * np.asarray(times, dtype=float)


Average = ExponentialAverage | TailAverage


def check_average(average: Average | None) -> None:
    """Refuse what is no average."""
    if average is not None and not isinstance(average, Average):
        raise refuse("average", "be an sl.ExponentialAverage, an sl.TailAverage or None", average, "sl.ExponentialAverage(memory=1.0)")


def weights(average: Average, nodes: np.ndarray, times: np.ndarray | None = None) -> np.ndarray:
    """What each node `(n,)` of a path counts for in its average at each of the `times (T,)`, by default the nodes: `(T, n)`. Exact for
    paths that are linear between nodes, where a tail may begin, too. Nodes begin at zero, where the average is the start itself."""
    early, late = cell_weights(average, nodes, nodes if times is None else times)
    found = np.zeros((len(early), len(nodes)))
    found[:, :-1] += early
    found[:, 1:] += late
    found[:, 0] += 1.0 - found.sum(1)  # at zero: there is no past
    return found


def cell_weights(average: Average, nodes: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The parts of `weights` that each cell between two nodes gives to the node before and to the node after it, `(T, n - 1)` each."""
    nodes, times = (np.asarray(one, dtype=float) for one in (nodes, times))
    low = np.maximum(nodes[:-1], average.starts(times)[:, None])
    high = np.minimum(nodes[1:], times[:, None])
    length = np.maximum(high - low, 0.0)
    size, lag = _decay(average.rate * length)
    part = length * size * np.exp(-average.rate * np.maximum(times[:, None] - high, 0.0))
    part /= np.maximum(part.sum(1, keepdims=True), np.finfo(float).tiny)
    late = part * (high - lag * length - nodes[:-1]) / np.diff(nodes)
    return part - late, late


def _decay(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`exp(-z x)` over `x` in `[0, 1]`: its integral, and its mean place."""
    small, safe = z < 1e-2, np.where(z < 1e-2, 1.0, np.minimum(z, 700.0))
    size = np.where(small, 1.0 - z / 2.0 + z**2 / 6.0 - z**3 / 24.0, -np.expm1(-safe) / np.maximum(z, safe))
    return size, np.where(small, 0.5 - z / 12.0 + z**3 / 720.0, 1.0 / np.maximum(z, safe) - 1.0 / np.expm1(safe))


def step_weights(average: Average, ends: np.ndarray, which: np.ndarray, begin: np.ndarray) -> np.ndarray:
    """As `weights`, for a training in steps that end at `ends (n,)`, zero first: after the steps `which (T,)` of them, from the steps
    `begin (T,)` on. Added up as in real runs, half of each step for the weights at either end of it."""
    cells = np.arange(len(ends) - 1)
    inside = (cells >= begin[:, None]) & (cells < which[:, None])
    ago = np.maximum(ends[which][:, None] - ends[1:], 0.0)
    lengths = np.diff(ends) * _decay(average.rate * np.diff(ends))[0]
    part = 0.5 * np.where(inside, np.exp(-average.rate * ago) * lengths, 0.0)
    total = 2.0 * part.sum(1, keepdims=True)
    part = part / np.where(total > 0.0, total, 1.0)
    found = np.zeros((len(which), len(ends)))
    found[:, :-1] += part
    found[:, 1:] += part
    found[np.arange(len(which)), which] += 1.0 - found.sum(1)  # no step within: the weights themselves
    return found
