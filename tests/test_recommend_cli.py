"""The command on a real table, and the program that its page of documentation shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sgdlimit.cli import app

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "recommend.md").read_text()


def sgdlimit(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    command = [sys.executable, "-m", "sgdlimit", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.evidence
def test_the_command_of_the_documentation_runs(tmp_path):
    datasets = pytest.importorskip("sklearn.datasets")
    datasets.load_diabetes(as_frame=True).frame.to_csv(tmp_path / "diabetes.csv", index=False)
    command = re.search(r"```sh\nsgdlimit (.*)\n```", PAGE)
    assert command is not None
    done = sgdlimit(tmp_path, *command.group(1).split())
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for words in ("Learning rate", "recommended", "Do not use the theory here", "10 features", "batch size", "Trained 3 times"):
        assert words in done.stdout
    numbers = json.loads((tmp_path / "advice" / "numbers.json").read_text())
    assert numbers["data"]["n"] == 332
    # Ten features are few, but the expected risk is that of least squares all the same: 111 held-out labels, 13% a standard error.
    assert abs(numbers["verification"]["deviation_test"]) < 0.4
    assert (tmp_path / "advice" / "report.html").stat().st_size > 100_000


def test_the_program_of_the_documentation_runs(capsys):
    program = re.search(r"```python\n(.*?)```", PAGE, re.S)
    assert program is not None
    names = {}
    exec(compile(program.group(1), "docs/recommend.md", "exec"), names)
    assert "Learning rate" in capsys.readouterr().out
    html = names["found"]._repr_html_()  # what a notebook shows
    assert "Learning rate" in html
    assert names["found"].trust.verdict.lower() in html.lower()
    assert "currentColor" in html
    assert "<script" not in html


@pytest.mark.evidence
def test_a_table_written_in_another_way_is_read_and_told(tmp_path):
    """Semicolons, decimal commas, no names, a word for what is missing, row numbers, words of an old encoding."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 3))
    words = ["größer" if value > 0 else "kleiner" for value in X[:, 0] + 0.5 * rng.standard_normal(80)]
    rows = [
        [str(i), *(f"{value:.3f}".replace(".", ",") for value in row), word] for i, (row, word) in enumerate(zip(X, words, strict=True))
    ]
    rows[7][2] = "k.A."
    (tmp_path / "x.csv").write_bytes("\n".join(";".join(row) for row in rows).encode("latin-1"))
    arguments = ("--missing", "k.A.", "--drop", "4", "--backend", "numpy", "--max-epochs", "3", "--out", "advice")
    done = sgdlimit(tmp_path, "recommend", "x.csv", "--target", "-1", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    said = " ".join(done.stdout.split())
    for sentence in (
        "80 samples, 2 features: n/d = 40.",
        "The file is not UTF-8 and was read as Windows-1252 (latin-1); --encoding NAME if its words look wrong.",
        "The first line looks like data, not names, so columns are called 1 to 5",
        "Fields are separated by semicolons (--separator overrules) and decimals are marked by a comma (--decimal overrules).",
        "`k.A.` (1) counts as missing.",
        "Column 1 counts the rows and was left out (--keep 1 uses it all the same).",
        "1 missing value (0.62% of all, in 1 of 80 samples) was replaced by its column's mean.",
        "kleiner is the positive class, größer the negative one;",
    ):
        assert sentence in said
    numbers = json.loads((tmp_path / "advice" / "numbers.json").read_text())
    assert (numbers["data"]["target"], numbers["data"]["n"], numbers["data"]["d"]) == ("5", 80, 2)
    told = ("--separator", ";", "--decimal", ",", "--encoding", "latin-1", "--no-header", "--keep", "1")
    done = sgdlimit(tmp_path, "recommend", "x.csv", "--target", "5", *told, *arguments)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "80 samples, 3 features: n/d = 26.7. `k.A.` (1) counts as missing." in said
    assert "uses it all the same" not in said


def test_mistakes_get_a_sentence_and_code_two(tmp_path, monkeypatch):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n3,4\n")
    monkeypatch.chdir(tmp_path)
    for arguments, words in (
        (("y.csv", "--target", "b"), "does not exist"),
        (("x.csv", "--target", "c"), "must be a column"),
        (("x.csv", "--target", "b", "--loss", "squared"), "at least 20 samples"),
        (("x.csv", "--target", "b", "--decimal", ";"), "`decimal` must be . or ,"),
        (("x.csv", "--target", "4", "--no-header"), "columns are called 1 to 2"),
    ):
        done = CliRunner().invoke(app, ["recommend", *arguments])
        assert done.exit_code == 2, done.output
        assert words in done.stderr
        assert "Traceback" not in done.stderr
