"""The gallery's claims on optimisers: a wrong one is told as wrong."""

import copy
import json

import numpy as np
import pytest

from sgdlimit.gallery import find, pairs
from test_gallery import ROOT, shifted

# --- pairs of trainings: numbers made up ------------------------------------------------------------------------------------

D = np.array([64, 128, 256, 512])


def made_up(order=1.0, left=0.0, stays=0.2, off=0.0, log=0.0):
    """Numbers of two pairs: one whose difference falls like `d^-order` (times a logarithm) to what is `left`, and one whose difference is
    `stays` where theory has `off` more; seed 0, 16 blocks."""
    rng = np.random.default_rng(0)
    some = lambda value, se: {name: {"value": float(value + 0.5 * se * rng.standard_normal()), "se": se} for name in pairs.CURVES}
    rows = lambda of, se: [{"n_features": int(d), "repeats": 16, **some(of(d), se)} for d in D]
    exact = lambda value, se=1e-3: {name: {"value": value, "se": se} for name in pairs.CURVES}
    falls = lambda d: left + 0.03 * (64 / d) ** order * (np.log(d / log) if log else 1.0)
    training = {"limit": exact(1.0), "log": log, "rows": rows(lambda d: 1.0 + 1.0 / d, 2e-3)}
    pair = {"label": "", "other": "plain", "log": log}
    return {
        "trainings": {"plain": training},
        "pairs": [
            {"name": "short", "alike": True, "limit": exact(0.0, 0.0), "rows": rows(falls, 4e-4), **pair},
            {"name": "long", "alike": False, "limit": exact(stays + off), "rows": rows(lambda d: stays + 1.0 / d, 2e-3), **pair},
        ],
    }


def verdict(**how):
    return pairs.judged(made_up(**how), lambda exponents, distances: f"{exponents}; {distances}.")


@pytest.mark.parametrize("log", [0.0, 8.0])
def test_pairs_are_told_right(log):
    found = verdict(log=log)
    assert found.holds, found.sentence
    assert "with exponent 1.0" in found.sentence or "with exponent 0.9" in found.sentence
    assert ("log(d/batch)" in found.law) == bool(log)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"order": 0.5}, "short: distance of the exponent"),
        ({"order": 2.0}, "short: distance of the exponent"),
        ({"left": 0.02}, "short: difference left at infinite d"),
        ({"stays": 0.0}, "long: difference at infinite d, clearest curve"),
        ({"off": 0.05}, "long: difference at infinite d from that of the limits"),
    ],
)
def test_pairs_are_told_wrong(how, words):
    found = verdict(**how)
    assert not found.holds
    assert any(words in check.what for check in found.checks if not check.holds)


def test_a_training_that_misses_its_own_limit_is_told():
    numbers = made_up()
    for curve in numbers["trainings"]["plain"]["limit"].values():
        curve["value"] += 0.05
    found = pairs.judged(numbers, lambda *said: "")
    assert [check.what for check in found.checks if not check.holds] == [
        "plain: real runs from their own limit at infinite d, furthest curve"
    ]


# --- numbers of real runs, doctored -----------------------------------------------------------------------------------------

# What to change in the numbers of a real run, and the words that must then be in the verdict.
WRONG = {
    "momentum": [
        (("trainings", "fixed memory", "limit", "test_risk", "value"), 0.05, "fixed memory: real runs from their own limit"),
        (("pairs", 1, "limit", "overlap", "value"), 0.2, "memory 0.8: difference at infinite d from that of the limits"),
    ],
    "nesterov": [
        (("pairs", 0, "rows", -1, "test_risk", "value"), 0.002, "batches of one"),
        (("pairs", 1, "limit", "self_overlap", "value"), 0.2, "batches of 0.25 n: difference at infinite d from that of the limits"),
    ],
    "adam-batch": [(("pairs", 1, "limit", "self_overlap", "value"), 0.5, "Adam with lr ~ batch: difference at infinite d from that")],
    "momentum-stability": [
        (("memories", 1, "critical"), 0.3, "linear, memory 0.5: the window's step from the stability limit"),
        (("memories", 1, "floor", "train_risk"), 0.01, "linear, memory 0.5: the closed form's floors from those without"),
        (("memories", 2, "linear"), 0.05, "linear, memory 2: floors of real runs from those without"),
        (("memories", 2, "one_pass", "self_overlap", "value"), 0.05, "one pass, memory 2: floors from those without"),
        (("memories", 2, "theory", "overlap", "value"), 0.3, "other loss, memory 2: what momentum does to floors"),
    ],
    "adam-features": [
        (("pairs", 1, "limit", "overlap", "value"), 0.2, "unequal variance: difference at infinite d from that of the limits"),
        (("trainings", "standardised features", "limit", "overlap", "value"), 0.1, "standardised features: real runs from their own limit"),
    ],
    "averaging": [
        (("rows", -1, "theory", "tail", "test_risk", "value"), 0.08, "gain at step 5.6"),
        (("rows", 0, "theory", "tail", "test_risk", "value"), -0.01, "loss at step 0.35"),
        (("rows", 1, "gains", "recent", "overlap", "value"), 0.2, "gain of real runs from the limit's"),
    ],
    "private": [
        (("rows", 0, "theory", "test_risk", "value"), -0.03, "fall of the test risk of the limit from one clip to the next"),
        (("rows", 5, "runs"), 0.1, "noise multiplier 0: real runs from the limit"),
        (("rows", 11, "theory", "test_risk", "value"), -0.1, "noise multiplier 0.5: best clip of real runs"),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def real():
    return json.loads((ROOT / "tests" / "data" / "gallery.json").read_text())


@pytest.mark.parametrize(("name", "path", "by", "words"), [(name, *one) for name, changes in WRONG.items() for one in changes])
def test_doctored_numbers_of_a_real_run_are_told_as_wrong(real, name, path, by, words):
    claim = find(name)
    assert claim.judge(real[name]).holds
    found = claim.judge(shifted(real[name], *path, by=by))
    assert not found.holds
    assert any(words in check.what for check in found.checks if not check.holds)


def test_a_loss_that_momentum_does_not_move_is_told_as_wrong(real):
    same = copy.deepcopy(real["momentum-stability"])
    plain = np.array(same["memories"][0]["other"])
    same["memories"][-1]["other"] = (plain * (1.0 + 0.01 * np.random.default_rng(0).standard_normal(plain.shape))).tolist()
    same["memories"][-1]["theory"] = same["memories"][0]["theory"]
    failed = [check.what for check in find("momentum-stability").judge(same).checks if not check.holds]
    for what in ("floors of real runs from those without", "floors of the limit from those without"):
        assert any(f"other loss, memory 2: {what}" in one for one in failed)
