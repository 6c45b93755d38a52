import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.kernel.tiles import TILE, dealing_order, probe_chunk, tile_chunks


def labelled(n, k, missing=()):
    """Data whose every value names its place."""
    i, j = np.indices((n, n))
    c2 = np.stack([1e6 * a + 1e3 * np.minimum(i, j) + np.maximum(i, j) for a in range(k)])
    for place in missing:
        c2[place] = np.nan
    return TwoTimeData(c2, np.arange(k), np.ones(k), 1.0, "labels")


def points(chunks, k):
    """(angle, t1, t2, value) of every entry that counts, over all chunks."""
    found = []
    for chunk in chunks:
        b, a, x, y = np.nonzero(np.isfinite(chunk.values))
        found.append(np.stack([a, chunk.rows[b, x], chunk.cols[b, y], chunk.c2[b, a, x, y]], 1))
    return np.concatenate(found)


@settings(max_examples=25)
@given(st.integers(3, 3 * TILE + 2), st.integers(1, 3), st.sampled_from([1, 5, 10**3]))
def test_every_point_once_in_its_place(n, k, target):
    found = points(tile_chunks(labelled(n, k), target), k)
    i, _ = np.triu_indices(n, 1)
    assert len(found) == k * len(i)
    assert len(np.unique(found[:, :3], axis=0)) == len(found)
    assert np.all(found[:, 1] < found[:, 2])
    np.testing.assert_array_equal(found[:, 3], 1e6 * found[:, 0] + 1e3 * found[:, 1] + found[:, 2])


def test_missing_points_do_not_count():
    data = labelled(50, 2, missing=[(0, 3, 7), (1, 0, 49)])
    assert len(points(tile_chunks(data), 2)) == 2 * 50 * 49 // 2 - 2


def test_chunks_have_one_shape_and_hold_every_angle_and_short_and_long_lags():
    n = 10 * TILE
    chunks = tile_chunks(labelled(n, 2), per_chunk=4)
    assert len({chunk.c2.shape for chunk in chunks}) == 1
    assert len(chunks) > 5
    for chunk in chunks:
        lags = chunk.cols[:, 0] - chunk.rows[:, 0]
        assert lags.min() <= 2 * TILE
        assert lags.max() >= n / 2


def test_dtype_is_kept():
    data = labelled(20, 1)
    single = TwoTimeData(data.c2.astype(np.float32), data.phi, data.q, 1.0, "single")
    assert tile_chunks(single)[0].c2.dtype == np.float32


@pytest.mark.parametrize("n", [3, TILE - 1, TILE, TILE + 1, 5 * TILE + 3])
def test_probe_spans_all_lags_and_lies_in_the_data(n):
    found = points([probe_chunk(labelled(n, 2))], 2)
    np.testing.assert_array_equal(found[:, 3], 1e6 * found[:, 0] + 1e3 * found[:, 1] + found[:, 2])
    lags = found[:, 2] - found[:, 1]
    assert lags.min() == 1
    assert lags.max() == n - 1


def test_probe_of_some_angles_is_that_of_their_data():
    whole, angles = labelled(3 * TILE, 4), np.array([3, 1])
    some = probe_chunk(whole, (2, 5), angles)
    alone = probe_chunk(whole.select_angles(angles), (2, 5))
    assert some.n_angles == 2
    np.testing.assert_array_equal(some.values, alone.values)


@given(st.integers(1, 500), st.data())
def test_any_first_few_of_a_lag_are_spread_over_all_times(n, data):
    order = dealing_order(np.arange(n), np.arange(n))
    assert sorted(order) == list(range(n))
    first = data.draw(st.integers(1, n))
    gaps = np.diff(np.concatenate([[-1], np.sort(order[:first]), [n]]))
    # The gaps between multiples of the golden section, modulo 1, are at most 1.9 times their mean
    # and one more, where they meet the ends; and places are whole numbers.
    assert gaps.max() <= 2.7 * n / first + 2


def test_short_lags_are_dealt_first():
    rows, cols = np.triu_indices(9)
    order = dealing_order(rows, cols)
    assert np.all(np.diff((cols - rows)[order]) >= 0)
