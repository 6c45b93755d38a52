"""Whatever is wrong with a file is one `InputError` that says where, what and what to do."""

import os
import zipfile
from contextlib import suppress
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

N = 6
LAG = np.abs(np.subtract.outer(np.arange(N), np.arange(N)))
C2 = np.stack([1 + np.exp(-LAG / (k + 1)) for k in range(4)])
GRID = ([0.004, 0.006], [0.0, 90.0], [0, 1, 2, 3], 0.1)

U_MATRICES = "/xpcs/twotime/correlation_map"
U_MAP = "/xpcs/qmap/"
OLD_MATRICES = "/exchange/C2T_all"


def aps_u(path):
    write_aps_u(path, C2, *GRID)


def aps_old(path):
    write_aps_old(path, C2, *GRID)


def replaced(name, value):
    """Return an edit that puts a value, or with None nothing, in place of a dataset."""

    def edit(file):
        if name in file:
            del file[name]
        if value is not None:
            file[name] = value

    return edit


def moved(old, new):
    return lambda file: file.move(old, new)


def with_units(name, unit):
    return lambda file: file[name].attrs.__setitem__("units", unit)


# Files that are not what they should be. Each entry: how to make one, and what must be said.


def truncated_hdf5(path):
    aps_u(path)
    path.write_bytes(path.read_bytes()[:-500])


def truncated_npz(path):
    npz(c2=C2)(path)
    path.write_bytes(path.read_bytes()[:-50])


def truncated_npy(path):
    with path.open("wb") as stream:
        np.save(stream, C2)
    path.write_bytes(path.read_bytes()[:-50])


def other_hdf5(path):
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = np.ones(3)
        file["xpcs/mask/map"] = np.ones(3)


def npz(**arrays):
    def write(path):
        with path.open("wb") as stream:
            np.savez(stream, **arrays)

    return write


def other_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "no arrays")


FILES = {
    "text": (
        lambda path: path.write_text("t1 t2 c2\n0 0 1.2\n"),
        r"neither an HDF5 nor a NumPy file: it starts with b't1 t2 c2.*expected one file",
    ),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty; expected"),
    "folder": (lambda path: path.mkdir(), "is a folder; expected"),
    "no regular file": (os.mkfifo, "is not a regular file; expected"),
    "cut HDF5": (truncated_hdf5, r"HDF5 cannot read it \(.*truncated.*\); is it complete\?"),
    "cut npz": (
        truncated_npz,
        r"NumPy cannot read it \(File is not a zip file\); is it complete\?",
    ),
    "cut npy": (truncated_npy, r"NumPy cannot read it \(.*\); is it complete\?"),
    "HDF5 of something else": (
        other_hdf5,
        r"known layouts \(APS-U: .*correlation_map; APS old: .*C2T_all; "
        r"NXxpcs: .*two_time_corr_func; pyCHX: .*g12b, q last\); "
        r"it holds /entry/data, /xpcs/mask$",
    ),
    "HDF5 of nothing": (lambda path: h5py.File(path, "w").close(), "it holds nothing"),
    "two correlations": (npz(a=C2, b=C2), r"it holds a \(4, 6, 6\) float64, b \(4, 6, 6\) float64"),
    "no correlation": (npz(q=0.004, dt=0.1), r"it holds q \(\) float64, dt \(\) float64"),
    "age and lag": (npz(g12b=C2[:, :, :5]), r"it holds g12b \(4, 6, 5\)"),
    "vector": (lambda path: write_array_as(path, np.ones(9)), r"plain array: .* holds \(9,\)"),
    "complex": (
        lambda path: write_array_as(path, C2 * 1j),
        r"plain array: .* holds \(4, 6, 6\) complex128",
    ),
    "no matrix": (lambda path: write_array_as(path, np.ones((0, 6, 6))), r"\(0, 6, 6\)"),
    "records": (
        lambda path: write_array_as(path, np.zeros(3, dtype=[("é", "f8")])),
        r"holds \(3,\) \[",
    ),
    "zip of something else": (other_zip, "it holds nothing"),
    "angles that do not fit": (npz(c2=C2, phi=[0, 1]), r"phi has shape \(2,\) .* 4 real number"),
    "q that does not fit": (npz(c2=C2, q=[1, 2]), r"q has shape \(2,\) .* 1 or 4 real number"),
    "dt that is text": (npz(c2=C2, dt="1 s"), r"dt has shape \(\) and type <U3; 1 real number"),
}


def write_array_as(path, array):
    with path.open("wb") as stream:
        np.save(stream, array)


@pytest.mark.parametrize("kind", FILES)
def test_files_that_are_not_what_they_should_be(tmp_path, kind):
    write, message = FILES[kind]
    path = tmp_path / "run 7.dat"
    write(path)
    with pytest.raises(InputError, match=message) as raised:
        load(path)
    assert str(path) in str(raised.value)


def test_missing_file_names_its_neighbour(tmp_path):
    aps_u(tmp_path / "sample_A12.h5")
    with pytest.raises(InputError, match=r"no such file \(did you mean 'sample_A12\.h5'\?\)"):
        load(tmp_path / "sample_A21.h5")
    with pytest.raises(InputError, match=r"zzz: there is no such file$"):
        load(tmp_path / "zzz")


def test_missing_folder(tmp_path):
    with pytest.raises(InputError, match=r"there is no folder .*none$"):
        load(tmp_path / "none" / "a.h5")


def test_file_without_permission(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    aps_u(path)

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"a\.h5: the file cannot be read \(Permission denied\)"):
        load(path)


# HDF5 files with something wrong in them.

EDITS = {
    # APS-U
    "U labels missing": (
        aps_u,
        replaced("/xpcs/twotime/processed_bins", None),
        r"/xpcs/twotime/processed_bins is missing",
    ),
    "U labels are a group": (
        aps_u,
        lambda file: (
            replaced("/xpcs/twotime/processed_bins", None)(file),
            file.create_group("/xpcs/twotime/processed_bins"),
        ),
        r"/xpcs/twotime/processed_bins is not a dataset",
    ),
    "U label 0": (
        aps_u,
        replaced("/xpcs/twotime/processed_bins", [0, 1, 2, 3]),
        r"processed_bins goes from 0 to 3, but .*mapping has the labels 1 to 4",
    ),
    "U label too high": (
        aps_u,
        replaced("/xpcs/twotime/processed_bins", [1, 2, 3, 5]),
        r"processed_bins goes from 1 to 5, but .*mapping has the labels 1 to 4",
    ),
    "U labels with fractions": (
        aps_u,
        replaced("/xpcs/twotime/processed_bins", [1, 2.5, 3, 4]),
        r"processed_bins must hold whole numbers",
    ),
    "U labels are text": (
        aps_u,
        replaced("/xpcs/twotime/processed_bins", [b"a", b"b"]),
        r"processed_bins must hold numbers, not object",
    ),
    "U bin too high": (
        aps_u,
        replaced(U_MAP + "dynamic_index_mapping", [1, 2, 3, 4]),
        r"mapping goes from 1 to 4, but the grid of .*num_pts has the bins 0 to 3",
    ),
    "U grid and lists": (
        aps_u,
        replaced(U_MAP + "dynamic_num_pts", [2, 3]),
        r"dynamic_num_pts = \[2, 3\], but there are 2 q and 2 φ values",
    ),
    "U other axes": (
        aps_u,
        replaced(U_MAP + "map_names", [b"x", b"y"]),
        r"the bins are over x, y, not over q, phi",
    ),
    "U nanometres": (
        aps_u,
        replaced(U_MAP + "map_units", ["nm⁻¹", "degree"]),
        r"map_units says that q is in nm⁻¹, but Å⁻¹ is needed: divide q by 10 in the file "
        r"\(q = 0\.004, 0\.006 nm⁻¹ is 0\.0004, 0\.0006 Å⁻¹\)",
    ),
    "U nanometres, as an attribute": (
        aps_u,
        with_units(U_MAP + "dynamic_v_list_dim0", "1/nm"),
        r"dynamic_v_list_dim0 says that q is in nm⁻¹",
    ),
    "U metres": (
        aps_u,
        replaced(U_MAP + "map_units", [b"1/m", b"degree"]),
        r"map_units says that q is in '1/m', but Å⁻¹ is needed",
    ),
    "U radians": (
        aps_u,
        replaced(U_MAP + "map_units", [b"1/A", b"rad"]),
        r"map_units says that φ is in 'rad', but degrees are needed",
    ),
    "U matrix missing": (
        aps_u,
        replaced(U_MATRICES + "/c2_00002", None),
        r"names 4 matrices, which must be numbered 1 to 4, but .* has the numbers 1, 3, 4",
    ),
    "U counted from 0": (
        aps_u,
        moved(U_MATRICES + "/c2_00004", U_MATRICES + "/c2_00000"),
        r"has the numbers 0, 1, 2, 3",
    ),
    "U number twice": (
        aps_u,
        moved(U_MATRICES + "/c2_00004", U_MATRICES + "/c2_3"),
        r"the name /xpcs/twotime/correlation_map/c2_3 repeats a number",
    ),
    "U no number": (
        aps_u,
        moved(U_MATRICES + "/c2_00004", U_MATRICES + "/mean"),
        r"the name /xpcs/twotime/correlation_map/mean ends with no number",
    ),
    "U no matrices": (
        aps_u,
        lambda file: file[U_MATRICES].clear(),
        r"correlation_map holds no matrix",
    ),
    "U matrix not square": (
        aps_u,
        replaced(U_MATRICES + "/c2_00001", np.ones((6, 5))),
        r"c2_00001 has shape \(6, 5\); a square matrix is needed",
    ),
    "U matrix of another size": (
        aps_u,
        replaced(U_MATRICES + "/c2_00002", np.ones((7, 7))),
        r"c2_00002 has shape \(7, 7\), but .*c2_00001 has \(6, 6\)",
    ),
    "U matrix is a group": (
        aps_u,
        lambda file: (
            replaced(U_MATRICES + "/c2_00002", None)(file),
            file.create_group(U_MATRICES + "/c2_00002"),
        ),
        r"c2_00002 is not a dataset",
    ),
    "U link to nowhere": (
        aps_u,
        replaced(U_MATRICES + "/c2_00002", h5py.ExternalLink("none.h5", "/c2")),
        r"c2_00002 is a link to /c2 of none\.h5, but there is no such file",
    ),
    "U complex": (
        aps_u,
        replaced(U_MATRICES + "/c2_00002", C2[0] * 1j),
        r"c2_00002 holds complex128; a correlation is a real number",
    ),
    "U nothing but zeros": (
        aps_u,
        replaced(U_MATRICES + "/c2_00002", np.eye(6)),
        r"c2_00002 has no correlation at t1 ≠ t2",
    ),
    "U nothing but NaN": (
        aps_u,
        replaced(U_MATRICES + "/c2_00002", np.full((6, 6), np.nan)),
        r"c2_00002 has no correlation at t1 ≠ t2",
    ),
    "U not symmetric": (
        aps_u,
        replaced(U_MATRICES + "/c2_00002", C2[1] + 0.2 * (LAG == 2) * np.tri(6)),
        r"c2_00002 holds both halves but is not symmetric: 22\.2 % .*, "
        r"c2\[\d, \d\] = 1\.\d+ but c2\[\d, \d\] = 1\.\d+",
    ),
    "U missing in one half": (
        aps_u,
        replaced(U_MATRICES + "/c2_00002", np.where(np.eye(6, k=2) == 1, np.nan, C2[1])),
        r"c2_00002 holds both halves but is not symmetric: .* = nan",
    ),
    "U no time": (
        aps_u,
        replaced("/entry/instrument/detector_1/frame_time", None),
        r"^dt: .*does not give the time between frames "
        r"\(/entry/instrument/detector_1/frame_time is missing\); set it, in seconds$",
    ),
    "U time 0": (
        aps_u,
        replaced("/entry/instrument/detector_1/frame_time", 0.0),
        r"^dt: .*frame_time is \[0\.0\], not one positive number\); set it",
    ),
    "U times": (
        aps_u,
        replaced("/entry/instrument/detector_1/frame_time", [0.1, 0.1]),
        r"frame_time is \[0\.1, 0\.1\], not one positive number",
    ),
    "U milliseconds": (
        aps_u,
        with_units("/entry/instrument/detector_1/frame_time", "ms"),
        r"^dt: .*frame_time is in 'ms', not in seconds\); set it",
    ),
    # APS old
    "old labels missing": (
        aps_old,
        replaced("/xpcs/qphi_bin_to_process", None),
        r"/xpcs/qphi_bin_to_process is missing",
    ),
    "old lists differ": (
        aps_old,
        replaced("/xpcs/dphilist", [[0.0, 90.0]]),
        r"/xpcs/dqlist has 4 bins, but /xpcs/dphilist 2",
    ),
    "old label too high": (
        aps_old,
        replaced("/xpcs/qphi_bin_to_process", [1, 2, 3, 9]),
        r"qphi_bin_to_process goes from 1 to 9, but /xpcs/dqlist has the labels 1 to 4",
    ),
    "old numbers and labels": (
        aps_old,
        replaced("/xpcs/qphi_bin_to_process", [1, 2, 3]),
        r"numbers 1, 2, 3, 4, which neither count the 3 bins .* nor name bins among 1, 2, 3$",
    ),
    "old nanometres": (
        aps_old,
        with_units("/xpcs/dqlist", np.bytes_("nm^-1")),
        r"/xpcs/dqlist says that q is in nm⁻¹",
    ),
    "old not symmetric": (
        aps_old,
        replaced(OLD_MATRICES + "/g2_00001", C2[1] + np.tri(6, k=-1)),
        r"g2_00001 holds both halves but is not symmetric",
    ),
    "old no time": (
        aps_old,
        replaced("/measurement/instrument/detector/exposure_period", None),
        r"^dt: .*\(/measurement/instrument/detector/exposure_period is missing\); set it, in "
        "seconds$",
    ),
}


@pytest.mark.parametrize("kind", EDITS)
def test_hdf5_with_something_wrong(tmp_path, kind):
    write, edit, message = EDITS[kind]
    path = tmp_path / "a.h5"
    write(path)
    assert load(path, q=0.004).n_angles == 2
    with h5py.File(path, "r+") as file:
        edit(file)
    with pytest.raises(InputError, match=message) as raised:
        load(path, q=0.004)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_bad_matrix_matters_only_if_it_is_selected(tmp_path):
    path = tmp_path / "a.h5"
    aps_u(path)
    with h5py.File(path, "r+") as file:
        replaced(U_MATRICES + "/c2_00002", np.ones((7, 7)))(file)
    assert load(path, q=0.006).n_angles == 2
    assert load(path, q=0.004, phi_ranges=[(-10, 10)]).n_angles == 1


def test_a_time_that_the_file_does_not_give_can_be_given(tmp_path):
    path = tmp_path / "a.h5"
    aps_u(path)
    with h5py.File(path, "r+") as file:
        replaced("/entry/instrument/detector_1/frame_time", None)(file)
    assert open_two_time(path).dt is None
    assert load(path, q=0.004, dt=0.7).dt == 0.7


def test_an_unreadable_chunk_is_an_input_error(tmp_path):
    path = tmp_path / "a.h5"
    aps_u(path)
    with h5py.File(path, "r") as file:
        chunk = file[U_MATRICES + "/c2_00001"].id.get_chunk_info(0)
    with path.open("r+b") as stream:
        stream.seek(chunk.byte_offset)
        stream.write(b"\xff" * chunk.size)
    with pytest.raises(InputError, match=r"a\.h5: HDF5 cannot read it"):
        load(path, q=0.004)


# Damage at random: a result or an `InputError`, nothing else. (HDF5 is spared: what its library
# does to the process on some damage is not ours to test.)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_random_damage(tmp_path, suffix):
    rng = np.random.default_rng(12)
    path = tmp_path / f"a{suffix}"
    known = {"phi": np.arange(4), "dt": 0.1}
    write_array(path, C2, **(known if suffix == ".npz" else {}))
    wanted = {"q": 0.004} | (known if suffix == ".npy" else {})
    intact = path.read_bytes()
    assert load(path, **wanted).n_frames == N
    survived = 0
    for _ in range(300):
        damaged = bytearray(intact)
        for position in rng.integers(0, len(damaged), 3):
            damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        with suppress(InputError):
            load(path, **wanted)
            survived += 1
    assert survived < 290
