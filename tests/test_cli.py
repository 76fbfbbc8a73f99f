"""The command: what it writes, that an interrupted run continues, and that results of different settings never mix."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import sgdlimit as sl
from fakes import runs, theory
from sgdlimit import cli
from sgdlimit.results import Status
from sgdlimit.settings import run as runner

EXAMPLES = Path(__file__).parent.parent / "examples"
RESULTS = [f"{kind}-{slug}.nc" for slug in ("sgd", "sme", "gradient-flow") for kind in ("theory", "simulation")]
FILES = sorted([*RESULTS, "curves.png", "curves.svg", "report.html", "settings.json"])


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Solver and simulation replaced by made-up results; what was asked of them."""
    asked = []

    def solve(problem, dynamics, horizon, *, times, progress, **options):
        asked.append(("solve", dynamics, options))
        progress(0.5, "half")
        return theory(times, dynamics=repr(dynamics))

    def simulate(problem, dynamics, *, horizon, times, progress, **options):
        asked.append(("simulate", dynamics, options))
        progress(1.0, "all")
        return runs(times)

    monkeypatch.setattr(runner, "solve", solve)
    monkeypatch.setattr(runner, "simulate", simulate)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart.toml").write_text((EXAMPLES / "quickstart.toml").read_text())
    return asked


def sgdlimit(*arguments, code=0):
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def names(path="out"):
    return sorted(p.name for p in Path(path).iterdir())


def test_run_writes_everything_and_says_where(calls):
    said = sgdlimit("run", "quickstart.toml", "--out", "out")
    assert names() == FILES
    assert "Report: out/report.html" in said
    assert said.count("Theory and simulation agree") == 3
    assert [(kind, dynamics) for kind, dynamics, _ in calls[::2]] == [("solve", d) for d in (sl.SGD(1.5), sl.SME(1.5), sl.GradientFlow())]
    how = {"rtol": 0.01, "seed": 0, "method": "auto", "on_failure": "return"}
    assert calls[0][2] == how | {"checkpoint": Path("out/theory-sgd.checkpoint"), "budget": None}
    options = {"n_features": 1000, "repeats": 8, "batch_size": 1, "design": "gaussian", "average": None, "left_out": False, "seed": 0}
    assert calls[1][2] == options
    assert json.loads(Path("out/settings.json").read_text())["settings"]["run"]["horizon"] == 4.0


def test_averaged_weights_ask_for_kernels(calls, monkeypatch):
    """They are made of the kernels, which real runs do not have."""
    asked = []
    monkeypatch.setattr(sl.Solution, "averaged", lambda self, average: asked.append(average) or self)
    text = (EXAMPLES / "quickstart.toml").read_text()
    Path("quickstart.toml").write_text(text.replace("repeats = 8", 'repeats = 8\naverage = { kind = "tail", fraction = 0.5 }', 1))
    sgdlimit("run", "quickstart.toml", "--out", "out")
    assert asked == [sl.TailAverage(0.5)] * 3
    assert [options["method"] for kind, _, options in calls if kind == "solve"] == ["kernels"] * 3


def test_an_interrupted_run_leaves_whole_files_and_continues(calls, monkeypatch):
    solve = runner.solve

    def interrupted(problem, dynamics, *rest, **options):
        if isinstance(dynamics, sl.SME):
            raise KeyboardInterrupt
        return solve(problem, dynamics, *rest, **options)

    monkeypatch.setattr(runner, "solve", interrupted)
    assert "Interrupted; finished files are whole" in sgdlimit("run", "quickstart.toml", "--out", "out", code=130)
    assert names() == ["settings.json", "simulation-sgd.nc", "theory-sgd.nc"]
    before = Path("out/theory-sgd.nc").read_bytes()
    monkeypatch.setattr(runner, "solve", solve)
    calls.clear()
    said = sgdlimit("run", "quickstart.toml", "--out", "out")
    assert names() == FILES
    assert "SGD, theory: was there already" in said
    assert sl.SGD(1.5) not in [dynamics for _, dynamics, _ in calls]
    assert Path("out/theory-sgd.nc").read_bytes() == before


def test_half_done_theory_is_kept_and_removed_when_it_is_whole(calls, monkeypatch):
    solve = runner.solve

    def interrupted(*rest, checkpoint, **options):
        checkpoint.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "solve", interrupted)
    sgdlimit("run", "quickstart.toml", "--out", "out", code=130)
    assert names() == ["settings.json", "theory-sgd.checkpoint"]
    monkeypatch.setattr(runner, "solve", solve)
    sgdlimit("run", "quickstart.toml", "--out", "out")
    assert names() == FILES


def test_other_settings_are_refused_or_replace_all(calls):
    sgdlimit("run", "quickstart.toml", "--out", "out")
    before = {name: Path("out", name).read_bytes() for name in names()}
    text = Path("quickstart.toml").read_text()
    other = text.replace("horizon = 4.0", "horizon = 2.0").replace('[[dynamics]]\nkind = "sme"\nstep = 1.5\n', "")
    Path("quickstart.toml").write_text(other)
    said = sgdlimit("run", "quickstart.toml", "--out", "out", code=2)
    assert "`--out` must be free or of the same settings, but `out` holds results of others" in said
    assert {name: Path("out", name).read_bytes() for name in names()} == before
    Path("out/mine.txt").write_text("not the run's own")
    sgdlimit("run", "quickstart.toml", "--out", "out", "--force")
    assert names() == sorted({*FILES, "mine.txt"} - {"theory-sme.nc", "simulation-sme.nc"})


@pytest.mark.evidence
def test_a_half_written_or_foreign_result_is_computed_again(calls):
    sgdlimit("run", "quickstart.toml", "--out", "out")
    Path("out/theory-sgd.nc").write_bytes(Path("out/theory-sgd.nc").read_bytes()[:1000])
    theory().save("out/simulation-sgd.nc")
    calls.clear()
    sgdlimit("run", "quickstart.toml", "--out", "out")
    assert [(kind, dynamics) for kind, dynamics, _ in calls] == [("solve", sl.SGD(1.5)), ("simulate", sl.SGD(1.5))]


def test_missed_accuracy_and_failures_are_exit_code_1(calls, monkeypatch):
    solve = runner.solve
    missed = Status("inaccurate", "inaccurate: the error is 0.02 of the scale")

    def inaccurate(problem, dynamics, horizon, *, times, **options):
        return theory(times, status=missed)

    def failing(*args, **options):
        raise sl.SolveError("The kernels are not finite.")

    def broken(*args, **options):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(runner, "solve", inaccurate)
    assert "The accuracy asked for was not reached. SGD: inaccurate: the error" in sgdlimit("run", "quickstart.toml", "--out", "a", code=1)
    assert names("a") == FILES
    monkeypatch.setattr(runner, "solve", failing)
    assert "sgdlimit: The kernels are not finite." in sgdlimit("run", "quickstart.toml", "--out", "b", code=1)
    monkeypatch.setattr(runner, "solve", broken)
    assert "The computation failed: ZeroDivisionError: division by zero" in sgdlimit("run", "quickstart.toml", "--out", "c", code=1)
    monkeypatch.setattr(runner, "solve", solve)


def test_what_diverged_is_a_result(calls, monkeypatch):
    ended = Status("diverged", "diverged at t = 2: the self-overlap passed 1000 times its start")
    monkeypatch.setattr(runner, "solve", lambda *args, times, **options: theory([t for t in times if t <= 2], status=ended))
    said = sgdlimit("run", "quickstart.toml", "--out", "out")
    assert "SGD, theory: diverged at t = 2" in said
    assert "diverged at t = 2" in Path("out/report.html").read_text()


def test_theory_alone_and_quiet(calls):
    text = Path("quickstart.toml").read_text()
    Path("quickstart.toml").write_text(text[: text.index("[simulation]")])
    assert sgdlimit("run", "quickstart.toml", "--quiet") == "Report: runs/quickstart/report.html"
    assert not list(Path("runs/quickstart").glob("simulation*"))


def test_check_writes_nothing(calls):
    before = sorted(Path().rglob("*"))
    said = sgdlimit("check", "quickstart.toml")
    assert "quickstart.toml is in order" in said
    assert "8 at d = 1000" in said
    assert sorted(Path().rglob("*")) == before
    assert calls == []


@pytest.mark.parametrize("command", [[], ["run"], ["check"]])
def test_help_shows_an_example(command):
    assert "Example: sgdlimit" in sgdlimit(*command, "--help")


def test_help_answers_at_once_without_jax():
    code = "import sys, sgdlimit.cli as c; sys.argv = ['sgdlimit', '--help']\ntry: c.main()\nexcept SystemExit: pass\n"
    code += "heavy = {'jax', 'xarray', 'scipy', 'pydantic', 'matplotlib', 'bokeh'} & set(sys.modules); assert not heavy, heavy"
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 1.0  # half a second, doubled for a loaded machine; what is loaded is checked exactly


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "sgdlimit", "check", "missing.toml"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "sgdlimit: `FILE` must be an existing file, but `missing.toml` does not exist\n"


@pytest.mark.evidence
def test_programs_from_the_cache_come_without_a_word(tmp_path):
    """Some releases of the compiler print two long errors for each of them."""
    (tmp_path / "short.toml").write_text(
        '[problem]\nmodel = "linear_regression"\nsample_ratio = 2.0\nteacher = { kind = "gaussian", cov = 1.0 }\n'
        '[[dynamics]]\nkind = "online_sgd"\nstep = 0.5\n[run]\nhorizon = 1.0\nrtol = 0.1\n'
    )
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "1"}  # of a notebook, where JAX has set it
    command = [sys.executable, "-m", "sgdlimit", "run", "short.toml", "--force", "--quiet"]
    for _ in range(2):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
