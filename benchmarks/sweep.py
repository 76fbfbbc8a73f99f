"""What a sweep takes: wall and CPU seconds and memory of its workers, by their number.

    python benchmarks/sweep.py [--steps 20] [--ratios 20] [--workers 1 2]

The sweep: `tanh_regression` over step x sample ratio, SGD, horizon 4, `rtol = 0.03`. Each run starts
with an empty cache of compiled programs. On a machine that does other things the CPU seconds tell, and the speed-up that they allow: the
CPU seconds of one worker against the most that any of several took.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import xarray as xr

SETTINGS = """
[problem]
model = "tanh_regression"
sample_ratio = 1.5
teacher = {{ kind = "gaussian", cov = 2.25 }}
penalty = {{ kind = "ridge", strength = 0.05 }}

[[dynamics]]
kind = "sgd"

[run]
horizon = 4.0
rtol = 0.03

[sweep.axes]
"dynamics.step" = {{ from = 0.1, to = 3.0, points = {steps}, scale = "log" }}
"problem.sample_ratio" = {{ from = 0.5, to = 8.0, points = {ratios}, scale = "log" }}
"""


def measure(steps: int, ratios: int, workers: int) -> dict:
    """Run the command, and look at its worker processes until it ends."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "map.toml").write_text(SETTINGS.format(steps=steps, ratios=ratios))
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        began = time.perf_counter()
        command = [sys.executable, "-m", "sgdlimit", "sweep", "map.toml", "--out", "map.zarr", "--workers", str(workers)]
        running = subprocess.Popen(command, cwd=folder, env=environment)
        process = psutil.Process(running.pid)
        cpu: dict[int, float] = {}
        memory: dict[int, int] = {}
        own = 0.0
        while running.poll() is None:
            time.sleep(0.5)
            try:
                own = sum(process.cpu_times()[:2])
                for child in process.children(recursive=True):
                    cpu[child.pid] = sum(child.cpu_times()[:2])
                    memory[child.pid] = max(memory.get(child.pid, 0), child.memory_info().rss)
            except psutil.NoSuchProcess:
                continue
        wall = time.perf_counter() - began
        if running.returncode:
            raise SystemExit(f"the sweep failed with exit code {running.returncode}")
        with xr.open_zarr(Path(folder) / "map.zarr") as ds:
            seconds, codes = ds.cpu_seconds.values, ds.status_code.values.ravel().tolist()
    return {
        "points": steps * ratios,
        "workers": workers,
        "wall_seconds": round(wall, 1),
        "command_cpu_seconds": round(own, 1),
        "worker_cpu_seconds": [round(value, 1) for value in sorted(cpu.values(), reverse=True)[:workers]],
        "worker_memory_MiB": [value >> 20 for value in sorted(memory.values(), reverse=True)[:workers]],
        "point_cpu_seconds": {"median": round(float(sorted(seconds.ravel())[seconds.size // 2]), 3), "sum": round(float(seconds.sum()), 1)},
        "endings": {code: codes.count(code) for code in sorted(set(codes))},
        "load": os.getloadavg()[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--ratios", type=int, default=20)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sweep.json")
    given = parser.parse_args()
    rows = []
    for workers in given.workers:
        rows.append(measure(given.steps, given.ratios, workers))
        rows[-1]["times_as_fast"] = round(rows[0]["wall_seconds"] / rows[-1]["wall_seconds"], 2)
        print(json.dumps(rows[-1]), flush=True)
        given.out.write_text(json.dumps(rows, indent=2) + "\n")
    for row in rows:
        print(f"{row['points']} points, {row['workers']} workers: {row['wall_seconds']} s, {row['times_as_fast']} times as fast")


if __name__ == "__main__":
    main()
