"""What follows from the four curves: generalisation gap, angle to the teacher, distance to it, and each curve's scale.

The observables are the same functions of the curves in theory and simulation, so `results.build_dataset` adds them to both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

DERIVED: dict[str, tuple[str, ...]] = {
    "generalisation_gap": ("time",),
    "angle": ("time", "student", "teacher"),
    "distance_to_teacher": ("time",),
}
DERIVED_NAMES = {
    "generalisation_gap": "test risk - train risk",
    "angle": "cosine of the angle between student and teacher",
    "distance_to_teacher": "E|w - r*|^2",
}

OVERLAP_FLOOR = 0.1  # an overlap's scale is at least this fraction of what Cauchy-Schwarz allows it
NUMBER_FLOOR = 0.1  # and that of numbers trained along is at least this, for an intercept that stays near zero
TINY = 1e-12

Curves = Mapping[str, np.ndarray]


def scales(curves: Curves, teacher_size: float) -> dict[str, float]:
    """What a difference or an error is relative to, by curve: its largest absolute value; of an overlap at least a tenth of its bound,
    so that one which is zero by symmetry has a scale. `teacher_size` is the largest `E[r*_b^2]`."""
    found = {name: max(float(np.abs(values).max()), TINY) for name, values in curves.items()}
    bound = float(np.sqrt(found["self_overlap"] * teacher_size))
    if "trained" in found:
        found["trained"] = max(found["trained"], NUMBER_FLOOR)
    return found | {"overlap": max(found["overlap"], OVERLAP_FLOOR * bound)}


def derive(
    curves: Curves, errors: Curves, teacher_cov: np.ndarray | None, repeats: Curves | None = None, common: Curves | None = None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The derived observables and their standard errors.

    Arguments:
        curves, errors: the curves and their standard errors, time first.
        teacher_cov: second moment `(k_star, k_star)` of the teacher; without it there are no angle and no distance.
        repeats: the curves of each repeat, `(repeats, time, ...)`, where there are any: an error is then the spread of the
            observable, linear around the mean, over repeats. Otherwise it is the sum of what each curve's own error does to the
            observable to first order, which no correlation between the curves can exceed.
        common: errors that all repeats share, and their spread does not show; they count to first order, too.

    Returns:
        Values and errors by name. The angle to a student or teacher of size zero is NaN. `distance_to_teacher` needs `k = k_star`.
    """
    values, changes = _observables(curves, teacher_cov)
    sizes: dict[str, np.ndarray] = {}
    bound = lambda one, other: np.abs(one) + np.abs(other)
    for name, change in changes.items():
        if repeats is not None:
            each = change({key: np.asarray(repeats[key]) - curves[key] for key in curves}, np.add)
            sizes[name] = each.std(axis=0, ddof=1) / np.sqrt(len(each))
            if common is not None:
                sizes[name] = np.hypot(sizes[name], change(common, bound))
        else:
            sizes[name] = change(errors, bound)
    # One number under two names, as in one pass and in theory at the start, has no gap and no error of one.
    same = (curves["train_risk"] == curves["test_risk"]) & (errors["train_risk"] == errors["test_risk"])
    sizes["generalisation_gap"] = np.where(same, 0.0, sizes["generalisation_gap"])
    return values, sizes


def _observables(curves: Curves, teacher_cov: np.ndarray | None) -> tuple[dict[str, np.ndarray], dict[str, Callable]]:
    """Values, and for each its linear change under changes of the curves, whose parts `add` puts together."""
    values = {"generalisation_gap": np.asarray(curves["test_risk"]) - curves["train_risk"]}
    changes: dict[str, Callable] = {"generalisation_gap": lambda d, add: add(d["test_risk"], -d["train_risk"])}
    if teacher_cov is None:
        return values, changes
    q, m = _diagonal(curves["self_overlap"]), np.asarray(curves["overlap"])
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = 1.0 / np.sqrt(q[..., :, None] * np.diag(teacher_cov))
        values["angle"] = np.where(np.isfinite(unit), m * unit, np.nan)
        by_q = np.where(q > 0, 1.0 / q, 0.0)[..., :, None]
    slope = np.where(np.isfinite(unit), unit, np.nan)
    changes["angle"] = lambda d, add: add(slope * d["overlap"], -0.5 * values["angle"] * by_q * _diagonal(d["self_overlap"])[..., :, None])
    if m.shape[-1] == m.shape[-2]:
        values["distance_to_teacher"] = q.sum(-1) - 2 * _diagonal(m).sum(-1) + np.trace(teacher_cov)
        changes["distance_to_teacher"] = lambda d, add: add(_diagonal(d["self_overlap"]).sum(-1), -2 * _diagonal(d["overlap"]).sum(-1))
    return values, changes


def _diagonal(matrices: np.ndarray) -> np.ndarray:
    return np.diagonal(matrices, axis1=-2, axis2=-1)
