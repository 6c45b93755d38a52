"""Reading HDF5 such that whatever is wrong with a file is one clear error."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from homodyne_fit.errors import InputError
from homodyne_fit.loaders.listing import names as listed
from homodyne_fit.loaders.two_time_file import TwoTimeFile

__all__ = [
    "contents",
    "frame_time",
    "group_at",
    "integers",
    "numbered",
    "numbers",
    "opened",
    "texts",
    "two_time_file",
    "unit",
]

# What h5py raises on a damaged file; the last when it cannot decode HDF5's own message.
DAMAGE = (KeyError, OSError, RuntimeError, UnicodeDecodeError)
SECONDS = ("", "s", "sec", "second", "seconds")


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading; what HDF5 cannot do inside the block is an `InputError`."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DAMAGE as error:
        raise InputError(f"{path}: HDF5 cannot read it ({error}); is it complete?") from error


def contents(file: h5py.File) -> str:
    """Return the names of the two uppermost levels, for a message."""
    found = []
    for name in file:
        below = file.get(name)
        inner = list(below) if isinstance(below, h5py.Group) else []
        found += [f"/{name}/{key}" for key in inner] or [f"/{name}"]
    return listed(found) or "nothing"


def group_at(file: h5py.File, name: str) -> h5py.Group | None:
    """Return the group of that name, or None if there is none."""
    found = _at(file, name)
    return found if isinstance(found, h5py.Group) else None


def numbers(file: h5py.File, name: str) -> NDArray[np.float64]:
    """Read a dataset of real numbers as one list, whatever its shape."""
    return _values(file, name, "fiu").astype(np.float64)


def integers(file: h5py.File, name: str) -> NDArray[np.int64]:
    """Read a dataset of whole numbers as one list, whatever its shape and type."""
    values = _values(file, name, "fiu")
    whole = values.astype(np.int64) if np.all(np.isfinite(values)) else None
    if whole is None or np.any(whole != values):
        raise InputError(f"{file.filename}: {name} must hold whole numbers")
    return whole


def texts(file: h5py.File, name: str) -> list[str]:
    """Read a dataset of strings; an absent one, or one of anything else, says nothing: []."""
    dataset = _at(file, name)
    if not isinstance(dataset, h5py.Dataset) or h5py.check_string_dtype(dataset.dtype) is None:
        return []
    return np.ravel(dataset.asstr(errors="replace")[()]).tolist()


def unit(file: h5py.File, name: str) -> str:
    """Return the attribute ``units`` of a dataset, or an empty string."""
    dataset = _at(file, name)
    stated = dataset.attrs.get("units", "") if isinstance(dataset, h5py.Dataset) else ""
    first = np.ravel(stated)[0] if np.size(stated) else ""
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)


def frame_time(file: h5py.File, name: str, *factors: str) -> tuple[float | None, str]:
    """Return the time between correlated frames, a product of scalars, and how it came about.

    Parameters
    ----------
    name : str
        The time between detector frames, seconds.
    factors : str
        How many of them make one correlated frame.
    """
    values = []
    for key in (name, *factors):
        if not isinstance(_at(file, key), h5py.Dataset):
            return None, f"{key} is missing"
        value = numbers(file, key)
        if value.size != 1 or not (np.isfinite(value[0]) and value[0] > 0):
            return None, f"{key} is {value.tolist()}, not one positive number"
        values.append(float(value[0]))
    if unit(file, name).strip().casefold() not in SECONDS:
        return None, f"{name} is in '{unit(file, name)}', not in seconds"
    terms = zip((name, *factors), values, strict=True)
    return prod(values), " × ".join(f"{Path(key).name} {value:.9g}" for key, value in terms)


def numbered(file: h5py.File, group: str) -> dict[int, str]:
    """Return the full names of a group's matrices by the number each ends with, ascending.

    HDF5 lists names as text, so that 10 precedes 2 unless all are padded to the same length.
    """
    found: dict[int, str] = {}
    for key in map(str, group_at(file, group) or ()):
        digits = re.search(r"[0-9]+$", key)
        if digits is None or int(digits[0]) in found:
            reason = "ends with no number" if digits is None else "repeats a number"
            raise InputError(f"{file.filename}: the name {group}/{key} {reason}")
        found[int(digits[0])] = f"{group}/{key}"
    if not found:
        raise InputError(f"{file.filename}: {group} holds no matrix")
    return dict(sorted(found.items()))


def two_time_file(
    file: h5py.File,
    path: Path,
    format: str,
    names: Sequence[str],
    q: NDArray[np.float64],
    phi: NDArray[np.float64],
    dt: tuple[float | None, str],
) -> TwoTimeFile:
    """Describe a file that stores each matrix as a dataset of its own, all of one size."""
    shape = _dataset(file, names[0]).shape
    if len(shape) != 2 or shape[0] != shape[1]:
        raise InputError(f"{path}: {names[0]} has shape {shape}; a square matrix is needed")
    stored = partial(_stored, path, tuple(names), shape[0])
    return TwoTimeFile(path, format, tuple(names), shape[0], q, phi, *dt, stored)


def _stored(
    path: Path, names: tuple[str, ...], n_frames: int, index: int, frames: slice
) -> NDArray[np.generic]:
    with opened(path) as file:
        dataset = _dataset(file, names[index])
        if dataset.shape != (n_frames, n_frames):
            raise InputError(
                f"{path}: {names[index]} has shape {dataset.shape}, "
                f"but {names[0]} has {(n_frames, n_frames)}"
            )
        return np.asarray(dataset[frames, frames])


def _values(file: h5py.File, name: str, kinds: str) -> NDArray[Any]:
    values = np.ravel(_dataset(file, name)[()])
    if values.dtype.kind not in kinds or not values.size:
        raise InputError(f"{file.filename}: {name} must hold numbers, not {values.dtype}")
    return values


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    found = _at(file, name)
    if isinstance(found, h5py.Dataset):
        return found
    what = "is missing" if found is None else "is not a dataset"
    raise InputError(f"{file.filename}: {name} {what}; the format needs it")


def _at(file: h5py.File, name: str) -> object:
    found = file.get(name)
    if isinstance(found, h5py.Dataset):
        try:
            _ = found.dtype
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{file.filename}: {name} has a type that cannot be read ({error})"
            ) from error
    return found
