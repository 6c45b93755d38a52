"""The Python that the guides show runs as it stands."""

import re
from pathlib import Path

import pytest

from homodyne_fit.simulation.measurement import Measurement, from_formula, write_measurement

ROOT = Path(__file__).parents[2]
TRUTH = {"D0": 2e4, "alpha": -0.2, "D_offset": 0.0}
FLOW = {"gamma_dot_t0": 3e-4, "beta": 0.2, "gamma_dot_t_offset": 0.0, "phi0": 3.0}


def blocks(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the data file that guides speak of."""
    measurement = Measurement({**TRUTH, **FLOW}, phi=(0.0, 60.0), n_frames=40)
    c2 = from_formula(measurement, noise=0.02)
    write_measurement(tmp_path / "data.h5", measurement, c2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_python(folder):
    names = {}
    for block in blocks("docs/python.md"):
        exec(block, names)
    assert (names["again"].J(names["data"].times)[0] == names["j"]).all()
    assert abs(names["phi0"].value - 3) < 4 * names["phi0"].stderr
    assert (folder / "fit_results" / "report.html").exists()


def test_readme_and_results(folder):
    (block,) = [block for block in blocks("README.md") if "homodyne_fit" in block]
    exec(block, {})
    names = {}
    for block in blocks("docs/results.md"):
        exec(block, names)
    assert names["residual"].shape == (40, 40)
    names["parameters"].close()
    names["c2"].close()


def test_the_tests_that_the_page_of_the_formats_names_exist():
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|.*\|.*\| (`test_.*) \|$", text, re.MULTILINE)
    assert len(rows) > 15
    for row in rows:
        for part in row.split(";"):
            module, *names = re.findall(r"`([^`]+)`", part)
            tests = (Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8")
            assert names, row
            for name in names:
                is_case = name.startswith("[")
                assert (f'"{name[1:-1]}"' if is_case else f"def test_{name}(") in tests, name
