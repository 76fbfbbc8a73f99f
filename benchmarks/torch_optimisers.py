"""PyTorch's own optimisers against the limit that `dynamics_of` reads off them: logistic regression, a committee, a softmax.

    pip install torch
    python benchmarks/torch_optimisers.py               # everything; continues where it stopped
    python benchmarks/torch_optimisers.py --only softmax
    python benchmarks/torch_optimisers.py --readme      # the stored numbers into README.md

Runs are plain PyTorch loops: standardised Gaussian features, losses in torch, `torch.optim` on batches of 8, drawn with replacement or
reshuffled; twelve runs of 1920 features, each with data of its own. Overlaps are imposed at the start; the test risk is that of fresh
samples. Of each curve the number is the largest distance over times and entries as a share of what is allowed: three joint standard errors
and 1% of the curve's largest value. `torch.optim.RMSprop` begins at a squared gradient of zero, which has no limit
(docs/optimisers.md); with the correction for its start it is `Adam(betas=(0, alpha))`.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from itertools import chain, repeat
from typing import Any

import numpy as np

import common
import problems
import sgdlimit as sl

RUNS, FEATURES, BATCH, SEED, RTOL = 12, 1920, 8, 11, 0.01
HORIZON = 2.0
TIMES = np.linspace(0.0, HORIZON, 5)
STORED = common.RESULTS / "torch_optimisers.json"
OPTIMISERS: dict[str, tuple[str, dict[str, Any]]] = {  # of torch.optim
    "momentum": ("SGD", {"momentum": 0.98}),
    "Nesterov": ("SGD", {"momentum": 0.98, "nesterov": True}),
    "Adam": ("Adam", {"betas": (0.9, 0.999), "eps": 1e-12}),
    "AdamW": ("AdamW", {"betas": (0.9, 0.999), "eps": 1e-12, "weight_decay": 0.1}),
    "corrected RMSprop": ("Adam", {"betas": (0.0, 0.99), "eps": 1e-12}),
}
SAMPLING = ("replacement", "reshuffle")


def softmax() -> sl.Problem:
    model = sl.models.build("softmax", {"classes": 3})
    init = sl.Init(np.zeros((3, 3)), 0.2 * np.eye(3))
    return sl.Problem(model.loss, model.label, model.noise, 2.0, sl.GaussianTeacher(3.0 * np.eye(3)), init, sl.Ridge(0.05))


def losses(name: str, r: Any, y: Any) -> Any:
    """In torch, of every sample: written out here, so that only the labels are the problem's own."""
    import torch

    if name == "logistic":
        return torch.nn.functional.softplus(-y * r[:, 0])
    if name == "committee":
        return 0.5 * (torch.tanh(r[:, 0]) - 0.5 * torch.tanh(r[:, 1]) - y) ** 2
    return torch.nn.functional.cross_entropy(r, y.argmax(1), reduction="none")


PROBLEMS = {"logistic": (problems.logistic, 2.0), "committee": (problems.committee, 1.0), "softmax": (softmax, 1.25)}


def made(name: str, kind: str, theta: Any, decay: float) -> Any:
    """The optimiser of the script, whose step in the limit is the problem's, three tenths of it behind a gain."""
    import torch

    which, settings = OPTIMISERS[kind]
    decays = settings if which == "AdamW" else settings | {"weight_decay": decay}
    make = lambda lr: getattr(torch.optim, which)([theta], lr=lr, **decays)
    wanted = PROBLEMS[name][1] * (1.0 if which == "SGD" else 0.3)
    known = {"batch_size": BATCH, "n_features": FEATURES, "penalty": sl.Ridge(decay) if which != "AdamW" else None}
    return make(wanted / sl.dynamics_of(make(1.0), **known).step), known


def drawn(problem: sl.Problem, rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    """Start `(d, k)` and teacher `(d, k_star)` with the problem's overlaps; features `(2 n, d)` and labels, half of them fresh ones."""
    both = np.block([[problem.self_overlap_start, problem.overlap_start], [problem.overlap_start.T, problem.rho]])
    values, vectors = np.linalg.eigh(both)
    z = np.linalg.qr(rng.standard_normal((FEATURES, len(both))))[0]
    weights = z @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    X = rng.standard_normal((2 * n, FEATURES), dtype=np.float32)
    return weights[:, : problem.k], weights[:, problem.k :], X, rng.random((2 * n, int(np.prod(problem.noise.shape, dtype=int))))


def batches(rng: np.random.Generator, n: int, sampling: str) -> Any:
    if sampling == "replacement":
        return (rng.integers(n, size=BATCH) for _ in repeat(None))
    return chain.from_iterable(np.split(rng.permutation(n), range(BATCH, n, BATCH)) for _ in repeat(None))


def between(step: float) -> int:
    """Batches between two output times: one advances `t` by `step BATCH / FEATURES`."""
    count = TIMES[1] * FEATURES / (BATCH * step)
    assert abs(count - round(count)) < 1e-6, "an output time lies within a batch"
    return round(count)


def trained(name: str, kind: str, dynamics: sl.SGD, problem: sl.Problem, seed: int) -> dict[str, np.ndarray]:
    """The curves of one run, time first."""
    import jax
    import torch

    rng, n = np.random.default_rng([SEED, seed]), round(problem.sample_ratio * FEATURES)
    start, teacher, X, uniform = drawn(problem, rng, n)
    y = np.asarray(jax.vmap(problem.label)(X @ teacher, problem.noise_from_uniform(uniform)), dtype=np.float32)
    X, y = torch.from_numpy(X), torch.tensor(y)
    theta = torch.tensor(start, dtype=torch.float32, requires_grad=True)
    optimizer, _ = made(name, kind, theta, problem.penalty.strength if problem.penalty else 0.0)
    kept, order, every = {curve: [] for curve in common.CURVES}, batches(rng, n, dynamics.sampling), between(dynamics.step)
    for step in range(every * (len(TIMES) - 1) + 1):
        if step % every == 0:
            with torch.no_grad():
                at, risks = theta.numpy().astype(float), losses(name, X @ theta, y).double()
            values = at.T @ at, at.T @ teacher, risks[:n].mean().numpy(), risks[n:].mean().numpy()
            for curve, value in zip(common.CURVES, values, strict=True):
                kept[curve].append(value)
        rows = next(order)
        optimizer.zero_grad()
        losses(name, X[rows] @ theta, y[rows]).mean().backward()
        optimizer.step()
    return {curve: np.array(values) for curve, values in kept.items()}


def measured(name: str, kind: str, sampling: str) -> dict[str, Any]:
    """Shares of what is allowed, and the time it took."""
    import torch

    problem = PROBLEMS[name][0]()
    if OPTIMISERS[kind][0] == "AdamW":
        problem = replace(problem, penalty=None)
    decay = problem.penalty.strength if problem.penalty else 0.0
    optimizer, known = made(name, kind, torch.zeros(1, requires_grad=True), decay)
    dynamics, began = sl.dynamics_of(optimizer, sampling=sampling, **known), time.process_time()
    limit = sl.solve(problem, dynamics, HORIZON, rtol=RTOL, times=TIMES, on_failure="return")
    solved = time.process_time() - began
    runs = [trained(name, kind, dynamics, problem, seed) for seed in range(RUNS)]
    found: dict[str, Any] = {"limit": repr(dynamics), "status": limit.status.code, "solve": solved, "share": {}, "gap": {}}
    for curve in common.CURVES:
        real, x, x_se = np.array([one[curve] for one in runs]), limit.dataset[curve].values, limit.dataset[f"{curve}_se"].values
        gap, scale = np.abs(real.mean(0) - x), np.abs(x).max()
        allowed = 3.0 * np.hypot(x_se, real.std(0, ddof=1) / np.sqrt(RUNS)) + 0.01 * scale
        found["share"][curve], found["gap"][curve] = float((gap / allowed).max()), float(gap.max() / scale)
    return found


def table(stored: dict[str, Any]) -> str:
    words = [name.replace("_", "-" if name == "self_overlap" else " ") for name in common.CURVES]
    told = lambda one: [f"{one['share'][curve]:.2f} ({100 * one['gap'][curve]:.1f}%)" for curve in common.CURVES]
    rows = [[*key.split(", "), *told(one)] for key, one in stored.items()]
    most = max(max(one["share"].values()) for one in stored.values())
    words = ["problem", "`torch.optim`", "sampling", *words]
    return f"{common.table(words, rows)}\nShare of what is allowed, and the distance itself; the largest share is {most:.2f}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--readme", action="store_true")
    arguments = parser.parse_args()
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    if arguments.readme:
        common.fill("torch_optimisers", table(stored))
        return
    for name in PROBLEMS:
        for kind in OPTIMISERS:
            for sampling in SAMPLING:
                key = f"{name}, {kind}, {sampling}"
                if key not in stored and arguments.only in key:
                    stored[key] = measured(name, kind, sampling)
                    print(key, stored[key], flush=True)
                    common.save_json(STORED, stored)


if __name__ == "__main__":
    main()
