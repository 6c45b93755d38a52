"""What a file of two-time correlations says, before any matrix is read.

Every format describes its files as a `TwoTimeFile`; nothing after that knows formats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.storage.stored_matrices import BAND, RawMatrix, mirror_upper
from homodyne_fit.errors import InputError, shortened_numbers

__all__ = [
    "Populated",
    "TwoTimeFile",
    "asymmetry",
    "checked_part",
    "completed",
    "populated_part",
    "Format",
]


# Two stored halves agree when they differ by less than this fraction of their size; float32
# arithmetic in a different order leaves about 1e-6.
SYMMETRY = 1e-5

# Far above any correlation, far below what programs fill gaps with.
LARGEST = 1e15

# What of a matrix is stored; an empty text where nothing is said about it.
Populated = Literal["all", "upper", "lower", ""]


def _nowhere(_: int) -> None:
    return None


def _nothing() -> None:
    pass


@dataclass(frozen=True, eq=False, repr=False)
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
    populated : str
        Which part of each matrix the format, or the file, says is stored. Nothing relies on it:
        what is stored shows in the matrix.
    shift : float
        What the file left out of c2, so that it has to be added: 1 where c2 − 1 is stored.
    raw : callable
        ``raw(index)`` is where the numbers of a matrix lie in the file; None where they are
        packed, or ordered otherwise.
    release : callable
        Lets go of what is kept in memory to read further matrices faster.
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
    populated: Populated = ""
    shift: float = 0.0
    raw: Callable[[int], RawMatrix | None] = _nowhere
    release: Callable[[], None] = _nothing

    def __repr__(self) -> str:
        """All but the matrices, in a line."""
        known = [f"{self.n_matrices} × {self.n_frames} × {self.n_frames} ({self.format})"]
        if self.q is not None:
            known.append(f"q = {shortened_numbers(np.unique(self.q))} Å⁻¹")
        if self.phi is not None:
            known.append(f"φ = {shortened_numbers(np.unique(self.phi))}°")
        if self.dt is not None:
            known.append(f"dt = {self.dt:g} s")
        return f"TwoTimeFile({str(self.path)!r}: {'; '.join(known)})"

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
        """
        c2 = completed(self.read_stored(index, frames), self.name(index))
        if self.shift:
            c2 += self.shift
        return c2

    def read_stored(self, index: int, frames: slice = slice(None)) -> NDArray[np.floating]:
        """Read one matrix as it is stored, (n, n), be it a half, symmetric or not."""
        return _as_float(self.stored(index, frames), self.name(index))

    def name(self, index: int) -> str:
        """What to call a matrix in a message."""
        return f"{self.path}: {self.names[index]}"


def completed(matrix: NDArray[np.floating], name: str) -> NDArray[np.floating]:
    """Return the symmetric matrix of which the upper half, the lower half or all is stored.

    A half that holds nothing but zeros and non-finite numbers is not stored.
    """
    lower = checked_part(matrix, name) == "lower"
    c2 = np.array(matrix.T if lower else matrix, order="C")
    mirror_upper(c2)
    return c2


def checked_part(matrix: NDArray[np.floating], name: str) -> Populated:
    """Which part of a matrix (n, n) is stored: a half, or all of one that is symmetric."""
    part = populated_part(matrix)
    if not part:
        raise InputError(
            f"{name} has no correlation at t1 ≠ t2: every value is zero or missing; leave "
            "this angle out, or correlate again"
        )
    if part == "all":
        _check_symmetry(matrix, name)
    return part


def populated_part(matrix: NDArray[np.floating]) -> Populated:
    """Which half of a matrix (n, n) holds anything but zeros and non-finite numbers, or both."""
    upper = lower = False
    for start in range(0, len(matrix), BAND):
        present = _present(matrix[start : start + BAND])
        upper = upper or bool(np.triu(present, start + 1).any())
        lower = lower or bool(np.tril(present, start - 1).any())
    if upper and lower:
        return "all"
    return "upper" if upper else "lower" if lower else ""


def asymmetry(matrix: NDArray[np.floating]) -> NDArray[np.floating]:
    """|c2(t1, t2) − c2(t2, t1)| of a full matrix (n, n): 0 within rounding, NaN if one is missing.

    Both missing is symmetric.
    """
    bands = [slice(start, start + BAND) for start in range(0, len(matrix), BAND)]
    size, count = 0.0, 0
    for band in bands:
        values = matrix[band][_present(matrix[band])]
        size, count = size + float(np.abs(values).sum(dtype=np.float64)), count + len(values)
    scale = size / max(1, count)
    difference = np.zeros_like(matrix)
    for band in bands:
        rows, columns = matrix[band], matrix[:, band].T
        close = np.isclose(rows, columns, rtol=SYMMETRY, atol=SYMMETRY * scale, equal_nan=True)
        with np.errstate(invalid="ignore"):
            np.copyto(difference[band], np.abs(rows - columns), where=~close)
    return difference


def _present(values: NDArray[np.floating]) -> NDArray[np.bool_]:
    return np.isfinite(values) & (values != 0)


def _check_symmetry(matrix: NDArray[np.floating], name: str) -> None:
    difference = asymmetry(matrix)
    if not difference.any():
        return
    worst = np.argmax(np.where(np.isnan(difference), np.inf, difference))
    row, column = np.unravel_index(worst, difference.shape)
    share = f"{100 * np.mean(difference != 0):.3g} %"
    raise InputError(
        f"{name} holds both halves but is not symmetric: {share} of the entries differ, "
        f"c2[{row}, {column}] = {matrix[row, column]:.6g} but "
        f"c2[{column}, {row}] = {matrix[column, row]:.6g}; mend the file, or store one half only"
    )


def _as_float(matrix: NDArray[np.generic], name: str) -> NDArray[np.floating]:
    if matrix.dtype.kind not in "fiu":
        raise InputError(f"{name} holds {matrix.dtype.name}; a correlation is a real number")
    largest = float(np.max(np.abs(matrix), where=np.isfinite(matrix), initial=0))
    if largest > LARGEST:
        raise InputError(
            f"{name} has values as large as {largest:.3g}, where a correlation is about 1; if they "
            "stand for missing points, write NaN in their place"
        )
    single = matrix.dtype.kind == "f" and matrix.dtype.itemsize == 4
    return matrix.astype(np.float32 if single else np.float64, copy=False)


@dataclass(frozen=True)
class Format[Contents]:
    """A format of two-time files.

    Attributes
    ----------
    name : str
    option : str
        Its name on the command line.
    layout : str
        What tells it from others, for a message.
    recognises : callable
        ``recognises(contents)`` is whether a file with these contents is of the format.
    describe : callable
        ``describe(contents, path)`` says what the file holds, without reading a matrix; what
        contradicts itself is an `InputError`.
    write : callable
        ``write(path, c2, q, phi, dt)`` writes matrices (K, n, n) of one wave vector, Å⁻¹, at K
        angles, degrees, with the time between two frames, seconds.
    """

    name: str
    option: str
    layout: str
    recognises: Callable[[Contents], bool]
    describe: Callable[[Contents, Path], TwoTimeFile]
    write: Callable[[Path, NDArray[np.floating], float, Sequence[float], float], None]
