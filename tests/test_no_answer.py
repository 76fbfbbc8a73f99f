"""Problems without learning curves end with words, soon, and without a warning."""

import time
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

import sgdlimit as sl
from sgdlimit.theory.accuracy.search import Search

HEAVY, LIGHTER = sl.StudentT(1.5), sl.StudentT(5.0)
ENOUGH = 60.0  # CPU-seconds


def square(r, y):
    return 0.5 * (r[0] - y) ** 2


def fourth(r, y):
    return 0.25 * (r[0] - y) ** 4


def intensity(r, y):
    return 0.25 * (r[0] ** 2 - y) ** 2


def plus(r_star, z):
    return r_star[0] + z


def problem(loss=square, label=plus, noise=HEAVY, ratio=1.5, start=0.5, overlap=0.0):
    init = sl.Init(overlap=[[overlap]], cov=[[start]])
    return sl.Problem(loss, label, noise, sample_ratio=ratio, teacher=sl.GaussianTeacher(cov=[[1.0]]), init=init)


@pytest.mark.parametrize(
    "dynamics",
    [sl.SGD(0.5), sl.SGD(0.5, sampling="reshuffle"), sl.SME(0.5), sl.GradientFlow(), sl.OnlineSGD(0.5), sl.MiniBatchGD(0.2, 0.5)],
    ids=lambda d: type(d).__name__ + getattr(d, "sampling", ""),
)
def test_a_loss_without_a_mean_is_told_at_once(dynamics):
    began = time.process_time()
    with pytest.raises(sl.SolveError, match=r"there are no learning curves: the mean of the loss .* is infinite.*label noise"):
        sl.solve(problem(), dynamics, 2.0, on_failure="return")
    assert time.process_time() - began < 10.0


@pytest.mark.parametrize("dynamics", [sl.GradientFlow(), sl.MiniBatchGD(0.02, 0.5)], ids=lambda d: type(d).__name__)
def test_a_squared_gradient_without_a_mean_is_told(dynamics):
    """The loss has one: `z^4` with five degrees of freedom, but not `z^6`."""
    with pytest.raises(sl.SolveError, match=r"the mean of the squared gradient of the loss .* is infinite"):
        sl.solve(problem(fourth, noise=LIGHTER), dynamics, 1.0, on_failure="return")


@pytest.mark.parametrize("noise", [sl.StudentT(2.5), sl.StudentT(3.0)], ids=repr)
def test_means_without_a_variance_are_no_reason_to_refuse(noise):
    found = sl.solve(problem(noise=noise, start=0.0), sl.SGD(0.3), 0.5, rtol=0.3, on_failure="return")
    exact = 0.5 * (1.0 + noise.df / (noise.df - 2.0))
    assert found.status.code in ("done", "inaccurate")
    assert float(found.dataset.test_risk[0]) == pytest.approx(exact, abs=3 * max(float(found.dataset.test_risk_se[0]), 1e-3))


def test_a_training_whose_averages_stop_to_exist_keeps_what_there_is():
    """Phase retrieval: a sample with large `r` overshoots further at every visit, and all moments of the limit are infinite."""
    began = time.process_time()
    found = sl.solve(problem(intensity, lambda r, z: r[0] ** 2, sl.NoNoise(), 2.0, 0.25, 0.5), sl.SGD(0.3), 2.0, rtol=0.05)
    assert time.process_time() - began < ENOUGH
    assert found.status.code == "diverged"
    assert "a few samples out of thousands make the averages" in str(found.status)
    for name in ("self_overlap", "overlap", "train_risk", "test_risk"):
        assert np.isfinite(found.dataset[name].values).all()
        assert np.isfinite(found.dataset[name + "_se"].values).all()
    assert float(found.dataset.time[-1]) < 2.0


def test_a_label_that_is_rarely_a_number_is_named():
    """One sample in a thousand."""
    with pytest.raises(sl.InputError, match="`label` must be finite"):
        sl.solve(problem(label=lambda r, z: jnp.sqrt(r[0] + 3.3), noise=sl.NoNoise()), sl.SGD(0.5), 1.0)


def test_samples_that_run_away_after_the_pilot_end_the_curves(monkeypatch):
    """Replicates beyond the pilot's may reach less far, as some with heavy tails do; their curves were of unequal lengths then."""
    whole, real = 2.0, Search._replicates

    def _replicates(self, plan, stage, done=0):
        levels = real(self, plan, stage, done)
        if (stage or done) and self.horizon == whole:
            levels[-1] = [level_until(level, 1.2) for level in levels[-1]]
        return levels

    monkeypatch.setattr(Search, "_replicates", _replicates)
    found = sl.solve(problem(noise=sl.Normal()), sl.SGD(0.5), whole, rtol=0.002, on_failure="return")
    assert found.status.code == "diverged"
    assert 0.2 < found.dataset.time.values[-1] < 1.2  # four cells of the finest grid before the end that the coarsest one has
    assert all(np.isfinite(found.dataset[name].values).all() for name in ("self_overlap", "overlap", "train_risk", "test_risk"))


def level_until(level, end):
    """A level whose march stopped there."""
    n = int(np.searchsorted(level.nodes, end))
    kernels = {name: getattr(level, name)[:n, :n] for name in ("R", "C")}
    return replace(level, **{name: getattr(level, name)[:n] for name in ("nodes", "overlap", "train", "gap", "trained")}, **kernels)
