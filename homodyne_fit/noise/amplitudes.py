r"""How many pixels were averaged, and how many photons they saw, from differences of residuals.

With the sums of `homodyne_fit.noise.differences` and x = 1/κ, three sums give the three unknowns:

1. N of each angle from :math:`o_\Delta` of frames;
2. x from :math:`o_\parallel` of frames, all angles together: points along a side share the photons
   of a frame, which the mixed difference removes;
3. ρ, the number of pixels in an independent speckle, from :math:`o_\Delta` of blocks so long that
   the speckles change from one to the next and that photons average out, all angles together. It is
   at least 1, and 1 where the speckles do not show. Few speckles make an excess over 1 by chance,
   with which errors would be too large on average: what is found above 1 is multiplied by
   :math:`1 - s^2/(\rho - 1)^2`, s its error, and left out where that is negative (W. James,
   C. Stein, *Proc. 4th Berkeley Symp.* 1, 361, 1961).

Smoothed matrices show in differences over two frames, which are then larger than those over one
allow, or in differences between blocks, which make ρ endless. Frames that fluctuate as a whole show
in blocks that differ less than it takes to explain the differences along a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.noise.differences import MIXED, SIDES, Differences

__all__ = ["SpeckleNoise", "find_noise"]

Floats = NDArray[np.float64]

# Range of 1/κ: at its ends there is one kind of noise only.
LEAST_X = 1 / 200
MOST_X = 200.0

# To which its logarithm is found.
RESOLUTION_OF_X = 1e-4

# Cells of an angle from which its own number of pixels is found; else the angles share one.
LEAST_CELLS = 400

# Rounds in which the three unknowns follow each other, at most, and the change that ends them.
ROUNDS = 30
SETTLED = 1e-3

# Standard errors from which the noise of speckles counts as visible.
VISIBLE = 3.0

# Squared differences over two frames, over those expected, from which neighbours count as smoothed,
# as they do where a speckle seems to have more pixels than so many.
SMOOTHED = 1.5
MOST_COHERENCE = 100.0

# Squared differences between blocks, or along a frame, over those expected: a factor at which the
# noise is that of speckles and photons no longer.
TOO_STILL, TOO_RESTLESS = 0.5, 1.2

SMOOTHED_NOTE = (
    "neighbouring points have been smoothed or interpolated, so that the noise of photons cannot "
    "be told; the error bars assume the noise of speckles only"
)
NOT_SPECKLE_NOTE = (
    "the noise is not that of speckles and photons: differences along a frame are too large for "
    "the other differences, as where c2 is not normalised by the means of its frames; the error "
    "bars are not reliable"
)


@dataclass(frozen=True, eq=False)
class SpeckleNoise:
    """The noise of c2.

    Attributes
    ----------
    pixels : (K,) array
        N, independent pixels of each angle.
    photons : float
        κ, in a pixel and frame; infinite where the photons cannot be told.
    coherence : float
        ρ, pixels in an independent speckle, at least 1.
    """

    pixels: Floats
    photons: float
    coherence: float

    @property
    def smoothed(self) -> bool:
        """Whether neighbouring points have been smoothed, so that photons do not show."""
        return bool(np.isinf(self.photons))

    @property
    def powers(self) -> Floats:
        """Factors (3, K) of V0, V1 and V2 in the covariance of the score."""
        return _series(1 / self.photons, self.coherence)[:, None] / self.pixels


def find_noise(
    near: Differences, further: Differences, far: Differences
) -> tuple[SpeckleNoise, tuple[str, ...]] | None:
    """Find N, κ and ρ, and what to say about them; None where the cells are too few.

    Parameters
    ----------
    near, further : Differences
        Over one frame, and over two.
    far : Differences
        Between blocks of frames.
    """
    if not (np.all(near.observed > 0) and np.sum(near.cells) > LEAST_CELLS):
        return None
    coherence, x = 1.0, _photon_term(near, 1.0)
    for _ in range(ROUNDS):
        pixels = _pixels(near, x, coherence)
        before, coherence = coherence, _coherence(far, x, pixels)
        x = _photon_term(near, coherence)
        if abs(coherence - before) <= SETTLED * before:
            break
    noise = SpeckleNoise(_pixels(near, x, coherence), 1 / x, coherence)
    if _ratio(further, noise, MIXED) > SMOOTHED or coherence > MOST_COHERENCE:
        expected, observed = (
            float(np.sum(each[..., MIXED])) for each in (far.expected[0], far.observed)
        )
        if not (expected > 0 and observed > 0):
            return None
        pooled = expected / observed
        return SpeckleNoise(np.full(len(noise.pixels), pooled), np.inf, 1.0), (SMOOTHED_NOTE,)
    if _ratio(far, noise, MIXED) < TOO_STILL or _ratio(near, noise, SIDES) > TOO_RESTLESS:
        return noise, (NOT_SPECKLE_NOTE,)
    return noise, ()


def _series(x: float, coherence: float) -> Floats:
    """Factors (3,) of V0, V1 and V2, for one pixel."""
    return np.array([coherence, x, x * x])


def _ratio(sums: Differences, noise: SpeckleNoise, which: int) -> float:
    """A sum over all angles, over what the noise makes of it."""
    expected = np.einsum("ck,ck->", noise.powers, sums.expected[:, :, which])
    return float(np.sum(sums.observed[:, which]) / expected) if expected > 0 else 1.0


def _pixels(near: Differences, x: float, coherence: float) -> Floats:
    """N (K,)."""
    expected = np.einsum("c,ck->k", _series(x, coherence), near.expected[:, :, MIXED])
    observed = near.observed[:, MIXED]
    if np.all(near.cells >= LEAST_CELLS):
        return expected / observed
    return np.full(len(observed), expected.sum() / observed.sum())


def _photon_term(near: Differences, coherence: float) -> float:
    """x."""

    def excess(log_x: float) -> float:
        x = np.exp(log_x)
        expected = np.einsum("c,ck->k", _series(x, coherence), near.expected[:, :, SIDES])
        return float(np.sum(expected / _pixels(near, x, coherence)) - near.observed[:, SIDES].sum())

    low, high = np.log(LEAST_X), np.log(MOST_X)
    # The more photons, the more of a difference along a side is common to both sides of a cell.
    if excess(low) <= 0:
        return LEAST_X
    if excess(high) >= 0:
        return MOST_X
    while high - low > RESOLUTION_OF_X:
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return float(np.exp((low + high) / 2))


def _coherence(far: Differences, x: float, pixels: Floats) -> float:
    """ρ."""
    terms = _series(x, 1.0)[:, None] / pixels * far.expected[:, :, MIXED]
    speckle, *others = terms.sum(axis=1)
    # A square of noise has twice its variance squared.
    squares = 2 * terms.sum(axis=0) ** 2 / np.maximum(far.cells, 1)
    error = float(np.sqrt(squares.sum()))
    if speckle <= VISIBLE * error:
        return 1.0
    above = float(np.sum(far.observed[:, MIXED]) - sum(others)) - speckle
    return 1 + above / speckle * (1 - (error / above) ** 2) if above > error else 1.0
