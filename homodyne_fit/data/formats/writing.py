"""Functions for writers of all formats."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from homodyne_fit.data.real_arrays import real_array
from homodyne_fit.errors import InputError

__all__ = ["as_list", "checked_matrices", "target_file", "write_matrices"]


def write_matrices(group: h5py.Group, prefix: str, matrices: NDArray[np.float32]) -> None:
    """Write the upper triangles as ``prefix_00001`` and so on."""
    for number, matrix in enumerate(matrices, start=1):
        group.create_dataset(f"{prefix}_{number:05d}", data=np.triu(matrix), compression="lzf")


def checked_matrices(
    c2: ArrayLike, bins: ArrayLike, n_bins: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Matrices (M, n, n) in single precision, and the bin of each; both are checked."""
    matrices = real_array(c2).astype(np.float32)
    natural = as_list(bins).astype(np.int64)
    if matrices.ndim != 3 or matrices.shape[1] != matrices.shape[2]:
        raise ValueError(f"c2 must have shape (M, n, n), not {matrices.shape}")
    if len(natural) != len(matrices) or len(np.unique(natural)) != len(natural):
        raise ValueError(f"{len(matrices)} matrices need as many different bins")
    if len(natural) and not 0 <= natural.min() <= natural.max() < n_bins:
        raise ValueError(f"bins must be from 0 to {n_bins - 1}, got {natural.tolist()}")
    return matrices, natural


def as_list(values: ArrayLike) -> NDArray[np.float64]:
    """An array of one dimension, also from a single number."""
    return np.atleast_1d(real_array(values).astype(np.float64))


def target_file(path: str | os.PathLike[str]) -> Path:
    """The path of a file to write; an `InputError` if its folder is missing."""
    final = Path(path)
    if not final.parent.is_dir():
        raise InputError(f"{final}: there is no folder {final.parent}")
    return final
