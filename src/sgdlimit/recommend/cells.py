"""Columns of words into numbers: missing markers, thousands, units, truth values; and what cannot be, by kind and with its words."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from .dialect import AMONG_NUMBERS, SURE
from .words import columns, counted, listed, quoted, some, was

Array = np.ndarray
Kind = Literal["numbers", "two", "dates", "different", "words", "mixed"]

FEW = 0.02  # of a column of numbers, up to which words in it, or one, count as missing
PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?")
INFINITE = re.compile(r"[+-]?(inf|infinity|∞)", re.IGNORECASE)
GROUPED = re.compile(r"([+-]?[1-9]\d{0,2})(?P<mark>[ ,.'’])\d{3}((?P=mark)\d{3})*(?P<rest>[.,]\d*)?")
SPACES = dict.fromkeys(map(ord, "\u00a0\u202f\u2009\u2007"), " ") | {0x2212: "-"}


@dataclass
class Cells:
    """One column.

    Attributes:
        kind: numbers, two words, dates, a different word in every sample, words, or words among numbers.
        values: `(n,)`, NaN where missing; for two words 0 and 1; else empty.
        words: what is not a number, commonest first; for two words the two.
        strange: places of such words in a column of numbers.
        markers: words that count as missing.
        marks: what was taken off the numbers.
    """

    kind: Kind
    values: Array
    words: list[str] = field(default_factory=list)
    strange: list[int] = field(default_factory=list)
    markers: Counter[str] = field(default_factory=Counter)
    marks: set[str] = field(default_factory=set)


def number(text: str, decimal: str) -> tuple[float, str] | None:
    """The number that a word means, and what was taken off it: a unit's sign, marks of thousands."""
    text = text.translate(SPACES).strip()
    unit = ""
    if text and not text[-1].isalnum() and (text[-1] in "%‰" or unicodedata.category(text[-1]) == "Sc"):
        unit, text = text[-1], text[:-1].rstrip()
    elif text and (at := 1 if text[0] in "+-" and len(text) > 1 else 0) < len(text) and unicodedata.category(text[at]) == "Sc":
        unit, text = text[at], text[:at] + text[at + 1 :].lstrip()
    other = "," if decimal == "." else "."
    mark = ""
    grouped = GROUPED.fullmatch(text)
    if grouped and grouped["mark"] != decimal and (grouped["rest"] or decimal).startswith(decimal):
        mark = grouped["mark"]
        text = text.replace(mark, "")
    elif other in text:
        return None
    text = text.replace(decimal, ".")
    if PLAIN.fullmatch(text):
        return float(text.replace("d", "e").replace("D", "e")), unit or mark
    return (float(text.replace("∞", "inf")), "") if INFINITE.fullmatch(text) else None


def cells(column: Any, decimal: str = ".", missing: tuple[str, ...] = ()) -> Cells:
    """A column of a table, of any type."""
    from importlib import import_module

    pd: Any = import_module("pandas")
    if pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.is_timedelta64_dtype(column):
        return Cells("dates", np.empty(0))
    extra = {word.strip().lower() for word in missing}
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
        values = pd.to_numeric(column).astype(float).to_numpy(dtype=float, na_value=np.nan)
        return _without(values, missing)
    words = column.astype(object).where(column.notna(), "").map(lambda word: str(word).strip())
    codes, uniques = pd.factorize(words)
    counts = np.bincount(codes, minlength=len(uniques))
    return _of_words([str(word) for word in uniques], codes, counts, decimal, extra)


def _without(values: Array, missing: tuple[str, ...]) -> Cells:
    """Numbers, without those that mark missing values."""
    markers: Counter[str] = Counter()
    for word in missing:
        found = number(word, ".")
        if found is not None and (hit := values == found[0]).any():
            markers[word] += int(hit.sum())
            values = np.where(hit, np.nan, values)
    return Cells("numbers", values, markers=markers)


def _of_words(uniques: list[str], codes: Array, counts: Array, decimal: str, extra: set[str]) -> Cells:
    count = dict(zip(uniques, counts.tolist(), strict=True))
    sure = {word for word in uniques if word.lower() in SURE | extra}
    readable = {mark: {word: found for word in uniques if word not in sure and (found := number(word, mark))} for mark in ".,"}
    total = lambda words: sum(count[word] for word in words)
    other = "," if decimal == "." else "."
    mark = other if total(readable[other]) > total(readable[decimal]) else decimal
    numbers = readable[mark]
    unsure = {word for word in uniques if word not in numbers and word.lower() in AMONG_NUMBERS - extra} - sure
    words = sorted((word for word in uniques if word not in numbers and word not in sure | unsure), key=lambda word: (-count[word], word))
    if total(numbers) >= total(words):  # also where nothing but markers is left
        values = np.array([numbers[word][0] if word in numbers else np.nan for word in uniques])[codes]
        few = total(words) <= max(FEW * (total(numbers) + total(words)), 1)
        strange = np.flatnonzero(np.isin(codes, [i for i, word in enumerate(uniques) if word in set(words)])).tolist()
        marks = {off for _, off in numbers.values() if off} | ({"decimal"} if mark != decimal else set())
        markers = Counter({word: count[word] for word in sure | unsure})
        return Cells("numbers" if few else "mixed", values if few else np.empty(0), words, strange, markers, marks)
    if not numbers and _dates(words):
        return Cells("dates", np.empty(0), words)
    if len(words) < 2:  # + and -, none and some
        words, unsure = sorted([*words, *unsure]), set()
    markers = Counter({word: count[word] for word in sure | (unsure if len(words) == 2 else set())})
    if len(words) == 2 and not numbers:
        words.sort(key=str.lower)
        code = {words[0]: 0.0, words[1]: 1.0}
        return Cells("two", np.array([code.get(word, np.nan) for word in uniques])[codes], words, markers=markers)
    filled = total(words) + total(numbers)
    return Cells("different" if len(words) + len(numbers) == filled > 1 else "words", np.empty(0), [*words, *numbers])


def _dates(words: list[str]) -> bool:
    """Whether nearly all of the first words are dates or times."""
    import warnings
    from importlib import import_module

    pd: Any = import_module("pandas")
    shown = [word for word in words[:200] if re.search(r"\d[^\d]+\d|^\d{4}\W?[a-zA-Z]|^\d{1,2}\W?[a-zA-Z]{3,9}", word)]
    if not words or len(shown) < 0.98 * len(words[:200]):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bool(pd.to_datetime(pd.Series(shown), errors="coerce", format="mixed", dayfirst=True, utc=True).notna().mean() >= 0.98)


def labels(column: Any, missing: tuple[str, ...] = ()) -> Array:
    """Classes of a column of words, None where there is none."""
    extra = SURE | {word.strip().lower() for word in missing}
    words = column.astype(object).where(column.notna(), "").map(lambda word: str(word).strip())
    return np.array([None if word.lower() in extra else word for word in words], dtype=object)


def markers_told(markers: Counter[str]) -> str:
    """Which words count as missing, if there are others than empty fields."""
    if all(word.lower() in ("", "nan") for word in markers):
        return ""
    ordered = sorted(markers.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"`{word}` ({count})" if word else f"empty fields ({count})" for word, count in ordered]
    return listed(shown) + (" counts" if len(shown) == 1 else " count") + " as missing."


def tell(found: dict[str, Cells], place: Any) -> list[str]:
    """What was made of the columns, in sentences; `place(i)` is where row `i` stands."""
    told = []
    of_kind = lambda kind: [name for name, one in found.items() if one.kind == kind]
    markers = sum((one.markers for one in found.values()), Counter())
    if said := markers_told(markers):
        told.append(said[0].upper() + said[1:])
    told += _marks_taken_off(found)
    for name, one in found.items():
        if one.kind == "numbers" and one.strange:
            where = f"{place(one.strange[0])}" + (f" and {counted(len(one.strange) - 1, 'other')}" if len(one.strange) > 1 else "")
            several = len(one.strange) > 1
            told.append(
                f"{columns([name], 'holds', '')} {'words' if several else 'a word'} among its numbers, {quoted(one.words)} ({where}), "
                f"which {'count' if several else 'counts'} as missing."
            )
    two = of_kind("two")
    if len(two) == 1:
        low, high = found[two[0]].words
        told.append(f"{columns(two, 'is', '')} of two words: {low} became 0, {high} became 1.")
    elif two:
        shown = [f"{name} ({', '.join(found[name].words)})" for name in two]
        told.append(f"{len(two)} columns are of two words, which became 0 and 1: {some(shown)}.")
    for name in of_kind("mixed"):
        one = found[name]
        told.append(
            f"{columns([name], 'holds', '')} words in {counted(len(one.strange), 'sample')}, {quoted(one.words)}, and was left out "
            "(--missing WORD counts a word as missing)."
        )
    if names := of_kind("words"):
        told.append(
            f"{columns(names)} not numbers ({quoted(found[names[0]].words)}) and left out (encode words as numbers to use them)."
            if len(names) == 1
            else f"{columns(names)} not numbers and left out (encode words as numbers to use them): "
            + "; ".join(f"{name} has {quoted(found[name].words)}" for name in names[:4])
            + ("; ..." if len(names) > 4 else ".")
        )
    if names := of_kind("dates"):
        told.append(f"{columns(names, 'holds', 'hold')} dates or times and {was(len(names))} left out.")
    if names := of_kind("different"):
        told.append(f"{columns(names, 'has', 'have')} another word in every sample, as names have, and {was(len(names))} left out.")
    return told


def _marks_taken_off(found: dict[str, Cells]) -> list[str]:
    told = []
    for mark in sorted({mark for one in found.values() for mark in one.marks}):
        names = [name for name, one in found.items() if mark in one.marks and one.kind == "numbers"]
        if not names:
            continue
        if mark == "decimal":
            told.append(f"{columns(names, 'has', 'have')} a decimal mark of its own and {was(len(names))} read so.")
        elif mark in " ,.'’":
            shown = {" ": "blanks", ",": "commas", ".": "points"}.get(mark, "apostrophes")
            told.append(f"{columns(names, 'has', 'have')} {shown} between thousands, which were taken off (--decimal overrules).")
        else:
            told.append(f"{columns(names, 'has', 'have')} numbers with the sign {mark}, which was taken off.")
    return told
