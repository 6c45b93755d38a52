"""Covariance matrices as sigma against SciPy's `curve_fit` with the same matrix."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

import nlsq_stratified
from nlsq_stratified import Chunks

pytestmark = pytest.mark.numerics

curve_fit_large: Any = nlsq_stratified.curve_fit_large

N = 48


def decay(x, a, b, c):
    return a * jnp.exp(-b * x) + c


def decay_in_numpy(x, a, b, c):
    return a * np.exp(-b * x) + c


def example(seed):
    """x, y with correlated noise, its covariance, and the truth."""
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(0, 4, N))
    deviation = 0.05 * rng.uniform(0.5, 2, N)
    covariance = np.outer(deviation, deviation) * np.exp(-np.abs(x[:, None] - x) / 0.3)
    truth = np.array([rng.uniform(1, 4), rng.uniform(0.8, 1.6), rng.uniform(-1, 1)])
    noise = np.linalg.cholesky(covariance) @ rng.normal(size=N)
    return x, decay_in_numpy(x, *truth) + noise, covariance, truth


def reference(x, y, covariance, p0, **options):
    return curve_fit(
        decay_in_numpy,
        x,
        y,
        p0,
        covariance,
        method="trf",
        xtol=1e-14,
        ftol=1e-14,
        gtol=1e-14,
        **options,
    )


def assert_agrees(fit, popt, pcov, digits=1e-4):
    sigma = np.sqrt(np.diag(pcov))
    np.testing.assert_allclose((fit.x - popt) / sigma, 0, atol=1e-3)
    scale = np.outer(sigma, sigma)
    np.testing.assert_allclose(fit.pcov / scale, pcov / scale, rtol=0, atol=digits)


def partitions():
    cuts = st.sets(st.sampled_from([12, 24, 36])).map(sorted)
    orders = st.none() | st.integers(0, 99).map(lambda s: np.random.default_rng(s).permutation(N))
    return st.builds(
        lambda cuts, order: Chunks(np.diff([0, *cuts, N]).tolist(), order), cuts, orders
    )


@settings(max_examples=25)
@given(st.integers(0, 999), partitions(), st.booleans())
def test_any_chunking_gives_the_answer_of_scipy(seed, chunks, absolute):
    x, y, covariance, truth = example(seed)
    start = truth * [1.1, 0.9, 1.2]
    fit = curve_fit_large(decay, x, y, start, covariance, absolute, chunks=chunks)
    assert fit.success
    assert_agrees(fit, *reference(x, y, covariance, start, absolute_sigma=absolute))


def test_cost_is_that_of_the_whitened_residuals():
    x, y, covariance, truth = example(1)
    fit = curve_fit_large(decay, x, y, truth, covariance, chunks=12)
    residual = y - decay_in_numpy(x, *fit.x)
    assert fit.cost == pytest.approx(0.5 * residual @ np.linalg.solve(covariance, residual))
    residual = y - decay_in_numpy(x, *truth)
    assert fit.cost_initial == pytest.approx(0.5 * residual @ np.linalg.solve(covariance, residual))


def test_a_diagonal_covariance_is_a_sigma():
    x, y, covariance, truth = example(2)
    deviation = np.sqrt(np.diag(covariance))
    chunks = Chunks([12, 36], np.random.default_rng(0).permutation(N))
    one = curve_fit_large(decay, x, y, truth, deviation, chunks=chunks)
    other = curve_fit_large(decay, x, y, truth, np.diag(deviation**2), chunks=chunks)
    np.testing.assert_allclose(other.x, one.x, rtol=1e-10)
    np.testing.assert_allclose(other.pcov, one.pcov, rtol=1e-8)


def test_correlations_change_the_answer():
    """Else the tests above would say nothing of them."""
    x, y, covariance, truth = example(2)
    full = curve_fit_large(decay, x, y, truth, covariance, chunks=12)
    plain = curve_fit_large(decay, x, y, truth, np.sqrt(np.diag(covariance)), chunks=12)
    assert np.max(np.abs(full.x - plain.x) / np.sqrt(np.diag(full.pcov))) > 0.1


@pytest.mark.parametrize("loss", ["soft_l1", "huber", "cauchy", "arctan"])
def test_robust_losses_see_the_whitened_residuals(loss):
    x, y, covariance, truth = example(3)
    chunks = Chunks([12, 24, 12], np.random.default_rng(0).permutation(N))
    options: dict[str, Any] = dict(loss=loss, f_scale=2.0)
    fit = curve_fit_large(decay, x, y, truth, covariance, chunks=chunks, **options)
    assert fit.success
    assert_agrees(fit, *reference(x, y, covariance, truth, **options), digits=1e-3)


def assert_chunks_do_not_matter(loss):
    x, y, covariance, truth = example(3)
    rng = np.random.default_rng(1)
    fits = [
        curve_fit_large(
            decay,
            x,
            y,
            truth,
            covariance,
            chunks=Chunks([24, 24], order),
            loss=loss,
            f_scale=0.5,
            tolerance=1e-6,
        )
        for order in (None, rng.permutation(N), rng.permutation(N))
    ]
    for fit in fits[1:]:
        np.testing.assert_allclose(fit.x, fits[0].x, rtol=1e-6)
        np.testing.assert_allclose(fit.pcov, fits[0].pcov, rtol=1e-4)


def test_the_chunks_do_not_change_the_answer():
    assert_chunks_do_not_matter("linear")


def test_the_chunks_do_not_change_the_robust_answer():
    """A loss of whitened residuals depends on the order in which they are whitened."""
    assert_chunks_do_not_matter("huber")


def test_the_executor_does_not_matter():
    x, y, covariance, truth = example(4)
    one = curve_fit_large(decay, x, y, truth, covariance, chunks=12)
    with ThreadPoolExecutor(2) as executor:
        other = curve_fit_large(decay, x, y, truth, covariance, chunks=12, executor=executor)
    assert other.x.tobytes() == one.x.tobytes()
    assert other.pcov.tobytes() == one.pcov.tobytes()


def test_bounds_hold():
    x, y, covariance, truth = example(5)
    free = curve_fit_large(decay, x, y, truth, covariance, chunks=12)
    held = free.x[1] + 0.05
    bounds = ([-np.inf, held, -np.inf], np.inf)
    fit = curve_fit_large(decay, x, y, truth, covariance, bounds=bounds, chunks=12)
    popt, _ = curve_fit(lambda x, a, c: decay_in_numpy(x, a, held, c), x, y, [1, 1], covariance)
    assert fit.x[1] == held
    np.testing.assert_allclose(fit.x[[0, 2]], popt, rtol=1e-4)


# Bad input

X, Y = np.linspace(0, 1, 4), np.array([1.0, 0.7, 0.5, 0.4])


def matrix(**entries):
    """The unit matrix with other entries: ``a01`` for row 0, column 1."""
    result = np.eye(4)
    for name, value in entries.items():
        result[int(name[1]), int(name[2])] = value
    return result


@pytest.mark.parametrize(
    ("sigma", "message"),
    [
        (matrix(a01=0.5), "sigma of two dimensions must be a symmetric covariance matrix"),
        (matrix(a01=2.0, a10=2.0), "the covariance matrix sigma is not positive definite"),
        (matrix(a11=-1.0), "the covariance matrix sigma is not positive definite"),
        (np.zeros((4, 4)), "the covariance matrix sigma is not positive definite"),
        (np.eye(3), "sigma of shape (3, 3) does not match 4 points"),
        (np.ones((4, 3)), "sigma of shape (4, 3) does not match 4 points"),
        (np.ones((4, 1)), "sigma of shape (4, 1) does not match 4 points"),
    ],
)
def test_a_matrix_that_is_no_covariance_is_refused(sigma, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        curve_fit_large(lambda x, a: a * x, X, Y, sigma=sigma, chunks=2)


def test_an_asymmetric_matrix_of_small_entries_is_refused():
    message = "sigma of two dimensions must be a symmetric covariance matrix"
    with pytest.raises(ValueError, match=f"^{message}$"):
        curve_fit_large(lambda x, a: a * x, X, Y, sigma=1e-10 * matrix(a01=0.5), chunks=2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_matrix_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match=r"^sigma holds values that are not finite$"):
        curve_fit_large(lambda x, a: a * x, X, Y, sigma=matrix(a22=value), chunks=2)


def test_rounding_does_not_make_a_matrix_asymmetric():
    fit = curve_fit_large(
        lambda x, a: a * x, X, Y, sigma=matrix(a01=0.5, a10=0.5 * (1 + 1e-13)), chunks=2
    )
    assert fit.success


@pytest.mark.parametrize(
    "options",
    [
        dict(xdata=X, ydata=Y, chunks=2, nan_policy="omit"),
        dict(chunks=[(X[:2], Y[:2]), (X[2:], Y[2:])]),
    ],
)
def test_a_covariance_matrix_needs_all_points_whole(options):
    message = (
        "a covariance matrix needs all points, and chunks that cut them: pass all of xdata and "
        "ydata"
    )
    with pytest.raises(TypeError, match=f"^{message}$"):
        curve_fit_large(lambda x, a: a * x, sigma=np.eye(4), **options)


def test_a_model_that_is_not_finite_names_the_chunk():
    message = "the model is not finite in chunk 1 at a = 1"
    with pytest.raises(ValueError, match=f"^{message}$"):
        curve_fit_large(lambda x, a: a * jnp.log(0.5 - x), X, Y, sigma=np.eye(4), chunks=2)


def test_no_chunk_has_a_cost_of_its_own():
    """Whitened residuals mix points of all chunks."""
    x, y, covariance, truth = example(7)
    fit = curve_fit_large(decay, x, y, truth, covariance, chunks=12)
    assert fit.chunk_sizes == (12, 12, 12, 12)
    assert np.isnan(fit.chunk_costs).tolist() == [True] * 4
