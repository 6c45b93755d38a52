from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.errors import InputError
from homodyne_fit.fitting.fit import FitSettings, fit
from homodyne_fit.fitting.options import AntiDegeneracy, MultiStart, SearchOptions
from homodyne_fit.fitting.problem import search_space, two_time_objective
from homodyne_fit.fitting.search import samples
from homodyne_fit.fitting.search.minimum import find_minimum
from homodyne_fit.fitting.search.samples import make_samples
from homodyne_fit.fitting.search.solution import SearchPoint
from homodyne_fit.kernel.stored_chunks import chunks_of
from homodyne_fit.model.rates import STATIC

pytestmark = pytest.mark.numerics

MEASURED = Path(__file__).parents[3] / "shared" / "data" / "bnl_c2_350.npy"

STATIC_TRUTH = (1500.0, -0.4, 300.0)


# Standard errors from the minimum: close enough to compare digits with SciPy.
TIGHT = 1e-6


def settings_for(m, per_angle_mode="individual", multi_start=True, **given):
    options = {name: given.pop(name) for name in SearchOptions.model_fields if name in given}
    return FitSettings(
        search=SearchOptions(
            constant_parts="free",
            anti_degeneracy=AntiDegeneracy(per_angle_mode=per_angle_mode),
            multi_start=MultiStart(enable=multi_start),
            # The errors of SciPy's fits are those of independent points.
            **{"tolerance": TIGHT, "uncertainty": "white", **options},
        ),
        **{"gap": m.gap} if len(m.params) == 7 else {"model": STATIC},
        **given,
    )


def scipy_fit(m, numpy_c2, start, bounds=(-np.inf, np.inf), free=None):
    """All parameters at once over the points t1 < t2 in memory: values and standard errors."""
    k, p = len(m.phi), len(m.params)
    i, j = np.triu_indices(m.n, 1)
    measured = m.data.c2[:, i, j].astype(float)
    counted = np.isfinite(measured)
    free = np.ones(p + 2 * k, bool) if free is None else free
    full = np.concatenate([start, m.contrast, m.offset])

    def residual(u):
        x = full.copy()
        x[free] = u * scale
        c2 = numpy_c2(x[:p], x[p : p + k], x[p + k :], q=m.q, phi=m.phi, gap=m.gap, dt=m.dt, n=m.n)
        return (c2[:, i, j] - measured)[counted]

    scale = np.maximum(np.abs(full[free]), 1e-3)
    result = least_squares(
        residual,
        full[free] / scale,
        jac="3-point",
        bounds=tuple(np.broadcast_to(b, free.sum()) / scale for b in bounds),
        x_scale="jac",
        ftol=1e-15,
        xtol=1e-15,
        gtol=1e-15,
    )
    variance = 2 * result.cost / (len(result.fun) - free.sum())
    covariance = np.linalg.inv(result.jac.T @ result.jac) * variance
    return result.x * scale, np.sqrt(np.diag(covariance)) * scale, result.cost


def everything(result):
    estimates = [*result.parameters.values(), *result.contrast, *result.offset]
    return np.array([e.value for e in estimates]), np.array([e.stderr for e in estimates])


@pytest.mark.parametrize("truth", [None, STATIC_TRUTH], ids=["laminar_flow", "static"])
def test_values_and_errors_are_those_of_scipy_on_the_same_points(measure, numpy_c2, truth):
    m = measure() if truth is None else measure(truth)
    result = fit(m.data, settings_for(m))
    assert result.success
    values, errors = everything(result)
    expected, expected_errors, cost = scipy_fit(m, numpy_c2, m.params)
    assert result.cost == pytest.approx(cost, rel=1e-12)
    assert np.max(np.abs(values - expected) / expected_errors) < 1e-3
    np.testing.assert_allclose(errors, expected_errors, rtol=1e-3)


def test_single_precision_moves_the_answer_by_little(measure):
    m = measure()
    values, errors = everything(fit(m.data, settings_for(m)))
    single = fit(m.data, settings_for(m, tolerance=1e-3, precision="single"))
    assert single.success
    moved, like = everything(single)
    assert single.objective.precision == "single"
    # D0 and D_offset can nearly stand in for one another here.
    assert np.max(np.abs(moved - values) / errors) < 0.05
    np.testing.assert_allclose(like, errors, rtol=5e-2)


def test_missing_points_are_left_out(measure, numpy_c2):
    m = measure()
    c2 = m.data.c2.copy()
    rng = np.random.default_rng(5)
    c2[rng.random(c2.shape) < 0.2] = np.nan
    c2[1, 40, :] = np.nan
    m.data = TwoTimeData(c2, m.phi, m.q, m.dt, "gaps")
    result = fit(m.data, settings_for(m))
    assert result.n_points == np.isfinite(c2[:, *np.triu_indices(m.n, 1)]).sum()
    values, _ = everything(result)
    expected, errors, _ = scipy_fit(m, numpy_c2, m.params)
    assert np.max(np.abs(values - expected) / errors) < 1e-3


def test_fixed_parameters_and_box_limits_as_in_scipy(measure, numpy_c2):
    m = measure()
    start = m.params.copy()
    start[2], start[5] = 0.0, 0.0
    # The fit would like a larger exponent and a larger contrast than these.
    limits = {"beta": (-2.0, 0.3), "contrast": (0.0, 0.32)}
    fixed = {"D_offset": 0.0, "gamma_dot_t_offset": 0.0}
    result = fit(m.data, settings_for(m, fixed=fixed, bounds=limits))
    assert result.success
    values, errors = everything(result)
    free = np.ones(13, bool)
    free[[2, 5]] = False
    lower, upper = np.full(13, -np.inf), np.full(13, np.inf)
    upper[4], upper[7:10] = 0.3, 0.32
    start[4], m.contrast = 0.29, np.minimum(m.contrast, 0.31)
    expected, _, cost = scipy_fit(m, numpy_c2, start, (lower[free], upper[free]), free)
    assert result.cost == pytest.approx(cost, rel=1e-7)
    np.testing.assert_allclose(values[free], expected, rtol=1e-3, atol=1e-6)
    assert result.parameters["D_offset"].fixed
    assert np.isnan(errors[2])
    on_limit = np.isclose(values, upper, rtol=1e-12)
    assert on_limit[4] or on_limit[7:10].any()
    at_bound = [e.at_bound for e in (*result.parameters.values(), *result.contrast)]
    np.testing.assert_array_equal(at_bound, on_limit[:10])


@pytest.mark.skipif(not MEASURED.exists(), reason="the shared data are not here")
def test_of_several_minima_on_a_limit_the_lowest_is_found_as_by_scipy():
    # On D0 = 1e5 there are minima near alpha = -0.01 and, higher by 41 in chi-squared, -0.9.
    c2 = np.load(MEASURED)
    result = fit(
        TwoTimeData(c2[None], np.zeros(1), np.array([0.0054]), 1.0, "measured"),
        FitSettings(model=STATIC, bounds={"D0": (100.0, 1e5), "D_offset": (-1e5, 1e5)}),
    )
    i, j = np.triu_indices(len(c2), 1)
    times = np.maximum(np.arange(len(c2), dtype=float), 0.5)

    def residuals(x):
        rate = 1e5 * times ** x[0] + 1e5 * x[1]
        integral = np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2)])
        decay = np.exp(-(0.0054**2) * (integral[j] - integral[i]))
        columns = np.stack([decay, np.ones_like(decay)], axis=1)
        return columns @ np.linalg.lstsq(columns, c2[i, j])[0] - c2[i, j]

    best = min(
        least_squares(residuals, start, x_scale=[0.01, 0.01]).cost
        for start in ([-0.011, -0.927], [-0.9, 0.0056])
    )
    assert result.success
    assert result.parameters["D0"].value == 1e5
    assert result.cost == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("sampled", [False, True])
def test_limits_of_a_prefactor_hold_as_in_scipy(measure, numpy_c2, monkeypatch, sampled):
    # Two chunks; without its limits the search ends elsewhere on one of them.
    m = measure(STATIC_TRUTH, n=130, noise=0.01)
    if sampled:
        monkeypatch.setattr(samples, "SAMPLE_SHARE", 2)
    limits = {"D0": (100.0, 1100.0)}
    result = fit(m.data, settings_for(m, bounds=limits))
    values, _ = everything(result)
    assert result.success
    assert result.parameters["D0"].value == 1100.0
    assert result.parameters["D0"].at_bound
    free = np.ones(9, bool)
    free[0] = False
    start = np.array([1100.0, -0.4, 300.0])
    expected, errors, cost = scipy_fit(m, numpy_c2, start, free=free)
    assert result.cost == pytest.approx(cost, rel=1e-12)
    assert np.max(np.abs(values[1:] - expected) / errors) < 1e-3


def test_an_exponent_at_its_limit_is_the_parameter_that_is_flagged(measure):
    m = measure(STATIC_TRUTH)
    result = fit(m.data, settings_for(m, bounds={"alpha": (-0.2, 0.5)}))
    flagged = [name for name, estimate in result.parameters.items() if estimate.at_bound]
    assert flagged == ["alpha"]
    assert result.parameters["alpha"].value == -0.2
    assert np.isnan(result.parameters["alpha"].stderr)


def test_a_rate_is_determined_where_its_parameters_are_not(measure):
    # With the exponent fixed at 0 only the sum of prefactor and offset matters.
    m = measure((2000.0, 0.0, 0.0), noise=0.005)
    result = fit(m.data, settings_for(m, fixed={"alpha": 0.0}))
    assert np.isinf(result.parameters["D0"].stderr)
    (j,), (error,) = result.J(5.0)
    assert 0 < error < 100
    assert abs(j - 2000) < 4 * error


def test_an_infinite_entry_is_a_missing_point(measure):
    m = measure(STATIC_TRUTH)
    c2 = m.data.c2.copy()
    c2[0, 3, 40] = np.inf
    data = TwoTimeData(c2, m.phi, m.q, m.dt, "one infinite entry")
    result = fit(data, settings_for(m))
    assert result.success
    assert result.n_points == fit(m.data, settings_for(m)).n_points - 1


@pytest.mark.parametrize("phi0", [-70.0, -40.0, 55.0])
def test_any_flow_direction_is_found_where_the_limits_allow_it(measure, phi0):
    truth = (1200.0, -0.4, 150.0, 4e-4, 0.25, 5e-5, phi0)
    m = measure(truth, n=65, noise=0.01)
    result = fit(m.data, settings_for(m, bounds={"phi0": (-90.0, 90.0)}))
    at_truth = dict(zip(result.parameters, truth, strict=True))
    home = fit(
        m.data,
        settings_for(m, initial=at_truth, bounds={"phi0": (-90.0, 90.0)}, multi_start=False),
    )
    assert result.cost <= home.cost * (1 + 1e-6)


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_a_start_half_off_comes_home(measure, factor):
    m = measure(n=201)
    names = ("D0", "alpha", "D_offset", "gamma_dot_t0", "beta", "gamma_dot_t_offset", "phi0")
    start = dict(zip(names, m.params * factor, strict=True))
    result = fit(m.data, settings_for(m, initial=start))
    assert result.success
    assert result.cost < result.info.cost_initial
    values, errors = everything(result)
    truth = np.concatenate([m.params, m.contrast, m.offset])
    assert np.all(np.abs(values - truth) < 4 * errors)
    assert not np.any(values[:7] == m.params * factor)


def test_without_multi_start_the_given_start_is_followed(measure):
    m = measure()
    searched = fit(m.data, settings_for(m))
    start = dict(zip(searched.parameters, m.params, strict=True))
    direct = fit(m.data, settings_for(m, initial=start, multi_start=False))
    assert direct.info.passes < searched.info.passes
    assert "multi_start" not in direct.info.layers
    np.testing.assert_allclose(
        everything(direct)[0], everything(searched)[0], atol=1e-3 * np.max(everything(direct)[1])
    )


def test_not_converged_is_said(measure):
    m = measure()
    result = fit(m.data, settings_for(m, max_nfev=1, multi_start=False))
    assert not result.success
    assert "without converging" in result.info.message
    assert np.all(np.isfinite(result.values))


def test_the_executor_does_not_change_a_bit(measure):
    m = measure(n=200)
    with ThreadPoolExecutor(3) as three:
        results = [
            fit(m.data, settings_for(m), executor=three),
            fit(m.data, settings_for(m, threads=1)),
            fit(m.data, settings_for(m, threads=2)),
        ]
    for result in results[1:]:
        np.testing.assert_array_equal(everything(result)[0], everything(results[0])[0])
        np.testing.assert_array_equal(result.root, results[0].root)


@settings(max_examples=4)
@given(st.permutations(range(4)))
def test_order_of_the_angles_changes_nothing(order):
    m = _four_angles
    order = list(order)
    data = TwoTimeData(m.data.c2[order], m.phi[order], m.q[order], m.dt, "permuted")
    result, base = fit(data, settings_for(m)), _four_angles_fit
    errors = np.array([e.stderr for e in base.parameters.values()])
    assert np.all(np.abs(result.values - base.values) < 1e-3 * errors)
    for k, place in enumerate(order):
        assert result.contrast[k].value == pytest.approx(base.contrast[place].value, rel=1e-5)


@pytest.fixture(autouse=True, scope="module")
def _shared(measure):
    global _four_angles, _four_angles_fit
    _four_angles = measure(n=80, phi=(0.0, 40.0, 80.0, 120.0))
    _four_angles_fit = fit(_four_angles.data, settings_for(_four_angles))


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_contrast_follows_the_scale_of_the_data(factor):
    m = _four_angles
    offset = m.offset[:, None, None]
    data = TwoTimeData(offset + factor * (m.data.c2 - offset), m.phi, m.q, m.dt, "scaled")
    result = fit(data, settings_for(m, bounds={"contrast": (0.0, 2.0)}))
    errors = np.array([e.stderr for e in _four_angles_fit.parameters.values()])
    assert np.all(np.abs(result.values - _four_angles_fit.values) < 2e-3 * errors)
    for scaled, base in zip(result.contrast, _four_angles_fit.contrast, strict=True):
        assert scaled.value == pytest.approx(factor * base.value, rel=1e-5)


def test_turning_all_angles_turns_phi0():
    m = _four_angles
    data = TwoTimeData(m.data.c2, m.phi + 4.0, m.q, m.dt, "turned")
    result = fit(data, settings_for(m))
    base = _four_angles_fit
    errors = np.array([e.stderr for e in base.parameters.values()])
    shift = np.array([0, 0, 0, 0, 0, 0, 4.0])
    assert np.all(np.abs(result.values - base.values - shift) < 1e-3 * errors)


def test_averaged_scaling_is_one_pair_for_all(measure, numpy_c2):
    m = measure()
    result = fit(m.data, settings_for(m, per_angle_mode="averaged"))
    assert len({e.value for e in result.contrast}) == 1
    assert len({e.value for e in result.offset}) == 1


def test_j_and_shear_rate_are_determined_where_the_power_laws_are_not(measure):
    # A constant rate: prefactor, exponent and offset cannot be told apart.
    m = measure((2000.0, 0.0, 0.0, 4e-4, 0.0, 0.0, 3.0), noise=0.01)
    result = fit(m.data, settings_for(m))
    assert result.success
    middle = result.space.tau
    (j,), (j_error,) = result.J(middle)
    (rate,), (rate_error,) = result.gamma_dot(middle)
    assert j_error < 0.05 * j
    assert abs(j - 2000) < 4 * j_error
    assert rate_error < 0.05 * rate
    assert abs(rate - 4e-4) < 4 * rate_error


def test_progress_is_reported(measure):
    m, seen = measure(n=150), []
    result = fit(m.data, settings_for(m), progress=seen.append)
    assert {"compiling the model", "all points", "global search"} <= {step.stage for step in seen}
    passes = [step.passes for step in seen if step.passes is not None]
    assert passes == sorted(passes)
    assert passes[-1] == pytest.approx(result.info.passes)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gap": None}, "gap: no value is given: laminar_flow needs the gap, in Å"),
        ({"gap": 1e6, "initial": {"D00": 1.0}}, "no parameter 'D00' .did you mean 'D0'"),
        (
            {"gap": 1e6, "bounds": {"D0": (2.0, 1.0)}},
            "bounds.D0: the lower bound, 2, is not below the upper, 1",
        ),
        ({"gap": 1e6, "shear": "other"}, "shear: must be 'documented' or 'homodyne'"),
        (
            {"gap": 1e6, "search": {"precision": "half"}},
            "search.precision: must be 'double' or 'single'",
        ),
        ({"gap": 1e6, "search": {"tolerance": -1.0}}, "search.tolerance: must be greater than 0"),
        ({"gap": 1e6, "search": {"threads": 0}}, "search.threads: must be greater than 0"),
        (
            {"gap": 1e6, "fixed": {"contrast": 0.1}},
            "fixed.contrast: .* cannot be held fixed; narrow",
        ),
        ({"gap": 1e6, "fixed": {"alpha": float("nan")}}, "fixed.alpha: a finite number"),
        ({"gap": 1e6, "bounds": {"D0": (1.0, float("inf"))}}, "bounds.D0.1: a finite number"),
        ({"model": STATIC, "fixed": {"phi0": 0.0}}, "static has no parameter 'phi0'"),
    ],
)
def test_bad_settings(given, message):
    with pytest.raises(InputError, match=message):
        FitSettings(**given)


def test_a_start_outside_its_bounds_is_an_error(measure):
    m = measure()
    with pytest.raises(InputError, match="the start of phi0, 30, is outside its bounds"):
        fit(m.data, settings_for(m, initial={"phi0": 30.0}))


@pytest.mark.parametrize("c2", [1.0, -1.0], ids=["constant", "growing with lag"])
def test_data_without_a_decay_are_not_called_fitted(c2):
    lag = np.abs(np.subtract.outer(np.arange(40.0), np.arange(40.0)))
    matrix = np.ones((40, 40)) if c2 > 0 else 1.0 - 0.3 * np.exp(-lag / 5)
    data = TwoTimeData(matrix[None], np.zeros(1), np.full(1, 0.0054), 0.1, "no decay")
    result = fit(data, FitSettings(model=STATIC))
    assert not result.success
    assert "no decay" in result.info.message


def test_fewer_points_than_unknowns_is_an_error():
    c2 = np.ones((3, 3, 3))
    data = TwoTimeData(c2, np.arange(3.0), np.full(3, 0.0054), 0.1, "small")
    with pytest.raises(InputError, match="small: 9 points cannot determine 11 unknowns"):
        fit(data, FitSettings(gap=2e6))


def test_the_alias_of_the_shear_rate():
    given = FitSettings(gap=1e6, initial={"gamma_dot_0": 1e-3})
    assert given.initial == {"gamma_dot_t0": 1e-3}


@pytest.mark.parametrize("noise", [0.05, 0.02])
def test_a_parameter_held_at_a_limit_is_let_go_where_the_cost_falls_inwards(measure, noise):
    # With D0 at its upper limit the other two stand in for it, all but a little.
    m = measure(STATIC_TRUTH, noise=noise)
    given = settings_for(m, tolerance=0.3)
    best = fit(m.data, given)
    with ThreadPoolExecutor(1) as threads:
        space = search_space(m.data, given)
        objective = two_time_objective(m.data, given, space)
        samples = make_samples(m.data, chunks_of(m.data, None), threads, given.search.max_nfev)
        y = space.to_coordinates(np.array(STATIC_TRUTH))
        limited, starts = space.hold_at_limit(0, {0: 1e5}, y)
        for start in starts:
            minimum = find_minimum(
                objective,
                SearchPoint(limited, start),
                samples.all_points,
                samples.smallest,
                tolerance=0.3,
            )
            assert not minimum.space.held
            assert minimum.result.state.cost == pytest.approx(best.cost, rel=1e-3)
