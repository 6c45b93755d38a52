"""Frames to leave out, from a text file and from the configuration."""

import numpy as np
import pytest

from homodyne_fit.config import parse_config
from homodyne_fit.data.formats.plain_array import write_array
from homodyne_fit.data.loading import read_frame_list
from homodyne_fit.errors import InputError


@pytest.mark.parametrize(
    ("text", "frames"),
    [
        ("", ()),
        ("3\n5\n", (3, 5)),
        ("3, 5 7,\n\n# a flash\n 9 # and 10\n", (3, 5, 7, 9)),
        ("2\r\n4\r\n", (2, 4)),
    ],
)
def test_numbers_in_any_arrangement(tmp_path, text, frames):
    (tmp_path / "bad.txt").write_bytes(text.encode())
    assert read_frame_list(tmp_path / "bad.txt") == frames


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
def test_encodings_of_other_editors(tmp_path, encoding):
    (tmp_path / "bad.txt").write_bytes("# für Größe\n3\n5 7\n".encode(encoding))
    assert read_frame_list(tmp_path / "bad.txt") == (3, 5, 7)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"3\n5.5\n", r"bad\.txt: line 2: '5\.5' is not a frame number, counted from 1"),
        (b"3-5\n", r"bad\.txt: line 1: '3-5' is not a frame number"),
        (b"\xff\xfe\x00", r"bad\.txt: a list of frames is a text file, and this is none"),
        (b"\x00\x01\x02", r"bad\.txt: a list of frames is a text file, and this is none"),
        (None, r"bad\.txt: the list of frames cannot be read \(No such file"),
    ],
)
def test_files_that_are_no_list(tmp_path, content, message):
    if content is not None:
        (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_frame_list(tmp_path / "bad.txt")


def configured(folder, mask):
    write_array(folder / "a.npz", 1 + np.eye(6), q=0.004, phi=0, dt=1)
    text = f"experimental_data: {{file_path: a.npz, mask_frames: {mask}}}"
    return parse_config(text, folder / "c.yaml")


@pytest.mark.parametrize("mask", ["[2, 4]", "bad.txt"])
def test_the_key_takes_a_list_or_a_file(tmp_path, mask):
    (tmp_path / "bad.txt").write_text("2\n4\n")
    config = configured(tmp_path, mask)
    assert config.ignored == ()
    missing = np.isnan(config.load_data().c2[0]).all(axis=1)
    assert missing.tolist() == [False, True, False, True, False, False]


@pytest.mark.parametrize("mask", ["null", "[]"])
def test_an_empty_mask(tmp_path, mask):
    assert not np.isnan(configured(tmp_path, mask).load_data().c2).any()


@pytest.mark.parametrize("mask", ["3", "[2, 2.5]", "[true]", "{a: 1}", "[[1]]"])
def test_the_key_takes_nothing_else(tmp_path, mask):
    with pytest.raises(InputError, match=r"mask_frames: a list of frame numbers.* \(got .*\)$"):
        configured(tmp_path, mask)
