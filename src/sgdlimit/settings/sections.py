"""What all tables of a settings file have in common, and how their mistakes are told: the field as the file names it, what it must be,
what it was, the usual fix, and the line. The tables themselves are in `training` (dynamics, optimisers, steps) and `config` (others)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import InputError, nearest, refuse


class Section(BaseModel):
    """One table of the file. `place` is where it stands, the kind included; it finds the known keys for a hint."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    place: ClassVar[tuple[str, ...]] = ()


_MUST: dict[str, str] = {
    "float_type": "be a number",
    "int_type": "be an integer",
    "int_from_float": "be an integer",
    "finite_number": "be finite",
    "string_type": "be a text in quotes",
    "bool_type": "be true or false",
    "list_type": "be a list",
    "dict_type": "be a table",
    "model_type": "be a table",
    "model_attributes_type": "be a table",
    "greater_than": "be greater than {gt:g}",
    "greater_than_equal": "be at least {ge:g}",
    "less_than": "be less than {lt:g}",
    "too_short": "have at least {min_length} entry",
}
KINDS = ("teacher", "penalty", "step", "optimizer", "average")  # tables of several kinds
_USUAL_FIX = {
    ("problem", "sample_ratio"): "it is n/d; 1.5 means 1500 samples for 1000 features",
    ("run", "horizon"): "time t; one epoch lasts step * sample_ratio",
    ("run", "rtol"): "0.01 asks for errors below 1% of each curve's scale",
    ("run", "budget"): "seconds that each theory may take; leave it out for as many as it takes",
    ("dynamics",): 'add a [[dynamics]] table with kind = "sgd"',
    ("run",): "add a [run] table with the horizon",
    ("simulation", "repeats"): "a standard error needs two",
}


def refusal(e: ValidationError, above: tuple[str | int, ...] = ()) -> InputError:
    """The first of pydantic's complaints, in our pattern. Unknown keys go first: a misspelt key is also a missing one."""
    errors = sorted(e.errors(include_url=False), key=lambda error: error["type"] != "extra_forbidden")
    error = errors[0]
    loc, kind, context = above + tuple(error["loc"]), error["type"], error.get("ctx", {})
    shown, value, fix = _shown(loc), error["input"], _USUAL_FIX.get(tuple(error["loc"]), "")
    if kind == "extra_forbidden":
        known = known_keys(tuple(part for part in loc[:-1] if isinstance(part, str)))
        return InputError(f"`{shown}` must be a known setting, but is not one ({nearest(str(loc[-1]), known)})")
    if kind == "missing" or kind == "union_tag_not_found":
        shown += ".kind" if kind == "union_tag_not_found" else ""
        return InputError(f"`{shown}` must be given, but is missing" + (f" ({fix})" if fix else ""))
    if kind == "union_tag_invalid":
        known = re.findall(r"'([^']+)'", context["expected_tags"])
        return refuse(f"{shown}.kind", "be one of " + ", ".join(known), context["tag"], nearest(context["tag"], known))
    if kind == "literal_error":
        known = re.findall(r"'([^']+)'", context["expected"])
        return refuse(shown, "be one of " + ", ".join(known), value, nearest(str(value), known) if isinstance(value, str) else "")
    if kind == "value_error":
        return InputError(f"`{shown}` {context['error']}")
    must = _MUST.get(kind, "").format(**context) or error["msg"][:1].lower() + error["msg"][1:]
    return refuse(shown, "be positive" if must == "be greater than 0" else must, value, fix)


def _sections(above: type[Section]) -> Iterator[type[Section]]:
    for child in above.__subclasses__():
        yield child
        yield from _sections(child)


def known_keys(place: tuple[str, ...]) -> list[str]:
    """Of the section that stands at the end of a place: an optimizer is the same in every dynamics."""
    stands = lambda section: place[-len(section.place) :] == section.place
    return [key for section in _sections(Section) if stands(section) for key in section.model_fields]


def _shown(loc: tuple[str | int, ...]) -> str:
    """A place as a reader of the file writes it; pydantic's markers of the kind chosen are left out."""
    kinds = {section.place[-1] for section in _sections(Section) if "kind" in section.model_fields}
    text = ""
    for i, part in enumerate(loc):
        if isinstance(part, int):
            text += f"[{part}]"
        elif not (part in kinds and i and (isinstance(loc[i - 1], int) or loc[i - 1] in KINDS)):
            text += f".{part}" if text else part
    return text


@contextmanager
def within(place: tuple[str | int, ...]) -> Iterator[None]:
    """Refusals from inside name their field relative to `place`; put the place before it."""
    try:
        yield
    except InputError as e:
        field = re.match(r"`([^`]*)`", str(e))
        above = _shown(place)
        if field is None or field[1].startswith((f"{above}.", "--")) or field[1] == above:
            raise
        raise InputError(f"`{above}.{str(e)[1:]}") from None


@contextmanager
def placed(path: Path, text: str) -> Iterator[None]:
    """Refusals from inside get the file's name and the line of the field they name."""
    try:
        yield
    except InputError as e:
        field = re.match(r"`([^`]*)`", str(e))
        line = None if field is None else line_of(text, field[1])
        raise InputError(f"{path.name}{f', line {line}' if line else ''}: {e}") from None


def line_of(text: str, field: str) -> int | None:
    """The line where `field` (such as `dynamics[1].step`) stands in a TOML text; failing that, its nearest table."""
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*(\[\[?)\s*([\w.\-\"]+)\s*\]", line):
            table = header[2].replace('"', "")
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table += f"[{counts[table]}]"
            lines.setdefault(table, number)
        elif key := re.match(r"\s*([\w.\-\"]+)\s*=", line):
            here = ".".join(filter(None, (table, key[1].replace('"', ""))))
            lines.setdefault(here, number)
            # The keys of an inline table stand on the same line.
            for inner in re.findall(r"[{,]\s*([\w\-]+)\s*=", line):
                lines.setdefault(f"{here}.{inner}", number)
    while field:
        if field in lines:
            return lines[field]
        field = re.sub(r"(\.?[^.\[]+|\[\d+\])$", "", field)  # a table for its key, a list for its entry
    return None
