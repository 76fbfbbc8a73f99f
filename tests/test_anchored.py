"""Averages that are held to what is known at the start: right, and much better told where labels have many random numbers."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import sgdlimit as sl
from sgdlimit.theory.samples import draws
from sgdlimit.theory.samples.anchored import anchored, begun, known_start, means


def softmax(classes: int) -> sl.Problem:
    model = sl.models.softmax(classes=classes)
    cov = np.eye(classes).tolist()
    start = sl.Init(overlap=(0.3 * np.eye(classes)).tolist(), cov=cov)
    return sl.Problem(model.loss, model.label, model.noise, sample_ratio=0.8, teacher=sl.GaussianTeacher(cov=cov), init=start)


def test_what_is_known_at_the_start():
    """Against plain random samples, 2^17 of them: 13 means within 4.5 standard errors, one false alarm in ten thousand seeds."""
    problem = softmax(3)
    known = known_start(problem, 2**12, np.random.SeedSequence(1))
    rng = np.random.default_rng(2)
    gstar, xi = rng.standard_normal((2, 2**17, 3))
    w = 0.3 * gstar + xi
    y = np.argmax(gstar + rng.gumbel(size=gstar.shape), 1)
    p = np.exp(w) / np.exp(w).sum(1, keepdims=True)
    l, loss = p - np.eye(3)[y], -np.log(p[np.arange(len(p)), y])  # noqa: E741
    for name, product in (("l_gstar", l[:, :, None] * gstar[:, None]), ("l_l", l[:, :, None] * l[:, None]), ("risk", loss)):
        z = (product.mean(0) - getattr(known, name)) / (product.std(0) / 2**8.5)
        assert np.abs(z).max() < 4.5, (name, z)


def test_means_follow_what_is_known():
    """Exactly where nothing has moved since the start, and not at all where samples have forgotten it; weights included."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        l, r, gstar = rng.standard_normal((3, 2, 500))  # noqa: E741
        weight = rng.uniform(0.5, 1.5, 500)
        weigh = lambda array: array * weight / weight.mean()
        now = lambda l, r, loss: means(l, r, loss, gstar, (weigh(l), weigh(loss)))  # noqa: E741
        known = jax.tree.map(lambda mean: mean + 0.1, now(l, r, l[0]))
        start = begun(l, r, l[0], gstar, weigh, known)
        held = anchored(now(l, r, l[0]), start, l, r, l[0], gstar, weigh)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), held, known)
        other = rng.standard_normal((2, 500))
        held = anchored(now(other, r, other[0]), start, other, r, other[0], gstar, weigh)
        moved = np.abs(held.risk - now(other, r, other[0]).risk)
        assert moved < 0.1 * 4.5 / np.sqrt(500)  # the share of what is missing is their correlation


def test_overlaps_are_told_better(monkeypatch):
    """A softmax of three classes by flow: without, its overlap takes 20 replicates of 2048 samples at 2%, and 4 or 8 with. And both agree,
    within 4.5 joint standard errors."""
    solve = lambda: sl.solve(softmax(3), sl.GradientFlow(), 3.0, rtol=0.02, times=[0.0, 1.5, 3.0], seed=2)
    held = solve()
    monkeypatch.setattr(draws, "known_start", lambda *args: None)
    free = solve()
    work = lambda found: found.diagnostics["paths"] * found.diagnostics["replicates"]
    assert work(free) >= 2 * work(held), (free.diagnostics, held.diagnostics)
    for curve in ("self_overlap", "overlap", "train_risk", "test_risk"):
        joint = np.hypot(*(found.dataset[curve + "_se"].values for found in (held, free)))
        assert (np.abs(held.dataset[curve] - free.dataset[curve]).values <= 4.5 * joint + 1e-9).all(), curve


@pytest.mark.parametrize("dynamics", [sl.SGD(1.0), sl.SME(0.5), sl.GradientFlow(), sl.SGD(1.0, optimizer=sl.Momentum(0.3))])
def test_numpy_finds_the_same(dynamics):
    """The witness inside `solve`, which averages by itself: it must have looked, and agree."""
    found = sl.solve(softmax(2), dynamics, 1.0, rtol=0.1, times=[0.0, 1.0], method="auto" if dynamics == sl.GradientFlow() else "paths")
    assert "a handful of samples" in found.diagnostics["witnesses"]
    assert found.status.code == "done"
