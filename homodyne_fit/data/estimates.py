"""Estimates of contrast, offset and noise from the data, before any fit."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.dataset import TwoTimeData

__all__ = [
    "noise_from_steps",
    "noise_guess",
    "quantile_scaling",
    "steps_at_lags",
    "values_at_lags",
]

# Fraction of all lags that is used at short lags, and at long lags.
SHARE = 0.2

# Quantile of c2 at long lags that estimates the offset.
LOW = 0.10

# Quantile of c2 at short lags that estimates the sum of offset and contrast.
HIGH = 0.90

# Largest number of short lags, and of long lags, that are used.
LAGS = 32

# Number of lags that are used for the noise.
NOISE_LAGS = 8


def quantile_scaling(data: TwoTimeData) -> NDArray[np.float64]:
    """Contrasts, then offsets, (2K,).

    The offset is the 10 % quantile of c2 at the longest fifth of the lags. The contrast is the 90 %
    quantile at the shortest fifth, minus the offset.
    """
    n = data.n_frames
    fifth = max(1, int(SHARE * (n - 1)))
    short = np.unique(np.linspace(1, fifth, min(LAGS, fifth)).astype(int))
    long = n - short
    offset, top = np.empty((2, data.n_angles))
    for k, c2 in enumerate(data.c2):
        offset[k] = np.quantile(values_at_lags(c2, long), LOW)
        top[k] = np.quantile(values_at_lags(c2, short), HIGH)
    return np.concatenate([top - offset, offset])


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
