"""A page about a file of matrices, before any fit: every matrix, its quality, and what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.atomic import replacing
from homodyne_fit.data.formats.two_time_file import TwoTimeFile
from homodyne_fit.data.quality import MatrixQuality, symmetric
from homodyne_fit.data.selection import about_file
from homodyne_fit.errors import counted
from homodyne_fit.fitting.result import finite_or_none
from homodyne_fit.report.numbers import format_number, format_time
from homodyne_fit.report.page_data import Arrays, as_script, most_pixels
from homodyne_fit.report.page_files import PAGE, render_page
from homodyne_fit.report.quality import remarks
from homodyne_fit.report.reduction import lag_edges
from homodyne_fit.report.views import block_average, mirrored

__all__ = ["write_raw_page"]

Floats = NDArray[np.float64]


def write_raw_page(
    path: Path,
    file: TwoTimeFile,
    positions: Sequence[int],
    matrices: Sequence[MatrixQuality],
    table: Sequence[Sequence[str]],
) -> None:
    """Write a self-contained page about matrices of a file; it appears whole or not at all.

    Parameters
    ----------
    path : Path
    file : TwoTimeFile
    positions : sequence of int
        Of the matrices in the file.
    matrices : sequence of MatrixQuality
        Of the same.
    table : sequence of rows
        Their quality in words, with a row of headings first.
    """
    arrays = Arrays()
    shown = [
        _matrix(arrays, file, position, matrix, len(positions))
        for position, matrix in zip(positions, matrices, strict=True)
    ]
    numbers = {
        "frames": file.n_frames,
        "dt": file.dt or 1.0,
        "unit": "s" if file.dt else "frames",
        "matrices": shown,
        "arrays": arrays.stored,
    }
    questions = about_file(file, None, None, None).values()
    notes = [*questions, *remarks(file, positions, matrices), *file.notes]
    faulty = [_is_faulty(matrix) for matrix in matrices]
    text = render_page(
        "raw.html",
        *PAGE,
        "raw.js",
        numbers=as_script(numbers),
        title=file.path.name,
        source=str(file.path),
        facts=_facts(file, len(positions)),
        verdict=_verdict(len(positions), len(notes)),
        notes=notes,
        header=table[0],
        rows=table[1:],
        several=len(positions) > 1,
        unit=numbers["unit"],
        first=faulty.index(True) if any(faulty) else 0,
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _is_faulty(matrix: MatrixQuality) -> bool:
    frames = (matrix.dead, matrix.odd, matrix.repeated)
    return not matrix.stored or matrix.asymmetric > 0 or any(map(len, frames))


def _verdict(count: int, notes: int) -> tuple[str, str]:
    """Level and headline."""
    what = counted(count, "matrix")
    if notes:
        return "caution", f"{counted(notes, 'note')} on {what}."
    return "good", f"No fault was found in {what}."


def _facts(file: TwoTimeFile, count: int) -> list[str]:
    facts = [file.format, counted(count, "matrix")]
    if file.dt:
        duration = format_time(file.n_frames * file.dt)
        facts.append(f"{file.n_frames} frames of {format_number(file.dt)} s = {duration}")
    else:
        facts.append(f"{file.n_frames} frames; their time is not in the file")
    facts += [f"{name} is not in the file" for name in ("q", "phi") if getattr(file, name) is None]
    return [fact.replace("phi", "φ") for fact in facts]


def _matrix(
    arrays: Arrays, file: TwoTimeFile, position: int, matrix: MatrixQuality, count: int
) -> dict[str, Any]:
    c2 = symmetric(file.read_stored(position)) + file.shift
    upper = np.triu(np.ones(c2.shape, dtype=bool), 1)
    c2 = np.where(upper & np.isfinite(c2), c2, np.nan)
    block = max(1, -(-file.n_frames // most_pixels(count)))
    mean, number = block_average(c2, block)
    half = np.triu_indices(len(mean))
    lags, means = _means_at_lags(c2)
    phi = None if file.phi is None else finite_or_none(float(file.phi[position]))
    q = None if file.q is None else finite_or_none(float(file.q[position]))
    return {
        "label": str(position + 1) if phi is None else f"{format_number(phi)}°",
        "name": _name(file, position, phi, q),
        "phi": phi,
        "q": q,
        "side": len(mean),
        "block": block,
        "data": arrays.integers(mirrored(mean)[half], 16),
        "count": arrays.integers(number[half].astype(float), 16, (0.0, max(1.0, block**2 / 6e4))),
        "lags": arrays.floats(lags),
        "means": arrays.floats(means),
        "noise_lags": arrays.floats(matrix.lags.astype(float)),
        "noise": arrays.floats(matrix.noise),
        "levels": arrays.floats(matrix.levels),
        "marked": sorted({int(k) for k in (*matrix.dead, *matrix.odd, *matrix.repeated)}),
        "contrast": finite_or_none(matrix.contrast),
        "offset": finite_or_none(matrix.offset),
    }


def _name(file: TwoTimeFile, position: int, phi: float | None, q: float | None) -> str:
    known = [] if q is None else [f"q = {format_number(q, 4)} Å⁻¹"]
    known += [] if phi is None else [f"φ = {format_number(phi)}°"]
    return ", ".join([*known, file.names[position]])


def _means_at_lags(c2: Floats) -> tuple[Floats, Floats]:
    """Lags in frames, and means of c2 (n, n), NaN but at t1 < t2, over bins of them."""
    i, j = np.nonzero(np.isfinite(c2))
    edges = lag_edges(len(c2))
    bins = np.searchsorted(edges, j - i, side="right") - 1
    count, lags, values = (
        np.bincount(bins, weights, len(edges)) for weights in (None, j - i, c2[i, j])
    )
    known = count > 0
    return lags[known] / count[known], values[known] / count[known]
