"""Are the errors of derivatives true? Twenty random problems, the derivatives of all four curves by the numbers of each.

Twelve are linear, where differences of the closed form are the truth. Eight are not (tanh, logistic, committee and hinge, each twice):
there the truth is a call at a quarter of the `rtol` and half the differences, with other random numbers. It must lie within two
standard errors at 90 to 99% of all points. Exit code 1 if it does not.
`python benchmarks/sensitivity.py [--count 20] [--first 0] [--readme]`
"""

from __future__ import annotations

import common  # first: it pins the process before NumPy and JAX start

# isort: split

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

import sgdlimit as sl
from problems import CASES, DYNAMICS, KINKED, linear
from sgdlimit.theory import closed_forms

TIGHTER = 4.0
SMALL = 1e-4  # of a number, differences of the closed form
NONLINEAR = ("tanh_regression", "logistic", "committee", "hinge")
TRAIN = {
    "SGD": lambda step: sl.SGD(step),
    "reshuffled": lambda step: sl.SGD(step, sampling="reshuffle"),
    "SME": lambda step: sl.SME(step),
    "momentum": lambda step: sl.SGD(step, optimizer=sl.Momentum(0.3)),
    "flow": lambda step: sl.GradientFlow(),
}


SMOOTH = ("SME", "flow")  # a gradient that jumps is refused there


@dataclass(frozen=True)
class Asked:
    """Derivatives of the curves of `make(**numbers)`, and the `truth(found)` about them: slopes and their errors by curve."""

    title: str
    kind: str
    problem: sl.Problem
    make: Callable
    numbers: dict[str, float]
    clock: dict[str, float]
    rtol: float
    truth: Callable


def asked(index: int) -> Asked:
    """The `index`-th problem, of its own random stream: three linear ones, then two others, in turn.

    `rtol` is log-uniform in [0.03, 0.1]. Numbers are the ridge, the step unless there is none, and of linear problems the sample ratio.
    The clock is that of epochs at every second problem with a step.
    """
    rng = np.random.default_rng([1907, index])
    rtol = float(np.exp(rng.uniform(*np.log([0.03, 0.1]))))
    return _linear(index, rng, rtol) if index % 5 < 3 else _other(index, rng, rtol)


def _linear(index: int, rng: np.random.Generator, rtol: float) -> Asked:
    kind, ratio, ridge = DYNAMICS[index % 5], float(np.exp(rng.uniform(*np.log([0.5, 4.0])))), float(rng.uniform(0.02, 0.3))
    numbers = {"ridge": ridge, "ratio": ratio}
    numbers |= {} if kind == "gf" else {"step": float(rng.uniform(0.1, 0.7)) * closed_forms.stability_limit(ratio, ridge)}
    end, fixed = _horizon(index, rng, numbers), {name: float(rng.uniform(*ends)) for name, ends in _RANGES.items()}
    train = TRAIN[{"sgd": "SGD", "sme": "SME", "gf": "flow"}[kind]]
    make = lambda ridge, ratio, step=0.0: (linear(sample_ratio=ratio, ridge=ridge, **fixed), train(step))

    def curves(parts: np.ndarray, ridge: float, ratio: float, step: float = 0.0) -> dict[str, np.ndarray]:
        horizon = end["horizon"] if "horizon" in end else end["epochs"] * step * ratio
        return closed_forms.linear_model(sample_ratio=ratio, step=step, ridge=ridge, times=parts * horizon, **fixed)

    def truth(found):
        parts, slopes = found["time"].values / found["time"].values[-1], {}
        for name, value in numbers.items():
            more, less = (curves(parts, **{**numbers, name: value * (1 + sign * SMALL)}) for sign in (1, -1))
            for curve in common.CURVES:
                slopes.setdefault(curve, []).append((more[curve] - less[curve]) / (2 * SMALL * value))
        return {curve: (np.array(values), 0.0) for curve, values in slopes.items()}

    return Asked(_title(index, f"linear, {kind}", numbers, end, rtol), "linear", make(**numbers)[0], make, numbers, end, rtol, truth)


_RANGES = {"noise_variance": (0.0, 1.0), "start_variance": (0.1, 2.0), "teacher_variance": (0.5, 3.0)}


def _other(index: int, rng: np.random.Generator, rtol: float) -> Asked:
    turn = index // 5 * 2 + index % 5 - 3
    name = NONLINEAR[turn % 4]
    case, kinds = {**CASES, **KINKED}[name], [kind for kind in TRAIN if name not in KINKED or kind not in SMOOTH]
    kind = kinds[turn % len(kinds)]
    base = replace(case.build(), sample_ratio=float(np.exp(rng.uniform(*np.log([0.8, 4.0])))))
    numbers = {"ridge": float(rng.uniform(0.02, 0.3))} | ({} if kind == "flow" else {"step": case.step * float(rng.uniform(0.3, 1.0))})
    end = _horizon(index, rng, numbers)
    make = lambda ridge, step=0.0: (replace(base, penalty=sl.Ridge(ridge)), TRAIN[kind](step))

    def truth(_):
        found = sl.sensitivity(base, make, numbers, rtol=rtol / TIGHTER, seed=1000 + index, step=0.05, **end)
        return {curve: (found[curve].values, found[curve + "_se"].values) for curve in common.CURVES}

    return Asked(_title(index, f"{name}, {kind}", numbers, end, rtol), "others", base, make, numbers, end, rtol, truth)


def _horizon(index: int, rng: np.random.Generator, numbers: dict[str, float]) -> dict[str, float]:
    if "step" in numbers and index % 2:
        return {"epochs": float(rng.integers(1, 4))}
    return {"horizon": float(rng.uniform(1.0, 4.0))}


def _title(index: int, what: str, numbers: dict[str, float], end: dict[str, float], rtol: float) -> str:
    return f"{index}: {what}, " + ", ".join(f"{name} {value:.3g}" for name, value in (numbers | end).items()) + f", rtol {rtol:.2g}"


def measure(index: int) -> dict:
    """Deviations from the truth in standard errors at all points; where none is reported, the derivative is zero."""
    one = asked(index)
    found, seconds = common.timed(
        lambda: sl.sensitivity(one.problem, one.make, one.numbers, rtol=one.rtol, seed=index, **one.clock)  # pyright: ignore
    )
    z, truth = {}, one.truth(found)
    for curve in common.CURVES:
        value, se = found[curve].values.reshape(-1), found[curve + "_se"].values.reshape(-1)
        known, error = (
            np.broadcast_to(part, found[curve].shape if np.ndim(part) == 0 else np.shape(part)).reshape(-1) for part in truth[curve]
        )
        some = se > 0
        np.testing.assert_allclose(value[~some], known[~some], atol=1e-6, err_msg=f"{one.title}: {curve}")
        z[curve] = ((value - known)[some] / np.hypot(se, error)[some]).round(3).tolist()
    return {"title": one.title, "kind": one.kind, "seconds": seconds, "z": z}


def summary(rows: list[dict]) -> tuple[str, float]:
    """A table by kind, and the share of points within two standard errors."""
    body, every = [], lambda row: np.concatenate([np.array(values) for values in row["z"].values()])
    for kind in [*sorted({row["kind"] for row in rows}), "all"]:
        chosen = [row for row in rows if kind in (row["kind"], "all")]
        points = np.concatenate([every(row) for row in chosen])
        shares = [np.mean(np.abs(every(row)) <= 2) for row in chosen]
        error = np.std(shares, ddof=1) / np.sqrt(len(shares)) if len(shares) > 1 else float("nan")
        body.append([
            kind, str(len(chosen)), f"{np.mean(np.abs(points) <= 2):.1%} ± {error:.1%}", f"{min(shares):.0%}",
            f"{np.sqrt(np.mean(points**2)):.2f}", f"{np.abs(points).max():.1f}", f"{np.median([row['seconds'] for row in chosen]):.1f}",
        ])  # fmt: skip
    header = [
        "problems",
        "how many",
        "truth within 2 se (± over problems)",
        "least of a problem",
        "rms deviation (se)",
        "worst (se)",
        "median CPU-s",
    ]
    return common.table(header, body), float(np.mean(np.abs(np.concatenate([every(row) for row in rows])) <= 2))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    options = parser.parse_args()
    rows = []
    for index in range(options.first, options.first + options.count):
        row = measure(index)
        rows.append(row)
        told = ", ".join(
            f"{curve} {np.mean(np.abs(values) <= 2):.0%} worst {np.abs(values).max():.1f}" for curve, values in row["z"].items()
        )
        print(f"{row['title']}: {told}, {row['seconds']:.1f} s", flush=True)
    text, share = summary(rows)
    print("\n" + text)
    common.save_json(common.RESULTS / "sensitivity.json", {"machine": common.machine(), "problems": rows}, indent=None)
    if options.readme:
        common.fill("sensitivity", text)
    if not 0.90 <= share <= 0.99:
        print(f"sensitivity: {share:.1%} of the points within two standard errors, must be 90 to 99%", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
