"""A TOML file becomes the problem it says, and every mistake is named with its field and line."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

import sgdlimit as sl
from sgdlimit import models, schedules
from sgdlimit.models import registry
from sgdlimit.settings import config, sections

EXAMPLES = Path(__file__).parent.parent / "examples"
QUICKSTART = (EXAMPLES / "quickstart.toml").read_text()


def write(tmp_path, text, name="case.toml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_the_quick_start_is_the_reference_problem():
    job = config.read(EXAMPLES / "quickstart.toml")
    p = job.problem
    assert (p.k, p.k_star, p.sample_ratio, p.ridge) == (1, 1, 1.5, 0.05)
    np.testing.assert_array_equal(p.teacher.cov, [[2.25]])
    np.testing.assert_array_equal(p.init.cov, [[1.0]])
    assert [part.dynamics for part in job.parts] == [sl.SGD(1.5), sl.SME(1.5), sl.GradientFlow()]
    assert [part.slug for part in job.parts] == ["sgd", "sme", "gradient-flow"]
    assert job.times[-1] == 4.0


def test_a_bare_number_is_that_number_times_the_identity():
    p = config.read(EXAMPLES / "committee.toml").problem
    np.testing.assert_array_equal(p.init.cov, 0.6 * np.eye(2))


def test_a_learning_rate_is_a_step(tmp_path):
    text = QUICKSTART.replace("step = 1.5", "learning_rate = 0.0075\nbatch_size = 10\nn_features = 2000", 1)
    assert config.read(write(tmp_path, text)).parts[0].dynamics.step == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("step", "values"),
    [
        ('{ kind = "exponential", start = 2.0, half_life = 1.0, floor = 0.6 }', {0.0: 2.0, 1.0: 1.0, 4.0: 0.6}),
        ('{ kind = "inverse_time", start = 2.0, time = 1.0 }', {0.0: 2.0, 1.0: 1.0, 3.0: 0.5}),
        ('{ kind = "inverse_time", start = 2.0, time = 1.0, power = 0.5 }', {0.0: 2.0, 3.0: 1.0}),
        ('{ kind = "linear", start = 2.0, end = 0.5, duration = 4.0 }', {0.0: 2.0, 2.0: 1.25, 4.0: 0.5, 9.0: 0.5}),
        ('{ kind = "linear", start = 2.0, end = 0.5, duration = 4.0, warmup = 1.0 }', {0.0: 0.5, 1.0: 2.0, 2.5: 1.25, 4.0: 0.5}),
        ('{ kind = "cosine", start = 2.0, end = 0.2, duration = 4.0 }', {0.0: 2.0, 2.0: 1.1, 4.0: 0.2}),
        ('{ kind = "cosine", start = 2.0, end = 0.2, duration = 4.0, warmup = 1.0 }', {0.0: 0.2, 1.0: 2.0, 4.0: 0.2}),
    ],
)
def test_schedules(tmp_path, step, values):
    schedule = config.read(write(tmp_path, QUICKSTART.replace("step = 1.5", f"step = {step}", 1))).parts[0].dynamics.step
    assert {t: pytest.approx(schedule(t)) for t in values} == values


@pytest.mark.parametrize(
    ("table", "name", "dynamics"),
    [
        ('kind = "sgd"\nstep = 1.5\nsampling = "reshuffle"', "SGD reshuffled", sl.SGD(1.5, "reshuffle")),
        ('kind = "online_sgd"\nstep = 0.5', "online SGD", sl.OnlineSGD(0.5)),
        ('kind = "online_sgd"\nlearning_rate = 0.0025\nbatch_size = 10\nn_features = 2000', "online SGD", sl.OnlineSGD(0.5)),
        ('kind = "mini_batch_gd"\nstep = 0.5\nfraction = 0.25', "mini-batch GD", sl.MiniBatchGD(0.5, 0.25)),
        ('kind = "mini_batch_gd"\nstep = 0.5\nfraction = 1', "full-batch GD", sl.MiniBatchGD(0.5, 1.0)),
        (
            'kind = "mini_batch_gd"\nstep = { kind = "linear", start = 0.5, end = 0.1, duration = 2.0 }\nfraction = 0.5',
            "mini-batch GD",
            sl.MiniBatchGD(schedules.Linear(0.5, 0.1, 2.0), 0.5),
        ),
    ],
)
def test_every_dynamics(tmp_path, table, name, dynamics):
    (part, *_) = config.read(write(tmp_path, QUICKSTART.replace('kind = "sgd"\nstep = 1.5', table, 1))).parts
    assert part.name == name
    assert part.dynamics == dynamics


ONCE = sl.Adam.from_learning_rate(0.005, 10, 500, betas=(0.0, 0.99), eps=0.1)
RATE = "learning_rate = 0.005\nbatch_size = 10\nn_features = 500"


@pytest.mark.parametrize(
    ("table", "name", "dynamics"),
    [
        (
            'kind = "sgd"\nstep = 1.5\noptimizer = { kind = "momentum", memory = 0.8 }',
            "SGD with momentum",
            sl.SGD(1.5, optimizer=sl.Momentum(0.8)),
        ),
        (
            'kind = "sgd"\nsampling = "reshuffle"\nstep = 0.5\n'
            'optimizer = { kind = "adam", memory = 0.1, second_memory = inf, decay = 0.2, eps = 0.3 }',
            "SGD reshuffled with AdamW",
            sl.SGD(0.5, "reshuffle", optimizer=sl.Adam(0.1, np.inf, 0.2, 0.3)),
        ),
        (
            'kind = "sme"\nstep = 0.5\noptimizer = { kind = "adam" }\ntemperature = 0.1\nclip = 2',
            "SME with Adam, noise and clipping",
            sl.SME(0.5, optimizer=sl.Adam(), temperature=0.1, clip=2.0),
        ),
        (
            'kind = "gradient_flow"\noptimizer = { kind = "momentum", memory = 1 }\ntemperature = 0.1',
            "gradient flow with momentum and noise",
            sl.GradientFlow(optimizer=sl.Momentum(1.0), temperature=0.1),
        ),
        (
            'kind = "mini_batch_gd"\nstep = 0.5\nfraction = 1\noptimizer = { kind = "momentum", memory = 2.0, nesterov = true }',
            "full-batch GD with Nesterov momentum",
            sl.MiniBatchGD(0.5, 1.0, optimizer=sl.Momentum(2.0, nesterov=True)),
        ),
        (
            f'kind = "sgd"\nclip = 0.5\n{RATE}\nmomentum = 0.9\nnesterov = true\ndampening = 0.0\nfeature_variance = 2.0',
            "SGD with Nesterov momentum and clipping",
            sl.SGD.from_learning_rate(0.005, 10, 500, 2.0, momentum=0.9, nesterov=True, clip=0.5),
        ),
        (
            f'kind = "sgd"\nsampling = "reshuffle"\n{RATE}\nbetas = [0.9, 0.999]\nweight_decay = 0.01',
            "SGD reshuffled with AdamW",
            sl.Adam.from_learning_rate(0.005, 10, 500, weight_decay=0.01, sampling="reshuffle"),
        ),
        (
            f'kind = "online_sgd"\n{RATE}\nbetas = [0.0, 0.99]\neps = 0.1',
            "online SGD with Adam",
            sl.OnlineSGD(ONCE.step, optimizer=ONCE.optimizer),
        ),
    ],
)
def test_every_optimiser(tmp_path, table, name, dynamics):
    (part, *_) = config.read(write(tmp_path, QUICKSTART.replace('kind = "sgd"\nstep = 1.5', table, 1))).parts
    assert part.name == name
    assert part.dynamics == dynamics


def test_samples_left_out(tmp_path):
    job = config.read(write(tmp_path, QUICKSTART.replace("repeats = 8", "repeats = 8\nleft_out = true")))
    assert job.settings.simulation.arguments()["left_out"] is True


def test_averages_of_weights(tmp_path):
    for table, average in (
        ('{ kind = "exponential", memory = 1.0 }', sl.ExponentialAverage(1.0)),
        ('{ kind = "tail", fraction = 0.25 }', sl.TailAverage(0.25)),
    ):
        job = config.read(write(tmp_path, QUICKSTART.replace("repeats = 8", f"repeats = 8\naverage = {table}")))
        assert job.settings.simulation.arguments()["average"] == average


def test_equal_settings_have_equal_fingerprints_whatever_the_layout(tmp_path):
    first = config.read(EXAMPLES / "quickstart.toml").fingerprint
    assert config.read(write(tmp_path, "# another comment\n" + QUICKSTART)).fingerprint == first
    assert config.read(write(tmp_path, QUICKSTART.replace("seed = 0", "seed = 1"))).fingerprint != first


def test_the_plugin_is_part_of_the_fingerprint(tmp_path):
    plugin = write(tmp_path, (EXAMPLES / "own_loss.py").read_text(), "own.py")
    first = config.read(EXAMPLES / "own_loss.toml", plugin).fingerprint
    plugin.write_text(plugin.read_text() + "\n# changed\n")
    assert config.read(EXAMPLES / "own_loss.toml", plugin).fingerprint != first


def test_a_plugin_may_register_models_under_names(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "MODELS", dict(models.MODELS))
    plugin = write(
        tmp_path,
        "import sgdlimit as sl\nfrom sgdlimit import models\n\n@models.model()\ndef square(noise=0.1):\n"
        "    return lambda r, y: (r[0] - y) ** 2, lambda r_star, z: r_star[0] + noise * z, sl.Normal()\n",
        "mine.py",
    )
    text = QUICKSTART.replace('"tanh_regression"', '"square"')
    assert config.read(write(tmp_path, text), plugin).problem.k == 1


def test_a_file_never_runs_code(tmp_path):
    # Without --plugin a file can only name what is built in; nothing in it is evaluated.
    text = QUICKSTART.replace('"tanh_regression"', "\"__import__('os').system('touch broken')\"")
    with pytest.raises(sl.InputError, match=r"`problem\.model` must be a known model"):
        config.read(write(tmp_path, text))
    assert not list(tmp_path.glob("broken"))


def test_lines_are_those_of_the_fields():
    lines = QUICKSTART.splitlines()
    for field, start in [
        ("problem.teacher.cov", "teacher ="),
        ("dynamics[2].kind", 'kind = "gradient_flow"'),
        ("run.horizon", "horizon ="),
        ("simulation", "[simulation]"),
        ("problem.missing", "[problem]"),
    ]:
        assert lines[sections.line_of(QUICKSTART, field) - 1].startswith(start)
    assert sections.line_of(QUICKSTART, "nothing") is None


def test_the_example_in_the_docstring_is_a_file(tmp_path):
    text = "\n".join(line[4:] for line in re.findall(r"^(?:    .*)?$", config.__doc__, re.M))
    tomllib.loads(text)
    assert config.read(write(tmp_path, text)).title == "Saturating unit"
