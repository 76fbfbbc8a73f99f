"""The test risk of one run from its own samples: bias, coverage and spread, and early stopping by it."""

from __future__ import annotations

from typing import Annotated, Any

import jax.numpy as jnp
import numpy as np
from pydantic import Field
from scipy import stats

import sgdlimit as sl

from ..errors import refuse
from ..settings.sections import Section
from ..settings.training import Count
from .claims import Check, Claim, Numbers, Progress, Verdict
from .figures import BAND, guide, logarithmic, look, marks, panels
from .measure import Positive, Seed
from .statistics import LEVEL, bound

BIAS = 0.02  # part of the test risk by which the mean may be off
COVERED = 0.9  # of runs whose two errors should cover the test risk, at least
EXCESS = 0.02  # part of the least test risk that stopping by the left-out risk may cost
OVERFITTED = 2.0  # test risk over train risk at the end, at least
KINDS = ("left_out", "error", "test", "train", "held", "held_error", "kept", "kept_held")


class Runs(Section):
    place = ("experiment",)
    sample_ratio: Positive
    teacher: Positive
    learning_rate: Positive
    batch_size: Count
    epochs: Annotated[list[Count], Field(min_length=3)]
    held_out: Annotated[float, Field(gt=0, lt=1)]
    n_features: Annotated[int, Field(ge=10)]
    runs: Annotated[int, Field(ge=4)]
    seed: Seed = 0


class Settings(Section):
    experiment: Runs

    def check(self) -> None:
        if sorted(set(self.experiment.epochs)) != self.experiment.epochs:
            raise refuse("experiment.epochs", "increase", self.experiment.epochs)


def _softplus(r: Any, y: Any) -> Any:
    return jnp.logaddexp(0.0, -y * r[0])


class _Task:
    """Logistic regression with a teacher of its own: data, losses, and the exact test risk of any weights."""

    def __init__(self, e: Runs, rng: np.random.Generator):
        self.e, self.rng = e, rng
        teacher = rng.standard_normal(e.n_features)
        self.teacher = teacher * np.sqrt(e.teacher) / np.linalg.norm(teacher)
        x, weights = np.polynomial.hermite_e.hermegauss(80)
        self.nodes, self.weights = x, weights / weights.sum()

    def draw(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        X = self.rng.standard_normal((n, self.e.n_features))
        return X, np.where(self.rng.random(n) < 1 / (1 + np.exp(-X @ self.teacher)), 1.0, -1.0)

    def risk(self, theta: np.ndarray) -> tuple[float, float]:
        """Mean and standard deviation of the loss on a new sample, whose two logits are jointly normal."""
        rho = self.teacher @ self.teacher
        along = self.teacher @ theta / rho
        rest = np.sqrt(max(theta @ theta - along**2 * rho, 0.0))
        truth = np.sqrt(rho) * self.nodes
        r = along * truth[:, None] + rest * self.nodes
        positive = 1 / (1 + np.exp(-truth))[:, None]
        moment = lambda p: positive * np.logaddexp(0.0, -r) ** p + (1 - positive) * np.logaddexp(0.0, r) ** p
        first, second = (float(self.weights @ moment(p) @ self.weights) for p in (1, 2))
        return first, float(np.sqrt(second - first**2))

    def train(self, X: np.ndarray, y: np.ndarray, run: Any = None) -> list[np.ndarray]:
        """Weights after the epochs that are asked for; `run` listens."""
        e, theta, found = self.e, np.zeros(self.e.n_features), []
        for epoch in range(1, e.epochs[-1] + 1):
            order = self.rng.permutation(len(y))
            for batch in np.split(order, range(e.batch_size, len(y), e.batch_size)):
                r = X[batch] @ theta
                if run is not None:
                    run.step(batch, r)
                theta = theta + e.learning_rate * X[batch].T @ (y[batch] / (1 + np.exp(y[batch] * r))) / len(batch)
            if epoch in e.epochs:
                if run is not None:
                    run.estimate(X @ theta)
                found.append(theta)
        return found


def measure(settings: Settings, tell: Progress) -> Numbers:
    e = settings.experiment
    n = round(e.sample_ratio * e.n_features)
    quarter = round(e.held_out * n)
    found: dict[str, list[list[float]]] = {name: [] for name in KINDS}
    for i in range(e.runs):
        tell(i / e.runs, f"run {i + 1} of {e.runs}")
        task = _Task(e, np.random.default_rng([e.seed, i]))
        X, y = task.draw(n)
        run = sl.OneRun(X, y, _softplus, learning_rate=e.learning_rate, seed=i)
        paths, mean_loss = task.train(X, y, run), lambda X, y, theta: float(np.logaddexp(0.0, -y * (X @ theta)).mean())
        true, fresh = [task.risk(theta) for theta in paths], task.draw(quarter)
        found["left_out"].append([one.risk for one in run.history])
        found["error"].append([one.standard_error for one in run.history])
        found["train"].append([one.train_risk for one in run.history])
        found["test"].append([risk for risk, _ in true])
        found["held_error"].append([sd / np.sqrt(quarter) for _, sd in true])
        found["held"].append([mean_loss(*fresh, theta) for theta in paths])
        fewer = task.train(X[quarter:], y[quarter:])  # whoever holds a quarter out trains on what is left
        found["kept"].append([task.risk(theta)[0] for theta in fewer])
        found["kept_held"].append([mean_loss(X[:quarter], y[:quarter], theta) for theta in fewer])
    return {"epochs": e.epochs, "n_samples": n, "n_features": e.n_features, "held": quarter, "runs": found}


def _stopped(runs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Test risk of every run at the epoch of the least left-out risk, of the least held-out risk, and of the least test risk."""
    at = lambda risk, by: np.take_along_axis(risk, by.argmin(1)[:, None], 1)[:, 0]
    return {"left_out": at(runs["test"], runs["left_out"]), "held": at(runs["kept"], runs["kept_held"]), "best": runs["test"].min(1)}


def _arrays(numbers: Numbers) -> dict[str, np.ndarray]:
    return {name: np.array(values, dtype=float) for name, values in numbers["runs"].items()}


def _spreads(runs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Root mean square deviation from the test risk at each epoch: of the left-out risk, and of a held-out part's mean (its law's)."""
    return np.sqrt(((runs["left_out"] - runs["test"]) ** 2).mean(0)), np.sqrt((runs["held_error"] ** 2).mean(0))


def judge(numbers: Numbers) -> Verdict:
    runs = _arrays(numbers)
    count, epochs = runs["test"].shape
    t, level = bound(epochs + 2, degrees=count - 1), LEVEL / epochs
    test, gaps = runs["test"].mean(0), runs["left_out"] - runs["test"]
    se = gaps.std(0, ddof=1) / np.sqrt(count)
    over = test[-1] / runs["train"].mean(0)[-1]
    off = gaps.mean(0) / test
    worst = float(np.max(np.maximum(np.abs(off) - BIAS, 0.0) * test / se))
    inside = (np.abs(gaps) <= BAND * runs["error"]).sum(0)
    chance = float(stats.binom.cdf(inside, count, COVERED).min())
    fewest = float(np.sqrt(np.mean((gaps / runs["error"]) ** 2, axis=0)).min())
    ours, held = _spreads(runs)
    ratio = float(ours[-1] / held[-1])
    widest = float(np.sqrt(stats.chi2.ppf(LEVEL, count) / count))  # below which chance does not bring one that is equal
    stopped = _stopped(runs)
    cost = stopped["left_out"] / stopped["best"] - 1
    costly = max(cost.mean() - EXCESS, 0.0) / (cost.std(ddof=1) / np.sqrt(count) + 1e-12)
    better = stopped["held"] - stopped["left_out"]
    gain = float(better.mean() / (better.std(ddof=1) / np.sqrt(count)))
    checks = (
        Check("test risk over train risk at the end", float(over), OVERFITTED, least=True),
        Check(f"mean left-out risk from the test risk beyond {BIAS:.0%} of it, furthest epoch", worst, t, "se"),
        Check(f"probability of so few runs covered by two errors, if {COVERED:.0%} are, worst epoch", chance, level, least=True),
        Check("root mean square deviation over the error, least epoch: errors are not merely large", fewest, 0.5, least=True),
        Check(f"spread at the end over that of {numbers['held']} held-out samples", ratio, widest),
        Check(f"what stopping by the left-out risk costs beyond {EXCESS:.0%} of the least test risk", float(costly), t, "se"),
        Check("stopping by the left-out risk better than by held-out data", gain, t, "se", least=True),
    )
    part, error = 100 * off[-1], 100 * se[-1] / test[-1]
    spared = 100 * (stopped["held"] / stopped["best"] - 1).mean()
    summary = (
        f"where the test risk is {over:.1f} times the train risk the left-out risk is off by {part:+.1f} ± {error:.1f}% in the mean of"
        f" {count} runs (at most {100 * np.abs(off).max():.1f}% at any epoch); two errors cover the test risk in"
        f" {100 * inside.sum() / gaps.size:.0f}%; its spread is {ratio:.2f} of that of {numbers['held']} held-out samples. Stopping by it"
        f" costs {100 * cost.mean():.1f}% over the least test risk, stopping by data held out {spared:.0f}%."
    )
    law = (
        f"Level {LEVEL:g}. Means: Student t with {count - 1} degrees of freedom over {epochs + 2} comparisons (Bonferroni: {t:.2f} se)."
        f" Coverage: binomial with {COVERED:g}, over {epochs} epochs. Spread: chi-square with {count} degrees of freedom, were both equal."
    )
    return Verdict(checks, summary, law)


def draw(numbers: Numbers) -> Any:
    runs, epochs = _arrays(numbers), np.array(numbers["epochs"])
    ours, held = _spreads(runs)
    stopped = _stopped(runs)
    with panels(3, width=2.75, height=2.8) as (figure, ((left, middle, right),)):
        for i, (name, label) in enumerate((("test", "test risk"), ("train", "train risk"))):
            how = look(i)
            left.plot(epochs, runs[name].mean(0), color=how["color"], dashes=how["dashes"], linewidth=1.4, label=label)
        spread = runs["left_out"].std(0, ddof=1)
        left.errorbar(epochs, runs["left_out"].mean(0), spread, label="left-out risk", **marks(look(2)))
        left.legend(frameon=False, fontsize=8.5)
        left.set(xlabel="epochs", ylabel="risk", ylim=(0, None))
        for i, (name, values) in enumerate((("held-out quarter", held), ("left-out risk", ours)), 1):
            how = look(i)
            middle.plot(epochs, values, color=how["color"], dashes=how["dashes"], linewidth=1.2)
            middle.errorbar(epochs, values, 0 * values, label=name, **marks(how))
        middle.set(xlabel="epochs", ylabel="r.m.s. deviation from test risk", ylim=(0, None))
        middle.legend(frameon=False, fontsize=8.5)
        for axis in (left, middle):
            logarithmic(axis, epochs)
        low, high = (f(np.concatenate([stopped["held"], stopped["left_out"]])) for f in (np.min, np.max))
        guide(right, [low, high], [low, high])
        right.plot(
            stopped["held"], stopped["left_out"], linestyle="none", marker="o", markersize=4, color=look(2)["color"], fillstyle="none"
        )
        right.set(xlabel="test risk, stopped by held-out data", ylabel="test risk, stopped by left-out risk")
    return figure


def table(numbers: Numbers) -> list[list[str]]:
    runs = _arrays(numbers)
    ours, held = _spreads(runs)
    inside = (np.abs(runs["left_out"] - runs["test"]) <= BAND * runs["error"]).mean(0)
    rows = [["epochs", "train risk", "test risk", "left-out risk", "mean error", "covered by two", "spread", "held-out spread"]]
    for i, epoch in enumerate(numbers["epochs"]):
        means = (f"{runs[name].mean(0)[i]:.4f}" for name in ("train", "test", "left_out", "error"))
        rows.append([str(epoch), *means, f"{100 * inside[i]:.0f}%", f"{ours[i]:.4f}", f"{held[i]:.4f}"])
    return rows


CLAIM = Claim(
    name="one-run",
    title="The test risk of one run, without a test set",
    words="What each sample would have been predicted, had it been left out, can be read off the training that had it. The mean loss of"
    " these predictions is the test risk of the run, also where it is badly overfitted; it spreads less than a held-out quarter of the"
    " data, and leaves that quarter to the training. So stopping by it beats early stopping on held-out data.",
    source="Beyond the paper: OPTIMISERS section 7 of this project; for regression Tan and Bellec, arXiv 2410.02629.",
    settings=Settings,
    measure=measure,
    judge=judge,
    draw=draw,
    table=table,
    caption="Logistic regression by mini-batches. (a) Risks, mean over runs; bars are one standard deviation of a single run. (b) Deviation"
    " from the run's own test risk. (c) Test risk where training stops, one point a run, below the dashed line where the left-out risk does"
    " better; holding a quarter out trains on the rest.",
)
