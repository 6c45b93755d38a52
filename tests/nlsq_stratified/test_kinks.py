"""The cost near kinks: the model of several pieces, and the minima that it finds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from nlsq_stratified import NormalEquations, solve
from nlsq_stratified.solver.kinks import KinkModel, VisitedPoints


def random_model(seed, p=3, k=5):
    """Pieces of which the one at the step 0 has the largest level, in a box around 0."""
    rng = np.random.default_rng(seed)
    levels = np.append(0.0, -rng.exponential(size=k - 1))
    lower = np.where(rng.random(p) < 0.5, -rng.exponential(size=p), -np.inf)
    upper = np.where(rng.random(p) < 0.5, rng.exponential(size=p), np.inf)
    factor = rng.normal(size=(p, p)) + 2 * np.eye(p)
    return KinkModel(factor, np.ones(p), rng.normal(size=(p, k)), levels, lower, upper, 1.0)


@settings(max_examples=40)
@given(st.integers(0, 2**20), st.sampled_from([0.0, 0.1, 10.0]))
def test_step_is_the_minimum_that_a_general_solver_finds(seed, damping):
    model = random_model(seed)
    p = len(model.damper)

    def damped(step):
        return -model.gain(step) + 0.5 * damping * step @ step

    oracle = minimize(
        lambda v: v[p] + 0.5 * np.sum((model.factor @ v[:p]) ** 2) + 0.5 * damping * v[:p] @ v[:p],
        np.zeros(p + 1),
        method="SLSQP",
        bounds=[*zip(model.lower, model.upper, strict=True), (None, None)],
        constraints={
            "type": "ineq",
            "fun": lambda v: v[p] - model.slopes.T @ v[:p] - model.levels,
        },
        options={"ftol": 1e-12, "maxiter": 500},
    )
    step = model.step(damping)
    assert np.all((model.lower <= step) & (step <= model.upper))
    # The level has a curvature of 1e-4.
    assert damped(step) <= damped(oracle.x[:p]) + 1e-3


def test_pieces_that_lie_above_the_cost_are_left_out():
    """A cost -|x| is a maximum at its kink: the slope on the other side does not hold there."""
    visited, one = VisitedPoints(), np.ones(1)
    visited.add(np.array([-0.5]), -0.5, np.array([1.0]))
    slopes, levels = visited.pieces(
        np.array([0.1]), -0.1, -one, np.zeros((1, 1)), one, radius=1.0, unit=1.0
    )
    assert slopes.tolist() == [[-1.0]]
    assert levels.tolist() == [0.0]


# Residuals of a valley with kinks: beside a smooth part, |direction · x| is added to each.
N_POINTS = 40


def valley(seed, p=3, height=0.02, sign=1.0):
    """Problem whose cost has two kinks through 0, its cost alone, and where to start."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(N_POINTS, p))
    data = rng.normal(size=N_POINTS)
    optimum = np.linalg.lstsq(matrix, -data, rcond=None)[0]
    directions = rng.normal(size=(2, p))
    columns = height * data[:, None] * np.ones(2) * sign

    def residual(x):
        return data + matrix @ x + columns @ np.abs(directions @ (x - optimum))

    def at(x):
        signs = np.where(directions @ (x - optimum) >= 0, 1.0, -1.0)
        jacobian = matrix + columns @ (signs[:, None] * directions)
        r = residual(x)
        return NormalEquations(0.5 * r @ r, jacobian.T @ r, jacobian.T @ jacobian, N_POINTS)

    return at, optimum + rng.normal(size=p)


@pytest.mark.parametrize("seed", range(20))
def test_minimum_on_kinks_is_found_and_recognised(seed):
    at, start = valley(seed)
    result = solve(at, start)
    best = min(
        minimize(
            lambda x: at(x).cost,
            result.x,
            method="Nelder-Mead",
            options={"xatol": 1e-8, "fatol": 1e-12, "maxiter": 4000, "maxfev": 4000},
        ).fun,
        at(result.x).cost,
    )
    variance = 2 * best / (N_POINTS - len(start))
    assert result.success, result.message
    # Within 0.1 standard errors.
    assert result.state.cost - best <= 0.5 * 0.1**2 * variance


@pytest.mark.parametrize("seed", range(20))
def test_maximum_on_kinks_is_left(seed):
    at, _ = valley(seed, height=0.3, sign=-1.0)
    result = solve(at, np.zeros(3), max_nfev=300)
    rng = np.random.default_rng(seed)
    variance = 2 * result.state.cost / N_POINTS
    if "kink" in result.message:
        around = result.x + 0.1 * np.sqrt(variance / N_POINTS) * rng.normal(size=(200, 3))
        assert min(at(x).cost for x in around) >= result.state.cost - 0.5 * 0.1**2 * variance
