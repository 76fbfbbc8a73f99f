"""Everything random about one replicate: of its samples, and of its coordinates where they are sampled too."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...learning.weights import SmoothPenalty
from ..samples.engines import Engine
from ..weights.particles import Particles, blocks_of, draw_particles


class Drawn(NamedTuple):
    """One replicate's random numbers: of so many paths of samples, and of the coordinates where they are sampled too."""

    paths: int
    samples: Any
    particles: Particles | None


def draw_all(engine: Engine, cells: int, paths: int, seed: np.random.SeedSequence) -> Drawn:
    """Everything random about one replicate, for at most `cells` cells."""
    samples = engine.draw(cells, paths, seed)
    sampled = isinstance(engine.problem.penalty, SmoothPenalty)
    if not sampled:
        return Drawn(paths, samples, None)
    blocks = blocks_of(engine.problem, engine.dynamics, engine.natural)
    return Drawn(paths, samples, draw_particles(engine.problem, cells, paths, seed.spawn(1)[0], blocks))
