"""Chunks that are read hold every point once, and sum to what those in memory do."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.formats.aps_u import write_aps_u
from homodyne_fit.data.loading import load
from homodyne_fit.data.storage.stored_matrices import RawMatrix, StoredMatrices
from homodyne_fit.fitting.fit import FitSettings, fit
from homodyne_fit.fitting.options import AntiDegeneracy, MultiStart, SearchOptions
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.kernel.stored_chunks import StoredChunk, chunks_of
from homodyne_fit.kernel.tiles import TILE, TileChunk, probe_chunk
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.model.rates import LAMINAR_FLOW
from homodyne_fit.model.scaling import scaling_map
from homodyne_fit.report.views import angle_view
from nlsq_stratified import reduce


def stored(path, c2, masked=()):
    """Data on the disk, whose lower half is not to be used."""
    k, n, _ = c2.shape
    spoiled = np.where(np.tri(n, k=-1, dtype=bool), 1e30, c2).astype(c2.dtype)
    spoiled.tofile(path)
    places = tuple(RawMatrix(path, i * n * n * c2.itemsize, n, c2.dtype) for i in range(k))
    matrices = StoredMatrices(places, 0, np.isin(np.arange(n), masked))
    return TwoTimeData(matrices, np.arange(k), np.ones(k), 1.0, "labels")


def labelled(n, k):
    """Matrices whose every value names its place."""
    i, j = np.indices((n, n))
    return np.stack([1e6 * a + 1e3 * np.minimum(i, j) + np.maximum(i, j) for a in range(k)])


def points(chunks):
    """(angle, t1, t2, value) of every entry that counts, over all chunks."""
    found = []
    for chunk in (chunk.loaded() for chunk in chunks):
        b, a, x, y = np.nonzero(np.isfinite(chunk.values))
        found.append(np.stack([a, chunk.rows[b, x], chunk.cols[b, y], chunk.c2[b, a, x, y]], 1))
    return np.concatenate(found)


@settings(max_examples=40)
@given(
    n=st.integers(3, 6 * TILE + 2),
    k=st.integers(1, 3),
    tiles=st.integers(1, 30),
    masked=st.sets(st.integers(0, 400), max_size=5),
    cpus=st.integers(1, 4),
)
def test_every_point_once_in_its_place(tmp_path_factory, n, k, tiles, masked, cpus):
    masked = [frame for frame in masked if frame < n][: n - 3]
    data = stored(tmp_path_factory.mktemp("c2") / "c2", labelled(n, k), masked)
    memory = 8 * (os.cpu_count() or 1) * tiles * k * TILE**2 * 8
    chunks = chunks_of(data, memory)
    assert len({chunk.room for chunk in chunks}) == 1
    assert {chunk.n_angles for chunk in chunks} == {k}
    assert sum(chunk.n_tiles for chunk in chunks) == -(-n // TILE) * (-(-n // TILE) + 1) // 2
    found = points(chunks)
    left = np.setdiff1d(np.arange(n), masked)
    assert len(found) == k * len(left) * (len(left) - 1) // 2
    assert len(np.unique(found[:, :3], axis=0)) == len(found)
    assert np.all(found[:, 1] < found[:, 2])
    np.testing.assert_array_equal(found[:, 3], 1e6 * found[:, 0] + 1e3 * found[:, 1] + found[:, 2])


def test_what_fits_is_kept_and_the_rest_is_small(tmp_path):
    n, k = 20 * TILE, 2
    data = stored(tmp_path / "c2", labelled(n, k))
    chunks = chunks_of(data, 20_000_000)
    kept = [chunk for chunk in chunks if isinstance(chunk, TileChunk)]
    assert 0 < len(kept) < len(chunks)
    assert chunks[: len(kept)] == kept
    assert 5e6 < sum(chunk.c2.nbytes for chunk in kept) <= 10e6
    for chunk in chunks[len(kept) :]:
        assert isinstance(chunk, StoredChunk)
        assert len(pickle.dumps(chunk)) < 5000
    again = pickle.loads(pickle.dumps(chunks[-1]))
    np.testing.assert_array_equal(again.loaded().values, chunks[-1].loaded().values)
    assert all(isinstance(chunk, TileChunk) for chunk in chunks_of(data, 2**30))


def test_the_first_chunks_are_a_fair_sample(tmp_path):
    n = 30 * TILE
    data = stored(tmp_path / "c2", labelled(n, 1).astype(np.float32))
    chunks = chunks_of(data, 4_000_000)
    assert len(chunks) > 24
    i, j = np.triu_indices(n, 1)
    sample = points(chunks[: len(chunks) // 8])
    # The lags are stratified; of 16 runs drawn at random, 0.11 is a standard deviation of a share.
    for values, everything, deviation in (
        (sample[:, 2] - sample[:, 1], j - i, 0.06),
        (sample[:, 1] + sample[:, 2], i + j, 0.12),
    ):
        quantiles = np.quantile(everything, [0.25, 0.5, 0.75])
        shares = [np.mean(values <= quantile) for quantile in quantiles]
        np.testing.assert_allclose(shares, [0.25, 0.5, 0.75], atol=deviation)


@pytest.mark.parametrize("n", [3, TILE, 5 * TILE + 3])
def test_the_probe_is_that_of_matrices_in_memory(tmp_path, n):
    c2 = labelled(n, 2)
    c2[0, 0, 2] = np.nan
    data = stored(tmp_path / "c2", c2)
    expected = probe_chunk(TwoTimeData(c2, data.phi, data.q, 1.0, "memory"), (3, 2))
    found = probe_chunk(data, (3, 2))
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.rows, expected.rows)
    second = probe_chunk(data, (3, 2), np.array([1]))
    np.testing.assert_array_equal(second.values, expected.values[:, 1:])


@pytest.mark.parametrize("threads", [None, 2])
def test_sums_are_those_of_matrices_in_memory(tmp_path, measure, threads):
    m = measure(n=3 * TILE + 7, dt=0.03)
    data = stored(tmp_path / "c2", m.data.c2)
    free = np.full(7, np.nan)
    space = SearchSpace(LAMINAR_FLOW, 1.0, np.full(7, -np.inf), np.full(7, np.inf), free)
    scaling = scaling_map("individual", phi=m.phi, contrast=(0, 1), offset=(0.5, 1.5))
    objective = TwoTimeObjective(
        LAMINAR_FLOW, m.dt, m.n, m.q, m.phi, m.gap, scaling, np.ones(3), np.ones(3), free
    )
    assert np.all(np.isnan(space.fixed))
    chunks = chunks_of(data, 1_000_000)
    assert isinstance(chunks[-1], StoredChunk)
    expected = reduce(objective, m.params, chunks_of(m.data))
    with ThreadPoolExecutor(threads or 1) as executor:
        found = reduce(objective, m.params, chunks, executor if threads else None)
    scale = np.sqrt(np.einsum("kii->ki", expected))
    np.testing.assert_allclose(
        found / (scale[:, :, None] * scale[:, None, :]),
        expected / (scale[:, :, None] * scale[:, None, :]),
        rtol=0,
        atol=1e-13,
    )


def test_a_fit_is_that_of_matrices_in_memory(tmp_path, measure):
    m = measure(n=4 * TILE + 9, dt=0.03)
    write_aps_u(tmp_path / "a.h5", m.data.c2, m.q[:1], m.phi, range(3), m.dt)
    memory = 3 * m.n**2 * 4
    options = {
        "anti_degeneracy": AntiDegeneracy(per_angle_mode="individual"),
        "multi_start": MultiStart(enable=False),
        "tolerance": 1e-7,
    }
    # From elsewhere the two could end in different minima, since their samples differ.
    start = dict(zip(LAMINAR_FLOW.parameters, m.params.tolist(), strict=True))
    small_memory = SearchOptions(constant_parts="free", memory=memory // 4, **options)
    data = load(tmp_path / "a.h5", memory=memory, scratch=tmp_path)
    assert isinstance(chunks_of(data, memory // 4)[-1], StoredChunk)
    in_memory = SearchOptions(constant_parts="free", **options)
    found = fit(data, FitSettings(gap=m.gap, initial=start, search=small_memory))
    expected = fit(load(tmp_path / "a.h5"), FitSettings(gap=m.gap, initial=start, search=in_memory))
    view, known = (angle_view(each, found, 1) for each in (data, load(tmp_path / "a.h5")))
    np.testing.assert_array_equal(view.data, known.data)
    np.testing.assert_array_equal(view.residual, known.residual)
    assert found.success
    assert found.n_points == expected.n_points
    assert found.cost == pytest.approx(expected.cost, rel=1e-10)
    assert found.noise == pytest.approx(expected.noise, rel=1e-10)
    for name, estimate in expected.parameters.items():
        assert abs(found.parameters[name].value - estimate.value) < 1e-4 * estimate.stderr
        assert found.parameters[name].stderr == pytest.approx(estimate.stderr, rel=1e-4)
