"""What a robust loss did: where points lost weight, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.search.robust import Robust
from homodyne_fit.fitting.search.samples import Sample
from homodyne_fit.fitting.search.solution import Solution
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.kernel.pseudo_data import loss_at
from homodyne_fit.noise.residual_sizes import WeightSums

__all__ = ["RobustLoss", "no_loss", "robust_cost", "robust_loss"]

Floats = NDArray[np.float64]

# Standard deviations that normal noise is integrated over, and nodes.
TAILS, NODES = 12.0, 4801

# Part of their weight that the points of a frame lose where it is an outlier as a whole.
MOST_LOST = 0.5


@dataclass(frozen=True, eq=False)
class RobustLoss:
    """A robust loss and the weights, between 0 and 1, that points have lost by it.

    Attributes
    ----------
    loss : str
    f_scale : float
        Where it begins to act, in standard deviations of the noise.
    noise : (K,) array
        That standard deviation at each angle, by the median size of the residuals.
    lost_by_angle : (K,) array
        Share of their weight that the points of an angle have lost.
    lost_by_frame : (n,) array
        The same of the points of a frame, of all angles; NaN where it has none.
    lost_by_normal : float
        What normal noise without outliers would lose.
    """

    loss: str
    f_scale: float
    noise: Floats
    lost_by_angle: Floats
    lost_by_frame: Floats
    lost_by_normal: float

    @property
    def lost_frames(self) -> NDArray[np.int64]:
        """Frames, counted from 1, of which the points have lost more than half of their weight."""
        with np.errstate(invalid="ignore"):
            return 1 + np.flatnonzero(self.lost_by_frame > MOST_LOST)

    def to_json(self) -> dict[str, Any]:
        """As in ``parameters.json``."""
        by_frame = self.lost_by_frame.tolist()
        return {
            "loss": self.loss,
            "f_scale": self.f_scale,
            "noise": self.noise.tolist(),
            "lost_by_angle": self.lost_by_angle.tolist(),
            "lost_by_frame": [None if np.isnan(each) else each for each in by_frame],
            "lost_by_normal": self.lost_by_normal,
            "lost_frames": self.lost_frames.tolist(),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> RobustLoss:
        """Back from `to_json`."""
        by_frame = [np.nan if each is None else each for each in stored["lost_by_frame"]]
        return cls(
            stored["loss"],
            stored["f_scale"],
            np.array(stored["noise"], dtype=np.float64),
            np.array(stored["lost_by_angle"], dtype=np.float64),
            np.array(by_frame, dtype=np.float64),
            stored["lost_by_normal"],
        )


def robust_loss(solution: Solution, sample: Sample, f_scale: float) -> tuple[RobustLoss, float]:
    """What the loss did at a solution on a sample, and the cost there."""
    pseudo_data = solution.objective.pseudo_data
    assert pseudo_data is not None
    loss, scale = pseudo_data.loss, pseudo_data.scale
    lost, points, costs = _sums(
        solution.objective, solution.result.x, solution.scaling, sample, loss, scale
    )
    with np.errstate(invalid="ignore"):
        by_frame = lost.sum(axis=0) / points.sum(axis=0)
    found = RobustLoss(
        loss,
        f_scale,
        scale / f_scale,
        lost.sum(axis=1) / points.sum(axis=1),
        by_frame,
        _lost_by_normal(loss, f_scale),
    )
    return found, 0.5 * float(costs.sum())


def no_loss(robust: Robust, n_angles: int, n_frames: int) -> RobustLoss:
    """Of data that agree with the model to rounding: nothing is lost."""
    angles, frames = np.zeros(n_angles), np.zeros(n_frames)
    normal = _lost_by_normal(robust.loss, robust.f_scale)
    return RobustLoss(robust.loss, robust.f_scale, angles, angles, frames, normal)


def robust_cost(
    objective: TwoTimeObjective,
    params: Floats,
    scaling: Floats,
    sample: Sample,
    found: RobustLoss,
) -> float:
    """The cost at other parameters, contrasts and then offsets (2K,)."""
    scale = found.f_scale * found.noise
    costs = _sums(objective, params, scaling, sample, found.loss, scale)[2]
    return 0.5 * float(costs.sum())


def _sums(
    objective: TwoTimeObjective,
    params: Floats,
    scaling: Floats,
    sample: Sample,
    loss: str,
    scale: Floats,
) -> Floats:
    contrast, offset = scaling.reshape(2, -1)
    return sample.reduce(WeightSums(objective, contrast, offset, loss, scale), params)


def _lost_by_normal(loss: str, f_scale: float) -> float:
    at, step = np.linspace(-TAILS, TAILS, NODES, retstep=True)
    _, weights, _ = loss_at(loss, at / f_scale)
    return float(np.sum((1 - weights) * np.exp(-(at**2) / 2)) * step / np.sqrt(2 * np.pi))
