"""A handful of samples carried again by plain NumPy, as a witness of the compiled programs.

Only the user's functions are compiled here, in the small program that checked the problem (`problem.values_at`). Everything else
is written out from the equations and not from the programs: of `events` the whole past of some histories, from their draws and the
kernels on, and the averages that the compiled program makes of just these; of `sample` some paths over one cell, and the averages over
all paths at its end. What is returned are pairs of arrays, ours and the program's.

With kinks, responses are differences of whole paths and are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...learning.problem import Problem
from ..march import Seen
from ..samples.engines import Engine
from ..samples.histories import History
from .recomputed_histories import Pairs, RecomputedHistories
from .recomputed_paths import RecomputedPaths

FAR = 1e6  # numbers beyond are on their way to infinity, where rounding is all there is


def again(problem: Problem, engine: Engine, samples: Any, seen: Seen, replicate: int, rng: np.random.Generator) -> Pairs:
    """What NumPy and what the program make of the same samples at the end of a cell, by name. `samples` are the replicate's draws."""
    events = isinstance(samples, History)
    with np.errstate(all="ignore"):
        return (RecomputedHistories if events else RecomputedPaths)(problem, engine, samples, seen, replicate, rng).pairs()


def worst(pairs: Pairs) -> tuple[float, str]:
    """The largest difference relative to the size of its array, and its name."""
    found = [(0.0, "")]
    if all(np.abs(ours).max(initial=0.0) < FAR for ours, _ in pairs.values()):
        for name, (ours, theirs) in pairs.items():
            size, gap = float(np.abs(ours).max(initial=0.0)), float(np.abs(ours - theirs).max(initial=0.0))
            found.append((gap / max(size, 1e-9) if np.isfinite(gap) else np.inf, name))
    return max(found)
