"""Which form of a rate a fit takes: tests against fits of the neighbours, and what is said."""

import json

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm

import homodyne_fit as hf
from homodyne_fit.fitting.rate_forms import NEEDED, NOT_NEEDED
from homodyne_fit.report.words import forms_text, other_forms

pytestmark = pytest.mark.numerics

PHI = np.linspace(0, 150, 6)
GEOMETRY = {"q": 0.0054, "dt": 0.2, "gap": 2e6, "n_frames": 90}
CONSTANT = {"D0": 1.2e4, "alpha": 0.0, "D_offset": 0.0}
CONSTANT |= {"gamma_dot_t0": 1.5e-4, "beta": 0.0, "gamma_dot_t_offset": 0.0, "phi0": 5.0}
POWER_LAW = CONSTANT | {"alpha": -0.4, "beta": 0.3}
# A transport coefficient that falls to a third, and a shear rate that starts from a constant.
CONSTANT_PART = CONSTANT | {"alpha": -0.9, "D0": 2e4, "D_offset": 3000.0}
CONSTANT_PART |= {"beta": 1.0, "gamma_dot_t0": 1e-5, "gamma_dot_t_offset": 8e-5}


def measured(truth, noise=0.03, seed=1, **geometry):
    return hf.simulate(truth, phi=PHI, noise=noise, seed=seed, **(GEOMETRY | geometry))


def fitted(data, **options):
    options = {"per_angle_mode": "averaged", "gap": 2e6, **options}
    return hf.fit(data, **options)


@pytest.fixture(scope="module")
def constant():
    return fitted(measured(CONSTANT, seed=4))


@pytest.mark.parametrize(
    ("truth", "form"),
    [
        (CONSTANT, "constant"),
        (POWER_LAW, "power law"),
        (CONSTANT_PART, "power law with a constant part"),
    ],
)
def test_the_form_of_the_data_is_found(truth, form):
    result = fitted(measured(truth, seed=4))
    assert result.success
    assert result.info.rate_forms["chosen"] == {"J": form, "gamma_dot": form}
    times = result.times[[9, 45, 80]]
    for law, rate in zip((0, 3), result.rates, strict=True):
        p0, p1, p2 = list(truth.values())[law : law + 3]
        value, error = rate.at(times)
        assert np.all(np.abs(value - p0 * times**p1 - p2) < 4 * error)


def test_a_rate_without_a_constant_part_is_told_more_precisely(constant):
    free = fitted(constant.data, constant_parts="free")
    assert free.info.rate_forms == {}
    relative = [
        fit.parameters["D0"].stderr / fit.parameters["D0"].value for fit in (free, constant)
    ]
    assert relative[0] > 2 * relative[1]
    assert set(constant.not_needed) == {"alpha", "D_offset", "beta", "gamma_dot_t_offset"}
    assert all(constant.parameters[name].value == 0 for name in constant.not_needed)


@pytest.mark.parametrize("name", ["D_offset", "gamma_dot_t_offset"])
def test_the_score_test_is_the_decrease_of_chi_squared(name):
    """For independent points; the larger form is fitted for it."""
    truth = POWER_LAW | {"D_offset": 600.0, "gamma_dot_t_offset": 1e-5}
    data = measured(truth, seed=4)
    given = {"alpha": -0.4, "beta": 0.3}
    zero = {"D_offset": 0.0, "gamma_dot_t_offset": 0.0}
    kept = {key: 0.0 for key in zero if key != name}
    options = {"uncertainty": "white", "initial": given, "tolerance": 1e-3}
    smaller, larger = (
        fitted(data, fixed=fixed, constant_parts="free", **options) for fixed in (zero, kept)
    )
    decrease = 2 * (smaller.cost - larger.cost) / larger.noise**2
    auto = fitted(data, fixed=kept, **options)
    tests = [o for o in auto.info.rate_forms["others"] if o["parameter"] == name]
    assert name in auto.not_needed
    # The score test lets the form change to first order only.
    assert tests[0]["statistic"] == pytest.approx(decrease, rel=0.3, abs=0.3)


def test_a_smaller_form_is_tested_by_the_value_over_its_error():
    result = fitted(measured(POWER_LAW), uncertainty="white")
    tests = {o["parameter"]: o for o in result.info.rate_forms["others"] if not o["larger"]}
    for name in ("alpha", "beta"):
        estimate = result.parameters[name]
        assert tests[name]["statistic"] == pytest.approx(
            (estimate.value / estimate.stderr) ** 2, rel=0.02
        )


def test_the_rates_of_a_neighbour_are_those_of_a_fit_of_it():
    result = fitted(measured(CONSTANT, seed=3), initial={"alpha": 0.0, "beta": 0.0})
    tests = {o["parameter"]: o for o in result.info.rate_forms["others"]}
    larger = fitted(result.data, constant_parts="free", fixed={"gamma_dot_t_offset": 0.0})
    (expected,), (error,) = larger.J([result.space.tau])
    found = tests["D_offset"]["rates"]["J"]
    assert found["value"] == pytest.approx(expected, abs=0.5 * error)
    assert found["stderr"] == pytest.approx(error, rel=0.3)


def test_what_is_said_of_a_constant_part_or_an_exponent_holds(constant):
    data = constant.data
    bounds = fitted(data, bounds={"D_offset": (-1e4, 1e4)})
    assert "D_offset" not in bounds.not_needed
    assert "gamma_dot_t_offset" in bounds.not_needed
    start = fitted(data, initial={"alpha": 0.1})
    assert "alpha" not in start.not_needed
    assert "D_offset" in start.not_needed
    zero = fitted(data, constant_parts="zero")
    assert zero.not_needed == []
    assert zero.parameters["D_offset"].fixed
    assert not zero.parameters["alpha"].fixed


def test_static_data_are_left_to_the_data_as_well():
    truth = {"D0": 1.2e4, "alpha": -0.3, "D_offset": 0.0}
    geometry = {key: value for key, value in GEOMETRY.items() if key != "gap"}
    data = hf.simulate(truth, phi=PHI, noise=0.03, seed=2, **geometry)
    result = hf.fit(data, "static")
    assert result.info.rate_forms["chosen"] == {"J": "power law"}


def test_exact_data_keep_their_form():
    result = fitted(measured(POWER_LAW, noise=0.0))
    assert result.success
    assert_allclose(result.values[[0, 1, 3, 4]], np.array([1.2e4, -0.4, 1.5e-4, 0.3]), rtol=1e-5)


def test_an_error_does_not_hold_a_parameter_at_its_bound():
    """The prefactor and a constant part at its bound make up for each other."""
    data = measured(POWER_LAW | {"beta": 0.1})
    bounds = {"gamma_dot_t_offset": (-1e-3, 0.0), "gamma_dot_t0": (1e-6, 1.0)}
    free = {"D_offset": (-1e4, 1e4)}
    result = fitted(data, bounds=bounds | free)
    wide = fitted(data, bounds={"gamma_dot_t_offset": (-0.1, 0.1)} | free)
    if result.parameters["gamma_dot_t_offset"].at_bound:
        prefactor = result.parameters["gamma_dot_t0"]
        assert prefactor.stderr > 0.3 * wide.parameters["gamma_dot_t0"].stderr
    truth = 1.5e-4 * result.space.tau**0.1
    (value,), (error,) = result.gamma_dot([result.space.tau])
    assert abs(value - truth) < 4 * error


def test_the_forms_are_told_and_saved(constant, tmp_path):
    assert forms_text(constant).startswith("J(t) constant, γ̇(t) constant: the simplest")
    (transport, shear) = other_forms(constant)
    assert transport.startswith("J(t) a power law: not needed (alpha = ")
    assert "γ̇ = " in shear
    folder = constant.save(tmp_path / "out")
    restored = hf.load_result(folder)
    assert str(restored) == str(constant)
    assert restored.not_needed == constant.not_needed
    stored = json.loads((folder / "parameters.json").read_text("utf-8"))
    assert stored["fit"]["rate_forms"] == constant.info.rate_forms
    assert "not needed by the data" in (folder / "report.html").read_text("utf-8")


def test_results_of_earlier_versions_are_read(tmp_path):
    """They searched a power law with a known constant part in its own parameters."""
    data = measured(POWER_LAW)
    fixed = {"D_offset": 0.0, "gamma_dot_t_offset": 0.0}
    result = fitted(data, fixed=fixed, initial={"alpha": 0.0, "beta": 0.0})
    file = result.save(tmp_path / "out") / "result.h5"
    with h5py.File(file, "r+") as stored:
        stored.attrs["format_version"] = 4
        stored["state/coordinates"][...] = result.values[[0, 1, 3, 4, 6]]
    restored = hf.load_result(file)
    times = result.times[1:]
    assert_allclose(restored.J(times)[0], result.J(times)[0], rtol=1e-9)
    assert_allclose(restored.gamma_dot(times)[0], result.gamma_dot(times)[0], rtol=1e-9)


def test_an_error_is_the_larger_of_the_larger_form_and_of_the_distance_to_it():
    """Both forms are fitted for it; the exponents of the two rates are nearly independent."""
    data = measured(CONSTANT | {"alpha": -0.0065, "beta": 0.003}, seed=4)
    zero = {"D_offset": 0.0, "gamma_dot_t_offset": 0.0}
    simple = fitted(data, uncertainty="white")
    assert {"alpha", "beta"} <= set(simple.not_needed)
    options = {"uncertainty": "white", "constant_parts": "free"}
    constant = fitted(data, fixed=zero | {"alpha": 0.0, "beta": 0.0}, **options)
    larger = fitted(data, fixed=zero, initial={"alpha": 0.0, "beta": 0.0}, **options)
    times, distances = simple.times[[5, 20, 45, 70, 88]], []
    for one, other, third in zip(simple.rates, larger.rates, constant.rates, strict=True):
        (value, error), (further, own), (_, least) = (
            rate.at(times) for rate in (one, other, third)
        )
        with_distance = np.hypot(least, further - value)
        distances.append(np.max(with_distance / own))
        assert_allclose(error, np.maximum(own, with_distance), rtol=0.15)
    assert max(distances) > 1.1  # the distance decides
    assert min(distances) < 1  # the larger form decides


def test_errors_are_those_of_the_form_where_nothing_is_left_out():
    data = measured(POWER_LAW, seed=4)
    zero = {"D_offset": 0.0, "gamma_dot_t_offset": 0.0}
    options = {"initial": {"alpha": -0.4, "beta": 0.3}, "multi_start": False}
    auto = fitted(data, fixed=zero, **options)
    free = fitted(data, fixed=zero, constant_parts="free", **options)
    times = auto.times[[5, 45, 88]]
    assert_allclose(auto.J(times)[1], free.J(times)[1], rtol=1e-6)


def test_a_bound_adds_no_distance():
    """What the data would have beyond a bound that was given says nothing of the error within."""
    data = measured(CONSTANT, seed=4)
    options = {"fixed": {"D_offset": 0.0}, "uncertainty": "white"}
    errors, values = [], []
    for lowest in (-2.0, 0.012):
        result = fitted(data, bounds={"alpha": (lowest, 2.0)}, **options)
        assert "beta" in result.not_needed
        (value,), (error,) = result.J([0.5])
        values.append(value)
        errors.append(error)
    assert result.parameters["alpha"].at_bound
    assert abs(values[1] - values[0]) > errors[0]
    assert errors[1] == pytest.approx(errors[0], rel=0.1)


@pytest.mark.parametrize("level", [NEEDED, NOT_NEEDED])
def test_intervals_hold_whatever_is_left_out(level):
    """Of a parameter that is taken where its p is below a level, and is 0 elsewhere."""
    threshold = norm.isf(level / 2)
    z = np.linspace(-12.0, 20.0, 64_001)
    for truth in np.linspace(0.0, 7.0, 71):
        taken = np.abs(z) > threshold
        deviation = np.where(taken, z - truth, -truth)
        error = np.where(taken, 1.0, np.maximum(1.0, np.abs(z)))
        held = np.abs(deviation) < norm.isf(0.025) * error
        assert np.trapezoid(norm.pdf(z - truth) * held, z) > 0.8
