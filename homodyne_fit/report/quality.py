"""The quality of the matrices of one wave vector, drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from homodyne_fit.data.formats import TwoTimeFile
from homodyne_fit.data.quality import MatrixQuality, duplicates
from homodyne_fit.errors import ranges

__all__ = ["quality_plot", "STORED", "remarks"]


LABEL_SIZE, TICK_SIZE = 9, 8

# A legend lists no more angles than this.
MOST_LABELS = 12

STORED = {"upper": "upper half", "lower": "lower half", "all": "full", "": "nothing"}

EXPECTED = {**STORED, "all": "whole matrix"}

# A drift is spoken of from so many standard errors and such a part of the contrast on.
DRIFT_ERRORS, DRIFT_CONTRAST = 5.0, 0.1


def quality_plot(
    matrices: Sequence[MatrixQuality], phi: Sequence[float], dt: float | None, title: str
) -> Figure:
    """Draw scaling and drift against angle, noise against lag, and the level of every frame.

    Parameters
    ----------
    matrices : sequence of K MatrixQuality
        Of one wave vector.
    phi : (K,)
        Degrees, or the number of each matrix where the angle is not known.
    dt : float or None
        Seconds; lags are in frames without it.
    title : str
    """
    figure = Figure(figsize=(9.2, 6.4), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=LABEL_SIZE + 2)
    scaling, noise, drift, frames = figure.subplots(2, 2).ravel()
    colors = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(matrices)))
    _draw_scaling(scaling, matrices, phi)
    _draw_noise(noise, matrices, phi, dt, colors)
    _draw_drift(drift, matrices, phi)
    _draw_frames(frames, matrices, colors)
    for axes in (scaling, noise, drift, frames):
        axes.tick_params(labelsize=TICK_SIZE)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_scaling(axes: Axes, matrices: Sequence[MatrixQuality], phi: Sequence[float]) -> None:
    axes.plot(phi, [matrix.contrast for matrix in matrices], "o", label="contrast")
    axes.plot(phi, [matrix.offset for matrix in matrices], "s", label="offset")
    axes.plot(phi, [matrix.finite for matrix in matrices], "^", label="finite fraction")
    axes.legend(fontsize=TICK_SIZE, frameon=False)
    _label(axes, "azimuthal angle φ (°)", "estimate")


def _draw_noise(
    axes: Axes,
    matrices: Sequence[MatrixQuality],
    phi: Sequence[float],
    dt: float | None,
    colors: np.ndarray,
) -> None:
    for matrix, angle, color in zip(matrices, phi, colors, strict=True):
        axes.plot(
            matrix.lags * (dt or 1),
            matrix.noise,
            ".-",
            color=color,
            linewidth=1,
            label=f"{angle:g}°",
        )
    axes.set_xscale("log")
    if 0 < len(matrices) <= MOST_LABELS:
        axes.legend(fontsize=TICK_SIZE, frameon=False, ncols=2)
    _label(axes, "lag (s)" if dt else "lag (frames)", "noise of a point")


def _draw_drift(axes: Axes, matrices: Sequence[MatrixQuality], phi: Sequence[float]) -> None:
    known = [k for k, matrix in enumerate(matrices) if np.isfinite(matrix.drift)]
    axes.axhline(0, color="#888888", linewidth=0.8)
    axes.errorbar(
        [phi[k] for k in known],
        [matrices[k].drift for k in known],
        [matrices[k].drift_error for k in known],
        fmt="o",
        elinewidth=0.8,
    )
    _label(axes, "azimuthal angle φ (°)", "drift of the baseline")


def _draw_frames(axes: Axes, matrices: Sequence[MatrixQuality], colors: np.ndarray) -> None:
    for matrix, color in zip(matrices, colors, strict=True):
        axes.plot(np.arange(1, len(matrix.levels) + 1), matrix.levels, color=color, linewidth=0.7)
        marked = np.union1d(matrix.odd, matrix.repeated)
        axes.plot(marked, matrix.levels[marked - 1], "o", color="#d55e00", markersize=4)
        for frame in matrix.dead:
            axes.axvline(frame, color="#d55e00", linewidth=0.8, linestyle=":")
    _label(axes, "frame", "level against the frames around it")


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=LABEL_SIZE)
    axes.set_ylabel(y, fontsize=LABEL_SIZE)


def remarks(
    file: TwoTimeFile, positions: Sequence[int], matrices: Sequence[MatrixQuality]
) -> Iterator[str]:
    """What is wrong with each matrix, and between them, in words."""
    for position, matrix in zip(positions, matrices, strict=True):
        for text in _remarks_about(matrix):
            yield f"{_called(file, position)}: {text}"
    for first, later in duplicates(matrices):
        yield (
            f"{_called(file, positions[later])}: the same data as {_called(file, positions[first])}"
        )
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
            yield f"{_called(file, position)}: the angle is not finite; it cannot be fitted"
            continue
        place = (float(file.q[position]), float(file.phi[position] % 360))
        first = seen.setdefault(place, position)
        if first != position:
            yield f"{_called(file, position)}: q and φ are those of {_called(file, first)}"


def _remarks_about(matrix: MatrixQuality) -> Iterator[str]:
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


def _called(file: TwoTimeFile, position: int) -> str:
    """What the user knows a matrix by, and the file."""
    known = [] if file.q is None else [f"q = {file.q[position]:.4g} Å⁻¹"]
    known += [] if file.phi is None else [f"φ = {file.phi[position]:g}°"]
    return ", ".join([*known, file.names[position]])
