"""Two-time results of the APS before its upgrade.

q and φ are listed bin by bin, and a bin's label is its place in these lists, from 1. Two writers
number the matrices differently. boost_corr counts them from 1, in the order of
``qphi_bin_to_process``; xpcs-eigen puts the label into the name, and leaves out bins without
pixels. Numbers that count exactly from 1 to the length of the list are a running index.
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

MATRICES = "/exchange/C2T_all"  # g2_%05d, the number not always padded
LABELS = "/xpcs/qphi_bin_to_process"  # (n,) or (n, 1), from 1
Q = "/xpcs/dqlist"  # (1, bins)
PHI = "/xpcs/dphilist"  # (1, bins)
FRAME_TIME = "/measurement/instrument/detector/exposure_period"  # (1, 1), as the next two
STRIDE = "/xpcs/stride_frames"
AVERAGE = "/xpcs/avg_frames"

FORMAT = "APS old"
LAYOUT = f"matrices under {MATRICES}"


def recognises(file: h5py.File) -> bool:
    """Whether the file has the group of two-time matrices."""
    return hdf5.group_at(file, MATRICES) is not None


def describe(file: h5py.File, path: Path) -> TwoTimeFile:
    """Say what an old APS file holds.

    Raises
    ------
    InputError
        If an entry is missing, or labels, lists and matrices do not fit together.
    """
    q, phi = _lists(file)
    matrices = hdf5.numbered(file, MATRICES)
    labels = _labels(np.array(list(matrices)), hdf5.integers(file, LABELS), path)
    if labels.min() < 1 or labels.max() > len(q):
        raise InputError(
            f"{path}: the labels of {LABELS} go from {labels.min()} to {labels.max()}, but {Q} "
            f"has {len(q)} bins"
        )
    return hdf5.two_time_file(
        file,
        path,
        FORMAT,
        list(matrices.values()),
        q[labels - 1],
        phi[labels - 1],
        hdf5.frame_time(file, FRAME_TIME, STRIDE, AVERAGE),
    )


def _lists(file: h5py.File) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    q, phi = hdf5.numbers(file, Q), hdf5.numbers(file, PHI)
    if len(q) != len(phi):
        raise InputError(f"{file.filename}: {Q} has {len(q)} bins, but {PHI} has {len(phi)}")
    require_inverse_angstrom(hdf5.unit(file, Q), f"{file.filename}: {Q}", q)
    require_degrees(hdf5.unit(file, PHI), f"{file.filename}: {PHI}")
    return q, phi


def _labels(
    matrix_numbers: NDArray[np.int64], labels: NDArray[np.int64], path: Path
) -> NDArray[np.int64]:
    """Return the label of each matrix."""
    if np.array_equal(matrix_numbers, np.arange(1, len(labels) + 1)):
        return labels
    if np.all(np.isin(matrix_numbers, labels)):
        return matrix_numbers
    raise InputError(
        f"{path}: the matrices of {MATRICES} have the numbers "
        f"{listed(map(str, matrix_numbers))}, which neither count the {len(labels)} bins of "
        f"{LABELS} from 1 nor name bins among {listed(map(str, labels))}"
    )
