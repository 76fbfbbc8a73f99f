"""The reported errors are true: on problems with a known answer the truth lies within two standard errors as often as it should.

All sixty problems, and the band of 90 to 99%, are in `benchmarks/calibration.py`; nine, three of each dynamics, are in
`make evidence`, and the quick ones of them here.
"""

import numpy as np
import pytest
from scipy import stats

import sgdlimit as sl
from problems import CURVES, deviations, random_linear

QUICK = (1, 2, 3, 5, 6, 8)  # a second or two each


@pytest.fixture(scope="module", params=[QUICK, pytest.param(range(9), marks=pytest.mark.evidence)], ids=["quick", "all"])
def solved(request):
    known = [(index, random_linear(index)) for index in request.param]
    return [(p, sl.solve(p.problem, p.dynamics, p.horizon, rtol=p.rtol, seed=index)) for index, p in known]


def test_truth_lies_within_the_reported_errors(solved):
    # Points of one problem share their random numbers, so they may all be right or wrong together: the problem is the
    # independent unit. In that worst case the number of wrong problems is Binomial(n, p) with p at most 10%, and as many as five of nine,
    # or four of six, have probability 0.1%: so more of the points must be covered than then (a spread-out 90% passes easily).
    # Too large errors show in the size of the deviations instead: an average over equally distributed, correlated squares is
    # never more spread than one of them, so sum_p mean(z^2) lies above the 0.1% point of chi^2(n) times the variance
    # that 99% within two standard errors means, 0.776^2.
    n = len(solved)
    wrong = int(stats.binom.isf(0.0013, n, 0.1)) + 1
    z = [deviations(p, s) for p, s in solved]
    covered = np.mean([np.mean(np.abs(x) <= 2) for x in z])
    assert covered > 1 - wrong / n, [f"{p.title}: {np.abs(x).max():.1f}" for (p, _), x in zip(solved, z, strict=True)]
    assert sum(np.mean(x**2) for x in z) >= stats.chi2.ppf(0.001, n) * 0.776**2


def test_reported_errors_keep_the_promise(solved):
    for known, solution in solved:
        truth = known.truth(solution.dataset.time.values)
        assert solution.status.code == "done", f"{known.title}: {solution.status}"
        for name in CURVES:
            worst = solution.dataset[name + "_se"].values.max()
            assert worst <= known.rtol * np.abs(truth[name]).max() * 1.05, f"{known.title}: {name}"
