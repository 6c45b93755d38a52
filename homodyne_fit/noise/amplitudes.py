r"""How many pixels were averaged, and how many photons they saw, from the residuals themselves.

With the sums of `homodyne_fit.noise.neighbours`, x = 1/κ, and e the sums expected of one pixel:

1. Pixels of angle k: :math:`N_k = e_{\Delta,k}(x) / o_{\Delta,k}`. Differences remove what is
   smooth, so neither misfit nor what the fit absorbed matters.
2. Photons: x such that :math:`o_{01}/o_{00}`, pooled over the angles, is
   :math:`(e_{01} - 2L)/(e_{00} - L)`. The fit absorbs a part L of the noise,

   .. math:: L_k = 2\,\mathrm{tr}(H^{-1} \omega_k V_k)
             - \mathrm{tr}(\omega_k^{-1} H_k H^{-1} V H^{-1}),

   with the score covariance :math:`V = \sum_k \omega_k^2 V_k` and the weights ω of the angles. It
   is the same for neighbours, because what a fit absorbs is smooth.
3. Speckles larger than a pixel make the pixels fewer for the speckles than for the photons, by ρ:
   :math:`\rho = (o_{11} + L_{12}) / (e_{11} - L_0)`, pooled, with the parts of L by speckles alone,
   and by photons, at least 1. It is looked for where the noise of speckles is visible at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import root_scalar

from homodyne_fit.noise.neighbours import Neighbours

__all__ = ["Absorbed", "SpeckleNoise", "find_noise"]

Floats = NDArray[np.float64]

# Range of 1/κ: at its ends there is one kind of noise only.
LEAST_X = 1 / 200
MOST_X = 200.0

# Cells of an angle from which its own number of pixels is found; else the angles share one.
LEAST_CELLS = 400

# Rounds in which x and ρ follow each other, at most, and the relative change that ends them.
ROUNDS = 50
SETTLED = 1e-3

# Standard errors from which the noise of speckles counts as visible.
VISIBLE = 3.0

# Pixels by differences over pixels by squares from which neighbours count as smoothed.
SMOOTHED = 1.5

# Relative disagreement of the two from which the noise is not that of speckles and photons.
DISAGREEMENT = 0.2

SMOOTHED_NOTE = (
    "neighbouring points have been smoothed or interpolated, so that the noise of photons cannot "
    "be told; the error bars assume the noise of speckles only"
)
NOT_SPECKLE_NOTE = (
    "the noise is not that of speckles and photons: residuals and differences of neighbouring "
    "residuals disagree by {:.0%} about the number of pixels; the error bars are not reliable "
    "where the model does not fit, or c2 is not normalised by the means of its frames"
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
    def powers(self) -> Floats:
        """Factors (3, K) of V0, V1 and V2 in the covariance of the score."""
        x = 1 / self.photons
        return np.array([self.coherence, x, x * x])[:, None] / self.pixels


@dataclass(frozen=True, eq=False)
class Absorbed:
    """What the fit absorbs of the noise.

    Attributes
    ----------
    scores : (3, K, f, f) array
        V0, V1 and V2 of each angle, in coordinates in which the Hessian of the fit is 1.
    hessians : (K, f, f) array
        Of the angles without their weights, in the same.
    weights : (K,) array
    share : (K,) array
        Cells over points.
    """

    scores: Floats
    hessians: Floats
    weights: Floats
    share: Floats

    def of(self, powers: Floats) -> Floats:
        """Absorbed squares (K,) in the cells, for factors (3, K) of V0, V1 and V2."""
        of_angles = np.einsum("ck,ckij->kij", powers, self.scores)
        whole = np.einsum("k,kij->ij", self.weights**2, of_angles)
        own = 2 * self.weights * np.trace(of_angles, axis1=1, axis2=2)
        return self.share * (own - np.einsum("kij,ij->k", self.hessians, whole))


def find_noise(sums: Neighbours, absorbed: Absorbed) -> tuple[SpeckleNoise, tuple[str, ...]] | None:
    """Find N, κ and ρ, and what to say about them; None where neighbours are too few."""
    if not np.all(sums.observed[:, 0] > 0) or not np.sum(sums.cells) > LEAST_CELLS:
        return None
    coherence, x = 1.0, _photon_term(sums, absorbed, 1.0)
    for _ in range(ROUNDS):
        before, coherence = coherence, _coherence(sums, absorbed, x, coherence)
        x = _photon_term(sums, absorbed, coherence)
        if abs(coherence - before) <= SETTLED * before:
            break
    pixels = _pixels(sums, x, coherence)
    noise = SpeckleNoise(pixels, 1 / x, coherence)
    ratio = _smoothness(sums, absorbed, noise)
    if ratio > SMOOTHED:
        only = np.array([1.0, 0.0, 0.0])[:, None] * np.ones(len(pixels))
        pooled = _pooled_by_squares(sums, absorbed, only)
        if pooled >= 1:
            return SpeckleNoise(np.full(len(pixels), pooled), np.inf, 1.0), (SMOOTHED_NOTE,)
    if abs(np.log(ratio)) > np.log1p(DISAGREEMENT):
        # The fewer pixels, the larger the errors.
        fewer = SpeckleNoise(pixels / max(ratio, 1.0), 1 / x, coherence)
        return fewer, (NOT_SPECKLE_NOTE.format(abs(ratio - 1)),)
    return noise, ()


def _series(x: float, coherence: float) -> Floats:
    return np.array([coherence, x, x * x])


def _pixels(sums: Neighbours, x: float, coherence: float) -> Floats:
    """N (K,) by the mixed differences."""
    expected = np.einsum("c,ck->k", _series(x, coherence), sums.expected[:, :, 3])
    observed = sums.observed[:, 3]
    if np.all(sums.cells >= LEAST_CELLS):
        return expected / observed
    return np.full(len(observed), expected.sum() / observed.sum())


def _photon_term(sums: Neighbours, absorbed: Absorbed, coherence: float) -> float:
    """x = 1/κ, by squares and products along a side."""
    observed = sums.observed.sum(axis=0)

    def excess(log_x: float) -> float:
        series = _series(np.exp(log_x), coherence)
        powers = series[:, None] / _pixels(sums, np.exp(log_x), coherence)
        squares, along, *_ = np.einsum("ck,cks->s", powers, sums.expected)
        lost = float(np.sum(absorbed.of(powers)))
        return observed[1] * (squares - lost) - observed[0] * (along - 2 * lost)

    low, high = np.log(LEAST_X), np.log(MOST_X)
    # Photons make products small: the excess rises with x.
    if excess(low) >= 0:
        return LEAST_X
    if excess(high) <= 0:
        return MOST_X
    return float(np.exp(root_scalar(excess, bracket=(low, high), xtol=1e-3).root))


def _coherence(sums: Neighbours, absorbed: Absorbed, x: float, before: float) -> float:
    """ρ, by products of points without a common frame."""
    pixels = _pixels(sums, x, before)
    speckle = np.array([1.0, 0.0, 0.0])[:, None] / pixels
    photons = np.array([0.0, x, x * x])[:, None] / pixels
    expected = float(np.sum(sums.expected[0, :, 2] / pixels - absorbed.of(speckle)))
    observed = float(np.sum(sums.observed[:, 2] + absorbed.of(photons)))
    error = float(np.sqrt(np.sum(sums.observed[:, 0] ** 2 / np.maximum(sums.cells, 1))))
    if expected <= VISIBLE * error:
        return 1.0
    return max(1.0, observed / expected)


def _smoothness(sums: Neighbours, absorbed: Absorbed, noise: SpeckleNoise) -> float:
    """Pixels by differences over pixels by squares."""
    squares = np.einsum("ck,ck->", noise.powers, sums.expected[:, :, 0])
    lost = float(np.sum(absorbed.of(noise.powers)))
    return float(np.sum(sums.observed[:, 0]) / max(squares - lost, np.finfo(float).tiny))


def _pooled_by_squares(sums: Neighbours, absorbed: Absorbed, powers: Floats) -> float:
    """One N of all angles, by the squares."""
    expected = np.einsum("ck,ck->", powers, sums.expected[:, :, 0]) - np.sum(absorbed.of(powers))
    return float(expected / np.sum(sums.observed[:, 0]))
