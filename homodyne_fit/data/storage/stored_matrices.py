"""Matrices that stay on the disk, and blocks of matrices on the disk or in memory."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from homodyne_fit.errors import InputError

__all__ = [
    "Matrices",
    "RawMatrix",
    "ScratchFile",
    "StoredMatrices",
    "block",
    "mirror_upper",
    "upper_bands",
]

# Number of rows that are processed at a time.
BAND = 256


@dataclass(frozen=True)
class RawMatrix:
    """Location of a matrix in a file that stores it row after row, as in memory.

    Attributes
    ----------
    path : Path
    offset : int
        Offset of the first number, bytes.
    n_frames : int
        The matrix is n_frames × n_frames.
    dtype : dtype
        float32 or float64 in the byte order of this machine.
    """

    path: Path
    offset: int
    n_frames: int
    dtype: np.dtype[np.floating]


class ScratchFile:
    """Removes a file when nothing refers to this object any more, or when Python ends."""

    def __init__(self, path: Path) -> None:
        self._remove = weakref.finalize(self, path.unlink, missing_ok=True)


@dataclass(frozen=True, eq=False)
class StoredMatrices:
    """Symmetric matrices (K, n, n) in files, read in parts when they are used.

    An item is a whole matrix; an array of indices selects matrices. After unpickling the same files
    are read, which must still exist.

    Attributes
    ----------
    locations : tuple of K RawMatrix
        All of one type. Only their entries at t1 ≤ t2 are read.
    first : int
        Frame of the files that is frame 0 here.
    masked : (n,) bool
        Frames whose rows and columns are NaN.
    scratch : ScratchFile, optional
        The scratch file, which must exist as long as this object.
    """

    locations: tuple[RawMatrix, ...]
    first: int
    masked: NDArray[np.bool_]
    scratch: ScratchFile | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.locations), len(self.masked), len(self.masked)

    @property
    def dtype(self) -> np.dtype[np.floating]:
        return self.locations[0].dtype

    @property
    def ndim(self) -> int:
        return 3

    def __len__(self) -> int:
        return len(self.locations)

    @overload
    def __getitem__(self, key: int, /) -> NDArray[np.floating]: ...
    @overload
    def __getitem__(self, key: NDArray[np.int64], /) -> StoredMatrices: ...
    def __getitem__(self, key: int | NDArray[np.int64], /) -> NDArray[np.floating] | StoredMatrices:
        if isinstance(key, np.ndarray):
            return replace(self, locations=tuple(self.locations[k] for k in key))
        matrix = np.empty(self.shape[1:], self.dtype)
        for start, band in upper_bands(self, range(len(self))[key]):
            matrix[start : start + len(band), start:] = band
        mirror_upper(matrix)
        return matrix

    def __iter__(self) -> Iterator[NDArray[np.floating]]:
        return (self[k] for k in range(len(self)))

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[np.generic]:
        if copy is False:
            raise ValueError("stored matrices can be in memory only as a copy")
        return np.stack(list(self)).astype(dtype or self.dtype, copy=False)

    def upper(self, k: int, rows: slice, columns: slice) -> NDArray[np.floating]:
        """Read a block of matrix k; its entries at t1 > t2 are arbitrary."""
        location = self.locations[k]
        values = np.empty((rows.stop - rows.start, columns.stop - columns.start), location.dtype)
        begin = location.offset + (self.first + columns.start) * location.dtype.itemsize
        step = location.n_frames * location.dtype.itemsize
        try:
            with location.path.open("rb", buffering=0) as stream:
                for i, row in enumerate(values, start=self.first + rows.start):
                    stream.seek(begin + i * step)
                    if stream.readinto(row) != row.nbytes:
                        raise OSError("it is shorter than when the fit began")
        except OSError as error:
            raise InputError(
                f"{location.path}: cannot be read ({error.strerror or error})"
            ) from error
        values[self.masked[rows]] = values[:, self.masked[columns]] = np.nan
        return values

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredMatrices, (self.locations, self.first, self.masked)


# c2 (K, n, n).
Matrices = NDArray[np.floating] | StoredMatrices


def block(c2: Matrices, k: int, rows: slice, columns: slice) -> NDArray[np.floating]:
    """The entries of c2[k] (n, n) in some rows and columns; those at t1 > t2 are arbitrary."""
    if isinstance(c2, StoredMatrices):
        return c2.upper(k, rows, columns)
    return c2[k, rows, columns]


def upper_bands(c2: Matrices, k: int) -> Iterator[tuple[int, NDArray[np.floating]]]:
    """Yield bands of successive rows of c2[k], from the diagonal on.

    Yields
    ------
    start : int
        First row, and first column.
    band : (rows, n - start) array
        ``c2[k, start:start + rows, start:]``; entries at t1 > t2 are arbitrary.
    """
    n = c2.shape[1]
    for start in range(0, n, BAND):
        yield start, block(c2, k, slice(start, min(start + BAND, n)), slice(start, n))


def mirror_upper(matrix: NDArray[np.generic]) -> None:
    """Overwrite the lower half of a matrix (n, n) with the upper one."""
    for start in range(0, len(matrix), BAND):
        stop = min(start + BAND, len(matrix))
        matrix[stop:, start:stop] = matrix[start:stop, stop:].T
        square = matrix[start:stop, start:stop]
        square[:] = np.where(np.tri(len(square), k=-1, dtype=bool), square.T, square)
