r"""Differences of residuals, and what the noise makes them expect.

For cells (i, i + m) × (j, j + m) with j > i + m and residuals :math:`r_{00}, r_{01}, r_{10},
r_{11}` at their corners, the sums

.. math:: o_\Delta = \sum (r_{00} - r_{01} - r_{10} + r_{11})^2, \qquad
    o_\parallel = \sum (r_{01} - r_{00})^2 + (r_{10} - r_{00})^2

have expectations e = (ρ S + x M + x² P)/N, with the coefficients S of speckles, P of photons, and M
of both that are in `homodyne_fit.noise.point_covariance`; x = 1/κ. The same holds for means of
residuals over pairs of blocks of m frames in place of residuals at pairs of frames, with averages
of f and g over blocks, where two of the points share a frame with a probability of 1/m.

Where a model does not describe the data, residuals are a smooth function of the two times, as is
what a fit absorbs of the noise. Of a structure of length T a mixed difference over s leaves the
share (s/T)², so that neither inflates the noise found here, as both do with sums of squares.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.kernel.moments import AngleFactors
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.kernel.stored_chunks import Chunk
from homodyne_fit.model.rates import Curves
from homodyne_fit.noise.fields import field_and_decay, fields_of_tile
from homodyne_fit.noise.point_covariance import (
    shared_frame,
    speckle_contrast,
    speckle_covariance,
)
from nlsq_stratified.objectives.portable import Portable

__all__ = [
    "MIXED",
    "SIDES",
    "DifferenceSums",
    "Differences",
    "differences_of_blocks",
]

Floats = NDArray[np.float64]
Pair = tuple[Floats, Floats]

# Expectations are computed for cells that begin at one row in so many, and one column.
SPARSE = 5

# Columns of the sums: cells, o‖ and oΔ, and S, M and P of each.
COLUMNS = 9
SIDES, MIXED = range(2)

# Where an axis is added to values of rows, and of columns.
AXES = (slice(None), None), (None, slice(None))


@dataclass(frozen=True, eq=False)
class Differences:
    """Sums over cells of K angles.

    Attributes
    ----------
    cells : (K,) array
    observed : (K, 2) array
        o‖ and oΔ.
    expected : (3, K, 2) array
        S, M and P of each.
    """

    cells: Floats
    observed: Floats
    expected: Floats

    @classmethod
    def of(cls, sums: Floats) -> Differences:
        """From sums (K, COLUMNS)."""
        return cls(sums[:, 0], sums[:, 1:3], sums[:, 3:].reshape(len(sums), 3, 2).swapaxes(0, 1))


@dataclass(frozen=True, eq=False)
class DifferenceSums(Portable):
    """The sums over cells of frames, as sums over chunks.

    Of pseudo-data, those made at the very parameters.

    Attributes
    ----------
    objective : TwoTimeObjective
    contrast, offset : (K,) array
    steps : tuple of int
        Sizes m of cells.
    """

    objective: TwoTimeObjective
    contrast: Floats
    offset: Floats
    steps: tuple[int, ...]

    def chunk_sums(self, params: Floats, chunk: Chunk) -> Floats:
        """Sums (steps, K, COLUMNS) over the cells inside the tiles of a chunk."""
        objective, tiles = self.objective, chunk.loaded()
        full = objective.complete(params)
        curves, factors = objective.curves(full), objective.angle_factors(full)
        total = np.zeros((len(self.steps), tiles.n_angles, COLUMNS))
        contrast, offset = self.contrast[:, None, None], self.offset[:, None, None]
        beta = speckle_contrast(contrast, offset)
        for tile, weights, rows, cols in zip(
            tiles.values, tiles.weights_of_tiles, tiles.rows, tiles.cols, strict=True
        ):
            g = fields_of_tile(curves, factors, objective.sinc_power, rows, cols)
            residual = tile - offset - contrast * g**2
            if objective.pseudo_data is not None:
                residual = objective.pseudo_data.residuals(residual, weights=weights)
            for sums, m in zip(total, self.steps, strict=True):
                inside = (rows[:-m] + m == rows[m:])[:, None] & (cols[:-m] + m == cols[m:])
                inside &= rows[m:, None] < cols[:-m]
                next_row, next_col = (
                    _ahead(curves, factors, objective.sinc_power, at, m) for at in (rows, cols)
                )
                sums += _cell_sums(residual, g, next_row, next_col, beta, inside)
        return total


def _ahead(
    curves: Curves, factors: AngleFactors, sinc_power: int, frames: NDArray[np.int64], step: int
) -> Floats:
    """g of K angles between frames (T,) of which each follows another by a step, (K, T - step)."""
    at = np.minimum(frames, len(curves.transport) - 1)
    rise, turn = (each[at[step:]] - each[at[:-step]] for each in (curves.transport, curves.shear))
    phase = factors.shear[:, None] * turn
    return field_and_decay(factors.transport[:, None] * rise, phase, sinc_power)[0]


def _corners(matrices: NDArray, step: int = 1) -> list[NDArray]:
    """00, 01, 10 and 11 of the cells of rows and columns that are a step apart."""
    ends = slice(None, -step), slice(step, None)
    return [matrices[..., rows, cols] for rows, cols in product(ends, ends)]


def _observed(r: list[Floats], inside: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], list[Floats]]:
    """Which cells (K, R, C) count, and of each angle their number, o‖ and oΔ."""
    counted = np.isfinite(r[0] - r[1] - r[2] + r[3]) & inside
    r = [np.where(counted, corner, 0.0) for corner in r]
    sides = _sum((r[1] - r[0]) ** 2 + (r[2] - r[0]) ** 2)
    mixed = _sum((r[0] - r[1] - r[2] + r[3]) ** 2)
    return counted, [_sum(counted.astype(np.float64)), sides, mixed]


def _sum(values: Floats) -> Floats:
    """Of each angle."""
    return values.sum(axis=(-2, -1))


def _cell_sums(
    r: Floats,
    g: Floats,
    next_row: Floats,
    next_col: Floats,
    beta: Floats,
    inside: NDArray[np.bool_],
) -> Floats:
    """The sums of a tile, (K, COLUMNS).

    Parameters
    ----------
    r, g : (K, T, T) array
        Residuals, NaN where there is no point, and the field's correlation.
    next_row, next_col : (K, T - m) array
        g of frames that are m apart.
    beta : (K, 1, 1) array
    inside : (T - m, T - m) bool
        Cells that are not at the diagonal.
    """
    step = len(r[0]) - len(inside)
    counted, observed = _observed(_corners(r, step), inside)
    sparse = (..., slice(None, None, SPARSE), slice(None, None, SPARSE))
    weight = counted[sparse].astype(np.float64)
    weight *= (observed[0] / np.maximum(1.0, _sum(weight)))[:, None, None]
    corners = [corner[sparse] for corner in _corners(g, step)]
    one = np.ones_like(weight)
    row, col = next_row[:, ::SPARSE, None], next_col[:, None, ::SPARSE]
    expected = _expected(corners, (one, one), (one, one), row, col, beta)
    return np.stack([*observed, *(_sum(weight * each) for each in expected)], axis=-1)


def _expected(
    g: list[Floats],
    rows: Pair,
    cols: Pair,
    row: Floats,
    col: Floats,
    beta: Floats,
    shares: tuple[Pair, Pair] | None = None,
) -> list[Floats]:
    """S of o‖ and oΔ of each cell, then M, then P.

    Parameters
    ----------
    g : four arrays (a, b)
        At the corners.
    rows, cols : two arrays each
        g of the earlier and of the later row, or column, with itself: less than 1 of blocks.
    row, col : array
        g between the two rows, and between the two columns.
    beta : array
    shares : two pairs of arrays, optional
        1/m of the two rows and of the two columns; 1 where they are frames.
    """
    one = np.ones(1)
    row_share, col_share = shares or ((one, one), (one, one))
    # Corner n has row n // 2 and column n % 2.
    corners = [(n // 2, n % 2) for n in range(4)]
    between_rows = ((rows[0], row), (row, rows[1]))
    between_cols = ((cols[0], col), (col, cols[1]))

    def speckle(p: int, q: int) -> Floats:
        (a, b), (c, d) = corners[p], corners[q]
        ik, jl = between_rows[a][c], between_cols[b][d]
        return speckle_covariance(beta, g[p], g[q], ik, jl, g[2 * a + d], g[2 * c + b])

    def both(p: int, q: int) -> Floats:
        (a, b), (c, d) = corners[p], corners[q]
        ik, jl = between_rows[a][c], between_cols[b][d]
        total = np.zeros_like(g[0])
        if a == c:
            total = total + row_share[a] * shared_frame(beta, g[p], g[q], jl)
        if b == d:
            total = total + col_share[b] * shared_frame(beta, g[p], g[q], ik)
        return total

    def shot(p: int) -> Floats:
        a, b = corners[p]
        return row_share[a] * col_share[b] * (1 + beta * g[p] ** 2)

    result = []
    for part in (speckle, both):
        own = [part(n, n) for n in range(4)]
        sides = [part(p, q) for p, q in ((0, 1), (0, 2), (1, 3), (2, 3))]
        result.append(2 * own[0] + own[1] + own[2] - 2 * (sides[0] + sides[1]))
        result.append(sum(own) - 2 * sum(sides) + 2 * (part(0, 3) + part(1, 2)))
    shots = [shot(n) for n in range(4)]
    whole = sum(shots, np.zeros_like(g[0]))
    return [*result, 2 * shots[0] + shots[1] + shots[2], whole]


def differences_of_blocks(
    means: Floats, f: Floats, g: Floats, sizes: NDArray[np.int64], beta: Floats
) -> Differences:
    """The sums over cells of successive blocks.

    Parameters
    ----------
    means : (K, B, B) array
        Mean residuals of pairs of blocks, the earlier one first; NaN where there is no point.
    f, g : (K, B, B) array
        Averages over pairs of blocks.
    sizes : (B,) array
        Frames of each block.
    beta : (K,) array
        Contrast of the speckles.
    """
    order = np.arange(len(sizes) - 1)
    counted, observed = _observed(_corners(means), order[:, None] + 2 <= order)
    # The field of a block with itself, and with the next one: what they make of f.
    own, step = (np.sqrt(np.diagonal(f, n, 1, 2)) for n in (0, 1))
    expected = _expected(
        _corners(g),
        *_of_both(own),
        step[:, :, None],
        step[:, None, :],
        beta[:, None, None],
        _of_both(1.0 / sizes),
    )
    return Differences.of(
        np.stack([*observed, *(_sum(counted * each) for each in expected)], axis=-1)
    )


def _of_both(values: Floats) -> tuple[Pair, Pair]:
    """Values (..., B) of the two rows of each cell, and of its two columns."""
    first, second = values[..., :-1], values[..., 1:]
    rows, cols = ([one[(..., *axes)] for one in (first, second)] for axes in AXES)
    return (rows[0], rows[1]), (cols[0], cols[1])
