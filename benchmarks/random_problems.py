"""What `solve` costs on problems nobody tuned for, against direct simulation that is as accurate.

Forty problems of a stated law (`random_problem`). Each is a process of its own with an empty cache of programs, on one thread: `solve` at
1% and 0.3%, cold and again with other seeds; a tighter solve, by which their errors are known; and runs at `d = 2000`, whose number is
counted up to the standard error that is as large, once as those errors are and once as they were reported. What is reported is wider than a
standard error, as few replicates do not know theirs well. `python benchmarks/random_problems.py [--count 40] [--first 0] [--readme]`,
`--look 7` prints one problem, `--again` measures anew what is stored.
"""

from __future__ import annotations

import common  # first: it pins the process before NumPy and JAX start

# isort: split

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import date

import jax.numpy as jnp
import numpy as np

import sgdlimit as sl
from sgdlimit.learning.risk import TestRisk
from sgdlimit.spread import pooled
from sgdlimit.theory import closed_forms
from sgdlimit.theory.accuracy.outcome import scales

FILE = common.RESULTS / "random_problems.json"
ACCURACIES = (0.01, 0.003)
FEATURES, RUNS = 2000, 8
PATIENCE = 1200  # seconds of a process, on the clock
SEEDS, DEAR = 4, 10.0  # so many calls of `solve`, but two where one takes more CPU-seconds than this
LEAST_CURVATURE = 0.25  # which a step is chosen by: a hinge has none that a second derivative tells, a saturated unit hardly any


def _log_cosh(r, y):
    return jnp.logaddexp(r[0] - y, y - r[0])


def _sine_label(r_star, z):
    return jnp.sin(r_star[0]) + 0.3 * z


def _own_unit(r, y):
    return 0.5 * (r[0] / jnp.sqrt(1.0 + r[0] ** 2) - y) ** 2


def _gate(r, y):
    return 0.5 * (r[0] * jnp.tanh(r[1]) - y) ** 2


def _gate_label(r_star, z):
    return r_star[0] * jnp.tanh(r_star[1]) + 0.2 * z


OWN = {  # loss, label, k, k*
    "log cosh": (_log_cosh, _sine_label, 1, 1),
    "own unit": (_own_unit, _sine_label, 1, 1),
    "gate": (_gate, _gate_label, 2, 2),
}
NAMED = {
    "linear_regression": lambda rng: {"noise": float(rng.uniform(0.1, 1.0))},
    "tanh_regression": lambda rng: {"noise": float(rng.uniform(0.1, 0.6))},
    "huber": lambda rng: {"noise": float(rng.uniform(0.2, 0.8)), "df": 3.0},
    "quantile": lambda rng: {"level": float(rng.uniform(0.2, 0.8)), "width": 0.3},
    "logistic": lambda rng: {"temperature": float(rng.uniform(0.5, 2.0))},
    "probit": lambda rng: {"noise": float(rng.uniform(0.5, 1.5))},
    "hinge": lambda rng: {"noise": float(rng.uniform(0.2, 1.0))},
    "softmax": lambda rng: {"classes": 3},
    "committee": lambda rng: {"weights": rng.uniform(0.5, 1.5, int(rng.integers(2, 4))).tolist()},
    "phase_retrieval": lambda rng: {"noise": float(rng.uniform(0.1, 0.5))},
}


@dataclass(frozen=True)
class Drawn:
    """A problem, what trains it and for how long."""

    title: str
    problem: sl.Problem
    dynamics: sl.SGD | sl.SME | sl.GradientFlow
    horizon: float


def random_problem(index: int) -> Drawn:
    """The `index`-th one: the model uniform among ten named and three own ones; SGD, reshuffled SGD, SME and flow in turn; `n/d`
    log-uniform in [.4, 6]; every second four a ridge up to .2 of the curvature at the start; start and teacher of variance .1 to 1 and 1
    to 2, with an overlap up to half of what they allow; the step .1 to .8 of the stable one for the curvature at the start; log-uniform
    1 to 20 epochs (for the flow of such a step)."""
    rng = np.random.default_rng([1701, index])
    kinked = index % 4 < 2  # SME and flow have no limit there
    name = str(rng.choice([*(name for name in NAMED if kinked or name != "hinge"), *OWN]))
    if name in OWN:
        loss, label, k, k_star = OWN[name]
        noise = sl.Normal()
    else:
        model = sl.models.build(name, NAMED[name](rng))
        loss, label, noise, k, k_star = model.loss, model.label, model.noise, model.k, model.k_star
    ratio = float(np.exp(rng.uniform(np.log(0.4), np.log(6.0))))
    rho, start = float(rng.uniform(1.0, 2.0)), float(rng.uniform(0.1, 1.0))
    aligned = float(rng.uniform(0.0, 0.5)) * np.sqrt(start / rho) * np.eye(k, k_star)
    if name == "softmax":  # each row with its own teacher
        aligned = aligned[:, :k_star]
    cov = start * np.eye(k) - rho * aligned @ aligned.T
    parts = {
        "loss": loss, "label": label, "noise": noise, "sample_ratio": ratio,
        "teacher": sl.GaussianTeacher(rho * np.eye(k_star)), "init": sl.Init(aligned, cov),
    }  # fmt: skip
    curvature = max(TestRisk(sl.Problem(**parts), 0).curvature(), LEAST_CURVATURE)
    ridge = float(rng.uniform(0.01, 0.2)) * curvature if index // 4 % 2 else 0.0
    step = float(rng.uniform(0.1, 0.8)) * closed_forms.stability_limit(ratio, ridge / curvature) / curvature
    epochs = float(np.exp(rng.uniform(0.0, np.log(20.0))))
    dynamics = (sl.SGD(step), sl.SGD(step, "reshuffle"), sl.SME(step), sl.GradientFlow())[index % 4]
    horizon = epochs * step * ratio
    kind = ("SGD", "reshuffled", "SME", "flow")[index % 4]
    title = f"{name}, {kind}, n/d {ratio:.3g}, step {step:.3g}, ridge {ridge:.2g}, {epochs:.3g} epochs to t = {horizon:.3g}"
    return Drawn(title, sl.Problem(**parts, penalty=sl.Ridge(ridge) if ridge else None), dynamics, horizon)


def peak() -> float:
    """GiB that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(index: int) -> dict:
    """One problem, in this process."""
    drawn = random_problem(index)
    row: dict = {"index": index, "title": drawn.title, "solve": {}}
    found = {}
    for rtol in ACCURACIES:
        found[rtol], spent = called(drawn, rtol)
        first = found[rtol][0]
        plan = {name: first.diagnostics.get(name, 0) for name in ("method", "cells", "paths", "replicates", "pilot_cells")}
        row["solve"][str(rtol)] = {
            "cold": spent[0], "warm": float(np.median(spent[1:])), "peak": peak(), "status": first.status.code,
            "error": float(np.median([one.diagnostics["error"] for one in found[rtol]])), **plan,
        }  # fmt: skip
        if "simulation" not in row:
            say(row)  # before what may take too long
            row["simulation"] = simulated(drawn, first.dataset.time.values)
        say(row)
    if any(one.status.code == "diverged" for several in found.values() for one in several):
        return row  # each ends at a time of its own
    times = found[0.01][0].dataset.time.values
    truth = sl.solve(drawn.problem, drawn.dynamics, drawn.horizon, rtol=0.001, seed=9, times=times, budget=30.0)
    row["truth"] = truth.diagnostics["error"]
    for rtol, several in found.items():
        row["solve"][str(rtol)] |= {
            "z": np.concatenate([deviations(one, truth) for one in several]).tolist(),
            "true": missed(drawn, several, truth),
        }
    say(row)
    return row


def called(drawn: Drawn, rtol: float) -> tuple[list[sl.Solution], list[float]]:
    """What `solve` gives with several seeds, and the CPU-seconds of each call."""
    solutions, spent = [], []
    while len(spent) < (2 if spent and spent[-1] > DEAR else SEEDS):
        seed = 1 + len(spent)
        call = lambda seed=seed: sl.solve(drawn.problem, drawn.dynamics, drawn.horizon, rtol=rtol, seed=seed, on_failure="return")
        solution, seconds = common.timed(call)
        solutions.append(solution)
        spent.append(seconds)
    return solutions, spent


def simulated(drawn: Drawn, times: np.ndarray) -> dict[str, float]:
    """CPU-seconds of one run at `FEATURES`, and its spread as `solve` tells that of its replicates: relative to the curves' scales, over
    nearby times together, at the worst time of the worst curve."""
    horizon = float(times[-1])
    runs = lambda repeats, seed: sl.simulate(
        drawn.problem, drawn.dynamics, horizon, n_features=FEATURES, repeats=repeats, seed=seed, times=times
    )
    runs(2, 0)
    real, seconds = common.timed(lambda: runs(RUNS, 1))
    size = scales(drawn.problem, {name: real.dataset[name].values for name in common.CURVES})
    each = {name: RUNS**0.5 * pooled(real.dataset[f"{name}_se"].values, times, horizon) for name in common.CURVES}
    return {"seconds": seconds / RUNS, "spread": max(float(values.max()) / size[name] for name, values in each.items())}


def missed(drawn: Drawn, several: list[sl.Solution], truth: sl.Solution) -> float:
    """The true error of solves with several seeds, as `simulated` tells that of a run: relative to the curves' scales, over seeds and
    nearby times together, at the worst time of the worst curve. What truth is off by counts too."""
    times = truth.dataset.time.values
    size = scales(drawn.problem, {name: truth.dataset[name].values for name in common.CURVES})
    worst = 0.0
    for name in common.CURVES:
        apart = np.array([one.dataset[name].values - truth.dataset[name].values for one in several])
        worst = max(worst, float(pooled(np.sqrt(np.mean(apart**2, 0)), times, float(times[-1])).max()) / size[name])
    return worst


def say(row: dict) -> None:
    """What is known so far, for the process that waits."""
    print(json.dumps(row), flush=True)


def deviations(one: sl.Solution, truth: sl.Solution) -> np.ndarray:
    """In joint standard errors, at all points of the four curves that have an error."""
    z = []
    for name in common.CURVES:
        se = np.hypot(one.dataset[name + "_se"].values, truth.dataset[name + "_se"].values)
        inside = se > 0
        z.append(((one.dataset[name].values - truth.dataset[name].values)[inside] / se[inside]).ravel())
    return np.concatenate(z)


def in_its_own_process(index: int) -> dict:
    """With an empty cache of programs; what it had measured where it takes too long or dies."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, __file__, "--one", str(index)]
        environment = common.os.environ | {"XDG_CACHE_HOME": cache, "TF_CPP_MIN_LOG_LEVEL": "3"}
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
            said, end = done.stdout, done.stderr.strip().rpartition("\n")[2] if done.returncode else ""
        except subprocess.TimeoutExpired as late:
            said, end = (late.stdout or b"").decode(), f"not done in {PATIENCE} s"
    lines = [line for line in said.splitlines() if line.startswith("{")]
    row = json.loads(lines[-1]) if lines else {"index": index, "title": random_problem(index).title, "solve": {}}
    return row | ({"end": end} if end else {})


def ratio(row: dict, rtol: float, how: str, error: str = "true") -> float:
    """Cost of simulation with the same `error`, the true one or the one reported ("error"), over that of `solve`; zero where it was not
    done. Where truth is not known twice as well, the reported one."""
    one, run = row["solve"].get(str(rtol), {}), row.get("simulation")
    if run is None or how not in one:
        return 0.0
    known = "true" in one and row["truth"] < 0.5 * one["error"]
    size = max(one["true"], row["truth"]) if error == "true" and known else one["error"]
    return run["seconds"] * max(run["spread"] / size, 1.0) ** 2 / one[how]


def summary(rows: list[dict]) -> str:
    """The distribution, and the worst ten by name."""
    ended = [row for row in rows if "diverges" in row.get("end", "") or any(one["status"] == "diverged" for one in row["solve"].values())]
    rows = [row for row in rows if row not in ended]  # of these runs and theory stop at another time
    body = []
    for rtol in ACCURACIES:
        done = [row["solve"][str(rtol)] for row in rows if str(rtol) in row["solve"]]
        z = [np.array(one["z"]) for one in done if "z" in one]
        inside = np.mean([np.mean(np.abs(one) <= 2) for one in z]) if z else float("nan")
        for how in ("warm", "cold"):
            ratios, reported = (np.sort([ratio(row, rtol, how, error) for row in rows]) for error in ("true", "error"))
            body.append([
                f"{rtol:.1%}, {how}", f"{len(done)}/{len(rows)}", f"{np.median(ratios):.3g}", f"{ratios[len(ratios) // 10]:.3g}",
                f"{ratios[0]:.2g}", str(int((ratios < 1).sum())), f"{np.median(reported):.3g}",
                f"{np.median([one[how] for one in done]):.3g}", f"{max(one[how] for one in done):.3g}",
                f"{max(one['peak'] for one in done):.2g}", f"{np.median([one['error'] for one in done]) / rtol:.2f}",
                f"{np.nanmedian([one.get('true', np.nan) for one in done]) / rtol:.2f}", f"{inside:.1%}",
            ])  # fmt: skip
    header = ["accuracy", "done", "median ratio", "one in ten below", "worst", "below 1", "median by the reported error", "median CPU-s",
              "most CPU-s", "peak GiB", "reported / asked", "true / asked", "truth within 2 se"]  # fmt: skip
    worst = sorted(rows, key=lambda row: ratio(row, 0.01, "warm"))[:10]
    named = [[
        str(row["index"]), row["title"], f"{ratio(row, 0.01, 'warm'):.2g}", f"{ratio(row, 0.003, 'warm'):.2g}",
        *(f"{row['solve'][str(rtol)]['warm']:.3g}" if str(rtol) in row["solve"] else "-" for rtol in ACCURACIES),
        row.get("end", "").strip()[-50:],
    ] for row in worst]  # fmt: skip
    names = ["", "the worst ten at 1%", "ratio at 1%", "at 0.3%", "CPU-s at 1%", "at 0.3%", ""]
    return common.table(header, body) + f"\n{len(ended)} more diverge.\n\n" + common.table(names, named)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", type=lambda text: [int(part) for part in text.split(",")], help="numbers of problems")
    parser.add_argument("--look", type=int, help="print this problem")
    parser.add_argument("--one", type=int, help="measure this problem in this process")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    options = parser.parse_args()
    if options.look is not None:
        print(random_problem(options.look))
        return
    if options.one is not None:
        measure(options.one)
        return
    stored = json.loads(FILE.read_text()) if FILE.exists() else {"problems": [], "history": []}
    rows = {row["index"]: row for row in stored["problems"]}
    for index in options.only or range(options.first, options.first + options.count):
        if index in rows and not options.again:
            continue
        rows[index] = in_its_own_process(index)
        shown = {rtol: {k: v for k, v in one.items() if k != "z"} for rtol, one in rows[index]["solve"].items()}
        print(index, rows[index]["title"], shown, rows[index].get("end", ""), flush=True)
        stored |= {"problems": [rows[i] for i in sorted(rows)], "machine": common.machine()}
        common.save_json(FILE, stored, indent=None)
    text = summary(list(rows.values()))
    stored["history"] = [*stored["history"], {"date": str(date.today()), "table": text}]
    common.save_json(FILE, stored, indent=None)
    print(text)
    if options.readme:
        common.fill("random_problems", text)


if __name__ == "__main__":
    main()
