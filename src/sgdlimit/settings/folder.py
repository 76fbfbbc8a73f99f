"""The directory of one run: what may be written there, what is there already, and whether it can be used.

`settings.json` is written first and says which settings the directory belongs to and which files are the run's own. Every
file appears whole or not at all, and a result carries the fingerprint of its settings, so that a run that was interrupted
continues where it stopped and results of different settings never mix.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import replacing
from ..results import Result, load
from ..show.words import flat
from ..version import __version__
from .config import Job, Part

SETTINGS = "settings.json"
FINGERPRINT = "settings_fingerprint"


@dataclass(frozen=True)
class Folder:
    """`open` checks and writes nothing; `begin` makes the directory its own."""

    path: Path
    job: Job
    force: bool

    @classmethod
    def open(cls, path: Path, job: Job, force: bool = False) -> Folder:
        """Raises InputError if the directory cannot be written or holds something else."""
        _writable(path)
        folder = cls(path, job, force)
        if path.is_dir() and not force:
            folder._refuse_others()
        return folder

    @property
    def files(self) -> list[str]:
        """Names of everything this run writes."""
        kinds = ["theory"] + (["simulation"] if self.job.settings.simulation else [])
        results = [f"{kind}-{part.slug}.nc" for part in self.job.parts for kind in kinds]
        return [SETTINGS, *results, *map(checkpoint_name, self.job.parts), "curves.png", "curves.svg", "report.html"]

    def begin(self) -> None:
        """Make the directory; with `force`, remove what an earlier run wrote there. Then say whose it is."""
        self.path.mkdir(parents=True, exist_ok=True)
        if self.force:
            for name in {*_owned(self._settings()), *self.files}:
                (self.path / name).unlink(missing_ok=True)
        described = {
            "sgdlimit": __version__,
            "fingerprint": self.job.fingerprint,
            "title": self.job.title,
            "plugin": str(self.job.plugin) if self.job.plugin else None,
            "files": self.files,
            "settings": self.job.settings.model_dump(),
        }
        with replacing(self.path / SETTINGS) as temporary:
            temporary.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")

    def finished(self, name: str) -> Result | None:
        """A result of these very settings, if the directory has it."""
        try:
            result = load(self.path / name)
        except (InputError, KeyError, ValueError):
            return None
        return result if isinstance(result, Result) and result.dataset.attrs.get(FINGERPRINT) == self.job.fingerprint else None

    def keep(self, name: str, result: Result) -> None:
        result.dataset.attrs[FINGERPRINT] = self.job.fingerprint
        result.save(self.path / name)

    def _settings(self) -> dict[str, Any] | None:
        try:
            found = json.loads((self.path / SETTINGS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and "fingerprint" in found else None

    def _refuse_others(self) -> None:
        fix = "give --force to replace them, or another --out"
        found = self._settings()
        if found is None:
            there = [name for name in self.files if (self.path / name).exists()]
            if there:
                raise InputError(f"`--out` must be free for this run, but `{self.path}` has a `{there[0]}` of unknown settings ({fix})")
        elif found["fingerprint"] != self.job.fingerprint:
            raise InputError(
                f"`--out` must be free or of the same settings, but `{self.path}` holds results of others: {self._changed(found)} ({fix})"
            )

    def _changed(self, found: dict[str, Any]) -> str:
        """The first setting that differs, in words."""
        before, now = (dict(flat(settings)) for settings in (found.get("settings", {}), self.job.settings.model_dump()))
        for key in {**now, **before}:
            if before.get(key) != now.get(key):
                return f"`{key}` was {before.get(key, 'not given')}, is {now.get(key, 'not given')}"
        if found.get("sgdlimit") != __version__:
            return f"they are of sgdlimit {found.get('sgdlimit')}, this is {__version__}"
        return "the plugin has changed"


def checkpoint_name(part: Part) -> str:
    """Where the theory of one dynamics keeps what is half done."""
    return f"theory-{part.slug}.checkpoint"


def _owned(settings: dict[str, Any] | None) -> list[str]:
    """Plain file names an earlier run wrote down as its own; nothing else is ever removed."""
    names = (settings or {}).get("files", [])
    return [name for name in names if isinstance(name, str) and name == os.path.basename(name) and name not in ("", ".", "..")]


def _writable(path: Path) -> None:
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise InputError(f"`--out` must be a directory that can be made, but `{there}` is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"`--out` must be writable, but `{there}` is not (choose another directory)")
