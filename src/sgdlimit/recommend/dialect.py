"""How a text file writes its table: encoding, separator, decimal mark, header.

Files are parsed by pandas; what is here only decides how. `csv.Sniffer` and clevercsv find most separators, but neither finds
decimal commas, runs of blanks, title lines or comments, and their guess at a header is often wrong. A table has too few words for its
encoding to be guessed: charset-normalizer takes a German name of a column for Japanese.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import lzma
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

from ..errors import InputError, nearest, refuse

SEPARATORS = (",", "\t", ";", "|", " ")  # of equally good ones the first
NAMED = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars", " ": "blanks"}
SPOKEN = {"comma": ",", "tab": "\t", r"\t": "\t", "semicolon": ";", "bar": "|", "pipe": "|", "blank": " ", "space": " "}
SAMPLE = 400  # lines that the dialect is read from,
LONG = 200_000  # fewer of long ones: so many characters, but at least
FEWEST_LINES = 30
COMMENTS = ("#", "%")
OLD = (  # encodings that the name of the target can tell
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "koi8-r", "shift_jis", "gb18030", "big5", "euc-kr", "mac-roman", "cp850", "cp437",
)  # fmt: skip
SURE = {"", "?", "na", "n/a", "nan", "null", "<na>", "#n/a", "#div/0!", "#value!", "#ref!", "#num!", "#name?", "#null!", "nat"}
AMONG_NUMBERS = SURE | {
    "-",
    "--",
    "---",
    ".",
    "..",
    "*",
    "none",
    "nil",
    "n.a.",
    "n.a",
    "n.d.",
    "missing",
    "unknown",
    "not available",
    "undefined",
    "–",
    "—",
}
NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)*|[.,]\d+)([eEdD][+-]?\d+)?")
TYPED = re.compile(
    r"[$€£]?\s?[+-]?(\d{1,3}(?:[., '’]\d{3})+([.,]\d+)?|\d+([.,]\d*)?|[.,]\d+)([eEdD][+-]?\d+)?\s?[%$€£]?"  # numbers, with a unit's sign
    r"|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T]\d.*)?|\d{1,2}:\d{2}(:\d{2})?(\.\d+)?"  # dates, times
    r"|[^\W\d_][^,;|\t]*|[^\w\s]{0,3}"  # words, markers
)
GROUPS = r"[+-]?[1-9]\d{{0,2}}({0}\d{{3}})+"


@dataclass(frozen=True)
class Reading:
    """What the user says about a file; everything left out is found out.

    Attributes:
        separator: between fields: a character, or "tab", "blank".
        decimal: mark before the decimals, "." or ",".
        encoding: of the text, a name known to Python.
        header: whether the first line holds names.
        missing: further words, or numbers, that mark a missing value.
    """

    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    header: bool | None = None
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        separator = SPOKEN.get(str(self.separator).lower(), self.separator)
        if separator is not None and (not isinstance(separator, str) or len(separator) != 1 or separator in '"\n\r'):
            raise refuse("separator", "be one character, or tab, blank, comma, semicolon or bar", self.separator)
        if self.decimal not in (None, ".", ","):
            raise refuse("decimal", "be . or ,", self.decimal)
        if self.decimal is not None and self.decimal == separator:
            raise refuse("decimal", "not be the separator", self.decimal)
        if self.header not in (None, True, False):
            raise refuse("header", "be true or false", self.header)
        object.__setattr__(self, "separator", separator)
        object.__setattr__(self, "missing", tuple(map(str, [self.missing] if isinstance(self.missing, str) else self.missing)))

    @classmethod
    def of(cls, options: Reading | dict[str, object] | None) -> Reading:
        if isinstance(options, Reading):
            return options
        known = [field.name for field in fields(cls)]
        for name in options or {}:
            if name not in known:
                raise refuse("reading", "have known names", name, nearest(str(name), known))
        return cls(**(options or {}))  # pyright: ignore[reportArgumentType]

    @property
    def given(self) -> list[str]:
        """Options on how the text is written that are given."""
        return [name for name in ("separator", "decimal", "encoding", "header") if getattr(self, name) is not None]


def decode(raw: bytes, encoding: str | None, told: list[str], word: str = "") -> str:
    """The text of a file, compressed or not, with plain line ends; `word` is one that it should hold."""
    for magic, unpack in ((b"\x1f\x8b", gzip.decompress), (b"BZh", bz2.decompress), (b"\xfd7zXZ", lzma.decompress)):
        if raw.startswith(magic):
            raw = unpack(raw)
            break
    if encoding is not None:
        try:
            return _plain(raw.decode(encoding))
        except LookupError:
            raise refuse("encoding", "be the name of an encoding", encoding, "such as utf-8, latin-1, cp1252 or utf-16") from None
        except UnicodeError:
            raise refuse("encoding", "be that of the file", encoding, "left out, it is found out") from None
    found = _encoding(raw, word)
    if found not in ("utf-8", "utf-8-sig"):
        shown = "Windows-1252 (latin-1)" if found in ("cp1252", "latin-1") else found.upper()
        told.append(f"The file is not UTF-8 and was read as {shown}; --encoding NAME if its words look wrong.")
    return _plain(raw.decode(found))


def _plain(text: str) -> str:
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _encoding(raw: bytes, word: str) -> str:
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if raw.startswith(mark):
            return name
    start = raw[:4000]
    for name, zeros in (("utf-16-le", start[1::2]), ("utf-16-be", start[0::2])):
        if len(zeros) > 1 and zeros.count(0) > 0.7 * len(zeros):  # letters and digits have a zero in every other byte
            return name
    if 0 in start:
        raise InputError("`data` must be readable as text, but holds binary data (Parquet, .npz and .npy are known by their names)")
    for name in ("utf-8", *(name for name in OLD if not word.isascii() and _holds(raw, word, name)), "cp1252"):
        try:
            raw.decode(name)
            return name
        except UnicodeDecodeError:
            pass
    return "latin-1"


def _holds(raw: bytes, word: str, encoding: str) -> bool:
    try:
        return word.encode(encoding) in raw
    except UnicodeEncodeError:
        return False


@dataclass(frozen=True)
class Dialect:
    """Marks of a table."""

    separator: str
    quote: str
    escape: str | None

    def reader(self, lines: Iterable[str]) -> Any:
        return csv.reader(
            lines, delimiter=self.separator, quotechar=self.quote, escapechar=self.escape, skipinitialspace=True, doublequote=True
        )  # fmt: skip

    def records(self, lines: Iterable[str]) -> list[list[str]]:
        return list(self.reader(lines))


def start_of(lines: Sequence[str]) -> list[str]:
    """The lines that tell how a file is written."""
    length = max(len(line) for line in lines[:FEWEST_LINES]) + 1
    return list(lines[: min(SAMPLE, max(FEWEST_LINES, LONG // length))])


def dialect(lines: Sequence[str], separator: str | None) -> Dialect:
    """Separator and quotes of the first lines.

    As clevercsv does it (van den Burg, Nazabal and Sutton, Data Mining and Knowledge Discovery 33, 1799, 2019): the lines of a table
    have equally many fields, and its fields are of a known kind. A field of the wrong separator is neither a number nor a word.
    """
    text = "\n".join(lines)
    inside = lambda part: len(re.findall(r"(?:^|[,;|\t ])'[^'\n]*'(?=$|[,;|\t ])", part, re.MULTILINE))
    single = '"' not in text and (0 < lines[0].count("'") == 2 * inside(lines[0]) or inside(text) >= len(lines))
    quote, escape = "'" if single else '"', "\\" if '\\"' in text else None
    if separator is None:
        tabs = Dialect("\t", quote, escape)
        widths = {line.count("\t") + 1 for line in lines}
        if len(widths) == 1 and widths != {1} and _typed(tabs, lines[1:] or lines) > 0.6:  # words have blanks and commas in them, no tabs
            return tabs
    candidates = [Dialect(one, quote, escape) for one in ([separator] if separator else SEPARATORS)]
    return max(candidates, key=lambda one: _tabular(one, spaced(lines, one.separator)))


def spaced(lines: Sequence[str], separator: str) -> list[str]:
    """Where blanks separate, tabs do too, and blanks at the ends are nothing."""
    return [line.replace("\t", " ").strip(" ") for line in lines] if separator == " " else list(lines)


def _tabular(one: Dialect, lines: Sequence[str]) -> float:
    try:
        records = [record for record in one.records(lines) if record]
    except csv.Error:
        return 0.0
    if not records:
        return 0.0
    widths = Counter(map(len, records))
    pattern = sum(count * (width - 1) / width for width, count in widths.items()) / len(records) / len(widths)
    return pattern * _typed(one, lines) ** 2


def _typed(one: Dialect, lines: Sequence[str]) -> float:
    """Share of the fields that are numbers, dates or words."""
    cells = [cell.strip() for record in one.records(lines) for cell in record]
    return sum(bool(TYPED.fullmatch(cell)) for cell in cells) / len(cells)


def decimal_mark(cells: Sequence[str], separator: str) -> str:
    """The decimal mark of cells that hold numbers, by those that can be read in one way only: 1,5 and 1.234,5, but not 1,234."""
    points = commas = 0
    unsure = False
    for cell in cells:
        if not ("," in cell or "." in cell) or not NUMBER.fullmatch(cell):
            continue
        marks = [mark for mark in cell if mark in ",."]
        if len(set(marks)) == 2:
            commas, points = commas + (marks[-1] == ","), points + (marks[-1] == ".")
        elif re.fullmatch(GROUPS.format("[,.]"), cell):
            if len(marks) == 1:
                unsure = unsure or marks[0] == ","
            else:  # thousands
                commas, points = commas + (marks[0] == "."), points + (marks[0] == ",")
        elif len(marks) > 1:  # a date
            continue
        else:
            commas, points = commas + (marks[0] == ","), points + (marks[0] == ".")
    if commas == points == 0:
        return "," if unsure and separator == ";" else "."
    return "," if commas > points else "."


def is_number(cell: str) -> bool:
    return bool(NUMBER.fullmatch(cell.strip().lstrip("$€£").rstrip("%").strip()))


def names_first(records: Sequence[Sequence[str]]) -> bool:
    """Whether the first of the records, all of one width, holds names: it has words over columns of numbers, or words that never come
    again, or numbers in equal steps."""
    first, rest = [cell.strip() for cell in records[0]], records[1:]
    if not rest:
        return not any(map(is_number, first))
    columns = list(zip(*[[cell.strip() for cell in record] for record in rest], strict=True))
    if not first[0] and len(set(columns[0])) == len(rest) > 5 and "" not in columns[0]:  # an index without a name
        return True
    filled = [[cell for cell in column if cell.lower() not in AMONG_NUMBERS] for column in columns]
    numeric = [len(kept) > 0 and sum(map(is_number, kept)) >= 0.9 * len(kept) for kept in filled]
    over = [cell for cell, yes in zip(first, numeric, strict=True) if yes and cell.lower() not in AMONG_NUMBERS]
    numbers = [cell for cell in over if is_number(cell)]
    strange = [
        cell not in column for cell, column, yes in zip(first, columns, numeric, strict=True)
        if not yes and cell and len(set(column)) <= max(0.2 * len(column), 1)
    ]  # fmt: skip
    again = [cell in column for cell, column, yes in zip(first, columns, numeric, strict=True) if yes]
    if _steps(numbers) and not all(again) and (len(numbers) > 2 or any(strange) or "" in first):
        return True
    if len(numbers) == len(over):
        return not numbers and (all(strange) if strange else True)
    if not numbers:
        return True
    repeated = all(any(cell in column for column in columns) for cell in over if not is_number(cell))
    return not repeated and (len(numbers) < 0.5 * len(over) or all(re.fullmatch(r"\d+", cell) for cell in numbers))


def _steps(numbers: Sequence[str]) -> bool:
    """Whole numbers, or wavelengths, that go up in equal steps, as names do and data do not."""
    if len(numbers) < 2:
        return False
    try:
        values = [float(cell) for cell in numbers]
    except ValueError:
        return False
    step = values[1] - values[0]
    return step > 0 and all(abs(b - a - step) < 1e-6 * step for a, b in pairwise(values))
