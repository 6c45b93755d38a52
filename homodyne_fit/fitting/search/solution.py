"""Where a search is, and where it ended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.kernel.elimination import JointEquations
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.model.coordinates import SearchSpace
from nlsq_stratified import NormalEquations, TrustRegionResult

__all__ = ["SearchPoint", "Solution"]


@dataclass(frozen=True, eq=False)
class SearchPoint:
    """A search space and its searched coordinates y (m,)."""

    space: SearchSpace
    y: NDArray[np.float64]

    @property
    def parameters(self) -> NDArray[np.float64]:
        """Parameters of the model (p,)."""
        return self.space.to_parameters(self.y)

    def without_held(self) -> SearchPoint:
        """The same parameters in the space that holds none of them at a limit."""
        space = self.space.base
        return SearchPoint(space, space.released(self.y, self.space))


@dataclass(frozen=True, eq=False)
class Solution:
    """Where a search ended, and the equations of physics and scaling there.

    Attributes
    ----------
    objective : TwoTimeObjective
        In the coordinates of `space`.
    space : SearchSpace
    result : TrustRegionResult
    sums : (K, m, m) array
        Where the objective was evaluated last: a trusted step before the end, if one was taken.
    joint : JointEquations
        From these, z moved along with that step.
    """

    objective: TwoTimeObjective
    space: SearchSpace
    result: TrustRegionResult
    sums: NDArray[np.float64]
    joint: JointEquations

    @property
    def point(self) -> SearchPoint:
        """Where it is."""
        return SearchPoint(self.space, self.result.x)

    @property
    def equations(self) -> NormalEquations:
        """Of physics and scaling together."""
        return self.joint.equations

    @property
    def parameters(self) -> NDArray[np.float64]:
        """Parameters of the model (p,)."""
        return self.point.parameters

    @property
    def scaling(self) -> NDArray[np.float64]:
        """Contrasts, then offsets (2K,)."""
        return self.joint.scaling.values(self.joint.z)

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which of the searched coordinates are not at a limit, (m,)."""
        return self.result.active == 0

    @property
    def variance(self) -> float:
        """Of the noise of a point."""
        return self.joint.noise_variance(self.free)

    @property
    def without_effect(self) -> bool:
        """Whether changing any searched coordinate by its own size changes χ² by less than 1."""
        p = self.joint.n_physics
        curvature = np.diag(self.joint.equations.hessian)[:p]
        effects = curvature * self.space.natural_scales(self.result.x) ** 2
        return bool(p) and bool(np.all(effects < max(self.variance, np.finfo(float).tiny)))

    def joint_equations_of(
        self, objective: TwoTimeObjective, z: NDArray[np.float64]
    ) -> JointEquations:
        """Equations of an objective with other scaling, here and at its z."""
        step = self.result.x - self.result.evaluated
        return objective.joint_equations(self.sums, z).after_step(step, follow=False)
