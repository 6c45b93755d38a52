"""How large residuals are: counts by size, and what a robust loss takes off their weights.

Residuals of points that have weights w are multiplied by √w.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.kernel.moments import AngleFactors
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.kernel.pseudo_data import loss_at
from homodyne_fit.kernel.stored_chunks import Chunk
from homodyne_fit.noise.fields import fields_of_tile
from nlsq_stratified.objectives.portable import Portable

__all__ = ["SIZES", "SizeCounts", "WeightSums"]

Floats = NDArray[np.float64]

# Sizes by which residuals are counted: steps of 0.5 %, from far below rounding on.
STEP = 0.005
LEAST, MOST = 1e-18, 1e12
SIZES = np.exp(np.arange(np.log(LEAST), np.log(MOST), STEP) + STEP / 2)

# Angles whose tiles fit into the cache together.
TOGETHER = 8


@dataclass(frozen=True, eq=False)
class SizeCounts(Portable):
    """Residuals c2 − offset − contrast·f counted by their size, as sums over chunks.

    Attributes
    ----------
    objective : TwoTimeObjective
    contrast, offset : (K,) array
    stride : int
        One row in so many of each tile is counted, and one column.
    """

    objective: TwoTimeObjective
    contrast: Floats
    offset: Floats
    stride: int = 1

    def chunk_sums(self, params: Floats, chunk: Chunk) -> Floats:
        """Residuals of each angle near each of `SIZES`, (K, S)."""
        total = np.zeros((len(self.contrast), len(SIZES)))
        for angles, residual, _, _ in _residuals(self, params, chunk, self.stride):
            size = np.abs(residual)
            with np.errstate(divide="ignore"):
                at = (np.log(np.maximum(size, LEAST)) - np.log(LEAST)) / STEP
            at = np.clip(np.nan_to_num(at), 0, len(SIZES) - 1).astype(np.int64)
            present = np.isfinite(size)
            for k, of_angle in enumerate(at, start=angles.start):
                counted = of_angle[present[k - angles.start]]
                total[k] += np.bincount(counted, minlength=len(SIZES))
        return total


@dataclass(frozen=True, eq=False)
class WeightSums(Portable):
    """Weights that a robust loss takes off the points, as sums over chunks.

    Attributes
    ----------
    objective : TwoTimeObjective
    contrast, offset : (K,) array
    loss : str
    scale : (K,) array
    """

    objective: TwoTimeObjective
    contrast: Floats
    offset: Floats
    loss: str
    scale: Floats

    def chunk_sums(self, params: Floats, chunk: Chunk) -> Floats:
        """Lost weight, points and s²ρ of each angle and frame, (3, K, n); half for each frame."""
        total = np.zeros((3, len(self.contrast), self.objective.n_frames))
        for angles, residual, rows, cols in _residuals(self, params, chunk):
            scale = self.scale[angles, None, None]
            present = np.isfinite(residual)
            rho, weight, _ = loss_at(self.loss, np.where(present, residual, 0.0) / scale)
            for sums, of_points in zip(
                total, ((1 - weight) * present, present, scale**2 * rho), strict=True
            ):
                sums[angles, rows] += of_points.sum(axis=2) / 2
                sums[angles, cols] += of_points.sum(axis=1) / 2
        return total


def _residuals(
    sums: SizeCounts | WeightSums, params: Floats, chunk: Chunk, stride: int = 1
) -> Iterator[tuple[slice, Floats, NDArray[np.int64], NDArray[np.int64]]]:
    """Angles, residuals (k, R, C) that are NaN where there is no point, rows and columns."""
    objective, tiles = sums.objective, chunk.loaded()
    full = objective.complete(params)
    curves, factors = objective.curves(full), objective.angle_factors(full)
    n, strided = objective.n_frames, slice(None, None, stride)
    for tile, weights, rows, cols in zip(
        tiles.values, tiles.weights_of_tiles, tiles.rows, tiles.cols, strict=True
    ):
        rows, cols = (at[strided][at[strided] < n] for at in (rows, cols))
        at = (slice(None), *(slice(0, stride * len(each), stride) for each in (rows, cols)))
        values, roots = tile[at], None if weights is None else np.sqrt(weights[at])
        for k in range(0, tiles.n_angles, TOGETHER):
            group = slice(k, k + TOGETHER)
            of_group = AngleFactors(*(each[group] for each in factors))
            f = fields_of_tile(curves, of_group, objective.sinc_power, rows, cols) ** 2
            fit = sums.contrast[group, None, None] * f + sums.offset[group, None, None]
            residual = values[group] - fit
            yield group, residual if roots is None else residual * roots[group], rows, cols
