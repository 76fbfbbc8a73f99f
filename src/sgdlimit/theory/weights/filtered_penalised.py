"""Coordinates under a smooth penalty behind an optimiser's filter: particles with a velocity (see `penalised` and `filters`).

The penalty is part of the gradient, as `weight_decay` of PyTorch's SGD and Adam is. A velocity is linear in the force, so it has two parts:
`v`, of the penalty's force alone, and `u`, of the bracket and the noise. A cell is then as without a filter half of the penalty's flow,

    tau v' = -grad penalty(theta) - v,        theta' = g v,

pull and noise, to which the filter's answer `u` is known, and the other half; decoupled decay begins and ends it. The flow is followed by
an exponential Runge-Kutta method (Cox and Matthews, J. Comput. Phys. 176, 430), which takes the filter exactly and is the classical one as
the memory goes to zero: then all of this is `penalised`, whatever the cell. The gain `g` is that of the particle's eigenvalue.

A response starts at zero and rises within the memory, so particles carry `S = R + g E`, which starts with the gain. The force `-A R`, with
`A = hess penalty + lambda Gamma`, is taken of `S`; what is too much of it, `A g E`, is known and given back. In all it moves by `g A g`
times a memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...compiling import jit
from ...learning.problem import Problem
from ..averages import Averages, Layer, times
from ..gaussian import psd_factor
from .filters import Filter
from .particles import Particles
from .penalised import NO_ENDS, SUBSTEPS, Means, Population, Pull, Row, SampledCoordinates, at, average, increment_of, of_each

Array = Any

# From values of a force at the start, the middle and the end of a step to the powers of its parabola.
PARABOLA = np.array([[1.0, 0.0, 0.0], [-3.0, 4.0, -1.0], [2.0, -4.0, 2.0]])


class Motion(NamedTuple):
    """Velocities of particles at one node, and how they respond to each kick but for what they have had of it at first."""

    v: Array  # (k, P): of the penalty's force
    u: Array  # (k, P): of all others
    v_response: Array  # (k, X, k, Q)
    u_response: Array  # (k, X, k, Q)


class Crossing(NamedTuple):
    """What is known of a cell before it is crossed; `gain` and `first` of each replicate."""

    halves: Array  # (2, SUBSTEPS, 14): see `steps_of`
    answer: Array  # (6,): an `Answer`
    moved: Array  # (2,): what an increment moves, evenly spread and not,
    velocity: Array  # (2,): and the velocity it leaves
    decay: Array  # (): what decoupled decay leaves in half of the cell
    layer: Array  # (4,): of a kick that has held back one at the start of the cell, see `_beside`
    held: Array  # (X,): what each has
    begun: Array  # (X,): one where there has been a kick
    gain: Array  # (m, 3, k): over the cell, at its end less at its start, and at the end
    first: Array  # (m, k): of a kick at zero


@lru_cache(maxsize=32)
def arrival(penalty: Callable) -> Callable:
    """The compiled way of particles over a cell; every array has a leading axis of replicates."""
    flow, force = penalty_flow(penalty), force_of(penalty)
    both = lambda state, gain, steps: jnp.stack(flow(*state, gain, steps))
    over = lambda f: jax.vmap(f, in_axes=(-1, -1, -1, None), out_axes=-1)
    carry, turn = over(flow), over(lambda theta, v, gain, steps: jax.jacfwd(both)(jnp.stack([theta, v]), gain, steps))
    bend = jax.vmap(jax.jacfwd(lambda theta: -force(theta)), in_axes=-1, out_axes=-1)

    def half(theta: Array, v: Array, response: tuple[Array, Array], gain: Array, steps: Array) -> tuple[Array, Array, tuple[Array, ...]]:
        """The penalty's flow, and its response."""
        few = response[0].shape[-1]
        jacobian = turn(theta[:, :few], v[:, :few], gain[:, :few], steps)  # (2, k, 2, k, Q)
        moved = tuple(sum(times(jacobian[i, :, j], response[j]) for j in range(2)) for i in range(2))
        return *carry(theta, v, gain, steps), moved

    def arrive(
        population: Population, motion: Motion, M: Array, noise: Array, own: Array, white: Array, gamma: Array, before: Pull, after: Pull,
        known: Crossing, node: Array,
    ) -> tuple[Row, Motion, Means, Array, Array]:  # fmt: skip
        """Particles at the next node; also what a displacement at zero by its gain has moved, and the mean of `g A g`. `own (k, k)` is a
        root of the cell's own noise, `white` the size of white noise that is none of it."""
        few = len(population.respond)
        gain, grown, last = (of_all(known.gain[:, i], population) for i in range(3))
        forgot, early, late, begun, first, final = known.answer
        theta = known.decay * (at(population.apart, node) + times(M, population.gstar))
        S = known.decay * at(population.response, node)
        theta, v, (S, v_response) = half(theta, motion.v, (S, motion.v_response), gain, known.halves[0])
        rate = gamma_of(population, gamma)
        resist = bend(theta[:, :few]) + rate
        noises = increment_of(population, noise, white, node), unevenness_of(population, own, white, node)
        met = lambda shares: shares[0] * noises[0] + shares[1] * noises[1]
        theta = theta + gain * (begun * motion.u - first * before.theta - final * after.theta + met(known.moved))
        u = forgot * motion.u - early * before.theta - late * after.theta + met(known.velocity)
        beside, turned = (known.held[:, None, None] * part[:, None] for part in _beside(known, gain[:, :few], grown[:, :few], resist))
        moved = begun * motion.u_response - first * before.response - final * after.response
        S = S + gain[:, None, None, :few] * moved + beside
        u_response = forgot * motion.u_response - early * before.response - late * after.response + turned
        theta, v, (S, v_response) = half(theta, v, (S, v_response), gain, known.halves[1])
        row, means = average(population, known.decay * theta, known.decay * S, node + 1, last[:, :few])
        rest = known.begun[:, None, None]  # a kick that comes at the end of the cell has left no velocity
        start = row.response[:, 0] * of_each(known.first, population.which, few)
        turned = last[:, None, :few] * (bend(theta[:, :few]) + rate) * last[None, :, :few]
        return row, Motion(v, u, rest * v_response, rest * u_response), means, start @ population.respond, turned @ population.respond

    shared = Crossing(*[None] * 8, gain=0, first=0)  # pyright: ignore[reportArgumentType]
    return jit(jax.vmap(arrive, in_axes=(0, 0, 0, 0, 0, None, 0, 0, 0, shared, None)))


def of_all(of_class: Array, population: Population) -> Array:
    """`of_each` of all particles, `(..., P)`."""
    size = population.apart.shape[-1]
    found = of_each(of_class, population.which, size)
    return jnp.broadcast_to(found, (*found.shape[:-1], size))


def gamma_of(population: Population, gamma: Array) -> Array:
    """The rate at which samples pull particles back, `(k, k, Q)`."""
    few = len(population.respond)
    return gamma[..., None] if population.eigenvalue is None else gamma[..., None] * population.eigenvalue[:few]


def unevenness_of(population: Population, own: Array, white: Array, node: Array) -> Array:
    """What comes of how the cell's noise is spread over it, `(k, P)`; none where noise is smooth."""
    if len(population.normals) == 1:
        return jnp.zeros(population.apart.shape[1:])
    uneven = own @ at(population.normals[1], node)
    if population.eigenvalue is not None:
        uneven = jnp.sqrt(population.eigenvalue) * uneven
    return uneven if population.white is None else uneven + white * at(population.white[1], node)


def _beside(known: Crossing, gain: Array, grown: Array, resist: Array) -> tuple[Array, Array]:
    """What a kick that had one held back at the start of the cell adds to `S` and to the velocity, `(k, k, Q)`, since the filter takes
    `-g E` for a part of `S` that does not change: what it resists, what the gain and the decay change of it, and what a correction for the
    start adds."""
    turned, velocity, changed, rushed = known.layer
    push = resist * gain[None]
    diagonal = jnp.eye(len(gain))[..., None]
    return gain[:, None] * push * turned + diagonal * (grown * changed + gain * rushed)[:, None], push * velocity


def force_of(penalty: Callable) -> Callable:
    return lambda theta: -jax.grad(penalty)(theta)


def penalty_flow(penalty: Callable) -> Callable:
    """`(theta (k,), v (k,), gain (k,), steps (SUBSTEPS, 14)) -> (theta, v)` after the penalty's flow behind the filter."""
    force = force_of(penalty)

    def step(state: tuple[Array, Array, Array], known: Array) -> tuple[tuple[Array, Array, Array], None]:
        theta, v, gain = state
        kept, then, begun, first, begun_late, first_late, forgot, begun_all = known[:8]
        a = force(theta)
        theta_a = theta + gain * (begun * v + first * a)
        v_a = kept * v + then * a
        b = force(theta_a)
        c = force(theta + gain * (begun * v + first * b))
        d = force(theta_a + gain * (begun_late * v_a + first_late * (2.0 * c - a)))
        through = jnp.stack([a, 0.5 * (b + c), d])
        return (theta + gain * (begun_all * v + known[8:11] @ through), forgot * v + known[11:] @ through, gain), None

    def flow(theta: Array, v: Array, gain: Array, steps: Array) -> tuple[Array, Array]:
        return lax.scan(step, (theta, v, gain), steps)[0][:2]

    return flow


def steps_of(filter: Filter, start: float, end: float) -> np.ndarray:
    """What `penalty_flow` is told of each of its steps, `(SUBSTEPS, 14)`."""
    found = []
    for i in range(SUBSTEPS):
        a, b = (start + (end - start) * j / SUBSTEPS for j in (i, i + 1))
        middle = 0.5 * (a + b)
        early, late, whole = filter.reply(a, middle), filter.reply(middle, b), filter.reply(a, b)
        halves = [early.forgot, early.then[0], early.begun, early.moved[0], late.begun, late.moved[0], whole.forgot, whole.begun]
        found.append([*halves, *(whole.moved @ PARABOLA), *(whole.then @ PARABOLA)])
    return np.array(found)


class FilteredParticles(SampledCoordinates):
    """`SampledCoordinates` behind a filter. `R` is the smooth part of the mean response."""

    def __init__(
        self,
        problem: Problem,
        particles: list[Particles],
        cells: int,
        filter: Filter,
        smooth: bool,
        ends: np.ndarray = NO_ENDS,
        warmth: float = 0.0,
    ):
        self.filter, self.k = filter, problem.k
        self.own = np.zeros((len(particles), problem.k, problem.k))  # root of the noise of the present cell
        self.gamma = self.own
        self.moved = np.zeros((len(particles), cells + 1, problem.k, problem.k))  # what a displacement at zero by its gain has moved
        self.bend = np.zeros((len(particles), cells + 1, problem.k, problem.k))  # g A g at the nodes, see `Filter.lay`
        super().__init__(problem, particles, cells, smooth, ends, warmth)
        apart, response = self.population.apart[:, 0], self.population.response[:, 0]
        still, at_rest = jnp.zeros(apart.shape), jnp.zeros(response.shape)
        self.motion = {0: Motion(still, still, at_rest, at_rest)}  # at the present node and the next one

    def arrival_of(self, penalty: Callable) -> Callable:
        return arrival(penalty)

    def normals(self, node: int) -> np.ndarray:
        """As without a filter, with as many normals more as samples have behind one; none of them is used."""
        normals = super().normals(node)
        return np.concatenate([normals, np.zeros((*normals.shape[:2], (self.R.shape[1] - 1) * self.k))], 2)

    def advance(self, node: int, spacing: float, step: np.ndarray, before: Averages, after: Averages, row: np.ndarray) -> None:
        self.node = node
        self.filter.follow(node, step, before.l_l, after.l_l)
        self._lay(node)
        self.own = psd_factor(0.5 * spacing * (step[0] * before.l_l + step[1] * after.l_l) + spacing * self.white * self.eye)
        self.gamma = 0.5 * (before.h + after.h)
        super().advance(node, spacing, step, before, after, row)

    def _unmet(self, node: int, averages: Averages, left: np.ndarray, begun: int) -> np.ndarray:
        """`(S, m, k, X, k)` for each gain: the rising half of a hat, and instead of what is held back the lines that stand for it."""
        gain = self.filter.each[:, :, : node + 1]  # (S, m, n, k)
        rows = averages.h_chi[:, : node + 1].copy()
        rows[:, node] -= averages.h
        lines = np.einsum("saij,smaj,ac->smicj", rows, gain, self.filter.lines(node, begun), optimize=True)
        unmet = np.zeros((*gain.shape[:2], self.k, *left.shape[1::2]))
        unmet[..., : node + 1, :] = lines + np.swapaxes(left[:, : node + 1], 1, 2)[:, None] * gain[:, :, None]
        return unmet

    def add_noise(self, node: int, row: np.ndarray) -> None:
        self.noise.extend(node, row)
        increment = np.swapaxes(self.noise.factor[:, node], 1, 2)
        white = np.sqrt(self.warmth * self.spacing)
        now, motion, means, self.moved[:, node + 1], self.bend[:, node + 1] = self.arrive(
            self.population,
            self.motion[node],
            self.M[:, node],
            increment,
            self.own,
            white,
            self.gamma,
            *self.pulls,
            self._crossing(node),
            node,
        )
        self.motion = {node: self.motion[node], node + 1: motion}
        self._enter(node + 1, now, means)
        self._lay(node)
        gain, lead, held = self.filter.gain[:, node + 1, :, None] * self.eye, self.filter.lead[:, node + 1], self.filter.held(node + 1)
        later = self.R[:, node + 1, 1] - gain * held[1]
        kick = self.filter.from_start(node + 1, later, self.moved[:, node + 1], gain) + gain * held[0]
        self.R[:, node + 1, 0], self.R[:, node + 1, node + 1] = kick, gain  # of a subset of particles the mean gain is not quite that
        self.R[:, node + 1, : node + 2] += (lead - gain)[:, None] * held[:, None, None]

    def _lay(self, node: int) -> None:
        """The layers at both ends of cell `node`; at time zero with what particles resist a little later."""
        if not node:
            self.bend[:, 0] = self.bend[:, 1]
        for place in (node, node + 1):
            inverse = 1.0 / self.filter.gain[:, place]
            self.filter.lay(place, inverse[:, :, None] * self.bend[:, place] * inverse[:, None])
        if not node:
            self.R[:, 0, 0] = self.filter.lead[:, 0]

    def _crossing(self, node: int) -> Crossing:
        filter, memory = self.filter, self.filter.memory
        start, end = filter.nodes[node], filter.nodes[node + 1]
        middle, z = 0.5 * (start + end), float(filter.clock[node + 1] - filter.clock[node])
        passed, gain = filter.passed(node, self.smooth), filter.each[:, :, node : node + 2]
        fresh = -np.expm1(-z)
        corrected = 0.5 * (filter.correction(node) + filter.correction(node + 1))
        layer = [
            memory * (fresh - z * np.exp(-z)) * corrected,
            z * np.exp(-z) * filter.correction(node + 1),
            memory * fresh,
            filter.rushed(node),
        ]
        held = np.zeros(self.R.shape[1])
        held[1 : node + 1] = filter.held(node)[1:]
        mean = gain.mean(2)
        grown = (gain[:, :, 1] - gain[:, :, 0]) / self.spacing + filter.decay * mean
        return Crossing(
            np.stack([steps_of(filter, start, middle), steps_of(filter, middle, end)]),
            np.array(filter.answer(node)),
            np.array(passed.moved),
            np.array(passed.velocity),
            np.exp(-0.5 * self.spacing * filter.decay),
            np.array(layer),
            held,
            (np.arange(len(held)) <= node).astype(float),
            np.stack([mean, grown, gain[:, :, 1]], 2),
            filter.each[:, :, :2].mean(2),
        )

    def bridge(self, spacing: float, gamma: np.ndarray, rate: np.ndarray) -> np.ndarray:
        of_samples = of_heat = None
        if self.spectrum is not None:  # by how much noise of each eigenvalue moves a pre-activation
            of_heat = self.spectrum.weights * self.spectrum.eigenvalues
            of_samples = of_heat * self.spectrum.eigenvalues
        samples = super().bridge(spacing, gamma, rate) - self.warmth * self.eye
        return samples * self.filter.roughness(self.node, of_samples) + self.warmth * self.eye * self.filter.roughness(self.node, of_heat)

    def kernel(self, nodes: int) -> np.ndarray:
        return self.filter.smooth(super().kernel(nodes), self.moved)

    def layer(self, node: int) -> Layer | None:
        return self.filter.layer(node)._replace(begins=np.zeros(len(self.R)))
