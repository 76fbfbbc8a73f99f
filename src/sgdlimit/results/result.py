"""What comes back: `Solution` (theory) and `Simulation` (real runs), one dataset schema, saved as one NetCDF file.

Dimensions `time, student, student_, teacher` (and `time_` for two-time kernels). Every curve `x` has a standard error
`x_se` of the same shape. Overlaps are second moments of the pre-activations of a fresh sample.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import xarray as xr

from ..checks import array, positive
from ..errors import InputError, refuse
from ..files import replacing
from ..learning.averages import Average, check_average
from .derived import DERIVED, derive
from .schema import ALONG, CURVES, KERNELS, LONG_NAMES, PATHS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEACHER_SIZE = "teacher_size"  # attribute of a dataset: the largest second moment of a teacher's pre-activation

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
    measured: ClassVar[bool] = False  # whether it is of real runs

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one NetCDF file. The file appears whole or not at all: it is written beside and renamed."""
        path = Path(path)
        if not path.parent.is_dir():
            raise InputError(f"`path` must be in an existing directory, but `{path.parent}` is not one (make it first)")
        with replacing(path) as temporary:
            self.described().to_netcdf(temporary, engine="h5netcdf")

    def described(self) -> xr.Dataset:
        """The dataset as a file has it: with kind, status and diagnostics as attributes."""
        attrs = {
            "sgdlimit_kind": type(self).__name__,
            "status_code": self.status.code,
            "status": self.status.message,
            "diagnostics": json.dumps(dict(self.diagnostics)),
        }
        return self.dataset.assign_attrs(attrs)

    def plot(self, *curves: str, ax: Axes | None = None, label: str | None = None) -> Axes:
        """Draw curves over time into one pair of Matplotlib axes: theory as lines with a band, real runs as points with bars, both of
        two standard errors. Real runs drawn over their theory get its colours, another dynamics gets others.

            ax = theory.plot("test_risk")
            runs.plot("test_risk", ax=ax)

        Arguments:
            curves: variables of `dataset`; both risks if none is named. Every distinct entry of a matrix is a line.
            ax: axes to draw into; by default those of a new pyplot figure.
            label: what the legend calls this result; by default its dynamics.

        Returns:
            The axes. `sl.plot.curves` draws all curves of several results, a panel each.

        Raises:
            InputError: the dataset has no such curve.
        """
        from . import drawing

        who = (self.training or type(self).__name__) if label is None else label
        return drawing.curves(self.dataset, curves, ax, who, label, self.measured)

    @classmethod
    def _from_dataset(cls, dataset: xr.Dataset) -> Self:
        attrs = dict(dataset.attrs)
        status = Status(attrs.pop("status_code"), attrs.pop("status"))
        diagnostics = json.loads(attrs.pop("diagnostics"))
        attrs.pop("sgdlimit_kind")
        dataset.attrs = attrs
        return cls(dataset, status, diagnostics)

    def __getstate__(self) -> dict[str, Any]:
        """Another process gets what a file holds: functions do not travel."""
        return {**self.__dict__, "law": None}

    @property
    def training(self) -> str:
        """What this is of, in words: the dynamics, and how its weights are averaged."""
        return ", ".join(self.dataset.attrs[name] for name in ("dynamics", "average") if name in self.dataset.attrs)

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.training}): {self.status}"

    def _repr_html_(self) -> str:
        from . import drawing

        return drawing.page(self)


@dataclass(frozen=True)
class Solution(Result):
    """Limit curves: `.dataset` with `<name>_se` covering sampling and discretisation together, `.status` in words,
    `.diagnostics` (nodes, samples, replicates, the error's split, seconds).

    A solution fresh from `solve` also draws paths from the limit's laws. That takes the user's functions, which no file holds
    and no other process gets: one that was loaded or sent has the curves alone.
    """

    law: Any = field(default=None, repr=False, compare=False)  # theory.laws.Law

    def sample_paths(self, n: int, seed: int = 0) -> xr.Dataset:
        """`n` independent paths of a training sample at the output times, eq. (1) of THEORY.

        Arguments:
            n: number of paths.
            seed: the same seed gives the same paths.

        Returns:
            Dataset of pre-activations `r (path, time, student)`; `w` likewise, the same path without the training on this
            sample (a fresh sample's pre-activations); the teacher's `r_star (path, teacher)`; labels `y (path, ...)`.

        Raises:
            InputError: `n` is no whole number, or the solution comes from a file.
        """
        return self._law().samples(self.dataset, _count("n", n), _count("seed", seed, 0))

    def coordinate_paths(self, n: int, seed: int = 0) -> xr.Dataset:
        """`n` paths of a coordinate, a row of the weights, at the output times, eq. (2) of THEORY.

        Under a ridge they are independent, and Gaussian given the teacher's row. Under a smooth penalty they are drawn from 4096
        coordinates, followed once more for this; beyond some thousand they repeat.

        Returns:
            Dataset of `theta (path, time, student)` and `theta_star (path, teacher)`; with a spectrum also `eigenvalue (path)`.

        Raises:
            InputError: `n` is no whole number, or the solution comes from a file.
        """
        return self._law().coordinates(self.dataset, _count("n", n), _count("seed", seed, 0))

    def averaged(self, average: Average) -> Solution:
        """The curves of the weights averaged over time (OPTIMISERS section 6), from the two-time kernels: nothing is solved again.

            theory.averaged(sl.TailAverage(0.5)).plot("test_risk", ax=theory.plot("test_risk"))

        Arguments:
            average: `ExponentialAverage(memory)` or `TailAverage(fraction)`, as `simulate(average=...)` takes it; at `t = 0` the start.

        Returns:
            A Solution at the same output times, to be held against runs with the same `average`: `correlation` is that of averages,
            `response` that of an average to a kick, and paths of samples and coordinates are averaged. Overlaps and test risk follow
            from the kernels, the train risk from sample paths. An error is not below what the curves' own errors do to an average,
            and has what the kernels, the rule along time and the paths add.

        Raises:
            InputError: this is no average, the weights are averaged already, or the solution comes from a file.
        """
        check_average(average)
        if average is None:
            raise refuse("average", "be an sl.ExponentialAverage or an sl.TailAverage", None, "sl.ExponentialAverage(memory=1.0)")
        if "average" in self.dataset.attrs:
            known = self.dataset.attrs["average"]
            raise InputError(f"`solution` must be of weights that are not averaged yet, but is of {known} (average what solve returned)")
        return self._law().averaged(self, average)

    def _law(self) -> Any:
        if self.law is None:
            raise InputError(
                "`solution` must come from solve in this session for paths and averages, but has its curves alone (solve again)"
            )
        return self.law


@dataclass(frozen=True)
class Kept:
    """Paths of some samples and coordinates of real runs: what `Simulation` draws from."""

    samples: xr.Dataset
    coordinates: xr.Dataset


@dataclass(frozen=True)
class Simulation(Result):
    """Real runs at finite size: means over repeats and their standard errors.

    One fresh from `simulate` also has the paths of samples and coordinates chosen at random, together at most `PATHS_KEPT` of each over
    all repeats. They are not in its file.
    """

    measured: ClassVar[bool] = True
    law: Kept | None = field(default=None, repr=False, compare=False)

    def sample_paths(self, n: int, seed: int = 0) -> xr.Dataset:
        """`n` of the training samples kept, of all repeats together: `r (path, time, student)`, `r_star (path, teacher)`,
        `y (path, ...)`, and which `repeat (path)` they are of. Of `OnlineSGD`, which sees a sample once, they are fresh samples.

        Raises:
            InputError: more than are kept are asked for, or the simulation comes from a file.
        """
        return self._chosen("samples", n, seed)

    def coordinate_paths(self, n: int, seed: int = 0) -> xr.Dataset:
        """`n` of the coordinates kept: `theta (path, time, student)`, `theta_star (path, teacher)`, `repeat (path)`; as `sample_paths`."""
        return self._chosen("coordinates", n, seed)

    def kept(self, what: Literal["samples", "coordinates"]) -> xr.Dataset:
        """All paths of one sort that are kept, see `sample_paths` and `coordinate_paths`, one repeat after the other."""
        if self.law is None:
            raise InputError("`runs` must come from simulate in this session for paths, but has its curves alone (simulate again)")
        return getattr(self.law, what)

    def _chosen(self, what: Literal["samples", "coordinates"], n: int, seed: int) -> xr.Dataset:
        kept = self.kept(what)
        if _count("n", n) > kept.sizes["path"]:
            raise refuse("n", f"be at most {kept.sizes['path']}, the {what} kept", n, "more features or repeats give more")
        return kept.isel(path=np.random.default_rng(_count("seed", seed, 0)).permutation(kept.sizes["path"])[:n])


def build_dataset(
    times: np.ndarray,
    curves: Mapping[str, np.ndarray],
    errors: Mapping[str, np.ndarray],
    kernels: Mapping[str, np.ndarray] | None = None,
    attrs: Mapping[str, str | float | int] | None = None,
    teacher_cov: np.ndarray | None = None,
    repeats: Mapping[str, np.ndarray] | None = None,
    common: Mapping[str, np.ndarray] | None = None,
) -> xr.Dataset:
    """The one schema of both results: `curves[name]` and its standard error `errors[name]`, time first. What follows from the
    curves (`derived`) is added, with the teacher's second moment and, where there are any, the curves of each repeat and the part of
    their errors that all repeats have in common."""
    kernels = kernels or {}
    data: dict[str, Any] = {}
    values, sizes = derive(curves, errors, teacher_cov, repeats, common)
    values, sizes = {**curves, **values}, {**errors, **sizes}
    for name, dims in (CURVES | ALONG | DERIVED).items():
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
    if "trained" in curves:
        coords["parameter"] = np.arange(np.shape(curves["trained"])[1])
    if kernels:
        coords["time_"] = ("time_", np.asarray(times, dtype=float), {"long_name": "earlier time s"})
    size = {} if teacher_cov is None else {TEACHER_SIZE: float(np.diag(teacher_cov).max())}
    return xr.Dataset(data, coords, {**(attrs or {}), **size})


def with_numbers(ds: xr.Dataset, numbers: Sequence[float]) -> xr.Dataset:
    """The dataset with the curve of `numbers (p,)` that are trained along at a rate of zero, so that they stay."""
    still = np.broadcast_to(numbers, (ds.sizes["time"], len(numbers)))
    dims, spoken = ALONG["trained"], {"long_name": LONG_NAMES["trained"]}
    error = (dims, 0.0 * still, {"long_name": "standard error of the trained"})
    return ds.assign(trained=(dims, still.copy(), spoken), trained_se=error).assign_coords(parameter=np.arange(len(numbers)))


def path_dataset(times: np.ndarray, values: Mapping[str, np.ndarray], y: Any = None) -> xr.Dataset:
    """The one schema of paths: `values` by their names in `PATHS`, and labels `y`, samples first (`y0, y1, ...` if it has parts)."""
    import jax

    data: dict[str, Any] = {name: (PATHS[name], value) for name, value in values.items()}
    parts = jax.tree.leaves(y)
    for i, part in enumerate(parts):
        part = np.asarray(part)
        data["y" if len(parts) == 1 else f"y{i}"] = (("path", *(f"label_{j}" for j in range(part.ndim - 1))), part)
    return xr.Dataset(data, {"time": ("time", np.asarray(times, dtype=float), {"long_name": "time t"})})


def labels_of(paths: xr.Dataset, label: Any, k_star: int, noise: tuple[int, ...]) -> Any:
    """The labels of paths as `label(r_star (k_star,), z)` returns them, its draws `z` of shape `noise`; samples first."""
    import jax

    tree = jax.tree.structure(jax.eval_shape(label, np.zeros(k_star), np.zeros(noise)))
    return jax.tree.unflatten(tree, [paths[part].values for part in (["y"] if "y" in paths else [f"y{i}" for i in range(tree.num_leaves)])])


def _count(name: str, value: Any, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise refuse(name, f"be a whole number, at least {least}", value)
    return int(value)


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
    horizon = positive("horizon", horizon, "time t; one epoch lasts step * sample_ratio")
    if times is None:
        return np.linspace(0.0, horizon, default)
    times = np.atleast_1d(array("times", times))
    if times.ndim != 1 or times.size == 0:
        raise InputError(f"`times` must be a list of times, but has shape {times.shape}")
    if (np.diff(times) <= 0).any():
        raise InputError(f"`times` must increase, but is {times.tolist()[:6]} (sort and drop repeats)")
    if times[0] < 0 or times[-1] > horizon * (1 + 1e-12):
        raise InputError(f"`times` must lie in [0, horizon = {horizon:g}], but reaches from {times[0]:g} to {times[-1]:g}")
    return times
