"""`recommend`: from data and a loss to a step, a batch size and a stopping time, with the curves to expect and how far to trust them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from ..errors import InputError, nearest, refuse
from . import data as data_of
from .advise import Advice, advise
from .data import Data
from .estimate import Estimate, estimate
from .folds import FoldsPredictor
from .leverage import label_sentence
from .leverage import sentence as dominating
from .linear import Curves, LinearTwin
from .predict import Report, Setting, predictor
from .scaling import Scaling
from .train import trains
from .trust import Trust, assess
from .verify import Verification
from .verify import verify as train_and_measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOSSES = ("squared", "logistic")
HELD_OUT = 0.25  # of the samples, for --verify
BAND = 2.0  # standard errors
Array = np.ndarray


@dataclass(frozen=True)
class Recommendation:
    """What `recommend` returns; `print` shows it as text, `table()` for rich, `save(path)` writes the page and `json()` the numbers.

    Attributes:
        loss, n, d, feature_variance: of the data as trained on.
        told: what was done to the data.
        estimate: eigenvalues, signal and noise.
        setting: the problem in numbers; `setting.problem()` is the `sl.Problem`.
        advice: step, learning rates, batch sizes, epochs, curves.
        trust: the assumptions and the verdict.
        limit: the recommended training in the limit of many samples and features, where it was asked for.
        verification: real training, where it was asked for.
        scale: by which risks are multiplied to be in the units of the label.
        band: relative standard error of the expected test and train risk from what the data leave open.
        standardised: whether columns were divided by their standard deviation.
        measured: whether the curves are from cross-validation, for data that the theory does not describe.
    """

    loss: str
    target: str
    n: int
    d: int
    feature_variance: float
    told: list[str]
    notes: list[str]
    estimate: Estimate
    setting: Setting
    advice: Advice
    trust: Trust
    limit: Curves | None
    verification: Verification | None
    scale: float
    band: float
    standardised: bool
    measured: bool
    seconds: dict[str, float]

    @property
    def learning_rate(self) -> float:
        """At the recommended batch size."""
        return next(row.learning_rate for row in self.advice.batches if row.batch_size == self.advice.batch_size)

    @property
    def expected(self) -> dict[str, Array]:
        """Curves per epoch in the units of the label: `epoch`, and `train`, `test`, `replacement_test`, each also with `_low` and
        `_high`, a band of two standard errors from the theory and from what the data leave open."""
        a = self.advice
        out: dict[str, Array] = {"epoch": a.epoch_axis}
        for name, values, se in (
            ("train", a.reshuffle.train, a.reshuffle.train_se),
            ("test", a.reshuffle.test, a.reshuffle.test_se),
            ("replacement_test", a.replacement.test, a.replacement.test_se),
        ):
            finite = np.isfinite(values)
            wide = BAND * np.where(finite, np.hypot(se, self.band * np.where(finite, values, 0.0)), 0.0)
            low = np.maximum(values - wide, 0.0)  # no loss here is negative
            out |= {name: self.scale * values, f"{name}_low": self.scale * low, f"{name}_high": self.scale * (values + wide)}
        return out

    def json(self) -> dict[str, Any]:
        """All numbers, ready for `json.dump`."""
        from .report import numbers

        return numbers(self)

    def table(self) -> Any:
        """Tables for `rich.print`."""
        from .report import tables

        return tables(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one self-contained HTML page."""
        from .report import write

        write(path, self)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Expected test and train risk by epoch with their bands, the epoch to stop at, and what was measured if there is a
        verification. `ax` are Matplotlib axes, by default new ones; they are returned."""
        from .. import drawing

        return drawing.recommendation(self, ax)

    def __str__(self) -> str:
        from .report import sentences

        return "\n".join(sentences(self))

    def _repr_html_(self) -> str:
        from .. import notebook

        return notebook.recommendation(self)


def recommend(
    X: Any, y: Any, loss: str = "logistic", *, max_epochs: int = 100, standardise: bool = True, verify: bool | int = False,
    backend: str = "auto", theory: bool = False, seed: int = 0, names: Any = None, target: str = "y",
    progress: Callable[[float, str], None] | None = None,
) -> Recommendation:  # fmt: skip
    """Learning rate for each batch size, largest useful batch, stopping epoch and expected risks for linear models on real data.

    Arguments:
        X: features `(n, d)`, an array or a table. They are standardised, and rates are for features treated so.
        y: labels `(n,)`: two classes for "logistic", numbers for "squared". Or the name of a column of the table `X`.
        loss: "logistic", `log(1 + exp(-y r))`, or "squared", `(r - y)^2 / 2` (half of what PyTorch's MSELoss is: halve its rates).
            Both models have an intercept, started at the log-odds of the classes or the mean label.
        max_epochs: most passes through the data that training may take.
        standardise: divide columns by their standard deviation; else they are only centred.
        verify: train for real, so many times (True is 3), on three quarters of the data, which everything is then computed for, and
            measure on the rest.
        backend: of that training: "torch" (with `DataLoader(shuffle=True)`), "numpy", "sklearn", or "auto": torch where it is installed.
        theory: also solve the limit's equations for the recommended step, which takes longer than all the rest, and show them.
        seed: of everything random.
        progress: called with (fraction done, what is being done).

    Returns:
        Recommendation.

    Raises:
        InputError: data, labels or an argument cannot be used; says why.
    """
    if loss not in LOSSES:
        raise refuse("loss", "be " + " or ".join(LOSSES), loss, nearest(str(loss), LOSSES))
    for name, value, least in (("max_epochs", max_epochs, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise refuse(name, f"be a whole number, at least {least}", value)
    if isinstance(y, str):
        if not hasattr(X, "columns"):
            raise InputError(f"`y` must be labels, but is {y!r} (the name of a column needs a table for `X`)")
        X, y, names, target = data_of.split(X, y)
    with threadpool_limits(1, "blas"):  # the matrices are small, and threads that wait for each other burn time
        return _recommend(
            X, y, loss, int(max_epochs), standardise, (3 if verify is True else int(verify)), backend, theory, int(seed), names, target,
            progress or (lambda fraction, text: None),
        )  # fmt: skip


def _recommend(
    X: Any, y: Any, loss: str, max_epochs: int, standardise: bool, repeats: int, backend: str, theory: bool, seed: int, names: Any,
    target: str, report: Report,
) -> Recommendation:  # fmt: skip
    began = time.perf_counter(), time.process_time()
    report(0.0, "reading the data")
    rng = np.random.default_rng(seed)
    data = data_of.prepare(X, y, loss == "logistic", names, target, standardise)
    rows = dominating(data.X), "" if data.classes else label_sentence(data.y)  # in the user's numbers, before any are held out
    fresh: tuple[Array, Array] | None = None
    if repeats:
        data, fresh = _hold_out(data, rng)
    report(0.03, "estimating spectrum, signal and noise")
    found = estimate(data.X / np.sqrt(data.feature_variance), data.y - data.y.mean(), rng)
    setting = Setting.of(loss, found, data.n, data.d, float(data.y.mean()))
    trust = assess(data, found, rng)
    proxy = LinearTwin(found, data.n, data.d, seed)
    foreseen = predictor(setting, proxy, data, trust, seed)
    heard = lambda f, text: report(0.05 + 0.85 * f, text)
    advice = advise(setting, proxy, foreseen, max_epochs, data.feature_variance, heard)
    if not foreseen.measured and not _trains(loss, data, advice, seed):
        foreseen = FoldsPredictor(loss, data, setting.curvature, found.largest, seed)
        foreseen.notes.append("What the theory advises was tried on all samples, and does not train them.")
        advice = advise(setting, proxy, foreseen, max_epochs, data.feature_variance, heard)
    foreseen.notes += [told for told in (rows if foreseen.measured else rows[:1]) if told]
    limit = None
    if theory and foreseen.measured:
        foreseen.notes.append("The limit's equations were not solved: they are not for data like these.")
    elif theory:
        from .limit import in_the_limit

        report(0.9, "solving the limit's equations")
        limit = in_the_limit(setting, advice.step, advice.ridge, int(advice.epoch_axis[-1]), seed)
        if isinstance(limit, str):
            foreseen.notes.append(f"The limit's equations were not solved: {limit}.")
            limit = None
    verification = None
    if fresh is not None:
        report(0.92, "training for real")
        verification = train_and_measure(loss, (data.X, data.y), fresh, advice, repeats, backend, seed)
    report(1.0, "done")
    seconds = {"wall": time.perf_counter() - began[0], "cpu": time.process_time() - began[1]}
    scale = data.label_scale**2
    return Recommendation(
        loss, data.target, data.n, data.d, data.feature_variance, data.told, foreseen.notes, found, setting, advice, trust, limit,
        verification, scale, 0.0 if foreseen.measured else found.uncertainty(data.n), data.standardised,
        foreseen.measured, seconds,
    )  # fmt: skip


def _trains(loss: str, data: Data, advice: Advice, seed: int) -> bool:
    """Whether the recommended training trains the user's samples."""
    row = next(row for row in advice.batches if row.batch_size == advice.batch_size)
    return trains(loss, data.X, data.y, row.learning_rate, row.batch_size, advice.weight_decay, advice.epochs, seed)


def _hold_out(data: Data, rng: np.random.Generator) -> tuple[Data, tuple[Array, Array]]:
    """The data without a quarter chosen at random, standardised anew, and that quarter, scaled as they are."""
    order = rng.permutation(data.n)
    count = max(round(HELD_OUT * data.n), 5)
    kept, out = np.sort(order[count:]), order[:count]
    told = [*data.told, f"{count} samples chosen at random were held out; everything is for the {len(kept)} others."]
    scaled = Scaling.of(data.X[kept], data.standardised, data.X.std(0))
    of = lambda rows: scaled(data.X[rows])[:, scaled.varies]  # a column may vary in what was held out alone
    y, unit = data.y, 1.0
    if not data.classes:
        unit = float(y[kept].std())
        if not unit > 0:
            raise InputError(f"`verify` must leave labels that vary, but `{data.target}` is the same in all samples that are not held out")
        y = (y - y[kept].mean()) / unit
    names = [name for name, good in zip(data.names, scaled.varies, strict=True) if good]
    mean = data.mean[scaled.varies] + data.scale[scaled.varies] * scaled.mean[scaled.varies]
    scale = data.scale[scaled.varies] * scaled.scale[scaled.varies]
    smaller = replace(
        data, X=of(kept), y=y[kept], names=names, mean=mean, scale=scale, told=told, label_scale=data.label_scale * unit,
        label_mean=data.label_mean + data.label_scale * (0.0 if data.classes else float(data.y[kept].mean())),
    )  # fmt: skip
    return smaller, (of(out), y[out])
