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
    begins = average.starts(times)
    found = np.zeros((len(times), len(times)))
    for i, (end, begin) in enumerate(zip(times, begins, strict=True)):
        if end <= begin:
            found[i, i] = 1.0
            continue
        for j in range(i):
            low, high = max(times[j], begin), times[j + 1]
            if high > low:
                left, right = _shares(end - high, end - low, average.rate)
                shape = (np.array([low, high]) - times[j]) / (times[j + 1] - times[j])
                found[i, j] += left * (1.0 - shape[0]) + right * (1.0 - shape[1])
                found[i, j + 1] += left * shape[0] + right * shape[1]
        found[i] /= found[i].sum()
    return found


def _shares(near: float, far: float, rate: float) -> tuple[float, float]:
    """Integrals of `exp(-rate u)` over ages `near < u < far`, with what falls linearly from the older end, and from the newer one."""
    nodes, sizes = np.polynomial.legendre.leggauss(8)
    ages = near + 0.5 * (far - near) * (nodes + 1.0)
    kernel = 0.5 * (far - near) * sizes * np.exp(-rate * ages)
    older = (ages - near) / (far - near)
    return float(kernel @ older), float(kernel @ (1.0 - older))
