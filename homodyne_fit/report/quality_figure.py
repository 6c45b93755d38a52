"""The quality of the matrices of one wave vector, drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from homodyne_fit.data.quality import MatrixQuality
from homodyne_fit.report.style import color_of, label_axes, open_frame, styled

__all__ = ["quality_plot"]

# A legend lists no more angles than this.
MOST_LABELS = 12

# Height of the row of matrices, inches.
IMAGE_HEIGHT = 2.0


@styled
def quality_plot(
    matrices: Sequence[MatrixQuality],
    phi: Sequence[float],
    dt: float | None,
    title: str,
    images: Mapping[float, NDArray[np.floating]] | None = None,
) -> Figure:
    """Draw scaling and drift against angle, noise against lag, and the level of every frame.

    Above them are some of the matrices, if there are `images`.

    Parameters
    ----------
    matrices : sequence of K MatrixQuality
        Of one wave vector.
    phi : (K,)
        Degrees, or the number of each matrix where the angle is not known.
    dt : float or None
        Seconds; lags are in frames without it.
    title : str
    images : mapping, optional
        Matrices c2 (m, m), by the entry of `phi`.
    """
    height = 6.4 + (IMAGE_HEIGHT if images else 0)
    figure = Figure(figsize=(9.2, height), layout="constrained")
    figure.suptitle(title)
    lower: Figure | SubFigure = figure
    if images:
        halves = figure.subfigures(2, 1, squeeze=False, height_ratios=[IMAGE_HEIGHT, 6.4])
        _draw_images(halves[0, 0], images)
        lower = halves[1, 0]
    scaling, noise, drift, frames = lower.subplots(2, 2).ravel()
    colors = mpl.colormaps[mpl.rcParams["image.cmap"]](np.linspace(0, 0.9, len(matrices)))
    _draw_scaling(scaling, matrices, phi)
    _draw_noise(noise, matrices, phi, dt, colors)
    _draw_drift(drift, matrices, phi)
    _draw_frames(frames, matrices, colors)
    for axes in (scaling, noise, drift, frames):
        open_frame(axes)
    return figure


def _draw_images(figure: SubFigure, images: Mapping[float, NDArray[np.floating]]) -> None:
    """The matrices side by side on one colour scale, the first frame at the lower left."""
    values = np.concatenate([image[np.isfinite(image)] for image in images.values()])
    low, high = np.percentile(values, [1, 99]) if values.size else (0.0, 1.0)
    panels = figure.subplots(1, len(images), squeeze=False).ravel()
    for axes, (angle, image) in zip(panels, images.items(), strict=True):
        axes.imshow(image, origin="lower", vmin=low, vmax=high)
        axes.set_title(f"{angle:g}°")
        axes.set_xticks([])
        axes.set_yticks([])
    figure.colorbar(panels[0].images[0], ax=list(panels), shrink=0.9, pad=0.01)


def _draw_scaling(axes: Axes, matrices: Sequence[MatrixQuality], phi: Sequence[float]) -> None:
    axes.plot(phi, [matrix.contrast for matrix in matrices], "o", label="contrast")
    axes.plot(phi, [matrix.offset for matrix in matrices], "s", label="offset")
    axes.plot(phi, [matrix.finite for matrix in matrices], "^", label="finite fraction")
    axes.legend()
    label_axes(axes, "azimuthal angle φ (°)", "estimate")


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
        axes.legend(ncols=2)
    label_axes(axes, "lag (s)" if dt else "lag (frames)", "noise of a point")


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
    label_axes(axes, "azimuthal angle φ (°)", "drift of the baseline")


def _draw_frames(axes: Axes, matrices: Sequence[MatrixQuality], colors: np.ndarray) -> None:
    for matrix, color in zip(matrices, colors, strict=True):
        axes.plot(np.arange(1, len(matrix.levels) + 1), matrix.levels, color=color, linewidth=0.7)
        marked = np.union1d(matrix.odd, matrix.repeated)
        axes.plot(marked, matrix.levels[marked - 1], "o", color=color_of(1), markersize=4)
        for frame in matrix.dead:
            axes.axvline(frame, color=color_of(1), linewidth=0.8, linestyle=":")
    label_axes(axes, "frame", "level against the frames around it")
