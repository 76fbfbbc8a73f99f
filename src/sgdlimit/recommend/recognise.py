"""What in a table is not what it seems: columns that count rows or tell the label, samples that outweigh all others."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from .words import columns, counted, listed, some

Array = np.ndarray

CHANCE = 9.5  # pairs of samples that whole numbers of such a range would be expected to have in common by chance
DENSE = 0.1  # of the whole numbers of its range, a column that counts has at least so many
COPY = 1e-9  # one less the squared correlation
TELLS = 0.99  # squared correlation above which a column nearly is the label
MISPLACED = 0.01  # of the smaller class
FEW_ROWS, DOMINATES, FAR = 3, 0.5, 10.0  # so few samples, so much of a column's variance, so many standard deviations of the others
NAMED = 3  # columns told of one by one
IDENTIFIER = re.compile(r"(?i:id|idx|index|uuid|guid|row|rownum|row_?id)|.*[_\W](?i:id|idx|uuid|guid)|.*[a-z](ID|Id)")


def counting(X: Array, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of the columns that number the samples, and of those that identify them by other numbers.

    Row numbers are whole, every one another, and dense: values that come from measuring would fall together now and then. Whether they
    are in order says nothing, rows may have been shuffled, and some may be gone.
    """
    numbering, identifying = [], []
    for name, values in zip(names, X.T, strict=True):
        if not np.isfinite(values).all() or (values != np.round(values)).any():
            continue
        distinct, span = len(np.unique(values)), float(values.max() - values.min()) + 1.0
        n = len(values)
        if distinct == n and n >= DENSE * span and n * n / (2.0 * span) >= CHANCE:
            numbering.append(name)
        elif IDENTIFIER.fullmatch(name) and distinct >= 0.95 * n:
            identifying.append(name)
    return numbering, identifying


def telling(X: Array, y: Array, names: Sequence[str], classes: bool) -> tuple[list[str], list[str]]:
    """Names of the columns that are the label but for shift, scale and sign, and sentences on those that nearly tell it.

    `X (n, d)` and `y (n,)` have mean zero, `X` also variance one.
    """
    r = y @ X / np.sqrt(len(y) * (y @ y))
    rest = 1.0 - r**2
    copies = [name for name, left in zip(names, rest, strict=True) if left < COPY]
    told = []
    for i in np.flatnonzero((rest >= COPY) & (r**2 > 0.09)).tolist():
        if classes and (wrong := _misplaced(X[:, i], y > 0)) is not None:
            exact = "without exception" if wrong == 0 else f"but for {counted(wrong, 'sample')}"
            told.append(f"{columns([names[i]], 'separates', '')} the two classes {exact}")
        elif not classes and r[i] ** 2 > TELLS:
            told.append(f"{columns([names[i]], 'explains', '')} {_percent(r[i] ** 2)} of the label's variance on its own")
        elif not classes and _same_order(X[:, i], y):
            told.append(f"{columns([names[i]], 'puts', '')} the samples in the same order as the label, or the opposite one")
    end = "; is it made from the label, or known only after it? (--drop COLUMN leaves it out)"
    shown = [line + end + "." for line in told[:NAMED]]
    if len(told) > NAMED:
        shown.append(f"{counted(len(told) - NAMED, 'further column')} {'does' if len(told) == NAMED + 1 else 'do'} likewise.")
    return copies, shown


def _misplaced(x: Array, positive: Array) -> int | None:
    """Samples on the wrong side of the best threshold, where they are nearly none."""
    order = np.argsort(x, kind="stable")
    ends = np.append(np.diff(x[order]) > 0, True)
    below = np.cumsum(positive[order])[ends]
    count = np.flatnonzero(ends) + 1
    total = int(positive.sum())
    right = count - below + total - below  # negative below the threshold, positive above
    wrong = int(min(len(x) - right.max(), right.min()))
    return wrong if wrong <= MISPLACED * min(total, len(x) - total) else None


def _same_order(x: Array, y: Array) -> bool:
    if len(np.unique(y)) < 10:
        return False
    steps = np.diff(np.column_stack([x, y])[np.argsort(x, kind="stable")], axis=0)
    up, same = steps[:, 1] > 0, (steps[:, 0] == 0) & (steps[:, 1] == 0)
    down = steps[:, 1] < 0
    apart = steps[:, 0] > 0
    return bool((same | (apart & up)).all() or (same | (apart & down)).all())


def outlying(X: Array) -> list[tuple[int, list[int], float]]:
    """Columns whose variance is that of a few samples: the column, their rows, their share of it."""
    rows = X if len(X) <= 4000 else X[np.linspace(0, len(X) - 1, 4000).astype(int)]
    low, middle, high = np.quantile(rows, [0.25, 0.5, 0.75], axis=0)
    unit = np.maximum(np.abs(X - middle).max(0), 1e-300)
    squares = ((X - middle) / unit) ** 2
    total = squares.sum(0)
    top = np.argpartition(-squares, FEW_ROWS, axis=0)[:FEW_ROWS]
    share = np.take_along_axis(squares, top, 0).sum(0) / np.where(total > 0, total, 1.0)
    found = []
    for i in np.flatnonzero(share > DOMINATES):
        order = top[np.argsort(-squares[top[:, i], i]), i]
        part = np.cumsum(squares[order, i]) / total[i]
        count = int(np.argmax(part > DOMINATES)) + 1
        rest = np.delete(squares[:, i], order[:count])
        usual = (high[i] - low[i]) / 1.35 / unit[i] or float(np.sqrt(rest.mean()))
        if squares[order[count - 1], i] < (FAR * usual) ** 2 or len(np.unique(X[:, i])) <= 2:  # a rare truth value is no outlier
            continue
        more = [k for k in order[count:].tolist() if squares[k, i] > (FAR * usual) ** 2]
        chosen = [*order[:count].tolist(), *more]
        found.append((int(i), sorted(chosen), float(squares[chosen, i].sum() / total[i])))
    return found


def outliers_told(X: Array, names: Sequence[str], place: Callable[[int], str]) -> list[str]:
    """Sentences on the columns of features that a few samples dominate."""
    found = sorted(outlying(X), key=lambda one: -one[2])
    told = []
    for i, rows, share in found[:NAMED]:
        where = listed([f"{X[k, i]:.4g} in {place(k)}" for k in rows])
        middle = f"{np.median(X[:, i]):.3g}"
        told.append(f"{columns([names[i]], 'is', '')} {where}, its median {middle}: {_these(rows)} {_percent(share)} of its variance.")
    if more := [names[i] for i, _, _ in found[NAMED:]]:
        told.append(f"A few samples likewise dominate {counted(len(more), 'further column')}: {some(more)}.")
    return told


def label_outliers_told(y: Array, place: Callable[[int], str]) -> str:
    """The sentence on labels that make most of the label's variance, empty if there are none."""
    for _, rows, share in outlying(y[:, None]):
        where = listed([f"{y[k]:.6g} in {place(k)}" for k in rows])
        return f"The label is {where}, its median {np.median(y):.3g}: {_these(rows)} {_percent(share)} of its variance."
    return ""


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share < 0.99 else f"{100 * share:.4g}%" if share < 0.9999 else "nearly all"


def _these(rows: Sequence[int]) -> str:
    return "this one sample makes" if len(rows) == 1 else f"these {len(rows)} samples make"
