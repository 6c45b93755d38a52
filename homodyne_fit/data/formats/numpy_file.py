"""Reading NumPy's own files such that whatever is wrong with one is one clear error."""

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

# What NumPy and zipfile raise on a damaged file.
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
    """What a file says of an array ahead of its numbers."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def is_c2(self) -> bool:
        """Whether the array can be one square matrix of real numbers, or several."""
        square = len(self.shape) in (2, 3) and self.shape[-1] == self.shape[-2]
        return square and 0 not in self.shape and self.dtype.kind in "fiu"


def headers(path: Path) -> dict[str, ArrayHeader]:
    """Return the header of each array of a .npz; a .npy has one, and its name is empty."""
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
    """Return an array: that of a .npy left on the disk until it is used, of a .npz in memory."""
    with _readable(path):
        if not name:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        with np.load(path, allow_pickle=False) as archive:
            return archive[name]


@dataclass
class Stack:
    """Reads matrices of an array (n, n) or (K, n, n), one at a time.

    Of a .npy it reads only those; a .npz has to be unpacked, which is done once until `release`.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    _unpacked: NDArray[np.generic] | None = field(default=None, init=False)

    def __call__(self, index: int, frames: slice) -> NDArray[np.generic]:
        """Return one matrix, cut to some frames."""
        array = self._unpacked if self._unpacked is not None else read(self.path, self.name)
        if self.name:
            self._unpacked = array
        return array.reshape(-1, *self.shape[-2:])[index, frames, frames]

    def release(self) -> None:
        """Let go of what is unpacked."""
        self._unpacked = None


def raw(path: Path, name: str, index: int) -> RawMatrix | None:
    """Return where the rows of matrix (n, n) follow each other in the file, if they do."""
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
    """Read what stands beside C2 as a list; None if it is absent."""
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
    """Return names, shapes and types, for a message."""
    shown = (f"{name} {found.shape} {found.dtype}" for name, found in arrays.items())
    return shortened(each.strip() for each in shown) or "nothing"


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
