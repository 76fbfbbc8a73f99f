"""Points to workers and back, on Dask: a cluster of this machine's cores, or any scheduler by its address."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..errors import InputError, SolveError, refuse
from .plan import Plan, Unit, versions
from .store import Store
from .work import compute, pack

if TYPE_CHECKING:
    from distributed import Client

CONNECT = "15s"  # for a scheduler to answer
# Dask watches itself for tasks of milliseconds, many times a second; with ours that costs more than it tells.
CALM = {
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.worker.profile.enabled": False,
}

Progress = Callable[["Tally"], object]


@dataclass
class Tally:
    """How far a sweep is: computations of all, in the store before, and how those ended that were written now."""

    total: int
    before: int
    ended: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    @property
    def stored(self) -> int:
        return self.before + self.ended.total()


@contextmanager
def cluster(scheduler: str | None, workers: int | None) -> Iterator[Client]:
    """A client of the scheduler at this address, or of a local cluster with so many workers (the cores there are, if None), each a process
    with one compute thread.

    Raises:
        InputError: no scheduler answers, or the local workers cannot start.
    """
    from dask import config
    from distributed import Client, LocalCluster

    for name in [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # what matters of it is told in words
    if scheduler is not None:
        if workers is not None:
            raise refuse("--workers", "be left out with a scheduler", workers, "its workers are started beside it")
        try:
            client = Client(scheduler, timeout=CONNECT, set_as_default=False)
        except (OSError, ValueError, TypeError) as e:
            reason = "nothing answers there" if isinstance(e, OSError) else str(e)
            raise refuse("--scheduler", "be the address of a running Dask scheduler", scheduler, reason) from None
        with client:
            yield client
        return
    if workers is not None and workers < 1:
        raise refuse("--workers", "be at least 1", workers)
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise InputError(
            '`sl.sweep` must be called under `if __name__ == "__main__":` in a script, but is called on import (workers import it)'
        )
    dashboard: Any = "127.0.0.1:0" if find_spec("bokeh") else None
    wanted: Any = {"n_workers": workers or cores(), "threads_per_worker": 1, "host": "127.0.0.1", "silence_logs": logging.CRITICAL}
    try:
        with config.set(CALM):
            local = LocalCluster(**wanted, dashboard_address=dashboard)
    except (OSError, RuntimeError) as e:
        raise SolveError(f"The workers did not start: {e}") from None
    with local, Client(local, set_as_default=False) as client:
        yield client


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def remaining(plan: Plan, store: Store) -> tuple[Tally, list[Unit]]:
    """What the store does not have, in the order in which to compute it."""
    finished = store.finished()
    todo = plan.in_order([unit for unit in plan.units() if unit not in finished])
    return Tally(len(finished) + len(todo), len(finished)), todo


def execute(plan: Plan, store: Store, client: Client, progress: Progress) -> Tally:
    """Compute what the store does not have, and write each result as it comes.

    Raises:
        SolveError: the scheduler is gone, or the store cannot be written any more. What is written stays.
        InputError: a worker has other versions.
    """
    from distributed import as_completed

    tally, todo = remaining(plan, store)
    progress(tally)
    values = [plan.design.at(unit.index) for unit in todo]
    futures = client.map(
        compute,
        [unit.kind for unit in todo],
        [unit.part for unit in todo],
        values,
        packed=pack(plan.shared),
        versions=versions(),
        pure=False,
    )
    of = dict(zip((future.key for future in futures), todo, strict=True))
    arriving = as_completed(futures, loop=client.loop)
    del futures  # results are let go as they are written
    for future in arriving:
        _take(future, of.pop(future.key), store, tally)
        progress(tally)
    return tally


def _take(future: Any, unit: Unit, store: Store, tally: Tally) -> None:
    from distributed import CancelledError, KilledWorker
    from distributed.comm.core import CommClosedError

    again = f"{tally.stored} of {tally.total} are in the store, and the same command continues from them"
    try:
        outcome = future.result()
    except (KilledWorker, MemoryError) as e:
        reason = "it ran out of memory" if isinstance(e, MemoryError) else "the workers that took it were killed"
        at = ", ".join(f"{name} = {value:g}" for name, value in store.plan.design.at(unit.index).items())
        tally.lost.append(f"{store.plan.parts[unit.part]}, {unit.kind}, at {at}: {reason}")
        return
    except (CancelledError, CommClosedError, TimeoutError):
        raise SolveError(f"The scheduler is gone: {again}.") from None
    try:
        store.write(unit, outcome)
    except OSError as e:
        raise SolveError(f"The store `{store.path}` cannot be written any more: {e.strerror or e}. When it can, {again}.") from None
    tally.ended[outcome.code] += 1
