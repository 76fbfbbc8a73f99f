"""A loss whose gradient jumps is told from every smooth one, however steep; theory refuses it, simulation takes it."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

import sgdlimit as sl
from sgdlimit import cli, models

QUICKSTART = (Path(__file__).parent.parent / "examples" / "quickstart.toml").read_text()
WORDS = r"`loss` must have a continuous gradient for the theory, but its gradient jumps \(hinge, absolute value, relu: simulate takes"


def regression(r_star, z):
    return r_star[0] + 0.3 * z


def sign(r_star, z):
    return jnp.where(r_star[0] + z > 0, 1.0, -1.0)


def problem(loss, label=regression, k=1, scale=1.0):
    init = sl.Init(overlap=np.zeros((k, 1)), cov=scale * np.eye(k))
    return sl.Problem(loss, label, sl.Normal(), sample_ratio=2.0, teacher=sl.GaussianTeacher([[1.0]]), init=init)


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
    "small l1 part": problem(lambda r, y: 0.5 * (r[0] - y) ** 2 + 0.02 * jnp.abs(r[0])),
}
CONTINUOUS = {
    "exact Huber": problem(exact_huber),
    "squared hinge": problem(lambda r, y: jnp.maximum(0.0, 1.0 - y * r[0]) ** 2, sign),
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
def test_no_named_model_has_kinks(name):
    m = models.build(name)
    init = sl.Init(overlap=np.zeros((m.k, m.k_star)), cov=0.5 * np.eye(m.k))
    p = sl.Problem(m.loss, m.label, m.noise, sample_ratio=2.0, teacher=sl.GaussianTeacher(np.eye(m.k_star)), init=init)
    assert not p.kinks


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


def test_theory_refuses_kinks_and_simulation_takes_them():
    p = JUMPS["absolute value"]
    for dynamics in (sl.SGD(0.5), sl.GradientFlow(), sl.OnlineSGD(0.5), sl.MiniBatchGD(0.5, 0.5)):
        with pytest.raises(sl.InputError, match=WORDS):
            sl.solve(p, dynamics, horizon=0.2)
    assert sl.simulate(p, sl.SGD(0.5), horizon=0.2, n_features=50, repeats=2).status.code == "done"


def test_the_command_says_it_before_it_runs(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "import jax.numpy as jnp\nimport sgdlimit as sl\n\n"
        "def absolute():\n    return lambda r, y: jnp.abs(r[0] - y), lambda r_star, z: r_star[0] + z, sl.Normal()\n"
    )
    text = QUICKSTART.replace('"tanh_regression"', '"plugin:absolute"').replace("parameters = { noise = 0.3 }", "")
    (tmp_path / "case.toml").write_text(text)
    done = CliRunner().invoke(cli.app, ["check", str(tmp_path / "case.toml"), "--plugin", str(plugin)])
    assert done.exit_code == 2
    assert "its gradient jumps" in " ".join(done.output.split())
