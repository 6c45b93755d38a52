"""Covariance of the score of each angle at given parameters, contrast and offset."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.noise.blocks import Blocks, cut_blocks, field_on_blocks, score_columns
from homodyne_fit.noise.neighbours import speckle_contrast
from homodyne_fit.noise.speckle import score_covariances

__all__ = ["blocks_of", "score_covariances_of_angles"]

Floats = NDArray[np.float64]


def blocks_of(objective: TwoTimeObjective, params: Floats) -> Blocks:
    """Blocks of frames that are short for every angle, at the searched parameters."""
    full = objective.complete(params)
    return cut_blocks(objective.curves(full), objective.angle_factors(full))


def score_covariances_of_angles(
    objective: TwoTimeObjective,
    params: Floats,
    scaling: Floats,
    local: Floats,
    blocks: Blocks,
    present: Floats | None = None,
    threads: int | None = None,
) -> Floats:
    """V0, V1 and V2 of each angle in the searched parameters, contrast and offset.

    Parameters
    ----------
    objective : TwoTimeObjective
    params : (p,) array
        Searched parameters.
    scaling : (2K,) array
        Contrasts, then offsets.
    local : (K, p + 2, p + 2) array
        Sums of products of two derivatives over the points of each angle.
    blocks : Blocks
    present : (K, B, B) array, optional
        Points in each pair of blocks, in both orders; all of them when None.
    threads : int, optional
        One for each processor when None.

    Returns
    -------
    (3, K, p + 2, p + 2) array
    """
    full = objective.complete(params)
    curves, factors = objective.curves(full), objective.angle_factors(full)
    contrasts, offsets = scaling.reshape(2, -1)

    def of_angle(k: int) -> Floats:
        counts = blocks.pairs if present is None else present[k]
        angle = curves, factors, k, objective.sinc_power
        f, g = field_on_blocks(*angle, blocks)
        columns = score_columns(*angle, float(contrasts[k]), objective.searched, blocks)
        beta = speckle_contrast(float(contrasts[k]), float(offsets[k]))
        weighted = (columns * (counts * columns[-2] / 2)).reshape(len(columns), -1)
        shot = local[k] + beta * weighted @ columns.reshape(len(columns), -1).T
        # The matrices are computed in units in which they are of order one.
        units = np.sqrt(np.where(np.diag(shot) > 0, np.diag(shot), 1.0))
        w = columns * (counts / units[:, None, None])
        products = shot / np.outer(units, units)
        frames = _frames(blocks, counts)
        return score_covariances(w, f, g, frames, beta, products) * np.outer(units, units)

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        return np.stack(list(pool.map(of_angle, range(len(local)))), axis=1)


def _frames(blocks: Blocks, counts: Floats) -> Floats:
    """Frames of each block (B,) that have points.

    Frames of a number n' make n' (n' - 1) ordered pairs, and a block of m' takes part in
    m' (n' - 1) of them.
    """
    of_blocks = counts.sum(axis=1)
    others = np.sqrt(0.25 + of_blocks.sum()) - 0.5
    return np.minimum(of_blocks / max(others, 1.0), blocks.sizes)
