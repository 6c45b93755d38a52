"""The solver against SciPy's on the whole residual vector, and what it says when it fails."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import least_squares, lsq_linear

from nlsq_stratified import NormalEquations, solve, solve_many

pytestmark = pytest.mark.numerics


@dataclass
class Problem:
    """Residuals and their Jacobian; `at` hands the solver sums only, and keeps a log."""

    residual: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    jacobian: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    visited: list[NDArray[np.float64]] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)

    def at(self, x):
        with np.errstate(all="ignore"):
            r, j = self.residual(x), self.jacobian(x)
            cost = 0.5 * float(r @ r)
        self.visited.append(x.copy())
        self.costs.append(cost)
        return NormalEquations(cost, j.T @ r, j.T @ j, len(r))

    def oracle(self, x0, bounds=(-np.inf, np.inf)):
        tight: dict[str, Any] = dict(xtol=1e-15, ftol=1e-15, gtol=1e-15, x_scale="jac")
        jac: Any = self.jacobian  # SciPy's annotation knows names of methods only
        with np.errstate(all="ignore"):
            return least_squares(self.residual, x0, jac, bounds, max_nfev=5000, **tight)


def line(t, y):
    """Linear model with the columns of t."""
    return Problem(lambda x: t @ x - y, lambda x: t)


def exponential(t, y):
    """a exp(-b t) + c."""

    def jacobian(x):
        e = np.exp(-x[1] * t)
        return np.stack([e, -x[0] * t * e, np.ones_like(t)], axis=1)

    return Problem(lambda x: x[0] * np.exp(-x[1] * t) + x[2] - y, jacobian)


def peak(t, y):
    """Gaussian of height a, centre b and width c."""

    def value(x):
        return x[0] * np.exp(-(((t - x[1]) / x[2]) ** 2))

    def jacobian(x):
        u = (t - x[1]) / x[2]
        e = np.exp(-(u**2))
        return np.stack([e, x[0] * e * 2 * u / x[2], x[0] * e * 2 * u**2 / x[2]], axis=1)

    return Problem(lambda x: value(x) - y, jacobian)


def rosenbrock():
    return Problem(
        lambda x: np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]]),
        lambda x: np.array([[-20 * x[0], 10.0], [-1.0, 0.0]]),
    )


def powell_badly_scaled():
    return Problem(
        lambda x: np.array([1e4 * x[0] * x[1] - 1, np.exp(-x[0]) + np.exp(-x[1]) - 1.0001]),
        lambda x: np.array([[1e4 * x[1], 1e4 * x[0]], [-np.exp(-x[0]), -np.exp(-x[1])]]),
    )


def powell_singular():
    a, b = np.sqrt(5), np.sqrt(10)
    return Problem(
        lambda x: np.array(
            [x[0] + 10 * x[1], a * (x[2] - x[3]), (x[1] - 2 * x[2]) ** 2, b * (x[0] - x[3]) ** 2]
        ),
        lambda x: np.array(
            [
                [1, 10, 0, 0],
                [0, 0, a, -a],
                [0, 2 * (x[1] - 2 * x[2]), -4 * (x[1] - 2 * x[2]), 0],
                [2 * b * (x[0] - x[3]), 0, 0, -2 * b * (x[0] - x[3])],
            ]
        ),
    )


T = np.linspace(0.05, 4, 50)


def noisy(model, truth, seed=0, noise=0.05):
    """A problem whose data are the model at `truth` with noise, a share of their spread."""
    clean = model(T, np.zeros_like(T)).residual(np.asarray(truth, float))
    rng = np.random.default_rng(seed)
    return model(T, clean + noise * np.std(clean) * rng.normal(size=len(T)))


def excess(problem, result, optimum):
    """How far the result is from the optimum, in standard errors, by the cost."""
    variance = 2 * optimum.cost / max(1, result.state.n_points - len(result.x))
    return np.sqrt(max(0.0, 2 * (result.state.cost - optimum.cost)) / variance)


def test_searches_side_by_side_end_where_each_ends_alone():
    problem = noisy(peak, [2.0, 1.5, 0.7])
    starts = np.array([[1.0, 1.0, 1.0], [3.0, 2.5, 0.3], [2.0, 1.5, 0.7], [0.5, 0.2, 2.0]])
    lower, upper = np.array([0.0, 0.0, 0.1]), np.array([5.0, 4.0, 3.0])
    calls = []

    def at_each(xs):
        calls.append(len(xs))
        return [problem.at(x) for x in xs]

    together = solve_many(at_each, starts, lower, upper, max_nfev=60)
    alone = [solve(problem.at, start, lower, upper, max_nfev=60) for start in starts]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.x, other.x)
        assert (one.nfev, one.success, one.message) == (other.nfev, other.success, other.message)
    # Each call evaluates all searches that go on.
    assert calls[0] == 4
    assert len(calls) == max(one.nfev for one in alone)
    assert sum(calls) == sum(one.nfev for one in alone)


# Agreement with SciPy


@pytest.mark.parametrize(
    ("problem", "start", "solution"),
    [
        (rosenbrock(), [-1.2, 1.0], [1.0, 1.0]),
        (powell_badly_scaled(), [0.0, 1.0], [1.098159e-5, 9.106146]),
        (powell_singular(), [3.0, -1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]),
    ],
    ids=["Rosenbrock", "Powell badly scaled", "Powell singular"],
)
def test_classic_problems_without_residual_converge(problem, start, solution):
    result = solve(problem.at, start, max_nfev=200)
    assert result.success
    np.testing.assert_allclose(result.x, solution, rtol=1e-6, atol=1e-6)
    assert result.state.cost < 1e-20


@pytest.mark.parametrize(
    ("model", "truth", "start"),
    [
        (exponential, (2.0, 1.3, 0.5), (1.0, 1.0, 1.0)),
        (exponential, (-3.0, 0.4, 2.0), (1.0, 1.0, 0.0)),
        (exponential, (2.0, 1.3, 0.5), (20.0, 0.1, -9.0)),
        (peak, (3.0, 2.0, 0.6), (1.0, 1.5, 1.0)),
    ],
)
def test_smooth_fits_agree_with_scipy(model, truth, start):
    problem = noisy(model, truth)
    result = solve(problem.at, start)
    optimum = problem.oracle(start)
    assert result.success
    assert result.message == "within 0.0001 standard errors of the minimum"
    assert excess(problem, result, optimum) < 1e-3
    sigma = np.sqrt(np.diag(np.linalg.inv(optimum.jac.T @ optimum.jac)) * 2 * optimum.cost / 47)
    np.testing.assert_allclose(result.x, optimum.x, rtol=0, atol=1e-3 * sigma.min())


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6])
def test_the_tolerance_is_in_standard_errors(tolerance):
    problem = noisy(exponential, (2.0, 1.3, 0.5))
    result = solve(problem.at, [1.0, 1.0, 1.0], tolerance=tolerance)
    optimum = problem.oracle([1.0, 1.0, 1.0])
    sigma = np.sqrt(np.diag(np.linalg.inv(optimum.jac.T @ optimum.jac)) * 2 * optimum.cost / 47)
    assert result.success
    assert np.max(np.abs(result.x - optimum.x) / sigma) < 2 * tolerance


@pytest.mark.parametrize(
    ("lower", "upper", "active"),
    [
        ((2.5, -np.inf, -np.inf), np.inf, (-1, 0, 0)),
        (-np.inf, (np.inf, 1.0, np.inf), (0, 1, 0)),
        ((-np.inf, 1.6, -np.inf), (1.7, np.inf, np.inf), (1, -1, 0)),
        ((2.1, 1.5, 0.7), (9.0, 9.0, 9.0), None),
        ((0.0, 0.0, 0.0), (9.0, 9.0, 9.0), (0, 0, 0)),
    ],
)
def test_bounded_fits_agree_with_scipy(lower, upper, active):
    problem = noisy(exponential, (2.0, 1.3, 0.5))
    lower, upper = (np.broadcast_to(b, 3).astype(float) for b in (lower, upper))
    start = np.clip([1.5, 1.65, 0.8], lower, upper)
    result = solve(problem.at, start, lower, upper)
    inside = np.clip(start, lower + 1e-3, upper - 1e-3)
    optimum = problem.oracle(inside, (lower, upper))
    assert result.success
    assert excess(problem, result, optimum) < 1e-3
    np.testing.assert_allclose(result.x, optimum.x, rtol=1e-4)
    assert result.active.tolist() == optimum.active_mask.tolist()
    if active is not None:
        assert result.active.tolist() == list(active)
    assert np.all(result.x[result.active < 0] == lower[result.active < 0])
    assert np.all(result.x[result.active > 0] == upper[result.active > 0])


@given(st.integers(0, 2**32 - 1))
def test_linear_problems_in_a_box_agree_with_scipy(seed):
    rng = np.random.default_rng(seed)
    p = int(rng.integers(1, 6))
    units = 10.0 ** rng.uniform(-3, 3, p)
    t = (rng.normal(size=(30, p)) + rng.normal(size=(30, 1))) * units
    y = t @ (rng.normal(size=p) / units) + 0.1 * rng.normal(size=30)
    lower = np.where(rng.random(p) < 0.6, rng.normal(size=p) / units, -np.inf)
    upper = np.where(rng.random(p) < 0.6, rng.normal(size=p) / units, np.inf)
    lower, upper = np.minimum(lower, upper), np.maximum(lower, upper)
    problem = line(t, y)
    result = solve(problem.at, rng.normal(size=p) / units, lower, upper)
    best = lsq_linear(t, y, (lower, upper), method="bvls", max_iter=1000)
    sigma = np.sqrt(np.diag(np.linalg.inv(t.T @ t)) * 2 * best.cost / (30 - p))
    assert result.success
    np.testing.assert_allclose((result.x - best.x) / sigma, 0, atol=1e-3)


@given(st.integers(0, 2**32 - 1), st.sampled_from([exponential, peak]))
def test_bounds_are_never_left_and_the_best_point_is_kept(seed, model):
    """Every point asked for lies within the bounds; what is returned is the best of them."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform([1, 0.8, 0.4], [4, 2.5, 1.5])
    problem = noisy(model, truth, seed)
    lower = truth - rng.uniform(-0.2, 1.0, 3) * truth
    upper = np.maximum(lower, truth + rng.uniform(-0.2, 1.0, 3) * truth)
    result = solve(problem.at, truth * rng.uniform(0.5, 2, 3), lower, upper, max_nfev=40)
    assert all(np.all((lower <= x) & (x <= upper)) for x in problem.visited)
    assert result.nfev == len(problem.visited) <= 40
    assert result.nit < result.nfev
    assert result.cost_initial == problem.costs[0]
    assert result.state.cost <= np.nanmin(problem.costs) * (1 + 1e-11)
    assert np.all(result.x[result.active < 0] == lower[result.active < 0])
    assert np.all(result.x[result.active > 0] == upper[result.active > 0])


# Bounds


def test_a_start_outside_the_bounds_is_moved_in():
    problem = noisy(exponential, (2.0, 1.3, 0.5))
    result = solve(problem.at, [50.0, -3.0, 1.0], [0.0, 0.1, 0.0], [5.0, 5.0, 5.0])
    np.testing.assert_array_equal(problem.visited[0], [5.0, 0.1, 1.0])
    assert result.success
    np.testing.assert_allclose(result.x, problem.oracle([1.0, 1.0, 1.0]).x, rtol=1e-4)


@pytest.mark.parametrize("side", [-1, 1])
def test_a_start_on_a_bound_leaves_it_when_the_cost_falls_inwards(side):
    y = 2.0 * T
    problem = line(T[:, None], y)
    start = 0.5 if side < 0 else 3.5
    bounds = (start, np.inf) if side < 0 else (-np.inf, start)
    result = solve(problem.at, [start], *bounds)
    assert result.success
    assert result.x[0] == pytest.approx(2.0, rel=1e-12)
    assert result.active.tolist() == [0]


@pytest.mark.parametrize("side", [-1, 1])
def test_a_start_on_a_bound_stays_when_the_cost_falls_outwards(side):
    y = 2.0 * T + 0.1 * np.sin(20 * T)
    problem = line(T[:, None], y)
    start = 2.5 if side < 0 else 1.5
    bounds = (start, np.inf) if side < 0 else (-np.inf, start)
    result = solve(problem.at, [start], *bounds)
    assert result.success
    assert result.x.tolist() == [start]
    assert result.active.tolist() == [side]
    assert (result.nit, result.nfev) == (0, 1)


def test_equal_bounds_hold_a_parameter():
    problem = noisy(exponential, (2.0, 1.3, 0.5))
    result = solve(problem.at, [1.0, 1.0, 1.0], [-9, -9, 0.4], [9, 9, 0.4])
    held = Problem(
        lambda x: problem.residual(np.append(x, 0.4)),
        lambda x: problem.jacobian(np.append(x, 0.4))[:, :2],
    )
    assert result.success
    assert result.x[2] == 0.4
    assert abs(result.active[2]) == 1
    np.testing.assert_allclose(result.x[:2], held.oracle([1.0, 1.0]).x, rtol=1e-4)


def test_parameters_land_on_their_bounds_not_near_them():
    missed = []
    y = np.sin(40 * T) - T
    for hundredths in range(1, 100, 3):
        bound = hundredths / 100
        for distance in (0.13, 0.7, 1.36, 4.9):
            result = solve(line(T[:, None], y).at, [bound + distance], bound, np.inf)
            if result.x[0] != bound or result.active[0] != -1:
                missed.append((bound, distance))
    assert missed == []


def test_bounds_out_of_order_are_refused():
    problem = rosenbrock()
    with pytest.raises(ValueError, match="^a lower bound exceeds the upper one: "):
        solve(problem.at, [0.0, 0.0], [0.0, 1.0], [1.0, 0.5])
    assert problem.visited == []


# Units


@pytest.mark.parametrize(
    "power",
    [
        -40,
        -20,
        20,
        40,
    ],
)
def test_the_unit_of_the_data_does_not_matter(power):
    """Powers of two leave every rounding as it was, so the answers agree to the bit."""
    unit = 2.0**power
    for seed in range(30):
        rng = np.random.default_rng(seed)
        t = rng.normal(size=(30, 4)) + 2 * rng.normal(size=(30, 1))
        y = t @ rng.normal(size=4) + 0.1 * rng.normal(size=30)
        lower = rng.normal(size=4)
        upper = np.where(rng.random(4) < 0.6, lower + rng.uniform(0.1, 2, 4), np.inf)
        start = rng.normal(size=4)
        one = solve(line(t, y).at, start, lower, upper)
        other = solve(line(t, unit * y).at, unit * start, unit * lower, unit * upper)
        np.testing.assert_allclose(other.x / unit, one.x, rtol=1e-9, err_msg=f"seed {seed}")


@settings(max_examples=30)
@given(st.lists(st.integers(-30, 30), min_size=3, max_size=3))
def test_the_units_of_the_parameters_do_not_matter(powers):
    units = 2.0 ** np.array(powers)
    problem = noisy(exponential, (2.0, 1.3, 0.5))
    scaled = Problem(
        lambda x: problem.residual(x / units), lambda x: problem.jacobian(x / units) / units
    )
    start, lower, upper = np.ones(3), np.array([0.0, 0.1, 0.6]), np.array([9.0, 9.0, 9.0])
    one = solve(problem.at, start, lower, upper)
    other = solve(scaled.at, start * units, lower * units, upper * units)
    np.testing.assert_allclose(other.x / units, one.x, rtol=1e-9)
    assert other.active.tolist() == one.active.tolist() == [0, 0, -1]


# Regions without a cost


@pytest.mark.parametrize("start", [(0.1, 1.0, 1.0), (1.0, 0.05, 1.0)])
def test_a_region_where_the_model_is_nan_is_stepped_around(start):
    problem = noisy(exponential, (2.0, 1.3, 0.5))
    partial = Problem(
        lambda x: problem.residual(x) if 0 < x[1] < 1.5 else np.full_like(T, np.nan),
        problem.jacobian,
    )
    result = solve(partial.at, start)
    assert np.any(np.isnan(partial.costs))
    assert result.success
    np.testing.assert_allclose(result.x, problem.oracle(start).x, rtol=1e-4)


def logarithm():
    """a log(b t): NaN where b is negative."""
    y = 0.7 * np.log(2.0 * T) + 0.01 * np.sin(30 * T)
    return Problem(
        lambda x: x[0] * np.log(x[1] * T) - y,
        lambda x: np.stack([np.log(x[1] * T), x[0] / x[1] * np.ones_like(T)], axis=1),
    )


def test_trial_points_without_a_cost_are_rejected():
    problem = logarithm()
    result = solve(problem.at, [0.1, 20.0])
    assert np.any(np.isnan(problem.costs))
    assert result.success
    np.testing.assert_allclose(result.x, problem.oracle([1.0, 1.0]).x, rtol=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_start_without_a_cost_is_refused(bad):
    problem = Problem(lambda x: np.full(3, bad), lambda x: np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"^the model is not finite at the start \[1\.0, 2\.0\]$"):
        solve(problem.at, [1.0, 2.0])


def test_a_start_without_a_gradient_is_refused():
    problem = Problem(lambda x: np.ones(3), lambda x: np.full((3, 2), np.nan))
    with pytest.raises(ValueError, match=r"^the model is not finite at the start \[1\.0, 2\.0\]$"):
        solve(problem.at, [1.0, 2.0])


def test_a_fit_that_cannot_move_says_so():
    problem = noisy(exponential, (2.0, 1.3, 0.5))
    start = np.array([1.0, 1.0, 1.0])
    result = solve(
        Problem(
            lambda x: problem.residual(x) * (1.0 if np.all(x == start) else np.nan),
            problem.jacobian,
        ).at,
        start,
    )
    assert not result.success
    assert result.message.startswith("no step lowers the cost any more, ")
    assert result.x.tolist() == start.tolist()
    assert result.nit == 0
    assert result.nfev <= 20


# Stopping


@pytest.mark.parametrize("max_nfev", [1, 2, 5, 9])
def test_running_out_of_evaluations_is_said(max_nfev):
    problem = rosenbrock()
    result = solve(problem.at, [-1.2, 1.0], max_nfev=max_nfev)
    assert result.success is False
    evaluations = f"{max_nfev} evaluation{'s' * (max_nfev > 1)}"
    assert result.message == f"stopped after {evaluations} without converging"
    assert result.nfev == len(problem.visited) == max_nfev


def test_a_start_at_the_minimum_takes_one_evaluation():
    problem = rosenbrock()
    result = solve(problem.at, [1.0, 1.0])
    assert result.success
    assert result.message == "the gradient vanishes"
    assert (result.nit, result.nfev) == (0, 1)


def test_gtol_stops_at_a_small_gradient():
    result = solve(rosenbrock().at, [-1.2, 1.0], gtol=1.0)
    assert result.success
    assert result.message == "the gradient vanishes"
    assert 0 < np.max(np.abs(result.state.gradient)) <= 1.0


def test_ftol_stops_when_little_is_left_to_gain():
    problem = noisy(exponential, (2.0, 1.3, 0.5))
    result = solve(problem.at, [1.0, 1.0, 1.0], ftol=1e-2, tolerance=0.0)
    assert result.success
    assert result.message == "no step can lower the cost by a resolvable amount"
    assert result.state.cost < 1.02 * problem.oracle([1.0, 1.0, 1.0]).cost


def kink(offset=0.0, residual=0.5):
    """Cost with a kink at offset + 0.3, where the gradient jumps and never vanishes."""
    weights = 1 + np.linspace(0, 1, 30)

    def value(x):
        return (abs(x[0] - offset - 0.3) + residual) * weights

    def slope(x):
        return (1.0 if x[0] - offset >= 0.3 else -1.0) * weights[:, None]

    return Problem(value, slope)


@pytest.mark.parametrize("start", [0.3, 0.2999, 1.0, 2.0, -5.0, 100.0])
def test_a_kink_ends_the_search_soon_and_is_not_called_a_minimum(start):
    problem = kink()
    result = solve(problem.at, [start], max_nfev=1000)
    assert not result.success
    assert result.message.startswith("no step lowers the cost any more, 5.4 standard errors")
    assert result.x[0] == pytest.approx(0.3, abs=1e-4)
    assert result.nfev == len(problem.visited) <= 100


@pytest.mark.parametrize("offset", [1e6, 1e9])
def test_a_kink_far_from_zero_is_not_called_a_minimum_either(offset):
    result = solve(kink(offset).at, [offset + 2.0], max_nfev=1000)
    assert not result.success


@pytest.mark.parametrize("offset", [1e6, 1e9])
def test_a_wall_of_nan_is_not_called_a_minimum(offset):
    weights = 1 + np.linspace(0, 1, 30)
    problem = Problem(
        lambda x: (x[0] - offset + 1 if x[0] > offset + 0.5 else np.nan) * weights + weights**2,
        lambda x: weights[:, None],
    )
    result = solve(problem.at, [offset + 2.0], max_nfev=1000)
    assert not result.success


def test_success_is_a_plain_bool():
    assert isinstance(solve(kink().at, [1.0]).success, bool)


def test_data_without_noise_are_fitted():
    """All that is left of the residuals is the rounding of the model."""
    failed = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        truth = rng.uniform(0.5, 3, 3)
        result = solve(noisy(exponential, truth, noise=0.0).at, truth * rng.uniform(0.7, 1.3, 3))
        np.testing.assert_allclose(result.x, truth, rtol=1e-9)
        if not result.success:
            failed.append((seed, result.message))
    assert failed == []


@given(st.integers(0, 2**32 - 1), st.floats(-15, -3))
def test_a_noisy_cost_ends_within_its_noise(seed, digits):
    """The gradient is exact, the cost is not."""
    problem = noisy(exponential, (2.0, 1.3, 0.5))
    rng = np.random.default_rng(seed)

    def at(x):
        state = problem.at(x)
        cost = state.cost * (1 + 10**digits * rng.normal())
        return NormalEquations(cost, state.gradient, state.hessian, state.n_points)

    result = solve(at, [1.0, 1.0, 1.0])
    assert result.nfev <= 100
    true = problem.at(result.x).cost
    assert true <= problem.oracle([1.0, 1.0, 1.0]).cost * (1 + 1e-7 + 20 * 10**digits)


def test_a_parameter_without_effect_stays_where_it_is():
    problem = line(np.stack([T, np.zeros_like(T)], axis=1), 2 * T + 0.1 * np.sin(20 * T))
    result = solve(problem.at, [1.0, 7.0])
    assert result.success
    assert result.x[1] == 7.0


def test_only_the_sum_of_two_parameters_matters():
    y = 2 * T + 0.1 * np.sin(20 * T)
    result = solve(line(np.stack([T, T], axis=1), y).at, [1.0, 0.0])
    assert result.success
    assert result.x.sum() == pytest.approx(T @ y / (T @ T), rel=1e-6)
    assert result.x[0] - result.x[1] == pytest.approx(1.0, rel=1e-6)


@settings(max_examples=20)
@given(st.integers(0, 2**20), st.sampled_from([1e-2, 1e-4]))
def test_a_last_step_on_trust_ends_as_near_and_is_not_evaluated(seed, tolerance):
    problem = noisy(exponential, [2.0, 1.3, 0.5], seed)
    start = [1.6, 1.0, 0.6]
    trusting = solve(problem.at, start, tolerance=tolerance, trust_last_step=True)
    visited = np.array(problem.visited)
    careful = solve(problem.at, start, tolerance=tolerance)
    assert trusting.success
    assert trusting.nfev <= careful.nfev
    np.testing.assert_array_equal(trusting.evaluated, visited[-1])
    optimum = problem.oracle(start)
    variance = 2 * optimum.cost / len(optimum.fun)
    # Standard errors from the minimum, by its Hessian.
    off = np.linalg.norm(optimum.jac @ (trusting.x - optimum.x)) / np.sqrt(variance)
    assert off <= 2 * tolerance
    if not np.array_equal(trusting.x, trusting.evaluated):
        assert visited.shape[0] < careful.nfev + 1
        there = problem.at(trusting.x)
        assert trusting.state.cost == pytest.approx(there.cost, rel=1e-4)


def test_near_the_minimum_damping_does_not_slow_a_direction_of_little_curvature():
    t, rng = np.linspace(0.0, 1.0, 200), np.random.default_rng(0)
    truth = np.array([1.0, 0.1, 0.0])
    problem = exponential(t, truth[0] * np.exp(-truth[1] * t) + 1e-4 * rng.normal(size=len(t)))
    best = problem.oracle(truth)
    start = best.x * 1.02
    unsized, sized = (
        solve(problem.at, start, tolerance=1e-3, sizes=sizes)
        for sizes in (None, [np.inf, 1.0, np.inf])
    )
    assert sized.nfev < unsized.nfev
    variance = 2 * best.cost / (len(t) - 3)
    for fit in (sized, unsized):
        assert fit.success
        assert fit.state.cost - best.cost < 0.5 * 1e-6 * variance
