"""How samples march: in parties of one size, on grids with room to spare, and with a few histories ahead of all."""

import numpy as np
import pytest

import sgdlimit as sl
from problems import linear, tanh_regression
from sgdlimit.theory import closed_forms
from sgdlimit.theory.accuracy import search
from sgdlimit.theory.accuracy.levels import curves_at, run_levels
from sgdlimit.theory.accuracy.replicates import draw_all
from sgdlimit.theory.samples.engines import engine_of

KNOWN = {
    "sample_ratio": 1.5, "ridge": 0.1, "noise_variance": 0.25, "start_variance": 0.5, "teacher_variance": 1.0, "start_overlap": 0.3,
}  # fmt: skip
HORIZON, STEP = 3.0, 0.6
TIMES = np.linspace(0.0, HORIZON, 13)
FIELDS = ("R", "C", "overlap", "train", "gap")
RESHUFFLED = sl.SGD(STEP, "reshuffle")


def marched(engine, cells, paths, every=1, room=None, scouts=0, replicates=2):
    nodes = engine.nodes(cells)
    drawn = [draw_all(engine, len(nodes) - 1, paths, seed) for seed in np.random.SeedSequence(3).spawn(replicates)]
    return run_levels(engine, drawn, nodes[::every], room or engine.capacity(len(nodes) - 1), scouts=scouts)


@pytest.mark.parametrize("dynamics", [sl.SGD(STEP), RESHUFFLED])
def test_parties_together_are_all_samples_at_once(dynamics):
    engine = engine_of("events", tanh_regression(), dynamics, HORIZON)
    engine.pilot = 512
    whole = marched(engine, 12, 512)
    engine.pilot = 128
    for one, other in zip(whole, marched(engine, 12, 512), strict=True):
        for name in FIELDS:
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-7, atol=1e-9, err_msg=name)


def test_parties_of_paths_do_not_share_their_bridges():
    """Of two parties of SME: with the same bridges their draws would differ in all but these."""
    engine = engine_of("paths", tanh_regression(), sl.SME(STEP), HORIZON)
    (samples,) = (draw_all(engine, 8, 256, seed).samples for seed in np.random.SeedSequence(3).spawn(1))
    first, second = (engine.lay_out([samples.part(a, a + 128)], engine.nodes(8), 8)[0] for a in (0, 128))
    assert not np.isclose(first.bridge, second.bridge).any()
    whole = engine.lay_out([samples], engine.nodes(8), 8)[0]
    np.testing.assert_array_equal(np.concatenate([first.gauss, second.gauss], -1), whole.gauss)


@pytest.mark.parametrize("dynamics", [sl.SGD(STEP), sl.SME(STEP), sl.GradientFlow(), sl.SME(STEP, optimizer=sl.Momentum(0.3))])
def test_room_to_spare_changes_nothing(dynamics):
    engine = engine_of("paths", tanh_regression(), dynamics, HORIZON)
    assert engine.capacity(12) == 16
    for every in (1, 2):
        for one, other in zip(marched(engine, 12, 256, every, room=12), marched(engine, 12, 256, every), strict=True):
            for name in FIELDS:
                np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-7, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("dynamics", [sl.SGD(STEP), RESHUFFLED, sl.SGD(STEP, optimizer=sl.Momentum(0.3))])
def test_what_few_foresee_is_of_second_order(dynamics):
    """The same samples, crossed twice or once behind one in sixteen: cells half as long leave a quarter of the difference, and extrapolated
    it is far below what 512 histories fluctuate by."""
    engine = engine_of("events", tanh_regression(), dynamics, HORIZON)
    apart = []
    for every in (1, 2):
        twice, once = (marched(engine, 32, 512, every, scouts=scouts, replicates=4) for scouts in (0, 32))
        curves = [[curves_at(level, TIMES)["self_overlap"] for level in levels] for levels in (twice, once)]
        apart.append(np.subtract(*np.mean(curves, 1)))
    fine, coarse = (float(np.abs(one).max()) for one in apart)
    assert fine < 0.4 * coarse
    assert np.abs(apart[0] + (apart[0] - apart[1]) / 3.0).max() < 1e-3


@pytest.mark.parametrize("dynamics", [sl.SGD(STEP), RESHUFFLED])
def test_solve_with_few_ahead(monkeypatch, dynamics):
    """SGD by its closed form; reshuffled by a search that lets nobody go ahead. Joint standard errors at 13 times of 4 curves: 4.5 of
    Student's law with three degrees of freedom would be passed by chance in one of a hundred such tests, were all points independent."""
    problem = linear(**KNOWN)
    solve = lambda seed: sl.solve(problem, dynamics, HORIZON, rtol=0.02, seed=seed, times=TIMES, method="events")
    monkeypatch.setattr(search, "SCOUTED", 0.0)
    asked = []
    given = search.run_levels
    monkeypatch.setattr(search, "run_levels", lambda *args: asked.append(args[-1]) or given(*args))
    found = solve(1)
    assert min(asked) > 0
    monkeypatch.setattr(search, "SCOUTED", np.inf)
    other = solve(2).dataset
    assert asked[-1] == 0
    truth = closed_forms.linear_model(step=STEP, times=TIMES, **KNOWN) if dynamics.sampling == "replacement" else None
    for name in ("self_overlap", "overlap", "train_risk", "test_risk"):
        values, se = found.dataset[name].values.ravel(), found.dataset[name + "_se"].values.ravel()
        expected, joint = other[name].values.ravel(), np.hypot(se, other[name + "_se"].values.ravel())
        if truth is not None:
            expected, joint = truth[name], se
        assert (np.abs(values - expected) <= 4.5 * joint + 1e-12).all(), name


@pytest.mark.parametrize(
    ("change", "few"),
    [
        ({}, True),
        ({"spectrum": sl.Spectrum.power_law(1.0)}, False),
        ({"penalty": sl.SmoothPenalty(lambda theta: 0.1 * (theta**4).sum())}, False),
    ],
)
def test_who_has_few_ahead(change, few):
    """Histories have, but not behind a spectrum or under a penalty; paths never."""
    problem = tanh_regression()
    parts = {name: getattr(problem, name) for name in ("loss", "label", "noise", "sample_ratio", "teacher", "init")}
    problem = sl.Problem(**parts, **change)
    assert bool(engine_of("events", problem, RESHUFFLED, HORIZON).scouts) == few
    assert engine_of("paths", problem, sl.SGD(STEP), HORIZON).scouts == 0
