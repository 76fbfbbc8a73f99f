"""What it costs or gains to compile without the library that faulty releases of jaxlib get wrong (`sgdlimit.compiling`), and the check.

python benchmarks/compiler.py            measure with the jaxlib installed; kept beside those of other releases
python benchmarks/compiler.py --readme   the table of all releases so far into the README
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import sgdlimit as sl
from common import RESULTS, fill, machine, save_json, table, timed
from problems import committee, logistic, tanh_regression
from sgdlimit import compiling

REPEATS = 5
STORED = RESULTS / "compiler.json"
CASES = {
    "tanh_regression, SGD, 0.3%": (tanh_regression, sl.SGD(1.5), 4.0, 0.003),
    "logistic, flow, 0.3%": (logistic, sl.GradientFlow(), 4.0, 0.003),
    "committee, SGD, 1%": (committee, sl.SGD(1.0), 4.0, 0.01),
}


def check() -> dict[str, float]:
    """CPU-milliseconds of the check, with and without the option; a trivial program beside it. JAX is running already."""
    import jax

    with jax.enable_x64(True):
        jax.jit(lambda x: x + 1)(1.0)
        spent = {"a trivial program": milliseconds(lambda: jax.jit(lambda x: x + 2)(1.0))}
    spent["as installed"] = milliseconds(lambda: compiling.is_right({}))
    spent["with the option"] = milliseconds(lambda: compiling.is_right(compiling.CURE))
    return spent


def milliseconds(call: Callable) -> float:
    start = time.process_time()
    call()
    return 1e3 * (time.process_time() - start)


def measure(case: str) -> dict[str, dict[str, float]]:
    """CPU-seconds of a first and of later solves, compiled both ways in turn."""
    build, dynamics, horizon, rtol = CASES[case]
    spent: dict[bool, list[float]] = {False: [], True: []}
    problem = build()
    for _ in range(REPEATS + 1):
        for cured in spent:
            compiling.needs_cure = lambda cured=cured: cured
            spent[cured].append(timed(lambda: sl.solve(problem, dynamics, horizon, rtol=rtol, on_failure="return"))[1])
    return {"without" if cured else "with": {"first": first, "warm": statistics.median(later)} for cured, (first, *later) in spent.items()}


def readme(runs: dict) -> None:
    rows = []
    for name, run in runs.items():
        for case, spent in run["cases"].items():
            each = [f"{spent[how][what]:.2f}" for what in ("warm", "first") for how in ("with", "without")]
            rows.append([name, case, *each, f"{spent['without']['warm'] / spent['with']['warm']:.2f}"])
    header = ["jaxlib", "case", "warm, with (CPU-s)", "warm, without", "first call, with", "first call, without", "without / with, warm"]
    checks = ", ".join(
        f"{name}: {run['check_ms']['as installed']:.0f}" + (f" + {run['check_ms']['with the option']:.0f}" if run["needs_cure"] else "")
        for name, run in runs.items()
    )
    fill("compiler", table(header, rows) + f"\nCPU-milliseconds of the check, once in a process, by release: {checks}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readme", action="store_true")
    runs = json.loads(STORED.read_text()) if STORED.exists() else {}
    if parser.parse_args().readme:
        readme(runs)
        return
    found = {"machine": machine(), "check_ms": check(), "needs_cure": compiling.needs_cure()}
    runs[version("jaxlib")] = found | {"cases": {case: measure(case) for case in CASES}}
    save_json(STORED, runs)


if __name__ == "__main__":
    main()
