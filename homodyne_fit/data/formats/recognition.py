"""Recognition of the format of a file from its contents, never from its name.

A new format is a module with a `Format`, which is added to one of the lists below.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py

from homodyne_fit.data.formats import hdf5, numpy_file, xpcsgui
from homodyne_fit.data.formats.aps_old import APS_OLD
from homodyne_fit.data.formats.aps_u import APS_U
from homodyne_fit.data.formats.homodyne_cache import HOMODYNE_CACHE
from homodyne_fit.data.formats.numpy_file import ArrayHeader
from homodyne_fit.data.formats.nxxpcs import NXXPCS
from homodyne_fit.data.formats.plain_array import PLAIN_ARRAY
from homodyne_fit.data.formats.pychx import PYCHX
from homodyne_fit.data.formats.two_time_file import Format, TwoTimeFile
from homodyne_fit.data.formats.unknown_layout import describe_unknown
from homodyne_fit.data.formats.xpcsgui import MATLAB_SIGNATURE, XPCSGUI
from homodyne_fit.errors import InputError, missing_file

__all__ = ["FORMATS", "HDF5_FORMATS", "RESULT_FORMAT", "open_two_time"]


# Formats in HDF5; the first one that recognises a file describes it. APS-U is before NXxpcs, since
# an APS-U file may also have the groups of NXxpcs without data.
HDF5_FORMATS: tuple[Format[h5py.File], ...] = (APS_U, APS_OLD, NXXPCS, PYCHX)

# Formats in files of NumPy.
NUMPY_FORMATS: tuple[Format[Mapping[str, ArrayHeader]], ...] = (HOMODYNE_CACHE, PLAIN_ARRAY)

# Formats in files of MATLAB 5.
MATLAB_FORMATS: tuple[Format[Mapping[str, ArrayHeader]], ...] = (XPCSGUI,)

READABLE = (*HDF5_FORMATS, *NUMPY_FORMATS, *MATLAB_FORMATS)

# Formats that can be written, by their names on the command line.
FORMATS = {each.option: each for each in (*HDF5_FORMATS, *NUMPY_FORMATS) if each.write is not None}

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"

NUMPY_SIGNATURES = (b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06")  # .npy; .npz is a zip

# The attribute ``format`` of a result of a fit.
RESULT_FORMAT = "homodyne_fit result"


def open_two_time(path: str | os.PathLike[str]) -> TwoTimeFile:
    """Recognise the format of a file and describe it, without reading a matrix."""
    where = Path(path).expanduser()
    start = _first_bytes(where)
    if start.startswith(NUMPY_SIGNATURES):
        arrays = numpy_file.headers(where)
        return _describe(where, arrays, NUMPY_FORMATS, "NumPy", numpy_file.contents(arrays))
    if start.startswith(MATLAB_SIGNATURE):
        arrays = xpcsgui.headers(where)
        return _describe(where, arrays, MATLAB_FORMATS, "MATLAB", numpy_file.contents(arrays))
    if start.startswith(HDF5_SIGNATURE) or h5py.is_hdf5(where):
        with hdf5.opened(where) as file:
            if file.attrs.get("format") == RESULT_FORMAT:
                raise InputError(
                    f"{where}: is a result of homodyne_fit, not data; 'homodyne_fit report', or "
                    "hf.load_result, reads it"
                )
            if not any(candidate.recognises(file) for candidate in HDF5_FORMATS):
                raise describe_unknown(file, where, _layouts(HDF5_FORMATS))
            return _describe(where, file, HDF5_FORMATS, "HDF5", hdf5.contents(file))
    raise InputError(
        f"{where}: neither an HDF5 nor a NumPy file: it starts with {start!r}; {_expected()}"
    )


def _describe[Contents](
    path: Path, contents: Contents, formats: Sequence[Format[Contents]], kind: str, listing: str
) -> TwoTimeFile:
    for candidate in formats:
        if candidate.recognises(contents):
            return candidate.describe(contents, path)
    raise InputError(
        f"{path}: the {kind} file has none of the known layouts ({_layouts(formats)}); it holds "
        f"{listing}"
    )


def _layouts(formats: Iterable[Format[Any]]) -> str:
    return "; ".join(f"{candidate.name}: {candidate.layout}" for candidate in formats)


def _first_bytes(path: Path) -> bytes:
    if not path.exists():
        raise missing_file(path)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "not a regular file"
        raise InputError(f"{path} is {what}; {_expected()}")
    try:
        with path.open("rb") as stream:
            start = stream.read(16)
    except OSError as error:
        raise InputError(f"{path}: the file cannot be read ({error.strerror})") from error
    if not start:
        raise InputError(f"{path}: the file is empty; {_expected()}")
    return start


def _expected() -> str:
    known = ", ".join(each.name for each in READABLE)
    return f"expected one file of two-time correlations ({known})"
