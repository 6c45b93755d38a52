"""Matrices that are too many for the memory: left in their file, or unpacked into another.

They are left where they are if their rows lie in the file as in memory, t1 < t2 included. All
others (compressed or cut into chunks, of integers, with the bin last, upside down, of the lower
half, less 1) are unpacked once, into a scratch file: a fit passes over the points some ten times,
and unpacking takes longer than summing. Of each row the file holds what follows the diagonal; what
precedes it is a hole, which takes no space where the file system knows holes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.formats.two_time_file import TwoTimeFile, checked_part
from homodyne_fit.data.storage.memory import size_in_words
from homodyne_fit.data.storage.stored_matrices import RawMatrix, ScratchFile, StoredMatrices
from homodyne_fit.errors import InputError

__all__ = ["Request", "require_memory", "store"]

# A matrix that is read needs memory for so many: as stored, completed, and compared.
COPIES = 3


@dataclass(frozen=True, eq=False)
class Request:
    """What is wanted of a file.

    Attributes
    ----------
    file : TwoTimeFile
    positions : (K,) int
        Of the matrices in the file.
    frames : slice
        Those to keep, n of them.
    masked : (n,) bool
        Which of these are left out.
    dtype : dtype
        Of the numbers, float32 or float64.
    """

    file: TwoTimeFile
    positions: NDArray[np.intp]
    frames: slice
    masked: NDArray[np.bool_]
    dtype: np.dtype[np.floating]

    @property
    def size(self) -> int:
        """Bytes of a matrix."""
        return len(self.masked) ** 2 * self.dtype.itemsize


def store(request: Request, memory: int, scratch: Path | None) -> tuple[StoredMatrices, str]:
    """Check K matrices, one at a time, and leave them on the disk.

    Parameters
    ----------
    request : Request
    memory : int
        Bytes that may be used.
    scratch : Path or None
        Folder for a scratch file; the one for temporary files when None.

    Returns
    -------
    StoredMatrices
    str
        Where they are, in words.

    Raises
    ------
    InputError
        If a matrix cannot be used, one alone exceeds the memory, or a scratch file does not fit.
    """
    require_memory(request, memory)
    locations = _in_place(request)
    if locations is not None:
        stored = StoredMatrices(locations, request.frames.start, request.masked)
        return stored, "they stay in the file"
    return _unpacked(request, Path(scratch or tempfile.gettempdir()).absolute())


def require_memory(request: Request, memory: int) -> None:
    """Raise an `InputError` if a single matrix needs more than so many bytes."""
    needed = COPIES * request.size
    if needed > memory:
        raise InputError(
            f"{request.file.path}: {size_in_words(needed)} are needed to read a matrix of "
            f"{len(request.masked)} frames, but {size_in_words(memory)} of memory are allowed; "
            "allow more, or keep fewer frames"
        )


def _in_place(request: Request) -> tuple[RawMatrix, ...] | None:
    """Check the matrices, and return where they lie if they can be used there."""
    file, positions = request.file, [int(index) for index in request.positions]
    locations = tuple(location for location in map(file.raw, positions) if location is not None)
    same = all(location.dtype == request.dtype for location in locations)
    if len(locations) < len(positions) or not same or file.shift:
        return None
    for index in positions:
        if checked_part(file.read_stored(index, request.frames), file.name(index)) == "lower":
            return None
    return locations


def _unpacked(request: Request, folder: Path) -> tuple[StoredMatrices, str]:
    """Check the matrices, and write what follows the diagonal into a file in a folder."""
    n, count, number = len(request.masked), len(request.positions), request.dtype.itemsize
    path = _scratch_file(folder, count * n * (n + 1) // 2 * number, request.file.path)
    owner = ScratchFile(path)
    for k, index in enumerate(request.positions):
        matrix = request.file.read(int(index), request.frames).astype(request.dtype, copy=False)
        try:
            with path.open("r+b") as stream:
                for i, row in enumerate(matrix):
                    stream.seek(k * request.size + (i * n + i) * number)
                    stream.write(row[i:].data)
        except OSError as error:
            raise InputError(f"{path}: the scratch file cannot be written ({error})") from error
    locations = tuple(RawMatrix(path, k * request.size, n, request.dtype) for k in range(count))
    where = f"they are unpacked into a scratch file in {folder}"
    return StoredMatrices(locations, 0, request.masked, owner), where


def _scratch_file(folder: Path, size: int, source: Path) -> Path:
    """Make an empty file in a folder that has room for it."""
    try:
        free = shutil.disk_usage(folder).free
        if free < size:
            raise InputError(
                f"{source}: unpacking it takes {size_in_words(size)}, but {folder} has "
                f"{size_in_words(free)} free; name another folder for scratch files"
            )
        handle, name = tempfile.mkstemp(prefix="homodyne_fit_", suffix=".c2", dir=folder)
        os.close(handle)
    except OSError as error:
        raise InputError(f"{folder}: no scratch file can be made ({error.strerror})") from error
    return Path(name)
