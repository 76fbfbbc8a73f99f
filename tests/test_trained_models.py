"""Models with numbers that are trained along, what a settings file says of these, and sweeps over them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import sgdlimit as sl
from sgdlimit import models
from sgdlimit.settings import config
from test_models import problem

R, A = np.array([0.3, -1.2]), np.array([0.4, 0.9])


def value(m, r, y, a):
    with jax.enable_x64(True):
        return float(m.loss(jnp.asarray(r), jnp.asarray(y), jnp.asarray(a)))


def test_an_intercept_shifts_the_loss():
    for name in ("logistic", "hinge", "probit"):
        plain, m = models.build(name), models.build(name, {"intercept": True})
        with jax.enable_x64(True):
            assert value(m, R[:1], -1.0, [0.4]) == pytest.approx(float(plain.loss(jnp.array([0.7]), -1.0)), rel=1e-12)
        assert (m.trained.start, m.trained.rate) == ((0.0,), (1.0,))
        assert m == models.build(name, {"intercept": True})  # functions that are known again, for what is compiled
    m = models.softmax(classes=2, intercept=True)
    assert m.trained.start == (0.0, 0.0)
    assert value(m, R, [0.0, 1.0], A) == pytest.approx(-np.log(np.exp(-0.3) / (np.exp(0.7) + np.exp(-0.3))), rel=1e-12)


def test_a_teacher_with_an_intercept_makes_a_class_rare():
    """Equispaced quantiles, no random draw."""
    u = (np.arange(4000) + 0.5) / 4000
    for name, law in (("logistic", stats.logistic), ("probit", stats.norm)):
        m = models.build(name, {"teacher_intercept": -2.0})
        assert m.trained is None
        y = jax.vmap(lambda z, m=m: m.label(jnp.array([0.5]), z))(jnp.asarray(m.noise.ppf(u)))
        assert float((y > 0).mean()) == pytest.approx(law.cdf(-1.5), abs=3e-4)
    m = models.softmax(classes=2, teacher_intercept=[0.0, 3.0])
    assert float(m.label(jnp.array([2.0, 0.0]), jnp.zeros(2))[1]) == 1.0
    assert float(models.hinge(teacher_intercept=1.0).label(jnp.array([-0.9]), 0.0)) == 1.0


def test_heads_and_biases():
    m = models.committee(weights=[1.0, -0.5], trained_head=True)
    assert m.trained.start == (1.0, -0.5)
    assert value(m, R, 0.2, A) == pytest.approx(0.5 * (A @ np.tanh(R) - 0.2) ** 2, rel=1e-12)
    fixed = models.committee(weights=[1.0, -0.5])
    with jax.enable_x64(True):
        assert value(m, R, 0.2, [1.0, -0.5]) == pytest.approx(float(fixed.loss(jnp.asarray(R), 0.2)), rel=1e-12)
    m = models.two_layer([0.4, 0.9], biases=[0.2, 0.7], teacher_weights=[2.0], teacher_biases=[-0.1], activation="tanh", noise=0.0)
    assert (m.k, m.k_star, m.trained.start) == (2, 1, (0.4, 0.9, 0.2, 0.7))
    assert value(m, R, 0.2, m.trained.start) == pytest.approx(0.5 * (A @ np.tanh(R + np.array([0.2, 0.7])) - 0.2) ** 2, rel=1e-12)
    assert float(m.label(jnp.array([0.5]), 0.0)) == pytest.approx(2 * np.tanh(0.4), rel=1e-5)
    m = models.calibrated(temperature=1.0, start=2.0)
    assert m.trained.start == pytest.approx((np.log(2.0),))
    assert value(m, [3.0], 1.0, m.trained.start) == pytest.approx(np.log1p(np.exp(-1.5)), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("logistic", {"intercept": 1}, "`parameters.intercept` must be true or false, but is 1"),
        ("softmax", {"teacher_intercept": [1.0, 2.0]}, r"`parameters.teacher_intercept` must be a number or 3 of them, but is of"),
        ("committee", {"trained_head": "yes"}, "`parameters.trained_head` must be true or false, but is 'yes'"),
        ("two_layer", {"biases": [1.0]}, "`parameters.biases` must be one for each of 2 units, but is "),
        ("two_layer", {"teacher_biases": 1.0}, "`parameters.teacher_biases` must be a list of numbers, but is 1.0"),
        ("calibrated", {"start": 0.0}, "`parameters.start` must be positive, but is 0"),
    ],
)  # fmt: skip
def test_wrong_parameters_get_words(name, parameters, message):
    with pytest.raises(sl.InputError, match=message):
        models.build(name, parameters)


# --- files -----------------------------------------------------------------------------------------------------------------

FILE = """
[problem]
model = "{model}"
parameters = {{ {parameters} }}
sample_ratio = 2.0
teacher = {{ kind = "gaussian", cov = 1.0 }}
init = {{ overlap = 0.0, cov = 0.5 }}
{more}

[[dynamics]]
kind = "sgd"
step = 1.0

[run]
horizon = 0.5

[simulation]
n_features = 60
repeats = 2
"""


def job(tmp_path, model, parameters="", more="", plugin=None):
    (tmp_path / "file.toml").write_text(FILE.format(model=model, parameters=parameters, more=more))
    if plugin is not None:
        (tmp_path / "mine.py").write_text(plugin)
    return config.read(tmp_path / "file.toml", plugin=None if plugin is None else tmp_path / "mine.py")


def test_a_file_has_the_numbers_of_its_model_or_its_own(tmp_path):
    assert job(tmp_path, "logistic").problem.trained is None
    assert job(tmp_path, "logistic", "intercept = true").problem.trained == sl.Trained([0.0])
    table = '[problem.trained]\nstart = 0.5\nrate = [0.0, 2.0]\nbatch_size = 8\npenalty = { kind = "ridge", strength = 0.1 }'
    read = job(tmp_path, "committee", "trained_head = true", table).problem.trained
    assert read == sl.Trained([0.5, 0.5], [0.0, 2.0], sl.Ridge(0.1), 8)
    read = job(tmp_path, "committee", "trained_head = true", "[problem.trained]\nrate = 3").problem.trained
    assert read == sl.Trained([1.0, -0.5], 3.0)


PLUGIN = """
import jax.numpy as jnp
import sgdlimit as sl

def head():
    return lambda r, y, a: 0.5 * (a[0] * jnp.tanh(r[0]) - y) ** 2, lambda r_star, z: r_star[0] + z, sl.Normal()

def own():
    loss, label, noise = head()
    return {"loss": loss, "label": label, "noise": noise, "trained": sl.Trained([0.3], 2.0)}
"""


def test_a_plugin_has_numbers_of_its_own(tmp_path):
    given = job(tmp_path, "plugin:head", more="[problem.trained]\nstart = [0.5]", plugin=PLUGIN).problem
    assert given.trained == sl.Trained([0.5])
    assert job(tmp_path, "plugin:own", plugin=PLUGIN).problem.trained == sl.Trained([0.3], 2.0)
    assert job(tmp_path, "plugin:own", more="[problem.trained]\nstart = [0.5]", plugin=PLUGIN).problem.trained == sl.Trained([0.5], 2.0)


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        ("logistic", "[problem.trained]\nrate = 2.0", "`problem.trained.start` must be given for a model that trains no numbers by itself"),
        (
            "logistic",
            "[problem.trained]\nstart = 0.0",
            r"`problem.loss` must map r \(1,\) and what `label` returns and a \(1,\) to a number",
        ),
        ("calibrated", "[problem.trained]\nrates = 2.0", r"`problem.trained.rates` must be a known setting, .* \(did you mean `rate`\?\)"),
        ("calibrated", "[problem.trained]\nrate = [1.0, 2.0]", "`problem.trained.rate` must be a number or 1 of them, none negative"),
        ("calibrated", "[problem.trained]\nstart = []", "`problem.trained.start` must be a list of numbers"),
    ],
)
def test_wrong_tables_get_words(tmp_path, model, more, message):
    with pytest.raises(sl.InputError, match=message):
        job(tmp_path, model, more=more)


# --- sweeps ----------------------------------------------------------------------------------------------------------------


def test_a_sweep_over_rates_and_starts(tmp_path):
    """Its curves of real runs have the numbers, of a file and of objects alike."""
    m = models.committee(trained_head=True)
    run, real = {"horizon": 0.5, "seed": 0}, {"n_features": 60, "repeats": 2}
    base = {"problem": problem(m), "dynamics": sl.SGD(1.0), "run": run, "simulation": real}
    axes = {"problem.trained.rate": [0.0, 2.0]}
    found = sl.sweep(base, axes, theory=False, workers=1)
    last = found["runs_trained"].isel(time=-1)
    assert last.dims == ("rate", "parameter")
    np.testing.assert_array_equal(last[0], [1.0, -0.5])
    assert (np.abs(last[1] - last[0]) > 0.01).all()
    assert (found["runs_trained_se"].isel(time=-1)[1] > 0).all()
