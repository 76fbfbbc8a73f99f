"""A TOML file becomes a `Job`: a problem, the dynamics and the run's settings. A file holds constants and never runs code.

    title = "Saturating unit"

    [problem]
    model = "tanh_regression"           # a name of sgdlimit.models, or "plugin:NAME" with --plugin FILE.py
    parameters = { noise = 0.3 }
    sample_ratio = 1.5                  # n / d
    teacher = { kind = "gaussian", cov = 2.25 }
    init = { overlap = 0.0, cov = 1.0 } # a number stands for that number times the identity
    penalty = { kind = "ridge", strength = 0.05 }

    [problem.spectrum]                  # leave out for isotropic data; or eigenvalues, weights and teacher
    power_law = { exponent = 1.2, teacher_exponent = 0.5, n_features = 1000 }

    [[dynamics]]
    kind = "sgd"
    step = 1.5                          # or learning_rate, batch_size and n_features, with PyTorch's momentum, or betas
    optimizer = { kind = "momentum", memory = 0.8 } # or adam; besides temperature and clip, whatever the kind of dynamics

    [run]
    horizon = 4.0
    rtol = 0.01

    [simulation]                        # leave out for theory alone
    n_features = 2000

What a model trains along is said anew in `[problem.trained]` (`penalties`). Every refusal names the field as the file does, and its line.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import sys
import tomllib
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field, ValidationError

from .. import models
from ..errors import InputError, Words, nearest, refuse
from ..learning.averages import Average, ExponentialAverage, TailAverage
from ..learning.dynamics import Dynamics, check_schedule
from ..learning.problem import Problem
from ..learning.spectrum import Spectrum
from ..learning.weights import EmpiricalTeacher, GaussianTeacher, Init, SparseTeacher, Teacher
from ..results import output_times
from ..version import __version__
from .penalties import RidgeSpec, SmoothL1Spec, TrainedSpec
from .sections import Section, placed, refusal, within
from .training import Count, DynamicsSpec, Positive, title_of

# --- what a file may say ---------------------------------------------------------------------------------------------


def _matrix(value: Any) -> Any:
    rows = value if isinstance(value, list) else [[value]]
    if not all(isinstance(row, list) and all(isinstance(x, int | float) and not isinstance(x, bool) for x in row) for row in rows):
        raise ValueError(f"must be a number or a list of rows of numbers, but is {value!r} ([[2.25]] for one direction)")
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"must have rows of one length, but is {value!r}")
    return value


Matrix = Annotated[Any, AfterValidator(_matrix)]


class GaussianSpec(Section):
    place = ("problem", "teacher", "gaussian")
    kind: Literal["gaussian"]
    cov: Matrix

    def build(self, size: int) -> Teacher:
        return GaussianTeacher(_times_identity(self.cov, size))


class SparseSpec(Section):
    place = ("problem", "teacher", "sparse")
    kind: Literal["sparse"]
    density: float
    cov: Matrix

    def build(self, size: int) -> Teacher:
        return SparseTeacher(self.density, _times_identity(self.cov, size))


class EmpiricalSpec(Section):
    place = ("problem", "teacher", "empirical")
    kind: Literal["empirical"]
    rows: Matrix

    def build(self, size: int) -> Teacher:
        return EmpiricalTeacher(self.rows)


class InitSpec(Section):
    place = ("problem", "init")
    overlap: Matrix = 0.0
    cov: Matrix = 1.0


class PowerLawSpec(Section):
    place = ("problem", "spectrum", "power_law")
    exponent: Annotated[float, Field(ge=0)]
    teacher_exponent: float = 0.0
    n_features: Annotated[int, Field(ge=2)] = 1000
    size: Annotated[int, Field(ge=2)] = 32


class SpectrumSpec(Section):
    """Either `eigenvalues` with what belongs to them, or a `power_law`."""

    place = ("problem", "spectrum")
    eigenvalues: list[float] | None = None
    weights: list[float] | None = None
    teacher: list[Any] | None = None
    power_law: PowerLawSpec | None = None

    def build(self) -> Spectrum:
        with within(("spectrum",)):
            if (self.eigenvalues is None) == (self.power_law is None):
                both = "both are" if self.power_law else "neither is"
                raise InputError(f"`eigenvalues` must be given, or else `power_law`, but {both} (power_law = {{ exponent = 1.2 }})")
            if self.power_law is None:
                return Spectrum(self.eigenvalues, self.weights, self.teacher)
            for name in ("weights", "teacher"):
                if (value := getattr(self, name)) is not None:
                    raise refuse(name, "be left out with a power_law", value, "its teacher_exponent says how the teacher falls")
            law = self.power_law
            return Spectrum.power_law(law.exponent, law.teacher_exponent, law.n_features, law.size)


class ProblemSpec(Section):
    place = ("problem",)
    model: str
    parameters: Annotated[dict[str, Any], Field(default_factory=dict)]
    sample_ratio: float
    teacher: Annotated[GaussianSpec | SparseSpec | EmpiricalSpec, Field(discriminator="kind")]
    init: InitSpec = InitSpec()
    penalty: Annotated[RidgeSpec | SmoothL1Spec, Field(discriminator="kind")] | None = None
    spectrum: SpectrumSpec | None = None
    trained: TrainedSpec | None = None


class RunSpec(Section):
    place = ("run",)
    horizon: Positive
    rtol: Annotated[float, Field(gt=0, lt=1)] = 0.01
    seed: Annotated[int, Field(ge=0)] = 0
    times: list[float] | None = None
    budget: Positive | None = None


class ExponentialAverageSpec(Section):
    place = ("average", "exponential")
    kind: Literal["exponential"]
    memory: float

    def build(self) -> Average:
        return ExponentialAverage(self.memory)


class TailAverageSpec(Section):
    place = ("average", "tail")
    kind: Literal["tail"]
    fraction: float = 0.5

    def build(self) -> Average:
        return TailAverage(self.fraction)


class SimulationSpec(Section):
    place = ("simulation",)
    n_features: Count
    batch_size: Count = 1
    repeats: Annotated[int, Field(ge=2)] = 8
    design: Literal["gaussian", "rademacher", "uniform"] = "gaussian"
    average: Annotated[ExponentialAverageSpec | TailAverageSpec, Field(discriminator="kind")] | None = None
    left_out: bool = False

    def arguments(self) -> dict[str, Any]:
        """Those of `simulate`."""
        with within(("simulation",)):
            return {**self.model_dump(), "average": None if self.average is None else self.average.build()}


class Settings(Section):
    title: str = ""
    problem: ProblemSpec
    dynamics: Annotated[list[DynamicsSpec], Field(min_length=1)]
    run: RunSpec
    simulation: SimulationSpec | None = None


# --- from a file to a job ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """One dynamics of a job: `name` for people, `slug` for file names."""

    name: str
    slug: str
    dynamics: Dynamics


@dataclass(frozen=True)
class Job:
    """Everything `sgdlimit run` needs, checked. `fingerprint` is equal for equal settings, plugin and version."""

    title: str
    settings: Settings
    problem: Problem
    parts: tuple[Part, ...]
    times: np.ndarray
    fingerprint: str
    plugin: Path | None = None


def read(path: str | Path, plugin: str | Path | None = None) -> Job:
    """Read and check a TOML file; `plugin` is a Python file with models of the user's own, the only code that is run.

    Raises:
        InputError: one sentence with the field, what it must be, what it was, and its line.
    """
    path = Path(path)
    if plugin is not None:
        plugin = Path(plugin)
    raw, text = parse(path)
    for other in {"sweep", "tune"} & raw.keys():
        raise InputError(f"`FILE` must be the settings of one run, but `{path}` has a [{other}] (sgdlimit {other} {path})")
    module = None if plugin is None else load_plugin(plugin)
    with placed(path, text):
        settings = _settings(raw)
        problem = _problem(settings.problem, module)
        parts = _parts(settings.dynamics)
        with within(("run",)):
            times = output_times(settings.run.horizon, settings.run.times)
        if settings.simulation is not None:
            settings.simulation.arguments()
        for i, part in enumerate(parts):
            with within(("dynamics", i)):
                check_schedule(part.dynamics, settings.run.horizon)
    described = {"version": __version__, "settings": settings.model_dump(), "plugin": plugin.read_text() if plugin else None}
    fingerprint = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
    return Job(settings.title or path.stem, settings, problem, parts, times, fingerprint, plugin)


def parse(path: Path) -> tuple[dict[str, Any], str]:
    """A TOML file's tables, unchecked, and its text."""
    text = _text(path, "FILE", ".toml")
    try:
        return tomllib.loads(text), text
    except tomllib.TOMLDecodeError as e:
        raise InputError(f"`{path}` must be a TOML file, but cannot be read: {e}") from None


def load_plugin(path: Path) -> Any:
    """Run a user's Python file and return it as a module; its mistakes get its file and line."""
    _text(path, "--plugin", ".py")
    name = f"sgdlimit_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise refuse("--plugin", "be a Python file", str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        raise InputError(
            f"`--plugin` must be a Python file that runs, but {path} fails{_line_of(e, path)}: {type(e).__name__}: {e}"
        ) from None
    return module


def _text(path: Path, field: str, suffix: str) -> str:
    if not path.exists():
        beside = [p.stem for p in path.parent.glob(f"*{suffix}")] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.stem, beside, n=1)
        hint = f" (did you mean `{path.with_name(close[0] + suffix)}`?)" if close else ""
        raise InputError(f"`{field}` must be an existing file, but `{path}` does not exist{hint}")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "it is not UTF-8 text"
        raise InputError(f"`{field}` must be a file that can be read, but `{path}` cannot: {reason}") from None


def _line_of(e: Exception, path: Path) -> str:
    if isinstance(e, SyntaxError):
        return f" in line {e.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(e.__traceback__) if frame.filename == str(path)]
    return f" in line {lines[-1]}" if lines else ""


def _settings(raw: dict[str, Any]) -> Settings:
    try:
        return Settings.model_validate(raw)
    except ValidationError as e:
        raise refusal(e) from None


def _problem(spec: ProblemSpec, module: Any, make: Callable[[ProblemSpec, Any], models.Model] | None = None) -> Problem:
    """The problem; `make` may hand out models made before."""
    with within(("problem",)):
        model = (make or _model)(spec, module)
        with within(("penalty",)):
            penalty = model.penalty if spec.penalty is None else spec.penalty.build()
        teacher = spec.teacher.build(model.k_star)
        shapes = {
            "teacher.rows" if isinstance(spec.teacher, EmpiricalSpec) else "teacher.cov": (teacher.cov.shape, (model.k_star, model.k_star)),
            "init.overlap": (np.shape(_times_identity(spec.init.overlap, model.k, model.k_star)), (model.k, model.k_star)),
            "init.cov": (np.shape(_times_identity(spec.init.cov, model.k)), (model.k, model.k)),
        }
        for field, (shape, wanted) in shapes.items():
            if shape != wanted:
                fix = f"it has {model.k} student and {model.k_star} teacher direction(s)"
                raise refuse(field, f"be {wanted} for the model `{spec.model}`", Words(f"of shape {shape}"), fix)
        init = Init(_times_identity(spec.init.overlap, model.k, model.k_star), _times_identity(spec.init.cov, model.k))
        spectrum = None if spec.spectrum is None else spec.spectrum.build()
        trained = model.trained if spec.trained is None else spec.trained.build(model.trained)
        return Problem(model.loss, model.label, model.noise, spec.sample_ratio, teacher, init, penalty, spectrum, trained=trained)


def _model(spec: ProblemSpec, module: Any) -> models.Model:
    if not spec.model.startswith("plugin:"):
        if spec.model not in models.MODELS and module is None:
            hint = f"{nearest(spec.model, models.MODELS)}; a model of your own needs --plugin FILE.py"
            raise refuse("model", "be a known model", spec.model, hint)
        return models.build(spec.model, spec.parameters)
    name = spec.model.removeprefix("plugin:")
    if module is None:
        raise refuse("model", "name a built-in model unless a plugin is given", spec.model, "add --plugin FILE.py to the command")
    make = getattr(module, name, None)
    if not callable(make):
        known = [n for n, f in vars(module).items() if callable(f) and getattr(f, "__module__", "") == module.__name__]
        raise refuse("model", "name a function of the plugin", name, nearest(name, known) if known else "it has none")
    try:
        return models.call_model(make, name, spec.parameters)
    except InputError:
        raise
    except Exception as e:
        line = _line_of(e, Path(module.__file__))
        raise InputError(f"`model` must be built by the plugin, but `{name}` fails{line}: {type(e).__name__}: {e}") from None


def _parts(specs: list[Any]) -> tuple[Part, ...]:
    parts: list[Part] = []
    for i, spec in enumerate(specs):
        with within(("dynamics", i)):
            dynamics = spec.build()
            name = spec.name or title_of(dynamics)
            slug = name.lower().replace(" ", "-").replace(",", "")
            if slug in [part.slug for part in parts]:
                raise refuse("name", "differ between the dynamics", name, "give each of them its own `name`")
            parts.append(Part(name, slug, dynamics))
    return tuple(parts)


def _times_identity(value: Any, rows: int, columns: int | None = None) -> Any:
    """A bare number stands for that number times the identity."""
    return value if isinstance(value, list) else float(value) * np.eye(rows, columns)
