"""What a command shows in the terminal while it computes, and the table at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from .results.report import Entry


@dataclass(frozen=True)
class Named:
    """What a bar needs to know of a task."""

    name: str


@contextmanager
def bars(console: Console) -> Iterator[Callable[[Any, bool], Any]]:
    """A bar with the time left for each computation; one line each where there is no terminal."""
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.fields[name]}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.description}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        @contextmanager
        def around(task: Any, finished: bool) -> Iterator[Callable[[float, str], None]]:
            bar = progress.add_task("", name=escape(f"{task.name:<24}"), total=1.0)
            yield lambda fraction, text: progress.update(bar, completed=min(fraction, 1.0), description=escape(text))
            progress.update(bar, completed=1.0, description="was there already" if finished else "done")
            if not console.is_terminal:
                console.print(f"{task.name}: {'was there already' if finished else 'done'}", markup=False)

        yield around


def tell(console: Console, entries: list[Entry]) -> None:
    """Final values with errors, then each verdict, and every ending that is not simply done."""
    from rich.table import Table
    from rich.text import Text

    from .results.panels import panels
    from .results.report import finals

    shown = panels({entry.name: (entry.theory, entry.runs) for entry in entries})
    shown = shown[: max((console.width - 26) // 13, 1)]
    table = Table(box=None, pad_edge=False, header_style="bold", caption="At the end; in brackets the standard error of the last digits.")
    for i, heading in enumerate(("", *(panel.text.replace("self-overlap ", "").replace("overlap ", "") for panel in shown))):
        table.add_column(Text(heading), justify="left" if i == 0 else "right", no_wrap=True)
    for entry in entries:
        for row in finals(entry, shown, brief=True):
            table.add_row(*(Text(cell) for cell in (row["name"], *row["cells"])))
    console.print()
    console.print(table)
    console.print()
    for entry in entries:
        if entry.comparison is not None:
            colour = "green" if entry.comparison.agree else "red"
            console.print(Text(f"{entry.name}: ", style=f"bold {colour}").append(entry.comparison.verdict, style="not bold default"))
        for kind, result in (("theory", entry.theory), ("real runs", entry.runs)):
            if result is not None and result.status.code != "done":
                console.print(Text(f"{entry.name}, {kind}: {result.status}", style="yellow"))
    console.print()


@contextmanager
def points(console: Console) -> Iterator[Callable[[Any], None]]:
    """A bar with the points done, their rate and the time left; a line for every tenth where there is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.description}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, speed_estimate_period=120) as shown:
        bar, began, told = shown.add_task("", total=None, rate=""), time.monotonic(), 0

        def progress(tally: Any) -> None:
            nonlocal told
            done = tally.ended.total()
            rate = done / max(time.monotonic() - began, 1e-9)
            words = ", ".join(f"{count} {code}" for code, count in tally.ended.most_common() if code != "done")
            shown.update(bar, total=tally.total, completed=tally.stored, rate=f"{rate:.3g}/s" if done else "", description=words)
            if not console.is_terminal and done and 10 * tally.stored // tally.total > told:
                told = 10 * tally.stored // tally.total
                console.print(f"{tally.stored} of {tally.total}, {rate:.3g} a second", markup=False)

        yield progress


# --- what a file asks for ------------------------------------------------------------------------------------------------


def describe_run(file: Path, plugin: Path | None) -> None:
    """What `sgdlimit run` would do."""
    from .settings import config
    from .settings import run as runner

    job = config.read(file, plugin)
    memory = runner.check(job)
    spec = job.settings.simulation
    print(f"{file} is in order: {job.title}")
    print(f"  problem     {job.settings.problem.model}, {job.problem.k} student and {job.problem.k_star} teacher direction(s)")
    if job.problem.spectrum is not None:
        top = job.problem.spectrum.eigenvalues.max()
        print(f"  spectrum    {len(job.problem.spectrum)} eigenvalues, the largest {top:.3g} times the mean")
    if job.problem.kinks:
        print("  kinks       the gradient of the loss jumps; the theory follows paths on both sides of each kink")
    print(f"  dynamics    {', '.join(part.name for part in job.parts)}")
    print(
        f"  time        0 to {job.settings.run.horizon:g}, {len(job.times)} output times, errors below {job.settings.run.rtol:g} of scale"
    )
    if spec is not None:
        print(f"  real runs   {spec.repeats} at d = {spec.n_features}, {memory / 2**20:.0f} MiB of memory")


def describe_sweep(file: Path, plugin: Path | None) -> None:
    """What `sgdlimit sweep` would do."""
    from .sweep import plan as plans

    plan = plans.read(file, plugin)
    print(f"{file} is in order: {plan.title}")
    for axis in plan.design.axes:
        print(f"  {axis.name:<15} {len(axis.values)} values from {min(axis.values):g} to {max(axis.values):g}, {axis.scale}")
    print(f"  points          {plan.design.size} ({plan.design.kind})")
    for kind in plan.kinds:
        print(f"  {kind:<15} {', '.join(name for name, wanted in zip(plan.parts, plan.wanted[kind], strict=True) if wanted)}")


def describe_tuning(file: Path, plugin: Path | None) -> None:
    """What `sgdlimit tune` would do."""
    from .tune import file as tuning

    job = tuning.read(file, plugin)
    print(f"{file} is in order: {job.title}")
    print(f"  objective       {job.spec.objective.replace('_', ' ')}, at {'the end' if job.spec.at == 'end' else 'its best time'}")
    print(f"  trained         {job.name}, {job.clock}")
    if job.spec.knots is not None:
        print(f"  schedule        {job.spec.knots} knots{', and rivals' if job.spec.rivals else ''}")
        return
    for axis in job.axes:
        print(f"  {axis.name:<15} from {axis.low:g} to {axis.high:g}, {axis.scale}")
