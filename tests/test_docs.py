"""What the documentation shows runs: examples, the README's program and commands, the guide's settings."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sgdlimit import config

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))


def plugin_of(path):
    plugin = path.with_suffix(".py")
    return ["--plugin", str(plugin)] if plugin.exists() else []


def sgdlimit(*arguments, cwd, cache):
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONWARNINGS": "default"}
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
    job = config.read(path, plugin if plugin.exists() else None)
    assert job.title != path.stem


# One of each sort: all dynamics, matrices, a plugin. The reference tests solve the problems of the others.
@pytest.mark.parametrize("name", ["quickstart", "regimes", "epochs", "committee", "own_loss", "softmax", "robust"])
def test_small_examples_run(name, tmp_path):
    path = ROOT / "examples" / f"{name}.toml"
    (tmp_path / "small.toml").write_text(small(path))
    done = sgdlimit("run", "small.toml", "--out", "out", *plugin_of(path), cwd=tmp_path, cache=tmp_path)
    assert done.stderr == ""
    assert (tmp_path / "out" / "report.html").stat().st_size > 100_000


def test_the_readme_program_runs():
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len(program.splitlines()) <= 13
    for old, new in (("horizon=4.0", "horizon=0.2"), ("rtol=0.01", "rtol=0.3"), ("n_features=2000, repeats=8", "n_features=60, repeats=2")):
        assert old in program
        program = program.replace(old, new)
    exec(compile(program, "README.md", "exec"), {})


def test_the_guides_programs_run(tmp_path, monkeypatch):
    programs = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "guide.md").read_text(), re.S)
    smaller = {
        "spectrum": (("horizon=3.0", "horizon=0.3"), ("rtol=0.03", "rtol=0.3"), ("n_features=1000, repeats=4", "n_features=60, repeats=2")),
        "observe": (("horizon=2.0", "horizon=0.4"), ("rtol=0.05", "rtol=0.3")),
        "laws": (("horizon=6.0", "horizon=0.5"), ("rtol=0.02", "rtol=0.3"), ("n_features=2000, repeats=4", "n_features=60, repeats=2")),
    }
    assert len(programs) == len(smaller)
    monkeypatch.chdir(tmp_path)
    for program, (name, changes) in zip(programs, smaller.items(), strict=True):
        assert name in program
        for old, new in changes:
            assert old in program
            program = program.replace(old, new)
        exec(compile(program, f"guide.md: {name}", "exec"), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kernels.png", "margins.png", "weights.png"]


def test_the_programs_of_other_pages_run(capsys):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "power_laws.md").read_text(), re.S)
    exec(compile(program, "power_laws.md", "exec"), {})
    in_time, in_samples = ([float(x) for x in line.split("[")[1].rstrip("]").split()] for line in capsys.readouterr().out.splitlines())
    assert all(abs(slope + 2 / 3) < 0.03 for slope in in_time)
    assert all(abs(slope + 1.0) < 0.05 for slope in in_samples)


def test_the_guides_settings_are_a_file(tmp_path):
    (text,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "guide.md").read_text(), re.S)
    (tmp_path / "guide.toml").write_text(text)
    job = config.read(tmp_path / "guide.toml")
    assert [part.slug for part in job.parts] == ["sgd", "sgd-decaying", "online-sgd", "mini-batch-gd"]


@pytest.mark.parametrize("name", ["README.md", "docs/guide.md", "docs/power_laws.md"])
def test_links_and_pictures_exist(name):
    page = ROOT / name
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
    for path in re.findall(r"examples/\w+\.(?:toml|py)", page.read_text()):
        assert (ROOT / path).exists(), path


def test_every_make_target_named_is_there():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    assert (
        set(re.findall(r"make (run|test|bench|image)\b", (ROOT / "README.md").read_text() + (ROOT / ".ci" / "run").read_text())) <= targets
    )
