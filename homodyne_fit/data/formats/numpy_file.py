"""Reading files of NumPy, with one clear error for everything that is wrong with a file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from homodyne_fit.data.storage.stored_matrices import RawMatrix
from homodyne_fit.errors import InputError, shortened

__all__ = [
    "ArrayHeader",
    "Stack",
    "companion",
    "contents",
    "frame_time",
    "headers",
    "raw",
    "read",
]

# Errors that NumPy and zipfile raise for a damaged file.
DAMAGE = (
    EOFError,
    OSError,
    RuntimeError,
    SyntaxError,
    TokenError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


# Largest relative difference of the steps in time, which are from a linspace.
SAME_STEP = 1e-6


@dataclass(frozen=True)
class ArrayHeader:
    """The header of an array in a file: shape and type."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def is_c2(self) -> bool:
        """Whether the array can be one or several square matrices of real numbers."""
        square = len(self.shape) in (2, 3) and self.shape[-1] == self.shape[-2]
        return square and 0 not in self.shape and self.dtype.kind in "fiu"

    @property
    def is_c2_last(self) -> bool:
        """Whether it can be several square matrices (N, N, K) that the last axis counts."""
        square = len(self.shape) == 3 and self.shape[0] == self.shape[1] != self.shape[2]
        return square and 0 not in self.shape and self.dtype.kind in "fiu"

    @property
    def matrices(self) -> tuple[int, ...]:
        """The shape with the matrices in the last two axes."""
        return (self.shape[2], *self.shape[:2]) if self.is_c2_last else self.shape


def headers(path: Path) -> dict[str, ArrayHeader]:
    """The header of each array by its name; the only array of a .npy has an empty name."""
    with _readable(path):
        with path.open("rb") as stream:
            if stream.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
                stream.seek(0)
                header = _header(stream)
                _check_length(header, path.stat().st_size - stream.tell())
                return {"": header}
        with zipfile.ZipFile(path) as archive:
            headers_by_name = {}
            for name in archive.namelist():
                if name.endswith(".npy"):
                    with archive.open(name) as stream:
                        headers_by_name[name.removesuffix(".npy")] = _header(stream)
            return headers_by_name


def read(path: Path, name: str) -> NDArray[np.generic]:
    """An array: of a .npz in memory, of a .npy on the disk until it is used."""
    with _readable(path):
        if not name:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        with np.load(path, allow_pickle=False) as archive:
            return archive[name]


@dataclass
class Stack:
    """Reads single matrices of an array (n, n), (K, n, n) or (n, n, K).

    From a .npy only the matrix is read. A .npz is unpacked once, and kept until `release`.
    """

    path: Path
    name: str
    header: ArrayHeader
    _unpacked: NDArray[np.generic] | None = field(default=None, init=False)

    def __call__(self, index: int, frames: slice) -> NDArray[np.generic]:
        """One matrix, cut to some frames."""
        array = self._unpacked if self._unpacked is not None else read(self.path, self.name)
        if self.name:
            self._unpacked = array
        if self.header.is_c2_last:
            return array[frames, frames, index]
        return array.reshape(-1, *self.header.shape[-2:])[index, frames, frames]

    def release(self) -> None:
        """Release the memory of the unpacked array."""
        self._unpacked = None


def raw(path: Path, name: str, index: int) -> RawMatrix | None:
    """The location of a matrix in the file; None if its rows are not stored one after another."""
    array = None if name else read(path, name)
    if not isinstance(array, np.memmap) or not array.flags.c_contiguous:
        return None
    if array.dtype not in (np.float32, np.float64) or array.shape[-2] != array.shape[-1]:
        return None
    n = array.shape[-1]
    offset = array.offset + index * n**2 * array.itemsize
    return RawMatrix(path.absolute(), offset, n, array.dtype)


def companion(
    arrays: Mapping[str, ArrayHeader], path: Path, name: str, sizes: tuple[int, ...]
) -> NDArray[np.float64] | None:
    """Read an array beside C2, such as q, as a list; None if it is absent."""
    if name not in arrays:
        return None
    header = arrays[name]
    if header.dtype.kind not in "fiu" or prod(header.shape) not in sizes:
        wanted = " or ".join(map(str, sorted(set(sizes))))
        raise InputError(
            f"{path}: the array {name} has shape {header.shape} and type {header.dtype}; "
            f"{wanted} real number(s) are needed"
        )
    return np.ravel(read(path, name)).astype(np.float64)


def frame_time(
    arrays: Mapping[str, ArrayHeader], path: Path, name: str, n_frames: int
) -> tuple[float | None, str]:
    """The step of a list of times (N,) or a grid of them (N, N), seconds, and an explanation."""
    time = companion(arrays, path, name, (n_frames, n_frames**2))
    if time is None:
        return None, f"{name} is missing"
    steps = np.diff(_along_one_axis(time, n_frames))
    dt = float(np.mean(steps)) if len(steps) else 0.0
    if not (dt > 0 and np.all(np.abs(steps - dt) <= SAME_STEP * n_frames * dt)):
        return None, f"{name} does not rise in equal steps"
    return dt, f"step of {name}"


def _along_one_axis(time: NDArray[np.float64], n_frames: int) -> NDArray[np.float64]:
    """The time (N,) from a list, or from a grid that varies along one of its axes."""
    if len(time) == n_frames:
        return time
    grid = time.reshape(n_frames, n_frames)
    return grid[:, 0] if grid[0, 0] != grid[-1, 0] else grid[0]


def contents(arrays: Mapping[str, ArrayHeader]) -> str:
    """Names, shapes and types, for a message."""
    lines = (f"{name} {header.shape} {header.dtype}" for name, header in arrays.items())
    return shortened(line.strip() for line in lines) or "nothing"


def _header(stream: IO[bytes]) -> ArrayHeader:
    version = npy.read_magic(stream)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"array format {version} is not one of plain numbers")
    shape, _, dtype = readers[version](stream)
    return ArrayHeader(shape, dtype)


def _check_length(header: ArrayHeader, available: int) -> None:
    needed = prod(header.shape) * header.dtype.itemsize
    if available < needed:
        raise ValueError(f"{available} bytes where an array of {needed} bytes is announced")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        raise InputError(f"{path}: NumPy cannot read it ({error}); is it complete?") from error
