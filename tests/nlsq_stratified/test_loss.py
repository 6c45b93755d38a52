"""Robust losses against their definitions, SciPy's `least_squares` and SciPy's `curve_fit`."""

from typing import Any

import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

import nlsq_stratified
from nlsq_stratified import ArrayChunks, Chunks, CurveObjective, evaluate
from nlsq_stratified.objectives.loss import LOSSES

pytestmark = pytest.mark.numerics

curve_fit: Any = scipy.optimize.curve_fit
least_squares: Any = scipy.optimize.least_squares
curve_fit_large: Any = nlsq_stratified.curve_fit_large
losses: Any = LOSSES

ROBUST = ["soft_l1", "huber", "cauchy", "arctan"]
TIGHT: dict[str, Any] = dict(method="trf", xtol=1e-14, ftol=1e-14, gtol=1e-14)

DEFINITIONS = {
    "soft_l1": lambda z: 2 * (mpmath.sqrt(1 + z) - 1),
    "huber": lambda z: z if z <= 1 else 2 * mpmath.sqrt(z) - 1,
    "cauchy": lambda z: mpmath.log(1 + z),
    "arctan": mpmath.atan,
}


def decay(x, a, b, c):
    return a * jnp.exp(-b * x) + c


def decay_in_numpy(x, a, b, c):
    return a * np.exp(-b * x) + c


def example(seed):
    """Sixty points around a decay, five of them far away: x, y, σ and the truth."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 4, 60)
    truth = np.array([rng.uniform(2, 4), rng.uniform(0.8, 1.5), rng.uniform(-1, 1)])
    sigma = 0.05 * rng.uniform(0.7, 1.5, 60)
    noise = rng.normal(size=60)
    noise[rng.choice(60, 5, replace=False)] += rng.choice([-1, 1], 5) * rng.uniform(8, 15, 5)
    return x, decay_in_numpy(x, *truth) + sigma * noise, sigma, truth


def partitions():
    """Some partition of sixty points into chunks of 12 and 36 points, in any order."""
    sizes = st.sampled_from([[12] * 5, [36, 12, 12], [12, 36, 12], [12, 12, 36]])
    orders = st.none() | st.integers(0, 99).map(lambda s: np.random.default_rng(s).permutation(60))
    return st.builds(Chunks, sizes, orders)


# The functions


@pytest.mark.parametrize("name", ROBUST)
def test_value_slope_and_curvature_are_those_of_the_definition(name):
    z = np.concatenate([10.0 ** np.arange(-12, 9), [0.3, 0.99, 1.01, 2.5]])
    z = z[z != 1]  # the second derivative of huber jumps there
    ours = losses[name](jnp.asarray(z))
    with mpmath.workdps(60):
        for order, values in enumerate(ours):
            exact = [float(mpmath.diff(DEFINITIONS[name], mpmath.mpf(t), order)) for t in z]
            np.testing.assert_allclose(values, exact, rtol=1e-12, err_msg=f"derivative {order}")


@pytest.mark.parametrize("name", ROBUST)
def test_a_residual_of_zero_has_no_cost_and_unit_slope(name):
    value, slope, curvature = (float(v) for v in losses[name](jnp.asarray(0.0)))
    assert (value, slope) == (0, 1)
    assert np.isfinite(curvature)


def test_linear_is_the_loss_that_needs_no_function():
    assert list(LOSSES) == ["linear", *ROBUST]
    assert LOSSES["linear"] is None


@settings(max_examples=40)
@given(
    st.sampled_from(sorted(LOSSES)),
    st.sampled_from([0.1, 0.5, 1.0, 3.0, 100.0]),
    st.integers(0, 999),
    partitions(),
    st.booleans(),
)
def test_cost_and_gradient_are_those_of_scipy(loss, f_scale, seed, chunks, weighted):
    """SciPy's Jacobian at the end is the reweighted one; one evaluation ends at the start.

    In the Hessian outliers count with 1e-6 of the curvature of their majorant, where SciPy gives
    them none.
    """
    x, y, sigma, truth = example(seed)
    if not weighted:
        sigma = np.full(60, 0.05)
    params = truth * np.random.default_rng(seed).uniform(0.9, 1.1, 3)

    def jacobian(params):
        a, b, _ = params
        e = np.exp(-b * x)
        return np.stack([e, -a * x * e, np.ones(60)], axis=1) / sigma[:, None]

    theirs = least_squares(
        lambda params: (decay_in_numpy(x, *params) - y) / sigma,
        params,
        jac=jacobian,
        loss=loss,
        f_scale=f_scale,
        max_nfev=1,
    )
    assert np.array_equal(theirs.x, params)
    data = ArrayChunks(chunks, (x, y, sigma))
    ours = evaluate(CurveObjective(decay, loss, f_scale), params, data)
    hessian = theirs.jac.T @ theirs.jac
    if loss != "linear":
        z = (theirs.fun / f_scale) ** 2
        _, slope, curvature = (np.asarray(order) for order in losses[loss](jnp.asarray(z)))
        rows = (
            jacobian(params) * np.sqrt(np.maximum(slope + 2 * z * curvature, 1e-6 * slope))[:, None]
        )
        hessian = rows.T @ rows
    norms = np.sqrt(np.diag(ours.hessian))
    assert ours.cost == pytest.approx(theirs.cost, rel=1e-12)
    np.testing.assert_allclose(
        ours.hessian / np.outer(norms, norms),
        hessian / np.outer(norms, norms),
        rtol=0,
        atol=1e-9,
    )
    size = np.linalg.norm(jacobian(params), axis=0) * np.linalg.norm(theirs.fun)
    # SciPy gives outliers without positive curvature a weight of √ε, which costs half the digits.
    error = 1e-10 if loss in ("linear", "soft_l1") else 1e-7
    np.testing.assert_allclose(ours.gradient / size, theirs.grad / size, rtol=0, atol=error)


# Fits


def assert_agrees(x, pcov, popt, reference):
    sigma = np.sqrt(np.diag(reference))
    np.testing.assert_allclose((x - popt) / sigma, 0, atol=1e-3)
    scale = np.outer(sigma, sigma)
    np.testing.assert_allclose(pcov / scale, reference / scale, rtol=0, atol=1e-3)


@settings(max_examples=50)
@given(
    st.sampled_from(sorted(LOSSES)),
    st.sampled_from([1.5, 3.0, 10.0]),
    st.integers(0, 999),
    partitions(),
    st.sampled_from(["none", "relative", "absolute"]),
    st.sampled_from(["none", "wide", "acting"]),
)
def test_any_chunking_gives_the_robust_answer_of_scipy(
    loss, f_scale, seed, chunks, weights, bounds
):
    x, y, sigma, truth = example(seed)
    options: dict[str, Any] = dict(loss=loss)
    if weights == "none":
        options |= dict(f_scale=0.05 * f_scale)
    else:
        options |= dict(f_scale=f_scale, sigma=sigma, absolute_sigma=weights == "absolute")
    popt, pcov = curve_fit(decay_in_numpy, x, y, truth, **options, **TIGHT)
    limits = {
        "none": (-np.inf, np.inf),
        "wide": (popt - 5, popt + 5),
        "acting": ([-np.inf, popt[1] + np.sqrt(pcov[1, 1]), -np.inf], np.inf),
    }[bounds]
    fit = curve_fit_large(decay, x, y, truth, bounds=limits, chunks=chunks, **options)
    assert fit.success, fit.message
    if bounds != "acting":
        assert_agrees(fit.x, fit.pcov, popt, pcov)
        return
    held = limits[0][1]
    assert fit.x[1] == held
    assert np.all(np.isinf(fit.pcov[1]))
    popt, pcov = curve_fit(
        lambda x, a, c: decay_in_numpy(x, a, held, c), x, y, popt[[0, 2]], **options, **TIGHT
    )
    assert_agrees(fit.x[[0, 2]], fit.pcov[np.ix_([0, 2], [0, 2])], popt, pcov)


@pytest.mark.parametrize("loss", ROBUST)
def test_outliers_pull_less_than_on_least_squares(loss):
    x, y, sigma, truth = example(3)
    plain = curve_fit_large(decay, x, y, truth, sigma, chunks=12)
    robust = curve_fit_large(decay, x, y, truth, sigma, chunks=12, loss=loss, f_scale=1.5)
    assert np.linalg.norm(robust.x - truth) < np.linalg.norm(plain.x - truth) / 2


@pytest.mark.parametrize("loss", ["soft_l1", "huber", "cauchy"])
def test_a_scale_beyond_all_residuals_is_least_squares(loss):
    x, y, sigma, truth = example(4)
    plain = curve_fit_large(decay, x, y, truth, sigma, chunks=12)
    robust = curve_fit_large(decay, x, y, truth, sigma, chunks=12, loss=loss, f_scale=1e5)
    np.testing.assert_allclose(robust.x, plain.x, rtol=1e-6)
    np.testing.assert_allclose(robust.pcov, plain.pcov, rtol=1e-5)


@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("start", [[1.0, 1.0, -2.0], [10.0, 5.0, -3.0]])
def test_a_start_at_which_every_point_is_an_outlier_is_left(name, start):
    """The Gauss-Newton Hessian vanishes there; the bound from above does not."""
    x, y, sigma, _ = example(3)
    theirs = least_squares(
        lambda p: (decay_in_numpy(x, *p) - y) / sigma, start, loss=name, max_nfev=5000, **TIGHT
    )
    ours = curve_fit_large(
        decay, x, y, start, sigma=sigma, absolute_sigma=True, chunks=20, loss=name, max_nfev=500
    )
    assert np.min(np.abs((decay_in_numpy(x, *start) - y) / sigma)) > 1
    assert ours.success, ours.message
    assert ours.cost == pytest.approx(theirs.cost, rel=1e-6)
