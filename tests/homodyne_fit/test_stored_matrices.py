"""Matrices on the disk are what the same file gives in memory, whatever its format."""

import gc
import pickle
import threading

import h5py
import numpy as np
import pytest

from homodyne_fit.data.formats.aps_old import write_aps_old
from homodyne_fit.data.formats.aps_u import write_aps_u
from homodyne_fit.data.formats.homodyne_cache import write_homodyne_cache
from homodyne_fit.data.formats.nxxpcs import write_nxxpcs
from homodyne_fit.data.formats.plain_array import write_array
from homodyne_fit.data.formats.pychx import write_pychx
from homodyne_fit.data.loading import load
from homodyne_fit.data.storage.stored_matrices import BAND, StoredMatrices, block, upper_bands
from homodyne_fit.errors import InputError

K, N, Q, DT = 3, 40, 0.005, 0.1
PHI = [0.0, 45.0, 90.0]
GIVEN = {"q": Q, "phi": PHI, "dt": DT}
IN_PLACE, UNPACKED = "they stay in the file", "unpacked into a scratch file"


def symmetric(n=N, k=K, seed=0):
    half = np.triu(np.random.default_rng(seed).uniform(0.5, 2, (k, n, n)))
    c2 = (half + np.triu(half, 1).swapaxes(1, 2)).astype(np.float32)
    c2[1, 2, 5] = c2[1, 5, 2] = np.nan
    return c2


def memory_for(n, itemsize=4):
    """Enough to read a matrix, and too little to keep all."""
    return 3 * n**2 * itemsize


def rows_in_hdf5(path, half=np.asarray, **options):
    write_aps_old(path, symmetric(), [Q], PHI, range(K), DT)
    with h5py.File(path, "r+") as file:
        group = file["/exchange/C2T_all"]
        for name, matrix in zip(list(group), symmetric(), strict=True):
            del group[name]
            group.create_dataset(name, data=half(matrix), **options)


def nexus(path, c2=None, **how):
    write_nxxpcs(path, symmetric() if c2 is None else c2, [Q] * K, PHI, DT, **how)


# Suffix of the file, its writer, and where the matrices end up.
FILES = {
    "APS-U, lzf": ("h5", lambda p: write_aps_u(p, symmetric(), [Q], PHI, range(K), DT), UNPACKED),
    "APS old, lzf": (
        "h5",
        lambda p: write_aps_old(p, symmetric(), [Q], PHI, range(K), DT),
        UNPACKED,
    ),
    "rows, full": ("h5", rows_in_hdf5, IN_PLACE),
    "rows, upper": ("h5", lambda p: rows_in_hdf5(p, np.triu), IN_PLACE),
    "rows, lower": ("h5", lambda p: rows_in_hdf5(p, np.tril), UNPACKED),
    "rows, float64": ("h5", lambda p: rows_in_hdf5(p, np.float64), IN_PLACE),
    "rows, other bytes": ("h5", lambda p: rows_in_hdf5(p, dtype=">f4"), UNPACKED),
    "gzip in chunks": (
        "h5",
        lambda p: rows_in_hdf5(p, chunks=(7, 11), compression="gzip"),
        UNPACKED,
    ),
    "NXxpcs, q first": ("h5", nexus, None),
    "NXxpcs, q last": ("h5", lambda p: nexus(p, storage_mode="one_array_q_last"), UNPACKED),
    "NXxpcs, upside down": ("h5", lambda p: nexus(p, time_origin_location="lower_left"), UNPACKED),
    "NXxpcs, c2 - 1": ("h5", lambda p: nexus(p, baseline_reference=0), UNPACKED),
    "NXxpcs, lower half": ("h5", lambda p: nexus(p, populated_elements="lower_half"), UNPACKED),
    "pyCHX": ("h5", lambda p: write_pychx(p, symmetric(), [Q] * K, PHI, DT), UNPACKED),
    "homodyne": ("npz", lambda p: write_homodyne_cache(p, symmetric(), Q, PHI, DT), UNPACKED),
    "npz": ("npz", lambda p: write_array(p, symmetric()), UNPACKED),
    "npy": ("npy", lambda p: write_array(p, symmetric()), IN_PLACE),
    "npy, float64": ("npy", lambda p: np.save(p, symmetric().astype(float)), IN_PLACE),
    "npy, by columns": ("npy", lambda p: np.save(p, np.asfortranarray(symmetric())), UNPACKED),
    "npy, whole numbers": (
        "npy",
        lambda p: np.save(p, np.nan_to_num(1000 * symmetric(), nan=5).astype(int)),
        UNPACKED,
    ),
}
TOLD = {"pyCHX": {"dt": DT}, "npz": GIVEN, "npy": GIVEN}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("asked", [{}, {"frames": (4, 33), "mask_frames": [3, 4, 9, 20]}])
def test_every_format_gives_what_it_gives_in_memory(tmp_path, name, asked):
    suffix, write, where = FILES[name]
    path = tmp_path / f"a.{suffix}"
    write(path)
    asked = {**asked, **TOLD.get(name.partition(",")[0], {})}
    expected = load(path, **asked)
    n, itemsize = expected.n_frames, expected.c2.dtype.itemsize
    data = load(path, **asked, memory=memory_for(n, itemsize), scratch=tmp_path)
    stored = data.c2
    assert isinstance(expected.c2, np.ndarray)
    assert isinstance(stored, StoredMatrices)
    assert where is None or where in data.notes[-1]
    assert (stored.shape, stored.dtype, stored.ndim) == (expected.c2.shape, expected.c2.dtype, 3)
    np.testing.assert_array_equal(np.asarray(stored), expected.c2)
    for k, matrix in enumerate(stored):
        np.testing.assert_array_equal(matrix, expected.c2[k])
    np.testing.assert_array_equal(stored[-1], expected.c2[-1])
    rows, columns = slice(2, 9), slice(2, n - 1)
    above = np.triu(np.ones((7, n - 3), bool))
    for k in range(K):
        found, known = (block(c2, k, rows, columns) for c2 in (stored, expected.c2))
        np.testing.assert_array_equal(found[above], known[above])
    some = data.select_angles(np.array([2, 0]))
    np.testing.assert_array_equal(np.asarray(some.c2), expected.c2[[2, 0]])
    assert some.phi.tolist() == [PHI[2], PHI[0]]
    again = pickle.loads(pickle.dumps(stored))
    np.testing.assert_array_equal(np.asarray(again), expected.c2)


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}])
@pytest.mark.parametrize("mask", [[], [3, 4]])
def test_zeros_that_were_not_computed_are_missing_on_the_disk_too(tmp_path, options, mask):
    path = tmp_path / "a.h5"
    rows_in_hdf5(path, np.triu, **options)
    with h5py.File(path, "r+") as file:
        matrix = file["/exchange/C2T_all/g2_00002"]
        matrix[10, :] = matrix[:, 10] = 0  # a frame without counts
    asked = {"q": Q, "mask_frames": mask}
    expected, data = (load(path, **asked, memory=memory) for memory in (None, memory_for(N)))
    assert isinstance(data.c2, StoredMatrices)
    assert UNPACKED in " ".join(data.notes)
    found, known = (np.triu(np.asarray(one.c2), 1) for one in (data, expected))
    np.testing.assert_array_equal(found, known)
    assert np.isnan(found[1, 10, 11:]).all()
    (note,) = [note for note in data.notes if "exactly 0" in note]
    assert note in expected.notes


def test_larger_than_a_band(tmp_path):
    n = BAND + 44
    c2 = symmetric(n)
    np.save(tmp_path / "a.npy", c2)
    data = load(tmp_path / "a.npy", **GIVEN, memory=memory_for(n))
    np.testing.assert_array_equal(np.asarray(data.c2), c2)
    starts = [start for start, _ in upper_bands(data.c2, 0)]
    assert starts == [0, BAND]


def test_a_user_block_moves_the_rows(tmp_path):
    path = tmp_path / "a.h5"
    rows_in_hdf5(tmp_path / "b.h5")
    with (
        h5py.File(tmp_path / "b.h5") as source,
        h5py.File(path, "w", userblock_size=512) as moved,
    ):
        for key in source:
            source.copy(key, moved)
    data = load(path, memory=memory_for(N), scratch=tmp_path)
    assert isinstance(data.c2, StoredMatrices)
    np.testing.assert_array_equal(np.asarray(data.c2), symmetric())


def test_the_memory_decides(tmp_path):
    np.save(tmp_path / "a.npy", symmetric())
    fits = 4 * K * N**2 * 4
    assert isinstance(load(tmp_path / "a.npy", **GIVEN, memory=fits).c2, np.ndarray)
    assert isinstance(load(tmp_path / "a.npy", **GIVEN, memory=fits - 1).c2, StoredMatrices)
    with pytest.raises(InputError, match=r"19\.2 kB are needed to read a matrix of 40 frames, but"):
        load(tmp_path / "a.npy", **GIVEN, memory=19_199)


@pytest.mark.parametrize("pack", [{}, {"compression": "gzip"}])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c2: c2.fill(0), "no correlation"),
        (lambda c2: c2.__setitem__((3, 7), 9), "not symmetric"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, pack, spoil, message):
    rows_in_hdf5(tmp_path / "a.h5", **pack)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        dataset = file["/exchange/C2T_all/g2_00003"]
        matrix = dataset[()]
        spoil(matrix)
        dataset[...] = matrix
    with pytest.raises(InputError, match=rf"g2_00003.*{message}"):
        load(tmp_path / "a.h5", memory=memory_for(N), scratch=tmp_path)
    gc.collect()
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_a_scratch_file_goes_with_what_needs_it(tmp_path):
    write_aps_u(tmp_path / "a.h5", symmetric(), [Q], PHI, range(K), DT)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    data = load(tmp_path / "a.h5", memory=memory_for(N), scratch=scratch)
    (path,) = scratch.iterdir()
    part = data.select_angles(np.array([1]))
    del data
    gc.collect()
    np.testing.assert_array_equal(part.c2[0], symmetric()[1])
    assert path.stat().st_size <= K * N**2 * 4
    del part
    gc.collect()
    assert not path.exists()


def test_a_folder_without_room_or_none_at_all(tmp_path, monkeypatch):
    write_aps_u(tmp_path / "a.h5", symmetric(), [Q], PHI, range(K), DT)
    with pytest.raises(InputError, match=r"nowhere: no scratch file can be made \(No such file"):
        load(tmp_path / "a.h5", memory=memory_for(N), scratch=tmp_path / "nowhere")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 5000}))
    with pytest.raises(InputError, match=r"takes 9\.84 kB, but .* has 5 kB free; name another"):
        load(tmp_path / "a.h5", memory=memory_for(N), scratch=tmp_path)


def test_a_file_that_changes_under_the_fit(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, symmetric())
    data = load(path, **GIVEN, memory=memory_for(N))
    with path.open("r+b") as stream:
        stream.truncate(K * N**2 * 4 // 2)
    with pytest.raises(InputError, match=r"a\.npy: cannot be read \(it is shorter than when"):
        data.c2[K - 1]
    path.unlink()
    with pytest.raises(InputError, match=r"a\.npy: cannot be read \(No such file"):
        data.c2[0]


def test_threads_read_at_once(tmp_path):
    np.save(tmp_path / "a.npy", symmetric())
    data = load(tmp_path / "a.npy", **GIVEN, memory=memory_for(N))
    wrong = []

    def read():
        for k in range(K):
            if not np.array_equal(data.c2[k], symmetric()[k], equal_nan=True):
                wrong.append(k)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
