"""A text file into a table: what is not part of it is set aside, and pandas parses the rest."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .dialect import COMMENTS, NAMED, Dialect, Reading, decimal_mark, decode, dialect, names_first, spaced, start_of
from .words import column, counted, listed, some, was

if TYPE_CHECKING:
    import pandas as pd

MOST_RAGGED = 0.05  # of the lines: with more the separator is wrong or the file broken


@dataclass(frozen=True)
class Table:
    """Attributes:
    frame: words and numbers as they stand; the index holds the lines of the file.
    told: how the file was read, where that is not the plain way.
    decimal: the decimal mark.
    numbered: whether columns are called 1, 2, ... because the file does not name them.
    first: then its first line.
    twice: names that the file has more than once.
    """

    frame: pd.DataFrame
    told: list[str]
    decimal: str
    numbered: bool
    first: list[str]
    twice: list[str]


@dataclass(frozen=True)
class Lines:
    """The lines that may hold records, and the comments before the first of them."""

    numbers: list[int]
    texts: list[str]
    comments: list[str]

    @classmethod
    def of(cls, text: str, told: list[str]) -> Lines:
        """Without comments and empty lines."""
        lines = text.split("\n")
        sharp = [i for i, line in enumerate(lines) if line.lstrip().startswith(COMMENTS)]
        if 2 * len(sharp) > sum(map(bool, lines)):  # colours, numbers of tickets
            sharp = []
        skipped, started, quoted = set(sharp), False, False
        numbers, texts, before, empty, within = [], [], [], 0, 0
        for i, line in enumerate(lines):
            if not quoted and (i in skipped or not line.strip()):
                if i not in skipped:
                    empty += 1
                elif started:
                    within += 1
                else:
                    before.append(line.lstrip())
                continue
            if started and empty:
                told.append(f"{counted(empty, 'empty line')} before line {i + 1} {was(empty)} skipped.")
            quoted ^= line.count('"') % 2 == 1
            started, empty = True, 0
            numbers.append(i + 1)
            texts.append(line)
        if before or within:
            count = len(before) + within
            told.append(
                "The line that starts with # or % is taken as a comment."
                if count == 1
                else f"{count} lines that start with # or % are taken as comments."
            )
        return cls(numbers, texts, before)


def read_text(path: Path, reading: Reading) -> Table:
    """The table of a text file.

    Raises:
        InputError: no table can be seen in it, or lines have different numbers of fields.
    """
    told: list[str] = []
    text = decode(path.read_bytes(), reading.encoding, told)
    stated = re.match(r"sep=(.)\n", text, re.IGNORECASE)  # how spreadsheets note it
    separator = reading.separator or (stated.group(1) if stated else None)
    lines = Lines.of("\n" + text[stated.end() :] if stated else text, told)
    if not lines.texts:
        raise InputError(f"`data` must be readable as a table, but {path.name} is empty")
    start = start_of(lines.texts)
    marks = dialect(start, separator)
    texts = spaced(lines.texts, marks.separator)
    spans, widths = _records(marks, texts, path)
    width = Counter(widths).most_common(1)[0][0]
    if width == 1:
        raise InputError(
            f"`data` must be readable as a table, but {path.name} has one field in most lines, such as {texts[-1][:60]!r} "
            "(--separator CHARACTER says what is between fields)"
        )
    whole = [i for i, count in enumerate(widths) if count == width]
    sample = [marks.records(texts[slice(*spans[i])])[0] for i in whole[: len(start)]]
    names, skip, numbered = _header(marks, texts, spans, widths, whole, sample, lines, reading, told)
    used = whole[skip:]
    _ragged(path, widths, spans, lines, whole[0], width, used, told)
    decimal = reading.decimal or decimal_mark([cell.strip() for record in sample for cell in record], marks.separator)
    _tell_marks(path, marks, decimal, reading, told)
    frame = _parse(marks, [texts[k] for i in used for k in range(*spans[i])], width, decimal)
    frame.index = [lines.numbers[spans[i][0]] for i in used]
    frame.index.name = "line"
    frame, twice = _named(frame, names, told)
    return Table(frame, told, decimal, numbered, [cell.strip() for cell in sample[0]] if numbered else [], twice)


def _records(marks: Dialect, texts: Sequence[str], path: Path) -> tuple[list[tuple[int, int]], list[int]]:
    """First line and the one after the last of each record, and its number of fields."""
    reader, start = marks.reader(texts), 0
    spans, widths = [], []
    try:
        for record in reader:
            spans.append((start, reader.line_num))
            widths.append(len(record))
            start = reader.line_num
    except csv.Error as e:
        raise InputError(f"`data` must be readable as a table, but {path.name} is not: {e} (a quote that is never closed?)") from None
    return spans, widths


def _header(
    marks: Dialect, texts: Sequence[str], spans: list[tuple[int, int]], widths: list[int], whole: list[int], sample: list[list[str]],
    lines: Lines, reading: Reading, told: list[str],
) -> tuple[list[str], int, bool]:  # fmt: skip
    """Names of the columns, how many of the whole records they take, and whether they are numbers for want of names."""
    width = len(sample[0])
    names = reading.header if reading.header is not None else names_first(sample)
    before = whole[0] - 1
    if reading.header is not False and before >= 0 and widths[before] == width - 1 and not names_first(sample):
        short = marks.records(texts[slice(*spans[before])])[0]
        if width > 2 or names_first([[*short, ""], *sample]):  # R's write.table names no column for the names of rows
            told.append("The line of names has one less than there are columns; the first, which it leaves out, is called row names.")
            return ["row names", *short], 0, False
    if names:
        return sample[0], 1, False
    if reading.header is None and lines.comments:
        told_in = lines.comments[-1].lstrip("".join(COMMENTS)).strip()
        comment = marks.records(spaced([told_in], marks.separator))
        if comment and len(comment[0]) == width and names_first([comment[0], *sample]):
            told.append("Names of the columns were taken from the comment before the data.")
            return comment[0], 0, False
    if reading.header is None:
        told.append(
            f"The first line looks like data, not names, so columns are called 1 to {width} (--no-header says the same, --header takes "
            "the line as names)."
        )
    return [str(i + 1) for i in range(width)], 0, True


def _ragged(
    path: Path, widths: list[int], spans: list[tuple[int, int]], lines: Lines, first: int, width: int, used: list[int], told: list[str]
) -> None:
    """Tell of the records that are not of the table's width; too many are refused."""
    at = lambda i: lines.numbers[spans[i][0]]
    named = first - 1 if "row names" in (told[-1] if told else "") else first
    if named > 0:
        told.append(
            f"The file's first line is not part of the table and was skipped ({counted(widths[0], 'field')} for {width})."
            if named == 1
            else f"{named} lines before line {at(named)} are not part of the table and were skipped (fewer or more than {width} fields)."
        )
    bad = [i for i in range(first, len(widths)) if widths[i] != width]
    if not bad:
        return
    said = f"line {at(bad[0])} has {widths[bad[0]]} for {counted(width, 'column')}"
    if len(bad) > MOST_RAGGED * len(widths) + 1:
        raise InputError(
            f"`data` must have as many fields in every line, but in {path.name} {len(bad)} of {len(widths)} lines have not: {said} "
            "(a separator within words needs quotes around them; --separator if it is another)"
        )
    told.append(
        f"Line {at(bad[0])} has {counted(widths[bad[0]], 'field')} for {counted(width, 'column')} and was left out."
        if len(bad) == 1
        else f"{len(bad)} lines ({some(map(at, bad))}) have fewer or more than {counted(width, 'field')} and were left out."
    )


def _tell_marks(path: Path, marks: Dialect, decimal: str, reading: Reading, told: list[str]) -> None:
    parts = []
    plain = "\t" if {".tsv", ".tab"} & {suffix.lower() for suffix in path.suffixes} else ","
    if reading.separator is None and marks.separator != plain:
        parts.append(f"fields are separated by {NAMED.get(marks.separator, repr(marks.separator))} (--separator overrules)")
    if reading.decimal is None and decimal == ",":
        parts.append("decimals are marked by a comma (--decimal overrules)")
    if marks.quote == "'":
        parts.append("words are in single quotes")
    if parts:
        said = listed(parts)
        told.append(said[0].upper() + said[1:] + ".")


def _parse(marks: Dialect, texts: Sequence[str], width: int, decimal: str) -> pd.DataFrame:
    """Columns that are numbers throughout as numbers, the others as words."""
    import pandas as pd

    return pd.read_csv(
        io.StringIO("\n".join(texts) + "\n"), sep=r"\s+" if marks.separator == " " else marks.separator, header=None,
        names=list(range(width)), index_col=False, quotechar=marks.quote, escapechar=marks.escape, skipinitialspace=True,
        keep_default_na=False, na_values=[""], decimal=decimal, low_memory=False, skip_blank_lines=False,
    )  # fmt: skip


def _named(frame: pd.DataFrame, names: Sequence[str], told: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """The table with names for its columns, each once, and without one that a separator at the end of the lines makes; and the names that
    were there more than once."""
    names = [name.strip() for name in names]
    if not names[-1] and frame.iloc[:, -1].isna().all():
        told.append("Lines end in a separator; the empty last column is none.")
        frame, names = frame.iloc[:, :-1], names[:-1]
    found: list[str] = []
    twice = []
    for i, name in enumerate(names):
        name = name or f"column {i + 1}"
        if name in found:
            twice.append(name)
            number = 2
            while f"{name}.{number}" in [*found, *names]:
                number += 1
            told.append(f"Another {column(name)}, number {i + 1} of the table, is called {name}.{number}.")
            name = f"{name}.{number}"
        found.append(name)
    return frame.set_axis(found, axis=1), twice
