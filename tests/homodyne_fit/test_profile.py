"""Profiles against SciPy's least squares with the parameter held."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from scipy.optimize import least_squares

from homodyne_fit.errors import InputError
from homodyne_fit.fitting.fit import FitSettings, fit
from homodyne_fit.fitting.options import AntiDegeneracy, SearchOptions
from homodyne_fit.fitting.profile import Profile, profile
from homodyne_fit.model.rates import STATIC
from homodyne_fit.report.figures import plot_profile

pytestmark = pytest.mark.numerics

EACH = AntiDegeneracy(per_angle_mode="individual")


# Standard errors from the minimum: close enough to compare digits with SciPy.
TIGHT = 1e-6


@pytest.fixture(scope="module")
def decaying(measure):
    """Data, settings and fit: two angles, a full decay, D0 and alpha free."""
    m = measure((6000.0, -0.4, 0.0), n=40, phi=(0.0, 90.0), noise=0.01)
    settings = FitSettings(
        model=STATIC,
        fixed={"D_offset": 0.0},
        search=SearchOptions(
            constant_parts="free", anti_degeneracy=EACH, tolerance=TIGHT, uncertainty="white"
        ),
    )
    return m, settings, fit(m.data, settings)


@pytest.fixture(scope="module")
def of_alpha(decaying):
    m, settings, result = decaying
    return profile(m.data, settings, result, "alpha", n=7)


@pytest.fixture(scope="module")
def constant(measure):
    """A constant J, of which the data cannot tell the parts."""
    m = measure((4000.0, 0.0, 0.0), n=40, phi=(0.0, 90.0), noise=0.005)
    settings = FitSettings(
        model=STATIC,
        fixed={"alpha": 0.0},
        bounds={"D0": (10.0, 2e4)},
        search=SearchOptions(constant_parts="free", anti_degeneracy=EACH, uncertainty="white"),
    )
    return m, settings, fit(m.data, settings)


def test_costs_are_those_of_scipy_with_the_parameter_held(decaying, of_alpha, numpy_c2):
    m, _, result = decaying
    i, j = np.triu_indices(m.n, 1)
    for k, alpha in enumerate(of_alpha.values):

        def residual(u, alpha=alpha):
            x = (1e4 * u[0], alpha, 0.0)
            c2 = numpy_c2(x, u[1:3], u[3:], q=m.q, phi=m.phi, gap=m.gap, dt=m.dt, n=m.n)
            return (c2 - m.data.c2)[:, i, j].ravel()

        start = [0.6, *m.contrast, *m.offset]
        oracle = least_squares(residual, start, ftol=1e-15, xtol=1e-15, gtol=1e-15)
        assert of_alpha.cost[k] == pytest.approx(oracle.cost, rel=1e-9)
        rise = 2 * (oracle.cost - result.cost) / result.noise**2
        assert of_alpha.delta_chi2[k] == pytest.approx(rise, abs=1e-4)
        error = result.parameters["D0"].stderr
        assert of_alpha.parameters["D0"][k] == pytest.approx(1e4 * oracle.x[0], abs=1e-2 * error)
        np.testing.assert_allclose(of_alpha.contrast[k], oracle.x[1:3], atol=1e-4)
        np.testing.assert_allclose(of_alpha.offset[k], oracle.x[3:], atol=1e-4)


@pytest.mark.parametrize("mode", ["hierarchical", "auto"])
def test_a_learned_spread_is_held_and_counts(measure, numpy_c2, mode):
    contrast = np.array([0.25, 0.28, 0.31, 0.27])
    phi = (0.0, 45.0, 90.0, 135.0)
    m = measure((6000.0, -0.4, 0.0), n=30, phi=phi, noise=0.02)
    c2 = m.data.c2 - np.asarray(m.offset)[:, None, None]
    c2 *= (contrast / m.contrast)[:, None, None]
    data = replace(m.data, c2=c2 + np.asarray(m.offset)[:, None, None])
    settings = FitSettings(
        model=STATIC,
        fixed={"D_offset": 0.0},
        search=SearchOptions(
            constant_parts="free",
            anti_degeneracy=AntiDegeneracy(per_angle_mode=mode),
            tolerance=TIGHT,
            uncertainty="white",
        ),
    )
    result = fit(data, settings)
    weights = result.objective.scaling.penalty_weights
    assert min(weights) > 0
    i, j = np.triu_indices(m.n, 1)

    def total(alpha):
        """Least cost at this alpha, the penalty included, by SciPy."""

        def residual(u):
            x = (1e4 * u[0], alpha, 0.0)
            c2 = numpy_c2(x, u[1:5], u[5:], q=m.q, phi=m.phi, gap=m.gap, dt=m.dt, n=m.n)
            deviations = [
                np.sqrt(w) * (part - part.mean())
                for w, part in zip(weights, (u[1:5], u[5:]), strict=True)
            ]
            return np.concatenate([(c2 - data.c2)[:, i, j].ravel(), *deviations])

        start = [0.6, *contrast, *m.offset]
        return least_squares(residual, start, ftol=1e-15, xtol=1e-15, gtol=1e-15).cost

    found = profile(data, settings, result, "alpha", n=5, span=2.0)
    least = total(result.parameters["alpha"].value)
    # The errors allow for other spreads than the most probable one; the cost does not.
    widening = result.uncertainty.of(result.names.index("alpha"))
    assert 1 < widening < 1.1
    scale = (result.noise * widening) ** 2
    expected = [2 * (total(alpha) - least) / scale for alpha in found.values]
    np.testing.assert_allclose(found.delta_chi2, expected, atol=1e-3)
    np.testing.assert_allclose(found.delta_chi2, [4, 1, 0, 1, 4], rtol=0.2, atol=1e-9)


def test_the_best_fit_is_among_the_values(decaying, of_alpha):
    estimate = decaying[2].parameters["alpha"]
    assert of_alpha.best == estimate.value
    np.testing.assert_allclose(
        (of_alpha.values - estimate.value) / estimate.stderr, np.arange(-3, 4), atol=1e-9
    )
    assert of_alpha.delta_chi2[3] == 0.0
    assert np.all(np.delete(of_alpha.delta_chi2, 3) > 0)
    np.testing.assert_array_equal(of_alpha.parameters["alpha"], of_alpha.values)
    assert np.all(of_alpha.success)


def test_where_the_cost_is_a_parabola_the_interval_is_the_standard_error(decaying, of_alpha):
    estimate = decaying[2].parameters["alpha"]
    # 68.27 % is one standard error, 95.45 % are two.
    for level, errors in ((0.6827, 1), (0.9545, 2)):
        low, high = of_alpha.interval(level)
        assert (estimate.value - low) / estimate.stderr == pytest.approx(errors, rel=0.05)
        assert (high - estimate.value) / estimate.stderr == pytest.approx(errors, rel=0.05)
    with pytest.raises(InputError, match="between 0 and 1"):
        of_alpha.interval(68.0)


def test_a_profile_that_does_not_close(constant):
    m, settings, result = constant
    assert np.isinf(result.parameters["D0"].stderr)
    found = profile(m.data, settings, result, "D0", n=5)
    # Across the bounds, which span more than a factor of 100: in equal ratios.
    assert found.values[0] == pytest.approx(10.0)
    assert found.values[-1] == pytest.approx(2e4)
    assert found.best in found.values
    assert np.all(np.abs(found.delta_chi2) < 1e-3)
    total = found.parameters["D0"] + found.parameters["D_offset"]
    np.testing.assert_allclose(total, total[0], rtol=1e-3)
    assert found.interval() == (None, None)


def test_at_a_bound_only_one_side_is_left(measure):
    m = measure((6000.0, -0.4, 0.0), n=40, phi=(0.0, 90.0), noise=0.01)
    settings = FitSettings(
        model=STATIC,
        fixed={"D_offset": 0.0, "alpha": -0.4},
        bounds={"D0": (4000.0, 5800.0)},
        search=SearchOptions(constant_parts="free", anti_degeneracy=EACH, uncertainty="white"),
    )
    result = fit(m.data, settings)
    assert result.parameters["D0"].at_bound
    found = profile(m.data, settings, result, "D0", n=7)
    np.testing.assert_allclose(found.values, np.linspace(4000.0, 5800.0, 7))
    low, high = found.interval()
    assert low < 5800.0
    assert high is None


def test_values_may_be_given_in_any_order(decaying, of_alpha):
    m, settings, result = decaying
    values = of_alpha.values[[5, 1]]
    found = profile(m.data, settings, result, "alpha", values)
    np.testing.assert_array_equal(found.values, values[::-1])
    np.testing.assert_allclose(found.delta_chi2, of_alpha.delta_chi2[[1, 5]], atol=1e-4)


def test_fits_that_did_not_converge_close_nothing(of_alpha):
    success = of_alpha.success.copy()
    success[4:] = False
    low, high = replace(of_alpha, success=success).interval()
    assert low == of_alpha.interval()[0]
    assert high is None


def test_the_alias_of_the_shear_rate(measure):
    m = measure(n=40, noise=0.01)
    settings = FitSettings(
        gap=m.gap,
        fixed={"D_offset": 150.0, "gamma_dot_t_offset": 5e-5},
        search=SearchOptions(constant_parts="free", anti_degeneracy=EACH, uncertainty="white"),
    )
    result = fit(m.data, settings)
    found = profile(m.data, settings, result, "gamma_dot_0", n=3, span=1.0)
    assert found.name == "gamma_dot_t0"
    # One standard error away chi-squared rises by one.
    np.testing.assert_allclose(found.delta_chi2, [1.0, 0.0, 1.0], rtol=0.1)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("alfa", None, "has no parameter 'alfa' .did you mean 'alpha'"),
        ("D_offset", None, "D_offset is fixed"),
        ("alpha", [0.0, np.nan], "values.1: a finite number is needed"),
        ("alpha", [0.0, np.complex128(1)], "values.1: a number is needed"),
        ("alpha", np.ma.array([0.0, 1.0], mask=[0, 1]), "values.1: a number is needed .got a mask"),
        ("alpha", [], "values: at least one value is needed"),
    ],
)
def test_what_cannot_be_profiled(decaying, name, values, message):
    m, settings, result = decaying
    with pytest.raises(InputError, match=message):
        profile(m.data, settings, result, name, values)


def test_figure(of_alpha):
    before = dict(mpl.rcParams)
    for one in (of_alpha, replace(of_alpha, success=np.zeros(7, bool))):
        (axes,) = plot_profile(one).axes
        assert axes.get_xlabel() == "alpha"
        drawn = np.concatenate([line.get_ydata() for line in axes.lines[1:3]])
        np.testing.assert_array_equal(np.sort(drawn), np.sort(one.delta_chi2))
    assert dict(mpl.rcParams) == before
    assert isinstance(one, Profile)
