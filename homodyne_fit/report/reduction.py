"""Sums over the points t1 < t2 of a matrix: by pixel, by lag and age, by frame, by residual.

All sums are made in one pass over bands of successive rows. What depends on the times of the points
alone is computed once and serves all angles.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.storage.stored_matrices import block
from homodyne_fit.fitting.fitted_matrices import FittedMatrices
from homodyne_fit.fitting.result import FitResult
from nlsq_stratified.processors import available_processors

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

# Rows that are reduced at a time: they stay in the cache of a processor.
BAND = 128


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
    square : () array
        Sum of squared residuals.
    """

    all_points: Floats
    all_fit: Floats
    pixels: Floats
    cells: Floats
    frames: Floats
    histogram: Floats
    square: Floats

    @classmethod
    def zeros(cls, n: int, size: int) -> PointSums:
        """Sums over no points of n frames, with pixels of a size in frames."""
        side, bins = -(-n // size), len(lag_edges(n)) - 1
        return cls(
            all_points=np.zeros((side, side)),
            all_fit=np.zeros((side, side)),
            pixels=np.zeros((3, side, side)),
            cells=np.zeros((4, bins, AGES * PARTS)),
            frames=np.zeros((2, n)),
            histogram=np.zeros(HISTOGRAM_BINS + 2),
            square=np.zeros(()),
        )


def reduce_angles(
    data: TwoTimeData, result: FitResult, angles: Sequence[int], sizes: Sequence[int]
) -> list[PointSums]:
    """Reduce some angles, each to pixels of its own size in frames."""
    n, fitted = data.n_frames, FittedMatrices.of(result)
    all_sums = [PointSums.zeros(n, size) for size in sizes]

    def add(band: _Band, angle: int, size: int, sums: PointSums) -> None:
        at = band.rows, band.columns
        measured = block(data.c2, angle, *(slice(each.start, each.stop) for each in at))
        band.add(sums, measured, fitted.c2(angle, *at), size, result.noise)

    with ThreadPoolExecutor(available_processors()) as threads:
        for start in range(0, n, BAND):
            band = _Band(n, range(start, min(start + BAND, n)))
            list(threads.map(partial(add, band), angles, sizes, all_sums))
    return all_sums


def lag_edges(n: int) -> NDArray[np.int64]:
    """Edges of the bins of lag, frames."""
    return np.unique(np.rint(np.geomspace(1, n, min(n, LAG_POINTS))).astype(int))


def age_edges(n: int) -> Floats:
    """Edges of all parts of the measurement, in frames."""
    return np.linspace(0, n - 1, AGES * PARTS + 1)


class _Counts(NamedTuple):
    """Of points of a band: their number by pixel, cell and frame, and sums of lags by cell."""

    pixels: Floats
    cells: Floats
    lags: Floats
    frames: Floats


class _Band:
    """Successive rows, each from the first diagonal entry of them on; values are 0 at t1 ≥ t2."""

    def __init__(self, n: int, rows: range) -> None:
        self.n, self.rows, self.columns = n, rows, range(rows.start, n)
        first, second = np.array(self.rows)[:, None], np.array(self.columns)
        self.lag = second - first
        self.upper = self.lag > 0
        lags = np.searchsorted(lag_edges(n), np.arange(n), side="right") - 1
        ages = np.searchsorted(age_edges(n)[1:-1], np.arange(2 * n) / 2, side="right")
        cell = (lags[np.maximum(self.lag, 1)] * (AGES * PARTS) + ages[first + second]).ravel()
        self.n_cells = (len(lag_edges(n)) - 1) * AGES * PARTS
        # Neighbours in a row are mostly in the same cell.
        self.runs = np.flatnonzero(np.diff(cell, prepend=-1))
        self.cell_of_run = cell[self.runs]
        # By size of a pixel.
        self._counts_of_all: dict[int, _Counts] = {}

    def add(
        self,
        sums: PointSums,
        measured: NDArray[np.floating],
        fit: Floats,
        size: int,
        noise: float,
    ) -> None:
        """Add the points of one angle to its sums."""
        all_fit = fit = np.where(self.upper, fit, 0.0)
        residual = measured - fit
        known = self.upper & np.isfinite(residual)
        residual = np.where(known, residual, 0.0)
        all_counts = counts = self.counts_of_all(size)
        if not np.array_equal(known, self.upper):
            fit, counts = np.where(known, fit, 0.0), self.counts(known, size)
        rows = slice(self.rows.start // size, -(-self.rows.stop // size))
        pixels = rows, slice(rows.start, None)
        sums.all_points[pixels] += all_counts.pixels
        sums.all_fit[pixels] += self.by_pixel(all_fit, size)
        of_pixels = (
            counts.pixels,
            self.by_pixel(fit + residual, size),
            self.by_pixel(residual, size),
        )
        sums.pixels[:, *pixels] += of_pixels
        sums.cells[...] += counts.cells, counts.lags, self.by_cell(fit), self.by_cell(residual)
        sums.frames[...] += counts.frames, self.by_frame(residual)
        sums.histogram[...] += _histogram(residual[known], noise)
        sums.square[...] += np.square(residual).sum()

    def counts_of_all(self, size: int) -> _Counts:
        """Those of all points t1 < t2, measured or not."""
        if size not in self._counts_of_all:
            self._counts_of_all[size] = self.counts(self.upper, size)
        return self._counts_of_all[size]

    def counts(self, which: NDArray[np.bool_], size: int) -> _Counts:
        """Those of some points (rows, columns)."""
        ones = which.astype(float)
        return _Counts(
            self.by_pixel(ones, size),
            self.by_cell(ones),
            self.by_cell(self.lag * ones),
            self.by_frame(ones),
        )

    def by_pixel(self, values: Floats, size: int) -> Floats:
        """Sums over the pixels of the band."""
        ends = [
            np.maximum(np.arange(at.start // size * size, at.stop, size) - at.start, 0)
            for at in (self.rows, self.columns)
        ]
        return np.add.reduceat(np.add.reduceat(values, ends[1], axis=1), ends[0], axis=0)

    def by_cell(self, values: Floats) -> Floats:
        """Sums by lag and age."""
        of_runs = np.add.reduceat(values.ravel(), self.runs)
        return np.bincount(self.cell_of_run, of_runs, self.n_cells).reshape(-1, AGES * PARTS)

    def by_frame(self, values: Floats) -> Floats:
        """Sums over the points of which t1 or t2 is a frame, (n,)."""
        sums = np.zeros(self.n)
        sums[self.columns.start :] = values.sum(axis=0)
        sums[self.rows.start : self.rows.stop] += values.sum(axis=1)
        return sums


def _histogram(residual: Floats, noise: float) -> Floats:
    """Points by residual in units of the noise; all are in the middle where there is none."""
    width = 2 * HISTOGRAM_RANGE / HISTOGRAM_BINS
    scaled = residual / (width * noise) if noise > 0 else np.zeros(len(residual))
    scaled += 1 + HISTOGRAM_BINS / 2
    # Truncation towards 0 is the floor of what is positive.
    bins = np.clip(scaled, 0, HISTOGRAM_BINS + 1, out=scaled).astype(np.int64)
    return np.bincount(bins, minlength=HISTOGRAM_BINS + 2).astype(float)
