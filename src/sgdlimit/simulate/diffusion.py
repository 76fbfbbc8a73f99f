"""Diffusions whose velocity or gain has a memory: the SME with an optimiser, the flow with a temperature (OPTIMISERS sections 1 to 5).

    dF = -h dt - sum_i x_i (l_i dt / delta + sqrt(eta / delta) l_i dB_i) + sqrt(2 T) dB
    dV = (dF - V dt) / tau        dTheta = g V dt - w Theta dt

The force depends on the weights alone, which stay where they are while it kicks the velocity; between kicks the velocity decays and moves
them, exactly. Half of the motion before a kick and half after is of weak order 2. `tau = 0` is Euler-Maruyama, and needs short steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..compiling import jit
from ..functions import Static
from ..learning.dynamics import SME, GradientFlow, step_at
from ..learning.problem import Problem
from .averaging import History
from .data import Data, penalty_gradient, smooth_penalty
from .optimisers import PLAIN, Extras, numbers_of
from .sme import MAX_REFINEMENT, rates

# Steps times the fastest rate, with a velocity and without one. Against steps of a fourth, on the data of 16 runs at d = 600, no curve
# differs by more than two standard errors of its difference, 0.2 to 1% of its scale.
ACCURACY, CRUDE = 0.1, 0.015
ROWS = 16  # rows per piece: read from memory once, used twice (X theta, then X^T l)


class Motion(NamedTuple):
    """Weights, impulse `tau V` and squared gradient, both summed with weights that forget, and the sums of these weights."""

    theta: Any
    impulse: Any
    square: Any
    first: Any
    second: Any


class DiffusionPath:
    """Steps divide the gaps between output times evenly and follow the curvature of the loss."""

    fresh = False

    def __init__(
        self,
        problem: Problem,
        dynamics: SME | GradientFlow,
        n: int,
        d: int,
        batch_size: int,
        design: str,
        times: np.ndarray,
        extras: Extras = PLAIN,
    ):
        self.problem, self.dynamics, self.n, self.times, self.average = problem, dynamics, n, times, extras.average
        self.numbers = numbers_of(dynamics, extras)
        self.gains = dynamics.optimizer is not None and dynamics.optimizer.gains
        self.diagnostics: dict[str, float] = {"steps": 0}

    def run(self, data: Data, rng: np.random.Generator) -> Iterator[tuple[float, np.ndarray, list[int]]]:
        """Yield `(time, weights (k, d), which output times this is)` after every step."""
        theta, here, steps, slowest = jnp.asarray(data.start), 0.0, 0, None
        square = jnp.zeros((theta.shape[0], 1 if data.eigenvalues is None else theta.shape[1]))
        motion, history = Motion(theta, jnp.zeros_like(theta), square, jnp.zeros(()), jnp.zeros(())), History(self.average, theta)
        for output, end in enumerate(self.times):
            fastest = self._fastest(motion, data, here)
            slowest = slowest or fastest
            fastest = min(fastest, MAX_REFINEMENT * slowest) if np.isfinite(fastest) else slowest
            count = int(np.ceil((end - here) / self._length(max(fastest, 1e-6))))
            h = float(end - here) / max(count, 1)
            if count:
                self.diagnostics["internal_step"] = min(self.diagnostics.get("internal_step", h), h)
            for j in range(count):
                motion = self._step(motion, data, here + (j + 0.5) * h, h, rng)
                history.add(motion.theta, h)
                steps += 1
                if j < count - 1:
                    yield here + (j + 1) * h, history.shown(), []
            self.diagnostics["steps"] = max(self.diagnostics["steps"], steps)
            here = float(end)
            yield here, history.shown(), [output]

    def _step(self, motion: Motion, data: Data, middle: float, h: float, rng: np.random.Generator) -> Motion:
        eta = float(step_at(self.dynamics, np.array(middle)))
        kicks = rng.standard_normal(self.n) if eta else np.zeros(self.n)
        own = rng.standard_normal(motion.theta.shape) if self.numbers.temperature else np.zeros((1, 1))
        return _move(
            motion,
            self.numbers,
            data.rows,
            data.labels,
            jnp.asarray(kicks),
            jnp.asarray(own),
            jnp.ones(1) if data.eigenvalues is None else jnp.asarray(data.eigenvalues),
            h,
            eta,
            1 / self.problem.sample_ratio,
            self.problem.ridge,
            gradient=Static(self.problem.slopes.gradient),
            smooth=smooth_penalty(self.problem),
            gains=self.gains,
        )

    def _fastest(self, motion: Motion, data: Data, t: float) -> float:
        """The fastest rate of the weights' motion: their own, or of the oscillations that a velocity makes of it."""
        loss, noise, penalty = rates(self.problem, self.dynamics, motion.theta, data, t)
        rate = loss + penalty + (0.0 if self.numbers.memory else noise)
        if self.gains:
            seen = float(motion.second)
            size = np.sqrt(float(motion.square.mean(1).min()) / seen) if seen else 1.0
            rate /= max(size + self.numbers.eps, 1e-3)
        return min(rate, np.sqrt(rate / self.numbers.memory)) if self.numbers.memory else rate

    def _length(self, fastest: float) -> float:
        """Of a step: it resolves the memory, down to where this is too short to matter."""
        if self.numbers.memory or self._heun:
            return min(ACCURACY / fastest, max(0.5 * self.numbers.memory, (ACCURACY if self._heun else CRUDE) / fastest))
        return CRUDE / fastest

    @property
    def _heun(self) -> bool:
        return not self.gains and not self.numbers.memory


@partial(jit, static_argnames=("gradient", "smooth", "gains"))
def _move(motion, numbers, rows, labels, kicks, own, eigenvalues, h, eta, weight, ridge, *, gradient, smooth, gains):
    """One step. `kicks (n,)` and `own (k, d)` are standard normal, `weight` is `1 / delta`."""
    noise = jnp.sqrt(2.0 * numbers.temperature * h) * own

    def force(theta):
        pull, squared = _pull(theta, rows, labels, weight * h + jnp.sqrt(eta * weight * h) * kicks, gradient)
        return noise - pull - h * penalty_gradient(theta, ridge, smooth), squared

    if not gains:
        return _plain(motion, numbers, force, h)
    # Before the first kick there is no velocity; the motion of the whole step is what the kick makes of it.
    early = jnp.where(motion.first > 0, 0.5 * h, 0.0)
    motion = _drift(motion, numbers, early)
    kick, squared = force(motion.theta)
    heat = jnp.where(eta > 0, 2.0 * numbers.temperature / jnp.where(eta > 0, eta, 1.0), 0.0)  # what noise adds to the squared gradient
    faded = jnp.where(numbers.second_memory > 0, jnp.exp(-h / jnp.where(numbers.second_memory > 0, numbers.second_memory, 1.0)), 0.0)
    motion = motion._replace(
        impulse=motion.impulse + kick,
        first=motion.first + h,
        square=faded * motion.square + h * (squared[:, None] * eigenvalues + heat),
        second=faded * motion.second + h,
    )
    return _drift(motion, numbers, h - early)


def _plain(motion, numbers, force, h):
    """With a velocity half of its motion, a kick and the other half. Without one Heun's method: the noise is that of the weights alone."""
    left = _left(0.5 * h, numbers.memory)
    theta, impulse = motion.theta + (1.0 - left) * motion.impulse, left * motion.impulse
    kick = force(theta)[0]
    again = jax.lax.cond(numbers.memory > 0, lambda: kick, lambda: 0.5 * (kick + force(theta + kick)[0]))
    impulse += again
    return motion._replace(theta=theta + (1.0 - left) * impulse, impulse=left * impulse)


def _drift(motion, numbers, length):
    """The weights move by the velocity corrected for its start, which is constant while nothing kicks it, and decay."""
    size = jnp.sqrt(motion.square / jnp.where(motion.second > 0, motion.second, 1.0)) + numbers.eps
    moving = (size > 0) & (motion.first > 0)
    speed = jnp.where(moving, motion.impulse / jnp.where(motion.first > 0, motion.first, 1.0) / jnp.where(size > 0, size, 1.0), 0.0)
    decay = numbers.decay * length
    lasting = jnp.where(decay > 0, -jnp.expm1(-decay) / jnp.where(decay > 0, numbers.decay, 1.0), length)
    left = _left(length, numbers.memory)
    return motion._replace(theta=jnp.exp(-decay) * motion.theta + lasting * speed, impulse=left * motion.impulse, first=left * motion.first)


def _left(length, memory):
    """What is left of a velocity."""
    return jnp.where(memory > 0, jnp.exp(-length / jnp.where(memory > 0, memory, 1.0)), jnp.where(length > 0, 0.0, 1.0))


def _pull(theta, rows, labels, amounts, gradient):
    """`sum_i amounts_i x_i l_i (k, d)` and the mean of `l_i^2 (k,)`; products in float32, as the rows, sums over pieces in float64."""
    n, single = len(rows), theta.astype(rows.dtype)

    def one(x, y, amount):
        push = jax.vmap(gradient)((x @ single.T).astype(theta.dtype), y)
        return ((amount[:, None] * push).astype(rows.dtype).T @ x).astype(theta.dtype), (push**2).sum(0).astype(theta.dtype)

    def add(j, total):
        cut = lambda a: jax.lax.dynamic_slice_in_dim(a, j * ROWS, ROWS)
        return jax.tree.map(jnp.add, total, one(cut(rows), jax.tree.map(cut, labels), cut(amounts)))

    total = jax.lax.fori_loop(0, n // ROWS, add, (jnp.zeros_like(theta), jnp.zeros(len(theta), theta.dtype)))
    if n % ROWS:
        rest = n // ROWS * ROWS
        total = jax.tree.map(jnp.add, total, one(rows[rest:], jax.tree.map(lambda y: y[rest:], labels), amounts[rest:]))
    return total[0], total[1] / n
