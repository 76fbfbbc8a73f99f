"""Going through the data in a new order every epoch is another limit than drawing with replacement."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

import sgdlimit as sl

from ..errors import InputError
from ..learning.dynamics import SGD
from ..learning.problem import Problem
from ..settings.sections import Section
from ..theory.checks import check_theory
from .approach import ALLOWED_BIAS
from .claims import Check, Claim, Numbers, Progress, Verdict
from .distinct import _furthest
from .figures import band, legend, panels, points
from .measure import CURVES, LABELS, WORDS, OneProblem, Positive, Repeats, beyond, series, simulated, solved
from .statistics import LEVEL, bound, pooled

PER_EPOCH = 4
FRESH = ("test_risk", "overlap", "self_overlap")  # of a fresh sample: the curves one pass shares with the first epoch


class Epochs(Section):
    place = ("experiment",)
    step: Positive
    epochs: Annotated[int, Field(ge=2)]
    rtol: Annotated[float, Field(gt=0, lt=1)] = 0.005
    seed: Annotated[int, Field(ge=0)] = 0
    n_features: Annotated[int, Field(ge=10)]
    repeats: Repeats


class Settings(OneProblem):
    experiment: Epochs


def measure(settings: Settings, tell: Progress) -> Numbers:
    problem, e = settings.build(), settings.experiment
    epoch = e.step * problem.sample_ratio
    times = epoch * np.linspace(0.0, e.epochs, PER_EPOCH * e.epochs + 1)
    kinds = {"replacement": sl.SGD(e.step), "reshuffle": sl.SGD(e.step, "reshuffle")}
    parts: Numbers = {}
    for i, (name, dynamics) in enumerate(kinds.items()):
        tell(0.2 + 0.4 * i, f"{name}, real runs")
        runs = simulated(problem, dynamics, float(times[-1]), e.n_features, e.repeats, e.seed + 1 + i, times=times)
        parts[name] = {"theory": None, "runs": series(runs)}
        if solvable(problem, dynamics):
            tell(0.4 * i, f"{name}, theory")
            parts[name]["theory"] = series(solved(problem, dynamics, float(times[-1]), rtol=e.rtol, seed=e.seed + i, times=times))
    once = solved(problem, sl.OnlineSGD(e.step), float(times[-1]), rtol=e.rtol, seed=e.seed, times=times)
    return {"epoch": epoch, "n_features": e.n_features, "repeats": e.repeats, "sampling": parts, "online": series(once)}


def solvable(problem: Problem, dynamics: SGD) -> bool:
    """Whether the theory of this sampling is there."""
    try:
        check_theory(problem, dynamics)
    except InputError:
        return False
    return True


def judge(numbers: Numbers) -> Verdict:
    parts, online, allowed = numbers["sampling"], numbers["online"], ALLOWED_BIAS / numbers["n_features"]
    times = np.array(online["time"])
    count = len(CURVES) * (len(times) - 1) * 4
    z, t = bound(count), bound(count, degrees=pooled(numbers["repeats"]))
    checks, spoken = [], []
    far, relative, curve, time = _furthest(parts["replacement"]["runs"], parts["reshuffle"]["runs"])
    checks.append(Check(f"real runs with replacement and reshuffled apart ({WORDS[curve]}, t = {time:.3g})", far, t, "se", least=True))
    spoken.append(f"real runs of the two are {far:.0f} se apart ({WORDS[curve]}, {100 * abs(relative):.0f}% of scale)")
    if all(part["theory"] for part in parts.values()):
        far, _, curve, time = _furthest(parts["replacement"]["theory"], parts["reshuffle"]["theory"])
        checks.append(Check(f"theories with replacement and reshuffled apart ({WORDS[curve]}, t = {time:.3g})", far, z, "se", least=True))
        spoken.append(f"their theories {far:.0f} se ({WORDS[curve]})")
    for name, part in parts.items():
        if part["theory"]:
            worst = max(beyond(part["theory"], part["runs"], curve, allowed).max() for curve in CURVES)
            checks.append(Check(f"{name}: real runs from their theory beyond a bias of {ALLOWED_BIAS:g}/d, furthest curve", worst, t, "se"))
            spoken.append(f"those of {name} are within {worst:.1f} se of their theory")
    first = times <= numbers["epoch"] * (1 + 1e-9)
    worst = max(beyond(online, parts["reshuffle"]["runs"], curve, allowed)[first].max() for curve in FRESH)
    checks.append(
        Check(
            f"first epoch: reshuffled runs from one-pass theory beyond a bias of {ALLOWED_BIAS:g}/d, furthest curve of a fresh sample",
            worst,
            t,
            "se",
        )
    )
    later = max(beyond(online, parts["reshuffle"]["runs"], curve, allowed)[~first].max() for curve in FRESH)
    checks.append(Check("later epochs: reshuffled runs from one-pass theory, furthest curve of a fresh sample", later, t, "se", least=True))
    spoken.append(
        f"in the first epoch, where every sample is fresh, reshuffled runs are within {worst:.1f} se of one-pass theory, later"
        f" {later:.0f} se away"
    )
    last = {name: part["runs"]["test_risk"] for name, part in parts.items()}
    spoken.append(
        f"the last test risks are {last['reshuffle']['value'][-1]:.3f} reshuffled and {last['replacement']['value'][-1]:.3f} with"
        " replacement"
    )
    law = (
        f"Level {LEVEL:g} over {count} comparisons (Bonferroni): real runs Student t with {numbers['repeats'] - 1} degrees of freedom"
        f" ({t:.2f} se), theory normal ({z:.2f} se)."
    )
    return Verdict(tuple(checks), "; ".join(spoken) + ".", law)


def draw(numbers: Numbers) -> Any:
    names = {"replacement": "with replacement", "reshuffle": "reshuffled every epoch"}
    with panels(2, 2, height=2.35, sharex=True) as (figure, axes):
        for axis, curve in zip(axes.ravel(), CURVES, strict=True):
            for i, (name, label) in enumerate(names.items()):
                part = numbers["sampling"][name]
                time = np.array(part["runs"]["time"]) / numbers["epoch"]
                if part["theory"]:
                    band(axis, time, part["theory"][curve], i, label)
                points(axis, time, part["runs"][curve]["value"], part["runs"][curve]["se"], i, None if part["theory"] else label)
            low, high = axis.get_ylim()
            band(axis, np.array(numbers["online"]["time"]) / numbers["epoch"], numbers["online"][curve], 2, "one pass")
            axis.set_ylim(low, high)
            for end in range(1, round(numbers["online"]["time"][-1] / numbers["epoch"])):
                axis.axvline(end, color="0.85", linewidth=0.7, zorder=0)
            axis.set_ylabel(LABELS[curve])
        for axis in axes[-1]:
            axis.set_xlabel(r"epochs $t / (\eta\delta)$")
        legend(figure, axes[0, 0], 3)
    return figure


def table(numbers: Numbers) -> list[list[str]]:
    parts, epoch = numbers["sampling"], numbers["epoch"]
    rows = [["curve", "epochs", *(f"{name}, {kind}" for name in parts for kind in ("theory", "real runs")), "one pass"]]
    times = np.array(numbers["online"]["time"])
    for curve in CURVES:
        for end in range(1, round(times[-1] / epoch) + 1):
            at, cells = int(np.argmin(np.abs(times - end * epoch))), []
            for part in parts.values():
                for kind in ("theory", "runs"):
                    cells.append(f"{part[kind][curve]['value'][at]:.4f} ± {part[kind][curve]['se'][at]:.4f}" if part[kind] else "—")
            rows.append([WORDS[curve], str(end), *cells, f"{numbers['online'][curve]['value'][at]:.4f}"])
    return rows


CLAIM = Claim(
    name="reshuffling",
    title="Reshuffling every epoch is not drawing with replacement",
    words="Data loaders go through all samples once per epoch, in a new random order. The limit is not that of draws with replacement:"
    " during the first epoch every sample is fresh and the training is one-pass SGD; later, a sample's visits are more evenly spaced than"
    " at random, and there is less noise.",
    source="Beyond the paper: its equations (Fan and Wang, arXiv 2601.21093) with another law of a sample's visits.",
    settings=Settings,
    measure=measure,
    judge=judge,
    draw=draw,
    table=table,
    caption="Real runs (points, ±2 standard errors) and theory (lines and bands) where it is solved. Vertical lines: ends of epochs.",
)
