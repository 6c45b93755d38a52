"""What is wrong with the matrices of a file, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from homodyne_fit.data.formats import TwoTimeFile
from homodyne_fit.data.quality import MatrixQuality, duplicates
from homodyne_fit.errors import ranges

__all__ = ["STORED", "remarks"]

# What is stored of a matrix, and what a format says is stored of it.
STORED = {"upper": "upper half", "lower": "lower half", "all": "full", "": "nothing"}
EXPECTED = {**STORED, "all": "whole matrix"}

# A drift of fewer standard errors is not spoken of.
DRIFT_ERRORS = 5.0

# A drift that is a smaller part of the contrast is not spoken of.
DRIFT_CONTRAST = 0.1


def remarks(
    file: TwoTimeFile, positions: Sequence[int], matrices: Sequence[MatrixQuality]
) -> Iterator[str]:
    """What is wrong with each matrix, and between them, in words."""
    for position, matrix in zip(positions, matrices, strict=True):
        for text in _remarks_on_matrix(matrix):
            yield f"{_name_of(file, position)}: {text}"
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


def _remarks_on_matrix(matrix: MatrixQuality) -> Iterator[str]:
    if not matrix.stored:
        yield "nothing is stored: every value is zero or missing"
        return
    if matrix.unexpectedly_full:
        yield f"both halves are stored, where the {EXPECTED[matrix.expected]} was expected"
    elif matrix.stored != "all" and matrix.expected not in ("", matrix.stored):
        part, expected = STORED[matrix.stored], EXPECTED[matrix.expected]
        yield f"the {part} is stored, where the {expected} was expected"
    if matrix.asymmetric:
        share = f"{100 * matrix.asymmetric:.3g} %"
        yield f"not symmetric: {share} of the entries differ; it cannot be fitted"
    for frames, what in (
        (matrix.dead, "without a signal"),
        (matrix.odd, "unlike those around them"),
        (matrix.repeated, "that repeat the one before"),
    ):
        if len(frames):
            yield f"frames {what}: {ranges(frames.tolist())}"
    if abs(matrix.drift) > max(
        DRIFT_ERRORS * matrix.drift_error, DRIFT_CONTRAST * abs(matrix.contrast)
    ):
        yield f"the baseline drifts by {matrix.drift:.2g}, for a contrast of {matrix.contrast:.2g}"


def _name_of(file: TwoTimeFile, position: int) -> str:
    """What the user knows a matrix by, and the file."""
    known = [] if file.q is None else [f"q = {file.q[position]:.4g} Å⁻¹"]
    known += [] if file.phi is None else [f"φ = {file.phi[position]:g}°"]
    return ", ".join([*known, file.names[position]])
