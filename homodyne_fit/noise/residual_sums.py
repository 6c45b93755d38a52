"""Sums of residuals over pairs of blocks of frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.kernel.moments import AngleFactors
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.kernel.stored_chunks import Chunk
from homodyne_fit.noise.blocks import Blocks, group_sums
from homodyne_fit.noise.fields import fields_of_tile
from nlsq_stratified.objectives.portable import Portable

__all__ = ["ResidualSums"]

Floats = NDArray[np.float64]

# Angles whose tiles fit into the cache together.
TOGETHER = 8


@dataclass(frozen=True, eq=False)
class ResidualSums(Portable):
    """Residuals c2 − offset − contrast·f summed over pairs of blocks, as sums over chunks.

    Of pseudo-data, those made at the very parameters.

    Attributes
    ----------
    objective : TwoTimeObjective
    contrast, offset : (K,) array
    blocks : Blocks
    """

    objective: TwoTimeObjective
    contrast: Floats
    offset: Floats
    blocks: Blocks

    def chunk_sums(self, params: Floats, chunk: Chunk) -> Floats:
        """Sums of residuals, of points, and of their weights if they have any, (2 or 3, K, B, B).

        The earlier block is first. The residuals themselves are not weighted.
        """
        objective, tiles = self.objective, chunk.loaded()
        full = objective.complete(params)
        curves, factors = objective.curves(full), objective.angle_factors(full)
        starts = self.blocks.starts
        kinds = 2 if tiles.weights is None else 3
        total = np.zeros((kinds, tiles.n_angles, len(starts), len(starts)))
        angles = [slice(k, k + TOGETHER) for k in range(0, tiles.n_angles, TOGETHER)]
        for tile, weights, rows, cols in zip(
            tiles.values, tiles.weights_of_tiles, tiles.rows, tiles.cols, strict=True
        ):
            (row_blocks, first_rows), (col_blocks, first_cols) = (
                np.unique(np.searchsorted(starts, at, side="right") - 1, return_index=True)
                for at in (rows, cols)
            )
            sizes = [
                np.diff([*first, len(at)]) for first, at in ((first_rows, rows), (first_cols, cols))
            ]
            for group in angles:
                of_group = AngleFactors(*(each[group] for each in factors))
                g = fields_of_tile(curves, of_group, objective.sinc_power, rows, cols)
                g *= g
                g *= -self.contrast[group, None, None]
                g += tile[group]
                g -= self.offset[group, None, None]
                if objective.pseudo_data is not None:
                    of_points = None if weights is None else weights[group]
                    g = objective.pseudo_data.residuals(g, group, of_points).copy()
                present = np.isfinite(g)
                counts = np.outer(*sizes)
                if not np.all(present):
                    g[~present] = 0.0
                    counts = group_sums(present.astype(np.float64), first_rows, first_cols)
                sums = group_sums(g, first_rows, first_cols)
                at_blocks = group, row_blocks[:, None], col_blocks
                total[0][at_blocks] += sums
                total[1][at_blocks] += counts
                if weights is not None:
                    of_weights = group_sums(weights[group] * present, first_rows, first_cols)
                    total[2][at_blocks] += of_weights
        return total
