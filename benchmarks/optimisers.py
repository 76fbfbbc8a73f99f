"""How far real runs with an optimiser are from their limit: small `d`, batches of one and of many, a short `beta2`.

    python benchmarks/optimisers.py      # two minutes; writes results/optimisers.json and prints the table of docs/optimisers.md

The problem is `tanh_regression`. A deviation is the largest over the output times, of the self-overlap and of the test risk, in parts of
the curve's largest value, with the joint standard error at that time. Sizes of one row have one limit where step and memories are equal.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

import common  # noqa: F401  pins the process before JAX starts
import sgdlimit as sl

RESULT = Path(__file__).parent / "results" / "optimisers.json"
HORIZON, SEED, RTOL = 3.0, 1, 0.004
TIMES = np.linspace(0.0, HORIZON, 13)
MOMENTUM = sl.SGD(1.5, optimizer=sl.Momentum(0.8))
ADAM = sl.SGD(0.5, optimizer=sl.Adam(0.05, 4.0))
SIZES = ((125, 4, 256), (500, 4, 64), (2000, 4, 16), (500, 1, 64), (500, 32, 64))  # features, batch, repeats


def of_betas(second: float, batch: int) -> sl.SGD:
    """`torch.optim.Adam(betas=(0.9, second))`, of step 0.5 whatever the batch."""
    return sl.Adam.from_learning_rate(0.5 * math.sqrt(batch) / 500, batch, 500, betas=(0.9, second))


def problem() -> sl.Problem:
    model = sl.models.build("tanh_regression", {"noise": 0.3})
    teacher, init = sl.GaussianTeacher([[2.25]]), sl.Init([[0.0]], [[1.0]])
    return sl.Problem(model.loss, model.label, model.noise, 1.5, teacher, init, sl.Ridge(0.05))


def rows() -> list[tuple[str, sl.SGD, int, int, int]]:
    found = [(name, dynamics, *size) for name, dynamics in (("momentum", MOMENTUM), ("Adam", ADAM)) for size in SIZES]
    return found + [(f"Adam, beta2 = {beta:g}", of_betas(beta, batch), 500, batch, 64) for beta in (0.99, 0.9) for batch in (1, 8, 64)]


def deviations(limit: sl.Solution, runs: sl.Simulation) -> dict[str, tuple[float, float]]:
    found = {}
    for curve in ("self_overlap", "test_risk"):
        (a, a_se), (b, b_se) = ((one.dataset[curve].values.ravel(), one.dataset[f"{curve}_se"].values.ravel()) for one in (limit, runs))
        at = int(np.argmax(np.abs(b - a)))
        found[curve] = float((b - a)[at] / a.max()), float(math.hypot(a_se[at], b_se[at]) / a.max())
    return found


def table(told: list[dict]) -> str:
    """The table of docs/optimisers.md."""
    spoken = lambda pair: f"{100 * pair[0]:+.1f} ± {100 * pair[1]:.1f}"
    lines = ["| optimiser | features | batch | runs | self-overlap (%) | test risk (%) |", "|---|---|---|---|---|---|"]
    for one in told:
        cells = [one["name"], one["n_features"], one["batch_size"], one["repeats"], spoken(one["self_overlap"]), spoken(one["test_risk"])]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    solved, told = {}, []
    for name, dynamics, features, batch, repeats in rows():
        if repr(dynamics) not in solved:
            solved[repr(dynamics)] = sl.solve(problem(), dynamics, HORIZON, rtol=RTOL, times=TIMES, on_failure="return")
        runs = sl.simulate(problem(), dynamics, HORIZON, features, batch, repeats, seed=SEED, times=TIMES)
        told.append(
            {"name": name, "n_features": features, "batch_size": batch, "repeats": repeats, **deviations(solved[repr(dynamics)], runs)}
        )
        print(told[-1], flush=True)
    print(table(told))
    RESULT.write_text(json.dumps({"seed": SEED, "rtol": RTOL, "rows": told}, indent=1) + "\n")


if __name__ == "__main__":
    main()
