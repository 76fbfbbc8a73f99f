"""Labels made ready: what they are, what was taken from them, and a sentence on that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import Words, refuse
from .cells import cells, markers_told
from .cells import labels as classes_of
from .scaling import EXTREME, standardised, varies
from .words import counted, quoted, some

Array = np.ndarray


@dataclass(frozen=True)
class Label:
    """Labels as training sees them, what was taken from them and by what they were divided, the classes, and a sentence on that."""

    values: Array
    mean: float
    scale: float
    names: tuple[str, ...]
    told: str


def read(y: Any, classes: bool, target: str, told: list[str], decimal: str, missing: tuple[str, ...], place: Callable[[int], str]) -> Array:
    """Labels `(n,)`: numbers, NaN where missing, or classes of any kind, None where missing."""
    labels: Any = y if hasattr(y, "shape") else np.asarray(y)
    if len(labels.shape) == 2 and labels.shape[1] == 1:
        labels = labels[:, 0] if isinstance(labels, np.ndarray) else labels.iloc[:, 0]
    if len(labels.shape) != 1:
        raise refuse("y", "have one label per sample, shape (n,)", Words(f"an array of shape {tuple(labels.shape)}"))
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "biuf" and not missing:
        return labels
    import pandas as pd

    column = pd.Series(labels)
    if classes and pd.api.types.is_bool_dtype(column) and not column.isna().any():
        return column.to_numpy()
    if classes and pd.api.types.is_datetime64_any_dtype(column):
        return column.to_numpy()
    found = cells(column, decimal, missing)
    numeric = found.kind == "numbers" and not found.strange
    if not numeric and not classes:
        where = f", first in {place(found.strange[0])}" if found.strange else ""
        raise refuse(
            target, "hold numbers for this loss", Words(f"words, {quoted(found.words)}{where}" if found.words else "dates"),
            "--missing WORD counts a word as missing; --loss logistic takes two classes of any kind",
        )  # fmt: skip
    if found.kind in ("numbers", "two") and (said := markers_told(Counter({word: count for word, count in found.markers.items() if word}))):
        told.append(f"In the label {said}")
    if numeric:
        return found.values
    if found.kind == "two":
        return np.array([None if np.isnan(value) else found.words[int(value)] for value in found.values], dtype=object)
    return classes_of(column, missing)


def two_classes(labels: Array, target: str) -> Label:
    found = sorted(set(labels.tolist()), key=lambda x: (str(type(x)), x))
    shown = [f"{x:.10g}" if isinstance(x, float) else str(x) for x in found]
    if len(found) == 1:
        raise refuse(target, "have two classes", Words(f"{shown[0]} in every sample"), "a classifier needs examples of both")
    if len(found) > 2:
        raise refuse(target, "have two classes", Words(f"{len(found)} different values, {some(shown)}"),
                     "make a column that says whether a sample is in one of them, or use --loss squared for numbers")  # fmt: skip
    signs = np.where(labels == found[1], 1.0, -1.0)
    fewest = int(min((signs > 0).sum(), (signs < 0).sum()))
    if fewest < 5:
        raise refuse(target, "have at least 5 samples of each class", fewest, "nothing can be estimated from fewer")
    told = f"{shown[1]} is the positive class, {shown[0]} the negative one; {np.mean(signs > 0):.1%} of the labels are positive."
    return Label(signs, 0.0, 1.0, tuple(shown), told)


def measured(labels: Array, target: str, told: list[str]) -> Label:
    """Labels with mean zero and variance one, in other units where squares would not fit."""
    values = labels.astype(float)
    if not np.isfinite(values).all():
        raise refuse(target, "be finite", Words(f"infinite in {counted(int((~np.isfinite(values)).sum()), 'sample')}"))
    if not varies(values[:, None])[0]:
        raise refuse(target, "vary", Words(f"{values[0]:g} in every sample"), "there is nothing to learn")
    Z, mean, scale = (part[..., 0] for part in standardised(values[:, None]))
    if not 1.0 / EXTREME < scale < EXTREME:
        unit = 10.0 ** float(np.clip(np.round(np.log10(scale)), -307, 308))
        told.append(f"The label is taken in units of {unit:.0e}, since squares of such numbers do not fit; risks are in its square.")
        mean, scale = mean / unit, scale / unit
    said = f"The label was centred at {mean:.4g} and divided by its standard deviation {scale:.4g}; rates do not depend on it."
    return Label(Z, float(mean), float(scale), (), said)


def absent(labels: Array) -> Array:
    """Which samples have none, `(n,)`."""
    if labels.dtype.kind in "fcmM":
        return np.isnan(labels)
    if labels.dtype.kind in "biuUS":
        return np.zeros(len(labels), bool)
    return np.array([x is None or x != x for x in labels.tolist()])
