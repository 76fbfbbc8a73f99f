"""Advice on data as they come: heavy tails, few rows, near copies, rows that dominate. What is advised must train."""

from __future__ import annotations

import json
from itertools import islice

import numpy as np
import pytest

import sgdlimit as sl
from sgdlimit.recommend.advise import FINE, Sweep, sweep
from sgdlimit.recommend.api import _hold_out
from sgdlimit.recommend.data import prepare
from sgdlimit.recommend.folds import FoldsPredictor, how_many
from sgdlimit.recommend.leverage import dominating, leverage, sentence, weights
from sgdlimit.recommend.report import page
from sgdlimit.recommend.train import descend, losses, train, trains

Array = np.ndarray
SILENT = lambda fraction, text: None


def lognormal(seed: int, n: int = 500) -> tuple[Array, Array]:
    """One row is some hundred times as long as most."""
    rng = np.random.default_rng(seed)
    X = rng.lognormal(0, 2, (n, 5))
    return X, X @ [1.0, 0.5, 0.0, 0.2, 0.0] + 0.3 * X.std() * rng.standard_normal(n)


def student(seed: int, n: int = 500) -> tuple[Array, Array]:
    """Features without a variance."""
    rng = np.random.default_rng(seed)
    X = rng.standard_t(1.5, (n, 4))
    return X, X @ [0.3, 0.0, 0.2, 0.1] + rng.standard_normal(n)


def prices(seed: int, n: int) -> tuple[Array, Array]:
    """Columns that are nearly functions of each other and of the label."""
    rng = np.random.default_rng(seed)
    size = rng.lognormal(7.4, 0.3, n)
    price = size * rng.lognormal(-1.9, 0.12, n)
    near = [size, np.log(size), np.log(price), size * rng.lognormal(1.4, 0.5, n), price * rng.lognormal(0, 0.06, n)]
    return np.column_stack([*near, rng.standard_normal((n, 3))]), price


def far_rows(seed: int, n: int) -> tuple[Array, Array]:
    """A column that two rows make, and a label far from all others."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 8))
    X[[3, 77], 2] *= 60
    y = np.exp(0.5 * rng.standard_normal(n))
    X[:, 5] = np.log(y) + 0.1 * rng.standard_normal(n)
    y[12] *= 15
    return X, y


def as_trained(X: Array, y: Array, rows: int) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The first rows and the others, in the units of the first."""
    X, y = (X - X[:rows].mean(0)) / X[:rows].std(0), (y - y[:rows].mean()) / y[:rows].std()
    return (X[:rows], y[:rows]), (X[rows:], y[rows:])


def followed(found: sl.recommend.Recommendation, data: tuple[Array, Array], fresh: tuple[Array, Array]) -> tuple[Array, Array]:
    """Train and test risks by epoch of real training as advised, mean of three orders."""
    a = found.advice
    done = train(found.loss, data, fresh, found.learning_rate, a.batch_size, a.weight_decay, a.epochs, range(3))
    return done.train.mean(0), done.test.mean(0)


@pytest.mark.parametrize(("make", "seed"), [(lognormal, 0), (lognormal, 1), (student, 2)])
def test_what_is_advised_for_heavy_tails_trains(make, seed):
    X, y = make(seed)
    found = sl.recommend(X, y, loss="squared", max_epochs=40)
    data, _ = as_trained(X, y, len(X))
    fit, _ = followed(found, data, data)
    assert fit[-1] < 0.9 * fit[0]
    text = str(found)
    for wrong in ("nan", "inf", "between -"):
        assert wrong not in text
    e = found.expected
    assert all(np.isfinite(e[name]).all() and (e[name] >= 0).all() for name in ("test", "test_low", "train", "train_low"))
    assert e["test"][found.advice.epochs] < e["test"][0]
    assert found.learning_rate < next(row.limit for row in found.advice.batches if row.batch_size == found.advice.batch_size)
    assert json.loads(json.dumps(found.json(), allow_nan=False))["cross_validated"]
    assert "Learning rate" in page(found)


class Told:
    """A predictor whose least risk at each step is known: a stage with a flat curve, infinite where it diverges."""

    measured, floor, more, notes, ridges = True, 0.0, 4, [], []
    start_step, largest_step = 2.0, 2.0

    def __init__(self, least: dict[int, float], certain_step: float):
        self.least, self.certain_step = least, certain_step

    def risks(self, steps: Array, ridges: Array, epochs: int) -> Array:
        at = np.round(np.log(self.start_step / steps) / np.log(FINE)).astype(int)
        each = np.array([[1.0, *[self.least.get(int(i), 0.9)] * epochs] for i in at])
        return np.stack([each, each])


def test_a_sweep_goes_on_after_divergence_and_after_a_bump():
    """Sixteen steps diverge, then one is fair, five are worse, and the best comes after: training is certain only below it."""
    least = dict.fromkeys(range(16), np.inf) | {16: 0.6} | dict.fromkeys(range(17, 22), 0.8) | {22: 0.2, 23: 0.3}
    swept = sweep(Told(least, 2.0 * FINE**-24.0), np.array([]), 3, SILENT)
    assert swept.chosen(0.0)[0] == pytest.approx(2.0 * FINE**-22)
    assert swept.limit_step == pytest.approx(2.0 * FINE**-15)


def test_steps_are_tried_until_the_smallest_four_gain_nothing():
    """The best lies eight steps below what is certain, with a gain at every second of them only."""
    least = {i: 0.9 - 0.05 * (i // 2) for i in range(14)}
    swept = sweep(Told(least, 1.0), np.array([]), 3, SILENT)
    assert swept.chosen(0.0)[0] == pytest.approx(2.0 * FINE**-13, rel=0.5)
    assert len(swept.steps) <= 22


def test_what_diverges_on_some_part_is_not_advised():
    """The first step is the best in the mean until one stage runs away in its last epoch."""
    each = np.array([[[9.0, 2.0, 2.0], [9.0, 4.0, 4.0]], [[9.0, 2.0, np.inf], [9.0, 4.0, 4.0]]])
    swept = Sweep(np.array([1.0, 0.5]), np.zeros(2), each, True)
    assert swept.chosen(0.0) == (0.5, 1)
    assert swept.limit_step == 1.0


def test_a_training_that_does_not_train_is_seen():
    X, y = lognormal(3)
    (X, y), _ = as_trained(X, y, len(X))
    longest = float(np.square(X).sum(1).max()) + 1.0
    assert trains("squared", X, y, 0.2 / longest, 1, 0.0, 5, 0)
    assert not trains("squared", X, y, 20.0 / longest, 1, 0.0, 5, 0)
    assert not trains("squared", X, y, 1e6, 1, 0.0, 5, 0)


def plain_grid(data: tuple[Array, Array], fresh: tuple[Array, Array]) -> float:
    """The least risk on fresh samples of 30 trainings of 100 epochs."""
    found = []
    rates = np.geomspace(1e-4, 0.6, 15)
    for size in (1, 8):
        rngs = [np.random.default_rng(0)]
        with np.errstate(over="ignore", invalid="ignore"):
            w, b = next(islice(descend("squared", data[0][None], data[1][None], rates, 0 * rates, size, rngs), 100, None))
            risks = losses("squared", fresh[0] @ w[0] + b[0], fresh[1]).mean(0)
        found.append(np.nanmin(np.where(np.isfinite(risks), risks, np.nan)))
    return min(found)


@pytest.mark.parametrize(("make", "seed"), [(prices, 0), (prices, 1), (far_rows, 2)])
def test_small_tables_do_no_worse_than_a_plain_grid(make, seed):
    """A quarter more than the best of the grid, which is chosen on the samples that measure, at most, or words that say why not. Those
    are 2000, so that little is gained by the choice."""
    X, y = make(seed, 2080)
    data, fresh = as_trained(X, y, 80)
    found = sl.recommend(X[:80], y[:80], loss="squared")
    _, test = followed(found, data, fresh)
    assert "other settings may turn out better" in str(found)
    one_label = "One label (row 13) makes" in str(found)
    assert one_label == (make is far_rows)
    assert test[-1] <= (2.0 if one_label else 1.25) * plain_grid(data, fresh)


def test_folds_are_standardised_on_what_is_trained_on_alone():
    rng = np.random.default_rng(4)
    X = rng.standard_normal((200, 6))
    X[17, 3] = 80.0
    X[:, 5] = 0.0
    X[40, 5] = 1.0  # constant wherever this row is left out
    data = prepare(X, X[:, 0] + rng.standard_normal(200), False)
    found = FoldsPredictor("squared", data, 1.0, 1.0, 0)
    seen = 0
    for stage in found.trials.stages:
        np.testing.assert_allclose(stage.X.mean(0), 0.0, atol=1e-9)
        deviation = stage.X.std(0)
        np.testing.assert_allclose(deviation[:5], 1.0, rtol=1e-9)
        outlier = np.abs(stage.held_out[0][:, 3]).max()
        seen += outlier > 30  # in units of the others it is 80 deviations away, in units that count it 14
        if deviation[5] == 0:
            assert (stage.held_out[0][:, 5] == 0).all()
    assert seen == len(found.trials.stages) // how_many(1200)[1]  # once in each cut


def test_what_is_held_out_does_not_enter_the_scale():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((80, 4))
    X[:20, 1] *= 30.0
    data = prepare(X, X[:, 0] + 0.1 * rng.standard_normal(80) + 5.0, False)
    smaller, (fresh, labels) = _hold_out(data, np.random.default_rng(0))
    np.testing.assert_allclose(smaller.X.std(0), 1.0)
    np.testing.assert_allclose([smaller.y.mean(), smaller.y.std()], [0.0, 1.0], atol=1e-12)
    whole = np.concatenate([smaller.X, fresh]) * smaller.scale + smaller.mean
    np.testing.assert_allclose(np.sort(whole, 0), np.sort(X, 0))
    labels = np.concatenate([smaller.y, labels]) * smaller.label_scale + smaller.label_mean
    np.testing.assert_allclose(np.sort(labels), np.sort(data.y * data.label_scale + data.label_mean))


def test_leverages_are_the_diagonal_of_the_hat_matrix():
    X = np.random.default_rng(6).standard_normal((60, 5))
    X -= X.mean(0)
    hat = X @ np.linalg.solve(X.T @ X, X.T)
    np.testing.assert_allclose(leverage(X), np.diag(hat), rtol=5e-3)  # a ridge of a thousandth
    assert weights(leverage(X)).mean() == pytest.approx(1.0)
    wide = leverage(np.random.default_rng(7).standard_normal((30, 50)))
    assert 0.2 < wide.mean() <= 0.5
    assert wide.max() < 1.0


def test_rows_that_dominate_are_named_also_behind_each_other():
    """Of two rows in one direction the shorter has a small leverage as long as the longer is there."""
    X = np.random.default_rng(8).standard_normal((120, 6))
    X[7, 2], X[31, 2] = 900.0, 60.0
    assert leverage(X)[31] < 0.1
    assert list(dominating(X)) == [7, 31]
    assert sentence(X).startswith("Row 8 (0.99) and row 32 (0.95) decide directions")
    for seed in range(20):
        assert sentence(np.random.default_rng(seed).standard_normal((40, 4))) == ""
    found = sl.recommend(X, X[:, 0] + np.random.default_rng(9).standard_normal(120), loss="squared", max_epochs=5)
    assert "Row 8 (0.99) and row 32" in str(found)


def test_it_is_said_where_training_is_expected_to_harm():
    """Labels that have nothing to do with the features, and labels that have."""
    rng = np.random.default_rng(10)
    X = rng.standard_normal((60, 20))
    assert "raining is expected to harm" in str(sl.recommend(X, rng.standard_normal(60), loss="squared", max_epochs=10))
    assert "expected to harm" not in str(sl.recommend(X, X[:, 0] + 0.1 * rng.standard_normal(60), loss="squared", max_epochs=30))


def test_one_label_beyond_all_others_is_advice_not_an_error():
    """Nothing of such labels is linear in the features."""
    rng = np.random.default_rng(11)
    X = rng.standard_normal((200, 5))
    y = 1.0 + 0.1 * rng.standard_normal(200) + 0.2 * X[:, 0]
    y[41] = 1e4
    found = sl.recommend(X, y, loss="squared", max_epochs=10)
    assert found.measured
    assert np.isfinite(found.expected["test"]).all()


def test_without_a_step_that_diverges_there_is_no_limit():
    """Classes far apart: no rate of the logistic loss runs away."""
    rng = np.random.default_rng(12)
    y = np.where(rng.random(60) < 0.5, 1, -1)
    X = rng.standard_normal((60, 4)) + 6.0 * y[:, None]
    found = sl.recommend(X, y, max_epochs=10)
    assert found.advice.limit_step == np.inf
    assert "No learning rate that was tried diverges" in str(found)
    assert json.loads(json.dumps(found.json(), allow_nan=False))["limit_step"] is None


def test_a_label_known_exactly_and_more_features_than_samples_are_advice():
    """Risks of zero, which nothing may be divided by."""
    rng = np.random.default_rng(13)
    x = rng.standard_normal((25, 1))
    assert sl.recommend(x, 3.0 * x[:, 0] + 1.0, loss="squared", max_epochs=20, keep=["column 0"]).expected["test"][-1] < 1e-6
    assert sl.recommend(rng.standard_normal((60, 300)), rng.standard_normal(60), loss="squared", max_epochs=5).learning_rate > 0
