"""Partitions of points: every point exactly once, or an error that says what is wrong."""

import re
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlsq_stratified import ArrayChunks, Chunks


def exactly(message):
    """A pattern that matches this message and no other."""
    return f"^{re.escape(message)}$"


def points(chunks):
    """The points of every chunk, in the order of the chunks."""
    return [np.arange(chunks.n_points)[part].tolist() for part in chunks]


sizes = st.lists(st.integers(1, 9), min_size=1, max_size=8)
labels = st.one_of(
    st.lists(st.integers(-3, 3), min_size=1, max_size=60),
    st.lists(st.sampled_from(["a", "b", "longer"]), min_size=1, max_size=60),
    st.lists(st.sampled_from([0.0, -22.5, 90.0]), min_size=1, max_size=60),
)


@st.composite
def partitions(draw):
    """A partition by any of the constructors, and the number of points it was made for."""
    kind = draw(st.sampled_from(["sizes", "of_size", "indices", "order", "labels", "stratified"]))
    if kind == "of_size":
        n = draw(st.integers(1, 50))
        return Chunks.of_size(n, draw(st.integers(1, 60))), n
    if kind in ("labels", "stratified"):
        groups = draw(labels)
        if kind == "labels":
            return Chunks.from_labels(groups), len(groups)
        target = draw(st.integers(len(set(groups)), 80))
        seed = draw(st.none() | st.integers(0, 5))
        return Chunks.stratified(groups, target, seed), len(groups)
    lengths = draw(sizes)
    n = sum(lengths)
    if kind == "sizes":
        return Chunks.from_sizes(lengths), n
    order = draw(st.permutations(range(n)))
    if kind == "order":
        return Chunks(lengths, order), n
    return Chunks.from_indices(np.split(np.array(order), np.cumsum(lengths)[:-1])), n


@given(partitions())
def test_every_point_is_in_exactly_one_chunk(partition):
    chunks, n = partition
    held = points(chunks)
    assert chunks.n_points == n
    assert sorted(chain.from_iterable(held)) == list(range(n))
    assert len(held) == len(chunks)
    assert tuple(map(len, held)) == chunks.sizes


@given(partitions())
def test_chunks_are_indexed_like_a_sequence(partition):
    chunks, n = partition
    every = np.arange(n)
    assert every[chunks[-1]].tolist() == points(chunks)[-1]
    with pytest.raises(IndexError):
        chunks[len(chunks)]
    with pytest.raises(IndexError):
        chunks[-len(chunks) - 1]


# What each constructor does


def test_from_sizes_cuts_consecutive_runs():
    chunks = Chunks.from_sizes([2, 1, 3])
    assert points(chunks) == [[0, 1], [2], [3, 4, 5]]
    assert list(chunks) == [slice(0, 2), slice(2, 3), slice(3, 6)]


@pytest.mark.parametrize(
    ("n", "size", "expected"),
    [(10, 4, (4, 4, 2)), (8, 4, (4, 4)), (3, 4, (3,)), (3, 1, (1, 1, 1)), (1, 1, (1,))],
)
def test_of_size_leaves_the_rest_to_the_last_chunk(n, size, expected):
    assert Chunks.of_size(n, size).sizes == expected


def test_from_indices_keeps_the_order_given():
    assert points(Chunks.from_indices([[3, 0], range(1, 3), [4]])) == [[3, 0], [1, 2], [4]]


@pytest.mark.parametrize("make", [Chunks.from_labels, Chunks.by_group])
def test_from_labels_makes_one_chunk_a_label_and_keeps_the_order_within(make):
    assert points(make(["b", "a", "b", "c", "a"])) == [[1, 4], [0, 2], [3]]


def test_a_permutation_is_cut_into_runs():
    assert points(Chunks([1, 3], [2, 0, 3, 1])) == [[2], [0, 3, 1]]


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8, np.uint32])
def test_any_integer_type_indexes_points(dtype):
    assert points(Chunks.from_indices([np.array([2, 0], dtype), np.array([1], dtype)])) == [
        [2, 0],
        [1],
    ]


# Errors


@pytest.mark.parametrize("make", [Chunks, Chunks.from_sizes, Chunks.from_indices])
def test_no_chunk_at_all_is_refused(make):
    with pytest.raises(ValueError, match=exactly("at least one chunk is needed")):
        make([])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Chunks.from_sizes([3, 0, 2]),
        lambda: Chunks.from_sizes([3, -1, 2]),
        lambda: Chunks.from_indices([[0, 1], []]),
    ],
)
def test_an_empty_chunk_is_named(make):
    message = "chunk 1 is empty: every chunk needs at least one point"
    with pytest.raises(ValueError, match=exactly(message)):
        make()


def test_a_point_that_occurs_twice_is_named():
    with pytest.raises(ValueError, match=exactly("point 1 occurs 2 times")):
        Chunks.from_indices([[0, 1], [1, 3]])


def test_the_count_is_that_of_the_point_named():
    with pytest.raises(ValueError, match=exactly("point 0 occurs 2 times")):
        Chunks.from_indices([[0, 0], [1, 1, 1]])


@pytest.mark.parametrize("point", [4, -1, 1000])
def test_a_point_out_of_range_is_named(point):
    message = f"point {point} is out of range: there are 4 points"
    with pytest.raises(ValueError, match=exactly(message)):
        Chunks.from_indices([[0, 1], [point, 2]])


def test_sizes_and_order_must_agree():
    with pytest.raises(ValueError, match="^the chunks hold 4 points but the order lists 3$"):
        Chunks([2, 2], [0, 1, 2])


@pytest.mark.parametrize("kind", ["float64", "bool"])
def test_indices_must_be_integers(kind):
    message = f"point indices must be integers in one dimension, got {kind}"
    with pytest.raises(ValueError, match=exactly(message)):
        Chunks.from_indices([np.array([0, 1], kind)])


def test_indices_must_have_one_dimension():
    with pytest.raises(ValueError, match="^point indices must be integers in one dimension"):
        Chunks.from_indices([np.array([[0, 1], [2, 3]])])


def test_sizes_must_be_integers():
    with pytest.raises(TypeError, match="'float' object cannot be interpreted as an integer"):
        Chunks.from_sizes([2.0, 3.0])  # type: ignore[list-item]


@pytest.mark.parametrize("size", [0, -5])
def test_the_chunk_size_must_be_positive(size):
    message = f"the chunk size must be positive, got {size}"
    with pytest.raises(ValueError, match=exactly(message)):
        Chunks.of_size(10, size)


def test_there_must_be_points():
    with pytest.raises(ValueError, match=exactly("there are no points to chunk")):
        Chunks.of_size(0, 10)


def test_a_target_below_the_number_of_groups_is_refused():
    message = "target_size 2 cannot hold a point of each of 3 groups"
    with pytest.raises(ValueError, match=exactly(message)):
        Chunks.stratified([0, 1, 2, 0, 1, 2], target_size=2)


# Stratification


def test_three_million_points_of_three_angles():
    groups = np.repeat([0.0, 45.0, 90.0], 1_002_001)
    chunks = Chunks.stratified(groups, target_size=100_000)
    report = chunks.report(groups)
    assert chunks.n_points == 3_006_003
    assert len(chunks) == 31
    assert set(chunks.sizes) == {96_966, 96_969}
    assert report.coverage == 1.0
    assert report.imbalance_ratio == 1.0
    assert report.missing == ((),) * 31
    assert np.all(report.counts == report.counts[:, :1])


@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 60), st.none() | st.integers(0, 9))
def test_equal_groups_have_equal_shares_of_every_chunk(n_groups, each, more, seed):
    groups = np.tile(np.arange(n_groups), each)
    chunks = Chunks.stratified(groups, n_groups + more, seed)
    counts = chunks.report(groups).counts
    assert np.all(counts == counts[:, :1])
    assert len(counts) == -(-each // ((n_groups + more) // n_groups))
    assert np.ptp(counts) <= 1


@given(labels, st.integers(0, 40), st.none() | st.integers(0, 9))
def test_no_chunk_is_larger_than_the_target_but_for_rare_groups(groups, more, seed):
    n_groups = len(set(groups))
    chunks = Chunks.stratified(groups, n_groups + more, seed)
    assert max(chunks.sizes) < n_groups + more + n_groups


@pytest.mark.parametrize("seed", [None, 0])
def test_no_chunk_holds_a_small_rest(seed):
    """40,007 points more than four full chunks would leave seven."""
    groups = np.repeat([0, 1, 2], [40_000, 40_007, 20_000])
    chunks = Chunks.stratified(groups, 10_000, seed)
    assert len(chunks) == 11
    assert max(chunks.sizes) - min(chunks.sizes) <= 3


@given(st.lists(st.integers(1, 400), min_size=1, max_size=5), st.integers(0, 60), st.integers(0, 9))
def test_all_chunks_hold_about_the_same_shares(counts, more, seed):
    groups = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    report = Chunks.stratified(groups, len(counts) + more, seed).report(groups)
    share = np.array(counts) / len(report.sizes)
    assert np.all(np.abs(report.counts - share) < 1)


def test_unequal_groups_in_proportion():
    groups = np.repeat(["few", "many"], [10, 30])
    chunks = Chunks.stratified(groups, target_size=8)
    assert chunks.sizes == (8, 8, 8, 8, 8)
    assert np.all(chunks.report(groups).counts == [2, 6])


@pytest.mark.parametrize(("counts", "target"), [((199, 10_001), 100), ((1_000, 1_999, 5_000), 20)])
def test_unequal_groups_last_equally_long(counts, target):
    """All but the last chunk hold every group, close to its share of the points."""
    groups = np.repeat(np.arange(len(counts)), counts)
    held = Chunks.stratified(groups, target).report(groups).counts[:-1]
    share = np.array(counts) / sum(counts)
    assert np.all(held > 0)
    assert np.all(np.abs(held - share * held.sum(axis=1, keepdims=True)) <= 2)


def test_without_a_seed_points_keep_their_order_within_a_group():
    groups = np.array([0, 1, 0, 1, 0, 1, 1, 0])
    chunks = Chunks.stratified(groups, target_size=4)
    assert points(chunks) == [[0, 2, 1, 3], [4, 7, 5, 6]]


def test_a_seed_draws_reproducibly():
    groups = np.tile([0, 1, 2], 100)
    first, again = (Chunks.stratified(groups, 30, seed=3) for _ in range(2))
    other = Chunks.stratified(groups, 30, seed=4)
    assert points(first) == points(again)
    assert points(first) != points(other)
    assert points(first) != points(Chunks.stratified(groups, 30))


# Report


def test_the_report_counts_groups_in_chunks():
    report = Chunks.from_sizes([3, 2]).report(["b", "a", "b", "b", "b"])
    assert report.sizes == (3, 2)
    assert report.groups == ("a", "b")
    assert report.counts.tolist() == [[1, 2], [0, 2]]
    assert report.missing == ((), ("a",))
    assert report.coverage == 0.5
    assert report.imbalance_ratio == 4.0


@given(partitions(), st.integers(1, 4), st.integers(0, 9))
def test_the_report_accounts_for_every_point(partition, n_groups, seed):
    chunks, n = partition
    groups = np.random.default_rng(seed).integers(0, n_groups, n)
    report = chunks.report(groups)
    assert report.counts.sum(axis=1).tolist() == list(chunks.sizes)
    assert report.counts.sum(axis=0).tolist() == np.unique_counts(groups).counts.tolist()
    for part, missing in zip(points(chunks), report.missing, strict=True):
        assert set(missing) == set(groups) - set(groups[part])


def test_the_report_prints_as_a_table():
    chunks = Chunks.from_sizes([1_500, 500, 1])
    groups = np.repeat([0.0, 22.5, 90.0], [1_000, 1_000, 1])
    assert str(chunks.report(groups)).splitlines() == [
        "3 chunks, 2,001 points, 3 groups",
        "imbalance ratio 1000.00, 0% of the chunks hold every group",
        "  chunk       points  groups missing",
        "      0        1,500  90.0",
        "      1          500  0.0, 90.0",
        "      2            1  0.0, 22.5",
    ]


def test_a_complete_chunk_prints_a_dash():
    assert str(Chunks.from_sizes([2]).report([0, 1])).splitlines()[-1] == "      0            2  -"


def test_the_report_needs_a_label_for_every_point():
    with pytest.raises(ValueError, match=exactly("4 points need as many labels, got (3,)")):
        Chunks.from_sizes([4]).report([0, 1, 2])


def test_chunks_say_what_they_are():
    assert (
        repr(Chunks.from_sizes([1_500, 500]))
        == "<Chunks: 2,000 points in 2 chunks of 500 to 1,500>"
    )
    by_label = Chunks.from_labels([0, 1, 0, 1])
    assert repr(by_label) == "<Chunks: 4 points in 2 chunks of 2, in an order of their own>"


# Arrays in chunks


@settings(max_examples=30)
@given(partitions())
def test_array_chunks_hold_the_points_of_their_chunk(partition):
    chunks, n = partition
    x, y = np.arange(2 * n).reshape(2, n), np.arange(n) * 10
    data = ArrayChunks(chunks, (x, y))
    assert len(data) == len(chunks)
    for i, held in enumerate(points(chunks)):
        x_part, y_part = data[i]
        assert x_part.tolist() == x[:, held].tolist()
        assert y_part.tolist() == y[held].tolist()


def test_consecutive_chunks_are_views_not_copies():
    y = np.arange(10)
    assert np.shares_memory(ArrayChunks(Chunks.of_size(10, 3), (y,))[1][0], y)


def test_array_chunks_need_arrays_of_as_many_points():
    with pytest.raises(ValueError, match="3 points"):
        ArrayChunks(Chunks.from_sizes([3]), (np.arange(5),))
