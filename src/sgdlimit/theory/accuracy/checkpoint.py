"""A checkpoint: finished groups of replicates in one file, so that a solve that was killed continues and gives the same bits.

The file is an `.npz` archive without pickle. `solve.json` says which solve it belongs to, every other member is one array of one
group at one resolution. A group is appended to a copy that then takes the file's place, so a kill leaves it whole.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy

from ...compiling import jit
from ...errors import InputError, refuse
from ...files import replacing
from ...learning.dynamics import Dynamics, GradientFlow, step_at
from ...learning.problem import Problem
from ...learning.weights import SmoothPenalty
from ...version import __version__
from .levels import Level

HEADER = "solve.json"
FORMAT = "sgdlimit checkpoint 3"
FIELDS = ("nodes", "R", "C", "overlap", "train", "begun", "gap", "trained")
BROKEN = (OSError, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile)  # what a spoilt archive raises
POINTS = 96  # at which functions are compared
HIDDEN = "#"  # marks a digest, which tells whether but not how something differs

Group = Callable[[range], list[list[Level]]]


class Checkpoint:
    """The file at `path`, which belongs to the solve that `identity` describes.

    Raises:
        InputError: it belongs to another solve, was not written by one, is damaged, or cannot be written.
    """

    def __init__(self, path: Any, identity: Mapping[str, str]):
        if not isinstance(path, (str, os.PathLike)):
            raise refuse("checkpoint", "be a path", path, "a file that need not exist yet")
        self.path = Path(path)
        self._lock = threading.Lock()
        self._writable = True
        _check_place(self.path)
        if self.path.exists():
            _check_header(self.path, identity)
        else:
            with replacing(self.path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
                archive.writestr(HEADER, json.dumps({"format": FORMAT, "solve": dict(identity)}, indent=2))

    def kept(self, group: Group, place: str, resolutions: int) -> Group:
        """`group`, but what is in the file is read, and what is not is added. `place` says of which plan its replicates are."""

        def known(indices: range) -> list[list[Level]]:
            name = f"{place}/replicates={indices.start}-{indices.stop}"
            levels = self._read(name, resolutions)
            if levels is None:
                levels = group(indices)
                self._add(name, levels)
            return levels

        return known

    def _read(self, name: str, resolutions: int) -> list[list[Level]] | None:
        with self._lock:
            try:
                with zipfile.ZipFile(self.path) as archive:
                    if _member(name, 0, FIELDS[0]) not in archive.namelist():
                        return None
                    stored = [[_array(archive, _member(name, i, field)) for field in FIELDS] for i in range(resolutions)]
            except BROKEN as e:
                raise _damaged(self.path, e) from None
        by_resolution = [[Level(nodes, *parts) for parts in zip(*rest, strict=True)] for nodes, *rest in stored]
        return [list(levels) for levels in zip(*by_resolution, strict=True)]

    def _add(self, name: str, replicates: list[list[Level]]) -> None:
        """A disk that fills up on the way costs the checkpoint, not the computation."""
        with self._lock:
            if not self._writable:
                return
            try:
                with replacing(self.path) as temporary:
                    shutil.copyfile(self.path, temporary)
                    with zipfile.ZipFile(temporary, "a") as archive:
                        _append(archive, name, replicates)
            except OSError as e:
                self._writable = False
                warnings.warn(f"`checkpoint` cannot be written any more, and the solve goes on without it: {e}", stacklevel=2)


def _append(archive: zipfile.ZipFile, name: str, replicates: list[list[Level]]) -> None:
    if _member(name, 0, FIELDS[0]) in archive.namelist():  # by another process with the same checkpoint
        return
    for i, levels in enumerate(zip(*replicates, strict=True)):
        for field in FIELDS:  # replicates of a group share their nodes
            values = levels[0].nodes if field == "nodes" else np.stack([getattr(level, field) for level in levels])
            with archive.open(_member(name, i, field), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, values, allow_pickle=False)


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _member(name: str, resolution: int, field: str) -> str:
    return f"{name}/{resolution}/{field}.npy"


# --- refusals -----------------------------------------------------------------------------------------------------------


def _check_place(path: Path) -> None:
    """Before any work: that there can be a file, by making one."""
    if not path.parent.is_dir():
        raise InputError(f"`checkpoint` must be in an existing directory, but `{path.parent}` is not one (make it first)")
    if path.is_dir():
        raise InputError(f"`checkpoint` must be a file, but `{path}` is a directory (name a file in it)")
    try:
        with tempfile.NamedTemporaryFile(prefix=f".{path.stem}-", dir=path.parent):
            pass
    except OSError as e:
        raise InputError(
            f"`checkpoint` must be in a directory that can be written, but `{path.parent}` cannot: {e.strerror} (choose another)"
        ) from None


def _check_header(path: Path, identity: Mapping[str, str]) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            header = json.loads(archive.read(HEADER))
            if header["format"] != FORMAT:
                raise ValueError(f"its format is {header['format']}")
            if (spoilt := archive.testzip()) is not None:
                raise ValueError(f"{spoilt} is damaged")
            found = dict(header["solve"])
    except (*BROKEN, TypeError) as e:
        raise _damaged(path, e) from None
    for name in {**identity, **found}:
        here, there = identity.get(name, "nothing"), found.get(name, "nothing")
        if here != there:
            how = f"another `{name}`" if here.startswith(HIDDEN) or there.startswith(HIDDEN) else f"`{name}` {there} instead of {here}"
            raise InputError(f"`checkpoint` must belong to the same solve, but `{path}` has {how} (use another path or delete it)")


def _damaged(path: Path, e: Exception) -> InputError:
    return InputError(f"`checkpoint` must be a whole file that solve wrote, but `{path}` is not: {e} (use another path or delete it)")


# --- which solve it is ----------------------------------------------------------------------------------------------------


def identify(
    problem: Problem, dynamics: Dynamics, horizon: float, rtol: float, seed: int, outputs: np.ndarray, method: str
) -> dict[str, str]:
    """All that the numbers depend on, in short strings. Functions have no stable hash, so their values at fixed points stand for them."""
    teacher = problem.teacher
    return {
        "version": f"sgdlimit {__version__}, jax {jax.__version__} on {jax.default_backend()}, "
        f"numpy {np.__version__}, scipy {scipy.__version__}",
        "method": method,
        "horizon": repr(float(horizon)),
        "rtol": repr(float(rtol)),
        "seed": repr(int(seed)),
        "times": _digest("", outputs),
        "dynamics": _describe_dynamics(dynamics, horizon),
        "sample_ratio": repr(problem.sample_ratio),
        "teacher": _digest(type(teacher).__name__, teacher.cov, *(getattr(teacher, name, 0.0) for name in ("rows", "density"))),
        **_describe_spectrum(problem),
        **({} if problem.trained is None else {"trained": repr(problem.trained)}),
        "init": _digest("", problem.init.overlap, problem.init.cov),
        **_describe_functions(problem),
    }


def _describe_dynamics(dynamics: Dynamics, horizon: float) -> str:
    if isinstance(dynamics, GradientFlow) or not callable(dynamics.step):
        return repr(dynamics)
    other = [repr(getattr(dynamics, one.name)) for one in fields(dynamics) if one.name != "step"]
    return _digest(" ".join([type(dynamics).__name__, *other]), step_at(dynamics, np.linspace(0.0, horizon, 1001)))


def _describe_spectrum(problem: Problem) -> dict[str, str]:
    spectrum = problem.spectrum
    if spectrum is None:
        return {}
    return {"spectrum": _digest("", spectrum.eigenvalues, spectrum.weights, spectrum.teacher_moments(problem.teacher.cov))}


def _describe_functions(p: Problem) -> dict[str, str]:
    """Noise, label, loss and penalty at points from near zero to far out."""
    rng = np.random.default_rng(0)
    reach = np.repeat([0.2, 1.0, 4.0], POINTS // 3)[:, None]
    r, r_star = (reach * rng.standard_normal((POINTS, n)) for n in (p.k, p.k_star))
    z = p.noise_from_uniform(rng.random((POINTS, math.prod(p.noise.shape))))
    penalty = p.penalty.fn if isinstance(p.penalty, SmoothPenalty) else None

    def values(r, r_star, z):
        y = p.labels(r_star, z)
        return y, (p.slopes.loss(r, y), p.slopes.gradient(r, y)), 0.0 if penalty is None else penalty(r)

    with jax.enable_x64(True):
        label, loss, size = jit(jax.vmap(values))(r, r_star, z)
    return {
        "noise": _digest(type(p.noise).__name__, z),
        "label": _digest("", *jax.tree.leaves(label)),
        "loss": _digest("", *loss),
        "penalty": repr(p.penalty) if penalty is None else _digest("", size),
    }


def _digest(words: str, *arrays: Any) -> str:
    told = hashlib.sha256(words.encode())
    for array in map(np.asarray, arrays):
        told.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return HIDDEN + told.hexdigest()[:24]
