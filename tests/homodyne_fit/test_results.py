import json
from dataclasses import replace

import numpy as np
import pytest

from homodyne_fit.fitting.fit import FitSettings, fit
from homodyne_fit.fitting.options import AntiDegeneracy, SearchOptions
from homodyne_fit.fitting.result import Estimate
from homodyne_fit.model.rates import STATIC
from homodyne_fit.results.record import FitRecord

pytestmark = pytest.mark.numerics

OFFSETS = {"D_offset": 150.0, "gamma_dot_t_offset": 5e-5}
INDIVIDUAL = AntiDegeneracy(per_angle_mode="individual")
TIMES = np.array([0.0, 0.1, 1.0, 5.0, 9.0])


@pytest.fixture(scope="module")
def measured(measure):
    return measure(n=81)


@pytest.fixture(scope="module")
def free(measured):
    """All parameters free."""
    return fit(
        measured.data,
        FitSettings(
            gap=measured.gap,
            search=SearchOptions(constant_parts="free", anti_degeneracy=INDIVIDUAL),
        ),
    )


@pytest.fixture(scope="module")
def well_determined(measured):
    """The constant parts of both rates held, so that the rest is far from degenerate."""
    return fit(
        measured.data,
        FitSettings(
            gap=measured.gap,
            fixed=OFFSETS,
            search=SearchOptions(constant_parts="free", anti_degeneracy=INDIVIDUAL),
        ),
    )


@pytest.fixture(scope="module")
def at_bound(measured):
    """D0 cannot reach its value."""
    return fit(
        measured.data,
        FitSettings(
            gap=measured.gap,
            bounds={"D0": (100.0, 900.0)},
            search=SearchOptions(constant_parts="free", anti_degeneracy=INDIVIDUAL),
        ),
    )


@pytest.fixture(scope="module")
def undetermined(free):
    """As if the data knew nothing of the shear rate."""
    of_the_shear = np.isin(free.names, ["gamma_dot_t0", "beta", "gamma_dot_t_offset"])
    parameters = {
        name: replace(estimate, stderr=np.inf) if lost else estimate
        for (name, estimate), lost in zip(free.parameters.items(), of_the_shear, strict=False)
    }
    return replace(
        free,
        parameters=parameters,
        undetermined=of_the_shear,
        coordinates_null=np.eye(7)[:, of_the_shear[:7]],
    )


def recorded(result, measured):
    return FitRecord.of(result, measured.data, {})


def strict(text):
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def transport(p, t, dt):
    return p[0] * np.maximum(t, dt / 2) ** p[1] + p[2]


class TestEstimate:
    @pytest.mark.parametrize("stderr", [np.inf, np.nan])
    def test_an_error_that_is_no_number_is_null(self, stderr):
        shown = Estimate(1.5, stderr, "s", at_bound=True).to_json()
        assert shown == {
            "value": 1.5,
            "stderr": None,
            "unit": "s",
            "at_bound": True,
            "fixed": False,
        }
        assert strict(json.dumps(shown, allow_nan=False)) == shown

    def test_as_text(self):
        assert str(Estimate(1234.5678, 12.3, "Å²/s")) == "1234.57 ± 12 Å²/s"
        assert str(Estimate(1.0, np.nan, "", at_bound=True)) == "1 at bound"
        assert str(Estimate(1.0, np.nan, "°", fixed=True)) == "1 fixed °"


class TestBands:
    """Standard errors of the rates against oracles in plain NumPy."""

    def test_values_are_those_of_the_parameters(self, free, measured):
        p = free.values
        j, _ = free.J(TIMES)
        rate, _ = free.gamma_dot(TIMES)
        np.testing.assert_allclose(j, transport(p[:3], TIMES, measured.dt), rtol=1e-9)
        np.testing.assert_allclose(rate, transport(p[3:6], TIMES, measured.dt), rtol=1e-9)

    @pytest.mark.parametrize("which", ["free", "well_determined"])
    def test_errors_follow_from_the_covariance_of_the_parameters(self, which, request, measured):
        result = request.getfixturevalue(which)
        covariance = result.covariance
        for first, (_, errors) in ((0, result.J(TIMES)), (3, result.gamma_dot(TIMES))):
            law = slice(first, first + 3)
            p0, p1, _ = result.values[law]
            t = np.maximum(TIMES, measured.dt / 2)
            gradient = np.stack([t**p1, p0 * np.log(t) * t**p1, np.ones_like(t)])
            variance = np.einsum("it,ij,jt->t", gradient, covariance[law, law], gradient)
            np.testing.assert_allclose(errors, np.sqrt(variance), rtol=1e-5)

    def test_errors_are_the_spread_of_sampled_parameters(self, well_determined, measured):
        result, rng = well_determined, np.random.default_rng(1)
        moving = np.array([not e.fixed for e in result.parameters.values()])
        physics = result.covariance[:7, :7][np.ix_(moving, moving)]
        sampled = np.tile(result.values, (4000, 1))
        sampled[:, moving] = rng.multivariate_normal(result.values[moving], physics, 4000)
        for first, (_, errors) in ((0, result.J(TIMES)), (3, result.gamma_dot(TIMES))):
            curves = [transport(p[first : first + 3], TIMES, measured.dt) for p in sampled]
            # 4000 samples know a standard deviation to 1.1 %.
            np.testing.assert_allclose(np.std(curves, axis=0), errors, rtol=0.05)

    def test_truth_is_within_the_bands(self, free, measured):
        p = measured.params
        for first, (values, errors) in ((0, free.J(TIMES)), (3, free.gamma_dot(TIMES))):
            truth = transport(p[first : first + 3], TIMES, measured.dt)
            assert np.all(np.abs(values - truth)[1:] < 4 * errors[1:])

    def test_errors_are_finite_where_those_of_the_parameters_are_not(self, at_bound):
        assert at_bound.parameters["D0"].at_bound
        for values, errors in (at_bound.J(TIMES), at_bound.gamma_dot(TIMES)):
            assert np.all(np.isfinite(values))
            assert np.all((errors > 0) & np.isfinite(errors))

    def test_errors_are_infinite_where_nothing_is_known(self, undetermined):
        assert np.all(np.isinf(undetermined.gamma_dot(TIMES)[1]))
        assert np.all(np.isfinite(undetermined.J(TIMES)[1]))

    def test_static_has_no_shear(self, measure):
        m = measure((1500.0, -0.4, 300.0), n=41)
        result = fit(m.data, FitSettings(model=STATIC))
        rate, errors = result.gamma_dot(TIMES)
        assert not np.any(rate)
        assert not np.any(errors > 0)


class TestCovariance:
    def test_is_symmetric_and_its_diagonal_are_the_errors(self, free):
        covariance = free.covariance
        np.testing.assert_array_equal(covariance, covariance.T)
        estimates = [*free.parameters.values(), *free.contrast, *free.offset]
        np.testing.assert_allclose(np.sqrt(np.diag(covariance)), [e.stderr for e in estimates])
        assert free.names[:3] == ("D0", "alpha", "D_offset")
        assert free.names[7:] == tuple(
            f"{x}[{k}]" for x in ("contrast", "offset") for k in range(3)
        )

    def test_what_was_not_free_does_not_vary(self, well_determined):
        fixed = [name in OFFSETS for name in well_determined.names]
        assert not np.any(well_determined.covariance[fixed])

    def test_what_is_not_determined_varies_without_limit(self, undetermined):
        lost, covariance = undetermined.undetermined, undetermined.covariance
        assert np.all(np.isinf(covariance[lost]))
        assert np.all(np.isinf(covariance[:, lost]))
        assert np.all(np.isfinite(covariance[np.ix_(~lost, ~lost)]))


class TestCorrelation:
    def test_of_parameters_and_mean_scaling(self, well_determined):
        result = well_determined
        found = result.correlation
        moving = [name for name in result.parameters if name not in OFFSETS]
        assert found.names == (*moving, "contrast", "offset")
        # By NumPy, from the covariance of parameters and of means over the three angles.
        rows = np.zeros((len(found.names), len(result.names)))
        for row, name in zip(rows, found.names, strict=True):
            of = [n == name or n.startswith(f"{name}[") for n in result.names]
            row[of] = 1 / sum(of)
        covariance = rows @ result.covariance @ rows.T
        error = np.sqrt(np.diag(covariance))
        np.testing.assert_allclose(found.matrix, covariance / np.outer(error, error), atol=1e-9)

    def test_what_is_not_determined_has_none(self, undetermined):
        assert "beta" not in undetermined.correlation.names
        assert "D0" in undetermined.correlation.names


class TestJson:
    @pytest.mark.parametrize("which", ["free", "well_determined", "at_bound"])
    def test_holds_the_estimates(self, which, request, measured):
        result = request.getfixturevalue(which)
        found = strict(json.dumps(recorded(result, measured).to_json(), allow_nan=False))
        for name, estimate in result.parameters.items():
            shown = found["parameters"][name]
            assert shown["value"] == estimate.value
            free = not (estimate.fixed or estimate.at_bound)
            assert shown["stderr"] == (estimate.stderr if free else None)
            assert (shown["fixed"], shown["at_bound"]) == (estimate.fixed, estimate.at_bound)

    def test_what_is_not_determined_is_null(self, undetermined, measured):
        found = strict(json.dumps(recorded(undetermined, measured).to_json(), allow_nan=False))
        assert found["parameters"]["gamma_dot_t0"]["stderr"] is None
        assert not found["parameters"]["gamma_dot_t0"]["fixed"]

    def test_an_infinite_condition_number_is_null(self, free, measured):
        shown = recorded(replace(free, condition_number=np.inf), measured).to_json()
        assert shown["identifiability"]["condition_number"] is None


class TestMatrices:
    def test_the_fitted_matrix_is_the_model_at_the_solution(self, free, measured, numpy_c2):
        m = measured
        contrast, offset = ([e.value for e in each] for each in (free.contrast, free.offset))
        expected = numpy_c2(
            free.values, contrast, offset, q=m.q, phi=m.phi, gap=m.gap, dt=m.dt, n=m.n
        )
        for k in range(3):
            np.testing.assert_allclose(free.c2(k), expected[k], rtol=1e-9)
