"""What the documentation shows runs: the site is built, which executes its pages, and so are examples, settings and every command.

Python on a page is a `code-cell`, which the build executes. The README's program, that of the page on sweeps (a file, since worker
processes import it) and that of the page on `recommend` (tests/test_recommend_cli.py) are executed by tests.
"""

import fnmatch
import json
import os
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from marks import cases
from sgdlimit import cli
from sgdlimit.settings import config
from sgdlimit.sweep import plan as plans
from sgdlimit.tune import file as tunings

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))
SWEEPS = [path for path in EXAMPLES if "[sweep]" in path.read_text()]
TUNED = [path for path in EXAMPLES if "[tune]" in path.read_text()]


def plugin_of(path):
    plugin = path.with_suffix(".py")
    return ["--plugin", str(plugin)] if plugin.exists() else []


def sgdlimit(*arguments, cwd):
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    done = subprocess.run(
        [sys.executable, "-m", "sgdlimit", *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def small(path):
    """The same settings at a size a test can afford: some with all their dynamics, the others with their first."""
    text = path.read_text()
    if path.stem not in ("quickstart", "regimes"):
        start, *_ = text.split("\n[[dynamics]]")[1:]
        text = text.split("\n[[dynamics]]")[0] + "\n[[dynamics]]" + start + text[text.index("\n[run]") :]
    for key, value in (("horizon", 0.2), ("rtol", 0.3), ("n_features", 60), ("repeats", 2)):
        text = re.sub(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.M)
    # A learning rate belongs to its number of features.
    return re.sub(r"^learning_rate = [^\n]*$", "learning_rate = 0.013", text, flags=re.M)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_in_order(path):
    plugin = path.with_suffix(".py")
    read = plans.read if path in SWEEPS else tunings.read if path in TUNED else config.read
    assert read(path, plugin if plugin.exists() else None).title != path.stem


# One of each sort: several dynamics, a plugin, and at length matrices and all dynamics. The reference tests solve the problems of the
# others.
MORE = ("own_loss", "regimes", "epochs", "committee", "softmax", "robust")


@pytest.mark.parametrize("name", cases(["quickstart", *MORE], evidence=MORE))
def test_small_examples_run(name, tmp_path):
    path = ROOT / "examples" / f"{name}.toml"
    (tmp_path / "small.toml").write_text(small(path))
    done = sgdlimit("run", "small.toml", "--out", "out", *plugin_of(path), cwd=tmp_path)
    assert done.stderr == ""
    assert (tmp_path / "out" / "report.html").stat().st_size > 100_000


def test_the_readme_program_runs():
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len(program.splitlines()) <= 13
    for old, new in (("horizon=4.0", "horizon=0.2"), ("rtol=0.01", "rtol=0.3"), ("n_features=2000, repeats=8", "n_features=60, repeats=2")):
        assert old in program
        program = program.replace(old, new)
    exec(compile(program, "README.md", "exec"), {})


def test_the_settings_shown_are_a_file(tmp_path):
    (text,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "settings.md").read_text(), re.S)
    (tmp_path / "shown.toml").write_text(text)
    job = config.read(tmp_path / "shown.toml")
    assert [part.slug for part in job.parts] == [
        "sgd-with-momentum",
        "sgd-decaying",
        "online-sgd-with-momentum-noise-and-clipping",
        "mini-batch-gd",
    ]


@pytest.mark.evidence
def test_the_page_on_sweeps_runs(tmp_path):
    page = (ROOT / "docs" / "sweeps.md").read_text()
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    (tmp_path / "page.toml").write_text(text)
    laid = plans.read(tmp_path / "page.toml")
    assert (laid.design.shape, laid.kinds, laid.parts) == ((20, 5), ("theory", "simulation"), ("SGD", "gradient flow"))
    (program,) = re.findall(r"```python\n(.*?)```", page, re.S)
    for old, new in (
        ('"horizon": 4.0', '"horizon": 0.3'),
        ('"rtol": 0.03', '"rtol": 0.3'),
        ('"points": 4', '"points": 2'),
        ("[1.0, 2.0]", "[1.0]"),
        ("workers=2", 'workers=1, out="runs/phase_diagram.zarr"'),
    ):
        assert old in program
        program = program.replace(old, new)
    (tmp_path / "page.py").write_text(program)
    (tmp_path / "runs").mkdir()
    done = subprocess.run([sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done" in done.stdout
    sgdlimit("plot", "runs/phase_diagram.zarr", cwd=tmp_path)
    assert list((tmp_path / "runs").glob("phase_diagram-*.png"))


# --- the site ----------------------------------------------------------------------------------------------------------------


EXECUTED = sorted(path.name for path in PAGES if "{code-cell}" in path.read_text())
SHORT = {"start.md"}


# All pages take minutes, each in a process of its own.
@pytest.mark.parametrize("left_out", [sorted({*EXECUTED} - SHORT), pytest.param([], marks=pytest.mark.evidence)], ids=["short", "all"])
def test_the_site_builds_without_warnings_and_its_pages_run(tmp_path, left_out):
    # In a folder of its own, so that no page is taken from an earlier build.
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-b", "html", "-d", "doctrees", ROOT / "docs", "html"]
    environment = {**os.environ, "SGDLIMIT_DOCS_CACHE": str(tmp_path / "cache"), "SGDLIMIT_DOCS_UNEXECUTED": " ".join(left_out)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "html" / "start.html").read_text()
    assert "Theory and simulation agree" in page  # printed by the page's last comparison
    assert "<math" in page
    for html in (tmp_path / "html").glob("*.html"):
        fetched = re.findall(r"""<(?:script|link|img)[^>]+(?:src|href)=["'](?:https?:)?//[^"']*""", html.read_text())
        assert not fetched, html.name


def test_the_model_of_the_page_on_extending_is_one(monkeypatch):
    import sgdlimit as sl
    from sgdlimit import models
    from sgdlimit.models import registry, regression

    (shown,) = [one for one in re.findall(r"```py\n(.*?)```", (ROOT / "docs" / "extend.md").read_text(), re.S) if "@model" in one]
    monkeypatch.setattr(registry, "MODELS", dict(models.MODELS))
    exec(compile(shown, "extend.md", "exec"), dict(vars(regression)))
    made = models.build("another_name", {"noise": 0.3})
    assert made.loss([1.0], 1.0) == pytest.approx(0.0, abs=1e-6)
    problem = sl.Problem(made.loss, made.label, made.noise, 2.0, sl.GaussianTeacher([[1.0]]), sl.Init([[0.0]], [[1.0]]))
    assert not problem.kinks


def test_the_table_of_optimisers_is_what_was_measured():
    measured = json.loads((ROOT / "benchmarks" / "results" / "optimisers.json").read_text())["rows"]
    page = (ROOT / "docs" / "optimisers.md").read_text()
    for one in measured:
        said = " | ".join(f"{100 * mean:+.1f} ± {100 * se:.1f}" for mean, se in (one["self_overlap"], one["test_risk"]))
        assert f"| {one['name']} | {one['n_features']} | {one['batch_size']} | {one['repeats']} | {said} |" in page


def test_programs_that_the_build_does_not_execute_are_known():
    for page in PAGES:
        assert "```python" not in page.read_text() or page.name in ("README.md", "sweeps.md", "recommend.md"), page.name


# --- commands ------------------------------------------------------------------------------------------------------------------

# What runs a documented command, where it is not run below: too dear, or it needs a file or process of its own.
ELSEWHERE = {
    "make *": "test_docs.py::test_every_make_target_named_is_there",
    "sgdlimit run examples/own_loss.toml *": "test_docs.py::test_small_examples_run",
    "sgdlimit recommend *": "test_recommend_cli.py::test_the_command_of_the_documentation_runs",
    "sgdlimit sweep *": "test_sweep_kills.py::test_the_store_has_all_points_and_any_reader_opens_it",
    "sgdlimit tune *": "test_tune.py::test_the_command_tunes_and_continues",
    "sgdlimit plot *": "test_docs.py::test_the_page_on_sweeps_runs",
    "dask *": "test_sweep_kills.py::test_workers_joined_by_address_give_the_same_also_when_their_scheduler_is_killed",
    "sgdlimit explore*": "test_explore*.py::test_*",
}


def commands():
    """Every line of the documentation's shell blocks, `(page, command)`."""
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.S):
            for line in block.replace("\\\n", " ").splitlines():
                if command := re.sub(r"\s+#.*", "", line).strip():
                    yield page.name, command.removeprefix(".venv/bin/")


def elsewhere(command):
    return next((where for pattern, where in ELSEWHERE.items() if fnmatch.fnmatch(command, pattern)), None)


def assert_known(arguments):
    """The subcommand and its options are those of the command line."""
    subcommands = typer.main.get_command(cli.app).commands
    name, *rest = arguments
    assert name in subcommands, name
    known = {option for parameter in subcommands[name].params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in rest if word.startswith("-")} <= known | {"--help"}, arguments


def test_commands_in_running_text_are_commands():
    found = 0
    for page in PAGES:
        for command in re.findall(r"`(?:\.venv/bin/)?sgdlimit ([a-z][^`]*)`", page.read_text()):
            found += 1
            assert_known(shlex.split(command))
    assert found > 20


def test_every_command_shown_runs(tmp_path, monkeypatch):
    from sgdlimit.gallery import CLAIMS, folder

    monkeypatch.chdir(tmp_path)
    planned, ran = [], []
    monkeypatch.setattr(folder, "execute", lambda out, plans, *_: planned.append(plans) or [])  # minutes each: see tests/test_gallery.py
    for page, command in commands():
        program, *arguments = shlex.split(command)
        assert program in ("sgdlimit", "make", "dask"), (page, command)
        if program == "sgdlimit":
            assert_known(arguments)
        if elsewhere(command) or command in ran:
            continue
        own = ROOT / "src" / "sgdlimit" / "gallery" / "settings" / f"{arguments[1]}.toml"
        (tmp_path / "my.toml").write_text(own.read_text() if own.exists() else small(ROOT / "examples" / "logistic.toml"))
        result = CliRunner().invoke(cli.app, arguments)
        assert result.exit_code == 0, (page, command, result.output)
        ran.append(command)
    assert {"gallery", "check", "run"} <= {command.split()[1] for command in ran}
    assert max(map(len, planned)) == len(CLAIMS)
    assert Path("runs/my/report.html").stat().st_size > 100_000


def test_programs_for_clusters_run(monkeypatch):
    """With stand-ins for the queues, which none here has; tests/test_sweep_kills.py sweeps on a scheduler's address."""
    import sgdlimit as sl

    class Queue:
        scheduler_address = "tcp://stand-in:8786"

        def __init__(self, **options):
            assert options

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def adapt(self, maximum_jobs):
            assert maximum_jobs > 0

    swept = []
    monkeypatch.setattr(sl, "sweep", lambda base, *, out, scheduler: swept.append((base, out, scheduler)), raising=False)
    for name, queue in (("dask_jobqueue", "SLURMCluster"), ("dask_kubernetes", None), ("dask_kubernetes.operator", "KubeCluster")):
        module = types.ModuleType(name)
        if queue:
            setattr(module, queue, Queue)
        monkeypatch.setitem(sys.modules, name, module)
    programs = [one for one in re.findall(r"```py\n(.*?)```", (ROOT / "docs" / "sweeps.md").read_text(), re.S) if "dask_" in one]
    for program in programs:
        exec(compile(program, "sweeps.md", "exec"), {})
    assert swept == [("my.toml", "my.zarr", "tcp://stand-in:8786")] * 2


def test_what_runs_a_command_elsewhere_exists():
    shown = [command for _, command in commands()]
    for pattern, where in ELSEWHERE.items():
        if any(fnmatch.fnmatch(command, pattern) for command in shown):
            file, _, test = where.partition("::")
            texts = [path.read_text() for path in (ROOT / "tests").glob(file)]
            assert any(re.search(rf"^def {test.replace('*', '.*')}\b", text, re.M) for text in texts), where


# --- links -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_exist(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.partition("#")[0]).exists(), target
    for path in re.findall(r"examples/\w+\.(?:toml|py)", page.read_text()):
        assert (ROOT / path).exists(), path


def test_every_make_target_named_is_there():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    texts = "".join(path.read_text() for path in (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / ".ci" / "run"))
    named = set(re.findall(r"(?:`|^|exec )make ([a-z][a-z-]*)", texts, re.M))
    assert named <= targets
    assert {"run", "test", "docs", "release-check"} <= named
