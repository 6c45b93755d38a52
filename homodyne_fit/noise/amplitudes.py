r"""How many pixels were averaged, and how many photons they saw, from differences of residuals.

With the sums of `homodyne_fit.noise.differences` and x = 1/κ, three sums give the three unknowns:

1. N of each angle from :math:`o_\Delta` of frames;
2. x from :math:`o_\parallel` of frames, all angles together: points along a side share the photons
   of a frame, which the mixed difference removes;
3. ρ, the number of pixels in an independent speckle, from :math:`o_\Delta` of blocks so long that
   the speckles change from one to the next and that photons average out, all angles together. It is
   at least 1. Where the speckles do not show so clearly, it is at most what
   :math:`o_{11} = \sum r_{00} r_{11}` of frames says, which a misfit raises; and 1 where they do
   not show in that either.

Smoothed matrices show in differences over two frames, which are then larger than those over one
allow, or in differences between blocks, which make ρ endless. Frames that fluctuate as a whole show
in blocks that differ less than it takes to explain the differences along a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from homodyne_fit.noise.differences import ACROSS, MIXED, SIDES, Differences

__all__ = ["SpeckleNoise", "find_noise"]

Floats = NDArray[np.float64]

# Range of 1/κ: at its ends there is one kind of noise only.
LEAST_X = 1 / 200
MOST_X = 200.0

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
    if not (np.all(near.observed[:, :ACROSS] > 0) and np.sum(near.cells) > LEAST_CELLS):
        return None
    coherence, x = 1.0, _photon_term(near, 1.0)
    for _ in range(ROUNDS):
        pixels = _pixels(near, x, coherence)
        before, coherence = coherence, _coherence(near, far, x, pixels)
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
    return float(np.exp(scipy.optimize.root_scalar(excess, bracket=(low, high), xtol=1e-3).root))


def _coherence(near: Differences, far: Differences, x: float, pixels: Floats) -> float:
    """ρ."""
    by_blocks, visible = _excess(far, MIXED, x, pixels)
    if visible:
        return max(1.0, by_blocks)
    by_products, visible = _excess(near, ACROSS, x, pixels)
    return max(1.0, min(by_blocks, by_products)) if visible else 1.0


def _excess(sums: Differences, which: int, x: float, pixels: Floats) -> tuple[float, bool]:
    """The part of speckles in a sum over what is expected of it, and whether it is visible."""
    terms = _series(x, 1.0)[:, None] / pixels
    speckle, *others = np.sum(terms * sums.expected[:, :, which], axis=1)
    # A square of noise has twice its variance squared; a product of two that are independent, once.
    squares = np.sum(terms * sums.expected[:, :, MIXED], axis=0)
    squares = squares * (np.sqrt(2.0) if which == MIXED else 0.25)
    error = float(np.sqrt(np.sum(squares**2 / np.maximum(sums.cells, 1))))
    excess = float(np.sum(sums.observed[:, which]) - sum(others))
    visible = speckle > VISIBLE * error and speckle > 0
    return (excess / speckle if visible else 0.0), visible
