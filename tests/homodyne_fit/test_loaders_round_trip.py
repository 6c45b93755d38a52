"""Whatever is written in a format is what is read from it."""

import json

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homodyne_fit.data.formats import open_two_time
from homodyne_fit.data.formats.aps_old import write_aps_old
from homodyne_fit.data.formats.aps_u import write_aps_u
from homodyne_fit.data.formats.homodyne_cache import write_homodyne_cache
from homodyne_fit.data.formats.nxxpcs import write_nxxpcs
from homodyne_fit.data.formats.plain_array import write_array
from homodyne_fit.data.formats.pychx import write_pychx
from homodyne_fit.data.loading import load
from homodyne_fit.errors import InputError

HALVES = {"upper": np.triu, "lower": np.tril, "full": np.asarray}


@st.composite
def grids(draw):
    """Return (nq, nφ, bins with pixels, bins of the matrices in any order)."""
    nq, n_phi = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    pixels = draw(st.lists(st.integers(0, nq * n_phi - 1), min_size=1, unique=True))
    bins = draw(st.permutations(pixels))
    return nq, n_phi, sorted(pixels), bins[: draw(st.integers(1, len(bins)))]


def symmetric(seed, count, n):
    half = np.triu(np.random.default_rng(seed).uniform(0.5, 2, (count, n, n)))
    return (half + np.triu(half, 1).swapaxes(1, 2)).astype(np.float32)


def store_halves(path, matrices, half):
    with h5py.File(path, "r+") as file:
        for dataset, matrix in zip(
            sorted(file[matrices].values(), key=lambda found: found.name),
            symmetric(0, 99, 4),
            strict=False,
        ):
            dataset[...] = HALVES[half](matrix)


@pytest.mark.parametrize("format", ["APS-U", "APS old"])
@settings(max_examples=60)
@given(
    grid=grids(),
    half=st.sampled_from(sorted(HALVES)),
    stride=st.integers(1, 4),
    avg=st.integers(1, 4),
)
def test_hdf5_round_trip(tmp_path_factory, format, grid, half, stride, avg):
    nq, n_phi, pixels, bins = grid
    path = tmp_path_factory.mktemp("trip") / "a.h5"
    q, phi = 0.002 * 1.5 ** np.arange(nq), np.linspace(-180, 150, n_phi)
    c2 = symmetric(0, 99, 4)[: len(bins)]
    if format == "APS-U":
        write_aps_u(path, c2, q, phi, bins, 0.3, stride=stride, avg=avg, pixel_bins=pixels)
        store_halves(path, "/xpcs/twotime/correlation_map", half)
    else:
        write_aps_old(path, c2, q, phi, bins, 0.3, stride=stride, avg=avg)
        store_halves(path, "/exchange/C2T_all", half)

    file = open_two_time(path)

    assert (file.format, file.n_matrices, file.n_frames) == (format, len(bins), 4)
    q_index, phi_index = np.divmod(bins, n_phi)
    np.testing.assert_array_equal(file.q, q[q_index])
    np.testing.assert_array_equal(file.phi, phi[phi_index])
    assert file.dt == pytest.approx(0.3, rel=1e-12)
    for wanted in set(q_index):
        data = load(path, q=q[wanted])
        np.testing.assert_array_equal(data.c2, c2[q_index == wanted])
        np.testing.assert_array_equal(data.phi, phi[phi_index[q_index == wanted]])


@settings(max_examples=30)
@given(
    count=st.integers(1, 4),
    half=st.sampled_from(sorted(HALVES)),
    suffix=st.sampled_from([".npy", ".npz"]),
)
def test_plain_round_trip(tmp_path_factory, count, half, suffix):
    path = tmp_path_factory.mktemp("trip") / f"a{suffix}"
    c2, phi = symmetric(1, count, 5), 20.0 * np.arange(count)
    stored = np.stack([HALVES[half](matrix) for matrix in c2])
    if suffix == ".npy":
        write_array(path, stored)
        data = load(path, q=0.004, dt=0.2, phi=phi)
    else:
        write_array(path, stored, q=0.004, phi=phi, dt=0.2)
        data = load(path)
    np.testing.assert_array_equal(data.c2, c2)
    assert (data.q.tolist(), data.phi.tolist(), data.dt) == ([0.004] * count, phi.tolist(), 0.2)


@settings(max_examples=60)
@given(
    bins=st.sets(st.integers(1, 9), min_size=1),
    storage_mode=st.sampled_from(["one_array_q_first", "one_array_q_last", "data_exchange_keys"]),
    baseline_reference=st.sampled_from([0, 1]),
    populated_elements=st.sampled_from(["all", "upper_half", "lower_half"]),
    time_origin_location=st.sampled_from(["upper_left", "lower_left"]),
    frames=st.sampled_from([(1, -1), (2, 4), (3, 5)]),
)
def test_nxxpcs_round_trip(tmp_path_factory, bins, frames, **attributes):
    path = tmp_path_factory.mktemp("trip") / "a.nxs"
    labels = np.array(sorted(bins))
    q, phi = 0.002 * 1.5 ** np.arange(9), np.linspace(-180, 140, 9)
    c2 = symmetric(0, len(labels), 5)
    write_nxxpcs(path, c2, q, phi, 0.3, labels=labels, **attributes)

    file = open_two_time(path)

    assert (file.format, file.n_matrices, file.n_frames, file.dt) == ("NXxpcs", len(labels), 5, 0.3)
    np.testing.assert_array_equal(file.q, q[labels - 1])
    np.testing.assert_array_equal(file.phi, phi[labels - 1])
    data = load(path, q=q[labels[-1] - 1], frames=frames)
    window = slice(frames[0] - 1, None if frames[1] == -1 else frames[1])
    # c2 − 1 as float32 is rounded twice.
    tolerance = 0 if attributes["baseline_reference"] else 2e-7
    np.testing.assert_allclose(data.c2[0], c2[-1, window, window], rtol=tolerance)
    assert data.c2.dtype == np.float32


@pytest.mark.parametrize("count", [1, 3, 12])
@pytest.mark.parametrize("angles", [True, False])
def test_pychx_round_trip(tmp_path, count, angles):
    path = tmp_path / "a.h5"
    c2, q = symmetric(0, count, 5), 0.002 * 1.2 ** np.arange(count)
    phi = np.linspace(-90, 80, count) if angles else None
    write_pychx(path, c2, q, phi, 0.3)
    file = open_two_time(path)
    assert (file.format, file.n_matrices, file.n_frames, file.dt) == ("pyCHX", count, 5, None)
    np.testing.assert_array_equal(file.q, q)
    np.testing.assert_array_equal(file.phi, phi)
    np.testing.assert_array_equal([file.read(k) for k in range(count)], c2)


@pytest.mark.parametrize("q", [0.004, [0.004, 0.00401, 0.00402]])
def test_homodyne_cache_round_trip(tmp_path, q):
    path, c2, phi = tmp_path / "a.npz", symmetric(0, 3, 5), [0.0, 45.0, 90.0]
    write_homodyne_cache(path, c2, q, phi, 0.3)
    assert open_two_time(path).format == "homodyne cache"
    data = load(path, q=0.004)
    np.testing.assert_array_equal(data.c2, c2)
    assert (data.q.tolist(), data.phi.tolist()) == (np.broadcast_to(q, 3).tolist(), phi)
    assert data.dt == pytest.approx(0.3, rel=1e-12)


def test_a_matrix_is_stored_as_its_upper_half(tmp_path):
    c2 = symmetric(2, 2, 5)
    write_aps_u(tmp_path / "u.h5", c2, [0.004], [0, 30, 60], [0, 2], 0.1)
    write_aps_old(tmp_path / "old.h5", c2, [0.004], [0, 30, 60], [0, 2], 0.1)
    for name, matrix in [
        ("u.h5", "/xpcs/twotime/correlation_map/c2_00002"),
        ("old.h5", "/exchange/C2T_all/g2_00002"),
    ]:
        with h5py.File(tmp_path / name) as file:
            assert (file[matrix].dtype, file[matrix].compression) == (np.float32, "lzf")
            np.testing.assert_array_equal(file[matrix][()], np.triu(c2[1]))


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a.npz"
    write_array(path, symmetric(2, 1, 5), q=0.004, dt=0.1)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="allow_pickle"):
        write_array(path, np.array([json]), q=0.004)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("c2", "bins", "message"),
    [
        (np.ones((2, 3, 4)), [0, 1], r"shape \(M, n, n\)"),
        (np.ones((2, 3, 3)), [0, 0], "different bins"),
        (np.ones((2, 3, 3)), [0], "different bins"),
        (np.ones((1, 3, 3)), [4], "from 0 to 3"),
    ],
)
@pytest.mark.parametrize("write", [write_aps_u, write_aps_old])
def test_what_cannot_be_written(tmp_path, write, c2, bins, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "a.h5", c2, [0.004, 0.006], [0, 90], bins, 0.1)
    assert list(tmp_path.iterdir()) == []


def test_a_matrix_needs_pixels(tmp_path):
    with pytest.raises(ValueError, match="without pixels"):
        write_aps_u(tmp_path / "a.h5", np.ones((1, 3, 3)), [0.004], [0, 90], [1], 1, pixel_bins=[0])


@pytest.mark.parametrize("name", ["a.txt", "a", "none/a.npz"])
def test_names_that_cannot_be_written(tmp_path, name):
    with pytest.raises(InputError, match=r"must end with \.npz|there is no folder"):
        write_array(tmp_path / name, np.ones((3, 3)))
    with pytest.raises(InputError, match=r"must end with \.npz|there is no folder"):
        write_homodyne_cache(tmp_path / name, np.ones((1, 3, 3)), 0.004, [0.0], 0.1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"phi": [0.0]}, "2 q need as many φ, not 1"),
        ({"labels": [1]}, "2 matrices need as many different bins"),
        ({"labels": [2, 3]}, "bins must be from 0 to 1"),
    ],
)
def test_what_nxxpcs_cannot_hold(tmp_path, given, message):
    known = {"q": [0.004, 0.006], "phi": [0.0, 90.0], "dt": 0.1}
    with pytest.raises(ValueError, match=message):
        write_nxxpcs(tmp_path / "a.h5", np.ones((2, 3, 3)), **{**known, **given})


def test_npy_holds_the_array_only(tmp_path):
    with pytest.raises(InputError, match=r"must end with \.npz$"):
        write_array(tmp_path / "a.npy", np.ones((3, 3)), q=0.004)
