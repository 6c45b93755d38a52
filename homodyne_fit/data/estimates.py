"""Estimates of contrast, offset and noise from the data, before any fit."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.dataset import TwoTimeData

__all__ = [
    "SHORT_LAGS",
    "noise_from_steps",
    "noise_guess",
    "estimated_scaling",
    "levels_at_the_ends",
    "steps_at_lags",
    "values_at_lags",
]

# Fraction of all lags that counts as long.
LONG_SHARE = 0.2

# Number of the shortest lags that give the contrast.
SHORT_LAGS = 4

# Standard deviations from the median beyond which a value is an outlier.
OUTLYING = 8.0

# Number of lags that are used for the noise.
NOISE_LAGS = 8


def estimated_scaling(data: TwoTimeData) -> NDArray[np.float64]:
    """Contrasts, then offsets, (2K,): `levels_at_the_ends` of each matrix."""
    return np.array([levels_at_the_ends(c2) for c2 in data.c2]).T.ravel()


def levels_at_the_ends(c2: NDArray[np.floating]) -> tuple[float, float]:
    """Contrast and offset, for a decay that ends before the longest fifth of the lags.

    The offset is the mean of c2 at the longest fifth of the lags, the contrast the mean at the
    shortest lags, minus the offset. Outliers do not count; medians would be biased, since few
    photons make c2 skew.
    """
    n = len(c2)
    fifth = max(1, int(LONG_SHARE * (n - 1)))
    offset = _mean_without_outliers(values_at_lags(c2, np.arange(n - fifth, n)))
    short = np.arange(1, min(SHORT_LAGS, fifth) + 1)
    return _mean_without_outliers(values_at_lags(c2, short)) - offset, offset


def _mean_without_outliers(values: NDArray[np.float64]) -> float:
    """Mean of the values that are within so many standard deviations of the median."""
    off = np.abs(values - np.median(values))
    # The median of |x| for a normal x with the variance σ² is 0.6745 σ.
    return float(np.mean(values[off <= OUTLYING * np.median(off) / 0.6745]))


def noise_guess(data: TwoTimeData) -> float:
    """Standard deviation of a point, from all angles; see `noise_from_steps`."""
    third = max(1, data.n_frames // 3)
    lags = range(third, max(third + 1, min(third + NOISE_LAGS, data.n_frames)))
    return noise_from_steps(np.concatenate([steps_at_lags(c2, lags) for c2 in data.c2]))


def steps_at_lags(c2: NDArray[np.floating], lags: Iterable[int]) -> NDArray[np.floating]:
    """Absolute differences of finite neighbours on the diagonals of c2 (n, n) at some lags."""
    steps = [np.diff(np.diagonal(c2, lag)) for lag in lags]
    return np.concatenate([np.abs(step[np.isfinite(step)]) for step in steps])


def noise_from_steps(steps: NDArray[np.floating]) -> float:
    """Standard deviation of a point, from differences of neighbours on the same diagonal.

    The model hardly changes from (t1, t2) to (t1 + dt, t2 + dt). The median is used, since the
    first frames may age fast.
    """
    # The median of |x| for a normal x with the variance 2 σ².
    return float(np.median(steps)) / (0.6745 * np.sqrt(2)) if len(steps) else 0.0


def values_at_lags(c2: NDArray[np.floating], lags: NDArray[np.int64]) -> NDArray[np.float64]:
    """Finite entries of c2 (n, n) at some lags; at all lags if there are none at these."""
    values = np.concatenate([np.diagonal(c2, lag) for lag in lags])
    values = values[np.isfinite(values)]
    if not len(values):
        values = c2[np.triu_indices(len(c2), 1)]
        values = values[np.isfinite(values)]
    return values.astype(np.float64)
