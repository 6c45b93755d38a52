"""Two-time results of the upgraded APS, as boost_corr writes them.

A bin is a cell of the grid of q and φ. Its natural number counts the cells row by row from 0. Its
label counts only cells with pixels, from 1. ``dynamic_index_mapping`` has the natural number for
each label.
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
from homodyne_fit.data.formats.unknown_layout import MULTI_TAU_ONLY, has_multi_tau
from homodyne_fit.data.formats.writing import as_list, checked_matrices, target_file, write_matrices
from homodyne_fit.data.units import require_degrees, require_inverse_angstrom
from homodyne_fit.errors import InputError, shortened

__all__ = ["APS_U", "write_aps_u"]


MATRICES = "/xpcs/twotime/correlation_map"  # c2_%05d, a running index into LABELS from 1

LABELS = "/xpcs/twotime/processed_bins"  # label of each matrix, from 1

NATURAL_BINS = "/xpcs/qmap/dynamic_index_mapping"  # natural bin of each label, from 0

GRID = "/xpcs/qmap/dynamic_num_pts"  # number of q, number of φ

Q = "/xpcs/qmap/dynamic_v_list_dim0"

PHI = "/xpcs/qmap/dynamic_v_list_dim1"

AXES = "/xpcs/qmap/map_names"

UNITS = "/xpcs/qmap/map_units"

FRAME_TIME = "/entry/instrument/detector_1/frame_time"

STRIDE = "/xpcs/twotime/config/stride_frame"

AVERAGE = "/xpcs/twotime/config/avg_frame"

# What to do with a file without a matrix, with or without multi-tau results.
NO_TWO_TIME = {
    True: f"the file has {MULTI_TAU_ONLY}",
    False: "no two-time correlation was computed; correlate again with the two-time option",
}


def describe(file: h5py.File, path: Path) -> TwoTimeFile:
    """Describe an APS-U file."""
    if not len(hdf5.group_at(file, MATRICES) or ()):
        why = NO_TWO_TIME[bool(has_multi_tau(file))]
        raise InputError(f"{path}: {MATRICES} holds no matrix; {why}")
    q, phi = _grid(file)
    labels = hdf5.integers(file, LABELS)
    matrices = hdf5_matrices.numbered(file, MATRICES)
    if list(matrices) != list(range(1, len(labels) + 1)):
        raise InputError(
            f"{path}: {LABELS} names {len(labels)} matrices, which must be numbered 1 to "
            f"{len(labels)}, but {MATRICES} has the numbers {shortened(map(str, matrices))}"
        )
    natural = _natural_bins(file, labels, len(q) * len(phi))
    return hdf5_matrices.two_time_file(
        file,
        path,
        APS_U.name,
        list(matrices.values()),
        q[natural // len(phi)],
        phi[natural % len(phi)],
        # The group of the options has only those that were given.
        hdf5.frame_time(file, FRAME_TIME, STRIDE, AVERAGE, factors_optional=True),
        populated="upper",
    )


def _grid(file: h5py.File) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    q, phi = hdf5.read_numbers(file, Q), hdf5.read_numbers(file, PHI)
    shape = hdf5.integers(file, GRID)
    if shape.tolist() != [len(q), len(phi)]:
        raise InputError(
            f"{file.filename}: {GRID} = {shape.tolist()}, but there are {len(q)} q and "
            f"{len(phi)} φ values"
        )
    axes = hdf5.texts(file, AXES)
    if axes and [axis.casefold() for axis in axes] != ["q", "phi"]:
        raise InputError(f"{file.filename}: the bins are over {shortened(axes)}, not over q, phi")
    q_unit, phi_unit = (hdf5.texts(file, UNITS) or ["", ""])[:2]
    require_inverse_angstrom(q_unit, f"{file.filename}: {UNITS}", q)
    require_degrees(phi_unit, f"{file.filename}: {UNITS}")
    hdf5.check_units(file, Q, PHI, q)
    return q, phi


def _natural_bins(file: h5py.File, labels: NDArray[np.int64], n_bins: int) -> NDArray[np.int64]:
    mapping = hdf5.integers(file, NATURAL_BINS)
    natural = hdf5.at_labels(mapping, labels, NATURAL_BINS, f"{file.filename}: {LABELS}")
    if natural.min() < 0 or natural.max() >= n_bins:
        raise InputError(
            f"{file.filename}: {NATURAL_BINS} goes from {natural.min()} to {natural.max()}, but "
            f"the grid of {GRID} has the bins 0 to {n_bins - 1}"
        )
    return natural


def write_aps_u(
    path: str | os.PathLike[str],
    c2: ArrayLike,
    q_values: ArrayLike,
    phi_values: ArrayLike,
    bins: ArrayLike,
    dt: float,
    *,
    stride: int = 1,
    avg: int = 1,
    pixel_bins: ArrayLike | None = None,
) -> None:
    """Write an APS-U file.

    Parameters
    ----------
    path : path
        An existing file is replaced when the new one is complete.
    c2 : (M, n, n)
        The upper half of each matrix is stored, with the diagonal, as float32.
    q_values : (nq,)
        Å⁻¹
    phi_values : (nphi,)
        Degrees.
    bins : (M,) int
        Natural bin of each matrix, from 0: q index · nphi + φ index.
    dt : float
        Time between two frames of c2, seconds.
    stride, avg : int
        Number of detector frames for one frame of c2, by leaving out and by averaging.
    pixel_bins : int sequence, optional
        Bins with pixels, ascending; by default the bins of the matrices.
    """
    q, phi = as_list(q_values), as_list(phi_values)
    matrices, natural = checked_matrices(c2, bins, len(q) * len(phi))
    mapping = np.unique(natural if pixel_bins is None else np.asarray(pixel_bins, dtype=np.int64))
    if not np.all(np.isin(natural, mapping)):
        raise ValueError("a matrix lies in a bin without pixels")
    with (
        replacing(target_file(path)) as temporary,
        h5py.File(temporary, "w", locking=False) as file,
    ):
        file[LABELS] = np.searchsorted(mapping, natural) + 1
        file[NATURAL_BINS] = mapping
        file[GRID] = np.array([len(q), len(phi)])
        file[Q], file[PHI] = q, phi
        file[AXES] = np.array([b"q", b"phi"])
        file[UNITS] = np.array([b"1/A", b"degree"])
        file[FRAME_TIME] = dt / (stride * avg)
        file[STRIDE], file[AVERAGE] = stride, avg
        write_matrices(file.create_group(MATRICES), "c2", matrices)


APS_U = Format(
    "APS-U",
    "aps-u",
    f"matrices under {MATRICES}",
    hdf5.has_group(MATRICES),
    describe,
    lambda path, c2, q, phi, dt: write_aps_u(path, c2, [q], phi, range(len(phi)), dt),
)
