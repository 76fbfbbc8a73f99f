"""`sgdlimit tune FILE.toml`: what is tuned stands in the file's `[tune]`, and everything that is tried in a folder.

    [tune]
    epochs = 3                          # or run.horizon, the time t
    objective = "test_risk"             # or "train_risk"
    at = "end"                          # or "best", at its best time
    dynamics = "SGD"                    # by name; the first if not given

    [tune.bounds]                       # numeric fields of problem and dynamics, as in a sweep
    "dynamics.step" = { from = 0.1, to = 5.0, scale = "log" }
    "problem.penalty.ridge" = { from = 0.001, to = 1.0, scale = "log" }

With `knots = 6` in the place of bounds, the step is tuned as a function of time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from ..errors import InputError, nearest, refuse
from ..files import replacing
from ..results.tuned import Tuned, TunedSchedule
from ..settings import config
from ..settings.sections import Section, placed, refusal
from ..settings.training import Positive
from ..show import page, paper
from ..show.words import flat
from ..sweep.recipe import SettingsRecipe
from ..theory.checks import check_theory
from ..version import __version__
from .numbers import tune
from .pool import Pool
from .schedule import MOST_KNOTS, tune_schedule
from .space import Axis, Clock, axes_of
from .trials import Together

STEP = "dynamics.step"


class BoundsSpec(Section):
    place = ("tune", "bounds")
    model_config = ConfigDict(populate_by_name=True)
    start: Annotated[float, Field(alias="from")]
    to: float
    scale: Literal["linear", "log"] = "linear"


class TuneSpec(Section):
    place = ("tune",)
    bounds: Annotated[dict[str, BoundsSpec], Field(default_factory=dict)]
    epochs: Positive | None = None
    objective: Literal["test_risk", "train_risk"] = "test_risk"
    at: Literal["end", "best"] = "end"
    dynamics: str | None = None
    knots: Annotated[int, Field(ge=2, le=MOST_KNOTS)] | None = None
    rivals: bool = True


@dataclass(frozen=True)
class TuneJob:
    """A file, checked. `fields` are the numbers' short names and the fields that they stand for."""

    title: str
    recipe: SettingsRecipe
    spec: TuneSpec
    part: int
    name: str
    axes: tuple[Axis, ...]
    fields: dict[str, str]
    rtol: float
    seed: int
    horizon: float | None
    fingerprint: str

    @property
    def clock(self) -> Clock:
        return Clock(self.horizon, self.spec.epochs)

    def build(self, numbers: dict[str, float]) -> Any:
        """The problem and the dynamics at these numbers."""
        values = {self.fields[name]: value for name, value in numbers.items()}
        work = self.recipe.build(values, self.part, 1.0 if self.horizon is None else None)
        return work.problem, work.dynamics

    def run(
        self, checkpoint: Path | None, progress: Callable[[float, str], object] | None, together: Together | None = None
    ) -> Tuned | TunedSchedule:
        spec = self.spec
        common: Any = {"rtol": self.rtol, "seed": self.seed, "checkpoint": checkpoint, "progress": progress, "together": together}
        if spec.knots is None:
            bounds = {axis.name: (axis.low, axis.high, axis.scale) for axis in self.axes}
            problem = self.build({axis.name: axis.number(0.5) for axis in self.axes})[0]
            make = lambda **numbers: self.build(numbers)
            return tune(problem, make, bounds, spec.objective, spec.at, epochs=spec.epochs, horizon=self.horizon, **common)
        problem, dynamics = self.build({"step": 1.0})
        train = lambda step: replace(dynamics, step=step)
        return tune_schedule(problem, train, spec.epochs or 1.0, spec.knots, spec.objective, spec.at, rivals=spec.rivals, **common)


def read(path: str | Path, plugin: str | Path | None = None) -> TuneJob:
    """The tuning that a TOML file asks for.

    Raises:
        InputError: one sentence with the field, what it must be, what it was, and its line.
    """
    path = Path(path)
    raw, text = config.parse(path)
    section = raw.pop("tune", None)
    if section is None:
        raise InputError(f"`{path}` must have a [tune] section with bounds, but has none (sgdlimit run takes a file without)")
    if plugin is not None:
        config.load_plugin(Path(plugin))
    recipe = SettingsRecipe(raw, Path(plugin).read_text(encoding="utf-8") if plugin else None, str(plugin or ""))
    with placed(path, text):
        try:
            spec = TuneSpec.model_validate(section)
        except ValidationError as e:
            raise refusal(e, ("tune",)) from None
        try:
            return _job(recipe, spec, str(raw.get("title") or path.stem))
        except InputError as e:  # a recipe calls what it is asked for by the name of a sweep's
            raise InputError(str(e).replace("`sweep.axes", "`tune.bounds").replace("`sweep.epochs", "`tune.epochs")) from None


def _job(recipe: SettingsRecipe, spec: TuneSpec, title: str) -> TuneJob:
    run = recipe.raw.get("run", {})
    _agree(spec, run)
    axes, fields = _axes(spec)
    middle = {fields[axis.name]: axis.number(0.5) for axis in axes}
    epochs = None if spec.epochs is None else 1.0
    names = recipe.names(middle, epochs)
    if spec.dynamics is not None and spec.dynamics not in names:
        raise refuse("tune.dynamics", "name a dynamics of the file", spec.dynamics, nearest(spec.dynamics, names))
    part = 0 if spec.dynamics is None else names.index(spec.dynamics)
    settings = recipe.settings(middle, epochs)
    horizon = None if spec.epochs is not None else settings.run.horizon
    described = {"version": __version__, **recipe.describe(middle, epochs), "tune": spec.model_dump()}
    fingerprint = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()[:16]
    job = TuneJob(title, recipe, spec, part, names[part], axes, fields, settings.run.rtol, settings.run.seed, horizon, fingerprint)
    for end in (0.0, 0.5, 1.0):
        check_theory(*job.build({axis.name: axis.number(end) for axis in axes}))
    return job


def _agree(spec: TuneSpec, run: Any) -> None:
    given = isinstance(run, dict) and "horizon" in run
    if spec.epochs is not None and given:
        raise InputError("`tune.epochs` must be given alone, but `run.horizon` is there too (drop one of them)")
    if spec.epochs is None and not given:
        raise InputError("`tune.epochs` must be given, but is missing (how many to train, or run.horizon, the time t)")
    if spec.knots is None and not spec.bounds:
        raise InputError('`tune.bounds` must be given, but is missing ("dynamics.step" = { from = 0.1, to = 5.0, scale = "log" })')
    if spec.knots is not None and spec.bounds:
        raise InputError("`tune.knots` must be given alone, but `tune.bounds` is there too (knots tune the step as a function of time)")
    if spec.knots is not None and spec.epochs is None:
        raise InputError("`tune.epochs` must be given with `knots`, but is missing (a schedule is tuned for so many epochs)")


def _axes(spec: TuneSpec) -> tuple[tuple[Axis, ...], dict[str, str]]:
    """Numbers by short names, where these tell them apart."""
    if spec.knots is not None:
        return (Axis("step", 0.5, 2.0, "log"),), {"step": STEP}
    short = [field.rpartition(".")[2] for field in spec.bounds]
    names = {field: name if short.count(name) == 1 else field for field, name in zip(spec.bounds, short, strict=True)}
    axes = axes_of({names[field]: (one.start, one.to, one.scale) for field, one in spec.bounds.items()})
    return axes, {name: field for field, name in names.items()}


# --- the folder ----------------------------------------------------------------------------------------------------------


def execute(
    job: TuneJob, out: Path, force: bool, progress: Callable[[float, str], object] | None, client: Any = None
) -> Tuned | TunedSchedule:
    """Tune, and write `tuned.nc`, the picture and the page. What an interrupted tuning has tried is in `trials.json`, and not solved again.
    With a Dask `client` its workers do what need not wait for each other.

    Raises:
        InputError: the folder has a tuning of other settings, and `force` is not given.
    """
    _begin(job, out, force)
    found = job.run(out / "trials.json", progress, None if client is None else Pool(client, job))
    found.save(out / "tuned.nc")
    drawn = found.figure()
    for name in ("tuned.png", "tuned.svg"):
        paper.save(drawn, out / name)
    page.write(out / "report.html", report(job, found))
    return found


def _begin(job: TuneJob, out: Path, force: bool) -> None:
    settings = out / "settings.json"
    if out.exists() and not out.is_dir():
        raise InputError(f"`--out` must be a directory that can be made, but `{out}` is a file")
    fix = "give --force to replace it, or another --out"
    if settings.exists() and not force:
        try:
            before = json.loads(settings.read_text(encoding="utf-8")).get("fingerprint")
        except (OSError, ValueError, AttributeError):
            before = None
        if before != job.fingerprint:
            raise InputError(f"`--out` must be free or of the same settings, but `{out}` holds results of others ({fix})")
    elif not force and any((out / name).exists() for name in ("tuned.nc", "trials.json", "report.html")):
        raise InputError(f"`--out` must be free for this tuning, but `{out}` has results of unknown settings ({fix})")
    out.mkdir(parents=True, exist_ok=True)
    if force:
        (out / "trials.json").unlink(missing_ok=True)
    described = {"sgdlimit": __version__, "fingerprint": job.fingerprint, "title": job.title, "settings": job.recipe.raw}
    with replacing(settings) as temporary:
        temporary.write_text(json.dumps(described | {"tune": job.spec.model_dump()}, indent=2) + os.linesep, encoding="utf-8")


def report(job: TuneJob, found: Tuned | TunedSchedule) -> str:
    """The page."""
    from ..results.tuned_drawing import picture

    rows = found.trials
    columns = [str(name) for name in rows.data_vars if name not in ("replicates", "paths", "cells")]
    spell = lambda value: value if isinstance(value, str) else f"{value:.5g}"
    cells = [[spell(rows[name].values[i].item()) for name in columns] for i in range(rows.sizes["trial"])]
    return page.render(
        "sgdlimit.tune",
        "tuned.html",
        title=job.title,
        words=str(found).splitlines(),
        schedule=found.schedule.settings() if isinstance(found, TunedSchedule) else "",
        drawing=picture(found),
        columns=columns,
        cells=cells,
        settings=list(flat({"tune": job.spec.model_dump(exclude_defaults=True), **job.recipe.raw})),
        footer=f"sgdlimit {__version__}, settings {job.fingerprint}.",
    )
