"""Results for other programs: a table of the parameters, and homodyne's ``fitted_data.npz``."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from homodyne_fit.atomic import replacing
from homodyne_fit.fitting.result import FitResult
from homodyne_fit.results.record import FitRecord

__all__ = ["COLUMNS", "parameter_rows", "write_csv", "write_homodyne"]

COLUMNS = ("name", "phi", "value", "stderr", "unit", "at_bound", "fixed")

# The uncertainty that homodyne assumes of every point when it normalises a residual, over c2.
HOMODYNE_ERROR = 0.05


def write_csv(path: Path, result: FitResult) -> None:
    """Write ``parameters.csv``: the physics, then contrast and offset of each angle.

    A standard error is empty where there is none, and ``inf`` where the data do not determine
    the value. Numbers have all their digits.
    """
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(COLUMNS)
    for name, phi, value, stderr, unit, *flags in parameter_rows(result):
        numbers = ["" if np.isnan(number) else number for number in (phi, value, stderr)]
        table.writerow([name, *numbers, unit, *(str(flag).lower() for flag in flags)])
    with replacing(path) as temporary:
        temporary.write_text(stream.getvalue(), encoding="utf-8")


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
