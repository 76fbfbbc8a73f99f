"""Each reference problem at `rtol = 0.01`: cost, memory, and the distance to the stored simulations.

One process per cell, so that memory and the first call (compilation included) are its own.
`python benchmarks/reference_table.py [--problems a,b] [--dynamics sgd,sme,gf] [--rtol 0.01] [--readme]`
"""

from __future__ import annotations

import common  # first: it pins the process before NumPy and JAX start

# isort: split

import argparse
import json
import resource
import subprocess
import sys

import numpy as np

import sgdlimit as sl
from problems import CASES, DYNAMICS, dynamics, reference


def measure(problem: str, name: str, rtol: float) -> dict:
    case, stored = CASES[problem], reference(problem, name)
    built, law = case.build(), dynamics(name, case.step)
    solve = lambda: sl.solve(built, law, case.horizon, rtol=rtol, seed=0, times=stored.times, on_failure="return")
    solution, cold = common.timed(solve)
    solution, warm = common.timed(solve)
    data, worst, worst_scale, reported = solution.dataset, 0.0, 0.0, 0.0
    for curve in common.CURVES:
        gap = np.abs(data[curve].values - stored.mean[curve])
        scale = np.abs(stored.mean[curve]).max()
        joint = np.hypot(data[curve + "_se"].values, stored.se[curve])
        worst = max(worst, float((gap / (3 * joint + 0.01 * scale)).max()))
        worst_scale = max(worst_scale, float(gap.max() / scale))
        reported = max(reported, float(data[curve + "_se"].values.max() / scale))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "problem": problem, "dynamics": name, "first_call": cold, "warm": warm, "peak_gib": peak, "worst": worst,
        "worst_scale": worst_scale, "reported": reported, "status": solution.status.code,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", default=",".join(CASES))
    parser.add_argument("--dynamics", default=",".join(DYNAMICS))
    parser.add_argument("--rtol", type=float, default=0.01)
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    parser.add_argument("--cell", action="store_true", help="measure one cell here and print it as JSON")
    options = parser.parse_args()
    if options.cell:
        print(json.dumps(measure(options.problems, options.dynamics, options.rtol)))
        return
    cells = []
    for problem in options.problems.split(","):
        for name in options.dynamics.split(","):
            command = [sys.executable, __file__, "--cell", "--problems", problem, "--dynamics", name, "--rtol", str(options.rtol)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(f"{problem} {name} failed:\n{done.stderr[-2000:]}", file=sys.stderr)
                continue
            cells.append(json.loads(done.stdout.splitlines()[-1]))
            print(cells[-1], flush=True)
    header = ["problem", "dynamics", "first call (CPU-s)", "warm (CPU-s)", "peak memory (GiB)", "largest reported se (% of scale)",
              "worst distance to the simulations (% of scale)", "over 3 joint se + 1%", "status"]  # fmt: skip
    rows = [
        [c["problem"], common.SHORT[c["dynamics"]], f"{c['first_call']:.1f}", f"{c['warm']:.2f}", f"{c['peak_gib']:.2f}",
         f"{100 * c['reported']:.2f}", f"{100 * c['worst_scale']:.2f}", f"{c['worst']:.2f}", c["status"]]
        for c in cells
    ]  # fmt: skip
    text = common.table(header, rows)
    print("\n" + text)
    common.save_json(common.RESULTS / "reference_table.json", {"machine": common.machine(), "rtol": options.rtol, "cells": cells})
    if options.readme:
        common.fill("reference_table", text)


if __name__ == "__main__":
    main()
