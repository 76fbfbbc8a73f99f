"""What comes back, what follows from it, and how it is held against real runs; each result draws itself."""

from .loading import load
from .result import (
    Kept,
    Result,
    Simulation,
    Solution,
    Status,
    build_dataset,
    judge_growth,
    labels_of,
    output_times,
    path_dataset,
    with_numbers,
)
from .schema import ALONG, CURVES, KERNELS, LONG_NAMES, PATHS_KEPT, curves_of

__all__ = [
    "ALONG",
    "CURVES",
    "KERNELS",
    "LONG_NAMES",
    "PATHS_KEPT",
    "Kept",
    "Result",
    "Simulation",
    "Solution",
    "Status",
    "build_dataset",
    "curves_of",
    "judge_growth",
    "labels_of",
    "load",
    "output_times",
    "path_dataset",
    "with_numbers",
]
