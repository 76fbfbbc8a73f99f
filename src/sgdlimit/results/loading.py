"""What `save` wrote, whichever result it was of."""

from __future__ import annotations

import os
from pathlib import Path

import xarray as xr

from ..errors import InputError
from .result import Simulation, Solution
from .tuned import Tuned, TunedSchedule

KINDS = {"Solution": Solution, "Simulation": Simulation}
TUNED = {"Tuned": Tuned, "TunedSchedule": TunedSchedule}


def load(path: str | os.PathLike[str]) -> Solution | Simulation | Tuned | TunedSchedule:
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
    kind = dataset.attrs.get("sgdlimit_kind")
    if kind in TUNED:
        return TUNED[kind].from_file(path, dataset)
    if kind not in KINDS:
        raise InputError(f"`path` must be a file written by save(), but `{path}` says nothing of sgdlimit")
    return KINDS[kind]._from_dataset(dataset)
