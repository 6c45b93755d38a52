"""Two-time results as pyCHX exports them.

All matrices are in one array, with the bin as the last axis. Dictionaries of pyCHX are attributes
here: q and angle of each bin by its index from 0, and the metadata of the measurement. At grazing
incidence the bins are over q_r and q_z, and such a file is refused: q_z is no angle.
"""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from homodyne_fit.atomic import replacing
from homodyne_fit.data.formats import hdf5, hdf5_matrices
from homodyne_fit.data.formats.two_time_file import Format, TwoTimeFile
from homodyne_fit.data.formats.writing import as_list, checked_matrices, target_file
from homodyne_fit.errors import InputError, shortened_numbers

__all__ = ["PYCHX", "write_pychx"]


MATRICES = "/g12b"  # (N, N, bins), full

BINS = "/qval_dict"  # attributes "0", "1", …: [q, angle], or [q]

METADATA = "/md"

FRAME_TIME = "frame_time"  # attribute of METADATA

# What only a measurement at grazing incidence has: nodes of the file or attributes of METADATA.
GRAZING = ("Qr", "Qz", "qr_1d_pds")

GEOMETRY = "scat_geometry"  # attribute of METADATA: saxs, gi_saxs, ang_saxs, …

# What only a measurement in transmission has.
TRANSMISSION = ("iq_saxs", "q_saxs")

# Angles are seldom all so small, degrees; q_z always is, Å⁻¹.
SMALLEST_ANGLE = 1.0


def recognises(file: h5py.File) -> bool:
    """Whether the file has the array of two-time matrices."""
    return hdf5.shape_of(file, MATRICES) is not None


def describe(file: h5py.File, path: Path) -> TwoTimeFile:
    """Describe a pyCHX export.

    Its frame time is reported but not used, since its unit differs between versions of pyCHX.
    """
    shape = hdf5.dataset(file, MATRICES).shape
    if len(shape) != 3 or shape[0] != shape[1] or 0 in shape:
        raise InputError(f"{path}: {MATRICES} has shape {shape}; (N, N, bins) is needed")
    q, phi = _bins(file, shape[2])
    if phi is not None:
        _require_transmission(file)
    hdf5.check_units(file, BINS, BINS, q)
    locations = hdf5_matrices.locations_in_array(MATRICES, shape[2], axis=2)
    return hdf5_matrices.two_time_file(
        file,
        path,
        PYCHX.name,
        locations,
        q,
        phi,
        (None, _about_time(file)),
        populated="all",
        doubts=_about_angles(file, phi),
    )


def _require_transmission(file: h5py.File) -> None:
    """Refuse bins over q_r and q_z: the model has a wave vector and an angle for each matrix."""
    marks = [f"/{name}" for name in GRAZING if hdf5.exists(file, f"/{name}")]
    marks += [f"{name} of {METADATA}" for name in GRAZING if _has_metadata(file, name)]
    geometry = hdf5.attribute_text(file, METADATA, GEOMETRY)
    if geometry.casefold().startswith("gi"):
        marks.append(f"{GEOMETRY} '{geometry}' of {METADATA}")
    if marks:
        raise InputError(
            f"{file.filename}: is a measurement at grazing incidence ({', '.join(marks)}): its "
            f"bins in {BINS} are q_r and q_z, not q and an angle; such bins cannot be fitted "
            "here, correlate bins of q and φ"
        )


def _has_metadata(file: h5py.File, name: str) -> bool:
    return hdf5.has_attribute(file, METADATA, name)


def _about_angles(file: h5py.File, phi: NDArray[np.float64] | None) -> dict[str, str]:
    """The question about angles that may be q_z, if nothing tells the geometry."""
    stated = hdf5.attribute_text(file, METADATA, GEOMETRY) or any(
        hdf5.exists(file, f"/{name}") for name in TRANSMISSION
    )
    if phi is None or stated or not np.any(phi) or np.any(np.abs(phi) >= SMALLEST_ANGLE):
        return {}
    return {
        "phi": f"the second number of each bin in {BINS}, {shortened_numbers(np.unique(phi))}, "
        "may be q_z of a measurement at grazing incidence, which cannot be fitted here"
    }


def _bins(
    file: h5py.File, n_matrices: int
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """q of each matrix and, if there are angles, the angle of each matrix."""
    values = []
    for index in range(n_matrices):
        value = hdf5.attribute_numbers(file, BINS, str(index))
        if value is None:
            raise InputError(
                f"{file.filename}: {MATRICES} has {n_matrices} matrices, but {BINS} has no "
                f"attribute '{index}' with q, or q and angle, of the matrix with that index"
            )
        values.append(value)
    if all(len(value) == 1 for value in values):
        return np.array([value[0] for value in values]), None
    if all(len(value) == 2 for value in values):
        return np.array([value[0] for value in values]), np.array([value[1] for value in values])
    raise InputError(f"{file.filename}: the attributes of {BINS} are not all [q], or [q, angle]")


def _about_time(file: h5py.File) -> str:
    value = hdf5.attribute_numbers(file, METADATA, FRAME_TIME)
    if value is None:
        return f"{METADATA} has no attribute {FRAME_TIME}"
    return f"attribute {FRAME_TIME} of {METADATA} is {value[0]:.9g}, in a unit that is not certain"


def write_pychx(
    path: str | os.PathLike[str],
    c2: ArrayLike,
    q: ArrayLike,
    phi: ArrayLike | None,
    frame_time: float,
) -> None:
    """Write two-time results as pyCHX exports them.

    Parameters
    ----------
    c2 : (M, n, n)
    q : (M,)
        Å⁻¹
    phi : (M,) or None
        Degrees; None for whole rings.
    frame_time : float
        The value to store; its unit is not certain in these files.
    """
    bins = as_list(q)[:, np.newaxis] if phi is None else np.column_stack([as_list(q), as_list(phi)])
    matrices, _ = checked_matrices(c2, np.arange(len(bins)), len(bins))
    with (
        replacing(target_file(path)) as temporary,
        h5py.File(temporary, "w", locking=False) as file,
    ):
        file[MATRICES] = np.moveaxis(matrices, 0, -1)
        described = file.create_dataset(BINS, (1,), dtype="i")
        for index, values in enumerate(bins):
            described.attrs[str(index)] = values
        file.create_dataset(METADATA, (1,), dtype="i").attrs[FRAME_TIME] = frame_time


PYCHX = Format(
    "pyCHX",
    "pychx",
    f"array at {MATRICES}, q last",
    recognises,
    describe,
    lambda path, c2, q, phi, dt: write_pychx(path, c2, [q] * len(phi), phi, dt),
)
