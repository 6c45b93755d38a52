"""Two-time results of the APS before its upgrade.

There is a list of q and a list of φ, with a value for each bin. The label of a bin is its position
in these lists, counted from 1. Two programs number the matrices differently: boost_corr counts them
from 1 in the order of ``qphi_bin_to_process``; xpcs-eigen uses the label of the bin, and leaves out
bins without pixels. If the numbers are 1, 2, … up to the length of the list, they are a running
index.
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
from homodyne_fit.data.formats.writing import as_list, checked_matrices, target_file, write_matrices
from homodyne_fit.errors import InputError, shortened

__all__ = ["APS_OLD", "write_aps_old"]


MATRICES = "/exchange/C2T_all"  # g2_%05d, the number not always padded

LABELS = "/xpcs/qphi_bin_to_process"  # (n,) or (n, 1), from 1

Q = "/xpcs/dqlist"  # (1, bins)

PHI = "/xpcs/dphilist"  # (1, bins)

FRAME_TIME = "/measurement/instrument/detector/exposure_period"  # (1, 1), as the next two

STRIDE = "/xpcs/stride_frames"

AVERAGE = "/xpcs/avg_frames"


def describe(file: h5py.File, path: Path) -> TwoTimeFile:
    """Describe an old APS file."""
    q, phi = hdf5.q_and_phi(file, Q, PHI)
    matrices = hdf5_matrices.numbered(file, MATRICES)
    labels = _labels(np.array(list(matrices)), hdf5.integers(file, LABELS), path)
    return hdf5_matrices.two_time_file(
        file,
        path,
        APS_OLD.name,
        list(matrices.values()),
        hdf5.at_labels(q, labels, Q, f"{path}: {LABELS}"),
        hdf5.at_labels(phi, labels, PHI, f"{path}: {LABELS}"),
        hdf5.frame_time(file, FRAME_TIME, STRIDE, AVERAGE),
        populated="upper",
    )


def _labels(
    matrix_numbers: NDArray[np.int64], labels: NDArray[np.int64], path: Path
) -> NDArray[np.int64]:
    """The label of each matrix."""
    if np.array_equal(matrix_numbers, np.arange(1, len(labels) + 1)):
        return labels
    if np.all(np.isin(matrix_numbers, labels)):
        return matrix_numbers
    raise InputError(
        f"{path}: the matrices of {MATRICES} have the numbers "
        f"{shortened(map(str, matrix_numbers))}, which neither count the {len(labels)} bins of "
        f"{LABELS} from 1 nor name bins among {shortened(map(str, labels))}"
    )


def write_aps_old(
    path: str | os.PathLike[str],
    c2: ArrayLike,
    q_values: ArrayLike,
    phi_values: ArrayLike,
    bins: ArrayLike,
    dt: float,
    *,
    stride: int = 1,
    avg: int = 1,
) -> None:
    """Write an old APS file; the parameters are those of `write_aps_u`."""
    q, phi = as_list(q_values), as_list(phi_values)
    matrices, natural = checked_matrices(c2, bins, len(q) * len(phi))
    with (
        replacing(target_file(path)) as temporary,
        h5py.File(temporary, "w", locking=False) as file,
    ):
        file[LABELS] = (natural + 1)[:, np.newaxis]
        file[Q] = np.repeat(q, len(phi))[np.newaxis]
        file[PHI] = np.tile(phi, len(q))[np.newaxis]
        file[FRAME_TIME] = np.array([[dt / (stride * avg)]])
        file[STRIDE], file[AVERAGE] = np.array([[stride]]), np.array([[avg]])
        write_matrices(file.create_group(MATRICES), "g2", matrices)


APS_OLD = Format(
    "APS old",
    "aps-old",
    f"matrices under {MATRICES}",
    hdf5.has_group(MATRICES),
    describe,
    lambda path, c2, q, phi, dt: write_aps_old(path, c2, [q], phi, range(len(phi)), dt),
)
