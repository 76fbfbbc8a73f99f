"""How much of the features each sample decides by itself, and the samples that decide a direction of them alone.

The leverage `h_i = x_i^T (X^T X)^-1 x_i` lies between 0 and 1 and has mean `d / n` (Hoaglin and Welsch, American Statistician 32, 17,
1978). A fit goes through the label of a sample of leverage one whatever the others say, and without that sample nothing is known of its
direction: its error when left out is as large as one likes, `e_i / (1 - h_i)` for a least-squares fit with residual `e_i`. Left-out
errors weighted by `(1 - h_i)^2` over its mean are generalised cross-validation (Golub, Heath and Wahba, Technometrics 21, 215, 1979), which
does not depend on where a few such samples lie.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

LEAST_RIDGE = 1e-3  # in feature variances: training sees no smaller eigenvalues
MOST_MEAN = 0.5  # leverage that the ridge leaves in the mean
DOMINATES, TIMES = 0.3, 5.0  # leverage of a sample that is named, by itself and over the median
MOST_NAMED = 5


def leverage(X: Array) -> Array:
    """`(n,)`, of features `(n, d)`, with the smallest ridge for which it is no more than a half in the mean."""
    n, d = X.shape
    X = X - X.mean(0)
    wide = d > n
    values, vectors = np.linalg.eigh((X @ X.T if wide else X.T @ X) / n)
    values = np.maximum(values, 0.0)
    ridge = LEAST_RIDGE * values.sum() / d
    shares = lambda ridge: values / (values + ridge)
    while shares(ridge).sum() > MOST_MEAN * n:
        ridge *= 2.0
    if wide:
        return vectors**2 @ shares(ridge)
    return np.square(X @ vectors) @ (1.0 / (values + ridge)) / n


def weights(leverages: Array) -> Array:
    """Of left-out errors, with mean one, as in generalised cross-validation."""
    shares = np.square(1.0 - leverages)
    return shares / shares.mean()


def dominating(leverages: Array) -> Array:
    """Indices of samples that decide a direction of the features alone, or nearly so, the most of all first."""
    found = np.flatnonzero((leverages >= DOMINATES) & (leverages >= TIMES * np.median(leverages)))
    return found[np.argsort(-leverages[found], kind="stable")]


def sentence(leverages: Array) -> str:
    """Names the dominating samples; empty if there are none."""
    found = dominating(leverages)
    if not len(found):
        return ""
    named = ", ".join(f"row {row + 1} ({leverages[row]:.2f})" for row in found[:MOST_NAMED])
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    start = f"{named[0].upper()}{named[1:]}{more}"
    return (
        f"{start} {'decides' if len(found) == 1 else 'decide'} directions of the features almost alone (leverage in brackets, at most 1; "
        f"{leverages.mean():.2g} in the mean): look whether {'it is' if len(found) == 1 else 'they are'} right. What is left "
        f"out of training cannot tell of {'it' if len(found) == 1 else 'them'}."
    )
