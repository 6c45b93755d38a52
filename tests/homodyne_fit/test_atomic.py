import os
import stat
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


def test_asking_leaves_no_trace(tmp_path):
    path = tmp_path / "x.txt"
    require_writable(path)
    assert list(tmp_path.iterdir()) == []
    path.write_text("old")
    require_writable(path)
    assert path.read_text() == "old"
