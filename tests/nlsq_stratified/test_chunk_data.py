"""Data in every form that chunks can take: the same answer, and errors that name the chunk."""

import functools
import inspect
import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

import nlsq_stratified
from nlsq_stratified import Chunks, LocalParameters, chunk_pass
from nlsq_stratified.chunk_data import FirstChunks, chunk_data, points_in
from nlsq_stratified.objectives.curve import padded_length

curve_fit: Any = scipy.optimize.curve_fit
curve_fit_large: Any = nlsq_stratified.curve_fit_large

N = 60


def decay(x, a, b, np=jnp):
    return a * np.exp(-b * x)


def model(x, a, b):
    return decay(x, a, b)


def tall(x, a, b, c):
    """Features along the last axis."""
    return a * x[:, 0] + jnp.exp(b * x[:, 1]) + c * x[:, 0] * x[:, 2]


def wide(x, a, b, c):
    """Features along the first axis."""
    return a * x[0] + jnp.exp(b * x[1]) + c * x[0] * x[2]


def wide_in_numpy(x, a, b, c):
    return a * x[0] + np.exp(b * x[1]) + c * x[0] * x[2]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 3, N)
    sigma = 0.03 * rng.uniform(0.5, 2, N)
    return x, decay(x, 2.0, 1.2, np) + sigma * rng.normal(size=N), sigma


@pytest.fixture(scope="module")
def whole(data):
    x, y, sigma = data
    return curve_fit(
        lambda x, a, b: decay(x, a, b, np), x, y, [1, 1], sigma, xtol=1e-14, ftol=1e-14
    )


def assert_agrees(fit, popt, pcov):
    deviation = np.sqrt(np.diag(pcov))
    assert fit.success
    np.testing.assert_allclose((fit.x - popt) / deviation, 0, atol=1e-3)
    scale = np.outer(deviation, deviation)
    np.testing.assert_allclose(fit.pcov / scale, pcov / scale, rtol=0, atol=1e-4)


def cut(arrays, *ends):
    return [tuple(a[..., i:j] for a in arrays) for i, j in zip((0, *ends), (*ends, N), strict=True)]


# Features


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 2, (3, N))
    y = wide_in_numpy(x, 1.0, 0.5, -1.0) + 0.05 * rng.normal(size=N)
    return x, y, curve_fit(wide_in_numpy, x, y, [1, 1, 1], xtol=1e-14, ftol=1e-14)


@pytest.mark.parametrize("chunks", [1, 3, 20, 60, "shuffled"])
def test_features_may_run_along_either_axis(features, chunks):
    """Also in chunks of as many points as there are features."""
    x, y, expected = features
    if chunks == "shuffled":
        chunks = Chunks([3, 17, 40], np.random.default_rng(2).permutation(N))
    one = curve_fit_large(wide, x, y, chunks=chunks)
    other = curve_fit_large(tall, np.ascontiguousarray(x.T), y, chunks=chunks)
    assert_agrees(one, *expected)
    assert_agrees(other, *expected)


def assert_points_are_left_out(features, shape, chunks):
    x, y, _ = features
    bad = [0, 7, 31]
    expected = curve_fit(wide_in_numpy, np.delete(x, bad, 1), np.delete(y, bad), [1, 1, 1])
    x, y = x.copy(), y.copy()
    y[0], x[1, 7], x[2, 31] = np.nan, np.inf, np.nan
    function, x = (wide, x) if shape == "wide" else (tall, x.T.copy())
    fit = curve_fit_large(function, x, y, chunks=chunks, nan_policy="omit")
    assert_agrees(fit, *expected)


@pytest.mark.parametrize("chunks", [20, 60])
@pytest.mark.parametrize("shape", ["wide", "tall"])
def test_points_are_left_out_along_the_axis_of_the_points(features, shape, chunks):
    assert_points_are_left_out(features, shape, chunks)


def test_points_are_left_out_of_chunks_as_long_as_wide(features):
    assert_points_are_left_out(features, "wide", 3)


def test_points_are_left_out_of_chunks_as_wide_as_long(features):
    assert_points_are_left_out(features, "tall", 3)


@pytest.mark.parametrize("shape", ["wide", "tall"])
def test_chunks_cut_before_keep_their_orientation(features, shape):
    x, y, expected = features
    parts = cut((x, y), 20, 45)
    if shape == "tall":
        parts = [(x.T, y) for x, y in parts]
    assert_agrees(curve_fit_large(wide if shape == "wide" else tall, chunks=parts), *expected)


# Chunks that were cut before


@settings(max_examples=15)
@given(st.sets(st.sampled_from([12, 24, 36, 48])).map(sorted), st.booleans())
def test_chunks_cut_before_give_the_answer_of_the_whole(data, whole, ends, as_lists):
    parts: Any = cut(data, *ends)
    if as_lists:
        parts = tuple([array.tolist() for array in part] for part in parts)
    assert_agrees(curve_fit_large(model, chunks=parts), *whole)


def test_chunks_cut_before_give_the_bits_of_the_partition(data):
    parts = curve_fit_large(model, chunks=cut(data, 20, 40))
    x, y, sigma = data
    partition = curve_fit_large(model, x, y, sigma=sigma, chunks=20)
    assert parts.x.tobytes() == partition.x.tobytes()
    assert parts.pcov.tobytes() == partition.pcov.tobytes()


def test_chunks_cut_before_tell_their_sizes(data):
    assert curve_fit_large(model, chunks=cut(data, 24, 36)).chunk_sizes == (24, 12, 24)


@dataclass
class OnDisk:
    """Chunks in one file, of which only the points of a chunk are read."""

    path: Path
    size: int

    def __len__(self):
        return -(-N // self.size)

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(index)
        rows = np.load(self.path, mmap_mode="r")
        x, y, sigma = rows[:, index * self.size : (index + 1) * self.size]
        return x, y, sigma


@pytest.fixture(scope="module")
def on_disk(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("chunks") / "data.npy"
    np.save(path, np.stack(data))
    return OnDisk(path, 24)


def test_chunks_may_stay_on_disk(on_disk, whole):
    fit = curve_fit_large(model, chunks=on_disk)
    assert_agrees(fit, *whole)
    assert len(fit.chunk_costs) == 3
    assert np.sum(fit.chunk_costs) == pytest.approx(fit.cost, rel=1e-12)


def test_processes_give_the_same_bits(data):
    """`jnp.power` is a model that any process can import."""
    x, y, sigma = data
    parts = cut((x, 1 + x**1.5 + y / 10, sigma), 20, 40)
    here = curve_fit_large(jnp.power, chunks=parts, p0=[1.0])
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        there = curve_fit_large(jnp.power, chunks=parts, p0=[1.0], executor=executor)
    assert there.x.tobytes() == here.x.tobytes()
    assert there.pcov.tobytes() == here.pcov.tobytes()
    assert (there.cost, there.nfev) == (here.cost, here.nfev)


GOOD = (np.linspace(0, 1, 5), np.linspace(1, 2, 5))
X, Y = GOOD


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        ((X,), "chunk 1 is not a tuple (x, y) or (x, y, sigma)"),
        ((X, Y, Y, Y), "chunk 1 is not a tuple (x, y) or (x, y, sigma)"),
        (np.stack([X, Y]), "chunk 1 is not a tuple (x, y) or (x, y, sigma)"),
        ((X, Y[:4]), "chunk 1: xdata of shape (5,) does not match 4 points of ydata"),
        ((X, Y[:, None]), "chunk 1: ydata must have one dimension, got shape (5, 1)"),
        ((X[:0], Y[:0]), "chunk 1: there are no points"),
        ((X, Y, Y[:4]), "chunk 1: sigma of shape (4,) does not match 5 points"),
        ((X, Y, 0 * Y), "chunk 1: every sigma must be positive"),
        ((X, Y, Y + np.nan), "chunk 1: sigma holds values that are not finite"),
        ((X, Y + np.inf), "chunk 1: ydata holds values that are not finite"),
        ((X + np.nan, Y), "chunk 1: xdata holds values that are not finite"),
    ],
)
def test_a_bad_chunk_is_named(chunk, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        curve_fit_large(model, chunks=[GOOD, chunk, GOOD])


def test_an_error_of_the_sequence_itself_is_passed_on():
    class Unreadable:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            if index == 2:
                raise OSError("the disk is gone")
            return GOOD

    with pytest.raises(OSError, match=r"^the disk is gone$"):
        curve_fit_large(model, chunks=Unreadable())


def test_a_sequence_without_chunks_is_refused():
    with pytest.raises(ValueError, match=r"^at least one chunk is needed$"):
        curve_fit_large(model, chunks=[])


@pytest.mark.parametrize("given", [dict(xdata=X), dict(ydata=Y), dict(sigma=Y)])
def test_chunks_with_data_replace_the_arrays(given):
    message = "chunks that hold their own data replace xdata, ydata and sigma: pass None"
    with pytest.raises(TypeError, match=f"^{message}$"):
        curve_fit_large(model, chunks=[GOOD], **given)


@pytest.mark.parametrize("chunks", [3.0, iter([GOOD]), {GOOD[0].tobytes()}])
def test_other_objects_are_no_chunks(chunks):
    message = "chunks must be a Chunks, a size, 'auto', or a sequence of (x, y[, sigma]), not "
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        curve_fit_large(model, X, Y, chunks=chunks)


@pytest.mark.parametrize("chunks", ["large", True])
def test_other_words_are_no_chunks(chunks):
    message = f"chunks must be a Chunks, a size, 'auto' or a sequence, not {chunks!r}"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        curve_fit_large(model, X, Y, chunks=chunks)


@pytest.mark.parametrize("missing", ["xdata", "ydata"])
def test_a_partition_needs_the_data(missing):
    given: dict[str, Any] = dict(xdata=X, ydata=Y) | {missing: None}
    message = "xdata and ydata are needed with a partition of the points"
    with pytest.raises(ValueError, match=f"^{message}$"):
        curve_fit_large(model, **given, chunks=Chunks([2, 3]))


def test_a_size_needs_the_data():
    with pytest.raises(ValueError, match=r"^ydata is needed to cut the data into chunks$"):
        curve_fit_large(model, chunks=10)


# Which chunks the model sees


def shapes(**options):
    """Points of the chunks on which the model is called, in order of their first call."""
    seen = []

    def recording(x, a, b):
        if x.shape not in seen:
            seen.append(x.shape)
        return decay(x, a, b)

    rng = np.random.default_rng(3)
    x = rng.uniform(0, 3, N)
    y = decay(x, 2.0, 1.2, np) + 0.01 * rng.normal(size=N)
    fit = curve_fit_large(recording, x, y, **options)
    assert sum(fit.chunk_sizes) == N
    assert {(n,) for n in fit.chunk_sizes} == set(seen)
    return fit.chunk_sizes


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        (dict(chunks=Chunks([7, 40, 13])), (7, 40, 13)),
        (dict(chunks=Chunks([7, 40, 13]), chunk_size=5, memory_limit_gb=1e-6), (7, 40, 13)),
        (dict(chunks=Chunks([7, 53]), preserve_chunks=False), (60,)),
        (dict(chunks=Chunks([7, 53]), preserve_chunks=False, chunk_size=25), (25, 25, 10)),
        # three arrays of three float64 a point
        (
            dict(chunks=Chunks([60]), preserve_chunks=False, memory_limit_gb=72e-9 * 16),
            (16, 16, 16, 12),
        ),
        (dict(chunks=25), (25, 25, 10)),
        (dict(chunks="auto"), (60,)),
        (dict(chunks="auto", chunk_size=40), (40, 20)),
        (dict(chunks="auto", memory_limit_gb=72e-9 * 32), (32, 28)),
    ],
)
def test_the_model_is_called_on_these_chunks(options, sizes):
    assert shapes(**options) == sizes


def test_a_size_may_be_an_integer_of_numpy():
    assert shapes(chunks=np.int64(25)) == (25, 25, 10)


def test_boundaries_taken_as_hints_keep_the_order(data, whole):
    x, y, sigma = data
    order = np.random.default_rng(4).permutation(N)
    one = curve_fit_large(
        model,
        x,
        y,
        sigma=sigma,
        chunks=Chunks([11, 49], order),
        preserve_chunks=False,
        chunk_size=30,
    )
    other = curve_fit_large(model, x, y, sigma=sigma, chunks=Chunks([30, 30], order))
    assert one.x.tobytes() == other.x.tobytes()
    assert_agrees(one, *whole)


# Chunks of many lengths


@pytest.fixture(scope="module")
def of_many_lengths():
    """Points and standard deviations, and the same in ten chunks, each of another length."""
    ends = np.cumsum(np.arange(20, 30))
    rng = np.random.default_rng(6)
    x = rng.uniform(0, 3, ends[-1])
    sigma = 0.03 * rng.uniform(0.5, 2, len(x))
    y = decay(x, 2.0, 1.2, np) + sigma * rng.normal(size=len(x))
    arrays = x, y, sigma
    parts = list(zip(*(np.split(array, ends[:-1]) for array in arrays), strict=True))
    return arrays, parts


def lengths_seen(f):
    """A model that records the lengths for which it is traced."""
    seen = set()

    def recording(x, *params):
        seen.add(x.shape[-1])
        return f(x, *params)

    recording.__signature__ = inspect.signature(f)  # type: ignore[attr-defined]
    return recording, seen


@pytest.mark.parametrize("loss", ["linear", "huber"])
def test_chunks_that_are_hints_are_filled_up_to_few_lengths(of_many_lengths, loss):
    (x, y, sigma), parts = of_many_lengths
    recording, seen = lengths_seen(model)
    options: dict[str, Any] = dict(p0=[1.0, 1.0], loss=loss, absolute_sigma=True)
    fit = curve_fit_large(recording, chunks=parts, preserve_chunks=False, **options)
    expected = curve_fit_large(model, x, y, sigma=sigma, chunks=len(x), **options)
    assert_agrees(fit, expected.x, expected.pcov)
    assert fit.cost == pytest.approx(expected.cost, rel=1e-12)
    assert fit.n_points == len(x)
    assert fit.chunk_sizes == tuple(range(20, 30))
    assert fit.r_squared == pytest.approx(expected.r_squared, rel=1e-9)
    # One chunk, of 21 points, is compared with the same one filled up.
    assert seen == {20, 21, 24, 28, 32}


def test_local_parameters_of_chunks_that_are_filled_up(of_many_lengths):
    (x, y, _), parts = of_many_lengths
    group = (x > 1).astype(float)
    two = [(np.stack([x, (x > 1).astype(float)]), y) for x, y, _ in parts]
    local = LocalParameters(("a",), group=lambda x: x[1], n_groups=2)
    options: dict[str, Any] = dict(p0=[1.0, 1.0, 1.0], local=local)

    def of_rows(x, a, b):
        return decay(x[0], a, b)

    fit = curve_fit_large(of_rows, chunks=two, preserve_chunks=False, **options)
    expected = curve_fit_large(of_rows, np.stack([x, group]), y, chunks=len(x), **options)
    assert_agrees(fit, expected.x, expected.pcov)


def test_masked_points_of_hints_need_few_lengths(of_many_lengths):
    (x, y, sigma), _ = of_many_lengths
    hidden = np.random.default_rng(7).random(len(x)) < 0.1
    recording, seen = lengths_seen(model)
    fit = curve_fit_large(
        recording,
        x,
        np.ma.array(y, mask=hidden),
        sigma=sigma,
        chunks=Chunks.of_size(len(x), 40),
        chunk_size=40,
        preserve_chunks=False,
    )
    kept = [array[~hidden] for array in (x, y)]
    numpy_model = functools.partial(decay, np=np)
    expected = curve_fit(numpy_model, *kept, [1, 1], sigma[~hidden], xtol=1e-14, ftol=1e-14)
    assert_agrees(fit, *expected)
    assert len(seen) <= 6


@pytest.mark.parametrize(
    "f",
    [
        lambda x, a, b: a * jnp.exp(-b * x) + 0.01 * a * jnp.mean(x),
        lambda x, a, b: a * jnp.exp(-b * x) + 0.01 * jnp.linspace(0, a, x.shape[0]),
    ],
)
def test_a_model_of_whole_chunks_is_not_filled_up(of_many_lengths, f):
    _, parts = of_many_lengths
    message = "^the model at a point depends on the other points of its chunk: such a model needs "
    with pytest.raises(ValueError, match=message):
        curve_fit_large(f, chunks=parts[1:], p0=[1.0, 1.0], preserve_chunks=False)


def test_many_lengths_without_filling_up_are_worth_a_warning(of_many_lengths, monkeypatch):
    _, parts = of_many_lengths
    monkeypatch.setattr(chunk_pass, "MOST_LENGTHS", 2)
    message = "^the chunks have more than 2 different lengths, and the model is compiled for each"
    with pytest.warns(UserWarning, match=message) as caught:
        curve_fit_large(model, chunks=parts[:5], p0=[1.0, 1.0], max_nfev=1)
    assert [warning.filename for warning in caught] == [__file__]


@given(st.integers(1, 10**7))
def test_lengths_that_are_filled_up_to(n):
    length = padded_length(n)
    assert length >= n
    assert length <= max(4, 1.25 * n)
    assert length >> max(0, length.bit_length() - 3) in (4, 5, 6, 7)
    assert length % (1 << max(0, length.bit_length() - 3)) == 0


def test_very_small_chunks_of_many_points_are_worth_a_warning():
    x = np.linspace(0, 1, 10_001)
    message = r"^chunks=1 is the number of points in a chunk: this makes 10,001 chunks, each of "
    fails_early = pytest.raises(ValueError, match="^nan_policy")
    with pytest.warns(UserWarning, match=message) as caught, fails_early:
        curve_fit_large(model, x, x, [1.0, 1.0], chunks=1, nan_policy="none")
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(
    ("chunks", "advice"),
    [
        ([20, 40], "chunks of sizes: pass Chunks.from_sizes(chunks)"),
        (np.array([20, 40]), "chunks of sizes: pass Chunks.from_sizes(chunks)"),
        (np.split(np.arange(N), 3), "chunks of point indices: pass Chunks.from_indices(chunks)"),
        ([[0, 1], [2, 3]], "chunks of point indices: pass Chunks.from_indices(chunks)"),
        ([0.0, 45.0] * 30, "chunks of a label for each point: pass Chunks.from_labels(chunks)"),
        (
            [slice(0, 30), slice(30, N)],
            "chunks of slices: pass Chunks.from_sizes, with the lengths",
        ),
    ],
)
def test_numbers_that_cut_the_points_lead_to_chunks(data, chunks, advice):
    x, y, _ = data
    with pytest.raises(TypeError, match=f"^{re.escape(advice)}"):
        curve_fit_large(model, x, y, chunks=chunks)


@pytest.mark.parametrize(
    ("limit", "p", "points"),
    [(1.0, 4, 8_333_333), (1.0, 1, 20_833_333), (1e-12, 4, 1), (None, 4, 2**63 - 1)],
)
def test_points_within_a_memory_limit(limit, p, points):
    assert points_in(limit, p) == points


# Values that are not finite


def spoilt(data):
    x, y, sigma = (array.copy() for array in data)
    x[5], y[17], y[50], sigma[41] = np.nan, np.nan, -np.inf, np.nan
    return x, y, sigma, [5, 17, 41, 50]


@pytest.mark.parametrize("check_finite", [True, False])
@pytest.mark.parametrize("form", ["partition", "cut before"])
def test_omit_is_the_fit_of_the_rest(data, form, check_finite):
    x, y, sigma, bad = spoilt(data)
    rest = [np.delete(array, bad) for array in (x, y, sigma)]
    expected = curve_fit(lambda x, a, b: decay(x, a, b, np), *rest[:2], [1, 1], rest[2])
    options: dict[str, Any] = dict(nan_policy="omit", check_finite=check_finite)
    if form == "partition":
        fit = curve_fit_large(model, x, y, sigma=sigma, chunks=20, **options)
    else:
        fit = curve_fit_large(model, chunks=cut((x, y, sigma), 20, 40), **options)
    assert_agrees(fit, *expected)
    assert fit.n_points == N - len(bad)


def test_omit_may_leave_a_chunk_empty(data, whole):
    x, y, sigma = (np.concatenate([np.full(20, np.nan), array]) for array in data)
    fit = curve_fit_large(model, x, y, sigma=sigma, chunks=20, nan_policy="omit")
    assert_agrees(fit, *whole)
    assert fit.chunk_costs[0] == 0


def test_raise_is_the_default(data):
    x, y, sigma, _ = spoilt(data)
    for options in ({}, dict(nan_policy="raise")):
        with pytest.raises(ValueError, match=r"^xdata holds values that are not finite$"):
            curve_fit_large(model, x, y, sigma=sigma, chunks=20, **options)


@pytest.mark.parametrize("options", [dict(nan_policy="propagate"), dict(check_finite=False)])
def test_propagate_reaches_the_model_and_names_the_chunk(data, options):
    x, y, _ = data
    y = y.copy()
    y[45] = np.nan
    message = "the model is not finite in chunk 2 at a = 1, b = 1"
    with pytest.raises(ValueError, match=f"^{message}$"):
        curve_fit_large(model, x, y, chunks=20, **options)


def test_propagate_lets_the_model_deal_with_it(data, whole):
    """A model may know what an infinite x means."""
    x, y, sigma = (
        np.append(array, value) for array, value in zip(data, (np.inf, 0.0, 1.0), strict=True)
    )
    fit = curve_fit_large(model_of_infinity, x, y, sigma=sigma, chunks=30, nan_policy="propagate")
    popt, _ = whole
    np.testing.assert_allclose(fit.x, popt, rtol=1e-4)


def model_of_infinity(x, a, b):
    known = jnp.isfinite(x)
    return jnp.where(known, decay(jnp.where(known, x, 0.0), a, b), 0.0)


def test_other_policies_are_refused():
    message = "nan_policy must be 'raise', 'omit' or 'propagate', not 'drop'"
    with pytest.raises(ValueError, match=f"^{message}$"):
        curve_fit_large(model, X, Y, chunks=5, nan_policy="drop")


# Masked points


def masked(data, form):
    """Points 5, 17, 41 and 50 spoilt and masked, each in one array; as points or as chunks."""
    x, y, sigma, bad = spoilt(data)
    y[50], sigma[5] = 1e9, -1.0  # a mask hides any value, a wrong sigma too
    hidden = [np.zeros(N, bool) for _ in range(3)]
    hidden[0][5], hidden[1][[17, 50]], hidden[2][41] = True, True, True
    arrays = tuple(
        np.ma.array(array, mask=mask) for array, mask in zip((x, y, sigma), hidden, strict=True)
    )
    if form == "partition":
        return dict(zip(("xdata", "ydata", "sigma"), arrays, strict=True), chunks=20), bad
    return dict(chunks=cut(arrays, 20, 40)), bad


@pytest.mark.parametrize("policy", ["raise", "omit", "propagate"])
@pytest.mark.parametrize("form", ["partition", "cut before"])
def test_masked_points_are_left_out(data, form, policy):
    given, bad = masked(data, form)
    x, y, sigma = (np.delete(array, bad) for array in data)
    expected = curve_fit(lambda x, a, b: decay(x, a, b, np), x, y, [1, 1], sigma)
    fit = curve_fit_large(model, **given, nan_policy=policy)
    assert_agrees(fit, *expected)
    assert fit.n_points == N - len(bad)


@pytest.mark.parametrize("order", [None, np.random.default_rng(5).permutation(N)])
def test_a_point_is_left_out_if_one_of_its_features_is_masked(order):
    rng = np.random.default_rng(6)
    x, noise = rng.uniform(0, 1, (2, N)), 0.01 * rng.normal(size=N)
    y = 2 * x[0] + 3 * x[1] + noise
    mask = np.zeros((2, N), bool)
    mask[0, 3] = mask[1, 7] = True
    keep = ~mask.any(axis=0)
    expected = np.linalg.lstsq(x.T[keep], y[keep])[0]
    for features, axis in ((x, 0), (x.T, 1)):
        plane: Any = lambda x, a, b, axis=axis: a * x.take(0, axis) + b * x.take(1, axis)  # noqa: E731
        hidden = np.ma.array(features, mask=mask if axis == 0 else mask.T)
        fit = curve_fit_large(plane, hidden, y, [1, 1], chunks=Chunks([25, 35], order))
        np.testing.assert_allclose(fit.x, expected, rtol=1e-9)
        assert fit.n_points == N - 2


def test_a_mask_that_hides_nothing_changes_nothing(data):
    x, y, sigma = data
    plain = curve_fit_large(model, x, y, sigma=sigma, chunks=20)
    hidden = [np.ma.array(array, mask=False) for array in data]
    fit = curve_fit_large(model, hidden[0], hidden[1], sigma=hidden[2], chunks=20)
    assert fit.x.tobytes() == plain.x.tobytes()


def test_a_mask_does_not_excuse_what_it_does_not_hide(data):
    x, y, _ = (array.copy() for array in data)
    y[3] = np.nan
    hidden = np.ma.array(y, mask=np.arange(N) == 4)
    with pytest.raises(ValueError, match="^ydata holds values that are not finite$"):
        curve_fit_large(model, x, hidden, chunks=20)


def test_some_point_must_be_left(data):
    x, y, _ = data
    message = "^no point is left: each is masked, has an infinite sigma, or holds a value that is "
    with pytest.raises(ValueError, match=message):
        curve_fit_large(model, x, np.ma.array(y, mask=True), chunks=20)
    with pytest.raises(ValueError, match=message):
        curve_fit_large(model, x, np.full(N, np.nan), chunks=20, nan_policy="omit")


@pytest.mark.parametrize("which", ["ydata", "sigma"])
def test_a_covariance_matrix_goes_with_all_points(data, which):
    x, y, sigma = data
    given: dict[str, Any] = dict(xdata=x, ydata=y, sigma=np.diag(sigma**2))
    given[which] = np.ma.array(given[which], mask=False)
    given[which][0] = np.ma.masked
    with pytest.raises(ValueError, match="^a covariance matrix needs all points: take those that"):
        curve_fit_large(model, **given, chunks=20)


# Numbers that are not real


@pytest.mark.parametrize("name", ["xdata", "ydata", "sigma"])
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_numbers_are_refused(data, name, dtype):
    given = dict(zip(("xdata", "ydata", "sigma"), data, strict=True))
    given[name] = given[name].astype(dtype)
    message = f"{name} holds complex numbers: fit real and imaginary parts as separate points"
    with pytest.raises(ValueError, match=f"^{message}$"):
        curve_fit_large(model, **given, chunks=20)
    with pytest.raises(ValueError, match=f"^chunk 0: {message}$"):
        curve_fit_large(model, chunks=[tuple(given.values())])


def test_a_complex_covariance_is_refused(data):
    x, y, sigma = data
    with pytest.raises(ValueError, match="^sigma holds complex numbers"):
        curve_fit_large(model, x, y, sigma=np.diag(sigma + 0j), chunks=20)


def test_a_model_of_complex_numbers_is_refused(data):
    x, y, _ = data
    with pytest.raises(
        ValueError, match="(?m)^the model returned complex numbers: return real and"
    ):
        curve_fit_large(lambda x, a, b: a * jnp.exp(1j * b * x), x, y, chunks=20)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array(["1"] * N), "values of type <U1, not real numbers"),
        (np.array([1.0, "2"] * (N // 2), object), "'2', which is no real number"),
        (np.array([1.0, 2j] * (N // 2), object), "2j, which is no real number"),
        (np.array([1.0, None] * (N // 2)), "values that are not finite"),
        (
            np.zeros(N, "datetime64[s]"),
            "values of type datetime64[s], not real numbers: pass seconds, as (t - t[0]) / "
            "np.timedelta64(1, 's')",
        ),
    ],
)
def test_what_is_no_number_is_refused(data, values, message):
    _, y, _ = data
    with pytest.raises(ValueError, match=f"^xdata holds {re.escape(message)}$"):
        curve_fit_large(model, values, y, chunks=20)


# Sigma of some chunks


class Lazy:
    """Chunks that are read when they are asked for."""

    def __init__(self, parts):
        self.parts = parts

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, index):
        return self.parts[index]


@pytest.mark.parametrize("of", [list, Lazy])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("options", [{}, dict(progressive=True), dict(multistart=True)])
def test_sigma_is_given_for_every_chunk_or_for_none(data, of, first, options):
    parts = cut(data, 20, 40)
    without = [0] if not first else [2]
    for i in without:
        parts[i] = parts[i][:2]
    pair = (0, 2) if first else (1, 0)
    message = f"chunk {pair[0]} has a sigma and chunk {pair[1]} has none: give one for every chunk"
    with pytest.raises(ValueError, match=f"^{message}"):
        curve_fit_large(model, chunks=of(parts), **options)
    with (
        ThreadPoolExecutor(2) as executor,
        pytest.raises(ValueError, match=f"^{message}"),
    ):
        curve_fit_large(model, chunks=of(parts), executor=executor, **options)


# The sequence itself


def test_a_partition_is_seen_chunk_by_chunk(data):
    x, y, sigma = data
    seen = chunk_data(x, y, sigma, Chunks([10, 50]))
    assert len(seen) == 2
    for part, expected in zip((seen[0], seen[1]), cut(data, 10), strict=True):
        for array, other in zip(part, expected, strict=True):
            assert np.array_equal(array, other)


def test_the_first_chunks_end():
    first = FirstChunks("abcdef", 2)
    assert len(first) == 2
    assert [first[0], first[1], first[-1]] == ["a", "b", "b"]
    with pytest.raises(IndexError):
        first[2]
