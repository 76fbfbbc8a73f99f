"""The directory of a gallery: a folder per claim, and an index.

    index.html                   all claims that are there, with their verdicts
    NAME/numbers.json            what was computed, its fingerprint, the checks and the verdict
    NAME/settings.toml           the settings, as they may be given again
    NAME/figure.svg, figure.png
    NAME/page.html               all of it on one page

`numbers.json` appears whole or not at all and comes first; the others are made from it, so a claim that was interrupted while it was
being computed is computed again, and one that was interrupted while it was being written is only written again.
"""

from __future__ import annotations

import base64
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import replacing
from ..settings.folder import _writable
from ..show.page import render
from ..version import __version__
from .claims import CLAIMS, Check, Claim, Numbers, Plan, Progress, Verdict

FILES = ("numbers.json", "settings.toml", "figure.svg", "figure.png", "page.html")


@dataclass(frozen=True)
class Finished:
    """A claim that is done: its plan, numbers, verdict, and what it took."""

    plan: Plan
    numbers: Numbers
    verdict: Verdict
    cpu_seconds: float
    wall_seconds: float

    @property
    def claim(self) -> Claim:
        return self.plan.claim


def check(path: Path, plans: Sequence[Plan], force: bool) -> None:
    """Refuse before anything is computed.

    Raises:
        InputError: the directory cannot be written, or it has one of these claims with other settings and `force` is not given.
    """
    _writable(path)
    for plan in plans:
        there = _read(path / plan.claim.name)
        if there is not None and there["fingerprint"] != plan.fingerprint and not force:
            how = "fast" if there.get("fast") else "full"
            raise InputError(
                f"`--out` must be free or of the same settings, but `{path / plan.claim.name}` has the claim with other settings ({how},"
                f" sgdlimit {there.get('sgdlimit')}; give --force to replace it, or another --out)"
            )


def execute(
    path: Path, plans: Sequence[Plan], around: Callable[[str, bool], AbstractContextManager[Progress]], again: bool = False
) -> list[Finished]:
    """Compute what is missing and write everything, one claim after the other.

    Arguments:
        around: `around(name, finished)` gives the claim's progress callback; `finished` tells that its numbers are there already.
        again: compute also what is there.
    """
    done = []
    for plan in plans:
        folder = path / plan.claim.name
        there = None if again else _read(folder)
        if there is not None and there["fingerprint"] != plan.fingerprint:
            there = None
        with around(plan.claim.name, there is not None) as tell:
            if there is None:
                there = _compute(plan, folder, tell)
            finished = Finished(plan, there["numbers"], plan.claim.judge(there["numbers"]), there["cpu_seconds"], there["wall_seconds"])
            write(folder, finished)
        done.append(finished)
        write_index(path)
    return done


def _compute(plan: Plan, folder: Path, tell: Progress) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    numbers = json.loads(json.dumps(plan.claim.measure(plan.settings, tell)))  # what a file holds, now and when it is read again
    described = _described(plan, numbers, plan.claim.judge(numbers), time.process_time() - cpu, time.perf_counter() - wall)
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:  # an earlier page does not belong to these numbers
        (folder / name).unlink(missing_ok=True)
    _put(folder / "numbers.json", json.dumps(described, indent=1) + "\n")
    return described


def _described(plan: Plan, numbers: Numbers, verdict: Verdict, cpu: float, wall: float) -> dict[str, Any]:
    return {
        "sgdlimit": __version__,
        "claim": plan.claim.name,
        "title": plan.claim.title,
        "fingerprint": plan.fingerprint,
        "fast": plan.fast,
        "holds": verdict.holds,
        "verdict": verdict.sentence,
        "law": verdict.law,
        "checks": [asdict(one) | {"holds": one.holds} for one in verdict.checks],
        "cpu_seconds": round(cpu, 1),
        "wall_seconds": round(wall, 1),
        "numbers": numbers,
    }


def write(folder: Path, finished: Finished) -> None:
    """Everything that follows from the numbers: their verdict, the figure, the page."""
    from ..show.paper import save

    plan = finished.plan
    described = _described(plan, finished.numbers, finished.verdict, finished.cpu_seconds, finished.wall_seconds)
    _put(folder / "numbers.json", json.dumps(described, indent=1) + "\n")
    _put(folder / "settings.toml", plan.text)
    figure = plan.claim.draw(finished.numbers)
    for name in ("figure.svg", "figure.png"):
        save(figure, folder / name)
    _put(folder / "page.html", page(finished, (folder / "figure.png").read_bytes()))


def page(finished: Finished, picture: bytes) -> str:
    """One claim's page as HTML; nothing on it is fetched from anywhere."""
    claim, verdict = finished.claim, finished.verdict
    head, *body = claim.table(finished.numbers)
    return render(
        "sgdlimit.gallery",
        "claim.html",
        claim=claim,
        verdict=verdict,
        checks=[row(one) for one in verdict.checks],
        picture=base64.b64encode(picture).decode(),
        head=head,
        body=body,
        settings=finished.plan.text,
        fast=finished.plan.fast,
        footer=f"sgdlimit {__version__}, settings {finished.plan.fingerprint}, {finished.cpu_seconds:.0f} CPU-seconds.",
    )


def row(check: Check) -> dict[str, str | bool]:
    """A check for a table."""
    return {
        "what": check.what,
        "value": f"{spoken(check.value)} {check.unit}".strip(),
        "bound": f"{'≥' if check.least else '≤'} {spoken(check.bound)}",
        "holds": check.holds,
    }


def spoken(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else str(value)


def write_index(path: Path) -> None:
    """Links to all claims that are there, in the gallery's order."""
    found = [(name, there) for name in CLAIMS if (there := _read(path / name)) is not None and (path / name / "page.html").exists()]
    rows = [{"name": name, **{key: there[key] for key in ("title", "holds", "verdict", "cpu_seconds", "fast")}} for name, there in found]
    _put(path / "index.html", render("sgdlimit.gallery", "index.html", claims=rows, footer=f"sgdlimit {__version__}."))


def _read(folder: Path) -> dict[str, Any] | None:
    """What a claim's folder has, if its numbers are whole."""
    try:
        found = json.loads((folder / "numbers.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    needed = {"fingerprint", "numbers", "title", "holds", "verdict", "cpu_seconds", "wall_seconds", "fast"}
    return found if isinstance(found, dict) and needed <= set(found) else None


def _put(path: Path, text: str) -> None:
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
