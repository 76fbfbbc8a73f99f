"""Real runs approach the limit: their bias falls like `1/d`, their spread like `1/sqrt(d)`."""

from __future__ import annotations

from typing import Any

import numpy as np

import sgdlimit as sl

from .claims import Check, Claim, Numbers, Progress, Verdict
from .figures import guide, legend, logarithmic, panels, points
from .measure import CURVES, LABELS, WORDS, Experiment, OneProblem, Positive, Repeats, Sizes, check_sizes, grown, last, solved
from .statistics import LEVEL, bound, exponent, limit

CLEAR = 6.0  # standard errors of the bias at the smallest size from which its exponent is judged
CURVATURE = 0.1  # allowance for the next order in 1/d, in the exponent of the bias
SPREAD_CURVATURE = 0.02


class Sized(Experiment):
    step: Positive
    n_features: Sizes
    repeats: list[Repeats]


class Settings(OneProblem):
    experiment: Sized

    def check(self) -> None:
        check_sizes(self.experiment)
        self.build()


def measure(settings: Settings, tell: Progress) -> Numbers:
    problem, e = settings.build(), settings.experiment
    dynamics = sl.SGD(e.step)
    tell(0.0, "theory")
    theory = solved(problem, dynamics, e.horizon, rtol=e.rtol, seed=e.seed, times=[0.0, e.horizon])
    sizes = len(e.n_features)
    rows = grown(
        problem,
        lambda d: dynamics,
        e.horizon,
        e.n_features,
        e.repeats,
        e.seed + 1,
        lambda i: tell((i + 1) / (sizes + 1), f"d = {e.n_features[i]}"),
    )
    return {"time": e.horizon, "theory": last(theory), "runs": rows}


def _gaps(numbers: Numbers, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sizes, bias relative to theory with its error, and the spread of one run."""
    theory, rows = numbers["theory"][name], numbers["runs"]
    d, count = (np.array([row[key] for row in rows], dtype=float) for key in ("n_features", "repeats"))
    mean, se = (np.array([row[name][key] for row in rows]) for key in ("value", "se"))
    scale = abs(theory["value"])
    return d, (mean - theory["value"]) / scale, np.hypot(se, theory["se"]) / scale, se * np.sqrt(count) / scale


def judge(numbers: Numbers) -> Verdict:
    checks, spoken, count = [], [], 3 * len(CURVES)
    z = bound(count)
    for name in CURVES:
        d, bias, se, spread = _gaps(numbers, name)
        far = limit(d, bias, se, (1.0, 2.0))
        checks.append(Check(f"{WORDS[name]}: bias left at infinite d", abs(far.values[0]) / far.errors[0], z, "se"))
        repeats = np.array([row["repeats"] for row in numbers["runs"]])
        slope = exponent(1.0 / d, spread, spread / np.sqrt(2.0 * (repeats - 1)), correction=True)
        p, error = slope.values[1], slope.errors[1]
        checks.append(
            Check(
                f"{WORDS[name]}: distance of the spread's exponent {p:.3f} ± {error:.3f} from 1/2",
                abs(p - 0.5),
                z * error + SPREAD_CURVATURE,
            )
        )
        spoken.append((p, error))
        if abs(bias[0]) > CLEAR * se[0]:
            slope = exponent(d, bias, se)
            p, error = -slope.values[1], slope.errors[1]
            checks.append(
                Check(f"{WORDS[name]}: distance of the bias' exponent {p:.2f} ± {error:.2f} from 1", abs(p - 1), z * error + CURVATURE)
            )
    biases = [check for check in checks if "bias' exponent" in check.what]
    if not biases:
        checks.append(Check("curves with a bias clear enough for an exponent", 0, 1, least=True))
    summary = (
        f"no bias is left at infinite d in any of {len(CURVES)} curves; the spread of one run falls with exponents"
        f" {', '.join(f'{p:.2f} ± {error:.2f}' for p, error in spoken)} (1/2 is claimed), and the bias, where it is clear, with"
        f" {', '.join(check.what.split('exponent ')[1].split(' from')[0] for check in biases)} (1 is claimed)."
    )
    law = (
        f"Normal, level {LEVEL:g} over {count} comparisons (Bonferroni: {z:.2f} se). Bias fitted by c0 + c1/d + c2/d^2; exponents by"
        f" least squares of c d^-p for the bias ({CURVATURE:g} allowed for higher orders) and of c d^-p e^(b/d) for the spread"
        f" ({SPREAD_CURVATURE:g}); the bias' exponent is judged where the bias is above {CLEAR:g} se at the smallest d."
    )
    return Verdict(tuple(checks), summary, law)


def draw(numbers: Numbers) -> Any:
    repeats = np.array([row["repeats"] for row in numbers["runs"]])
    with panels(2, height=2.9) as (figure, ((left, right),)):
        top = 0.0
        for i, name in enumerate(CURVES):
            d, bias, se, spread = _gaps(numbers, name)
            points(left, 1000 / d * (1 + 0.02 * (i - 1.5)), 100 * bias, 100 * se, i)
            fine = np.linspace(0.0, 1.05 / d[0], 60)
            terms = np.stack([np.ones_like(fine), fine, fine**2])
            guide(left, 1000 * fine, 100 * limit(d, bias, se, (1.0, 2.0)).values @ terms, i)
            points(right, d, 100 * spread, 100 * spread / np.sqrt(2.0 * (repeats - 1)), i, LABELS[name])
            top = max(top, 100 * spread[0])
        guide(left, [0, 1050 / d[0]], [0, 0])
        left.set(xlabel="$1000 / d$", ylabel="bias / limit (%)", xlim=(-0.02 * 1050 / d[0], 1080 / d[0]))
        wide = np.array([d[0] / 1.15, d[-1] * 1.15])
        height = 1.35 * top
        guide(right, wide, height * np.sqrt(d[0] / wide))
        middle = np.sqrt(wide[0] * wide[1])
        right.annotate(
            "slope $-1/2$", (middle, height * np.sqrt(d[0] / middle)), (2, 5), textcoords="offset points", fontsize=8.5, color="0.35"
        )
        logarithmic(right, d, y=True)
        right.set(xlabel="features $d$", ylabel="spread of one run / limit (%)")
        legend(figure, right)
    return figure


def table(numbers: Numbers) -> list[list[str]]:
    rows = [["curve", "limit", *(f"bias at d = {row['n_features']}" for row in numbers["runs"]), "spread × √d"]]
    for name in CURVES:
        d, bias, se, spread = _gaps(numbers, name)
        theory = numbers["theory"][name]
        cells = [f"{100 * b:.2f} ± {100 * s:.2f} %" for b, s in zip(bias, se, strict=True)]
        rows.append([WORDS[name], f"{theory['value']:.4f} ± {theory['se']:.4f}", *cells, f"{np.mean(spread * np.sqrt(d)):.2f}"])
    return rows


CLAIM = Claim(
    name="finite-size",
    title="Real runs converge to the limit as d grows",
    words="The curves of a training run with n samples and d features converge to deterministic limits when both grow with n/d fixed."
    " The mean over runs differs from the limit by a bias of order 1/d, and one run scatters around the mean by order 1/√d.",
    source="Fan and Wang, arXiv 2601.21093 (the limit); the rates are those of a central limit theorem and of its first correction.",
    settings=Settings,
    measure=measure,
    judge=judge,
    draw=draw,
    table=table,
    caption="Bias of the mean over runs, over 1/d, with fits c0 + c1/d + c2/d² (left), and spread of one run (right), relative to the"
    " limit, at the last time. Bars: ±2 standard errors.",
)
