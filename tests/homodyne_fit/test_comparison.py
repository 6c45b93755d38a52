"""Fits side by side: differences against plain arithmetic, criteria against SciPy, and the page."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import homodyne_fit as hf
from homodyne_fit.fitting.goodness import criteria_differences
from homodyne_fit.report.comparison import Comparison, Fit
from homodyne_fit.report.comparison_text import comparison_text, notes, quantity_rows

pytestmark = pytest.mark.numerics

TRUTH = {"D0": 20000.0, "alpha": 0.0, "D_offset": 0.0}
FLOW = {"gamma_dot_t0": 3e-4, "beta": 0.0, "gamma_dot_t_offset": 0.0, "phi0": 3.0}
SETTINGS = {"multi_start": False, "uncertainty": "white", "per_angle_mode": "averaged"}


@pytest.fixture(scope="module")
def fits():
    """Of the same data with two models; and of another sample."""
    phi, n = (0.0, 45.0, 90.0), 50
    data = hf.simulate({**TRUTH, **FLOW}, phi=phi, n_frames=n, noise=0.02)
    other = hf.simulate({**TRUTH, **FLOW, "D0": 22000.0}, phi=phi, n_frames=n, noise=0.02, seed=1)
    return {
        "flow": hf.fit(data, gap=2e6, **SETTINGS),
        "static": hf.fit(data, "static", **SETTINGS),
        "other": hf.fit(other, gap=2e6, **SETTINGS),
    }


@pytest.fixture(scope="module")
def comparison(fits):
    return hf.compare(list(fits.values()), list(fits))


def named(comparison, name):
    return next(q for q in comparison.quantities if q.name == name)


def test_differences_of_other_data_are_those_of_independent_estimates(comparison, fits):
    quantity = named(comparison, "mean J")
    (a, sa), (b, sb) = fits["flow"].mean_J(), fits["other"].mean_J()
    found = comparison.difference(quantity, 2)
    assert comparison.relations[2].kind == "other"
    assert found.value == pytest.approx(b - a)
    assert found.error == pytest.approx(np.sqrt(sa**2 + sb**2))
    assert found.sigmas == pytest.approx((b - a) / np.sqrt(sa**2 + sb**2))


def test_differences_of_the_same_data_are_in_the_larger_error(comparison, fits):
    quantity = named(comparison, "mean J")
    (a, sa), (b, sb) = fits["flow"].mean_J(), fits["static"].mean_J()
    found = comparison.difference(quantity, 1)
    assert comparison.relations[1].kind == "same"
    assert (found.value, found.error) == (pytest.approx(b - a), max(sa, sb))
    assert comparison.difference(quantity, 0) is None
    text = "\n".join(notes(comparison))
    assert "static" not in text
    assert "B has the same points as A: the estimates are not independent" in text
    assert "C has other data than A: σ is the root" in text


def test_means_of_the_scaling_are_over_the_angles(comparison, fits):
    result = fits["flow"]
    estimate = named(comparison, "mean contrast").estimates[0]
    rows = [name.startswith("contrast[") for name in result.names]
    weights = np.array(rows) / sum(rows)
    assert estimate.value == pytest.approx(np.mean([e.value for e in result.contrast]))
    assert estimate.stderr == pytest.approx(np.sqrt(weights @ result.covariance @ weights))


def test_rates_are_compared_at_common_times(fits):
    short = replace(fits["flow"].data, c2=fits["flow"].data.c2[:, :20, :20])
    found = hf.compare([fits["flow"], hf.fit(short, gap=2e6, **SETTINGS)])
    np.testing.assert_allclose(found.common_times, [0.19, 0.95, 1.9])
    quantity = named(found, "J(0.95 s)")
    assert quantity.estimates[0].value == pytest.approx(fits["flow"].J(0.95)[0][0])


def test_parts_of_one_file_have_one_axis_of_time(fits):
    result = fits["flow"]
    origin = replace(result.provenance, source="run.h5")
    later = replace(origin, sha256="another")
    fits_of_parts = [Fit("early", result, origin, 0), Fit("late", result, later, 60)]
    apart = Comparison(tuple(fits_of_parts))
    assert apart.from_one_file
    assert [relation.kind for relation in apart.relations] == ["same", "other"]
    assert apart.curves("J")[1].times[0] == pytest.approx(60 * 0.1)
    assert len(apart.common_times) == 0
    assert any("no time in common" in text for text in notes(apart))
    # 50 frames each: those from frame 30 on are in both.
    shared = Comparison((fits_of_parts[0], replace(fits_of_parts[1], first_frame=30)))
    assert shared.relations[1].kind == "shared"
    assert any("points in common with A" in text for text in notes(shared))
    # J(t) of the later part begins with its own first frame.
    middle = float(shared.common_times[1])
    quantity = named(shared, f"J({middle:.4g} s)")
    values = [e.value for e in quantity.estimates]
    assert values == pytest.approx([result.J(middle)[0][0], result.J(middle - 3.0)[0][0]])
    # Other angles of the same frames share nothing.
    o = replace(result.objective, phi=result.objective.phi + 5.0)
    turned = Fit("turned", replace(result, objective=o), later, 30)
    assert Comparison((fits_of_parts[0], turned)).relations[1].kind == "other"


def test_a_value_that_is_held_counts_without_error(fits):
    held = hf.fit(fits["flow"].data, gap=2e6, fixed={"phi0": 0.0}, **SETTINGS)
    found = hf.compare([fits["flow"], held])
    estimate = fits["flow"].parameters["phi0"]
    difference = found.difference(named(found, "phi0"), 1)
    assert difference.sigmas == pytest.approx(-estimate.value / estimate.stderr)
    assert any(row.value == "0 fixed" for row in quantity_rows(found))


def test_criteria_of_nested_fits(fits):
    """Of one exponent more, by the likelihood ratio; and as the test of the form says."""
    constant = fits["flow"]
    free = hf.fit(
        constant.data,
        gap=2e6,
        initial={"beta": 0.1},
        fixed={"D_offset": 0.0, "gamma_dot_t_offset": 0.0, "alpha": 0.0},
        **SETTINGS,
    )
    assert "beta" in constant.not_needed
    assert not free.parameters["beta"].fixed
    n = constant.n_points
    aic, bic = criteria_differences(constant.goodness, free.goodness)
    ratio = n * np.log(free.cost / constant.cost)
    more = free.goodness.n_free - constant.goodness.n_free
    assert aic == pytest.approx(ratio + 2 * more, abs=1e-3)
    assert bic == pytest.approx(ratio + more * np.log(n), abs=1e-3)
    back = criteria_differences(free.goodness, constant.goodness)
    assert back == pytest.approx((-aic, -bic))


def test_criteria_are_counted_in_the_noise_that_points_share(fits):
    g = fits["flow"].goodness
    # As if a further parameter had nine times the variance that independent points give it.
    more = replace(g, squares=0.99 * g.squares, n_free=g.n_free + 1, penalty=g.penalty + 9)
    aic, bic = criteria_differences(g, more)
    n = g.n_points.sum()
    assert aic == pytest.approx(n * np.log(0.99) / 9 + 2)
    assert bic == pytest.approx(n * np.log(0.99) / 9 + np.log(n / 9))


def test_criteria_of_other_data_are_not_compared(comparison):
    assert comparison.criteria(2) is None
    aic, bic = comparison.criteria(1)
    assert aic > 100
    assert bic > 100
    assert comparison.criteria(0) == (0, 0)


def test_as_text(comparison, fits):
    lines = repr(comparison).splitlines()
    assert lines[0] == "A  flow"
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("mean J (Å²/s)") and " A " in line for line in lines)
    # A static fit has no shear rate.
    rows = [row for row in quantity_rows(comparison) if row.fit == "B"]
    begun = comparison_text(comparison).index("mean γ̇")
    assert "B  " not in comparison_text(comparison)[begun:].split("γ̇(", 1)[0]
    assert rows[0].notable
    assert any("NO (p" in line for line in lines)
    # What is 0 in all of them says nothing.
    assert "D_offset" not in repr(comparison)


def test_as_a_table_and_json(comparison, fits):
    table = comparison.to_dataframe()
    assert list(table.columns) == [
        *("quantity", "unit", "fit", "value", "stderr", "difference", "sigmas")
    ]
    row = table[(table["quantity"] == "D0") & (table["fit"] == "other")].iloc[0]
    assert row["value"] == fits["other"].parameters["D0"].value
    stored = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    assert [fit["label"] for fit in stored["fits"]] == list(fits)
    assert stored["fits"][2]["criteria"] is None


def test_curves_are_drawn_with_their_names(comparison):
    figure = comparison.plot()
    transport, shear = figure.axes
    assert [line.get_label() for line in transport.lines] == ["flow", "static", "other"]
    assert [line.get_label() for line in shear.lines] == ["flow", "other"]
    assert len({line.get_color() for line in transport.lines}) == 3
    assert all("(s)" in axes.get_xlabel() for axes in figure.axes)
    figure.draw_without_rendering()


def test_what_cannot_be_compared(fits, complaint, tmp_path):
    one = fits["flow"]
    assert complaint(hf.compare, [one]) == ["compare: at least two results are needed"]
    assert "two results are called 'a'" in complaint(hf.compare, [one, one], ["a", "a"])[0]
    assert "2 results and 1 labels" in complaint(hf.compare, [one, one], ["a"])[0]
    assert "there is no such" in complaint(hf.compare, [one, tmp_path / "x"])[0]


class TestCommand:
    @pytest.fixture(scope="class")
    @classmethod
    def folders(cls, fits, tmp_path_factory):
        folder = tmp_path_factory.mktemp("compare")
        return [fits[name].save(folder / name / "results") for name in ("flow", "static")]

    def test_prints_and_writes(self, called, folders, tmp_path):
        page, picture = tmp_path / "c.html", tmp_path / "c.svg"
        done = called("compare", *folders, "--html", page, "--plot", picture)
        assert (done.status, done.err) == (0, "")
        assert done.out.startswith("A  flow/results\n")
        assert done.out.endswith(f"wrote {page}\nwrote {picture}\n")
        assert "<svg" in picture.read_text("utf-8")
        text = page.read_text("utf-8")
        assert not re.search(r"(src|href)=", text)
        assert text.count('<svg class="chart"') == 2

    def test_json_alone(self, called, folders):
        done = called("compare", *folders, "--json", "--labels", "with", "without")
        assert [fit["label"] for fit in json.loads(done.out)["fits"]] == ["with", "without"]

    def test_a_picture_needs_a_known_format(self, called, folders, tmp_path):
        done = called("compare", *folders, "--plot", tmp_path / "c.jpg")
        assert done.status == 1
        assert "the end of the name gives the format of a figure: .png, .pdf, .svg" in done.err
