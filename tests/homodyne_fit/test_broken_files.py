"""What the command line says about data that cannot be fitted: one line, that of docs/errors.md.

`test_loaders_bad_input` and `test_loaders_traps` have the details of each format, `test_check`
mistakes in configurations.
"""

import re
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from homodyne_fit.cli import main
from homodyne_fit.data.formats.aps_u import write_aps_u
from homodyne_fit.data.loading import load

N, PHI, Q = 12, (0.0, 90.0), (0.004, 0.0054)
LAG = np.abs(np.subtract.outer(np.arange(N), np.arange(N)))
C2 = np.stack([1 + 0.3 * np.exp(-LAG / (k + 2)) for k in range(4)])

CONFIG = """\
experimental_data: {file_path: a.h5}
analyzer_parameters:
  scattering: {wavevector_q: 0.0054}
  geometry: {stator_rotor_gap: 2e6}
"""

MATRIX = "/xpcs/twotime/correlation_map/c2_00003"
FRAME_TIME = "/entry/instrument/detector_1/frame_time"
Q_LIST, PHI_LIST = "/xpcs/qmap/dynamic_v_list_dim0", "/xpcs/qmap/dynamic_v_list_dim1"

CACHE = {
    "wavevector_q_list": np.full(4, 0.0054),
    "phi_angles_list": 45.0 * np.arange(4),
    "t1": 0.1 * np.arange(N),
    "t2": 0.1 * np.arange(N),
    "c2_exp": C2,
}


def measured(path, c2=C2):
    write_aps_u(path, c2, Q, PHI, range(4), 0.1)


def having(name, value):
    """Return a writer of a file with a value in place of a dataset."""

    def write(path):
        measured(path)
        with h5py.File(path, "r+") as file:
            del file[name]
            file[name] = value

    return write


def with_units(name, unit):
    def write(path):
        measured(path)
        with h5py.File(path, "r+") as file:
            file[name].attrs["units"] = unit

    return write


def arrays(**given):
    def write(path):
        with path.open("wb") as stream:
            np.savez(stream, **given)

    return write


def cut(path):
    measured(path)
    path.write_bytes(path.read_bytes()[:-500])


def other_hdf5(path):
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = np.ones(3)


# How to write each; what is said about it stands in the manual.
BROKEN = {
    "missing": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "a folder": lambda path: path.mkdir(),
    "text": lambda path: path.write_text("t1 t2 c2\n"),
    "cut off": cut,
    "HDF5 of something else": other_hdf5,
    "a vector": having(MATRIX, np.ones(N)),
    "a number": having(MATRIX, 1.0),
    "three dimensions": having(MATRIX, np.ones((2, N, N))),
    "not square": having(MATRIX, np.ones((N, N - 1))),
    "other frames than the first matrix": having(MATRIX, C2[2, 1:, 1:]),
    "complex": having(MATRIX, C2[2] * 1j),
    "text in the matrix": having(MATRIX, np.full((N, N), b"a")),
    "truth values": having(MATRIX, C2[2] > 1.1),
    "not symmetric": having(MATRIX, C2[2] + 0.1 * np.tri(N, k=-3)),
    "NaN everywhere": having(MATRIX, np.full((N, N), np.nan)),
    "infinite everywhere": having(MATRIX, np.full((N, N), np.inf)),
    "zeros": having(MATRIX, np.zeros((N, N))),
    "fill values": having(MATRIX, np.where(LAG == 5, 9.96921e36, C2[2])),
    "one frame": lambda path: measured(path, C2[:, :1, :1]),
    "two frames": lambda path: measured(path, C2[:, :2, :2]),
    "q of 0": having(Q_LIST, [0.004, 0.0]),
    "negative q": having(Q_LIST, [-0.004, -0.0054]),
    "q of NaN": having(Q_LIST, [0.004, np.nan]),
    "q in nm⁻¹": with_units(Q_LIST, "1/nm"),
    "φ of NaN": having(PHI_LIST, [0.0, np.nan]),
    "φ in radians": with_units(PHI_LIST, "rad"),
    "frame time of 0": having(FRAME_TIME, 0.0),
    "negative frame time": having(FRAME_TIME, -0.1),
    "frame time in ms": with_units(FRAME_TIME, "ms"),
    "negative dt of a plain array": arrays(c2=C2, q=0.0054, phi=[0, 1, 2, 3], dt=-1.0),
    "time that jumps back": arrays(**CACHE | {"t1": np.r_[0:0.4:0.1, 0.2, 0.5:1.2:0.1]}),
    "cache that is not square": arrays(**CACHE | {"c2_exp": C2[:, :, 1:]}),
    "cache of text": arrays(**CACHE | {"c2_exp": C2.astype(str)}),
    "cache with fewer angles": arrays(**CACHE | {"phi_angles_list": [0.0, 1.0]}),
    "pickled objects": arrays(c2=np.array([None, C2], dtype=object)),
    "no array": arrays(),
}

MANUAL = Path(__file__).parents[2] / "docs" / "errors.md"


def listed(section):
    """Kind and line of each row below a heading of the manual."""
    text = MANUAL.read_text(encoding="utf-8").split(f"## {section}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| ([^|`]+) \| `(.+)` \|$", text, re.MULTILINE))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(CONFIG)
    return tmp_path


def assert_said(capsys, line):
    """One line on standard error, nothing else; "…" in the line stands for anything."""
    out, err = capsys.readouterr()
    pattern = ".*".join(map(re.escape, f"homodyne_fit: error: {line}".split("…")))
    assert out == ""
    assert err.count("\n") == 1
    assert re.fullmatch(pattern + "\n", err), err


@pytest.mark.parametrize("kind", BROKEN)
def test_each_is_one_line(folder, capsys, kind):
    BROKEN[kind](Path("a.h5"))
    assert main(["--config", "c.yaml"]) == 1
    assert_said(capsys, listed("Data")[kind])
    assert not Path("c_results").exists()


def test_the_manual_lists_no_other():
    assert set(listed("Data")) == set(BROKEN)
    assert set(listed("Results")) == set(RESULTS)


def sparse(path):
    """Matrices of 1e6 × 1e6 numbers, of which none is stored."""
    measured(path)
    with h5py.File(path, "r+") as file:
        for k in range(1, 5):
            name = f"/xpcs/twotime/correlation_map/c2_{k:05d}"
            del file[name]
            file.create_dataset(name, (10**6, 10**6), "f4", chunks=(1000, 1000))


def test_a_matrix_that_no_memory_holds(folder, capsys):
    sparse(Path("a.h5"))
    assert Path("a.h5").stat().st_size < 1e6
    for command in (["check", "c.yaml"], ["--config", "c.yaml"]):
        assert main(command) == 1
        assert_said(capsys, "a.h5: …needed to read a matrix of 1000000 frames…fewer frames…")


# What is wrong with the folder of the results.


def results_there(_):
    Path("c_results").mkdir()
    Path("c_results/result.h5").touch()


def file_there(_):
    Path("c_results").touch()


def report_is_a_folder(_):
    Path("c_results/report.html").mkdir(parents=True)


def protected(monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)


RESULTS = {
    "earlier results": results_there,
    "a file in their place": file_there,
    "a folder in the place of a file": report_is_a_folder,
    "no permission": protected,
}


@pytest.mark.parametrize("kind", RESULTS)
def test_results_that_cannot_be_written_are_one_line_before_the_fit(
    folder, capsys, monkeypatch, kind
):
    measured(Path("a.h5"))
    RESULTS[kind](monkeypatch)
    arguments = ["--overwrite"] if kind == "a folder in the place of a file" else []
    assert main(["--config", "c.yaml", *arguments]) == 1
    assert_said(capsys, listed("Results")[kind])


# What is odd, but can be fitted.


def test_integers_are_numbers(folder, capsys):
    having(MATRIX, np.round(10 * C2[2]).astype(int))(Path("a.h5"))
    assert main(["inspect", "a.h5"]) == 0


def test_an_infinite_value_is_a_missing_point(folder):
    having(MATRIX, np.where(LAG == 3, np.inf, C2[2]))(Path("a.h5"))
    data = load("a.h5", q=0.0054)
    np.testing.assert_array_equal(np.isfinite(data.c2[0]), LAG != 3)


@pytest.mark.parametrize("second", [0.0, 360.0])
def test_an_angle_that_occurs_twice_is_noted(folder, second):
    having(PHI_LIST, [0.0, second])(Path("a.h5"))
    assert load("a.h5", q=0.0054).notes == (
        "φ = 0° occurs 2 times; if the data are the same, leave one out",
    )
