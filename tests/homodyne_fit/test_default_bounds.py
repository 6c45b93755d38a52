"""Bounds where none are given: from q, dt, the frames and the gap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import homodyne_fit as hf
from homodyne_fit.errors import InputError
from homodyne_fit.fitting.default_bounds import LARGEST_BOUND, bounds_in_force, default_bounds
from homodyne_fit.fitting.settings import FitSettings
from homodyne_fit.model.parameters import DIFFUSION, PARAMETERS, SHEAR
from homodyne_fit.model.rates import LAMINAR_FLOW, STATIC

# An ordinary measurement: T = 300 s.
Q, DT, N, GAP = 0.0054, 1.0, 301, 2e6

MEASUREMENTS = st.tuples(
    st.floats(1e-4, 1.0), st.floats(1e-7, 1e4), st.integers(3, 10**5), st.floats(1e4, 1e8)
)


def in_force(given=None, initial=None, fixed=None, **measurement):
    return bounds_in_force(
        PARAMETERS,
        **{"q": Q, "dt": DT, "n_frames": N, "gap": GAP} | measurement,
        given=given or {},
        initial=initial or {},
        fixed=fixed or {},
    )


def test_bounds_of_an_ordinary_measurement():
    # q² = 2.9e-5, ½ q h = 5400, τ = 150: 1e-6 / (q² T) = 1.1e-4 and 1e2 / (q² dt) = 3.4e6;
    # 1e-3 / (½ q h T) = 6.2e-10 and 1e3 / (½ q h dt) = 0.19; τ² = 22500.
    assert default_bounds(Q, DT, N, GAP) == {
        "D0": (1e-9, 1e11),
        "alpha": (-2.0, 2.0),
        "D_offset": (-1e7, 1e7),
        "gamma_dot_t0": (1e-14, 1e4),
        "beta": (-2.0, 2.0),
        "gamma_dot_t_offset": (-1.0, 1.0),
        "phi0": (-10.0, 10.0),
        "contrast": (0.0, 1.0),
        "offset": (0.5, 1.5),
    }


@given(MEASUREMENTS, st.floats(-2, 2), st.floats(0, 1))
def test_what_can_be_resolved_is_within_them_with_a_decade_to_spare(measurement, exponent, share):
    q, dt, n_frames, gap = measurement
    bounds, duration = default_bounds(q, dt, n_frames, gap), (n_frames - 1) * dt
    for (prefactor, _, constant), rate, slowest, fastest in (
        (DIFFUSION, q**2, 1e-5, 10.0),
        (SHEAR, 0.5 * q * gap, 1e-2, 100.0),
    ):
        slowest, fastest = slowest / (rate * duration), fastest / (rate * dt)
        middle = slowest * (fastest / slowest) ** share
        lower, upper = bounds[prefactor]
        assert lower < max(middle / (duration / 2) ** exponent / 9.9, 2 / LARGEST_BOUND)
        assert min(middle / (duration / 2) ** exponent * 9.9, LARGEST_BOUND / 2) < upper
        assert bounds[constant][0] == -bounds[constant][1]
        assert bounds[constant][1] > 9.9 * middle


@given(
    st.tuples(
        st.floats(1e-300, 1e300),
        st.floats(1e-300, 1e300),
        st.integers(3, 10**6),
        st.floats(1e-300, 1e300),
    )
)
def test_they_are_numbers_whatever_is_measured(measurement):
    for lower, upper in default_bounds(*measurement).values():
        assert -LARGEST_BOUND <= lower < upper <= LARGEST_BOUND


def test_without_a_gap_there_is_no_shear():
    bounds = default_bounds(Q, DT, N, None)
    assert not {*SHEAR} - {"beta"} & {*bounds}
    assert bounds["D0"] == default_bounds(Q, DT, N, GAP)["D0"]


def test_of_several_wave_vectors_the_median_counts():
    assert in_force(q=np.array([1e-4, Q, 1.0])) == in_force()


def test_bounds_that_are_given_hold_as_they_are():
    limits = {"D0": (3.0, 4.0), "beta": (-7.0, 0.5), "contrast": (0.1, 0.2)}
    bounds = in_force(limits, initial={"D0": 3.5})
    assert {name: bounds[name] for name in limits} == limits
    others = PARAMETERS.keys() - limits - {"gamma_dot_t0"}
    assert {name: bounds[name] for name in others} == {name: in_force()[name] for name in others}


def test_an_exponent_that_is_known_or_bounded_narrows_its_prefactor():
    # 1e-6 / (q² T) = 1.1e-4 and 1e2 / (q² dt) = 3.4e6, as they are and over τ = 150.
    assert in_force(fixed={"alpha": 0.0})["D0"] == (1e-4, 1e7)
    assert in_force({"alpha": (0.0, 1.0)})["D0"] == (1e-7, 1e7)
    assert in_force({"alpha": (0.0, 1.0)}, fixed={"alpha": 0.0})["D0"] == (1e-4, 1e7)
    assert in_force(fixed={"alpha": 0.0})["gamma_dot_t0"] == in_force()["gamma_dot_t0"]


def test_they_give_way_to_a_start_beyond_them():
    starts = {"D0": 1e13, "D_offset": -1e9, "gamma_dot_t0": 1e-20, "gamma_dot_t_offset": 0.5}
    bounds = in_force(initial=starts)
    assert bounds["D0"] == pytest.approx((1e-9, 1e14))
    assert bounds["D_offset"] == pytest.approx((-1e10, 1e10))
    assert bounds["gamma_dot_t0"] == pytest.approx((1e-21, 1e4))
    assert bounds["gamma_dot_t_offset"] == in_force()["gamma_dot_t_offset"]


def test_a_start_beyond_bounds_that_are_given_is_a_mistake():
    with pytest.raises(InputError, match="the start of D0, 5, is outside its bounds, 1 to 4"):
        FitSettings(model=STATIC, bounds={"D0": (1.0, 4.0)}, initial={"D0": 5.0})


def test_a_fit_keeps_those_of_its_measurement(small):
    result = hf.fit(small, gap=2e6, bounds={"D0": (1.0, 1e6)}, multi_start=False)
    bounds = default_bounds(small.q, small.dt, small.n_frames, 2e6) | {"D0": (1.0, 1e6)}
    expected = np.array([bounds[name] for name in LAMINAR_FLOW.parameters])
    np.testing.assert_array_equal(np.stack([result.space.lower, result.space.upper], 1), expected)


SAMPLES = {
    # An ageing glass, a frame a minute: J = 0.29 Å²/s in the middle.
    "a glass": ({"D0": 4.0, "alpha": -0.3, "D_offset": 0.0}, 0.02, 60.0, 1e-3),
    "small particles at 20 µs": ({"D0": 2e7, "alpha": 0.0, "D_offset": 0.0}, 0.003, 2e-5, 1e-3),
}


@pytest.mark.parametrize(("truth", "q", "dt", "noise"), SAMPLES.values(), ids=SAMPLES)
def test_ordinary_samples_are_found_without_bounds(truth, q, dt, noise):
    data = hf.simulate(truth, phi=(0.0, 90.0), q=q, dt=dt, n_frames=200, noise=noise)
    result = hf.fit(data, "static", fixed={"D_offset": 0.0}, units_confirmed=("dt",))
    assert result.success
    tau = result.space.tau
    (found,), (error,) = result.J(tau)
    expected = truth["D0"] * tau ** truth["alpha"]
    assert abs(found - expected) < 4 * error
    assert error < 0.02 * expected
    for name in ("D0", "alpha"):
        estimate = result.parameters[name]
        assert not estimate.at_bound
        assert abs(estimate.value - truth[name]) < 4 * estimate.stderr
