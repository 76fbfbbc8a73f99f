"""Bad input of every kind: one sentence with the field, what it must be and what it was; exit code 2; nothing written."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

import sgdlimit as sl
from sgdlimit import cli, schedules

QUICKSTART = (Path(__file__).parent.parent / "examples" / "quickstart.toml").read_text()
PATTERN = r"`[^`]+` must .+, but .+|`[^`]+` must .+: .+"  # field, what it must be, what it was

GOOD = {
    "loss": lambda r, y: 0.5 * (r[0] - y) ** 2,
    "label": lambda r_star, z: r_star[0] + 0.3 * z,
    "noise": sl.Normal(),
    "sample_ratio": 1.5,
    "teacher": sl.GaussianTeacher([[1.0]]),
    "init": sl.Init(overlap=[[0.0]], cov=[[1.0]]),
    "penalty": sl.Ridge(0.05),
}


def problem(**changed):
    return sl.Problem(**{**GOOD, **changed})


class Law:
    """A noise law of one's own whose quantiles are wrong."""

    shape = ()

    def __init__(self, ppf):
        self.ppf = ppf


def solve(**changed):
    dynamics = changed.pop("dynamics", sl.SGD(1.0))
    return sl.solve(problem(), dynamics, **{"horizon": 0.2, "rtol": 0.5, **changed})


def simulate(**changed):
    dynamics = changed.pop("dynamics", sl.SGD(1.0))
    return sl.simulate(problem(), dynamics, **{"horizon": 0.2, "n_features": 50, "repeats": 2, **changed})


IN_PYTHON = {
    "update no function": (lambda: problem(update=3), "`update` must be a function of two arguments or None, but is 3"),
    "update a number": (lambda: problem(update=lambda r, y: r[0]), "`update` must return an array (1,), but is of shape ()"),
    "update too long": (lambda: problem(update=lambda r, y: jnp.zeros(2)), "`update` must return an array (1,), but is of shape (2,)"),
    "update not a number": (lambda: problem(update=lambda r, y: r * jnp.nan), "`update` must be finite, but it is NaN"),
    "update of what is not there": (lambda: problem(update=lambda r, y: r[:1] + r[1]), "`update` must ask for entries that there are"),
    "negative ratio": (lambda: problem(sample_ratio=-1.5), "`sample_ratio` must be positive, but is -1.5 (it is n/d"),
    "zero ratio": (lambda: problem(sample_ratio=0), "`sample_ratio` must be positive, but is 0"),
    "infinite ratio": (lambda: problem(sample_ratio=np.inf), "`sample_ratio` must be a finite number, but is inf"),
    "ratio of words": (lambda: problem(sample_ratio="many"), "`sample_ratio` must be a number, but is 'many'"),
    "covariance not PSD": (lambda: sl.GaussianTeacher([[1.0, 2.0], [2.0, 1.0]]), "`teacher.cov` must be positive semi-definite, but is [[1.0"),
    "covariance not symmetric": (lambda: sl.GaussianTeacher([[1.0, 0.2], [0.1, 1.0]]), "`teacher.cov` must be symmetric, but is"),
    "covariance not square": (lambda: sl.GaussianTeacher([[1.0, 0.2]]), "`teacher.cov` must be a square matrix, but is of shape (1, 2)"),
    "covariance a number": (lambda: sl.GaussianTeacher(2.25), "`teacher.cov` must be a square matrix, but is of shape ()"),
    "covariance NaN": (lambda: sl.GaussianTeacher([[np.nan]]), "`teacher.cov` must be finite, but is [[nan]]"),
    "covariance ragged": (lambda: sl.GaussianTeacher([[1.0], [1.0, 2.0]]), "`teacher.cov` must be an array of numbers, but is"),
    "density above one": (lambda: sl.SparseTeacher(1.2, [[1.0]]), "`teacher.density` must lie in (0, 1], but is 1.2"),
    "density zero": (lambda: sl.SparseTeacher(0.0, [[1.0]]), "`teacher.density` must lie in (0, 1], but is 0.0"),
    "teacher rows flat": (lambda: sl.EmpiricalTeacher([1.0, 2.0]), "`teacher.rows` must have shape (m, k_star), but is (2,)"),
    "teacher an array": (lambda: problem(teacher=[[1.0]]), "`teacher` must be GaussianTeacher, SparseTeacher or EmpiricalTeacher, but is [[1.0]]"),
    "init sizes differ": (lambda: sl.Init([[0.0]], np.eye(2)), "`init.cov` must be (1, 1) like the 1 rows of `init.overlap`, but is"),
    "init a vector": (lambda: sl.Init([0.0], [[1.0]]), "`init.overlap` must be a matrix (k, k_star), but is (1,)"),
    "init columns": (lambda: problem(init=sl.Init([[0.0, 0.0]], [[1.0]])), "`init.overlap` must have 1 columns, one per teacher direction, but is"),
    "negative ridge": (lambda: sl.Ridge(-0.1), "`penalty.strength` must not be negative, but is -0.1"),
    "penalty a number": (lambda: problem(penalty=0.05), "`penalty` must be Ridge, SmoothPenalty or None, but is 0.05"),
    "penalty a vector": (lambda: problem(penalty=sl.SmoothPenalty(lambda t: t**2)), "`penalty.fn` must return a scalar, but is an array"),
    "penalty with a kink": (lambda: problem(penalty=sl.SmoothPenalty(lambda t: jnp.sum(jnp.sqrt(t**2) ** 0.5 / 0.0))), "`penalty.fn` must have a finite"),
    "loss a vector": (lambda: problem(loss=lambda r, y: (r - y) ** 2), "`loss` must return a scalar, but is an array of shape (1,)"),
    "loss NaN": (lambda: problem(loss=lambda r, y: jnp.log(-(r[0] ** 2))), "`loss` must be finite, but its value is NaN"),
    "loss of three": (lambda: problem(loss=lambda r, y, z: r[0]), "`loss` must map r (1,) and what `label` returns to a number"),
    "loss in NumPy": (lambda: problem(loss=lambda r, y: np.sin(r[0])), "`loss` must map r (1,) and what `label` returns to a number"),
    "loss a number": (lambda: problem(loss=0.5), "`loss` must be a function of two arguments, but is 0.5"),
    "loss integer": (lambda: problem(loss=lambda r, y: jnp.int32(1)), "`loss` must return a real number, but is int32"),
    "loss of a missing entry": (lambda: problem(loss=lambda r, y: (r[0] + r.at[1].get(mode="fill", fill_value=jnp.nan)) * y), "`loss` must ask for entries that there are, but asks for entry 1 of 1 (r has k = 1"),
    "loss of a fourth direction": (lambda: problem(loss=lambda r, y: r[3] * y), "`loss` must ask for entries that there are, but asks for entry 3 of 1 (r has k = 1; entries count from 0"),
    "loss of an entry before the first": (lambda: problem(loss=lambda r, y: r[-2] * y), "`loss` must ask for entries that there are, but asks for entry -2 of 1"),
    "loss of several entries": (lambda: problem(loss=lambda r, y: r[jnp.array([0, 1])].sum() * y), "`loss` must ask for entries that there are, but asks for entry 1 of 1"),
    "loss of a matrix's entry": (lambda: problem(loss=lambda r, y: jnp.outer(r, r)[0, 2] * y), "`loss` must ask for entries that there are, but asks for entry 2 of 1"),
    "loss in a loop": (lambda: problem(loss=lambda r, y: jax.lax.fori_loop(0, 2, lambda i, sum: sum + r[i], y)), "`loss` must ask for entries that there are, but asks for entry 1 of 1"),
    "loss in a vectorised loop": (lambda: problem(loss=lambda r, y: y * jax.vmap(lambda i: r[i])(jnp.arange(2)).sum()), "`loss` must ask for entries that there are, but asks for entry 1 of 1"),
    "loss in a branch": (lambda: problem(loss=lambda r, y: jax.lax.cond(y > 0.5, lambda: r[0], lambda: r[jnp.array(1)])), "`loss` must ask for entries that there are, but asks for entry 1 of 1"),
    "loss of a class that is none": (lambda: problem(label=lambda r_star, z: jnp.where(z > 2.0, 1, 0), loss=lambda r, y: r[y] ** 2), "`loss` must ask for entries that there are, but asks for entry 1 of 1"),
    "loss that writes beside": (lambda: problem(loss=lambda r, y: r.at[1].add(y).sum()), "`loss` must ask for entries that there are, but asks for entry 1 of 1"),
    "label of a second teacher": (lambda: problem(label=lambda r_star, z: r_star[1] + z), "`label` must ask for entries that there are, but asks for entry 1 of 1 (r_star has k_star = 1 and z is of shape ()"),
    "label of a third noise": (lambda: problem(noise=sl.Normal((2,)), label=lambda r_star, z: r_star[0] + z[2]), "`label` must ask for entries that there are, but asks for entry 2 of 2 (r_star has k_star = 1 and z is of shape (2,)"),
    "label from a table": (lambda: problem(label=lambda r_star, z: jnp.take(jnp.array([1, 2]), jnp.where(z > 0, 2, 0))), "`label` must ask for entries that there are, but asks for entry 2 of 2"),
    "penalty of a second direction": (lambda: problem(penalty=sl.SmoothPenalty(lambda theta: theta[0] ** 2 + theta[1] ** 2)), "`penalty.fn` must ask for entries that there are, but asks for entry 1 of 1 (a row theta has k = 1"),
    "label changing shape": (lambda: problem(label=lambda r_star, z: jnp.nonzero(r_star > z)[0]), "`label` must map r_star (1,) and z ()"),
    "label with an if": (lambda: problem(label=lambda r_star, z: 1.0 if r_star[0] > z else -1.0), "`label` must map r_star (1,) and z ()"),
    "label NaN": (lambda: problem(label=lambda r_star, z: jnp.sqrt(-1.0 - z**2)), "`label` must be finite, but gives NaN"),
    "noise a class": (lambda: problem(noise=sl.Normal), "`noise` must be a noise law such as sl.Normal(), but is"),
    "noise infinite": (lambda: problem(noise=Law(lambda u: np.full_like(u, np.inf))), "`noise.ppf` must be finite on (0, 1), but is"),
    "noise of another size": (lambda: problem(noise=Law(lambda u: u[:3])), "`noise.ppf` must map an array of numbers in (0, 1)"),
    "noise shape": (lambda: sl.Normal(shape=(0,)), "`noise.shape` must have positive sizes, but is (0,)"),
    "degrees of freedom": (lambda: sl.StudentT(df=-1), "`noise.df` must be positive, but is -1"),
    "negative step": (lambda: sl.SGD(step=-1.0), "`step` must be positive, but is -1.0"),
    "step of words": (lambda: sl.SME(step="fast"), "`step` must be a number or a function t -> step, but is 'fast'"),
    "step true": (lambda: sl.SGD(step=True), "`step` must be positive, but is True"),
    "schedule negative at once": (lambda: sl.SGD(step=lambda t: t - 1.0), "`step` must be positive at all times, but is -1.0 at t = 0"),
    "schedule that fails": (lambda: sl.SGD(step=lambda t: 1 / t), "`step` must be a number or a function t -> step, but is a function that fails"),
    "schedule of a vector": (lambda: sl.SGD(step=lambda t: np.ones(2)), "`step` must be a number or a function t -> step, but is a function that"),
    "sampling misspelt": (lambda: sl.SGD(1.0, sampling="reshufle"), "`sampling` must be 'replacement' or 'reshuffle', but is 'reshufle' (did you mean `reshuffle`?)"),
    "online step zero": (lambda: sl.OnlineSGD(step=0.0), "`step` must be positive, but is 0.0"),
    "batch step in words": (lambda: sl.MiniBatchGD(step="big", fraction=0.5), "`step` must be a number or a function t -> step, but is 'big'"),
    "fraction zero": (lambda: sl.MiniBatchGD(step=1.0, fraction=0.0), "`fraction` must lie in (0, 1], but is 0.0 (the part of the data in a batch"),
    "fraction above one": (lambda: sl.MiniBatchGD(step=1.0, fraction=32), "`fraction` must lie in (0, 1], but is 32"),
    "fraction in words": (lambda: sl.MiniBatchGD(step=1.0, fraction="all"), "`fraction` must be a number, but is 'all'"),
    "inverse time": (lambda: schedules.InverseTime(1.0, time=0.0), "`step.time` must be positive, but is 0.0"),
    "linear to zero": (lambda: schedules.Linear(1.0, 0.0, 2.0), "`step.end` must be positive, but is 0.0 (a step is positive at all times)"),
    "learning rate zero": (lambda: sl.SGD.from_learning_rate(0.0, 1, 100), "`lr` must be positive, but is 0.0"),
    "no such file": (lambda: sl.load("nothing.nc"), "`path` must be a result file, but `nothing.nc` does not exist"),
    "horizon zero, simulation": (lambda: simulate(horizon=0), "`horizon` must be positive, but is 0"),
    "schedule turning negative, simulation": (lambda: simulate(dynamics=sl.SGD(lambda t: 1 - 8 * t)), "`step` must be positive at all times"),
    "times unsorted, simulation": (lambda: simulate(times=[0.2, 0.1]), "`times` must increase, but is [0.2, 0.1]"),
    "times beyond, simulation": (lambda: simulate(times=[0.0, 9.0]), "`times` must lie in [0, horizon = 0.2], but reaches from 0 to 9"),
    "times of words": (lambda: simulate(times="often"), "`times` must be an array of numbers, but is 'often'"),
    "too much memory": (lambda: simulate(n_features=10_000_000), "`n_features` must leave the simulation in memory: 10000000 features"),
    "no features": (lambda: simulate(n_features=0), "`n_features` must be a whole number, at least"),
    "one repeat": (lambda: simulate(repeats=1), "`repeats` must be a whole number, at least 2, but is 1"),
    "batch of everything": (lambda: simulate(batch_size=1000), "`batch_size` must be at most the number of samples, 75, but is 1000"),
    "unknown design": (lambda: simulate(design="gausian"), "`design` must be the name of a law of the entries, but is 'gausian' (did you mean `gaussian`?)"),
    "unknown dynamics": (lambda: simulate(dynamics="sgd"), "`dynamics` must be one that can be simulated, but is 'sgd'"),
    "horizon zero, theory": (lambda: solve(horizon=0), "`horizon` must be positive, but is 0"),
    "times beyond, theory": (lambda: solve(times=[0.0, 9.0]), "`times` must lie in [0, horizon = 0.2], but reaches from 0 to 9"),
    "schedule turning negative, theory": (lambda: solve(dynamics=sl.SGD(lambda t: 1 - 8 * t)), "`step` must be positive at all times"),
    "rtol zero": (lambda: solve(rtol=0.0), "`rtol` must"),
    "seed of words": (lambda: solve(seed="lucky"), "`seed` must"),
    "unknown method": (lambda: solve(method="magic"), "`method` must"),
    "unknown on_failure": (lambda: solve(on_failure="ignore"), "`on_failure` must"),
    "step longer than all, theory": (lambda: solve(dynamics=sl.MiniBatchGD(1.0, 1.0)), "`step` must let a step end within t = 0.2, but is 1.0 (a step lasts"),
    "too many steps, theory": (lambda: solve(dynamics=sl.MiniBatchGD(1e-5, 1.0)), "`step` must reach t = 0.2 within 512 steps, but is 1e-05"),
    "schedule turning negative, online": (lambda: solve(dynamics=sl.OnlineSGD(lambda t: 1 - 8 * t)), "`step` must be positive at all times"),
    "schedule turning negative, batches": (lambda: solve(dynamics=sl.MiniBatchGD(lambda t: 0.1 - t, 0.5)), "`step` must be positive at all times"),
    "paths of reshuffled data": (lambda: solve(dynamics=sl.SGD(1.0, "reshuffle"), method="paths"), "`method` must be 'auto' or 'events' for a reshuffled SGD, but is 'paths'"),
    "too many epochs": (lambda: solve(dynamics=sl.SGD(1e-4, "reshuffle"), method="events"), "`horizon` must span at most 128 epochs of reshuffled data here, but is 0.2"),
    "runs of one pass": (lambda: solve(dynamics=sl.OnlineSGD(1.0), method="runs"), "`method` must be 'auto' for OnlineSGD, but is 'runs'"),
    "a checkpoint of runs": (lambda: solve(method="runs", checkpoint="runs.npz"), "`checkpoint` must be None for real runs, but is 'runs.npz'"),
    "no dynamics": (lambda: solve(dynamics=1.0), "`dynamics` must"),
}  # fmt: skip


@pytest.mark.parametrize("kind", IN_PYTHON)
def test_in_python(kind):
    call, sentence = IN_PYTHON[kind]
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        call()
    said = str(caught.value)
    assert isinstance(caught.value, sl.InputError)
    assert re.fullmatch(PATTERN, said), said
    assert "\n" not in said


@pytest.mark.parametrize(
    "loss",
    [
        lambda r, y: r[-1] * y + r[jnp.argmax(r)] ** 2,
        lambda r, y: jnp.take(r, 5, mode="clip") * y,
        lambda r, y: r[0] + r.at[jnp.array([5])].get(mode="fill", fill_value=0.0)[0],
        lambda r, y: jnp.outer(r, r)[jnp.tril_indices(1)].sum() + y,  # writes beyond an array of its own
        lambda r, y: jax.lax.fori_loop(0, 1, lambda i, sum: sum + r[i], y),
        lambda r, y: jax.checkpoint(lambda r: r[jnp.argmax(r)] * y)(r),  # what cannot be looked into is let through
    ],
)
def test_an_index_that_is_provided_for_is_no_mistake(loss):
    problem(loss=loss)


def edit(old, new):
    assert old in QUICKSTART
    return QUICKSTART.replace(old, new, 1)


RATE = "learning_rate = 0.01\nbatch_size = 10\nn_features = 500"
FILES = {
    "broken TOML": (edit("horizon = 4.0", "horizon = "), "must be a TOML file, but cannot be read: Invalid value (at line"),
    "not a table": ("problem = 3\nrun = {horizon = 1.0}\n[[dynamics]]\nkind = 'sgd'\nstep = 1.0", "line 1: `problem` must be a table, but is 3"),
    "empty": ("", "`problem` must be given, but is missing"),
    "no dynamics": (edit("[[dynamics]]", "[[dynamic]]"), "`dynamic` must be a known setting, but is not one (did you mean `dynamics`?)"),
    "one dynamics as a table": (edit("[[dynamics]]", "[dynamics]").split("[[dynamics]]")[0] + "[run]\nhorizon = 1.0", "`dynamics` must be a list, but is {'kind': 'sgd', 'step': 1.5}"),
    "unknown key": (edit("sample_ratio", "sampel_ratio"), "line 10: `problem.sampel_ratio` must be a known setting, but is not one (did you mean `sample_ratio`?)"),
    "unknown section": (edit("[run]", "[runs]"), "`runs` must be a known setting, but is not one (did you mean `run`?)"),
    "unknown key of a kind": (edit("strength", "strenght"), "`problem.penalty.strenght` must be a known setting, but is not one (did you mean `strength`?)"),
    "missing ratio": (edit("sample_ratio = 1.5", ""), "line 7: `problem.sample_ratio` must be given, but is missing"),
    "negative ratio": (edit("sample_ratio = 1.5", "sample_ratio = -1.5"), "line 10: `problem.sample_ratio` must be positive, but is -1.5"),
    "ratio in quotes": (edit("sample_ratio = 1.5", 'sample_ratio = "1.5"'), "line 10: `problem.sample_ratio` must be a number, but is '1.5'"),
    "covariance not PSD": (edit("cov = 2.25", "cov = -1"), "line 11: `problem.teacher.cov` must be positive semi-definite, but is [[-1.0]]"),
    "covariance in words": (edit("cov = 2.25", 'cov = "wide"'), "`problem.teacher.cov` must be a number or a list of rows of numbers, but is 'wide'"),
    "wrong shape": (edit("cov = 2.25", "cov = [[1.0, 0.0], [0.0, 1.0]]"), "`problem.teacher.cov` must be (1, 1) for the model `tanh_regression`, but is of shape (2, 2)"),
    "ragged rows": (edit("cov = 2.25", "cov = [[1.0, 0.0], [0.0]]"), "`problem.teacher.cov` must have rows of one length, but is"),
    "unknown model": (edit("tanh_regression", "tanh_regresion"), "line 8: `problem.model` must be a known model, but is 'tanh_regresion' (did you mean `tanh_regression`?; a model of your own needs --plugin"),
    "unknown parameter": (edit("noise = 0.3", "noice = 0.3"), "line 9: `problem.parameters` must name parameters of the model `tanh_regression`, but is 'noice' (did you mean `noise`?)"),
    "negative noise": (edit("noise = 0.3", "noise = -0.3"), "line 9: `problem.parameters.noise` must not be negative, but is -0.3"),
    "unknown kind of teacher": (edit('kind = "gaussian"', 'kind = "gausian"'), "`problem.teacher.kind` must be one of gaussian, sparse, empirical, but is 'gausian' (did you mean `gaussian`?)"),
    "no kind of penalty": (edit('kind = "ridge", ', ""), "`problem.penalty.kind` must be given, but is missing"),
    "unknown dynamics": (edit('kind = "sgd"', 'kind = "sdg"'), "line 16: `dynamics[0].kind` must be one of sgd, sme, gradient_flow, online_sgd, mini_batch_gd, but is 'sdg' (did you mean `sgd`?)"),
    "negative step": (edit("step = 1.5", "step = -1.5"), "line 17: `dynamics[0].step` must be positive, but is -1.5"),
    "no step": (edit("step = 1.5", ""), "`dynamics[0].step` must be given, but is missing (or give learning_rate, batch_size and n_features)"),
    "step and learning rate": (edit("step = 1.5", "step = 1.5\nlearning_rate = 0.1"), "`dynamics[0].step` must be given alone, but `learning_rate` is there too"),
    "half a learning rate": (edit("step = 1.5", "learning_rate = 0.1"), "`dynamics[0].batch_size` must be given next to `learning_rate`, but is missing"),
    "unknown schedule": (edit("step = 1.5", 'step = { kind = "cosin" }'), "`dynamics[0].step.kind` must be a known schedule, but is 'cosin' (did you mean `cosine`?)"),
    "schedule below zero": (edit("step = 1.5", 'step = { kind = "cosine", start = 1.0, end = -1.0, duration = 2.0 }'), "`dynamics[0].step.end` must be positive, but is -1.0"),
    "sampling misspelt": (edit("step = 1.5", 'step = 1.5\nsampling = "shuffle"'), "`dynamics[0].sampling` must be one of replacement, reshuffle, but is 'shuffle' (did you mean `reshuffle`?)"),
    "no fraction": (edit('kind = "sgd"', 'kind = "mini_batch_gd"'), "`dynamics[0].fraction` must be given, but is missing"),
    "fraction above one": (edit('kind = "sgd"', 'kind = "mini_batch_gd"\nfraction = 64'), "line 17: `dynamics[0].fraction` must lie in (0, 1], but is 64"),
    "steps beyond the end": (edit('kind = "sgd"', 'kind = "mini_batch_gd"\nfraction = 1.0').replace("step = 1.5", "step = 50.0", 1), "`dynamics[0].step` must let a step end within t = 4, but is 50.0"),
    "learning rate of a fraction": (edit('kind = "sgd"', 'kind = "mini_batch_gd"\nfraction = 1.0\nlearning_rate = 0.1'), "`dynamics[0].learning_rate` must be a known setting, but is not one"),
    "online step negative": (edit('kind = "sgd"', 'kind = "online_sgd"').replace("step = 1.5", "step = -1.5", 1), "`dynamics[0].step` must be positive, but is -1.5"),
    "optimizer in a word": (edit("step = 1.5", 'step = 1.5\noptimizer = "adam"'), "line 18: `dynamics[0].optimizer` must be a table, but is 'adam'"),
    "unknown optimizer": (edit("step = 1.5", 'step = 1.5\noptimizer = { kind = "adamw" }'), "line 18: `dynamics[0].optimizer.kind` must be one of momentum, adam, but is 'adamw' (did you mean `adam`?)"),
    "misspelt memory": (edit("step = 1.5", 'step = 1.5\noptimizer = { kind = "adam", second_memroy = 1.0 }'), "line 18: `dynamics[0].optimizer.second_memroy` must be a known setting, but is not one (did you mean `second_memory`?)"),
    "no memory": (edit("step = 1.5", 'step = 1.5\noptimizer = { kind = "momentum" }'), "line 18: `dynamics[0].optimizer.memory` must be given, but is missing"),
    "negative memory": (edit("step = 1.5", 'step = 1.5\noptimizer = { kind = "momentum", memory = -1.0 }'), "line 18: `dynamics[0].optimizer.memory` must not be negative, but is -1.0"),
    "negative temperature": (edit("step = 1.5", "step = 1.5\ntemperature = -0.1"), "line 18: `dynamics[0].temperature` must not be negative, but is -0.1"),
    "clip of nothing": (edit("step = 1.5", "step = 1.5\nclip = 0"), "line 18: `dynamics[0].clip` must be positive, but is 0"),
    "momentum of a step": (edit("step = 1.5", "step = 1.5\nmomentum = 0.9"), "line 17: `dynamics[0].step` must be given alone, but `momentum` is there too (beside a step it is the optimizer's)"),
    "momentum alone": (edit("step = 1.5", "momentum = 0.9"), "`dynamics[0].learning_rate` must be given next to `momentum`, but is missing"),
    "optimizer of a learning rate": (edit("step = 1.5", f'{RATE}\noptimizer = {{ kind = "adam" }}'), "line 20: `dynamics[0].optimizer` must go with a `step`, but `learning_rate` is there"),
    "two optimizers": (edit("step = 1.5", f"{RATE}\nbetas = [0.9, 0.999]\nmomentum = 0.9"), "line 20: `dynamics[0].betas` must be of one optimizer with `momentum`, but is of another"),
    "one beta": (edit("step = 1.5", f"{RATE}\nbetas = [0.9]"), "line 20: `dynamics[0].betas` must be two numbers in [0, 1), but is [0.9]"),
    "beta above one": (edit("step = 1.5", f"{RATE}\nbetas = [0.9, 1.0]"), "line 20: `dynamics[0].betas[1]` must lie in [0, 1), but is 1.0"),
    "momentum of one": (edit("step = 1.5", f"{RATE}\nmomentum = 1.0"), "line 20: `dynamics[0].momentum` must lie in [0, 1), but is 1.0"),
    "nesterov of nothing": (edit("step = 1.5", f"{RATE}\nnesterov = true"), "line 20: `dynamics[0].nesterov` must be False without a momentum"),
    "weight decay of SGD": (edit("step = 1.5", f"{RATE}\nweight_decay = 0.1"), "`dynamics[0].betas` must be given next to `weight_decay`, but is missing (AdamW's; SGD's weight decay is the problem's penalty"),
    "Adam of a flow": (edit('kind = "gradient_flow"', 'kind = "gradient_flow"\noptimizer = { kind = "adam" }'), "`dynamics[2].optimizer` must be a Momentum or None for GradientFlow"),
    "one pass under a smooth penalty": (edit('kind = "ridge"', 'kind = "smooth_l1"').replace('kind = "sgd"', 'kind = "online_sgd"', 1), "`penalty` must be a Ridge or None for the theory of OnlineSGD"),
    "unknown average": (edit("repeats = 8", 'average = { kind = "ema", memory = 1.0 }'), "`simulation.average.kind` must be one of exponential, tail, but is 'ema'"),
    "average of nothing": (edit("repeats = 8", 'average = { kind = "tail", fraction = 1.5 }'), "line 33: `simulation.average.fraction` must lie in [0, 1), but is 1.5"),
    "two of one name": (edit('kind = "sme"', 'kind = "sgd"'), "`dynamics[1].name` must differ between the dynamics, but is 'SGD'"),
    "a path for a name": (edit('kind = "sgd"', 'kind = "sgd"\nname = "../../sgd"'), "`dynamics[0].name` must be letters, digits, spaces or"),
    "horizon zero": (edit("horizon = 4.0", "horizon = 0.0"), "line 27: `run.horizon` must be positive, but is 0.0"),
    "times beyond": (edit("horizon = 4.0", "horizon = 4.0\ntimes = [0, 5]"), "line 28: `run.times` must lie in [0, horizon = 4], but reaches from 0 to 5"),
    "rtol NaN": (edit("rtol = 0.01", "rtol = nan"), "`run.rtol` must be finite, but is nan"),
    "rtol above one": (edit("rtol = 0.01", "rtol = 2.0"), "`run.rtol` must be less than 1, but is 2.0"),
    "half a seed": (edit("seed = 0", "seed = 0.5"), "`run.seed` must be an integer, but is 0.5"),
    "one repeat": (edit("repeats = 8", "repeats = 1"), "`simulation.repeats` must be at least 2, but is 1"),
    "unknown design": (edit("repeats = 8", 'design = "gausian"'), "`simulation.design` must be one of gaussian, rademacher, uniform, but is 'gausian' (did you mean `gaussian`?)"),
    "too much memory": (edit("n_features = 1000", "n_features = 20000000"), "`simulation.n_features` must leave the simulation in memory: 20000000 features"),
    "plugin not given": (edit('"tanh_regression"', '"plugin:mine"'), "`problem.model` must name a built-in model unless a plugin is given, but is 'plugin:mine' (add --plugin FILE.py"),
}  # fmt: skip

PLUGINS = {
    "missing": (None, "mine", "`--plugin` must be an existing file, but"),
    "broken": ("def mine(:\n", "mine", "`--plugin` must be a Python file that runs, but"),
    "fails": ("\nraise RuntimeError('no')\n", "mine", "fails in line 2: RuntimeError: no"),
    "lacks the model": ("def mime():\n    return 1\n", "mine", "`problem.model` must name a function of the plugin, but is 'mine' (did you mean `mime`?)"),
    "returns nonsense": ("def mine(**_):\n    return 1\n", "mine", "`problem.model` must return loss, label and noise, as a dict with these keys or a tuple"),
    "model fails": ("def mine(noise):\n    return 1 / 0\n", "mine", "`problem.model` must be built by the plugin, but `mine` fails in line 2: ZeroDivisionError"),
    "loss a vector": (
        "import sgdlimit as sl\ndef mine(noise):\n    return lambda r, y: r - y, lambda r_star, z: r_star[0], sl.Normal()\n",
        "mine",
        "`problem.loss` must return a scalar, but is an array of shape (1,)",
    ),
}  # fmt: skip


def refused(arguments, sentence, folder):
    before = sorted(folder.rglob("*"))
    result = CliRunner().invoke(cli.app, arguments)
    said = " ".join(result.stderr.split())
    assert result.exit_code == 2, said
    assert sentence in said
    assert "Traceback" not in said
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("kind", FILES)
def test_in_a_file(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.parent))
    text, sentence = FILES[kind]
    (tmp_path / "case.toml").write_text(text)
    refused(["run", str(tmp_path / "case.toml"), "--out", str(tmp_path / "out")], sentence, tmp_path)


@pytest.mark.parametrize("kind", PLUGINS)
def test_in_a_plugin(kind, tmp_path, monkeypatch):
    code, name, sentence = PLUGINS[kind]
    (tmp_path / "case.toml").write_text(edit('"tanh_regression"', f'"plugin:{name}"'))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    if code is not None:
        (tmp_path / "mine.py").write_text(code)
    refused(["check", str(tmp_path / "case.toml"), "--plugin", str(tmp_path / "mine.py")], sentence, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["check", "quikstart.toml"], "`FILE` must be an existing file, but `quikstart.toml` does not exist (did you mean `quickstart.toml`?)"),
        (["check", "."], "`FILE` must be a file that can be read, but `.` cannot: Is a directory"),
        (["check", "binary.toml"], "`FILE` must be a file that can be read, but `binary.toml` cannot: it is not UTF-8 text"),
        (["run", "quickstart.toml", "--out", "quickstart.toml"], "`--out` must be a directory that can be made, but `quickstart.toml` is a file"),
        (["run", "quickstart.toml", "--out", "quickstart.toml/deep/er"], "`--out` must be a directory that can be made, but `quickstart.toml` is a file"),
        (["run", "quickstart.toml", "--out", "taken"], "`--out` must be free for this run, but `taken` has a `theory-sgd.nc` of unknown settings"),
        (["run", "quickstart.toml", "--ot", "x"], "No such option: --ot"),
        (["rum", "quickstart.toml"], "No such command 'rum'"),
    ],
)  # fmt: skip
def test_on_the_command_line(arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.parent))
    monkeypatch.setenv("NO_COLOR", "1")
    (tmp_path / "quickstart.toml").write_text(QUICKSTART)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "theory-sgd.nc").write_text("mine")
    refused(arguments, sentence, tmp_path)
