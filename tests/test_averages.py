"""Weights averaged over time: the linear model's exactly, real runs, PyTorch's, and what the result can do."""

import json
import pickle
from dataclasses import replace
from functools import lru_cache

import jax.numpy as jnp
import numpy as np
import pytest

import sgdlimit as sl
from marks import cases
from problems import _STORED, CURVES, REFERENCE, committee, linear, tanh_regression
from sgdlimit.learning.averages import cell_weights, step_weights, weights
from sgdlimit.simulate.averaging import Averager, accumulate
from sgdlimit.theory import closed_forms
from sgdlimit.theory.closed.linear import Parameters, _Linear, marchenko_pastur
from sgdlimit.theory.laws import paths as law_of_paths
from test_laws import assert_means

AVERAGES = [sl.ExponentialAverage(0.5), sl.TailAverage(0.5)]
NUMBERS = {
    "sample_ratio": 1.3, "ridge": 0.1, "noise_variance": 0.4, "start_variance": 0.8, "teacher_variance": 1.5, "start_overlap": 0.3,
}  # fmt: skip
ETA, HORIZON, RTOL = 0.9, 3.0, 0.02
DYNAMICS = {"sgd": sl.SGD(ETA), "flow": sl.GradientFlow(), "online": sl.OnlineSGD(ETA), "steps": sl.MiniBatchGD(0.25, 1.0)}


@lru_cache
def solved(name):
    return sl.solve(linear(**NUMBERS), DYNAMICS[name], HORIZON, rtol=RTOL, seed=3)


# --- the linear model --------------------------------------------------------------------------------------------------------


def curves(e, f, aligned, u, a, share):
    """Of averages: `theta` of an eigenvalue `a` is `e xi + aligned theta* + f X^T z / delta` and noise of variance `u`, all `(T, size)`."""
    start, rho, noise, ratio = (NUMBERS[name] for name in ("start_variance", "teacher_variance", "noise_variance", "sample_ratio"))
    q = (start * e**2 + rho * aligned**2 + noise / ratio * a * f**2 + u) @ share
    m, fit = rho * aligned @ share, f * a
    train = ((start * e**2 + rho * (aligned - 1.0) ** 2 + u) * a + noise / ratio * (fit**2 - 2.0 * fit)) @ share + noise
    return {"self_overlap": q, "overlap": m, "train_risk": 0.5 * train, "test_risk": 0.5 * (q - 2.0 * m + rho + noise)}


def continuous(step, average, times):
    """Under SGD or gradient flow, averaged over a fine grid."""
    p = Parameters(NUMBERS["sample_ratio"], step, NUMBERS["ridge"], NUMBERS["noise_variance"], NUMBERS["start_variance"],
                   NUMBERS["start_overlap"], 0.0, 0.0)  # fmt: skip
    nodes = np.union1d(times, np.linspace(0.0, times[-1], 601))
    model, W = _Linear(p, NUMBERS["teacher_variance"], nodes), weights(average, nodes, times)
    u = model.excess / np.sqrt(model.weights)
    gap, earlier = np.abs(nodes[:, None] - nodes), np.minimum(*np.indices((len(nodes), len(nodes))))
    noise = [np.einsum("ta,tb,ab->t", W, W, np.exp(-(a + p.ridge) * gap) * u[earlier, j], optimize=True)
             for j, a in enumerate(model.nodes)]  # fmt: skip
    return curves(W @ model.decay, W @ model.integral, W @ model.aligned, np.stack(noise, 1), model.nodes, model.weights)


def one_pass(average, times):
    """`q' = -2 (lam + 1) q + 2 m + eta D`, and `theta - M theta*` forgets at the rate `lam + 1`."""
    nodes = np.union1d(times, np.linspace(0.0, times[-1], 601))
    known = closed_forms.online_linear(step=ETA, times=nodes, **{k: v for k, v in NUMBERS.items() if k != "sample_ratio"})
    W, rho = weights(average, nodes, times), NUMBERS["teacher_variance"]
    M = known["overlap"] / rho
    apart = known["self_overlap"] - rho * M**2
    earlier = np.minimum(*np.indices((len(nodes), len(nodes))))
    C = rho * np.outer(M, M) + np.exp(-(1.0 + NUMBERS["ridge"]) * np.abs(nodes[:, None] - nodes)) * apart[earlier]
    q, m = np.einsum("ta,tb,ab->t", W, W, C, optimize=True), W @ known["overlap"]
    risk = 0.5 * (q - 2.0 * m + rho + NUMBERS["noise_variance"])
    return {"self_overlap": q, "overlap": m, "train_risk": risk, "test_risk": risk}


def in_steps(average, times):
    """Full-batch gradient descent, eigenvalue by eigenvalue, its average added up as real runs do."""
    h = DYNAMICS["steps"].step * NUMBERS["sample_ratio"]
    nearest = solved("steps").law.clock.nearest
    which = nearest(times)
    a, share = marchenko_pastur(NUMBERS["sample_ratio"], which[-1] + 2)
    e, f = [np.ones_like(a)], [np.zeros_like(a)]
    for _ in range(which[-1]):
        kept = 1.0 - h * (a + NUMBERS["ridge"])
        e, f = [*e, kept * e[-1]], [*f, kept * f[-1] + h]
    averager = Averager(average, times)
    place, integral, states = nearest(averager.followed), np.zeros((2, len(a))), []
    for i in range(which[-1] + 1):
        states.append(np.concatenate([[e[i], f[i]], integral]))
        if i < which[-1]:
            integral = np.asarray(accumulate(integral, *(np.array([e[j], f[j]]) for j in (i, i + 1)), h, average.rate))
    e, f = np.swapaxes(averager(np.array(states)[place], h * place), 0, 1)
    return curves(e, f, NUMBERS["start_overlap"] * e + a * f, 0.0, a, share)


TRUTH = {
    "sgd": lambda *given: continuous(ETA, *given), "flow": lambda *given: continuous(0.0, *given), "online": one_pass, "steps": in_steps,
}  # fmt: skip


@pytest.mark.parametrize("average", AVERAGES, ids=repr)
@pytest.mark.parametrize("name", DYNAMICS)
def test_linear_model(name, average):
    """Its error is what it says, 3.5 of it at any of some hundred times, and `rtol` is kept, of each curve's scale."""
    found = solved(name).averaged(average)
    assert found.status.code == "done", str(found)
    truth = TRUTH[name](average, found.dataset.time.values)
    for curve in CURVES:
        value, se = (found.dataset[curve + tail].values.ravel() for tail in ("", "_se"))
        scale = np.abs(truth[curve]).max()
        assert (np.abs(value - truth[curve]) <= 3.5 * se + 1e-7 * scale).all(), f"{curve}: {np.abs(value - truth[curve]).max():.2g}"
        assert se.max() <= RTOL * scale, curve


@pytest.mark.parametrize("name", ["sgd", "flow", "online"])  # in steps it is the mean of the last two
def test_an_average_of_no_length_is_the_last_iterate(name):
    whole = solved(name)
    found = whole.averaged(sl.ExponentialAverage(1e-9)).dataset
    for curve in CURVES:
        error = np.hypot(3.0 * found[curve + "_se"], 1e-3 * np.abs(whole.dataset[curve]).max())
        assert (np.abs(found[curve] - whole.dataset[curve]) <= error).all(), curve
    np.testing.assert_allclose(found.correlation, whole.dataset.correlation, atol=2e-3)


@pytest.mark.parametrize("average", AVERAGES, ids=repr)
def test_response_of_an_average(average):
    """Of the mean weights, which every dynamics in continuous time has alike."""
    found = solved("flow").averaged(average).dataset
    times = found.time.values
    nodes = np.union1d(times, np.linspace(0.0, times[-1], 601))
    known = {k: v for k, v in NUMBERS.items() if k != "start_overlap"}
    R = closed_forms.linear_kernels(step=0.0, times=nodes, **known)["response"]
    W, late = weights(average, nodes, times), cell_weights(average, nodes, times)[1]
    for i, s in enumerate(np.searchsorted(nodes, times)):
        exact = W[:, s:] @ R[s:, s] - (late[:, s - 1] if s else 0.0)  # a path does not rise in the cell before its kick
        np.testing.assert_allclose(found.response.values[:, i, 0, 0], exact, atol=0.01)
    assert not np.triu(found.response.values[:, :, 0, 0])[:, 1:].any()  # at zero the average is the start, which is kicked


@pytest.mark.evidence
def test_behind_a_filter():
    """Momentum: the linear model's kernels, 3.5 reported errors; and the response to kicks, which rises within the memory."""
    average, optimizer = AVERAGES[0], sl.Momentum(0.6)
    found = sl.solve(linear(**NUMBERS), sl.SGD(ETA, optimizer=optimizer), HORIZON, rtol=RTOL).averaged(average).dataset
    times = found.time.values
    nodes = np.union1d(times, np.linspace(0.0, times[-1], 301))
    known = closed_forms.linear_kernels(**NUMBERS, step=ETA, times=nodes, optimizer=optimizer)
    curve = closed_forms.linear_model(**NUMBERS, step=ETA, times=nodes, optimizer=optimizer)
    W = weights(average, nodes, times)
    q, m = np.einsum("ta,tb,ab->t", W, W, known["correlation"], optimize=True), W @ curve["overlap"]
    risk = 0.5 * (q - 2.0 * m + NUMBERS["teacher_variance"] + NUMBERS["noise_variance"])
    for name, exact in (("self_overlap", q), ("overlap", m), ("test_risk", risk)):
        value, se = (found[name + tail].values.ravel() for tail in ("", "_se"))
        assert (np.abs(value - exact) <= 3.5 * se + 1e-7).all(), name
    response = np.stack([W[:, s:] @ known["response"][s:, s] for s in np.searchsorted(nodes, times)], 1)
    np.testing.assert_allclose(found.response.values[:, :, 0, 0], response, atol=0.01)


# --- the weights of steps ------------------------------------------------------------------------------------------------------


def test_weights_of_a_path_that_forgets_within_a_cell():
    nodes = np.array([0.0, 0.1, 0.5, 2.0])
    path = np.array([1.0, 3.0, -2.0, 5.0])
    for memory in (1e-9, 1e-3, 0.02):  # on a straight line the average lags by the memory
        found = weights(sl.ExponentialAverage(memory), nodes, np.array([0.0, 0.4, 2.0])) @ path
        np.testing.assert_allclose(found, [1.0, -0.75 + 12.5 * memory, 5.0 - 14.0 / 3.0 * memory], atol=1e-6)


@pytest.mark.parametrize("average", AVERAGES, ids=repr)
def test_weights_of_steps_are_those_of_real_runs(average):
    ends = np.concatenate([[0.0], np.cumsum(np.linspace(0.1, 0.3, 12))])
    path = np.sin(3.0 * ends)
    which = np.array([0, 1, 5, 12])
    begin = np.abs(ends - average.starts(ends[which])[:, None]).argmin(1)
    integral = [0.0]
    for i, length in enumerate(np.diff(ends)):
        integral.append(float(accumulate(integral[-1], path[i], path[i + 1], length, average.rate)))
    size = lambda t: (1.0 - np.exp(-average.rate * t)) / average.rate if average.rate else t
    apart = ends[which] - ends[begin]
    kept = np.array(integral)[which] - np.exp(-average.rate * apart) * np.array(integral)[begin]
    expected = np.where(apart > 0.0, kept / np.where(apart > 0.0, size(apart), 1.0), path[which])
    np.testing.assert_allclose(step_weights(average, ends, which, begin) @ path, expected, rtol=1e-5)


# --- real runs ------------------------------------------------------------------------------------------------------------------


def test_runs_of_pytorch():
    """3 joint standard errors and 1%."""
    stored = json.loads((REFERENCE / "tanh_average-torch.json").read_text())
    found = sl.solve(tanh_regression(), sl.SGD(1.5), stored["times"][-1], times=stored["times"]).averaged(sl.ExponentialAverage(1.0))
    for curve in CURVES:
        mean, se = (np.array(stored[_STORED[curve]][part]) for part in ("mean", "se"))
        joint = np.hypot(se, found.dataset[curve + "_se"].values)
        assert (np.abs(found.dataset[curve].values - mean) <= 3.0 * joint + 0.01 * np.abs(mean).max()).all(), curve


@pytest.mark.parametrize(
    "dynamics", [pytest.param(sl.SGD(0.8, "reshuffle"), marks=pytest.mark.evidence), sl.MiniBatchGD(0.2, 0.5)], ids=repr
)
def test_runs_averaged_over_their_tail(dynamics):
    problem, average = tanh_regression(), sl.TailAverage(0.4)
    theory = sl.solve(problem, dynamics, 2.0, rtol=0.02).averaged(average)
    runs = sl.simulate(problem, dynamics, 2.0, 1000, repeats=8, average=average, times=np.linspace(0.0, 2.0, 9))
    report = sl.compare(theory, runs)
    assert report.agree, report.verdict
    assert sl.compare(sl.solve(problem, dynamics, 2.0, rtol=0.02), runs).agree is False


def _head(r, y, a):
    return 0.5 * (a[0] * jnp.tanh(r[0]) - y) ** 2


JUMPING = {
    "momentum of two units": (committee(), sl.SGD(1.0, optimizer=sl.Momentum(0.3))),
    "reshuffled": (tanh_regression(), sl.SGD(0.5, "reshuffle")),
    "an output weight trained along": (replace(tanh_regression(), loss=_head, trained=sl.Trained([0.5])), sl.SGD(1.5)),
}


@pytest.mark.parametrize("name", cases(JUMPING, evidence=["momentum of two units"]))
def test_few_jumps_are_carried_without_a_program(name, monkeypatch):
    """From jump to jump as from node to node: the same paths to rounding. Only the second compiles anything, which is what a first average
    would have to wait for."""
    problem, dynamics = JUMPING[name]
    solution = sl.solve(problem, dynamics, 1.2, rtol=0.1, times=np.linspace(0.0, 1.2, 5))
    program = law_of_paths._path_program
    monkeypatch.setattr(law_of_paths, "_path_program", None)
    ours = solution.sample_paths(300, seed=1)
    monkeypatch.setattr(law_of_paths, "_path_program", program)
    monkeypatch.setattr(law_of_paths, "FEW", -1)
    theirs = solution.sample_paths(300, seed=1)
    for part in ("w", "r", "r_star", "y"):
        np.testing.assert_allclose(ours[part].values, theirs[part].values, rtol=1e-9, atol=1e-9)
    assert np.abs(ours["r"] - ours["w"]).max() > 0.1


# --- what the result can do -------------------------------------------------------------------------------------------------------


def test_paths_are_those_of_averages():
    found = solved("sgd").averaged(AVERAGES[0])
    data = found.dataset
    samples, coordinates = found.sample_paths(8000, seed=1), found.coordinate_paths(8000, seed=1)
    for what, paths, star in (("w", samples.w, samples.r_star), ("theta", coordinates.theta, coordinates.theta_star)):
        two = np.einsum("pti,psj->ptsij", paths.values[:, ::10], paths.values[:, ::10])
        assert_means(two, data.correlation.values[::10, ::10], data.self_overlap_se.values.max(), what)
        cross = np.einsum("pti,pj->ptij", paths.values, star.values)
        assert_means(cross, data.overlap.values, data.overlap_se.values, what)
    risk = 0.5 * (samples.r.values[:, :, 0] - samples.y.values[:, None]) ** 2
    assert_means(risk, data.train_risk.values, data.train_risk_se.values, "train risk")


def test_it_saves_travels_draws_and_says_what_it_is(tmp_path):
    found = solved("sgd").averaged(AVERAGES[0])
    found.save(tmp_path / "average.nc")
    loaded = sl.load(tmp_path / "average.nc")
    assert loaded.dataset.identical(found.dataset)
    assert str(loaded) == str(found) == f"Solution(SGD(step=0.9), ExponentialAverage(memory=0.5)): {found.status}"
    assert pickle.loads(pickle.dumps(found)).dataset.identical(found.dataset)
    axes = found.plot("test_risk", ax=solved("sgd").plot("test_risk"))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "test risk, SGD(step=0.9)", "test risk, SGD(step=0.9), ExponentialAverage(memory=0.5)",
    ]  # fmt: skip
    assert "ExponentialAverage(memory=0.5)" in found._repr_html_()


def test_what_is_refused(tmp_path):
    whole = solved("sgd")
    with pytest.raises(sl.InputError, match="`solution` must be of weights that are not averaged yet, but is of ExponentialAverage"):
        whole.averaged(AVERAGES[0]).averaged(AVERAGES[1])
    with pytest.raises(sl.InputError, match=r"`average` must be an sl.ExponentialAverage or an sl.TailAverage, but is None"):
        whole.averaged(None)
    with pytest.raises(sl.InputError, match=r"`average` must be an sl.ExponentialAverage, an sl.TailAverage or None, but is 0.5"):
        whole.averaged(0.5)
    whole.save(tmp_path / "whole.nc")
    with pytest.raises(sl.InputError, match="`solution` must come from solve in this session for paths and averages"):
        sl.load(tmp_path / "whole.nc").averaged(AVERAGES[0])


def test_of_a_training_that_diverges():
    whole = sl.solve(linear(**NUMBERS), sl.MiniBatchGD(2.5, 1.0), 40.0, rtol=0.05, on_failure="return")
    found = whole.averaged(AVERAGES[0])
    assert found.status.code == "diverged"
    assert str(whole.status) in str(found.status)
    np.testing.assert_array_equal(found.dataset.time, whole.dataset.time)
