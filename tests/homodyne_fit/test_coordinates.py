from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.model.rates import LAMINAR_FLOW, STATIC, power_law, rates, value_and_slope

pytestmark = pytest.mark.numerics

TAU = 10.0
LOWER = np.array([100.0, -2, -1e5, 1e-6, -2, -0.1, -10])
UPPER = np.array([1e5, 2, 1e5, 0.5, 2, 0.1, 10])
X = np.array([1500.0, -0.3, 200.0, 3e-4, 0.4, 2e-5, 2.0])


def space(fixed=(), model=LAMINAR_FLOW):
    p = len(model.parameters)
    values = np.full(p, np.nan)
    for index in fixed:
        values[index] = X[index]
    return SearchSpace(model, TAU, LOWER[:p], UPPER[:p], values)


EXPONENTS = st.floats(-1.9, 1.9).filter(lambda p: abs(p) > 1e-3)


@given(st.floats(100, 1e5), EXPONENTS, st.floats(-1e5, 1e5), st.floats(1e-6, 0.5), EXPONENTS)
def test_round_trip(d0, alpha, d_offset, gamma0, beta):
    x = np.array([d0, alpha, d_offset, gamma0, beta, 0.01, 3.0])
    s = space()
    back = s.to_parameters(s.to_coordinates(x))
    np.testing.assert_allclose(back[[0, 1, 3, 4, 6]], x[[0, 1, 3, 4, 6]], rtol=1e-9)
    np.testing.assert_allclose(back[2], x[2], atol=1e-9 * d0 * TAU**alpha + 1e-9 * abs(d_offset))


@pytest.mark.parametrize("fixed", [(), (2,), (0, 5), (6,), (3, 4, 5)])
def test_rates_do_not_depend_on_the_coordinates(fixed):
    s = space(fixed)
    times = np.geomspace(0.1, 20, 15)
    expected = rates(LAMINAR_FLOW, X, times, TAU, 0.1)[0]
    result = rates(s.model_in_coordinates, s.complete(s.to_coordinates(X)), times, TAU, 0.1)[0]
    np.testing.assert_allclose(result, expected, rtol=1e-12)


@pytest.mark.parametrize("fixed", [(6,), (2,), (2, 5)])
def test_jacobian_by_finite_differences(fixed):
    s = space(fixed)
    y = s.to_coordinates(X)
    exact = s.jacobian(y)
    assert exact.shape == (7, 7 - len(fixed))
    for i in range(len(y)):
        h = 1e-6 * max(abs(y[i]), 1e-6)
        up, down = y.copy(), y.copy()
        up[i] += h
        down[i] -= h
        numeric = (s.to_parameters(up) - s.to_parameters(down)) / (2 * h)
        np.testing.assert_allclose(exact[:, i], numeric, rtol=1e-5, atol=1e-9)


def test_limits_are_boxes_of_what_is_searched_directly():
    lower, upper = space(fixed=(0,)).limits
    np.testing.assert_array_equal(lower[:2], LOWER[1:3])
    np.testing.assert_array_equal(upper[:2], UPPER[1:3])
    lower, upper = space(fixed=(2,)).limits
    assert (lower[0], upper[0]) == (X[2], np.inf)  # the rate is above its constant part
    assert (lower[1], upper[1]) == (LOWER[1], UPPER[1])
    assert lower[3] == -np.inf  # the slope of the shear rate
    assert upper[4] == UPPER[4]  # its exponent


@pytest.mark.parametrize(
    ("x", "law"),
    [
        (X, None),
        (np.array([50.0, -0.3, 200.0, 3e-4, 0.4, 2e-5, 2.0]), 0),
        (np.array([1500.0, -0.3, 200.0, 0.6, 0.4, 2e-5, 2.0]), 3),
        (np.array([1500.0, -0.3, 2e5, 3e-4, 0.4, 2e-5, 2.0]), 0),
    ],
)
def test_outside_names_the_power_law(x, law):
    assert space().first_law_out_of_bounds(x) == law


@settings(max_examples=50)
@given(st.sampled_from([(0, 100.0), (0, 1e5), (2, -1e5), (2, 1e3)]), st.floats(-300, 300))
def test_a_start_on_a_limit_is_on_it_and_within_the_others(limit, slope):
    index, value = limit
    s = space()
    y = s.to_coordinates(X)
    y[0], y[1] = 2500.0, slope
    limited, starts = s.hold_at_limit(0, {index: value}, y)
    assert starts
    for start in starts:
        x = limited.to_parameters(start)
        assert x[index] == value
        assert np.all((x[:3] >= LOWER[:3]) & (x[:3] <= UPPER[:3]))
        np.testing.assert_allclose(x[3:], X[3:], rtol=1e-9)
        if index == 0:  # the offset is free to keep the value at tau
            assert x[0] * TAU ** x[1] + x[2] == pytest.approx(2500.0)


@settings(max_examples=30)
@given(st.sampled_from([100.0, 1e5]), st.floats(150, 1e6), st.floats(-1.5, 1.5))
def test_a_known_constant_part_stays_where_it_is(limit, rate, exponent):
    s = space(fixed=(2,))
    y = s.to_coordinates(X)
    y[:2] = X[2] + rate, exponent
    limited, starts = s.hold_at_limit(0, {0: limit}, y)
    for start in starts:
        x = limited.to_parameters(start)
        assert (x[0], x[2]) == (limit, X[2])
        assert LOWER[1] <= x[1] <= UPPER[1]


@pytest.mark.parametrize("exponents", [(), (1,), (1, 4), (4,)])
def test_what_is_assumed_is_searched_by_the_same_coordinates(exponents):
    assumed = frozenset({2, 5, *exponents})
    x = X.copy()
    x[list(assumed)] = 0.0
    fixed = np.full(7, np.nan)
    fixed[list(assumed)] = 0.0
    narrow = replace(space(), fixed=fixed, assumed=assumed)
    opened = narrow.with_assumed
    assert opened.held == narrow.held
    y = narrow.complete(narrow.to_coordinates(x))
    np.testing.assert_allclose(opened.complete(opened.to_coordinates(x)), y, rtol=1e-12)
    for law in narrow.power_laws:
        forms = {narrow.law_form(law), opened.law_form(law)}
        assert len(forms) == 1 or forms == {None, power_law}
    # Of a constant rate the constant part would be a second prefactor.
    searched = np.ones(7, dtype=bool)
    searched[[exponent + 1 for exponent in exponents]] = False
    np.testing.assert_array_equal(opened.searched, searched)


def test_a_falling_rate_has_two_starts_on_a_limit_of_the_prefactor():
    # a p tau^p = s: with tau = 10 and a = 1e5, s = -3000 is met near p = -0.03 and near p = -1.75.
    s = space(model=STATIC)
    y = np.array([2500.0, -3000.0, -0.3])
    _, starts = s.hold_at_limit(0, {0: 1e5}, y)
    roots = [brentq(lambda p: 1e5 * p * TAU**p + 3000, *ends) for ends in [(-2, -1), (-0.4, 0)]]
    spacing = (UPPER[1] - LOWER[1]) / 400
    np.testing.assert_allclose([start[0] for start in starts], roots, rtol=0, atol=spacing)


def test_static_model_has_one_power_law():
    assert space(model=STATIC).power_laws == (0,)
    assert space(model=STATIC).law_form(0) is value_and_slope


# A power law of which one or both of prefactor and offset are held, from rates of all kinds.
HELD = [(0, {0: 100.0}), (0, {2: -1e5}), (0, {0: 1e5, 2: -9e4}), (3, {5: -0.1}), (3, {3: 0.5})]


def held_space(law, limits):
    limited, starts = space().hold_at_limit(law, limits, space().to_coordinates(X))
    return limited, starts[0]


@pytest.mark.parametrize(("law", "limits"), HELD)
def test_rates_do_not_depend_on_the_coordinates_of_what_is_held(law, limits):
    limited, y = held_space(law, limits)
    times = np.geomspace(0.1, 20, 15)
    x = limited.to_parameters(y)
    expected = rates(LAMINAR_FLOW, x, times, TAU, 0.1)[0]
    result = rates(limited.model_in_coordinates, limited.complete(y), times, TAU, 0.1)[0]
    np.testing.assert_allclose(result, expected, rtol=1e-9)
    np.testing.assert_allclose(limited.to_coordinates(x), y, rtol=1e-9)


@pytest.mark.parametrize(("law", "limits"), HELD)
def test_jacobian_by_finite_differences_where_parameters_are_held(law, limits):
    limited, y = held_space(law, limits)
    exact = limited.jacobian(y)
    for i in range(len(y)):
        h = 1e-5 * max(abs(y[i]), 0.1)
        up, down = y.copy(), y.copy()
        up[i] += h
        down[i] -= h
        numeric = (limited.to_parameters(up) - limited.to_parameters(down)) / (2 * h)
        size = np.max(np.abs(exact[:, i]))
        np.testing.assert_allclose(exact[:, i], numeric, rtol=1e-5, atol=1e-7 * size)


@pytest.mark.parametrize(("law", "limits"), HELD)
def test_a_released_law_is_the_same_rate(law, limits):
    limited, y = held_space(law, limits)
    free = space().convert(y, limited)
    times = np.geomspace(0.1, 20, 15)
    expected = rates(limited.model_in_coordinates, limited.complete(y), times, TAU, 0.1)[0]
    np.testing.assert_allclose(
        rates(space().model_in_coordinates, free, times, TAU, 0.1)[0],
        expected,
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize("assumed", [frozenset(), frozenset({5})])
@pytest.mark.parametrize(("law", "limits"), HELD)
def test_derivatives_by_the_coordinates_of_what_is_held(law, limits, assumed):
    limited, y = held_space(law, limits)
    if assumed - limits.keys():
        fixed = limited.fixed.copy()
        fixed[5] = 0.0
        limited = replace(limited, fixed=fixed, assumed=assumed)
        y = np.delete(y, np.searchsorted(np.flatnonzero(held_space(law, limits)[0].searched), 5))
    opened = limited.opened
    exact = opened.derivatives_by(y, limited)
    assert not opened.held
    for i in range(len(y)):
        h = 1e-6 * max(abs(y[i]), 0.01)
        up, down = y.copy(), y.copy()
        up[i] += h
        down[i] -= h
        numeric = (opened.convert(up, limited) - opened.convert(down, limited)) / (2 * h)
        size = np.max(np.abs(exact[:, i]))
        np.testing.assert_allclose(exact[:, i], numeric, rtol=1e-5, atol=1e-7 * size)


def test_a_rate_far_below_its_constant_part_keeps_its_digits():
    limited, _ = space().hold_at_limit(0, {2: -1e15}, space().to_coordinates(X))
    y = np.concatenate([[1234.5678, 1e-14], limited.to_coordinates(X)[2:]])
    free = limited.opened.convert(y, limited)
    np.testing.assert_allclose(free[:3], [1234.5678, 10.0, 1e-14], rtol=1e-11)


def test_a_law_of_ones_own_is_searched_as_it_is():
    def mine(t, tau, p):
        return p[0] + p[1] * t + p[2] * t**2

    s = space(model=replace(STATIC, transport=mine))
    assert s.model_in_coordinates.transport is mine
    np.testing.assert_array_equal(s.to_coordinates(X[:3]), X[:3])
    np.testing.assert_array_equal(s.to_parameters(X[:3]), X[:3])
    assert s.first_law_out_of_bounds(X[:3] * 1e9) is None


@pytest.mark.parametrize("rate", [50.0, 2e3, 3e5])
def test_a_constant_rate_is_within_its_limits(rate):
    s = space(model=STATIC)
    x = s.to_parameters(np.array([rate, 0.0, 0.0]))
    assert s.first_law_out_of_bounds(x) == (0 if rate > 2e5 else None)
    assert x[0] + x[2] == pytest.approx(rate)


@pytest.mark.parametrize("index", [0, 2])
@pytest.mark.parametrize("exponent", [-1.4, 0.02])
def test_where_the_rate_vanishes_at_tau_its_exponent_keeps_a_size(index, exponent):
    """Away from tau the rate varies all the same; without a size no step would change it."""
    free = space()
    value = 1e5 if index == 0 else -1e5
    limited, _ = free.hold_at_limit(0, {index: value}, free.to_coordinates(X))
    law = {0: [exponent, 1e-10], 2: [1e-10, exponent]}[index]
    y = np.concatenate([law, limited.to_coordinates(X)[2:]])
    assert limited.sizes(y)[law.index(exponent)] == pytest.approx(min(1.0, abs(exponent)))
