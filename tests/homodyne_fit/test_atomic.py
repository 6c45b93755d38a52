import os
import stat
import subprocess
import sys
import tempfile

import pytest

from homodyne_fit.atomic import replacing, require_writable
from homodyne_fit.errors import InputError


def refuse(*_, **__):
    raise PermissionError(13, "Permission denied")


def test_a_file_takes_its_place_when_all_went_well(tmp_path):
    path = tmp_path / "result.txt"
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path
        assert not path.exists()
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_earlier_file_stays_when_something_raises(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")

    def write_half():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_file_appears_when_something_raises(tmp_path):
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "result.txt"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="file modes of POSIX")
def test_the_mode_is_the_one_that_open_would_give(tmp_path):
    old = os.umask(0o027)
    try:
        with replacing(tmp_path / "result.txt"):
            pass
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "result.txt").stat().st_mode) == 0o640


@pytest.mark.parametrize("name", ["plain.txt", "with space.txt", "größe ☃.txt", "#[x]'\".txt"])
def test_any_name_will_do(tmp_path, name):
    with replacing(tmp_path / name) as temporary:
        temporary.write_text("x")
    assert (tmp_path / name).read_text() == "x"


def replace(path):
    with replacing(path):
        pytest.fail("nothing can be written here")


@pytest.mark.parametrize("act", [replace, require_writable])
class TestWhereNothingCanBeWritten:
    def test_a_folder(self, tmp_path, act):
        with pytest.raises(InputError, match="is a folder"):
            act(tmp_path)

    def test_a_missing_folder(self, tmp_path, act):
        with pytest.raises(InputError, match=r"x\.txt: cannot be written \(No such file"):
            act(tmp_path / "missing" / "x.txt")

    def test_a_file_for_a_folder(self, tmp_path, act):
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match=r"x\.txt: cannot be written \(Not a directory"):
            act(tmp_path / "file" / "x.txt")

    def test_a_protected_folder(self, tmp_path, act, monkeypatch):
        monkeypatch.setattr(tempfile, "mkstemp", refuse)
        with pytest.raises(InputError, match=r"x\.txt: cannot be written \(Permission denied\)"):
            act(tmp_path / "x.txt")


HDF5 = (
    "Can't decrement id ref count (file write failed: time = Sun Nov 22 07:26:45 2026\n, "
    "filename = '.x', file descriptor = 3, errno = 28, error message = 'No space left on device', "
    "buf = 0x5)"
)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError(HDF5), OSError(HDF5)]
)
def test_a_full_disk(tmp_path, error):
    def write():
        with replacing(tmp_path / "x.txt"):
            raise error

    with pytest.raises(InputError, match=r"x\.txt: cannot be written \(No space left on device\)$"):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_a_limit_of_the_system(tmp_path):
    code = (
        "import pathlib, resource, sys\n"
        "from homodyne_fit.atomic import replacing\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with replacing(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('x' * 2000)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.txt")], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("x.txt: cannot be written (File too large)")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_meanwhile_is_said_as_it_is(tmp_path):
    def write():
        with replacing(tmp_path / "x.txt"):
            (tmp_path / "source").read_text()

    with pytest.raises(FileNotFoundError, match="source"):
        write()


def test_asking_leaves_no_trace(tmp_path):
    path = tmp_path / "x.txt"
    require_writable(path)
    assert list(tmp_path.iterdir()) == []
    path.write_text("old")
    require_writable(path)
    assert path.read_text() == "old"
