"""The quality of the matrices in a file, before any fit.

The functions take one matrix c2 (n, n). Only entries at t1 < t2 are used, and entries that are not
finite are missing. Frames are counted from 1, as in all output.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from homodyne_fit.data.estimates import (
    SHORT_LAGS,
    levels_at_the_ends,
    noise_from_steps,
    steps_at_lags,
)
from homodyne_fit.data.formats.two_time_file import Populated, asymmetry, populated_part

__all__ = [
    "MatrixQuality",
    "assess",
    "baseline_drift",
    "dead_frames",
    "duplicates",
    "finite_fraction",
    "frame_levels",
    "noise_by_lag",
    "odd_frames",
    "repeated_frames",
    "symmetric",
]

FloatArray = NDArray[np.float64]

# Number of frames with which a frame is compared, itself included.
NEIGHBOURS = 7

# An odd frame has a level that deviates by more than this, in units of the scatter of the levels.
ODD_SCATTER = 8.0

# An odd frame has a level that deviates by more than this fraction of the contrast.
ODD_CONTRAST = 0.1

# Number of lags at which the noise is estimated.
NOISE_LAGS = 12

# The longest of these lags, as a fraction of the measurement.
LONGEST = 0.8


# Number of lags from which the drift is estimated.
DRIFT_LAGS = 64


@dataclass(frozen=True, eq=False)
class MatrixQuality:
    """The quality of one matrix.

    Attributes
    ----------
    stored, expected : str
        The part that is stored, and the part that should be stored according to the file or its
        format: ``"upper"``, ``"lower"``, ``"all"``, or ``""`` for nothing.
    asymmetric : float
        Fraction of the entries t1 ≠ t2 that differ from their mirror image, if all are stored.
    finite : float
        Fraction of the points t1 < t2 that are finite.
    dead, odd, repeated : (.,) int
        Frames: see `dead_frames`, `odd_frames`, `repeated_frames`.
    contrast, offset : float
        See `levels_at_the_ends`; NaN without a finite point.
    lags : (L,) int
        Lags in frames, ascending.
    noise : (L,) float
        Standard deviation of a point at each lag.
    drift, drift_error : float
        See `baseline_drift`.
    levels : (n,) float
        See `frame_levels`.
    digest : bytes
        Equal for matrices that are equal at t1 < t2.
    """

    stored: Populated
    expected: Populated
    asymmetric: float
    finite: float
    dead: NDArray[np.int64]
    odd: NDArray[np.int64]
    repeated: NDArray[np.int64]
    contrast: float
    offset: float
    lags: NDArray[np.int64]
    noise: FloatArray
    drift: float
    drift_error: float
    levels: FloatArray
    digest: bytes

    @property
    def unexpectedly_full(self) -> bool:
        """Whether both halves are stored although only one was expected."""
        return self.stored == "all" and self.expected in ("upper", "lower")


def assess(
    stored: NDArray[np.floating], expected: Populated = "", shift: float = 0.0
) -> MatrixQuality:
    """Assess a matrix as it is stored: a half, full, or not symmetric.

    If both halves are stored, the upper half is assessed, which is also the one that is fitted.

    Parameters
    ----------
    stored : (n, n) float
    expected : str
        The part that should be stored, if this is known.
    shift : float
        Constant to add, which gives c2.
    """
    part = populated_part(stored)
    differs = asymmetry(stored) != 0 if part == "all" else np.zeros_like(stored, dtype=bool)
    c2 = symmetric(stored) + shift
    any_finite = part != "" and bool(np.isfinite(c2).any())
    contrast, offset = levels_at_the_ends(c2) if any_finite else (np.nan, np.nan)
    levels = frame_levels(c2)
    lags, noise = noise_by_lag(c2)
    drift, drift_error = baseline_drift(c2)
    dead = dead_frames(c2)
    return MatrixQuality(
        stored=part,
        expected=expected,
        asymmetric=float(differs.sum() / max(1, differs.size - len(differs))),
        finite=finite_fraction(c2),
        dead=dead,
        odd=np.setdiff1d(odd_frames(levels, contrast), dead),
        repeated=np.setdiff1d(repeated_frames(c2), dead),
        contrast=contrast,
        offset=offset,
        lags=lags,
        noise=noise,
        drift=drift,
        drift_error=drift_error,
        levels=levels,
        digest=hashlib.blake2b(np.triu(c2, 1).tobytes(), digest_size=16).digest(),
    )


def finite_fraction(c2: NDArray[np.floating]) -> float:
    """Fraction of the points t1 < t2 that are finite."""
    points = len(c2) * (len(c2) - 1) // 2
    return float(np.triu(np.isfinite(c2), 1).sum() / points) if points else 0.0


def dead_frames(c2: NDArray[np.floating]) -> NDArray[np.int64]:
    """Frames without a signal: no finite value at t1 ≠ t2, or the same value everywhere.

    A frame without photons has no signal, nor has a frame that is completely saturated.
    """
    rows = _without_diagonal(c2)
    finite = np.isfinite(rows)
    low = np.where(finite, rows, np.inf).min(axis=1, initial=np.inf)
    high = np.where(finite, rows, -np.inf).max(axis=1, initial=-np.inf)
    return np.flatnonzero(low >= high) + 1


def frame_levels(c2: NDArray[np.floating]) -> FloatArray:
    """Median (n,) of c2 in the row of each frame, minus the median of the frames around it.

    It is near zero if the correlation changes slowly from frame to frame, and NaN for a frame
    without a finite point.
    """
    rows = _without_diagonal(c2)
    usable = np.isfinite(rows).any(axis=1)
    medians = np.full(len(rows), np.nan)
    if not usable.any():
        return medians
    medians[usable] = np.nanmedian(rows[usable], axis=1)
    frames = np.arange(len(rows))
    filled = np.interp(frames, frames[usable], medians[usable])
    return medians - median_filter(filled, NEIGHBOURS, mode="reflect")


def odd_frames(levels: FloatArray, contrast: float) -> NDArray[np.int64]:
    """Frames that differ from those around them: a flash, a saturated detector, a lost beam.

    `levels` (n,) are those of `frame_levels`.
    """
    known = levels[np.isfinite(levels)]
    if not len(known) or not np.isfinite(contrast):
        return np.zeros(0, dtype=np.int64)
    scatter = float(np.median(np.abs(known))) / 0.6745  # of normal levels, their deviation
    limit = max(ODD_SCATTER * scatter, ODD_CONTRAST * abs(contrast))
    return np.flatnonzero(np.nan_to_num(np.abs(levels)) > limit) + 1


def repeated_frames(c2: NDArray[np.floating]) -> NDArray[np.int64]:
    """Frames with exactly the same correlations as the frame before: an image is stored twice."""
    if len(c2) < 4:
        return np.zeros(0, dtype=np.int64)
    rows = _without_diagonal(c2)
    same = (rows[1:] == rows[:-1]) | (np.isnan(rows[1:]) & np.isnan(rows[:-1]))
    # The entries between the two frames themselves are not compared.
    first = np.arange(len(same))
    same[first, first] = same[first, first + 1] = True
    return np.flatnonzero(same.all(axis=1)) + 2


def noise_by_lag(c2: NDArray[np.floating]) -> tuple[NDArray[np.int64], FloatArray]:
    """Lags (L,) in frames, evenly spaced in their logarithm, and the noise (L,) of a point there.

    The noise follows from differences of neighbours on a diagonal; lags without them are left out.
    """
    n = len(c2)
    if n < 3:
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    lags, noise = [], []
    for lag in np.unique(np.geomspace(1, max(1.0, LONGEST * (n - 2)), NOISE_LAGS).astype(int)):
        steps = steps_at_lags(c2, range(lag, min(lag + SHORT_LAGS, n - 1)))
        if len(steps):
            lags.append(lag)
            noise.append(noise_from_steps(steps))
    return np.array(lags, dtype=np.int64), np.array(noise)


def baseline_drift(c2: NDArray[np.floating]) -> tuple[float, float]:
    """Rise of c2 at long lags over the whole measurement, and its standard error.

    A straight line in the age a = (t1 + t2)/2 is fitted for all lags l ≥ half of the measurement,
    with one slope and an intercept for each lag: with the means a_l and m_l of age and c2 at a lag,
    the slope is Σ (a − a_l)(c2 − m_l) / Σ (a − a_l)². The error is for independent points. A decay
    that has not ended at these lags, and ages, also gives a drift. NaN without enough points.
    """
    n = len(c2)
    lags = np.unique(np.linspace(n // 2, max(n // 2, n - 2), DRIFT_LAGS).astype(np.int64))
    cross, square = 0.0, 0.0
    steps: list[NDArray[np.floating]] = [np.zeros(0)]
    for lag in lags[lags > 0]:
        values = np.diagonal(c2, lag).astype(np.float64)
        finite = np.isfinite(values)
        if finite.sum() < 2:
            continue
        age = np.flatnonzero(finite) - np.flatnonzero(finite).mean()
        cross += float(age @ (values[finite] - values[finite].mean()))
        square += float(age @ age)
        steps.append(steps_at_lags(c2, [int(lag)]))
    if not square:
        return np.nan, np.nan
    noise = noise_from_steps(np.concatenate(steps))
    return cross / square * (n - 1), noise / np.sqrt(square) * (n - 1)


def duplicates(matrices: Sequence[MatrixQuality]) -> list[tuple[int, int]]:
    """Pairs of positions, (first, later), of equal matrices."""
    first: dict[bytes, int] = {}
    pairs = []
    for position, matrix in enumerate(matrices):
        earlier = first.setdefault(matrix.digest, position)
        if earlier != position and matrix.finite > 0:
            pairs.append((earlier, position))
    return pairs


def symmetric(stored: NDArray[np.floating]) -> NDArray[np.floating]:
    """The symmetric matrix from its upper half, or else its lower half; NaN if not finite."""
    part = populated_part(stored)
    if not part:
        return np.full_like(stored, np.nan)
    upper = np.where(np.isfinite(stored), stored, np.nan)
    upper = upper.T if part == "lower" else upper
    return np.where(np.tri(len(stored), k=-1, dtype=bool), upper.T, upper)


def _without_diagonal(c2: NDArray[np.floating]) -> NDArray[np.floating]:
    rows = c2.copy()
    np.fill_diagonal(rows, np.nan)
    return rows
