"""The least-squares problem in a box, against every active set in turn."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

from nlsq_stratified.solver.box import possible_decrease, solve_in_box


def brute_force(matrix, target, lower, upper):
    """The best of the minima over all faces of the box that lie in it, by its sum of squares."""
    p, best = matrix.shape[1], (np.inf, None)
    for face in itertools.product((-1, 0, 1), repeat=p):
        at = np.array(face)
        s = np.where(at < 0, lower, np.where(at > 0, upper, 0.0))
        if not np.all(np.isfinite(s)):
            continue
        free = at == 0
        if np.any(free):
            rest = target - matrix[:, ~free] @ s[~free]
            s[free] = np.linalg.lstsq(matrix[:, free], rest, rcond=None)[0]
            if np.any(s < lower) or np.any(s > upper):
                continue
        residual = matrix @ s - target
        best = min(best, (float(residual @ residual), tuple(s)), key=lambda found: found[0])
    return np.array(best[1])


def problem(rng, p, log_condition, log_box, log_units):
    """A matrix of a given condition, in odd units, and a box that may be far from the minimum."""
    m = p + int(rng.integers(0, 4))
    left, right = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (m, p))
    singular = np.zeros((m, p))
    singular[:p, :p] = np.diag(10.0 ** np.linspace(0, -log_condition, p))
    units = 10.0 ** rng.uniform(-log_units, log_units, p)
    matrix = left @ singular @ right / units
    target = matrix @ (rng.standard_normal(p) * units) + rng.standard_normal(m)
    width = 10.0**log_box
    lower = -np.abs(rng.standard_normal(p)) * width * units
    upper = np.abs(rng.standard_normal(p)) * width * units
    for bound, value in ((lower, -np.inf), (upper, np.inf), (lower, 0.0), (upper, 0.0)):
        bound[rng.random(p) < 0.15] = value
    return matrix, target, lower, upper


def excess(matrix, target, s, best):
    """Half the difference of the sums of squares, without the loss of digits."""
    step = matrix @ (s - best)
    return float(step @ (matrix @ best - target) + 0.5 * step @ step)


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    p=st.integers(1, 5),
    log_condition=st.floats(0, 7),
    log_box=st.floats(-9, 3),
    log_units=st.sampled_from([0.0, 3.0, 30.0]),
)
def test_is_the_best_of_all_faces(seed, p, log_condition, log_box, log_units):
    case = problem(np.random.default_rng(seed), p, log_condition, log_box, log_units)
    matrix, target, lower, upper = case
    s, best = solve_in_box(*case), brute_force(*case)
    assert np.all((lower <= s) & (s <= upper))
    # In units of what the whole box can change the sum by, or the target.
    reach = np.linalg.norm(matrix * np.where(lower == upper, 0.0, s), axis=0).sum()
    size = min(np.linalg.norm(target), np.linalg.norm(matrix @ best) + reach)
    assert excess(matrix, target, s, best) <= 1e-9 * size * max(size, 1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_eight_unknowns(seed):
    case = problem(np.random.default_rng(seed), 8, 4.0, -0.5, 3.0)
    np.testing.assert_allclose(case[0] @ solve_in_box(*case), case[0] @ brute_force(*case), 1e-7)


@pytest.mark.parametrize("p", [20, 60])
@pytest.mark.parametrize("log_condition", [0.0, 6.0])
def test_many_unknowns_meet_the_conditions_of_optimality(p, log_condition):
    case = problem(np.random.default_rng(p), p, log_condition, -1.0, 5.0)
    matrix, target, lower, upper = case
    s = solve_in_box(*case)
    slopes = matrix.T @ (matrix @ s - target) / np.linalg.norm(matrix, axis=0)
    inside = (lower < s) & (s < upper)
    resolution = 1e-12 * np.linalg.norm(target)
    assert np.all(np.abs(slopes[inside]) <= resolution)
    assert np.all(slopes[(s == lower) & (s < upper)] >= -resolution)
    assert np.all(slopes[(s == upper) & (s > lower)] <= resolution)
    assert possible_decrease(*case, s) <= 1e-20 * (target @ target) * 10**log_condition


def test_box_far_from_the_minimum_without_bounds():
    # A minimum 1e8 times the size of the box away, and two columns that nearly agree.
    matrix = np.array([[1.0, 1.0, 0.0], [0.0, 1e-3, 1.0], [1e-3, 0.0, 1.0]])
    target = np.array([1e8, -2e8, 1.0])
    box = np.full(3, -1.0), np.full(3, 1.0)
    np.testing.assert_array_equal(
        solve_in_box(matrix, target, *box), brute_force(matrix, target, *box)
    )


def test_component_without_effect_or_room_stays():
    matrix = np.array([[1.0, 0.0, 2.0], [1.0, 0.0, -2.0]])
    s = solve_in_box(matrix, np.array([3.0, 1.0]), np.array([-9.0, -9.0, 0]), np.array([9, 9, 0]))
    np.testing.assert_allclose(s, [2.0, 0.0, 0.0])


class TestPossibleDecrease:
    @settings(deadline=None)
    @given(
        seed=st.integers(0, 2**32 - 1),
        p=st.integers(1, 5),
        log_condition=st.floats(0, 5),
        log_box=st.floats(-4, 2),
    )
    def test_bounds_the_decrease_from_any_point(self, seed, p, log_condition, log_box):
        rng = np.random.default_rng(seed)
        case = problem(rng, p, log_condition, log_box, 1.0)
        matrix, target, lower, upper = case
        solution = solve_in_box(*case)
        s = np.clip(solution * rng.uniform(0.5, 1.5, p), lower, upper)
        left = excess(matrix, target, s, solution)
        assert possible_decrease(*case, s) >= left * (1 - 1e-6) - 1e-12 * (target @ target)

    def test_vanishes_at_the_solution_that_scipy_finds(self):
        case = problem(np.random.default_rng(3), 6, 1.0, 0.0, 0.0)
        best = lsq_linear(case[0], case[1], case[2:], tol=1e-14)
        assert possible_decrease(*case, best.x) == pytest.approx(0.0, abs=1e-10)
