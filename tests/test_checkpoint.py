"""A solve that is killed continues from its checkpoint with the same bits; a checkpoint of anything else is refused."""

import os
import re
import signal
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import sgdlimit as sl
from sgdlimit.files import replacing
from sgdlimit.theory.accuracy.checkpoint import identify

# Solves, and kills itself without mercy at the given report of progress; 0 is never.
PROGRAM = """
import os, signal, sys
import sgdlimit as sl
from problems import tanh_regression

fatal, checkpoint, result = int(sys.argv[1]), sys.argv[2] or None, sys.argv[3]
said = []

def progress(fraction, text):
    said.append(text)
    if len(said) == fatal:
        os.kill(os.getpid(), signal.SIGKILL)

sl.solve(tanh_regression(), sl.SME(1.5), 1.0, rtol=0.003, seed=3, progress=progress, checkpoint=checkpoint).save(result)
"""


def run(tmp_path, fatal, checkpoint, result):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (Path(__file__).parent, Path(sl.__file__).parents[1]))),
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),  # each program is compiled once, not in each process
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    arguments = [sys.executable, "-c", PROGRAM, str(fatal), checkpoint, result]
    return subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)


def groups(path):
    with zipfile.ZipFile(path) as archive:
        return {name.rsplit("/", 2)[0] for name in archive.namelist() if "/" in name}


def test_a_killed_solve_continues_and_gives_the_same_bits(tmp_path):
    whole = run(tmp_path, 0, "", "whole.nc")
    assert whole.returncode == 0, whole.stderr
    killed = run(tmp_path, 2, "half.npz", "continued.nc")  # after the pilot, in the middle of the next groups
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "continued.nc").exists()
    stored = groups(tmp_path / "half.npz")
    continued = run(tmp_path, 0, "half.npz", "continued.nc")
    assert continued.returncode == 0, continued.stderr
    assert len(stored) == 1
    assert stored < groups(tmp_path / "half.npz")
    assert len(groups(tmp_path / "half.npz")) >= 3
    before, after = sl.load(tmp_path / "whole.nc"), sl.load(tmp_path / "continued.nc")
    assert before.dataset.identical(after.dataset)
    assert before.status == after.status
    own = {"wall_seconds": 0.0, "cpu_seconds": 0.0, "witnesses": ""}  # of each call: what it took, and what it has seen itself
    assert {**before.diagnostics, **own} == {**after.diagnostics, **own}


# --- refusals -------------------------------------------------------------------------------------------------------------


def problem(loss=1.0, label=1.0, **changed):
    given = {
        "loss": lambda r, y: loss * 0.5 * (r[0] - y) ** 2,
        "label": lambda r_star, z: label * r_star[0] + z,
        "noise": sl.Normal(),
        "sample_ratio": 2.0,
        "teacher": sl.GaussianTeacher([[1.0]]),
        "init": sl.Init([[0.0]], [[1.0]]),
        "penalty": sl.Ridge(0.1),
    }
    return sl.Problem(**{**given, **changed})


PROBLEM = problem()


def solve(path, problem_=None, **changed):
    arguments = {"dynamics": sl.GradientFlow(), "horizon": 0.1, "rtol": 0.3, **changed}
    return sl.solve(problem_ or PROBLEM, checkpoint=path, **arguments)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "flow.npz"
    return path, solve(path)


def test_a_finished_checkpoint_answers_without_computing(finished, monkeypatch):
    path, first = finished
    before = path.read_bytes()
    monkeypatch.setattr(import_module("sgdlimit.theory.accuracy.search"), "run_levels", None)
    assert solve(path, problem()).dataset.identical(first.dataset)  # functions defined anew, with the same values
    assert path.read_bytes() == before
    with np.load(path, allow_pickle=False) as archive:
        assert all(archive[name] is not None for name in archive.files)


def smooth(strength):
    return sl.SmoothPenalty(lambda theta: strength * jnp.sum(theta**2))


CHANGED = {
    "rtol": ({"rtol": 0.2}, "`rtol` 0.3 instead of 0.2"),
    "seed": ({"seed": 1}, "`seed` 0 instead of 1"),
    "horizon": ({"horizon": 0.2}, "`horizon` 0.1 instead of 0.2"),
    "times": ({"times": [0.0, 0.1]}, "another `times`"),
    "dynamics": ({"dynamics": sl.SME(1.0)}, "`dynamics` GradientFlow() instead of SME(step=1.0)"),
    "schedule": ({"dynamics": sl.SME(lambda t: 1.0)}, "another `dynamics`"),
    "loss": ({"problem_": lambda: problem(loss=1.001)}, "another `loss`"),
    "label": ({"problem_": lambda: problem(label=1.001)}, "another `label`"),
    "noise": ({"problem_": lambda: problem(noise=sl.StudentT(5.0))}, "another `noise`"),
    "penalty": ({"problem_": lambda: problem(penalty=None)}, "`penalty` Ridge(strength=0.1) instead of None"),
    "smooth penalty": ({"problem_": lambda: problem(penalty=smooth(0.1))}, "another `penalty`"),
    "teacher": ({"problem_": lambda: problem(teacher=sl.SparseTeacher(0.5, [[1.0]]))}, "another `teacher`"),
    "start": ({"problem_": lambda: problem(init=sl.Init([[0.0]], [[2.0]]))}, "another `init`"),
    "ratio": ({"problem_": lambda: problem(sample_ratio=3.0)}, "`sample_ratio` 2.0 instead of 3.0"),
}


@pytest.mark.parametrize("what", CHANGED)
def test_another_solve_is_refused(finished, what):
    path, _ = finished
    before = path.read_bytes()
    changed, words = CHANGED[what]
    changed = {name: value() if name == "problem_" else value for name, value in changed.items()}
    said = f"`checkpoint` must belong to the same solve, but `{path}` has {words} (use another path or delete it)"
    with pytest.raises(sl.InputError, match=re.escape(said)):
        solve(path, **changed)
    assert path.read_bytes() == before


def test_a_smooth_penalty_is_known_by_its_values():
    told = [identify(problem(penalty=smooth(s)), sl.SME(1.0), 1.0, 0.1, 0, np.ones(1), "paths")["penalty"] for s in (0.1, 0.1, 0.2)]
    assert told[0] == told[1] != told[2]


def spoilt(path):
    """A byte of an array turned over."""
    with zipfile.ZipFile(path) as archive:
        info = next(info for info in archive.infolist() if info.filename.endswith("R.npy"))
    data = bytearray(path.read_bytes())
    data[info.header_offset + 400] ^= 0xFF
    return bytes(data)


def foreign(path):
    np.savez(path.with_name("other.npz"), a=np.arange(3))
    return path.with_name("other.npz").read_bytes()


DAMAGED = {
    "spoilt": spoilt,
    "half": lambda path: path.read_bytes()[: path.stat().st_size // 2],
    "empty": lambda path: b"",
    "text": lambda path: b"not an archive\n" * 100,
    "foreign": foreign,
}


@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_or_foreign_file_is_refused_and_left_alone(finished, tmp_path, how):
    data = DAMAGED[how](finished[0])
    path = tmp_path / "bad.npz"
    path.write_bytes(data)
    with pytest.raises(sl.InputError, match=r"`checkpoint` must be a whole file that solve wrote, but `.*bad.npz` is not: "):
        solve(path)
    assert path.read_bytes() == data


def test_a_place_without_a_file_is_refused_before_work_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(import_module("sgdlimit.theory.accuracy.search"), "run_levels", None)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if os.access(locked, os.W_OK):  # the superuser may write there; where nobody may, there is no file
        locked = Path("/proc")
    with pytest.raises(sl.InputError, match=r"`checkpoint` must be in a directory that can be written, but `.*` cannot: "):
        solve(locked / "a.npz")
    with pytest.raises(sl.InputError, match=r"`checkpoint` must be in an existing directory, but `.*missing` is not one"):
        solve(tmp_path / "missing" / "a.npz")
    with pytest.raises(sl.InputError, match=r"`checkpoint` must be a file, but `.*` is a directory"):
        solve(tmp_path)
    with pytest.raises(sl.InputError, match=r"`checkpoint` must be a path, but is 3"):
        solve(3)
    for dynamics in (sl.OnlineSGD(1.0), sl.MiniBatchGD(0.1, 0.5)):
        with pytest.raises(sl.InputError, match=f"`checkpoint` must be None for {type(dynamics).__name__}"):
            solve(tmp_path / "a.npz", problem(), dynamics=dynamics)


def test_a_disk_that_fills_up_costs_the_checkpoint_alone(finished, tmp_path, monkeypatch):
    path = tmp_path / "full.npz"
    calls = []

    def full(path):
        calls.append(path)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return replacing(path)

    monkeypatch.setattr("sgdlimit.theory.accuracy.checkpoint.replacing", full)
    with pytest.warns(UserWarning, match=r"`checkpoint` cannot be written any more, and the solve goes on without it: .*No space left"):
        assert solve(path).dataset.identical(finished[1].dataset)
    assert groups(path) == set()
