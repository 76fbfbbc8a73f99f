"""Many problems at once, on Dask: grids, lists and random designs over the numbers of one base, in one Zarr store."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["sweep"]


def sweep(
    base: str | os.PathLike[str] | Mapping[str, Any],
    axes: Mapping[str, Any] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    design: Literal["grid", "list", "random", "latin_hypercube"] | None = None,
    points: int | None = None,
    epochs: float | None = None,
    theory: bool | list[str] | None = None,
    simulation: bool | list[str] | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    plugin: str | os.PathLike[str] | None = None,
    progress: Callable[[float, str], object] | None = None,
) -> xr.Dataset:
    """Solve, simulate or both at many points, and gather the curves in one dataset.

        sl.sweep({"problem": problem, "dynamics": sl.SGD(1.5), "run": {"horizon": 4.0, "rtol": 0.03}},
                 axes={"dynamics.step": {"from": 0.1, "to": 3.0, "points": 20, "scale": "log"}, "problem.sample_ratio": [0.5, 1.0, 2.0]})

    Arguments:
        base: a TOML file, its tables as a dict, or a dict of a `problem`, its `dynamics` (one, a list, or `{name: dynamics}`), `run`
            (`horizon` in time `t`, `rtol`, `seed`, `times`) and `simulation` (`n_features`, `repeats`, ...), if there are to be real runs.
        axes: for each field that varies, by its dotted name, a list of values or `{"from", "to", "points", "scale"}`. A file may have them.
        out: directory of the Zarr store, made if it does not exist. The same call again continues where an earlier one stopped; without a
            directory the dataset is in memory alone.
        design: "grid" (all combinations, a dimension each), "list" (first values, second values, ...), "random" or "latin_hypercube"
            (`points` drawn between the axes' ends). All but a grid have the one dimension `point`.
        epochs: train every point so many epochs, in place of a common horizon. An epoch lasts `step * sample_ratio`.
        theory, simulation: whether, or the names of the dynamics for which. Real runs are done where `simulation` settings are given.
        scheduler: address of a Dask scheduler; by default the workers are processes of this machine, as many as `workers` or cores.
        plugin: a Python file with models of one's own, for a base of settings.
        progress: called with (fraction done, what is done).

    Returns:
        Dataset over `dynamics` (where there are several), the axes and `time` (`epoch` with epochs; `fraction` where `run.horizon` varies):
        curves with their standard errors, `status_code` and `status`, and the measured `seconds` and `cpu_seconds`; those of real runs with
        `runs_` before their names. A computation that failed or diverged has its words in `status`, and NaN where there is nothing. A
        point's random numbers depend on its values and the seed alone.

    Raises:
        InputError: settings are wrong, or `out` holds another sweep.
        SolveError: the scheduler is gone, or points could not be computed for want of memory; what is done is in the store.
    """
    import xarray as xr

    from ..errors import InputError
    from . import plan as plans

    options = {"design": design, "points": points, "epochs": epochs, "theory": theory, "simulation": simulation}
    if isinstance(base, str | os.PathLike):
        plan = plans.read(Path(base), None if plugin is None else Path(plugin), axes, **options)
    elif axes is None and not (isinstance(base, Mapping) and "sweep" in base):
        raise InputError('`axes` must be given, but is missing (such as {"problem.sample_ratio": [0.5, 1.0, 2.0]})')
    else:
        plan = plans.from_base(base, axes, None if plugin is None else Path(plugin), **options)
    if out is not None:
        _fill(plan, out, scheduler, workers, progress)
        return xr.open_zarr(out)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sweep.zarr"
        _fill(plan, path, scheduler, workers, progress)
        with xr.open_zarr(path) as opened:
            return opened.load()


def _fill(plan: Any, out: Any, scheduler: str | None, workers: int | None, progress: Any) -> None:
    from ..errors import SolveError
    from .engine import cluster, execute, remaining
    from .store import Store

    store = Store(out, plan)
    try:
        tell = lambda tally: progress and progress(tally.stored / tally.total, f"{tally.stored} of {tally.total} done")
        tally, todo = remaining(plan, store)
        if todo:
            with cluster(scheduler, workers) as client:
                tally = execute(plan, store, client, tell)
    finally:
        store.close()
    if tally.lost:
        raise SolveError(f"{len(tally.lost)} computations are missing; the same call tries them again. {tally.lost[0]}")
