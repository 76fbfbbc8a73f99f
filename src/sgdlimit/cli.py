"""The command line. Nothing heavy is imported before a command runs, so that `--help` answers at once.

Exit codes: 0 done, 1 the computation failed, 2 the input is wrong, 130 interrupted; always with a sentence, never a traceback.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import __version__
from .errors import InputError, SolveError

if TYPE_CHECKING:
    from rich.console import Console

    from .report import Entry

app = typer.Typer(
    name="sgdlimit",
    help="Exact high-dimensional learning curves for stochastic gradient descent.",
    epilog="Example: sgdlimit run examples/quickstart.toml --out runs/quickstart",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

File = Annotated[
    Path, typer.Argument(metavar="FILE.toml", help="Settings: the problem, the dynamics, horizon and accuracy.", show_default=False)
]
Plugin = Annotated[
    Path | None, typer.Option(metavar="FILE.py", help="Python file with models of your own; the only code that is run.", show_default=False)
]


def spoken(command: Callable[..., None]) -> Callable[..., None]:
    """Turn what a command raises into a sentence on standard error and an exit code."""

    @functools.wraps(command)
    def told(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except InputError as e:
            _fail(str(e), 2)
        except KeyboardInterrupt:
            _fail("Interrupted; finished files are whole, and the same command continues from them.", 130)
        except (SolveError, MemoryError) as e:
            _fail(str(e) or "The computation ran out of memory (fewer features or directions need less).", 1)
        except BrokenPipeError:
            raise
        except OSError as e:
            _fail(f"A file could not be read or written: {e}", 1)
        except typer.Exit:
            raise
        except Exception as e:
            if os.environ.get("SGDLIMIT_DEBUG"):
                raise
            text = str(e).strip().splitlines()
            _fail(f"The computation failed: {type(e).__name__}: {text[0] if text else ''} (SGDLIMIT_DEBUG=1 shows where)", 1)

    return told


def _fail(sentence: str, code: int) -> None:
    print(f"sgdlimit: {sentence}", file=sys.stderr)
    raise typer.Exit(code)


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Show the version and stop.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit()


@app.command(epilog="Example: sgdlimit run examples/quickstart.toml --out runs/quickstart")
@spoken
def run(
    file: File,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Directory of the results; runs/NAME if not given.", show_default=False)
    ] = None,
    plugin: Plugin = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the results of an earlier run in DIR.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only say where the report is.")] = False,
) -> None:
    """Solve, simulate, compare; write NetCDF files, figures and one HTML report.

    A run that was interrupted continues from its finished files. Results of other settings are never mixed in or replaced without --force.
    """
    from rich.console import Console

    from . import config
    from . import run as runner
    from .folder import Folder

    runner.use_compilation_cache()
    job = config.read(file, plugin)
    runner.check(job)
    folder = Folder.open(out or Path("runs") / file.stem, job, force)
    console = Console(quiet=quiet, highlight=False)
    with _bars(console) as around:
        entries = runner.execute(job, folder, around)
    _tell(console, entries)
    print(f"Report: {folder.path / 'report.html'}")
    missed = [f"{entry.name}: {entry.theory.status}" for entry in entries if entry.theory and entry.theory.status.code == "inaccurate"]
    if missed:
        _fail(f"The accuracy asked for was not reached. {missed[0]}", 1)


@app.command(epilog="Example: sgdlimit check examples/quickstart.toml")
@spoken
def check(file: File, plugin: Plugin = None) -> None:
    """Check a settings file, and say what a run would do and take. Writes nothing."""
    from . import config
    from . import run as runner

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


@contextmanager
def _bars(console: Console) -> Iterator[Callable[[Any, bool], Any]]:
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


def _tell(console: Console, entries: list[Entry]) -> None:
    """Final values with errors, then each verdict, and every ending that is not simply done."""
    from rich.table import Table
    from rich.text import Text

    from .plot import panels
    from .report.page import finals

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


def main() -> None:
    """Entry point of `sgdlimit` and of `python -m sgdlimit`."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # being stopped cleans up as Ctrl-C does
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the compiler's own notes are not for the user of a command
    try:
        app()
    except KeyboardInterrupt:
        print("sgdlimit: Interrupted.", file=sys.stderr)
        raise SystemExit(130) from None
