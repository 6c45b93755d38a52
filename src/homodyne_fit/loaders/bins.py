"""Lists of q and φ, one value for each bin, and the labels that lead into them from 1."""

from __future__ import annotations

import h5py
import numpy as np
from numpy.typing import NDArray

from homodyne_fit.errors import InputError
from homodyne_fit.loaders import hdf5
from homodyne_fit.loaders.units import require_degrees, require_inverse_angstrom

__all__ = ["at_labels", "check_units", "q_and_phi"]


def q_and_phi(
    file: h5py.File, q_name: str, phi_name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read q (Å⁻¹) and φ (degrees) of B bins, (B,) each, from two lists of equal length.

    Raises
    ------
    InputError
        If a list is missing or not one, the lengths differ, or a unit is another.
    """
    q, phi = hdf5.list_of_numbers(file, q_name), hdf5.list_of_numbers(file, phi_name)
    if len(q) != len(phi):
        raise InputError(f"{file.filename}: {q_name} has {len(q)} bins, but {phi_name} {len(phi)}")
    check_units(file, q_name, phi_name, q)
    return q, phi


def check_units(file: h5py.File, q_name: str, phi_name: str, q: NDArray[np.float64]) -> None:
    """Refuse q that is stated to be in anything but Å⁻¹, and φ in radians."""
    require_inverse_angstrom(hdf5.unit(file, q_name), f"{file.filename}: {q_name}", q)
    require_degrees(hdf5.unit(file, phi_name), f"{file.filename}: {phi_name}")


def at_labels[Kind: np.generic](
    values: NDArray[Kind], labels: NDArray[np.int64], values_name: str, labels_name: str
) -> NDArray[Kind]:
    """Return the values at labels counted from 1.

    Parameters
    ----------
    values : (B, ...) array
    labels : (M,) int
    values_name, labels_name : str
        File and entry, for the message.
    """
    if labels.min() < 1 or labels.max() > len(values):
        raise InputError(
            f"{labels_name} goes from {labels.min()} to {labels.max()}, but {values_name} has "
            f"the labels 1 to {len(values)}"
        )
    return values[labels - 1]
