"""What speaks against an estimate, measured on the training itself."""

from __future__ import annotations

import numpy as np

FEATURES = 8  # with fewer directions a sample's response is no average over many
SCATTER = 0.35  # of samples left out exactly around the model
BEND = 0.3  # of the loss, over what leaving a sample out moves the others
UNEXPLAINED = 0.05  # of the predictions by the batches told of
COPIES = 0.02  # of the rows
OVERSHOOT = 2.0  # a kick moves its own sample by this times its distance from where the loss is least
ALONE = 0.25  # of the risk in one sample
NEIGHBOURS, DIRECTIONS, SKETCH, LIKE = 6, 3, 8, 0.05


def copies(rows: np.ndarray, norms: np.ndarray) -> float:
    """Share of the rows that have a copy, or nearly one: they are next to each other along random directions. Several of these tell most
    pairs apart before whole rows are compared."""
    n, d = rows.shape
    found = np.zeros(n, bool)
    sketch = np.ascontiguousarray((rows @ np.random.default_rng(0).standard_normal((d, SKETCH)).astype(rows.dtype)).T)
    for along in sketch[:DIRECTIONS]:
        order = np.argsort(along)
        ordered = sketch[:, order]
        for apart in range(1, min(NEIGHBOURS, n - 1) + 1):
            one, other = order[apart:], order[:-apart]
            size = np.minimum(norms[one], norms[other])
            near = np.mean((ordered[:, apart:] - ordered[:, :-apart]) ** 2, axis=0) <= (4 * LIKE) ** 2 * size
            one, other, size = one[near], other[near], size[near]
            alike = (np.sum((rows[one] - rows[other]) ** 2, axis=1) < LIKE**2 * size) & (size > 0)
            found[one[alike]] = found[other[alike]] = True
    return float(found.mean())


def broken(measured: dict[str, float]) -> bool:
    """Whether the response itself is in doubt; few features, copies and a sample that makes up much of the risk are so at all steps."""
    m = measured
    over = m["unexplained"] > UNEXPLAINED or m["overshoot"] > OVERSHOOT or m["bend"] > BEND or m["scatter"] > SCATTER
    return over or not np.isfinite(m["risk"])


def warnings(measured: dict[str, float]) -> tuple[str, ...]:
    """Sentences, from the numbers that `OneRun` measures."""
    m = measured
    if not np.isfinite(m["risk"]):
        return ("the training or its response has left all bounds (smaller steps)",)
    told = []
    if m["features"] < FEATURES:
        told.append(f"there are too few features, {m['features']:.0f}, for a response that is an average over many directions")
    if m["copies"] > COPIES:
        told.append(f"{m['copies']:.0%} of the rows are copies of others, which show what is left out")
    if m["unexplained"] > UNEXPLAINED:
        told.append(
            f"the batches leave {m['unexplained']:.0%} of the predictions unexplained: is this the learning rate, momentum and weight"
            " decay of the loop, and are predictions X theta, from before the update (an intercept is a column of ones in X)?"
        )
    if m["overshoot"] > OVERSHOOT:
        told.append(f"steps are too large: one moves its own sample {m['overshoot']:.1f} times as far as the loss is straight")
    if m["bend"] > BEND:
        told.append(f"the linearisation is too coarse: the loss bends by {m['bend']:.0%} over what leaving a sample out moves others")
    if m["scatter"] > SCATTER:
        told.append(f"the leverage of single samples is too large: {m['tangents']:.0f} left out exactly scatter by {m['scatter']:.0%}")
    if m["alone"] > ALONE:
        told.append(f"a single sample makes up {m['alone']:.0%} of the risk")
    return tuple(told)
