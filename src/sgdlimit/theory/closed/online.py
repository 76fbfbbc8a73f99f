"""`OnlineSGD`: closed equations of one-pass SGD (Saad and Solla, Phys. Rev. E 52, 4225; THEORY section 3, "online limit").

With `w = M g* + S xi`, `r* = root(rho) g*` and independent normals `g*, xi` (`S S^T = q - M M^T`), `Gamma = E[H]` and
`E[l w^T] = E[l g*^T] M^T + Gamma S S^T` (Gaussian integration by parts; with kinks the same gives `Gamma S = E[l xi^T]`, which
the mean of the second derivative is not),

    dM/dt = -lam M - E[l g*^T]
    dq/dt = -2 lam q - E[l w^T] - E[w l^T] + eta E[l l^T]

Every sample is fresh, so a weight is hit by its noise and pulled by the mean gradient alone: `d theta = -(lam + Gamma_t)(theta - M_t g*) dt
+ dM_t g* + dU_t`. Hence the two-time kernels

    dR(t,s)/dt = -(lam + Gamma_t) R(t,s),    C(t,s) = M_t M_s^T + R(t,s) (q_s - M_s M_s^T)        for s <= t.

With a spectrum (THEORY section 4) each eigenvalue has its own `theta = B theta* + ...`, self-overlap and response, and a sample the
means with weight `lambda`, `M = mean lambda B rho_lambda root(rho)^-1`:

    dB/dt = -lam B - lambda (Gamma B + Rs)                                   Rs = (E[l g*^T] - Gamma M) root(rho)^-1
    dC/dt = -2 lam C - lambda (Gamma C + Rs rho_lambda B^T + transpose) + lambda eta E[l l^T],      dR/dt = -(lam + lambda Gamma) R

A temperature adds `2 T` to the noise, `2 T dt` to `dq` and `dC`. With a velocity or a gain the equations are those of `filtered`.
Numbers trained along follow `da = -rate (E[grad_a L] + h_a) dt`, and all averages are at `a_t`.

The averages run over scrambled Sobol points. Independent scramblings are integrated side by side, each with its own averages;
their spread is the error. Time is integrated adaptively by diffrax, far more accurately than that.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import qmc

from ...checks import root
from ...compiling import jit
from ...errors import InputError
from ...learning.dynamics import OnlineSGD, check_schedule, step_at
from ...learning.means import Functions
from ...learning.problem import Problem
from ...learning.slopes import Slopes
from ...learning.stretched import Stretch
from ...learning.trained import anywhere
from ...results import Solution
from ...spread import spread
from ..accuracy.existence import check_moments
from ..accuracy.outcome import Replicated, largest_size, more_points, solution
from ..accuracy.witness import Witnesses
from ..laws.averaged import Kernels
from ..laws.law import Law, OnePassLaw, SpectralLaw
from ..shapes import patient, room
from . import filtered
from .along import force, penalty_of, told_of, within
from .fresh import Classes, averages_at, classes_of, starts

FEWEST, MOST = 2**12, 2**18  # points of a scrambling; compiling for more takes longer than the fewest take to run
HURRIED = 2**9  # where a first answer is waited for, see `shapes.few`
SCRAMBLINGS = 8
TOLERANCE = 1e-3  # of the integrator, relative to `rtol`
TABLE = 4097  # a schedule is linear between as many times: an error of order 1e-8 where it is smooth
MAX_STEPS = 2**14  # of the integrator between two output times

Array = Any


def refinements(
    problem: Problem,
    dynamics: OnlineSGD,
    horizon: float,
    rtol: float,
    seed: int,
    outputs: np.ndarray,
    report: Callable,
    watch: Callable[[], object] = lambda: None,
) -> Iterator[Solution]:
    """The limit with more and more points, up to what `rtol` takes. `watch` is called at every output time; what it raises ends it."""
    began = time.perf_counter(), time.process_time()
    check_schedule(dynamics, float(outputs[-1]))
    points, witnesses = FEWEST if patient() else HURRIED, Witnesses(problem, seed)
    while True:
        advance = lambda at, points=points: (report(0.99 * at, f"{points} points"), watch())
        found = _integrate(problem, dynamics, rtol, _points(problem, points, seed), outputs, advance, witnesses)
        found.tell(witnesses)
        found.effort |= {"points": points, "scramblings": SCRAMBLINGS}
        error = found.worst(problem)
        check_moments(problem, error)
        yield solution(found, problem, dynamics, horizon, rtol, seed, "online equations", began)
        # Where training diverges, averages do too, and more points are of little help.
        if error <= rtol or points == MOST or found.ended is not None or witnesses.doubt:
            return
        points = more_points(points, error, rtol, MOST)
        if not patient():
            points = room(points, FEWEST, 4)


def _points(problem: Problem, count: int, seed: int) -> tuple[Array, Array, Array]:
    """Normals `(S, P, k_star + k)`, noise draws `(S, P, ...)` and weights `(S, P)` of each scrambling, drawn for the squared gradient:
    of all averages it has the heaviest tails."""
    stretch = Stretch(problem, _squared_gradient(problem.slopes))
    seeds = np.random.SeedSequence(seed).spawn(SCRAMBLINGS)
    points = [stretch(qmc.Sobol(stretch.dims, rng=np.random.default_rng(child)).random(count)) for child in seeds]
    weights = np.array([of.weight / of.weight.sum() for of in points])
    return np.array([of.g for of in points]), np.array([of.z for of in points]), weights


@lru_cache(maxsize=32)
def _squared_gradient(slopes: Slopes) -> Functions:
    return lambda w, r_star, y: {"the squared gradient of the loss": slopes.gradient(w, y) ** 2}


def _integrate(
    problem: Problem,
    dynamics: OnlineSGD,
    rtol: float,
    points: tuple[Array, Array, Array],
    outputs: np.ndarray,
    advance: Callable[[float], object],
    witnesses: Witnesses,
) -> Replicated:
    """Curves of all scramblings, up to where one of them diverges; `advance` is told the fraction done, at every output time."""
    limit = largest_size(problem)
    etas = step_at(dynamics, np.linspace(0.0, outputs[-1], TABLE if callable(dynamics.step) else 2))
    rho_root = root(problem.rho)
    with jax.enable_x64(True):
        (begin, segment), start, numbers, classes = _equations(problem, dynamics, float(outputs[-1]))
        now, known = begin(*points, *start, rho_root, etas, outputs[-1], numbers, limit, TOLERANCE * rtol, classes)
        saved = []
        for i, (before, end) in enumerate(pairwise([np.float64(0.0), *outputs])):
            advance(i / len(outputs))
            now, reached = segment(now, known, before, end)
            saved.append(reached)
        joined = jax.tree.map(lambda *parts: np.stack(parts, 1), *jax.device_get(saved))
        state, alive, R, M, q, (l_gstar, _, l_l, gamma, risk), along = joined
    if not np.isfinite(risk[:, 0]).all():
        raise InputError("`loss` must have a finite mean, but its risk at the start is NaN or infinite (is the loss stable?)")
    good = (alive >= outputs * (1.0 - 1e-9)).all(0) & np.isfinite(risk).all(0)
    kept = len(outputs) if good.all() else int(np.argmin(good))
    ended = None if good.all() else float(alive[:, -1].min())
    if kept < min(2, len(outputs)):  # too early for the times asked for
        found = _integrate(problem, dynamics, rtol, points, np.linspace(0.0, 0.99 * float(alive[:, -1].min()), 11), advance, witnesses)
        found.ended = ended
        return found
    if outputs[0] == 0.0:
        witnesses.start(np.concatenate([part[:, 0].reshape(len(part), -1) for part in (risk, l_l, l_gstar, gamma)], 1))
    M, q, R, risk = (part[:, :kept] for part in (M, q, R, risk))
    each = {"self_overlap": q, "overlap": M @ rho_root, "train_risk": risk, "test_risk": risk}
    each |= {} if along is None else {"trained": along[:, :kept]}
    means, errors = {n: v.mean(0) for n, v in each.items()}, {n: spread(v) for n, v in each.items()}
    again = partial(_again, problem, dynamics, rtol, points)
    more = {"kinks": "the gradient of the loss jumps: its response is E[l xi^T] S^-1"} if problem.kinks else {}
    if classes is None:
        kernels = _kernels(M, q - M @ np.swapaxes(M, -1, -2), R)
        return Replicated(outputs[:kept], means, errors, kernels, {}, ended, more, law=OnePassLaw(problem, dynamics, again))
    kernels, remainder = _kernels_of_classes(tuple(part[:, :kept] for part in state), R, classes)
    law: Any = OnePassLaw(problem, dynamics, again)
    if problem.anisotropic is not None:
        law = SpectralLaw(problem, dynamics, again, np.swapaxes(state[0][:, :kept].mean(0), 0, 1), remainder)
    return Replicated(outputs[:kept], means, errors, kernels, {}, ended, more, law=law)


def _again(
    problem: Problem, dynamics: OnlineSGD, rtol: float, points: tuple[Array, Array, Array], nodes: np.ndarray
) -> tuple[Kernels, np.ndarray, Law]:
    """As `OnePassLaw.again`."""
    found = _integrate(problem, dynamics, rtol, points, nodes, lambda at: None, Witnesses(problem, 0))
    kernels = Kernels(found.times, found.kernels["correlation"], found.curves["overlap"], found.curves.get("trained"))
    return kernels, found.kernels["response"], found.law


def _equations(problem: Problem, dynamics: OnlineSGD, end: float) -> tuple[Any, ...]:
    """The compiled equations of a dynamics, where they start, the numbers that they are told, and the eigenvalues, if they want them."""
    optimizer, classes = dynamics.optimizer, classes_of(problem)
    functions, penalty = (problem.slopes, anywhere(problem.labels), problem.kinks), penalty_of(problem.trained)
    if optimizer is not None and (optimizer.gains or optimizer.memory):
        numbers = filtered.numbers_of(dynamics, problem, end)
        return filtered.program(*functions, optimizer.gains, penalty), starts(problem, classes), numbers, classes
    spectral, numbers = problem.anisotropic is not None, (problem.ridge, dynamics.temperature, told_of(problem.trained))
    start = starts(problem, classes) if spectral else (problem.init.overlap @ root(problem.rho), problem.self_overlap_start)
    return _program(*functions, spectral, penalty), start, numbers, classes if spectral else None


def _kernels_of_classes(state: tuple[np.ndarray, ...], R: np.ndarray, classes: Classes) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Correlation and response of pre-activations; also the covariances `(m, T, T, k, k)` of theta without its teacher. `state` are `B` and
    `C`, and with a velocity `Y` and `P`, too."""
    share, half = classes.share, np.stack([root(moment) for moment in classes.moments])
    parts, remainder = [], []
    for i, weight in enumerate(share):
        B, C, *velocity = (part[:, :, i] for part in state)
        M = B @ half[i]
        inner = C - M @ np.swapaxes(M, -1, -2)
        if velocity:
            Y, P = velocity
            inner = np.concatenate([inner, P - Y @ half[i] @ np.swapaxes(M, -1, -2)], -2)
        parts.append({name: weight * kernel for name, kernel in _kernels(M, inner, R[:, :, i]).items()})
        remainder.append(_kernels(np.zeros_like(M), inner, R[:, :, i])["correlation"])
    return {name: np.sum([part[name] for part in parts], 0) for name in parts[0]}, np.array(remainder)


def _kernels(M: np.ndarray, inner: np.ndarray, R: np.ndarray) -> dict[str, np.ndarray]:
    """Correlation and response from the response `R (S, T, n, n)` of each output time to the one before, of theta (`n = k`) or of theta and
    its velocity, which is what a kick moves (`n = 2 k`); `inner (S, T, n, k)` are their covariances with theta, without the teacher."""
    count, k, n = M.shape[1], M.shape[2], R.shape[-1]
    chain = np.zeros((len(R), count, count, n, n))
    for t in range(count):
        chain[:, t, t] = np.eye(n)
        if t:
            chain[:, t, :t] = R[:, t, None] @ chain[:, t - 1, :t]
    c = np.einsum("atik,asjk->atsij", M, M) + chain[:, :, :, :k] @ inner[:, None]
    earlier = np.tril(np.ones((count, count), bool))[:, :, None, None]
    c = c.mean(0)
    return {"correlation": np.where(earlier, c, c.transpose(1, 0, 3, 2)), "response": chain[:, :, :, :k, n - k :].mean(0)}


def _diffrax() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own business
            import diffrax
    except ImportError:
        raise InputError("`dynamics` must be another one unless diffrax is installed, but is OnlineSGD (pip install diffrax)") from None
    return diffrax


def _larger(norm: Callable, state: tuple[Any, ...]) -> Array:
    """The size of an error of weights or of numbers trained along: in a mean one hides behind the other."""
    return jnp.maximum(norm(state[:-1]), norm(state[-1]))


@lru_cache(maxsize=32)
def _program(
    slopes: Slopes, label: Callable, kinks: bool, spectral: bool = False, penalty: Callable | None = None
) -> tuple[Callable, Callable]:
    """The start of all scramblings side by side, and how they come from one output time to the next; a leading axis of scramblings
    throughout. The state is `M, q, R`, or with a spectrum `B, C, R` of every eigenvalue, and the numbers trained along, if there are any,
    with the smooth `penalty` of these."""
    dfx = _diffrax()

    averages = jax.vmap(partial(averages_at, slopes, kinks))

    def seen(first, second, classes):
        """M and q of a pre-activation."""
        return classes.seen(first, second) if spectral else (first, second)

    def plain(M, q, R, ridge, heat, eta, l_g, l_rest, l_l, gamma, classes):
        l_w = l_g @ jnp.swapaxes(M, 1, 2) + l_rest
        return -ridge * M - l_g, -2.0 * ridge * q - l_w - jnp.swapaxes(l_w, 1, 2) + eta * l_l + heat, -ridge * R - gamma @ R

    def of_classes(B, C, R, ridge, heat, eta, l_g, l_rest, l_l, gamma, classes):
        outside = ((l_g - gamma @ seen(B, C, classes)[0]) @ classes.inverse)[:, None]
        gamma, l_l, pull = gamma[:, None], l_l[:, None], classes.eigenvalues
        l_w = gamma @ C + outside @ classes.moments @ jnp.swapaxes(B, 2, 3)
        grown = -2.0 * ridge * C - pull * (l_w + jnp.swapaxes(l_w, 2, 3) - eta * l_l) + heat
        return -ridge * B - pull * (gamma @ B + outside), grown, -ridge * R - pull * (gamma @ R)

    def slope(t, state, known):
        g, y, weight, etas, end, (ridge, temperature, trained), limit, _, classes = known
        first, second, _, R, a = state
        M, q = seen(first, second, classes)
        eta = jnp.interp(t, jnp.linspace(0.0, end, len(etas)), etas)
        l_g, l_rest, l_l, gamma, _, pull = averages(g, y, weight, M, q, a)
        heat = 2.0 * temperature * jnp.eye(q.shape[-1])
        moved = (of_classes if spectral else plain)(first, second, R, ridge, heat, eta, l_g, l_rest, l_l, gamma, classes)
        moved = (*moved[:2], jnp.ones(len(q)), moved[2], None if pull is None else trained.rate * force(trained, penalty, a, pull[0]))
        # A scrambling that has diverged stands still, and so does its own clock.
        alive = jnp.trace(q, axis1=1, axis2=2) < limit
        if a is not None:
            alive &= within(trained.start, a)
        for part in jax.tree.leaves(moved):
            alive &= jnp.isfinite(part.reshape(len(q), -1)).all(1)
        return jax.tree.map(lambda part: jnp.where(alive.reshape(-1, *[1] * (part.ndim - 1)), part, 0.0), moved)

    def begin(normals, noise, weights, first, second, rho_root, etas, end, numbers, limit, tolerance, classes):
        y = jax.vmap(jax.vmap(label))(normals[..., : len(rho_root)] @ rho_root, noise)
        copies = lambda x: jnp.broadcast_to(x, (len(normals), *x.shape))
        a = None if numbers[-1] is None else copies(numbers[-1].start)
        now = copies(first), copies(second), jnp.zeros(len(normals)), a
        return now, (normals, y, weights, etas, end, numbers, limit, tolerance, classes)

    def segment(now, known, start, end):
        normals, y, weights, _, _, _, limit, tolerance, classes = known
        unit = jnp.broadcast_to(jnp.eye(now[1].shape[-1]), now[1].shape)
        controller = dfx.PIDController(rtol=tolerance, atol=tolerance * jnp.sqrt(limit / 1e3) * 1e-2)
        if now[3] is not None:
            controller = replace(controller, norm=partial(_larger, controller.norm))
        solved = dfx.diffeqsolve(
            dfx.ODETerm(slope), dfx.Tsit5(), start, end, None, (*now[:3], unit, now[3]), known,
            stepsize_controller=controller, saveat=dfx.SaveAt(t1=True), max_steps=MAX_STEPS, throw=False,
        )  # fmt: skip
        first, second, clock, R, a = jax.tree.map(lambda part: part[0], solved.ys)
        second = 0.5 * (second + jnp.swapaxes(second, -1, -2))
        M, q = seen(first, second, classes)
        return (first, second, clock, a), ((first, second), clock, R, M, q, averages(normals, y, weights, M, q, a)[:5], a)

    return jit(begin), jit(segment)
