"""Two-time matrices that XPCSGUI saves: MATLAB files of one matrix each.

``C`` (N, N) is c2 − 1. The numbers beside it say which part of the measurement it is, but neither q
nor the time between frames is in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.formats.numpy_file import ArrayHeader
from homodyne_fit.data.formats.two_time_file import Format, TwoTimeFile
from homodyne_fit.errors import InputError

__all__ = ["MATLAB_SIGNATURE", "XPCSGUI", "headers"]

MATLAB_SIGNATURE = b"MATLAB 5.0 MAT-f"

MATRIX = "C"

# Numbers of the batch of frames, of the bin in q and of the bin in φ.
NUMBERS = ("nBatch", "nDQ", "nDPHI")

# Types of MATLAB arrays with real numbers.
REAL = ("double", "single", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")


def headers(path: Path) -> dict[str, ArrayHeader]:
    """Shape and type of each array; the type is double for every array of real numbers."""
    # Only these files need it, and importing it takes time.
    from scipy.io import whosmat

    try:
        found = whosmat(path)
    except Exception as error:
        raise InputError(f"{path}: SciPy cannot read it ({error}); is it complete?") from error
    return {
        name: ArrayHeader(tuple(shape), np.dtype(float if kind in REAL else object))
        for name, shape, kind in found
    }


def recognises(arrays: Mapping[str, ArrayHeader]) -> bool:
    """Whether there is the matrix, and one of the numbers beside it."""
    return MATRIX in arrays and any(name in arrays for name in NUMBERS)


def describe(arrays: Mapping[str, ArrayHeader], path: Path) -> TwoTimeFile:
    """Describe a file of XPCSGUI."""
    header = arrays[MATRIX]
    if not header.is_c2 or len(header.shape) != 2:
        raise InputError(
            f"{path}: {MATRIX} has shape {header.shape}; a real matrix (N, N) is needed"
        )
    matrix = _Matrix(path)
    return TwoTimeFile(
        path=path,
        format=XPCSGUI.name,
        names=(MATRIX,),
        n_frames=header.shape[0],
        q=None,
        phi=None,
        dt=None,
        dt_note="files of XPCSGUI have none",
        stored=matrix,
        shift=1.0,
        release=matrix.release,
    )


@dataclass
class _Matrix:
    """Reads the matrix once, and keeps it until `release`."""

    path: Path
    _read: NDArray[np.generic] | None = field(default=None, init=False)

    def __call__(self, _: int, frames: slice) -> NDArray[np.generic]:
        """The matrix, cut to some frames."""
        matrix = self._read
        if matrix is None:
            from scipy.io import loadmat

            try:
                matrix = np.asarray(loadmat(self.path, variable_names=[MATRIX])[MATRIX])
            except Exception as error:
                raise InputError(
                    f"{self.path}: SciPy cannot read it ({error}); is it complete?"
                ) from error
            self._read = matrix
        return matrix[frames, frames]

    def release(self) -> None:
        self._read = None


XPCSGUI = Format(
    "XPCSGUI",
    "xpcsgui",
    f"{MATRIX} (N, N), c2 − 1, beside it one of {', '.join(NUMBERS)}",
    recognises,
    describe,
)
