"""Do the angles share one contrast and one offset? A test that knows the noise of the points."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.special import chdtrc

from homodyne_fit.fitting.score_noise import (
    NoiseOfPoints,
    covariance_of_solution,
    newton_step,
)
from homodyne_fit.fitting.search.solution import Solution
from homodyne_fit.model.scaling import centering_matrix

__all__ = ["SharedPairTest", "shared_pair_test"]

# Standard deviations, relative to the largest, that are told from zero.
RESOLVED = 1e-10


@dataclass(frozen=True)
class SharedPairTest:
    """Wald test of one pair of contrast and offset for all angles.

    Attributes
    ----------
    statistic : float
        dᵀ Cov(d)⁻¹ d of the deviations d of the angles' own pairs from their means.
    degrees_of_freedom : int
    probability : float
        Of a larger statistic if the angles share a pair.
    """

    statistic: float
    degrees_of_freedom: int
    probability: float

    def to_json(self) -> dict[str, float]:
        """For the report of a layer."""
        return asdict(self)


def shared_pair_test(solution: Solution, noise: NoiseOfPoints) -> SharedPairTest:
    """Test one shared pair.

    Parameters
    ----------
    solution : Solution
        With a pair of each angle that nothing draws to the others, evaluated where they are now:
        their best values follow by a step.
    noise : NoiseOfPoints
    """
    joint = solution.joint
    p = joint.n_physics
    centred = np.kron(np.eye(2), centering_matrix(joint.scaling.n_angles))
    deviations = centred @ (joint.z + newton_step(solution)[p:])
    root = centred @ covariance_of_solution(solution, noise).root[p:]
    norms = np.linalg.norm(root, axis=1)
    units = np.where(norms > 0, norms, 1.0)
    # Contrast and offset of an angle may be known far worse than their sum.
    along, _, degrees, _ = np.linalg.lstsq(root / units[:, None], deviations / units, RESOLVED)
    statistic, degrees = float(along @ along), int(degrees)
    probability = float(chdtrc(degrees, statistic)) if degrees else 1.0
    return SharedPairTest(statistic, degrees, probability)
