"""The test risk from one run: against retraining without each sample, against fresh data, and where it must not be trusted."""

import re
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import sgdlimit as sl
from problems import logistic, tanh_regression
from sgdlimit.one_run import record, response
from sgdlimit.one_run import run as module
from sgdlimit.one_run.estimate import best_of, of_model
from sgdlimit.one_run.scales import fit_scales
from sgdlimit.one_run.spectra import find_spectra, squares_of
from sgdlimit.simulate.core import LEFT_OUT
from trainings import LOSSES, against_retraining, batches, data, predictions, told, train


def digits():
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    X = X[:, X.std(0) > 0]
    return (X - X.mean(0)) / X.std(0), np.where(y % 2, 1.0, -1.0)


# --- against retraining --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("momentum", "decay", "rates", "size"),
    [(0.0, 0.0, 0.03, 7), (0.9, 0.0, 0.004, 8), (0.0, 0.3, 0.03, 8), (0.8, 0.2, np.linspace(0.01, 0.001, 39), 8), (0.5, 0.0, 0.05, 100)],
    ids=["ragged batches", "momentum", "decay", "schedule", "full batch"],
)
def test_samples_left_out_exactly_are_so_for_a_quadratic_loss(momentum, decay, rates, size):
    X, y, *_ = data("square", 100, 40, 1)
    order = batches(100, size, 3)
    run, theta = told(X, y, "square", order, rates, momentum, decay)
    found = run.estimate(predictions(X, theta))
    without = train(X, y, "square", order, rates, momentum, decay, run.who)[1:]
    exact = np.einsum("qd,qdk->q", X[run.who], without)
    np.testing.assert_allclose(found.left_out[run.who], exact, atol=2e-5 * np.abs(exact).max())  # the weights' differences are single
    assert found.diagnostics["unexplained"] < 1e-5  # precision
    assert found.diagnostics["bend"] < 1e-3


@pytest.mark.parametrize(("betas", "decay", "size"), [((0.9, 0.999), 0.0, 8), ((0.8, 0.9), 3.0, 7), ((0.0, 0.99), 0.0, 100)])
def test_adam_is_followed_for_a_quadratic_loss(betas, decay, size):
    """AdamW on features of unequal size, with ragged batches and with all samples at once."""
    X, y, *_ = data("square", 100, 40, 1, power=1.0)
    order, rates = batches(100, size, 4), 0.02
    run, theta = told(X, y, "square", order, rates, decay=decay, betas=betas)
    found = run.estimate(predictions(X, theta))
    exact = np.einsum("qd,qdk->q", X[run.who], train(X, y, "square", order, rates, 0.0, decay, run.who, betas=betas)[1:])
    np.testing.assert_allclose(found.left_out[run.who], exact, atol=1e-3 * np.abs(exact).max())  # single precision, signs at the start
    assert found.diagnostics["unexplained"] < 1e-4


@pytest.mark.parametrize(("rate", "how"), [(0.04, {}), (0.005, {"betas": (0.9, 0.999)})], ids=["SGD", "Adam"])
def test_samples_left_out_exactly_are_so_where_the_loss_bends(rate, how):
    """Of a committee that fits its noise. Where only the optimiser is followed, and the loss is linear, shifts are off by 6 to 8%."""
    X, y, *_ = data("two units", 120, 80, 3)
    order = batches(120, 8, 20)
    run, theta = told(X, y, "two units", order, rate, **how)
    found = run.estimate(predictions(X, theta))
    exact = np.einsum("qd,qdk->qk", X[run.who], train(X, y, "two units", order, rate, without=run.who, **how)[1:])
    trained = (X @ theta)[run.who]
    assert found.diagnostics["bend"] > 0.05
    assert np.linalg.norm(found.left_out[run.who] - exact) < 0.003 * np.linalg.norm(exact - trained)  # single precision


def test_a_committee_is_left_out_as_its_loss_sees_it():
    """Six trainings with Adam, seeds 0 to 5, far overfitted: their ratios to retraining spread by 0.045, and the mean is beyond 3.3 errors
    of 1.02 once in 1000 times. With as many votes for the second unit as for the first it was 0.93."""
    ratios = []
    for seed in range(6):
        X, y, *_ = data("two units", 360, 200, seed)
        correlation, ratio, found = against_retraining(X, y, "two units", batches(360, 8, 12, seed), 0.003, betas=(0.9, 0.999))
        assert correlation > 0.99
        assert found.trusted, found.verdict
        assert abs(ratio - 1) < 2 * found.diagnostics["response_error"] / found.risk + 0.04  # and that of 60 samples
        ratios.append(ratio)
    assert abs(np.mean(ratios) - 1) < 0.02 + 3.3 * 0.045 / np.sqrt(6)


def test_scales_are_those_of_the_outputs_that_count():
    rng = np.random.default_rng(0)
    modelled = rng.standard_normal((2, 15, 2))
    exact = modelled[0] * np.array([1.2, 0.7])
    one, other = (fit_scales(modelled, exact, np.diag(weights)) for weights in ([1.0, 1e-6], [1e-6, 1.0]))
    np.testing.assert_allclose(one.scales, [1.2, 0.0], atol=0.01)
    np.testing.assert_allclose(other.scales, [0.7, 0.0], atol=0.01)
    assert one.scatter < 0.01 < fit_scales(modelled, exact, np.eye(2)).scatter


def test_what_the_model_misses_beyond_chance_is_an_error():
    chance = np.random.default_rng(0).standard_normal(15)
    chance -= chance.mean()
    assert of_model(chance) == 0.0
    assert of_model(chance + 0.9 / np.sqrt(15)) == 0.0  # less than one standard error
    assert of_model(chance + 3.0) == pytest.approx(3.0, rel=0.02)


CASES = {  # loss, rows, features, power of the spectrum, rate, batch, epochs, momentum
    "logistic": ("logistic", 500, 250, 0.0, 0.08, 16, 6, 0.0),
    "power law": ("logistic", 500, 250, 1.0, 0.04, 16, 6, 0.0),
    "huber": ("huber", 500, 250, 0.0, 0.02, 8, 4, 0.0),
    "softmax": ("softmax", 400, 120, 0.0, 0.1, 16, 5, 0.0),
    "momentum": ("logistic", 500, 250, 0.0, 0.008, 16, 6, 0.9),
    "full batch": ("logistic", 400, 200, 0.0, 1.0, 400, 40, 0.0),
    "more features than rows": ("logistic", 200, 300, 0.0, 0.05, 8, 6, 0.0),
    "Adam": ("logistic", 500, 250, 1.0, 0.003, 16, 6, (0.9, 0.999)),
}


@pytest.mark.parametrize("case", CASES)
def test_left_out_predictions_are_those_of_retraining(case):
    loss, n, d, power, rate, size, epochs, memory = CASES[case]
    how = {"betas": memory} if isinstance(memory, tuple) else {"momentum": memory}
    X, y, *_ = data(loss, n, d, 2, power)
    correlation, ratio, found = against_retraining(X, y, loss, batches(n, size, epochs, seed=4), rate, **how)
    assert correlation > 0.99  # the issue asks for 0.98
    assert abs(ratio - 1) < 0.03
    assert found.risk > 1.15 * found.train_risk  # leaving out must matter, else all this is met by the training's own predictions
    assert found.trusted, found.verdict


def test_left_out_predictions_are_those_of_retraining_on_real_data():
    X, y = digits()
    X, y = X[:800], y[:800]
    correlation, ratio, found = against_retraining(X, y, "logistic", batches(800, 16, 8, seed=4), 0.1)
    assert correlation > 0.99
    assert abs(ratio - 1) < 0.03
    assert found.trusted, found.verdict


def test_a_basis_of_before_is_good_for_a_while():
    """Estimates on the way find eigenvectors anew when samples left out exactly say so; the last one is as good as one alone."""
    X, y, *_ = data("logistic", 400, 200, 5)
    order = batches(400, 16, 6, seed=1)
    alone, theta = told(X, y, "logistic", order, 0.08)
    often = sl.OneRun(X, y, LOSSES["logistic"][0], 0.08)
    weights = np.zeros((1, 200, 1))
    for batch in order:
        r = X[batch] @ weights[0]
        often.step(batch, r[:, 0])
        weights = weights - 0.08 * X[batch].T @ LOSSES["logistic"][2](r, y[batch]) / len(batch)
        if len(often._record.batches) % 20 == 0:
            often.estimate(X @ weights[0][:, 0])
    one, other = (run.estimate(X @ theta[:, 0]) for run in (alone, often))
    assert one.risk == pytest.approx(other.risk, rel=0.02)
    assert one.risk == alone.estimate(X @ theta[:, 0]).risk  # asked again, the same


# --- with many features: few eigenvectors, and fewer samples left out exactly -----------------------------------------------------


def left(X, weights, by):
    """`x^T exp(-t A) x` of every row at times `(3, n)` at which little, much and most has faded: from squares along groups of directions,
    with the mean curvature of each."""
    squares, sizes = by
    rates = squares @ weights / sizes
    times = np.array([[0.3], [1.0], [3.0]]) * X.shape[1] / np.sum(weights * np.sum(X**2, 1))
    return np.exp(-times * rates) @ squares


def by_eigenvectors(X, weights):
    return ((X @ np.linalg.eigh((X.T * weights) @ X)[1]) ** 2).T, np.ones(X.shape[1])


ROWS = {
    "isotropic": lambda rng: rng.standard_normal((600, 300)),
    "power law": lambda rng: rng.standard_normal((600, 300)) * np.arange(1, 301) ** -0.5,
    "with a mean": lambda rng: rng.standard_normal((600, 300)) + 3.0,
    "clusters": lambda rng: rng.standard_normal((600, 300)) + 2.0 * rng.standard_normal((5, 300))[rng.integers(5, size=600)],
    "ReLU features": lambda rng: np.maximum(rng.standard_normal((600, 30)) @ rng.standard_normal((30, 300)), 0.0),
}


@pytest.mark.parametrize("kind", ROWS)
def test_moments_tell_where_a_row_lies_in_the_spectrum(kind):
    """Nearly as all eigenvectors do; if all rows lay as they do on average, that would be off by several times as much."""
    rng = np.random.default_rng(0)
    X, weights = ROWS[kind](rng), rng.lognormal(0.0, 1.0, 600)
    squares, sizes = squares_of(spectra_of(X, weights), weights)
    np.testing.assert_allclose(squares.sum(0), np.sum(X**2, 1), rtol=1e-4)
    alike = np.outer(squares.sum(1) / squares.sum(), squares.sum(0))
    exact = left(X, weights, by_eigenvectors(X, weights))
    off, if_alike = (np.sqrt(np.mean((left(X, weights, (some, sizes)) / exact - 1.0) ** 2, axis=1)) for some in (squares, alike))
    assert (off < [0.02, 0.04, 0.12]).all()
    assert (off < 0.4 * if_alike).all()


def spectra_of(X, weights):
    found = find_spectra(X.astype(np.float32), np.sum(X**2, 1), weights)
    assert found is not None
    return found


def test_a_rows_own_curvature_is_followed():
    """Where it is another than when moments were measured. What is off for all rows alike is fitted, and does not count."""
    rng = np.random.default_rng(0)
    X, weights = ROWS["isotropic"](rng), rng.lognormal(0.0, 0.3, 600)
    spectra, later = spectra_of(X, weights), weights * rng.lognormal(0.0, 0.3, 600)
    exact = left(X, later, by_eigenvectors(X, later))
    ratios = [left(X, later, squares_of(spectra, known)) / exact for known in (later, weights)]
    followed, not_followed = (ratio.std(1) / ratio.mean(1) for ratio in ratios)
    assert (followed[:2] < 0.5 * not_followed[:2]).all()


def test_without_a_bulk_all_eigenvectors_are_found(monkeypatch):
    X = data("logistic", 300, 20, 2)[0]
    X = X @ np.random.default_rng(0).standard_normal((20, 210))
    assert find_spectra(X.astype(np.float32), np.sum(X**2, 1), np.ones(300)) is None
    monkeypatch.setattr(response, "MANY", 200)
    run, theta = told(X, np.sign(X[:, 0]), "logistic", batches(300, 16, 2), 0.002)
    assert run.estimate(predictions(X, theta)).trusted
    assert run._model.basis.spectra is None


def test_more_samples_are_left_out_while_that_is_little(monkeypatch):
    X, y, *_ = data("logistic", 300, 40, 2)
    monkeypatch.setattr(module, "LITTLE", 300 * 40 * 2)
    run, theta, found = sl.OneRun(X, y, LOSSES["logistic"][0], 0.03), np.zeros((40, 1)), []
    for number, batch in enumerate(batches(300, 15, 4), 1):
        r = X[batch] @ theta
        run.step(batch, r[:, 0])
        theta = theta - 0.03 * X[batch].T @ LOSSES["logistic"][2](r, y[batch]) / len(batch)
        if number % 20 == 0:
            found.append(run.estimate(predictions(X, theta)))
    assert [len(one.who) for one in found] == [14, 14, 7, 7]
    assert all(set(one.who) <= set(found[0].who) for one in found)


MANY_FEATURES = {name: CASES[name] for name in ("logistic", "power law", "huber", "momentum")}


@pytest.mark.parametrize("case", MANY_FEATURES)
def test_few_eigenvectors_and_seven_samples_will_do(case, monkeypatch):
    """Where there are many features and uses, and what they leave open is a small part of the error."""
    loss, n, d, power, rate, size, epochs, memory = CASES[case]
    X, y, *_ = data(loss, n, d, 2, power)
    monkeypatch.setattr(response, "MANY", 200)
    monkeypatch.setattr(module, "LITTLE", 0)
    monkeypatch.setattr(module, "SHARE", 1.0)
    correlation, ratio, found = against_retraining(X, y, loss, batches(n, size, epochs, seed=4), rate, momentum=memory)
    assert len(found.who) == 7
    assert correlation > 0.99
    assert abs(ratio - 1) < 0.03
    assert found.trusted, found.verdict


def test_a_closer_look_is_taken_where_that_matters(monkeypatch):
    """All eigenvectors first, then seven more samples; at the next estimate both are there, and the two are compared by the first seven."""
    X, y, *_ = data("logistic", 300, 200, 2)
    monkeypatch.setattr(response, "MANY", 200)
    monkeypatch.setattr(module, "LITTLE", 0)
    order, found, whole = batches(300, 16, 4), [], []
    run, theta = sl.OneRun(X, y, LOSSES["logistic"][0], 0.08), np.zeros((200, 1))
    for number, batch in enumerate(order):
        r = X[batch] @ theta
        run.step(batch, r[:, 0])
        theta = theta - 0.08 * X[batch].T @ LOSSES["logistic"][2](r, y[batch]) / len(batch)
        if number % 19 == 18:
            monkeypatch.setattr(module, "SHARE", 1.0 if number < 30 else 0.0)
            found.append(run.estimate(predictions(X, theta)))
            whole.append(run._model.basis.spectra is None)
    assert [len(one.who) for one in found] == [7, 14, 14, 14]
    assert whole == [False, True, True, True]
    _, error = found[1].minus(found[0])
    assert error < 0.8 * np.hypot(found[0].standard_error, found[1].standard_error)
    exact = train(X, y, "logistic", order, 0.08, without=run.who)[1:]
    np.testing.assert_allclose(found[-1].left_out[run.who], np.einsum("qd,qdk->q", X[run.who], exact), atol=1e-4)


def test_features_may_outnumber_rows():
    """Rotated into a larger space, the same data give the same estimate by another way to the eigenvectors."""
    X, y, *_ = data("logistic", 90, 80, 5)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((200, 80)))[0]
    order = batches(90, 6, 4)
    found = []
    for rows in (X, X @ turn.T):
        run, theta = told(rows, y, "logistic", order, 0.05)
        found.append(run.estimate(predictions(rows, theta)))
    np.testing.assert_allclose(found[0].left_out, found[1].left_out, atol=2e-3)


def test_outputs_may_be_taken_apart(monkeypatch):
    """Beyond some number of weights, eigenvectors are those of each direction of the mean Hessian: a worse model, corrected by the same
    samples. Where the Hessian is the same for all samples, it is no other model."""
    X, y, *_ = data("softmax", 300, 60, 2)
    targets = y @ np.random.default_rng(0).standard_normal((3, 2))
    mixed = jnp.array([[2.0, 1.0], [1.0, 1.0]])
    order, found = batches(300, 16, 4), []
    for most in (1500, 0):
        monkeypatch.setattr(response, "TOGETHER", most)
        run, theta = told(X, y, "softmax", order, 0.1)
        quadratic = sl.OneRun(X, targets, lambda r, y: 0.5 * (r - y) @ mixed @ (r - y), 0.05)
        weights = np.zeros((60, 2))
        for batch in order:
            quadratic.step(batch, r := X[batch] @ weights)
            weights = weights - 0.05 * X[batch].T @ ((r - targets[batch]) @ np.asarray(mixed)) / len(batch)
        found.append((run.estimate(X @ theta), quadratic.estimate(X @ weights)))
    np.testing.assert_allclose(found[0][1].left_out, found[1][1].left_out, atol=2e-3)
    assert found[1][0].risk == pytest.approx(found[0][0].risk, rel=0.1)
    assert found[0][0].diagnostics["scatter"] < found[1][0].diagnostics["scatter"]


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
def test_many_steps_at_once_are_so_many_steps(momentum):
    a = np.array([0.0, 1e-4, 0.01, 0.3, 1.7])
    for steps in (1, 2, 37):
        power, average = response._transition(a, momentum, steps)
        for i, one in enumerate(a):
            M = np.array([[1 - one, -momentum], [one, momentum]])
            powers = [np.linalg.matrix_power(M, j) for j in range(steps + 1)]
            np.testing.assert_allclose(power[i] @ [1, -1], powers[-1] @ [1, -1], atol=1e-7)
            np.testing.assert_allclose(average[i], np.mean(powers[:-1], 0)[0], atol=1e-6)


# --- against fresh data ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "rate", "size", "power"), [("logistic", 0.08, 16, 0.0), ("huber", 0.02, 8, 1.0)])
def test_the_risk_is_that_on_fresh_data(loss, rate, size, power):
    """20 trainings, seeds 0 to 19. In units of its error, joined with that of the 4000 fresh samples, the difference is about normal: its
    mean over runs is beyond 3.3 / sqrt(20) once in 1000 times, and fewer than 15 of 20 are within two once in 200 if 93% should be."""
    value, apart, risks = LOSSES[loss][1], [], []
    for seed in range(20):
        X, y, fresh, labels = data(loss, 400, 200, seed, power)
        run, theta = told(X, y, loss, batches(400, size, 5, seed=100 + seed), rate)
        found, test = run.estimate(predictions(X, theta)), value(fresh @ theta, labels)
        apart.append((found.risk - test.mean()) / np.hypot(found.standard_error, test.std() / np.sqrt(len(test))))
        risks.append((found.risk, test.mean(), found.train_risk))
    assert abs(np.mean(apart)) < 3.3 / np.sqrt(20)
    assert np.sum(np.abs(apart) < 2) >= 15
    left_out, test, trained = np.mean(risks, 0)
    assert test > 1.5 * trained
    assert abs(left_out / test - 1) < 0.02 + 3 * np.std([a / b for a, b, _ in risks]) / np.sqrt(20)


def test_flipped_labels_come_first():
    """20 of 400 labels that a line separates are flipped, and training on all fits most of them. By chance the first 20 would have one."""
    X = data("logistic", 400, 60, 3)[0]
    y = np.sign(X @ np.random.default_rng(1).standard_normal(60))
    flipped = np.random.default_rng(2).permutation(400)[:20]
    y[flipped] *= -1
    run, theta = told(X, y, "logistic", batches(400, 8, 12), 0.1)
    found = run.estimate(predictions(X, theta))
    of_first = lambda losses: np.isin(np.argsort(-losses)[:20], flipped).sum()
    np.testing.assert_array_equal(found.ranking, np.argsort(-found.losses, kind="stable"))
    assert of_first(found.losses) >= 12
    assert of_first(found.losses) > of_first(LOSSES["logistic"][1](X @ theta, y))


def test_two_trainings_are_told_apart_by_pairs():
    X, y, fresh, labels = data("logistic", 400, 200, 7)
    value, order = LOSSES["logistic"][1], batches(400, 16, 6)
    (slow, at_slow), (fast, at_fast) = (told(X, y, "logistic", order, rate) for rate in (0.02, 0.08))
    one, other = slow.estimate(predictions(X, at_slow)), fast.estimate(predictions(X, at_fast))
    difference, error = one.minus(other)
    true = (value(fresh @ at_slow, labels) - value(fresh @ at_fast, labels)).mean()
    assert difference == pytest.approx(one.risk - other.risk)
    assert abs(difference - true) < 3.3 * error  # normal, once in 1000
    assert error < 0.8 * np.hypot(one.standard_error, other.standard_error)
    assert difference < -2 * error  # told apart, where alone they are not much further apart than their errors
    assert one.minus(one)[0] == 0.0


def test_the_best_step_is_where_the_test_risk_is_least():
    X, y, fresh, labels = data("logistic", 400, 200, 8)
    value, order = LOSSES["logistic"][1], batches(400, 16, 8)
    run, tests, theta = sl.OneRun(X, y, LOSSES["logistic"][0], 0.1), {}, np.zeros((200, 1))
    with pytest.raises(sl.InputError, match=r"`estimate` must have been called"):
        run.best()
    for number, batch in enumerate(order, 1):
        r = X[batch] @ theta
        run.step(batch, r[:, 0])
        theta = theta - 0.1 * X[batch].T @ LOSSES["logistic"][2](r, y[batch]) / len(batch)
        if number % 10 == 0:
            run.estimate(predictions(X, theta))
            tests[number] = value(fresh @ theta, labels).mean()
    best = run.best()
    assert tests[best.step] < 1.02 * min(tests.values())
    assert best.first <= best.step <= best.last < 200
    assert not best.ended
    assert best.risk == min(one.risk for one in run.history)
    assert "not told apart from steps" in str(best)


def test_one_sample_does_not_keep_a_step_from_being_the_best():
    """A sample that makes up much of the risk makes its error doubtful, at any step; a response that is in doubt is another thing."""
    X, y, *_ = data("logistic", 60, 20, 8)
    X[0] *= 8.0
    run, theta = sl.OneRun(X, y, LOSSES["logistic"][0], 0.05), np.zeros((20, 1))
    for number, batch in enumerate(batches(60, 10, 6)):
        r = X[batch] @ theta
        run.step(batch, r[:, 0])
        theta = theta - 0.05 * X[batch].T @ LOSSES["logistic"][2](r, y[batch]) / len(batch)
        if number % 6 == 5:
            run.estimate(predictions(X, theta))
    one = min(run.history, key=lambda found: found.risk)
    doubtful = replace(one, warnings=("a single sample",))
    broken = replace(one, risk=0.5 * one.risk, diagnostics={**one.diagnostics, "bend": 1.0})
    assert best_of([*run.history, broken, doubtful]).risk == one.risk
    assert best_of([broken]).risk == broken.risk


def test_any_observable_of_left_out_predictions():
    X, y, *_ = data("softmax", 300, 60, 9)
    run, theta = told(X, y, "softmax", batches(300, 16, 4), 0.1)
    found = run.estimate(X @ theta)
    assert found.left_out.shape == (300, 3)
    right = found.left_out.argmax(1) == y.argmax(1)
    value, error = found.mean(lambda r, y: (jnp.argmax(r) == jnp.argmax(y)).astype(float))
    assert value == pytest.approx(right.mean())
    assert error == pytest.approx(right.std(ddof=1) / np.sqrt(300))
    assert value < ((X @ theta).argmax(1) == y.argmax(1)).mean()
    with pytest.raises(sl.InputError, match=r"`observable` must return a number"):
        found.mean(lambda r, y: r)


# --- where it must not be trusted ------------------------------------------------------------------------------------------------


def test_huge_steps_are_not_trusted():
    X, y, *_ = data("huber", 300, 150, 0)
    run, theta = told(X, y, "huber", batches(300, 8, 3), 0.2)
    found = run.estimate(predictions(X, theta))
    assert not found.trusted
    assert "steps are too large" in found.verdict
    assert "linearisation is too coarse" in found.verdict


def test_a_training_that_diverges_is_not_trusted():
    X, y, *_ = data("square", 100, 50, 0)
    with np.errstate(all="ignore"):
        run, theta = told(X, y, "square", batches(100, 10, 30), 2.0)
        found = run.estimate(predictions(X, theta))
    assert "left all bounds" in found.verdict
    assert not run.best().estimate.trusted


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_copies_of_rows_are_not_trusted(noise):
    X, y, *_ = data("logistic", 200, 100, 0)
    X, y = np.concatenate([X, X + noise * np.random.default_rng(1).standard_normal(X.shape)]), np.concatenate([y, y])
    run, theta = told(X, y, "logistic", batches(400, 8, 3), 0.05)
    assert "copies of others" in run.estimate(predictions(X, theta)).verdict


def test_five_features_are_not_trusted():
    X, y, *_ = data("logistic", 100, 5, 0)
    run, theta = told(X, y, "logistic", batches(100, 8, 3), 0.3)
    assert "too few features, 5" in run.estimate(predictions(X, theta)).verdict


def test_a_loop_that_is_another_than_told_is_not_trusted():
    X, y, *_ = data("logistic", 200, 100, 0)
    order = batches(200, 8, 3)
    for rate, momentum in ((0.08, 0.0), (0.04, 0.5)):  # the loop's are 0.04 and 0
        run = sl.OneRun(X, y, LOSSES["logistic"][0], rate, momentum)
        theta = np.zeros((100, 1))
        for batch in order:
            r = X[batch] @ theta
            run.step(batch, r[:, 0])
            theta = theta - 0.04 * X[batch].T @ LOSSES["logistic"][2](r, y[batch]) / len(batch)
        assert "unexplained" in run.estimate(predictions(X, theta)).verdict


def test_a_start_elsewhere_is_explained():
    """Predictions at the start are those of any weights, which decay moves."""
    X, y, *_ = data("logistic", 200, 100, 0)
    run = sl.OneRun(X, y, LOSSES["logistic"][0], 0.03, 0.5, 0.1)
    theta, velocity = np.random.default_rng(1).standard_normal((100, 1)) / 10, 0.0
    for batch in batches(200, 8, 3):
        r = X[batch] @ theta
        run.step(batch, r[:, 0])
        velocity = 0.5 * velocity + X[batch].T @ LOSSES["logistic"][2](r, y[batch]) / len(batch) + 0.1 * theta
        theta = theta - 0.03 * velocity
    found = run.estimate(predictions(X, theta))
    assert found.diagnostics["unexplained"] < 1e-4
    assert found.trusted, found.verdict


def test_before_the_first_step_nothing_is_left_out():
    X, y, *_ = data("logistic", 50, 20, 0)
    found = sl.OneRun(X, y, LOSSES["logistic"][0], 0.1).estimate(np.zeros(50))
    assert found.risk == found.train_risk == pytest.approx(np.log(2))
    np.testing.assert_array_equal(found.left_out, 0.0)


@pytest.mark.parametrize("room", [1, 25, 60])
def test_batches_are_kept_in_rooms(room, monkeypatch):
    """One after the other, of unequal size, as arrays of any kind of number or as lists."""
    X, y, *_ = data("square", 60, 20, 0)
    found = []
    for size in (record.ROOM, room):
        monkeypatch.setattr(record, "ROOM", size)
        run, theta = sl.OneRun(X, y, LOSSES["square"][0], 0.05), np.zeros((20, 1))
        for number, batch in enumerate(batches(60, 11, 4)):
            r = X[batch] @ theta
            run.step(batch.astype(np.uint8) if number % 2 else list(batch), r[:, 0].astype(np.float32) if number % 3 else list(r[:, 0]))
            theta = theta - 0.05 * X[batch].T @ (r - y[batch, None]) / len(batch)
            if number % 7 == 6:
                found.append(run.estimate(predictions(X, theta)).risk)
    np.testing.assert_allclose(found[: len(found) // 2], found[len(found) // 2 :], rtol=1e-6)


def test_a_loop_may_use_its_arrays_again():
    X, y, *_ = data("square", 60, 20, 0)
    one, other = (sl.OneRun(X, y, LOSSES["square"][0], 0.1) for _ in range(2))
    indices, r = np.arange(10), np.zeros(10)
    for i in range(0, 60, 10):
        indices[:], r[:] = np.arange(i, i + 10), i / 60
        one.step(indices, r)
        other.step(indices.copy(), r.copy())
    assert one.estimate(np.zeros(60)).risk == other.estimate(np.zeros(60)).risk


def fragment(word):
    """The program on the page that has a word in it."""
    page = (Path(__file__).parent.parent / "docs" / "one_run.md").read_text()
    (program,) = (block for block in re.findall(r"```py\n(.*?)```", page, re.S) if word in block)
    return program


def test_the_program_with_scikit_learn_runs():
    X, y, *_ = data("logistic", 150, 40, 0)
    names = {"X": X, "y": y, "np": np, "jnp": jnp, "sl": sl}
    exec(fragment("SGDClassifier"), names)
    found = names["run"].history[-1]
    assert found.diagnostics["unexplained"] < 1e-3
    assert found.trusted, found.verdict


@pytest.mark.torch
def test_the_program_with_torch_runs():
    torch = pytest.importorskip("torch")
    X, y, *_ = data("softmax", 300, 60, 0)
    names = {"X": torch.tensor(X, dtype=torch.float32), "y": torch.tensor(y.argmax(1)), "classes": 3}
    torch.manual_seed(0)
    exec(fragment("torch"), names)
    found = names["run"].history[-1]
    assert found.diagnostics["unexplained"] < 1e-3
    assert found.trusted, found.verdict


SQUARE = LOSSES["square"][0]
WRONG = [
    ({"X": np.zeros(5)}, r"`X` must be an array \(n, d\) with at least two rows"),
    ({"X": np.full((5, 3), np.nan)}, r"`X` must be finite"),
    ({"X": "rows"}, r"`X` must be an array of numbers"),
    ({"y": np.zeros(4)}, r"`y` must be 5 labels"),
    ({"y": ["a"] * 5}, r"`y` must be 5 labels"),
    ({"loss": "square"}, r"`loss` must be a function"),
    ({"learning_rate": 0.0}, r"`learning_rate` must be positive"),
    ({"momentum": 1.0}, r"`momentum` must be at least 0 and below 1"),
    ({"weight_decay": -1.0}, r"`weight_decay` must not be negative"),
    ({"betas": 0.9}, r"`betas` must be two numbers in \[0, 1\)"),
    ({"betas": (0.9, 1.0)}, r"`betas\[1\]` must lie in \[0, 1\)"),
    ({"betas": (0.9, 0.999), "momentum": 0.9}, r"`momentum` must be zero beside betas"),
    ({"betas": (0.9, 0.999), "eps": -1.0}, r"`eps` must not be negative"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG)
def test_wrong_arguments_are_refused(wrong, words):
    right = {"X": np.ones((5, 3)), "y": np.zeros(5), "loss": SQUARE, "learning_rate": 0.1}
    with pytest.raises(sl.InputError, match=words):
        sl.OneRun(**{**right, **wrong})


def test_what_does_not_fit_into_memory_is_refused(monkeypatch):
    """Before anything is allocated; more outputs take more."""
    row = np.broadcast_to(np.float32(1.0), (10**6, 10**6))
    with pytest.raises(sl.InputError, match=r"`X` must leave the estimate in memory, but is of shape .* GiB are available"):
        sl.OneRun(row, np.zeros(10**6), SQUARE, 0.1)
    monkeypatch.setattr(module, "available_bytes", lambda: module.needed_bytes(20, 9, 1))
    several = sl.OneRun(np.ones((20, 9)), np.zeros(20), lambda r, y: 0.5 * r @ r, 0.1)
    with pytest.raises(sl.InputError, match=r"`X` must leave the estimate in memory"):
        several.step(np.arange(3), np.zeros((3, 2)))


def test_wrong_batches_are_refused():
    X, y = np.random.default_rng(0).standard_normal((20, 9)), np.zeros(20)
    run = sl.OneRun(X, y, SQUARE, 0.1)
    for indices, r, words in [
        (np.zeros(3), np.zeros(3), r"`indices` must be the rows"),
        (np.arange(3), np.zeros(4), r"`predictions` must be numbers of shape \(3,\)"),
        (np.arange(3), np.array(["a", "b", "c"]), r"`predictions` must be numbers"),
    ]:
        with pytest.raises(sl.InputError, match=words):
            run.step(indices, r)

    class Tensor:
        def __array__(self, *_, **__):
            raise RuntimeError("Can't call numpy() on Tensor that requires grad")

    with pytest.raises(sl.InputError, match=r"`predictions` must be an array, .* \(of a PyTorch tensor its .detach\(\).numpy\(\)\)"):
        run.step(np.arange(3), Tensor())
    run.step(np.arange(3), np.zeros(3))
    with pytest.raises(sl.InputError, match=r"`predictions` must have 1 entries a row"):
        run.step(np.arange(3), np.zeros((3, 2)))
    with pytest.raises(sl.InputError, match=r"`learning_rate` must be positive"):
        run.step(np.arange(3), np.zeros(3), learning_rate=-1.0)
    with pytest.raises(sl.InputError, match=r"`predictions` must be numbers of shape \(20,\)"):
        run.estimate(np.zeros(3))
    run.step(np.array([20]), np.zeros(1))
    with pytest.raises(sl.InputError, match=r"`indices` must be between 0 and 19"):
        run.estimate(np.zeros(20))
    with pytest.raises(sl.InputError, match=r"`loss` must map r \(1,\)"):
        sl.OneRun(X, y, lambda r, y: r["a"], 0.1).estimate(np.zeros(20))
    with pytest.raises(sl.InputError, match=r"`loss` must return a number"):
        sl.OneRun(X, y, lambda r, y: r, 0.1).estimate(np.zeros(20))


# --- in a simulation -------------------------------------------------------------------------------------------------------------

SMALL = {"horizon": 1.5, "n_features": 200, "repeats": 4, "seed": 0, "times": [0.0, 0.5, 1.5]}


@pytest.mark.parametrize(
    ("dynamics", "batch_size"),
    [
        (sl.SGD(step=1.0), 4),
        (sl.SGD(step=1.0, sampling="reshuffle"), 7),
        (sl.SGD(step=sl.schedules.Exponential(1.5, 1.0), optimizer=sl.Momentum(memory=0.3)), 4),
        (sl.MiniBatchGD(step=0.3, fraction=0.25), 1),
        (sl.MiniBatchGD(step=0.3, fraction=1.0, optimizer=sl.Momentum(memory=0.5)), 1),
        (sl.SGD(step=1.0, clip=0.5), 4),
    ],
    ids=["replacement", "reshuffled", "schedule and momentum", "batches", "full batch", "clipped"],
)
def test_simulations_estimate_their_test_risk(dynamics, batch_size, tmp_path):
    """Four runs, seed 0: deviations at three times are normal, beyond four errors once in 5000."""
    runs = sl.simulate(tanh_regression(), dynamics, batch_size=batch_size, left_out=True, **SMALL)
    ds = runs.dataset
    assert ds[LEFT_OUT].dims == ds[f"{LEFT_OUT}_se"].dims == ("time",)
    assert (np.abs(ds[LEFT_OUT] - ds["test_risk"]) < 4 * ds[f"{LEFT_OUT}_se"]).all()
    assert ds[LEFT_OUT][-1] > ds["train_risk"][-1] + 0.5 * (ds["test_risk"] - ds["train_risk"])[-1]
    assert isinstance(runs.diagnostics["left_out"], str)
    runs.save(tmp_path / "runs.nc")
    again = sl.load(tmp_path / "runs.nc")
    np.testing.assert_array_equal(again.dataset[LEFT_OUT], ds[LEFT_OUT])
    again.plot("test_risk", LEFT_OUT)


def test_listening_changes_no_run():
    for dynamics in (sl.SGD(step=1.0), sl.SGD(step=1.0, optimizer=sl.Momentum(memory=0.3))):
        how = {**SMALL, "repeats": 2, "batch_size": 4}
        alone, listened = (sl.simulate(tanh_regression(), dynamics, left_out=left_out, **how) for left_out in (False, True))
        assert LEFT_OUT not in alone.dataset
        np.testing.assert_allclose(alone.dataset["self_overlap"], listened.dataset["self_overlap"], rtol=1e-10)


def test_what_cannot_be_left_out_is_refused():
    for dynamics, more, words in [
        (sl.SME(step=1.0), {}, r"`dynamics` must be SGD or MiniBatchGD"),
        (sl.GradientFlow(), {}, r"`dynamics` must be SGD or MiniBatchGD"),
        (sl.OnlineSGD(step=1.0), {}, r"`dynamics` must be SGD or MiniBatchGD"),
        (sl.SGD(step=0.5, temperature=0.1, optimizer=sl.Adam(memory=0.1, second_memory=1.0)), {}, r"`temperature` must be zero"),
        (sl.SGD(step=0.5, optimizer=sl.Momentum(memory=0.1, nesterov=True)), {}, r"`optimizer.nesterov` must be False"),
        (sl.SGD(step=0.5), {"average": sl.ExponentialAverage(1.0)}, r"`average` must be None"),
        (sl.SGD(step=0.5), {"left_out": "yes"}, r"`left_out` must be True or False"),
    ]:
        with pytest.raises(sl.InputError, match=words):
            sl.simulate(logistic(), dynamics, **{**SMALL, "left_out": True, **more})
