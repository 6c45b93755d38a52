"""Numbers of the quality of a fit against direct sums, hat matrices and simulated speckles."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

import homodyne_fit as hf
from homodyne_fit.fitting.goodness import Goodness
from homodyne_fit.simulation.speckle import Experiment, two_time

pytestmark = pytest.mark.numerics

OFFSETS = {"D_offset": 150.0, "gamma_dot_t_offset": 5e-5}


@pytest.fixture(scope="module")
def fitted(measure):
    """Three angles with noise of their own, points missing, independent points assumed."""
    m = measure(n=41, noise=0.01, seed=4)
    rng = np.random.default_rng(8)
    m.data.c2[1] += np.triu(rng.normal(0.0, 0.02, (41, 41)), 1)
    m.data.c2[0, 3:7, 20:30] = np.nan
    settings = {"fixed": OFFSETS, "multi_start": False, "uncertainty": "white", "tolerance": 1e-6}
    return m, hf.fit(m.data, gap=m.gap, per_angle_mode="individual", **settings)


def points_of(data, k):
    """c2 of an angle at t1 < t2 where it was measured, and which points these are."""
    c2 = np.asarray(data.c2[k])
    known = np.triu(np.ones_like(c2, bool), 1) & np.isfinite(c2)
    return c2[known], known


def test_sums_are_those_over_the_points(fitted):
    m, result = fitted
    g = result.goodness
    for k in range(3):
        c2, known = points_of(m.data, k)
        residual = c2 - result.c2(k)[known]
        assert g.n_points[k] == len(c2)
        assert g.squares[k] == pytest.approx(residual @ residual, rel=1e-6)
        assert g.variation[k] == pytest.approx(np.sum((c2 - c2.mean()) ** 2), rel=1e-9)
        assert g.rms_of_angles[k] == pytest.approx(np.sqrt(np.mean(residual**2)), rel=1e-6)
    assert g.squares.sum() == pytest.approx(2 * result.cost, rel=1e-6)
    assert g.nrmse == pytest.approx(np.sqrt(g.squares.sum() / g.variation.sum()))


def test_what_a_fit_takes_up_is_that_of_its_hat_matrix(fitted, numpy_c2):
    m, result = fitted
    names = [name for name in result.parameters if name not in OFFSETS]
    x = np.array([result.parameters[name].value for name in names])
    scaling = np.array([e.value for e in (*result.contrast, *result.offset)])
    masks = [points_of(m.data, k)[1] for k in range(3)]

    def model(u):
        values = {**OFFSETS, **dict(zip(names, u[:5], strict=True))}
        physics = [values[name] for name in result.parameters]
        c2 = numpy_c2(physics, u[5:8], u[8:], q=m.q, phi=m.phi, gap=m.gap, dt=m.dt, n=m.n)
        return np.concatenate([c2[k][masks[k]] for k in range(3)])

    u = np.concatenate([x, scaling])
    steps = 1e-5 * np.maximum(np.abs(u), 1e-3)
    jacobian = np.stack([(model(u + s) - model(u - s)) / (2 * s.sum()) for s in np.diag(steps)], 1)
    jacobian /= np.linalg.norm(jacobian, axis=0)
    left = np.eye(len(jacobian)) - jacobian @ np.linalg.pinv(jacobian)
    # The variance of a point, from differences of neighbours in place of residuals.
    g = result.goodness
    angle = np.repeat(np.arange(3), g.n_points.astype(int))
    variances = np.array([variance_of_neighbours(m.data.c2[k] - result.c2(k)) for k in range(3)])
    expected = (left**2) @ variances[angle]
    for k in range(3):
        assert g.expected[k] == pytest.approx(expected[angle == k].sum(), rel=1e-6)
    assert g.n_free == pytest.approx(11)
    assert g.penalty == g.n_free
    # Of white noise of the same variance at all angles it is n − p.
    assert np.trace(left) == pytest.approx(g.n_points.sum() - 11)


def variance_of_neighbours(residual):
    """From mixed second differences, which have four times the variance of a point."""
    r = np.where(np.triu(np.ones_like(residual, bool), 1), residual, np.nan)
    mixed = r[:-1, :-1] - r[:-1, 1:] - r[1:, :-1] + r[1:, 1:]
    return np.nanmean(mixed**2) / 4


def test_reduced_chi_squared_is_one_of_white_noise_and_more_of_a_misfit(fitted):
    m, result = fitted
    g = result.goodness
    assert g.noise_model == "white"
    # Mixed differences of 800 points know a variance to some 8 %.
    assert g.reduced_chi2 == pytest.approx(1.0, abs=0.2)
    assert g.reduced_chi2_of_angles == pytest.approx(np.ones(3), abs=0.25)
    wrong = hf.fit(m.data, "static", multi_start=False, uncertainty="white").goodness
    assert wrong.reduced_chi2 > 1.8
    assert wrong.nrmse > 1.3 * g.nrmse


@pytest.mark.parametrize("transport", [20000.0, 3000.0])
def test_reduced_chi_squared_is_one_of_speckles_that_stay_for_long_or_not(transport):
    experiment = Experiment(
        q=0.0054, phi=[0.0, 30.0, 60.0, 90.0, 120.0, 150.0], phi0=0.0, gap=2e6, dt=0.1,
        transport=np.full(80, transport), shear_rate=np.zeros(80), pixels=600, particles=None,
        mean_counts=0.5,
    )  # fmt: skip
    c2 = two_time(experiment, seed=3)
    data = hf.TwoTimeData(c2, experiment.phi, np.full(6, 0.0054), 0.1, "speckles")
    right = hf.fit(data, "static", multi_start=False)
    g = right.goodness
    assert g.noise_model == "speckle"
    # Six angles of some tens of independent speckles: the variance itself is known to some 10 %.
    assert g.reduced_chi2 == pytest.approx(1.0, abs=0.3)
    # Parameters cost more than independent points would make them cost.
    assert g.n_free == pytest.approx(3.0)
    assert g.penalty > 2 * g.n_free
    assert g.aic == pytest.approx(g.bic + g.penalty * (2 - np.log(g.n_independent)))


def test_criteria_of_independent_points_are_those_of_gaussian_noise(fitted):
    """But for a constant, twice the free parameters less twice the largest log-likelihood."""
    g = fitted[1].goodness
    n, squares = g.n_points.sum(), g.squares.sum()
    log_likelihood = scipy.stats.norm.logpdf(0, 0, np.sqrt(squares / n)) * n - n / 2
    constant = n * (np.log(2 * np.pi) + 1)
    assert g.aic == pytest.approx(2 * 11 - 2 * log_likelihood - constant)
    assert g.bic == pytest.approx(11 * np.log(n) - 2 * log_likelihood - constant)


def test_json_and_back(fitted):
    g = fitted[1].goodness
    for one in (g, replace(g, expected=np.full(3, np.nan), penalty=np.nan)):
        again = Goodness.from_json(one.to_json())
        for name in ("n_points", "squares", "variation", "expected", "n_free", "penalty"):
            np.testing.assert_array_equal(getattr(again, name), getattr(one, name))
    assert g.to_json()["reduced_chi2"] == g.reduced_chi2
    assert replace(g, expected=np.full(3, np.nan)).to_json()["reduced_chi2"] is None
