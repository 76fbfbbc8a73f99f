"""One run from settings to report: solve, simulate, compare, draw, write."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from .. import plot
from ..learning.dynamics import MiniBatchGD, OnlineSGD
from ..results import Result, report
from ..results.compare import compare
from ..results.report import Entry
from ..simulate import simulate
from ..simulate.core import plan
from ..theory import solve
from ..theory.checks import check_theory
from ..theory.closed.discrete import clock_of
from ..version import __version__
from .config import Job, Part
from .folder import Folder, checkpoint_name
from .sections import within

Progress = Callable[[float, str], None]

DRAWING = ("matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "sgdlimit.show.interactive")  # what `write` reads first


@dataclass(frozen=True)
class Task:
    """One computation of a run: its name for people, its file, how to do it, and the file of what is half done, if it keeps one."""

    name: str
    file: str
    compute: Callable[[Progress], Any]
    checkpoint: Path | None = None


def check(job: Job) -> int:
    """What would only come to light later: refusals of theory and simulations. Returns the bytes of memory the largest one takes."""
    for i, part in enumerate(job.parts):
        check_theory(job.problem, part.dynamics)
        if isinstance(part.dynamics, MiniBatchGD):
            with within(("dynamics", i)):
                clock_of(job.problem, part.dynamics, float(job.times[-1]))
    spec = job.settings.simulation
    if spec is None:
        return 0
    with within(("simulation",)):
        return max(plan(job.problem, part.dynamics, **_simulation(job))[2] for part in job.parts)


def tasks(job: Job, part: Part, folder: Folder) -> list[Task]:
    """Theory first; it is the quick one."""
    run = job.settings.run
    in_parts = not isinstance(part.dynamics, (OnlineSGD, MiniBatchGD))
    checkpoint = folder.path / checkpoint_name(part) if in_parts else None
    simulation = _simulation(job)
    average = simulation.get("average")

    def theory(progress: Progress) -> Any:
        """Of the weights, or of their averages where runs have these."""
        weights = solve(
            job.problem,
            part.dynamics,
            run.horizon,
            rtol=run.rtol,
            seed=run.seed,
            times=job.times,
            method="auto" if average is None else "kernels",
            on_failure="return",
            progress=progress,
            checkpoint=checkpoint,
            budget=None if isinstance(part.dynamics, MiniBatchGD) else run.budget,
        )
        return weights if average is None else weights.averaged(average)

    found = [
        Task(
            f"{part.name}, theory",
            f"theory-{part.slug}.nc",
            theory,
            checkpoint,
        )
    ]
    if job.settings.simulation is not None:
        found.append(
            Task(
                f"{part.name}, real runs",
                f"simulation-{part.slug}.nc",
                lambda progress: simulate(job.problem, part.dynamics, progress=progress, **simulation),
            )
        )
    return found


def _simulation(job: Job) -> dict[str, Any]:
    run, spec = job.settings.run, job.settings.simulation
    return {"horizon": run.horizon, "seed": run.seed, "times": job.times, **(spec.arguments() if spec else {})}


def execute(job: Job, folder: Folder, around: Callable[[Task, bool], Any]) -> list[Entry]:
    """Compute what is missing and write everything.

    Arguments:
        around: `around(task, finished)` is a context manager that gives the task's progress callback; `finished` tells that its
            result is in the directory already.
    """
    folder.begin()
    reader = threading.Thread(target=_read, daemon=True)
    entries = []
    for part in job.parts:
        results: list[Any] = []
        for task in tasks(job, part, folder):
            results.append(_done(task, folder, around))
            if not reader.ident:
                reader.start()  # while real runs compute, which leave Python to others
        theory, runs = results if len(results) == 2 else (results[0], None)
        entries += _entries(job, part, theory, runs)
    write(job, folder.path, entries)
    return entries


def _read() -> None:
    with suppress(Exception):  # whoever draws will be told
        for name in DRAWING:
            import_module(name)


def _entries(job: Job, part: Part, theory: Any, runs: Any) -> list[Entry]:
    """What is told of a dynamics."""
    name = f"{part.name}, averaged weights" if "average" in theory.dataset.attrs else part.name
    return [Entry(name, theory)] if runs is None else [Entry(name, theory, runs, compare(theory, runs))]


def _done(task: Task, folder: Folder, around: Callable[[Task, bool], Any]) -> Result:
    found = folder.finished(task.file)
    with around(task, found is not None) as progress:
        if found is None:
            found = task.compute(progress)
            folder.keep(task.file, found)
        if task.checkpoint is not None:
            task.checkpoint.unlink(missing_ok=True)
    return found


def write(job: Job, path: Path, entries: list[Entry]) -> None:
    """Pictures and page."""
    figure = plot.curves({entry.name: (entry.theory, entry.runs) for entry in entries})
    for name in ("curves.png", "curves.svg"):
        plot.save(figure, path / name)
    footer = f"sgdlimit {__version__}, settings {job.fingerprint}."
    report.write(path / "report.html", job.title, entries, job.settings.model_dump(exclude={"title"}), footer)
