"""`recommend`: from data and a loss to a step, a batch size and a stopping time, with the curves to expect and how far to trust them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from ..errors import InputError, nearest, refuse
from . import data as data_of
from . import samples as files
from .advise import Advice, advise
from .data import Data
from .dialect import Reading
from .estimate import estimate
from .findings import Findings
from .folds import FoldsPredictor
from .leverage import label_sentence
from .leverage import sentence as dominating
from .linear import LinearTwin
from .others import other_rates
from .predict import Report, predictor
from .samples import Samples
from .scaling import Scaling
from .setting import Setting
from .train import trains
from .trust import assess
from .verify import verify as train_and_measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOSSES = ("squared", "logistic")
HELD_OUT = 0.25  # of the samples, for --verify
Array = np.ndarray


@dataclass(frozen=True)
class Recommendation(Findings):
    """What `recommend` returns: its `Findings`; `print` shows them as text, `table()` for rich, `save(path)` writes the page and `json()`
    the numbers."""

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
        from . import drawing

        return drawing.curves(self, ax)

    def __str__(self) -> str:
        from .report import data_lines, sentences

        return "\n".join([*data_lines(self), *sentences(self)])

    def _repr_html_(self) -> str:
        from . import drawing

        return drawing.html_of(self)


def recommend(
    X: Any, y: Any, loss: str = "logistic", *, max_epochs: int = 100, standardise: bool = True, verify: bool | int = False,
    backend: str = "auto", theory: bool = False, seed: int = 0, names: Any = None, target: str = "y",
    keep: Sequence[str] = (), drop: Sequence[str] = (), reading: Reading | dict[str, Any] | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> Recommendation:  # fmt: skip
    """Learning rate for each batch size, largest useful batch, stopping epoch and expected risks for linear models on real data.

    Arguments:
        X: features `(n, d)`, an array or a table, or the path of a file. They are standardised, and rates are for features treated so.
        y: labels `(n,)`: two classes for "logistic", numbers for "squared". Or the name of a column of the table or file `X`.
        loss: "logistic", `log(1 + exp(-y r))`, or "squared", `(r - y)^2 / 2` (half of what PyTorch's MSELoss is: halve its rates).
            Both models have an intercept, started at the log-odds of the classes or the mean label.
        max_epochs: most passes through the data that training may take.
        standardise: divide columns by their standard deviation; else they are only centred.
        verify: train for real, so many times (True is 3), on three quarters of the data, which everything is then computed for, and
            measure on the rest.
        backend: of that training: "torch" (with `DataLoader(shuffle=True)`), "numpy", "sklearn", or "auto": torch where it is installed.
        theory: also solve the limit's equations for the recommended step, which takes longer than all the rest, and show them.
        seed: of everything random.
        names, target: what the columns of an array, and the labels, are called.
        keep, drop: names of columns to use although they look like row numbers or copies, and of columns not to use.
        reading: how a file is to be read, where that is not found out rightly: "separator", "decimal", "encoding", "header" (whether the
            first line holds names) and "missing", words or numbers that mark a missing value (these count for tables, too).
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
    keep, drop = ([one] if isinstance(one, str) else list(map(str, one)) for one in (keep, drop))
    given = _given(X, y, names, target, Reading.of(reading))
    with threadpool_limits(1, "blas"):  # the matrices are small, and threads that wait for each other burn time
        return _recommend(
            given, loss, int(max_epochs), standardise, (3 if verify is True else int(verify)), backend, theory, int(seed), keep, drop,
            progress or (lambda fraction, text: None),
        )  # fmt: skip


def _given(X: Any, y: Any, names: Any, target: str, reading: Reading) -> Samples:
    """What the user gives: a file, a table with the name of a column, or features and labels."""
    if isinstance(X, (str, os.PathLike)):
        if y is not None and not isinstance(y, str):
            raise InputError("`y` must be the name of a column where `X` is a file, but is something else (own labels need a table)")
        return files.read(X, y, reading)
    if reading.given:
        raise refuse("reading", "say how to read a file", {name: getattr(reading, name) for name in reading.given}, "`X` is no file")
    if isinstance(y, str):
        if not hasattr(X, "columns"):
            raise InputError(f"`y` must be labels, but is {y!r} (the name of a column needs a table for `X`)")
        return Samples(*files.split(X, y), missing=tuple(reading.missing))
    return Samples(X, y, names, target, missing=tuple(reading.missing))


def _recommend(
    given: Samples, loss: str, max_epochs: int, standardise: bool, repeats: int, backend: str, theory: bool, seed: int,
    keep: Sequence[str], drop: Sequence[str], report: Report,
) -> Recommendation:  # fmt: skip
    began = time.perf_counter(), time.process_time()
    report(0.0, "reading the data")
    rng = np.random.default_rng(seed)
    data = data_of.prepare(
        given.X, given.y, loss == "logistic", given.names, given.target, standardise, keep=keep, drop=drop, told=given.told,
        decimal=given.decimal, missing=given.missing,
    )  # fmt: skip
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
    others = other_rates(loss, data, advice, seed)
    report(1.0, "done")
    seconds = {"wall": time.perf_counter() - began[0], "cpu": time.process_time() - began[1]}
    scale = data.label_scale**2
    return Recommendation(
        loss, data.target, data.n, data.d, data.feature_variance, data.told, foreseen.notes, found, setting, advice, trust, limit,
        verification, scale, 0.0 if foreseen.measured else found.uncertainty(data.n), data.standardised,
        foreseen.measured, seconds, others,
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
