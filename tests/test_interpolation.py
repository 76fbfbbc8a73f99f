"""Curves between nodes: behind a velocity that is at rest at the start there is a layer that may be shorter than a cell."""

import numpy as np
import pytest

from sgdlimit.theory.accuracy.levels import Bends, Level, curves_at
from sgdlimit.theory.grids import spaced

TIMES = np.linspace(0.0, 4.0, 41)


def level(values: np.ndarray, nodes: np.ndarray) -> Level:
    n = len(nodes)
    return Level(nodes, np.zeros((n, n, 1, 1)), np.zeros((n, n, 1, 1)), np.zeros((n, 1, 1)), values)


def begins_at_rest(t: np.ndarray, memory: float) -> np.ndarray:
    return np.exp(-t) - memory * np.exp(-t / memory)


@pytest.mark.parametrize(("memory", "gain"), [(0.01, 50.0), (0.03, 50.0), (0.1, 5.0)])
def test_a_layer_shorter_than_a_cell_is_met(memory, gain):
    nodes, right = spaced(4.0, 16), begins_at_rest(TIMES, memory)
    worst = lambda bends: np.abs(curves_at(level(begins_at_rest(nodes, memory), nodes), TIMES, bends)["train_risk"] - right).max()
    assert gain * worst(Bends(memory=memory)) < worst(Bends())


@pytest.mark.parametrize("memory", [0.003, 0.1, 0.5, 2.0, 30.0])
@pytest.mark.parametrize("cells", [4, 16, 64])
def test_sampling_errors_stay_as_small_as_they_are(memory, cells):
    """Also where the layer is long and the first cells are short, whose values could not tell it. The spline itself makes 1.8 of one, at
    most; ten draws, seed 0."""
    nodes, rng = spaced(4.0, cells), np.random.default_rng(0)
    for _ in range(10):
        noise = rng.uniform(-1.0, 1.0, len(nodes))
        assert np.abs(curves_at(level(noise, nodes), TIMES, Bends(memory=memory))["train_risk"]).max() < 2.0


def test_noise_through_a_velocity_is_followed():
    """Squares that noise alone moves, at a rate known from the averages at the start: `E[l l] = 2`, `h = 3`, a step of .5."""
    memory, nodes = 0.03, spaced(4.0, 16)
    moved = lambda t: t - 2.0 * memory * -np.expm1(-t / memory) + 0.5 * memory * -np.expm1(-2.0 * t / memory)
    gram = np.diag(moved(nodes))[:, :, None, None]
    at_start = np.array([0.0, 2.0, 0.0, 3.0])  # risk, E[l l], E[l g*], h
    n = len(nodes)
    noisy = Level(nodes, gram, gram, np.zeros((n, 1, 1)), 3.0 * moved(nodes), begun=at_start)
    known, unknown = Bends(memory=memory, step=0.5, sample_ratio=1.0), Bends(memory=memory)
    for name, right in (("self_overlap", moved(TIMES)), ("train_risk", 3.0 * moved(TIMES))):
        worst = [np.abs(curves_at(noisy, TIMES, bends)[name].ravel() - right).max() for bends in (known, unknown)]
        assert 50.0 * worst[0] < worst[1]
