"""sgdlimit: exact high-dimensional learning curves for stochastic gradient descent.

Names resolve on first use, so that `import sgdlimit` and the command line's `--help` load neither JAX nor xarray.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from . import models, plot, schedules
    from .errors import InputError, SolveError
    from .learning.adam import Adam
    from .learning.averages import ExponentialAverage, TailAverage
    from .learning.dynamics import SGD, SME, GradientFlow, MiniBatchGD, OnlineSGD
    from .learning.noise import Gumbel, NoNoise, Normal, StudentT, Uniform
    from .learning.optimisers import Momentum
    from .learning.privacy import dp_epsilon, dp_noise
    from .learning.problem import Problem
    from .learning.reading import dynamics_of
    from .learning.spectrum import Spectrum
    from .learning.trained import Trained
    from .learning.weights import EmpiricalTeacher, GaussianTeacher, Init, Ridge, SmoothPenalty, SparseTeacher
    from .one_run import OneRun
    from .recommend import Recommendation, recommend
    from .results import Simulation, Solution, load
    from .results.compare import Comparison, compare
    from .results.laws import LawComparison, laws
    from .results.observables import accuracy, observe
    from .results.tuned import Tuned, TunedSchedule
    from .simulate import simulate
    from .sweep import sweep
    from .theory import solve
    from .tune import sensitivity, tune, tune_schedule

# Where each public name lives.
_HOME = {
    "learning.problem": ("Problem",),
    "learning.trained": ("Trained",),
    "learning.noise": ("Gumbel", "NoNoise", "Normal", "StudentT", "Uniform"),
    "learning.weights": ("EmpiricalTeacher", "GaussianTeacher", "Init", "Ridge", "SmoothPenalty", "SparseTeacher"),
    "learning.dynamics": ("SGD", "SME", "GradientFlow", "OnlineSGD", "MiniBatchGD"),
    "learning.optimisers": ("Momentum",),
    "learning.adam": ("Adam",),
    "learning.averages": ("ExponentialAverage", "TailAverage"),
    "learning.privacy": ("dp_epsilon", "dp_noise"),
    "learning.reading": ("dynamics_of",),
    "learning.spectrum": ("Spectrum",),
    "theory": ("solve",),
    "simulate": ("simulate",),
    "sweep": ("sweep",),
    "results.compare": ("Comparison", "compare"),
    "results.observables": ("accuracy", "observe"),
    "results.tuned": ("Tuned", "TunedSchedule"),
    "tune": ("sensitivity", "tune", "tune_schedule"),
    "results.laws": ("LawComparison", "laws"),
    "one_run": ("OneRun",),
    "recommend": ("Recommendation", "recommend"),
    "results": ("Simulation", "Solution", "load"),
    "errors": ("InputError", "SolveError"),
}  # fmt: skip
_MODULES = ("models", "plot", "schedules")
_NAMES = {name: home for home, names in _HOME.items() for name in names}

__all__ = [*_NAMES, *_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_NAMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps `sgdlimit.simulate`, `sgdlimit.sweep`, `sgdlimit.tune` and `sgdlimit.recommend` the functions: importing
    the submodule of the same name would otherwise bind the module over them, so the answer would depend on what was imported first."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _NAMES and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
