"""What figures show of the matrices: averages over blocks, at fixed lag, and residuals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.fitting.result import FitResult

__all__ = ["AngleView", "LagCut", "angle_view", "block_average"]


FloatArray = NDArray[np.float64]

# Pixels a side of a displayed matrix, at most.
MOST_PIXELS = 250

# At least, where noise asks for larger blocks.
FEWEST_PIXELS = 60

# Blocks grow until the noise of a pixel is this fraction of the contrast.
PIXEL_NOISE = 0.25

# Parts of the measurement, by age, that have a lag cut each.
AGES = 3

# Points of a lag cut, at most.
LAG_POINTS = 36

# Largest residual that has a colour of its own, in standard deviations.
RESIDUAL_RANGE = 4.0

# Colours of the residual: an odd number of them has a neutral one about zero.
RESIDUAL_STEPS = 17

# A rate that varies by more than this factor is drawn on logarithmic axes.
LOG_RANGE = 20.0

# A profile is drawn up to so many times the rise at the end of its interval.
SHOWN_RISE = 12.0


@dataclass(frozen=True, eq=False)
class LagCut:
    """A matrix averaged over t at fixed lag, for one part of the measurement.

    Attributes
    ----------
    begin, end : float
        Ages (t1 + t2)/2 averaged over, seconds.
    lag : (b,) array
        Mean lag of each bin, seconds.
    data, fit : (b,) array
        Means over the points of the bin that were measured.
    stderr : (b,) array
        Of `data`, if the points scatter independently.
    """

    begin: float
    end: float
    lag: FloatArray
    data: FloatArray
    fit: FloatArray
    stderr: FloatArray


@dataclass(frozen=True, eq=False)
class AngleView:
    """What a page shows of one angle.

    Attributes
    ----------
    phi : float
        Degrees.
    dt : float
        Frame time, seconds.
    n_frames : int
    block : int
        A pixel is the mean over ``block × block`` pairs of frames.
    data, fit : (m, m) array
        Symmetric; NaN where nothing was measured, and for the fit on the diagonal.
    residual : (m, m) array
        Mean of data minus fit, in units of its standard deviation if the points scatter
        independently.
    rms : float
        Of data minus fit over all points, in units of the noise of the whole fit.
    cuts : tuple of LagCut
        From early to late.
    """

    phi: float
    dt: float
    n_frames: int
    block: int
    data: FloatArray
    fit: FloatArray
    residual: FloatArray
    rms: float
    cuts: tuple[LagCut, ...]


def angle_view(
    data: TwoTimeData, result: FitResult, angle: int, most_pixels: int = MOST_PIXELS
) -> AngleView:
    """Reduce one angle to what its figures show.

    Parameters
    ----------
    data : TwoTimeData
        That `result` was fitted to.
    result : FitResult
    angle : int
        Index of the angle.
    most_pixels : int
        Pixels a side of the displayed matrices, at most.
    """
    result.require_angle(angle)
    n, noise = data.n_frames, result.noise
    upper = np.triu(np.ones((n, n), dtype=bool), 1)
    measured = data.c2[angle]
    measured = np.where(upper & np.isfinite(measured), measured, np.nan)
    fitted = result.c2(angle)
    fitted[~upper] = np.nan
    block = _block_size(n, noise, result.contrast[angle].value, most_pixels)
    fit = mirrored(block_average(fitted, block)[0])
    cuts = _lag_cuts(measured, fitted, data.dt, noise)
    # In place of the fit: there may be little memory for another matrix.
    residual = np.subtract(measured, fitted, out=fitted)
    mean, count = block_average(residual, block)
    square = sum(float(np.nansum(row**2)) for row in residual)
    return AngleView(
        phi=float(data.phi[angle]),
        dt=data.dt,
        n_frames=n,
        block=block,
        data=mirrored(block_average(measured, block)[0]),
        fit=fit,
        residual=mirrored(_in_units_of_noise(mean * np.sqrt(count), noise)),
        rms=float(_in_units_of_noise(np.sqrt(square / count.sum()), noise)),
        cuts=cuts,
    )


def block_average(matrix: NDArray[np.floating], size: int) -> tuple[FloatArray, NDArray[np.int64]]:
    """Mean of the finite entries of each block, and their number.

    Parameters
    ----------
    matrix : (n, n) array
    size : int
        Side of a block; those at the end are smaller where `size` does not divide n.

    Returns
    -------
    mean, count : (m, m) array
        The mean of a block without finite entries is NaN.
    """
    starts = np.arange(0, len(matrix), size)
    count = np.empty((len(starts), len(starts)), np.int64)
    sums = np.empty(count.shape)
    for i, start in enumerate(starts):
        rows = matrix[start : start + size]
        finite = np.isfinite(rows)
        count[i] = np.add.reduceat(finite.sum(axis=0), starts)
        sums[i] = np.add.reduceat(rows.sum(axis=0, dtype=np.float64, where=finite), starts)
    mean = np.divide(sums, count, out=np.full(sums.shape, np.nan), where=count > 0)
    return mean, count


def _block_size(n: int, noise: float, contrast: float, most_pixels: int) -> int:
    """Frames per pixel: as few as page and noise allow."""
    fit_page = -(-n // most_pixels)
    if not contrast > 0:
        return fit_page
    # The ratio may be too large for an integer.
    quiet = int(np.ceil(min(noise / (PIXEL_NOISE * contrast), n)))
    return max(fit_page, min(quiet, n // FEWEST_PIXELS))


def mirrored(upper: FloatArray) -> FloatArray:
    """The symmetric matrix (m, m) of which one half is NaN."""
    return np.where(np.isnan(upper), upper.T, upper)


def _in_units_of_noise(values: ArrayLike, noise: float) -> FloatArray:
    """Zeros where there is no noise, as in a perfect fit."""
    values = np.asarray(values, dtype=np.float64)
    return values / noise if noise > 0 else np.where(np.isnan(values), np.nan, 0.0)


def _lag_cuts(
    measured: FloatArray, fitted: FloatArray, dt: float, noise: float
) -> tuple[LagCut, ...]:
    """Cuts of matrices that are NaN outside t1 < t2, one for each part of the measurement."""
    n = len(measured)
    edges = np.unique(np.rint(np.geomspace(1, n, min(n, LAG_POINTS))).astype(int))
    ages = np.linspace(0, n - 1, AGES + 1)
    sums = np.stack([_sums_at_lag(measured, fitted, lag, ages) for lag in range(1, n)])
    # (bins, 4, AGES): of points, lags, data and fit.
    binned = np.add.reduceat(sums, edges[:-1] - 1, axis=0)
    cuts = []
    for age in range(AGES):
        count, lag, data, fit = binned[binned[:, 0, age] > 0][:, :, age].T
        begin, end = ages[age : age + 2] * dt
        if len(count):
            means = (lag / count * dt, data / count, fit / count, noise / np.sqrt(count))
            cuts.append(LagCut(float(begin), float(end), *means))
    return tuple(cuts)


def _sums_at_lag(
    measured: FloatArray, fitted: FloatArray, lag: int, ages: FloatArray
) -> FloatArray:
    """Sums over measured points at one lag, by age: number, lag, data, fit; (4, AGES)."""
    data, fit = np.diagonal(measured, lag), np.diagonal(fitted, lag)
    finite = np.isfinite(data)
    columns = np.where(finite, np.stack([finite, lag * finite, data, fit]), 0.0)
    total = np.concatenate([np.zeros((4, 1)), np.cumsum(columns, axis=1)], axis=1)
    bounds = np.clip(np.ceil(ages - lag / 2), 0, len(data)).astype(int)
    bounds[-1] = len(data)
    return np.diff(total[:, bounds], axis=1)
