"""`MiniBatchGD`: the limit of a training in discrete steps, eq. (1) and (2) step by step (Gerbelot et al., arXiv 2210.06591).

In the driving law of THEORY section 2 ("general driving law") a sample's `m_j` is `eta_j` with probability `b`, the fraction,
else 0. Step `j` lasts `h_j = eta_j b delta`, and

    r_i         = w_i - sum_{j < i} R(i, j+1) G_j,                              G_j = m_j l(r_j, y)
    chi(i, j)   = R(i, j) - sum_{j <= u < i} R(i, u+1) m_u H_u chi(u, j)
    M_{i+1}     = (1 - h_i lam) M_i - delta E[m_i l_i g*^T]                     (r* = root(rho) g*)
    R(i+1, j)   = (1 - h_i lam) R(i, j) - delta E[m_i H_i chi(i, j)],           R(j, j) = I
    theta_i     = M_i g* + R(i, 0) xi + sum_{j < i} R(i, j+1) U_j,              E[U_i U_j^T] = delta E[G_i G_j^T]

are exact: there is no grid in time that is not the training's own, so sampling is the only error. `C = E[theta theta^T]` is a Gram
matrix, as in `coordinates`. Averages go over the intensity `E[m_i | past] = eta_i b` of the newest increment, not over its draw.

With an optimiser the force `f` of a step passes the filter and gain of `stepped`, and so do `M` and every column of `R`, whose column
`j + 1` is then the response to a unit of `f` in step `j`, `R(j + 1, j + 1)` what of it arrives at once, and column 0 that to the start.
Adam's gain of a row is that of the mean over features of the square of its force, the signal's and the noise's. A temperature adds
`2 T h_i` to `E[U_i U_i^T]`. Beyond the paper; checked against loops like PyTorch's. Numbers trained along move by the mean over samples of
the loss's gradient in them, see `stepped`.

With kinks `H chi` is the difference of `differences`, marched at two distances on the same points: their extrapolation is what is
reported, and what it gained counts as an error.

With a spectrum (THEORY section 4) every eigenvalue has its own `R` and overlap, whose bracket is times the eigenvalue; `chi(., j)` is
then that of a unit of theta at step `j` alone, from which the bracket of any trajectory follows.

Cost and memory of a path grow with the square of the number of steps, because `chi` is kept for every pair of steps.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import jax
import numpy as np
from scipy import special
from scipy.stats import qmc

from ...checks import root
from ...learning.clock import Clock, mini_batch_clock
from ...learning.dynamics import MiniBatchGD
from ...learning.labels import TINY, over_samples, samples
from ...learning.problem import Problem
from ...learning.risk import TestRisk
from ...learning.trained import anywhere
from ...results import Solution
from ...spread import spread
from ..accuracy.existence import check_moments
from ..accuracy.outcome import MAX_REPLICATES, Replicated, more_points, solution
from ..accuracy.witness import Witnesses
from ..laws.law import StepLaw
from ..samples.differences import WORDS
from .stepped import optimizer_of
from .steps import DISTANCES, Marched, Points, march

# Paths of a replicate. The equations are not linear in the averages, so few paths have a bias of their own: measured on the linear model
# up to 1.3 standard errors of 8 replicates at 2^8, below 0.9 at 2^10, not seen at 2^12.
FEWEST, MOST = 2**9, 2**15
ENOUGH = 2**12  # where training diverges
REPLICATES = 8
BYTES = 2**30  # for the derivatives of all paths of one replicate
GAIN = 7.0  # error of the extrapolation to distance zero against its change of a curve
MAX_SIZE = int((BYTES / 8 / FEWEST) ** 0.5)  # steps times directions


def solve(
    problem: Problem, dynamics: MiniBatchGD, horizon: float, rtol: float, seed: int, outputs: np.ndarray, report: Callable
) -> Solution:
    """The limit at the output times, each the state after the nearest whole step."""
    began = time.perf_counter(), time.process_time()
    clock = clock_of(problem, dynamics, float(outputs[-1]))
    steps = int(clock.nearest(outputs)[-1])
    etas = np.broadcast_to(clock.etas(0, steps), steps)
    test_risk = TestRisk(problem, seed)
    most = most_paths(steps * _columns(problem))
    witnesses = Witnesses(problem, seed)
    paths, replicates, stage, marched, farther = FEWEST, REPLICATES, 0, [], []
    while True:
        for index in range(len(marched), replicates):
            report(index / replicates * 0.99, f"{steps} steps, {paths} paths")
            points = draw(problem, dynamics, steps, paths, np.random.SeedSequence(seed, spawn_key=(stage, index)))
            marched.append(march(problem, dynamics, etas, points))
            if problem.kinks:
                farther.append(march(problem, dynamics, etas, points, DISTANCES[1]))
        found = _estimate(problem, dynamics, clock, outputs, marched, farther, test_risk, rtol)
        found.effort |= {"paths": paths, "replicates": replicates}
        if found.ended != 0.0:
            witnesses.start(np.array([one.begun for one in marched]))
        found.tell(witnesses)
        error = found.worst(problem)
        if not stage:
            check_moments(problem, error)
        if found.ended is not None:  # averages diverge, too, and more paths are of little help
            most = min(most, ENOUGH)
        wanted = more_points(paths, error, rtol, most)
        stuck = wanted <= paths and (replicates == MAX_REPLICATES or found.ended is not None)
        if error <= rtol or stuck or witnesses.doubt:
            found.law = _law(problem, dynamics, clock, marched)
            return solution(found, problem, dynamics, horizon, rtol, seed, "discrete steps", began)
        if wanted > paths:
            paths, stage, marched, farther = wanted, stage + 1, [], []
        else:
            replicates = min(2 * replicates, MAX_REPLICATES)


def clock_of(problem: Problem, dynamics: MiniBatchGD, end: float) -> Clock:
    """When steps end up to time `end`; refuses more of them than there is memory for."""
    return mini_batch_clock(dynamics, problem.sample_ratio, end, MAX_SIZE // _columns(problem))


def _columns(problem: Problem) -> int:
    """Derivatives kept for each pair of steps and row: those of a loss with kinks on both sides."""
    return 2 * problem.k if problem.kinks else problem.k


def most_paths(size: int) -> int:
    """How many paths of `size` steps times directions there is memory for, a power of two."""
    return int(np.clip(2 ** np.floor(np.log2(BYTES / 8 / max(size, 1) ** 2)), FEWEST, MOST))


def draw(problem: Problem, dynamics: MiniBatchGD, steps: int, paths: int, seed: np.random.SeedSequence) -> Points:
    """Draw `paths` samples (a power of two) as scrambled Sobol points, whose dimensions come in the order of time.

    Their spread is 3 to 10 times below that of independent draws for 1024 paths. Half as many points with their mirror images are
    worse in all cases tried (three of the reference problems, full batch and half), by up to a factor two.
    """
    k, k_star, n_noise = problem.k, problem.k_star, problem.noise_size
    head = k_star + k + n_noise
    each = k + (dynamics.fraction < 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        u = np.clip(qmc.Sobol(head + each * steps, rng=np.random.default_rng(seed)).random(paths), TINY, 1.0 - TINY)
    gstar, z = samples(problem, u[:, :k_star], u[:, k_star + k : head])
    later = u[:, head:].reshape(paths, steps, each)
    normals = np.concatenate([u[:, k_star : k_star + k], later[:, :, :k].reshape(paths, steps * k)], 1)
    gauss = np.concatenate([gstar, special.ndtri(normals)], 1).T
    with jax.enable_x64(True):
        y = over_samples(anywhere(problem.labels))(gauss[:k_star].T @ root(problem.rho), z)
    chosen = np.ones((steps, paths), bool) if dynamics.fraction == 1 else np.less(later[:, :, -1].T, dynamics.fraction)
    return Points(np.ascontiguousarray(gauss), y, chosen)


def _curves(problem: Problem, marched: list[Marched], which: np.ndarray) -> dict[str, np.ndarray]:
    """Curves of every replicate, the first axis, after the steps `which`."""
    weights = [one.L[which] for one in marched]
    return {
        "self_overlap": np.array([np.einsum("tim,tjm->tij", L, L) for L in weights]),
        "overlap": np.array([L[:, :, : problem.k_star] @ root(problem.rho) for L in weights]),
        "train_risk": np.array([one.train[which] for one in marched]),
    } | ({} if marched[0].trained is None else {"trained": np.array([one.trained[which] for one in marched if one.trained is not None])})


def _response(R: np.ndarray, which: np.ndarray, dynamics: MiniBatchGD) -> np.ndarray:
    """Of the weights after each of the steps `which` to a kick after each; through an optimiser, of the force in the step that follows,
    which moves no weight before."""
    if optimizer_of(dynamics) is None:
        return R[np.ix_(which, which)]
    later = which[:, None] > which
    return R[which[:, None], np.minimum(which + 1, which[-1])] * later[:, :, None, None]


def _estimate(
    problem: Problem,
    dynamics: MiniBatchGD,
    clock: Clock,
    outputs: np.ndarray,
    marched: list[Marched],
    farther: list[Marched],
    test_risk: TestRisk,
    rtol: float,
) -> Replicated:
    """Means over replicates at the output times, as far as all of them got, extrapolated to distance zero where there are
    replicates at the larger one."""
    reached = min(len(one.train) for one in marched + farther) - 1
    which = clock.nearest(outputs)
    ended = None
    if reached < which[-1]:
        ended = clock.time(reached + 1)
        outputs = outputs[which <= reached]
        if len(outputs) < 2:
            outputs = np.linspace(0.0, clock.time(reached), 11) if reached else np.zeros(1)
        which = clock.nearest(outputs)
    each = _curves(problem, marched, which)
    gained = {name: np.zeros_like(values) for name, values in each.items()}
    if farther:
        gained = {name: (each[name] - values) / 3.0 for name, values in _curves(problem, farther, which).items()}
    each = {name: values + gained[name] for name, values in each.items()}
    curves = {name: values.mean(0) for name, values in each.items()}
    errors = {name: np.hypot(spread(values), np.abs(gained[name].mean(0)) / GAIN) for name, values in each.items()}
    state = [name for name in ("self_overlap", "overlap", "trained") if name in each]
    curves["test_risk"], own = test_risk.within(rtol, *(curves[name] for name in state))
    shift = test_risk.shift(*(curves[name] for name in state))
    shifts = np.array([shift(*values) for values in zip(*(each[name] for name in state), strict=True)])
    curves["test_risk"] = curves["test_risk"] + shifts.mean(0)
    errors["test_risk"] = np.hypot(spread(shifts), own)
    if farther:
        before = shift(*(curves[name] - gained[name].mean(0) for name in state))
        errors["test_risk"] = np.hypot(errors["test_risk"], before / GAIN)
    start = which == 0  # where a training sample is a fresh one
    for part in (curves, errors):
        part["train_risk"] = np.where(start, part["test_risk"], part["train_risk"])
    weights = [one.L[which] for one in marched]
    kernels = {
        "correlation": np.mean([np.einsum("sim,tjm->stij", L, L) for L in weights], 0),
        "response": np.mean([_response(one.R, which, dynamics) for one in marched], 0),
    }
    return Replicated(outputs, curves, errors, kernels, {"steps": reached}, ended, {"kinks": WORDS} if farther else {})


def _law(problem: Problem, dynamics: MiniBatchGD, clock: Clock, marched: list[Marched]) -> StepLaw:
    """The mean kernels after every step that all replicates reached."""
    reached = min(len(one.train) for one in marched)
    weights = [one.L[:reached] for one in marched]
    C = np.mean([np.einsum("sim,tjm->stij", L, L, optimize=True) for L in weights], 0)
    overlap = np.mean([L[:, :, : problem.k_star] @ root(problem.rho) for L in weights], 0)
    by_eigenvalue = None
    classes = [one.classes for one in marched if one.classes is not None]
    if classes:
        parts = [part[:, :reached] for _, part in classes]
        remainder = np.mean([np.einsum("mtid,mujd->mtuij", part, part, optimize=True) for part in parts], 0)
        by_eigenvalue = np.mean([B[:, :reached] for B, _ in classes], 0), remainder
    trained = [one.trained[:reached] for one in marched if one.trained is not None]
    R, along = np.mean([one.R[:reached, :reached] for one in marched], 0), np.mean(trained, 0) if trained else None
    return StepLaw(problem, dynamics, clock, C, R, overlap, by_eigenvalue, along)
