"""The gallery: every claim's settings are in order, small ones run through the command, and a wrong claim is told as wrong."""

import copy
import json
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import sgdlimit as sl
from sgdlimit import cli
from sgdlimit.gallery import CLAIMS, Check, Verdict, claims, find, finite_size, statistics
from test_gallery_training import NAMES as TRAINING

ROOT = Path(__file__).parent.parent


def sgdlimit(*arguments, code=0):
    result = CliRunner().invoke(cli.app, ["gallery", *(str(a) for a in arguments)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


# --- claims and verdicts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLAIMS)
def test_settings_that_come_with_a_claim_are_in_order(name):
    claim = find(name)
    assert claim.name == name
    full, fast = claims.plan(name), claims.plan(name, fast=True)
    assert full.fingerprint != fast.fingerprint
    given = tomllib.loads(full.text)
    assert set(given["fast"]) <= set(given["experiment"])
    assert {key: getattr(fast.settings.experiment, key) for key in given["fast"]} == given["fast"]


def test_a_check_holds_within_its_bound_and_never_for_nan():
    assert Check("a", 1.0, 2.0).holds
    assert not Check("a", 2.5, 2.0).holds
    assert Check("a", 2.5, 2.0, least=True).holds
    for least in (True, False):
        assert not Check("a", float("nan"), 2.0, least=least).holds


def test_a_verdict_names_what_fails():
    good, bad = Check("the distance", 1.0, 2.0, "se"), Check("the other distance", 5.0, 2.0, "se")
    assert Verdict((good,), "all is well.", "").sentence == "holds: all is well."
    wrong = Verdict((good, bad), "all is well.", "")
    assert not wrong.holds
    assert wrong.sentence == "does not hold: the other distance is 5 se, must be at most 2."
    assert not Verdict((), "nothing.", "").holds


def test_fits_recover_what_was_put_in():
    # Normal errors, seed 0: 2000 fits; means of the estimates within 4 of their errors, and spreads as the fit says to 10%.
    rng, x = np.random.default_rng(0), np.array([20.0, 40.0, 80.0, 160.0])
    se = 0.01 * np.ones(4)
    fits = [statistics.limit(x, 0.3 + 2.0 / x + se * rng.standard_normal(4), se, (1.0,)) for _ in range(2000)]
    values = np.array([one.values for one in fits])
    np.testing.assert_allclose(values.std(0), fits[0].errors, rtol=0.1)
    assert (np.abs(values.mean(0) - [0.3, 2.0]) < 4 * fits[0].errors / np.sqrt(2000)).all()
    assert np.mean([one.chance < 0.05 for one in fits]) == pytest.approx(0.05, abs=0.02)
    powers = [statistics.exponent(x, 3.0 * x**-0.5 * (1 + 0.01 * rng.standard_normal(4)), 0.03 * x**-0.5).values[1] for _ in range(200)]
    assert np.mean(powers) == pytest.approx(-0.5, abs=0.002)
    # Signals that drown at the end are no bias: 200 fits, the mean within 4 of its errors.
    noise = 0.02 * np.ones(4)
    found = [statistics.exponent(x, -10.0 / x + noise * rng.standard_normal(4), noise) for _ in range(200)]
    powers, errors = (np.array([getattr(one, kind)[1] for one in found]) for kind in ("values", "errors"))
    assert abs(powers.mean() + 1) < 4 * errors.mean() / np.sqrt(200)
    np.testing.assert_allclose(powers.std(), errors.mean(), rtol=0.2)


# --- doctored numbers ------------------------------------------------------------------------------------------------------


def sizes(bias=1.0, spread=0.5, left=0.0):
    """Numbers of `finite-size` as they would be for these exponents, with a bias left at infinite `d`; seed 0."""
    rng, d, repeats = np.random.default_rng(0), np.array([40.0, 80.0, 160.0, 320.0]), 2000
    theory = {name: {"value": 1.0, "se": 1e-4} for name in finite_size.CURVES}
    rows = []
    for one in d:
        se = 0.8 * (40 / one) ** spread / np.sqrt(40 * repeats)
        value = 1.0 + left + 0.05 * (40 / one) ** bias
        rows.append(
            {
                "n_features": one,
                "repeats": repeats,
                **{name: {"value": value + 0.3 * se * rng.standard_normal(), "se": se} for name in theory},
            }
        )
    return {"time": 1.0, "theory": theory, "runs": rows}


def test_finite_size_is_told_right_and_wrong():
    assert finite_size.judge(sizes()).holds
    for doctored, words in (
        (sizes(bias=0.5), "bias"), (sizes(left=0.03), "bias left at infinite d"), (sizes(spread=0.3), "spread's exponent"),
    ):  # fmt: skip
        verdict = finite_size.judge(doctored)
        assert not verdict.holds
        assert "does not hold" in verdict.sentence
        assert words in verdict.sentence


def shifted(numbers, *path, by):
    """A copy in which the value(s) at `path` are moved by `by`."""
    changed = copy.deepcopy(numbers)
    *above, last = path
    at = changed
    for key in above:
        at = at[key]
    at[last] = (np.asarray(at[last]) + by).tolist()
    return changed


# What to change in the numbers of a real run, and the words that must then be in the verdict.
WRONG = {
    "batch-size": [(("runs", "0.25", -1, "test_risk", "value"), 0.05, "alpha = 0.25")],
    "distinct": [(("problems", 0, "dynamics", "SME", "runs", "overlap", "value"), 0.3, "SME from their own theory")],
    "linear-model": [
        (("laws", "residual", "apart", "theory", "p"), 0.5, "residual: p-value"),
        (("dynamics", "SGD", "theory", "test_risk", "value"), 0.1, "theory of SGD from the closed form"),
        (("laws", "weight", "apart", "theory", "p"), -1.0, "weight: p-value"),
    ],
    "small-step": [(("goal", "test_risk", "value"), 0.05, "distance left at parameter zero")],
    "many-samples": [(("goal", "train_risk", "value"), 0.05, "distance left at parameter zero")],
    "universality": [
        (("designs", "rademacher", "laws", 0, "ks"), 0.3, "Kolmogorov-Smirnov"),
        (("theory", "self_overlap", "value"), 0.5, "left at infinite d"),
    ],
    "reshuffling": [
        (("online", "test_risk", "value"), 0.1, "one-pass theory"),
        (("sampling", "replacement", "theory", "overlap", "value"), 0.2, "real runs from their theory"),
    ],
    "divergence": [(("ridges", 0, "critical"), 0.2, "stability limit")],
}  # fmt: skip


@pytest.mark.parametrize(("name", "path", "by", "words"), [(name, *one) for name, changes in WRONG.items() for one in changes])
def test_doctored_numbers_of_a_real_run_are_told_as_wrong(name, path, by, words):
    numbers = json.loads((ROOT / "tests" / "data" / "gallery.json").read_text())[name]
    claim = find(name)
    assert claim.judge(numbers).holds
    verdict = claim.judge(shifted(numbers, *path, by=by))
    assert not verdict.holds
    assert words in verdict.sentence + " ".join(check.what for check in verdict.checks if not check.holds)


def test_one_law_for_both_samplings_is_told_as_wrong():
    numbers = json.loads((ROOT / "tests" / "data" / "gallery.json").read_text())
    same = copy.deepcopy(numbers["reshuffling"])
    same["sampling"]["reshuffle"]["runs"] = same["sampling"]["replacement"]["runs"]
    assert "with replacement and reshuffled apart" in find("reshuffling").judge(same).sentence
    same = copy.deepcopy(numbers["distinct"])
    for kind in ("theory", "runs"):
        same["problems"][0]["dynamics"]["SME"][kind] = same["problems"][0]["dynamics"]["SGD"][kind]
    assert "SGD and SME apart" in find("distinct").judge(same).sentence


# --- the command -------------------------------------------------------------------------------------------------------------

SMALL = """
[problem]
model = "tanh_regression"
sample_ratio = 1.0
teacher = { kind = "gaussian", cov = 1.0 }
init = { overlap = 0.0, cov = 1.0 }

[experiment]
horizon = 0.3
rtol = 0.2
step = 1.0
n_features = [10, 20, 40]
repeats = [4, 4, 4]

[fast]
repeats = [3, 3, 3]
"""
FILES = ["figure.png", "figure.svg", "numbers.json", "page.html", "settings.toml"]


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(SMALL)
    return ("finite-size", "--settings", "small.toml", "--out", "out")


def test_the_command_runs_a_claim_and_goes_on_from_what_is_there(small, monkeypatch):
    # Far too small to show a rate: the verdict is that the claim does not hold, and the exit code says so.
    said = sgdlimit(*small, code=1)
    assert "finite-size: does not hold: curves with a bias clear enough" in said
    assert "1 of 1 claims do not hold: finite-size" in said
    assert sorted(p.name for p in Path("out/finite-size").iterdir()) == FILES
    page, index = Path("out/finite-size/page.html").read_text(), Path("out/index.html").read_text()
    assert "does not hold" in page
    assert "does not hold" in index
    assert not re.search(r"""(src|href)=["']https?:""", page + index)
    before = Path("out/finite-size/numbers.json").read_text()
    for name in ("page.html", "figure.svg"):  # as if it had been stopped while these were written
        Path("out/finite-size", name).unlink()

    def never(*arguments, **options):
        raise AssertionError("computed again")

    monkeypatch.setattr(sl, "simulate", never, raising=False)
    assert "was there already" in sgdlimit(*small, code=1)
    assert sorted(p.name for p in Path("out/finite-size").iterdir()) == FILES
    assert Path("out/finite-size/numbers.json").read_text() == before
    assert "has the claim with other settings (full" in sgdlimit(*small, "--fast", code=2)


def test_an_interrupted_claim_is_computed_again(small, monkeypatch):
    simulate = sl.simulate

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(sl, "simulate", interrupted)
    assert "Interrupted; finished files are whole" in sgdlimit(*small, "--fast", code=130)
    assert not Path("out/finite-size").exists()
    monkeypatch.setattr(sl, "simulate", simulate)
    sgdlimit(*small, "--fast", code=1)
    assert sorted(p.name for p in Path("out/finite-size").iterdir()) == FILES


def tiny(text):
    """A claim's settings with so few runs of so few features that they show nothing, but take their whole way."""
    start, fast = text.split("[fast]")
    sizes = lambda found: ", ".join(str(12 * 2**i) for i in range(found[1].count(",") + 1))
    for key, value in (("rtol", "0.2"), ("repeats", "4"), ("n_features", "40"), ("paths", "400"), ("law_paths", "200")):
        fast = re.sub(rf"^{key} = [\d.]+", f"{key} = {value}", fast, flags=re.M)
    fast = re.sub(r"^repeats = \[.*\]", lambda found: re.sub(r"\d+", "4", found[0]), fast, flags=re.M)
    fast = re.sub(r"^n_features = \[(.*)\]", lambda found: f"n_features = [{sizes(found)}]", fast, flags=re.M)
    return f"{start}[fast]{fast}"


@pytest.mark.parametrize("chosen", [["linear-model"], pytest.param([], marks=pytest.mark.evidence)], ids=["one", "all"])
def test_the_command_runs_claims_to_the_end(monkeypatch, tmp_path, chosen):
    """But for those that `test_gallery_training` runs."""
    some = tuple(name for name in chosen or CLAIMS if name not in TRAINING)
    monkeypatch.setattr("sgdlimit.gallery.CLAIMS", some)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings").mkdir()
    for path in (Path(claims.__file__).parent / "settings").glob("*.toml"):
        (tmp_path / "settings" / path.name).write_text(tiny(path.read_text()))
    monkeypatch.setattr(claims, "resources", SimpleNamespace(files=lambda package: tmp_path))
    sgdlimit("--fast", "--out", "out", code=1)  # claims ask for more than that shows
    for name in some:
        assert sorted(p.name for p in Path("out", name).iterdir()) == FILES
        assert name in Path("out/index.html").read_text()


def test_the_list_names_all_claims():
    said = sgdlimit("--list")
    for name in CLAIMS:
        assert f"{name} {find(name).title}" in said


@pytest.mark.parametrize(
    ("arguments", "text", "words"),
    [
        (["bach-size"], None, "`NAME` must be a claim of the gallery, but is 'bach-size' (did you mean `batch-size`?)"),
        (["--settings", "small.toml"], SMALL, "`NAME` must be given with --settings, but is missing"),
        (["finite-size", "--settings", "none.toml"], None, "`--settings` must be an existing file, but `none.toml` does not exist"),
        (["finite-size"], SMALL.replace("step = 1.0", "stepp = 1.0"), "line 11: `experiment.stepp` must be a known setting"),
        (["finite-size"], SMALL.replace("[4, 4, 4]", "[4, 4]"), "`experiment.repeats` must have one number for each of the 3 sizes"),
        (["finite-size"], SMALL.replace("tanh_regression", "softmax"), "`problem.model` must have one student and one teacher direction"),
        (["finite-size"], SMALL.replace("horizon = 0.3", "horizon = -1"), "`experiment.horizon` must be positive, but is -1"),
        (["linear-model"], SMALL, "`experiment"),
    ],
)  # fmt: skip
def test_mistakes_get_one_sentence(small, arguments, text, words):
    if text is not None:
        Path("small.toml").write_text(text)
        arguments = [*arguments, "--settings", "small.toml"] if "--settings" not in arguments else arguments
    assert words in sgdlimit(*arguments, "--out", "out", code=2)
    assert not Path("out").exists()


# --- the documentation -------------------------------------------------------------------------------------------------------


def test_the_documented_gallery_is_complete():
    text = (ROOT / "docs" / "gallery.md").read_text()
    for name in CLAIMS:
        assert f"## {find(name).title}\n" in text
        assert find(name).words in text
        assert f"`sgdlimit gallery {name} --fast`" in text or f"`sgdlimit gallery {name}`" in text
        assert (ROOT / "docs" / "images" / "gallery" / f"{name}.png").stat().st_size < 300_000
    assert text.count("**The claim holds: ") + text.count("**The claim does not hold: ") == len(CLAIMS)
