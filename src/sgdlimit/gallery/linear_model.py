"""For the linear model SGD and its diffusion approximation have the same curves, but not the same law of residuals."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from scipy import stats

import sgdlimit as sl

from ..errors import InputError, refuse
from ..learning.problem import Problem
from ..settings.config import ProblemSpec
from ..settings.training import Count
from ..show.densities import density
from .approach import ALLOWED_BIAS
from .claims import Check, Claim, Numbers, Progress, Verdict
from .figures import COLOURS, DASHES, band, exact, legend, look, panels, points
from .measure import CURVES, Experiment, OneProblem, Positive, Repeats, beyond, series, simulated, solved
from .statistics import LEVEL, bound, pooled

NAMES = ("SGD", "SME")
TIMES = 9
PLACES = 241
CERTAIN = 1e-6  # p-value below which residual laws count as different
BINS = 22


class Both(Experiment):
    step: Positive
    n_features: Annotated[int, Field(ge=10)]
    repeats: Repeats
    paths: Count  # drawn from theory
    law_paths: Count  # taken of the real runs


class Settings(OneProblem):
    experiment: Both

    def check(self) -> None:
        spec: ProblemSpec = self.problem
        if spec.model not in ("linear_regression", "ridge_regression") or (spec.penalty is not None and spec.penalty.kind != "ridge"):
            raise refuse("problem.model", "be linear_regression, with a ridge or no penalty", spec.model, "its curves have a closed form")
        if spec.spectrum is not None:
            raise InputError("`problem.spectrum` must be left out, because the closed form is that of isotropic data")
        self.build()


def closed_form(problem: Problem, spec: ProblemSpec, step: float, times: Any) -> dict[str, np.ndarray]:
    """The closed form of a problem whose model is `linear_regression`."""
    from ..models import linear_regression
    from ..theory.closed.linear import linear_model

    noise = spec.parameters.get("noise", inspect.signature(linear_regression).parameters["noise"].default)
    rho, overlap = float(problem.teacher.cov[0, 0]), float(problem.init.overlap[0, 0])
    return linear_model(problem.sample_ratio, step, problem.ridge, noise**2, float(problem.init.cov[0, 0]), rho, times, overlap)


def measure(settings: Settings, tell: Progress) -> Numbers:
    problem, e = settings.build(), settings.experiment
    times = np.linspace(0.0, e.horizon, TIMES)
    closed = closed_form(problem, settings.problem, e.step, times)
    parts, drawn = {}, {}
    for i, (name, dynamics) in enumerate(zip(NAMES, (sl.SGD(e.step), sl.SME(e.step)), strict=True)):
        tell(0.25 * (2 * i), f"{name}, theory")
        theory = solved(problem, dynamics, e.horizon, rtol=e.rtol, seed=e.seed + i, times=times, method="kernels")
        tell(0.25 * (2 * i + 1), f"{name}, real runs")
        runs = simulated(problem, dynamics, e.horizon, e.n_features, e.repeats, e.seed + 10 + i, times=times)
        parts[name] = {"theory": series(theory), "runs": series(runs)}
        drawn[name] = {"theory": _last(theory, e.paths, e.seed + 20 + i), "runs": _last(runs, e.law_paths, e.seed + 30 + i)}
    return {
        "time": e.horizon,
        "step": e.step,
        "n_features": e.n_features,
        "repeats": e.repeats,
        "exact": {"time": times.tolist(), **{name: {"value": closed[name].tolist(), "se": [0.0] * TIMES} for name in CURVES}},
        "dynamics": parts,
        "laws": {
            law: _laws({name: {kind: both[law] for kind, both in one.items()} for name, one in drawn.items()})
            for law in ("weight", "residual")
        },
    }


def _last(result: sl.Solution | sl.Simulation, count: int, seed: int) -> dict[str, np.ndarray]:
    """Weights and residuals `r - y` at the last time; of real runs at most as many as are kept."""
    most = dict.fromkeys(("samples", "coordinates"), count)
    if isinstance(result, sl.Simulation):
        most = {
            "samples": min(count, result.kept("samples").sizes["path"]),
            "coordinates": min(count, result.kept("coordinates").sizes["path"]),
        }
    samples, weights = result.sample_paths(most["samples"], seed), result.coordinate_paths(most["coordinates"], seed)
    return {"weight": weights["theta"].values[:, -1, 0], "residual": samples["r"].values[:, -1, 0] - samples["y"].values}


def _laws(drawn: Numbers) -> Numbers:
    """Distances of one law between the dynamics and between theory and runs; moments; densities for the picture."""
    values = np.concatenate([drawn[name]["theory"] for name in NAMES])
    low, high = np.quantile(values, [0.001, 0.999])
    places, edges = np.linspace(low, high, PLACES), np.linspace(low, high, BINS + 1)
    apart = {kind: _distance(*(drawn[name][kind] for name in NAMES)) for kind in ("theory", "runs")}
    own = {name: _distance(drawn[name]["theory"], drawn[name]["runs"]) for name in NAMES}
    moments = {name: {kind: _moments(drawn[name][kind]) for kind in ("theory", "runs")} for name in NAMES}
    pictures = {
        name: {
            "density": density(drawn[name]["theory"], places).tolist(),
            "histogram": (np.histogram(drawn[name]["runs"], edges)[0] / (len(drawn[name]["runs"]) * np.diff(edges))).tolist(),
        }
        for name in NAMES
    }
    return {"apart": apart, "own": own, "moments": moments, "places": places.tolist(), "edges": edges.tolist(), "pictures": pictures}


def _distance(one: np.ndarray, other: np.ndarray) -> Numbers:
    found: Any = stats.ks_2samp(one, other, method="asymp")
    spread = float(np.concatenate([one, other]).std())
    return {"ks": float(found.statistic), "p": float(found.pvalue), "wasserstein": float(stats.wasserstein_distance(one, other)) / spread}


def _moments(values: np.ndarray) -> Numbers:
    """Mean, mean square and excess kurtosis with their errors over independent draws."""
    n, square = len(values), values**2
    centred = values - values.mean()
    kurtosis = float((centred**4).mean() / (centred**2).mean() ** 2 - 3.0)
    jumps = centred**4 / (centred**2).mean() ** 2 - 2.0 * (kurtosis + 3.0) * centred**2 / (centred**2).mean()
    return {
        "mean": [float(values.mean()), float(values.std() / np.sqrt(n))],
        "square": [float(square.mean()), float(square.std() / np.sqrt(n))],
        "kurtosis": [kurtosis, float(jumps.std() / np.sqrt(n))],
    }


def judge(numbers: Numbers) -> Verdict:
    parts, laws = numbers["dynamics"], numbers["laws"]
    count = len(CURVES) * (TIMES - 1) * 5
    z, t, checks = bound(count), bound(count, degrees=pooled(numbers["repeats"])), []

    def furthest(one: Numbers, other: Numbers, allowed: float = 0.0) -> float:
        return max(float(beyond(one, other, name, allowed).max()) for name in CURVES)

    for name in NAMES:
        checks.append(
            Check(f"theory of {name} from the closed form, furthest curve", furthest(numbers["exact"], parts[name]["theory"]), z, "se")
        )
        far = furthest(numbers["exact"], parts[name]["runs"], ALLOWED_BIAS / numbers["n_features"])
        checks.append(Check(f"real runs of {name} from the closed form beyond a bias of {ALLOWED_BIAS:g}/d, furthest curve", far, t, "se"))
    checks.append(Check("real runs of SGD and SME apart, furthest curve", furthest(parts["SGD"]["runs"], parts["SME"]["runs"]), t, "se"))
    z2 = bound(3)
    for law, moment in (("weight", "square"), ("residual", "mean"), ("residual", "square")):
        (a, ea), (b, eb) = (laws[law]["moments"][name]["theory"][moment] for name in NAMES)
        checks.append(
            Check(
                f"{law}: mean {'square' if moment == 'square' else 'value'} of SGD and SME apart, theory",
                abs(a - b) / np.hypot(ea, eb),
                z2,
                "se",
            )
        )
    level = LEVEL / 6
    for kind, what in (("theory", "theory"), ("runs", "real runs")):
        checks.append(
            Check(f"weight: p-value that SGD and SME have one law, {what}", laws["weight"]["apart"][kind]["p"], level, least=True)
        )
        checks.append(Check(f"residual: p-value that SGD and SME have one law, {what}", laws["residual"]["apart"][kind]["p"], CERTAIN))
    for law in ("weight", "residual"):
        for name in NAMES:
            checks.append(
                Check(f"{law}: p-value that theory and real runs of {name} have one law", laws[law]["own"][name]["p"], level, least=True)
            )
    residual = laws["residual"]
    kurtosis = [residual["moments"][name]["theory"]["kurtosis"] for name in NAMES]
    summary = (
        f"the four curves of SGD and SME are those of one closed form, in theory and in real runs; the laws of weights agree"
        f" (Kolmogorov-Smirnov distance {laws['weight']['apart']['theory']['ks']:.4f} in theory,"
        f" {laws['weight']['apart']['runs']['ks']:.3f} in real runs), because a weight is Gaussian given the teacher's; those of"
        f" residuals do not ({residual['apart']['theory']['ks']:.3f} and {residual['apart']['runs']['ks']:.3f}), though their means and"
        f" mean squares do: excess kurtosis {kurtosis[0][0]:.2f} ± {kurtosis[0][1]:.2f} for SGD, {kurtosis[1][0]:.2f} ±"
        f" {kurtosis[1][1]:.2f} for SME."
    )
    law = (
        f"Curves: level {LEVEL:g} over {count} comparisons (Bonferroni), normal for theory ({z:.2f} se), Student t with"
        f" {numbers['repeats'] - 1} degrees of freedom for real runs ({t:.2f} se). Moments: normal, {z2:.2f} se. Laws: two-sample"
        f" Kolmogorov-Smirnov; called different below p = {CERTAIN:g}, one law above p = {level:.2g} (level {LEVEL:g} over 6)."
    )
    return Verdict(tuple(checks), summary, law)


def draw(numbers: Numbers) -> Any:
    with panels(3, width=2.75) as (figure, ((left, middle, right),)):
        for i, name in enumerate(NAMES):
            part = numbers["dynamics"][name]
            for curve in ("test_risk", "train_risk"):
                band(left, part["theory"]["time"], part["theory"][curve], i, name if curve == "test_risk" else None)
                points(left, part["runs"]["time"], part["runs"][curve]["value"], part["runs"][curve]["se"], i)
        for curve in ("test_risk", "train_risk"):
            time, value = numbers["exact"]["time"], numbers["exact"][curve]["value"]
            exact(left, time, value, "closed form" if curve == "test_risk" else None)
            at = len(time) // 3
            left.annotate(curve.replace("_", " "), (time[at], value[at]), (5, 7), textcoords="offset points", fontsize=8.5, color="0.35")
        left.set(xlabel="time $t$", ylabel="risk")
        marks: Any = {"linestyle": "none", "markersize": 3.6, "markerfacecolor": "white", "markeredgewidth": 0.9, "zorder": 3}
        for axis, law, label in ((middle, "weight", r"weight $\theta$"), (right, "residual", "residual $r - y$ of a training sample")):
            found = numbers["laws"][law]
            for i, name in enumerate(NAMES):
                picture, how = found["pictures"][name], look(i)
                middles = 0.5 * (np.array(found["edges"])[1:] + np.array(found["edges"])[:-1])
                axis.plot(middles, picture["histogram"], **{key: how[key] for key in ("color", "marker")}, **marks)
                axis.plot(found["places"], picture["density"], color=COLOURS[i], dashes=DASHES[i], linewidth=1.4)
            axis.set(xlabel=label, ylabel="density")
            if law == "weight":
                axis.set_ylim(bottom=0)
            else:  # the difference is in the tails
                top = max(max(picture["density"]) for picture in found["pictures"].values())
                axis.set(yscale="log", ylim=(1e-3 * top, 2.0 * top))
        legend(figure, left, 3)
    return figure


def table(numbers: Numbers) -> list[list[str]]:
    rows = [["law", "dynamics", "mean square, theory", "real runs", "excess kurtosis, theory", "real runs", "KS to runs", "KS, SGD to SME"]]
    for law in ("weight", "residual"):
        found = numbers["laws"][law]
        for name in NAMES:
            moments = found["moments"][name]
            spoken = [
                f"{moments[kind][m][0]:.3f} ± {moments[kind][m][1]:.3f}" for m in ("square", "kurtosis") for kind in ("theory", "runs")
            ]
            rows.append([law, name, *spoken, f"{found['own'][name]['ks']:.3f}", f"{found['apart']['theory']['ks']:.4f}"])
    return rows


CLAIM = Claim(
    name="linear-model",
    title="For the linear model SGD and SME share two moments, not the laws",
    words="Least squares has a linear gradient, so its curves rest on first and second moments of the noise alone, which SGD and its"
    " diffusion approximation share: both have one closed form. The laws tell them apart where jumps are not averaged: a weight collects"
    " many small kicks and is Gaussian given the teacher's in both, but a training sample's residual jumps under SGD and diffuses under"
    " SME.",
    source="Fan and Wang, arXiv 2601.21093; closed form: Paquette, Lee, Pedregosa and Paquette, arXiv 2102.04396.",
    settings=Settings,
    measure=measure,
    judge=judge,
    draw=draw,
    table=table,
    caption="(a) Risks of theory (dashes and bands), closed form (wide) and real runs (points, ±2 standard errors). (b, c) Laws at"
    " the last time: densities of theory (lines) and histograms of real runs (points).",
)
