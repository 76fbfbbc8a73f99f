"""Each assumption is broken alone, and its check must see it; data that break none must pass."""

from __future__ import annotations

import numpy as np
import pytest

from sgdlimit.recommend.data import prepare
from sgdlimit.recommend.estimate import estimate
from sgdlimit.recommend.trust import assess

N, D = 900, 300


def grades(X: np.ndarray, y: np.ndarray, classes: bool = False) -> tuple[dict[str, str], str]:
    data = prepare(X, y, classes)
    found = estimate(data.X, data.y - data.y.mean(), np.random.default_rng(0))
    trust = assess(data, found, np.random.default_rng(0))
    assert trust.reasons[0].isupper()
    return {check.name: check.grade for check in trust.checks}, trust.verdict


def labelled(X: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    r = X @ rng.standard_normal(X.shape[1])
    return X, r / r.std() + 0.5 * rng.standard_normal(len(X))


def gaussian(n: int = N, d: int = D, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def test_gaussian_data_are_trusted():
    found, verdict = grades(*labelled(gaussian(), 1))
    assert verdict == "use it", found


def test_uniform_and_sign_features_are_trusted_too():
    rng = np.random.default_rng(2)
    X = np.where(np.arange(D) < D // 2, rng.random((N, D)), np.sign(rng.standard_normal((N, D))))
    assert grades(*labelled(X, 3))[1] == "use it"


BROKEN = {
    "features": lambda rng: gaussian(N, 12),
    "samples per feature": lambda rng: gaussian(30, 400),
    "directions that matter": lambda rng: gaussian(N, 3) @ rng.standard_normal((3, D)) + 0.1 * gaussian(seed=5),
    "row norms": lambda rng: gaussian() * np.exp(0.8 * rng.standard_normal((N, 1))),
    "tails": lambda rng: rng.standard_t(2.1, (N, D)),
    "sparsity": lambda rng: gaussian() * (rng.random((N, D)) < 0.03),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_assumption_is_seen(name):
    X = BROKEN[name](np.random.default_rng(4))
    found, verdict = grades(*labelled(X, 5))
    assert found[name] != "good", found
    assert verdict != "use it"


def test_broken_worse_is_graded_worse():
    rng = np.random.default_rng(6)
    lognormal = gaussian() * np.exp(1.5 * rng.standard_normal((N, 1)))
    found, verdict = grades(*labelled(lognormal, 7))
    assert found["row norms"] == "bad"
    assert verdict == "do not use it"


def test_clusters_are_seen():
    """Two clouds far apart: the labels are far more linear than classes cut from a Gaussian score."""
    rng = np.random.default_rng(8)
    y = np.where(rng.random(N) < 0.5, 1.0, -1.0)
    X = gaussian() + 3.0 * np.outer(y, rng.standard_normal(D) / np.sqrt(D))
    found, verdict = grades(X, y, True)
    assert found["classes"] == "bad"
    assert verdict == "do not use it"
    noisy = np.where(rng.random(N) < 0.3, -y, y)
    assert grades(gaussian() + 3.0 * np.outer(y, rng.standard_normal(D) / np.sqrt(D)), noisy, True)[0]["classes"] == "good"


def test_copies_of_samples_are_seen():
    X = np.repeat(gaussian(N // 3), 3, 0)
    found, verdict = grades(*labelled(X, 10))
    assert found["copies"] == "bad"
    assert verdict == "do not use it"


def test_errors_that_leaving_out_does_not_foresee_are_seen():
    """Noise that grows with the row's length breaks what ridge regression's errors are predicted from."""
    rng = np.random.default_rng(12)
    X, y = labelled(gaussian(400, 400) * rng.choice([0.3, 1.6], (400, 1)), 13)
    y = y + 2.0 * (X**2).mean(1) * rng.standard_normal(400)
    found, _ = grades(X, y)
    assert found["held-out errors"] != "good" or found["row norms"] != "good"
