"""Numbers trained along in the march: fixed ones are a loss's own, two engines, closed forms, real PyTorch runs, laws of paths."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdlimit as sl
from marks import cases
from problems import CURVES, REFERENCE, ridge_regression, tanh_regression
from sgdlimit.learning.trained import Labelled
from sgdlimit.theory import closed_forms

STORED = {"self_overlap": "q", "overlap": "m", "train_risk": "train", "test_risk": "test", "trained": "a"}


# Functions have names: programs are shared by problems with the same ones.
def _head_loss(r, y, a):
    return 0.5 * (a[0] * jnp.tanh(r[0]) - y) ** 2


def _fixed_head_loss(r, y):
    return 0.5 * (jnp.array((0.7,))[0] * jnp.tanh(r[0]) - y) ** 2


def head(start=0.5, rate=2.0, **more):
    """`a tanh(r)`, the stored PyTorch runs' problem."""
    return replace(tanh_regression(), loss=_head_loss, trained=sl.Trained([start], rate, **more))


def _unbalanced_loss(r, y, a):
    return jnp.logaddexp(0.0, -y * (r[0] + a[0]))


def _unbalanced_label(r_star, z):
    return jnp.where(z < 1.0 / (1.0 + jnp.exp(-r_star[0] - 1.5)), 1.0, -1.0)


def unbalanced(penalty=None):
    """Logistic regression whose labels have a constant, with an intercept."""
    return sl.Problem(
        loss=_unbalanced_loss,
        label=_unbalanced_label,
        noise=sl.Uniform(),
        sample_ratio=2.0,
        teacher=sl.GaussianTeacher(cov=[[2.0]]),
        init=sl.Init(overlap=[[0.0]], cov=[[0.2]]),
        penalty=sl.Ridge(0.02),
        trained=sl.Trained([0.0], penalty=penalty),
    )


DYNAMICS = {
    "paths": (sl.SGD(1.5), "paths"),
    "events": (sl.SGD(1.5), "events"),
    "reshuffled": (sl.SGD(1.5, "reshuffle"), "auto"),
    "SME": (sl.SME(1.5), "auto"),
    "flow": (sl.GradientFlow(), "auto"),
    "momentum": (sl.SGD(1.5, optimizer=sl.Momentum(0.3)), "paths"),
}


ANY = DYNAMICS | {"online": (sl.OnlineSGD(1.5), "auto"), "mini-batch": (sl.MiniBatchGD(0.5, 0.5), "auto")}


@pytest.mark.parametrize("name", cases(ANY, evidence=["paths", "SME", "reshuffled", "momentum", "flow", "online"]))
def test_numbers_that_do_not_move_are_those_of_a_loss(name):
    """To the last bit: curves, kernels, averages."""
    dynamics, method = ANY[name]
    plain = replace(tanh_regression(), loss=_fixed_head_loss)
    problem, times = head(start=0.7, rate=0.0), np.linspace(0.0, 1.0, 3)
    without, still = (sl.solve(one, dynamics, 1.0, rtol=0.1, times=times, method=method) for one in (plain, problem))
    average = sl.TailAverage(0.5)
    for one, other in ((without, still), (without.averaged(average), still.averaged(average))):
        for curve in one.dataset:
            np.testing.assert_array_equal(one.dataset[curve].values, other.dataset[curve].values, err_msg=str(curve))
        assert (other.dataset["trained"].values == 0.7).all()
        assert (other.dataset["trained_se"].values == 0.0).all()
    for side in ("train", "test"):
        assert np.isfinite(sl.observe(problem, still, lambda r, r_star, y, a: (a[0] * jnp.tanh(r[0]) - y) ** 2, side=side).values).all()


@pytest.mark.parametrize("optimizer", [None, pytest.param(sl.Momentum(0.3), marks=pytest.mark.evidence), sl.Adam(0.2, 0.5, 0.1)])
def test_both_engines_agree(optimizer):
    times = np.linspace(0.0, 1.2, 5)
    a, b = (
        sl.solve(head(batch_size=3.0), sl.SGD(1.0, optimizer=optimizer), 1.2, rtol=0.02, times=times, method=method, seed=7).dataset
        for method in ("paths", "events")
    )
    for curve in (*CURVES, "trained"):  # a dozen correlated points: four joint standard errors
        joint = np.hypot(a[curve + "_se"].values, b[curve + "_se"].values)
        assert (np.abs(a[curve].values - b[curve].values) <= 4.0 * joint + 1e-9).all(), curve


PLAIN, SHIFT = ridge_regression(), 1.0


def _shifted_loss(r, y, a):
    return 0.5 * (r[0] + a[0] - y) ** 2


def _shifted_label(r_star, z):
    return PLAIN.label(r_star, z) + SHIFT


@pytest.mark.parametrize("dynamics", [sl.GradientFlow(), sl.SGD(0.8), sl.SME(0.8)])
def test_an_intercept_of_the_linear_model(dynamics):
    """`u = r + a - y` has the mean `v_t = a_t - b - int R(t,s) v_s ds`, and `a' = -c v`: with `R` of the closed form, without samples."""
    rate, times = 1.5, np.linspace(0.0, 2.0, 5)
    problem = replace(PLAIN, loss=_shifted_loss, label=_shifted_label, trained=sl.Trained([0.0], rate))
    fine = np.linspace(0.0, 2.0, 401)
    known = {"sample_ratio": 2.0, "ridge": 0.1, "noise_variance": 0.25, "start_variance": 0.5, "teacher_variance": 1.0}
    R = closed_forms.linear_kernels(step=0.0, times=fine, **known)["response"]
    found = sl.solve(problem, dynamics, 2.0, rtol=0.01, times=times).dataset
    exact = intercept(fine, R / 2.0, SHIFT, rate)[::100]
    gap = np.abs(found["trained"].values[:, 0] - exact)
    assert (gap <= 3.5 * found["trained_se"].values[:, 0] + 1e-4).all(), gap / found["trained_se"].values[:, 0].max()


def intercept(t, R, shift, rate):
    """`a` at even times `t (n,)`, by the trapezoid rule."""
    h, n = t[1], len(t)
    a, v = np.zeros(n), np.zeros(n)
    v[0] = -shift
    for i in range(1, n):
        past = h * (0.5 * R[i, 0] * v[0] + R[i, 1:i] @ v[1:i])
        # v_i = a_i - shift - past - h/2 R_ii v_i with a_i = a_{i-1} - rate h/2 (v_{i-1} + v_i)
        v[i] = (a[i - 1] - 0.5 * rate * h * v[i - 1] - shift - past) / (1.0 + 0.5 * h * (R[i, i] + rate))
        a[i] = a[i - 1] - 0.5 * rate * h * (v[i - 1] + v[i])
    return a


def test_a_head_against_pytorch():
    # 12 runs at d = 2000: three joint standard errors and 1% of scale for finite size.
    stored = json.loads((REFERENCE / "tanh_head-torch.json").read_text())
    times = np.array(stored["times"])
    found = sl.solve(head(), sl.SGD(1.5), times[-1], rtol=0.01, times=times).dataset
    for curve, key in STORED.items():
        ours, real, se = (np.ravel(x) for x in (found[curve].values, stored[key]["mean"], stored[key]["se"]))
        allowed = 3 * np.hypot(np.ravel(found[curve + "_se"].values), se) + 0.01 * np.abs(real).max()
        assert (np.abs(ours - real) <= allowed).all(), f"{curve}: {np.max(np.abs(ours - real) / allowed):.2f} of what is allowed"


def test_a_vanishing_memory_is_plain():
    times = np.linspace(0.0, 1.0, 3)
    plain, short = (
        sl.solve(head(), sl.SGD(1.5, optimizer=optimizer), 1.0, rtol=0.05, times=times, method="paths").dataset
        for optimizer in (None, sl.Momentum(1e-9))
    )
    gap = np.abs(plain["trained"].values - short["trained"].values)  # the self-overlap's normals are other ones
    assert (gap <= 4.0 * np.hypot(plain["trained_se"].values, short["trained_se"].values) + 1e-6).all()


@pytest.mark.evidence
def test_a_penalty_pulls():
    free, held = (
        sl.solve(unbalanced(penalty), sl.SGD(1.5), 2.0, rtol=0.05, times=[0.0, 2.0]).dataset["trained"].values[-1, 0]
        for penalty in (None, sl.Ridge(1.0))
    )
    smooth = sl.SmoothPenalty(lambda a: 0.5 * jnp.sum(a**2))
    assert 0.0 < held < 0.8 * free
    again = sl.solve(unbalanced(smooth), sl.SGD(1.5), 2.0, rtol=0.05, times=[0.0, 2.0]).dataset["trained"].values[-1, 0]
    assert again == pytest.approx(held, rel=1e-12)


def test_paths_and_averages_know_the_numbers():
    # 4000 paths: 4 of their standard errors, and what the theory reports.
    problem, times = unbalanced(), np.linspace(0.0, 2.0, 5)
    solution = sl.solve(problem, sl.SGD(1.5), 2.0, rtol=0.02, times=times)
    a, ds = solution.dataset["trained"].values, solution.dataset
    drawn = solution.sample_paths(4000, seed=2)
    r, y = drawn["r"].values, drawn["y"].values
    with jax.enable_x64(True):
        over = jax.vmap(jax.vmap(lambda r, y, a: problem.slopes.loss(r, Labelled(y, a)), (0, None, 0)), (0, 0, None))
        risk = np.asarray(over(jnp.asarray(r), jnp.asarray(y), jnp.asarray(a)))
    allowed = 4 * np.hypot(risk.std(0) / np.sqrt(len(risk)), ds["train_risk_se"].values) + 0.003
    assert (np.abs(risk.mean(0) - ds["train_risk"].values) <= allowed).all()
    mean = solution.averaged(sl.TailAverage(0.999)).dataset
    fine = sl.solve(problem, sl.SGD(1.5), 2.0, rtol=0.02, times=np.linspace(0.0, 2.0, 81)).dataset["trained"].values[:, 0]
    assert mean["trained"].values[-1, 0] == pytest.approx(np.trapezoid(fine, dx=1 / 80), abs=4 * float(mean["trained_se"].max()) + 1e-3)
    assert mean["train_risk"].values[-1] < mean["test_risk"].values[-1]


@pytest.mark.parametrize(
    ("trained", "words"),
    [
        (3.0, "`trained` must be sl.Trained"),
        ([], "`trained.start` must be a list of numbers"),
    ],
)
def test_what_is_no_such_number_is_said(trained, words):
    with pytest.raises(sl.InputError, match=words):
        replace(head(), trained=sl.Trained(trained) if trained == [] else trained)


def test_a_loss_that_does_not_take_them_is_said():
    with pytest.raises(sl.InputError, match=r"`loss` must map r \(1,\) and what `label` returns and a \(1,\)"):
        replace(tanh_regression(), trained=sl.Trained([0.0]))
    with pytest.raises(sl.InputError, match="entries that there are, but asks for entry 1 of 1"):
        replace(tanh_regression(), loss=lambda r, y, a: (r[0] + a[1] - y) ** 2, trained=sl.Trained([0.0]))
    with pytest.raises(sl.InputError, match=r"`trained\.rate` must be a number or 1 of them"):
        sl.Trained([0.0], rate=[-1.0])
