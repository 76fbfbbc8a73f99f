"""Diffusions whose velocity or gain has a memory: the SME with an optimiser, the flow with a temperature (OPTIMISERS sections 1 to 5).

    dF = -h dt - sum_i x_i (l_i dt / delta + sqrt(eta / delta) l_i dB_i) + sqrt(2 T) dB
    dV = (dF - V dt) / tau        dTheta = g V dt - w Theta dt

The force depends on the weights alone, which stay where they are while it kicks the velocity; between kicks the velocity decays and moves
them, exactly. Half of the motion before a kick and half after is of weak order 2. `tau = 0` is Euler-Maruyama, and needs short steps.
Numbers that are trained along have a force without noise, and a motion of their own.
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
from .along import along_of, start_of, telling
from .averaging import History
from .beside import Streams, normals, of_all
from .data import Data, penalty_gradient, smooth_penalty
from .optimisers import PLAIN, Extras, numbers_of
from .sme import MAX_REFINEMENT, rates

# Steps times the fastest rate, with a velocity and without one. Against steps of a fourth, on the data of 16 runs at d = 600, no curve
# differs by more than two standard errors of its difference, 0.2 to 1% of its scale.
ACCURACY, CRUDE = 0.1, 0.015
ROWS = 16  # rows per piece: read from memory once, used twice (X theta, then X^T l)


class Motion(NamedTuple):
    """Weights, impulse `tau V` and squared gradient, both summed with weights that forget, and the sums of these weights; `along` the same
    of numbers `(p,)` that are trained along."""

    theta: Any
    impulse: Any
    square: Any
    first: Any
    second: Any
    along: Motion | None = None

    @property
    def numbers(self) -> Any:
        """`a (p,)`, or None."""
        return None if self.along is None else self.along.theta


class DiffusionPath:
    """Steps divide the gaps between output times evenly and follow the curvature of the loss."""

    fresh, beside = False, True

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
        self.numbers, self.step = numbers_of(dynamics, extras), extras.step
        self.gains = dynamics.optimizer is not None and dynamics.optimizer.gains
        self.diagnostics: dict[str, float] = {"steps": 0}

    def run(self, data: Data, rng: Streams) -> Iterator[tuple[float, np.ndarray, list[int]]]:
        """Yield `(time, History.shown(), which output times this is)` after every step."""
        here, steps, slowest = 0.0, 0, None
        motion = _at_rest(data, start_of(self.problem, data.start.shape[:-2]))
        history = History(self.average, motion.theta, motion.numbers)
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
                history.add(h, motion.theta, motion.numbers)
                steps += 1
                if j < count - 1:
                    yield here + (j + 1) * h, history.shown(), []
            self.diagnostics["steps"] = max(self.diagnostics["steps"], steps)
            here = float(end)
            yield here, history.shown(), [output]

    def _step(self, motion: Motion, data: Data, middle: float, h: float, rng: Streams) -> Motion:
        eta = float(step_at(self.dynamics, np.array(middle)))
        runs = motion.theta.shape[:-2]
        kicks = normals(rng, self.n) if eta else np.zeros((*runs, self.n))
        own = normals(rng, motion.theta.shape[-2:]) if self.numbers.temperature else np.zeros((*runs, 1, 1))
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
            along_of(self.problem),
            gradient=Static(self.problem.slopes.gradient),
            smooth=smooth_penalty(self.problem),
            gains=self.gains,
        )

    def _fastest(self, motion: Motion, data: Data, t: float) -> float:
        """The fastest rate of the weights' motion: their own, or of the oscillations that a velocity makes of it."""
        loss, noise, penalty = rates(self.problem, self.dynamics, motion.theta, motion.numbers, data, t)
        rate = loss + penalty + (0.0 if self.numbers.memory else noise)
        if self.gains:
            seen = float(np.ravel(motion.second)[0])  # as much in every run
            size = np.sqrt(float(motion.square.mean(-1).min()) / seen) if seen else 1.0
            rate /= max(size + self.numbers.eps, 1e-3)
        return min(rate, np.sqrt(rate / self.numbers.memory)) if self.numbers.memory else rate

    def _length(self, fastest: float) -> float:
        """Of a step: it resolves the memory, down to where this is too short to matter."""
        length = CRUDE / fastest
        if self.numbers.memory or self._heun:
            length = min(ACCURACY / fastest, max(0.5 * self.numbers.memory, (ACCURACY if self._heun else CRUDE) / fastest))
        return self.step * length

    @property
    def _heun(self) -> bool:
        return not self.gains and not self.numbers.memory


def _at_rest(data: Data, a: Any) -> Motion:
    theta = jnp.asarray(data.start)
    square, runs = jnp.zeros_like(theta[..., :1] if data.eigenvalues is None else theta), theta.shape[:-2]
    still = lambda theta, square: Motion(theta, jnp.zeros_like(theta), square, jnp.zeros(runs), jnp.zeros(runs))
    return still(theta, square)._replace(along=None if a is None else still(a, jnp.zeros_like(a)))


@partial(jit, static_argnames=("gradient", "smooth", "gains"))
def _move(motion, numbers, rows, labels, kicks, own, *given, **functions):
    axes = (0, None, 0, 0, 0, 0) + (None,) * len(given)
    return of_all(rows, partial(_moved, **functions), axes)(motion, numbers, rows, labels, kicks, own, *given)


def _moved(motion, numbers, rows, labels, kicks, own, eigenvalues, h, eta, weight, ridge, along, *, gradient, smooth, gains):
    """One step. `kicks (n,)` and `own (k, d)` are standard normal, `weight` is `1 / delta`."""
    noise = jnp.sqrt(2.0 * numbers.temperature * h) * own

    def force(theta, a):
        """Of weights and of `a`, over the step, and the squared gradients that gains are made of."""
        pull, squared, other = _pull(theta, a, rows, labels, weight * h + jnp.sqrt(eta * weight * h) * kicks, gradient, along)
        kick = noise - pull - h * penalty_gradient(theta, ridge, smooth)
        if along is None or other is None:
            return (kick, None), (squared, None)
        mean, square = other
        whole = mean + along.penalty(a)
        return (kick, -h * whole), (squared, square - mean**2 + along.batch * whole**2)

    if not gains:
        return _plain(motion, numbers, force, h, along)
    # Before the first kick there is no velocity; the motion of the whole step is what the kick makes of it.
    early = jnp.where(motion.first > 0, 0.5 * h, 0.0)
    motion = _drift(motion, numbers, early, along)
    (kick, other), (squared, other_squared) = force(motion.theta, motion.numbers)
    heat = jnp.where(eta > 0, 2.0 * numbers.temperature / jnp.where(eta > 0, eta, 1.0), 0.0)  # what noise adds to the squared gradient
    faded = jnp.where(numbers.second_memory > 0, jnp.exp(-h / jnp.where(numbers.second_memory > 0, numbers.second_memory, 1.0)), 0.0)
    kicked = lambda motion, kick, squared: motion._replace(
        impulse=motion.impulse + kick,
        first=motion.first + h,
        square=faded * motion.square + h * squared,
        second=faded * motion.second + h,
    )
    after = None if along is None else kicked(motion.along, other, other_squared)
    motion = kicked(motion, kick, squared[:, None] * eigenvalues + heat)._replace(along=after)
    return _drift(motion, numbers, h - early, along)


def _plain(motion, numbers, force, h, along):
    """With a velocity half of its motion, a kick and the other half. Without one Heun's method: the noise is that of the weights alone."""
    motion = _glide(motion, _left(0.5 * h, numbers.memory))

    def pushed(theta, a):
        kick, other = force(theta, a)[0]
        return kick, None if along is None else along.rate * other

    here = motion.theta, motion.numbers
    kicks = pushed(*here)
    heun = lambda: jax.tree.map(lambda kick, there: 0.5 * (kick + there), kicks, pushed(*jax.tree.map(jnp.add, here, kicks)))
    kick, other = jax.lax.cond(numbers.memory > 0, lambda: kicks, heun)
    after = None if along is None else motion.along._replace(impulse=motion.along.impulse + other)
    return _glide(motion._replace(impulse=motion.impulse + kick, along=after), _left(0.5 * h, numbers.memory))


def _glide(motion, left):
    """What is not `left` of the impulse moves the weights."""
    along = None if motion.along is None else _glide(motion.along, left)
    return motion._replace(theta=motion.theta + (1.0 - left) * motion.impulse, impulse=left * motion.impulse, along=along)


def _drift(motion, numbers, length, along):
    """The weights move by the velocity corrected for its start, which is constant while nothing kicks it, and decay; what is trained along
    does the same for `rate` as long."""
    moved = _drifted(motion, numbers, length, length)
    return moved if along is None else moved._replace(along=_drifted(motion.along, numbers, length, along.rate * length))


def _drifted(motion, numbers, length, lasting):
    """Of one of the two: the velocity fades over a `length` of time, and moves it for so long."""
    size = jnp.sqrt(motion.square / jnp.where(motion.second > 0, motion.second, 1.0)) + numbers.eps
    moving = (size > 0) & (motion.first > 0)
    speed = jnp.where(moving, motion.impulse / jnp.where(motion.first > 0, motion.first, 1.0) / jnp.where(size > 0, size, 1.0), 0.0)
    decay = numbers.decay * lasting
    way = jnp.where(decay > 0, -jnp.expm1(-decay) / jnp.where(decay > 0, numbers.decay, 1.0), lasting)
    left = _left(length, numbers.memory)
    return motion._replace(theta=jnp.exp(-decay) * motion.theta + way * speed, impulse=left * motion.impulse, first=left * motion.first)


def _left(length, memory):
    """What is left of a velocity."""
    return jnp.where(memory > 0, jnp.exp(-length / jnp.where(memory > 0, memory, 1.0)), jnp.where(length > 0, 0.0, 1.0))


def _pull(theta, a, rows, labels, amounts, gradient, along):
    """`sum_i amounts_i x_i l_i (k, d)` and the mean of `l_i^2 (k,)`; products in float32, as the rows, sums over pieces in float64. Of what
    is trained along the mean gradient and the mean of its square, `(p,)` each."""
    n, single = len(rows), theta.astype(rows.dtype)

    def one(x, y, amount):
        r = (x @ single.T).astype(theta.dtype)
        push = jax.vmap(telling(gradient, a))(r, y)
        sums = ((amount[:, None] * push).astype(rows.dtype).T @ x).astype(theta.dtype), (push**2).sum(0).astype(theta.dtype)
        if along is None:
            return sums
        slope = jax.vmap(telling(along.slope, a))(r, y)
        return *sums, slope.sum(0), (slope**2).sum(0)

    def add(j, total):
        cut = lambda part: jax.lax.dynamic_slice_in_dim(part, j * ROWS, ROWS)
        return jax.tree.map(jnp.add, total, one(cut(rows), jax.tree.map(cut, labels), cut(amounts)))

    start = (jnp.zeros_like(theta), jnp.zeros(len(theta), theta.dtype)) + (() if along is None else (jnp.zeros_like(a),) * 2)
    total = jax.lax.fori_loop(0, n // ROWS, add, start)
    if n % ROWS:
        rest = n // ROWS * ROWS
        total = jax.tree.map(jnp.add, total, one(rows[rest:], jax.tree.map(lambda y: y[rest:], labels), amounts[rest:]))
    return total[0], total[1] / n, None if along is None else (total[2] / n, total[3] / n)
