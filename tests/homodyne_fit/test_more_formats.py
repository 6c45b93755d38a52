"""Files of other programs, as their writers lay them out: read rightly, or a hint how to be."""

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from homodyne_fit.data.formats import open_two_time
from homodyne_fit.data.loading import load
from homodyne_fit.errors import InputError

N, K = 7, 3
HALF = np.triu(np.random.default_rng(5).uniform(0.9, 1.6, (K, N, N)))
C2 = HALF + np.triu(HALF, 1).swapaxes(1, 2)
Q = np.array([0.004, 0.005, 0.006])
PHI = np.array([0.0, 45.0, 90.0])


def nexus(path, *, entry="entry", place="twotime/two_time_corr_func", masks="instrument/masks"):
    with h5py.File(path, "w") as file:
        group = file.create_group(entry)
        group[place] = C2
        group[f"{masks}/dynamic_q_list"], group[f"{masks}/dynamic_phi_list"] = Q, PHI
        group["instrument/eiger/frame_time"] = 0.02


def same_as_written(file, scale=1.0):
    assert (file.n_matrices, file.n_frames) == (K, N)
    for k in range(K):
        np.testing.assert_allclose(file.read(k), scale * C2[k], rtol=1e-6)


@pytest.mark.parametrize("entry", ["entry", "entry_0001", "run7", "Sample Ä"])
def test_the_entry_of_nexus_may_have_any_name(tmp_path, entry):
    nexus(tmp_path / "a.h5", entry=entry)
    file = open_two_time(tmp_path / "a.h5")
    same_as_written(file)
    assert (file.format, file.dt) == ("NXxpcs", 0.02)
    assert (file.q.tolist(), file.phi.tolist()) == (Q.tolist(), PHI.tolist())


@pytest.mark.parametrize("name", ["two_time_corr_func", "C"])
@pytest.mark.parametrize("masks", ["XPCS/mask", "XPCS/instrument/masks", "instrument/masks"])
def test_the_pilot_of_nexus_has_a_group_of_its_own(tmp_path, name, masks):
    nexus(tmp_path / "a.h5", place=f"XPCS/twotime/{name}", masks=masks)
    file = open_two_time(tmp_path / "a.h5")
    same_as_written(file)
    assert (file.q.tolist(), file.phi.tolist(), file.dt) == (Q.tolist(), PHI.tolist(), 0.02)


def test_two_entries_are_not_chosen_from(tmp_path):
    nexus(tmp_path / "a.h5", entry="first")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.copy("first", "second")
    with pytest.raises(InputError, match=r"several two-time correlations \(/first/.*, /second/"):
        open_two_time(tmp_path / "a.h5")


@pytest.mark.parametrize("absent", [("phi",), ("q",), ("q", "phi")])
def test_lists_of_nexus_are_optional(tmp_path, absent):
    nexus(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        for name in absent:
            del file[f"entry/instrument/masks/dynamic_{name}_list"]
    file = open_two_time(tmp_path / "a.h5")
    same_as_written(file)
    assert (file.q is None, file.phi is None) == ("q" in absent, "phi" in absent)
    given = {"phi": [0, 45, 90]} if "phi" in absent else {}
    data = load(tmp_path / "a.h5", q=0.005, **given)
    chosen = slice(None) if "q" in absent else slice(1, 2)
    assert data.phi.tolist() == PHI[chosen].tolist()


class TestApsU:
    @staticmethod
    def write(path, *options):
        with h5py.File(path, "w") as file:
            file["/xpcs/twotime/correlation_map/c2_00001"] = np.triu(C2[0])
            file["/xpcs/twotime/processed_bins"] = [1]
            file["/xpcs/qmap/dynamic_index_mapping"] = [0]
            file["/xpcs/qmap/dynamic_num_pts"] = [1, 1]
            file["/xpcs/qmap/dynamic_v_list_dim0"] = Q[:1]
            file["/xpcs/qmap/dynamic_v_list_dim1"] = PHI[:1]
            file["/entry/instrument/detector_1/frame_time"] = np.float32([[0.25]])
            for name, value in options:
                file[f"/xpcs/twotime/config/{name}"] = value

    @pytest.mark.parametrize(
        ("options", "dt", "note"),
        [
            ((), 0.25, "; stride_frame and avg_frame not in the file, taken as 1"),
            ((("avg_frame", 3),), 0.75, "; stride_frame not in the file, taken as 1"),
            ((("stride_frame", 2),), 0.5, "; avg_frame not in the file, taken as 1"),
            ((("stride_frame", 2), ("avg_frame", 3)), 1.5, "avg_frame 3"),
        ],
    )
    def test_options_that_were_not_given_are_1(self, tmp_path, options, dt, note):
        self.write(tmp_path / "a.h5", *options)
        file = open_two_time(tmp_path / "a.h5")
        assert file.dt == dt
        assert file.dt_note.endswith(note)

    @pytest.mark.parametrize("multi_tau", [True, False])
    def test_without_a_matrix(self, tmp_path, multi_tau):
        self.write(tmp_path / "a.h5")
        with h5py.File(tmp_path / "a.h5", "r+") as file:
            del file["/xpcs/twotime/correlation_map/c2_00001"]
            if multi_tau:
                file["/xpcs/multitau/normalized_g2"] = np.ones((4, 2))
        why = "the file has multi-tau results only" if multi_tau else "no two-time correlation was"
        with pytest.raises(
            InputError, match=rf"correlation_map holds no matrix; {why}.* two-time option$"
        ):
            open_two_time(tmp_path / "a.h5")


@pytest.mark.parametrize(
    "name", ["/xpcs/multitau/normalized_g2", "/exchange/norm-0-g2", "/entry/data/g2", "/g2"]
)
def test_multi_tau_results_are_named_as_such(tmp_path, name):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[name] = np.ones((40, 6))
    with pytest.raises(InputError, match=r"multi-tau results only; correlate again with the two-t"):
        open_two_time(tmp_path / "a.h5")


class TestXpcsgui:
    @staticmethod
    def write(path, **changes):
        arrays = {"C": np.float32(C2[0] - 1), "nBatch": 1, "nDQ": 3, "nDPHI": 2, **changes}
        savemat(path, {name: value for name, value in arrays.items() if value is not None})

    def test_c2_minus_1_is_stored(self, tmp_path, called):
        self.write(tmp_path / "a.mat")
        file = open_two_time(tmp_path / "a.mat")
        assert (file.format, file.n_frames, file.q, file.dt) == ("XPCSGUI", N, None, None)
        np.testing.assert_allclose(file.read(0), C2[0], rtol=1e-6)
        data = load(tmp_path / "a.mat", q=0.004, dt=0.1, frames=(2, 5))
        np.testing.assert_allclose(data.c2[0], C2[0][1:5, 1:5], rtol=1e-6)
        assert called("inspect", tmp_path / "a.mat").status == 0

    def test_others_are_one_line(self, tmp_path):
        self.write(tmp_path / "a.mat", nBatch=None, nDQ=None, nDPHI=None)
        with pytest.raises(InputError, match=r"MATLAB file has none of the known .* C \(7, 7\)"):
            open_two_time(tmp_path / "a.mat")
        self.write(tmp_path / "b.mat", C=C2[0][:, :5])
        with pytest.raises(InputError, match=r"C has shape \(7, 5\); a real matrix \(N, N\)"):
            open_two_time(tmp_path / "b.mat")
        self.write(tmp_path / "c.mat")
        (tmp_path / "c.mat").write_bytes((tmp_path / "c.mat").read_bytes()[:-100])
        with pytest.raises(InputError, match="is it complete"):
            open_two_time(tmp_path / "c.mat").read(0)


def test_id02_is_over_age_and_lag(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("entry_0000/correlations/q1/twotime")
        group["ttcf"] = np.ones((2, 30, 20))
        group["age"], group["lag"] = np.arange(30.0), np.arange(20.0)
    with pytest.raises(
        InputError, match=r"twotime/ttcf \(2, 30, 20\) is over age and lag, .*\.npz"
    ):
        open_two_time(tmp_path / "a.h5")


@pytest.mark.parametrize("shape", [(5, 40, 40), (40, 40, 5), (40, 40)])
def test_square_matrices_elsewhere_are_named(tmp_path, shape):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["Two-time correlation function/2-TCF"] = np.ones(shape)
        file["loop"] = h5py.SoftLink("/")
    with pytest.raises(InputError) as raised:
        open_two_time(tmp_path / "a.h5")
    assert f"/Two-time correlation function/2-TCF {shape}; if they are c2(t1, t2)" in str(
        raised.value
    )


class TestArrays:
    def test_the_input_of_heterodyne(self, tmp_path):
        times = 0.5 + 0.1 * np.arange(N)
        np.savez(tmp_path / "a.npz", c2=C2[0], t1=times, t2=times)
        file = open_two_time(tmp_path / "a.npz")
        assert file.dt == pytest.approx(0.1, rel=1e-12)
        np.testing.assert_array_equal(file.read(0), C2[0])

    @pytest.mark.parametrize("other", [{"t2": 0.2 * np.arange(N)}, {"dt": 0.2}])
    def test_times_that_disagree(self, tmp_path, other):
        times = 0.1 * np.arange(N)
        np.savez(tmp_path / "a.npz", **{"c2": C2[0], "t1": times, "t2": times, **other})
        file = open_two_time(tmp_path / "a.npz")
        assert file.dt is None
        assert "its arrays disagree" in file.dt_note

    def test_times_of_another_length(self, tmp_path):
        np.savez(tmp_path / "a.npz", c2=C2[0], t1=np.arange(N + 1.0), t2=np.arange(N + 1.0))
        with pytest.raises(InputError, match=r"the array t1 has shape \(8,\)"):
            open_two_time(tmp_path / "a.npz")

    @pytest.mark.parametrize("suffix", [".npy", ".npz"])
    def test_matrices_that_the_last_axis_counts(self, tmp_path, suffix):
        path = tmp_path / f"ttcf{suffix}"
        last = np.moveaxis(C2, 0, -1)
        np.save(path, last) if suffix == ".npy" else np.savez(path, ttcf=last, q=Q, phi=PHI)
        file = open_two_time(path)
        same_as_written(file)
        assert file.raw(0) is None
        data = load(
            path, q=0.005, dt=0.1, frames=(2, 5), **({"phi": PHI} if suffix == ".npy" else {})
        )
        np.testing.assert_array_equal(data.c2[-1], C2[2 if suffix == ".npy" else 1][1:5, 1:5])

    @pytest.mark.parametrize("axis", [0, 2])
    def test_as_many_matrices_as_frames_are_not_mixed_up(self, tmp_path, axis):
        many = np.concatenate([C2, C2 + 1, C2[:1] + 2])
        np.save(tmp_path / "a.npy", np.moveaxis(many, 0, axis))
        options = {"q": 0.005, "dt": 0.1, "phi": np.arange(N)}
        if axis == 0:
            np.testing.assert_array_equal(load(tmp_path / "a.npy", **options).c2, many)
        else:
            with pytest.raises(InputError, match="both halves but is not symmetric"):
                load(tmp_path / "a.npy", **options)
