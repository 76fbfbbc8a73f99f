"""Whether following `recommend` pays: against a grid search by real training, against default steps, and curves against curves.

python benchmarks/recommend.py             # everything; continues where it stopped
python benchmarks/recommend.py --only iso  # sets whose name contains it
python benchmarks/recommend.py --readme    # the stored numbers into README.md

Measured per set, on synthetic data for several draws, on real ones for several splits into three quarters and one:

grid: the 60 points of 20 learning rates (1e-4 to 1) and batches of 8, 32, 128, without weight decay, 60 epochs each, trained for real. Its
best is the least test risk of any point and epoch, chosen on the very samples that measure, so that it is too good by what that choice
gains; `best for all` is the one point and epoch that is best for all splits together.

search: the same grid as one has to do it, without the samples that measure: point and epoch are chosen on a quarter of the training
samples by training on the others, or on each third in turn, and then trained for as many epochs on all of them.

cost: CPU-seconds of a new process that calls `recommend`, imports counted, and those of the grid. A grid of plain loops would take an
hour, so four points of it are timed for two epochs in each batch size, and the time of an epoch is multiplied by epochs and points.
`side by side` is the grid as it is run here, with twenty learning rates in one product, timed in full.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np
from scipy.special import expit

import common
import sgdlimit as sl
from sgdlimit.recommend.train import descend, losses, train

RATES = np.geomspace(1e-4, 1.0, 20)
BATCHES = (8, 32, 128)
EPOCHS = 60
STOPS = np.unique(np.round(np.geomspace(1, EPOCHS, 16)).astype(int))  # epochs whose risks are stored
FRESH = 20_000
GRIDS = 4  # draws of synthetic data on which the grid is trained
STORED = common.RESULTS / "recommend.json"
Split = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


# --- data ----------------------------------------------------------------------------------------------------------------


def drawn(kind: str, loss: str, n: int, d: int) -> Callable[[int], Split]:
    """Features with equal eigenvalues or with those of a power law, `1/i`; a teacher along all; a quarter of the signal as noise."""

    def one(seed: int) -> Split:
        rng = np.random.default_rng([seed, n, d])
        values = np.ones(d) if kind == "iso" else np.arange(1.0, d + 1) ** -1.0
        X = rng.standard_normal((n + FRESH, d)) * np.sqrt(values / values.mean())
        r = X @ rng.standard_normal(d) / np.sqrt(d)
        y = np.where(rng.random(len(r)) < expit(2.0 * r), 1.0, -1.0) if loss == "logistic" else r + 0.5 * rng.standard_normal(len(r))
        return centred((X[:n], y[:n]), (X[n:], y[n:]), kind == "iso", loss)

    return one


def real(name: str, loss: str) -> Callable[[int], Split]:
    from sklearn import datasets

    X, y = getattr(datasets, f"load_{name.split()[0]}")(return_X_y=True)
    if name.startswith("digits"):
        y = y % 2
    if "relu" in name:
        spread = X.std(0)
        pixels = (X - X.mean(0)) / np.where(spread > 0, spread, 1.0) if "scaled" in name else X / 16
        X = np.maximum(pixels @ np.random.default_rng(7).standard_normal((64, 600)) / 8, 0)
    y = 2.0 * y - 1.0 if loss == "logistic" else y.astype(float)

    def one(seed: int) -> Split:
        order = np.random.default_rng(seed).permutation(len(X))
        kept, out = np.split(order, [round(0.75 * len(X))])
        varies = X[kept].std(0) > 1e-9
        return centred((X[kept][:, varies], y[kept]), (X[out][:, varies], y[out]), True, loss)

    return one


def centred(data, fresh, standardise: bool, loss: str) -> Split:
    """As `recommend` treats data, so that its rates are theirs."""
    mean, scale = data[0].mean(0), data[0].std(0) if standardise else 1.0
    shift, size = (data[1].mean(), data[1].std()) if loss == "squared" else (0.0, 1.0)
    (X, y), (Z, z) = (((X - mean) / scale, (y - shift) / size) for X, y in (data, fresh))
    return (X, y), (Z, z)


SETS: dict[str, tuple[str, Callable[[int], Split], int]] = {
    **{f"{kind} {loss} {n} x {d}": (loss, drawn(kind, loss, n, d), count)
       for n, d_of, count in ((2000, {"iso": 600, "power": 1000}, 16), (8000, {"iso": 1000, "power": 1000}, 4))
       for kind, d in d_of.items() for loss in ("logistic", "squared")},
    "digits": ("logistic", real("digits", "logistic"), 16),
    "digits relu": ("logistic", real("digits relu", "logistic"), 16),
    "digits relu, scaled pixels": ("logistic", real("digits relu, scaled pixels", "logistic"), 8),
    "breast_cancer": ("logistic", real("breast_cancer", "logistic"), 20),
    "diabetes": ("squared", real("diabetes", "squared"), 20),
}  # fmt: skip


# --- training ------------------------------------------------------------------------------------------------------------


def side_by_side(loss: str, split: Split, rates, batch: int, epochs: int, seed: int, decay: float = 0.0) -> np.ndarray:
    """Train and test risks `(2, rates, epochs + 1)`."""
    sets = [(X.astype(np.float32), y) for X, y in split]
    rates = np.asarray(rates, float)
    found = []
    with np.errstate(all="ignore"):
        trained = descend(loss, sets[0][0][None], sets[0][1][None], rates, np.full(len(rates), decay), batch, [np.random.default_rng(seed)])
        for w, b in islice(trained, epochs + 1):
            found.append([losses(loss, X @ w[0] + b[0], y).mean(0) for X, y in sets])
        risks = np.array(found).transpose(1, 2, 0)
        return np.where(risks < 1e12, risks, np.inf)


def grid(loss: str, split: Split) -> np.ndarray:
    """Test risks `(batches, rates, epochs)`, the start left out."""
    return np.array([side_by_side(loss, split, RATES, batch, EPOCHS, 0)[1, :, 1:] for batch in BATCHES])


def searched(loss: str, split: Split, risks: np.ndarray, seed: int) -> dict[str, float]:
    """Test risk of the point and epoch that a search on the training samples alone chooses, of the `risks` of training on all."""
    X, y = split[0]
    order = np.random.default_rng([seed, 1]).permutation(len(X))
    parts = np.array_split(order, 3)
    chosen = {"quarter": [order[: len(X) // 4]], "thirds": parts}
    found = {}
    for name, outs in chosen.items():
        each = []
        for out in outs:
            kept = np.setdiff1d(order, out)
            each.append(grid(loss, ((X[kept], y[kept]), (X[out], y[out]))))
        validation = np.mean(each, 0)
        found[name] = float(risks[np.unravel_index(np.argmin(validation), validation.shape)])
    return found


def cold(loss: str, split: Split, standardise: bool) -> float:
    """CPU-seconds of a new process that recommends."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "x.npz", X=split[0][0], y=split[0][1])
        program = (
            "import numpy as np, sgdlimit as sl; a = np.load('x.npz'); "
            f"sl.recommend(a['X'], a['y'], loss={loss!r}, standardise={standardise})"
        )
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", program], cwd=folder, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def costs(loss: str, split: Split) -> dict[str, float]:
    """CPU-seconds of the grid in plain loops, from some of its points, and side by side."""
    small = (split[1][0][:2000], split[1][1][:2000])
    found = {"side by side": common.timed(lambda: grid(loss, (split[0], small)))[1]}
    for backend in ("numpy", "sklearn", "torch"):
        if find_spec(backend) is None:
            continue
        if backend == "torch":
            import torch

            torch.set_num_threads(1)
        run = lambda rate, batch, backend=backend: train(loss, split[0], small, rate, batch, 0.0, 2, [0], backend)
        run(1e-3, 128)  # imports and first calls are not the grid's
        spent = [np.mean([common.timed(lambda: run(rate, batch))[1] for rate in RATES[[0, 4, 8, 12]]]) / 2 for batch in BATCHES]  # noqa: B023
        found[backend] = float(np.sum(spent) * len(RATES) * EPOCHS)
    return found


def defaults(loss: str, split: Split) -> dict[str, float]:
    """Test risk of what one gets without choosing: scikit-learn's estimator as it is, and PyTorch's learning rate of 0.001 in batches
    of 32 for 10 and 100 epochs (0.002 for half the squared error: its loss has no half)."""
    from sklearn.linear_model import SGDClassifier, SGDRegressor

    (X, y), (Z, z) = split
    scores = []
    for seed in range(3):
        if loss == "logistic":
            r = SGDClassifier(loss="log_loss", random_state=seed).fit(X, y).decision_function(Z)
        else:
            r = SGDRegressor(random_state=seed).fit(X, y).predict(Z)
        scores.append(float(losses(loss, r, z).mean()))
    rate = 1e-3 if loss == "logistic" else 2e-3
    curve = np.mean([side_by_side(loss, split, [rate], 32, 100, seed)[1, 0] for seed in range(3)], 0)
    return {"scikit-learn": float(np.mean(scores)), "PyTorch, 10 epochs": float(curve[10]), "PyTorch, 100 epochs": float(curve[100])}


def one(name: str, loss: str, split: Split, number: int) -> dict:
    """A set's numbers for one draw or split."""
    standardise = not name.startswith("power")
    found = sl.recommend(*split[0], loss=loss, standardise=standardise)
    a = found.advice
    assert found.d == split[0][0].shape[1]
    shown = int(a.epoch_axis[-1])
    curves = [side_by_side(loss, split, [found.learning_rate], a.batch_size, shown, seed, a.weight_decay)[:, 0] for seed in range(3)]
    fit, test = np.mean(curves, 0)
    row: dict = {
        "step": a.step, "rate": found.learning_rate, "batch": a.batch_size, "epochs": a.epochs, "decay": a.weight_decay,
        "verdict": found.trust.verdict, "ours": float(test[a.epochs]), "expected": float(a.reshuffle.test[a.epochs]),
        "expected_train": float(a.reshuffle.train[a.epochs]), "ours_train": float(fit[a.epochs]),
        "test": test.tolist(), "train": fit.tolist(), "expected_test_curve": a.reshuffle.test.tolist(),
        "expected_train_curve": a.reshuffle.train.tolist(),
    }  # fmt: skip
    synthetic = len(split[1][1]) == FRESH
    if "8000" not in name and (number < GRIDS or not synthetic):
        risks = grid(loss, split)
        row["best"] = float(risks.min())
        row["search"] = searched(loss, split, risks, number)
        row["grid"] = risks[:, :, STOPS - 1].tolist()
        if number == 0:
            row["cpu"] = cold(loss, split, standardise)
            row["grid_cpu"] = costs(loss, split)
    if not synthetic:
        row["defaults"] = defaults(loss, split)
    return row


def rounded(value):
    """Four digits of every number."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


# --- telling -------------------------------------------------------------------------------------------------------------


def ratio(over: np.ndarray, under: np.ndarray) -> tuple[float, float]:
    """Ratio of means and its standard error, paired."""
    value = over.mean() / under.mean()
    return float(value), float((over - value * under).std(ddof=1) / len(over) ** 0.5 / under.mean())


def told(name: str, rows: list[dict]) -> dict[str, str]:
    """A set's rows in words and numbers."""
    column = lambda key: np.array([row[key] for row in rows])
    percent = lambda pair: f"{100 * (pair[0] - 1):+.1f} ± {100 * pair[1]:.1f}%"
    mean = lambda values: f"{values.min():.3g} to {values.max():.3g}"
    count = min(len(row["test"]) for row in rows)
    curves = lambda key: np.array([row[key][:count] for row in rows]).T
    apart = lambda expected, measured: percent(max(map(ratio, curves(expected), curves(measured)), key=lambda pair: abs(pair[0] - 1.0)))
    cells = {
        "set": name,
        "draws": str(len(rows)),
        "step": mean(column("step")),
        "rate (batch)": f"{mean(column('rate'))} ({mean(column('batch'))})",
        "epochs": mean(column("epochs")),
        "test risk": f"{column('ours').mean():.4g}",
        "expected": percent(ratio(column("expected"), column("ours"))),
        "spread of one": f"{100 * (column('expected') / column('ours')).std(ddof=1):.1f}%",
        "mean test curve, where worst": apart("expected_test_curve", "test"),
        "mean train curve, where worst": apart("expected_train_curve", "train"),
        "verdict": ", ".join(sorted({row["verdict"] for row in rows})),
    }
    if "grid" in rows[0]:
        with_grid = [row for row in rows if "grid" in row]
        grids, ours = np.array([row["grid"] for row in with_grid]), np.array([row["ours"] for row in with_grid])
        place = np.unravel_index(np.argmin(grids.mean(0)), grids.shape[1:])
        cells["against the grid's best"] = percent(ratio(ours, np.array([row["best"] for row in with_grid])))
        cells["against its best for all"] = percent(ratio(ours, grids[:, *place]))
        for key, heading in (("quarter", "against a search, a quarter held out"), ("thirds", "against a search, three folds")):
            cells[heading] = percent(ratio(ours, np.array([row["search"][key] for row in with_grid])))
    if "defaults" in rows[0]:
        for key in rows[0]["defaults"]:
            cells[key] = percent(ratio(np.array([row["defaults"][key] for row in rows]), column("ours")))
    if "cpu" in rows[0]:
        cells["recommend (CPU-s)"] = f"{rows[0]['cpu']:.1f}"
        cells |= {f"grid, {key}": f"{value:.3g}" for key, value in rows[0]["grid_cpu"].items()}
    return cells


TABLES = {
    "advice": ("set", "draws", "step", "rate (batch)", "epochs", "test risk", "verdict"),
    "grid": ("set", "against a search, a quarter held out", "against a search, three folds", "against the grid's best",
             "against its best for all"),
    "curves": ("set", "draws", "expected", "spread of one", "mean test curve, where worst", "mean train curve, where worst"),
    "defaults": ("set", "scikit-learn", "PyTorch, 10 epochs", "PyTorch, 100 epochs"),
    "cost": ("set", "recommend (CPU-s)", "grid, torch", "grid, sklearn", "grid, numpy", "grid, side by side"),
}  # fmt: skip


def tables(stored: dict[str, list[dict]]) -> str:
    rows = [told(name, stored[name]) for name in SETS if len(stored.get(name, [])) > 1]
    texts = []
    for header in TABLES.values():
        chosen = [[row.get(key, "-") for key in header] for row in rows if header[-1] in row]
        texts.append(common.table(list(header), chosen))
    return "\n".join(texts)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--only", default="")
    options.add_argument("--again", action="store_true")
    options.add_argument("--readme", action="store_true")
    chosen = options.parse_args()
    stored = json.loads(STORED.read_text())["sets"] if STORED.exists() else {}
    if not chosen.readme:
        for name, (loss, draw, count) in SETS.items():
            if chosen.only not in name:
                continue
            rows = [] if chosen.again else stored.get(name, [])
            for number in range(len(rows), count):
                rows.append(one(name, loss, draw(number), number))
                print(name, number, {key: value for key, value in rows[-1].items() if not isinstance(value, list)}, flush=True)
                stored[name] = rows
                common.save_json(STORED, {"machine": common.machine(), "sets": rounded(stored)}, None)
    print(tables(stored))
    if chosen.readme:
        common.fill("recommend", tables(stored))


if __name__ == "__main__":
    main()
