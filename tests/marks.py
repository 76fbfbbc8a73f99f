"""Which cases of a test `make test` runs, and which are left to `make evidence`."""

from collections.abc import Iterable
from typing import Any

import pytest


def cases(names: Iterable[Any], evidence: Iterable[Any]) -> list[Any]:
    """The names, those of `evidence` marked so: each takes long, and another stands for its kind."""
    names, evidence = list(names), list(evidence)
    assert all(name in names for name in evidence), evidence
    several = lambda name: name if isinstance(name, tuple) else (name,)
    return [pytest.param(*several(name), marks=[pytest.mark.evidence] * (name in evidence)) for name in names]
