"""Checks that arrays of users hold real numbers."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["real_array"]


def real_array(values: object) -> NDArray[np.floating]:
    """Return an array of float32 or float64, with NaN for masked values.

    Single and half precision become float32, all other numbers float64. Masked arrays may also be
    in lists. If the values are no real numbers, raise a ValueError 'must be real numbers, not …'.
    """
    try:
        array = _with_masks(values)
    except ValueError:
        raise ValueError("must be real numbers, not lists of different lengths") from None
    if array.dtype.kind == "O" and all(map(_is_real, np.ma.compressed(array))):
        array = np.ma.filled(array, np.nan).astype(np.float64)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"must be real numbers, not {array.dtype.name}")
    single = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    array = array.astype(np.float32 if single else np.float64, copy=False)
    return np.ma.filled(array, np.nan)


def _with_masks(values: object) -> NDArray[Any]:
    """An array; a masked one if lists of lists contain a masked array."""
    if isinstance(values, np.ma.MaskedArray):
        return values
    if isinstance(values, list | tuple):
        parts = [
            _with_masks(part) if isinstance(part, list | tuple | np.ma.MaskedArray) else part
            for part in values
        ]
        if any(isinstance(part, np.ma.MaskedArray) for part in parts):
            return np.ma.stack(parts)
    return np.asarray(values)


def _is_real(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
