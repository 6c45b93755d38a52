"""Matrices that need too much memory: they stay in their file, or are unpacked into a scratch file.

They stay in their file if it stores their rows as in memory, with the entries at t1 < t2. All
others (compressed, in chunks, of integers, with the bin last, upside down, lower half, c2 − 1, with
zeros that were not computed) are unpacked once into a scratch file: a fit makes about ten passes,
and unpacking takes longer than summing. The scratch file has the entries of each row from the
diagonal on. The entries before the diagonal are a hole, which takes no space in file systems with
sparse files.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.formats.two_time_file import TwoTimeFile, checked_part
from homodyne_fit.data.storage.memory import size_in_words
from homodyne_fit.data.storage.stored_matrices import RawMatrix, ScratchFile, StoredMatrices
from homodyne_fit.data.uncomputed import note_on_zeros, uncomputed_zeros
from homodyne_fit.errors import InputError
from homodyne_fit.progress import Progress, Step, not_told

__all__ = ["Request", "require_memory", "store"]

# Number of copies of a matrix in memory while it is read: as stored, completed, and compared.
COPIES = 3


@dataclass(frozen=True, eq=False)
class Request:
    """Matrices of a file that are wanted.

    Attributes
    ----------
    file : TwoTimeFile
    positions : (K,) int
        Positions of the matrices in the file.
    frames : slice
        The n frames to keep.
    masked : (n,) bool
        Frames among them that are left out.
    dtype : dtype
        float32 or float64.
    """

    file: TwoTimeFile
    positions: NDArray[np.intp]
    frames: slice
    masked: NDArray[np.bool_]
    dtype: np.dtype[np.floating]

    @property
    def size(self) -> int:
        """Size of a matrix, bytes."""
        return len(self.masked) ** 2 * self.dtype.itemsize


def store(
    request: Request, memory: int, scratch: Path | None, progress: Progress = not_told
) -> tuple[StoredMatrices, str, list[str]]:
    """Check K matrices, one at a time, and leave them on the disk.

    Parameters
    ----------
    request : Request
    memory : int
        Memory that may be used, bytes.
    scratch : Path or None
        Folder for a scratch file; when None, the folder for temporary files.
    progress : callable
        Called with a `Step` for each matrix.

    Returns
    -------
    StoredMatrices
    str
        Where they are, in words.
    list of str
        Notes on the matrices.
    """
    require_memory(request, memory)
    locations = _in_place(request, progress)
    if locations is not None:
        stored = StoredMatrices(locations, request.frames.start, request.masked)
        return stored, "they stay in the file", []
    folder = Path(scratch or tempfile.gettempdir()).absolute()
    return _unpacked(request, folder, progress)


def require_memory(request: Request, memory: int) -> None:
    """Raise an `InputError` if one matrix needs more memory than this, in bytes."""
    needed = COPIES * request.size
    if needed > memory:
        raise InputError(
            f"{request.file.path}: {size_in_words(needed)} are needed to read a matrix of "
            f"{len(request.masked)} frames, but {size_in_words(memory)} of memory are allowed; "
            "allow more, or keep fewer frames"
        )


def _in_place(request: Request, progress: Progress) -> tuple[RawMatrix, ...] | None:
    """Check the matrices; return their locations, or None if they cannot be used in their file."""
    file, positions = request.file, [int(index) for index in request.positions]
    locations = tuple(location for location in map(file.raw, positions) if location is not None)
    same = all(location.dtype == request.dtype for location in locations)
    if len(locations) < len(positions) or not same or file.shift:
        return None
    for k, index in enumerate(positions):
        progress(Step("checking", "matrix", k, len(positions)))
        matrix = file.read_stored(index, request.frames)
        if checked_part(matrix, file.name(index)) == "lower":
            return None
        if uncomputed_zeros(_without_masked(matrix, request)) is not None:
            return None
    return locations


def _without_masked(matrix: NDArray[Any], request: Request) -> NDArray[np.floating]:
    """The matrix as it is stored on the disk, without the frames that are left out."""
    matrix = matrix.astype(request.dtype)
    matrix[request.masked] = matrix[:, request.masked] = np.nan
    return matrix


def _unpacked(
    request: Request, folder: Path, progress: Progress
) -> tuple[StoredMatrices, str, list[str]]:
    """Check the matrices, and write their upper halves into a scratch file."""
    n, count, number = len(request.masked), len(request.positions), request.dtype.itemsize
    path = _scratch_file(folder, count * n * (n + 1) // 2 * number, request.file.path)
    owner = ScratchFile(path)
    points_of_zeros = []
    for k, index in enumerate(request.positions):
        progress(Step("unpacking", "matrix", k, count))
        matrix = _without_masked(request.file.read(int(index), request.frames), request)
        zeros = uncomputed_zeros(matrix)
        points_of_zeros.append(0 if zeros is None else int(np.count_nonzero(zeros)))
        if zeros is not None:
            matrix[zeros] = np.nan
        try:
            with path.open("r+b") as stream:
                for i, row in enumerate(matrix):
                    stream.seek(k * request.size + (i * n + i) * number)
                    stream.write(row[i:].data)
        except OSError as error:
            raise InputError(f"{path}: the scratch file cannot be written ({error})") from error
    locations = tuple(RawMatrix(path, k * request.size, n, request.dtype) for k in range(count))
    where = f"they are unpacked into a scratch file in {folder}"
    stored = StoredMatrices(locations, 0, request.masked, owner)
    return stored, where, note_on_zeros(points_of_zeros)


def _scratch_file(folder: Path, size: int, source: Path) -> Path:
    """Make an empty file in a folder that has enough space."""
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
