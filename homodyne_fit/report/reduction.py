"""Sums over the points t1 < t2 of a matrix: by pixel, by lag and age, by frame, by residual.

All sums of one angle are made in one pass. What depends on the times of the points alone is
computed once and serves all angles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.storage.stored_matrices import block
from homodyne_fit.fitting.result import FitResult
from homodyne_fit.model.rates import Curves, curves

__all__ = ["AGES", "PARTS", "PointSums", "age_edges", "lag_edges", "reduce_angles"]

Floats = NDArray[np.float64]

# Parts of the measurement, by age, that have a lag cut each.
AGES = 3

# Parts of those, each with a mean residual of its own.
PARTS = 8

# Points of a lag cut, at most.
LAG_POINTS = 36

# Residuals beyond so many standard deviations of a point are counted together.
HISTOGRAM_RANGE = 6.0

# Bins of the histogram of residuals within that range.
HISTOGRAM_BINS = 48

# Phases below this are as good as 0.
TINY = 1e-9

# Points that are reduced at a time.
POINTS_AT_A_TIME = 2_000_000


@dataclass(frozen=True, eq=False)
class PointSums:
    """Sums over the measured points of one angle; m pixels a side, b bins of lag, n frames.

    Attributes
    ----------
    all_points, all_fit : (m, m) array
        Number of points of each pixel, measured or not, and the sum of the fit over them.
    pixels : (3, m, m) array
        Number, data and residual.
    cells : (4, b, AGES · PARTS) array
        By lag and age: number, lag in frames, fit, residual.
    frames : (2, n) array
        Of points of which t1 or t2 is the frame: number and residual.
    histogram : (HISTOGRAM_BINS + 2,) array
        Points by residual in units of the noise: bins of equal width from -HISTOGRAM_RANGE to
        HISTOGRAM_RANGE, and one at either end for those beyond.
    square : float
        Sum of squared residuals.
    """

    all_points: Floats
    all_fit: Floats
    pixels: Floats
    cells: Floats
    frames: Floats
    histogram: Floats
    square: float


def reduce_angles(
    data: TwoTimeData, result: FitResult, angles: Sequence[int], sizes: Sequence[int]
) -> Iterator[PointSums]:
    """Reduce some angles, each to pixels of its own size in frames."""
    n, space = data.n_frames, result.space
    integrals = curves(space.model_in_coordinates, space.complete(result.coordinates), data.dt, n)
    rows = max(1, POINTS_AT_A_TIME // n)
    parts = [range(start, min(start + rows, n)) for start in range(0, n, rows)]
    # Several parts need too much memory to be kept.
    kept = [_Points(n, parts[0])] if len(parts) == 1 else None
    for angle, size in zip(angles, sizes, strict=True):
        sums = None
        for points in kept or (_Points(n, part) for part in parts):
            rows = slice(points.rows.start, points.rows.stop)
            measured = block(data.c2, angle, rows, slice(0, n))[points.upper]
            fitted = points.fit(result, angle, integrals)
            one = _sums(points, measured, fitted, size, result.noise)
            sums = one if sums is None else _added(sums, one)
        assert sums is not None
        yield sums


def lag_edges(n: int) -> NDArray[np.int64]:
    """Edges of the bins of lag, frames."""
    return np.unique(np.rint(np.geomspace(1, n, min(n, LAG_POINTS))).astype(int))


def age_edges(n: int) -> Floats:
    """Edges of all parts of the measurement, in frames."""
    return np.linspace(0, n - 1, AGES * PARTS + 1)


class _Points:
    """The points t1 < t2 of some rows, one after the other, and where they belong."""

    def __init__(self, n: int, rows: range) -> None:
        self.n, self.rows = n, rows
        # By size of a pixel, and by q.
        self._pixels: dict[int, tuple[NDArray[np.int64], Floats]] = {}
        self._decays: dict[float, Floats] = {}

    @cached_property
    def upper(self) -> NDArray[np.bool_]:
        """(rows, n)."""
        return np.arange(self.n) > np.array(self.rows)[:, None]

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where each row but an empty one begins, (rows,)."""
        lengths = self.n - 1 - np.array(self.rows)
        return (np.cumsum(lengths) - lengths)[lengths > 0]

    @cached_property
    def first(self) -> NDArray[np.int64]:
        """Index of t1, (points,)."""
        rows = np.array(self.rows)
        return np.repeat(rows, self.n - 1 - rows)

    @cached_property
    def second(self) -> NDArray[np.int64]:
        """Index of t2, (points,)."""
        return np.broadcast_to(np.arange(self.n), self.upper.shape)[self.upper]

    @cached_property
    def cell(self) -> NDArray[np.int64]:
        """Number of the group of equal lag and age, (points,)."""
        lags = np.searchsorted(lag_edges(self.n), np.arange(self.n), side="right") - 1
        inner = age_edges(self.n)[1:-1]
        ages = np.searchsorted(inner, np.arange(2 * self.n) / 2, side="right")
        return lags[self.second - self.first] * (AGES * PARTS) + ages[self.first + self.second]

    @cached_property
    def cells(self) -> int:
        """Number of groups."""
        return (len(lag_edges(self.n)) - 1) * AGES * PARTS

    def pixels(self, size: int) -> tuple[NDArray[np.int64], Floats]:
        """Number of the pixel of each point, row after row, (points,), and points of each pixel."""
        if size not in self._pixels:
            side = -(-self.n // size)
            pixel = self.first // size * side + self.second // size
            self._pixels = {size: (pixel, np.bincount(pixel, minlength=side**2).astype(float))}
        return self._pixels[size]

    @cached_property
    def everywhere(self) -> tuple[Floats, Floats, Floats]:
        """Number of all points by cell, sum of their lags by cell, and number by frame."""
        return (
            np.bincount(self.cell, minlength=self.cells).astype(float),
            np.bincount(self.cell, self.second - self.first, self.cells),
            self.by_frame(np.ones(len(self.first))),
        )

    def by_frame(self, values: Floats) -> Floats:
        """Sums over the points of which t1 or t2 is a frame, (n,)."""
        sums = np.bincount(self.second, values, self.n)
        if len(self.starts):
            rows = slice(self.rows.start, self.rows.start + len(self.starts))
            sums[rows] += np.add.reduceat(values, self.starts)
        return sums

    def fit(self, result: FitResult, angle: int, integrals: Curves) -> Floats:
        """The fitted c2 of one angle, (points,)."""
        o, q = result.objective, float(result.objective.q[angle])
        if q not in self._decays:
            differences = integrals.transport[self.second] - integrals.transport[self.first]
            self._decays = {q: np.exp(-(q**2) * differences)}
        fitted = self._decays[q] * result.contrast[angle].value
        if result.model.has_flow:
            cosine = np.cos(np.deg2rad(result.parameters["phi0"].value - o.phi[angle]))
            curve = o.phase_per_gap * q * o.gap * cosine * integrals.shear
            x = curve[self.second]
            x -= curve[self.first]
            if np.min(np.abs(np.diff(curve))) < TINY:
                # There sin(x)/x is 1 to all digits; Γ never falls, so that others are larger.
                x[np.abs(x) < TINY] = TINY
            ratio = np.sin(x)
            ratio /= x
            for _ in range(o.sinc_power):
                fitted *= ratio
        fitted += result.offset[angle].value
        return fitted


def _sums(
    points: _Points, measured: NDArray[np.floating], fitted: Floats, size: int, noise: float
) -> PointSums:
    (pixel, all_points), side = points.pixels(size), -(-points.n // size)
    residual = measured - fitted
    finite = np.isfinite(residual)
    weights, on_measured = None, fitted
    cell_counts, cell_lags, frame_counts = points.everywhere
    if not finite.all():
        residual[~finite] = 0.0
        weights, on_measured = finite.astype(float), np.where(finite, fitted, 0.0)
        lags = (points.second - points.first) * weights
        cell_counts = np.bincount(points.cell, weights, points.cells)
        cell_lags = np.bincount(points.cell, lags, points.cells)
        frame_counts = points.by_frame(weights)
    all_fit = np.bincount(pixel, fitted, side**2)
    residuals = np.bincount(pixel, residual, side**2)
    count, data = all_points, all_fit + residuals
    if weights is not None:
        count = np.bincount(pixel, weights, side**2)
        data = np.bincount(pixel, on_measured, side**2) + residuals
    cells = [
        cell_counts,
        cell_lags,
        np.bincount(points.cell, on_measured, points.cells),
        np.bincount(points.cell, residual, points.cells),
    ]
    return PointSums(
        all_points.reshape(side, side),
        all_fit.reshape(side, side),
        np.stack([count, data, residuals]).reshape(3, side, side),
        np.stack(cells).reshape(4, -1, AGES * PARTS),
        np.stack([frame_counts, points.by_frame(residual)]),
        _histogram(residual if weights is None else residual[finite], noise),
        float(residual @ residual),
    )


def _histogram(residual: Floats, noise: float) -> Floats:
    """Points by residual in units of the noise; all are in the middle where there is none."""
    width = 2 * HISTOGRAM_RANGE / HISTOGRAM_BINS
    scaled = residual / (width * noise) if noise > 0 else np.zeros(len(residual))
    scaled += 1 + HISTOGRAM_BINS / 2
    # Truncation towards 0 is the floor of what is positive.
    bins = np.clip(scaled, 0, HISTOGRAM_BINS + 1, out=scaled).astype(np.int64)
    return np.bincount(bins, minlength=HISTOGRAM_BINS + 2).astype(float)


def _added(a: PointSums, b: PointSums) -> PointSums:
    return PointSums(**{name: value + getattr(b, name) for name, value in vars(a).items()})
