"""One pass through an optimiser: the equations of `online` with a velocity and a gain (OPTIMISERS sections 1 to 3; beyond the paper).

With `y = tau V` a weight of eigenvalue `lambda` and its velocity follow

    dy     = -y/tau dt - (lam + lambda Gamma) theta dt - lambda Rs theta* dt + dU,          E[dU dU^T] = (lambda eta E[l l^T] + 2 T) dt
    dtheta = gain y/D dt - w theta dt,                                                D = tau, for Adam tau (1 - e^{-t/tau})

which is linear, so that with `theta = B theta* + ...`, `y = Y theta* + ...` and `E1 = (lam + lambda Gamma) C + lambda Rs rho_lambda B^T`,
`E2 = (lam + lambda Gamma) P^T + lambda Rs rho_lambda Y^T` the moments `C = E[theta theta^T]`, `P = E[y theta^T]`, `Q = E[y y^T]` close:

    dB/dt = gain Y/D - w B              dC/dt = gain P/D + transpose - 2 w C
    dY/dt = -Y/tau - (lam + lambda Gamma) B - lambda Rs
    dP/dt = -(1/tau + w) P + Q gain/D - E1
    dQ/dt = -2 Q/tau - E2 - E2^T + lambda eta E[l l^T] + 2 T

There is no Ito term in C; as `tau -> 0` it comes from `Q -> tau (lambda eta E[l l^T] + 2 T)/2`. Adam's gain of row `a` is
`1/(sqrt(A_a) + eps)`, `A_a = N_a/D_2`, `dN_a/dt = lambda E[l_a^2] + 2 T/eta - N_a/tau_2`, `D_2 = tau_2 (1 - e^{-t/tau_2})`: the square of
all of the force that is noise. A kick right at the start, which is then all that Adam knows of its velocity, moves weights like a
logarithm of how early it is: the response to time zero is large, and has no limit.

Numbers `a (p,)` trained along have a velocity and a gain of their own, without noise, of the force `F` of `along`:

    dy_a = -y_a/tau dt + F dt                          da = rate (gain_a y_a/D - w a) dt
    dN_a/dt = Var(grad_a L) + batch_size F^2 - N_a/tau_2

The mean counts beside the noise here, since it does not vanish beside it; `eps` is added to the root of the same `A_a`. The decay is the
learning rate's times the script's, so it lasts `rate` times that of the weights, and a rate of zero holds a number fixed.

*Time.* A memory may be short against all else, but then only relaxation is fast, and what it relaxes to is smooth. So a step is
Radau's collocation (order 5, stiffly accurate), solved exactly for relaxation, which is triangular and acts on numbers, while averages
over samples at its three points are found by iteration, from the polynomial of the step before. Two rounds of averages are six
evaluations a step, whatever the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...compiling import jit
from ...learning.dynamics import OnlineSGD
from ...learning.problem import Problem
from ...learning.slopes import Slopes
from .along import Told, force, told_of, within
from .fresh import averages_at

Array = Any

S6 = np.sqrt(6.0)
POINTS = np.array([(4 - S6) / 10, (4 + S6) / 10, 1.0])  # of Radau IIA (Hairer and Wanner, Solving ODEs II, IV.5)
MATRIX = np.array(
    [
        [(88 - 7 * S6) / 360, (296 - 169 * S6) / 1800, (-2 + 3 * S6) / 225],
        [(296 + 169 * S6) / 1800, (88 + 7 * S6) / 360, (-2 - 3 * S6) / 225],
        [(16 - S6) / 36, (16 + S6) / 36, 1 / 9],
    ]
)
PARTS = (0.0, 1 / 64, 1 / 16, 1 / 4, 1.0)  # of a step, for a response
ROUNDS, SWEEPS = 2, 4  # rounds of averages, and of the linear part for each
EMBEDDED = 0.05  # weight of the slope at a step's start in the formula of order 3 that tells its error
GROW, SHRINK, SAFETY, ORDER = 4.0, 0.1, 0.8, 4.0
FIRST = 1e-3  # first step tried, of the horizon
MAX_STEPS = 2**14  # between two output times
SHORTEST = 1e-12  # of the horizon: a memory, a step
BEGUN = 1e-10  # of the horizon: where Adam's corrections, zero over zero at the start, are begun by their series


class Numbers(NamedTuple):
    """What a compiled program is told of an optimiser, the noise, the penalty and what is trained along."""

    memory: float
    second_memory: float
    decay: float
    eps: float
    temperature: float
    ridge: float
    trained: Told | None


class Along(NamedTuple):
    """What is trained along, `(S, p)` each: itself, its `y` and its N."""

    a: Array
    y: Array
    squared: Array


class State(NamedTuple):
    """At one time; leading axes of scramblings and eigenvalues."""

    B: Array
    Y: Array
    C: Array
    P: Array
    Q: Array
    squared: Array  # N (S, m, k)
    along: Any  # an Along, or None


class Driven(NamedTuple):
    """Averages of fresh samples as the moments meet them, with axes of scramblings and eigenvalues (one)."""

    gamma: Array  # (S, 1, k, k)
    outside: Array  # (S, 1, k, k_star): Rs
    l_l: Array  # (S, 1, k, k)
    pull: Any  # (S, p) each, or None: mean and mean square of the gradient in what is trained along


def numbers_of(dynamics: OnlineSGD, problem: Problem, horizon: float) -> Numbers:
    optimizer, least = dynamics.optimizer, SHORTEST * horizon
    assert optimizer is not None
    second, decay, eps = (float(getattr(optimizer, name, 0.0)) for name in ("second_memory", "decay", "eps"))
    memories = max(optimizer.memory, least), max(second, least)
    return Numbers(*memories, decay, eps, dynamics.temperature, problem.ridge, told_of(problem.trained))


def _swap(x: Array) -> Array:
    return jnp.swapaxes(x, -1, -2)


def _through(at: Any) -> Any:
    """Weights `(len(at), 3)` of the points of a step in the polynomial through them, at times `at` in units of the step."""
    a, b, c = POINTS
    weight = lambda one, two, own: (at - one) * (at - two) / ((own - one) * (own - two))
    return jnp.stack([weight(b, c, a), weight(a, c, b), weight(a, b, c)], -1)


def _relaxed(h: Array, rate: Array, start: Array, push: Array) -> Array:
    """`x' = -rate x + push` at the points of a step of length `h`, from `push` there."""
    inverse = jnp.linalg.inv(jnp.eye(3) + h * rate * MATRIX)
    return jnp.tensordot(inverse.sum(1), start, 0) + jnp.tensordot(h * inverse @ MATRIX, push, 1)


def _decayed(t: Array, memory: Array) -> Array:
    """`memory (1 - e^{-t/memory})`, `t` where it is infinite."""
    return jnp.where(jnp.isinf(memory), t, -jnp.where(jnp.isinf(memory), 1.0, memory) * jnp.expm1(-t / memory))


class _Equations:
    """The moments' equations; `gains` says whether the optimiser is an Adam, `penalty` is of what is trained along."""

    def __init__(self, gains: bool, numbers: Numbers, classes: Any, penalty: Callable | None):
        self.gains, self.numbers, self.classes, self.penalty = gains, numbers, classes, penalty

    def gain(self, t: Array, squared: Array) -> Array:
        """`gain/D` at `t (...)`, of `squared (..., S, m, k)`: `(..., S, m, k, 1)`."""
        return self.gain_of(t, squared[..., None])

    def gain_of(self, t: Array, squared: Array) -> Array:
        """The same for each of `squared (..., *)`, where `t` is `(...)`."""
        if not self.gains:
            return jnp.full(squared.shape, 1.0 / self.numbers.memory)
        t = t[(..., *[None] * (squared.ndim - t.ndim))]
        size = jnp.maximum(squared / _decayed(t, self.numbers.second_memory), 0.0)
        root = jnp.sqrt(size) + self.numbers.eps
        return jnp.where(root > 0, 1.0 / jnp.where(root > 0, root, 1.0), 0.0) / _decayed(t, self.numbers.memory)

    def forces(self, at: State, driven: Driven, eta: Array) -> tuple[Array, Array, Array, Array]:
        """What drives `Y`, `Q`, `P` and `squared` besides their relaxation."""
        eigenvalues, _, moments, _ = self.classes
        pull, outside, k = self.pull(driven.gamma), eigenvalues * driven.outside, at.C.shape[-1]
        first = pull @ at.C + (outside @ moments) @ _swap(at.B)
        second = pull @ _swap(at.P) + (outside @ moments) @ _swap(at.Y)
        noise = eigenvalues * eta * driven.l_l + 2.0 * self.numbers.temperature * jnp.eye(k)
        square = jnp.diagonal(noise / eta, axis1=-2, axis2=-1)  # what a step adds to the noise, over its length
        return -pull @ at.B - outside, noise - second - _swap(second), -first, square

    def pull(self, gamma: Array) -> Array:
        """`lam + lambda Gamma`."""
        return self.numbers.ridge * jnp.eye(gamma.shape[-1]) + self.classes.eigenvalues * gamma

    def slopes(self, at: State, gain: Array) -> tuple[Array, Array]:
        """Of B and C."""
        pushed = gain * at.P
        return gain * at.Y - self.numbers.decay * at.B, pushed + _swap(pushed) - 2.0 * self.numbers.decay * at.C

    def forced(self, a: Array, pull: tuple[Array, Array]) -> tuple[Array, Array]:
        """What drives `y` and `squared` of numbers `a (..., S, p)` trained along."""
        told, (mean, square) = self.numbers.trained, pull
        assert told is not None
        pushed = force(told, self.penalty, a, mean)
        return pushed, square - mean**2 + told.batch_size * pushed**2

    def slope(self, at: Along, t: Array) -> Array:
        """Of `a`."""
        assert self.numbers.trained is not None
        return self.numbers.trained.rate * (self.gain_of(t, at.squared) * at.y - self.numbers.decay * at.a)

    def sweep_along(self, now: Along, stages: Along, pull: Any, t: Array, h: Array) -> Along:
        """As `sweep`."""
        numbers = self.numbers
        assert numbers.trained is not None
        push, square = self.forced(stages.a, pull)
        squared = _relaxed(h, 1.0 / numbers.second_memory, now.squared, square)
        y = _relaxed(h, 1.0 / numbers.memory, now.y, push)
        rate, moved = numbers.trained.rate, self.gain_of(t + h * POINTS, squared) * y
        relaxed = jax.vmap(_relaxed, (None, 0, -1, -1), -1)  # each number at its own rate
        return Along(relaxed(h, numbers.decay * rate, now.a, rate * moved), y, squared)

    def sweep(self, now: State, stages: State, driven: Driven, t: Array, h: Array, eta: Array) -> State:
        """The stages of a step, of which relaxation is solved and the rest taken from `stages`."""
        numbers = self.numbers
        rate, decay = 1.0 / numbers.memory, numbers.decay
        push, fed, _, square = self.forces(stages, driven, eta)
        squared = _relaxed(h, 1.0 / numbers.second_memory, now.squared, square)
        gain = self.gain(t + h * POINTS, squared)
        Y = _relaxed(h, rate, now.Y, push)
        B = _relaxed(h, decay, now.B, gain * Y)
        Q = _relaxed(h, 2.0 * rate, now.Q, fed)
        first = self.forces(stages._replace(B=B, Y=Y, Q=Q), driven, eta)[2]
        P = _relaxed(h, rate + decay, now.P, Q * _swap(gain) + first)
        pushed = gain * P
        along = None if now.along is None else self.sweep_along(now.along, stages.along, driven.pull, t, h)
        return State(B, Y, _relaxed(h, 2.0 * decay, now.C, pushed + _swap(pushed)), P, Q, squared, along)

    def respond(self, response: Array, gamma: Array, squared: Array, t: Array, h: Array) -> Array:
        """`response (S, m, 2 k, 2 k)` of theta and y after a step, of whose points `gamma` and `squared` are. A kick of y is nothing that
        was smooth before, so it is followed in shorter steps at first."""
        k, rate = gamma.shape[-1], 1.0 / self.numbers.memory

        def part_of(response, ends):
            before, after = ends
            at = before + (after - before) * POINTS
            there = jax.tree.map(lambda x: jnp.tensordot(_through(at), x, 1), (gamma, squared))
            pull, gain, part = self.pull(there[0]), self.gain(t + h * at, there[1]), h * (after - before)
            theta, y = response[..., :k, :], response[..., k:, :]

            def sweep(_, moved):
                pushed = _relaxed(part, rate, y, -pull @ moved[0])
                return _relaxed(part, self.numbers.decay, theta, gain * pushed), pushed

            still = tuple(jnp.broadcast_to(x, (3, *x.shape)) for x in (theta, y))
            return jnp.concatenate([x[-1] for x in jax.lax.fori_loop(0, SWEEPS, sweep, still)], -2), None

        return jax.lax.scan(part_of, response, jnp.array(list(pairwise(PARTS))))[0]

    def begin(self, B: Array, C: Array, driven: Driven, t: Array, eta: Array) -> State:
        """At the start, of a velocity at rest; for Adam shortly after, by the series that its corrections need."""
        copies = lambda x: jnp.broadcast_to(x, (len(driven.l_l), *x.shape))
        B, C, told = copies(B), copies(C), self.numbers.trained
        along = None if told is None else Along(*map(copies, (told.start, jnp.zeros_like(told.start), jnp.zeros_like(told.start))))
        still = State(B, jnp.zeros_like(B), C, jnp.zeros_like(C), jnp.zeros_like(C), jnp.zeros_like(C[..., 0]), along)
        if not self.gains:
            return still
        push, noise, first, square = self.forces(still, driven, eta)
        memory, squared = self.numbers.memory, square * _decayed(t, self.numbers.second_memory)
        left, corrected = jnp.exp(-t / memory), _decayed(t, memory)
        half = 0.5 * noise * _swap(self.gain(t, squared) * corrected)
        P = (half + first) * corrected + half * t * left
        if along is not None:
            pushed, measured = self.forced(along.a, driven.pull)
            along = Along(along.a, pushed * corrected, measured * _decayed(t, self.numbers.second_memory))
        return State(B, push * corrected, C, P, noise * 0.5 * memory * (1.0 - left**2), squared, along)


class Progress(NamedTuple):
    """Between two steps."""

    t: Array
    clock: Array  # (S,): of each scrambling, which stops where it diverges
    state: State
    response: Array  # of theta and y since the last output time to a unit of each, (S, m, 2 k, 2 k)
    driven: Driven  # at the three points of the step before
    last: Array  # its length, zero before the first
    h: Array  # to be tried next
    count: Array


def _distance(equations: _Equations, at: Progress, found: State, before: State, times: Array, h: Array, size: Array) -> Array:
    """Error of a step for each scrambling, `(S,)`, relative to `|values| + 1% of size`: what the last round of averages changed, and how
    far the slope at the start is off the polynomial of those in the step."""
    end = jax.tree.map(lambda x: x[-1], found)
    start = equations.slopes(at.state, equations.gain(at.t, at.state.squared))
    inner = equations.slopes(found, equations.gain(times, found.squared))
    pairs = [(end.B, at.state.B, before.B[-1], start[0], inner[0]), (end.C, at.state.C, before.C[-1], start[1], inner[1])]
    if end.along is not None:
        slopes = equations.slope(at.state.along, at.t), equations.slope(found.along, times)
        pairs.append((end.along.a, at.state.along.a, before.along.a[-1], *slopes))
    errors = []
    for new, old, earlier, slope, slopes in pairs:
        embedded = EMBEDDED * h * (slope - jnp.tensordot(_through(0.0), slopes, 1))
        scale = jnp.maximum(jnp.abs(new), jnp.abs(old)) + 1e-2 * size
        errors += [jnp.sqrt(jnp.mean((gap / scale) ** 2, axis=tuple(range(1, gap.ndim)))) for gap in (new - earlier, embedded)]
    return jnp.max(jnp.stack(errors), 0)


def _advance(equations: _Equations, averages: Callable, eta_at: Callable, limit: Array, tolerance: Array, stop: Array, at: Progress):
    """One step tried, and taken where its error is allowed."""
    left = stop - at.t
    h = jnp.where(left <= at.h, left, jnp.minimum(at.h, 0.5 * left))
    times = at.t + h * POINTS
    etas = eta_at(times)[:, None, None, None, None]

    def again(_, carried):
        driven, found, _ = carried
        moved = jax.lax.fori_loop(0, SWEEPS, lambda _, old: equations.sweep(at.state, old, driven, at.t, h, etas), found)
        return averages(moved), moved, found

    still = jax.tree.map(lambda x: jnp.broadcast_to(x, (3, *x.shape)), at.state)
    ahead = _through(jnp.where(at.last > 0, 1.0 + POINTS * h / jnp.where(at.last > 0, at.last, 1.0), 1.0))
    predicted = jax.tree.map(lambda x: jnp.tensordot(ahead, x, 1), at.driven)
    driven, found, before = jax.lax.fori_loop(0, ROUNDS, again, (predicted, still, still))
    end = jax.tree.map(lambda x: x[-1], found)
    q = equations.classes.seen(at.state.B, at.state.C)[1]
    alive = (at.clock == at.t) & (jnp.trace(q, axis1=1, axis2=2) < limit)  # what has diverged stands still, and so does its own clock
    told = equations.numbers.trained
    if told is not None:
        alive &= within(told.start, at.state.along.a)
    error = _distance(equations, at, found, before, times, h, jnp.sqrt(limit / 1e3)) / tolerance
    error = jnp.max(jnp.where(alive, error, 0.0))
    error = jnp.where(jnp.isfinite(error), error, jnp.inf)
    taken = (error <= 1.0) | (h <= SHORTEST * stop)
    moved = alive & taken & jnp.isfinite(end.C.reshape(len(alive), -1)).all(1)
    keep = lambda new, old: jnp.where(moved.reshape(-1, *[1] * (new.ndim - 1)), new, old)
    t = jnp.where(taken, jnp.where(h < left, at.t + h, stop), at.t)
    next_h = h * jnp.clip(SAFETY * error ** (-1.0 / ORDER), SHRINK, GROW)
    return Progress(
        t,
        jnp.where(moved, t, at.clock),
        jax.tree.map(keep, end, at.state),
        keep(equations.respond(at.response, driven.gamma, found.squared, at.t, h), at.response),
        jax.tree.map(lambda new, old: jnp.where(taken, new, old), driven, at.driven),
        jnp.where(taken, h, at.last),
        jnp.where(taken & (h < at.h), jnp.maximum(at.h, next_h), next_h),  # cut off by an output time, it says little about the next
        at.count + 1,
    )


@lru_cache(maxsize=32)
def program(slopes: Slopes, label: Callable, kinks: bool, gains: bool, penalty: Callable | None = None) -> tuple[Callable, Callable]:
    """The start of all scramblings side by side, and how they come from one output time to the next, as `online` has them for the
    gradient itself; `numbers` are those of the optimiser, `penalty` is the smooth one of what is trained along."""
    averages = jax.vmap(partial(averages_at, slopes, kinks))

    def fresh(B, C, a, known):
        g, y, weight, *_, classes = known
        M, q = classes.seen(B, C)
        return averages(g, y, weight, M, q, a)

    def driven(B, C, a, known):
        l_g, _, l_l, gamma, _, pull = fresh(B, C, a, known)
        classes = known[-1]
        outside = (l_g - gamma @ classes.seen(B, C)[0]) @ classes.inverse
        return Driven(gamma[:, None], outside[:, None], l_l[:, None], pull)

    def begin(normals, noise, weights, first, second, rho_root, etas, end, numbers, limit, tolerance, classes):
        y = jax.vmap(jax.vmap(label))(normals[..., : len(rho_root)] @ rho_root, noise)
        known = (normals, y, weights, etas, end, numbers, limit, tolerance, classes)
        copies = lambda x: jnp.broadcast_to(x, (len(normals), *x.shape))
        a = None if numbers.trained is None else copies(numbers.trained.start)
        at, t = driven(copies(first), copies(second), a, known), BEGUN * end if gains else jnp.zeros_like(end)
        state = _Equations(gains, numbers, classes, penalty).begin(first, second, at, t, etas[0])
        three = jax.tree.map(lambda x: jnp.broadcast_to(x, (3, *x.shape)), at)
        k = second.shape[-1]
        units = jnp.broadcast_to(jnp.eye(2 * k), (len(normals), len(second), 2 * k, 2 * k))
        return Progress(t, jnp.full(len(normals), t), state, units, three, jnp.zeros_like(t), FIRST * end, 0), known

    def segment(now, known, start, stop):
        *_, etas, end, numbers, limit, tolerance, classes = known
        eta_at = lambda t: jnp.interp(t, jnp.linspace(0.0, end, len(etas)), etas)
        number = lambda state: None if state.along is None else state.along.a
        at_stages = lambda found: jax.lax.map(lambda one: driven(one.B, one.C, number(one), known), found)
        step = partial(_advance, _Equations(gains, numbers, classes, penalty), at_stages, eta_at, limit, tolerance, stop)
        going = lambda at: (at.t < stop) & (at.count < MAX_STEPS) & (at.clock == at.t).any()
        now = now._replace(response=jnp.broadcast_to(jnp.eye(now.response.shape[-1]), now.response.shape), count=0)
        now = jax.lax.while_loop(going, step, now)
        B, Y, C, P, *_ = now.state
        a = number(now.state)
        return now, ((B, C, Y, P), now.clock, now.response, *classes.seen(B, C), fresh(B, C, a, known)[:5], a)

    return jit(begin), jit(segment)
