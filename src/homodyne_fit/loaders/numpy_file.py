"""Reading NumPy's own files such that whatever is wrong with one is one clear error."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from homodyne_fit.errors import InputError
from homodyne_fit.loaders.listing import names as listed

__all__ = ["ArrayHeader", "contents", "headers", "read"]

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
            found = {}
            for name in archive.namelist():
                if name.endswith(".npy"):
                    with archive.open(name) as stream:
                        found[name.removesuffix(".npy")] = _header(stream)
            return found


def read(path: Path, name: str) -> NDArray[np.generic]:
    """Return an array: that of a .npy left on the disk until it is used, of a .npz in memory."""
    with _readable(path):
        if not name:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        with np.load(path, allow_pickle=False) as archive:
            return archive[name]


def contents(arrays: Mapping[str, ArrayHeader]) -> str:
    """Return names, shapes and types, for a message."""
    shown = (f"{name} {found.shape} {found.dtype}" for name, found in arrays.items())
    return listed(each.strip() for each in shown) or "nothing"


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
