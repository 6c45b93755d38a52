import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from homodyne_fit.data.real_arrays import real_array

HALF = np.ma.array([1.0, 2.0], mask=[False, True])
NAN = np.nan


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (HALF, [1, NAN]),
        ([HALF, HALF], [[1, NAN], [1, NAN]]),
        ([HALF, [3, 4]], [[1, NAN], [3, 4]]),
        ((np.array([3, 4]), HALF), [[3, 4], [1, NAN]]),
        ([[HALF], [HALF]], [[[1, NAN]], [[1, NAN]]]),
        ([np.ma.masked, 2], [NAN, 2]),
        (np.ma.masked, NAN),
        (np.ma.array([1, 2], mask=[True, False]), [NAN, 2]),
        (np.ma.array([None, 2], mask=[True, False], dtype=object), [NAN, 2]),
        (np.ma.array([1, 2]), [1, 2]),
        ([1, Fraction(1, 2)], [1, 0.5]),
        (7, 7),
        ([], []),
    ],
)
def test_what_is_masked_is_missing(given, expected):
    found = real_array(given)
    assert type(found) is np.ndarray
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("dtype", "taken"), [("f4", "f4"), (">f4", "f4"), ("f2", "f4"), ("g", "f8")]
)
@pytest.mark.parametrize("masked", [False, True])
def test_single_precision_stays(dtype, taken, masked):
    values = np.array([1, 2], dtype)
    found = real_array(np.ma.array(values, mask=[False, True]) if masked else values)
    assert (found.dtype, found.dtype.isnative) == (np.dtype(taken), True)
    np.testing.assert_array_equal(found, [1, NAN] if masked else [1, 2])


def test_an_array_of_floats_is_not_copied():
    values = np.ones(3)
    assert real_array(values) is values


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ([1, 2j], "complex128"),
        (np.zeros(2, complex), "complex128"),
        (np.ma.array([1j, 2], mask=[True, False]), "complex128"),
        ([True, False], "bool"),
        ([1, None], "object"),
        (np.array([1, True], object), "object"),
        (np.array([Decimal(1)]), "object"),
        ("fast", "str128"),
        (["1", "2"], "str32"),
        ([b"1"], "bytes8"),
        (np.zeros(2, "m8[s]"), "timedelta64[s]"),
        ([[1, 2], [3]], "lists of different lengths"),
        ([HALF, [3]], "lists of different lengths"),
        ({1, 2}, "object"),
    ],
)
def test_nothing_else_is_made_a_number(given, what):
    with pytest.raises(ValueError, match=f"^must be real numbers, not {re.escape(what)}$"):
        real_array(given)
