"""Cost and memory as functions of the number of epochs and of the student's directions.

One process per row, on all CPUs it may use, so that wall time, memory and compilation are a user's own.
`python benchmarks/growth.py [--rtol 0.02] [--epochs 1,3,10,30,100] [--students 1,2,3,4] [--readme]`
"""

from __future__ import annotations

import common  # first: it pins the process before NumPy and JAX start; a row undoes that

# isort: split

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np

import sgdlimit as sl
from problems import CASES
from sgdlimit.models import committee


def problem_of(kind: str, size: int):
    """Problem, dynamics and horizon: `size` epochs of the logistic reference problem, or a committee of `size` units for two epochs."""
    if kind == "epochs":
        case = CASES["logistic"]
        built = case.build()
        return built, sl.SGD(case.step), size * case.step * built.sample_ratio
    model = committee(weights=[(-0.7) ** a for a in range(size)])
    init = sl.Init(overlap=np.zeros((size, size)), cov=0.25 * np.eye(size))
    built = sl.Problem(model.loss, model.label, model.noise, 2.0, sl.GaussianTeacher(np.eye(size)), init, sl.Ridge(0.01))
    return built, sl.SGD(1.0), 4.0


def measure(kind: str, size: int, rtol: float) -> dict:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    problem, dynamics, horizon = problem_of(kind, size)
    began = time.perf_counter(), time.process_time()
    solution = sl.solve(problem, dynamics, horizon, rtol=rtol, on_failure="return")
    return {
        "kind": kind, "size": size, "wall": time.perf_counter() - began[0], "cpu": time.process_time() - began[1],
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "status": solution.status.code,
        # Real runs have no cells.
        **{name: solution.diagnostics.get(name, 0) for name in ("method", "cells", "paths", "replicates", "error")},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rtol", type=float, default=0.02)
    parser.add_argument("--epochs", default="1,3,10,30,100")
    parser.add_argument("--students", default="1,2,3,4")
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    parser.add_argument("--row", help="measure one row here, kind:size, and print it as JSON")
    options = parser.parse_args()
    if options.row:
        kind, size = options.row.split(":")
        print(json.dumps(measure(kind, int(size), options.rtol)))
        return
    rows = [f"epochs:{size}" for size in options.epochs.split(",") if size]
    rows += [f"students:{size}" for size in options.students.split(",") if size]
    found = []
    for row in rows:
        command = [sys.executable, __file__, "--row", row, "--rtol", str(options.rtol)]
        environment = os.environ | {"SGDLIMIT_BENCH_DEVICE": "as it comes"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            print(f"{row} failed:\n{done.stderr[-2000:]}", file=sys.stderr)
            continue
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print(found[-1], flush=True)
    header = ["what", "wall (s)", "CPU (s)", "peak memory (GiB)", "method", "cells", "paths", "replicates", "reported error", "status"]
    title = {"epochs": "logistic, {} epochs", "students": "committee, {} units, 2 epochs"}
    text = common.table(header, [
        [title[r["kind"]].format(r["size"]), f"{r['wall']:.1f}", f"{r['cpu']:.1f}", f"{r['peak_gib']:.2f}", r["method"], str(r["cells"]),
         str(r["paths"]), str(r["replicates"]), f"{100 * r['error']:.2f}%", r["status"]]
        for r in found
    ])  # fmt: skip
    print("\n" + text)
    common.save_json(common.RESULTS / "growth.json", {"machine": common.machine(), "rtol": options.rtol, "rows": found})
    if options.readme:
        common.fill("growth", text)


if __name__ == "__main__":
    main()
