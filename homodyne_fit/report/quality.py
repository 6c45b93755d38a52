"""What is wrong with the matrices of a file, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from homodyne_fit.data.formats import TwoTimeFile
from homodyne_fit.data.quality import MatrixQuality, duplicates
from homodyne_fit.data.selection import LOWEST_BASELINE
from homodyne_fit.errors import counted, ranges, shortened_numbers

__all__ = ["STORED", "remarks"]

# What is stored of a matrix, and what a format says is stored of it.
STORED = {"upper": "upper half", "lower": "lower half", "all": "full", "": "nothing"}
EXPECTED = {**STORED, "all": "whole matrix"}

# Number of matrices from which on they are spoken of together.
COLLECTED = 3

# A drift of fewer standard errors is not spoken of.
DRIFT_ERRORS = 5.0

# A drift that is a smaller part of the contrast is not spoken of.
DRIFT_CONTRAST = 0.1


class Remark(NamedTuple):
    """What is wrong with one matrix: in general, and with the numbers of this matrix."""

    kind: str
    detail: str = ""


def remarks(
    file: TwoTimeFile, positions: Sequence[int], matrices: Sequence[MatrixQuality]
) -> Iterator[str]:
    """What is wrong with each matrix, and between them, in words.

    What is wrong with several matrices is one sentence.
    """
    found: dict[str, list[tuple[int, str]]] = {}
    for position, matrix in zip(positions, matrices, strict=True):
        for kind, detail in _remarks_on_matrix(matrix):
            found.setdefault(kind, []).append((position, detail))
    for kind, places in found.items():
        if len(places) < COLLECTED:
            yield from (f"{_name_of(file, k)}: {kind}{detail}" for k, detail in places)
            continue
        first = places[0][1]
        alike = all(detail == first for _, detail in places)
        text = f"{kind}{first}" if alike else f"{kind} (in the first{first})"
        number = f"{len(places)} of {counted(len(positions), 'matrix')}"
        yield f"{number} ({_names_of(file, [k for k, _ in places])}): {text}"
    for first, later in duplicates(matrices):
        same, name = (_name_of(file, positions[k]) for k in (first, later))
        yield f"{name}: the same data as {same}"
    yield from _equal_angles(file, positions)
    bad = sorted({int(k) for matrix in matrices for k in (*matrix.dead, *matrix.odd)})
    if 0 < len(bad) < file.n_frames:
        yield f"frames are left out with experimental_data: {{mask_frames: {bad}}}"


def _equal_angles(file: TwoTimeFile, positions: Sequence[int]) -> Iterator[str]:
    if file.q is None or file.phi is None:
        return
    seen: dict[tuple[float, float], int] = {}
    for position in positions:
        if not np.isfinite(file.phi[position]):
            yield f"{_name_of(file, position)}: the angle is not finite; it cannot be fitted"
            continue
        place = (float(file.q[position]), float(file.phi[position] % 360))
        first = seen.setdefault(place, position)
        if first != position:
            yield f"{_name_of(file, position)}: q and φ are those of {_name_of(file, first)}"


def _remarks_on_matrix(matrix: MatrixQuality) -> Iterator[Remark]:
    if not matrix.stored:
        yield Remark("nothing is stored: every value is zero or missing")
        return
    if matrix.unexpectedly_full:
        yield Remark(f"both halves are stored, where the {EXPECTED[matrix.expected]} was expected")
    elif matrix.stored != "all" and matrix.expected not in ("", matrix.stored):
        part, expected = STORED[matrix.stored], EXPECTED[matrix.expected]
        yield Remark(f"the {part} is stored, where the {expected} was expected")
    if matrix.asymmetric:
        share = f"{100 * matrix.asymmetric:.3g} %"
        yield Remark("not symmetric", f": {share} of the entries differ; it cannot be fitted")
    if matrix.offset < LOWEST_BASELINE:
        yield Remark(
            "the values at long lags are near 0, not near 1, so that this is c2 − 1, or scaled "
            "otherwise; the model needs c2: add 1",
            f" (the offset is {matrix.offset:.2g})",
        )
    for frames, what in (
        (matrix.dead, "without a signal"),
        (matrix.odd, "unlike those around them"),
        (matrix.repeated, "that repeat the one before"),
    ):
        if len(frames):
            yield Remark(f"frames {what}", f": {ranges(frames.tolist())}")
    if abs(matrix.drift) > max(
        DRIFT_ERRORS * matrix.drift_error, DRIFT_CONTRAST * abs(matrix.contrast)
    ):
        sizes = f" by {matrix.drift:.2g}, for a contrast of {matrix.contrast:.2g}"
        yield Remark("the baseline drifts", sizes)


def _names_of(file: TwoTimeFile, positions: Sequence[int]) -> str:
    """What the user knows several matrices by: their q and φ, or else their names."""
    if file.phi is None or len(positions) == file.n_matrices:
        names = [file.names[k] for k in positions]
        return ", ".join([names[0], *(["…"] if len(names) > 2 else []), names[-1]])
    if file.q is None:
        return f"φ = {shortened_numbers(file.phi[k] for k in positions)}°"
    angles: dict[str, list[float]] = {}
    for k in positions:
        angles.setdefault(f"{file.q[k]:.4g}", []).append(file.phi[k])
    return "; ".join(f"q = {q} Å⁻¹, φ = {shortened_numbers(phi)}°" for q, phi in angles.items())


def _name_of(file: TwoTimeFile, position: int) -> str:
    """What the user knows a matrix by, and the file."""
    known = [] if file.q is None else [f"q = {file.q[position]:.4g} Å⁻¹"]
    known += [] if file.phi is None else [f"φ = {file.phi[position]:g}°"]
    return ", ".join([*known, file.names[position]])
