"""Sums of a curve fit against finite differences of the same model in NumPy."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlsq_stratified import ArrayChunks, Chunks, evaluate
from nlsq_stratified.objectives.curve import CurveObjective

pytestmark = pytest.mark.numerics


def decay(x, a, b, c, np=jnp):
    return a * np.exp(-b * x) + c


def ripple(x, a, b, np=jnp):
    return np.sin(a * x) / (1 + b**2 * x**2)


def surface(x, a, b, c, np=jnp):
    """Two features."""
    return a * x[0] + np.exp(b * x[1]) * np.cos(c * x[0])


MODELS = [(decay, 3, 1), (ripple, 2, 1), (surface, 3, 2)]


def dense(model, params, x, y, sigma):
    """Residuals, and their Jacobian by central differences with one extrapolation."""

    def residual(params):
        return (model(x, *params, np=np) - y) / sigma

    def difference(step):
        return np.stack(
            [(residual(params + e) - residual(params - e)) / (2 * step) for e in step * unit],
            axis=1,
        )

    unit = np.eye(len(params))
    return residual(params), (4 * difference(1e-4) - difference(2e-4)) / 3


def assert_sums(state, residual, jacobian, tolerance=1e-9):
    norms = np.linalg.norm(jacobian, axis=0)
    assert state.n_points == len(residual)
    assert state.cost == pytest.approx(0.5 * residual @ residual, rel=1e-13)
    np.testing.assert_allclose(
        state.gradient / norms,
        jacobian.T @ residual / norms,
        rtol=0,
        atol=tolerance * np.linalg.norm(residual),
    )
    np.testing.assert_allclose(
        state.hessian / np.outer(norms, norms),
        jacobian.T @ jacobian / np.outer(norms, norms),
        rtol=0,
        atol=tolerance,
    )


@settings(max_examples=40)
@given(st.sampled_from(MODELS), st.booleans(), st.integers(0, 2**32 - 1))
def test_sums_are_those_of_finite_differences(model, weighted, seed):
    f, p, features = model
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 2, (features, 30))[0 if features == 1 else slice(None)]
    y, params = rng.normal(size=30), rng.uniform(0.5, 2, p)
    sigma = rng.uniform(0.1, 5, 30) if weighted else np.ones(30)
    state = CurveObjective(f).chunk_sums(params, (x, y, sigma) if weighted else (x, y))
    assert_sums(state, *dense(f, params, x, y, sigma))


def test_sums_by_hand():
    state = CurveObjective(lambda x, a, b: a + b * x).chunk_sums(
        np.array([1.0, 2.0]), (np.array([0.0, 1.0]), np.array([3.0, 3.0]), np.array([1.0, 0.5]))
    )
    assert (state.cost, state.n_points) == (2.0, 2)
    np.testing.assert_allclose(state.gradient, [-2.0, 0.0], rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(state.hessian, [[5.0, 4.0], [4.0, 4.0]], rtol=1e-14)


def test_sums_are_numpy_in_double_precision():
    state = CurveObjective(decay).chunk_sums(np.ones(3), (np.ones(4), np.ones(4)))
    assert isinstance(state.cost, float)
    assert isinstance(state.gradient, np.ndarray)
    assert state.gradient.dtype == state.hessian.dtype == np.float64


def test_the_sums_are_the_normal_equations():
    objective = CurveObjective(decay)
    sums = objective.chunk_sums(np.ones(3), (np.ones(4), np.ones(4)))
    assert objective.normal_equations(np.ones(3), sums) is sums


def test_the_model_sees_exactly_the_points_of_each_chunk():
    shapes = []

    def model(x, a):
        shapes.append(x.shape)
        return a * x[0] + x[1]

    chunks = Chunks([5, 3, 4], np.random.default_rng(0).permutation(12))
    data = ArrayChunks(chunks, (np.ones((2, 12)), np.ones(12)))
    state = evaluate(CurveObjective(model), np.ones(1), data)
    assert state.n_points == 12
    assert set(shapes) == {(2, 5), (2, 3), (2, 4)}


def test_the_precision_of_jax_is_left_as_it_was():
    before = jax.config.jax_enable_x64  # type: ignore[attr-defined]
    CurveObjective(decay).chunk_sums(np.ones(3), (np.ones(4), np.ones(4)))
    assert jax.config.jax_enable_x64 == before  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (lambda x, a: a * x[:3], (3,)),
        (lambda x, a: (a * x)[:, None], (4, 1)),
        (lambda x, a: (a * x)[None], (1, 4)),
    ],
)
def test_a_model_of_another_shape_is_refused(model, shape):
    message = f"the model returned shape {shape} for y of shape (4,)"
    with pytest.raises(ValueError, match=rf"(?m)^{re.escape(message)}$"):
        CurveObjective(model).chunk_sums(np.ones(1), (np.ones(4), np.ones(4)))


def test_integer_data_are_fitted_in_floating_point():
    y = np.array([1, 5, 2, 8])
    state = CurveObjective(lambda x, a: a + 0 * x).chunk_sums(
        np.array([0.5]), (np.ones(4), y, np.full(4, 2))
    )
    assert state.cost == pytest.approx(0.125 * np.sum((y - 0.5) ** 2))


def test_integer_x_is_taken_as_floating_point():
    x = np.array([100_000, 100_001], np.int32)
    state = CurveObjective(lambda x, a: a * x**2).chunk_sums(np.ones(1), (x, np.zeros(2)))
    assert state.cost == pytest.approx(0.5 * np.sum(x.astype(float) ** 4))


def test_single_precision_x_is_taken_as_double():
    x = np.linspace(0, 9, 50, dtype=np.float32)
    state = CurveObjective(lambda x, a: a * jnp.sin(x)).chunk_sums(np.ones(1), (x, np.zeros(50)))
    assert state.cost == pytest.approx(0.5 * np.sum(np.sin(x.astype(float)) ** 2), rel=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_shows_in_the_sums(bad):
    y = np.array([1.0, bad, 2.0])
    assert not CurveObjective(decay).chunk_sums(np.ones(3), (np.ones(3), y)).finite
