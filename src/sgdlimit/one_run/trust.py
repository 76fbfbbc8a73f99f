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
NEIGHBOURS, DIRECTIONS, LIKE = 6, 3, 0.05


def copies(rows: np.ndarray, norms: np.ndarray) -> float:
    """Share of the rows that have a copy, or nearly one: they are next to each other along random directions."""
    n, d = rows.shape
    found = np.zeros(n, bool)
    rng = np.random.default_rng(0)
    for _ in range(DIRECTIONS):
        order = np.argsort(rows @ rng.standard_normal(d).astype(rows.dtype))
        ordered = rows[order]
        for apart in range(1, min(NEIGHBOURS, n - 1) + 1):
            one, other = norms[order[apart:]], norms[order[:-apart]]
            distance = one + other - 2.0 * np.einsum("nd,nd->n", ordered[apart:], ordered[:-apart])
            size = np.minimum(one, other)
            alike = (distance < LIKE**2 * size) & (size > 0)
            found[order[apart:][alike]] = found[order[:-apart][alike]] = True
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
