"""One description of a heat map: both libraries draw the same cells, colours, marks and lines from it."""

import numpy as np
import pytest
from bokeh.models import ColorBar
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from fakes import theory
from sgdlimit.results.panels import kernel
from sgdlimit.show import interactive, paper
from sgdlimit.show.heat import Axis, Heat, Scale, either_sign, least_bright

X = Axis("ratio", "ratio $n/d$", True, np.array([1.0, 2.0, 4.0]))
Y = Axis("step", r"step $\eta$", False, np.array([0.5, 1.0, 1.5, 2.0]))
VALUE = np.array([[0.3, 0.2, 0.25], [0.2, 0.1, 0.2], [0.4, 0.2, np.nan], [40.0, 0.3, np.nan]])
MARKS = {"hatched": np.isnan(VALUE), "dot": VALUE == 0.1, "cross": VALUE == 0.4}
LINE = (np.array([1.0, 1.1, 0.5]), np.array([True, True, False]))


def both(heat):
    """Matplotlib's axes and Bokeh's figure of one description."""
    axis = Figure().subplots()
    paper.heat(axis, heat)
    plot = interactive.frame("", "", 300, x_axis_type="log" if heat.x.log else "linear", y_axis_type="log" if heat.y.log else "linear")
    interactive.heat(plot, heat, {"twice": 2 * heat.value})
    return axis, plot


def of(plot, glyph):
    return [one for one in plot.renderers if type(getattr(one, "glyph", None)).__name__ == glyph]


def colours(scale, values):
    """What each library makes of numbers."""
    look = paper._colours(scale)
    import matplotlib as mpl

    drawn = mpl.colormaps[look["cmap"]](look["norm"](values))
    place = (np.log(values / scale.low) / np.log(scale.high / scale.low)) if scale.log else (values - scale.low) / (scale.high - scale.low)
    palette = interactive._colours(scale)["palette"]
    page = [palette[min(int(part * len(palette)), len(palette) - 1)] for part in place]
    return np.array([[int(to_hex(one)[i : i + 2], 16) for i in (1, 3, 5)] for part in (drawn, page) for one in part]).reshape(2, -1, 3)


@pytest.mark.parametrize("scale", [Scale(0.1, 1.0, "viridis_r"), Scale(0.1, 30.0, "viridis_r", log=True), Scale(-2.0, 2.0, "RdBu_r")])
def test_numbers_have_one_colour(scale):
    drawn, page = colours(scale, scale.low + np.linspace(0.02, 0.98, 13) * (scale.high - scale.low))
    assert np.abs(drawn - page).max() < 12  # of 255: neighbours of 256 colours


def test_cells_marks_and_lines_are_in_both():
    axis, plot = both(Heat(X, Y, VALUE, least_bright([VALUE]), marks=MARKS, border=VALUE - 0.25, line=LINE))
    cells, lost = of(plot, "Quad")
    mesh = axis.collections[0]
    np.testing.assert_array_equal(np.ma.filled(mesh.get_array(), np.nan).ravel(), cells.data_source.data["value"])
    np.testing.assert_allclose(mesh.get_coordinates()[0, 1:, 0], cells.data_source.data["right"][:3])
    np.testing.assert_allclose(mesh.get_coordinates()[0, :, 0], 2 ** np.array([-0.5, 0.5, 1.5, 2.5]))
    np.testing.assert_array_equal(cells.data_source.data["twice"], 2 * VALUE.ravel())
    hatched = next(one for one in axis.collections if one.get_hatch())
    assert len(hatched.get_paths()) == len(lost.data_source.data["left"]) == 2
    dots, crosses, opened = (part.data_source.data for part in of(plot, "Scatter"))
    np.testing.assert_array_equal([dots["x"], dots["y"]], [[2.0], [1.0]])
    np.testing.assert_array_equal([crosses["x"], crosses["y"]], [[1.0], [1.5]])
    np.testing.assert_array_equal([opened["x"], opened["y"]], [[4.0], [0.5]])
    (line,) = of(plot, "Line")
    np.testing.assert_array_equal(line.data_source.data["y"], axis.lines[0].get_ydata())
    assert axis.get_xscale() == "log"
    assert axis.get_yscale() == "linear"
    assert next(bar for bar in plot.right if isinstance(bar, ColorBar)).color_mapper.high == pytest.approx(mesh.norm.vmax)


def test_points_that_are_no_grid_are_drawn_as_such():
    at = np.array([1.0, 2.0, 4.0, 3.0, 1.5])
    heat = Heat(Axis("x", "x", True, at), Axis("y", "y", False, at[::-1]), at**2, Scale(1.0, 16.0, "viridis"), marks={"cross": at == 3.0})
    axis, plot = both(heat)
    points, cross = of(plot, "Scatter")
    np.testing.assert_array_equal(points.data_source.data["value"], at**2)
    np.testing.assert_array_equal([cross.data_source.data["x"], cross.data_source.data["y"]], [[3.0], [2.0]])
    assert any(len(one.get_offsets()) == 5 for one in axis.collections if len(one.get_offsets()))


def test_scales():
    """The last colour is for what is far above the bulk; colours are logarithmic over a wide range; white is zero where signs differ."""
    scale = least_bright([VALUE, np.array([np.nan])])
    assert (scale.low, scale.more, scale.log) == (0.1, True, False)
    assert 0.3 < scale.high < 1.0
    assert least_bright([np.geomspace(0.01, 1.0, 9)]).log
    assert least_bright([np.array([np.nan])]).high > 0.0
    assert least_bright([np.array([0.2, 0.2])]).high > 0.2
    assert either_sign(np.array([[-1.0, 0.5]])) == Scale(-1.0, 1.0, "RdBu_r")
    assert either_sign(np.array([[-1e-3, 0.5]])).colours == "viridis"


def test_a_response_is_drawn_after_its_kick_alone():
    """On paper the other half is covered, on a page it is empty: both show `R(t, s)` for `s <= t`."""
    import xarray as xr

    solution = theory(times=(0.0, 1.0, 2.0))
    response = np.tril(np.arange(1.0, 10.0).reshape(3, 3))
    ds = solution.dataset.assign(response=xr.DataArray(response[..., None, None], dims=("time", "time_", "student", "student_")))
    drawn = kernel(ds, "response", (0, 0))
    image = interactive.Image(interactive.frame("", "", 300), "response", [])
    image.fill(drawn, "tag")
    shown = image.source.data["image"][0]
    assert np.isnan(shown).tolist() == [[False] * 3, [True, False, False], [True, True, False]]
    assert shown[0].tolist() == response[:, 0].tolist()  # upwards the earlier time
    mesh = paper.heat(Figure().subplots(), drawn)
    full = np.asarray(mesh.get_array()).reshape(3, 3)
    np.testing.assert_array_equal(full, full.T)
    np.testing.assert_array_equal(np.triu(full), np.triu(drawn.value))
    image.clear()
    assert image.source.data["image"] == []
