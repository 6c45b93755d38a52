"""Reading HDF5, with one clear error for everything that is wrong with a file."""

from __future__ import annotations

import errno
import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.units import require_degrees, require_inverse_angstrom
from homodyne_fit.errors import InputError, shortened

__all__ = [
    "WITHOUT_LOCK",
    "attribute_numbers",
    "attribute_text",
    "contents",
    "dataset",
    "exists",
    "frame_time",
    "group_at",
    "has_attribute",
    "has_group",
    "integers",
    "list_of_numbers",
    "open_file",
    "read_numbers",
    "opened",
    "shape_of",
    "texts",
    "unit",
    "at_labels",
    "broken_link",
    "check_units",
    "is_unlocked",
    "q_and_phi",
    "require_filters",
]


# Errors that h5py raises for a damaged file; the last one if it cannot decode a message of HDF5.
DAMAGE = (KeyError, OSError, RuntimeError, UnicodeDecodeError)

# Names for the unit of seconds.
SECONDS = ("", "s", "sec", "second", "seconds")


# Numbers of errors of file systems that have no locks.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)

# The same for a file that another program has locked.
LOCKED = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)

WITHOUT_LOCK = (
    "the file system has no locks, so the file is read without one; no other program may write to "
    "it meanwhile"
)


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading; errors of HDF5 in the block become an `InputError`."""
    _register_filters()
    try:
        with open_file(path) as file:
            yield file
    except DAMAGE as error:
        if "required filter" in str(error) or "plugin" in str(error):
            raise InputError(f"{path}: {_missing_filter()} ({_one_line(error)})") from error
        raise InputError(f"{path}: HDF5 cannot read it ({error}); is it complete?") from error


def _missing_filter() -> str:
    """That a filter is missing, and how to get it."""
    if _register_filters():
        return (
            "is compressed in a way that neither HDF5 nor hdf5plugin knows; set "
            "HDF5_PLUGIN_PATH to the folder of the plugin that its writer used, or have h5repack "
            "write it anew there"
        )
    return (
        "is compressed in a way that needs a plugin of HDF5, such as bitshuffle or zstd; install "
        "it with: pip install hdf5plugin"
    )


def is_unlocked(file: h5py.File) -> bool:
    """Whether the file was opened without a lock, because the file system has none."""
    return not file.id.get_access_plist().get_file_locking()[0]


def open_file(path: Path) -> h5py.File:
    """Open a file for reading, without a lock where the file system has none."""
    try:
        return h5py.File(path, "r")
    except OSError as error:
        number = _error_number(error)
        if "lock" in str(error) and number in NO_LOCKS:
            return h5py.File(path, "r", locking=False)
        if "lock" in str(error) and number in LOCKED:
            raise InputError(
                f"{path}: another program has the file open for writing; wait until it is closed"
            ) from error
        if "file is already open for write" in str(error):
            raise InputError(
                f"{path}: the file is open for writing, or its writer has ended without closing "
                "it; wait, or clear the mark with: h5clear -s FILE"
            ) from error
        raise


def _error_number(error: OSError) -> int | None:
    """The number of an error; HDF5 has it inside a longer text."""
    stated = re.search(r"errno = (\d+)", str(error))
    return int(stated[1]) if stated else error.errno


@functools.cache
def _register_filters() -> bool:
    """Make the filters of hdf5plugin known to HDF5; whether this package is installed."""
    with suppress(ImportError):
        import_module("hdf5plugin")
        return True
    return False


def _one_line(error: Exception) -> str:
    return " ".join(str(error).strip("'\"").split())


def require_filters(dataset: h5py.Dataset) -> None:
    """Refuse a dataset whose filter is missing; some filters may be left out of chunks."""
    plist = dataset.id.get_create_plist()
    missing = [
        plist.get_filter(k)
        for k in range(plist.get_nfilters())
        if not h5py.h5z.filter_avail(plist.get_filter(k)[0])
    ]
    if not missing or not dataset.size:
        return
    try:
        _ = dataset[(slice(0, 1),) * dataset.ndim]
    except DAMAGE as error:
        code, _, _, name = missing[0]
        text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        shown = f"{text.split(';')[0]}, number {code}" if text else f"number {code}"
        raise InputError(
            f"{dataset.file.filename}: {dataset.name} {_missing_filter()} (the filter is {shown})"
        ) from error


def broken_link(file: h5py.File, name: str) -> str:
    """Where the first link on the way to a name leads, if there is nothing; an empty text else."""
    parts = name.strip("/").split("/")
    for end in range(1, len(parts) + 1):
        part = "/" + "/".join(parts[:end])
        try:
            link = file.get(part, getlink=True)
        except KeyError:
            return ""
        if isinstance(link, h5py.ExternalLink) and file.get(part) is None:
            target = Path(file.filename).parent / link.filename
            what = "it has no such part" if target.exists() else "there is no such file"
            return f"{part} is a link to {link.path} of {link.filename}, but {what}"
        if isinstance(link, h5py.SoftLink) and file.get(part) is None:
            return f"{part} is a link to {link.path}, which is not there"
        if link is None:
            return ""
    return ""


def contents(file: h5py.File) -> str:
    """Names in the two uppermost levels, for a message."""
    names = []
    for name in file:
        below = file.get(name)
        inner = list(below) if isinstance(below, h5py.Group) else []
        names += [f"/{name}/{key}" for key in inner] or [f"/{name}"]
    return shortened(names) or "nothing"


def group_at(file: h5py.File, name: str) -> h5py.Group | None:
    """The group of that name, or None if there is none."""
    group = _at(file, name)
    return group if isinstance(group, h5py.Group) else None


def has_group(name: str) -> Callable[[h5py.File], bool]:
    """A function that tells whether a file has a group of that name."""
    return lambda file: group_at(file, name) is not None


def exists(file: h5py.File, name: str) -> bool:
    """Whether the file has a group or a dataset of that name."""
    return isinstance(_at(file, name), h5py.Group | h5py.Dataset)


def shape_of(file: h5py.File, name: str) -> tuple[int, ...] | None:
    """The shape of a dataset, or None if there is none of that name."""
    node = _at(file, name)
    return node.shape if isinstance(node, h5py.Dataset) else None


def list_of_numbers(file: h5py.File, name: str) -> NDArray[np.float64]:
    """Read a dataset of real numbers of shape (n,), (1, n) or (n, 1) as one list."""
    shape = dataset(file, name).shape
    if len(shape) > 2 or (len(shape) == 2 and 1 not in shape):
        raise InputError(f"{file.filename}: {name} has shape {shape}; one list is needed")
    return read_numbers(file, name)


def read_numbers(file: h5py.File, name: str) -> NDArray[np.float64]:
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
    """Read a dataset of strings; the list is empty if there is no such dataset."""
    dataset = _at(file, name)
    if not isinstance(dataset, h5py.Dataset) or h5py.check_string_dtype(dataset.dtype) is None:
        return []
    return np.ravel(dataset.asstr(errors="replace")[()]).tolist()


def unit(file: h5py.File, name: str) -> str:
    """The attribute ``units`` of a dataset, or an empty string."""
    return attribute_text(file, name, "units")


def attribute_text(file: h5py.File, name: str, attribute: str) -> str:
    """An attribute as text, or an empty string if there is none."""
    node = _at(file, name)
    has_attributes = isinstance(node, h5py.Group | h5py.Dataset)
    value = node.attrs.get(attribute, "") if has_attributes else ""
    first = np.ravel(value)[0] if np.size(value) else ""
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)


def has_attribute(file: h5py.File, name: str, attribute: str) -> bool:
    """Whether a group or dataset of that name has this attribute."""
    node = _at(file, name)
    return isinstance(node, h5py.Group | h5py.Dataset) and attribute in node.attrs


def attribute_numbers(file: h5py.File, name: str, attribute: str) -> NDArray[np.float64] | None:
    """An attribute as a list of numbers, or None if there are no numbers."""
    node = _at(file, name)
    if not isinstance(node, h5py.Group | h5py.Dataset) or attribute not in node.attrs:
        return None
    values = np.ravel(np.asarray(node.attrs[attribute]))
    return values.astype(np.float64) if values.size and values.dtype.kind in "fiu" else None


def frame_time(
    file: h5py.File, name: str, *factors: str, factors_optional: bool = False
) -> tuple[float | None, str]:
    """The time between correlated frames, a product of scalars, and an explanation.

    Parameters
    ----------
    name : str
        Dataset of the time between detector frames, seconds.
    factors : str
        Datasets of the numbers of detector frames that make one correlated frame.
    factors_optional : bool
        Whether a factor that is not in the file is 1.
    """
    values, absent = [], []
    for key in (name, *factors):
        if not isinstance(_at(file, key), h5py.Dataset):
            if factors_optional and key != name:
                absent.append(Path(key).name)
                values.append(1.0)
                continue
            return None, f"{key} is missing"
        value = read_numbers(file, key)
        if value.size != 1 or not (np.isfinite(value[0]) and value[0] > 0):
            return None, f"{key} is {value.tolist()}, not one positive number"
        values.append(float(value[0]))
    if unit(file, name).strip().casefold() not in SECONDS:
        return None, f"{name} is in '{unit(file, name)}', not in seconds"
    terms = zip((name, *factors), values, strict=True)
    product = " × ".join(f"{Path(key).name} {value:.9g}" for key, value in terms)
    given = f"; {' and '.join(absent)} not in the file, taken as 1" if absent else ""
    return prod(values), product + given


def _values(file: h5py.File, name: str, kinds: str) -> NDArray[Any]:
    values = np.ravel(dataset(file, name)[()])
    if values.dtype.kind not in kinds or not values.size:
        raise InputError(f"{file.filename}: {name} must hold numbers, not {values.dtype}")
    return values


def dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """The dataset of that name, which the format needs."""
    node = _at(file, name)
    if isinstance(node, h5py.Dataset):
        return node
    if node is None and (broken := broken_link(file, name)):
        raise InputError(f"{file.filename}: {broken}")
    what = "is missing" if node is None else "is not a dataset"
    raise InputError(f"{file.filename}: {name} {what}; the format needs it")


def _at(file: h5py.File, name: str) -> object:
    node = file.get(name)
    if isinstance(node, h5py.Dataset):
        try:
            _ = node.dtype
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{file.filename}: {name} has a type that cannot be read ({error})"
            ) from error
    return node


def q_and_phi(
    file: h5py.File, q_name: str, phi_name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read q (Å⁻¹) and φ (degrees) of B bins, (B,) each, from two lists of equal length."""
    q, phi = list_of_numbers(file, q_name), list_of_numbers(file, phi_name)
    if len(q) != len(phi):
        raise InputError(f"{file.filename}: {q_name} has {len(q)} bins, but {phi_name} {len(phi)}")
    check_units(file, q_name, phi_name, q)
    return q, phi


def check_units(file: h5py.File, q_name: str, phi_name: str, q: NDArray[np.float64]) -> None:
    """Refuse q with a unit other than Å⁻¹, and φ with a unit of radians."""
    require_inverse_angstrom(unit(file, q_name), f"{file.filename}: {q_name}", q)
    require_degrees(unit(file, phi_name), f"{file.filename}: {phi_name}")


def at_labels[Kind: np.generic](
    values: NDArray[Kind], labels: NDArray[np.int64], values_name: str, labels_name: str
) -> NDArray[Kind]:
    """The values (B, ...) at labels (M,), which are counted from 1; the names are for a message."""
    if labels.min() < 1 or labels.max() > len(values):
        raise InputError(
            f"{labels_name} goes from {labels.min()} to {labels.max()}, but {values_name} has "
            f"the labels 1 to {len(values)}"
        )
    return values[labels - 1]
