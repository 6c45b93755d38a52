"""Linear models under any loss and bounds, from any start: the minimum, or no success."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from nlsq_stratified import curve_fit_large

N, P = 240, 6
X = np.linspace(-1, 1, N)
COLUMNS = np.cos(np.outer(np.arccos(X), np.arange(P)))
BOUNDS = ["none", "around", "cutting", "corner", "equal"]


def polynomial(x, *params):
    angle = jnp.arccos(x)
    return sum(p * jnp.cos(k * angle) for k, p in enumerate(params))


def problem(seed, bounds, start, share):
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 2, P)
    y = COLUMNS @ truth + rng.normal(0, 0.1, N)
    outliers = rng.random(N) < share
    y[outliers] += rng.choice([-1, 1], outliers.sum()) * rng.uniform(1, 30, outliers.sum())
    lower, upper = np.full(P, -np.inf), np.full(P, np.inf)
    if bounds != "none":
        lower, upper = truth - 3, truth + 3
    if bounds in ("cutting", "corner"):
        cut = rng.random(P) < 0.5
        upper = np.where(cut, truth - 0.3, upper)
    if bounds == "equal":
        lower[0] = upper[0] = truth[0] + 0.2
    if start == "near":
        p0 = truth + rng.normal(0, 0.1, P)
    else:
        p0 = truth + rng.normal(0, 100.0, P)
    if bounds == "corner":
        p0 = np.where(rng.random(P) < 0.5, lower, upper)
    return y, np.clip(p0, lower, upper), (lower, upper)


def projected_gradient(x, y, loss, lower, upper):
    """Length of the gradient that is free to act, in standard errors."""
    residual = (COLUMNS @ x - y) / 0.1
    z = residual**2
    slope = {
        "linear": np.ones(N),
        "soft_l1": 1 / np.sqrt(1 + z),
        "huber": np.where(z <= 1, 1.0, 1 / np.sqrt(np.maximum(z, 1))),
        "cauchy": 1 / (1 + z),
        "arctan": 1 / (1 + z**2),
    }[loss]
    rows = COLUMNS / 0.1
    gradient = rows.T @ (slope * residual)
    stays = ((x <= lower) & (gradient >= 0)) | ((x >= upper) & (gradient <= 0))
    hessian = (rows.T * slope) @ rows
    free = ~stays
    g = gradient[free]
    return float(np.sqrt(g @ np.linalg.solve(hessian[np.ix_(free, free)], g)))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    loss=st.sampled_from(["linear", "soft_l1", "huber", "cauchy", "arctan"]),
    bounds=st.sampled_from(BOUNDS),
    start=st.sampled_from(["near", "far"]),
    share=st.sampled_from([0.0, 0.1]),
)
def test_success_means_a_minimum(seed, loss, bounds, start, share):
    y, p0, (lower, upper) = problem(seed, bounds, start, share)
    fit = curve_fit_large(
        polynomial,
        X,
        y,
        p0,
        sigma=np.full(N, 0.1),
        absolute_sigma=True,
        bounds=(lower, upper),
        chunks=80,
        loss=loss,
    )
    assert np.all((lower <= fit.x) & (fit.x <= upper))
    assert fit.success, fit.message
    assert projected_gradient(fit.x, y, loss, lower, upper) < 1e-2
    if loss not in ("linear", "soft_l1", "huber"):
        return
    # These are convex: there is one minimum, and SciPy, from ours, finds nothing below it.
    free = lower < upper

    def residual(params):
        full = fit.x.copy()
        full[free] = params
        return (COLUMNS @ full - y) / 0.1

    theirs = least_squares(
        residual,
        np.clip(fit.x[free], lower[free], upper[free]),
        jac=lambda params: COLUMNS[:, free] / 0.1,
        bounds=(lower[free] - 1e-12, upper[free] + 1e-12),
        loss=loss,
        xtol=1e-14,
        ftol=1e-14,
        gtol=1e-14,
    )
    assert fit.cost <= theirs.cost + 1e-4


@pytest.mark.parametrize("seed", range(4))
def test_a_far_start_with_bounds_is_left(seed):
    """All points are outliers at the start, where the cost hardly curves."""
    y, p0, bounds = problem(seed, "around", "far", 0.05)
    fit = curve_fit_large(
        polynomial, X, y, p0, sigma=np.full(N, 0.1), bounds=bounds, chunks=80, loss="huber"
    )
    near = curve_fit_large(
        polynomial,
        X,
        y,
        (bounds[0] + bounds[1]) / 2,
        sigma=np.full(N, 0.1),
        bounds=bounds,
        chunks=80,
        loss="huber",
    )
    assert fit.success
    assert fit.nfev > 1
    assert fit.cost == pytest.approx(near.cost, rel=1e-8)
