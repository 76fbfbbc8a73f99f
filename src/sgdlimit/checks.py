"""Numbers, arrays and second moments as a user gives them: checked, with the one sentence every refused field gets; and how much memory
there is."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from .errors import Words, refuse


def number(name: str, value: Any) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise refuse(name, "be a number", value) from None
    if not math.isfinite(found) or isinstance(value, bool):
        raise refuse(name, "be a finite number", value)
    return found


def positive(name: str, value: Any, fix: str = "") -> float:
    found = number(name, value)
    if found <= 0:
        raise refuse(name, "be positive", value, fix)
    return found


def array(name: str, value: Any) -> np.ndarray:
    try:
        found = np.array(value, dtype=float)
    except (TypeError, ValueError):
        raise refuse(name, "be an array of numbers", value) from None
    if not np.isfinite(found).all():
        raise refuse(name, "be finite", value)
    found.setflags(write=False)
    return found


def psd(name: str, value: Any) -> np.ndarray:
    cov = array(name, value)
    if cov.ndim != 2 or cov.shape[0] != cov.shape[1] or cov.size == 0:
        raise refuse(name, "be a square matrix", Words(f"of shape {cov.shape}"), "[[2.25]] for one direction")
    if not np.allclose(cov, cov.T, atol=1e-10 * (1 + np.abs(cov).max())):
        raise refuse(name, "be symmetric", value, "it is a second moment")
    lowest = np.linalg.eigvalsh(cov)[0]
    if lowest < -1e-10 * (1 + np.abs(cov).max()):
        raise refuse(name, "be positive semi-definite", value, f"its lowest eigenvalue is {lowest:.3g}")
    return cov


def root(cov: np.ndarray) -> np.ndarray:
    """A symmetric square root of a positive semi-definite matrix (`root @ root.T == cov`)."""
    values, vectors = np.linalg.eigh(cov)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def available_bytes() -> int:
    """Memory this process may still take: what the system calls available, or less where a container sets a limit."""
    limits = []
    try:
        with open("/proc/meminfo") as f:
            limits += [int(line.split()[1]) * 1024 for line in f if line.startswith("MemAvailable:")]
    except OSError:
        pass
    try:
        with open("/sys/fs/cgroup/memory.max") as f:
            limits.append(int(f.read()))
    except (OSError, ValueError):
        pass
    if not limits:
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(limits)
