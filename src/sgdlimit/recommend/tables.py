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
        sharp = {i for i, line in enumerate(lines) if line.lstrip().startswith(COMMENTS)}
        if 2 * len(sharp) > sum(map(bool, lines)):  # colours, numbers of tickets
            sharp = set()
        kept, empty, quoted = [], [], False
        for i, line in enumerate(lines):
            if not quoted and not line.strip():
                empty.append(i)
            elif quoted or i not in sharp:
                quoted ^= line.count('"') % 2 == 1
                kept.append(i)
        if not kept:
            return cls([], [], [])
        within = [i + 1 for i in empty if kept[0] < i < kept[-1]]
        if within:
            told.append(
                f"Line {within[0]} is empty and was skipped."
                if len(within) == 1
                else f"{len(within)} empty lines ({some(within)}) were skipped."
            )
        if sharp:
            one = len(sharp) == 1
            told.append(
                f"{counted(len(sharp), 'line')} that {'starts' if one else 'start'} with # or % {was(len(sharp))} taken as comments."
            )
        return cls([i + 1 for i in kept], [lines[i] for i in kept], [lines[i].lstrip() for i in sorted(sharp) if i < kept[0]])


@dataclass(frozen=True)
class Records:
    """Where each record is, `texts[start:end]`, how many fields it has, and how many most have."""

    marks: Dialect
    texts: list[str]
    numbers: list[int]
    spans: list[tuple[int, int]]
    widths: list[int]
    width: int

    @classmethod
    def of(cls, marks: Dialect, lines: Lines, path: Path) -> Records:
        texts = spaced(lines.texts, marks.separator)
        reader, start = marks.reader(texts), 0
        spans, widths = [], []
        try:
            for record in reader:
                spans.append((start, reader.line_num))
                widths.append(len(record))
                start = reader.line_num
        except csv.Error as e:
            raise InputError(f"`data` must be readable as a table, but {path.name} is not: {e} (a quote that is never closed?)") from None
        width = Counter(widths).most_common(1)[0][0]
        if width == 1:
            raise InputError(
                f"`data` must be readable as a table, but {path.name} has one field in most lines, such as {texts[-1][:60]!r} "
                "(--separator CHARACTER says what is between fields)"
            )
        return cls(marks, texts, lines.numbers, spans, widths, width)

    def __getitem__(self, i: int) -> list[str]:
        return self.marks.records(self.texts[slice(*self.spans[i])])[0]

    def line(self, i: int) -> int:
        """Of the file, counted from 1."""
        return self.numbers[self.spans[i][0]]


@dataclass(frozen=True)
class Header:
    """Names of the columns, the first record of the table and the first one of data, and whether names are numbers for want of any."""

    names: list[str]
    start: int
    data: int
    numbered: bool = False


def read_text(path: Path, reading: Reading, target: str | None = None) -> Table:
    """The table of a text file; `target` is the name of one of its columns, if it has names.

    Raises:
        InputError: no table can be seen in it, or lines have different numbers of fields.
    """
    told: list[str] = []
    text = decode(path.read_bytes(), reading.encoding, told, target or "")
    stated = re.match(r"sep=(.)\n", text, re.IGNORECASE)  # how spreadsheets note it
    lines = Lines.of("\n" + text[stated.end() :] if stated else text, told)
    if not lines.texts:
        raise InputError(f"`data` must be readable as a table, but {path.name} is empty")
    if lines.texts[0].lstrip().startswith(("<", "{", "[{")):
        raise InputError(
            f"`data` must be readable as a table, but {path.name} starts with {lines.texts[0].strip()[:20]!r}, as HTML or JSON do"
        )
    start = start_of(lines.texts)
    marks = dialect(start, reading.separator or (stated.group(1) if stated else None))
    records = Records.of(marks, lines, path)
    whole = [i for i, width in enumerate(records.widths) if width == records.width]
    sample = [records[i] for i in whole[: len(start)]]
    header = _header(records, whole[0], sample, lines.comments, reading.header, told)
    used = [i for i in whole if i >= header.data]
    if not used:
        raise InputError(
            f"`data` must be readable as a table, but {path.name} has a line of names, {some(header.names)}, and none below it"
        )
    _tell_ragged(path, records, header.start, used, told)
    decimal = reading.decimal or decimal_mark([cell.strip() for record in sample for cell in record], marks.separator)
    _tell_marks(path, marks, decimal, reading, told)
    frame = _parse(marks, [records.texts[k] for i in used for k in range(*records.spans[i])], records.width, decimal)
    frame.index = [records.line(i) for i in used]
    frame.index.name = "line"
    frame, twice = _named(frame, header.names, told)
    return Table(frame, told, decimal, header.numbered, [cell.strip() for cell in sample[0]] if header.numbered else [], twice)


def _header(records: Records, first: int, sample: list[list[str]], comments: list[str], wanted: bool | None, told: list[str]) -> Header:
    """`first` is the first whole record, `sample` begins with it."""
    width, data = records.width, not names_first(sample)
    if wanted is not False and first > 0 and data:
        before = records[first - 1]
        if len(before) == width + 1 and not before[-1].strip():  # only the names end in a separator
            return Header(before[:-1], first - 1, first)
        if len(before) == width - 1 and names_first([[*before, ""], *sample]):  # R's write.table does not name the names of rows
            told.append("The line of names has one less than there are columns; the first, which it leaves out, is called row names.")
            return Header(["row names", *before], first - 1, first)
    if wanted or (wanted is None and not data):
        return Header(sample[0], first, first + 1)
    if wanted is None and comments:
        comment = records.marks.records(spaced([comments[-1].lstrip("".join(COMMENTS)).strip()], records.marks.separator))
        if comment and len(comment[0]) == width and names_first([comment[0], *sample]):
            told.append("Names of the columns were taken from the comment before the data.")
            return Header(comment[0], first, first)
    if wanted is None:
        told.append(
            f"The first line looks like data, not names, so columns are called 1 to {width} (--no-header says the same, --header takes "
            "the line as names)."
        )
    return Header([str(i + 1) for i in range(width)], first, first, True)


def _tell_ragged(path: Path, records: Records, start: int, used: list[int], told: list[str]) -> None:
    """Tell of the records that are not of the table's width; too many among the others are refused."""
    at, widths, width = records.line, records.widths, records.width
    if start == 1:
        told.append(f"Line {at(0)} is not part of the table and was skipped ({counted(widths[0], 'field')} for {width}).")
    elif start > 1:
        told.append(f"{start} lines before line {at(start)} are not part of the table and were skipped.")
    after = len(widths) - 1 - used[-1]
    if after:
        are = "is" if after == 1 else "are"
        told.append(f"{counted(after, 'line')} after line {at(used[-1])} {are} not part of the table and {was(after)} left out.")
    bad = [i for i in range(start + 1, used[-1]) if widths[i] != width]
    if len(bad) > MOST_RAGGED * len(widths) + 1:
        raise InputError(
            f"`data` must have as many fields in every line, but in {path.name} {len(bad)} of {len(widths)} lines have not: line "
            f"{at(bad[0])} has {widths[bad[0]]} for {counted(width, 'column')} (a separator within words needs quotes around them; "
            "--separator if it is another)"
        )
    if len(bad) == 1:
        told.append(f"Line {at(bad[0])} has {counted(widths[bad[0]], 'field')} for {counted(width, 'column')} and was left out.")
    elif bad:
        told.append(f"{len(bad)} lines ({some(map(at, bad))}) have fewer or more than {counted(width, 'field')} and were left out.")


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
