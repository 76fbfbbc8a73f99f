"""A coordinate's law, eq. (2), under a smooth penalty: many coordinates drawn and carried along, and their averages.

Write `theta = M g* + e` with `M = E[theta g*^T]`, so that `e` is uncorrelated with the teacher row `theta* = root(rho) g*`.
Eq. (3) turns the square bracket of eq. (2) into

    J[e](t) + E[l_t g*^T] g*,        J[f](t) = E[H_t chi_t[f]] = Gamma_t f(t) + int_0^t Rl(t,s) f(s) ds

where `chi[f]` is what a sample makes of a trajectory `f` added to its w. Trajectories are linear between nodes: the sample
program is asked for `J` of the hat function of every node, and that is the operator as a matrix. The response of one
particle to a kick of its own follows with the curvature of the penalty along its path,

    d/dt R_p(t,s) = -hess penalty(theta_p) R_p(t,s) - J[R_p(., s)](t),        R = mean over particles

A cell is half the exact flow of the penalty, then pull and noise by the trapezoid rule, then the other half (Strang, weak
order two). `C` is the Gram matrix of the particles, positive semi-definite by construction.

With a spectrum (THEORY section 4) a particle of eigenvalue `lambda` meets the bracket times `lambda` and the noise times its root, and
counts `lambda` times in the averages that a sample sees. White noise on the weights is no noise of the samples there, and has normals of
its own.

Every array has a leading axis of replicates; `N` cells, `N + 1` nodes; inside the program `a` nodes padded to whole
blocks, `x` nodes at which a response starts, `p` particles last.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...checks import root
from ...compiling import jit, on_host
from ...functions import key
from ...learning.problem import Problem
from ...learning.weights import SmoothPenalty
from ..averages import BLOCK, Averages, Layer, feedback, times
from ..gaussian import PIVOT, GrowingFactor
from ..stages import runge_kutta, with_jacobian
from .coordinates import bridge_variance
from .particles import Particles, draw_particles

Array = Any

NO_ENDS = np.zeros(0, int)
SUBSTEPS = 3  # Runge-Kutta steps of the penalty's flow over half a cell: stable up to 17 over the curvature for a cell
# Smooth noise brings ever less that is new in each cell, the less behind a filter. What is below this part of the variance is errors of
# averages that a factor has enlarged, and on fine grids it grew until it was seen.
SMOOTH_PIVOT = 1e-6
# One particle in so many has its response followed: it is what takes memory and time, and varies little between particles.
RESPONSE_SHARE = 4


class Population(NamedTuple):
    """The particles of one replicate."""

    weight: Array  # (P,), in what a sample sees
    gstar: Array  # (k_star, P)
    normals: Array  # (U, N, k, P): behind U in each cell, and where there is a filter behind what it passes on unevenly
    white: Array | None  # likewise, behind white noise with a spectrum
    apart: Array  # (A, k, P): e at the nodes
    respond: Array  # (Q,): weights of those, the first, whose response is followed
    response: Array  # (A, k, X, k, Q) in float32: R_p(t, s), both on nodes
    eigenvalue: Array | None  # (P,), where there is a spectrum
    which: Array | None  # (P,): its number


class Pull(NamedTuple):
    """The square bracket of eq. (2) at a node, on theta `(k, P)` and on the response `(k, X, k, Q)`."""

    theta: Array
    response: Array


class Row(NamedTuple):
    """Particles at one node: e `(k, P)` and the response `(k, X, k, Q)`."""

    apart: Array
    response: Array


class Means(NamedTuple):
    """Averages over particles at one node."""

    M: Array  # (k, k_star)
    R: Array  # (X, k, k)
    C: Array  # (k, A, k): covariance of e there with e at every node


def at(array: Array, i: Array) -> Array:
    return lax.dynamic_index_in_dim(array, i, 0, False)


def pull(population: Population, J: Array, unmet: Array, l_gstar: Array, node: Array) -> Pull:
    """`J (A, k, k)` is the operator at `node` on hats, `unmet (m, k, X, k)` what of it a response does not meet, of each eigenvalue or of
    all alike."""
    few = len(population.respond)
    on_theta = feedback(J, population.apart, node) + times(l_gstar, population.gstar)
    on_response = feedback(J, population.response, node) - of_each(unmet, population.which, few)
    if population.eigenvalue is not None:
        on_theta = population.eigenvalue * on_theta
        on_response = population.eigenvalue[:few] * on_response
    return Pull(on_theta, on_response)


def of_each(of_class: Array, which: Array | None, count: int) -> Array:
    """Of each of the first `count` particles, last, what every eigenvalue has, first; or what all have alike, of any number of them."""
    if which is None or len(of_class) == 1:
        return of_class[0][..., None]
    return jnp.moveaxis(of_class[which[:count]], 0, -1)


def enter(population: Population, row: Row, node: Array) -> Population:
    """Their history with particles at `node`; a program of its own, so that it writes one row and copies nothing."""
    put = lambda history, now: lax.dynamic_update_index_in_dim(history, now.astype(history.dtype), node, 0)
    return population._replace(apart=put(population.apart, row.apart), response=put(population.response, row.response))


def increment_of(population: Population, noise: Array, white: Array, node: Array) -> Array:
    """What all noise of cell `node` adds up to, `(k, P)`."""
    increment = jnp.einsum("cij,cjp->ip", noise, population.normals[0])
    if population.eigenvalue is not None:
        increment = jnp.sqrt(population.eigenvalue) * increment
    return increment if population.white is None else increment + white * at(population.white[0], node)


def average(population: Population, theta: Array, response: Array, node: Array, size: Array | float = 1.0) -> tuple[Row, Means]:
    """Split theta into its part along the teacher and the rest, start the response to a kick at `node`, of a `size (k, Q)` if that is not
    one, and average."""
    weight = population.weight
    M = jnp.einsum("ip,jp->ij", weight * theta, population.gstar)
    apart = theta - times(M, population.gstar)
    kick = jnp.broadcast_to(jnp.eye(len(theta))[..., None] * size, response[:, 0].shape)
    response = lax.dynamic_update_index_in_dim(response, kick, node, 1)
    C = jnp.einsum("ip,ajp->iaj", weight * apart, population.apart)
    C = lax.dynamic_update_index_in_dim(C, jnp.einsum("ip,jp->ij", weight * apart, apart), node, 1)
    return Row(apart, response), Means(M, jnp.moveaxis(response @ population.respond, 0, 1), C)


def penalty_flow(penalty: Callable) -> Callable:
    """`(theta (k,), time) -> (theta after d theta = -grad penalty(theta) dt, its Jacobian)`."""
    descend = lambda theta: -jax.grad(penalty)(theta)

    def flow(theta, time):
        h = time / SUBSTEPS
        return lax.fori_loop(0, SUBSTEPS, lambda _, theta: runge_kutta(descend, theta, h), theta)

    return lambda theta, time: with_jacobian(lambda q: flow(q, time))(theta)


@lru_cache(maxsize=32)
def _hessian(penalty: Callable) -> Callable:
    return jit(jax.vmap(jax.hessian(penalty)))


def penalty_curvature(problem: Problem) -> float:
    """Mean size of the penalty's second derivative over the starting rows."""
    if not isinstance(problem.penalty, SmoothPenalty):
        return problem.ridge
    drawn = draw_particles(problem, 0, 2**10, np.random.SeedSequence(0))
    with jax.enable_x64(True):
        hessian = _hessian(key(problem.penalty.fn))(start_rows(problem, drawn))
    return float(drawn.weight @ np.linalg.norm(np.asarray(hessian), 2, axis=(1, 2)))


def runs_away(problem: Problem) -> bool:
    """Whether the penalty drives a large weight out faster than in proportion to it, as a force `theta^3` does: among Gaussian weights
    some are then at infinity after however short a time, and there is no limit to solve for."""
    if not isinstance(problem.penalty, SmoothPenalty):
        return False
    far, farther = (np.full(problem.k, size) for size in (1e2, 1e4))
    with jax.enable_x64(True):
        gradient = jax.grad(problem.penalty.fn)
        rates = [-float(row @ np.asarray(gradient(row))) / float(row @ row) for row in (far, farther)]
    return rates[1] > 3 * max(rates[0], 0.0)  # a logarithm would double it


def start_rows(problem: Problem, particles: Particles) -> np.ndarray:
    """`theta_0 (..., P, k)` of particles."""
    known = particles.gstar @ (problem.init.overlap @ root(problem.rho)).T
    return known + particles.start @ root(problem.init.cov)


@lru_cache(maxsize=32)
def arrival(penalty: Callable) -> Callable:
    """The compiled way of particles over a cell."""
    flow = jax.vmap(penalty_flow(penalty), in_axes=(-1, None), out_axes=(-1, -1))

    def arrive(
        population: Population, M: Array, noise: Array, white: Array, before: Pull, after: Pull, spacing: Array, node: Array
    ) -> tuple[Row, Means]:
        """Particles from `node`, where `E[theta g*^T] = M`, at the next; `noise (N, k, k)` is U's increment in normals, `white` the size of
        white noise that is none of it."""
        theta, turn = flow(at(population.apart, node) + times(M, population.gstar), 0.5 * spacing)
        increment = increment_of(population, noise, white, node)
        theta, turn_again = flow(theta - 0.5 * spacing * (before.theta + after.theta) + increment, 0.5 * spacing)
        first = lambda jacobian: jacobian[..., : len(population.respond)]
        response = times(first(turn), at(population.response, node)) - 0.5 * spacing * (before.response + after.response)
        return average(population, theta, times(first(turn_again), response), node + 1)

    return jit(jax.vmap(arrive, in_axes=(0, 0, 0, None, 0, 0, None, None)))


# What does not ask for the penalty; every array has a leading axis of replicates.
PULL = jit(jax.vmap(pull, in_axes=(0, 0, 0, 0, None)))
AVERAGE = jit(jax.vmap(average, in_axes=(0, 0, 0, None)))
ENTER = jit(jax.vmap(enter, in_axes=(0, 0, None)), donate_argnums=0)


class SampledCoordinates:
    """Coordinates under a smooth penalty, as particles; rows of nodes are filled as the march goes on.

    Attributes:
        R: mean response `(S, N + 1, N + 1, k, k)`, zero for `s > t`.
        M: `(S, N + 1, k, k_star)`, so that `E[theta_t theta*^T] = M_t root(rho)`.
        noise: factor of the covariance of the noise increment of each cell.
        apart: factor of the covariance of `e` at the nodes.
    """

    def __init__(
        self, problem: Problem, particles: list[Particles], cells: int, smooth: bool, ends: np.ndarray = NO_ENDS, warmth: float = 0.0
    ):
        """`particles` of every replicate, with normals of as many cells as the march will cross; arrays are padded to `cells`. `ends`
        are the nodes at which an epoch ends and the next begins; noise that is `smooth` has no independent increments."""
        assert isinstance(problem.penalty, SmoothPenalty)
        self.arrive = self.arrival_of(problem.penalty.fn)
        k, k_star, replicates = problem.k, problem.k_star, len(particles)
        self.eye, self.ends, self.warmth = np.eye(k), ends, warmth
        self.spectrum = problem.anisotropic
        apart = self.spectrum is not None and warmth > 0.0  # white noise has normals of its own
        self.white = 0.0 if apart else warmth
        self.pulls: tuple[Pull, ...] = ()  # at both ends of the present cell,
        self.spacing = 0.0  # and its length
        self.R = np.zeros((replicates, cells + 1, cells + 1, k, k))
        self.M = np.zeros((replicates, cells + 1, k, k_star))
        self.smooth, pivot = smooth, SMOOTH_PIVOT if smooth else PIVOT
        self.noise = GrowingFactor(replicates, cells, k, pivot)
        self.apart = GrowingFactor(replicates, cells + 1, k, pivot)
        graded = particles[0].eigenvalue is not None
        stacked = Particles(*(np.stack(parts) if parts[0] is not None else None for parts in zip(*particles, strict=True)))  # pyright: ignore
        size, crossed = stacked.cells.shape[1:3]
        weight = stacked.weight * stacked.eigenvalue if graded else stacked.weight
        respond = weight[:, : size // RESPONSE_SHARE]
        self.padded = -(-(cells + 1) // BLOCK) * BLOCK
        blocks = stacked.cells.shape[-1] // k
        filled = np.zeros((replicates, blocks, cells, k, size))
        filled[:, :, :crossed] = np.moveaxis(stacked.cells.reshape(replicates, size, crossed, blocks, k), (1, 3), (4, 1))
        self.population = Population(
            jnp.asarray(weight),
            jnp.asarray(np.swapaxes(stacked.gstar, 1, 2)),
            jnp.asarray(filled[:, :: 2 if apart else 1]),
            jnp.asarray(filled[:, 1::2]) if apart else None,
            jnp.zeros((replicates, self.padded, k, size)),
            jnp.asarray(respond / respond.sum(1, keepdims=True)),
            jnp.zeros((replicates, self.padded, k, cells + 1, k, respond.shape[1]), jnp.float32),
            jnp.asarray(stacked.eigenvalue) if graded else None,
            jnp.asarray(stacked.which) if graded else None,
        )
        no_response = jnp.zeros((replicates, k, cells + 1, k, respond.shape[1]))
        self._enter(0, *AVERAGE(self.population, np.swapaxes(start_rows(problem, stacked), 1, 2), no_response, 0))

    def arrival_of(self, penalty: Callable) -> Callable:
        return arrival(penalty)

    def _enter(self, node: int, row: Row, means: Means) -> None:
        self.population = ENTER(self.population, row, node)
        self.M[:, node], self.R[:, node], C = on_host(means)
        self.apart.extend(node, C[:, :, : node + 1])

    def normals(self, node: int) -> np.ndarray:
        """theta at a node in independent standard normals `(g*, what is new at each node)`: `(S, k, k_star + k + N k)`."""
        replicates, k = self.R.shape[0], self.R.shape[-1]
        return np.concatenate([self.M[:, node], self.apart.factor[:, node].reshape(replicates, k, -1)], 2)

    def advance(self, node: int, spacing: float, step: np.ndarray, before: Averages, after: Averages, row: np.ndarray) -> None:
        """Particles at the end of cell `node` by the pull over it from the averages at both ends (the first end's twice: Euler) and the
        noise's `row` as in `add_noise`."""
        begun = int(max(self.ends[self.ends <= node], default=0))
        first = self._pull(node, before, begun) if after is before else self.pulls[0]
        self.pulls = first, first if after is before else self._pull(node + 1, after, begun)
        self.spacing = spacing
        self.add_noise(node, row)

    def _pull(self, node: int, averages: Averages, begun: int) -> Pull:
        """A response that starts at a node does not see the rising half of its hat. That half holds half of the hat's integral
        up to second order; at time zero there is none, and at the present node it is all but Gamma. An epoch that has `begun` at
        a node has no memory of itself: the falling half of that node's hat holds nothing."""
        J = averages.h_chi
        left = 0.5 * J
        left[:, begun] = J[:, begun]
        left[:, 0] = 0.0
        left[:, node] = J[:, node] - averages.h if node else 0.0
        rows = np.zeros((len(J), self.padded, *J.shape[2:]))
        rows[:, : J.shape[1]] = J
        return PULL(self.population, rows, self._unmet(node, averages, left, begun), averages.l_gstar, node)

    def _unmet(self, node: int, averages: Averages, left: np.ndarray, begun: int) -> np.ndarray:
        """What of the bracket `R(., s)` does not meet, `(S, m, k, X, k)`, with what `left` it would from what hats there are."""
        return np.swapaxes(left, 1, 2)[:, None]

    def add_noise(self, node: int, row: np.ndarray) -> None:
        """Particles at the end of cell `node`, whose noise increment has the covariances `row (S, k, node + 1, k)`."""
        self.noise.extend(node, row)
        increment = np.swapaxes(self.noise.factor[:, node], 1, 2)
        white = np.sqrt(self.warmth * self.spacing)
        self._enter(node + 1, *self.arrive(self.population, self.M[:, node], increment, white, *self.pulls, self.spacing, node))

    def directions(self) -> np.ndarray:
        """The hats at time zero, `(S, k, X, k)`: a unit of direction `x` moves `w` by the hat of node `x`."""
        return self._hat(0)

    def forget(self, node: int) -> int:
        """The earliest node whose kicks still act at `node`: none is forgotten, since hats tell more than the mean response."""
        return 0

    def forcing(self, node: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How the hats move `w` at the start and end of cell `node`, and at the next node itself."""
        return self._hat(node), self._hat(node + 1), self._hat(node + 1)

    def bridge(self, spacing: float, gamma: np.ndarray, rate: np.ndarray) -> np.ndarray:
        """As `RidgeCoordinates.bridge`."""
        return rate * bridge_variance(self.spectrum, spacing, gamma) + self.warmth * self.eye

    def gap(self, node: int) -> np.ndarray:
        """None: particles have one estimate of their second moments."""
        return np.zeros((len(self.R), *self.eye.shape))

    def kernel(self, nodes: int) -> np.ndarray:
        return self.R[:, :nodes, :nodes]

    def layer(self, node: int) -> Layer | None:
        return None

    def _hat(self, node: int) -> np.ndarray:
        replicates, nodes, k = self.R.shape[0], self.R.shape[1], self.R.shape[-1]
        hat = np.zeros((replicates, k, nodes, k))
        hat[:, :, node] = self.eye
        return hat
