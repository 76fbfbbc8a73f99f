"""What tuning gives: the best numbers or the best schedule, with errors, all that was tried, and the solution there."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import xarray as xr

from ..errors import InputError
from ..files import replacing
from ..schedules import Knots
from ..show.words import spoken, table
from .result import Solution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WHEN = {"end": "at the end", "best": "at its best time"}


class Kept:
    """Saved as one NetCDF file: the trials, in a group the solution, and the rest as JSON."""

    trials: xr.Dataset
    solution: Solution

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one NetCDF file, which `sl.load` reads. It appears whole or not at all."""
        path = Path(path)
        if not path.parent.is_dir():
            raise InputError(f"`path` must be in an existing directory, but `{path.parent}` is not one (make it first)")
        attrs = {"sgdlimit_kind": type(self).__name__, "tuned": json.dumps(self._plain())}
        with replacing(path) as temporary:
            self.trials.assign_attrs(attrs).to_netcdf(temporary, engine="h5netcdf")
            self.solution.described().to_netcdf(temporary, mode="a", group="solution", engine="h5netcdf")

    def _plain(self) -> dict[str, Any]:
        """All but the two datasets, as JSON has it."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("trials", "solution")}  # pyright: ignore

    @classmethod
    def from_file(cls, path: Path, trials: xr.Dataset) -> Self:
        """What `save` wrote; `trials` are read already."""
        with xr.open_dataset(path, engine="h5netcdf", group="solution") as opened:
            solution = Solution._from_dataset(opened.load())
        plain = json.loads(trials.attrs.pop("tuned"))
        trials.attrs.pop("sgdlimit_kind")
        return cls(**{**cls._read(plain), "trials": trials, "solution": solution})

    @classmethod
    def _read(cls, plain: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    @property
    def table(self) -> Any:
        """All that was tried, a row a solve: a pandas DataFrame of the dataset `trials`."""
        return self.trials.to_dataframe()


@dataclass(frozen=True)
class Tuned(Kept):
    """The best numbers.

    Attributes:
        parameters, parameters_se: by name, with standard errors: of sampling and discretisation in differences between solves on common
            random numbers, and of the surface whose minimum they are. NaN where no minimum is seen.
        value, value_se: the objective in `solution`.
        flat: by name how far a number may go alone until the objective has risen by `value_se`.
        time: when the objective was read.
        objective, at, trained: what was made small, when, and how long is trained.
        notes: in words, such as a number that its bounds hold.
        searched: how many of the trials were rough, the first ones.
        profiles: by name numbers around the best, and the objective there with the others at their best, as the surface has it.
        scales: by name low, high and scale.
        trials: a dataset, a row a solve: numbers, `value`, `value_se`, when, the plan, seconds and how it ended.
        solution: solved at the best numbers.
    """

    parameters: dict[str, float]
    parameters_se: dict[str, float]
    value: float
    value_se: float
    flat: dict[str, tuple[float, float]]
    time: float
    objective: str
    at: str
    trained: str
    notes: tuple[str, ...]
    searched: int
    profiles: dict[str, tuple[list[float], list[float]]]
    scales: dict[str, tuple[float, float, str]]
    trials: xr.Dataset
    solution: Solution

    def __str__(self) -> str:
        when = WHEN[self.at] + (f", t = {self.time:.4g}" if self.at == "best" else "")
        lines = [f"The least {self.objective.replace('_', ' ')} {when}, trained {self.trained}: {spoken(self.value, self.value_se)}"]
        for name, value in self.parameters.items():
            low, high = self.flat[name]
            told = f"  {name} = {spoken(value, self.parameters_se[name])}"
            if low < high:
                told += f", flat within one standard error from {low:.4g} to {high:.4g}"
            lines.append(told)
        lines += [f"  {note}" for note in self.notes]
        seconds = float(self.trials["cpu_seconds"].sum()) + float(self.solution.diagnostics.get("cpu_seconds", 0.0))
        bad = int((self.trials["status"] != "done").sum())
        ended = f", {bad} of them diverge" if bad else ""
        lines.append(f"  {self.trials.sizes['trial']} solves{ended}, {seconds:.1f} processor seconds; {self.solution.status}")
        return "\n".join(lines)

    def plot(self, ax: Any = None) -> Any:
        """Draw the objective along each number: all that was tried, those of the final plan with bars of two standard errors, the best, and
        where it is flat.

        Arguments:
            ax: axes to draw one number into, or a sequence, one for each; by default those of a new figure.

        Returns:
            The axes, one or an array.
        """
        from .tuned_drawing import along

        return along(self, ax)

    def figure(self) -> Figure:
        """The same as a figure in the style of a paper, which `sl.plot.save` writes."""
        from .tuned_drawing import figure

        return figure(self)

    def _repr_html_(self) -> str:
        from .tuned_drawing import page_of_numbers

        return page_of_numbers(self)

    @classmethod
    def _read(cls, plain: dict[str, Any]) -> dict[str, Any]:
        pairs = {name: {key: tuple(value) for key, value in plain[name].items()} for name in ("flat", "scales", "profiles")}
        return {**plain, **pairs, "notes": tuple(plain["notes"])}


@dataclass(frozen=True)
class Rival:
    """A schedule of another form, at its own best numbers.

    Attributes:
        name: of the form.
        schedule: at these numbers, in words.
        numbers: those that were tuned.
        value, value_se: the objective.
        above, above_se: how much more that is than with the best schedule; better known than both, since random numbers are common, and
            not flattered, since nothing was tuned on them.
        times, steps: the schedule up to the end of its epochs.
    """

    name: str
    schedule: str
    numbers: dict[str, float]
    value: float
    value_se: float
    above: float
    above_se: float
    times: tuple[float, ...]
    steps: tuple[float, ...]


@dataclass(frozen=True)
class TunedSchedule(Kept):
    """The best schedule of the step.

    Attributes:
        schedule: `t -> step`, for `sl.SGD(step=schedule)` up to `horizon`; `schedule.settings()` is its line in a settings file.
        horizon: the time `t` at which the `epochs` end under it.
        value, value_se: the objective in `solution`.
        gain, gain_se: how much less risk the best knots have than the best constant step, where the constant is given as well.
        rivals: other forms, each at its own best; the constant first.
        notes: in words, such as that no schedule gains more than its error over the constant step, which is then the schedule.
        objective, at, time: what was made small, and when it was read.
        trials: a dataset, a row a solve: `form`, its numbers, `value`, `value_se`, the plan, seconds and how it ended.
        solution: solved with the best schedule.
    """

    schedule: Knots
    epochs: float
    horizon: float
    value: float
    value_se: float
    rivals: tuple[Rival, ...]
    objective: str
    at: str
    time: float
    trials: xr.Dataset
    solution: Solution
    gain: float = float("nan")
    gain_se: float = float("nan")
    notes: tuple[str, ...] = ()

    @property
    def comparison(self) -> xr.Dataset:
        """The forms against each other, a row each, the best schedule first: `value`, `above` the best, and their errors."""
        columns = {
            name: ("form", [first, *(getattr(one, name) for one in self.rivals)])
            for name, first in (("value", self.value), ("value_se", self.value_se), ("above", 0.0), ("above_se", 0.0))
        }
        steps = ("form", [repr(self.schedule), *(one.schedule for one in self.rivals)])
        return xr.Dataset({**columns, "step": steps}, {"form": [f"{len(self.schedule.times)} knots", *(one.name for one in self.rivals)]})

    def __str__(self) -> str:
        when = f"{self.objective.replace('_', ' ')} {WHEN[self.at]} of {self.epochs:g} epochs"
        lines = [f"The best schedule of the step for the {when}: {spoken(self.value, self.value_se)}", f"  {self.schedule}"]
        rows = [(one.name, spoken(one.value, one.value_se), spoken(one.above, one.above_se), one.schedule) for one in self.rivals]
        if rows:
            lines += ["  " + line for line in table(("form, each tuned", "value", "above the best", "step"), rows).splitlines()]
        lines += [f"  {note}" for note in self.notes]
        seconds = float(self.trials["cpu_seconds"].sum()) + float(self.solution.diagnostics.get("cpu_seconds", 0.0))
        lines.append(f"  {self.trials.sizes['trial']} solves, {seconds:.1f} processor seconds; {self.solution.status}")
        return "\n".join(lines)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the schedule over time with its knots, and its rivals. `ax` are Matplotlib axes, by default those of a new figure."""
        from .tuned_drawing import schedules

        return schedules(self, ax)

    def figure(self) -> Figure:
        """The same as a figure in the style of a paper, which `sl.plot.save` writes."""
        from .tuned_drawing import figure

        return figure(self)

    def _repr_html_(self) -> str:
        from .tuned_drawing import page_of_schedule

        return page_of_schedule(self)

    def _plain(self) -> dict[str, Any]:
        plain = super()._plain()
        knots = {"times": list(self.schedule.times), "steps": list(self.schedule.steps)}
        return {**plain, "schedule": knots, "rivals": [vars(one) for one in self.rivals]}

    @classmethod
    def _read(cls, plain: dict[str, Any]) -> dict[str, Any]:
        rivals = ({**one, **{name: tuple(one[name]) for name in ("times", "steps")}} for one in plain["rivals"])
        told = {"schedule": Knots(**plain["schedule"]), "rivals": tuple(Rival(**one) for one in rivals)}
        return {**plain, **told, "notes": tuple(plain.get("notes", ()))}
