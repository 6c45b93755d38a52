"""Sums that add, the equivalent linear problem, and the spread of the parameters."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nlsq_stratified import FactoredEquations, NormalEquations, covariance_of

pytestmark = pytest.mark.numerics


def sums(jacobian, residual):
    jacobian, residual = np.asarray(jacobian, float), np.asarray(residual, float)
    return NormalEquations(
        0.5 * float(residual @ residual),
        jacobian.T @ residual,
        jacobian.T @ jacobian,
        len(residual),
    )


def assert_same(one, other, rtol=0.0):
    """Equal up to `rtol` of what was summed."""
    assert one.n_points == other.n_points
    np.testing.assert_allclose(one.cost, other.cost, rtol=rtol)
    scale = np.sqrt(np.diag(other.hessian))
    norm = np.sqrt(2 * other.cost)
    np.testing.assert_allclose(one.gradient, other.gradient, rtol=0, atol=rtol * norm * scale.max())
    np.testing.assert_allclose(one.hessian, other.hessian, rtol=0, atol=rtol * scale.max() ** 2)


@st.composite
def problems(draw, least_points=1):
    """Jacobian and residuals of small integers: sums are exact, and singular ones common."""
    p = draw(st.integers(1, 5))
    n = draw(st.integers(least_points, 12))
    row = st.lists(st.integers(-3, 3), min_size=p, max_size=p)
    jacobian = draw(st.lists(row, min_size=n, max_size=n))
    residual = draw(st.lists(st.integers(-3, 3), min_size=n, max_size=n))
    return np.array(jacobian, float), np.array(residual, float)


@st.composite
def regular_problems(draw):
    """Well-conditioned Jacobian with columns in very different units."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    p = draw(st.integers(1, 6))
    units = 10.0 ** np.array(draw(st.lists(st.integers(-8, 8), min_size=p, max_size=p)))
    jacobian = rng.normal(size=(4 * p + 5, p)) * units
    return jacobian, rng.normal(size=len(jacobian))


# Addition


@given(problems(least_points=2), st.data())
def test_parts_add_to_the_whole(problem, data):
    jacobian, residual = problem
    cut = data.draw(st.integers(1, len(residual) - 1))
    parts = sums(jacobian[:cut], residual[:cut]) + sums(jacobian[cut:], residual[cut:])
    assert isinstance(parts, NormalEquations)
    assert_same(parts, sums(jacobian, residual))


@given(regular_problems(), st.integers(1, 5), st.integers(6, 8))
def test_addition_is_associative_up_to_rounding(problem, first, second):
    a, b, c = (
        sums(j, r)
        for j, r in zip(
            np.split(problem[0], [first, second]),
            np.split(problem[1], [first, second]),
            strict=True,
        )
    )
    assert_same((a + b) + c, a + (b + c), rtol=1e-14)
    assert_same(a + b, b + a)
    assert_same((a + b) + c, sums(*problem), rtol=1e-14)


def test_addition_leaves_the_summands_alone():
    a, b = sums([[1.0]], [2.0]), sums([[3.0]], [4.0])
    assert_same(a + b, NormalEquations(10.0, np.array([14.0]), np.array([[10.0]]), 2))
    assert_same(a, sums([[1.0]], [2.0]))
    assert_same(b, sums([[3.0]], [4.0]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["cost", "gradient", "hessian", None])
def test_finite_looks_at_every_sum(bad, where):
    cost, gradient, hessian = 1.0, np.ones(2), np.eye(2)
    if where == "cost":
        cost = bad
    elif where == "gradient":
        gradient[1] = bad
    elif where == "hessian":
        hessian[0, 1] = bad
    assert NormalEquations(cost, gradient, hessian, 5).finite is (where is None)


# The quadratic model as a linear problem


@given(st.one_of(problems(), regular_problems()), st.integers(0, 99))
def test_the_linear_problem_is_the_quadratic_model(problem, seed):
    state = sums(*problem)
    factor, target = state.linear_problem()
    p = len(state.gradient)
    assert factor.shape == (p, p)
    scale = np.sqrt(np.diag(state.hessian))
    scale[scale == 0] = 1.0
    np.testing.assert_allclose(
        factor.T @ factor / np.outer(scale, scale),
        state.hessian / np.outer(scale, scale),
        rtol=0,
        atol=1e-13,
    )
    step = np.random.default_rng(seed).normal(size=p) / scale
    quadratic = state.gradient @ step + 0.5 * step @ state.hessian @ step
    linear = 0.5 * np.sum((factor @ step - target) ** 2) - 0.5 * np.sum(target**2)
    np.testing.assert_allclose(linear, quadratic, rtol=1e-9, atol=1e-7 * (1 + state.cost))


@given(problems())
def test_the_linear_problem_never_promises_more_than_the_cost(problem):
    state = sums(*problem)
    _, target = state.linear_problem()
    assert np.all(np.isfinite(target))
    assert 0.5 * target @ target <= state.cost * (1 + 1e-9) + 1e-12


def test_the_linear_problem_by_hand():
    state = NormalEquations(5.0, np.array([2.0, -6.0]), np.diag([4.0, 9.0]), 10)
    factor, target = state.linear_problem()
    np.testing.assert_allclose(factor.T @ factor, np.diag([4.0, 9.0]))
    np.testing.assert_allclose(np.linalg.solve(factor, target), [-0.5, 2 / 3])


def test_a_parameter_without_curvature_is_left_out_of_the_linear_problem():
    state = NormalEquations(5.0, np.array([2.0, 0.0]), np.diag([4.0, 0.0]), 10)
    factor, target = state.linear_problem()
    np.testing.assert_allclose(factor.T @ factor, np.diag([4.0, 0.0]))
    np.testing.assert_allclose(target @ target, 1.0)


# Covariance


def every(p):
    return np.ones(p, bool)


@given(regular_problems())
def test_the_covariance_is_the_inverse_of_the_hessian(problem):
    state = sums(*problem)
    p = len(state.gradient)
    result = covariance_of(state.linear_problem()[0], every(p))
    expected = np.linalg.inv(problem[0].T @ problem[0])
    sigma = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(
        result.matrix() / np.outer(sigma, sigma),
        expected / np.outer(sigma, sigma),
        rtol=0,
        atol=1e-8,
    )
    assert not np.any(result.undetermined)


@given(regular_problems(), st.data())
def test_parameters_that_are_held_do_not_spread(problem, data):
    jacobian, residual = problem
    p = jacobian.shape[1]
    free = np.array(data.draw(st.lists(st.booleans(), min_size=p, max_size=p)))
    assume(np.any(free))
    covariance = covariance_of(sums(jacobian, residual).linear_problem()[0], free).matrix()
    sub = jacobian[:, free]
    expected = np.linalg.inv(sub.T @ sub)
    sigma = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(
        covariance[np.ix_(free, free)] / np.outer(sigma, sigma),
        expected / np.outer(sigma, sigma),
        rtol=0,
        atol=1e-8,
    )
    assert np.all(covariance[~free] == 0)
    assert np.all(covariance[:, ~free] == 0)


def test_nothing_spreads_when_every_parameter_is_held():
    result = covariance_of(np.eye(3), np.zeros(3, bool))
    assert np.all(result.matrix() == 0)
    assert result.condition == 1.0
    assert result.eigenvalues.size == 0


@given(regular_problems())
def test_the_condition_number_does_not_depend_on_units(problem):
    jacobian, _ = problem
    p = jacobian.shape[1]
    singular = np.linalg.svd(jacobian / np.linalg.norm(jacobian, axis=0), compute_uv=False)
    result = covariance_of(sums(*problem).linear_problem()[0], every(p))
    assert result.condition == pytest.approx((singular[0] / singular[-1]) ** 2, rel=1e-6)
    np.testing.assert_allclose(result.eigenvalues, singular**2, rtol=1e-6)
    scaled = (jacobian.T @ jacobian) / np.outer(*[np.linalg.norm(jacobian, axis=0)] * 2)
    np.testing.assert_allclose(
        result.directions @ scaled @ result.directions.T, np.diag(singular**2), atol=1e-8
    )


@given(regular_problems(), st.integers(0, 99))
def test_errors_propagate_through_the_root(problem, seed):
    jacobian, _ = problem
    p = jacobian.shape[1]
    result = covariance_of(sums(*problem).linear_problem()[0], every(p))
    derivative = np.random.default_rng(seed).normal(size=p) * np.linalg.norm(jacobian, axis=0)
    expected = derivative @ np.linalg.inv(jacobian.T @ jacobian) @ derivative
    assert np.linalg.norm(derivative @ result.root) == pytest.approx(np.sqrt(expected), rel=1e-6)


def test_a_flat_direction_is_marked_and_its_parameters_have_infinite_variance():
    """y depends on a + b and on c only."""
    x = np.linspace(0, 1, 30)
    state = sums(np.stack([x, x, np.ones_like(x)], axis=1), np.zeros_like(x))
    result = covariance_of(state.linear_problem()[0], every(3))
    covariance = result.matrix()
    assert result.undetermined.tolist() == [True, True, False]
    assert result.condition == np.inf
    assert np.all(np.isinf(covariance[:2]))
    assert np.all(np.isinf(covariance[:, :2]))
    expected = np.linalg.inv(np.array([[x @ x, x.sum()], [x.sum(), 30]]))[1, 1]
    assert covariance[2, 2] == pytest.approx(expected)


def test_a_flat_direction_is_cured_by_holding_one_of_its_parameters():
    x = np.linspace(0, 1, 30)
    state = sums(np.stack([x, x, np.ones_like(x)], axis=1), np.zeros_like(x))
    result = covariance_of(state.linear_problem()[0], np.array([True, False, True]))
    assert not np.any(result.undetermined)
    assert np.all(np.isfinite(result.matrix()))


def test_a_parameter_without_curvature_is_undetermined():
    result = covariance_of(np.diag([2.0, 0.0]), every(2))
    assert result.undetermined.tolist() == [False, True]
    covariance = result.matrix()
    assert covariance[0, 0] == pytest.approx(0.25)
    assert np.all(np.isinf(covariance[1]))


@pytest.mark.parametrize("p", [2, 3])
def test_a_flat_direction_is_noticed_in_sums_over_many_points(p):
    n = 30_000
    for seed in range(60):
        rng = np.random.default_rng(seed)
        jacobian = rng.normal(size=(n, p)) + 1
        jacobian[:, -1] = jacobian[:, :-1] @ rng.normal(size=p - 1)
        hessian = np.zeros((p, p))
        for part in np.array_split(jacobian, n // 100):
            hessian += part.T @ part
        state = NormalEquations(1.0, np.zeros(p), hessian, n)
        assert np.any(covariance_of(state.linear_problem()[0], every(p)).undetermined), seed


def test_nearly_flat_is_not_flat():
    """A correlation of 1 - 1e-12 between two parameters is determined all the same."""
    close = 1 - 1e-12
    result = covariance_of(np.linalg.cholesky(np.array([[1, close], [close, 1]])).T, every(2))
    assert not np.any(result.undetermined)
    assert result.condition == pytest.approx(2e12, rel=1e-3)


def test_a_derivative_that_is_not_finite_is_not_lost_in_the_sum():
    """The cost can be finite where the derivatives are not."""
    good = FactoredEquations(1.0, np.eye(3), 5, np.ones(2))
    bad = FactoredEquations(2.0, np.array([[np.inf, 0, 0], [0, 1, 0], [0, 0, 1]]), 5, np.ones(2))
    for total in (bad + good, good + bad):
        assert not total.finite
        assert not (total + good).finite
        assert (total.cost, total.n_points) == (3.0, 10)
