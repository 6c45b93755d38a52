"""How good the matrices of a file are, before any fit.

Every function takes one matrix c2 (n, n); only t1 < t2 counts, and an entry that is not finite is
missing. Frames are counted from 1, as everywhere that a user sees them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from homodyne_fit.data.estimates import noise_from_steps, steps_at_lags, values_at_lags
from homodyne_fit.data.formats.two_time_file import Populated, asymmetry, populated_part

__all__ = [
    "MatrixQuality",
    "assess",
    "baseline_drift",
    "dead_frames",
    "duplicates",
    "finite_fraction",
    "frame_levels",
    "levels_at_the_ends",
    "noise_by_lag",
    "odd_frames",
    "repeated_frames",
]

FloatArray = NDArray[np.float64]

# A frame is compared with so many around it.
NEIGHBOURS = 7
# It is odd if it is off by more than so many times the scatter, and than this of the contrast.
ODD_SCATTER, ODD_CONTRAST = 8.0, 0.1
# Lags of the noise, up to this part of the measurement, and diagonals taken together at each.
NOISE_LAGS, LONGEST, DIAGONALS = 12, 0.8, 4
# Lags that the drift is read from.
DRIFT_LAGS = 64


@dataclass(frozen=True, eq=False)
class MatrixQuality:
    """What one matrix is like.

    Attributes
    ----------
    stored, expected : str
        Which part of it is stored, and which part the file or its format says: ``"upper"``,
        ``"lower"``, ``"all"``, or ``""`` for nothing.
    asymmetric : float
        Share of the entries t1 ≠ t2 that differ from their mirror image, if all are stored.
    finite : float
        Share of the points t1 < t2 that are finite.
    dead, odd, repeated : (.,) int
        Frames: see `dead_frames`, `odd_frames`, `repeated_frames`.
    contrast, offset : float
        See `levels_at_the_ends`; NaN, as the others, without a finite point.
    lags : (L,) int
        In frames, ascending.
    noise : (L,) float
        Standard deviation of a point at each of the lags.
    drift, drift_error : float
        See `baseline_drift`.
    levels : (n,) float
        See `frame_levels`.
    digest : bytes
        The same for matrices that are equal at t1 < t2.
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
        """Whether both halves are stored where one was expected."""
        return self.stored == "all" and self.expected in ("upper", "lower")


def assess(
    stored: NDArray[np.floating], expected: Populated = "", shift: float = 0.0
) -> MatrixQuality:
    """Assess a matrix as it is stored, be it a half, full, or not symmetric.

    Of a full one the upper half is assessed, as it is the one that is fitted.

    Parameters
    ----------
    stored : (n, n) float
    expected : str
        Which part should be stored, if that is known.
    shift : float
        What the file left out of c2.
    """
    part = populated_part(stored)
    differs = asymmetry(stored) != 0 if part == "all" else np.zeros_like(stored, dtype=bool)
    c2 = _symmetric(stored, part) + shift
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
    """Share of the points t1 < t2 that are finite."""
    points = len(c2) * (len(c2) - 1) // 2
    return float(np.triu(np.isfinite(c2), 1).sum() / points) if points else 0.0


def levels_at_the_ends(c2: NDArray[np.floating]) -> tuple[float, float]:
    """Contrast and offset, if the decay is all between the shortest lags and the longest fifth.

    The offset is the median of c2 at the latter, the contrast what the median at the former is
    above it.
    """
    n = len(c2)
    fifth = max(1, (n - 1) // 5)
    offset = float(np.median(values_at_lags(c2, np.arange(n - fifth, n))))
    short = np.arange(1, min(DIAGONALS, fifth) + 1)
    return float(np.median(values_at_lags(c2, short))) - offset, offset


def dead_frames(c2: NDArray[np.floating]) -> NDArray[np.int64]:
    """Frames without a signal: nothing finite at t1 ≠ t2, or the same value everywhere.

    So a frame without a photon is left, and one that is saturated throughout.
    """
    rows = _without_diagonal(c2)
    finite = np.isfinite(rows)
    low = np.where(finite, rows, np.inf).min(axis=1, initial=np.inf)
    high = np.where(finite, rows, -np.inf).max(axis=1, initial=-np.inf)
    return np.flatnonzero(low >= high) + 1


def frame_levels(c2: NDArray[np.floating]) -> FloatArray:
    """Median of c2 over each frame's row, less that of the frames around it, (n,).

    Near zero where the correlation changes slowly from frame to frame. NaN for a frame without a
    finite point.
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
    """Frames unlike those around them, as a flash, a saturated detector or a lost beam makes them.

    Parameters
    ----------
    levels : (n,)
        From `frame_levels`.
    contrast : float
        The level has to be off by a tenth of it at least.
    """
    known = levels[np.isfinite(levels)]
    if not len(known) or not np.isfinite(contrast):
        return np.zeros(0, dtype=np.int64)
    scatter = float(np.median(np.abs(known))) / 0.6745  # of normal levels, their deviation
    limit = max(ODD_SCATTER * scatter, ODD_CONTRAST * abs(contrast))
    return np.flatnonzero(np.nan_to_num(np.abs(levels)) > limit) + 1


def repeated_frames(c2: NDArray[np.floating]) -> NDArray[np.int64]:
    """Frames whose correlation with every other is the same, to the last bit, as the one before.

    A detector that hands out an image twice does that.
    """
    if len(c2) < 4:
        return np.zeros(0, dtype=np.int64)
    rows = _without_diagonal(c2)
    same = (rows[1:] == rows[:-1]) | (np.isnan(rows[1:]) & np.isnan(rows[:-1]))
    # The two frames themselves are compared with no third one.
    first = np.arange(len(same))
    same[first, first] = same[first, first + 1] = True
    return np.flatnonzero(same.all(axis=1)) + 2


def noise_by_lag(c2: NDArray[np.floating]) -> tuple[NDArray[np.int64], FloatArray]:
    """Lags in frames, evenly spaced in their logarithm, and the noise of a point at each, (L,).

    The noise is read from differences of neighbours on a diagonal; a lag without them is left out.
    """
    n = len(c2)
    if n < 3:
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    lags, noise = [], []
    for lag in np.unique(np.geomspace(1, max(1.0, LONGEST * (n - 2)), NOISE_LAGS).astype(int)):
        steps = steps_at_lags(c2, range(lag, min(lag + DIAGONALS, n - 1)))
        if len(steps):
            lags.append(lag)
            noise.append(noise_from_steps(steps))
    return np.array(lags, dtype=np.int64), np.array(noise)


def baseline_drift(c2: NDArray[np.floating]) -> tuple[float, float]:
    """How much c2 at long lags rises over the whole measurement, and its standard error.

    For all lags l from half of the measurement on there is one straight line in the age
    a = (t1 + t2)/2, each lag with an intercept of its own: with means m_l over a lag, the slope is
    Σ (a − a_l)(c2 − m_l) / Σ (a − a_l)². The error is that of independent points. A decay that has
    not come to its end by then, and ages, counts as drift. NaN without enough points.
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
    """Return pairs of positions, (first, later), at which the matrices are equal."""
    first: dict[bytes, int] = {}
    pairs = []
    for position, matrix in enumerate(matrices):
        earlier = first.setdefault(matrix.digest, position)
        if earlier != position and matrix.finite > 0:
            pairs.append((earlier, position))
    return pairs


def _symmetric(stored: NDArray[np.floating], part: Populated) -> NDArray[np.floating]:
    """Mirror the upper half, or a lone lower one; what is not finite, or not stored, is NaN."""
    if not part:
        return np.full_like(stored, np.nan)
    upper = np.where(np.isfinite(stored), stored, np.nan)
    upper = upper.T if part == "lower" else upper
    return np.where(np.tri(len(stored), k=-1, dtype=bool), upper.T, upper)


def _without_diagonal(c2: NDArray[np.floating]) -> NDArray[np.floating]:
    rows = c2.copy()
    np.fill_diagonal(rows, np.nan)
    return rows
