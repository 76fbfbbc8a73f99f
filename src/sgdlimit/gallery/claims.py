"""What a claim is: its words, its settings, its numbers, and the checks that make its verdict."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module, resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import InputError, nearest, refuse
from ..settings.sections import Section, placed, refusal
from ..version import __version__

Numbers = dict[str, Any]
Progress = Callable[[float, str], Any]


@dataclass(frozen=True)
class Check:
    """One thing that could have come out otherwise: a statistic against its bound.

    Attributes:
        what: the statistic, in words.
        value, bound: the check holds if `value` is at most `bound`, or at least for `least`; never for NaN.
        unit: of both, e.g. "se" for standard errors.
    """

    what: str
    value: float
    bound: float
    unit: str = ""
    least: bool = False

    @property
    def holds(self) -> bool:
        return bool(self.value >= self.bound if self.least else self.value <= self.bound)

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.what} is {self.value:.3g}{unit}, must be {'at least' if self.least else 'at most'} {self.bound:.3g}"


@dataclass(frozen=True)
class Verdict:
    """`holds` if every check does; `summary` is what then may be said, `law` the statistical law and level behind the bounds."""

    checks: tuple[Check, ...]
    summary: str
    law: str

    @property
    def holds(self) -> bool:
        return bool(self.checks) and all(check.holds for check in self.checks)

    @property
    def sentence(self) -> str:
        if self.holds:
            return f"holds: {self.summary}"
        failed = [str(check) for check in self.checks if not check.holds]
        more = f" (and {len(failed) - 2} more)" if len(failed) > 2 else ""
        return "does not hold: " + ("; ".join(failed[:2]) + more if failed else "nothing was checked") + "."


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        name: on the command line and of its directory.
        title, words, source: for its page; `words` may have several sentences.
        settings: the type of its settings file.
        measure: settings to numbers, which JSON can hold; the only part that computes.
        judge: numbers to verdict.
        draw: numbers to figure.
        table: numbers to rows of a table, the first one its head.
        caption: what the figure shows.
    """

    name: str
    title: str
    words: str
    source: str
    settings: type[Section]
    measure: Callable[[Any, Progress], Numbers]
    judge: Callable[[Numbers], Verdict]
    draw: Callable[[Numbers], Any]
    table: Callable[[Numbers], list[list[str]]]
    caption: str


# In the order of the argument: finite size first, since all others rest on it.
CLAIMS = (
    "finite-size", "batch-size", "universality", "distinct", "linear-model", "small-step", "many-samples", "reshuffling", "divergence",
    "momentum", "momentum-stability", "adam-batch", "averaging", "private", "nesterov", "adam-features",
    "trained-head", "lazy-rich", "imbalance", "one-run", "one-pass-schedule", "best-schedule", "tuned-momentum",
    "ridge-or-stopping", "reuse",
)  # fmt: skip


def find(name: str) -> Claim:
    """The claim of this name.

    Raises:
        InputError: there is none.
    """
    if name not in CLAIMS:
        raise refuse("NAME", "be a claim of the gallery", name, nearest(name, CLAIMS))
    return import_module(f".{name.replace('-', '_')}", __package__).CLAIM


@dataclass(frozen=True)
class Plan:
    """One claim with settings: `text` is the settings file, `fingerprint` equal for equal settings and version."""

    claim: Claim
    settings: Any
    text: str
    fast: bool
    fingerprint: str


def plan(name: str, fast: bool = False, path: Path | None = None) -> Plan:
    """Read and check a claim's settings: those that come with it, or a file.

    Arguments:
        name: of the claim.
        fast: put what the file's `[fast]` table says in place of the same entries of `[experiment]`.
        path: a settings file of one's own.

    Raises:
        InputError: one sentence with the field and its line.
    """
    claim = find(name)
    if path is None:
        path = Path(f"{name}.toml")
        text = resources.files("sgdlimit.gallery").joinpath("settings", path.name).read_text(encoding="utf-8")
    else:
        from ..settings.config import _text

        text = _text(path, "--settings", ".toml")
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise InputError(f"`{path}` must be a TOML file, but cannot be read: {e}") from None
    with placed(path, text):
        quick = raw.pop("fast", {})
        if fast:
            if not (isinstance(quick, dict) and isinstance(raw.get("experiment"), dict)):
                raise refuse("fast", "be a table of entries of [experiment]", quick)
            raw["experiment"] = raw["experiment"] | quick
        try:
            settings = claim.settings.model_validate(raw)
        except ValidationError as e:
            raise refusal(e) from None
        check = getattr(settings, "check", None)
        if check is not None:
            check()
    described = json.dumps({"version": __version__, "claim": name, "settings": settings.model_dump()}, sort_keys=True)
    return Plan(claim, settings, text, fast, hashlib.sha256(described.encode()).hexdigest()[:16])
