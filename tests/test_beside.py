"""Small runs are followed several at once, and each does what it would do alone."""

import numpy as np
import pytest

import sgdlimit as sl
from sgdlimit.simulate import beside, repeats

CURVES = ("self_overlap", "overlap", "train_risk", "test_risk")
TANH = sl.models.tanh_regression(noise=0.3)
ADAM, HEAVY = sl.Adam(0.1, 0.5), sl.Momentum(0.2)


def problem(model=TANH, **more):
    named = ("loss", "label", "noise", "trained")
    given = {name: getattr(model, name) for name in named} | {"sample_ratio": 1.6, "teacher": sl.GaussianTeacher(np.eye(model.k_star))}
    return sl.Problem(**given | {"init": sl.Init(np.zeros((model.k, model.k_star)), 0.5 * np.eye(model.k))} | more)


CASES = {
    "SGD": (problem(), sl.SGD(0.6)),
    "reshuffled": (problem(), sl.SGD(0.6, "reshuffle")),
    "momentum": (problem(penalty=sl.Ridge(0.1)), sl.SGD(0.6, optimizer=HEAVY)),
    "Adam": (problem(), sl.SGD(0.05, optimizer=ADAM)),
    "committee": (problem(sl.models.committee()), sl.SGD(0.5)),
    "smooth penalty": (problem(penalty=sl.SmoothPenalty(lambda theta: 0.1 * (theta @ theta) ** 2 / 4)), sl.SGD(0.5)),
    "spectrum": (problem(spectrum=sl.Spectrum([0.5, 1.5], [0.5, 0.5])), sl.SGD(0.5, "reshuffle")),
    "intercept": (problem(sl.models.logistic(intercept=True)), sl.SGD(0.6)),
    "intercept behind Adam": (problem(sl.models.logistic(intercept=True)), sl.SGD(0.05, optimizer=ADAM)),
    "SME": (problem(), sl.SME(0.6)),
    "SME and noise": (problem(), sl.SME(0.6, temperature=0.1)),
    "SME behind momentum": (problem(), sl.SME(0.6, optimizer=HEAVY)),
    "SME behind Adam": (problem(sl.models.logistic(intercept=True)), sl.SME(0.05, optimizer=ADAM)),
    "flow": (problem(sl.models.logistic(intercept=True)), sl.GradientFlow()),
    "heavy-ball flow": (problem(), sl.GradientFlow(optimizer=HEAVY)),
    "warm flow": (problem(), sl.GradientFlow(temperature=0.1)),
    "noisy SGD": (problem(), sl.SGD(0.6, temperature=0.1)),  # alone: its keys are not vectorised
}
STEPS_OF_ALL = {"SME", "SME and noise", "SME behind momentum", "SME behind Adam", "warm flow"}  # the fastest run decides on the steps


def ran(case, monkeypatch, together, average=None, batch=3):
    given, dynamics = CASES[case]
    asked = []
    monkeypatch.setattr(repeats, "most", lambda *size: asked.append(size) or (beside.most(*size) if together else 1))
    return sl.simulate(given, dynamics, 1.2, 40, batch_size=batch, repeats=5, seed=3, average=average).dataset


@pytest.mark.parametrize("case", CASES)
def test_a_run_beside_others_is_the_run_alone(case, monkeypatch):
    together, alone = (ran(case, monkeypatch, each) for each in (True, False))
    tolerance = 1e-4 if "flow" in case else 1e-8  # adaptive steps are those of all runs
    names = [*CURVES, *(name for name in alone if name == "trained")]
    for name in names:
        if case in STEPS_OF_ALL:  # the same law, another path: five runs each
            apart = np.abs(together[name] - alone[name])
            assert (apart <= 5 * np.hypot(together[f"{name}_se"], alone[f"{name}_se"]) + 1e-3).all()
        else:
            np.testing.assert_allclose(together[name], alone[name], rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(together[f"{name}_se"], alone[f"{name}_se"], rtol=1e-3, atol=tolerance)


@pytest.mark.parametrize("average", [sl.ExponentialAverage(0.4), sl.TailAverage(0.5)])
def test_averages_of_runs_beside_others_are_those_of_runs_alone(average, monkeypatch):
    for case in ("momentum", "flow"):
        together, alone = (ran(case, monkeypatch, each, average) for each in (True, False))
        for name in CURVES:
            np.testing.assert_allclose(together[name], alone[name], rtol=1e-4, atol=1e-4)


def test_curves_end_where_the_first_of_all_runs_leaves_the_limit(monkeypatch):
    given = problem(sl.models.phase_retrieval(noise=0.3))
    ends = []
    for together in (True, False):
        monkeypatch.setattr(repeats, "most", lambda *size, together=together: beside.most(*size) if together else 1)
        found = sl.simulate(given, sl.SGD(2.0), 6.0, 40, repeats=6, seed=1)
        assert found.status.code == "diverged"
        ends.append((found.status.message, found.dataset.sizes["time"]))
    assert ends[0] == ends[1]


def test_large_runs_go_alone():
    assert beside.most(4000, 2000, 1) == 1
    assert beside.most(100, 60, 1) == 64
    assert 4 * 10**6 * 60 * beside.most(10**6, 60, 1) <= beside.BYTES
