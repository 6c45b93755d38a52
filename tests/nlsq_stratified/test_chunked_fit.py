"""How a fit with chunks searches, what it says on the way, and what it says in the end."""

import inspect
import io
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from nlsq.callbacks import CallbackChain, EarlyStopping, IterationLogger, StopOptimization

import nlsq_stratified
from nlsq_stratified import Chunks

curve_fit: Any = scipy.optimize.curve_fit
curve_fit_large: Any = nlsq_stratified.curve_fit_large

N = 120


def decay(x, a, b, c):
    return a * jnp.exp(-b * x) + c


def decay_in_numpy(x, a, b, c):
    return a * np.exp(-b * x) + c


def wave(x, amplitude, frequency):
    return amplitude * jnp.sin(frequency * x)


def line(x, a, b):
    return a + b * x


def example(seed, n=N, noise=0.05):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 4, n)
    truth = np.array([rng.uniform(1, 4), rng.uniform(0.8, 1.6), rng.uniform(-1, 1)])
    return x, decay_in_numpy(x, *truth) + noise * rng.normal(size=n), truth


@pytest.fixture(scope="module")
def data():
    x, y, _ = example(0)
    return x, y


@pytest.fixture(scope="module")
def expected(data):
    return curve_fit(decay_in_numpy, *data, [1, 1, 1], xtol=1e-14, ftol=1e-14, gtol=1e-14)


def distance(fit, expected):
    """The largest difference of a parameter, in its standard errors."""
    popt, pcov = expected
    return np.max(np.abs(fit.x - popt) / np.sqrt(np.diag(pcov)))


def bits(fit):
    return fit.x.tobytes(), fit.pcov.tobytes(), fit.cost, fit.nit, fit.nfev, tuple(fit.chunk_costs)


# When it stops


def test_without_tolerances_it_stops_at_a_fraction_of_standard_errors(data, expected):
    fit = curve_fit_large(decay, *data, chunks=30)
    assert fit.message == "within 0.0001 standard errors of the minimum"
    assert distance(fit, expected) < 2e-4


@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-6])
def test_the_tolerance_is_a_distance_in_standard_errors(data, expected, tolerance):
    fit = curve_fit_large(decay, *data, chunks=30, tolerance=tolerance)
    assert fit.message == f"within {tolerance:g} standard errors of the minimum"
    assert distance(fit, expected) < 2 * tolerance


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(ftol=1e-13), "no step can lower the cost by a resolvable amount"),
        (dict(xtol=1e-9), "the steps have become too small to matter"),
        (dict(gtol=1e-9), "the gradient vanishes"),
        (dict(ftol=1e-13, xtol=1e-13, gtol=1e-13), ""),
    ],
)
def test_tolerances_that_are_given_decide(data, expected, options, message):
    """Tighter than the default, so the answer is closer."""
    fit = curve_fit_large(decay, *data, chunks=30, **options)
    assert fit.success
    assert fit.message.startswith(message)
    assert distance(fit, expected) < 1e-5


@pytest.mark.parametrize("name", ["ftol", "xtol", "gtol", "tolerance"])
def test_a_loose_tolerance_saves_passes(data, name):
    tight = curve_fit_large(decay, *data, chunks=30, **{name: 1e-9})
    loose = curve_fit_large(decay, *data, chunks=30, **{name: 0.3})
    assert loose.success
    assert loose.nfev < tight.nfev


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_a_limit_of_evaluations_that_is_hit_is_no_success(data, limit):
    fit = curve_fit_large(decay, *data, p0=[9, 4, 9], chunks=30, max_nfev=limit)
    assert fit.success is False
    assert fit.nfev == limit
    evaluations = f"{limit} evaluation{'s' * (limit > 1)}"
    assert fit.message == f"stopped after {evaluations} without converging"
    assert np.all(np.isinf(fit.pcov))
    assert np.all(np.isfinite(fit.x))


@pytest.mark.parametrize("x_scale", [1.0, [1.0, 0.5, 2.0], [0.1, 10.0, 1.0]])
def test_the_scale_of_the_parameters_does_not_change_the_answer(data, expected, x_scale):
    fit = curve_fit_large(decay, *data, chunks=30, x_scale=x_scale)
    assert fit.success
    assert distance(fit, expected) < 1e-3


def test_the_scale_of_the_parameters_changes_the_way(data):
    ways = []
    for x_scale in (None, [0.1, 10.0, 1.0]):
        way = []
        curve_fit_large(
            decay,
            *data,
            p0=[9, 4, 9],
            chunks=30,
            x_scale=x_scale,
            callback=lambda way=way, **given: way.append(given["params"]),
        )
        ways.append(way)
    assert not np.array_equal(ways[0][0], ways[1][0])


def test_another_word_is_no_scale(data):
    with pytest.raises(ValueError, match=r"^x_scale must be numbers or 'jac', not 'auto'$"):
        curve_fit_large(decay, *data, chunks=30, x_scale="auto")


def test_the_scale_of_the_jacobian_is_the_default(data):
    default = curve_fit_large(decay, *data, chunks=30)
    assert bits(curve_fit_large(decay, *data, chunks=30, x_scale="jac")) == bits(default)


# Callbacks


def test_the_callback_sees_every_accepted_step(data):
    x, y = data
    seen = []

    def callback(iteration, cost, params, info):
        seen.append((iteration, cost, params, info))

    fit = curve_fit_large(decay, x, y, chunks=30, callback=callback)
    assert [iteration for iteration, *_ in seen] == list(range(1, fit.nit + 1))
    for _, cost, params, info in seen:
        residual = decay_in_numpy(x, *params) - y
        a, b, _ = params
        e = np.exp(-b * x)
        gradient = np.stack([e, -a * x * e, np.ones(N)]) @ residual
        assert cost == pytest.approx(0.5 * residual @ residual)
        np.testing.assert_allclose(info["gradient"], gradient, atol=1e-9)
        assert info["gradient_norm"] == np.max(np.abs(info["gradient"]))
    assert np.array_equal(seen[-1][2], fit.x)
    assert seen[-1][3]["nfev"] == fit.nfev
    assert all(isinstance(cost, float) for _, cost, _, _ in seen)


def test_the_callback_gets_the_facts_that_nlsq_gives(data):
    theirs, ours = [], []
    for target, options in ((theirs, {}), (ours, dict(chunks=30))):
        curve_fit_large(
            decay,
            *data,
            p0=[3.0, 2.0, 0.5],
            callback=lambda info, t=target, **_: t.append(info),
            **options,
        )
    assert theirs[0].keys() <= ours[0].keys()


def test_the_callback_may_not_change_the_search(data):
    def callback(iteration, cost, params, info):
        params[:] = np.nan
        info["gradient"][:] = np.nan

    plain = curve_fit_large(decay, *data, chunks=30)
    assert bits(curve_fit_large(decay, *data, chunks=30, callback=callback)) == bits(plain)


def test_the_callback_may_stop_the_search(data):
    def callback(iteration, cost, params, info):
        if iteration == 2:
            raise StopOptimization("enough")

    fit = curve_fit_large(decay, *data, chunks=30, callback=callback)
    assert fit.nit == 2
    assert fit.success is False
    assert fit.message == "stopped by the callback: enough"
    assert np.all(np.isinf(fit.pcov))


def test_an_error_in_the_callback_is_raised(data):
    def callback(**given):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        curve_fit_large(decay, *data, chunks=30, callback=callback)


def test_callbacks_of_nlsq_work(data):
    log = io.StringIO()
    logger = IterationLogger(file=log, log_params=True)
    stopping = EarlyStopping(patience=1, min_delta=1e9, verbose=False)
    fit = curve_fit_large(decay, *data, chunks=30, callback=logger)
    assert len(re.findall(r"^Iter +\d+ \| Cost: ", log.getvalue(), re.MULTILINE)) == fit.nit
    stopped = curve_fit_large(decay, *data, chunks=30, callback=stopping)
    assert stopped.nit == 2  # the first cost is an improvement over none
    assert "Early stopping" in stopped.message
    both = CallbackChain(IterationLogger(file=io.StringIO()), EarlyStopping(verbose=False))
    assert curve_fit_large(decay, *data, chunks=30, callback=both).success


# Further starts


@pytest.fixture(scope="module")
def oscillation():
    """A sine whose frequency has many local minima."""
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 10, 400)
    return x, 1.5 * np.sin(3.1 * x) + 0.05 * rng.normal(size=400)


BOX = ([0.1, 0.2], [5.0, 8.0])


def test_one_start_ends_in_a_local_minimum(oscillation):
    fit = curve_fit_large(wave, *oscillation, [1.0, 6.5], bounds=BOX, chunks=50)
    assert abs(fit.x[1] - 3.1) > 0.5


@pytest.mark.parametrize("sampler", ["lhs", "sobol", "halton"])
@pytest.mark.parametrize("center_on_p0", [True, False])
def test_further_starts_find_the_global_minimum(oscillation, sampler, center_on_p0):
    options: dict[str, Any] = dict(
        bounds=BOX,
        chunks=50,
        multistart=True,
        n_starts=60,
        sampler=sampler,
        center_on_p0=center_on_p0,
        scale_factor=2.0,
    )
    fit = curve_fit_large(wave, *oscillation, [1.0, 6.5], **options)
    popt, pcov = curve_fit(lambda x, a, w: a * np.sin(w * x), *oscillation, [1.5, 3.1])
    assert fit.success
    assert distance(fit, (popt, pcov)) < 1e-3
    assert bits(curve_fit_large(wave, *oscillation, [1.0, 6.5], **options)) == bits(fit)


def test_a_global_search_needs_no_number_of_starts(oscillation):
    """Twenty, as NLSQ has it."""
    box = ([0.1, 2.0], [5.0, 4.5])
    fit = curve_fit_large(wave, *oscillation, [1.0, 4.0], bounds=box, chunks=50, global_search=True)
    same = curve_fit_large(
        wave, *oscillation, [1.0, 4.0], bounds=box, chunks=50, multistart=True, n_starts=20
    )
    assert abs(fit.x[1] - 3.1) < 0.01
    assert bits(same) == bits(fit)


@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), ([0.0, 0.1, -np.inf], np.inf)])
def test_further_starts_need_no_bounds(data, expected, bounds):
    fit = curve_fit_large(
        decay, *data, [1.0, 1.0, 1.0], bounds=bounds, chunks=30, multistart=True, n_starts=8
    )
    assert distance(fit, expected) < 1e-3


def test_starts_that_are_not_finite_are_passed_over():
    """The model has no value for a negative rate, as drawn on the far side of zero."""
    rng = np.random.default_rng(2)
    x = rng.uniform(1, 2, 100)
    y = x**1.5 + 0.01 * rng.normal(size=100)

    def power(x, a):
        return jnp.where(a > 0, x**a, jnp.nan)

    fit = curve_fit_large(power, x, y, [0.5], chunks=25, multistart=True, n_starts=10)
    assert fit.success
    assert fit.x[0] == pytest.approx(1.5, abs=0.01)


def test_without_multistart_the_number_of_starts_has_no_effect(data):
    plain = curve_fit_large(decay, *data, chunks=30)
    assert bits(curve_fit_large(decay, *data, chunks=30, n_starts=5, sampler="sobol")) == bits(
        plain
    )


def test_an_unknown_sampler_is_refused(data):
    with pytest.raises(ValueError, match="sampler"):
        curve_fit_large(decay, *data, chunks=30, multistart=True, sampler="dice")


# Stages


class Counting:
    """Chunks that count how often each is read."""

    def __init__(self, x, y, n_chunks):
        self.parts = list(zip(np.split(x, n_chunks), np.split(y, n_chunks), strict=True))
        self.reads = [0] * n_chunks

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, index):
        self.reads[index] += 1
        return self.parts[index]


@settings(max_examples=10)
@given(st.integers(0, 99), st.sampled_from([1, 2, 4, 5, 16, 20]))
def test_stages_lead_to_the_same_answer(seed, n_chunks):
    x, y, truth = example(seed, n=2000)
    start = truth * [2, 2, 0.5]
    expected = curve_fit(decay_in_numpy, x, y, truth)
    chunks = Chunks.of_size(2000, 2000 // n_chunks)
    fit = curve_fit_large(decay, x, y, start, chunks=chunks, progressive=True)
    plain = curve_fit_large(decay, x, y, start, chunks=chunks)
    assert fit.success
    assert distance(fit, expected) < 1e-3
    assert distance(fit, (plain.x, plain.pcov)) < 1e-3
    np.testing.assert_allclose(fit.pcov, plain.pcov, rtol=1e-3)
    assert fit.nfev <= plain.nfev


def test_stages_save_full_passes():
    x, y, truth = example(3, n=3200)
    reads = []
    for progressive in (False, True):
        chunks = Counting(x, y, 32)
        fit = curve_fit_large(decay, p0=truth * [3, 3, -1], chunks=chunks, progressive=progressive)
        assert fit.success
        assert min(chunks.reads) == fit.nfev + progressive  # one at p0, for cost_initial
        reads.append(chunks.reads)
    assert max(reads[0]) == min(reads[0])
    assert min(reads[1]) <= min(reads[0]) - 2
    assert sum(reads[1]) < sum(reads[0])
    assert reads[1][0] > reads[1][3] > reads[1][15] > reads[1][31]


def test_stages_keep_to_the_bounds(data, expected):
    popt, _ = expected
    bounds = ([-np.inf, popt[1] + 0.3, -np.inf], np.inf)
    x, y = data
    plain = curve_fit_large(decay, x, y, bounds=bounds, chunks=10)
    fit = curve_fit_large(decay, x, y, bounds=bounds, chunks=10, progressive=True)
    assert fit.x[1] == bounds[0][1]
    np.testing.assert_allclose(fit.x, plain.x, rtol=1e-4)


def test_stages_and_further_starts_together(oscillation):
    fit = curve_fit_large(
        wave,
        *oscillation,
        [1.0, 6.5],
        bounds=BOX,
        chunks=25,
        multistart=True,
        n_starts=60,
        center_on_p0=False,
        progressive=True,
    )
    assert abs(fit.x[1] - 3.1) < 0.01


# Executors


def test_the_executor_and_a_repetition_do_not_change_a_bit(data):
    x, y = data
    chunks = Chunks([31, 40, 29, 20], np.random.default_rng(1).permutation(N))
    options: dict[str, Any] = dict(
        chunks=chunks, multistart=True, n_starts=5, progressive=True, loss="huber", f_scale=0.05
    )
    first = curve_fit_large(decay, x, y, **options)
    assert bits(curve_fit_large(decay, x, y, **options)) == bits(first)
    with ThreadPoolExecutor(3) as executor:
        assert bits(curve_fit_large(decay, x, y, executor=executor, **options)) == bits(first)


# The result


@pytest.mark.parametrize("loss", ["linear", "cauchy"])
def test_the_costs_of_the_chunks_are_those_at_the_answer(data, loss):
    x, y = data
    chunks = Chunks([50, 30, 40], np.random.default_rng(2).permutation(N))
    fit = curve_fit_large(decay, x, y, chunks=chunks, loss=loss, f_scale=0.1)
    squares = (decay_in_numpy(x, *fit.x) - y) ** 2
    values = squares if loss == "linear" else 0.01 * np.log1p(squares / 0.01)
    np.testing.assert_allclose(fit.chunk_costs, [0.5 * values[i].sum() for i in chunks], rtol=1e-9)
    assert np.sum(fit.chunk_costs) == pytest.approx(fit.cost, rel=1e-12)
    assert fit.chunk_sizes == (50, 30, 40)
    assert fit.n_points == N


def test_the_result_has_what_the_documentation_lists(data):
    fit = curve_fit_large(decay, *data, chunks=30)
    names = "x pcov cost cost_initial grad nit nfev success message chunk_sizes chunk_costs"
    missing = [name for name in names.split() if name not in fit]
    assert missing == []
    popt, pcov = fit
    assert popt is fit.x
    assert pcov is fit.pcov
    assert fit.optimality == np.max(np.abs(fit.grad))
    low, high = fit.confidence_intervals(0.95)[0]
    assert low < fit.x[0] < high


# Honest outcomes


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x, a, b: a + 0 * b * x, "b"),
        (lambda x, a, b: 0 * a + b * x, "a"),
        (lambda x, a, b, c: b * x, "a, c"),
        (lambda x, a, b: a + jnp.where(x > 9, b, 0.0), "b"),
    ],
)
@pytest.mark.parametrize("options", [{}, dict(progressive=True), dict(multistart=True, n_starts=3)])
def test_a_parameter_no_point_depends_on_is_named(data, function, names, options):
    p = len(inspect.signature(function).parameters) - 1
    with pytest.raises(ValueError, match=rf"^no point depends on parameter {names} at \["):
        curve_fit_large(function, *data, [1.5] * p, chunks=30, **options)


def test_a_parameter_that_few_points_determine_is_fitted():
    """Only the last chunk knows the second parameter."""
    x = np.linspace(0, 10, 100)
    rng = np.random.default_rng(0)
    y = 1 + np.where(x > 9, 2.0, 0.0) + 0.1 * rng.normal(size=100)
    for progressive in (False, True):
        fit = curve_fit_large(
            lambda x, a, b: a + jnp.where(x > 9, b, 0.0), x, y, chunks=10, progressive=progressive
        )
        assert fit.x[1] == pytest.approx(y[x > 9].mean() - y[x <= 9].mean(), rel=1e-4)


def assert_not_finite(**options):
    x = np.linspace(0.1, 2, 60)
    message = "the model is not finite in chunk 3 at a = 1.5, b = 2"
    with pytest.raises(ValueError, match=f"^{message}$"):
        curve_fit_large(
            lambda x, a, b: a * jnp.sqrt(1.4 - x) + b,
            x,
            x,
            [1.5, 2.0],
            bounds=([1.5, 2.0], [1.5, 2.0]) if "multistart" in options else (-np.inf, np.inf),
            chunks=12,
            **options,
        )


@pytest.mark.parametrize("options", [{}, dict(multistart=True, n_starts=3)])
def test_a_model_that_is_not_finite_names_the_chunk_and_the_parameters(options):
    assert_not_finite(**options)


def test_the_parameters_named_are_those_of_the_start():
    assert_not_finite(progressive=True)


def test_a_derivative_that_is_not_finite_is_named():
    x = np.arange(30.0)
    message = (
        "the model is finite, but its derivatives by the parameters are not, at point 0 of chunk 0 "
        "(x = 0) and b = 1, a = 1: a root, a power or a norm of 0 has none; leave the point out, "
        "or write the model without it there"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        curve_fit_large(lambda x, b, a: b + jnp.sqrt(a * x), x, x, chunks=10)


@pytest.mark.parametrize("threads", [None, 2])
def test_a_derivative_that_is_not_finite_names_point_and_chunk(threads):
    x = np.arange(1.0, 31.0)
    message = (
        "the model is finite, but its derivatives by the parameters are not, at point 3 of chunk 1 "
        "(x = 14) and a = 0:"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"), ThreadPoolExecutor(2) as pool:
        curve_fit_large(
            lambda x, a: jnp.where(x > 13, jnp.sqrt(a), a),
            x,
            x,
            [0.0],
            chunks=10,
            executor=pool if threads else None,
        )


@pytest.mark.parametrize("options", [dict(progressive=True), dict(multistart=True, n_starts=4)])
def test_a_sample_may_lead_to_where_other_points_have_no_value(options):
    """The first chunk alone would have a = -1, where the others have none."""
    x = np.linspace(2, 0, 64)
    y = np.sqrt(x + np.where(x > 1.5, -1.0, 0.5))
    plain = curve_fit_large(lambda x, a: jnp.sqrt(a + x), x, y, [2.0], chunks=8)
    fit = curve_fit_large(lambda x, a: jnp.sqrt(a + x), x, y, [2.0], chunks=8, **options)
    assert plain.success
    np.testing.assert_allclose(fit.x, plain.x, rtol=1e-4)


def test_a_trial_that_is_not_finite_is_only_a_step_back():
    x = np.linspace(0, 1, 50)
    y = np.log(0.05 + x)
    fit = curve_fit_large(lambda x, a: jnp.log(a + x), x, y, [3.0], chunks=10)
    assert fit.success
    assert fit.x[0] == pytest.approx(0.05, rel=1e-3)


def test_fixed_parameters_are_left_alone(data):
    fit = curve_fit_large(decay, *data, bounds=([0, 1.1, 0.2], [9, 1.1, 0.2]), chunks=30)
    assert fit.success
    assert fit.x[1:].tolist() == [1.1, 0.2]


def test_a_start_of_another_length_is_refused(data):
    message = "^p0 has 3 values, and the model has 2 parameters: a, b$"
    with pytest.raises(ValueError, match=message):
        curve_fit_large(line, *data, [1.0, 1.0, 1.0], chunks=30)


def test_parameters_with_defaults_may_be_left_to_them(data):
    x, y = data

    def model(x, a, b, power=1.0):
        return a + b * x**power

    fit = curve_fit_large(model, x, y, [1.0, 1.0], chunks=30)
    np.testing.assert_allclose(fit.x, np.polyfit(x, y, 1)[::-1], rtol=1e-4)


def test_unknown_options_are_refused(data):
    message = "not supported together with chunks: colour, shade"
    with pytest.raises(TypeError, match=f"^{message}$"):
        curve_fit_large(line, *data, chunks=30, shade=2, colour=None)


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"multistart": True, "n_starts": 6}])
@pytest.mark.parametrize("max_nfev", [1, 2, 4])
def test_one_budget_bounds_the_whole_fit(how, max_nfev):
    x, y, truth = example(3, n=3200)
    chunks = Counting(x, y, 32)
    fit = curve_fit_large(
        decay, p0=truth * [3, 3, -1], chunks=chunks, max_nfev=max_nfev, tolerance=1e-9, **how
    )
    assert not fit.success
    assert "without converging" in fit.message
    # Each stage looks at its start; the last evaluation is at p0, for cost_initial.
    assert sum(chunks.reads) / 32 <= max_nfev + 3


@pytest.mark.parametrize("bounds", [((0, 0, -5), (9, 9, 5)), ((0, 0, -5), (0, 9, 5))])
def test_an_amplitude_of_zero_leaves_its_rate_undetermined(bounds):
    x = np.linspace(0, 4, 200)
    y = -np.exp(-x) + 0.5 + np.random.default_rng(0).normal(0, 0.01, 200)
    fit = curve_fit_large(decay, x, y, [0.0, 1.0, 0.0], bounds=bounds, chunks=50)
    assert fit.success
    assert fit.x[0] == 0
    assert "no point depends on b there" in fit.message
    assert np.all(np.isinf(fit.pcov[1]))
    assert fit.x[2] == pytest.approx(y.mean(), abs=1e-6)
