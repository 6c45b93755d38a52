"""Residuals at a solution: sums over pairs of blocks of frames, and differences of neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.search.samples import Sample, Samples
from homodyne_fit.fitting.search.solution import Solution
from homodyne_fit.kernel.tiles import TILE
from homodyne_fit.noise.blocks import Blocks, cut_blocks
from homodyne_fit.noise.differences import Differences, DifferenceSums, differences_of_blocks
from homodyne_fit.noise.point_covariance import speckle_contrast
from homodyne_fit.noise.residual_sums import ResidualSums
from homodyne_fit.noise.scores import block_model, blocks_of

__all__ = ["Residuals", "enough_points"]

Floats = NDArray[np.float64]

# Cells of an angle that tell N well enough: to one or two per cent.
ENOUGH_CELLS = 50_000

# Blocks between which speckles change: decay of f in one, in exponents, and how many at least.
LONG_DECAY, LONG_BLOCKS = 0.5, 12

# Share of the points of a pair of blocks from which on their mean is one over the blocks.
WHOLE = 0.8


@dataclass(frozen=True, eq=False)
class Residuals:
    """Sums of the residuals at a solution.

    Attributes
    ----------
    solution : Solution
    blocks : Blocks
        Of frames, short against the correlation time.
    sums, counts : (K, B, B) array
        Of residuals and of points, the earlier block first.
    weights : (K, B, B) array or None
        Of the points' weights; None where all points are alike.
    near, further : Differences
        Over one frame, and over two.
    """

    solution: Solution
    blocks: Blocks
    sums: Floats
    counts: Floats
    weights: Floats | None
    near: Differences
    further: Differences

    @classmethod
    def at(cls, solution: Solution, sample: Sample, few: Sample | None = None) -> Residuals | None:
        """Sum the residuals of a sample; for their differences, of few points where this is given.

        None where the data agree with the model to rounding, or the model is not finite.
        """
        joint = solution.joint
        if joint.sum_of_squares <= joint.rounding or not joint.equations.finite:
            return None
        objective, y = solution.objective, solution.result.x
        contrast, offset = solution.scaling.reshape(2, -1)
        blocks = blocks_of(objective, y)
        sums, counts, *weights = sample.reduce(ResidualSums(objective, contrast, offset, blocks), y)
        near, further = (few or sample).reduce(
            DifferenceSums(objective, contrast, offset, steps=(1, 2)), y
        )
        differences = (Differences.of(each) for each in (near, further))
        return cls(solution, blocks, sums, counts, weights[0] if weights else None, *differences)

    @property
    def points(self) -> Floats:
        """Points in each pair of blocks, in both orders, (K, B, B)."""
        return self.counts + self.counts.transpose(0, 2, 1)

    def mean_weights(self, blocks: Blocks) -> Floats | None:
        """Mean weight of the points in pairs of blocks made of the own ones, (K, B, B).

        None where all points are alike.
        """
        if self.weights is None:
            return None
        weights, counts = (blocks.sums_of(self.blocks, r) for r in (self.weights, self.counts))
        weights, counts = (each + each.transpose(0, 2, 1) for each in (weights, counts))
        return np.divide(weights, counts, out=np.zeros_like(weights), where=counts > 0)

    def far(self) -> Differences:
        """Differences between blocks so long that speckles change from one to the next."""
        objective, solution = self.solution.objective, self.solution
        full = objective.complete(solution.result.x)
        curves, factors = objective.curves(full), objective.angle_factors(full)
        decays = len(cut_blocks(curves, factors, LONG_DECAY, fewest=1).starts)
        blocks = self.blocks.joined(max(LONG_BLOCKS, decays))
        sums, counts = (blocks.sums_of(self.blocks, each) for each in (self.sums, self.counts))
        # Of a pair of blocks of which a sample has some of the points more noise is left.
        whole = counts >= WHOLE * np.where(np.eye(len(blocks.sizes)), 0.5, 1.0) * blocks.pairs
        means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=whole & (counts > 0))
        model = block_model(objective, solution.result.x, self.blocks, blocks)
        fields = [model.at(k).field() for k in range(len(means))]
        f, g = (np.stack(each) for each in zip(*fields, strict=True))
        beta = speckle_contrast(*solution.scaling.reshape(2, -1))
        return differences_of_blocks(means, f, g, blocks.sizes, beta)


def enough_points(samples: Samples, n_angles: int) -> Sample:
    """The smallest sample that tells the number of pixels of each angle; else all points."""
    enough = ENOUGH_CELLS * n_angles
    sizes = ((sample.tiles * TILE**2, sample) for sample in samples.growing)
    return next((sample for size, sample in sizes if size >= enough), samples.all_points)
