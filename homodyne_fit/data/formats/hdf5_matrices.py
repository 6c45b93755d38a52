"""Locations of matrices in an HDF5 file: separate datasets, or slices of one array."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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
    """The location of one matrix.

    Attributes
    ----------
    name : str
        Name of the dataset.
    axis, index : int or None
        The slice of an array of three dimensions; None for a separate dataset.
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
        """Shape of the matrix, from the shape of the dataset."""
        return shape if self.axis is None else shape[: self.axis] + shape[self.axis + 1 :]

    def read(self, dataset: h5py.Dataset, rows: slice, columns: slice) -> NDArray[np.generic]:
        """Read only some rows and columns of the matrix."""
        selection: list[slice | int] = [rows, columns]
        if self.axis is not None:
            selection.insert(self.axis, self.index)
        return np.asarray(dataset[tuple(selection)])


def numbered(file: h5py.File, group: str) -> dict[int, MatrixLocation]:
    """The matrices of a group, in the order of the numbers at the end of their names.

    HDF5 sorts names as text, so that 10 comes before 2 unless all numbers have the same length.
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
    """Locations of the matrices along one axis of a dataset."""
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
    doubts: Mapping[str, str] | None = None,
) -> TwoTimeFile:
    """Describe a file with a matrix at each location, all of the same size.

    Parameters
    ----------
    upside_down : bool
        Whether time begins at the last row of a matrix, so that its origin is at the lower left.
    populated, shift, doubts, and others
        As in `TwoTimeFile`.
    """
    shape = locations[0].shape(hdf5.dataset(file, locations[0].name).shape)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise InputError(f"{path}: {locations[0]} has shape {shape}; a square matrix is needed")
    hdf5.require_filters(hdf5.dataset(file, locations[0].name))
    names = tuple(map(str, locations))
    stored = partial(_stored, path, tuple(locations), shape[0], upside_down)
    raw = partial(_raw, path, tuple(locations), shape[0], upside_down)
    return TwoTimeFile(
        path,
        format,
        names,
        shape[0],
        q,
        phi,
        *dt,
        stored,
        populated,
        shift=shift,
        raw=raw,
        doubts=doubts or {},
        notes=(hdf5.WITHOUT_LOCK,) if hdf5.is_unlocked(file) else (),
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
    """The location of a matrix in the file; None if its rows are not stored one after another."""
    location = locations[index]
    with hdf5.opened(path) as file:
        dataset = hdf5.dataset(file, location.name)
        other_file = dataset.is_virtual or dataset.external is not None or file.userblock_size
        if (
            upside_down
            or other_file
            or dataset.chunks is not None
            or location.axis not in (None, 0)
        ):
            return None
        begin, dtype = dataset.id.get_offset(), np.dtype(dataset.dtype)
        if begin is None or dtype not in (np.float32, np.float64):
            return None
        offset = begin + location.index * n_frames**2 * dtype.itemsize
        return RawMatrix(path.absolute(), offset, n_frames, dtype)
