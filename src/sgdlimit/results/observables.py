"""A user's own observable on fresh and on training samples: `observe`, and `accuracy` ready made.

In the limit `(w, r*)` of a fresh sample is Gaussian with the overlaps as its covariance, so any average over it follows from them.
An average over the training samples does not: there `r` has seen the label, and only sample paths know its law.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ..compiling import jit
from ..errors import InputError, Words, nearest, refuse
from ..functions import key
from ..learning.indices import missing_entry
from ..learning.labels import over_samples
from ..learning.problem import Problem, _first_line
from ..learning.risk import FreshMean
from ..learning.trained import Labelled
from .derived import NUMBER_FLOOR
from .result import Result, Simulation, Solution, labels_of

CLASSES = "-1 or 1 with k = 1, or one-hot with k classes"
SIDES = ("test", "train")
PATHS = 2**14  # of training samples drawn from a solution
NUDGE = 0.02  # an overlap is moved by at least this fraction of its bound, so that a count over points has a slope


def accuracy(r: Any, r_star: Any, y: Any) -> Any:
    """Whether the student's class is the label: the sign of `r (1,)` for labels -1 and 1, the largest entry of `r (classes,)` for
    one-hot labels `(classes,)`. Its average is the accuracy. `observe` takes for the class of a problem with numbers trained along, such as
    an intercept, the one that costs the smallest loss.

    Raises:
        InputError: the label has neither shape. That its values are classes is checked by `observe`.
    """
    if jnp.ndim(y) == 0 and jnp.shape(r) == (1,):
        return jnp.where(r[0] * y > 0, 1.0, 0.0)
    if jnp.ndim(y) == 1 and jnp.shape(r) == jnp.shape(y):
        return jnp.where(jnp.argmax(r) == jnp.argmax(y), 1.0, 0.0)
    what = Words(f"of shape {jnp.shape(y)} for {len(r)} student directions")
    raise refuse("label", "be a class for the accuracy", what, CLASSES)


@lru_cache(maxsize=32)
def _cheapest(loss: Callable) -> Callable:
    """`accuracy` by the loss of each class."""

    def hit(r: Any, r_star: Any, y: Any, a: Any) -> Any:
        if jnp.ndim(y) > 1:
            raise refuse("label", "be a class for the accuracy", Words(f"of shape {jnp.shape(y)}"), CLASSES)
        classes = jnp.array([-1.0, 1.0]) if jnp.ndim(y) == 0 else jnp.eye(len(y))
        cost = jax.vmap(lambda one: loss(r, Labelled(one, a)))(classes)
        return jnp.where((classes[jnp.argmin(cost)] == y).all(), 1.0, 0.0)

    return hit


def _of_sample(problem: Problem, observable: Callable) -> Callable:
    """The observable as a function of `r`, `r_star` and what `problem.labels` gives."""
    if problem.trained is None:
        return observable
    return _of_labelled(_cheapest(problem.slopes.loss) if observable is accuracy else key(observable))


@lru_cache(maxsize=32)
def _of_labelled(observable: Callable) -> Callable:
    return lambda r, r_star, seen: observable(r, r_star, seen.y, seen.a)


def observe(problem: Problem, result: Result, observable: Callable[..., Any], seed: int = 0, side: str = "test") -> xr.DataArray:
    """The average of an observable along a result, over fresh samples or over those trained on.

    Arguments:
        problem: what `result` was computed for.
        result: of `solve` or `simulate`; for the train side one of this session, because it takes paths of samples.
        observable: `observable(r, r_star, y) -> number` in JAX, `r (k,)`, `r_star (k_star,)`, `y` as `label` returns it; it may jump. Of a
            problem with numbers trained along it is one of `(r, r_star, y, a)`, at the `a` of the time, of real runs at their mean.
        seed: of the quasi-random points and of the paths drawn.
        side: "test" averages over a fresh sample; a simulation's average is taken at its mean overlaps. "train" averages over
            the training samples: in theory over paths of eq. (1), in real runs over those kept (all of a run where
            `repeats * n` is at most `PATHS_KEPT`). One pass has no other training samples than fresh ones.

    Returns:
        DataArray `(time)` with the standard error in its coordinate `se`. On the test side that of the integration, together with
        what the overlaps' own errors do to the average to first order, summed without sign because nothing is known of their
        correlation. On the train side that of the paths, together with what the test side's error does through the part that the
        two have in common; of real runs the one between repeats.

    Raises:
        InputError: the result is of other numbers of directions or has no paths, or the observable fails, is no finite number or has no
            finite mean.
    """
    data = _check(problem, result, observable)
    if side not in SIDES:
        raise refuse("side", "be 'test' or 'train'", side, nearest(str(side), SIDES))
    if side == "test" or data.attrs.get("dynamics", "").startswith("OnlineSGD"):
        mean, error = _fresh(problem, data, observable, seed)
    elif isinstance(result, Solution):
        mean, error = _trained(problem, result, observable, seed)
    else:
        assert isinstance(result, Simulation)
        mean, error = _trained_runs(problem, result, observable)
    if not np.isfinite(mean).all():
        raise InputError("`observable` must be finite, but its average is NaN or infinite (a log or division by zero?)")
    name = getattr(observable, "__name__", "observable").strip("<>")
    coords = {"time": data["time"], "se": ("time", error, {"long_name": f"standard error of the {name}"})}
    where = {"test": "a fresh sample", "train": "a training sample"}[side]
    return xr.DataArray(mean, coords, ("time",), name=name, attrs={"long_name": f"{name} on {where}"})


def _fresh(problem: Problem, data: xr.Dataset, observable: Callable, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Average over a fresh sample and its standard error, `(time,)` each."""
    average = FreshMean(problem, _of_sample(problem, observable), seed)
    q, m = data["self_overlap"].values, data["overlap"].values
    infinite, why = average.infinite(q, m)
    if infinite.any():
        raise InputError(f"`observable` must have a finite mean, but {why}")
    a, a_se = (None, None) if problem.trained is None else (data["trained"].values, data["trained_se"].values)
    mean, error = average(q, m, a)
    return mean, np.hypot(error, _moved(average, (q, m, a), (data["self_overlap_se"].values, data["overlap_se"].values, a_se)))


def _trained(problem: Problem, solution: Solution, observable: Callable, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Average over a training sample and its standard error, `(time,)` each.

    A path's `w` is a fresh sample's, whose average is known much better: the best multiple of its deviation is taken off.
    """
    paths = solution.sample_paths(PATHS, seed)
    trained, fresh = (_along(problem, observable, paths, name, solution.dataset) for name in ("r", "w"))
    known, known_se = _fresh(problem, solution.dataset, observable, seed)
    centred = fresh - fresh.mean(0)
    variance = (centred**2).sum(0)
    share = np.divide((centred * trained).sum(0), variance, out=np.zeros_like(variance), where=variance > 0)
    rest = trained - share * fresh
    return rest.mean(0) + share * known, np.hypot(rest.std(0, ddof=1) / np.sqrt(len(rest)), share * known_se)


def _trained_runs(problem: Problem, runs: Simulation, observable: Callable) -> tuple[np.ndarray, np.ndarray]:
    """Average over the training samples kept and its standard error, `(time,)` each."""
    paths = runs.kept("samples")
    values, repeat = _along(problem, observable, paths, "r", runs.dataset), paths["repeat"].values
    each = np.array([values[repeat == one].mean(0) for one in np.unique(repeat)])
    return each.mean(0), each.std(0, ddof=1) / np.sqrt(len(each))


def _along(problem: Problem, observable: Callable, paths: xr.Dataset, name: str, data: xr.Dataset) -> np.ndarray:
    """The observable of every path at every time of `data`, `(path, time)`."""
    with jax.enable_x64(True):
        y = labels_of(paths, problem.label, problem.k_star, problem.noise.shape)
        numbers = None if problem.trained is None else data["trained"].values
        return np.asarray(_path_program(_of_sample(problem, observable))(paths[name].values, paths["r_star"].values, y, numbers))


@lru_cache(maxsize=32)
def _path_program(observable: Callable) -> Callable:
    def along(r, r_star, y, numbers):
        seen = lambda a: y if a is None else Labelled(y, a)
        return jax.vmap(lambda at, a: observable(at, r_star, seen(a)))(r, numbers).astype(float)

    return jit(jax.vmap(along, (0, 0, 0, None)))


def _moved(average: FreshMean, means: tuple[Any, Any, Any], errors: tuple[Any, Any, Any]) -> np.ndarray:
    """How far the errors of the overlaps, and of what is trained along, move the average `(time,)`: each is moved both ways, the larger
    change counts."""
    (q, m, numbers), (q_se, m_se, numbers_se) = means, errors
    here = average.at(q, m, numbers)
    size, size_star = (np.sqrt(np.diagonal(c, axis1=-2, axis2=-1)) for c in (q, average.problem.rho))
    total = np.zeros(len(q))

    def add(se: np.ndarray, bound: np.ndarray, shifted: Callable[[np.ndarray], tuple[Any, Any, Any]]) -> None:
        if not (se > 0).any():
            return
        width = np.maximum(se, np.maximum(NUDGE * bound, 1e-12))
        changes = [np.abs(average.at(*shifted(sign * width)) - here) for sign in (1.0, -1.0)]
        total[:] += np.maximum(*changes) * se / width

    k, k_star = m.shape[1:]
    for a in range(k):
        for b in range(a, k):
            unit = np.zeros((k, k))
            unit[a, b] = unit[b, a] = 1.0
            add(q_se[:, a, b], size[:, a] * size[:, b], lambda step, unit=unit: (q + step[:, None, None] * unit, m, numbers))
        for j in range(k_star):
            unit = np.zeros((k, k_star))
            unit[a, j] = 1.0
            add(m_se[:, a, j], size[:, a] * size_star[j], lambda step, unit=unit: (q, m + step[:, None, None] * unit, numbers))
    if numbers is not None:
        for i, unit in enumerate(np.eye(numbers.shape[1])):
            size = np.maximum(np.abs(numbers[:, i]), NUMBER_FLOOR)
            add(numbers_se[:, i], size, lambda step, unit=unit: (q, m, numbers + step[:, None] * unit))
    return total


def _check(problem: Problem, result: Result, observable: Callable) -> xr.Dataset:
    if not isinstance(problem, Problem):
        raise refuse("problem", "be a sl.Problem", problem)
    if not isinstance(result, Result):
        raise refuse("result", "be what solve or simulate returned", result)
    if not callable(observable):
        given = "r, r_star and y" if problem.trained is None else "r, r_star, y and a"
        raise refuse("observable", f"be a function of {given}", observable, "sl.accuracy is one")
    data = result.dataset
    if (data.sizes["student"], data.sizes["teacher"]) != (problem.k, problem.k_star):
        found = Words(f"of {data.sizes['student']} and {data.sizes['teacher']}")
        raise refuse("result", f"be of {problem.k} student and {problem.k_star} teacher directions", found, "is it of this problem?")
    if problem.trained is not None and data.sizes.get("parameter") != len(problem.trained):
        found = Words(f"of {data.sizes.get('parameter', 0)}")
        raise refuse("result", f"be of {len(problem.trained)} numbers trained along", found, "is it of this problem?")
    _try(problem, observable)
    return data


def _try(problem: Problem, observable: Callable) -> None:
    """Try the observable on shapes, and for the accuracy whether labels are classes, so that mistakes get words."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        z = problem.noise_from_uniform(rng.random((64, math.prod(problem.noise.shape))))
        r_star = rng.standard_normal((64, problem.k_star))
        labels = jax.tree.map(np.asarray, over_samples(problem.labels)(r_star, z))
        called = _of_sample(problem, observable)
        try:
            shape = jax.eval_shape(called, np.zeros(problem.k), r_star[0], jax.tree.map(lambda part: part[0], labels)).shape
        except InputError:
            raise
        except Exception as e:
            numbers = "" if problem.trained is None else f" and a ({len(problem.trained)},)"
            must = f"map r ({problem.k},), r_star ({problem.k_star},) and what `label` returns{numbers} to a number with JAX operations"
            raise InputError(f"`observable` must {must}, but failed: {_first_line(e)}") from None
        _indices(problem, called, r_star, labels)
    if shape != ():
        raise refuse("observable", "return a number", Words(f"an array of shape {shape}"), "one call per entry")
    y = jax.tree.leaves(labels)[0]
    signs = y.ndim == 1 and bool((np.abs(y) == 1).all())
    one_hot = y.ndim == 2 and bool(np.isin(y, (0, 1)).all() and (y.sum(-1) == 1).all())
    if observable is accuracy and not (signs or one_hot):
        raise refuse("label", "be a class for the accuracy", y[0], CLASSES)


def _indices(problem: Problem, observable: Callable, r_star: np.ndarray, labels: Any) -> None:
    drawn = np.ones((len(r_star), problem.k)), r_star, labels
    told = missing_entry(observable, jax.tree.map(lambda part: jax.ShapeDtypeStruct(part.shape[1:], part.dtype), drawn))
    if told is not None and (asked := told(*drawn)):
        fix = f"r has k = {problem.k}, r_star has k_star = {problem.k_star}; JAX would take another one without a word"
        raise InputError(f"`observable` must ask for entries that there are, but asks for {asked} ({fix})")
