"""Pseudo-data of a robust loss at a solution; see `homodyne_fit.kernel.pseudo_data`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.options import SearchOptions
from homodyne_fit.fitting.search.other_minima import distance_between
from homodyne_fit.fitting.search.samples import Sample
from homodyne_fit.fitting.search.solution import Solution
from homodyne_fit.kernel.pseudo_data import PseudoData, loss_at
from homodyne_fit.kernel.tiles import TILE
from homodyne_fit.noise.residual_sizes import SIZES, SizeCounts

__all__ = ["Robust", "distance_moved"]

Floats = NDArray[np.float64]

# Median size of residuals of normal noise, in standard deviations.
NORMAL_MEDIAN = 0.6744897501960817

# Points of an angle that tell the median to one per cent.
ENOUGH_POINTS = 20_000


@dataclass(frozen=True)
class Robust:
    """A robust loss, and where it begins to act.

    Attributes
    ----------
    loss : str
    f_scale : float
        Standard deviations of the noise.
    """

    loss: str
    f_scale: float

    @classmethod
    def of(cls, options: SearchOptions) -> Robust | None:
        """None where least squares is asked for."""
        if not options.is_robust or options.f_scale is None:
            return None
        return cls(options.loss, options.f_scale)

    def pseudo_data(self, solution: Solution, sample: Sample) -> PseudoData | None:
        """Those at a solution; None where data and model agree to rounding.

        The noise of each angle is the median size of its residuals, as that of normal noise.
        """
        joint, objective, y = solution.joint, solution.objective, solution.result.x
        if joint.sum_of_squares <= joint.rounding or not joint.equations.finite:
            return None
        contrast, offset = solution.scaling.reshape(2, -1)
        counted = SizeCounts(objective, contrast, offset, _stride(sample, len(contrast)))
        counts = sample.reduce(counted, y)
        # More than half of the residuals may be rounding errors.
        least = np.sqrt(max(joint.rounding, np.finfo(float).tiny) / joint.equations.n_points)
        noise = np.maximum(_medians(counts) / NORMAL_MEDIAN, least)
        scale = self.f_scale * noise
        _, _, slopes = loss_at(self.loss, SIZES / scale[:, None])
        full = objective.complete(y)
        curves, factors = objective.curves(full), objective.angle_factors(full)
        return PseudoData(
            self.loss,
            scale,
            float(np.sum(counts) / np.sum(counts * slopes)),
            curves.transport,
            curves.shear,
            factors.shear,
            contrast,
            offset,
        )


def distance_moved(solution: Solution, other: Solution) -> float:
    """Distance of another solution in standard errors, contrast and offset of each included.

    As `homodyne_fit.fitting.search.other_minima.distance_between`, which lets these follow.
    """
    distance = distance_between(solution, other)
    if not 0 < distance < np.inf:
        return distance
    step = solution.space.to_coordinates(other.parameters) - solution.result.x
    joint, scaling = solution.joint, (other.scaling - solution.scaling).reshape(2, -1).T
    steps = np.hstack([np.broadcast_to(step, (len(scaling), len(step))), scaling])
    rise = np.einsum("k,ki,kij,kj->", joint.weights, steps, joint.local, steps)
    return float(np.sqrt(max(0.0, rise) / solution.variance))


def _stride(sample: Sample, n_angles: int) -> int:
    points = sample.tiles * TILE**2 / n_angles
    return int(np.clip(np.sqrt(points / ENOUGH_POINTS), 1, TILE // 8))


def _medians(counts: Floats) -> Floats:
    """Median size (K,) of counts (K, S), on a straight line within a step."""
    below = np.cumsum(counts, axis=1)
    half = below[:, -1] / 2
    found = np.empty(len(counts))
    for k, of_angle in enumerate(below):
        at = int(np.searchsorted(of_angle, half[k]))
        share = (half[k] - (of_angle[at] - counts[k, at])) / max(counts[k, at], 1.0)
        step = np.log(SIZES[1] / SIZES[0])
        found[k] = SIZES[at] * np.exp(step * (share - 0.5))
    return found
