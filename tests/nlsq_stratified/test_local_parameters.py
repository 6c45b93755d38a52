"""Fits with local parameters against the same fits with all parameters in one model, and SciPy."""

import re
from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit, least_squares

from nlsq_stratified import ArrayChunks, Chunks, LocalParameters, curve_fit_large, evaluate
from nlsq_stratified.objectives.curve import CurveObjective
from nlsq_stratified.objectives.local import LocalObjective, _merged, _tiles

pytestmark = pytest.mark.numerics


def decay(x, contrast, rate, offset):
    """Of one group; local parameters on either side of the shared one."""
    return contrast * jnp.exp(-rate * x[:, 0]) + offset


def decay_in_numpy(x, *p):
    """Of all groups, parameters as a fit of `decay` with local contrast and offset has them."""
    k = (len(p) - 1) // 2
    group = x[:, 1].astype(int)
    contrast, rate, offset = np.array(p[:k]), p[k], np.array(p[k + 1 :])
    return contrast[group] * np.exp(-rate * x[:, 0]) + offset[group]


def all_in_one(k):
    """The same in JAX, with every parameter a parameter of every point."""

    def f(x, *p):
        group = x[:, 1].astype(int)
        contrast, offset = jnp.stack(p[:k]), jnp.stack(p[k + 1 :])
        return contrast[group] * jnp.exp(-p[k] * x[:, 0]) + offset[group]

    return f


ALL_IN_ONE = {k: all_in_one(k) for k in (1, 5)}


def column(x):
    return x[:, 1]


def both(k):
    return LocalParameters(("contrast", "offset"), column, k)


def measured(sizes, seed=0, noise=0.02):
    """Points of each group in random order; x, y and the truth."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    x = np.column_stack([rng.uniform(0, 3, len(group)), group])
    truth = np.concatenate(
        [np.linspace(0.2, 0.4, len(sizes)), [0.8], np.linspace(0.9, 1.1, len(sizes))]
    )
    return x, decay_in_numpy(x, *truth) + rng.normal(0, noise, len(group)), truth


def test_names_are_those_of_the_signature():
    assert both(2).parameters(decay) == [
        "contrast[0]",
        "contrast[1]",
        "rate",
        "offset[0]",
        "offset[1]",
    ]


def group_sizes(n):
    """How many of n points the one group, or each of five groups, has: one at least."""
    cuts = st.sampled_from([1, 5]).flatmap(
        lambda k: st.sets(st.integers(1, n - 1), min_size=k - 1, max_size=k - 1)
    )
    return cuts.map(lambda cuts: np.diff([0, *sorted(cuts), n]).tolist())


def chunk_sizes(n):
    """Any chunks of 1, 12 and 36 of n points: few sizes, as each is compiled for."""

    def filled(wanted):
        sizes = []
        for size in [*wanted, *[36, 12] * 2, *[1] * n]:
            if size <= n - sum(sizes):
                sizes.append(size)
        return sizes

    return st.lists(st.sampled_from([1, 12, 36]), max_size=6).map(filled)


@settings(max_examples=40)
@given(
    sizes=group_sizes(72),
    cut=chunk_sizes(72),
    loss=st.sampled_from(["linear", "huber", "cauchy"]),
    weighted=st.booleans(),
    seed=st.integers(0, 99),
)
def test_sums_are_those_of_all_parameters(sizes, cut, loss, weighted, seed):
    """Groups mixed in chunks anyhow, some absent from some, against one chunk of everything."""
    x, y, truth = measured(sizes, seed)
    rng = np.random.default_rng(seed)
    arrays = (x, y, rng.uniform(0.5, 2, len(y))) if weighted else (x, y)
    params = truth * rng.uniform(0.9, 1.1, len(truth))
    k = len(sizes)
    data = ArrayChunks(Chunks(cut), arrays, axis=0)
    mine = evaluate(LocalObjective(decay, both(k), loss, 0.05), params, data)
    whole = evaluate(CurveObjective(ALL_IN_ONE[k], loss, 0.05), params, [arrays])
    assert mine.n_points == whole.n_points == len(y)
    assert mine.cost == pytest.approx(whole.cost, rel=1e-12)
    size = np.sqrt(np.diag(whole.hessian))
    atol = 1e-12 * np.sqrt(len(y))
    # Of a robust loss the residual that goes with the Jacobian is not that of the cost.
    of_gradient = atol * np.linalg.norm(whole.triangle[:, -1])
    np.testing.assert_allclose(
        mine.gradient / size, whole.gradient / size, rtol=0, atol=of_gradient
    )
    scale = np.outer(size, size)
    np.testing.assert_allclose(mine.hessian / scale, whole.hessian / scale, rtol=0, atol=atol)
    np.testing.assert_allclose(mine.majorant, whole.majorant, rtol=1e-12)
    factor, target = mine.linear_problem()
    np.testing.assert_allclose(factor.T @ factor / scale, whole.hessian / scale, atol=atol)
    np.testing.assert_allclose(
        factor.T @ target / size, -mine.gradient / size, rtol=0, atol=of_gradient
    )


@pytest.mark.parametrize(
    "chunks",
    [
        1000,
        333,
        Chunks.from_indices(np.array_split(np.random.default_rng(1).permutation(1000), 7)),
        Chunks.from_indices(
            np.split(np.argsort(measured([400, 300, 200, 100])[0][:, 1]), [5, 700])
        ),
    ],
)
def test_the_answer_is_that_of_scipy(chunks):
    x, y, truth = measured([400, 300, 200, 100])
    start = truth * 1.1
    expected, covariance = curve_fit(decay_in_numpy, x, y, start)
    errors = np.sqrt(np.diag(covariance))
    fit = curve_fit_large(decay, x, y, start, chunks=chunks, local=both(4))
    assert fit.success
    assert np.all(np.abs(fit.popt - expected) < 1e-3 * errors)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.pcov)), errors, rtol=1e-3)
    np.testing.assert_allclose(fit.pcov, covariance, atol=1e-3 * np.max(np.abs(covariance)))


def test_weights_bounds_and_a_robust_loss_as_in_scipy():
    x, y, truth = measured([300, 300, 300], seed=3)
    rng = np.random.default_rng(4)
    sigma = rng.uniform(0.01, 0.03, len(y))
    y[::20] += 1.0
    lower, upper = np.full(7, -np.inf), np.full(7, np.inf)
    upper[1] = truth[1] - 0.01
    expected = least_squares(
        lambda p: (decay_in_numpy(x, *p) - y) / sigma,
        np.minimum(truth, upper - 1e-3),
        bounds=(lower, upper),
        loss="soft_l1",
        x_scale="jac",
        ftol=1e-15,
        xtol=1e-15,
        gtol=1e-15,
        method="dogbox",
    )
    fit = curve_fit_large(
        decay,
        x,
        y,
        truth,
        sigma=sigma,
        bounds=(lower, upper),
        loss="soft_l1",
        chunks=137,
        local=both(3),
    )
    errors = 1 / np.sqrt(np.diag(expected.jac.T @ expected.jac))
    assert fit.success
    assert fit.popt[1] == upper[1]
    assert np.all(np.abs(fit.popt - expected.x) < 1e-3 * errors)
    assert fit.cost == pytest.approx(expected.cost, rel=1e-9)


def test_every_parameter_local_is_a_fit_of_each_group():
    x, y, _ = measured([100, 200, 50])
    local = LocalParameters(("contrast", "rate", "offset"), column, 3)
    fit = curve_fit_large(decay, x, y, np.repeat([0.3, 1.0, 1.0], 3), chunks=97, local=local)
    for g in range(3):
        own = x[:, 1] == g
        alone = curve_fit_large(decay, x[own], y[own], [0.3, 1.0, 1.0], chunks=1000)
        errors = np.sqrt(np.diag(alone.pcov))
        assert np.all(np.abs(fit.popt[g::3] - alone.popt) < 1e-3 * errors)


def test_a_condition_number_that_a_hessian_would_lose_is_kept():
    """Of the scaled Jacobian 1e9, of its square 1e18; by NumPy from all points in one matrix."""
    rng = np.random.default_rng(5)
    x = np.column_stack([rng.uniform(-1, 1, 600), rng.integers(0, 2, 600)])

    def f(x, a, b, c):
        return a + b * (1 + 1e-9 * x[:, 0]) + c * x[:, 0] ** 2

    member = x[:, 1:] == [0, 1]
    jacobian = np.column_stack(
        [member, 1 + 1e-9 * x[:, 0], member * x[:, :1] ** 2],
    )
    scaled = jacobian / np.linalg.norm(jacobian, axis=0)
    local = LocalParameters(("a", "c"), column, 2)
    data = ArrayChunks(Chunks.of_size(600, 100), (x, np.zeros(600)), axis=0)
    factor, _ = evaluate(LocalObjective(f, local), np.ones(5), data).linear_problem()
    singular = np.linalg.svd(factor / np.linalg.norm(factor, axis=0), compute_uv=False)
    expected = np.linalg.svd(scaled, compute_uv=False)
    assert expected[0] / expected[-1] > 1e9
    np.testing.assert_allclose(singular, expected, rtol=1e-5)


def test_an_executor_and_stages_change_nothing():
    x, y, truth = measured([500, 400, 300])
    how = {"p0": truth * 1.1, "local": both(3), "chunks": Chunks.stratified(x[:, 1], 100, seed=0)}
    alone = curve_fit_large(decay, x, y, **how)
    with ThreadPoolExecutor(3) as threads:
        threaded = curve_fit_large(decay, x, y, executor=threads, **how)
    staged = curve_fit_large(decay, x, y, progressive=True, **how)
    assert threaded.popt.tobytes() == alone.popt.tobytes()
    assert np.all(np.abs(staged.popt - alone.popt) < 1e-3 * np.sqrt(np.diag(alone.pcov)))


def test_the_model_sees_exactly_the_points_of_each_chunk():
    x, y, truth = measured([20, 20])
    seen = []

    def f(x, contrast, rate, offset):
        seen.append((x.shape, jnp.shape(contrast), jnp.shape(rate), jnp.shape(offset)))
        return decay(x, contrast, rate, offset)

    cut = [(x[:15], y[:15]), (x[15:], y[15:])]
    curve_fit_large(f, None, None, truth, chunks=cut, local=both(2))
    assert set(seen) == {((15, 2), (15,), (), (15,)), ((25, 2), (25,), (), (25,))}


def test_a_group_without_points_is_named():
    x, y, _ = measured([20, 20])
    message = r"^no point depends on parameter contrast\[2\], offset\[2\] at"
    with pytest.raises(ValueError, match=message):
        curve_fit_large(decay, x, y, np.ones(7), chunks=10, local=both(3))


def test_a_chunk_without_values_is_named():
    x, y, truth = measured([20, 20])
    y[35] = np.nan
    with pytest.raises(ValueError, match=r"not finite in chunk 3 at contrast\[0\] = 0.2"):
        curve_fit_large(decay, x, y, truth, chunks=10, local=both(2), check_finite=False)


@pytest.mark.parametrize(
    "names, group, n, message",
    [
        (("contrst",), column, 2, "the model has no parameter contrst; it has contrast, rate, "),
        (("offset",), column, 0, "n_groups must be positive, got 0"),
        (("offset",), column, 1, "a number from 0 to 0, and gave 1.0"),
        (("offset",), lambda x: x[:, 1] - 1, 2, "a number from 0 to 1, and gave -1.0"),
        (("offset",), lambda x: x[:, 0], 9, "a number from 0 to 8, and gave 1.1"),
        (("offset",), lambda x: x, 9, r"and gave an array of shape \(40, 2\)"),
        (("offset",), lambda x: x[1:, 1], 2, r"and gave an array of shape \(39,\)"),
    ],
)
def test_what_local_parameters_do_not_take(names, group, n, message):
    x, y, _ = measured([20, 20])
    with pytest.raises(ValueError, match=message):
        curve_fit_large(decay, x, y, chunks=40, local=LocalParameters(names, group, n))


def test_a_model_of_any_number_of_parameters_is_refused():
    with pytest.raises(ValueError, match=r"must not take \*params"):
        both(2).parameters(lambda x, *p: p[0])


def test_what_a_fit_with_local_parameters_does_not_take():
    x, y, truth = measured([20, 20])
    with pytest.raises(ValueError, match="p0 has 3 values, and there are 5 parameters"):
        curve_fit_large(decay, x, y, truth[:3], chunks=10, local=both(2))
    with pytest.raises(TypeError, match="local need chunks"):
        curve_fit_large(decay, x, y, truth, local=both(2))
    with pytest.raises(TypeError, match="covariance matrix is not supported together with local"):
        curve_fit_large(decay, x, y, truth, sigma=np.eye(40), chunks=10, local=both(2))
    with pytest.raises(ValueError, match=re.escape("returned shape (1,) for y of shape (10,)")):
        curve_fit_large(
            lambda x, a, offset: a + offset[:1],
            x,
            y,
            np.ones(3),
            chunks=10,
            local=LocalParameters(("offset",), column, 2),
        )


@given(groups=st.lists(st.integers(0, 6), min_size=1, max_size=300), columns=st.integers(1, 12))
def test_tiles_hold_every_point_once_and_one_group_each(groups, columns):
    groups = np.array(groups)
    tiles, labels = _tiles(groups, 7, columns)
    assert tiles.shape == _tiles(np.zeros_like(groups), 7, columns)[0].shape
    assert tiles.shape[1] >= columns
    held = tiles[tiles < len(groups)]
    assert sorted(held) == list(range(len(groups)))
    assert np.all(tiles[len(labels) :] == len(groups))
    assert np.all(np.diff(labels) >= 0)
    for tile, label in zip(tiles, labels, strict=False):
        assert set(groups[tile[tile < len(groups)]]) == {label}


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(0, 99))
def test_factors_of_a_label_are_merged(counts, seed):
    labels = np.repeat(np.arange(len(counts)) * 2, counts)
    factors = np.triu(np.random.default_rng(seed).normal(size=(len(labels), 3, 3)))
    merged, left = _merged(factors, labels)
    assert left.tolist() == [2 * i for i in range(len(counts))]
    for label, factor in zip(left, merged, strict=True):
        rows = factors[labels == label].reshape(-1, 3)
        np.testing.assert_allclose(factor.T @ factor, rows.T @ rows, atol=1e-12 * len(rows))
