"""Covariance of the score of each angle at given parameters, contrast and offset."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.noise.block_model import BlockModel, ModelOfAngle
from homodyne_fit.noise.blocks import Blocks, cut_blocks, group_sums
from homodyne_fit.noise.point_covariance import speckle_contrast
from homodyne_fit.noise.speckle import score_covariances
from nlsq_stratified.processors import available_processors

__all__ = [
    "block_model",
    "blocks_of",
    "joint_covariances_of_angles",
    "products_over_points",
    "score_covariances_of_angles",
]

Floats = NDArray[np.float64]


def blocks_of(objective: TwoTimeObjective, params: Floats) -> Blocks:
    """Blocks of frames that are short for every angle, at the searched parameters."""
    full = objective.complete(params)
    return cut_blocks(objective.curves(full), objective.angle_factors(full))


def block_model(
    objective: TwoTimeObjective, params: Floats, blocks: Blocks, joined: Blocks | None = None
) -> BlockModel:
    """The model of an objective on pairs of blocks, or of joined ones, at searched parameters."""
    full = objective.complete(params)
    curves, factors = objective.curves(full), objective.angle_factors(full)
    if joined is None:
        return BlockModel.of(curves, factors, objective.sinc_power, blocks)
    return BlockModel(curves, factors, objective.sinc_power, joined, blocks)


def score_covariances_of_angles(
    objective: TwoTimeObjective,
    params: Floats,
    scaling: Floats,
    local: Floats,
    blocks: Blocks,
    present: Floats | None = None,
    threads: int | None = None,
    weights: Floats | None = None,
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
    weights : (K, B, B) array, optional
        Mean weight of the points in each pair of blocks, the same in both orders; `local` is not
        needed then.

    Returns
    -------
    (3, K, p + 2, p + 2) array
    """
    scene = _Scene.of(objective, params, scaling, blocks, present)

    def of_angle(k: int) -> Floats:
        model = scene.model.at(k)
        columns = scene.columns(model)
        if weights is None:
            return scene.covariances(model, columns, local[k])
        weighted = columns * weights[k]
        return scene.covariances(model, weighted, scene.products(k, weighted, weighted))

    with ThreadPoolExecutor(threads or available_processors()) as pool:
        return np.stack(list(pool.map(of_angle, range(len(local)))), axis=1)


def joint_covariances_of_angles(
    objective: TwoTimeObjective,
    params: Floats,
    scaling: Floats,
    windows: Floats,
    blocks: Blocks,
    joined: Blocks,
    present: Floats,
    threads: int | None = None,
    weights: Floats | None = None,
    *,
    white: bool = False,
) -> tuple[Floats, Floats]:
    """V0, V1 and V2 of each angle in mean residuals over windows, and in the score of the fit.

    Parameters
    ----------
    objective, params, scaling
        As for `score_covariances_of_angles`.
    windows : (K, t, B, B) array
        Weights of the points in each pair of joined blocks, the same in both orders.
    blocks, joined : Blocks
        Short against the correlation time, and those made of them.
    present : (K, B, B) array
        Points in each pair of joined blocks, in both orders.
    threads : int, optional
        One for each processor when None.
    weights : (K, B, B) array, optional
        Mean weight of the points in each pair of joined blocks, in the score alone.
    white : bool
        Of independent points of the same variance, or of variances in inverse proportion to their
        weights: V2 without its factor 1 + βf, V0 and V1 zero.

    Returns
    -------
    covariances : (3, K, t + p + 2, t + p + 2) array
    slopes : (K, t, p + 2) array
        Derivatives of the windows' sums of the model by searched parameters, contrast and offset.
    """
    scene = _Scene.of(objective, params, scaling, blocks, present, joined)

    def of_angle(k: int) -> tuple[Floats, Floats]:
        model = scene.model.at(k)
        of_model = scene.columns(model)
        slopes = scene.products(k, windows[k], of_model)
        score = of_model if weights is None else of_model * weights[k]
        columns = np.concatenate([windows[k], score])
        if white:
            if weights is not None:
                columns = columns / np.sqrt(np.where(weights[k] > 0, weights[k], 1.0))
            products = scene.products(k, columns, columns)
            none = np.zeros_like(products)
            return np.stack([none, none, products]), slopes
        products = scene.products(k, columns, columns)
        return scene.covariances(model, columns, products), slopes

    with ThreadPoolExecutor(threads or available_processors()) as pool:
        found = list(pool.map(of_angle, range(len(windows))))
    return np.stack([v for v, _ in found], axis=1), np.stack([slopes for _, slopes in found])


@dataclass(frozen=True, eq=False)
class _Scene:
    """The model of all angles on blocks of frames; see `score_covariances_of_angles`."""

    model: BlockModel
    searched: NDArray[np.bool_]
    contrasts: Floats
    beta: Floats
    present: Floats | None

    @classmethod
    def of(
        cls,
        objective: TwoTimeObjective,
        params: Floats,
        scaling: Floats,
        blocks: Blocks,
        present: Floats | None,
        joined: Blocks | None = None,
    ) -> _Scene:
        contrasts, offsets = scaling.reshape(2, -1)
        model = block_model(objective, params, blocks, joined)
        beta = speckle_contrast(contrasts, offsets)
        return cls(model, objective.searched, contrasts, beta, present)

    def counts(self, k: int) -> Floats:
        """Points in each pair of blocks, in both orders, (B, B)."""
        return self.model.blocks.pairs if self.present is None else self.present[k]

    def columns(self, model: ModelOfAngle) -> Floats:
        """Derivatives (p + 2, B, B) of c2."""
        return model.columns(float(self.contrasts[model.angle]), self.searched)

    def products(self, k: int, left: Floats, right: Floats) -> Floats:
        """Sums over the points of products of two columns, (a, B, B) and (b, B, B): (a, b)."""
        return products_over_points(left, right, self.counts(k))

    def covariances(self, model: ModelOfAngle, columns: Floats, products: Floats) -> Floats:
        """V0, V1 and V2 (3, c, c) of columns (c, B, B), given their products over the points."""
        k = model.angle
        counts, beta = self.counts(k), float(self.beta[k])
        f, g = model.field()
        shot = products + beta * self._decayed_products(columns, model.decay, counts)
        # The matrices are computed in units in which they are of order one.
        units = np.sqrt(np.where(np.diag(shot) > 0, np.diag(shot), 1.0))
        w = columns * (counts / units[:, None, None])
        scaled = shot / np.outer(units, units)
        frames = self.model.blocks.frames_with_points(counts)
        return score_covariances(w, f, g, frames, beta, scaled) * np.outer(units, units)

    def _decayed_products(self, columns: Floats, decay: Floats, counts: Floats) -> Floats:
        """Sums over the points of f times products of two columns, (c, c).

        What the length of the blocks puts off is told by blocks twice as long.
        """
        on_blocks = products_over_points(columns * decay, columns, counts)
        pairs = np.arange(0, len(counts), 2)
        joined = group_sums(counts, pairs, pairs)
        columns, decay = (
            group_sums(values * counts, pairs, pairs) / np.maximum(joined, 1)
            for values in (columns, decay)
        )
        on_joined = products_over_points(columns * decay, columns, joined)
        return on_blocks + (on_blocks - on_joined) / 3


def products_over_points(left: Floats, right: Floats, counts: Floats) -> Floats:
    """Sums over the points of products of two columns, (a, B, B) and (b, B, B): (a, b).

    Given the points in each pair of blocks, in both orders, (B, B).
    """
    weighted = (left * (counts / 2)).reshape(len(left), -1)
    return weighted @ right.reshape(len(right), -1).T
