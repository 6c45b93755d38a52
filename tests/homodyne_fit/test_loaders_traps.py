"""The traps of the formats, each built by hand; a row names the trap and what must come out.

These traps are tested elsewhere, where the rest of their subject is:

=====================================  ==========================================================
empty bins shift the angles            test_loaders: bins_without_pixels_do_not_shift_the_angles
a full matrix doubled                  test_loaders: every_half_gives_the_same_matrix (also in HDF5)
keys unpadded, listed 1, 10, 2         test_loaders: aps_old_matrices_are_in_numerical_order
stride and average forgotten           test_loaders: frame_time_counts_stride_and_average
one q for every angle                  test_loaders: bins_of_one_ring_keep_their_own_q
q far from any bin                     test_loaders_selection: a_q_that_is_not_in_the_file
dt of the configuration                test_loaders_selection: a_time_that_disagrees_with_the_file
an angle filter that matches nothing   test_loaders_selection: a_filter_that_matches_nothing
frames from 0, the last left out       test_loaders_selection: frames_count_from_one
q in nm⁻¹ in APS files                 test_loaders_bad_input: "U nanometres", "old nanometres"
a gap in another unit                  test_config: stator_rotor_gap
=====================================  ==========================================================
"""

import os

import h5py
import numpy as np
import pytest

from homodyne_fit.config import parse_config
from homodyne_fit.data.formats import open_two_time
from homodyne_fit.data.loading import load
from homodyne_fit.data.selection import select
from homodyne_fit.errors import InputError

N, BINS = 5, 12
TWOTIME = "/entry/twotime/two_time_corr_func"
MASKS = "/entry/instrument/masks/"
Q = 0.004 + 0.0001 * np.arange(BINS)
PHI = 15.0 * np.arange(BINS)


def symmetric(count=BINS, n=N):
    """Matrices (count, n, n) without a symmetry besides the one about the diagonal."""
    half = np.triu(np.random.default_rng(8).uniform(0.9, 1.6, (count, n, n)))
    return half + np.triu(half, 1).swapaxes(1, 2)


C2 = symmetric()


def nexus(path, stored=None, q=Q, phi=PHI, edit=None, **attributes):
    """An NXxpcs file by hand; `stored` is what is at the place of the correlation."""
    with h5py.File(path, "w") as file:
        if isinstance(stored, dict):
            for name, matrix in stored.items():
                file[f"{TWOTIME}/{name}"] = matrix
        else:
            file[TWOTIME] = C2 if stored is None else stored
        file[TWOTIME].attrs.update(attributes)
        file[MASKS + "dynamic_q_list"], file[MASKS + "dynamic_phi_list"] = q, phi
        file["/entry/instrument/eiger/frame_time"] = 0.02
        if edit is not None:
            edit(file)


def pychx(path, stored=None, edit=None, bins=None, **metadata):
    """A pyCHX export by hand: whatever is a dictionary there is attributes here."""
    with h5py.File(path, "w") as file:
        file["g12b"] = np.moveaxis(C2, 0, -1) if stored is None else stored
        described = file.create_dataset("qval_dict", (1,), dtype="i")
        for index in range(BINS):
            described.attrs[str(index)] = [Q[index], PHI[index]] if bins is None else bins[index]
        file.create_dataset("md", (1,), dtype="i").attrs.update(metadata)
        if edit is not None:
            edit(file)


def cache(path, **changes):
    arrays = {
        "wavevector_q_list": Q,
        "phi_angles_list": PHI,
        "t1": 0.02 * np.arange(N),
        "t2": 0.02 * np.arange(N),
        "c2_exp": C2,
        **changes,
    }
    with path.open("wb") as stream:
        np.savez(stream, **{name: value for name, value in arrays.items() if value is not None})


# q_r and q_z of each bin, Å⁻¹, for a pyCHX export.
GRAZING = [[0.004 + 0.001 * (k % 4), 0.05 + 0.02 * (k // 4)] for k in range(BINS)]


def halves(part):
    return np.stack([part(matrix) for matrix in C2])


def attribute(name, key, value):
    return lambda file: file[name].attrs.__setitem__(key, value)


def outline_of_nexus(file):
    """What an APS-U file carries of NXxpcs: an outline without results."""
    file["/xpcs/twotime/correlation_map/c2_00001"] = np.triu(C2[0])
    file["/xpcs/twotime/processed_bins"] = [1]
    file["/xpcs/qmap/dynamic_index_mapping"] = [0]
    file["/xpcs/qmap/dynamic_num_pts"] = [1, 1]
    file["/xpcs/qmap/dynamic_v_list_dim0"], file["/xpcs/qmap/dynamic_v_list_dim1"] = [Q[0]], [0.0]


# Trap: how to write the file. What is read must be C2, Q and PHI all the same.
READ_RIGHT = {
    "NXxpcs, q first": lambda path: nexus(path, storage_mode="one_array_q_first"),
    "NXxpcs, q last": lambda path: nexus(
        path, np.moveaxis(C2, 0, -1), storage_mode="one_array_q_last"
    ),
    "NXxpcs, axis of q not stated": lambda path: nexus(path, np.moveaxis(C2, 0, -1)),
    "NXxpcs, keys are listed 1, 10, 2": lambda path: nexus(
        path,
        {f"c2_{label + 1}": matrix for label, matrix in enumerate(C2)},
        storage_mode="data_exchange_keys",
    ),
    "NXxpcs, baseline 0": lambda path: nexus(path, C2 - 1, baseline_reference=0),
    "NXxpcs, baseline 1": lambda path: nexus(path, baseline_reference=1),
    # The half that is not stored is 0, and stays so when 1 is added.
    "NXxpcs, baseline 0 of an upper half": lambda path: nexus(
        path, halves(np.triu) - np.triu(np.ones((N, N))), baseline_reference=0
    ),
    "NXxpcs, lower half": lambda path: nexus(
        path, halves(np.tril), populated_elements="lower_half"
    ),
    "NXxpcs, full though it says half": lambda path: nexus(path, populated_elements="upper_half"),
    "NXxpcs, time from the lower left": lambda path: nexus(
        path, C2[:, ::-1], time_origin_location="lower_left"
    ),
    "NXxpcs, a half with time from the lower left": lambda path: nexus(
        path, halves(np.triu)[:, ::-1], time_origin_location="lower_left"
    ),
    "NXxpcs, attributes as bytes": lambda path: nexus(
        path, storage_mode=np.bytes_("one_array_q_first"), baseline_reference=np.array([1])
    ),
    # The definition of NXxpcs gives φ the unit of q.
    "NXxpcs, φ in 1/Å": lambda path: nexus(
        path, edit=attribute(MASKS + "dynamic_phi_list", "units", "1/Å")
    ),
    "NXxpcs, lists as rows": lambda path: nexus(path, q=Q[None], phi=PHI[:, None]),
    "NXxpcs, bins without pixels": lambda path: nexus(
        path,
        q=np.insert(Q, [0, 4], 0.9),
        phi=np.insert(PHI, [0, 4], 7.0),
        edit=lambda file: file.__setitem__(
            MASKS + "dynamic_roi_map", np.array([[0, 2, 3, 4, 5, 0, 7], [8, 9, 10, 11, 12, 13, 14]])
        ),
    ),
    "pyCHX, attributes are listed 0, 1, 10": pychx,
    "homodyne cache": cache,
    "homodyne cache, time as a grid of t1": lambda path: cache(
        path,
        t1=np.meshgrid(0.02 * np.arange(N), 0.02 * np.arange(N), indexing="ij")[0],
    ),
    "homodyne cache, time as a grid the other way": lambda path: cache(
        path, t1=np.meshgrid(0.02 * np.arange(N), 0.02 * np.arange(N), indexing="xy")[0]
    ),
    # Whatever is in an object array is never unpickled.
    "homodyne cache with pickled metadata": lambda path: cache(
        path, cache_metadata=np.array({"cache_version": "2.0"}, dtype=object)
    ),
}


@pytest.mark.parametrize("trap", READ_RIGHT)
def test_traps_that_must_not_show(tmp_path, trap):
    path = tmp_path / "a.dat"
    READ_RIGHT[trap](path)

    file = open_two_time(path)

    assert trap.startswith(file.format)
    assert (file.n_matrices, file.n_frames) == (BINS, N)
    np.testing.assert_array_equal(file.q, Q)
    np.testing.assert_array_equal(file.phi, PHI)
    assert (file.dt is None) == (file.format == "pyCHX")
    if file.dt is not None:
        assert file.dt == pytest.approx(0.02, rel=1e-12)
    for index in range(BINS):
        np.testing.assert_allclose(file.read(index), C2[index], rtol=1e-15)
        # Frames that are not in the middle, so that both ends of the time count.
        np.testing.assert_allclose(file.read(index, slice(0, 3)), C2[index, :3, :3], rtol=1e-15)


# Trap: how to write the file, and what the error says.
REFUSED = {
    "NXxpcs, stored in another way": (
        lambda path: nexus(path, storage_mode="other"),
        r"storage_mode of .* is 'other'; what can be read is one_array_q_first, ",
    ),
    "NXxpcs, says q last and is q first": (
        lambda path: nexus(path, storage_mode="one_array_q_last"),
        r"shape \(12, 5, 5\) and its storage_mode is 'one_array_q_last', which do not agree",
    ),
    "NXxpcs, as many bins as frames": (
        lambda path: nexus(path, symmetric(N), q=Q[:N], phi=PHI[:N]),
        r"shape \(5, 5, 5\) and its storage_mode is '', which do not agree",
    ),
    "NXxpcs, says keys and is an array": (
        lambda path: nexus(path, storage_mode="data_exchange_keys"),
        r"is a dataset, but its storage_mode is data_exchange_keys",
    ),
    "NXxpcs, says an array and is keys": (
        lambda path: nexus(path, {"1": C2[0]}, storage_mode="one_array_q_last"),
        r"is a group, but its storage_mode is one_array_q_last",
    ),
    "NXxpcs, another baseline": (
        lambda path: nexus(path, baseline_reference=2),
        r"baseline_reference of .* is '2', which is none of 1, 0",
    ),
    "NXxpcs, another origin": (
        lambda path: nexus(path, time_origin_location="upper_right"),
        r"time_origin_location of .* is 'upper_right', which is none of upper_left, lower_left",
    ),
    "NXxpcs, says lower left and is upper left": (
        lambda path: nexus(path, time_origin_location="lower_left"),
        r"two_time_corr_func\[0, :, :\] holds both halves but is not symmetric",
    ),
    "NXxpcs, nm⁻¹": (
        lambda path: nexus(path, edit=attribute(MASKS + "dynamic_q_list", "units", "1/nm")),
        r"dynamic_q_list says that q is in nm⁻¹, but Å⁻¹ is needed: divide q by 10",
    ),
    "NXxpcs, radians": (
        lambda path: nexus(path, edit=attribute(MASKS + "dynamic_phi_list", "units", "rad")),
        r"dynamic_phi_list says that φ is in 'rad', but degrees are needed",
    ),
    "NXxpcs, q as tuples": (
        lambda path: nexus(path, q=np.column_stack([Q, PHI])),
        r"dynamic_q_list has shape \(12, 2\); one list is needed",
    ),
    "NXxpcs, φ of each pixel": (
        lambda path: nexus(path, phi=np.arange(100.0)),
        r"dynamic_q_list has 12 bins, but .*dynamic_phi_list 100",
    ),
    "NXxpcs, fewer matrices than bins": (
        lambda path: nexus(path, C2[:7]),
        r"holds 7 matrices, but .*dynamic_q_list has 12 bins, and .*roi_map does not say which",
    ),
    "NXxpcs, a label without q": (
        lambda path: nexus(path, {"13": C2[0]}),
        r"two_time_corr_func goes from 13 to 13, but .*dynamic_q_list has the labels 1 to 12",
    ),
    "NXxpcs, no φ": (
        lambda path: nexus(
            path,
            q=np.full(BINS, 0.004),
            edit=lambda file: file.__delitem__(MASKS + "dynamic_phi_list"),
        ),
        r"^phi: .*the file does not give the angles of its 12 matrices; set them",
    ),
    "NXxpcs, detectors that disagree": (
        lambda path: nexus(
            path, edit=lambda file: file.__setitem__("/entry/instrument/second/frame_time", 0.03)
        ),
        r"^dt: .*does not give the time .* have different frame times\); set it",
    ),
    "NXxpcs, time in milliseconds": (
        lambda path: nexus(
            path, edit=attribute("/entry/instrument/eiger/frame_time", "units", "ms")
        ),
        r"^dt: .*frame_time is in 'ms', not in seconds\); set it",
    ),
    "pyCHX, whose unit of time is disputed": (
        lambda path: pychx(path, frame_time=0.02),
        r"^dt: .*frame_time of /md is 0\.02, in a unit that is not certain\); set it",
    ),
    "pyCHX, no time": (pychx, r"^dt: .*/md has no attribute frame_time\); set it"),
    "pyCHX, q first": (
        lambda path: pychx(path, C2),
        r"/g12b has shape \(12, 5, 5\); \(N, N, bins\) is needed",
    ),
    "pyCHX, a bin is missing": (
        lambda path: pychx(path, edit=lambda file: file["qval_dict"].attrs.__delitem__("7")),
        r"/g12b has 12 matrices, but /qval_dict has no attribute '7' with q",
    ),
    "pyCHX, no bins": (
        lambda path: pychx(path, edit=lambda file: file.__delitem__("qval_dict")),
        r"/qval_dict has no attribute '0'",
    ),
    "pyCHX, bins of several kinds": (
        lambda path: pychx(path, bins=[[0.004], *([0.004, 10.0] for _ in range(11))]),
        r"the attributes of /qval_dict are not all \[q\], or \[q, angle\]",
    ),
    "pyCHX, q_r and q_z marked in the metadata": (
        lambda path: pychx(path, bins=GRAZING, Qr=[0.01, 0.02], Qz=[0.05, 0.06]),
        r"at grazing incidence \(Qr of /md, Qz of /md\): its bins in /qval_dict are q_r and q_z",
    ),
    "pyCHX, q_r and q_z marked by curves": (
        lambda path: pychx(
            path, bins=GRAZING, edit=lambda file: file.__setitem__("qr_1d_pds", [1.0, 2.0])
        ),
        r"at grazing incidence \(/qr_1d_pds\)",
    ),
    "pyCHX, q_r and q_z by the geometry": (
        lambda path: pychx(path, bins=GRAZING, scat_geometry="gi_saxs"),
        r"at grazing incidence \(scat_geometry 'gi_saxs' of /md\)",
    ),
    "homodyne cache without a time": (
        lambda path: cache(path, t1=None),
        r"^dt: .*the time between frames \(t1 is missing\); set it",
    ),
    # homodyne's end_frame of −1 makes it count down.
    "homodyne cache whose time counts down": (
        lambda path: cache(path, t1=-0.02 * np.arange(N)),
        r"^dt: .*\(t1 does not rise in equal steps\); set it",
    ),
    "homodyne cache with another time": (
        lambda path: cache(path, t1=np.arange(N + 1)),
        r"the array t1 has shape \(6,\) and type int64; 5 or 25 real number",
    ),
    "homodyne cache with other angles": (
        lambda path: cache(path, phi_angles_list=PHI[:3]),
        r"phi_angles_list has shape \(3,\) .* 12 real number",
    ),
    "homodyne cache of something else": (
        lambda path: cache(path, c2_exp=C2[0]),
        r"c2_exp has shape \(5, 5\) and type float64; real matrices \(K, N, N\) are needed",
    ),
}


@pytest.mark.parametrize("trap", REFUSED)
def test_traps_that_are_one_clear_error(tmp_path, trap):
    write, message = REFUSED[trap]
    path = tmp_path / "a.dat"
    write(path)
    with pytest.raises(InputError, match=message) as raised:
        load(path, q=0.004)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_time_of_the_user_settles_the_unit(tmp_path):
    pychx(tmp_path / "a.h5", frame_time=20.0)
    assert load(tmp_path / "a.h5", q=0.004, dt=0.02).dt == 0.02


class TestGrazingIncidence:
    """pyCHX writes [q_r, q_z] where it writes [q, angle] in transmission."""

    def test_small_second_numbers_are_asked_about_if_nothing_tells(self, tmp_path):
        pychx(tmp_path / "a.h5", bins=GRAZING)
        with pytest.raises(InputError, match=r"0\.05, 0\.07, 0\.09, may be q_z of .*if it is in d"):
            load(tmp_path / "a.h5", q=0.004, dt=0.02)
        data = load(tmp_path / "a.h5", q=0.004, dt=0.02, units_confirmed=["phi"])
        assert data.phi.tolist() == pytest.approx([0.05, 0.07, 0.09])

    def test_transmission_is_not_asked_about(self, tmp_path):
        curve = attribute("md", "frame_time", 0.02)
        pychx(tmp_path / "a.h5", bins=GRAZING, edit=lambda f: (curve(f), f.create_group("iq_saxs")))
        assert load(tmp_path / "a.h5", q=0.004, dt=0.02).n_angles == 3

    def test_whole_rings_need_no_geometry(self, tmp_path):
        pychx(tmp_path / "a.h5", bins=[[q] for q in Q], Qr=[0.01])
        assert open_two_time(tmp_path / "a.h5").phi is None


@pytest.mark.parametrize("first", [0, 1])
def test_labels_in_place_of_q_are_asked_about(tmp_path, first, called):
    nexus(tmp_path / "a.h5", q=np.arange(first, first + BINS))
    with pytest.raises(InputError, match=r"q = .*11.* looks like labels of bins"):
        load(tmp_path / "a.h5", q=2.0)
    assert load(tmp_path / "a.h5", q=2.0, units_confirmed=["q"]).q.tolist() == [2.0]
    assert "question: q = " in called("inspect", tmp_path / "a.h5").out
    done = called("init", tmp_path / "a.h5", "-o", tmp_path / "c.yaml", "--gap", 2e6, "--q", 2)
    assert done.status == 1
    assert "looks like labels of bins" in done.err
    text = f"experimental_data: {{file_path: {tmp_path / 'a.h5'}}}\nanalysis_mode: static\n"
    text += "analyzer_parameters: {scattering: {wavevector_q: 2}}\n"
    with pytest.raises(InputError, match=r"file_path: q = .*units_confirmed: \[wavev"):
        parse_config(text, tmp_path / "c.yaml").selection()


def test_bins_of_pychx_that_are_whole_rings_have_no_angle(tmp_path):
    pychx(tmp_path / "a.h5", bins=[[q] for q in Q])
    assert open_two_time(tmp_path / "a.h5").phi is None
    data = load(tmp_path / "a.h5", q=Q[10], dt=0.02)
    assert (data.phi.tolist(), data.q.tolist()) == ([0.0], [Q[10]])
    np.testing.assert_array_equal(data.c2[0], C2[10])


def test_an_outline_of_nexus_does_not_hide_aps_u(tmp_path):
    nexus(tmp_path / "a.h5", np.zeros((2, 3)), edit=outline_of_nexus)
    file = open_two_time(tmp_path / "a.h5")
    assert file.format == "APS-U"
    np.testing.assert_array_equal(file.read(0), C2[0])


def test_a_cache_is_never_used_in_place_of_the_data(tmp_path):
    """Caches of other data, under all the names that homodyne gives them, change nothing."""
    data = tmp_path / "data.h5"
    nexus(data)
    stale = dict(c2_exp=C2 + 5, wavevector_q_list=Q, phi_angles_list=PHI)
    for name in ("cached_c2_frames_1_5.npz", "data.npz", "cached_c2_isotropic_frames_1_5.npz"):
        cache(tmp_path / name, **stale)
        os.utime(tmp_path / name, (2e9, 2e9))  # newer than the data
    before = sorted(tmp_path.iterdir())
    text = f"""
experimental_data:
  file_path: {data}
  use_caching: true
  cache_file_path: {tmp_path}
  cache_filename_template: cached_c2_frames_{{start_frame}}_{{end_frame}}.npz
analyzer_parameters: {{start_frame: 1, end_frame: 5, scattering: {{wavevector_q: 0.0044}}}}
"""
    config = parse_config(text, tmp_path / "c.yaml")
    first = config.load_data().c2
    np.testing.assert_array_equal(first[0], C2[4])
    nexus(data, C2 + 1)
    np.testing.assert_array_equal(config.load_data().c2[0], C2[4] + 1)
    assert sorted(tmp_path.iterdir()) == before  # and none is left behind
    assert {f"experimental_data.{key}" for key in ("use_caching", "cache_file_path")} <= set(
        config.ignored
    )


def test_a_time_of_the_configuration_is_held_against_a_cache(tmp_path):
    cache(tmp_path / "a.npz")
    with pytest.raises(
        InputError, match=r"^dt: .*: 0\.05 s is given, but the file says 0\.02 s \(step of t1"
    ):
        load(tmp_path / "a.npz", q=0.004, dt=0.05)


class TestFramesOfACache:
    """The configuration counts the frames of the measurement, and the cache only its own."""

    @staticmethod
    def frames(path, frames):
        selection = select(open_two_time(path), q=0.004, frames=frames)
        (note,) = selection.notes
        return (selection.frames.start, selection.frames.stop), note

    @pytest.mark.parametrize(
        ("name", "frames"),
        [
            ("a.npz", (401, 400 + N)),
            ("cached_c2_frames_401_405.npz", (401, 405)),
            ("cached_c2_frames_3_7.npz", (3, -1)),
            ("cached_c2_frames_2_6.npz", (2, 6)),
        ],
    )
    def test_as_many_as_it_holds_are_these(self, tmp_path, name, frames):
        cache(tmp_path / name)
        window, note = self.frames(tmp_path / name, frames)
        assert window == (0, N)
        assert "are all 5 that the cache holds" in note

    @pytest.mark.parametrize("name", ["a.npz", "cached_c2_frames_3_7.npz"])
    def test_fewer_are_counted_from_its_first_and_this_is_said(self, tmp_path, name):
        cache(tmp_path / name)
        window, note = self.frames(tmp_path / name, (3, 5))
        assert window == (2, 5)
        assert "the frames 3 to 5 are counted from the first frame of the cache" in note

    def test_others_are_refused_with_a_hint(self, tmp_path):
        cache(tmp_path / "a.npz")
        with pytest.raises(InputError, match=r"401 to 404 .* a cache counts its frames from its f"):
            load(tmp_path / "a.npz", q=0.004, frames=(401, 404))

    def test_from_1_there_is_nothing_to_say(self, tmp_path):
        cache(tmp_path / "a.npz")
        assert load(tmp_path / "a.npz", q=0.004, frames=(1, 4)).notes == ()


def test_the_raw_diagonal_of_a_cache_is_no_data(tmp_path):
    spiked = C2 + 100 * np.eye(N)
    cache(tmp_path / "a.npz", c2_exp=spiked)
    data = load(tmp_path / "a.npz", q=0.004)
    upper = np.triu_indices(N, 1)
    np.testing.assert_array_equal(data.c2[0][upper], C2[0][upper])


@pytest.mark.parametrize(
    ("write", "name", "axis"), [(nexus, TWOTIME, 0), (pychx, "/g12b", 2)], ids=["NXxpcs", "pyCHX"]
)
def test_of_one_array_only_the_slices_that_are_needed_are_read(
    tmp_path, monkeypatch, write, name, axis
):
    write(tmp_path / "a.h5")
    read = []
    getitem = h5py.Dataset.__getitem__

    def spy(dataset, selection, **kwargs):
        result = getitem(dataset, selection, **kwargs)
        if dataset.name == name:
            read.append((np.shape(result), selection[axis]))
        return result

    monkeypatch.setattr(h5py.Dataset, "__getitem__", spy)

    open_two_time(tmp_path / "a.h5")
    assert read == []
    load(tmp_path / "a.h5", q=Q[7], frames=(2, 4), dt=0.02)
    assert read == [((3, 3), 7)]
