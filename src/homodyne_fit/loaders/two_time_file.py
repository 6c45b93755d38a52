"""What a file of two-time correlations says, before any matrix is read.

Every format describes its files as a `TwoTimeFile`; nothing after that knows formats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.errors import InputError

__all__ = ["TwoTimeFile", "completed"]

# Two stored halves agree when they differ by less than this fraction of their size; float32
# arithmetic in a different order leaves about 1e-6.
SYMMETRY = 1e-5


@dataclass(frozen=True, eq=False)
class TwoTimeFile:
    """M matrices c2(t1, t2) in a file, and what the file says about them.

    Attributes
    ----------
    path : Path
    format : str
        Name of the format, for reports.
    names : tuple of M str
        What the file calls each matrix, for messages.
    n_frames : int
        Every matrix is n_frames × n_frames.
    q, phi : (M,) float64 or None
        Wave vector (Å⁻¹) and azimuthal angle (degrees) of each matrix, in the order of the file.
        None where the file does not say.
    dt : float or None
        Time between two frames, seconds.
    dt_note : str
        How the file gives dt, or why it does not.
    stored : callable
        ``stored(index, frames)`` is the matrix as the file has it, cut to the frames.
    """

    path: Path
    format: str
    names: tuple[str, ...]
    n_frames: int
    q: NDArray[np.float64] | None
    phi: NDArray[np.float64] | None
    dt: float | None
    dt_note: str
    stored: Callable[[int, slice], NDArray[np.generic]]

    @property
    def n_matrices(self) -> int:
        """Number of matrices, of all wave vectors and angles together."""
        return len(self.names)

    def read(self, index: int, frames: slice = slice(None)) -> NDArray[np.floating]:
        """Read one matrix, whichever half of it is stored.

        Parameters
        ----------
        index : int
        frames : slice
            The frames to keep, of both times, counted from 0.

        Returns
        -------
        (n, n) float32 if stored so, else float64
            The symmetric matrix.

        Raises
        ------
        InputError
            If the matrix cannot be read, holds no correlation, or is full but not symmetric.
        """
        name = f"{self.path}: {self.names[index]}"
        return completed(_as_float(self.stored(index, frames), name), name)


def completed(matrix: NDArray[np.floating], name: str) -> NDArray[np.floating]:
    """Return the symmetric matrix of which the upper half, the lower half or all is stored.

    A half that holds nothing but zeros and non-finite numbers is not stored.
    """
    present = np.isfinite(matrix) & (matrix != 0)
    upper = bool(np.triu(present, 1).any())
    lower = bool(np.tril(present, -1).any())
    if not (upper or lower):
        raise InputError(f"{name} has no correlation at t1 ≠ t2: every value is zero or missing")
    if upper and lower:
        _check_symmetry(matrix, float(np.mean(np.abs(matrix[present]))), name)
    elif lower:
        matrix = matrix.T
    below = np.tri(len(matrix), k=-1, dtype=bool)
    return np.where(below, matrix.T, matrix)


def _check_symmetry(matrix: NDArray[np.floating], scale: float, name: str) -> None:
    close = np.isclose(matrix, matrix.T, rtol=SYMMETRY, atol=SYMMETRY * scale, equal_nan=True)
    if close.all():
        return
    with np.errstate(invalid="ignore"):
        difference = np.where(close, 0, np.abs(matrix - matrix.T))
    missing = np.isnan(difference)
    row, column = np.unravel_index(np.argmax(np.where(missing, np.inf, difference)), close.shape)
    raise InputError(
        f"{name} holds both halves but is not symmetric: {np.mean(~close):.2%} of the entries "
        f"differ, c2[{row}, {column}] = {matrix[row, column]:.6g} but "
        f"c2[{column}, {row}] = {matrix[column, row]:.6g}"
    )


def _as_float(matrix: NDArray[np.generic], name: str) -> NDArray[np.floating]:
    if matrix.dtype.kind not in "fiu":
        raise InputError(f"{name} holds {matrix.dtype}; a correlation is a real number")
    single = matrix.dtype.kind == "f" and matrix.dtype.itemsize == 4
    return matrix.astype(np.float32 if single else np.float64)
