"""Sweeps without a cluster: which points there are, what is computed at one, what the store takes and refuses, and pictures."""

import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import sgdlimit as sl
from sgdlimit import cli, schedules
from sgdlimit.errors import InputError, SolveError
from sgdlimit.sweep import design, engine, maps, plan, reading, store, work

EXAMPLES = Path(__file__).parent.parent / "examples"
STEPS = {"from": 0.5, "to": 2.0, "points": 3, "scale": "log"}


def base(**changed):
    tables = {
        "problem": {
            "model": "linear_regression",
            "sample_ratio": 1.5,
            "teacher": {"kind": "gaussian", "cov": 2.25},
            "penalty": {"kind": "ridge", "strength": 0.05},
        },
        "dynamics": [{"kind": "online_sgd", "step": 1.0}],
        "run": {"horizon": 0.5, "rtol": 0.2, "seed": 3},
    }
    return {**tables, **changed}


def planned(axes, changed=None, **options):
    return plan.from_base(base(**(changed or {})), axes, **options)


def outcome(planned, values, kind="theory", part=0):
    return work.compute(kind, part, values, work.pack(planned.shared), plan.versions())


@pytest.fixture(autouse=True)
def _leave_jax_alone(monkeypatch):
    monkeypatch.setattr(work, "prepare", lambda: None)


# --- points ---------------------------------------------------------------------------------------------------------------


def test_a_grid_has_all_combinations():
    laid = planned({"dynamics.step": STEPS, "problem.sample_ratio": [2.0, 1.0]}).design
    assert (laid.dims, laid.shape, laid.size) == (("step", "sample_ratio"), (3, 2), 6)
    assert laid.at((2, 1)) == {"dynamics.step": pytest.approx(2.0), "problem.sample_ratio": 1.0}
    assert laid.axes[0].values == pytest.approx((0.5, 1.0, 2.0))
    assert len(list(laid.indices())) == 6


def test_a_list_goes_along_its_axes():
    laid = planned({"dynamics.step": [0.5, 1.0, 2.0], "problem.sample_ratio": [3, 2, 1]}, design="list").design
    assert (laid.dims, laid.shape) == (("point",), (3,))
    assert laid.at((1,)) == {"dynamics.step": 1.0, "problem.sample_ratio": 2.0}


@pytest.mark.parametrize("kind", ["random", "latin_hypercube"])
def test_random_designs_fill_their_axes_and_keep_to_the_seed(kind):
    axes = {"dynamics.step": {"from": 0.1, "to": 10.0, "scale": "log"}, "problem.sample_ratio": {"from": 1.0, "to": 2.0}}
    laid, again = (planned(axes, design=kind, points=64).design for _ in range(2))
    other = planned(axes, {"run": {"horizon": 0.5, "seed": 4}}, design=kind, points=64).design
    assert laid == again != other
    steps, ratios = (np.array(axis.values) for axis in laid.axes)
    assert (steps >= 0.1).all()
    assert (steps <= 10.0).all()
    # Uniform on the scale asked for: the mean of 64 is within 4 standard errors, each range/sqrt(12 * 64).
    assert abs(np.log10(steps).mean()) < 4 * 2 / np.sqrt(12 * 64)
    assert abs(ratios.mean() - 1.5) < 4 * 1 / np.sqrt(12 * 64)
    if kind == "latin_hypercube":
        assert len(np.unique(np.floor(64 * (ratios - 1.0)))) == 64  # one in each stratum


def test_short_names_are_unique_and_free():
    fields = ["dynamics.sgd.step", "dynamics.sme.step", "run.horizon", "problem.sample_ratio"]
    assert list(design._names(fields).values()) == ["dynamics_sgd_step", "dynamics_sme_step", "run_horizon", "sample_ratio"]


def test_whole_numbers_stay_whole():
    settings = {"simulation": {"n_features": 100}, "dynamics": [{"kind": "sgd", "step": 1.0}]}
    axes = {"simulation.n_features": {"from": 100, "to": 400, "points": 3, "scale": "log"}}
    assert planned(axes, settings).design.axes[0].values == (100, 200, 400)


def test_a_points_seed_depends_on_its_values_and_the_sweeps_seed_alone():
    values = {"dynamics.step": 0.5, "problem.sample_ratio": 2.0}
    seed = work.point_seed(values, 0)
    assert seed == work.point_seed(dict(reversed(values.items())), 0) == 2253848506
    assert len({seed, work.point_seed(values, 1), work.point_seed({**values, "dynamics.step": 0.5000001}, 0)}) == 3


def test_one_of_each_sort_goes_first():
    units = list(planned({"dynamics.step": [1.0, 1.01, 64.0, 64.1], "problem.sample_ratio": [1.0, 1.01]}).units())
    laid = planned({"dynamics.step": [1.0, 1.01, 64.0, 64.1], "problem.sample_ratio": [1.0, 1.01]}).in_order(units)
    assert [unit.index for unit in laid[:2]] == [(0, 0), (2, 0)]
    assert sorted(unit.index for unit in laid) == [unit.index for unit in units]


# --- settings of a point -----------------------------------------------------------------------------------------------------


def test_a_field_is_replaced_where_the_file_has_it():
    dynamics = [{"kind": "sgd"}, {"kind": "sme", "step": 7.0, "name": "other"}, {"kind": "gradient_flow"}]
    build = planned({"dynamics.step": [1.0, 2.0]}, {"dynamics": [{"kind": "sgd"}, {"kind": "gradient_flow"}]}).shared.recipe.build
    assert build({"dynamics.step": 2.0}, 0, None).dynamics == sl.SGD(2.0)
    assert build({"dynamics.step": 2.0}, 1, None).dynamics == sl.GradientFlow()
    build = planned({"dynamics.sgd.step": [1.0, 2.0]}, {"dynamics": dynamics}).shared.recipe.build
    assert build({"dynamics.sgd.step": 2.0}, 1, None).dynamics == sl.SME(7.0)
    assert build({"dynamics.sgd.step": 2.0, "dynamics.other.step": 3.0}, 1, None).dynamics == sl.SME(3.0)
    at = build(
        {"dynamics.sgd.step": 1.0, "problem.penalty.ridge": 0.5, "problem.teacher.cov": 4.0, "problem.parameters.noise": 0.1}, 0, None
    )
    assert (at.problem.ridge, at.problem.teacher.cov.tolist()) == (0.5, [[4.0]])


MOMENTUM, ADAM = {"kind": "momentum", "memory": 0.1}, {"kind": "adam", "memory": 0.1, "second_memory": 1.0}


def test_axes_reach_into_optimisers():
    dynamics = [
        {"kind": "sgd", "step": 1.0, "optimizer": ADAM},
        {"kind": "sme", "step": 1.0, "optimizer": MOMENTUM, "clip": 3.0},
        {"kind": "gradient_flow"},
    ]
    at = {"dynamics.optimizer.memory": 0.5, "dynamics.optimizer.second_memory": 2.0, "dynamics.optimizer.decay": 0.1}
    at |= {"dynamics.temperature": 0.2, "dynamics.sme.clip": 2.0}
    wanted = [
        sl.SGD(1.0, optimizer=sl.Adam(0.5, 2.0, 0.1), temperature=0.2),
        sl.SME(1.0, optimizer=sl.Momentum(0.5), temperature=0.2, clip=2.0),
        sl.GradientFlow(temperature=0.2),
    ]
    build = planned({field: [value] for field, value in at.items()}, {"dynamics": dynamics}).shared.recipe.build
    assert [build(at, part, None).dynamics for part in range(3)] == wanted
    # The same of Python objects.
    parts = {"sgd": sl.SGD(1.0, optimizer=sl.Adam(0.1, 1.0)), "sme": sl.SME(1.0, optimizer=sl.Momentum(0.1), clip=3.0)}
    problem = planned({"dynamics.step": [1.0]}).shared.recipe.build({"dynamics.step": 1.0}, 0, None).problem
    given = {"problem": problem, "dynamics": {**parts, "flow": sl.GradientFlow()}, "run": {"horizon": 1.0}}
    build = plan.from_base(given, {field: [value] for field, value in at.items()}).shared.recipe.build
    assert [build(at, part, None).dynamics for part in range(3)] == wanted


def test_a_sweep_over_memory(tmp_path):
    table = {"kind": "mini_batch_gd", "step": 0.1, "fraction": 0.5, "optimizer": MOMENTUM}
    made = planned({"dynamics.optimizer.memory": [0.1, 0.3, 0.9]}, {"dynamics": [table]})
    filled = store.Store(tmp_path / "s.zarr", made)
    for unit in made.units():
        filled.write(unit, outcome(made, made.design.at(unit.index), unit.kind, unit.part))
    filled.close()
    read = reading.read(tmp_path / "s.zarr")
    assert (read.axes[0].name, read.axes[0].values.tolist()) == ("memory", [0.1, 0.3, 0.9])
    risks = read.panels[0].value
    assert (np.diff(risks) > 0.01).all()  # so early, a longer memory has learnt less


def test_functions_stay_the_same_from_point_to_point():
    build = planned({"problem.sample_ratio": [1.0, 2.0]}).shared.recipe.build
    one, other = (build({"problem.sample_ratio": ratio}, 0, None).problem for ratio in (1.0, 2.0))
    noisier = build({"problem.parameters.noise": 0.1}, 0, None).problem
    assert (one.loss, one.label) == (other.loss, other.label) == (noisier.loss, noisier.label)
    assert one.noise != noisier.noise


def test_epochs_last_as_long_as_the_steps_make_them():
    changed = {"dynamics": [{"kind": "sgd"}, {"kind": "gradient_flow"}, {"kind": "sme", "step": 8.0}], "run": {"rtol": 0.2}}
    made = planned({"dynamics.sgd.step": [0.5, 2.0]}, changed, epochs=10.0)
    horizons = [made.shared.recipe.build({"dynamics.sgd.step": 2.0}, part, 10.0).horizon for part in range(3)]
    assert horizons == [30.0, 30.0, 120.0]  # flow follows the first that has steps
    assert made.shared.clock == "epoch"
    assert made.shared.times(made.shared.recipe.build({"dynamics.sgd.step": 2.0}, 0, 10.0))[[0, -1]].tolist() == [0.0, 30.0]


def test_python_objects_take_the_same_axes():
    model = sl.models.linear_regression()
    problem = sl.Problem(model.loss, model.label, model.noise, 1.5, sl.GaussianTeacher([[2.25]]), sl.Init([[0.0]], [[1.0]]))
    given = {"problem": problem, "dynamics": {"a": sl.SGD(1.0), "flow": sl.GradientFlow()}, "run": {"horizon": 1.0}}
    made = plan.from_base(
        given, {"dynamics.step": [1.0, 2.0], "problem.penalty.ridge": [0.1], "problem.init.cov": [2.0], "run.horizon": [1, 2]}
    )
    at = made.shared.recipe.build(
        {"dynamics.step": 2.0, "problem.penalty.ridge": 0.1, "problem.init.cov": 2.0, "run.horizon": 2.0}, 0, None
    )
    assert (at.dynamics, at.problem.ridge, at.problem.init.cov.tolist(), at.horizon) == (sl.SGD(2.0), 0.1, [[2.0]], 2.0)
    assert at.problem.loss is model.loss
    assert made.shared.clock == "fraction"
    assert made.parts == ("a", "flow")


REFUSED = {
    "memory of no optimizer": (({"dynamics.optimizer.memory": [1.0]},), "`dynamics[0].optimizer.kind` must be given, but is missing"),
    "misspelt noise": (({"dynamics.temprature": [1.0]},), "but is 'dynamics.temprature' (did you mean `temperature`?)"),
    "memory out of range": (
        ({"dynamics.optimizer.memory": [1.0, -1.0]}, {"dynamics": [{"kind": "sgd", "step": 1.0, "optimizer": MOMENTUM}]}),
        "but at dynamics.optimizer.memory = -1 they are not: `dynamics[0].optimizer.memory` must not be negative",
    ),
    "no axes": (({},), "`sweep.axes` must have at least one entry, but is empty"),
    "unknown field": (({"problem.sample_ration": [1.0]},), "`problem.sample_ration` must be a known setting, but is not one (did you mean"),
    "unknown table": (
        ({"teacher.cov": [1.0]},),
        "`sweep.axes` must name numeric fields of problem, dynamics, run or simulation, but is 'teacher.cov'",
    ),
    "words": (({"problem.model": [1.0]},), "`sweep.axes.problem.model` must name a numeric field"),
    "no numbers": (({"problem.sample_ratio": ["1"]},), "`sweep.axes.problem.sample_ratio` must be a list of numbers"),
    "twice": (({"problem.sample_ratio": [1, 1.0]},), "`sweep.axes.problem.sample_ratio` must have each value once"),
    "no points": (({"dynamics.step": {"from": 1, "to": 2}},), "`sweep.axes.dynamics.step.points` must be given, but is missing"),
    "misspelt": (({"dynamics.step": {"from": 1, "to": 2, "ponts": 3}},), "`sweep.axes.dynamics.step.ponts` must be a known setting"),
    "log of zero": (({"dynamics.step": {"from": 0, "to": 2, "points": 3, "scale": "log"}},), "must lie above zero on a logarithmic scale"),
    "out of range": (
        ({"problem.sample_ratio": [1.0, -1.0]},),
        "but at problem.sample_ratio = -1 they are not: `problem.sample_ratio` must be positive",
    ),
    "unequal lists": (
        ({"dynamics.step": [1.0, 2.0], "problem.sample_ratio": [1.0]}, {}, {"design": "list"}),
        "must have one number of values",
    ),
    "points of a grid": (({"dynamics.step": [1.0]}, {}, {"points": 3}), "`sweep.points` must be left out of a grid or a list, but is 3"),
    "drawn without points": (({"dynamics.step": STEPS}, {}, {"design": "random"}), "`sweep.points` must be given for the random design"),
    "drawn from a list": (
        ({"dynamics.step": [1.0]}, {}, {"design": "random", "points": 2}),
        "must have from and to, and no points of its own",
    ),
    "unknown design": (
        ({"dynamics.step": [1.0]}, {}, {"design": "sobol"}),
        "`sweep.design` must be one of grid, list, random, latin_hypercube",
    ),
    "epochs and horizon": (
        ({"dynamics.step": [1.0]}, {}, {"epochs": 2.0}),
        "`sweep.epochs` must be given alone, but `run.horizon` is there too",
    ),
    "epochs of flow": (
        ({"problem.sample_ratio": [1.0]}, {"dynamics": [{"kind": "gradient_flow"}], "run": {}}, {"epochs": 2.0}),
        "`sweep.epochs` must go with a dynamics that has steps",
    ),
    "nothing to do": (({"dynamics.step": [1.0]}, {}, {"theory": False}), "`sweep` must ask for theory or simulation, but asks for neither"),
    "runs of nothing": (({"dynamics.step": [1.0]}, {}, {"simulation": True}), "`simulation` must be given for real runs, but is missing"),
    "unknown dynamics": (
        ({"dynamics.step": [1.0]}, {}, {"theory": ["SDG"]}),
        "`sweep.theory` must name dynamics of the file, but is 'SDG'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_are_told_in_one_sentence(name):
    (axes, *rest), sentence = REFUSED[name]
    with pytest.raises(InputError) as refused:
        planned(axes, *(rest[:1] or [None]), **(rest[1] if len(rest) > 1 else {}))
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_schedule_has_no_epochs():
    model = sl.models.linear_regression()
    problem = sl.Problem(model.loss, model.label, model.noise, 1.5, sl.GaussianTeacher([[2.25]]), sl.Init([[0.0]], [[1.0]]))
    given = {"problem": problem, "dynamics": sl.SGD(schedules.Exponential(1.0, 2.0))}
    with pytest.raises(InputError, match=r"`sweep.epochs` must go with constant steps"):
        plan.from_base(given, {"problem.sample_ratio": [1.0]}, epochs=3.0)


def test_run_and_check_know_a_sweep():
    said = CliRunner().invoke(cli.app, ["check", str(EXAMPLES / "phase_diagram.toml")])
    assert said.exit_code == 0, said.output
    assert "points          80 (grid)" in said.output
    said = CliRunner().invoke(cli.app, ["run", str(EXAMPLES / "phase_diagram.toml")])
    assert said.exit_code == 2
    assert "has a [sweep] (sgdlimit sweep" in said.output
    said = CliRunner().invoke(cli.app, ["sweep", str(EXAMPLES / "ridge.toml")])
    assert said.exit_code == 2
    assert "must have a [sweep] section with axes, but has none" in said.output


# --- one computation -----------------------------------------------------------------------------------------------------------


def test_a_computation_is_that_of_solve():
    made = planned({"dynamics.step": [0.5, 1.0]})
    found = outcome(made, {"dynamics.step": 0.5})
    assert (found.code, found.horizon) == ("done", 0.5)
    at = made.shared.recipe.build({"dynamics.step": 0.5}, 0, None)
    seed = work.point_seed({"dynamics.step": 0.5}, 3)
    asked = sl.solve(at.problem, at.dynamics, 0.5, rtol=0.2, seed=seed)
    for name, values in found.curves.items():
        np.testing.assert_array_equal(values, asked.dataset[name].values)


def test_bits_do_not_depend_on_what_was_computed_before():
    made = planned({"dynamics.step": [0.5, 1.0]})
    first = outcome(made, {"dynamics.step": 1.0})
    outcome(made, {"dynamics.step": 0.5})
    again = outcome(planned({"dynamics.step": [1.0]}), {"dynamics.step": 1.0})
    assert all(np.array_equal(values, again.curves[name]) for name, values in first.curves.items())


def test_what_diverges_and_what_fails_is_told_and_kept(tmp_path):
    parts = [{"kind": "online_sgd"}, {"kind": "mini_batch_gd", "fraction": 0.5}]
    run = {"horizon": 40.0, "rtol": 0.2}
    made = planned({"dynamics.step": [0.01, 8.0]}, {"dynamics": parts, "run": run}, theory=["online SGD", "mini-batch GD"])
    filled = store.Store(tmp_path / "s.zarr", made)
    for unit in made.units():
        filled.write(unit, outcome(made, made.design.at(unit.index), unit.kind, unit.part))
    filled.close()
    ds = xr.open_zarr(tmp_path / "s.zarr")
    diverged, failed = ds.sel(step=8.0, dynamics="online SGD"), ds.sel(step=0.01, dynamics="mini-batch GD")
    assert diverged.status_code == "diverged"
    assert str(diverged.status.values).startswith("diverged at t = ")
    assert np.isfinite(diverged.test_risk[0])
    assert np.isnan(diverged.test_risk[-1])
    assert failed.status_code == "failed"
    assert str(failed.status.values).startswith("failed: `step` must")
    assert np.isnan(failed.test_risk).all()
    assert ds.sel(step=0.01, dynamics="online SGD").status_code == "done"


def test_a_worker_of_other_versions_is_refused():
    with pytest.raises(InputError, match=r"`--scheduler` must have workers with sgdlimit 9, but one has sgdlimit"):
        work.compute("theory", 0, {}, work.pack(planned({"dynamics.step": [1.0]}).shared), "sgdlimit 9")


# --- the store --------------------------------------------------------------------------------------------------------------


def made_up(code="done", curves=None):
    return work.Outcome(code, f"{code}: made up", 0.5, 1.0, 2.0, curves if curves is not None else {"test_risk": np.linspace(1.0, 0.5, 41)})


def test_another_sweep_is_refused_in_words(tmp_path):
    path = tmp_path / "s.zarr"
    store.Store(path, planned({"dynamics.step": [0.5, 1.0]})).close()
    store.Store(path, planned({"dynamics.step": [0.5, 1.0]})).close()
    changes = {
        "`sweep.axes.dynamics.step` was [0.5, 1.0], is [0.5, 2.0]": planned({"dynamics.step": [0.5, 2.0]}),
        "`run.rtol` was 0.2, is 0.3": planned({"dynamics.step": [0.5, 1.0]}, {"run": {"horizon": 0.5, "rtol": 0.3, "seed": 3}}),
        "`sweep.theory` was [True], is [False]": planned(
            {"dynamics.step": [0.5, 1.0]}, {"simulation": {"n_features": 100}}, theory=False, simulation=True
        ),
    }
    for sentence, other in changes.items():
        with pytest.raises(InputError) as refused:
            store.Store(path, other)
        assert "`--out` must be free or of the same sweep" in str(refused.value)
        assert sentence in str(refused.value) or "simulation" in str(refused.value)
        assert "choose another --out" in str(refused.value)


def test_something_else_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for name in ("folder", "file"):
        with pytest.raises(InputError, match="`--out` must be free or the store of this sweep, but"):
            store.Store(tmp_path / name, planned({"dynamics.step": [0.5, 1.0]}))


def test_a_store_has_one_writer(tmp_path):
    made = planned({"dynamics.step": [0.5, 1.0]})
    first = store.Store(tmp_path / "s.zarr", made)
    with pytest.raises(InputError, match="`--out` must not be in use, but another command is filling"):
        store.Store(tmp_path / "s.zarr", made)
    first.close()
    store.Store(tmp_path / "s.zarr", made).close()


def test_a_read_only_store_is_told_in_words(tmp_path):
    made = planned({"dynamics.step": [0.5, 1.0]})
    store.Store(tmp_path / "s.zarr", made).close()
    (tmp_path / "empty").mkdir()
    for folder, _, _ in os.walk(tmp_path):
        os.chmod(folder, 0o555)
    for parent in tmp_path.parents:
        if parent.owner() != "root" or parent.stat().st_mode & 0o777 == 0o700:
            os.chmod(parent, 0o755)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)  # root may write anywhere
        for path in (tmp_path / "s.zarr", tmp_path / "empty" / "new.zarr"):
            with pytest.raises(InputError, match=r"`--out` must be a directory that can be written, but .* cannot: Permission denied"):
                store.Store(path, made)
    finally:
        if root:
            os.seteuid(0)
        for folder, _, _ in os.walk(tmp_path):
            os.chmod(folder, 0o755)


def test_a_full_disk_is_told_in_words(tmp_path):
    made = planned({"dynamics.step": [0.5, 1.0]})
    filled = store.Store(tmp_path / "s.zarr", made)
    unit = next(iter(made.units()))
    future = type("Future", (), {"result": lambda self: made_up()})()
    tally = engine.Tally(2, 0)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))  # no file may grow, as on a full disk
    try:
        with pytest.raises(SolveError) as failed:
            engine._take(future, unit, filled, tally)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "cannot be written any more: File too large. When it can, 0 of 2 are in the store" in str(failed.value)
    assert filled.finished() == set()
    assert not [name for name in os.listdir(tmp_path / "s.zarr" / "test_risk") if name not in (".zarray", ".zattrs")]
    engine._take(future, unit, filled, tally)
    assert filled.finished() == {unit}
    filled.close()


def test_no_scheduler_is_told_in_words(monkeypatch):
    monkeypatch.setattr(engine, "CONNECT", "1s")
    with (
        pytest.raises(InputError, match=r"`--scheduler` must be the address of a running Dask scheduler, but is 'tcp://127.0.0.1:9'"),
        engine.cluster("tcp://127.0.0.1:9", None),
    ):
        pass


# --- pictures ---------------------------------------------------------------------------------------------------------------


def filled(path, axes, risk, changed=None, **options):
    """A store with made-up risks: `risk(values, time)` gives the curve, or how the point ended where it is a word."""
    made = planned(axes, changed, **options)
    kept = store.Store(path, made)
    for unit in made.units():
        got = risk(made.design.at(unit.index), made.shared.grid)
        curves = {} if isinstance(got, str) else {"test_risk": got, "test_risk_se": 0.01 * np.ones(41)}
        kept.write(unit, made_up(got if isinstance(got, str) else "done", curves))
    kept.close()
    return path


def valley(values, time):
    """Best at a step of the square root of the sample ratio, on a parabola in its logarithm; diverges beyond 8."""
    step, ratio = values["dynamics.step"], values.get("problem.sample_ratio", 1.0)
    end = 0.2 + 0.1 * np.log(step / np.sqrt(ratio)) ** 2
    return "diverged" if step > 9 else 1.0 + (end - 1.0) * time / time[-1]


AXES = {
    "problem.sample_ratio": [1.0, 2.0, 4.0],
    "dynamics.step": {"from": 0.25, "to": 16.0, "points": 7, "scale": "log"},
}


def test_the_ridge_is_where_the_best_values_are(tmp_path):
    read = reading.read(filled(tmp_path / "s.zarr", AXES, valley))
    assert [axis.name for axis in read.axes] == ["step", "sample_ratio"]  # what one chooses goes upwards
    at, inside = reading.ridge(read.panels[0], read.axes[0], read.most)
    np.testing.assert_allclose(at, np.sqrt([1.0, 2.0, 4.0]), rtol=1e-9)
    assert inside.all()
    assert (read.panels[0].code[-1] == "diverged").all()
    assert read.quantity == "test risk at the end"


def test_a_value_is_read_at_a_time_or_where_it_is_reached(tmp_path):
    path = filled(tmp_path / "s.zarr", AXES, valley)
    at = reading.read(path, at=0.25)
    assert at.panels[0].value[2, 0] == pytest.approx(0.6)  # half way from 1 to 0.2
    reached = reading.read(path, reach=0.6)
    assert reached.panels[0].value[2, 0] == pytest.approx(0.25)
    assert np.isnan(reached.panels[0].value[0, 2]) == (
        valley({"dynamics.step": 0.25, "problem.sample_ratio": 4.0}, np.array([0, 1]))[-1] > 0.6
    )


def test_figures_of_every_sort(tmp_path):
    grid = filled(tmp_path / "grid.zarr", AXES, valley)
    one = filled(tmp_path / "one.zarr", {"dynamics.step": AXES["dynamics.step"]}, valley)
    drawn = {"dynamics.step": {"from": 0.25, "to": 16.0, "scale": "log"}, "problem.sample_ratio": {"from": 1.0, "to": 4.0}}
    random = filled(tmp_path / "random.zarr", drawn, valley, design="random", points=20)
    files = [path.name for path in [*maps.draw_all(grid), *maps.draw_all(one), *maps.draw_all(random, tmp_path / "new")]]
    assert files == [
        f"{name}.{kind}"
        for name in ("grid-map", "grid-sections", "grid-curves", "one-sections", "one-curves", "random-map")
        for kind in ("png", "svg")
    ]
    assert (tmp_path / "new" / "random-map.png").stat().st_size > 10_000
    said = CliRunner().invoke(cli.app, ["plot", str(grid), "--out", str(tmp_path / "cli"), "--fix", "sample_ratio=2", "--at", "0.5"])
    assert said.exit_code == 0, said.output
    assert "sections.png" in said.output
    assert "map" not in said.output


def test_a_map_hatches_what_diverges(tmp_path):
    figure = maps.phase_map(reading.read(filled(tmp_path / "s.zarr", AXES, valley)))
    cells = [one for one in figure.axes[0].collections if one.get_hatch()]
    assert [len(one.get_paths()) for one in cells] == [3]
    assert "diverges" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_pictures_refuse_in_words(tmp_path):
    path = filled(tmp_path / "s.zarr", AXES, valley)
    for arguments, sentence in (
        ({"show": "test_rsk"}, "`--show` must name a curve of the store, but is 'test_rsk' (did you mean `test_risk`?)"),
        ({"at": 7.0}, "`--at` must lie between 0 and 0.5, but is 7.0"),
        ({"fix": ["stop=1"]}, "`--fix` must name an axis, but is 'stop' (did you mean `step`?)"),
        ({"fix": ["step"]}, "`--fix` must be NAME=VALUE, but is 'step'"),
        ({"reach": 0.01}, "`DIR.zarr` must have values to draw, but time t to test risk 0.01 is nowhere"),
    ):
        with pytest.raises(InputError) as refused:
            maps.draw_all(path, **arguments)
        assert sentence in str(refused.value)
    with pytest.raises(InputError, match=r"`DIR.zarr` must be the store of a sweep, but .* does not exist"):
        maps.draw_all(tmp_path / "none.zarr")


def test_real_runs_stand_in_where_there_is_no_theory(tmp_path):
    changed = {"dynamics": [{"kind": "sgd"}, {"kind": "sgd", "sampling": "reshuffle"}], "simulation": {"n_features": 50}}
    axes = {"dynamics.step": [0.5, 1.0, 2.0], "problem.sample_ratio": [1.0, 2.0]}
    path = tmp_path / "s.zarr"
    made = planned(axes, changed, theory=["SGD"], simulation=["SGD reshuffled"])
    kept = store.Store(path, made)
    for unit in made.units():
        kept.write(unit, made_up(curves={"test_risk": np.full(41, float(unit.part)), "test_risk_se": np.zeros(41)}))
    kept.close()
    read = reading.read(path)
    assert [panel.title for panel in read.panels] == ["SGD", "SGD reshuffled, real runs"]
    assert [panel.value.mean() for panel in read.panels] == [0.0, 1.0]
