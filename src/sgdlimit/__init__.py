"""sgdlimit: exact high-dimensional learning curves for stochastic gradient descent."""

from .dynamics import SGD, SME, GradientFlow
from .errors import InputError, SolveError
from .problem import (
    EmpiricalTeacher,
    GaussianTeacher,
    Gumbel,
    Init,
    NoNoise,
    Normal,
    Problem,
    Ridge,
    SmoothPenalty,
    SparseTeacher,
    StudentT,
    Uniform,
)
from .results import Simulation, Solution, load
