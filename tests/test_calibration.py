"""The reported errors are true: on problems with a known answer the truth lies within two standard errors as often as it should.

All sixty problems, and the band of 90 to 99%, are in `benchmarks/calibration.py`; here are nine, three of each dynamics.
"""

import numpy as np
import pytest

import sgdlimit as sl
from problems import CURVES, deviations, random_linear

PROBLEMS = range(9)


@pytest.fixture(scope="module")
def solved():
    known = [random_linear(index) for index in PROBLEMS]
    return [(p, sl.solve(p.problem, p.dynamics, p.horizon, rtol=p.rtol, seed=index)) for index, p in enumerate(known)]


def test_truth_lies_within_the_reported_errors(solved):
    # Points of one problem share their random numbers, so they may all be right or wrong together: the problem is the
    # independent unit. In that worst case the number of wrong problems is Binomial(9, p) with p at most 10%, and five or more
    # of nine have probability 0.1%. So at least five ninths of the points must be covered (a spread-out 90% passes easily).
    # Too large errors show in the size of the deviations instead: an average over equally distributed, correlated squares is
    # never more spread than one of them, so sum_p mean(z^2) lies above the 0.1% point of chi^2(9), 1.15, times the variance
    # that 99% within two standard errors means, 0.776^2.
    z = [deviations(p, s) for p, s in solved]
    covered = np.mean([np.mean(np.abs(x) <= 2) for x in z])
    assert covered >= 5 / 9, [f"{p.title}: {np.abs(x).max():.1f}" for (p, _), x in zip(solved, z, strict=True)]
    assert sum(np.mean(x**2) for x in z) >= 1.15 * 0.776**2


def test_reported_errors_keep_the_promise(solved):
    for known, solution in solved:
        truth = known.truth(solution.dataset.time.values)
        assert solution.status.code == "done", f"{known.title}: {solution.status}"
        for name in CURVES:
            worst = solution.dataset[name + "_se"].values.max()
            assert worst <= known.rtol * np.abs(truth[name]).max() * 1.05, f"{known.title}: {name}"
