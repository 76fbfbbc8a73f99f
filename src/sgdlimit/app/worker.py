"""The process that computes for the explorer: jobs come in through a pipe, answers and progress go out as they are known.

A theory job gives its first, coarse answer before any job sharpens its own, so that whoever moves a slider waits for nobody. A job that
is cancelled ends at the next node of its march. Compiled programs stay warm and are shared by all jobs.
"""

from __future__ import annotations

import gc
import heapq
import itertools
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, cast

from ..errors import InputError, SolveError, quiet_compiler
from ..starting import reading, without_dask

COARSE, FINE = 0, 1  # what is done first
THREADS = 3  # of which at least one is left to coarse answers
KEPT = 24  # solutions and simulations whose laws can be asked for
TELL = 0.15  # seconds between two reports of progress
MEMORY = 1.4 * 2**30  # bytes of this process beyond which compiled programs are let go
GROWTH = 2**29  # bytes more, after that, for it to happen again
POINTS = 41  # output times


class Cancelled(Exception):
    """The job is not wanted any more."""


@dataclass
class Job:
    """One job and how far it is. `asked` has its `number`, `kind` (one of `STEPS`), `settings` and `key`."""

    asked: dict[str, Any]
    tell: Any
    cancelled: bool = False
    steps: Iterator[bool] | None = None
    told: float = 0.0
    priority: int = field(default=COARSE)

    @property
    def number(self) -> int:
        return self.asked["number"]

    def watch(self) -> None:
        if self.cancelled:
            raise Cancelled

    def progress(self, fraction: float, text: str) -> None:
        self.watch()
        now = time.monotonic()
        if now - self.told > TELL:
            self.told = now
            self.tell(self.number, "progress", (fraction, text))


def run(connection: Connection) -> None:
    """Serve the pipe until it is closed."""
    quiet_compiler()
    without_dask()
    with reading():
        from .. import compiling
        from ..settings import config  # noqa: F401
        from ..theory import shapes, solve  # noqa: F401
    shapes.few()
    compiling.hurry()
    Worker(connection).serve()


class Worker:
    """Threads that take jobs, coarse answers first."""

    def __init__(self, connection: Connection):
        self.connection, self.sending = connection, threading.Lock()
        self.jobs: dict[int, Job] = {}
        self.waiting: list[tuple[int, int, Job]] = []
        self.order, self.fine = itertools.count(), 0
        self.change = threading.Condition()
        self.kept: OrderedDict[str, Any] = OrderedDict()
        self.warm: set[str] = set()
        self.compiling = threading.Lock()
        self.most: float = MEMORY

    def serve(self) -> None:
        self.tell(0, "ready")
        for _ in range(THREADS):
            threading.Thread(target=self.work, daemon=True).start()
        while True:
            order, asked = "stop", cast(Any, None)
            with suppress(EOFError, OSError):  # nobody is there any more
                order, asked = self.connection.recv()
            if order == "stop":
                os._exit(0)  # threads in the middle of a job are not waited for
            with self.change:
                if order == "do":
                    job = self.jobs[asked["number"]] = Job(asked, self.tell)
                    self.enter(job)
                elif asked in self.jobs:
                    self.jobs[asked].cancelled = True

    def tell(self, number: int, what: str, value: Any = None) -> None:
        with self.sending:
            try:
                self.connection.send((number, what, value))
            except OSError:
                os._exit(0)

    def enter(self, job: Job) -> None:
        heapq.heappush(self.waiting, (job.priority, next(self.order), job))
        self.change.notify()

    def take(self) -> Job:
        """The next job, when there is one that may be done now."""
        with self.change:
            while not (self.waiting and (self.waiting[0][0] == COARSE or self.fine < THREADS - 1)):
                self.change.wait()
            job = heapq.heappop(self.waiting)[2]
            self.fine += job.priority == FINE
            return job

    def work(self) -> None:
        import numpy as np

        while True:
            job = self.take()
            priority, more = job.priority, False
            try:
                job.watch()
                if job.steps is None:
                    job.steps = STEPS[job.asked["kind"]](self, job)
                # Settings of a thread do not go into the steps: another thread may take the next one.
                with self.alone(job), np.errstate(all="ignore"):
                    more = next(job.steps, False)
            except Cancelled:
                self.tell(job.number, "cancelled")
            except Exception as e:
                self.tell(job.number, "failed", words(e))
            with self.change:
                self.fine -= priority == FINE
                if more:
                    job.priority = FINE
                    self.enter(job)
                else:
                    job.steps = None
                    self.jobs.pop(job.number, None)
                self.change.notify()
            if not more:
                with suppress(Exception):  # a thread that ends would take others' answers with it
                    self.tidy()

    @contextmanager
    def alone(self, job: Job) -> Iterator[None]:
        """Compilation does not go faster beside another one: a dynamics of a model seen for the first time waits for others of its kind."""
        asked = job.asked["settings"]
        kinds = [(one["kind"], one.get("optimizer", {}).get("kind")) for one in asked["dynamics"]]
        switches = [value for value in asked["problem"].get("parameters", {}).values() if isinstance(value, bool)]
        name = f"{job.asked['kind']} {asked['problem']['model']} {switches} {kinds}"
        if name in self.warm or job.priority != COARSE:
            yield
            return
        with self.compiling:
            job.watch()
            yield
            self.warm.add(name)

    def keep(self, key: str, result: Any) -> None:
        with self.change:
            self.kept[key] = result
            self.kept.move_to_end(key)
            while len(self.kept) > KEPT:
                self.kept.popitem(last=False)

    def tidy(self) -> None:
        """Many different problems leave many programs behind. Not all memory comes back, so the next time is not before it has grown."""
        if resident() > self.most and not self.jobs:
            import jax

            self.kept.clear()
            jax.clear_caches()
            gc.collect()
            self.most = max(MEMORY, resident() + GROWTH)


def resident() -> int:
    """Bytes of memory that this process takes, where the system tells."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def words(e: Exception) -> str:
    """What went wrong, as a sentence for the page."""
    if isinstance(e, InputError | SolveError):
        return f"{e}."
    if isinstance(e, MemoryError) or "RESOURCE_EXHAUSTED" in str(e):
        return "There is too little memory for this (fewer features, a shorter horizon or a larger step need less)."
    return f"The computation failed: {type(e).__name__}: {(str(e).strip().splitlines() or [''])[0][:200]}"


# --- what there is to do: each yields whether it goes on ------------------------------------------------------------------------


def _job(settings: dict[str, Any]) -> tuple[Any, Any, Any]:
    """The settings, checked as those of a file, the problem with shared programs, and the dynamics of the only part."""
    from ..settings import config
    from .shared import carried

    read = config._settings(settings)
    problem = carried(config._problem(read.problem, None))
    (part,) = config._parts(read.dynamics)
    return read, problem, part.dynamics


def _of(result: Any, job: Job) -> Any:
    """The result, which says what settings it is of."""
    result.dataset.attrs["of"] = job.asked.get("of", job.asked["key"])
    return result


def _solutions(job: Job) -> Iterator[Any]:
    """What theory knows as it goes on."""
    import numpy as np

    from ..learning.dynamics import SGD
    from ..theory.solve import refinements

    settings, problem, dynamics = _job(job.asked["settings"])
    run = settings.run
    times = np.linspace(0.0, run.horizon, POINTS)
    # From node to node one program serves all steps and horizons, which a jump's does not.
    method = "paths" if isinstance(dynamics, SGD) and dynamics.sampling == "replacement" else "auto"
    yield from refinements(problem, dynamics, run.horizon, run.rtol, run.seed, times, method, job.progress, job.watch)


def _theory(worker: Worker, job: Job) -> Iterator[bool]:
    last = None
    for solution in _solutions(job):
        last = _of(solution, job)
        if solution.status.code == "inaccurate":
            job.tell(job.number, "coarse", last)
            yield True
    worker.keep(job.asked["key"], last)
    job.tell(job.number, "answer", last)


def _simulation(worker: Worker, job: Job) -> Iterator[bool]:
    import numpy as np

    from ..simulate.core import trainings

    settings, problem, dynamics = _job(job.asked["settings"])
    run = settings.run
    job.priority = FINE
    yield True
    made = None
    for made in trainings(
        problem, dynamics, run.horizon, seed=run.seed + 1, times=np.linspace(0.0, run.horizon, POINTS), progress=job.progress,
        **settings.simulation.arguments(),
    ):  # fmt: skip
        job.tell(job.number, "coarse", _of(made(), job))
        yield True
    assert made is not None
    runs = _of(made(), job)
    worker.keep(runs.dataset.attrs["of"], runs)
    job.tell(job.number, "answer", runs)


def _laws(worker: Worker, job: Job) -> Iterator[bool]:
    """Pictures of the laws behind answers given before: densities of theory, histograms of real runs where these are named too."""
    from .laws import pictures

    key, named = job.asked["key"], job.asked.get("runs")
    yield from _again(worker, job, key)
    runs = worker.kept.get(named) if named else None
    job.tell(job.number, "answer", {**pictures(worker.kept[key], runs), "runs": runs is not None})


def _average(worker: Worker, job: Job) -> Iterator[bool]:
    """The curves of averaged weights, of the answer that was given `from` the same settings without the average."""
    yield from _again(worker, job, job.asked["from"])
    average = _job(job.asked["settings"])[0].simulation.arguments()["average"]
    job.tell(job.number, "answer", _of(worker.kept[job.asked["from"]].averaged(average), job))


def _again(worker: Worker, job: Job, key: str) -> Iterator[bool]:
    """After all coarse answers: have the theory of this key, which is solved again if it has been let go."""
    job.priority = FINE
    yield True
    if key not in worker.kept:
        for solution in _solutions(job):  # noqa: B007 the last one counts
            yield True
        worker.keep(key, solution)


STEPS = {"theory": _theory, "average": _average, "simulation": _simulation, "laws": _laws}
