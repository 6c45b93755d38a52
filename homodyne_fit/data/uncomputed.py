"""Zeros that stand for points which were not computed.

Programs write 0 where a frame had no counts, beyond the largest lag, or in parts of a matrix that
they left out. A correlation is 0 by itself only where photons are so few that no pixel has counts
in both frames. Zeros therefore count as missing where so many together are no coincidence.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["note_on_zeros", "uncomputed_zeros"]

# Side of the smallest block of zeros that may have been left out of a matrix.
BLOCK = 5

# Probability below which zeros together are no coincidence.
COINCIDENCE = 1e-6


def uncomputed_zeros(c2: NDArray[np.floating]) -> NDArray[np.bool_] | None:
    """Zeros of a symmetric matrix (n, n) at t1 < t2 that were not computed; None without any.

    They are those of a frame that has nothing but zeros, those at lags from one on at which there
    is nothing but zeros, and those of solid blocks.
    """
    if np.all(c2):
        return None
    zero = np.triu(c2 == 0, 1)
    if not np.any(zero):
        return None
    finite = np.triu(np.isfinite(c2), 1)
    of_frames, points = (each.sum(axis=0) + each.sum(axis=1) for each in (zero, finite))
    dead = (points > 0) & (of_frames == points)
    alive = np.outer(~dead, ~dead)
    share = np.count_nonzero(zero & alive) / max(1, np.count_nonzero(finite & alive))
    found = np.zeros_like(zero)
    if _is_no_coincidence(share, int(points[dead].max(initial=0))):
        found |= zero & ~alive
    rest = zero & ~found
    if np.any(rest):
        found |= _beyond_a_lag(rest, finite & ~found)
        if _is_no_coincidence(_share_apart(rest), BLOCK**2):
            # Few matrices have zeros, and importing this takes time.
            from scipy.ndimage import binary_opening

            found |= binary_opening(rest, np.ones((BLOCK, BLOCK), dtype=bool))
    return found if np.any(found) else None


def note_on_zeros(points: list[int]) -> list[str]:
    """A note on the zeros of each matrix that were not computed; none if there are none."""
    if not any(points):
        return []
    return [
        f"{sum(points):,} points that are exactly 0 were not computed (of "
        f"{np.count_nonzero(points)} of {len(points)} matrices), and are missing"
    ]


def _is_no_coincidence(share: float, points: int) -> bool:
    """Whether so many zeros together are improbable, given the share of zeros."""
    return points > 0 and share**points < COINCIDENCE


def _share_apart(zero: NDArray[np.bool_]) -> float:
    """Share of zeros among the neighbours to the right of points that are not zero."""
    inside = np.triu(np.ones_like(zero[:, 1:]), 1)
    apart = inside & ~zero[:, :-1]
    return np.count_nonzero(apart & zero[:, 1:]) / max(1, np.count_nonzero(apart))


def _beyond_a_lag(zero: NDArray[np.bool_], finite: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Zeros at lags from one on at which there is nothing else."""
    frames = np.arange(len(zero))
    lag = frames - frames[:, None]
    largest = int(lag[finite & ~zero].max(initial=0))
    beyond, within = zero & (lag > largest), finite & (lag <= largest)
    share = np.count_nonzero(zero & within) / max(1, np.count_nonzero(within))
    if _is_no_coincidence(share, int(np.count_nonzero(beyond))):
        return beyond
    return np.zeros_like(zero)
