"""The same samples in one group or several, in small blocks or one large: the full matrix of `tests/test_shapes.py`.

    python benchmarks/shapes.py            all shapes; continues where it stopped
    python benchmarks/shapes.py --fast     one shape for each number of directions
    python benchmarks/shapes.py --plain    without what `sgdlimit.compiling` does about faulty compilers: what that is worth
    python benchmarks/shapes.py --readme   the table of all runs so far into the README

Exit code 1 where a difference is more than rounding.
"""

from __future__ import annotations

import os

os.environ.setdefault("SGDLIMIT_BENCH_DEVICE", "all")  # no timings here: all CPUs, and threads as users have them

import argparse
import json
import sys
from importlib.metadata import version

from common import RESULTS, fill, machine, save_json, table
from grouped import BLOCK, KINDS, blocks_against_all, committee, march, points_against_all
from sgdlimit import compiling

DIRECTIONS = (3, 1, 10, 2, 5, 4)  # in this order, for who does not wait for all
SHAPES = ((16_384, 2), (65_536, 1), (4096, 4))  # samples and replicates; groups of 1 to 4 with 256 samples are marched for each
MEMORY = 1.5 * 2**30  # bytes; a shape beyond gets fewer samples
ROUNDING, SINGLE = 1e-11, 1e-5  # products with the rows of real runs are in single precision
KINKS = "SGD, events, kinks"
POINTS = "averages without a march"
STORED = RESULTS / "shapes.json"


def shapes_of(index: int, fast: bool) -> tuple[tuple[int, int], ...]:
    """All shapes, or one of them in turn."""
    return SHAPES[index % 3 :][:1] if fast else SHAPES


def affordable(paths: int, replicates: int, each: int) -> int:
    while paths * replicates * each > MEMORY and paths > BLOCK:
        paths //= 2
    return paths


def measure(kind: str, k: int, shapes: tuple[tuple[int, int], ...]) -> dict[str, float]:
    """Largest relative differences by shape."""
    if kind == POINTS:
        found = {}
        for paths, replicates in shapes:
            parts = points_against_all(committee(k), paths, replicates)
            single = parts.pop("train risk of real runs")
            found[f"{paths} x {replicates}"] = max(*parts.values(), single * ROUNDING / SINGLE)
        return found
    marched = march(kind.removesuffix(", kinks"), committee(k, kinks=kind == KINKS), 4)
    found = {f"{BLOCK} x 1 to 4": marched.groups}
    for paths, replicates in shapes:
        paths = affordable(paths, replicates, marched.path_bytes)
        found[f"{paths} x {replicates}"] = blocks_against_all(marched, paths, replicates)
    return found


def readme(runs: dict) -> None:
    """A row for each way to carry samples, a column for each compiler: the largest difference, which directions, which are wrong."""
    rows = []
    for kind in (*KINDS, KINKS, POINTS):
        cells = []
        for name in sorted(runs):
            worst = {int(k): max(found.values()) for k, found in runs[name]["found"].get(kind, {}).items()}
            wrong = [str(k) for k in sorted(worst) if worst[k] > ROUNDING]
            measured = "k = " + ", ".join(map(str, sorted(worst)))
            cells.append(f"{max(worst.values()):.1e} ({measured}{'; wrong: ' + ', '.join(wrong) if wrong else ''})" if worst else "")
        rows.append([kind, *cells])
    fill("shapes", table(["largest difference", *sorted(runs)], rows))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("fast", "plain", "again", "readme"):
        parser.add_argument(f"--{name}", action="store_true")
    asked = parser.parse_args()
    runs = json.loads(STORED.read_text()) if STORED.exists() else {}
    if asked.readme:
        readme(runs)
        return 0
    if asked.plain:
        compiling.needs_cure = lambda: False
    name = f"jaxlib {version('jaxlib')}" + (", plain" if asked.plain else "")
    run = {} if asked.again else runs.get(name, {})
    run = {"machine": machine(), "cured": compiling.needs_cure(), "found": run.get("found", {})}
    for index, k in enumerate(DIRECTIONS):
        for kind in (*KINDS, KINKS, POINTS):
            if kind == KINKS and k > 2:
                continue
            done = run["found"].setdefault(kind, {})
            if str(k) not in done:
                done[str(k)] = measure(kind, k, shapes_of(index, asked.fast))
                print(f"{name}: {kind}, k = {k}: {done[str(k)]}", flush=True)
                runs = json.loads(STORED.read_text()) if STORED.exists() else {}
                save_json(STORED, runs | {name: run})
    return int(any(value > ROUNDING for found in run["found"].values() for each in found.values() for value in each.values()))


if __name__ == "__main__":
    sys.exit(main())
