"""Are the reported errors true? Sixty random problems with a known answer at random `rtol` between 0.003 and 0.05.

The truth must lie within two reported standard errors at 90 to 99% of all points (self-overlap, overlap, train and test risk at
every output time). Exit code 1 if it does not. `python benchmarks/calibration.py [--count 60] [--first 0] [--momentum | --adam] [--readme]`

With Adam there is no closed form. The answer is held against one with a fourth of its `rtol` and other random numbers, of SGD with
replacement also by the other engine, which shares no sampling code; deviations are in joint standard errors, of which the truth's is a
few per cent.
"""

from __future__ import annotations

import common  # first: it pins the process before NumPy and JAX start

# isort: split

import argparse
import sys

import numpy as np

import sgdlimit as sl
from problems import Hard, deviations, random_adam, random_linear
from sgdlimit.theory.samples.engines import choose, reshuffled

TIGHTER = 4.0  # rtol of what stands for the truth


def calibrate(indices, say=print, momentum: bool = False) -> list[dict]:
    """Solve the problems with these indices; per problem the deviations in standard errors, the cost, and what was asked."""
    rows = []
    for index in indices:
        known = random_linear(index, momentum=momentum)
        call = lambda known=known, index=index: sl.solve(
            known.problem, known.dynamics, known.horizon, rtol=known.rtol, seed=index, on_failure="return"
        )
        solution, seconds = common.timed(call)
        z = deviations(known, solution)
        row = {
            "title": known.title,
            "kind": type(known.dynamics).__name__,
            "seconds": seconds,
            "status": solution.status.code,
            "z": z.tolist(),
        }
        rows.append(row)
        share = np.mean(np.abs(z) <= 2)
        say(f"{known.title}: {share:.0%} within 2, worst {np.abs(z).max():.1f}, rms {rms(z):.2f}, {seconds:.1f} s, {row['status']}")
    return rows


def calibrate_adam(indices, say=print) -> list[dict]:
    """As `calibrate`, against a tighter answer."""
    rows = []
    for index in indices:
        hard = random_adam(index)
        own = choose(hard.problem, hard.dynamics, hard.horizon, "auto")[0]
        apart = isinstance(hard.dynamics, sl.SGD) and not reshuffled(hard.dynamics)
        other = {"events": "paths", "paths": "events"}[own] if apart else own
        solution, seconds = solved(hard, hard.rtol, index, "auto")
        truth, _ = solved(hard, hard.rtol / TIGHTER, 1000 + index, other)
        z, kind = joint(solution, truth), "SGD, reshuffled" if reshuffled(hard.dynamics) else type(hard.dynamics).__name__
        codes = solution.status.code, truth.status.code
        rows.append({"title": hard.title, "kind": kind, "seconds": seconds, "status": codes[0], "truth": codes[1], "z": z.tolist()})
        within = np.mean(np.abs(z) <= 2)
        say(f"{hard.title}: {within:.0%} within 2, worst {np.abs(z).max():.1f}, rms {rms(z):.2f}, {seconds:.1f} s, {codes[0]} ({codes[1]})")
    return rows


def solved(hard: Hard, rtol: float, seed: int, method: str):
    """An answer and its CPU-seconds."""
    return common.timed(
        lambda: sl.solve(hard.problem, hard.dynamics, hard.horizon, rtol=rtol, seed=seed, method=method, on_failure="return")
    )


def joint(solution, truth) -> np.ndarray:
    """Deviations in joint standard errors at all points of the four curves that have an error."""
    ours, theirs = solution.dataset, truth.dataset
    np.testing.assert_allclose(ours.time.values, theirs.time.values)
    z = []
    for name in common.CURVES:
        gap = (ours[name].values - theirs[name].values).ravel()
        error = np.hypot(ours[name + "_se"].values, theirs[name + "_se"].values).ravel()
        z.append(gap[error > 0] / error[error > 0])
    return np.concatenate(z)


def rms(z) -> float:
    return float(np.sqrt(np.mean(np.square(z))))


def summary(rows: list[dict]) -> tuple[str, float]:
    """A table by dynamics, and the share of points within two standard errors."""
    body = []
    for kind in [*sorted({row["kind"] for row in rows}), "all"]:
        chosen = [row for row in rows if kind in (row["kind"], "all")]
        points = np.concatenate([row["z"] for row in chosen])
        share = [np.mean(np.abs(row["z"]) <= 2) for row in chosen]
        error = np.std(share, ddof=1) / np.sqrt(len(share)) if len(share) > 1 else float("nan")
        done = sum(row["status"] == "done" for row in chosen)
        body.append([
            kind, str(len(chosen)), f"{np.mean(np.abs(points) <= 2):.1%} ± {error:.1%}", f"{rms(points):.2f}",
            f"{np.abs(points).max():.1f}", f"{done}/{len(chosen)}", f"{np.median([row['seconds'] for row in chosen]):.1f}",
        ])  # fmt: skip
    header = [
        "dynamics",
        "problems",
        "truth within 2 se (± over problems)",
        "rms deviation (se)",
        "worst (se)",
        "kept rtol",
        "median CPU-s",
    ]
    return common.table(header, body), float(np.mean(np.abs(np.concatenate([row["z"] for row in rows])) <= 2))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--momentum", action="store_true", help="train them with momentum of random memory")
    parser.add_argument("--adam", action="store_true", help="random problems trained by Adam, against tighter answers")
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    options = parser.parse_args()
    indices, say = range(options.first, options.first + options.count), lambda line: print(line, flush=True)
    rows = calibrate_adam(indices, say) if options.adam else calibrate(indices, say, options.momentum)
    name = "calibration" + ("_adam" if options.adam else "_momentum" if options.momentum else "")
    text, share = summary(rows)
    print("\n" + text)
    common.save_json(common.RESULTS / f"{name}.json", {"machine": common.machine(), "problems": rows})
    if options.readme and not options.adam:
        common.fill(name, text)
    if not 0.90 <= share <= 0.99:
        print(f"calibration: {share:.1%} of the points within two standard errors, must be 90 to 99%", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
