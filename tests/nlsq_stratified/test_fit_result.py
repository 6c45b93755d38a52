"""What a result tells, against NLSQ's own result of the same fit with all data in memory."""

import copy
import pickle
from typing import Any

import jax.numpy as jnp
import matplotlib.pyplot as plt
import nlsq
import numpy as np
import pytest
from nlsq.result import CurveFitResult

import nlsq_stratified
from nlsq_stratified import Chunks, LocalParameters, StratifiedLargeDatasetFitter, chunk_pass

curve_fit_large: Any = nlsq_stratified.curve_fit_large
curve_fit_of_nlsq: Any = nlsq.curve_fit_large

RNG = np.random.default_rng(0)
N = 60
X = RNG.uniform(0, 4, N)
SIGMA = 0.05 * RNG.uniform(0.5, 2, N)
Y = 2 * np.exp(-0.7 * X) + 0.3 + SIGMA * RNG.normal(size=N)
P0 = [1.0, 1.0, 0.0]
ORDER = Chunks([25, 20, 15], RNG.permutation(N))
AT = np.linspace(0, 5, 7)
STATISTICS = ["r_squared", "adj_r_squared", "rmse", "mae", "aic", "bic"]


def decay(x, a, b, c):
    return a * jnp.exp(-b * x) + c


def of_columns(x, a, b, c):
    return decay(x[:, 0], a, b, c)


def cut(*arrays):
    """The same points as chunks with their own data."""
    return [tuple(array[part] for array in arrays) for part in ORDER]


class OnDisk:
    """Such chunks, counting how often they are read."""

    def __init__(self, parts):
        self.parts, self.reads = parts, 0

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, index):
        self.reads += 1
        return self.parts[index]


FITS = {
    "whole": lambda **o: curve_fit_large(decay, X, Y, P0, chunks=ORDER, **o),
    "size": lambda **o: curve_fit_large(decay, X, Y, P0, chunks=25, **o),
    "own data": lambda **o: curve_fit_large(decay, p0=P0, chunks=cut(X, Y), **o),
    "read": lambda **o: curve_fit_large(decay, p0=P0, chunks=OnDisk(cut(X, Y)), **o),
}
WEIGHTED = {
    "whole": lambda **o: curve_fit_large(decay, X, Y, P0, SIGMA, chunks=ORDER, **o),
    "own data": lambda **o: curve_fit_large(decay, p0=P0, chunks=cut(X, Y, SIGMA), **o),
    "covariance": lambda **o: curve_fit_large(
        decay, X, Y, P0, np.diag(SIGMA**2), chunks=ORDER, **o
    ),
}
ALL = [(name, fit) for group in (FITS, WEIGHTED) for name, fit in group.items()]


def order_of(name):
    """How the points of a result follow each other."""
    return ORDER.order if name in ("own data", "read") else slice(None)


def as_nlsq_has_it(fit):
    """NLSQ's result of the same answer, with the data in memory."""
    return CurveFitResult(x=fit.x, pcov=fit["pcov"], model=decay, xdata=X, ydata=Y)


@pytest.fixture(params=ALL, ids=lambda each: each[0])
def each(request):
    name, fit = request.param
    return name, fit()


# As a tuple


@pytest.fixture(params=["with chunks", "small", "large", "fitter"])
def anyhow(request):
    """The result of every way to fit, large ones without chunks included."""
    if request.param == "with chunks":
        return curve_fit_large(decay, X, Y, P0, chunks=ORDER)
    if request.param == "fitter":
        fitter: Any = StratifiedLargeDatasetFitter()
        return fitter.fit(decay, X, Y, P0, chunks=ORDER)
    x = np.tile(X, 100)
    return curve_fit_large(
        decay, x, np.tile(Y, 100), P0, auto_size_detection=request.param == "small", chunk_size=2000
    )


def test_a_result_is_the_tuple_of_parameters_and_covariance(anyhow):
    popt, pcov = anyhow
    assert popt.shape == (3,)
    assert pcov.shape == (3, 3)
    assert len(anyhow) == 2
    for index in (0, -2, np.int64(0)):
        assert np.array_equal(anyhow[index], popt)
    for index in (1, -1):
        assert np.array_equal(anyhow[index], pcov)
    assert [part.shape for part in anyhow[:]] == [(3,), (3, 3)]
    assert [part.shape for part in anyhow[::-1]] == [(3, 3), (3,)]
    (first,) = anyhow[:1]
    assert np.array_equal(first, popt)
    with pytest.raises(IndexError):
        anyhow[2]
    with pytest.raises(TypeError):
        anyhow[1.0]


def test_fields_are_found_by_their_names():
    fit = FITS["whole"]()
    assert fit["x"] is fit.x
    assert fit["message"] == fit.message
    assert "message" in fit
    assert fit.get("nothing") is None
    assert set(dict(fit)) == set(fit.keys())
    assert fit
    with pytest.raises(KeyError):
        fit["nothing"]
    with pytest.raises(AttributeError):
        _ = fit.nothing


# What the points tell


@pytest.mark.parametrize("statistic", STATISTICS)
def test_statistics_are_those_of_nlsq(each, statistic):
    _, fit = each
    assert getattr(fit, statistic) == pytest.approx(
        getattr(as_nlsq_has_it(fit), statistic), rel=1e-11
    )


def test_residuals_and_predictions_are_those_of_nlsq(each):
    name, fit = each
    theirs = as_nlsq_has_it(fit)
    np.testing.assert_allclose(fit.residuals, theirs.residuals[order_of(name)], atol=1e-14)
    np.testing.assert_allclose(fit.predictions, theirs.predictions[order_of(name)], rtol=1e-14)


@pytest.mark.parametrize("alpha", [0.95, 0.5])
def test_intervals_are_those_of_nlsq(each, alpha):
    """NLSQ's derivatives are differences over a step of 1e-8."""
    name, fit = each
    theirs, close = as_nlsq_has_it(fit), dict(rtol=1e-6)
    np.testing.assert_allclose(
        fit.confidence_intervals(alpha), theirs.confidence_intervals(alpha), rtol=1e-12
    )
    for x in (AT, None):
        order = order_of(name) if x is None else slice(None)
        np.testing.assert_allclose(
            fit.prediction_interval(x, alpha), theirs.prediction_interval(x, alpha)[order], **close
        )
        for ours, expected in zip(
            fit.confidence_band(x, alpha), theirs.confidence_band(x, alpha), strict=True
        ):
            np.testing.assert_allclose(ours, expected[order], **close)


def test_a_summary_is_that_of_nlsq(each, capsys):
    _, fit = each
    fit.summary()
    ours = capsys.readouterr().out
    theirs = as_nlsq_has_it(fit)
    names = ("success", "message", "nfev", "cost", "optimality")
    theirs.update({name: fit[name] for name in names})
    theirs.summary()
    assert ours == capsys.readouterr().out


def test_a_plot_is_that_of_nlsq(each):
    _, fit = each
    figures = [result.plot()[0] for result in (fit, as_nlsq_has_it(fit))]
    points = [
        [np.sort(np.asarray(c.get_offsets()), axis=0) for axes in f.axes for c in axes.collections]
        for f in figures
    ]
    for ours, theirs in zip(*points, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    curves = [f.axes[0].lines[0].get_ydata() for f in figures]
    np.testing.assert_allclose(*curves, rtol=1e-12)
    titles = [f.axes[0].get_title() for f in figures]
    assert titles[0] == titles[1]
    plt.close("all")


def test_the_statistics_take_one_pass():
    chunks = OnDisk(cut(X, Y))
    fit = curve_fit_large(decay, p0=P0, chunks=chunks)
    before = chunks.reads
    for name in STATISTICS:
        getattr(fit, name)
    fit.confidence_intervals()
    fit.prediction_interval(AT)
    assert chunks.reads == before + 3
    assert fit.n_points == N


def test_the_sums_are_right_far_from_zero():
    """The variance of y is not the difference of two large numbers."""
    fit = curve_fit_large(lambda x, a: 1e9 + a * x, X, 1e9 + X + 0.01 * np.sin(99 * X), chunks=7)
    residual = 0.01 * np.sin(99 * X) - (fit.x[0] - 1) * X
    expected = 1 - np.sum(residual**2) / np.sum((X - X.mean()) ** 2)
    assert 1 - fit.r_squared == pytest.approx(1 - expected, rel=1e-3)


def test_points_that_are_left_out_do_not_count():
    keep = np.arange(N + 2) < N
    x, y = np.append(X, [1.0, 2.0]), np.append(Y, [np.nan, 1e6])
    hidden = np.ma.array(y, mask=~keep)
    order = Chunks([30, 32], np.random.default_rng(1).permutation(N + 2))
    for chunks in (order, 31):
        fit = curve_fit_large(decay, x, hidden, P0, chunks=chunks)
        theirs = as_nlsq_has_it(fit)
        np.testing.assert_allclose(fit.residuals, theirs.residuals, atol=1e-14)
        assert fit.r_squared == pytest.approx(theirs.r_squared, rel=1e-11)


def test_local_parameters():
    """Against the same fit with an offset for each group in the model."""
    x = np.column_stack([X, np.arange(N) % 2])

    def written_out(x, a, b, c0, c1):
        return a * jnp.exp(-b * x[:, 0]) + jnp.where(x[:, 1] == 1, c1, c0)

    local = LocalParameters(("c",), group=lambda x: x[:, 1], n_groups=2)
    ours = curve_fit_large(of_columns, x, Y, [1, 1, 0, 0], chunks=ORDER, local=local)
    plain = curve_fit_large(written_out, x, Y, [1, 1, 0, 0], chunks=ORDER)
    for name in STATISTICS:
        assert getattr(ours, name) == pytest.approx(getattr(plain, name), rel=1e-6)
    np.testing.assert_allclose(ours.residuals, plain.residuals, atol=1e-6)
    at = np.column_stack([AT, [0, 1, 1, 0, 1, 0, 0]])
    np.testing.assert_allclose(
        ours.prediction_interval(at), plain.prediction_interval(at), rtol=1e-6
    )
    np.testing.assert_allclose(ours.confidence_band(), plain.confidence_band(), rtol=1e-6)
    with pytest.raises(ValueError, match="^plot draws one curve: here each group has its own"):
        ours.plot()


def test_several_features_are_no_plot():
    x = np.column_stack([X, X])
    fit = curve_fit_large(of_columns, x, Y, P0, chunks=20)
    with pytest.raises(ValueError, match="^plot draws x of one feature: this one has several$"):
        fit.plot()


def test_an_undetermined_parameter_leaves_the_curve_undetermined_where_it_acts():
    fit = curve_fit_large(decay, X, Y, P0, bounds=([-9, 0.9, -9], 9), chunks=20)
    assert fit.active_mask.tolist() == [0, -1, 0]
    low, high = fit.confidence_band([0.0, 1.0])
    assert np.isfinite([low[0], high[0]]).all()  # b acts on nothing at x = 0
    assert [low[1], high[1]] == [-np.inf, np.inf]


def test_what_is_undefined_is_nan_with_a_warning():
    flat = curve_fit_large(lambda x, a: a + 0 * x, X, np.ones(N), [2.0], chunks=20)
    with pytest.warns(RuntimeWarning, match="^R² is undefined: all y are equal$"):
        assert np.isnan(flat.r_squared)
    exact = curve_fit_large(lambda x, a: a * x, X, np.zeros(N), [0.0], chunks=20)
    with pytest.warns(RuntimeWarning, match="^AIC and BIC are undefined for a sum of squares of 0"):
        assert np.isnan(exact.aic)
    few = curve_fit_large(decay, X[:3], Y[:3], P0, chunks=3)
    with pytest.warns(RuntimeWarning, match="^3 points are too few for an adjusted R² of 3 para"):
        assert np.isnan(few.adj_r_squared)
    with pytest.warns(RuntimeWarning, match="^3 points and 3 parameters leave nothing to estimate"):
        few.confidence_intervals()


# What NLSQ's chunked fit says of its chunks


def test_the_result_says_of_chunks_what_that_of_nlsq_does():
    theirs: Any = nlsq.LargeDatasetFitter(memory_limit_gb=1.0)
    theirs.config.max_chunk_size = theirs.config.min_chunk_size = 25
    result = theirs.fit(decay, X, Y, P0)
    fit = FITS["size"]()
    extras = {"n_chunks", "success_rate", "failure_summary", "chunk_results"}
    assert extras <= result.keys() & fit.keys()
    assert fit.n_chunks == result.n_chunks == 3
    assert fit.success_rate == result.success_rate == 1.0
    shared = fit.failure_summary.keys()
    assert {name: result.failure_summary[name] for name in shared} == fit.failure_summary
    assert set(result.failure_summary) - set(shared) == {"timing_stats"}
    for ours, expected in zip(fit.chunk_results, result.chunk_results, strict=True):
        for name in ("chunk_idx", "n_points", "success"):
            assert ours[name] == expected[name]
    assert sum(each["cost"] for each in fit.chunk_results) == pytest.approx(fit.cost)


# Keeping it


@pytest.mark.parametrize("again", [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
@pytest.mark.parametrize("name", ["whole", "own data"])
def test_a_copy_tells_the_same(again, name):
    fit = FITS[name]()
    other = again(fit)
    assert np.array_equal(other[0], fit[0])
    assert other.r_squared == fit.r_squared
    np.testing.assert_array_equal(other.residuals, fit.residuals)


def test_costs_of_chunks_are_not_kept_of_every_evaluation(monkeypatch):
    held = []
    solve = chunk_pass.solve

    def watched(evaluate, *args, **kwargs):
        def evaluated(params):
            found = evaluate(params)
            held.append(len(evaluate.chunk_costs))
            return found

        return solve(evaluated, *args, **kwargs)

    monkeypatch.setattr(chunk_pass, "solve", watched)
    fit = curve_fit_large(decay, X, Y, [9.0, 4.0, 9.0], chunks=20, tolerance=1e-10)
    assert len(held) > 8
    assert max(held) <= 4  # the best one, and those that a step compares with it
    assert np.sum(fit.chunk_costs) == pytest.approx(fit.cost)
