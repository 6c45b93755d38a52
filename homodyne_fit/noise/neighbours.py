r"""Products of neighbouring residuals: what they sum to, and what the noise makes them expect.

For the cells (i, i + 1) × (j, j + 1) with j ≥ i + 2 and four points in the data, the sums

.. math:: o_{00} = \sum r_{ij}^2, \quad o_{01} = \sum r_{ij} (r_{i,j+1} + r_{i+1,j}), \quad
    o_{11} = \sum r_{ij} r_{i+1,j+1}, \quad
    o_\Delta = \sum (r_{ij} - r_{i,j+1} - r_{i+1,j} + r_{i+1,j+1})^2.

Points without a common frame share the noise of the speckles alone, points with one also that of
the photons in it, so these tell the two apart; the mixed difference removes everything smooth. The
covariance of the points (i, j) and (k, l), for N = 1 and photons κ = 1/x in a pixel and frame, is
:math:`C_0 + x C_1 + x^2 (1 + \beta f)`, where C1 needs a common frame and the last term a common
point; see `homodyne_fit.noise.speckle`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.kernel.stored_chunks import Chunk
from homodyne_fit.noise.blocks import Blocks, field_and_decay
from nlsq_stratified.objectives.portable import Portable

__all__ = ["NeighbourSums", "Neighbours", "PresentPairs", "speckle_covariance"]

Floats = NDArray[np.float64]

# Columns of `NeighbourSums.chunk_sums`: cells, four observed sums, and what to expect of them.
CELLS, OBSERVED, SPECKLE, MIXED, SHOT = 0, slice(1, 5), slice(5, 9), slice(9, 12), slice(12, 14)
COLUMNS = 14


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Observed sums of K angles, and those expected of one pixel.

    Columns are o00, o01 (with o10), o11 and oΔ.

    Attributes
    ----------
    cells : (K,) array
    observed : (K, 4) array
    expected : (3, K, 4) array
        Coefficients of 1, x and x².
    """

    cells: Floats
    observed: Floats
    expected: Floats

    @classmethod
    def of(cls, sums: Floats) -> Neighbours:
        """From what `NeighbourSums` summed, (K, COLUMNS)."""
        none = np.zeros(len(sums))
        mixed, shot = sums[:, MIXED].T, sums[:, SHOT].T
        expected = [
            sums[:, SPECKLE],
            np.stack([mixed[0], mixed[1], none, mixed[2]], axis=1),
            np.stack([shot[0], none, none, shot[1]], axis=1),
        ]
        return cls(sums[:, CELLS], sums[:, OBSERVED], np.stack(expected))


@dataclass(frozen=True, eq=False)
class NeighbourSums(Portable):
    """The sums of products of residuals, as sums over chunks.

    Attributes
    ----------
    objective : TwoTimeObjective
    contrast, offset : (K,) array
    """

    objective: TwoTimeObjective
    contrast: Floats
    offset: Floats

    def chunk_sums(self, params: Floats, chunk: Chunk) -> Floats:
        """Sums (K, COLUMNS) over the cells inside the tiles of a chunk."""
        objective, tiles = self.objective, chunk.loaded()
        full = objective.complete(params)
        curves, factors = objective.curves(full), objective.angle_factors(full)
        last = len(curves.transport) - 1
        total = np.zeros((tiles.n_angles, COLUMNS))
        for tile, rows, cols in zip(tiles.values, tiles.rows, tiles.cols, strict=True):
            i, j = np.minimum(rows, last), np.minimum(cols, last)
            inside = (rows[:-1, None] + 2 <= cols[:-1]) & (np.diff(rows) == 1)[:, None]
            inside &= np.diff(cols) == 1
            s, gamma = curves.transport, curves.shear
            rise, turn = np.abs(s[j] - s[i][:, None]), np.abs(gamma[j] - gamma[i][:, None])
            for k, c2 in enumerate(tile):
                a, b = factors.transport[k], factors.shear[k]
                g, f, _ = field_and_decay(a * rise, b * turn, objective.sinc_power)
                next_row, next_col = (
                    field_and_decay(
                        a * np.diff(s[at]), b * np.diff(gamma[at]), objective.sinc_power
                    )[0]
                    for at in (i, j)
                )
                residual = c2 - self.offset[k] - self.contrast[k] * f
                beta = speckle_contrast(self.contrast[k], self.offset[k])
                total[k] += _cell_sums(residual, g, next_row, next_col, beta, inside)
        return total


def speckle_contrast(contrast: float, offset: float) -> float:
    """β of a matrix of which the baseline is `offset`."""
    return max(0.0, contrast / offset) if offset > 0 else 0.0


def _cell_sums(
    r: Floats,
    g: Floats,
    next_row: Floats,
    next_col: Floats,
    beta: float,
    inside: NDArray[np.bool_],
) -> Floats:
    """The sums of a tile, (COLUMNS,).

    Parameters
    ----------
    r, g : (T, T) array
        Residuals, NaN where there is no point, and the field's correlation.
    next_row, next_col : (T - 1,) array
        g of successive frames.
    beta : float
    inside : (T - 1, T - 1) bool
        Cells of successive frames that are not at the diagonal.
    """
    corners = r[:-1, :-1], r[:-1, 1:], r[1:, :-1], r[1:, 1:]
    mixed = corners[0] - corners[1] - corners[2] + corners[3]
    counted = np.isfinite(mixed) & inside
    r00, r01, r10, r11 = (np.where(counted, corner, 0.0) for corner in corners)
    mixed = np.where(counted, mixed, 0.0)

    g00, g01, g10, g11 = g[:-1, :-1], g[:-1, 1:], g[1:, :-1], g[1:, 1:]
    row, col = np.broadcast_arrays(next_row[:, None], next_col)
    weight = counted.astype(np.float64)

    def total(values: Floats) -> float:
        return float(np.vdot(weight, values))

    one = np.ones_like(weight)
    c00 = total(speckle_covariance(beta, g00, g00, one, one, g00, g00))
    c01 = total(speckle_covariance(beta, g00, g01, one, col, g01, g00))
    c10 = total(speckle_covariance(beta, g00, g10, row, one, g00, g10))
    c11 = total(speckle_covariance(beta, g00, g11, row, col, g01, g10))
    c1m = total(speckle_covariance(beta, g01, g10, row, col, g00, g11))
    m00 = 2 * total(_shared_frame(beta, g00, g00, one))
    m01 = total(_shared_frame(beta, g00, g01, col)) + total(_shared_frame(beta, g00, g10, row))
    shot = total(1 + beta * g00**2)
    return np.array(
        [
            weight.sum(),
            np.vdot(r00, r00),
            np.vdot(r00, r01 + r10),
            np.vdot(r00, r11),
            np.vdot(mixed, mixed),
            c00,
            c01 + c10,
            c11,
            4 * c00 - 4 * (c01 + c10) + 2 * (c11 + c1m),
            m00,
            m01,
            4 * m00 - 4 * m01,
            shot,
            4 * shot,
        ]
    )


def speckle_covariance(
    beta: float, ij: Floats, kl: Floats, ik: Floats, jl: Floats, il: Floats, jk: Floats
) -> Floats:
    """C0: the covariance of c2 at (i, j) and (k, l) by the speckles, from g of the six pairs."""
    a, x, y = ij * kl, ik * jl, il * jk
    first = x * x + y * y
    second = 2 * (a * (x + y) + x * y) - 2 * a * (
        kl * (jk * ik + jl * il) + ij * (il * ik + jl * jk)
    )
    second += a * a * (ik * ik + il * il + jk * jk + jl * jl)
    return beta**2 * first + beta**3 * second


def _shared_frame(beta: float, sj: Floats, sl: Floats, jl: Floats) -> Floats:
    """C1: the covariance of c2 at (s, j) and (s, l) by speckles and photons together."""
    return beta * jl**2 + beta**2 * (2 * sj * jl * sl - sj**2 * sl**2)


@dataclass(frozen=True, eq=False)
class PresentPairs(Portable):
    """How many points lie in each pair of blocks, as sums over chunks.

    Attributes
    ----------
    blocks : Blocks
    """

    blocks: Blocks

    def chunk_sums(self, params: Floats, chunk: Chunk) -> Floats:
        """Points (K, B, B) of a chunk, each in both orders."""
        del params
        tiles, starts = chunk.loaded(), self.blocks.starts
        counts = np.zeros((tiles.n_angles, len(starts), len(starts)))
        for tile, rows, cols in zip(tiles.values, tiles.rows, tiles.cols, strict=True):
            (row_blocks, first_rows), (col_blocks, first_cols) = (
                np.unique(np.searchsorted(starts, at, side="right") - 1, return_index=True)
                for at in (rows, cols)
            )
            present = np.isfinite(tile).astype(np.float64)
            sums = np.add.reduceat(np.add.reduceat(present, first_cols, axis=2), first_rows, axis=1)
            counts[:, row_blocks[:, None], col_blocks] += sums
        return counts + counts.transpose(0, 2, 1)
