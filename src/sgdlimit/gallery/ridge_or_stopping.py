"""Ridge against early stopping, both tuned."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

import sgdlimit as sl

from ..errors import refuse
from ..settings.training import Count
from .claims import Check, Claim, Numbers, Progress, Verdict
from .figures import band, logarithmic, panels, points
from .measure import OneProblem, Positive
from .tuned import Training, Tuning, bounds_of, column, described, drawn, followed, more, number, shuffled, table, tuned, worse

EARLY = 0.05  # part of the epochs that stopping at the best step may leave out


class Both(Tuning):
    epochs: Annotated[list[Count], Field(min_length=2)]
    ridges: Annotated[list[Positive], Field(min_length=2, max_length=2)]


class Settings(OneProblem):
    experiment: Both

    def check(self) -> None:
        if sorted(set(self.experiment.epochs)) != self.experiment.epochs:
            raise refuse("experiment.epochs", "increase", self.experiment.epochs)
        if self.problem.penalty is not None:
            raise refuse("problem.penalty", "be left out", self.problem.penalty.kind, "its strength is tuned")
        self.build()


def measure(settings: Settings, tell: Progress) -> Numbers:
    plain, e = settings.build(), settings.experiment
    ridged = replace(plain, penalty=sl.Ridge(0.05))

    def with_ridge(step: float, ridge: float) -> Any:
        return replace(plain, penalty=sl.Ridge(ridge)), sl.SGD(step, "reshuffle")

    both = e.bounds | {"ridge": (e.ridges[0], e.ridges[1], "log")}
    members = []
    for i, epochs in enumerate(e.epochs):
        trainings = (
            Training(f"stopping within {epochs} epochs", epochs, plain, shuffled(plain), e.bounds, epochs, "best"),
            Training(f"ridge, {epochs} epochs", epochs, ridged, with_ridge, both, epochs),
        )
        for j, one in enumerate(trainings):
            tell((2 * i + j) / (2 * len(e.epochs)), one.name)
            members.append(tuned(one, e, 2 * i + j))
    return described(e, members)


def parts(numbers: Numbers) -> tuple[list[Numbers], list[Numbers]]:
    """Those stopped early, and those with a ridge."""
    return numbers["members"][::2], numbers["members"][1::2]


def judge(numbers: Numbers) -> Verdict:
    stopped, ridged = parts(numbers)
    z, t, law = bounds_of(numbers, 4 * len(stopped) - 2)
    checks, worst = followed(numbers)
    for one, other in zip(stopped, ridged, strict=True):
        checks += worse(f"{one['name']} worse than a ridge", one, other, z, t)
    for other, one in zip(ridged, stopped[1:], strict=False):
        checks += worse(f"{one['name']} worse than a ridge after {other['epochs']}", one, other, z, t)
    early = float(min(one["stopped"] / one["epochs"] for one in stopped))
    checks.append(Check("part of the epochs after which stopping is best at the best step, least", early, 1 - EARLY, least=True))
    told = [more(one, other) for one, other in zip(stopped, ridged, strict=True)]
    counts = ", ".join(f"{one['epochs']}" for one in stopped)
    summary = (
        f"with {counts} epochs the least test risk with stopping is {', '.join(told)} above that with a ridge; it is above that of a ridge"
        f" with fewer epochs, too. At its best step none is best stopped before {100 * early:.0f}% of its epochs. Real runs at the"
        f" tuned numbers are within {worst:.1f} se of theory."
    )
    return Verdict(tuple(checks), summary, law)


def draw(numbers: Numbers) -> Any:
    with panels(2, height=2.75) as (figure, ((left, right),)):
        for i, (members, label) in enumerate(zip(parts(numbers), ("early stopping", "ridge"), strict=True)):
            drawn(left, members, i, label)
            x, step = column(members, "x"), number(members, "step")
            band(right, x, step, i)
            points(right, x, step["value"], step["se"], i, label)
        ridge = {key: 10 * each for key, each in number(members, "ridge").items()}
        band(right, x, ridge, 2)
        points(right, x, ridge["value"], ridge["se"], 2, r"strength of the ridge $\times 10$")
        for axis in (left, right):
            logarithmic(axis, x)
            axis.set_xlabel("epochs")
        left.set(ylabel="test risk, tuned")
        right.set(ylabel=r"best step $\eta$, best ridge", ylim=(0, 1.6 * right.get_ylim()[1]))
        left.legend(frameon=False, fontsize=8.5)
        right.legend(frameon=False, fontsize=8.5)
    return figure


CLAIM = Claim(
    name="ridge-or-stopping",
    title="A tuned ridge beats tuned early stopping",
    words="Both keep a training from its noise. At its best step a training that may be stopped at any time is not stopped early: a smaller"
    " step does the same, with less noise. A tuned ridge does better than either, and with fewer epochs than stopping has.",
    source="Beyond the paper: tuned by theory, reshuffled epochs.",
    settings=Settings,
    measure=measure,
    judge=judge,
    draw=draw,
    table=table,
    caption="(a) Test risk with the best step and stopping time, or the best step and ridge: theory (lines and bands) and real runs with"
    " these numbers (points, ±2 standard errors). (b) The best numbers.",
)
