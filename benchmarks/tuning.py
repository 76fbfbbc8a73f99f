"""Does `sl.tune` find the closed form's best step and ridge, and in how many solves? Ten random linear problems.

The step alone, the ridge alone and both together, at the end of some epochs or of a horizon and at the best time, from bounds of a factor
of some tens and of hundreds. Exit code 1 if 20 solves are not enough or fewer than 90% of places and values lie within two standard errors.
`python benchmarks/tuning.py [--count 10] [--first 0] [--readme]`
"""

from __future__ import annotations

import common  # first: it pins the process before NumPy and JAX start

# isort: split

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

import sgdlimit as sl
from problems import linear
from sgdlimit.theory import closed_forms

RTOL = 0.02
MOST = 19
KINDS = {"step": ("step",), "ridge": ("ridge",), "both": ("step", "ridge")}


@dataclass(frozen=True)
class Linear:
    """A problem; `held` are the numbers that are not tuned."""

    known: dict[str, float]
    clock: dict[str, float]
    at: str
    held: dict[str, float]
    bounds: dict[str, tuple[float, float, str]]

    @property
    def title(self) -> str:
        ratio, noise = self.known["sample_ratio"], self.known["noise_variance"]
        ((clock, much),) = self.clock.items()
        return f"n/d {ratio:.2f}, noise variance {noise:.2f}, {clock} {much:.3g}, {self.at}"

    def make(self, **numbers: float) -> tuple[sl.Problem, sl.SGD]:
        all_ = self.held | numbers
        return replace(self.problem, penalty=sl.Ridge(all_["ridge"])), sl.SGD(all_["step"])

    @property
    def problem(self) -> sl.Problem:
        return linear(ridge=self.held["ridge"], **self.known)

    def risk(self, **numbers: float) -> float:
        all_ = self.held | numbers
        end = self.clock.get("horizon") or self.clock["epochs"] * all_["step"] * self.known["sample_ratio"]
        times = [end] if self.at == "end" else np.linspace(0.0, end, 101)
        return float(closed_forms.linear_model(times=times, **all_, **self.known)["test_risk"].min())


def random(index: int) -> Linear:
    """The `index`-th: `n/d` log-uniform in [0.5, 4]; every third has a horizon in the place of epochs, every second is read at its best."""
    rng = np.random.default_rng([77, index])
    ratio = float(np.exp(rng.uniform(*np.log([0.5, 4.0]))))
    variances = {name: float(rng.uniform(*ends)) for name, ends in _RANGES.items()}
    clock = {"epochs": float(rng.integers(1, 6))} if index % 3 else {"horizon": float(rng.uniform(1.0, 5.0))}
    most = closed_forms.stability_limit(ratio, 0.001)
    bounds = {"step": (0.05, 1.5 * most, "log"), "ridge": (0.003, 2.0, "log")}
    held = {"step": 0.5 * closed_forms.stability_limit(ratio, 0.1), "ridge": 0.1}
    return Linear({"sample_ratio": ratio, **variances}, clock, "end" if index % 2 else "best", held, bounds)


_RANGES = {"noise_variance": (0.0, 1.0), "start_variance": (0.1, 2.0), "teacher_variance": (0.5, 3.0)}


def truth(one: Linear, names: tuple[str, ...]) -> tuple[dict[str, float], float]:
    """The best numbers within the bounds, by the closed form from three starts."""
    ends = [np.log(one.bounds[name][:2]) for name in names]
    numbers = lambda x: {name: float(np.exp(np.clip(v, *end))) for name, v, end in zip(names, x, ends, strict=True)}
    risk: Callable = lambda x: min(one.risk(**numbers(x)), 1e9)
    starts = np.random.default_rng(0).uniform(0.1, 0.9, (3, len(names)))
    options = {"xatol": 1e-5, "fatol": 1e-10, "maxiter": 500}
    found = [minimize(risk, [a + u * (b - a) for u, (a, b) in zip(start, ends, strict=True)], method="Nelder-Mead", options=options)
             for start in starts]  # fmt: skip
    best = min(found, key=lambda each: each.fun)
    return numbers(best.x), float(best.fun)


def measure(index: int, kind: str) -> dict:
    one, names = random(index), KINDS[kind]
    makes = {"step": lambda step: one.make(step=step), "ridge": lambda ridge: one.make(ridge=ridge), "both": lambda step, ridge: one.make(
        step=step, ridge=ridge)}  # fmt: skip
    bounds = {name: one.bounds[name] for name in names}
    best, seconds = common.timed(lambda: sl.tune(one.problem, makes[kind], bounds, at=one.at, rtol=RTOL, seed=index, **one.clock))  # pyright: ignore
    place, value = truth(one, names)
    found = {name: [best.parameters[name], best.parameters_se[name], place[name]] for name in names}
    return {
        "title": one.title, "kind": kind, "solves": len(best.trials["trial"]) + 1, "seconds": seconds, "found": found,
        "value": [best.value, best.value_se, value], "worse": one.risk(**best.parameters) / value - 1.0, "notes": list(best.notes),
    }  # fmt: skip


def deviation(found: list[float]) -> float:
    value, se, true = found
    return 0.0 if abs(value - true) < 1e-6 * abs(true) else (value - true) / max(se, 1e-12)


def summary(rows: list[dict]) -> tuple[str, bool]:
    """A table, and whether all holds."""
    body, all_z = [], []
    for kind in KINDS:
        chosen = [row for row in rows if row["kind"] == kind]
        places = [deviation(found) for row in chosen for found in row["found"].values()]
        values = [deviation(row["value"]) for row in chosen]
        solves = [row["solves"] for row in chosen]
        all_z += places + values
        share = lambda z: f"{np.mean(np.abs(z) <= 2):.0%}, worst {np.abs(z).max():.1f}"
        body.append([kind, str(len(chosen)), f"{np.mean(solves):.1f}", str(max(solves)), share(places), share(values),
                     f"{max(row['worse'] for row in chosen):.2%}", f"{np.median([row['seconds'] for row in chosen]):.1f}"])  # fmt: skip
    header = ["tuned", "problems", "solves, mean", "most", "places within 2 se", "values within 2 se", "true risk above the least, most",
              "median CPU-s"]  # fmt: skip
    holds = max(row["solves"] for row in rows) <= MOST and np.mean(np.abs(all_z) <= 2) >= 0.9
    return common.table(header, body), bool(holds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    options = parser.parse_args()
    rows = []
    for index in range(options.first, options.first + options.count):
        for kind in KINDS:
            row = measure(index, kind)
            rows.append(row)
            told = ", ".join(f"{name} {v:.4g} ± {se:.2g} (true {t:.4g}, {deviation([v, se, t]):+.1f} se)"
                             for name, (v, se, t) in [*row["found"].items(), ("risk", row["value"])])  # fmt: skip
            print(f"{row['title']}: {kind}, {row['solves']} solves, {told}, {row['worse']:.2%} worse, {row['seconds']:.1f} s", flush=True)
    text, holds = summary(rows)
    print("\n" + text)
    common.save_json(common.RESULTS / "tuning.json", {"machine": common.machine(), "problems": rows})
    if options.readme:
        common.fill("tuning", text)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
