"""The theory of a smooth penalty behind an optimiser: its pieces against integration, its limits, ridges in disguise, real training."""

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

import sgdlimit as sl
from marks import cases
from problems import CURVES, closed_forms, committee, dynamics, linear, tanh_regression
from sgdlimit.theory.accuracy.levels import run_levels
from sgdlimit.theory.accuracy.replicates import Drawn, draw_all
from sgdlimit.theory.samples.engines import engine_of
from sgdlimit.theory.weights.filtered_penalised import penalty_flow, steps_of
from sgdlimit.theory.weights.filters import Filter
from test_laws import assert_means
from test_penalty import LINEAR, SPARSE, _pseudo_huber, _quadratic, _within

NODES = 0.05 * np.arange(7.0) ** 1.5
OPTIMISERS = [sl.Momentum(0.3), sl.Momentum(1e-4), sl.Adam(0.3, 1.0), sl.Adam(1e-3, 1.0)]
QUADRATIC = dataclasses.replace(linear(**LINEAR), penalty=sl.SmoothPenalty(_quadratic))


def filter_of(optimizer):
    return Filter(sl.SGD(1.0, optimizer=optimizer), NODES, 1, 1, 6)


# --- pieces --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMISERS, ids=repr)
@pytest.mark.parametrize("node", [0, 3])
def test_the_penaltys_flow_behind_a_filter(optimizer, node):
    """Over half a cell, against an integrator for stiff systems, with its Jacobian."""
    filter, start, gain = filter_of(optimizer), NODES[node], 0.7
    end = 0.5 * (start + NODES[node + 1])

    def slope(t, state):
        memory = optimizer.memory * (-np.expm1(-max(t, 1e-12) / optimizer.memory) if filter.corrected else 1.0)
        theta, v = state
        return [gain * v, (-0.3 * theta / np.sqrt(theta**2 + 0.05) - v) / memory]

    # A corrected velocity starts as the force.
    v0 = -0.3 * 0.4 / np.sqrt(0.4**2 + 0.05) if filter.corrected and not node else 0.2
    truth = solve_ivp(slope, (start + 1e-9 * (node == 0), end), [0.4, v0], method="Radau", rtol=1e-10, atol=1e-12).y[:, -1]
    with jax.enable_x64(True):
        flow = lambda theta, v: penalty_flow(_pseudo_huber)(theta, v, jnp.full(1, gain), steps_of(filter, start, end))
        ours = np.ravel(flow(jnp.full(1, 0.4), jnp.full(1, v0)))
    np.testing.assert_allclose(ours, truth, rtol=1e-3 if filter.corrected else 1e-5)


@pytest.mark.parametrize("optimizer", OPTIMISERS, ids=repr)
@pytest.mark.parametrize("node", [0, 1, 4])
def test_noise_is_passed_on_with_its_law(optimizer, node):
    """Second moments of what independent increments within a cell move, and of the velocity they leave at its end."""
    filter, tau = filter_of(optimizer), optimizer.memory
    start, end = NODES[node], NODES[node + 1]
    left = lambda u: np.exp(-(end - u) / tau) / tau * filter.correction(node + 1)
    if filter.corrected:
        moved = lambda u: (
            np.exp(u / tau) * np.log1p((np.exp(-u / tau) - np.exp(-end / tau)) / -np.expm1(-u / tau))
            if u < 20 * tau
            else -np.expm1((u - end) / tau)
        )
    else:
        moved = lambda u: -np.expm1((u - end) / tau)
    near = [max(end - 8 * tau, start), min(start + 8 * tau, end)]
    mean = lambda f: quad(f, start, end, points=sorted({p for p in near if start < p < end}), limit=200)[0] / (end - start)
    passed = filter.passed(node, smooth=False)
    np.testing.assert_allclose(np.sum(np.square(passed.moved)), mean(lambda u: moved(u) ** 2), rtol=2e-3)
    np.testing.assert_allclose(np.sum(np.square(passed.velocity)), mean(lambda u: left(u) ** 2), rtol=2e-3)
    np.testing.assert_allclose(passed.velocity[0], mean(left), rtol=2e-3)
    assert filter.passed(node, smooth=True).moved[0] == pytest.approx(mean(moved), rel=2e-3)


# --- limits --------------------------------------------------------------------------------------------------------------------


def levels(problem, dynamics, cells=12, horizon=1.2, paths=512):
    """Curves of two replicates on one grid; samples and particles have the same draws whatever the optimiser."""
    blocks = dataclasses.replace(dynamics, optimizer=sl.Momentum(0.5))
    engine, full = (engine_of("paths", problem, one, horizon) for one in (dynamics, blocks))
    nodes, drawn = engine.nodes(cells), []
    for seed in np.random.SeedSequence(3).spawn(2):
        samples, particles = draw_all(engine, cells, paths, copy.deepcopy(seed)).samples, draw_all(full, cells, paths, seed).particles
        if dynamics.plain:  # which has no use for the second half of the normals
            particles = particles._replace(cells=particles.cells[..., : problem.k])
        drawn.append(Drawn(paths, samples, particles))
    return run_levels(engine, drawn, nodes, cells)


@pytest.mark.parametrize("training", [sl.SGD(1.5), sl.GradientFlow()], ids=repr)
def test_a_memory_that_goes_to_zero_is_none(training):
    plain, short = (levels(SPARSE, dataclasses.replace(training, optimizer=o)) for o in (None, sl.Momentum(1e-10)))
    for one, other in zip(plain, short, strict=True):
        for name in ("overlap", "train", "R", "C"):
            np.testing.assert_allclose(getattr(other, name), getattr(one, name), atol=1e-6)


def test_a_flow_on_a_fine_grid_stays_with_the_truth():
    """Smooth noise behind a filter has next to nothing new in a cell; what a factor made of rounding once grew to 3% here."""
    optimizer = sl.Momentum(1.0)
    for level in levels(QUADRATIC, sl.GradientFlow(optimizer=optimizer), 48, 4.0, 1024):
        truth = closed_forms.linear_model(step=0.0, times=level.nodes, optimizer=optimizer, **LINEAR)["self_overlap"]
        np.testing.assert_allclose(level.self_overlap.ravel(), truth, atol=3e-3)


@pytest.mark.parametrize("name", cases(["sgd", "sme", "gf"], evidence=["sme"]))
@pytest.mark.parametrize("memory", [0.02, 0.5])
def test_a_quadratic_penalty_has_the_closed_form_of_a_ridge(name, memory):
    # As for plain training (test_penalty): 3 reported errors plus a tenth of rtol.
    step, times, optimizer = 0.8, np.linspace(0.0, 2.0, 5), sl.Momentum(memory)
    training = dataclasses.replace(dynamics(name, step), optimizer=optimizer)
    data = sl.solve(QUADRATIC, training, 2.0, rtol=0.02, seed=1, times=times).dataset
    truth = closed_forms.linear_model(step=0.0 if name == "gf" else step, times=times, optimizer=optimizer, **LINEAR)
    for curve in CURVES:
        gap = np.abs(data[curve].values.ravel() - truth[curve])
        assert (gap <= 3 * data[curve + "_se"].values.ravel() + 0.002 * np.abs(truth[curve]).max()).all(), curve


TANH = tanh_regression()
SPECTRAL = dataclasses.replace(TANH, spectrum=sl.Spectrum([0.3, 1.7], [0.5, 0.5]))
RIDGES = {
    "Adam": (TANH, sl.SGD(0.5, optimizer=sl.Adam(0.05, 1.0, decay=0.2))),
    "Adam and heat with a spectrum": (SPECTRAL, sl.SGD(0.4, optimizer=sl.Adam(0.05, 0.5), temperature=0.1)),
    "two units": (committee(), sl.SGD(1.0, optimizer=sl.Momentum(0.3))),
}


@pytest.mark.parametrize("name", cases(RIDGES, evidence=["two units"]))
def test_a_quadratic_penalty_is_a_ridge(name):
    # Other coordinates, other sampling, same limit: 3 joint errors plus a tenth of rtol.
    problem, training = RIDGES[name]
    times = np.linspace(0.0, 1.0, 3)
    ridge, smooth = (
        sl.solve(dataclasses.replace(problem, penalty=penalty), training, 1.0, rtol=0.05, seed=seed, times=times).dataset
        for seed, penalty in ((1, sl.Ridge(0.2)), (2, sl.SmoothPenalty(_quadratic)))
    )
    _within(smooth, ridge, 3, 0.005)


# --- real runs -----------------------------------------------------------------------------------------------------------------

MIXED = dataclasses.replace(SPARSE, spectrum=sl.Spectrum([0.3, 1.7], [0.5, 0.5]))
TWO = dataclasses.replace(committee(), penalty=sl.SmoothPenalty(_pseudo_huber))
REAL = {
    "momentum": (SPARSE, sl.SGD(1.5, optimizer=sl.Momentum(0.4))),
    "AdamW": (SPARSE, sl.SGD(0.5, optimizer=sl.Adam(0.2, 1.0, decay=0.3))),
    "reshuffled": (SPARSE, sl.SGD(0.5, "reshuffle", optimizer=sl.Adam(0.05, 1.0))),
    "SME": (SPARSE, sl.SME(1.5, optimizer=sl.Momentum(0.2))),
    "flow": (SPARSE, sl.GradientFlow(optimizer=sl.Momentum(0.4))),
    "warm flow": (SPARSE, sl.GradientFlow(optimizer=sl.Momentum(0.3), temperature=0.1)),
    "a schedule": (SPARSE, sl.SGD(lambda t: 1.5 / (1.0 + t), optimizer=sl.Momentum(0.3))),
    "a spectrum": (MIXED, sl.SGD(1.2, optimizer=sl.Momentum(0.3))),
    "Adam and heat with a spectrum": (MIXED, sl.SGD(0.4, optimizer=sl.Adam(0.05, 0.5), temperature=0.1)),
    "heat and a spectrum": (MIXED, sl.SGD(1.2, temperature=0.1)),
    "two units": (TWO, sl.SGD(0.4, optimizer=sl.Adam(0.05, 1.0, decay=0.1))),
}


@pytest.mark.parametrize("name", cases(REAL, evidence=[*set(REAL) - {"momentum", "AdamW", "flow"}]))
def test_theory_meets_real_runs(name):
    # 8 runs at d = 1600 (flows and SME: 800), seed 5: 3 joint standard errors and 1%.
    problem, training = REAL[name]
    times, few = np.linspace(0.0, 1.5, 4), isinstance(training, sl.SME | sl.GradientFlow)
    theory = sl.solve(problem, training, 1.5, rtol=0.02, seed=1, times=times).dataset
    runs = sl.simulate(problem, training, 1.5, n_features=800 if few else 1600, repeats=8, batch_size=4, seed=5, times=times).dataset
    _within(theory, runs, 3, 0.01)


def test_paths_of_the_law_have_its_means():
    solution = sl.solve(SPARSE, REAL["momentum"][1], 1.5, rtol=0.02, seed=1, times=np.linspace(0.0, 1.5, 4))
    data, drawn = solution.dataset, solution.coordinate_paths(8000, seed=1)
    theta = drawn.theta.values
    assert_means(theta[..., None] * theta[:, :, None], data.self_overlap.values, data.self_overlap_se.values, "theta")
    assert_means(theta[..., None] * drawn.theta_star.values[:, None, None], data.overlap.values, data.overlap_se.values, "overlap")
