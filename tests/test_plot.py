"""Figures show what they were given, for one direction and for several, and leave the user's matplotlib alone."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest

import sgdlimit as sl
from fakes import runs, theory
from sgdlimit import plot
from sgdlimit.show.looks import points_shown


def pair(k=1, seed=0):
    return theory(k=k, k_star=k), runs(k=k, k_star=k, seed=seed)


@pytest.mark.parametrize(("k", "count"), [(1, 4), (2, 9), (3, 17), (4, 20)])
def test_one_panel_per_distinct_entry(k, count):
    figure = plot.curves({"SGD": pair(k), "SME": pair(k, seed=1)})
    shown = [axis for axis in figure.axes if axis.axison]
    assert len(shown) == count
    assert len({axis.get_ylabel() for axis in shown}) == count


def test_lines_bands_and_points_are_the_results(tmp_path):
    before = dict(mpl.rcParams)
    limit, real = pair()
    figure = plot.curves({"SGD": (limit, real), "theory only": (limit, None), "runs only": (None, real)}, title="A title")
    axis = figure.axes[0]
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), limit.dataset["test_risk"])
    band = axis.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(band[:, 1].max(), (limit.dataset["test_risk"] + 2 * limit.dataset["test_risk_se"]).max())
    points, bars = axis.containers[0].lines[0], axis.containers[0].lines[2][0]
    keep = points_shown(21, 0, 3)
    np.testing.assert_array_equal(points.get_ydata(), real.dataset["test_risk"].values[keep])
    np.testing.assert_allclose([np.ptp(s[:, 1]) for s in bars.get_segments()], 4 * real.dataset["test_risk_se"].values[keep], atol=1e-12)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["SGD", "theory only", "runs only"]
    colours = {line.get_color() for line in axis.lines}
    assert len(colours) == 3
    plot.save(figure, tmp_path / "a.png")
    plot.save(figure, tmp_path / "a.svg")
    plot.save(figure, tmp_path / "b.svg")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg", "b.svg"]
    assert dict(mpl.rcParams) == before


def test_every_point_is_drawn_by_some_dynamics():
    drawn = np.concatenate([points_shown(41, i, 3) for i in range(3)])
    assert sorted(drawn) == list(range(41))


def test_an_axis_of_the_users_own():
    from matplotlib.figure import Figure

    axis = Figure().subplots()
    results = {"SGD": pair()}
    assert plot.draw(axis, plot.panels(results)[0], results) is axis
    assert axis.get_ylabel() == "test risk"


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.gif", "`path` must end in .png, .svg or .pdf, but is"), ("none/a.png", "`path` must be in an existing directory, but")],
)
def test_bad_paths_get_words(tmp_path, name, message):
    with pytest.raises(sl.InputError, match=message):
        plot.save(plot.curves({"SGD": pair()}), tmp_path / name)


def test_nothing_to_draw():
    with pytest.raises(sl.InputError, match="`results` must hold at least one"):
        plot.curves({"SGD": (None, None)})


def test_matplotlib_is_loaded_only_when_a_figure_is_made():
    code = "import sys, sgdlimit.plot; assert not any(m.startswith('matplotlib') for m in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
