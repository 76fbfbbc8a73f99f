"""A loss whose gradient jumps is told from every smooth one, however steep, and the theory sees what sits at the jump."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate
from typer.testing import CliRunner

import sgdlimit as sl
from marks import cases
from problems import CURVES, KINKED, reference
from sgdlimit import cli, models
from sgdlimit.learning.slopes import as_trained
from sgdlimit.theory.accuracy.witness import Witnesses

QUICKSTART = (Path(__file__).parent.parent / "examples" / "quickstart.toml").read_text()


def regression(r_star, z):
    return r_star[0] + 0.3 * z


def sign(r_star, z):
    return jnp.where(r_star[0] + z > 0, 1.0, -1.0)


def problem(loss, label=regression, k=1, scale=1.0, update=None):
    init = sl.Init(overlap=np.zeros((k, 1)), cov=scale * np.eye(k))
    return sl.Problem(loss, label, sl.Normal(), sample_ratio=2.0, teacher=sl.GaussianTeacher([[1.0]]), init=init, update=update)


def exact_huber(r, y):
    u = jnp.abs(r[0] - y)
    return jnp.where(u < 1.0, 0.5 * u**2, u - 0.5)


JUMPS = {
    "relu committee": problem(lambda r, y: 0.5 * (jax.nn.relu(r[0]) - 0.5 * jax.nn.relu(r[1]) - y) ** 2, k=2),
    "nearly linear relu": problem(lambda r, y: 0.5 * (jax.nn.leaky_relu(r[0], 0.95) - y) ** 2),
    "hinge": problem(lambda r, y: jnp.maximum(0.0, 1.0 - y * r[0]), sign),
    "hinge from a tiny start": problem(lambda r, y: jnp.maximum(0.0, 1.0 - y * r[0]), sign, scale=1e-4),
    "absolute value": problem(lambda r, y: jnp.abs(r[0] - y)),
    "quantile": problem(lambda r, y: jnp.maximum(0.9 * (y - r[0]), -0.1 * (y - r[0]))),
    "max over units": problem(lambda r, y: 0.5 * (jnp.max(r) - y) ** 2, k=3),
    "perceptron rule": problem(lambda r, y: jnp.maximum(0.0, -y * r[0]), sign, update=lambda r, y: jnp.where(y * r < 0, -y, 0.0)),
    "small l1 part": problem(lambda r, y: 0.5 * (r[0] - y) ** 2 + 0.02 * jnp.abs(r[0])),
}
CONTINUOUS = {
    "exact Huber": problem(exact_huber),
    "squared hinge": problem(lambda r, y: jnp.maximum(0.0, 1.0 - y * r[0]) ** 2, sign),
    "clipped": as_trained(problem(lambda r, y: 0.5 * (r[0] - y) ** 2), sl.SGD(1.0, clip=0.5)),
    "steep": problem(lambda r, y: 0.5 * (jnp.tanh(5.0 * r[0]) - y) ** 2),
    "very steep": problem(lambda r, y: 0.5 * (jnp.tanh(100.0 * r[0]) - y) ** 2),
    "narrow pseudo-Huber": problem(models.pseudo_huber(width=0.1).loss),
    "very narrow pseudo-Huber": problem(models.pseudo_huber(width=0.001).loss),
    "narrow pinball": problem(models.quantile(level=0.9, width=0.01).loss),
    "oscillating": problem(lambda r, y: jnp.sin(30.0 * r[0]) * y),
    "single precision": problem(lambda r, y: 0.5 * (jnp.tanh(2.0 * r[0].astype(jnp.float32)) - y.astype(jnp.float32)) ** 2),
    "half a domain": problem(lambda r, y: jnp.where(r[0] < 3.0, 0.5 * (r[0] - y) ** 2, jnp.nan), scale=0.01),
    "a pole": problem(lambda r, y: -jnp.log(4.0 - r[0] ** 2), scale=0.01),
}


@pytest.mark.parametrize("name", JUMPS)
def test_kinks_are_found(name):
    assert JUMPS[name].kinks


@pytest.mark.parametrize("name", CONTINUOUS)
def test_a_continuous_gradient_is_no_kink(name):
    assert not CONTINUOUS[name].kinks


@pytest.mark.parametrize("name", sorted(models.MODELS))
def test_named_models_have_kinks_where_they_say_so(name):
    assert named(models.build(name)).kinks == (name in ("hinge", "svm", "absolute", "median_regression", "two_layer"))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("committee", {"activation": "relu"}), ("committee", {"activation": "abs"}), ("quantile", {"width": 0}),
     ("amplitude_retrieval", {"width": 0})],
)  # fmt: skip
def test_parameters_that_make_kinks(name, parameters):
    assert named(models.build(name, parameters)).kinks


def named(m):
    init = sl.Init(overlap=np.zeros((m.k, m.k_star)), cov=0.5 * np.eye(m.k))
    teacher = sl.GaussianTeacher(np.eye(m.k_star))
    return sl.Problem(m.loss, m.label, m.noise, sample_ratio=2.0, teacher=teacher, init=init, trained=m.trained)


@pytest.mark.parametrize("index", range(10))
def test_random_smooth_losses_are_no_kink(index):
    # A sum of five random smooth ridge functions of two directions, with gains up to 20: law and seed fixed by the index.
    rng = np.random.default_rng([417, index])
    shapes = [jnp.tanh, jnp.sin, jax.nn.softplus, jax.nn.gelu, lambda x: jnp.exp(-(x**2)), lambda x: jnp.sqrt(1e-4 + x**2)]
    chosen = [shapes[i] for i in rng.integers(len(shapes), size=5)]
    gains = jnp.asarray(rng.standard_normal((5, 2)) * np.exp(rng.uniform(-1, 3, (5, 1))))
    weights = rng.standard_normal(5)

    def loss(r, y):
        return 0.5 * (sum(w * f(gain @ r) for w, f, gain in zip(weights, chosen, gains, strict=True)) - y) ** 2

    assert not problem(loss, k=2).kinks


# --- what the theory makes of them -------------------------------------------------------------------------------------

# Spans of half the horizon, of the overlap and the self-overlap: what training changes, without the start that it begins from.
SPAN = 4


def spans(curve):
    return curve[SPAN:] - curve[:-SPAN]


def solved(name, kinks=True, rtol=0.007):
    case, stored = KINKED[name], reference(name, "sgd")
    p = case.build()
    assert p.kinks
    if not kinks:
        p.__dict__["kinks"] = False  # the average of JAX's second derivative: what one gets without a thought for the kink
    return sl.solve(p, sl.SGD(case.step), case.horizon, rtol=rtol, seed=1, times=stored.times), stored


def gaps(solution, stored, curve):
    """Deviation from the stored runs, of values and of spans, and what is allowed: 3 joint standard errors and 1% of the scale."""
    mean, joint = stored.mean[curve], np.hypot(solution.dataset[curve + "_se"].values, stored.se[curve])
    allowed = 3 * joint + 0.01 * np.abs(mean).max()
    found = solution.dataset[curve].values
    twice = 3 * np.hypot(joint[SPAN:], joint[:-SPAN]) + 0.01 * np.abs(spans(mean)).max()
    return np.abs(found - mean) / allowed, np.abs(spans(found) - spans(mean)) / twice


@pytest.mark.parametrize("name", cases(KINKED, evidence=["relu_committee"]))
def test_theory_meets_real_training(name):
    # Stored: 100 and 64 runs at d = 4000. Every entry at every stored time, and every increment over half the horizon.
    solution, stored = solved(name)
    assert solution.status.code == "done"
    assert "jumps" in solution.diagnostics["kinks"]
    for curve in CURVES:
        values, increments = gaps(solution, stored, curve)
        assert values.max() <= 1, f"{curve}: {values.max():.2f}"
        assert increments.max() <= 1, f"increments of {curve}: {increments.max():.2f}"


SMALL = ("relu_committee", 0.007, 0.08)


@pytest.mark.parametrize(("name", "rtol", "off"), cases([("hinge", 0.015, 0.2), SMALL], evidence=[SMALL]))
def test_without_what_sits_at_the_kink_it_would_not(name, rtol, off, monkeypatch):
    # A witness sees it and widens the errors; here it is the curves that are looked at, with the errors they would have without it.
    monkeypatch.setattr(Witnesses, "overlaps", lambda self, gaps, bias, scale: np.zeros(len(bias)))
    solution, stored = solved(name, kinks=False, rtol=rtol)
    for curve in ("overlap", "self_overlap"):
        assert max(part.max() for part in gaps(solution, stored, curve)) > 1.2
    last = lambda values: spans(values)[-1, 0, 0]
    assert last(solution.dataset.overlap.values) / last(stored.mean["overlap"]) == pytest.approx(1, abs=0.5)
    assert abs(last(solution.dataset.overlap.values) / last(stored.mean["overlap"]) - 1) > off


def median(sample_ratio, start=0.5, noise=0.3):
    m = models.absolute(noise=noise)
    init = sl.Init([[0.0]], [[start]])
    return sl.Problem(m.loss, m.label, m.noise, sample_ratio=sample_ratio, teacher=sl.GaussianTeacher([[1.0]]), init=init,
                      penalty=sl.Ridge(0.1))  # fmt: skip


def online_median(step, times, start=0.5, noise=0.3, lam=0.1):
    """One-pass SGD on `|r - y|`, by Gaussian averages in closed form: `r - y` has variance `s2 = q - 2m + 1 + noise^2`,
    `E[sign(u) x] = sqrt(2/pi) E[u x] / s`, `Gamma = sqrt(2/pi) / s`."""

    def slope(_, state):
        q, m, _ = state
        s = np.sqrt(q - 2 * m + 1 + noise**2)
        size = np.sqrt(2 / np.pi) / s
        return [-2 * lam * q - 2 * size * (q - m) + step, -lam * m - size * (m - 1), lam + size]

    y = integrate.solve_ivp(slope, (0, times[-1]), [start, 0.0, 0.0], t_eval=times, rtol=1e-10, atol=1e-12).y
    return y[0], y[1], np.exp(-y[2])


@pytest.mark.parametrize("start", [0.5, 0.0])
@pytest.mark.parametrize("dynamics", [sl.OnlineSGD(0.6), sl.SGD(0.6)])
def test_the_median_of_many_samples_has_a_closed_form(dynamics, start):
    # SGD at n/d = 2000 with few jumps: what tells it from one pass is of order 1/2000. 4 standard errors for 3 curves at 4 times.
    times = np.linspace(0.0, 2.0, 5)
    q, m, response = online_median(0.6, times, start)
    data = sl.solve(median(2000.0, start), dynamics, 2.0, rtol=0.01, seed=2, times=times).dataset
    for name, truth in (("self_overlap", q), ("overlap", m)):
        gap = np.abs(data[name].values[:, 0, 0] - truth)
        assert (gap <= 4 * data[name + "_se"].values[:, 0, 0] + 1e-3).all(), name
    # The response is Gamma alone; it has no standard error of its own, and at a start from a point Gamma is not asked at once.
    np.testing.assert_allclose(data.response.values[:, 0, 0, 0], response, atol=0.01 if start else 0.03)


def test_the_two_ways_to_carry_samples_agree_on_a_kink():
    # 4 joint standard errors at each of some 20 strongly correlated points.
    case = KINKED["hinge"]
    a, b = (
        sl.solve(case.build(), sl.SGD(case.step), 2.0, rtol=0.012, seed=seed, times=np.linspace(0.0, 2.0, 5), method=method).dataset
        for seed, method in ((1, "events"), (2, "paths"))
    )
    for curve in CURVES:
        joint = np.hypot(a[curve + "_se"].values, b[curve + "_se"].values)
        assert (np.abs(a[curve].values - b[curve].values) <= 4 * joint + 1e-9).all(), curve


@pytest.mark.parametrize("kinks", [True, False])
def test_mini_batches_meet_real_training_only_with_the_kink(kinks):
    # 12 runs at d = 1000, seed 0; 3 joint standard errors and 1%, and without the kink's share more than 10% off.
    p, dynamics, times = KINKED["hinge"].build(), sl.MiniBatchGD(0.4, 0.25), np.array([0.0, 0.8, 1.6])
    runs = sl.simulate(p, dynamics, 1.6, n_features=1000, repeats=12, times=times).dataset
    p.__dict__["kinks"] = kinks
    data = sl.solve(p, dynamics, 1.6, rtol=0.015, seed=1, times=times).dataset
    gap = np.abs(data.self_overlap.values - runs.self_overlap.values)
    joint = np.hypot(data.self_overlap_se.values, runs.self_overlap_se.values)
    if kinks:
        assert (gap <= 3 * joint + 0.01 * runs.self_overlap.values.max()).all()
        for curve in ("overlap", "train_risk", "test_risk"):
            allowed = 3 * np.hypot(data[curve + "_se"].values, runs[curve + "_se"].values) + 0.01 * np.abs(runs[curve].values).max()
            assert (np.abs(data[curve].values - runs[curve].values) <= allowed).all(), curve
    else:
        assert gap.max() > 0.1 * runs.self_overlap.values.max()


RESHUFFLED, TWO = sl.SGD(1.0, sampling="reshuffle"), sl.Spectrum([0.3, 1.7])
BEYOND = {
    "reshuffled": (RESHUFFLED, None, [0.0, 1.0, 2.0, 3.0, 4.0]),
    "spectrum": (sl.SGD(1.0), TWO, [0.0, 1.0, 2.0]),
    "spectrum online": (sl.OnlineSGD(0.5), TWO, [0.0, 1.0, 2.0]),
    "spectrum in steps": (sl.MiniBatchGD(0.4, 0.25), TWO, [0.0, 0.8, 1.6]),
}


@pytest.mark.parametrize("name", cases(BEYOND, evidence=["spectrum online", "spectrum in steps"]))
def test_kinks_in_epochs_and_in_anisotropic_data(name):
    # 12 runs at d = 1000, seed 0; 3 joint standard errors and 1%. An epoch lasts 2.
    dynamics, spectrum, times = BEYOND[name]
    p = replace(KINKED["hinge"].build(), spectrum=spectrum)
    runs = sl.simulate(p, dynamics, times[-1], n_features=1000, repeats=12, times=times).dataset
    data = sl.solve(p, dynamics, times[-1], rtol=0.02, seed=1, times=times).dataset
    for curve in CURVES:
        allowed = 3 * np.hypot(data[curve + "_se"].values, runs[curve + "_se"].values) + 0.01 * np.abs(runs[curve].values).max()
        assert (np.abs(data[curve].values - runs[curve].values) <= allowed).all(), curve


@pytest.mark.parametrize("dynamics", [sl.GradientFlow(), sl.SME(0.5)])
def test_dynamics_in_continuous_time_are_refused(dynamics):
    with pytest.raises(sl.InputError, match=r"`dynamics` must be SGD, OnlineSGD or MiniBatchGD for a loss whose gradient jumps"):
        sl.solve(JUMPS["absolute value"], dynamics, horizon=0.2)
    if isinstance(dynamics, sl.SME):
        with pytest.raises(sl.InputError, match=r"but is SME\(step=0.5\) \(its noise jumps at the kink"):
            sl.simulate(JUMPS["absolute value"], dynamics, horizon=0.2, n_features=50, repeats=2)


def test_a_start_on_the_kink_is_refused():
    m = models.committee(weights=[1.0], activation="relu")
    p = sl.Problem(m.loss, m.label, m.noise, 2.0, sl.GaussianTeacher([[1.0]]), sl.Init([[0.0]], [[0.0]]))
    with pytest.raises(sl.InputError, match=r"`init.cov` must be positive where the gradient of the loss jumps at r = 0, but is"):
        sl.solve(p, sl.SGD(0.5), horizon=0.2)


def test_the_command_says_what_it_does(tmp_path):
    text = QUICKSTART.replace('"tanh_regression"', '"absolute"')
    case = tmp_path / "case.toml"
    for kind, code, words in (("sgd", 0, "kinks the gradient of the loss jumps; the theory follows paths on both sides"),
                              ("gradient_flow", 2, "its samples come to rest on the kink")):  # fmt: skip
        head, rest = text.split("[[dynamics]]", 1)
        run = rest[rest.index("[run]") :]
        step = "step = 1.0\n" if kind == "sgd" else ""
        case.write_text(f'{head}[[dynamics]]\nkind = "{kind}"\n{step}\n{run}')
        done = CliRunner().invoke(cli.app, ["check", str(case)])
        assert done.exit_code == code, done.output
        assert words in " ".join(done.output.split())
