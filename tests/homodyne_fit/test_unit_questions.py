"""Values that look like another unit: asked about, wherever they are given."""

import re

import numpy as np
import pytest

import homodyne_fit as hf
from homodyne_fit.data.units import about_angles, about_dt, about_gap, about_q


@pytest.mark.parametrize(
    ("about", "usual", "odd"),
    [(about_gap, 2e6, 0.2), (about_q, 0.0054, 54.0), (about_dt, 0.1, 1000.0)],
)
def test_what_is_proposed_is_not_asked_about_again(about, usual, odd):
    assert about(usual) is None
    text = about(odd)
    assert "is it in another unit?" in text
    proposed = [float(value) for value in re.findall(r" is ([\d.e+-]+) ", text)]
    assert proposed
    assert all(about(value) is None for value in proposed)


def test_angles_in_degrees_are_not_asked_about():
    assert about_angles("φ", [0, 30, 45, 90]) is None
    assert about_angles("φ", []) is None


class TestFromPython:
    @pytest.mark.parametrize(
        ("options", "name", "question"),
        [
            ({"gap": 0.2}, "gap", "0.2 mm is 2e+06 Å; if it is in Å"),
            (
                {"gap": 2e6, "bounds": {"phi0": (-0.785, 0.785)}},
                "phi",
                "degrees are needed: -45, 45",
            ),
            ({"gap": 2e6, "fixed": {"phi0": 1.571}}, "phi", "degrees are needed: 90"),
        ],
    )
    def test_of_a_fit(self, small, options, name, question, complaint):
        (line,) = complaint(hf.fit, small, **options)
        assert question in line
        assert line.endswith(f"give units_confirmed=['{name}']")
        hf.fit(small, **options, units_confirmed=[name], multi_start=False, max_nfev=1)

    def test_the_static_model_has_no_such_quantities(self, small):
        hf.fit(small, "static", gap=0.2, multi_start=False, max_nfev=1)

    def test_all_of_a_file_at_once(self, small_array, complaint):
        options = {"q": 5.4, "dt": 1000, "phi": [0, 0.7854, 1.5708]}
        lines = complaint(hf.load, small_array, **options)
        for line, name in zip(lines, ("q", "dt", "phi"), strict=True):
            assert line.startswith(str(small_array))
            assert line.endswith(f"give units_confirmed=['{name}']")
        data = hf.load(small_array, **options, units_confirmed=["q", "dt", "phi"])
        assert (data.q[0], data.dt, data.phi[1]) == (5.4, 1000, 0.7854)

    def test_a_fit_of_a_path_asks_them_too(self, small_array, complaint):
        options = {"q": 5.4, "dt": 1000, "units_confirmed": ["q"]}
        lines = complaint(hf.fit, small_array, "static", **options)
        assert lines[0].endswith("give units_confirmed=['dt']")
        assert lines[1].startswith("phi: ")
        assert "does not give the angles of its 3 matrices; set them, in degrees" in lines[1]

    def test_of_arrays(self, small, complaint):
        made = hf.TwoTimeData(small.c2, [0, 0.7854, 1.5708], 5.4, 1000.0)
        lines = complaint(hf.fit, made, "static")
        names = [line.partition("units_confirmed=")[2] for line in lines]
        assert names == ["['q']", "['dt']", "['phi']"]
        given = {"units_confirmed": ["q", "dt", "phi"], "multi_start": False, "max_nfev": 1}
        assert hf.fit(made, "static", **given).n_points == 3 * 24 * 23 // 2

    def test_angles_that_a_file_has_in_radians(self, tmp_path, small, complaint):
        np.savez(tmp_path / "a.npz", c2=small.c2, phi=[0, 0.7854, 1.5708], dt=1.0, q=[0.0054] * 3)
        (line,) = complaint(hf.load, tmp_path / "a.npz")
        assert "φ of the file: 0, 0.7854, 1.5708 looks like radians" in line
        assert hf.load(tmp_path / "a.npz", units_confirmed=["phi"]).n_angles == 3
