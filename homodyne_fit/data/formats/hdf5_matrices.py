"""Where the matrices lie in an HDF5 file: each a dataset of its own, or slices of one array."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.formats import hdf5
from homodyne_fit.data.formats.two_time_file import Populated, TwoTimeFile
from homodyne_fit.data.storage.stored_matrices import RawMatrix
from homodyne_fit.errors import InputError

__all__ = ["MatrixLocation", "numbered", "locations_in_array", "two_time_file"]


@dataclass(frozen=True)
class MatrixLocation:
    """Where one matrix lies.

    Attributes
    ----------
    name : str
        Of the dataset.
    axis, index : int or None
        Which slice of an array of three dimensions it is; None for a dataset of its own.
    """

    name: str
    axis: int | None = None
    index: int = 0

    def __str__(self) -> str:
        marks = [":", ":", ":"]
        if self.axis is None:
            return self.name
        marks[self.axis] = str(self.index)
        return f"{self.name}[{', '.join(marks)}]"

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the matrix, given that of the dataset."""
        return shape if self.axis is None else shape[: self.axis] + shape[self.axis + 1 :]

    def read(self, dataset: h5py.Dataset, rows: slice, columns: slice) -> NDArray[np.generic]:
        """Read some rows and columns of the matrix, and nothing else."""
        selection: list[slice | int] = [rows, columns]
        if self.axis is not None:
            selection.insert(self.axis, self.index)
        return np.asarray(dataset[tuple(selection)])


def numbered(file: h5py.File, group: str) -> dict[int, MatrixLocation]:
    """Return the matrices of a group by the number that each name ends with, ascending.

    HDF5 lists names as text, so that 10 precedes 2 unless all are padded to the same length.
    """
    locations: dict[int, MatrixLocation] = {}
    for key in map(str, hdf5.group_at(file, group) or ()):
        digits = re.search(r"[0-9]+$", key)
        if digits is None or int(digits[0]) in locations:
            reason = "ends with no number" if digits is None else "repeats a number"
            raise InputError(f"{file.filename}: the name {group}/{key} {reason}")
        locations[int(digits[0])] = MatrixLocation(f"{group}/{key}")
    if not locations:
        raise InputError(f"{file.filename}: {group} holds no matrix")
    return dict(sorted(locations.items()))


def locations_in_array(name: str, count: int, axis: int) -> list[MatrixLocation]:
    """Return the locations of the matrices along one axis of a dataset."""
    return [MatrixLocation(name, axis, index) for index in range(count)]


def two_time_file(
    file: h5py.File,
    path: Path,
    format: str,
    locations: Sequence[MatrixLocation],
    q: NDArray[np.float64] | None,
    phi: NDArray[np.float64] | None,
    dt: tuple[float | None, str],
    *,
    populated: Populated = "",
    shift: float = 0.0,
    upside_down: bool = False,
) -> TwoTimeFile:
    """Describe a file with a matrix at each of the locations, all of one size.

    Parameters
    ----------
    upside_down : bool
        Whether time begins with the last row of a matrix, as with an origin at the lower left.
    populated, shift, and the others
        As in `TwoTimeFile`.
    """
    shape = locations[0].shape(hdf5.dataset(file, locations[0].name).shape)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise InputError(f"{path}: {locations[0]} has shape {shape}; a square matrix is needed")
    names = tuple(map(str, locations))
    stored = partial(_stored, path, tuple(locations), shape[0], upside_down)
    raw = partial(_raw, path, tuple(locations), shape[0], upside_down)
    return TwoTimeFile(
        path, format, names, shape[0], q, phi, *dt, stored, populated, shift=shift, raw=raw
    )


def _stored(
    path: Path,
    locations: tuple[MatrixLocation, ...],
    n_frames: int,
    upside_down: bool,
    index: int,
    frames: slice,
) -> NDArray[np.generic]:
    location = locations[index]
    with hdf5.opened(path) as file:
        dataset = hdf5.dataset(file, location.name)
        shape = location.shape(dataset.shape)
        if shape != (n_frames, n_frames):
            raise InputError(
                f"{path}: {location} has shape {shape}, but {locations[0]} has "
                f"{(n_frames, n_frames)}; all must be alike"
            )
        if not upside_down:
            return location.read(dataset, frames, frames)
        start, stop, _ = frames.indices(n_frames)
        rows = slice(n_frames - stop, n_frames - start)
        return location.read(dataset, rows, slice(start, stop))[::-1]


def _raw(
    path: Path, locations: tuple[MatrixLocation, ...], n_frames: int, upside_down: bool, index: int
) -> RawMatrix | None:
    """Return where the rows of a matrix follow each other in the file, if they do."""
    location = locations[index]
    with hdf5.opened(path) as file:
        dataset = hdf5.dataset(file, location.name)
        elsewhere = dataset.is_virtual or dataset.external is not None or file.userblock_size
        if upside_down or elsewhere or dataset.chunks is not None or location.axis not in (None, 0):
            return None
        begin, dtype = dataset.id.get_offset(), np.dtype(dataset.dtype)
        if begin is None or dtype not in (np.float32, np.float64):
            return None
        offset = begin + location.index * n_frames**2 * dtype.itemsize
        return RawMatrix(path.absolute(), offset, n_frames, dtype)
