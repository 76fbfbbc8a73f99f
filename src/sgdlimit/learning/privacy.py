"""Differentially private SGD as noise and clipping of a dynamics (OPTIMISERS section 5), and what it promises."""

from __future__ import annotations

import math
from typing import Any, Literal

from ..checks import number, positive
from ..errors import InputError, refuse
from .optimisers import all_positive


def dp_noise(
    noise_multiplier: float,
    clip: float,
    batch_size: int,
    n_features: int,
    step: Any = None,
    lr: float | None = None,
    feature_variance: float = 1.0,
) -> dict[str, float]:
    """`temperature` and `clip` of DP-SGD: `sl.SGD(step, **sl.dp_noise(...))`.

    DP-SGD (Abadi et al., arXiv 1607.00133; Opacus) clips the gradient of each sample to the norm `clip`, adds noise of standard deviation
    `noise_multiplier * clip` to their sum and divides by `batch_size`. A sample's gradient is `l x`, of norm `|l| sqrt(n_features
    feature_variance)`, so `l` is clipped at `c = clip / sqrt(n_features feature_variance)`; and the noise is that of `2 temperature = step
    noise_multiplier^2 c^2 n_features / batch_size`.

    Arguments:
        noise_multiplier, clip: Opacus' `noise_multiplier` and `max_grad_norm`, for features of variance `feature_variance`. With
            `feature_variance=1/n_features`, features of norm one, `clip` is `c` itself.
        batch_size: samples of a step; for `MiniBatchGD` that is `fraction * sample_ratio * n_features`.
        step: that of the dynamics, a number; or
        lr: the learning rate of plain SGD that stands for it.

    With `Adam` this is DP-Adam: its gain measures the gradient with the noise, `2 temperature / step` more than that of the samples.
    """
    sigma = number("noise_multiplier", noise_multiplier)
    if sigma < 0:
        raise refuse("noise_multiplier", "not be negative", noise_multiplier, "0 clips and adds no noise")
    all_positive(clip=clip, batch_size=batch_size, n_features=n_features, feature_variance=feature_variance)
    if (step is None) == (lr is None):
        raise refuse("step", "be given, or `lr` in its place", step, "the step of the dynamics; noise is as large as steps make it")
    if callable(step):
        raise refuse("step", "be a number", step, "the temperature of a schedule changes with it")
    if lr is not None:
        step = positive("lr", lr) * n_features * feature_variance / batch_size
    most = clip / math.sqrt(n_features * feature_variance)
    return {"temperature": 0.5 * positive("step", step) * sigma**2 * most**2 * n_features / batch_size, "clip": most}


def dp_epsilon(
    noise_multiplier: float,
    batch_size: int,
    n_samples: int,
    epochs: float,
    delta: float | None = None,
    sampling: Literal["replacement", "reshuffle"] = "replacement",
) -> float:
    """Epsilon of the privacy that DP-SGD keeps, (epsilon, delta)-differential privacy of one sample added or left out.

    By the privacy loss distribution of Google's `dp-accounting` (optional: `pip install 'sgdlimit[privacy]'`).

    Arguments:
        noise_multiplier: as `dp_noise` takes it.
        batch_size, n_samples: of the script.
        epochs: passes over the data so far; `t / (step sample_ratio)` at the time `t` of a curve.
        delta: by default `1 / n_samples`, above which a promise is empty.
        sampling: "replacement" for batches that have each sample with probability `batch_size / n_samples`, as Opacus draws them, the same
            limit as drawing with replacement; or "reshuffle", where each epoch shows every sample once and nothing is gained by chance.

    Returns:
        Epsilon; infinite without noise, zero before the first step.

    Raises:
        InputError: names the field, what it must be, and what it was; or `dp-accounting` is missing.
    """
    sigma = number("noise_multiplier", noise_multiplier)
    if sigma < 0:
        raise refuse("noise_multiplier", "not be negative", noise_multiplier, "0 keeps nothing private")
    all_positive(batch_size=batch_size, n_samples=n_samples)
    if batch_size > n_samples:
        raise refuse("batch_size", f"be at most the {n_samples} samples", batch_size, "both are those of the script")
    passes = number("epochs", epochs)
    if passes < 0:
        raise refuse("epochs", "not be negative", epochs, "passes over the data so far")
    delta = 1.0 / n_samples if delta is None else number("delta", delta)
    if not 0.0 < delta < 1.0:
        raise refuse("delta", "lie between 0 and 1", delta, f"1 / n_samples is {1 / n_samples:.3g}")
    if sampling not in ("replacement", "reshuffle"):
        raise refuse("sampling", "be 'replacement' or 'reshuffle'", sampling)
    share = batch_size / n_samples
    steps = math.ceil(passes if sampling == "reshuffle" else passes / share - 1e-9)
    if not steps:
        return 0.0
    if not sigma:
        return math.inf
    try:
        import dp_accounting  # pyright: ignore[reportMissingImports]
        from dp_accounting import pld  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError("`dp_epsilon` needs dp-accounting, which is not installed (pip install 'sgdlimit[privacy]')") from None
    event: Any = dp_accounting.GaussianDpEvent(sigma)
    if sampling == "replacement" and share < 1.0:
        event = dp_accounting.PoissonSampledDpEvent(share, event)
    accountant = pld.PLDAccountant()
    accountant.compose(dp_accounting.SelfComposedDpEvent(event, steps))
    return float(accountant.get_epsilon(delta))
