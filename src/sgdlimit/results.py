"""What comes back: `Solution` (theory) and `Simulation` (real runs), one dataset schema, saved as one NetCDF file.

Dimensions `time, student, student_, teacher` (and `time_` for two-time kernels). Every curve `x` has a standard error
`x_se` of the same shape. Overlaps are second moments of the pre-activations of a fresh sample.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import xarray as xr

from .derived import DERIVED, DERIVED_NAMES, derive
from .errors import InputError
from .files import replacing

CURVES: dict[str, tuple[str, ...]] = {
    "self_overlap": ("time", "student", "student_"),
    "overlap": ("time", "student", "teacher"),
    "train_risk": ("time",),
    "test_risk": ("time",),
}
KERNELS: dict[str, tuple[str, ...]] = {
    "correlation": ("time", "time_", "student", "student_"),
    "response": ("time", "time_", "student", "student_"),
}
LONG_NAMES = {
    "self_overlap": "self-overlap E[w w^T]",
    "overlap": "overlap E[w r*^T]",
    "train_risk": "train risk",
    "test_risk": "test risk",
    "correlation": "correlation E[theta_t theta_s^T]",
    "response": "response of theta_t to a kick at s",
} | DERIVED_NAMES

StatusCode = Literal["done", "inaccurate", "diverged"]


@dataclass(frozen=True)
class Status:
    """How a computation ended: a code to test and a sentence to read (`str(status)`)."""

    code: StatusCode
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Result:
    """Common part of `Solution` and `Simulation`."""

    dataset: xr.Dataset
    status: Status
    diagnostics: Mapping[str, Any]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one NetCDF file. The file appears whole or not at all: it is written beside and renamed."""
        path = Path(path)
        if not path.parent.is_dir():
            raise InputError(f"`path` must be in an existing directory, but `{path.parent}` is not one (make it first)")
        attrs = {
            "sgdlimit_kind": type(self).__name__,
            "status_code": self.status.code,
            "status": self.status.message,
            "diagnostics": json.dumps(dict(self.diagnostics)),
        }
        with replacing(path) as temporary:
            self.dataset.assign_attrs(attrs).to_netcdf(temporary, engine="h5netcdf")

    @classmethod
    def _from_dataset(cls, dataset: xr.Dataset) -> Self:
        attrs = dict(dataset.attrs)
        status = Status(attrs.pop("status_code"), attrs.pop("status"))
        diagnostics = json.loads(attrs.pop("diagnostics"))
        attrs.pop("sgdlimit_kind")
        dataset.attrs = attrs
        return cls(dataset, status, diagnostics)

    def __str__(self) -> str:
        settings = self.dataset.attrs.get("dynamics", "")
        return f"{type(self).__name__}({settings}): {self.status}"


@dataclass(frozen=True)
class Solution(Result):
    """Limit curves: `.dataset` with `<name>_se` covering sampling and discretisation together, `.status` in words,
    `.diagnostics` (nodes, samples, replicates, the error's split, seconds)."""


@dataclass(frozen=True)
class Simulation(Result):
    """Real runs at finite size: means over repeats and their standard errors."""


def load(path: str | os.PathLike[str]) -> Solution | Simulation:
    """Read a file written by `save`.

    Raises:
        InputError: the file does not exist or was not written by `save`.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"`path` must be a result file, but `{path}` does not exist")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as opened:
            dataset = opened.load()
    except (OSError, ValueError, KeyError) as e:
        raise InputError(f"`path` must be a NetCDF result file, but `{path}` cannot be read: {e}") from None
    kinds = {"Solution": Solution, "Simulation": Simulation}
    kind = dataset.attrs.get("sgdlimit_kind")
    if kind not in kinds:
        raise InputError(f"`path` must be a file written by save(), but `{path}` says nothing of sgdlimit")
    return kinds[kind]._from_dataset(dataset)


def build_dataset(
    times: np.ndarray,
    curves: Mapping[str, np.ndarray],
    errors: Mapping[str, np.ndarray],
    kernels: Mapping[str, np.ndarray] | None = None,
    attrs: Mapping[str, str | float | int] | None = None,
    teacher_cov: np.ndarray | None = None,
    repeats: Mapping[str, np.ndarray] | None = None,
) -> xr.Dataset:
    """The one schema of both results: `curves[name]` and its standard error `errors[name]`, time first. What follows from the
    curves (`derived`) is added, with the teacher's second moment and, where there are any, the curves of each repeat."""
    kernels = kernels or {}
    data: dict[str, Any] = {}
    values, sizes = derive(curves, errors, teacher_cov, repeats)
    values, sizes = {**curves, **values}, {**errors, **sizes}
    for name, dims in (CURVES | DERIVED).items():
        if name in values:
            data[name] = (dims, np.asarray(values[name], dtype=float), {"long_name": LONG_NAMES[name]})
            spoken = f"standard error of the {name.replace('_', ' ')}"
            data[name + "_se"] = (dims, np.asarray(sizes[name], dtype=float), {"long_name": spoken})
    for name, dims in KERNELS.items():
        if name in kernels:
            data[name] = (dims, np.asarray(kernels[name], dtype=float), {"long_name": LONG_NAMES[name]})
    k, k_star = np.shape(curves["overlap"])[1:]
    coords: dict[str, Any] = {
        "time": ("time", np.asarray(times, dtype=float), {"long_name": "time t"}),
        "student": np.arange(k),
        "student_": np.arange(k),
        "teacher": np.arange(k_star),
    }
    if kernels:
        coords["time_"] = ("time_", np.asarray(times, dtype=float), {"long_name": "earlier time s"})
    return xr.Dataset(data, coords, dict(attrs or {}))


def judge_growth(times: np.ndarray, test_risk: np.ndarray) -> Status | None:
    """A finite curve that still runs away: the test risk ends at more than twice its starting value and is still growing.
    Theory and simulation share this judgement; None means that nothing is wrong."""
    times, risk = np.asarray(times, dtype=float), np.asarray(test_risk, dtype=float)
    if len(risk) < 2 or not risk[0] > 0 or not risk[-1] > 2 * risk[0]:
        return None
    quarter = max(1, len(risk) // 4)  # averages, because a run that blows up does so in bursts
    if risk[-quarter:].mean() <= 1.02 * risk[-2 * quarter : -quarter].mean() or risk[-1] < 0.5 * risk.max():
        return None  # it has settled or turned
    lowest = int(np.argmin(risk))
    since = times[lowest + int(np.argmax(risk[lowest:] > risk[0]))]
    return Status(
        "diverged",
        f"diverging: the test risk has passed its starting value since t = {since:.3g}, ends at {risk[-1] / risk[0]:.3g}"
        " times that value and still grows (a smaller step or a penalty usually cures it)",
    )


def output_times(horizon: Any, times: Any, default: int = 41) -> np.ndarray:
    """Check `horizon` and `times`, which mean the same for theory and simulation: sorted, within [0, horizon]."""
    from .problem import _array, _positive

    horizon = _positive("horizon", horizon, "time t; one epoch lasts step * sample_ratio")
    if times is None:
        return np.linspace(0.0, horizon, default)
    times = np.atleast_1d(_array("times", times))
    if times.ndim != 1 or times.size == 0:
        raise InputError(f"`times` must be a list of times, but has shape {times.shape}")
    if (np.diff(times) <= 0).any():
        raise InputError(f"`times` must increase, but is {times.tolist()[:6]} (sort and drop repeats)")
    if times[0] < 0 or times[-1] > horizon * (1 + 1e-12):
        raise InputError(f"`times` must lie in [0, horizon = {horizon:g}], but reaches from {times[0]:g} to {times[-1]:g}")
    return times
