"""Each layer alone, on small data, against SciPy on all points in memory."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.errors import InputError
from homodyne_fit.fitting import found
from homodyne_fit.fitting.fit import FitSettings, fit
from homodyne_fit.fitting.layers.build import build_layers
from homodyne_fit.fitting.options import AntiDegeneracy, Constant, MultiStart, SearchOptions
from homodyne_fit.fitting.score_noise import noise_of_points
from homodyne_fit.fitting.search import samples
from homodyne_fit.progress import not_told

pytestmark = pytest.mark.numerics

NAMES = ("D0", "alpha", "D_offset", "gamma_dot_t0", "beta", "gamma_dot_t_offset", "phi0")
ANGLES = (0.0, 36.0, 72.0, 108.0, 144.0)
# Held, so that a least-squares fit of few frames is well conditioned.
FIXED = ("D_offset", "gamma_dot_t_offset")
SEARCHED = np.array([name not in FIXED for name in NAMES])
LAYERS_OFF = {"hierarchical": {"enable": False}, "gradient_monitoring": {"enable": False}}


# Standard errors from the minimum: close enough to compare digits with SciPy.
TIGHT = 1e-6


@pytest.fixture(scope="module")
def spread_measurement(measure, numpy_c2):
    """Data of a given spread of contrast and offset, relative to their mean."""

    def make(contrast, offset, seed=0, n=61, phi=ANGLES, noise=0.02):
        m = measure(n=n, phi=phi, noise=noise, seed=seed)
        given = {"q": m.q, "phi": m.phi, "gap": m.gap, "dt": m.dt, "n": n}
        white = m.data.c2 - numpy_c2(m.params, m.contrast, m.offset, **given)
        rng = np.random.default_rng([seed, 7])
        m.contrast = 0.3 * (1 + contrast * rng.normal(size=len(phi)))
        m.offset = 1.0 + offset * rng.normal(size=len(phi))
        clean = numpy_c2(m.params, m.contrast, m.offset, **given)
        m.data = TwoTimeData(clean + white, m.phi, m.q, m.dt, "a spread")
        return m

    return make


@pytest.fixture(scope="module")
def spread_out(spread_measurement):
    return spread_measurement(0.1, 0.02)


def settings_for(
    m, mode="individual", *, start=None, multi_start=False, bounds=None, fixed=FIXED, **layers
):
    """From the truth unless told otherwise; every layer off that is not asked for."""
    return FitSettings(
        gap=m.gap,
        initial=dict(zip(NAMES, m.params if start is None else start, strict=True)),
        fixed={name: m.params[NAMES.index(name)] for name in fixed},
        bounds=bounds or {},
        search=SearchOptions(
            constant_parts="free",
            multi_start=MultiStart(enable=multi_start),
            anti_degeneracy=AntiDegeneracy(per_angle_mode=mode, **{**LAYERS_OFF, **layers}),
            threads=1,
            tolerance=TIGHT,
            # The errors of SciPy's fits are those of independent points.
            uncertainty="white",
        ),
    )


@pytest.fixture(scope="module")
def alike(spread_measurement):
    return spread_measurement(0.0, 0.0)


@pytest.fixture(scope="module")
def free_pairs(spread_out):
    """Values and errors of a fit with a pair for each angle, freely."""
    return estimates(fit(spread_out.data, settings_for(spread_out)))


def estimates(result):
    every = [*result.parameters.values(), *result.contrast, *result.offset]
    return np.array([e.value for e in every]), np.array([e.stderr for e in every])


def penalty_in(result):
    """λ of contrast and offset in the penalty that the fit used, from its curvature."""
    curvature = result.objective.scaling.penalty
    k = len(result.contrast)
    off_diagonal = -k * np.array([curvature[0, 1], curvature[k, k + 1]])
    return off_diagonal


class Dense:
    """Residuals of all points t1 < t2, of the physics and a linear map to the scaling."""

    def __init__(self, m, numpy_c2, matrix=None, constant=None, weights=None):
        self.m, self.c2, self.k = m, numpy_c2, len(m.phi)
        self.matrix = np.eye(2 * self.k) if matrix is None else matrix
        self.constant = np.zeros(2 * self.k) if constant is None else constant
        self.i, self.j = np.triu_indices(m.n, 1)
        w = np.ones(self.k) if weights is None else weights
        self.root = np.repeat(np.sqrt(w), len(self.i))

    def physics(self, u):
        full = self.m.params.copy()
        full[SEARCHED] = u[:5]
        return full

    def points(self, u):
        m, k = self.m, self.k
        v = self.constant + self.matrix @ u[5:]
        c2 = self.c2(self.physics(u), v[:k], v[k:], q=m.q, phi=m.phi, gap=m.gap, dt=m.dt, n=m.n)
        return (c2 - m.data.c2)[:, self.i, self.j].ravel()

    def penalty_rows(self, u, weights):
        contrast, offset = np.split(self.matrix @ u[5:], 2)
        return np.concatenate(
            [
                np.sqrt(weight) * (part - part.mean())
                for weight, part in zip(weights, (contrast, offset), strict=True)
            ]
        )

    def solve(self, z, penalty=(0.0, 0.0)):
        """Physics and scaling, their standard errors, the sum of squares and the Jacobian."""
        start = np.concatenate([self.m.params[SEARCHED], z])
        scale = np.maximum(np.abs(start), 1e-3)

        def residual(u):
            u = u * scale
            return np.concatenate([self.root * self.points(u), self.penalty_rows(u, penalty)])

        found = least_squares(
            residual,
            start / scale,
            jac="3-point",
            x_scale="jac",
            xtol=1e-12,
            ftol=1e-13,
            gtol=1e-13,
        )
        u, jacobian = found.x * scale, found.jac / scale
        squares = np.sum(self.points(u) ** 2)
        variance = squares / (len(self.root) - len(u))
        to_all = np.zeros((7 + 2 * self.k, len(u)))
        to_all[:7, :5], to_all[7:, 5:] = np.eye(7)[:, SEARCHED], self.matrix
        # By QR of unit columns: the covariance of the parameters spans many decades.
        size = np.linalg.norm(jacobian, axis=0)
        triangle = np.linalg.qr(jacobian / size, mode="r")
        errors = np.linalg.norm(to_all / size @ np.linalg.inv(triangle), axis=1) * np.sqrt(variance)
        values = np.concatenate([self.physics(u), self.constant + self.matrix @ u[5:]])
        return values, errors, squares, jacobian, variance


def assert_within(values, expected, errors, tolerance):
    """In standard errors."""
    free = np.isfinite(errors) & (errors > 0)
    deviation = np.abs(values - expected)[free] / errors[free]
    assert np.max(deviation) < tolerance


def assert_same_errors(result, expected, rtol=2e-3):
    errors = estimates(result)[1]
    np.testing.assert_allclose(
        errors[np.isfinite(errors)], expected[np.isfinite(errors)], rtol=rtol
    )


# Layer 1: the scaling modes.


def test_individual_is_without_effect_and_says_so(spread_out):
    layers = fit(spread_out.data, settings_for(spread_out)).info.layers
    assert set(layers) == {"reparametrization"}
    assert layers["reparametrization"]["effect"].startswith("none: ")


def test_layers_that_are_on_are_listed(spread_out):
    m = spread_out
    result = fit(
        m.data,
        settings_for(
            m,
            "hierarchical",
            multi_start=True,
            hierarchical={"enable": True},
            gradient_monitoring={"enable": True},
            shear_weighting={"enable": True},
        ),
    )
    assert set(result.info.layers) == {
        "multi_start",
        "reparametrization",
        "hierarchical",
        "regularization",
        "gradient_monitoring",
        "shear_weighting",
    }
    assert all(layer["effect"] for layer in result.info.layers.values())
    assert result.info.layers["gradient_monitoring"]["effect"].startswith("none: ")


def test_averaged_is_scipy_with_one_pair(spread_out, numpy_c2):
    m = spread_out
    result = fit(m.data, settings_for(m, "averaged"))
    matrix = np.kron(np.eye(2), np.ones((5, 1)))
    values, errors, *_ = Dense(m, numpy_c2, matrix).solve(np.array([0.3, 1.0]))
    assert_within(estimates(result)[0], values, errors, 2e-3)
    assert_same_errors(result, errors)


def test_one_pair_at_its_limit_is_flagged_at_every_angle(alike):
    m = alike
    result = fit(m.data, settings_for(m, "averaged", bounds={"contrast": (0.0, 0.25)}))
    assert [e.value for e in result.contrast] == [0.25] * 5
    assert all(e.at_bound and np.isnan(e.stderr) for e in result.contrast)
    assert not any(e.at_bound for e in result.offset)


def test_fourier_is_scipy_with_the_series_as_parameters(spread_out, numpy_c2):
    m = spread_out
    result = fit(m.data, settings_for(m, "fourier", fourier_order=1))
    phi = np.radians(m.phi)
    series = np.column_stack([np.ones(5), np.cos(phi), np.sin(phi)])
    values, errors, *_ = Dense(m, numpy_c2, np.kron(np.eye(2), series)).solve(
        np.array([0.3, 0, 0, 1.0, 0, 0])
    )
    assert_within(estimates(result)[0], values, errors, 2e-3)
    assert_same_errors(result, errors)


@pytest.mark.parametrize("each", [True, False])
def test_constant_holds_the_values_given(spread_out, numpy_c2, each):
    m = spread_out
    held = np.concatenate([m.contrast, m.offset]) if each else np.repeat([0.29, 1.001], 5)
    given = {"contrast": held[:5].tolist(), "offset": held[5:].tolist()}
    if not each:
        given = {"contrast": 0.29, "offset": 1.001}
    result = fit(m.data, settings_for(m, "constant", constant=given))
    values, errors, *_ = Dense(m, numpy_c2, np.zeros((10, 0)), held).solve(np.zeros(0))
    assert_within(estimates(result)[0][:7], values[:7], errors[:7], 2e-3)
    assert_same_errors(result, errors)
    np.testing.assert_array_equal(estimates(result)[0][7:], held)
    assert all(e.fixed and np.isnan(e.stderr) for e in (*result.contrast, *result.offset))


def test_constant_values_that_do_not_fit_the_data_are_errors(spread_out):
    m = spread_out
    with pytest.raises(InputError, match="constant.contrast: 2 values for 5 angles"):
        fit(m.data, settings_for(m, "constant", constant={"contrast": [0.1, 0.2]}))
    with pytest.raises(InputError, match="constant.offset: .* is not within the bounds"):
        fit(m.data, settings_for(m, "constant", constant={"offset": 7.0}))


def test_sequential_holds_what_each_angle_gives_alone(spread_out, numpy_c2):
    m = spread_out
    result = fit(m.data, settings_for(m, "sequential"))
    values, _ = estimates(result)
    for k in range(5):
        one = fit(
            TwoTimeData(m.data.c2[[k]], m.phi[[k]], m.q[[k]], m.dt, "one angle"), settings_for(m)
        )
        for mine, alone in (
            (result.contrast[k], one.contrast[0]),
            (result.offset[k], one.offset[0]),
        ):
            # The fits of single angles stop within 0.3 standard errors of their minimum.
            assert abs(mine.value - alone.value) < 0.3 * alone.stderr
    expected, errors, *_ = Dense(m, numpy_c2, np.zeros((10, 0)), values[7:]).solve(np.zeros(0))
    assert_within(values[:7], expected[:7], errors[:7], 2e-3)


# Auto.


def test_auto_keeps_one_pair_where_the_angles_do_not_differ(spread_measurement):
    far = []
    for seed in range(4):
        m = spread_measurement(0.0, 0.0, seed=seed)
        result, averaged = (fit(m.data, settings_for(m, mode)) for mode in ("auto", "averaged"))
        (values, _), (expected, errors) = estimates(result), estimates(averaged)
        far.append(np.nanmax(np.abs(values - expected)[:7] / errors[:7]))
        if result.objective.scaling.mode == "auto: averaged":
            assert_within(values, expected, errors, 1e-2)
            assert "keep one shared pair" in result.info.layers["reparametrization"]["effect"]
    # A spread that seems to be there by chance moves the physics within its errors.
    assert np.max(far) < 1.0
    assert np.median(far) < 0.5


def test_auto_goes_on_to_shrunk_pairs_where_the_angles_differ(spread_out):
    m = spread_out
    result, shrunk = (fit(m.data, settings_for(m, mode)) for mode in ("auto", "hierarchical"))
    (values, _), (expected, errors) = estimates(result), estimates(shrunk)
    assert_within(values, expected, errors, 0.1)
    assert_same_errors(result, errors, 0.05)
    said = result.info.layers["reparametrization"]
    assert "the angles differ" in said["effect"]
    assert said["test"]["noise_found"]["degrees_of_freedom"] == 8


def test_the_noise_is_found_once_at_a_solution(spread_out, monkeypatch):
    solutions = []

    def counting(solution, *given):
        solutions.append(solution)
        return noise_of_points(solution, *given)

    monkeypatch.setattr(found, "noise_of_points", counting)
    result = fit(spread_out.data, FitSettings(gap=spread_out.gap))
    assert result.info.layers["reparametrization"]["test"]["noise_found"] is not None
    assert len(solutions) == len({id(solution) for solution in solutions})


def test_auto_without_regularization_goes_on_to_free_pairs(spread_out, free_pairs):
    m = spread_out
    result = fit(m.data, settings_for(m, "auto", regularization={"enable": False}))
    expected, errors = free_pairs
    assert_within(estimates(result)[0], expected, errors, 2e-3)
    assert "regularization" not in result.info.layers


@pytest.mark.parametrize("method", ["l2", "cv"])
def test_auto_goes_on_to_the_penalty_that_was_asked_for(spread_out, method):
    m, chosen = spread_out, {"enable": True, "mode": method, "lambda": 3.0}
    result, expected = (
        fit(m.data, settings_for(m, mode, regularization=chosen)) for mode in ("auto", "individual")
    )
    values, errors = estimates(expected)
    assert_within(estimates(result)[0], values, errors, 5e-3)
    np.testing.assert_allclose(penalty_in(result), penalty_in(expected), rtol=5e-3)


# Layer 2.


def test_stages_lower_the_cost_of_the_sample_from_a_poor_start(spread_out, free_pairs):
    m = spread_out
    poor = m.params * [3.0, 1.0, 1.0, 0.3, 1.0, 1.0, 1.0]
    staged = fit(m.data, settings_for(m, start=poor, hierarchical={"enable": True}))
    said = staged.info.layers["hierarchical"]
    assert said["cost_after"] < 0.5 * said["cost_before"]
    assert said["evaluations"] > 1
    assert said["effect"].startswith("physics alone lowered the cost")
    expected, errors = free_pairs
    assert_within(estimates(staged)[0], expected, errors, 2e-3)


def test_stages_are_left_out_where_nothing_but_physics_is_fitted(spread_out):
    result = fit(
        spread_out.data, settings_for(spread_out, "constant", hierarchical={"enable": True})
    )
    assert "hierarchical" not in result.info.layers


# Layer 3.


def test_hierarchical_is_scipy_with_the_learned_penalty(spread_out, numpy_c2):
    m = spread_out
    result = fit(m.data, settings_for(m, "hierarchical"))
    said = result.info.layers["regularization"]
    weights = penalty_in(result)
    # The weights reported may be those of the next, needless, revision.
    np.testing.assert_allclose(list(said["weights"].values()), weights, rtol=0.05)
    np.testing.assert_allclose(
        list(said["spread"].values()), result.noise / np.sqrt(weights), rtol=0.05
    )
    values, errors, *_ = Dense(m, numpy_c2).solve(np.concatenate([m.contrast, m.offset]), weights)
    assert_within(estimates(result)[0], values, errors, 2e-3)
    assert_same_errors(result, errors)


@pytest.mark.parametrize("weight", [0.5, 30.0])
def test_l2_is_scipy_with_the_penalty_as_more_residuals(spread_out, numpy_c2, weight):
    m = spread_out
    given = {"enable": True, "mode": "l2", "lambda": weight}
    result = fit(m.data, settings_for(m, regularization=given))
    np.testing.assert_allclose(penalty_in(result), [weight, 0.0], rtol=1e-9, atol=1e-9)
    values, errors, *_ = Dense(m, numpy_c2).solve(
        np.concatenate([m.contrast, m.offset]), (weight, 0.0)
    )
    assert_within(estimates(result)[0], values, errors, 2e-3)
    assert_same_errors(result, errors)


def test_l2_reaches_from_free_pairs_to_one_contrast(spread_out, free_pairs):
    m = spread_out
    weak, strong = (
        fit(m.data, settings_for(m, regularization={"enable": True, "mode": "l2", "lambda": w}))
        for w in (1e-6, 1e8)
    )
    assert_within(estimates(weak)[0], *free_pairs, 2e-3)
    assert np.ptp([e.value for e in strong.contrast]) < 1e-6
    assert np.ptp([e.value for e in strong.offset]) > 1e-3


def cv_weights(result, strength):
    k = len(result.contrast)
    values, _ = estimates(result)
    means = values[7:].reshape(2, k).mean(axis=1)
    return strength * 2 * result.cost / (k * means**2)


def test_cv_is_its_definition_at_the_solution(spread_out, numpy_c2):
    m, strength = spread_out, 10.0
    given = {"enable": True, "mode": "cv", "lambda": strength}
    result = fit(m.data, settings_for(m, regularization=given))
    weights = penalty_in(result)
    np.testing.assert_allclose(weights, cv_weights(result, strength), rtol=2e-3)
    values, errors, squares, *_ = Dense(m, numpy_c2).solve(
        np.concatenate([m.contrast, m.offset]), weights
    )
    assert_within(estimates(result)[0], values, errors, 2e-3)
    assert 2 * result.cost == pytest.approx(squares, rel=1e-6)


@pytest.mark.parametrize("method", ["cv", "evidence"])
def test_weights_settled_on_a_sample_follow_all_points(spread_measurement, monkeypatch, method):
    monkeypatch.setattr(samples, "SAMPLE_SHARE", 3)
    m = spread_measurement(0.1, 0.02, n=385)
    given = {"enable": True, "mode": method, "lambda": 10.0}
    seen = set()
    result = fit(
        m.data,
        settings_for(m, "hierarchical", regularization=given),
        progress=lambda step: seen.add(step.stage),
    )
    assert "a sample of the points" in seen
    if method == "cv":
        np.testing.assert_allclose(penalty_in(result), cv_weights(result, 10.0), rtol=2e-3)
    else:
        monkeypatch.undo()
        values, errors = estimates(fit(m.data, settings_for(m, "hierarchical")))
        assert_within(estimates(result)[0], values, errors, 0.02)


def test_regularization_has_no_effect_where_nothing_can_spread(spread_out):
    m = spread_out
    result = fit(m.data, settings_for(m, "averaged", regularization={"enable": True}))
    assert result.info.layers["regularization"]["effect"].startswith("none: ")


# Layer 4. With this transport every correlation is gone within a frame: the cost is flat.
FAST = np.array([1.9e7, 0.0, 150.0, 4e-4, 0.25, 5e-5, 3.0])
VAST = {"D0": (100.0, 1e10)}


def monitored(m, start=FAST, progress=not_told, **given):
    return fit(
        m.data,
        settings_for(m, start=start, bounds=VAST, gradient_monitoring={"enable": True, **given}),
        progress=progress,
    )


def test_a_collapsed_search_is_restarted(spread_out):
    m = spread_out
    lost = fit(m.data, settings_for(m, start=FAST, bounds=VAST))
    assert not lost.success
    assert "no physical parameter has an effect" in lost.info.message
    result = monitored(m)
    said = result.info.layers["gradient_monitoring"]
    assert 1 <= said["restarts"] <= 3
    assert [event["response"] for event in said["events"]] == ["restart"] * said["restarts"]
    assert result.success
    expected, errors = estimates(fit(m.data, settings_for(m, bounds=VAST)))
    assert_within(estimates(result)[0], expected, errors, 2e-3)
    again = monitored(m)
    np.testing.assert_array_equal(estimates(again)[0], estimates(result)[0])
    assert again.info.layers["gradient_monitoring"] == said


def test_the_seed_decides_where_a_restart_goes(spread_out):
    ways = set()
    for seed in range(3):
        costs = []
        monitored(spread_out, seed=seed, progress=lambda step, to=costs: to.append(step.cost))
        ways.add(tuple(costs))
    assert len(ways) == 3


def test_warn_only_records(spread_out):
    m = spread_out
    result, lost = (
        monitored(m, response="warn"),
        fit(m.data, settings_for(m, start=FAST, bounds=VAST)),
    )
    np.testing.assert_array_equal(estimates(result)[0], estimates(lost)[0])
    said = result.info.layers["gradient_monitoring"]
    assert said["restarts"] == 0
    assert {event["response"] for event in said["events"]} == {"warn"}


def test_abort_ends_the_fit_without_success(spread_out):
    result = monitored(spread_out, response="abort")
    assert not result.success
    assert "the gradient monitor ended the fit: the physics has no effect" in result.info.message
    # In any mode: no layer goes on with another objective after that.
    given = {"enable": True, "response": "abort", "ratio_threshold": 1e9, "consecutive_triggers": 2}
    for mode in ("hierarchical", "auto"):
        m = spread_out
        result = fit(m.data, settings_for(m, mode, start=m.params * 1.3, gradient_monitoring=given))
        assert not result.success
        assert "the gradient monitor ended the fit: gradient ratio" in result.info.message
        assert len(result.info.layers["gradient_monitoring"]["events"]) == 1


@pytest.mark.parametrize("allowed", [0, 2])
def test_restarts_are_bounded(spread_out, allowed):
    """A threshold that any step is below: every search is broken off, until none are left."""
    m = spread_out
    result = monitored(
        m,
        m.params * 1.3,
        ratio_threshold=1e9,
        consecutive_triggers=2,
        max_restarts=allowed,
    )
    said = result.info.layers["gradient_monitoring"]
    assert said["restarts"] == allowed
    assert said["events"][-1]["response"] == "none: restarts used up"
    assert np.all(np.isfinite(estimates(result)[0]))


@pytest.mark.parametrize("mode", ["individual", "hierarchical", "auto"])
def test_healthy_data_raise_no_event(spread_out, mode):
    m = spread_out
    for multi_start in (True, False):
        given = {"enable": True}
        result = fit(
            m.data,
            settings_for(
                m, mode, start=m.params * 1.2, multi_start=multi_start, gradient_monitoring=given
            ),
        )
        assert result.info.layers["gradient_monitoring"]["events"] == []
        assert result.info.layers["gradient_monitoring"]["checks"] > 0


# Layer 5.


def weights_by_formula(phi0, phi, low, power):
    weights = low + (1 - low) * np.abs(np.cos(np.radians(phi0 - phi))) ** power
    return weights / np.mean(weights)


@pytest.mark.parametrize(("low", "power"), [(0.3, 1.0), (0.05, 3.0)])
def test_shear_weights_follow_the_direction_of_flow(spread_out, numpy_c2, low, power):
    m = spread_out
    start = m.params.copy()
    start[-1] = -9.0
    shear = {"enable": True, "min_weight": low, "alpha": power}
    result = fit(m.data, settings_for(m, start=start, shear_weighting=shear))
    said = result.info.layers["shear_weighting"]
    phi0 = result.parameters["phi0"].value
    assert said["refreshed"] >= 1
    assert np.mean(said["weights"]) == pytest.approx(1.0, rel=1e-12)
    np.testing.assert_array_equal(said["weights"], result.objective.weights)
    # Weights are refreshed when the direction has moved by 0.1°.
    near = [weights_by_formula(phi0 + d, m.phi, low, power) for d in (-0.1, 0.1)]
    assert np.all(np.abs(said["weights"] - np.mean(near, axis=0)) <= np.abs(near[1] - near[0]))

    weights = np.array(said["weights"])
    dense = Dense(m, numpy_c2, weights=weights)
    values, _, _, jacobian, variance = dense.solve(np.concatenate([m.contrast, m.offset]))
    jacobian = jacobian[:-10]
    size = np.linalg.norm(jacobian, axis=0)
    scaled = jacobian / size
    inverse = np.linalg.inv(scaled.T @ scaled)
    meat = (scaled * np.repeat(weights, len(dense.i))[:, None]).T @ scaled
    errors = np.full(17, np.nan)
    searched = np.concatenate([SEARCHED, np.ones(10, dtype=bool)])
    errors[searched] = np.sqrt(np.diag(inverse @ meat @ inverse) * variance) / size
    assert_within(estimates(result)[0], values, errors, 2e-3)
    assert_same_errors(result, errors)


def test_auto_weights_the_angles_on_samples_and_counts_them_alike_at_the_end(
    spread_measurement, monkeypatch
):
    monkeypatch.setattr(samples, "SAMPLE_SHARE", 3)
    m = spread_measurement(0.1, 0.02, n=385)
    start = m.params.copy()
    start[-1] = -9.0

    def fitted(**shear):
        return fit(m.data, settings_for(m, "auto", start=start, shear_weighting=shear))

    released, without, kept = fitted(), fitted(enable=False), fitted(enable=True)
    assert "shear_weighting" not in without.info.layers
    said = released.info.layers["shear_weighting"]
    assert not said["kept"]
    assert said["refreshed"] >= 1
    assert "in the search on samples" in said["effect"]
    assert np.ptp(said["weights"]) > 0.1
    assert kept.info.layers["shear_weighting"]["kept"]
    assert np.ptp(kept.objective.weights) > 0.1
    np.testing.assert_array_equal(released.objective.weights, np.ones(5))
    assert released.info.cost_initial == without.info.cost_initial
    values, errors = estimates(without)
    assert_within(estimates(released)[0], values, errors, 0.02)


def test_weights_of_a_search_that_has_no_sample_have_no_effect(spread_out):
    m = spread_out
    result = fit(m.data, settings_for(m, "auto"))
    assert result.info.layers["shear_weighting"]["effect"].startswith("none after the screening")
    np.testing.assert_array_equal(result.objective.weights, np.ones(5))


def test_errors_of_a_weighted_fit_are_its_scatter(spread_measurement):
    shear, results = {"enable": True, "min_weight": 0.05, "alpha": 3.0}, []
    for seed in range(30):
        m = spread_measurement(0.0, 0.0, seed=seed, phi=(0.0, 30.0, 60.0, 90.0))
        results.append(
            fit(
                m.data,
                settings_for(
                    m, "constant", shear_weighting=shear, constant={"contrast": 0.3, "offset": 1.0}
                ),
            )
        )
    scores = [
        [
            (result.J(3.0)[0][0] - 1200 * 3.0**-0.4 - 150) / result.J(3.0)[1][0],
            (result.gamma_dot(3.0)[0][0] - 4e-4 * 3.0**0.25 - 5e-5) / result.gamma_dot(3.0)[1][0],
            (result.parameters["phi0"].value - 3.0) / result.parameters["phi0"].stderr,
        ]
        for result in results
    ]
    # The standard deviation of 30 numbers is good to 13 %: three times that.
    np.testing.assert_allclose(np.sqrt(np.mean(np.square(scores), axis=0)), 1.0, atol=0.39)


def test_shear_weights_without_effect_say_so(measure):
    m = measure(n=61, phi=(-42.0, 48.0))
    start = m.params.copy()
    result = fit(
        m.data,
        FitSettings(
            gap=m.gap,
            initial=dict(zip(NAMES, start, strict=True)),
            fixed={"phi0": 3.0, "D_offset": 0.0, "gamma_dot_t_offset": 0.0},
            search=SearchOptions(
                multi_start=MultiStart(enable=False),
                anti_degeneracy=AntiDegeneracy(
                    per_angle_mode="individual", **LAYERS_OFF, shear_weighting={"enable": True}
                ),
            ),
        ),
    )
    assert result.info.layers["shear_weighting"]["effect"].startswith("none: ")


def test_values_to_hold_matter_to_the_mode_that_holds_them_alone(measure):
    data = measure(n=20).data
    contrast = [0.3, 0.4]  # of three angles
    for mode in ("auto", "individual", "averaged"):
        options = AntiDegeneracy(per_angle_mode=mode, constant=Constant(contrast=contrast))
        build_layers(
            data, FitSettings(gap=2e6, search=SearchOptions(anti_degeneracy=options)), np.zeros(7)
        )
    options = AntiDegeneracy(per_angle_mode="constant", constant=Constant(contrast=contrast))
    with pytest.raises(InputError, match="contrast: 2 values for 3 angles; give one value, or"):
        build_layers(
            data, FitSettings(gap=2e6, search=SearchOptions(anti_degeneracy=options)), np.zeros(7)
        )
