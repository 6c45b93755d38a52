"""The angles of a fit: those of the file or of the user, and which of them are selected.

The place of a `Problem` is an argument of `homodyne_fit.data.selection.select`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.formats.two_time_file import TwoTimeFile
from homodyne_fit.errors import counted, shortened_numbers

__all__ = ["angles_at_q", "notes_on_repeated", "wanted_angles", "within_ranges"]

# Largest rounding error of an angle, degrees; in float32 it is up to 3e-5.
SAME_PHI = 1e-4


def angles_at_q(
    file: TwoTimeFile, phi: Sequence[float] | None, kept: NDArray[np.intp]
) -> NDArray[np.float64]:
    """The angles of the matrices of one wave vector."""
    if file.phi is not None:
        if phi is not None:
            raise file.problem(
                "phi",
                "the file has its own angles; remove these (ranges of angles select some of them)",
            )
        return file.phi[kept]
    if phi is None:
        if len(kept) > 1:
            raise file.problem(
                "phi",
                f"the file does not give the angles of its {len(kept)} matrices; set them, in "
                "degrees",
            )
        return np.zeros(1)
    angles = np.atleast_1d(np.asarray(phi, dtype=np.float64))
    if angles.shape == (file.n_matrices,):
        return angles[kept]
    if angles.shape != (len(kept),):
        some = "" if len(kept) == file.n_matrices else f", {len(kept)} of them at this q"
        raise file.problem(
            "phi",
            f"{counted(angles.size, 'angle')} given, but the file has "
            f"{counted(file.n_matrices, 'matrix')}{some}",
        )
    return angles


def wanted_angles(
    phi: NDArray[np.float64], ranges: Sequence[tuple[float, float]] | None, file: TwoTimeFile
) -> NDArray[np.bool_]:
    """Whether each angle is wanted: all of them without ranges, and at least one."""
    if ranges is None:
        if not np.all(np.isfinite(phi)):
            raise file.problem(
                "phi_ranges",
                f"an angle is not finite: {shortened_numbers(phi)}°; give ranges that leave it "
                "out, or mend the file",
            )
        return np.ones(len(phi), dtype=bool)
    inside = within_ranges(phi, ranges)
    if not inside.any():
        shown = ", ".join(f"{low:g} to {high:g}" for low, high in ranges) or "(none)"
        raise file.problem(
            "phi_ranges",
            f"no angle is within {shown}°; at this q the file has φ = {shortened_numbers(phi)}°",
        )
    return inside


def within_ranges(
    phi: NDArray[np.float64], ranges: Sequence[tuple[float, float]]
) -> NDArray[np.bool_]:
    """Whether each angle is in one of the ranges, ends included, modulo 360 degrees."""
    inside = np.zeros(len(phi), dtype=bool)
    for low, high in ranges:
        width = high - low if high - low >= 360 else (high - low) % 360
        inside |= (phi - low + SAME_PHI) % 360 <= width + 2 * SAME_PHI
    return inside


def notes_on_repeated(phi: NDArray[np.float64]) -> list[str]:
    """Notes on angles (K,) that occur more than once, modulo 360 degrees."""
    values, counts = np.unique(phi[np.isfinite(phi)] % 360, return_counts=True)
    return [
        f"φ = {value:g}° occurs {count} times; if the data are the same, leave one out"
        for value, count in zip(values, counts, strict=True)
        if count > 1
    ]
