"""What is released is whole: the wheel has every file, the versions agree, the citation is one.

`make release-check` also installs the wheel into empty environments.
"""

import tomllib
import zipfile
from pathlib import Path

import pytest

import release_check
import sgdlimit as sl

ROOT = Path(__file__).parent.parent


def test_the_wheel_has_every_file_of_the_package(tmp_path):
    wheel, _ = release_check.build(tmp_path)
    assert release_check.missing(wheel) == set()
    assert wheel.stat().st_size < 2_000_000
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(tmp_path / "less.whl", "w") as less:
        for name in whole.namelist():
            if name != "sgdlimit/results/report.html":
                less.writestr(name, whole.read(name))
    assert release_check.missing(tmp_path / "less.whl") == {"sgdlimit/results/report.html"}


def test_versions_agree():
    yaml = pytest.importorskip("yaml")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version == sl.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert f"version = {{{version}}}" in (ROOT / "docs" / "cite.md").read_text()


def test_the_citation_has_what_the_format_requires():
    """Of the Citation File Format 1.2.0; `make release-check` validates it whole with cffconvert."""
    citation = pytest.importorskip("yaml").safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] in ("software", "dataset")
    for cited in (citation, *citation["references"]):
        assert cited["title"]
        assert all("name" in author or {"family-names", "given-names"} <= set(author) for author in cited["authors"])
    assert citation["message"]
    assert {one["type"] for one in citation["references"]} == {"article"}
    assert {one["type"] for cited in citation["references"] for one in cited["identifiers"]} <= {"doi", "url", "swh", "other"}
