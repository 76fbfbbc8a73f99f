"""The command on a real table, and the program that its page of documentation shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "recommend.md").read_text()


def sgdlimit(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    command = [sys.executable, "-m", "sgdlimit", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


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


def test_mistakes_get_a_sentence_and_code_two(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n3,4\n")
    for arguments, words in (
        (("recommend", "y.csv", "--target", "b"), "does not exist"),
        (("recommend", "x.csv", "--target", "c"), "must be a column"),
        (("recommend", "x.csv", "--target", "b", "--loss", "squared"), "at least 20 samples"),
    ):
        done = sgdlimit(tmp_path, *arguments)
        assert done.returncode == 2, done.stdout
        assert words in done.stderr
        assert "Traceback" not in done.stderr
