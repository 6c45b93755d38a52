"""The formats: which angle, q and time each matrix gets, and which half of it is stored."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from homodyne_fit.data.formats import open_two_time
from homodyne_fit.data.formats.aps_old import write_aps_old
from homodyne_fit.data.formats.aps_u import write_aps_u
from homodyne_fit.data.formats.plain_array import write_array
from homodyne_fit.data.loading import load
from homodyne_fit.errors import InputError

DATA = Path(__file__).parents[3] / "shared" / "data"
N = 5


def marked(count, n=N):
    """Symmetric matrices that can be told apart: the k-th has the values 2 + k and up."""
    half = np.triu(np.random.default_rng(3).uniform(0, 0.5, (count, n, n)))
    full = half + np.triu(half, 1).swapaxes(1, 2)
    return (full + 2 + np.arange(count)[:, None, None]).astype(np.float32)


def put(group, entries):
    for name, value in entries.items():
        group[name] = value


def write_small_aps_u(path, c2, **changes):
    """Write 2 q × 3 φ of which the bins 1 and 4 have no pixels, and 0 and 3 were not processed."""
    entries = {
        "/xpcs/qmap/dynamic_v_list_dim0": np.array([0.004, 0.006]),
        "/xpcs/qmap/dynamic_v_list_dim1": np.array([0.0, 40.0, 80.0]),
        "/xpcs/qmap/dynamic_num_pts": np.array([2, 3]),
        "/xpcs/qmap/dynamic_index_mapping": np.array([0, 2, 3, 5]),
        "/xpcs/twotime/processed_bins": np.array([2, 4]),
        "/entry/instrument/detector_1/frame_time": 0.01,
        "/xpcs/twotime/config/stride_frame": 3,
        "/xpcs/twotime/config/avg_frame": 2,
        **{f"/xpcs/twotime/correlation_map/c2_{k + 1:05d}": np.triu(m) for k, m in enumerate(c2)},
        **changes,
    }
    with h5py.File(path, "w") as file:
        put(file, {name: value for name, value in entries.items() if value is not None})


def write_small_aps_old(path, c2, numbers, labels, *, name="g2_{}", **changes):
    entries = {
        "/xpcs/dqlist": np.array([[0.004, 0.004, 0.004, 0.006, 0.006, 0.006]]),
        "/xpcs/dphilist": np.array([[0.0, 40.0, 80.0, 1.0, 41.0, 81.0]]),
        "/xpcs/qphi_bin_to_process": labels,
        "/measurement/instrument/detector/exposure_period": np.array([[0.01]]),
        "/xpcs/stride_frames": np.array([[3]]),
        "/xpcs/avg_frames": np.array([[2]]),
        **{
            f"/exchange/C2T_all/{name.format(number)}": np.triu(m)
            for number, m in zip(numbers, c2, strict=True)
        },
        **changes,
    }
    with h5py.File(path, "w") as file:
        put(file, {name: value for name, value in entries.items() if value is not None})


# APS-U


def test_aps_u_bins_without_pixels_do_not_shift_the_angles(tmp_path):
    write_small_aps_u(tmp_path / "a.h5", marked(2))

    file = open_two_time(tmp_path / "a.h5")

    assert file.format == "APS-U"
    assert file.q is not None
    assert file.phi is not None
    assert file.q.tolist() == [0.004, 0.006]  # the labels 2 and 4 are the natural bins 2 and 5
    assert file.phi.tolist() == [80.0, 80.0]


def test_aps_u_matrices_are_a_running_index_into_the_labels(tmp_path):
    c2 = marked(3)
    labels = {"/xpcs/twotime/processed_bins": np.array([4, 2, 1])}
    write_small_aps_u(tmp_path / "a.h5", c2, **labels)

    data = load(tmp_path / "a.h5", q=0.004)

    assert data.phi.tolist() == [80.0, 0.0]
    np.testing.assert_array_equal(data.c2, c2[1:])


def test_aps_u_frame_time_counts_stride_and_average(tmp_path):
    write_small_aps_u(tmp_path / "a.h5", marked(2))
    assert open_two_time(tmp_path / "a.h5").dt == pytest.approx(0.06, rel=1e-12)


def test_aps_u_mapping_is_not_guessed(tmp_path):
    write_small_aps_u(tmp_path / "a.h5", marked(2), **{"/xpcs/qmap/dynamic_index_mapping": None})
    with pytest.raises(InputError, match=r"a\.h5: /xpcs/qmap/dynamic_index_mapping is missing"):
        open_two_time(tmp_path / "a.h5")


@pytest.mark.parametrize("units", [[b"1/A", b"degree"], ["Å⁻¹", "deg"], ["A^-1", ""], ["", ""]])
def test_aps_u_units_that_are_right(tmp_path, units):
    write_small_aps_u(tmp_path / "a.h5", marked(2), **{"/xpcs/qmap/map_units": units})
    assert open_two_time(tmp_path / "a.h5").n_matrices == 2


@pytest.mark.skipif(not DATA.is_dir(), reason="no sample data beside the repository")
def test_couette_sample():
    path = DATA / "couette_speckle.h5"

    file = open_two_time(path)
    data = load(path, q=0.0054)

    assert (file.format, file.n_matrices, file.n_frames, file.dt) == ("APS-U", 22, 300, 0.1)
    assert data.phi.tolist() == [0, 30, 90, 120, 150, 180, 210, 240, 270, 300, 330]
    assert load(path, q=0.004).phi.tolist() == [0, 30, 60, *range(120, 331, 30)]
    assert data.q.tolist() == [0.0054] * 11
    assert data.c2.dtype == np.float32
    with h5py.File(path) as stored:
        upper = stored["/xpcs/twotime/correlation_map/c2_00014"][()]
    np.testing.assert_array_equal(np.triu(data.c2[2]), upper)
    # Flow decorrelates along φ = 0 and not across it, which only the right angles show.
    lag = np.arange(100)
    late = data.c2[:, lag, lag + 150].mean(axis=1)
    assert late[data.phi == 90] > late[data.phi == 0]


@pytest.mark.skipif(not DATA.is_dir(), reason="no sample data beside the repository")
def test_measured_sample():
    data = load(DATA / "bnl_c2_350.npy", q=0.0054, dt=1.0)
    assert (data.n_angles, data.n_frames, data.c2.dtype) == (1, 350, np.float64)
    np.testing.assert_allclose(data.c2[0], np.load(DATA / "bnl_c2_350.npy"), rtol=1e-14)


# APS old


@pytest.mark.parametrize("shape", [(-1,), (-1, 1), (1, -1)])
def test_aps_old_labels_lead_into_the_lists(tmp_path, shape):
    c2 = marked(3)
    write_small_aps_old(tmp_path / "a.h5", c2, [1, 2, 3], np.array([2, 4, 3]).reshape(shape))

    file = open_two_time(tmp_path / "a.h5")

    assert file.format == "APS old"
    assert file.q is not None
    assert file.phi is not None
    assert file.q.tolist() == [0.004, 0.006, 0.004]
    assert file.phi.tolist() == [40.0, 1.0, 80.0]
    np.testing.assert_array_equal(file.read(1), c2[1])


@pytest.mark.parametrize("name", ["g2_{}", "g2_{:05d}", "{}"])
def test_aps_old_matrices_are_in_numerical_order(tmp_path, name):
    c2 = marked(12)
    lists = {
        "/xpcs/dqlist": np.full((1, 12), 0.004),
        "/xpcs/dphilist": 10.0 * np.arange(12)[None],
    }
    write_small_aps_old(tmp_path / "a.h5", c2, range(1, 13), np.arange(1, 13), name=name, **lists)

    data = load(tmp_path / "a.h5")

    np.testing.assert_array_equal(data.c2, c2)
    assert data.phi.tolist() == [10.0 * k for k in range(12)]


def test_aps_old_numbers_may_be_the_labels(tmp_path):
    c2 = marked(3)
    write_small_aps_old(tmp_path / "a.h5", c2, [3, 4, 6], np.array([1, 3, 4, 6]))

    file = open_two_time(tmp_path / "a.h5")

    assert file.phi is not None
    assert file.phi.tolist() == [80.0, 1.0, 81.0]
    np.testing.assert_array_equal(file.read(2), c2[2])


def test_aps_old_frame_time_counts_stride_and_average(tmp_path):
    write_small_aps_old(tmp_path / "a.h5", marked(1), [1], np.array([1]))
    assert open_two_time(tmp_path / "a.h5").dt == pytest.approx(0.06, rel=1e-12)


def test_aps_old_bins_of_one_ring_keep_their_own_q(tmp_path):
    q = np.array([[0.00401, 0.004, 0.00399, 0.006, 0.00601, 0.00599]])
    write_small_aps_old(
        tmp_path / "a.h5", marked(6), range(1, 7), np.arange(1, 7), **{"/xpcs/dqlist": q}
    )

    data = load(tmp_path / "a.h5", q=0.0061)

    assert data.q.tolist() == [0.006, 0.00601, 0.00599]
    assert data.phi.tolist() == [1.0, 41.0, 81.0]


# Plain arrays


def test_single_plain_matrix(tmp_path):
    write_array(tmp_path / "a.npy", marked(1)[0])

    data = load(tmp_path / "a.npy", q=0.005, dt=0.5)

    assert (data.q.tolist(), data.phi.tolist(), data.dt) == ([0.005], [0.0], 0.5)
    np.testing.assert_array_equal(data.c2, marked(1))


def test_plain_matrices_need_their_angles(tmp_path):
    write_array(tmp_path / "a.npy", marked(3))
    data = load(tmp_path / "a.npy", q=0.005, dt=0.5, phi=[10, 20, 30], phi_ranges=[(15, 35)])
    assert data.phi.tolist() == [20.0, 30.0]
    np.testing.assert_array_equal(data.c2, marked(3)[1:])


@pytest.mark.parametrize("q", [0.005, [0.005] * 3, [0.005, 0.00501, 0.005]])
def test_npz_that_says_everything(tmp_path, q):
    write_array(tmp_path / "a.npz", marked(3), q=q, phi=[10, 20, 30], dt=0.5)

    data = load(tmp_path / "a.npz")

    assert data.q.tolist() == np.broadcast_to(q, 3).tolist()
    assert (data.phi.tolist(), data.dt) == ([10.0, 20.0, 30.0], 0.5)
    np.testing.assert_array_equal(data.c2, marked(3))


def test_any_name_will_do_for_the_array_and_the_file(tmp_path):
    np.savez(tmp_path / "a", correlation=marked(2), phi=[0, 90])
    (tmp_path / "a.npz").rename(tmp_path / "data.h5")
    assert load(tmp_path / "data.h5", q=0.005, dt=1).phi.tolist() == [0.0, 90.0]
    write_small_aps_u(tmp_path / "a.npy", marked(2))
    assert open_two_time(tmp_path / "a.npy").format == "APS-U"


def test_hdf5_behind_a_user_block(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as file:
        write_small_aps_u(tmp_path / "b.h5", marked(2))
        with h5py.File(tmp_path / "b.h5") as source:
            for name in source:
                source.copy(name, file)
    assert open_two_time(tmp_path / "a.h5").n_matrices == 2


# Halves and types

HALVES = {
    "upper": np.triu,
    "lower": np.tril,
    "upper without diagonal": lambda c2: np.triu(c2, 1),
    "full": lambda c2: c2,
    "upper and NaN": lambda c2: np.where(np.tri(N, k=-1, dtype=bool), np.nan, c2),
    "full, rounded differently": lambda c2: np.triu(c2) + np.tril(c2, -1) * np.float32(1 + 3e-7),
}


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("frames", [(1, -1), (2, 4)])
def test_every_half_gives_the_same_matrix(tmp_path, half, frames):
    expected = marked(1)
    expected[0, 1, 3] = expected[0, 3, 1] = np.nan
    write_array(tmp_path / "a.npy", HALVES[half](expected[0]))

    c2 = load(tmp_path / "a.npy", q=0.005, dt=1.0, frames=frames).c2

    window = slice(frames[0] - 1, None if frames[1] == -1 else frames[1])
    upper = np.triu_indices(c2.shape[1], 1)
    np.testing.assert_array_equal(c2[0][upper], expected[0, window, window][upper])
    np.testing.assert_array_equal(c2, c2.swapaxes(1, 2))


@pytest.mark.parametrize("half", ["upper", "lower", "full"])
def test_every_half_in_hdf5(tmp_path, half):
    c2 = marked(1)
    name = "/xpcs/twotime/correlation_map/c2_00001"
    changes = {name: HALVES[half](c2[0]), "/xpcs/twotime/processed_bins": np.array([1])}
    write_small_aps_u(tmp_path / "a.h5", [], **changes)
    np.testing.assert_array_equal(load(tmp_path / "a.h5").c2, c2)


@pytest.mark.parametrize(
    ("stored", "loaded"),
    [("f4", "f4"), (">f4", "f4"), ("f8", "f8"), ("f2", "f8"), ("i4", "f8"), ("u1", "f8")],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_only_single_precision_stays_single(tmp_path, stored, loaded, order):
    c2 = np.round(marked(2)).astype(stored, order=order)
    write_array(tmp_path / "a.npy", c2)
    data = load(tmp_path / "a.npy", q=0.005, dt=1.0, phi=[0, 1])
    assert data.c2.dtype == np.dtype(loaded)
    np.testing.assert_array_equal(data.c2, c2)


@pytest.mark.parametrize("double", [0, 1])
def test_one_double_matrix_makes_all_double(tmp_path, double):
    c2 = marked(2).astype(np.float64) + 1e-12
    path = tmp_path / "a.h5"
    labels = {"/xpcs/twotime/processed_bins": np.array([1, 2])}
    write_small_aps_u(
        path,
        [matrix if k == double else matrix.astype(np.float32) for k, matrix in enumerate(c2)],
        **labels,
    )
    data = load(path)
    assert data.c2.dtype == np.float64
    np.testing.assert_array_equal(data.c2[double], c2[double])


def test_only_what_is_selected_is_read(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    write_aps_u(path, marked(4), [0.004, 0.006], [0.0, 90.0], [0, 1, 2, 3], 0.1)
    read = []
    getitem = h5py.Dataset.__getitem__

    def spy(dataset, selection, **kwargs):
        result = getitem(dataset, selection, **kwargs)
        if dataset.name.startswith("/xpcs/twotime/correlation_map"):
            read.append((dataset.name[-5:], np.shape(result)))
        return result

    monkeypatch.setattr(h5py.Dataset, "__getitem__", spy)

    open_two_time(path)
    assert read == []
    load(path, q=0.006, phi_ranges=[(80, 100)], frames=(2, 4))
    assert read == [("00004", (3, 3))]


@pytest.mark.parametrize("write", [write_aps_u, write_aps_old])
def test_a_file_description_outlives_the_open_file(tmp_path, write):
    path = tmp_path / "a.h5"
    write(path, marked(1), [0.004], [0.0], [0], 0.1)
    file = open_two_time(path)
    path.rename(tmp_path / "b.h5")
    with pytest.raises(InputError, match=r"a\.h5"):
        file.read(0)
    (tmp_path / "b.h5").rename(path)
    np.testing.assert_array_equal(file.read(0), marked(1)[0])
