"""What a worker does: one computation, from a recipe and a point to arrays. Nothing heavy is imported before it is needed, and
settings that only a fresh process can take are made first."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import pickle
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..errors import InputError, SolveError, quiet_compiler

if TYPE_CHECKING:
    import numpy as np

    from .plan import Shared

XLA_FLAGS = "--xla_cpu_multi_thread_eigen=false"
# Of glibc's mallopt: how much freed memory to keep, from which size on to ask the system for it apart, and for how many heaps.
KEEP = {"M_TRIM_THRESHOLD": (-1, 2**28), "M_MMAP_THRESHOLD": (-3, 2**25), "M_ARENA_MAX": (-8, 1)}
LONGEST = 400  # characters of a message that the store keeps


@dataclass(frozen=True)
class Outcome:
    """How a computation ended, and its curves on the sweep's grid (none if it failed): `code` is "done", "inaccurate", "diverged" or
    "failed"; seconds of the wall clock and of the CPU."""

    code: str
    message: str
    horizon: float
    seconds: float
    cpu_seconds: float
    curves: dict[str, np.ndarray] = field(default_factory=dict)


def pack(shared: Shared) -> bytes:
    """What all points share, as bytes for the workers. Functions travel by value."""
    import cloudpickle

    return cloudpickle.dumps(shared)


def point_seed(values: Mapping[str, float | int], seed: int) -> int:
    """The seed of a point: it depends on the point's own values and the sweep's seed, on nothing else."""
    text = json.dumps([seed, sorted((name, repr(value)) for name, value in values.items())])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def prepare() -> None:
    """One thread to compute and to compile, memory that is used again, and a quiet log, as programs are shared with the workers beside only
    then (`compiling.keep_programs`); before JAX starts, or some of it has no effect."""
    os.environ.setdefault("SGDLIMIT_THREADS", "1")
    quiet_compiler()
    os.environ.setdefault("NPROC", "1")  # threads of XLA's pool
    if XLA_FLAGS not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {XLA_FLAGS}".strip()
    _keep_memory()
    _compile_on_one_thread()


def _keep_memory() -> None:
    """Let freed memory be used again. Dask starts its workers with a setting that gives every large array back to the system at once, and a
    solve, which makes thousands of them, then spends half its time on new pages."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    for option, value in KEEP.values():
        mallopt(option, value)


def _compile_on_one_thread() -> None:
    """XLA compiles on as many threads as there are cores when it does so for the first time: show it one of them."""
    if not hasattr(os, "sched_setaffinity"):
        return
    import jax

    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})
    try:
        jax.numpy.add(0.0, 1.0)
    finally:
        for thread in os.listdir("/proc/self/task"):  # those that were begun meanwhile, too
            with suppress(OSError):
                os.sched_setaffinity(int(thread), everywhere)


def compute(kind: str, part: int, values: dict[str, float | int], packed: bytes, versions: str) -> Outcome:
    """One computation: theory or simulation, of which dynamics, at which point. What fails because of its settings is an outcome.

    Raises:
        InputError: this worker has other versions of what the numbers depend on.
        MemoryError: there is too little here; elsewhere there may be enough.
    """
    shared = unpacked(packed, versions)
    began = time.perf_counter(), time.process_time()
    code, message, horizon, curves = _outcome(shared, kind, part, values)
    return Outcome(code, message[:LONGEST], horizon, time.perf_counter() - began[0], time.process_time() - began[1], curves)


@lru_cache(maxsize=4)
def unpacked(packed: bytes, wanted: str) -> Any:
    """What `packed` holds, once a process, which it prepares."""
    prepare()
    from .plan import versions

    if versions() != wanted:
        raise InputError(f"`--scheduler` must have workers with {wanted}, but one has {versions()} (install the same there)")
    return pickle.loads(packed)


def _outcome(shared: Shared, kind: str, part: int, values: dict[str, float | int]) -> tuple[str, str, float, dict[str, np.ndarray]]:
    import numpy as np

    horizon = float("nan")
    try:
        work = shared.recipe.build(values, part, shared.epochs)
        horizon, times = work.horizon, shared.times(work)
        seed = point_seed(values, shared.seed)
        with np.errstate(all="ignore"):
            result = _solved(work, times, seed) if kind == "theory" else _simulated(work, times, seed)
    except SolveError as e:  # the weights run away before there is a curve
        return "diverged", f"diverged: {e}", horizon, {}
    except MemoryError:
        raise
    except Exception as e:
        if "RESOURCE_EXHAUSTED" in str(e):
            raise MemoryError(str(e)) from None
        told = str(e) if isinstance(e, InputError) else f"{type(e).__name__}: {(str(e).strip().splitlines() or [''])[0]}"
        return "failed", f"failed: {told}", horizon, {}
    return result.status.code, result.status.message, horizon, _on_grid(result.dataset, times)


def _solved(work: Any, times: np.ndarray, seed: int) -> Any:
    from ..theory import solve

    return solve(work.problem, work.dynamics, work.horizon, rtol=work.rtol, seed=seed, times=times, on_failure="return")


def _simulated(work: Any, times: np.ndarray, seed: int) -> Any:
    from ..simulate import simulate

    return simulate(work.problem, work.dynamics, work.horizon, seed=seed, times=times, **work.simulation)


def _on_grid(dataset: Any, times: np.ndarray) -> dict[str, np.ndarray]:
    """The curves at the times asked for; NaN after those that a training which diverges did not reach."""
    import numpy as np

    from ..results.derived import DERIVED
    from ..results.schema import ALONG, CURVES

    met = np.isclose(times[:, None], dataset["time"].values, rtol=1e-12, atol=0.0)
    rows, columns = np.nonzero(met)
    curves = {}
    for name in CURVES | ALONG | DERIVED:
        for full in (name, f"{name}_se"):
            if full in dataset:
                values = dataset[full].values
                curves[full] = np.full((len(times), *values.shape[1:]), np.nan)
                curves[full][rows] = values[columns]
    return curves
