"""Advice for real data: what is read off them, what is done to bad ones, and whether following it pays."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

import sgdlimit as sl
from sgdlimit.errors import InputError
from sgdlimit.recommend.advise import Sweep, rate_limit
from sgdlimit.recommend.data import prepare
from sgdlimit.recommend.drawn import Draw
from sgdlimit.recommend.estimate import Estimate, Resolvent, estimate, offset_for, ridge_error, share_at, strength
from sgdlimit.recommend.linear import LinearTwin, spread_out
from sgdlimit.recommend.report import program
from sgdlimit.recommend.setting import Setting
from sgdlimit.recommend.train import descend, losses, train
from sgdlimit.recommend.verify import verify
from sgdlimit.theory.closed_forms import linear_descent, linear_model


def draw(n: int, d: int, values: np.ndarray, noise: float, seed: int, fresh: int = 0):
    """Gaussian features with covariance `diag(values)`, mean variance one, and a linear teacher of strength one along all of them."""
    rng = np.random.default_rng(seed)
    values = values / values.mean()
    X = rng.standard_normal((n + fresh, d)) * np.sqrt(values)
    y = X @ (rng.standard_normal(d) / np.sqrt(d)) + np.sqrt(noise) * rng.standard_normal(n + fresh)
    return X, y


ISOTROPIC = lambda d: np.ones(d)
POWER_LAW = lambda d: np.arange(1.0, d + 1) ** -1.0
TWO = lambda d: np.where(np.arange(d) < d // 4, 3.0, 1 / 3)


# --- estimates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1500, 500), (400, 600)])
def test_isotropic_data_are_found_isotropic(shape):
    """Sample eigenvalues spread over a factor of 12 or more here; the population's are one. n = 1500 leaves the noise a standard error of
    sqrt(2 / (n - d)) = 4.5%; 15% is 3.3 of them."""
    X, y = draw(*shape, ISOTROPIC(shape[1]), 0.25, 1)
    found = estimate(X - X.mean(0), y - y.mean(), np.random.default_rng(0))
    spread = found.weights @ (found.eigenvalues - 1.0) ** 2
    assert spread < 0.01
    assert found.spectrum_residual < 0.01
    if shape[0] > shape[1]:
        assert found.noise == pytest.approx(0.25, rel=0.15)


def test_two_eigenvalues_and_their_signal_are_found():
    X, y = draw(2000, 500, TWO(500), 0.25, 2)
    found = estimate(X - X.mean(0), y - y.mean(), np.random.default_rng(0))
    high = found.eigenvalues > 1.0
    assert found.weights[high].sum() == pytest.approx(0.25, abs=0.02)
    assert found.weights[high] @ found.eigenvalues[high] / found.weights[high].sum() == pytest.approx(3.0, rel=0.05)
    # Signal is eigenvalue times squared weight: three quarters along the large ones. 375 and 125 weights, squared: 7% and 13%.
    assert found.signal[high].sum() / found.signal.sum() == pytest.approx(0.75, abs=0.1)


def test_large_eigenvalues_of_a_power_law_are_found_one_by_one():
    values = POWER_LAW(600) / POWER_LAW(600).mean()
    X, y = draw(1500, 600, values, 0.25, 3)
    found = estimate(X - X.mean(0), y - y.mean(), np.random.default_rng(0))
    # A sample eigenvalue has a relative standard error of sqrt(2/n) = 3.7%.
    np.testing.assert_allclose(np.sort(found.eigenvalues)[::-1][:3], values[:3], rtol=0.15)
    assert found.weights @ found.eigenvalues == pytest.approx(1.0)
    assert found.held_out_residual < 0.03


def test_ridge_errors_agree_with_training_on_fresh_samples():
    X, y = draw(800 + 20000, 400, TWO(400), 0.25, 4)
    (A, b), (B, c) = (X[:800], y[:800]), (X[800:], y[800:])
    theta = np.linalg.solve(A.T @ A / 800 + 0.3 * np.eye(400), A.T @ b / 800)
    measured = np.mean((B @ theta - c) ** 2)
    values = TWO(400) / TWO(400).mean()
    expected = ridge_error(np.array([1 / 3, 3.0]), np.array([0.75, 0.25]), values[[-1, 0]] * [0.75, 0.25], 0.25, 0.5, np.array([0.3]))[0]
    # 20000 fresh samples and 800 labels: 1% and 5% (sqrt(2/800)) of the excess over the noise.
    assert measured == pytest.approx(expected, rel=0.08)
    seen = Resolvent.of(A - A.mean(0), b - b.mean())
    assert seen.held_out(np.array([0.3]))[0] == pytest.approx(expected, rel=0.15)  # three standard errors of 800 squares


@pytest.mark.parametrize(("size", "offset"), [(0.5, 0.0), (2.0, 0.0), (3.0, -1.0)])
def test_strength_of_a_logistic_teacher_inverts_its_linear_share(size, offset):
    assert strength(share_at(size, offset), offset) == pytest.approx(size, rel=1e-6)
    mean = 2.0 * np.mean(1 / (1 + np.exp(-(size * np.random.default_rng(0).standard_normal(400_000) + offset)))) - 1.0
    assert offset_for(mean, size) == pytest.approx(offset, abs=0.02)  # 400000 draws: 4 standard errors


# --- least squares at finite size ----------------------------------------------------------------------------------------


def flat(noise: float = 0.25) -> Estimate:
    return Estimate(np.ones(1), np.ones(1), np.ones(1), noise, 0.0, 0.0, 0.0, 4.0)


def test_drawn_features_give_the_closed_form():
    """Sums over 600 eigenvalues fluctuate by about 1/600, tested at 0.5% of each value."""
    twin = LinearTwin(flat(), 1200, 600, 0)
    times = np.concatenate([[0.0], np.geomspace(1e-2, 20.0, 240)])
    found = twin.sgd(0.7, 0.05, times, twin.flow(times, 0.05))
    exact = linear_model(2.0, 0.7, 0.05, 0.25, 0.0, 1.0, times)
    np.testing.assert_allclose(found.test, exact["test_risk"], rtol=5e-3)
    np.testing.assert_allclose(found.train, exact["train_risk"], rtol=5e-3)
    assert twin.stability_limit() == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize("fraction", [0.1, 1.0])
def test_batches_give_the_closed_form(fraction):
    twin = LinearTwin(flat(), 1200, 600, 0)
    rate, steps = 0.2, 40
    found = twin.batches(rate, fraction, 0.0, steps, 1)
    exact = linear_descent(2.0, rate / (2.0 * fraction), fraction, 0.0, 0.25, 0.0, 1.0, steps)
    np.testing.assert_allclose(found.test, exact["test_risk"], rtol=5e-3)
    np.testing.assert_allclose(found.train, exact["train_risk"], rtol=5e-3)


def test_above_the_limit_training_diverges_and_below_it_does_not():
    X, y = draw(600, 300, ISOTROPIC(300), 0.25, 5)
    twin = LinearTwin(flat(), 600, 300, 0)
    for size in (4, 64):
        limit = rate_limit(twin, 1.0, 0.0, size, 600, 300)
        ends = [train("squared", (X, y), (X, y), factor * limit, size, 0.0, 60, [0], order="replacement").train[0] for factor in (0.7, 1.5)]
        assert ends[0][-1] < ends[0][0]
        assert ends[1][-1] > 100 * ends[1][0]


# --- real training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_loops_train_alike(loss):
    """scikit-learn takes samples one by one: the same loop for batches of one, up to the order."""
    pytest.importorskip("sklearn")
    X, y = draw(300, 40, ISOTROPIC(40), 0.25, 6)
    y = np.sign(y) if loss == "logistic" else y
    ours, theirs = (train(loss, (X, y), (X, y), 0.004, 1, 0.01, 5, range(4), backend) for backend in ("numpy", "sklearn"))
    np.testing.assert_allclose(ours.test.mean(0), theirs.test.mean(0), rtol=0.02)
    start = losses(loss, np.zeros(300) + (0.0 if loss == "logistic" else y.mean()), y).mean()
    assert ours.test[:, 0] == pytest.approx(start, rel=0.05)


@pytest.mark.torch
def test_torch_trains_like_numpy():
    pytest.importorskip("torch")
    X, y = draw(300, 40, ISOTROPIC(40), 0.25, 6)
    ours, theirs = (train("squared", (X, y), (X, y), 0.02, 8, 0.01, 5, range(4), backend) for backend in ("numpy", "torch"))
    np.testing.assert_allclose(ours.test.mean(0), theirs.test.mean(0), rtol=0.02)


def test_side_by_side_is_the_same_as_one_by_one():
    X, y = draw(120, 20, ISOTROPIC(20), 0.25, 14)
    rates, decays = np.array([0.01, 0.1, 0.02]), np.array([0.0, 0.1, 0.3])
    sets = np.stack([X[:60], X[60:]]), np.stack([y[:60], y[60:]])
    rngs = lambda: [np.random.default_rng(number) for number in range(2)]
    *_, (w, b) = islice(descend("squared", *sets, rates, decays, 7, rngs()), 4)
    for i in range(2):
        for c in range(3):
            *_, (v, a) = islice(descend("squared", sets[0][[i]], sets[1][[i]], rates[[c]], decays[[c]], 7, [rngs()[i]]), 4)
            np.testing.assert_allclose(w[i, :, c], v[0, :, 0], rtol=1e-10)
            assert b[i, c] == pytest.approx(a[0, 0])
    own = np.stack([sets[1], -sets[1], 2.0 * sets[1]], 2)  # labels of each training
    *_, (v, a) = islice(descend("squared", sets[0], own, np.full(3, 0.02), np.zeros(3), 7, rngs()), 4)
    np.testing.assert_allclose(v[:, :, 1:], np.stack([-v[:, :, 0], 2.0 * v[:, :, 0]], 2), rtol=1e-10)


def test_a_run_away_is_infinite_not_an_error():
    X, y = draw(100, 40, ISOTROPIC(40), 0.25, 7)
    done = train("squared", (X, y), (X, y), 50.0, 4, 0.0, 10, [0])
    assert np.isinf(done.test[0, -1])


# --- drawn data ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_the_risk_of_a_draw_is_that_of_fresh_samples(loss):
    """200000 fresh samples: four standard errors of a mean loss."""
    e = Estimate(np.array([0.5, 3.0]), np.array([0.8, 0.2]), np.array([0.3, 0.5]), 0.2, 0.0, 0.0, 0.0, 4.0)
    setting = Setting(loss, e, 400, 50, 1.8 if loss == "logistic" else 0.8**0.5, 0.7 if loss == "logistic" else 0.0)
    rng = np.random.default_rng(15)
    one = Draw.of(setting, LinearTwin(e, 400, 50, 15), 2, rng)
    w, b = one.teacher[:, :, None] * 0.6 + 0.05 * rng.standard_normal((50, 2, 3)), np.array([[0.3, 0.0, 0.1]] * 2)
    X = rng.standard_normal((200_000, 50)) * np.sqrt(one.twin.values)
    r = X @ one.teacher[:, 1]
    noisy = r + 0.2**0.5 * rng.standard_normal(len(r))
    y = noisy if loss == "squared" else np.where(rng.random(len(r)) < 1 / (1 + np.exp(-r - 0.7)), 1.0, -1.0)
    sampled = losses(loss, X @ w[:, 1, 2] + 0.1, y)
    assert one.test_risk(w, b).shape == (2, 3)
    assert one.test_risk(w, b)[1, 2] == pytest.approx(sampled.mean(), abs=4 * sampled.std() / 200_000**0.5)
    on_its_own = losses(loss, one.X @ w[:, 1, 2] + 0.1, one.y[:, 1]).mean()
    assert one.train_risk(w.astype(np.float32), b.astype(np.float32))[1, 2] == pytest.approx(on_its_own, rel=1e-5)


def test_flow_of_a_draw_is_small_steps():
    setting = Setting("squared", flat(), 200, 50, 1.0, 0.0)
    one = Draw.of(setting, LinearTwin(flat(), 200, 50, 16), 2, np.random.default_rng(16))
    X, y = one.X.astype(float), one.y
    w = np.zeros((50, 2))
    for _ in range(2000):
        w -= 1e-3 * (X.T @ (X @ w - y) / 200 + 0.1 * w)
    train_, test = one.flow(np.array([2.0]), 0.1)
    np.testing.assert_allclose(test[:, :1], one.test_risk(w[:, :, None], np.zeros((2, 1))), rtol=2e-3)
    np.testing.assert_allclose(train_[:, 0], 0.5 * np.mean((X @ w - y) ** 2, 0), rtol=2e-3)


def test_fewer_features_keep_variance_and_signal():
    """Twelve eigenvalues on four: each the mean of three, the signal summed; a large one that is half a feature is shared."""
    e = Estimate(np.array([0.5, 1.0, 8.0]), np.array([8, 3, 1]) / 12, np.array([0.1, 0.2, 0.7]), 0.2, 0.0, 0.0, 0.0, 9.0)
    mean = e.weights @ e.eigenvalues
    values, energies = spread_out(e, 4)
    np.testing.assert_allclose(values * mean, [0.5, 0.5, 2.0 / 3, 10 / 3])
    np.testing.assert_allclose(energies, [0.0375, 0.0375, 0.025 + 0.2 / 3, 0.4 / 3 + 0.7])
    values, energies = spread_out(e, 12)
    np.testing.assert_allclose(values * mean, [0.5] * 8 + [1.0] * 3 + [8.0])
    np.testing.assert_allclose(energies, [0.0125] * 8 + [0.2 / 3] * 3 + [0.7])


# --- the whole -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def advised():
    """Squared loss on power-law data: the advice for 1200 samples, and three real trainings measured on 6000 fresh ones."""
    X, y = draw(1200, 300, POWER_LAW(300), 0.25, 8, fresh=6000)
    reports: list[tuple[float, str]] = []
    told = lambda fraction, text: reports.append((fraction, text))
    found = sl.recommend(X[:1200], y[:1200], loss="squared", standardise=False, progress=told)
    shift = lambda values: values - values[:1200].mean(0)
    X, y = shift(X), shift(y) / y[:1200].std()
    data, fresh = (X[:1200], y[:1200]), (X[1200:], y[1200:])
    done = replace(found, verification=verify("squared", data, fresh, found.advice, 3, "numpy", 0))
    return data, fresh, done, reports


def test_following_the_advice_is_near_the_best_of_a_grid(advised):
    """24 points, with the best epoch of each chosen on the very samples that measure."""
    data, fresh, found, _ = advised
    ours = found.verification.trained.test.mean(0)[found.advice.epochs]
    steps, grid = np.geomspace(0.02, 1.0, 8), []
    for size in (8, 16, 32):
        rates = steps * size / 300 / found.feature_variance
        trained = descend("squared", data[0][None], data[1][None], rates, np.zeros(8), size, [np.random.default_rng(0)])
        with np.errstate(over="ignore", invalid="ignore"):  # the largest steps diverge
            grid += [np.nanmin(losses("squared", fresh[0] @ w[0] + b[0], fresh[1]).mean(0)) for w, b in islice(trained, 31)]
    assert ours <= 1.02 * min(grid)


def test_expected_curves_are_measured(advised):
    """The noise is known to sqrt(2 / 900) = 5% from 1200 labels and 300 weights; the risk of 6000 fresh samples to 2%. 15% is 2.8 of
    both together."""
    _, _, found, _ = advised
    assert abs(found.verification.deviation["test"]) < 0.15
    assert abs(found.verification.deviation["train"]) < 0.1
    e = found.expected
    assert (e["test_low"] <= e["test"]).all()
    assert (e["test"] <= e["test_high"]).all()


def test_rates_scale_with_the_batch_up_to_the_largest_useful_one(advised):
    _, _, found, _ = advised
    useful = [row for row in found.advice.batches if row.useful]
    rates = np.array([row.learning_rate / row.batch_size for row in useful])
    np.testing.assert_allclose(rates, rates[0])
    assert found.advice.largest_batch == useful[-1].batch_size
    step = sl.SGD.from_learning_rate(found.learning_rate, found.advice.batch_size, found.d, found.feature_variance).step
    assert step == pytest.approx(found.advice.step)
    assert all(row.learning_rate < row.limit for row in found.advice.batches)
    assert found.advice.batches[-1].epochs >= found.advice.epochs


def test_the_problem_behind_the_advice_is_a_problem(advised):
    _, _, found, _ = advised
    problem = found.setting.problem(found.advice.ridge)
    assert isinstance(problem, sl.Problem)
    assert problem.sample_ratio == pytest.approx(1200 / 300)
    assert problem.spectrum.weights @ problem.spectrum.eigenvalues == pytest.approx(1.0)


def test_progress_and_numbers_and_page(advised, tmp_path):
    _, _, found, reports = advised
    fractions = [fraction for fraction, _ in reports]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    numbers = json.loads(json.dumps(found.json()))
    assert numbers["recommended"]["learning_rate"] == found.learning_rate
    assert len(numbers["verification"]["test"]) == 3
    found.save(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "http://" not in text.split("</style>")[1].split("<script")[0]
    for words in ("What to do", "How far to trust it", "recommended", found.trust.verdict):
        assert words in text
    assert "Learning rate" in str(found)


@pytest.mark.torch
def test_the_program_on_the_page_does_what_is_advised(advised):
    torch = pytest.importorskip("torch")
    data, _, found, _ = advised
    names = {"X": torch.tensor(data[0], dtype=torch.float32), "y": torch.tensor(data[1], dtype=torch.float32)}
    exec(program(found), names)
    end = losses("squared", data[0] @ names["model"].weight.detach().numpy()[0] + names["model"].bias.item(), data[1]).mean()
    assert end == pytest.approx(found.verification.trained.train.mean(0)[found.advice.epochs], rel=0.03)


def test_logistic_advice_with_unequal_classes():
    """The intercept takes the classes' frequency; the start's risk is their entropy."""
    rng = np.random.default_rng(9)
    X = rng.standard_normal((900, 150))
    y = np.where(rng.random(900) < 1 / (1 + np.exp(-(2.0 * X @ rng.standard_normal(150) / np.sqrt(150) + 1.5))), "yes", "no")
    found = sl.recommend(X, y, loss="logistic", verify=1, backend="numpy", max_epochs=40)
    assert found.setting.offset == pytest.approx(1.5, abs=0.5)
    assert found.setting.size == pytest.approx(2.0, rel=0.25)
    assert any("yes is the positive class" in line for line in found.told)
    assert abs(found.verification.deviation["test"]) < 0.15
    assert found.expected["test"][found.advice.epochs] < found.expected["test"][0]


def test_the_limit_is_near_what_is_expected_at_this_size():
    """Six draws of 400 x 100 leave a standard error of about 2% of the test risk, the solver promises 5% of its largest value."""
    rng = np.random.default_rng(17)
    X = rng.standard_normal((400, 200))
    y = rng.random(400) < 1 / (1 + np.exp(-3.0 * X @ rng.standard_normal(200) / 200**0.5))
    found = sl.recommend(X, y, loss="logistic", theory=True, max_epochs=6)
    count = len(found.limit.test)
    assert count >= 2
    np.testing.assert_allclose(found.limit.test, found.advice.reshuffle.test[:count], rtol=0.06)
    assert "In the limit" in str(found)


def test_data_the_theory_does_not_describe_are_measured():
    """Two clusters: the curve is that of training on four fifths, so real training on all is as good or a little better. 4000 fresh
    samples know their risk to 4%, 20 folds theirs to 10%."""
    rng = np.random.default_rng(18)
    y = np.where(rng.random(4400) < 0.5, 1.0, -1.0)
    X = rng.standard_normal((4400, 30)) + 1.5 * np.outer(y, rng.standard_normal(30)) / np.sqrt(30)
    found = sl.recommend(X[:400], y[:400], max_epochs=30)
    assert found.measured
    assert found.trust.verdict == "do not use it"
    assert "training on parts" in str(found)
    shift, scale = X[:400].mean(0), X[:400].std(0)
    X = (X - shift) / scale
    data, fresh = (X[:400], y[:400]), (X[400:], y[400:])
    ours = verify("logistic", data, fresh, found.advice, 3, "numpy", 0).trained.test.mean(0)[found.advice.epochs]
    assert ours == pytest.approx(found.expected["test"][found.advice.epochs], rel=0.35)
    rates = np.geomspace(1e-3, 0.3, 8)
    trained = descend("logistic", data[0][None], data[1][None], rates, np.zeros(8), 8, [np.random.default_rng(0)])
    grid = [losses("logistic", fresh[0] @ w[0] + b[0], fresh[1]).mean(0).min() for w, b in islice(trained, 31)]
    assert ours <= 1.1 * min(grid)


def test_a_weight_decay_is_recommended_where_it_helps_and_only_there():
    """Two stages, two trainings, three epochs of risks."""
    gain = lambda each: Sweep(np.array([1.0, 1.0]), np.array([0.0, 0.1]), np.array(each)).best_ridge()[0]
    with_, without = [9.0, 5.0, 4.0], [9.0, 4.2, 4.5]
    assert gain([[without, with_], [without, with_]]) == 0.1
    assert gain([[with_, without], [with_, without]]) == 0.0
    noisy = [[[9.0, 4.2, 4.2], [9.0, 3.0, 3.0]], [[9.0, 4.2, 4.2], [9.0, 5.0, 5.0]]]
    assert gain(noisy) == 0.0  # better by 5% in the mean, but by as much worse on one of two stages


def test_of_steps_that_cannot_be_told_apart_the_smallest_is_taken():
    """Two stages: the second step is 0.05 worse in the mean, with a standard error of 0.2; the third is 0.3 worse on both, the fourth 0.1
    (too much of 4) with an error of 0.2, the fifth like the second and less than a quarter of the best one's step."""
    first, second = [4.0, 4.25, 4.3, 4.3, 4.25], [4.0, 3.85, 4.3, 3.9, 3.85]
    each = np.array([[[9.0, risk] for risk in risks] for risks in (first, second)])
    swept = Sweep(np.array([1.0, 0.5, 0.35, 0.25, 0.2]), np.zeros(5), each)
    assert swept.careful(0.0) == (0.5, 1)
    assert swept.cheapest(0.0) == (1.0, 1)


# --- bad data, in words --------------------------------------------------------------------------------------------------

GOOD = np.random.default_rng(0).standard_normal((60, 4))
LABELS = GOOD[:, 0] > 0


@pytest.mark.parametrize(
    ("X", "y", "classes", "words"),
    [
        (GOOD[:15], LABELS[:15], True, "at least 20 samples"),
        (GOOD, np.ones(60), True, "have two classes"),
        (GOOD, np.arange(60) % 3, True, "3 different values"),
        (GOOD, np.where(np.arange(60) == 1, 1, 0), True, "at least 5 samples of each class"),
        (GOOD, np.full(60, 3.0), False, "must vary"),
        (GOOD, np.array(["a", "b"] * 30), False, "must hold numbers"),
        (np.where(GOOD > 2, np.inf, GOOD), LABELS, True, "must be finite"),
        (np.ones((60, 3)), LABELS, True, "have a column that varies"),
        (GOOD.astype(str).tolist() and [["a"] * 4] * 60, LABELS, True, "must hold numbers"),
        (GOOD, LABELS[:50], True, "one label for each"),
        (GOOD[:, 0], LABELS, True, "must be a matrix"),
        (np.full((60, 2), np.nan), LABELS, True, "mostly there"),
    ],
)
def test_data_that_cannot_be_used_are_refused_in_words(X, y, classes, words):
    with pytest.raises(InputError, match=words):
        prepare(X, y, classes)


def test_arguments_are_refused_in_words():
    for options, words in (
        ({"loss": "hinge"}, "be squared or logistic"),
        ({"max_epochs": 0}, "max_epochs"),
        ({"seed": -1}, "seed"),
        ({"verify": True, "backend": "keras"}, "backend"),
    ):
        with pytest.raises(InputError, match=words):
            sl.recommend(GOOD, LABELS, **options)


def test_labels_that_do_not_depend_on_the_features_bring_no_signal():
    """The linear share of pure noise is at most a few standard errors, sqrt(2 d) / n = 2.5%."""
    rng = np.random.default_rng(11)
    X, y = rng.standard_normal((400, 50)), rng.standard_normal(400)
    found = estimate(X - X.mean(0), y - y.mean(), rng)
    assert found.linear_share < 0.08


def test_setting_of_two_clusters():
    found = Estimate(np.ones(1), np.ones(1), np.array([0.9]), 0.1, 0.0, 0.0, 0.0, 4.0)
    assert Setting.of("logistic", found, 300, 100).clusters
    assert not Setting.of("squared", found, 300, 100).clusters
