"""Numbers that are trained along with the weights, `a (p,)`: `da = -rate (E[grad_a L] + h_a) dt` (OPTIMISERS section 4; beyond the paper).

The mean is over training samples when they are used, the one that drives the weights: samples tell it with their other averages, and are
told `a` as it goes on. An optimiser treats `a` as it does any parameter: with a velocity of the same memory, a decoupled decay that lasts
`rate` times that of the weights, and Adam's own gain for each, which here follows the batch's mean gradient as well as its variance, for
the mean does not vanish beside it. White noise moves `a` by a part `d^(-1/2)`, which is nothing.
"""

from __future__ import annotations

import numpy as np

from ...learning.dynamics import Dynamics
from ...learning.problem import Problem
from ..averages import Averages
from .filters import Filter


def along_of(problem: Problem, dynamics: Dynamics, nodes: np.ndarray, replicates: int, cells: int) -> Along | None:
    """Of a problem that trains numbers along; None of others."""
    return None if problem.trained is None else Along(problem, dynamics, nodes, replicates, cells)


class Along:
    """What is trained along in one march, of second order in the node spacing like all else.

    Attributes:
        a: `(S, N + 1, p)` at the nodes reached.
    """

    def __init__(self, problem: Problem, dynamics: Dynamics, nodes: np.ndarray, replicates: int, cells: int):
        assert problem.trained is not None
        self.trained, size = problem.trained, len(problem.trained)
        self.rate, self.decay = np.array(self.trained.rate), getattr(dynamics.optimizer, "decay", 0.0)
        self.filter = None if dynamics.plain else Filter(dynamics, nodes, replicates, size, cells)
        self.a = np.broadcast_to(self.trained.start, (replicates, cells + 1, size)).copy()
        self.velocity = np.zeros_like(self.a)

    def advance(self, node: int, spacing: float, before: Averages, after: Averages) -> np.ndarray:
        """`a (S, p)` at the next node."""
        now, guess = self.a[:, node], self.a[:, node] if after is before else self.a[:, node + 1]
        forces = [-at.pull[:, 0] - np.asarray(self.trained.pull(a)) for at, a in ((before, now), (after, guess))]
        flown = 0.5 * spacing * (forces[0] + forces[1])
        if self.filter is not None:
            squares = [
                at.pull[:, 1] - at.pull[:, 0] ** 2 + self.trained.batch_size * force**2
                for at, force in zip((before, after), forces, strict=True)
            ]
            self.filter.meet(node, [square[:, None] for square in squares])
            answer, v = self.filter.answer(node), self.velocity[:, node]
            flown = answer.begun * v + answer.first * forces[0] + answer.last * forces[1]
            flown = flown * self.filter.gain[:, node : node + 2].mean(1)
            self.velocity[:, node + 1] = answer.forgot * v + answer.early * forces[0] + answer.late * forces[1]
        half = 0.5 * spacing * self.decay * self.rate  # a script's decay is times the learning rate
        self.a[:, node + 1] = ((1.0 - half) * now + self.rate * flown) / (1.0 + half)
        return self.a[:, node + 1]
