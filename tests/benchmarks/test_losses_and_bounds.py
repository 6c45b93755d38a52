"""The costs, Jacobians and optimality conditions that fits are judged by."""

import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import approx_fprime, least_squares, lsq_linear


@pytest.fixture(scope="module")
def losses():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
        yield importlib.import_module("losses_and_bounds")


@pytest.mark.parametrize("name", ["linear", "polynomial", "exponentials", "peaks", "sinusoids"])
def test_models(losses, name):
    """The JAX model has the values of the NumPy one, whose Jacobian is that of differences."""
    family, rng = losses.FAMILIES[name], np.random.default_rng(0)
    for p in family.sizes:
        truth, x = family.draw(rng, p, 40)
        values, jacobian = family.numpy(x, truth)
        with jax.enable_x64(True):
            found = family.jax(jnp.asarray(x), *truth)
        np.testing.assert_allclose(found, values, rtol=1e-12, atol=1e-12 * np.abs(values).max())
        step = 1e-6 * np.maximum(np.abs(truth), 1e-3)
        expected = [
            (family.numpy(x, truth + d)[0] - family.numpy(x, truth - d)[0]) / (2 * h)
            for h, d in zip(step, np.diag(step), strict=True)
        ]
        scale = np.abs(jacobian).max(axis=0)
        np.testing.assert_allclose(jacobian / scale, np.transpose(expected) / scale, atol=1e-5)


@pytest.mark.parametrize("loss", ["linear", "soft_l1", "huber", "cauchy", "arctan"])
def test_cost_and_stationarity(losses, loss):
    """SciPy's cost at its minimum, where nothing is left; elsewhere what the gradient leaves."""
    problem = losses.draw(loss, "none", 0)
    found = least_squares(
        lambda p: problem.rows(p)[0],
        problem.start,
        lambda p: problem.rows(p)[1],
        loss=loss,
        x_scale="jac",
        ftol=1e-15,
        xtol=1e-15,
        gtol=1e-15,
    )
    assert problem.cost(found.x) == pytest.approx(found.cost, rel=1e-12)
    assert problem.left(found.x) < 1e-4 < losses.STATIONARY < problem.left(problem.start)


def test_what_is_left_is_the_step_of_a_linear_problem(losses):
    """Without bounds: the distance to the minimum, from the costs."""
    problem = losses.draw("linear", "none", 1)
    residual, jacobian = problem.rows(problem.start)
    best = np.linalg.lstsq(jacobian, -residual, rcond=None)[0] + problem.start
    variance = 2 * problem.cost(problem.start) / (len(residual) - len(best))
    expected = np.sqrt(2 * (problem.cost(problem.start) - problem.cost(best)) / variance)
    assert problem.left(problem.start) == pytest.approx(expected, rel=1e-6)
    # The hardly damped step gains it; from the minimum no step does.
    assert problem.gained(problem.start) == pytest.approx(expected, rel=1e-6)
    assert problem.gained(best) < 1e-4


def test_a_ridge_counts_as_stationary(losses):
    """What no step gains is not left: of two numbers that are judged, the smaller one."""
    row = {"success": True, "convex": False, "left": 5.0, "gained": 0.0, "above": 0.0}
    assert losses.distance(row) == 0.0
    assert not losses.VERDICTS["not stationary"](row)
    assert losses.VERDICTS["not stationary"](row | {"gained": 1.0})
    # Nothing left needs no step.
    assert losses.distance(row | {"left": 1e-5}) == 1e-5


def test_steps_stay_within_bounds(losses):
    """None gains more than the minimum in the box does, and from that minimum none gains."""
    problem = losses.draw("linear", "cutting", 1)
    residual, jacobian = problem.rows(problem.start)
    size = np.linalg.norm(jacobian, axis=0)
    limits = (problem.lower - problem.start) * size, (problem.upper - problem.start) * size
    step = lsq_linear(jacobian / size, -residual, limits, method="bvls", tol=1e-14, max_iter=1000)
    assert np.any(step.active_mask)
    best = np.clip(problem.start + step.x / size, problem.lower, problem.upper)
    assert problem.left(best) < 1e-4
    assert problem.gained(best) < 1e-4
    variance = 2 * problem.cost(problem.start) / (len(residual) - len(best))
    most = np.sqrt(2 * (problem.cost(problem.start) - problem.cost(best)) / variance)
    assert 1 < problem.gained(problem.start) <= most * (1 + 1e-9)


def test_signs_at_bounds(losses):
    """At the minimum in a box nothing is left, though gradients there do not vanish."""
    rng = np.random.default_rng(3)
    jacobian, y = rng.normal(size=(50, 6)), 5 * rng.normal(size=50)
    lower, upper = np.full(6, -0.2), np.full(6, 0.3)
    best = lsq_linear(jacobian, y, (lower, upper), method="bvls", tol=1e-14)
    assert np.count_nonzero(best.active_mask) >= 2
    x = best.x
    left = losses.stationarity(jacobian @ x - y, jacobian, x - lower, upper - x, 1.0)
    assert left < 1e-9
    # The other end of the box of one parameter: it wants to leave.
    moved = x.copy()
    i = np.flatnonzero(best.active_mask)[0]
    moved[i] = lower[i] + upper[i] - x[i]
    left = losses.stationarity(jacobian @ moved - y, jacobian, moved - lower, upper - moved, 1.0)
    gradient = jacobian.T @ (jacobian @ moved - y)
    assert left >= abs(gradient[i]) / np.linalg.norm(jacobian[:, i]) * (1 - 1e-12) > 1


def test_equal_bounds_hold(losses):
    rng = np.random.default_rng(4)
    jacobian, residual = rng.normal(size=(30, 2)), rng.normal(size=30)
    room = np.array([0.0, np.inf])
    left = losses.stationarity(residual, jacobian, room, room, 1.0)
    column = jacobian[:, 1] / np.linalg.norm(jacobian[:, 1])
    assert left == pytest.approx(abs(column @ residual), rel=1e-12)


def test_gradients_are_those_of_the_cost(losses):
    """√ρ' residuals and Jacobian have the gradient of the robust cost."""
    for loss in losses.LOSSES:
        problem = losses.draw(loss, "around", 6)
        residual, jacobian = problem.rows(problem.start)
        slope = losses.rho(loss, residual**2)[1]
        gradient = jacobian.T @ (slope * residual)
        differences = approx_fprime(problem.start, problem.cost, 1e-7)
        np.testing.assert_allclose(
            gradient, differences, rtol=1e-3, atol=1e-3 * np.abs(gradient).max()
        )


def test_kinds_of_problems(losses):
    """Starts lie within bounds; bounds cut off the truth or hold a parameter where they should."""
    for bounds in losses.BOUNDS:
        for seed in range(5):
            problem = losses.draw("huber", bounds, seed)
            assert np.all(problem.lower <= problem.start)
            assert np.all(problem.start <= problem.upper)
            equal = np.count_nonzero(problem.lower == problem.upper)
            assert equal == (bounds == "equal")
            assert np.all(np.isinf(problem.lower)) == (bounds == "none")
    problem = losses.draw("huber", "none", 17)
    assert problem.about["start"] == "all outliers"
    assert np.all(np.abs(problem.rows(problem.start)[0]) > 1)


def test_a_fit_is_judged(losses):
    """A plain fit reaches SciPy's minimum, and its row says so."""
    row = losses.run(("linear", "none", 3))
    assert losses.VERDICTS["success"](row)
    assert not [name for name in losses.FAILING if losses.VERDICTS[name](row)]
    assert row["above"] < losses.ABOVE
