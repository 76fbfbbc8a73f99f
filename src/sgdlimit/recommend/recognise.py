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
FIRST_ROWS = 20  # that tell most columns out of order
SENTINELS = [sign * mark for mark in (9, 99, 999, 9999, 99999, 999999) for sign in (-1, 1)]
IDENTIFIER = re.compile(r"(?i:id|idx|index|uuid|guid|row|rownum|row_?id)|.*[_\W](?i:id|idx|uuid|guid)|.*[a-z](ID|Id)")


def counting(X: Array, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of the columns that number the samples, and of those that identify them by other numbers.

    Row numbers are whole and go up in equal steps, or every one is another and they are dense: values that come from measuring would fall
    together now and then. Whether they are in order then says nothing, rows may have been shuffled, and some may be gone.
    """
    numbering, identifying = [], []
    for name, values in zip(names, X.T, strict=True):
        if not np.isfinite(values).all() or (values != np.round(values)).any():
            continue
        distinct, span = len(np.unique(values)), float(values.max() - values.min()) + 1.0
        n = len(values)
        steps = np.diff(values)
        if (distinct == n and (steps == steps[0]).all()) or (distinct == n and n >= DENSE * span and n * n / (2.0 * span) >= CHANCE):
            numbering.append(name)
        elif IDENTIFIER.fullmatch(name) and distinct >= 0.95 * n:
            identifying.append(name)
    return numbering, identifying


def doubtful(X: Array, names: Sequence[str], known: Sequence[str]) -> list[str]:
    """Sentences on columns that are in order, and on numbers that may stand for missing values; `known` columns are the user's choice."""
    told = []
    first = np.sign(np.diff(X[:FIRST_ROWS], axis=0))
    likely = np.flatnonzero((first == first[0]).all(0) & (first[0] != 0)).tolist()
    ordered = [names[i] for i in likely if names[i] not in known and (np.diff(X[:, i]) * first[0, i] > 0).all()]
    if ordered:
        told.append(
            f"{columns(ordered, 'goes', 'go')} up or down from row to row without exception; if that is how the table was sorted or "
            "numbered, and not known of new samples, --drop COLUMN."
        )
    ends = np.isin(np.fmin.reduce(X), SENTINELS) | np.isin(np.fmax.reduce(X), SENTINELS)
    for i in np.flatnonzero(ends).tolist():
        for mark in SENTINELS:
            hit = X[:, i] == mark
            others = X[~hit & np.isfinite(X[:, i]), i]
            with np.errstate(over="ignore"):
                apart = len(others) > 0 and np.abs(others - mark).min() > max(np.ptp(others), abs(mark) / 2)
            if hit.sum() > 1 and apart:
                told.append(
                    f"{columns([names[i]], 'is', '')} {mark} in {hit.sum()} samples, far from all others; if that marks a missing value, "
                    f"--missing {mark}."
                )
    return told


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


def outlying(Z: Array) -> list[tuple[int, list[int], float]]:
    """Columns, of mean zero and variance one, whose variance is that of a few samples: the column, their rows, their share of it."""
    likely = np.flatnonzero(2 * FEW_ROWS * np.maximum(Z.max(0), -Z.min(0)) ** 2 > DOMINATES * len(Z))  # the others need no median
    return [one for i in likely.tolist() if (one := _dominated(i, Z[:, i])) is not None]


def _dominated(i: int, x: Array) -> tuple[int, list[int], float] | None:
    low, middle, high = np.quantile(x, [0.25, 0.5, 0.75])
    unit = float(np.abs(x - middle).max()) or 1.0
    squares = ((x - middle) / unit) ** 2
    order = np.argsort(-squares)[:FEW_ROWS].tolist()
    part = np.cumsum(squares[order]) / max(float(squares.sum()), 1e-300)
    if part[-1] <= DOMINATES or len(np.unique(x)) <= 2:  # a rare truth value is no outlier
        return None
    count = int(np.argmax(part > DOMINATES)) + 1
    usual = (high - low) / 1.35 / unit or float(np.sqrt(np.delete(squares, order[:count]).mean()))
    far = [k for k in order if squares[k] > (FAR * usual) ** 2]
    if len(far) < count:
        return None
    return i, sorted(far), float(squares[far].sum() / squares.sum())


def outliers_told(X: Array, Z: Array, names: Sequence[str], place: Callable[[int], str]) -> list[str]:
    """Sentences on the columns of features that a few samples dominate; `Z` are the features standardised."""
    found = sorted(outlying(Z), key=lambda one: -one[2])
    told = [f"{columns([names[i]], 'is', '')} {_said(X[:, i], rows, share, place)}" for i, rows, share in found[:NAMED]]
    if more := [names[i] for i, _, _ in found[NAMED:]]:
        told.append(f"A few samples likewise dominate {counted(len(more), 'further column')}: {some(more)}.")
    return told


def label_outliers_told(y: Array, z: Array, place: Callable[[int], str]) -> list[str]:
    """The sentence on labels that make most of the label's variance, if there are any."""
    return [f"The label is {_said(y, rows, share, place)}" for _, rows, share in outlying(z[:, None])]


def _said(x: Array, rows: Sequence[int], share: float, place: Callable[[int], str]) -> str:
    where = listed([f"{x[k]:.6g} in {place(k)}" for k in rows])
    these = "this one sample makes" if len(rows) == 1 else f"these {len(rows)} samples make"
    return f"{where}, its median {np.sort(x)[len(x) // 2]:.3g}: {these} {_percent(share)} of its variance."


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share < 0.99 else f"{100 * share:.4g}%" if share < 0.9999 else "nearly all"
