"""A fit of a file looks at it once, and reads each matrix once."""

import weakref

import h5py
import numpy as np
import pytest

from homodyne_fit.config import load_config
from homodyne_fit.config.configuration import examine
from homodyne_fit.data import selection
from homodyne_fit.data.formats import numpy_file
from homodyne_fit.data.formats.aps_u import write_aps_u

CONFIG = """\
analysis_mode: static
analyzer_parameters: {scattering: {wavevector_q: 0.0054}}
optimization: {nlsq: {multi_start: {enable: false}}}
experimental_data: {file_path: %s}
"""


@pytest.fixture
def config(small, tmp_path):
    write_aps_u(tmp_path / "a.h5", small.c2, [0.0054], small.phi, range(3), small.dt)
    (tmp_path / "c.yaml").write_text(CONFIG % "a.h5")
    return tmp_path / "c.yaml"


@pytest.fixture
def seen(monkeypatch):
    """What is done to the data files, in order."""
    events = []

    class File(h5py.File):
        def __init__(self, name, mode="r", **options):
            if mode == "r":
                events.append("opened")
            super().__init__(name, mode, **options)

    def select(*args, original=selection.select, **options):
        events.append("selected")
        return original(*args, **options)

    def read(*args, original=numpy_file.read):
        events.append("read")
        return original(*args)

    monkeypatch.setattr(h5py, "File", File)
    monkeypatch.setattr(selection, "select", select)
    monkeypatch.setattr(numpy_file, "read", read)
    return events


ONCE = ["opened", "selected", *["opened"] * 3]


def test_by_a_fit(called, config, seen, without_pictures):
    assert called("--config", config).status == 0
    assert seen == ONCE


def test_by_a_batch(called, config, seen, without_pictures):
    other = config.with_name("d.yaml")
    other.write_text(config.read_text())
    assert called("batch", config, other).status == 0
    assert sorted(seen) == sorted(2 * ONCE)


def test_by_figures_and_a_fit(called, config, seen, without_pictures):
    assert called("--config", config, "--plot-experimental-data", "--save-plots").status == 0
    assert seen.count("selected") == 1


def test_an_archive_is_unpacked_once_and_not_kept(small, tmp_path, seen):
    path = tmp_path / "a.npz"
    np.savez(path, c2=small.c2)
    (tmp_path / "c.yaml").write_text(
        (CONFIG % "a.npz").replace("{scattering", "{dt: 0.1, scattering").rstrip("}\n")
        + ", phi_angles: [0, 45, 90]}\n"
    )
    config, selected = examine(tmp_path / "c.yaml")
    assert seen == ["selected"]
    first = weakref.ref(selected.file.stored(0, slice(None)).base)
    assert first() is not None
    np.testing.assert_array_equal(config.load_data(selected).c2, small.c2)
    assert seen == ["selected", "read"]
    assert first() is None
    np.testing.assert_array_equal(load_config(tmp_path / "c.yaml").load_data().c2, small.c2)
