"""A recommendation told: as sentences, as tables in the terminal, as numbers, and as one HTML page."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import numpy as np

from ..show.looks import COLOURS as PALETTE
from ..show.page import render
from ..show.page import write as keep
from ..version import __version__
from .findings import Findings
from .others import BETA, LONG
from .words import counted

UNSURE = 0.1  # standard error of the expected risk, relative, above which settings can hardly be told apart
HARM = 1.05  # risk over that without training, above which training harms
COLOURS = {"test": PALETTE[0], "train": PALETTE[1], "replacement": "#767676"}


def short(value: float) -> str:
    if np.isinf(value):
        return "none"
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def headline(r: Findings) -> str:
    """The advice in one sentence."""
    a = r.advice
    decay = f", weight decay {short(a.weight_decay)}" if a.weight_decay else ", no weight decay"
    return f"Learning rate {short(r.learning_rate)} with batches of {a.batch_size}{decay}, stopped after {counted(a.epochs, 'epoch')}."


def sentences(r: Findings) -> list[str]:
    """Everything that is not a table, in words."""
    a, e = r.advice, r.expected
    stop = int(np.flatnonzero(a.epoch_axis == min(a.epochs, a.epoch_axis[-1]))[0])
    test, low, high = (float(e[name][stop]) for name in ("test", "test_low", "test_high"))
    risk = "log-loss" if r.loss == "logistic" else "half squared error"
    out = [headline(r)]
    out.append(
        f"Expected test risk ({risk}) there: {test:.4g}, between {low:.4g} and {high:.4g}; train risk {float(e['train'][stop]):.4g}."
    )
    known = float(a.reshuffle.test_se[stop] / a.reshuffle.test[stop]) if r.measured and a.reshuffle.test[stop] > 0 else 0.0
    if known > UNSURE:
        out.append(
            f"So few samples, or so different ones, tell this risk to no better than {known:.0%} (standard error): on new samples other "
            "settings may turn out better."
        )
    out += harm(r)
    out.append(others(r))
    out.append(f"Trust: {r.trust.reasons}")
    out += r.notes
    out.append(
        f"The largest useful batch is {a.largest_batch}: up to it the learning rate grows in proportion to the batch; "
        "beyond, steps grow too long for the steepest direction, and epochs or noise grow instead."
    )
    limit = next(row.limit for row in a.batches if row.batch_size == a.batch_size)
    unstable = "training diverges" if r.loss == "squared" or r.measured else "training is unstable at the start"
    if np.isfinite(limit):
        out.append(f"Above a learning rate of {short(limit)} {unstable} (batches of {a.batch_size}).")
    else:
        out.append(f"No learning rate that was tried diverges (batches of {a.batch_size}, up to {short(_most_tried(r))}).")
    out.append(_reshuffling(float(a.reshuffle.test[stop]), float(a.replacement.test[stop])))
    if a.weight_decay:
        out.append(f"The weight decay lowers the best test risk by {a.ridge_gain:.1%} against early stopping alone.")
    elif r.setting.clusters:
        out.append(f"A weight decay would gain no more than {max(a.ridge_gain, 0.0):.1%} over early stopping.")
    else:
        out.append(
            f"A weight decay would gain no more than {max(a.ridge_gain, 0.0):.1%} over early stopping; "
            f"for training without stopping the best one is about {short(a.best_ridge)}."
        )
    if a.at_end:
        out.append("The test risk still falls at the last epoch allowed; more epochs (--max-epochs) may gain more.")
    if r.limit:
        at = min(a.epochs, len(r.limit.test) - 1)
        value, error = r.scale * float(r.limit.test[at]), r.scale * float(r.limit.test_se[at])
        off = float(e["test"][at]) / value - 1.0
        out.append(
            f"In the limit of many samples and features the test risk after {counted(at, 'epoch')} is {value:.4g}, with a "
            f"standard error of {error:.2g}; what is expected at this size is {off:+.1%} off it."
        )
    return [*out, *([r.verification.sentence] if r.verification else [])]


def harm(r: Findings) -> list[str]:
    """Where training is not expected to beat doing nothing, on all samples or on some."""
    a, e = r.advice, r.expected
    stop = min(a.epochs, len(e["test"]) - 1)
    before, after = float(e["test"][0]), float(e["test"][stop])
    if after >= before:
        return [
            f"Training is expected to harm: without it the test risk is {before:.4g}. There is little in these features that tells the "
            "label, or too few samples to learn it from."
        ]
    if a.reshuffle.each is None:
        return []
    parts = a.reshuffle.each
    worse = parts[:, stop] > HARM * parts[:, 0]
    if not worse.any():
        return []
    ratio = float((parts[worse, stop] / parts[worse, 0]).max())
    return [
        f"On {worse.sum()} of {len(parts)} parts left out the risk was higher than without training, by up to {ratio - 1.0:.0%}: on "
        "samples like those training is expected to harm."
    ]


def _most_tried(r: Findings) -> float:
    """Learning rate of the largest step of the sweep, at the recommended batch."""
    return float(r.advice.sweep[0].max()) * r.learning_rate / r.advice.step


def _reshuffling(reshuffled: float, replaced: float) -> str:
    """What is gained by reshuffling."""
    what = "Reshuffling every epoch, as is assumed here,"
    if not np.isfinite(replaced):
        return f"{what} is needed: sampling with replacement diverges at this rate."
    gain = 1.0 - reshuffled / replaced if replaced > 0 else 0.0
    if gain >= 0.001:
        return f"{what} lowers the test risk by {gain:.1%} against sampling with replacement."
    return f"{what} is no better here than sampling with replacement."


def data_lines(r: Findings) -> list[str]:
    e = r.estimate
    share = (
        "of the label's variance is linear in the features" if r.loss == "squared" else "of the labels' variance is linear in the features"
    )
    return [
        f"{r.n} samples, {counted(r.d, 'feature')}: n/d = {r.n / r.d:.3g}.",
        *r.told,
        f"Estimated: {e.linear_share:.1%} {share}; covariance eigenvalues from {short(e.eigenvalues.min())} to "
        f"{short(e.eigenvalues.max())} times their mean.",
    ]


def others(r: Findings) -> str:
    """Learning rates of other optimisers, in a sentence."""
    o, rates = r.others, []
    if o.memory <= LONG * r.advice.epochs:
        rates.append(f"{short(o.momentum)} with momentum {BETA:g}")
    if o.adam is not None:
        rates.append(f"{short(o.adam)} with Adam (its usual betas)")
    if not rates:
        return f"Momentum {BETA:g} would remember {short(o.memory)} epochs, too many beside the {r.advice.epochs} of this training."
    return f"Other optimisers go as far in as many epochs at a learning rate of {' or '.join(rates)}."


def numbers(r: Findings) -> dict[str, Any]:
    """All numbers as plain lists, for JSON."""
    a, e = r.advice, r.estimate
    listed = lambda values: [float(value) if np.isfinite(value) else None for value in np.asarray(values, dtype=float)]
    steps, risks, stops = a.sweep
    found: dict[str, Any] = {
        "recommended": {
            "learning_rate": r.learning_rate, "batch_size": a.batch_size, "epochs": a.epochs, "weight_decay": a.weight_decay,
            "step": a.step,
        },
        "other_optimisers": asdict(r.others),
        "data": {"target": r.target, "n": r.n, "d": r.d, "sample_ratio": r.n / r.d, "feature_variance": r.feature_variance, "told": r.told},
        "loss": r.loss,
        "batches": [{**asdict(row), "limit": row.limit if np.isfinite(row.limit) else None} for row in a.batches],
        "largest_useful_batch": a.largest_batch,
        "limit_step": a.limit_step if np.isfinite(a.limit_step) else None,
        "best_weight_decay_without_stopping": a.best_ridge,
        "expected": {name: listed(values) for name, values in r.expected.items()},
        "sweep": {"step": listed(steps), "best_test_risk": listed(r.scale * risks), "epoch": listed(stops)},
        "estimate": {
            "eigenvalues": listed(e.eigenvalues), "weights": listed(e.weights), "signal": listed(e.signal), "noise": e.noise,
            "linear_share": e.linear_share, "teacher_size": r.setting.size, "intercept": r.setting.offset,
        },
        "trust": {"verdict": r.trust.verdict, "reasons": r.trust.reasons, "checks": [asdict(check) for check in r.trust.checks]},
        "notes": r.notes,
        "cross_validated": r.measured,
        "seconds": r.seconds,
    }  # fmt: skip
    if r.limit:
        found["limit"] = {name: listed(r.scale * getattr(r.limit, name)) for name in ("train", "test", "train_se", "test_se")}
    if r.verification:
        v = r.verification
        found["verification"] = {
            "backend": v.trained.backend, "batch_size": v.batch_size, "learning_rate": v.learning_rate, "held_out": v.held_out,
            "test": [listed(r.scale * row) for row in v.trained.test], "train": [listed(r.scale * row) for row in v.trained.train],
            "deviation_test": v.deviation["test"], "deviation_train": v.deviation["train"], "largest_deviation_test": v.largest,
        }  # fmt: skip
    return found


def shown_rows(r: Findings) -> list[Any]:
    """Batch sizes worth a row: the useful ones from the recommended's neighbourhood, and the first beyond."""
    rows = r.advice.batches
    return [row for row in rows if row.useful or row.batch_size <= 4 * r.advice.largest_batch]


def tables(r: Findings) -> Any:
    """The same for a terminal, by rich."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    colour = {"good": "green", "care": "yellow", "bad": "red"}
    rates = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("batch size", "learning rate", "limit", "epochs", ""):
        rates.add_column(heading, justify="right" if heading else "left")
    for row in shown_rows(r):
        note = "recommended" if row.batch_size == r.advice.batch_size else "" if row.useful else "too large to be useful"
        cells = (str(row.batch_size), short(row.learning_rate), short(row.limit), str(row.epochs), note)
        rates.add_row(*(Text(cell) for cell in cells), style="bold" if note == "recommended" else "dim" if note else "")
    checks = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("assumption", "value", "good", "bearable", ""):
        checks.add_column(heading, justify="left" if heading in ("assumption", "") else "right")
    for check in r.trust.checks:
        sign = ">" if check.good > check.care else "<"
        grade = Text({"good": "good", "care": "with care", "bad": "not met"}[check.grade], style=colour[check.grade])
        checks.add_row(Text(check.name), short(check.value), f"{sign} {short(check.good)}", f"{sign} {short(check.care)}", grade)
    first, *rest = sentences(r)
    lines = [Text(line) for line in data_lines(r)]
    verdict = [Text(line, style=colour[r.trust.grade]) if line.startswith("Trust:") else Text(line) for line in rest]
    return Group(*lines, Text(), Text(first, style="bold"), Text(), rates, Text(), *verdict, Text(), checks)


def write(path: str | os.PathLike[str], r: Findings) -> None:
    """Write the page; it appears whole or not at all."""
    keep(path, page(r))


def page(r: Findings) -> str:
    """The whole page as HTML; nothing on it is fetched from anywhere."""
    first, *rest = sentences(r)
    return render(
        "sgdlimit.recommend",
        "recommend.html",
        (_curves(r), _sweep(r), *([_signal(r)] if len(r.estimate.eigenvalues) > 1 else [])),
        title=f"Training {r.target}: what to expect",
        headline=first,
        sentences=[line for line in rest if not line.startswith("Trust:")],
        verdict=r.trust.verdict,
        reasons=r.trust.reasons,
        grade=r.trust.grade,
        checks=r.trust.checks,
        rows=shown_rows(r),
        batch_size=r.advice.batch_size,
        data_lines=data_lines(r),
        program=program(r),
        measured=r.measured,
        loss={"logistic": "log(1 + exp(-y r)), labels +1 and -1", "squared": "(r - y)² / 2; for a loss without the half, halve the rates"}[
            r.loss
        ],
        short=short,
        seconds=r.seconds,
        version=__version__,
    )


def program(r: Findings) -> str:
    """The recommended training in PyTorch, to be copied."""
    a = r.advice
    if r.loss == "squared":
        start, loss = "y.mean()", "0.5 * ((r - target) ** 2).mean()"
    else:
        start, loss = "torch.logit((y > 0).float().mean())", "nn.functional.softplus(-target * r).mean()  # labels are +1 and -1"
    scaled = "(X - X.mean(0)) / X.std(0)" if r.standardised else "X - X.mean(0)"
    return f"""import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

X = {scaled}  # the training samples, (n, {r.d})
model = nn.Linear({r.d}, 1)
nn.init.zeros_(model.weight)
nn.init.constant_(model.bias, {start})
groups = [{{"params": [model.weight], "weight_decay": {short(a.weight_decay)}}}, {{"params": [model.bias]}}]
optimizer = optim.SGD(groups, lr={short(r.learning_rate)})
for epoch in range({a.epochs}):
    for x, target in DataLoader(TensorDataset(X, y), batch_size={a.batch_size}, shuffle=True):
        r = model(x)[:, 0]
        loss = {loss}
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()"""


def _figure(x: str, y: str, **options: Any) -> Any:
    from ..show.interactive import frame

    return frame(x, y, 330, **options)


def _legend(plot: Any) -> Any:
    from ..show.interactive import FONT

    legend = plot.legend[0]
    legend.label_text_font = FONT
    legend.label_text_font_size = "12px"
    legend.border_line_color = None
    legend.background_fill_alpha = 0
    legend.click_policy = "hide"
    legend.orientation, legend.ncols, legend.margin, legend.padding = "horizontal", 2, 0, 4
    legend.location = "left"
    plot.add_layout(legend, "above")  # beside the curves, not on them
    return plot


def _curves(r: Findings) -> Any:
    """Expected risks by epoch with their bands; what was measured on top."""
    from bokeh.models import HoverTool, Span

    e = r.expected
    plot = _figure("epoch", "risk")
    for name in ("test", "train"):
        source = {"x": e["epoch"], "y": e[name], "low": e[f"{name}_low"], "high": e[f"{name}_high"]}
        plot.varea("x", "low", "high", source=source, color=COLOURS[name], alpha=0.18)
        line = plot.line("x", "y", source=source, color=COLOURS[name], width=2, legend_label=f"{name}, expected")
        plot.add_tools(
            HoverTool(renderers=[line], tooltips=[("", f"{name}, expected"), ("epoch", "@x"), ("risk", "@y{0.0000}")], visible=False)
        )
    plot.line(
        e["epoch"],
        e["replacement_test"],
        color=COLOURS["replacement"],
        line_dash="dashed",
        width=1.5,
        legend_label="test, with replacement",
    )
    if r.limit:
        shown = len(r.limit.test)
        plot.line(
            e["epoch"][:shown], r.scale * r.limit.test, color="#1d1d1b", line_dash="dotted", width=2, legend_label="test, in the limit"
        )
    if r.verification:
        for name in ("test", "train"):
            measured = r.scale * getattr(r.verification.trained, name)[:, : len(e["epoch"])]
            mean = np.where(np.isfinite(measured).all(0), measured.mean(0), np.nan)
            plot.scatter(e["epoch"], mean, color=COLOURS[name], fill_color="white", size=6, legend_label=f"{name}, measured")
    plot.add_layout(Span(location=r.advice.epochs, dimension="height", line_color="#444444", line_dash="dotted", line_width=1.5))
    return _legend(plot)


def _sweep(r: Findings) -> Any:
    """The best test risk that each learning rate reaches, at the recommended batch size."""
    from bokeh.models import HoverTool, Span

    steps, risks, stops = r.advice.sweep
    rate = r.learning_rate / r.advice.step
    good = np.isfinite(risks)
    plot = _figure(f"learning rate, batches of {r.advice.batch_size}", "best test risk", x_axis_type="log")
    source = {"x": rate * steps[good], "y": r.scale * risks[good], "epoch": stops[good]}
    plot.xaxis.ticker.desired_num_ticks, plot.xaxis.ticker.num_minor_ticks = 4, 0
    start = r.scale * r.advice.start_risk
    least = float(source["y"].min(initial=start))
    most = start if start > least else float(source["y"].max(initial=start)) * 1.01
    plot.y_range.start, plot.y_range.end = least - 0.06 * (most - least), most  # what is worse than no training is off the picture
    line = plot.line("x", "y", source=source, color=COLOURS["test"], width=2)
    points = plot.scatter("x", "y", source=source, color=COLOURS["test"], fill_color="white", size=5)
    plot.add_tools(
        HoverTool(
            renderers=[line, points],
            tooltips=[("learning rate", "@x{0.00000}"), ("test risk", "@y{0.0000}"), ("at epoch", "@epoch")],
            visible=False,
        )
    )
    plot.add_layout(Span(location=r.learning_rate, dimension="height", line_color="#444444", line_dash="dotted", line_width=1.5))
    return plot


def _signal(r: Findings) -> Any:
    """Fractions of the features and of the labels' variance along each eigenvalue."""
    e = r.estimate
    total = e.signal.sum() + e.noise
    plot = _figure("eigenvalue of the features' covariance", "share of the variance", x_axis_type="log")
    plot.segment(e.eigenvalues, 0, e.eigenvalues, e.weights * e.eigenvalues, color=COLOURS["replacement"], line_width=2)
    plot.scatter(e.eigenvalues, e.weights * e.eigenvalues, color=COLOURS["replacement"], size=7, legend_label="of the features")
    plot.scatter(1.03 * e.eigenvalues, e.signal / total, color=COLOURS["test"], marker="square", size=7, legend_label="of the label")
    plot.segment(1.03 * e.eigenvalues, 0, 1.03 * e.eigenvalues, e.signal / total, color=COLOURS["test"], line_width=2)
    return _legend(plot)
