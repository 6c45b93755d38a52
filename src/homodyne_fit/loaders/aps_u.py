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
from homodyne_fit.loaders import hdf5
from homodyne_fit.loaders.listing import names as listed
from homodyne_fit.loaders.two_time_file import TwoTimeFile
from homodyne_fit.loaders.units import require_degrees, require_inverse_angstrom

__all__ = ["FORMAT", "LAYOUT", "describe", "recognises"]

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

FORMAT = "APS-U"
LAYOUT = f"matrices under {MATRICES}"


def recognises(file: h5py.File) -> bool:
    """Whether the file has the group of two-time matrices."""
    return hdf5.group_at(file, MATRICES) is not None


def describe(file: h5py.File, path: Path) -> TwoTimeFile:
    """Say what an APS-U file holds.

    Raises
    ------
    InputError
        If an entry is missing, or labels, bins and matrices do not fit together.
    """
    q, phi = _grid(file)
    labels = hdf5.integers(file, LABELS)
    matrices = hdf5.numbered(file, MATRICES)
    if list(matrices) != list(range(1, len(labels) + 1)):
        raise InputError(
            f"{path}: {LABELS} names {len(labels)} matrices, which must be numbered 1 to "
            f"{len(labels)}, but {MATRICES} has the numbers {listed(map(str, matrices))}"
        )
    bins = _natural_bins(file, labels, len(q) * len(phi))
    return hdf5.two_time_file(
        file,
        path,
        FORMAT,
        list(matrices.values()),
        q[bins // len(phi)],
        phi[bins % len(phi)],
        hdf5.frame_time(file, FRAME_TIME, STRIDE, AVERAGE),
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
    require_inverse_angstrom(hdf5.unit(file, Q), f"{file.filename}: {Q}", q)
    require_degrees(hdf5.unit(file, PHI), f"{file.filename}: {PHI}")
    return q, phi


def _natural_bins(file: h5py.File, labels: NDArray[np.int64], n_bins: int) -> NDArray[np.int64]:
    natural = hdf5.integers(file, NATURAL_BINS)
    if labels.min() < 1 or labels.max() > len(natural):
        raise InputError(
            f"{file.filename}: {LABELS} goes from {labels.min()} to {labels.max()}, but the "
            f"labels of {NATURAL_BINS} from 1 to {len(natural)}"
        )
    bins = natural[labels - 1]
    if bins.min() < 0 or bins.max() >= n_bins:
        raise InputError(
            f"{file.filename}: {NATURAL_BINS} goes from {bins.min()} to {bins.max()}, but the "
            f"grid of {GRID} has the bins 0 to {n_bins - 1}"
        )
    return bins
