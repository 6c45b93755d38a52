"""The weighted score of each angle, its slope, and its covariance with the score of least squares.

See `homodyne_fit.noise.weights` and `homodyne_fit.noise.speckle`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.noise.amplitudes import SpeckleNoise
from homodyne_fit.noise.block_model import BlockModel, ModelOfAngle
from homodyne_fit.noise.blocks import Blocks, cut_blocks
from homodyne_fit.noise.point_covariance import speckle_contrast
from homodyne_fit.noise.scores import block_model, products_over_points
from homodyne_fit.noise.speckle import score_covariances
from homodyne_fit.noise.weights import weight_matrices
from nlsq_stratified.processors import available_processors

__all__ = ["ScoreModel", "WeightedScores", "blocks_for_weights"]

Floats = NDArray[np.float64]

# Blocks at least, where there are so many frames: weights gain from short lags.
FEWEST = 160

# Of a number of frames.
ROUNDING = 1e-6


def blocks_for_weights(objective: TwoTimeObjective, params: Floats) -> Blocks:
    """Blocks of frames, single ones where there are few."""
    full = objective.complete(params)
    return cut_blocks(objective.curves(full), objective.angle_factors(full), fewest=FEWEST)


@dataclass(frozen=True, eq=False)
class WeightedScores:
    """Of K angles and c columns, the last two of which are contrast and offset.

    Multiplied by the pixels of the angle, so that the slopes are informations.

    Attributes
    ----------
    scores : (K, c) array
    slopes : (K, c, c) array
    covariances : (K, 2c, 2c) array
        Of the weighted score, and of that of least squares; NaN where they were not asked for.
    """

    scores: Floats
    slopes: Floats
    covariances: Floats

    def by_others(self, derivatives: Floats) -> WeightedScores:
        """Those of other columns, of which these have the derivatives (c, d)."""
        twice = scipy.linalg.block_diag(derivatives, derivatives)
        return WeightedScores(
            self.scores @ derivatives,
            derivatives.T @ self.slopes @ derivatives,
            twice.T @ self.covariances @ twice,
        )


@dataclass(frozen=True, eq=False)
class ScoreModel:
    """What weights are made of, at some parameters, contrast and offset.

    Attributes
    ----------
    model : BlockModel
    searched : (p,) bool
    contrast, offset : (K,) array
    noise : SpeckleNoise
    counts : (K, B, B) array
        Points in each pair of blocks, in both orders.
    threads : int or None
        One for each processor when None.
    """

    model: BlockModel
    searched: NDArray[np.bool_]
    contrast: Floats
    offset: Floats
    noise: SpeckleNoise
    counts: Floats
    threads: int | None = None

    @classmethod
    def at(
        cls,
        objective: TwoTimeObjective,
        params: Floats,
        scaling: Floats,
        blocks: Blocks,
        noise: SpeckleNoise,
        counts: Floats,
        threads: int | None = None,
    ) -> ScoreModel:
        """That at searched parameters, contrasts and then offsets (2K,)."""
        contrast, offset = scaling.reshape(2, -1)
        model = block_model(objective, params, blocks)
        return cls(model, objective.searched, contrast, offset, noise, counts, threads)

    def scores(self, sums: Floats, *, with_covariances: bool = False) -> WeightedScores:
        """The scores of sums (K, B, B) of residuals over pairs of blocks."""

        def of_angle(k: int) -> tuple[Floats, Floats, Floats]:
            model = self.model.at(k)
            columns = model.columns(float(self.contrast[k]), self.searched)
            weights = self._weights(model, columns)
            score = np.einsum("aij,ij->a", weights, sums[k])
            both = np.concatenate([weights, columns])
            covariance = np.full((len(both),) * 2, np.nan)
            if with_covariances:
                covariance = self._covariance(model, both)
            return score, self._products(k, weights, columns), covariance

        with ThreadPoolExecutor(self.threads or available_processors()) as pool:
            found = list(pool.map(of_angle, range(len(sums))))
        return WeightedScores(*map(np.stack, zip(*found, strict=True)))

    def _beta(self, k: int) -> float:
        return float(speckle_contrast(self.contrast[k : k + 1], self.offset[k : k + 1])[0])

    def _weights(self, model: ModelOfAngle, columns: Floats) -> Floats:
        k, f = model.angle, model.decay.copy()
        single = self.model.blocks.sizes == 1
        f[single, single] = 1.0
        beta = self._beta(k) * np.sqrt(self.noise.coherence)
        # A frame of which points are missing has photons like any other.
        frames = np.ceil(self.model.blocks.frames_with_points(self.counts[k]) - ROUNDING)
        weights = weight_matrices(columns, f, frames, beta, 1 / self.noise.photons)
        return self.noise.pixels[k] * weights

    def _products(self, k: int, left: Floats, right: Floats) -> Floats:
        """Sums over the points of products of two columns, (a, b)."""
        return products_over_points(left, right, self.counts[k])

    def _covariance(self, model: ModelOfAngle, weights: Floats) -> Floats:
        """Covariance of sums of residuals with weights (c, B, B), the last but one being f."""
        k, (f, g) = model.angle, model.field()
        beta = self._beta(k)
        shot = self._products(k, weights * (1 + beta * weights[-2]), weights)
        # The matrices are computed in units in which they are of order one.
        units = np.sqrt(np.where(np.diag(shot) > 0, np.diag(shot), 1.0))
        w = weights * (self.counts[k] / units[:, None, None])
        scaled = shot / np.outer(units, units)
        # Weights change from block to block, so that nothing can be told from blocks twice as long.
        frames = self.model.blocks.frames_with_points(self.counts[k])
        of_powers = score_covariances(w, f, g, frames, beta, scaled, extrapolated=False)
        return np.einsum("c,cab->ab", self.noise.powers[:, k], of_powers) * np.outer(units, units)
