"""Figures as a library: what they show, in which style, and in which files."""

import matplotlib as mpl
import numpy as np
import pytest
from cycler import cycler
from matplotlib.colors import to_hex
from matplotlib.image import imread

import homodyne_fit as hf
from homodyne_fit.report.figures import color_range_of, cut_limits_of, plot_two_time
from homodyne_fit.report.views import angle_views
from homodyne_fit.results.folder import figures


@pytest.fixture(scope="module")
def drawn(sheared):
    return dict(figures(sheared))


def test_every_axis_has_a_unit(drawn):
    dimensionless = {"contrast", "offset", "c₂", "correlation", "mean of data − fit", ""}
    for name, figure in drawn.items():
        figure.draw_without_rendering()
        for axes in figure.axes:
            for label in (axes.get_xlabel(), axes.get_ylabel()):
                bare = label in dimensionless or label.startswith(("density", r"strain"))
                assert bare or label.endswith(")"), (name, label)


def test_angles_share_their_scales(drawn, sheared):
    views = list(angle_views(sheared.data, sheared))
    low, high = color_range_of(views)
    pixels = np.concatenate([p[np.isfinite(p)] for v in views for p in (v.data, v.fit)])
    # All angles but their outermost pixels are within the colours.
    assert np.mean((pixels >= low) & (pixels <= high)) > 0.97
    of_angles = [f for name, f in drawn.items() if name.endswith("two_time")]
    assert {f.axes[0].images[0].get_clim() for f in of_angles} == {(low, high)}
    cuts = [f for name, f in drawn.items() if name.endswith("lag_cuts")]
    assert {f.axes[0].get_ylim() for f in cuts} == {cut_limits_of(views)}
    alone = plot_two_time(views[0]).axes[0].images[0].get_clim()
    assert alone == color_range_of(views[:1])


def test_strain_is_the_integral_of_the_shear_rate(drawn, sheared):
    (line,) = drawn["strain"].axes[0].lines
    rate, _ = sheared.gamma_dot(sheared.times)
    steps = np.diff(sheared.times) * (rate[1:] + rate[:-1]) / 2
    np.testing.assert_allclose(line.get_ydata()[1:], np.cumsum(steps))


def test_correlations_are_shown(drawn, sheared):
    axes = drawn["correlation"].axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), sheared.correlation.matrix)
    assert [t.get_text() for t in axes.get_xticklabels()] == list(sheared.correlation.names)


def test_residuals_are_those_of_the_points(sheared):
    figure = sheared.plot_residuals(1)
    residual = np.asarray(sheared.data.c2[1]) - sheared.c2(1)
    points = residual[np.triu_indices(len(residual), 1)] / sheared.noise
    (bars,) = figure.axes[2].patches
    values, edges, _ = bars.get_data()
    expected, _ = np.histogram(points, edges)
    np.testing.assert_allclose(values, expected / len(points) / np.diff(edges))
    frame = figure.axes[1].lines[0].get_ydata()[5]
    of_frame = np.concatenate([residual[:5, 5], residual[5, 6:]])
    assert frame == pytest.approx(of_frame.mean())


def test_a_style_of_the_user_comes_on_top(sheared, tmp_path):
    before = dict(mpl.rcParams)
    own = {"axes.prop_cycle": cycler(color=["#ff0000", "#00ff00"]), "axes.labelsize": 17}
    with hf.figure_style(own):
        axes = sheared.plot_rates().axes[0]
    assert dict(mpl.rcParams) == before
    assert to_hex(axes.lines[0].get_color()) == "#ff0000"
    assert axes.xaxis.label.get_size() == 17
    # Outside, and for all that the user did not say, the style is that of all figures.
    assert to_hex(sheared.plot_rates().axes[0].lines[0].get_color()) == "#0072b2"
    file = tmp_path / "mine.mplstyle"
    file.write_text("axes.labelsize: 13\n")
    with hf.figure_style(["ggplot", file]):
        assert sheared.plot_scaling().axes[0].yaxis.label.get_size() == 13


@pytest.mark.parametrize(
    ("style", "message"),
    [
        ("ggplott", "there is no figure style 'ggplott' .did you mean 'ggplot'"),
        ({"axes.labelsze": 3}, "this figure style cannot be used: .*axes.labelsze"),
        ({"axes.labelsize": "so large"}, "this figure style cannot be used"),
    ],
)
def test_styles_that_cannot_be_used(style, message):
    with pytest.raises(hf.InputError, match=message), hf.figure_style(style):
        pass


def test_files_in_several_formats(sheared, tmp_path):
    files = hf.FigureFiles(("png", "pdf", "svg"), dpi=40, style={"axes.labelsize": 12})
    sheared.save(tmp_path / "r", plots=files)
    names = {path.name for path in (tmp_path / "r" / "plots").iterdir()}
    assert {"rates.png", "rates.pdf", "rates.svg", "angle_002_residuals.svg"} <= names
    assert len(names) == 3 * (4 + 3 * 3)
    (width,) = imread(tmp_path / "r/plots/rates.png").shape[1:2]
    assert width == pytest.approx(40 * 9.2, abs=1)
    # Text stays text.
    assert "transport coefficient" in (tmp_path / "r/plots/rates.svg").read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": ("jpg",)}, "figures cannot be written as 'jpg'"),
        ({"formats": ()}, "figures need a format"),
        ({"dpi": 1}, "10 to 2400 pixels in an inch, not 1"),
    ],
)
def test_files_that_cannot_be_written(options, message):
    with pytest.raises(hf.InputError, match=message):
        hf.FigureFiles(**options)


class TestCommand:
    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, sheared, tmp_path_factory):
        return sheared.save(tmp_path_factory.mktemp("figures") / "r")

    def test_formats_and_style(self, called, folder, tmp_path):
        options = ("--save-plots", "--format", "pdf,svg", "--style", "ggplot", "--dpi", "30")
        done = called("report", folder, "--output-dir", tmp_path, *options)
        assert (done.status, done.err) == (0, "")
        assert f"wrote 26 figures in {tmp_path / 'plots'}/" in done.out
        assert (tmp_path / "plots" / "rates.pdf").read_bytes().startswith(b"%PDF")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--dpi", "300"), "--dpi has an effect only with --save-plots"),
            (("--save-plots", "--format", "gif"), "cannot be written as 'gif'"),
            (("--save-plots", "--style", "dark"), "there is no figure style 'dark'"),
        ],
    )
    def test_mistakes(self, called, folder, tmp_path, options, message):
        done = called("report", folder, "--output-dir", tmp_path / "new", *options)
        assert done.status == 1
        assert message in done.err
        assert not (tmp_path / "new").exists()
