from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.optimize import least_squares

from homodyne_fit.fitting.options import MultiStart
from homodyne_fit.fitting.problem import search_space, two_time_objective
from homodyne_fit.fitting.search.minimum import find_minimum
from homodyne_fit.fitting.search.samples import make_samples
from homodyne_fit.fitting.search.solution import SearchPoint
from homodyne_fit.fitting.search.starts import draw_starts, screen_starts
from homodyne_fit.fitting.settings import FitSettings
from homodyne_fit.kernel.stored_chunks import chunks_of
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.model.rates import LAMINAR_FLOW, STATIC, rates
from nlsq_stratified import NormalEquations, solve

pytestmark = pytest.mark.numerics

LOWER = np.array([100.0, -2, -1e5, 1e-6, -2, -0.1, -10])
UPPER = np.array([1e5, 2, 1e5, 0.5, 2, 0.1, 10])
START = np.array([1500.0, 0.5, 0.0, 3e-4, 0.0, 0.0, 2.0])


def space(model, fixed=()):
    p = len(model.parameters)
    values = np.full(p, np.nan)
    values[list(fixed)] = START[list(fixed)]
    return SearchSpace(model, 5.0, LOWER[:p], UPPER[:p], values)


@pytest.mark.parametrize("sampling", ["sobol", "latin_hypercube"])
def test_starts_spread_over_the_rates_that_the_data_resolve(measure, sampling):
    m = measure()
    lower, upper = 0 * LOWER, 1e9 + UPPER
    lower[[1, 4]], upper[[1, 4]] = -2, 2
    lower[6], upper[6] = -10.0, 10.0
    s = SearchSpace(LAMINAR_FLOW, 5.0, lower, upper, np.full(7, np.nan))
    multi = MultiStart(n_starts=256, sampling_strategy=sampling, seed=3)
    starts = draw_starts(s, START, m.data, m.gap, multi)
    assert starts.shape == (256, 7)
    span = np.log([0.1 / (0.0054**2 * 10.0), 3.0 / (0.0054**2 * 0.1)])
    rate = (np.log(starts[:, 0] * 5.0 ** starts[:, 1]) - span[0]) / np.ptp(span)
    # Each quarter of every axis holds a quarter of the starts.
    for unit in (rate, (starts[:, 1] + 1) / 2, (starts[:, 4] + 1) / 2, (starts[:, 6] + 10) / 20):
        assert np.all(np.histogram(unit, 4, (0, 1))[0] == 64)
    np.testing.assert_array_equal(starts[:, [2, 5]], np.tile(START[[2, 5]], (256, 1)))
    again = draw_starts(s, START, m.data, m.gap, multi)
    np.testing.assert_array_equal(starts, again)


def test_starts_keep_within_limits_and_keep_what_is_fixed(measure):
    m = measure()
    s = space(LAMINAR_FLOW, fixed=(3, 6))
    starts = draw_starts(s, START, m.data, m.gap, MultiStart(n_starts=64))
    assert np.all((starts >= LOWER) & (starts <= UPPER))
    assert np.all(starts[:, [3, 6]] == START[[3, 6]])


def two_valleys(y):
    """A cost with minima at 0 (deep) and near 10 (shallow)."""
    r = np.array([np.sin(y[0] * np.pi / 10) * 3, 0.1 * y[0] + 1])
    j = np.array([[np.cos(y[0] * np.pi / 10) * 3 * np.pi / 10], [0.1]])
    return NormalEquations(0.5 * r @ r, j.T @ r, j.T @ j, 2)


def at_each(cost):
    return lambda ys: [cost(y) for y in ys]


def test_screening_leaves_the_valley_of_the_given_start():
    candidates = np.array([[9.0], [14.0], [6.0], [1.0], [-3.0]])
    found = screen_starts([at_each(two_valleys)], candidates, np.array([-4.0]), np.array([20.0]))
    assert abs(found.coordinates[0, 0]) < 1.5
    assert found.n_refined == 5
    assert 1 <= found.n_reached < 5


@pytest.mark.parametrize(("noise", "asked"), [(1.0, True), (1e-3, False)])
def test_a_larger_sample_is_asked_only_where_there_is_a_doubt(noise, asked):
    """Valleys 10 apart, of which the one at -10 is the deepest by 0.5."""

    def valleys(y):
        state = two_valleys(y)
        cost = state.cost + 100 * noise**2
        return NormalEquations(cost, state.gradient, state.hessian, 200)

    calls = []

    def larger(y):
        calls.append(y)
        return valleys(y)

    candidates = 10.0 * np.arange(-5, 7)[:, None] + 1
    found = screen_starts(
        [at_each(valleys), at_each(larger)], candidates, np.array([-60.0]), np.array([70.0])
    )
    assert abs(found.coordinates[0, 0] + 10) < 1.5
    assert bool(calls) == asked


def test_candidates_that_are_not_finite_are_passed_over():
    def cost(y):
        state = two_valleys(y)
        return state if y[0] < 5 else NormalEquations(np.nan, state.gradient, state.hessian, 2)

    candidates = np.array([[9.0], [1.0]])
    found = screen_starts([at_each(cost)], candidates, np.array([-4.0]), np.array([20.0]))
    assert abs(found.coordinates[0, 0]) < 1.5
    with pytest.raises(ValueError, match="not finite at any start"):
        screen_starts([at_each(cost)], candidates[:1], np.array([-4.0]), np.array([20.0]))


class PowerLawSample:
    """Least squares of J(t) itself, in whatever coordinates a space has."""

    evaluations_left = 200

    def __init__(self, measured, times):
        self.measured, self.times = measured, times

    def cost_function(self, objective, space):
        def evaluate(y):
            value, jacobian = rates(
                space.model_in_coordinates, space.complete(y), self.times, space.tau, 0.1
            )
            r, j = value[0] - self.measured, jacobian[0][:, space.searched]
            return NormalEquations(0.5 * r @ r, j.T @ r, j.T @ j, len(r))

        return evaluate


@pytest.mark.parametrize(
    ("truth", "limited", "limit"),
    [
        ((1500.0, 0.4, 50.0), None, None),
        ((60.0, 0.5, 500.0), 0, 100.0),
        ((3e5, 0.01, -2.9e5), 0, 1e5),
    ],
)
def test_a_prefactor_beyond_its_limit_is_held_there(truth, limited, limit):
    times = np.linspace(0.1, 10, 60)
    rng = np.random.default_rng(0)
    measured = truth[0] * times ** truth[1] + truth[2] + rng.normal(0, 0.3, 60)
    sample = PowerLawSample(measured, times)
    s = space(STATIC)
    start = SearchPoint(s, s.to_coordinates(np.array([2000.0, 0.1, 0.0])))
    solution = find_minimum(None, start, sample, sample, tolerance=1e-6, max_nfev=200)
    x = solution.space.to_parameters(solution.result.x)
    assert solution.result.success
    if limited is None:
        assert not solution.space.held
        np.testing.assert_allclose(x, truth, rtol=0.02)
    else:
        assert dict(solution.space.held) == {limited: limit}
        assert x[limited] == limit
        expected = least_squares(
            lambda u: limit * times ** u[0] + u[1] - measured,
            x[1:] * [1.1, 0.9],
            bounds=(LOWER[1:3], UPPER[1:3]),
            x_scale="jac",
            xtol=1e-15,
            ftol=1e-15,
            gtol=1e-15,
        )
        assert solution.result.state.cost == pytest.approx(expected.cost, rel=1e-9)


def test_halving_finds_the_deep_basin_of_a_measurement_from_wrong_starts(measure):
    """Side lobes of the sinc² and rates far off: no start is near, and the counts are true."""
    m = measure(n=64, phi=(0.0, 45.0, 90.0), noise=0.01)
    settings = FitSettings(gap=m.gap, fixed={"D_offset": 150.0, "gamma_dot_t_offset": 5e-5})
    with ThreadPoolExecutor(1) as executor:
        space = search_space(m.data, settings)
        samples = make_samples(m.data, chunks_of(m.data, None), executor, settings.search.max_nfev)
        objective = two_time_objective(m.data, settings, space)
        evaluate = samples.probe.cost_function(objective, space)
        lower, upper = space.limits
        rng = np.random.default_rng(3)
        wrong = np.tile(m.params, (20, 1))
        wrong[:, 0] *= np.exp(rng.choice([-1, 1], 20) * rng.uniform(0.7, 3.0, 20))
        wrong[:, 3] *= np.exp(rng.choice([-1, 1], 20) * rng.uniform(0.7, 3.0, 20))
        wrong[:, 1], wrong[:, 4] = rng.uniform(-1, 1, 20), rng.uniform(-1, 1, 20)
        wrong[:, 6] = rng.uniform(-10, 10, 20)
        wrong[:, 0] = np.clip(wrong[:, 0], 100.0, 1e5)
        starts = np.array([space.to_coordinates(x) for x in wrong])
        together = samples.probe.cost_functions(objective, space)
        found = screen_starts([together], starts, lower, upper)
        home = solve(evaluate, space.to_coordinates(m.params), lower, upper)
        alone = [solve(evaluate, start, lower, upper, max_nfev=200).state.cost for start in starts]
    variance = 2 * home.state.cost / home.state.n_points
    assert evaluate(found.coordinates[0]).cost <= home.state.cost + 0.5 * variance
    assert (found.n_starts, found.n_refined) == (20, 16)
    # Each counted start gets there alone, too; not all do.
    reach = np.count_nonzero(np.array(alone) <= home.state.cost + 12.5 * variance)
    assert 1 <= found.n_reached <= min(reach, 16)


def test_a_stack_of_one_set_of_parameters_is_told_from_one_set(measure):
    m = measure(n=20)
    settings = FitSettings(gap=m.gap)
    objective = two_time_objective(m.data, settings, search_space(m.data, settings))
    full = np.array([1500.0, 20.0, 0.0, 3e-4, 1e-5, 0.0, 2.0])
    stacked, alone = objective.curves(full[None]), objective.curves(full)
    assert (stacked.transport.shape, alone.transport.shape) == ((1, 20), (20,))
    np.testing.assert_array_equal(stacked.shear_jacobian[0], alone.shear_jacobian)
