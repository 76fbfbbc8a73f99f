"""What all tests share: how programs are compiled, a cache of them, new in every run, for this process, its neighbours and the commands
they start, and the order of the files."""

import gc
import os

import jax
import pytest

from sgdlimit.settings.run import use_compilation_cache

# Most of the time goes into compiling programs that run for a moment. Known faults of the compiler show with these options too (the check
# in `compiling` uses such ones), and `make bench` compiles as users do. A process reads them once, before JAX's first program. Tests
# average over many samples, which takes longer at level 0 than what it saves; the commands that they start are over sooner. Pieces of a
# program that are compiled at once cost more together, and both cores have work.
QUICK = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1 --xla_backend_optimization_level="
os.environ.setdefault("XLA_FLAGS", f"{QUICK}1")
gc.set_threshold(50_000, 20, 20)  # what traces programs makes many objects, and hardly a circle: looking for these took a twentieth

# Files in minutes, the longest first: else one core waits for the other at the end.
LONGEST = (
    "test_optimisers.py", "test_tune.py", "test_trained.py", "test_trained_closed.py", "test_closed_optimisers.py", "test_averages.py",
    "test_witnesses.py", "test_regimes.py", "test_optimiser_product.py", "test_engines.py", "test_trained_runs.py", "test_optimiser_runs.py", "test_one_run.py",
    "test_docs.py", "test_explore_page.py", "test_reference.py", "test_reshuffle.py", "test_penalty.py", "test_kinks.py", "test_shapes.py",
    "test_sweep_kills.py", "test_spectrum.py", "test_laws.py", "test_simulate.py", "test_cli.py",
    "test_calibration.py", "test_checkpoint.py", "test_no_answer.py", "test_explore_faults.py", "test_gallery.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory, worker_id):
    base = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        jax.devices()  # now flags are read
        patch.setenv("XLA_FLAGS", f"{QUICK}0")
        patch.setenv("XDG_CACHE_HOME", str((base if worker_id == "master" else base.parent) / "cache"))
        use_compilation_cache()
        yield
