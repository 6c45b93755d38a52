import re
from pathlib import Path

import numpy as np
import pytest

from homodyne_fit.data.dataset import TwoTimeData, along_one_line
from homodyne_fit.errors import InputError

GOOD = {
    "c2": np.ones((2, 5, 5)),
    "phi": np.array([0.0, 90.0]),
    "q": np.array([0.005, 0.005]),
    "dt": 0.1,
    "source": "file.h5",
}


def test_good_data():
    data = TwoTimeData(**GOOD)
    assert (data.n_angles, data.n_frames) == (2, 5)
    np.testing.assert_allclose(data.times, [0, 0.1, 0.2, 0.3, 0.4])


def test_its_repr_is_one_line():
    assert repr(TwoTimeData(**GOOD)) == (
        "TwoTimeData('file.h5': 2 × 5 × 5, φ = 0, 90°, q = 0.005 Å⁻¹, dt = 0.1 s)"
    )


@pytest.mark.parametrize("q", [0.0054, 0.004, 0.0071])
def test_the_mean_of_equal_wave_vectors_is_that_number(q):
    data = TwoTimeData(np.ones((11, 5, 5)), np.arange(11), np.full(11, q), 0.1)
    assert data.mean_q == q


def test_a_mask_is_a_missing_point():
    c2 = np.ma.array(np.ones((1, 5, 5)), mask=np.zeros((1, 5, 5)))
    c2[0, 1, 3] = np.ma.masked
    data = TwoTimeData(c2, 0.0, 0.005, 0.1)
    assert np.isnan(data.c2[0, 1, 3])
    assert np.isfinite(data.c2).sum() == 24


@pytest.mark.parametrize("several", [list, tuple])
def test_so_it_is_in_a_list(several):
    matrix = np.ma.array(np.ones((5, 5)), mask=np.eye(5, k=1))
    data = TwoTimeData(several([matrix, np.ones((5, 5))]), [0.0, 90.0], 0.005, 0.1)
    assert [int(n) for n in np.isnan(data.c2).sum(axis=(1, 2))] == [4, 0]


@pytest.mark.parametrize(
    ("dtype", "taken"),
    [(">f8", "f8"), (">f4", "f4"), ("f2", "f4"), ("i4", "f8"), ("u2", "f8"), ("g", "f8")],
)
def test_any_real_numbers_will_do(dtype, taken):
    data = TwoTimeData(**GOOD | {"c2": GOOD["c2"].astype(dtype)})
    assert data.c2.dtype == np.dtype(taken)
    assert data.c2.dtype.isnative
    np.testing.assert_array_equal(data.c2, 1.0)


def test_a_note_is_one_note():
    assert TwoTimeData(**GOOD | {"notes": "abc", "source": Path("x.h5")}).notes == ("abc",)
    assert TwoTimeData(**GOOD | {"source": Path("x.h5")}).source == "x.h5"


@pytest.mark.parametrize(
    ("phi", "expected"),
    [
        ([0.0], True),
        ([20.1, 200.1, -159.9], True),
        ([0.0, 180.0, 360.0], True),
        ([0.0, 179.99], False),
        ([0.0, 90.0], False),
    ],
)
def test_angles_along_one_line(phi, expected):
    assert along_one_line(np.array(phi)) is expected


def test_the_mean_of_others_is_their_mean():
    assert TwoTimeData(**GOOD | {"q": np.array([0.004, 0.006])}).mean_q == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"c2": np.ones((2, 5, 4))}, "c2 must have shape (angles, n, n), not (2, 5, 4)"),
        ({"c2": np.ones((5, 5))}, "c2 must have shape (angles, n, n), not (5, 5)"),
        ({"c2": np.ones((2, 2, 2))}, "at least 3 frames are needed, got 2"),
        ({"c2": np.ones((2, 5, 5), bool)}, "c2 must be real numbers, not bool"),
        ({"c2": np.ones((2, 5, 5), complex)}, "c2 must be real numbers, not complex128"),
        ({"c2": np.ones((2, 5, 5)).astype(str)}, "c2 must be real numbers, not str"),
        ({"c2": [np.ones((5, 5)), np.ones((4, 4))]}, "c2 must be real numbers, not lists of diff"),
        ({"c2": None}, "c2 must be real numbers, not object"),
        ({"phi": np.ma.array([0.0, 90.0], mask=[0, 1])}, "an angle is not finite: [0.0, nan]"),
        ({"phi": np.array([0, 90j])}, "phi must be real numbers, got array(["),
        ({"phi": [0, 90j]}, "phi must be real numbers, got [0, 90j]"),
        ({"phi": [False, True]}, "phi must be real numbers, got [False, True]"),
        ({"phi": ["0", "90"]}, "phi must be real numbers, got ['0', '90']"),
        ({"phi": np.arange(100) * 1j}, "phi must be real numbers, got a ndarray"),
        ({"q": 0.005 + 0j}, "q must be real numbers, got (0.005+0j)"),
        ({"q": np.ma.array([0.005, 0.005], mask=[0, 1])}, "wave vectors must be positive"),
        ({"dt": np.complex128(0.1)}, "dt must be one number, got np.complex128(0.1+0j)"),
        ({"dt": np.ma.masked}, "the frame time must be positive, got nan s"),
        ({"dt": True}, "dt must be one number, got True"),
        ({"dt": [0.1, 0.1]}, "dt must be one number, got [0.1, 0.1]"),
        ({"c2": np.tril(np.ones((2, 5, 5)), -1)}, "no finite value but zero at t1 < t2"),
        (
            {"phi": np.zeros(3)},
            "2 matrices need as many angles phi and wave vectors q, got (3,) and (2,)",
        ),
        ({"phi": np.array([0.0, np.nan])}, "an angle is not finite"),
        ({"q": np.array([0.005, 0.0])}, "wave vectors must be positive"),
        ({"dt": 0.0}, "the frame time must be positive, got 0.0 s"),
        ({"dt": np.nan}, "the frame time must be positive"),
        (
            {"c2": np.stack([np.ones((5, 5)), np.full((5, 5), np.nan)])},
            "the matrix at φ = 90° has no finite value but zero at t1 < t2",
        ),
    ],
)
def test_bad_data_is_named(change, message):
    with pytest.raises(InputError, match=re.escape(message)) as error:
        TwoTimeData(**{**GOOD, **change})
    assert str(error.value).startswith("file.h5: ")
