"""The names of what a result has, and the dimensions of each: one schema for theory and real runs."""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr

from .derived import DERIVED_NAMES

CURVES: dict[str, tuple[str, ...]] = {
    "self_overlap": ("time", "student", "student_"),
    "overlap": ("time", "student", "teacher"),
    "train_risk": ("time",),
    "test_risk": ("time",),
}
ALONG: dict[str, tuple[str, ...]] = {"trained": ("time", "parameter")}  # a curve of problems that train numbers along
KERNELS: dict[str, tuple[str, ...]] = {
    "correlation": ("time", "time_", "student", "student_"),
    "response": ("time", "time_", "student", "student_"),
}
LONG_NAMES = {
    "self_overlap": "self-overlap E[w w^T]",
    "overlap": "overlap E[w r*^T]",
    "train_risk": "train risk",
    "test_risk": "test risk",
    "trained": "trained numbers a",
    "correlation": "correlation E[theta_t theta_s^T]",
    "response": "response of theta_t to a kick at s",
} | DERIVED_NAMES

PATHS: dict[str, tuple[str, ...]] = {
    "r": ("path", "time", "student"),
    "w": ("path", "time", "student"),
    "r_star": ("path", "teacher"),
    "theta": ("path", "time", "student"),
    "theta_star": ("path", "teacher"),
    "eigenvalue": ("path",),
    "repeat": ("path",),
}
PATHS_KEPT = 20_000  # samples, and coordinates, of a simulation


def curves_of(*datasets: xr.Dataset) -> tuple[str, ...]:
    """The names of the curves that all of them have."""
    return tuple(name for name in CURVES | ALONG if all(name in ds for ds in datasets))


def entries(ds: xr.Dataset, curve: str) -> Iterator[tuple[str, dict[str, int]]]:
    """The distinct entries of an observable, `(name, index)`: scalars as they are, half of a symmetric matrix."""
    dims = (CURVES | ALONG)[curve][1:]
    if not dims:
        yield curve, {}
        return
    if len(dims) == 1:
        for i in range(ds.sizes[dims[0]]):
            yield curve if ds.sizes[dims[0]] == 1 else f"{curve}[{i}]", {dims[0]: i}
        return
    rows, columns = (ds.sizes[dim] for dim in dims)
    for a in range(rows):
        for b in range(a if curve == "self_overlap" else 0, columns):
            name = curve if rows == columns == 1 else f"{curve}[{a},{b}]"
            yield name, {dims[0]: a, dims[1]: b}
