"""What all tests share: how programs are compiled, a cache of them, new in every run, for this process, its neighbours and the commands
they start, and the order of the files."""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before JAX: else no program is kept
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: two workers' threads would wait for each other, and burn time

import gc
import sys
import threading

import jax
import pytest

from sgdlimit import compiling

# Most of the time goes into compiling programs that run for a moment. Known faults of the compiler show with these options too (the check
# in `compiling` uses such ones), and `make bench` compiles as users do. A process reads them once, before JAX's first program. Commands are
# over sooner at level 0; here real runs loop for long, and take twice as long then. Pieces of a program that are compiled at once cost more
# together, and both cores have work.
QUICK = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1 --xla_backend_optimization_level="
os.environ.setdefault("XLA_FLAGS", f"{QUICK}1")
gc.set_threshold(50_000, 20, 20)  # what traces programs makes many objects, and hardly a circle: looking for these took a twentieth


OFTEN = ("test_tune.py",)  # runs each of its few programs hundreds of times
_here = threading.local()  # whether this thread looks for a program of the theory
_quickly = {"theory": True}  # whether these are compiled so in this file


class Theory(compiling.Program):
    """Those of the theory, which are many and large and run a few times each, at level 0 as well."""

    def _for(self, *arguments):
        _here.theory = True
        try:
            return super()._for(*arguments)
        finally:
            _here.theory = False


def _jit(function, **how):
    theory = sys._getframe(1).f_globals["__name__"].startswith("sgdlimit.theory")
    return (Theory if theory else compiling.Program)(function, how)


def _options(real=compiling._options):
    return real() | ({"xla_backend_optimization_level": 0} if _quickly["theory"] and getattr(_here, "theory", False) else {})


compiling.jit, compiling._options = _jit, _options  # before any module of the package takes them

# Files in minutes, the longest first: else one core waits for the other at the end.
LONGEST = (
    "test_docs.py", "test_explore_page.py", "test_optimisers.py", "test_tune.py", "test_sweep_kills.py", "test_kinks.py",
    "test_trained_closed.py", "test_optimiser_runs.py", "test_reshuffle.py", "test_closed_optimisers.py", "test_laws.py", "test_penalty.py",
    "test_reference.py", "test_trained.py", "test_optimiser_product.py", "test_trained_runs.py", "test_regimes.py", "test_averages.py",
    "test_spectrum.py", "test_simulate.py", "test_one_run.py", "test_explore_faults.py", "test_checkpoint.py", "test_shapes.py",
    "test_gallery.py", "test_cli.py", "test_witnesses.py", "test_calibration.py", "test_no_answer.py", "test_engines.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(scope="module", autouse=True)
def level(request):
    _quickly["theory"] = request.path.name not in OFTEN


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory, worker_id):
    base = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        jax.devices()  # now flags are read
        patch.setenv("XLA_FLAGS", f"{QUICK}0")
        patch.setenv("XDG_CACHE_HOME", str((base if worker_id == "master" else base.parent) / "cache"))
        compiling.keep_programs()
        yield
