"""Each witness inside `solve` is seen red when the fault it watches for is planted, and green without."""

import sys

import numpy as np
import pytest

import sgdlimit as sl
from problems import linear
from sgdlimit.theory.accuracy import estimates, plans, recomputed, search, witness
from sgdlimit.theory.samples import engines, histories
from sgdlimit.theory.samples.events import EventProgram
from sgdlimit.theory.weights.coordinates import RidgeCoordinates

PROBLEM = linear(sample_ratio=2.0, ridge=0.1, noise_variance=0.25, start_variance=0.5, teacher_variance=1.0)
DYNAMICS = {
    "events": (sl.SGD(0.8), "events"),
    "paths": (sl.SGD(0.8), "paths"),
    "reshuffled": (sl.SGD(0.8, sampling="reshuffle"), "auto"),
    "SME": (sl.SME(0.8), "auto"),
    "flow": (sl.GradientFlow(), "auto"),
}


def solved(name="events", rtol=0.05, seed=0):
    dynamics, method = DYNAMICS[name]
    return sl.solve(PROBLEM, dynamics, 2.0, rtol=rtol, seed=seed, method=method, on_failure="return")


def doubts(solution, *words):
    """The status says that the answer is not vouched for, and why."""
    assert solution.status.code == "inaccurate"
    assert "a witness inside solve disagrees" in str(solution.status)
    for word in words:
        assert word in str(solution.status)


def shares(solution):
    """What every witness saw, in units of what is allowed."""
    parts = solution.diagnostics["witnesses"].removesuffix(" of what is allowed").split("; ")
    return {name: float(size) for name, size in (part.rsplit(" ", 1) for part in parts)}


@pytest.mark.parametrize("name", DYNAMICS)
def test_all_agree_where_nothing_is_wrong(name):
    found = solved(name)
    assert found.status.code == "done"
    seen = found.diagnostics["witnesses"]
    for witness_ in ("the start", "the draws", "a handful of samples", "the two self-overlaps"):
        assert witness_ in seen
    assert max(shares(found).values()) < 0.7


def test_a_fault_raises_unless_asked_not_to(monkeypatch):
    monkeypatch.setattr(witness, "start_by_quadrature", lambda problem, seed: 1.1 * real_start(problem, seed))
    with pytest.raises(sl.SolveError, match="a witness inside solve disagrees") as e:
        sl.solve(PROBLEM, sl.SGD(0.8), 2.0, rtol=0.05)
    assert e.value.result.status.code == "inaccurate"


real_start = witness.start_by_quadrature


def wrong(averages, **parts):
    """Averages as a wrong kernel would have them: some of them times a factor."""
    return averages._replace(**{name: factor * getattr(averages, name) for name, factor in parts.items()})


@pytest.mark.parametrize("part", ["l_l", "h_chi", "l_r", "l_kicks", "risk"])
def test_a_wrong_average_of_events_is_seen(monkeypatch, part):
    real = EventProgram.once_more
    monkeypatch.setattr(EventProgram, "once_more", lambda self, *given: wrong(real(self, *given), **{part: 1.02}))
    doubts(solved("events"), "a handful of samples" if part in ("h_chi", "l_r", "l_kicks") else "")


@pytest.mark.parametrize("name", ["paths", "SME", "flow"])
def test_a_wrong_average_of_paths_is_seen(monkeypatch, name):
    program = engines.engine_of("paths", PROBLEM, DYNAMICS[name][0], 2.0).program
    real = program.cross

    def cross(*given):
        after, moments, arrival = real(*given)
        return wrong(after, h_chi=1.02), moments, arrival

    monkeypatch.setattr(program, "cross", cross)
    doubts(solved(name), "a handful of samples", "E[H chi]")


def test_a_wrong_feedback_of_paths_is_seen(monkeypatch):
    program = engines.engine_of("paths", PROBLEM, sl.SGD(0.8), 2.0).program
    real = program.cross

    def cross(*given):
        after, moments, arrival = real(*given)
        return after, moments, arrival._replace(memory=0.98 * arrival.memory)

    monkeypatch.setattr(program, "cross", cross)
    doubts(solved("paths"), "a handful of samples")


def test_the_compilers_fault_is_seen_at_the_start(monkeypatch):
    """What jaxlib 0.10.2 did to the variance that jumps leave of w: off by the size of the numbers, at the start already."""
    real = EventProgram.once_more
    monkeypatch.setattr(EventProgram, "once_more", lambda self, *given: wrong(real(self, *given), risk=0.9, l_l=0.9))
    assert shares(solved("events"))["the start"] > 1.0


@pytest.mark.parametrize("name", ["events", "reshuffled"])
def test_a_jump_that_is_dropped_on_its_way_is_seen(monkeypatch, name):
    """Laid on the grid without the last history of every batch."""
    real = histories.lay_out_histories

    def lose(*given):
        laid, spans = real(*given)
        path = laid.path.copy()
        path[:, :, ::3] = laid.gstar.shape[2]
        return laid._replace(path=path), spans

    for module in (engines, sys.modules["sgdlimit.theory.samples.reshuffle"]):
        monkeypatch.setattr(module, "lay_out_histories", lose)
    # Four histories are looked at, of which some seed has lost a jump.
    assert any("a handful of samples" in str(solved(name, seed=seed).status) for seed in range(2))


def test_a_jump_that_is_not_drawn_is_seen(monkeypatch):
    real = engines.draw_histories

    def lose(*given):
        drawn = real(*given)
        drawn.at[:, ::4] = np.where(np.isfinite(drawn.at[:, ::4]) & (np.arange(len(drawn.at))[:, None] > 0), np.inf, drawn.at[:, ::4])
        return drawn

    monkeypatch.setattr(engines, "draw_histories", lose)
    doubts(solved("events"), "jumps on average instead of")


@pytest.mark.parametrize("name", ["events", "paths"])
def test_biased_normals_are_seen(monkeypatch, name):
    real = engines.draw_histories if name == "events" else engines.draw

    def biased(*given):
        drawn = real(*given)
        normals = drawn.normal if name == "events" else drawn.cells
        normals *= 1.1
        return drawn

    monkeypatch.setattr(engines, "draw_histories" if name == "events" else "draw", biased)
    doubts(solved(name), "the normals of")


def test_a_biased_teacher_is_seen_at_the_start(monkeypatch):
    real = engines.draw_histories

    def biased(*given):
        drawn = real(*given)
        drawn.gstar[:] *= 1.1
        return drawn

    monkeypatch.setattr(engines, "draw_histories", biased)
    doubts(solved("events"), "at t = 0")


def test_two_self_overlaps_that_differ_widen_the_error(monkeypatch):
    real = RidgeCoordinates.add_noise
    monkeypatch.setattr(RidgeCoordinates, "add_noise", lambda self, node, row: real(self, node, 0.7 * row))
    found = solved("events", rtol=0.01)
    assert found.status.code == "inaccurate"
    assert float(found.dataset.self_overlap_se.max() / found.dataset.self_overlap.max()) > 0.02


def test_an_answer_that_moves_widens_the_error(monkeypatch):
    real = estimates.curves_at

    def curves(level, times, *given):
        found = real(level, times, *given)
        if len(level.nodes) > 9:  # of the last plan only
            found["overlap"] = found["overlap"] * 1.3
        return found

    monkeypatch.setattr(estimates, "curves_at", curves)
    monkeypatch.setattr(plans.Planner, "first_cells", lambda self: 8)
    found = solved("events", rtol=0.002)
    assert found.status.code == "inaccurate"
    gap = 0.3 * np.abs(found.dataset.overlap.values).max() / 1.3
    assert float(found.dataset.overlap_se.max()) > 0.5 * gap


def test_numpy_carries_what_the_program_carries():
    """To rounding, and not because both are zero."""
    found = {}
    real = recomputed.worst
    for name in DYNAMICS:
        pairs = []

        def keep(these, pairs=pairs):
            pairs.append(these)
            return real(these)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(search, "worst", keep)
            solved(name)
        found[name] = pairs[0]
    for name, pairs in found.items():
        for what, (ours, theirs) in pairs.items():
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-8 * max(np.abs(ours).max(), 1e-3), err_msg=f"{name}: {what}")
        assert np.abs(pairs["the kicks"][0]).max() > 0.01
