"""What the benchmarks share. Import it first: it pins the process to one CPU, and JAX reads that when it starts.

Timings are CPU-seconds of one thread: the process may run on one CPU only, BLAS and XLA are told to use one thread, and
`time.process_time` counts every thread there might still be.
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.setdefault("SGDLIMIT_CACHE", "off")  # what is measured cold is compiled anew
if "SGDLIMIT_BENCH_DEVICE" not in os.environ:  # set it to anything to leave JAX's choice of device and threads alone
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false").strip()
    if hasattr(os, "sched_setaffinity"):
        # The last CPU allowed: the first ones are busier with everything else.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import json
import platform
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
RESULTS = HERE / "results"
sys.path.insert(0, str(HERE.parent / "tests"))

CURVES = ("self_overlap", "overlap", "train_risk", "test_risk")
SHORT = {"sgd": "SGD", "sme": "SME", "gf": "flow"}


def timed(call: Callable):
    """Value of `call()` and its CPU-seconds."""
    start = time.process_time()
    value = call()
    return value, time.process_time() - start


def scales(truth: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The scale of each curve: its largest absolute entry."""
    return {name: float(np.abs(truth[name]).max()) for name in CURVES}


def relative_errors(curves: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Root mean square over output times and entries, over the curve's scale."""
    scale = scales(truth)
    return {name: float(np.sqrt(np.mean((np.asarray(curves[name]) - truth[name]) ** 2)) / scale[name]) for name in CURVES}


def machine() -> dict[str, object]:
    """Where and with what the numbers were measured."""
    cpu = platform.processor() or "unknown"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "cores_used": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "python": platform.python_version(),
        **{name: version(name) for name in ("sgdlimit", "jax", "jaxlib", "numpy", "scipy")},
    }


def save_json(path: Path, data: object, indent: int | None = 1) -> None:
    """Write whole or not at all, so that an interrupted benchmark can be continued."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(data, indent=indent) + "\n")
    temporary.replace(path)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def fill(marker: str, text: str) -> None:
    """Replace what stands between the two comments named `marker` in the README by `text`."""
    path = HERE / "README.md"
    page = path.read_text()
    start, end = f"<!-- {marker} -->", f"<!-- end {marker} -->"
    head, rest = page.split(start, 1)
    path.write_text(head + start + "\n\n" + text.strip() + "\n\n" + end + rest.split(end, 1)[1])
