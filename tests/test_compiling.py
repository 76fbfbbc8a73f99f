"""`compiling.jit` gives right numbers on faulty compilers: the known faults provoked, and faulty compilers played."""

import os
import re
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdlimit as sl
from sgdlimit import compiling

SOURCE = Path(sl.__file__).parent
WAVES = lambda *shape: np.sin(np.arange(float(np.prod(shape)))).reshape(shape)
UNKNOWN = {"xla_option_that_nobody_knows": ""}


# --- the faults themselves ---------------------------------------------------------------------------------------------------


def left_of_variance(x, y):
    return jnp.einsum("sad,sbd->sab", x, x)[..., None] - (y[:, :, None] * y[:, None]).sum(3)


def squares(x):
    return jax.vmap(lambda row: jnp.sum((jnp.eye(3, dtype=x.dtype) @ row) ** 2))(x)


def constant_products(e, c):
    return ((e @ jnp.full_like(e, c)) * e).sum(-1)


def programs():
    """The reductions of reports upstream and of ours, at sizes where a faulty release shows them: function, arguments, answer."""
    x, e = WAVES(1, 3, 39), WAVES(2, 60, 60)
    yield left_of_variance, (x, np.zeros((1, 3, 12, 8192))), np.broadcast_to((x @ x.transpose(0, 2, 1))[..., None], (1, 3, 3, 8192))
    for kind, rows in ((np.float64, 16_385), (np.float32, 32_769)):
        line = np.stack([np.arange(rows), np.zeros(rows), np.zeros(rows)], 1).astype(kind)
        yield squares, (line,), line[:, 0] ** 2
        yield constant_products, (e.astype(kind), kind(0.37)), 0.37 * e.sum(-1) ** 2


def off(compiler, function, arguments, answer) -> bool:
    with jax.enable_x64(True):
        got = np.asarray(compiler(lambda *given: function(*given))(*arguments))
    return not np.allclose(got, answer, rtol=1e-4, atol=1e-4 * np.abs(answer).max())


def wait_for_threads():
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.name.startswith("Thread-"):
            thread.join(10)


def test_programs_are_right_where_those_of_plain_jit_are_not():
    plain, ours = ([off(compiler, *program) for program in programs()] for compiler in (jax.jit, compiling.jit))
    assert not any(ours)
    assert any(plain) == compiling.needs_cure(), "the check of the compiler misses a fault that it is there to find"


def test_every_program_is_compiled_by_it():
    bare = re.compile(r"(?<!`)jax\.(jit|pmap)\b|from jax import .*\b(jit|pmap)\b|filter_jit")
    found = [path.name for path in SOURCE.rglob("*.py") if path.name != "compiling.py" and bare.search(path.read_text())]
    assert not found


# --- compilers played --------------------------------------------------------------------------------------------------------


@pytest.fixture
def compiler(monkeypatch):
    """`compiler(right_plain, right_cured)`: what the check finds from now on. Options are unknown ones, to see where they arrive."""
    compiling.needs_cure.cache_clear()
    monkeypatch.setattr(compiling, "CURE", UNKNOWN)

    def found(plain: bool, cured: bool) -> None:
        monkeypatch.setattr(compiling, "is_right", lambda options: cured if options else plain)

    yield found
    compiling.needs_cure.cache_clear()


def test_a_faulty_compiler_is_given_the_option(compiler):
    compiler(plain=False, cured=True)
    with pytest.raises(RuntimeError, match="xla_option_that_nobody_knows"):
        compiling.jit(lambda x: x + 1)(1.0)


def test_a_right_compiler_is_not(compiler):
    compiler(plain=True, cured=False)
    assert compiling.jit(lambda x: x + 1)(1.0) == 2.0


def test_where_the_option_does_not_help_nothing_is_computed(compiler):
    compiler(plain=False, cured=False)
    with pytest.raises(sl.SolveError, match=r"jaxlib must multiply and add correctly, but version \d.* \(version 0.10.1 does: pip install"):
        compiling.jit(lambda x: x + 1)(1.0)


def test_the_check_sees_a_wrong_number_and_an_unknown_option(monkeypatch):
    assert compiling.is_right(compiling.CURE if compiling.needs_cure() else {})
    assert not compiling.is_right(UNKNOWN)
    answers = compiling._answers
    monkeypatch.setattr(compiling, "_answers", lambda *arguments: (answers(*arguments)[0], 1.001 * answers(*arguments)[1]))
    assert not compiling.is_right({})


def test_a_program_inside_another_is_compiled_as_that_one_is(compiler):
    compiler(plain=False, cured=True)
    inner = compiling.jit(lambda x: 2.0 * x)
    assert jax.jit(lambda x: inner(x) + inner(np.float32(1.0)))(1.0) == 4.0
    assert jax.eval_shape(inner, 1.0).shape == ()
    assert jax.vmap(inner)(np.ones(2, np.float32)).tolist() == [2.0, 2.0]
    assert jax.grad(inner)(1.0) == 2.0


def test_elsewhere_than_on_a_cpu_nothing_is_checked(compiler, monkeypatch):
    compiler(plain=False, cured=False)
    monkeypatch.setattr(compiling, "_platform", lambda: "gpu")
    assert compiling.jit(lambda x: x + 1)(1.0) == 2.0
    done = []
    compiling.Beside()(None, lambda: done.append(1))
    wait_for_threads()
    assert done == [1]


def test_a_process_in_a_hurry_is_given_its_option_where_that_is_known(monkeypatch):
    assert compiling.may_hurry()  # with all releases allowed today
    program = compiling.jit(lambda x: x + 1)
    assert program(1.0) == 2.0
    monkeypatch.setattr(compiling, "HURRIED", UNKNOWN)
    monkeypatch.setattr(compiling, "_in_a_hurry", True)
    with pytest.raises(RuntimeError, match="xla_option_that_nobody_knows"):
        program(1.0)
    compiling.may_hurry.cache_clear()
    assert program(1.0) == 2.0
    compiling.may_hurry.cache_clear()


def test_arguments_of_jit_are_passed_on():
    program = compiling.jit(lambda x, n: x * n, static_argnames="n", donate_argnums=0)
    given = jnp.ones(4)
    assert program(given, n=3).tolist() == [3.0] * 4
    assert given.is_deleted()


COMPILED_BEFORE = "import jax; jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0); jax.jit(lambda x: x + 1)(1.0); "


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"XDG_CACHE_HOME": "cache"}, "cache/sgdlimit/jax"),
        ({"XDG_CACHE_HOME": "cache", "JAX_COMPILATION_CACHE_DIR": "mine"}, "mine"),
        ({"XDG_CACHE_HOME": "cache", "SGDLIMIT_CACHE": "off"}, "None"),
        ({"XDG_CACHE_HOME": "file"}, "None"),
        ({"XDG_CACHE_HOME": "cache", "TF_CPP_MIN_LOG_LEVEL": "1"}, "None"),
    ],
)
def test_programs_are_kept_for_the_next_process_but_where_the_user_says_otherwise(tmp_path, given, place):
    """Also where JAX has compiled something before."""
    (tmp_path / "file").write_text("no directory")
    code = (
        COMPILED_BEFORE + "from sgdlimit import compiling; compiling.KEPT = 0.0; compiling.jit(lambda x: x * 2)(1.0); "
        "print(jax.config.jax_compilation_cache_dir)"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment = clean | {"PYTHONPATH": str(SOURCE.parent), "TF_CPP_MIN_LOG_LEVEL": "3"} | given
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == place
    assert (tmp_path / "cache").exists() == (place == "cache/sgdlimit/jax")
    if place != "None":
        assert any((tmp_path / place).iterdir())


def test_what_is_done_in_a_hurry_is_done_so_inside_alone(monkeypatch):
    monkeypatch.setattr(compiling, "may_hurry", lambda: True)
    options = compiling._options()
    with compiling.hurried():
        assert compiling._options() == options | compiling.HURRIED
        with compiling.hurried(False):
            assert compiling._options() == options
    assert compiling._options() == options


def doubled(r, y):
    return (r[0] - y) ** 2


def with_a_number(r, y, a):
    return 0.5 * (jnp.tanh(r[0]) + a[0] - y) ** 2


SHAPES_KNOWN_AHEAD = {
    "SGD": (sl.SGD(0.4), {}),
    "events": (sl.SGD(0.4), {}),
    "reshuffled, with kinks": (sl.SGD(0.4, "reshuffle"), {"loss": lambda r, y: jnp.abs(r[0] - y)}),
    "SME behind a filter": (sl.SME(0.4, optimizer=sl.Momentum(0.2)), {}),
    "flow with a number": (sl.GradientFlow(), {"loss": with_a_number, "trained": sl.Trained(0.1, 0.5)}),
}
BY_EVENTS = "events", "reshuffled, with kinks"


@pytest.mark.parametrize("name", SHAPES_KNOWN_AHEAD)
def test_what_is_compiled_ahead_is_not_compiled_again(name, monkeypatch):
    dynamics, parts = SHAPES_KNOWN_AHEAD[name]
    problem = sl.Problem(
        **{"loss": doubled, "label": lambda r_star, z: r_star[0] + z, "noise": sl.Normal(), "sample_ratio": 1.5} | parts,
        teacher=sl.GaussianTeacher([[1.0]]), init=sl.Init([[0.0]], [[0.5]]),
    )  # fmt: skip
    compiled, works, faults = Counter(), [], []

    def loudly(work):
        works.append(work)
        try:
            with jax.enable_x64(True):
                work()
        except Exception as e:
            faults.append(e)

    def heard(event, _, **of):
        if event.endswith("backend_compile_duration"):
            compiled[of["fun_name"]] += 1

    monkeypatch.setattr(compiling, "_quietly", loudly)
    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        sl.solve(problem, dynamics, 0.8, rtol=0.5, method="events" if name == "events" else "auto")  # by the pilot alone
    finally:
        jax.monitoring.clear_event_listeners()
    ahead = {"jit(cross)"} if name in BY_EVENTS else {"jit(cross)", "jit(settle)"}
    assert faults == []
    assert len(works) == 1 + len(ahead)  # and the test risk
    assert {compiled[program] for program in ahead} == {1}, compiled


def test_a_program_may_be_compiled_for_shapes_alone():
    program = compiling.jit(lambda x, n: {"sum": (x * n).sum()})
    x = jnp.ones((3, 2))
    assert program.shapes(jax.ShapeDtypeStruct(x.shape, x.dtype), 2.0)["sum"].shape == ()
    program.compile(jax.ShapeDtypeStruct(x.shape, x.dtype), 2.0)
    assert program(x, 2.0)["sum"] == 12.0


def test_work_beside_is_done_once_for_every_tree_and_its_faults_are_left_to_others():
    beside, done = compiling.Beside(), []
    for like in ((jnp.ones(3), None), (jnp.zeros(3), None), (jnp.ones(4), None), (jnp.ones(4), 1)):
        beside(like, lambda: done.append(jnp.zeros(1).dtype) or 1 / 0)
    wait_for_threads()
    assert done == [jnp.float64] * 3


def test_importing_starts_no_backend():
    code = "import os; os.environ['JAX_PLATFORMS'] = 'none_such'; import sgdlimit.theory.solve, sgdlimit.simulate"
    code += ", sgdlimit.results.observables"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
