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

__all__ = ["ArrayHeader", "Stack", "companion", "contents", "headers", "raw", "read"]

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
    """Reads single matrices of an array (n, n) or (K, n, n).

    From a .npy only the matrix is read. A .npz is unpacked once, and kept until `release`.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    _unpacked: NDArray[np.generic] | None = field(default=None, init=False)

    def __call__(self, index: int, frames: slice) -> NDArray[np.generic]:
        """One matrix, cut to some frames."""
        array = self._unpacked if self._unpacked is not None else read(self.path, self.name)
        if self.name:
            self._unpacked = array
        return array.reshape(-1, *self.shape[-2:])[index, frames, frames]

    def release(self) -> None:
        """Release the memory of the unpacked array."""
        self._unpacked = None


def raw(path: Path, name: str, index: int) -> RawMatrix | None:
    """The location of a matrix in the file; None if its rows are not stored one after another."""
    array = None if name else read(path, name)
    if not isinstance(array, np.memmap) or not array.flags.c_contiguous:
        return None
    if array.dtype not in (np.float32, np.float64):
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
