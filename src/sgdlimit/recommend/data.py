"""The user's data, made ready: cleaned and standardised; everything that was done to them is told in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import InputError, Words, nearest, refuse
from . import labels as labels_of
from .cells import Cells, cells, number, tell
from .recognise import counting, doubtful, label_outliers_told, outliers_told, telling
from .scaling import EXTREME, standardised, varies
from .words import column as column_called
from .words import columns, counted, keeping, some, was

Array = np.ndarray

FEWEST = 20
MOST_MISSING = 0.5  # of a column, above which it is left out


def row_of(row: int) -> str:
    """As people count."""
    return f"row {row + 1}"


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
        place: where in the user's data a sample stands, in words, by its row of `X` as it was made ready.
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
    place: Callable[[int], str] = row_of

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


def prepare(
    X: Any, y: Any, classes: bool, names: Sequence[str] | None = None, target: str = "y", standardise: bool = True, *,
    keep: Sequence[str] = (), drop: Sequence[str] = (), told: Sequence[str] = (), decimal: str = ".", missing: tuple[str, ...] = (),
) -> Data:  # fmt: skip
    """Clean and standardise.

    Arguments:
        X: `(n, d)`, an array or a table; a table's columns of words or dates are left out.
        y: `(n,)`, two classes of any kind, or numbers.
        classes: whether labels are classes.
        standardise: divide every column by its standard deviation; else it is only centred.
        keep, drop: names of columns to use though they look like row numbers or copies, and of columns not to use.
        told: what was said already.
        decimal, missing: the decimal mark of words that are numbers, and further words, or numbers, that mark a missing value.

    Raises:
        InputError: fewer than 20 samples, no usable column, infinite values, labels that are not two classes or do not vary.
    """
    told = list(told)
    place = _places(X)
    X, names = _numbers(X, names, told, _Cleaning(tuple(drop), decimal, missing, place))
    labels = labels_of.read(y, classes, target, told, decimal, missing, place)
    if len(labels) != len(X):
        raise refuse("y", f"have one label for each of the {len(X)} samples", Words(f"of length {len(labels)}"))
    if len(X) < FEWEST:
        raise _too_few(len(X))
    X, names = _measurements(X, names, keep, told)
    told += doubtful(X, names, keep)
    X, labels, rows = _labelled(X, labels, told)
    there = lambda row: place(int(rows[row]))
    X, names = _complete(X, names, keep, told)
    X, names = _distinct(X, names, keep, told)
    label = labels_of.two_classes(labels, target) if classes else labels_of.measured(labels, target, told)
    Z, mean, scale = standardised(X)
    good = _not_the_label(Z, label.values, names, classes, keep, told)
    X, Z, mean, scale = X[:, good], Z[:, good], mean[good], scale[good]
    names = [name for name, kept in zip(names, good, strict=True) if kept]
    for name in keep:
        if name not in names:
            raise refuse("keep", "name columns that hold numbers, vary and are not dropped", name, nearest(name, names))
    if not classes:
        told += label_outliers_told(labels.astype(float), label.values, there)
    told += outliers_told(X, Z, names, there)
    if not standardise:
        Z, scale = Z * _bearable(scale, names), np.ones_like(scale)
    how = "divided by its standard deviation" if standardise else "not rescaled"
    told.append(f"Every column was centred{' and' if standardise else ','} {how}; the learning rates are for features treated so.")
    told.append(label.told)
    return Data(Z, label.values, classes, names, mean, scale, label.mean, label.scale, label.names, target, standardise, told, there)


def _bearable(scale: Array, names: list[str]) -> Array:
    """The columns' own scales, where squares of them can be held."""
    worst = int(np.argmax(np.abs(np.log(scale))))
    if not 1.0 / EXTREME < scale[worst] < EXTREME:
        what = f"off, and {column_called(names[worst])} has {scale[worst]:.3g}"
        raise refuse("standardise", "be on for columns of such scale", Words(what))
    return scale


@dataclass(frozen=True)
class _Cleaning:
    """What is needed to make numbers of a table."""

    drop: tuple[str, ...]
    decimal: str
    missing: tuple[str, ...]
    place: Callable[[int], str]


def _places(X: Any) -> Callable[[int], str]:
    """Where a row stands: in a line of the file, if it is known."""
    if hasattr(X, "columns") and getattr(X.index, "name", None) == "line":
        return lambda row: f"line {X.index[row]}"
    return row_of


def _numbers(X: Any, names: Sequence[str] | None, told: list[str], cleaning: _Cleaning) -> tuple[Array, list[str]]:
    """Features as floats, NaN where missing; infinite ones are refused."""
    if hasattr(X, "toarray"):
        X = X.toarray()
        told.append("The features came as a sparse matrix and were filled in.")
    if hasattr(X, "columns"):
        return _finite(*_numeric_columns(X, told, cleaning), cleaning.place)
    try:
        matrix = np.asarray(X, dtype=float)
    except (TypeError, ValueError):
        raise refuse(
            "X", "hold numbers", Words("an array with other things in it"), "a table may have them: its columns of words are left out"
        ) from None
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise refuse("X", "be a matrix of samples by features", Words(f"an array of shape {matrix.shape}"))
    names = _dropped([f"column {i}" for i in range(matrix.shape[1])] if names is None else list(map(str, names)), cleaning.drop)
    matrix = matrix[:, [name not in cleaning.drop for name in names]]
    names = [name for name in names if name not in cleaning.drop]
    for word in cleaning.missing:
        if (mark := number(word, ".")) is not None:
            matrix = np.where(matrix == mark[0], np.nan, matrix)
    return _finite(matrix, names, cleaning.place)


def _finite(matrix: Array, names: list[str], place: Callable[[int], str]) -> tuple[Array, list[str]]:
    infinite = np.isinf(matrix)
    if infinite.any():
        column = int(np.argmax(infinite.any(0)))
        places = counted(int(infinite.sum()), "place")
        raise refuse("X", "be finite", Words(f"infinite in {places}, the first {column_called(names[column])} in "
                                             f"{place(int(np.argmax(infinite[:, column])))}"),
                     "a logarithm of zero or a division by it? leave them empty to have them filled in")  # fmt: skip
    return matrix, names


def _dropped(names: Sequence[str], drop: Sequence[str]) -> list[str]:
    for name in drop:
        if name not in names:
            raise refuse("drop", "name columns", name, nearest(name, names))
    if set(names) <= set(drop):
        raise refuse("drop", "leave a column", Words(some(drop)))
    return list(names)


def _numeric_columns(table: Any, told: list[str], cleaning: _Cleaning) -> tuple[Array, list[str]]:
    """Columns of numbers, of truth values, of two words, and of numbers written as words; the others are left out by name."""
    found: dict[str, Cells] = {}
    _dropped([str(name) for name in table.columns], cleaning.drop)
    for i, name in enumerate(map(str, table.columns)):
        if name not in cleaning.drop:
            found[f"{name}.{i}" if name in found else name] = cells(table.iloc[:, i], cleaning.decimal, cleaning.missing)
    told += tell(found, cleaning.place)
    kept = {name: one.values for name, one in found.items() if one.kind in ("numbers", "two")}
    if not kept:
        raise refuse("data", "have columns of numbers", Words(f"columns of words or dates, {some(found)}"), "encode words as numbers first")
    return np.column_stack(list(kept.values())), list(kept)


def _measurements(X: Array, names: list[str], keep: Sequence[str], told: list[str]) -> tuple[Array, list[str]]:
    """Without columns that number or identify the samples: where a table is sorted by its label they tell it."""
    numbering, identifying = ([name for name in found if name not in keep] for found in counting(X, names))
    if len(numbering) + len(identifying) == len(names):  # a trend over them is all there is to learn
        (numbering or identifying).pop()
    for found, one, several in (
        (numbering, "counts the rows", "count the rows"),
        (identifying, "identifies the samples", "identify the samples"),
    ):
        if found:
            told.append(f"{columns(found, one, several)} and {was(len(found))} left out ({keeping(found)}).")
    good = [name not in numbering and name not in identifying for name in names]
    return X[:, good], [name for name, kept in zip(names, good, strict=True) if kept]


def _too_few(count: int) -> InputError:
    return refuse("data", f"have at least {FEWEST} samples with a label", count, "nothing can be estimated from fewer")


def _labelled(X: Array, labels: Array, told: list[str]) -> tuple[Array, Array, Array]:
    """Samples that have a label and a feature, and their rows."""
    given = ~labels_of.absent(labels)
    if not given.all():
        count = int((~given).sum())
        have = "has" if count == 1 else "have"
        told.append(f"{count} of {len(labels)} samples {have} no label and {was(count)} left out.")
    empty = given & np.isnan(X).all(1)
    if empty.any() and not empty[given].all():
        count = int(empty.sum())
        told.append(f"{counted(count, 'sample')} without any feature {was(count)} left out.")
    rows = np.flatnonzero(given & (~empty | empty[given].all()))
    if len(rows) < FEWEST:
        raise _too_few(len(rows))
    return X[rows], labels[rows], rows


def _complete(X: Array, names: list[str], keep: Sequence[str], told: list[str]) -> tuple[Array, list[str]]:
    """Missing values become their column's mean; a column that mostly misses goes."""
    missing = np.isnan(X)
    if not missing.any():
        return X, names
    share = missing.mean(0)
    poor = (share > MOST_MISSING) & np.array([name not in keep or part == 1.0 for name, part in zip(names, share, strict=True)])
    if poor.any():
        left_out = [name for name, bad in zip(names, poor, strict=True) if bad]
        told.append(f"{columns(left_out)} missing in more than half of the samples and left out.")
        X, missing, names = X[:, ~poor], missing[:, ~poor], [name for name, bad in zip(names, poor, strict=True) if not bad]
        if not names:
            raise refuse("data", "have columns that are mostly there", Words("missing in more than half of the samples in every column"))
    if missing.any():
        count, rows = int(missing.sum()), int(missing.any(1).sum())
        told.append(
            f"{counted(count, 'missing value')} ({100 * missing.mean():.2g}% of all, in {rows} of {len(X)} samples) "
            f"{was(count)} replaced by {'its' if count == 1 else 'their'} column's mean."
        )
    return np.where(missing, np.nanmean(X, axis=0), X), names


def _distinct(X: Array, names: list[str], keep: Sequence[str], told: list[str]) -> tuple[Array, list[str]]:
    """Without constant columns and copies, up to shift, scale and sign: a copy adds a feature that teaches nothing."""
    good = varies(X)
    if not good.all():
        same = [name for name, kept in zip(names, good, strict=True) if not kept]
        value = f"{X[0, int(np.argmin(good))]:.10g}" if len(same) == 1 else "the same"
        told.append(f"{columns(same)} {value} in every sample and {was(len(same))} left out.")
    X, names = X[:, good], [name for name, kept in zip(names, good, strict=True) if kept]
    if not names:
        raise refuse("data", "have a column that varies", Words("the same in every sample in every column"))
    # Two random projections are the same for copies only; sign by the first of them.
    probe = np.random.default_rng(0).standard_normal((2, len(X))) @ standardised(X)[0] / np.sqrt(len(X))
    keys = np.round(probe * np.sign(probe[0]) * 1e7).astype(np.int64)
    _, first, group = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    original = first[group.ravel()]
    copies = [i for i in range(len(names)) if original[i] != i and names[i] not in keep]
    if copies:
        left_out = [names[i] for i in copies]
        what = "copies of other columns" if len(copies) > 1 else f"a copy of {column_called(names[original[copies[0]]])}"
        told.append(f"{columns(left_out)} {what}, but for shift and scale, and {was(len(copies))} left out.")
    kept = [i for i in range(len(names)) if i not in set(copies)]
    return X[:, kept], [names[i] for i in kept]


def _not_the_label(Z: Array, y: Array, names: list[str], classes: bool, keep: Sequence[str], told: list[str]) -> Array:
    """Which columns `(d,)` are not the label itself; those that nearly tell it are named."""
    copies, nearly = telling(Z, y - y.mean(), names, classes)
    copies = [name for name in copies if name not in keep]
    what = "copies" if len(copies) > 1 else "a copy"
    if len(copies) == len(names):
        raise refuse("data", "have features that are not the label itself", Words(f"{what} of it, {some(copies)}"), keeping(copies))
    if copies:
        told.append(f"{columns(copies)} {what} of the label, but for shift and scale, and {was(len(copies))} left out ({keeping(copies)}).")
    told += nearly
    return np.array([name not in copies for name in names])
