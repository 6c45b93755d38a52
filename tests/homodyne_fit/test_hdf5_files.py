"""HDF5 files on odd file systems, of other writers, and with parts elsewhere."""

import os
import re
import subprocess
import sys

import h5py
import hdf5plugin
import numpy as np
import pytest

from homodyne_fit.data.formats import hdf5, open_two_time
from homodyne_fit.data.formats.aps_u import write_aps_u
from homodyne_fit.data.loading import load
from homodyne_fit.errors import InputError

N = 6
C2 = 1 + 0.3 * np.exp(-np.abs(np.subtract.outer(np.arange(N), np.arange(N))) / 3)
MATRIX = "/xpcs/twotime/correlation_map/c2_00001"


@pytest.fixture
def path(tmp_path):
    write_aps_u(tmp_path / "a.h5", C2[None], [0.004], [0.0], [0], 0.1)
    return tmp_path / "a.h5"


@pytest.mark.parametrize("number", [37, 95, 38])
def test_a_file_system_without_locks(path, monkeypatch, number, called):
    """ENOLCK of NFS, EOPNOTSUPP, and ENOSYS of DVS."""
    original, tried = h5py.File.__init__, []

    def init(file, name, *args, **kwargs):
        if isinstance(name, str | os.PathLike):
            tried.append(kwargs.get("locking"))
            if kwargs.get("locking") is not False:
                raise OSError(
                    f"Unable to synchronously open file (unable to lock file, errno = {number}, "
                    f"error message = '{os.strerror(number)}')"
                )
        original(file, name, *args, **kwargs)

    monkeypatch.setattr(h5py.File, "__init__", init)
    data = load(path)
    np.testing.assert_allclose(data.c2[0], C2, rtol=1e-6)
    assert data.notes[0].startswith("the file system has no locks, so the file is read without one")
    assert "note: the file system has no locks" in called("inspect", path).out
    assert tried[:2] == [None, False]


def test_with_locks_there_is_nothing_to_say(path):
    assert load(path).notes == ()


def test_a_file_that_is_being_written_elsewhere(path):
    code = (
        "import h5py, sys\n"
        "file = h5py.File(sys.argv[1], 'r+', locking=True)\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as writer:
        assert writer.stdout.readline() == "open\n"
        with pytest.raises(
            InputError, match=r"a\.h5: another program has the file open for writing"
        ):
            open_two_time(path)
        writer.stdin.close()
    assert open_two_time(path).n_matrices == 1


# HDF5 keeps such numbers for tests: no plugin has it.
UNKNOWN_FILTER = 400


class TestFilters:
    @staticmethod
    def write(path, mask):
        with h5py.File(path, "r+") as file:
            del file[MATRIX]
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_chunk((N, N))
            plist.set_filter(UNKNOWN_FILTER, h5py.h5z.FLAG_OPTIONAL)
            space, kind = h5py.h5s.create_simple((N, N)), h5py.h5t.IEEE_F32LE
            created = h5py.h5d.create(file.id, MATRIX.encode(), kind, space, plist)
            created.write_direct_chunk((0, 0), np.float32(np.triu(C2)).tobytes(), mask)

    @pytest.mark.parametrize(
        ("installed", "advice"), [(False, "pip install hdf5plugin"), (True, "HDF5_PLUGIN_PATH")]
    )
    def test_a_plugin_that_is_missing(self, path, monkeypatch, installed, advice):
        self.write(path, 0)
        monkeypatch.setattr(hdf5, "_register_filters", lambda: installed)
        with pytest.raises(InputError) as raised:
            open_two_time(path)
        assert re.search(rf"c2_00001 is compressed .* {advice}", str(raised.value))
        assert str(raised.value).endswith(f"number {UNKNOWN_FILTER})")

    @pytest.mark.parametrize("name", ["Bitshuffle", "Zstd", "Blosc"])
    def test_a_plugin_that_is_installed_is_used(self, path, name):
        with h5py.File(path, "r+") as file:
            del file[MATRIX]
            half = np.float32(np.triu(C2))
            file.create_dataset(MATRIX, data=half, chunks=(N, N), **getattr(hdf5plugin, name)())
        np.testing.assert_allclose(load(path).c2[0], C2, rtol=1e-6)

    def test_chunks_without_it_are_read(self, path):
        self.write(path, 1)
        np.testing.assert_allclose(load(path).c2[0], C2, rtol=1e-6)


class TestLinks:
    def test_a_matrix_in_another_file(self, path):
        path.rename(path.with_name("raw.h5"))
        with h5py.File(path, "w") as file:
            file["entry"] = h5py.ExternalLink("raw.h5", "/entry")
            file["xpcs"] = h5py.ExternalLink("raw.h5", "/xpcs")
        np.testing.assert_allclose(load(path).c2[0], C2, rtol=1e-6)
        path.with_name("raw.h5").unlink()
        with pytest.raises(
            InputError, match=r"/xpcs is a link to /xpcs of raw\.h5, but there is no"
        ):
            open_two_time(path)

    @pytest.mark.parametrize(
        ("link", "said"),
        [
            (
                h5py.ExternalLink("gone.h5", "/a"),
                r"a link to /a of gone\.h5, but there is no such f",
            ),
            (h5py.ExternalLink("a.h5", "/a"), r"a link to /a of a\.h5, but it has no such part"),
            (h5py.SoftLink("/b"), r"a link to /b, which is not there"),
        ],
    )
    def test_a_list_elsewhere(self, path, link, said):
        name = "/xpcs/qmap/dynamic_v_list_dim0"
        with h5py.File(path, "r+") as file:
            del file[name]
            file[name] = link
        with pytest.raises(InputError, match=f"{name} is {said}"):
            open_two_time(path)
