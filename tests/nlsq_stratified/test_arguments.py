"""Arguments of NLSQ with chunks: those that act, those without effect, and bad values."""

import inspect
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax.numpy as jnp
import nlsq
import numpy as np
import pytest
import scipy.optimize
from nlsq.core.least_squares import LeastSquares

import nlsq_stratified
from nlsq_stratified import Chunks, LocalParameters
from nlsq_stratified.arguments import REFUSED, WITHOUT_EFFECT

curve_fit_large: Any = nlsq_stratified.curve_fit_large
curve_fit_of_nlsq: Any = nlsq.curve_fit
curve_fit_of_scipy: Any = scipy.optimize.curve_fit

RNG = np.random.default_rng(0)
N = 60
X = RNG.uniform(0, 4, N)
SIGMA = 0.05 * RNG.uniform(0.5, 2, N)
Y = 2 * np.exp(-0.7 * X) + 0.3 + SIGMA * RNG.normal(size=N)
ORDER = Chunks([25, 20, 15], RNG.permutation(N))


def decay(x, a, b, c):
    return a * jnp.exp(-b * x) + c


def fit(f=decay, x=X, y=Y, p0=(1.0, 1.0, 0.0), **options):
    return curve_fit_large(f, x, y, p0, **({"chunks": ORDER} | options))


# Without effect


def test_what_steers_nlsq_is_ignored_with_one_warning():
    plain = fit()
    given = dict(
        verbose=2,
        tr_solver="lsmr",
        stability="auto",
        solver="cg",
        timeit=True,
        rescale_data=False,
        jacobian_mode="rev",
        size_threshold=7,
    )
    message = f"without effect together with chunks: {', '.join(sorted(given))}"
    with pytest.warns(UserWarning, match=f"^{message}$") as caught:
        again = fit(**given)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert again.x.tobytes() == plain.x.tobytes()


def test_values_that_ask_for_nothing_are_taken_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, values in WITHOUT_EFFECT.items():
            for value in values:
                assert fit(**{name: value}).success
        for name, (value, _) in REFUSED.items():
            assert fit(**{name: value}).success


def arguments_of_nlsq():
    """Every keyword that its ways to fit take, with its default."""
    found: dict[str, Any] = {}
    for function in (
        nlsq.curve_fit,
        nlsq.CurveFit.curve_fit,
        nlsq.curve_fit_large,
        LeastSquares.least_squares,
    ):
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.setdefault(name, parameter.default)
    return found


# Of `LeastSquares`: what its caller makes, and what NLSQ's own fits refuse.
OF_NLSQ_ITSELF = {"self", "fun", "x0", "transform", "prepared_bounds", "args"}


def test_every_argument_of_nlsq_is_known_here():
    own = inspect.signature(nlsq_stratified.curve_fit.fit_with_chunks).parameters
    known = {
        *own,
        *WITHOUT_EFFECT,
        *REFUSED,
        *nlsq_stratified.fit_options.FitOptions.__annotations__,
    }
    named = set(inspect.signature(curve_fit_large).parameters)
    assert set(arguments_of_nlsq()) - known - named == OF_NLSQ_ITSELF


def test_what_is_without_effect_has_the_default_of_nlsq():
    theirs = arguments_of_nlsq()
    differing = [
        name
        for name, values in WITHOUT_EFFECT.items()
        if name in theirs
        and name not in ("diagnostics_level", "verbose")
        and theirs[name] not in values
    ]
    assert differing == []


def test_the_other_name_of_max_nfev_is_taken():
    assert fit(p0=[9.0, 4.0, 9.0], maxfev=2).nfev == 2
    with pytest.raises(
        TypeError, match="^maxfev and max_nfev are two names of one argument: give one$"
    ):
        fit(maxfev=2, max_nfev=3)


# Refused by name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(colour="red"), "colour"),
        (dict(args=(1,)), "args"),
        (dict(auto_bounds=True), "auto_bounds (give bounds)"),
        (
            dict(data_mask=np.ones(N, bool)),
            "data_mask (mask ydata, as an array of numpy.ma, where points are to be left out)",
        ),
        (dict(return_eval=True), "return_eval (the result has predictions)"),
        (dict(max_nfve=3), "max_nfve (did you mean max_nfev?)"),
        (dict(absolute_sigm=True), "absolute_sigm (did you mean absolute_sigma?)"),
        (dict(progresive=True), "progresive (did you mean progressive?)"),
        (
            dict(group=np.zeros(N)),
            "group (Chunks.by_group(group) cuts by it, and a column of x shows it to the model)",
        ),
        (
            dict(compute_diagnostics=True, tr_solver="lsmr"),
            "compute_diagnostics (nlsq.curve_fit makes that report)",
        ),
    ],
)
def test_what_there_is_not_is_refused_by_name(options, message):
    message = f"not supported together with chunks: {message}"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        fit(**options)


@pytest.mark.parametrize("method", ["dogbox", "bfgs", "cmaes", "hybrid_streaming"])
def test_other_methods_are_refused(method):
    with pytest.raises(TypeError, match=f"^method '{method}' is not supported together with chu"):
        fit(method=method)


@pytest.mark.parametrize("method", ["dogbox"])
def test_they_are_in_nlsq(method):
    with pytest.raises(ValueError, match="method"):
        curve_fit_of_nlsq(decay, X, Y, [1.0, 1.0, 0.0], method=method)


@pytest.mark.parametrize("loss", [lambda z: z, "squared", None, 2])
def test_a_loss_of_ones_own_is_refused(loss):
    message = f"loss must be one of linear, soft_l1, huber, cauchy, arctan, not {loss!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fit(loss=loss)


@pytest.mark.parametrize(
    ("executor", "message"),
    [
        (2, "executor must be a concurrent.futures.Executor, such as ThreadPoolExecutor(2), not 2"),
        ("threads", "executor must be a concurrent.futures.Executor, not 'threads'"),
        (True, "executor must be a concurrent.futures.Executor, not True"),
    ],
)
def test_an_executor_is_one(executor, message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        fit(executor=executor)


def test_the_class_of_an_executor_is_none():
    with pytest.raises(
        TypeError, match=r"^executor must be a concurrent\.futures\.Executor, not <c"
    ):
        fit(executor=ThreadPoolExecutor)


# Values

BAD_NUMBERS = [-1.0, np.nan, np.inf, "tight", [1e-8, 1e-8], 1j, True]


@pytest.mark.parametrize("value", BAD_NUMBERS)
@pytest.mark.parametrize("name", ["ftol", "xtol", "gtol", "tolerance"])
def test_a_tolerance_is_a_number_of_at_least_zero(name, value):
    message = f"{name} must be a finite number of at least 0, not {value!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fit(**{name: value})


@pytest.mark.parametrize("value", [0, 0.0, *BAD_NUMBERS])
@pytest.mark.parametrize("name", ["f_scale", "scale_factor"])
def test_a_scale_is_a_positive_number(name, value):
    message = f"{name} must be a positive finite number, not {value!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fit(**{"loss": "huber", name: value})


@pytest.mark.parametrize("value", [0, 2.5, *BAD_NUMBERS])
def test_evaluations_are_counted_from_one(value):
    message = f"max_nfev must be a whole number of at least 1, not {value!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fit(max_nfev=value)


def test_a_whole_number_may_be_of_any_type():
    for value in (2, 2.0, np.int32(2), np.float64(2)):
        assert fit(p0=[9.0, 4.0, 9.0], max_nfev=value).nfev == 2


@pytest.mark.parametrize("value", [2.5, *BAD_NUMBERS])
def test_starts_are_counted_from_none(value):
    message = f"n_starts must be a whole number of at least 0, not {value!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fit(multistart=True, n_starts=value)
    assert fit(multistart=True, n_starts=0).success


@pytest.mark.parametrize(
    ("x_scale", "message"),
    [
        ("auto", "x_scale must be numbers or 'jac', not 'auto'"),
        (0.0, "every x_scale must be a positive finite number, not 0.0"),
        ([1.0, -1.0, 1.0], "every x_scale must be a positive finite number, not [1.0, -1.0, 1.0]"),
        ([1.0, np.nan, 1.0], "every x_scale must be a positive finite number, not [1.0, nan, 1.0]"),
        (np.inf, "every x_scale must be a positive finite number, not inf"),
        (
            [1.0, 1.0],
            "x_scale must be one number or one for each of 3 parameters, got shape (2,)",
        ),
        (
            [[1.0, 1.0, 1.0]],
            "x_scale must be one number or one for each of 3 parameters, got shape (1, 3)",
        ),
    ],
)
def test_a_scale_of_parameters_is_positive(x_scale, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fit(x_scale=x_scale)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(p0=[1j, 1.0, 1.0]), "p0 holds complex numbers: fit real and imaginary parts as "),
        (dict(p0=["a", "b", "c"]), "p0 holds values of type <U1, not real numbers"),
        (dict(p0="guess"), "p0 must be numbers, 'auto' or None, not 'guess'"),
        (dict(p0=[[1.0, 1.0, 1.0]]), "p0 must have one dimension, got shape (1, 3)"),
        (dict(p0=np.ma.array([1.0, 1.0, 1.0], mask=[1, 0, 0])), "p0 holds masked values: numbers"),
        (dict(bounds=(0.0, 1j)), "bounds holds complex numbers: fit"),
        (dict(bounds=(0.0, [1.0, np.nan, 1.0])), "a bound is not a number: (0.0, [1.0, nan, 1.0])"),
        (dict(bounds=(0.0, 1.0, 2.0)), "bounds must be a pair (lower, upper), not (0.0, 1.0, 2.0)"),
        (dict(jac="2-point"), "jac must be a function jac(x, *params) or None, not '2-point'"),
    ],
)
def test_other_bad_values_are_named(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        fit(**options)


# A start from the data


@pytest.mark.parametrize("chunks", [ORDER, 20])
def test_auto_is_the_start_that_nlsq_estimates(chunks):
    theirs = nlsq.precision.parameter_estimation.estimate_initial_parameters(decay, X, Y, "auto")
    ours = fit(p0="auto", chunks=chunks)
    given = fit(p0=theirs, chunks=chunks)
    assert ours.success
    assert ours.cost_initial == given.cost_initial
    assert ours.x.tobytes() == given.x.tobytes()


def test_a_model_may_estimate_its_start():
    def model(x, a, b, c):
        return decay(x, a, b, c)

    model.estimate_p0 = lambda x, y: [np.max(y) - np.min(y), 1 / np.mean(x), np.min(y)]  # type: ignore[attr-defined]
    ours = fit(model, p0="auto", bounds=([0, 0, 0], 9))
    given = fit(p0=[np.ptp(Y), 1 / np.mean(X), np.min(Y)], bounds=([0, 0, 0], 9))
    assert ours.cost_initial == pytest.approx(given.cost_initial, rel=1e-12)
    assert ours.x.tobytes() == given.x.tobytes()


def test_auto_sees_the_first_of_chunks_that_are_read():
    parts = [(X[part], Y[part]) for part in ORDER]
    ours = curve_fit_large(decay, p0="auto", chunks=parts)
    x, y = parts[0]
    given = curve_fit_large(decay, p0=[np.ptp(y), 1 / np.ptp(x), np.mean(y)], chunks=parts)
    assert ours.x.tobytes() == given.x.tobytes()


def test_auto_does_not_see_points_that_are_left_out():
    spoilt = np.ma.array(np.append(Y, 1e9), mask=np.arange(N + 1) == N)
    ours = fit(x=np.append(X, 0.0), y=spoilt, p0="auto", chunks=20)
    assert ours.cost_initial == pytest.approx(fit(p0="auto", chunks=20).cost_initial, rel=1e-12)


def test_auto_starts_all_groups_alike():
    x = np.column_stack([X, np.arange(N) % 2])
    local = LocalParameters(("c",), group=lambda x: x[:, 1], n_groups=2)

    def model(x, a, b, c):
        return decay(x[:, 0], a, b, c)

    ours = fit(model, x, p0="auto", local=local)
    start = [np.ptp(Y), 1 / np.ptp(x), np.mean(Y), np.mean(Y)]
    assert ours.cost_initial == fit(model, x, p0=start, local=local).cost_initial


def test_auto_says_when_it_cannot_tell_how_many():
    with pytest.raises(ValueError, match="^p0 is needed: the model takes any number of param"):
        fit(lambda x, *p: decay(x, *p), p0="auto")

    def model(x, a, b, c, *, power=1):
        return decay(x, a, b, c) ** power

    with pytest.raises(ValueError, match=r"^p0='auto' gave \[.*\] for 3 parameters: pass p0$"):
        fit(model, p0="auto")


# Derivatives by hand


def derivatives(x, a, b, c):
    fall = jnp.exp(-b * x)
    return jnp.stack([fall, -a * x * fall, jnp.ones_like(x)], axis=1)


@pytest.mark.parametrize("options", [{}, dict(sigma=SIGMA), dict(sigma=np.diag(SIGMA**2))])
@pytest.mark.parametrize("loss", ["linear", "huber"])
def test_derivatives_by_hand_give_the_answer(options, loss):
    calls = []

    def jac(x, *params):
        calls.append(x.shape)
        return derivatives(x, *params)

    ours = fit(jac=jac, loss=loss, **options)
    expected = fit(loss=loss, **options)
    assert {(25,), (20,), (15,)} <= set(calls)
    errors = np.sqrt(np.diag(expected.pcov))
    np.testing.assert_allclose((ours.x - expected.x) / errors, 0, atol=1e-6)
    np.testing.assert_allclose(ours.pcov, expected.pcov, rtol=1e-6)


def test_it_is_the_derivative_by_hand_that_is_used():
    """One of another function leads elsewhere."""
    with pytest.raises(ValueError, match="^no point depends on parameter b at "):
        fit(jac=lambda x, *p: derivatives(x, *p).at[:, 1].set(0.0))


def test_derivatives_by_hand_of_local_parameters():
    x = np.column_stack([X, np.arange(N) % 2])
    local = LocalParameters(("c", "a"), group=lambda x: x[:, 1], n_groups=2)

    def model(x, a, b, c):
        return decay(x[:, 0], a, b, c)

    def jac(x, a, b, c):
        return derivatives(x[:, 0], a, b, c)

    options: dict[str, Any] = dict(p0=[1.0, 1.0, 1.0, 0.0, 0.0], local=local)
    ours, expected = fit(model, x, jac=jac, **options), fit(model, x, **options)
    np.testing.assert_allclose(ours.x, expected.x, rtol=1e-7)
    np.testing.assert_allclose(ours.pcov, expected.pcov, rtol=1e-6)


def test_derivatives_of_another_shape_are_refused():
    message = re.escape("jac returned shape (3, 25), not (25, 3)")
    with pytest.raises(ValueError, match=f"(?m)^{message}$"):
        fit(jac=lambda x, *p: derivatives(x, *p).T)


# Full output


@pytest.mark.parametrize("options", [{}, dict(sigma=SIGMA)])
@pytest.mark.parametrize("whole", [True, False])
def test_full_output_is_that_of_scipy(options, whole):
    expected = curve_fit_of_scipy(
        lambda x, a, b, c: a * np.exp(-b * x) + c, X, Y, [1, 1, 0], **options, full_output=True
    )
    if whole:
        found, order = fit(full_output=True, **options), slice(None)
    else:
        arrays = (X, Y, *options.values())
        parts = [tuple(array[part] for array in arrays) for part in ORDER]
        found = fit(x=None, y=None, chunks=parts, full_output=True)
        order = ORDER.order
    popt, pcov, info, message, flag = found
    errors = np.sqrt(np.diag(expected[1]))
    np.testing.assert_allclose((popt - expected[0]) / errors, 0, atol=1e-3)
    np.testing.assert_allclose(pcov, expected[1], rtol=1e-2)
    noise = np.std(expected[2]["fvec"])
    np.testing.assert_allclose(info["fvec"], expected[2]["fvec"][order], rtol=0, atol=1e-3 * noise)
    assert info["nfev"] > 1
    assert message == "within 0.0001 standard errors of the minimum"
    assert flag == 1


def test_full_output_of_a_fit_that_stopped():
    *_, message, flag = fit(p0=[9.0, 4.0, 9.0], full_output=True, max_nfev=2)
    assert message == "stopped after 2 evaluations without converging"
    assert flag == 5


def test_full_output_of_correlated_errors_is_what_is_squared():
    covariance = np.outer(SIGMA, SIGMA) * 0.5 ** np.abs(np.subtract.outer(range(N), range(N)))
    popt, _, info, *_ = fit(sigma=covariance, full_output=True)
    residual = 2 * fit(sigma=covariance).cost
    assert info["fvec"] @ info["fvec"] == pytest.approx(residual, rel=1e-10)
    raw = popt[0] * np.exp(-popt[1] * X) + popt[2] - Y
    assert raw @ np.linalg.solve(covariance, raw) == pytest.approx(residual, rel=1e-8)
