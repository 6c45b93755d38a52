"""Two-time results of the upgraded APS, as boost_corr writes them.

A pixel's bin is one cell of the (q, φ) grid, counted row by row: its natural bin. Cells without
pixels are left out and the others numbered from 1: their labels. ``dynamic_index_mapping`` leads
from a label back to the natural bin.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from homodyne_fit.errors import InputError
from homodyne_fit.loaders import bins, hdf5, hdf5_matrices
from homodyne_fit.loaders.format import Format
from homodyne_fit.loaders.listing import names as listed
from homodyne_fit.loaders.two_time_file import TwoTimeFile
from homodyne_fit.loaders.units import require_degrees, require_inverse_angstrom

__all__ = ["APS_U"]

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


def describe(file: h5py.File, path: Path) -> TwoTimeFile:
    """Say what an APS-U file holds.

    Raises
    ------
    InputError
        If an entry is missing, or labels, bins and matrices do not fit together.
    """
    q, phi = _grid(file)
    labels = hdf5.integers(file, LABELS)
    matrices = hdf5_matrices.numbered(file, MATRICES)
    if list(matrices) != list(range(1, len(labels) + 1)):
        raise InputError(
            f"{path}: {LABELS} names {len(labels)} matrices, which must be numbered 1 to "
            f"{len(labels)}, but {MATRICES} has the numbers {listed(map(str, matrices))}"
        )
    natural = _natural_bins(file, labels, len(q) * len(phi))
    return hdf5_matrices.two_time_file(
        file,
        path,
        APS_U.name,
        list(matrices.values()),
        q[natural // len(phi)],
        phi[natural % len(phi)],
        hdf5.frame_time(file, FRAME_TIME, STRIDE, AVERAGE),
        populated="upper",
    )


def _grid(file: h5py.File) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    q, phi = hdf5.numbers(file, Q), hdf5.numbers(file, PHI)
    shape = hdf5.integers(file, GRID)
    if shape.tolist() != [len(q), len(phi)]:
        raise InputError(
            f"{file.filename}: {GRID} = {shape.tolist()}, but there are {len(q)} q and "
            f"{len(phi)} φ values"
        )
    axes = hdf5.texts(file, AXES)
    if axes and [axis.casefold() for axis in axes] != ["q", "phi"]:
        raise InputError(f"{file.filename}: the bins are over {listed(axes)}, not over q, phi")
    q_unit, phi_unit = (hdf5.texts(file, UNITS) or ["", ""])[:2]
    require_inverse_angstrom(q_unit, f"{file.filename}: {UNITS}", q)
    require_degrees(phi_unit, f"{file.filename}: {UNITS}")
    bins.check_units(file, Q, PHI, q)
    return q, phi


def _natural_bins(file: h5py.File, labels: NDArray[np.int64], n_bins: int) -> NDArray[np.int64]:
    mapping = hdf5.integers(file, NATURAL_BINS)
    natural = bins.at_labels(mapping, labels, NATURAL_BINS, f"{file.filename}: {LABELS}")
    if natural.min() < 0 or natural.max() >= n_bins:
        raise InputError(
            f"{file.filename}: {NATURAL_BINS} goes from {natural.min()} to {natural.max()}, but "
            f"the grid of {GRID} has the bins 0 to {n_bins - 1}"
        )
    return natural


APS_U = Format("APS-U", f"matrices under {MATRICES}", hdf5.has_group(MATRICES), describe)
