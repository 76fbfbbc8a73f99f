"""`simulate`: check the input, follow each repeat, average, and say how it ended."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

from ..errors import InputError, refuse
from ..learning.averages import Average, check_average
from ..learning.dynamics import SGD, SME, Dynamics, GradientFlow, MiniBatchGD, OnlineSGD, check_schedule
from ..learning.kinks import refuse_kinks
from ..learning.problem import Problem
from ..learning.risk import POINTS, RANDOMISATIONS
from ..learning.slopes import as_trained, still
from ..results import PATHS_KEPT, Simulation, Status, build_dataset, judge_growth, output_times, with_numbers
from .averaging import Averager
from .data import check_design, check_memory, n_samples
from .diffusion import DiffusionPath
from .flow import FlowPath
from .left_out import check_left_out, summary
from .mini_batch import MiniBatchPath
from .observe import chunk_length
from .online import OnlinePath
from .optimisers import Extras, check_transform, has_memory
from .paths import Keeper
from .repeats import DIVERGED, LEFT_OUT, RULES, Repeats, precise, together_of
from .sgd import SGDPath
from .sme import SMEPath

# How each dynamics is followed at finite size: built once with (problem, dynamics, n, d, batch_size, design, times, extras), then
# `run(data, rng)` for each repeat yields (time, state, indices of output times) as it goes. A state is a row of the weights `(k, d)`
# and what is trained along, and below it one of their integrals where they are averaged. `diagnostics` is a dict, `beside` tells that it
# follows several runs at once as well (see the module), and `fresh` that samples are used once: then only `rows_held(batch_size)` of them
# are in memory, and the train risk is the test risk.
PATHS: dict[type, Any] = {SGD: SGDPath, SME: SMEPath, GradientFlow: FlowPath, OnlineSGD: OnlinePath, MiniBatchGD: MiniBatchPath}


def simulate(
    problem: Problem,
    dynamics: Dynamics,
    horizon: float,
    n_features: int,
    batch_size: int = 1,
    repeats: int = 8,
    design: str = "gaussian",
    seed: int = 0,
    times: Any = None,
    progress: Callable[[float, str], object] | None = None,
    *,
    average: Average | None = None,
    optimizer: Any = None,
    left_out: bool = False,
) -> Simulation:
    """Train on drawn data at finite size, several times, and average: the curves to hold against `solve`.

    Each repeat draws `n = round(sample_ratio * d)` rows with independent entries of mean 0 and variance `1/d`, labels, a
    teacher and a start. The second moments of teacher and start are imposed exactly on each draw, which removes a scatter of
    order `d^(-1/2)` that the limit does not have. What remains is a bias of order `1/d` and the scatter the errors show. With a
    spectrum every eigenvalue gets its whole number of features, whose entries have its variance over `d`.

    Arguments:
        problem, dynamics: as for `solve`.
        horizon: last time `t`. A step lasts `step * batch_size / d`, an epoch `step * sample_ratio` (THEORY section 1).
        n_features: `d`. Memory is about `4 n d` bytes; `OnlineSGD` needs little, its samples are drawn as it goes.
        batch_size: samples per step of `SGD` and `OnlineSGD`, whose limit is that of `batch_size << n`. The other dynamics have no
            use for it.
        repeats: independent runs, at least 2. The first ones do not depend on how many there are.
        design: law of the entries: "gaussian", "rademacher" (signs) or "uniform".
        seed: of everything drawn. All dynamics but `OnlineSGD` see the same data for one seed.
        times: output times `(time,)`; 41 even ones by default. What has steps shows the state after the nearest whole one,
            gradient flow interpolates, SME lands on them (so very many output times cost more than its internal step would).
        progress: called as `progress(fraction_done, text)` after each piece of work.
        average: `ExponentialAverage` or `TailAverage`; all curves are then those of the averaged weights, at `t = 0` of the start.
        optimizer: an optax optimiser (`GradientTransformation`) that trains in the place of the dynamics' own, for `SGD`, `OnlineSGD` and
            `MiniBatchGD`. Its parameters and gradients are those of a loop on features of variance 1 and the mean loss over the batch, with
            the penalty in the gradient: a learning rate is PyTorch's. The dynamics' `step` then counts time and does nothing else.
        left_out: also estimate the test risk of every run from its own samples, each left out in turn, as `OneRun` does beside a loop
            of one's own. For `SGD` and `MiniBatchGD`, with momentum or without, and a ridge. Takes the eigenvectors of a `(d, d)` matrix
            at many of the output times: a few hundred features are enough.

    Returns:
        Simulation. `dataset`: `self_overlap (time, student, student_)`, `overlap (time, student, teacher)`,
        `train_risk (time)` (mean loss over the data), `test_risk (time)` (expected loss over a fresh Gaussian sample given
        the weights, label noise included, by quasi-random integration), each a mean over repeats with the standard error of
        that mean in `<name>_se` (zero at the start for the overlaps, which are imposed; that of the test risk has the integration's
        error in it). A test risk that does not exist is infinite, and the status says why. `status.code` is "diverged" when a run
        blows up (curves end before that time) or the test risk keeps growing. With `left_out` there is `left_out_risk (time)`, whose
        error is that of an estimate of these runs' own mean test risk; `diagnostics["left_out"]` says whether to trust it.
        `diagnostics` also: wall and CPU seconds (of this process), steps per run, the estimate of memory in bytes, and for SME the
        internal step. `sample_paths` and `coordinate_paths` have some of the runs' samples and weights, at most 20000 of each over all
        repeats.

    Raises:
        InputError: a field is out of range, or the data do not fit into memory.
    """
    extras = {"average": average, "optimizer": optimizer, "left_out": left_out}
    every = trainings(problem, dynamics, horizon, n_features, batch_size, repeats, design, seed, times, progress, **extras)
    return deque(every, maxlen=1).pop()()


def trainings(
    problem: Problem,
    dynamics: Dynamics,
    horizon: float,
    n_features: int,
    batch_size: int = 1,
    repeats: int = 8,
    design: str = "gaussian",
    seed: int = 0,
    times: Any = None,
    progress: Callable[[float, str], object] | None = None,
    *,
    average: Average | None = None,
    optimizer: Any = None,
    left_out: bool = False,
) -> Iterator[Callable[[], Simulation]]:
    """What `simulate` knows as it goes on: after each repeat from the second one on, a function that makes the result of those so far;
    after several at once where they are small. Arguments and errors are those of `simulate`."""
    wall, cpu = time.perf_counter(), time.process_time()
    extras = {"average": average, "optimizer": optimizer, "left_out": left_out}
    times, n, memory, path = plan(problem, dynamics, horizon, n_features, batch_size, repeats, design, seed, times, **extras)
    given, problem = problem, still(problem)
    averager = None if average is None else Averager(average, times)
    keeper = Keeper(problem, design, int(repeats), int(seed), path.fresh)
    known = {"n_features": int(n_features), "batch_size": int(batch_size), "design": design, "seed": int(seed)}
    known |= {name: repr(value) for name, value in (("average", average), ("optimizer", optimizer)) if value is not None}
    if given.trained is not None and problem.trained is None:
        known["held"] = given.trained.start
    repeated = Repeats(problem, path, times, (n, int(n_features)), design, int(seed), averager, keeper, [] if left_out else None)
    for curves, ended in repeated.run(int(repeats), progress):
        if (done := len(curves["test_risk"])) > 1:
            spent = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu, "memory_bytes": memory}
            if repeated.left_out is not None:
                spent["left_out"] = summary(repeated.left_out, len(curves[LEFT_OUT][0]))
            yield partial(_simulation, problem, dynamics, repeated.test, times, n, done, known, path, keeper, curves, ended, spent)


def for_means(
    problem: Problem,
    dynamics: Dynamics,
    horizon: float,
    n_features: int,
    repeats: int,
    seed: int,
    times: np.ndarray,
    rtol: float,
    step: float,
    progress: Callable[[float, str], object],
) -> Iterator[tuple[dict[str, np.ndarray], Callable, float | None, int]]:
    """Of runs whose means alone are asked for, within about `rtol`, a diffusion's by so much of its usual `step`: as they come, the curves
    `(repeat, time, ...)` of some repeats, what makes of the means of all the test risk's and its error (`Repeats.corrected`), when the
    first of all repeats left the limit, and how many steps they take. Samples lie evenly (`data.draw_each`), and infinite test risks are
    not looked for."""
    times, n, _, path = plan(problem, dynamics, horizon, n_features, repeats=repeats, seed=seed, times=times, step=step)
    repeated = Repeats(still(problem), path, times, (n, n_features), "gaussian", seed, None, None, None, rtol)
    for curves, ended in repeated.each(repeats, progress):
        yield _judge(times, curves, ended)[1], repeated.corrected, ended, path.diagnostics["steps"]


def _simulation(problem, dynamics, test, times, n, repeats, known, path, keeper, curves, ended, spent) -> Simulation:
    """The result of so many repeats."""
    n_features = known["n_features"]
    times, curves, status = _judge(times, curves, ended)
    rules, left_out = curves[RULES], curves.get(LEFT_OUT)  # may be asked for again
    curves = {name: values for name, values in curves.items() if name not in (RULES, LEFT_OUT)}
    means = {name: values.mean(axis=0) for name, values in curves.items()}
    errors = {name: values.std(axis=0, ddof=1) / np.sqrt(repeats) for name, values in curves.items()}
    with precise():  # the points are the same in all repeats, whose spread does not tell what they miss
        missed = test.error(rules.mean(axis=0).T, means["self_overlap"], means["overlap"], means.get("trained"))
        infinite, why = test.infinite(means["self_overlap"], means["overlap"])
    common = {name: missed if name == "test_risk" or (path.fresh and name == "train_risk") else 0.0 * errors[name] for name in errors}
    errors = {name: np.hypot(error, common[name]) for name, error in errors.items()}
    if path.fresh:
        n = path.diagnostics["steps"] * known["batch_size"]
    if status is None and not infinite.any():
        status = judge_growth(times, means["test_risk"])
    if status is None:
        status = Status("done", f"done: {repeats} runs at d = {n_features}, n = {n}, up to t = {times[-1]:g}")
    if infinite.any():
        status = Status(status.code, f"{status.message}; {_where(infinite, times)}{why}")
    attrs = {
        "dynamics": repr(dynamics),
        "n_features": n_features,
        "n_samples": n,
        "batch_size": known["batch_size"],
        "repeats": repeats,
        "design": known["design"],
        "seed": known["seed"],
        **({} if problem.spectrum is None else {"spectrum": repr(problem.spectrum)}),
        **{name: known[name] for name in ("average", "optimizer") if name in known},
    }
    dataset = build_dataset(times, means, errors, attrs=attrs, teacher_cov=problem.rho, repeats=curves, common=common)
    if "held" in known:
        dataset = with_numbers(dataset, known["held"])
    for name in ("test_risk", "train_risk" if path.fresh else "generalisation_gap"):
        dataset[name].values[infinite], dataset[f"{name}_se"].values[infinite] = np.inf, 0.0
    if left_out is not None:
        error = np.sqrt(np.sum(left_out[..., 1] ** 2, axis=0)) / len(left_out)
        dataset[LEFT_OUT] = ("time", left_out[..., 0].mean(axis=0), {"long_name": "test risk from the training samples, each left out"})
        dataset[f"{LEFT_OUT}_se"] = ("time", error, {"long_name": "standard error of the left out risk"})
    return Simulation(dataset, status, spent | path.diagnostics, keeper.kept(times))


def _where(infinite: np.ndarray, times: np.ndarray) -> str:
    """When a mean is infinite, in words."""
    if infinite.all():
        return ""
    return f"at {np.count_nonzero(infinite)} of {len(times)} output times, the first t = {times[np.argmax(infinite)]:.3g}, "


def plan(
    problem,
    dynamics,
    horizon,
    n_features,
    batch_size=1,
    repeats=8,
    design="gaussian",
    seed=0,
    times=None,
    *,
    average=None,
    optimizer=None,
    left_out=False,
    step=1.0,
) -> tuple[np.ndarray, int, int, Any]:
    """What `simulate` decides before it draws anything, with all its refusals: output times, number of samples, bytes of
    memory, and the path of the dynamics."""
    times, n = _check(problem, dynamics, horizon, n_features, batch_size, repeats, design, seed, times)
    check_average(average)
    check_transform(dynamics, optimizer)
    problem = still(problem)
    check_left_out(problem, dynamics, left_out, average, optimizer)
    problem, kind = as_trained(problem, dynamics), _kind(dynamics)
    followed = times if average is None else Averager(average, times).followed
    if kind.fresh:
        n = kind.rows_held(batch_size)
    with jax.enable_x64(True):
        path = kind(problem, dynamics, n, n_features, batch_size, design, followed, Extras(average, optimizer, step))
    kept = len(times) if average is None else 2 * len(followed) + len(times)
    memory = _memory(problem, n, n_features, kept, together_of(path, n, n_features, repeats, left_out))
    check_memory(memory, n, n_features)
    return times, n, memory, path


def _kind(dynamics: Dynamics) -> Any:
    """The path of a dynamics; where the velocity of a diffusion has a memory, or the flow a noise, its steps are other ones."""
    if isinstance(dynamics, SME) and has_memory(dynamics):
        return DiffusionPath
    if isinstance(dynamics, GradientFlow) and dynamics.temperature:
        return DiffusionPath
    return PATHS[type(dynamics)]


def _check(problem, dynamics, horizon, n_features, batch_size, repeats, design, seed, times) -> tuple[np.ndarray, int]:
    """Refuse what cannot be simulated; return the output times and the number of samples."""
    if not isinstance(problem, Problem):
        raise refuse("problem", "be an sl.Problem", problem)
    if type(dynamics) not in PATHS:
        raise refuse("dynamics", "be one that can be simulated", dynamics, "known: " + ", ".join(kind.__name__ for kind in PATHS))
    if isinstance(dynamics, SME) and not getattr(dynamics.optimizer, "corrected", True):
        raise refuse("optimizer.corrected", "be True for SME", False, "a mean that begins with zero makes first steps of any length")
    if isinstance(dynamics, SME) and problem.kinks:
        refuse_kinks(problem, dynamics, (SME,))
    times = output_times(horizon, times)
    check_schedule(dynamics, float(times[-1]))
    least = max(10, 2 * (problem.k + problem.k_star))
    _integer("n_features", n_features, least, "the limit's curves need a few hundred, better thousands")
    if problem.spectrum is not None:
        problem.spectrum.counts(int(n_features))
    n = n_samples(problem, n_features)
    _integer("batch_size", batch_size, 1, "1 is a single sample per step")
    if batch_size > n and isinstance(dynamics, SGD):
        raise refuse("batch_size", f"be at most the number of samples, {n}", batch_size, "sample_ratio * n_features")
    _integer("repeats", repeats, 2, "one run has no standard error")
    _integer("seed", seed, 0)
    check_design(design)
    return times, n


def _integer(name: str, value: Any, least: int, fix: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise refuse(name, f"be a whole number, at least {least}", value, fix)


def _memory(problem: Problem, n: int, d: int, times: int, together: int) -> int:
    """Bytes at the peak: the rows of runs that go `together`; per sample a label, its noise and pre-activations in double precision with
    what the risk's compiled loops keep of them; the weights at all output times; the test points; paths kept of samples and coordinates."""
    per_sample = 32 * (problem.k * chunk_length(n, problem.k, times) + problem.k_star + problem.noise_size + 2)
    test = 32 * RANDOMISATIONS * POINTS * (problem.k + problem.k_star + problem.noise_size)
    return int(
        4 * n * d * together + per_sample * n + 12 * times * problem.k * d + test + 16 * times * problem.k * min(n + d, 2 * PATHS_KEPT)
    )


def _judge(times, curves, ended) -> tuple[np.ndarray, dict[str, np.ndarray], Status | None]:
    """Cut the curves where a run diverged or a risk is no longer a finite number, and say so."""
    kept = len(curves["test_risk"][0])
    finite = np.isfinite(curves["train_risk"]).all(axis=0) & np.isfinite(curves["test_risk"]).all(axis=0)
    reason = f"the self-overlap passed {DIVERGED:g} times its starting scale"
    if not finite.all():
        first = int(np.argmin(finite))
        if first == 0:
            raise InputError(
                "`loss` must have a finite mean, but its risk is NaN or infinite at the first output time (is the loss stable?)"
            )
        kept, ended, reason = first, float(times[first]), "a risk is no longer finite"
    if ended is None:
        return times, curves, None
    message = f"diverged at t = {ended:.3g}: {reason}; the curves up to t = {times[kept - 1]:.3g} are kept (a smaller step or a penalty)"
    return times[:kept], {name: values[:, :kept] for name, values in curves.items()}, Status("diverged", message)
