"""Differentially private SGD as noise and clipping of a dynamics (OPTIMISERS section 5)."""

from __future__ import annotations

import math
from typing import Any

from ..checks import number, positive
from ..errors import refuse
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
