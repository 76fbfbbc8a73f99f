"""The left-out risk of `OneRun`: against fresh data, against retraining without each of some samples, the epoch it chooses, and
what it costs.

`python benchmarks/one_run.py [--only fresh|runs|real|stop|cost] [--readme]`; takes scikit-learn for its data. What is not
asked for is kept.
"""

from __future__ import annotations

import common  # first: it pins the process before NumPy and JAX start

# isort: split

import argparse
import json
import time

import jax.numpy as jnp
import numpy as np

import sgdlimit as sl
from trainings import LOSSES, against_retraining, batches, data, predictions, told
from weighed import CASES

RUNS, FRESH = 100, 12000  # trainings, and fresh samples for each
REPEATS = 40  # runs of `simulate`
STOPPINGS = 20  # of early stopping, each of which trains seven times
SPLITS, RETRAINED = 60, 5  # of real data, and in how many of them 100 samples are left out by retraining
SETTINGS = {  # loss, rows, features, power of the spectrum, rate, batch, epochs, momentum
    "logistic": ("logistic", 800, 200, 0.0, 0.03, 16, 4, 0.0),
    "logistic, overfitted": ("logistic", 800, 400, 0.0, 0.08, 16, 6, 0.0),
    "logistic, power law": ("logistic", 800, 400, 1.0, 0.04, 16, 8, 0.0),
    "logistic, momentum 0.9": ("logistic", 800, 400, 0.0, 0.008, 16, 6, 0.9),
    "Huber": ("huber", 800, 400, 0.0, 0.02, 8, 4, 0.0),
    "Huber, power law": ("huber", 800, 400, 1.0, 0.01, 8, 6, 0.0),
    "softmax": ("softmax", 600, 200, 0.0, 0.1, 16, 6, 0.0),
    "softmax, power law": ("softmax", 600, 200, 1.0, 0.05, 16, 6, 0.0),
}
TABLES = {  # loss, rate, batch
    "digits, odd or even": ("logistic", 0.1, 16),
    "600 ReLU features of digits": ("logistic", 0.02, 16),
    "breast_cancer": ("logistic", 0.1, 8),
    "diabetes": ("square", 0.01, 8),
    "wine": ("softmax", 0.05, 8),
}
EPOCHS = (5, 20)
STOPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # epochs
STOPPED = {"logistic, overfitted": ("logistic", 0.05, 16)}
COST = ((50, 2), (100, 2), (200, 2), (200, 4))  # epochs, estimates


def fresh() -> list[dict]:
    """Means, coverage and spread over trainings, against fresh samples."""
    rows = []
    for name, (loss, n, d, power, rate, batch, epochs, momentum) in SETTINGS.items():
        each = []
        for seed in range(RUNS):
            X, y, others, labels = data(loss, n, d, seed, power, fresh=FRESH)
            run, theta = told(X, y, loss, batches(n, batch, epochs, 100 + seed), rate, momentum)
            found, test = run.estimate(predictions(X, theta)), LOSSES[loss][1](others @ theta, labels)
            each.append((found.risk, test.mean(), found.train_risk, found.standard_error, test.std(), found.trusted))
        risk, test, train, error, deviation, trusted = np.array(each, float).T
        apart = risk - test
        spread, spread_se = of_quarter(apart, deviation, n)
        rows.append({
            "name": name, "train": train.mean() / test.mean(), "ratio": risk.mean() / test.mean(),
            "ratio_se": apart.std(ddof=1) / np.sqrt(RUNS) / test.mean(), "covered": float(np.mean(np.abs(apart) < 2 * error)),
            "quarter": spread, "quarter_se": spread_se, "error": error.mean() / apart.std(ddof=1), "trusted": trusted.mean(),
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def runs() -> list[dict]:
    """Runs of `simulate` behind other optimisers and beside trained numbers, against their own mean test risk."""
    rows = []
    for name, (problem, dynamics, horizon, batch) in CASES.items():
        ds = sl.simulate(problem, dynamics, horizon, 200, batch, REPEATS, seed=1, times=[0, horizon / 3, horizon], left_out=True).dataset
        ratio, error = ds.left_out_risk / ds.test_risk, ds.left_out_risk_se / ds.test_risk
        train = ds.train_risk / ds.test_risk
        rows.append({"name": name, "train": train.values.tolist(), "ratio": ratio.values.tolist(), "ratio_se": error.values.tolist()})
        print(rows[-1], flush=True)
    return rows


def of_quarter(apart: np.ndarray, deviation: np.ndarray, n: int) -> tuple[float, float]:
    """The spread of the left-out risk over that of a mean loss over a held-out quarter, without what the fresh samples have in it; and its
    error, from leaving out each training in turn."""
    ratio = lambda some: (
        np.sqrt(apart[some].var(ddof=1) - np.mean(deviation[some] ** 2) / FRESH) / (deviation[some].mean() * np.sqrt(4 / n))
    )
    each = np.array([ratio(rest) for rest in ~np.eye(len(apart), dtype=bool)])
    return float(ratio(slice(None))), float(np.sqrt((len(each) - 1) * np.mean((each - each.mean()) ** 2)))


def table(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of one of `TABLES`."""
    from sklearn import datasets

    if "digits" in name:
        X, y = datasets.load_digits(return_X_y=True)
        y = np.where(y % 2, 1.0, -1.0)
        if "ReLU" in name:
            X = np.maximum(X / 16 * 2 @ np.random.default_rng(0).standard_normal((64, 600)) / 8 * 3, 0.0)
    else:
        X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        y = {"breast_cancer": lambda: 2.0 * y - 1.0, "diabetes": lambda: (y - y.mean()) / y.std(), "wine": lambda: np.eye(3)[y]}[name]()
    return X[:, X.std(0) > 1e-9], y


def real() -> list[dict]:
    """Against retraining without 100 samples, and against the other half over splits."""
    rows = []
    for name, (loss, rate, batch) in TABLES.items():
        for epochs in EPOCHS:
            each, exact, shape = [], [], (0, 0)
            for seed in range(SPLITS):
                X, y, others, labels = split(name, seed)
                steps = batches(len(X), batch, epochs, seed)
                run, theta = told(X, y, loss, steps, rate)
                found = run.estimate(predictions(X, theta))
                test = LOSSES[loss][1](others @ theta, labels).mean()
                each.append((found.risk, test, found.train_risk, found.trusted))
                if seed < RETRAINED:
                    exact.append(against_retraining(X, y, loss, steps, rate, who=100)[:2])
                    shape = X.shape
            risk, test, train, trusted = np.array(each, float).T
            correlation, retrained = np.array(exact).T
            rows.append({
                "name": name, "rows": shape[0], "features": shape[1], "epochs": epochs, "correlation": correlation.min(),
                "exact": retrained.mean(), "exact_se": retrained.std(ddof=1) / np.sqrt(RETRAINED),
                "train": train.mean() / test.mean(), "ratio": risk.mean() / test.mean(),
                "ratio_se": (risk - test).std(ddof=1) / np.sqrt(SPLITS) / test.mean(), "trusted": trusted.mean(),
            })  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def path(X, y, loss, rate, batch, seed, tests, run=None) -> np.ndarray:
    """Mean losses on some other samples `(epoch, test)` after the epochs of `STOPS`, with an estimate at each where there is a `run`."""
    theta, found = np.zeros((X.shape[1], y.shape[1] if y.ndim == 2 else 1)), []
    value, slope = LOSSES[loss][1:]
    for number, rows in enumerate(batches(len(X), batch, STOPS[-1], seed), 1):
        r = X[rows] @ theta
        if run is not None:
            run.step(rows, r if y.ndim == 2 else r[:, 0])
        theta = theta - rate * X[rows].T @ slope(r, y[rows]) / len(rows)
        epoch, rest = divmod(number, -(-len(X) // batch))
        if rest == 0 and epoch in STOPS:
            found.append([value(others @ theta, labels).mean() for others, labels in tests])
            if run is not None:
                run.estimate(predictions(X, theta))
    return np.array(found)


def stop() -> list[dict]:
    """The test risk at the epoch that is chosen by the left-out risk, by cross-validation, or by a held-out fifth."""
    rows = []
    for name, (loss, rate, batch) in {**STOPPED, **TABLES}.items():
        each = []
        for seed in range(STOPPINGS):
            X, y, others, labels = data(loss, 400, 200, seed) if name in STOPPED else split(name, seed)
            test, fold = [(others, labels)], np.arange(len(X)) % 5
            run = sl.OneRun(X, y, LOSSES[loss][0], rate)
            risks = path(X, y, loss, rate, batch, seed, test, run)[:, 0]
            folds = [path(X[fold != j], y[fold != j], loss, rate, batch, seed, [(X[fold == j], y[fold == j])])[:, 0] for j in range(5)]
            held = path(X[fold != 0], y[fold != 0], loss, rate, batch, seed, [(X[fold == 0], y[fold == 0]), *test])
            best = [one.step for one in run.history].index(run.best().step)
            each.append((risks[best], risks[np.argmin(np.mean(folds, 0))], held[np.argmin(held[:, 0]), 1], risks.min()))
        best, crossed, fifth, least = np.array(each).T
        rows.append({
            "name": name, "best": best.mean(), "ratio": best.mean() / crossed.mean(),
            "ratio_se": (best - crossed).std(ddof=1) / np.sqrt(STOPPINGS) / crossed.mean(), "fifth": fifth.mean() / best.mean(),
            "least": least.mean() / best.mean(),
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def split(name: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Half of a data set to train on, and the other one, standardised by the first."""
    X, y = table(name)
    order, n = np.random.default_rng(seed).permutation(len(X)), len(X) // 2
    half = X[order[:n]]
    kept = half.std(0) > 1e-9
    scaled = (X[order][:, kept] - half[:, kept].mean(0)) / half[:, kept].std(0)
    return scaled[:n], y[order[:n]], scaled[n:], y[order[n:]]


def cost() -> list[dict]:
    """CPU-seconds of a loop in NumPy on 2000 x 600 in batches of 32, alone and with `OneRun` in turn; medians of nine."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 600))
    y = np.sign(X @ rng.standard_normal(600) / 25 + rng.standard_normal(2000))
    loss = lambda r, y: jnp.logaddexp(0.0, -y * r[0])

    def loop(epochs: int, estimates: int, run: sl.OneRun | None) -> float:
        theta, start = np.zeros(600), time.process_time()
        for epoch in range(epochs):
            order = np.random.default_rng(epoch).permutation(2000)
            for first in range(0, 2000, 32):
                batch = order[first : first + 32]
                x = X[batch]
                r = x @ theta
                if run is not None:
                    run.step(batch, r)
                theta += 0.02 / len(batch) * (x.T @ (y[batch] / (1.0 + np.exp(y[batch] * r))))
            if run is not None and (epoch + 1) % (epochs // estimates) == 0:
                run.estimate(X @ theta)
        return time.process_time() - start

    loop(2, 2, sl.OneRun(X, y, loss, 0.02))
    rows = []
    for epochs, estimates in COST:
        spent = [[loop(epochs, estimates, run) for run in (None, sl.OneRun(X, y, loss, 0.02))] for _ in range(9)]
        alone, with_run = (float(median) for median in np.median(spent, axis=0))
        rows.append({"epochs": epochs, "estimates": estimates, "alone": alone, "with": with_run})
        print(rows[-1], flush=True)
    return rows


def summary(found: dict) -> str:
    """The tables."""
    ratio = lambda row: f"{row['ratio']:.3f} ± {row['ratio_se']:.3f}"
    parts = {
        "fresh": (
            ["problem", "train / test", "left-out / test", "within 2 errors", "spread / held-out quarter's", "error / spread", "trusted"],
            lambda r: [
                r["name"], f"{r['train']:.2f}", ratio(r), f"{r['covered']:.0%}", f"{r['quarter']:.2f} ± {r['quarter_se']:.2f}",
                f"{r['error']:.2f}", f"{r['trusted']:.0%}",
            ],
        ),
        "runs": (
            ["runs of `simulate`", "a third of the way: train / test", "left-out / test", "at the end: train / test", "left-out / test"],
            lambda r: [
                r["name"], *(part for i in (1, 2) for part in (f"{r['train'][i]:.2f}", f"{r['ratio'][i]:.3f} ± {r['ratio_se'][i]:.3f}")),
            ],
        ),
        "real": (
            ["data", "rows x features", "epochs", "correlation", "left-out / retrained", "train / test", "left-out / test", "trusted"],
            lambda r: [
                r["name"], f"{r['rows']} x {r['features']}", str(r["epochs"]), f"{r['correlation']:.4f}",
                f"{r['exact']:.3f} ± {r['exact_se']:.3f}",
                f"{r['train']:.2f}", ratio(r), f"{r['trusted']:.0%}",
            ],
        ),
        "stop": (
            ["data", "test risk at `best()`", "/ by five-fold cross-validation", "held-out fifth's / it", "least of all epochs' / it"],
            lambda r: [r["name"], f"{r['best']:.4f}", ratio(r), f"{r['fifth']:.3f}", f"{r['least']:.3f}"],
        ),
        "cost": (
            ["epochs", "estimates", "loop alone (CPU-s)", "with `OneRun`", "with / alone"],
            lambda r: [
                str(r["epochs"]), str(r["estimates"]), f"{r['alone']:.2f}", f"{r['with']:.2f}", f"{r['with'] / r['alone']:.1f}",
            ],
        ),
    }  # fmt: skip
    return "\n".join(common.table(header, [row(r) for r in found[name]]) for name, (header, row) in parts.items() if name in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("fresh", "runs", "real", "stop", "cost"))
    parser.add_argument("--readme", action="store_true", help="put the tables into benchmarks/README.md")
    options = parser.parse_args()
    path = common.RESULTS / "one_run.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for name, measure in (("fresh", fresh), ("runs", runs), ("real", real), ("stop", stop), ("cost", cost)):
        if options.only in (None, name):
            found[name] = measure()
            common.save_json(path, {**found, "machine": common.machine()})
    print(text := summary(found))
    if options.readme:
        common.fill("one_run", text)


if __name__ == "__main__":
    main()
