"""Files of samples: text, Parquet and NumPy's own."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, Words, nearest, refuse
from .dialect import Reading
from .tables import Table, read_text
from .words import some

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray

MATRICES = (".npz", ".npy")
PARQUET = (".parquet", ".pq")
OTHERS = {
    ".xls": "in a spreadsheet, save as CSV", ".xlsx": "in a spreadsheet, save as CSV", ".ods": "in a spreadsheet, save as CSV",
    **dict.fromkeys((".json", ".zip", ".arff", ".mat", ".h5", ".hdf5", ".nc", ".pkl", ".feather", ".dta", ".sav", ".rds", ".rda"),
                    "save as CSV, or read it in Python and call sl.recommend"),
}  # fmt: skip


@dataclass(frozen=True)
class Samples:
    """What a file holds: features `(n, d)`, labels `(n,)`, their names, how it was read, and how its words are to be understood."""

    X: Any
    y: Any
    names: list[str] | None
    target: str
    told: list[str] = field(default_factory=list)
    decimal: str = "."
    missing: tuple[str, ...] = ()


def read(path: str | os.PathLike[str], target: str | None, reading: Reading | None = None) -> Samples:
    """Features and labels from a file.

    Text (CSV and its kin, also in gzip) is a line a sample; separator, decimal mark, encoding and whether there is a header are found out
    where `reading` does not say them. Columns without names are called 1, 2, ...; `target` -1 is the last. `.npz` holds an array of
    features under another name than `target` (`X` if there are several) and the labels under `target`. `.npy` holds one matrix, `target`
    is the number of a column, from 0.

    Raises:
        InputError: the file, its kind or the column is not there.
    """
    path, reading = Path(path), reading or Reading()
    if not path.is_file():
        raise InputError(f"`data` must be a file, but `{path}` does not exist")
    kind = path.suffix.lower()
    if kind in OTHERS:
        raise refuse("data", "be a .csv, .tsv, .txt, .parquet, .npz or .npy file", Words(path.name), OTHERS[kind])
    if kind in MATRICES + PARQUET and reading.given:
        raise refuse(reading.given[0], "be left out for a file that is not text", getattr(reading, reading.given[0]))
    try:
        if kind == ".npy":
            return Samples(*_matrix(np.load(path, allow_pickle=False), target), missing=reading.missing)
        if kind == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return Samples(*_arrays(dict(arrays), target), missing=reading.missing)
        if kind in PARQUET:
            import pandas as pd

            return Samples(*split(pd.read_parquet(path), target), missing=reading.missing)
        table = read_text(path, reading, target)
    except InputError:
        raise
    except ImportError:
        raise InputError(
            f"`data` must be a CSV file here, but is {path.name}: Parquet needs pyarrow (pip install 'sgdlimit[recommend]')"
        ) from None
    except Exception as e:
        text = str(e).strip().splitlines()
        raise InputError(f"`data` must be readable, but `{path}` is not: {text[0] if text else type(e).__name__}") from None
    if target in table.twice:
        raise refuse("target", "be one column", target, f"several have this name: --target {target}.2 is the second; rename the one meant")
    if table.numbered and target is not None and target not in table.frame.columns and not _from_the_end(target, table.frame):
        raise refuse("target", "be a column", target, _unnamed(table, target))
    return Samples(*split(table.frame, target), table.told, table.decimal, reading.missing)


def _unnamed(table: Table, target: str) -> str:
    """How to name a column of a file that names none."""
    last = len(table.first)
    at = table.first.index(target) + 1 if target in table.first else last
    where = "where it stands" if target in table.first else "the last"
    return (
        f"the first line looks like data, not names, as with --no-header, so columns are called 1 to {last}: --target {at} is {where}; "
        "--header takes that line as names"
    )


def _from_the_end(target: str, table: pd.DataFrame) -> bool:
    return re.fullmatch(r"-\d+", target) is not None and 1 <= -int(target) <= len(table.columns)


def split(table: pd.DataFrame, target: str | None) -> tuple[pd.DataFrame, Any, list[str], str]:
    """A table into features and the column of labels."""
    table = table.rename(columns=str)
    if target is None:
        raise InputError(f"`target` must name the column of labels, but is missing (columns: {some(table.columns)})")
    if target not in table.columns and _from_the_end(target, table):
        target = str(table.columns[int(target)])
    if target not in table.columns:
        raise refuse("target", "be a column", target, nearest(target, table.columns))
    if list(table.columns).count(target) > 1:
        raise refuse("target", "be one column", target, "two have this name: rename one")
    features = table.drop(columns=target)
    return features, table[target], list(features.columns), target


def _matrix(matrix: Array, target: str | None) -> tuple[Array, Array, list[str], str]:
    if matrix.ndim != 2:
        raise refuse("data", "hold one matrix, samples by columns", Words(f"an array of shape {matrix.shape}"))
    try:
        column = int(target if target is not None else "")
    except ValueError:
        raise refuse("target", "be the number of a column, from 0, for a .npy file", target, "-1 is the last one") from None
    if not -matrix.shape[1] <= column < matrix.shape[1]:
        raise refuse("target", f"be a column of the {matrix.shape[1]} there are", column, "-1 is the last one")
    column %= matrix.shape[1]
    others = [i for i in range(matrix.shape[1]) if i != column]
    return matrix[:, others], matrix[:, column], [f"column {i}" for i in others], f"column {column}"


def _arrays(arrays: dict[str, Array], target: str | None) -> tuple[Array, Array, list[str], str]:
    target = "y" if target is None and "y" in arrays else target
    if target is None or target not in arrays:
        raise refuse("target", "name an array of the file", target, nearest(str(target), arrays))
    matrices = [name for name, array in arrays.items() if array.ndim == 2 and name != target]
    name = "X" if "X" in matrices else matrices[0] if len(matrices) == 1 else None
    if name is None:
        raise InputError(f"`data` must hold one matrix of features, or one named X, but holds {some(arrays)}")
    return arrays[name], arrays[target], [f"{name}[{i}]" for i in range(arrays[name].shape[1])], target
