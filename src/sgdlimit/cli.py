"""The command line. Nothing heavy is imported before a command runs, so that `--help` answers at once.

Exit codes: 0 done, 1 the computation failed, 2 the input is wrong, 130 interrupted; always with a sentence, never a traceback.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from .errors import InputError, SolveError, quiet_compiler
from .terminal import Named, bars, describe_run, describe_sweep, describe_tuning, points, tell
from .version import __version__

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
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Directory of the results; runs/NAME if not given.", show_default=False)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only say where the report is.")]


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
    out: Out = None,
    plugin: Plugin = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the results of an earlier run in DIR.")] = False,
    quiet: Quiet = False,
) -> None:
    """Solve, simulate, compare; write NetCDF files, figures and one HTML report.

    A run that was interrupted continues from its finished files. Results of other settings are never mixed in or replaced without --force.
    """
    from .starting import reading, without_dask

    if plugin is None:
        without_dask()
    with reading():
        from rich.console import Console

        from .settings import config
        from .settings import run as runner
        from .settings.folder import Folder

    job = config.read(file, plugin)
    runner.check(job)
    folder = Folder.open(out or Path("runs") / file.stem, job, force)
    console = Console(quiet=quiet, highlight=False)
    with bars(console) as around:
        entries = runner.execute(job, folder, around)
    tell(console, entries)
    print(f"Report: {folder.path / 'report.html'}")
    missed = [f"{entry.name}: {entry.theory.status}" for entry in entries if entry.theory and entry.theory.status.code == "inaccurate"]
    if missed:
        _fail(f"The accuracy asked for was not reached. {missed[0]}", 1)


@app.command(epilog="Example: sgdlimit check examples/quickstart.toml")
@spoken
def check(file: File, plugin: Plugin = None) -> None:
    """Check a settings file, and say what a run, a sweep or a tuning would do and take. Writes nothing."""
    from .settings import config

    tables = config.parse(file)[0]
    (describe_tuning if "tune" in tables else describe_sweep if "sweep" in tables else describe_run)(file, plugin)


@app.command(epilog="Example: sgdlimit recommend data.csv --target price --loss squared --verify")
@spoken
def recommend(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="CSV, Parquet or NumPy file, a row a sample.", show_default=False)],
    target: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The column of labels; without names a number, from 1, or -1, the last.", show_default=False),
    ] = None,
    loss: Annotated[str, typer.Option(help="logistic for two classes, squared for numbers.")] = "logistic",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Directory of the page and the numbers; recommend/NAME if not given.", show_default=False),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Also train for real on three quarters of the data, and show both.")] = False,
    backend: Annotated[str, typer.Option(help="What trains: torch, numpy, sklearn, or auto, torch where it is installed.")] = "auto",
    max_epochs: Annotated[int, typer.Option(help="Most passes through the data.")] = 100,
    standardise: Annotated[
        bool, typer.Option("--standardise/--centre", help="Divide columns by their standard deviation, or only centre.")
    ] = True,
    theory: Annotated[bool, typer.Option("--theory", help="Also solve the limit's equations at the recommended step.")] = False,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    separator: Annotated[
        str | None,
        typer.Option(metavar="C", help="Between fields: a character, tab or blank; found out if not given.", show_default=False),
    ] = None,
    decimal: Annotated[
        str | None, typer.Option(metavar="C", help="Before decimals: . or a comma; found out if not given.", show_default=False)
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the text, such as latin-1; found out if not given.", show_default=False)
    ] = None,
    header: Annotated[
        bool | None,
        typer.Option("--header/--no-header", help="Whether the first line holds names; found out if not given.", show_default=False),
    ] = None,
    missing: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", help="Also marks a missing value, such as -999; may be repeated.", show_default=False),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Use it, though it looks like a row number or a copy; may be repeated.", show_default=False),
    ] = None,
    drop: Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="Leave it out; may be repeated.", show_default=False)] = None,
) -> None:
    """Learning rate, batch size and stopping time for a linear model on your data, before any training, and how far to trust them."""
    import json

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from .files import replacing
    from .recommend import recommend as ask

    reading = {"separator": separator, "decimal": decimal, "encoding": encoding, "header": header, "missing": missing or ()}
    console = Console(highlight=False)
    columns = (TextColumn("recommend"), BarColumn(bar_width=24), TimeElapsedColumn(), TextColumn("[dim]{task.description}"))
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task("", total=1.0)
        told = lambda fraction, text: progress.update(bar, completed=fraction, description=text)
        found = ask(data, target, loss, max_epochs=max_epochs, standardise=standardise, verify=verify, backend=backend, theory=theory,
                    seed=seed, keep=keep or (), drop=drop or (), reading=reading, progress=told)  # fmt: skip
    folder = out or Path("recommend") / data.stem
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "numbers.json") as temporary:
        temporary.write_text(json.dumps(found.json(), indent=1), encoding="utf-8")
    found.save(folder / "report.html")
    console.print(found.table())
    console.print()
    print(f"Report: {folder / 'report.html'}")


@app.command(epilog="Example: sgdlimit sweep examples/phase_diagram.toml --out runs/phase_diagram.zarr --workers 2")
@spoken
def sweep(
    file: File,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR.zarr", help="The store of the results; runs/NAME.zarr if not given.", show_default=False)
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="A running Dask scheduler, such as tcp://host:8786; this machine if not given.", show_default=False
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Workers on this machine; one per core if not given.", show_default=False)
    ] = None,
    plugin: Plugin = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only say where the store is.")] = False,
) -> None:
    """Solve or simulate at every point of the file's [sweep] and keep the curves in one Zarr store.

    The store can be read while it grows. A sweep that was interrupted or killed continues with the same command, and gives the same bits.
    """
    from rich.console import Console

    from .sweep import plan as plans
    from .sweep.engine import cluster, execute, remaining
    from .sweep.store import Store

    plan = plans.read(file, plugin)
    path = out or Path("runs") / f"{file.stem}.zarr"
    store = Store(path, plan)
    console = Console(quiet=quiet, highlight=False)
    try:
        tally, todo = remaining(plan, store)
        if todo:
            with cluster(scheduler, workers) as client:
                if client.dashboard_link:
                    console.print(f"Dashboard: {client.dashboard_link}", soft_wrap=True)
                with points(console) as progress:
                    tally = execute(plan, store, client, progress)
    finally:
        store.close()
    endings = ", ".join(f"{count} {code}" for code, count in tally.ended.most_common())
    console.print(f"Computed {tally.ended.total()} now{f' ({endings})' if endings else ''}; {tally.before} were there already.")
    print(f"Store: {path}")
    if tally.lost:
        _fail(f"{len(tally.lost)} computations are missing; the same command tries them again. {tally.lost[0]}", 1)


@app.command(epilog="Example: sgdlimit tune examples/tune.toml --out runs/tune")
@spoken
def tune(
    file: File,
    out: Out = None,
    plugin: Plugin = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="A running Dask scheduler, such as tcp://host:8786, whose workers solve.", show_default=False),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", help="Dask workers on this machine that solve; none if not given.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the results of an earlier tuning in DIR.")] = False,
    quiet: Quiet = False,
) -> None:
    """Find the numbers, or the schedule of the step, that the file's [tune] asks for: those with the least risk by theory.

    A tuning that was interrupted continues with the same command from what it has tried, and gives the same numbers. With workers those
    solves are done at once that do not need each other's answers: the first ones, and those next to the best.
    """
    from contextlib import nullcontext

    from rich.console import Console

    from .sweep.engine import cluster
    from .tune import file as tuning

    job, folder = tuning.read(file, plugin), out or Path("runs") / file.stem
    console = Console(quiet=quiet, highlight=False)
    some = cluster(scheduler, workers) if (scheduler, workers) != (None, None) else nullcontext()
    with some as client, bars(console) as around, around(Named(job.title), False) as progress:
        found = tuning.execute(job, folder, force, progress, client)
    console.print(str(found), markup=False, soft_wrap=True)
    print(f"Report: {folder / 'report.html'}")


@app.command(epilog="Example: sgdlimit plot runs/phase_diagram.zarr --at 10")
@spoken
def plot(
    store: Annotated[Path, typer.Argument(metavar="DIR.zarr", help="The store of a sweep, finished or not.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Directory of the figures; beside the store if not given.", show_default=False)
    ] = None,
    show: Annotated[str, typer.Option(metavar="NAME", help="What to draw: a curve of the store, such as train_risk.")] = "test_risk",
    at: Annotated[
        float | None, typer.Option(metavar="T", help="Time, or epoch, at which it is read; the last if not given.", show_default=False)
    ] = None,
    reach: Annotated[
        float | None, typer.Option(metavar="VALUE", help="Draw instead when the curve first falls to this value.", show_default=False)
    ] = None,
    fix: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Hold an axis at its nearest value; may be repeated.", show_default=False)
    ] = None,
) -> None:
    """Draw a sweep: heat maps with contours over two axes, curves over one, the best values along each, PNG and SVG.

    Hatched is where training diverges, dots mark values that are not as accurate as was asked for.
    """
    from .sweep.maps import draw_all

    for path in draw_all(store, out, show, at, reach, fix or []):
        print(f"Figure: {path}")


@app.command(epilog="Example: sgdlimit explore runs/quickstart/theory-sgd.nc --port 5007")
@spoken
def explore(
    results: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RESULT]...", help="Results (.nc), settings (.toml) and sweeps (.zarr) to open.", show_default=False),
    ] = None,
    port: Annotated[int, typer.Option(metavar="P", help="Port of the page; 0 takes any that is free.")] = 5006,
    address: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on; this machine alone reaches the default.")
    ] = "127.0.0.1",
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="A further origin whose pages may connect; may be repeated.", show_default=False),
    ] = None,
    show: Annotated[bool, typer.Option("--show/--no-show", help="Open the page in a browser.")] = False,
) -> None:
    """Serve a page on which curves follow sliders: theory at once, sharpened while one looks, real runs on demand.

    It ends with Ctrl-C. Nothing that a visitor sends is run as code, and what one may ask for is bounded.
    """
    from .app.serve import serve

    try:
        serve(results or [], port, address, allow_origin or [], show, lambda where: print(f"Explorer: {where}", flush=True))
    except KeyboardInterrupt:
        print("Explorer ended.")


@app.command(epilog="Example: sgdlimit gallery batch-size --fast --out gallery")
@spoken
def gallery(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One claim; all of them if not given.", show_default=False)] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory of the pages.")] = Path("gallery"),
    fast: Annotated[bool, typer.Option("--fast", help="Smaller and less accurate: some minutes for all.")] = False,
    settings: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Settings of your own for the claim NAME.", show_default=False)
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Say which claims there are and stop.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Compute again what DIR has.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only say the verdicts.")] = False,
) -> None:
    """Show the claims of the theory: each one simulated, solved and judged, with figure, numbers and page.

    What DIR has of the same settings is not computed again, so an interrupted gallery continues. Exit code 0 if all claims hold, 1 if
    one does not.
    """
    from .gallery import CLAIMS, find

    if listed:
        for one in CLAIMS:
            print(f"{one:<{max(map(len, CLAIMS))}} {find(one).title}")
        return
    if settings is not None and name is None:
        raise InputError("`NAME` must be given with --settings, but is missing (settings belong to one claim)")
    from rich.console import Console

    from .gallery import claims, folder

    plans = [claims.plan(one, fast, settings) for one in ([name] if name else CLAIMS)]
    folder.check(out, plans, force)
    console = Console(quiet=quiet, highlight=False)
    with bars(console) as around:
        done = folder.execute(out, plans, lambda one, finished: around(Named(one), finished), force)
    for finished in done:
        print(f"{finished.claim.name}: {finished.verdict.sentence}")
    print(f"Pages: {out / 'index.html'}")
    failed = [finished.claim.name for finished in done if not finished.verdict.holds]
    if failed:
        _fail(f"{len(failed)} of {len(done)} claims do not hold: {', '.join(failed)}.", 1)


def main() -> None:
    """Entry point of `sgdlimit` and of `python -m sgdlimit`."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # being stopped cleans up as Ctrl-C does
    quiet_compiler()
    try:
        app()
    except KeyboardInterrupt:
        print("sgdlimit: Interrupted.", file=sys.stderr)
        raise SystemExit(130) from None
