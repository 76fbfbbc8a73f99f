"""The stochastic modified equation at finite size, by sweeps over the samples.

    dTheta = -h dt - sum_i x_i (l_i dt / delta + sqrt(eta / delta) l_i dB_i)        (THEORY section 1, independent B_i)

is a sum of one scalar stochastic equation per sample and a decay. Each is advanced over the internal step on its own, by
Platen's explicit scheme of weak order 2 (Kloeden and Platen, *Numerical Solution of SDEs*, 15.1.1), and they are composed in
the order 1..n and back in turn: the symmetric (Strang) composition, also of weak order 2. A sweep reads the data once,
like one epoch of SGD, where Euler-Maruyama needs far smaller steps for the same bias: see `ACCURACY`. Every sample moves its share of the
numbers that are trained along, by the mean of its pull before and after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..compiling import jit
from ..functions import Static
from ..learning.dynamics import SME, Dynamics, step_at
from ..learning.problem import Problem
from .along import along_of, start_of, telling, told
from .averaging import History
from .beside import Streams, normals, of_all
from .data import Data, penalty_gradient, pick, smooth_penalty
from .optimisers import PLAIN, Extras

# Internal step times the fastest rate. Measured on the four reference problems at d = 400, against steps of 1/80 on the same
# Brownian paths: at 0.3 every curve is within 0.3% of its scale (the scatter of the measurement), at 0.6 within about 1%. For the
# ridge problem that is a step of 0.09, where Euler-Maruyama is off by 6%; it would need 0.004.
ACCURACY = 0.3
PROBE = 1024  # samples on which the curvature is measured
MAX_REFINEMENT = 20  # how far the internal step may shrink below its first value


class SMEPath:
    """Internal steps divide the gaps between output times evenly and follow the curvature of the loss."""

    fresh, beside = False, True

    def __init__(
        self,
        problem: Problem,
        dynamics: SME,
        n: int,
        d: int,
        batch_size: int,
        design: str,
        times: np.ndarray,
        extras: Extras = PLAIN,
    ):
        self.problem, self.dynamics, self.n, self.times, self.average = problem, dynamics, n, times, extras.average
        self.accuracy = ACCURACY * extras.step
        self.diagnostics: dict[str, float] = {"steps": 0}

    def run(self, data: Data, rng: Streams) -> Iterator[tuple[float, np.ndarray, list[int]]]:
        """Yield `(time, History.shown(), which output times this is)` after every sweep."""
        theta, a = jnp.asarray(data.start), start_of(self.problem, data.start.shape[:-2])
        here, forward, steps, slowest = 0.0, True, 0, None
        norms = _norms(data.rows)
        history = History(self.average, theta, a)
        for output, end in enumerate(self.times):
            rate = sum(rates(self.problem, self.dynamics, theta, a, data, here))
            slowest = slowest or rate
            rate = min(rate, MAX_REFINEMENT * slowest) if np.isfinite(rate) else slowest
            count = max(int(np.ceil((end - here) * rate / self.accuracy)), int(end > here))
            h = float(end - here) / max(count, 1)
            if count:
                self.diagnostics["internal_step"] = min(self.diagnostics.get("internal_step", h), h)
            for j in range(count):
                eta = float(step_at(self.dynamics, np.array(here + (j + 0.5) * h)))
                kicks = jnp.asarray(normals(rng, self.n))
                heat = np.sqrt(2 * self.dynamics.temperature * h)
                own = jnp.asarray(heat * normals(rng, theta.shape[-2:])) if heat else jnp.zeros(())
                theta, a = _sweep(
                    theta,
                    a,
                    data.rows,
                    data.labels,
                    norms,
                    kicks,
                    own,
                    h,
                    eta,
                    1 / self.problem.sample_ratio,
                    self.problem.ridge,
                    along_of(self.problem),
                    forward,
                    gradient=Static(self.problem.slopes.gradient),
                    smooth=smooth_penalty(self.problem),
                )
                forward, steps = not forward, steps + 1
                history.add(h, theta, a)
                if j < count - 1:
                    yield here + (j + 1) * h, history.shown(), []
            self.diagnostics["steps"] = max(self.diagnostics["steps"], steps)
            here = float(end)
            yield here, history.shown(), [output]


def rates(problem: Problem, dynamics: Dynamics, theta: Any, a: Any, data: Data, t: float) -> tuple[float, float, float]:
    """The fastest rates of the moment: the largest eigenvalue of `X^T X / delta` times the curvature of the loss, the noise that it
    amplifies, and the curvature of the penalty. With a spectrum the first is the mean rate at which pre-activations move: few directions
    are faster, and a sweep is stable along them, for it takes one sample after the other. What is trained along is in the last. Of several
    runs, those of the fastest."""
    hessian, smooth = Static(problem.slopes.hessian), smooth_penalty(problem)
    curvature = _curvature(theta, a, data.rows, data.labels, problem.ridge, along_of(problem), hessian=hessian, smooth=smooth)
    loss, penalty = (np.max(part) for part in curvature)
    eta, delta = float(step_at(dynamics, np.array(t))), problem.sample_ratio
    spread = problem.spectrum.roughness if problem.spectrum else 1.0
    return float(loss) * spread * (1 + delta**-0.5) ** 2, eta * float(loss) ** 2 / delta, float(penalty)


@jit
def _norms(rows):
    norms = jax.lax.map(lambda x: jnp.sum(x.astype(float) ** 2), rows.reshape(-1, rows.shape[-1]), batch_size=64)
    return norms.reshape(rows.shape[:-1])


@partial(jit, static_argnames=("gradient", "smooth"))
def _sweep(theta, a, rows, labels, norms, kicks, own, *given, **functions):
    axes = (0, 0, 0, 0, 0, 0, 0 if own.ndim else None) + (None,) * len(given)
    return of_all(rows, partial(_swept, **functions), axes)(theta, a, rows, labels, norms, kicks, own, *given)


def _swept(theta, a, rows, labels, norms, kicks, own, h, eta, weight, ridge, along, forward, *, gradient, smooth):
    """All samples once, in the order of the data or backwards; the decay comes first or last, next to the samples the noise of the
    weights' `own` (zero or `(k, d)`). `kicks (n,)` are standard normal, `weight` is `1 / delta`."""
    n = len(rows)
    drift, noise = weight * h, jnp.sqrt(eta * weight * h)

    def visit(j, state):
        theta, a = state
        i = jnp.where(forward, j, n - 1 - j)
        x = jax.lax.dynamic_index_in_dim(rows, i, keepdims=False).astype(theta.dtype)
        y, norm, kick = pick(labels, i), norms[i], kicks[i]
        slope = lambda r: gradient(r, told(y, a)).astype(theta.dtype)
        r = jnp.sum(theta * x, axis=1)
        here = slope(r)
        moved = lambda amount: slope(r - norm * amount * here)  # the slope where the sample would be after that kick
        up, down = moved(drift + noise), moved(drift - noise)
        change = 0.5 * drift * (here + moved(drift + noise * kick))
        change += 0.25 * noise * ((up + down + 2 * here) * kick + (up - down) * (kick**2 - 1))
        if along is not None:
            pull = 0.5 * (along.slope(r, told(y, a)) + along.slope(r - norm * change, told(y, a)))
            a -= along.rate * (h / n) * pull
        return theta - change[:, None] * x, a

    def decay(state):
        theta, a = state
        theta = _decay(theta, h, lambda theta: -penalty_gradient(theta, ridge, smooth))
        return theta, None if along is None else _decay(a, h, lambda a: -along.rate * along.penalty(a))

    same = lambda state: state
    theta, a = jax.lax.cond(forward, decay, same, (theta, a))
    theta = jnp.where(forward, own, 0.0) + theta
    theta, a = jax.lax.fori_loop(0, n, visit, (theta, a))
    theta = jnp.where(forward, 0.0, own) + theta
    return jax.lax.cond(forward, same, decay, (theta, a))


def _decay(theta, h, pull):
    """`theta' = pull(theta)` over the internal step, by one step of the classical Runge-Kutta method."""
    a = pull(theta)
    b = pull(theta + 0.5 * h * a)
    c = pull(theta + 0.5 * h * b)
    return theta + h / 6 * (a + 2 * b + 2 * c + pull(theta + h * c))


@partial(jit, static_argnames=("hessian", "smooth"))
def _curvature(theta, a, rows, *given, **functions):
    return of_all(rows, partial(_curved, **functions), (0, 0, 0, 0, None, None))(theta, a, rows, *given)


def _curved(theta, a, rows, labels, ridge, along, *, hessian, smooth):
    """Root mean square of the loss's second derivative over some samples, and of the penalty's over the rows; with the latter the size of
    the mean second derivative in `a` times its rate."""
    some, y = rows[:PROBE], jax.tree.map(lambda part: part[:PROBE], labels)
    r = (some @ theta.astype(rows.dtype).T).astype(theta.dtype)
    second = jax.vmap(telling(hessian, a))(r, y)
    penalty = ridge
    if smooth.fn is not None:
        penalty += jnp.sqrt(jnp.mean(jnp.sum(jax.vmap(jax.hessian(smooth.fn), in_axes=1)(theta) ** 2, axis=(1, 2))))
    if along is not None:
        pull = lambda a: jnp.mean(jax.vmap(telling(along.slope, a))(r, y), axis=0) + along.penalty(a)
        penalty += jnp.linalg.norm(along.rate[:, None] * jax.jacfwd(pull)(a))
    return jnp.sqrt(jnp.mean(jnp.sum(second**2, axis=(1, 2)))), penalty
