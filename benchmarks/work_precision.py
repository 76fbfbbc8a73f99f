"""Accuracy per CPU-second: `solve` against direct simulation and against the plain Monte-Carlo solver.

    python benchmarks/work_precision.py [--fast] [--problems a,b] [--dynamics sgd,sme,gf] [--again] [--only solve,plain] [--readme]

Per reference problem and dynamics, three lines of (error, CPU-seconds of one thread, warm):
    solve       one call at each of several `rtol`; error over several seeds
    simulation  the mean of `m` runs; spread, bias and cost per run are measured, error `sqrt(bias^2 + spread^2 / m)`
    plain       one call of `plain_solver.py` at several nodes and paths; error over several seeds
Error: root mean square over 17 output times (and seeds, and matrix entries), relative to the curve's scale, in the worst of the four
curves. Truth: the closed form for the ridge problem, else `solve` at `rtol = 5e-4` (committee: 2e-3) with another seed, held against
the stored simulations (`truth_check`: largest distance in joint standard errors and in % of scale).

The ratios are read at an error of 0.3%:
    solve       interpolated in logarithms; "<=" if even the coarsest run is better than 0.3%
    simulation  cost of `(spread / 0.3%)^2` runs. Bias of finite size is left out, in the simulation's favour; where it alone exceeds
                0.3% no number of runs would do, and the table marks it with "b".
    plain       the cheapest (nodes, paths) by its own cost model: bias proportional to the step and spread to `paths^(-1/2)`, both
                measured; cost per path timed on a larger grid and taken to grow with the square of the nodes, in its favour; memory is
                not counted.

Writes `results/work_precision.{json,md,png}` after every cell and continues where it stopped (`--again` measures anew); `--fast` writes
`results/work_precision-fast.*`.
"""

from __future__ import annotations

import common  # first: it pins the process before NumPy and JAX start

# isort: split

import argparse
import json
from itertools import product
from pathlib import Path

import numpy as np

import sgdlimit as sl
from common import CURVES, SHORT, relative_errors, scales, timed
from plain_solver import plain_solve
from problems import CASES, DYNAMICS, closed_forms, dynamics, reference

TARGET = 0.003
TRUTH_RTOL, TRUTH_RTOL_COMMITTEE = 5e-4, 2e-3  # of the largest error; the root mean square is some third of it
FULL = {
    "rtols": (0.1, 0.03, 0.01, 0.005, 0.003), "seeds": 5, "runs": 16, "simulation_repeats": 5,
    "plain": ((21, 4000), (41, 1000), (81, 1000)), "plain_seeds": 32, "plain_timing": (161, 2000),
}  # fmt: skip
FAST = {
    "rtols": (0.1, 0.03, 0.01, 0.005), "seeds": 2, "runs": 4, "simulation_repeats": 1,
    "plain": ((21, 4000), (41, 1000)), "plain_seeds": 12, "plain_timing": (121, 500),
}  # fmt: skip


class Cell:
    """One problem under one dynamics."""

    def __init__(self, problem: str, name: str, plan: dict, truth_file: Path):
        self.case, self.plan, self.name, self.title = CASES[problem], plan, name, problem
        self.problem, self.dynamics = self.case.build(), dynamics(name, self.case.step)
        self.times = np.linspace(0.0, self.case.horizon, 17)
        self.truth, self.truth_check = self._truth(truth_file)

    def solve(self, rtol: float, seed: int, times=None):
        return sl.solve(
            self.problem, self.dynamics, self.case.horizon, rtol=rtol, seed=seed, times=self.times if times is None else times,
            on_failure="return",
        )  # fmt: skip

    def _truth(self, file: Path):
        if self.title == "ridge_regression":
            exact = closed_forms.linear_model(2.0, 0.0 if self.name == "gf" else self.case.step, 0.1, 0.25, 0.5, 1.0, self.times)
            shape = {"self_overlap": (-1, 1, 1), "overlap": (-1, 1, 1), "train_risk": (-1,), "test_risk": (-1,)}
            return {name: exact[name].reshape(shape[name]) for name in CURVES}, {"source": "closed form"}
        key = f"{self.title}/{self.name}"
        rtol = TRUTH_RTOL_COMMITTEE if self.title == "committee" else TRUTH_RTOL
        stored = json.loads(file.read_text()) if file.exists() else {}
        if key not in stored:
            runs = reference(self.title, self.name)
            union = np.unique(np.concatenate([self.times, runs.times]))
            solution, seconds = timed(lambda: self.solve(rtol, 20260, union))
            data = solution.dataset
            here, there = np.searchsorted(union, self.times), np.searchsorted(union, runs.times)
            worst_se = worst = reported = 0.0
            for name in CURVES:
                gap, scale = np.abs(data[name].values[there] - runs.mean[name]), np.abs(runs.mean[name]).max()
                joint = np.hypot(data[name + "_se"].values[there], runs.se[name])
                real = joint > 1e-6 * scale
                worst_se, worst = max(worst_se, float((gap[real] / joint[real]).max(initial=0.0))), max(worst, float(gap.max() / scale))
                reported = max(reported, float(data[name + "_se"].values.max() / scale))
            stored[key] = {
                "curves": {name: data[name].values[here].tolist() for name in CURVES},
                "check": {
                    "source": f"solve(rtol={rtol:g})", "status": solution.status.code, "reported_error": reported,
                    "worst_joint_se": worst_se, "worst_share_of_scale": worst, "cpu_seconds": seconds,
                },
            }  # fmt: skip
            common.save_json(file, stored)
        return {name: np.array(stored[key]["curves"][name]) for name in CURVES}, stored[key]["check"]

    def measure_solve(self) -> dict:
        points = []
        for rtol in self.plan["rtols"]:
            seconds, errors, codes, reported = [], [], set(), []
            for seed in range(self.plan["seeds"]):
                self.solve(rtol, seed)  # warm: shapes may depend on the seed's pilot estimates
                solution, used = timed(lambda rtol=rtol, seed=seed: self.solve(rtol, seed))
                data, scale = solution.dataset, scales(self.truth)
                seconds.append(used)
                codes.add(solution.status.code)
                errors.append(relative_errors({name: data[name].values for name in CURVES}, self.truth))
                reported.append(max(float(data[name + "_se"].values.max()) / scale[name] for name in CURVES))
            point = _point(seconds, errors)
            point.update(rtol=rtol, status=sorted(codes), reported=float(np.median(reported)))
            points.append(point)
        return {"points": points, "cost_at_target": cost_at(points, TARGET)}

    def measure_simulation(self) -> dict:
        features, runs = 4000 if self.name == "sgd" else 2000, self.plan["runs"]

        def call(seed, repeats):
            return sl.simulate(
                self.problem, self.dynamics, self.case.horizon, n_features=features, repeats=repeats, times=self.times, seed=seed
            )

        call(99, 2)
        # The cost per run is the median over several calls; their runs together give spread and bias.
        batches = [timed(lambda seed=seed: call(seed, runs)) for seed in range(self.plan["simulation_repeats"])]
        cost = float(np.median([seconds for _, seconds in batches])) / runs
        data, scale = [batch.dataset for batch, _ in batches], scales(self.truth)
        spread, bias = {}, {}
        for name in CURVES:
            variance = np.mean([d[name + "_se"].values ** 2 * runs for d in data], axis=0)
            off = np.mean([d[name].values for d in data], axis=0) - self.truth[name]
            spread[name] = float(np.sqrt(variance.mean())) / scale[name]
            bias[name] = float(np.sqrt(max(0.0, np.mean(off**2 - variance / (runs * len(data)))))) / scale[name]
        points = []
        for m in (1, 4, 16, 64, 256):
            errors = {name: float(np.hypot(bias[name], spread[name] / np.sqrt(m))) for name in CURVES}
            points.append({"runs": m, "cpu_seconds": m * cost, "errors": errors, "error": max(errors.values())})
        worst = max(spread.values())
        return {
            "n_features": features, "cpu_seconds_per_run": cost, "spread": spread, "bias": bias, "points": points,
            "biased": max(bias.values()) > TARGET, "cost_at_target": {"cpu_seconds": cost * (worst / TARGET) ** 2, "bound": False},
        }  # fmt: skip

    def measure_plain(self) -> dict:
        points, biases, spreads = [], [], []
        for nodes, paths in self.plan["plain"]:
            point, bias, spread = self._plain_point(nodes, paths, self.plan["plain_seeds"])
            points.append(point)
            biases.append(bias)
            spreads.append(spread)
        fine, _, _ = self._plain_point(*self.plan["plain_timing"], 4)
        return {"points": [*points, fine], "cost_at_target": plain_cost(points, biases, spreads, fine, TARGET)}

    def _plain_point(self, nodes: int, paths: int, seeds: int):
        """Cost and error of one call, and the bias and spread of each curve, over `seeds` calls."""
        call = lambda seed: plain_solve(self.problem, self.dynamics, self.case.horizon, nodes, paths, seed)
        call(999)
        seconds, values = [], []
        for seed in range(seeds):
            (grid, curves), used = timed(lambda seed=seed: call(seed))
            seconds.append(used)
            values.append({name: _interpolate(grid, curves[name], self.times) for name in CURVES})
        point = _point(seconds, [relative_errors(value, self.truth) for value in values])
        point.update(nodes=nodes, paths=paths)
        scale, bias, spread = scales(self.truth), {}, {}
        for name in CURVES:
            runs = np.array([value[name] for value in values])
            variance = runs.var(axis=0, ddof=1)
            off = runs.mean(axis=0) - self.truth[name]
            bias[name] = float(np.sqrt(max(0.0, np.mean(off**2 - variance / len(runs))))) / scale[name]
            spread[name] = float(np.sqrt(variance.mean())) / scale[name]
        return point, bias, spread


def _point(seconds: list[float], errors: list[dict[str, float]]) -> dict:
    """Median cost; error of one call, root mean square over seeds."""
    by_curve = {name: float(np.sqrt(np.mean([error[name] ** 2 for error in errors]))) for name in CURVES}
    return {"cpu_seconds": float(np.median(seconds)), "errors": by_curve, "error": max(by_curve.values())}


def _interpolate(grid, values, times):
    flat = values.reshape(len(grid), -1)
    return np.stack([np.interp(times, grid, column) for column in flat.T], axis=-1).reshape(len(times), *values.shape[1:])


def cost_at(points: list[dict], target: float) -> dict:
    """CPU-seconds at error `target`, interpolated in logarithms; a bound if all errors are smaller, None if none is."""
    good = [p for p in points if p["error"] <= target]
    if not good:
        return {"cpu_seconds": None, "bound": False}
    cheapest = min(good, key=lambda p: p["cpu_seconds"])
    worse = [p for p in points if p["error"] > target and p["cpu_seconds"] < cheapest["cpu_seconds"]]
    if not worse:
        return {"cpu_seconds": cheapest["cpu_seconds"], "bound": True}
    before = max(worse, key=lambda p: p["cpu_seconds"])
    share = np.log(before["error"] / target) / np.log(before["error"] / cheapest["error"])
    log_cost = (1 - share) * np.log(before["cpu_seconds"]) + share * np.log(cheapest["cpu_seconds"])
    return {"cpu_seconds": float(np.exp(log_cost)), "bound": False}


def plain_cost(points, biases, spreads, timing, target: float) -> dict:
    """Cheapest nodes and paths for `target` in every curve, and its cost, from the measured bias, spread and cost."""
    steps = np.array([p["nodes"] - 1.0 for p in points])
    paths = np.array([float(p["paths"]) for p in points])
    # The coarsest grid has the clearest bias; the spread per path hardly depends on the grid, so the smallest is taken.
    slope = {name: biases[0][name] * steps[0] for name in CURVES}
    per_path = {name: min(s[name] * np.sqrt(p) for s, p in zip(spreads, paths, strict=True)) for name in CURVES}
    tried = np.unique(np.geomspace(4, 1e5, 2000).round())
    room = np.min([(target**2 - (slope[name] / tried) ** 2) / per_path[name] ** 2 for name in CURVES], axis=0)
    needed = np.where(room > 0, 1.0 / np.where(room > 0, room, 1.0), np.inf)
    # Cost per path, from the largest grid timed, grows like nodes^2 at least (in truth ever closer to nodes^3).
    cost = timing["cpu_seconds"] / timing["paths"] * (tried / (timing["nodes"] - 1)) ** 2 * needed
    best = int(np.argmin(cost))
    return {
        "cpu_seconds": float(cost[best]), "bound": False, "nodes": int(tried[best]) + 1, "paths": float(needed[best]),
        "bias_per_step": slope, "spread_per_path": per_path,
    }  # fmt: skip


# --- output ------------------------------------------------------------------------------------------------------------


def report(results: dict) -> str:
    """The table of costs at equal error and of the ratios."""
    rows = []
    for problem, name in product(CASES, DYNAMICS):
        if not (cell := results["cells"].get(f"{problem}/{name}")):
            continue
        cost = {
            m: (cell.get(m) or {}).get("cost_at_target", {"cpu_seconds": None, "bound": False}) for m in ("solve", "simulation", "plain")
        }
        ours = cost["solve"]["cpu_seconds"]
        ratio = {m: None if None in (ours, cost[m]["cpu_seconds"]) else cost[m]["cpu_seconds"] / ours for m in ("simulation", "plain")}
        needed = {"sgd": 10 if problem == "committee" else 30, "gf": 10 if problem == "committee" else 30, "sme": 5}[name]
        at_least = ">= " if cost["solve"]["bound"] else ""

        def judged(value, needed, at_least=at_least):
            return "-" if value is None else f"{at_least}{value:.3g} ({'kept' if value >= needed else 'short'}: {needed})"

        seconds = {m: "-" if c["cpu_seconds"] is None else f"{'<= ' if c['bound'] else ''}{c['cpu_seconds']:.3g}" for m, c in cost.items()}
        mark = " b" if (cell.get("simulation") or {}).get("biased") else ""
        check = cell["truth_check"]
        truth = check["source"] if "status" not in check else (
            f"{check['source']}: {check['worst_joint_se']:.1f} se, {100 * check['worst_share_of_scale']:.2f}% from the simulations"
        )  # fmt: skip
        rows.append([problem, SHORT[name], seconds["solve"], seconds["simulation"] + mark, seconds["plain"],
                     judged(ratio["simulation"], needed), judged(ratio["plain"], 100), at_measured(cell), truth])  # fmt: skip
    header = ["problem", "dynamics", "solve (CPU-s)", "simulation (CPU-s)", "plain (CPU-s)", "simulation / solve", "plain / solve",
              "plain / solve as measured", "truth"]  # fmt: skip
    notes = (
        "CPU-seconds of one thread for an error of 0.3% in the worst of the four curves. `b`: the finite-size bias of the simulation "
        "alone exceeds 0.3%; its cost counts the spread only. The plain solver's cost is extrapolated from its measured bias and spread; "
        "as measured: the ratio at the error of its most accurate measured call, nothing extrapolated.\n"
    )
    used = results["machine"]
    return common.table(header, rows) + "\n" + notes + f"\n{used['cpu']}, one thread; jax {used['jax']}, numpy {used['numpy']}.\n"


def at_measured(cell: dict) -> str:
    """Ratio of costs at the smallest error that the plain solver was seen to reach, and that error."""
    if not cell.get("plain") or not cell.get("solve"):
        return "-"
    best = min(cell["plain"]["points"], key=lambda p: p["error"])
    ours = cost_at(cell["solve"]["points"], best["error"])
    if ours["cpu_seconds"] is None:
        return "-"
    return f"{'>= ' if ours['bound'] else ''}{best['cpu_seconds'] / ours['cpu_seconds']:.3g} at {100 * best['error']:.1f}%"


def draw(results: dict, path: Path) -> None:
    """Error against CPU-seconds, both logarithmic; one panel per problem and dynamics, one line per method."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    problems = [p for p in CASES if any(key.startswith(p + "/") for key in results["cells"])]
    names = [n for n in DYNAMICS if any(key.endswith("/" + n) for key in results["cells"])]
    figure, axes = plt.subplots(
        len(problems), len(names), figsize=(4.0 * len(names), 3.1 * len(problems)), squeeze=False, sharex=True, sharey=True
    )
    styles = {"solve": ("C0", "o"), "simulation": ("C1", "s"), "plain": ("C2", "^")}
    for row, problem in enumerate(problems):
        for column, name in enumerate(names):
            axis, cell = axes[row, column], results["cells"].get(f"{problem}/{name}", {})
            for method, (colour, marker) in styles.items():
                if not cell.get(method):
                    continue
                points = sorted(cell[method]["points"], key=lambda p: p["cpu_seconds"])
                axis.loglog(
                    [p["cpu_seconds"] for p in points], [100 * p["error"] for p in points], color=colour, marker=marker, label=method
                )
                cost = cell[method]["cost_at_target"]["cpu_seconds"]
                if method == "plain" and cost is not None:
                    last = points[-1]
                    axis.loglog(
                        [last["cpu_seconds"], cost],
                        [100 * last["error"], 100 * TARGET],
                        color=colour,
                        linestyle=":",
                        label="plain, extrapolated",
                    )
            axis.axhline(100 * TARGET, color="0.6", linewidth=0.8)
            axis.set_title(f"{problem}, {SHORT[name]}", fontsize=10)
            axis.grid(alpha=0.3)
            if row == len(problems) - 1:
                axis.set_xlabel("CPU-seconds, one thread")
            if column == 0:
                axis.set_ylabel("error (% of scale)")
    axes[0, 0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="fewer tolerances, seeds and runs")
    parser.add_argument("--problems", default=",".join(CASES))
    parser.add_argument("--dynamics", default=",".join(DYNAMICS))
    parser.add_argument("--only", default="solve,simulation,plain", help="methods to measure")
    parser.add_argument("--again", action="store_true", help="measure anew what is stored")
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    options = parser.parse_args()
    plan, stem = (FAST, "work_precision-fast") if options.fast else (FULL, "work_precision")
    file = common.RESULTS / f"{stem}.json"
    results = json.loads(file.read_text()) if file.exists() else {"cells": {}}
    results.update(machine=common.machine(), target=TARGET)
    for problem in options.problems.split(","):
        for name in options.dynamics.split(","):
            stored = results["cells"].setdefault(f"{problem}/{name}", {})
            todo = [m for m in options.only.split(",") if options.again or m not in stored]
            if not todo:
                continue
            cell = Cell(problem, name, plan, common.RESULTS / "truth.json")
            stored["truth_check"] = cell.truth_check
            for method in todo:
                stored[method] = getattr(cell, "measure_" + method)()
                common.save_json(file, results)
                print(f"{problem} {name} {method}: {stored[method]['cost_at_target']}", flush=True)
            (common.RESULTS / f"{stem}.md").write_text(report(results))
            draw(results, common.RESULTS / f"{stem}.png")
    text = report(results)
    print("\n" + text)
    if options.readme:
        common.fill("work_precision", text)


if __name__ == "__main__":
    main()
