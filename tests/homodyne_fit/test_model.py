import gc
import pickle
import subprocess
import sys
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homodyne_fit as hf
from homodyne_fit.model.rates import (
    LAMINAR_FLOW,
    OWN_LAWS,
    RATE_FLOOR,
    STATIC,
    Model,
    curves,
    decay,
    on_offset,
    rates,
    value_and_slope,
)

pytestmark = pytest.mark.numerics

POWER_LAWS = st.tuples(st.floats(100, 1e4), st.floats(-1.5, 1.5), st.floats(-500, 500))


def test_parameter_order():
    assert STATIC.parameters == ("D0", "alpha", "D_offset")
    assert LAMINAR_FLOW.parameters == (
        *STATIC.parameters,
        "gamma_dot_t0",
        "beta",
        "gamma_dot_t_offset",
        "phi0",
    )


@settings(max_examples=20)
@given(POWER_LAWS, st.sampled_from([0.01, 0.5, 3.0]))
def test_integral_is_the_trapezoid_rule_with_its_floor_and_its_first_point(p, dt):
    n = 40
    t = np.arange(n) * dt
    t[0] = dt / 2
    rate = np.maximum(p[0] * t ** p[1] + p[2], 1e-10)
    expected = [0.0]
    for i in range(1, n):
        expected.append(expected[-1] + (rate[i] + rate[i - 1]) / 2 * dt)
    result = curves(STATIC, p, dt, n)
    np.testing.assert_allclose(result.transport, expected, rtol=1e-12)


def test_jacobian_of_the_integrals_by_finite_differences():
    params = np.array([1500.0, -0.3, 200.0, 3e-4, 0.4, 2e-5, 2.0])

    def both(p):
        c = curves(LAMINAR_FLOW, p, 0.1, 50)
        return c.transport, c.shear

    result = curves(LAMINAR_FLOW, params, 0.1, 50)
    for i in range(6):
        step = 1e-5 * max(abs(params[i]), 1e-3 if i % 3 == 1 else 0)
        up, down = params.copy(), params.copy()
        up[i] += step
        down[i] -= step
        which = i // 3
        numeric = (both(up)[which] - both(down)[which]) / (2 * step)
        exact = (result.transport_jacobian, result.shear_jacobian)[which][:, i % 3]
        np.testing.assert_allclose(exact, numeric, rtol=1e-6, atol=1e-7 * np.abs(exact).max())


@pytest.mark.parametrize("exponent", [-2.0, -0.3, -1e-2, -1e-3, 0.0, 1e-9, 1e-2, 0.7, 2.0])
def test_value_and_slope_is_the_box_cox_form(exponent):
    t, tau, r, s = 3.7, 12.0, 2000.0, 150.0

    def exact(p):
        ratio = mpmath.mpf(t) / tau
        return r + s * (mpmath.log(ratio) if p == 0 else (ratio**p - 1) / p)

    def value(p):
        return value_and_slope(jnp.array([t]), tau, [r, s, p])[0]

    with mpmath.workdps(40):
        expected = float(exact(mpmath.mpf(exponent)))
        h = mpmath.mpf(10) ** -12
        slope = float((exact(exponent + h) - exact(exponent - h)) / (2 * h))
    model = Model("coordinates", value_and_slope, STATIC.parameters)
    values, jacobian = rates(model, [r, s, exponent], [t], tau, 0.1)
    assert values[0, 0] == pytest.approx(expected, rel=1e-13)
    assert jacobian[0, 0, 2] == pytest.approx(slope, rel=1e-11)
    with jax.enable_x64(True):
        assert float(value(exponent)) == pytest.approx(expected, rel=1e-13)
        assert float(jax.grad(value)(exponent)) == pytest.approx(slope, rel=1e-11)


@settings(max_examples=50)
@given(
    st.sampled_from(list(OWN_LAWS)),
    st.tuples(
        st.floats(-1e3, 1e3),
        st.floats(-2.0, 2.0) | st.floats(-1e-2, 1e-2),
        st.floats(-2.0, 2.0) | st.floats(-1e-2, 1e-2),
    ),
)
def test_derivatives_of_every_form_are_those_of_jax(law, p):
    tau, times = 12.0, np.geomspace(0.05, 24.0, 9)
    values, jacobian = rates(Model("one", law, STATIC.parameters), p, times, tau, 0.1)

    def floored(p):
        found = law(jnp.asarray(times), tau, p)
        return jnp.where(found < RATE_FLOOR, RATE_FLOOR, found)

    with jax.enable_x64(True):
        # The constant of the law cancels digits of its varying part.
        rounding = 1e-12 * (1 + np.abs(np.asarray(p)).max())
        np.testing.assert_allclose(values[0], floored(jnp.array(p)), rtol=1e-12, atol=rounding)
        expected = jax.jacfwd(floored)(jnp.array(p))
        size = np.abs(expected).max(axis=0) + rounding
        # Rounding decides on which side of the floor a rate next to it is.
        same_side = (values[0] == RATE_FLOOR) == (floored(jnp.array(p)) == RATE_FLOOR)
        assert np.all((np.abs(jacobian[0] - expected) <= 1e-11 * size)[same_side])


def test_a_rate_far_below_its_constant_part_keeps_its_digits():
    r, exponent, offset, t, tau = 1234.5678, 1e-14, -1e15, 3.7, 12.0
    model = Model("coordinates", on_offset, STATIC.parameters)
    values, jacobian = rates(model, [r, exponent, offset], [t], tau, 0.1)
    with mpmath.workdps(40):
        ratio, amplitude = mpmath.mpf(t) / tau, mpmath.mpf(r) - offset
        power = ratio**exponent
        value = offset + amplitude * power
        slopes = power, amplitude * power * mpmath.log(ratio), 1 - power
        assert values[0, 0] == pytest.approx(float(value), rel=1e-12)
        np.testing.assert_allclose(jacobian[0, 0], [float(s) for s in slopes], rtol=1e-12)


def test_where_a_rate_is_at_its_floor_nothing_changes_it():
    values, jacobian = rates(STATIC, [1.0, 0.0, -2.0], [0.5, 1.0], 1.0, 0.1)
    np.testing.assert_array_equal(values[0], RATE_FLOOR)
    np.testing.assert_array_equal(jacobian[0], 0.0)


def test_stacked_parameters_give_stacked_curves():
    params = np.array([[1500.0, -0.3, 200.0, 3e-4, 0.4, 2e-5, 2.0], [-1.0, 0, 0, 1, 1, 1, 0]])
    stacked = curves(LAMINAR_FLOW, params, 0.1, 50)
    for i, p in enumerate(params):
        alone = curves(LAMINAR_FLOW, p, 0.1, 50)
        for name, value in vars(alone).items():
            np.testing.assert_array_equal(getattr(stacked, name)[i], value)


def test_value_and_slope_is_the_power_law_in_other_coordinates():
    p0, p1, p2, tau = 800.0, -0.4, 300.0, 5.0
    t = np.geomspace(0.05, 10, 30)
    a = p0 * tau**p1
    with jax.enable_x64(True):
        form = value_and_slope(jnp.asarray(t), tau, [a + p2, a * p1, p1])
    np.testing.assert_allclose(form, p0 * t**p1 + p2, rtol=1e-12)


def test_nan_parameters_stay_nan():
    result = curves(STATIC, [np.nan, 0.0, 0.0], 0.1, 5)
    assert np.all(np.isnan(result.transport[1:]))
    assert np.all(np.isnan(result.transport_jacobian[1:, 1]))


@pytest.mark.parametrize("law", OWN_LAWS)
def test_parameters_far_beyond_all_bounds_give_what_is_not_finite(law):
    result = curves(Model("one", law, STATIC.parameters), [1e4, 2e3, 2e3], 1.0, 60)
    assert not np.isfinite(result.transport).all()
    assert not np.isfinite(result.transport_jacobian).all()


def test_rates_at_zero_are_those_at_half_a_frame():
    values, jacobian = rates(LAMINAR_FLOW, [100.0, -1.0, 0, 1e-3, -1.0, 0, 0], [0.0, 0.1], 1.0, 0.2)
    np.testing.assert_allclose(values, [[1000.0, 1000.0], [1e-2, 1e-2]])
    assert jacobian.shape == (2, 2, 7)


def test_rates_without_flow():
    values, _ = rates(STATIC, [100.0, 1.0, 5.0], [2.0], 1.0, 0.1)
    np.testing.assert_allclose(values, [[205.0], [0.0]])


@pytest.mark.parametrize("n_parameters", [3, 7])
def test_decay_is_the_formula(numpy_c2, n_parameters):
    params = np.array([1500.0, -0.3, 200.0, 3e-4, 0.4, 2e-5, 2.0])[:n_parameters]
    model = LAMINAR_FLOW if n_parameters == 7 else STATIC
    geometry = {"dt": 0.1, "gap": 2e6}
    expected = numpy_c2(params, [1.0], [0.0], q=[0.0054], phi=[30.0], n=40, **geometry)[0]
    result = decay(model, params, 0.1, 40, 0.0054, 30.0, 2e6)
    np.testing.assert_allclose(result, expected, rtol=1e-11, atol=1e-14)


def test_homodyne_form_is_the_fourth_power_at_another_rate():
    params = np.array([1500.0, 0.0, 0.0, 3e-4, 0.0, 0.0, 0.0])
    f = decay(LAMINAR_FLOW, params, 0.1, 30, 0.0054, 0.0, 2e6, 4, 0.5 / np.pi)
    lag = np.abs(np.subtract.outer(np.arange(30), np.arange(30))) * 0.1
    x = 0.0054 * 2e6 * 3e-4 * lag / (2 * np.pi)
    np.testing.assert_allclose(
        f, np.exp(-(0.0054**2) * 1500 * lag) * np.sinc(x / np.pi) ** 4, rtol=1e-9
    )


class Instrument:
    """A law with a state, which cannot be hashed."""

    __hash__: Any = None

    def __init__(self):
        self.gain, self.table = 1.0, np.ones(2_000_000)

    def __eq__(self, other):
        return True

    def __call__(self, t, tau, p):
        return self.gain * (p[0] + p[1] * t + p[2] * t**2) * jnp.asarray(self.table[:1])[0]

    def law(self, t, tau, p):
        return self(t, tau, p)


@pytest.mark.parametrize("take", [lambda i: i, lambda i: i.law], ids=["object", "method"])
def test_a_law_whose_object_has_changed_is_another_law(take):
    instrument = Instrument()
    model = Model("mine", take(instrument), ("a", "b", "c"))
    params, times = [1.0, 2.0, 3.0], np.array([0.5, 1.0, 2.0])
    value = 1 + 2 * times + 3 * times**2
    for gain in (1.0, 4.0, 1.0):
        instrument.gain = gain
        values, jacobian = rates(model, params, times, 1.0, 0.1)
        np.testing.assert_allclose(values[0], gain * value, rtol=1e-14)
        np.testing.assert_allclose(
            jacobian[0], gain * np.stack([np.ones(3), times, times**2], axis=1), rtol=1e-14
        )


def test_what_a_law_refers_to_is_let_go():
    instrument = Instrument()
    watched = weakref.ref(instrument), weakref.ref(instrument.table)
    rates(Model("mine", instrument.law, ("a", "b", "c")), [1.0, 2.0, 3.0], [0.5], 1.0, 0.1)
    del instrument
    gc.collect()
    assert [reference() for reference in watched] == [None, None]


def test_a_model_of_a_law_without_hash_has_one():
    model = Model("mine", Instrument(), ("a", "b", "c"))
    assert {model: 1}[model] == 1
    assert model.for_one_fit().transport.__name__ == "Instrument"  # result.h5 tells it
    assert hash(LAMINAR_FLOW) != hash(STATIC)


def test_a_fit_sees_what_its_model_reads_now(small):
    """Twice the rate for the same prefactor: half the prefactor."""
    instrument = Instrument()
    model = Model("mine", instrument.law, STATIC.parameters)
    chosen = {"model": model, "fixed": {"D_offset": 1e5}, "initial": {"D0": 1e3, "alpha": 0.5}}
    bounds = {"D0": (-1e6, 1e6), "alpha": (-1e6, 1e6)}
    found = []
    for gain in (1.0, 2.0):
        instrument.gain = gain
        chosen["fixed"] = {"D_offset": 1e5 / gain}
        result = hf.fit(small, **chosen, bounds=bounds, multi_start=False)
        found.append([result.parameters[name].value for name in ("D0", "alpha")])
    np.testing.assert_allclose(found[1], np.array(found[0]) / 2, rtol=1e-4)


def test_a_fit_compiles_a_law_of_its_caller_once(small):
    """Not at every evaluation: each of the two programs traces the law for value and derivative."""
    traces = []

    def law(t, tau, p):
        traces.append(t)
        return p[0] * t ** p[1] + p[2]

    model = Model("mine", law, STATIC.parameters)
    hf.fit(small, model, fixed={"D_offset": 0.0})
    assert len(traces) <= 4


def test_a_law_of_a_user_may_be_constant():
    model = Model("constant", lambda t, tau, p: 2 * p[0], ("a",))
    values, jacobian = rates(model, [3.0], [0.5, 1.0], 1.0, 0.1)
    np.testing.assert_array_equal(values[0], 6.0)
    np.testing.assert_array_equal(jacobian[0], 2.0)


def linear_law(t, tau, p):
    return p[0] + p[1] * t


def test_a_model_of_a_fit_can_be_sent_to_another_process():
    model = Model("linear", linear_law, ("a", "b")).for_one_fit()
    assert model == Model("linear", linear_law, ("a", "b"))
    rates(model, [1.0, 2.0], [0.5], 1.0, 0.1)
    sent = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(rates(sent, [1.0, 2.0], [0.5], 1.0, 0.1)[0][0], 2.0)
    assert pickle.loads(pickle.dumps(STATIC)).for_one_fit().transport is STATIC.transport


def test_power_laws_do_without_jax():
    code = (
        "import sys\n"
        "from homodyne_fit.model.rates import LAMINAR_FLOW, OWN_LAWS, curves, replace\n"
        "for law in OWN_LAWS:\n"
        "    model = replace(LAMINAR_FLOW, transport=law, shear_rate=law).for_one_fit()\n"
        "    curves(model, [1.0, 0.5, 2.0, 1.0, 0.5, 2.0, 0.0], 0.1, 20)\n"
        "assert 'jax' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
