"""Results for other programs: tables, and the ``fitted_data.npz`` of homodyne."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from homodyne_fit.atomic import replacing
from homodyne_fit.fitting.result import FitResult
from homodyne_fit.results.record import FitRecord

__all__ = [
    "ANGLE_COLUMNS",
    "COLUMNS",
    "angle_rows",
    "parameter_rows",
    "write_angles",
    "write_csv",
    "write_homodyne",
]

COLUMNS = ("name", "phi", "value", "stderr", "unit", "at_bound", "fixed")

ANGLE_COLUMNS = (
    "phi",
    "q",
    "contrast",
    "contrast_stderr",
    "offset",
    "offset_stderr",
    "n_points",
    "rms",
    "reduced_chi2",
)

# The uncertainty that homodyne assumes of every point when it normalises a residual, over c2.
HOMODYNE_ERROR = 0.05


def write_csv(path: Path, result: FitResult) -> None:
    """Write ``parameters.csv``: the physics, then contrast and offset of each angle.

    A standard error is empty where there is none, and ``inf`` where the data do not determine
    the value. Numbers have all their digits.
    """
    rows = [
        [name, *_cells(phi, value, stderr), unit, *(str(flag).lower() for flag in flags)]
        for name, phi, value, stderr, unit, *flags in parameter_rows(result)
    ]
    _write_table(path, [COLUMNS, *rows])


def write_angles(path: Path, result: FitResult) -> None:
    """Write ``angles.csv``: contrast, offset and the residuals of each angle.

    A standard error, or a number that is not known, is empty; numbers have all their digits.
    """
    _write_table(path, [ANGLE_COLUMNS, *(_cells(*row) for row in angle_rows(result))])


def _cells(*numbers: float) -> list[float | str]:
    return ["" if np.isnan(number) else number for number in numbers]


def _write_table(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    with replacing(path) as temporary:
        temporary.write_text(stream.getvalue(), encoding="utf-8")


def angle_rows(result: FitResult) -> list[tuple[Any, ...]]:
    """A tuple of `ANGLE_COLUMNS` for each angle; NaN where a number is not known."""
    o, goodness = result.objective, result.goodness
    pairs = zip(o.phi.tolist(), o.q.tolist(), result.contrast, result.offset, strict=True)
    estimates = [(phi, q, c.value, c.stderr, b.value, b.stderr) for phi, q, c, b in pairs]
    numbers = zip(
        [int(n) if np.isfinite(n) else n for n in goodness.n_points],
        goodness.rms_of_angles.tolist(),
        goodness.reduced_chi2_of_angles.tolist(),
        strict=True,
    )
    return [(*row, *more) for row, more in zip(estimates, numbers, strict=True)]


def parameter_rows(result: FitResult) -> list[tuple[Any, ...]]:
    """A tuple of `COLUMNS` for each parameter, then for contrast and offset of each angle."""
    angles = [np.nan] * len(result.parameters) + [float(phi) for phi in result.objective.phi] * 2
    estimates = [*result.parameters.values(), *result.contrast, *result.offset]
    return [
        (name, phi, e.value, e.stderr, e.unit, e.at_bound, e.fixed)
        for name, phi, e in zip(result.names, angles, estimates, strict=True)
    ]


def write_homodyne(path: Path, record: FitRecord) -> None:
    """Write ``fitted_data.npz`` with the arrays that homodyne writes under this name.

    All matrices are full and symmetric, (K, n, n), as there; a point without data, the diagonal
    included, is NaN in the data and the residuals. ``c2_theoretical_raw`` is 1 + f, and
    ``per_angle_scaling`` (K, 2) holds what multiplies it and what is added to that, so that an
    offset there is ours less the contrast. ``per_angle_scaling_solver`` (K, 2) holds contrast and
    offset. homodyne fits the first pair anew after the fit; here both are one scaling.
    """
    data = record.data
    contrast, offset = (
        np.array([estimate.value for estimate in estimates])
        for estimates in (record.contrast, record.offset)
    )
    above = np.triu(np.ones((data.n_frames, data.n_frames), dtype=bool), 1)
    fit = np.stack([record.c2(k) for k in range(data.n_angles)])
    half = np.where(above, data.c2, np.nan)
    c2 = np.where(above, half, np.swapaxes(half, 1, 2))
    residuals = c2 - fit
    raw = np.stack([record.decay(k) for k in range(data.n_angles)]) + 1
    arrays = {
        "phi_angles": data.phi,
        "c2_exp": c2,
        "c2_theoretical_raw": raw,
        "c2_theoretical_scaled": fit,
        "c2_solver_scaled": fit,
        "per_angle_scaling": np.column_stack([contrast, offset - contrast]),
        "per_angle_scaling_solver": np.column_stack([contrast, offset]),
        "residuals": residuals,
        "residuals_normalized": np.divide(
            residuals, HOMODYNE_ERROR * c2, out=np.zeros_like(residuals), where=c2 != 0
        ),
        "t1": data.times,
        "t2": data.times,
        "q": data.q[:1],
    }
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
