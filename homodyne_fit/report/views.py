"""What figures show of the matrices: averages over blocks, at fixed lag, and residuals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.fitting.result import FitResult
from homodyne_fit.report.reduction import AGES, PARTS, PointSums, age_edges, reduce_angles

__all__ = [
    "AngleView",
    "LagCut",
    "ResidualMeans",
    "angle_view",
    "angle_views",
    "block_average",
]


FloatArray = NDArray[np.float64]

# Pixels a side of a displayed matrix, at most.
MOST_PIXELS = 250

# At least, where noise asks for larger blocks.
FEWEST_PIXELS = 60

# Blocks grow until the noise of a pixel is this fraction of the contrast.
PIXEL_NOISE = 0.25

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
class ResidualMeans:
    """Means of data minus fit over groups of points.

    Attributes
    ----------
    time : (b,) array
        Seconds.
    mean : (b,) array
        NaN where no point of a group was measured.
    stderr : (b,) array
        If the points scatter independently.
    """

    time: FloatArray
    mean: FloatArray
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
    count : (m, m) array
        Measured points of each pixel.
    ages, frames : ResidualMeans
        Residuals by age (t1 + t2)/2; and by frame, of all points of which t1 or t2 is that frame.
    histogram : array
        As in `PointSums`.
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
    count: FloatArray
    ages: ResidualMeans
    frames: ResidualMeans
    histogram: FloatArray


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
    (view,) = angle_views(data, result, most_pixels, [range(len(result.contrast))[angle]])
    return view


def angle_views(
    data: TwoTimeData,
    result: FitResult,
    most_pixels: int = MOST_PIXELS,
    angles: Sequence[int] | None = None,
) -> Iterator[AngleView]:
    """Reduce several angles, all by default, as `angle_view` does one, in less time."""
    angles = range(data.n_angles) if angles is None else angles
    n, noise = data.n_frames, result.noise
    sizes = [_block_size(n, noise, result.contrast[k].value, most_pixels) for k in angles]
    reduced = reduce_angles(data, result, angles, sizes)
    for angle, size, sums in zip(angles, sizes, reduced, strict=True):
        yield _view(data, angle, size, sums, noise)


def _view(data: TwoTimeData, angle: int, size: int, sums: PointSums, noise: float) -> AngleView:
    count, dt = sums.pixels[0], data.dt
    residual = _divided(sums.pixels[2], np.sqrt(count))
    edges = age_edges(data.n_frames) * dt
    by_age = sums.cells.sum(axis=1)
    return AngleView(
        phi=float(data.phi[angle]),
        dt=dt,
        n_frames=data.n_frames,
        block=size,
        data=mirrored(_divided(sums.pixels[1], count)),
        fit=mirrored(_divided(sums.all_fit, sums.all_points)),
        residual=mirrored(_in_units_of_noise(residual, noise)),
        rms=float(_in_units_of_noise(np.sqrt(sums.square / count.sum()), noise)),
        cuts=_lag_cuts(sums.cells, edges, dt, noise),
        count=np.maximum(count, count.T),
        ages=_residual_means((edges[:-1] + edges[1:]) / 2, by_age[0], by_age[3], noise),
        frames=_residual_means(data.times, sums.frames[0], sums.frames[1], noise),
        histogram=sums.histogram,
    )


def _residual_means(
    time: FloatArray, count: FloatArray, total: FloatArray, noise: float
) -> ResidualMeans:
    return ResidualMeans(time, _divided(total, count), _divided(noise, np.sqrt(count)))


def _divided(values: ArrayLike, by: FloatArray) -> FloatArray:
    """Quotients, NaN where the divisor is 0."""
    return np.divide(values, by, out=np.full(by.shape, np.nan), where=by > 0)


def _lag_cuts(cells: FloatArray, edges: FloatArray, dt: float, noise: float) -> tuple[LagCut, ...]:
    """Cuts, one for each part of the measurement, from sums by lag and age."""
    cuts = []
    for age in range(AGES):
        parts = slice(age * PARTS, (age + 1) * PARTS)
        count, lag, fit, residual = cells[:, :, parts].sum(axis=2)
        known = count > 0
        count, lag, fit, residual = (each[known] for each in (count, lag, fit, residual))
        if len(count):
            begin, end = edges[[parts.start, parts.stop]]
            means = (lag / count * dt, (fit + residual) / count, fit / count)
            cuts.append(LagCut(float(begin), float(end), *means, noise / np.sqrt(count)))
    return tuple(cuts)


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
