"""The user's data, made ready: read, cleaned, standardised; everything that was done to them is told in words."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, Words, nearest, refuse

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray

FEWEST = 20
MOST_MISSING = 0.5  # of a column, above which it is left out
READERS = {
    ".csv": "read_csv", ".tsv": "read_csv", ".txt": "read_csv", ".gz": "read_csv", ".parquet": "read_parquet", ".pq": "read_parquet",
    ".npz": "", ".npy": "",
}  # fmt: skip


@dataclass(frozen=True)
class Data:
    """Features and labels as training sees them.

    Attributes:
        X: `(n, d)`, every column with mean zero, and variance one if `standardised`.
        y: `(n,)`, +1 and -1 for classes; else with mean zero and variance one.
        classes: whether the labels are classes.
        names: the `d` columns kept.
        mean, scale: `(d,)`, what was taken from the columns and by what they were divided.
        label_mean, label_scale: likewise of the labels (of classes: 0 and 1).
        label_names: the classes that became -1 and +1, empty for numbers.
        target: name of the label.
        told: what was done to the data, in sentences.
    """

    X: Array
    y: Array
    classes: bool
    names: list[str]
    mean: Array
    scale: Array
    label_mean: float
    label_scale: float
    label_names: tuple[str, ...]
    target: str
    standardised: bool
    told: list[str] = field(default_factory=list)

    @property
    def n(self) -> int:
        return self.X.shape[0]

    @property
    def d(self) -> int:
        return self.X.shape[1]

    @property
    def feature_variance(self) -> float:
        """Mean over the columns, which turns a learning rate into a step."""
        return float(np.mean(self.X.var(0)))


def read(path: str | os.PathLike[str], target: str | None) -> tuple[Any, Any, list[str], str]:
    """Features `(n, d)`, labels `(n,)`, names of the columns and of the label, from a file.

    CSV (also TSV, and either in gzip) and Parquet have a header with names. `.npz` holds an array of features under another name than
    `target` (`X` if there are several) and the labels under `target`. `.npy` holds one matrix, `target` is the number of a column.

    Raises:
        InputError: the file, its kind or the column is not there.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"`data` must be a file, but `{path}` does not exist")
    kind = path.suffix.lower()
    if kind not in READERS:
        raise refuse("data", "be a .csv, .tsv, .parquet, .npz or .npy file", Words(path.name), "in a spreadsheet, save as CSV")
    try:
        if kind == ".npy":
            return _matrix(np.load(path, allow_pickle=False), target)
        if kind == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return _arrays(dict(arrays), target)
        table = _table(path, READERS[kind])
    except InputError:
        raise
    except ImportError:
        raise InputError(
            f"`data` must be a CSV file here, but is {path.name}: Parquet needs pyarrow (pip install 'sgdlimit[recommend]')"
        ) from None
    except Exception as e:
        text = str(e).strip().splitlines()
        raise InputError(f"`data` must be readable, but `{path}` is not: {text[0] if text else type(e).__name__}") from None
    return split(table, target)


def _table(path: Path, reader: str) -> pd.DataFrame:
    import pandas as pd

    if reader == "read_parquet":
        return pd.read_parquet(path)
    tabs = ".tsv" in path.suffixes
    return pd.read_csv(path, sep="\t" if tabs else ",", skipinitialspace=True)


def split(table: pd.DataFrame, target: str | None) -> tuple[pd.DataFrame, Any, list[str], str]:
    """A table into features and the column of labels."""
    table = table.rename(columns=str)
    if target is None:
        raise InputError(f"`target` must name the column of labels, but is missing (columns: {_some(table.columns)})")
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
        raise InputError(f"`data` must hold one matrix of features, or one named X, but holds {_some(arrays)}")
    return arrays[name], arrays[target], [f"{name}[{i}]" for i in range(arrays[name].shape[1])], target


def prepare(X: Any, y: Any, classes: bool, names: Sequence[str] | None = None, target: str = "y", standardise: bool = True) -> Data:
    """Clean and standardise.

    Arguments:
        X: `(n, d)`, an array or a table; a table's columns of words or dates are left out.
        y: `(n,)`, two classes of any kind, or numbers.
        classes: whether labels are classes.
        standardise: divide every column by its standard deviation; else it is only centred.

    Raises:
        InputError: fewer than 20 samples, no usable column, infinite values, labels that are not two classes or do not vary.
    """
    told: list[str] = []
    X, names = _numbers(X, names, told)
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise refuse("y", "have one label per sample, shape (n,)", Words(f"an array of shape {labels.shape}"))
    if len(labels) != len(X):
        raise refuse("y", f"have one label for each of the {len(X)} samples", Words(f"of length {len(labels)}"))
    given = ~_missing(labels)
    if not given.all():
        told.append(f"{(~given).sum()} of {len(labels)} samples have no label and were left out.")
        X, labels = X[given], labels[given]
    if len(X) < FEWEST:
        raise refuse("data", f"have at least {FEWEST} samples with a label", len(X), "nothing can be estimated from fewer")
    X, names = _complete(X, names, told)
    X, names = _distinct(X, names, told)
    mean, scale = X.mean(0), X.std(0)
    if not standardise:
        scale = np.ones_like(scale)
    told.append(
        "Every column was centred and divided by its standard deviation; the learning rates are for features treated so."
        if standardise
        else "Every column was centred, not rescaled; the learning rates are for features treated so."
    )
    X = (X - mean) / scale
    if classes:
        signs, label_names = _two_classes(labels, target)
        positive = float(np.mean(signs > 0))
        told.append(
            f"{label_names[1]} is the positive class, {label_names[0]} the negative one; {positive:.1%} of the labels are positive."
        )
        return Data(X, signs, True, names, mean, scale, 0.0, 1.0, label_names, target, standardise, told)
    values, label_mean, label_scale = _measured(labels, target)
    told.append(
        f"The label was centred at {label_mean:.4g} and divided by its standard deviation {label_scale:.4g}; rates do not depend on it."
    )
    return Data(X, values, False, names, mean, scale, label_mean, label_scale, (), target, standardise, told)


def _numbers(X: Any, names: Sequence[str] | None, told: list[str]) -> tuple[Array, list[str]]:
    """Features as floats, NaN where missing; infinite ones are refused."""
    if hasattr(X, "toarray"):
        X = X.toarray()
        told.append("The features came as a sparse matrix and were filled in.")
    if hasattr(X, "columns"):
        X, names = _numeric_columns(X, told)
    try:
        matrix = np.asarray(X, dtype=float)
    except (TypeError, ValueError):
        raise refuse(
            "X", "hold numbers", Words("an array with other things in it"), "a table may have them: its columns of words are left out"
        ) from None
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise refuse("X", "be a matrix of samples by features", Words(f"an array of shape {matrix.shape}"))
    names = [f"column {i}" for i in range(matrix.shape[1])] if names is None else [str(name) for name in names]
    infinite = np.isinf(matrix)
    if infinite.any():
        column = int(np.argmax(infinite.any(0)))
        raise refuse("X", "be finite", Words(f"infinite in {infinite.sum()} places, the first column `{names[column]}`"),
                     "a logarithm of zero or a division by it? leave them empty to have them filled in")  # fmt: skip
    return matrix, names


def _numeric_columns(table: Any, told: list[str]) -> tuple[Array, list[str]]:
    """Columns of numbers, of truth values, and of numbers written as words; the others are left out by name."""
    from importlib import import_module

    pd: Any = import_module("pandas")
    kept, left_out = {}, []
    for i, name in enumerate(map(str, table.columns)):
        column = table.iloc[:, i]
        if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
            numbers = pd.to_numeric(column).astype(float)
        elif pd.api.types.is_datetime64_any_dtype(column):
            left_out.append(name)
            continue
        else:
            numbers = pd.to_numeric(column, errors="coerce").astype(float)
            if numbers.isna().sum() > column.isna().sum() + 0.02 * len(column):
                left_out.append(name)
                continue
        kept[f"{name}.{i}" if name in kept else name] = numbers.to_numpy(dtype=float, na_value=np.nan)
    if left_out:
        told.append(f"{_columns(left_out)} not numbers and left out (encode words as numbers to use them).")
    if not kept:
        raise refuse("data", "have columns of numbers", Words(f"columns of words: {_some(left_out)}"), "encode words as numbers first")
    return np.column_stack(list(kept.values())), list(kept)


def _complete(X: Array, names: list[str], told: list[str]) -> tuple[Array, list[str]]:
    """Missing values become their column's mean; a column that mostly misses goes."""
    missing = np.isnan(X)
    if not missing.any():
        return X, names
    poor = missing.mean(0) > MOST_MISSING
    if poor.any():
        left_out = [name for name, bad in zip(names, poor, strict=True) if bad]
        told.append(f"{_columns(left_out)} missing in more than half of the samples and left out.")
        X, missing, names = X[:, ~poor], missing[:, ~poor], [name for name, bad in zip(names, poor, strict=True) if not bad]
        if not names:
            raise refuse("data", "have columns that are mostly there", Words("missing in more than half of the samples in every column"))
    if missing.any():
        told.append(f"{missing.sum()} missing values ({missing.mean():.1%}) were replaced by their column's mean.")
    return np.where(missing, np.nanmean(X, axis=0), X), names


def _distinct(X: Array, names: list[str], told: list[str]) -> tuple[Array, list[str]]:
    """Without constant columns and copies, up to shift, scale and sign: a copy adds a feature that teaches nothing."""
    spread = X.std(0)
    varies = spread > 1e-9 * np.maximum(np.abs(X).max(0), 1e-300)
    if not varies.all():
        told.append(f"{_columns([name for name, good in zip(names, varies, strict=True) if not good])} constant and left out.")
    X, names, spread = X[:, varies], [name for name, good in zip(names, varies, strict=True) if good], spread[varies]
    if not names:
        raise refuse("data", "have a column that varies", Words("constant in every column"))
    scaled = (X - X.mean(0)) / spread
    # Two random projections are the same for copies only; sign by the first of them.
    probe = np.random.default_rng(0).standard_normal((2, len(X))) @ scaled / np.sqrt(len(X))
    keys = np.round(probe * np.sign(probe[0]) * 1e7).astype(np.int64)
    _, first = np.unique(keys, axis=1, return_index=True)
    if len(first) < len(names):
        kept = set(first.tolist())
        told.append(f"{_columns([name for i, name in enumerate(names) if i not in kept])} copies of other columns and left out.")
        first = np.sort(first)
        X, names = X[:, first], [names[i] for i in first]
    return X, names


def _two_classes(labels: Array, target: str) -> tuple[Array, tuple[str, str]]:
    found = sorted(set(labels.tolist()), key=lambda x: (str(type(x)), x))
    if len(found) == 1:
        raise refuse(target, "have two classes", Words(f"{found[0]!r} in every sample"), "a classifier needs examples of both")
    if len(found) > 2:
        raise refuse(target, "have two classes", Words(f"{len(found)} different values, {_some(found)}"),
                     "make a column that says whether a sample is in one of them, or use --loss squared for numbers")  # fmt: skip
    signs = np.where(labels == found[1], 1.0, -1.0)
    fewest = int(min((signs > 0).sum(), (signs < 0).sum()))
    if fewest < 5:
        raise refuse(target, "have at least 5 samples of each class", fewest, "nothing can be estimated from fewer")
    return signs, (str(found[0]), str(found[1]))


def _measured(labels: Array, target: str) -> tuple[Array, float, float]:
    try:
        values = labels.astype(float)
    except (TypeError, ValueError):
        raise refuse(
            target,
            "hold numbers for this loss",
            Words(f"{_some(sorted({str(x) for x in labels.tolist()}))}"),
            "--loss logistic takes two classes of any kind",
        ) from None
    if not np.isfinite(values).all():
        raise refuse(target, "be finite", Words("infinite in some samples"))
    mean, scale = float(values.mean()), float(values.std())
    if not scale > 1e-12 * max(abs(mean), 1e-300):
        raise refuse(target, "vary", Words(f"{values[0]:g} in every sample"), "there is nothing to learn")
    return (values - mean) / scale, mean, scale


def _missing(labels: Array) -> Array:
    if labels.dtype.kind in "fc":
        return np.isnan(labels)
    if labels.dtype.kind in "biuUS":
        return np.zeros(len(labels), bool)
    return np.array([x is None or x != x or str(x) in ("", "<NA>", "nan") for x in labels.tolist()])


def _columns(names: Sequence[str]) -> str:
    return f"Column {names[0]} is" if len(names) == 1 else f"{len(names)} columns ({_some(names)}) are"


def _some(names: Any) -> str:
    names = [str(name) for name in names]
    return ", ".join(names[:4]) + (f", ... ({len(names)} in all)" if len(names) > 4 else "")
