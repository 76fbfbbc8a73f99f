"""Tables as people write them: what is read from them, what is made of them, and what is said about it."""

from __future__ import annotations

import csv
import gzip
import io
import lzma
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sgdlimit as sl
from sgdlimit.errors import InputError
from sgdlimit.recommend.cells import cells, number
from sgdlimit.recommend.data import prepare
from sgdlimit.recommend.dialect import Reading
from sgdlimit.recommend.samples import read
from sgdlimit.recommend.words import counted

GOOD = np.random.default_rng(0).standard_normal((60, 4))
LABELS = GOOD[:, 0] > 0


def made(path, text: str | bytes, target: str, reading: Reading | None = None, loss: str = "squared", **options):
    """The file read and made ready, as the command does it."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = read(path, target, reading)
    return found, prepare(
        found.X, found.y, loss == "logistic", found.names, found.target, told=found.told, decimal=found.decimal, missing=found.missing,
        **options,
    )  # fmt: skip


# --- how files are written -----------------------------------------------------------------------------------------------

COMMAS = ["1.5,2,red,3.25", "-0.5,4,blue,1.75", "2.25,6,green,-2.5"]
NAMES = "a,b,word,y"
NUMBERS = [[1.5, 2.0], [-0.5, 4.0], [2.25, 6.0]]
Y = [3.25, 1.75, -2.5]
swap = lambda text, mark: text.replace(",", mark)
decimals = lambda text, mark: text.replace(",", mark).replace(".", ",")
each_cell = lambda text, shape, mark=",": "\n".join(mark.join(map(shape.format, line.split(","))) for line in text.split())
WHOLE = "\n".join([NAMES, *COMMAS]) + "\n"

PLAIN = [
    ("commas", "x.csv", WHOLE),
    ("no last line end", "x.csv", WHOLE.rstrip()),
    ("line ends of Windows", "x.csv", WHOLE.replace("\n", "\r\n")),
    ("line ends of old Macs", "x.csv", WHOLE.replace("\n", "\r")),
    ("a mark of byte order", "x.csv", WHOLE.encode("utf-8-sig")),
    ("blanks after commas", "x.csv", swap(WHOLE, ", ")),
    ("quotes", "x.csv", each_cell(WHOLE, '"{}"')),
    ("gzip", "x.csv.gz", gzip.compress(WHOLE.encode())),
    ("tabs", "x.tsv", swap(WHOLE, "\t")),
    ("empty lines at the end", "x.csv", WHOLE + "\n\n"),
    ("separators in quotes", "x.csv", WHOLE.replace("red", '"red, or so"')),
    ("quotes in quotes", "x.csv", WHOLE.replace("red", '"so ""red"""')),
    ("line ends in quotes", "x.csv", WHOLE.replace("red", '"red\nor so"')),
]


@pytest.mark.parametrize(("name", "text"), [pytest.param(name, text, id=kind) for kind, name, text in PLAIN])
def test_plain_files_are_read_without_a_word(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = read(path, "y")
    assert found.names == ["a", "b", "word"]
    np.testing.assert_array_equal(found.X[["a", "b"]], NUMBERS)
    np.testing.assert_array_equal(found.y, Y)
    assert found.told == []


TOLD = [
    ("semicolons", "x.csv", swap(WHOLE, ";"), ["Fields are separated by semicolons (--separator overrules)."]),
    ("decimal commas", "x.csv", decimals(WHOLE, ";"), ["by semicolons (--separator overrules) and decimals are marked by a comma"]),
    ("tabs and decimal commas", "x.txt", decimals(WHOLE, "\t"), ["by tabs", "decimals are marked by a comma"]),
    ("blanks and decimal commas", "x.dat", decimals(WHOLE, "  "), ["by blanks", "decimals are marked by a comma"]),
    ("bars", "x.csv", swap(WHOLE, "|"), ["by vertical bars"]),
    ("blanks", "x.data", swap(WHOLE, " "), ["by blanks"]),
    ("blanks in columns", "x.data", each_cell(WHOLE, "{:>9}", ""), ["by blanks"]),
    ("blanks and tabs", "x.data", "\n".join(line.replace(",", "  ", 2).replace(",", "\t") for line in WHOLE.split()), ["by blanks"]),
    ("commas in a .tsv", "x.tsv", WHOLE, ["by commas"]),
    ("the separator stated", "x.csv", "sep=;\n" + swap(WHOLE, ";"), ["by semicolons"]),
    ("single quotes", "x.csv", each_cell(WHOLE, "'{}'"), ["in single quotes"]),
    ("UTF-16", "x.csv", WHOLE.encode("utf-16"), ["read as UTF-16"]),
    ("UTF-16 without a mark", "x.csv", WHOLE.encode("utf-16-le"), ["read as UTF-16-LE"]),
    ("UTF-32", "x.csv", WHOLE.encode("utf-32"), ["read as UTF-32"]),
    ("latin-1", "x.csv", WHOLE.replace("red", "weiß").encode("latin-1"), ["read as Windows-1252 (latin-1); --encoding"]),
    ("a title", "x.csv", "The yield of 2020\n" + WHOLE, ["Line 1 is not part of the table and was skipped (1 field for 4)."]),
    ("a title of two lines", "x.csv", "The yield\nof 2020, all of it\n\n" + WHOLE, ["2 lines before line 4 are not part of the table"]),
    ("comments", "x.csv", "# of 2020\n" + WHOLE + "% end\n", ["2 lines that start with # or % were taken as comments."]),
    ("names in a comment", "x.txt", "# " + swap(WHOLE, " "), ["by blanks", "Names of the columns were taken from the comment"]),
    ("remarks below", "x.csv", WHOLE + "Source: the office\n\n", ["1 line after line 4 is not part of the table and was left out."]),
    ("a separator after the names", "x.csv", WHOLE.replace("y", "y,", 1), []),
    ("xz", "x.csv", lzma.compress(swap(WHOLE, ";").encode()), ["by semicolons"]),
    ("separators at the ends", "x.csv", WHOLE.replace("\n", ",\n"), ["Lines end in a separator"]),
    ("an empty line within", "x.csv", WHOLE.replace("-0.5", "\n-0.5"), ["Line 3 is empty and was skipped."]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "remarks"), [pytest.param(*rest, id=kind) for kind, *rest in TOLD])
def test_other_ways_of_writing_are_read_and_told(tmp_path, name, text, remarks):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = read(path, "y")
    assert found.names == ["a", "b", "word"]
    whole = [[cells(found.X[name], found.decimal).values for name in ("a", "b")], cells(found.y, found.decimal).values]
    np.testing.assert_array_equal(np.transpose(whole[0]), NUMBERS)
    np.testing.assert_array_equal(whole[1], Y)
    for remark in remarks:
        assert remark in " ".join(found.told)
    assert len(found.told) <= 3


LONG = [f"{i % 7}.5,{i % 3},{'M' if i % 2 else 'R'}" for i in range(40)]


@pytest.mark.parametrize(
    ("first", "rows", "names"),
    [
        ("a,b,c", LONG, ["a", "b", "c"]),
        (None, LONG, ["1", "2", "3"]),
        ("0,1,2", [row.replace("M", "1").replace("R", "0") for row in LONG], ["0", "1", "2"]),  # as pandas names columns
        ("850,852,854,octane", [f"{row[:-1]}{i / 7:.3f},{i % 5}.25" for i, row in enumerate(LONG)], ["850", "852", "854", "octane"]),
        ("id,2019,2020", [row.replace("M", "1").replace("R", "0") for row in LONG], ["id", "2019", "2020"]),
        ("4.5,?,R", LONG, ["1", "2", "3"]),
        ("kind,b,c", ["x,y,z", "y,x,z"] * 20, ["kind", "b", "c"]),
        (None, ["x,y,z", "y,x,z"] * 20, ["1", "2", "3"]),
        (",16.5,16.75,17.25", [f"{i},{i % 3},{i % 4},{i % 5}" for i in range(40)], ["column 1", "16.5", "16.75", "17.25"]),
        (",x,y", [f"{i},{row[:3]},{i % 2}" for i, row in enumerate(LONG)], ["column 1", "x", "y"]),
        ("x,y", [f"{i},{row[:3]},{i % 2}" for i, row in enumerate(LONG)], ["row names", "x", "y"]),
        ("a,,a", LONG, ["a", "column 2", "a.2"]),
    ],
)  # fmt: skip
def test_whether_the_first_line_holds_names(tmp_path, first, rows, names):
    (tmp_path / "x.csv").write_text("\n".join([first, *rows] if first else rows))
    found = read(tmp_path / "x.csv", names[-1])
    assert [*found.names, found.target] == names
    assert len(found.X) == len(rows) + (names[0] == "1" and first is not None)
    said = " ".join(found.told)
    assert ("looks like data, not names, so columns are called 1 to 3" in said) == (names[0] == "1")
    assert ("is called row names" in said) == (names[0] == "row names")
    assert ("Another column a, number 3 of the table, is called a.2" in said) == ("a.2" in names)


def test_a_column_without_a_name_has_a_number(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("\n".join(LONG))
    for target in ("3", "-1"):
        assert read(path, target).target == "3"
    for target, words in (("R", "--target 3 is where it stands"), ("z", "--target 3 is the last"), ("4", "columns are called 1 to 3")):
        with pytest.raises(InputError, match=words) as refused:
            read(path, target)
        assert "--no-header" in str(refused.value)
    assert read(path, "R", Reading(header=True)).target == "R"
    path.write_text("a,b,c\n" + "\n".join(LONG))
    found = read(path, "2", Reading(header=False))
    assert (len(found.X), found.told) == (41, [])
    path.write_text("a,b,b\n" + "\n".join(LONG))
    with pytest.raises(InputError, match="`target` must be one column"):
        read(path, "b")


def test_options_overrule_what_was_found(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("a;b;y\n" + "1,234;2;3\n" * 30)
    assert read(path, "y").X["a"].tolist()[0] == 1.234  # decimals after semicolons, thousands after commas
    as_points = read(path, "y", Reading(decimal="."))
    assert cells(as_points.X["a"], as_points.decimal).values[0] == 1234.0
    path.write_bytes("a:größe:y\n1:2:3\n4:5:6\n".encode("cp437"))
    found = read(path, "größe", Reading(separator=":", encoding="cp437"))
    assert found.y.tolist() == [2, 5]
    assert found.told == []


@pytest.mark.parametrize(("encoding", "name"), [("cp1252", "Größe"), ("cp1251", "цена"), ("shift_jis", "価格"), ("mac-roman", "Größe")])
def test_the_name_of_the_target_tells_an_old_encoding(tmp_path, encoding, name):
    (tmp_path / "x.csv").write_bytes(WHOLE.replace("y", name, 1).encode(encoding))
    found = read(tmp_path / "x.csv", name)
    assert found.y.tolist() == Y
    assert len(found.told) == 1
    with pytest.raises(InputError, match="must be a column"):
        read(tmp_path / "x.csv", "höhe")


def test_lines_with_other_numbers_of_fields(tmp_path):
    path = tmp_path / "x.csv"
    rows = list(LONG)
    rows[10] = "1,2"
    path.write_text("a,b,c\n" + "\n".join(rows))
    found = read(path, "c")
    assert found.told == ["Line 12 has 2 fields for 3 columns and was left out."]
    assert len(found.X) == 39
    assert 12 not in found.X.index
    rows[3] = "1,2,R,7"
    path.write_text("a,b,c\n" + "\n".join(rows))
    assert read(path, "c").told == ["2 lines (5, 12) have fewer or more than 3 fields and were left out."]
    for i in range(20, 26):
        rows[i] = "1,2,R,7"
    path.write_text("a,b,c\n" + "\n".join(rows))
    with pytest.raises(InputError, match=r"as many fields in every line, but in x.csv 8 of 41 lines have not: line 5 has 4 for 3 columns"):
        read(path, "c")


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (b"", {}, "x.csv is empty"),
        (b"\n\n", {}, "x.csv is empty"),
        (b"a,b\n", {}, "has a line of names, a, b, and none below it"),
        (b"<!DOCTYPE html>\n<p>not, found\n", {}, "as HTML or JSON do"),
        (b"a\n1\n2\n", {}, "one field in most lines, such as '2'"),
        (b"\x00\x01\x02\x03\x00\x00\x09", {}, "binary data"),
        (b'a,b\n1,"2\n' + b"3,4\n" * 50_000, {}, "a quote that is never closed"),
        (WHOLE.encode(), {"encoding": "utf-99"}, "be the name of an encoding, but is 'utf-99'"),
        ("größe,y\n1,2\n".encode("latin-1"), {"encoding": "utf-8"}, "`encoding` must be that of the file"),
        (WHOLE.encode(), {"separator": "::"}, "`separator` must be one character"),
        (WHOLE.encode(), {"decimal": ";"}, "`decimal` must be . or ,"),
        (WHOLE.encode(), {"decimal": ",", "separator": "comma"}, "`decimal` must not be the separator"),
    ],
)
def test_texts_that_are_no_tables_are_refused_in_words(tmp_path, text, options, words):
    (tmp_path / "x.csv").write_bytes(text)
    with pytest.raises(InputError) as refused:
        read(tmp_path / "x.csv", "y", Reading(**options))
    assert words in str(refused.value)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    data=st.data(),
    separator=st.sampled_from([",", ";", "\t", "|"]),
    decimal=st.sampled_from(".,"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16"]),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
)
def test_a_table_in_any_dialect_comes_back(tmp_path_factory, data, separator, decimal, encoding, end, quoting):
    """Random numbers and words, written by the Python library's own writer."""
    if separator == ",":
        decimal = "."
    d, n = data.draw(st.integers(1, 4)), data.draw(st.integers(12, 30))
    numbers = data.draw(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=d, max_size=d), min_size=n, max_size=n))
    word = st.sampled_from(["red", "blau", "weiß", "a, b", "c; d", "two\nlines", "e | f", 'so "it" is', "no"])
    words = data.draw(st.lists(word, min_size=n, max_size=n))
    names = [f"größe {i}" for i in range(d)] + ["word", "y"]
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=separator, lineterminator=end, quoting=quoting)
    writer.writerow(names)
    shown = lambda value: repr(value).replace(".", decimal)
    for row, one, i in zip(numbers, words, range(n), strict=True):
        writer.writerow([*map(shown, row), one, shown(i + 0.5)])
    path = tmp_path_factory.mktemp("dialect") / "x.csv"
    path.write_bytes(file.getvalue().encode(encoding))
    found = read(path, "y")
    assert found.names == names[:-1]
    back = np.column_stack([cells(found.X[name], found.decimal).values for name in names[:d]])
    np.testing.assert_allclose(back, numbers, rtol=1e-15, atol=0)
    assert found.X["word"].tolist() == words
    np.testing.assert_array_equal(cells(found.y, found.decimal).values, np.arange(n) + 0.5)


# --- words and numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "decimal", "value"),
    [
        ("1.5", ".", 1.5), ("1,5", ",", 1.5), ("1,5", ".", None), ("1.5", ",", None), (".5", ".", 0.5), ("5.", ".", 5.0),
        ("1,234.5", ".", 1234.5), ("1.234,5", ",", 1234.5), ("1 234,5", ",", 1234.5),
        ("1\u202f234,5", ",", 1234.5), ("1'234.5", ".", 1234.5), ("1,23,456", ".", None), ("12,34", ".", None), ("0,123", ".", None),
        ("1.2.3", ".", None), ("-3e5", ".", -3e5), ("1D3", ".", 1e3),
        ("\u22123", ".", -3.0), ("12%", ".", 12.0), ("$1,200", ".", 1200.0), ("-$5", ".", -5.0), ("5 €", ".", 5.0), ("inf", ".", np.inf),
        ("1_000", ".", None), ("nan", ".", None), ("x1", ".", None), ("", ".", None), ("$", ".", None),
        ("0x1f", ".", None), ("-", ".", None),
    ],
)  # fmt: skip
def test_a_word_that_is_a_number(text, decimal, value):
    found = number(text, decimal)
    assert (found and found[0]) == value


@pytest.mark.parametrize(
    ("column", "kind", "remark"),
    [
        (["1", "2.5", *"1234567", "?", "-", "NA", "n/a", "", "null"] * 4, "numbers",
         "Empty fields (4), `-` (4), `?` (4), `NA` (4), `n/a` (4) and `null` (4) count as missing."),
        ([*(["3", "4"] * 49), "?", "4"], "numbers", "`?` (1) counts as missing."),
        ([*(["3", "4"] * 49), "high", "4"], "numbers", "holds a word among its numbers, `high` (row 99), which counts as missing."),
        (["3", "4", "low"] * 20, "mixed", "Column x holds words in 20 samples, `low`, and was left out (--missing WORD"),
        ([*(["3", "4"] * 12), "3.o", "4"], "numbers", "holds a word among its numbers, `3.o` (row 25), which counts as missing."),
        (["NA", "-"] * 30, "numbers", "Column x is missing in more than half of the samples and left out."),
        (["a", "b", "c", "?"] * 15, "words", "Column x is not numbers (`a`, `b`, `c`) and left out"),
        (["no", "yes"] * 30, "two", "Column x is of two words: no became 0, yes became 1."),
        (["+", "-"] * 30, "two", "Column x is of two words: + became 0, - became 1."),
        (["M", "F", "-"] * 20, "two", "`-` (20) counts as missing."),
        ([True, False, None] * 20, "two", "False became 0, True became 1"),
        (["2020-01-05", "2021-02-03 10:00", "?"] * 20, "dates", "Column x holds dates or times and was left out."),
        (["31.12.2020", "01.02.2021"] * 30, "dates", "dates"),
        (["3 Jan 2020", "4 Feb 2021"] * 30, "dates", "dates"),
        (["10:15", "11:20:30", "9:00"] * 20, "dates", "dates"),
        ([f"name {i}" for i in range(60)], "different", "Column x has another word in every sample, as names have, and was left out."),
        (["1,200", "3,400.5", "7"] * 20, "numbers", "Column x has commas between thousands, which were taken off (--decimal overrules)."),
        (["1,5", "2,25", "3"] * 20, "numbers", "Column x has a decimal mark of its own and was read so."),
        (["5 %", "10%", "2.5%"] * 20, "numbers", "Column x has numbers with the sign %, which was taken off."),
        (["$1,200.50", "$3", "-$4"] * 20, "numbers", "Column x has numbers with the sign $, which was taken off."),
        (pd.Series(pd.to_datetime(["2020-01-01", "2021-01-01"] * 30)), "dates", "dates"),
        (pd.Series(["1", "2", "4"] * 20, dtype="category"), "numbers", None),
        (pd.Series([1, 2, None] * 20, dtype="Int64"), "numbers", None),
        ([1, 2.5, None] * 20, "numbers", None),
    ],
)  # fmt: skip
def test_columns_are_told_by_their_words(column, kind, remark):
    table = pd.DataFrame({"x": column, "other": np.arange(len(column)) ** 2})
    found = cells(table["x"])
    assert found.kind == kind
    told: list[str] = prepare(table, GOOD[np.arange(len(table)) % 60, 1] + np.arange(len(table)), False).told
    if remark is not None:
        assert remark in " ".join(told)
    else:
        assert not any("Column x" in line or "count" in line for line in told)


def test_further_words_and_numbers_can_mark_a_missing_value(tmp_path):
    rows = [f"{'low' if i % 5 == 0 else i * i},{-999 if i % 7 == 0 else i * 0.5},{'unknown' if i == 3 else i % 6}" for i in range(60)]
    _, data = made(tmp_path / "x.csv", "a,b,y\n" + "\n".join(rows), "y", Reading(missing=("low", "-999", "Unknown")))
    assert data.names == ["a", "b"]
    assert data.n == 57
    said = " ".join(data.told)
    assert "`low` (12) and `-999` (9) count as missing." in said
    assert "2 samples without any feature were left out." in said
    assert "In the label `unknown` (1) counts as missing." in said
    X = np.where(np.arange(120).reshape(60, 2) % 9 == 0, -1.0, np.random.default_rng(1).standard_normal((60, 2)))
    found = sl.recommend(
        np.column_stack([GOOD[:, :2], X]), GOOD @ [1.0, 0.5, 0, 0.2], loss="squared", max_epochs=2, reading={"missing": [-1]}
    )
    assert "14 missing values" in " ".join(found.told)
    with pytest.raises(InputError, match=r"`reading` must say how to read a file, but is \{'decimal': ','\}"):
        sl.recommend(GOOD, LABELS, reading={"decimal": ","})
    with pytest.raises(InputError, match="did you mean `decimal`"):
        sl.recommend(GOOD, LABELS, reading={"decimals": ","})


@pytest.mark.parametrize(
    ("labels", "classes", "words"),
    [
        (["1", "2", "high", "?"] * 15, False, "but is words, `high`, first in row 3 (--missing WORD"),
        (["a", "b"] * 30, False, "but is words, `a`, `b`"),
        (["a", "b", "c"] * 20, True, "3 different values, a, b, c"),
        ([0.5, 1.0, 2.0] * 20, True, "3 different values, 0.5, 1, 2"),
        (["a", "?"] * 30, True, "must have two classes, but is a in every sample"),
        ([2.5] * 60, False, "must vary, but is 2.5 in every sample"),
        ([1e-200] * 60, False, "must vary, but is 1e-200 in every sample"),
        ([np.inf, 1.0] * 30, False, "infinite in 30 samples"),
    ],
)
def test_labels_that_cannot_be_used_are_refused_in_words(labels, classes, words):
    with pytest.raises(InputError) as refused:
        prepare(pd.DataFrame(GOOD), pd.Series(labels), classes)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["<=50K", ">50K", "?"] * 20, ("<=50K", ">50K")),
        ([" no ", "yes"] * 30, ("no", "yes")),
        ([1.0, 2.0, np.nan] * 20, ("1", "2")),
        (["1", "0", ""] * 20, ("0", "1")),
        ([True, False] * 30, ("False", "True")),
        (["-", "+"] * 30, ("+", "-")),
        (["none", "some"] * 30, ("none", "some")),
    ],
)
def test_two_classes_of_any_words(labels, names):
    data = prepare(pd.DataFrame(GOOD), pd.Series(labels), True)
    assert data.label_names == names
    assert (data.y > 0).mean() == 0.5
    assert data.n == sum(str(label) not in ("?", "", "nan") for label in labels)


# --- what is not what it seems -------------------------------------------------------------------------------------------


def numbered(rng, n: int = 120):
    X = rng.standard_normal((n, 3))
    return pd.DataFrame(X, columns=["a", "b", "c"]), X @ [1.0, -0.5, 0.2] + rng.standard_normal(n)


@pytest.mark.parametrize(
    ("name", "column", "remark"),
    [
        ("row", lambda n, rng: np.arange(n), "Column row counts the rows and was left out (--keep row uses it all the same)."),
        ("x 1", lambda n, rng: np.arange(1, n + 1), "(--keep 'x 1' uses it all the same)"),
        ("x", lambda n, rng: rng.permutation(n) + 1000, "counts the rows"),
        ("x", lambda n, rng: np.sort(rng.permutation(2 * n)[:n]), "counts the rows"),
        ("patient_id", lambda n, rng: rng.permutation(10**6)[:n], "identifies the samples"),
        ("PassengerId", lambda n, rng: rng.permutation(10**6)[:n], "identifies the samples"),
        ("income", lambda n, rng: rng.permutation(10**6)[:n], None),
        ("acid", lambda n, rng: rng.permutation(10**6)[:n], None),
        ("age", lambda n, rng: rng.integers(20, 80, n), None),
        ("time", lambda n, rng: np.arange(n) / 10, None),
    ],
)  # fmt: skip
def test_columns_that_number_the_samples_are_left_out_and_told(name, column, remark):
    rng = np.random.default_rng(3)
    table, y = numbered(rng)
    table[name] = column(len(y), rng)
    data = prepare(table, y, False)
    assert (name in data.names) == (remark is None)
    assert any((remark or "and was left out") in line for line in data.told) == (remark is not None)
    kept = prepare(table, y, False, keep=[name])
    assert kept.names == ["a", "b", "c", name]
    assert not any("left out" in line for line in kept.told)


def test_a_table_of_row_numbers_alone_is_used():
    """A trend over time is all there is to learn."""
    assert prepare(pd.DataFrame({"t": np.arange(60)}), GOOD[:, 0], False).names == ["t"]


def test_copies_of_the_label_are_left_out_and_told():
    rng = np.random.default_rng(4)
    table, y = numbered(rng)
    table["celsius"], table["sure"] = 100.0 - 3.0 * y, np.where(y > 0.3, "high", "low")
    data = prepare(table, y, False)
    assert data.names == ["a", "b", "c", "sure"]
    assert any(
        "Column celsius is a copy of the label, but for shift and scale, and was left out (--keep celsius" in line for line in data.told
    )
    data = prepare(table, np.where(y > 0.3, 1, 0), True)
    assert data.names == ["a", "b", "c", "celsius"]
    said = " ".join(data.told)
    assert "Column sure is a copy of the label" in said
    assert "Column celsius separates the two classes without exception; is it made from the label" in said
    assert prepare(table, y, False, keep=["celsius"]).names[3] == "celsius"
    assert prepare(table, y, False, drop=["celsius", "a"]).names == ["b", "c", "sure"]
    with pytest.raises(InputError, match=r"features that are not the label itself, but is a copy of it, celsius \(--keep celsius"):
        prepare(table[["celsius"]], y, False)


@pytest.mark.parametrize(
    ("column", "remark"),
    [
        (lambda y, rng: y + 0.02 * rng.standard_normal(len(y)), "Column x explains 99.98% of the label's variance on its own"),
        (lambda y, rng: np.exp(3 * y), "Column x puts the samples in the same order as the label, or the opposite one"),
        (lambda y, rng: -(y**3), "same order as the label, or the opposite one"),
        (lambda y, rng: y + 0.5 * rng.standard_normal(len(y)), None),
    ],
)
def test_columns_that_nearly_tell_the_label_are_named(column, remark):
    rng = np.random.default_rng(5)
    table, y = numbered(rng)
    table["x"] = column(y, rng)
    data = prepare(table, y, False)
    assert data.names[3] == "x"
    assert any((remark or "is it made from the label") in line for line in data.told) == (remark is not None)


def test_samples_that_dominate_are_named(tmp_path):
    rng = np.random.default_rng(6)
    table, y = numbered(rng)
    table.loc[[4, 70], "b"] = 90.0, -80.0
    table["rare"] = (np.arange(120) == 7).astype(int)  # a truth value that is rare is no outlier
    table["counts"] = rng.poisson(0.05, 120)
    y[41] = 10000.0
    _, data = made(tmp_path / "x.csv", table.assign(y=y).to_csv(index=False), "y")
    said = " ".join(data.told)
    assert "The label is 10000 in line 43, its median" in said
    assert "this one sample makes nearly all of its variance." in said
    assert "Column b is 90 in line 6 and -80 in line 72, its median" in said
    assert said.count("variance.") == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in (20, 30, 500):
            assert len(prepare(rng.standard_normal((n, 50)), rng.standard_normal(n), False).told) == 2  # nothing unusual, nothing said


def test_the_outlying_label_is_named_by_its_row():
    rng = np.random.default_rng(7)
    X = rng.standard_normal((300, 12))
    y = 1 + 0.1 * rng.standard_normal(300) + 0.2 * X[:, 0]
    y[41] = 10000.0
    X[3] = np.nan
    found = sl.recommend(X, y, loss="squared", max_epochs=3)
    assert "The label is 10000 in row 42, its median" in " ".join(found.told)
    assert prepare(X, y, False).place(40) == "row 42"  # after the row without features


# --- numbers of any size -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [1.7e12, -1.7e15, 1e9])
def test_columns_far_from_zero_are_standardised_to_the_last_digit(shift):
    rng = np.random.default_rng(8)
    small = rng.integers(0, 1000, 300).astype(float)
    data = prepare(np.column_stack([shift + small, rng.standard_normal(300)]), shift + small[::-1], False)
    exact = (small - small.mean()) / small.std()
    np.testing.assert_allclose(data.X[:, 0], exact, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(data.y, exact[::-1], rtol=1e-12, atol=1e-14)
    assert not any("every sample" in line for line in data.told)


@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e307, 1e-305])
def test_numbers_of_any_size_are_used(scale):
    rng = np.random.default_rng(9)
    X = rng.standard_normal((200, 5))
    y = 3.0 + X @ [1.0, 0.5, 0, 0, 0.2] + 0.3 * rng.standard_normal(200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain, data = prepare(X, y, False), prepare(X * scale, y * scale, False)
        np.testing.assert_allclose(data.X, plain.X, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(data.y, plain.y, rtol=1e-9, atol=1e-12)
        assert any("is taken in units of 1e" in line for line in data.told)
        assert 0.1 < data.label_scale < 10
        with pytest.raises(InputError, match="`standardise` must be on for columns of such scale, but is off, and column"):
            prepare(X * scale, y, False, standardise=False)


def test_a_column_that_rounding_alone_moves_is_the_same_everywhere():
    X = np.column_stack([GOOD, np.where(LABELS, 0.1 + 0.2, 0.3)])
    assert any("Column 4 is 0.3 in every sample" in line for line in prepare(X, GOOD[:, 1], False).told)


# --- what can be mended, and the whole -----------------------------------------------------------------------------------


def test_data_that_can_be_mended_are_and_it_is_told():
    table = pd.DataFrame(GOOD, columns=["a", "b", "c", "d"])
    table["copy"] = 3.0 - 2.0 * table["a"]
    table["same"] = 7.0
    table["words"] = ["x", "y", "z"] * 20
    table["digits"] = [f"{value:.6f}" for value in GOOD[:, 1] ** 2]
    table["flag"] = GOOD[:, 2] > 1
    table.loc[3, "b"] = np.nan
    labels = np.where(LABELS, 1.0, 0.0)
    labels[5] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = prepare(table, labels, True)
    assert data.names == ["a", "b", "c", "d", "digits", "flag"]
    assert data.n == 59
    told = " ".join(data.told)
    for words in (
        "1 of 60 samples has no label and was left out.",
        "Column words is not numbers (`x`, `y`, `z`)",
        "Column same is 7 in every sample",
        "Column copy is a copy of column a, but for shift and scale",
        "1 missing value (0.21% of all, in 1 of 59 samples) was replaced by its column's mean.",
    ):
        assert words in told
    np.testing.assert_allclose(data.X.mean(0), 0.0, atol=1e-12)
    np.testing.assert_allclose(data.X.std(0), 1.0)


def test_files_are_read(tmp_path):
    table = pd.DataFrame(GOOD, columns=["a", "b", "c", "d"]).assign(label=LABELS)
    table.to_csv(tmp_path / "x.csv", index=False)
    table.to_csv(tmp_path / "x.tsv", index=False, sep="\t")
    np.savez(tmp_path / "x.npz", X=GOOD, label=LABELS)
    np.save(tmp_path / "x.npy", np.column_stack([GOOD, LABELS]))
    for name, target in (("x.csv", "label"), ("x.tsv", "label"), ("x.npz", "label"), ("x.npy", "-1")):
        found = read(tmp_path / name, target)
        np.testing.assert_array_equal(np.asarray(found.X, dtype=float), GOOD)
        assert (np.asarray(found.y).astype(bool) == LABELS).all()
        assert len(found.names) == 4
        assert found.told == []
    pytest.importorskip("pyarrow")
    table.to_parquet(tmp_path / "x.parquet")
    found = read(tmp_path / "x.parquet", "label")
    assert (found.names, found.target) == (["a", "b", "c", "d"], "label")
    np.testing.assert_array_equal(found.X, GOOD)
    assert (np.asarray(found.y) == LABELS).all()
    (tmp_path / "bad.parquet").write_bytes(b"not one")
    with pytest.raises(InputError, match="must be readable"):
        read(tmp_path / "bad.parquet", "label")
    (tmp_path / "bad.csv").write_bytes(b"\xff\xfe\x00\x01")
    for name, target, words in (
        ("none.csv", "label", "does not exist"),
        ("x.csv", "lable", "did you mean `label`"),
        ("x.csv", None, "is missing"),
        ("x.npy", "9", "be a column of the 5"),
        ("x.npz", "z", "name an array"),
        ("bad.csv", "label", "must be readable"),
    ):
        with pytest.raises(InputError, match=words):
            read(tmp_path / name, target)
    (tmp_path / "x.xls").write_text("")
    with pytest.raises(InputError, match="save as CSV"):
        read(tmp_path / "x.xls", "label")
    with pytest.raises(InputError, match="`decimal` must be left out for a file that is not text"):
        read(tmp_path / "x.npy", "-1", Reading(decimal=","))


def test_keep_and_drop_name_columns():
    table = pd.DataFrame(GOOD, columns=list("abcd")).assign(same=1.0, words=["x", "y", "z"] * 20)
    for options, words in (
        ({"drop": ["e"]}, "`drop` must name columns, but is 'e'"),
        ({"keep": ["e"]}, "`keep` must name columns"),
        ({"keep": ["same"]}, "`keep` must name columns that hold numbers, vary"),
        ({"keep": ["words"]}, "`keep` must name columns that hold numbers"),
        ({"keep": ["a"], "drop": ["a"]}, "`keep` must name columns that hold numbers, vary and are not dropped"),
        ({"drop": list(table.columns)}, "`drop` must leave a column"),
    ):
        with pytest.raises(InputError, match=words):
            prepare(table, GOOD[:, 0] * GOOD[:, 1], False, **options)


def test_python_reads_files_too(tmp_path):
    rng = np.random.default_rng(10)
    table, y = numbered(rng)
    path = tmp_path / "x.csv"
    table.assign(row=np.arange(120), y=y).to_csv(path, index=False, sep=";", decimal=",")
    found = sl.recommend(path, "y", loss="squared", max_epochs=3, drop="b", reading={"missing": "-999"})
    assert (found.n, found.d, found.target) == (120, 2, "y")
    for said in (str(found), found._repr_html_()):
        assert "decimals are marked by a comma" in said
        assert "Column row counts the rows" in said
    with pytest.raises(InputError, match="`y` must be the name of a column where `X` is a file"):
        sl.recommend(path, y, loss="squared")


def test_one_is_singular():
    assert [counted(0, "feature"), counted(1, "feature"), counted(2, "feature"), counted("1", "sample")] == [
        "0 features", "1 feature", "2 features", "1 sample",
    ]  # fmt: skip
    rng = np.random.default_rng(11)
    x = rng.standard_normal((40, 1))
    found = sl.recommend(x, x[:, 0] + rng.standard_normal(40), loss="squared", max_epochs=3, verify=1, backend="numpy")
    from sgdlimit.recommend.report import data_lines, sentences

    said = " ".join([*data_lines(found), *sentences(found), *(check.text for check in found.trust.checks)])
    assert "30 samples, 1 feature:" in said
    assert "There is 1 feature;" in said
    assert "about 1 direction;" in said
    assert "Trained 1 time (" in said
    for wrong in (" 1 features", " 1 samples ", " 1 times (", "are 1 ", " 1 directions", " 1 epochs"):
        assert wrong not in said


def test_columns_in_order_and_numbers_for_missing_values_are_told():
    rng = np.random.default_rng(12)
    table, y = numbered(rng)
    table["steps"] = np.arange(len(y)) * 10
    table["time"] = np.cumsum(rng.random(len(y)))
    table["dose"] = np.where(np.arange(len(y)) % 9 == 0, -999.0, rng.random(len(y)))
    table["scale"] = np.where(rng.random(len(y)) < 0.5, 9.0, 8.5)
    data = prepare(table, y, False)
    assert data.names == ["a", "b", "c", "time", "dose", "scale"]
    said = " ".join(data.told)
    assert "Column steps counts the rows" in said
    assert "Column time goes up or down from row to row without exception" in said
    assert "Column dose is -999 in 14 samples, far from all others; if that marks a missing value, --missing -999." in said
    assert "--missing 9" not in said
    said = " ".join(prepare(table, y, False, missing=("-999",), keep=["time"]).told)
    assert "`-999` (14) counts as missing." in said
    assert "14 missing values" in said
    assert "Column time" not in said
