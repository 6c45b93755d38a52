"""NLSQ's large-data fitter, with and without chunks."""

import inspect
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax.numpy as jnp
import nlsq
import numpy as np
import pytest
from nlsq.streaming.large_dataset import LargeDatasetFitter, LDMemoryConfig
from scipy.optimize import curve_fit

import nlsq_stratified
from nlsq_stratified import Chunks, StratifiedLargeDatasetFitter

curve_fit_large: Any = nlsq_stratified.curve_fit_large
fit_large_dataset: Any = nlsq_stratified.fit_large_dataset
fit_of_nlsq: Any = nlsq.fit_large_dataset


def decay(x, a, b):
    return a * jnp.exp(-b * x)


RNG = np.random.default_rng(0)
X = RNG.uniform(0, 3, 80)
SIGMA = 0.03 * RNG.uniform(0.5, 2, 80)
Y = 2 * np.exp(-1.2 * X) + SIGMA * RNG.normal(size=80)
CHUNKS = Chunks([30, 30, 20], RNG.permutation(80))
P0 = [1.0, 1.0]


@pytest.fixture
def fitter() -> Any:
    return StratifiedLargeDatasetFitter(memory_limit_gb=1.0)


def test_it_is_a_fitter_of_nlsq(fitter):
    assert isinstance(fitter, LargeDatasetFitter)
    assert isinstance(fitter, nlsq.LargeDatasetFitter)


def test_its_constructor_is_that_of_nlsq():
    config = LDMemoryConfig(memory_limit_gb=0.25)
    fitter = StratifiedLargeDatasetFitter(
        config=config, multistart=True, n_starts=12, sampler="halton"
    )
    assert fitter.config is config
    assert (fitter.multistart, fitter.n_starts, fitter.sampler) == (True, 12, "halton")


@pytest.mark.parametrize("method", ["fit", "fit_with_progress"])
def test_chunks_give_the_bits_of_the_function(fitter, method, capsys):
    options: dict[str, Any] = dict(sigma=SIGMA, absolute_sigma=True, chunks=CHUNKS)
    result = getattr(fitter, method)(decay, X, Y, P0, **options)
    assert ("pass" in capsys.readouterr().err) == (method == "fit_with_progress")
    expected = curve_fit_large(decay, X, Y, P0, **options)
    assert result.x.tobytes() == expected.x.tobytes()
    assert result.pcov.tobytes() == expected.pcov.tobytes()
    assert result.chunk_sizes == (30, 30, 20)
    assert np.array_equal(result.popt, result.x)


def test_chunks_give_the_answer_of_scipy(fitter):
    popt, pcov = curve_fit(lambda x, a, b: a * np.exp(-b * x), X, Y, P0, SIGMA, xtol=1e-14)
    result = fitter.fit(decay, X, Y, P0, sigma=SIGMA, chunks=CHUNKS)
    np.testing.assert_allclose((result.x - popt) / np.sqrt(np.diag(pcov)), 0, atol=1e-3)
    np.testing.assert_allclose(result.pcov, pcov, rtol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        dict(chunks=20),
        dict(chunks="auto", chunk_size=50),
        dict(chunks=CHUNKS, preserve_chunks=False),
        dict(chunks=CHUNKS, progressive=True, loss="huber", f_scale=0.1),
        dict(chunks=CHUNKS, bounds=([0, 0], [1.5, 9])),
        dict(chunks=CHUNKS, tolerance=1e-7, max_nfev=50),
    ],
)
def test_arguments_are_those_of_the_function(fitter, options):
    result = fitter.fit(decay, X, Y, P0, **options)
    expected = curve_fit_large(decay, X, Y, P0, memory_limit_gb=1.0, **options)
    assert result.success
    assert result.x.tobytes() == expected.x.tobytes()
    assert result.chunk_sizes == expected.chunk_sizes


def test_chunks_may_hold_the_data(fitter):
    parts = [(X[i : i + 40], Y[i : i + 40]) for i in (0, 40)]
    result = fitter.fit(decay, None, None, P0, chunks=parts)
    assert result.x.tobytes() == fitter.fit(decay, X, Y, P0, chunks=40).x.tobytes()


def test_an_executor_is_used(fitter):
    with ThreadPoolExecutor(2) as executor:
        result = fitter.fit(decay, X, Y, P0, chunks=CHUNKS, executor=executor)
    assert result.x.tobytes() == fitter.fit(decay, X, Y, P0, chunks=CHUNKS).x.tobytes()


def test_the_memory_limit_is_that_of_the_constructor():
    fitter: Any = StratifiedLargeDatasetFitter(memory_limit_gb=72e-9 * 25)
    result = fitter.fit(decay, X, Y, P0, chunks=CHUNKS, preserve_chunks=False)
    assert result.chunk_sizes == (25, 25, 25, 5)  # three arrays of three float64 a point
    assert fitter.fit(decay, X, Y, P0, chunks="auto").chunk_sizes == (25, 25, 25, 5)


def test_further_starts_are_those_of_the_constructor():
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 10, 400)
    y = 1.5 * np.sin(3.1 * x) + 0.05 * rng.normal(size=400)
    options: dict[str, Any] = dict(p0=[1.0, 6.5], bounds=([0.1, 0.2], [5.0, 8.0]), chunks=50)

    def wave(x, a, w):
        return a * jnp.sin(w * x)

    one: Any = StratifiedLargeDatasetFitter()
    many: Any = StratifiedLargeDatasetFitter(multistart=True, n_starts=60, sampler="sobol")
    assert abs(one.fit(wave, x, y, **options).x[1] - 3.1) > 0.5
    expected = curve_fit_large(wave, x, y, multistart=True, n_starts=60, sampler="sobol", **options)
    assert many.fit(wave, x, y, **options).x.tobytes() == expected.x.tobytes()
    assert abs(expected.x[1] - 3.1) < 0.01


def test_the_outcome_is_logged():
    records = []
    logger = logging.Logger("fits")
    logger.addHandler(handler := logging.Handler())
    handler.emit = lambda record: records.append(record.getMessage())
    fitter: Any = StratifiedLargeDatasetFitter(logger=logger)
    result = fitter.fit(decay, X, Y, P0, chunks=CHUNKS)
    assert records[-1] == f"3 chunks, 80 points: {result.message}"


@pytest.mark.parametrize("method", ["fit", "fit_with_progress"])
def test_without_chunks_it_is_the_fitter_of_nlsq(fitter, method):
    theirs: Any = LargeDatasetFitter(memory_limit_gb=1.0)
    ours = getattr(fitter, method)(decay, X, Y, P0, bounds=([0, 0], [9, 9]))
    expected = getattr(theirs, method)(decay, X, Y, P0, bounds=([0, 0], [9, 9]))
    assert type(ours) is type(expected)
    np.testing.assert_array_equal(ours.x, expected.x)
    np.testing.assert_array_equal(ours.pcov, expected.pcov)


@pytest.mark.parametrize("options", [dict(progressive=True), dict(preserve_chunks=False)])
def test_options_of_chunks_need_chunks(fitter, options):
    message = "executor, progressive and preserve_chunks need chunks"
    with pytest.raises(TypeError, match=f"^{message}$"):
        fitter.fit(decay, X, Y, P0, **options)


def test_unknown_options_are_refused(fitter):
    with pytest.raises(TypeError, match=r"^not supported together with chunks: colour$"):
        fitter.fit(decay, X, Y, P0, chunks=CHUNKS, colour="red")


def test_the_tuple_of_full_output_is_not_the_result_of_a_fitter(fitter):
    with pytest.raises(TypeError, match="^full_output is not supported by a fitter: its result "):
        fitter.fit(decay, X, Y, P0, chunks=CHUNKS, full_output=True)


def test_a_solver_is_without_effect_and_the_caller_is_told_so(fitter):
    message = "^without effect together with chunks: solver, tr_solver$"
    with pytest.warns(UserWarning, match=message) as caught:
        fitter.fit(decay, X, Y, P0, solver="cg", tr_solver="lsmr", chunks=CHUNKS)
    assert [warning.filename for warning in caught] == [__file__]


def test_further_starts_may_be_asked_for_in_a_call():
    """As NLSQ's `curve_fit_large` does with its fitter."""
    fitter: Any = StratifiedLargeDatasetFitter()
    options: dict[str, Any] = dict(chunks=CHUNKS, multistart=True, n_starts=4, sampler="halton")
    expected = curve_fit_large(decay, X, Y, P0, **options)
    assert fitter.fit(decay, X, Y, P0, **options).x.tobytes() == expected.x.tobytes()


# The function


@pytest.mark.parametrize("show_progress", [False, True])
def test_the_function_makes_the_fitter(show_progress, capsys):
    result = fit_large_dataset(decay, X, Y, P0, chunks=CHUNKS, show_progress=show_progress)
    assert ("pass" in capsys.readouterr().err) == show_progress
    assert result.x.tobytes() == curve_fit_large(decay, X, Y, P0, chunks=CHUNKS).x.tobytes()


def test_the_function_hands_on_its_arguments():
    result = fit_large_dataset(
        decay,
        X,
        Y,
        P0,
        memory_limit_gb=72e-9 * 25,
        chunks="auto",
        multistart=True,
        n_starts=9,
        sampler="halton",
    )
    expected = curve_fit_large(
        decay, X, Y, P0, chunks=25, multistart=True, n_starts=9, sampler="halton"
    )
    assert result.chunk_sizes == (25, 25, 25, 5)
    assert result.x.tobytes() == expected.x.tobytes()


def test_without_chunks_the_function_is_that_of_nlsq():
    ours, theirs = (function(decay, X, Y, P0) for function in (fit_large_dataset, fit_of_nlsq))
    np.testing.assert_array_equal(ours.x, theirs.x)
    np.testing.assert_array_equal(ours.pcov, theirs.pcov)


def test_the_function_takes_the_arguments_of_nlsq():
    ours = inspect.signature(fit_large_dataset).parameters
    theirs = inspect.signature(fit_of_nlsq).parameters
    assert list(ours) == list(theirs)
    for name in theirs:
        assert ours[name].default == theirs[name].default
