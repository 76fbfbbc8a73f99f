"""Do the witnesses inside `solve` keep silent where nothing is wrong? Four hundred random problems, at random `rtol`.

Models by name, dynamics, samples per feature, steps, ridges, starts, spectra and horizons are drawn from the law that `draw` states. A
witness that finds a fault, or an error that it had to widen, is a false alarm. Exit code 1 if there is one. It continues where it stopped.
`python benchmarks/witnesses.py [--count 400] [--again] [--readme]`
"""

from __future__ import annotations

import common  # first: it pins the process before NumPy and JAX start

# isort: split

import argparse
import json
import sys
from collections import Counter
from functools import cache

import numpy as np

import sgdlimit as sl
from sgdlimit import models
from sgdlimit.theory import shapes

MODELS = {
    "ridge_regression": {},
    "tanh_regression": {},
    "logistic": {},
    "huber": {},
    "probit": {},
    "hinge": {},
    "quantile": {"df": 4.0},
    "softmax": {"classes": 3},
    "committee": {"weights": [1.0, -0.5]},
    "relu committee": {"weights": [1.0, -0.5], "activation": "relu"},
}
PENALTY = sl.SmoothPenalty(lambda theta: 0.1 * ((theta**2 + 0.01) ** 0.5).sum())
STORED = common.RESULTS / "witnesses.json"
WITNESSES = ("the start", "the draws", "a handful of samples", "the two self-overlaps", "the first answer")


@cache
def model(name: str) -> models.Model:
    """One object for each name, so that its problems share compiled programs."""
    return models.build(name.rsplit(" ", 1)[-1], MODELS[name])


def draw(index: int) -> tuple[str, sl.Problem, object, float, float]:
    """Title, problem, dynamics, horizon and `rtol` number `index`.

    The model in turn; SGD (half), reshuffled SGD, SME and flow; `n/d` log-uniform in [0.5, 5]; teacher and start of variance 0.3 to 2 and
    0.1 to 1.5, every third start knowing something of the teacher; steps 0.1 to 1.2, 2 to 12 epochs of SGD, at most 8 units of time; one in
    eight with a two-eigenvalue spectrum, one in twelve with a smooth penalty, else a ridge up to 0.2 or none; `rtol` 0.02 to 0.1.
    """
    rng = np.random.default_rng([1313, index])
    name = list(MODELS)[index % len(MODELS)]
    m = model(name)
    k, k_star = m.k, m.k_star
    ratio = float(np.exp(rng.uniform(np.log(0.5), np.log(5.0))))
    step = float(rng.uniform(0.1, 1.2))
    kind = ("sgd", "sgd", "sgd", "reshuffled", "sme", "flow")[int(rng.integers(6))]
    if kind in ("sme", "flow") and name in ("hinge", "relu committee"):
        kind = "sgd"  # for which there is theory of kinks
    dynamics = {
        "sgd": lambda: sl.SGD(step),
        "reshuffled": lambda: sl.SGD(step, sampling="reshuffle"),
        "sme": lambda: sl.SME(step),
        "flow": sl.GradientFlow,
    }[kind]()
    turned = rng.standard_normal((k_star, k_star))
    cov = float(rng.uniform(0.3, 2.0)) * (np.eye(k_star) + 0.3 * turned @ turned.T / k_star)
    overlap = rng.uniform(-0.3, 0.6, (k, k_star)) if index % 3 == 0 else np.zeros((k, k_star))
    start = float(rng.uniform(0.1, 1.5)) * np.eye(k)
    smooth, spectral = rng.random() < 1 / 12, rng.random() < 1 / 8
    penalty = PENALTY if smooth else sl.Ridge(float(rng.uniform(0.01, 0.2))) if rng.random() < 0.7 else None
    spectrum = sl.Spectrum([2.0, 0.5], weights=[1 / 3, 2 / 3]) if spectral and not smooth else None
    horizon = min(float(rng.uniform(2.0, 12.0)) * step * ratio, 8.0)
    problem = sl.Problem(
        m.loss, m.label, m.noise, sample_ratio=ratio, teacher=sl.GaussianTeacher(cov), init=sl.Init(overlap, start), penalty=penalty,
        spectrum=spectrum,
    )  # fmt: skip
    rtol = float(np.exp(rng.uniform(np.log(0.02), np.log(0.1))))
    extra = ", spectrum" if spectrum else ", smooth penalty" if smooth else ""
    title = f"{index} {name}: {kind}, delta {ratio:.2f}, step {step:.2f}, t {horizon:.2f}, rtol {rtol:.2g}{extra}"
    return title, problem, dynamics, horizon, rtol


def run(index: int) -> dict:
    """What the witnesses of one solve saw, in units of what is allowed."""
    title, problem, dynamics, horizon, rtol = draw(index)
    call = lambda: sl.solve(problem, dynamics, horizon, rtol=rtol, seed=index, on_failure="return")
    try:
        solution, seconds = common.timed(call)
    except sl.SolveError as e:
        return {"title": title, "status": "no answer", "words": str(e), "seconds": 0.0, "seen": {}}
    seen = solution.diagnostics.get("witnesses", "")
    parts = dict(part.rsplit(" ", 1) for part in seen.removesuffix(" of what is allowed").split("; ") if part)
    return {
        "title": title,
        "status": solution.status.code,
        "words": str(solution.status),
        "seconds": seconds,
        "seen": {name: float(size) for name, size in parts.items()},
    }


def alarms(rows: list[dict]) -> list[str]:
    return [f"{row['title']}: {row['seen']}; {row['words']}" for row in rows if any(not size <= 1.0 for size in row["seen"].values())]


def summary(rows: list[dict]) -> str:
    body = []
    for name in WITNESSES:
        sizes = [row["seen"][name] for row in rows if name in row["seen"]]
        if sizes:
            body.append([name, str(len(sizes)), f"{np.median(sizes):.2g}", f"{np.quantile(sizes, 0.99):.2g}", f"{max(sizes):.2g}",
                         str(sum(not size <= 1.0 for size in sizes))])  # fmt: skip
    return common.table(["witness", "solves", "median of what is allowed", "99% of them below", "largest", "alarms"], body)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--again", action="store_true", help="run what is stored, too: after a change of the program")
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    options = parser.parse_args()
    shapes.few()  # as sweeps and the explorer do: hundreds of problems, dozens of programs
    stored = json.loads(STORED.read_text())["problems"] if STORED.exists() and not options.again else []
    known = {row["title"]: row for row in stored}
    rows: list[dict] = []
    for index in range(options.count):
        title = draw(index)[0]
        rows.append(known.get(title) or run(index))
        if title not in known:
            common.save_json(STORED, {"machine": common.machine(), "problems": rows})
            print(f"{title}: {rows[-1]['status']}, {rows[-1]['seconds']:.1f} s, {rows[-1]['seen']}", flush=True)
    print("\n" + summary(rows), Counter(row["status"] for row in rows))
    if options.readme:
        common.fill("witnesses", summary(rows))
    for line in alarms(rows):
        print(f"false alarm: {line}", file=sys.stderr)
    return bool(alarms(rows))


if __name__ == "__main__":
    sys.exit(main())
