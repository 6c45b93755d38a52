"""The report and its figures: what they say, that they stand alone, and what is averaged."""

import base64
import dataclasses
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.fitting.adequacy import Adequacy
from homodyne_fit.fitting.fit import FitSettings, fit
from homodyne_fit.fitting.options import AntiDegeneracy, MultiStart, SearchOptions
from homodyne_fit.model.rates import LAMINAR_FLOW, STATIC, decay
from homodyne_fit.report import reduction
from homodyne_fit.report.figures import (
    plot_lag_cuts,
    plot_matrices,
    plot_rates,
    plot_scaling,
    plot_two_time,
)
from homodyne_fit.report.html import (
    render_report,
    write_report,
)
from homodyne_fit.report.moves import rivals, weakest_move
from homodyne_fit.report.numbers import format_estimate, format_number
from homodyne_fit.report.page_data import Arrays, ModelBand
from homodyne_fit.report.verdict import judge, quotable, quote_table
from homodyne_fit.report.views import angle_view, angle_views, block_average
from homodyne_fit.report.words import direction_text, odd_frames_text, warnings

Q, GAP, DT, N, NOISE = 0.0054, 2e6, 0.1, 40, 0.01
PHI = np.array([0.0, 45.0, 90.0])
TRUTH = {
    STATIC: [4000.0, 0.3, 1000.0],
    LAMINAR_FLOW: [4000.0, 0.3, 1000.0, 3e-4, 0.2, 1e-4, -3.0],
}
SOURCE = "/data/run <7> & more.h5"


def measurement(model, phi):
    noise = np.random.default_rng(5).normal(0, NOISE, (len(phi), N, N))
    c2 = np.stack([1.0 + 0.2 * decay(model, TRUTH[model], DT, N, Q, p, GAP) for p in phi]) + noise
    c2[0, 3:7, 20:30] = np.nan
    return TwoTimeData(c2, phi, np.full(len(phi), Q), DT, SOURCE)


@pytest.fixture(scope="module")
def sheared():
    data = measurement(LAMINAR_FLOW, PHI)
    initial = dict(zip(LAMINAR_FLOW.parameters, TRUTH[LAMINAR_FLOW], strict=True))
    return data, fit(
        data,
        FitSettings(
            gap=GAP, initial=initial, search=SearchOptions(multi_start=MultiStart(enable=False))
        ),
    )


@pytest.fixture(scope="module")
def static():
    data = measurement(STATIC, PHI[:1])
    initial = dict(zip(STATIC.parameters, TRUTH[STATIC], strict=True))
    return data, fit(
        data,
        FitSettings(
            model=STATIC,
            initial=initial,
            bounds={"D0": (100.0, 1e5), "D_offset": (-1e5, 1e5)},
            search=SearchOptions(multi_start=MultiStart(enable=False)),
        ),
    )


@pytest.fixture(scope="module")
def sheared_page(sheared):
    return Page(render_report(*sheared, {"analysis_mode": "laminar_flow", "path": Path("x/y")}))


@pytest.fixture(scope="module")
def static_page(static, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, *static, {"stator": 1})
    return Page(path.read_text(encoding="utf-8"))


def changed(result, **estimates):
    """The result with other attributes of some parameters' estimates."""
    new = {name: dataclasses.replace(result.parameters[name], **e) for name, e in estimates.items()}
    return dataclasses.replace(result, parameters={**result.parameters, **new})


class Page(HTMLParser):
    """Attributes by tag, and the visible text."""

    def __init__(self, text):
        super().__init__()
        self.source, self.attributes, self.texts = text, [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.attributes.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.attributes and self.attributes[-1][0] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def values(self, name):
        return [attributes[name] for _, attributes in self.attributes if name in attributes]


@pytest.mark.parametrize("which", ["sheared_page", "static_page"])
def test_the_report_needs_nothing_else(which, request):
    page = request.getfixturevalue(which)
    assert not page.values("src")
    assert not page.values("href")
    assert not {"link", "iframe", "object", "img"} & {tag for tag, _ in page.attributes}
    assert not re.search(r"url\(|@import|https?:|fetch\(|XMLHttp", page.source)
    (policy,) = [a for a in page.values("content") if "default-src" in a]
    assert "default-src 'none'" in policy
    ids = page.values("id")
    assert len(set(ids)) == len(ids)


def test_the_report_is_one_file_that_appears_whole(static, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    monkeypatch.setattr("homodyne_fit.report.html.render_report", lambda *arguments: "first γ̇")
    write_report(path, *static)
    monkeypatch.setattr("homodyne_fit.report.html.render_report", lambda *arguments: "\ud800")
    with pytest.raises(UnicodeEncodeError):
        write_report(path, *static)
    assert path.read_text(encoding="utf-8") == "first γ̇"
    assert list(tmp_path.iterdir()) == [path]


def test_the_report_says_what_was_found(sheared, sheared_page):
    result, page = sheared[1], sheared_page
    for name, estimate in result.parameters.items():
        assert name in page.text
        assert format_estimate(estimate.value, estimate.stderr) in page.text
        assert estimate.unit in page.text
    for estimate in (*result.contrast, *result.offset):
        assert format_estimate(estimate.value, estimate.stderr) in page.text
    assert f"{result.n_points:,}" in page.text
    assert "missing" in page.text
    assert "The fit converged" in page.text
    assert "analysis_mode: laminar_flow" in page.text
    assert "path: x/y" in page.text
    assert SOURCE in page.text


def test_without_javascript_there_are_pictures_with_words(sheared, sheared_page):
    data, result = sheared
    pictures = [a for tag, a in sheared_page.attributes if tag == "svg" and a.get("role") == "img"]
    assert len(pictures) == 3
    value, error = result.J(data.times[-1:])
    assert format_estimate(value[0], error[0]) in pictures[0]["aria-label"]
    shown = [a["id"] for tag, a in sheared_page.attributes if tag == "section" and "id" in a]
    hidden = [a["id"] for _, a in sheared_page.attributes if {"id", "hidden"} <= set(a)]
    assert "static" in shown
    assert hidden == ["look", "curves", "residuals"]


@pytest.mark.parametrize("which", ["sheared", "static"])
def test_the_moves_that_the_data_hardly_notice_are_told(which, request):
    (_, result), page = (request.getfixturevalue(name) for name in (which, f"{which}_page"))
    for weak in (*result.weak_directions, result.weakest):
        assert direction_text(result, weak) in page.text
    for text in warnings(result):
        assert text in page.text


def test_a_single_move_is_told_where_none_is_weak(static):
    data, result = static
    page = Page(render_report(data, dataclasses.replace(result, weak_directions=[])))
    assert "The move that the data notice least" in page.text
    assert direction_text(result, result.weakest) in page.text


def test_the_static_report_has_no_flow(static_page):
    page = static_page
    assert "D_offset" in page.text
    assert "stator: 1" in page.text
    for absent in ("γ̇", "hear", "gamma_dot", "phi0", "sinc", "Gap"):
        assert absent not in page.text
    assert "hear" not in " ".join([*page.values("aria-label"), *page.values("data-name")])


def test_a_fit_that_did_not_converge_is_not_dressed_up(static):
    data, result = static
    info = dataclasses.replace(result.info, success=False, message="stopped after 7 evaluations")
    page = Page(render_report(data, dataclasses.replace(result, info=info)))
    assert "The fit did not converge. Do not use its numbers." in page.text
    assert "Stopped after 7 evaluations." in page.text
    assert "The fit converged" not in page.text


@pytest.mark.parametrize(
    ("estimate", "caution", "remark"),
    [
        ({"at_bound": True, "stderr": np.nan, "value": 100.0}, "D0 (lower, 100 Å²/s)", "lower"),
        ({"at_bound": True, "stderr": np.nan, "value": 1e5}, "D0 (upper, 100000 Å²/s)", "upper"),
        ({"stderr": np.inf}, "do not determine D0", "not determined"),
    ],
)
def test_what_a_parameter_lacks_is_said(static, estimate, caution, remark):
    data, result = static
    doubtful = changed(result, D0=estimate)
    assert any(caution in text for text in warnings(doubtful))
    page = Page(render_report(data, doubtful))
    assert "The fit converged, with cautions." in page.text
    assert caution in page.text
    assert remark in page.text


def test_a_fixed_parameter_is_no_reason_for_caution(static):
    data, result = static
    sound = dataclasses.replace(result, weak_directions=[])
    held = changed(sound, alpha={"fixed": True, "stderr": np.nan})
    assert warnings(held) == []
    page = Page(render_report(data, held))
    assert "held fixed" in page.text
    assert "Before you use" not in page.text


def test_cautions_about_weak_directions_angles_and_vanishing_rates(sheared):
    data, result = sheared
    weak = dataclasses.replace(
        result.weakest,
        direction={"D0": -0.71, "D_offset": 0.7, "beta": 0.06},
        changes={"D0": -2000.0, "D_offset": 2000.0, "beta": 0.1},
    )
    offset = (dataclasses.replace(result.offset[0], stderr=np.inf), *result.offset[1:])
    contrast = tuple(dataclasses.replace(e, at_bound=True, stderr=np.nan) for e in result.contrast)
    coordinates = result.coordinates.copy()
    coordinates[3:5] = [1e-6, 1.0]
    doubtful = dataclasses.replace(
        result,
        weak_directions=[weak],
        offset=offset,
        contrast=contrast,
        coordinates=coordinates,
    )
    text = " ".join(warnings(doubtful))
    assert "Hardly determined one by one: D0 and D_offset." in text
    assert "contrast is at its bound at every angle" in text
    assert "do not determine the offset at φ = 0°" in text
    vanishing = np.count_nonzero(doubtful.gamma_dot(data.times)[0] <= 1e-10)
    assert 0 < vanishing < N
    assert f"shear rate γ̇(t) vanishes on {vanishing} of {N} frames" in text


def parsed(text):
    """Value and error, and how many decimals each was written with."""
    superscripts = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    body, _, power = text.replace("−", "-").partition(" × 10")
    scale = int(power.translate(superscripts) or "0")
    pair = body.strip("()").split(" ± ")
    decimals = [len(number.partition(".")[2]) for number in pair]
    return *(float(f"{number}e{scale}") for number in pair), decimals


@given(
    st.floats(-1e12, 1e12),
    st.floats(-12, 12).map(lambda exponent: 10**exponent),
)
@example(1817.3, 52.4)
@example(99.96, 0.996)
@example(-0.04, 9.6)
@example(0.0, 1.0)
@example(1e12, 1e-12)
def test_value_and_error_are_rounded_to_the_same_place(value, stderr):
    text = format_estimate(value, stderr)
    assert "e" not in text
    if abs(value) > 1e12 * stderr:
        return
    shown, error, decimals = parsed(text)
    assert error == pytest.approx(stderr, rel=0.05)
    assert abs(shown - value) <= 0.051 * error + 1e-15 * abs(value)
    assert decimals[0] == decimals[1]
    assert len(text) <= 45
    assert not text.startswith(("−0 ", "(−0 "))


@pytest.mark.parametrize(
    ("value", "stderr", "text"),
    [
        (1817.3, 52.4, "1817 ± 52"),
        (1978.9, 136.2, "1980 ± 140"),
        (4.8065e-5, 1.156e-6, "(4.81 ± 0.12) × 10⁻⁵"),
        (-5.0999, 0.7147, "−5.10 ± 0.71"),
        (99.96, 0.996, "100.0 ± 1.0"),
        (12.0, 1e7, "(0.0 ± 1.0) × 10⁷"),
        (1.0, 1e-20, "1 ± 1 × 10⁻²⁰"),
        (1e5, np.nan, "100000"),
        (1.5, np.inf, "1.5"),
        (1.5, 0.0, "1.5"),
        (np.inf, 1.0, "∞"),
    ],
)
def test_formatted_estimates(value, stderr, text):
    assert format_estimate(value, stderr) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-2.5e-7, "−2.5 × 10⁻⁷"), (-np.inf, "−∞"), (np.nan, "not a number")],
)
def test_formatted_numbers(value, text):
    assert format_number(value) == text


@given(n=st.integers(1, 12), size=st.integers(1, 13), seed=st.integers(0, 99))
def test_block_average_is_the_mean_of_what_is_finite(n, size, seed):
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(n, n))
    matrix[random.random((n, n)) < 0.4] = np.nan
    mean, count = block_average(matrix, size)
    blocks = -(-n // size)
    assert mean.shape == count.shape == (blocks, blocks)
    for i in range(blocks):
        for j in range(blocks):
            block = matrix[i * size : (i + 1) * size, j * size : (j + 1) * size]
            values = block[np.isfinite(block)]
            assert count[i, j] == len(values)
            if len(values):
                assert mean[i, j] == pytest.approx(values.mean())
            else:
                assert np.isnan(mean[i, j])


def test_a_view_is_symmetric_and_its_residual_is_standardised(sheared):
    data, result = sheared
    view = angle_view(data, result, 0)
    assert view.block == 1
    assert np.all(np.isnan(np.diag(view.data)))
    assert np.all(np.isnan(view.data[20:30, 3:7]))
    assert np.all(np.isfinite(view.fit[20:30, 3:7]))
    upper = np.triu_indices(N, 1)
    expected = (data.c2[0] - result.c2(0)) / result.noise
    np.testing.assert_allclose(view.residual[upper], expected[upper])
    np.testing.assert_allclose(view.residual.T[upper], expected[upper])
    assert view.rms == pytest.approx(np.sqrt(np.nanmean(expected[upper] ** 2)))
    coarse = angle_view(data, result, 1, most_pixels=10)
    assert coarse.data.shape == (10, 10)
    assert np.std(coarse.residual[np.triu_indices(10, 1)]) == pytest.approx(1, abs=0.4)
    block = slice(0, 4), slice(8, 12)
    assert coarse.data[0, 2] == coarse.data[2, 0] == pytest.approx(data.c2[1][block].mean())


def test_what_is_below_the_diagonal_is_ignored(sheared):
    data, result = sheared
    spoiled = data.c2.copy()
    spoiled[:, *np.tril_indices(N)] = 1e6
    view = angle_view(data, result, 0)
    other = angle_view(dataclasses.replace(data, c2=spoiled), result, 0)
    np.testing.assert_array_equal(view.data, other.data)
    np.testing.assert_array_equal(view.cuts[1].data, other.cuts[1].data)


def test_lag_cuts_average_what_was_measured(sheared):
    data, result = sheared
    i, j = np.triu_indices(N, 1)
    measured, fitted = data.c2[0][i, j], result.c2(0)[i, j]
    age, lag, known = (i + j) / 2 * DT, (j - i) * DT, np.isfinite(measured)
    edges = np.linspace(0, (N - 1) * DT, 4)
    cuts = angle_view(data, result, 0).cuts
    for cut, (begin, end) in zip(cuts, itertools.pairwise(edges), strict=True):
        assert (cut.begin, cut.end) == pytest.approx((begin, end))
        inside = known & (age > begin - 1e-9) & (age < end - 1e-9 * (end < edges[-1]))
        for k in range(5):
            chosen = inside & np.isclose(lag, cut.lag[k])
            assert cut.data[k] == pytest.approx(measured[chosen].mean())
            assert cut.fit[k] == pytest.approx(fitted[chosen].mean())
            assert cut.stderr[k] == pytest.approx(result.noise / np.sqrt(chosen.sum()))


def test_lag_cuts_use_each_measured_point_once(sheared):
    data, result = sheared
    for angle in range(len(PHI)):
        cuts = angle_view(data, result, angle).cuts
        points = sum(np.sum((result.noise / cut.stderr) ** 2) for cut in cuts)
        upper = data.c2[angle][np.triu_indices(N, 1)]
        assert points == pytest.approx(np.count_nonzero(np.isfinite(upper)))


def test_residuals_by_frame_age_and_size(sheared):
    data, result = sheared
    view = angle_view(data, result, 0)
    i, j = np.triu_indices(N, 1)
    residual = data.c2[0][i, j] - result.c2(0)[i, j]
    known = np.isfinite(residual)
    for frame in (0, 4, 25, N - 1):
        chosen = known & ((i == frame) | (j == frame))
        assert view.frames.mean[frame] == pytest.approx(residual[chosen].mean())
        assert view.frames.stderr[frame] == pytest.approx(result.noise / np.sqrt(chosen.sum()))
    edges = np.linspace(0, N - 1, 25)
    for part in range(24):
        age = (i + j) / 2
        last = part == 23
        chosen = known & (age >= edges[part] - 1e-9) & (age < edges[part + 1] - 1e-9 + last)
        if not np.isclose(np.abs(age[:, None] - edges).min(axis=0)[part : part + 2], 0).any():
            assert view.ages.mean[part] == pytest.approx(residual[chosen].mean())
    widths = np.linspace(-6, 6, 49)
    expected, _ = np.histogram(residual[known] / result.noise, [-np.inf, *widths, np.inf])
    np.testing.assert_array_equal(view.histogram, expected)


def test_a_matrix_is_reduced_in_parts_to_the_same(sheared, monkeypatch):
    data, result = sheared
    whole = angle_view(data, result, 0, most_pixels=13)
    monkeypatch.setattr(reduction, "BAND", 7)
    parts = angle_view(data, result, 0, most_pixels=13)
    for name in ("data", "fit", "residual", "count", "histogram"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=1e-12)
    np.testing.assert_allclose(parts.frames.mean, whole.frames.mean, atol=1e-12)
    for one, other in zip(parts.cuts, whole.cuts, strict=True):
        np.testing.assert_allclose(one.data, other.data, atol=1e-12)


def test_the_strain_is_the_integral_of_the_shear_rate(sheared):
    data, result = sheared
    strain, error = result.strain()
    values, _ = result.gamma_dot(data.times)
    assert strain[7] == pytest.approx(np.trapezoid(values[:8], data.times[:8]))
    assert (strain[0], error[0]) == (0.0, 0.0)
    y, step, gradient = result.coordinates, 1e-6, []
    for k in range(len(y)):
        ends = []
        for side in (-1, 1):
            moved = y.copy()
            moved[k] += side * step * abs(y[k])
            ends.append(dataclasses.replace(result, coordinates=moved).strain()[0])
        gradient.append((ends[1] - ends[0]) / (2 * step * abs(y[k])))
    covariance = result.coordinates_root @ result.coordinates_root.T
    expected = np.sqrt(np.einsum("kn,kl,ln->n", gradient, covariance, gradient))
    np.testing.assert_allclose(error[1:], expected[1:], rtol=1e-4)


@pytest.mark.parametrize("forms", ["free", "constant"])
def test_the_band_of_the_fit_is_propagated_from_the_covariance(sheared, forms):
    data, result = sheared
    if forms == "constant":
        truth = [4000.0, 0.0, 0.0, 3e-4, 0.0, 0.0, -3.0]
        c2 = [1.0 + 0.2 * decay(LAMINAR_FLOW, truth, DT, N, Q, p, GAP) for p in PHI]
        noise = np.random.default_rng(7).normal(0, NOISE, (len(PHI), N, N))
        data = dataclasses.replace(data, c2=np.stack(c2) + noise)
        search = SearchOptions(multi_start=MultiStart(enable=False))
        result = fit(data, FitSettings(gap=GAP, search=search))
        assert {"alpha", "beta"} <= set(result.not_needed)
    k, first, second = 1, np.array([3.0, 10.0, 20.0]), np.array([5.0, 30.0, 39.0])
    space, m = result.space, len(result.coordinates)
    values = [*result.coordinates, result.contrast[k].value, result.offset[k].value]

    def c2_at(values):
        full = space.complete(np.array(values[:m]))
        f = decay(space.model_in_coordinates, full, DT, N, Q, PHI[k], GAP)
        return (values[-1] + values[-2] * f)[first.astype(int), second.astype(int)]

    gradient = []
    for n, value in enumerate(values):
        step = 1e-6 * (abs(value) or 1.0)
        ends = [c2_at([*values[:n], value + side * step, *values[n + 1 :]]) for side in (-1, 1)]
        gradient.append((ends[1] - ends[0]) / (2 * step))
    root = np.vstack([result.coordinates_root, result.scaling_root[[k, len(PHI) + k]]])
    expected = np.linalg.norm(np.array(gradient).T @ root, axis=1)
    band = ModelBand(result)
    errors = band.errors(k, band.differences(first, second))
    np.testing.assert_allclose(errors, expected, rtol=1e-3)
    # That of contrast and offset alone is the error that is told, of the same covariance.
    np.testing.assert_allclose(
        np.linalg.norm(result.scaling_root[k]), result.contrast[k].stderr, rtol=0.5
    )
    assert np.all(errors < 5 * NOISE)


def test_no_band_where_the_data_determine_no_fit(sheared):
    _, result = sheared
    band = ModelBand(result)
    pixels = band.of_pixels(4)
    null = np.zeros((len(result.coordinates), 1))
    null[0] = 1.0
    none = np.zeros((2 * len(PHI), 1))
    bound = (dataclasses.replace(result.contrast[0], at_bound=True), *result.contrast[1:])
    failed = dataclasses.replace(result.info, success=False)
    for unknown in (
        dataclasses.replace(result, coordinates_null=null, scaling_null=none),
        dataclasses.replace(result, contrast=bound),
        dataclasses.replace(result, info=failed),
        dataclasses.replace(result, scaling_root=np.full_like(result.scaling_root, np.nan)),
    ):
        assert np.all(np.isnan(ModelBand(unknown).errors(0, pixels)))


def chi_squared(data, result, parameters):
    """Sum of squares over the noise squared, contrast and offset at their best for each angle."""
    total, upper = 0.0, np.triu_indices(N, 1)
    for c2, phi in zip(data.c2, data.phi, strict=True):
        measured = c2[upper]
        f = decay(LAMINAR_FLOW, parameters, DT, N, Q, phi, GAP)[upper]
        known = np.isfinite(measured)
        design = np.column_stack([f[known], np.ones(known.sum())])
        fitted = design @ np.linalg.lstsq(design, measured[known])[0]
        total += np.sum((measured[known] - fitted) ** 2)
    return total / result.noise**2


def test_the_slider_follows_the_valley_of_chi_squared():
    data = measurement(LAMINAR_FLOW, PHI)
    initial = dict(zip(LAMINAR_FLOW.parameters, TRUTH[LAMINAR_FLOW], strict=True))
    search = SearchOptions(
        multi_start=MultiStart(enable=False),
        uncertainty="white",
        constant_parts="free",
        anti_degeneracy=AntiDegeneracy(per_angle_mode="individual", enable=False),
    )
    fixed = {"D_offset": 1000.0, "gamma_dot_t_offset": 1e-4}
    result = fit(data, FitSettings(gap=GAP, initial=initial, fixed=fixed, search=search))
    frames = np.arange(0, N, 3)
    move = weakest_move(result, frames)
    assert move is not None
    middle = int(np.flatnonzero(move.steps == 0)[0])
    best = chi_squared(data, result, result.values)
    for k in (0, middle, len(move.steps) - 1):
        parameters = {n: e.value for n, e in result.parameters.items()}
        parameters |= {name: values[k] for name, values in move.parameters.items()}
        rise = chi_squared(data, result, [*parameters.values()]) - best
        assert rise == pytest.approx(move.rise[k], rel=0.3, abs=0.01)
        power = np.maximum(frames * DT, DT / 2)
        expected = parameters["D0"] * power ** parameters["alpha"] + parameters["D_offset"]
        np.testing.assert_allclose(move.rates["J"][k], expected, rtol=1e-6)
    np.testing.assert_allclose(move.rates["J"][middle], result.J(frames * DT)[0], rtol=1e-6)


def test_a_fit_at_a_bound_has_no_slider(static):
    _, result = static
    bound = changed(result, alpha={"at_bound": True, "stderr": np.nan})
    assert weakest_move(bound, np.arange(5)) is None


def test_rival_curves_go_through_what_is_known_of_them(static):
    _, result = static
    middle = {"J": {"value": 5000.0, "stderr": 50.0}}
    one = {"parameter": "alpha", "rates": middle, "stderr": 0.1}
    others = [
        {**one, "value": 0.4, "larger": True, "forms": {"J": "power law"}},
        {**one, "value": 0.4, "larger": False, "forms": {"J": "constant"}},
        {**one, "value": 1.0, "larger": True, "forms": {"J": "power law with a constant part"}},
    ]
    minimum = {"parameters": {"D0": 10.0, "alpha": 0.5}, "mirror": False, "delta_chi2": 0.7}
    info = dataclasses.replace(
        result.info, rate_forms={"others": others}, alternatives=[minimum, {"mirror": True}]
    )
    tau = result.space.tau
    found = rivals(dataclasses.replace(result, info=info), np.array([tau, 2 * tau]))
    law, constant, other = found
    np.testing.assert_allclose(law.values, [5000.0, 5000.0 * 2**0.4])
    np.testing.assert_allclose(constant.values, 5000.0)
    offset = result.parameters["D_offset"].value
    np.testing.assert_allclose(other.values, 10 * np.sqrt([tau, 2 * tau]) + offset)


def test_a_frame_that_lies_off_is_named(sheared):
    data, result = sheared
    views = list(angle_views(data, result))
    assert odd_frames_text(views) == []
    spoiled = data.c2.copy()
    spoiled[:, 17, :] -= 0.05
    spoiled[:, :, 17] -= 0.05
    views = list(angle_views(dataclasses.replace(data, c2=spoiled), result))
    (text,) = odd_frames_text(views)
    assert "frame 18 (at 1.7 s, 0.04" in text
    assert "below)" in text


@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(np.nan), min_size=1, max_size=30),
    st.sampled_from([8, 16]),
)
def test_stored_integers_give_back_the_values(values, bits):
    arrays = Arrays()
    array = np.array(values)
    stored = arrays.stored[arrays.integers(array, bits)]
    whole = np.frombuffer(base64.b64decode(stored["data"]), dtype=f"<u{bits // 8}")
    shown = np.where(whole == 2**bits - 1, np.nan, stored["low"] + stored["step"] * whole)
    span = np.nanmax(array) - np.nanmin(array) if np.isfinite(array).any() else 0.0
    error = 0.51 * span / (2**bits - 2) + 1e-9 * np.nanmax(np.abs([1.0, *array]))
    np.testing.assert_allclose(shown, array, atol=error, rtol=0)
    assert arrays.integers(array, bits) == 0


@pytest.mark.parametrize(
    ("model", "success", "adequate", "levels"),
    [
        ("sheared", True, True, ["good", "good"]),
        ("sheared", True, False, ["good", "bad", "caution"]),
        ("static", True, None, ["good", "caution"]),
        ("static", False, None, ["bad", "caution", "bad"]),
    ],
)
def test_three_lights(model, success, adequate, levels, request):
    _, result = request.getfixturevalue(model)
    result = dataclasses.replace(
        result,
        info=dataclasses.replace(result.info, success=success),
        adequacy=Adequacy(adequate, None if adequate is None else 0.5, note="a note"),
    )
    verdict = judge(result, cautions=False)
    assert [light.level for light in verdict.lights][: len(levels)] == levels
    assert verdict.level == ("bad" if not success or adequate is False else "good")
    assert all(sentence.endswith(".") for sentence in verdict.sentences)


def test_only_what_is_determined_may_be_quoted(sheared):
    _, result = sheared
    loose = changed(result, beta={"stderr": 0.8}, phi0={"stderr": np.inf})
    names = [quote.name for quote in quotable(loose)]
    assert "beta" not in names
    assert "phi0" not in names
    assert "the direction of the flow" in judge(loose, cautions=False).sentences[1]
    (first, *_), *_ = (row.texts for row in quote_table(result).rows)
    value, error = result.J(0.4)
    assert first == format_estimate(value[0], error[0])
    unknown = dataclasses.replace(result, info=dataclasses.replace(result.info, success=False))
    cells = {cell for row in quote_table(unknown).rows for cell in row.texts}
    assert cells <= {"not determined", ""}


def test_figures_leave_the_settings_alone(sheared, static):
    before = dict(mpl.rcParams)
    for data, result in (sheared, static):
        view = angle_view(data, result, 0)
        panels = 2 if result.model.has_flow else 1
        assert len(plot_rates(result, data.times).axes) == panels
        assert len(plot_scaling(result).axes) == 2
        assert [a.get_title() for a in plot_two_time(view).axes[:3]] == [
            f"data, φ = {view.phi:g}°",
            "fit",
            "(data − fit) / σ",
        ]
        assert plot_lag_cuts(view).axes[0].get_xscale() == "log"
    assert dict(mpl.rcParams) == before


def test_data_and_fit_share_a_scale_and_the_residual_is_centred(sheared):
    data, result = sheared
    axes = plot_two_time(angle_view(data, result, 1)).axes
    limits = [panel.images[0].get_clim() for panel in axes[:3]]
    assert limits[0] == limits[1]
    assert limits[2][0] == -limits[2][1]


def test_a_rate_over_decades_is_drawn_on_logarithmic_axes(static):
    data, result = static
    assert plot_rates(result, data.times).axes[0].get_yscale() == "linear"
    coordinates = result.coordinates.copy()
    coordinates[1:] = -coordinates[0], -1.0
    steep = dataclasses.replace(result, coordinates=coordinates)
    assert plot_rates(steep, data.times).axes[0].get_yscale() == "log"
    lost = dataclasses.replace(result, coordinates_null=np.array([[1.0], [0.0], [0.0]]))
    assert "no band" in plot_rates(lost, data.times).axes[0].get_title()


@pytest.mark.parametrize("n", [3, 4, 7])
def test_few_frames_and_no_noise_still_make_figures(static, n):
    data, result = static
    short = dataclasses.replace(data, c2=data.c2[:, :n, :n])
    objective = dataclasses.replace(result.objective, n_frames=n)
    result = dataclasses.replace(result, objective=objective, noise=0.0)
    view = angle_view(short, result, 0)
    assert np.all(np.nan_to_num(view.residual) == 0)
    for figure in (plot_two_time(view), plot_lag_cuts(view), plot_rates(result, short.times)):
        figure.draw_without_rendering()


def test_all_matrices_on_one_scale():
    phi = np.arange(0.0, 150, 30)
    data = measurement(LAMINAR_FLOW, phi)
    figure = plot_matrices(data)
    figure.draw_without_rendering()
    panels = [axes for axes in figure.axes if axes.images and axes.get_title()]
    assert [axes.get_title() for axes in panels] == [f"φ = {p:g}°" for p in phi]
    assert len({axes.images[0].get_clim() for axes in panels}) == 1
    for axes, c2 in zip(panels, data.c2, strict=True):
        shown = np.ma.filled(axes.images[0].get_array().astype(float), np.nan)
        upper = np.triu_indices(N, 1)
        np.testing.assert_array_equal(shown[upper], c2[upper])
        np.testing.assert_array_equal(shown.T[upper], c2[upper])
        assert np.isnan(np.diagonal(shown)).all()
