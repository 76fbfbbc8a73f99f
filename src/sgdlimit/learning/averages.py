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


def weights(average: Average, times: np.ndarray) -> np.ndarray:
    """What each node `(T,)` of a path counts for in its average at each node, `(T, T)`: exact for paths that are linear between nodes,
    where a tail may begin, too. Nodes begin at zero, where the average is the start itself."""
    times = np.asarray(times, dtype=float)
    cells = np.diff(times)
    low = np.maximum(times[:-1], average.starts(times)[:, None])
    high = np.minimum(times[1:], times[:, None])
    nodes, sizes = np.polynomial.legendre.leggauss(8)
    found = np.zeros((len(times), len(times)))
    for node, size in zip(nodes, sizes, strict=True):
        at = low + 0.5 * (high - low) * (node + 1.0)
        part = 0.5 * size * np.maximum(high - low, 0.0) * np.exp(-average.rate * np.maximum(times[:, None] - at, 0.0))
        place = (at - times[:-1]) / cells
        found[:, :-1] += part * (1.0 - place)
        found[:, 1:] += part * place
    found[times <= average.starts(times)] = 0.0
    np.fill_diagonal(found, np.where(times <= average.starts(times), 1.0, found.diagonal()))
    return found / found.sum(1, keepdims=True)
