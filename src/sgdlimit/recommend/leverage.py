"""How much of the features each sample decides by itself, and the samples that decide a direction of them alone.

The leverage `h_i = x_i^T (X^T X)^-1 x_i` lies between 0 and 1 and has mean `d / n` (Hoaglin and Welsch, American Statistician 32, 17,
1978). A fit goes through the label of a sample of leverage one whatever the others say, and without that sample nothing is known of its
direction: its error when left out is as large as one likes, `e_i / (1 - h_i)` for a least-squares fit with residual `e_i`. Left-out
errors weighted by `(1 - h_i)^2` over its mean are generalised cross-validation (Golub, Heath and Wahba, Technometrics 21, 215, 1979), which
does not depend on where a few such samples lie.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cholesky, solve_triangular

Array = np.ndarray

LEAST_RIDGE = 1e-3  # in feature variances: training sees no smaller eigenvalues
MOST_MEAN = 0.5  # leverage that the ridge leaves in the mean
DOMINATES, TIMES = 0.3, 5.0  # leverage of a sample that is named, by itself and over the median
ROUNDS, LEAST_LEFT = 3, 0.8  # of the search, and part of the samples that are looked at
MOST_NAMED = 5
DECIDES = 0.1  # of the labels' variance in one sample, above which that is said
APART = 8.0  # deviations from the median, in standard deviations by the median: a label beyond stands apart


def leverage(X: Array) -> Array:
    """`(n,)`, of features `(n, d)`, with the smallest ridge for which it is no more than a half in the mean."""
    n, d = X.shape
    X = X - X.mean(0)
    ridge = LEAST_RIDGE * np.square(X).sum() / (n * d)
    if d <= MOST_MEAN * n:
        return np.square(solve_triangular(cholesky(X.T @ X + n * ridge * np.eye(d), lower=True), X.T, lower=True)).sum(0)
    values, vectors = np.linalg.eigh(X @ X.T / n)
    values = np.maximum(values, 0.0)
    while (values / (values + ridge)).sum() > MOST_MEAN * n:
        ridge *= 2.0
    return vectors**2 @ (values / (values + ridge))


def weights(leverages: Array) -> Array:
    """Of left-out errors, with mean one, as in generalised cross-validation."""
    shares = np.square(1.0 - leverages)
    return shares / shares.mean()


def dominating(X: Array) -> dict[int, float]:
    """Samples that decide a direction of the features alone, or nearly so, with their leverage; of several that share a direction, one
    hides behind the other, so they are sought again without those found."""
    left, found = np.arange(len(X)), {}
    if TIMES * DOMINATES * X.shape[1] > len(X):
        return found  # all have a large leverage
    for _ in range(ROUNDS):
        values = leverage(X[left])
        chosen = np.flatnonzero((values >= DOMINATES) & (values >= TIMES * np.median(values)))
        if not len(chosen):
            break
        found |= {int(left[row]): float(values[row]) for row in chosen[np.argsort(-values[chosen], kind="stable")]}
        left = np.delete(left, chosen)
        if len(left) <= LEAST_LEFT * len(X):
            break
    return found


def sentence(X: Array) -> str:
    """Names the dominating samples of features `(n, d)`; empty if there are none."""
    found = dominating(X)
    if not found:
        return ""
    named = [f"row {row + 1} ({value:.2f})" for row, value in list(found.items())[:MOST_NAMED]]
    more = [f"{len(found) - MOST_NAMED} more"] if len(found) > MOST_NAMED else []
    *first, last = named + more
    text = f"{', '.join(first)} and {last}" if first else last
    mean = f"(leverage in brackets, at most 1; it is {min(X.shape[1] / len(X), 1.0):.2g} in the mean)"
    if len(found) == 1:
        said = f"decides a direction of the features almost alone {mean}: look whether it is right. What the other samples teach does not "
        said += "hold for it."
    else:
        said = f"decide directions of the features almost alone {mean}: look whether they are right. What the other samples teach does not "
        said += "hold for them."
    return f"{text[0].upper()}{text[1:]} {said}"


def label_sentence(y: Array) -> str:
    """Names the sample whose label makes much of the labels' variance, if it stands apart from all others; else empty."""
    off = np.abs(y - np.median(y))
    row = int(np.argmax(off))
    share = float(np.square(y[row] - y.mean()) / np.square(y - y.mean()).sum())
    if share < DECIDES or off[row] <= APART * 1.4826 * np.median(off):
        return ""
    return (
        f"One label (row {row + 1}) makes {share:.0%} of the label's variance and as much of the risk by which steps were compared: for "
        "the other samples another step may be better, and without it the advice would be surer."
    )
