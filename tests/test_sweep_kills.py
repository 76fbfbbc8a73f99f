"""A sweep loses nothing: killed workers, command or scheduler and workers joined by address give an uninterrupted sweep's store."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import xarray as xr

import sgdlimit as sl

SETTINGS = """
title = "Killed"

[problem]
model = "plugin:slow"
sample_ratio = 1.0
teacher = { kind = "gaussian", cov = 2.25 }

[[dynamics]]
kind = "sgd"

[run]
horizon = 0.3
rtol = 0.3
seed = 5

[sweep.axes]
"dynamics.step" = [2.0, 3.0]
"problem.sample_ratio" = [1.5, 2.0]
"""
# Every draw of the noise waits, so that there is time to kill in. All points share one compiled program.
PLUGIN = """
import time
import jax.numpy as jnp
from scipy import special

class Slow:
    shape = ()

    def ppf(self, u):
        time.sleep(0.05)
        return special.ndtri(u)

def slow():
    return lambda r, y: 0.5 * (jnp.tanh(r[0]) - y) ** 2, lambda r_star, z: jnp.tanh(r_star[0]) + 0.3 * z, Slow()
"""
POINTS = 4
PATIENCE = 240  # seconds, on a machine that does other things


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep")
    (path / "killed.toml").write_text(SETTINGS)
    (path / "slow.py").write_text(PLUGIN)
    return path


def environment(folder):
    source = str(Path(sl.__file__).parents[1])
    return {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": source, "PYTHONWARNINGS": "default"}


def start(folder, *arguments, module="sgdlimit"):
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def sweep(folder, out, *arguments):
    return start(folder, "sweep", "killed.toml", "--plugin", "slow.py", "--out", out, *arguments)


def ended(running, code=0):
    said, errors = running.communicate(timeout=PATIENCE)
    assert running.returncode == code, said + errors
    assert "Traceback" not in errors
    return said


def wait_for(condition, running):
    """Until it holds, while the process runs."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def stored(store):
    """Names of the points that are in a store whole."""
    return [name for name in os.listdir(store / "status_code") if not name.startswith(".")] if store.exists() else []


def workers_of(running):
    return [child for child in psutil.Process(running.pid).children() if "spawn_main" in " ".join(child.cmdline())]


def contents(store):
    """All files of a store but the measured seconds, by their names."""
    files = [path for path in store.rglob("*") if path.is_file() and path.parent.name not in ("seconds", "cpu_seconds")]
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def whole(folder):
    assert f"{POINTS} done" in ended(sweep(folder, "whole.zarr", "--workers", 1))
    return folder / "whole.zarr"


def test_the_store_has_all_points_and_any_reader_opens_it(whole):
    ds = xr.open_zarr(whole)
    assert dict(ds.sizes) == {"step": 2, "sample_ratio": 2, "time": 41, "student": 1, "student_": 1, "teacher": 1}
    assert (ds.status_code == "done").all()
    assert np.isfinite(ds.test_risk).all()
    assert (ds.test_risk_se < 0.3).all()
    assert (ds.seconds > 0).all()
    assert len(np.unique(ds.test_risk.values[..., 0])) == POINTS  # each point has numbers of its own


def test_a_killed_command_continues_and_a_killed_worker_costs_only_its_point(folder, whole):
    running = sweep(folder, "killed.zarr", "--workers", 1)
    store = folder / "killed.zarr"
    wait_for(lambda: len(stored(store)) >= 2, running)
    children = psutil.Process(running.pid).children(recursive=True)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    done = set(stored(store))
    assert 2 <= len(done) < POINTS
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive  # no worker outlives it
    growing = xr.open_zarr(store)  # opens, with what is there
    assert (growing.status_code == "done").sum() == len(done)
    assert np.isnan(growing.test_risk.values).any()
    written = {name: (store / "test_risk" / f"{name}.0").stat().st_mtime_ns for name in done}
    (store / "test_risk" / ".half-a-chunk").write_bytes(b"of a kill")
    running = sweep(folder, "killed.zarr", "--workers", 1)
    wait_for(lambda: len(stored(store)) > len(done), running)
    (worker,) = workers_of(running)
    worker.kill()
    assert len(stored(store)) < POINTS
    assert f"{len(done)} were there already" in ended(running)
    assert {name: (store / "test_risk" / f"{name}.0").stat().st_mtime_ns for name in done} == written
    assert contents(store) == contents(whole)


@pytest.mark.evidence
def test_workers_joined_by_address_give_the_same_also_when_their_scheduler_is_killed(folder, whole):
    store = folder / "joined.zarr"
    with scheduler(folder, workers=1) as (process, address):
        running = sweep(folder, store.name, "--scheduler", address)
        wait_for(lambda: stored(store), running)
        process.kill()
        _, errors = running.communicate(timeout=PATIENCE)
        assert running.returncode == 1
        assert re.fullmatch(
            r"sgdlimit: The scheduler is gone: \d of 4 are in the store, and the same command continues from them.\n", errors
        )
    before = len(stored(store))
    assert 1 <= before < POINTS
    with scheduler(folder, workers=2) as (_, address):
        assert f"{before} were there already" in ended(sweep(folder, store.name, "--scheduler", address))
    assert contents(store) == contents(whole)


@contextmanager
def scheduler(folder, workers):
    """A scheduler in a process of its own with workers joined to its address."""
    told = folder / "scheduler.json"
    told.unlink(missing_ok=True)
    where = ("--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file", told)
    started = [start(folder, "scheduler", *where, module="dask")]
    try:
        wait_for(lambda: told.exists() and told.read_text().rstrip().endswith("}"), started[0])
        address = json.loads(told.read_text())["address"]
        for _ in range(workers):
            started.append(start(folder, "worker", address, "--nthreads", 1, "--no-dashboard", "--death-timeout", 60, module="dask"))
        yield started[0], address
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.communicate(timeout=60)
