"""The same samples in one group or several, in small blocks or one large, give the same answer; the full matrix is `benchmarks/shapes.py`.

A compiler that is wrong from a certain size on, or for a certain batch, is seen here: see `test_compiling.py` for the known ones.
"""

import pytest

from grouped import KINDS, blocks_against_all, committee, march, points_against_all
from marks import cases

ROUNDING = 1e-11  # of sums over thousands of samples in doubles, relative to the largest entry; a fault is of the size of the numbers
SHAPES = {  # directions, samples, replicates: below and beyond the sizes from which jaxlib 0.10.2 is wrong
    "SGD, events": (3, 8192, 1),
    "reshuffled, events": (2, 2048, 2),
    "SGD, paths": (3, 8192, 1),
    "SME, paths": (1, 4096, 2),
    "flow, paths": (2, 4096, 1),
}


@pytest.mark.parametrize("kind", cases(KINDS, evidence=["SME, paths", "reshuffled, events"]))
def test_averages_do_not_depend_on_how_samples_are_grouped(kind):
    k, paths, replicates = SHAPES[kind]
    marched = march(kind, committee(k), replicates)
    assert marched.groups < ROUNDING
    assert blocks_against_all(marched, paths, replicates) < ROUNDING


def test_averages_without_a_march_do_not_either():
    found = points_against_all(committee(3), 8192, 2)
    assert found.pop("train risk of real runs") < 1e-6  # products in single precision
    assert max(found.values()) < ROUNDING, found
