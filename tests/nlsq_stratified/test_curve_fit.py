"""`curve_fit_large` with chunks against SciPy's `curve_fit` on all points at once."""

import inspect
import math
import re
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import nlsq
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, curve_fit
from threadpoolctl import threadpool_info

import nlsq_stratified
from nlsq_stratified import Chunks

pytestmark = pytest.mark.numerics

# Without chunks the result may be a plain tuple, so its type is a union; here it never is.
curve_fit_large: Any = nlsq_stratified.curve_fit_large
curve_fit_of_nlsq: Any = nlsq.curve_fit_large


def line(x, a, b, np=jnp):
    return a + b * x


def through_origin(x, a):
    return a * x


def decay(x, a, b, c, np=jnp):
    return a * np.exp(-b * x) + c


def peak(x, height, centre, sharpness, np=jnp):
    # By its sharpness: of a width the data leave the sign open.
    return height * np.exp(-sharpness * (x - centre) ** 2)


def surface(x, a, b, c, np=jnp):
    """Two features."""
    return a * x[0] + np.exp(b * x[1]) + c * x[0] * x[1]


# model, features, and a range in which to draw the truth of each parameter
MODELS = {
    "line": (line, 1, [(-3, 3), (-3, 3)]),
    "decay": (decay, 1, [(1, 4), (0.8, 2), (-1, 1)]),
    "peak": (peak, 1, [(1, 4), (1.5, 2.5), (1, 6)]),
    "surface": (surface, 2, [(-2, 2), (0.2, 1), (-2, 2)]),
}


def parameters(model):
    """As a signature without the argument `np`, for either library."""
    p = len(model[2])
    return {
        2: (lambda x, a, b: model[0](x, a, b), lambda x, a, b: model[0](x, a, b, np=np)),
        3: (
            lambda x, a, b, c: model[0](x, a, b, c),
            lambda x, a, b, c: model[0](x, a, b, c, np=np),
        ),
    }[p]


# The compiled model is kept by its identity: one function each for all tests.
IN_JAX = {name: parameters(model)[0] for name, model in MODELS.items()}
IN_NUMPY = {name: parameters(model)[1] for name, model in MODELS.items()}


def example(name, seed, n=60, noise=0.05):
    """x, y, σ of noise around the model, the truth, and a start near it."""
    rng = np.random.default_rng(seed)
    _, features, ranges = MODELS[name]
    x = rng.uniform(0, 4, n) if features == 1 else rng.uniform(0, 2, (features, n))
    truth = np.array([rng.uniform(*r) for r in ranges])
    clean = IN_NUMPY[name](x, *truth)
    sigma = noise * np.std(clean) * rng.uniform(0.5, 2, n)
    return x, clean + sigma * rng.normal(size=n), sigma, truth, truth * rng.uniform(0.8, 1.25)


def reference(name, x, y, p0, **options):
    return curve_fit(
        IN_NUMPY[name], x, y, p0, method="trf", xtol=1e-13, ftol=1e-13, gtol=1e-13, **options
    )


def partitions(n):
    """Some partition of n points into chunks of 1, 7 and 20 in any order, of points in any order.

    Few sizes, as models are compiled for each.
    """

    def cut(wanted, order):
        sizes = []
        for size in [*wanted, *[20] * 3, *[7] * 3, *[1] * n]:
            if size <= n - sum(sizes):
                sizes.append(size)
        return Chunks(sizes, order)

    orders = st.none() | st.integers(0, 99).map(lambda s: np.random.default_rng(s).permutation(n))
    return st.builds(cut, st.lists(st.sampled_from([1, 7, 20]), max_size=6), orders)


def assert_agrees(fit, popt, pcov):
    sigma = np.sqrt(np.diag(pcov))
    np.testing.assert_allclose((fit.x - popt) / sigma, 0, atol=1e-3)
    scale = np.outer(sigma, sigma)
    np.testing.assert_allclose(fit.pcov / scale, pcov / scale, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def decay_data():
    x, y, sigma, _, p0 = example("decay", seed=5)
    return x, y, sigma, p0


# The answer is the full-data answer


@settings(max_examples=40)
@given(
    st.sampled_from(sorted(MODELS)),
    st.integers(0, 999),
    partitions(60),
    st.sampled_from([None, "relative", "absolute"]),
)
def test_any_chunking_gives_the_answer_of_scipy(name, seed, chunks, weights):
    x, y, sigma, _, p0 = example(name, seed)
    options: dict[str, Any] = dict(
        sigma=None if weights is None else sigma, absolute_sigma=weights == "absolute"
    )
    fit = curve_fit_large(IN_JAX[name], x, y, p0, chunks=chunks, **options)
    assert fit.success
    assert_agrees(fit, *reference(name, x, y, p0, **options))


@settings(max_examples=30)
@given(
    st.sampled_from(sorted(MODELS)),
    st.integers(0, 999),
    partitions(60),
    st.integers(0, 2),
    st.sampled_from([-1, 1]),
    st.booleans(),
)
def test_a_bound_that_acts_gives_the_answer_of_scipy_with_the_parameter_held(
    name, seed, chunks, which, side, weighted
):
    """One parameter is kept two standard errors away from where the data would have it."""
    x, y, sigma, truth, p0 = example(name, seed)
    p = len(truth)
    which %= p
    options: dict[str, Any] = dict(sigma=sigma if weighted else None)
    popt, pcov = reference(name, x, y, p0, **options)
    held = popt[which] - side * 2 * np.sqrt(pcov[which, which])
    lower, upper = np.full(p, -np.inf), np.full(p, np.inf)
    (upper if side > 0 else lower)[which] = held
    fit = curve_fit_large(IN_JAX[name], x, y, p0, bounds=(lower, upper), chunks=chunks, **options)

    free = np.arange(p) != which

    def rest(x, *params):
        return IN_NUMPY[name](x, *np.insert(params, which, held))

    popt, pcov = curve_fit(
        rest, x, y, popt[free], method="trf", xtol=1e-13, ftol=1e-13, gtol=1e-13, **options
    )
    assert fit.success
    assert fit.x[which] == pytest.approx(held, rel=1e-12)
    sigma_free = np.sqrt(np.diag(pcov))
    np.testing.assert_allclose((fit.x[free] - popt) / sigma_free, 0, atol=1e-3)
    scale = np.outer(sigma_free, sigma_free)
    np.testing.assert_allclose(fit.pcov[np.ix_(free, free)] / scale, pcov / scale, atol=1e-4)
    if fit.x[which] == held:
        assert fit.active_mask.tolist() == [side * (i == which) for i in range(p)]
        assert np.all(np.isinf(fit.pcov[which]))
        assert np.all(np.isinf(fit.pcov[:, which]))


def test_a_parameter_at_its_bound_has_infinite_variance(decay_data):
    x, y, _, p0 = decay_data
    free = curve_fit_large(IN_JAX["decay"], x, y, p0, chunks=20)
    lower = [-np.inf, free.x[1] + 0.5, -np.inf]
    fit = curve_fit_large(IN_JAX["decay"], x, y, p0, bounds=(lower, np.inf), chunks=20)
    assert fit.success
    assert fit.x[1] == lower[1]
    assert fit.active_mask.tolist() == [0, -1, 0]
    assert np.isinf(fit.pcov).tolist() == [
        [False, True, False],
        [True, True, True],
        [False, True, False],
    ]


def test_a_parameter_at_a_bound_never_has_a_finite_variance():
    x = np.linspace(0, 1, 20)
    y = 0.1 * np.sin(40 * x) - x
    finite = []
    for hundredths in range(1, 100, 7):
        bound = hundredths / 100
        fit = curve_fit_large(through_origin, x, y, bound + 1.36, bounds=(bound, np.inf), chunks=20)
        if not np.isinf(fit.pcov[0, 0]):
            finite.append(bound)
    assert finite == []


def test_the_result_does_not_depend_on_the_executor(decay_data):
    x, y, sigma, p0 = decay_data
    chunks = Chunks([17, 20, 23], np.random.default_rng(0).permutation(60))
    one, again = (
        curve_fit_large(IN_JAX["decay"], x, y, p0, sigma, chunks=chunks) for _ in range(2)
    )
    with ThreadPoolExecutor(2) as executor:
        other = curve_fit_large(IN_JAX["decay"], x, y, p0, sigma, chunks=chunks, executor=executor)
    for fit in (again, other):
        assert fit.x.tobytes() == one.x.tobytes()
        assert fit.pcov.tobytes() == one.pcov.tobytes()
        assert (fit.cost, fit.nfev, fit.message) == (one.cost, one.nfev, one.message)


def test_a_chunk_size_stands_for_consecutive_chunks(decay_data):
    x, y, _, p0 = decay_data
    one = curve_fit_large(IN_JAX["decay"], x, y, p0, chunks=25)
    other = curve_fit_large(IN_JAX["decay"], x, y, p0, chunks=Chunks.from_sizes([25, 25, 10]))
    assert one.chunk_sizes == other.chunk_sizes == (25, 25, 10)
    assert one.x.tobytes() == other.x.tobytes()


def test_stratified_chunks_of_grouped_data():
    """Each group has its own level, so no single group determines the line through them."""
    groups = np.repeat([0.0, 45.0, 90.0], 20)
    x = groups / 90 + np.tile(np.linspace(0, 0.1, 20), 3)
    y = 1 + 2 * x + 0.01 * np.sin(50 * x)
    for chunks in (Chunks.stratified(groups, 21, seed=1), Chunks.by_group(groups)):
        fit = curve_fit_large(IN_JAX["line"], x, y, chunks=chunks)
        assert_agrees(fit, *reference("line", x, y, [1, 1]))


def test_several_features_run_along_the_first_axis():
    x, y, _, _, p0 = example("surface", seed=0)
    assert x.shape == (2, 60)
    fit = curve_fit_large(IN_JAX["surface"], x, y, p0, chunks=25)
    assert_agrees(fit, *reference("surface", x, y, p0))


@pytest.mark.parametrize("sigma_given", [True, False])
def test_lists_and_integers_are_taken(sigma_given):
    x, y = [0, 1, 2, 3, 4], [1, 3, 4, 8, 9]
    sigma = [1, 1, 2, 2, 1] if sigma_given else None
    fit = curve_fit_large(IN_JAX["line"], x, y, sigma=sigma, chunks=2)
    assert_agrees(fit, *reference("line", np.array(x, float), y, [1, 1], sigma=sigma))


# The result


def test_the_result_unpacks_and_tells_what_happened(decay_data):
    x, y, _, p0 = decay_data
    fit = curve_fit_large(IN_JAX["decay"], x, y, p0, chunks=25)
    popt, pcov = fit
    residual = IN_NUMPY["decay"](x, *popt) - y
    start = IN_NUMPY["decay"](x, *p0) - y
    assert isinstance(fit, nlsq.result.CurveFitResult)
    assert popt.shape == (3,)
    assert pcov.shape == (3, 3)
    assert fit.cost == pytest.approx(0.5 * residual @ residual)
    assert fit.cost_initial == pytest.approx(0.5 * start @ start)
    assert 0 < fit.nit < fit.nfev < 20
    assert fit.active_mask.tolist() == [0, 0, 0]
    assert fit.message == "within 0.0001 standard errors of the minimum"
    assert fit.success is True
    np.testing.assert_allclose(fit.residuals, -residual, atol=1e-12)
    assert fit.rmse == pytest.approx(np.sqrt(np.mean(residual**2)))


def test_the_default_start_is_ones_moved_into_the_bounds(decay_data):
    x, y, _, _ = decay_data
    fit = curve_fit_large(
        IN_JAX["decay"], x, y, bounds=([2, 0, 0], [9, 0.5, 9]), chunks=60, max_nfev=1
    )
    assert fit.x.tolist() == [2.0, 0.5, 1.0]


def test_a_fit_that_stops_early_is_no_success(decay_data):
    x, y, _, _ = decay_data
    fit = curve_fit_large(IN_JAX["decay"], x, y, [1, 1, 1], chunks=25, max_nfev=3)
    assert fit.success is False
    assert fit.message == "stopped after 3 evaluations without converging"
    assert fit.nfev == 3
    assert fit.status == 0


def test_parameters_that_only_act_together_have_infinite_variance():
    x, y, _, _, _ = example("line", seed=1)
    fit = curve_fit_large(lambda x, a, b, c: (a + b) * x + c, x, y, chunks=25)
    popt, pcov = reference("line", x, y, [1, 1])
    assert fit.success
    assert fit.x[0] + fit.x[1] == pytest.approx(popt[1], rel=1e-5)
    assert np.all(np.isinf(fit.pcov[:2]))
    assert fit.message.endswith("; the data do not determine a, b")
    degrees = 58 / 57  # three parameters are counted here, two in the reference
    assert fit.pcov[2, 2] == pytest.approx(pcov[0, 0] * degrees, rel=1e-4)


@pytest.mark.parametrize("start", [[1.0, 1.0, 0.5], [1.5, 0.5, 0.3]])
def test_what_is_not_determined_at_an_exact_minimum_is_infinite(start):
    """The second start is a minimum already."""
    x = np.linspace(0, 1, 40)
    fit = curve_fit_large(lambda x, a, b, c: (a + b) * x + c, x, 2 * x + 0.3, start, chunks=20)
    assert fit.success
    assert fit.message.endswith("; the data do not determine a, b")
    assert np.all(np.isinf(fit.pcov[:2]))
    assert 0 <= fit.pcov[2, 2] < 1e-25


def test_data_without_noise_are_fitted():
    for seed in range(10):
        x, _, _, truth, p0 = example("decay", seed)
        fit = curve_fit_large(IN_JAX["decay"], x, IN_NUMPY["decay"](x, *truth), p0, chunks=30)
        np.testing.assert_allclose(fit.x, truth, rtol=1e-9)
        assert fit.success, fit.message


@pytest.mark.parametrize("offset", [1e7, 1e9])
def test_a_direction_lost_to_rounding_is_not_called_converged(offset):
    """A slope is hard to tell from the level far from the origin."""
    u = np.linspace(0, 1, 60)
    y = 2 + 3 * u + 0.05 * np.sin(40 * u)
    fit = curve_fit_large(IN_JAX["line"], offset + u, y, chunks=30)
    residual = y - np.polyval(np.polyfit(u, y, 1), u)
    assert not fit.success or fit.cost < 0.5 * residual @ residual * 1.01


def test_as_many_points_as_parameters_leave_no_covariance():
    """No residual is left to estimate the noise from; SciPy returns infinities too."""
    p0 = [1.5, 0.8, 0.2]
    x, y = np.array([0.0, 1.0, 3.0]), np.array([2.0, 1.0, 0.5])
    fit = curve_fit_large(IN_JAX["decay"], x, y, p0, chunks=3)
    assert np.all(np.isinf(fit.pcov))


@pytest.mark.parametrize("form", ["partition", "cut before"])
def test_absolute_sigma_without_sigma_means_a_sigma_of_one_and_warns(decay_data, form):
    x, y, _, p0 = decay_data
    data = (x, y) if form == "partition" else (None, None)
    chunks = 30 if form == "partition" else [(x[:30], y[:30]), (x[30:], y[30:])]
    message = "^absolute_sigma=True without sigma: the errors are those of points with a standard "
    with pytest.warns(UserWarning, match=message) as caught:
        fit = curve_fit_large(IN_JAX["decay"], *data, p0, absolute_sigma=True, chunks=chunks)
    assert [warning.filename for warning in caught] == [__file__]
    assert_agrees(fit, *reference("decay", x, y, p0, absolute_sigma=True))


# What SciPy takes, too


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("sigma", [0.2, [0.2], np.float32(0.2)])
def test_one_sigma_is_that_of_all_points(decay_data, sigma, absolute):
    x, y, _, p0 = decay_data
    every = np.full(60, np.ravel(sigma)[0])
    expected = reference("decay", x, y, p0, sigma=every, absolute_sigma=absolute)
    options: dict[str, Any] = dict(absolute_sigma=absolute)
    assert_agrees(
        curve_fit_large(IN_JAX["decay"], x, y, p0, sigma=sigma, chunks=25, **options), *expected
    )
    parts = [(x[i : i + 20], y[i : i + 20], sigma) for i in (0, 20, 40)]
    assert_agrees(curve_fit_large(IN_JAX["decay"], p0=p0, chunks=parts, **options), *expected)


@pytest.mark.parametrize("absolute", [True, False])
def test_points_of_infinite_sigma_are_left_out(decay_data, absolute):
    x, y, sigma, p0 = decay_data
    out = [3, 4, 31]
    rest = (np.delete(array, out) for array in (x, y))
    expected = reference("decay", *rest, p0, sigma=np.delete(sigma, out), absolute_sigma=absolute)
    y, sigma = y.copy(), sigma.copy()
    sigma[out], y[4] = np.inf, np.nan
    fit = curve_fit_large(
        IN_JAX["decay"], x, y, p0, sigma=sigma, absolute_sigma=absolute, chunks=20
    )
    assert_agrees(fit, *expected)
    assert fit.n_points == 57
    assert len(fit.residuals) == 57


@pytest.mark.parametrize("x", [np.linspace(0, 1, 60), np.ones((60, 2)), np.ones((2, 60))])
def test_a_model_may_return_one_number_for_all_points(decay_data, x):
    _, y, sigma, _ = decay_data
    options: dict[str, Any] = dict(sigma=sigma, absolute_sigma=True)
    fit = curve_fit_large(lambda x, a: a, x, y, [1.0], chunks=25, **options)
    weights = sigma**-2
    assert fit.success
    variance = 1 / weights.sum()
    assert abs(fit.x[0] - np.average(y, weights=weights)) <= 2e-4 * np.sqrt(variance)
    assert fit.pcov[0, 0] == pytest.approx(variance, rel=1e-12)
    np.testing.assert_allclose(fit.residuals, y - fit.x[0], rtol=0, atol=1e-14)
    low, high = fit.confidence_band()
    assert low.shape == high.shape == (60,)


def test_arrays_of_objects_are_taken(decay_data):
    x, y, sigma, p0 = decay_data
    expected = curve_fit_large(IN_JAX["decay"], x, y, p0, sigma, chunks=30)
    objects = np.array([Fraction(value) for value in x]), y.astype(object), sigma.astype(object)
    fit = curve_fit_large(IN_JAX["decay"], *objects[:2], p0, objects[2], chunks=30)
    assert fit.x.tobytes() == expected.x.tobytes()


@pytest.mark.parametrize(
    "bounds",
    [
        Bounds([0, 0, -np.inf], [np.inf, 0.5, np.inf]),  # type: ignore[arg-type]
        ([0, 0, None], [None, 0.5, None]),
        ([0, 0, -np.inf], [np.inf, 0.5, np.inf]),
        (None, [np.inf, 0.5, np.inf]),
    ],
)
def test_bounds_of_every_form(decay_data, bounds):
    x, y, _, p0 = decay_data
    limits = ([-np.inf] * 3, [np.inf, 0.5, np.inf])
    expected = curve_fit_large(IN_JAX["decay"], x, y, p0, bounds=limits, chunks=30)
    fit = curve_fit_large(IN_JAX["decay"], x, y, p0, bounds=bounds, chunks=30)
    assert fit.x[1] == expected.x[1] == 0.5
    np.testing.assert_allclose(fit.x, expected.x, rtol=1e-6)


@pytest.mark.parametrize("bounds", [None, (None, None), ([None] * 3, None), Bounds()])
def test_no_bounds_of_every_form(decay_data, bounds):
    x, y, _, p0 = decay_data
    expected = curve_fit_large(IN_JAX["decay"], x, y, p0, chunks=30)
    fit = curve_fit_large(IN_JAX["decay"], x, y, p0, bounds=bounds, chunks=30)
    assert fit.x.tobytes() == expected.x.tobytes()


# Parameters of the model


def test_a_parameter_no_point_depends_on_is_named(decay_data):
    x, y, _, _ = decay_data
    with pytest.raises(ValueError, match=r"^no point depends on parameter slope at \["):
        curve_fit_large(lambda x, level, slope: level + 0 * x, x, y, chunks=25)


def test_all_parameters_no_point_depends_on_are_named(decay_data):
    x, y, _, _ = decay_data
    with pytest.raises(ValueError, match=r"^no point depends on parameter p\[0\], p\[2\] at \["):
        curve_fit_large(lambda x, *p: p[1] * x, x, y, [1, 1, 1], chunks=25)


def test_a_model_of_any_number_of_parameters_takes_as_many_as_p0(decay_data):
    x, y, _, _ = decay_data
    fit = curve_fit_large(lambda x, *p: p[0] + p[1] * x, x, y, [1, 1], chunks=25)
    assert_agrees(fit, *reference("line", x, y, [1, 1]))


def test_a_model_of_any_number_of_parameters_needs_p0(decay_data):
    x, y, _, _ = decay_data
    message = "p0 is needed: the model takes any number of parameters"
    with pytest.raises(ValueError, match=f"^{message}$"):
        curve_fit_large(lambda x, *p: p[0] * x, x, y, chunks=25)


def test_a_single_parameter_may_start_from_a_scalar(decay_data):
    x, y, _, _ = decay_data
    fit = curve_fit_large(through_origin, x, y, 3.0, chunks=25)
    assert fit.x[0] == pytest.approx(x @ y / (x @ x), rel=1e-4)


def test_keyword_only_arguments_are_no_parameters(decay_data):
    x, y, _, _ = decay_data

    def model(x, a, b, *, power=1):
        return a + b * x**power

    fit = curve_fit_large(model, x, y, chunks=25)
    assert_agrees(fit, *reference("line", x, y, [1, 1]))


def test_integer_x_is_taken_as_floating_point():
    x = np.arange(100_000, 100_040, dtype=np.int32)
    y = 3.0 * x.astype(float) ** 2 + 1e9 * np.sin(x)
    fit = curve_fit_large(lambda x, a: a * x**2, x, y, chunks=20)
    assert fit.x[0] == pytest.approx(x**2.0 @ y / (x**2.0 @ x**2.0), rel=1e-6)


# Bad input

X, Y = np.linspace(0, 1, 10), np.linspace(1, 2, 10)


def with_a(value):
    array = np.ones(10)
    array[3] = value
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(ydata=Y[:, None]), "ydata must have one dimension, got shape (10, 1)"),
        (dict(xdata=X[:9]), "xdata of shape (9,) does not match 10 points of ydata"),
        (dict(xdata=1.0), "xdata of shape () does not match 10 points of ydata"),
        (dict(sigma=Y[:9]), "sigma of shape (9,) does not match 10 points"),
        (dict(sigma=np.eye(9)), "sigma of shape (9, 9) does not match 10 points"),
        (dict(sigma=np.ones((10, 2))), "sigma of shape (10, 2) does not match 10 points"),
        (dict(sigma=np.ones((2, 5, 1))), "sigma of shape (2, 5, 1) does not match 10 points"),
        (dict(sigma=with_a(0.0)), "every sigma must be positive"),
        (dict(sigma=with_a(-1.0)), "every sigma must be positive"),
        (dict(sigma=with_a(np.nan)), "sigma holds values that are not finite"),
        (dict(sigma=with_a(-np.inf)), "every sigma must be positive"),
        (dict(sigma=0.0), "every sigma must be positive"),
        (dict(p0=[1.0]), "p0 has 1 values, and the model has 2 parameters: a, b"),
        (dict(xdata=with_a(np.inf)), "xdata holds values that are not finite"),
        (dict(ydata=with_a(np.nan)), "ydata holds values that are not finite"),
        (
            dict(ydata=with_a(np.nan), check_finite=False),
            "the model is not finite in chunk 0 at a = 1, b = 1",
        ),
        (dict(p0=[1.0, np.nan]), "the model is not finite in chunk 0 at a = 1, b = nan"),
        (
            dict(loss="squared"),
            "loss must be one of linear, soft_l1, huber, cauchy, arctan, not 'squared'",
        ),
        (dict(chunks=Chunks.from_sizes([4, 5])), "the chunks hold 9 points, the data 10"),
        (dict(chunks=0), "the chunk size must be positive, got 0"),
        (dict(xdata=[], ydata=[]), "there are no points to chunk"),
        (
            dict(bounds=([0.0, 2.0], [1.0, 1.0])),
            "a lower bound exceeds the upper one: [0. 2.] > [1. 1.]",
        ),
    ],
)
def test_bad_input_is_refused(change, message):
    arguments = dict(xdata=X, ydata=Y, chunks=5) | change
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        curve_fit_large(IN_JAX["line"], **arguments)


def test_a_model_of_another_shape_is_refused():
    message = "the model returned shape (2,) for y of shape (5,)"
    with pytest.raises(ValueError, match=rf"(?m)^{re.escape(message)}$"):
        curve_fit_large(lambda x, a: a * x[:2], X, Y, chunks=5)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (
            ([0, 0, 0], [1, 1, 1]),
            "the lower bounds have shape (3,): one number is needed, or one for each of 2 "
            "parameters, a, b",
        ),
        (
            (0, [1, 1, 1]),
            "the upper bounds have shape (3,): one number is needed, or one for each of 2 "
            "parameters, a, b",
        ),
        (0.5, "bounds must be a pair (lower, upper), not 0.5"),
    ],
)
def test_bounds_of_another_length_are_refused(bounds, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        curve_fit_large(IN_JAX["line"], X, Y, bounds=bounds, chunks=5)


def test_bounds_as_pairs_are_refused_with_the_way_to_write_them():
    pairs = [(0, 1), (0, 1), (0, 1)]
    message = f"bounds must be a pair (lower, upper), not {pairs}: for a pair for each parameter, "
    with pytest.raises(ValueError, match=f"^{re.escape(message)}pass tuple"):
        curve_fit_large(IN_JAX["decay"], X, Y, bounds=pairs, chunks=5)


def in_scipy(x, a, b, c):
    return a * scipy.special.erf(b * x) + c


def in_numpy(x, a, b, c):
    return a * np.exp(-b * x) + c


def with_if(x, a, b, c):
    return a * jnp.exp(-b * x) + c if a > 0 else c + 0 * x


def with_selection(x, a, b, c):
    return x.at[x > 0.5].set(a * jnp.exp(-b * x[x > 0.5]) + c)


def with_math(x, a, b, c):
    return math.exp(a) * jnp.exp(-b * x) + c


def with_float(x, a, b, c):
    return float(a) * jnp.exp(-b * x) + c


@pytest.mark.parametrize(
    ("model", "advice"),
    [
        (in_numpy, "use jax.numpy and jax.scipy in it"),
        (in_scipy, "use jax.numpy and jax.scipy in it"),
        (with_if, "use jax.numpy.where in it"),
        (with_selection, "use jax.numpy.where in it"),
        (with_math, "use jax.numpy in it"),
        (with_float, "use jax.numpy in it"),
    ],
)
def test_a_model_that_jax_cannot_trace_is_told_what_to_use(model, advice):
    with pytest.raises(TypeError, match=f"^the model .*{re.escape(advice)}") as caught:
        curve_fit_large(model, X, Y, chunks=5)
    assert str(caught.value).splitlines()[0].endswith(advice)


def test_a_misspelt_option_of_chunks_is_not_left_to_nlsq():
    with pytest.raises(TypeError, match=r"^there is no argument chunk \(did you mean chunks\?\)$"):
        curve_fit_large(IN_JAX["line"], X, Y, chunk=5)


def test_the_linear_algebra_has_one_thread_in_every_fit_with_chunks():
    """Also where NLSQ calls `fit_with_chunks` by itself."""
    seen = []

    def model(x, a, b):
        seen.extend(pool["num_threads"] for pool in threadpool_info() if "blas" in pool["user_api"])
        return a + b * x

    nlsq_stratified.curve_fit.fit_with_chunks(model, X, Y, 5)
    assert seen
    assert set(seen) == {1}


@pytest.mark.parametrize("method", [None, "trf", "lm"])
def test_every_method_is_the_same_one(method):
    fit = curve_fit_large(IN_JAX["line"], X, Y, chunks=5, method=method)
    assert fit.x.tobytes() == curve_fit_large(IN_JAX["line"], X, Y, chunks=5).x.tobytes()


@pytest.mark.parametrize(
    "options",
    [dict(executor=ThreadPoolExecutor(1)), dict(progressive=True), dict(preserve_chunks=False)],
)
def test_options_of_chunks_need_chunks(options):
    message = (
        "executor, progressive, preserve_chunks and local need chunks: without them NLSQ's own "
        "path is taken"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        curve_fit_large(IN_JAX["line"], X, Y, **options)


# Without chunks


@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(p0=[1.0, 1.0, 1.0], absolute_sigma=True, bounds=([0, 0, -5], [9, 9, 5])),
        dict(p0=[1.0, 1.0, 1.0], max_nfev=50, method="trf", stability=False),
    ],
    ids=["defaults", "weights and bounds", "further arguments"],
)
def test_without_chunks_it_is_the_function_of_nlsq(decay_data, options):
    x, y, sigma, _ = decay_data
    if "absolute_sigma" in options:
        options = options | dict(sigma=sigma)
    ours = curve_fit_large(IN_JAX["decay"], x, y, **options)
    theirs = curve_fit_of_nlsq(IN_JAX["decay"], x, y, **options)
    assert isinstance(ours, type(theirs))
    assert ours.keys() == theirs.keys()
    np.testing.assert_array_equal(ours.x, theirs.x)
    np.testing.assert_array_equal(ours.pcov, theirs.pcov)
    assert ours.message == theirs.message


def test_without_chunks_every_argument_is_handed_on(monkeypatch):
    seen = {}

    def upstream(*args, **kwargs):
        assert not args
        seen.clear()
        seen.update(kwargs)
        return "theirs"

    monkeypatch.setattr(nlsq, "curve_fit_large", upstream)
    given = dict(
        p0=[1.0, 2.0],
        sigma=Y,
        absolute_sigma=True,
        check_finite=False,
        bounds=(0.0, 1.0),
        method="lm",
        stability="auto",
        rescale_data=False,
        max_jacobian_elements_for_svd=5,
        memory_limit_gb=0.5,
        auto_size_detection=False,
        size_threshold=9,
        show_progress=True,
        chunk_size=4,
        multistart=True,
        n_starts=3,
        global_search=True,
        sampler="sobol",
        center_on_p0=False,
        scale_factor=0.5,
    )
    further = dict(max_nfev=7, loss="huber", callback=print)
    assert curve_fit_large(line, X, Y, **given, **further) == "theirs"
    points: dict[str, Any] = dict(f=line, xdata=X, ydata=Y)
    assert seen == points | given | further
    assert curve_fit_large(line, X, Y, *given.values()) == "theirs"
    assert seen == points | given


def test_every_argument_has_the_default_it_has_in_nlsq():
    theirs = inspect.signature(nlsq.curve_fit_large).parameters
    ours = inspect.signature(curve_fit_large).parameters
    own = {"chunks", "preserve_chunks", "executor", "progressive", "local"}
    assert [name for name in ours if name not in own] == list(theirs)
    differing = {
        name
        for name in theirs.keys() - {"kwargs", "xdata", "ydata"}
        if not np.array_equal(ours[name].default, theirs[name].default)
    }
    assert differing == set()
