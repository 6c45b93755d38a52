"""The wave vector of a fit: which matrices of a file have it.

The place of a `Problem` is an argument of `homodyne_fit.data.selection.select`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.formats.two_time_file import TwoTimeFile
from homodyne_fit.data.units import INVERSE_LENGTHS, other_unit
from homodyne_fit.errors import InputError, Problem, shortened_numbers

__all__ = ["SAME_Q", "nearest_q", "note_on_distance", "q_groups", "wave_vectors_of"]

# Largest relative difference of q between the bins of one ring.
SAME_Q = 0.01

# Largest relative difference of the wanted q from the q of a file that has only one.
ONLY_Q = 0.1

# Largest relative rounding error of q; in float32 it is up to 6e-8.
ROUNDING = 1e-6


def wave_vectors_of(file: TwoTimeFile, q: float | None) -> NDArray[np.float64]:
    """Wave vector of each matrix, Å⁻¹: that of the file or, where it has none, the given one."""
    if file.q is not None:
        return file.q
    if q is None:
        raise file.problem("q", "the file does not give q; set it, in Å⁻¹")
    return np.full(file.n_matrices, q, dtype=np.float64)


def q_groups(q: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Positions with the same wave vector, for each wave vector, ascending in q.

    Wave vectors are the same if they differ by at most the fraction `SAME_Q`: some files have the
    mean q of each bin, which differs a little between angles. Positions without a positive, finite
    q are left out.
    """
    groups: list[list[np.intp]] = []
    for position in np.argsort(q, kind="stable"):
        if not (np.isfinite(q[position]) and q[position] > 0):
            continue
        if groups and q[position] <= q[groups[-1][0]] * (1 + SAME_Q):
            groups[-1].append(position)
        else:
            groups.append([position])
    return [np.sort(np.array(group)) for group in groups]


def nearest_q(q: NDArray[np.float64], wanted: float | None, source: str) -> NDArray[np.intp]:
    """Positions of the wave vector that is nearest to the wanted one.

    It must be within half the distance to a neighbouring wave vector or, if it is the only one,
    within the fraction `ONLY_Q`. If none is wanted, there must be only one.
    """
    groups = q_groups(q)
    centres = np.array([q[group].mean() for group in groups])
    choice = f"the file has q = {shortened_numbers(centres)} Å⁻¹"
    if not groups:
        raise InputError(
            f"{source}: no matrix has a positive, finite q: {shortened_numbers(np.unique(q))}; "
            "mend the file"
        )
    if wanted is None:
        if len(groups) > 1:
            raise InputError([Problem("q", f"{source}: {choice}; choose one of them")])
        return groups[0]
    distances = np.abs(centres - wanted)
    nearest = int(np.argmin(distances))
    spacings = np.diff(centres)[max(nearest - 1, 0) : nearest + 1]
    limit, meaning = ONLY_Q * centres[nearest], f"{ONLY_Q:.0%} of it"
    if len(spacings):
        limit, meaning = spacings.max() / 2, "half a bin"
    if not distances[nearest] <= limit * (1 + ROUNDING):
        what = (
            f"{source}: no matrix is near q = {wanted:.6g} Å⁻¹, but {choice}; the nearest is "
            f"{distances[nearest]:.3g} Å⁻¹ away, and {meaning} is {limit:.3g} Å⁻¹; choose one of "
            f"them{other_unit(wanted, centres, SAME_Q, INVERSE_LENGTHS, 'Å⁻¹')}"
        )
        raise InputError([Problem("q", what)])
    return groups[nearest]


def note_on_distance(q: NDArray[np.float64], wanted: float | None) -> list[str]:
    """A note if the wave vectors (K,) differ from the wanted one."""
    if wanted is None or np.all(np.abs(q - wanted) <= ROUNDING * np.abs(wanted)):
        return []
    return [
        f"the nearest q, {q.mean():.6g} Å⁻¹, is {abs(q.mean() - wanted):.3g} Å⁻¹ from the wanted "
        f"{wanted:.6g} Å⁻¹"
    ]
