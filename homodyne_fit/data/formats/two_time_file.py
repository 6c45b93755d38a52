"""The description of a two-time file, before any matrix is read.

Each format describes its files as a `TwoTimeFile`. Other modules do not need to know formats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.storage.stored_matrices import BAND, RawMatrix, mirror_upper
from homodyne_fit.errors import InputError, Problem, shortened_numbers

__all__ = [
    "Populated",
    "TwoTimeFile",
    "asymmetry",
    "checked_part",
    "completed",
    "populated_part",
    "Format",
]


# Largest relative difference of two equal halves; float32 sums in another order differ by 1e-6.
SYMMETRY = 1e-5

# Largest value of a correlation. Values that programs use for missing points are far larger.
LARGEST = 1e15

# The part of a matrix that is stored; empty if it is not known.
Populated = Literal["all", "upper", "lower", ""]


def _nowhere(_: int) -> None:
    return None


def _nothing() -> None:
    pass


@dataclass(frozen=True, eq=False, repr=False)
class TwoTimeFile:
    """M matrices c2(t1, t2) in a file, with the information about them.

    Attributes
    ----------
    path : Path
    format : str
        Name of the format, for reports.
    names : tuple of M str
        Name of each matrix in the file, for messages.
    n_frames : int
        Every matrix is n_frames × n_frames.
    q, phi : (M,) float64 or None
        Wave vector (Å⁻¹) and azimuthal angle (degrees) of each matrix, in the order of the file.
        None if they are not in the file.
    dt : float or None
        Time between two frames, seconds.
    dt_note : str
        How dt follows from the file, or why it does not.
    stored : callable
        ``stored(index, frames)`` is the matrix as it is stored, cut to the frames.
    populated : str
        The part of each matrix that should be stored according to the format or the file. It is
        only for messages: what is stored is found from the matrix itself.
    shift : float
        Constant to add, which gives c2: 1 if c2 − 1 is stored.
    raw : callable
        ``raw(index)`` is the location of a matrix in the file; None if it is packed or in another
        order.
    release : callable
        Releases memory that makes reading further matrices faster.
    sigma : callable or None
        ``sigma(index, frames)`` has the standard deviations of the points of a matrix, likewise.
    doubts : mapping
        Questions about values in the file that may be something else, by quantity: ``q``, ``phi``.
    is_cut : bool
        Whether the file holds only some frames of a measurement, which may be counted elsewhere.
    notes : tuple of str
        What to know about the file, in sentences.
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
    sigma: Callable[[int, slice], NDArray[np.generic]] | None = None
    doubts: Mapping[str, str] = field(default_factory=dict)
    is_cut: bool = False
    notes: tuple[str, ...] = ()

    def problem(self, argument: str, what: str) -> InputError:
        """The error that says what is wrong between an argument of a selection and this file."""
        return InputError([Problem(argument, f"{self.path}: {what}")])

    def __repr__(self) -> str:
        """The information without the matrices, in a line."""
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
        """Number of matrices of all wave vectors and angles."""
        return len(self.names)

    def read(self, index: int, frames: slice = slice(None)) -> NDArray[np.floating]:
        """Read one matrix, of which both halves or only one may be stored.

        Parameters
        ----------
        index : int
        frames : slice
            The frames to keep, for both times, counted from 0.

        Returns
        -------
        (n, n) float32 or float64
            The symmetric matrix; float32 if it is stored in single precision.
        """
        c2 = completed(self.read_stored(index, frames), self.name(index))
        if self.shift:
            c2 += self.shift
        return c2

    def read_stored(self, index: int, frames: slice = slice(None)) -> NDArray[np.floating]:
        """Read one matrix (n, n) as it is stored: a half, symmetric, or not symmetric."""
        return _as_float(self.stored(index, frames), self.name(index))

    def name(self, index: int) -> str:
        """The name of a matrix in a message."""
        return f"{self.path}: {self.names[index]}"


def completed(matrix: NDArray[np.floating], name: str) -> NDArray[np.floating]:
    """The symmetric matrix, from a matrix with its upper half, lower half or both.

    A half with only zeros and non-finite numbers is not stored.
    """
    lower = checked_part(matrix, name) == "lower"
    c2 = np.array(matrix.T if lower else matrix, order="C")
    mirror_upper(c2)
    return c2


def checked_part(matrix: NDArray[np.floating], name: str) -> Populated:
    """The stored part of a matrix (n, n), which must be symmetric if both halves are stored."""
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
    """The part of a matrix (n, n) that has finite numbers other than zero."""
    upper = lower = False
    for start in range(0, len(matrix), BAND):
        rows = matrix[start : start + BAND]
        upper = upper or bool(np.triu(_present(rows[:, start:]), 1).any())
        lower = lower or bool(np.tril(_present(rows[:, : start + BAND]), start - 1).any())
    if upper and lower:
        return "all"
    return "upper" if upper else "lower" if lower else ""


def asymmetry(matrix: NDArray[np.floating]) -> NDArray[np.floating]:
    """|c2(t1, t2) − c2(t2, t1)| of a full matrix (n, n), and 0 within rounding.

    It is NaN if one of the two is missing, and 0 if both are missing.
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
        How a file of this format is recognised, for a message.
    recognises : callable
        ``recognises(contents)`` tells whether a file with these contents has this format.
    describe : callable
        ``describe(contents, path)`` describes the file without reading a matrix; contradictions in
        the file are an `InputError`.
    write : callable or None
        ``write(path, c2, q, phi, dt)`` writes matrices (K, n, n) of one wave vector, Å⁻¹, at K
        angles, degrees, with the time between two frames, seconds.
    """

    name: str
    option: str
    layout: str
    recognises: Callable[[Contents], bool]
    describe: Callable[[Contents, Path], TwoTimeFile]
    write: Callable[[Path, NDArray[np.floating], float, Sequence[float], float], None] | None = None
